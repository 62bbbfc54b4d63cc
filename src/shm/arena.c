/* arena.c: see arena.h. */
#include "shm/arena.h"

#include <errno.h>
#include <sys/mman.h>

int sv_arena_map(struct sv_arena *arena, size_t size) {
    size = sv_cache_lines(size + sizeof(struct sv_arena_header));
    void *base = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return -errno;
    arena->base = base;
    arena->size = size;
    struct sv_arena_header *header = base;
    atomic_store(&header->used, sv_cache_lines(sizeof *header));
    return 0;
}

void sv_arena_unmap(struct sv_arena *arena) {
    if (arena->base) munmap(arena->base, arena->size);
    arena->base = NULL;
    arena->size = 0;
}

void *sv_arena_alloc(struct sv_arena *arena, size_t size) {
    struct sv_arena_header *header = (struct sv_arena_header *)arena->base;
    size = sv_cache_lines(size);
    uint64_t offset = atomic_fetch_add(&header->used, size);
    if (offset + size > arena->size || offset + size < offset) return NULL;
    return arena->base + offset;
}
