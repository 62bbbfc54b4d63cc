/* srvlua.h: the whole public C surface of srvlua.
 *
 * A `srvlua_server` owns everything: ports, settings, callbacks, shared memory, processes. The library keeps no
 * global mutable state, never prints (it logs through the server's logger), never calls exit or abort in the process
 * that called srvlua_start(), and exports only symbols that begin with `srvlua_`.
 *
 * What a process can have only once, and so is asked of the host:
 *   - one *running* server per process: srvlua_start() takes over the dispositions of SIGTERM, SIGUSR1, SIGUSR2,
 *     SIGCHLD, SIGHUP, SIGWINCH, SIGRTMIN, SIGALRM, SIGIO (they are read through a signalfd) and gives SIGPIPE a handler
 *     that does nothing; both are restored before it returns. Call it from the main thread, before other threads exist.
 *   - the server forks: children never return from srvlua_start(); they end with _exit() after stdio was flushed.
 *   - srvlua_start() takes systemd's variables (NOTIFY_*, WATCHDOG_*, LISTEN_*) out of the environment while it runs. In BASE
 *     mode with a single process it is that process which `user`, `group` and `chroot` change, for good.
 *   - libev aborts the process when it runs out of memory. Only loops of its own (epoll backend) are made; the default
 *     loop, ev_set_allocator and ev_set_syserr_cb stay the host's.
 *
 * Threads: a server is used from one thread, the one that called srvlua_start(). Callbacks run in that thread of
 * whichever process they belong to ("runs in" below); reactor threads run no callbacks but the dispatcher's.
 *
 * Results: functions that can fail return 0 (or a value >= 0) on success and -code on failure, where code is an errno
 * below 500 or an `enum srvlua_error`. `status`, which may be NULL, receives code and text. Every failure is also
 * remembered for srvlua_last_error() of this process. What each code stands for: docs/errors.md; events: docs/events.md;
 * settings: docs/settings.md.
 */
#ifndef SRVLUA_H
#define SRVLUA_H

#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#ifdef __cplusplus
extern "C" {
#endif

#define SRVLUA_VERSION "0.1.0"
#define SRVLUA_VERSION_ID 100 /* major * 10000 + minor * 100 + patch */

#if defined(__GNUC__)
#define SRVLUA_API __attribute__((visibility("default")))
#define SRVLUA_PRINTF(format_index, first) __attribute__((format(printf, format_index, first)))
#define SRVLUA_EXTENSION __extension__
#else
#define SRVLUA_API
#define SRVLUA_PRINTF(format_index, first)
#define SRVLUA_EXTENSION
#endif

typedef struct srvlua_server srvlua_server;
typedef struct srvlua_port srvlua_port;
typedef struct srvlua_loop srvlua_loop;
typedef struct srvlua_reactor srvlua_reactor;
typedef struct srvlua_table srvlua_table;
typedef struct srvlua_atomic srvlua_atomic;
typedef struct srvlua_lock srvlua_lock;

/* ---------------------------------------------------------------------------------------------------- constants */

enum srvlua_mode { SRVLUA_BASE = 1, SRVLUA_PROCESS = 2 };

enum srvlua_socket_type {
    SRVLUA_SOCK_TCP = 1,
    SRVLUA_SOCK_UDP = 2,
    SRVLUA_SOCK_TCP6 = 3,
    SRVLUA_SOCK_UDP6 = 4,
    SRVLUA_SOCK_UNIX_STREAM = 5,
    SRVLUA_SOCK_UNIX_DGRAM = 6,
    SRVLUA_SSL = 512 /* added to one of the above */
};

/* Bits of the setting ssl_protocols. */
enum srvlua_tls_version { SRVLUA_SSL_TLSv1_2 = 32, SRVLUA_SSL_TLSv1_3 = 64 };

enum srvlua_worker_status { SRVLUA_WORKER_BUSY = 1, SRVLUA_WORKER_IDLE = 2, SRVLUA_WORKER_EXIT = 3 };

enum srvlua_log_level {
    SRVLUA_LOG_DEBUG = 0,
    SRVLUA_LOG_TRACE = 1,
    SRVLUA_LOG_INFO = 2,
    SRVLUA_LOG_NOTICE = 3,
    SRVLUA_LOG_WARNING = 4,
    SRVLUA_LOG_ERROR = 5,
    SRVLUA_LOG_NONE = 6
};

/* What the calling process is to the server. Values are bits so that sets of them can be written. */
enum srvlua_role {
    SRVLUA_ROLE_BEFORE = 1,  /* start() was not entered yet */
    SRVLUA_ROLE_MASTER = 2,  /* PROCESS: the process that called start() */
    SRVLUA_ROLE_MANAGER = 4, /* forks and supervises; BASE with more than one process: the one that called start() */
    SRVLUA_ROLE_WORKER = 8,
    SRVLUA_ROLE_TASK = 16,
    SRVLUA_ROLE_USER = 32,
    SRVLUA_ROLE_AFTER = 64 /* start() has returned */
};

/* Codes of failures; below 500 they are errno values. One table with names and texts: srvlua_error_table(). */
enum srvlua_error {
    SRVLUA_ERROR_MALLOC_FAIL = 501,
    SRVLUA_ERROR_SYSTEM_CALL_FAIL = 502,
    SRVLUA_ERROR_NAME_TOO_LONG = 504,
    SRVLUA_ERROR_INVALID_PARAMS = 505,
    SRVLUA_ERROR_QUEUE_FULL = 506,
    SRVLUA_ERROR_OPERATION_NOT_SUPPORT = 507,
    SRVLUA_ERROR_PROTOCOL_ERROR = 508,
    SRVLUA_ERROR_WRONG_OPERATION = 509,
    SRVLUA_ERROR_NO_PAYLOAD = 550,
    SRVLUA_ERROR_FILE_EMPTY = 702,
    SRVLUA_ERROR_DNSLOOKUP_RESOLVE_FAILED = 711,
    SRVLUA_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT = 712,
    SRVLUA_ERROR_UNREGISTERED_SIGNAL = 721,
    SRVLUA_ERROR_BAD_HOST_ADDR = 722,
    SRVLUA_ERROR_BAD_PORT = 723,
    SRVLUA_ERROR_BAD_SOCKET_TYPE = 724,
    SRVLUA_ERROR_SESSION_CLOSED_BY_SERVER = 1001,
    SRVLUA_ERROR_SESSION_CLOSED_BY_CLIENT = 1002,
    SRVLUA_ERROR_SESSION_CLOSING = 1003,
    SRVLUA_ERROR_SESSION_CLOSED = 1004,
    SRVLUA_ERROR_SESSION_NOT_EXIST = 1005,
    SRVLUA_ERROR_SESSION_INVALID_ID = 1006,
    SRVLUA_ERROR_SESSION_DISCARD_TIMEOUT_DATA = 1007,
    SRVLUA_ERROR_OUTPUT_BUFFER_OVERFLOW = 1008,
    SRVLUA_ERROR_OUTPUT_SEND_YIELD = 1009,
    SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE = 1201,
    SRVLUA_ERROR_DATA_LENGTH_TOO_LARGE = 1202,
    SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND = 1203,
    SRVLUA_ERROR_PACKAGE_MALFORMED_DATA = 1204,
    SRVLUA_ERROR_TASK_PACKAGE_TOO_BIG = 2001,
    SRVLUA_ERROR_TASK_DISPATCH_FAIL = 2002,
    SRVLUA_ERROR_TASK_TIMEOUT = 2003,
    SRVLUA_ERROR_HTTP_CONFLICT_HEADER = 7105,
    SRVLUA_ERROR_HTTP_CONTEXT_UNAVAILABLE = 7106,
    SRVLUA_ERROR_WEBSOCKET_BAD_OPCODE = 8502,
    SRVLUA_ERROR_WEBSOCKET_UNCONNECTED = 8503,
    SRVLUA_ERROR_WEBSOCKET_PACK_FAILED = 8505,
    SRVLUA_ERROR_SERVER_MUST_CREATED_BEFORE_CLIENT = 9001,
    SRVLUA_ERROR_SERVER_TOO_MANY_SOCKET = 9002,
    SRVLUA_ERROR_SERVER_WORKER_TERMINATED = 9003,
    SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT = 9004,
    SRVLUA_ERROR_SERVER_TOO_MANY_LISTEN_PORT = 9005,
    SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL = 9006,
    SRVLUA_ERROR_SERVER_NO_IDLE_WORKER = 9007,
    SRVLUA_ERROR_SERVER_ONLY_START_ONE = 9008,
    SRVLUA_ERROR_SERVER_SEND_IN_MASTER = 9009,
    SRVLUA_ERROR_SERVER_INVALID_COMMAND = 9012,
    SRVLUA_ERROR_SERVER_IS_NOT_REGULAR_FILE = 9013,
    SRVLUA_ERROR_SERVER_SEND_TO_WORKER_TIMEOUT = 9014,
    SRVLUA_ERROR_SERVER_INVALID_CALLBACK = 9015,
    SRVLUA_ERROR_SERVER_WORKER_EXIT_TIMEOUT = 9101,
    SRVLUA_ERROR_CO_OUT_OF_COROUTINE = 10001,
    SRVLUA_ERROR_CO_NOT_EXISTS = 10016
};

/* Outcome of a call that failed: the code that the call returned negated, and a text for humans. */
struct srvlua_status {
    int code;
    char message[256];
};

struct srvlua_error_entry {
    const char *name; /* without ERROR_, e.g. "SESSION_CLOSED"; NULL ends the table */
    int code;
    const char *text;
};

/* The one table of codes >= 500, ascending, ended by a NULL name. Any process, any time. */
SRVLUA_API const struct srvlua_error_entry *srvlua_error_table(void);
/* Text of an errno value or of a code of the table; never NULL. Not thread-safe for errno values. */
SRVLUA_API const char *srvlua_strerror(int code);

/* ------------------------------------------------------------------------------------------------------- events */

/* What they tell, and in which process: docs/events.md. */
enum srvlua_event {
    SRVLUA_ON_START,
    SRVLUA_ON_SHUTDOWN,
    SRVLUA_ON_BEFORE_SHUTDOWN,
    SRVLUA_ON_MANAGER_START,
    SRVLUA_ON_MANAGER_STOP,
    SRVLUA_ON_WORKER_START,
    SRVLUA_ON_WORKER_STOP,
    SRVLUA_ON_WORKER_EXIT,
    SRVLUA_ON_WORKER_ERROR,
    SRVLUA_ON_BEFORE_RELOAD,
    SRVLUA_ON_AFTER_RELOAD,
    SRVLUA_ON_TASK,
    SRVLUA_ON_FINISH,
    SRVLUA_ON_PIPE_MESSAGE,
    SRVLUA_ON_CONNECT, /* from here on the events belong to a port */
    SRVLUA_ON_RECEIVE,
    SRVLUA_ON_PACKET,
    SRVLUA_ON_CLOSE,
    SRVLUA_ON_BUFFER_FULL,
    SRVLUA_ON_BUFFER_EMPTY,
    SRVLUA_ON_REQUEST, /* this and the following wait for HTTP and WebSocket */
    SRVLUA_ON_HANDSHAKE,
    SRVLUA_ON_BEFORE_HANDSHAKE_RESPONSE,
    SRVLUA_ON_OPEN,
    SRVLUA_ON_MESSAGE,
    SRVLUA_ON_DISCONNECT,
    SRVLUA_EVENT_COUNT
};

/* What a callback is told. Only the members named for its event are set; pointers are valid during the call only. */
struct srvlua_event_data {
    enum srvlua_event event;
    int worker_id;         /* workerStart/Stop/Exit/Error: id of that process */
    int64_t fd;            /* connection events: session id */
    int reactor_id;        /* connect, receive, close: reactor (BASE: worker); close: -1 = closed by the server */
    srvlua_port *port;     /* connection and packet events */
    const void *data;      /* receive, packet, task, finish, pipeMessage */
    size_t length;         /* bytes at data */
    double dispatch_time;  /* receive, packet: when the data was read; task, pipeMessage: when it was sent; finish: when the
                            * result was; seconds since the epoch; 0 else */
    const char *address;   /* packet: sender's IP text, or unix path ("" if unbound) */
    int peer_port;         /* packet: sender's port; -1 for unix */
    int server_socket;     /* packet: descriptor of the listener, for srvlua_sendto */
    int server_port;       /* packet: port number of the listener; 0 for unix */
    int worker_pid;        /* workerError */
    int wait_status;       /* workerError: raw wait status */
    int exit_code;         /* workerError: 0..255 */
    int signal;            /* workerError: signal that ended it, or 0 */
    int ok;                /* afterReload: 0 = at least one new process failed */
    int64_t task_id;       /* task, finish */
    int source_worker_id;  /* task, pipeMessage: who sent it; -1: master or manager */
    int task_worker_id;    /* finish: process number of the task worker */
    int flags;             /* task, finish, pipeMessage: enum srvlua_task_flag */
};

/* Returns 0, or nonzero if the callback failed with an error that it could not handle; that is counted in stats() and
 * treated as `exit_on_error` says (workerStart: the process ends, and another is started in its place). */
typedef int (*srvlua_callback)(srvlua_server *server, const struct srvlua_event_data *data, void *user_data);

/* Number of an event name, case-insensitive, without "on"; -1 if unknown. */
SRVLUA_API int srvlua_event_from_name(const char *name);
/* Canonical name of an event ("workerStart"). */
SRVLUA_API const char *srvlua_event_name(enum srvlua_event event);
/* 1 if the event is stored per port (connect, receive, packet, close, ...), 0 if per server. */
SRVLUA_API int srvlua_event_is_port_level(enum srvlua_event event);

/* ----------------------------------------------------------------------------------------------------- settings */

enum srvlua_value_type {
    SRVLUA_VALUE_NIL,
    SRVLUA_VALUE_BOOLEAN,
    SRVLUA_VALUE_NUMBER,
    SRVLUA_VALUE_STRING,
    SRVLUA_VALUE_LIST, /* entries without key */
    SRVLUA_VALUE_MAP,  /* entries with key */
    SRVLUA_VALUE_FUNCTION,
    SRVLUA_VALUE_OTHER /* a kind of value that no setting takes; `string` names it */
};

/* A setting's value as the caller has it. Strings need not end with NUL; nothing is kept by reference. */
struct srvlua_value {
    enum srvlua_value_type type;
    int boolean;
    double number;
    const char *string;
    size_t length; /* bytes at string, or entries */
    const struct srvlua_setting *entries;
    const void *function; /* FUNCTION: a C function of the type that the setting names, or bytecode at `string` */
};

struct srvlua_setting {
    const char *name; /* NULL in lists */
    struct srvlua_value value;
};

/* Initialisers of such entries. A list's are SRVLUA_SET_STRING(NULL, ...) and so on; SRVLUA_SET_FUNCTION takes a function of the
 * type that its setting names.
 *     const struct srvlua_setting trusted[] = {SRVLUA_SET_STRING(NULL, "127.0.0.1")};
 *     const struct srvlua_setting settings[] = {SRVLUA_SET_NUMBER("worker_num", 2), SRVLUA_SET_BOOLEAN("open_eof_split", 1),
 *                                               SRVLUA_SET_LIST("proxy_protocol_trusted", trusted, 1)};
 *     srvlua_set(server, settings, sizeof settings / sizeof *settings, &status); */
#define SRVLUA_SET_BOOLEAN(name, is_on) {name, {SRVLUA_VALUE_BOOLEAN, is_on, 0, NULL, 0, NULL, NULL}}
#define SRVLUA_SET_NUMBER(name, number) {name, {SRVLUA_VALUE_NUMBER, 0, number, NULL, 0, NULL, NULL}}
#define SRVLUA_SET_STRING(name, text) {name, {SRVLUA_VALUE_STRING, 0, 0, text, strlen(text), NULL, NULL}}
#define SRVLUA_SET_LIST(name, entries, count) {name, {SRVLUA_VALUE_LIST, 0, 0, NULL, count, entries, NULL}}
#define SRVLUA_SET_FUNCTION(name, function) \
    {name, {SRVLUA_VALUE_FUNCTION, 0, 0, NULL, 0, NULL, SRVLUA_EXTENSION(const void *)(function)}}

/* ---------------------------------------------------------------------------------------------- life of a server */

/* Makes a server and binds its primary port.
 * host: IPv4/IPv6 literal, host name or unix path, at most 107 bytes; port: 0..65535, 0 = the kernel picks;
 * mode: SRVLUA_BASE or SRVLUA_PROCESS; type: enum srvlua_socket_type.
 * Host "SYSTEMD" with port 0 takes all sockets of LISTEN_FDS instead; the first is the primary port.
 * Returns NULL and fills *status on failure; EADDRINUSE is kept and reported by srvlua_start(). Before start. */
SRVLUA_API srvlua_server *srvlua_new(const char *host, int port, int mode, int type, struct srvlua_status *status);
/* Frees a server that is not running, closing its sockets. NULL is fine. */
SRVLUA_API void srvlua_free(srvlua_server *server);

/* Changes settings, all or none. Calls merge. Unknown names are logged with the nearest known one and ignored. Those of ports are the
 * primary port's, and of all ports that srvlua_port_set() was not called for.
 * Before start; else -509. A bad value: -505 with the message `bad setting 'NAME': expected ..., got ...`. */
SRVLUA_API int srvlua_set(srvlua_server *server, const struct srvlua_setting *settings, size_t count,
                          struct srvlua_status *status);
/* Reads the effective value of a setting, e.g. "worker_num", after start() derived it. -505: unknown name. The string
 * belongs to the server. Any process, any time. */
SRVLUA_API int srvlua_get_setting(srvlua_server *server, const char *name, struct srvlua_value *value);
/* The names whose values start() settles, as the number of workers, ended by NULL: Lua's server.setting shows them. */
SRVLUA_API const char *const *srvlua_effective_settings(void);

/* Registers, replaces (or with NULL removes) a callback. Port-level events go to the primary port. Before start. */
SRVLUA_API int srvlua_on(srvlua_server *server, enum srvlua_event event, srvlua_callback callback, void *user_data,
                         struct srvlua_status *status);

/* Adds a listener; *port stays valid as long as the server. Arguments as of srvlua_new(). Before start.
 * Failures: 9004 port range, 9005 too many, 504 host too long, 724 type, errno of bind. */
SRVLUA_API int srvlua_add_listener(srvlua_server *server, const char *host, int port_number, int type, srvlua_port **port,
                                   struct srvlua_status *status);

/* Runs the server. Returns 0 after an orderly shutdown, -code if it could not start or its manager died (9003).
 * Child processes never return from here. */
SRVLUA_API int srvlua_start(srvlua_server *server, struct srvlua_status *status);
/* The checks of srvlua_start() only: settings, callbacks, files. A taken address is no fault here. Before start. */
SRVLUA_API int srvlua_check(srvlua_server *server, struct srvlua_status *status);
/* Says that srvlua_check() is all that will be asked: srvlua_add_listener() does not fail over an address that is taken, perhaps by the
 * server whose new settings are tried. Before start. */
SRVLUA_API int srvlua_set_check_only(srvlua_server *server, struct srvlua_status *status);

/* --------------------------------------------------------------------------------------------------------- ports */

struct srvlua_port_info {
    const char *host; /* as given, or as the kernel says */
    int port;         /* 0 for unix */
    int type;         /* enum srvlua_socket_type without the SSL bit */
    int ssl;          /* 1 with TLS */
    int socket;       /* descriptor of the listener, -1 if not open */
};

/* Number of ports; port 0 is the primary one. */
SRVLUA_API size_t srvlua_port_count(const srvlua_server *server);
SRVLUA_API srvlua_port *srvlua_get_port(const srvlua_server *server, size_t index);
SRVLUA_API void srvlua_port_get_info(const srvlua_port *port, struct srvlua_port_info *info);
/* Port settings. The first call, even with none, ends the inheritance of the primary port's: what is not given here is at its
 * default. Failures as of srvlua_set(). Before start. */
SRVLUA_API int srvlua_port_set(srvlua_port *port, const struct srvlua_setting *settings, size_t count,
                               struct srvlua_status *status);
/* Reads a setting of the port, as srvlua_get_setting(); names of the server's own settings read as there. */
SRVLUA_API int srvlua_port_get_setting(const srvlua_port *port, const char *name, struct srvlua_value *value);
/* Registers, replaces or removes a callback of this port; without one, the primary port's is called. */
SRVLUA_API int srvlua_port_on(srvlua_port *port, enum srvlua_event event, srvlua_callback callback, void *user_data,
                              struct srvlua_status *status);
/* Live connections of one port (BASE: of this process's own). Running. */
SRVLUA_API int64_t srvlua_port_connection_count(srvlua_port *port);

/* ------------------------------------------------------------------------------------------- process and identity */

SRVLUA_API enum srvlua_role srvlua_get_role(const srvlua_server *server);
SRVLUA_API int srvlua_get_mode(const srvlua_server *server);
/* Id of this event or task worker, user processes and all others: -1. */
SRVLUA_API int srvlua_get_worker_id(const srvlua_server *server);
/* Pid of a process by id (-1: this worker). -505 unknown id or not in a worker; -509 before start. */
SRVLUA_API int srvlua_get_worker_pid(srvlua_server *server, int worker_id, struct srvlua_status *status);
/* enum srvlua_worker_status of a worker (-1: this one); -505 unknown. */
SRVLUA_API int srvlua_get_worker_status(srvlua_server *server, int worker_id, struct srvlua_status *status);
SRVLUA_API int srvlua_get_manager_pid(const srvlua_server *server); /* 0: none */
SRVLUA_API int srvlua_get_master_pid(const srvlua_server *server);  /* BASE: pid of worker 0; 0 before start */
/* Code of the last failed call in this process, 0 if none. */
SRVLUA_API int srvlua_last_error(const srvlua_server *server);
/* Remembers a failure that the caller found itself, as if a call here had returned it. Returns -code. */
SRVLUA_API int srvlua_fail(srvlua_server *server, struct srvlua_status *status, int code, const char *format, ...)
    SRVLUA_PRINTF(4, 5);

/* Asks the manager for a graceful restart of all workers, or of the task workers only: new ones start, the old ones finish what they
 * were given, for max_wait_time at most. 0 means asked; one reload at a time, others are dropped. PROCESS: connections stay; BASE: they
 * are closed. -507: there is no manager; -1 (EPERM): the process may not signal it; -509. Any process. */
SRVLUA_API int srvlua_reload(srvlua_server *server, int only_task_workers, struct srvlua_status *status);
/* Stops an event or task worker, -1 = this one; the manager starts another. wait_event: it leaves only when its loop is empty, after
 * its successor has started; else this one leaves after the running callback. -505: no such worker; -509: this process is none. */
SRVLUA_API int srvlua_stop(srvlua_server *server, int worker_id, int wait_event, struct srvlua_status *status);
/* Asks for an orderly shutdown. Any process; asynchronous. */
SRVLUA_API int srvlua_shutdown(srvlua_server *server, struct srvlua_status *status);
/* To be called before a worker ends by exit() in a callback: hands over what send() accepted. No effect elsewhere. */
SRVLUA_API void srvlua_flush(srvlua_server *server);

/* --------------------------------------------------------------------------------------------------- connections */

struct srvlua_client_info {
    int server_port, server_fd, socket_fd, socket_type, remote_port, reactor_id;
    const char *remote_ip; /* points into this struct */
    int64_t connect_time;
    double last_recv_time, last_send_time, last_dispatch_time;
    int close_errno;
    int64_t recv_queued_bytes, send_queued_bytes;
    int has_uid;
    uint32_t uid;
    int worker_id; /* -1 unless dispatch_mode 8 */
    char address[112];      /* holds remote_ip */
    int is_ssl;             /* the port is a TLS one */
    const char *proxy_ip;   /* sender of the PROXY header, NULL: there was none; points into this struct */
    int proxy_port;
    /* Of TLS connections, in the process that their connect event went to, until the end of their close event; else NULL. Valid
     * until the next call of the API. */
    const char *ssl_protocol, *ssl_cipher, *ssl_server_name, *ssl_alpn;
    const char *ssl_client_cert; /* PEM; with ssl_verify_peer it was checked, with ssl_client_cert_file alone it was not */
    int ssl_resumed, ssl_ktls;
};

/* Queues data for a client, all or nothing. 0 = accepted, not received. Any process. -550: no data; -1001: closed by this side, -1002:
 * by the client, -1003: in its close callback, -1004: closed for another reason, -1005: there was none, -1006: fd <= 0; -1202: more
 * than output_buffer_size; -1008: its queue is full (socket_buffer_size): see srvlua_wait_for_output() and the event bufferEmpty. */
SRVLUA_API int srvlua_send(srvlua_server *server, int64_t fd, const void *data, size_t length,
                           struct srvlua_status *status);
/* For callers that can suspend (the setting send_yield): after srvlua_send() returned -1008, asks to be called back once:
 * with code 0 when the connection's queue has fallen to its low watermark or the connection closes (send again, and see), or
 * with 110 when send_timeout is over. Callbacks of one connection come in the order of the calls. The callback returns nonzero
 * for an unhandled error. 0, or -507 where a send must not wait: not this worker's connection, or send_yield is off; that is
 * not remembered for srvlua_last_error(), which still tells of the send. */
typedef int (*srvlua_output_callback)(void *user_data, int code);
SRVLUA_API int srvlua_wait_for_output(srvlua_server *server, int64_t fd, srvlua_output_callback callback, void *user_data,
                                      struct srvlua_status *status);
/* Queues a part of a file; length 0 = to its end. Failures of srvlua_send(), and an errno of open(), -505: range, -702: nothing to
 * send, -9013: no regular file, -9009: this is the master. */
SRVLUA_API int srvlua_sendfile(srvlua_server *server, int64_t fd, const char *path, int64_t offset, int64_t length,
                               struct srvlua_status *status);
/* Sends a datagram from a listening datagram socket (-1: the last added of the family). address: IP text or unix path
 * beginning with '/'; port is ignored for paths. -507: no such listener; -505: server_socket is none of them; -722, -723, -550; errno. */
SRVLUA_API int srvlua_sendto(srvlua_server *server, const char *address, int port, const void *data, size_t length,
                             int server_socket, struct srvlua_status *status);
/* BASE worker, own connection: blocks until the kernel has all bytes. -507 elsewhere; -550, -1005, errno. */
SRVLUA_API int srvlua_sendwait(srvlua_server *server, int64_t fd, const void *data, size_t length,
                               struct srvlua_status *status);
/* Closes a connection after its queue is flushed, or at once with `reset`: the queue is dropped, the peer gets a reset. In the owning
 * worker the close callback runs before this returns; elsewhere 0 means asked. -1003: in its close callback; -1004: closed, or asked
 * for already; -1005, -1006. Any process. */
SRVLUA_API int srvlua_close(srvlua_server *server, int64_t fd, int reset, struct srvlua_status *status);
/* 1 if the connection is live and not closing, else 0. Never fails. */
SRVLUA_API int srvlua_exist(srvlua_server *server, int64_t fd);
/* Stops reading from a client, and goes on; what is on its way already still comes. BASE: own connections. -1005 and its like. */
SRVLUA_API int srvlua_pause(srvlua_server *server, int64_t fd, struct srvlua_status *status);
SRVLUA_API int srvlua_resume(srvlua_server *server, int64_t fd, struct srvlua_status *status);
/* Under enable_delay_receive: begins to read from a client. -509: it is read already. */
SRVLUA_API int srvlua_confirm(srvlua_server *server, int64_t fd, struct srvlua_status *status);
/* 1: heartbeat and max_idle_time do not close the connection; 0: they do again. */
SRVLUA_API int srvlua_protect(srvlua_server *server, int64_t fd, int is_protected, struct srvlua_status *status);
/* Gives a connection a user id, once, -2147483648 to 4294967295 but not 0; with dispatch_mode 5 (uid) it chooses the worker. -505;
 * -509: it has one. */
SRVLUA_API int srvlua_bind(srvlua_server *server, int64_t fd, int64_t uid, struct srvlua_status *status);
/* Ids of connections idle for longer than their port allows, ascending; closes them if asked. *ids is malloc'ed and the
 * caller's. Returns their number, or -507 without heartbeat settings. */
SRVLUA_API int64_t srvlua_heartbeat(srvlua_server *server, int close_them, int64_t **ids, struct srvlua_status *status);
/* What is known of a connection, also in its close callback; ignore_error: of a closed one too, as long as its record is there. BASE:
 * own connections. -1005, or why it is closed. */
SRVLUA_API int srvlua_get_client_info(srvlua_server *server, int64_t fd, int ignore_error, struct srvlua_client_info *info,
                                      struct srvlua_status *status);
/* At most page_size (1..100) ids above start_fd, ascending, into ids. Returns their number. */
SRVLUA_API int srvlua_get_client_list(srvlua_server *server, int64_t start_fd, int64_t page_size, int64_t *ids,
                                      struct srvlua_status *status);
/* Reads the files of a TLS port (NULL: of all of them) again, certificates, keys and CAs, and hands them to every reactor, as SIGHUP
 * does (for which the master reads them; here it is the calling process). New handshakes use them, connections keep theirs, and
 * tickets are good as before. All ports change or none: 0; -errno for a file that cannot be read; -505 for one that is not good, or a
 * port without TLS; -507 there is no TLS port; -509 before start. In any process of a running server. */
SRVLUA_API int srvlua_reload_certificates(srvlua_server *server, const srvlua_port *port, struct srvlua_status *status);
/* All live ids, ascending, of one port or (NULL) of all. *ids is malloc'ed and the caller's. Returns their number. */
SRVLUA_API int64_t srvlua_get_client_ids(srvlua_server *server, const srvlua_port *port, int64_t **ids,
                                         struct srvlua_status *status);

/* ---------------------------------------------------------------------------------------------- tasks and messages
 *
 * Data are bytes; what they mean is the caller's business. SRVLUA_TASK_SERIALIZE travels along: a language binding marks with
 * it what it has to decode. Any length. Ids are unique in the process that sent the task; with its process number, in the server. */

enum srvlua_task_flag {
    SRVLUA_TASK_TMPFILE = 1,   /* the data lie in a file (message queues only) */
    SRVLUA_TASK_SERIALIZE = 2,
    SRVLUA_TASK_NONBLOCK = 4,  /* asked for without waiting for the result */
    SRVLUA_TASK_CALLBACK = 8,  /* results go to a callback of their own, not to the finish event */
    SRVLUA_TASK_WAITALL = 16,  /* for the binding: of taskWaitMulti */
    SRVLUA_TASK_COROUTINE = 32, /* for the binding: a coroutine waits */
    SRVLUA_TASK_PEEK = 64,
    SRVLUA_TASK_NOREPLY = 128  /* one-way: from master, manager, user process */
};

struct srvlua_task_result {
    int code; /* 0; or 2003: nothing came in time */
    int64_t task_id;
    int task_worker_id;   /* process number */
    double dispatch_time; /* when the result was sent, seconds since the epoch */
    int flags;
    const void *data; /* valid during the call only */
    size_t length;
};
/* Returns 0, or nonzero for an unhandled error (as srvlua_callback). */
typedef int (*srvlua_task_callback)(srvlua_server *server, const struct srvlua_task_result *result, void *user_data);

struct srvlua_task_options {
    int dst;     /* task worker 0..task_worker_num-1; negative: whoever is idle first */
    int flags;   /* SERIALIZE, and what the caller wants to travel along; NONBLOCK etc. are set by srvlua_task() */
    int may_wait; /* 1: waits for room in the calling thread; 0: -11 where it would wait */
    srvlua_task_callback callback; /* called once, with the first result; NULL: the finish event */
    void *user_data;
    double timeout; /* seconds until the callback gets code 2003; <= 0: never */
};

/* Gives a task to a task worker. Returns its id. -507: no task workers; -509: this process may not; -505: dst;
 * -2002: could not be delivered; -11: see may_wait. Event worker; master, manager and user processes one-way, without callback. */
SRVLUA_API int64_t srvlua_task(srvlua_server *server, const void *data, size_t length, const struct srvlua_task_options *options,
                               struct srvlua_status *status);
/* After -11: asks to be called back once, with code 0, when it is worth trying again (never, if the process ends before). Event
 * worker. */
SRVLUA_API int srvlua_wait_for_task_room(srvlua_server *server, int dst, srvlua_output_callback callback, void *user_data,
                                         struct srvlua_status *status);
/* Nobody waits for that task's result any more: its callback is not called, the result is logged as expired. Event worker. */
SRVLUA_API void srvlua_task_forget(srvlua_server *server, int64_t task_id);
/* Takes in what comes for this process, results of tasks at once and all else after the running callback, until is_done() says so
 * or `timeout` seconds (<= 0: no limit) are over. 0, -110, or -9003 when the process was told to leave at once. Event worker. */
SRVLUA_API int srvlua_wait_until(srvlua_server *server, int (*is_done)(void *user_data), void *user_data, double timeout,
                                 struct srvlua_status *status);

/* A task that runs, as the task callback knows it: copied from its event data. */
struct srvlua_task_origin {
    int64_t task_id;
    int source_worker_id;
    int flags;
    uint64_t source; /* which process, and which life of it */
};
/* The task of the running callback. -509: none runs here. Task worker, in the task callback (not later). */
SRVLUA_API int srvlua_get_task_origin(srvlua_server *server, struct srvlua_task_origin *origin, struct srvlua_status *status);
/* Sends a result to the worker that gave the task. flags: SERIALIZE. -507: one-way; -9014: no room for 10 s; -509. Task worker. */
SRVLUA_API int srvlua_task_finish(srvlua_server *server, const struct srvlua_task_origin *origin, const void *data, size_t length,
                                  int flags, struct srvlua_status *status);

/* A task in the form in which it waits in a message queue (task_ipc_mode 2, 3), for programs that put tasks there themselves, as
 * messages of type 1 + number of the task worker (3: of any type). Nobody gets its result. flags: SERIALIZE. *length becomes the
 * form's; the caller frees it. NULL: no memory. Data of more than about 8 KiB are too long for a queue. Any process, any time. */
SRVLUA_API void *srvlua_task_pack(const void *data, size_t *length, int flags);
/* The data of such a form, which they point into. 0, or -1204: it is none, or it is damaged. */
SRVLUA_API int srvlua_task_unpack(const void *packed, size_t packed_length, const void **data, size_t *length, int *flags);

/* Sends a message to an event or task worker, where it fires pipeMessage; flags: SERIALIZE. -505: no such worker, or this one; -9006: too
 * much waits already (message_stash_size); -9015: there is no pipeMessage callback; -509. Any running process. */
SRVLUA_API int srvlua_send_message(srvlua_server *server, int worker_id, const void *data, size_t length, int flags,
                                   struct srvlua_status *status);

/* --------------------------------------------------------------------------------------------------- user processes */

/* What a user process runs; returns its exit status. The loop of the process is srvlua_get_loop(); it turns only inside
 * srvlua_loop_turn(). Signals of the server have their default reactions there (SIGTERM ends it), unless srvlua_signal() or the host
 * itself handles them there. */
typedef int (*srvlua_process_main)(srvlua_server *server, int process_id, void *user_data);
/* Adds a user process: the manager starts it, and again whatever its end; reloads pass it by. Returns its position among them. Before start; else -509. */
SRVLUA_API int srvlua_add_process(srvlua_server *server, srvlua_process_main main, void *user_data, struct srvlua_status *status);
/* Process number of the calling process, user processes included; -1: master, manager, no server. */
SRVLUA_API int srvlua_get_process_id(const srvlua_server *server);
/* To be called first in a child that a process of the running server has forked itself: gives up the copies of what that process
 * has (loop, clients' sockets, listeners), and signals of the server have their default reactions. The child is none of the server's
 * processes: role AFTER. Not for children of the master, which has threads. */
SRVLUA_API void srvlua_forked(srvlua_server *server);

/* --------------------------------------------------------------------------------------------------------- commands */

enum srvlua_command_type {
    SRVLUA_COMMAND_MASTER = 2,
    SRVLUA_COMMAND_REACTOR_THREAD = 4,
    SRVLUA_COMMAND_EVENT_WORKER = 8,
    SRVLUA_COMMAND_TASK_WORKER = 16,
    SRVLUA_COMMAND_MANAGER = 32
};
struct srvlua_command_request {
    const char *name;
    const void *data;
    size_t length;
    int flags; /* SRVLUA_TASK_SERIALIZE */
};
/* Answers a request: calls srvlua_command_reply() once, before it returns. runs in: the process that is asked. */
typedef void (*srvlua_command_handler)(srvlua_server *server, const struct srvlua_command_request *request, void *user_data);
/* Before start. -505: name taken, types 0 or unknown; -507: REACTOR_THREAD; -509. */
SRVLUA_API int srvlua_add_command(srvlua_server *server, const char *name, int types, srvlua_command_handler handler, void *user_data,
                                  struct srvlua_status *status);
/* In a handler: the answer. */
SRVLUA_API void srvlua_command_reply(srvlua_server *server, const void *data, size_t length);
/* code 0 and the answer, or 9003: the process that was asked is gone. Returns 0, or nonzero for an unhandled error. */
typedef int (*srvlua_command_callback)(srvlua_server *server, int code, const void *data, size_t length, void *user_data);
/* Asks a process. process_type: one enum srvlua_command_type; process_id: worker, or index of a task worker; no matter for master and
 * manager. The callback comes later, or before this returns. 0; -9012: no such command; -507: it is not for that type; -505: no such
 * process; -1202: more data than the manager takes (8 KiB); -509. Master (PROCESS), worker 0 (BASE). */
SRVLUA_API int srvlua_command(srvlua_server *server, const struct srvlua_command_request *request, int64_t process_id, int process_type,
                              srvlua_command_callback callback, void *user_data, struct srvlua_status *status);

/* ------------------------------------------------------------------------------- functions that run in reactors */

/* What a dispatcher is asked for. */
enum srvlua_dispatch_type {
    SRVLUA_DISPATCH_DATA = 0,
    SRVLUA_DISPATCH_PACKET = 1,
    SRVLUA_DISPATCH_CLOSE = 4,
    SRVLUA_DISPATCH_CONNECT = 5,
    SRVLUA_DISPATCH_BUFFER_FULL = 13,
    SRVLUA_DISPATCH_BUFFER_EMPTY = 14
};

/* What it answers: an event worker 0..worker_num-1, or one of these. Anything else is no worker: the event is dropped with a
 * warning, at most once a second. */
enum srvlua_dispatch_result {
    SRVLUA_DISCARD_PACKET = -1,    /* the event is dropped, its callback does not run; the connection itself is untouched */
    SRVLUA_CLOSE_CONNECTION = -2,  /* dropped, and the connection is closed, with its close event */
    SRVLUA_USERFUNC_FALLBACK = -3, /* dispatch_mode decides */
    SRVLUA_DISPATCH_FAILED = -1000 /* an error, told in *status: logged at most once a second, and dispatch_mode decides */
};

struct srvlua_dispatch_event {
    int type;         /* enum srvlua_dispatch_type */
    int64_t fd;       /* session id; PACKET: IPv4 address as a number whose lowest byte is the first, others CRC-32 of the text */
    const void *data; /* DATA, PACKET; valid during the call only */
    size_t length;
};

/* Picks the worker of an event. Runs in the reactor's thread, in all reactors at the same time, and holds
 * up every connection of its reactor: more than 10 ms is warned of. Of srvlua.h it may call srvlua_reactor_* and what has no
 * server argument. An answer that is no worker may be described in status->message, which is empty at the call. */
typedef int32_t (*srvlua_dispatch_function)(srvlua_reactor *reactor, void *context, const struct srvlua_dispatch_event *event,
                                            struct srvlua_status *status);

/* Who picks workers: a context for each reactor, and the function that is called with it. */
struct srvlua_dispatcher {
    /* Makes the context of one reactor; runs inside srvlua_start(), before anything is forked. 0, or -code with *status
     * filled, and srvlua_start() fails. NULL: no context is needed. */
    int (*make)(srvlua_reactor *reactor, void *user_data, void **context, struct srvlua_status *status);
    srvlua_dispatch_function call;
    /* Called by srvlua_start() when the reactors have ended, not in child processes. May be NULL. */
    void (*free)(void *context);
    void *user_data;
};

/* Names the dispatcher, NULL: none. Before start; no effect in BASE mode. A plain function can be given as the setting
 * `dispatch_func` instead (SRVLUA_VALUE_FUNCTION, a srvlua_dispatch_function; its context is NULL) and goes before a dispatcher;
 * bytecode in that setting is for a dispatcher that runs it, and without one srvlua_start() fails. */
SRVLUA_API int srvlua_set_dispatcher(srvlua_server *server, const struct srvlua_dispatcher *dispatcher,
                                     struct srvlua_status *status);

/* How long a packet is: `length` >= 1 bytes of it have come, of which at most 64 KiB are shown.
 * > 0: the length of the whole packet; 0: more bytes are needed; < 0: it is none, and the connection ends. What is wrong may be said in
 * status->message, which is empty at the call. Where it runs, and what it may call: as srvlua_dispatch_function; in BASE mode it runs
 * in the workers. */
typedef int64_t (*srvlua_length_function)(srvlua_reactor *reactor, void *context, const void *data, size_t length,
                                          struct srvlua_status *status);

/* Who measures the packets of a port: a context for each reactor, and the function that is called with it. */
struct srvlua_measurer {
    /* As in struct srvlua_dispatcher. BASE: runs in srvlua_start() too, once per worker. */
    int (*make)(srvlua_reactor *reactor, void *user_data, void **context, struct srvlua_status *status);
    srvlua_length_function call;
    void (*free)(void *context);
    void *user_data;
};

/* Names the measurer of a port, NULL: none. Before start. Used where the port's settings have open_length_check on. A plain function
 * can be given as the setting `package_length_func` instead (SRVLUA_SET_FUNCTION, a srvlua_length_function; its context is NULL) and
 * goes before a measurer; bytecode in that setting is for a measurer that runs it, and without one srvlua_start() fails. A port that
 * inherits the primary's settings inherits its measurer. */
SRVLUA_API int srvlua_port_set_measurer(srvlua_port *port, const struct srvlua_measurer *measurer, struct srvlua_status *status);

/* The rest is for the calls of one reactor: in its thread (BASE: worker), and in `make`. */
SRVLUA_API srvlua_server *srvlua_reactor_server(const srvlua_reactor *reactor);
SRVLUA_API int srvlua_reactor_id(const srvlua_reactor *reactor); /* BASE: worker id */
/* As srvlua_get_client_info(), but a failure is not remembered for srvlua_last_error(). -509 in `make`. */
SRVLUA_API int srvlua_reactor_client_info(srvlua_reactor *reactor, int64_t fd, int ignore_error,
                                          struct srvlua_client_info *info, struct srvlua_status *status);
/* As srvlua_exist(). */
SRVLUA_API int srvlua_reactor_exist(srvlua_reactor *reactor, int64_t fd);
/* As srvlua_log(). */
SRVLUA_API void srvlua_reactor_log(srvlua_reactor *reactor, enum srvlua_log_level level, const char *format, ...)
    SRVLUA_PRINTF(3, 4);

/* ---------------------------------------------------------------------------------------------- statistics, log */

struct srvlua_stat {
    const char *name;
    int64_t value;
};

/* Fills up to `max` counters, named and meant as srvlua.Stats in lua/srvlua/meta/Server.lua says; returns their number, or -509 when
 * not running. 64 are enough. */
SRVLUA_API int srvlua_stats(srvlua_server *server, struct srvlua_stat *stats, size_t max, struct srvlua_status *status);
/* Id of the timer that writes stats_file in this process, 0 if none. */
SRVLUA_API int64_t srvlua_stats_timer(const srvlua_server *server);
/* Keeps the number of live coroutines of this process (a language binding reports each change). */
SRVLUA_API void srvlua_count_coroutines(srvlua_server *server, int change);
/* A callback suspends (a language binding's coroutine): its request, or task, is not done when the callback returns. Notes it, so
 * that it can be named if the process dies. Returns a token for srvlua_end_request(), -1 if there is nothing to note. Workers. */
SRVLUA_API int srvlua_suspend_request(srvlua_server *server);
SRVLUA_API void srvlua_end_request(srvlua_server *server, int token);
/* Reports an error that no callback return value could carry (a resumed coroutine): counted, exit_on_error applies. */
SRVLUA_API void srvlua_callback_failed(srvlua_server *server);
/* For language bindings: names the function that writes which code of the program is running, for reports of callbacks that do
 * not end (hang_warning) and of crashes; NULL: none. It is called in a signal handler, at any instruction of a worker, so it only
 * reads and writes `text`: lines "\tfile:line: in function ...", at most `size` bytes, and returns their length. `text` is shared
 * memory, all zero; `interrupted` is the ucontext_t of what runs. What it reads may be changing just then: a fault in it is caught,
 * and it is called again. Any time; for this process and those forked later.
 *
 * A worker with a manager uses signal SIGRTMIN+1 for that and handles SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT: it reports them,
 * then what the host had installed for them, or the default, takes its course. The host's own process is left as it is. */
typedef size_t (*srvlua_stack_writer)(void *user_data, char *text, size_t size, const void *interrupted);
SRVLUA_API void srvlua_set_stack_writer(srvlua_server *server, srvlua_stack_writer writer, void *user_data);
/* A better text than the writer could give at the last call, found where the stack can be read at leisure. Not in signal
 * handlers. No effect if nobody has asked. */
SRVLUA_API void srvlua_improve_stack(srvlua_server *server, const char *text, size_t length);
/* One line through the server's log; NULL: to stderr, as a server's without settings. Any process, any time. Text longer than about
 * 64 KiB is cut. */
SRVLUA_API void srvlua_log(srvlua_server *server, enum srvlua_log_level level, const char *format, ...) SRVLUA_PRINTF(3, 4);

/* Names the calling process: as far as the area of its arguments allows (at most 127 bytes), and 15 bytes in `comm`.
 * 0, or -errno. Any process, any time. */
SRVLUA_API int srvlua_set_process_name(const char *name);

/* ----------------------------------------------------------------------------------------------- loop and timers */

/* The event loop of the calling process, NULL where there is none (before start, after it, in a process without one). */
SRVLUA_API srvlua_loop *srvlua_get_loop(srvlua_server *server);

/* Returns 0, or nonzero for an unhandled error (as srvlua_callback). */
typedef int (*srvlua_timer_callback)(srvlua_loop *loop, int64_t timer_id, void *user_data);

struct srvlua_timer_info {
    int64_t exec_msec;  /* due time relative to the start of the process's timers */
    int64_t exec_count; /* how often it fired */
    int64_t interval;   /* milliseconds; 0 = fires once */
    int64_t round;
    int removed;
};

/* Adds a timer that fires after `ms` >= 1 milliseconds, once or (repeat) again and again, keeping its phase.
 * `release` (may be NULL) is called with user_data when the timer is gone for good, also when the loop ends.
 * Returns its id (1, 2, 3 ... per process) or -code: 505 for ms < 1. */
SRVLUA_API int64_t srvlua_timer_add(srvlua_loop *loop, int64_t ms, int repeat, srvlua_timer_callback callback,
                                    void *user_data, void (*release)(void *user_data));
/* The same for what the program does not know of: the timer keeps no process from leaving, is in no list and not cleared with all. */
SRVLUA_API int64_t srvlua_timer_add_background(srvlua_loop *loop, int64_t ms, int repeat, srvlua_timer_callback callback,
                                               void *user_data, void (*release)(void *user_data));
/* 0, or -505: unknown or finished. Legal inside the timer's own callback. */
SRVLUA_API int srvlua_timer_clear(srvlua_loop *loop, int64_t timer_id);
/* Clears all timers made by srvlua_timer_add; returns -505 if there never was one. */
SRVLUA_API int srvlua_timer_clear_all(srvlua_loop *loop);
/* 1 and *info (may be NULL) if the timer is there, else 0. */
SRVLUA_API int srvlua_timer_get_info(srvlua_loop *loop, int64_t timer_id, struct srvlua_timer_info *info);
/* Ids of live timers, ascending: fills up to max, returns how many there are. */
SRVLUA_API size_t srvlua_timer_list(srvlua_loop *loop, int64_t *ids, size_t max);
struct srvlua_timer_stats {
    int initialized;
    int64_t num, round;
};
SRVLUA_API void srvlua_timer_get_stats(srvlua_loop *loop, struct srvlua_timer_stats *stats);

/* Runs callback(loop, 0, user_data) once, at the end of the current loop turn, in the order of the calls. */
SRVLUA_API int srvlua_defer(srvlua_loop *loop, srvlua_timer_callback callback, void *user_data);
/* The same before and after what is deferred; what is called so there comes in further passes of the same turn, up to 16 of them. */
SRVLUA_API int srvlua_call_soon(srvlua_loop *loop, srvlua_timer_callback callback, void *user_data);

/* Runs callback(loop, 0, user_data) in every turn: at its end, after what was deferred, or at_begin: before what the loop woke up
 * for. NULL: no longer; -505 if there was none. It does not make the loop turn. */
SRVLUA_API int srvlua_loop_set_cycle(srvlua_loop *loop, int at_begin, srvlua_timer_callback callback, void *user_data);

/* A loop without a server, for scripts and child processes. NULL: no memory. */
SRVLUA_API srvlua_loop *srvlua_loop_new(void);
/* Ends it; the release functions of its timers run, its watches stay to be freed. In a forked child: only gives up the copy.
 * Not inside its callbacks, unless they do not return. NULL is fine. */
SRVLUA_API void srvlua_loop_free(srvlua_loop *loop);
/* To be called first in a forked child that goes on with the loop of its parent, which is gone. */
SRVLUA_API void srvlua_loop_forked(srvlua_loop *loop);
/* Turns the loop once: waits for what comes next, at most timeout_ms (negative: as long as it takes). Not inside its callbacks. */
SRVLUA_API void srvlua_loop_turn(srvlua_loop *loop, int timeout_ms);
/* How often it has turned. */
SRVLUA_API int64_t srvlua_loop_turns(const srvlua_loop *loop);
/* Things that keep a process from leaving: users' timers, watches that are not in the background, deferred functions. */
SRVLUA_API size_t srvlua_loop_pending(const srvlua_loop *loop);

/* --- descriptors */

enum srvlua_readiness { SRVLUA_READABLE = 1, SRVLUA_WRITABLE = 2 };
typedef struct srvlua_watch srvlua_watch;
/* `events`: what the descriptor is ready for, both at an error or hang-up. Returns 0, or nonzero for an unhandled error. */
typedef int (*srvlua_watch_callback)(srvlua_loop *loop, int fd, int events, void *user_data);
/* Watches a descriptor, which stays the caller's, for a set of events (0: none yet). NULL: no memory, or *status. A descriptor
 * may be watched twice. */
SRVLUA_API srvlua_watch *srvlua_watch_new(srvlua_loop *loop, int fd, int events, srvlua_watch_callback callback, void *user_data,
                                          struct srvlua_status *status);
/* Changes the set. Legal in its callback. */
SRVLUA_API void srvlua_watch_set(srvlua_watch *watch, int events);
/* The set; -1: its loop has ended. */
SRVLUA_API int srvlua_watch_get(const srvlua_watch *watch);
/* 1: it keeps no process from leaving. */
SRVLUA_API void srvlua_watch_set_background(srvlua_watch *watch, int is_background);
/* Ends it; before the descriptor is closed. Legal in its callback, which is not called again; NULL is fine. */
SRVLUA_API void srvlua_watch_free(srvlua_watch *watch);

/* --- signals */

/* Runs from the loop. Returns 0, or nonzero for an unhandled error. */
typedef int (*srvlua_signal_callback)(srvlua_loop *loop, int signo, void *user_data);
/* Handles a signal in the calling process, or (callback NULL) gives it back its default reaction. -509: the signal is the server's
 * own in this process (the list is at the head of this file; in user processes none is), or no handler may be set; -505: nothing to remove, no signal. */
SRVLUA_API int srvlua_signal(srvlua_loop *loop, int signo, srvlua_signal_callback callback, void *user_data, struct srvlua_status *status);

/* --------------------------------------------------------------------------------- shared memory for applications
 *
 * Rows, numbers and locks that are shared by all processes forked after they were made: make them before srvlua_start().
 * They need no server and none of them is told to srvlua_last_error(). Each has a mapping of its own, which lives as long as
 * one process has it; srvlua_*_free() gives up the view of the calling process, NULL is fine.
 *
 * Any process and thread may use them at any time, but not from signal handlers, and a reactor's functions must not wait. Any process
 * may die at any instruction (kill -9): what it was changing is then as before or as after the change, and nothing stays
 * locked. Deaths are noticed by pid and start time; where /proc cannot be read (chroot), by the pid alone. */

/* --- rows by key. No operation suspends; in the common case none makes a system call. */

enum srvlua_column_type { SRVLUA_COLUMN_INT = 1, SRVLUA_COLUMN_FLOAT = 2, SRVLUA_COLUMN_STRING = 3 };

#define SRVLUA_KEY_MAX 63                /* bytes of a key, any bytes */
#define SRVLUA_COLUMN_SIZE_MAX (1 << 24) /* bytes of a string */

struct srvlua_column {
    const char *name; /* belongs to the table */
    enum srvlua_column_type type;
    size_t size; /* most bytes, of strings */
};

/* A value of a column: the member of its type is set. */
struct srvlua_cell {
    int column; /* number of the column, from 0 on */
    int64_t integer;
    double number;
    const char *string; /* any bytes */
    size_t length;
};

/* A table for at least `size` rows, 1..2^31-1, whatever their keys. NULL: -505 size, -501 memory. */
SRVLUA_API srvlua_table *srvlua_table_new(int64_t size, struct srvlua_status *status);
SRVLUA_API void srvlua_table_free(srvlua_table *table);
/* Adds a column and returns its number. size: most bytes of a string, 1..SRVLUA_COLUMN_SIZE_MAX; no matter for others.
 * -505: name empty or there already, unknown type, bad size; -509: after create. */
SRVLUA_API int srvlua_table_add_column(srvlua_table *table, const char *name, enum srvlua_column_type type,
                                       int64_t size, struct srvlua_status *status);
/* Maps the memory, which is touched as it is used. 0; -505: no column; -509: a second time; -501: no memory. What
 * follows fails with -509, or answers as an empty table, until then. */
SRVLUA_API int srvlua_table_create(srvlua_table *table, struct srvlua_status *status);

SRVLUA_API int srvlua_table_column_count(const srvlua_table *table);
/* 0, or -505: no such column. */
SRVLUA_API int srvlua_table_get_column(const srvlua_table *table, int column, struct srvlua_column *info);
/* Number of a column by its name, or -505. */
SRVLUA_API int srvlua_table_find_column(const srvlua_table *table, const char *name);
SRVLUA_API int64_t srvlua_table_size(const srvlua_table *table);
/* Bytes mapped, 0 before create. */
SRVLUA_API size_t srvlua_table_memory_size(const srvlua_table *table);

/* Makes the key's row (columns that are not named: 0, 0.0, "") or changes the named columns, all at once for every
 * reader. A column named twice has the last value. 0; -504: key empty or too long; -505: no such column, or a string
 * longer than its column; -501: no room for a new row; -509. */
SRVLUA_API int srvlua_table_set(srvlua_table *table, const void *key, size_t key_length,
                                const struct srvlua_cell *cells, size_t count, struct srvlua_status *status);
/* Bytes that a copy of a row takes. */
SRVLUA_API size_t srvlua_table_row_size(const srvlua_table *table);
/* Copies a row as it was at one instant to `row`, memory of srvlua_table_row_size() bytes that is aligned as malloc()
 * aligns; srvlua_table_read() reads it. 1; 0: no such row; -504; -509. */
SRVLUA_API int srvlua_table_get(srvlua_table *table, const void *key, size_t key_length, void *row,
                                struct srvlua_status *status);
/* The same for one column only; `row` as above. */
SRVLUA_API int srvlua_table_get_cell(srvlua_table *table, const void *key, size_t key_length, void *row,
                                     struct srvlua_cell *cell, struct srvlua_status *status);
/* Reads cell->column of a copy. A string points into the copy. */
SRVLUA_API void srvlua_table_read(const srvlua_table *table, const void *row, struct srvlua_cell *cell);
/* Adds cell->integer (wrapping at 64 bits) or cell->number to a column, in a new row if need be; the cell becomes the
 * sum. Failures as srvlua_table_set(); -505 also for a string column. */
SRVLUA_API int srvlua_table_incr(srvlua_table *table, const void *key, size_t key_length, struct srvlua_cell *cell,
                                 struct srvlua_status *status);
/* 1; 0: no such row; -504; -509. */
SRVLUA_API int srvlua_table_exist(srvlua_table *table, const void *key, size_t key_length,
                                  struct srvlua_status *status);
SRVLUA_API int srvlua_table_del(srvlua_table *table, const void *key, size_t key_length, struct srvlua_status *status);
/* Rows now. */
SRVLUA_API int64_t srvlua_table_count(srvlua_table *table);
/* Removes all rows that there are when it comes to them; returns their number. */
SRVLUA_API int64_t srvlua_table_clear(srvlua_table *table);

/* A walk over all rows, in no order. Rows that are there all the time come once, others at most once (a row that was
 * deleted and made again is another). Anything may be done to the table meanwhile. A walk holds nothing: it need not be
 * ended. */
struct srvlua_table_walk {
    uint64_t epoch, place;
};
SRVLUA_API void srvlua_table_walk_begin(srvlua_table *table, struct srvlua_table_walk *walk);
/* The next row, copied, and its key, which ends with a NUL. 1, or 0 at the end. */
SRVLUA_API int srvlua_table_walk_next(srvlua_table *table, struct srvlua_table_walk *walk, char key[SRVLUA_KEY_MAX + 1],
                                      size_t *key_length, void *row);

struct srvlua_table_stats {
    int64_t num, size;
    int64_t available_slice_num; /* rows that surely fit yet */
    int64_t conflict_count;      /* rows that were made where others were in the same bucket */
    int64_t conflict_max_level;  /* most of those */
    int64_t insert_count, update_count, delete_count;
};
SRVLUA_API void srvlua_table_get_stats(srvlua_table *table, struct srvlua_table_stats *stats);

/* --- numbers. All operations are sequentially consistent. */

/* is_long: signed 64 bits; else unsigned 32 bits, of which values are 0..2^32-1 and wrap. NULL: -505 value, -501
 * memory. */
SRVLUA_API srvlua_atomic *srvlua_atomic_new(int is_long, int64_t value, struct srvlua_status *status);
SRVLUA_API void srvlua_atomic_free(srvlua_atomic *atomic);
SRVLUA_API int64_t srvlua_atomic_get(const srvlua_atomic *atomic);
SRVLUA_API void srvlua_atomic_set(srvlua_atomic *atomic, int64_t value);
/* Adds and returns the new value. */
SRVLUA_API int64_t srvlua_atomic_add(srvlua_atomic *atomic, int64_t change);
/* 1 if it was `expected` and is `value` now, else 0. */
SRVLUA_API int srvlua_atomic_cmpset(srvlua_atomic *atomic, int64_t expected, int64_t value);
/* Takes a 1 (makes it 0): waits for one up to so many seconds (negative: for ever; 0: looks only). 0; -110; -507: a
 * long. Blocks the thread. */
SRVLUA_API int srvlua_atomic_wait(srvlua_atomic *atomic, double timeout);
/* Makes a 0 a 1 and wakes up to `count` waiters, of which one takes it; nothing at other values. 0; -507: a long. */
SRVLUA_API int srvlua_atomic_wakeup(srvlua_atomic *atomic, int count);

/* --- locks. Their owner is the process, so any of its threads may unlock. */

enum srvlua_lock_type { SRVLUA_RWLOCK = 1, SRVLUA_MUTEX = 3, SRVLUA_SPINLOCK = 5 };

/* NULL: -505 type, -501 memory. */
SRVLUA_API srvlua_lock *srvlua_lock_new(int type, struct srvlua_status *status);
SRVLUA_API void srvlua_lock_free(srvlua_lock *lock);
SRVLUA_API int srvlua_lock_get_type(const srvlua_lock *lock);
/* Locks it, waiting up to so many seconds (negative: for ever). `shared`: with other readers, RWLOCK only. Blocks the
 * thread. 0; 1: its holder died and left behind what it was doing; -110; -35: this process holds it; -505: no RWLOCK;
 * -11: too many processes (1024) use this RWLOCK. */
SRVLUA_API int srvlua_lock_lock(srvlua_lock *lock, int shared, double timeout);
/* The same without waiting: -16 where it would wait or fail with -35. */
SRVLUA_API int srvlua_lock_trylock(srvlua_lock *lock, int shared);
/* For who waits by trying again and again instead of blocking: srvlua_lock_trylock() that rarely looks whether the
 * holder lives, which costs system calls; and +1, at the end -1, for a waiting writer, whom new readers let pass. */
SRVLUA_API int srvlua_lock_poll(srvlua_lock *lock, int shared);
SRVLUA_API void srvlua_lock_announce_writer(srvlua_lock *lock, int change);
/* 0, or -1: not held by this process. */
SRVLUA_API int srvlua_lock_unlock(srvlua_lock *lock);

#ifdef __cplusplus
}
#endif
#endif
