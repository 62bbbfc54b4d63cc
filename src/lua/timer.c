/* timer.c: timers and deferred functions; see timer.h. */
#include "lua/timer.h"

#include <stdlib.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/values.h"

struct timer {
    struct sv_lua *lua;
    int64_t id;
    int ref;   /* the function, or with arguments a sequence: function, arguments... */
    int count; /* of arguments */
    bool is_repeating;
};

/* Failures of the server's methods are told to getLastError() too, those of the module are not. */
static int fail(lua_State *L, struct sv_lua_server *self, int code, const char *message) {
    return self ? sv_lua_fail_server(L, self, code, message) : sv_lua_fail_with(L, code, message);
}

/* Pushes what the table of the user's timers has for an id: light userdata or nil. */
static void push_timer(lua_State *L, const struct sv_lua *lua, int64_t id) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->timers_ref);
    lua_pushnumber(L, (double)id);
    lua_rawget(L, -2);
    lua_remove(L, -2);
}

static bool is_users_timer(lua_State *L, const struct sv_lua *lua, int64_t id) {
    bool is_there;

    push_timer(L, lua, id);
    is_there = !lua_isnil(L, -1);
    lua_pop(L, 1);
    return is_there;
}

/* ---------------------------------------------------------------------------------------------------------- firing */

/* sv_lua_push: callback [, timer id] [, arguments...]. Nothing touches the timer after this: its own callback may end it. */
static int push_firing(lua_State *L, void *argument) {
    const struct timer *timer = argument;
    int table, i;

    luaL_checkstack(L, timer->count + 4, "arguments of a timer");
    lua_rawgeti(L, LUA_REGISTRYINDEX, timer->ref);
    table = lua_gettop(L);
    if (timer->count > 0)
        lua_rawgeti(L, table, 1);
    if (timer->is_repeating)
        lua_pushnumber(L, (double)timer->id);
    for (i = 0; i < timer->count; i++)
        lua_rawgeti(L, table, 2 + i);
    if (timer->count > 0)
        lua_remove(L, table);
    return lua_gettop(L) - table + 1;
}

static int fire(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct timer *timer = user_data;
    struct sv_lua *lua = timer->lua;

    (void)loop;
    (void)timer_id;
    if (lua->uses_coroutines && sv_lua_is_full(lua, "timer"))
        return 0;
    return sv_lua_start(lua, "timer", push_firing, timer);
}

/* The timer is gone for good. */
static void release_timer(void *user_data) {
    struct timer *timer = user_data;
    lua_State *L = timer->lua->L;

    lua_checkstack(L, 4);
    push_timer(L, timer->lua, timer->id);
    if (lua_touserdata(L, -1) == timer) { /* else: of the process that this one was forked from */
        lua_rawgeti(L, LUA_REGISTRYINDEX, timer->lua->timers_ref);
        lua_pushnumber(L, (double)timer->id);
        lua_pushnil(L);
        lua_rawset(L, -3);
        lua_pop(L, 1);
    }
    lua_pop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, timer->ref);
    free(timer);
}

/* ---------------------------------------------------------------------------------------------------------- making */

/* References the callback at `first` and the arguments behind it. */
static void take_callback(lua_State *L, int first, struct timer *timer) {
    int i;

    timer->count = lua_gettop(L) - first;
    if (timer->count > 0) {
        lua_createtable(L, timer->count + 1, 0);
        for (i = 0; i <= timer->count; i++) {
            lua_pushvalue(L, first + i);
            lua_rawseti(L, -2, i + 1);
        }
    } else {
        lua_pushvalue(L, first);
    }
    timer->ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* ms at `first`, callback, arguments... -> id | false, message, code. */
static int add_timer(lua_State *L, struct sv_lua *lua, struct sv_lua_server *self, int first, bool is_repeating) {
    double ms = sv_lua_check_number(L, first);
    struct timer template = {.lua = lua, .is_repeating = is_repeating};
    struct timer *timer;
    srvlua_loop *loop = sv_lua_loop(lua);

    sv_lua_check_callable(L, first + 1);
    if (!loop)
        return fail(L, self, SRVLUA_ERROR_WRONG_OPERATION, "timers need a loop: of a running server or srvlua.run");
    if (!(ms >= 1))
        return fail(L, self, SRVLUA_ERROR_INVALID_PARAMS, "a timer takes 1 millisecond or more");
    take_callback(L, first + 1, &template);
    timer = malloc(sizeof *timer);
    if (timer) {
        *timer = template;
        timer->id = srvlua_timer_add(loop, ms < 9e15 ? (int64_t)ms : (int64_t)9e15, is_repeating, fire, timer,
                                     release_timer);
    }
    if (!timer || timer->id < 0) {
        int code = timer ? (int)-timer->id : SRVLUA_ERROR_MALLOC_FAIL;
        luaL_unref(L, LUA_REGISTRYINDEX, template.ref);
        free(timer);
        return fail(L, self, code, srvlua_strerror(code));
    }
    lua->has_made_timer = true;
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->timers_ref);
    lua_pushnumber(L, (double)timer->id);
    lua_pushlightuserdata(L, timer);
    lua_rawset(L, -3);
    lua_pushnumber(L, (double)timer->id);
    return 1;
}

static int clear_timer(lua_State *L, struct sv_lua *lua, struct sv_lua_server *self, int argument) {
    int64_t id = sv_lua_check_integer(L, argument);
    srvlua_loop *loop = sv_lua_loop(lua);

    if (!loop)
        return fail(L, self, SRVLUA_ERROR_WRONG_OPERATION, "timers need a loop: of a running server or srvlua.run");
    if (!is_users_timer(L, lua, id) || srvlua_timer_clear(loop, id) < 0)
        return fail(L, self, SRVLUA_ERROR_INVALID_PARAMS, "no such timer in this process");
    lua_pushboolean(L, 1);
    return 1;
}

/* -------------------------------------------------------------------------------------------------------- deferring */

struct deferred {
    struct sv_lua *lua;
    int ref;
};

/* sv_lua_push: the function. */
static int push_deferred(lua_State *L, void *argument) {
    const struct deferred *deferred = argument;

    lua_rawgeti(L, LUA_REGISTRYINDEX, deferred->ref);
    return 1;
}

static int run_deferred(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct deferred *deferred = user_data;
    struct sv_lua *lua = deferred->lua;
    int result = 0;

    (void)loop;
    (void)timer_id;
    if (!lua->uses_coroutines || !sv_lua_is_full(lua, "deferred function"))
        result = sv_lua_start(lua, "deferred function", push_deferred, deferred);
    luaL_unref(lua->L, LUA_REGISTRYINDEX, deferred->ref);
    free(deferred);
    return result;
}

/* -------------------------------------------------------------------------------------------- methods of the server */

/* server:tick(ms, fn, ...) -> id */
int sv_lua_server_tick(lua_State *L, struct sv_lua_server *self) { return add_timer(L, self->lua, self, 2, true); }

/* server:after(ms, fn, ...) -> id */
int sv_lua_server_after(lua_State *L, struct sv_lua_server *self) { return add_timer(L, self->lua, self, 2, false); }

/* server:clearTimer(id) -> true */
int sv_lua_server_clear_timer(lua_State *L, struct sv_lua_server *self) { return clear_timer(L, self->lua, self, 2); }

int sv_lua_defer(lua_State *L, struct sv_lua *lua, struct sv_lua_server *self, int argument) {
    srvlua_loop *loop = sv_lua_loop(lua);
    struct deferred *deferred;
    int result;

    sv_lua_check_callable(L, argument);
    if (!loop)
        return fail(L, self, SRVLUA_ERROR_WRONG_OPERATION, "defer needs the loop of a running server");
    deferred = malloc(sizeof *deferred);
    if (!deferred)
        return fail(L, self, SRVLUA_ERROR_MALLOC_FAIL, srvlua_strerror(SRVLUA_ERROR_MALLOC_FAIL));
    lua_pushvalue(L, argument);
    deferred->lua = lua;
    deferred->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    result = srvlua_defer(loop, run_deferred, deferred);
    if (result < 0) {
        luaL_unref(L, LUA_REGISTRYINDEX, deferred->ref);
        free(deferred);
        return fail(L, self, -result, srvlua_strerror(-result));
    }
    lua_pushboolean(L, 1);
    return 1;
}

/* server:defer(fn) -> true */
int sv_lua_server_defer(lua_State *L, struct sv_lua_server *self) { return sv_lua_defer(L, self->lua, self, 2); }

/* --------------------------------------------------------------------------------------------------------- the module */

/* Timer.tick(ms, fn, ...) -> id */
static int timer_tick(lua_State *L) { return add_timer(L, sv_lua_of(L), NULL, 1, true); }

/* Timer.after(ms, fn, ...) -> id */
static int timer_after(lua_State *L) { return add_timer(L, sv_lua_of(L), NULL, 1, false); }

/* Timer.clear(id) -> true */
static int timer_clear(lua_State *L) { return clear_timer(L, sv_lua_of(L), NULL, 1); }

/* Timer.clearAll() -> true */
static int timer_clear_all(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    srvlua_loop *loop = sv_lua_loop(lua);

    if (!loop || !lua->has_made_timer)
        return fail(L, NULL, loop ? SRVLUA_ERROR_INVALID_PARAMS : SRVLUA_ERROR_WRONG_OPERATION,
                    "no timer was made in this process");
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->timers_ref);
    for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1))
        srvlua_timer_clear(loop, (int64_t)lua_tonumber(L, -2)); /* takes its entry away, which lua_next allows */
    lua_pushboolean(L, 1);
    return 1;
}

/* Timer.exists(id) -> boolean */
static int timer_exists(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    int64_t id = sv_lua_check_integer(L, 1);
    srvlua_loop *loop = sv_lua_loop(lua);
    struct srvlua_timer_info info;

    lua_pushboolean(L, loop && is_users_timer(L, lua, id) && srvlua_timer_get_info(loop, id, &info) && !info.removed);
    return 1;
}

/* Timer.info(id) -> table | nil */
static int timer_info(lua_State *L) {
    int64_t id = sv_lua_check_integer(L, 1);
    srvlua_loop *loop = sv_lua_loop(sv_lua_of(L));
    struct srvlua_timer_info info;

    if (!loop || !srvlua_timer_get_info(loop, id, &info)) {
        lua_pushnil(L);
        return 1;
    }
    lua_createtable(L, 0, 5);
    lua_pushnumber(L, (double)info.exec_msec);
    lua_setfield(L, -2, "exec_msec");
    lua_pushnumber(L, (double)info.exec_count);
    lua_setfield(L, -2, "exec_count");
    lua_pushnumber(L, (double)info.interval);
    lua_setfield(L, -2, "interval");
    lua_pushnumber(L, (double)info.round);
    lua_setfield(L, -2, "round");
    lua_pushboolean(L, info.removed);
    lua_setfield(L, -2, "removed");
    return 1;
}

/* Timer.list() -> ids, ascending */
static int timer_list(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    srvlua_loop *loop = sv_lua_loop(lua);
    int64_t none;
    size_t i, count = loop ? srvlua_timer_list(loop, &none, 0) : 0;
    int64_t *ids = lua_newuserdata(L, (count + 1) * sizeof *ids);
    int used = 0;

    if (loop)
        count = srvlua_timer_list(loop, ids, count);
    lua_newtable(L);
    for (i = 0; i < count; i++) {
        if (!is_users_timer(L, lua, ids[i]))
            continue;
        lua_pushnumber(L, (double)ids[i]);
        lua_rawseti(L, -2, ++used);
    }
    return 1;
}

/* Timer.stats() -> { initialized =, num =, round = } */
static int timer_stats(lua_State *L) {
    srvlua_loop *loop = sv_lua_loop(sv_lua_of(L));
    struct srvlua_timer_stats stats = {0, 0, 0};

    if (loop)
        srvlua_timer_get_stats(loop, &stats);
    lua_createtable(L, 0, 3);
    lua_pushboolean(L, stats.initialized);
    lua_setfield(L, -2, "initialized");
    lua_pushnumber(L, (double)stats.num);
    lua_setfield(L, -2, "num");
    lua_pushnumber(L, (double)stats.round);
    lua_setfield(L, -2, "round");
    return 1;
}

static const struct sv_lua_function timer_functions[] = {
    SV_LUA_FUNCTION("tick", timer_tick),
    SV_LUA_FUNCTION("after", timer_after),
    SV_LUA_FUNCTION("clear", timer_clear),
    SV_LUA_FUNCTION("clearAll", timer_clear_all),
    SV_LUA_FUNCTION("exists", timer_exists),
    SV_LUA_FUNCTION("info", timer_info),
    SV_LUA_FUNCTION("list", timer_list),
    SV_LUA_FUNCTION("stats", timer_stats),
    SV_LUA_END,
};

void sv_lua_push_timer_module(lua_State *L, struct sv_lua *lua) {
    lua_newtable(L);
    sv_lua_register(L, lua, timer_functions);
}
