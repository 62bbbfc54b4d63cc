/* size.c: numbers of bytes as people write them. runs in: anywhere. */
#include "base/size.h"

#include <inttypes.h>
#include <stdio.h>

#define LARGEST_POWER (INT64_C(1) << 62)

/* How far the unit shifts the number, or -1 if it is none. */
static int unit_shift(char unit) {
    switch (unit) {
    case 'k':
    case 'K':
        return 10;
    case 'm':
    case 'M':
        return 20;
    case 'g':
    case 'G':
        return 30;
    default:
        return -1;
    }
}

int sv_size_parse(const char *text, size_t length, int64_t *bytes) {
    int64_t value = 0;
    size_t at = 0;

    for (; at < length && text[at] >= '0' && text[at] <= '9'; at++) {
        int digit = text[at] - '0';
        if (value > (INT64_MAX - digit) / 10)
            return -1;
        value = value * 10 + digit;
    }
    if (at == 0)
        return -1;
    if (at < length) {
        int shift = unit_shift(text[at++]);
        if (shift < 0 || value > INT64_MAX >> shift)
            return -1;
        value <<= shift;
        if (at < length && (text[at] == 'B' || text[at] == 'b'))
            at++;
    }
    if (at != length)
        return -1;
    *bytes = value;
    return 0;
}

void sv_size_format(int64_t bytes, char *text, size_t size) {
    static const struct {
        int shift;
        const char *name;
    } units[] = {{30, "GiB"}, {20, "MiB"}, {10, "KiB"}};

    for (size_t i = 0; bytes > 0 && i < sizeof units / sizeof *units; i++) {
        int64_t unit = INT64_C(1) << units[i].shift;
        if (bytes % unit == 0) {
            snprintf(text, size, "%" PRId64 " %s", bytes / unit, units[i].name);
            return;
        }
    }
    snprintf(text, size, "%" PRId64 " bytes", bytes);
}

int64_t sv_power_of_two_from(int64_t value) {
    int64_t power = 1;
    while (power < value && power < LARGEST_POWER)
        power <<= 1;
    return power;
}
