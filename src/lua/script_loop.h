/* script_loop.h: the loop of a process without a server: of srvlua.run(), and of a script that uses srvlua.Event.
 *
 *            run, Event.add, defer …        run, Event.wait             nothing left, Event.exit
 *   no loop ────────────────────────► made ──────────────────► turning ─────────────────────────► no loop
 *
 * While there is one, coroutines and timers work as in a worker. struct sv_lua.own_loop is it.
 *
 * runs in: processes without a running server. */
#ifndef SV_LUA_SCRIPT_LOOP_H
#define SV_LUA_SCRIPT_LOOP_H

#include "lua/binding.h"

/* srvlua.run(fn, ...) */
int sv_lua_run_script(lua_State *L);

/* Makes the loop if there is none. 0, or -code: 509 in a process of a running server, 501. */
int sv_lua_make_script_loop(struct sv_lua *lua);
/* Turns it until nothing is left or it is told to exit, and ends it. L: the thread that runs. 0, or -509: it turns already. */
int sv_lua_turn_script_loop(lua_State *L, struct sv_lua *lua);
/* Waits for the next event and handles what there is; 0, or -509 as above. Returns at once if nothing is left. */
int sv_lua_turn_script_loop_once(lua_State *L, struct sv_lua *lua);

/* A loop has nothing left: warns of coroutines that are suspended all the same (enable_deadlock_check), and abandons them.
 * `what` ends then, for the warning. */
void sv_lua_end_coroutines(struct sv_lua *lua, const char *what);

#endif
