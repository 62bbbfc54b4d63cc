/* connections.h: `server.connections` and `port.connections`, and what tells about connections (events.md 9, methods.md 6).
 *
 * runs in: every process of a running server. */
#ifndef SV_LUA_CONNECTIONS_H
#define SV_LUA_CONNECTIONS_H

#include "lua/binding.h"

/* Makes the class. Leaves the stack as it was. */
void sv_lua_connections_open(lua_State *L, struct sv_lua *lua);
/* Pushes the object for a server's connections, or (port not NULL) for those of one port; the object of the server or port
 * at `owner_index` stays alive with it. */
void sv_lua_push_connections(lua_State *L, int owner_index, struct sv_lua_server *server, srvlua_port *port);
/* Pushes the table of getClientInfo. */
void sv_lua_push_client_info(lua_State *L, const struct srvlua_client_info *info);
/* Pushes a sequence of session ids. */
void sv_lua_push_ids(lua_State *L, const int64_t *ids, size_t count);

#endif
