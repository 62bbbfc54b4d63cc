/* system.h: small functions of `srvlua` about the process, the clocks and the log (runtime.md 9), and os.exit.
 *
 * runs in: any process, any time. */
#ifndef SV_LUA_SYSTEM_H
#define SV_LUA_SYSTEM_H

#include "lua/binding.h"

/* Puts the functions into the table on the top of the stack. */
void sv_lua_register_system(lua_State *L, struct sv_lua *lua);
/* Makes os.exit hand over, in a worker, what send() accepted, before it exits. */
void sv_lua_wrap_exit(lua_State *L, struct sv_lua *lua);

#endif
