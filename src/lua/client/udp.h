/* udp.h: the datagram objects of srvlua.socket (runtime.md 6.4).
 *
 * runs in: every process. */
#ifndef SV_LUA_CLIENT_UDP_H
#define SV_LUA_CLIENT_UDP_H

#include "lua/client/client.h"

extern const struct sv_lua_kind sv_lua_udp_kind;

/* Makes the class; leaves the stack as it was. */
void sv_lua_udp_open(lua_State *L, struct sv_lua *lua);
/* Makes an object. */
void sv_lua_push_udp(lua_State *L, struct sv_client *client);

#endif
