/* lock.h: the class `srvlua.Lock` (runtime.md 5). runs in: made before start(), used in every process. */
#ifndef SV_LUA_LOCK_H
#define SV_LUA_LOCK_H

#include "lua/binding.h"

/* Makes what its objects need. Leaves the stack as it was. */
void sv_lua_lock_open(lua_State *L, struct sv_lua *lua);
/* Pushes the class. */
void sv_lua_push_lock_class(lua_State *L, struct sv_lua *lua);

#endif
