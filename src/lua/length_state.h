/* length_state.h: the ports' package_length_func, in a small Lua state of each reactor and port (settings.md 3.10;
 * reactor_state.h). */
#ifndef SV_LUA_LENGTH_STATE_H
#define SV_LUA_LENGTH_STATE_H

#include "lua/binding.h"

/* Before start() or check: tells the server who runs the functions that its ports have. */
void sv_lua_prepare_length_states(struct sv_lua_server *self);

#endif
