/* Bells between two threads that run at the same time: whoever looks for mail after a kick finds all that was sent before it. */
#include <pthread.h>
#include <stdlib.h>
#include <time.h>

#include "ipc/endpoint.h"
#include "unit.h"

#define ROUNDS 50000
#define PATIENCE_NS 200000000 /* a record that is seen later than that was lost to its bell */

/* One reactor, one worker: endpoints are master 0, manager 1, reactor 2, worker 3 and 4. */
enum { REACTOR = 2, WORKER = 3 };

static const struct sv_ipc_sizes sizes = {.worker_ring = 1 << 16, .task_ring = 1 << 16, .message_ring = 1 << 14};

struct race {
    struct sv_ipc ipc;
    struct sv_endpoint worker;
    _Atomic uint32_t received; /* the reactor: records it has seen */
    _Atomic bool is_over;
};

static int64_t now_ns(void) {
    struct timespec now;
    clock_gettime(CLOCK_MONOTONIC, &now);
    return (int64_t)now.tv_sec * 1000000000 + now.tv_nsec;
}

static void count(void *context, const struct sv_message *message) {
    struct race *race = context;
    (void)message;
    atomic_fetch_add(&race->received, 1);
}

/* Looks for mail without a pause, as a loop does that is awake. */
static void *run_reactor(void *context) {
    struct race *race = context;
    struct sv_endpoint reactor;
    if (sv_endpoint_open(&reactor, &race->ipc, REACTOR)) return NULL;
    while (!atomic_load(&race->is_over)) sv_receive(&reactor, SV_DRAIN_BATCH, count, race);
    sv_endpoint_close(&reactor);
    return NULL;
}

static bool arrives(struct race *race, uint32_t total) {
    int64_t until_ns = now_ns() + PATIENCE_NS;
    while (atomic_load(&race->received) != total)
        if (now_ns() > until_ns) return atomic_load(&race->received) == total;
    return true;
}

TEST(a_kick_while_the_peer_takes_its_mail_is_not_lost) {
    struct race *race = calloc(1, sizeof *race);
    struct sv_arena arena;
    pthread_t thread;
    uint32_t sent = 0;
    if (!race || sv_arena_map(&arena, sv_ipc_bytes(1, 1, 1, &sizes) + 65536) ||
        sv_ipc_init(&race->ipc, &arena, true, 1, 1, 1, &sizes) || sv_endpoint_open(&race->worker, &race->ipc, WORKER) ||
        pthread_create(&thread, NULL, run_reactor, race)) {
        perror("setting up");
        exit(1);
    }
    bool is_whole = true;
    for (int i = 0; i < ROUNDS && is_whole; i++) {
        for (int k = 0; k < 2 + i % 3; k++, sent++) {
            sv_send(&race->worker, REACTOR, SV_RECORD_PAUSE, 1, 0, NULL, 0);
            sv_kick_all(&race->worker);
            for (volatile int pause = 0; pause < i % 64; pause++) {}
        }
        is_whole = arrives(race, sent);
        if (!is_whole) fprintf(stderr, "round %d: %u of %u records were seen\n", i, atomic_load(&race->received), sent);
    }
    CHECK(is_whole);
    atomic_store(&race->is_over, true);
    pthread_join(thread, NULL);
    sv_endpoint_close(&race->worker);
    sv_ipc_close(&race->ipc);
    sv_arena_unmap(&arena);
    free(race);
}
