/* tasks.c: task(), results, sendMessage() (methods.md 8, 9). How tasks travel: process/tasks.c. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "server/server.h"

#define FIRST_BUCKETS 64u
#define FINISH_WAIT_NS (10 * SV_NS_PER_SECOND) /* for room in the ring of who gave the task */
#define BLOCK_NS (SV_NS_PER_SECOND / 1000)     /* how long who waits for room sleeps at most before it tries again */
#define WRAP(id) ((id) & UINT32_MAX)

struct sv_pending_task { /* a result is expected by a callback */
    struct sv_pending_task *next;
    srvlua_server *server;
    uint64_t id;
    srvlua_task_callback callback;
    void *user_data;
    int64_t timer; /* 0: none */
};

struct sv_room_waiter {
    struct sv_room_waiter *next;
    srvlua_output_callback callback;
    void *user_data;
};

/* ------------------------------------------------------------------------------------------------- expected results */

static struct sv_pending_task **place_of(struct sv_task_calls *tasks, uint64_t id) {
    struct sv_pending_task **place = &tasks->buckets[id & (tasks->bucket_count - 1)];
    while (*place && (*place)->id != id) place = &(*place)->next;
    return place;
}

static bool grow(struct sv_task_calls *tasks) {
    size_t count = tasks->bucket_count ? tasks->bucket_count * 2 : FIRST_BUCKETS;
    struct sv_pending_task **buckets = calloc(count, sizeof *buckets);
    if (!buckets) return false;
    for (size_t i = 0; i < tasks->bucket_count; i++) {
        for (struct sv_pending_task *pending = tasks->buckets[i], *next; pending; pending = next) {
            next = pending->next;
            pending->next = buckets[pending->id & (count - 1)];
            buckets[pending->id & (count - 1)] = pending;
        }
    }
    free(tasks->buckets);
    tasks->buckets = buckets;
    tasks->bucket_count = count;
    return true;
}

static struct sv_pending_task *expect(srvlua_server *server, uint64_t id, const struct srvlua_task_options *options) {
    struct sv_task_calls *tasks = &server->tasks;
    if (tasks->count >= tasks->bucket_count && !grow(tasks)) return NULL;
    struct sv_pending_task *pending = tasks->idle;
    if (pending)
        tasks->idle = pending->next;
    else
        pending = malloc(sizeof *pending);
    if (!pending) return NULL;
    struct sv_pending_task **place = place_of(tasks, id);
    *pending = (struct sv_pending_task){
        .next = *place, .server = server, .id = id, .callback = options->callback, .user_data = options->user_data};
    *place = pending;
    tasks->count++;
    return pending;
}

/* Takes it out; its members stay as they are until the next task is given. */
static struct sv_pending_task *take_pending(srvlua_server *server, uint64_t id) {
    struct sv_task_calls *tasks = &server->tasks;
    if (!tasks->bucket_count) return NULL;
    struct sv_pending_task **place = place_of(tasks, id), *pending = *place;
    if (!pending) return NULL;
    *place = pending->next;
    tasks->count--;
    if (pending->timer > 0) sv_timer_clear_internal(&server->rt.loop, pending->timer);
    pending->next = tasks->idle;
    tasks->idle = pending;
    return pending;
}

static int on_timeout(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)loop, (void)timer;
    const struct sv_pending_task *expired = user_data;
    srvlua_server *server = expired->server;
    uint64_t id = expired->id;
    struct sv_pending_task *pending = take_pending(server, id);
    struct srvlua_task_result result = {.code = SRVLUA_ERROR_TASK_TIMEOUT, .task_id = (int64_t)id, .task_worker_id = -1};
    return pending->callback(server, &result, pending->user_data);
}

static bool start_timeout(srvlua_server *server, struct sv_pending_task *pending, double timeout) {
    if (timeout <= 0) return true;
    double ms = timeout * 1e3;
    pending->timer = sv_timer_add_internal(&server->rt.loop, ms < 1 ? 1 : ms > 1e15 ? (int64_t)1e15 : (int64_t)ms, false, on_timeout, pending);
    return pending->timer > 0;
}

void srvlua_task_forget(srvlua_server *server, int64_t task_id) {
    take_pending(server, (uint64_t)task_id);
}

bool sv_tasks_is_expecting(void *context) {
    const srvlua_server *server = context;
    return server->tasks.count != 0;
}

void sv_tasks_reset(srvlua_server *server) {
    struct sv_task_calls *tasks = &server->tasks;
    for (size_t i = 0; i < tasks->bucket_count; i++)
        while (tasks->buckets[i]) {
            struct sv_pending_task *pending = tasks->buckets[i];
            tasks->buckets[i] = pending->next;
            free(pending);
        }
    while (tasks->idle) {
        struct sv_pending_task *pending = tasks->idle;
        tasks->idle = pending->next;
        free(pending);
    }
    while (tasks->first_waiter) {
        struct sv_room_waiter *waiter = tasks->first_waiter;
        tasks->first_waiter = waiter->next;
        free(waiter);
    }
    free(tasks->buckets);
    *tasks = (struct sv_task_calls){0};
}

/* --------------------------------------------------------------------------------------------------------- giving */

static int check_task(srvlua_server *server, const struct srvlua_task_options *options, struct srvlua_status *status) {
    int result = sv_check_call(server, options->callback ? SV_CALL_TASK_WAIT : SV_CALL_TASK, status);
    if (result) return result;
    if (!server->rt.config.task_workers)
        return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "there are no task workers");
    if (options->dst >= 0 && (uint32_t)options->dst >= server->rt.config.task_workers)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no task worker %d", options->dst);
    return 0;
}

struct giving {
    srvlua_server *server;
    int32_t dst;
    uint64_t id;
    uint32_t flags;
    const void *data;
    size_t length;
    int result;
};

static bool try_to_give(void *context) {
    struct giving *giving = context;
    srvlua_server *server = giving->server;
    bool nobody_idle;
    giving->result = sv_tasks_put(&server->rt, giving->dst, giving->id, giving->flags, giving->data, giving->length, &nobody_idle);
    if (nobody_idle && sv_log_limit_pass(&server->tasks.idle_warning, sv_now_ns()))
        sv_log_write(&server->log, SRVLUA_LOG_WARNING, "No idle task worker: task %llu waits", (unsigned long long)giving->id);
    return giving->result != -EAGAIN;
}

/* Waits as this kind of process may: master and manager never. */
static int give(struct giving *giving, bool may_wait) {
    srvlua_server *server = giving->server;
    struct sv_runtime *rt = &server->rt;
    if (try_to_give(giving)) return giving->result;
    if (rt->role == SRVLUA_ROLE_WORKER && !may_wait) return -EAGAIN;
    while (rt->role == SRVLUA_ROLE_USER || rt->role == SRVLUA_ROLE_WORKER) {
        if (rt->role == SRVLUA_ROLE_USER)
            sv_runtime_nap(rt, BLOCK_NS);
        else if (sv_worker_wait(rt, try_to_give, giving, sv_now_ns() + BLOCK_NS) == -EINTR || sv_worker_is_overdue(rt))
            break;
        if (giving->result != -EAGAIN || try_to_give(giving)) return giving->result;
    }
    return -SRVLUA_ERROR_TASK_DISPATCH_FAIL;
}

static int fail_to_give(srvlua_server *server, struct srvlua_status *status, int result) {
    if (result == -EAGAIN) return sv_server_fail(server, status, EAGAIN, "the task workers have no room for the task now");
    if (result == -EMSGSIZE) return sv_server_fail(server, status, SRVLUA_ERROR_TASK_DISPATCH_FAIL, "the task's data are too large");
    if (result == -ENOMEM) return sv_server_fail(server, status, SRVLUA_ERROR_TASK_DISPATCH_FAIL, "out of memory");
    if (result != -SRVLUA_ERROR_TASK_DISPATCH_FAIL)
        return sv_server_fail(server, status, -result, "the task could not be put into the message queue: %s", strerror(-result));
    return sv_server_fail(server, status, SRVLUA_ERROR_TASK_DISPATCH_FAIL, "the task could not be delivered: there is no room");
}

int64_t srvlua_task(srvlua_server *server, const void *data, size_t length, const struct srvlua_task_options *options,
                    struct srvlua_status *status) {
    int result = check_task(server, options, status);
    if (result) return result;
    struct sv_task_calls *tasks = &server->tasks;
    if ((int64_t)length > server->ports[0]->effective.package_max_length && sv_log_limit_pass(&tasks->size_warning, sv_now_ns()))
        sv_log_about(&server->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_TASK_PACKAGE_TOO_BIG,
                     "the data of a task are %zu bytes, more than package_max_length", length);
    bool is_one_way = server->rt.role != SRVLUA_ROLE_WORKER;
    struct giving giving = {.server = server,
                            .dst = options->dst < 0 ? SV_JOB_ANY : options->dst,
                            .id = WRAP(tasks->next_id),
                            .flags = (uint32_t)options->flags | (is_one_way ? SRVLUA_TASK_NOREPLY : 0),
                            .data = data,
                            .length = length};
    struct sv_pending_task *pending = NULL;
    if (options->callback) {
        pending = expect(server, giving.id, options);
        if (!pending) return fail_to_give(server, status, -ENOMEM);
    }
    tasks->next_id++;
    result = give(&giving, options->may_wait);
    if (result) {
        if (WRAP(tasks->next_id) == WRAP(giving.id + 1)) tasks->next_id--; /* nobody has seen that id */
        if (pending) take_pending(server, giving.id);
        return fail_to_give(server, status, result);
    }
    if (pending && !start_timeout(server, pending, options->timeout)) {
        take_pending(server, giving.id);
        return fail_to_give(server, status, -ENOMEM);
    }
    return (int64_t)giving.id;
}

int srvlua_wait_for_task_room(srvlua_server *server, int dst, srvlua_output_callback callback, void *user_data, struct srvlua_status *status) {
    (void)dst; /* whose room it is shows when they try again */
    int result = sv_check_call(server, SV_CALL_TASK_WAIT, status);
    if (result) return result;
    struct sv_room_waiter *waiter = malloc(sizeof *waiter);
    if (!waiter) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    *waiter = (struct sv_room_waiter){.callback = callback, .user_data = user_data};
    if (server->tasks.last_waiter)
        server->tasks.last_waiter->next = waiter;
    else
        server->tasks.first_waiter = waiter;
    server->tasks.last_waiter = waiter;
    return 0;
}

static int turn(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)loop, (void)timer, (void)user_data;
    return 0;
}

/* All that wait try again, in their order; who finds no room waits once more. A task worker that makes room rings our bell; the
 * timer is for room that comes otherwise. */
void sv_tasks_end_turn(srvlua_server *server) {
    struct sv_room_waiter *waiter = server->tasks.first_waiter;
    if (!waiter) return;
    server->tasks.first_waiter = server->tasks.last_waiter = NULL;
    while (waiter) {
        struct sv_room_waiter *next = waiter->next;
        sv_worker_begin_running(&server->rt);
        if (waiter->callback(waiter->user_data, 0)) srvlua_callback_failed(server);
        sv_worker_end_running(&server->rt);
        free(waiter);
        waiter = next;
    }
    if (server->tasks.first_waiter) sv_timer_add_internal(&server->rt.loop, 1, false, turn, NULL);
}

struct until {
    int (*is_done)(void *user_data);
    void *user_data;
};

static bool is_done(void *context) {
    const struct until *until = context;
    return until->is_done(until->user_data) != 0;
}

int srvlua_wait_until(srvlua_server *server, int (*done)(void *user_data), void *user_data, double timeout, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_TASK_WAIT, status);
    if (result) return result;
    struct until until = {done, user_data};
    int64_t limit_ns = timeout <= 0 || timeout > 1e9 ? 0 : sv_now_ns() + (int64_t)(timeout * 1e9);
    result = sv_worker_wait(&server->rt, is_done, &until, limit_ns);
    if (result == 0) return 0;
    if (result == -ETIMEDOUT) return sv_server_fail(server, status, ETIMEDOUT, "it did not come in time");
    return sv_server_fail(server, status, SRVLUA_ERROR_SERVER_WORKER_TERMINATED, "this worker is to leave");
}

/* ------------------------------------------------------------------------------------------------------- running */

void sv_tasks_run(void *context, const struct sv_task *task) {
    srvlua_server *server = context;
    struct sv_runtime *rt = &server->rt;
    struct srvlua_event_data data = {.event = SRVLUA_ON_TASK,
                                     .worker_id = rt->slot,
                                     .task_id = (int64_t)task->id,
                                     .source_worker_id = sv_slot_of_endpoint(&rt->ipc, task->source.endpoint),
                                     .flags = (int)task->flags,
                                     .data = task->data,
                                     .length = task->length,
                                     .dispatch_time = (double)task->stamp_ns / 1e9};
    server->tasks.running = task;
    sv_events_run(server, &server->callbacks[SRVLUA_ON_TASK], &data);
    server->tasks.running = NULL;
}

int srvlua_get_task_origin(srvlua_server *server, struct srvlua_task_origin *origin, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_FINISH, status);
    if (result) return result;
    const struct sv_task *task = server->tasks.running;
    if (!task) return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "no task runs here");
    *origin = (struct srvlua_task_origin){.task_id = (int64_t)task->id,
                                          .source_worker_id = sv_slot_of_endpoint(&server->rt.ipc, task->source.endpoint),
                                          .flags = (int)task->flags,
                                          .source = (uint64_t)task->source.born << 32 | task->source.endpoint};
    return 0;
}

int srvlua_task_finish(srvlua_server *server, const struct srvlua_task_origin *origin, const void *data, size_t length, int flags,
                       struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, SV_CALL_FINISH, status);
    if (result) return result;
    if (origin->flags & SRVLUA_TASK_NOREPLY)
        return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "nobody waits for the result of task %lld: it is one-way",
                              (long long)origin->task_id);
    struct sv_task_source source = {.endpoint = (uint32_t)origin->source, .born = (uint32_t)(origin->source >> 32)};
    if (!sv_tasks_has_source(rt, &source))
        return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "the worker that gave the task does not exist");
    struct sv_finish_head head = {.task_worker = (uint32_t)rt->slot, .born = source.born, .stamp_ns = sv_wall_ns()};
    int32_t sent_flags = (origin->flags & ~SRVLUA_TASK_SERIALIZE) | flags;
    result = sv_runtime_send(rt, sv_tasks_reply_to(rt, &source), SV_RECORD_FINISH, (uint64_t)origin->task_id, sent_flags, &head, sizeof head,
                             data, length, sv_now_ns() + FINISH_WAIT_NS);
    if (result == 0) return 0;
    return sv_server_fail(server, status, SRVLUA_ERROR_SERVER_SEND_TO_WORKER_TIMEOUT, "worker %d had no room for the result of task %lld",
                          origin->source_worker_id, (long long)origin->task_id);
}

/* ------------------------------------------------------------------------------------------------------- results */

struct received_result {
    struct sv_finish_head head;
    struct srvlua_task_result result;
};

static bool read_result(srvlua_server *server, const struct sv_message *message, struct received_result *received) {
    if (message->length < sizeof received->head) {
        if (sv_log_limit_pass(&server->tasks.damage_warning, sv_now_ns()))
            sv_log_write(&server->log, SRVLUA_LOG_ERROR, "a damaged result of a task is dropped");
        return false;
    }
    memcpy(&received->head, message->payload, sizeof received->head);
    received->result = (struct srvlua_task_result){.task_id = (int64_t)message->id,
                                                   .task_worker_id = (int)received->head.task_worker,
                                                   .dispatch_time = (double)received->head.stamp_ns / 1e9,
                                                   .flags = message->value,
                                                   .data = message->payload + sizeof received->head,
                                                   .length = message->length - sizeof received->head};
    return true;
}

static bool is_ours(const srvlua_server *server, const struct received_result *received) {
    return received->head.born == sv_tasks_source(&server->rt).born;
}

static void answer(srvlua_server *server, const struct srvlua_task_result *result, const struct sv_pending_task *pending) {
    struct sv_pending_task called = *pending;
    sv_worker_begin(&server->rt, 0);
    if (called.callback(server, result, called.user_data)) srvlua_callback_failed(server);
    sv_worker_end(&server->rt);
}

/* Nobody waits for it any more, or it is a second one, or who waited died with the process before this one. */
static void drop_result(srvlua_server *server, const struct srvlua_task_result *result) {
    bool is_callback = result->flags & SRVLUA_TASK_CALLBACK;
    struct sv_log_limit *limit = is_callback ? &server->tasks.drop_warning : &server->tasks.expired_notice;
    if (!sv_log_limit_pass(limit, sv_now_ns())) return;
    if (is_callback)
        sv_log_write(&server->log, SRVLUA_LOG_WARNING, "a result of task %lld is dropped: its callback has had one, or is no more",
                     (long long)result->task_id);
    else
        sv_log_about(&server->log, SRVLUA_LOG_NOTICE, 0, SRVLUA_ERROR_TASK_TIMEOUT,
                     "task expired: a result of task %lld came when nobody waited for it any more", (long long)result->task_id);
}

static void fire_finish(srvlua_server *server, const struct srvlua_task_result *result) {
    const struct sv_callback *callback = &server->callbacks[SRVLUA_ON_FINISH];
    if (!callback->function) {
        if (sv_log_limit_pass(&server->tasks.drop_warning, sv_now_ns()))
            sv_log_write(&server->log, SRVLUA_LOG_WARNING, "the result of task %lld is dropped: there is no 'finish' callback",
                         (long long)result->task_id);
        return;
    }
    struct srvlua_event_data data = {.event = SRVLUA_ON_FINISH,
                                     .worker_id = server->rt.slot,
                                     .task_id = result->task_id,
                                     .task_worker_id = result->task_worker_id,
                                     .flags = result->flags,
                                     .data = result->data,
                                     .length = result->length,
                                     .dispatch_time = result->dispatch_time};
    sv_worker_begin(&server->rt, 0);
    sv_events_run(server, callback, &data);
    sv_worker_end(&server->rt);
}

static void on_finish(srvlua_server *server, const struct sv_message *message) {
    struct received_result received;
    if (server->rt.role != SRVLUA_ROLE_WORKER || !read_result(server, message, &received)) return;
    const struct srvlua_task_result *result = &received.result;
    if (result->flags & SRVLUA_TASK_NONBLOCK) {
        fire_finish(server, result);
        return;
    }
    const struct sv_pending_task *pending = is_ours(server, &received) ? take_pending(server, message->id) : NULL;
    if (pending)
        answer(server, result, pending);
    else
        drop_result(server, result);
}

/* ------------------------------------------------------------------------------------------------------ messages */

int srvlua_send_message(srvlua_server *server, int worker_id, const void *data, size_t length, int flags, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, SV_CALL_MESSAGE, status);
    if (result) return result;
    if (!server->callbacks[SRVLUA_ON_PIPE_MESSAGE].function)
        return sv_server_fail(server, status, SRVLUA_ERROR_SERVER_INVALID_CALLBACK, "there is no 'pipeMessage' callback");
    if (worker_id < 0 || (uint32_t)worker_id >= rt->config.workers + rt->config.task_workers)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no worker %d", worker_id);
    if (worker_id == rt->slot) return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "a worker cannot send itself a message");
    bool has_loop = rt->role != SRVLUA_ROLE_USER && (rt->role != SRVLUA_ROLE_TASK || rt->config.task_coroutines);
    if (has_loop) {
        result = sv_messages_send(rt, (uint32_t)worker_id, (uint32_t)flags, data, length);
    } else {
        struct sv_message_head head = {.source = rt->slot, .stamp_ns = sv_wall_ns()};
        uint32_t to = sv_endpoint_of_slot(&rt->ipc, (uint32_t)worker_id, atomic_load(&rt->slots[worker_id].parity));
        result = sv_runtime_send(rt, to, SV_RECORD_MESSAGE, 0, flags, &head, sizeof head, data, length, 0);
        sv_kick_all(&rt->endpoint); /* the one there, or its successor */
    }
    if (result == 0) return 0;
    return sv_server_fail(server, status, -result,
                          result == -SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL ? "too many messages wait for worker %d already (message_stash_size)"
                                                                          : "the message for worker %d could not be sent",
                          worker_id);
}

static void on_message(srvlua_server *server, const struct sv_message *message) {
    struct sv_message_head head;
    const struct sv_callback *callback = &server->callbacks[SRVLUA_ON_PIPE_MESSAGE];
    if (message->length < sizeof head || !callback->function || !server->rt.worker.life) return;
    memcpy(&head, message->payload, sizeof head);
    struct srvlua_event_data data = {.event = SRVLUA_ON_PIPE_MESSAGE,
                                     .worker_id = server->rt.slot,
                                     .source_worker_id = head.source,
                                     .flags = message->value,
                                     .data = message->payload + sizeof head,
                                     .length = message->length - sizeof head,
                                     .dispatch_time = (double)head.stamp_ns / 1e9};
    sv_worker_begin(&server->rt, 0);
    sv_events_run(server, callback, &data);
    sv_worker_end(&server->rt);
}

/* --------------------------------------------------------------------------------------------------------- mail */

void sv_tasks_mail(void *context, const struct sv_message *message) {
    srvlua_server *server = context;
    switch (message->type) {
        case SV_RECORD_FINISH: on_finish(server, message); break;
        case SV_RECORD_MESSAGE: on_message(server, message); break;
        default: break;
    }
}

/* Results that a call waits for; their callbacks only take them in. The finish event is a callback like others. */
bool sv_tasks_mail_at_once(void *context, const struct sv_message *message) {
    srvlua_server *server = context;
    if (message->type != SV_RECORD_FINISH || message->value & (SRVLUA_TASK_NONBLOCK | SRVLUA_TASK_CALLBACK | SRVLUA_TASK_COROUTINE))
        return false;
    on_finish(server, message);
    return true;
}
