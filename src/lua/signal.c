/* signal.c: Process.signal: Lua functions that handle signals, called from the loop. */
#include <signal.h>
#include <time.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/process.h"
#include "lua/process_object.h"
#include "lua/values.h"

#define IGNORE 1 /* srvlua.SIG_IGN */

struct signal_call {
    struct sv_lua *lua;
    int signo;
};

/* sv_lua_push: handler, signo. */
static int push_handler(lua_State *L, void *argument) {
    const struct signal_call *call = argument;

    lua_rawgeti(L, LUA_REGISTRYINDEX, call->lua->signals_ref);
    lua_rawgeti(L, -1, call->signo);
    lua_remove(L, -2);
    lua_pushinteger(L, call->signo);
    return 2;
}

static int on_signal(srvlua_loop *loop, int signo, void *user_data) {
    struct signal_call call = {user_data, signo};

    (void)loop;
    if (call.lua->uses_coroutines && sv_lua_is_full(call.lua, "signal handler"))
        return 0;
    return sv_lua_start(call.lua, "signal handler", push_handler, &call);
}

static int ignore(srvlua_loop *loop, int signo, void *user_data) {
    (void)loop;
    (void)signo;
    (void)user_data;
    return 0;
}

/* The handler at argument 2 as srvlua_signal() takes it. */
static srvlua_signal_callback check_handler(lua_State *L) {
    if (lua_isnoneornil(L, 2))
        return NULL;
    if (lua_type(L, 2) == LUA_TNUMBER && lua_tonumber(L, 2) == IGNORE)
        return ignore;
    sv_lua_check_callable(L, 2);
    return on_signal;
}

/* What came while a signal was ignored is not for the next handler, nor for the kernel's default. */
static void drop_ignored(lua_State *L, const struct sv_lua *lua, int signo) {
    const struct timespec now = {0, 0};
    sigset_t one;

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->signals_ref);
    lua_rawgeti(L, -1, signo);
    if (lua_type(L, -1) == LUA_TNUMBER && sigemptyset(&one) == 0 && sigaddset(&one, signo) == 0)
        while (sigtimedwait(&one, NULL, &now) == signo)
            ;
    lua_pop(L, 2);
}

int sv_lua_process_signal(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    int signo = sv_lua_check_int(L, 1);
    srvlua_signal_callback callback = check_handler(L);
    srvlua_loop *loop = sv_lua_loop(lua);
    struct srvlua_status status;

    if (!loop)
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "signals are handled by a loop, and this process has none");
    drop_ignored(L, lua, signo);
    if (srvlua_signal(loop, signo, callback, lua, &status) < 0)
        return sv_lua_fail(L, &status);
    lua_settop(L, 2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->signals_ref);
    lua_insert(L, 2);
    lua_rawseti(L, 2, signo);
    lua_pushboolean(L, 1);
    return 1;
}

void sv_lua_forget_signals(lua_State *L, struct sv_lua *lua) {
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, lua->signals_ref);
}
