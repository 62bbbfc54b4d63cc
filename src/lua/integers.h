/* integers.h: signed 64-bit integers between C and Lua: a number where that is exact, else LuaJIT's int64_t.
 *
 * runs in: every process. */
#ifndef SV_LUA_INTEGERS_H
#define SV_LUA_INTEGERS_H

#include "lua/binding.h"

/* A number up to 2^53 either way, beyond that an int64_t. */
void sv_lua_push_int64(lua_State *L, int64_t value);
/* An integral number or an int64_t at `index`; false if it is something else, or out of range. */
bool sv_lua_to_int64(lua_State *L, int index, int64_t *value);
/* The same for an argument; raises. */
int64_t sv_lua_check_int64(lua_State *L, int argument);
int64_t sv_lua_optional_int64(lua_State *L, int argument, int64_t value);

#endif
