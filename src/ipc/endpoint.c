/* endpoint.c: see endpoint.h. Chunked payloads are reassembled in chunk.c, descriptors travel in fd_channel.c. */
#include "ipc/endpoint.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/ipc_internal.h"

#define ARENA_LIMIT ((size_t)64 << 30)

/* ---------------------------------------------------------------------------------------------------- layout */

static size_t inbox_bytes(uint32_t endpoints) {
    return sv_cache_lines(sizeof(struct sv_inbox) + (endpoints + 63) / 64 * 8);
}

size_t sv_ipc_bytes(uint32_t reactors, uint32_t workers, uint32_t slots, const struct sv_ipc_sizes *sizes) {
    size_t endpoints = 2 + reactors + 2 * (size_t)slots;
    size_t fixed = sv_cache_lines(endpoints * endpoints * sizeof(uint32_t)) + endpoints * inbox_bytes((uint32_t)endpoints);
    size_t hot = 4 * (size_t)reactors * workers * sv_ring_bytes(sizes->worker_ring);
    size_t tasks = 8 * (size_t)workers * (slots - workers) * sv_ring_bytes(sizes->task_ring);
    size_t others = endpoints * endpoints * sv_ring_bytes(sizes->message_ring);
    size_t rings = hot + tasks + others;
    return fixed + (rings < ARENA_LIMIT ? rings : ARENA_LIMIT);
}

static int open_channels(struct sv_ipc *ipc) {
    for (uint32_t i = 0; i < ipc->endpoints; i++) {
        ipc->bells[i] = eventfd(0, EFD_NONBLOCK | EFD_CLOEXEC);
        if (ipc->bells[i] < 0) return -errno;
        if (socketpair(AF_UNIX, SOCK_SEQPACKET | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ipc->fd_channels[i])) return -errno;
    }
    return 0;
}

int sv_ipc_init(struct sv_ipc *ipc, struct sv_arena *arena, bool is_process_mode, uint32_t reactors, uint32_t workers,
                uint32_t slots, const struct sv_ipc_sizes *sizes) {
    uint32_t endpoints = 2 + reactors + 2 * slots;
    *ipc = (struct sv_ipc){.arena = arena,
                           .reactors = reactors,
                           .slots = slots,
                           .workers = workers,
                           .endpoints = endpoints,
                           .is_process_mode = is_process_mode,
                           .sizes = *sizes,
                           .inbox_bytes = inbox_bytes(endpoints)};
    ipc->directory = sv_arena_alloc(arena, (size_t)endpoints * endpoints * sizeof(uint32_t));
    ipc->inboxes = sv_arena_alloc(arena, endpoints * ipc->inbox_bytes);
    ipc->bells = malloc(endpoints * sizeof *ipc->bells);
    ipc->fd_channels = malloc(endpoints * sizeof *ipc->fd_channels);
    if (!ipc->directory || !ipc->inboxes || !ipc->bells || !ipc->fd_channels) {
        free(ipc->bells);
        free(ipc->fd_channels);
        ipc->bells = NULL;
        ipc->fd_channels = NULL;
        return -ENOMEM;
    }
    for (uint32_t i = 0; i < endpoints; i++) ipc->bells[i] = ipc->fd_channels[i][0] = ipc->fd_channels[i][1] = -1;
    int result = open_channels(ipc);
    if (result) sv_ipc_close(ipc);
    return result;
}

void sv_ipc_close(struct sv_ipc *ipc) {
    if (!ipc->bells) return;
    for (uint32_t i = 0; i < ipc->endpoints; i++) {
        if (ipc->bells[i] >= 0) close(ipc->bells[i]);
        for (int end = 0; end < 2; end++)
            if (ipc->fd_channels[i][end] >= 0) close(ipc->fd_channels[i][end]);
    }
    free(ipc->bells);
    free(ipc->fd_channels);
    ipc->bells = NULL;
    ipc->fd_channels = NULL;
}

bool sv_wake(const struct sv_ipc *ipc, uint32_t endpoint) {
    uint64_t one = 1;
    if (!atomic_exchange(&sv_inbox_of(ipc, endpoint)->sleeping, 0)) return false;
    ssize_t written = write(ipc->bells[endpoint], &one, sizeof one);
    (void)written; /* EAGAIN: rung 2^64 - 2 times already */
    return true;
}

void sv_ring_all_bells(const struct sv_ipc *ipc) {
    for (uint32_t i = 0; i < ipc->endpoints; i++) {
        atomic_store(&sv_inbox_of(ipc, i)->look_everywhere, 1);
        sv_wake(ipc, i);
    }
}

static bool is_reactor(const struct sv_ipc *ipc, uint32_t endpoint) {
    return endpoint >= 2 && endpoint < 2 + ipc->reactors;
}

static bool is_event_worker(const struct sv_ipc *ipc, uint32_t endpoint) {
    return endpoint >= 2 + ipc->reactors && endpoint < 2 + ipc->reactors + 2 * ipc->workers;
}

static bool is_other_process(const struct sv_ipc *ipc, uint32_t endpoint) {
    return endpoint >= 2 + ipc->reactors + 2 * ipc->workers;
}

static uint32_t ring_size(const struct sv_ipc *ipc, uint32_t to, uint32_t from) {
    if ((is_reactor(ipc, to) && is_event_worker(ipc, from)) || (is_event_worker(ipc, to) && is_reactor(ipc, from)))
        return ipc->sizes.worker_ring;
    if ((is_other_process(ipc, to) && is_event_worker(ipc, from)) || (is_event_worker(ipc, to) && is_other_process(ipc, from)))
        return ipc->sizes.task_ring;
    return ipc->sizes.message_ring;
}

/* The directory is as exposed to a process gone mad as all shared memory: an entry that leads outside of it leads nowhere. */
struct sv_ring *sv_ipc_ring(const struct sv_ipc *ipc, uint32_t to, uint32_t from) {
    size_t place = atomic_load_explicit(&ipc->directory[to * ipc->endpoints + from], memory_order_acquire);
    if (!place || place * SV_CACHE_LINE + sv_ring_bytes(ring_size(ipc, to, from)) > ipc->arena->size) return NULL;
    return (struct sv_ring *)(ipc->arena->base + place * SV_CACHE_LINE);
}

/* The producer makes the ring; nobody else writes this directory entry. */
static struct sv_ring *make_ring(const struct sv_ipc *ipc, uint32_t to, uint32_t from) {
    uint32_t size = ring_size(ipc, to, from);
    struct sv_ring *ring = sv_arena_alloc(ipc->arena, sv_ring_bytes(size));
    if (!ring) return NULL;
    sv_ring_init(ring, size);
    uint32_t place = (uint32_t)((size_t)((unsigned char *)ring - ipc->arena->base) / SV_CACHE_LINE);
    atomic_store_explicit(&ipc->directory[to * ipc->endpoints + from], place, memory_order_release);
    return ring;
}

bool sv_ipc_has_all_ends(const struct sv_ipc *ipc, uint32_t to) {
    for (uint32_t reactor = 0; reactor < ipc->reactors; reactor++) {
        const struct sv_ring *ring = sv_ipc_ring(ipc, to, sv_endpoint_of_reactor(reactor));
        if (!ring || !sv_ring_has_ended(ring)) return false;
    }
    return true;
}

void sv_ipc_forget_ends(const struct sv_ipc *ipc, uint32_t to) {
    for (uint32_t reactor = 0; reactor < ipc->reactors; reactor++) {
        struct sv_ring *ring = sv_ipc_ring(ipc, to, sv_endpoint_of_reactor(reactor));
        if (ring) atomic_store(&ring->ending, 0);
    }
}

/* -------------------------------------------------------------------------------------------------- endpoint */

static int attach(struct sv_endpoint *endpoint, const struct sv_ipc *ipc, uint32_t id) {
    uint32_t count = ipc->endpoints;
    *endpoint = (struct sv_endpoint){
        .ipc = ipc, .id = id, .inbox = sv_inbox_of(ipc, id), .damaged_source = UINT32_MAX, .next_tag = 1};
    endpoint->writers = calloc(count, sizeof *endpoint->writers);
    endpoint->readers = calloc(count, sizeof *endpoint->readers);
    endpoint->unkicked = calloc(count, sizeof *endpoint->unkicked);
    endpoint->kick_list = calloc(count, sizeof *endpoint->kick_list);
    endpoint->pending = calloc((count + 63) / 64, sizeof *endpoint->pending);
    endpoint->held = calloc((count + 63) / 64, sizeof *endpoint->held);
    if (!endpoint->writers || !endpoint->readers || !endpoint->unkicked || !endpoint->kick_list || !endpoint->pending ||
        !endpoint->held) {
        sv_endpoint_close(endpoint);
        return -ENOMEM;
    }
    return 0;
}

int sv_endpoint_open(struct sv_endpoint *endpoint, const struct sv_ipc *ipc, uint32_t id) {
    int result = attach(endpoint, ipc, id);
    if (result) return result;
    atomic_store(&endpoint->inbox->sleeping, 0);
    atomic_store(&endpoint->inbox->look_everywhere, 1); /* what came for a predecessor is ours now */
    return 0;
}

int sv_endpoint_inherit(struct sv_endpoint *endpoint, const struct sv_ipc *ipc, uint32_t id) {
    int result = attach(endpoint, ipc, id);
    endpoint->is_heir = result == 0;
    return result;
}

void sv_endpoint_close(struct sv_endpoint *endpoint) {
    while (endpoint->partials) {
        struct sv_partial *partial = endpoint->partials;
        endpoint->partials = partial->next;
        free(partial->data);
        free(partial);
    }
    for (size_t i = 0; i < endpoint->stray_count; i++) close(endpoint->strays[i].fd);
    free(endpoint->strays);
    free(endpoint->writers);
    free(endpoint->readers);
    free(endpoint->unkicked);
    free(endpoint->kick_list);
    free(endpoint->pending);
    free(endpoint->held);
    *endpoint = (struct sv_endpoint){0};
}

/* --------------------------------------------------------------------------------------------------- sending */

struct sv_ring_writer *sv_writer_to(struct sv_endpoint *endpoint, uint32_t to) {
    struct sv_ring_writer *writer = &endpoint->writers[to];
    if (writer->ring) return writer;
    struct sv_ring *ring = sv_ipc_ring(endpoint->ipc, to, endpoint->id);
    if (!ring) ring = make_ring(endpoint->ipc, to, endpoint->id);
    if (!ring) return NULL;
    sv_ring_writer_attach(writer, ring, endpoint->consumed, endpoint->consumed_context);
    return writer;
}

uint32_t sv_max_payload_to(struct sv_endpoint *endpoint, uint32_t to) {
    uint32_t most = sv_ring_max_payload(ring_size(endpoint->ipc, to, endpoint->id));
    return most < SV_CHUNK_MAX ? most : SV_CHUNK_MAX;
}

void sv_kick(struct sv_endpoint *endpoint, uint32_t to) {
    struct sv_inbox *peer = sv_inbox_of(endpoint->ipc, to);
    endpoint->unkicked[to] = 0;
    uint64_t bit = UINT64_C(1) << (endpoint->id & 63);
    /* Always, even if the bit is set already: a mere look at it may come before the record's tail is visible, and the peer may take
     * the bit and find the ring empty in between. This way, either it finds the record, or the bit stays for its next look. */
    atomic_fetch_or(&peer->dirty[endpoint->id >> 6], bit);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in sv_fall_asleep */
    if (atomic_load_explicit(&peer->sleeping, memory_order_relaxed)) sv_wake(endpoint->ipc, to);
}

void sv_kick_all(struct sv_endpoint *endpoint) {
    for (uint32_t i = 0; i < endpoint->kick_count; i++)
        if (endpoint->unkicked[endpoint->kick_list[i]]) sv_kick(endpoint, endpoint->kick_list[i]);
    endpoint->kick_count = 0;
}

static void mark_dirty(struct sv_endpoint *endpoint, uint32_t to) {
    uint32_t waiting = ++endpoint->unkicked[to];
    if (waiting == 1) {
        /* an entry whose peer was kicked in between may stand there already; the list has room for each peer once */
        for (uint32_t i = 0; i < endpoint->kick_count; i++)
            if (endpoint->kick_list[i] == to) return;
        endpoint->kick_list[endpoint->kick_count++] = to;
    } else if (waiting >= SV_KICK_EVERY) {
        sv_kick(endpoint, to);
    }
}

struct sv_record *sv_send_reserve(struct sv_endpoint *endpoint, uint32_t to, uint32_t least, uint32_t *size) {
    struct sv_ring_writer *writer = sv_writer_to(endpoint, to);
    return writer ? sv_ring_reserve_between(writer, least, size) : NULL;
}

void sv_send_unannounced(struct sv_endpoint *endpoint, uint32_t to, struct sv_record *record) {
    struct sv_ring_writer *writer = &endpoint->writers[to];
    record->source = endpoint->id;
    if (!writer->has_written) record->flags |= SV_RECORD_NEW_WRITER;
    writer->has_written = true;
    if (endpoint->sent) endpoint->sent(endpoint->sent_context, record);
    sv_ring_publish(writer, record);
}

void sv_send_filled(struct sv_endpoint *endpoint, uint32_t to, struct sv_record *record) {
    sv_send_unannounced(endpoint, to, record);
    mark_dirty(endpoint, to);
}

int sv_send(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *payload,
            size_t length) {
    struct sv_ring_writer *writer = sv_writer_to(endpoint, to);
    if (!writer) return -ENOMEM;
    if (length > sv_ring_max_payload(writer->size)) return -EMSGSIZE;
    struct sv_record *record = sv_ring_reserve(writer, (uint32_t)length);
    if (!record) {
        sv_kick(endpoint, to);
        return -EAGAIN;
    }
    record->length = (uint32_t)length;
    record->type = type;
    record->flags = SV_RECORD_FIRST | SV_RECORD_LAST;
    record->id = id;
    record->value = value;
    record->stamp_ns = 0;
    if (length) memcpy(record->payload, payload, length);
    sv_send_filled(endpoint, to, record);
    return 0;
}

/* Copies from the concatenation of head and payload. */
static void copy_part(unsigned char *target, size_t at, size_t count, const void *head, size_t head_length, const void *payload) {
    if (at < head_length) {
        size_t part = head_length - at < count ? head_length - at : count;
        memcpy(target, (const unsigned char *)head + at, part);
        target += part;
        at += part;
        count -= part;
    }
    if (count) memcpy(target, (const unsigned char *)payload + (at - head_length), count);
}

struct long_send { /* one that may need several records */
    uint32_t to;
    uint16_t type;
    int32_t value;
    uint64_t id;
    const void *head, *payload;
    size_t head_length, length;
};

/* The next record of it. 0 or -EAGAIN. */
static int send_part(struct sv_endpoint *endpoint, struct sv_ring_writer *writer, const struct long_send *send, size_t *at) {
    size_t total = send->head_length + send->length;
    uint32_t most = sv_max_payload_to(endpoint, send->to), part = total - *at < most ? (uint32_t)(total - *at) : most;
    struct sv_record *record = sv_ring_reserve(writer, part);
    if (!record) return -EAGAIN;
    record->length = part;
    record->type = send->type;
    record->flags = (uint16_t)((*at == 0 ? SV_RECORD_FIRST : 0) | (*at + part == total ? SV_RECORD_LAST : 0));
    record->id = send->id;
    record->value = send->value;
    record->stamp_ns = 0;
    if (part) copy_part(record->payload, *at, part, send->head, send->head_length, send->payload);
    sv_send_filled(endpoint, send->to, record);
    *at += part;
    return 0;
}

static int send_parts(struct sv_endpoint *endpoint, const struct long_send *send, size_t *at, bool leaves_room) {
    struct sv_ring_writer *writer = sv_writer_to(endpoint, send->to);
    if (!writer) return -ENOMEM;
    do {
        if (leaves_room && !sv_ring_has_or_wants_half(writer)) return -EAGAIN;
        if (send_part(endpoint, writer, send, at)) return -EAGAIN;
    } while (*at < send->head_length + send->length);
    return 0;
}

int sv_send_some(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *head,
                 size_t head_length, const void *payload, size_t length, size_t *at) {
    struct long_send send = {to, type, value, id, head, payload, head_length, length};
    return send_parts(endpoint, &send, at, false);
}

int sv_send_bulk(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *head,
                 size_t head_length, const void *payload, size_t length, size_t *at) {
    struct long_send send = {to, type, value, id, head, payload, head_length, length};
    return send_parts(endpoint, &send, at, true);
}

int sv_send_wait(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *head,
                 size_t head_length, const void *payload, size_t length, int (*wait)(void *context), void *context) {
    size_t at = 0;
    int result;
    while ((result = sv_send_some(endpoint, to, type, id, value, head, head_length, payload, length, &at)) == -EAGAIN) {
        sv_kick_all(endpoint);
        sv_kick(endpoint, to);
        if (wait(context)) return -EPIPE;
    }
    return result;
}

/* ------------------------------------------------------------------------------------------------- receiving */

static bool is_event(uint16_t type) {
    return type == SV_RECORD_RECEIVE || type == SV_RECORD_PACKET;
}

/* Somebody died over an END: marking it twice is once. */
static bool has_end_to_mark(struct sv_ring *ring) {
    struct sv_record record;
    bool is_whole, is_second;
    return sv_ring_unfinished(ring, &record, &is_whole, &is_second) && record.type == SV_RECORD_END;
}

static bool is_given_again(struct sv_ring *ring) {
    struct sv_record record;
    bool is_whole, is_second;
    return sv_ring_unfinished(ring, &record, &is_whole, &is_second) && is_event(record.type) && (record.flags & SV_RECORD_LAST) &&
           is_whole && !is_second;
}

bool sv_ipc_gives_again(const struct sv_ipc *ipc, uint32_t to, uint32_t from) {
    struct sv_ring *ring = sv_ipc_ring(ipc, to, from);
    return ring && is_given_again(ring);
}

static struct sv_ring_reader *reader_from(struct sv_endpoint *endpoint, uint32_t from) {
    struct sv_ring_reader *reader = &endpoint->readers[from];
    if (reader->ring) return reader;
    struct sv_ring *ring = sv_ipc_ring(endpoint->ipc, endpoint->id, from);
    if (!ring || ring->size != ring_size(endpoint->ipc, endpoint->id, from)) return NULL; /* none, or overwritten */
    sv_ring_reader_attach(reader, ring);
    sv_ring_reader_reread(reader, has_end_to_mark(ring) || (endpoint->is_redelivering && is_given_again(ring)));
    return reader;
}

/* An heir takes no marks away from the owner: it looks into every reactor's ring. */
static void collect_inheritance(struct sv_endpoint *endpoint) {
    for (uint32_t reactor = 0; reactor < endpoint->ipc->reactors; reactor++) {
        uint32_t from = sv_endpoint_of_reactor(reactor);
        endpoint->pending[from >> 6] |= UINT64_C(1) << (from & 63);
    }
    endpoint->has_pending = endpoint->ipc->reactors > 0;
}

/* Moves the shared dirty bits into `pending`; true if there were any. */
static bool collect_mail(struct sv_endpoint *endpoint) {
    if (endpoint->is_heir) {
        collect_inheritance(endpoint);
        return true;
    }
    uint32_t words = (endpoint->ipc->endpoints + 63) / 64;
    bool has_news = false;
    if (atomic_load_explicit(&endpoint->inbox->look_everywhere, memory_order_relaxed) &&
        atomic_exchange(&endpoint->inbox->look_everywhere, 0)) {
        for (uint32_t from = 0; from < endpoint->ipc->endpoints; from++)
            if (sv_ipc_ring(endpoint->ipc, endpoint->id, from)) {
                endpoint->pending[from >> 6] |= UINT64_C(1) << (from & 63);
                endpoint->has_pending = has_news = true;
            }
    }
    for (uint32_t i = 0; i < words; i++) {
        if (!atomic_load_explicit(&endpoint->inbox->dirty[i], memory_order_relaxed)) continue;
        endpoint->pending[i] |= atomic_exchange(&endpoint->inbox->dirty[i], 0);
        endpoint->has_pending = has_news = true;
    }
    return has_news;
}

/* The bits of word `i` that may be served now. */
static uint64_t audible(const struct sv_endpoint *endpoint, uint32_t i) {
    uint64_t bits = endpoint->pending[i];
    if (!bits || !endpoint->is_muted) return bits;
    for (uint32_t reactor = 0; reactor < endpoint->ipc->reactors; reactor++) {
        uint32_t from = sv_endpoint_of_reactor(reactor);
        if (from >> 6 == i) bits &= ~(UINT64_C(1) << (from & 63));
    }
    return bits;
}

static void update_has_pending(struct sv_endpoint *endpoint) {
    uint32_t words = (endpoint->ipc->endpoints + 63) / 64;
    endpoint->has_pending = false;
    for (uint32_t i = 0; i < words && !endpoint->has_pending; i++) endpoint->has_pending = audible(endpoint, i) != 0;
}

void sv_set_muted(struct sv_endpoint *endpoint, bool is_muted) {
    endpoint->is_muted = is_muted;
    update_has_pending(endpoint);
}

bool sv_has_mail(struct sv_endpoint *endpoint) {
    collect_mail(endpoint);
    if (endpoint->has_pending && endpoint->is_muted) update_has_pending(endpoint);
    return endpoint->has_pending;
}

static void begin_record(struct sv_ring_reader *reader, const struct sv_record *record) {
    sv_ring_begin(reader);
    if (!is_event(record->type) || !(record->flags & SV_RECORD_LAST)) return;
    uint64_t served = atomic_load_explicit(&reader->ring->served, memory_order_relaxed) + 1;
    atomic_store_explicit(&reader->ring->served, served, memory_order_relaxed);
}

/* Something was taken from the ring, or skipped. */
static void give_back(struct sv_endpoint *endpoint, struct sv_ring_reader *reader, uint32_t from) {
    if (endpoint->is_deferring_release) {
        endpoint->held[from >> 6] |= UINT64_C(1) << (from & 63);
    } else if (sv_chunks_are_in_ring(endpoint, from) && !sv_ring_keeps_too_much(reader)) {
        sv_ring_keep(reader);
    } else {
        sv_chunks_leave_ring(endpoint, from);
        sv_ring_release(reader);
    }
}

/* The end of an event whose beginning went with a predecessor. */
static void tell_lost(const struct sv_record *record, uint32_t from, sv_receiver receiver, void *context) {
    struct sv_message message = {.type = SV_RECORD_LOST, .source = from, .id = record->id, .value = record->type};
    receiver(context, &message);
}

/* What was skipped may have been the middle of a payload. */
static void see_to_damage(struct sv_endpoint *endpoint, struct sv_ring_reader *reader, uint32_t from) {
    reader->is_corrupt = false;
    endpoint->damaged_source = from;
    sv_forget_partials(endpoint, from);
    give_back(endpoint, reader, from);
}

/* Hands over at most `most` records of one ring; returns how many it took and whether the ring is empty now. */
static uint32_t receive_ring(struct sv_endpoint *endpoint, uint32_t from, uint32_t most, sv_receiver receiver, void *context,
                             bool *is_empty) {
    struct sv_ring_reader *reader = reader_from(endpoint, from);
    uint32_t count = 0;
    *is_empty = true;
    if (!reader) return 0;
    uint64_t released = reader->released;
    const struct sv_record *found;
    while ((found = sv_ring_peek(reader))) {
        if (count == most || (endpoint->is_muted && is_reactor(endpoint->ipc, from))) {
            *is_empty = false;
            break;
        }
        struct sv_record record = *found; /* from here on the ring's own copy is not asked again */
        record.length = reader->length;
        struct sv_message message = {.type = record.type,
                                     .source = from,
                                     .id = record.id,
                                     .value = record.value,
                                     .stamp_ns = record.stamp_ns,
                                     .payload = found->payload,
                                     .length = record.length};
        struct sv_partial *whole = NULL;
        bool is_complete = true, is_orphan = false;
        if (record.flags & SV_RECORD_NEW_WRITER) sv_forget_partials(endpoint, from);
        if ((record.flags & (SV_RECORD_FIRST | SV_RECORD_LAST)) != (SV_RECORD_FIRST | SV_RECORD_LAST)) {
            is_complete = sv_chunk_add(endpoint, from, &record, found->payload, &whole);
            if (whole) {
                message.payload = whole->data;
                message.length = whole->length;
                message.owned = &whole->data;
            }
            is_orphan = !is_complete && is_event(record.type) && (record.flags & SV_RECORD_LAST);
        }
        sv_ring_take(reader, found);
        bool is_known = sv_ring_is_reread(reader); /* handed over, or given up, by a predecessor */
        count += !is_known;
        if (!endpoint->is_deferring_release && !is_known) begin_record(reader, &record);
        if (record.type == SV_RECORD_END && !endpoint->is_deferring_release) {
            sv_chunks_leave_ring(endpoint, from); /* their rest does not come here */
            sv_ring_end(reader);
        }
        if (is_complete && !is_known) receiver(context, &message);
        if (is_orphan && !is_known) tell_lost(&record, from, receiver, context);
        if (whole) sv_chunk_free(whole);
        give_back(endpoint, reader, from);
    }
    bool was_damaged = reader->is_corrupt;
    if (was_damaged) see_to_damage(endpoint, reader, from);
    if (!endpoint->is_deferring_release && (reader->released != released || was_damaged) && sv_ring_is_wanted(reader)) sv_kick(endpoint, from);
    return count;
}

uint32_t sv_receive(struct sv_endpoint *endpoint, uint32_t most, sv_receiver receiver, void *context) {
    if (!sv_has_mail(endpoint)) return 0;
    uint32_t words = (endpoint->ipc->endpoints + 63) / 64, total = 0;
    for (uint32_t i = 0; i < words; i++) {
        uint64_t bits = audible(endpoint, i);
        while (bits) {
            uint32_t from = i * 64 + (uint32_t)__builtin_ctzll(bits);
            uint64_t bit = bits & -bits;
            bits &= bits - 1;
            bool is_empty;
            endpoint->pending[i] &= ~bit;
            total += receive_ring(endpoint, from, most, receiver, context, &is_empty);
            if (!is_empty) endpoint->pending[i] |= bit;
            if (endpoint->is_muted) bits &= audible(endpoint, i); /* a receiver may have handed the inbox over */
        }
    }
    update_has_pending(endpoint);
    return total;
}

bool sv_has_mail_from(const struct sv_endpoint *endpoint, uint32_t from) {
    const struct sv_ring_reader *reader = &endpoint->readers[from];
    const struct sv_ring *ring = reader->ring ? reader->ring : sv_ipc_ring(endpoint->ipc, endpoint->id, from);
    if (!ring) return false;
    uint64_t position = reader->ring ? reader->position : atomic_load_explicit(&ring->begun, memory_order_relaxed);
    return atomic_load_explicit(&ring->tail, memory_order_acquire) != position;
}

void sv_receive_from(struct sv_endpoint *endpoint, uint32_t from, sv_receiver receiver, void *context) {
    const struct sv_ring_reader *reader = reader_from(endpoint, from);
    if (!reader) return;
    uint64_t end = atomic_load_explicit(&reader->ring->tail, memory_order_acquire);
    bool is_empty;
    do receive_ring(endpoint, from, SV_DRAIN_BATCH, receiver, context, &is_empty);
    while (!is_empty && reader->position < end);
}

void sv_release_held(struct sv_endpoint *endpoint) {
    uint32_t words = (endpoint->ipc->endpoints + 63) / 64;
    for (uint32_t i = 0; i < words; i++) {
        while (endpoint->held[i]) {
            uint32_t from = i * 64 + (uint32_t)__builtin_ctzll(endpoint->held[i]);
            endpoint->held[i] &= endpoint->held[i] - 1;
            sv_ring_release(&endpoint->readers[from]);
            if (sv_ring_is_wanted(&endpoint->readers[from])) sv_kick(endpoint, from);
        }
    }
}

/* --------------------------------------------------------------------------------------------------- sleeping */

bool sv_fall_asleep(struct sv_endpoint *endpoint) {
    if (endpoint->has_pending) return false;
    atomic_store_explicit(&endpoint->inbox->sleeping, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in sv_kick */
    bool has_news = collect_mail(endpoint);
    if (endpoint->has_pending && endpoint->is_muted) update_has_pending(endpoint);
    /* News that are muted are worth a turn, too: the owner looks elsewhere for what comes before them (an inherited inbox). */
    if (!endpoint->has_pending && !has_news) return true;
    atomic_store_explicit(&endpoint->inbox->sleeping, 0, memory_order_relaxed);
    return false;
}

void sv_wake_up(struct sv_endpoint *endpoint) {
    if (atomic_load_explicit(&endpoint->inbox->sleeping, memory_order_relaxed))
        atomic_store_explicit(&endpoint->inbox->sleeping, 0, memory_order_relaxed);
}

void sv_bell_clear(const struct sv_endpoint *endpoint) {
    uint64_t count;
    ssize_t got = read(sv_bell_fd(endpoint), &count, sizeof count);
    (void)got; /* EAGAIN: another look came first */
}
