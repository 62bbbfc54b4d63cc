/* compat.h: what lua/srvlua/compat/ needs of C: digests, base64, shutdown(2), and what this process is to the server.
 *
 * runs in: every process. Nothing here blocks. */
#ifndef SV_LUA_COMPAT_H
#define SV_LUA_COMPAT_H

#include "lua/binding.h"

/* Pushes the table core.compat. */
void sv_lua_push_compat_module(lua_State *L, struct sv_lua *lua);

#endif
