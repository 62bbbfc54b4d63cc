/* script_loop.c: see script_loop.h. */
#include "lua/script_loop.h"

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/event.h"
#include "lua/values.h"

#define MAX_COROUTINE 100000

int sv_lua_make_script_loop(struct sv_lua *lua) {
    if (lua->own_loop)
        return 0;
    if (lua->is_running)
        return -SRVLUA_ERROR_WRONG_OPERATION;
    lua->own_loop = srvlua_loop_new();
    if (!lua->own_loop)
        return -SRVLUA_ERROR_MALLOC_FAIL;
    lua->uses_coroutines = lua->can_suspend = true;
    lua->max_coroutine = MAX_COROUTINE;
    return 0;
}

/* What is left of coroutines goes; and the loop with its timers, unless its process goes on with it. */
static void end_loop(struct sv_lua *lua, bool is_kept) {
    srvlua_loop *loop = lua->own_loop;

    sv_lua_abandon_coroutines(lua, NULL);
    lua->is_told_to_exit = false;
    if (is_kept)
        return;
    sv_lua_forget_events(lua);
    srvlua_loop_free(loop);
    lua->own_loop = NULL;
    lua->has_made_timer = false;
}

static bool warns_of_deadlocks(const struct sv_lua *lua) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    return !lua->server || srvlua_get_setting(lua->server->server, "enable_deadlock_check", &value) < 0 ||
           value.boolean;
}

void sv_lua_end_coroutines(struct sv_lua *lua, const char *what) {
    sv_lua_abandon_coroutines(lua, warns_of_deadlocks(lua) ? what : NULL);
}

/* Until nothing is left, the function of srvlua.run has failed, or the program says so. */
static void turn_until_done(struct sv_lua *lua, const char *what) {
    while (lua->main_error_ref == LUA_NOREF && !lua->is_told_to_exit) {
        if (srvlua_loop_pending(lua->own_loop) == 0) {
            sv_lua_end_coroutines(lua, what);
            return;
        }
        srvlua_loop_turn(lua->own_loop, -1);
    }
}

/* How it was before the loop turned. */
struct turning {
    lua_State *L;
    bool may_turn; /* in the function of a child process, which has a loop as long as it lives (process.c) */
    bool uses_coroutines, can_suspend;
};

/* Between these two the loop turns on the stack of L. */
static struct turning begin_turning(lua_State *L, struct sv_lua *lua) {
    struct turning before = {lua->L, lua->may_turn, lua->uses_coroutines, lua->can_suspend};

    lua->L = L;
    lua->is_turning = lua->uses_coroutines = lua->can_suspend = true;
    lua->may_turn = false;
    return before;
}

static void end_turning(struct sv_lua *lua, const struct turning *before) {
    lua->is_turning = false;
    lua->uses_coroutines = lua->own_loop && before->uses_coroutines;
    lua->can_suspend = lua->own_loop && before->can_suspend;
    lua->may_turn = before->may_turn;
    lua->L = before->L;
}

/* Not in what the loop runs. */
static bool is_outside(const struct sv_lua *lua) { return !lua->is_turning && (lua->depth == 0 || lua->may_turn); }

int sv_lua_turn_script_loop(lua_State *L, struct sv_lua *lua) {
    struct turning before;

    if (!lua->own_loop || !is_outside(lua))
        return -SRVLUA_ERROR_WRONG_OPERATION;
    before = begin_turning(L, lua);
    turn_until_done(lua, "the script's loop");
    end_loop(lua, before.may_turn);
    end_turning(lua, &before);
    return 0;
}

int sv_lua_turn_script_loop_once(lua_State *L, struct sv_lua *lua) {
    struct turning before;

    if (!lua->own_loop || !is_outside(lua))
        return -SRVLUA_ERROR_WRONG_OPERATION;
    before = begin_turning(L, lua);
    if (srvlua_loop_pending(lua->own_loop) > 0)
        srvlua_loop_turn(lua->own_loop, -1);
    end_turning(lua, &before);
    return 0;
}

/* srvlua.run(fn, ...) -> true */
int sv_lua_run_script(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine;
    struct turning before;
    int result, count = lua_gettop(L);

    sv_lua_check_callable(L, 1);
    if (lua->is_running || !is_outside(lua))
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "this process has a loop that turns already");
    result = sv_lua_make_script_loop(lua);
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    before = begin_turning(L, lua);
    coroutine = sv_lua_new_coroutine(lua, "srvlua.run");
    if (coroutine) {
        coroutine->is_main = true;
        if (count > LUA_MINSTACK)
            lua_checkstack(coroutine->L, count);
        lua_xmove(L, coroutine->L, count);
        sv_lua_resume(coroutine, count - 1);
    }
    turn_until_done(lua, "srvlua.run");
    end_loop(lua, before.may_turn);
    end_turning(lua, &before);
    if (!coroutine)
        return sv_lua_fail_code(L, SRVLUA_ERROR_MALLOC_FAIL);
    if (lua->main_error_ref == LUA_NOREF) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->main_error_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, lua->main_error_ref);
    lua->main_error_ref = LUA_NOREF;
    return sv_lua_raise_after_others(L);
}
