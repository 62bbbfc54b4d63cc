/* runtime.h: the processes of one running server: what they share, what each of them is, how they are started and ended.
 *
 * PROCESS: master (master.c: accepts, signals, reactor threads) ─ manager (manager.c: the only one that forks) ─ workers (worker.c),
 *          user processes (user.c)
 * BASE:    manager ─ workers that own their clients; or, with nothing to manage, one process that is worker 0.
 *
 * `struct sv_runtime` is private to each process (forked copies); what is shared lies behind `arena`. This layer knows processes,
 * not callbacks: it asks the hooks. */
#ifndef SV_PROCESS_RUNTIME_H
#define SV_PROCESS_RUNTIME_H

#include <pthread.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/log.h"
#include "ipc/endpoint.h"
#include "process/affinity.h"
#include "process/fault.h"
#include "process/hang.h"
#include "process/identity.h"
#include "process/notify.h"
#include "process/messages.h"
#include "process/renewal.h"
#include "process/signals.h"
#include "process/task_queue.h"
#include "process/tasks.h"
#include "reactor/accept.h"
#include "reactor/reactor.h"
#include "reactor/ring_home.h"
#include "shm/session.h"
#include "shm/slot.h"
#include "srvlua.h"

struct sv_runtime_config { /* from the settings; read only once the server runs */
    int mode;
    uint32_t reactors, workers, task_workers, users;
    int64_t max_connection;
    uint64_t start_session_id;
    uint32_t session_table_size;
    struct sv_ipc_sizes rings;
    int64_t output_memory_limit, max_queued_bytes;
    double heartbeat_interval, max_wait_time, start_timeout, respawn_window, respawn_delay_max, reload_jitter;
    int64_t respawn_burst, reload_parallel;
    int64_t max_request, max_request_grace, task_max_request, task_max_request_grace;
    bool task_coroutines;      /* task workers run tasks side by side */
    int64_t max_coroutine;
    int task_way; /* enum sv_task_way */
    int32_t message_queue_key;
    const char *task_tmpdir;
    int64_t spin_ns;           /* longest busy wait for what is expected at once, 0 = none */
    int64_t message_stash;     /* bytes of messages that may wait for room */
    bool reload_async, is_daemon;
    bool is_sticky, is_sticky_in_flight; /* dispatch: as in struct sv_ring_home */
    bool measures_time;                  /* callbacks are timed: somebody looks at it */
    bool single_thread; /* PROCESS: the only reactor runs on the master's own loop and endpoint */
    bool open_cpu_affinity;
    const int64_t *cpus_ignored;
    size_t cpus_ignored_count;
    const char *pid_file;
    const char *user, *group, *root; /* NULL: not given */
    int on_lost_request; /* enum sv_lost_action */
    double hang_warning, hang_timeout, task_hang_warning, task_hang_timeout; /* seconds, 0 = off */
};

enum sv_lost_action { SV_LOST_ACTION_KEEP, SV_LOST_ACTION_CLOSE, SV_LOST_ACTION_REDELIVER };

struct sv_runtime_hooks {
    void *context;
    /* The calling process has become what rt->role says; runs before any event there. */
    void (*enter)(void *context);
    /* Runs the callback of a server-level event, if there is one; nonzero: it failed. */
    int (*fire)(void *context, struct srvlua_event_data *data);
    /* An event of a connection, or a datagram, for this worker. Also answers CLOSED. runs in: worker. */
    void (*deliver)(void *context, const struct sv_message *message);
    /* Runs a task. runs in: task worker. */
    void (*run_task)(void *context, const struct sv_task *task);
    /* A record between processes: FINISH, MESSAGE and what follows them. runs in: any process. */
    void (*mail)(void *context, const struct sv_message *message);
    /* The same for a process that waits in a call: true if the record was dealt with, false: later. */
    bool (*mail_at_once)(void *context, const struct sv_message *message);
    /* True if the process waits for a record that should come at once: then it may spin for it. */
    bool (*is_expecting)(void *context);
    /* Worker for an event (PROCESS). runs in: reactor threads, so it reads only what never changes or is atomic. */
    uint32_t (*choose)(void *context, const struct sv_connection *connection, const struct sv_address *from, uint16_t type);
    /* The same asked of the user's own function, NULL: there is none; see struct sv_ring_home. runs in: reactor threads. */
    int32_t (*ask)(void *context, uint32_t reactor, const struct sv_connection *connection, const struct sv_address *from,
                   uint16_t type, const void *data, size_t length);
    /* What differs from reactor to reactor in a port's framing; NULL: nothing does. */
    void (*framing)(void *context, uint32_t reactor, uint16_t port, struct sv_framer_rules *rules);
    /* A callback of a timer or deferred function failed. */
    void (*failed)(void *context);
    /* SIGHUP: reads certificates again and gives them to sv_renew(); false: there are none. runs in: the process that was started. */
    bool (*renew)(void *context);
    /* Runs what the user process with that number among them is for; returns its exit status. */
    int (*run_user)(void *context, uint32_t user);
    /* A COMMAND or COMMAND_REPLY has come. runs in: master, manager, workers. */
    void (*command)(void *context, const struct sv_message *message);
    /* The turn of the loop ends: what had to wait for others can be looked after. runs in: those, too. */
    void (*before_sleep)(void *context);
    /* Writes where the code that runs is, lines that begin with a tab, and returns their length. At any instruction of a
     * worker, in a signal handler: reads only; `interrupted` is its ucontext_t. May be NULL. */
    size_t (*write_stack)(void *context, char *text, size_t size, const void *interrupted);
};

struct sv_shared { /* one per server */
    _Alignas(SV_CACHE_LINE) _Atomic int32_t master_pid; /* BASE: 0 */
    _Atomic int32_t manager_pid;                        /* 0: none */
    _Atomic int32_t starter_pid;                        /* who called start() */
    _Atomic uint32_t is_shutting_down;
    _Atomic int64_t shutdown_deadline_ns; /* monotonic: when everything that is left is ended by force */
    _Atomic uint32_t start_was_fired;     /* BASE: worker 0's first life ran the start callback */
    _Atomic uint32_t before_shutdown_was_fired;
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t queued_tasks; /* put into the message queue by processes of this server */
    int64_t start_time; /* seconds since the epoch */
};

/*            READY         told to leave            inbox worked off       nothing pending, or max_wait_time
 *  STARTING ───────► SERVING ───────────► DRAINING ────────────────► WAITING ────────────────────────► GONE
 *                       └── hands its inbox over at once (max_request, SIGTERM, stop) ──►┘                    */
enum sv_worker_phase { SV_WORKER_STARTING, SV_WORKER_SERVING, SV_WORKER_DRAINING, SV_WORKER_WAITING, SV_WORKER_GONE };

struct sv_stashed { /* a record that came while the worker waited for room, to be handled in the next turn */
    struct sv_stashed *next;
    struct sv_message message;
    unsigned char payload[];
};

#define SV_WORKER_TURN_NS (SV_NS_PER_SECOND / 100) /* after so much work signals, orders and timers have their turn */

struct sv_worker { /* of the calling process, if it is a worker */
    enum sv_worker_phase phase;
    struct sv_slot_life *life;
    bool is_alone;                /* single-process BASE */
    bool has_inherited;           /* the predecessor's inbox is being worked off through `inherited` */
    struct sv_endpoint inherited;
    bool is_resting, is_done;     /* takes no more events in this turn; never again */
    int64_t turn_began_ns;        /* when the first event of this turn was taken in, 0: none was */
    uint64_t last_served;         /* BASE: the session whose packet was passed on last */
    uint32_t predecessor;         /* its endpoint */
    struct sv_slot_life *predecessor_life; /* NULL: none */
    bool hands_over_later;        /* its inbox, as soon as it has all of what has partly arrived */
    bool leaves_later;            /* as soon as there is room for a successor */
    int64_t deadline_ns;          /* monotonic: end of waiting */
    int64_t request_limit;        /* 0: none */
    int64_t dispatch_baseline;    /* packets in our rings before this life */
    uint32_t depth;               /* callbacks inside one another */
    uint32_t running;             /* the same, and code of the program that is run in other ways */
    int32_t *free_names;          /* of those before life->suspended_end */
    size_t free_name_count, free_name_capacity;
    uint64_t *closing;            /* sessions whose close callback is running, innermost last */
    size_t closing_count, closing_capacity;
    struct sv_stashed *stash_first, *stash_last;
    size_t stash_bytes;
    int exit_code;
};

struct sv_runtime {
    struct sv_runtime_config config;
    struct sv_runtime_hooks hooks;
    struct sv_log_sink *sink;
    struct sv_log log;
    const struct sv_port_rules *ports;
    uint16_t port_count;
    struct sv_tls_bytes *certificates; /* [port_count], the newest, of ports with TLS; NULL: there is none */

    struct sv_arena arena;
    struct sv_shared *shared;
    struct sv_session_table sessions;
    struct sv_ipc ipc;
    struct sv_jobs jobs;
    struct sv_port_shared *shared_ports; /* [port_count] */
    struct sv_slot *slots; /* [slot_count] */
    struct sv_stack_text *stacks; /* [slot_count × 2], by slot and parity */
    _Atomic uint64_t *names;      /* [slot_count × 2 × name_count]: sessions and tasks that began, suspended and have not ended */
    uint32_t name_count;          /* per process; 0 = free */
    uint32_t slot_count;
    struct sv_signal_state saved_signals;
    bool is_in_background; /* daemonize: this is the child that goes on */
    struct sv_identity identity; /* of event workers */
    struct sv_cpu_list cpus;
    struct sv_notify notify; /* of the starting process; says nothing elsewhere */

    /* what the calling process is */
    enum srvlua_role role;
    int slot;         /* process number, -1: none */
    uint32_t parity;
    struct sv_endpoint endpoint;
    struct srvlua_loop loop;
    struct sv_counters *counters;
    struct sv_worker worker;
    struct sv_task_state tasks;
    struct sv_task_queue task_queue;
    struct sv_message_queue messages; /* that wait for room */
    struct sv_outbox orders; /* master, manager: that wait for room */
    struct sv_renewals renewals;
    struct sv_fault *fault; /* worker with a manager */
    struct sv_acceptor acceptor; /* master with several reactor threads; BASE: workers */
    struct sv_reactor reactor;   /* BASE: workers */
    bool has_reactor;
    bool is_reloading;   /* manager */
    bool is_manager_dead; /* master */
    bool has_answers;    /* answers to commands wait for room */
    uint64_t *in_flight; /* [sessions] bytes sent by this process and not taken by the owner yet; mapped, touched as used */
    int32_t coroutines, coroutines_peak;
};

/* Runs the server described by config, hooks, sink, ports. Returns 0 after an orderly shutdown, or -code. Forks. */
int sv_runtime_run(struct sv_runtime *rt, struct srvlua_status *status);

/* ------------------------------------------------------------------- for the server layer, in a running process */

/* The endpoint that owns a connection. */
static inline bool sv_runtime_owns(const struct sv_runtime *rt, const struct sv_session *session) {
    return rt->has_reactor && session->owner == rt->endpoint.id;
}
/* Hands an order to the owner of a connection; waits for room as the contract allows. 0 or -code. */
int sv_runtime_order(struct sv_runtime *rt, const struct sv_session *session, uint16_t type, uint64_t id, int32_t value,
                     const void *head, size_t head_length, const void *payload, size_t length);
/* Sends a record of any length to any endpoint, waiting for room, at most until until_ns (monotonic; 0: as long as it takes);
 * a worker takes in what comes meanwhile, for later. Should the process there end before it has all, its successor gets it from the
 * beginning. 0 or -code (9006: no room came, or the server shuts down and nobody is there any more). */
int sv_runtime_send(struct sv_runtime *rt, uint32_t endpoint, uint16_t type, uint64_t id, int32_t value, const void *head,
                    size_t head_length, const void *payload, size_t length, int64_t until_ns);
/* Sleeps until the bell rings, at most so long: for who waits in a call and has no worker's way to do so. */
void sv_runtime_nap(struct sv_runtime *rt, int64_t ns);
/* The master's endpoint. */
static inline uint32_t sv_runtime_master(const struct sv_runtime *rt) {
    return rt->config.single_thread ? sv_endpoint_of_reactor(0) : SV_ENDPOINT_MASTER;
}
/* A small record to any endpoint, e.g. SHUTDOWN to the master. 0 or -code. An order of master or manager that finds no room goes
 * later: who waits for what it brings about would wait for ever. */
int sv_runtime_tell(struct sv_runtime *rt, uint32_t endpoint, uint16_t type, uint64_t id, int32_t value);
/* Tells what there is room for now. runs in: master, manager, at the end of the loop's turn. */
void sv_runtime_tell_rest(struct sv_runtime *rt);
/* A request went with a dead process, and nobody gets it again: counts it and does with its connection what on_lost_request says.
 * runs in: manager, worker */
void sv_runtime_lose(struct sv_runtime *rt, uint64_t id);
/* Bytes of one session that this process has sent and its reactor has not taken yet. */
uint64_t sv_runtime_in_flight(struct sv_runtime *rt, const struct sv_session *session);

/* A callback begins and ends; sets the state that others see. Nested calls are counted. runs in: worker. */
void sv_worker_begin(struct sv_runtime *rt, uint64_t serving);
void sv_worker_end(struct sv_runtime *rt);
/* Code of the program begins and ends; what hang detection looks at. The two above do it too. runs in: worker. */
void sv_worker_begin_running(struct sv_runtime *rt);
void sv_worker_end_running(struct sv_runtime *rt);
/* This worker leaves: now (pending work is abandoned), or when its loop is empty, its inbox handed over at once. */
void sv_worker_stop_now(struct sv_runtime *rt);
void sv_worker_leave(struct sv_runtime *rt);
/* Ends the process from inside a callback, after what was accepted is handed over. Does not return. */
_Noreturn void sv_worker_abort(struct sv_runtime *rt, int exit_code);
/* Hands over what send accepted: before the process ends by exit(). */
void sv_runtime_flush(struct sv_runtime *rt);
/* In a child that this process has forked outside of the server: gives up, without a trace for others, what it has as a copy of a
 * server's process. */
void sv_runtime_abandon(struct sv_runtime *rt);
/* Keeps a record for the next turn. */
void sv_worker_stash(struct sv_runtime *rt, const struct sv_message *message);
/* Names of a process's suspended requests. */
static inline _Atomic uint64_t *sv_runtime_names(const struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    return rt->names + ((size_t)slot * 2 + parity) * rt->name_count;
}
/* The request that is running suspends: it is noted, so that its loss can be named. Token for sv_worker_resume_done, or -1. */
int32_t sv_worker_note_suspended(struct sv_runtime *rt);
void sv_worker_forget_suspended(struct sv_runtime *rt, int32_t token);
/* Counts one handled request, or task; the worker may begin to leave (max_request, task_max_request). */
void sv_worker_count_request(struct sv_runtime *rt);
void sv_worker_count_task(struct sv_runtime *rt);
/* Waits in a call, taking in what comes: orders, results (hooks.mail_at_once), all else for later. Events stay in their rings.
 * until_ns: monotonic, 0 = no limit. 0 when is_done() says so, -ETIMEDOUT, or -EINTR when the process is to leave and has no more time.
 * runs in: workers and task workers. */
int sv_worker_wait(struct sv_runtime *rt, bool (*is_done)(void *context), void *context, int64_t until_ns);
/* It was told to leave, and has no more time. */
bool sv_worker_is_overdue(const struct sv_runtime *rt);

/* --------------------------------------------------------------------------------- between the files of this folder */

int sv_runtime_fire(struct sv_runtime *rt, enum srvlua_event event);
/* The calling process becomes endpoint `id`: endpoint, loop, signals. 0 or -errno. */
int sv_runtime_become(struct sv_runtime *rt, enum srvlua_role role, const char *role_name, int slot, uint32_t parity, uint32_t id,
                      const struct sv_loop_hooks *hooks, void (*on_signal)(void *context, int signo));
/* Gives up what the process had as its former self (in a fresh child: the copies of its parent's). */
void sv_runtime_unbecome(struct sv_runtime *rt);
int64_t sv_runtime_wait_ns(const struct sv_runtime *rt); /* max_wait_time */
int64_t sv_runtime_shutdown_ns(const struct sv_runtime *rt); /* 2 × max_wait_time, at least 1 s */
/* Marks the shutdown as begun; true if it was not before. */
bool sv_runtime_begin_shutdown(struct sv_runtime *rt);
void sv_runtime_log_signal(struct sv_runtime *rt, int signo);

int sv_master_run(struct sv_runtime *rt, struct srvlua_status *status);
_Noreturn void sv_manager_main(struct sv_runtime *rt);          /* PROCESS: the forked manager */
int sv_manager_run(struct sv_runtime *rt, struct srvlua_status *status); /* BASE: in the starting process */
_Noreturn void sv_worker_main(struct sv_runtime *rt, uint32_t slot, uint32_t parity);
_Noreturn void sv_user_main(struct sv_runtime *rt, uint32_t slot);
int sv_worker_run_alone(struct sv_runtime *rt, struct srvlua_status *status);

/* base_home.c: the reactor and the acceptor of a BASE worker. 0 or -errno. */
int sv_base_set_up(struct sv_runtime *rt);
/* Every connection gets its close event, then what was accepted for it goes out, as long as there is time. */
void sv_base_close_connections(struct sv_runtime *rt);
void sv_worker_handle_stash(struct sv_runtime *rt);
/* What acceptors have in common, for one on the process's own loop. */
void sv_runtime_fill_acceptor(struct sv_runtime *rt, struct sv_acceptor *acceptor,
                              bool (*accepted)(void *context, struct sv_session *session), void *context);

/* daemon.c */
int sv_daemonize(struct sv_runtime *rt, struct srvlua_status *status);
int sv_pid_file_check(const char *path, struct srvlua_status *status);
int sv_pid_file_write(const char *path, struct srvlua_status *status);
void sv_pid_file_remove(const char *path);

/* reactor_thread.c: a reactor of the master: in a thread of its own, or (single_thread) with the master on its loop. */
struct sv_reactor_thread {
    struct sv_runtime *rt; /* read only in a thread */
    uint32_t number;
    struct sv_endpoint *endpoint; /* of its own, or the master's; so are the other two */
    struct srvlua_loop *loop;
    struct sv_reactor *reactor;
    struct sv_ring_home home;
    ev_timer lookout; /* sleeps briefly while a worker may send without ringing */
    double lookout_after;
    int64_t quiesce_until_ns; /* 0: QUIESCED was answered, or was not asked for */
    int64_t drain_until_ns; /* 0: not draining */
    /* QUIESCED, DRAINED; NULL: the master gets a record. */
    void (*answer)(void *context, uint16_t type);
    void *answer_context;
    struct { /* unused with single_thread */
        pthread_t thread;
        struct sv_endpoint endpoint;
        struct srvlua_loop loop;
        struct sv_reactor reactor;
        struct sv_acceptor acceptor; /* unused with several reactors: the master deals connections out to them */
    } own;
};
/* Members rt and number are set by the caller. 0 or -errno. */
int sv_reactor_thread_start(struct sv_reactor_thread *thread);
void sv_reactor_thread_join(struct sv_reactor_thread *thread);
/* The same on the master's loop; the caller sets answer, calls the next three from its loop's hooks, and sv_ring_home_free() after
 * sv_runtime_unbecome(). */
int sv_reactor_thread_attach(struct sv_reactor_thread *thread);
bool sv_reactor_thread_receive(struct sv_reactor_thread *thread, const struct sv_message *message); /* false: not for a reactor */
void sv_reactor_thread_after_mail(struct sv_reactor_thread *thread);
void sv_reactor_thread_before_sleep(struct sv_reactor_thread *thread);

#endif
