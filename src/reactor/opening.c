/* opening.c: from an accepted socket to a connection that its users know.
 *
 *   PROXY header ─► TLS handshake ─► open
 *
 * runs in: reactors. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "framing/proxy.h"
#include "reactor/door.h"
#include "reactor/input.h"

#define HANDSHAKES_NS (2 * SV_NS_PER_MS) /* per turn of the loop, so that open connections keep their latency */

/* ------------------------------------------------------------------------------------------------- becoming open */

static void become_open(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_session *session = connection->session;
    const struct sv_port_rules *rules = sv_port_rules_of(connection);
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
    if (reactor->is_quiet) connection->read_blocks |= SV_BLOCK_QUIET;
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

void sv_opening_leave_queue(struct sv_connection *connection) {
    if (connection->stage != SV_STAGE_HANDSHAKE || !sv_link_is_in(&connection->waiting)) return;
    sv_list_remove(&connection->waiting);
    sv_port_state_of(connection)->waiting_count--;
}

/* One that counted as unfinished is finished, either way: the next may begin. */
void sv_opening_end_handshake(struct sv_connection *connection) {
    struct sv_port_state *state = sv_port_state_of(connection);
    const struct sv_port_rules *rules = sv_port_rules_of(connection);
    if (!connection->is_counted) return;
    connection->is_counted = 0;
    state->handshakes--;
    while (!sv_list_is_empty(&state->waiting_handshakes) && state->handshakes < rules->handshake_limit) {
        struct sv_connection *next = sv_container(state->waiting_handshakes.next, struct sv_connection, waiting);
        sv_opening_leave_queue(next);
        begin_handshake(next);
        if (next->tls) sv_input_go_on_later(next); /* a datagram session: its ClientHello was read already */
    }
}

static void begin_handshake(struct sv_connection *connection) {
    struct sv_port_state *state = sv_port_state_of(connection);
    int64_t limit = sv_port_rules_of(connection)->handshake_limit;
    bool must_wait = limit && state->handshakes >= limit;
    if (must_wait) {
        sv_list_append(&state->waiting_handshakes, &connection->waiting);
        state->waiting_count++;
    } else {
        connection->is_counted = 1;
        state->handshakes++;
    }
    sv_reactor_set_block(connection->reactor, connection, SV_BLOCK_HANDSHAKE, must_wait);
}

static int64_t handshake_due(const struct sv_connection *connection) {
    int64_t limit_ns = sv_port_rules_of(connection)->handshake_timeout_ns, due_ns = limit_ns ? connection->began_ns + limit_ns : INT64_MAX;
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

void sv_opening_go_on(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (is_handshake_time_over(reactor)) {
        if (sv_port_rules_of(connection)->tls->is_datagram) sv_input_go_on_later(connection); /* its ClientHello is not in the socket any more */
        return;
    }
    if (!connection->tls) connection->tls = sv_tls_new(sv_port_state_of(connection)->tls, connection->io.fd);
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
        if (sv_port_rules_of(connection)->tls->is_datagram) limit_handshake(connection);
        return;
    }
    connection->wants_write = sv_tls_pending(connection->tls) > 0;
    sv_opening_end_handshake(connection);
    become_open(connection);
}

void sv_opening_cancel(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_HANDSHAKE && connection->tls) sv_tls_cancel(connection->tls);
    sv_input_give_up(connection, NULL);
}

/* Who the client is is known: TLS comes next, where there is any. */
static void begin_after_proxy(struct sv_connection *connection) {
    if (!sv_port_rules_of(connection)->tls) {
        become_open(connection);
        return;
    }
    connection->stage = SV_STAGE_HANDSHAKE;
    limit_handshake(connection);
    begin_handshake(connection);
    sv_reactor_watch(connection);
    if (connection->tls && connection->is_counted) sv_opening_go_on(connection); /* its first message is answered */
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
    const struct sv_port_rules *rules = sv_port_rules_of(connection);
    sv_input_release(&connection->input);
    sv_deadline_clear(connection);
    if (header->is_proxied) take_address(connection->session, header);
    if (!sv_door_admit(reactor, rules, connection->session, header->is_proxied ? header->address : NULL)) {
        sv_reactor_kill(connection); /* the door has counted it and said why */
        return;
    }
    begin_after_proxy(connection);
}

/* Only what belongs to the header is taken from the socket. */
static void read_proxy(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_input *input = &connection->input;
    size_t before = sv_input_kept(input);
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
    else if (!sv_input_append(input, reactor->scratch + before, taken))
        sv_input_give_up(connection, "out of memory");
}

/* ------------------------------------------------------------------------------------------------ what comes first */

void sv_input_open(struct sv_connection *connection) {
    const struct sv_port_rules *rules = sv_port_rules_of(connection);
    connection->began_ns = rules->has_proxy || rules->tls ? sv_now_ns() : 0;
    if (rules->has_proxy) {
        connection->stage = SV_STAGE_PROXY;
        if (!sv_door_trusts(rules, connection->session)) {
            sv_input_give_up(connection, "it may not send PROXY headers");
            return;
        }
        if (rules->proxy_timeout_ns) sv_deadline_set(connection, SV_DEADLINE_PROXY, connection->began_ns + rules->proxy_timeout_ns);
        sv_reactor_watch(connection);
    } else {
        begin_after_proxy(connection);
    }
}

void sv_input_readable(struct sv_connection *connection) {
    switch ((enum sv_stage)connection->stage) {
        case SV_STAGE_PROXY: read_proxy(connection); break;
        case SV_STAGE_HANDSHAKE: sv_opening_go_on(connection); break;
        case SV_STAGE_OPEN: sv_input_read(connection); break;
    }
}

void sv_input_writable(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_HANDSHAKE) sv_opening_go_on(connection);
}

void sv_input_overdue(struct sv_connection *connection, int64_t now_ns) {
    struct sv_reactor *reactor = connection->reactor;
    switch ((enum sv_deadline_kind)connection->deadline) {
        case SV_DEADLINE_PROXY: sv_input_give_up(connection, "its PROXY header did not come in time"); break;
        case SV_DEADLINE_HANDSHAKE:
            if (now_ns - connection->began_ns >= sv_port_rules_of(connection)->handshake_timeout_ns && sv_port_rules_of(connection)->handshake_timeout_ns) {
                sv_input_give_up(connection, NULL);
                break;
            }
            reactor->handshake_ns = 0; /* the retransmission of a datagram handshake is not put off */
            sv_opening_go_on(connection);
            break;
        default: /* who is not read cannot complete his packet; his time begins again with the reading */
            if (!sv_input_is_stopped(connection)) sv_reactor_abandon(reactor, connection, ETIMEDOUT, reactor->number);
            break;
    }
}
