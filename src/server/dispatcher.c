/* dispatcher.c: the user's own dispatch function: asked in the reactors, judged here (settings.md 3.2, 3.3).
 *
 * Contexts are made in start() before the first fork and used by one reactor thread each; this file knows no language they
 * are written in. runs in: start(); asking: reactor threads. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errors.h"
#include "server/reactor_handle.h"
#include "server/server.h"

int srvlua_set_dispatcher(srvlua_server *server, const struct srvlua_dispatcher *dispatcher, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if (dispatcher && !dispatcher->call)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "a dispatcher needs a function to be called");
    server->dispatcher = dispatcher ? *dispatcher : (struct srvlua_dispatcher){0};
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- life */

static srvlua_dispatch_function function_of(const srvlua_server *server, const struct sv_setting_function *setting) {
    srvlua_dispatch_function plain = NULL;
    if (!setting->function) return server->dispatcher.call;
    _Static_assert(sizeof plain == sizeof setting->function, "POSIX: a function fits an object pointer");
    memcpy(&plain, &setting->function, sizeof plain);
    return plain;
}

int sv_dispatcher_check(srvlua_server *server, struct srvlua_status *status) {
    const struct sv_setting_function *setting = &server->effective.dispatch_func;
    if (server->mode == SRVLUA_BASE) return 0;
    if (setting->bytecode && !setting->function && !server->dispatcher.call)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "bad setting 'dispatch_func': nothing here runs its bytecode");
    if (!function_of(server, setting) || !server->effective.send_yield) return 0;
    if (sv_server_setting_is_given(&server->effective, "send_yield"))
        sv_log_write(&server->log, SRVLUA_LOG_WARNING,
                     "setting 'send_yield' adjusted from true to false: with a dispatch_func a connection has no worker of its own");
    server->effective.send_yield = false;
    return 0;
}

static int make_context(struct srvlua_reactor *reactor, struct srvlua_status *status) {
    const struct srvlua_dispatcher *dispatcher = &reactor->server->dispatcher;
    if (reactor->server->effective.dispatch_func.function || !dispatcher->make) return 0;
    return dispatcher->make(reactor, dispatcher->user_data, &reactor->context, status);
}

int sv_dispatcher_open(srvlua_server *server, struct srvlua_status *status) {
    size_t count = (size_t)server->effective.reactor_num;
    server->dispatch = server->mode == SRVLUA_PROCESS ? function_of(server, &server->effective.dispatch_func) : NULL;
    if (!server->dispatch) return 0;
    server->reactors = calloc(count, sizeof *server->reactors);
    if (!server->reactors) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    for (size_t i = 0; i < count; i++) {
        struct srvlua_reactor *reactor = &server->reactors[i];
        *reactor = (struct srvlua_reactor){.server = server, .number = (uint32_t)i};
        int result = make_context(reactor, status);
        if (!result) continue;
        reactor->context = NULL;
        sv_dispatcher_close(server);
        return result;
    }
    return 0;
}

void sv_dispatcher_close(srvlua_server *server) {
    for (int64_t i = 0; server->reactors && i < server->effective.reactor_num; i++)
        if (server->reactors[i].context && server->dispatcher.free) server->dispatcher.free(server->reactors[i].context);
    free(server->reactors);
    server->reactors = NULL;
    server->dispatch = NULL;
}

/* ------------------------------------------------------------------------------------------------------- asking */

/* The type as users know it, -1 for what they are not asked about. */
static int type_of(uint16_t record) {
    switch (record) {
        case SV_RECORD_RECEIVE: return SRVLUA_DISPATCH_DATA;
        case SV_RECORD_PACKET: return SRVLUA_DISPATCH_PACKET;
        case SV_RECORD_CLOSED: return SRVLUA_DISPATCH_CLOSE;
        case SV_RECORD_CONNECT: return SRVLUA_DISPATCH_CONNECT;
        case SV_RECORD_BUFFER_FULL: return SRVLUA_DISPATCH_BUFFER_FULL;
        case SV_RECORD_BUFFER_EMPTY: return SRVLUA_DISPATCH_BUFFER_EMPTY;
        default: return -1;
    }
}

static uint32_t crc32_of(const char *text) { /* the polynomial of zlib and Ethernet; short texts, so no table */
    uint32_t crc = UINT32_MAX;
    for (; *text; text++) {
        crc ^= (unsigned char)*text;
        for (int bit = 0; bit < 8; bit++) crc = crc >> 1 ^ (crc & 1 ? 0xEDB88320u : 0);
    }
    return ~crc;
}

static int64_t number_of_address(const struct sv_address *address) {
    char text[SV_ADDRESS_TEXT_SIZE];
    int port;
    if (address->u.base.sa_family == AF_INET) {
        unsigned char bytes[4];
        memcpy(bytes, &address->u.in.sin_addr, sizeof bytes);
        return bytes[0] | bytes[1] << 8 | bytes[2] << 16 | (int64_t)bytes[3] << 24;
    }
    sv_address_text(address, text, &port);
    return crc32_of(text);
}

static int32_t failed(struct srvlua_reactor *reactor, int64_t now_ns, const struct srvlua_status *status) {
    srvlua_server *server = reactor->server;
    sv_count(&sv_inbox_of(&server->rt.ipc, sv_endpoint_of_reactor(reactor->number))->counters, SV_COUNT_ERRORS, 1);
    if (sv_reactor_may_tell(&server->next_dispatch_error_ns, now_ns, SV_NS_PER_SECOND))
        srvlua_reactor_log(reactor, SRVLUA_LOG_ERROR, "dispatch_func failed, dispatch_mode decides: %s", status->message);
    return SRVLUA_USERFUNC_FALLBACK;
}

static int32_t no_worker(struct srvlua_reactor *reactor, int64_t now_ns, int32_t answer, const struct srvlua_status *status) {
    char number[16];
    snprintf(number, sizeof number, "%d", (int)answer);
    if (sv_reactor_may_tell(&reactor->server->next_dispatch_warning_ns, now_ns, SV_NS_PER_SECOND))
        srvlua_reactor_log(reactor, SRVLUA_LOG_WARNING, "dispatch_func returned %s, which is no worker: the event is dropped",
                           status->message[0] ? status->message : number);
    return SRVLUA_DISCARD_PACKET;
}

static int32_t judge(struct srvlua_reactor *reactor, int type, int64_t now_ns, int32_t answer, const struct srvlua_status *status) {
    if (answer >= 0 && answer < reactor->server->effective.worker_num) return answer;
    switch (answer) {
        case SRVLUA_DISCARD_PACKET:
        case SRVLUA_USERFUNC_FALLBACK: return answer;
        /* a function that always says so for a connection must not lose its close event */
        case SRVLUA_CLOSE_CONNECTION: return type == SRVLUA_DISPATCH_CLOSE ? SRVLUA_USERFUNC_FALLBACK : answer;
        case SRVLUA_DISPATCH_FAILED: return failed(reactor, now_ns, status);
        default: return no_worker(reactor, now_ns, answer, status);
    }
}

int32_t sv_dispatcher_ask(void *context, uint32_t number, const struct sv_connection *connection, const struct sv_address *from,
                          uint16_t record, const void *data, size_t length) {
    srvlua_server *server = context;
    struct srvlua_reactor *reactor = &server->reactors[number];
    struct srvlua_status status;
    int type = type_of(record);
    if (type < 0) return SRVLUA_USERFUNC_FALLBACK;
    struct srvlua_dispatch_event event = {
        .type = type, .fd = connection ? (int64_t)connection->id : number_of_address(from), .data = data, .length = length};
    status.code = 0;
    status.message[0] = '\0';
    int64_t begin_ns = sv_now_ns();
    int32_t answer = server->dispatch(reactor, reactor->context, &event, &status);
    int64_t now_ns = sv_now_ns();
    sv_reactor_tell_slow(reactor, "dispatch_func", &server->next_slow_dispatch_ns, begin_ns, now_ns);
    return judge(reactor, type, now_ns, answer, &status);
}
