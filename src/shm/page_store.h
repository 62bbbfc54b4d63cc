/* page_store.h: shared memory for payloads that are too large for a ring: pages of 64 KiB, a payload is a chain of them.
 *
 * Any process takes pages (compare-and-swap on the page's owner), fills them, and hands the chain on; who has copied it gives
 * the pages back. Pages that a process holds and has not handed on are given back for it when it dies. One that dies while it
 * hands pages on or gives them back leaves them taken: the loss of one payload's memory, not of its content.
 *
 * Owner: the server; mapped before the first fork. No page costs memory before it is used, and few keep it afterwards. */
#ifndef SV_SHM_PAGE_STORE_H
#define SV_SHM_PAGE_STORE_H

#include <stdatomic.h>
#include <stddef.h>
#include <stdint.h>

#define SV_PAGE_BYTES 65536u

struct sv_page { /* shared; owner: any process, next: who holds the page */
    _Atomic uint32_t owner; /* 0 free; endpoint + 1; SV_PAGE_HANDED_ON */
    uint32_t next;          /* number of the next page + 1, 0 = last */
};
#define SV_PAGE_HANDED_ON UINT32_MAX

struct sv_page_store { /* private to each process, the same everywhere */
    struct sv_page *pages;
    unsigned char *bytes;
    uint32_t count;
};

/* Maps a store of at most `bytes`, or less if the system does not give as much. 0 or -errno. */
int sv_page_store_map(struct sv_page_store *store, size_t bytes);
void sv_page_store_unmap(struct sv_page_store *store);
/* Copies a payload into pages that then belong to `owner`. Number of the first page + 1, or 0: there is no room now. */
uint32_t sv_pages_fill(struct sv_page_store *store, uint32_t owner, const void *payload, size_t length);
/* The chain is no more its filler's, but who knows its first page may copy it and give it back. */
void sv_pages_hand_on(struct sv_page_store *store, uint32_t first);
/* Copies `length` bytes out; 0, or -EBADMSG: that is no chain of so many. */
int sv_pages_copy(const struct sv_page_store *store, uint32_t first, void *target, size_t length);
void sv_pages_give_back(struct sv_page_store *store, uint32_t first);
/* Gives back what a dead process was filling. */
void sv_pages_give_back_of(struct sv_page_store *store, uint32_t owner);

#endif
