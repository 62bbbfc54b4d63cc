/* coroutine_module.c: see coroutine_module.h. */
#include "lua/coroutine_module.h"

#include <math.h>
#include <string.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/values.h"

#define DEPTH_MAX 100 /* go inside go; the next one starts in the next turn of the loop */

/* --------------------------------------------------------------------------------------------------------- starting */

/* Notes the line that calls srvlua.go. */
static void note_origin(lua_State *L, struct sv_lua_coroutine *coroutine) {
    lua_Debug frame;

    if (!lua_getstack(L, 1, &frame))
        return;
    lua_getinfo(L, "Sl", &frame);
    coroutine->origin_line = frame.currentline;
    memcpy(coroutine->origin, frame.short_src, sizeof coroutine->origin);
}

static int start_later(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_coroutine *coroutine = user_data;

    (void)loop;
    (void)timer_id;
    return sv_lua_resume(coroutine, lua_gettop(coroutine->L) - 1);
}

int sv_lua_go(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine;
    int64_t id;
    int count = lua_gettop(L);

    sv_lua_check_callable(L, 1);
    if (!lua->can_suspend || !sv_lua_loop(lua))
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "this process has no loop for coroutines");
    if (sv_lua_is_full(lua, "coroutine"))
        return sv_lua_fail_with(L, SRVLUA_ERROR_QUEUE_FULL, "max_coroutine is reached");
    coroutine = sv_lua_new_coroutine(lua, "coroutine");
    if (!coroutine)
        return sv_lua_fail_code(L, SRVLUA_ERROR_MALLOC_FAIL);
    id = coroutine->id;
    coroutine->parent = lua->current ? lua->current->id : -1;
    note_origin(L, coroutine);
    if (count > LUA_MINSTACK)
        lua_checkstack(coroutine->L, count);
    lua_xmove(L, coroutine->L, count);
    if (lua->depth > DEPTH_MAX && sv_lua_start_later(coroutine, start_later) == 0)
        ;
    else if (sv_lua_resume(coroutine, count - 1) != 0)
        sv_lua_count_failure(lua);
    lua_pushnumber(L, (double)id);
    return 1;
}

/* ------------------------------------------------------------------------------------------------- what there is */

static int no_such_coroutine(lua_State *L) {
    return sv_lua_fail_with(L, SRVLUA_ERROR_CO_NOT_EXISTS, "no such coroutine in this process");
}

/* coroutine.id() -> id, -1 outside */
static int coroutine_id(lua_State *L) {
    const struct sv_lua *lua = sv_lua_of(L);

    lua_pushnumber(L, lua->current ? (double)lua->current->id : -1);
    return 1;
}

/* The coroutine with the id at index 1, by default the running one; NULL: there is none. */
static struct sv_lua_coroutine *optional_coroutine(lua_State *L) {
    const struct sv_lua *lua = sv_lua_of(L);

    return lua_isnoneornil(L, 1) ? lua->current : sv_lua_find_coroutine(lua, sv_lua_check_integer(L, 1));
}

/* coroutine.parent([id]) -> id, -1: the server started it */
static int coroutine_parent(lua_State *L) {
    const struct sv_lua_coroutine *coroutine = optional_coroutine(L);

    if (!coroutine)
        return no_such_coroutine(L);
    lua_pushnumber(L, (double)coroutine->parent);
    return 1;
}

/* coroutine.exists(id) -> boolean */
static int coroutine_exists(lua_State *L) {
    lua_pushboolean(L, sv_lua_find_coroutine(sv_lua_of(L), sv_lua_check_integer(L, 1)) != NULL);
    return 1;
}

/* coroutine.list() -> ids, ascending */
static int coroutine_list(lua_State *L) {
    const struct sv_lua *lua = sv_lua_of(L);
    int i, count = lua->live_count;
    int64_t *ids = lua_newuserdata(L, ((size_t)count + 1) * sizeof *ids);

    sv_lua_list_coroutines(lua, ids);
    lua_createtable(L, count, 0);
    for (i = 0; i < count; i++) {
        lua_pushnumber(L, (double)ids[i]);
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static bool is_running(const struct sv_lua *lua, const struct sv_lua_coroutine *coroutine) {
    const struct sv_lua_running *running = lua->running;

    while (running && running->coroutine != coroutine)
        running = running->outer;
    return running != NULL;
}

/* coroutine.traceback(id) -> text */
static int coroutine_traceback(lua_State *L) {
    const struct sv_lua *lua = sv_lua_of(L);
    const struct sv_lua_coroutine *coroutine = sv_lua_find_coroutine(lua, sv_lua_check_integer(L, 1));

    if (!coroutine)
        return no_such_coroutine(L);
    if (is_running(lua, coroutine)) {
        luaL_traceback(L, coroutine->thread, NULL, coroutine->thread == L ? 1 : 0);
        return 1;
    }
    lua_pushliteral(L, "stack traceback:\n");
    sv_lua_push_stack(L, coroutine);
    return 1;
}

/* coroutine.context() -> table of this coroutine */
static int coroutine_context(lua_State *L) {
    struct sv_lua_coroutine *coroutine = sv_lua_of(L)->current;

    if (!coroutine)
        return sv_lua_fail_with(L, SRVLUA_ERROR_CO_OUT_OF_COROUTINE, "this runs outside of coroutines");
    if (coroutine->context_ref == LUA_NOREF) {
        lua_newtable(L);
        coroutine->context_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, coroutine->context_ref);
    return 1;
}

/* coroutine.stats() -> { coroutine_num =, coroutine_peak_num =, coroutine_last_id = } */
static int coroutine_stats(lua_State *L) {
    const struct sv_lua *lua = sv_lua_of(L);

    lua_createtable(L, 0, 3);
    lua_pushinteger(L, lua->live_count);
    lua_setfield(L, -2, "coroutine_num");
    lua_pushinteger(L, lua->peak_count);
    lua_setfield(L, -2, "coroutine_peak_num");
    lua_pushnumber(L, (double)lua->last_coroutine_id);
    lua_setfield(L, -2, "coroutine_last_id");
    return 1;
}

/* ---------------------------------------------------------------------------------------- waiting, for modules in Lua
 *
 * `id, ticket = ticket()` says who is going to wait; that is put where others find it; then `park(ticket, ...)`
 * suspends, until somebody calls `unpark(id, ticket, value)`, or in vain. The ticket makes sure that this and no later
 * wait is ended. */

/* ticket() -> id, ticket; nothing: no coroutine that could wait. Raises if a C function is in the way. */
static int take_ticket(lua_State *L) {
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);

    if (!coroutine)
        return 0;
    lua_pushnumber(L, (double)coroutine->id);
    lua_pushnumber(L, (double)++coroutine->lua->last_ticket);
    return 2;
}

/* The time is over. */
static int wake_in_vain(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_coroutine *coroutine = user_data;

    (void)loop;
    (void)timer_id;
    coroutine->ticket = coroutine->timer = 0;
    lua_pushboolean(coroutine->L, 0);
    return sv_lua_resume(coroutine, 1);
}

/* park(ticket, name [, seconds]) -> true, value; false: nobody came in time. Negative seconds: no limit. */
static int park(lua_State *L) {
    struct sv_lua_coroutine *coroutine = sv_lua_of(L)->current;
    const char *name = lua_tostring(L, 2); /* a constant of the calling function, which is on the stack */
    double seconds = lua_isnoneornil(L, 3) ? -1 : lua_tonumber(L, 3);
    int64_t timer = 0;

    if (seconds >= 0) {
        timer = srvlua_timer_add(sv_lua_loop(coroutine->lua),
                                 seconds < 1e9 ? (int64_t)ceil(seconds * 1000) : (int64_t)1e12, 0, wake_in_vain,
                                 coroutine, NULL);
        if (timer < 0)
            return luaL_error(L, "not enough memory");
    }
    coroutine->ticket = (int64_t)lua_tonumber(L, 1);
    coroutine->timer = timer;
    return sv_lua_suspend(L, coroutine, name);
}

static int wake_parked(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_coroutine *coroutine = user_data;

    (void)loop;
    (void)timer_id;
    lua_pop(coroutine->L, 1); /* unpark() has put the results below the mark of a suspended one */
    return sv_lua_resume(coroutine, 2);
}

/* unpark(id, ticket [, value]) -> boolean: it waited, and will go on at the end of this turn of the loop or in the next
 * one */
static int unpark(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine = sv_lua_find_coroutine(lua, (int64_t)lua_tonumber(L, 1));
    srvlua_loop *loop = sv_lua_loop(lua);

    if (!coroutine || coroutine->ticket != (int64_t)lua_tonumber(L, 2) ||
        srvlua_call_soon(loop, wake_parked, coroutine) < 0) {
        lua_pushboolean(L, 0);
        return 1;
    }
    if (coroutine->timer)
        srvlua_timer_clear(loop, coroutine->timer);
    coroutine->ticket = coroutine->timer = 0;
    lua_settop(L, 3);
    lua_pushboolean(coroutine->L, 1);
    lua_xmove(L, coroutine->L, 1);
    lua_pushlightuserdata(coroutine->L, coroutine);
    lua_pushboolean(L, 1);
    return 1;
}

/* kill(id) -> boolean: it was suspended, and is not resumed any more. Its functions just never return: for
 * compatibility only. */
static int kill_coroutine(lua_State *L) {
    struct sv_lua_coroutine *coroutine = sv_lua_find_coroutine(sv_lua_of(L), sv_lua_check_integer(L, 1));

    lua_pushboolean(L, coroutine && sv_lua_kill_coroutine(coroutine));
    return 1;
}

void sv_lua_push_coroutine_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("id", coroutine_id),
        SV_LUA_FUNCTION("parent", coroutine_parent),
        SV_LUA_FUNCTION("exists", coroutine_exists),
        SV_LUA_FUNCTION("list", coroutine_list),
        SV_LUA_FUNCTION("traceback", coroutine_traceback),
        SV_LUA_FUNCTION("context", coroutine_context),
        SV_LUA_FUNCTION("stats", coroutine_stats),
        SV_LUA_FUNCTION("kill", kill_coroutine),
        SV_LUA_FUNCTION("ticket", take_ticket),
        SV_LUA_FUNCTION("park", park),
        SV_LUA_FUNCTION("unpark", unpark),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, functions);
}
