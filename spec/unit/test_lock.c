/* Locks between processes: exclusion, readers, waiting, holders that die. */
#include <errno.h>
#include <signal.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "srvlua.h"
#include "unit.h"

static const int types[] = {SRVLUA_MUTEX, SRVLUA_SPINLOCK, SRVLUA_RWLOCK};
#define TYPES (sizeof types / sizeof types[0])

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

static void *share(size_t size) {
    void *memory = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED)
        exit(1);
    return memory;
}

/* A child that locks and then waits to be killed; -1 as pid if it could not. */
static pid_t holder(srvlua_lock *lock, int shared) {
    _Atomic int *result = share(sizeof *result);
    atomic_store(result, 99);
    pid_t pid = fork();
    if (pid == 0) {
        atomic_store(result, srvlua_lock_lock(lock, shared, 5));
        for (;;)
            pause();
    }
    while (atomic_load(result) == 99)
        usleep(200);
    if (atomic_load(result) != 0)
        CHECK(!"the child could not lock");
    munmap(result, sizeof *result);
    return pid;
}

static void end(pid_t pid) {
    kill(pid, SIGKILL);
    waitpid(pid, NULL, 0);
}

TEST(codes) {
    CHECK(!srvlua_lock_new(2, NULL) && !srvlua_lock_new(4, NULL));
    for (size_t i = 0; i < TYPES; i++) {
        srvlua_lock *lock = srvlua_lock_new(types[i], NULL);
        CHECK(srvlua_lock_get_type(lock) == types[i] && srvlua_lock_unlock(lock) == -EPERM);
        CHECK(srvlua_lock_lock(lock, 0, -1) == 0 && srvlua_lock_lock(lock, 0, -1) == -EDEADLK);
        CHECK(srvlua_lock_trylock(lock, 0) == -EBUSY && srvlua_lock_poll(lock, 0) == -EBUSY);
        CHECK(srvlua_lock_lock(lock, 1, -1) == (types[i] == SRVLUA_RWLOCK ? -EDEADLK : -SRVLUA_ERROR_INVALID_PARAMS));
        CHECK(srvlua_lock_unlock(lock) == 0 && srvlua_lock_unlock(lock) == -EPERM);
        CHECK(srvlua_lock_trylock(lock, 0) == 0 && srvlua_lock_unlock(lock) == 0);
        srvlua_lock_free(lock);
    }
    srvlua_lock_free(NULL);
}

TEST(readers_of_one_process_are_counted) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    CHECK(srvlua_lock_lock(lock, 1, -1) == 0 && srvlua_lock_lock(lock, 1, -1) == 0);
    CHECK(srvlua_lock_lock(lock, 0, -1) == -EDEADLK && srvlua_lock_trylock(lock, 0) == -EBUSY);
    CHECK(srvlua_lock_unlock(lock) == 0 && srvlua_lock_trylock(lock, 0) == -EBUSY);
    CHECK(srvlua_lock_unlock(lock) == 0 && srvlua_lock_unlock(lock) == -EPERM);
    CHECK(srvlua_lock_trylock(lock, 0) == 0 && srvlua_lock_trylock(lock, 1) == -EBUSY);
    CHECK(srvlua_lock_unlock(lock) == 0);
    srvlua_lock_free(lock);
}

TEST(others_wait_or_give_up) {
    for (size_t i = 0; i < TYPES; i++) {
        srvlua_lock *lock = srvlua_lock_new(types[i], NULL);
        pid_t pid = holder(lock, 0);
        CHECK(srvlua_lock_trylock(lock, 0) == -EBUSY && srvlua_lock_unlock(lock) == -EPERM);
        double began = now();
        CHECK(srvlua_lock_lock(lock, 0, 0.05) == -ETIMEDOUT && now() - began >= 0.05 && now() - began < 5);
        CHECK(srvlua_lock_lock(lock, 0, 0) == -ETIMEDOUT);
        end(pid);
        srvlua_lock_free(lock);
    }
}

/* A counter that is not atomic stays right, while processes are killed wherever they are. */
TEST(locks_exclude_and_outlive_their_holders) {
    enum { PROCESSES = 3 };
    for (size_t i = 0; i < TYPES; i++) {
        srvlua_lock *lock = srvlua_lock_new(types[i], NULL);
        struct {
            _Atomic int inside, collisions, turns, abandoned, wrong;
        } *shared = share(sizeof *shared);
        pid_t pids[PROCESSES] = {0};
        unsigned seed = 1;
        for (int round = 0; round < 250; round++) {
            int victim = round % PROCESSES;
            if (pids[victim])
                end(pids[victim]);
            if ((pids[victim] = fork()) == 0)
                for (;;) {
                    int result = srvlua_lock_lock(lock, 0, -1);
                    if (result == 1) { /* who died may have been inside */
                        atomic_fetch_add(&shared->abandoned, 1);
                        atomic_store(&shared->inside, 0);
                    } else if (result != 0) {
                        atomic_fetch_add(&shared->wrong, 1);
                    }
                    if (atomic_fetch_add(&shared->inside, 1) != 0)
                        atomic_fetch_add(&shared->collisions, 1);
                    atomic_fetch_add(&shared->turns, 1);
                    atomic_fetch_sub(&shared->inside, 1);
                    if (srvlua_lock_unlock(lock) != 0)
                        atomic_fetch_add(&shared->wrong, 1);
                }
            usleep((unsigned)rand_r(&seed) % 1500);
        }
        for (int k = 0; k < PROCESSES; k++)
            end(pids[k]);
        CHECK(shared->collisions == 0 && shared->wrong == 0 && shared->turns > 0);
        int last = srvlua_lock_lock(lock, 0, 5);
        CHECK(last == 0 || last == 1);
        CHECK(srvlua_lock_unlock(lock) == 0);
        munmap(shared, sizeof *shared);
        srvlua_lock_free(lock);
    }
}

TEST(a_holder_that_dies_is_told_of) {
    for (size_t i = 0; i < TYPES; i++) {
        srvlua_lock *lock = srvlua_lock_new(types[i], NULL);
        for (int turn = 0; turn < 2; turn++) {
            pid_t pid = holder(lock, 0);
            kill(pid, SIGKILL);
            double began = now();
            while (now() - began < 5 && kill(pid, 0) == 0 && waitpid(pid, NULL, WNOHANG) == 0)
                ;
            CHECK((turn ? srvlua_lock_trylock(lock, 0) : srvlua_lock_lock(lock, 0, 5)) == 1);
            CHECK(srvlua_lock_unlock(lock) == 0 && srvlua_lock_trylock(lock, 0) == 0 && srvlua_lock_unlock(lock) == 0);
        }
        srvlua_lock_free(lock);
    }
}

/* A reader found the dead writer, had to let the waiting one go first, and kept the news to itself. */
TEST(the_news_of_a_death_reach_who_gets_the_lock) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    end(holder(lock, 0));
    srvlua_lock_announce_writer(lock, 1);
    CHECK(srvlua_lock_trylock(lock, 1) == -EBUSY);
    CHECK(srvlua_lock_trylock(lock, 0) == 1);
    srvlua_lock_announce_writer(lock, -1);
    CHECK(srvlua_lock_unlock(lock) == 0 && srvlua_lock_trylock(lock, 1) == 0);
    CHECK(srvlua_lock_unlock(lock) == 0);
    srvlua_lock_free(lock);
}

TEST(a_holder_that_nobody_has_waited_for_is_dead_all_the_same) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_MUTEX, NULL);
    pid_t pid = holder(lock, 0);
    siginfo_t info;
    kill(pid, SIGKILL);
    waitid(P_PID, (id_t)pid, &info, WEXITED | WNOWAIT);
    CHECK(srvlua_lock_lock(lock, 0, 5) == 1);
    waitpid(pid, NULL, 0);
    srvlua_lock_free(lock);
}

TEST(a_stopped_holder_is_waited_for) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_MUTEX, NULL);
    pid_t pid = holder(lock, 0);
    kill(pid, SIGSTOP);
    waitpid(pid, NULL, WUNTRACED);
    CHECK(srvlua_lock_trylock(lock, 0) == -EBUSY && srvlua_lock_lock(lock, 0, 0.05) == -ETIMEDOUT);
    end(pid);
    srvlua_lock_free(lock);
}

TEST(readers_share_and_dead_readers_are_forgotten) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    pid_t first = holder(lock, 1), second = holder(lock, 1);
    CHECK(srvlua_lock_trylock(lock, 1) == 0 && srvlua_lock_unlock(lock) == 0);
    CHECK(srvlua_lock_trylock(lock, 0) == -EBUSY && srvlua_lock_lock(lock, 0, 0.03) == -ETIMEDOUT);
    end(first);
    CHECK(srvlua_lock_trylock(lock, 0) == -EBUSY);
    end(second);
    CHECK(srvlua_lock_trylock(lock, 0) == 0);
    CHECK(srvlua_lock_unlock(lock) == 0);
    pid_t writer = holder(lock, 0);
    CHECK(srvlua_lock_trylock(lock, 1) == -EBUSY);
    end(writer);
    CHECK(srvlua_lock_lock(lock, 1, 5) == 1); /* readers are told, too */
    CHECK(srvlua_lock_unlock(lock) == 0);
    srvlua_lock_free(lock);
}

TEST(waiting_writers_go_before_new_readers) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    _Atomic int *order = share(sizeof *order);
    pid_t reader = holder(lock, 1);
    pid_t writer = fork();
    if (writer == 0) {
        int result = srvlua_lock_lock(lock, 0, 10);
        atomic_store(order, 1);
        usleep(20000);
        srvlua_lock_unlock(lock);
        _exit(result);
    }
    double began = now();
    while (srvlua_lock_trylock(lock, 1) == 0 && now() - began < 5) { /* until the writer waits */
        srvlua_lock_unlock(lock);
        usleep(1000);
    }
    CHECK(srvlua_lock_trylock(lock, 1) == -EBUSY && srvlua_lock_lock(lock, 1, 0.03) == -ETIMEDOUT);
    end(reader);
    CHECK(srvlua_lock_lock(lock, 1, 5) == 0 && atomic_load(order) == 1);
    int status;
    CHECK(waitpid(writer, &status, 0) == writer && status == 0);
    CHECK(srvlua_lock_unlock(lock) == 0);

    /* One that died while it waited keeps nobody out. */
    reader = holder(lock, 1);
    writer = fork();
    if (writer == 0)
        _exit(srvlua_lock_lock(lock, 0, 10));
    began = now();
    while (srvlua_lock_trylock(lock, 1) == 0 && now() - began < 5) {
        srvlua_lock_unlock(lock);
        usleep(1000);
    }
    end(writer);
    CHECK(srvlua_lock_trylock(lock, 1) == 0 && srvlua_lock_unlock(lock) == 0);
    end(reader);
    CHECK(srvlua_lock_trylock(lock, 0) == 0);
    munmap(order, sizeof *order);
    srvlua_lock_free(lock);
}

TEST(a_process_that_reads_may_read_again_while_a_writer_waits) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    CHECK(srvlua_lock_lock(lock, 1, -1) == 0);
    srvlua_lock_announce_writer(lock, 1);
    CHECK(srvlua_lock_trylock(lock, 1) == -EBUSY && srvlua_lock_poll(lock, 1) == -EBUSY);
    CHECK(srvlua_lock_lock(lock, 1, -1) == 0); /* to wait would be for ever */
    srvlua_lock_announce_writer(lock, -1);
    CHECK(srvlua_lock_trylock(lock, 1) == 0);
    for (int i = 0; i < 3; i++)
        CHECK(srvlua_lock_unlock(lock) == 0);
    CHECK(srvlua_lock_unlock(lock) == -EPERM);
    srvlua_lock_free(lock);
}

/* Many processes come and go: places of the dead are used again. */
TEST(places_of_readers_are_used_again) {
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    int good = 0;
    for (int i = 0; i < 1100; i++) {
        int status;
        pid_t pid = fork();
        if (pid == 0)
            _exit(srvlua_lock_lock(lock, 1, 5) == 0 ? 0 : 1); /* and ends without unlock */
        waitpid(pid, &status, 0);
        good += status == 0;
    }
    CHECK(good == 1100);
    CHECK(srvlua_lock_trylock(lock, 0) == 0);
    srvlua_lock_free(lock);
}

TEST(readers_and_writers_exclude_each_other) {
    enum { PROCESSES = 4 };
    srvlua_lock *lock = srvlua_lock_new(SRVLUA_RWLOCK, NULL);
    struct {
        _Atomic int readers, writers, wrong, turns;
    } *shared = share(sizeof *shared);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            for (int turn = 0; turn < 5000; turn++) {
                bool reads = (turn + i) % 4 != 0;
                int result = srvlua_lock_lock(lock, reads, -1);
                atomic_fetch_add(reads ? &shared->readers : &shared->writers, 1);
                int readers = shared->readers, writers = shared->writers;
                if (result != 0 || writers > 1 || (writers && readers))
                    atomic_fetch_add(&shared->wrong, 1);
                atomic_fetch_sub(reads ? &shared->readers : &shared->writers, 1);
                srvlua_lock_unlock(lock);
                atomic_fetch_add(&shared->turns, 1);
            }
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    CHECK(shared->wrong == 0 && shared->turns == PROCESSES * 5000);
    munmap(shared, sizeof *shared);
    srvlua_lock_free(lock);
}
