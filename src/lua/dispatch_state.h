/* dispatch_state.h: the program's dispatch_func, in a small Lua state of each reactor (settings.md 3.2; reactor_state.h). */
#ifndef SV_LUA_DISPATCH_STATE_H
#define SV_LUA_DISPATCH_STATE_H

#include "lua/binding.h"

/* Before start() or check: if dispatch_func was set, tells the server who runs it. Leaves on the stack what must stay there
 * until the server has returned. The server's object is at index 1. */
void sv_lua_prepare_dispatch_states(lua_State *L, struct sv_lua_server *self);

#endif
