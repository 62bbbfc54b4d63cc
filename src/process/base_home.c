/* base_home.c: the home of a BASE worker's reactor: its events are function calls. What may come up inside a callback's own call (a
 * peer that turns out to be gone while something is sent) is put aside until the callback has returned.
 * runs in: BASE workers. */
#include <stdlib.h>

#include "base/clock.h"
#include "process/runtime.h"
#include "reactor/packet.h"

#define LAST_FLUSH_NS (SV_NS_PER_SECOND / 4) /* for clients of a worker that is late; less than the patience of the manager */

static void deliver(struct sv_runtime *rt, struct sv_message *message) {
    message->source = rt->endpoint.id;
    rt->hooks.deliver(rt->hooks.context, message);
}

static unsigned char *base_reserve(void *context, struct sv_connection *connection, uint32_t *size) {
    (void)connection;
    struct sv_runtime *rt = context;
    *size = SV_READ_MAX;
    return rt->reactor.scratch;
}

/* A read may bring thousands of packets: slow callbacks must not keep signals, timers and other clients waiting for all of them. */
static bool base_may_deliver(void *context, struct sv_connection *connection) {
    struct sv_runtime *rt = context;
    struct sv_worker *worker = &rt->worker;
    bool is_same = worker->last_served == connection->id;
    worker->last_served = connection->id; /* everybody gets one packet in, however late it is */
    if (!worker->turn_began_ns) worker->turn_began_ns = sv_now_ns();
    return !is_same || sv_now_ns() - worker->turn_began_ns < SV_WORKER_TURN_NS;
}

static void base_deliver(void *context, struct sv_connection *connection, const void *data, size_t length, int64_t stamp_ns,
                         unsigned char **owned) {
    (void)owned;
    struct sv_runtime *rt = context;
    sv_count(rt->counters, SV_COUNT_DISPATCHED, 1);
    struct sv_message message = {.type = SV_RECORD_RECEIVE,
                                 .id = connection->id,
                                 .value = rt->slot,
                                 .stamp_ns = stamp_ns,
                                 .payload = data,
                                 .length = length};
    deliver(rt, &message);
}

static void base_commit(void *context, struct sv_connection *connection, uint32_t length, int64_t stamp_ns) {
    struct sv_runtime *rt = context;
    if (length) base_deliver(rt, connection, rt->reactor.scratch, length, stamp_ns, NULL);
}

static void base_notify(void *context, struct sv_connection *connection, uint16_t type, int32_t value, const void *payload,
                        size_t length) {
    struct sv_runtime *rt = context;
    if (type == SV_RECORD_CONNECT) {
        connection->target = (uint32_t)rt->slot;
        atomic_store_explicit(&connection->session->worker, (uint32_t)rt->slot, memory_order_release);
        if (!rt->ports[connection->port].has_connect_event && !length) return;
    }
    struct sv_message message = {.type = type, .id = connection->id, .value = value, .payload = payload, .length = length};
    if (type == SV_RECORD_CONNECT)
        deliver(rt, &message);
    else
        sv_worker_stash(rt, &message); /* it may have come up inside a callback's send */
}

/* The close event is a function call here. */
static bool base_forget(void *context, struct sv_connection *connection) {
    (void)context, (void)connection;
    return false;
}

static bool base_datagram(void *context, const struct sv_port_rules *port, const struct sv_address *from, const void *data,
                          size_t length, int64_t stamp_ns) {
    struct sv_runtime *rt = context;
    unsigned char payload[SV_PACKET_MAX];
    sv_count(rt->counters, SV_COUNT_DISPATCHED, 1);
    struct sv_message message = {.type = SV_RECORD_PACKET,
                                 .value = port->index,
                                 .stamp_ns = stamp_ns,
                                 .payload = payload,
                                 .length = sv_packet_write(payload, port, from, data, length)};
    deliver(rt, &message);
    return true;
}

static void base_gone(void *context, struct sv_connection *connection) {
    (void)context, (void)connection;
}

static bool base_accepted(void *context, struct sv_session *session) {
    struct sv_runtime *rt = context;
    sv_reactor_adopt(&rt->reactor, session, NULL);
    return true;
}

int sv_base_set_up(struct sv_runtime *rt) {
    rt->reactor = (struct sv_reactor){.number = (uint16_t)rt->slot,
                                      .loop = &rt->loop,
                                      .endpoint = &rt->endpoint,
                                      .sessions = &rt->sessions,
                                      .counters = rt->counters,
                                      .ports = rt->ports,
                                      .port_count = rt->port_count,
                                      .log = rt->log,
                                      .output_memory_limit = rt->config.output_memory_limit,
                                      .max_connection = rt->config.max_connection,
                                      .heartbeat_interval = rt->config.heartbeat_interval,
                                      .shared_ports = rt->shared_ports,
                                      .fill_framing = rt->hooks.framing,
                                      .framing_context = rt->hooks.context,
                                      .home = {.context = rt,
                                               .reserve = base_reserve,
                                               .commit = base_commit,
                                               .may_deliver = base_may_deliver,
                                               .deliver = base_deliver,
                                               .notify = base_notify,
                                               .forget = base_forget,
                                               .datagram = base_datagram,
                                               .gone = base_gone}};
    struct srvlua_status status;
    int result = sv_reactor_init(&rt->reactor, &status);
    if (result) sv_log_about(&rt->log, SRVLUA_LOG_ERROR, 0, -result, "the reactor cannot start: %s", status.message);
    if (result) return result;
    rt->has_reactor = true;
    sv_runtime_fill_acceptor(rt, &rt->acceptor, base_accepted, rt);
    rt->acceptor.reactor = (uint16_t)rt->slot;
    return sv_acceptor_init(&rt->acceptor);
}

/* Every connection gets its close event, then what was accepted for it goes out, as long as there is time. */
void sv_base_close_connections(struct sv_runtime *rt) {
    size_t count = 0;
    uint64_t *ids = malloc((rt->reactor.connection_count + 1) * sizeof *ids); /* callbacks may close any of them meanwhile */
    for (struct sv_link *link = rt->reactor.all.next; ids && link != &rt->reactor.all; link = link->next)
        ids[count++] = sv_container(link, struct sv_connection, all)->id;
    for (size_t i = 0; i < count; i++) {
        struct sv_connection *connection = sv_reactor_find(&rt->reactor, ids[i]);
        if (!connection) continue;
        sv_session_change_flags(connection->session, connection->id, SV_SESSION_CLOSE_ASKED, 0);
        sv_reactor_close(&rt->reactor, connection, 0);
    }
    free(ids);
    sv_worker_handle_stash(rt);
    int64_t until_ns = sv_now_ns() + (rt->config.max_wait_time > 0 ? LAST_FLUSH_NS : 0);
    if (until_ns < rt->worker.deadline_ns) until_ns = rt->worker.deadline_ns;
    int64_t limit_ns = atomic_load(&rt->shared->shutdown_deadline_ns);
    if (limit_ns && until_ns > limit_ns) until_ns = limit_ns;
    rt->loop.is_stopping = false; /* for the flushing only */
    for (;;) {
        sv_worker_handle_stash(rt);
        sv_reactor_end_turn(&rt->reactor);
        if (sv_list_is_empty(&rt->reactor.all) || sv_now_ns() >= until_ns) break;
        sv_loop_turn(&rt->loop, 20);
    }
}
