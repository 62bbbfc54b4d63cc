/* worker.c: an event worker takes the events of its inbox (PROCESS) or of its own reactor (BASE) and runs callbacks; a task
 * worker takes tasks (tasks.c). Their life is the picture above enum sv_worker_phase (runtime.h). */
#include <errno.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"
#include "process/runtime.h"
#include "reactor/signal.h"

#define LOOK_EVERY_MS 20 /* how often a leaving worker looks whether it may go */
#define MARGIN_NS (SV_NS_PER_SECOND / 5) /* at most, before the end of a shutdown */

/* ------------------------------------------------------------------------------------------------ what others see */

static void set_state(struct sv_runtime *rt, enum sv_process_state state) {
    atomic_store_explicit(&rt->worker.life->state, state, memory_order_relaxed);
}

static void change_beat(struct sv_slot_life *life) {
    uint32_t beat = atomic_load_explicit(&life->beat, memory_order_relaxed);
    atomic_store_explicit(&life->beat, beat + 1, memory_order_release);
}

void sv_worker_begin_running(struct sv_runtime *rt) {
    if (rt->worker.running++ == 0) change_beat(rt->worker.life);
}

void sv_worker_end_running(struct sv_runtime *rt) {
    if (--rt->worker.running == 0) change_beat(rt->worker.life);
}

void sv_worker_begin(struct sv_runtime *rt, uint64_t serving) {
    struct sv_worker *worker = &rt->worker;
    sv_worker_begin_running(rt);
    if (worker->depth++) return;
    if (worker->phase <= SV_WORKER_SERVING) set_state(rt, SV_PROCESS_BUSY);
    atomic_store_explicit(&worker->life->serving, serving, memory_order_relaxed);
    if (rt->config.measures_time) atomic_store_explicit(&worker->life->busy_since_ns, sv_now_ns(), memory_order_relaxed);
}

static void note_time(struct sv_slot_life *life) {
    int64_t took_ns = sv_now_ns() - atomic_load_explicit(&life->busy_since_ns, memory_order_relaxed);
    int64_t average_ns = atomic_load_explicit(&life->average_ns, memory_order_relaxed);
    atomic_store_explicit(&life->average_ns, average_ns + (took_ns - average_ns) / 16, memory_order_relaxed);
    atomic_store_explicit(&life->busy_since_ns, 0, memory_order_relaxed);
}

void sv_worker_end(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    sv_worker_end_running(rt);
    if (--worker->depth) return;
    if (rt->config.measures_time) note_time(worker->life);
    if (worker->phase <= SV_WORKER_SERVING) set_state(rt, SV_PROCESS_IDLE);
    atomic_store_explicit(&worker->life->serving, 0, memory_order_relaxed);
}

static bool is_task_worker(const struct sv_runtime *rt) {
    return rt->role == SRVLUA_ROLE_TASK;
}

static int32_t take_name(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    if (worker->free_name_count) return worker->free_names[--worker->free_name_count];
    uint32_t end = atomic_load_explicit(&worker->life->suspended_end, memory_order_relaxed);
    if (end >= rt->name_count) return (int32_t)rt->name_count;
    atomic_store_explicit(&worker->life->suspended_end, end + 1, memory_order_relaxed);
    return (int32_t)end;
}

/* Without memory the name is not used again. */
static void give_name_back(struct sv_worker *worker, int32_t name) {
    if (worker->free_name_count == worker->free_name_capacity) {
        size_t capacity = worker->free_name_capacity ? worker->free_name_capacity * 2 : 64;
        int32_t *grown = realloc(worker->free_names, capacity * sizeof *grown);
        if (!grown) return;
        worker->free_names = grown;
        worker->free_name_capacity = capacity;
    }
    worker->free_names[worker->free_name_count++] = name;
}

static _Atomic uint64_t *own_names(const struct sv_runtime *rt) {
    return sv_runtime_names(rt, (uint32_t)rt->slot, rt->parity);
}

static int32_t note_suspended(struct sv_runtime *rt, uint64_t session) {
    struct sv_slot_life *life = rt->worker.life;
    int32_t name = take_name(rt);
    if ((uint32_t)name < rt->name_count)
        atomic_store_explicit(&own_names(rt)[name], session, memory_order_relaxed);
    else
        atomic_store_explicit(&life->unnamed, atomic_load_explicit(&life->unnamed, memory_order_relaxed) + 1, memory_order_relaxed);
    return name;
}

int32_t sv_worker_note_suspended(struct sv_runtime *rt) {
    uint64_t session = atomic_load_explicit(&rt->worker.life->serving, memory_order_relaxed);
    if (!session) return -1;
    int32_t token = note_suspended(rt, session);
    if (is_task_worker(rt)) sv_tasks_suspend(rt, token);
    return token;
}

void sv_worker_forget_suspended(struct sv_runtime *rt, int32_t token) {
    struct sv_slot_life *life = rt->worker.life;
    if (token < 0) return;
    if (is_task_worker(rt)) sv_tasks_end(rt, token);
    if ((uint32_t)token < rt->name_count) {
        atomic_store_explicit(&own_names(rt)[token], 0, memory_order_relaxed);
        give_name_back(&rt->worker, token);
    } else {
        atomic_store_explicit(&life->unnamed, atomic_load_explicit(&life->unnamed, memory_order_relaxed) - 1, memory_order_relaxed);
    }
}

static void before_callback(void *context) {
    sv_worker_begin_running(context);
}

static void after_callback(void *context) {
    sv_worker_end_running(context);
}

static int fire(struct sv_runtime *rt, enum srvlua_event event) {
    sv_worker_begin_running(rt);
    int result = sv_runtime_fire(rt, event);
    sv_worker_end_running(rt);
    return result;
}

/* --------------------------------------------------------------------------------------------------- the inbox */

static uint32_t other_endpoint(const struct sv_runtime *rt) {
    return sv_endpoint_of_slot(&rt->ipc, (uint32_t)rt->slot, 1 - rt->parity);
}

/* Which events are taken in: the predecessor's first, then ours, until that is the successor's. */
static void update_muted(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    bool is_pausing = worker->is_resting || worker->is_done;
    sv_set_muted(&rt->endpoint, is_pausing || worker->predecessor_life || atomic_load(&worker->life->is_handed_over));
    if (worker->has_inherited) sv_set_muted(&worker->inherited, is_pausing);
}

/* From here on the successor takes what is or comes into our inbox. */
static void hand_over_inbox(struct sv_runtime *rt) {
    rt->worker.hands_over_later = sv_has_partials_of_reactors(&rt->endpoint) && !rt->loop.is_stopping;
    if (rt->worker.hands_over_later) return; /* the successor could make nothing of the rest */
    if (atomic_exchange(&rt->worker.life->is_handed_over, 1)) return;
    update_muted(rt);
    atomic_store(&sv_inbox_of(&rt->ipc, other_endpoint(rt))->look_everywhere, 1);
    sv_wake(&rt->ipc, other_endpoint(rt));
}

static void receive(void *context, const struct sv_message *message);

static void end_inheritance(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    if (worker->has_inherited) sv_endpoint_close(&worker->inherited);
    worker->has_inherited = false;
    worker->predecessor_life = NULL;
    update_muted(rt);
}

/* A predecessor that left, or died, may have left records behind: they come before ours. */
static void take_over_predecessor(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    struct sv_slot_life *former = worker->predecessor_life;
    if (!former) return;
    if (is_task_worker(rt)) { /* no inbox to work off: the tasks are everybody's */
        if (atomic_load(&former->is_handed_over)) end_inheritance(rt);
        return;
    }
    if (!sv_ipc_has_all_ends(&rt->ipc, worker->predecessor)) {
        if (!atomic_load(&former->is_handed_over)) return;
        if (!worker->has_inherited) {
            if (sv_endpoint_inherit(&worker->inherited, &rt->ipc, worker->predecessor)) return; /* tried again in the next turn */
            worker->inherited.is_redelivering = rt->endpoint.is_redelivering;
            worker->has_inherited = true;
        }
        while (!sv_ipc_has_all_ends(&rt->ipc, worker->predecessor) && sv_receive(&worker->inherited, SV_DRAIN_BATCH, receive, rt)) {}
        if (!sv_ipc_has_all_ends(&rt->ipc, worker->predecessor)) return;
    }
    end_inheritance(rt);
}

/* When the server shuts down nobody writes to the predecessor's inbox any more, and nobody may be there to end it. */
static bool is_inheritance_done(const struct sv_runtime *rt) {
    const struct sv_worker *worker = &rt->worker;
    if (!worker->predecessor_life || is_task_worker(rt)) return true;
    if (!worker->has_inherited) return false;
    for (uint32_t i = 0; i < rt->ipc.reactors; i++) {
        const struct sv_ring *ring = sv_ipc_ring(&rt->ipc, worker->predecessor, sv_endpoint_of_reactor(i));
        if (ring && sv_ring_backlog(ring)) return false;
    }
    return true;
}

static int look_again(srvlua_loop *loop, int64_t timer, void *context) { /* makes the loop turn, so that may_go() is asked */
    (void)loop, (void)timer, (void)context;
    return 0;
}

/* Those who are told late in a shutdown have less time: who leaves in good order is not there any more when the rest is killed. */
static int64_t find_deadline(const struct sv_runtime *rt) {
    int64_t wait_ns = sv_runtime_wait_ns(rt), deadline_ns = sv_now_ns() + wait_ns, end_ns = atomic_load(&rt->shared->shutdown_deadline_ns);
    int64_t margin_ns = wait_ns / 10 < MARGIN_NS ? wait_ns / 10 : MARGIN_NS;
    return end_ns && deadline_ns > end_ns - margin_ns ? end_ns - margin_ns : deadline_ns;
}

static void begin_leaving(struct sv_runtime *rt, enum sv_worker_phase phase) {
    struct sv_worker *worker = &rt->worker;
    if (worker->phase >= phase) return;
    if (worker->phase <= SV_WORKER_SERVING) {
        worker->deadline_ns = find_deadline(rt);
        set_state(rt, SV_PROCESS_EXIT);
        sv_timer_add_internal(&rt->loop, LOOK_EVERY_MS, true, look_again, NULL);
        if (rt->has_reactor) {
            sv_acceptor_stop(&rt->acceptor);
            sv_reactor_quiet(&rt->reactor);
            if (atomic_load(&rt->shared->is_shutting_down)) sv_reactor_cancel_openings(&rt->reactor);
        }
    }
    worker->phase = phase;
}

/* That of an inherited inbox is seen in take_over_predecessor(). */
static void take_end(struct sv_runtime *rt) {
    if (rt->worker.has_inherited || !sv_ipc_has_all_ends(&rt->ipc, rt->endpoint.id)) return;
    begin_leaving(rt, SV_WORKER_WAITING);
    hand_over_inbox(rt);
}

/* Slow callbacks must not keep signals, orders and timers waiting for a whole batch; and who is to leave leaves in time, rather
 * than to be killed over an event that its successor could have served. */
static void deliver_in_time(struct sv_runtime *rt, const struct sv_message *message) {
    struct sv_worker *worker = &rt->worker;
    if (!worker->turn_began_ns) worker->turn_began_ns = sv_now_ns();
    rt->hooks.deliver(rt->hooks.context, message);
    int64_t now_ns = sv_now_ns();
    if (worker->phase == SV_WORKER_DRAINING && rt->config.max_wait_time > 0 && now_ns >= worker->deadline_ns)
        worker->is_done = true;
    else if (now_ns - worker->turn_began_ns >= SV_WORKER_TURN_NS)
        worker->is_resting = true;
    else
        return;
    update_muted(rt);
}

/* A predecessor had taken in the beginning of a long packet, and there was no room to keep that for us. */
static void lose_half_taken(struct sv_runtime *rt, const struct sv_message *message) {
    if (message->value == SV_RECORD_RECEIVE && !sv_session_find(&rt->sessions, message->id)) return; /* nobody misses it */
    char name[48] = "a datagram";
    if (message->id) snprintf(name, sizeof name, "a packet of session %llu", (unsigned long long)message->id);
    sv_log_about(&rt->log, SRVLUA_LOG_WARNING, (int64_t)message->id, 0, "worker %d died while it took in %s: that request is lost", rt->slot, name);
    sv_runtime_lose(rt, message->id);
}

static void receive(void *context, const struct sv_message *message) {
    struct sv_runtime *rt = context;
    if (message->type <= SV_RECORD_OUTPUT_LOW) {
        deliver_in_time(rt, message);
        return;
    }
    if (message->type >= SV_RECORD_FINISH) {
        rt->hooks.mail(rt->hooks.context, message);
        return;
    }
    if (message->type == SV_RECORD_CERTIFICATES && !sv_renewals_are_new(rt, message)) return;
    if (rt->has_reactor && sv_reactor_order(&rt->reactor, message)) return;
    switch (message->type) {
        case SV_RECORD_END: take_end(rt); break;
        case SV_RECORD_STOP:
            if (message->id != (uint64_t)getpid())
                break; /* for a former life, which died before it read this */
            else if (message->value == SV_STOP_NOW)
                sv_worker_stop_now(rt);
            else if (message->value == SV_STOP_LEAVE)
                sv_worker_leave(rt);
            else if (atomic_load(&rt->shared->is_shutting_down))
                begin_leaving(rt, SV_WORKER_DRAINING);
            else if (rt->has_reactor || is_task_worker(rt))
                begin_leaving(rt, SV_WORKER_WAITING); /* the successor is there already */
            else
                begin_leaving(rt, SV_WORKER_DRAINING);
            break;
        case SV_RECORD_LOST: lose_half_taken(rt, message); break;
        case SV_RECORD_COMMAND:
        case SV_RECORD_COMMAND_REPLY: rt->hooks.command(rt->hooks.context, message); break;
        default: break; /* an order for a connection that went with its reactor */
    }
}

/* For the next turn; see stash() in runtime.c for records that came while the worker waited. */
void sv_worker_stash(struct sv_runtime *rt, const struct sv_message *message) {
    struct sv_worker *worker = &rt->worker;
    struct sv_stashed *later = malloc(sizeof *later + message->length);
    if (!later) {
        sv_log_about(&rt->log, SRVLUA_LOG_ERROR, (int64_t)message->id, ENOMEM, "out of memory: an event of session %llu is lost",
                     (unsigned long long)message->id);
        return;
    }
    later->next = NULL;
    later->message = *message;
    later->message.payload = later->payload;
    later->message.owned = NULL;
    if (message->length) memcpy(later->payload, message->payload, message->length);
    if (worker->stash_last)
        worker->stash_last->next = later;
    else
        worker->stash_first = later;
    worker->stash_last = later;
    worker->stash_bytes += message->length;
}

/* ------------------------------------------------------------------------------------------------ waiting in a call */

/* Orders are followed and results taken in at once; what runs other callbacks comes after the one that waits. */
static void receive_waiting(void *context, const struct sv_message *message) {
    struct sv_runtime *rt = context;
    if (message->type >= SV_RECORD_FINISH && rt->hooks.mail_at_once(rt->hooks.context, message)) return;
    if (message->type == SV_RECORD_STOP || message->type == SV_RECORD_END)
        receive(rt, message);
    else if (!rt->worker.stash_first && rt->has_reactor && message->type == SV_RECORD_SEND)
        sv_reactor_order(&rt->reactor, message); /* needs no callback, and keeps the sender going */
    else
        sv_worker_stash(rt, message);
}

/* With much put by for later, only those are listened to who may end the wait: the others' messages wait in their rings, and then
 * with their senders. True if something came. */
static bool take_in(struct sv_runtime *rt) {
    if (rt->worker.stash_bytes <= (size_t)rt->config.message_stash)
        return sv_receive(&rt->endpoint, SV_DRAIN_BATCH, receive_waiting, rt) != 0;
    bool has_come = sv_has_mail_from(&rt->endpoint, SV_ENDPOINT_MANAGER);
    sv_receive_from(&rt->endpoint, SV_ENDPOINT_MANAGER, receive_waiting, rt);
    for (uint32_t i = 0; i < 2 * rt->config.task_workers; i++) {
        uint32_t from = sv_endpoint_of_slot(&rt->ipc, rt->config.workers, 0) + i;
        if (!sv_has_mail_from(&rt->endpoint, from)) continue;
        has_come = true;
        sv_receive_from(&rt->endpoint, from, receive_waiting, rt);
    }
    return has_come;
}

static void sleep_for_mail(struct sv_runtime *rt, int64_t until_ns) {
    bool is_choosy = rt->worker.stash_bytes > (size_t)rt->config.message_stash; /* there may be mail that is not taken in */
    if (!is_choosy && rt->loop.spin_ns && sv_loop_spin(&rt->loop)) return;
    if (!is_choosy && !sv_fall_asleep(&rt->endpoint)) return;
    int64_t wait_ms = is_choosy ? 1 : 1000; /* then it looks everywhere, for a bell that died with its ringer */
    if (until_ns) {
        int64_t left_ms = (until_ns - sv_now_ns()) / 1000000 + 1;
        if (left_ms < wait_ms) wait_ms = left_ms < 0 ? 0 : left_ms;
    }
    struct pollfd ready[2] = {{.fd = sv_bell_fd(&rt->endpoint), .events = POLLIN}, {.fd = sv_loop_signal_fd(&rt->loop), .events = POLLIN}};
    if (poll(ready, 2, (int)wait_ms) == 0) atomic_store(&rt->endpoint.inbox->look_everywhere, 1);
    sv_wake_up(&rt->endpoint);
    if (ready[0].revents) sv_bell_clear(&rt->endpoint);
    if (ready[1].revents) sv_loop_handle_signals(&rt->loop);
}

/* Who is told to leave finishes what it runs, in the time that it has. 0: no end. */
static int64_t end_of_wait(const struct sv_runtime *rt, int64_t until_ns) {
    const struct sv_worker *worker = &rt->worker;
    if (worker->phase <= SV_WORKER_SERVING) return until_ns;
    return until_ns && until_ns < worker->deadline_ns ? until_ns : worker->deadline_ns;
}

int sv_worker_wait(struct sv_runtime *rt, bool (*is_done)(void *context), void *context, int64_t until_ns) {
    bool was_resting = rt->worker.is_resting, is_last = rt->worker.phase == SV_WORKER_GONE; /* workerStop runs, or will */
    int result = 0;
    rt->worker.is_resting = true; /* whatever changes meanwhile: events stay where they are */
    update_muted(rt);
    while (!is_done(context)) {
        int64_t end_ns = is_last && until_ns ? until_ns : end_of_wait(rt, until_ns), now_ns = sv_now_ns();
        if (end_ns && now_ns >= end_ns) {
            result = until_ns && now_ns >= until_ns ? -ETIMEDOUT : -EINTR;
            break;
        }
        sv_runtime_flush(rt);
        sv_messages_flush(rt);
        if (!take_in(rt)) sleep_for_mail(rt, end_ns);
    }
    rt->worker.is_resting = was_resting;
    update_muted(rt);
    return result;
}

bool sv_worker_is_overdue(const struct sv_runtime *rt) {
    return rt->worker.phase > SV_WORKER_SERVING && sv_now_ns() >= rt->worker.deadline_ns;
}

void sv_worker_handle_stash(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    while (worker->stash_first && worker->depth == 0) {
        struct sv_stashed *next = worker->stash_first;
        worker->stash_first = next->next;
        if (!worker->stash_first) worker->stash_last = NULL;
        worker->stash_bytes -= next->message.length;
        receive(rt, &next->message);
        free(next);
    }
}

/* What came while a call waited comes before what comes now. */
static void receive_in_turn(void *context, const struct sv_message *message) {
    sv_worker_handle_stash(context);
    receive(context, message);
}

/* ------------------------------------------------------------------------------------------------------ leaving */

void sv_worker_stop_now(struct sv_runtime *rt) {
    begin_leaving(rt, SV_WORKER_GONE);
    rt->worker.is_done = true;
    update_muted(rt);
    sv_loop_stop(&rt->loop);
}

/* A slot has room for two lives: while the predecessor lingers, or its inbox is being worked off, there can be no successor, and
 * who left now would leave clients without anybody. (Or the successor is on its way, and we will be told.) */
static bool has_predecessor(const struct sv_runtime *rt) {
    return rt->worker.predecessor_life || atomic_load(&rt->slots[rt->slot].pid[1 - rt->parity]) != 0;
}

void sv_worker_leave(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    if (worker->phase > SV_WORKER_SERVING) return;
    if (worker->is_alone || atomic_load(&rt->shared->is_shutting_down)) {
        begin_leaving(rt, SV_WORKER_DRAINING);
        return;
    }
    if (!rt->config.reload_async) {
        sv_worker_stop_now(rt);
        return;
    }
    worker->leaves_later = has_predecessor(rt);
    if (worker->leaves_later) return;
    begin_leaving(rt, SV_WORKER_WAITING);
    if (!is_task_worker(rt) || !rt->tasks.suspended) hand_over_inbox(rt);
    sv_runtime_tell(rt, SV_ENDPOINT_MANAGER, SV_RECORD_BYE, (uint64_t)rt->slot, (int32_t)rt->parity);
}

/* A number below `end`, another one in each process and at each time. */
static int64_t draw(int64_t end) {
    uint64_t noise = (uint64_t)sv_now_ns() * UINT64_C(6364136223846793005) + (uint64_t)getpid() * UINT64_C(1442695040888963407);
    return (int64_t)((noise >> 33) % (uint64_t)end);
}

static int leave_later(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    sv_worker_leave(context);
    return 0;
}

/* max_request is reached; reload_jitter keeps workers from leaving together. */
static void leave_as_due(struct sv_runtime *rt) {
    int64_t wait_ms = (int64_t)(rt->config.reload_jitter * 1e3);
    rt->worker.request_limit = 0;
    if (wait_ms <= 0 || sv_timer_add_internal(&rt->loop, draw(wait_ms) + 1, false, leave_later, rt) < 0) sv_worker_leave(rt);
}

void sv_worker_count_request(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    uint64_t count = atomic_load_explicit(&worker->life->requests, memory_order_relaxed) + 1;
    atomic_store_explicit(&worker->life->requests, count, memory_order_relaxed);
    sv_count(rt->counters, SV_COUNT_REQUESTS, 1);
    if (worker->request_limit && (int64_t)count >= worker->request_limit) leave_as_due(rt);
}

void sv_worker_count_task(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    uint64_t count = atomic_load_explicit(&worker->life->requests, memory_order_relaxed) + 1;
    atomic_store_explicit(&worker->life->requests, count, memory_order_relaxed);
    if (worker->request_limit && (int64_t)count >= worker->request_limit) leave_as_due(rt);
}

/* Nothing of the program's is left that would have to be waited for. A task worker without coroutines has no such things. */
static bool is_nothing_pending(const struct sv_runtime *rt) {
    if (sv_messages_are_waiting(rt) || rt->has_answers) return false;
    if (is_task_worker(rt) && !rt->config.task_coroutines) return true;
    return srvlua_loop_pending(&rt->loop) == 0 && rt->coroutines <= 0;
}

static bool is_process_alive(const void *context, uint32_t source) {
    const struct sv_runtime *rt = context;
    int32_t slot = sv_slot_of_endpoint(&rt->ipc, source);
    if (slot < 0) return source < sv_endpoint_of_reactor(0); /* master, manager */
    return atomic_load(&rt->slots[slot].pid[sv_parity_of_endpoint(&rt->ipc, source)]) != 0;
}

/* The leaving worker's turn: false = keep turning. */
static bool may_go(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    bool is_late = sv_now_ns() >= worker->deadline_ns, must_drain = !is_late || rt->config.max_wait_time <= 0, has_all = true;
    if (worker->phase == SV_WORKER_DRAINING && atomic_load(&rt->shared->is_shutting_down)) {
        if (!is_late && !is_inheritance_done(rt)) return false;
        if (worker->predecessor_life) end_inheritance(rt);
        has_all = !sv_has_mail(&rt->endpoint) && !(is_task_worker(rt) && sv_tasks_are_there(rt));
        if (!has_all && must_drain) return false;
        begin_leaving(rt, SV_WORKER_WAITING);
    }
    if (!is_late && rt->has_reactor && sv_reactor_is_opening(&rt->reactor)) return false; /* they would meet nobody in the middle of a word */
    if (worker->phase == SV_WORKER_WAITING && has_all) {
        /* messages and results that are ours; the rest of one whose beginning we have would be nobody's */
        if (!is_late && (sv_has_mail(&rt->endpoint) || sv_has_partials_of(&rt->endpoint, is_process_alive, rt))) return false;
        if (is_nothing_pending(rt)) return true;
        if (!is_late) {
            if (!is_task_worker(rt) || rt->config.task_coroutines) fire(rt, SRVLUA_ON_WORKER_EXIT);
            if (is_nothing_pending(rt)) return true;
        }
    }
    if (!is_late) return false;
    if (rt->config.max_wait_time > 0)
        sv_log_about(&rt->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_WORKER_EXIT_TIMEOUT,
                     "worker %d leaves after max_wait_time of %g s with work left behind", rt->slot, rt->config.max_wait_time);
    return true;
}

static void fire_before_shutdown(struct sv_runtime *rt) {
    if (!rt->has_reactor || rt->slot != 0 || !atomic_load(&rt->shared->is_shutting_down)) return;
    if (!atomic_exchange(&rt->shared->before_shutdown_was_fired, 1)) fire(rt, SRVLUA_ON_BEFORE_SHUTDOWN);
}

static int turn_again(srvlua_loop *loop, int64_t id, void *context) {
    (void)loop, (void)id, (void)context;
    return 0;
}

static int handle_later(srvlua_loop *loop, int64_t id, void *context) {
    (void)loop, (void)id;
    sv_worker_handle_stash(context);
    return 0;
}

static void before_sleep(void *context) {
    struct sv_runtime *rt = context;
    struct sv_worker *worker = &rt->worker;
    worker->turn_began_ns = 0;
    if (worker->is_resting) {
        worker->is_resting = false;
        update_muted(rt);
    }
    sv_worker_handle_stash(rt);
    sv_messages_flush(rt);
    rt->hooks.before_sleep(rt->hooks.context);
    if (worker->predecessor_life) take_over_predecessor(rt);
    if (is_task_worker(rt)) {
        if (sv_tasks_work(rt)) srvlua_defer(&rt->loop, turn_again, NULL);
        if (worker->phase >= SV_WORKER_WAITING && !rt->tasks.suspended) hand_over_inbox(rt);
    }
    if (worker->leaves_later && !has_predecessor(rt)) sv_worker_leave(rt);
    if (worker->hands_over_later) hand_over_inbox(rt);
    if (is_task_worker(rt)) sv_tasks_before_sleep(rt, false);
    if (rt->has_reactor) sv_reactor_end_turn(&rt->reactor);
    if (worker->stash_first) srvlua_defer(&rt->loop, handle_later, rt); /* the flush brought it up; the loop must not sleep on it */
    if (worker->is_resting) srvlua_defer(&rt->loop, turn_again, NULL); /* there is more in the inherited inbox */
    if (worker->phase <= SV_WORKER_SERVING || worker->phase == SV_WORKER_GONE || rt->loop.is_stopping) return;
    fire_before_shutdown(rt);
    if (may_go(rt)) sv_loop_stop(&rt->loop);
}

static bool has_work(void *context) {
    const struct sv_runtime *rt = context;
    return is_task_worker(rt) && sv_tasks_are_there(rt);
}

static bool is_expecting(void *context) {
    const struct sv_runtime *rt = context;
    return is_task_worker(rt) || rt->hooks.is_expecting(rt->hooks.context);
}

static void on_signal(void *context, int signo) {
    struct sv_runtime *rt = context;
    if (signo == SIGTERM) {
        if (rt->worker.is_alone) sv_runtime_begin_shutdown(rt);
        sv_worker_leave(rt);
    } else if (signo == SIGRTMIN || signo == SIGWINCH) {
        sv_log_sink_reopen(rt->sink);
    } else if (signo != SIGCHLD) {
        bool is_started_one = signo == SIGHUP && rt->worker.is_alone;
        if (!is_started_one || !rt->hooks.renew(rt->hooks.context)) sv_runtime_log_signal(rt, signo);
    }
}

/* The only process: its reactor is the only one. */
static void pass_certificates_on(void *context, const struct sv_message *message) {
    struct sv_runtime *rt = context;
    sv_reactor_order(&rt->reactor, message);
}

_Noreturn void sv_worker_abort(struct sv_runtime *rt, int exit_code) {
    sv_runtime_flush(rt);
    fflush(NULL);
    _exit(exit_code);
}

/* --------------------------------------------------------------------------------------------------------- life */

static void failed(void *context) {
    struct sv_runtime *rt = context;
    rt->hooks.failed(rt->hooks.context);
}

/* A predecessor of the other parity whose inbox is not worked off yet. A successor may be there, too, before this one is set up. */
static void look_for_predecessor(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    struct sv_slot *slot = &rt->slots[rt->slot];
    struct sv_slot_life *former = &slot->life[1 - rt->parity];
    bool is_older = atomic_load(&slot->born[1 - rt->parity]) < atomic_load(&slot->born[rt->parity]);
    bool was_there = is_older && atomic_load(&former->state) != SV_PROCESS_NONE;
    if (rt->has_reactor || !was_there || (!is_task_worker(rt) && sv_ipc_has_all_ends(&rt->ipc, other_endpoint(rt)))) return;
    worker->predecessor_life = former;
    worker->predecessor = other_endpoint(rt);
    update_muted(rt);
}

static int64_t draw_request_limit(const struct sv_runtime *rt) {
    int64_t most = is_task_worker(rt) ? rt->config.task_max_request : rt->config.max_request;
    int64_t grace = is_task_worker(rt) ? rt->config.task_max_request_grace : rt->config.max_request_grace;
    return most ? most + (grace > 0 ? draw(grace) + 1 : 0) : 0;
}

static int64_t dispatched_to_us(const struct sv_runtime *rt) {
    int64_t total = 0;
    for (uint32_t i = 0; i < rt->ipc.reactors; i++) {
        const struct sv_ring *ring = sv_ipc_ring(&rt->ipc, rt->endpoint.id, sv_endpoint_of_reactor(i));
        if (ring) total += (int64_t)atomic_load_explicit(&ring->packets, memory_order_relaxed);
    }
    return total;
}

/* Runs the worker from workerStart to workerStop; returns its exit status. */
static int live(struct sv_runtime *rt) {
    struct sv_worker *worker = &rt->worker;
    set_state(rt, SV_PROCESS_IDLE);
    if (rt->has_reactor && rt->slot == 0 && !atomic_exchange(&rt->shared->start_was_fired, 1)) fire(rt, SRVLUA_ON_START);
    if (!rt->loop.is_stopping && fire(rt, SRVLUA_ON_WORKER_START)) return 255;
    if (worker->phase == SV_WORKER_STARTING) worker->phase = SV_WORKER_SERVING;
    if (!worker->is_alone) sv_runtime_tell(rt, SV_ENDPOINT_MANAGER, SV_RECORD_READY, (uint64_t)rt->slot, (int32_t)rt->parity);
    if (rt->has_reactor && worker->phase == SV_WORKER_SERVING) {
        sv_acceptor_start(&rt->acceptor);
        for (uint16_t i = 0; i < rt->port_count; i++)
            if (sv_type_is_dgram(rt->ports[i].type)) sv_reactor_watch_datagrams(&rt->reactor, i);
    }
    if (worker->is_alone && worker->phase == SV_WORKER_SERVING) sv_notify_ready(&rt->notify, rt->config.is_daemon);
    sv_loop_run(&rt->loop);
    begin_leaving(rt, SV_WORKER_GONE);
    fire_before_shutdown(rt);
    if (rt->has_reactor) sv_base_close_connections(rt);
    hand_over_inbox(rt);
    fire(rt, SRVLUA_ON_WORKER_STOP);
    sv_runtime_flush(rt);
    return worker->exit_code;
}

static int set_up(struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    struct sv_loop_hooks hooks = {.receive = receive_in_turn,
                                  .before_sleep = before_sleep,
                                  .has_work = has_work,
                                  .is_expecting = is_expecting,
                                  .failed = failed,
                                  .before_callback = before_callback,
                                  .after_callback = after_callback,
                                  .context = rt};
    rt->worker = (struct sv_worker){.phase = SV_WORKER_STARTING, .life = &rt->slots[slot].life[parity]};
    rt->coroutines = rt->coroutines_peak = 0;
    atomic_store(&rt->worker.life->requests, 0);
    atomic_store(&rt->worker.life->serving, 0);
    atomic_store(&rt->worker.life->coroutines, 0);
    atomic_store(&rt->worker.life->busy_since_ns, 0);
    atomic_store(&rt->worker.life->unnamed, 0);
    uint32_t names_end = atomic_exchange(&rt->worker.life->suspended_end, 0);
    for (uint32_t i = 0; i < names_end && i < rt->name_count; i++) atomic_store(&sv_runtime_names(rt, slot, parity)[i], 0);
    bool is_task = slot >= rt->config.workers;
    int result = sv_runtime_become(rt, is_task ? SRVLUA_ROLE_TASK : SRVLUA_ROLE_WORKER, is_task ? "task" : "worker", (int)slot, parity,
                                   sv_endpoint_of_slot(&rt->ipc, slot, parity), &hooks, on_signal);
    if (result) return result;
    rt->loop.spin_ns = rt->config.spin_ns;
    if (is_task) sv_job_consumer_open(&rt->tasks.consumer, &rt->jobs, rt->endpoint.id, (int32_t)(slot - rt->config.workers));
    rt->endpoint.is_redelivering = rt->config.on_lost_request == SV_LOST_ACTION_REDELIVER;
    if (rt->config.mode == SRVLUA_BASE && !is_task) result = sv_base_set_up(rt);
    if (result) return result;
    rt->worker.request_limit = draw_request_limit(rt);
    rt->worker.dispatch_baseline = dispatched_to_us(rt);
    look_for_predecessor(rt);
    return 0;
}

/* The worker dies with the manager. */
static void follow_manager(const struct sv_runtime *rt) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != atomic_load(&rt->shared->manager_pid)) _exit(0); /* the manager died before that took effect */
}

/* user, group, chroot. 0 or -errno, which is in the log then. */
static int take_identity(struct sv_runtime *rt) {
    if (!sv_identity_is_given(&rt->identity)) return 0;
    if (rt->identity.root) sv_log_sink_keep(rt->sink);
    return sv_identity_apply(&rt->identity, &rt->log);
}

/* What a worker does before it may serve; returns its exit status. */
static int enter_and_live(struct sv_runtime *rt) {
    sv_cpus_pin(&rt->cpus, (uint32_t)rt->slot, &rt->log);
    int result = take_identity(rt);
    follow_manager(rt); /* another identity makes the kernel forget it */
    if (result == 0) return live(rt);
    sv_runtime_tell(rt, SV_ENDPOINT_MANAGER, SV_RECORD_START_FAILED, (uint64_t)rt->slot, -result);
    return 255;
}

_Noreturn void sv_worker_main(struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    follow_manager(rt);
    sv_notify_leave(&rt->notify);
    sv_runtime_unbecome(rt);
    char title[64];
    snprintf(title, sizeof title, "srvlua: %s %u", slot < rt->config.workers ? "worker" : "task", slot);
    srvlua_set_process_name(title);
    int result = set_up(rt, slot, parity);
    if (result == 0) sv_fault_open(rt);
    int status = 255;
    if (result)
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "worker %u could not be set up: %s", slot, srvlua_strerror(-result));
    else
        status = enter_and_live(rt);
    fflush(NULL);
    _exit(status);
}

int sv_worker_run_alone(struct sv_runtime *rt, struct srvlua_status *status) {
    atomic_store(&rt->slots[0].pid[0], getpid());
    atomic_store(&rt->slots[0].generation, 1);
    int result = rt->config.pid_file ? sv_pid_file_write(rt->config.pid_file, status) : 0;
    if (result) return result;
    result = set_up(rt, 0, 0);
    if (result) {
        sv_runtime_unbecome(rt);
        return sv_fail(status, -result, "the process could not be set up: %s", srvlua_strerror(-result));
    }
    rt->worker.is_alone = true;
    sv_renewals_begin(rt, pass_certificates_on, rt);
    sv_notify_watch(&rt->notify, &rt->loop);
    sv_cpus_pin(&rt->cpus, 0, &rt->log);
    result = take_identity(rt);
    int exit_code = result ? 0 : live(rt);
    sv_cpus_unpin(&rt->cpus);
    bool is_orderly = atomic_load(&rt->shared->is_shutting_down);
    sv_runtime_unbecome(rt);
    free(rt->worker.closing);
    free(rt->worker.free_names);
    rt->role = SRVLUA_ROLE_AFTER;
    if (result) return sv_fail(status, -result, "the worker could not become what its settings say: %s", strerror(-result));
    if (exit_code) return sv_fail(status, SRVLUA_ERROR_SERVER_WORKER_TERMINATED, "workerStart failed");
    if (is_orderly) sv_runtime_fire(rt, SRVLUA_ON_SHUTDOWN);
    return 0;
}
