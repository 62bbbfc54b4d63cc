/* settings_finish.c: what start() derives and adjusts, from the machine and from other settings (settings.md 0.5).
 * Every adjustment of what was given is told in one line that names the old and the new value.
 * runs in: the process that calls start(), before anything is mapped or forked. */
#include <sys/resource.h>

#include "base/errors.h"
#include "base/machine.h"
#include "base/size.h"
#include "server/settings.h"

#define MOST_PROCESSES 65535
#define WORKERS_PER_CPU 1000
#define REACTORS_PER_CPU 4
#define DEFAULT_REACTORS 8
#define DEFAULT_CONNECTIONS 100000
#define DEFAULT_COROUTINES 100000
#define DEFAULT_SESSION_SLOTS (INT64_C(1) << 20)
#define SPARE_DESCRIPTORS 256 /* listeners, loops, bells, logs, what the application opens */
#define LEAST_OUTPUT_MEMORY (INT64_C(64) << 20)
#define LEAST_REDELIVERING_RING (INT64_C(4) << 20)
#define SHORTEST_TIMEOUT 0.001

static int64_t smaller(int64_t one, int64_t other) { return one < other ? one : other; }
static int64_t larger(int64_t one, int64_t other) { return one > other ? one : other; }

static void adjust(int64_t *field, int64_t value, const char *name, const char *why, enum srvlua_log_level level,
                   struct sv_log *log) {
    if (*field == value)
        return;
    sv_log_write(log, level, "setting '%s' adjusted from %lld to %lld: %s", name, (long long)*field, (long long)value,
                 why);
    *field = value;
}

/* -------------------------------------------------------------------------------------------------------- processes */

static void finish_workers(struct sv_server_settings *server, int mode, int cpus, struct sv_log *log) {
    if (server->worker_num == SV_DERIVE)
        server->worker_num = mode == SRVLUA_PROCESS ? cpus : 1;
    else if (server->worker_num == 0)
        server->worker_num = cpus;
    adjust(&server->worker_num, smaller(server->worker_num, (int64_t)cpus * WORKERS_PER_CPU), "worker_num",
           "1000 per CPU at most", SRVLUA_LOG_WARNING, log);
    adjust(&server->task_worker_num, smaller(server->task_worker_num, (int64_t)cpus * WORKERS_PER_CPU),
           "task_worker_num", "1000 per CPU at most", SRVLUA_LOG_WARNING, log);
}

static void finish_reactors(struct sv_server_settings *server, int mode, int cpus, struct sv_log *log) {
    int64_t most = smaller(server->worker_num, (int64_t)cpus * REACTORS_PER_CPU);

    if (mode == SRVLUA_BASE)
        server->reactor_num = server->worker_num;
    else if (server->single_thread)
        server->reactor_num = 1;
    else if (server->reactor_num == SV_DERIVE)
        server->reactor_num = smaller(smaller(cpus, DEFAULT_REACTORS), most);
    else if (server->reactor_num == 0)
        server->reactor_num = smaller(cpus, most);
    else
        adjust(&server->reactor_num, smaller(server->reactor_num, most), "reactor_num",
               "4 per CPU at most, and not more than worker_num", SRVLUA_LOG_WARNING, log);
}

/* ------------------------------------------------------------------------------------------------------ connections */

/* Raises the soft descriptor limit towards `wanted`; the limit that holds then. */
static int64_t raise_descriptor_limit(int64_t wanted) {
    struct rlimit limit;
    if (getrlimit(RLIMIT_NOFILE, &limit) < 0)
        return INT64_MAX; /* cannot happen with these arguments */
    rlim_t soft = limit.rlim_cur, hard = limit.rlim_max;
    if (soft != RLIM_INFINITY && soft < (rlim_t)wanted) {
        limit.rlim_cur = hard == RLIM_INFINITY || hard > (rlim_t)wanted ? (rlim_t)wanted : hard;
        if (setrlimit(RLIMIT_NOFILE, &limit) == 0)
            soft = limit.rlim_cur;
    }
    return soft == RLIM_INFINITY || soft > INT64_MAX ? INT64_MAX : (int64_t)soft;
}

/* The limit is compared with max_connection alone, as documented, while what is asked for leaves room for the server's
 * own descriptors; where that is not granted, accepting pauses at EMFILE. */
static void finish_connections(struct sv_server_settings *server, struct sv_log *log) {
    int64_t spare = SPARE_DESCRIPTORS + server->worker_num + server->task_worker_num;

    if (server->max_connection == 0)
        server->max_connection = smaller(DEFAULT_CONNECTIONS, raise_descriptor_limit(0));
    int64_t limit = raise_descriptor_limit(server->max_connection + spare);
    adjust(&server->max_connection, larger(1, smaller(server->max_connection, limit)), "max_connection",
           "the limit of open files (ulimit -n)", SRVLUA_LOG_WARNING, log);
}

static void finish_session_table(struct sv_server_settings *server, struct sv_log *log) {
    int64_t least = sv_power_of_two_from(2 * server->max_connection);

    if (server->session_table_size == 0) {
        server->session_table_size = larger(DEFAULT_SESSION_SLOTS, least);
        return;
    }
    if (server->session_table_size < least)
        adjust(&server->session_table_size, least, "session_table_size", "at least 2 * max_connection",
               SRVLUA_LOG_WARNING, log);
    else
        adjust(&server->session_table_size, sv_power_of_two_from(server->session_table_size), "session_table_size",
               "a power of two", SRVLUA_LOG_NOTICE, log);
}

/* ------------------------------------------------------------------------------------------------- one from another */

static void finish_requests(struct sv_server_settings *server) {
    if (server->max_request_grace == SV_DERIVE)
        server->max_request_grace = server->max_request > 10 ? server->max_request / 2 : 0;
    if (server->task_max_request_grace == SV_DERIVE)
        server->task_max_request_grace = server->task_max_request > 10 ? server->task_max_request / 2 : 0;
}

static void finish_reload(struct sv_server_settings *server, struct sv_log *log) {
    if (!server->enable_coroutine || server->reload_async)
        return;
    sv_log_write(log, SRVLUA_LOG_NOTICE, "setting 'reload_async' adjusted from false to true: enable_coroutine is on");
    server->reload_async = true;
}

/* A suspended send is resumed by the connection's own worker: in PROCESS mode there must be one. */
static bool can_send_yield(const struct sv_server_settings *server, int mode) {
    return mode == SRVLUA_BASE || server->dispatch_mode == SV_DISPATCH_FD || server->dispatch_mode == SV_DISPATCH_IP ||
           server->dispatch_mode == SV_DISPATCH_CO_CONN;
}

static void finish_send_yield(struct sv_server_settings *server, int mode, struct sv_log *log) {
    if (server->send_timeout > 0 && server->send_timeout < SHORTEST_TIMEOUT)
        server->send_timeout = SHORTEST_TIMEOUT;
    if (!sv_server_setting_is_given(server, "send_yield")) {
        server->send_yield = server->enable_coroutine && can_send_yield(server, mode);
    } else if (server->send_yield && !can_send_yield(server, mode)) {
        sv_log_write(log, SRVLUA_LOG_WARNING, "setting 'send_yield' adjusted from true to false: dispatch_mode is %lld",
                     (long long)server->dispatch_mode);
        server->send_yield = false;
    }
}

static void finish_coroutines(struct sv_server_settings *server, struct sv_log *log) {
    if (server->task_enable_coroutine && !server->enable_coroutine) {
        sv_log_write(log, SRVLUA_LOG_WARNING,
                     "setting 'task_enable_coroutine' adjusted from true to false: enable_coroutine is off");
        server->task_enable_coroutine = false;
    }
    if (server->max_coroutine == 0)
        server->max_coroutine = DEFAULT_COROUTINES;
    if (server->event_object)
        server->task_object = true;
}

static void finish_client_timeouts(struct sv_server_settings *server) {
    if (!sv_server_setting_is_given(server, "socket_timeout"))
        return;
    if (!sv_server_setting_is_given(server, "socket_read_timeout"))
        server->socket_read_timeout = server->socket_timeout;
    if (!sv_server_setting_is_given(server, "socket_write_timeout"))
        server->socket_write_timeout = server->socket_timeout;
}

/* ----------------------------------------------------------------------------------------------------------- memory */

/* A packet that is to be given to a successor stays in its ring until it was served, and half of a ring at most is kept so: here
 * one of 1 MiB, with what lies between its pieces. */
static void finish_redelivery(struct sv_server_settings *server, struct sv_log *log) {
    if (server->on_lost_request != SV_LOST_REDELIVER)
        return;
    int64_t size = larger(server->worker_ring_size, LEAST_REDELIVERING_RING);
    if (sv_server_setting_is_given(server, "worker_ring_size"))
        adjust(&server->worker_ring_size, size, "worker_ring_size", "on_lost_request is 'redeliver'", SRVLUA_LOG_WARNING, log);
    server->worker_ring_size = size;
}

static void finish_memory(struct sv_server_settings *server, int cpus, struct sv_log *log) {
    static const char why[] = "a power of two";

    if (server->output_memory_limit == 0)
        server->output_memory_limit = larger(sv_machine_memory() / 4, LEAST_OUTPUT_MEMORY);
    adjust(&server->worker_ring_size, sv_power_of_two_from(server->worker_ring_size), "worker_ring_size", why,
           SRVLUA_LOG_NOTICE, log);
    finish_redelivery(server, log);
    adjust(&server->task_ring_size, sv_power_of_two_from(server->task_ring_size), "task_ring_size", why,
           SRVLUA_LOG_NOTICE, log);
    adjust(&server->message_ring_size, sv_power_of_two_from(server->message_ring_size), "message_ring_size", why,
           SRVLUA_LOG_NOTICE, log);
    if (cpus > 1)
        return;
    if (sv_server_setting_is_given(server, "spin_limit"))
        adjust(&server->spin_limit, 0, "spin_limit", "there is one CPU", SRVLUA_LOG_WARNING, log);
    server->spin_limit = 0;
}

int sv_settings_finish(struct sv_server_settings *server, struct sv_port_settings *primary, int mode,
                       struct sv_log *log, struct srvlua_status *status) {
    int cpus = sv_machine_cpus();

    finish_workers(server, mode, cpus, log);
    if (server->worker_num + server->task_worker_num > MOST_PROCESSES)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "worker_num + task_worker_num is %lld, more than %d",
                       (long long)(server->worker_num + server->task_worker_num), MOST_PROCESSES);
    finish_reactors(server, mode, cpus, log);
    finish_connections(server, log);
    finish_session_table(server, log);
    finish_requests(server);
    finish_reload(server, log);
    finish_send_yield(server, mode, log);
    finish_coroutines(server, log);
    finish_client_timeouts(server);
    finish_memory(server, cpus, log);
    sv_settings_check_backlog(primary, log);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------ ports */

void sv_settings_check_backlog(const struct sv_port_settings *port, struct sv_log *log) {
    int64_t most = sv_machine_accept_queue();
    if (most > 0 && port->backlog > most)
        sv_log_write(log, SRVLUA_LOG_NOTICE,
                     "setting 'backlog' is %lld: the kernel cuts it to net.core.somaxconn, %lld",
                     (long long)port->backlog, (long long)most);
}

int sv_port_settings_finish(struct sv_port_settings *port, struct srvlua_status *status) {
    if (port->buffer_high_watermark == 0)
        port->buffer_high_watermark = port->socket_buffer_size / 5 * 4;
    if (port->buffer_high_watermark > 0 && port->buffer_low_watermark > port->buffer_high_watermark)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS,
                       "bad setting 'buffer_low_watermark': %lld is above buffer_high_watermark, %lld",
                       (long long)port->buffer_low_watermark, (long long)port->buffer_high_watermark);
    return 0;
}

static double check_interval_for(double idle_time) {
    double least = idle_time < 1 ? idle_time : 1;
    return idle_time / 2 > least ? idle_time / 2 : least;
}

void sv_settings_derive_heartbeat(struct sv_server_settings *server, struct sv_port_settings **ports, size_t count) {
    double given_interval = server->heartbeat_check_interval, smallest = 0;

    for (size_t i = 0; i < count; i++) {
        if (ports[i]->heartbeat_idle_time == 0)
            ports[i]->heartbeat_idle_time = 2 * given_interval;
        if (ports[i]->heartbeat_idle_time == 0)
            continue;
        double interval = check_interval_for(ports[i]->heartbeat_idle_time);
        if (smallest == 0 || interval < smallest)
            smallest = interval;
    }
    if (given_interval == 0)
        server->heartbeat_check_interval = smallest;
}
