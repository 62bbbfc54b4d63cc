/* lock.c: shared locks; see lock.h. */
#include "lua/lock.h"

#include <errno.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/polling.h"
#include "lua/values.h"

const struct sv_lua_kind sv_lua_lock_kind = {"srvlua.Lock"};

struct lock {
    const struct sv_lua_kind *kind;
    srvlua_lock *lock;
};

static struct lock *check_lock(lua_State *L) {
    struct lock *self = sv_lua_check_self(L, &sv_lua_lock_kind);

    if (!self->lock)
        luaL_error(L, "the lock was collected"); /* the Lua state ends */
    return self;
}

/* The lock, which readers can share. */
static struct lock *check_rwlock(lua_State *L) {
    struct lock *self = check_lock(L);

    if (srvlua_lock_get_type(self->lock) != SRVLUA_RWLOCK)
        luaL_error(L, "calling '%s' on a lock that is no RWLOCK", sv_lua_row(L)->name);
    return self;
}

/* ---------------------------------------------------------------------------------------------------------- results */

static const char *describe(int code) {
    switch (code) {
    case EPERM:
        return "this process does not hold the lock";
    case EBUSY:
        return "the lock is held";
    case EDEADLK:
        return "this process holds the lock";
    case ETIMEDOUT:
        return "the lock was held for too long";
    case EAGAIN:
        return "too many processes use the lock";
    default:
        return srvlua_strerror(code);
    }
}

/* true[, 'abandoned'] | false, message, code */
static int push_result(lua_State *L, int result) {
    if (result < 0)
        return sv_lua_fail_with(L, -result, describe(-result));
    lua_pushboolean(L, 1);
    if (result == 0)
        return 1;
    lua_pushliteral(L, "abandoned");
    return 2;
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

static int look_to_write(void *object) { return srvlua_lock_poll(((struct lock *)object)->lock, 0); }

static int look_to_read(void *object) { return srvlua_lock_poll(((struct lock *)object)->lock, 1); }

static void leave_writers(void *object) { srvlua_lock_announce_writer(((struct lock *)object)->lock, -1); }

static int wait_for_lock(lua_State *L, struct lock *self, int shared, double default_timeout) {
    double timeout = sv_lua_optional_timeout(L, 2, default_timeout);
    struct sv_lua_poll poll = {.name = shared ? "Lock:lockRead" : "Lock:lock",
                               .object = self,
                               .look = shared ? look_to_read : look_to_write,
                               .leave = shared ? NULL : leave_writers,
                               .push = push_result};
    int result = srvlua_lock_trylock(self->lock, shared);
    struct sv_lua_coroutine *coroutine;

    if (result != -EBUSY)
        return push_result(L, result);
    coroutine = sv_lua_suspendable(L);
    if (!coroutine) /* also tells who would wait for itself */
        return push_result(L, srvlua_lock_lock(self->lock, shared, timeout));
    if (timeout == 0)
        return push_result(L, -ETIMEDOUT);
    if (!shared)
        srvlua_lock_announce_writer(self->lock, 1);
    return sv_lua_poll(L, coroutine, &poll, timeout);
}

/* ---------------------------------------------------------------------------------------------------------- methods */

/* lock:lock([timeout = -1]) -> true[, 'abandoned'] */
static int lock_lock(lua_State *L) { return wait_for_lock(L, check_lock(L), 0, -1); }

/* lock:lockwait([timeout = 1.0]) -> true[, 'abandoned'] */
static int lock_lockwait(lua_State *L) { return wait_for_lock(L, check_lock(L), 0, 1.0); }

/* lock:lockRead([timeout = -1]) -> true[, 'abandoned'] */
static int lock_lock_read(lua_State *L) { return wait_for_lock(L, check_rwlock(L), 1, -1); }

/* lock:trylock() -> true[, 'abandoned'] */
static int lock_trylock(lua_State *L) { return push_result(L, srvlua_lock_trylock(check_lock(L)->lock, 0)); }

/* lock:trylockRead() -> true[, 'abandoned'] */
static int lock_trylock_read(lua_State *L) { return push_result(L, srvlua_lock_trylock(check_rwlock(L)->lock, 1)); }

/* lock:unlock() -> true */
static int lock_unlock(lua_State *L) { return push_result(L, srvlua_lock_unlock(check_lock(L)->lock)); }

/* ---------------------------------------------------------------------------------------------------------- objects */

static int lock_gc(lua_State *L) {
    struct lock *self = sv_lua_check_self(L, &sv_lua_lock_kind);

    srvlua_lock_free(self->lock);
    self->lock = NULL;
    return 0;
}

static const struct sv_lua_function methods[] = {
    SV_LUA_METHOD("lock", lock_lock),
    SV_LUA_METHOD("trylock", lock_trylock),
    SV_LUA_METHOD("lockwait", lock_lockwait),
    SV_LUA_METHOD("unlock", lock_unlock),
    SV_LUA_METHOD("lockRead", lock_lock_read),
    SV_LUA_METHOD("trylockRead", lock_trylock_read),
    SV_LUA_METHOD("lock_read", lock_lock_read),
    SV_LUA_METHOD("trylock_read", lock_trylock_read),
    SV_LUA_END,
};

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__gc", lock_gc),
    SV_LUA_END,
};

/* Lock([type = MUTEX]) */
static int lock_new(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    int type = sv_lua_optional_int(L, 2, SRVLUA_MUTEX);
    struct srvlua_status status;
    struct lock *self;

    if (type != SRVLUA_RWLOCK && type != SRVLUA_MUTEX && type != SRVLUA_SPINLOCK)
        return sv_lua_argument_error(L, 2, lua_pushfstring(L, "RWLOCK, MUTEX or SPINLOCK expected, got %d", type));
    sv_lua_refuse_while_running(L, lua, "a shared lock");
    self = lua_newuserdata(L, sizeof *self);
    self->kind = &sv_lua_lock_kind;
    self->lock = srvlua_lock_new(type, &status);
    if (!self->lock)
        return sv_lua_raise(L, &status);
    luaL_getmetatable(L, sv_lua_lock_kind.name);
    lua_setmetatable(L, -2);
    return 1;
}

void sv_lua_lock_open(lua_State *L, struct sv_lua *lua) {
    sv_lua_new_metatable(L, lua, sv_lua_lock_kind.name, metamethods, methods);
    lua_pop(L, 1);
}

void sv_lua_push_lock_class(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function constructor = SV_LUA_METHOD("Lock", lock_new);

    sv_lua_push_class(L, lua, &constructor);
    lua_pushinteger(L, SRVLUA_RWLOCK);
    lua_setfield(L, -2, "RWLOCK");
    lua_pushinteger(L, SRVLUA_MUTEX);
    lua_setfield(L, -2, "MUTEX");
    lua_pushinteger(L, SRVLUA_SPINLOCK);
    lua_setfield(L, -2, "SPINLOCK");
}
