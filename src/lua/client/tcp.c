/* tcp.c: methods of stream objects; see tcp.h. */
#include "lua/client/tcp.h"

#include <errno.h>
#include <math.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lua/client/lookup.h"
#include "lua/client/pool.h"
#include "lua/client/words.h"
#include "lua/errors.h"
#include "lua/values.h"

#define NESTING_MAX 64           /* of tables in send() */
#define SCRATCH_KEPT (64 * 1024) /* bytes of the scratch space that stay allocated */
#define IDLE_MS_DEFAULT 60000
#define NAME_SIZE 1100 /* of a pool; host names have at most 255 bytes, paths 107 */

const struct sv_lua_kind sv_lua_tcp_kind = {"srvlua.socket.tcp"};
const struct sv_lua_kind sv_lua_tls_session_kind = {"srvlua.socket.session"};

struct session {
    const struct sv_lua_kind *kind;
    struct sv_client_tls_session *session;
};

static struct sv_tcp *check_tcp(lua_State *L) {
    struct sv_tcp *self = sv_lua_check_self(L, &sv_lua_tcp_kind);

    sv_client_check_process(self->client);
    if (self->connecting)
        sv_tcp_check_connecting(self);
    return self;
}

int64_t sv_tcp_timeout(const struct sv_tcp *self, enum sv_client_timeout which) {
    return self->timeouts_ns[which] ? self->timeouts_ns[which] : sv_client_default_timeout(self->client, which);
}

/* Why nothing that reads, or writes, can begin now: an error of words.h, or 0. */
static int why_not(const struct sv_tcp *self, bool to_read, bool to_write) {
    struct sv_descriptor *descriptor;

    if (self->connecting)
        return SV_CLIENT_BUSY_CONNECTING;
    if (!self->stream)
        return SV_CLIENT_CLOSED;
    descriptor = &self->stream->descriptor;
    sv_descriptor_drop_abandoned(descriptor);
    if (descriptor->reading && descriptor->reading == descriptor->writing)
        return SV_CLIENT_BUSY_CONNECTING; /* it is shaking hands */
    if (to_read && descriptor->reading)
        return SV_CLIENT_BUSY_READING;
    return to_write && descriptor->writing ? SV_CLIENT_BUSY_WRITING : 0;
}

static int push_yes(lua_State *L) {
    lua_pushinteger(L, 1);
    return 1;
}

/* nil and why an operation on a connection failed. */
static int push_failure(lua_State *L, const struct sv_stream *stream, int result) {
    return sv_client_push_failure(L, -result, stream->tls ? sv_client_tls_message(stream->tls) : NULL);
}

/* --------------------------------------------------------------------------------------------------------- connecting */

/* The options at `index`, if there are any. The texts belong to the table. */
static void read_options(lua_State *L, int index, struct sv_connect_request *request) {
    if (lua_isnoneornil(L, index))
        return;
    if (!lua_istable(L, index))
        sv_lua_type_error(L, index, "table");
    lua_getfield(L, index, "pool");
    if (!lua_isnil(L, -1)) {
        if (lua_type(L, -1) != LUA_TSTRING)
            sv_lua_argument_error(L, index, "field 'pool': a name expected");
        request->pool = lua_tolstring(L, -1, &request->pool_length);
    }
    lua_getfield(L, index, "pool_size");
    lua_getfield(L, index, "backlog");
    if (!lua_isnil(L, -2)) {
        double size = lua_tonumber(L, -2);
        if (lua_type(L, -2) != LUA_TNUMBER || !(size >= 1 && size <= 1e6 && size == floor(size)))
            sv_lua_argument_error(L, index, "field 'pool_size': an integer from 1 on expected");
        request->pool_size = (int)size;
    }
    if (!lua_isnil(L, -1)) {
        double backlog = lua_tonumber(L, -1);
        if (lua_type(L, -1) != LUA_TNUMBER || !(backlog >= 0 && backlog <= 1e6 && backlog == floor(backlog)))
            sv_lua_argument_error(L, index, "field 'backlog': an integer from 0 on expected");
        request->backlog = (int)backlog;
        if (request->pool_size == 0)
            request->pool_size = SV_CLIENT_POOL_SIZE;
    }
    lua_pop(L, 3); /* the table keeps the texts */
}

/* A port, perhaps as text: drivers have it from their configuration. */
static int check_port(lua_State *L, int index) {
    double port = lua_isnumber(L, index) ? lua_tonumber(L, index) : 0;

    if (!lua_isnumber(L, index))
        sv_lua_type_error(L, index, "port");
    if (!(port >= 1 && port <= 65535 && port == floor(port)))
        sv_lua_argument_error(L, index, "a port from 1 to 65535 expected");
    return (int)port;
}

/* socket:connect(host, port [, options]), connect('unix:/path' [, options]), of unix(): connect(path [, options]) -> 1 */
static int tcp_connect(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    struct sv_connect_request request = {.host = sv_lua_check_text(L, 2), .backlog = -1};
    bool is_path = self->is_unix || sv_lookup_is_unix(request.host);
    char name[NAME_SIZE];
    int problem, length;

    if (!is_path)
        request.port = check_port(L, 3);
    read_options(L, is_path ? 3 : 4, &request);
    request.coroutine = sv_lua_suspendable(L);
    if (!request.pool) {
        length = is_path ? snprintf(name, sizeof name, "%s", request.host)
                         : snprintf(name, sizeof name, "%s:%d", request.host, request.port);
        if ((size_t)length >= sizeof name) /* no name and no path is so long */
            return sv_client_fail(L, is_path ? ENAMETOOLONG : SV_CLIENT_HOST_NOT_FOUND);
        request.pool = name;
        request.pool_length = (size_t)length;
    }
    problem = why_not(self, true, true);
    if (problem && problem != SV_CLIENT_CLOSED)
        return sv_client_fail(L, problem);
    if (self->stream)
        sv_stream_close(self->stream);
    return sv_tcp_connect(L, self, &request);
}

/* socket:close() -> 1 */
static int tcp_close(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);

    if (self->connecting)
        sv_tcp_stop_connecting(self);
    else if (self->stream)
        sv_stream_close(self->stream);
    else
        return sv_client_fail(L, SV_CLIENT_CLOSED);
    return push_yes(L);
}

/* socket:setkeepalive([timeout_ms = 60000 [, size = 30]]) -> 1 */
static int tcp_setkeepalive(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    double idle_ms = lua_isnoneornil(L, 2) ? IDLE_MS_DEFAULT : sv_lua_check_number(L, 2);
    int size = sv_lua_optional_int(L, 3, SV_CLIENT_POOL_SIZE);
    int problem = why_not(self, true, true), state, wants;
    struct sv_stream *stream = self->stream;

    if (!(idle_ms >= 0))
        return sv_lua_argument_error(L, 2, "milliseconds from 0 on expected");
    if (size < 1)
        return sv_lua_argument_error(L, 3, "a size from 1 on expected");
    if (problem)
        return sv_client_fail(L, problem);
    state = sv_stream_probe(stream, &wants);
    if (state > 0)
        return sv_client_fail(L, SV_CLIENT_DUBIOUS);
    if (state < 0) {
        push_failure(L, stream, state);
        sv_stream_close(stream);
        return 2;
    }
    self->stream = NULL;
    sv_client_pool_set_limits(stream->pool, size, -1);
    sv_client_pool_put(stream->pool, stream, (int64_t)(fmin(idle_ms, 1e12) * SV_CLIENT_NS_PER_MS));
    return push_yes(L);
}

/* socket:getreusedtimes() -> count */
static int tcp_getreusedtimes(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);

    if (!self->stream)
        return sv_client_fail(L, SV_CLIENT_CLOSED);
    lua_pushinteger(L, self->stream->reused);
    return 1;
}

/* ------------------------------------------------------------------------------------------------------------ TLS */

static int session_gc(lua_State *L) {
    struct session *self = sv_lua_check_self(L, &sv_lua_tls_session_kind);

    sv_client_tls_session_free(self->session);
    self->session = NULL;
    return 0;
}

/* The result of a handshake: the session of the connection, or true. */
static int push_session(lua_State *L, struct sv_client_tls *tls, bool is_wanted) {
    struct session *object;

    if (!is_wanted) {
        lua_pushboolean(L, 1);
        return 1;
    }
    object = lua_newuserdata(L, sizeof *object);
    object->kind = &sv_lua_tls_session_kind;
    object->session = sv_client_tls_get_session(tls);
    luaL_getmetatable(L, sv_lua_tls_session_kind.name);
    lua_setmetatable(L, -2);
    return 1;
}

static int shake_hands(struct sv_operation *operation) {
    return sv_client_tls_handshake(((struct sv_stream *)operation->descriptor)->tls, &operation->wants);
}

static int push_handshake(lua_State *L, struct sv_operation *operation, int result) {
    struct sv_stream *stream = (struct sv_stream *)operation->descriptor;

    if (result >= 0)
        return push_session(L, stream->tls, ((struct sv_shaking *)operation)->wants_session);
    push_failure(L, stream, result);
    sv_stream_close(stream);
    return 2;
}

/* The text that the program has put into srvlua.socket.ca_file, or NULL; on the stack. */
static const char *push_ca_file(lua_State *L, const struct sv_client *client) {
    lua_rawgeti(L, LUA_REGISTRYINDEX, client->lua->sockets_ref);
    lua_getfield(L, -1, "ca_file");
    lua_remove(L, -2);
    if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TSTRING)
        luaL_error(L, "srvlua.socket.ca_file: a path expected, got %s", luaL_typename(L, -1));
    return lua_tostring(L, -1);
}

/* Argument 2 of sslhandshake: an object of an earlier one, or NULL; *is_wanted: whether a session is to be returned. */
static const struct sv_client_tls_session *check_session(lua_State *L, bool *is_wanted) {
    struct session *object;

    *is_wanted = true;
    if (lua_isnoneornil(L, 2))
        return NULL;
    if (lua_isboolean(L, 2)) {
        *is_wanted = lua_toboolean(L, 2);
        return NULL;
    }
    object = sv_lua_to_object(L, 2, &sv_lua_tls_session_kind);
    if (object)
        return object->session;
    sv_lua_type_error(L, 2, "session or boolean");
    return NULL;
}

/* socket:sslhandshake([session [, name [, verify = false]]]) -> session, or true with session = false */
static int tcp_sslhandshake(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    struct sv_shaking *shaking = &self->shaking;
    bool wants_session;
    struct sv_client_tls_options options = {.session = check_session(L, &wants_session),
                                            .name = lua_isnoneornil(L, 3) ? NULL : sv_lua_check_text(L, 3),
                                            .verify = sv_lua_optional_boolean(L, 4, false)};
    int64_t timeout_ns = sv_tcp_timeout(self, SV_CLIENT_CONNECT);
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);
    int problem = why_not(self, true, true);
    struct sv_stream *stream = self->stream;
    char message[320];

    if (problem)
        return sv_client_fail(L, problem);
    if (stream->tls)
        return push_session(L, stream->tls, wants_session);
    if (sv_bytes_length(&stream->input) > 0) { /* came before TLS: it would pass for what came through it */
        sv_stream_close(stream);
        return sv_client_fail(L, SV_CLIENT_DUBIOUS);
    }
    options.ca_file = push_ca_file(L, self->client);
    stream->tls = sv_client_tls_new(self->client, stream->descriptor.fd, &options, message, sizeof message);
    if (!stream->tls) {
        sv_stream_close(stream);
        return sv_client_push_failure(L, SV_CLIENT_TLS, message);
    }
    shaking->wants_session = wants_session;
    shaking->operation = (struct sv_operation){.name = "sslhandshake",
                                               .descriptor = &stream->descriptor,
                                               .is_reading = true,
                                               .is_writing = true,
                                               .step = shake_hands,
                                               .push = push_handshake,
                                               .has_deadline = true,
                                               .deadline_ns = timeout_ns ? sv_client_now_ns() + timeout_ns : 0,
                                               .coroutine = coroutine};
    return sv_operation_run(L, &shaking->operation, 1);
}

/* ------------------------------------------------------------------------------------------------------- receiving */

static const struct sv_lua_kind until_kind = {"srvlua.socket.until"};

/* The state of an iterator of receiveuntil: a userdata with the pattern behind it. */
struct sv_until {
    const struct sv_lua_kind *kind;
    struct sv_receive receive; /* template */
    bool is_reached;           /* the next call tells so */
    size_t rest;               /* bytes of an inclusive pattern that are still to be returned */
};

static int receive(struct sv_operation *operation) {
    return sv_stream_receive((struct sv_stream *)operation->descriptor, &((struct sv_receiving *)operation)->receive,
                             &operation->wants);
}

/* The pattern was reached. */
static int push_nils(lua_State *L) {
    lua_pushnil(L);
    lua_pushnil(L);
    lua_pushnil(L);
    return 3;
}

/* A piece of an iterator: an empty one means that the pattern was reached. */
static int push_piece(lua_State *L, struct sv_stream *stream, const struct sv_receive *received,
                      struct sv_until *until) {
    if (received->count > 0 && received->is_end) {
        until->rest = received->is_inclusive ? received->swallowed : 0;
        until->is_reached = true;
        if (received->length == 0) {
            until->is_reached = false;
            sv_stream_take(stream, received);
            return push_nils(L);
        }
    }
    lua_pushlstring(L, sv_bytes_data(&stream->input), received->length);
    sv_stream_take(stream, received);
    return 1;
}

/* What was received so far is lost to the stream, and the third result. */
static int push_partial(lua_State *L, struct sv_stream *stream, const struct sv_receiving *receiving, int result) {
    size_t length = sv_bytes_length(&stream->input), text = length;

    push_failure(L, stream, result);
    if (receiving->receive.pattern == SV_PATTERN_ANY)
        return 2;
    if (receiving->receive.pattern == SV_PATTERN_LINE)
        text = sv_stream_strip(stream, length);
    lua_pushlstring(L, length ? sv_bytes_data(&stream->input) : "", text);
    sv_stream_consume(stream, length);
    return 3;
}

static int push_received(lua_State *L, struct sv_operation *operation, int result) {
    struct sv_stream *stream = (struct sv_stream *)operation->descriptor;
    struct sv_receiving *receiving = (struct sv_receiving *)operation;
    const struct sv_receive *received = &receiving->receive;
    size_t length = received->length;
    int count;

    if (result < 0) {
        count = push_partial(L, stream, receiving, result);
        if (result != -ETIMEDOUT)
            sv_stream_close(stream);
        return count;
    }
    if (receiving->until)
        return push_piece(L, stream, received, receiving->until);
    if (received->pattern == SV_PATTERN_LINE)
        length = sv_stream_strip(stream, length);
    lua_pushlstring(L, length ? sv_bytes_data(&stream->input) : "", length);
    sv_stream_take(stream, received);
    return 1;
}

static int start_receiving(lua_State *L, struct sv_tcp *self, const struct sv_receive *what, struct sv_until *until,
                           const char *name, int keep) {
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);
    struct sv_receiving *receiving = &self->receiving;
    int problem = why_not(self, true, false);

    if (problem)
        return sv_client_fail(L, problem);
    receiving->receive = *what;
    receiving->until = until;
    receiving->operation = (struct sv_operation){.name = name,
                                                 .descriptor = &self->stream->descriptor,
                                                 .is_reading = true,
                                                 .step = receive,
                                                 .push = push_received,
                                                 .timeout_ns = sv_tcp_timeout(self, SV_CLIENT_READ),
                                                 .coroutine = coroutine};
    return sv_operation_run(L, &receiving->operation, keep);
}

static struct sv_receive check_pattern(lua_State *L, int index) {
    struct sv_receive what = {.pattern = SV_PATTERN_LINE};
    const char *text;
    double count;

    switch (lua_type(L, index)) {
    case LUA_TNONE:
    case LUA_TNIL:
        return what;
    case LUA_TNUMBER:
        count = lua_tonumber(L, index);
        if (!(count >= 0 && count == floor(count) && count < 9e15))
            sv_lua_argument_error(L, index, "bytes from 0 on expected");
        what.pattern = SV_PATTERN_COUNT;
        what.count = (size_t)count;
        return what;
    case LUA_TSTRING:
        text = lua_tostring(L, index);
        if (strcmp(text, "*l") == 0 || strcmp(text, "l") == 0)
            return what;
        what.pattern = SV_PATTERN_ALL;
        if (strcmp(text, "*a") == 0 || strcmp(text, "a") == 0)
            return what;
        sv_lua_argument_error(L, index, lua_pushfstring(L, "'*l', '*a' or a number expected, got '%s'", text));
        return what;
    default:
        sv_lua_type_error(L, index, "'*l', '*a' or number");
        return what;
    }
}

/* socket:receive([pattern = '*l']) -> data | nil, err, partial */
static int tcp_receive(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    struct sv_receive what = check_pattern(L, 2);

    return start_receiving(L, self, &what, NULL, "receive", 1);
}

/* An argument that is a number of bytes from 1 on. */
static size_t check_count(lua_State *L, int index) {
    double count = sv_lua_check_number(L, index);

    if (!(count >= 1 && count == floor(count) && count < 9e15))
        sv_lua_argument_error(L, index, "bytes from 1 on expected");
    return (size_t)count;
}

/* socket:receiveany(max) -> data */
static int tcp_receiveany(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    struct sv_receive what = {.pattern = SV_PATTERN_ANY, .count = check_count(L, 2)};

    return start_receiving(L, self, &what, NULL, "receiveany", 1);
}

/* What an iterator calls: (socket, state [, most]) -> data | nil, err, partial */
static int until_next(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    struct sv_until *until = sv_lua_to_object(L, 2, &until_kind);
    size_t most = lua_isnoneornil(L, 3) ? 0 : check_count(L, 3), size;
    struct sv_receive what;

    if (!until)
        return sv_lua_type_error(L, 2, "iterator");
    what = until->receive;
    if (until->rest > 0) {
        size = most && most < until->rest ? most : until->rest;
        lua_pushlstring(L, what.until + what.until_length - until->rest, size);
        until->rest -= size;
        return 1;
    }
    if (until->is_reached) {
        until->is_reached = false;
        return push_nils(L);
    }
    what.count = most;
    return start_receiving(L, self, &what, until, "receiveuntil", 2);
}

/* Iterators are Lua functions: compiled code keeps each C function that it has called, and so would keep the sockets that it
 * refers to, and their connections open. */
static const char iterator_source[] = "local next = ... "
                                      "return function(socket, state) "
                                      "return function(most) return next(socket, state, most) end "
                                      "end";

/* Puts the maker of iterators into the metatable on the top of the stack. */
static void add_iterator_maker(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function row = {"receiveuntil iterator", until_next, NULL, 0, 2};

    if (luaL_loadbuffer(L, iterator_source, sizeof iterator_source - 1, "=receiveuntil") != 0)
        lua_error(L);
    lua_pushlightuserdata(L, (void *)&row);
    lua_pushlightuserdata(L, lua);
    lua_pushcclosure(L, until_next, 2);
    lua_call(L, 1, 1);
    lua_setfield(L, -2, "iterator");
}

/* socket:receiveuntil(pattern [, { inclusive = bool }]) -> iterator */
static int tcp_receiveuntil(lua_State *L) {
    struct sv_until *until;
    const char *pattern;
    size_t length;
    bool is_inclusive = false;

    check_tcp(L);
    pattern = sv_lua_check_string(L, 2, &length);
    if (length == 0)
        return sv_lua_argument_error(L, 2, "the pattern is empty");
    if (!lua_isnoneornil(L, 3)) {
        if (!lua_istable(L, 3))
            return sv_lua_type_error(L, 3, "table");
        lua_getfield(L, 3, "inclusive");
        if (!lua_isnil(L, -1) && !lua_isboolean(L, -1))
            return sv_lua_argument_error(L, 3, "field 'inclusive': a boolean expected");
        is_inclusive = lua_toboolean(L, -1);
    }
    luaL_getmetafield(L, 1, "iterator");
    lua_pushvalue(L, 1);
    until = lua_newuserdata(L, sizeof *until + length);
    *until = (struct sv_until){.kind = &until_kind};
    until->receive = (struct sv_receive){.pattern = SV_PATTERN_UNTIL,
                                         .until = memcpy(until + 1, pattern, length),
                                         .until_length = length,
                                         .is_inclusive = is_inclusive};
    lua_call(L, 2, 1);
    return 1;
}

/* --------------------------------------------------------------------------------------------------------- sending */

/* Appends a string, number or sequence of these, which is on the top of the stack, to the scratch space. */
static void append(lua_State *L, struct sv_bytes *bytes, int depth) {
    size_t length, i, count;
    const char *text;

    switch (lua_type(L, -1)) {
    case LUA_TSTRING:
    case LUA_TNUMBER: /* turns the copy on the stack into text */
        text = lua_tolstring(L, -1, &length);
        if (!sv_bytes_append(bytes, text, length))
            luaL_error(L, "not enough memory");
        return;
    case LUA_TTABLE:
        if (depth >= NESTING_MAX)
            sv_lua_argument_error(L, 2, "tables nested too deeply");
        luaL_checkstack(L, 4, "tables nested too deeply");
        count = lua_objlen(L, -1);
        for (i = 1; i <= count; i++) {
            lua_rawgeti(L, -1, (int)i);
            append(L, bytes, depth + 1);
            lua_pop(L, 1);
        }
        return;
    default:
        sv_lua_argument_error(L, 2,
                              lua_pushfstring(L, "string, number or sequence of these expected, got %s%s",
                                              luaL_typename(L, -1), depth ? " in the sequence" : ""));
    }
}

const char *sv_client_check_data(lua_State *L, struct sv_client *client, size_t *length) {
    struct sv_bytes *scratch = &client->scratch;

    if (lua_type(L, 2) == LUA_TSTRING)
        return lua_tolstring(L, 2, length);
    if (scratch->capacity > SCRATCH_KEPT)
        sv_bytes_free(scratch);
    scratch->begin = scratch->end = 0;
    lua_pushvalue(L, 2);
    append(L, scratch, 0);
    lua_pop(L, 1);
    *length = scratch->end;
    return scratch->block;
}

static int send_on(struct sv_operation *operation) {
    struct sv_sending *sending = (struct sv_sending *)operation;
    struct sv_stream *stream = (struct sv_stream *)operation->descriptor;
    struct sv_bytes *scratch = &stream->descriptor.client->scratch;
    int result = sv_stream_send(stream, sending->data, sending->length, &sending->sent, &operation->wants);

    if (result == -EAGAIN && sending->data == scratch->block) { /* others will use that meanwhile */
        sending->owned = *scratch;
        *scratch = (struct sv_bytes){0};
    }
    return result;
}

static int push_sent(lua_State *L, struct sv_operation *operation, int result) {
    struct sv_sending *sending = (struct sv_sending *)operation;
    struct sv_stream *stream = (struct sv_stream *)operation->descriptor;

    sv_bytes_free(&sending->owned);
    if (result >= 0) {
        lua_pushnumber(L, (double)sending->length);
        return 1;
    }
    push_failure(L, stream, result);
    sv_stream_close(stream);
    return 2;
}

/* socket:send(data) -> bytes */
static int tcp_send(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    struct sv_sending *sending = &self->sending;
    struct sv_lua_coroutine *coroutine = sv_lua_suspendable(L);
    int problem = why_not(self, false, true);
    const char *data;
    size_t length;

    lua_settop(L, 2);
    data = sv_client_check_data(L, self->client, &length);
    if (problem)
        return sv_client_fail(L, problem);
    sending->data = data;
    sending->length = length;
    sending->sent = 0;
    sending->operation = (struct sv_operation){.name = "send",
                                               .descriptor = &self->stream->descriptor,
                                               .is_writing = true,
                                               .step = send_on,
                                               .push = push_sent,
                                               .timeout_ns = sv_tcp_timeout(self, SV_CLIENT_WRITE),
                                               .coroutine = coroutine};
    return sv_operation_run(L, &sending->operation, 2);
}

/* -------------------------------------------------------------------------------------------------- limits and options */

/* socket:settimeout(ms): of all three */
static int tcp_settimeout(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    int64_t timeout_ns = sv_client_check_timeout(L, 2);
    int i;

    for (i = 0; i < SV_CLIENT_TIMEOUTS; i++)
        self->timeouts_ns[i] = timeout_ns;
    return 0;
}

/* socket:settimeouts(connect_ms, send_ms, read_ms) */
static int tcp_settimeouts(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);
    int64_t connect_ns = sv_client_check_timeout(L, 2), write_ns = sv_client_check_timeout(L, 3);

    self->timeouts_ns[SV_CLIENT_READ] = sv_client_check_timeout(L, 4);
    self->timeouts_ns[SV_CLIENT_CONNECT] = connect_ns;
    self->timeouts_ns[SV_CLIENT_WRITE] = write_ns;
    return 0;
}

/* socket:setoption(name, value) -> 1 */
static int tcp_setoption(lua_State *L) {
    static const struct {
        const char *name;
        int level, option;
        bool is_number;
    } options[] = {
        {"keepalive", SOL_SOCKET, SO_KEEPALIVE, false}, {"tcp-nodelay", IPPROTO_TCP, TCP_NODELAY, false},
        {"reuseaddr", SOL_SOCKET, SO_REUSEADDR, false}, {"sndbuf", SOL_SOCKET, SO_SNDBUF, true},
        {"rcvbuf", SOL_SOCKET, SO_RCVBUF, true},
    };
    struct sv_tcp *self = check_tcp(L);
    const char *name = sv_lua_check_text(L, 2);
    size_t i, count = sizeof options / sizeof options[0];
    int value;

    for (i = 0; i < count && strcmp(options[i].name, name) != 0; i++)
        ;
    if (i == count)
        return sv_lua_argument_error(L, 2, lua_pushfstring(L, "unknown option '%s'", name));
    if (!options[i].is_number && lua_isboolean(L, 3))
        value = lua_toboolean(L, 3);
    else
        value = sv_lua_check_int(L, 3);
    if (!self->stream)
        return sv_client_fail(L, self->connecting ? SV_CLIENT_BUSY_CONNECTING : SV_CLIENT_CLOSED);
    if (setsockopt(self->stream->descriptor.fd, options[i].level, options[i].option, &value, sizeof value) < 0)
        return sv_client_fail(L, errno);
    return push_yes(L);
}

/* socket:getfd() -> number */
static int tcp_getfd(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);

    if (!self->stream)
        return sv_client_fail(L, SV_CLIENT_CLOSED);
    lua_pushinteger(L, self->stream->descriptor.fd);
    return 1;
}

static int push_name(lua_State *L, bool is_peer) {
    struct sv_tcp *self = check_tcp(L);
    struct sockaddr_storage address;
    socklen_t size = sizeof address;
    int result;

    if (!self->stream)
        return sv_client_fail(L, SV_CLIENT_CLOSED);
    if (is_peer)
        result = getpeername(self->stream->descriptor.fd, (struct sockaddr *)&address, &size);
    else
        result = getsockname(self->stream->descriptor.fd, (struct sockaddr *)&address, &size);
    if (result < 0)
        return sv_client_fail(L, errno == ENOTCONN ? SV_CLIENT_CLOSED : errno);
    return sv_lookup_push(L, &address, size);
}

/* socket:getpeername() -> ip, port | path */
static int tcp_getpeername(lua_State *L) { return push_name(L, true); }

/* socket:getsockname() -> ip, port | path */
static int tcp_getsockname(lua_State *L) { return push_name(L, false); }

/* ----------------------------------------------------------------------------------------------------------- objects */

static int tcp_gc(lua_State *L) {
    struct sv_tcp *self = check_tcp(L);

    if (self->connecting)
        sv_tcp_forget_connecting(self);
    if (self->stream) { /* nobody waits, or the Lua state ends */
        self->stream->descriptor.reading = self->stream->descriptor.writing = NULL;
        sv_stream_close(self->stream);
    }
    sv_bytes_free(&self->sending.owned);
    return 0;
}

static const struct sv_lua_function methods[] = {
    SV_LUA_METHOD("connect", tcp_connect),
    SV_LUA_METHOD("sslhandshake", tcp_sslhandshake),
    SV_LUA_METHOD("setkeepalive", tcp_setkeepalive),
    SV_LUA_METHOD("getreusedtimes", tcp_getreusedtimes),
    SV_LUA_METHOD("close", tcp_close),
    SV_LUA_METHOD("settimeout", tcp_settimeout),
    SV_LUA_METHOD("settimeouts", tcp_settimeouts),
    SV_LUA_METHOD("setoption", tcp_setoption),
    SV_LUA_METHOD("getfd", tcp_getfd),
    SV_LUA_METHOD("getpeername", tcp_getpeername),
    SV_LUA_METHOD("getsockname", tcp_getsockname),
    SV_LUA_METHOD("send", tcp_send),
    SV_LUA_METHOD("receive", tcp_receive),
    SV_LUA_METHOD("receiveany", tcp_receiveany),
    SV_LUA_METHOD("receiveuntil", tcp_receiveuntil),
    SV_LUA_END,
};

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__gc", tcp_gc),
    SV_LUA_END,
};

static const struct sv_lua_function session_metamethods[] = {
    SV_LUA_METHOD("__gc", session_gc),
    SV_LUA_END,
};

void sv_lua_tcp_open(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function none[] = {SV_LUA_END};

    sv_lua_new_metatable(L, lua, sv_lua_tcp_kind.name, metamethods, methods);
    add_iterator_maker(L, lua);
    sv_lua_new_metatable(L, lua, sv_lua_tls_session_kind.name, session_metamethods, none);
    lua_pop(L, 2);
}

struct sv_tcp *sv_lua_push_tcp(lua_State *L, struct sv_client *client, bool is_unix) {
    struct sv_tcp *self = lua_newuserdata(L, sizeof *self);

    memset(self, 0, sizeof *self);
    self->kind = &sv_lua_tcp_kind;
    self->client = client;
    self->is_unix = is_unix;
    luaL_getmetatable(L, sv_lua_tcp_kind.name);
    lua_setmetatable(L, -2);
    return self;
}
