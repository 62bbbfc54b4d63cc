/* thread.c: see thread.h. */
#include "lua/thread.h"

#include <stdlib.h>

#include "lua/coroutine.h"
#include "lua/errors.h"

#define NESTED_MAX 5000 /* inside one another; each takes some 400 bytes of the C stack */

enum { SUSPENDED = -1, FAILED = -2 }; /* instead of a number of results */

/* --------------------------------------------------------------------------------------------------------- records */

static struct sv_lua_running *take_record(lua_State *L, struct sv_lua *lua) {
    struct sv_lua_running *record = lua->spare_records;

    if (record) {
        lua->spare_records = record->outer;
        return record;
    }
    record = malloc(sizeof *record);
    if (!record)
        luaL_error(L, "not enough memory");
    return record;
}

static void give_back(struct sv_lua *lua, struct sv_lua_running *record) {
    record->outer = lua->spare_records;
    lua->spare_records = record;
}

/* --------------------------------------------------------------------------------------------------------- resuming */

static bool is_running(lua_State *thread) {
    lua_Debug frame;

    return lua_status(thread) == 0 && lua_getstack(thread, 0, &frame);
}

/* Pushes on L why `thread` cannot be resumed, and returns FAILED; or returns 0. */
static int refuse(lua_State *L, lua_State *thread) {
    int status = lua_status(thread);
    struct sv_lua_coroutine *waiting;

    if (status == LUA_YIELD && lua_gettop(thread) == 0)
        return 0;
    if (status == 0 && lua_gettop(thread) > 0 && !is_running(thread))
        return 0;
    waiting = status == LUA_YIELD ? lua_touserdata(thread, -1) : NULL;
    if (waiting && !waiting->waits_in)
        return 0; /* ours, which has yielded */
    if (waiting)
        lua_pushfstring(L, "coroutine waits in %s", waiting->waits_in);
    else
        lua_pushstring(L, status == LUA_YIELD || is_running(thread) ? "cannot resume running coroutine"
                                                                    : "cannot resume dead coroutine");
    return FAILED;
}

/* Moves the results of a thread that has stopped, or its error value, behind what L has. Returns their number or
 * FAILED. */
static int take_results(lua_State *L, lua_State *thread, int status) {
    int count = status > LUA_YIELD ? 1 : lua_gettop(thread);

    if (!lua_checkstack(L, count + 1)) {
        lua_settop(thread, 0);
        lua_pushliteral(L, "too many results to resume");
        return FAILED;
    }
    lua_xmove(thread, L, count);
    return status > LUA_YIELD ? FAILED : count;
}

static int run_thread(lua_State *L, struct sv_lua *lua, lua_State *thread, int count) {
    struct sv_lua_running *record = take_record(L, lua), *outer = lua->running;
    int status;

    *record = (struct sv_lua_running){.L = thread, .outer = outer, .resumer = L, .depth = outer ? outer->depth + 1 : 1};
    lua_xmove(L, thread, count);
    lua->running = record;
    status = lua_resume(thread, count);
    lua->running = outer;
    if (status == LUA_YIELD && lua->current && lua->current->waits_in)
        return SUSPENDED; /* the record is part of its chain now */
    give_back(lua, record);
    return take_results(L, thread, status);
}

/* Resumes a thread with the `count` values on the top of L. Returns the number of results, which are on the top of L
 * then; FAILED: the error value is; SUSPENDED: L is to yield with the thread on its stack. */
static int resume(lua_State *L, lua_State *thread, int count) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *ours;

    if (refuse(L, thread) != 0)
        return FAILED;
    if (lua->running && lua->running->depth >= NESTED_MAX)
        return luaL_error(L, "C stack overflow");
    if (!lua_checkstack(thread, count + 1))
        return luaL_error(L, "too many arguments to resume");
    if (lua_status(thread) != LUA_YIELD || lua_gettop(thread) == 0)
        return run_thread(L, lua, thread, count);
    ours = lua_touserdata(thread, -1);
    lua_settop(thread, 0);
    lua_xmove(L, thread, count);
    count = sv_lua_resume_for(ours, count, L);
    return count < 0 ? FAILED : count;
}

/* coroutine.resume(co, ...) -> true, ... | false, error */
static int coroutine_resume(lua_State *L) {
    lua_State *thread = lua_tothread(L, 1);
    int count;

    luaL_argcheck(L, thread, 1, "coroutine expected");
    count = resume(L, thread, lua_gettop(L) - 1);
    if (count == SUSPENDED)
        return lua_yield(L, 1);
    lua_pushboolean(L, count != FAILED);
    if (count == FAILED) { /* not all of the arguments may be gone */
        lua_insert(L, -2);
        return 2;
    }
    lua_replace(L, 1); /* where the coroutine was */
    return count + 1;
}

int sv_lua_thread_return(struct sv_lua_coroutine *coroutine, int status) {
    struct sv_lua *lua = coroutine->lua;

    while (coroutine->innermost != &coroutine->own) {
        struct sv_lua_running *record = coroutine->innermost;
        lua_State *thread = record->L, *L = record->outer->L;
        int count;

        if (status == LUA_YIELD && coroutine->waits_in)
            return status;
        lua_pushboolean(L, 1); /* a thread that does not run cannot be told that memory is short */
        count = take_results(L, thread, status);
        if (count == FAILED) {
            lua_pushboolean(L, 0);
            lua_replace(L, 2);
            count = 1;
        }
        lua_remove(L, 1); /* the thread, which was kept alive by this */
        lua->running = coroutine->innermost = record->outer;
        give_back(lua, record);
        coroutine->L = L;
        status = lua_resume(L, count + 1);
    }
    return status;
}

/* ------------------------------------------------------------------------------------------------ wrapping, status */

/* check(ok, ...) -> ... or raises the second value, text with the place of the call */
static int check(lua_State *L) {
    if (lua_toboolean(L, 1))
        return lua_gettop(L) - 1;
    if (lua_type(L, 2) == LUA_TSTRING) {
        luaL_where(L, 1);
        lua_insert(L, 2);
        lua_concat(L, 2);
    }
    return lua_error(L);
}

/* A C function that has yielded cannot raise an error afterwards; this one's `check` can. Its call is a tail call, so
 * that the place of the error is where the wrapped function was called. */
static const char wrap_source[] = "local resume, check = ...\n"
                                  "return function(thread)\n"
                                  "  return function(...) return check(resume(thread, ...)) end\n"
                                  "end";

/* coroutine.wrap(function) -> function; upvalue 3: what the text above returns */
static int coroutine_wrap(lua_State *L) {
    lua_State *thread;

    luaL_checktype(L, 1, LUA_TFUNCTION);
    lua_pushvalue(L, lua_upvalueindex(3));
    thread = lua_newthread(L);
    lua_pushvalue(L, 1);
    lua_xmove(L, thread, 1);
    lua_call(L, 1, 1);
    return 1;
}

static const char *status_of(lua_State *L, lua_State *thread) {
    if (thread == L)
        return "running";
    if (lua_status(thread) == LUA_YIELD)
        return lua_gettop(thread) > 0 && lua_isthread(thread, -1) ? "normal" : "suspended";
    if (is_running(thread))
        return "normal";
    return lua_status(thread) == 0 && lua_gettop(thread) > 0 ? "suspended" : "dead";
}

/* coroutine.status(co) -> 'running', 'suspended', 'normal' or 'dead' */
static int coroutine_status(lua_State *L) {
    lua_State *thread = lua_tothread(L, 1);

    luaL_argcheck(L, thread, 1, "coroutine expected");
    lua_pushstring(L, status_of(L, thread));
    return 1;
}

/* Puts coroutine.wrap into the table on the top of the stack, which has our coroutine.resume. */
static void register_wrap(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function row = SV_LUA_FUNCTION("wrap", coroutine_wrap);

    lua_pushlightuserdata(L, (void *)&row);
    lua_pushlightuserdata(L, lua);
    if (luaL_loadbuffer(L, wrap_source, sizeof wrap_source - 1, "=coroutine.wrap") != 0)
        lua_error(L);
    lua_getfield(L, -4, "resume");
    lua_pushcfunction(L, check);
    lua_call(L, 2, 1);
    lua_pushcclosure(L, coroutine_wrap, 3);
    lua_setfield(L, -2, "wrap");
}

void sv_lua_thread_open(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("resume", coroutine_resume),
        SV_LUA_FUNCTION("status", coroutine_status),
        SV_LUA_END,
    };

    lua_getglobal(L, "coroutine");
    if (lua_istable(L, -1)) {
        sv_lua_register(L, lua, functions);
        register_wrap(L, lua);
    }
    lua_pop(L, 1);
}

void sv_lua_thread_close(struct sv_lua *lua) {
    while (lua->spare_records) {
        struct sv_lua_running *record = lua->spare_records;
        lua->spare_records = record->outer;
        free(record);
    }
}
