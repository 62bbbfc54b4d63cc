/* connection_methods.c: what may be done to a connection, from any process: send, sendfile, close, pause ...
 * The shared session gives the quick answer; the reactor that owns the socket looks again and decides. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"
#include "net/socket_options.h"
#include "server/server.h"

#define FD_CHANNEL_WAIT_MS 5000

/* ------------------------------------------------------------------------------------------------- finding sessions */

static int fail_unknown(srvlua_server *server, struct srvlua_status *status, int64_t fd) {
    if (fd <= 0) return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_INVALID_ID, "session id %lld is not positive", (long long)fd);
    return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_NOT_EXIST, "session %lld does not exist", (long long)fd);
}

/* Why a session cannot be sent to any more. */
static int closed_code(const struct sv_session *session) {
    if (sv_session_flags(session) & SV_SESSION_CLOSE_ASKED) return SRVLUA_ERROR_SESSION_CLOSED_BY_SERVER;
    switch (atomic_load_explicit(&session->close_reason, memory_order_acquire)) {
        case SV_CLOSE_BY_SERVER: return SRVLUA_ERROR_SESSION_CLOSED_BY_SERVER;
        case SV_CLOSE_BY_CLIENT: return SRVLUA_ERROR_SESSION_CLOSED_BY_CLIENT;
        default: return SRVLUA_ERROR_SESSION_CLOSED;
    }
}

static int fail_closed(srvlua_server *server, struct srvlua_status *status, const struct sv_session *session, int64_t fd) {
    return sv_server_fail(server, status, closed_code(session), "session %lld is closed", (long long)fd);
}

/* The peer ended its side, or broke its protocol: what was asked before may still be answered. */
static bool is_answerable(const struct sv_session *session) {
    uint32_t reason = atomic_load_explicit(&session->close_reason, memory_order_acquire);
    return reason == SV_CLOSE_BY_CLIENT || reason == SV_CLOSE_VIOLATION;
}

/* Live for its users: open, or the peer sent its end and the close callback has not begun, so that an answer may still go out. */
static bool is_live(const struct sv_session *session) {
    uint32_t flags = sv_session_flags(session);
    if (flags & (SV_SESSION_CLOSE_ASKED | SV_SESSION_CLOSE_FIRED)) return false;
    switch (sv_session_get_state(session)) {
        case SV_SESSION_OPEN: return true;
        case SV_SESSION_CLOSING:
            return is_answerable(session) && atomic_load_explicit(&session->close_errno, memory_order_relaxed) == 0;
        default: return false;
    }
}

/* BASE: lists and questions know the calling worker's own connections only. Before its PROXY header and handshake are complete it is
 * nobody's. */
static bool is_visible(const srvlua_server *server, const struct sv_session *session) {
    if (sv_session_get_state(session) == SV_SESSION_CLAIMED) return false;
    return server->mode == SRVLUA_PROCESS || sv_runtime_owns(&server->rt, session);
}

/* The session to send to, or a failure with the code that fits. */
static int find_for_output(srvlua_server *server, int64_t fd, struct sv_session **found, struct srvlua_status *status) {
    struct sv_session *session = fd > 0 ? sv_session_find(&server->rt.sessions, (uint64_t)fd) : NULL;
    if (!session || sv_session_get_state(session) == SV_SESSION_CLAIMED) return fail_unknown(server, status, fd);
    if (sv_events_is_closing(server, (uint64_t)fd))
        return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_CLOSING, "session %lld is inside its close callback", (long long)fd);
    if (!is_live(session)) return fail_closed(server, status, session, fd);
    *found = session;
    return 0;
}

/* The session for pause, confirm, protect ...: BASE: one's own only. */
static int find_visible(srvlua_server *server, int64_t fd, struct sv_session **found, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONNECTION, status);
    if (result) return result;
    struct sv_session *session = fd > 0 ? sv_session_find(&server->rt.sessions, (uint64_t)fd) : NULL;
    if (!session || !is_visible(server, session)) return fail_unknown(server, status, fd > 0 ? fd : 0);
    if (!is_live(session)) return fail_closed(server, status, session, fd);
    *found = session;
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- sending */

static int64_t total_output(const srvlua_server *server) {
    const struct sv_ipc *ipc = &server->rt.ipc;
    int64_t total = 0;
    for (uint32_t i = 0; i < ipc->endpoints; i++) total += sv_counter_get(&sv_inbox_of(ipc, i)->counters, SV_COUNT_OUTPUT);
    return total;
}

static int check_room(srvlua_server *server, const struct sv_session *session, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int64_t limit = server->rules[session->port].output_limit;
    int64_t queued = (int64_t)atomic_load_explicit(&session->output_bytes, memory_order_acquire);
    if (!sv_runtime_owns(rt, session) && rt->in_flight[atomic_load_explicit(&session->id, memory_order_relaxed) & rt->sessions.mask])
        queued += (int64_t)sv_runtime_in_flight(rt, session);
    bool is_full = limit && queued >= limit;
    if (!is_full && queued > 0) is_full = total_output(server) >= server->effective.output_memory_limit;
    if (!is_full) return 0;
    return sv_server_fail(server, status, SRVLUA_ERROR_OUTPUT_BUFFER_OVERFLOW, "%lld bytes wait for this client already", (long long)queued);
}

static void count_response(srvlua_server *server, int64_t bytes) {
    server->responses++;
    sv_count(server->rt.counters, SV_COUNT_RESPONSES, 1);
    sv_count(server->rt.counters, SV_COUNT_SEND_BYTES, bytes);
}

int srvlua_send(srvlua_server *server, int64_t fd, const void *data, size_t length, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    struct sv_session *session;
    int result = sv_check_call(server, SV_CALL_SEND, status);
    if (result) return result;
    if (fd <= 0) return fail_unknown(server, status, fd);
    if (!length) return sv_server_fail(server, status, SRVLUA_ERROR_NO_PAYLOAD, "there is nothing to send");
    result = find_for_output(server, fd, &session, status);
    if (result) return result;
    if (length > (size_t)server->effective.output_buffer_size)
        return sv_server_fail(server, status, SRVLUA_ERROR_DATA_LENGTH_TOO_LARGE, "%zu bytes are more than output_buffer_size (%lld)", length,
                              (long long)server->effective.output_buffer_size);
    result = check_room(server, session, status);
    if (result) return result;
    if (sv_runtime_owns(rt, session)) {
        struct sv_connection *connection = sv_reactor_find(&rt->reactor, (uint64_t)fd);
        if (!connection) return fail_closed(server, status, session, fd);
        sv_reactor_send(&rt->reactor, connection, data, length, NULL);
    } else {
        result = sv_runtime_order(rt, session, SV_RECORD_SEND, (uint64_t)fd, 0, NULL, 0, data, length);
        if (result) return sv_server_fail(server, status, -result, "the process that owns session %lld takes nothing in", (long long)fd);
    }
    count_response(server, (int64_t)length);
    return 0;
}

/* Opens a part of a regular file; *length 0 becomes what is there. */
static int open_part(srvlua_server *server, const char *path, int64_t offset, int64_t *length, int *file, struct srvlua_status *status) {
    if (strlen(path) >= PATH_MAX) return sv_server_fail(server, status, SRVLUA_ERROR_NAME_TOO_LONG, "the file name is too long");
    if (offset < 0 || *length < 0) return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "offset and length must not be negative");
    *file = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK); /* a fifo must not make us wait */
    if (*file < 0) return sv_server_fail(server, status, errno, "'%s': %s", path, strerror(errno));
    struct stat found;
    int code = 0;
    if (fstat(*file, &found))
        code = errno;
    else if (!S_ISREG(found.st_mode))
        code = SRVLUA_ERROR_SERVER_IS_NOT_REGULAR_FILE;
    else if (found.st_size == 0 || offset >= found.st_size)
        code = SRVLUA_ERROR_FILE_EMPTY;
    else if (*length > found.st_size - offset)
        code = SRVLUA_ERROR_INVALID_PARAMS;
    else if (*length == 0)
        *length = found.st_size - offset;
    if (!code) return 0;
    close(*file);
    return sv_server_fail(server, status, code, "'%s' cannot be sent: %s", path, srvlua_strerror(code));
}

int srvlua_sendfile(srvlua_server *server, int64_t fd, const char *path, int64_t offset, int64_t length, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    struct sv_session *session;
    int file = -1, result = sv_check_call(server, SV_CALL_SENDFILE, status);
    if (result) return result;
    result = find_for_output(server, fd, &session, status);
    if (result) return result;
    result = open_part(server, path, offset, &length, &file, status);
    if (result) return result;
    result = check_room(server, session, status);
    if (result) {
        close(file);
        return result;
    }
    if (sv_runtime_owns(rt, session)) {
        struct sv_connection *connection = sv_reactor_find(&rt->reactor, (uint64_t)fd);
        if (!connection) {
            close(file);
            return fail_closed(server, status, session, fd);
        }
        sv_reactor_send_file(&rt->reactor, connection, file, offset, length);
    } else {
        int error = 0;
        struct sv_file_head head = {.offset = offset, .length = length};
        head.tag = sv_fd_send(&rt->endpoint, session->owner, file, FD_CHANNEL_WAIT_MS, &error);
        close(file);
        if (!head.tag) return sv_server_fail(server, status, error, "the open file could not be handed over: %s", strerror(error));
        result = sv_runtime_order(rt, session, SV_RECORD_SENDFILE, (uint64_t)fd, 0, &head, sizeof head, NULL, 0);
        if (result) return sv_server_fail(server, status, -result, "the process that owns session %lld takes nothing in", (long long)fd);
    }
    count_response(server, length);
    return 0;
}

int srvlua_sendwait(srvlua_server *server, int64_t fd, const void *data, size_t length, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    struct sv_session *session;
    int result = sv_check_call(server, SV_CALL_SENDWAIT, status);
    if (result) return result;
    if (!rt->has_reactor) return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "sendwait is for BASE mode");
    if (fd <= 0) return fail_unknown(server, status, fd);
    if (!length) return sv_server_fail(server, status, SRVLUA_ERROR_NO_PAYLOAD, "there is nothing to send");
    session = sv_session_find(&rt->sessions, (uint64_t)fd);
    if (!session || !is_visible(server, session)) return fail_unknown(server, status, fd);
    result = find_for_output(server, fd, &session, status);
    if (result) return result;
    struct sv_connection *connection = sv_reactor_find(&rt->reactor, (uint64_t)fd);
    if (!connection) return fail_closed(server, status, session, fd);
    result = sv_reactor_flush_blocking(&rt->reactor, connection, data, length);
    if (result) return sv_server_fail(server, status, -result, "session %lld: %s", (long long)fd, strerror(-result));
    count_response(server, (int64_t)length);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- datagrams */

static int type_for(const struct sv_address *address) {
    switch (address->u.base.sa_family) {
        case AF_INET: return SRVLUA_SOCK_UDP;
        case AF_INET6: return SRVLUA_SOCK_UDP6;
        default: return SRVLUA_SOCK_UNIX_DGRAM;
    }
}

/* The listener to send from: the one named, or the last added one of that kind. -505 wrong one, -507 there is none. */
static int find_datagram_socket(const srvlua_server *server, int type, int server_socket) {
    int found = -SRVLUA_ERROR_OPERATION_NOT_SUPPORT;
    for (size_t i = 0; i < server->port_count; i++) {
        const struct srvlua_port *port = server->ports[i];
        if (port->type != type || port->listener.fd < 0) continue;
        if (server_socket == -1 || server_socket == port->listener.fd) found = port->listener.fd;
    }
    if (found < 0 && server_socket != -1 && find_datagram_socket(server, type, -1) >= 0) return -SRVLUA_ERROR_INVALID_PARAMS;
    return found;
}

int srvlua_sendto(srvlua_server *server, const char *address, int port, const void *data, size_t length, int server_socket,
                  struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_SENDTO, status);
    if (result) return result;
    if (!length) return sv_server_fail(server, status, SRVLUA_ERROR_NO_PAYLOAD, "there is nothing to send");
    struct sv_address to;
    bool is_path = address[0] == '/';
    bool is_port = is_path || (port >= 1 && port <= 65535);
    result = sv_address_parse_literal(address, is_port ? port : 1, &to, status);
    if (result) return sv_server_note(server, result);
    if (!is_port) return sv_server_fail(server, status, SRVLUA_ERROR_BAD_PORT, "port %d is outside 1..65535", port);
    int socket = find_datagram_socket(server, type_for(&to), server_socket);
    if (socket == -SRVLUA_ERROR_OPERATION_NOT_SUPPORT)
        return sv_server_fail(server, status, -socket, "no datagram port of that kind is open");
    if (socket < 0) return sv_server_fail(server, status, -socket, "server_socket %d is not a datagram port of that kind", server_socket);
    result = sv_datagram_send(socket, &to, data, length);
    return result ? sv_server_fail(server, status, -result, "%s: %s", address, strerror(-result)) : 0;
}

/* ------------------------------------------------------------------------------------------------------------ close */

/* The close callback runs in the worker that the connection belongs to; where it belongs to none, in any worker that asks. With
 * a dispatch function only the reactor can find out. */
static bool is_ours_to_close(const srvlua_server *server, const struct sv_session *session) {
    const struct sv_runtime *rt = &server->rt;
    if (rt->role != SRVLUA_ROLE_WORKER) return false;
    if (server->mode == SRVLUA_BASE) return sv_runtime_owns(rt, session);
    if (server->dispatch) return false;
    uint32_t worker = atomic_load_explicit(&session->worker, memory_order_acquire);
    if (worker != UINT32_MAX) return worker == (uint32_t)rt->slot;
    return !sv_dispatch_is_sticky(server->effective.dispatch_mode);
}

static int order_close(srvlua_server *server, struct sv_session *session, int64_t fd, int order, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    if (sv_runtime_owns(rt, session)) {
        struct sv_connection *connection = sv_reactor_find(&rt->reactor, (uint64_t)fd);
        if (connection) sv_reactor_close(&rt->reactor, connection, order);
        return 0;
    }
    int result = sv_runtime_order(rt, session, SV_RECORD_CLOSE, (uint64_t)fd, order, NULL, 0, NULL, 0);
    if (result) return sv_server_fail(server, status, -result, "the process that owns session %lld takes nothing in", (long long)fd);
    return 0;
}

static int close_again(srvlua_server *server, struct sv_session *session, int64_t fd, bool reset, struct srvlua_status *status) {
    bool has_output = sv_session_get_state(session) != SV_SESSION_FREE &&
                      (atomic_load(&session->output_bytes) || server->rt.in_flight[(uint64_t)fd & server->rt.sessions.mask]);
    if (reset && has_output) return order_close(server, session, fd, SV_CLOSE_ANSWER | SV_CLOSE_RESET, status);
    return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_CLOSED, "session %lld is closed already", (long long)fd);
}

int srvlua_close(srvlua_server *server, int64_t fd, int reset, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_SEND, status);
    if (result) return result;
    uint64_t id = (uint64_t)fd;
    struct sv_session *session = fd > 0 ? sv_session_find(&server->rt.sessions, id) : NULL;
    if (!session || sv_session_get_state(session) == SV_SESSION_CLAIMED) return fail_unknown(server, status, fd);
    if (sv_events_is_closing(server, id)) {
        sv_log_about(&server->log, SRVLUA_LOG_NOTICE, fd, SRVLUA_ERROR_SESSION_CLOSING, "close(%lld) inside its own close callback", (long long)fd);
        return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_CLOSING, "session %lld is inside its close callback", (long long)fd);
    }
    if (sv_session_get_state(session) == SV_SESSION_FREE) return close_again(server, session, fd, false, status);
    bool is_ours = is_ours_to_close(server, session) && server->rules[session->port].has_close_events;
    int64_t before = sv_session_change_flags(session, id, SV_SESSION_CLOSE_ASKED, 0);
    if (before < 0) return fail_unknown(server, status, fd);
    /* Asked elsewhere: that close is on its way to its owner, whose callback has yet to run. */
    if (before & (SV_SESSION_CLOSE_ASKED | SV_SESSION_CLOSE_FIRED)) return close_again(server, session, fd, reset, status);
    if (is_ours) {
        before = sv_session_change_flags(session, id, SV_SESSION_CLOSE_FIRED, 0);
        is_ours = before >= 0 && !(before & SV_SESSION_CLOSE_FIRED);
    }
    int order = reset ? SV_CLOSE_RESET : 0;
    if (is_ours) {
        sv_events_run_close(server, session, id, -1);
        order |= SV_CLOSE_ANSWER;
    } else if (!server->rules[session->port].has_close_events) {
        order |= SV_CLOSE_ANSWER;
    }
    return order_close(server, session, fd, order, status);
}

/* -------------------------------------------------------------------------------------------- questions and switches */

int srvlua_exist(srvlua_server *server, int64_t fd) {
    if (sv_check_call(server, SV_CALL_CONNECTION, NULL)) return 0;
    struct sv_session *session = fd > 0 ? sv_session_find(&server->rt.sessions, (uint64_t)fd) : NULL;
    return session && is_visible(server, session) && is_live(session) && !sv_events_is_closing(server, (uint64_t)fd);
}

static int set_reading(srvlua_server *server, struct sv_session *session, int64_t fd, bool is_on, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    if (sv_runtime_owns(rt, session)) {
        struct sv_connection *connection = sv_reactor_find(&rt->reactor, (uint64_t)fd);
        if (!connection) return fail_closed(server, status, session, fd);
        sv_reactor_set_block(&rt->reactor, connection, SV_BLOCK_PAUSED, !is_on);
        if (is_on) sv_reactor_set_block(&rt->reactor, connection, SV_BLOCK_UNCONFIRMED, false);
        return 0;
    }
    int result = sv_runtime_order(rt, session, is_on ? SV_RECORD_RESUME : SV_RECORD_PAUSE, (uint64_t)fd, 0, NULL, 0, NULL, 0);
    return result ? sv_server_fail(server, status, -result, "the reactor takes nothing in") : 0;
}

int srvlua_pause(srvlua_server *server, int64_t fd, struct srvlua_status *status) {
    struct sv_session *session;
    int result = find_visible(server, fd, &session, status);
    return result ? result : set_reading(server, session, fd, false, status);
}

int srvlua_resume(srvlua_server *server, int64_t fd, struct srvlua_status *status) {
    struct sv_session *session;
    int result = find_visible(server, fd, &session, status);
    if (result) return result;
    sv_session_change_flags(session, (uint64_t)fd, SV_SESSION_CONFIRMED, 0);
    return set_reading(server, session, fd, true, status);
}

int srvlua_confirm(srvlua_server *server, int64_t fd, struct srvlua_status *status) {
    struct sv_session *session;
    int result = find_visible(server, fd, &session, status);
    if (result) return result;
    int64_t before = sv_session_change_flags(session, (uint64_t)fd, SV_SESSION_CONFIRMED, 0);
    if (before < 0) return fail_unknown(server, status, fd);
    if (before & SV_SESSION_CONFIRMED)
        return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "session %lld is being read already", (long long)fd);
    return set_reading(server, session, fd, true, status);
}

int srvlua_protect(srvlua_server *server, int64_t fd, int is_protected, struct srvlua_status *status) {
    struct sv_session *session;
    int result = find_visible(server, fd, &session, status);
    if (result) return result;
    uint32_t flag = SV_SESSION_PROTECTED;
    if (sv_session_change_flags(session, (uint64_t)fd, is_protected ? flag : 0, is_protected ? 0 : flag) < 0)
        return fail_unknown(server, status, fd);
    return 0;
}

int srvlua_bind(srvlua_server *server, int64_t fd, int64_t uid, struct srvlua_status *status) {
    struct sv_session *session;
    int result = sv_check_call(server, SV_CALL_CONNECTION, status);
    if (result) return result;
    if (uid == 0 || uid < INT32_MIN || uid > UINT32_MAX)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "uid %lld is 0 or outside -2147483648..4294967295", (long long)uid);
    result = find_visible(server, fd, &session, status);
    if (result) return result;
    switch (sv_session_bind(session, (uint64_t)fd, (uint32_t)uid)) {
        case 1: return 0;
        case 0: return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "session %lld has a uid already", (long long)fd);
        default: return fail_unknown(server, status, fd);
    }
}

/* ------------------------------------------------------------------------------------------------------------ lists */

static int by_value(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

/* Ids of live connections above `start`, ascending, at most `max`; port < 0: of all. Slots are in the order of ids as long as the
 * table was not gone round; later all of them have to be looked at and sorted. -1 without memory. */
static int64_t collect_ids(srvlua_server *server, int port, uint64_t start, int64_t max, int64_t **ids) {
    const struct sv_session_table *table = &server->rt.sessions;
    bool is_ordered = atomic_load(table->last_id) <= table->mask;
    int64_t count = 0, capacity = 64;
    *ids = malloc((size_t)capacity * sizeof **ids);
    if (!*ids) return -1;
    for (int64_t slot = sv_session_next_live(table, is_ordered ? (int64_t)start + 1 : 0); slot >= 0;
         slot = sv_session_next_live(table, slot + 1)) {
        const struct sv_session *session = &table->entries[slot];
        uint64_t id = atomic_load_explicit(&session->id, memory_order_acquire);
        if (id <= start || (port >= 0 && session->port != port) || !is_visible(server, session) || !is_live(session)) continue;
        if (count == capacity) {
            capacity *= 2;
            int64_t *grown = realloc(*ids, (size_t)capacity * sizeof *grown);
            if (!grown) {
                free(*ids);
                return -1;
            }
            *ids = grown;
        }
        (*ids)[count++] = (int64_t)id;
        if (is_ordered && count == max) return count;
    }
    if (!is_ordered) qsort(*ids, (size_t)count, sizeof **ids, by_value);
    return count < max ? count : max;
}

int srvlua_get_client_list(srvlua_server *server, int64_t start_fd, int64_t page_size, int64_t *ids, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONNECTION, status);
    if (result) return result;
    if (page_size < 1 || page_size > 100)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "page_size %lld is outside 1..100", (long long)page_size);
    if (start_fd != 0 && !srvlua_exist(server, start_fd))
        return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_NOT_EXIST, "start_fd %lld is not a live connection", (long long)start_fd);
    int64_t *found;
    int64_t count = collect_ids(server, -1, (uint64_t)start_fd, page_size, &found);
    if (count < 0) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    memcpy(ids, found, (size_t)count * sizeof *ids);
    free(found);
    return (int)count;
}

int64_t srvlua_get_client_ids(srvlua_server *server, const srvlua_port *port, int64_t **ids, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONNECTION, status);
    if (result) return result;
    int64_t count = collect_ids(server, port ? port->index : -1, 0, INT64_MAX, ids);
    return count < 0 ? sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory") : count;
}

int64_t srvlua_port_connection_count(srvlua_port *port) {
    int64_t *ids;
    int64_t count = srvlua_get_client_ids(port->server, port, &ids, NULL);
    if (count >= 0) free(ids);
    return count;
}

int64_t srvlua_heartbeat(srvlua_server *server, int close_them, int64_t **ids, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, SV_CALL_CONNECTION, status);
    if (result) return result;
    if (server->effective.heartbeat_check_interval <= 0)
        return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "heartbeat checking is not configured");
    int64_t all = collect_ids(server, -1, 0, INT64_MAX, ids), count = 0;
    if (all < 0) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    int64_t now_ns = sv_wall_ns();
    for (int64_t i = 0; i < all; i++) {
        uint64_t id = (uint64_t)(*ids)[i];
        struct sv_session *session = sv_session_find(&rt->sessions, id);
        if (!session || sv_session_flags(session) & SV_SESSION_PROTECTED) continue;
        int64_t limit_ns = server->rules[session->port].heartbeat_ns;
        if (!limit_ns || now_ns - atomic_load_explicit(&session->last_recv_ns, memory_order_relaxed) < limit_ns) continue;
        (*ids)[count++] = (int64_t)id;
        if (!close_them) continue;
        struct sv_connection *connection = sv_runtime_owns(rt, session) ? sv_reactor_find(&rt->reactor, id) : NULL;
        if (connection)
            sv_reactor_abandon(&rt->reactor, connection, ETIMEDOUT, -1);
        else
            sv_runtime_order(rt, session, SV_RECORD_IDLE_CLOSE, id, 0, NULL, 0, NULL, 0);
    }
    return count;
}

/* ------------------------------------------------------------------------------------------------------------- info */

/* What the shared words tell of a session. */
static void fill_client_info(const srvlua_server *server, const struct sv_session *session, int64_t fd, struct srvlua_client_info *info) {
    const struct sv_port_rules *rules = &server->rules[session->port];
    uint64_t dispatched = atomic_load_explicit(&session->dispatched_bytes, memory_order_relaxed);
    uint64_t consumed = atomic_load_explicit(&session->consumed_bytes, memory_order_relaxed);
    *info = (struct srvlua_client_info){
        .server_port = rules->number,
        .server_fd = rules->listener_fd,
        .socket_fd = session->os_fd,
        .socket_type = rules->type,
        .remote_port = session->peer_port,
        .reactor_id = session->reactor,
        .connect_time = session->connect_ns / SV_NS_PER_SECOND,
        .last_recv_time = (double)atomic_load_explicit(&session->last_recv_ns, memory_order_relaxed) / 1e9,
        .last_send_time = (double)atomic_load_explicit(&session->last_send_ns, memory_order_relaxed) / 1e9,
        .last_dispatch_time = (double)atomic_load_explicit(&session->last_dispatch_ns, memory_order_relaxed) / 1e9,
        .close_errno = atomic_load_explicit(&session->close_errno, memory_order_relaxed),
        .recv_queued_bytes = dispatched > consumed ? (int64_t)(dispatched - consumed) : 0,
        .send_queued_bytes = (int64_t)atomic_load_explicit(&session->output_bytes, memory_order_relaxed),
        .worker_id = -1,
    };
    if (server->mode == SRVLUA_PROCESS && server->effective.dispatch_mode == SV_DISPATCH_CO_CONN)
        info->worker_id = (int)atomic_load_explicit(&session->worker, memory_order_relaxed);
    info->has_uid = sv_session_uid(session, (uint64_t)fd, &info->uid);
    if (!info->has_uid) info->uid = 0;
    if (server->mode == SRVLUA_PROCESS && server->effective.dispatch_mode == SV_DISPATCH_UID) info->has_uid = 1;
    memcpy(info->address, session->peer_text, sizeof info->address);
    info->address[sizeof info->address - 1] = '\0';
    info->remote_ip = info->address;
    info->is_ssl = rules->tls != NULL;
    info->proxy_port = session->proxy_port;
    if (info->proxy_port >= 0) info->proxy_ip = info->address + SV_PROXY_TEXT_AT;
}

/* What only the process knows that the connect event came to. */
static void fill_tls_info(const srvlua_server *server, int64_t fd, struct srvlua_client_info *info) {
    const struct sv_tls_session *session = sv_tls_sessions_find(&server->tls_sessions, (uint64_t)fd);
    if (!session) return;
    info->ssl_protocol = session->info.protocol;
    info->ssl_cipher = session->info.cipher;
    info->ssl_server_name = session->info.server_name[0] ? session->info.server_name : NULL;
    info->ssl_alpn = session->info.alpn[0] ? session->info.alpn : NULL;
    info->ssl_client_cert = session->pem[0] ? session->pem : NULL;
    info->ssl_resumed = session->info.is_resumed;
    info->ssl_ktls = session->info.is_in_kernel;
}

int srvlua_get_client_info(srvlua_server *server, int64_t fd, int ignore_error, struct srvlua_client_info *info,
                           struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONNECTION, status);
    if (result) return result;
    struct sv_session *session = fd > 0 ? sv_session_find(&server->rt.sessions, (uint64_t)fd) : NULL;
    if (!session || !is_visible(server, session))
        return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_NOT_EXIST, "session %lld does not exist", (long long)fd);
    if (!ignore_error && !is_live(session) && !sv_events_is_closing(server, (uint64_t)fd)) return fail_closed(server, status, session, fd);
    fill_client_info(server, session, fd, info);
    fill_tls_info(server, fd, info);
    if (!sv_runtime_owns(&server->rt, session)) info->send_queued_bytes += (int64_t)sv_runtime_in_flight(&server->rt, session);
    if (atomic_load_explicit(&session->id, memory_order_acquire) == (uint64_t)fd) return 0;
    return sv_server_fail(server, status, SRVLUA_ERROR_SESSION_NOT_EXIST, "session %lld does not exist", (long long)fd);
}

/* ------------------------------------------------------------------------------------------------ asked by reactors */

/* Reactor threads share the master's server object: nothing of it is written here. A session that is still being filled in is
 * not there yet. */
static struct sv_session *find_for_reactor(const srvlua_reactor *reactor, int64_t fd) {
    const srvlua_server *server = srvlua_reactor_server(reactor);
    struct sv_session *session = server->is_running && fd > 0 ? sv_session_find(&server->rt.sessions, (uint64_t)fd) : NULL;
    return session && sv_session_get_state(session) != SV_SESSION_CLAIMED ? session : NULL;
}

int srvlua_reactor_client_info(srvlua_reactor *reactor, int64_t fd, int ignore_error, struct srvlua_client_info *info,
                               struct srvlua_status *status) {
    const srvlua_server *server = srvlua_reactor_server(reactor);
    if (!server->is_running) return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "the server is not running");
    struct sv_session *session = find_for_reactor(reactor, fd);
    if (session && !ignore_error && !is_live(session))
        return sv_fail(status, closed_code(session), "session %lld is closed", (long long)fd);
    if (session) fill_client_info(server, session, fd, info);
    if (session && atomic_load_explicit(&session->id, memory_order_acquire) == (uint64_t)fd) return 0;
    return sv_fail(status, SRVLUA_ERROR_SESSION_NOT_EXIST, "session %lld does not exist", (long long)fd);
}

int srvlua_reactor_exist(srvlua_reactor *reactor, int64_t fd) {
    struct sv_session *session = find_for_reactor(reactor, fd);
    return session && is_live(session);
}
