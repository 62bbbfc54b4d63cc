/* settings.c: the settings of a server and of a port: made, copied, changed by one set call, read.
 * runs in: the process that builds the server, before start(); reading: anywhere. */
#include "server/settings.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errors.h"
#include "server/certificates.h"
#include "server/settings_table.h"
#include "server/settings_value.h"

#define SMALLEST_PACKAGE_LIMIT 65536

#define SWAP(one, other)                                                                                               \
    do {                                                                                                               \
        __typeof__(one) swapped = one;                                                                                 \
        one = other;                                                                                                   \
        other = swapped;                                                                                               \
    } while (0)

/* -------------------------------------------------------------------------------------------------- fields by table */

static void *field_of(const struct sv_setting_row *row, const void *settings) { return (char *)settings + row->offset; }

static bool is_field_of(const struct sv_setting_row *row, enum sv_setting_scope scope) {
    return row->scope == scope && row->offset != SV_SETTING_NOT_STORED;
}

/* Moves the value into the field, which owns what the value owned then. What the field owned before is not freed. */
static void store(const struct sv_setting_row *row, void *field, const struct sv_setting_value *value) {
    switch (row->type) {
    case SV_SETTING_BOOL:
        *(bool *)field = value->number != 0;
        break;
    case SV_SETTING_NUMBER:
    case SV_SETTING_SECONDS:
        *(double *)field = value->number;
        break;
    case SV_SETTING_STRING:
    case SV_SETTING_PATH:
        if (row->flags & SV_SETTING_BINARY)
            *(struct sv_bytes *)field = (struct sv_bytes){value->text, value->length};
        else
            *(char **)field = value->text;
        break;
    case SV_SETTING_FUNCTION:
        *(struct sv_setting_function *)field = (struct sv_setting_function){
            .function = value->function, .bytecode = value->text, .length = value->length};
        break;
    case SV_SETTING_INT_LIST:
        *(struct sv_int_list *)field = value->integers;
        break;
    case SV_SETTING_STRING_LIST:
    case SV_SETTING_STRING_OR_LIST:
        *(struct sv_string_list *)field = value->strings;
        break;
    case SV_SETTING_CERTIFICATES:
        *(struct sv_certificate_map *)field = value->certificates;
        break;
    default:
        *(int64_t *)field = (int64_t)value->number;
        break;
    }
}

/* The field as a value; what it points to still belongs to the field. */
static struct sv_setting_value load(const struct sv_setting_row *row, const void *field) {
    struct sv_setting_value value = {0};
    switch (row->type) {
    case SV_SETTING_BOOL:
        value.number = *(const bool *)field;
        break;
    case SV_SETTING_NUMBER:
    case SV_SETTING_SECONDS:
        value.number = *(const double *)field;
        break;
    case SV_SETTING_STRING:
    case SV_SETTING_PATH:
        if (row->flags & SV_SETTING_BINARY) {
            value.text = ((const struct sv_bytes *)field)->bytes;
            value.length = ((const struct sv_bytes *)field)->length;
            break;
        }
        value.text = *(char *const *)field;
        value.length = value.text ? strlen(value.text) : 0;
        break;
    case SV_SETTING_FUNCTION:
        value.function = ((const struct sv_setting_function *)field)->function;
        value.text = ((const struct sv_setting_function *)field)->bytecode;
        value.length = ((const struct sv_setting_function *)field)->length;
        break;
    case SV_SETTING_INT_LIST:
        value.integers = *(const struct sv_int_list *)field;
        break;
    case SV_SETTING_STRING_LIST:
    case SV_SETTING_STRING_OR_LIST:
        value.strings = *(const struct sv_string_list *)field;
        break;
    case SV_SETTING_CERTIFICATES:
        value.certificates = *(const struct sv_certificate_map *)field;
        break;
    default:
        value.number = (double)*(const int64_t *)field;
        break;
    }
    return value;
}

/* `settings` was zeroed: strings and lists stay empty, which reads as their default. */
static void init_fields(enum sv_setting_scope scope, void *settings) {
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        struct sv_setting_value value = {.number = row->number};
        if (is_field_of(row, scope))
            store(row, field_of(row, settings), &value);
    }
}

static void free_fields(enum sv_setting_scope scope, void *settings) {
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        if (!is_field_of(row, scope))
            continue;
        struct sv_setting_value value = load(row, field_of(row, settings));
        sv_setting_value_free(&value);
    }
}

/* `to` was zeroed. 0, or -501 with nothing owned by `to`. */
static int copy_fields(enum sv_setting_scope scope, void *to, const void *from) {
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        struct sv_setting_value value, copy;
        if (!is_field_of(row, scope))
            continue;
        value = load(row, field_of(row, from));
        if (sv_setting_value_copy(&copy, &value) < 0) {
            free_fields(scope, to);
            return -SRVLUA_ERROR_MALLOC_FAIL;
        }
        store(row, field_of(row, to), &copy);
    }
    return 0;
}

static void set_given(struct sv_settings_given *given, const struct sv_setting_row *row) {
    size_t index = (size_t)(row - sv_setting_rows);
    given->bits[index / 64] |= UINT64_C(1) << index % 64;
}

static bool is_given(const struct sv_settings_given *given, const char *name) {
    const struct sv_setting_row *row = sv_setting_find(name);
    size_t index = row ? (size_t)(row - sv_setting_rows) : 0;
    return row && (given->bits[index / 64] >> index % 64 & 1);
}

/* ------------------------------------------------------------------------------------------------------ the structs */

void sv_server_settings_init(struct sv_server_settings *settings) {
    memset(settings, 0, sizeof *settings);
    init_fields(SV_SCOPE_SERVER, settings);
}

void sv_port_settings_init(struct sv_port_settings *settings) {
    memset(settings, 0, sizeof *settings);
    init_fields(SV_SCOPE_PORT, settings);
}

void sv_server_settings_free(struct sv_server_settings *settings) {
    free_fields(SV_SCOPE_SERVER, settings);
    memset(settings, 0, sizeof *settings);
}

void sv_port_settings_free(struct sv_port_settings *settings) {
    free_fields(SV_SCOPE_PORT, settings);
    sv_tls_bytes_free(&settings->certificates);
    memset(settings, 0, sizeof *settings);
}

int sv_server_settings_copy(struct sv_server_settings *to, const struct sv_server_settings *from) {
    struct sv_server_settings copy = {.given = from->given};
    int result = copy_fields(SV_SCOPE_SERVER, &copy, from);
    if (result < 0)
        return result;
    sv_server_settings_free(to);
    *to = copy;
    return 0;
}

int sv_port_settings_copy(struct sv_port_settings *to, const struct sv_port_settings *from) {
    struct sv_port_settings copy = {.given = from->given};
    int result = copy_fields(SV_SCOPE_PORT, &copy, from);
    if (result == 0 && sv_certificates_copy(&copy.certificates, from->certificates.data, from->certificates.length) < 0) {
        sv_port_settings_free(&copy);
        result = -SRVLUA_ERROR_MALLOC_FAIL;
    }
    if (result < 0)
        return result;
    sv_port_settings_free(to);
    *to = copy;
    return 0;
}

bool sv_server_setting_is_given(const struct sv_server_settings *settings, const char *name) {
    return is_given(&settings->given, name);
}

bool sv_port_setting_is_given(const struct sv_port_settings *settings, const char *name) {
    return is_given(&settings->given, name);
}

/* ----------------------------------------------------------------------------------------------------- one set call */

/* A set call works on copies, which replace the originals when everything was found good. */
struct call {
    struct sv_server_settings server; /* unused at port level */
    struct sv_port_settings port;
    bool is_port_level, is_tls;
    struct sv_settings_given given; /* by this call */
    const struct srvlua_setting *settings;
    size_t count;
    struct srvlua_status *status;
};

static int bad_setting(struct srvlua_status *status, const char *name, const char *problem) {
    return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "bad setting '%s': %s", name, problem);
}

static int out_of_memory(struct srvlua_status *status) {
    return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "%s", srvlua_strerror(SRVLUA_ERROR_MALLOC_FAIL));
}

static int read_setting(struct call *call, const struct sv_setting_row *row, const struct srvlua_setting *setting,
                        struct sv_setting_value *value) {
    char problem[sizeof call->status->message];
    int result = sv_setting_value_read(value, row, &setting->value, problem, sizeof problem);
    if (result == -SRVLUA_ERROR_MALLOC_FAIL)
        return out_of_memory(call->status);
    return result < 0 ? bad_setting(call->status, setting->name, problem) : 0;
}

/* What is not built yet may be given only as what it is without it. */
static int check_supported(struct call *call, const struct sv_setting_row *row, const struct sv_setting_value *value) {
    struct sv_setting_value usual = sv_setting_value_default(row);
    const char *needs = row->later;

    if (row->type == SV_SETTING_ENUM)
        for (const struct sv_setting_choice *choice = row->choices; choice->name && !needs; choice++)
            if (choice->number == (int)value->number && choice->later)
                return sv_fail(call->status, SRVLUA_ERROR_INVALID_PARAMS,
                               "setting '%s' = '%s' is not supported yet: needs %s", row->name, choice->name,
                               choice->later);
    bool can_be_off = row->type == SV_SETTING_BOOL || (row->flags & SV_SETTING_ZERO_IS_OFF);
    if (!needs || sv_setting_value_equals(value, &usual) || (can_be_off && value->number == 0))
        return 0;
    return sv_fail(call->status, SRVLUA_ERROR_INVALID_PARAMS, "setting '%s' is not supported yet: needs %s", row->name,
                   needs);
}

/* Two names of one setting in one call must agree. */
static int check_aliases(struct call *call, const struct sv_setting_row *row, size_t index,
                         const struct sv_setting_value *value) {
    for (size_t i = 0; i < index; i++) {
        const struct srvlua_setting *other = &call->settings[i];
        struct sv_setting_value other_value;
        if (sv_setting_find(other->name) != row)
            continue;
        int result = read_setting(call, row, other, &other_value);
        if (result < 0)
            return result;
        bool agree = sv_setting_value_equals(value, &other_value);
        sv_setting_value_free(&other_value);
        if (!agree)
            return sv_fail(call->status, SRVLUA_ERROR_INVALID_PARAMS,
                           "bad setting '%s': '%s' is the same setting and has another value",
                           call->settings[index].name, other->name);
    }
    return 0;
}

static void keep(struct call *call, const struct sv_setting_row *row, struct sv_setting_value *value) {
    bool is_port = row->scope == SV_SCOPE_PORT;
    void *settings = is_port ? (void *)&call->port : (void *)&call->server;

    set_given(&call->given, row);
    set_given(is_port ? &call->port.given : &call->server.given, row);
    if (row->offset == SV_SETTING_NOT_STORED) {
        sv_setting_value_free(value);
        return;
    }
    void *field = field_of(row, settings);
    struct sv_setting_value old = load(row, field);
    sv_setting_value_free(&old);
    if (value->length == 0 && (row->type == SV_SETTING_STRING || row->type == SV_SETTING_PATH))
        sv_setting_value_free(value); /* '' stands for the default */
    store(row, field, value);
}

/* Unknown names are no error and are left for tell_about(). */
static int take_setting(struct call *call, size_t index) {
    const struct srvlua_setting *setting = &call->settings[index];
    struct sv_setting_value value;

    if (!setting->name)
        return sv_fail(call->status, SRVLUA_ERROR_INVALID_PARAMS, "bad settings: expected names, got a list");
    const struct sv_setting_row *row = sv_setting_find(setting->name);
    const char *refusal = row ? NULL : sv_setting_refusal(setting->name);
    if (refusal)
        return sv_fail(call->status, SRVLUA_ERROR_INVALID_PARAMS, "setting '%s' is not supported: %s", setting->name,
                       refusal);
    if (!row)
        return 0;
    if (call->is_port_level && row->scope == SV_SCOPE_SERVER)
        return bad_setting(call->status, setting->name, "it is a server setting, not one of a port");

    int result = read_setting(call, row, setting, &value);
    if (result < 0)
        return result;
    result = check_aliases(call, row, index, &value);
    if (result == 0)
        result = check_supported(call, row, &value);
    if (result < 0) {
        sv_setting_value_free(&value);
        return result;
    }
    keep(call, row, &value);
    return 0;
}

/* What one value alone cannot say. */
static int check_together(const struct call *call) {
    const struct sv_server_settings *server = &call->server;
    if (call->is_port_level)
        return 0;
    if (server->hang_timeout > 0 && server->hang_timeout < server->hang_warning)
        return bad_setting(call->status, "hang_timeout", "expected 0 or at least hang_warning");
    if (server->task_hang_timeout > 0 && server->task_hang_timeout < server->task_hang_warning)
        return bad_setting(call->status, "task_hang_timeout", "expected 0 or at least task_hang_warning");
    return 0;
}

static bool gives_files(const struct call *call) {
    static const char *const names[] = {"ssl_cert_file", "ssl_key_file", "ssl_passphrase", "ssl_sni_certs",
                                        "ssl_client_cert_file", "ssl_cafile", "ssl_capath"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        if (is_given(&call->given, names[i]))
            return true;
    return false;
}

/* Certificates are judged as soon as all that is needed is named, and their bytes kept: privileges may drop later. */
static int read_certificates(struct call *call) {
    struct sv_port_settings *port = &call->port;
    if (!gives_files(call))
        return 0;
    sv_tls_bytes_free(&port->certificates);
    if (!port->ssl_cert_file || !port->ssl_key_file)
        return 0;
    int result = sv_certificates_read(port, &port->certificates, call->is_tls ? call->status : NULL);
    if (result == 0 || !call->is_tls)
        return 0; /* a port with TLS that inherits it is judged in start() */
    if (call->status && result != -SRVLUA_ERROR_MALLOC_FAIL)
        call->status->code = SRVLUA_ERROR_INVALID_PARAMS;
    return result == -SRVLUA_ERROR_MALLOC_FAIL ? result : -SRVLUA_ERROR_INVALID_PARAMS;
}

/* Opening the file is the last thing that can fail: nothing has to be undone after it. */
static int open_log(const struct call *call, const struct sv_server_settings *before, struct sv_log_sink *sink) {
    const struct sv_server_settings *now = &call->server;
    char problem[sizeof call->status->message];

    if (is_given(&call->given, "log_rotation"))
        sv_log_sink_set_rotation(sink, (enum sv_log_rotation)now->log_rotation);
    if (!is_given(&call->given, "log_file"))
        return 0;
    int result = sv_log_sink_open(sink, now->log_file);
    if (result == 0)
        return 0;
    sv_log_sink_set_rotation(sink, (enum sv_log_rotation)before->log_rotation);
    snprintf(problem, sizeof problem, "cannot open '%.100s': %s", now->log_file, strerror(-result));
    return bad_setting(call->status, "log_file", problem);
}

static void configure_log(const struct call *call, struct sv_log_sink *sink) {
    const struct sv_server_settings *now = &call->server;
    const struct sv_setting_row *date_row = sv_setting_find("log_date_format");

    if (is_given(&call->given, "log_level") || is_given(&call->given, "debug_mode"))
        sv_log_sink_set_level(sink, now->debug_mode ? SRVLUA_LOG_DEBUG : (enum srvlua_log_level)now->log_level);
    if (is_given(&call->given, "log_format"))
        sv_log_sink_set_json(sink, now->log_format == SV_LOG_JSON);
    if (is_given(&call->given, "display_errors"))
        sv_log_sink_set_display_errors(sink, now->display_errors);
    if (is_given(&call->given, "log_date_format") || is_given(&call->given, "log_date_with_microseconds"))
        sv_log_sink_set_date_format(
            sink, now->log_date_format ? now->log_date_format : date_row->text,
            now->log_date_with_microseconds); /* was checked, but for memory: then the old stays */
}

static void tell_about_tls(const struct call *call, struct sv_log *log) {
    for (size_t i = 0; i < call->count; i++) {
        const struct sv_setting_row *row = sv_setting_find(call->settings[i].name);
        if (row && row->type == SV_SETTING_TLS_VERSIONS && sv_setting_has_old_tls(&call->settings[i].value))
            sv_log_write(log, SRVLUA_LOG_WARNING, "setting 'ssl_protocols': versions before TLSv1.2 are never offered");
    }
    if (is_given(&call->given, "ssl_prefer_server_ciphers") && !call->port.ssl_prefer_server_ciphers &&
        !sv_tls_library_follows_client())
        sv_log_write(log, SRVLUA_LOG_NOTICE,
                     "setting 'ssl_prefer_server_ciphers' = false has no effect: with this library the server's order decides");
}

static void tell_about(const struct call *call, struct sv_log *log) {
    tell_about_tls(call, log);
    for (size_t i = 0; i < call->count; i++) {
        const char *name = call->settings[i].name;
        const struct sv_setting_row *row = sv_setting_find(name);
        const char *nearest = row ? NULL : sv_setting_nearest(name, call->is_port_level);
        if (nearest)
            sv_log_write(log, SRVLUA_LOG_WARNING, "unknown setting '%s'; nearest is '%s'", name, nearest);
        else if (!row)
            sv_log_write(log, SRVLUA_LOG_WARNING, "unknown setting '%s'", name);
        else if (row->flags & SV_SETTING_NO_EFFECT)
            sv_log_write(log, SRVLUA_LOG_NOTICE, "setting '%s' has no effect", name);
    }
}

/* The one setting whose adjustment needs nothing but itself; done here, so that every port has it. */
static void adjust_package_limit(struct sv_port_settings *port, struct sv_log *log) {
    if (port->package_max_length >= SMALLEST_PACKAGE_LIMIT)
        return;
    sv_log_write(log, SRVLUA_LOG_WARNING, "setting 'package_max_length' adjusted from %lld to %d",
                 (long long)port->package_max_length, SMALLEST_PACKAGE_LIMIT);
    port->package_max_length = SMALLEST_PACKAGE_LIMIT;
}

int sv_settings_apply(struct sv_server_settings *server, struct sv_port_settings *port, bool is_tls,
                      const struct srvlua_setting *settings, size_t count, struct sv_log *log,
                      struct srvlua_status *status) {
    struct call call = {
        .is_port_level = !server, .is_tls = is_tls, .settings = settings, .count = count, .status = status};
    int result = 0;

    if (sv_port_settings_copy(&call.port, port) < 0 || (server && sv_server_settings_copy(&call.server, server) < 0))
        result = out_of_memory(status);
    for (size_t i = 0; i < count && result == 0; i++)
        result = take_setting(&call, i);
    if (result == 0)
        result = check_together(&call);
    if (result == 0)
        result = read_certificates(&call);
    if (result == 0 && server)
        result = open_log(&call, server, log->sink);

    if (result == 0) {
        if (server)
            configure_log(&call, log->sink);
        tell_about(&call, log);
        if (server)
            SWAP(*server, call.server);
        SWAP(*port, call.port);
        adjust_package_limit(port, log);
        if (!server && is_given(&call.given, "backlog"))
            sv_settings_check_backlog(port, log);
    }
    sv_port_settings_free(&call.port);
    sv_server_settings_free(&call.server);
    return result;
}

/* ---------------------------------------------------------------------------------------------------------- reading */

/* How a value is shown outside. Lists are told by their number of entries only. */
static void show(const struct sv_setting_row *row, const struct sv_setting_value *from, struct srvlua_value *to) {
    *to = (struct srvlua_value){.type = SRVLUA_VALUE_NIL};
    switch (row->type) {
    case SV_SETTING_BOOL:
        to->type = SRVLUA_VALUE_BOOLEAN;
        to->boolean = from->number != 0;
        return;
    case SV_SETTING_STRING:
    case SV_SETTING_PATH:
        if (!from->text)
            return;
        to->type = SRVLUA_VALUE_STRING;
        to->string = from->text;
        to->length = from->length;
        return;
    case SV_SETTING_FUNCTION:
        if (!from->function && !from->text)
            return;
        to->type = SRVLUA_VALUE_FUNCTION;
        to->function = from->function;
        to->string = from->text;
        to->length = from->length;
        return;
    case SV_SETTING_INT_LIST:
    case SV_SETTING_STRING_LIST:
    case SV_SETTING_STRING_OR_LIST:
    case SV_SETTING_PAIR_LIST:
        to->type = SRVLUA_VALUE_LIST;
        to->length = from->strings.count + from->integers.count;
        return;
    case SV_SETTING_CERTIFICATES:
        to->type = SRVLUA_VALUE_MAP;
        return;
    default:
        if (from->number == SV_DERIVE && (row->flags & SV_SETTING_DERIVED))
            return;
        to->type = SRVLUA_VALUE_NUMBER;
        to->number = from->number;
        return;
    }
}

int sv_settings_get(const struct sv_server_settings *server, const struct sv_port_settings *primary, const char *name,
                    struct srvlua_value *value) {
    const struct sv_setting_row *row = sv_setting_find(name);
    if (!row)
        return -SRVLUA_ERROR_INVALID_PARAMS;
    /* A setting without a field can only have its default so far. */
    struct sv_setting_value current = sv_setting_value_default(row);
    if (row->offset != SV_SETTING_NOT_STORED) {
        const void *settings = row->scope == SV_SCOPE_PORT ? (const void *)primary : (const void *)server;
        struct sv_setting_value stored = load(row, field_of(row, settings));
        if (stored.text || !current.text)
            current = stored;
    }
    show(row, &current, value);
    return 0;
}

const char *const *sv_settings_effective_names(void) {
    static const char *const names[] = {
        "worker_num", "task_worker_num", "reactor_num", "output_buffer_size", "max_connection", "dispatch_mode", NULL,
    };
    return names;
}
