/* measurer.c: the user's own functions that tell how long packets are (package_length_func): a handle and a context for each
 * reactor and port, since no two reactors may share one.
 *
 * Made in start() before the first fork: in BASE mode each worker has copies of all and uses its own; this file knows no
 * language the functions are written in. runs in: start(); asking: reactor threads, BASE workers. */
#include "server/server.h"

#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errors.h"
#include "server/reactor_handle.h"

struct sv_measure { /* `length_context` of a reactor's rules of a port */
    struct srvlua_reactor reactor;
    srvlua_length_function call; /* NULL: the port has none */
    void (*free)(void *context); /* NULL: nothing to be freed */
    struct srvlua_status status; /* of the latest call: its message is the reason of a violation */
};

int srvlua_port_set_measurer(srvlua_port *port, const struct srvlua_measurer *measurer, struct srvlua_status *status) {
    int result = sv_check_call(port->server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if (measurer && !measurer->call)
        return sv_server_fail(port->server, status, SRVLUA_ERROR_INVALID_PARAMS, "a measurer needs a function to be called");
    port->measurer = measurer ? *measurer : (struct srvlua_measurer){0};
    return 0;
}

/* ------------------------------------------------------------------------------------------------------- life */

const struct srvlua_measurer *sv_measurer_of(const struct srvlua_port *port) {
    return &(port->has_own_settings ? port : port->server->ports[0])->measurer;
}

static bool needs_measurer(const struct srvlua_port *port) {
    return sv_port_has_streams(port) && sv_framing_is_by_function(port);
}

static srvlua_length_function function_of(const struct srvlua_port *port) {
    const struct sv_setting_function *setting = &port->effective.package_length_func;
    srvlua_length_function plain = NULL;
    if (!setting->function) return sv_measurer_of(port)->call;
    _Static_assert(sizeof plain == sizeof setting->function, "POSIX: a function fits an object pointer");
    memcpy(&plain, &setting->function, sizeof plain);
    return plain;
}

int sv_measurer_check(srvlua_server *server, struct srvlua_status *status) {
    for (size_t i = 0; i < server->port_count; i++)
        if (needs_measurer(server->ports[i]) && !function_of(server->ports[i]))
            return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS,
                           "bad setting 'package_length_func' of %s: nothing here runs its bytecode", sv_port_name(server->ports[i]).text);
    return 0;
}

static int open_measure(struct sv_measure *measure, srvlua_server *server, const struct srvlua_port *port, size_t reactor,
                        struct srvlua_status *status) {
    const struct srvlua_measurer *measurer = sv_measurer_of(port);
    bool is_plain = port->effective.package_length_func.function != NULL;
    measure->reactor = (struct srvlua_reactor){.server = server, .number = (uint32_t)reactor};
    if (!needs_measurer(port)) return 0;
    measure->call = function_of(port);
    if (is_plain || !measurer->make) return 0;
    int result = measurer->make(&measure->reactor, measurer->user_data, &measure->reactor.context, status);
    if (result)
        measure->reactor.context = NULL;
    else
        measure->free = measurer->free;
    return result;
}

int sv_measurer_open(srvlua_server *server, struct srvlua_status *status) {
    size_t reactors = (size_t)server->effective.reactor_num, ports = server->port_count, needed = 0;
    for (size_t i = 0; i < ports; i++) needed += needs_measurer(server->ports[i]);
    if (!needed) return 0;
    server->measures = calloc(reactors * ports, sizeof *server->measures);
    if (!server->measures) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    for (size_t i = 0; i < reactors * ports; i++) {
        int result = open_measure(&server->measures[i], server, server->ports[i % ports], i / ports, status);
        if (!result) continue;
        sv_measurer_close(server);
        return result;
    }
    return 0;
}

void sv_measurer_close(srvlua_server *server) {
    size_t count = (size_t)server->effective.reactor_num * server->port_count;
    for (size_t i = 0; server->measures && i < count; i++)
        if (server->measures[i].free && server->measures[i].reactor.context) server->measures[i].free(server->measures[i].reactor.context);
    free(server->measures);
    server->measures = NULL;
}

/* ------------------------------------------------------------------------------------------------------- asking */

void sv_measurer_fill(void *context, uint32_t reactor, uint16_t port, struct sv_framer_rules *rules) {
    srvlua_server *server = context;
    if (server->measures) rules->length_context = &server->measures[reactor * server->port_count + port];
}

int64_t sv_measurer_ask(void *context, const unsigned char *data, size_t length, const char **reason) {
    struct sv_measure *measure = context;
    struct srvlua_reactor *reactor = &measure->reactor;
    measure->status.code = 0;
    measure->status.message[0] = '\0';
    int64_t begin_ns = sv_now_ns();
    int64_t total = measure->call(reactor, reactor->context, data, length, &measure->status);
    sv_reactor_tell_slow(reactor, "package_length_func", &reactor->server->next_slow_measure_ns, begin_ns, sv_now_ns());
    if (total < 0 && measure->status.message[0]) *reason = measure->status.message;
    return total;
}
