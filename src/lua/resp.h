/* resp.h: what `srvlua.redis` (lua/srvlua/redis.lua) has in C: commands as they come from the reactor's framer are taken
 * apart and given to a Lua function (protocols.md 3).
 *
 * A redis server's ports with open_redis_protocol deliver commands here instead of to their `receive` callbacks.
 * runs in: before start(), and in workers. */
#ifndef SV_LUA_RESP_H
#define SV_LUA_RESP_H

#include "lua/binding.h"

/* Pushes the C part of the module: serve, failed, describe. */
void sv_lua_push_redis_module(lua_State *L, struct sv_lua *lua);

/* At the beginning of start(), the server is at index 1. Of a redis server the primary port speaks the protocol then, and
 * the commands of all ports that do come here. 0, or -code; may raise. */
int sv_lua_take_commands(lua_State *L, struct sv_lua_server *self, struct srvlua_status *status);
/* At the end of start(). */
void sv_lua_release_commands(lua_State *L, struct sv_lua_server *self);

#endif
