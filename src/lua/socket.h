/* socket.h: what getSocket() gives: options of a listening socket (methods.md 12).
 *
 * The object does not own the descriptor: it asks its port for it each time, and collecting it closes nothing.
 * runs in: every process, any time. */
#ifndef SV_LUA_SOCKET_H
#define SV_LUA_SOCKET_H

#include "lua/binding.h"

/* Makes the class. Leaves the stack as it was. */
void sv_lua_socket_open(lua_State *L, struct sv_lua *lua);
/* Pushes the object for a port's socket; the server's or port's object at `owner_index` stays alive with it. */
void sv_lua_push_socket(lua_State *L, int owner_index, srvlua_port *port);

#endif
