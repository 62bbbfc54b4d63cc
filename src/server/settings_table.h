/* settings_table.h: the one list of settings. Parsing, checking, hints, docs/settings.md and the LuaLS definitions are
 * made from it; adding a setting is adding a row (and a field of settings.h, if something uses it).
 *
 * runs in: anywhere; constant. */
#ifndef SV_SERVER_SETTINGS_TABLE_H
#define SV_SERVER_SETTINGS_TABLE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "server/settings.h"

#define SV_SETTING_ALIASES 2
#define SV_SETTING_NOT_STORED (-1)
/* The largest numbers where a row sets no limit of its own. */
#define SV_SETTING_MOST_BYTES 1125899906842624.0 /* 1 PiB, exact in a double */
#define SV_SETTING_MOST_SECONDS 1e9              /* about 30 years: nanoseconds still fit 64 bits */

enum sv_setting_type {                            /* kept in settings.h as */
                       SV_SETTING_BOOL,           /* bool */
                       SV_SETTING_INT,            /* int64_t */
                       SV_SETTING_NUMBER,         /* double */
                       SV_SETTING_SECONDS,        /* double */
                       SV_SETTING_MILLISECONDS,   /* int64_t */
                       SV_SETTING_SIZE,           /* int64_t */
                       SV_SETTING_ENUM,           /* int64_t */
                       SV_SETTING_STRING,         /* char *; with SV_SETTING_BINARY struct sv_bytes */
                       SV_SETTING_PATH,           /* char *, absolute */
                       SV_SETTING_FUNCTION,       /* struct sv_setting_function */
                       SV_SETTING_INT_LIST,       /* struct sv_int_list */
                       SV_SETTING_STRING_LIST,    /* struct sv_string_list */
                       SV_SETTING_STRING_OR_LIST, /* struct sv_string_list: a list, or one string */
                       SV_SETTING_PAIR_LIST,      /* not kept: a list of two strings each, or a map with one entry */
                       SV_SETTING_CERTIFICATES,   /* struct sv_certificate_map */
                       SV_SETTING_FILE_MODE,      /* int64_t: a number, or octal digits as text */
                       SV_SETTING_TLS_VERSIONS    /* int64_t: bits, or a list of names */
};

enum sv_setting_scope { SV_SCOPE_SERVER, SV_SCOPE_PORT };

enum sv_setting_group {
    SV_GROUP_PROCESSES,
    SV_GROUP_DISPATCH,
    SV_GROUP_CONNECTIONS,
    SV_GROUP_BUFFERS,
    SV_GROUP_TASKS,
    SV_GROUP_LIFE_CYCLE,
    SV_GROUP_COROUTINES,
    SV_GROUP_LOG,
    SV_GROUP_TCP,
    SV_GROUP_FRAMING,
    SV_GROUP_TLS,
    SV_GROUP_HTTP,
    SV_GROUP_WEBSOCKET,
    SV_GROUP_HTTP2,
    SV_GROUP_STATISTICS,
    SV_GROUP_FAULTS,
    SV_GROUP_MEMORY,
    SV_GROUP_DEFENCE,
    SV_GROUP_ADMINISTRATION,
    SV_GROUP_COUNT
};

enum sv_setting_flag {
    SV_SETTING_ZERO_IS_OFF = 1,   /* `false` is accepted for 0 */
    SV_SETTING_OR_ZERO = 2,       /* 0 is legal besides min..max */
    SV_SETTING_DERIVED = 4,       /* the default follows from something else: SV_DERIVE until start() (if stored) */
    SV_SETTING_NO_EFFECT = 8,     /* accepted, one notice */
    SV_SETTING_BINARY = 16,       /* a string that may hold NUL */
    SV_SETTING_ONLY_PROCESS = 32, /* no effect in BASE mode */
    SV_SETTING_ONLY_BASE = 64     /* no effect in PROCESS mode */
};

struct sv_setting_choice {
    const char *name; /* NULL ends the list */
    int number;
    const char *later; /* what it waits for, NULL = usable; completes "... is not supported yet: needs " */
};

struct sv_setting_value;

struct sv_setting_row {
    const char *name; /* NULL ends the table */
    const char *aliases[SV_SETTING_ALIASES];
    enum sv_setting_group group;
    enum sv_setting_scope scope;
    enum sv_setting_type type;
    unsigned flags;          /* enum sv_setting_flag */
    double min, max;         /* numbers; bytes of strings and paths */
    int if_true;             /* numbers: what `true` stands for, 0 = refused */
    double number;           /* default of numbers and booleans */
    const char *text;        /* default of strings, NULL = none */
    const char *default_doc; /* for people, where number and text do not say it */
    const struct sv_setting_choice *choices;
    int offset; /* in the struct of its scope, or SV_SETTING_NOT_STORED */
    /* What type and range cannot say: false with what was expected instead. May be NULL. */
    bool (*check)(const struct sv_setting_value *value, char *expected, size_t size);
    const char *later; /* as in sv_setting_choice: only the default and "off" are accepted so far */
    const char *doc;
};

/* A name that programs written for Swoole may give and that no server here knows. */
struct sv_refused_setting {
    const char *name; /* NULL ends the table */
    const char *reason;
};

extern const struct sv_setting_row sv_setting_rows[];
extern const struct sv_refused_setting sv_refused_settings[];

/* The row of a canonical name or alias, NULL if there is none. */
const struct sv_setting_row *sv_setting_find(const char *name);
/* Why a name is refused, NULL if it is not one of those. */
const char *sv_setting_refusal(const char *name);
/* The known name that is nearest to an unknown one (case ignored, at most 3 changes), NULL if none is near. Only port
 * settings with `only_port`. */
const char *sv_setting_nearest(const char *name, bool only_port);
const char *sv_setting_group_title(enum sv_setting_group group);

#endif
