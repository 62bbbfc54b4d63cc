/* pipe_socket.c: what process:exportSocket() gives: a socket on a duplicate of the pipe, for coroutines. Several may wait on
 * it at a time; they have their turn in the order in which they came. Outside of coroutines it blocks. */
#include <errno.h>
#include <fcntl.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/polling.h"
#include "lua/process_object.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define SIZE_DEFAULT 65536
#define SIZE_MAX_AT_ONCE (1 << 20)

static const struct sv_lua_kind pipe_socket_kind = {"srvlua.ProcessSocket"};

/* A coroutine that waits. The socket is at index 1 of its stack, data to send at 2. */
struct waiter {
    struct waiter *next;
    struct pipe_socket *socket;
    struct sv_lua_coroutine *coroutine;
    int64_t timer; /* 0: none */
    size_t amount; /* readers: most bytes; writers: bytes sent so far */
};

struct line { /* of waiters, oldest first */
    struct waiter *first, **end;
};

struct pipe_socket {
    const struct sv_lua_kind *kind;
    struct sv_lua *lua;
    int fd; /* -1: closed */
    pid_t maker;
    pid_t pid; /* whose waiters these are */
    srvlua_watch *watch; /* while somebody waits */
    struct line readers, writers;
};

static void clear_line(struct line *line) {
    line->first = NULL;
    line->end = &line->first;
}

static struct pipe_socket *check_socket(lua_State *L) {
    struct pipe_socket *self = sv_lua_check_self(L, &pipe_socket_kind);

    if (self->pid != getpid()) { /* a fork: who waits does so in the other process */
        self->pid = getpid();
        self->watch = NULL;
        clear_line(&self->readers);
        clear_line(&self->writers);
    }
    return self;
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

static int on_ready(srvlua_loop *loop, int fd, int events, void *user_data);

/* Watches for what somebody waits for. 0, or -code. */
static int update_watch(struct pipe_socket *self) {
    int events = (self->readers.first ? SRVLUA_READABLE : 0) | (self->writers.first ? SRVLUA_WRITABLE : 0);
    struct srvlua_status status;

    if (!events) {
        srvlua_watch_free(self->watch);
        self->watch = NULL;
    } else if (self->watch) {
        srvlua_watch_set(self->watch, events);
    } else {
        self->watch = srvlua_watch_new(sv_lua_loop(self->lua), self->fd, events, on_ready, self, &status);
    }
    return events && !self->watch ? -status.code : 0;
}

static void add_waiter(struct line *line, struct waiter *waiter) {
    *line->end = waiter;
    line->end = &waiter->next;
}

static void remove_waiter(struct line *line, struct waiter *waiter) {
    struct waiter **link = &line->first;

    while (*link != waiter)
        link = &(*link)->next;
    *link = waiter->next;
    if (!*link)
        line->end = link;
}

/* Ends a waiter and goes on with its coroutine; the `count` results are on the top of lua->L. */
static int finish(struct line *line, struct waiter *waiter, int count) {
    struct sv_lua_coroutine *coroutine = waiter->coroutine;
    lua_State *L = waiter->socket->lua->L;

    remove_waiter(line, waiter);
    if (waiter->timer > 0)
        srvlua_timer_clear(sv_lua_loop(waiter->socket->lua), waiter->timer);
    free(waiter);
    lua_settop(coroutine->L, 0);
    lua_xmove(L, coroutine->L, count);
    return sv_lua_resume(coroutine, count);
}

/* Pushes what recv() gives: data, '' at the end, or the failure. -EAGAIN: nothing was there, nothing is pushed. */
static int receive(lua_State *L, int fd, size_t size) {
    char small[SIZE_DEFAULT];
    char *buffer = size <= sizeof small ? small : malloc(size);
    ssize_t got = buffer ? sv_lua_pipe_recv(fd, buffer, size) : -ENOMEM;
    int count = 1;

    if (got >= 0)
        lua_pushlstring(L, buffer, (size_t)got);
    else if (got == -EAGAIN)
        count = -EAGAIN;
    else
        count = sv_lua_fail_code(L, (int)-got);
    if (buffer != small)
        free(buffer);
    return count;
}

/* Sends on; pushes what send() gives when all is sent. -EAGAIN: there is no room for the rest. */
static int transmit(lua_State *L, int fd, const char *data, size_t length, size_t *sent) {
    while (*sent < length) {
        ssize_t result = sv_lua_pipe_send(fd, data + *sent, length - *sent);
        if (result == -EAGAIN)
            return -EAGAIN;
        if (result < 0)
            return sv_lua_fail_code(L, (int)-result);
        *sent += (size_t)result;
    }
    lua_pushnumber(L, (double)length);
    return 1;
}

static int serve_readers(struct pipe_socket *self) {
    int failures = 0;

    while (self->readers.first) {
        struct waiter *waiter = self->readers.first;
        int count = receive(self->lua->L, self->fd, waiter->amount);
        if (count < 0)
            break;
        failures += finish(&self->readers, waiter, count);
    }
    return failures;
}

static int serve_writers(struct pipe_socket *self) {
    int failures = 0;

    while (self->writers.first) {
        struct waiter *waiter = self->writers.first;
        size_t length;
        const char *data = lua_tolstring(waiter->coroutine->L, 2, &length);
        int count = transmit(self->lua->L, self->fd, data, length, &waiter->amount);
        if (count < 0)
            break;
        failures += finish(&self->writers, waiter, count);
    }
    return failures;
}

/* Keeps the socket from the collector while its waiters, which did that, are served. */
static void anchor(struct pipe_socket *self) {
    struct waiter *waiter = self->readers.first ? self->readers.first : self->writers.first;

    lua_checkstack(self->lua->L, LUA_MINSTACK);
    lua_pushvalue(waiter->coroutine->L, 1);
    lua_xmove(waiter->coroutine->L, self->lua->L, 1);
}

static int on_ready(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct pipe_socket *self = user_data;
    struct sv_lua *lua = self->lua;
    int failures = 0;

    (void)loop;
    (void)fd;
    anchor(self);
    if (events & SRVLUA_READABLE)
        failures += serve_readers(self);
    if (events & SRVLUA_WRITABLE)
        failures += serve_writers(self);
    update_watch(self);
    lua_pop(lua->L, 1);
    return failures > 0;
}

static int on_timeout(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct waiter *waiter = user_data;
    struct pipe_socket *self = waiter->socket;
    struct sv_lua *lua = self->lua;
    int failed;

    (void)loop;
    (void)timer_id;
    anchor(self);
    failed = finish(&self->readers, waiter, sv_lua_fail_code(lua->L, ETIMEDOUT));
    update_watch(self);
    lua_pop(lua->L, 1);
    return failed;
}

/* Ends a Lua function by waiting in `line`, keeping its first `kept` arguments. */
static int wait_in_line(lua_State *L, struct pipe_socket *self, struct sv_lua_coroutine *coroutine, struct line *line,
                        size_t amount, double timeout, int kept) {
    struct waiter *waiter = malloc(sizeof *waiter);
    int result = 0;

    if (!waiter)
        return sv_lua_fail_code(L, SRVLUA_ERROR_MALLOC_FAIL);
    *waiter = (struct waiter){.socket = self, .coroutine = coroutine, .amount = amount};
    add_waiter(line, waiter);
    if (timeout >= 0)
        waiter->timer = srvlua_timer_add(sv_lua_loop(self->lua), (int64_t)fmin(ceil(timeout * 1000), 9e15), 0, on_timeout,
                                         waiter, NULL);
    result = waiter->timer < 0 ? (int)waiter->timer : update_watch(self);
    if (result == 0)
        return sv_lua_suspend_with(L, coroutine, line == &self->readers ? "recv" : "send", kept);
    if (waiter->timer > 0)
        srvlua_timer_clear(sv_lua_loop(self->lua), waiter->timer);
    remove_waiter(line, waiter);
    free(waiter);
    return sv_lua_fail_code(L, -result);
}

/* --------------------------------------------------------------------------------------------------------- methods */

static int refuse_closed(lua_State *L) { return sv_lua_fail_with(L, EBADF, "the socket is closed"); }

static int receive_blocking(lua_State *L, struct pipe_socket *self, size_t size, double timeout) {
    double end = sv_lua_now() + timeout;

    for (;;) {
        int result = sv_lua_block(self->lua, self->fd, SRVLUA_READABLE, timeout < 0 ? -1 : fmax(end - sv_lua_now(), 0));
        if (self->fd < 0)
            return refuse_closed(L);
        if (result <= 0)
            return sv_lua_fail_code(L, result < 0 ? -result : ETIMEDOUT);
        result = receive(L, self->fd, size);
        if (result >= 0)
            return result;
    }
}

/* socket:recv([size = 65536 [, timeout]]) -> data, '' at the end */
static int socket_recv(lua_State *L) {
    struct pipe_socket *self = check_socket(L);
    int64_t size = sv_lua_optional_integer(L, 2, SIZE_DEFAULT);
    double timeout = sv_lua_optional_timeout(L, 3, -1);
    struct sv_lua_coroutine *coroutine;
    int count;

    if (self->fd < 0)
        return refuse_closed(L);
    if (size < 1)
        return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS, "a size from 1 on is needed");
    if (size > SIZE_MAX_AT_ONCE)
        size = SIZE_MAX_AT_ONCE;
    count = self->readers.first ? -EAGAIN : receive(L, self->fd, (size_t)size); /* those who wait come first */
    if (count >= 0)
        return count;
    if (timeout == 0)
        return sv_lua_fail_code(L, ETIMEDOUT);
    coroutine = sv_lua_suspendable(L);
    if (coroutine)
        return wait_in_line(L, self, coroutine, &self->readers, (size_t)size, timeout, 1);
    return receive_blocking(L, self, (size_t)size, timeout);
}

/* socket:send(data) -> bytes */
static int socket_send(lua_State *L) {
    struct pipe_socket *self = check_socket(L);
    size_t length, sent = 0;
    const char *data = sv_lua_check_string(L, 2, &length);
    struct sv_lua_coroutine *coroutine;
    int count, result;

    if (self->fd < 0)
        return refuse_closed(L);
    if (length == 0)
        return sv_lua_fail_with(L, SRVLUA_ERROR_NO_PAYLOAD, "there is nothing to send");
    count = self->writers.first ? -EAGAIN : transmit(L, self->fd, data, length, &sent);
    if (count >= 0)
        return count;
    coroutine = sv_lua_suspendable(L);
    if (coroutine)
        return wait_in_line(L, self, coroutine, &self->writers, sent, -1, 2);
    for (;;) {
        result = sv_lua_block(self->lua, self->fd, SRVLUA_WRITABLE, -1);
        if (self->fd < 0)
            return refuse_closed(L);
        if (result < 0)
            return sv_lua_fail_code(L, -result);
        count = transmit(L, self->fd, data, length, &sent);
        if (count >= 0)
            return count;
    }
}

static void close_descriptor(struct pipe_socket *self) {
    if (self->pid == getpid())
        srvlua_watch_free(self->watch);
    self->watch = NULL;
    if (self->fd >= 0)
        close(self->fd);
    self->fd = -1;
}

/* Who waits is told in the next turn: this may be called in one of those coroutines' place. */
static int wake_all(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct line *waiters = user_data;
    int failures = 0;

    (void)loop;
    (void)timer_id;
    while (waiters->first) {
        struct waiter *waiter = waiters->first;
        failures += finish(waiters, waiter, refuse_closed(waiter->socket->lua->L));
    }
    free(waiters);
    return failures > 0;
}

/* Hands over the waiters of a line to a deferred function, which ends them. */
static void wake_later(struct pipe_socket *self, struct line *line) {
    struct line *waiters = line->first ? malloc(sizeof *waiters) : NULL;
    struct waiter *waiter;

    for (waiter = line->first; waiters && waiter; waiter = waiter->next) {
        if (waiter->timer > 0)
            srvlua_timer_clear(sv_lua_loop(self->lua), waiter->timer);
        waiter->timer = 0;
    }
    if (!waiters)
        return;
    *waiters = *line;
    clear_line(line);
    if (srvlua_defer(sv_lua_loop(self->lua), wake_all, waiters) < 0)
        free(waiters); /* no memory: they wait for ever */
}

/* socket:close() -> true */
static int socket_close(lua_State *L) {
    struct pipe_socket *self = check_socket(L);

    if (self->fd < 0)
        return refuse_closed(L);
    close_descriptor(self);
    wake_later(self, &self->readers);
    wake_later(self, &self->writers);
    lua_pushboolean(L, 1);
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------- objects */

static int socket_index(lua_State *L) {
    struct pipe_socket *self = check_socket(L);

    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "fd") == 0) {
        lua_pushinteger(L, self->fd);
        return 1;
    }
    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return 1;
}

static int socket_gc(lua_State *L) {
    close_descriptor(sv_lua_check_self(L, &pipe_socket_kind));
    return 0;
}

static const struct sv_lua_function methods[] = {
    SV_LUA_METHOD("recv", socket_recv),
    SV_LUA_METHOD("send", socket_send),
    SV_LUA_METHOD("close", socket_close),
    SV_LUA_END,
};

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__index", socket_index),
    SV_LUA_METHOD("__gc", socket_gc),
    SV_LUA_END,
};

int sv_lua_push_pipe_socket(lua_State *L, struct sv_lua *lua, int fd) {
    struct pipe_socket *self = lua_newuserdata(L, sizeof *self);

    *self = (struct pipe_socket){.kind = &pipe_socket_kind, .lua = lua, .fd = fcntl(fd, F_DUPFD_CLOEXEC, 3)};
    self->maker = self->pid = getpid();
    if (self->fd < 0)
        return sv_lua_fail_code(L, errno);
    clear_line(&self->readers);
    clear_line(&self->writers);
    luaL_getmetatable(L, pipe_socket_kind.name);
    lua_setmetatable(L, -2);
    return 1;
}

bool sv_lua_is_live_pipe_socket(lua_State *L, int index) {
    const struct pipe_socket *self = sv_lua_to_object(L, index, &pipe_socket_kind);

    return self && self->fd >= 0 && self->maker == getpid();
}

void sv_lua_pipe_socket_open(lua_State *L, struct sv_lua *lua) {
    luaL_newmetatable(L, pipe_socket_kind.name);
    sv_lua_register(L, lua, metamethods);
    lua_newtable(L);
    sv_lua_register(L, lua, methods);
    lua_setfield(L, -2, "methods");
    lua_pushstring(L, pipe_socket_kind.name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}
