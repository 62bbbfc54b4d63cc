/* event.h: srvlua.Event (events.md 13): descriptors that the program watches and writes to, functions at the end of the
 * loop's turn.
 *
 * runs in: every process with a loop; a script without a server gets one with the first thing it adds
 * (script_loop.h). */
#ifndef SV_LUA_EVENT_H
#define SV_LUA_EVENT_H

#include "lua/binding.h"

/* Pushes the table of the module. */
void sv_lua_push_event_module(lua_State *L, struct sv_lua *lua);
/* The loop has ended, or belongs to the parent: what was watched is forgotten. */
void sv_lua_forget_events(struct sv_lua *lua);

#endif
