/* Pools: jobs and their order, the wrap, being full, payloads in pages, recovery, and processes that are killed at any instant. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/pool.h"
#include "unit.h"

#define SMALL 4096u
#define PLACES (SMALL / 64)
#define PRODUCER 5u
#define PAGES 64u

static void *shared_memory(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory != MAP_FAILED) return memory;
    perror("mmap");
    exit(1);
}

struct fixture {
    struct sv_pool *pool;
    struct sv_pool_writer writer;
    struct sv_page_store store;
    unsigned char bytes[PAGES * SV_PAGE_BYTES];
};

static struct fixture *set_up(uint32_t size) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    fixture->pool = shared_memory(sv_pool_bytes(size));
    sv_pool_init(fixture->pool, size);
    if (sv_page_store_map(&fixture->store, PAGES * SV_PAGE_BYTES)) exit(1);
    sv_pool_writer_attach(&fixture->writer, fixture->pool, PRODUCER);
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    munmap(fixture->pool, sv_pool_bytes(fixture->writer.size));
    sv_page_store_unmap(&fixture->store);
    free(fixture);
}

static int put(struct fixture *fixture, uint64_t id, size_t length) {
    memset(fixture->bytes, (int)(id & 0xff), length);
    return sv_pool_put(&fixture->writer, &fixture->store, id, 7, 3, 42, fixture->bytes, length);
}

/* Job `id` is claimed by `owner`, and whole. */
static bool claimed(struct fixture *fixture, uint32_t owner, uint64_t id, size_t length, struct sv_job_copy *job) {
    if (!sv_pool_claim(fixture->pool, owner, job) || job->id != id || job->length != length) return false;
    if (sv_pool_copy(job, &fixture->store, fixture->bytes)) return false;
    for (size_t i = 0; i < length; i++)
        if (fixture->bytes[i] != (id & 0xff)) return false;
    return true;
}

/* The next job is `id`, which is done then. */
static bool got(struct fixture *fixture, uint64_t id, size_t length) {
    struct sv_job_copy job;
    if (!claimed(fixture, 1, id, length, &job)) return false;
    sv_pool_done(&job, &fixture->store);
    return true;
}

static bool is_empty(const struct fixture *fixture) {
    struct sv_job_copy job;
    return !sv_pool_claim(fixture->pool, 1, &job);
}

static uint32_t pages_taken(const struct sv_page_store *store) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < store->count; i++) count += atomic_load(&store->pages[i].owner) != 0;
    return count;
}

TEST(an_empty_pool_has_nothing) {
    struct fixture *fixture = set_up(SMALL);
    CHECK(is_empty(fixture) && !sv_pool_has_job(fixture->pool));
    tear_down(fixture);
}

TEST(jobs_come_in_order_with_all_members) {
    struct fixture *fixture = set_up(SMALL);
    CHECK(sv_pool_put(&fixture->writer, &fixture->store, UINT64_C(1) << 40, UINT64_MAX, 255, -9, "a\0b", 3) == 0);
    CHECK(put(fixture, 2, 0) == 0 && put(fixture, 3, 100) == 0);
    CHECK(sv_pool_has_job(fixture->pool));
    struct sv_job_copy job;
    char bytes[3];
    CHECK(sv_pool_claim(fixture->pool, 1, &job) && job.id == UINT64_C(1) << 40 && job.source == UINT64_MAX);
    CHECK(job.flags == 255 && job.stamp_ns == -9 && job.length == 3);
    CHECK(sv_pool_copy(&job, &fixture->store, bytes) == 0 && memcmp(bytes, "a\0b", 3) == 0);
    CHECK(!sv_pool_done(&job, &fixture->store)); /* nobody waits for space */
    CHECK(got(fixture, 2, 0) && got(fixture, 3, 100) && is_empty(fixture) && !sv_pool_has_job(fixture->pool));
    tear_down(fixture);
}

TEST(every_length_passes_the_wrap) {
    struct fixture *fixture = set_up(SMALL);
    for (uint32_t length = 0; length <= SMALL / 4; length++)
        if (!CHECK(put(fixture, length, length) == 0 && got(fixture, length, length))) break;
    CHECK(pages_taken(&fixture->store) == 0);
    tear_down(fixture);
}

TEST(the_largest_payload_fits_wherever_an_empty_pool_stands) {
    for (uint32_t before = 0; before <= SMALL / 16; before++) {
        struct fixture *fixture = set_up(SMALL);
        for (uint32_t i = 0; i < before; i++) CHECK(put(fixture, i, 16) == 0 && got(fixture, i, 16));
        CHECK(put(fixture, 9, SMALL / 4) == 0 && got(fixture, 9, SMALL / 4));
        tear_down(fixture);
    }
}

TEST(a_full_pool_refuses_and_who_makes_space_is_told_once) {
    struct fixture *fixture = set_up(SMALL);
    uint64_t count = 0;
    while (put(fixture, count, 512) == 0) count++;
    CHECK(count == SMALL / 512 && put(fixture, count, 512) == -EAGAIN);
    CHECK(atomic_load(&fixture->pool->want_space) == 1);
    struct sv_job_copy first, second;
    CHECK(claimed(fixture, 1, 0, 512, &first) && claimed(fixture, 2, 1, 512, &second));
    CHECK(put(fixture, count, 512) == -EAGAIN);     /* claimed is not done */
    CHECK(sv_pool_done(&first, &fixture->store));   /* the producer is to be woken, */
    CHECK(!sv_pool_done(&second, &fixture->store)); /* once */
    CHECK(put(fixture, count, 512) == 0 && put(fixture, count + 1, 512) == 0 && put(fixture, count + 2, 512) == -EAGAIN);
    for (uint64_t id = 2; id < count + 2; id++) CHECK(got(fixture, id, 512));
    tear_down(fixture);
}

TEST(places_may_be_used_up_before_bytes) {
    struct fixture *fixture = set_up(SMALL);
    for (uint64_t id = 0; id < PLACES; id++) CHECK(put(fixture, id, id % 2) == 0);
    CHECK(put(fixture, PLACES, 0) == -EAGAIN);
    CHECK(got(fixture, 0, 0) && put(fixture, PLACES, 0) == 0 && put(fixture, PLACES + 1, 0) == -EAGAIN);
    for (uint64_t id = 1; id < PLACES; id++) CHECK(got(fixture, id, id % 2));
    CHECK(got(fixture, PLACES, 0) && is_empty(fixture));
    tear_down(fixture);
}

TEST(what_is_done_out_of_order_is_free_when_all_before_it_is) {
    struct fixture *fixture = set_up(SMALL);
    struct sv_job_copy jobs[4];
    for (uint64_t id = 0; id < 4; id++) CHECK(put(fixture, id, SMALL / 4) == 0);
    for (uint64_t id = 0; id < 4; id++) CHECK(claimed(fixture, (uint32_t)id, id, SMALL / 4, &jobs[id]));
    for (int i = 3; i > 0; i--) sv_pool_done(&jobs[i], &fixture->store);
    CHECK(put(fixture, 4, SMALL / 4) == -EAGAIN);
    CHECK(sv_pool_copy(&jobs[0], &fixture->store, fixture->bytes) == 0 && fixture->bytes[100] == 0);
    CHECK(sv_pool_done(&jobs[0], &fixture->store));
    for (uint64_t id = 4; id < 8; id++) CHECK(put(fixture, id, SMALL / 4) == 0);
    for (uint64_t id = 4; id < 8; id++) CHECK(got(fixture, id, SMALL / 4));
    tear_down(fixture);
}

TEST(what_is_queued_is_counted) {
    struct fixture *fixture = set_up(SMALL);
    uint64_t jobs = 10, bytes = 10; /* it adds */
    struct sv_job_copy job;
    for (uint64_t id = 0; id < 3; id++) CHECK(put(fixture, id, 100 * id) == 0);
    sv_pool_count(fixture->pool, &jobs, &bytes);
    CHECK(jobs == 13 && bytes == 310);
    CHECK(sv_pool_claim(fixture->pool, 1, &job));
    jobs = bytes = 0;
    sv_pool_count(fixture->pool, &jobs, &bytes);
    CHECK(jobs == 2 && bytes == 300);
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------- large payloads */

TEST(large_payloads_lie_in_pages_and_keep_their_turn) {
    struct fixture *fixture = set_up(SMALL);
    static const size_t lengths[] = {SMALL / 4 + 1, SV_PAGE_BYTES, SV_PAGE_BYTES + 1, 10 * SV_PAGE_BYTES - 1};
    for (uint64_t id = 0; id < 8; id++) CHECK(put(fixture, id, id % 2 ? 5 : lengths[id / 2]) == 0);
    CHECK(pages_taken(&fixture->store) == 1 + 1 + 2 + 10);
    for (uint64_t id = 0; id < 8; id++) CHECK(got(fixture, id, id % 2 ? 5 : lengths[id / 2]));
    CHECK(pages_taken(&fixture->store) == 0);
    tear_down(fixture);
}

TEST(pages_that_are_used_up_are_waited_for_and_what_never_fits_is_told) {
    struct fixture *fixture = set_up(SMALL);
    const size_t most = PAGES * SV_PAGE_BYTES;
    CHECK(put(fixture, 1, most) == 0);
    CHECK(put(fixture, 2, SMALL) == -EAGAIN && pages_taken(&fixture->store) == PAGES);
    CHECK(put(fixture, 2, 5) == 0); /* small ones need none */
    CHECK(sv_pool_put(&fixture->writer, &fixture->store, 3, 0, 0, 0, fixture->bytes, most + 1) == -EMSGSIZE);
    CHECK(got(fixture, 1, most) && got(fixture, 2, 5) && put(fixture, 4, most) == 0 && got(fixture, 4, most));
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------------- recovery */

struct fates {
    enum sv_job_fate fate;
    uint64_t asked[8];
    int count;
};

static enum sv_job_fate ask(void *context, struct sv_job *job) {
    struct fates *fates = context;
    fates->asked[fates->count++ & 7] = job->id;
    return fates->fate;
}

TEST(what_a_dead_consumer_had_claimed_comes_next_in_its_order) {
    struct fixture *fixture = set_up(SMALL);
    struct fates fates = {.fate = SV_JOB_QUEUE_AGAIN};
    struct sv_job_copy dead, living;
    for (uint64_t id = 0; id < 6; id++) CHECK(put(fixture, id, id == 2 ? SV_PAGE_BYTES : 9) == 0);
    CHECK(claimed(fixture, 1, 0, 9, &dead) && claimed(fixture, 2, 1, 9, &living));
    CHECK(claimed(fixture, 1, 2, SV_PAGE_BYTES, &dead) && claimed(fixture, 2, 3, 9, &living));
    sv_pool_recover(fixture->pool, &fixture->store, 1, ask, &fates);
    CHECK(fates.count == 2 && fates.asked[0] == 0 && fates.asked[1] == 2);
    CHECK(sv_pool_has_job(fixture->pool));
    uint64_t jobs = 0, bytes = 0;
    sv_pool_count(fixture->pool, &jobs, &bytes);
    CHECK(jobs == 4 && bytes == 9 + SV_PAGE_BYTES + 9 + 9);
    CHECK(got(fixture, 0, 9) && got(fixture, 2, SV_PAGE_BYTES) && got(fixture, 4, 9) && got(fixture, 5, 9) && is_empty(fixture));
    tear_down(fixture);
}

TEST(what_is_dropped_in_recovery_gives_its_space_back) {
    struct fixture *fixture = set_up(SMALL);
    struct fates fates = {.fate = SV_JOB_DROP};
    struct sv_job_copy job;
    CHECK(put(fixture, 0, SV_PAGE_BYTES) == 0);
    for (uint64_t id = 1; id < PLACES; id++) CHECK(put(fixture, id, 0) == 0);
    CHECK(put(fixture, PLACES, 0) == -EAGAIN && claimed(fixture, 1, 0, SV_PAGE_BYTES, &job));
    sv_pool_recover(fixture->pool, &fixture->store, 1, ask, &fates);
    CHECK(fates.count == 1 && pages_taken(&fixture->store) == 0);
    CHECK(put(fixture, PLACES, 0) == 0);
    for (uint64_t id = 1; id <= PLACES; id++) CHECK(got(fixture, id, 0));
    tear_down(fixture);
}

TEST(the_jobs_of_others_and_those_that_are_done_are_not_asked_about) {
    struct fixture *fixture = set_up(SMALL);
    struct fates fates = {.fate = SV_JOB_QUEUE_AGAIN};
    struct sv_job_copy jobs[3];
    for (uint64_t id = 0; id < 3; id++) CHECK(put(fixture, id, 0) == 0 && claimed(fixture, (uint32_t)id, id, 0, &jobs[id]));
    sv_pool_done(&jobs[1], &fixture->store);
    sv_pool_recover(fixture->pool, &fixture->store, 1, ask, &fates);
    sv_pool_recover(fixture->pool, &fixture->store, 3, ask, &fates);
    CHECK(fates.count == 0 && is_empty(fixture));
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------ a producer's successor */

TEST(a_successor_goes_on_behind_what_was_published) {
    struct fixture *fixture = set_up(SMALL);
    for (uint64_t id = 0; id < 3; id++) CHECK(put(fixture, id, 1000) == 0);
    CHECK(got(fixture, 0, 1000));
    atomic_fetch_sub(&fixture->pool->published, 1); /* it died right before it counted the third one */
    CHECK(sv_pool_has_job(fixture->pool));
    sv_pool_writer_attach(&fixture->writer, fixture->pool, PRODUCER);
    CHECK(put(fixture, 3, 1000) == 0 && put(fixture, 4, 1000) == 0 && put(fixture, 5, 1000) == -EAGAIN);
    for (uint64_t id = 1; id < 5; id++) CHECK(got(fixture, id, 1000));
    CHECK(is_empty(fixture));
    tear_down(fixture);
}

TEST(what_was_not_published_was_never_there) {
    struct fixture *fixture = set_up(SMALL);
    CHECK(put(fixture, 0, 10) == 0);
    struct sv_pool_writer writer = fixture->writer;
    CHECK(put(fixture, 1, 10) == 0);
    struct sv_job *job = (struct sv_job *)fixture->pool->memory + (writer.published & (PLACES - 1));
    atomic_store(&job->word, 0); /* all was written but the word; then it died */
    atomic_store(&fixture->pool->published, writer.published);
    sv_pool_writer_attach(&fixture->writer, fixture->pool, PRODUCER);
    CHECK(put(fixture, 2, 20) == 0 && got(fixture, 0, 10) && got(fixture, 2, 20) && is_empty(fixture));
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------------- bad peers */

TEST(a_pool_that_was_overwritten_ends_every_loop) {
    srand(3);
    for (int round = 0; round < 50; round++) {
        struct fixture *fixture = set_up(SMALL);
        struct fates fates = {.fate = round & 1 ? SV_JOB_DROP : SV_JOB_QUEUE_AGAIN};
        struct sv_job_copy job;
        for (uint64_t id = 0; id < 20; id++) put(fixture, id, 30);
        unsigned char *from = (unsigned char *)fixture->pool;
        for (size_t i = 0; i < sv_pool_bytes(SMALL); i++)
            if (rand() % 4 == 0) from[i] = (unsigned char)rand();
        fixture->pool->size = SMALL; /* who looks pools up compares it (ipc/jobs.c) */
        for (int i = 0; i < 100; i++) {
            if (sv_pool_claim(fixture->pool, 1, &job) && job.length <= sizeof fixture->bytes) {
                sv_pool_copy(&job, &fixture->store, fixture->bytes);
                sv_pool_done(&job, &fixture->store);
            }
            put(fixture, 5, 30);
        }
        uint64_t jobs = 0, bytes = 0;
        sv_pool_count(fixture->pool, &jobs, &bytes);
        CHECK(jobs <= PLACES);
        sv_pool_recover(fixture->pool, &fixture->store, 1, ask, &fates);
        sv_pool_writer_attach(&fixture->writer, fixture->pool, PRODUCER);
        tear_down(fixture);
    }
}

TEST(a_payload_is_never_read_beyond_the_pool) {
    struct fixture *fixture = set_up(SMALL);
    struct sv_job_copy job;
    CHECK(put(fixture, 1, 100) == 0 && sv_pool_claim(fixture->pool, 1, &job));
    job.place = SMALL - 50;
    CHECK(sv_pool_copy(&job, &fixture->store, fixture->bytes) == -EBADMSG);
    job.length = UINT32_MAX;
    CHECK(sv_pool_copy(&job, &fixture->store, fixture->bytes) == -EBADMSG);
    tear_down(fixture);
}

/* --------------------------------------------------------------------------------------------------------- kill -9 */

#define CONSUMERS 4u
#define MOST_JOBS 2000000u
#define CHAOS_NS (2 * SV_NS_PER_SECOND)
#define FIRST_OWNER 10u

struct chaos { /* shared */
    struct sv_pool *pool;
    struct sv_page_store store;
    _Atomic uint64_t serving[CONSUMERS]; /* job + 1 */
    _Atomic uint64_t torn, disordered;
    _Atomic unsigned char ran[MOST_JOBS]; /* by number, which is the id */
};

static uint32_t mixed(uint64_t number) {
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(number ^ number >> 27);
}

static size_t length_of(uint64_t id) {
    uint32_t noise = mixed(id);
    return noise % 64 == 0 ? SMALL * 4 + noise % 200000 : noise % 300;
}

static void nap(unsigned microseconds) {
    nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000L}, NULL);
}

/* Jobs whose id is their number, so that a successor knows what there was. */
static void produce_for_ever(struct chaos *chaos) {
    static unsigned char bytes[1 << 18];
    struct sv_pool_writer writer;
    sv_pool_writer_attach(&writer, chaos->pool, PRODUCER);
    while (writer.published < MOST_JOBS) {
        size_t length = length_of(writer.published);
        memset(bytes, (int)(writer.published & 0xff), length);
        if (sv_pool_put(&writer, &chaos->store, writer.published, 0, 0, 0, bytes, length)) nap(20);
    }
    for (;;) nap(1000);
}

/* As a task worker does: its job is named before it is done with the place, and run after that. */
static void consume_for_ever(struct chaos *chaos, uint32_t number) {
    static unsigned char bytes[1 << 18];
    uint64_t last = 0;
    for (;;) {
        struct sv_job_copy job;
        if (!sv_pool_claim(chaos->pool, FIRST_OWNER + number, &job)) {
            nap(20);
            continue;
        }
        bool is_whole = job.length == length_of(job.id) && sv_pool_copy(&job, &chaos->store, bytes) == 0;
        for (size_t i = 0; is_whole && i < job.length; i++) is_whole = bytes[i] == (job.id & 0xff);
        atomic_fetch_add(&chaos->torn, !is_whole);
        if (last && job.id < last) atomic_fetch_add(&chaos->disordered, 1); /* only what was queued again */
        last = job.id;
        atomic_store(&chaos->serving[number], job.id + 1);
        sv_pool_done(&job, &chaos->store);
        atomic_fetch_add(&chaos->ran[job.id], 1);
        atomic_store(&chaos->serving[number], 0);
    }
}

static pid_t start(struct chaos *chaos, int number) {
    pid_t child = fork();
    if (child) return child;
    if (number < 0)
        produce_for_ever(chaos);
    else
        consume_for_ever(chaos, (uint32_t)number);
    _exit(0);
}

static void end(pid_t child) {
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR) continue;
}

struct widow { /* of a dead consumer */
    struct chaos *chaos;
    uint32_t number;
    uint64_t again;
};

static enum sv_job_fate queue_again(void *context, struct sv_job *job) {
    struct widow *widow = context;
    uint64_t name = job->id + 1;
    atomic_compare_exchange_strong(&widow->chaos->serving[widow->number], &name, 0); /* named, and not begun */
    widow->again++;
    return SV_JOB_QUEUE_AGAIN;
}

/* What a manager does: jobs are queued again; the number of the job that is lost + 1, or 0. */
static uint64_t bury(struct chaos *chaos, uint32_t number, uint64_t *again) {
    struct widow widow = {chaos, number, 0};
    sv_pool_recover(chaos->pool, &chaos->store, FIRST_OWNER + number, queue_again, &widow);
    sv_pages_give_back_of(&chaos->store, FIRST_OWNER + number);
    *again += widow.again;
    return atomic_exchange(&chaos->serving[number], 0);
}

static bool is_idle(const struct chaos *chaos) {
    for (uint32_t i = 0; i < CONSUMERS; i++)
        if (atomic_load(&chaos->serving[i])) return false;
    return !sv_pool_has_job(chaos->pool);
}

TEST(killed_consumers_and_producers_lose_no_job_and_run_none_twice) {
    struct chaos *chaos = shared_memory(sizeof *chaos);
    chaos->pool = shared_memory(sv_pool_bytes(1u << 14));
    sv_pool_init(chaos->pool, 1u << 14);
    if (sv_page_store_map(&chaos->store, 4096 * (size_t)SV_PAGE_BYTES)) exit(1);
    uint64_t first = atomic_load(&chaos->pool->published), kills = 0, again = 0, twice = 0, missing = 0;
    unsigned char *lost = calloc(MOST_JOBS, 1);
    pid_t producer = start(chaos, -1), consumers[CONSUMERS];
    for (uint32_t i = 0; i < CONSUMERS; i++) consumers[i] = start(chaos, (int)i);
    srand(4);
    for (int64_t until_ns = sv_now_ns() + CHAOS_NS; sv_now_ns() < until_ns; kills++) {
        nap((unsigned)rand() % 4000);
        uint32_t victim = (uint32_t)rand() % (CONSUMERS + 1);
        if (victim == CONSUMERS) {
            end(producer);
            sv_pages_give_back_of(&chaos->store, PRODUCER);
            producer = start(chaos, -1);
            continue;
        }
        end(consumers[victim]);
        uint64_t victims_job = bury(chaos, victim, &again);
        if (victims_job) lost[victims_job - 1] = 1;
        consumers[victim] = start(chaos, (int)victim);
    }
    end(producer);
    struct sv_pool_writer writer;
    sv_pool_writer_attach(&writer, chaos->pool, PRODUCER);
    for (int64_t until_ns = sv_now_ns() + 20 * SV_NS_PER_SECOND; !is_idle(chaos) && sv_now_ns() < until_ns;) nap(1000);
    nap(20000); /* one may stand between its claim and its name */
    for (uint32_t i = 0; i < CONSUMERS; i++) end(consumers[i]);
    for (uint64_t id = first; id < writer.published; id++) {
        twice += chaos->ran[id] > 1;
        missing += chaos->ran[id] == 0 && !lost[id];
    }
    CHECK(twice == 0 && missing == 0 && atomic_load(&chaos->torn) == 0);
    CHECK(atomic_load(&chaos->disordered) <= again);
    CHECK(kills > 5 && writer.published - first > kills);
    uint32_t taken = pages_taken(&chaos->store);
    CHECK(taken <= 4 * kills); /* as a rule none: only who died between two pages leaves some */
    sv_page_store_unmap(&chaos->store);
    munmap(chaos->pool, sv_pool_bytes(1u << 14));
    munmap(chaos, sizeof *chaos);
    free(lost);
}
