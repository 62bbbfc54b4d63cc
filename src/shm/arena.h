/* arena.h: the shared memory of a server: one anonymous mapping, made before the first fork, handed out front to back.
 *
 * Owner: the server that maps it. Blocks are never given back; untouched pages cost nothing (MAP_NORESERVE).
 * runs in: sv_arena_map/alloc before the first fork; sv_arena_alloc_shared in any process (it is one atomic addition). */
#ifndef SV_SHM_ARENA_H
#define SV_SHM_ARENA_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SV_CACHE_LINE 64

struct sv_arena_header { /* at the start of the mapping */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t used; /* any process adds to it */
};

struct sv_arena {
    unsigned char *base; /* the same address in every process: forked, never remapped */
    size_t size;
};

/* Maps `size` bytes. 0 or -errno. */
int sv_arena_map(struct sv_arena *arena, size_t size);
void sv_arena_unmap(struct sv_arena *arena);
/* A zeroed block, aligned to a cache line, or NULL when the arena is used up. May be called by several processes at once;
 * a process that dies here wastes at most the block. */
void *sv_arena_alloc(struct sv_arena *arena, size_t size);

/* Size rounded up to a whole number of cache lines, for those who add up what an arena must hold. */
static inline size_t sv_cache_lines(size_t size) {
    return (size + SV_CACHE_LINE - 1) & ~(size_t)(SV_CACHE_LINE - 1);
}

#endif
