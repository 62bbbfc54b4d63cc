/* task_queue.c: see task_queue.h. */
#include "process/task_queue.h"

#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errors.h"
#include "ipc/task_message.h"
#include "process/runtime.h"
#include "shm/owner.h"

#define POLL_MS 50      /* a queue with a key */
#define JUNK_MOST 64    /* messages that are no tasks, before other things have their turn */
#define GIVEN_MOST (1u << 20) /* larger payloads are not given again */
#define NUMBERS 65536   /* of task workers, at most */

/* ------------------------------------------------------------------------------------------------ opening, closing */

size_t sv_task_queue_bytes(const struct sv_runtime *rt) {
    if (rt->config.task_way == SV_TASK_WAY_RING) return 0;
    return sv_cache_lines(2 * rt->config.task_workers * sizeof(struct sv_queue_message));
}

/* Tasks that an earlier server meant for task workers which there are none of now: anybody's. */
static void adopt_strangers(const struct sv_runtime *rt) {
    const struct sv_msgqueue *queue = &rt->task_queue.queue;
    struct sv_queue_message *message = malloc(sizeof *message);
    uint64_t count = 0, bytes;
    if (message && sv_msgqueue_stat(queue, &count, &bytes)) count = 0;
    for (long type = rt->config.task_workers + 1; message && count && type <= NUMBERS; type++) {
        ssize_t length;
        while (count && (length = sv_msgqueue_receive(queue, type, message)) >= 0) {
            message->type = SV_QUEUE_TYPE_ANY;
            sv_msgqueue_send(queue, message, (size_t)length); /* there is room: it was just made */
            count--;
        }
    }
    free(message);
}

static void give_to_workers(struct sv_runtime *rt) {
    const struct sv_identity *identity = &rt->identity;
    struct sv_task_queue *tasks = &rt->task_queue;
    tasks->files.has_user = identity->has_user;
    tasks->files.has_group = identity->has_group;
    tasks->files.user = identity->user;
    tasks->files.group = identity->group;
    if (!sv_identity_is_given(identity)) return;
    int result = sv_msgqueue_set_owner(&tasks->queue, identity->has_user ? identity->user : (uid_t)-1,
                                       identity->has_group ? identity->group : (gid_t)-1);
    if (result) sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "the message queue cannot be given to the workers' user: %s", strerror(-result));
}

/* The directory as this process sees it; the workers may be in a chroot. */
static void sweep_files(const struct sv_runtime *rt) {
    char path[PATH_MAX];
    const char *root = rt->identity.root ? rt->identity.root : "";
    if ((size_t)snprintf(path, sizeof path, "%s%s", root, rt->config.task_tmpdir) < sizeof path) sv_task_files_sweep(path);
}

int sv_task_queue_open(struct sv_runtime *rt, struct srvlua_status *status) {
    struct sv_task_queue *tasks = &rt->task_queue;
    struct sv_self self;
    if (rt->config.task_way == SV_TASK_WAY_RING || !rt->config.task_workers) return 0;
    tasks->taken = sv_arena_alloc(&rt->arena, 2 * rt->config.task_workers * sizeof *tasks->taken);
    if (!tasks->taken) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    int result = sv_self_open(&self);
    if (result) return sv_fail_errno(status, -result, "mmap");
    tasks->files = (struct sv_task_files){
        .directory = rt->config.task_tmpdir, .key = rt->config.message_queue_key, .server = sv_self_id(&self)};
    sv_self_close(&self);
    result = sv_msgqueue_open(&tasks->queue, rt->config.message_queue_key);
    if (result) return sv_fail(status, -result, "the message queue with key %d cannot be used: %s", rt->config.message_queue_key, strerror(-result));
    tasks->is_used = true;
    tasks->is_for_all = rt->config.task_way == SV_TASK_WAY_QUEUE_ANY;
    give_to_workers(rt);
    sweep_files(rt);
    if (!tasks->is_for_all) adopt_strangers(rt);
    return 0;
}

/* The files of what is lost with the queue. */
static void remove_files(struct sv_task_queue *tasks) {
    struct sv_queue_message *message = malloc(sizeof *message);
    ssize_t length;
    while (message && (length = sv_msgqueue_receive(&tasks->queue, 0, message)) >= 0) {
        struct sv_task_message task;
        if (sv_task_message_read(&task, message->text, (size_t)length) == 0 && task.flags & SRVLUA_TASK_TMPFILE)
            sv_task_file_remove(&tasks->files, task.bytes, task.length);
    }
    free(message);
}

void sv_task_queue_close(struct sv_runtime *rt) {
    struct sv_task_queue *tasks = &rt->task_queue;
    if (!tasks->is_used) return;
    tasks->is_used = false;
    if (!tasks->queue.is_private) return;
    remove_files(tasks);
    sv_msgqueue_remove(&tasks->queue);
}

/* --------------------------------------------------------------------------------------------------------- giving */

static int send_task(struct sv_runtime *rt, struct sv_queue_message *message, const struct sv_task_message *task) {
    sv_task_message_write(task, message->text);
    int result = sv_msgqueue_send(&rt->task_queue.queue, message, sv_task_message_size(task));
    if (result == 0) atomic_fetch_add(&rt->shared->queued_tasks, 1);
    return result;
}

/* A file is written in vain if there is no room for its message: so look first. */
static bool is_full(const struct sv_msgqueue *queue) {
    uint64_t messages, bytes;
    return sv_msgqueue_stat(queue, &messages, &bytes) == 0 && bytes + SV_TASK_HEAD_BYTES + SV_TASK_FILE_NAME_MAX > queue->capacity;
}

static int send_as_file(struct sv_runtime *rt, struct sv_queue_message *message, struct sv_task_message *task) {
    struct sv_task_files *files = &rt->task_queue.files;
    char name[SV_TASK_FILE_NAME_MAX];
    if (is_full(&rt->task_queue.queue)) return -EAGAIN;
    int result = sv_task_file_write(files, task->bytes, task->length, name);
    if (result) return result;
    task->flags |= SRVLUA_TASK_TMPFILE;
    task->bytes = name;
    task->length = strlen(name);
    result = send_task(rt, message, task);
    if (result) sv_task_file_remove(files, name, task->length);
    return result;
}

int sv_task_queue_put(struct sv_runtime *rt, int32_t dst, uint64_t id, uint32_t flags, const void *data, size_t length) {
    const struct sv_task_queue *tasks = &rt->task_queue;
    struct sv_queue_message message;
    struct sv_task_message task = {.id = id,
                                   .flags = flags & ~(uint32_t)SRVLUA_TASK_TMPFILE,
                                   .worker = rt->slot,
                                   .server = tasks->files.server,
                                   .born = sv_tasks_source(rt).born,
                                   .stamp_ns = sv_wall_ns(),
                                   .data_length = length,
                                   .bytes = data,
                                   .length = length};
    message.type = dst >= 0 ? dst + 1 : tasks->is_for_all ? 1 : SV_QUEUE_TYPE_ANY;
    return length > tasks->queue.most - SV_TASK_HEAD_BYTES ? send_as_file(rt, &message, &task) : send_task(rt, &message, &task);
}

/* -------------------------------------------------------------------------------------------------------- running */

/* What words of shared memory call it: known from the message alone. */
static uint64_t name_of(const struct sv_runtime *rt, const struct sv_task_message *task) {
    bool is_in_slot = task->worker >= 0 && (uint32_t)task->worker < rt->slot_count;
    return sv_task_key(is_in_slot ? sv_endpoint_of_slot(&rt->ipc, (uint32_t)task->worker, 0) : SV_ENDPOINT_MASTER, task->id);
}

/* The life that gave it, if that was one of this server; else the present process of its slot, as if it were a former one. */
static struct sv_task_source source_of(const struct sv_runtime *rt, struct sv_task_message *task) {
    bool is_ours = task->server == rt->task_queue.files.server;
    if (task->worker < 0) return (struct sv_task_source){.endpoint = SV_ENDPOINT_MASTER};
    if ((uint32_t)task->worker >= (is_ours ? rt->slot_count : rt->config.workers)) {
        if (!(task->flags & SRVLUA_TASK_NOREPLY))
            sv_log_write(&rt->log, SRVLUA_LOG_NOTICE, "task %llu was given by worker %d of an earlier server: its result is dropped",
                         (unsigned long long)task->id, task->worker);
        task->flags |= SRVLUA_TASK_NOREPLY;
        return (struct sv_task_source){.endpoint = SV_ENDPOINT_MASTER};
    }
    const struct sv_slot *slot = &rt->slots[task->worker];
    uint32_t parity = atomic_load(&slot->parity) & 1;
    if (is_ours && atomic_load(&slot->born[1 - parity]) == task->born) parity = 1 - parity;
    return (struct sv_task_source){.endpoint = sv_endpoint_of_slot(&rt->ipc, (uint32_t)task->worker, parity),
                                   .born = is_ours ? task->born : 0};
}

static struct sv_queue_message *taken_by(const struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    return &rt->task_queue.taken[2 * (slot - rt->config.workers) + parity];
}

/* From here on `serving` alone says what runs. Should we be killed, all that is written before is there. */
static void let_go(struct sv_queue_message *message) {
    atomic_signal_fence(memory_order_seq_cst);
    *(volatile long *)&message->type = 0;
}

static void run(struct sv_runtime *rt, const struct sv_task_message *message, const struct sv_task_source *source, bool is_kept) {
    const struct sv_task_files *files = &rt->task_queue.files;
    bool is_in_file = message->flags & SRVLUA_TASK_TMPFILE;
    unsigned char *data = NULL;
    int problem = is_in_file ? sv_task_file_read(files, message->bytes, message->length, message->data_length, &data) : 0;
    struct sv_task task = {.id = message->id & UINT32_MAX,
                           .source = *source,
                           .flags = message->flags & ~(uint32_t)(SRVLUA_TASK_TMPFILE | SV_TASK_GIVEN_AGAIN),
                           .stamp_ns = message->stamp_ns,
                           .data = is_in_file ? data : message->bytes,
                           .length = (size_t)message->data_length};
    if (is_in_file && !is_kept) sv_task_file_remove(files, message->bytes, message->length);
    if (problem) {
        sv_count(rt->counters, SV_COUNT_LOST, 1);
        sv_log_about(&rt->log, SRVLUA_LOG_ERROR, 0, -problem, "task %llu is lost: its file %.*s cannot be read: %s",
                     (unsigned long long)message->id, (int)message->length, (const char *)message->bytes, strerror(-problem));
    } else {
        rt->hooks.run_task(rt->hooks.context, &task);
    }
    free(data);
}

static bool is_given_again(const struct sv_runtime *rt, const struct sv_task_message *task) {
    return rt->config.on_lost_request == SV_LOST_ACTION_REDELIVER && !(task->flags & SV_TASK_GIVEN_AGAIN) && task->data_length <= GIVEN_MOST;
}

static void run_taken(struct sv_runtime *rt, struct sv_queue_message *taken, struct sv_task_message *task) {
    bool is_kept = is_given_again(rt, task), is_in_file = task->flags & SRVLUA_TASK_TMPFILE;
    struct sv_task_source source = source_of(rt, task);
    sv_worker_begin(rt, name_of(rt, task));
    if (!is_kept) let_go(taken);
    run(rt, task, &source, is_kept);
    if (is_kept && is_in_file) sv_task_file_remove(&rt->task_queue.files, task->bytes, task->length);
    if (is_kept) let_go(taken);
    sv_worker_end(rt);
}

/* Mode 2: what is meant for us and what is for anybody, in turns. */
static ssize_t receive(struct sv_task_queue *tasks, long own, struct sv_queue_message *message) {
    if (tasks->is_for_all) return sv_msgqueue_receive(&tasks->queue, 0, message);
    bool is_own_first = tasks->takes_own_first;
    ssize_t length = sv_msgqueue_receive(&tasks->queue, is_own_first ? own : SV_QUEUE_TYPE_ANY, message);
    if (length == -EAGAIN) length = sv_msgqueue_receive(&tasks->queue, is_own_first ? SV_QUEUE_TYPE_ANY : own, message);
    tasks->takes_own_first = !is_own_first;
    return length;
}

static int look_again(srvlua_loop *loop, int64_t timer, void *context) { /* makes the loop turn */
    (void)loop, (void)timer;
    struct sv_runtime *rt = context;
    rt->task_queue.may_have_more = true;
    return 0;
}

static void found_none(struct sv_runtime *rt, uint64_t seen, int result) {
    struct sv_task_queue *tasks = &rt->task_queue;
    tasks->seen = seen;
    tasks->may_have_more = false;
    if (!tasks->queue.is_private && tasks->poll <= 0) tasks->poll = sv_timer_add_internal(&rt->loop, POLL_MS, true, look_again, rt);
    if (result != -EAGAIN && sv_log_limit_pass(&tasks->failure_warning, sv_now_ns()))
        sv_log_about(&rt->log, SRVLUA_LOG_ERROR, 0, -result, "no tasks can be taken from the message queue: %s", strerror(-result));
}

bool sv_task_queue_run(struct sv_runtime *rt) {
    struct sv_task_queue *tasks = &rt->task_queue;
    struct sv_queue_message *taken = taken_by(rt, (uint32_t)rt->slot, rt->parity);
    for (int i = 0; i < JUNK_MOST; i++) {
        uint64_t seen = atomic_load(&rt->shared->queued_tasks);
        ssize_t length = receive(tasks, (long)((uint32_t)rt->slot - rt->config.workers) + 1, taken);
        if (length < 0) {
            found_none(rt, seen, (int)length);
            return false;
        }
        struct sv_task_message task;
        tasks->may_have_more = true;
        if (sv_task_message_read(&task, taken->text, (size_t)length) == 0) {
            run_taken(rt, taken, &task);
            return true;
        }
        let_go(taken);
        if (sv_log_limit_pass(&tasks->junk_warning, sv_now_ns()))
            sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "a message of %zd bytes in the message queue is no task, or a damaged one: it is dropped", length);
    }
    return false;
}

bool sv_task_queue_has_news(const struct sv_runtime *rt) {
    return rt->task_queue.may_have_more || atomic_load(&rt->shared->queued_tasks) != rt->task_queue.seen;
}

/* ------------------------------------------------------------------------------------------------------- recovery */

/* Puts a message back as it is. */
static bool put_back(struct sv_runtime *rt, struct sv_queue_message *message, const struct sv_task_message *task) {
    struct sv_queue_message again = {.type = message->type};
    return send_task(rt, &again, task) == 0;
}

void sv_task_queue_recover(struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    struct sv_queue_message *taken = taken_by(rt, slot, parity);
    struct sv_slot_life *life = &rt->slots[slot].life[parity];
    struct sv_task_message task;
    size_t size = taken->type > 0 ? sv_task_message_told_size(taken->text, sizeof taken->text) : 0;
    if (!size || sv_task_message_read(&task, taken->text, size)) {
        taken->type = 0;
        return;
    }
    uint64_t name = name_of(rt, &task), serving = name;
    bool was_begun = atomic_load(&life->serving) == name, may_run_again = is_given_again(rt, &task);
    if (was_begun && may_run_again) task.flags |= SV_TASK_GIVEN_AGAIN;
    bool is_back = (!was_begun || may_run_again) && put_back(rt, taken, &task);
    if (!is_back)
        atomic_store(&life->serving, name); /* to be told as lost */
    else if (was_begun && atomic_compare_exchange_strong(&life->serving, &serving, 0))
        sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "task worker %u died while it ran task %u: it is given once more", slot, (uint32_t)task.id);
    taken->type = 0;
}

void sv_task_queue_count(const struct sv_runtime *rt, uint64_t *count, uint64_t *bytes) {
    if (sv_msgqueue_stat(&rt->task_queue.queue, count, bytes)) *count = *bytes = 0;
}
