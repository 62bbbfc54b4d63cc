/* constants.h: the numbers in `srvlua` (events.md 14). */
#ifndef SV_LUA_CONSTANTS_H
#define SV_LUA_CONSTANTS_H

#include "lua/binding.h"

/* Pushes a table of all constants. */
void sv_lua_push_constants(lua_State *L);

#endif
