/* settings_value.c: one setting's value, read as its row says. runs in: before start(). */
#include "server/settings_value.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/size.h"

#define OUT_OF_MEMORY (-SRVLUA_ERROR_MALLOC_FAIL)
#define BAD (-SRVLUA_ERROR_INVALID_PARAMS)

/* ---------------------------------------------------------------------------------------------------------- wording */

static size_t append(char *text, size_t size, const char *format, ...) SRVLUA_PRINTF(3, 4);
static size_t append(char *text, size_t size, const char *format, ...) {
    size_t used = strlen(text);
    va_list arguments;
    va_start(arguments, format);
    if (used < size)
        vsnprintf(text + used, size - used, format, arguments);
    va_end(arguments);
    return strlen(text);
}

static void append_range(const struct sv_setting_row *row, char *text, size_t size) {
    append(text, size, " %s%.15g..%.15g", row->flags & SV_SETTING_OR_ZERO ? "0 or " : "", row->min, row->max);
}

static void append_choices(const struct sv_setting_row *row, char *text, size_t size) {
    append(text, size, "one of");
    for (const struct sv_setting_choice *choice = row->choices; choice->name; choice++)
        append(text, size, "%s '%s' (%d)", choice == row->choices ? "" : ",", choice->name, choice->number);
}

void sv_setting_describe(const struct sv_setting_row *row, char *text, size_t size) {
    static const char *const words[] = {
        [SV_SETTING_BOOL] = "boolean",
        [SV_SETTING_INT] = "integer",
        [SV_SETTING_NUMBER] = "number",
        [SV_SETTING_SECONDS] = "seconds",
        [SV_SETTING_MILLISECONDS] = "milliseconds",
        [SV_SETTING_SIZE] = "size",
        [SV_SETTING_STRING] = "string",
        [SV_SETTING_PATH] = "path",
        [SV_SETTING_FUNCTION] = "function without upvalues",
        [SV_SETTING_INT_LIST] = "list of integers",
        [SV_SETTING_STRING_LIST] = "list of strings",
        [SV_SETTING_STRING_OR_LIST] = "string or list of strings",
        [SV_SETTING_PAIR_LIST] = "list of pairs of strings",
        [SV_SETTING_CERTIFICATES] = "map of server names to tables",
        [SV_SETTING_FILE_MODE] = "file mode like '0600'",
        [SV_SETTING_TLS_VERSIONS] = "list of 'TLSv1.2', 'TLSv1.3', or the sum of their SSL_ constants",
    };

    *text = '\0';
    switch (row->type) {
    case SV_SETTING_ENUM:
        append_choices(row, text, size);
        return;
    case SV_SETTING_INT:
    case SV_SETTING_NUMBER:
    case SV_SETTING_SECONDS:
    case SV_SETTING_MILLISECONDS:
    case SV_SETTING_SIZE:
    case SV_SETTING_INT_LIST:
        append(text, size, "%s", words[row->type]);
        append_range(row, text, size);
        append(text, size, "%s", row->type == SV_SETTING_SIZE ? ", or text like '8M'" : "");
        return;
    case SV_SETTING_STRING:
    case SV_SETTING_PATH:
        append(text, size, "%s", words[row->type]);
        if (row->max > 0 && row->min == row->max)
            append(text, size, " of %.15g byte%s", row->max, row->max == 1 ? "" : "s");
        else if (row->max > 0)
            append(text, size, " of %.15g..%.15g bytes", row->min, row->max);
        return;
    default:
        append(text, size, "%s", words[row->type]);
        return;
    }
}

/* A string of the caller's as part of a message: cut, and without what would break the line. */
static void append_quoted(char *text, size_t size, const char *string, size_t length) {
    size_t shown = length < 40 ? length : 40;
    append(text, size, "'");
    for (size_t i = 0; i < shown; i++) {
        unsigned char c = (unsigned char)string[i];
        append(text, size, c < ' ' || c == 0x7f ? "\\%d" : "%c", c);
    }
    append(text, size, "'%s", shown < length ? "..." : "");
}

static void append_given(const struct srvlua_value *given, char *text, size_t size) {
    switch (given->type) {
    case SRVLUA_VALUE_NIL:
        append(text, size, "nil");
        return;
    case SRVLUA_VALUE_BOOLEAN:
        append(text, size, given->boolean ? "true" : "false");
        return;
    case SRVLUA_VALUE_NUMBER:
        append(text, size, "%.15g", given->number);
        return;
    case SRVLUA_VALUE_STRING:
        append_quoted(text, size, given->string, given->length);
        return;
    case SRVLUA_VALUE_LIST:
    case SRVLUA_VALUE_MAP:
        append(text, size, "table");
        return;
    case SRVLUA_VALUE_FUNCTION:
        append(text, size, "function");
        return;
    case SRVLUA_VALUE_OTHER:
        append(text, size, "%.80s", given->string ? given->string : "another type");
        return;
    }
    append(text, size, "value of unknown type %d", (int)given->type);
}

static int complain(const struct srvlua_value *given, const char *expected, char *problem, size_t size) {
    *problem = '\0';
    append(problem, size, "expected %s, got ", expected);
    append_given(given, problem, size);
    return BAD;
}

/* -------------------------------------------------------------------------------------------------- reading by type */

static bool is_integer(double number) { return isfinite(number) && number == floor(number); }

static bool is_text(const struct srvlua_value *given, bool may_hold_nul) {
    return given->type == SRVLUA_VALUE_STRING &&
           (may_hold_nul || given->length == 0 || !memchr(given->string, '\0', given->length));
}

static bool is_table(const struct srvlua_value *given, enum srvlua_value_type kind) {
    bool is_any = given->type == SRVLUA_VALUE_LIST || given->type == SRVLUA_VALUE_MAP;
    return given->type == kind || (is_any && given->length == 0); /* an empty table is neither or both */
}

static char *copy_text(const char *string, size_t length) {
    char *copy = malloc(length + 1);
    if (!copy)
        return NULL;
    if (length)
        memcpy(copy, string, length);
    copy[length] = '\0';
    return copy;
}

static int read_bool(struct sv_setting_value *value, const struct srvlua_value *given) {
    if (given->type == SRVLUA_VALUE_BOOLEAN)
        value->number = given->boolean != 0;
    else if (given->type == SRVLUA_VALUE_NUMBER && (given->number == 0 || given->number == 1))
        value->number = given->number;
    else
        return BAD;
    return 0;
}

/* Numbers of all kinds, with what booleans and sizes in words stand for. */
static int read_number(struct sv_setting_value *value, const struct sv_setting_row *row,
                       const struct srvlua_value *given) {
    bool is_fractional = row->type == SV_SETTING_SECONDS || row->type == SV_SETTING_NUMBER;
    int64_t bytes;

    if (given->type == SRVLUA_VALUE_NUMBER)
        value->number = given->number;
    else if (given->type == SRVLUA_VALUE_BOOLEAN && !given->boolean && (row->flags & SV_SETTING_ZERO_IS_OFF))
        value->number = 0;
    else if (given->type == SRVLUA_VALUE_BOOLEAN && given->boolean && row->if_true)
        value->number = row->if_true;
    else if (row->type == SV_SETTING_SIZE && given->type == SRVLUA_VALUE_STRING &&
             sv_size_parse(given->string, given->length, &bytes) == 0)
        value->number = (double)bytes;
    else
        return BAD;

    if (is_fractional ? !isfinite(value->number) : !is_integer(value->number))
        return BAD;
    if (value->number == 0)
        value->number = 0; /* not -0 */
    if (value->number == 0 && (row->flags & SV_SETTING_OR_ZERO))
        return 0;
    return value->number >= row->min && value->number <= row->max ? 0 : BAD;
}

static int read_enum(struct sv_setting_value *value, const struct sv_setting_row *row,
                     const struct srvlua_value *given) {
    for (const struct sv_setting_choice *choice = row->choices; choice->name; choice++) {
        bool is_name = given->type == SRVLUA_VALUE_STRING && given->length == strlen(choice->name) &&
                       memcmp(given->string, choice->name, given->length) == 0;
        bool is_number = given->type == SRVLUA_VALUE_NUMBER && given->number == choice->number;
        bool is_off = given->type == SRVLUA_VALUE_BOOLEAN && !given->boolean && choice->number == 0 &&
                      (row->flags & SV_SETTING_ZERO_IS_OFF);
        if (is_name || is_number || is_off) {
            value->number = choice->number;
            return 0;
        }
    }
    return BAD;
}

static int read_string(struct sv_setting_value *value, const struct sv_setting_row *row,
                       const struct srvlua_value *given) {
    if (!is_text(given, row->flags & SV_SETTING_BINARY))
        return BAD;
    if (row->max > 0 && ((double)given->length < row->min || (double)given->length > row->max))
        return BAD;
    value->text = copy_text(given->string, given->length);
    value->length = given->length;
    return value->text ? 0 : OUT_OF_MEMORY;
}

/* daemonize changes the directory, so relative paths are fixed now. */
static int copy_path(char **path, const struct srvlua_value *given) {
    if (!is_text(given, false))
        return BAD;
    if (given->length == 0 || given->string[0] == '/') {
        *path = copy_text(given->string, given->length);
    } else {
        char *directory = getcwd(NULL, 0);
        if (!directory)
            return BAD; /* the current directory is gone: there is no such path */
        if (asprintf(path, "%s/%.*s", directory, (int)given->length, given->string) < 0)
            *path = NULL;
        free(directory);
    }
    return *path ? 0 : OUT_OF_MEMORY;
}

static int read_path(struct sv_setting_value *value, const struct sv_setting_row *row,
                     const struct srvlua_value *given) {
    int result = copy_path(&value->text, given);
    if (result < 0)
        return result;
    value->length = strlen(value->text);
    return row->max > 0 && (double)value->length > row->max ? BAD : 0;
}

static int read_function(struct sv_setting_value *value, const struct srvlua_value *given) {
    if (given->type != SRVLUA_VALUE_FUNCTION || (!given->function && !given->string))
        return BAD;
    value->function = given->function;
    if (!given->string)
        return 0;
    value->text = copy_text(given->string, given->length);
    value->length = given->length;
    return value->text ? 0 : OUT_OF_MEMORY;
}

static int read_integers(struct sv_setting_value *value, const struct sv_setting_row *row,
                         const struct srvlua_value *given) {
    if (!is_table(given, SRVLUA_VALUE_LIST))
        return BAD;
    if (given->length == 0)
        return 0;
    value->integers.items = calloc(given->length, sizeof *value->integers.items);
    if (!value->integers.items)
        return OUT_OF_MEMORY;
    for (size_t i = 0; i < given->length; i++) {
        const struct srvlua_value *item = &given->entries[i].value;
        if (item->type != SRVLUA_VALUE_NUMBER || !is_integer(item->number) || item->number < row->min ||
            item->number > row->max)
            return BAD;
        value->integers.items[value->integers.count++] = (int64_t)item->number;
    }
    return 0;
}

static int read_strings(struct sv_setting_value *value, const struct srvlua_value *given) {
    if (!is_table(given, SRVLUA_VALUE_LIST))
        return BAD;
    if (given->length == 0)
        return 0;
    value->strings.items = calloc(given->length, sizeof *value->strings.items);
    if (!value->strings.items)
        return OUT_OF_MEMORY;
    for (size_t i = 0; i < given->length; i++) {
        const struct srvlua_value *item = &given->entries[i].value;
        if (!is_text(item, false))
            return BAD;
        char *copy = copy_text(item->string, item->length);
        if (!copy)
            return OUT_OF_MEMORY;
        value->strings.items[value->strings.count++] = copy;
    }
    return 0;
}

static int read_string_or_list(struct sv_setting_value *value, const struct srvlua_value *given) {
    struct srvlua_setting only = {.value = *given};
    struct srvlua_value list = {.type = SRVLUA_VALUE_LIST, .length = 1, .entries = &only};
    if (given->type != SRVLUA_VALUE_STRING)
        return read_strings(value, given);
    list.length = given->length > 0; /* '' is the default */
    return read_strings(value, &list);
}

/* Keeps the number of pairs only. */
static int read_pairs(struct sv_setting_value *value, const struct srvlua_value *given) {
    if (given->type == SRVLUA_VALUE_MAP && given->length == 1) {
        value->number = 1;
        return is_text(&given->entries[0].value, false) ? 0 : BAD;
    }
    if (!is_table(given, SRVLUA_VALUE_LIST))
        return BAD;
    for (size_t i = 0; i < given->length; i++) {
        const struct srvlua_value *pair = &given->entries[i].value;
        if (pair->type != SRVLUA_VALUE_LIST || pair->length != 2 || !is_text(&pair->entries[0].value, false) ||
            !is_text(&pair->entries[1].value, false))
            return BAD;
    }
    value->number = (double)given->length;
    return 0;
}

static int bad_certificate(char *problem, size_t size, const char *name, const char *other_entry) {
    append(problem, size, "'%.60s' needs a table with ssl_cert_file, ssl_key_file and perhaps ssl_passphrase", name);
    if (other_entry)
        append(problem, size, ", got '%.60s'", other_entry);
    return BAD;
}

static int read_certificate_entry(struct sv_named_certificate *certificate, const struct srvlua_setting *entry,
                                  char *problem, size_t size) {
    int result = 0;

    if (strcmp(entry->name, "ssl_cert_file") == 0)
        result = copy_path(&certificate->cert_file, &entry->value);
    else if (strcmp(entry->name, "ssl_key_file") == 0)
        result = copy_path(&certificate->key_file, &entry->value);
    else if (strcmp(entry->name, "ssl_passphrase") != 0)
        return bad_certificate(problem, size, certificate->name, entry->name);
    else if (!is_text(&entry->value, false))
        result = BAD;
    else if (!(certificate->passphrase = copy_text(entry->value.string, entry->value.length)))
        result = OUT_OF_MEMORY;
    if (result == BAD) {
        append(problem, size, "'%.60s' needs a string as %s, got ", certificate->name, entry->name);
        append_given(&entry->value, problem, size);
    }
    return result;
}

static int read_certificate(struct sv_named_certificate *certificate, const struct srvlua_setting *given, char *problem,
                            size_t size) {
    if (!is_table(&given->value, SRVLUA_VALUE_MAP))
        return bad_certificate(problem, size, given->name, NULL);
    certificate->name = copy_text(given->name, strlen(given->name));
    if (!certificate->name)
        return OUT_OF_MEMORY;
    for (size_t i = 0; i < given->value.length; i++) {
        int result = read_certificate_entry(certificate, &given->value.entries[i], problem, size);
        if (result < 0)
            return result;
    }
    if (certificate->cert_file && *certificate->cert_file && certificate->key_file && *certificate->key_file)
        return 0;
    return bad_certificate(problem, size, certificate->name, NULL);
}

static int read_certificates(struct sv_setting_value *value, const struct srvlua_value *given, char *problem, size_t size) {
    struct sv_certificate_map *map = &value->certificates;
    if (!is_table(given, SRVLUA_VALUE_MAP))
        return BAD;
    if (given->length == 0)
        return 0;
    map->items = calloc(given->length, sizeof *map->items);
    if (!map->items)
        return OUT_OF_MEMORY;
    while (map->count < given->length) {
        size_t at = map->count++;
        int result = read_certificate(&map->items[at], &given->entries[at], problem, size);
        if (result < 0)
            return result;
    }
    return 0;
}

static int read_file_mode(struct sv_setting_value *value, const struct srvlua_value *given) {
    if (given->type == SRVLUA_VALUE_NUMBER) {
        value->number = given->number;
    } else if (is_text(given, false) && given->length > 0 && given->length < 6) {
        int mode = 0;
        for (size_t i = 0; i < given->length; i++) {
            if (given->string[i] < '0' || given->string[i] > '7')
                return BAD;
            mode = mode * 8 + (given->string[i] - '0');
        }
        value->number = mode;
    } else {
        return BAD;
    }
    return is_integer(value->number) && value->number >= 0 && value->number <= 0777 ? 0 : BAD;
}

enum { OLD_TLS = 2 | 4 | 8 | 16, TLS_1_2 = SRVLUA_SSL_TLSv1_2, TLS_1_3 = SRVLUA_SSL_TLSv1_3, DTLS = 128 };

bool sv_setting_has_old_tls(const struct srvlua_value *given) {
    return given->type == SRVLUA_VALUE_NUMBER && ((int)given->number & OLD_TLS);
}

/* Versions that are never offered are dropped, unless nothing is left then. */
static int read_tls_versions(struct sv_setting_value *value, const struct srvlua_value *given) {
    int bits = 0;

    if (given->type == SRVLUA_VALUE_BOOLEAN && !given->boolean)
        return 0;
    if (given->type == SRVLUA_VALUE_NUMBER) {
        if (!is_integer(given->number) || given->number < 0 || given->number > (OLD_TLS | TLS_1_2 | TLS_1_3 | DTLS))
            return BAD;
        bits = (int)given->number;
        value->number = bits & ~OLD_TLS;
        return bits & 1 || (bits && value->number == 0) ? BAD : 0;
    }
    if (!is_table(given, SRVLUA_VALUE_LIST))
        return BAD;
    for (size_t i = 0; i < given->length; i++) {
        const struct srvlua_value *item = &given->entries[i].value;
        if (is_text(item, false) && item->length == 7 && memcmp(item->string, "TLSv1.2", 7) == 0)
            bits |= TLS_1_2;
        else if (is_text(item, false) && item->length == 7 && memcmp(item->string, "TLSv1.3", 7) == 0)
            bits |= TLS_1_3;
        else
            return BAD;
    }
    value->number = bits;
    return 0;
}

/* BAD with an empty `problem`: the usual words will do. */
static int read_by_type(struct sv_setting_value *value, const struct sv_setting_row *row,
                        const struct srvlua_value *given, char *problem, size_t size) {
    switch (row->type) {
    case SV_SETTING_BOOL:
        return read_bool(value, given);
    case SV_SETTING_INT:
    case SV_SETTING_NUMBER:
    case SV_SETTING_SECONDS:
    case SV_SETTING_MILLISECONDS:
    case SV_SETTING_SIZE:
        return read_number(value, row, given);
    case SV_SETTING_ENUM:
        return read_enum(value, row, given);
    case SV_SETTING_STRING:
        return read_string(value, row, given);
    case SV_SETTING_PATH:
        return read_path(value, row, given);
    case SV_SETTING_FUNCTION:
        return read_function(value, given);
    case SV_SETTING_INT_LIST:
        return read_integers(value, row, given);
    case SV_SETTING_STRING_LIST:
        return read_strings(value, given);
    case SV_SETTING_STRING_OR_LIST:
        return read_string_or_list(value, given);
    case SV_SETTING_PAIR_LIST:
        return read_pairs(value, given);
    case SV_SETTING_CERTIFICATES:
        return read_certificates(value, given, problem, size);
    case SV_SETTING_FILE_MODE:
        return read_file_mode(value, given);
    case SV_SETTING_TLS_VERSIONS:
        return read_tls_versions(value, given);
    }
    return BAD;
}

int sv_setting_value_read(struct sv_setting_value *value, const struct sv_setting_row *row,
                          const struct srvlua_value *given, char *problem, size_t size) {
    char expected[192];

    *value = (struct sv_setting_value){0};
    *problem = '\0';
    int result = read_by_type(value, row, given, problem, size);
    if (result == BAD && !*problem) {
        sv_setting_describe(row, expected, sizeof expected);
        complain(given, expected, problem, size);
    } else if (result == 0 && row->check && !row->check(value, expected, sizeof expected)) {
        result = complain(given, expected, problem, size);
    }
    if (result < 0)
        sv_setting_value_free(value);
    return result;
}

/* ----------------------------------------------------------------------------------------------------------- values */

static void free_certificates(struct sv_certificate_map *map) {
    for (size_t i = 0; i < map->count; i++) {
        free(map->items[i].name);
        free(map->items[i].cert_file);
        free(map->items[i].key_file);
        free(map->items[i].passphrase);
    }
    free(map->items);
}

void sv_setting_value_free(struct sv_setting_value *value) {
    free_certificates(&value->certificates);
    for (size_t i = 0; i < value->strings.count; i++)
        free(value->strings.items[i]);
    free(value->strings.items);
    free(value->integers.items);
    free(value->text);
    *value = (struct sv_setting_value){0};
}

static bool copy_if_given(char **to, const char *from) {
    *to = from ? strdup(from) : NULL;
    return *to || !from;
}

static bool copy_certificates(struct sv_certificate_map *to, const struct sv_certificate_map *from) {
    if (from->count == 0)
        return true;
    to->items = calloc(from->count, sizeof *to->items);
    if (!to->items)
        return false;
    for (size_t i = 0; i < from->count; i++) {
        struct sv_named_certificate *copy = &to->items[to->count++];
        if (!copy_if_given(&copy->name, from->items[i].name) ||
            !copy_if_given(&copy->cert_file, from->items[i].cert_file) ||
            !copy_if_given(&copy->key_file, from->items[i].key_file) ||
            !copy_if_given(&copy->passphrase, from->items[i].passphrase))
            return false;
    }
    return true;
}

int sv_setting_value_copy(struct sv_setting_value *to, const struct sv_setting_value *from) {
    *to = (struct sv_setting_value){.number = from->number, .function = from->function};
    if (from->text) {
        to->text = copy_text(from->text, from->length);
        to->length = from->length;
        if (!to->text)
            goto fail;
    }
    if (from->integers.count) {
        to->integers.items = malloc(from->integers.count * sizeof *to->integers.items);
        if (!to->integers.items)
            goto fail;
        memcpy(to->integers.items, from->integers.items, from->integers.count * sizeof *to->integers.items);
        to->integers.count = from->integers.count;
    }
    if (from->strings.count) {
        to->strings.items = malloc(from->strings.count * sizeof *to->strings.items);
        if (!to->strings.items)
            goto fail;
        for (; to->strings.count < from->strings.count; to->strings.count++) {
            const char *item = from->strings.items[to->strings.count];
            if (!(to->strings.items[to->strings.count] = copy_text(item, strlen(item))))
                goto fail;
        }
    }
    if (!copy_certificates(&to->certificates, &from->certificates))
        goto fail;
    return 0;
fail:
    sv_setting_value_free(to);
    return OUT_OF_MEMORY;
}

struct sv_setting_value sv_setting_value_default(const struct sv_setting_row *row) {
    struct sv_setting_value value = {.number = row->number};
    if (row->text) {
        value.text = (char *)row->text; /* owns nothing, so nobody writes to it or frees it */
        value.length = strlen(row->text);
    }
    return value;
}

static bool same_text(const char *one, size_t length, const char *other, size_t other_length) {
    return length == other_length && (length == 0 || memcmp(one, other, length) == 0); /* none equals '' */
}

static bool is_same_if_given(const char *one, const char *other) {
    return one && other ? strcmp(one, other) == 0 : one == other;
}

/* Maps that were read from the same table have the same order; others count as different. */
static bool same_certificates(const struct sv_certificate_map *one, const struct sv_certificate_map *other) {
    if (one->count != other->count)
        return false;
    for (size_t i = 0; i < one->count; i++)
        if (!is_same_if_given(one->items[i].name, other->items[i].name) ||
            !is_same_if_given(one->items[i].cert_file, other->items[i].cert_file) ||
            !is_same_if_given(one->items[i].key_file, other->items[i].key_file) ||
            !is_same_if_given(one->items[i].passphrase, other->items[i].passphrase))
            return false;
    return true;
}

bool sv_setting_value_equals(const struct sv_setting_value *one, const struct sv_setting_value *other) {
    if (one->number != other->number || one->function != other->function ||
        !same_text(one->text, one->length, other->text, other->length) || one->strings.count != other->strings.count ||
        one->integers.count != other->integers.count || !same_certificates(&one->certificates, &other->certificates))
        return false;
    for (size_t i = 0; i < one->strings.count; i++)
        if (strcmp(one->strings.items[i], other->strings.items[i]) != 0)
            return false;
    for (size_t i = 0; i < one->integers.count; i++)
        if (one->integers.items[i] != other->integers.items[i])
            return false;
    return true;
}
