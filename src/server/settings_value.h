/* settings_value.h: one setting's value, read as its row of the table says (settings.md 0.3).
 *
 * runs in: the process that builds the server, before start(). */
#ifndef SV_SERVER_SETTINGS_VALUE_H
#define SV_SERVER_SETTINGS_VALUE_H

#include "server/settings_table.h"

/* Only the members that the row's type needs are set. Owns what it points to, unless it is a default. */
struct sv_setting_value {
    double number; /* all numbers, booleans, enums */
    char *text;    /* strings, paths, bytecode; ends with a NUL that is not counted */
    size_t length;
    const void *function;
    struct sv_string_list strings;
    struct sv_int_list integers;
    struct sv_certificate_map certificates;
};

/* Reads `given`. 0; -505 with `problem` saying "expected ..., got ..."; -501. */
int sv_setting_value_read(struct sv_setting_value *value, const struct sv_setting_row *row,
                          const struct srvlua_value *given, char *problem, size_t size);
void sv_setting_value_free(struct sv_setting_value *value);
/* Deep copy: 0, or -501 with nothing to free. */
int sv_setting_value_copy(struct sv_setting_value *to, const struct sv_setting_value *from);

/* The default as a value that owns nothing: not to be freed. */
struct sv_setting_value sv_setting_value_default(const struct sv_setting_row *row);
bool sv_setting_value_equals(const struct sv_setting_value *one, const struct sv_setting_value *other);

/* ssl_protocols: it names versions that are never offered. */
bool sv_setting_has_old_tls(const struct srvlua_value *given);

/* What the row accepts, in words: "integer 1..65535". */
void sv_setting_describe(const struct sv_setting_row *row, char *text, size_t size);

#endif
