/* Shared numbers: their widths, several processes, waiting. */
#include <errno.h>
#include <signal.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "srvlua.h"
#include "unit.h"

static double now(void) {
    struct timespec time;
    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

TEST(numbers_have_their_widths) {
    srvlua_atomic *narrow = srvlua_atomic_new(0, UINT32_MAX, NULL), *wide = srvlua_atomic_new(1, -5, NULL);
    CHECK(!srvlua_atomic_new(0, -1, NULL) && !srvlua_atomic_new(0, INT64_C(1) << 32, NULL));
    CHECK(srvlua_atomic_get(narrow) == UINT32_MAX && srvlua_atomic_add(narrow, 1) == 0);
    CHECK(srvlua_atomic_add(narrow, -1) == UINT32_MAX && srvlua_atomic_get(wide) == -5);
    CHECK(srvlua_atomic_add(wide, 15) == 10 && srvlua_atomic_add(wide, -20) == -10);
    srvlua_atomic_set(wide, INT64_MAX);
    CHECK(srvlua_atomic_get(wide) == INT64_MAX && srvlua_atomic_add(wide, 1) == INT64_MIN);
    CHECK(!srvlua_atomic_cmpset(wide, 0, 7) && srvlua_atomic_cmpset(wide, INT64_MIN, 7));
    CHECK(srvlua_atomic_get(wide) == 7);
    srvlua_atomic_set(narrow, 3);
    CHECK(!srvlua_atomic_cmpset(narrow, (INT64_C(1) << 32) + 3, 4) && srvlua_atomic_cmpset(narrow, 3, 4));
    CHECK(srvlua_atomic_wait(wide, 0) == -SRVLUA_ERROR_OPERATION_NOT_SUPPORT);
    CHECK(srvlua_atomic_wakeup(wide, 1) == -SRVLUA_ERROR_OPERATION_NOT_SUPPORT);
    srvlua_atomic_free(narrow);
    srvlua_atomic_free(wide);
    srvlua_atomic_free(NULL);
}

TEST(all_processes_add_to_one_number) {
    enum { PROCESSES = 4, TURNS = 50000 };
    srvlua_atomic *total = srvlua_atomic_new(0, 0, NULL);
    for (int i = 0; i < PROCESSES; i++)
        if (fork() == 0) {
            for (int turn = 0; turn < TURNS; turn++)
                srvlua_atomic_add(total, 1);
            _exit(0);
        }
    while (wait(NULL) > 0)
        ;
    CHECK(srvlua_atomic_get(total) == PROCESSES * TURNS);
    srvlua_atomic_free(total);
}

TEST(a_wait_takes_a_one_or_gives_up) {
    srvlua_atomic *gate = srvlua_atomic_new(0, 1, NULL);
    CHECK(srvlua_atomic_wait(gate, 0) == 0 && srvlua_atomic_get(gate) == 0);
    double began = now();
    CHECK(srvlua_atomic_wait(gate, 0.06) == -ETIMEDOUT && now() - began >= 0.06);
    CHECK(srvlua_atomic_wakeup(gate, 1) == 0 && srvlua_atomic_wakeup(gate, 1) == 0 && srvlua_atomic_get(gate) == 1);
    srvlua_atomic_set(gate, 5);
    CHECK(srvlua_atomic_wakeup(gate, 1) == 0 && srvlua_atomic_get(gate) == 5);
    CHECK(srvlua_atomic_wait(gate, 0) == -ETIMEDOUT);
    srvlua_atomic_free(gate);
}

TEST(a_wake_up_reaches_one_of_those_who_wait) {
    enum { WAITERS = 3 };
    srvlua_atomic *gate = srvlua_atomic_new(0, 0, NULL), *woken = srvlua_atomic_new(0, 0, NULL);
    for (int i = 0; i < WAITERS; i++)
        if (fork() == 0) {
            if (srvlua_atomic_wait(gate, 10) == 0)
                srvlua_atomic_add(woken, 1);
            _exit(0);
        }
    for (int i = 1; i <= WAITERS; i++) {
        srvlua_atomic_wakeup(gate, WAITERS);
        CHECK(wait(NULL) > 0);
        CHECK(srvlua_atomic_get(woken) == i);
    }
    srvlua_atomic_free(gate);
    srvlua_atomic_free(woken);
}

TEST(a_one_that_nobody_announced_is_found) {
    srvlua_atomic *gate = srvlua_atomic_new(0, 0, NULL);
    pid_t pid = fork();
    if (pid == 0)
        _exit(srvlua_atomic_wait(gate, 10) == 0 ? 0 : 1);
    usleep(20000);
    srvlua_atomic_set(gate, 1); /* as if who makes a 0 a 1 had died before it woke anybody */
    int status;
    double began = now();
    CHECK(waitpid(pid, &status, 0) == pid && status == 0 && now() - began < 5);
    srvlua_atomic_free(gate);
}
