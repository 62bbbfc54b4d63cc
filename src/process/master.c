/* master.c: the starting process in PROCESS mode. Its main thread takes signals, runs the master's callbacks and accepts clients for
 * its reactor threads (a single one does that itself), whose they are then; the workers belong to the manager.
 *
 *             manager READY          asked to                 every QUIESCED           manager gone        every DRAINED
 *  STARTING ────────────────► RUNNING ───────► QUIESCING ───────────────────► STOPPING ─────────────► DRAINING ──────────► LEAVING
 *      └───────────────────────────┴──────────── the manager died ────────────────┴──────────────────────►┘
 *
 * In LEAVING the loop turns on while timers of the user's own are left, max_wait_time at most. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"
#include "process/runtime.h"

#define LOOK_EVERY_MS 20 /* how often the leaving master looks whether it may go */

enum master_phase { STARTING, RUNNING, QUIESCING, STOPPING, DRAINING, LEAVING };

struct master {
    struct sv_runtime *rt;
    enum master_phase phase;
    struct sv_reactor_thread *threads;
    uint32_t thread_count, next_reactor, answers;
    pid_t manager;
    bool is_manager_alive, is_ready, wants_shutdown;
    int result; /* what start() returns */
    int64_t leave_by_ns;
};

static void tell_reactors(struct master *master, uint16_t type) {
    struct sv_runtime *rt = master->rt;
    struct sv_message order = {.type = type, .source = SV_ENDPOINT_MASTER};
    if (rt->config.single_thread) {
        sv_reactor_thread_receive(master->threads, &order);
        return;
    }
    for (uint32_t i = 0; i < master->thread_count; i++) sv_runtime_tell(rt, sv_endpoint_of_reactor(i), type, 0, 0);
}

static void enter_phase(struct master *master, enum master_phase phase) {
    if (phase <= master->phase) return;
    master->phase = phase;
    master->answers = 0;
    if (phase == QUIESCING) tell_reactors(master, SV_RECORD_QUIESCE);
    if (phase == STOPPING) sv_runtime_tell(master->rt, SV_ENDPOINT_MANAGER, SV_RECORD_STOP_ALL, 0, 0);
    if (phase == DRAINING) tell_reactors(master, SV_RECORD_DRAIN);
    if (phase == STOPPING && !master->is_manager_alive) enter_phase(master, DRAINING);
    if (phase == DRAINING && master->thread_count == 0) enter_phase(master, LEAVING);
}

static void stop_listening(struct sv_runtime *rt) {
    sv_acceptor_stop(&rt->acceptor);
    for (uint16_t i = 0; i < rt->port_count; i++)
        if (sv_type_is_stream(rt->ports[i].type) && !rt->ports[i].is_inherited)
            shutdown(rt->ports[i].listener_fd, SHUT_RD); /* in every process that holds it */
}

static int look_again(srvlua_loop *loop, int64_t timer, void *context) { /* makes the loop turn while we wait for somebody */
    (void)loop, (void)timer, (void)context;
    return 0;
}

static void begin_shutdown(struct master *master) {
    struct sv_runtime *rt = master->rt;
    if (master->phase == STARTING) {
        master->wants_shutdown = true;
        return;
    }
    if (master->phase != RUNNING || !sv_runtime_begin_shutdown(rt)) return;
    master->leave_by_ns = sv_now_ns() + sv_runtime_wait_ns(rt);
    sv_log_write(&rt->log, SRVLUA_LOG_INFO, "the server shuts down");
    sv_runtime_fire(rt, SRVLUA_ON_BEFORE_SHUTDOWN);
    stop_listening(rt);
    sv_timer_add_internal(&rt->loop, LOOK_EVERY_MS, true, look_again, NULL);
    enter_phase(master, QUIESCING);
}

static void manager_died(struct master *master, int wait_status) {
    struct sv_runtime *rt = master->rt;
    master->is_manager_alive = false;
    rt->is_manager_dead = true;
    if (master->phase == STOPPING || master->phase == QUIESCING) {
        enter_phase(master, DRAINING);
        return;
    }
    if (master->phase >= DRAINING) return;
    sv_log_about(&rt->log, SRVLUA_LOG_ERROR, 0, SRVLUA_ERROR_SERVER_WORKER_TERMINATED,
                 "the manager (pid %d) died (status %d): the server ends", (int)master->manager, wait_status);
    if (!master->result) master->result = -SRVLUA_ERROR_SERVER_WORKER_TERMINATED;
    sv_runtime_begin_shutdown(rt);
    stop_listening(rt);
    tell_reactors(master, SV_RECORD_QUIESCE);
    sv_timer_add_internal(&rt->loop, LOOK_EVERY_MS, true, look_again, NULL);
    enter_phase(master, DRAINING);
}

static void look_after_manager(struct master *master) {
    int status;
    if (master->is_manager_alive && waitpid(master->manager, &status, WNOHANG) == master->manager) manager_died(master, status);
}

static void on_signal(void *context, int signo) {
    struct sv_runtime *rt = context;
    struct master *master = rt->loop.hooks.context;
    switch (signo) {
        case SIGTERM:
            if (master->phase < QUIESCING) begin_shutdown(master);
            break;
        case SIGCHLD: look_after_manager(master); break;
        case SIGUSR1:
        case SIGUSR2:
            sv_log_sink_reopen(rt->sink);
            if (master->is_manager_alive) kill(master->manager, signo);
            break;
        case SIGHUP:
            if (!rt->hooks.renew(rt->hooks.context)) sv_runtime_log_signal(rt, signo);
            break;
        case SIGWINCH:
            sv_log_sink_reopen(rt->sink);
            if (master->is_manager_alive) kill(master->manager, signo);
            break;
        default:
            if (signo == SIGRTMIN) {
                sv_log_sink_reopen(rt->sink);
                if (master->is_manager_alive) kill(master->manager, signo);
                break;
            }
            sv_runtime_log_signal(rt, signo);
    }
}

/* A reactor has done what it was told to. */
static void on_answer(void *context, uint16_t type) {
    struct master *master = context;
    enum master_phase asked = type == SV_RECORD_QUIESCED ? QUIESCING : DRAINING;
    if (master->phase == asked && ++master->answers == master->thread_count) enter_phase(master, asked + 1);
}

static void receive(void *context, const struct sv_message *message) {
    struct master *master = context;
    if (master->rt->config.single_thread && sv_reactor_thread_receive(master->threads, message)) return;
    switch (message->type) {
        case SV_RECORD_READY: master->is_ready = true; break;
        case SV_RECORD_SHUTDOWN: begin_shutdown(master); break;
        case SV_RECORD_RENEW: sv_renewals_take(master->rt, message); break;
        case SV_RECORD_RELOADING: sv_notify_reloading(&master->rt->notify); break;
        case SV_RECORD_RELOADED: sv_notify_ready(&master->rt->notify, false); break;
        case SV_RECORD_START_FAILED:
            master->result = -message->value;
            begin_shutdown(master);
            break;
        case SV_RECORD_QUIESCED:
        case SV_RECORD_DRAINED: on_answer(master, message->type); break;
        case SV_RECORD_COMMAND_REPLY: master->rt->hooks.command(master->rt->hooks.context, message); break;
        default:
            if (message->type >= SV_RECORD_FINISH) {
                master->rt->hooks.mail(master->rt->hooks.context, message);
                break;
            }
            sv_log_write(&master->rt->log, SRVLUA_LOG_WARNING, "master: a record of type %d is not for me", message->type);
    }
}

static void after_mail(void *context) {
    struct master *master = context;
    if (master->rt->config.single_thread) sv_reactor_thread_after_mail(master->threads);
}

static void before_sleep(void *context) {
    struct master *master = context;
    struct sv_runtime *rt = master->rt;
    rt->hooks.before_sleep(rt->hooks.context);
    if (rt->config.single_thread) sv_reactor_thread_before_sleep(master->threads);
    sv_messages_flush(rt);
    sv_runtime_tell_rest(rt);
    sv_renewals_flush(rt);
    if (master->phase == STOPPING && sv_now_ns() > atomic_load(&rt->shared->shutdown_deadline_ns) + SV_NS_PER_SECOND)
        kill(master->manager, SIGKILL); /* it ends its children by then, or they end with it */
    if (master->phase != LEAVING) return;
    bool is_idle = srvlua_loop_pending(&rt->loop) == 0 && rt->coroutines <= 0;
    if (!is_idle && sv_now_ns() < master->leave_by_ns) return;
    if (!is_idle)
        sv_log_about(&rt->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_WORKER_EXIT_TIMEOUT,
                     "timers, descriptors or coroutines of the master are left behind after max_wait_time");
    sv_loop_stop(&rt->loop);
}

static void failed(void *context) {
    struct master *master = context;
    master->rt->hooks.failed(master->rt->hooks.context);
}

static bool pass_on(void *context, struct sv_session *session) {
    struct master *master = context;
    struct sv_runtime *rt = master->rt;
    uint32_t reactor = master->next_reactor++ % master->thread_count;
    session->reactor = (uint16_t)reactor;
    session->owner = sv_endpoint_of_reactor(reactor);
    uint64_t id = atomic_load_explicit(&session->id, memory_order_relaxed);
    return sv_send(&rt->endpoint, session->owner, SV_RECORD_ACCEPTED, id, 0, NULL, 0) == 0;
}

static bool keep(void *context, struct sv_session *session) {
    struct master *master = context;
    sv_reactor_adopt(&master->rt->reactor, session, NULL);
    return true;
}

static void pass_certificates_on(void *context, const struct sv_message *message) {
    struct master *master = context;
    if (master->rt->config.single_thread)
        sv_reactor_order(master->threads->reactor, message);
    else
        for (uint32_t i = 0; i < master->thread_count; i++) sv_renewals_send(master->rt, sv_endpoint_of_reactor(i), message);
}

static int start_reactors(struct master *master) {
    struct sv_runtime *rt = master->rt;
    bool is_alone = rt->config.single_thread;
    master->threads = calloc(rt->config.reactors, sizeof *master->threads);
    if (!master->threads) return -ENOMEM;
    for (uint32_t i = 0; i < rt->config.reactors; i++) {
        struct sv_reactor_thread *thread = &master->threads[i];
        *thread = (struct sv_reactor_thread){.rt = rt, .number = i, .answer = is_alone ? on_answer : NULL, .answer_context = master};
        int result = is_alone ? sv_reactor_thread_attach(thread) : sv_reactor_thread_start(thread);
        if (result) return result;
        master->thread_count++;
    }
    sv_renewals_begin(rt, pass_certificates_on, master);
    if (!is_alone && master->thread_count == 1) return 0; /* it accepts itself */
    sv_runtime_fill_acceptor(rt, &rt->acceptor, is_alone ? keep : pass_on, master);
    return sv_acceptor_init(&rt->acceptor);
}

/* The master as such ends with them. */
static void end_reactors(struct master *master) {
    bool is_alone = master->rt->config.single_thread;
    for (uint32_t i = 0; !is_alone && i < master->thread_count; i++) {
        sv_loop_stop(master->threads[i].loop);
        sv_reactor_thread_join(&master->threads[i]);
    }
    sv_runtime_unbecome(master->rt);
    if (is_alone && master->thread_count) sv_ring_home_free(&master->threads->home);
    if (is_alone) sv_cpus_unpin(&master->rt->cpus);
    free(master->threads);
}

static void serve(struct master *master) {
    struct sv_runtime *rt = master->rt;
    while (!master->is_ready && master->is_manager_alive) sv_loop_turn(&rt->loop, 100);
    if (master->is_manager_alive) {
        if (!master->result) sv_runtime_fire(rt, SRVLUA_ON_START);
        master->phase = RUNNING;
        if (!master->result) {
            sv_acceptor_start(&rt->acceptor);
            tell_reactors(master, SV_RECORD_SERVE);
            sv_notify_ready(&rt->notify, rt->config.is_daemon);
        }
        if (master->wants_shutdown) begin_shutdown(master);
    }
    sv_loop_run(&rt->loop);
}

int sv_master_run(struct sv_runtime *rt, struct srvlua_status *status) {
    struct master master = {.rt = rt, .phase = STARTING};
    atomic_store(&rt->shared->master_pid, getpid());
    master.manager = fork();
    if (master.manager < 0) return sv_fail_errno(status, errno, "fork");
    if (master.manager == 0) sv_manager_main(rt);
    master.is_manager_alive = true;
    atomic_store(&rt->shared->manager_pid, master.manager);
    struct sv_loop_hooks hooks = {
        .receive = receive, .after_mail = after_mail, .before_sleep = before_sleep, .failed = failed, .context = &master};
    int result = sv_runtime_become(rt, SRVLUA_ROLE_MASTER, "master", -1, 0, sv_runtime_master(rt), &hooks, on_signal);
    if (result == 0 && rt->config.pid_file) result = sv_pid_file_write(rt->config.pid_file, status);
    if (result == 0) sv_notify_watch(&rt->notify, &rt->loop);
    if (result == 0) result = start_reactors(&master);
    if (result == 0) {
        serve(&master);
        result = master.result;
        const char *reason = result == -SRVLUA_ERROR_SERVER_WORKER_TERMINATED ? "the manager died" : "the workers could not be set up";
        if (result) sv_fail(status, -result, "%s: %s", reason, srvlua_strerror(-result));
    } else {
        sv_fail(status, -result, "the master could not be set up: %s", srvlua_strerror(-result));
    }
    if (master.is_manager_alive) { /* only when the set-up failed */
        kill(master.manager, SIGKILL);
        waitpid(master.manager, NULL, 0);
    }
    end_reactors(&master);
    rt->role = SRVLUA_ROLE_AFTER;
    if (result == 0) sv_runtime_fire(rt, SRVLUA_ON_SHUTDOWN);
    return result;
}
