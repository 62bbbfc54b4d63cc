/* reactor_thread.c: one reactor of the master (PROCESS): a thread with an endpoint, a loop and a reactor. No callbacks run here
 * but the user's dispatch function. With single_thread there is no thread: endpoint, loop and its hooks are the master's. */
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <sys/prctl.h>

#include "base/clock.h"
#include "process/runtime.h"

#define LOOKOUT_FIRST 0.001 /* seconds; doubles while the worker goes on working */
#define LOOKOUT_MOST 0.128

static void receive_from(struct sv_reactor_thread *thread, uint32_t endpoint) {
    sv_receive_from(thread->endpoint, endpoint, thread->loop->hooks.receive, thread->loop->hooks.context);
}

static void worker_down(struct sv_reactor_thread *thread, uint32_t slot, uint32_t parity) {
    uint32_t dead = sv_endpoint_of_slot(&thread->rt->ipc, slot, parity);
    receive_from(thread, dead); /* its last words come first */
    if (!sv_ring_home_worker_down(&thread->home, slot)) return;
    for (uint32_t i = 0; i < thread->rt->slot_count; i++)
        for (uint32_t life = 0; life < 2; life++) receive_from(thread, sv_endpoint_of_slot(&thread->rt->ipc, i, life));
    sv_ring_home_close_left(&thread->home);
}

/* Workers give orders for connections; only master and manager supervise. Who says more has gone mad. */
static bool may_say(const struct sv_message *message) {
    return message->type < SV_RECORD_ACCEPTED || message->source <= SV_ENDPOINT_MANAGER;
}

static void answer(struct sv_reactor_thread *thread, uint16_t type) {
    if (thread->answer)
        thread->answer(thread->answer_context, type);
    else
        sv_send(thread->endpoint, SV_ENDPOINT_MASTER, type, thread->number, 0, NULL, 0);
}

/* The other half is for the workers to leave. */
static int64_t half_of_shutdown(const struct sv_reactor_thread *thread) {
    int64_t now_ns = sv_now_ns();
    return now_ns + (atomic_load(&thread->rt->shared->shutdown_deadline_ns) - now_ns) / 2;
}

/* Workers are not told to leave before everything that was read is in their rings: who finds his empty goes. */
static void end_quiescing(struct sv_reactor_thread *thread) {
    sv_kick_all(thread->endpoint);
    if (!sv_ring_home_has_passed_on(&thread->home) && sv_now_ns() < thread->quiesce_until_ns) return;
    thread->quiesce_until_ns = 0;
    answer(thread, SV_RECORD_QUIESCED);
}

/* Of the two lives of a worker's slot the former one answers first: its successor began when it had published everything. */
static void receive_former(struct sv_reactor_thread *thread, uint32_t source) {
    uint32_t first = sv_endpoint_of_slot(&thread->rt->ipc, 0, 0);
    if (source < first) return;
    const struct sv_slot *slot = &thread->rt->slots[(source - first) / 2];
    uint32_t parity = (source - first) & 1, former = source + 1 - 2 * parity;
    if (atomic_load_explicit(&slot->born[1 - parity], memory_order_relaxed) > atomic_load_explicit(&slot->born[parity], memory_order_relaxed))
        return;
    if (sv_has_mail_from(thread->endpoint, former)) receive_from(thread, former);
}

bool sv_reactor_thread_receive(struct sv_reactor_thread *thread, const struct sv_message *message) {
    if (!may_say(message)) return false;
    receive_former(thread, message->source);
    if (sv_reactor_order(thread->reactor, message)) return true;
    switch (message->type) {
        case SV_RECORD_SERVE:
            sv_acceptor_start(&thread->own.acceptor);
            for (uint16_t i = 0; i < thread->rt->port_count; i++)
                if (sv_type_is_dgram(thread->rt->ports[i].type) && i % thread->rt->config.reactors == thread->number)
                    sv_reactor_watch_datagrams(thread->reactor, i);
            break;
        case SV_RECORD_QUIESCE:
            sv_acceptor_stop(&thread->own.acceptor);
            sv_reactor_quiet(thread->reactor);
            sv_reactor_cancel_openings(thread->reactor);
            sv_reactor_pass_on_all(thread->reactor);
            thread->quiesce_until_ns = half_of_shutdown(thread);
            end_quiescing(thread);
            break;
        case SV_RECORD_DRAIN:
            thread->quiesce_until_ns = 0; /* in case the workers died with the manager */
            thread->drain_until_ns = atomic_load(&thread->rt->shared->shutdown_deadline_ns);
            break;
        case SV_RECORD_WORKER_DOWN:
            worker_down(thread, (uint32_t)message->id, (uint32_t)message->value);
            break;
        case SV_RECORD_SWITCH: sv_ring_home_switch(&thread->home, (uint32_t)message->id, (uint32_t)message->value); break;
        default: return false;
    }
    return true;
}

static void receive(void *context, const struct sv_message *message) {
    struct sv_reactor_thread *thread = context;
    if (sv_reactor_thread_receive(thread, message)) return;
    if (!sv_log_limit_pass(&thread->reactor->damage_warning, sv_now_ns())) return;
    sv_log_write(&thread->reactor->log, SRVLUA_LOG_WARNING, "reactor: a record of type %d from endpoint %u is not for me", message->type,
                 message->source);
}

void sv_reactor_thread_after_mail(struct sv_reactor_thread *thread) {
    sv_reactor_end_batch(thread->reactor);
}

/* Everything that the workers sent before they ended is in the rings. */
static void drain(struct sv_reactor_thread *thread) {
    for (uint32_t from = 0; from < thread->rt->ipc.endpoints; from++)
        receive_from(thread, from);
    sv_reactor_end_batch(thread->reactor);
    if (!sv_reactor_close_all(thread->reactor) && sv_now_ns() < thread->drain_until_ns) return;
    thread->drain_until_ns = 0;
    if (thread->answer)
        answer(thread, SV_RECORD_DRAINED);
    else
        sv_loop_stop(thread->loop);
}

void sv_reactor_thread_before_sleep(struct sv_reactor_thread *thread) {
    struct sv_ring_home *home = &thread->home;
    if (home->stuck || !sv_list_is_empty(&home->queued)) sv_ring_home_check_space(home);
    sv_reactor_end_batch(thread->reactor);
    sv_reactor_end_turn(thread->reactor);
    if (thread->quiesce_until_ns) end_quiescing(thread);
    if (thread->drain_until_ns) drain(thread);
    struct ev_loop *ev = thread->loop->ev;
    if (thread->quiesce_until_ns || thread->drain_until_ns || sv_ring_home_expects_mail(home)) {
        thread->lookout_after = thread->lookout_after > 0 ? thread->lookout_after * 2 : LOOKOUT_FIRST;
        if (thread->lookout_after > LOOKOUT_MOST) thread->lookout_after = LOOKOUT_MOST;
        if (!ev_is_active(&thread->lookout)) {
            ev_timer_set(&thread->lookout, thread->lookout_after, 0.);
            ev_timer_start(ev, &thread->lookout);
        }
    } else {
        thread->lookout_after = 0;
        ev_timer_stop(ev, &thread->lookout);
    }
}

static void on_lookout(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    struct sv_reactor_thread *thread = watcher->data;
    atomic_store(&thread->endpoint->inbox->look_everywhere, 1);
}

/* Endpoint and loop are there: a reactor on them whose home are the workers' rings. */
static int set_up_reactor(struct sv_reactor_thread *thread) {
    struct sv_runtime *rt = thread->rt;
    thread->endpoint->is_deferring_release = true;
    *thread->reactor = (struct sv_reactor){.number = (uint16_t)thread->number,
                                           .loop = thread->loop,
                                           .endpoint = thread->endpoint,
                                           .sessions = &rt->sessions,
                                           .counters = &thread->endpoint->inbox->counters,
                                           .ports = rt->ports,
                                           .port_count = rt->port_count,
                                           .log = sv_log_view(rt->sink, "reactor", (int)thread->number),
                                           .output_memory_limit = rt->config.output_memory_limit,
                                           .max_connection = rt->config.max_connection,
                                           .max_queued_bytes = rt->config.max_queued_bytes,
                                           .heartbeat_interval = rt->config.heartbeat_interval,
                                           .shared_ports = rt->shared_ports,
                                           .fill_framing = rt->hooks.framing,
                                           .framing_context = rt->hooks.context};
    thread->home = (struct sv_ring_home){.reactor = thread->reactor,
                                         .endpoint = thread->endpoint,
                                         .slots = rt->slots,
                                         .worker_count = rt->config.workers,
                                         .choose = rt->hooks.choose,
                                         .ask = rt->hooks.ask,
                                         .choose_context = rt->hooks.context,
                                         .is_sticky = rt->config.is_sticky,
                                         .is_sticky_in_flight = rt->config.is_sticky_in_flight};
    thread->reactor->home = sv_ring_home_table(&thread->home);
    struct srvlua_status status;
    int result = sv_reactor_init(thread->reactor, &status);
    if (result) {
        sv_log_about(&thread->reactor->log, SRVLUA_LOG_ERROR, 0, -result, "the reactor cannot start: %s", status.message);
        return result;
    }
    ev_timer_init(&thread->lookout, on_lookout, LOOKOUT_FIRST, 0.);
    thread->lookout.data = thread;
    return sv_ring_home_init(&thread->home);
}

/* ------------------------------------------------------------------------------------------------------- the thread */

static void after_mail(void *context) {
    sv_reactor_thread_after_mail(context);
}

static void before_sleep(void *context) {
    sv_reactor_thread_before_sleep(context);
}

static bool adopt(void *context, struct sv_session *session) {
    struct sv_reactor_thread *thread = context;
    sv_reactor_adopt(thread->reactor, session, NULL);
    return true;
}

/* Where all connections are one reactor's, nobody has to deal them out: the way by another thread costs a resumed TLS handshake
 * 15 % more CPU. */
static int set_up_acceptor(struct sv_reactor_thread *thread) {
    struct sv_acceptor *acceptor = &thread->own.acceptor;
    sv_runtime_fill_acceptor(thread->rt, acceptor, adopt, thread);
    acceptor->loop = thread->loop;
    acceptor->counters = thread->reactor->counters;
    acceptor->log = thread->reactor->log;
    acceptor->owner = thread->endpoint->id;
    acceptor->reactor = thread->reactor->number;
    return sv_acceptor_init(acceptor);
}

static int set_up_thread(struct sv_reactor_thread *thread) {
    struct sv_loop_hooks hooks = {.receive = receive, .after_mail = after_mail, .before_sleep = before_sleep, .context = thread};
    thread->endpoint = &thread->own.endpoint;
    thread->loop = &thread->own.loop;
    thread->reactor = &thread->own.reactor;
    int result = sv_endpoint_open(thread->endpoint, &thread->rt->ipc, sv_endpoint_of_reactor(thread->number));
    if (result == 0) result = sv_loop_init(thread->loop, thread->endpoint, &hooks);
    if (result == 0) result = set_up_reactor(thread);
    return result || thread->rt->config.reactors > 1 ? result : set_up_acceptor(thread);
}

static void *run(void *argument) {
    struct sv_reactor_thread *thread = argument;
    char name[16];
    snprintf(name, sizeof name, "reactor %u", thread->number);
    prctl(PR_SET_NAME, name);
    sv_cpus_pin(&thread->rt->cpus, thread->number, &thread->reactor->log);
    sv_loop_run(thread->loop);
    sv_acceptor_free(&thread->own.acceptor);
    sv_reactor_free(thread->reactor);
    sv_send(thread->endpoint, SV_ENDPOINT_MASTER, SV_RECORD_DRAINED, thread->number, 0, NULL, 0);
    sv_kick_all(thread->endpoint);
    return NULL;
}

int sv_reactor_thread_start(struct sv_reactor_thread *thread) {
    int result = set_up_thread(thread);
    if (result) return result;
    sigset_t all, before;
    sigfillset(&all); /* signals are the main thread's */
    pthread_sigmask(SIG_SETMASK, &all, &before);
    result = -pthread_create(&thread->own.thread, NULL, run, thread);
    pthread_sigmask(SIG_SETMASK, &before, NULL);
    return result;
}

void sv_reactor_thread_join(struct sv_reactor_thread *thread) {
    pthread_join(thread->own.thread, NULL);
    sv_ring_home_free(&thread->home);
    sv_loop_free(thread->loop);
    sv_endpoint_close(thread->endpoint);
}

/* ------------------------------------------------------------------------------------------------------- no thread */

int sv_reactor_thread_attach(struct sv_reactor_thread *thread) {
    struct sv_runtime *rt = thread->rt;
    thread->endpoint = &rt->endpoint;
    thread->loop = &rt->loop;
    thread->reactor = &rt->reactor;
    int result = set_up_reactor(thread);
    rt->has_reactor = result == 0;
    sv_cpus_pin(&rt->cpus, thread->number, &rt->log);
    return result;
}
