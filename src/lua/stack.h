/* stack.h: which Lua code is running, told while it runs: for callbacks that do not end and for crashes.
 *
 * The binding knows the Lua threads that run: its own coroutines and plain calls say so (sv_lua_running), and so do the
 * program's (thread.h).
 * In a signal handler the frames of these threads are read as they lie there. That is right where the code is inside a C
 * function; otherwise the interpreter or the compiled code has the position and the newest frames in registers. So:
 *   - interpreter: a count hook is set, which fires at the next instruction and writes the stack at leisure;
 *   - compiled code, where no hook fires: a forked copy of the process leaves the compiled code, which puts the stack in order,
 *     and the hook fires there (x86-64 only; elsewhere what lies there has to do).
 * A listener for the compiler (jit.attach) would know where compiled code begins, but LuaJIT up to 2022 crashes with one when a
 * coroutine's function ends in a tail call of a C function.
 *
 * runs in: every process; sv_lua_write_stack: signal handlers of workers. */
#ifndef SV_LUA_STACK_H
#define SV_LUA_STACK_H

#include "lua/binding.h"

struct sv_lua_running { /* belongs to who runs the thread; those of the program's coroutines: thread.c */
    lua_State *L;
    const char *what; /* what our own run, for messages: "receive callback"; NULL: a coroutine of the program */
    struct sv_lua_coroutine *coroutine; /* ours, if it is the thread of one */
    struct sv_lua_running *outer;
    lua_State *resumer; /* of a coroutine of the program: the thread that resumed it */
    int depth;          /* of coroutines of the program inside one another */
};

/* srvlua_stack_writer; user_data: the binding. */
size_t sv_lua_write_stack(void *user_data, char *text, size_t size, const void *interrupted);

#endif
