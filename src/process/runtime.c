/* runtime.c: what all processes of a server have in common: the shared memory, becoming somebody, sending orders. */
#include "process/runtime.h"

#include <assert.h>
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"

#define FORWARD_WAIT_NS (5 * SV_NS_PER_SECOND)  /* BASE: a worker that waits for a busy owner */
#define NAMES_MOST (1u << 17)                   /* suspended requests of a process that can be named when it dies */
#define MANAGER_WAIT_NS (SV_NS_PER_SECOND / 10) /* the manager must look after its children */

/* ------------------------------------------------------------------------------------------------ shared memory */

static bool counts_visitors(const struct sv_runtime *rt) {
    for (uint16_t i = 0; i < rt->port_count; i++)
        if (rt->ports[i].visitor_limit > 0 || rt->ports[i].visitor_rate > 0) return true;
    return false;
}

static int map_shared(struct sv_runtime *rt) {
    const struct sv_runtime_config *config = &rt->config;
    uint32_t reactors = config->mode == SRVLUA_PROCESS ? config->reactors : 0;
    rt->slot_count = config->workers + config->task_workers + config->users;
    rt->name_count = config->max_coroutine < NAMES_MOST ? (uint32_t)config->max_coroutine : NAMES_MOST;
    uint32_t producers = 2 + reactors + 2 * rt->slot_count;
    size_t size = sv_jobs_bytes(producers, config->task_workers, config->rings.task_ring) + sv_task_queue_bytes(rt) +
                  sv_cache_lines(sizeof(struct sv_shared)) + rt->port_count * sizeof(struct sv_port_shared) + sv_cache_lines(rt->slot_count * sizeof(struct sv_slot)) +
                  sv_cache_lines(rt->slot_count * 2 * sizeof(struct sv_stack_text)) +
                  sv_cache_lines((size_t)rt->slot_count * 2 * rt->name_count * sizeof *rt->names) +
                  sv_session_table_bytes(config->session_table_size) +
                  (counts_visitors(rt) ? sv_visitors_bytes(config->max_connection) : 0) +
                  sv_ipc_bytes(reactors, config->workers, rt->slot_count, &config->rings);
    int result = sv_arena_map(&rt->arena, size);
    if (result) return result;
    rt->shared = sv_arena_alloc(&rt->arena, sizeof *rt->shared);
    rt->shared_ports = sv_arena_alloc(&rt->arena, rt->port_count * sizeof *rt->shared_ports);
    rt->slots = sv_arena_alloc(&rt->arena, rt->slot_count * sizeof *rt->slots);
    rt->stacks = sv_arena_alloc(&rt->arena, rt->slot_count * 2 * sizeof *rt->stacks);
    rt->names = sv_arena_alloc(&rt->arena, (size_t)rt->slot_count * 2 * rt->name_count * sizeof *rt->names);
    if (!rt->shared || !rt->shared_ports || !rt->slots || !rt->stacks || !rt->names) return -ENOMEM;
    result = sv_session_table_init(&rt->sessions, &rt->arena, config->session_table_size, config->start_session_id);
    if (result == 0 && counts_visitors(rt)) result = sv_visitors_init(&rt->sessions.visitors, &rt->arena, config->max_connection);
    if (result) return result;
    result = sv_jobs_init(&rt->jobs, &rt->arena, producers, config->task_workers, config->rings.task_ring);
    if (result) return result;
    return sv_ipc_init(&rt->ipc, &rt->arena, config->mode == SRVLUA_PROCESS, reactors, config->workers, rt->slot_count, &config->rings);
}

/* ------------------------------------------------------------------------------------------- becoming somebody */

static void on_sent(void *context, const struct sv_record *record) {
    struct sv_runtime *rt = context;
    if ((record->flags & (SV_RECORD_FIRST | SV_RECORD_LAST)) == SV_RECORD_FIRST) sv_count(rt->counters, SV_COUNT_CHUNKED, 1);
    if (record->type == SV_RECORD_SEND) rt->in_flight[record->id & rt->sessions.mask] += record->length;
}

static void on_taken(void *context, const struct sv_record *record) {
    struct sv_runtime *rt = context;
    if (record->type != SV_RECORD_SEND) return;
    uint64_t *bytes = &rt->in_flight[record->id & rt->sessions.mask];
    *bytes -= record->length < *bytes ? record->length : *bytes;
}

int sv_runtime_become(struct sv_runtime *rt, enum srvlua_role role, const char *role_name, int slot, uint32_t parity, uint32_t id,
                      const struct sv_loop_hooks *hooks, void (*on_signal)(void *context, int signo)) {
    rt->role = role;
    rt->slot = slot;
    rt->parity = parity;
    rt->log = sv_log_view(rt->sink, role_name, slot);
    rt->counters = &sv_inbox_of(&rt->ipc, id)->counters;
    int result = sv_endpoint_open(&rt->endpoint, &rt->ipc, id);
    if (result) return result;
    result = sv_job_producer_open(&rt->tasks.producer, &rt->jobs, id);
    if (result) return result;
    size_t bytes = (rt->sessions.mask + 1) * sizeof *rt->in_flight;
    rt->in_flight = mmap(NULL, bytes, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (rt->in_flight == MAP_FAILED) {
        rt->in_flight = NULL;
        return -ENOMEM;
    }
    rt->endpoint.sent = on_sent; /* part by part: a send that is given up half way counts for what was sent of it */
    rt->endpoint.sent_context = rt;
    rt->endpoint.consumed = on_taken;
    rt->endpoint.consumed_context = rt;
    result = sv_loop_init(&rt->loop, &rt->endpoint, hooks);
    if (result) return result;
    if (on_signal) result = sv_signals_open(&rt->loop, on_signal, rt);
    if (result) return result;
    rt->hooks.enter(rt->hooks.context);
    return 0;
}

void sv_runtime_unbecome(struct sv_runtime *rt) {
    sv_acceptor_free(&rt->acceptor);
    if (rt->has_reactor) sv_reactor_free(&rt->reactor);
    rt->has_reactor = false;
    sv_loop_free(&rt->loop);
    if (rt->endpoint.ipc) sv_endpoint_close(&rt->endpoint);
    sv_job_producer_close(&rt->tasks.producer);
    free(rt->tasks.buffer);
    free(rt->tasks.kept);
    rt->tasks = (struct sv_task_state){0};
    sv_messages_free(&rt->messages);
    sv_outbox_free(&rt->orders);
    sv_renewals_end(rt);
    if (rt->in_flight) munmap(rt->in_flight, (rt->sessions.mask + 1) * sizeof *rt->in_flight);
    rt->in_flight = NULL;
}

void sv_runtime_abandon(struct sv_runtime *rt) {
    sv_acceptor_free(&rt->acceptor);
    if (rt->has_reactor) sv_reactor_drop_copies(&rt->reactor);
    rt->has_reactor = false;
    rt->role = SRVLUA_ROLE_AFTER; /* before timers are released */
    sv_loop_free(&rt->loop);
    if (rt->endpoint.ipc) sv_endpoint_close(&rt->endpoint);
    sv_ipc_close(&rt->ipc);
    sv_signals_release(&rt->saved_signals);
}

void sv_runtime_fill_acceptor(struct sv_runtime *rt, struct sv_acceptor *acceptor,
                              bool (*accepted)(void *context, struct sv_session *session), void *context) {
    *acceptor = (struct sv_acceptor){.loop = &rt->loop,
                                     .ipc = &rt->ipc,
                                     .sessions = &rt->sessions,
                                     .counters = rt->counters,
                                     .ports = rt->ports,
                                     .port_count = rt->port_count,
                                     .log = rt->log,
                                     .max_connection = rt->config.max_connection,
                                     .owner = rt->endpoint.id,
                                     .accepted = accepted,
                                     .context = context};
}

int sv_runtime_fire(struct sv_runtime *rt, enum srvlua_event event) {
    struct srvlua_event_data data = {.event = event, .worker_id = rt->slot};
    return rt->hooks.fire(rt->hooks.context, &data);
}

int64_t sv_runtime_wait_ns(const struct sv_runtime *rt) {
    return (int64_t)(rt->config.max_wait_time * 1e9);
}

int64_t sv_runtime_shutdown_ns(const struct sv_runtime *rt) {
    return rt->config.max_wait_time > 0 ? 2 * sv_runtime_wait_ns(rt) : SV_NS_PER_SECOND;
}

bool sv_runtime_begin_shutdown(struct sv_runtime *rt) {
    int64_t none = 0;
    atomic_compare_exchange_strong(&rt->shared->shutdown_deadline_ns, &none, sv_now_ns() + sv_runtime_shutdown_ns(rt));
    if (atomic_exchange(&rt->shared->is_shutting_down, 1)) return false;
    sv_notify_stopping(&rt->notify);
    return true;
}

void sv_runtime_log_signal(struct sv_runtime *rt, int signo) {
    sv_log_about(&rt->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_UNREGISTERED_SIGNAL, "signal %d (%s) has no handler and is ignored", signo,
                 strsignal(signo));
}

/* ------------------------------------------------------------------------------------------------------- orders */

struct waiting {
    struct sv_runtime *rt;
    uint32_t to;
    int64_t until_ns; /* 0: as long as it takes */
    bool takes_in;    /* what comes meanwhile: the peer may be waiting for us */
    bool is_mail;     /* for whoever has the peer's slot, not for that one process */
    uint32_t born;    /* the life that has the first part of it */
};

static void stash(void *context, const struct sv_message *message) {
    struct sv_runtime *rt = context;
    if (!rt->worker.stash_first && rt->has_reactor && message->type == SV_RECORD_SEND) {
        sv_reactor_order(&rt->reactor, message); /* needs no callback, and keeps the sender going */
        return;
    }
    sv_worker_stash(rt, message);
}

/* A peer whose process is being replaced after a crash comes back. */
static bool is_peer_gone(const struct sv_runtime *rt, uint32_t endpoint) {
    int32_t slot = sv_slot_of_endpoint(&rt->ipc, endpoint);
    if (slot < 0) return false;
    return atomic_load(&rt->slots[slot].pid[sv_parity_of_endpoint(&rt->ipc, endpoint)]) == 0;
}

static uint32_t born_at(const struct sv_runtime *rt, uint32_t endpoint) {
    int32_t slot = sv_slot_of_endpoint(&rt->ipc, endpoint);
    return slot < 0 ? 0 : atomic_load(&rt->slots[slot].born[sv_parity_of_endpoint(&rt->ipc, endpoint)]);
}

/* Where mail for the slot of that endpoint goes now. */
static uint32_t heir_of(const struct sv_runtime *rt, uint32_t endpoint) {
    int32_t slot = sv_slot_of_endpoint(&rt->ipc, endpoint);
    return slot < 0 ? endpoint : sv_endpoint_of_slot(&rt->ipc, (uint32_t)slot, atomic_load(&rt->slots[slot].parity));
}

/* Who began to take the mail in has ended: whoever comes next knows nothing of the part that went. */
static bool is_reader_lost(const struct sv_runtime *rt, const struct waiting *waiting) {
    if (born_at(rt, waiting->to) != waiting->born) return true;
    return is_peer_gone(rt, waiting->to) && (heir_of(rt, waiting->to) != waiting->to || atomic_load(&rt->shared->is_shutting_down));
}

/* A reactor always takes in what we send, so waiting for it is short. A BASE worker may be busy, or wait for us: so we take in what
 * comes meanwhile, and give up after a while. */
static void wait_at_bell(struct waiting *waiting) {
    struct sv_runtime *rt = waiting->rt;
    struct pollfd bell = {.fd = sv_bell_fd(&rt->endpoint), .events = POLLIN};
    if (!waiting->takes_in) {
        atomic_store(&rt->endpoint.inbox->sleeping, 1);
        struct sv_ring_writer *writer = sv_writer_to(&rt->endpoint, waiting->to);
        if (!writer || !sv_ring_has_half(writer)) poll(&bell, 1, 2);
        atomic_store(&rt->endpoint.inbox->sleeping, 0);
        sv_bell_clear(&rt->endpoint);
        return;
    }
    if (rt->role == SRVLUA_ROLE_TASK) sv_tasks_before_sleep(rt, true);
    if (sv_fall_asleep(&rt->endpoint)) {
        poll(&bell, 1, 2);
        sv_wake_up(&rt->endpoint);
        sv_bell_clear(&rt->endpoint);
    }
    sv_receive(&rt->endpoint, SV_DRAIN_BATCH, stash, rt);
}

/* Whether who reads is still there is asked after the wait: room may have come from its end. */
static int wait_for_room(void *context) {
    struct waiting *waiting = context;
    const struct sv_runtime *rt = waiting->rt;
    if (waiting->until_ns && sv_now_ns() > waiting->until_ns) return -1;
    wait_at_bell(waiting);
    return waiting->is_mail ? is_reader_lost(rt, waiting) : waiting->until_ns && is_peer_gone(rt, waiting->to);
}

int sv_runtime_order(struct sv_runtime *rt, const struct sv_session *session, uint16_t type, uint64_t id, int32_t value,
                     const void *head, size_t head_length, const void *payload, size_t length) {
    struct waiting waiting = {.rt = rt, .to = session->owner, .takes_in = !rt->ipc.is_process_mode && rt->role == SRVLUA_ROLE_WORKER};
    if (!rt->ipc.is_process_mode)
        waiting.until_ns = sv_now_ns() + (rt->role == SRVLUA_ROLE_MANAGER ? MANAGER_WAIT_NS : FORWARD_WAIT_NS);
    int result = sv_send_wait(&rt->endpoint, session->owner, type, id, value, head, head_length, payload, length, wait_for_room, &waiting);
    if (rt->role == SRVLUA_ROLE_USER) sv_kick(&rt->endpoint, session->owner); /* its loop may not turn for long */
    if (result == 0) return 0;
    return result == -ENOMEM ? -SRVLUA_ERROR_MALLOC_FAIL : -SRVLUA_ERROR_OUTPUT_BUFFER_OVERFLOW;
}

int sv_runtime_send(struct sv_runtime *rt, uint32_t endpoint, uint16_t type, uint64_t id, int32_t value, const void *head,
                    size_t head_length, const void *payload, size_t length, int64_t until_ns) {
    struct waiting waiting = {.rt = rt,
                              .to = endpoint,
                              .until_ns = until_ns,
                              .takes_in = rt->role == SRVLUA_ROLE_WORKER || rt->role == SRVLUA_ROLE_TASK,
                              .is_mail = true};
    bool is_event_worker = rt->role == SRVLUA_ROLE_WORKER && rt->ipc.is_process_mode, was_muted = rt->endpoint.is_muted;
    if (is_event_worker) sv_set_muted(&rt->endpoint, true); /* events wait in their rings */
    int result;
    for (;;) {
        waiting.born = born_at(rt, waiting.to);
        result = sv_send_wait(&rt->endpoint, waiting.to, type, id, value, head, head_length, payload, length, wait_for_room, &waiting);
        if (result != -EPIPE || !is_reader_lost(rt, &waiting) || atomic_load(&rt->shared->is_shutting_down)) break;
        waiting.to = heir_of(rt, waiting.to);
    }
    if (is_event_worker) sv_set_muted(&rt->endpoint, was_muted);
    if (result == 0) return 0;
    return result == -ENOMEM ? -SRVLUA_ERROR_MALLOC_FAIL : -SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL;
}

void sv_runtime_nap(struct sv_runtime *rt, int64_t ns) {
    sv_kick_all(&rt->endpoint);
    atomic_store(&rt->endpoint.inbox->sleeping, 1);
    struct pollfd bell = {.fd = sv_bell_fd(&rt->endpoint), .events = POLLIN};
    poll(&bell, 1, (int)((ns + 999999) / 1000000));
    atomic_store(&rt->endpoint.inbox->sleeping, 0);
    sv_bell_clear(&rt->endpoint);
}

int sv_runtime_tell(struct sv_runtime *rt, uint32_t endpoint, uint16_t type, uint64_t id, int32_t value) {
    bool is_supervisor = rt->role == SRVLUA_ROLE_MASTER || rt->role == SRVLUA_ROLE_MANAGER;
    int result = is_supervisor ? sv_outbox_send(&rt->orders, &rt->endpoint, endpoint, type, id, value, NULL, 0, NULL, 0)
                               : sv_send(&rt->endpoint, endpoint, type, id, value, NULL, 0);
    sv_kick(&rt->endpoint, endpoint); /* rare and short: at once, whatever the caller does next */
    if (result == 0) return 0;
    return result == -EAGAIN ? -SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL : -SRVLUA_ERROR_MALLOC_FAIL;
}

void sv_runtime_lose(struct sv_runtime *rt, uint64_t id) {
    sv_count(rt->counters, SV_COUNT_LOST, 1);
    struct sv_session *session = sv_session_find(&rt->sessions, id);
    if (rt->config.on_lost_request == SV_LOST_ACTION_KEEP || !session || !rt->ipc.is_process_mode) return;
    sv_runtime_tell(rt, session->owner, SV_RECORD_CLOSE, id, 0);
}

void sv_runtime_tell_rest(struct sv_runtime *rt) {
    if (rt->orders.first) sv_outbox_flush(&rt->orders, &rt->endpoint);
}

uint64_t sv_runtime_in_flight(struct sv_runtime *rt, const struct sv_session *session) {
    uint64_t id = atomic_load_explicit(&session->id, memory_order_relaxed);
    uint64_t *bytes = &rt->in_flight[id & rt->sessions.mask];
    if (*bytes && rt->endpoint.writers[session->owner].ring) sv_ring_writer_refresh(&rt->endpoint.writers[session->owner]);
    return *bytes;
}

void sv_runtime_flush(struct sv_runtime *rt) {
    if (rt->has_reactor) sv_reactor_end_turn(&rt->reactor);
    if (rt->endpoint.ipc) sv_kick_all(&rt->endpoint);
}

/* ---------------------------------------------------------------------------------------------------------- run */

static bool is_single_process(const struct sv_runtime *rt) {
    const struct sv_runtime_config *config = &rt->config;
    return config->mode == SRVLUA_BASE && config->workers == 1 && !config->task_workers && !config->users && !config->max_request;
}

/* Who the workers become, and the log file with them (settings.md 3.17, 3.14). */
static int prepare_identity(struct sv_runtime *rt, struct srvlua_status *status) {
    const struct sv_runtime_config *config = &rt->config;
    if (!config->user && !config->group && !config->root) return 0;
    if (geteuid() != 0) {
        sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "user, group and chroot have no effect: the server was not started by root");
        return 0;
    }
    int result = sv_identity_look_up(&rt->identity, config->user, config->group, config->root, status);
    if (result) return result;
    if (!sv_log_sink_has_file(rt->sink)) return 0;
    const struct sv_identity *identity = &rt->identity;
    result = sv_log_sink_set_owner(rt->sink, identity->has_user ? identity->user : (uid_t)-1, identity->has_group ? identity->group : (gid_t)-1);
    if (result) sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "log_file cannot be given to the workers' user: %s", strerror(-result));
    if (identity->root)
        sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "log_file cannot be opened again by workers: it is outside of their chroot");
    return 0;
}

/* What can still fail in the foreground, before anything is mapped or forked. */
static int prepare(struct sv_runtime *rt, struct srvlua_status *status) {
    const struct sv_runtime_config *config = &rt->config;
    int result = config->pid_file ? sv_pid_file_check(config->pid_file, status) : 0;
    if (result == 0 && config->open_cpu_affinity)
        result = sv_cpus_list(&rt->cpus, config->cpus_ignored, config->cpus_ignored_count, status);
    return result ? result : prepare_identity(rt, status);
}

static void unmap_shared(struct sv_runtime *rt) {
    sv_task_queue_close(rt);
    sv_ipc_close(&rt->ipc);
    sv_jobs_close(&rt->jobs);
    sv_arena_unmap(&rt->arena);
}

static int run(struct sv_runtime *rt, struct srvlua_status *status) {
    rt->slot = -1;
    int result = prepare(rt, status);
    if (result == 0 && rt->config.is_daemon) result = sv_daemonize(rt, status);
    if (result) return result;
    result = map_shared(rt);
    if (result) result = sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "the shared memory could not be mapped: %s", strerror(-result));
    if (result == 0) result = sv_task_queue_open(rt, status);
    if (result) {
        unmap_shared(rt);
        return result;
    }
    rt->shared->start_time = sv_wall_ns() / SV_NS_PER_SECOND;
    atomic_store(&rt->shared->starter_pid, getpid());
    sv_signals_take_over(&rt->saved_signals);
    sv_notify_open(&rt->notify, &rt->log);
    if (rt->config.mode == SRVLUA_PROCESS)
        result = sv_master_run(rt, status);
    else if (is_single_process(rt))
        result = sv_worker_run_alone(rt, status);
    else
        result = sv_manager_run(rt, status);
    sv_notify_close(&rt->notify);
    if (rt->config.pid_file) sv_pid_file_remove(rt->config.pid_file);
    sv_signals_give_back(&rt->saved_signals);
    unmap_shared(rt);
    return result;
}

int sv_runtime_run(struct sv_runtime *rt, struct srvlua_status *status) {
    int result = run(rt, status);
    sv_identity_free(&rt->identity);
    sv_cpus_free(&rt->cpus);
    return result;
}
