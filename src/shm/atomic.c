/* atomic.c: numbers that processes share (srvlua_atomic in srvlua.h). Every change is one instruction: a process that
 * dies leaves nothing behind. runs in: any process, any thread. */
#include <errno.h>
#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/errors.h"
#include "shm/futex.h"
#include "srvlua.h"

/* Who waits looks again after this time: a process that makes a 0 a 1 may die before it wakes anybody. */
#define LOOK_AGAIN_NS (50 * SV_NS_PER_MS)

struct shared {
    _Atomic uint64_t wide;   /* long */
    _Atomic uint32_t narrow; /* else; also what waiters sleep on */
};

struct srvlua_atomic { /* private */
    bool is_long;
    struct shared *shared;
};

srvlua_atomic *srvlua_atomic_new(int is_long, int64_t value, struct srvlua_status *status) {
    if (!is_long && (value < 0 || value > UINT32_MAX)) {
        sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "%lld does not fit into 32 bits", (long long)value);
        return NULL;
    }
    srvlua_atomic *atomic = calloc(1, sizeof *atomic);
    void *memory = MAP_FAILED;
    if (atomic)
        memory = mmap(NULL, sizeof *atomic->shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (memory == MAP_FAILED) {
        sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for a shared number");
        free(atomic);
        return NULL;
    }
    atomic->shared = memory;
    atomic->is_long = is_long != 0;
    srvlua_atomic_set(atomic, value);
    return atomic;
}

void srvlua_atomic_free(srvlua_atomic *atomic) {
    if (atomic)
        munmap(atomic->shared, sizeof *atomic->shared);
    free(atomic);
}

int64_t srvlua_atomic_get(const srvlua_atomic *atomic) {
    return atomic->is_long ? (int64_t)atomic_load(&atomic->shared->wide) : atomic_load(&atomic->shared->narrow);
}

void srvlua_atomic_set(srvlua_atomic *atomic, int64_t value) {
    if (atomic->is_long)
        atomic_store(&atomic->shared->wide, (uint64_t)value);
    else
        atomic_store(&atomic->shared->narrow, (uint32_t)value);
}

int64_t srvlua_atomic_add(srvlua_atomic *atomic, int64_t change) {
    if (atomic->is_long)
        return (int64_t)(atomic_fetch_add(&atomic->shared->wide, (uint64_t)change) + (uint64_t)change);
    return (uint32_t)(atomic_fetch_add(&atomic->shared->narrow, (uint32_t)change) + (uint32_t)change);
}

int srvlua_atomic_cmpset(srvlua_atomic *atomic, int64_t expected, int64_t value) {
    if (atomic->is_long) {
        uint64_t before = (uint64_t)expected;
        return atomic_compare_exchange_strong(&atomic->shared->wide, &before, (uint64_t)value);
    }
    uint32_t before = (uint32_t)expected;
    return expected == before && atomic_compare_exchange_strong(&atomic->shared->narrow, &before, (uint32_t)value);
}

int srvlua_atomic_wait(srvlua_atomic *atomic, double timeout) {
    _Atomic uint32_t *word = &atomic->shared->narrow;
    struct sv_patience patience = sv_patience_begin(timeout);
    if (atomic->is_long)
        return -SRVLUA_ERROR_OPERATION_NOT_SUPPORT;
    for (;;) {
        uint32_t value = 1;
        if (atomic_compare_exchange_strong(word, &value, 0))
            return 0;
        int64_t left = sv_patience_left(&patience);
        if (left <= 0)
            return -ETIMEDOUT;
        sv_futex_wait(word, value, left < LOOK_AGAIN_NS ? left : LOOK_AGAIN_NS);
    }
}

int srvlua_atomic_wakeup(srvlua_atomic *atomic, int count) {
    uint32_t nothing = 0;
    if (atomic->is_long)
        return -SRVLUA_ERROR_OPERATION_NOT_SUPPORT;
    if (atomic_compare_exchange_strong(&atomic->shared->narrow, &nothing, 1))
        sv_futex_wake(&atomic->shared->narrow, count);
    return 0;
}
