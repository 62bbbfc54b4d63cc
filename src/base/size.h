/* size.h: numbers of bytes as people write them ("8M"), and rounding to what rings and tables need.
 * runs in: anywhere. Pure. */
#ifndef SV_BASE_SIZE_H
#define SV_BASE_SIZE_H

#include <stddef.h>
#include <stdint.h>

/* Reads decimal digits with an optional unit k, m or g (either case, 1024 each; a `B` may follow the unit).
 * 0 and *bytes, or -1 for anything else: a sign, blanks, a fraction, nothing, more than INT64_MAX. */
int sv_size_parse(const char *text, size_t length, int64_t *bytes);

/* Writes `bytes` (>= 0) exactly, with the largest unit that divides it: "2 MiB", "65537 bytes". NUL-terminated. */
void sv_size_format(int64_t bytes, char *text, size_t size);

/* The smallest power of two that is not below `value`; at least 1, at most 2^62. */
int64_t sv_power_of_two_from(int64_t value);

#endif
