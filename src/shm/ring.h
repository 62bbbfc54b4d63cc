/* ring.h: single-producer, single-consumer ring of records in shared memory.
 *
 * Writer: exactly one process or thread ("producer"), through a `struct sv_ring_writer`. Reader: exactly one ("consumer"),
 * through a `struct sv_ring_reader`. Both handles are private; whoever takes over from a dead process attaches anew and goes
 * on where the shared positions stand.
 *
 * A record becomes visible by one release store of `tail` after it is complete: a producer that dies at any instruction leaves
 * the ring sound. A record is gone by one release store of `head`. Before a consumer works on a record in place it says so in
 * `begun`: a successor goes on behind that one, so that no record is worked on twice. A consumer may be done with a record and
 * keep its bytes (`finished`): chunks of a payload that is not whole, which a successor reads once more. Nothing here blocks,
 * allocates or makes a system call.
 *
 * Records are contiguous and aligned to SV_RECORD_ALIGN; where one does not fit before the end, a pad record fills the rest.
 * Neither side trusts what the other could have overwritten. A record that does not lie within what was published, or a tail that
 * cannot be true, marks the ring as corrupt: what was published is skipped, and the next record that is whole goes through. */
#ifndef SV_SHM_RING_H
#define SV_SHM_RING_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/arena.h"

#define SV_RECORD_ALIGN 32u
#define SV_RECORD_PAD 0 /* type of the filler at the wrap; never seen by consumers */

enum sv_record_flag {
    SV_RECORD_FIRST = 1,
    SV_RECORD_LAST = 2,
    SV_RECORD_SERIALISED = 4,
    SV_RECORD_NEW_WRITER = 8 /* the first one of this producer: what its predecessor left unfinished never ends */
};

struct sv_record { /* in the ring, in front of its payload */
    uint32_t length;  /* payload bytes */
    uint16_t type;    /* enum sv_record_type (ipc/record.h); SV_RECORD_PAD here */
    uint16_t flags;   /* enum sv_record_flag */
    uint64_t id;      /* session, task or request id */
    uint32_t source;  /* endpoint that wrote it */
    int32_t value;    /* meaning by type: reactor id, port, flags */
    int64_t stamp_ns; /* wall clock when the payload came in, or 0 */
    unsigned char payload[];
};
_Static_assert(sizeof(struct sv_record) == SV_RECORD_ALIGN, "a record's head is one unit of alignment");

struct sv_ring {
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t tail;       /* producer writes: bytes ever published */
    _Atomic uint64_t packets;                            /* producer writes: data packets ever published (statistics) */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t head;       /* consumer writes: bytes ever released */
    _Atomic uint64_t begun;                              /* consumer writes: end of the record that it works on */
    _Atomic uint64_t finished;                           /* consumer writes: end of what it is done with and keeps, if behind head */
    _Atomic uint64_t redelivered;                        /* consumer writes: `begun` of the record that was begun twice */
    _Atomic uint64_t served;                             /* consumer writes: data packets begun, of `packets` */
    _Atomic uint64_t ending;                             /* consumer writes: end of the END for this life; 0: it has not come */
    _Alignas(SV_CACHE_LINE) _Atomic uint32_t want_space; /* producer sets, consumer clears */
    _Alignas(SV_CACHE_LINE) uint32_t size;               /* power of two; written once at creation */
    _Alignas(SV_CACHE_LINE) unsigned char data[];
};

/* Called with each record that the consumer has released, in order, before its bytes may be overwritten. */
typedef void (*sv_ring_consumed)(void *context, const struct sv_record *record);

struct sv_ring_writer { /* private to the producer */
    struct sv_ring *ring;
    uint32_t size;
    uint64_t tail;     /* as published */
    uint64_t head;     /* consumer's position as last seen; the true one may be further */
    uint64_t reserved; /* where the reserved record begins (behind a pad) */
    uint64_t ledger;   /* records before this were reported to `consumed` */
    bool has_written;  /* the ring's user keeps it: the first record says SV_RECORD_NEW_WRITER */
    sv_ring_consumed consumed; /* may be NULL */
    void *context;
};

struct sv_ring_reader { /* private to the consumer */
    struct sv_ring *ring;
    uint32_t size;
    uint64_t tail;     /* producer's position as last seen */
    uint64_t position; /* next record to look at */
    uint64_t released; /* as stored in head */
    uint64_t reread;   /* records that end before or here were taken by a predecessor */
    bool is_reread_due; /* the last of these is to be handed over all the same: sv_ring_reader_reread() */
    uint32_t span;     /* bytes of the record that was peeked at: it may be overwritten at any time */
    uint32_t length;   /* its payload bytes, checked */
    bool is_corrupt;   /* set when something was skipped; cleared by who has seen to it */
};

/* Bytes of shared memory for a ring of `size` data bytes (a power of two, at least 4 KiB). */
size_t sv_ring_bytes(uint32_t size);
void sv_ring_init(struct sv_ring *ring, uint32_t size);

void sv_ring_writer_attach(struct sv_ring_writer *writer, struct sv_ring *ring, sv_ring_consumed consumed, void *context);
/* A successor goes on behind the record that its predecessor died over. */
void sv_ring_reader_attach(struct sv_ring_reader *reader, struct sv_ring *ring);
/* What somebody died over, or false; *record is its head. *is_whole: all its chunks are still there. *is_second: it is not the
 * first who died over it. */
bool sv_ring_unfinished(struct sv_ring *ring, struct sv_record *record, bool *is_whole, bool *is_second);
/* After attaching: goes back to what the predecessor took and kept, which sv_ring_is_reread() tells from what is new. With
 * `is_due` the record that it died over counts as new, this once. */
void sv_ring_reader_reread(struct sv_ring_reader *reader, bool is_due);

/* Largest payload of one record: a quarter of the ring at most, so that a record always fits again. */
static inline uint32_t sv_ring_max_payload(uint32_t size) {
    return size / 4 - SV_RECORD_ALIGN;
}

/* Space for a record of `size` payload bytes, or NULL when the ring is too full (then want_space is set and the ring was
 * looked at once more). The caller fills the record, all members, then publishes. */
struct sv_record *sv_ring_reserve(struct sv_ring_writer *writer, uint32_t size);
/* The same for at least `least` and at most *size bytes; *size tells how many. Takes what lies before the end of the ring if
 * that is enough, so that reading a socket straight into the ring does not waste its rest. */
struct sv_record *sv_ring_reserve_between(struct sv_ring_writer *writer, uint32_t least, uint32_t *size);
/* Makes the reserved record visible; record->length may be less than what was reserved. */
void sv_ring_publish(struct sv_ring_writer *writer, struct sv_record *record);
/* Looks at the consumer's position and reports what it released to `consumed`. */
void sv_ring_writer_refresh(struct sv_ring_writer *writer);
/* True if at least half of the ring is free now. */
bool sv_ring_has_half(struct sv_ring_writer *writer);
/* Asks the consumer to ring the producer's bell when it has released something and half of the ring is free. */
void sv_ring_want_space(struct sv_ring_writer *writer);
/* True if at least half of the ring is free now; else the consumer is asked. */
bool sv_ring_has_or_wants_half(struct sv_ring_writer *writer);

/* Next record that was not yet taken, or NULL. It stays valid until it is released; how long it is says reader->length. */
const struct sv_record *sv_ring_peek(struct sv_ring_reader *reader);
/* Goes on to the record behind the one that peek returned. */
void sv_ring_take(struct sv_ring_reader *reader, const struct sv_record *record);
/* Says that the records taken so far are being worked on: a successor will not see them again. */
void sv_ring_begin(struct sv_ring_reader *reader);
/* True if the record that was taken last is one of a predecessor's, that is not to be worked on again. */
bool sv_ring_is_reread(const struct sv_ring_reader *reader);
/* Gives back all that was taken: one store. */
void sv_ring_release(struct sv_ring_reader *reader);
/* Releases what was taken, of which the last says that nothing more comes for this life. The order matters: whoever sees that it has
 * ended may begin a new life, which must not find that record. */
void sv_ring_end(struct sv_ring_reader *reader);
bool sv_ring_has_ended(const struct sv_ring *ring);
/* Says that the records taken so far are done with, and keeps them for a successor. */
void sv_ring_keep(struct sv_ring_reader *reader);
/* True if so much is kept that the producer will not be asked to go on: half of the ring. */
static inline bool sv_ring_keeps_too_much(const struct sv_ring_reader *reader) {
    return reader->position - reader->released > reader->size / 2;
}
/* True, once, if the producer waits for space and should be woken now. For the end of a batch of releases: it costs a fence. */
bool sv_ring_is_wanted(struct sv_ring_reader *reader);
/* Bytes published and not yet released, by the shared positions; for load statistics from any process. */
uint64_t sv_ring_backlog(const struct sv_ring *ring);

#endif
