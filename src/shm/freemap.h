/* freemap.h: which of a number of places are free, in shared memory; finds a free one in a few steps however many there
 * are.
 *
 * The lowest level has one bit for each place: 1 = taken. It is the truth, and is changed by who holds the place's
 * lock. A bit above says that the 64 bits below it are all 1. It is a hint: one that says "full" wrongly can be left by
 * a process that died (then sv_freemap_forget() helps), all others are put right by who finds them. Fresh memory, all
 * zero, is a map of free places.
 * runs in: any process, any thread. No locks, no system calls. */
#ifndef SV_SHM_FREEMAP_H
#define SV_SHM_FREEMAP_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SV_FREEMAP_LEVELS 6 /* 64^6 places */

struct sv_freemap { /* private: where the levels lie */
    int levels;
    uint64_t count[SV_FREEMAP_LEVELS]; /* bits of each level that mean something */
    _Atomic uint64_t *words[SV_FREEMAP_LEVELS];
};

/* Bytes of shared memory for `count` places, 1 to 2^32. */
size_t sv_freemap_bytes(uint64_t count);
/* Lays the map over zeroed memory. */
void sv_freemap_open(struct sv_freemap *map, void *memory, uint64_t count);

/* Asked for one place after the other, from the lowest on, whether it will do. */
typedef bool (*sv_freemap_claim)(void *context, uint64_t place);
/* The first place that is free and will do, or -1. Its bit is still 0. */
int64_t sv_freemap_find(const struct sv_freemap *map, sv_freemap_claim claim, void *context);

bool sv_freemap_is_taken(const struct sv_freemap *map, uint64_t place);
void sv_freemap_set(const struct sv_freemap *map, uint64_t place);
void sv_freemap_clear(const struct sv_freemap *map, uint64_t place);
/* The first taken place from `place` on, or -1. */
int64_t sv_freemap_next_taken(const struct sv_freemap *map, uint64_t place);
/* Drops all hints. They come back as places are looked for. */
void sv_freemap_forget(const struct sv_freemap *map);

#endif
