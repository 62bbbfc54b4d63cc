/* system.c: process, clocks, log, os.exit; see system.h. */
#include "lua/system.h"

#include <stdio.h>
#include <time.h>
#include <unistd.h>

#include "lua/errors.h"
#include "lua/values.h"

/* srvlua.getpid() -> int */
static int get_pid(lua_State *L) {
    lua_pushinteger(L, getpid());
    return 1;
}

/* srvlua.setProcessName(name) -> true */
static int set_process_name(lua_State *L) {
    int result = srvlua_set_process_name(sv_lua_check_text(L, 1));

    if (result < 0)
        return sv_lua_fail_code(L, -result);
    lua_pushboolean(L, 1);
    return 1;
}

/* srvlua.now() -> seconds since the epoch */
static int now(lua_State *L) {
    struct timespec time;

    clock_gettime(CLOCK_REALTIME, &time);
    lua_pushnumber(L, (double)time.tv_sec + (double)time.tv_nsec / 1e9);
    return 1;
}

/* srvlua.hrtime() -> nanoseconds of the monotonic clock */
static int high_resolution_time(lua_State *L) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    lua_pushnumber(L, (double)time.tv_sec * 1e9 + (double)time.tv_nsec);
    return 1;
}

/* srvlua.strerror(code) -> text */
static int string_error(lua_State *L) {
    lua_pushstring(L, srvlua_strerror(sv_lua_check_int(L, 1)));
    return 1;
}

/* core.log(level, text) -> true; srvlua.log joins its values to the text */
static int log_line(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    int level = sv_lua_check_int(L, 1);
    size_t length;
    const char *text = sv_lua_check_string(L, 2, &length);

    if (level < SRVLUA_LOG_DEBUG || level > SRVLUA_LOG_ERROR)
        return sv_lua_fail_code(L, SRVLUA_ERROR_INVALID_PARAMS);
    srvlua_log(lua->server ? lua->server->server : NULL, level, "%.*s", length < 65536 ? (int)length : 65536, text);
    lua_pushboolean(L, 1);
    return 1;
}

/* core.loadedModules() -> table with the names of modules as keys, as it was when start() was called, or as it is */
static int loaded_modules(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    if (lua->loaded_modules_ref == LUA_NOREF)
        lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    else
        lua_rawgeti(L, LUA_REGISTRYINDEX, lua->loaded_modules_ref);
    return 1;
}

/* os.exit([code [, close]]) */
static int exit_process(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    if (lua->is_running)
        srvlua_flush(lua->server->server);
    fflush(NULL);
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_insert(L, 1);
    lua_call(L, lua_gettop(L) - 1, 0);
    return 0;
}

void sv_lua_register_system(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("getpid", get_pid),
        SV_LUA_FUNCTION("setProcessName", set_process_name),
        SV_LUA_FUNCTION("now", now),
        SV_LUA_FUNCTION("hrtime", high_resolution_time),
        SV_LUA_FUNCTION("strerror", string_error),
        SV_LUA_FUNCTION("log", log_line),
        SV_LUA_FUNCTION("loadedModules", loaded_modules),
        SV_LUA_END,
    };

    sv_lua_register(L, lua, functions);
}

void sv_lua_wrap_exit(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function row = SV_LUA_FUNCTION("exit", exit_process);

    lua_getglobal(L, "os");
    if (lua_istable(L, -1)) {
        lua_pushlightuserdata(L, (void *)&row);
        lua_pushlightuserdata(L, lua);
        lua_getfield(L, -3, "exit");
        lua_pushcclosure(L, exit_process, 3);
        lua_setfield(L, -2, "exit");
    }
    lua_pop(L, 1);
}
