/* task.h: tasks, their results and messages, as Lua sees them (methods.md 8, 9; events.md 5, 8).
 *
 * runs in: event workers, task workers; task and sendMessage in every process of the server. */
#ifndef SV_LUA_TASK_H
#define SV_LUA_TASK_H

#include "lua/binding.h"

/* Makes what the functions here need. Leaves the stack as it was. */
void sv_lua_task_open(lua_State *L, struct sv_lua *lua);

/* Methods of the server. */
int sv_lua_server_task(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_taskwait(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_task_wait_multi(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_task_co(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_finish(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_send_message(lua_State *L, struct sv_lua_server *self);

/* Pushes what runs a task: a function that calls the callback `ref` and finishes the task with what that returns, and its
 * arguments. The task's data are at index `value`. Returns how many values that are. runs in: task worker. */
int sv_lua_push_task(lua_State *L, const struct sv_lua *lua, int ref, const struct srvlua_event_data *data, int value);

#endif
