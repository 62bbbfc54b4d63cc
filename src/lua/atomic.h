/* atomic.h: the class `srvlua.Atomic` (runtime.md 4). runs in: made before start(), used in every process. */
#ifndef SV_LUA_ATOMIC_H
#define SV_LUA_ATOMIC_H

#include "lua/binding.h"

/* Makes what its objects need. Leaves the stack as it was. */
void sv_lua_atomic_open(lua_State *L, struct sv_lua *lua);
/* Pushes the class. */
void sv_lua_push_atomic_class(lua_State *L, struct sv_lua *lua);

#endif
