/* process.h: srvlua.Process (events.md 11): programs in processes of their own, and what a process may do to itself.
 *
 * runs in: every process. */
#ifndef SV_LUA_PROCESS_H
#define SV_LUA_PROCESS_H

#include "lua/binding.h"

/* Makes the metatables. Leaves the stack as it was. */
void sv_lua_process_open(lua_State *L, struct sv_lua *lua);
/* Pushes the class: called, it makes an object; its fields are the functions that need none. */
void sv_lua_push_process_class(lua_State *L, struct sv_lua *lua);

/* server:addProcess(process) -> position */
int sv_lua_server_add_process(lua_State *L, struct sv_lua_server *self);
/* Gives the processes that were added to the server at `index` the numbers that they have in it, once these are known. */
void sv_lua_number_processes(lua_State *L, int index, srvlua_server *server);
/* What the process that this one was forked from handles is not handled here (signal.c). */
void sv_lua_forget_signals(lua_State *L, struct sv_lua *lua);

#endif
