/* slot.h: what every process knows of every managed process, and the counters of each of them.
 *
 * One slot per event worker, task worker and user process. Two generations ("parities") of a slot can live side by side while it
 * is replaced; what belongs to one of them has an index [parity]. The manager writes pid, parity and generation; the process
 * itself its own state line. Counters have one line per endpoint (a process of one parity, or a reactor thread) and one writer;
 * a successor goes on counting where its predecessor died, and stats() adds them up. */
#ifndef SV_SHM_SLOT_H
#define SV_SHM_SLOT_H

#include <stdatomic.h>
#include <stdint.h>

#include "shm/arena.h"

enum sv_process_state { SV_PROCESS_NONE = 0, SV_PROCESS_BUSY = 1, SV_PROCESS_IDLE = 2, SV_PROCESS_EXIT = 3 };

/* One life of a slot's process. The event records of a process wait in its inbox; it owns that until it hands it over (it leaves,
 * or the manager finds it dead), then its successor works off the rest, up to the END record of every reactor. */
struct sv_slot_life { /* written by the process of that parity unless said otherwise */
    _Alignas(SV_CACHE_LINE) _Atomic uint32_t state; /* enum sv_process_state */
    _Atomic int32_t coroutines;                     /* live ones */
    _Atomic uint64_t serving;                       /* session whose event it is running, 0 = none */
    _Atomic int64_t busy_since_ns;                  /* monotonic: when it began that, 0 = idle; only if somebody wants to know */
    _Atomic int64_t average_ns;                     /* moving average of a callback's time, likewise */
    _Atomic uint64_t requests;                      /* of this life */
    _Atomic uint32_t is_handed_over; /* the inbox is the successor's; also written by the manager for a dead process */
    _Atomic uint32_t unnamed;        /* suspended requests for which there was no name left */
    _Atomic uint32_t suspended_end;  /* names before this one may be in use */
    _Atomic uint32_t beat;           /* odd while code of the program runs; changes when that begins and when it ends */
    _Atomic uint32_t takes_tasks;    /* task worker that sleeps: it would take a task */
};

/* Where the code of a process is that runs without end: written by that process when the manager asks (process/fault.h). */
#define SV_STACK_TEXT_MAX 8128

struct sv_stack_text {
    _Alignas(SV_CACHE_LINE) _Atomic uint32_t version; /* odd while the rest changes */
    _Atomic uint32_t request;                         /* number of the request that it answers, 0 = none */
    _Atomic uint32_t length;
    char text[SV_STACK_TEXT_MAX];
};

struct sv_slot {
    _Alignas(SV_CACHE_LINE) _Atomic int32_t pid[2]; /* manager; 0 = none */
    _Atomic uint32_t parity;                        /* manager: the generation that new work goes to */
    _Atomic uint32_t generation;                    /* manager: counts the lives of this slot */
    _Atomic uint32_t born[2];                       /* manager: generation when that life began; the greater one succeeds the other */
    struct sv_slot_life life[2];
};

/* One writer each; all monotonic but for what the comment says. */
enum sv_counter {
    SV_COUNT_ACCEPTED,   /* connections given a session */
    SV_COUNT_CLOSED,     /* connections whose socket was closed */
    SV_COUNT_ABORTED,    /* refused connections */
    SV_COUNT_DISPATCHED, /* data packets handed to workers */
    SV_COUNT_REQUESTS,
    SV_COUNT_RESPONSES,
    SV_COUNT_RECV_BYTES,
    SV_COUNT_SEND_BYTES,
    SV_COUNT_ERRORS, /* uncaught errors in callbacks */
    SV_COUNT_LOST,   /* requests and tasks that died with their process */
    SV_COUNT_RELOAD_FAILED,
    SV_COUNT_CHUNKED, /* what processes sent one another in more than one part */
    SV_COUNT_OUTPUT, /* not monotonic: memory that output queues take */
    SV_COUNTERS
};

struct sv_counters {
    _Alignas(SV_CACHE_LINE) _Atomic int64_t value[SV_COUNTERS];
};

static inline void sv_count(struct sv_counters *counters, enum sv_counter which, int64_t change) {
    _Atomic int64_t *value = &counters->value[which];
    atomic_store_explicit(value, atomic_load_explicit(value, memory_order_relaxed) + change, memory_order_relaxed);
}

static inline int64_t sv_counter_get(const struct sv_counters *counters, enum sv_counter which) {
    return atomic_load_explicit(&counters->value[which], memory_order_relaxed);
}

#endif
