/* udp.c: see udp.h. */
#include "lua/client/udp.h"

#include <errno.h>
#include <math.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "lua/client/lookup.h"
#include "lua/client/tcp.h"
#include "lua/client/words.h"
#include "lua/errors.h"
#include "lua/values.h"

#define DATAGRAM_MAX 65536

const struct sv_lua_kind sv_lua_udp_kind = {"srvlua.socket.udp"};

/* The descriptor, in memory of its own: the loop may be at it when the object goes. */
struct socket {
    struct sv_descriptor descriptor; /* first */
    struct udp *owner;
};

struct udp {
    const struct sv_lua_kind *kind;
    struct sv_client *client;
    struct socket *socket; /* NULL: no peer */
    int64_t timeout_ns;    /* 0: the defaults */
    struct naming {
        struct sv_operation operation; /* first */
        struct sv_lookup lookup;
        const char *host; /* on the stack */
        int port;
    } naming;
    struct receiving {
        struct sv_operation operation; /* first */
        size_t size, length;
    } receiving;
    struct sending {
        struct sv_operation operation; /* first */
        const char *data;              /* on the stack */
        size_t length;
    } sending;
};

static struct udp *check_udp(lua_State *L) {
    struct udp *self = sv_lua_check_self(L, &sv_lua_udp_kind);

    sv_client_check_process(self->client);
    return self;
}

static int64_t timeout_of(const struct udp *self, enum sv_client_timeout which) {
    return self->timeout_ns ? self->timeout_ns : sv_client_default_timeout(self->client, which);
}

/* Why nothing can begin now: an error of words.h, or 0. */
static int why_not(const struct udp *self, bool to_read, bool to_write) {
    struct sv_descriptor *descriptor;

    if (!self->socket)
        return SV_CLIENT_CLOSED;
    descriptor = &self->socket->descriptor;
    sv_descriptor_drop_abandoned(descriptor);
    if (descriptor->reading && descriptor->reading == descriptor->writing)
        return SV_CLIENT_BUSY_CONNECTING;
    if (to_read && descriptor->reading)
        return SV_CLIENT_BUSY_READING;
    return to_write && descriptor->writing ? SV_CLIENT_BUSY_WRITING : 0;
}

static int push_yes(lua_State *L) {
    lua_pushinteger(L, 1);
    return 1;
}

/* 1, or nil and the error. */
static int push_outcome(lua_State *L, struct sv_operation *operation, int result) {
    (void)operation;
    return result < 0 ? sv_client_fail(L, -result) : push_yes(L);
}

/* ------------------------------------------------------------------------------------------------- the descriptor */

static void release(struct sv_descriptor *descriptor) { free(descriptor); }

static void forget(struct sv_descriptor *descriptor) {
    struct udp *owner = ((struct socket *)descriptor)->owner;

    if (!owner)
        return;
    owner->socket = NULL;
    owner->naming.lookup.query = NULL; /* the parent's */
}

static struct socket *new_socket(struct udp *self) {
    struct socket *new = calloc(1, sizeof *new);

    if (!new)
        return NULL;
    sv_descriptor_init(&new->descriptor, self->client, release);
    new->descriptor.forget = forget;
    new->owner = self;
    return new;
}

static void close_socket(struct udp *self) {
    struct socket *socket = self->socket;

    self->socket = NULL;
    socket->owner = NULL;
    sv_descriptor_close(&socket->descriptor);
}

/* --------------------------------------------------------------------------------------------------- setpeername */

/* A unix socket must have a name for answers to find it: the kernel makes one up. */
static int bind_anywhere(int fd) {
    struct sockaddr_un address = {.sun_family = AF_UNIX};

    return bind(fd, (struct sockaddr *)&address, offsetof(struct sockaddr_un, sun_path)) < 0 ? -errno : 0;
}

static int open_towards(struct sv_descriptor *descriptor, const struct sockaddr_storage *address) {
    int fd = socket(address->ss_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    int result = fd < 0 ? -errno : sv_descriptor_adopt(descriptor, fd);

    if (result == 0 && address->ss_family == AF_UNIX)
        result = bind_anywhere(fd);
    if (result == 0 && connect(fd, (const struct sockaddr *)address, sv_lookup_size(address)) < 0)
        result = -errno;
    if (result < 0)
        sv_descriptor_drop(descriptor);
    return result;
}

static int find_peer(struct sv_operation *operation) {
    struct naming *naming = (struct naming *)operation;
    int i, result, first = 0;

    if (naming->port)
        result = sv_lookup_step(&naming->lookup, operation, naming->host, naming->port);
    else
        result = sv_lookup_set_path(&naming->lookup, naming->host);
    if (result < 0)
        return result;
    for (i = 0; i < naming->lookup.count; i++) {
        result = open_towards(operation->descriptor, &naming->lookup.addresses[i]);
        if (result == 0)
            return 0;
        if (i == 0)
            first = result;
    }
    return first;
}

static int push_named(lua_State *L, struct sv_operation *operation, int result) {
    struct udp *owner = ((struct socket *)operation->descriptor)->owner;

    sv_lookup_end(&((struct naming *)operation)->lookup);
    if (result < 0 && owner)
        close_socket(owner);
    return push_outcome(L, operation, result);
}

/* socket:setpeername(host, port), setpeername('unix:/path') -> 1 */
static int udp_setpeername(lua_State *L) {
    struct udp *self = check_udp(L);
    const char *host = sv_lua_check_text(L, 2);
    bool is_path = sv_lookup_is_unix(host);
    int port = is_path ? 0 : sv_lua_check_int(L, 3), problem = why_not(self, true, true);
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);
    int64_t timeout_ns = timeout_of(self, SV_CLIENT_CONNECT);

    if (!is_path && (port < 1 || port > 65535))
        return sv_lua_argument_error(L, 3, "a port from 1 to 65535 expected");
    if (problem && problem != SV_CLIENT_CLOSED)
        return sv_client_fail(L, problem);
    if (self->socket)
        close_socket(self);
    self->socket = new_socket(self);
    if (!self->socket)
        return sv_client_fail(L, ENOMEM);
    self->naming = (struct naming){.host = host, .port = port};
    self->naming.operation = (struct sv_operation){.name = "setpeername",
                                                   .descriptor = &self->socket->descriptor,
                                                   .is_reading = true,
                                                   .is_writing = true,
                                                   .step = find_peer,
                                                   .push = push_named,
                                                   .has_deadline = true,
                                                   .deadline_ns = timeout_ns ? sv_client_now_ns() + timeout_ns : 0,
                                                   .coroutine = coroutine};
    return sv_operation_run(L, &self->naming.operation, 2);
}

/* --------------------------------------------------------------------------------------------------- send, receive */

static int send_datagram(struct sv_operation *operation) {
    struct sending *sending = (struct sending *)operation;
    ssize_t count;

    do
        count = send(operation->descriptor->fd, sending->data, sending->length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    operation->wants = SRVLUA_WRITABLE;
    if (count >= 0)
        return 0;
    return errno == EWOULDBLOCK ? -EAGAIN : -errno;
}

/* socket:send(data) -> 1 */
static int udp_send(lua_State *L) {
    struct udp *self = check_udp(L);
    struct sending *sending = &self->sending;
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);
    int problem = why_not(self, false, true);
    size_t length;
    const char *data;

    lua_settop(L, 2);
    data = sv_client_check_data(L, self->client, &length);
    if (lua_type(L, 2) != LUA_TSTRING) { /* others may use the scratch space while this waits */
        lua_pushlstring(L, length ? data : "", length);
        lua_replace(L, 2);
        data = lua_tolstring(L, 2, &length);
    }
    if (problem)
        return sv_client_fail(L, problem);
    sending->data = data;
    sending->length = length;
    sending->operation = (struct sv_operation){.name = "send",
                                               .descriptor = &self->socket->descriptor,
                                               .is_writing = true,
                                               .step = send_datagram,
                                               .push = push_outcome,
                                               .timeout_ns = timeout_of(self, SV_CLIENT_WRITE),
                                               .coroutine = coroutine};
    return sv_operation_run(L, &sending->operation, 2);
}

/* Into the scratch space of the process, from which the result is pushed before anybody else can use it. */
static int receive_datagram(struct sv_operation *operation) {
    struct receiving *receiving = (struct receiving *)operation;
    struct sv_bytes *scratch = &operation->descriptor->client->scratch;
    ssize_t count;

    operation->wants = SRVLUA_READABLE;
    if (operation->descriptor->is_drained)
        return -EAGAIN;
    scratch->begin = scratch->end = 0;
    if (!sv_bytes_reserve(scratch, receiving->size))
        return -ENOMEM;
    do
        count = recv(operation->descriptor->fd, scratch->block, receiving->size, MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count < 0 && errno == EWOULDBLOCK)
        operation->descriptor->is_drained = true;
    if (count < 0)
        return errno == EWOULDBLOCK ? -EAGAIN : -errno;
    receiving->length = (size_t)count;
    return 0;
}

static int push_datagram(lua_State *L, struct sv_operation *operation, int result) {
    struct receiving *receiving = (struct receiving *)operation;

    if (result < 0)
        return sv_client_fail(L, -result);
    lua_pushlstring(L, operation->descriptor->client->scratch.block, receiving->length);
    return 1;
}

/* socket:receive([size = 65536]) -> datagram */
static int udp_receive(lua_State *L) {
    struct udp *self = check_udp(L);
    struct receiving *receiving = &self->receiving;
    double size = lua_isnoneornil(L, 2) ? DATAGRAM_MAX : sv_lua_check_number(L, 2);
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);
    int problem = why_not(self, true, false);

    if (!(size >= 1 && size == floor(size)))
        return sv_lua_argument_error(L, 2, "bytes from 1 on expected");
    if (problem)
        return sv_client_fail(L, problem);
    receiving->size = size < DATAGRAM_MAX ? (size_t)size : DATAGRAM_MAX; /* no datagram is larger */
    receiving->operation = (struct sv_operation){.name = "receive",
                                                 .descriptor = &self->socket->descriptor,
                                                 .is_reading = true,
                                                 .step = receive_datagram,
                                                 .push = push_datagram,
                                                 .timeout_ns = timeout_of(self, SV_CLIENT_READ),
                                                 .coroutine = coroutine};
    return sv_operation_run(L, &receiving->operation, 1);
}

/* ------------------------------------------------------------------------------------------------------- the rest */

/* socket:settimeout(ms) */
static int udp_settimeout(lua_State *L) {
    check_udp(L)->timeout_ns = sv_client_check_timeout(L, 2);
    return 0;
}

/* socket:close() -> 1 */
static int udp_close(lua_State *L) {
    struct udp *self = check_udp(L);

    if (!self->socket)
        return sv_client_fail(L, SV_CLIENT_CLOSED);
    close_socket(self);
    return push_yes(L);
}

/* socket:getfd() -> number */
static int udp_getfd(lua_State *L) {
    struct udp *self = check_udp(L);

    if (!self->socket || self->socket->descriptor.fd < 0)
        return sv_client_fail(L, SV_CLIENT_CLOSED);
    lua_pushinteger(L, self->socket->descriptor.fd);
    return 1;
}

static int udp_gc(lua_State *L) {
    struct udp *self = check_udp(L);

    if (self->socket) { /* nobody waits, or the Lua state ends */
        self->socket->descriptor.reading = self->socket->descriptor.writing = NULL;
        close_socket(self);
    }
    sv_lookup_end(&self->naming.lookup);
    return 0;
}

static const struct sv_lua_function methods[] = {
    SV_LUA_METHOD("setpeername", udp_setpeername),
    SV_LUA_METHOD("send", udp_send),
    SV_LUA_METHOD("receive", udp_receive),
    SV_LUA_METHOD("settimeout", udp_settimeout),
    SV_LUA_METHOD("close", udp_close),
    SV_LUA_METHOD("getfd", udp_getfd),
    SV_LUA_END,
};

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__gc", udp_gc),
    SV_LUA_END,
};

void sv_lua_udp_open(lua_State *L, struct sv_lua *lua) {
    sv_lua_new_metatable(L, lua, sv_lua_udp_kind.name, metamethods, methods);
    lua_pop(L, 1);
}

void sv_lua_push_udp(lua_State *L, struct sv_client *client) {
    struct udp *self = lua_newuserdata(L, sizeof *self);

    memset(self, 0, sizeof *self);
    self->kind = &sv_lua_udp_kind;
    self->client = client;
    luaL_getmetatable(L, sv_lua_udp_kind.name);
    lua_setmetatable(L, -2);
}
