/* port.h: the objects in `server.ports` (events.md 10).
 *
 * runs in: every process; `set` and `on` before start. */
#ifndef SV_LUA_PORT_H
#define SV_LUA_PORT_H

#include "lua/binding.h"

/* Makes the class. Leaves the stack as it was. */
void sv_lua_port_open(lua_State *L, struct sv_lua *lua);
/* Pushes a new object for a port of the server whose object is at `server_index`. The server must keep it. */
struct sv_lua_port *sv_lua_push_port(lua_State *L, int server_index, srvlua_port *port);

#endif
