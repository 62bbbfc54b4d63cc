/* futex.h: sleeping on a word in shared memory, with a deadline. runs in: any process, any thread. */
#ifndef SV_SHM_FUTEX_H
#define SV_SHM_FUTEX_H

#include <limits.h>
#include <linux/futex.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/syscall.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

/* Sleeps while the word is `value`, up to so long. May return at any time: the caller looks again. */
static inline void sv_futex_wait(_Atomic uint32_t *word, uint32_t value, int64_t most_ns) {
    struct timespec most = {.tv_sec = most_ns / SV_NS_PER_SECOND, .tv_nsec = most_ns % SV_NS_PER_SECOND};
    syscall(SYS_futex, word, FUTEX_WAIT, value, &most, NULL, 0);
}

static inline void sv_futex_wake(_Atomic uint32_t *word, int count) {
    syscall(SYS_futex, word, FUTEX_WAKE, count, NULL, NULL, 0);
}

/* How long a caller wants to wait. */
struct sv_patience {
    int64_t end_ns;
    bool is_endless;
};

/* `seconds` negative: for ever. */
static inline struct sv_patience sv_patience_begin(double seconds) {
    if (seconds < 0 || seconds > 1e9)
        return (struct sv_patience){.is_endless = true};
    return (struct sv_patience){.end_ns = sv_now_ns() + (int64_t)(seconds * 1e9)};
}

/* Nanoseconds left, 0 or less when it is over. */
static inline int64_t sv_patience_left(const struct sv_patience *patience) {
    return patience->is_endless ? INT64_MAX : patience->end_ns - sv_now_ns();
}

#endif
