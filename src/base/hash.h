/* hash.h: a keyed hash for tables whose keys come from strangers: SipHash-1-3, whose output nobody who lacks the seed can steer.
 * runs in: anywhere. Pure. */
#ifndef SV_BASE_HASH_H
#define SV_BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

/* Hash of `count` whole words. */
uint64_t sv_hash_words(const uint64_t seed[2], const uint64_t *words, size_t count);

#endif
