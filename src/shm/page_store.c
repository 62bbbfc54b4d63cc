/* page_store.c: see page_store.h. */
#include "shm/page_store.h"

#include <errno.h>
#include <stdbool.h>
#include <string.h>
#include <sys/mman.h>

#include "shm/arena.h"

#define KEPT_PAGES 64u /* the first ones keep their memory when they are free */

static size_t mapping_bytes(uint32_t count) {
    return sv_cache_lines(count * sizeof(struct sv_page)) + (size_t)count * SV_PAGE_BYTES;
}

int sv_page_store_map(struct sv_page_store *store, size_t bytes) {
    *store = (struct sv_page_store){0};
    int error = ENOMEM;
    for (uint32_t count = (uint32_t)(bytes / SV_PAGE_BYTES); count > 0; count /= 2) {
        void *mapping = mmap(NULL, mapping_bytes(count), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
        if (mapping == MAP_FAILED) {
            error = errno;
            continue;
        }
        store->pages = mapping;
        store->bytes = (unsigned char *)mapping + sv_cache_lines(count * sizeof(struct sv_page));
        store->count = count;
        return 0;
    }
    return -error;
}

void sv_page_store_unmap(struct sv_page_store *store) {
    if (store->pages) munmap(store->pages, mapping_bytes(store->count));
    *store = (struct sv_page_store){0};
}

static unsigned char *bytes_of(const struct sv_page_store *store, uint32_t page) {
    return store->bytes + (size_t)page * SV_PAGE_BYTES;
}

static bool take_page(struct sv_page_store *store, uint32_t owner, uint32_t *page) {
    for (uint32_t i = *page; i < store->count; i++) {
        uint32_t none = 0;
        if (atomic_load_explicit(&store->pages[i].owner, memory_order_relaxed)) continue;
        if (!atomic_compare_exchange_strong(&store->pages[i].owner, &none, owner)) continue;
        *page = i;
        return true;
    }
    return false;
}

uint32_t sv_pages_fill(struct sv_page_store *store, uint32_t owner, const void *payload, size_t length) {
    const unsigned char *from = payload;
    uint32_t first = 0, last = 0, page = 0;
    while (length) {
        if (!take_page(store, owner + 1, &page)) {
            if (first) sv_pages_give_back(store, first);
            return 0;
        }
        size_t part = length < SV_PAGE_BYTES ? length : SV_PAGE_BYTES;
        store->pages[page].next = 0;
        if (first)
            store->pages[last].next = page + 1;
        else
            first = page + 1;
        last = page;
        memcpy(bytes_of(store, page), from, part);
        from += part;
        length -= part;
    }
    return first;
}

void sv_pages_hand_on(struct sv_page_store *store, uint32_t first) {
    for (uint32_t page = first; page; page = store->pages[page - 1].next)
        atomic_store_explicit(&store->pages[page - 1].owner, SV_PAGE_HANDED_ON, memory_order_relaxed);
}

int sv_pages_copy(const struct sv_page_store *store, uint32_t first, void *target, size_t length) {
    unsigned char *to = target;
    for (uint32_t page = first; length; page = store->pages[page - 1].next) {
        if (!page || page > store->count) return -EBADMSG;
        size_t part = length < SV_PAGE_BYTES ? length : SV_PAGE_BYTES;
        memcpy(to, bytes_of(store, page - 1), part);
        to += part;
        length -= part;
    }
    return 0;
}

void sv_pages_give_back(struct sv_page_store *store, uint32_t first) {
    uint32_t most = store->count; /* should the chain be damaged */
    for (uint32_t page = first; page && page <= store->count && most; most--) {
        uint32_t next = store->pages[page - 1].next;
        if (page > KEPT_PAGES) madvise(bytes_of(store, page - 1), SV_PAGE_BYTES, MADV_REMOVE);
        atomic_store_explicit(&store->pages[page - 1].owner, 0, memory_order_release);
        page = next;
    }
}

void sv_pages_give_back_of(struct sv_page_store *store, uint32_t owner) {
    for (uint32_t i = 0; i < store->count; i++) {
        uint32_t theirs = owner + 1;
        if (atomic_load_explicit(&store->pages[i].owner, memory_order_relaxed) != theirs) continue;
        atomic_compare_exchange_strong(&store->pages[i].owner, &theirs, 0);
    }
}
