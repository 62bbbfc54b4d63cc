/* process.c: srvlua.Process: the class, and the life of a process; see process.h. */
#include "lua/process.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lua/callbacks.h"
#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/process_object.h"
#include "lua/script_loop.h"
#include "lua/values.h"

#define EXIT_ERROR 255 /* after an uncaught error (events.md 15) */

static const struct sv_lua_kind process_kind = {"srvlua.Process"};

struct sv_lua_process *sv_lua_check_process(lua_State *L) { return sv_lua_check_self(L, &process_kind); }

static int fail(lua_State *L, const char *message) {
    return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, message);
}

static enum srvlua_role role_of(const struct sv_lua *lua) {
    return lua->is_running ? srvlua_get_role(lua->server->server) : SRVLUA_ROLE_BEFORE;
}

/* ------------------------------------------------------------------------------------------------ what the child runs */

/* sv_lua_push: the function, the object. */
static int push_function(lua_State *L, void *argument) {
    const struct sv_lua_process *self = argument;

    lua_rawgeti(L, LUA_REGISTRYINDEX, self->child_ref);
    lua_getfenv(L, -1);
    lua_getfield(L, -1, "callback");
    lua_replace(L, -2);
    lua_insert(L, -2);
    return 2;
}

/* Runs the function, then its loop until nothing is left in it. Returns the exit status. */
static int run_function(struct sv_lua_process *self) {
    struct sv_lua *lua = self->lua;
    srvlua_loop *loop = sv_lua_loop(lua);
    int failed;

    lua->error_count = 0;
    lua->uses_coroutines = lua->can_suspend = self->uses_coroutines;
    lua->may_turn = !self->uses_coroutines;
    if (self->uses_coroutines)
        failed = sv_lua_run(lua, "process function", push_function, self);
    else
        failed = sv_lua_call(lua, "process function", push_function, self);
    lua->may_turn = false;
    lua->can_suspend = true;
    while (!failed && lua->error_count == 0 && srvlua_loop_pending(loop) > 0)
        srvlua_loop_turn(loop, -1);
    if (failed || lua->error_count > 0)
        return EXIT_ERROR;
    sv_lua_end_coroutines(lua, "the process");
    return 0;
}

/* The object, which is on the top of the stack and goes, is about this process. 0 or -errno. */
static int become_child(lua_State *L, struct sv_lua_process *self) {
    self->is_child = true;
    self->pid = getpid();
    self->child_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return self->is_redirected ? sv_lua_pipe_redirect(self) : 0;
}

/* Pushes a process of the server whose object is at `index`, or nil. */
static void push_added(lua_State *L, int index, int position) {
    lua_getfenv(L, index);
    lua_getfield(L, -1, "processes");
    if (lua_istable(L, -1))
        lua_rawgeti(L, -1, position + 1);
    else
        lua_pushnil(L);
    lua_replace(L, -3);
    lua_pop(L, 1);
}

/* srvlua_process_main: a user process of a server. */
static int run_user_process(srvlua_server *server, int process_id, void *user_data) {
    struct sv_lua_process *self = user_data;
    struct sv_lua *lua = self->lua;
    int result;

    sv_lua_adopt_process(lua);
    lua_checkstack(lua->L, LUA_MINSTACK);
    lua_rawgeti(lua->L, LUA_REGISTRYINDEX, lua->server_ref);
    push_added(lua->L, lua_gettop(lua->L), self->position);
    lua_remove(lua->L, -2);
    result = become_child(lua->L, self);
    if (result == 0) {
        int status = run_function(self);
        if (status)
            srvlua_callback_failed(server); /* counts it */
        return status;
    }
    srvlua_log(server, SRVLUA_LOG_ERROR, "the streams of user process %d cannot be redirected: %s", process_id,
               strerror(-result));
    return EXIT_ERROR;
}

/* C function: what start() does in the child. */
static int run_child(lua_State *L) {
    struct sv_lua_process *self = lua_touserdata(L, 1);
    struct sv_lua *lua = self->lua;
    int status = EXIT_ERROR;

    sv_lua_leave_parent(L, lua);
    lua->own_loop = srvlua_loop_new();
    if (lua->own_loop)
        status = run_function(self);
    else
        sv_lua_log(lua, SRVLUA_LOG_ERROR, "process %d has no loop: not enough memory", self->id);
    fflush(NULL);
    _exit(status);
}

/* --------------------------------------------------------------------------------------------------------- starting */

/* Whether the process that start() made is there, or has ended without being waited for. */
static bool is_started(const struct sv_lua_process *self) {
    siginfo_t info;

    return self->pid > 0 && waitid(P_PID, (id_t)self->pid, &info, WNOHANG | WEXITED | WNOWAIT) == 0;
}

/* Pushes the failure if it cannot be started here and now; 0: it can. */
static int refuse_to_start(lua_State *L, const struct sv_lua_process *self) {
    enum srvlua_role role = role_of(self->lua);

    if (self->position >= 0)
        return fail(L, "the process is the server's to start");
    if (role == SRVLUA_ROLE_MASTER || role == SRVLUA_ROLE_MANAGER)
        return fail(L, "master and manager have no children of their own");
    return self->is_child || is_started(self) ? fail(L, "the process is running already") : 0;
}

/* A pipe for another run, if the former one has lost its end. 0 or -errno. */
static int renew_pipe(struct sv_lua_process *self) {
    if (self->pipe_type == SV_LUA_PIPE_NONE || self->pipe[SV_LUA_CHILDS_END] >= 0)
        return 0;
    sv_lua_pipe_close(self);
    return sv_lua_pipe_open(self);
}

static _Noreturn void start_child(lua_State *L, struct sv_lua_process *self) {
    int result;

    lua_settop(L, 1);
    sv_lua_pipe_close_end(self, SV_LUA_PARENTS_END); /* so that each side sees the other's end */
    result = become_child(L, self);
    if (result < 0)
        fprintf(stderr, "the streams of process %d cannot be redirected: %s\n", self->id, strerror(-result));
    else if (lua_cpcall(self->lua->L, run_child, self) != 0)
        fprintf(stderr, "process %d ends: %s\n", self->id, lua_tostring(self->lua->L, -1));
    _exit(EXIT_ERROR);
}

/* process:start() -> pid */
static int process_start(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int result;
    pid_t pid;

    if (refuse_to_start(L, self))
        return 3;
    result = renew_pipe(self);
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    fflush(NULL); /* nothing buffered is written twice */
    pid = fork();
    if (pid < 0)
        return sv_lua_fail_code(L, errno);
    if (pid == 0)
        start_child(L, self);
    self->pid = pid;
    sv_lua_pipe_close_end(self, SV_LUA_CHILDS_END);
    lua_pushinteger(L, pid);
    return 1;
}

int sv_lua_server_add_process(lua_State *L, struct sv_lua_server *self) {
    struct sv_lua_process *process = sv_lua_to_object(L, 2, &process_kind);
    struct srvlua_status status;
    int position;

    if (!process)
        return sv_lua_type_error(L, 2, process_kind.name);
    if (process->position >= 0)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS, "the process was added already");
    if (process->pid)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS, "the process was started by itself");
    position = srvlua_add_process(self->server, run_user_process, process, &status);
    if (position < 0)
        return sv_lua_fail(L, &status);
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "processes");
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "processes");
    }
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, position + 1);
    process->position = position;
    lua_pushinteger(L, position);
    return 1;
}

static int setting_of(srvlua_server *server, const char *name) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    return srvlua_get_setting(server, name, &value) >= 0 && value.type == SRVLUA_VALUE_NUMBER ? (int)value.number : 0;
}

void sv_lua_number_processes(lua_State *L, int index, srvlua_server *server) {
    int first = setting_of(server, "worker_num") + setting_of(server, "task_worker_num"), position;

    for (position = 0;; position++) {
        struct sv_lua_process *process;
        push_added(L, index, position);
        process = lua_touserdata(L, -1);
        lua_pop(L, 1);
        if (!process)
            return;
        process->id = first + position;
    }
}

/* -------------------------------------------------------------------------------------------------- in the child itself */

/* What was sent and printed must not be lost with the process. */
static void hand_over(const struct sv_lua_process *self) {
    if (self->lua->is_running)
        srvlua_flush(self->lua->server->server);
    fflush(NULL);
}

/* The vector for exec: the path, the strings and numbers of the table at `argument`, if there is one. It lives on the stack. */
static char *const *check_program(lua_State *L, const char *path, int argument) {
    int i, count = lua_isnoneornil(L, argument) ? 0 : (int)lua_objlen(L, argument);
    const char **argv;

    if (!lua_isnoneornil(L, argument) && !lua_istable(L, argument))
        sv_lua_type_error(L, argument, "table");
    luaL_checkstack(L, count + LUA_MINSTACK, "arguments of a program");
    argv = lua_newuserdata(L, ((size_t)count + 2) * sizeof *argv);
    argv[0] = path;
    for (i = 1; i <= count; i++) {
        lua_rawgeti(L, argument, i);
        if (lua_type(L, -1) != LUA_TSTRING && lua_type(L, -1) != LUA_TNUMBER)
            sv_lua_argument_error(L, argument, lua_pushfstring(L, "argument %d is a %s", i, luaL_typename(L, -1)));
        argv[i] = lua_tostring(L, -1);
    }
    argv[count + 1] = NULL;
    return (char *const *)argv;
}

/* process:exec(path [, arguments]): the process becomes that program, or the failure */
static int process_exec(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    const char *path = sv_lua_check_text(L, 2);
    char *const *argv = check_program(L, path, 3);
    sigset_t none, before;
    int error;

    if (path[0] != '/')
        return sv_lua_argument_error(L, 2, "path that begins with '/' expected");
    if (!self->is_child)
        return fail(L, "only the process itself can become another program");
    hand_over(self);
    sigemptyset(&none); /* what the loop reads would stay blocked in the program */
    sigprocmask(SIG_SETMASK, &none, &before);
    execv(path, argv);
    error = errno;
    sigprocmask(SIG_SETMASK, &before, NULL);
    return sv_lua_fail_code(L, error);
}

/* process:exit([status = 0]) */
static int process_exit(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int status = sv_lua_optional_int(L, 2, 0);

    if (!self->is_child)
        return fail(L, "only the process itself can end so");
    hand_over(self);
    _exit(status < 0 || status > 255 ? 1 : status);
}

/* process:name(title) -> true */
static int process_name(lua_State *L) {
    int result;

    sv_lua_check_process(L);
    result = srvlua_set_process_name(sv_lua_check_text(L, 2));
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    lua_pushboolean(L, 1);
    return 1;
}

/* --------------------------------------------------------------------------------------------------------- priority */

/* Whose priority: argument `argument`, else of this process object's process, else the calling one's. */
static id_t whose(lua_State *L, const struct sv_lua_process *self, int which, int argument) {
    return (id_t)sv_lua_optional_int(L, argument, which == PRIO_PROCESS ? self->pid : 0);
}

/* process:setPriority(which, priority [, who]) -> true */
static int process_set_priority(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int which = sv_lua_check_int(L, 2), priority = sv_lua_check_int(L, 3);

    if (setpriority((__priority_which_t)which, whose(L, self, which, 4), priority) < 0)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* process:getPriority(which [, who]) -> priority */
static int process_get_priority(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int which = sv_lua_check_int(L, 2), priority;

    errno = 0; /* -1 is a priority */
    priority = getpriority((__priority_which_t)which, whose(L, self, which, 3));
    if (priority == -1 && errno)
        return sv_lua_fail_code(L, errno);
    lua_pushinteger(L, priority);
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------- objects */

/* process:set{ enable_coroutine = boolean } -> true */
static int process_set(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);

    if (!lua_istable(L, 2))
        return sv_lua_type_error(L, 2, "table");
    for (lua_pushnil(L); lua_next(L, 2); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING || strcmp(lua_tostring(L, -2), "enable_coroutine") != 0)
            return sv_lua_argument_error(L, 2, "a process has only the setting enable_coroutine");
        if (!lua_isboolean(L, -1))
            return sv_lua_argument_error(L, 2, lua_pushfstring(L, "bad setting 'enable_coroutine': expected boolean, got %s",
                                                               luaL_typename(L, -1)));
        self->uses_coroutines = lua_toboolean(L, -1);
    }
    lua_pushboolean(L, 1);
    return 1;
}

static const struct sv_lua_function methods[] = {
    SV_LUA_METHOD("start", process_start),
    SV_LUA_METHOD("exec", process_exec),
    SV_LUA_METHOD("exit", process_exit),
    SV_LUA_METHOD("name", process_name),
    SV_LUA_METHOD("setPriority", process_set_priority),
    SV_LUA_METHOD("getPriority", process_get_priority),
    SV_LUA_METHOD("set", process_set),
    SV_LUA_END,
};

/* Pushes a field, or nil. */
static void push_field(lua_State *L, struct sv_lua_process *self, const char *name) {
    if (strcmp(name, "pid") == 0) {
        lua_pushinteger(L, self->pid);
    } else if (strcmp(name, "id") == 0) {
        lua_pushinteger(L, self->id);
    } else if (strcmp(name, "pipe") == 0) {
        lua_pushinteger(L, *sv_lua_process_end(self));
    } else if (strcmp(name, "msgQueueId") == 0) {
        lua_pushinteger(L, self->queue);
    } else if (strcmp(name, "msgQueueKey") == 0) {
        lua_pushnumber(L, (double)self->queue_key);
    } else if (strcmp(name, "callback") == 0) {
        lua_getfenv(L, 1);
        lua_getfield(L, -1, "callback");
    } else {
        lua_pushnil(L);
    }
}

static int process_index(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);

    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (lua_isnil(L, -1) && lua_type(L, 2) == LUA_TSTRING)
        push_field(L, self, lua_tostring(L, 2));
    return 1;
}

static int process_gc(lua_State *L) {
    sv_lua_pipe_close(sv_lua_check_process(L));
    return 0;
}

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__index", process_index),
    SV_LUA_METHOD("__gc", process_gc),
    SV_LUA_END,
};

/* Process(fn [, redirect_stdin_stdout = false [, pipe_type = 2 [, enable_coroutine = false]]]) */
static int process_new(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct srvlua_status status = {.code = SRVLUA_ERROR_WRONG_OPERATION};
    struct sv_lua_process *self;
    bool is_redirected, uses_coroutines;
    int pipe_type, result;

    sv_lua_check_callable(L, 2);
    is_redirected = sv_lua_optional_boolean(L, 3, false);
    pipe_type = sv_lua_optional_int(L, 4, SV_LUA_PIPE_DGRAM);
    uses_coroutines = sv_lua_optional_boolean(L, 5, false);
    if (pipe_type < SV_LUA_PIPE_NONE || pipe_type > SV_LUA_PIPE_DGRAM)
        return sv_lua_argument_error(L, 4, lua_pushfstring(L, "PIPE_TYPE_* expected, got %d", pipe_type));
    if (role_of(lua) == SRVLUA_ROLE_MASTER) {
        snprintf(status.message, sizeof status.message, "no process can be made in the running master");
        return sv_lua_raise(L, &status);
    }
    self = lua_newuserdata(L, sizeof *self);
    *self = (struct sv_lua_process){.kind = &process_kind,
                                    .lua = lua,
                                    .is_redirected = is_redirected,
                                    .uses_coroutines = uses_coroutines,
                                    .position = -1,
                                    .id = lua->last_process_id + 1,
                                    .pipe_type = is_redirected ? SV_LUA_PIPE_STREAM : (enum sv_lua_pipe_type)pipe_type,
                                    .pipe = {-1, -1},
                                    .timeout = -1,
                                    .queue = -1};
    luaL_getmetatable(L, process_kind.name);
    lua_setmetatable(L, -2);
    lua_createtable(L, 0, 2);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "callback");
    lua_setfenv(L, -2);
    result = sv_lua_pipe_open(self);
    if (result < 0) {
        status.code = -result;
        snprintf(status.message, sizeof status.message, "the pipe cannot be made: %s", strerror(-result));
        return sv_lua_raise(L, &status);
    }
    lua->last_process_id++;
    return 1;
}

void sv_lua_process_open(lua_State *L, struct sv_lua *lua) {
    lua_newtable(L);
    lua->signals_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    sv_lua_pipe_socket_open(L, lua);
    luaL_newmetatable(L, process_kind.name);
    sv_lua_register(L, lua, metamethods);
    lua_newtable(L);
    sv_lua_register(L, lua, methods);
    sv_lua_register(L, lua, sv_lua_pipe_methods);
    sv_lua_register(L, lua, sv_lua_queue_methods);
    lua_setfield(L, -2, "methods");
    lua_pushstring(L, process_kind.name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void sv_lua_push_process_class(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function constructor = SV_LUA_METHOD("Process", process_new);

    sv_lua_push_class(L, lua, &constructor);
    sv_lua_register(L, lua, sv_lua_process_functions);
}
