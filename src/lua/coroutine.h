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
#include "lua/stack.h"

struct sv_lua_coroutine {
    struct sv_lua *lua;
    lua_State *L;      /* suspended: the thread that waits, where results are pushed; else `thread` */
    lua_State *thread; /* its own one */
    int ref;           /* keeps the thread from the collector */
    int64_t id;        /* counts from 1 per process */
    int64_t parent;    /* who called srvlua.go, -1: the server */
    const char *what;  /* what it runs, for messages: "receive callback" */
    const char *waits_in; /* suspended: the name of the function that waits; NULL: it runs, or has called coroutine.yield */
    bool has_suspended;   /* at least once */
    bool is_listed;       /* in lua->by_id: it has suspended, or waits to be started */
    bool is_abandoned;    /* it is not resumed any more */
    bool is_killed;       /* that, and it goes when what it waits for has come */
    bool is_main;         /* of srvlua.run: who began it is told of its error, the log is not */
    int request;          /* token of srvlua_suspend_request(), -1: none */
    int context_ref;      /* its table, LUA_NOREF: nobody has asked for it */
    int64_t ticket;       /* of its wait in core.park, 0: none */
    int64_t timer;        /* that ends the wait, 0: none */
    struct sv_lua_running own;        /* its own thread in the chain of what runs */
    struct sv_lua_running *innermost; /* suspended: end of its chain (thread.h); else &own */
    struct sv_lua_coroutine *next;    /* of the idle ones, of a bucket, of the abandoned ones */
    int origin_line;                  /* where srvlua.go was called, 0: nowhere */
    char origin[LUA_IDSIZE];
};

/* Makes what the functions here need. Leaves the stack as it was. */
void sv_lua_coroutine_open(lua_State *L, struct sv_lua *lua);
/* Frees the pool; the threads themselves are the collector's. */
void sv_lua_coroutine_close(struct sv_lua *lua);

/* Makes one for a function with arguments that the caller moves to its thread; sv_lua_resume() starts it. NULL: no
 * memory. */
struct sv_lua_coroutine *sv_lua_new_coroutine(struct sv_lua *lua, const char *what);
/* Lets the loop start it: `start` is called with it at the end of this turn. As srvlua_defer(). */
int sv_lua_start_later(struct sv_lua_coroutine *coroutine, srvlua_timer_callback start);
/* The live one with that id, or NULL. */
struct sv_lua_coroutine *sv_lua_find_coroutine(const struct sv_lua *lua, int64_t id);
/* The ids of the live ones, ascending: lua->live_count of them. */
void sv_lua_list_coroutines(const struct sv_lua *lua, int64_t *ids);
/* Adds its stack to the text on the top of L's stack. It is suspended. */
void sv_lua_push_stack(lua_State *L, const struct sv_lua_coroutine *coroutine);
/* Whatever is suspended stays so for ever. `warn_of`: what ends, "srvlua.run"; logs one warning with the stacks. NULL:
 * quietly. */
void sv_lua_abandon_coroutines(struct sv_lua *lua, const char *warn_of);
/* It stays suspended for ever; false: it is not suspended. */
bool sv_lua_kill_coroutine(struct sv_lua_coroutine *coroutine);
/* In a forked child, or when a server has ended: what there was belongs to others. Ids count from 1 again. */
void sv_lua_forget_coroutines(struct sv_lua *lua);

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
 * L may run a coroutine of the program's own inside it. Raises if a C function on the stack is in the way (runtime.md
 * 1). */
struct sv_lua_coroutine *sv_lua_suspendable(lua_State *L);
/* The same without raising: then NULL. */
struct sv_lua_coroutine *sv_lua_suspendable_if_free(lua_State *L);
/* Ends a Lua function by suspending: `return sv_lua_suspend(L, coroutine, "sleep");` */
int sv_lua_suspend(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in);
/* The same, keeping the function's first `count` arguments on the coroutine's stack (coroutine->L, indices 1 to count)
 * while it waits. What is below the results at sv_lua_resume() is taken away. */
int sv_lua_suspend_with(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in, int count);
/* Goes on with a suspended coroutine; the `count` values on top of its stack are what the suspended function returns.
 * Returns as sv_lua_run. */
int sv_lua_resume(struct sv_lua_coroutine *coroutine, int count);
/* The same for coroutine.resume, of one that has yielded: what it yields or returns, or the error, is moved to L.
 * Returns the number of values, or -1: the error. */
int sv_lua_resume_for(struct sv_lua_coroutine *coroutine, int count, lua_State *L);
/* Counts an error in a coroutine that the program started or resumed, as one in a callback; may end the process
 * (exit_on_error). */
void sv_lua_count_failure(const struct sv_lua *lua);

/* The loop of this process: the server's, or one of its own without a server (srvlua.run, child processes); NULL: none. */
srvlua_loop *sv_lua_loop(const struct sv_lua *lua);
/* One line to the server's log; without a server, to stderr. */
void sv_lua_log(const struct sv_lua *lua, enum srvlua_log_level level, const char *format, ...) SRVLUA_PRINTF(3, 4);

/* srvlua.sleep(seconds) */
int sv_lua_sleep(lua_State *L);

#endif
