/* start.c: from settings and callbacks to a running server: what start() checks, derives and hands to the runtime. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errors.h"
#include "server/certificates.h"
#include "server/server.h"
#include "server/settings_table.h"

static bool has_callback(const srvlua_server *server, const struct srvlua_port *port, enum srvlua_event event) {
    return sv_port_callback(server, port->index, event)->function != NULL;
}

/* A header says who the client is: whoever may send one can claim to be anybody. */
static int check_proxy(const srvlua_server *server, struct srvlua_status *status) {
    for (size_t i = 0; i < server->port_count; i++) {
        const struct srvlua_port *port = server->ports[i];
        if (!sv_type_is_stream(port->type) || sv_type_is_unix(port->type) || !port->effective.open_proxy_protocol) continue;
        if (port->effective.proxy_protocol_trusted.count == 0)
            return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS,
                           "%s has open_proxy_protocol: it needs proxy_protocol_trusted, the addresses that may send its header",
                           sv_port_name(port).text);
    }
    return 0;
}

static int check_callbacks(srvlua_server *server, struct srvlua_status *status) {
    for (size_t i = 0; i < server->port_count; i++) {
        const struct srvlua_port *port = server->ports[i];
        bool has_sessions = sv_type_is_stream(port->type) || port->has_ssl;
        enum srvlua_event needed = has_sessions ? SRVLUA_ON_RECEIVE : SRVLUA_ON_PACKET;
        if (!has_callback(server, port, needed))
            return sv_fail(status, SRVLUA_ERROR_SERVER_INVALID_CALLBACK, "%s needs a '%s' callback", sv_port_name(port).text,
                           srvlua_event_name(needed));
        if (has_sessions && server->effective.enable_delay_receive && !has_callback(server, port, SRVLUA_ON_CONNECT))
            return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "enable_delay_receive needs a 'connect' callback: nobody could confirm");
    }
    if (server->effective.task_worker_num && !server->callbacks[SRVLUA_ON_TASK].function)
        return sv_fail(status, SRVLUA_ERROR_SERVER_INVALID_CALLBACK, "task_worker_num is %lld: a 'task' callback is needed",
                       (long long)server->effective.task_worker_num);
    if (server->effective.task_worker_num && server->effective.task_enable_coroutine && server->effective.task_ipc_mode != SV_TASK_WAY_RING)
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "task_enable_coroutine needs task_ipc_mode 1: a task in a message queue is taken alone");
    return 0;
}

/* Events that the dispatch mode switches off: one warning for each callback that is dropped (settings.md 3.1). */
static bool has_connection_events(const srvlua_server *server) {
    return server->mode == SRVLUA_BASE || sv_dispatch_has_order(server->effective.dispatch_mode) || server->effective.enable_unsafe_event;
}

static void warn_of_dropped_callbacks(srvlua_server *server) {
    static const enum srvlua_event events[] = {SRVLUA_ON_CONNECT, SRVLUA_ON_CLOSE, SRVLUA_ON_BUFFER_FULL, SRVLUA_ON_BUFFER_EMPTY};
    if (has_connection_events(server)) return;
    for (size_t i = 0; i < server->port_count; i++)
        for (size_t k = 0; k < sizeof events / sizeof *events; k++)
            if (server->ports[i]->callbacks[events[k]].function)
                sv_log_write(&server->log, SRVLUA_LOG_WARNING, "dispatch_mode %lld switches '%s' off: the callback is dropped",
                             (long long)server->effective.dispatch_mode, srvlua_event_name(events[k]));
}

/* Derives what follows from settings into copies, so that what was given stays what was given. */
static int finish_settings(srvlua_server *server, struct srvlua_status *status) {
    sv_server_settings_init(&server->effective);
    int result = sv_server_settings_copy(&server->effective, &server->settings);
    if (result) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    for (size_t i = 0; i < server->port_count; i++) {
        struct srvlua_port *port = server->ports[i];
        sv_port_settings_init(&port->effective);
        const struct srvlua_port *source = port->has_own_settings ? port : server->ports[0];
        if (sv_port_settings_copy(&port->effective, &source->settings)) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    }
    server->is_finished = true;
    result = sv_settings_finish(&server->effective, &server->ports[0]->effective, server->mode, &server->log, status);
    struct sv_port_settings **streams = calloc(server->port_count, sizeof(*streams));
    if (!streams) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    size_t count = 0;
    for (size_t i = 0; i < server->port_count; i++)
        if (sv_type_is_stream(server->ports[i]->type) || server->ports[i]->has_ssl) streams[count++] = &server->ports[i]->effective;
    if (result == 0) sv_settings_derive_heartbeat(&server->effective, streams, count);
    free(streams);
    for (size_t i = 0; result == 0 && i < server->port_count; i++) result = sv_port_settings_finish(&server->ports[i]->effective, status);
    return result;
}

static void forget_finished(srvlua_server *server) {
    if (!server->is_finished) return;
    for (size_t i = 0; i < server->port_count; i++) sv_port_settings_free(&server->ports[i]->effective);
    sv_server_settings_free(&server->effective);
    server->is_finished = false;
}

static void fill_options(struct sv_socket_options *options, const struct sv_port_settings *settings) {
    *options = (struct sv_socket_options){.nodelay = settings->open_tcp_nodelay,
                                          .keepalive = settings->open_tcp_keepalive,
                                          .keepidle = (int)settings->tcp_keepidle,
                                          .keepinterval = (int)settings->tcp_keepinterval,
                                          .keepcount = (int)settings->tcp_keepcount,
                                          .user_timeout_ms = (int)settings->tcp_user_timeout,
                                          .defer_accept = (int)settings->tcp_defer_accept,
                                          .fastopen_queue = (int)settings->tcp_fastopen,
                                          .send_buffer = settings->kernel_socket_send_buffer_size,
                                          .recv_buffer = settings->kernel_socket_recv_buffer_size};
}

static int fill_networks(struct sv_networks *networks, const struct sv_string_list *texts) {
    sv_networks_free(networks);
    return sv_networks_parse(networks, texts->items, texts->count);
}

static void fill_tls(const srvlua_server *server, const struct srvlua_port *port, struct sv_port_rules *rules) {
    if (!port->has_ssl) return;
    rules->tls = &port->tls;
    rules->certificates = &server->certificates[port->index];
    rules->tls_shared = port->tls_shared;
    rules->handshake_timeout_ns = (int64_t)(port->effective.ssl_handshake_timeout * 1e9);
    rules->handshake_limit = port->effective.ssl_handshake_limit;
}

static int make_rules(srvlua_server *server, struct srvlua_status *status) {
    server->rules = calloc(server->port_count, sizeof *server->rules);
    if (!server->rules) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    bool has_events = has_connection_events(server);
    for (size_t i = 0; i < server->port_count; i++) {
        struct srvlua_port *port = server->ports[i];
        const struct sv_port_settings *settings = &port->effective;
        if (fill_networks(&port->trusted, &settings->proxy_protocol_trusted) ||
            fill_networks(&port->exempt, &settings->connection_limit_exempt))
            return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
        struct srvlua_port_info info;
        srvlua_port_get_info(port, &info);
        struct sv_port_rules *rules = &server->rules[i];
        *rules = (struct sv_port_rules){.index = port->index,
                                        .type = port->type,
                                        .number = info.port,
                                        .listener_fd = port->listener.fd,
                                        .is_inherited = port->listener.is_inherited,
                                        .output_limit = settings->socket_buffer_size,
                                        .high_watermark = settings->buffer_high_watermark,
                                        .low_watermark = settings->buffer_low_watermark,
                                        .heartbeat_ns = (int64_t)(settings->heartbeat_idle_time * 1e9),
                                        .idle_ns = (int64_t)(settings->max_idle_time * 1e9),
                                        .has_close_events = has_events,
                                        .has_connect_event = has_events && has_callback(server, port, SRVLUA_ON_CONNECT),
                                        .has_close_callback = has_callback(server, port, SRVLUA_ON_CLOSE),
                                        .has_buffer_full = has_events && has_callback(server, port, SRVLUA_ON_BUFFER_FULL),
                                        .has_buffer_empty = has_events && has_callback(server, port, SRVLUA_ON_BUFFER_EMPTY),
                                        .is_delayed = server->effective.enable_delay_receive,
                                        .has_proxy = settings->open_proxy_protocol && sv_type_is_stream(port->type),
                                        .trusted = &port->trusted,
                                        .proxy_timeout_ns = (int64_t)(settings->proxy_protocol_timeout * 1e9),
                                        .visitor_limit = settings->max_connection_per_ip,
                                        .visitor_rate = settings->connection_rate_per_ip,
                                        .visitor_exempt = &port->exempt};
        if (sv_type_is_unix(port->type))
            snprintf(rules->name, sizeof rules->name, "unix socket %.111s", port->host);
        else
            snprintf(rules->name, sizeof rules->name, "port %d", info.port);
        fill_options(&rules->options, settings);
        fill_tls(server, port, rules);
        sv_framing_fill(&rules->framing, port);
        if (rules->framing.next) rules->package_timeout_ns = (int64_t)(settings->package_timeout * 1e9);
    }
    return 0;
}

/* Binds what the constructor could not, and listens. */
static int open_listeners(srvlua_server *server, struct srvlua_status *status) {
    for (size_t i = 0; i < server->port_count; i++) {
        struct srvlua_port *port = server->ports[i];
        int result = 0;
        if (port->listener.fd < 0) {
            struct sv_address wanted = port->listener.address;
            result = sv_listener_open_at(&wanted, port->type, false, &port->listener, status);
            if (result) return result;
        }
        struct sv_socket_options options;
        const char *failed = NULL;
        fill_options(&options, &port->effective);
        if (sv_socket_apply_listener(port->listener.fd, port->type, &options, &failed) && failed)
            sv_log_write(&server->log, SRVLUA_LOG_WARNING, "%s could not be set on %s", failed, sv_port_name(port).text);
        result = sv_listener_listen(&port->listener, (int)port->effective.backlog, status);
        if (result) return result;
    }
    return 0;
}

/* '' stands for "not given". */
static const char *given(const char *text) {
    return text && *text ? text : NULL;
}

static void fill_config(srvlua_server *server) {
    const struct sv_server_settings *settings = &server->effective;
    server->rt = (struct sv_runtime){
        .config = {.mode = server->mode,
                   .reactors = (uint32_t)settings->reactor_num,
                   .workers = (uint32_t)settings->worker_num,
                   .users = server->user_count,
                   .task_workers = (uint32_t)settings->task_worker_num,
                   .max_connection = settings->max_connection,
                   .start_session_id = (uint64_t)settings->start_session_id,
                   .session_table_size = (uint32_t)settings->session_table_size,
                   .rings = {.worker_ring = (uint32_t)settings->worker_ring_size,
                             .task_ring = (uint32_t)settings->task_ring_size,
                             .message_ring = (uint32_t)settings->message_ring_size},
                   .output_memory_limit = settings->output_memory_limit,
                   .max_queued_bytes = settings->max_queued_bytes,
                   .heartbeat_interval = settings->heartbeat_check_interval,
                   .max_wait_time = settings->max_wait_time,
                   .start_timeout = settings->start_timeout,
                   .respawn_window = settings->respawn_window,
                   .respawn_delay_max = settings->respawn_delay_max,
                   .respawn_burst = settings->respawn_burst,
                   .reload_jitter = settings->reload_jitter,
                   .reload_parallel = settings->reload_parallel,
                   .max_request = settings->max_request,
                   .max_request_grace = settings->max_request_grace,
                   .task_max_request = settings->task_max_request,
                   .task_max_request_grace = settings->task_max_request_grace,
                   .task_coroutines = settings->task_enable_coroutine,
                   .max_coroutine = settings->max_coroutine,
                   .task_way = (int)settings->task_ipc_mode,
                   .message_queue_key = (int32_t)settings->message_queue_key,
                   .task_tmpdir = settings->task_tmpdir ? settings->task_tmpdir : sv_setting_find("task_tmpdir")->text,
                   .spin_ns = settings->spin_limit * 1000,
                   .message_stash = settings->message_stash_size,
                   .reload_async = settings->reload_async,
                   .is_daemon = settings->daemonize,
                   .is_sticky = sv_dispatch_is_sticky(settings->dispatch_mode),
                   .is_sticky_in_flight = settings->dispatch_mode == SV_DISPATCH_LEAST_LATENCY,
                   .measures_time = settings->dispatch_mode == SV_DISPATCH_LEAST_LATENCY,
                   .single_thread = settings->single_thread && server->mode == SRVLUA_PROCESS,
                   .open_cpu_affinity = settings->open_cpu_affinity,
                   .cpus_ignored = settings->cpu_affinity_ignore.items,
                   .cpus_ignored_count = settings->cpu_affinity_ignore.count,
                   .pid_file = given(settings->pid_file),
                   .user = given(settings->user),
                   .group = given(settings->group),
                   .root = given(settings->chroot),
                   .on_lost_request = (int)settings->on_lost_request,
                   .hang_warning = settings->hang_warning,
                   .hang_timeout = settings->hang_timeout,
                   .task_hang_warning = settings->task_enable_coroutine ? settings->hang_warning : settings->task_hang_warning,
                   .task_hang_timeout = settings->task_enable_coroutine ? settings->hang_timeout : settings->task_hang_timeout},
        .hooks = {.context = server,
                  .enter = sv_events_enter,
                  .fire = sv_events_fire,
                  .deliver = sv_events_deliver,
                  .run_task = sv_tasks_run,
                  .mail = sv_tasks_mail,
                  .mail_at_once = sv_tasks_mail_at_once,
                  .is_expecting = sv_tasks_is_expecting,
                  .choose = sv_dispatch_choose,
                  .ask = server->dispatch ? sv_dispatcher_ask : NULL,
                  .framing = sv_measurer_fill,
                  .failed = sv_events_failed,
                  .renew = sv_certificates_renew,
                  .run_user = sv_events_run_user,
                  .command = sv_commands_take,
                  .before_sleep = sv_events_before_sleep,
                  .write_stack = sv_events_write_stack},
        .sink = server->sink,
        .log = server->log,
        .ports = server->rules,
        .port_count = (uint16_t)server->port_count,
        .certificates = server->certificates,
        .role = SRVLUA_ROLE_BEFORE,
        .slot = -1};
}

static int prepare(srvlua_server *server, struct srvlua_status *status) {
    int result = finish_settings(server, status);
    if (result == 0) result = check_callbacks(server, status);
    if (result == 0) result = sv_certificates_check(server, status);
    if (result == 0) result = check_proxy(server, status);
    if (result == 0) result = sv_port_check(server, status);
    return result ? result : sv_dispatcher_check(server, status);
}

int srvlua_check(srvlua_server *server, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    result = prepare(server, status);
    forget_finished(server);
    return sv_server_note(server, result);
}

int srvlua_set_check_only(srvlua_server *server, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result == 0) server->is_check_only = true;
    return result;
}

/* A daemon that cannot start has nobody in the foreground to tell: it is a child of ours, and ends (settings.md 3.15). */
static _Noreturn void give_up_daemon(srvlua_server *server, int result, const struct srvlua_status *status) {
    sv_log_about(&server->log, SRVLUA_LOG_ERROR, 0, -result, "the server could not start: %s",
                 status ? status->message : srvlua_strerror(-result));
    fflush(NULL);
    _exit(EXIT_FAILURE);
}

int srvlua_start(srvlua_server *server, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    result = prepare(server, status);
    if (result == 0) result = open_listeners(server, status);
    if (result == 0) result = sv_certificates_open(server, status);
    if (result == 0) result = make_rules(server, status);
    if (result == 0) result = sv_dispatcher_open(server, status);
    if (result == 0) result = sv_measurer_open(server, status);
    if (result) {
        sv_certificates_close(server);
        sv_dispatcher_close(server);
        forget_finished(server);
        return sv_server_note(server, result);
    }
    warn_of_dropped_callbacks(server);
    server->last_error = 0;
    fill_config(server);
    server->is_running = true;
    result = sv_runtime_run(&server->rt, status);
    server->rt.role = SRVLUA_ROLE_AFTER;
    sv_dispatcher_close(server);
    sv_certificates_close(server);
    sv_measurer_close(server);
    server->log = sv_log_view(server->sink, "master", -1);
    for (size_t i = 0; i < server->port_count; i++) sv_listener_close(&server->ports[i]->listener, true);
    if (result && result != -SRVLUA_ERROR_SERVER_WORKER_TERMINATED && server->rt.is_in_background) give_up_daemon(server, result, status);
    return sv_server_note(server, result);
}
