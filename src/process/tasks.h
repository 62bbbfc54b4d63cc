/* tasks.h: tasks in the processes that give them and in the task workers that run them.
 *
 * A task worker claims the next job whenever it has nothing else to do: one at a time, or with coroutines as many as it may have.
 * It says which task it runs (as an event worker says which session it serves) before the job's place is given back, so that a
 * death loses exactly the named ones; with on_lost_request = 'redeliver' the job is kept until the task has ended. */
#ifndef SV_PROCESS_TASKS_H
#define SV_PROCESS_TASKS_H

#include <stdbool.h>
#include <stdint.h>

#include "ipc/jobs.h"

struct sv_runtime;

/* Who gave a task: lets a result find the process, or its successor. */
struct sv_task_source {
    uint32_t endpoint;
    uint32_t born; /* generation of that life; 0: not in a slot */
};

struct sv_task { /* as its task worker has it */
    uint64_t id;
    struct sv_task_source source;
    uint32_t flags; /* enum srvlua_task_flag */
    int64_t stamp_ns;
    const void *data; /* valid during the call */
    size_t length;
};

/* A task as words of shared memory name it, among sessions (whose ids are far below): bit 63, endpoint of the source, id. */
#define SV_TASK_KEY (UINT64_C(1) << 63)
static inline uint64_t sv_task_key(uint32_t endpoint, uint64_t id) {
    return SV_TASK_KEY | (uint64_t)endpoint << 32 | (id & UINT32_MAX);
}
static inline uint32_t sv_task_key_endpoint(uint64_t key) {
    return (uint32_t)(key >> 32 & 0x7fffffff);
}

struct sv_task_state { /* of the calling process */
    struct sv_job_producer producer;
    struct sv_job_consumer consumer; /* task worker */
    unsigned char *buffer;           /* the payload of the job at hand */
    size_t capacity;
    struct sv_job_copy job;          /* the one at hand */
    bool is_kept;                    /* it is not done before its task has ended */
    struct sv_job_copy *kept;        /* of suspended tasks, by token; .pool NULL: none */
    size_t kept_capacity;
    int32_t suspended; /* tasks whose callback returned and that have not ended */
    uint32_t rotation; /* where to look for a sleeping task worker */
};

/* Gives a task to task worker `dst` (SV_JOB_ANY: whoever is free) and wakes one that sleeps. 0; -EAGAIN: no room now; -EMSGSIZE;
 * -ENOMEM. *nobody_idle: it was for any, and all were busy. Any process of the server. */
int sv_tasks_put(struct sv_runtime *rt, int32_t dst, uint64_t id, uint32_t flags, const void *data, size_t length, bool *nobody_idle);
/* Takes tasks and runs them, for as long as a turn may last. True: there is more. runs in: task worker. */
bool sv_tasks_work(struct sv_runtime *rt);
/* True if there may be a task for this worker now. */
bool sv_tasks_are_there(const struct sv_runtime *rt);
/* Before a task worker sleeps, in its loop or in a call: says whether a task is worth waking it. */
void sv_tasks_before_sleep(struct sv_runtime *rt, bool is_in_call);
/* The running task suspends, as `token` (sv_worker_note_suspended), and ends. */
void sv_tasks_suspend(struct sv_runtime *rt, int32_t token);
void sv_tasks_end(struct sv_runtime *rt, int32_t token);
/* Whether `source` is an event worker: what comes from outside (a message queue) may name anything. */
bool sv_tasks_has_source(const struct sv_runtime *rt, const struct sv_task_source *source);
/* Where a result for it goes: the process that gave the task while it is there, then its slot's present one. */
uint32_t sv_tasks_reply_to(const struct sv_runtime *rt, const struct sv_task_source *source);
/* Ours. */
struct sv_task_source sv_tasks_source(const struct sv_runtime *rt);
/* What is given and not begun. */
void sv_tasks_count(const struct sv_runtime *rt, uint64_t *count, uint64_t *bytes);
/* After the death of a process: what it had claimed and not begun is queued again. runs in: manager. */
void sv_tasks_recover(struct sv_runtime *rt, uint32_t slot, uint32_t parity);

#endif
