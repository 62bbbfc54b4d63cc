/* settings_doc.c: writes docs/settings.md from the table of settings to stdout (make docs). */
#include <stdio.h>
#include <string.h>

#include "base/size.h"
#include "server/settings_table.h"
#include "server/settings_value.h"

static const char *const introduction =
    "# Settings\n"
    "\n"
    "Made from `src/server/settings_table.c` by `make docs`.\n"
    "\n"
    "`server:set{...}` takes all of them, before `start()`. `port:set{...}` takes those of scope *port*; calling it, "
    "even\n"
    "with `{}`, ends the port's inheritance of what `server:set` said about ports. Calls merge; a call with a bad "
    "value\n"
    "raises an error and changes nothing. An unknown name is a warning in the log that names the nearest known one.\n"
    "What depends on the machine or on other settings is derived in `start()`, with a line in the log for each value "
    "that\n"
    "had to be adjusted. After `start()` nothing is read again, not even by `reload`.\n"
    "\n"
    "- Booleans may also be written 1 and 0; `false` may be written for 0 where 0 means off.\n"
    "- Seconds may have fractions. Sizes are bytes, or text like `'8M'`, `'64k'` (k, m, g: 1024 each).\n"
    "- Of an enumeration, the name or the number may be given.\n"
    "- Relative paths are made absolute with the directory at the time of the call.\n"
    "- *Not yet*: part of the contract, but not built; anything but the default, or off, is refused.\n";

/* Text in a cell of a table: `|` would end it. */
static void put(const char *text) {
    for (; *text; text++) {
        if (*text == '|')
            putchar('\\');
        putchar(*text);
    }
}

static void put_size(double bytes) {
    char text[32];
    if (bytes == 4294967295.0)
        put("4 GiB - 1");
    else if (bytes == 2147483647.0)
        put("2 GiB - 1");
    else {
        sv_size_format((int64_t)bytes, text, sizeof text);
        put(text);
    }
}

static void put_size_range(const struct sv_setting_row *row, bool or_zero) {
    bool has_most = row->max < SV_SETTING_MOST_BYTES;
    printf("size");
    if (row->min > 1) {
        printf(", %sfrom ", or_zero ? "0 or " : "");
        put_size(row->min);
    }
    if (has_most) {
        printf(row->min > 1 ? " to " : ", at most ");
        put_size(row->max);
    }
}

static void put_type(const struct sv_setting_row *row) {
    char text[256];
    bool or_zero = row->flags & SV_SETTING_OR_ZERO;

    switch (row->type) {
    case SV_SETTING_SIZE:
        put_size_range(row, or_zero);
        return;
    case SV_SETTING_SECONDS:
        printf("seconds");
        if (row->max < SV_SETTING_MOST_SECONDS)
            printf(" %.15g..%.15g", row->min, row->max);
        else if (row->min > 0)
            printf(", %sfrom %.15g", or_zero ? "0 or " : "", row->min);
        return;
    case SV_SETTING_PATH:
        printf("path");
        return;
    default:
        sv_setting_describe(row, text, sizeof text);
        put(text);
        if (row->if_true)
            printf(", or boolean");
        return;
    }
}

static void put_choice_name(const struct sv_setting_row *row) {
    for (const struct sv_setting_choice *choice = row->choices; choice->name; choice++)
        if (choice->number == (int)row->number) {
            printf("`'%s'`", choice->name);
            return;
        }
}

static void put_default(const struct sv_setting_row *row) {
    if (row->default_doc)
        put(row->default_doc);
    else if (row->text)
        printf("`'%s'`", row->text);
    else
        switch (row->type) {
        case SV_SETTING_BOOL:
            printf("%s", row->number != 0 ? "true" : "false");
            break;
        case SV_SETTING_ENUM:
            put_choice_name(row);
            break;
        case SV_SETTING_SIZE:
            if (row->number == 0)
                printf("0");
            else
                put_size(row->number);
            break;
        case SV_SETTING_INT:
        case SV_SETTING_NUMBER:
        case SV_SETTING_SECONDS:
        case SV_SETTING_MILLISECONDS:
            printf("%.15g", row->number);
            break;
        default:
            printf("none");
            break;
        }
}

static void put_row(const struct sv_setting_row *row) {
    printf("| `%s`", row->name);
    for (int i = 0; i < SV_SETTING_ALIASES && row->aliases[i]; i++)
        printf("<br>also `%s`", row->aliases[i]);
    printf(" | ");
    put_type(row);
    printf(" | ");
    put_default(row);
    printf(" | %s | ", row->scope == SV_SCOPE_PORT ? "port" : "server");
    put(row->doc);
    if (row->flags & SV_SETTING_ONLY_PROCESS)
        printf(" PROCESS mode only.");
    if (row->flags & SV_SETTING_ONLY_BASE)
        printf(" BASE mode only.");
    if (row->later)
        printf(" *Not yet: needs %s.*", row->later);
    for (const struct sv_setting_choice *choice = row->choices; choice && choice->name; choice++)
        if (choice->later)
            printf(" *`%s` not yet.*", choice->name);
    printf(" |\n");
}

static void put_refused(void) {
    printf("\n## Names that are refused\n\n"
           "Programs written for Swoole may give them; each is an error that says why.\n\n"
           "| Name | Reason |\n|---|---|\n");
    for (const struct sv_refused_setting *refused = sv_refused_settings; refused->name; refused++)
        printf("| `%s` | %s |\n", refused->name, refused->reason);
}

int main(void) {
    const struct sv_setting_row *last = NULL;
    printf("%s", introduction);
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; last = row++) {
        if (!last || last->group != row->group)
            printf("\n## %s\n\n| Setting | Type | Default | Scope | Effect |\n|---|---|---|---|---|\n",
                   sv_setting_group_title(row->group));
        put_row(row);
    }
    put_refused();
    return ferror(stdout) != 0;
}
