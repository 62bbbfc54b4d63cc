/* ring.c: see ring.h. Positions count bytes ever written, so they never wrap in practice (2^64); offset = position & mask. */
#include "shm/ring.h"

#include <string.h>

#include <assert.h>

static uint32_t record_span(uint32_t payload) {
    return (SV_RECORD_ALIGN + payload + SV_RECORD_ALIGN - 1) & ~(SV_RECORD_ALIGN - 1);
}

size_t sv_ring_bytes(uint32_t size) {
    return sv_cache_lines(sizeof(struct sv_ring) + size);
}

void sv_ring_init(struct sv_ring *ring, uint32_t size) {
    assert(size >= 4096 && (size & (size - 1)) == 0);
    atomic_store(&ring->tail, 0);
    atomic_store(&ring->packets, 0);
    atomic_store(&ring->head, 0);
    atomic_store(&ring->begun, 0);
    atomic_store(&ring->finished, 0);
    atomic_store(&ring->served, 0);
    atomic_store(&ring->redelivered, 0);
    atomic_store(&ring->ending, 0);
    atomic_store(&ring->want_space, 0);
    ring->size = size;
}

void sv_ring_writer_attach(struct sv_ring_writer *writer, struct sv_ring *ring, sv_ring_consumed consumed, void *context) {
    writer->ring = ring;
    writer->size = ring->size;
    writer->tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    writer->head = atomic_load_explicit(&ring->head, memory_order_acquire);
    bool is_sound = writer->tail - writer->head <= ring->size && writer->tail % SV_RECORD_ALIGN == 0;
    if (!is_sound) writer->tail = writer->head; /* a predecessor gone mad wrote over it: the consumer waits where its head is */
    writer->reserved = writer->tail;
    writer->ledger = writer->tail; /* what a predecessor wrote is not on this producer's account */
    writer->has_written = false;
    writer->consumed = consumed;
    writer->context = context;
}

void sv_ring_reader_attach(struct sv_ring_reader *reader, struct sv_ring *ring) {
    reader->ring = ring;
    reader->size = ring->size;
    reader->released = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_acquire);
    reader->position = atomic_load_explicit(&ring->begun, memory_order_relaxed);
    if (reader->position < reader->released || reader->position > tail) reader->position = reader->released;
    reader->reread = reader->position;
    reader->is_reread_due = false;
    reader->tail = reader->position; /* the producer's is looked at, and checked, by the first peek */
    reader->span = reader->length = 0;
    reader->is_corrupt = false;
}

/* Goes over the records of [position, end) again; true if there is one, then *record is its head. */
static bool walk(struct sv_ring_reader *reader, uint64_t end, struct sv_record *record) {
    const struct sv_record *found = reader->position < end ? sv_ring_peek(reader) : NULL;
    if (!found || reader->position >= end) return false;
    *record = *found;
    sv_ring_take(reader, found);
    return true;
}

static void go_back(struct sv_ring_reader *reader) {
    reader->position = reader->tail = reader->released;
}

bool sv_ring_unfinished(struct sv_ring *ring, struct sv_record *record, bool *is_whole, bool *is_second) {
    struct sv_ring_reader reader;
    struct sv_record other;
    sv_ring_reader_attach(&reader, ring);
    uint64_t begun = reader.position;
    if (begun == reader.released || begun <= atomic_load(&ring->finished)) return false;
    go_back(&reader);
    while (walk(&reader, begun, record)) {}
    if (reader.position != begun) return false;
    *is_second = begun == atomic_load(&ring->redelivered);
    *is_whole = false;
    go_back(&reader);
    while (walk(&reader, begun, &other)) {
        if (other.type != record->type || other.id != record->id) continue;
        if (other.flags & SV_RECORD_FIRST) *is_whole = true;
        if (other.flags & SV_RECORD_LAST && reader.position != begun) *is_whole = false;
    }
    return true;
}

void sv_ring_reader_reread(struct sv_ring_reader *reader, bool is_due) {
    go_back(reader);
    reader->is_reread_due = is_due;
    if (is_due) atomic_store(&reader->ring->redelivered, reader->reread);
}

bool sv_ring_is_reread(const struct sv_ring_reader *reader) {
    return reader->position < reader->reread || (reader->position == reader->reread && !reader->is_reread_due);
}

/* The producer wrote these records itself, but a consumer gone mad may have written over them: then the account is closed. */
static void settle_ledger(struct sv_ring_writer *writer) {
    if (!writer->consumed) {
        writer->ledger = writer->head;
        return;
    }
    while (writer->ledger < writer->head) {
        uint32_t offset = (uint32_t)writer->ledger & (writer->size - 1);
        const struct sv_record *record = (const struct sv_record *)(writer->ring->data + offset);
        uint32_t length = record->length;
        if (length > writer->size || record_span(length) > writer->head - writer->ledger) {
            writer->ledger = writer->head;
            return;
        }
        if (record->type != SV_RECORD_PAD) writer->consumed(writer->context, record);
        writer->ledger += record_span(length);
    }
}

void sv_ring_writer_refresh(struct sv_ring_writer *writer) {
    uint64_t head = atomic_load_explicit(&writer->ring->head, memory_order_acquire);
    /* a broken consumer: never believe more than was written */
    if (head > writer->tail || head < writer->head || head % SV_RECORD_ALIGN) return;
    writer->head = head;
    if (writer->ledger < writer->head) settle_ledger(writer);
}

void sv_ring_want_space(struct sv_ring_writer *writer) {
    atomic_store_explicit(&writer->ring->want_space, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in sv_ring_is_wanted */
    sv_ring_writer_refresh(writer);
}

bool sv_ring_has_or_wants_half(struct sv_ring_writer *writer) {
    if (sv_ring_has_half(writer)) return true;
    sv_ring_want_space(writer);
    return sv_ring_has_half(writer); /* it may have been released just before it could see that */
}

bool sv_ring_has_half(struct sv_ring_writer *writer) {
    sv_ring_writer_refresh(writer);
    return writer->tail - writer->head <= writer->size / 2;
}

/* A reservation of `size` payload bytes at the tail or, behind a pad, at the start of the ring; NULL if it does not fit. */
static struct sv_record *place(struct sv_ring_writer *writer, uint32_t size) {
    uint32_t offset = (uint32_t)writer->tail & (writer->size - 1);
    uint32_t to_end = writer->size - offset;
    uint32_t span = record_span(size);
    uint64_t needed = span <= to_end ? span : (uint64_t)to_end + span;
    if (writer->tail + needed - writer->head > writer->size) return NULL;
    writer->reserved = span <= to_end ? writer->tail : writer->tail + to_end;
    return (struct sv_record *)(writer->ring->data + ((uint32_t)writer->reserved & (writer->size - 1)));
}

struct sv_record *sv_ring_reserve(struct sv_ring_writer *writer, uint32_t size) {
    assert(size <= sv_ring_max_payload(writer->size));
    struct sv_record *record = place(writer, size);
    if (record) return record;
    sv_ring_writer_refresh(writer);
    record = place(writer, size);
    if (record) return record;
    sv_ring_want_space(writer);
    return place(writer, size);
}

struct sv_record *sv_ring_reserve_between(struct sv_ring_writer *writer, uint32_t least, uint32_t *size) {
    uint32_t offset = (uint32_t)writer->tail & (writer->size - 1);
    uint32_t to_end = writer->size - offset;
    uint64_t room = writer->size - (writer->tail - writer->head);
    uint32_t best = to_end < room ? to_end : (uint32_t)room;
    if (best >= record_span(least)) {
        uint32_t payload = best - SV_RECORD_ALIGN;
        if (payload < *size) *size = payload;
        return place(writer, *size);
    }
    struct sv_record *record = sv_ring_reserve(writer, least);
    if (!record) return NULL;
    offset = (uint32_t)writer->reserved & (writer->size - 1);
    to_end = writer->size - offset;
    room = writer->size - (writer->reserved - writer->head);
    best = (to_end < room ? to_end : (uint32_t)room) - SV_RECORD_ALIGN;
    if (best < *size) *size = best;
    return record;
}

void sv_ring_publish(struct sv_ring_writer *writer, struct sv_record *record) {
    uint32_t offset = (uint32_t)writer->tail & (writer->size - 1);
    if (writer->reserved != writer->tail) {
        struct sv_record *pad = (struct sv_record *)(writer->ring->data + offset);
        pad->type = SV_RECORD_PAD;
        pad->flags = 0;
        pad->length = writer->size - offset - SV_RECORD_ALIGN;
    }
    writer->tail = writer->reserved + record_span(record->length);
    writer->reserved = writer->tail;
    atomic_store_explicit(&writer->ring->tail, writer->tail, memory_order_release);
}

/* Sees what the producer has published since; false if that is nothing, or cannot be true. */
static bool look_at_tail(struct sv_ring_reader *reader) {
    uint64_t tail = atomic_load_explicit(&reader->ring->tail, memory_order_acquire);
    if (tail == reader->position) return false;
    if (tail < reader->position || tail - reader->released > reader->size || tail % SV_RECORD_ALIGN) {
        reader->is_corrupt = true;
        return false;
    }
    reader->tail = tail;
    return true;
}

const struct sv_record *sv_ring_peek(struct sv_ring_reader *reader) {
    for (;;) {
        if (reader->position == reader->tail && !look_at_tail(reader)) return NULL;
        uint32_t offset = (uint32_t)reader->position & (reader->size - 1);
        const struct sv_record *record = (const struct sv_record *)(reader->ring->data + offset);
        uint32_t length = *(const volatile uint32_t *)&record->length; /* read once: what was checked is what is used */
        if (length > reader->size || record_span(length) > reader->tail - reader->position ||
            record_span(length) > reader->size - offset) {
            reader->is_corrupt = true;
            reader->position = reader->tail;
            return NULL;
        }
        reader->length = length;
        reader->span = record_span(length);
        if (record->type != SV_RECORD_PAD) return record;
        reader->position += reader->span;
    }
}

void sv_ring_take(struct sv_ring_reader *reader, const struct sv_record *record) {
    (void)record; /* what peek found, whatever stands there by now */
    reader->position += reader->span;
}

void sv_ring_begin(struct sv_ring_reader *reader) {
    atomic_store_explicit(&reader->ring->begun, reader->position, memory_order_release);
}

void sv_ring_release(struct sv_ring_reader *reader) {
    if (reader->released == reader->position) return;
    reader->released = reader->position;
    atomic_store_explicit(&reader->ring->head, reader->position, memory_order_release);
}

void sv_ring_end(struct sv_ring_reader *reader) {
    atomic_store_explicit(&reader->ring->ending, reader->position, memory_order_release); /* who dies here leaves it to be read again */
    sv_ring_release(reader);
}

bool sv_ring_has_ended(const struct sv_ring *ring) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_acquire), ending = atomic_load_explicit(&ring->ending, memory_order_acquire);
    return ending && head >= ending;
}

void sv_ring_keep(struct sv_ring_reader *reader) {
    if (reader->position > atomic_load_explicit(&reader->ring->finished, memory_order_relaxed))
        atomic_store_explicit(&reader->ring->finished, reader->position, memory_order_release);
}

bool sv_ring_is_wanted(struct sv_ring_reader *reader) {
    struct sv_ring *ring = reader->ring;
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in sv_ring_want_space */
    if (!atomic_load_explicit(&ring->want_space, memory_order_relaxed)) return false;
    uint64_t used = atomic_load_explicit(&ring->tail, memory_order_relaxed) - reader->released;
    if (used > reader->size / 2) return false;
    return atomic_exchange(&ring->want_space, 0) != 0;
}

uint64_t sv_ring_backlog(const struct sv_ring *ring) {
    uint64_t head = atomic_load_explicit(&ring->head, memory_order_relaxed);
    uint64_t tail = atomic_load_explicit(&ring->tail, memory_order_relaxed);
    return tail > head ? tail - head : 0;
}
