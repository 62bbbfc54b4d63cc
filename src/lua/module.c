/* module.c: luaopen_srvlua_core, the C part of `require 'srvlua'`; registration; objects. See binding.h. */
#include <stdio.h>
#include <string.h>

#include "lua/atomic.h"
#include "lua/client/client.h"
#include "lua/compat.h"
#include "lua/connections.h"
#include "lua/constants.h"
#include "lua/coroutine.h"
#include "lua/coroutine_module.h"
#include "lua/dns.h"
#include "lua/errors.h"
#include "lua/event.h"
#include "lua/lock.h"
#include "lua/port.h"
#include "lua/process.h"
#include "lua/resp.h"
#include "lua/serialise.h"
#include "lua/script_loop.h"
#include "lua/server.h"
#include "lua/socket.h"
#include "lua/system.h"
#include "lua/table.h"
#include "lua/task_form.h"
#include "lua/task.h"
#include "lua/thread.h"
#include "lua/timer.h"

SRVLUA_API int luaopen_srvlua_core(lua_State *L);

void sv_lua_register(lua_State *L, struct sv_lua *lua, const struct sv_lua_function *rows) {
    for (; rows->name; rows++) {
        lua_pushlightuserdata(L, (void *)rows);
        lua_pushlightuserdata(L, lua);
        lua_pushcclosure(L, rows->server_method ? sv_lua_call_server_method : rows->function, 2);
        lua_setfield(L, -2, rows->name);
    }
}

void sv_lua_new_metatable(lua_State *L, struct sv_lua *lua, const char *name, const struct sv_lua_function *metamethods,
                          const struct sv_lua_function *methods) {
    luaL_newmetatable(L, name);
    sv_lua_register(L, lua, metamethods);
    lua_newtable(L);
    sv_lua_register(L, lua, methods);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, name);
    lua_setfield(L, -2, "__metatable");
}

void sv_lua_push_class(lua_State *L, struct sv_lua *lua, const struct sv_lua_function *constructor) {
    lua_newtable(L);
    lua_createtable(L, 0, 1);
    lua_pushlightuserdata(L, (void *)constructor);
    lua_pushlightuserdata(L, lua);
    lua_pushcclosure(L, constructor->function, 2);
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, -2);
}

void sv_lua_refuse_while_running(lua_State *L, const struct sv_lua *lua, const char *what) {
    struct srvlua_status status = {.code = SRVLUA_ERROR_WRONG_OPERATION};

    if (!lua->is_running)
        return;
    snprintf(status.message, sizeof status.message, "%s of a running server's process would be that process's own", what);
    sv_lua_raise(L, &status);
}

void *sv_lua_to_object(lua_State *L, int index, const struct sv_lua_kind *kind) {
    const struct sv_lua_kind **object = lua_touserdata(L, index);

    if (!object || lua_objlen(L, index) < sizeof *object) /* light userdata have length 0 */
        return NULL;
    return *object == kind ? object : NULL;
}

void *sv_lua_check_self(lua_State *L, const struct sv_lua_kind *kind) {
    void *object = sv_lua_to_object(L, 1, kind);

    if (!object)
        luaL_error(L, "calling '%s' on bad self (%s expected, got %s)", sv_lua_row(L)->name, kind->name,
                   luaL_typename(L, 1));
    return object;
}

void sv_lua_keep_alive(lua_State *L, int owner_index) {
    lua_createtable(L, 1, 0);
    lua_pushvalue(L, owner_index);
    lua_rawseti(L, -2, 1);
    lua_setfenv(L, -2);
}

static int state_gc(lua_State *L) {
    sv_lua_sockets_close(lua_touserdata(L, 1));
    sv_lua_dns_close(lua_touserdata(L, 1));
    sv_lua_coroutine_close(lua_touserdata(L, 1));
    sv_lua_thread_close(lua_touserdata(L, 1));
    return 0;
}

/* Makes the binding's state and puts it into the registry. */
static struct sv_lua *new_state(lua_State *L) {
    struct sv_lua *lua = lua_newuserdata(L, sizeof *lua);

    memset(lua, 0, sizeof *lua);
    lua_pushthread(L); /* to outlive who loads the module */
    luaL_ref(L, LUA_REGISTRYINDEX);
    lua->L = L;
    lua->role = SRVLUA_ROLE_BEFORE;
    lua->server_ref = LUA_NOREF;
    lua->sockets_ref = LUA_NOREF;
    lua->loaded_modules_ref = LUA_NOREF;
    lua->main_error_ref = LUA_NOREF;
    lua->cycle_refs[0] = lua->cycle_refs[1] = LUA_NOREF;
    lua_createtable(L, 0, 1);
    lua_pushcfunction(L, state_gc);
    lua_setfield(L, -2, "__gc");
    lua_setmetatable(L, -2);
    lua_setfield(L, LUA_REGISTRYINDEX, SV_LUA_STATE_NAME);

    lua_newtable(L);
    lua->timers_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(L, "math");
    lua_getfield(L, -1, "randomseed");
    lua->random_seed_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
    sv_lua_coroutine_open(L, lua);
    sv_lua_thread_open(L, lua);
    sv_lua_serialise_open(L, lua);
    sv_lua_task_open(L, lua);
    sv_lua_connections_open(L, lua);
    sv_lua_socket_open(L, lua);
    sv_lua_port_open(L, lua);
    sv_lua_server_open(L, lua);
    sv_lua_table_open(L, lua);
    sv_lua_atomic_open(L, lua);
    sv_lua_lock_open(L, lua);
    sv_lua_process_open(L, lua);
    sv_lua_wrap_exit(L, lua);
    return lua;
}

/* -> table: Server, constants, version, version_id, the functions of runtime.md 1 and 9, and a table of each module's C part */
int luaopen_srvlua_core(lua_State *L) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("sleep", sv_lua_sleep),
        SV_LUA_FUNCTION("go", sv_lua_go),
        SV_LUA_FUNCTION("run", sv_lua_run_script),
        SV_LUA_END,
    };
    struct sv_lua *lua;

    lua_getfield(L, LUA_REGISTRYINDEX, SV_LUA_STATE_NAME);
    lua = lua_touserdata(L, -1);
    if (!lua)
        lua = new_state(L);
    lua_newtable(L);
    sv_lua_register(L, lua, functions);
    sv_lua_register_system(L, lua);
    sv_lua_push_server_class(L, lua);
    lua_setfield(L, -2, "Server");
    sv_lua_push_timer_module(L, lua);
    lua_setfield(L, -2, "Timer");
    sv_lua_push_table_class(L, lua);
    lua_setfield(L, -2, "Table");
    sv_lua_push_task_module(L, lua);
    lua_setfield(L, -2, "Task");
    sv_lua_push_atomic_class(L, lua);
    lua_setfield(L, -2, "Atomic");
    sv_lua_push_lock_class(L, lua);
    lua_setfield(L, -2, "Lock");
    sv_lua_push_coroutine_module(L, lua);
    lua_setfield(L, -2, "coroutine");
    sv_lua_push_event_module(L, lua);
    lua_setfield(L, -2, "Event");
    sv_lua_push_dns_module(L, lua);
    lua_setfield(L, -2, "dns");
    sv_lua_push_process_class(L, lua);
    lua_setfield(L, -2, "Process");
    sv_lua_push_socket_module(L, lua);
    lua_setfield(L, -2, "socket");
    sv_lua_push_redis_module(L, lua);
    lua_setfield(L, -2, "redis");
    sv_lua_push_compat_module(L, lua);
    lua_setfield(L, -2, "compat");
    sv_lua_push_constants(L);
    lua_setfield(L, -2, "constants");
    lua_pushliteral(L, SRVLUA_VERSION);
    lua_setfield(L, -2, "version");
    lua_pushinteger(L, SRVLUA_VERSION_ID);
    lua_setfield(L, -2, "version_id");
    return 1;
}
