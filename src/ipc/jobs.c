/* jobs.c: see jobs.h. */
#include "ipc/jobs.h"

#include <errno.h>
#include <stdlib.h>

#define ARENA_LIMIT ((size_t)32 << 30)
#define STORE_BYTES ((size_t)1 << 30) /* large payloads that wait at one time; address space, until it is used */

/* -------------------------------------------------------------------------------------------------------- layout */

size_t sv_jobs_bytes(uint32_t producers, uint32_t consumers, uint32_t pool_size) {
    if (!consumers) return 0;
    size_t pools = (size_t)producers * (consumers + 1);
    size_t boards = (size_t)(consumers + 1) * ((producers + 63) / 64) * sizeof(uint64_t);
    size_t memory = pools * sv_pool_bytes(pool_size);
    return sv_cache_lines(pools * sizeof(uint32_t)) + sv_cache_lines(boards) + (memory < ARENA_LIMIT ? memory : ARENA_LIMIT);
}

int sv_jobs_init(struct sv_jobs *jobs, struct sv_arena *arena, uint32_t producers, uint32_t consumers, uint32_t pool_size) {
    *jobs = (struct sv_jobs){.arena = arena,
                             .producers = producers,
                             .consumers = consumers,
                             .pool_size = pool_size,
                             .words = (producers + 63) / 64};
    if (!consumers) return 0;
    jobs->directory = sv_arena_alloc(arena, (size_t)producers * (consumers + 1) * sizeof(uint32_t));
    jobs->boards = sv_arena_alloc(arena, (size_t)(consumers + 1) * jobs->words * sizeof(uint64_t));
    if (!jobs->directory || !jobs->boards) return -ENOMEM;
    return sv_page_store_map(&jobs->store, STORE_BYTES);
}

void sv_jobs_close(struct sv_jobs *jobs) {
    sv_page_store_unmap(&jobs->store);
    *jobs = (struct sv_jobs){0};
}

static _Atomic uint32_t *entry_of(const struct sv_jobs *jobs, uint32_t producer, int32_t dst) {
    return &jobs->directory[(size_t)producer * (jobs->consumers + 1) + (uint32_t)(dst + 1)];
}

static _Atomic uint64_t *board_of(const struct sv_jobs *jobs, int32_t dst) {
    return jobs->boards + (size_t)(dst + 1) * jobs->words;
}

/* The directory may have been overwritten: an entry that leads outside of the arena leads nowhere. */
static struct sv_pool *pool_of(const struct sv_jobs *jobs, uint32_t producer, int32_t dst) {
    size_t place = (size_t)atomic_load_explicit(entry_of(jobs, producer, dst), memory_order_acquire) * SV_CACHE_LINE;
    if (!place || place + sv_pool_bytes(jobs->pool_size) > jobs->arena->size) return NULL;
    struct sv_pool *pool = (struct sv_pool *)(jobs->arena->base + place);
    return pool->size == jobs->pool_size ? pool : NULL;
}

/* ----------------------------------------------------------------------------------------------------- producing */

int sv_job_producer_open(struct sv_job_producer *producer, const struct sv_jobs *jobs, uint32_t endpoint) {
    *producer = (struct sv_job_producer){.jobs = jobs, .store = jobs->store, .endpoint = endpoint};
    if (!jobs->consumers) return 0;
    producer->writers = calloc(jobs->consumers + 1, sizeof *producer->writers);
    return producer->writers ? 0 : -ENOMEM;
}

void sv_job_producer_close(struct sv_job_producer *producer) {
    free(producer->writers);
    *producer = (struct sv_job_producer){0};
}

static struct sv_pool *make_pool(const struct sv_jobs *jobs, uint32_t producer, int32_t dst) {
    struct sv_pool *pool = sv_arena_alloc(jobs->arena, sv_pool_bytes(jobs->pool_size));
    if (!pool) return NULL;
    sv_pool_init(pool, jobs->pool_size);
    uint32_t place = (uint32_t)((size_t)((unsigned char *)pool - jobs->arena->base) / SV_CACHE_LINE);
    atomic_store_explicit(entry_of(jobs, producer, dst), place, memory_order_release);
    return pool;
}

static struct sv_pool_writer *writer_for(struct sv_job_producer *producer, int32_t dst) {
    struct sv_pool_writer *writer = &producer->writers[dst + 1];
    if (writer->pool) return writer;
    struct sv_pool *pool = pool_of(producer->jobs, producer->endpoint, dst);
    if (!pool) pool = make_pool(producer->jobs, producer->endpoint, dst);
    if (!pool) return NULL;
    sv_pool_writer_attach(writer, pool, producer->endpoint);
    return writer;
}

/* A consumer clears the bit and looks again, so either it sees the job or we see the bit cleared. */
static void mark(_Atomic uint64_t *board, uint32_t producer) {
    uint64_t bit = UINT64_C(1) << (producer & 63);
    atomic_thread_fence(memory_order_seq_cst);
    if (!(atomic_load_explicit(&board[producer >> 6], memory_order_relaxed) & bit)) atomic_fetch_or(&board[producer >> 6], bit);
}

int sv_jobs_put(struct sv_job_producer *producer, int32_t dst, uint64_t id, uint64_t source, uint32_t flags, int64_t stamp_ns,
                const void *payload, size_t length) {
    struct sv_pool_writer *writer = writer_for(producer, dst);
    if (!writer) return -ENOMEM;
    int result = sv_pool_put(writer, &producer->store, id, source, flags, stamp_ns, payload, length);
    if (result == 0) mark(board_of(producer->jobs, dst), producer->endpoint);
    return result;
}

/* ----------------------------------------------------------------------------------------------------- consuming */

void sv_job_consumer_open(struct sv_job_consumer *consumer, const struct sv_jobs *jobs, uint32_t endpoint, int32_t number) {
    *consumer = (struct sv_job_consumer){.jobs = jobs, .store = jobs->store, .owner = endpoint, .number = number};
}

static bool claim_from(const struct sv_job_consumer *consumer, uint32_t producer, int32_t dst, struct sv_job_copy *job) {
    struct sv_pool *pool = pool_of(consumer->jobs, producer, dst);
    return pool && sv_pool_claim(pool, consumer->owner, job);
}

/* Looks into the pools whose bits are set, from *next on, so that none is served before the others for ever. */
static bool take_from(const struct sv_job_consumer *consumer, int32_t dst, uint32_t *next, struct sv_job_copy *job, uint32_t *producer,
                      bool *was_hidden) {
    const struct sv_jobs *jobs = consumer->jobs;
    _Atomic uint64_t *board = board_of(jobs, dst);
    for (uint32_t i = 0; i < jobs->producers; i++) {
        uint32_t at = (*next + i) % jobs->producers;
        uint64_t bit = UINT64_C(1) << (at & 63);
        if (!(atomic_load_explicit(&board[at >> 6], memory_order_acquire) & bit)) continue;
        if (!claim_from(consumer, at, dst, job)) {
            atomic_fetch_and(&board[at >> 6], ~bit);
            atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in mark */
            if (!claim_from(consumer, at, dst, job)) continue;
            atomic_fetch_or(&board[at >> 6], bit);
            *was_hidden = dst == SV_JOB_ANY;
        }
        *next = (at + 1) % jobs->producers;
        *producer = at;
        return true;
    }
    return false;
}

bool sv_jobs_take(struct sv_job_consumer *consumer, struct sv_job_copy *job, uint32_t *producer, bool *was_hidden) {
    *was_hidden = false;
    bool is_own_first = consumer->takes_own_first;
    consumer->takes_own_first = !is_own_first;
    for (int i = 0; i < 2; i++) {
        bool is_own = (i == 0) == is_own_first;
        int32_t dst = is_own ? consumer->number : SV_JOB_ANY;
        if (take_from(consumer, dst, &consumer->next_producer[is_own], job, producer, was_hidden)) return true;
    }
    return false;
}

bool sv_jobs_are_there(const struct sv_job_consumer *consumer) {
    const struct sv_jobs *jobs = consumer->jobs;
    const _Atomic uint64_t *own = board_of(jobs, consumer->number), *common = board_of(jobs, SV_JOB_ANY);
    for (uint32_t i = 0; i < jobs->words; i++)
        if (atomic_load_explicit(&own[i], memory_order_acquire) || atomic_load_explicit(&common[i], memory_order_acquire)) return true;
    return false;
}

/* ---------------------------------------------------------------------------------------------------- all of them */

void sv_jobs_recover(const struct sv_jobs *jobs, uint32_t owner, enum sv_job_fate (*ask)(void *context, struct sv_job *job),
                     void *context) {
    struct sv_page_store store = jobs->store;
    for (uint32_t producer = 0; producer < jobs->producers; producer++)
        for (int32_t dst = -1; dst < (int32_t)jobs->consumers; dst++) {
            struct sv_pool *pool = pool_of(jobs, producer, dst);
            if (!pool) continue;
            sv_pool_recover(pool, &store, owner, ask, context);
            if (sv_pool_has_job(pool)) mark(board_of(jobs, dst), producer);
        }
    sv_pages_give_back_of(&store, owner);
}

void sv_jobs_count(const struct sv_jobs *jobs, uint64_t *count, uint64_t *bytes) {
    *count = *bytes = 0;
    for (uint32_t producer = 0; producer < jobs->producers; producer++)
        for (int32_t dst = -1; jobs->consumers && dst < (int32_t)jobs->consumers; dst++) {
            const struct sv_pool *pool = pool_of(jobs, producer, dst);
            if (pool) sv_pool_count(pool, count, bytes);
        }
}
