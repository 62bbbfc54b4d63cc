/* hang.h: finds workers whose code does not come to an end: the manager's part of hang detection.
 *
 * A worker's `beat` (shm/slot.h) changes whenever code of the program begins or ends, and is odd in between. The manager looks
 * at it a few times a second, so the workers read no clock. When one beat has lasted for hang_warning, and whenever it has
 * doubled its age, the worker is asked by a signal for its stack (process/fault.h), and at the next look the manager logs what
 * it answered; at hang_timeout it kills the worker after that.
 *
 *           as old as is due          answered, or ANSWER_WAIT_NS over
 *   CALM ────────────────────► ASKED ─────────────────────────────────► CALM, or KILLED at hang_timeout
 *
 * runs in: manager. Never blocks. */
#ifndef SV_PROCESS_HANG_H
#define SV_PROCESS_HANG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

struct sv_runtime;

enum sv_hang_phase { SV_HANG_CALM, SV_HANG_ASKED, SV_HANG_KILLED };

struct sv_hang_watch { /* of one life of a slot; begins as zero */
    enum sv_hang_phase phase;
    uint32_t beat;      /* as it was at the last look */
    int64_t since_ns;   /* when that beat was seen first */
    int64_t report_age; /* of the next report, nanoseconds */
    uint32_t request;   /* number of the last request for a stack */
    int64_t asked_ns;
    int urges; /* requests since the first one: its answer does not come to its end */
};

/* Milliseconds between two looks, 0: nothing is to be watched. */
int64_t sv_hang_interval_ms(const struct sv_runtime *rt);
/* One look at a worker. */
void sv_hang_look(struct sv_runtime *rt, uint32_t slot, uint32_t parity, pid_t pid, struct sv_hang_watch *watch);

#endif
