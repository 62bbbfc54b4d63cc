/* clock.h: the two clocks. runs in: anywhere. */
#ifndef SV_BASE_CLOCK_H
#define SV_BASE_CLOCK_H

#include <stdint.h>
#include <time.h>

#define SV_NS_PER_SECOND INT64_C(1000000000)
#define SV_NS_PER_MS INT64_C(1000000)

/* Monotonic, nanoseconds: for durations and timeouts. */
static inline int64_t sv_now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * SV_NS_PER_SECOND + now.tv_nsec;
}

/* Wall clock, nanoseconds since the epoch: for what is shown to people. */
static inline int64_t sv_wall_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_REALTIME, &now);
    return now.tv_sec * SV_NS_PER_SECOND + now.tv_nsec;
}

#endif
