/* violation.c: clients that break their port's protocol, before they are open and after (protocols.md 0.3).
 * runs in: reactors. */
#include "base/clock.h"
#include "reactor/input.h"

#define VIOLATION_LINES 10  /* per second and port */

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
    sv_port_state_of(connection)->swallowed++;
    if (!ev_is_active(&reactor->violation_report)) {
        ev_timer_set(&reactor->violation_report, 1., 0.);
        ev_timer_start(reactor->loop->ev, &reactor->violation_report);
    }
    return false;
}

void sv_input_violate(struct sv_connection *connection, int code, const char *reason) {
    struct sv_reactor *reactor = connection->reactor;
    const struct sv_session *session = connection->session;
    if (may_log_violation(connection))
        sv_log_about(&reactor->log, SRVLUA_LOG_WARNING, (int64_t)connection->id, code,
                     "session %llu (%s:%d, port %d) is closed, error %d: %s", (unsigned long long)connection->id, session->peer_text,
                     session->peer_port, sv_port_rules_of(connection)->number, code, reason);
    sv_input_release(&connection->input);
    sv_reactor_begin_close(connection, SV_CLOSE_VIOLATION, 0, reactor->number);
}

void sv_input_give_up(struct sv_connection *connection, const char *reason) {
    struct sv_reactor *reactor = connection->reactor;
    const struct sv_session *session = connection->session;
    if (connection->is_dead) return;
    if (reason && may_log_violation(connection))
        sv_log_about(&reactor->log, SRVLUA_LOG_NOTICE, (int64_t)connection->id, 0, "a connection from %s:%d to port %d is closed: %s",
                     session->peer_text, session->peer_port, sv_port_rules_of(connection)->number, reason);
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
