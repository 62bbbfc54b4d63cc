/* process_pipe.c: the pipe between a process and those that started it: a pair of unix sockets. Datagrams are those of
 * SOCK_SEQPACKET, which has messages as SOCK_DGRAM has them, and an end.
 *
 * Whether somebody waits is settled call by call: the descriptors' own flags are shared by all processes. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/process_object.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define SEND_BUFFER (256 * 1024) /* asked for, so that 64 KiB fit into a datagram */
#define READ_DEFAULT 8192
#define READ_MAX (1 << 20) /* more is not there at once */

enum { CLOSE_BOTH = 0, CLOSE_MASTER = 1, CLOSE_WORKER = 2, CLOSE_READ = 3, CLOSE_WRITE = 4 };

int sv_lua_pipe_open(struct sv_lua_process *self) {
    int type = self->pipe_type == SV_LUA_PIPE_STREAM ? SOCK_STREAM : SOCK_SEQPACKET;
    int size = SEND_BUFFER, i;

    if (self->pipe_type == SV_LUA_PIPE_NONE)
        return 0;
    if (socketpair(AF_UNIX, type | SOCK_CLOEXEC, 0, self->pipe) < 0) {
        self->pipe[0] = self->pipe[1] = -1;
        return -errno;
    }
    for (i = 0; i < 2; i++) /* what the kernel allows */
        setsockopt(self->pipe[i], SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    return 0;
}

ssize_t sv_lua_pipe_send(int fd, const char *data, size_t length) {
    ssize_t sent;

    do
        sent = send(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

ssize_t sv_lua_pipe_recv(int fd, void *buffer, size_t size) {
    ssize_t got;

    do
        got = recv(fd, buffer, size, MSG_DONTWAIT);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

int sv_lua_pipe_redirect(struct sv_lua_process *self) {
    int fd;

    for (fd = 0; fd <= 2; fd++)
        if (dup2(self->pipe[SV_LUA_CHILDS_END], fd) < 0)
            return -errno;
    return 0;
}

/* ---------------------------------------------------------------------------------------- what waits to be written */

static void drop_blocks(struct sv_lua_process *self) {
    if (self->writing_pid == getpid())
        srvlua_watch_free(self->writer); /* else: of the loop of another process */
    if (self->writer)
        luaL_unref(self->lua->L, LUA_REGISTRYINDEX, self->writing_ref);
    self->writer = NULL;
    while (self->first) {
        struct sv_lua_pipe_block *block = self->first;
        self->first = block->next;
        free(block);
    }
    self->last = NULL;
}

static bool has_blocks(struct sv_lua_process *self) {
    if (self->first && self->writing_pid != getpid())
        drop_blocks(self); /* copies: the process that this one was forked from writes them */
    return self->first != NULL;
}

/* Writes what can be written at once. 0 when nothing is left, or -errno; -EAGAIN: there is no room. */
static int write_blocks(struct sv_lua_process *self) {
    while (self->first) {
        struct sv_lua_pipe_block *block = self->first;
        ssize_t sent = sv_lua_pipe_send(*sv_lua_process_end(self), block->data + block->written,
                                        block->length - block->written);
        if (sent < 0)
            return (int)sent;
        block->written += (size_t)sent;
        if (block->written < block->length)
            continue;
        self->first = block->next;
        if (!self->first)
            self->last = NULL;
        free(block);
    }
    return 0;
}

static int on_writable(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct sv_lua_process *self = user_data;
    int result = write_blocks(self);

    (void)loop;
    (void)fd;
    (void)events;
    if (result == -EAGAIN)
        return 0;
    if (result < 0)
        sv_lua_log(self->lua, SRVLUA_LOG_WARNING, "what waited for the pipe of process %d is lost: %s", self->id,
                   strerror(-result));
    drop_blocks(self);
    return 0;
}

/* Starts waiting for room for the object at index 1. 0, or -code. */
static int start_writer(lua_State *L, struct sv_lua_process *self) {
    struct srvlua_status status;

    self->writer = srvlua_watch_new(sv_lua_loop(self->lua), *sv_lua_process_end(self), SRVLUA_WRITABLE, on_writable, self,
                                    &status);
    if (!self->writer)
        return -status.code;
    lua_pushvalue(L, 1);
    self->writing_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    self->writing_pid = getpid();
    return 0;
}

/* Keeps data until the pipe has room. 0, or -code. */
static int add_block(lua_State *L, struct sv_lua_process *self, const char *data, size_t length) {
    struct sv_lua_pipe_block *block = malloc(sizeof *block + length);
    int result = block ? 0 : -SRVLUA_ERROR_MALLOC_FAIL;

    if (result == 0 && !self->writer)
        result = start_writer(L, self);
    if (result < 0) {
        free(block);
        return result;
    }
    *block = (struct sv_lua_pipe_block){.length = length};
    memcpy(block->data, data, length);
    if (self->last)
        self->last->next = block;
    else
        self->first = block;
    self->last = block;
    return 0;
}

void sv_lua_pipe_close_end(struct sv_lua_process *self, enum sv_lua_pipe_end end) {
    if (self->pipe[end] < 0)
        return;
    if (&self->pipe[end] == sv_lua_process_end(self))
        drop_blocks(self);
    close(self->pipe[end]);
    self->pipe[end] = -1;
}

void sv_lua_pipe_close(struct sv_lua_process *self) {
    sv_lua_pipe_close_end(self, SV_LUA_PARENTS_END);
    sv_lua_pipe_close_end(self, SV_LUA_CHILDS_END);
}

/* ---------------------------------------------------------------------------------------------------------- waiting */

/* Waits for this process's end of the pipe until `end` (negative: never). 0, -ETIMEDOUT or -errno. */
static int wait_until(struct sv_lua_process *self, int events, double end) {
    double left = end < 0 ? -1 : end - sv_lua_now();
    int result;

    if (left < 0 && end >= 0)
        return -ETIMEDOUT;
    result = sv_lua_block(self->lua, *sv_lua_process_end(self), events, left);
    if (*sv_lua_process_end(self) < 0)
        return -EBADF; /* closed meanwhile, by a timer of the process */
    return result > 0 ? 0 : result < 0 ? result : -ETIMEDOUT;
}

static double end_of(const struct sv_lua_process *self) { return self->timeout < 0 ? -1 : sv_lua_now() + self->timeout; }

/* Pushes the failure if this process has no end of a pipe; 0: it has. */
static int refuse_without_pipe(lua_State *L, struct sv_lua_process *self) {
    if (self->pipe_type == SV_LUA_PIPE_NONE)
        return sv_lua_fail_with(L, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "the process has no pipe");
    if (*sv_lua_process_end(self) < 0)
        return sv_lua_fail_with(L, EBADF, "the pipe is closed");
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- methods */

/* Writes all, as long as it takes. Bytes written, or -errno if none were. */
static ssize_t write_blocking(struct sv_lua_process *self, const char *data, size_t length) {
    double end = end_of(self);
    size_t written = 0;
    int result = 0;

    while (result == 0 && written < length) {
        ssize_t sent = has_blocks(self) ? write_blocks(self) : 0;
        if (sent == 0) {
            sent = sv_lua_pipe_send(*sv_lua_process_end(self), data + written, length - written);
            written += sent > 0 ? (size_t)sent : 0;
        }
        if (sent < 0)
            result = sent == -EAGAIN ? wait_until(self, SRVLUA_WRITABLE, end) : (int)sent;
    }
    return written > 0 ? (ssize_t)written : result;
}

/* Writes what there is room for; in a loop the rest is kept until there is more. */
static ssize_t write_at_once(lua_State *L, struct sv_lua_process *self, const char *data, size_t length) {
    bool is_in_loop = sv_lua_loop(self->lua) && !self->lua->may_turn;
    ssize_t sent = has_blocks(self) ? -EAGAIN : sv_lua_pipe_send(*sv_lua_process_end(self), data, length);
    size_t written = sent > 0 ? (size_t)sent : 0;
    int result;

    if ((sent < 0 && sent != -EAGAIN) || written == length || !is_in_loop)
        return sent;
    result = add_block(L, self, data + written, length - written);
    return result == 0 ? (ssize_t)length : written > 0 ? (ssize_t)written : result;
}

/* process:write(data) -> bytes */
static int process_write(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    size_t length;
    const char *data = sv_lua_check_string(L, 2, &length);
    ssize_t written;

    if (refuse_without_pipe(L, self))
        return 3;
    if (length == 0)
        return sv_lua_fail_with(L, SRVLUA_ERROR_NO_PAYLOAD, "there is nothing to write");
    written = self->is_nonblocking ? write_at_once(L, self, data, length) : write_blocking(self, data, length);
    if (written < 0)
        return sv_lua_fail_code(L, (int)-written);
    lua_pushnumber(L, (double)written);
    return 1;
}

/* process:read([size = 8192]) -> data, '' at the end */
static int process_read(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int64_t size = sv_lua_optional_integer(L, 2, READ_DEFAULT);
    double end = end_of(self);
    ssize_t got;
    char *buffer;
    int result;

    if (refuse_without_pipe(L, self))
        return 3;
    if (size < 1)
        return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS, "a size from 1 on is needed");
    buffer = lua_newuserdata(L, size < READ_MAX ? (size_t)size : READ_MAX);
    for (;;) {
        got = sv_lua_pipe_recv(*sv_lua_process_end(self), buffer, lua_objlen(L, -1));
        if (got >= 0) {
            lua_pushlstring(L, buffer, (size_t)got);
            return 1;
        }
        result = got == -EAGAIN && !self->is_nonblocking ? wait_until(self, SRVLUA_READABLE, end) : (int)got;
        if (result < 0)
            return sv_lua_fail_code(L, -result);
    }
}

/* process:setTimeout(seconds) -> true */
static int process_set_timeout(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    double seconds = sv_lua_check_number(L, 2);

    if (seconds != seconds)
        return sv_lua_argument_error(L, 2, "seconds expected, got nan");
    if (refuse_without_pipe(L, self))
        return 3;
    self->timeout = seconds > 0 ? seconds : -1;
    lua_pushboolean(L, 1);
    return 1;
}

/* process:setBlocking(is_blocking) -> true */
static int process_set_blocking(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);

    if (!lua_isboolean(L, 2))
        return sv_lua_type_error(L, 2, "boolean");
    if (refuse_without_pipe(L, self))
        return 3;
    self->is_nonblocking = !lua_toboolean(L, 2);
    lua_pushboolean(L, 1);
    return 1;
}

/* process:exportSocket() -> socket */
static int process_export_socket(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int count;

    if (refuse_without_pipe(L, self))
        return 3;
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "socket");
    if (sv_lua_is_live_pipe_socket(L, -1))
        return 1;
    lua_pop(L, 1);
    count = sv_lua_push_pipe_socket(L, self->lua, *sv_lua_process_end(self));
    if (count == 1) {
        lua_pushvalue(L, -1);
        lua_setfield(L, -3, "socket");
    }
    return count;
}

/* process:close([which = 0]) -> true */
static int process_close(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int which = sv_lua_optional_int(L, 2, CLOSE_BOTH);

    if (which < CLOSE_BOTH || which > CLOSE_WRITE)
        return sv_lua_argument_error(L, 2, lua_pushfstring(L, "0 or PIPE_* expected, got %d", which));
    if (self->pipe_type == SV_LUA_PIPE_NONE)
        return sv_lua_fail_with(L, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "the process has no pipe");
    if (self->pipe[0] < 0 && self->pipe[1] < 0)
        return sv_lua_fail_with(L, EBADF, "the pipe is closed");
    if (which == CLOSE_READ || which == CLOSE_WRITE) {
        if (shutdown(*sv_lua_process_end(self), which == CLOSE_READ ? SHUT_RD : SHUT_WR) < 0)
            return sv_lua_fail_code(L, errno);
    } else if (which == CLOSE_BOTH) {
        sv_lua_pipe_close(self);
    } else {
        sv_lua_pipe_close_end(self, which == CLOSE_MASTER ? SV_LUA_PARENTS_END : SV_LUA_CHILDS_END);
    }
    lua_pushboolean(L, 1);
    return 1;
}

const struct sv_lua_function sv_lua_pipe_methods[] = {
    SV_LUA_METHOD("write", process_write),
    SV_LUA_METHOD("read", process_read),
    SV_LUA_METHOD("setTimeout", process_set_timeout),
    SV_LUA_METHOD("setBlocking", process_set_blocking),
    SV_LUA_METHOD("exportSocket", process_export_socket),
    SV_LUA_METHOD("close", process_close),
    SV_LUA_END,
};
