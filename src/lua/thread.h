/* thread.h: coroutines of the program's own inside ours: coroutine.resume, wrap and status.
 *
 * They are replaced by functions that do the same and keep the chain of what runs. So a function of ours that
 * suspends in such a coroutine suspends the whole chain up to our coroutine, and who resumed it does not notice:
 *
 *   callback ──resume──► program's ──resume──► program's ──► srvlua.sleep(1)
 *      ▲ yields              ▲ yields              ▲ yields: later the loop goes on with this one; what it yields or
 *                                                    returns is what resume returns in the one before it
 *
 * What has suspended in a function of ours has something on its stack, the coroutine as light userdata on top; who
 * waits for a coroutine of the program has that thread there; who has yielded to the program has nothing. So
 * coroutine.resume tells them apart.
 *
 * runs in: every process. */
#ifndef SV_LUA_THREAD_H
#define SV_LUA_THREAD_H

#include "lua/binding.h"

/* Replaces the functions in the state. Leaves the stack as it was. */
void sv_lua_thread_open(lua_State *L, struct sv_lua *lua);
void sv_lua_thread_close(struct sv_lua *lua);

/* A thread of the program's at the end of a coroutine's chain has stopped with `status` and has not suspended: goes on
 * with those who resumed it, until one suspends or the coroutine's own thread has stopped, whose status is returned. */
int sv_lua_thread_return(struct sv_lua_coroutine *coroutine, int status);

#endif
