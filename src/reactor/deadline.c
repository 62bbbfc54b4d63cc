/* deadline.c: time limits for what is unfinished: PROXY headers, TLS handshakes, packets. Limits of a kind are the same for all
 * connections of a port, so each list is in order by being appended to, and a check looks at those that are due only. */
#include "base/clock.h"
#include "reactor/input.h"

static struct sv_connection *first_of(const struct sv_link *list) {
    return sv_list_is_empty(list) ? NULL : sv_container(list->next, struct sv_connection, timed);
}

static void arm(struct sv_reactor *reactor, int64_t due_ns, int64_t now_ns) {
    int64_t wait_ns = due_ns - now_ns;
    ev_now_update(reactor->loop->ev);
    ev_timer_stop(reactor->loop->ev, &reactor->deadline);
    ev_timer_set(&reactor->deadline, wait_ns > SV_NS_PER_MS ? (double)wait_ns / 1e9 : 0.001, 0.);
    ev_timer_start(reactor->loop->ev, &reactor->deadline);
    reactor->next_deadline_ns = due_ns;
}

static void on_deadline(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    struct sv_reactor *reactor = watcher->data;
    int64_t now_ns = sv_now_ns(), next_ns = INT64_MAX;
    for (uint16_t i = 0; i < reactor->port_count; i++)
        for (int kind = 0; kind < SV_DEADLINES; kind++) {
            struct sv_connection *connection;
            while ((connection = first_of(&reactor->port_states[i].deadlines[kind])) && connection->due_ns <= now_ns) {
                sv_list_remove(&connection->timed);
                sv_input_overdue(connection, now_ns);
            }
            if (connection && connection->due_ns < next_ns) next_ns = connection->due_ns;
        }
    reactor->next_deadline_ns = INT64_MAX;
    if (next_ns != INT64_MAX) arm(reactor, next_ns, now_ns);
}

void sv_deadline_start(struct sv_reactor *reactor) {
    for (uint16_t i = 0; i < reactor->port_count; i++)
        for (int kind = 0; kind < SV_DEADLINES; kind++) sv_list_init(&reactor->port_states[i].deadlines[kind]);
    ev_timer_init(&reactor->deadline, on_deadline, 0., 0.);
    reactor->deadline.data = reactor;
    reactor->next_deadline_ns = INT64_MAX;
}

void sv_deadline_stop(struct sv_reactor *reactor) {
    ev_timer_stop(reactor->loop->ev, &reactor->deadline);
}

void sv_deadline_set(struct sv_connection *connection, enum sv_deadline_kind kind, int64_t due_ns) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_link *list = &reactor->port_states[connection->port].deadlines[kind], *before;
    sv_list_remove(&connection->timed);
    connection->due_ns = due_ns;
    connection->deadline = (uint8_t)kind;
    before = list->previous;
    while (before != list && sv_container(before, struct sv_connection, timed)->due_ns > due_ns) before = before->previous;
    sv_list_append(before->next, &connection->timed); /* in front of what is due later */
    if (due_ns < reactor->next_deadline_ns) arm(reactor, due_ns, sv_now_ns());
}

void sv_deadline_clear(struct sv_connection *connection) {
    sv_list_remove(&connection->timed);
}
