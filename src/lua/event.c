/* event.c: see event.h. */
#include "lua/event.h"

#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/script_loop.h"
#include "lua/timer.h"
#include "lua/values.h"

enum { READ = 512, WRITE = 1024 }; /* srvlua.EVENT_READ, EVENT_WRITE */

struct chunk { /* waits to be written */
    struct chunk *next;
    size_t length, done;
    char bytes[];
};

struct sv_lua_event { /* a descriptor; *link points to it */
    struct sv_lua *lua;
    struct sv_lua_event *next, **link;
    int fd;
    srvlua_watch *watch;
    int object_ref; /* what was given as the descriptor, and is given to the functions */
    int read_ref, write_ref;
    int flags; /* READ, WRITE; 0: only written to */
    bool is_added;
    struct chunk *first, *last;
    bool is_running, is_removed;
};

/* ----------------------------------------------------------------------------------------------------- descriptors */

/* Pushes field `name` of the value at `index`, or nil if it has no fields. */
static void push_field(lua_State *L, int index, const char *name) {
    if (lua_istable(L, index))
        lua_getfield(L, index, name);
    else if (luaL_getmetafield(L, index, "__index")) {
        lua_pop(L, 1);
        lua_getfield(L, index, name);
    } else {
        lua_pushnil(L);
    }
}

/* Argument 1 as a descriptor: a number, a Process, or a socket object, which has a field `fd` or a method `getfd`. */
static int check_descriptor(lua_State *L) {
    static const char *const fields[] = {"pipe", "fd"};
    size_t i;

    if (lua_type(L, 1) == LUA_TNUMBER)
        lua_pushvalue(L, 1);
    else
        lua_pushnil(L);
    for (i = 0; lua_isnil(L, -1) && i < sizeof fields / sizeof fields[0]; i++) {
        lua_pop(L, 1);
        push_field(L, 1, fields[i]);
    }
    if (lua_isnil(L, -1)) {
        lua_pop(L, 1);
        push_field(L, 1, "getfd");
        if (lua_isfunction(L, -1)) {
            lua_pushvalue(L, 1);
            lua_call(L, 1, 1);
        }
    }
    if (lua_type(L, -1) != LUA_TNUMBER || lua_tonumber(L, -1) < 0)
        return sv_lua_type_error(L, 1, "open descriptor, or an object that has one,");
    lua_replace(L, 1); /* the original is kept behind */
    return (int)lua_tonumber(L, 1);
}

static struct sv_lua_event *find(const struct sv_lua *lua, int fd) {
    struct sv_lua_event *event = lua->events;

    while (event && event->fd != fd)
        event = event->next;
    return event;
}

static void update_watch(struct sv_lua_event *event) {
    srvlua_watch_set(event->watch, (event->flags & READ ? SRVLUA_READABLE : 0) |
                                       (event->flags & WRITE || event->first ? SRVLUA_WRITABLE : 0));
}

static void drop_chunks(struct sv_lua_event *event) {
    while (event->first) {
        struct chunk *chunk = event->first;
        event->first = chunk->next;
        free(chunk);
    }
    event->last = NULL;
}

/* The one door out; one whose function is running goes when that is over. */
static void remove_event(struct sv_lua_event *event) {
    lua_State *L = event->lua->L;

    if (!event->is_removed) {
        event->is_removed = true;
        srvlua_watch_free(event->watch);
        *event->link = event->next;
        if (event->next)
            event->next->link = event->link;
        luaL_unref(L, LUA_REGISTRYINDEX, event->object_ref);
        luaL_unref(L, LUA_REGISTRYINDEX, event->read_ref);
        luaL_unref(L, LUA_REGISTRYINDEX, event->write_ref);
        drop_chunks(event);
    }
    if (!event->is_running)
        free(event);
}

void sv_lua_forget_events(struct sv_lua *lua) {
    int i;

    while (lua->events)
        remove_event(lua->events);
    for (i = 0; i < 2; i++) {
        luaL_unref(lua->L, LUA_REGISTRYINDEX, lua->cycle_refs[i]);
        lua->cycle_refs[i] = LUA_NOREF;
    }
}

/* ---------------------------------------------------------------------------------------------------------- writing */

/* write() that raises no SIGPIPE, which would end a script. -errno. */
static ssize_t write_quietly(int fd, const void *data, size_t length) {
    const struct timespec at_once = {0, 0};
    sigset_t pipe, before;
    ssize_t result = send(fd, data, length, MSG_NOSIGNAL);

    if (result >= 0 || errno != ENOTSOCK)
        return result < 0 ? -errno : result;
    sigemptyset(&pipe);
    sigaddset(&pipe, SIGPIPE);
    pthread_sigmask(SIG_BLOCK, &pipe, &before);
    result = write(fd, data, length);
    if (result < 0)
        result = -errno;
    if (result == -EPIPE && !sigismember(&before, SIGPIPE))
        sigtimedwait(&pipe, NULL, &at_once);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

/* Writes what the descriptor takes. 0, or -errno: it takes nothing any more. */
static int flush(struct sv_lua_event *event) {
    while (event->first) {
        struct chunk *chunk = event->first;
        ssize_t result = write_quietly(event->fd, chunk->bytes + chunk->done, chunk->length - chunk->done);
        if (result == -EINTR)
            continue;
        if (result < 0)
            return result == -EAGAIN ? 0 : (int)result;
        chunk->done += (size_t)result;
        if (chunk->done < chunk->length)
            continue;
        event->first = chunk->next;
        free(chunk);
    }
    event->last = NULL;
    return 0;
}

static bool append(struct sv_lua_event *event, const char *data, size_t length) {
    struct chunk *chunk = malloc(sizeof *chunk + length);

    if (!chunk)
        return false;
    *chunk = (struct chunk){.length = length};
    memcpy(chunk->bytes, data, length);
    if (event->last)
        event->last->next = chunk;
    else
        event->first = chunk;
    event->last = chunk;
    return true;
}

/* ---------------------------------------------------------------------------------------------------------- calling */

struct event_call {
    const struct sv_lua_event *event;
    int ref;
};

/* sv_lua_push: function, the descriptor as it was given. */
static int push_call(lua_State *L, void *argument) {
    const struct event_call *call = argument;

    lua_rawgeti(L, LUA_REGISTRYINDEX, call->ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, call->event->object_ref);
    return 2;
}

static int call_function(struct sv_lua_event *event, int ref) {
    struct event_call call = {event, ref};
    struct sv_lua *lua = event->lua;

    if (lua->uses_coroutines && sv_lua_is_full(lua, "Event callback"))
        return 0;
    return sv_lua_start(lua, "Event callback", push_call, &call);
}

static int on_ready(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct sv_lua_event *event = user_data;
    int result, failures = 0;

    (void)loop;
    event->is_running = true;
    if (events & SRVLUA_WRITABLE && event->first) {
        result = flush(event);
        if (result < 0) {
            sv_lua_log(event->lua, SRVLUA_LOG_WARNING, "what Event.write had for descriptor %d is lost: %s", fd,
                       strerror(-result));
            drop_chunks(event);
        }
        update_watch(event);
    }
    if (events & SRVLUA_READABLE && event->flags & READ)
        failures += call_function(event, event->read_ref);
    if (!event->is_removed && events & SRVLUA_WRITABLE && event->flags & WRITE && !event->first)
        failures += call_function(event, event->write_ref);
    event->is_running = false;
    if (event->is_removed || (!event->is_added && !event->first))
        remove_event(event);
    return failures > 0;
}

/* ------------------------------------------------------------------------------------------------- the module: adding */

/* The loop to add something to; a script's is made. NULL: there is none, and the failure is pushed. */
static srvlua_loop *loop_to_use(lua_State *L, struct sv_lua *lua) {
    srvlua_loop *loop = sv_lua_loop(lua);
    int result;

    if (loop)
        return loop;
    if (lua->server && !lua->server->has_returned) {
        sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION,
                         "there is no loop: the server does not run, or this process has none");
        return NULL;
    }
    result = sv_lua_make_script_loop(lua);
    if (result < 0)
        sv_lua_fail_code(L, -result);
    return lua->own_loop;
}

/* Makes one for the descriptor, whose object is on the top of the stack and goes. NULL: the failure is pushed. */
static struct sv_lua_event *make_event(lua_State *L, struct sv_lua *lua, int fd) {
    srvlua_loop *loop = loop_to_use(L, lua);
    struct sv_lua_event *event;
    struct srvlua_status status = {.code = SRVLUA_ERROR_MALLOC_FAIL, .message = "not enough memory"};
    int flags;

    if (!loop)
        return NULL;
    event = calloc(1, sizeof *event);
    if (event)
        event->watch = srvlua_watch_new(loop, fd, 0, on_ready, event, &status);
    if (!event || !event->watch) {
        free(event);
        sv_lua_fail(L, &status);
        return NULL;
    }
    flags = fcntl(fd, F_GETFL);
    if (flags >= 0 && !(flags & O_NONBLOCK))
        fcntl(fd, F_SETFL, flags | O_NONBLOCK);
    event->lua = lua;
    event->fd = fd;
    event->object_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    event->read_ref = event->write_ref = LUA_NOREF;
    event->next = lua->events;
    event->link = &lua->events;
    if (event->next)
        event->next->link = &event->next;
    lua->events = event;
    return event;
}

static int fail(lua_State *L, const char *message) { return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS, message); }

/* The flags at `argument`, or `value`. */
static int optional_flags(lua_State *L, int argument, int value) {
    int flags = sv_lua_optional_int(L, argument, value);

    if (flags & ~(READ | WRITE))
        return sv_lua_argument_error(L, argument, "EVENT_READ, EVENT_WRITE or their sum expected");
    return flags;
}

static void optional_function(lua_State *L, int argument) {
    if (!lua_isnoneornil(L, argument))
        sv_lua_check_callable(L, argument);
}

/* Takes functions and flags over from the arguments; nil keeps what is there. */
static void take_functions(lua_State *L, struct sv_lua_event *event, int flags) {
    int *const refs[] = {&event->read_ref, &event->write_ref};
    int i;

    for (i = 0; i < 2; i++) {
        if (lua_isnil(L, 2 + i))
            continue;
        luaL_unref(L, LUA_REGISTRYINDEX, *refs[i]);
        lua_pushvalue(L, 2 + i);
        *refs[i] = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    event->flags = flags;
    event->is_added = true;
    update_watch(event);
}

/* Whether each flag has its function: among the arguments, or already. */
static bool has_functions(lua_State *L, int flags, const struct sv_lua_event *event) {
    bool reads = !lua_isnil(L, 2) || (event && event->read_ref != LUA_NOREF);
    bool writes = !lua_isnil(L, 3) || (event && event->write_ref != LUA_NOREF);

    return (reads || !(flags & READ)) && (writes || !(flags & WRITE));
}

/* Event.add(fd, on_read [, on_write [, flags = EVENT_READ]]) -> true */
static int event_add(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_event *event;
    int fd, flags;

    lua_settop(L, 4);
    optional_function(L, 2);
    optional_function(L, 3);
    flags = optional_flags(L, 4, READ);
    lua_pushvalue(L, 1);
    fd = check_descriptor(L);
    event = find(lua, fd);
    if (event && event->is_added)
        return fail(L, "the descriptor is watched already");
    if (flags == 0 || !has_functions(L, flags, NULL))
        return fail(L, "each flag needs its function");
    if (!event)
        event = make_event(L, lua, fd);
    if (!event)
        return 3;
    take_functions(L, event, flags);
    lua_pushboolean(L, 1);
    return 1;
}

/* The descriptor at argument 1 if it was added; NULL: it was not, and the failure is pushed. */
static struct sv_lua_event *check_added(lua_State *L) {
    struct sv_lua_event *event = find(sv_lua_of(L), check_descriptor(L));

    if (event && event->is_added)
        return event;
    fail(L, "the descriptor is not watched");
    return NULL;
}

/* Event.set(fd, on_read, on_write, flags) -> true; nil keeps what is there */
static int event_set(lua_State *L) {
    struct sv_lua_event *event;
    int flags;

    lua_settop(L, 4);
    optional_function(L, 2);
    optional_function(L, 3);
    flags = optional_flags(L, 4, 0);
    event = check_added(L);
    if (!event)
        return 3;
    if (lua_isnil(L, 4))
        flags = event->flags;
    if (flags == 0 || !has_functions(L, flags, event))
        return fail(L, "each flag needs its function");
    take_functions(L, event, flags);
    lua_pushboolean(L, 1);
    return 1;
}

/* Event.isset(fd [, flags = EVENT_READ + EVENT_WRITE]) -> boolean: one of these */
static int event_isset(lua_State *L) {
    int flags = optional_flags(L, 2, READ | WRITE);
    const struct sv_lua_event *event = find(sv_lua_of(L), check_descriptor(L));

    lua_pushboolean(L, event && event->flags & flags);
    return 1;
}

/* Event.del(fd) -> true */
static int event_del(lua_State *L) {
    struct sv_lua_event *event = check_added(L);

    if (!event)
        return 3;
    remove_event(event);
    lua_pushboolean(L, 1);
    return 1;
}

/* Event.write(fd, data) -> true */
static int event_write(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_event *event;
    size_t length;
    const char *data = sv_lua_check_string(L, 2, &length);
    int fd, result = 0;

    lua_settop(L, 2);
    lua_pushvalue(L, 1);
    fd = check_descriptor(L);
    event = find(lua, fd);
    if (!event)
        event = make_event(L, lua, fd);
    if (!event)
        return 3;
    if (length > 0 && !append(event, data, length))
        result = -SRVLUA_ERROR_MALLOC_FAIL;
    else
        result = flush(event);
    if (result < 0)
        drop_chunks(event);
    if (!event->first && !event->is_added && !event->is_running)
        remove_event(event);
    else
        update_watch(event);
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    lua_pushboolean(L, 1);
    return 1;
}

/* ------------------------------------------------------------------------------------------- the module: the loop's turn */

/* Event.defer(fn) -> true */
static int event_defer(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    sv_lua_check_callable(L, 1);
    return loop_to_use(L, lua) ? sv_lua_defer(L, lua, NULL, 1) : 3;
}

/* sv_lua_push: the function. */
static int push_cycle(lua_State *L, void *argument) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, *(const int *)argument);
    return 1;
}

static int run_cycle(struct sv_lua *lua, int which) {
    if (lua->uses_coroutines && sv_lua_is_full(lua, "cycle function"))
        return 0;
    return sv_lua_start(lua, "cycle function", push_cycle, &lua->cycle_refs[which]);
}

static int end_of_turn(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    (void)loop;
    (void)timer_id;
    return run_cycle(user_data, 0);
}

static int begin_of_turn(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    (void)loop;
    (void)timer_id;
    return run_cycle(user_data, 1);
}

/* Event.cycle(fn or nil [, before = false]) -> true */
static int event_cycle(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    bool is_before = sv_lua_optional_boolean(L, 2, false), is_removing = lua_isnoneornil(L, 1);
    int *ref = &lua->cycle_refs[is_before];
    srvlua_loop *loop;

    optional_function(L, 1);
    if (is_removing && *ref == LUA_NOREF)
        return fail(L, "there is no cycle function");
    loop = loop_to_use(L, lua);
    if (!loop)
        return 3;
    luaL_unref(L, LUA_REGISTRYINDEX, *ref);
    *ref = LUA_NOREF;
    if (!is_removing) {
        lua_pushvalue(L, 1);
        *ref = luaL_ref(L, LUA_REGISTRYINDEX);
    }
    srvlua_loop_set_cycle(loop, is_before, is_removing ? NULL : is_before ? begin_of_turn : end_of_turn, lua);
    lua_pushboolean(L, 1);
    return 1;
}

/* True, or why the program must leave the loop of this process alone. */
static int loop_result(lua_State *L, int result) {
    if (result < 0)
        return sv_lua_fail_with(L, -result, "this loop is not the script's, or it turns already");
    lua_pushboolean(L, 1);
    return 1;
}

static int check_script(const struct sv_lua *lua) { return lua->is_running ? -SRVLUA_ERROR_WRONG_OPERATION : 0; }

/* Event.wait() -> true, when nothing is left to wait for or after Event.exit() */
static int event_wait(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    return loop_result(L, lua->own_loop ? sv_lua_turn_script_loop(L, lua) : check_script(lua));
}

/* Event.dispatch() -> true: one turn */
static int event_dispatch(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    return loop_result(L, lua->own_loop ? sv_lua_turn_script_loop_once(L, lua) : check_script(lua));
}

/* Event.exit() -> true */
static int event_exit(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    if (lua->own_loop)
        lua->is_told_to_exit = true;
    return loop_result(L, check_script(lua));
}

void sv_lua_push_event_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("add", event_add),
        SV_LUA_FUNCTION("set", event_set),
        SV_LUA_FUNCTION("isset", event_isset),
        SV_LUA_FUNCTION("del", event_del),
        SV_LUA_FUNCTION("write", event_write),
        SV_LUA_FUNCTION("defer", event_defer),
        SV_LUA_FUNCTION("cycle", event_cycle),
        SV_LUA_FUNCTION("wait", event_wait),
        SV_LUA_FUNCTION("dispatch", event_dispatch),
        SV_LUA_FUNCTION("exit", event_exit),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, functions);
}
