/* task_form.h: module `srvlua.Task`: values as the tasks that wait in message queues (methods.md 9). */
#ifndef SV_LUA_TASK_FORM_H
#define SV_LUA_TASK_FORM_H

#include "lua/binding.h"

/* Pushes the module: pack, unpack. */
void sv_lua_push_task_module(lua_State *L, struct sv_lua *lua);

#endif
