/* connect.c: connect() of stream objects: a place in the pool, a connection of it or the addresses of the name, one after
 * the other.
 *
 *               place, connection
 *   ENTERING ──────────────────────────────────────────────► done
 *      │ place, no connection              address answers     ▲
 *      └────► RESOLVING ────► CONNECTING ──────────────────────┘
 *                                ▲   │ refused, late: the next one
 *                                └───┘                                                                                  */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "lua/client/lookup.h"
#include "lua/client/pool.h"
#include "lua/client/tcp.h"
#include "lua/client/words.h"

#define BACKLOG_RETRY_NS (2 * SV_CLIENT_NS_PER_MS)

enum stage { ENTERING, RESOLVING, CONNECTING };

struct sv_connect {
    struct sv_operation operation; /* first */
    struct sv_client_pool_waiter waiter;
    struct sv_tcp *self;
    struct sv_stream *stream; /* that is being connected; NULL: this process was forked meanwhile */
    struct sv_stream *taken;  /* from the pool, instead */
    struct sv_client_pool *pool;
    bool has_place; /* in the pool */
    enum stage stage;
    struct sv_lookup lookup;
    int next;        /* address */
    int first_error; /* of the address that came first: it is the one that matters */
    int64_t end_ns;  /* 0: no limit */
    int port;        /* 0: host is a path */
    char host[];
};

/* ---------------------------------------------------------------------------------------------------- one address */

/* Each address gets its share of the time that is left, so that one that does not answer does not take it all. */
static void share_time(struct sv_connect *attempt) {
    int64_t now_ns, left = attempt->lookup.count - attempt->next + 1;

    if (attempt->end_ns == 0)
        return;
    now_ns = sv_client_now_ns();
    attempt->operation.deadline_ns = now_ns + (attempt->end_ns - now_ns) / (left > 0 ? left : 1);
}

/* 0: connected; -EAGAIN: will be seen; -errno. */
static int call_connect(struct sv_connect *attempt, const struct sockaddr_storage *address) {
    int fd = attempt->stream->descriptor.fd;

    if (connect(fd, (const struct sockaddr *)address, sv_lookup_size(address)) == 0)
        return 0;
    if (errno == EINPROGRESS || errno == EINTR) {
        attempt->operation.wants = SRVLUA_WRITABLE;
        return -EAGAIN;
    }
    if (errno == EAGAIN && address->ss_family == AF_UNIX) { /* its queue is full, and nothing tells when it is not */
        int64_t retry_ns = sv_client_now_ns() + BACKLOG_RETRY_NS;
        attempt->operation.wants = 0;
        if (!attempt->end_ns || retry_ns < attempt->end_ns)
            attempt->operation.deadline_ns = retry_ns;
        else
            attempt->operation.deadline_ns = attempt->end_ns;
        return -EAGAIN;
    }
    return -errno;
}

static int begin_address(struct sv_connect *attempt, const struct sockaddr_storage *address) {
    int fd = socket(address->ss_family, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), result;

    if (fd < 0)
        return -errno;
    result = sv_descriptor_adopt(&attempt->stream->descriptor, fd);
    if (result < 0)
        return result;
    attempt->stream->is_unix = address->ss_family == AF_UNIX;
    share_time(attempt);
    return call_connect(attempt, address);
}

/* This address is done with; on to the next one. */
static int try_addresses(struct sv_connect *attempt) {
    while (attempt->next < attempt->lookup.count) {
        int result = begin_address(attempt, &attempt->lookup.addresses[attempt->next++]);
        if (result == 0 || result == -EAGAIN)
            return result;
        sv_descriptor_drop(&attempt->stream->descriptor);
        if (!attempt->first_error)
            attempt->first_error = result;
    }
    return attempt->first_error;
}

static int give_address_up(struct sv_connect *attempt, int error) {
    sv_descriptor_drop(&attempt->stream->descriptor);
    if (!attempt->first_error)
        attempt->first_error = error;
    return try_addresses(attempt);
}

/* ------------------------------------------------------------------------------------------------------- the stages */

static int resolve(struct sv_connect *attempt) {
    int result;

    if (attempt->port == 0)
        result = sv_lookup_set_path(&attempt->lookup, attempt->host);
    else
        result = sv_lookup_step(&attempt->lookup, &attempt->operation, attempt->host, attempt->port);
    if (result < 0)
        return result;
    attempt->stage = CONNECTING;
    return try_addresses(attempt);
}

static int step(struct sv_operation *operation) {
    struct sv_connect *attempt = (struct sv_connect *)operation;
    int error = 0;
    socklen_t size = sizeof error;

    switch (attempt->stage) {
    case ENTERING:
        return -EAGAIN; /* until enter() */
    case RESOLVING:
        return resolve(attempt);
    default:
        if (getsockopt(attempt->stream->descriptor.fd, SOL_SOCKET, SO_ERROR, &error, &size) < 0)
            error = errno;
        return error ? give_address_up(attempt, -error) : 0;
    }
}

static int late(struct sv_operation *operation) {
    struct sv_connect *attempt = (struct sv_connect *)operation;
    bool is_over = attempt->end_ns && sv_client_now_ns() >= attempt->end_ns;

    int result = -ETIMEDOUT;

    if (is_over || attempt->stage != CONNECTING)
        return result;
    if (operation->wants == 0) { /* it was put off */
        result = call_connect(attempt, &attempt->lookup.addresses[attempt->next - 1]);
        if (result == 0 || result == -EAGAIN)
            return result;
    }
    return give_address_up(attempt, result);
}

/* sv_client_pool_waiter.enter */
static void enter(struct sv_client_pool_waiter *waiter, struct sv_stream *stream) {
    struct sv_connect *attempt = (struct sv_connect *)((char *)waiter - offsetof(struct sv_connect, waiter));

    attempt->has_place = true;
    attempt->taken = stream;
    attempt->stage = RESOLVING;
    if (stream)
        sv_operation_end(&attempt->operation, 0);
    else
        sv_operation_poke(&attempt->operation);
}

/* --------------------------------------------------------------------------------------------------------- the end */

/* Frees it with all that it still has. */
static void end(struct sv_connect *attempt) {
    sv_client_pool_stop_waiting(attempt->pool, &attempt->waiter);
    sv_lookup_end(&attempt->lookup);
    attempt->self->connecting = NULL;
    if (attempt->stream)
        sv_stream_close(attempt->stream);
    if (attempt->has_place)
        sv_client_pool_leave(attempt->pool);
    else if (attempt->pool)
        sv_client_pool_tidy(attempt->pool);
    free(attempt);
}

static int attach(lua_State *L, struct sv_tcp *self, struct sv_stream *stream, struct sv_client_pool *pool) {
    stream->pool = pool; /* its place in there is the stream's now */
    stream->holder = &self->stream;
    self->stream = stream;
    lua_pushinteger(L, 1);
    return 1;
}

static int push(lua_State *L, struct sv_operation *operation, int result) {
    struct sv_connect *attempt = (struct sv_connect *)operation;
    struct sv_stream *stream = attempt->taken ? attempt->taken : attempt->stream;
    int yes = 1;

    if (result < 0) {
        end(attempt);
        return sv_client_fail(L, -result);
    }
    if (!attempt->taken) {
        if (!stream->is_unix) /* without it, it is slower only */
            setsockopt(stream->descriptor.fd, IPPROTO_TCP, TCP_NODELAY, &yes, sizeof yes);
        attempt->stream = NULL;
    }
    attach(L, attempt->self, stream, attempt->pool);
    attempt->has_place = false;
    attempt->pool = NULL;
    end(attempt);
    return 1;
}

void sv_tcp_stop_connecting(struct sv_tcp *self) { sv_operation_end(&self->connecting->operation, -SV_CLIENT_CLOSED); }

void sv_tcp_forget_connecting(struct sv_tcp *self) {
    struct sv_descriptor *descriptor = &self->connecting->stream->descriptor;

    descriptor->reading = descriptor->writing = NULL;
    end(self->connecting);
}

void sv_tcp_check_connecting(struct sv_tcp *self) {
    struct sv_connect *attempt = self->connecting;

    if (!attempt->stream) { /* all else was its parent's, and is gone */
        self->connecting = NULL;
        free(attempt->lookup.answer);
        free(attempt);
        return;
    }
    if (!attempt->operation.coroutine || !attempt->operation.coroutine->is_abandoned)
        return;
    sv_descriptor_drop_abandoned(&attempt->stream->descriptor);
    end(attempt);
}

static struct sv_connect *new_attempt(struct sv_tcp *self, const struct sv_connect_request *request) {
    size_t length = strlen(request->host) + 1;
    struct sv_connect *attempt = calloc(1, sizeof *attempt + length);
    int64_t timeout_ns = sv_tcp_timeout(self, SV_CLIENT_CONNECT);

    if (!attempt)
        return NULL;
    attempt->stream = sv_stream_new(self->client);
    if (!attempt->stream) {
        free(attempt);
        return NULL;
    }
    attempt->stream->holder = &attempt->stream;
    attempt->self = self;
    memcpy(attempt->host, request->host, length);
    attempt->port = request->port;
    attempt->waiter.enter = enter;
    attempt->end_ns = timeout_ns ? sv_client_now_ns() + timeout_ns : 0;
    attempt->operation = (struct sv_operation){.name = "connect",
                                               .descriptor = &attempt->stream->descriptor,
                                               .is_reading = true,
                                               .is_writing = true,
                                               .step = step,
                                               .late = late,
                                               .push = push,
                                               .has_deadline = true,
                                               .deadline_ns = attempt->end_ns};
    return attempt;
}

int sv_tcp_connect(lua_State *L, struct sv_tcp *self, const struct sv_connect_request *request) {
    struct sv_client_pool *pool = sv_client_pool_get(self->client, request->pool, request->pool_length);
    struct sv_stream *stream = NULL;
    struct sv_connect *attempt;
    int has_place;

    if (!pool)
        return sv_client_fail(L, ENOMEM);
    if (request->pool_size > 0)
        sv_client_pool_set_limits(pool, request->pool_size, request->backlog);
    has_place = sv_client_pool_enter(pool, &stream);
    if (stream)
        return attach(L, self, stream, pool);
    if (has_place < 0)
        return sv_client_fail(L, -has_place);
    if (!has_place && !request->coroutine)
        return sv_client_fail(L, ETIMEDOUT); /* nobody could give a place back while the process blocks */
    attempt = new_attempt(self, request);
    if (!attempt) {
        if (has_place)
            sv_client_pool_leave(pool);
        return sv_client_fail(L, ENOMEM);
    }
    attempt->pool = pool;
    attempt->has_place = has_place;
    attempt->stage = has_place ? RESOLVING : ENTERING;
    attempt->operation.coroutine = request->coroutine;
    if (!has_place)
        sv_client_pool_wait(pool, &attempt->waiter);
    self->connecting = attempt;
    return sv_operation_run(L, &attempt->operation, 1);
}
