/* input.c: the way of a client's bytes from its socket to whole packets.
 *
 *   PROXY header ─► TLS handshake ─► open ─► bytes ─► [decrypted] ─► [framer] ─► home
 *
 * Without framing bytes are read straight into their worker's ring. With it they are read into the reactor's scratch space, and only
 * what is left of the last packet moves into memory of the connection's own, which grows with what has really come. Whatever stops the
 * reading (no room, pause, close) may leave packets behind there; then the reactor goes on by itself, without an event of the socket.
 * runs in: reactors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/errors.h"
#include "framing/proxy.h"
#include "reactor/door.h"
#include "reactor/reactor.h"

#define DIRECT_READ 32768u      /* with so much of a packet there its rest is read without another copy */
#define LEAST_MEMORY 512u
#define SPARE_MEMORY 4096u      /* so much is left to a connection whose packets are done with */
#define READS_PER_TURN 8        /* of a TLS connection whose bytes were read ahead */
#define VIOLATION_LINES 10      /* per second and port */
#define HANDSHAKES_NS (2 * SV_NS_PER_MS) /* per turn of the loop, so that open connections keep their latency */
/* What keeps packets from being passed on. In a shutdown those that were read still are. */
#define STOPPED (~(uint16_t)SV_BLOCK_QUIET)

static struct sv_port_state *state_of(const struct sv_connection *connection) {
    return &connection->reactor->port_states[connection->port];
}

static const struct sv_port_rules *rules_of(const struct sv_connection *connection) {
    return &connection->reactor->ports[connection->port];
}

static bool is_stopped(const struct sv_connection *connection) {
    return connection->is_dead || (connection->read_blocks & STOPPED);
}

/* Packets of it go nowhere, not even in a shutdown. */
static bool is_shut(const struct sv_connection *connection) {
    return connection->is_dead || (connection->read_blocks & (SV_BLOCK_CLOSING | SV_BLOCK_PAUSED | SV_BLOCK_UNCONFIRMED));
}

static void go_on_later(struct sv_connection *connection);

/* ------------------------------------------------------------------------------------------------ the kept bytes */

static size_t kept(const struct sv_input *input) {
    return input->end - input->begin;
}

static void release(struct sv_input *input) {
    free(input->data);
    input->data = NULL;
    input->begin = input->end = input->capacity = 0;
}

/* Room for so many bytes more; at most twice of what is there is asked for, so each byte is moved a bounded number of times. */
static bool make_room(struct sv_input *input, size_t size) {
    size_t length = kept(input);
    if (input->capacity - input->end >= size) return true;
    if (input->begin >= length && input->capacity - length >= size) {
        memmove(input->data, input->data + input->begin, length);
    } else {
        size_t capacity = length + (size > length ? size : length);
        if (capacity < LEAST_MEMORY) capacity = LEAST_MEMORY;
        bool is_in_place = input->begin == 0; /* then the pages of a large packet may move without being copied and touched anew */
        unsigned char *grown = is_in_place ? realloc(input->data, capacity) : malloc(capacity);
        if (!grown) return false;
        if (!is_in_place) {
            if (length) memcpy(grown, input->data + input->begin, length);
            free(input->data);
        }
        input->data = grown;
        input->capacity = capacity;
    }
    input->begin = 0;
    input->end = length;
    return true;
}

/* The beginning of the next packet does not hold the memory of those before it. */
static void shrink(struct sv_input *input) {
    size_t length = kept(input);
    if (input->capacity <= SPARE_MEMORY || input->capacity / 4 < length) return;
    size_t capacity = length < LEAST_MEMORY ? LEAST_MEMORY : length;
    unsigned char *smaller = malloc(capacity);
    if (!smaller) return;
    memcpy(smaller, input->data + input->begin, length);
    free(input->data);
    input->data = smaller;
    input->capacity = capacity;
    input->begin = 0;
    input->end = length;
}

static bool keep(struct sv_connection *connection, const unsigned char *data, size_t length) {
    struct sv_input *input = &connection->input;
    if (!make_room(input, length)) {
        sv_reactor_abandon(connection->reactor, connection, ENOMEM, connection->reactor->number);
        return false;
    }
    memcpy(input->data + input->end, data, length);
    input->end += length;
    return true;
}

/* --------------------------------------------------------------------------------------------------- violations */

static void report_swallowed(struct sv_reactor *reactor, uint16_t port) {
    struct sv_port_state *state = &reactor->port_states[port];
    if (state->swallowed)
        sv_log_write(&reactor->log, SRVLUA_LOG_WARNING, "port %d: %llu more connections broke their protocol", reactor->ports[port].number,
                     (unsigned long long)state->swallowed);
    state->swallowed = 0;
}

static void on_violation_report(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    struct sv_reactor *reactor = watcher->data;
    for (uint16_t i = 0; i < reactor->port_count; i++) report_swallowed(reactor, i);
}

/* The lines of a second are counted over all reactors and workers. */
static bool may_log_violation(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    _Atomic uint64_t *word = &reactor->shared_ports[connection->port].violations;
    uint64_t second = (uint64_t)(sv_now_ns() / SV_NS_PER_SECOND) & UINT32_MAX, old = atomic_load(word), next;
    do next = old >> 32 == second ? old + 1 : second << 32 | 1;
    while (!atomic_compare_exchange_weak(word, &old, next));
    if ((next & UINT32_MAX) <= VIOLATION_LINES) return true;
    state_of(connection)->swallowed++;
    if (!ev_is_active(&reactor->violation_report)) {
        ev_timer_set(&reactor->violation_report, 1., 0.);
        ev_timer_start(reactor->loop->ev, &reactor->violation_report);
    }
    return false;
}

static void violate(struct sv_connection *connection, int code, const char *reason) {
    struct sv_reactor *reactor = connection->reactor;
    const struct sv_session *session = connection->session;
    if (may_log_violation(connection))
        sv_log_about(&reactor->log, SRVLUA_LOG_WARNING, (int64_t)connection->id, code,
                     "session %llu (%s:%d, port %d) is closed, error %d: %s", (unsigned long long)connection->id, session->peer_text,
                     session->peer_port, rules_of(connection)->number, code, reason);
    release(&connection->input);
    sv_reactor_begin_close(connection, SV_CLOSE_VIOLATION, 0, reactor->number);
}

void sv_input_give_up(struct sv_connection *connection, const char *reason) {
    struct sv_reactor *reactor = connection->reactor;
    const struct sv_session *session = connection->session;
    if (connection->is_dead) return;
    if (reason && may_log_violation(connection))
        sv_log_about(&reactor->log, SRVLUA_LOG_NOTICE, (int64_t)connection->id, 0, "a connection from %s:%d to port %d is closed: %s",
                     session->peer_text, session->peer_port, rules_of(connection)->number, reason);
    sv_count(reactor->counters, SV_COUNT_ABORTED, 1);
    sv_reactor_kill(connection);
}

/* ------------------------------------------------------------------------------------------------------- packets */

/* Passes on what is whole; returns how many bytes are done with. *owned as for the home's deliver. */
static size_t cut(struct sv_connection *connection, const unsigned char *data, size_t length, int64_t stamp_ns, unsigned char **owned,
                  bool is_last_act) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_input *input = &connection->input;
    const struct sv_framer_rules *framing = &state_of(connection)->framing;
    size_t used = 0;
    while (used < length && !(is_last_act ? is_shut(connection) : is_stopped(connection))) {
        struct sv_framer_state before = input->state;
        struct sv_frame frame = framing->next(framing, &input->state, data + used, length - used);
        if (frame.result == SV_FRAME_MORE) break;
        if (frame.result == SV_FRAME_VIOLATION) {
            violate(connection, frame.code, frame.reason);
            return length;
        }
        if (frame.result == SV_FRAME_PACKET) {
            if (!is_last_act && !reactor->home.may_deliver(reactor->home.context, connection)) {
                input->state = before;
                if (!is_stopped(connection)) go_on_later(connection);
                break;
            }
            bool is_all = owned && used == 0 && frame.length == length;
            input->state = (struct sv_framer_state){0};
            used += frame.length;
            reactor->home.deliver(reactor->home.context, connection, data + used - frame.length, frame.length, stamp_ns,
                                  is_all ? owned : NULL);
            continue;
        }
        input->state = (struct sv_framer_state){0};
        used += frame.length;
    }
    return used;
}

/* The same for the bytes that were kept. A violation, which lets go of them, leaves nothing to count. */
static size_t cut_kept(struct sv_connection *connection, int64_t stamp_ns, bool is_last_act) {
    struct sv_input *input = &connection->input;
    unsigned char *owned = input->begin == 0 ? input->data : NULL;
    size_t used = cut(connection, input->data + input->begin, kept(input), stamp_ns, owned ? &owned : NULL, is_last_act);
    if (!input->data) return used;
    if (input->begin == 0 && !owned) {
        input->data = NULL;
        release(input);
        return used;
    }
    input->begin += used;
    if (input->begin == input->end)
        release(input);
    else if (used)
        shrink(input);
    return used;
}

/* A packet has begun, goes on, or has ended. */
static void watch_time(struct sv_connection *connection, bool has_begun_anew) {
    int64_t limit_ns = rules_of(connection)->package_timeout_ns;
    if (!limit_ns || connection->is_dead) return;
    if (!kept(&connection->input) || is_stopped(connection))
        sv_deadline_clear(connection);
    else if (has_begun_anew || !sv_link_is_in(&connection->timed))
        sv_deadline_set(connection, SV_DEADLINE_PACKET, sv_now_ns() + limit_ns);
}

/* ------------------------------------------------------------------------------------------------------- reading */

static ssize_t receive(struct sv_connection *connection, void *room, size_t size) {
    if (connection->tls) return sv_tls_receive(connection->tls, room, size);
    ssize_t got;
    do got = recv(connection->io.fd, room, size, 0);
    while (got < 0 && errno == EINTR);
    return got < 0 ? -errno : got;
}

static int64_t note_received(struct sv_connection *connection, size_t length) {
    struct sv_reactor *reactor = connection->reactor;
    int64_t stamp_ns = sv_wall_ns();
    atomic_store_explicit(&connection->session->last_recv_ns, stamp_ns, memory_order_relaxed);
    sv_count(reactor->counters, SV_COUNT_RECV_BYTES, (int64_t)length);
    sv_heartbeat_heard(reactor, connection);
    return stamp_ns;
}

/* Nothing came: `result` is 0 or an error. */
static void end_reading(struct sv_connection *connection, ssize_t result) {
    if (result == -EAGAIN || result == -EWOULDBLOCK) return;
    if (result == -EPROTO && connection->tls) {
        connection->has_said_goodbye = 1;
        violate(connection, SRVLUA_ERROR_PACKAGE_MALFORMED_DATA, sv_tls_error(connection->tls));
        return;
    }
    if (connection->tls && !sv_tls_was_closed_cleanly(connection->tls)) connection->has_said_goodbye = 1;
    sv_reactor_begin_close(connection, SV_CLOSE_BY_CLIENT, (int)-result, connection->reactor->number);
}

/* False: nothing came. */
static bool read_raw(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    uint32_t size = SV_READ_MAX;
    unsigned char *room = reactor->home.reserve(reactor->home.context, connection, &size);
    if (!room) return false;
    ssize_t got = receive(connection, room, size);
    if (got > 0) {
        reactor->home.commit(reactor->home.context, connection, (uint32_t)got, note_received(connection, (size_t)got));
        return true;
    }
    reactor->home.commit(reactor->home.context, connection, 0, 0);
    end_reading(connection, got);
    return false;
}

static bool read_packets(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_input *input = &connection->input;
    unsigned char *room = reactor->scratch;
    size_t size = SV_READ_MAX, before = kept(input), used;
    bool is_direct = before >= DIRECT_READ;
    if (is_direct) {
        if (!make_room(input, LEAST_MEMORY)) {
            sv_reactor_abandon(reactor, connection, ENOMEM, reactor->number);
            return false;
        }
        room = input->data + input->end;
        size = input->capacity - input->end;
        if (size > 4 * SV_READ_MAX) size = 4 * SV_READ_MAX;
    }
    ssize_t got = receive(connection, room, size);
    if (got <= 0) {
        end_reading(connection, got);
        return false;
    }
    int64_t stamp_ns = note_received(connection, (size_t)got);
    if (is_direct) {
        input->end += (size_t)got;
        used = cut_kept(connection, stamp_ns, false);
    } else if (before) {
        if (!keep(connection, room, (size_t)got)) return false;
        used = cut_kept(connection, stamp_ns, false);
    } else {
        used = cut(connection, room, (size_t)got, stamp_ns, NULL, false);
        if (used < (size_t)got && !connection->is_dead && !keep(connection, room + used, (size_t)got - used)) return false;
    }
    watch_time(connection, used > 0);
    return true;
}

static void read_on(struct sv_connection *connection) {
    bool (*read_some)(struct sv_connection *connection) = state_of(connection)->framing.next ? read_packets : read_raw;
    if (!connection->tls) {
        read_some(connection);
        return;
    }
    sv_heartbeat_heard(connection->reactor, connection); /* records count, whole or not */
    for (int i = 0; i < READS_PER_TURN; i++)
        if (!read_some(connection) || is_stopped(connection) || !sv_tls_has_input(connection->tls)) return;
    if (sv_tls_has_input(connection->tls)) go_on_later(connection);
}

/* --------------------------------------------------------------------------------- going on without the socket's event */

static bool has_something(const struct sv_connection *connection) {
    return connection->input.data || (connection->tls && sv_tls_has_input(connection->tls));
}

static void go_on_with_handshake(struct sv_connection *connection);

static void pump(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_HANDSHAKE) {
        go_on_with_handshake(connection);
        return;
    }
    if (connection->input.data) {
        size_t used = cut_kept(connection, sv_wall_ns(), false);
        watch_time(connection, used > 0);
    }
    if (connection->tls && !is_stopped(connection) && sv_tls_has_input(connection->tls)) read_on(connection);
}

static void pump_ready(struct sv_reactor *reactor) {
    struct sv_link now;
    if (sv_list_is_empty(&reactor->ready)) return;
    now = reactor->ready; /* those that become ready meanwhile come in the next turn */
    now.next->previous = now.previous->next = &now;
    sv_list_init(&reactor->ready);
    while (!sv_list_is_empty(&now)) {
        struct sv_connection *connection = sv_container(now.next, struct sv_connection, ready);
        sv_list_remove(&connection->ready);
        if (!is_stopped(connection)) pump(connection);
    }
}

static int run_ready(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    struct sv_reactor *reactor = context;
    reactor->is_pump_due = false;
    pump_ready(reactor);
    return 0;
}

static void go_on_later(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (!sv_link_is_in(&connection->ready)) sv_list_append(&reactor->ready, &connection->ready);
    if (!reactor->is_pump_due) reactor->is_pump_due = srvlua_defer(reactor->loop, run_ready, reactor) == 0; /* else: with the next one */
}

void sv_input_resume(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_OPEN && !is_stopped(connection) && has_something(connection)) go_on_later(connection);
}

void sv_input_flush(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_OPEN && connection->input.data && !is_shut(connection)) cut_kept(connection, sv_wall_ns(), true);
}

/* ------------------------------------------------------------------------------------------------- becoming open */

static void become_open(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_session *session = connection->session;
    const struct sv_port_rules *rules = rules_of(connection);
    struct sv_tls_info info;
    char *pem = NULL;
    unsigned char *payload = NULL;
    size_t length = 0;
    if (connection->tls && rules->has_close_events && sv_tls_describe(connection->tls, &info, &pem) == 0) {
        length = sizeof info + info.certificate_length;
        payload = malloc(length);
        if (payload) {
            memcpy(payload, &info, sizeof info);
            if (pem) memcpy(payload + sizeof info, pem, info.certificate_length);
        } else {
            length = 0;
        }
    }
    free(pem);
    sv_deadline_clear(connection);
    connection->stage = SV_STAGE_OPEN;
    if (rules->is_delayed)
        connection->read_blocks |= SV_BLOCK_UNCONFIRMED;
    else
        sv_session_change_flags(session, connection->id, SV_SESSION_CONFIRMED, 0);
    sv_session_set_state(session, SV_SESSION_OPEN);
    sv_reactor_watch(connection);
    reactor->home.notify(reactor->home.context, connection, SV_RECORD_CONNECT, reactor->number, payload, length);
    free(payload);
    sv_input_resume(connection);
}

/* ---------------------------------------------------------------------------------------------------- handshakes */

static void begin_handshake(struct sv_connection *connection);

/* One that counted as unfinished is finished, either way: the next may begin. */
static void end_handshake(struct sv_connection *connection) {
    struct sv_port_state *state = state_of(connection);
    const struct sv_port_rules *rules = rules_of(connection);
    if (!connection->is_counted) return;
    connection->is_counted = 0;
    state->handshakes--;
    while (!sv_list_is_empty(&state->waiting_handshakes) && state->handshakes < rules->handshake_limit) {
        struct sv_connection *next = sv_container(state->waiting_handshakes.next, struct sv_connection, waiting);
        sv_list_remove(&next->waiting);
        begin_handshake(next);
        if (next->tls) go_on_later(next); /* a datagram session: its ClientHello was read already */
    }
}

static void begin_handshake(struct sv_connection *connection) {
    struct sv_port_state *state = state_of(connection);
    int64_t limit = rules_of(connection)->handshake_limit;
    bool must_wait = limit && state->handshakes >= limit;
    if (must_wait) {
        sv_list_append(&state->waiting_handshakes, &connection->waiting);
    } else {
        connection->is_counted = 1;
        state->handshakes++;
    }
    sv_reactor_set_block(connection->reactor, connection, SV_BLOCK_HANDSHAKE, must_wait);
}

static int64_t handshake_due(const struct sv_connection *connection) {
    int64_t limit_ns = rules_of(connection)->handshake_timeout_ns, due_ns = limit_ns ? connection->began_ns + limit_ns : INT64_MAX;
    int64_t again_ns = connection->tls ? sv_dtls_due(connection->tls) : 0;
    return again_ns && again_ns < due_ns ? again_ns : due_ns;
}

static void limit_handshake(struct sv_connection *connection) {
    int64_t due_ns = handshake_due(connection);
    if (due_ns != INT64_MAX) sv_deadline_set(connection, SV_DEADLINE_HANDSHAKE, due_ns);
}

/* A turn of the loop spends a bounded time on handshakes: what is left comes in the next, for the sockets stay readable. */
static bool is_handshake_time_over(struct sv_reactor *reactor) {
    if (reactor->handshake_turn != reactor->loop->turns) {
        reactor->handshake_turn = reactor->loop->turns;
        reactor->handshake_ns = 0;
    }
    return reactor->handshake_ns >= HANDSHAKES_NS;
}

static void go_on_with_handshake(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (is_handshake_time_over(reactor)) {
        if (rules_of(connection)->tls->is_datagram) go_on_later(connection); /* its ClientHello is not in the socket any more */
        return;
    }
    if (!connection->tls) connection->tls = sv_tls_new(state_of(connection)->tls, connection->io.fd);
    if (!connection->tls) {
        sv_input_give_up(connection, "out of memory");
        return;
    }
    int64_t begin_ns = sv_now_ns();
    enum sv_tls_step step = sv_tls_handshake(connection->tls);
    reactor->handshake_ns += sv_now_ns() - begin_ns;
    if (step == SV_TLS_FAILED) {
        char reason[256];
        snprintf(reason, sizeof reason, "handshake failed: %s", sv_tls_error(connection->tls));
        sv_input_give_up(connection, reason);
        return;
    }
    if (step != SV_TLS_DONE) {
        connection->wants_write = step == SV_TLS_WANTS_OUTPUT;
        sv_reactor_watch(connection);
        if (rules_of(connection)->tls->is_datagram) limit_handshake(connection);
        return;
    }
    connection->wants_write = sv_tls_pending(connection->tls) > 0;
    end_handshake(connection);
    become_open(connection);
}

/* ------------------------------------------------------------------------------------------------- PROXY headers */

/* Its address takes the place of the socket's, which stands behind it from now on. */
static void take_address(struct sv_session *session, const struct sv_proxy_header *header) {
    memmove(session->peer_text + SV_PROXY_TEXT_AT, session->peer_text, SV_PROXY_TEXT_AT);
    session->peer_text[sizeof session->peer_text - 1] = '\0';
    memcpy(session->peer_text, header->address, sizeof header->address);
    session->peer_text[sizeof header->address - 1] = '\0';
    session->proxy_port = session->peer_port;
    session->peer_port = header->port;
}

static void end_proxy(struct sv_connection *connection, const struct sv_proxy_header *header) {
    struct sv_reactor *reactor = connection->reactor;
    const struct sv_port_rules *rules = rules_of(connection);
    release(&connection->input);
    sv_deadline_clear(connection);
    if (header->is_proxied) take_address(connection->session, header);
    if (!sv_door_admit(reactor, rules, connection->session, header->is_proxied ? header->address : NULL)) {
        sv_reactor_kill(connection); /* the door has counted it and said why */
        return;
    }
    if (!rules->tls) {
        become_open(connection);
        return;
    }
    connection->stage = SV_STAGE_HANDSHAKE;
    limit_handshake(connection);
    begin_handshake(connection);
}

/* Only what belongs to the header is taken from the socket. */
static void read_proxy(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_input *input = &connection->input;
    size_t before = kept(input);
    struct sv_proxy_header header;
    const char *reason = "no PROXY header came";
    if (before) memcpy(reactor->scratch, input->data + input->begin, before);
    ssize_t got;
    do got = recv(connection->io.fd, reactor->scratch + before, SV_PROXY_HEADER_MAX - before, MSG_PEEK);
    while (got < 0 && errno == EINTR);
    if (got < 0 && (errno == EAGAIN || errno == EWOULDBLOCK)) return;
    int result = got > 0 ? sv_proxy_parse(reactor->scratch, before + (size_t)got, &header, &reason) : -1;
    if (result > 0 && before + (size_t)got >= SV_PROXY_HEADER_MAX) {
        reason = "its PROXY header is too long";
        result = -1;
    }
    if (result < 0) {
        sv_input_give_up(connection, reason);
        return;
    }
    size_t taken = result == 0 ? header.length - before : (size_t)got;
    if (recv(connection->io.fd, reactor->scratch + before, taken, 0) != (ssize_t)taken) {
        sv_input_give_up(connection, "its PROXY header cannot be read");
        return;
    }
    sv_heartbeat_heard(reactor, connection);
    if (result == 0)
        end_proxy(connection, &header);
    else if (!make_room(input, taken))
        sv_input_give_up(connection, "out of memory");
    else {
        memcpy(input->data + input->end, reactor->scratch + before, taken);
        input->end += taken;
    }
}

/* -------------------------------------------------------------------------------------------- what the reactor calls */

void sv_input_open(struct sv_connection *connection) {
    const struct sv_port_rules *rules = rules_of(connection);
    connection->began_ns = rules->has_proxy || rules->tls ? sv_now_ns() : 0;
    if (rules->has_proxy) {
        connection->stage = SV_STAGE_PROXY;
        if (!sv_door_trusts(rules, connection->session)) {
            sv_input_give_up(connection, "it may not send PROXY headers");
            return;
        }
        if (rules->proxy_timeout_ns) sv_deadline_set(connection, SV_DEADLINE_PROXY, connection->began_ns + rules->proxy_timeout_ns);
        sv_reactor_watch(connection);
    } else if (rules->tls) {
        connection->stage = SV_STAGE_HANDSHAKE;
        limit_handshake(connection);
        begin_handshake(connection);
        sv_reactor_watch(connection);
        if (connection->tls && connection->is_counted) go_on_with_handshake(connection); /* its first message is answered */
    } else {
        become_open(connection);
    }
}

/* What was kept comes first, of all connections, in the order in which they waited: else who has more to read would take the room
 * of those whose packet was read already. And without that its own would grow with each read, and be overtaken by its end. */
static void read_in_turn(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (reactor->pumped_turn != reactor->loop->turns) {
        reactor->pumped_turn = reactor->loop->turns;
        pump_ready(reactor);
    }
    if (!is_stopped(connection) && !sv_link_is_in(&connection->ready)) read_on(connection);
}

void sv_input_readable(struct sv_connection *connection) {
    switch ((enum sv_stage)connection->stage) {
        case SV_STAGE_PROXY: read_proxy(connection); break;
        case SV_STAGE_HANDSHAKE: go_on_with_handshake(connection); break;
        case SV_STAGE_OPEN: read_in_turn(connection); break;
    }
}

void sv_input_writable(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_HANDSHAKE) go_on_with_handshake(connection);
}

void sv_input_overdue(struct sv_connection *connection, int64_t now_ns) {
    struct sv_reactor *reactor = connection->reactor;
    switch ((enum sv_deadline_kind)connection->deadline) {
        case SV_DEADLINE_PROXY: sv_input_give_up(connection, "its PROXY header did not come in time"); break;
        case SV_DEADLINE_HANDSHAKE:
            if (now_ns - connection->began_ns >= rules_of(connection)->handshake_timeout_ns && rules_of(connection)->handshake_timeout_ns) {
                sv_input_give_up(connection, NULL);
                break;
            }
            reactor->handshake_ns = 0; /* the retransmission of a datagram handshake is not put off */
            go_on_with_handshake(connection);
            break;
        default: /* who is not read cannot complete his packet; his time begins again with the reading */
            if (!is_stopped(connection)) sv_reactor_abandon(reactor, connection, ETIMEDOUT, reactor->number);
            break;
    }
}

void sv_input_forget(struct sv_connection *connection) {
    sv_list_remove(&connection->ready);
    sv_list_remove(&connection->waiting);
    sv_deadline_clear(connection);
    end_handshake(connection);
}

void sv_input_free(struct sv_connection *connection) {
    release(&connection->input);
    sv_tls_free(connection->tls);
    connection->tls = NULL;
}

int sv_input_start(struct sv_reactor *reactor, struct srvlua_status *status) {
    sv_list_init(&reactor->ready);
    sv_deadline_start(reactor);
    ev_timer_init(&reactor->violation_report, on_violation_report, 1., 0.);
    reactor->violation_report.data = reactor;
    for (uint16_t i = 0; i < reactor->port_count; i++) {
        struct sv_port_state *state = &reactor->port_states[i];
        const struct sv_port_rules *rules = &reactor->ports[i];
        sv_list_init(&state->waiting_handshakes);
        state->framing = rules->framing;
        if (reactor->fill_framing && rules->framing.next) reactor->fill_framing(reactor->framing_context, reactor->number, i, &state->framing);
        if (!rules->tls) continue;
        if (!reactor->tls_scratch) reactor->tls_scratch = sv_tls_scratch_new();
        if (!reactor->tls_scratch) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
        state->tls = sv_tls_port_new(rules->tls, rules->certificates, rules->tls_shared, reactor->tls_scratch, status);
        if (!state->tls) return -SRVLUA_ERROR_INVALID_PARAMS;
    }
    return 0;
}

void sv_input_stop(struct sv_reactor *reactor) {
    sv_deadline_stop(reactor);
    ev_timer_stop(reactor->loop->ev, &reactor->violation_report);
    for (uint16_t i = 0; i < reactor->port_count; i++) {
        report_swallowed(reactor, i);
        sv_tls_port_free(reactor->port_states[i].tls);
    }
    sv_tls_scratch_free(reactor->tls_scratch);
}
