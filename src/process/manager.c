/* manager.c: forks and supervises the workers. Single-threaded, and the only process that forks.
 *
 * Each slot has two lives, one per parity. Normally one is in use; a replacement (reload, max_request, stop) starts the other one
 * beside it, and when that says READY the slot's new work goes there. A life that crashes is started again on its own parity,
 * where the inbox with what it had not begun still is.
 *
 *            fork            READY               told to leave        reaped
 *   NONE ──────────► STARTING ────────► SERVING ───────────────► LEAVING ────────► NONE
 *                        └── died, start_timeout: the replacement failed, or is tried again ──►┘           */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/prctl.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"
#include "process/runtime.h"

#define KILL_GRACE_NS (SV_NS_PER_SECOND / 2) /* after max_wait_time, before SIGKILL */
#define TICK_MS 20                           /* deadlines are looked at this often while there are any */
#define ESTATE_NS SV_NS_PER_SECOND           /* how long nothing must have come for a former process to be done with it */

enum life_phase { LIFE_NONE, LIFE_STARTING, LIFE_SERVING, LIFE_LEAVING };

struct life {
    enum life_phase phase;
    pid_t pid;
    int64_t started_ns;
    int64_t kill_at_ns; /* 0: never */
    struct sv_hang_watch watch;
};

struct child { /* one slot */
    struct life lives[2];
    uint32_t active; /* parity that new work goes to */
    int quick_deaths;
    double delay;          /* of the next respawn, seconds */
    int64_t respawn_at_ns; /* 0: none due */
    bool wants_replacement; /* as soon as the other parity is free */
    bool is_reloading;
    struct sv_endpoint *estate; /* what others send to a former process that has gone: forwarded for a while, NULL: none */
    uint32_t estate_parity;
    int64_t estate_until_ns;
};

enum stop_phase { NOT_STOPPING, STOP_WORKERS, STOP_TASKS, STOP_USERS, STOPPED };

struct manager {
    struct sv_runtime *rt;
    struct child *children;
    enum stop_phase stopping;
    struct {
        bool is_active, is_failed;
        uint32_t next, end, in_progress; /* slots not begun yet, from next to end; slots under way */
    } reload;
    int64_t ticker;
    int failure; /* code with which start() fails, 0 = none */
    uint32_t forwarded_slot; /* whose mail is being forwarded */
    bool is_up;  /* BASE: worker 0 was ready once, so the start callback is done */
};

static void look_into_estate(struct manager *manager, uint32_t slot);
static void close_estate(struct child *child);
static void progress_reload(struct manager *manager);
static void progress_stop(struct manager *manager);
static void receive(void *context, const struct sv_message *message);

static bool is_process_mode(const struct manager *manager) {
    return manager->rt->ipc.is_process_mode;
}

static int on_tick(srvlua_loop *loop, int64_t timer, void *context);

static bool is_user(const struct manager *manager, uint32_t slot) {
    return slot >= manager->rt->config.workers + manager->rt->config.task_workers;
}

/* For messages: "worker 3". */
static const char *kind_of(const struct manager *manager, uint32_t slot) {
    return is_user(manager, slot) ? "user process" : slot < manager->rt->config.workers ? "worker" : "task worker";
}

static void need_ticks(struct manager *manager) {
    if (manager->ticker <= 0) manager->ticker = sv_timer_add_internal(&manager->rt->loop, TICK_MS, true, on_tick, manager);
}

/* Reactors know event workers only. */
static void tell_owners(struct manager *manager, uint16_t type, uint32_t slot, uint32_t parity) {
    struct sv_runtime *rt = manager->rt;
    if (slot >= rt->config.workers) return;
    for (uint32_t i = 0; i < rt->ipc.reactors; i++)
        sv_runtime_tell(rt, sv_endpoint_of_reactor(i), type, slot, (int32_t)parity);
}

/* ---------------------------------------------------------------------------------------------------- starting */

static bool spawn(struct manager *manager, uint32_t slot, uint32_t parity) {
    struct sv_runtime *rt = manager->rt;
    struct child *child = &manager->children[slot];
    struct sv_slot *shared = &rt->slots[slot];
    atomic_store(&shared->born[parity], atomic_fetch_add(&shared->generation, 1) + 1);
    atomic_store(&shared->life[parity].beat, 0); /* a former one may have died in a callback */
    if (child->estate && child->estate_parity == parity) {
        look_into_estate(manager, slot);
        close_estate(child);
    }
    fflush(NULL); /* nothing buffered is written twice */
    pid_t pid = fork();
    if (pid == 0 && is_user(manager, slot)) sv_user_main(rt, slot);
    if (pid == 0) sv_worker_main(rt, slot, parity);
    if (pid < 0) {
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "fork of %s %u failed: %s", kind_of(manager, slot), slot, strerror(errno));
        return false;
    }
    child->lives[parity] = (struct life){.phase = LIFE_STARTING, .pid = pid, .started_ns = sv_now_ns()};
    if (is_user(manager, slot)) { /* it has nothing to get ready */
        child->lives[parity].phase = LIFE_SERVING;
    } else if (rt->config.start_timeout > 0) {
        child->lives[parity].kill_at_ns = sv_now_ns() + (int64_t)(rt->config.start_timeout * 1e9);
        need_ticks(manager);
    }
    atomic_store(&shared->pid[parity], pid);
    return true;
}

/* A first life of a slot, or the next one on the same parity: the inbox stays as it is. */
static void start_life(struct manager *manager, uint32_t slot) {
    struct child *child = &manager->children[slot];
    struct sv_slot *shared = &manager->rt->slots[slot];
    child->respawn_at_ns = 0;
    atomic_store(&shared->life[child->active].is_handed_over, 0);
    if (spawn(manager, slot, child->active)) return;
    child->respawn_at_ns = sv_now_ns() + SV_NS_PER_SECOND;
    need_ticks(manager);
}

/* The reload of one slot is over. */
static void end_reload_of(struct manager *manager, struct child *child, bool is_failed) {
    if (!child->is_reloading) return;
    child->is_reloading = false;
    manager->reload.in_progress--;
    if (is_failed) manager->reload.is_failed = true;
}

/* A parity is free when its last process has gone and the successor has worked off the inbox that it left. */
static bool is_free(const struct manager *manager, uint32_t slot, uint32_t parity) {
    const struct sv_slot_life *life = &manager->rt->slots[slot].life[parity];
    if (manager->children[slot].lives[parity].phase != LIFE_NONE) return false;
    if (slot >= manager->rt->config.workers) return true; /* nothing of it is anybody's own */
    return atomic_load(&life->state) == SV_PROCESS_NONE || sv_ipc_has_all_ends(&manager->rt->ipc, sv_endpoint_of_slot(&manager->rt->ipc, slot, parity));
}

/* The other parity beside the present one. */
static void start_replacement(struct manager *manager, uint32_t slot) {
    struct child *child = &manager->children[slot];
    uint32_t parity = 1 - child->active;
    child->wants_replacement = !is_free(manager, slot, parity);
    if (child->wants_replacement) {
        need_ticks(manager);
        return;
    }
    struct sv_slot_life *life = &manager->rt->slots[slot].life[parity];
    atomic_store(&life->state, SV_PROCESS_NONE); /* nobody's predecessor until it lives */
    atomic_store(&life->is_handed_over, 0);
    sv_ipc_forget_ends(&manager->rt->ipc, sv_endpoint_of_slot(&manager->rt->ipc, slot, parity));
    if (spawn(manager, slot, parity)) return;
    end_reload_of(manager, child, true); /* one that leaves is respawned when it is gone */
    need_ticks(manager);
}

/* Too many quick deaths in a row are answered with a growing delay (settings.md 2.1). */
static void schedule_respawn(struct manager *manager, uint32_t slot, bool was_quick) {
    struct sv_runtime *rt = manager->rt;
    struct child *child = &manager->children[slot];
    if (manager->failure) return;
    if (!was_quick || ++child->quick_deaths <= rt->config.respawn_burst || rt->config.respawn_delay_max <= 0) {
        start_life(manager, slot);
        return;
    }
    child->delay = child->delay > 0 ? child->delay * 2 : 0.1;
    if (child->delay > rt->config.respawn_delay_max) child->delay = rt->config.respawn_delay_max;
    sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "%s %u ended right after its start %d times in a row: next try in %g s",
                 kind_of(manager, slot), slot, child->quick_deaths, child->delay);
    child->respawn_at_ns = sv_now_ns() + (int64_t)(child->delay * 1e9);
    need_ticks(manager);
}

/* ------------------------------------------------------------------------------------------------------- leaving */

static void tell_to_leave(struct manager *manager, uint32_t slot, uint32_t parity, int order) {
    struct sv_runtime *rt = manager->rt;
    struct life *life = &manager->children[slot].lives[parity];
    if (life->phase == LIFE_NONE) return;
    life->phase = LIFE_LEAVING;
    life->kill_at_ns = 0;
    if (rt->config.max_wait_time > 0 && !is_user(manager, slot)) { /* user processes have until the end of the shutdown */
        life->kill_at_ns = sv_now_ns() + sv_runtime_wait_ns(rt) + KILL_GRACE_NS;
        need_ticks(manager);
    }
    if (order == SV_STOP_NOW || manager->stopping)
        kill(life->pid, SIGTERM); /* reaches it whatever state its rings are in */
    else
        sv_runtime_tell(rt, sv_endpoint_of_slot(&rt->ipc, slot, parity), SV_RECORD_STOP, (uint64_t)life->pid, order);
}

/* BASE: the connections of a dead worker went with it; their slots are given back. */
static void free_sessions_of(struct manager *manager, uint32_t endpoint) {
    struct sv_runtime *rt = manager->rt;
    for (int64_t slot = sv_session_next_live(&rt->sessions, 0); slot >= 0; slot = sv_session_next_live(&rt->sessions, slot + 1)) {
        struct sv_session *session = &rt->sessions.entries[slot];
        /* a slot that is being claimed at this moment may still name its former owner */
        if (sv_session_get_state(session) == SV_SESSION_FREE || session->owner != endpoint) continue;
        if (!atomic_load(&session->close_reason)) atomic_store(&session->close_reason, SV_CLOSE_OTHER);
        sv_session_free(&rt->sessions, session);
    }
    /* by its own account: it may have died between a step and the count of it */
    struct sv_counters *dead = &sv_inbox_of(&rt->ipc, endpoint)->counters;
    sv_count(dead, SV_COUNT_CLOSED, sv_counter_get(dead, SV_COUNT_ACCEPTED) - sv_counter_get(dead, SV_COUNT_CLOSED));
    sv_count(dead, SV_COUNT_OUTPUT, -sv_counter_get(dead, SV_COUNT_OUTPUT));
}

/* What the dead one was running in its inbox: true if its successor gets it once more. */
static bool is_redelivered(const struct manager *manager, uint32_t slot, uint32_t parity) {
    const struct sv_runtime *rt = manager->rt;
    if (rt->config.on_lost_request != SV_LOST_ACTION_REDELIVER) return false;
    for (uint32_t reactor = 0; reactor < rt->ipc.reactors; reactor++)
        if (sv_ipc_gives_again(&rt->ipc, sv_endpoint_of_slot(&rt->ipc, slot, parity), sv_endpoint_of_reactor(reactor))) return true;
    return false;
}

static void lose_task(struct manager *manager, uint32_t slot, pid_t pid, uint64_t key) {
    struct sv_runtime *rt = manager->rt;
    int32_t source = sv_slot_of_endpoint(&rt->ipc, sv_task_key_endpoint(key));
    char giver[32] = "the master or manager";
    if (source >= 0) snprintf(giver, sizeof giver, "process %d", source);
    sv_count(rt->counters, SV_COUNT_LOST, 1);
    sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "task worker %u (pid %d) died while it ran task %u of %s: that task is lost", slot, (int)pid,
                 (uint32_t)key, giver);
}

static void lose_request(struct manager *manager, uint32_t slot, pid_t pid, uint64_t id, bool was_running, bool is_given_again) {
    struct sv_runtime *rt = manager->rt;
    if (id & SV_TASK_KEY) {
        lose_task(manager, slot, pid, id);
        return;
    }
    const char *state = was_running ? "served" : "had suspended a request of";
    if (is_given_again) {
        sv_log_about(&rt->log, SRVLUA_LOG_WARNING, (int64_t)id, 0, "worker %u (pid %d) died while it %s session %llu: its successor gets it once more",
                     slot, (int)pid, state, (unsigned long long)id);
        return;
    }
    sv_log_about(&rt->log, SRVLUA_LOG_WARNING, (int64_t)id, 0, "worker %u (pid %d) died while it %s session %llu: that request is lost", slot,
                 (int)pid, state, (unsigned long long)id);
    sv_runtime_lose(rt, id);
}

/* Who leaves in good order abandons what is suspended; but a program's exit(0) loses what runs. */
static void report_lost(struct manager *manager, uint32_t slot, uint32_t parity, pid_t pid, int status) {
    struct sv_runtime *rt = manager->rt;
    struct sv_slot_life *life = &rt->slots[slot].life[parity];
    uint64_t session = atomic_exchange(&life->serving, 0);
    if (session) lose_request(manager, slot, pid, session, true, is_redelivered(manager, slot, parity));
    if (status == 0) return;
    _Atomic uint64_t *names = sv_runtime_names(rt, slot, parity);
    uint32_t end = atomic_load(&life->suspended_end);
    for (uint32_t i = 0; i < end && i < rt->name_count; i++) {
        session = atomic_exchange(&names[i], 0);
        if (session) lose_request(manager, slot, pid, session, false, false);
    }
    uint32_t unnamed = atomic_exchange(&life->unnamed, 0);
    if (!unnamed) return;
    sv_count(rt->counters, SV_COUNT_LOST, unnamed);
    sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "worker %u (pid %d) died with %u more suspended requests: they are lost", slot, (int)pid, unnamed);
}

/* What others sent to a process that was replaced and is gone now goes to its successor. */
static void forward(void *context, const struct sv_message *message) {
    struct manager *manager = context;
    if (message->type < SV_RECORD_FINISH) return; /* an order to the dead one */
    sv_messages_forward(manager->rt, manager->forwarded_slot, message);
}

static void look_into_estate(struct manager *manager, uint32_t slot) {
    struct sv_runtime *rt = manager->rt;
    struct child *child = &manager->children[slot];
    if (!child->estate) return;
    uint32_t count = 0, part;
    manager->forwarded_slot = slot;
    while ((part = sv_receive(child->estate, SV_DRAIN_BATCH, forward, manager))) count += part;
    if (!count) return;
    child->estate_until_ns = sv_now_ns() + ESTATE_NS;
    sv_messages_flush(rt);
    sv_kick_all(&rt->endpoint);
}

static void close_estate(struct child *child) {
    if (!child->estate) return;
    sv_endpoint_close(child->estate);
    free(child->estate);
    child->estate = NULL;
}

/* Not once but for a while: a sender may have been on its way there, or in the middle of a long message. What comes later yet is
 * taken by the next process of this parity. */
static void forward_mail(struct manager *manager, uint32_t slot, uint32_t parity) {
    struct sv_runtime *rt = manager->rt;
    struct child *child = &manager->children[slot];
    struct sv_endpoint *estate = malloc(sizeof *estate);
    close_estate(child);
    if (!estate || sv_endpoint_open(estate, &rt->ipc, sv_endpoint_of_slot(&rt->ipc, slot, parity))) {
        free(estate);
        return;
    }
    sv_set_muted(estate, true); /* the records of reactors have an heir */
    child->estate = estate;
    child->estate_parity = parity;
    child->estate_until_ns = sv_now_ns() + ESTATE_NS;
    look_into_estate(manager, slot);
    need_ticks(manager);
}

static void report_error(struct manager *manager, uint32_t slot, pid_t pid, int status) {
    struct sv_runtime *rt = manager->rt;
    int exit_code = WIFEXITED(status) ? WEXITSTATUS(status) : 0;
    int signo = WIFSIGNALED(status) ? WTERMSIG(status) : 0;
    if (signo)
        sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "%s %u (pid %d) was ended by signal %d", kind_of(manager, slot), slot, (int)pid, signo);
    else
        sv_log_about(&rt->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_WORKER_TERMINATED, "%s %u (pid %d) ended with status %d",
                     kind_of(manager, slot), slot, (int)pid, exit_code);
    struct srvlua_event_data data = {.event = SRVLUA_ON_WORKER_ERROR,
                                     .worker_id = (int)slot,
                                     .worker_pid = (int)pid,
                                     .wait_status = status,
                                     .exit_code = exit_code,
                                     .signal = signo};
    rt->hooks.fire(rt->hooks.context, &data);
}

/* A replacement that never got READY. The present life goes on, unless it is leaving by its own wish: then it is tried again. */
static void replacement_failed(struct manager *manager, uint32_t slot, uint32_t parity, bool was_quick) {
    struct sv_runtime *rt = manager->rt;
    struct child *child = &manager->children[slot];
    sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "the new process of worker %u failed before it was ready", slot);
    end_reload_of(manager, child, true);
    if (child->lives[child->active].phase == LIFE_SERVING || child->lives[child->active].phase == LIFE_STARTING) return;
    /* nobody serves: the failed one's parity becomes the active one, so that the slot is respawned there, with back-off */
    uint32_t former = child->active;
    child->active = parity;
    atomic_store(&rt->slots[slot].parity, parity);
    if (child->lives[former].phase == LIFE_NONE) forward_mail(manager, slot, former);
    tell_owners(manager, SV_RECORD_SWITCH, slot, parity);
    schedule_respawn(manager, slot, was_quick);
}

/* It ended right after its start, by a fault or before it was of any use; max_request and reloads may be quick too. */
static bool was_quick_death(const struct manager *manager, uint32_t slot, uint32_t parity, const struct life *former, int status) {
    const struct sv_runtime *rt = manager->rt;
    if (sv_now_ns() - former->started_ns >= (int64_t)(rt->config.respawn_window * 1e9)) return false;
    return status != 0 || (former->phase != LIFE_LEAVING && !atomic_load(&rt->slots[slot].life[parity].requests));
}

static void on_death(struct manager *manager, uint32_t slot, uint32_t parity, int status) {
    struct sv_runtime *rt = manager->rt;
    struct child *child = &manager->children[slot];
    struct life *life = &child->lives[parity];
    struct life former = *life;
    uint32_t endpoint = sv_endpoint_of_slot(&rt->ipc, slot, parity);
    *life = (struct life){.phase = LIFE_NONE};
    atomic_store(&rt->slots[slot].pid[parity], 0);
    sv_tasks_recover(rt, slot, parity);
    sv_ring_all_bells(&rt->ipc);
    tell_owners(manager, SV_RECORD_WORKER_DOWN, slot, parity);
    if (!is_process_mode(manager)) free_sessions_of(manager, endpoint);
    report_lost(manager, slot, parity, former.pid, status);
    if (status != 0 && !manager->stopping && !manager->failure) report_error(manager, slot, former.pid, status);
    if (manager->stopping) {
        progress_stop(manager);
        return;
    }
    if (parity != child->active) {
        sv_outbox_drop_all(&rt->orders, endpoint);
        sv_renewals_drop(rt, endpoint);
    }
    bool was_quick = was_quick_death(manager, slot, parity, &former, status);
    if (!was_quick) {
        child->quick_deaths = 0;
        child->delay = 0;
    }
    if (parity != child->active && former.phase == LIFE_STARTING) {
        atomic_store(&rt->slots[slot].life[parity].state, SV_PROCESS_NONE); /* it is nobody's predecessor */
        replacement_failed(manager, slot, parity, was_quick);
    } else if (parity != child->active) { /* the former generation has gone: what it left in its inbox is its successor's */
        atomic_store(&rt->slots[slot].life[parity].is_handed_over, 1);
        forward_mail(manager, slot, parity);
        sv_ring_all_bells(&rt->ipc);
        if (child->wants_replacement)
            start_replacement(manager, slot);
        else
            end_reload_of(manager, child, false);
    } else if (child->lives[1 - parity].phase == LIFE_STARTING) { /* its replacement takes over when it is ready */
        atomic_store(&rt->slots[slot].life[parity].is_handed_over, 1);
    } else {
        child->wants_replacement = false;
        if (child->is_reloading && former.phase == LIFE_STARTING) manager->reload.is_failed = true;
        schedule_respawn(manager, slot, was_quick);
    }
    progress_reload(manager);
}

static void reap(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    for (uint32_t slot = 0; slot < rt->slot_count; slot++) {
        for (uint32_t parity = 0; parity < 2; parity++) {
            int status;
            pid_t pid = manager->children[slot].lives[parity].pid;
            if (pid <= 0 || waitpid(pid, &status, WNOHANG) != pid) continue;
            sv_receive_from(&rt->endpoint, sv_endpoint_of_slot(&rt->ipc, slot, parity), receive, manager); /* its last words */
            on_death(manager, slot, parity, status);
        }
    }
}

/* ---------------------------------------------------------------------------------------------- messages of workers */

static void on_ready(struct manager *manager, uint32_t slot, uint32_t parity) {
    struct sv_runtime *rt = manager->rt;
    if (slot >= rt->slot_count || parity > 1) return;
    struct child *child = &manager->children[slot];
    struct life *life = &child->lives[parity];
    if (life->phase != LIFE_STARTING) return;
    life->phase = LIFE_SERVING;
    life->kill_at_ns = 0;
    if (slot == 0 && !is_process_mode(manager) && !manager->is_up) {
        manager->is_up = true;
        sv_notify_ready(&rt->notify, rt->config.is_daemon);
    }
    if (parity == child->active) {
        if (!child->wants_replacement && child->lives[1 - parity].phase != LIFE_STARTING) { /* a respawned one is a new one, too */
            end_reload_of(manager, child, false);
            progress_reload(manager);
        }
        return;
    }
    uint32_t former = child->active;
    child->active = parity;
    atomic_store(&rt->slots[slot].parity, parity);
    tell_owners(manager, SV_RECORD_SWITCH, slot, parity);
    if (child->lives[former].phase == LIFE_NONE) { /* it died meanwhile */
        forward_mail(manager, slot, former);
        end_reload_of(manager, child, false);
        progress_reload(manager);
    } else {
        tell_to_leave(manager, slot, former, SV_STOP_WAIT);
    }
}

/* A worker leaves by its own wish and wants a successor. */
static void on_bye(struct manager *manager, uint32_t slot, uint32_t parity) {
    struct sv_runtime *rt = manager->rt;
    if (slot >= rt->slot_count || parity > 1 || manager->stopping) return;
    struct child *child = &manager->children[slot];
    struct life *life = &child->lives[parity];
    if (life->phase == LIFE_NONE || parity != child->active || manager->failure) return;
    life->phase = LIFE_LEAVING;
    if (rt->config.max_wait_time > 0) {
        life->kill_at_ns = sv_now_ns() + sv_runtime_wait_ns(rt) + KILL_GRACE_NS;
        need_ticks(manager);
    }
    if (child->lives[1 - parity].phase != LIFE_STARTING) start_replacement(manager, slot);
}

/* -------------------------------------------------------------------------------------------------------- reload */

/* BASE: to all who accept clients, or will soon. */
static void pass_certificates_on(void *context, const struct sv_message *message) {
    struct manager *manager = context;
    struct sv_runtime *rt = manager->rt;
    for (uint32_t slot = 0; slot < rt->config.workers; slot++)
        for (uint32_t parity = 0; parity < 2; parity++) {
            enum life_phase phase = manager->children[slot].lives[parity].phase;
            if (phase == LIFE_STARTING || phase == LIFE_SERVING) sv_renewals_send(rt, sv_endpoint_of_slot(&rt->ipc, slot, parity), message);
        }
}

/* The starting process tells the service manager. */
static void announce_reload(struct manager *manager, bool is_over) {
    struct sv_runtime *rt = manager->rt;
    if (is_process_mode(manager))
        sv_runtime_tell(rt, sv_runtime_master(rt), is_over ? SV_RECORD_RELOADED : SV_RECORD_RELOADING, 0, 0);
    else if (is_over)
        sv_notify_ready(&rt->notify, false);
    else
        sv_notify_reloading(&rt->notify);
}

static void begin_reload(struct manager *manager, bool only_task_workers) {
    struct sv_runtime *rt = manager->rt;
    rt->is_reloading = manager->reload.is_active;
    if (manager->stopping || manager->failure) return;
    if (manager->reload.is_active) {
        sv_log_write(&rt->log, SRVLUA_LOG_NOTICE, "a reload is going on: the new request is discarded");
        return;
    }
    bool has_tasks = rt->config.task_workers && is_process_mode(manager);
    if (only_task_workers && !has_tasks) {
        sv_log_write(&rt->log, SRVLUA_LOG_WARNING,
                     rt->config.task_workers ? "BASE mode cannot reload task workers" : "there are no task workers to reload");
        return;
    }
    manager->reload.is_active = rt->is_reloading = true;
    manager->reload.is_failed = false;
    manager->reload.in_progress = 0;
    manager->reload.next = only_task_workers ? rt->config.workers : 0;
    manager->reload.end = rt->config.workers + (has_tasks ? rt->config.task_workers : 0);
    sv_log_write(&rt->log, SRVLUA_LOG_INFO, "the %sworkers are reloaded", only_task_workers ? "task " : "");
    announce_reload(manager, false);
    sv_runtime_fire(rt, SRVLUA_ON_BEFORE_RELOAD);
    progress_reload(manager);
}

static void reload_slot(struct manager *manager, uint32_t slot) {
    struct child *child = &manager->children[slot];
    struct life *present = &child->lives[child->active];
    if (present->phase == LIFE_NONE || child->lives[1 - child->active].phase == LIFE_STARTING) return; /* is being replaced anyway */
    child->is_reloading = true;
    manager->reload.in_progress++;
    if (manager->rt->config.reload_async)
        start_replacement(manager, slot);
    else
        tell_to_leave(manager, slot, child->active, SV_STOP_NOW);
}

static void progress_reload(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    if (!manager->reload.is_active || manager->stopping) return;
    uint32_t at_once = rt->config.reload_async ? (uint32_t)rt->config.reload_parallel : 1;
    if (at_once == 0) at_once = UINT32_MAX;
    while (manager->reload.next < manager->reload.end && manager->reload.in_progress < at_once)
        reload_slot(manager, manager->reload.next++);
    if (manager->reload.next < manager->reload.end || manager->reload.in_progress) return;
    manager->reload.is_active = rt->is_reloading = false;
    if (manager->reload.is_failed) {
        sv_count(rt->counters, SV_COUNT_RELOAD_FAILED, 1);
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "the reload failed for at least one worker: its old process goes on");
    }
    struct srvlua_event_data data = {.event = SRVLUA_ON_AFTER_RELOAD, .worker_id = -1, .ok = !manager->reload.is_failed};
    rt->hooks.fire(rt->hooks.context, &data);
    announce_reload(manager, true);
}

/* ------------------------------------------------------------------------------------------------------ stopping */

static bool slot_is_of(const struct manager *manager, uint32_t slot, enum stop_phase phase) {
    const struct sv_runtime_config *config = &manager->rt->config;
    if (phase == STOP_WORKERS) return slot < config->workers;
    if (phase == STOP_TASKS) return slot >= config->workers && slot < config->workers + config->task_workers;
    return slot >= config->workers + config->task_workers;
}

/* Tasks for which the shutdown left no time. */
static void report_unrun(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    uint64_t count, bytes;
    sv_tasks_count(rt, &count, &bytes);
    if (!count || (rt->task_queue.is_used && !rt->task_queue.queue.is_private)) return;
    sv_count(rt->counters, SV_COUNT_LOST, (int64_t)count);
    sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "the server ends with %llu tasks that were not run: they are lost", (unsigned long long)count);
}

/* Event workers first, then task workers, then user processes: each kind may still need the next one. */
static void progress_stop(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    while (manager->stopping < STOPPED) {
        for (uint32_t slot = 0; slot < rt->slot_count; slot++)
            for (uint32_t parity = 0; slot_is_of(manager, slot, manager->stopping) && parity < 2; parity++)
                if (manager->children[slot].lives[parity].phase != LIFE_NONE) return;
        manager->stopping++;
        for (uint32_t slot = 0; manager->stopping < STOPPED && slot < rt->slot_count; slot++)
            for (uint32_t parity = 0; slot_is_of(manager, slot, manager->stopping) && parity < 2; parity++)
                tell_to_leave(manager, slot, parity, SV_STOP_WAIT);
    }
    report_unrun(manager);
    sv_loop_stop(&rt->loop);
}

static void begin_stop(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    if (manager->stopping) return;
    sv_runtime_begin_shutdown(rt);
    if (!is_process_mode(manager)) sv_log_write(&rt->log, SRVLUA_LOG_INFO, "the server shuts down");
    manager->stopping = STOP_WORKERS;
    need_ticks(manager);
    for (uint32_t slot = 0; slot < rt->config.workers; slot++)
        for (uint32_t parity = 0; parity < 2; parity++) tell_to_leave(manager, slot, parity, SV_STOP_WAIT);
    progress_stop(manager);
}

static bool has_deadline(const struct child *child) {
    return child->respawn_at_ns || child->wants_replacement || child->estate || child->lives[0].kill_at_ns || child->lives[1].kill_at_ns;
}

/* An idle manager sleeps. */
static void stop_ticks(struct manager *manager) {
    for (uint32_t slot = 0; slot < manager->rt->slot_count; slot++)
        if (has_deadline(&manager->children[slot])) return;
    sv_timer_clear_internal(&manager->rt->loop, manager->ticker);
    manager->ticker = 0;
}

static int on_tick(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    struct manager *manager = context;
    struct sv_runtime *rt = manager->rt;
    int64_t now_ns = sv_now_ns(), deadline_ns = atomic_load(&rt->shared->shutdown_deadline_ns);
    for (uint32_t slot = 0; slot < rt->slot_count; slot++) {
        struct child *child = &manager->children[slot];
        for (uint32_t parity = 0; parity < 2; parity++) {
            struct life *life = &child->lives[parity];
            if (life->phase == LIFE_NONE) continue;
            bool is_over = manager->stopping && now_ns > deadline_ns;
            if (!is_over && (!life->kill_at_ns || now_ns < life->kill_at_ns)) continue;
            sv_log_about(&rt->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_WORKER_EXIT_TIMEOUT, "%s %u (pid %d) %s: it is killed",
                         kind_of(manager, slot), slot, (int)life->pid, life->phase == LIFE_STARTING ? "did not start within start_timeout" : "did not leave in time");
            life->kill_at_ns = 0;
            kill(life->pid, SIGKILL);
        }
        look_into_estate(manager, slot);
        if (now_ns >= child->estate_until_ns) close_estate(child);
        if (manager->stopping || manager->failure) continue;
        if (child->respawn_at_ns && now_ns >= child->respawn_at_ns) start_life(manager, slot);
        if (child->wants_replacement) start_replacement(manager, slot);
    }
    progress_reload(manager);
    if (!manager->stopping) stop_ticks(manager);
    if (manager->stopping) reap(manager); /* should a SIGCHLD have been merged with another */
    return 0;
}

/* A worker must not serve as it is: the server ends, and start() tells why. */
static void on_start_failed(struct manager *manager, int code) {
    if (manager->failure || manager->stopping) return;
    manager->failure = code;
    if (is_process_mode(manager))
        sv_runtime_tell(manager->rt, sv_runtime_master(manager->rt), SV_RECORD_START_FAILED, 0, code);
    else
        begin_stop(manager);
}

/* Looks after workers whose code does not come to an end. */
static int on_watch(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    struct manager *manager = context;
    struct sv_runtime *rt = manager->rt;
    for (uint32_t slot = 0; slot < rt->config.workers + rt->config.task_workers; slot++)
        for (uint32_t parity = 0; parity < 2; parity++) {
            struct life *life = &manager->children[slot].lives[parity];
            if (life->phase != LIFE_NONE) sv_hang_look(rt, slot, parity, life->pid, &life->watch);
        }
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- life */

static void on_signal(void *context, int signo) {
    struct sv_runtime *rt = context;
    struct manager *manager = rt->loop.hooks.context;
    switch (signo) {
        case SIGCHLD: reap(manager); break;
        case SIGTERM:
            if (!is_process_mode(manager) || getppid() != atomic_load(&rt->shared->master_pid))
                begin_stop(manager); /* BASE, or the master is dead: everything ends here */
            else
                sv_runtime_tell(rt, sv_runtime_master(rt), SV_RECORD_SHUTDOWN, 0, 0);
            break;
        case SIGUSR1:
        case SIGUSR2:
            sv_log_sink_reopen(rt->sink);
            begin_reload(manager, signo == SIGUSR2);
            break;
        case SIGHUP: /* BASE: this is the process that was started */
            if (is_process_mode(manager) || !rt->hooks.renew(rt->hooks.context)) sv_runtime_log_signal(rt, signo);
            break;
        default:
            if (signo != SIGWINCH && signo != SIGRTMIN) {
                sv_runtime_log_signal(rt, signo);
                break;
            }
            sv_log_sink_reopen(rt->sink);
            for (uint32_t slot = 0; slot < rt->slot_count; slot++)
                for (uint32_t parity = 0; parity < 2; parity++)
                    if (manager->children[slot].lives[parity].pid > 0) kill(manager->children[slot].lives[parity].pid, SIGWINCH);
    }
}

static void receive(void *context, const struct sv_message *message) {
    struct manager *manager = context;
    switch (message->type) {
        case SV_RECORD_READY: on_ready(manager, (uint32_t)message->id, (uint32_t)message->value); break;
        case SV_RECORD_BYE: on_bye(manager, (uint32_t)message->id, (uint32_t)message->value); break;
        case SV_RECORD_START_FAILED: on_start_failed(manager, message->value); break;
        case SV_RECORD_STOP_ALL: begin_stop(manager); break;
        case SV_RECORD_SHUTDOWN: begin_stop(manager); break;
        case SV_RECORD_RENEW: sv_renewals_take(manager->rt, message); break;
        case SV_RECORD_COMMAND: manager->rt->hooks.command(manager->rt->hooks.context, message); break;
        default:
            if (message->type >= SV_RECORD_FINISH) {
                manager->rt->hooks.mail(manager->rt->hooks.context, message);
                break;
            }
            sv_log_write(&manager->rt->log, SRVLUA_LOG_WARNING, "manager: a record of type %d is not for me", message->type);
    }
}

static void before_sleep(void *context) {
    struct manager *manager = context;
    manager->rt->hooks.before_sleep(manager->rt->hooks.context);
    sv_messages_flush(manager->rt);
    sv_runtime_tell_rest(manager->rt);
    sv_renewals_flush(manager->rt);
}

static void failed(void *context) {
    struct manager *manager = context;
    manager->rt->hooks.failed(manager->rt->hooks.context);
}

static int set_up(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    struct sv_loop_hooks hooks = {.receive = receive, .before_sleep = before_sleep, .failed = failed, .context = manager};
    manager->children = calloc(rt->slot_count, sizeof *manager->children);
    if (!manager->children) return -ENOMEM;
    atomic_store(&rt->shared->manager_pid, getpid());
    return sv_runtime_become(rt, SRVLUA_ROLE_MANAGER, "manager", -1, 0, SV_ENDPOINT_MANAGER, &hooks, on_signal);
}

static void supervise(struct manager *manager) {
    struct sv_runtime *rt = manager->rt;
    int64_t interval_ms = sv_hang_interval_ms(rt);
    sv_fault_prepare();
    if (interval_ms) sv_timer_add_internal(&rt->loop, interval_ms, true, on_watch, manager);
    for (uint32_t slot = 0; slot < rt->slot_count; slot++) start_life(manager, slot);
    if (is_process_mode(manager)) sv_runtime_tell(rt, sv_runtime_master(rt), SV_RECORD_READY, 0, 0);
    sv_runtime_fire(rt, SRVLUA_ON_MANAGER_START);
    reap(manager); /* who died while that ran */
    sv_loop_run(&rt->loop);
    sv_runtime_fire(rt, SRVLUA_ON_MANAGER_STOP);
}

_Noreturn void sv_manager_main(struct sv_runtime *rt) {
    struct manager manager = {.rt = rt};
    sv_notify_leave(&rt->notify);
    prctl(PR_SET_PDEATHSIG, SIGTERM);
    if (getppid() != atomic_load(&rt->shared->master_pid)) _exit(0); /* the master died before that took effect */
    srvlua_set_process_name("srvlua: manager");
    int result = set_up(&manager);
    if (result) {
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "the manager could not be set up: %s", srvlua_strerror(-result));
        _exit(255);
    }
    supervise(&manager);
    if (getppid() != atomic_load(&rt->shared->master_pid)) sv_task_queue_close(rt); /* else that is the master's */
    fflush(NULL);
    _exit(0);
}

int sv_manager_run(struct sv_runtime *rt, struct srvlua_status *status) {
    struct manager manager = {.rt = rt};
    int result = rt->config.pid_file ? sv_pid_file_write(rt->config.pid_file, status) : 0;
    if (result) return result;
    result = set_up(&manager);
    if (result == 0) sv_notify_watch(&rt->notify, &rt->loop);
    if (result == 0) sv_renewals_begin(rt, pass_certificates_on, &manager);
    if (result == 0) supervise(&manager);
    sv_runtime_unbecome(rt);
    for (uint32_t slot = 0; manager.children && slot < rt->slot_count; slot++) close_estate(&manager.children[slot]);
    free(manager.children);
    rt->role = SRVLUA_ROLE_AFTER;
    if (result) return sv_fail(status, -result, "the manager could not be set up: %s", srvlua_strerror(-result));
    if (manager.failure) return sv_fail(status, manager.failure, "the workers could not be set up: %s", srvlua_strerror(manager.failure));
    sv_runtime_fire(rt, SRVLUA_ON_SHUTDOWN);
    return 0;
}
