/* coroutine.c: pooled coroutines, plain calls, srvlua.sleep; see coroutine.h. */
#include "lua/coroutine.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lua/errors.h"
#include "lua/stack.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define IDLE_MAX 1024 /* threads kept for later; each is about 1 KiB */

void sv_lua_coroutine_open(lua_State *L, struct sv_lua *lua) {
    lua_pushcfunction(L, sv_lua_describe_error);
    lua->describe_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(L, "pcall");
    lua->pcall_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(L, "xpcall");
    lua->xpcall_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void sv_lua_coroutine_close(struct sv_lua *lua) {
    while (lua->idle) {
        struct sv_lua_coroutine *coroutine = lua->idle;
        lua->idle = coroutine->next_idle;
        free(coroutine);
    }
    lua->idle_count = 0;
}

srvlua_loop *sv_lua_loop(const struct sv_lua *lua) {
    if (lua->own_loop)
        return lua->own_loop;
    return lua->server ? srvlua_get_loop(lua->server->server) : NULL;
}

void sv_lua_log(const struct sv_lua *lua, enum srvlua_log_level level, const char *format, ...) {
    char text[4096];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (lua->server)
        srvlua_log(lua->server->server, level, "%s", text);
    else
        fprintf(stderr, "%s\n", text);
}

/* ------------------------------------------------------------------------------------------------------- the pool */

static int make_thread(lua_State *L) {
    struct sv_lua_coroutine *coroutine = lua_touserdata(L, 1);

    coroutine->L = lua_newthread(L);
    coroutine->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static struct sv_lua_coroutine *take_coroutine(struct sv_lua *lua) {
    struct sv_lua_coroutine *coroutine = lua->idle;

    if (coroutine) {
        lua->idle = coroutine->next_idle;
        lua->idle_count--;
    } else {
        coroutine = calloc(1, sizeof *coroutine);
        if (!coroutine)
            return NULL;
        if (lua_cpcall(lua->L, make_thread, coroutine) != 0) {
            lua_pop(lua->L, 1);
            free(coroutine);
            return NULL;
        }
        coroutine->lua = lua;
    }
    coroutine->id = ++lua->last_coroutine_id;
    coroutine->waits_in = NULL;
    coroutine->request = -1;
    coroutine->has_suspended = false;
    lua->live_count++;
    srvlua_count_coroutines(lua->server->server, 1);
    return coroutine;
}

static void drop_coroutine(struct sv_lua_coroutine *coroutine) {
    luaL_unref(coroutine->lua->L, LUA_REGISTRYINDEX, coroutine->ref);
    free(coroutine);
}

/* One whose function has ended goes back to the pool, one that failed is dropped. */
static void leave_coroutine(struct sv_lua_coroutine *coroutine, bool is_sound) {
    struct sv_lua *lua = coroutine->lua;

    lua->live_count--;
    srvlua_count_coroutines(lua->server->server, -1);
    srvlua_end_request(lua->server->server, coroutine->request);
    if (!is_sound || lua->idle_count >= IDLE_MAX) {
        drop_coroutine(coroutine);
        return;
    }
    lua_settop(coroutine->L, 0);
    coroutine->next_idle = lua->idle;
    lua->idle = coroutine;
    lua->idle_count++;
}

bool sv_lua_is_full(struct sv_lua *lua, const char *what) {
    struct timespec now;

    if (lua->live_count < lua->max_coroutine)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec != lua->refused_at) {
        lua->refused_at = now.tv_sec;
        srvlua_log(lua->server->server, SRVLUA_LOG_WARNING, "%s refused: max_coroutine (%d) is reached", what,
                   lua->max_coroutine);
    }
    return true;
}

/* --------------------------------------------------------------------------------------------------------- errors */

/* Logs the error value on the top of lua->L, which is text by now or could not be made text; takes it away. */
static void log_error(struct sv_lua *lua, const char *what) {
    const char *text = lua_tostring(lua->L, -1);

    lua->error_count++;
    srvlua_log(lua->server->server, SRVLUA_LOG_ERROR, "uncaught error in %s: %s", what, text ? text : "(no message)");
    lua_pop(lua->L, 1);
}

/* Logs the error that ended a coroutine, with the stack that it had there. */
static void log_coroutine_error(struct sv_lua_coroutine *coroutine) {
    struct sv_lua *lua = coroutine->lua;

    lua_checkstack(lua->L, 4);
    lua_rawgeti(lua->L, LUA_REGISTRYINDEX, lua->describe_ref);
    lua_xmove(coroutine->L, lua->L, 1);
    lua_rawgeti(lua->L, LUA_REGISTRYINDEX, coroutine->ref);
    lua_pcall(lua->L, 2, 1, 0); /* text, or what went wrong with it */
    log_error(lua, coroutine->what);
}

/* -------------------------------------------------------------------------------------------------------- running */

int sv_lua_resume(struct sv_lua_coroutine *coroutine, int count) {
    struct sv_lua *lua = coroutine->lua;
    struct sv_lua_coroutine *previous = lua->current;
    struct sv_lua_running here = {coroutine->L, coroutine->what, lua->running, lua->running ? lua->running->depth : 0};
    int status;

    coroutine->waits_in = NULL;
    lua->current = coroutine;
    lua->running = &here;
    lua->depth++;
    status = lua_resume(coroutine->L, count);
    lua->depth--;
    lua->running = here.outer;
    lua->current = previous;
    if (status == 0) {
        leave_coroutine(coroutine, true);
        return 0;
    }
    if (status == LUA_YIELD) {
        if (coroutine->waits_in) {
            if (!coroutine->has_suspended)
                coroutine->request = srvlua_suspend_request(lua->server->server);
            coroutine->has_suspended = true;
            return 0;
        }
        lua_settop(coroutine->L, 0);
        lua_pushliteral(coroutine->L, "coroutine.yield outside of the program's own coroutines is not supported yet");
    }
    log_coroutine_error(coroutine);
    leave_coroutine(coroutine, false);
    return 1;
}

int sv_lua_run(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument) {
    struct sv_lua_coroutine *coroutine = take_coroutine(lua);
    int count;

    if (!coroutine) {
        srvlua_log(lua->server->server, SRVLUA_LOG_ERROR, "uncaught error in %s: not enough memory", what);
        return 1;
    }
    coroutine->what = what;
    count = push(lua->L, argument); /* not there: a thread that does not run cannot be told that memory is short */
    if (count > LUA_MINSTACK)
        lua_checkstack(coroutine->L, count);
    lua_xmove(lua->L, coroutine->L, count);
    return sv_lua_resume(coroutine, count - 1);
}

int sv_lua_call(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument) {
    lua_State *L = lua->L;
    struct sv_lua_running here = {L, what, lua->running, lua->running ? lua->running->depth : 0};
    int handler, status;

    lua_checkstack(L, LUA_MINSTACK);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->describe_ref);
    handler = lua_gettop(L);
    lua->running = &here;
    lua->depth++;
    status = lua_pcall(L, push(L, argument) - 1, 0, handler);
    lua->depth--;
    lua->running = here.outer;
    if (status != 0)
        log_error(lua, what);
    lua_pop(L, 1);
    return status != 0;
}

int sv_lua_start(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument) {
    return lua->uses_coroutines ? sv_lua_run(lua, what, push, argument) : sv_lua_call(lua, what, push, argument);
}

/* ----------------------------------------------------------------------------------------------------- suspending */

/* Pushes the name of the function on the top of the stack, as a program would write it; takes the function away. */
static void push_function_name(lua_State *L, const char *name_of_call) {
    int function = lua_gettop(L);

    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    for (lua_pushnil(L); lua_istable(L, -2) && lua_next(L, -2); lua_pop(L, 1)) {
        if (!lua_istable(L, -1) || lua_type(L, -2) != LUA_TSTRING)
            continue;
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING || !lua_rawequal(L, -1, function))
                continue;
            if (strcmp(lua_tostring(L, -4), "_G") == 0)
                lua_pushvalue(L, -2);
            else
                lua_pushfstring(L, "%s.%s", lua_tostring(L, -4), lua_tostring(L, -2));
            lua_replace(L, function);
            lua_settop(L, function);
            return;
        }
    }
    lua_settop(L, function - 1);
    lua_pushstring(L, name_of_call ? name_of_call : "a C function");
}

/* Raises, naming the C function that calls Lua below the running one; pcall and xpcall are none that hinder. */
static void raise_cannot_suspend(lua_State *L, struct sv_lua *lua) {
    lua_Debug frame;
    int level;

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->pcall_ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->xpcall_ref);
    for (level = 1; lua_getstack(L, level, &frame); level++) {
        lua_getinfo(L, "Snf", &frame);
        if (strcmp(frame.what, "C") == 0 && !lua_rawequal(L, -1, -2) && !lua_rawequal(L, -1, -3)) {
            push_function_name(L, frame.name);
            luaL_error(L, "cannot suspend here: inside %s", lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
    luaL_error(L, "cannot suspend here: inside a C function");
}

struct sv_lua_coroutine *sv_lua_suspendable(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine = lua->current;

    if (!coroutine || coroutine->L != L || !sv_lua_loop(lua))
        return NULL;
    if (!lua_isyieldable(L))
        raise_cannot_suspend(L, lua);
    return coroutine;
}

int sv_lua_suspend_with(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in, int count) {
    coroutine->waits_in = waits_in;
    lua_settop(L, count);
    return lua_yield(L, count);
}

int sv_lua_suspend(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in) {
    return sv_lua_suspend_with(L, coroutine, waits_in, 0);
}

static int wake_sleeper(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_coroutine *coroutine = user_data;

    (void)loop;
    (void)timer_id;
    lua_pushboolean(coroutine->L, 1);
    return sv_lua_resume(coroutine, 1);
}

int sv_lua_sleep(lua_State *L) {
    double seconds = sv_lua_check_number(L, 1);
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine;
    srvlua_loop *loop;
    int64_t result;

    if (!(seconds >= 0 && isfinite(seconds)))
        return sv_lua_argument_error(L, 1, "seconds from 0 on expected");
    if (seconds > 1e9)
        seconds = 1e9; /* 31 years: what the clock functions take everywhere */
    coroutine = sv_lua_suspendable(L);
    if (!coroutine) {
        sv_lua_block(lua, -1, 0, seconds);
        lua_pushboolean(L, 1);
        return 1;
    }
    loop = sv_lua_loop(lua);
    if (seconds > 0)
        result = srvlua_timer_add(loop, (int64_t)ceil(seconds * 1000), 0, wake_sleeper, coroutine, NULL);
    else
        result = srvlua_defer(loop, wake_sleeper, coroutine);
    if (result < 0)
        return sv_lua_fail_code(L, (int)-result);
    return sv_lua_suspend(L, coroutine, "sleep");
}
