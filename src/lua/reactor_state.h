/* reactor_state.h: small Lua states that run the program's dispatch_func in the reactors (settings.md 3.2, 3.3).
 *
 * Each reactor has one of its own, with a few libraries, a stand-in for the server and nothing of the program but the
 * function's bytecode. runs in: making and freeing: start(); the rest: the thread of the reactor. */
#ifndef SV_LUA_REACTOR_STATE_H
#define SV_LUA_REACTOR_STATE_H

#include "lua/binding.h"

/* Before start() or check: if dispatch_func was set, tells the server who runs it. Leaves on the stack what must stay there
 * until the server has returned. The server's object is at index 1. */
void sv_lua_prepare_reactor_states(lua_State *L, struct sv_lua_server *self);

#endif
