/* framing.c: from the settings of a stream port to what its framer has to know (protocols.md 1.1). runs in: start(). */
#include <string.h>

#include "server/server.h"
#include "server/settings_table.h"

bool sv_port_has_streams(const struct srvlua_port *port) {
    return sv_type_is_stream(port->type) || port->has_ssl;
}

static const char *text_or_default(const char *text, const char *name) {
    return text ? text : sv_setting_find(name)->text;
}

size_t sv_framing_switches(const struct sv_port_settings *settings, const char *names[SV_FRAMING_SWITCHES]) {
    const struct {
        const char *name;
        bool is_on;
    } switches[SV_FRAMING_SWITCHES] = { /* in the order of precedence */
        {settings->open_eof_split ? "open_eof_split" : "open_eof_check", settings->open_eof_split || settings->open_eof_check},
        {"open_length_check", settings->open_length_check},
        {"open_mqtt_protocol", settings->open_mqtt_protocol},
        {"open_redis_protocol", settings->open_redis_protocol},
    };
    size_t count = 0;
    for (size_t i = 0; i < SV_FRAMING_SWITCHES; i++)
        if (switches[i].is_on) names[count++] = switches[i].name;
    return count;
}

static bool has_eof(const struct sv_port_settings *settings) {
    return settings->open_eof_split || settings->open_eof_check;
}

bool sv_framing_is_by_function(const struct srvlua_port *port) {
    const struct sv_port_settings *settings = &port->effective;
    const struct sv_setting_function *function = &settings->package_length_func;
    if (!settings->open_length_check || has_eof(settings)) return false;
    return function->function || function->bytecode || sv_measurer_of(port)->call;
}

static sv_framer choose(const struct srvlua_port *port) {
    const struct sv_port_settings *settings = &port->effective;
    if (settings->open_eof_split) return sv_frame_eof_split;
    if (settings->open_eof_check) return sv_frame_eof_check;
    if (sv_framing_is_by_function(port)) return sv_frame_function;
    if (settings->open_length_check) return sv_frame_length;
    if (settings->open_mqtt_protocol) return sv_frame_mqtt;
    return settings->open_redis_protocol ? sv_frame_redis : NULL;
}

static void fill_eof(struct sv_framer_rules *rules, const struct sv_port_settings *settings) {
    const char *usual = sv_setting_find("package_eof")->text;
    const struct sv_bytes *eof = &settings->package_eof;
    rules->eof_length = (uint8_t)(eof->bytes ? eof->length : strlen(usual));
    memcpy(rules->eof, eof->bytes ? eof->bytes : usual, rules->eof_length);
}

void sv_framing_fill(struct sv_framer_rules *rules, const struct srvlua_port *port) {
    const struct sv_port_settings *settings = &port->effective;
    *rules = (struct sv_framer_rules){.max_length = (uint32_t)settings->package_max_length};
    if (!sv_port_has_streams(port)) return;
    rules->next = choose(port);
    rules->length_type = *text_or_default(settings->package_length_type, "package_length_type");
    rules->length_offset = (uint32_t)settings->package_length_offset;
    rules->body_offset = (uint32_t)settings->package_body_offset;
    if (rules->next == sv_frame_function) rules->length_function = sv_measurer_ask; /* each reactor adds its context */
    fill_eof(rules, settings);
}
