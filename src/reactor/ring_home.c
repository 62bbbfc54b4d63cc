/* ring_home.c: see ring_home.h. */
#include "reactor/ring_home.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "reactor/packet.h"

#define LEAST_READ 2048u /* less room than this at the end of a ring is not worth a system call */

struct sv_overflow { /* a record that found no room */
    struct sv_overflow *next;
    uint16_t type;
    uint64_t id;
    int32_t value;
    int64_t stamp_ns;
    size_t length, at; /* payload, and how much of it is in the ring already */
    const unsigned char *payload;
    unsigned char *owned; /* that buffer, if it was handed over; else the payload lies behind this */
};

/* ------------------------------------------------------------------------------------------- writing to a target */

static void fill(struct sv_record *record, uint16_t type, uint64_t id, int32_t value, int64_t stamp_ns, uint32_t length) {
    record->length = length;
    record->type = type;
    record->flags = SV_RECORD_FIRST | SV_RECORD_LAST;
    record->id = id;
    record->value = value;
    record->stamp_ns = stamp_ns;
}

/* The mark by which others see how much waits for a worker. */
static void count_packet(struct sv_ring *ring) {
    atomic_store_explicit(&ring->packets, atomic_load_explicit(&ring->packets, memory_order_relaxed) + 1, memory_order_relaxed);
}

/* Writes from *at on, in chunks if need be; true when all of it is in the ring. */
static bool write_chunks(struct sv_ring_home *home, struct sv_ring_target *target, uint16_t type, uint64_t id, int32_t value,
                         int64_t stamp_ns, const unsigned char *payload, size_t length, size_t *at) {
    struct sv_ring_writer *writer = sv_writer_to(home->endpoint, target->endpoint);
    if (!writer) return false;
    uint32_t most = sv_max_payload_to(home->endpoint, target->endpoint);
    do {
        uint32_t part = length - *at < most ? (uint32_t)(length - *at) : most;
        struct sv_record *record = sv_ring_reserve(writer, part);
        if (!record) {
            sv_kick(home->endpoint, target->endpoint);
            return false;
        }
        fill(record, type, id, value, stamp_ns, part);
        record->flags = (uint16_t)((*at == 0 ? SV_RECORD_FIRST : 0) | (*at + part == length ? SV_RECORD_LAST : 0));
        if (part) memcpy(record->payload, payload + *at, part);
        bool is_data = type == SV_RECORD_RECEIVE || type == SV_RECORD_PACKET;
        if (is_data && record->flags & SV_RECORD_LAST) count_packet(writer->ring);
        sv_send_filled(home->endpoint, target->endpoint, record);
        *at += part;
    } while (*at < length);
    return true;
}

static void free_overflow(struct sv_overflow *overflow) {
    free(overflow->owned);
    free(overflow);
}

static bool is_stuck(const struct sv_ring_target *target) {
    return target->first || target->successor || !sv_list_is_empty(&target->waiting) || !sv_list_is_empty(&target->served);
}

/* A record for a worker, never lost. False if it had to be put aside. *owned, if there is one, is the buffer of the payload. */
static bool put(struct sv_ring_home *home, struct sv_ring_target *target, uint16_t type, uint64_t id, int32_t value,
                int64_t stamp_ns, const void *payload, size_t length, unsigned char **owned) {
    size_t at = 0;
    target->in_flight++;
    if (!target->first && !target->successor && write_chunks(home, target, type, id, value, stamp_ns, payload, length, &at)) return true;
    struct sv_overflow *later = malloc(sizeof *later + (owned ? 0 : length));
    if (!later) {
        sv_log_about(&home->reactor->log, SRVLUA_LOG_ERROR, (int64_t)id, ENOMEM, "out of memory: an event of session %llu is lost",
                     (unsigned long long)id);
        return false;
    }
    *later = (struct sv_overflow){.type = type, .id = id, .value = value, .stamp_ns = stamp_ns, .length = length, .at = at};
    later->payload = (unsigned char *)(later + 1);
    if (owned) {
        later->payload = later->owned = *owned;
        *owned = NULL;
    } else if (length) {
        memcpy(later + 1, payload, length);
    }
    if (!is_stuck(target)) home->stuck++;
    if (target->last)
        target->last->next = later;
    else
        target->first = later;
    target->last = later;
    return false;
}

static void wait_for_room(struct sv_ring_home *home, struct sv_ring_target *target, struct sv_link *list,
                          struct sv_connection *connection) {
    if (!is_stuck(target)) home->stuck++;
    sv_reactor_set_block(home->reactor, connection, SV_BLOCK_RING, true);
    if (!sv_link_is_in(&connection->waiting)) sv_list_append(list, &connection->waiting);
}

static void let_go_on(struct sv_ring_home *home, struct sv_link *list) {
    while (!sv_list_is_empty(list)) {
        struct sv_connection *connection = sv_container(list->next, struct sv_connection, waiting);
        sv_list_remove(&connection->waiting);
        sv_reactor_set_block(home->reactor, connection, SV_BLOCK_RING, false);
    }
}

/* ------------------------------------------------------------------------------------------------ the home's table */

static void set_target(struct sv_connection *connection, uint32_t number) {
    connection->target = number;
    atomic_store_explicit(&connection->session->worker, number, memory_order_release);
}

/* Sees what a worker has finished meanwhile, in both of its generations. */
static void settle_in_flight(struct sv_ring_home *home, uint32_t number) {
    const struct sv_ipc *ipc = home->endpoint->ipc;
    for (uint32_t parity = 0; parity < 2; parity++) {
        struct sv_ring_writer *writer = &home->endpoint->writers[sv_endpoint_of_slot(ipc, number, parity)];
        if (writer->ring) sv_ring_writer_refresh(writer);
    }
}

/* The worker that the dispatch mode names. */
static uint32_t target_of(struct sv_ring_home *home, struct sv_connection *connection, uint16_t type) {
    if (home->is_sticky_in_flight && connection->in_flight) settle_in_flight(home, connection->target);
    if (connection->target != UINT32_MAX) return connection->target;
    return home->choose(home->choose_context, connection, NULL, type);
}

/* Nobody gets the event. The connection stays as it is, or ends if its user said so. */
static void drop_event(struct sv_ring_home *home, struct sv_connection *connection, uint16_t type, int32_t answer) {
    if (type == SV_RECORD_CLOSED)
        sv_reactor_close(home->reactor, connection, SV_CLOSE_ANSWER); /* no callback has to run first */
    else if (answer == SRVLUA_CLOSE_CONNECTION)
        sv_reactor_dismiss(home->reactor, connection);
}

/* The worker that gets an event: the one that the user's function names, else the dispatch mode's. False: none, it is dropped. */
static bool find_worker(struct sv_ring_home *home, struct sv_connection *connection, uint16_t type, const void *data,
                        size_t length, uint32_t *number) {
    int32_t answer = SRVLUA_USERFUNC_FALLBACK;
    if (home->ask) answer = home->ask(home->choose_context, home->reactor->number, connection, NULL, type, data, length);
    if (answer == SRVLUA_USERFUNC_FALLBACK) answer = (int32_t)target_of(home, connection, type);
    if (answer < 0) {
        drop_event(home, connection, type, answer);
        return false;
    }
    *number = (uint32_t)answer;
    return true;
}

/* A record of the connection is on its way to a worker. */
static void keep_target(struct sv_ring_home *home, struct sv_connection *connection, uint32_t number) {
    if (!home->is_sticky_in_flight) return;
    if (!connection->in_flight++) set_target(connection, number);
}

/* Whether max_queued_bytes is reached, when everything that workers have finished is seen; those that have not will ring. */
static bool has_too_much_queued(struct sv_ring_home *home, const struct sv_connection *connection) {
    uint64_t limit = (uint64_t)home->reactor->max_queued_bytes;
    if (!limit || connection->undelivered < limit) return false;
    bool is_anywhere = home->ask || connection->target == UINT32_MAX;
    for (uint32_t i = 0; i < home->worker_count; i++) {
        if (!is_anywhere && i != connection->target) continue;
        for (uint32_t parity = 0; parity < 2; parity++) {
            struct sv_ring_writer *writer = &home->endpoint->writers[sv_endpoint_of_slot(home->endpoint->ipc, i, parity)];
            if (writer->ring) sv_ring_want_space(writer); /* also looks again */
        }
    }
    return connection->undelivered >= limit;
}

static bool wait_for_queue(struct sv_ring_home *home, struct sv_connection *connection) {
    if (!has_too_much_queued(home, connection)) return false;
    sv_reactor_set_block(home->reactor, connection, SV_BLOCK_QUEUED, true);
    if (!sv_link_is_in(&connection->waiting)) sv_list_append(&home->queued, &connection->waiting);
    return true;
}

static unsigned char *reserve(void *context, struct sv_connection *connection, uint32_t *size) {
    struct sv_ring_home *home = context;
    struct sv_reactor *reactor = home->reactor;
    if (wait_for_queue(home, connection)) return NULL;
    if (home->ask) return reactor->scratch; /* SV_READ_MAX bytes, which is what *size says */
    uint32_t number = target_of(home, connection, SV_RECORD_RECEIVE);
    struct sv_ring_target *target = &home->targets[number];
    uint32_t most = sv_max_payload_to(home->endpoint, target->endpoint);
    if (most < *size) *size = most;
    home->record = target->first || target->successor ? NULL : sv_send_reserve(home->endpoint, target->endpoint, LEAST_READ, size);
    if (!home->record) {
        sv_kick(home->endpoint, target->endpoint);
        wait_for_room(home, target, &target->waiting, connection);
        return NULL;
    }
    home->record_target = number;
    return home->record->payload;
}

static void account(struct sv_ring_home *home, struct sv_connection *connection, uint32_t number, uint32_t length) {
    struct sv_session *session = connection->session;
    atomic_store_explicit(&session->dispatched_bytes,
                          atomic_load_explicit(&session->dispatched_bytes, memory_order_relaxed) + length, memory_order_relaxed);
    connection->undelivered += length;
    connection->is_known = 1;
    keep_target(home, connection, number);
    sv_count(home->reactor->counters, SV_COUNT_DISPATCHED, 1);
}

/* What finds no room in its ring is put aside, and no more is passed on of this connection then. */
static void deliver(void *context, struct sv_connection *connection, const void *data, size_t length, int64_t stamp_ns,
                    unsigned char **owned) {
    struct sv_ring_home *home = context;
    struct sv_reactor *reactor = home->reactor;
    uint32_t number;
    if (!find_worker(home, connection, SV_RECORD_RECEIVE, data, length, &number)) return;
    account(home, connection, number, (uint32_t)length);
    struct sv_ring_target *target = &home->targets[number];
    if (!put(home, target, SV_RECORD_RECEIVE, connection->id, reactor->number, stamp_ns, data, length, owned))
        wait_for_room(home, target, &target->served, connection);
}

/* A connection whose worker changes from packet to packet cannot wait for one of them: what finds no room waits in its stead. */
static bool may_deliver(void *context, struct sv_connection *connection) {
    struct sv_ring_home *home = context;
    if (wait_for_queue(home, connection)) return false;
    if (home->ask || connection->target == UINT32_MAX) return true;
    struct sv_ring_target *target = &home->targets[connection->target];
    if (!target->first && !target->successor) return true;
    sv_kick(home->endpoint, target->endpoint);
    wait_for_room(home, target, &target->waiting, connection);
    return false;
}

static void commit(void *context, struct sv_connection *connection, uint32_t length, int64_t stamp_ns) {
    struct sv_ring_home *home = context;
    if (!length) return; /* what was reserved but not published is simply not there */
    if (home->ask) {
        deliver(home, connection, home->reactor->scratch, length, stamp_ns, NULL);
        return;
    }
    struct sv_ring_target *target = &home->targets[home->record_target];
    fill(home->record, SV_RECORD_RECEIVE, connection->id, home->reactor->number, stamp_ns, length);
    account(home, connection, home->record_target, length);
    target->in_flight++;
    count_packet(home->endpoint->writers[target->endpoint].ring);
    sv_send_filled(home->endpoint, target->endpoint, home->record);
}

/* What a worker has to know of a connection before its first packet comes, and not earlier. False: it did not fit. */
static bool put_unannounced(struct sv_ring_home *home, struct sv_ring_target *target, uint16_t type, uint64_t id, int32_t value,
                            const void *payload, size_t length) {
    if (target->first || target->successor || length > sv_max_payload_to(home->endpoint, target->endpoint)) return false;
    struct sv_ring_writer *writer = sv_writer_to(home->endpoint, target->endpoint);
    struct sv_record *record = writer ? sv_ring_reserve(writer, (uint32_t)length) : NULL;
    if (!record) return false;
    fill(record, type, id, value, 0, (uint32_t)length);
    if (length) memcpy(record->payload, payload, length);
    sv_send_unannounced(home->endpoint, target->endpoint, record);
    return true;
}

static void notify(void *context, struct sv_connection *connection, uint16_t type, int32_t value, const void *payload, size_t length) {
    struct sv_ring_home *home = context;
    const struct sv_port_rules *rules = &home->reactor->ports[connection->port];
    uint32_t number;
    if (type == SV_RECORD_CONNECT) {
        if (home->is_sticky) set_target(connection, target_of(home, connection, type));
        if (!rules->has_connect_event && !length) return;
    }
    if (!find_worker(home, connection, type, NULL, 0, &number)) return;
    keep_target(home, connection, number);
    struct sv_ring_target *target = &home->targets[number];
    bool may_wait = type == SV_RECORD_CONNECT && !rules->has_connect_event;
    if (may_wait && put_unannounced(home, target, type, connection->id, value, payload, length)) return;
    connection->is_known = 1;
    put(home, target, type, connection->id, value, 0, payload, length, NULL);
}

/* A client that came and went without a word: its worker may sleep on. It learns that it is gone when it next wakes up. */
static bool forget(void *context, struct sv_connection *connection) {
    struct sv_ring_home *home = context;
    const struct sv_port_rules *rules = &home->reactor->ports[connection->port];
    if (rules->has_close_callback || connection->is_known || connection->wants_low || !home->is_sticky || home->ask) return false;
    if (!connection->tls) return true;
    return put_unannounced(home, &home->targets[connection->target], SV_RECORD_GONE, connection->id, 0, NULL, 0);
}

static bool datagram(void *context, const struct sv_port_rules *port, const struct sv_address *from, const void *data,
                     size_t length, int64_t stamp_ns) {
    struct sv_ring_home *home = context;
    int32_t answer = SRVLUA_USERFUNC_FALLBACK;
    if (home->ask) answer = home->ask(home->choose_context, home->reactor->number, NULL, from, SV_RECORD_PACKET, data, length);
    if (answer == SRVLUA_USERFUNC_FALLBACK) answer = (int32_t)home->choose(home->choose_context, NULL, from, SV_RECORD_PACKET);
    if (answer < 0) return true; /* dropped; there is no connection that could be closed */
    struct sv_ring_target *target = &home->targets[answer];
    unsigned char payload[SV_PACKET_MAX];
    size_t written = sv_packet_write(payload, port, from, data, length);
    sv_count(home->reactor->counters, SV_COUNT_DISPATCHED, 1);
    if (put(home, target, SV_RECORD_PACKET, 0, port->index, stamp_ns, payload, written, NULL)) return true;
    home->are_datagrams_stopped = true;
    return false;
}

static void gone(void *context, struct sv_connection *connection) {
    (void)context; /* `stuck` is counted anew at the next look for space */
    sv_list_remove(&connection->waiting);
}

struct sv_reactor_home sv_ring_home_table(struct sv_ring_home *home) {
    return (struct sv_reactor_home){
        .context = home, .reserve = reserve, .commit = commit, .may_deliver = may_deliver, .deliver = deliver, .notify = notify, .forget = forget, .datagram = datagram, .gone = gone};
}

/* --------------------------------------------------------------------------------------------- room, replacement */

/* Told of each record that a worker has finished; keeps the accounts for max_queued_bytes and for who keeps a worker. */
static void on_consumed(void *context, const struct sv_record *record) {
    struct sv_ring_home *home = context;
    if (record->type > SV_RECORD_OUTPUT_LOW || record->type == SV_RECORD_PACKET) return;
    struct sv_connection *connection = sv_reactor_find(home->reactor, record->id);
    if (connection && home->is_sticky_in_flight && record->flags & SV_RECORD_LAST && connection->in_flight && !--connection->in_flight)
        set_target(connection, UINT32_MAX);
    if (connection && record->type == SV_RECORD_RECEIVE)
        connection->undelivered -= record->length < connection->undelivered ? record->length : connection->undelivered;
}

int sv_ring_home_init(struct sv_ring_home *home) {
    home->targets = calloc(home->worker_count, sizeof *home->targets);
    if (!home->targets) return -ENOMEM;
    sv_list_init(&home->queued);
    for (uint32_t i = 0; i < home->worker_count; i++) {
        uint32_t parity = atomic_load(&home->slots[i].parity);
        home->targets[i].endpoint = sv_endpoint_of_slot(home->endpoint->ipc, i, parity);
        sv_list_init(&home->targets[i].waiting);
        sv_list_init(&home->targets[i].served);
    }
    if (home->reactor->max_queued_bytes || home->is_sticky_in_flight) {
        home->endpoint->consumed = on_consumed;
        home->endpoint->consumed_context = home;
    }
    return 0;
}

void sv_ring_home_free(struct sv_ring_home *home) {
    uint64_t lost = 0;
    for (uint32_t i = 0; home->targets && i < home->worker_count; i++) {
        while (home->targets[i].first) {
            struct sv_overflow *next = home->targets[i].first->next;
            lost += home->targets[i].first->type == SV_RECORD_RECEIVE;
            free_overflow(home->targets[i].first);
            home->targets[i].first = next;
        }
    }
    if (lost)
        sv_log_write(&home->reactor->log, SRVLUA_LOG_WARNING, "%llu packets that were read are lost: their workers took nothing in",
                     (unsigned long long)lost);
    free(home->targets);
    home->targets = NULL;
}

/* Ends the present generation's inbox and goes over to the successor's; what waits is written there from its beginning (a record
 * that is half in the old ring is dropped by its receiver, who never sees its end). False: no room for END yet. */
static bool complete_switch(struct sv_ring_home *home, struct sv_ring_target *target) {
    size_t at = 0;
    uint32_t former = target->endpoint;
    if (!write_chunks(home, target, SV_RECORD_END, 0, 0, 0, NULL, 0, &at)) return false;
    sv_kick(home->endpoint, former);
    target->endpoint = target->successor;
    target->successor = 0;
    if (target->first) target->first->at = 0;
    sv_kick(home->endpoint, target->endpoint); /* it may have inherited the former one's inbox, whose bell it does not hear */
    return true;
}

static void flush_overflow(struct sv_ring_home *home, struct sv_ring_target *target) {
    if (target->successor && !complete_switch(home, target)) return;
    while (target->first) {
        struct sv_overflow *next = target->first;
        if (!write_chunks(home, target, next->type, next->id, next->value, next->stamp_ns, next->payload, next->length, &next->at))
            return;
        target->first = next->next;
        if (!target->first) target->last = NULL;
        free_overflow(next);
    }
}

void sv_ring_home_check_space(struct sv_ring_home *home) {
    struct sv_reactor *reactor = home->reactor;
    uint32_t were_stuck = home->stuck;
    home->stuck = 0;
    for (uint32_t i = 0; were_stuck && i < home->worker_count; i++) {
        struct sv_ring_target *target = &home->targets[i];
        if (!is_stuck(target)) continue;
        home->stuck++;
        flush_overflow(home, target);
        struct sv_ring_writer *writer = sv_writer_to(home->endpoint, target->endpoint);
        if (target->first || target->successor || !writer || !sv_ring_has_or_wants_half(writer)) continue;
        let_go_on(home, &target->waiting);
        let_go_on(home, &target->served);
        home->stuck--;
    }
    if (!home->stuck && home->are_datagrams_stopped) {
        home->are_datagrams_stopped = false;
        sv_reactor_resume_datagrams(reactor);
    }
    for (struct sv_link *link = home->queued.next, *next; link != &home->queued; link = next) {
        next = link->next;
        struct sv_connection *connection = sv_container(link, struct sv_connection, waiting);
        if (has_too_much_queued(home, connection)) continue;
        sv_list_remove(&connection->waiting);
        sv_reactor_set_block(reactor, connection, SV_BLOCK_QUEUED, false);
    }
}

bool sv_ring_home_has_passed_on(const struct sv_ring_home *home) {
    for (uint32_t i = 0; i < home->worker_count; i++)
        if (home->targets[i].first || home->targets[i].successor) return false;
    return true;
}

void sv_ring_home_switch(struct sv_ring_home *home, uint32_t worker, uint32_t parity) {
    struct sv_ring_target *target = &home->targets[worker];
    uint32_t endpoint = sv_endpoint_of_slot(home->endpoint->ipc, worker, parity);
    if (target->endpoint == endpoint) return;
    if (!is_stuck(target)) home->stuck++;
    target->successor = endpoint;
    sv_ring_home_check_space(home);
}

bool sv_ring_home_worker_down(struct sv_ring_home *home, uint32_t slot) {
    struct sv_reactor *reactor = home->reactor;
    bool is_worker = slot < home->worker_count, is_any_left = false;
    for (struct sv_link *link = reactor->all.next, *next; link != &reactor->all; link = next) {
        next = link->next;
        struct sv_connection *connection = sv_container(link, struct sv_connection, all);
        bool is_its = is_worker && (home->ask || connection->target == slot || connection->target == UINT32_MAX);
        uint32_t flags = sv_session_flags(connection->session);
        if (connection->is_owed_close) { /* asked again; a second answer finds nothing, and the callback runs once (CLOSE_FIRED) */
            if (is_its) notify(home, connection, SV_RECORD_CLOSED, -1, NULL, 0);
        } else if (flags & SV_SESSION_CLOSE_FIRED ? is_its : (flags & SV_SESSION_CLOSE_ASKED) != 0) { /* anybody may ask */
            connection->is_left_closing = 1;
            is_any_left = true;
        }
    }
    return is_any_left;
}

void sv_ring_home_close_left(struct sv_ring_home *home) {
    struct sv_reactor *reactor = home->reactor;
    for (struct sv_link *link = reactor->all.next, *next; link != &reactor->all; link = next) {
        next = link->next;
        struct sv_connection *connection = sv_container(link, struct sv_connection, all);
        if (!connection->is_left_closing) continue;
        connection->is_left_closing = 0;
        if (!connection->is_owed_close)
            sv_reactor_close(reactor, connection, sv_session_flags(connection->session) & SV_SESSION_CLOSE_FIRED ? SV_CLOSE_ANSWER : 0);
    }
}

bool sv_ring_home_expects_mail(struct sv_ring_home *home) {
    bool expects = false;
    for (uint32_t i = 0; i < home->worker_count; i++) {
        struct sv_ring_target *target = &home->targets[i];
        if (!target->in_flight) continue;
        uint32_t parity = (target->endpoint - 2 - home->endpoint->ipc->reactors) & 1;
        const struct sv_ring *ring = home->endpoint->writers[target->endpoint].ring;
        if (atomic_load_explicit(&home->slots[i].life[parity].state, memory_order_relaxed) == SV_PROCESS_BUSY ||
            (ring && sv_ring_backlog(ring)))
            expects = true;
        else
            target->in_flight = 0;
    }
    return expects;
}
