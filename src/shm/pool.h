/* pool.h: jobs that one producer puts in and any of several consumers takes out, each exactly once: how tasks wait.
 *
 * Unlike a ring's, the consumers of a pool need not take in turn: each claims the oldest job that nobody has, so no job waits
 * behind a slow consumer. A job has a number that counts up, and a place (number mod size) with one word that says what became
 * of it; all changes of state are one compare-and-swap or store of that word, so a process may die at any instruction:
 *
 *            sv_pool_publish        sv_pool_claim                  sv_pool_done
 *   (older) ────────────────► QUEUED ───────────► CLAIMED by owner ────────────► DONE ──► place and bytes are the producer's again
 *                               ▲                      │
 *                               └─ sv_pool_recover ────┘   its owner is dead and had not begun it
 *
 * The payload lies in the pool's bytes, in order, or, if it is large, in pages of a store. Places and bytes are given back in
 * order; consumers copy a payload and are done with it before they work on it, so that order holds nobody up.
 *
 * Producer: exactly one process, through a `struct sv_pool_writer`; a successor attaches anew. Consumers: any process. What lies in
 * shared memory may be overwritten by a process gone mad: jobs can be lost then, but nobody reads or writes outside of the pool or
 * loops for ever. */
#ifndef SV_SHM_POOL_H
#define SV_SHM_POOL_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "shm/arena.h"
#include "shm/page_store.h"

struct sv_job { /* written by the producer before it is published */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t word; /* number << 24 | enum sv_job_state << 20 | owner */
    uint64_t end;      /* position behind its bytes */
    uint64_t place;    /* position of its bytes, or first page + 1 */
    _Atomic uint32_t length; /* atomic for those who only count */
    uint16_t flags;
    uint8_t is_in_pages;
    _Atomic uint8_t was_lost_once; /* who had begun it died, and it was given out again */
    uint64_t id;
    uint64_t source;
    int64_t stamp_ns;
};
_Static_assert(sizeof(struct sv_job) == SV_CACHE_LINE, "a job's description is one cache line");

struct sv_pool {
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t published; /* producer: number of the next job */
    _Atomic uint64_t freed;                             /* producer: number of the oldest job whose place is not free */
    _Atomic uint64_t bytes_freed;                       /* producer: position before which bytes are free */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t cursor;    /* anyone: version << 40 | number before which nothing is queued */
    _Alignas(SV_CACHE_LINE) _Atomic uint32_t want_space; /* producer sets, who makes space clears */
    uint32_t size;                                      /* bytes, a power of two; jobs: size / 64 */
    _Alignas(SV_CACHE_LINE) unsigned char memory[];     /* jobs, then bytes */
};

struct sv_pool_writer { /* private to the producer */
    struct sv_pool *pool;
    uint32_t size;     /* as the shared one was at first */
    uint32_t endpoint; /* of the producer: whose pages are being filled */
    uint64_t published, freed, bytes_tail, bytes_freed;
};

struct sv_job_copy { /* a claimed job as its consumer has it */
    struct sv_pool *pool;
    uint32_t size;
    uint64_t number;
    uint64_t id, source;
    int64_t stamp_ns;
    uint32_t length, flags;
    uint64_t place;
    bool is_in_pages;
};

/* Bytes of shared memory for a pool with `size` bytes of payload (a power of two, at least 4 KiB). */
size_t sv_pool_bytes(uint32_t size);
void sv_pool_init(struct sv_pool *pool, uint32_t size);
void sv_pool_writer_attach(struct sv_pool_writer *writer, struct sv_pool *pool, uint32_t endpoint);

/* Puts a job in. 0; -EAGAIN: no room now (want_space is set then); -EMSGSIZE: it never fits. */
int sv_pool_put(struct sv_pool_writer *writer, struct sv_page_store *store, uint64_t id, uint64_t source, uint32_t flags,
                int64_t stamp_ns, const void *payload, size_t length);
/* Claims the oldest job that is queued, for the process `owner` (an endpoint). False: there is none. */
bool sv_pool_claim(struct sv_pool *pool, uint32_t owner, struct sv_job_copy *job);
/* Copies the payload of a claimed job to memory of job->length bytes. 0, or -EBADMSG: it was overwritten. */
int sv_pool_copy(const struct sv_job_copy *job, const struct sv_page_store *store, void *target);
/* The job needs nothing here any more. True if the producer waits for space: it should be woken. */
bool sv_pool_done(const struct sv_job_copy *job, struct sv_page_store *store);
/* True if something is queued. Looks only. */
bool sv_pool_has_job(const struct sv_pool *pool);
/* Adds the jobs that are queued, and the bytes of their payloads. */
void sv_pool_count(const struct sv_pool *pool, uint64_t *jobs, uint64_t *bytes);

enum sv_job_fate { SV_JOB_QUEUE_AGAIN, SV_JOB_DROP };
/* After the death of `owner`: asks of each job that it had claimed what is to become of it. */
void sv_pool_recover(struct sv_pool *pool, struct sv_page_store *store, uint32_t owner,
                     enum sv_job_fate (*ask)(void *context, struct sv_job *job), void *context);

#endif
