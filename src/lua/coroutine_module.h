/* coroutine_module.h: srvlua.go and srvlua.coroutine (runtime.md 1), and waiting as Channel and WaitGroup need it.
 *
 * runs in: every process; go: those with a loop that turns while coroutines wait. */
#ifndef SV_LUA_COROUTINE_MODULE_H
#define SV_LUA_COROUTINE_MODULE_H

#include "lua/binding.h"

/* srvlua.go(fn, ...) */
int sv_lua_go(lua_State *L);
/* Pushes a table: the functions of srvlua.coroutine, and ticket, park, unpark for the modules in Lua. */
void sv_lua_push_coroutine_module(lua_State *L, struct sv_lua *lua);

#endif
