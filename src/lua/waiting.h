/* waiting.h: functions that wait where nothing can be suspended.
 *
 * Mostly the process just blocks. Only the function of a process that has a loop but does not run inside of it (a user
 * process without enable_coroutine) turns it meanwhile, so that its timers, watches and signals have their turn.
 *
 * runs in: every process. */
#ifndef SV_LUA_WAITING_H
#define SV_LUA_WAITING_H

#include "lua/binding.h"

/* Seconds of the monotonic clock. */
double sv_lua_now(void);
/* Waits until a descriptor (-1: none) is ready for one of `events` (enum srvlua_readiness), at most so many seconds
 * (negative: for ever). 1; 0: the time is over; -errno. */
int sv_lua_block(struct sv_lua *lua, int fd, int events, double seconds);

#endif
