/* task.c: see task.h.
 *
 * A call that waits for results is a struct wait: it sends what it has to send as room comes, and takes in results. In a coroutine
 * that suspends until the last result is there; elsewhere srvlua_wait_until() runs the same until then. */
#include "lua/task.h"

#include <errno.h>
#include <stdlib.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/serialise.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define TASKS_MAX 1024 /* of taskWaitMulti and taskCo */
#define WAIT_DEFAULT 0.5
#define WARN_EVERY 1 /* seconds, of one kind */
#define SOURCE_BITS 20 /* of an endpoint, in a source as a number */

/* ------------------------------------------------------------------------------------------------------ running tasks */

/* Where a task comes from, as a Lua number: exact for 2^33 lives of a process. */
static double source_to_number(uint64_t source) {
    return (double)((source >> 32) << SOURCE_BITS | (source & UINT32_MAX));
}

static uint64_t source_from_number(double number) {
    uint64_t bits = (uint64_t)number;
    return (bits >> SOURCE_BITS) << 32 | (bits & ((1u << SOURCE_BITS) - 1));
}

/* Sends the value at `index` as a result. Returns as a Lua function. */
static int finish(lua_State *L, struct sv_lua *lua, const struct srvlua_task_origin *origin, int index) {
    struct srvlua_status status;
    size_t length;
    int flags;
    const char *bytes = sv_lua_pack_element(L, index, index, &length, &flags);

    return sv_lua_result(L, srvlua_task_finish(lua->server->server, origin, bytes, length, flags, &status), &status);
}

static bool may_warn(double *last) {
    double present = sv_lua_now();

    if (*last > 0 && present - *last < WARN_EVERY)
        return false;
    *last = present;
    return true;
}

/* (id, flags, source, what the callback returned): a value that is not nil is a result. */
static int complete(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct srvlua_task_origin origin = {.task_id = (int64_t)lua_tonumber(L, 1),
                                        .flags = (int)lua_tointeger(L, 2),
                                        .source = source_from_number(lua_tonumber(L, 3))};

    if (lua_isnoneornil(L, 4))
        return 0;
    if (origin.flags & SRVLUA_TASK_NOREPLY)
        return 0;
    lua_settop(L, 4);
    if (finish(L, lua, &origin, 4) == 3 && may_warn(&lua->result_warned_at))
        srvlua_log(lua->server->server, SRVLUA_LOG_WARNING, "the result of task %lld is lost: %s",
                   (long long)origin.task_id, lua_tostring(L, -2));
    return 0;
}

/* task:finish(value) -> true; index 1: the task object. */
static int object_finish(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct srvlua_task_origin origin = {0};

    if (!lua_istable(L, 1))
        return sv_lua_type_error(L, 1, "task");
    if (lua_isnone(L, 2))
        return sv_lua_type_error(L, 2, "value");
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->task_origins_ref);
    lua_pushvalue(L, 1);
    lua_rawget(L, -2);
    if (!lua->server || !lua_istable(L, -1))
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "this object is no task of this process");
    lua_rawgeti(L, -1, 1);
    lua_rawgeti(L, -2, 2);
    lua_rawgeti(L, -3, 3);
    origin.task_id = (int64_t)lua_tonumber(L, -3);
    origin.flags = (int)lua_tointeger(L, -2);
    origin.source = source_from_number(lua_tonumber(L, -1));
    return finish(L, lua, &origin, 2);
}

void sv_lua_task_open(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function methods[] = {SV_LUA_METHOD("finish", object_finish), SV_LUA_END};
    static const struct sv_lua_function functions[] = {SV_LUA_FUNCTION("complete", complete), SV_LUA_END};

    /* the function that runs a task: a Lua function, for the callback may suspend in it */
    luaL_loadstring(L, "local complete = ...; return function(id, flags, source, callback, ...)"
                       " return complete(id, flags, source, callback(...)) end");
    lua_newtable(L);
    sv_lua_register(L, lua, functions);
    lua_getfield(L, -1, "complete");
    lua_remove(L, -2);
    lua_call(L, 1, 1);
    lua->run_task_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L);
    lua_newtable(L);
    sv_lua_register(L, lua, methods);
    lua_setfield(L, -2, "__index");
    lua->task_object_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_newtable(L); /* task object -> { id, flags, source }, as long as the object lives */
    lua_createtable(L, 0, 1);
    lua_pushliteral(L, "k");
    lua_setfield(L, -2, "__mode");
    lua_setmetatable(L, -2);
    lua->task_origins_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}

static void set_number(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void push_object(lua_State *L, const struct sv_lua *lua, const struct srvlua_event_data *data, double source, int value) {
    lua_createtable(L, 0, 5);
    set_number(L, "id", (double)data->task_id);
    set_number(L, "worker_id", data->source_worker_id);
    set_number(L, "dispatch_time", data->dispatch_time);
    set_number(L, "flags", data->flags);
    lua_pushvalue(L, value);
    lua_setfield(L, -2, "data");
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->task_object_ref);
    lua_setmetatable(L, -2);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->task_origins_ref);
    lua_pushvalue(L, -2);
    lua_createtable(L, 3, 0);
    lua_pushnumber(L, (double)data->task_id);
    lua_rawseti(L, -2, 1);
    lua_pushinteger(L, data->flags);
    lua_rawseti(L, -2, 2);
    lua_pushnumber(L, source);
    lua_rawseti(L, -2, 3);
    lua_rawset(L, -3);
    lua_pop(L, 1);
}

int sv_lua_push_task(lua_State *L, const struct sv_lua *lua, int ref, const struct srvlua_event_data *data, int value) {
    struct srvlua_task_origin origin = {0};

    srvlua_get_task_origin(lua->server->server, &origin, NULL);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->run_task_ref);
    lua_pushnumber(L, (double)data->task_id);
    lua_pushinteger(L, data->flags);
    lua_pushnumber(L, source_to_number(origin.source));
    lua_rawgeti(L, LUA_REGISTRYINDEX, ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->server_ref);
    if (lua->uses_task_objects) {
        push_object(L, lua, data, source_to_number(origin.source), value);
        return 7;
    }
    lua_pushnumber(L, (double)data->task_id);
    lua_pushinteger(L, data->source_worker_id);
    lua_pushvalue(L, value);
    return 9;
}

/* server:finish(data) -> true */
int sv_lua_server_finish(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_task_origin origin;
    struct srvlua_status status;

    if (lua_isnone(L, 2))
        return sv_lua_type_error(L, 2, "value");
    if (srvlua_get_role(self->server) == SRVLUA_ROLE_TASK && self->lua->uses_coroutines)
        return luaL_error(L, "server:finish cannot tell tasks apart with task_enable_coroutine: use task:finish");
    if (srvlua_get_task_origin(self->server, &origin, &status) < 0)
        return sv_lua_fail(L, &status);
    return finish(L, self->lua, &origin, 2);
}

/* ------------------------------------------------------------------------------------------------- per-task callbacks */

struct callback {
    struct sv_lua *lua;
    int ref;
    const struct srvlua_task_result *result;
};

/* sv_lua_push: the callback, server, task_id and data; or server and one object. The value is on the top of the stack. */
static int push_callback(lua_State *L, void *argument) {
    const struct callback *callback = argument;
    const struct srvlua_task_result *result = callback->result;
    int value = lua_gettop(L);

    lua_rawgeti(L, LUA_REGISTRYINDEX, callback->ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, callback->lua->server_ref);
    if (!callback->lua->uses_objects) {
        lua_pushnumber(L, (double)result->task_id);
        lua_pushvalue(L, value);
        return 4;
    }
    lua_createtable(L, 0, 4);
    set_number(L, "task_id", (double)result->task_id);
    set_number(L, "task_worker_id", result->task_worker_id);
    set_number(L, "dispatch_time", result->dispatch_time);
    lua_pushvalue(L, value);
    lua_setfield(L, -2, "data");
    return 3;
}

/* srvlua_task_callback; user_data: a struct callback, which ends here. */
static int call_callback(srvlua_server *server, const struct srvlua_task_result *result, void *user_data) {
    struct callback *callback = user_data;
    struct sv_lua *lua = callback->lua;
    int failed = 0;

    callback->result = result;
    if (sv_lua_unpack(lua, lua->L, result->data, result->length, result->flags))
        failed = sv_lua_start(lua, "callback of a task", push_callback, callback);
    else
        srvlua_log(server, SRVLUA_LOG_ERROR, "the result of task %lld cannot be read: %s", (long long)result->task_id,
                   lua_tostring(lua->L, -1));
    lua_pop(lua->L, 1);
    luaL_unref(lua->L, LUA_REGISTRYINDEX, callback->ref);
    free(callback);
    return failed;
}

/* ---------------------------------------------------------------------------------------------------- waiting for room */

/* A task() that waits in a coroutine: its data are kept on the coroutine's stack. */
struct room_wait {
    struct sv_lua_coroutine *coroutine;
    const char *bytes;
    size_t length;
    struct srvlua_task_options options;
};

static int push_task_id(lua_State *L, int64_t id, const struct srvlua_status *status) {
    if (id < 0)
        return sv_lua_fail(L, status);
    lua_pushnumber(L, (double)id);
    return 1;
}

static void release_callback(struct callback *callback) {
    if (!callback)
        return;
    luaL_unref(callback->lua->L, LUA_REGISTRYINDEX, callback->ref);
    free(callback);
}

static int give_again(void *user_data, int code) {
    struct room_wait *wait = user_data;
    struct sv_lua_coroutine *coroutine = wait->coroutine;
    lua_State *L = coroutine->L, *work = coroutine->lua->L;
    srvlua_server *server = coroutine->lua->server->server;
    struct srvlua_status status;
    int64_t id = code ? srvlua_fail(server, &status, SRVLUA_ERROR_TASK_DISPATCH_FAIL, "this worker leaves")
                      : srvlua_task(server, wait->bytes, wait->length, &wait->options, &status);
    int count;

    if (id == -EAGAIN && srvlua_wait_for_task_room(server, wait->options.dst, give_again, wait, &status) == 0)
        return 0;
    if (id < 0)
        release_callback(wait->options.callback ? wait->options.user_data : NULL);
    free(wait);
    count = push_task_id(work, id, &status);
    lua_settop(L, 0);
    lua_xmove(work, L, count);
    return sv_lua_resume(coroutine, count);
}

/* Suspends until there is room. The bytes are on the top of the stack. */
static int wait_for_room(lua_State *L, struct sv_lua_coroutine *coroutine, const char *bytes, size_t length,
                         const struct srvlua_task_options *options) {
    struct room_wait *wait = malloc(sizeof *wait);
    struct srvlua_status status = {.code = SRVLUA_ERROR_MALLOC_FAIL, .message = "out of memory"};

    if (wait)
        *wait = (struct room_wait){coroutine, bytes, length, *options};
    if (!wait || srvlua_wait_for_task_room(coroutine->lua->server->server, options->dst, give_again, wait, &status) < 0) {
        free(wait);
        release_callback(options->callback ? options->user_data : NULL);
        return sv_lua_fail(L, &status);
    }
    lua_replace(L, 1);
    return sv_lua_suspend_with(L, coroutine, "task", 1);
}

/* server:task(data [, dst = -1 [, finish_callback]]) -> task_id */
int sv_lua_server_task(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_task_options options = {.dst = sv_lua_optional_int(L, 3, -1)};
    struct sv_lua_coroutine *coroutine = NULL;
    struct callback *callback = NULL;
    bool has_data = !lua_isnone(L, 2);
    struct srvlua_status status;
    const char *bytes;
    size_t length;
    int64_t id;

    lua_settop(L, 4);
    if (!lua_isnil(L, 4))
        sv_lua_check_callable(L, 4);
    if (!has_data)
        return sv_lua_type_error(L, 2, "value");
    bytes = sv_lua_pack(L, 2, &length, &options.flags);
    options.flags |= SRVLUA_TASK_NONBLOCK;
    if (!lua_isnil(L, 4) && self->lua->role == SRVLUA_ROLE_WORKER) {
        callback = malloc(sizeof *callback);
        if (!callback)
            return sv_lua_fail_server(L, self, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
        lua_pushvalue(L, 4);
        *callback = (struct callback){.lua = self->lua, .ref = luaL_ref(L, LUA_REGISTRYINDEX)};
        options.flags = (options.flags & ~SRVLUA_TASK_NONBLOCK) | SRVLUA_TASK_CALLBACK;
        options.callback = call_callback;
        options.user_data = callback;
    }
    id = srvlua_task(self->server, bytes, length, &options, &status);
    if (id == -EAGAIN) {
        coroutine = sv_lua_suspendable(L);
        if (coroutine)
            return wait_for_room(L, coroutine, bytes, length, &options);
        options.may_wait = 1;
        id = srvlua_task(self->server, bytes, length, &options, &status);
    }
    if (id < 0)
        release_callback(callback);
    return push_task_id(L, id, &status);
}

/* -------------------------------------------------------------------------------------------------- waiting for results */

enum shape { ONE, MULTI, CO }; /* taskwait, taskWaitMulti, taskCo */

struct slot { /* one task of a wait */
    struct wait *wait;
    const char *bytes;
    size_t length;
    int64_t id; /* -1: not sent, or answered */
    int flags;
    bool was_sent;
};

struct wait {
    struct sv_lua *lua;
    struct sv_lua_coroutine *coroutine; /* NULL: blocks */
    int results_ref;                    /* table: number of the task -> its result */
    enum shape shape;
    int dst;
    double timeout, end; /* seconds; monotonic; end 0: none */
    int count, sent, delivered, open;
    int code;        /* of the last task that could not be delivered */
    bool is_waiting; /* for room, with a callback that will come */
    struct slot slots[];
};

static void keep_result(struct wait *wait, int number, bool is_value) {
    /* the value, if it is one, is on the top of lua->L */
    lua_State *L = wait->lua->L;

    lua_rawgeti(L, LUA_REGISTRYINDEX, wait->results_ref);
    if (is_value)
        lua_pushvalue(L, -2);
    else
        lua_pushboolean(L, 0);
    lua_rawseti(L, -2, number);
    lua_pop(L, 1);
}

static int resume(struct wait *wait);

/* srvlua_task_callback; user_data: the slot. */
static int on_result(srvlua_server *server, const struct srvlua_task_result *result, void *user_data) {
    struct slot *slot = user_data;
    struct wait *wait = slot->wait;
    lua_State *L = wait->lua->L;
    int number = (int)(slot - wait->slots) + 1;

    slot->id = -1;
    wait->open--;
    if (result->code == 0) {
        if (sv_lua_unpack(wait->lua, L, result->data, result->length, result->flags)) {
            keep_result(wait, number, true);
            wait->code = 0;
        } else {
            srvlua_log(server, SRVLUA_LOG_ERROR, "the result of task %lld cannot be read: %s", (long long)result->task_id,
                       lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
    return wait->coroutine ? resume(wait) : 0;
}

/* Sends what is not sent yet, as far as there is room. True: nothing of it is left. */
static bool send_tasks(struct wait *wait) {
    srvlua_server *server = wait->lua->server->server;

    for (; wait->sent < wait->count; wait->sent++) {
        struct slot *slot = &wait->slots[wait->sent];
        struct srvlua_task_options options = {
            .dst = wait->dst, .flags = slot->flags, .callback = on_result, .user_data = slot, .timeout = wait->timeout};
        struct srvlua_status status;
        int64_t id;

        if (wait->end > 0 && wait->sent && wait->end <= sv_lua_now()) {
            wait->code = SRVLUA_ERROR_TASK_TIMEOUT;
            continue;
        }
        id = srvlua_task(server, slot->bytes, slot->length, &options, &status);
        if (id == -EAGAIN)
            return false;
        slot->was_sent = id >= 0;
        if (id < 0) {
            wait->code = (int)-id;
            if (wait->shape == MULTI)
                keep_result(wait, wait->sent + 1, false);
            continue;
        }
        slot->id = id;
        wait->delivered++;
        wait->open++;
    }
    return true;
}

static bool is_over(const struct wait *wait) { return wait->sent == wait->count && wait->open == 0; }

static int on_room(void *user_data, int code);

/* Sends on; what finds no room waits for it. */
static void send_or_wait(struct wait *wait) {
    srvlua_server *server = wait->lua->server->server;

    wait->is_waiting = false;
    if (send_tasks(wait))
        return;
    if (wait->end > 0 && sv_lua_now() >= wait->end) {
        wait->sent = wait->count;
        wait->code = SRVLUA_ERROR_TASK_TIMEOUT;
        return;
    }
    wait->is_waiting = srvlua_wait_for_task_room(server, wait->dst, on_room, wait, NULL) == 0;
    if (!wait->is_waiting)
        wait->sent = wait->count;
}

static int on_room(void *user_data, int code) {
    struct wait *wait = user_data;

    if (code)
        wait->sent = wait->count;
    else
        send_or_wait(wait);
    return resume(wait);
}

static int is_done(void *user_data) {
    struct wait *wait = user_data;

    if (wait->sent < wait->count && !send_tasks(wait) && wait->end > 0 && sv_lua_now() >= wait->end)
        wait->sent = wait->count;
    return is_over(wait);
}

/* Pushes what the call returns and counts it; ends the wait. */
static int push_outcome(lua_State *L, struct wait *wait) {
    struct srvlua_status status;
    srvlua_server *server = wait->lua->server->server;
    int i, count = 1;

    for (i = 0; i < wait->count; i++)
        if (wait->slots[i].id >= 0)
            srvlua_task_forget(server, wait->slots[i].id);
    lua_rawgeti(L, LUA_REGISTRYINDEX, wait->results_ref);
    luaL_unref(L, LUA_REGISTRYINDEX, wait->results_ref);
    if (!wait->delivered) {
        int code = wait->shape == ONE && wait->code ? wait->code : SRVLUA_ERROR_TASK_DISPATCH_FAIL;
        srvlua_fail(server, &status, code == EAGAIN ? SRVLUA_ERROR_TASK_DISPATCH_FAIL : code, "%s",
                    wait->shape == ONE ? srvlua_strerror(code) : "none of the tasks could be delivered");
        count = sv_lua_fail(L, &status);
    } else if (wait->shape != ONE) {
        for (i = 1; wait->shape == CO && i <= wait->count; i++) {
            lua_rawgeti(L, -1, i);
            if (lua_isnil(L, -1)) {
                /* a result of nil and none at all look alike: taskCo marks both with false */
                lua_pushboolean(L, 0);
                lua_rawseti(L, -3, i);
            }
            lua_pop(L, 1);
        }
        if (wait->shape == MULTI) {
            lua_pushinteger(L, wait->count);
            lua_setfield(L, -2, "n");
        }
    } else if (wait->code) {
        srvlua_fail(server, &status, wait->code, "%s", srvlua_strerror(wait->code));
        count = sv_lua_fail(L, &status);
    } else {
        lua_rawgeti(L, -1, 1);
    }
    free(wait);
    return count;
}

/* Goes on with the coroutine when all is there. */
static int resume(struct wait *wait) {
    struct sv_lua_coroutine *coroutine = wait->coroutine;
    lua_State *L = coroutine->L, *work = coroutine->lua->L;
    int before = lua_gettop(work), count;

    if (!is_over(wait) || wait->is_waiting)
        return 0;
    count = push_outcome(work, wait);
    lua_settop(L, 0);
    lua_xmove(work, L, count);
    lua_settop(work, before);
    return sv_lua_resume(coroutine, count);
}

/* A new wait for `count` tasks. */
static struct wait *new_wait(lua_State *L, struct sv_lua *lua, enum shape shape, int count, double timeout, int dst) {
    struct wait *wait = calloc(1, sizeof *wait + (size_t)count * sizeof *wait->slots);
    int i;

    if (!wait)
        return NULL;
    *wait = (struct wait){.lua = lua,
                          .shape = shape,
                          .count = count,
                          .timeout = timeout,
                          .end = timeout > 0 ? sv_lua_now() + timeout : 0,
                          .dst = dst,
                          .code = SRVLUA_ERROR_TASK_TIMEOUT};
    for (i = 0; i < count; i++)
        wait->slots[i] = (struct slot){.wait = wait, .id = -1};
    lua_createtable(L, count, 1);
    wait->results_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return wait;
}

/* Sends and waits. The bytes of the tasks are kept by the value at index 1. */
static int run(lua_State *L, struct wait *wait, struct sv_lua_coroutine *coroutine, const char *name) {
    int i, flags = coroutine ? SRVLUA_TASK_COROUTINE : wait->shape == MULTI ? SRVLUA_TASK_WAITALL : 0;

    for (i = 0; i < wait->count; i++)
        wait->slots[i].flags |= flags;
    wait->coroutine = coroutine;
    if (!coroutine) {
        while (!is_over(wait)) {
            /* in slices while something waits for room: that may come without a bell */
            double left = wait->end > 0 ? wait->end - sv_lua_now() : 0;
            if (wait->sent < wait->count && (left <= 0 || left > 0.005))
                left = 0.005;
            if (wait->end > 0 && sv_lua_now() >= wait->end && wait->open == 0)
                break;
            if (srvlua_wait_until(wait->lua->server->server, is_done, wait, left > 0 ? left + 0.002 : 0, NULL) ==
                -SRVLUA_ERROR_SERVER_WORKER_TERMINATED)
                break;
            if (wait->end > 0 && sv_lua_now() >= wait->end)
                break;
        }
        return push_outcome(L, wait);
    }
    send_or_wait(wait);
    if (is_over(wait) && !wait->is_waiting)
        return push_outcome(L, wait);
    return sv_lua_suspend_with(L, coroutine, name, 1);
}

static double check_timeout(lua_State *L, int argument) {
    double timeout = lua_isnoneornil(L, argument) ? WAIT_DEFAULT : sv_lua_check_number(L, argument);

    if (timeout != timeout)
        sv_lua_argument_error(L, argument, "seconds expected, got nan");
    return timeout;
}

/* Whether tasks can be given and waited for here; else -code and *status. */
static int check_role(struct sv_lua_server *self, struct srvlua_status *status) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    if (srvlua_get_role(self->server) != SRVLUA_ROLE_WORKER)
        return srvlua_fail(self->server, status, SRVLUA_ERROR_WRONG_OPERATION, "only event workers can wait for tasks");
    srvlua_get_setting(self->server, "task_worker_num", &value);
    if (value.number <= 0)
        return srvlua_fail(self->server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "there are no task workers");
    return 0;
}

/* server:taskwait(data [, timeout = 0.5 [, dst = -1]]) -> result */
int sv_lua_server_taskwait(lua_State *L, struct sv_lua_server *self) {
    double timeout = check_timeout(L, 3);
    int flags, dst = sv_lua_optional_int(L, 4, -1);
    struct sv_lua_coroutine *coroutine;
    struct srvlua_status status;
    struct wait *wait;
    const char *bytes;
    size_t length;

    bytes = sv_lua_pack(L, 2, &length, &flags);
    if (check_role(self, &status) < 0)
        return sv_lua_fail(L, &status);
    coroutine = sv_lua_suspendable(L);
    wait = new_wait(L, self->lua, ONE, 1, timeout, dst);
    if (!wait)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    wait->slots[0].bytes = bytes;
    wait->slots[0].length = length;
    wait->slots[0].flags = flags;
    lua_replace(L, 1);
    return run(L, wait, coroutine, "taskwait");
}

/* Raises unless the table at `index` is a sequence; returns its length. */
static int check_sequence(lua_State *L, int index) {
    int count = 0, length;

    if (!lua_istable(L, index))
        return sv_lua_type_error(L, index, "sequence of tasks");
    length = (int)lua_objlen(L, index);
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        double key = lua_type(L, -2) == LUA_TNUMBER ? lua_tonumber(L, -2) : 0;
        if (key < 1 || key > length || key != (double)(int)key)
            return sv_lua_argument_error(L, index, "sequence of tasks expected, got a table with other keys");
        count++;
    }
    return count == length ? count : sv_lua_argument_error(L, index, "sequence of tasks expected, got one with holes");
}

static int wait_for_many(lua_State *L, struct sv_lua_server *self, enum shape shape, const char *name) {
    int i, count = check_sequence(L, 2);
    double timeout = check_timeout(L, 3);
    struct sv_lua_coroutine *coroutine;
    struct srvlua_status status;
    struct wait *wait;

    if (check_role(self, &status) < 0)
        return sv_lua_fail(L, &status);
    coroutine = sv_lua_suspendable(L);
    if (shape == CO && !coroutine)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_CO_OUT_OF_COROUTINE, "taskCo works in coroutines only");
    if (count > TASKS_MAX)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS, "more than 1024 tasks at a time");
    if (count == 0)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_TASK_DISPATCH_FAIL, "there are no tasks");
    lua_createtable(L, count, 0); /* keeps the bytes */
    for (i = 1; i <= count; i++) { /* all of them before any is sent: one that cannot be sent raises here */
        size_t length;
        int flags;
        lua_rawgeti(L, 2, i);
        sv_lua_pack_element(L, -1, 2, &length, &flags);
        lua_rawseti(L, -3, i);
        lua_pop(L, 1);
    }
    wait = new_wait(L, self->lua, shape, count, timeout, -1);
    if (!wait)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    for (i = 1; i <= count; i++) {
        struct slot *slot = &wait->slots[i - 1];
        lua_rawgeti(L, 2, i);
        slot->flags = lua_type(L, -1) == LUA_TSTRING ? 0 : SRVLUA_TASK_SERIALIZE;
        lua_pop(L, 1);
        lua_rawgeti(L, -1, i);
        slot->bytes = lua_tolstring(L, -1, &slot->length);
        lua_pop(L, 1);
    }
    lua_replace(L, 1);
    return run(L, wait, coroutine, name);
}

/* server:taskWaitMulti(tasks [, timeout = 0.5]) -> table */
int sv_lua_server_task_wait_multi(lua_State *L, struct sv_lua_server *self) {
    return wait_for_many(L, self, MULTI, "taskWaitMulti");
}

/* server:taskCo(tasks [, timeout = 0.5]) -> table */
int sv_lua_server_task_co(lua_State *L, struct sv_lua_server *self) { return wait_for_many(L, self, CO, "taskCo"); }

/* ------------------------------------------------------------------------------------------------------------ messages */

/* server:sendMessage(message, worker_id) -> true */
int sv_lua_server_send_message(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_status status;
    size_t length;
    int flags, worker_id = sv_lua_check_int(L, 3);
    const char *bytes = sv_lua_pack(L, 2, &length, &flags);

    return sv_lua_result(L, srvlua_send_message(self->server, worker_id, bytes, length, flags, &status), &status);
}
