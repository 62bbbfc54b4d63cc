/* connection_methods.h: the methods of the server that act on connections and send (methods.md 6 and 7). Each checks its
 * arguments, calls one function of srvlua.h and pushes the result.
 * runs in: the processes that the table at the end of server.c names. Only send suspends, in coroutines. */
#ifndef SV_LUA_CONNECTION_METHODS_H
#define SV_LUA_CONNECTION_METHODS_H

#include "lua/binding.h"

/* server:close(fd [, reset = false]) -> true */
int sv_lua_server_close(lua_State *L, struct sv_lua_server *self);
/* server:exist(fd) -> boolean */
int sv_lua_server_exist(lua_State *L, struct sv_lua_server *self);
/* server:pause(fd) -> true */
int sv_lua_server_pause(lua_State *L, struct sv_lua_server *self);
/* server:resume(fd) -> true */
int sv_lua_server_resume(lua_State *L, struct sv_lua_server *self);
/* server:confirm(fd) -> true */
int sv_lua_server_confirm(lua_State *L, struct sv_lua_server *self);
/* server:protect(fd [, is_protected = true]) -> true */
int sv_lua_server_protect(lua_State *L, struct sv_lua_server *self);
/* server:bind(fd, uid) -> true */
int sv_lua_server_bind(lua_State *L, struct sv_lua_server *self);
/* server:heartbeat([close_them = true]) -> ids */
int sv_lua_server_heartbeat(lua_State *L, struct sv_lua_server *self);
/* server:getClientInfo(fd [, reactor_id [, ignore_error = false]]) -> table */
int sv_lua_server_get_client_info(lua_State *L, struct sv_lua_server *self);
/* server:getClientList([start_fd = 0 [, page_size = 10]]) -> ids */
int sv_lua_server_get_client_list(lua_State *L, struct sv_lua_server *self);
/* server:send(fd, data) or server:send(path, data [, server_socket = -1]) -> true */
int sv_lua_server_send(lua_State *L, struct sv_lua_server *self);
/* server:sendfile(fd, filename [, offset = 0 [, length = 0]]) -> true */
int sv_lua_server_sendfile(lua_State *L, struct sv_lua_server *self);
/* server:sendto(ip, port, data [, server_socket = -1]) -> true */
int sv_lua_server_sendto(lua_State *L, struct sv_lua_server *self);
/* server:sendwait(fd, data) -> true */
int sv_lua_server_sendwait(lua_State *L, struct sv_lua_server *self);

#endif
