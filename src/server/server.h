/* server.h: the server object: settings, ports, callbacks, and the runtime that runs it. Everything public goes through here.
 *
 * Owner: the program that made it. Forked processes have their own copies; what is shared lies in the runtime's arena.
 * runs in: one thread of each process; `choose`, `ask` and measuring (dispatch.c, dispatcher.c, measurer.c) also in reactor threads, on what never
 * changes after start(). */
#ifndef SV_SERVER_SERVER_H
#define SV_SERVER_SERVER_H

#include <stdbool.h>

#include "base/log.h"
#include "net/listener.h"
#include "process/runtime.h"
#include "server/command.h"
#include "server/settings.h"
#include "server/tasks.h"
#include "server/tls_sessions.h"
#include "srvlua.h"

struct sv_callback {
    srvlua_callback function;
    void *user_data;
};

struct sv_user_process {
    srvlua_process_main main;
    void *user_data;
};

struct sv_measure; /* measurer.c */

struct srvlua_port {
    srvlua_server *server;
    uint16_t index;
    int type; /* without SRVLUA_SSL */
    bool has_ssl;
    char *host;
    struct sv_listener listener;
    struct sv_port_settings settings; /* as given */
    struct sv_port_settings effective; /* in start(): inherited and derived */
    bool has_own_settings;
    struct sv_tls_rules tls; /* from start() on, if has_ssl */
    struct sv_tls_shared *tls_shared;
    struct sv_networks trusted, exempt; /* of the effective settings, for the rules */
    struct srvlua_measurer measurer; /* as given; zero: none */
    struct sv_callback callbacks[SRVLUA_EVENT_COUNT];
};

struct srvlua_server {
    int mode;
    struct srvlua_port **ports;
    size_t port_count;
    struct sv_server_settings settings; /* as given */
    struct sv_server_settings effective; /* in start(): derived */
    bool is_finished; /* `effective` is valid */
    struct sv_log_sink *sink;
    struct sv_log log;
    struct sv_callback callbacks[SRVLUA_EVENT_COUNT];
    struct sv_user_process *users;
    uint32_t user_count;
    bool is_check_only; /* taken addresses are no failure */
    int last_error;
    bool is_running; /* start() was entered */
    struct sv_port_rules *rules;
    struct sv_tls_bytes *certificates; /* [port_count], the newest of ports with TLS; NULL: there is none */
    unsigned char *tls_shared;         /* mapped: what the ports' reactors share */
    size_t tls_shared_bytes;
    struct sv_runtime rt;
    int64_t responses;   /* of this process since its start */
    int64_t stats_timer; /* 0: none */
    struct sv_output_waiter *waiters; /* oldest first */
    struct sv_task_calls tasks;
    struct sv_tls_sessions tls_sessions;
    srvlua_stack_writer stack_writer; /* NULL: none */
    void *stack_writer_data;
    struct sv_commands commands;
    bool has_stats_warning;
    struct sv_log_limit discard_notice;
    _Atomic int64_t next_idle_warning_ns; /* reactors: code 9007, once a second */
    struct srvlua_dispatcher dispatcher;  /* as given; zero: none */
    srvlua_dispatch_function dispatch;    /* from start() on: what reactors ask, NULL: nothing */
    struct srvlua_reactor *reactors;      /* [reactor_num], if they ask */
    struct sv_measure *measures;          /* [reactor_num × ports], if any port has a package_length_func */
    _Atomic int64_t next_dispatch_error_ns, next_dispatch_warning_ns, next_slow_dispatch_ns, next_slow_measure_ns; /* reactors */
    _Atomic uint32_t rotation; /* dispatch modes that rotate: all reactors of the master count on it */
};

/* Records a failure for srvlua_last_error() and fills *status; returns -code. */
int sv_server_fail(srvlua_server *server, struct srvlua_status *status, int code, const char *format, ...) SRVLUA_PRINTF(4, 5);
/* Records the failure that *status tells of. */
int sv_server_note(srvlua_server *server, int result);

/* The calls that only some processes may make (methods.md 1.4). */
enum sv_call {
    SV_CALL_CONFIGURE, /* set, on, addListener, start */
    SV_CALL_CONTROL,   /* reload, shutdown, stats, stop(id) */
    SV_CALL_STOP_SELF,
    SV_CALL_SEND,
    SV_CALL_SENDFILE,
    SV_CALL_SENDTO,
    SV_CALL_SENDWAIT,
    SV_CALL_CONNECTION, /* exist, getClientInfo, pause ... */
    SV_CALL_TASK,       /* task */
    SV_CALL_TASK_WAIT,  /* taskwait and its kin, per-task callbacks */
    SV_CALL_FINISH,
    SV_CALL_MESSAGE
};
/* 0, or -code with *status filled if the calling process may not do that now. */
int sv_check_call(srvlua_server *server, enum sv_call call, struct srvlua_status *status);

/* events.c: the hooks that the runtime calls. */
void sv_events_enter(void *context);
int sv_events_fire(void *context, struct srvlua_event_data *data);
void sv_events_deliver(void *context, const struct sv_message *message);
void sv_events_failed(void *context);
void sv_events_before_sleep(void *context);
int sv_events_run_user(void *context, uint32_t user);
size_t sv_events_write_stack(void *context, char *text, size_t size, const void *interrupted);
/* Runs a callback, if there is one, and sees to its failure. */
int sv_events_run(srvlua_server *server, const struct sv_callback *callback, const struct srvlua_event_data *data);
/* The callback of a port's event, its own or the primary port's. */
const struct sv_callback *sv_port_callback(const srvlua_server *server, uint16_t port, enum srvlua_event event);
/* Runs the close callback of a session once; value = reactor id or -1. */
void sv_events_run_close(srvlua_server *server, struct sv_session *session, uint64_t id, int32_t value);
bool sv_events_is_closing(const srvlua_server *server, uint64_t id);

/* output_wait.c: sends that wait for a connection's queue; calls back all that wait for this one, in order. */
void sv_output_wait_end(srvlua_server *server, uint64_t id);

/* tasks.c: tasks, their results, and messages: the runtime's hooks. */
void sv_tasks_run(void *context, const struct sv_task *task);
void sv_tasks_mail(void *context, const struct sv_message *message);
bool sv_tasks_mail_at_once(void *context, const struct sv_message *message);
bool sv_tasks_is_expecting(void *context);
void sv_tasks_end_turn(srvlua_server *server);
/* The process is another one now, and knows nothing of its parent's calls. */
void sv_tasks_reset(srvlua_server *server);

/* dispatch.c */
uint32_t sv_dispatch_choose(void *context, const struct sv_connection *connection, const struct sv_address *from, uint16_t type);
bool sv_dispatch_is_sticky(int64_t mode);
bool sv_dispatch_has_order(int64_t mode); /* connect and close events are on */

/* dispatcher.c: the user's own dispatch function. */
/* Whether start() can use what was given; settles what follows from it in the effective settings. 0 or -code. */
int sv_dispatcher_check(srvlua_server *server, struct srvlua_status *status);
/* In start(), before the first fork: makes what the reactors need to ask. 0 or -code. */
int sv_dispatcher_open(srvlua_server *server, struct srvlua_status *status);
void sv_dispatcher_close(srvlua_server *server);
/* `ask` of struct sv_ring_home. runs in: reactor threads. */
int32_t sv_dispatcher_ask(void *context, uint32_t number, const struct sv_connection *connection, const struct sv_address *from,
                          uint16_t record, const void *data, size_t length);

/* measurer.c: the users' own functions that tell how long packets are. */
/* Whether somebody runs the functions that were given. 0 or -code. */
int sv_measurer_check(srvlua_server *server, struct srvlua_status *status);
/* The measurer that a port has or inherits; zero: none. */
const struct srvlua_measurer *sv_measurer_of(const struct srvlua_port *port);
/* In start(), before the first fork: makes what reactors need to ask. 0 or -code. */
int sv_measurer_open(srvlua_server *server, struct srvlua_status *status);
void sv_measurer_close(srvlua_server *server);
/* Hook `framing` of the runtime: adds what is a reactor's own to its copy of a port's rules. */
void sv_measurer_fill(void *context, uint32_t reactor, uint16_t port, struct sv_framer_rules *rules);
/* A sv_length_function. runs in: reactor threads, BASE workers. */
int64_t sv_measurer_ask(void *context, const unsigned char *data, size_t length, const char **reason);

/* framing.c */
#define SV_FRAMING_SWITCHES 4
/* The switches that are on, in the order of precedence; returns how many. */
size_t sv_framing_switches(const struct sv_port_settings *settings, const char *names[SV_FRAMING_SWITCHES]);
/* Whether package_length_func or a measurer decides. */
bool sv_framing_is_by_function(const struct srvlua_port *port);
/* Datagram ports have no streams, unless DTLS makes some. */
bool sv_port_has_streams(const struct srvlua_port *port);
void sv_framing_fill(struct sv_framer_rules *rules, const struct srvlua_port *port);

/* A port as messages name it: "port 127.0.0.1:9501", with "/udp" behind it for datagrams; "port /tmp/socket". */
struct sv_port_name {
    char text[SV_ADDRESS_TEXT_SIZE + 32];
};
struct sv_port_name sv_port_name(const struct srvlua_port *port);

/* port_check.c: says in the log what is odd in the settings of ports. 0, or -code for what cannot work. */
int sv_port_check(srvlua_server *server, struct srvlua_status *status);

/* stats.c */
void sv_stats_start_file(srvlua_server *server);

#endif
