/* reactor.c: see reactor.h. */
#include "reactor/input.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"

#define DISCARD_MAX (1 << 20) /* unread input thrown away at the end, so that the peer gets our data and not a reset */
#define BATCH_VECTORS 64
#define SILENT_NS SV_NS_PER_SECOND /* so long who connects may take to his first word before a leaving worker does without him */

static void on_socket(struct ev_loop *ev, ev_io *watcher, int events);

/* ------------------------------------------------------------------------------------------------- life, pools */

int sv_reactor_init(struct sv_reactor *reactor, struct srvlua_status *status) {
    sv_list_init(&reactor->all);
    sv_list_init(&reactor->dirty);
    sv_list_init(&reactor->dead);
    reactor->connection_count = 0;
    reactor->free_connections = NULL;
    reactor->pool = (struct sv_output_pool){0};
    reactor->batch_count = 0;
    reactor->is_quiet = false;
    reactor->by_slot_bytes = (reactor->sessions->mask + 1) * sizeof *reactor->by_slot;
    reactor->by_slot = mmap(NULL, reactor->by_slot_bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    reactor->scratch = malloc(SV_READ_MAX + 64);
    reactor->port_states = calloc(reactor->port_count, sizeof *reactor->port_states);
    if (reactor->by_slot == MAP_FAILED || !reactor->scratch || !reactor->port_states) {
        if (reactor->by_slot != MAP_FAILED) munmap(reactor->by_slot, reactor->by_slot_bytes);
        free(reactor->scratch);
        free(reactor->port_states);
        reactor->by_slot = NULL;
        return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    }
    for (uint16_t i = 0; i < reactor->port_count; i++) {
        sv_list_init(&reactor->port_states[i].heard);
        sv_list_init(&reactor->port_states[i].active);
        sv_datagram_start(reactor, i);
    }
    sv_heartbeat_start(reactor);
    int result = sv_input_start(reactor, status);
    if (result) sv_reactor_free(reactor);
    return result;
}

static struct sv_connection *new_connection(struct sv_reactor *reactor) {
    struct sv_connection *connection = reactor->free_connections;
    if (connection) {
        reactor->free_connections = *(void **)connection;
        memset(connection, 0, sizeof *connection);
        return connection;
    }
    return calloc(1, sizeof *connection);
}

static void free_connection(struct sv_reactor *reactor, struct sv_connection *connection) {
    *(void **)connection = reactor->free_connections;
    reactor->free_connections = connection;
}

struct sv_connection *sv_reactor_find(const struct sv_reactor *reactor, uint64_t id) {
    struct sv_connection *connection = reactor->by_slot[id & reactor->sessions->mask];
    return connection && connection->id == id && !connection->is_dead ? connection : NULL;
}

/* Marks it as dead: the only door out. It is freed by reap() at the end of the turn. */
void sv_reactor_kill(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    if (connection->is_dead) return;
    connection->is_dead = 1;
    ev_io_stop(reactor->loop->ev, &connection->io);
    sv_list_remove(&connection->heard);
    sv_list_remove(&connection->active);
    sv_list_remove(&connection->dirty);
    sv_input_forget(connection);
    reactor->home.gone(reactor->home.context, connection);
    sv_list_remove(&connection->all);
    sv_list_append(&reactor->dead, &connection->all);
}

/* Bytes that were accepted for the peer and are not with the kernel. */
static int64_t queued_bytes(const struct sv_connection *connection) {
    return connection->output.bytes + (connection->tls ? (int64_t)sv_tls_pending_plain(connection->tls) : 0);
}

static void count_output(struct sv_connection *connection) {
    struct sv_session *session = connection->session;
    int64_t encrypted = connection->tls ? (int64_t)sv_tls_pending(connection->tls) : 0;
    int64_t change = connection->output.allocated + encrypted - connection->counted_output;
    if (change) sv_count(connection->reactor->counters, SV_COUNT_OUTPUT, change);
    connection->counted_output += change;
    atomic_store_explicit(&session->output_bytes, (uint64_t)queued_bytes(connection), memory_order_release);
}

/* A socket that is closed with unread input resets the connection and may take our last bytes from the peer. */
static void discard_input(int fd) {
    unsigned char waste[16384]; /* not the scratch space: a callback that waits for a task may have packets there */
    for (int left = DISCARD_MAX; left > 0;) {
        ssize_t got = recv(fd, waste, sizeof waste, MSG_DONTWAIT);
        if (got <= 0) return;
        left -= (int)got;
    }
}

static void reap(struct sv_reactor *reactor) {
    while (!sv_list_is_empty(&reactor->dead)) {
        struct sv_connection *connection = sv_container(reactor->dead.next, struct sv_connection, all);
        sv_list_remove(&connection->all);
        int fd = connection->io.fd;
        struct sv_datagram_heir *heir = sv_datagram_heir_of(connection);
        sv_output_clear(&connection->output, &reactor->pool);
        sv_input_free(connection);
        count_output(connection);
        if (connection->is_reset) {
            struct linger now = {.l_onoff = 1, .l_linger = 0};
            setsockopt(fd, SOL_SOCKET, SO_LINGER, &now, sizeof now); /* failure: an ordinary close */
        } else {
            discard_input(fd);
        }
        close(fd);
        reactor->by_slot[connection->id & reactor->sessions->mask] = NULL;
        if (reactor->endpoint->partials) sv_forget_partials_for(reactor->endpoint, connection->id);
        reactor->connection_count--;
        sv_count(reactor->counters, SV_COUNT_CLOSED, 1);
        sv_session_free(reactor->sessions, connection->session);
        free_connection(reactor, connection);
        sv_datagram_inherit(reactor, heir);
    }
}

void sv_reactor_free(struct sv_reactor *reactor) {
    if (!reactor->by_slot) return;
    reactor->is_quiet = true;
    sv_heartbeat_stop(reactor);
    for (uint16_t i = 0; i < reactor->port_count; i++)
        if (reactor->port_states[i].is_watching) ev_io_stop(reactor->loop->ev, &reactor->port_states[i].datagrams);
    while (!sv_list_is_empty(&reactor->all)) sv_reactor_kill(sv_container(reactor->all.next, struct sv_connection, all));
    reap(reactor);
    sv_input_stop(reactor);
    while (reactor->free_connections) {
        void *connection = reactor->free_connections;
        reactor->free_connections = *(void **)connection;
        free(connection);
    }
    sv_output_pool_free(&reactor->pool);
    munmap(reactor->by_slot, reactor->by_slot_bytes);
    free(reactor->scratch);
    free(reactor->port_states);
    reactor->by_slot = NULL;
}

static void close_copies(struct sv_link *head) {
    for (struct sv_link *link = head->next; link != head; link = link->next) close(sv_container(link, struct sv_connection, all)->io.fd);
}

void sv_reactor_drop_copies(struct sv_reactor *reactor) {
    if (!reactor->by_slot) return;
    close_copies(&reactor->all);
    close_copies(&reactor->dead);
}

/* ------------------------------------------------------------------------------------------------------ reading */

static void watch(struct sv_connection *connection, int events) {
    struct ev_loop *ev = connection->reactor->loop->ev;
    if (connection->is_dead || (ev_is_active(&connection->io) && (connection->io.events & (EV_READ | EV_WRITE)) == events)) return;
    ev_io_stop(ev, &connection->io);
    if (!events) return;
    ev_io_set(&connection->io, connection->io.fd, events);
    ev_io_start(ev, &connection->io);
}

static void update_watch(struct sv_connection *connection, bool is_writing) {
    watch(connection, (connection->read_blocks ? 0 : EV_READ) | (is_writing ? EV_WRITE : 0));
}

void sv_reactor_watch(struct sv_connection *connection) {
    update_watch(connection, connection->wants_write);
}

static bool is_waiting_to_write(const struct sv_connection *connection) {
    return ev_is_active(&connection->io) && (connection->io.events & EV_WRITE);
}

void sv_reactor_set_block(struct sv_reactor *reactor, struct sv_connection *connection, enum sv_read_block block, bool is_on) {
    (void)reactor;
    uint16_t before = connection->read_blocks;
    connection->read_blocks = (uint16_t)(is_on ? before | block : before & ~block);
    if (before == connection->read_blocks) return;
    update_watch(connection, is_waiting_to_write(connection));
    if (!is_on) sv_input_resume(connection);
}

/* ------------------------------------------------------------------------------------------------------ closing */

static bool is_drained(const struct sv_connection *connection) {
    return sv_output_is_empty(&connection->output) && !(connection->tls && sv_tls_pending(connection->tls));
}

static bool is_datagram(const struct sv_connection *connection) {
    return connection->tls && sv_port_rules_of(connection)->tls->is_datagram;
}

/* A TLS stream that ends with a part of it missing is not to say that this was its end. Datagrams may miss, and have no other end. */
static void discard_output(struct sv_connection *connection) {
    if (!is_drained(connection) && !is_datagram(connection)) connection->has_said_goodbye = 1;
    sv_output_clear(&connection->output, &connection->reactor->pool);
    if (connection->tls) sv_tls_discard(connection->tls);
    count_output(connection);
}

/* All is with the kernel: a TLS stream says that this was its end, and then the socket is closed. */
static void end_drained(struct sv_connection *connection) {
    if (connection->tls && !connection->has_said_goodbye && !connection->is_reset) {
        connection->has_said_goodbye = 1;
        if (sv_tls_shut(connection->tls) == -EAGAIN) {
            update_watch(connection, true);
            return;
        }
    }
    sv_reactor_kill(connection);
}

/* The close callback ran, or there is none: what was accepted goes out, then the socket is closed. */
static void answer_close(struct sv_connection *connection) {
    enum sv_session_state state = sv_session_get_state(connection->session);
    connection->is_owed_close = 0;
    if (state == SV_SESSION_FLUSHING) return;
    sv_session_set_state(connection->session, SV_SESSION_FLUSHING);
    sv_reactor_set_block(connection->reactor, connection, SV_BLOCK_CLOSING, true);
    if (is_drained(connection))
        end_drained(connection);
    else if (!is_waiting_to_write(connection) && !sv_link_is_in(&connection->dirty))
        sv_list_append(&connection->reactor->dirty, &connection->dirty);
}

static void note_close(struct sv_session *session, enum sv_close_reason reason, int close_errno) {
    atomic_store_explicit(&session->close_errno, close_errno, memory_order_relaxed);
    atomic_store_explicit(&session->close_reason, reason, memory_order_release);
    sv_session_set_state(session, SV_SESSION_CLOSING);
}

void sv_reactor_begin_close(struct sv_connection *connection, enum sv_close_reason reason, int close_errno, int32_t value) {
    struct sv_reactor *reactor = connection->reactor;
    struct sv_session *session = connection->session;
    if (connection->is_dead) return;
    if (connection->stage != SV_STAGE_OPEN) {
        sv_input_give_up(connection, NULL);
        return;
    }
    bool is_broken = close_errno != 0 || reason == SV_CLOSE_OTHER;
    if (is_broken) discard_output(connection);
    if (sv_session_get_state(session) == SV_SESSION_FLUSHING) { /* the peer left while its last bytes were waiting */
        if (is_broken) sv_reactor_kill(connection);
        return;
    }
    if (sv_session_get_state(session) == SV_SESSION_CLOSING && !connection->is_deaf) return;
    if (!connection->is_deaf) note_close(session, reason, close_errno);
    connection->is_deaf = 0;
    sv_reactor_set_block(reactor, connection, SV_BLOCK_CLOSING, true);
    if (!sv_port_rules_of(connection)->has_close_events || reactor->home.forget(reactor->home.context, connection)) {
        answer_close(connection);
        return;
    }
    connection->is_owed_close = 1;
    reactor->home.notify(reactor->home.context, connection, SV_RECORD_CLOSED, value, NULL, 0);
}

void sv_reactor_abandon(struct sv_reactor *reactor, struct sv_connection *connection, int close_errno, int32_t value) {
    (void)reactor;
    sv_reactor_begin_close(connection, SV_CLOSE_OTHER, close_errno, value);
}

/* ------------------------------------------------------------------------------------------------------ writing */

/* The limit of the whole server, with its tolerance: who would pass it is reset rather than left half served. */
static bool is_over_memory_limit(struct sv_reactor *reactor) {
    if (!reactor->output_memory_limit) return false;
    const struct sv_ipc *ipc = reactor->endpoint->ipc;
    int64_t total = 0;
    for (uint32_t i = 0; i < ipc->endpoints; i++) total += sv_counter_get(&sv_inbox_of(ipc, i)->counters, SV_COUNT_OUTPUT);
    return total > reactor->output_memory_limit + reactor->output_memory_limit / 20;
}

static void check_watermarks(struct sv_connection *connection) {
    const struct sv_port_rules *rules = sv_port_rules_of(connection);
    struct sv_reactor *reactor = connection->reactor;
    int64_t queued = queued_bytes(connection);
    if (sv_session_get_state(connection->session) != SV_SESSION_OPEN) return;
    if (connection->wants_low && queued <= rules->low_watermark) {
        connection->wants_low = 0;
        reactor->home.notify(reactor->home.context, connection, SV_RECORD_OUTPUT_LOW, reactor->number, NULL, 0);
    }
    if (!rules->high_watermark) return;
    if (!connection->is_above_high && queued >= rules->high_watermark) {
        connection->is_above_high = 1;
        if (rules->has_buffer_full) reactor->home.notify(reactor->home.context, connection, SV_RECORD_BUFFER_FULL, reactor->number, NULL, 0);
    } else if (connection->is_above_high && queued <= rules->low_watermark) {
        connection->is_above_high = 0;
        if (rules->has_buffer_empty)
            reactor->home.notify(reactor->home.context, connection, SV_RECORD_BUFFER_EMPTY, reactor->number, NULL, 0);
    }
}

/* The peer takes nothing any more. What it sent before it left is there all the same (Linux keeps it also after a reset), and is passed
 * on before its end is announced; but who is paused is asked for nothing. */
static void fail_write(struct sv_connection *connection, int error) {
    struct sv_reactor *reactor = connection->reactor;
    bool is_read = sv_session_get_state(connection->session) == SV_SESSION_OPEN &&
                   !(connection->read_blocks & (SV_BLOCK_PAUSED | SV_BLOCK_UNCONFIRMED));
    if (error == EIO || !is_read) {
        sv_reactor_begin_close(connection, error == EIO ? SV_CLOSE_OTHER : SV_CLOSE_BY_CLIENT, error, reactor->number);
        return;
    }
    note_close(connection->session, SV_CLOSE_BY_CLIENT, error);
    discard_output(connection);
    connection->is_deaf = 1;
    update_watch(connection, false);
    if (connection->wants_low) { /* who waits for room is told that there is nobody to send to */
        connection->wants_low = 0;
        reactor->home.notify(reactor->home.context, connection, SV_RECORD_OUTPUT_LOW, reactor->number, NULL, 0);
    }
    sv_input_resume(connection);
}

/* The TLS layer that sends go through; NULL: straight to the socket. */
static struct sv_tls *encrypting(const struct sv_connection *connection) {
    return connection->tls && !sv_tls_is_in_kernel(connection->tls) ? connection->tls : NULL;
}

/* Writes what the socket takes; watches for room if something is left. */
static void flush(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    int64_t written = 0;
    int result = sv_output_flush(&connection->output, &reactor->pool, connection->io.fd, encrypting(connection), &written);
    if (written > 0) {
        atomic_store_explicit(&connection->session->last_send_ns, sv_wall_ns(), memory_order_relaxed);
        sv_heartbeat_sent(reactor, connection);
    }
    count_output(connection);
    if (result < 0) {
        fail_write(connection, -result);
        return;
    }
    if (result == SV_OUTPUT_BLOCKED) {
        sv_output_trim(&connection->output, &reactor->pool);
        count_output(connection);
    }
    update_watch(connection, result != SV_OUTPUT_DRAINED);
    if (result == SV_OUTPUT_DRAINED && sv_session_get_state(connection->session) == SV_SESSION_FLUSHING) {
        end_drained(connection);
        return;
    }
    check_watermarks(connection);
}

static void flush_later(struct sv_connection *connection) {
    if (!sv_link_is_in(&connection->dirty) && !is_waiting_to_write(connection))
        sv_list_append(&connection->reactor->dirty, &connection->dirty);
}

/* Nothing more is accepted once the peer is known to be gone, or the close was answered. */
static bool takes_output(const struct sv_connection *connection) {
    const struct sv_session *session = connection->session;
    switch (sv_session_get_state(session)) {
        case SV_SESSION_OPEN: return true;
        case SV_SESSION_CLOSING:
            return atomic_load_explicit(&session->close_errno, memory_order_relaxed) == 0 &&
                   atomic_load_explicit(&session->close_reason, memory_order_relaxed) != SV_CLOSE_OTHER;
        default: return false;
    }
}

static void queue(struct sv_connection *connection, const void *data, size_t length) {
    struct sv_reactor *reactor = connection->reactor;
    int result = sv_output_append(&connection->output, &reactor->pool, data, length);
    count_output(connection);
    if (result == 0 && !is_over_memory_limit(reactor)) {
        flush_later(connection);
        check_watermarks(connection);
        return;
    }
    int64_t now_ns = sv_now_ns();
    if (sv_log_limit_pass(&reactor->memory_warning, now_ns))
        sv_log_about(&reactor->log, SRVLUA_LOG_WARNING, (int64_t)connection->id, ENOBUFS,
                     "session %llu is reset: output_memory_limit of %lld bytes is used up", (unsigned long long)connection->id,
                     (long long)reactor->output_memory_limit);
    connection->is_reset = 1;
    sv_reactor_abandon(reactor, connection, ENOBUFS, reactor->number);
}

/* Bytes that went, or -errno. One piece is the common case, and send() is cheaper than sendmsg() (measured: 4 % of an echo). */
static ssize_t send_vectors(struct sv_connection *connection, struct iovec *vectors, size_t count) {
    struct sv_tls *tls = encrypting(connection);
    ssize_t sent;
    if (tls) {
        sent = sv_tls_send(tls, vectors, (int)count);
        count_output(connection);
        if (sv_tls_pending(tls)) update_watch(connection, true);
        return sent;
    }
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = count};
    do
        sent = count == 1 ? send(connection->io.fd, vectors[0].iov_base, vectors[0].iov_len, MSG_NOSIGNAL | MSG_DONTWAIT)
                          : sendmsg(connection->io.fd, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
    while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : sent;
}

/* Writes the sends of a connection that still lie in rings, all at once; the rest is copied. */
static void flush_batch(struct sv_connection *connection) {
    struct sv_reactor *reactor = connection->reactor;
    uint32_t index = connection->batch_first;
    connection->batch_first = connection->batch_last = 0;
    sv_list_remove(&connection->dirty);
    while (index && !connection->is_dead) {
        struct iovec vectors[BATCH_VECTORS];
        size_t count = 0, total = 0;
        uint32_t first = index;
        for (; index && count < BATCH_VECTORS; index = reactor->batch[index - 1].next) {
            vectors[count].iov_base = (void *)(uintptr_t)reactor->batch[index - 1].data;
            vectors[count++].iov_len = reactor->batch[index - 1].length;
            total += reactor->batch[index - 1].length;
        }
        ssize_t sent = 0;
        if (sv_output_is_empty(&connection->output)) {
            sent = send_vectors(connection, vectors, count);
            if (sent < 0 && sent != -EAGAIN && sent != -EWOULDBLOCK) {
                fail_write(connection, (int)-sent);
                return;
            }
            if (sent > 0) {
                atomic_store_explicit(&connection->session->last_send_ns, sv_wall_ns(), memory_order_relaxed);
                sv_heartbeat_sent(reactor, connection);
            }
            if (sent < 0) sent = 0;
        }
        size_t done = (size_t)sent;
        if (done == total) continue;
        for (uint32_t i = first; i != index && !connection->is_dead; i = reactor->batch[i - 1].next) {
            const struct sv_batch_entry *entry = &reactor->batch[i - 1];
            if (done >= entry->length) {
                done -= entry->length;
                continue;
            }
            queue(connection, entry->data + done, entry->length - done);
            done = 0;
            if (!takes_output(connection)) return;
        }
        if (!sv_output_is_empty(&connection->output) && !is_waiting_to_write(connection)) {
            sv_list_remove(&connection->dirty);
            sv_output_trim(&connection->output, &reactor->pool);
            count_output(connection);
            update_watch(connection, true);
        }
    }
}

static void flush_dirty(struct sv_reactor *reactor) {
    while (!sv_list_is_empty(&reactor->dirty)) {
        struct sv_connection *connection = sv_container(reactor->dirty.next, struct sv_connection, dirty);
        sv_list_remove(&connection->dirty);
        if (connection->batch_first)
            flush_batch(connection);
        else
            flush(connection);
    }
}

/* A send straight from the ring: kept there until the batch ends. */
static void add_to_batch(struct sv_connection *connection, const unsigned char *data, size_t length) {
    struct sv_reactor *reactor = connection->reactor;
    if (reactor->batch_count == SV_BATCH_ENTRIES) {
        flush_dirty(reactor);
        reactor->batch_count = 0;
        if (!takes_output(connection)) return;
    }
    struct sv_batch_entry *entry = &reactor->batch[reactor->batch_count++];
    *entry = (struct sv_batch_entry){.data = data, .length = (uint32_t)length, .next = 0};
    if (connection->batch_first)
        reactor->batch[connection->batch_last - 1].next = reactor->batch_count;
    else
        connection->batch_first = reactor->batch_count;
    connection->batch_last = reactor->batch_count;
    if (!sv_link_is_in(&connection->dirty)) sv_list_append(&reactor->dirty, &connection->dirty);
}

static void report_damage(struct sv_reactor *reactor) {
    uint32_t source = reactor->endpoint->damaged_source;
    reactor->endpoint->damaged_source = UINT32_MAX;
    if (!sv_log_limit_pass(&reactor->damage_warning, sv_now_ns())) return;
    sv_log_write(&reactor->log, SRVLUA_LOG_ERROR, "the ring from endpoint %u is damaged: what its process had sent is skipped", source);
}

void sv_reactor_end_batch(struct sv_reactor *reactor) {
    if (reactor->endpoint->damaged_source != UINT32_MAX) report_damage(reactor);
    flush_dirty(reactor);
    reactor->batch_count = 0;
    sv_release_held(reactor->endpoint);
}

void sv_reactor_end_turn(struct sv_reactor *reactor) {
    flush_dirty(reactor);
    reap(reactor);
}

/* Orders other than plain sends see what was sent before them. */
static void settle_batch(struct sv_connection *connection) {
    if (connection->batch_first) flush_batch(connection);
}

void sv_reactor_send(struct sv_reactor *reactor, struct sv_connection *connection, const void *data, size_t length,
                     unsigned char **owned) {
    settle_batch(connection);
    if (!takes_output(connection)) return;
    size_t sent = 0;
    if (sv_output_is_empty(&connection->output) && (connection->write_turn != reactor->loop->turns || owned)) {
        connection->write_turn = reactor->loop->turns;
        struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
        ssize_t result = send_vectors(connection, &vector, 1);
        if (result < 0 && result != -EAGAIN && result != -EWOULDBLOCK) {
            fail_write(connection, (int)-result);
            return;
        }
        if (result > 0) {
            sent = (size_t)result;
            atomic_store_explicit(&connection->session->last_send_ns, sv_wall_ns(), memory_order_relaxed);
            sv_heartbeat_sent(reactor, connection);
            if (sent == length) return;
        }
    }
    if (owned && sv_output_adopt(&connection->output, *owned, sent, length) == 0) {
        *owned = NULL;
        count_output(connection);
        flush_later(connection);
        check_watermarks(connection);
        return;
    }
    queue(connection, (const unsigned char *)data + sent, length - sent);
}

void sv_reactor_want_low(struct sv_reactor *reactor, struct sv_connection *connection) {
    (void)reactor;
    settle_batch(connection);
    if (connection->is_dead) return;
    connection->wants_low = 1;
    check_watermarks(connection);
}

void sv_reactor_send_file(struct sv_reactor *reactor, struct sv_connection *connection, int file, int64_t offset, int64_t length) {
    settle_batch(connection);
    if (!takes_output(connection)) {
        close(file);
        return;
    }
    if (sv_output_append_file(&connection->output, file, offset, length)) {
        close(file);
        sv_reactor_abandon(reactor, connection, ENOMEM, reactor->number);
        return;
    }
    flush_later(connection);
}

void sv_reactor_close(struct sv_reactor *reactor, struct sv_connection *connection, int order) {
    settle_batch(connection);
    if (connection->is_dead) return;
    if (connection->stage != SV_STAGE_OPEN) {
        sv_opening_cancel(connection);
        return;
    }
    struct sv_session *session = connection->session;
    if (order & SV_CLOSE_RESET) {
        discard_output(connection);
        connection->is_reset = 1;
        if (sv_session_get_state(session) == SV_SESSION_FLUSHING) {
            sv_reactor_kill(connection);
            return;
        }
    }
    if (sv_session_get_state(session) == SV_SESSION_OPEN && order & SV_CLOSE_ANSWER) {
        atomic_store_explicit(&session->close_reason, SV_CLOSE_BY_SERVER, memory_order_release);
        answer_close(connection);
    } else if (order & SV_CLOSE_ANSWER) {
        answer_close(connection);
    } else {
        sv_reactor_begin_close(connection, SV_CLOSE_BY_SERVER, 0, -1);
    }
    (void)reactor;
}

void sv_reactor_dismiss(struct sv_reactor *reactor, struct sv_connection *connection) {
    settle_batch(connection);
    sv_reactor_begin_close(connection, SV_CLOSE_BY_SERVER, 0, reactor->number);
}

static void on_socket(struct ev_loop *ev, ev_io *watcher, int events) {
    (void)ev;
    struct sv_connection *connection = sv_container(watcher, struct sv_connection, io);
    if (events & EV_WRITE && !connection->is_dead) {
        if (connection->stage == SV_STAGE_OPEN)
            flush(connection);
        else
            sv_input_writable(connection);
    }
    if (events & EV_READ && !connection->is_dead && !connection->read_blocks) sv_input_readable(connection);
}

int sv_reactor_flush_blocking(struct sv_reactor *reactor, struct sv_connection *connection, const void *data, size_t length) {
    if (sv_output_append(&connection->output, &reactor->pool, data, length)) return -ENOMEM;
    for (;;) {
        int64_t written = 0;
        int result = sv_output_flush(&connection->output, &reactor->pool, connection->io.fd, encrypting(connection), &written);
        count_output(connection);
        if (result < 0) {
            fail_write(connection, -result);
            return result;
        }
        if (written > 0) {
            atomic_store_explicit(&connection->session->last_send_ns, sv_wall_ns(), memory_order_relaxed);
            sv_heartbeat_sent(reactor, connection);
        }
        if (result == SV_OUTPUT_DRAINED) return 0;
        struct pollfd room = {.fd = connection->io.fd, .events = POLLOUT};
        if (result == SV_OUTPUT_BLOCKED && poll(&room, 1, -1) < 0 && errno != EINTR) return -errno;
    }
}

/* -------------------------------------------------------------------------------------------- taking in, orders */

static void refuse(struct sv_reactor *reactor, struct sv_session *session) {
    close(session->os_fd);
    sv_count(reactor->counters, SV_COUNT_CLOSED, 1);
    sv_count(reactor->counters, SV_COUNT_ABORTED, 1);
    sv_session_free(reactor->sessions, session);
}

void sv_reactor_adopt(struct sv_reactor *reactor, struct sv_session *session, struct sv_tls *tls) {
    struct sv_connection *connection = reactor->is_quiet ? NULL : new_connection(reactor);
    if (!connection) {
        sv_tls_free(tls);
        refuse(reactor, session);
        return;
    }
    connection->tls = tls;
    connection->reactor = reactor;
    connection->session = session;
    connection->id = atomic_load_explicit(&session->id, memory_order_relaxed);
    connection->port = session->port;
    connection->target = UINT32_MAX;
    connection->write_turn = UINT64_MAX;
    ev_io_init(&connection->io, on_socket, session->os_fd, EV_READ);
    reactor->by_slot[connection->id & reactor->sessions->mask] = connection;
    reactor->connection_count++;
    sv_list_append(&reactor->all, &connection->all);
    sv_heartbeat_add(reactor, connection);
    const char *failed;
    const struct sv_port_rules *rules = sv_port_rules_of(connection);
    if (sv_socket_apply_connection(session->os_fd, rules->type, &rules->options, &failed) && failed && errno != EINVAL)
        sv_log_write(&reactor->log, SRVLUA_LOG_WARNING, "%s could not be set on a connection of %s", failed, rules->name);
    sv_input_open(connection);
}

static void send_file_order(struct sv_reactor *reactor, struct sv_connection *connection, const struct sv_message *message) {
    struct sv_file_head head;
    if (message->length < sizeof head) return;
    memcpy(&head, message->payload, sizeof head);
    int file = sv_fd_take(reactor->endpoint, head.tag);
    bool is_part = head.offset >= 0 && head.length > 0 && head.length <= INT64_MAX - head.offset; /* else its sender has gone mad */
    if (file >= 0 && !is_part) {
        close(file);
        file = -1;
    }
    if (file < 0) {
        sv_log_about(&reactor->log, SRVLUA_LOG_ERROR, (int64_t)message->id, 0, "the file for session %llu did not arrive",
                     (unsigned long long)message->id);
        if (connection) sv_reactor_abandon(reactor, connection, EIO, reactor->number);
    } else if (connection) {
        sv_reactor_send_file(reactor, connection, file, head.offset, head.length);
    } else {
        close(file);
    }
}

static void replace_certificates(struct sv_reactor *reactor, const struct sv_message *message) {
    const struct sv_tls_bytes bytes = {.data = (unsigned char *)message->payload, .length = message->length};
    uint16_t port = (uint16_t)message->value;
    struct srvlua_status status;
    if (message->value < 0 || message->value >= reactor->port_count || !reactor->port_states[port].tls) return;
    if (sv_tls_port_replace(reactor->port_states[port].tls, &bytes, &status))
        sv_log_write(&reactor->log, SRVLUA_LOG_ERROR, "port %u goes on with its former certificates: %s", port + 1u, status.message);
}

bool sv_reactor_order(struct sv_reactor *reactor, const struct sv_message *message) {
    if (message->type == SV_RECORD_CERTIFICATES) {
        replace_certificates(reactor, message);
        return true;
    }
    if (message->type == SV_RECORD_ACCEPTED) {
        struct sv_session *session = sv_session_find(reactor->sessions, message->id);
        if (session) sv_reactor_adopt(reactor, session, NULL);
        return true;
    }
    struct sv_connection *connection = sv_reactor_find(reactor, message->id);
    if (connection && connection->stage != SV_STAGE_OPEN) connection = NULL; /* nobody knows it yet: an order for its slot's former owner */
    switch (message->type) {
        case SV_RECORD_SEND:
            if (!connection || !takes_output(connection) || !message->length) return true;
            if (message->owned)
                sv_reactor_send(reactor, connection, message->payload, message->length, message->owned);
            else if (reactor->endpoint->is_deferring_release)
                add_to_batch(connection, message->payload, message->length);
            else
                sv_reactor_send(reactor, connection, message->payload, message->length, NULL);
            return true;
        case SV_RECORD_SENDFILE: send_file_order(reactor, connection, message); return true;
        case SV_RECORD_CLOSE:
            if (connection) sv_reactor_close(reactor, connection, message->value);
            return true;
        case SV_RECORD_PAUSE:
            if (connection && !connection->is_deaf) sv_reactor_set_block(reactor, connection, SV_BLOCK_PAUSED, true);
            return true;
        case SV_RECORD_RESUME:
            if (connection) sv_reactor_set_block(reactor, connection, SV_BLOCK_PAUSED, false);
            if (connection) sv_reactor_set_block(reactor, connection, SV_BLOCK_UNCONFIRMED, false);
            return true;
        case SV_RECORD_WANT_OUTPUT_LOW:
            if (connection) sv_reactor_want_low(reactor, connection);
            return true;
        case SV_RECORD_IDLE_CLOSE:
            if (connection) sv_reactor_abandon(reactor, connection, ETIMEDOUT, -1);
            return true;
        default: return false;
    }
}

/* -------------------------------------------------------------------------------------------------- the last act */

void sv_reactor_quiet(struct sv_reactor *reactor) {
    reactor->is_quiet = true;
    sv_heartbeat_stop(reactor);
    for (uint16_t i = 0; i < reactor->port_count; i++)
        if (reactor->port_states[i].is_watching) ev_io_stop(reactor->loop->ev, &reactor->port_states[i].datagrams);
    for (struct sv_link *link = reactor->all.next, *next; link != &reactor->all; link = next) {
        next = link->next;
        struct sv_connection *connection = sv_container(link, struct sv_connection, all);
        if (connection->stage == SV_STAGE_OPEN) sv_reactor_set_block(reactor, connection, SV_BLOCK_QUIET, true);
    }
}

void sv_reactor_cancel_openings(struct sv_reactor *reactor) {
    for (struct sv_link *link = reactor->all.next, *next; link != &reactor->all; link = next) {
        next = link->next;
        struct sv_connection *connection = sv_container(link, struct sv_connection, all);
        if (connection->stage != SV_STAGE_OPEN) sv_opening_cancel(connection);
    }
}

bool sv_reactor_is_opening(const struct sv_reactor *reactor) {
    int64_t now_ns = sv_now_ns();
    for (const struct sv_link *link = reactor->all.next; link != &reactor->all; link = link->next) {
        const struct sv_connection *connection = sv_container(link, const struct sv_connection, all);
        if (connection->stage == SV_STAGE_OPEN) continue;
        if (connection->tls || sv_input_kept(&connection->input) || now_ns - connection->began_ns < SILENT_NS) return true;
    }
    return false;
}

void sv_reactor_pass_on_all(struct sv_reactor *reactor) {
    for (struct sv_link *link = reactor->all.next, *next; link != &reactor->all; link = next) {
        next = link->next;
        sv_input_flush(sv_container(link, struct sv_connection, all));
    }
}

bool sv_reactor_close_all(struct sv_reactor *reactor) {
    for (struct sv_link *link = reactor->all.next, *next; link != &reactor->all; link = next) {
        next = link->next;
        struct sv_connection *connection = sv_container(link, struct sv_connection, all);
        enum sv_session_state state = sv_session_get_state(connection->session);
        if (state == SV_SESSION_FLUSHING) continue;
        if (connection->stage != SV_STAGE_OPEN) {
            sv_opening_cancel(connection);
            continue;
        }
        if (state == SV_SESSION_OPEN) atomic_store(&connection->session->close_reason, SV_CLOSE_OTHER);
        answer_close(connection);
    }
    sv_reactor_end_turn(reactor);
    return sv_list_is_empty(&reactor->all);
}
