/* server.c: the server object; see server.h. Each method checks its arguments, calls one function of srvlua.h and pushes
 * the result. */
#include "lua/server.h"

#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lua/callbacks.h"
#include "lua/command.h"
#include "lua/connection_methods.h"
#include "lua/connections.h"
#include "lua/coroutine.h"
#include "lua/dispatch_state.h"
#include "lua/errors.h"
#include "lua/event.h"
#include "lua/length_state.h"
#include "lua/port.h"
#include "lua/process.h"
#include "lua/resp.h"
#include "lua/socket.h"
#include "lua/task.h"
#include "lua/timer.h"
#include "lua/values.h"

#define STATS_MAX 64

const struct sv_lua_kind sv_lua_server_kind = {"srvlua.Server"};

/* -------------------------------------------------------------------------------------------------- settings, ports */

/* Pushes a field of the environment of the server at index 1. */
static void push_private(lua_State *L, const char *name) {
    lua_getfenv(L, 1);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

/* server:set(settings) -> true; raises for a bad setting */
static int server_set(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_status status;
    size_t count;
    const struct srvlua_setting *settings = sv_lua_check_settings(L, 2, &count);
    int result = srvlua_set(self->server, settings, count, &status);

    if (result == -SRVLUA_ERROR_WRONG_OPERATION)
        return sv_lua_fail(L, &status);
    if (result < 0)
        return luaL_error(L, "%s", status.message);
    push_private(L, "setting");
    sv_lua_copy_entries(L, 2, lua_gettop(L));
    push_private(L, "ports"); /* the primary port has the same table now */
    lua_rawgeti(L, -1, 1);
    lua_getfenv(L, -1);
    lua_pushvalue(L, -4);
    lua_setfield(L, -2, "setting");
    lua_pushboolean(L, 1);
    return 1;
}

/* server:on(event, callback) -> true */
static int server_on(lua_State *L, struct sv_lua_server *self) { return sv_lua_register_callback(L, self, NULL); }

/* Adds a new port object to the server at index 1 and pushes it. */
static struct sv_lua_port *add_port(lua_State *L, srvlua_port *port) {
    struct sv_lua_port *object = sv_lua_push_port(L, 1, port);

    push_private(L, "ports");
    lua_pushvalue(L, -2);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 1);
    luaL_getmetafield(L, 1, "__index"); /* server.ports is the program's to read, the private list is ours to trust */
    lua_getfield(L, -1, "ports");
    lua_pushvalue(L, -3);
    lua_rawseti(L, -2, (int)lua_objlen(L, -2) + 1);
    lua_pop(L, 2);
    return object;
}

/* server:addListener(host, port, sock_type) -> Port */
static int server_add_listener(lua_State *L, struct sv_lua_server *self) {
    const char *host = sv_lua_check_text(L, 2);
    int number = sv_lua_check_int(L, 3);
    int type = sv_lua_check_int(L, 4);
    srvlua_port *port;
    struct srvlua_status status;

    if (srvlua_add_listener(self->server, host, number, type, &port, &status) < 0)
        return sv_lua_fail(L, &status);
    add_port(L, port);
    return 1;
}

/* ------------------------------------------------------------------------------------------------------------ start */

/* What `srvlua -c` makes of start(): the checks, and the process ends. */
static int check_and_exit(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_status status;
    const char *script;
    int result = sv_lua_take_commands(L, self, &status);

    if (result == 0)
        result = srvlua_check(self->server, &status);
    lua_getfield(L, LUA_REGISTRYINDEX, "srvlua.script");
    script = lua_tostring(L, -1);
    if (result < 0)
        fprintf(stderr, "%s: %s\n", script ? script : "srvlua", status.message);
    else
        printf("%s: ok\n", script ? script : "srvlua");
    srvlua_free(self->server); /* with the files of unix sockets */
    fflush(NULL);
    exit(result < 0 ? 1 : 0);
}

/* Remembers which modules there are: those that a reload cannot refresh. */
static void remember_modules(lua_State *L, struct sv_lua *lua) {
    lua_newtable(L);
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    sv_lua_copy_entries(L, lua_gettop(L), lua_gettop(L) - 1);
    lua_pop(L, 1);
    luaL_unref(L, LUA_REGISTRYINDEX, lua->loaded_modules_ref);
    lua->loaded_modules_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

/* The modules whose fields of srvlua are loaded at first use cannot be found from within another root. */
static void load_for_other_root(lua_State *L, const struct sv_lua_server *self) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};
    int top = lua_gettop(L);

    srvlua_get_setting(self->server, "chroot", &value);
    if (value.type != SRVLUA_VALUE_STRING || !value.length)
        return;
    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    lua_getfield(L, -1, "srvlua.core");
    lua_getfield(L, -1, "loadModules"); /* of srvlua/init.lua */
    if (lua_isfunction(L, -1))
        lua_pcall(L, 0, 0, 0);
    lua_settop(L, top);
}

struct start_call {
    struct sv_lua_server *self;
    struct srvlua_status status;
    int result;
};

/* Runs the server on the running thread's stack. */
static int run_server(lua_State *L) {
    struct start_call *call = lua_touserdata(L, 1);
    struct sv_lua *lua = call->self->lua;
    lua_State *previous = lua->L;

    lua->L = L;
    call->result = srvlua_start(call->self->server, &call->status);
    if (srvlua_get_role(call->self->server) != SRVLUA_ROLE_BEFORE)
        sv_lua_adopt_process(lua);
    lua->L = previous;
    return 0;
}

/* An error came through the server's own functions: there was no memory to call Lua at all. What they were doing is lost,
 * so this process cannot go on; its parent starts another. */
static void end_child(struct sv_lua_server *self, const char *message) {
    if (getpid() == self->lua->starter)
        return;
    srvlua_log(self->server, SRVLUA_LOG_ERROR, "the process ends: %s", message);
    fflush(NULL);
    _exit(255);
}

/* server:start() -> true; only the process that called it returns from it */
static int server_start(lua_State *L, struct sv_lua_server *self) {
    struct sv_lua *lua = self->lua;
    struct start_call call = {.self = self};
    int status;

    lua_settop(L, 1);
    sv_lua_prepare_dispatch_states(L, self);
    sv_lua_prepare_length_states(self);
    lua_getfield(L, LUA_REGISTRYINDEX, "srvlua.check");
    if (lua_toboolean(L, -1))
        return check_and_exit(L, self);
    if (lua->is_running)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_WRONG_OPERATION, "a server runs in this process already");
    if (lua->own_loop)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_WRONG_OPERATION,
                                  "this process has a loop already, of srvlua.run or srvlua.Event");
    if (sv_lua_take_commands(L, self, &call.status) < 0)
        return sv_lua_fail(L, &call.status);
    load_for_other_root(L, self);
    remember_modules(L, lua);
    sv_lua_hold_callbacks(L, self);
    lua_pushvalue(L, 1);
    lua->server_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua->server = self;
    lua->starter = getpid();
    lua->role = SRVLUA_ROLE_BEFORE;
    lua->is_running = true;
    status = lua_cpcall(L, run_server, &call);
    if (status != 0)
        end_child(self, lua_tostring(L, -1));
    sv_lua_forget_coroutines(lua);
    sv_lua_forget_events(lua);
    lua->is_running = false;
    lua->uses_coroutines = lua->can_suspend = false;
    self->has_returned = true;
    luaL_unref(L, LUA_REGISTRYINDEX, lua->server_ref);
    sv_lua_release_callbacks(L, self);
    sv_lua_release_commands(L, self);
    if (status != 0)
        return sv_lua_raise_after_others(L);
    return sv_lua_result(L, call.result, &call.status);
}

/* -------------------------------------------------------------------------------------------------- process control */

/* server:reload([only_task_workers = false]) -> true */
static int server_reload(lua_State *L, struct sv_lua_server *self) {
    bool only_task_workers = sv_lua_optional_boolean(L, 2, false);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_reload(self->server, only_task_workers, &status), &status);
}

/* The port that argument 2 names, as object or by its number in server.ports; NULL: there is no such number. */
static srvlua_port *check_own_port(lua_State *L, const struct sv_lua_server *self) {
    struct sv_lua_port *object = sv_lua_to_object(L, 2, &sv_lua_port_kind);
    int64_t number;

    if (object && object->owner != self)
        sv_lua_argument_error(L, 2, "port of this server expected, got one of another server");
    if (object)
        return object->port;
    if (lua_type(L, 2) != LUA_TNUMBER)
        sv_lua_type_error(L, 2, "port or number");
    number = sv_lua_check_integer(L, 2);
    return number > 0 ? srvlua_get_port(self->server, (size_t)number - 1) : NULL;
}

/* server:reloadCertificates([port]) -> true */
static int server_reload_certificates(lua_State *L, struct sv_lua_server *self) {
    bool is_for_one = !lua_isnoneornil(L, 2);
    srvlua_port *port = is_for_one ? check_own_port(L, self) : NULL;
    struct srvlua_status status;

    if (is_for_one && !port)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS, "no port has this number in server.ports");
    return sv_lua_result(L, srvlua_reload_certificates(self->server, port, &status), &status);
}

/* server:stop([worker_id = -1 [, wait_event = false]]) -> true */
static int server_stop(lua_State *L, struct sv_lua_server *self) {
    int worker_id = sv_lua_optional_int(L, 2, -1);
    bool wait_event = sv_lua_optional_boolean(L, 3, false);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_stop(self->server, worker_id, wait_event, &status), &status);
}

/* server:shutdown() -> true */
static int server_shutdown(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_shutdown(self->server, &status), &status);
}

/* ---------------------------------------------------------------------------------------------------- introspection */

/* server:getCallback(event) -> callback | nil */
static int server_get_callback(lua_State *L, struct sv_lua_server *self) {
    (void)self;
    return sv_lua_get_callback(L, true);
}

/* server:stats() -> table */
static int server_stats(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_stat stats[STATS_MAX];
    struct srvlua_status status;
    int i, count = srvlua_stats(self->server, stats, STATS_MAX, &status);

    if (count < 0)
        return sv_lua_fail(L, &status);
    lua_createtable(L, 0, count);
    for (i = 0; i < count; i++) {
        lua_pushnumber(L, (double)stats[i].value);
        lua_setfield(L, -2, stats[i].name);
    }
    return 1;
}

/* Pushes a number that is an answer from 0 on, or the failure. */
static int number_or_failure(lua_State *L, int result, const struct srvlua_status *status) {
    if (result < 0)
        return sv_lua_fail(L, status);
    lua_pushinteger(L, result);
    return 1;
}

/* server:getWorkerId() -> id | false */
static int server_get_worker_id(lua_State *L, struct sv_lua_server *self) {
    int id = srvlua_get_worker_id(self->server);

    if (id < 0)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_WRONG_OPERATION, "this process is no worker");
    lua_pushinteger(L, id);
    return 1;
}

/* server:getWorkerPid([worker_id = -1]) -> pid */
static int server_get_worker_pid(lua_State *L, struct sv_lua_server *self) {
    int worker_id = sv_lua_optional_int(L, 2, -1);
    struct srvlua_status status;

    return number_or_failure(L, srvlua_get_worker_pid(self->server, worker_id, &status), &status);
}

/* server:getWorkerStatus([worker_id = -1]) -> srvlua.WORKER_* */
static int server_get_worker_status(lua_State *L, struct sv_lua_server *self) {
    int worker_id = sv_lua_optional_int(L, 2, -1);
    struct srvlua_status status;

    return number_or_failure(L, srvlua_get_worker_status(self->server, worker_id, &status), &status);
}

/* server:getManagerPid() -> pid */
static int server_get_manager_pid(lua_State *L, struct sv_lua_server *self) {
    lua_pushinteger(L, srvlua_get_manager_pid(self->server));
    return 1;
}

/* server:getMasterPid() -> pid */
static int server_get_master_pid(lua_State *L, struct sv_lua_server *self) {
    lua_pushinteger(L, srvlua_get_master_pid(self->server));
    return 1;
}

/* server:getLastError() -> code */
static int server_get_last_error(lua_State *L, struct sv_lua_server *self) {
    lua_pushinteger(L, srvlua_last_error(self->server));
    return 1;
}

/* server:getSocket([port_number]) -> socket */
static int server_get_socket(lua_State *L, struct sv_lua_server *self) {
    int number = sv_lua_optional_int(L, 2, -1);
    size_t i, count = srvlua_port_count(self->server);

    for (i = 0; i < count; i++) {
        srvlua_port *port = srvlua_get_port(self->server, i);
        struct srvlua_port_info info;
        srvlua_port_get_info(port, &info);
        if (lua_isnoneornil(L, 2) || (info.port == number && info.type <= SRVLUA_SOCK_UDP6)) {
            if (info.socket < 0)
                break;
            sv_lua_push_socket(L, 1, port);
            return 1;
        }
    }
    return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS,
                              i < count ? "the socket of this port is not open" : "no port has this number");
}

/* What a property that is not constant in a process reads as: (server, name). */
static int server_property(lua_State *L, struct sv_lua_server *self) {
    const char *name = sv_lua_check_string(L, 2, NULL);

    if (strcmp(name, "manager_pid") == 0) {
        lua_pushinteger(L, srvlua_get_manager_pid(self->server));
    } else if (strcmp(name, "master_pid") == 0) {
        lua_pushinteger(L, srvlua_get_master_pid(self->server));
    } else {
        int64_t timer = srvlua_stats_timer(self->server);
        if (timer > 0)
            lua_pushnumber(L, (double)timer);
        else
            lua_pushnil(L);
    }
    return 1;
}

/* -------------------------------------------------------------------------------------------------- the method table */

#define BEFORE SV_LUA_BEFORE
#define RUNNING SV_LUA_RUNNING
#define ALWAYS SV_LUA_ALWAYS
#define NOT_MANAGER (SV_LUA_RUNNING & ~(unsigned)SRVLUA_ROLE_MANAGER)

/* In the order of methods.md. What a process may call but not with these arguments, or what depends on the mode, is
 * refused by the function itself. */
static const struct sv_lua_function server_methods[] = {
    SV_LUA_SERVER_METHOD("set", server_set, BEFORE),
    SV_LUA_SERVER_METHOD("on", server_on, BEFORE),
    SV_LUA_SERVER_METHOD("addListener", server_add_listener, BEFORE),
    SV_LUA_SERVER_METHOD("listen", server_add_listener, BEFORE),
    SV_LUA_SERVER_METHOD("addProcess", sv_lua_server_add_process, BEFORE),
    SV_LUA_SERVER_METHOD("start", server_start, BEFORE),
    SV_LUA_SERVER_METHOD("reload", server_reload, RUNNING),
    SV_LUA_SERVER_METHOD("reloadCertificates", server_reload_certificates, RUNNING),
    SV_LUA_SERVER_METHOD("stop", server_stop, RUNNING),
    SV_LUA_SERVER_METHOD("shutdown", server_shutdown, RUNNING),
    SV_LUA_SERVER_METHOD("tick", sv_lua_server_tick, RUNNING),
    SV_LUA_SERVER_METHOD("after", sv_lua_server_after, RUNNING),
    SV_LUA_SERVER_METHOD("clearTimer", sv_lua_server_clear_timer, RUNNING),
    SV_LUA_SERVER_METHOD("defer", sv_lua_server_defer, NOT_MANAGER),
    SV_LUA_SERVER_METHOD("close", sv_lua_server_close, RUNNING),
    SV_LUA_SERVER_METHOD("exist", sv_lua_server_exist, ALWAYS),
    SV_LUA_SERVER_METHOD("exists", sv_lua_server_exist, ALWAYS),
    SV_LUA_SERVER_METHOD("pause", sv_lua_server_pause, RUNNING),
    SV_LUA_SERVER_METHOD("resume", sv_lua_server_resume, RUNNING),
    SV_LUA_SERVER_METHOD("confirm", sv_lua_server_confirm, RUNNING),
    SV_LUA_SERVER_METHOD("protect", sv_lua_server_protect, RUNNING),
    SV_LUA_SERVER_METHOD("bind", sv_lua_server_bind, RUNNING),
    SV_LUA_SERVER_METHOD("heartbeat", sv_lua_server_heartbeat, RUNNING),
    SV_LUA_SERVER_METHOD("getClientInfo", sv_lua_server_get_client_info, RUNNING),
    SV_LUA_SERVER_METHOD("connection_info", sv_lua_server_get_client_info, RUNNING),
    SV_LUA_SERVER_METHOD("getClientList", sv_lua_server_get_client_list, RUNNING),
    SV_LUA_SERVER_METHOD("connection_list", sv_lua_server_get_client_list, RUNNING),
    SV_LUA_SERVER_METHOD("send", sv_lua_server_send, RUNNING),
    SV_LUA_SERVER_METHOD("sendfile", sv_lua_server_sendfile, RUNNING),
    SV_LUA_SERVER_METHOD("sendto", sv_lua_server_sendto, RUNNING),
    SV_LUA_SERVER_METHOD("sendwait", sv_lua_server_sendwait, RUNNING),
    SV_LUA_SERVER_METHOD("getCallback", server_get_callback, ALWAYS),
    SV_LUA_SERVER_METHOD("stats", server_stats, RUNNING),
    SV_LUA_SERVER_METHOD("getWorkerId", server_get_worker_id, ALWAYS),
    SV_LUA_SERVER_METHOD("getWorkerPid", server_get_worker_pid, ALWAYS),
    SV_LUA_SERVER_METHOD("getWorkerStatus", server_get_worker_status, ALWAYS),
    SV_LUA_SERVER_METHOD("getManagerPid", server_get_manager_pid, ALWAYS),
    SV_LUA_SERVER_METHOD("getMasterPid", server_get_master_pid, ALWAYS),
    SV_LUA_SERVER_METHOD("getLastError", server_get_last_error, ALWAYS),
    SV_LUA_SERVER_METHOD("task", sv_lua_server_task, RUNNING),
    SV_LUA_SERVER_METHOD("taskwait", sv_lua_server_taskwait, RUNNING),
    SV_LUA_SERVER_METHOD("taskWaitMulti", sv_lua_server_task_wait_multi, RUNNING),
    SV_LUA_SERVER_METHOD("taskCo", sv_lua_server_task_co, RUNNING),
    SV_LUA_SERVER_METHOD("finish", sv_lua_server_finish, RUNNING),
    SV_LUA_SERVER_METHOD("sendMessage", sv_lua_server_send_message, RUNNING),
    SV_LUA_SERVER_METHOD("addCommand", sv_lua_add_command, BEFORE),
    SV_LUA_SERVER_METHOD("command", sv_lua_command, SRVLUA_ROLE_MASTER | SRVLUA_ROLE_WORKER),
    SV_LUA_SERVER_METHOD("getSocket", server_get_socket, ALWAYS),
    SV_LUA_END,
};

static const char *name_of_role(enum srvlua_role role) {
    switch (role) {
    case SRVLUA_ROLE_BEFORE:
        return "before start()";
    case SRVLUA_ROLE_MASTER:
        return "in the master";
    case SRVLUA_ROLE_MANAGER:
        return "in the manager";
    case SRVLUA_ROLE_WORKER:
        return "in a worker";
    case SRVLUA_ROLE_TASK:
        return "in a task worker";
    case SRVLUA_ROLE_USER:
        return "in a user process";
    default:
        return "after start() has returned";
    }
}

int sv_lua_call_server_method(lua_State *L) {
    const struct sv_lua_function *row = sv_lua_row(L);
    struct sv_lua_server *self = sv_lua_check_self(L, &sv_lua_server_kind);
    enum srvlua_role role = srvlua_get_role(self->server);
    struct srvlua_status status;

    if (role & row->roles)
        return row->server_method(L, self);
    srvlua_fail(self->server, &status, SRVLUA_ERROR_WRONG_OPERATION, "'%s' is not possible %s", row->name,
                name_of_role(role));
    return sv_lua_fail(L, &status);
}

/* -------------------------------------------------------------------------------------------------------- the class */

/* How fields are read that the table of fields does not have, and how they are written. In Lua, so that it compiles. */
static const char index_source
    [] = "local property = ...\n"
         "local dynamic = { master_pid = true, manager_pid = true, stats_timer = true }\n"
         "local read_only = { setting = true, connections = true, host = true, port = true, type = true, ssl = true,\n"
         "  mode = true, ports = true, master_pid = true, manager_pid = true, worker_id = true, worker_pid = true,\n"
         "  taskworker = true, stats_timer = true }\n"
         "local rawset, error, tostring = rawset, error, tostring\n"
         "local function index(server)\n"
         "  return function(_, name)\n"
         "    if dynamic[name] then return property(server, name) end\n"
         "  end\n"
         "end\n"
         "local function newindex(fields)\n"
         "  return function(_, name, value)\n"
         "    if read_only[name] then error('server.' .. tostring(name) .. ' is read-only', 2) end\n"
         "    rawset(fields, name, value)\n"
         "  end\n"
         "end\n"
         "return index, newindex\n";

static int server_gc(lua_State *L) {
    struct sv_lua_server *self = lua_touserdata(L, 1);

    if (!self->server || (self->lua->is_running && self->lua->server == self))
        return 0; /* os.exit(code, true) in a callback closes the state under a running server */
    srvlua_free(self->server);
    self->server = NULL;
    if (self->lua->server == self)
        self->lua->server = NULL;
    return 0;
}

static int server_tostring(lua_State *L) {
    struct sv_lua_server *self = sv_lua_check_self(L, &sv_lua_server_kind);
    struct srvlua_port_info info;

    srvlua_port_get_info(self->primary->port, &info);
    lua_pushfstring(L, "srvlua.Server: %s:%d", info.host, info.port);
    return 1;
}

static const struct sv_lua_function server_metamethods[] = {
    SV_LUA_METHOD("__gc", server_gc),
    SV_LUA_METHOD("__tostring", server_tostring),
    SV_LUA_END,
};

/* Gives the new userdata at index 1 its metatable with the table of fields, and its environment. */
static void set_up_object(lua_State *L, struct sv_lua_server *self) {
    int metatable, fields;

    lua_newtable(L);
    lua_newtable(L);
    lua_setfield(L, -2, "ports");
    lua_newtable(L);
    lua_setfield(L, -2, "setting");
    lua_setfenv(L, 1);

    lua_newtable(L);
    metatable = lua_gettop(L);
    sv_lua_register(L, self->lua, server_metamethods);
    lua_pushstring(L, sv_lua_server_kind.name);
    lua_setfield(L, metatable, "__metatable");
    lua_newtable(L);
    fields = lua_gettop(L);
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->lua->server_methods_ref);
    sv_lua_copy_entries(L, lua_gettop(L), fields);
    lua_pop(L, 1);

    lua_rawgeti(L, LUA_REGISTRYINDEX, self->lua->server_newindex_ref);
    lua_pushvalue(L, fields);
    lua_call(L, 1, 1);
    lua_setfield(L, metatable, "__newindex");

    lua_newtable(L); /* metatable of the fields: for what changes under way */
    lua_rawgeti(L, LUA_REGISTRYINDEX, self->lua->server_index_ref);
    lua_pushvalue(L, 1);
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, fields);

    lua_setfield(L, metatable, "__index");
    lua_setmetatable(L, 1);
}

/* Fills in the properties that are known after construction. */
static void set_properties(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_port_info info;
    int fields;

    srvlua_port_get_info(srvlua_get_port(self->server, 0), &info);
    luaL_getmetafield(L, 1, "__index");
    fields = lua_gettop(L);
    push_private(L, "setting");
    lua_setfield(L, fields, "setting");
    sv_lua_push_connections(L, 1, self, NULL);
    lua_setfield(L, fields, "connections");
    lua_pushstring(L, info.host);
    lua_setfield(L, fields, "host");
    lua_pushinteger(L, info.port);
    lua_setfield(L, fields, "port");
    lua_pushinteger(L, info.type);
    lua_setfield(L, fields, "type");
    lua_pushboolean(L, info.ssl);
    lua_setfield(L, fields, "ssl");
    lua_pushinteger(L, srvlua_get_mode(self->server));
    lua_setfield(L, fields, "mode");
    lua_newtable(L);
    lua_setfield(L, fields, "ports");
    lua_pushinteger(L, -1);
    lua_setfield(L, fields, "worker_id");
    lua_pushinteger(L, 0);
    lua_setfield(L, fields, "worker_pid");
    lua_pushboolean(L, 0);
    lua_setfield(L, fields, "taskworker");
    lua_pop(L, 1);
}

/* Registers for the events at which a process learns what it is, whether the program has callbacks for them or not. */
static int watch_process_starts(struct sv_lua_server *self, struct srvlua_status *status) {
    static const enum srvlua_event watched[] = {SRVLUA_ON_START, SRVLUA_ON_MANAGER_START, SRVLUA_ON_WORKER_START};
    size_t i;
    int result = 0;

    for (i = 0; i < sizeof watched / sizeof watched[0] && result == 0; i++)
        result = srvlua_on(self->server, watched[i], sv_lua_on_event, &self->callbacks[watched[i]], status);
    return result;
}

static bool has_live_server(const struct sv_lua *lua) { return lua->server && !lua->server->has_returned; }

/* srvlua.Server([host [, port [, mode [, sock_type]]]]) -> server; raises with a code what cannot be made */
static int server_new(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct srvlua_status status;
    struct sv_lua_server *self;
    const char *host;
    int port, mode, type, event;
    size_t i, count;

    lua_remove(L, 1); /* the class */
    host = lua_isnoneornil(L, 1) ? "0.0.0.0" : sv_lua_check_text(L, 1);
    port = sv_lua_optional_int(L, 2, 0);
    mode = sv_lua_optional_int(L, 3, SRVLUA_PROCESS);
    type = sv_lua_optional_int(L, 4, SRVLUA_SOCK_TCP);
    if (has_live_server(lua))
        lua_gc(L, LUA_GCCOLLECT, 0); /* one that nobody holds any more is no obstacle */
    if (has_live_server(lua)) {
        srvlua_fail(lua->server->server, &status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT,
                    "there is a server in this process already");
        return sv_lua_raise(L, &status);
    }
    self = lua_newuserdata(L, sizeof *self);
    memset(self, 0, sizeof *self);
    lua_insert(L, 1);
    self->kind = &sv_lua_server_kind;
    self->lua = lua;
    self->commands_ref = LUA_NOREF;
    for (event = 0; event < SRVLUA_EVENT_COUNT; event++)
        self->callbacks[event] = (struct sv_lua_callback){lua, LUA_NOREF};
    set_up_object(L, self);

    self->server = srvlua_new(host, port, mode, type, &status);
    if (!self->server)
        return sv_lua_raise(L, &status);
    srvlua_set_stack_writer(self->server, sv_lua_write_stack, lua);
    lua_getfield(L, LUA_REGISTRYINDEX, "srvlua.check");
    if (lua_toboolean(L, -1))
        srvlua_set_check_only(self->server, &status);
    lua_pop(L, 1);
    if (watch_process_starts(self, &status) < 0)
        return sv_lua_raise(L, &status);
    set_properties(L, self);
    count = srvlua_port_count(self->server);
    for (i = 0; i < count; i++) {
        struct sv_lua_port *object = add_port(L, srvlua_get_port(self->server, i));
        if (i == 0)
            self->primary = object;
        lua_pop(L, 1);
    }
    lua->server = self;
    lua_settop(L, 1);
    return 1;
}

void sv_lua_server_open(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function property[] = {
        SV_LUA_SERVER_METHOD("property", server_property, ALWAYS),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, server_methods);
    lua->server_methods_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    if (luaL_loadbuffer(L, index_source, sizeof index_source - 1, "=srvlua") != 0)
        lua_error(L);
    lua_newtable(L);
    sv_lua_register(L, lua, property);
    lua_getfield(L, -1, "property");
    lua_replace(L, -2);
    lua_call(L, 1, 2);
    lua->server_newindex_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua->server_index_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

void sv_lua_push_server_class(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function constructor[] = {
        SV_LUA_FUNCTION("Server", server_new),
        SV_LUA_END,
    };

    lua_newtable(L);
    lua_newtable(L);
    sv_lua_register(L, lua, constructor);
    lua_getfield(L, -1, "Server");
    lua_setfield(L, -2, "__call");
    lua_setmetatable(L, -2);
}
