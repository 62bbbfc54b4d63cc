/* freemap.c: see freemap.h. */
#include "shm/freemap.h"

static uint64_t words_for(uint64_t bits) { return (bits + 63) / 64; }

/* The bits of a word that mean something. */
static uint64_t valid_bits(const struct sv_freemap *map, int level, uint64_t word) {
    uint64_t left = map->count[level] - word * 64;
    return left >= 64 ? ~UINT64_C(0) : (UINT64_C(1) << left) - 1;
}

static bool is_full(const struct sv_freemap *map, int level, uint64_t word) {
    return (~atomic_load(&map->words[level][word]) & valid_bits(map, level, word)) == 0;
}

size_t sv_freemap_bytes(uint64_t count) {
    size_t bytes = 0;
    do {
        count = words_for(count);
        bytes += count * sizeof(uint64_t);
    } while (count > 1);
    return bytes;
}

void sv_freemap_open(struct sv_freemap *map, void *memory, uint64_t count) {
    _Atomic uint64_t *words = memory;
    map->levels = 0;
    do {
        map->count[map->levels] = count;
        map->words[map->levels++] = words;
        count = words_for(count);
        words += count;
    } while (count > 1);
}

/* Notes that the word below `bit` is full. Whoever frees a place there meanwhile sees the note, or is seen here. */
static void note_full(const struct sv_freemap *map, int level, uint64_t bit) {
    uint64_t mask = UINT64_C(1) << (bit & 63);
    atomic_fetch_or(&map->words[level][bit >> 6], mask);
    if (!is_full(map, level - 1, bit))
        atomic_fetch_and(&map->words[level][bit >> 6], ~mask);
}

static int64_t find_below(const struct sv_freemap *map, int level, uint64_t word, sv_freemap_claim claim,
                          void *context) {
    uint64_t open = ~atomic_load(&map->words[level][word]) & valid_bits(map, level, word);
    for (; open; open &= open - 1) {
        uint64_t bit = word * 64 + (uint64_t)__builtin_ctzll(open);
        if (level == 0) {
            if (claim(context, bit))
                return (int64_t)bit;
            continue;
        }
        int64_t place = find_below(map, level - 1, bit, claim, context);
        if (place >= 0)
            return place;
        if (is_full(map, level - 1, bit))
            note_full(map, level, bit);
    }
    return -1;
}

int64_t sv_freemap_find(const struct sv_freemap *map, sv_freemap_claim claim, void *context) {
    return find_below(map, map->levels - 1, 0, claim, context);
}

bool sv_freemap_is_taken(const struct sv_freemap *map, uint64_t place) {
    return atomic_load(&map->words[0][place >> 6]) >> (place & 63) & 1;
}

void sv_freemap_set(const struct sv_freemap *map, uint64_t place) {
    atomic_fetch_or(&map->words[0][place >> 6], UINT64_C(1) << (place & 63));
}

void sv_freemap_clear(const struct sv_freemap *map, uint64_t place) {
    for (int level = 0; level < map->levels; level++, place >>= 6) {
        uint64_t mask = UINT64_C(1) << (place & 63);
        if (atomic_load(&map->words[level][place >> 6]) & mask)
            atomic_fetch_and(&map->words[level][place >> 6], ~mask);
    }
}

int64_t sv_freemap_next_taken(const struct sv_freemap *map, uint64_t place) {
    if (place >= map->count[0])
        return -1;
    uint64_t word = place >> 6, last = words_for(map->count[0]) - 1;
    uint64_t bits = atomic_load(&map->words[0][word]) & (~UINT64_C(0) << (place & 63));
    while (!bits) {
        if (word++ == last)
            return -1;
        bits = atomic_load(&map->words[0][word]);
    }
    return (int64_t)(word * 64 + (uint64_t)__builtin_ctzll(bits));
}

void sv_freemap_forget(const struct sv_freemap *map) {
    for (int level = 1; level < map->levels; level++)
        for (uint64_t word = 0; word < words_for(map->count[level]); word++)
            atomic_store(&map->words[level][word], 0);
}
