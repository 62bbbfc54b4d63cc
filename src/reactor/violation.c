/* violation.c: clients that break their port's protocol, before they are open and after (protocols.md 0.3).
 * runs in: reactors. */
#include <stdio.h>

#include "base/clock.h"
#include "reactor/input.h"

#define VIOLATION_LINES 10 /* per second and port */
#define PEER_SIZE (SV_ADDRESS_TEXT_SIZE + 16)

/* "10.0.0.7:4242" and `separator`; of unix sockets nothing: who is behind one has no address. */
static void write_peer(const struct sv_connection *connection, const char *separator, char *text, size_t size) {
    const struct sv_session *session = connection->session;
    text[0] = '\0';
    if (!sv_type_is_unix(sv_port_rules_of(connection)->type))
        snprintf(text, size, "%s:%d%s", session->peer_text, session->peer_port, separator);
}

static void report_swallowed(struct sv_reactor *reactor, uint16_t port) {
    struct sv_port_state *state = &reactor->port_states[port];
    if (state->swallowed)
        sv_log_write(&reactor->log, SRVLUA_LOG_WARNING, "%s: %llu more connections broke their protocol", reactor->ports[port].name,
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
    sv_port_state_of(connection)->swallowed++;
    if (!ev_is_active(&reactor->violation_report)) {
        ev_timer_set(&reactor->violation_report, 1., 0.);
        ev_timer_start(reactor->loop->ev, &reactor->violation_report);
    }
    return false;
}

void sv_input_violate(struct sv_connection *connection, int code, const char *reason) {
    struct sv_reactor *reactor = connection->reactor;
    char peer[PEER_SIZE];
    write_peer(connection, ", ", peer, sizeof peer);
    if (may_log_violation(connection))
        sv_log_about(&reactor->log, SRVLUA_LOG_WARNING, (int64_t)connection->id, code, "session %llu (%s%s) is closed, error %d: %s",
                     (unsigned long long)connection->id, peer, sv_port_rules_of(connection)->name, code, reason);
    sv_input_release(&connection->input);
    sv_reactor_begin_close(connection, SV_CLOSE_VIOLATION, 0, reactor->number);
}

void sv_input_give_up(struct sv_connection *connection, const char *reason) {
    struct sv_reactor *reactor = connection->reactor;
    char peer[PEER_SIZE];
    if (connection->is_dead) return;
    write_peer(connection, " ", peer, sizeof peer);
    if (reason && may_log_violation(connection))
        sv_log_about(&reactor->log, SRVLUA_LOG_NOTICE, (int64_t)connection->id, 0, "a connection %s%sto %s is closed: %s",
                     *peer ? "from " : "", peer, sv_port_rules_of(connection)->name, reason);
    sv_count(reactor->counters, SV_COUNT_ABORTED, 1);
    sv_reactor_kill(connection);
}

void sv_violations_start(struct sv_reactor *reactor) {
    ev_timer_init(&reactor->violation_report, on_violation_report, 1., 0.);
    reactor->violation_report.data = reactor;
}

void sv_violations_stop(struct sv_reactor *reactor) {
    ev_timer_stop(reactor->loop->ev, &reactor->violation_report);
    for (uint16_t i = 0; i < reactor->port_count; i++) report_swallowed(reactor, i);
}
