/* Jobs: who gets which, in which order over several producers, and boards that never hide a job. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "ipc/jobs.h"
#include "unit.h"

#define PRODUCERS 70u /* a board of two words */
#define CONSUMERS 3u
#define POOL 4096u

struct fixture {
    struct sv_arena arena;
    struct sv_jobs jobs;
    struct sv_job_producer producers[PRODUCERS];
    struct sv_job_consumer consumers[CONSUMERS];
};

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (sv_arena_map(&fixture->arena, 65536 + sv_jobs_bytes(PRODUCERS, CONSUMERS, POOL)) ||
        sv_jobs_init(&fixture->jobs, &fixture->arena, PRODUCERS, CONSUMERS, POOL))
        exit(1);
    for (uint32_t i = 0; i < PRODUCERS; i++)
        if (sv_job_producer_open(&fixture->producers[i], &fixture->jobs, i)) exit(1);
    for (uint32_t i = 0; i < CONSUMERS; i++) sv_job_consumer_open(&fixture->consumers[i], &fixture->jobs, 100 + i, (int32_t)i);
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    for (uint32_t i = 0; i < PRODUCERS; i++) sv_job_producer_close(&fixture->producers[i]);
    sv_jobs_close(&fixture->jobs);
    sv_arena_unmap(&fixture->arena);
    free(fixture);
}

static int put(struct fixture *fixture, uint32_t producer, int32_t dst, uint64_t id) {
    return sv_jobs_put(&fixture->producers[producer], dst, id, 0, 0, 0, &id, sizeof id);
}

/* Id of the job that the consumer gets, which is done then; UINT64_MAX: none. */
static uint64_t take(struct fixture *fixture, uint32_t consumer, uint32_t *producer) {
    struct sv_job_copy job;
    uint64_t id;
    uint32_t whose;
    bool was_hidden;
    if (!sv_jobs_take(&fixture->consumers[consumer], &job, producer ? producer : &whose, &was_hidden)) return UINT64_MAX;
    if (sv_pool_copy(&job, &fixture->consumers[consumer].store, &id) || id != job.id) return UINT64_MAX - 1;
    sv_pool_done(&job, &fixture->consumers[consumer].store);
    return id;
}

TEST(a_job_for_one_consumer_is_seen_by_it_alone) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, 69, 2, 5) == 0);
    CHECK(!sv_jobs_are_there(&fixture->consumers[0]) && sv_jobs_are_there(&fixture->consumers[2]));
    CHECK(take(fixture, 0, NULL) == UINT64_MAX && take(fixture, 1, NULL) == UINT64_MAX);
    uint32_t producer = 0;
    CHECK(take(fixture, 2, &producer) == 5 && producer == 69);
    CHECK(take(fixture, 2, NULL) == UINT64_MAX && !sv_jobs_are_there(&fixture->consumers[2]));
    tear_down(fixture);
}

TEST(jobs_for_any_are_everybodys_in_the_order_of_their_producer) {
    struct fixture *fixture = set_up();
    for (uint64_t id = 0; id < 9; id++) CHECK(put(fixture, 1, SV_JOB_ANY, id) == 0);
    for (uint64_t id = 0; id < 9; id++) CHECK(take(fixture, (uint32_t)id % CONSUMERS, NULL) == id);
    CHECK(take(fixture, 0, NULL) == UINT64_MAX);
    tear_down(fixture);
}

TEST(own_jobs_and_those_for_any_take_turns) {
    struct fixture *fixture = set_up();
    for (uint64_t id = 0; id < 4; id++) CHECK(put(fixture, 1, SV_JOB_ANY, id) == 0 && put(fixture, 1, 0, 100 + id) == 0);
    int own = 0;
    for (int i = 0; i < 4; i++) own += take(fixture, 0, NULL) >= 100;
    CHECK(own == 2);
    tear_down(fixture);
}

TEST(no_producer_waits_for_another_that_gives_without_end) {
    struct fixture *fixture = set_up();
    for (uint64_t id = 0; id < 20; id++) CHECK(put(fixture, 3, SV_JOB_ANY, id) == 0);
    CHECK(put(fixture, 2, SV_JOB_ANY, 200) == 0 && put(fixture, 69, SV_JOB_ANY, 201) == 0);
    bool has_200 = false, has_201 = false;
    for (int i = 0; i < 4; i++) {
        uint64_t id = take(fixture, 0, NULL);
        has_200 |= id == 200;
        has_201 |= id == 201;
    }
    CHECK(has_200 && has_201);
    tear_down(fixture);
}

static enum sv_job_fate queue_again(void *context, struct sv_job *job) {
    (void)job;
    ++*(int *)context;
    return SV_JOB_QUEUE_AGAIN;
}

TEST(recovery_shows_on_the_boards_what_it_queues_and_what_a_dead_producer_did_not_mark) {
    struct fixture *fixture = set_up();
    struct sv_job_copy job;
    uint32_t producer;
    bool was_hidden;
    int count = 0;
    CHECK(put(fixture, 0, 1, 7) == 0 && put(fixture, 0, SV_JOB_ANY, 8) == 0);
    CHECK(sv_jobs_take(&fixture->consumers[1], &job, &producer, &was_hidden));
    CHECK(sv_jobs_take(&fixture->consumers[1], &job, &producer, &was_hidden));
    CHECK(take(fixture, 1, NULL) == UINT64_MAX && !sv_jobs_are_there(&fixture->consumers[1]));
    sv_jobs_recover(&fixture->jobs, 101, queue_again, &count);
    CHECK(count == 2 && sv_jobs_are_there(&fixture->consumers[1]) && sv_jobs_are_there(&fixture->consumers[0]));
    CHECK(take(fixture, 0, NULL) == 8 && take(fixture, 1, NULL) == 7);

    CHECK(put(fixture, 69, SV_JOB_ANY, 9) == 0);
    for (uint32_t i = 0; i < fixture->jobs.words; i++) atomic_store(&fixture->jobs.boards[i], 0); /* it died before the mark */
    CHECK(take(fixture, 0, NULL) == UINT64_MAX);
    sv_jobs_recover(&fixture->jobs, 69, queue_again, &count);
    CHECK(count == 2 && take(fixture, 0, NULL) == 9);
    tear_down(fixture);
}

TEST(what_is_queued_everywhere_is_counted) {
    struct fixture *fixture = set_up();
    uint64_t count, bytes;
    for (uint32_t i = 0; i < 12; i++) CHECK(put(fixture, i, (int32_t)(i % 4) - 1, i) == 0);
    sv_jobs_count(&fixture->jobs, &count, &bytes);
    CHECK(count == 12 && bytes == 12 * 8);
    tear_down(fixture);
}

TEST(a_directory_that_was_overwritten_leads_nowhere) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, 4, SV_JOB_ANY, 1) == 0);
    for (uint32_t wild = 1; wild; wild <<= 1) {
        for (uint32_t i = 0; i < PRODUCERS * (CONSUMERS + 1); i++) atomic_store(&fixture->jobs.directory[i], wild);
        take(fixture, 0, NULL);
    }
    tear_down(fixture);
}

/* ----------------------------------------------------------------------------------------- many at the same time */

#define GIVERS 3u
#define JOBS_EACH 40000u

/* A consumer that sleeps whenever the boards are empty must not sleep over a job: it says so, and who gives looks. */
struct race {
    _Atomic uint32_t counts[GIVERS * JOBS_EACH];
    _Atomic uint64_t left;
};

static void give(struct fixture *fixture, uint32_t giver) {
    for (uint64_t i = 0; i < JOBS_EACH; i++)
        while (put(fixture, giver * 30, i % 5 ? SV_JOB_ANY : (int32_t)(i % CONSUMERS), giver * JOBS_EACH + i) == -EAGAIN)
            nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
    _exit(0);
}

static void work(struct fixture *fixture, uint32_t consumer, struct race *race) {
    while (atomic_load(&race->left)) {
        if (!sv_jobs_are_there(&fixture->consumers[consumer])) {
            nanosleep(&(struct timespec){.tv_nsec = 1000}, NULL);
            continue;
        }
        uint64_t id = take(fixture, consumer, NULL);
        if (id >= GIVERS * JOBS_EACH) continue;
        atomic_fetch_add(&race->counts[id], 1);
        atomic_fetch_sub(&race->left, 1);
    }
    _exit(0);
}

TEST(each_of_many_jobs_is_run_once) {
    struct fixture *fixture = set_up();
    struct race *race = mmap(NULL, sizeof *race, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (race == MAP_FAILED) exit(1);
    atomic_store(&race->left, GIVERS * JOBS_EACH);
    pid_t children[GIVERS + CONSUMERS];
    for (uint32_t i = 0; i < GIVERS + CONSUMERS; i++) {
        children[i] = fork();
        if (i < GIVERS && children[i] == 0) give(fixture, i);
        if (children[i] == 0) work(fixture, i - GIVERS, race);
    }
    for (int64_t until_ns = sv_now_ns() + 60 * SV_NS_PER_SECOND; atomic_load(&race->left) && sv_now_ns() < until_ns;)
        nanosleep(&(struct timespec){.tv_nsec = 1000000}, NULL);
    CHECK(atomic_load(&race->left) == 0);
    for (uint32_t i = 0; i < GIVERS + CONSUMERS; i++) {
        kill(children[i], SIGKILL);
        while (waitpid(children[i], NULL, 0) < 0 && errno == EINTR) continue;
    }
    uint32_t wrong = 0;
    for (uint32_t i = 0; i < GIVERS * JOBS_EACH; i++) wrong += atomic_load(&race->counts[i]) != 1;
    CHECK(wrong == 0);
    munmap(race, sizeof *race);
    tear_down(fixture);
}
