/* coroutine.h: how Lua code is started by the server: in a pooled coroutine, or by a plain protected call.
 *
 * A coroutine of ours is a Lua thread that is used again when its function has ended (measured: 45 ns, a new thread each
 * time 130-210). It is suspended only by functions of the binding, which name what they wait for and see to it that
 * somebody calls sv_lua_resume() later.
 *
 *            sv_lua_run                     sv_lua_suspend
 *   idle ─────────────────► running ◄────────────────────────► suspended
 *     ▲                        │         sv_lua_resume
 *     └──── function ends ─────┴──── error ────► thread is dropped
 *
 * runs in: every process of the server. */
#ifndef SV_LUA_COROUTINE_H
#define SV_LUA_COROUTINE_H

#include "lua/binding.h"

struct sv_lua_coroutine {
    struct sv_lua *lua;
    lua_State *L;
    int ref;              /* keeps the thread from the collector */
    int64_t id;           /* counts from 1 per process */
    const char *what;     /* what it runs, for messages: "receive callback" */
    bool has_suspended;   /* at least once */
    int request;          /* token of srvlua_suspend_request(), -1: none */
    const char *waits_in; /* suspended: the name of the function that waits */
    struct sv_lua_coroutine *next_idle;
};

/* Makes what the functions here need. Leaves the stack as it was. */
void sv_lua_coroutine_open(lua_State *L, struct sv_lua *lua);
/* Frees the pool; the threads themselves are the collector's. */
void sv_lua_coroutine_close(struct sv_lua *lua);

/* Runs what `push` pushes in a coroutine, until it ends or suspends. `what` must stay valid.
 * Returns 0, or 1 after an error, which is in the log then. */
int sv_lua_run(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument);
/* The same as a plain call: nothing in it can suspend. */
int sv_lua_call(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument);
/* One or the other, as this process has it. */
int sv_lua_start(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument);
/* Whether max_coroutine leaves no room; then it logs that `what` is refused, once a second. */
bool sv_lua_is_full(struct sv_lua *lua, const char *what);

/* The coroutine that a function of the binding may suspend, or NULL if it must block: no coroutine of ours, or no loop.
 * Raises if it is one but a C function on its stack is in the way (runtime.md 1). */
struct sv_lua_coroutine *sv_lua_suspendable(lua_State *L);
/* Ends a Lua function by suspending: `return sv_lua_suspend(L, coroutine, "sleep");` */
int sv_lua_suspend(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in);
/* The same, keeping the function's first `count` arguments on the coroutine's stack (indices 1 to count) while it waits.
 * They must be taken away (lua_settop) before sv_lua_resume(). */
int sv_lua_suspend_with(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in, int count);
/* Goes on with a suspended coroutine; the `count` values on top of its stack are what the suspended function returns.
 * Returns as sv_lua_run. */
int sv_lua_resume(struct sv_lua_coroutine *coroutine, int count);

/* The loop of this process: the server's, or one of its own without a server (srvlua.run, child processes); NULL: none. */
srvlua_loop *sv_lua_loop(const struct sv_lua *lua);
/* One line to the server's log; without a server, to stderr. */
void sv_lua_log(const struct sv_lua *lua, enum srvlua_log_level level, const char *format, ...) SRVLUA_PRINTF(3, 4);

/* srvlua.sleep(seconds) */
int sv_lua_sleep(lua_State *L);

#endif
