/* script_loop.c: see script_loop.h. */
#include "lua/script_loop.h"

#include "lua/coroutine.h"
#include "lua/errors.h"
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

/* What is left of coroutines and timers goes with it. */
static void end_loop(struct sv_lua *lua) {
    srvlua_loop *loop = lua->own_loop;

    sv_lua_abandon_coroutines(lua, NULL);
    srvlua_loop_free(loop);
    lua->own_loop = NULL;
    lua->uses_coroutines = lua->can_suspend = lua->has_made_timer = lua->is_told_to_exit = false;
}

static bool warns_of_deadlocks(const struct sv_lua *lua) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    return !lua->server || srvlua_get_setting(lua->server->server, "enable_deadlock_check", &value) < 0 || value.boolean;
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

/* Between these two the loop turns on the stack of L. */
static lua_State *begin_turning(lua_State *L, struct sv_lua *lua) {
    lua_State *previous = lua->L;

    lua->L = L;
    lua->is_turning = true;
    return previous;
}

static void end_turning(struct sv_lua *lua, lua_State *previous) {
    lua->is_turning = false;
    lua->L = previous;
}

static bool may_turn(const struct sv_lua *lua) { return lua->own_loop && !lua->is_turning && lua->depth == 0; }

int sv_lua_turn_script_loop(lua_State *L, struct sv_lua *lua) {
    lua_State *previous;

    if (!may_turn(lua))
        return -SRVLUA_ERROR_WRONG_OPERATION;
    previous = begin_turning(L, lua);
    turn_until_done(lua, "the script's loop");
    end_loop(lua);
    end_turning(lua, previous);
    return 0;
}

int sv_lua_turn_script_loop_once(lua_State *L, struct sv_lua *lua) {
    lua_State *previous;

    if (!may_turn(lua))
        return -SRVLUA_ERROR_WRONG_OPERATION;
    previous = begin_turning(L, lua);
    if (srvlua_loop_pending(lua->own_loop) > 0)
        srvlua_loop_turn(lua->own_loop, -1);
    end_turning(lua, previous);
    return 0;
}

/* srvlua.run(fn, ...) -> true */
int sv_lua_run_script(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine;
    lua_State *previous;
    int result, count = lua_gettop(L);

    sv_lua_check_callable(L, 1);
    if (lua->is_running || lua->is_turning || lua->depth > 0)
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "this process has a loop that turns already");
    result = sv_lua_make_script_loop(lua);
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    previous = begin_turning(L, lua);
    coroutine = sv_lua_new_coroutine(lua, "srvlua.run");
    if (coroutine) {
        coroutine->is_main = true;
        if (count > LUA_MINSTACK)
            lua_checkstack(coroutine->L, count);
        lua_xmove(L, coroutine->L, count);
        sv_lua_resume(coroutine, count - 1);
    }
    turn_until_done(lua, "srvlua.run");
    end_loop(lua);
    end_turning(lua, previous);
    if (!coroutine)
        return sv_lua_fail_code(L, SRVLUA_ERROR_MALLOC_FAIL);
    if (lua->main_error_ref == LUA_NOREF) {
        lua_pushboolean(L, 1);
        return 1;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->main_error_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, lua->main_error_ref);
    lua->main_error_ref = LUA_NOREF;
    return lua_error(L);
}
