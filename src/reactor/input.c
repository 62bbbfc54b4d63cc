/* input.c: the bytes of open connections: from the socket to whole packets.
 *
 * Without framing bytes are read straight into their worker's ring. With it they are read into the reactor's scratch space, and only
 * what is left of the last packet moves into memory of the connection's own, which grows with what has really come. Whatever stops the
 * reading (no room, pause, close) may leave packets behind there; then the reactor goes on by itself, without an event of the socket.
 * runs in: reactors. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "base/clock.h"
#include "base/errors.h"
#include "reactor/input.h"

#define DIRECT_READ 32768u      /* with so much of a packet there its rest is read without another copy */
#define LEAST_MEMORY 512u
#define SPARE_MEMORY 4096u      /* so much is left to a connection whose packets are done with */
#define READS_PER_TURN 8        /* of a TLS connection whose bytes were read ahead */

/* Packets of it go nowhere, not even in a shutdown. */
static bool is_shut(const struct sv_connection *connection) {
    return connection->is_dead || (connection->read_blocks & (SV_BLOCK_CLOSING | SV_BLOCK_PAUSED | SV_BLOCK_UNCONFIRMED));
}

/* ------------------------------------------------------------------------------------------------ the kept bytes */

void sv_input_release(struct sv_input *input) {
    free(input->data);
    input->data = NULL;
    input->begin = input->end = input->capacity = 0;
}

/* The kept bytes lie at the beginning of a piece of memory of that size. */
static bool move(struct sv_input *input, size_t capacity) {
    size_t length = sv_input_kept(input);
    unsigned char *data = malloc(capacity);
    if (!data) return false;
    if (length) memcpy(data, input->data + input->begin, length);
    free(input->data);
    *input = (struct sv_input){.data = data, .end = length, .capacity = capacity, .state = input->state};
    return true;
}

/* Room for so many bytes more; at most twice of what is there is asked for, so each byte is moved a bounded number of times. */
static bool make_room(struct sv_input *input, size_t size) {
    size_t length = sv_input_kept(input), capacity = length + (size > length ? size : length);
    if (input->capacity - input->end >= size) return true;
    if (input->begin >= length && input->capacity - length >= size) {
        memmove(input->data, input->data + input->begin, length);
        input->begin = 0;
        input->end = length;
        return true;
    }
    if (capacity < LEAST_MEMORY) capacity = LEAST_MEMORY;
    if (input->begin) return move(input, capacity);
    unsigned char *grown = realloc(input->data, capacity); /* the pages of a large packet may move without being copied and touched anew */
    if (!grown) return false;
    input->data = grown;
    input->capacity = capacity;
    return true;
}

/* The beginning of the next packet does not hold the memory of those before it. */
static void shrink(struct sv_input *input) {
    size_t length = sv_input_kept(input);
    if (input->capacity <= SPARE_MEMORY || input->capacity / 4 < length) return;
    move(input, length < LEAST_MEMORY ? LEAST_MEMORY : length); /* without memory it stays where it is */
}

bool sv_input_append(struct sv_input *input, const unsigned char *data, size_t length) {
    if (!make_room(input, length)) return false;
    memcpy(input->data + input->end, data, length);
    input->end += length;
    return true;
}

static bool keep(struct sv_connection *connection, const unsigned char *data, size_t length) {
    if (sv_input_append(&connection->input, data, length)) return true;
    sv_reactor_abandon(connection->reactor, connection, ENOMEM, connection->reactor->number);
    return false;
}

/* ------------------------------------------------------------------------------------------------------- packets */

/* Passes on what is whole; returns how many bytes are done with. *owned as for the home's deliver. */
static size_t cut(struct sv_connection *connection, const unsigned char *data, size_t length, int64_t stamp_ns, unsigned char **owned,
                  bool is_last_act) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_input *input = &connection->input;
    const struct sv_framer_rules *framing = &sv_port_state_of(connection)->framing;
    size_t used = 0;
    while (used < length && !(is_last_act ? is_shut(connection) : sv_input_is_stopped(connection))) {
        struct sv_framer_state before = input->state;
        struct sv_frame frame = framing->next(framing, &input->state, data + used, length - used);
        if (frame.result == SV_FRAME_MORE) break;
        if (frame.result == SV_FRAME_VIOLATION) {
            sv_input_violate(connection, frame.code, frame.reason);
            return length;
        }
        bool is_packet = frame.result == SV_FRAME_PACKET, is_all = owned && used == 0 && frame.length == length;
        if (is_packet && !is_last_act && !reactor->home.may_deliver(reactor->home.context, connection)) {
            input->state = before;
            if (!sv_input_is_stopped(connection)) sv_input_go_on_later(connection);
            break;
        }
        const unsigned char *packet = data + used;
        input->state = (struct sv_framer_state){0};
        used += frame.length;
        if (is_packet)
            reactor->home.deliver(reactor->home.context, connection, packet, frame.length, stamp_ns, is_all ? owned : NULL);
    }
    return used;
}

/* The same for the bytes that were kept. A violation, which lets go of them, leaves nothing to count. */
static size_t cut_kept(struct sv_connection *connection, int64_t stamp_ns, bool is_last_act) {
    struct sv_input *input = &connection->input;
    unsigned char *owned = input->begin == 0 ? input->data : NULL;
    size_t used = cut(connection, input->data + input->begin, sv_input_kept(input), stamp_ns, owned ? &owned : NULL, is_last_act);
    if (!input->data) return used;
    if (input->begin == 0 && !owned) {
        input->data = NULL;
        sv_input_release(input);
        return used;
    }
    input->begin += used;
    if (input->begin == input->end)
        sv_input_release(input);
    else if (used)
        shrink(input);
    return used;
}

/* A packet has begun, goes on, or has ended. */
static void watch_time(struct sv_connection *connection, bool has_begun_anew) {
    int64_t limit_ns = sv_port_rules_of(connection)->package_timeout_ns;
    if (!limit_ns || connection->is_dead) return;
    if (!sv_input_kept(&connection->input) || sv_input_is_stopped(connection))
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
    if ((result == -EAGAIN || result == -EWOULDBLOCK) && !connection->is_deaf) return;
    if (result == -EPROTO && connection->tls) {
        sv_input_violate(connection, SRVLUA_ERROR_PACKAGE_MALFORMED_DATA, sv_tls_error(connection->tls));
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
    size_t size = SV_READ_MAX, before = sv_input_kept(input), used;
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

/* Something can be read, or found out, that the socket will not announce. */
static bool has_more(const struct sv_connection *connection) {
    return connection->is_deaf || (connection->tls && sv_tls_has_input(connection->tls));
}

/* More can be read at once: nothing is in its way, and what was read is passed on. */
static bool may_read_on(const struct sv_connection *connection) {
    return !sv_input_is_stopped(connection) && !sv_link_is_in(&connection->ready);
}

static void read_on(struct sv_connection *connection) {
    bool (*read_some)(struct sv_connection *connection) = sv_port_state_of(connection)->framing.next ? read_packets : read_raw;
    if (!connection->tls) {
        if (read_some(connection) && connection->is_deaf) sv_input_go_on_later(connection);
        return;
    }
    /* Records count, whole or not; datagrams that are none may come from anybody. */
    if (!sv_port_rules_of(connection)->tls->is_datagram) sv_heartbeat_heard(connection->reactor, connection);
    for (int i = 0; i < READS_PER_TURN; i++)
        if (!read_some(connection) || !may_read_on(connection) || !has_more(connection)) return;
    sv_input_go_on_later(connection);
}

/* --------------------------------------------------------------------------------- going on without the socket's event */

static void pump(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_HANDSHAKE) {
        sv_opening_go_on(connection);
        return;
    }
    if (connection->input.data) {
        size_t used = cut_kept(connection, sv_wall_ns(), false);
        watch_time(connection, used > 0);
    }
    if (!may_read_on(connection) || !has_more(connection)) return;
    if (connection->is_deaf && connection->read_blocks & SV_BLOCK_QUIET)
        end_reading(connection, 0);
    else
        read_on(connection);
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
        if (!sv_input_is_stopped(connection)) pump(connection);
    }
}

static int run_ready(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    struct sv_reactor *reactor = context;
    reactor->is_pump_due = false;
    pump_ready(reactor);
    return 0;
}

void sv_input_go_on_later(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (!sv_link_is_in(&connection->ready)) sv_list_append(&reactor->ready, &connection->ready);
    if (!reactor->is_pump_due) reactor->is_pump_due = srvlua_defer(reactor->loop, run_ready, reactor) == 0; /* else: with the next one */
}

void sv_input_resume(struct sv_connection *connection) {
    bool has_something = connection->input.data || has_more(connection);
    if (connection->stage == SV_STAGE_OPEN && !sv_input_is_stopped(connection) && has_something) sv_input_go_on_later(connection);
}

void sv_input_flush(struct sv_connection *connection) {
    if (connection->stage == SV_STAGE_OPEN && connection->input.data && !is_shut(connection)) cut_kept(connection, sv_wall_ns(), true);
}

/* What was kept comes first, of all connections, in the order in which they waited: else who has more to read would take the room
 * of those whose packet was read already. And without that its own would grow with each read, and be overtaken by its end. */
void sv_input_read(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (reactor->pumped_turn != reactor->loop->turns) {
        reactor->pumped_turn = reactor->loop->turns;
        pump_ready(reactor);
    }
    if (!sv_input_is_stopped(connection) && !sv_link_is_in(&connection->ready)) read_on(connection);
}

void sv_input_forget(struct sv_connection *connection) {
    sv_list_remove(&connection->ready);
    sv_opening_leave_queue(connection);
    sv_list_remove(&connection->waiting); /* for its worker's ring */
    sv_deadline_clear(connection);
    sv_opening_end_handshake(connection);
}

void sv_input_free(struct sv_connection *connection) {
    sv_input_release(&connection->input);
    sv_tls_free(connection->tls);
    connection->tls = NULL;
}

int sv_input_start(struct sv_reactor *reactor, struct srvlua_status *status) {
    sv_list_init(&reactor->ready);
    sv_deadline_start(reactor);
    sv_violations_start(reactor);
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
    sv_violations_stop(reactor);
    for (uint16_t i = 0; i < reactor->port_count; i++) sv_tls_port_free(reactor->port_states[i].tls);
    sv_tls_scratch_free(reactor->tls_scratch);
}
