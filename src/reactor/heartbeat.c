/* heartbeat.c: finds connections that are idle. Connections of a port stand in the order in which they were last heard (active),
 * so that a check looks at the idle ones only, however many there are. Settings: settings.md 3.4. */
#include <errno.h>

#include "base/clock.h"
#include "reactor/reactor.h"

static bool is_protected(const struct sv_connection *connection) {
    return sv_session_flags(connection->session) & SV_SESSION_PROTECTED;
}

/* A protected one goes to the end, as if it had just been heard: it is looked at again one idle time later. */
static void postpone(struct sv_link *list, struct sv_link *link, int64_t *stamp_ns, int64_t now_ns) {
    *stamp_ns = now_ns;
    sv_list_remove(link);
    sv_list_append(list, link);
}

static void on_heartbeat(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    struct sv_reactor *reactor = watcher->data;
    int64_t now_ns = sv_now_ns();
    for (uint16_t i = 0; i < reactor->port_count; i++) {
        struct sv_link *list = &reactor->port_states[i].heard;
        int64_t idle_ns = reactor->ports[i].heartbeat_ns;
        while (idle_ns && !sv_list_is_empty(list)) {
            struct sv_connection *connection = sv_container(list->next, struct sv_connection, heard);
            if (now_ns - connection->heard_ns < idle_ns) break;
            if (is_protected(connection)) {
                /* looked at again at the next check: protect(fd, false) must not wait for a whole idle time */
                postpone(list, &connection->heard, &connection->heard_ns, now_ns - idle_ns + (int64_t)(reactor->heartbeat_interval * 5e8));
                continue;
            }
            sv_list_remove(&connection->heard);
            sv_reactor_abandon(reactor, connection, ETIMEDOUT, reactor->number);
        }
    }
}

static void arm_idle(struct sv_reactor *reactor, int64_t now_ns) {
    int64_t next_ns = INT64_MAX;
    for (uint16_t i = 0; i < reactor->port_count; i++) {
        struct sv_link *list = &reactor->port_states[i].active;
        if (!reactor->ports[i].idle_ns || sv_list_is_empty(list)) continue;
        int64_t due_ns = sv_container(list->next, struct sv_connection, active)->active_ns + reactor->ports[i].idle_ns;
        if (due_ns < next_ns) next_ns = due_ns;
    }
    if (next_ns == INT64_MAX) return;
    int64_t wait_ns = next_ns - now_ns;
    ev_now_update(reactor->loop->ev);
    ev_timer_set(&reactor->idle, wait_ns > SV_NS_PER_MS ? (double)wait_ns / 1e9 : 0.001, 0.);
    ev_timer_start(reactor->loop->ev, &reactor->idle);
}

static void on_idle(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    struct sv_reactor *reactor = watcher->data;
    int64_t now_ns = sv_now_ns();
    for (uint16_t i = 0; i < reactor->port_count; i++) {
        struct sv_link *list = &reactor->port_states[i].active;
        int64_t idle_ns = reactor->ports[i].idle_ns;
        while (idle_ns && !sv_list_is_empty(list)) {
            struct sv_connection *connection = sv_container(list->next, struct sv_connection, active);
            if (now_ns - connection->active_ns < idle_ns) break;
            if (is_protected(connection)) {
                postpone(list, &connection->active, &connection->active_ns, now_ns - idle_ns / 2);
                continue;
            }
            sv_list_remove(&connection->active);
            sv_reactor_abandon(reactor, connection, ETIMEDOUT, reactor->number);
        }
    }
    arm_idle(reactor, now_ns);
}

void sv_heartbeat_start(struct sv_reactor *reactor) {
    double interval = reactor->heartbeat_interval > 0 ? reactor->heartbeat_interval : 1;
    ev_timer_init(&reactor->heartbeat, on_heartbeat, interval, interval);
    ev_timer_init(&reactor->idle, on_idle, 0., 0.);
    reactor->heartbeat.data = reactor->idle.data = reactor;
    if (reactor->heartbeat_interval > 0) ev_timer_start(reactor->loop->ev, &reactor->heartbeat);
}

void sv_heartbeat_stop(struct sv_reactor *reactor) {
    ev_timer_stop(reactor->loop->ev, &reactor->heartbeat);
    ev_timer_stop(reactor->loop->ev, &reactor->idle);
}

void sv_heartbeat_add(struct sv_reactor *reactor, struct sv_connection *connection) {
    const struct sv_port_rules *rules = &reactor->ports[connection->port];
    if (!rules->heartbeat_ns && !rules->idle_ns) return;
    connection->heard_ns = connection->active_ns = sv_now_ns();
    if (rules->heartbeat_ns) sv_list_append(&reactor->port_states[connection->port].heard, &connection->heard);
    if (!rules->idle_ns) return;
    sv_list_append(&reactor->port_states[connection->port].active, &connection->active);
    if (!ev_is_active(&reactor->idle)) arm_idle(reactor, connection->active_ns);
}

static void touch(struct sv_link *list, struct sv_link *link) {
    if (!sv_link_is_in(link) || list->previous == link) return;
    sv_list_remove(link);
    sv_list_append(list, link);
}

void sv_heartbeat_heard(struct sv_reactor *reactor, struct sv_connection *connection) {
    const struct sv_port_rules *rules = &reactor->ports[connection->port];
    if (!rules->heartbeat_ns && !rules->idle_ns) return;
    connection->heard_ns = connection->active_ns = sv_now_ns();
    touch(&reactor->port_states[connection->port].heard, &connection->heard);
    touch(&reactor->port_states[connection->port].active, &connection->active);
}

void sv_heartbeat_sent(struct sv_reactor *reactor, struct sv_connection *connection) {
    if (!reactor->ports[connection->port].idle_ns) return;
    connection->active_ns = sv_now_ns();
    touch(&reactor->port_states[connection->port].active, &connection->active);
}
