/* tasks.c: see tasks.h. */
#include "process/tasks.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "process/runtime.h"

#define TASKS_PER_TURN 64
#define TURN_NS (SV_NS_PER_SECOND / 100) /* after so much work signals, messages and timers have their turn */
#define BUFFER_KEPT (1u << 20)           /* a larger one is given back after its task */
#define KEPT_MOST (1u << 20)             /* larger payloads are not given again */

/* -------------------------------------------------------------------------------------------------------- giving */

struct sv_task_source sv_tasks_source(const struct sv_runtime *rt) {
    struct sv_task_source source = {.endpoint = rt->endpoint.id};
    if (rt->slot >= 0) source.born = atomic_load_explicit(&rt->slots[rt->slot].born[rt->parity], memory_order_relaxed);
    return source;
}

static uint32_t endpoint_of_task_worker(const struct sv_runtime *rt, uint32_t number) {
    uint32_t slot = rt->config.workers + number;
    return sv_endpoint_of_slot(&rt->ipc, slot, atomic_load_explicit(&rt->slots[slot].parity, memory_order_relaxed));
}

/* The job was published and marked before; whoever falls asleep after that looks once more. One that sleeps and takes no tasks (it
 * leaves, or waits for its predecessor, or for room for a result) is not woken for one: that would leave another asleep. */
static bool wake_if_asleep(const struct sv_runtime *rt, uint32_t number) {
    const struct sv_slot *slot = &rt->slots[rt->config.workers + number];
    uint32_t endpoint = endpoint_of_task_worker(rt, number);
    uint32_t parity = endpoint - sv_endpoint_of_slot(&rt->ipc, rt->config.workers + number, 0);
    if (!atomic_load_explicit(&sv_inbox_of(&rt->ipc, endpoint)->sleeping, memory_order_relaxed)) return false;
    if (!atomic_load_explicit(&slot->life[parity].takes_tasks, memory_order_relaxed)) return false;
    return sv_wake(&rt->ipc, endpoint);
}

static bool wake_somebody(struct sv_runtime *rt) {
    for (uint32_t i = 0; i < rt->config.task_workers; i++) {
        uint32_t number = (rt->tasks.rotation + i) % rt->config.task_workers;
        if (!wake_if_asleep(rt, number)) continue;
        rt->tasks.rotation = (number + 1) % rt->config.task_workers;
        return true;
    }
    return false;
}

static bool is_somebody_idle(const struct sv_runtime *rt) {
    for (uint32_t i = 0; i < rt->config.task_workers; i++) {
        const struct sv_slot *slot = &rt->slots[rt->config.workers + i];
        uint32_t parity = atomic_load_explicit(&slot->parity, memory_order_relaxed);
        if (atomic_load_explicit(&slot->life[parity].state, memory_order_relaxed) != SV_PROCESS_BUSY) return true;
    }
    return false;
}

int sv_tasks_put(struct sv_runtime *rt, int32_t dst, uint64_t id, uint32_t flags, const void *data, size_t length, bool *nobody_idle) {
    struct sv_task_state *tasks = &rt->tasks;
    struct sv_task_source source = sv_tasks_source(rt);
    int result = rt->task_queue.is_used ? sv_task_queue_put(rt, dst, id, flags, data, length)
                                        : sv_jobs_put(&tasks->producer, dst, id, (uint64_t)source.born << 32 | source.endpoint, flags,
                                                      sv_wall_ns(), data, length);
    if (rt->task_queue.is_for_all) dst = SV_JOB_ANY;
    if (nobody_idle) *nobody_idle = false;
    if (result) return result;
    atomic_thread_fence(memory_order_seq_cst); /* pairs with the fence in sv_fall_asleep */
    if (dst >= 0)
        wake_if_asleep(rt, (uint32_t)dst);
    else if (!wake_somebody(rt) && nobody_idle)
        *nobody_idle = !is_somebody_idle(rt);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- running */

static bool may_take(const struct sv_runtime *rt) {
    const struct sv_worker *worker = &rt->worker;
    bool outlive_us = rt->task_queue.is_used && !rt->task_queue.queue.is_private;
    bool is_in_service = worker->phase == SV_WORKER_SERVING ||
                         (worker->phase == SV_WORKER_DRAINING && !outlive_us && atomic_load(&rt->shared->is_shutting_down));
    if (!is_in_service || worker->predecessor_life || worker->is_done || worker->depth) return false;
    if (rt->config.task_coroutines) return rt->coroutines < rt->config.max_coroutine;
    return !worker->leaves_later; /* its limit is reached, and its predecessor gone in a moment */
}

bool sv_tasks_are_there(const struct sv_runtime *rt) {
    if (!may_take(rt)) return false;
    return rt->task_queue.is_used ? sv_task_queue_has_news(rt) : sv_jobs_are_there(&rt->tasks.consumer);
}

void sv_tasks_before_sleep(struct sv_runtime *rt, bool is_in_call) {
    atomic_store_explicit(&rt->worker.life->takes_tasks, !is_in_call && may_take(rt), memory_order_relaxed);
}

static unsigned char *room_for(struct sv_task_state *tasks, size_t length) {
    if (length <= tasks->capacity) return tasks->buffer;
    unsigned char *grown = realloc(tasks->buffer, length);
    if (!grown) return NULL;
    tasks->buffer = grown;
    tasks->capacity = length;
    return grown;
}

static void give_back(struct sv_runtime *rt, const struct sv_job_copy *job, uint32_t producer) {
    if (sv_pool_done(job, &rt->tasks.consumer.store)) sv_wake(&rt->ipc, producer);
}

static uint32_t producer_of(const struct sv_job_copy *job) {
    return (uint32_t)job->source;
}

static void run_task(struct sv_runtime *rt, struct sv_job_copy *job) {
    struct sv_task_state *tasks = &rt->tasks;
    uint64_t key = sv_task_key((uint32_t)job->source, job->id);
    unsigned char *payload = room_for(tasks, job->length);
    int problem = payload || !job->length ? sv_pool_copy(job, &tasks->consumer.store, payload) : -ENOMEM;
    struct sv_task task = {.id = job->id,
                           .source = {.endpoint = (uint32_t)job->source, .born = (uint32_t)(job->source >> 32)},
                           .flags = job->flags,
                           .stamp_ns = job->stamp_ns,
                           .data = payload,
                           .length = job->length};
    sv_worker_begin(rt, key);
    tasks->job = *job;
    tasks->is_kept = rt->config.on_lost_request == SV_LOST_ACTION_REDELIVER && job->length <= KEPT_MOST;
    if (!tasks->is_kept) give_back(rt, job, producer_of(job));
    if (problem)
        sv_log_about(&rt->log, SRVLUA_LOG_ERROR, 0, -problem, "task %llu is lost: its data could not be read", (unsigned long long)job->id);
    else
        rt->hooks.run_task(rt->hooks.context, &task);
    if (tasks->is_kept) give_back(rt, job, producer_of(job));
    tasks->is_kept = false;
    sv_worker_end(rt);
    if (tasks->capacity > BUFFER_KEPT) {
        free(tasks->buffer);
        tasks->buffer = NULL;
        tasks->capacity = 0;
    }
}

static bool take_and_run(struct sv_runtime *rt) {
    struct sv_job_copy job;
    uint32_t producer;
    bool was_hidden;
    if (!sv_jobs_take(&rt->tasks.consumer, &job, &producer, &was_hidden)) return false;
    if (was_hidden) wake_somebody(rt);
    job.source = (job.source & ~(uint64_t)UINT32_MAX) | producer; /* whose pool it is, whatever it says */
    run_task(rt, &job);
    return true;
}

bool sv_tasks_work(struct sv_runtime *rt) {
    int64_t began_ns = sv_now_ns();
    for (int i = 0; i < TASKS_PER_TURN && may_take(rt); i++) {
        if (!(rt->task_queue.is_used ? sv_task_queue_run(rt) : take_and_run(rt))) return false;
        sv_worker_count_task(rt);
        sv_kick_all(&rt->endpoint); /* its result must not wait for the next task */
        if (sv_now_ns() - began_ns >= TURN_NS) return true;
    }
    return may_take(rt);
}

/* Without a name, or memory, it would not be given again. */
static bool keep(struct sv_runtime *rt, int32_t token) {
    struct sv_task_state *tasks = &rt->tasks;
    if (token < 0 || (uint32_t)token >= rt->name_count) return false;
    if ((size_t)token >= tasks->kept_capacity) {
        size_t capacity = tasks->kept_capacity ? tasks->kept_capacity * 2 : 64;
        while (capacity <= (size_t)token) capacity *= 2;
        struct sv_job_copy *grown = realloc(tasks->kept, capacity * sizeof *grown);
        if (!grown) return false;
        memset(grown + tasks->kept_capacity, 0, (capacity - tasks->kept_capacity) * sizeof *grown);
        tasks->kept = grown;
        tasks->kept_capacity = capacity;
    }
    tasks->kept[token] = tasks->job;
    return true;
}

void sv_tasks_suspend(struct sv_runtime *rt, int32_t token) {
    struct sv_task_state *tasks = &rt->tasks;
    tasks->suspended++;
    if (tasks->is_kept && keep(rt, token)) tasks->is_kept = false;
}

void sv_tasks_end(struct sv_runtime *rt, int32_t token) {
    struct sv_task_state *tasks = &rt->tasks;
    tasks->suspended--;
    if (token < 0 || (size_t)token >= tasks->kept_capacity || !tasks->kept[token].pool) return;
    give_back(rt, &tasks->kept[token], producer_of(&tasks->kept[token]));
    tasks->kept[token].pool = NULL;
}

/* ------------------------------------------------------------------------------------------------------- results */

bool sv_tasks_has_source(const struct sv_runtime *rt, const struct sv_task_source *source) {
    uint32_t first = sv_endpoint_of_slot(&rt->ipc, 0, 0);
    return source->endpoint >= first && source->endpoint < first + 2 * rt->config.workers;
}

uint32_t sv_tasks_reply_to(const struct sv_runtime *rt, const struct sv_task_source *source) {
    uint32_t slot = (uint32_t)sv_slot_of_endpoint(&rt->ipc, source->endpoint);
    uint32_t parity = sv_parity_of_endpoint(&rt->ipc, source->endpoint);
    const struct sv_slot *shared = &rt->slots[slot];
    bool is_there = atomic_load(&shared->born[parity]) == source->born && atomic_load(&shared->pid[parity]);
    return is_there ? source->endpoint : sv_endpoint_of_slot(&rt->ipc, slot, atomic_load(&shared->parity));
}

/* ------------------------------------------------------------------------------------------------------- recovery */

struct recovery { /* who died */
    struct sv_runtime *rt;
    struct sv_slot_life *life;
    _Atomic uint64_t *names;
    uint32_t slot, name_end;
};

/* Where the dead one has named a task as begun, NULL: it has not. */
static _Atomic uint64_t *name_of(const struct recovery *recovery, uint64_t key) {
    if (atomic_load(&recovery->life->serving) == key) return &recovery->life->serving;
    for (uint32_t i = 0; i < recovery->name_end; i++)
        if (atomic_load(&recovery->names[i]) == key) return &recovery->names[i];
    return NULL;
}

/* A job that is still claimed was named but not begun, or it is kept to be given again. */
static enum sv_job_fate ask(void *context, struct sv_job *job) {
    struct recovery *recovery = context;
    struct sv_runtime *rt = recovery->rt;
    uint64_t key = sv_task_key((uint32_t)job->source, job->id);
    _Atomic uint64_t *name = name_of(recovery, key);
    bool is_given_again = rt->config.on_lost_request == SV_LOST_ACTION_REDELIVER && name;
    if (is_given_again && atomic_exchange(&job->was_lost_once, 1)) return SV_JOB_DROP; /* as it is named, it is reported as lost */
    if (name) atomic_store(name, 0);
    if (is_given_again)
        sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "task worker %u died while it ran task %llu: it is given once more", recovery->slot,
                     (unsigned long long)job->id);
    return SV_JOB_QUEUE_AGAIN;
}

void sv_tasks_recover(struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    if (!rt->config.task_workers) return;
    bool is_task_worker = slot >= rt->config.workers && slot < rt->config.workers + rt->config.task_workers;
    if (rt->task_queue.is_used && is_task_worker) sv_task_queue_recover(rt, slot, parity);
    struct sv_slot_life *life = &rt->slots[slot].life[parity];
    uint32_t end = atomic_load(&life->suspended_end);
    struct recovery recovery = {
        rt, life, sv_runtime_names(rt, slot, parity), slot, end < rt->name_count ? end : rt->name_count};
    sv_jobs_recover(&rt->jobs, sv_endpoint_of_slot(&rt->ipc, slot, parity), ask, &recovery);
}

void sv_tasks_count(const struct sv_runtime *rt, uint64_t *count, uint64_t *bytes) {
    if (rt->task_queue.is_used)
        sv_task_queue_count(rt, count, bytes);
    else
        sv_jobs_count(&rt->jobs, count, bytes);
}
