/* jobs.h: how tasks get from whoever gives them to the task workers: pools in shared memory, and boards that tell where to look.
 *
 * Each process that gives tasks ("producer", an endpoint) has up to one pool that any task worker takes from, and one per task
 * worker for tasks that are meant for that one; each is made when it is first used. A board is a set of bits, one per producer:
 * the pool of that producer may have something. There is one board for all, and one per task worker.
 *
 *   sv_jobs_put:   pool ← job;  board's bit ← 1;  the caller wakes a task worker that sleeps
 *   sv_jobs_take:  own board and common board in turns → pool → claim; a pool found empty clears its bit and is looked at again
 *
 * runs in: the handles are private to a process. Nothing here blocks or makes a system call, but for large payloads (madvise). */
#ifndef SV_IPC_JOBS_H
#define SV_IPC_JOBS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/endpoint.h"
#include "shm/arena.h"
#include "shm/pool.h"

#define SV_JOB_ANY (-1) /* a destination: whoever is free first */

struct sv_jobs { /* the layout; made before the first fork, a private copy in each process */
    struct sv_arena *arena;
    struct sv_page_store store;
    uint32_t producers; /* endpoints */
    uint32_t consumers; /* task workers */
    uint32_t pool_size;
    uint32_t words; /* of a board */
    _Atomic uint32_t *directory; /* [producer * (consumers + 1) + dst + 1]: pool's offset in the arena / 64, 0 = none yet */
    _Atomic uint64_t *boards;    /* [(dst + 1) * words]: bits by producer */
};

struct sv_job_producer {
    const struct sv_jobs *jobs;
    struct sv_page_store store;
    uint32_t endpoint;
    struct sv_pool_writer *writers; /* [consumers + 1], .pool NULL until first used */
};

struct sv_job_consumer {
    const struct sv_jobs *jobs;
    struct sv_page_store store;
    uint32_t owner;            /* endpoint that claims */
    int32_t number;            /* of the task worker */
    bool takes_own_first;      /* changes with each job */
    uint32_t next_producer[2]; /* where to look first: common, own */
};

/* Bytes of arena for the layout and the pools, as far as address space is not a matter. */
size_t sv_jobs_bytes(uint32_t producers, uint32_t consumers, uint32_t pool_size);
/* Before the first fork. 0 or -errno. Without consumers nothing is made. */
int sv_jobs_init(struct sv_jobs *jobs, struct sv_arena *arena, uint32_t producers, uint32_t consumers, uint32_t pool_size);
void sv_jobs_close(struct sv_jobs *jobs);

/* 0 or -ENOMEM. */
int sv_job_producer_open(struct sv_job_producer *producer, const struct sv_jobs *jobs, uint32_t endpoint);
void sv_job_producer_close(struct sv_job_producer *producer);
/* Gives a job to a task worker, or to any (SV_JOB_ANY). 0; -EAGAIN: no room now; -EMSGSIZE: too large; -ENOMEM. */
int sv_jobs_put(struct sv_job_producer *producer, int32_t dst, uint64_t id, uint64_t source, uint32_t flags, int64_t stamp_ns,
                const void *payload, size_t length);

void sv_job_consumer_open(struct sv_job_consumer *consumer, const struct sv_jobs *jobs, uint32_t endpoint, int32_t number);
/* Claims the next job; the caller copies it (sv_pool_copy) and says when it needs nothing there any more (sv_pool_done).
 * *producer: whose it is. *was_hidden: the board did not show for a moment that its pool has something, so another consumer may
 * have fallen asleep over what is left there: wake one. False: there is none. */
bool sv_jobs_take(struct sv_job_consumer *consumer, struct sv_job_copy *job, uint32_t *producer, bool *was_hidden);
/* True if there may be something for this consumer. Looks only. */
bool sv_jobs_are_there(const struct sv_job_consumer *consumer);

/* Goes through all pools, with what sv_pool_recover() says. After the death of `owner`. */
void sv_jobs_recover(const struct sv_jobs *jobs, uint32_t owner, enum sv_job_fate (*ask)(void *context, struct sv_job *job),
                     void *context);
/* What is queued everywhere. */
void sv_jobs_count(const struct sv_jobs *jobs, uint64_t *count, uint64_t *bytes);

#endif
