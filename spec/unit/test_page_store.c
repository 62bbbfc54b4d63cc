/* Page stores: payloads as chains of pages, stores that are full, damaged chains, and processes that die while they fill. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/page_store.h"
#include "unit.h"

#define PAGES 128u
#define BIG (5 * (size_t)SV_PAGE_BYTES + 17)

static struct sv_page_store new_store(uint32_t pages) {
    struct sv_page_store store;
    if (sv_page_store_map(&store, pages * (size_t)SV_PAGE_BYTES)) exit(1);
    return store;
}

static uint32_t taken(const struct sv_page_store *store) {
    uint32_t count = 0;
    for (uint32_t i = 0; i < store->count; i++) count += atomic_load(&store->pages[i].owner) != 0;
    return count;
}

static unsigned char *new_payload(size_t length, int seed) {
    unsigned char *payload = malloc(length + 1);
    for (size_t i = 0; i < length; i++) payload[i] = (unsigned char)(i * 7 + i / 1000 + (size_t)seed);
    return payload;
}

TEST(what_was_filled_is_copied_and_given_back) {
    struct sv_page_store store = new_store(PAGES);
    static const size_t lengths[] = {1, SV_PAGE_BYTES - 1, SV_PAGE_BYTES, SV_PAGE_BYTES + 1, BIG, PAGES * (size_t)SV_PAGE_BYTES};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t length = lengths[i];
        unsigned char *payload = new_payload(length, (int)i), *copy = malloc(length + 1);
        copy[length] = 77;
        uint32_t first = sv_pages_fill(&store, 3, payload, length);
        CHECK(first && taken(&store) == (length + SV_PAGE_BYTES - 1) / SV_PAGE_BYTES);
        sv_pages_hand_on(&store, first);
        CHECK(sv_pages_copy(&store, first, copy, length) == 0 && memcmp(copy, payload, length) == 0 && copy[length] == 77);
        sv_pages_give_back(&store, first);
        CHECK(taken(&store) == 0);
        free(payload);
        free(copy);
    }
    sv_page_store_unmap(&store);
}

TEST(a_full_store_refuses_and_keeps_nothing_of_what_did_not_fit) {
    struct sv_page_store store = new_store(8);
    unsigned char *payload = new_payload(8 * (size_t)SV_PAGE_BYTES, 1);
    uint32_t first = sv_pages_fill(&store, 1, payload, 5 * (size_t)SV_PAGE_BYTES);
    CHECK(first && !sv_pages_fill(&store, 2, payload, 4 * (size_t)SV_PAGE_BYTES) && taken(&store) == 5);
    uint32_t second = sv_pages_fill(&store, 2, payload, 3 * (size_t)SV_PAGE_BYTES);
    CHECK(second && !sv_pages_fill(&store, 1, payload, 1));
    sv_pages_give_back(&store, first);
    CHECK(sv_pages_fill(&store, 1, payload, 5 * (size_t)SV_PAGE_BYTES) && taken(&store) == 8); /* between the others */
    free(payload);
    sv_page_store_unmap(&store);
}

TEST(only_what_a_dead_process_had_not_handed_on_is_given_back_for_it) {
    struct sv_page_store store = new_store(PAGES);
    unsigned char *payload = new_payload(BIG, 1), *copy = malloc(BIG);
    uint32_t handed_on = sv_pages_fill(&store, 1, payload, BIG);
    sv_pages_hand_on(&store, handed_on);
    CHECK(sv_pages_fill(&store, 1, payload, BIG) && sv_pages_fill(&store, 2, payload, SV_PAGE_BYTES));
    CHECK(taken(&store) == 6 + 6 + 1);
    sv_pages_give_back_of(&store, 1);
    CHECK(taken(&store) == 6 + 1);
    CHECK(sv_pages_copy(&store, handed_on, copy, BIG) == 0 && memcmp(copy, payload, BIG) == 0);
    sv_pages_give_back_of(&store, 2);
    sv_pages_give_back(&store, handed_on);
    CHECK(taken(&store) == 0);
    free(payload);
    free(copy);
    sv_page_store_unmap(&store);
}

TEST(a_damaged_chain_is_told_and_leads_nowhere) {
    struct sv_page_store store = new_store(8);
    unsigned char *payload = new_payload(BIG, 1), *copy = malloc(2 * BIG);
    uint32_t first = sv_pages_fill(&store, 1, payload, BIG);
    CHECK(sv_pages_copy(&store, 0, copy, 1) == -EBADMSG && sv_pages_copy(&store, 9, copy, 1) == -EBADMSG);
    CHECK(sv_pages_copy(&store, first, copy, 2 * BIG) == -EBADMSG); /* longer than the chain */
    store.pages[first - 1].next = 100;
    CHECK(sv_pages_copy(&store, first, copy, BIG) == -EBADMSG);
    sv_pages_give_back(&store, first);
    store.pages[first - 1].next = first; /* a circle */
    sv_pages_give_back(&store, first);
    sv_pages_copy(&store, first, copy, BIG);
    free(payload);
    free(copy);
    sv_page_store_unmap(&store);
}

TEST(a_store_without_pages_has_no_room) {
    struct sv_page_store store = {0};
    CHECK(sv_pages_fill(&store, 1, "x", 1) == 0 && sv_pages_copy(&store, 1, &store, 1) == -EBADMSG);
    sv_page_store_unmap(&store);
}

/* --------------------------------------------------------------------------------------------------------- kill -9 */

#define FILLERS 3
#define KILLS 200

/* Whole payloads only: what another process had taken by mistake would show in the bytes. */
static void fill_for_ever(struct sv_page_store *store, uint32_t owner, _Atomic uint64_t *torn) {
    unsigned char *payload = malloc(BIG), *copy = malloc(BIG);
    for (uint32_t round = 0;; round++) {
        size_t length = 1 + (round * 7919u) % BIG;
        memset(payload, (int)(owner * 50 + round % 50), length);
        uint32_t first = sv_pages_fill(store, owner, payload, length);
        if (!first) continue;
        if (round % 3 == 0) sv_pages_hand_on(store, first);
        if (sv_pages_copy(store, first, copy, length) || memcmp(copy, payload, length)) atomic_fetch_add(torn, 1);
        sv_pages_give_back(store, first);
    }
}

TEST(killed_fillers_tear_nothing_and_their_pages_come_back) {
    struct sv_page_store store = new_store(PAGES);
    _Atomic uint64_t *torn = mmap(NULL, sizeof *torn, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    pid_t children[FILLERS] = {0};
    uint32_t kills = 0;
    srand(5);
    for (; kills < KILLS; kills++) {
        uint32_t victim = (uint32_t)rand() % FILLERS;
        if (children[victim]) {
            kill(children[victim], SIGKILL);
            while (waitpid(children[victim], NULL, 0) < 0 && errno == EINTR) continue;
            sv_pages_give_back_of(&store, victim);
        }
        children[victim] = fork();
        if (children[victim] == 0) fill_for_ever(&store, victim, torn);
        nanosleep(&(struct timespec){.tv_nsec = rand() % 4000000}, NULL);
    }
    for (uint32_t i = 0; i < FILLERS; i++) {
        if (children[i] <= 0) continue;
        kill(children[i], SIGKILL);
        waitpid(children[i], NULL, 0);
        sv_pages_give_back_of(&store, i);
    }
    CHECK(*torn == 0);
    for (uint32_t i = 0; i < store.count; i++) { /* what is left is in nobody's hands: they died with what they had handed on */
        uint32_t owner = atomic_load(&store.pages[i].owner);
        CHECK(owner == 0 || owner == SV_PAGE_HANDED_ON);
    }
    munmap((void *)torn, sizeof *torn);
    sv_page_store_unmap(&store);
}
