/* server.h: the class `srvlua.Server` and the methods of its objects (methods.md).
 *
 * A server is a userdata with a metatable of its own whose __index is a table: methods, properties and the user's own
 * fields are found in it by one look-up. Properties cannot be assigned.
 * runs in: methods say so in the table at the end of server.c, which is the call matrix of methods.md 1.4. */
#ifndef SV_LUA_SERVER_H
#define SV_LUA_SERVER_H

#include "lua/binding.h"

/* Makes what the metatables of servers are made of. Leaves the stack as it was. */
void sv_lua_server_open(lua_State *L, struct sv_lua *lua);
/* Pushes the class: a table that makes a server when called. */
void sv_lua_push_server_class(lua_State *L, struct sv_lua *lua);
/* The function behind every method of the server: checks self and the process, then calls the row's method. */
int sv_lua_call_server_method(lua_State *L);

#endif
