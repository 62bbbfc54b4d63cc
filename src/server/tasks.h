/* tasks.h: what a process knows of the tasks it gave and of the one it runs. Private to each process. */
#ifndef SV_SERVER_TASKS_H
#define SV_SERVER_TASKS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "srvlua.h"

struct sv_pending_task;
struct sv_room_waiter;

struct sv_task_calls {
    uint64_t next_id;                  /* cut to 32 bits */
    struct sv_pending_task **buckets;  /* tasks whose result goes to a callback of their own, by id */
    size_t bucket_count, count;
    struct sv_pending_task *idle;      /* to be used again */
    struct sv_room_waiter *first_waiter, *last_waiter; /* who wants to give a task and found no room */
    const struct sv_task *running;     /* task worker: in the task callback */
    struct sv_log_limit idle_warning, size_warning, drop_warning, expired_notice, damage_warning;
};

#endif
