/* settings.h: what server:set{...} and port:set{...} know, as typed values.
 *
 * settings_table.c is the only list of settings (name, aliases, type, range, default, scope, doc line); parsing,
 * checking, the nearest-name hint, docs/settings.md and the LuaLS definitions come from it. Field names here equal
 * setting names.
 * Types: bool -> bool, int, enum, ms, size -> int64_t (ms in milliseconds, size in bytes), sec -> double seconds,
 * string and path -> char * owned by the struct (NULL = not given, so the default; paths are absolute).
 *
 * A field holds what was given or its default. Defaults that follow from the machine or from other settings are marked
 * "derived": they are settled by sv_settings_finish(), sv_settings_derive_heartbeat() and sv_port_settings_finish(),
 * which run once, in start(); so the order of set calls never matters.
 *
 * Settings that nothing uses have a row in the table but no field here: the row checks type and range, and refuses what
 * would need something that is not built.
 *
 * runs in: the process that builds the server, before start(); read-only afterwards (forked copies). */
#ifndef SV_SERVER_SETTINGS_H
#define SV_SERVER_SETTINGS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/log.h"
#include "net/tls.h"
#include "srvlua.h"

#define SV_DERIVE (-1) /* not given, and the default follows from something else */

enum sv_dispatch_mode { /* settings.md 3.1 */
                        SV_DISPATCH_ROUND = 1,
                        SV_DISPATCH_FD = 2,
                        SV_DISPATCH_IDLE = 3,
                        SV_DISPATCH_IP = 4,
                        SV_DISPATCH_UID = 5,
                        SV_DISPATCH_STREAM = 7,
                        SV_DISPATCH_CO_CONN = 8,
                        SV_DISPATCH_CO_REQ = 9,
                        SV_DISPATCH_CONCURRENT = 10,
                        SV_DISPATCH_LEAST_LATENCY = 11
};

enum sv_lost_request { SV_LOST_KEEP, SV_LOST_CLOSE, SV_LOST_REDELIVER };

enum sv_log_format { SV_LOG_TEXT, SV_LOG_JSON };

struct sv_string_list {
    char **items;
    size_t count;
};

struct sv_int_list {
    int64_t *items;
    size_t count;
};

/* Certificates by server name. */
struct sv_named_certificate {
    char *name, *cert_file, *key_file, *passphrase; /* NULL: not given */
};

struct sv_certificate_map {
    struct sv_named_certificate *items;
    size_t count;
};

/* A string that may hold any byte; NULL = not given. */
struct sv_bytes {
    char *bytes;
    size_t length;
};

/* A function that runs in the reactor (settings.md 3.3): a C function, or the bytecode of a Lua function. */
struct sv_setting_function {
    const void *function;
    char *bytecode;
    size_t length;
};

/* Which rows of the table were given by name, one bit each. */
struct sv_settings_given {
    uint64_t bits[4];
};

/* Scope S: the server. Numbers are sections of settings.md. */
struct sv_server_settings {
    /* 1.1 processes and threads */
    int64_t reactor_num;     /* derived; BASE: worker_num */
    int64_t worker_num;      /* derived */
    int64_t task_worker_num;
    bool single_thread;
    bool open_cpu_affinity;
    struct sv_int_list cpu_affinity_ignore;

    /* 1.2 dispatch */
    int64_t dispatch_mode; /* enum sv_dispatch_mode */
    struct sv_setting_function dispatch_func;
    bool discard_timeout_request;
    bool enable_unsafe_event;
    bool enable_delay_receive;
    bool enable_reuse_port;
    int64_t start_session_id;

    /* 1.3 connections */
    int64_t max_connection;          /* derived, >= 1 then */
    double heartbeat_check_interval; /* derived from the ports' idle times; 0 = no checking */

    /* 1.4 buffers */
    int64_t output_buffer_size;
    bool send_yield; /* derived */
    double send_timeout;
    int64_t max_queued_bytes;

    /* 1.5 tasks and messages, and the forms of callbacks */
    int64_t task_ipc_mode; /* enum sv_task_way */
    int64_t message_queue_key;
    char *task_tmpdir;
    int64_t task_max_request;
    int64_t task_max_request_grace; /* derived */
    bool task_enable_coroutine;     /* derived: needs enable_coroutine */
    bool task_object;               /* derived: event_object implies it */
    bool event_object;

    /* 1.6 life cycle */
    int64_t max_request;
    int64_t max_request_grace; /* derived */
    bool reload_async;         /* forced by enable_coroutine */
    double max_wait_time;

    /* 1.7 coroutines */
    bool enable_coroutine;
    int64_t max_coroutine; /* derived, >= 1 then */
    bool enable_deadlock_check;
    double socket_connect_timeout, socket_read_timeout, socket_write_timeout, socket_timeout; /* 0 = no limit */
    double socket_dns_timeout, dns_cache_expire; /* 0 = no limit, no cache */
    char *dns_server;
    int64_t dns_cache_capacity;

    /* 1.8 log, daemon, user; 2.4 log_format. What concerns the sink was applied to it by sv_settings_apply(). */
    char *log_file;
    int64_t log_level; /* enum srvlua_log_level; debug_mode not counted in */
    char *log_date_format;
    bool log_date_with_microseconds;
    int64_t log_rotation; /* enum sv_log_rotation */
    int64_t log_format;   /* enum sv_log_format */
    bool display_errors;
    bool daemonize;
    char *pid_file;
    char *user, *group, *chroot;

    /* 1.15 statistics, tracing */
    char *stats_file;
    int64_t stats_timer_interval; /* ms */
    bool debug_mode;
    bool print_backtrace_on_error;

    /* 2.1 faults and supervision */
    bool exit_on_error;
    int64_t on_lost_request; /* enum sv_lost_request */
    double hang_warning, task_hang_warning;
    double hang_timeout, task_hang_timeout;
    int64_t respawn_burst;
    double respawn_window;
    double respawn_delay_max;
    double start_timeout;
    int64_t reload_parallel;
    double reload_jitter;

    /* 2.2 memory and rings */
    int64_t output_memory_limit;                                 /* derived */
    int64_t worker_ring_size, task_ring_size, message_ring_size; /* powers of two after finish */
    int64_t message_stash_size;
    int64_t session_table_size; /* derived: a power of two >= 2 * max_connection */
    int64_t spin_limit;         /* microseconds */

    struct sv_settings_given given;
};

/* Scope P: one port. */
struct sv_port_settings {
    /* 1.3 connections */
    int64_t backlog;
    double heartbeat_idle_time; /* derived from heartbeat_check_interval; 0 = none */
    double max_idle_time;

    /* 1.4 buffers */
    int64_t socket_buffer_size;    /* 0 = no limit */
    int64_t buffer_high_watermark; /* derived; 0 = never fires (no socket_buffer_size) */
    int64_t buffer_low_watermark;
    int64_t kernel_socket_send_buffer_size;
    int64_t kernel_socket_recv_buffer_size;

    /* 1.9 TCP options */
    bool open_tcp_nodelay;
    bool open_tcp_keepalive;
    int64_t tcp_keepidle, tcp_keepinterval; /* seconds */
    int64_t tcp_keepcount;
    int64_t tcp_user_timeout; /* ms */
    int64_t tcp_defer_accept; /* seconds */
    int64_t tcp_fastopen;     /* queue length; 0 = off */

    /* 1.10 framing */
    bool open_eof_check, open_eof_split, open_length_check, open_mqtt_protocol, open_redis_protocol;
    struct sv_bytes package_eof;
    char *package_length_type; /* one letter */
    int64_t package_length_offset, package_body_offset;
    struct sv_setting_function package_length_func;
    int64_t package_max_length;
    double package_timeout; /* 0 = no limit */

    /* 1.11 TLS */
    char *ssl_cert_file, *ssl_key_file, *ssl_passphrase;
    struct sv_certificate_map ssl_sni_certs;
    int64_t ssl_protocols; /* enum srvlua_tls_version; none of them: all */
    struct sv_string_list ssl_ciphers;
    char *ssl_ecdh_curve;
    bool ssl_prefer_server_ciphers;
    bool ssl_verify_peer, ssl_allow_self_signed;
    char *ssl_client_cert_file, *ssl_cafile, *ssl_capath;
    int64_t ssl_verify_depth; /* 0 = the library's */
    bool ssl_session_tickets;
    double ssl_session_timeout;
    struct sv_string_list ssl_alpn;
    bool ssl_ktls;
    /* What was in the files when set was called; `data` NULL: they were not both named, or not good on a port without TLS. */
    struct sv_tls_bytes certificates;

    /* 2.3 defence at the door */
    double ssl_handshake_timeout; /* 0 = no limit */
    int64_t ssl_handshake_limit;
    int64_t max_connection_per_ip;
    double connection_rate_per_ip;
    struct sv_string_list connection_limit_exempt;
    bool open_proxy_protocol;
    struct sv_string_list proxy_protocol_trusted;
    double proxy_protocol_timeout; /* 0 = no limit */

    struct sv_settings_given given;
};

/* Fill with defaults. Nothing is owned yet, so a later init of the same struct would leak: free first. */
void sv_server_settings_init(struct sv_server_settings *settings);
void sv_port_settings_init(struct sv_port_settings *settings);
/* Release what is owned; the struct may be initialised again. */
void sv_server_settings_free(struct sv_server_settings *settings);
void sv_port_settings_free(struct sv_port_settings *settings);
/* Deep copies: for inheritance, and because what was given must survive a start() that derives and then fails. `to` was
 * initialised before; what it owned is released. 0, or -501 with *to unchanged. */
int sv_server_settings_copy(struct sv_server_settings *to, const struct sv_server_settings *from);
int sv_port_settings_copy(struct sv_port_settings *to, const struct sv_port_settings *from);

/* Was the setting (canonical name or alias) given by a set call that reached this struct? */
bool sv_server_setting_is_given(const struct sv_server_settings *settings, const char *name);
bool sv_port_setting_is_given(const struct sv_port_settings *settings, const char *name);

/* One set call: `server` NULL = port level (server settings are errors then). All or nothing: 0, or -505 with a message
 * like `bad setting 'backlog': expected integer 1..65535, got -1`, -501 without memory. is_tls: the port, or one that
 * inherits from it, speaks TLS, so its certificates must be good. A server-level call first applies the log settings to
 * log->sink (a log_file that cannot be opened is a bad setting); then unknown names, settings without effect and a
 * package_max_length that is too small are told through `log`. */
int sv_settings_apply(struct sv_server_settings *server, struct sv_port_settings *port, bool is_tls,
                      const struct srvlua_setting *settings, size_t count, struct sv_log *log,
                      struct srvlua_status *status);

/* start(): derives and adjusts, with one line in the log per adjustment. `mode` is enum srvlua_mode. May raise the soft
 * RLIMIT_NOFILE of the process. 0 or -505. Derived values look like given ones afterwards, so it is for a copy. */
int sv_settings_finish(struct sv_server_settings *server, struct sv_port_settings *primary, int mode,
                       struct sv_log *log, struct srvlua_status *status);
/* One notice if the kernel will cut the port's backlog. sv_settings_apply() calls it for ports with settings of their
 * own, sv_settings_finish() for the primary one. */
void sv_settings_check_backlog(const struct sv_port_settings *port, struct sv_log *log);
/* start(), for every port after inheritance was settled: watermarks. 0 or -505. */
int sv_port_settings_finish(struct sv_port_settings *port, struct srvlua_status *status);
/* start(), after inheritance was settled: the check interval and the idle times of the stream ports given in `ports`
 * (settings.md 3.4). All stay 0 when neither was given anywhere. */
void sv_settings_derive_heartbeat(struct sv_server_settings *server, struct sv_port_settings **ports, size_t count);

/* Effective value of a setting by canonical name or alias: 0, or -505 for a name that is not known.
 * NIL = none, or not derived yet. Strings belong to the settings; of lists only the number of entries is told. */
int sv_settings_get(const struct sv_server_settings *server, const struct sv_port_settings *primary, const char *name,
                    struct srvlua_value *value);
/* The canonical names that start() adds to Lua's server.setting (settings.md 0.1), ended by NULL. */
const char *const *sv_settings_effective_names(void);

#endif
