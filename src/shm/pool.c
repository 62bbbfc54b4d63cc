/* pool.c: see pool.h. Numbers are cut to 40 bits in words; they are only compared for equality there. */
#include "shm/pool.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

#define NUMBER_BITS 40
#define NUMBER_MASK ((UINT64_C(1) << NUMBER_BITS) - 1)
#define OWNER_MASK ((UINT64_C(1) << 20) - 1)
#define ALIGNMENT 16u

enum job_state { QUEUED = 1, CLAIMED = 2, DONE = 3 };

static uint64_t word(uint64_t number, enum job_state state, uint32_t owner) {
    return (number & NUMBER_MASK) << 24 | (uint64_t)state << 20 | (owner & OWNER_MASK);
}

static uint64_t number_of(uint64_t of) {
    return of >> 24;
}

static enum job_state state_of(uint64_t of) {
    return (enum job_state)(of >> 20 & 15);
}

/* -------------------------------------------------------------------------------------------------------- layout */

static uint32_t jobs_in(uint32_t size) {
    return size / (uint32_t)sizeof(struct sv_job);
}

static struct sv_job *job_at(const struct sv_pool *pool, uint32_t size, uint64_t number) {
    return (struct sv_job *)(uintptr_t)pool->memory + (number & (jobs_in(size) - 1));
}

static unsigned char *bytes_at(const struct sv_pool *pool, uint32_t size, uint64_t position) {
    return (unsigned char *)(uintptr_t)pool->memory + size + (position & (size - 1));
}

size_t sv_pool_bytes(uint32_t size) {
    return sv_cache_lines(sizeof(struct sv_pool) + 2 * (size_t)size);
}

void sv_pool_init(struct sv_pool *pool, uint32_t size) {
    assert(size >= 4096 && (size & (size - 1)) == 0);
    pool->size = size;
    uint64_t first = jobs_in(size); /* so that an untouched place is not the first job's */
    atomic_store(&pool->published, first);
    atomic_store(&pool->freed, first);
    atomic_store(&pool->cursor, first);
}

/* ------------------------------------------------------------------------------------------------------ producing */

static bool is_published(const struct sv_pool *pool, uint32_t size, uint64_t number) {
    return number_of(atomic_load_explicit(&job_at(pool, size, number)->word, memory_order_acquire)) == (number & NUMBER_MASK);
}

void sv_pool_writer_attach(struct sv_pool_writer *writer, struct sv_pool *pool, uint32_t endpoint) {
    uint32_t size = pool->size;
    *writer = (struct sv_pool_writer){.pool = pool,
                                      .size = size,
                                      .endpoint = endpoint,
                                      .published = atomic_load(&pool->published),
                                      .freed = atomic_load(&pool->freed),
                                      .bytes_freed = atomic_load(&pool->bytes_freed)};
    if (is_published(pool, size, writer->published)) writer->published++; /* a predecessor died before it had counted it */
    if (writer->published - writer->freed > jobs_in(size)) writer->freed = writer->published; /* overwritten */
    atomic_store(&pool->published, writer->published);
    writer->bytes_tail = writer->bytes_freed;
    for (uint64_t i = writer->freed; i < writer->published; i++)
        if (job_at(pool, size, i)->end > writer->bytes_tail) writer->bytes_tail = job_at(pool, size, i)->end;
}

/* Takes back what consumers are done with. */
static void take_back(struct sv_pool_writer *writer) {
    struct sv_pool *pool = writer->pool;
    uint64_t freed = writer->freed;
    while (freed < writer->published) {
        const struct sv_job *job = job_at(pool, writer->size, freed);
        if (state_of(atomic_load_explicit(&job->word, memory_order_acquire)) != DONE) break;
        writer->bytes_freed = job->end;
        freed++;
    }
    if (freed == writer->freed) return;
    writer->freed = freed;
    atomic_store_explicit(&pool->bytes_freed, writer->bytes_freed, memory_order_relaxed);
    atomic_store_explicit(&pool->freed, freed, memory_order_relaxed);
    /* A successor must not find places that are being filled again among those that are not free. Killed is killed between two
     * instructions, so only the compiler has to keep the order. */
    atomic_signal_fence(memory_order_seq_cst);
}

/* Where `length` bytes may lie, contiguous; false: there is no room. */
static bool find_bytes(const struct sv_pool_writer *writer, uint32_t length, uint64_t *place, uint64_t *end) {
    uint32_t size = writer->size, span = (length + ALIGNMENT - 1) & ~(ALIGNMENT - 1);
    uint64_t from = writer->bytes_tail;
    uint32_t before_wrap = size - (uint32_t)(from & (size - 1));
    if (span > before_wrap) from += before_wrap;
    if (from + span - writer->bytes_freed > size) return false;
    *place = from;
    *end = from + span;
    return true;
}

static bool has_place(const struct sv_pool_writer *writer) {
    return writer->published - writer->freed < jobs_in(writer->size);
}

static int fill(struct sv_pool_writer *writer, struct sv_page_store *store, struct sv_job *job, const void *payload, size_t length) {
    job->is_in_pages = length > writer->size / 4;
    job->end = writer->bytes_tail;
    if (job->is_in_pages) {
        uint32_t first = sv_pages_fill(store, writer->endpoint, payload, length);
        job->place = first;
        return first ? 0 : -EAGAIN;
    }
    if (!find_bytes(writer, (uint32_t)length, &job->place, &job->end)) {
        take_back(writer);
        if (!find_bytes(writer, (uint32_t)length, &job->place, &job->end)) return -EAGAIN;
    }
    if (length) memcpy(bytes_at(writer->pool, writer->size, job->place), payload, length);
    return 0;
}

static int try_put(struct sv_pool_writer *writer, struct sv_page_store *store, uint64_t id, uint64_t source, uint32_t flags,
                   int64_t stamp_ns, const void *payload, size_t length) {
    struct sv_pool *pool = writer->pool;
    if (!has_place(writer)) take_back(writer);
    if (!has_place(writer)) return -EAGAIN;
    struct sv_job *job = job_at(pool, writer->size, writer->published);
    int result = fill(writer, store, job, payload, length);
    if (result) return result;
    atomic_store_explicit(&job->length, (uint32_t)length, memory_order_relaxed);
    job->flags = (uint16_t)flags;
    atomic_store_explicit(&job->was_lost_once, 0, memory_order_relaxed);
    job->id = id;
    job->source = source;
    job->stamp_ns = stamp_ns;
    if (job->is_in_pages) sv_pages_hand_on(store, (uint32_t)job->place);
    writer->bytes_tail = job->end;
    atomic_store_explicit(&job->word, word(writer->published, QUEUED, 0), memory_order_release);
    writer->published++;
    atomic_store_explicit(&pool->published, writer->published, memory_order_release);
    return 0;
}

int sv_pool_put(struct sv_pool_writer *writer, struct sv_page_store *store, uint64_t id, uint64_t source, uint32_t flags,
                int64_t stamp_ns, const void *payload, size_t length) {
    if (length > UINT32_MAX || (length > writer->size / 4 && length > (size_t)store->count * SV_PAGE_BYTES)) return -EMSGSIZE;
    int result = try_put(writer, store, id, source, flags, stamp_ns, payload, length);
    if (result != -EAGAIN) return result;
    atomic_store_explicit(&writer->pool->want_space, 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in set_done */
    return try_put(writer, store, id, source, flags, stamp_ns, payload, length); /* space made before that was seen */
}

/* ------------------------------------------------------------------------------------------------------ consuming */

/* The cursor goes on from exactly what it was: should jobs before it be queued again meanwhile, its version has changed. */
static void advance(struct sv_pool *pool, uint64_t cursor) {
    uint64_t next = (cursor & ~NUMBER_MASK) | ((cursor + 1) & NUMBER_MASK);
    atomic_compare_exchange_strong_explicit(&pool->cursor, &cursor, next, memory_order_acq_rel, memory_order_relaxed);
}

/* Whoever wrote it may have gone mad: sv_pool_copy() checks what it says. */
static void describe(struct sv_pool *pool, uint32_t size, uint64_t number, const struct sv_job *job, struct sv_job_copy *copy) {
    *copy = (struct sv_job_copy){.pool = pool,
                                 .size = size,
                                 .number = number,
                                 .id = job->id,
                                 .source = job->source,
                                 .stamp_ns = job->stamp_ns,
                                 .length = atomic_load_explicit(&job->length, memory_order_relaxed),
                                 .flags = job->flags,
                                 .place = job->place,
                                 .is_in_pages = job->is_in_pages};
}

/* Each step is a job that this or another consumer is past, so a few rounds end only where words were overwritten. */
bool sv_pool_claim(struct sv_pool *pool, uint32_t owner, struct sv_job_copy *copy) {
    uint32_t size = pool->size;
    for (uint32_t step = 0; step < 4 * jobs_in(size); step++) {
        uint64_t cursor = atomic_load_explicit(&pool->cursor, memory_order_acquire);
        uint64_t number = cursor & NUMBER_MASK;
        struct sv_job *job = job_at(pool, size, number);
        uint64_t found = atomic_load_explicit(&job->word, memory_order_acquire);
        if (number_of(found) == ((number - jobs_in(size)) & NUMBER_MASK) || found == 0) return false; /* not published yet */
        bool is_queued = number_of(found) == number && state_of(found) == QUEUED;
        bool is_ours = is_queued && atomic_compare_exchange_strong_explicit(&job->word, &found, word(number, CLAIMED, owner),
                                                                            memory_order_acq_rel, memory_order_relaxed);
        if (is_ours) describe(pool, size, number, job, copy);
        advance(pool, cursor);
        if (is_ours) return true;
    }
    return false;
}

int sv_pool_copy(const struct sv_job_copy *job, const struct sv_page_store *store, void *target) {
    if (job->is_in_pages) return sv_pages_copy(store, (uint32_t)job->place, target, job->length);
    if ((job->place & (job->size - 1)) + job->length > job->size) return -EBADMSG;
    if (job->length) memcpy(target, bytes_at(job->pool, job->size, job->place), job->length);
    return 0;
}

static bool set_done(struct sv_pool *pool, struct sv_job *job, uint64_t number, struct sv_page_store *store, uint32_t pages) {
    atomic_store_explicit(&job->word, word(number, DONE, 0), memory_order_release);
    if (pages) sv_pages_give_back(store, pages);
    atomic_thread_fence(memory_order_seq_cst); /* either the producer sees the space, or we see that it wants some */
    return atomic_load_explicit(&pool->want_space, memory_order_relaxed) && atomic_exchange(&pool->want_space, 0);
}

bool sv_pool_done(const struct sv_job_copy *job, struct sv_page_store *store) {
    struct sv_job *shared = job_at(job->pool, job->size, job->number);
    return set_done(job->pool, shared, job->number, store, job->is_in_pages ? (uint32_t)job->place : 0);
}

bool sv_pool_has_job(const struct sv_pool *pool) {
    uint64_t cursor = atomic_load_explicit(&pool->cursor, memory_order_acquire);
    uint64_t published = atomic_load_explicit(&pool->published, memory_order_acquire) & NUMBER_MASK;
    return (cursor & NUMBER_MASK) != published || is_published(pool, pool->size, cursor & NUMBER_MASK);
}

/* Not from numbers that count up: a recovery sets the cursor back before jobs that were done long ago. */
void sv_pool_count(const struct sv_pool *pool, uint64_t *jobs, uint64_t *bytes) {
    uint32_t size = pool->size;
    uint64_t first = atomic_load(&pool->cursor) & NUMBER_MASK;
    for (uint64_t i = 0; i < jobs_in(size); i++) {
        uint64_t number = (first + i) & NUMBER_MASK;
        const struct sv_job *job = job_at(pool, size, number);
        uint64_t found = atomic_load_explicit(&job->word, memory_order_acquire);
        if (number_of(found) != number) break;
        if (state_of(found) != QUEUED) continue;
        *jobs += 1;
        *bytes += atomic_load_explicit(&job->length, memory_order_relaxed);
    }
}

/* ----------------------------------------------------------------------------------------------------- recovering */

/* The cursor is set back so far, and its version counts up whether that was needed or not. */
static void set_back(struct sv_pool *pool, uint32_t size, uint64_t number) {
    uint64_t cursor = atomic_load(&pool->cursor), next;
    do {
        uint64_t behind = ((cursor & NUMBER_MASK) - number) & NUMBER_MASK;
        uint64_t to = behind <= jobs_in(size) ? number & NUMBER_MASK : cursor & NUMBER_MASK;
        next = ((cursor & ~NUMBER_MASK) + (UINT64_C(1) << NUMBER_BITS)) | to;
    } while (!atomic_compare_exchange_weak(&pool->cursor, &cursor, next));
}

void sv_pool_recover(struct sv_pool *pool, struct sv_page_store *store, uint32_t owner,
                     enum sv_job_fate (*ask)(void *context, struct sv_job *job), void *context) {
    uint32_t size = pool->size;
    uint64_t freed = atomic_load(&pool->freed);
    for (uint64_t i = 0; i < jobs_in(size); i++) {
        uint64_t number = freed + i;
        struct sv_job *job = job_at(pool, size, number);
        uint64_t found = atomic_load(&job->word);
        if (found != word(number, CLAIMED, owner)) continue;
        if (ask(context, job) == SV_JOB_DROP) {
            set_done(pool, job, number, store, job->is_in_pages ? (uint32_t)job->place : 0);
            continue;
        }
        atomic_store(&job->word, word(number, QUEUED, 0));
        set_back(pool, size, number);
    }
}
