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
        [SV_SETTING_MAP] = "table of tables with string keys",
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
        if (row->max > 0)
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
static int read_path(struct sv_setting_value *value, const struct sv_setting_row *row,
                     const struct srvlua_value *given) {
    if (!is_text(given, false))
        return BAD;
    if (given->length == 0 || given->string[0] == '/') {
        value->text = copy_text(given->string, given->length);
    } else {
        char *directory = getcwd(NULL, 0);
        if (!directory)
            return BAD; /* the current directory is gone: there is no such path */
        if (asprintf(&value->text, "%s/%.*s", directory, (int)given->length, given->string) < 0)
            value->text = NULL;
        free(directory);
    }
    if (!value->text)
        return OUT_OF_MEMORY;
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

/* Keeps the number of entries only. */
static int read_map(struct sv_setting_value *value, const struct srvlua_value *given) {
    if (!is_table(given, SRVLUA_VALUE_MAP))
        return BAD;
    for (size_t i = 0; i < given->length; i++)
        if (!is_table(&given->entries[i].value, SRVLUA_VALUE_MAP))
            return BAD;
    value->number = (double)given->length;
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

static int read_tls_versions(struct sv_setting_value *value, const struct srvlua_value *given) {
    enum { OLD_BITS = 2 | 4 | 8 | 16, TLS_1_2 = 32, TLS_1_3 = 64, DTLS = 128 };
    int bits = 0;

    if (given->type == SRVLUA_VALUE_NUMBER) {
        if (!is_integer(given->number) || given->number < 0 || given->number > (OLD_BITS | TLS_1_2 | TLS_1_3 | DTLS))
            return BAD;
        value->number = given->number;
        bits = (int)given->number;
        return bits & 1 || (bits && !(bits & ~OLD_BITS)) ? BAD : 0; /* only versions that are never offered */
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

static int read_by_type(struct sv_setting_value *value, const struct sv_setting_row *row,
                        const struct srvlua_value *given) {
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
    case SV_SETTING_MAP:
        return read_map(value, given);
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
    int result = read_by_type(value, row, given);
    if (result == BAD) {
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

void sv_setting_value_free(struct sv_setting_value *value) {
    for (size_t i = 0; i < value->strings.count; i++)
        free(value->strings.items[i]);
    free(value->strings.items);
    free(value->integers.items);
    free(value->text);
    *value = (struct sv_setting_value){0};
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

bool sv_setting_value_equals(const struct sv_setting_value *one, const struct sv_setting_value *other) {
    if (one->number != other->number || one->function != other->function ||
        !same_text(one->text, one->length, other->text, other->length) || one->strings.count != other->strings.count ||
        one->integers.count != other->integers.count)
        return false;
    for (size_t i = 0; i < one->strings.count; i++)
        if (strcmp(one->strings.items[i], other->strings.items[i]) != 0)
            return false;
    for (size_t i = 0; i < one->integers.count; i++)
        if (one->integers.items[i] != other->integers.items[i])
            return false;
    return true;
}
