/* atomic.c: shared numbers; see atomic.h. */
#include "lua/atomic.h"

#include <errno.h>
#include <limits.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/integers.h"
#include "lua/polling.h"
#include "lua/values.h"

#define LONG_NAME "srvlua.Atomic.Long"

const struct sv_lua_kind sv_lua_atomic_kind = {"srvlua.Atomic"};

struct atomic {
    const struct sv_lua_kind *kind;
    srvlua_atomic *atomic;
    bool is_long;
};

static struct atomic *check_atomic(lua_State *L) {
    struct atomic *self = sv_lua_check_self(L, &sv_lua_atomic_kind);

    if (!self->atomic)
        luaL_error(L, "the number was collected"); /* the Lua state ends */
    return self;
}

/* A value of a number of that width. */
static int64_t optional_value(lua_State *L, int argument, bool is_long, int64_t value) {
    value = sv_lua_optional_int64(L, argument, value);
    if (!is_long && (value < 0 || value > UINT32_MAX))
        sv_lua_argument_error(L, argument, "a number from 0 to 2^32-1 expected");
    return value;
}

static int64_t check_value(lua_State *L, int argument, bool is_long) {
    if (lua_isnoneornil(L, argument))
        sv_lua_type_error(L, argument, "integer");
    return optional_value(L, argument, is_long, 0);
}

/* atomic:get() -> number */
static int atomic_get(lua_State *L) {
    sv_lua_push_int64(L, srvlua_atomic_get(check_atomic(L)->atomic));
    return 1;
}

/* atomic:set(n) -> true */
static int atomic_set(lua_State *L) {
    struct atomic *self = check_atomic(L);

    srvlua_atomic_set(self->atomic, check_value(L, 2, self->is_long));
    lua_pushboolean(L, 1);
    return 1;
}

/* atomic:add([n = 1]) -> new value */
static int atomic_add(lua_State *L) {
    struct atomic *self = check_atomic(L);

    sv_lua_push_int64(L, srvlua_atomic_add(self->atomic, optional_value(L, 2, self->is_long, 1)));
    return 1;
}

/* atomic:sub([n = 1]) -> new value */
static int atomic_sub(lua_State *L) {
    struct atomic *self = check_atomic(L);
    uint64_t change = (uint64_t)optional_value(L, 2, self->is_long, 1);

    sv_lua_push_int64(L, srvlua_atomic_add(self->atomic, (int64_t)(0 - change)));
    return 1;
}

/* atomic:cmpset(old, new) -> boolean */
static int atomic_cmpset(lua_State *L) {
    struct atomic *self = check_atomic(L);
    int64_t expected = check_value(L, 2, self->is_long);

    lua_pushboolean(L, srvlua_atomic_cmpset(self->atomic, expected, check_value(L, 3, self->is_long)));
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

static int look(void *object) {
    int result = srvlua_atomic_wait(((struct atomic *)object)->atomic, 0);

    return result == -ETIMEDOUT ? -EBUSY : result;
}

static int push_result(lua_State *L, int result) {
    if (result == -ETIMEDOUT)
        return sv_lua_fail_with(L, ETIMEDOUT, "nobody woke it up in time");
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    lua_pushboolean(L, 1);
    return 1;
}

/* atomic:wait([timeout = 1.0]) -> true */
static int atomic_wait(lua_State *L) {
    struct atomic *self = check_atomic(L);
    double timeout = sv_lua_optional_timeout(L, 2, 1.0);
    struct sv_lua_poll poll = {.name = "Atomic:wait", .object = self, .look = look, .push = push_result};
    struct sv_lua_coroutine *coroutine;
    int result = look(self);

    if (result != -EBUSY || timeout == 0)
        return push_result(L, result == -EBUSY ? -ETIMEDOUT : result);
    coroutine = sv_lua_suspendable(L);
    if (coroutine)
        return sv_lua_poll(L, coroutine, &poll, timeout);
    return push_result(L, srvlua_atomic_wait(self->atomic, timeout));
}

/* atomic:wakeup([n = 1]) -> true */
static int atomic_wakeup(lua_State *L) {
    struct atomic *self = check_atomic(L);
    int64_t count = sv_lua_optional_integer(L, 2, 1);

    if (count < 1)
        return sv_lua_argument_error(L, 2, "a number from 1 on expected");
    return push_result(L, srvlua_atomic_wakeup(self->atomic, count < INT_MAX ? (int)count : INT_MAX));
}

/* ---------------------------------------------------------------------------------------------------------- objects */

static int atomic_gc(lua_State *L) {
    struct atomic *self = sv_lua_check_self(L, &sv_lua_atomic_kind);

    srvlua_atomic_free(self->atomic);
    self->atomic = NULL;
    return 0;
}

static const struct sv_lua_function long_methods[] = {
    SV_LUA_METHOD("get", atomic_get),
    SV_LUA_METHOD("set", atomic_set),
    SV_LUA_METHOD("add", atomic_add),
    SV_LUA_METHOD("sub", atomic_sub),
    SV_LUA_METHOD("cmpset", atomic_cmpset),
    SV_LUA_END,
};

/* What Atomic has besides. */
static const struct sv_lua_function waiting_methods[] = {
    SV_LUA_METHOD("wait", atomic_wait),
    SV_LUA_METHOD("wakeup", atomic_wakeup),
    SV_LUA_END,
};

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__gc", atomic_gc),
    SV_LUA_END,
};

static int make_atomic(lua_State *L, bool is_long) {
    struct sv_lua *lua = sv_lua_of(L);
    int64_t value = optional_value(L, 2, is_long, 0);
    struct srvlua_status status;
    struct atomic *self;

    sv_lua_refuse_while_running(L, lua, "a shared number");
    self = lua_newuserdata(L, sizeof *self);
    self->kind = &sv_lua_atomic_kind;
    self->is_long = is_long;
    self->atomic = srvlua_atomic_new(is_long, value, &status);
    if (!self->atomic)
        return sv_lua_raise(L, &status);
    luaL_getmetatable(L, is_long ? LONG_NAME : sv_lua_atomic_kind.name);
    lua_setmetatable(L, -2);
    return 1;
}

/* Atomic([value = 0]) */
static int atomic_new(lua_State *L) { return make_atomic(L, false); }

/* Atomic.Long([value = 0]) */
static int long_new(lua_State *L) { return make_atomic(L, true); }

void sv_lua_atomic_open(lua_State *L, struct sv_lua *lua) {
    sv_lua_new_metatable(L, lua, sv_lua_atomic_kind.name, metamethods, long_methods);
    lua_getfield(L, -1, "__index");
    sv_lua_register(L, lua, waiting_methods);
    lua_pop(L, 2);
    sv_lua_new_metatable(L, lua, LONG_NAME, metamethods, long_methods);
    lua_pop(L, 1);
}

void sv_lua_push_atomic_class(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function constructor = SV_LUA_METHOD("Atomic", atomic_new);
    static const struct sv_lua_function long_constructor = SV_LUA_METHOD("Long", long_new);

    sv_lua_push_class(L, lua, &constructor);
    sv_lua_push_class(L, lua, &long_constructor);
    lua_setfield(L, -2, "Long");
}
