/* table.h: the class `srvlua.Table` (runtime.md 3). runs in: made before start(), used in every process. */
#ifndef SV_LUA_TABLE_H
#define SV_LUA_TABLE_H

#include "lua/binding.h"

/* Makes what its objects need. Leaves the stack as it was. */
void sv_lua_table_open(lua_State *L, struct sv_lua *lua);
/* Pushes the class. */
void sv_lua_push_table_class(lua_State *L, struct sv_lua *lua);

#endif
