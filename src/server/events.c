/* events.c: from what the runtime delivers to the callbacks that users registered. runs in: the process of the event. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/clock.h"
#include "server/server.h"

/* ------------------------------------------------------------------------------------------------ running callbacks */

void sv_events_enter(void *context) {
    srvlua_server *server = context;
    server->log = server->rt.log;
    server->last_error = 0;
    server->responses = 0;
    server->stats_timer = 0;
    sv_commands_forget(server);
    sv_tls_sessions_free(&server->tls_sessions);
    sv_tasks_reset(server);
}

void srvlua_callback_failed(srvlua_server *server) {
    struct sv_runtime *rt = &server->rt;
    if (!rt->counters) return;
    sv_count(rt->counters, SV_COUNT_ERRORS, 1);
    if (rt->role == SRVLUA_ROLE_USER) sv_worker_abort(rt, 255);
    if (server->effective.exit_on_error && rt->role == SRVLUA_ROLE_WORKER && !rt->worker.is_alone) sv_worker_abort(rt, 255);
}

int srvlua_suspend_request(srvlua_server *server) {
    bool is_worker = server->rt.role == SRVLUA_ROLE_WORKER || server->rt.role == SRVLUA_ROLE_TASK;
    return is_worker ? sv_worker_note_suspended(&server->rt) : -1;
}

void srvlua_end_request(srvlua_server *server, int token) {
    bool is_worker = server->rt.role == SRVLUA_ROLE_WORKER || server->rt.role == SRVLUA_ROLE_TASK;
    if (token >= 0 && is_worker) sv_worker_forget_suspended(&server->rt, token);
}

void srvlua_set_stack_writer(srvlua_server *server, srvlua_stack_writer writer, void *user_data) {
    server->stack_writer_data = user_data;
    server->stack_writer = writer;
}

void srvlua_improve_stack(srvlua_server *server, const char *text, size_t length) {
    sv_fault_improve(&server->rt, text, length);
}

size_t sv_events_write_stack(void *context, char *text, size_t size, const void *interrupted) {
    const srvlua_server *server = context;
    return server->stack_writer ? server->stack_writer(server->stack_writer_data, text, size, interrupted) : 0;
}

int sv_events_run_user(void *context, uint32_t user) {
    srvlua_server *server = context;
    return server->users[user].main(server, server->rt.slot, server->users[user].user_data);
}

void sv_events_before_sleep(void *context) {
    sv_commands_look(context);
    sv_tasks_end_turn(context);
}

void sv_events_failed(void *context) {
    srvlua_callback_failed(context);
}

int sv_events_run(srvlua_server *server, const struct sv_callback *callback, const struct srvlua_event_data *data) {
    if (!callback->function) return 0;
    int result = callback->function(server, data, callback->user_data);
    if (result) srvlua_callback_failed(server);
    return result;
}

int sv_events_fire(void *context, struct srvlua_event_data *data) {
    srvlua_server *server = context;
    if (data->event == SRVLUA_ON_WORKER_START) sv_stats_start_file(server);
    if (data->event == SRVLUA_ON_WORKER_EXIT && server->stats_timer) {
        sv_timer_make_internal(&server->rt.loop, server->stats_timer); /* it does not keep the worker */
        server->stats_timer = 0;
    }
    return sv_events_run(server, &server->callbacks[data->event], data);
}

const struct sv_callback *sv_port_callback(const srvlua_server *server, uint16_t port, enum srvlua_event event) {
    const struct sv_callback *own = &server->ports[port]->callbacks[event];
    return own->function ? own : &server->ports[0]->callbacks[event];
}

static void run_port_event(srvlua_server *server, uint16_t port, uint64_t serving, struct srvlua_event_data *data) {
    const struct sv_callback *callback = sv_port_callback(server, port, data->event);
    if (!callback->function) return;
    data->port = server->ports[port];
    data->worker_id = server->rt.slot;
    sv_worker_begin(&server->rt, serving);
    sv_events_run(server, callback, data);
    sv_worker_end(&server->rt);
}

/* -------------------------------------------------------------------------------------------------------- close */

bool sv_events_is_closing(const srvlua_server *server, uint64_t id) {
    const struct sv_worker *worker = &server->rt.worker;
    for (size_t i = 0; i < worker->closing_count; i++)
        if (worker->closing[i] == id) return true;
    return false;
}

static bool push_closing(struct sv_worker *worker, uint64_t id) {
    if (worker->closing_count == worker->closing_capacity) {
        size_t capacity = worker->closing_capacity ? worker->closing_capacity * 2 : 16;
        uint64_t *grown = realloc(worker->closing, capacity * sizeof *grown);
        if (!grown) return false;
        worker->closing = grown;
        worker->closing_capacity = capacity;
    }
    worker->closing[worker->closing_count++] = id;
    return true;
}

void sv_events_run_close(srvlua_server *server, struct sv_session *session, uint64_t id, int32_t value) {
    struct sv_worker *worker = &server->rt.worker;
    sv_output_wait_end(server, id);
    struct srvlua_event_data data = {.event = SRVLUA_ON_CLOSE, .fd = (int64_t)id, .reactor_id = value};
    bool is_noted = push_closing(worker, id);
    run_port_event(server, session->port, id, &data);
    if (is_noted) worker->closing_count--;
    sv_tls_sessions_remove(&server->tls_sessions, id);
}

static void answer_close(srvlua_server *server, struct sv_session *session, uint64_t id) {
    struct sv_runtime *rt = &server->rt;
    if (sv_runtime_owns(rt, session)) {
        struct sv_connection *connection = sv_reactor_find(&rt->reactor, id);
        if (connection) sv_reactor_close(&rt->reactor, connection, SV_CLOSE_ANSWER);
    } else {
        sv_runtime_order(rt, session, SV_RECORD_CLOSE, id, SV_CLOSE_ANSWER, NULL, 0, NULL, 0);
    }
}

static void on_closed(srvlua_server *server, const struct sv_message *message) {
    struct sv_session *session = sv_session_find(&server->rt.sessions, message->id);
    if (!session) return;
    int64_t before = sv_session_change_flags(session, message->id, SV_SESSION_CLOSE_FIRED, 0);
    if (before < 0) return;
    if (!(before & SV_SESSION_CLOSE_FIRED)) sv_events_run_close(server, session, message->id, message->value);
    answer_close(server, session, message->id);
}

/* --------------------------------------------------------------------------------------------------------- data */

static void drop(srvlua_server *server, uint64_t id, size_t length) {
    if (!sv_log_limit_pass(&server->discard_notice, sv_now_ns())) return;
    sv_log_about(&server->log, SRVLUA_LOG_INFO, (int64_t)id, SRVLUA_ERROR_SESSION_DISCARD_TIMEOUT_DATA,
                 "%zu bytes of session %llu, which is closed, are discarded", length, (unsigned long long)id);
}

static bool is_wanted(const srvlua_server *server, const struct sv_session *session) {
    bool is_ordered = server->mode == SRVLUA_BASE || sv_dispatch_has_order(server->effective.dispatch_mode);
    if (session && sv_session_flags(session) & SV_SESSION_CLOSE_ASKED) return false;
    if (session && sv_session_get_state(session) != SV_SESSION_FREE) return true;
    return session && !is_ordered && !server->effective.discard_timeout_request;
}

static void on_receive(srvlua_server *server, const struct sv_message *message) {
    struct sv_session *session = sv_session_find(&server->rt.sessions, message->id);
    if (session) {
        uint64_t taken = atomic_load_explicit(&session->consumed_bytes, memory_order_relaxed) + message->length;
        atomic_store_explicit(&session->consumed_bytes, taken, memory_order_relaxed);
    }
    if (!is_wanted(server, session)) {
        drop(server, message->id, message->length);
        return;
    }
    atomic_store_explicit(&session->last_dispatch_ns, message->stamp_ns, memory_order_relaxed);
    struct srvlua_event_data data = {.event = SRVLUA_ON_RECEIVE,
                                     .fd = (int64_t)message->id,
                                     .reactor_id = message->value,
                                     .data = message->payload,
                                     .length = message->length,
                                     .dispatch_time = (double)message->stamp_ns / 1e9};
    run_port_event(server, session->port, message->id, &data);
    sv_worker_count_request(&server->rt);
}

static void on_packet(srvlua_server *server, const struct sv_message *message) {
    struct sv_packet_head head;
    char address[SV_ADDRESS_TEXT_SIZE];
    if (message->length < sizeof head || message->value < 0 || (size_t)message->value >= server->port_count) return;
    memcpy(&head, message->payload, sizeof head);
    if (head.address_length >= sizeof address || message->length < sizeof head + head.address_length) return;
    memcpy(address, message->payload + sizeof head, head.address_length);
    address[head.address_length] = '\0';
    uint16_t port = (uint16_t)message->value;
    struct srvlua_event_data data = {.event = SRVLUA_ON_PACKET,
                                     .data = message->payload + sizeof head + head.address_length,
                                     .length = message->length - sizeof head - head.address_length,
                                     .dispatch_time = (double)message->stamp_ns / 1e9,
                                     .address = address,
                                     .peer_port = head.peer_port,
                                     .server_socket = head.server_socket,
                                     .server_port = server->rules[port].number};
    run_port_event(server, port, 0, &data);
    sv_worker_count_request(&server->rt);
}

static void on_connection_event(srvlua_server *server, const struct sv_message *message, enum srvlua_event event) {
    struct sv_session *session = sv_session_find(&server->rt.sessions, message->id);
    if (!session || sv_session_get_state(session) == SV_SESSION_FREE) return;
    if (event != SRVLUA_ON_CONNECT && sv_session_flags(session) & (SV_SESSION_CLOSE_ASKED | SV_SESSION_CLOSE_FIRED)) return;
    if (event == SRVLUA_ON_CONNECT && message->length) sv_tls_sessions_add(&server->tls_sessions, message->id, message->payload, message->length);
    struct srvlua_event_data data = {.event = event, .fd = (int64_t)message->id, .reactor_id = message->value};
    run_port_event(server, session->port, message->id, &data);
}

void sv_events_deliver(void *context, const struct sv_message *message) {
    srvlua_server *server = context;
    switch (message->type) {
        case SV_RECORD_RECEIVE: on_receive(server, message); break;
        case SV_RECORD_PACKET: on_packet(server, message); break;
        case SV_RECORD_CONNECT: on_connection_event(server, message, SRVLUA_ON_CONNECT); break;
        case SV_RECORD_CLOSED: on_closed(server, message); break;
        case SV_RECORD_GONE: sv_tls_sessions_remove(&server->tls_sessions, message->id); break;
        case SV_RECORD_BUFFER_FULL: on_connection_event(server, message, SRVLUA_ON_BUFFER_FULL); break;
        case SV_RECORD_BUFFER_EMPTY: on_connection_event(server, message, SRVLUA_ON_BUFFER_EMPTY); break;
        case SV_RECORD_OUTPUT_LOW: sv_output_wait_end(server, message->id); break;
        default: break; /* no other types below BUFFER_EMPTY */
    }
}
