/* port_check.c: what start() has to say of the ports' settings once it is settled which ports inherit them: two framings at once,
 * settings whose switch is off, settings that no socket with them can use (settings.md 0.2, 1.10). runs in: start(). */
#include <stdio.h>
#include <string.h>

#include "base/errors.h"
#include "server/server.h"
#include "server/settings_table.h"

enum kind { KIND_TCP = 1, KIND_STREAM = 2, KIND_ANY = 4, KIND_TLS = 8 }; /* of sockets, as far as settings make a difference */

static unsigned kinds_of(const struct srvlua_port *port) {
    unsigned kinds = KIND_ANY;
    if (sv_port_has_streams(port)) kinds |= KIND_STREAM;
    if (sv_type_is_stream(port->type) && !sv_type_is_unix(port->type)) kinds |= KIND_TCP;
    if (port->has_ssl) kinds |= KIND_TLS;
    return kinds;
}

/* The ports that have their settings from `port`: itself and, if it is the primary one, those without settings of their own. */
static bool is_of(const struct srvlua_port *source, const struct srvlua_port *port) {
    return port == source || (source->index == 0 && !port->has_own_settings);
}

static bool is_source(const struct srvlua_port *port) {
    return port->index == 0 || port->has_own_settings;
}

static unsigned kinds_with(const srvlua_server *server, const struct srvlua_port *source) {
    unsigned kinds = 0;
    for (size_t i = 0; i < server->port_count; i++)
        if (is_of(source, server->ports[i])) kinds |= kinds_of(server->ports[i]);
    return kinds;
}

/* ------------------------------------------------------------------------------------------- settings without effect */

static enum kind kind_for(const struct sv_setting_row *row) {
    switch (row->group) {
        case SV_GROUP_TCP: return KIND_TCP;
        case SV_GROUP_TLS: return KIND_TLS;
        case SV_GROUP_BUFFERS: return strncmp(row->name, "kernel_", 7) == 0 ? KIND_ANY : KIND_STREAM;
        case SV_GROUP_FRAMING: return strcmp(row->name, "package_max_length") == 0 ? KIND_ANY : KIND_STREAM; /* tasks heed it, too */
        default: return KIND_STREAM;
    }
}

static void tell_useless(srvlua_server *server, const struct srvlua_port *source) {
    static const char *const owners[] = {[KIND_TCP] = "TCP sockets", [KIND_STREAM] = "stream sockets"};
    unsigned kinds = kinds_with(server, source);
    bool has_told_tls = false;
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        if (row->scope != SV_SCOPE_PORT || row->flags & SV_SETTING_NO_EFFECT) continue;
        enum kind kind = kind_for(row);
        if (kinds & kind || !sv_port_setting_is_given(&source->effective, row->name)) continue;
        if (kind != KIND_TLS)
            sv_log_write(&server->log, SRVLUA_LOG_NOTICE, "setting '%s' has no effect on %s: it is for %s", row->name,
                         sv_port_name(source).text, owners[kind]);
        else if (!has_told_tls)
            sv_log_write(&server->log, SRVLUA_LOG_NOTICE, "the ssl_ settings have no effect on %s: it was made without SSL",
                         sv_port_name(source).text);
        has_told_tls |= kind == KIND_TLS;
    }
}

/* ----------------------------------------------------------------------------------------------------------- framing */

static void warn_of_two_framings(srvlua_server *server, const struct srvlua_port *source) {
    const char *names[SV_FRAMING_SWITCHES];
    char list[160] = "";
    size_t count = sv_framing_switches(&source->effective, names);
    if (count < 2 || !(kinds_with(server, source) & KIND_STREAM)) return;
    for (size_t i = 0; i < count; i++) {
        size_t used = strlen(list);
        snprintf(list + used, sizeof list - used, "%s%s", i == 0 ? "" : i + 1 < count ? ", " : " and ", names[i]);
    }
    sv_log_write(&server->log, SRVLUA_LOG_WARNING, "%s: %s are on; packets are framed by %s", sv_port_name(source).text, list, names[0]);
}

/* ------------------------------------------------------------------------------------ settings that wait for another */

static void tell_idle(srvlua_server *server, const struct srvlua_port *source) {
    const struct sv_port_settings *settings = &source->effective;
    bool has_eof = settings->open_eof_split || settings->open_eof_check;
    const struct {
        const char *name;
        bool is_used;
        const char *needed;
        unsigned kinds;
    } rows[] = {
        {"package_eof", has_eof, "open_eof_split", KIND_STREAM},
        {"package_length_type", settings->open_length_check, "open_length_check", KIND_STREAM},
        {"package_length_offset", settings->open_length_check, "open_length_check", KIND_STREAM},
        {"package_body_offset", settings->open_length_check, "open_length_check", KIND_STREAM},
        {"package_length_func", settings->open_length_check, "open_length_check", KIND_STREAM},
        {"proxy_protocol_trusted", settings->open_proxy_protocol, "open_proxy_protocol", KIND_STREAM},
        {"ssl_cafile", settings->ssl_verify_peer, "ssl_verify_peer", KIND_TLS},
        {"ssl_capath", settings->ssl_verify_peer, "ssl_verify_peer", KIND_TLS},
        {"ssl_verify_depth", settings->ssl_verify_peer, "ssl_verify_peer", KIND_TLS},
        {"ssl_allow_self_signed", settings->ssl_verify_peer, "ssl_verify_peer", KIND_TLS},
    };
    unsigned kinds = kinds_with(server, source);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        if (!rows[i].is_used && kinds & rows[i].kinds &&
            sv_port_setting_is_given(settings, rows[i].name))
            sv_log_write(&server->log, SRVLUA_LOG_NOTICE, "setting '%s' has no effect on %s: %s is off", rows[i].name,
                         sv_port_name(source).text, rows[i].needed);
}

int sv_port_check(srvlua_server *server, struct srvlua_status *status) {
    for (size_t i = 0; i < server->port_count; i++) {
        const struct srvlua_port *port = server->ports[i];
        if (!is_source(port)) continue;
        tell_useless(server, port);
        warn_of_two_framings(server, port);
        tell_idle(server, port);
    }
    return sv_measurer_check(server, status);
}
