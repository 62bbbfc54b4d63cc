/* task_queue.h: tasks that wait in a System V message queue instead of in pools (task_ipc_mode 2 and 3, settings.md 3.6), so that
 * they can outlive the server and come from elsewhere.
 *
 * A message is received into shared memory of the task worker's own. Whoever is killed in the system call has taken nothing, or the
 * whole message is there; so the manager finds what a dead task worker had taken, and puts back what it had not begun.
 *
 *   type of a message   2: 1 + number of the task worker, or SV_QUEUE_TYPE_ANY   3: no matter
 *
 * Who gives a task wakes a task worker that sleeps; a count in shared memory tells that worker, before it falls asleep, that
 * something came meanwhile. Tasks that others put into a queue with a key are looked for a few times a second. */
#ifndef SV_PROCESS_TASK_QUEUE_H
#define SV_PROCESS_TASK_QUEUE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/log.h"
#include "ipc/msgqueue.h"
#include "ipc/task_file.h"

struct sv_runtime;
struct srvlua_status;

#define SV_QUEUE_TYPE_ANY INT32_MAX /* mode 2: for whoever is free first */

enum sv_task_way { SV_TASK_WAY_RING = 1, SV_TASK_WAY_QUEUE = 2, SV_TASK_WAY_QUEUE_ANY = 3 };

struct sv_task_queue { /* of each process; all zero: not used */
    bool is_used, is_for_all; /* for all: mode 3 */
    struct sv_msgqueue queue;
    struct sv_task_files files;
    struct sv_queue_message *taken; /* shared [task worker × 2 + parity]: type 0: nothing; written by that process */
    uint64_t seen;                  /* the count when the queue was found empty */
    bool may_have_more;             /* it was not */
    bool takes_own_first;           /* changes with each task */
    int64_t poll;                   /* timer; 0: none */
    struct sv_log_limit junk_warning, failure_warning;
};

/* Bytes of arena. */
size_t sv_task_queue_bytes(const struct sv_runtime *rt);
/* Before the first fork, if the settings say so. 0 or -code; close removes what is the server's own. */
int sv_task_queue_open(struct sv_runtime *rt, struct srvlua_status *status);
void sv_task_queue_close(struct sv_runtime *rt);

/* As sv_tasks_put(), but wakes nobody; also -errno of a file. */
int sv_task_queue_put(struct sv_runtime *rt, int32_t dst, uint64_t id, uint32_t flags, const void *data, size_t length);
/* Takes a task and runs it. False: there is none. runs in: task worker. */
bool sv_task_queue_run(struct sv_runtime *rt);
/* True if there may be one. Looks at memory only. */
bool sv_task_queue_has_news(const struct sv_runtime *rt);
/* After the death of a task worker: what it had taken and not begun is put back. runs in: manager. */
void sv_task_queue_recover(struct sv_runtime *rt, uint32_t slot, uint32_t parity);
/* What waits. */
void sv_task_queue_count(const struct sv_runtime *rt, uint64_t *count, uint64_t *bytes);

#endif
