/* timer.h: timers and deferred functions (methods.md 5, events.md 12).
 *
 * The user's timers are those made here; a sleeping coroutine also has one, which no function here shows or clears.
 * runs in: every process that has a loop. */
#ifndef SV_LUA_TIMER_H
#define SV_LUA_TIMER_H

#include "lua/binding.h"

/* Pushes the functions of `srvlua.Timer` as a table. */
void sv_lua_push_timer_module(lua_State *L, struct sv_lua *lua);

/* Event.defer, server:defer: the function is at `argument`; the failure is told to the server's getLastError() too, if
 * `self` is one. */
int sv_lua_defer(lua_State *L, struct sv_lua *lua, struct sv_lua_server *self, int argument);

/* Methods of the server. */
int sv_lua_server_tick(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_after(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_clear_timer(lua_State *L, struct sv_lua_server *self);
int sv_lua_server_defer(lua_State *L, struct sv_lua_server *self);

#endif
