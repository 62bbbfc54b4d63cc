/* server.c: making a server, its ports, callbacks and settings, and starting it. */
#include "server/server.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errors.h"
#include "net/inherited.h"

#define LISTENERS_MAX 60000
#define INHERITED_HOST "SYSTEMD" /* the host whose listeners are those of LISTEN_FDS */
#define ROLES_RUNNING (SRVLUA_ROLE_MASTER | SRVLUA_ROLE_MANAGER | SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK | SRVLUA_ROLE_USER)

/* ------------------------------------------------------------------------------------------------ failures, calls */

int sv_server_note(srvlua_server *server, int result) {
    if (result < 0) server->last_error = -result;
    return result;
}

static int vfail(srvlua_server *server, struct srvlua_status *status, int code, const char *format, va_list arguments) {
    server->last_error = code;
    if (status) {
        status->code = code;
        vsnprintf(status->message, sizeof status->message, format, arguments);
    }
    return -code;
}

int sv_server_fail(srvlua_server *server, struct srvlua_status *status, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfail(server, status, code, format, arguments);
    va_end(arguments);
    return -code;
}

int srvlua_fail(srvlua_server *server, struct srvlua_status *status, int code, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vfail(server, status, code, format, arguments);
    va_end(arguments);
    return -code;
}

int srvlua_last_error(const srvlua_server *server) {
    return server->last_error;
}

enum srvlua_role srvlua_get_role(const srvlua_server *server) {
    return server->is_running ? server->rt.role : SRVLUA_ROLE_BEFORE;
}

int srvlua_get_mode(const srvlua_server *server) {
    return server->mode;
}

int sv_check_call(srvlua_server *server, enum sv_call call, struct srvlua_status *status) {
    static const struct {
        int roles;
        int code; /* in a process that runs, but is not of these roles */
    } calls[] = {
        [SV_CALL_CONFIGURE] = {SRVLUA_ROLE_BEFORE, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_CONTROL] = {ROLES_RUNNING, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_STOP_SELF] = {SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_SEND] = {ROLES_RUNNING, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_SENDFILE] = {ROLES_RUNNING & ~SRVLUA_ROLE_MASTER, SRVLUA_ERROR_SERVER_SEND_IN_MASTER},
        [SV_CALL_SENDTO] = {ROLES_RUNNING, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_SENDWAIT] = {SRVLUA_ROLE_WORKER, SRVLUA_ERROR_OPERATION_NOT_SUPPORT},
        [SV_CALL_CONNECTION] = {ROLES_RUNNING, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_TASK] = {ROLES_RUNNING & ~SRVLUA_ROLE_TASK, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_TASK_WAIT] = {SRVLUA_ROLE_WORKER, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_FINISH] = {SRVLUA_ROLE_TASK, SRVLUA_ERROR_WRONG_OPERATION},
        [SV_CALL_MESSAGE] = {ROLES_RUNNING, SRVLUA_ERROR_WRONG_OPERATION},
    };
    int role = (int)srvlua_get_role(server);
    if (calls[call].roles & role) return 0;
    bool is_running = role != SRVLUA_ROLE_BEFORE && role != SRVLUA_ROLE_AFTER;
    int code = is_running ? calls[call].code : SRVLUA_ERROR_WRONG_OPERATION;
    const char *when = call == SV_CALL_CONFIGURE ? "this call is for before start()"
                       : is_running              ? "this call is not for this process"
                                                 : "the server is not running";
    return sv_server_fail(server, status, code, "%s", when);
}

/* ---------------------------------------------------------------------------------------------------------- ports */

static void free_port(struct srvlua_port *port, bool remove_file) {
    if (!port) return;
    sv_listener_close(&port->listener, remove_file);
    sv_port_settings_free(&port->settings);
    if (port->server->is_finished) sv_port_settings_free(&port->effective);
    sv_networks_free(&port->trusted);
    sv_networks_free(&port->exempt);
    free(port->host);
    free(port);
}

static int check_listener(srvlua_server *server, int port_number, int type, size_t host_length, struct srvlua_status *status) {
    if (port_number < 0 || port_number > 65535)
        return sv_server_fail(server, status, SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT, "port %d is outside 0..65535", port_number);
    if (!sv_type_is_valid(type)) return sv_server_fail(server, status, SRVLUA_ERROR_BAD_SOCKET_TYPE, "there is no socket type %d", type);
    if (type == (SRVLUA_SOCK_UNIX_DGRAM | SRVLUA_SSL))
        return sv_server_fail(server, status, SRVLUA_ERROR_BAD_SOCKET_TYPE, "there is no TLS on unix datagram sockets");
    if (server->port_count >= LISTENERS_MAX)
        return sv_server_fail(server, status, SRVLUA_ERROR_SERVER_TOO_MANY_LISTEN_PORT, "more than %d listeners", LISTENERS_MAX);
    if (host_length > SV_HOST_MAX)
        return sv_server_fail(server, status, SRVLUA_ERROR_NAME_TOO_LONG, "the host or path is longer than %d bytes", SV_HOST_MAX);
    return 0;
}

static bool is_bound_already(const srvlua_server *server, const struct sv_listener *listener) {
    for (size_t i = 0; i < server->port_count; i++)
        if (sv_listener_is_same(&server->ports[i]->listener, listener)) return true;
    return false;
}

/* A port without a socket that is not in the list yet; NULL without memory. The list has room for it. */
static struct srvlua_port *make_port(srvlua_server *server, const char *host, int type) {
    struct srvlua_port **grown = realloc(server->ports, (server->port_count + 1) * sizeof *grown);
    if (!grown) return NULL;
    server->ports = grown;
    struct srvlua_port *port = calloc(1, sizeof *port);
    if (!port) return NULL;
    port->server = server;
    port->index = (uint16_t)server->port_count;
    port->type = type & ~SRVLUA_SSL;
    port->has_ssl = type & SRVLUA_SSL;
    port->host = strdup(host);
    port->listener.fd = -1;
    sv_port_settings_init(&port->settings);
    if (port->host) return port;
    free_port(port, false);
    return NULL;
}

/* Makes a port and binds it. EADDRINUSE is kept for start() if `keep_in_use` says so. */
static int add_port(srvlua_server *server, const char *host, int port_number, int type, bool keep_in_use, struct srvlua_port **made,
                    struct srvlua_status *status) {
    int result = check_listener(server, port_number, type, strlen(host), status);
    if (result) return result;
    struct srvlua_port *port = make_port(server, host, type);
    if (!port) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    result = sv_listener_open(host, port_number, port->type, false, &port->listener, status);
    if (result == 0 && is_bound_already(server, &port->listener)) {
        sv_listener_close(&port->listener, false);
        result = sv_fail(status, EADDRINUSE, "%s:%d is a listener of this server already", host, port_number);
    }
    if (result == -EADDRINUSE && (keep_in_use || server->is_check_only)) result = 0;
    if (result) {
        free_port(port, true);
        return sv_server_note(server, result);
    }
    server->ports[server->port_count++] = port;
    *made = port;
    return 0;
}

/* The host of an inherited port: its address, with '@' for the NUL that begins a unix name outside of the file system. */
static void host_of(const struct sv_listener *listener, char host[SV_ADDRESS_TEXT_SIZE]) {
    const struct sockaddr_un *name = &listener->address.u.un;
    int number, length = (int)listener->address.length - (int)offsetof(struct sockaddr_un, sun_path) - 1;
    sv_address_text(&listener->address, host, &number);
    if (sv_type_is_unix(listener->type) && !*host && length > 0)
        snprintf(host, SV_ADDRESS_TEXT_SIZE, "@%.*s", length, name->sun_path + 1);
}

/* One inherited socket; what cannot be a port is left alone, with a warning. 0, or -501. */
static int add_inherited_port(srvlua_server *server, int fd, int type, struct srvlua_status *status) {
    struct sv_listener listener;
    char host[SV_ADDRESS_TEXT_SIZE];
    int result = sv_inherited_adopt(fd, &listener);
    if (result) {
        sv_log_write(&server->log, SRVLUA_LOG_WARNING, "descriptor %d of LISTEN_FDS cannot be a port: %s", fd, strerror(-result));
        return 0;
    }
    host_of(&listener, host);
    struct srvlua_port *port = make_port(server, host, listener.type | (type & SRVLUA_SSL));
    if (!port) {
        sv_listener_close(&listener, false);
        return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    }
    port->listener = listener;
    server->ports[server->port_count++] = port;
    return 0;
}

/* All sockets that the service manager passed become ports (methods.md 3). */
static int add_inherited_ports(srvlua_server *server, int type, struct srvlua_status *status) {
    int first = 0, result = check_listener(server, 0, type, 0, status);
    int count = sv_inherited_count(&first);
    for (int i = 0; result == 0 && i < count; i++) result = add_inherited_port(server, first + i, type, status);
    if (result || server->port_count) return result;
    return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "%s was given, but no usable socket was passed (LISTEN_PID, LISTEN_FDS)",
                          INHERITED_HOST);
}

int srvlua_add_listener(srvlua_server *server, const char *host, int port_number, int type, srvlua_port **port,
                        struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    return result ? result : add_port(server, host, port_number, type, false, port, status);
}

size_t srvlua_port_count(const srvlua_server *server) {
    return server->port_count;
}

srvlua_port *srvlua_get_port(const srvlua_server *server, size_t index) {
    return index < server->port_count ? server->ports[index] : NULL;
}

static int port_number_of(const struct srvlua_port *port) {
    char text[SV_ADDRESS_TEXT_SIZE];
    int number = 0;
    if (!sv_type_is_unix(port->type) && port->listener.address.length) sv_address_text(&port->listener.address, text, &number);
    return number > 0 ? number : 0;
}

void srvlua_port_get_info(const srvlua_port *port, struct srvlua_port_info *info) {
    info->host = port->host;
    info->port = port_number_of(port);
    info->type = port->type;
    info->ssl = port->has_ssl;
    info->socket = port->listener.fd;
}

struct sv_port_name sv_port_name(const struct srvlua_port *port) {
    struct sv_port_name name;
    const char *form = strchr(port->host, ':') ? "port [%.111s]:%d%s" : "port %.111s:%d%s";
    if (sv_type_is_unix(port->type))
        snprintf(name.text, sizeof name.text, "port %.111s", port->host);
    else
        snprintf(name.text, sizeof name.text, form, port->host, port_number_of(port), sv_type_is_dgram(port->type) ? "/udp" : "");
    return name;
}

/* Whether certificates in the settings of that port must be good: it, or one that may inherit them, speaks TLS. */
static bool is_tls(const struct srvlua_port *port) {
    const srvlua_server *server = port->server;
    for (size_t i = 0; port->index == 0 && i < server->port_count; i++)
        if (server->ports[i]->has_ssl && !server->ports[i]->has_own_settings) return true;
    return port->has_ssl;
}

int srvlua_port_set(srvlua_port *port, const struct srvlua_setting *settings, size_t count, struct srvlua_status *status) {
    srvlua_server *server = port->server;
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if (port->index == 0) { /* the primary port's are the server's defaults; the names must be port-level all the same */
        result = sv_settings_apply(NULL, &port->settings, is_tls(port), settings, count, &server->log, status);
        return sv_server_note(server, result);
    }
    result = sv_settings_apply(NULL, &port->settings, is_tls(port), settings, count, &server->log, status);
    if (result == 0) port->has_own_settings = true;
    return sv_server_note(server, result);
}

int srvlua_port_get_setting(const srvlua_port *port, const char *name, struct srvlua_value *value) {
    const srvlua_server *server = port->server;
    if (server->is_finished) return sv_settings_get(&server->effective, &port->effective, name, value);
    const struct srvlua_port *source = port->has_own_settings ? port : server->ports[0];
    return sv_settings_get(&server->settings, &source->settings, name, value);
}

int srvlua_port_on(srvlua_port *port, enum srvlua_event event, srvlua_callback callback, void *user_data, struct srvlua_status *status) {
    srvlua_server *server = port->server;
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if ((unsigned)event >= SRVLUA_EVENT_COUNT || !srvlua_event_is_port_level(event))
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "'%s' is not an event of a port", srvlua_event_name(event));
    port->callbacks[event] = (struct sv_callback){callback, user_data};
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- server */

srvlua_server *srvlua_new(const char *host, int port, int mode, int type, struct srvlua_status *status) {
    if (mode != SRVLUA_BASE && mode != SRVLUA_PROCESS) {
        sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is no mode %d", mode);
        return NULL;
    }
    srvlua_server *server = calloc(1, sizeof *server);
    if (server) server->sink = sv_log_sink_new();
    if (!server || !server->sink) {
        free(server);
        sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
        return NULL;
    }
    server->mode = mode;
    server->log = sv_log_view(server->sink, "master", -1);
    server->rt.slot = -1;
    sv_server_settings_init(&server->settings);
    struct srvlua_port *primary;
    bool is_inherited = strcmp(host, INHERITED_HOST) == 0 && port == 0;
    if (is_inherited ? add_inherited_ports(server, type, status) : add_port(server, host, port, type, true, &primary, status)) {
        srvlua_free(server);
        return NULL;
    }
    server->last_error = 0;
    return server;
}

void srvlua_free(srvlua_server *server) {
    if (!server) return;
    bool is_owner = !server->is_running || server->rt.role == SRVLUA_ROLE_AFTER;
    for (size_t i = 0; i < server->port_count; i++) free_port(server->ports[i], is_owner);
    free(server->ports);
    free(server->rules);
    free(server->users);
    sv_commands_free(server);
    sv_tls_sessions_free(&server->tls_sessions);
    if (server->is_finished) sv_server_settings_free(&server->effective);
    sv_server_settings_free(&server->settings);
    sv_log_sink_free(server->sink);
    free(server);
}

int srvlua_set(srvlua_server *server, const struct srvlua_setting *settings, size_t count, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    result = sv_settings_apply(&server->settings, &server->ports[0]->settings, is_tls(server->ports[0]), settings, count, &server->log, status);
    return sv_server_note(server, result);
}

int srvlua_get_setting(srvlua_server *server, const char *name, struct srvlua_value *value) {
    return server->is_finished ? sv_settings_get(&server->effective, &server->ports[0]->effective, name, value)
                               : sv_settings_get(&server->settings, &server->ports[0]->settings, name, value);
}

const char *const *srvlua_effective_settings(void) {
    return sv_settings_effective_names();
}

int srvlua_on(srvlua_server *server, enum srvlua_event event, srvlua_callback callback, void *user_data, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if ((unsigned)event >= SRVLUA_EVENT_COUNT) return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no such event");
    struct sv_callback *place =
        srvlua_event_is_port_level(event) ? &server->ports[0]->callbacks[event] : &server->callbacks[event];
    *place = (struct sv_callback){callback, user_data};
    return 0;
}

void srvlua_log(srvlua_server *server, enum srvlua_log_level level, const char *format, ...) {
    struct sv_log_sink *sink = server ? NULL : sv_log_sink_new();
    va_list arguments;
    if (!server && !sink) return;
    va_start(arguments, format);
    if (server) {
        sv_log_vwrite(&server->log, level, 0, 0, format, arguments);
    } else {
        struct sv_log log = sv_log_view(sink, "script", -1);
        sv_log_vwrite(&log, level, 0, 0, format, arguments);
    }
    va_end(arguments);
    sv_log_sink_free(sink);
}

srvlua_loop *srvlua_get_loop(srvlua_server *server) {
    return server->is_running && server->rt.loop.ev ? &server->rt.loop : NULL;
}
