/* callbacks.c: events to Lua functions; see callbacks.h. */
#include "lua/callbacks.h"

#include <stdlib.h>
#include <sys/random.h>
#include <unistd.h>

#include "lua/client/client.h"
#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/event.h"
#include "lua/process.h"
#include "lua/serialise.h"
#include "lua/task.h"
#include "lua/values.h"

/* Callbacks inside one another (close in close in close ...) go as deep as this; further ones start in the same loop turn,
 * but from the loop, so that no program overflows the C stack. */
#define DEPTH_MAX 100
#define MAX_COROUTINE_DEFAULT 100000

/* Events that run in a coroutine; the names are what messages say. */
static const struct {
    const char *what;
    bool is_wrapped;
} events[SRVLUA_EVENT_COUNT] = {
    [SRVLUA_ON_START] = {"start callback", true},
    [SRVLUA_ON_SHUTDOWN] = {"shutdown callback", false},
    [SRVLUA_ON_BEFORE_SHUTDOWN] = {"beforeShutdown callback", true},
    [SRVLUA_ON_MANAGER_START] = {"managerStart callback", false},
    [SRVLUA_ON_MANAGER_STOP] = {"managerStop callback", false},
    [SRVLUA_ON_WORKER_START] = {"workerStart callback", true},
    [SRVLUA_ON_WORKER_STOP] = {"workerStop callback", false},
    [SRVLUA_ON_WORKER_EXIT] = {"workerExit callback", false},
    [SRVLUA_ON_WORKER_ERROR] = {"workerError callback", false},
    [SRVLUA_ON_BEFORE_RELOAD] = {"beforeReload callback", false},
    [SRVLUA_ON_AFTER_RELOAD] = {"afterReload callback", false},
    [SRVLUA_ON_TASK] = {"task callback", true},
    [SRVLUA_ON_FINISH] = {"finish callback", true},
    [SRVLUA_ON_PIPE_MESSAGE] = {"pipeMessage callback", true},
    [SRVLUA_ON_CONNECT] = {"connect callback", true},
    [SRVLUA_ON_RECEIVE] = {"receive callback", true},
    [SRVLUA_ON_PACKET] = {"packet callback", true},
    [SRVLUA_ON_CLOSE] = {"close callback", true},
    [SRVLUA_ON_BUFFER_FULL] = {"bufferFull callback", false},
    [SRVLUA_ON_BUFFER_EMPTY] = {"bufferEmpty callback", false},
    [SRVLUA_ON_REQUEST] = {"request callback", true},
    [SRVLUA_ON_HANDSHAKE] = {"handshake callback", true},
    [SRVLUA_ON_BEFORE_HANDSHAKE_RESPONSE] = {"beforeHandshakeResponse callback", true},
    [SRVLUA_ON_OPEN] = {"open callback", true},
    [SRVLUA_ON_MESSAGE] = {"message callback", true},
    [SRVLUA_ON_DISCONNECT] = {"disconnect callback", true},
};

/* ------------------------------------------------------------------------------------------------- this process */

/* Seeds math.random: LuaJIT begins every process with the same numbers, and a fork goes on with its parent's. */
static void seed_random(lua_State *L, struct sv_lua *lua) {
    uint32_t seed = (uint32_t)getpid();

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
        seed = seed * 2654435761u; /* early boot: the pid will do */
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->random_seed_ref);
    lua_pushnumber(L, seed);
    lua_call(L, 1, 0);
}

static bool is_switched_on(srvlua_server *server, const char *setting) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    if (srvlua_get_setting(server, setting, &value) < 0)
        return false;
    return value.type == SRVLUA_VALUE_BOOLEAN ? value.boolean : value.type == SRVLUA_VALUE_NUMBER && value.number != 0;
}

void sv_lua_add_effective_settings(lua_State *L, srvlua_server *server, int setting) {
    const char *const *name;

    for (name = srvlua_effective_settings(); *name; name++) {
        struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};
        if (srvlua_get_setting(server, *name, &value) < 0)
            continue;
        sv_lua_push_value(L, &value);
        lua_setfield(L, setting, *name);
    }
}

/* What the loop of the parent knew is not this process's. */
static void forget_parent(lua_State *L, struct sv_lua *lua) {
    lua_newtable(L);
    lua_rawseti(L, LUA_REGISTRYINDEX, lua->timers_ref);
    sv_lua_forget_signals(L, lua);
    lua->has_made_timer = false;
    sv_lua_forget_coroutines(lua);
    sv_lua_forget_events(lua);
    lua->may_turn = lua->is_turning = lua->is_told_to_exit = false;
    seed_random(L, lua);
    sv_lua_sockets_after_fork(lua);
}

void sv_lua_leave_parent(lua_State *L, struct sv_lua *lua) {
    if (lua->is_running) {
        srvlua_forked(lua->server->server);
        lua->is_running = false;
        lua->server->has_returned = true;
        lua->role = SRVLUA_ROLE_AFTER;
    }
    srvlua_loop_free(lua->own_loop);
    lua->own_loop = NULL;
    if (!lua->max_coroutine)
        lua->max_coroutine = MAX_COROUTINE_DEFAULT;
    forget_parent(L, lua);
}

static int adopt_process(lua_State *L) {
    struct sv_lua *lua = lua_touserdata(L, 1);
    srvlua_server *server = lua->server->server;
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    lua->uses_objects = is_switched_on(server, "event_object");
    lua->uses_task_objects = is_switched_on(server, "task_object") || is_switched_on(server, "task_enable_coroutine");
    lua->max_coroutine = MAX_COROUTINE_DEFAULT;
    if (srvlua_get_setting(server, "max_coroutine", &value) >= 0 && value.type == SRVLUA_VALUE_NUMBER &&
        value.number > 0)
        lua->max_coroutine = (int)value.number;
    lua->uses_coroutines = is_switched_on(server, "enable_coroutine") &&
                           (lua->role == SRVLUA_ROLE_MASTER || lua->role == SRVLUA_ROLE_WORKER ||
                            (lua->role == SRVLUA_ROLE_TASK && is_switched_on(server, "task_enable_coroutine")));
    lua->can_suspend = lua->role == SRVLUA_ROLE_MASTER || lua->role == SRVLUA_ROLE_WORKER ||
                       (lua->role == SRVLUA_ROLE_TASK && lua->uses_coroutines);

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->server_ref);
    luaL_getmetafield(L, -1, "__index"); /* the table of fields */
    lua_pushinteger(L, srvlua_get_worker_id(server));
    lua_setfield(L, -2, "worker_id");
    lua_pushinteger(L, lua->role & (SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK) ? getpid() : 0);
    lua_setfield(L, -2, "worker_pid");
    lua_pushboolean(L, lua->role == SRVLUA_ROLE_TASK);
    lua_setfield(L, -2, "taskworker");
    lua_getfield(L, -1, "setting");
    sv_lua_add_effective_settings(L, server, lua_gettop(L));

    sv_lua_number_processes(L, 2, server);

    if (getpid() != lua->starter)
        forget_parent(L, lua);
    return 0;
}

void sv_lua_adopt_process(struct sv_lua *lua) {
    lua->role = srvlua_get_role(lua->server->server);
    if (lua_cpcall(lua->L, adopt_process, lua) != 0) {
        srvlua_log(lua->server->server, SRVLUA_LOG_ERROR, "cannot prepare Lua in this process: %s",
                   lua_tostring(lua->L, -1));
        lua_pop(lua->L, 1);
    }
}

/* -------------------------------------------------------------------------------------------------------- arguments */

struct event_call {
    const struct sv_lua_callback *callback;
    const struct srvlua_event_data *data;
    int value; /* tasks, results, messages: where on lua->L their decoded data lie */
};

static void set_integer(lua_State *L, const char *name, int64_t value) {
    lua_pushnumber(L, (double)value);
    lua_setfield(L, -2, name);
}

static void set_number(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

/* The table that tells where a datagram came from (events.md 4 packet). */
static void push_packet_source(lua_State *L, const struct srvlua_event_data *data) {
    lua_createtable(L, 0, 6);
    lua_pushstring(L, data->address);
    lua_setfield(L, -2, "address");
    if (data->peer_port >= 0)
        set_integer(L, "port", data->peer_port);
    set_integer(L, "server_socket", data->server_socket);
    set_integer(L, "server_port", data->server_port);
    set_number(L, "dispatch_time", data->dispatch_time);
}

/* Arguments behind the server in the plain form. */
static int push_arguments(lua_State *L, const struct srvlua_event_data *data, int value) {
    switch (data->event) {
    case SRVLUA_ON_FINISH:
        lua_pushnumber(L, (double)data->task_id);
        lua_pushvalue(L, value);
        return 2;
    case SRVLUA_ON_PIPE_MESSAGE:
        lua_pushinteger(L, data->source_worker_id);
        lua_pushvalue(L, value);
        return 2;
    case SRVLUA_ON_RECEIVE:
        lua_pushnumber(L, (double)data->fd);
        lua_pushinteger(L, data->reactor_id);
        lua_pushlstring(L, data->data, data->length);
        return 3;
    case SRVLUA_ON_CONNECT:
    case SRVLUA_ON_CLOSE:
        lua_pushnumber(L, (double)data->fd);
        lua_pushinteger(L, data->reactor_id);
        return 2;
    case SRVLUA_ON_BUFFER_FULL:
    case SRVLUA_ON_BUFFER_EMPTY:
        lua_pushnumber(L, (double)data->fd);
        return 1;
    case SRVLUA_ON_PACKET:
        lua_pushlstring(L, data->data, data->length);
        push_packet_source(L, data);
        return 2;
    case SRVLUA_ON_WORKER_START:
    case SRVLUA_ON_WORKER_STOP:
    case SRVLUA_ON_WORKER_EXIT:
        lua_pushinteger(L, data->worker_id);
        return 1;
    case SRVLUA_ON_WORKER_ERROR:
        lua_pushinteger(L, data->worker_id);
        lua_pushinteger(L, data->worker_pid);
        lua_pushinteger(L, data->exit_code);
        lua_pushinteger(L, data->signal);
        return 4;
    case SRVLUA_ON_AFTER_RELOAD:
        lua_pushboolean(L, data->ok);
        return 1;
    default:
        return 0;
    }
}

/* The one object behind the server with event_object (events.md 8); other events keep the plain form. */
static int push_object(lua_State *L, const struct srvlua_event_data *data, int value) {
    switch (data->event) {
    case SRVLUA_ON_FINISH:
        lua_createtable(L, 0, 4);
        set_integer(L, "task_id", data->task_id);
        set_integer(L, "task_worker_id", data->task_worker_id);
        set_number(L, "dispatch_time", data->dispatch_time);
        lua_pushvalue(L, value);
        lua_setfield(L, -2, "data");
        break;
    case SRVLUA_ON_PIPE_MESSAGE:
        lua_createtable(L, 0, 4);
        set_integer(L, "worker_id", data->source_worker_id);
        set_integer(L, "source_worker_id", data->source_worker_id);
        set_number(L, "dispatch_time", data->dispatch_time);
        lua_pushvalue(L, value);
        lua_setfield(L, -2, "data");
        break;
    case SRVLUA_ON_CONNECT:
    case SRVLUA_ON_CLOSE:
    case SRVLUA_ON_RECEIVE:
        lua_createtable(L, 0, 4);
        set_integer(L, "fd", data->fd);
        set_integer(L, "reactor_id", data->reactor_id);
        set_number(L, "dispatch_time", data->dispatch_time);
        break;
    case SRVLUA_ON_PACKET:
        push_packet_source(L, data);
        break;
    case SRVLUA_ON_WORKER_ERROR:
        lua_createtable(L, 0, 5);
        set_integer(L, "worker_id", data->worker_id);
        set_integer(L, "worker_pid", data->worker_pid);
        set_integer(L, "status", data->wait_status);
        set_integer(L, "exit_code", data->exit_code);
        set_integer(L, "signal", data->signal);
        break;
    default:
        return push_arguments(L, data, value);
    }
    if (data->event == SRVLUA_ON_RECEIVE || data->event == SRVLUA_ON_PACKET) {
        lua_pushlstring(L, data->data, data->length);
        lua_setfield(L, -2, "data");
    }
    return 1;
}

/* sv_lua_push: callback, server, the event's arguments. */
static int push_event(lua_State *L, void *argument) {
    const struct event_call *call = argument;
    const struct sv_lua *lua = call->callback->lua;

    if (call->data->event == SRVLUA_ON_TASK)
        return sv_lua_push_task(L, lua, call->callback->ref, call->data, call->value);
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->callback->ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->server_ref);
    return 2 + (lua->uses_objects ? push_object(L, call->data, call->value)
                                  : push_arguments(L, call->data, call->value));
}

/* --------------------------------------------------------------------------------------------------------- dispatch */

/* What becomes of an event that finds no room for its coroutine: a stream's connection is closed (settings.md 1.7). */
static int refuse(srvlua_server *server, const struct srvlua_event_data *data) {
    if (data->event == SRVLUA_ON_RECEIVE || data->event == SRVLUA_ON_CONNECT)
        srvlua_close(server, data->fd, 0, NULL);
    return 0;
}

struct later_event {
    struct sv_lua_callback *callback;
    struct srvlua_event_data data;
};

static int run_later_event(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct later_event *later = user_data;
    int result = sv_lua_on_event(later->callback->lua->server->server, &later->data, later->callback);

    (void)loop;
    (void)timer_id;
    free(later);
    return result;
}

/* Puts an event off to the end of the loop turn; false if that is impossible. Only events without data nest. */
static bool put_off(srvlua_server *server, const struct srvlua_event_data *data, struct sv_lua_callback *callback) {
    srvlua_loop *loop = srvlua_get_loop(server);
    struct later_event *later = loop && !data->data && !data->address ? malloc(sizeof *later) : NULL;

    if (!later)
        return false;
    later->callback = callback;
    later->data = *data;
    if (srvlua_defer(loop, run_later_event, later) == 0)
        return true;
    free(later);
    return false;
}

static int run_event(srvlua_server *server, struct event_call *call) {
    struct sv_lua *lua = call->callback->lua;
    const char *what = events[call->data->event].what;

    if (call->data->event == SRVLUA_ON_WORKER_STOP)
        lua->can_suspend = false; /* nothing turns the loop any more */
    if (!lua->uses_coroutines || !events[call->data->event].is_wrapped)
        return sv_lua_call(lua, what, push_event, call);
    if (sv_lua_is_full(lua, what))
        return refuse(server, call->data);
    return sv_lua_run(lua, what, push_event, call);
}

/* Tasks, results and messages: their data are decoded first. Who damaged them was not this program. */
static int run_with_value(srvlua_server *server, struct event_call *call) {
    struct sv_lua *lua = call->callback->lua;
    const struct srvlua_event_data *data = call->data;
    int result = 0;

    lua_checkstack(lua->L, LUA_MINSTACK);
    if (sv_lua_unpack(lua, lua->L, data->data, data->length, data->flags)) {
        call->value = lua_gettop(lua->L);
        result = run_event(server, call);
    } else {
        srvlua_log(server, SRVLUA_LOG_ERROR, "%s: the data cannot be read: %s", events[data->event].what,
                   lua_tostring(lua->L, -1));
    }
    lua_pop(lua->L, 1);
    return result;
}

int sv_lua_on_event(srvlua_server *server, const struct srvlua_event_data *data, void *user_data) {
    struct sv_lua_callback *callback = user_data;
    struct sv_lua *lua = callback->lua;
    struct event_call call = {callback, data, 0};

    if (lua->role != srvlua_get_role(server))
        sv_lua_adopt_process(lua);
    if (callback->ref == LUA_NOREF)
        return 0;
    if (lua->depth >= DEPTH_MAX && put_off(server, data, callback))
        return 0;
    if (data->event == SRVLUA_ON_TASK || data->event == SRVLUA_ON_FINISH || data->event == SRVLUA_ON_PIPE_MESSAGE)
        return run_with_value(server, &call);
    return run_event(server, &call);
}

/* ----------------------------------------------------------------------------------------------------- registration */

/* Pushes the table that keeps the callback for an event: the environment of the object at index 1, or, for events of
 * ports at the server, that of its primary port. */
static void push_callback_table(lua_State *L, bool is_server, int event) {
    lua_getfenv(L, 1);
    if (!is_server || !srvlua_event_is_port_level(event))
        return;
    lua_getfield(L, -1, "ports");
    lua_rawgeti(L, -1, 1);
    lua_getfenv(L, -1);
}

int sv_lua_register_callback(lua_State *L, struct sv_lua_server *self, struct sv_lua_port *port) {
    const char *name = sv_lua_check_string(L, 2, NULL);
    int event = srvlua_event_from_name(name);
    bool is_server = !port;
    struct srvlua_status status;
    int result;

    sv_lua_check_callable(L, 3);
    if (srvlua_get_role(self->server) != SRVLUA_ROLE_BEFORE)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_WRONG_OPERATION, "callbacks are registered before start()");
    if (event < 0 || (port && !srvlua_event_is_port_level(event))) {
        const char *problem = event < 0 ? "unknown event" : "not an event of a port";
        srvlua_log(self->server, SRVLUA_LOG_WARNING, "%s: '%s'", problem, name);
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS, problem);
    }
    if (srvlua_event_is_port_level(event)) {
        port = port ? port : self->primary;
        result = srvlua_port_on(port->port, event, sv_lua_on_event, &port->callbacks[event], &status);
    } else {
        result = srvlua_on(self->server, event, sv_lua_on_event, &self->callbacks[event], &status);
    }
    if (result < 0)
        return sv_lua_fail(L, &status);
    push_callback_table(L, is_server, event);
    lua_pushvalue(L, 3);
    lua_rawseti(L, -2, event + 1);
    lua_pushboolean(L, 1);
    return 1;
}

int sv_lua_get_callback(lua_State *L, bool is_server) {
    int event = srvlua_event_from_name(sv_lua_check_string(L, 2, NULL));

    if (event < 0) {
        lua_pushnil(L);
        return 1;
    }
    push_callback_table(L, is_server, event);
    lua_rawgeti(L, -1, event + 1);
    return 1;
}

static void hold(lua_State *L, int index, struct sv_lua_callback *callbacks) {
    int event;

    lua_getfenv(L, index);
    for (event = 0; event < SRVLUA_EVENT_COUNT; event++) {
        lua_rawgeti(L, -1, event + 1);
        if (lua_isnil(L, -1))
            lua_pop(L, 1);
        else
            callbacks[event].ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    lua_pop(L, 1);
}

static void release(lua_State *L, struct sv_lua_callback *callbacks) {
    int event;

    for (event = 0; event < SRVLUA_EVENT_COUNT; event++) {
        luaL_unref(L, LUA_REGISTRYINDEX, callbacks[event].ref);
        callbacks[event].ref = LUA_NOREF;
    }
}

/* Calls one of the above for the server at index 1 and for each of its ports. */
static void for_each_object(lua_State *L, struct sv_lua_server *self, bool is_holding) {
    size_t i, count;

    if (is_holding)
        hold(L, 1, self->callbacks);
    else
        release(L, self->callbacks);
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "ports");
    count = lua_objlen(L, -1);
    for (i = 1; i <= count; i++) {
        struct sv_lua_port *port;
        lua_rawgeti(L, -1, (int)i);
        port = lua_touserdata(L, -1);
        if (is_holding)
            hold(L, lua_gettop(L), port->callbacks);
        else
            release(L, port->callbacks);
        lua_pop(L, 1);
    }
    lua_pop(L, 2);
}

void sv_lua_hold_callbacks(lua_State *L, struct sv_lua_server *self) { for_each_object(L, self, true); }

void sv_lua_release_callbacks(lua_State *L, struct sv_lua_server *self) { for_each_object(L, self, false); }
