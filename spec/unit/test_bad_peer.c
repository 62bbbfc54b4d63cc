/* Peers gone mad: a process may write anything anywhere into the memory it shares. Who reads its rings neither crashes nor hangs,
 * skips what makes no sense, and hears what comes after it. */
#include <stdlib.h>
#include <string.h>

#include "ipc/endpoint.h"
#include "unit.h"

/* One reactor, one worker: endpoints are master 0, manager 1, reactor 2, worker 3 and 4. */
enum { REACTOR = 2, WORKER = 3 };

static const struct sv_ipc_sizes sizes = {.worker_ring = 1 << 16, .task_ring = 1 << 16, .message_ring = 1 << 14};

struct fixture {
    struct sv_arena arena;
    struct sv_ipc ipc;
    struct sv_endpoint reactor, worker;
    uint32_t count;
    uint64_t last_id;
    size_t last_length;
};

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture || sv_arena_map(&fixture->arena, sv_ipc_bytes(1, 1, 1, &sizes) + 65536) ||
        sv_ipc_init(&fixture->ipc, &fixture->arena, true, 1, 1, 1, &sizes) ||
        sv_endpoint_open(&fixture->reactor, &fixture->ipc, REACTOR) || sv_endpoint_open(&fixture->worker, &fixture->ipc, WORKER)) {
        perror("setting up");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    sv_endpoint_close(&fixture->reactor);
    sv_endpoint_close(&fixture->worker);
    sv_ipc_close(&fixture->ipc);
    sv_arena_unmap(&fixture->arena);
    free(fixture);
}

static void note(void *context, const struct sv_message *message) {
    struct fixture *fixture = context;
    fixture->count++;
    fixture->last_id = message->id;
    fixture->last_length = message->length;
}

static void send(struct fixture *fixture, uint64_t id, size_t length) {
    static const unsigned char bytes[8192];
    CHECK(sv_send(&fixture->worker, REACTOR, SV_RECORD_SEND, id, 0, bytes, length) == 0);
    sv_kick_all(&fixture->worker);
}

static uint32_t receive(struct fixture *fixture) {
    fixture->count = 0;
    while (sv_receive(&fixture->reactor, 64, note, fixture)) {}
    return fixture->count;
}

static struct sv_ring *ring_of(struct fixture *fixture) {
    return sv_ipc_ring(&fixture->ipc, REACTOR, WORKER);
}

TEST(a_tail_that_cannot_be_true_is_not_followed) {
    const int64_t shifts[] = {1 << 20, INT64_C(1) << 40, INT64_MIN, -64, 8, -32};
    for (size_t i = 0; i < sizeof shifts / sizeof *shifts; i++) {
        struct fixture *fixture = set_up();
        send(fixture, 1, 100);
        CHECK(receive(fixture) == 1);
        send(fixture, 2, 100);
        atomic_fetch_add(&ring_of(fixture)->tail, (uint64_t)shifts[i] - (shifts[i] == -32 ? 160 : 0));
        CHECK(receive(fixture) == 0);
        CHECK(fixture->reactor.damaged_source == WORKER);
        send(fixture, 3, 50); /* says the truth again */
        CHECK(receive(fixture) >= 1 && fixture->last_id == 3 && fixture->last_length == 50);
        tear_down(fixture);
    }
}

TEST(what_is_overwritten_is_skipped_and_what_follows_is_heard) {
    for (int round = 0; round < 300; round++) {
        struct fixture *fixture = set_up();
        for (uint64_t id = 1; id <= 10; id++) send(fixture, id, 500);
        struct sv_ring *ring = ring_of(fixture);
        for (int i = 0; i < 200; i++) ring->data[rand() % 6000] = (unsigned char)rand();
        CHECK(receive(fixture) <= 200);
        send(fixture, 77, 10);
        CHECK(receive(fixture) == 1 && fixture->last_id == 77 && fixture->last_length == 10);
        for (int i = 0; i < 40; i++) { /* all of the ring is there again */
            send(fixture, 100, 8000);
            CHECK(receive(fixture) == 1 && fixture->last_length == 8000);
        }
        tear_down(fixture);
    }
}

TEST(zeros_up_to_a_wild_tail_do_not_keep_the_reader) {
    struct fixture *fixture = set_up();
    send(fixture, 1, 10);
    struct sv_ring *ring = ring_of(fixture);
    memset(ring->data, 0, ring->size);
    atomic_store(&ring->tail, UINT64_C(1) << 50);
    CHECK(receive(fixture) == 0);
    tear_down(fixture);
}

static uint32_t stretched; /* what the length of the record was changed to after it was looked at */

static void stretch(void *context, const struct sv_message *message) {
    struct fixture *fixture = context;
    struct sv_record *record = (struct sv_record *)((uintptr_t)message->payload - sizeof *record);
    note(fixture, message);
    record->length = stretched;
}

TEST(a_length_that_changes_while_it_is_read_moves_nothing) {
    for (stretched = 0; stretched < 3000; stretched += 500) {
        struct fixture *fixture = set_up();
        for (uint64_t id = 1; id <= 5; id++) send(fixture, id, 1000);
        CHECK(sv_receive(&fixture->reactor, 64, stretch, fixture) == 5);
        CHECK(fixture->last_id == 5 && fixture->last_length == 1000 && sv_ring_backlog(ring_of(fixture)) == 0);
        tear_down(fixture);
    }
}

TEST(a_payload_with_a_hole_is_not_handed_over) {
    struct fixture *fixture = set_up();
    static const unsigned char bytes[40000];
    CHECK(sv_send_wait(&fixture->worker, REACTOR, SV_RECORD_SEND, 5, 0, NULL, 0, bytes, sizeof bytes, NULL, NULL) == 0);
    struct sv_ring *ring = ring_of(fixture);
    uint32_t first = ((struct sv_record *)ring->data)->length;
    ((struct sv_record *)(ring->data + sizeof(struct sv_record) + first))->length = UINT32_MAX; /* the second chunk */
    sv_kick_all(&fixture->worker);
    CHECK(receive(fixture) == 0 && !fixture->reactor.partials);
    send(fixture, 6, 10);
    CHECK(receive(fixture) == 1 && fixture->last_id == 6);
    tear_down(fixture);
}

static int give_up(void *context) {
    (void)context;
    return 1;
}

TEST(what_a_sender_gave_up_half_way_goes_with_its_session) {
    struct fixture *fixture = set_up();
    static const unsigned char bytes[200000]; /* more than the ring takes */
    CHECK(sv_send_wait(&fixture->worker, REACTOR, SV_RECORD_SEND, 5, 0, NULL, 0, bytes, sizeof bytes, give_up, NULL) < 0);
    CHECK(receive(fixture) == 0 && fixture->reactor.partials);
    sv_forget_partials_for(&fixture->reactor, 4);
    CHECK(fixture->reactor.partials);
    sv_forget_partials_for(&fixture->reactor, 5);
    CHECK(!fixture->reactor.partials);
    tear_down(fixture);
}

TEST(a_ring_that_lies_outside_of_the_arena_or_claims_another_size_is_no_ring) {
    struct fixture *fixture = set_up();
    send(fixture, 1, 10);
    uint32_t *place = (uint32_t *)&fixture->ipc.directory[REACTOR * fixture->ipc.endpoints + WORKER], former = *place;
    *place = UINT32_MAX;
    CHECK(receive(fixture) == 0 && !ring_of(fixture));
    *place = former;
    ring_of(fixture)->size = 1 << 30;
    sv_kick(&fixture->worker, REACTOR);
    CHECK(receive(fixture) == 0);
    tear_down(fixture);
}

static void count_consumed(void *context, const struct sv_record *record) {
    (void)record;
    ++*(uint32_t *)context;
}

TEST(the_account_of_what_a_mad_consumer_took_ends) {
    const uint32_t lengths[] = {UINT32_MAX, UINT32_MAX - 31, UINT32_MAX - 62, 1 << 20, 200};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct sv_ring *ring = aligned_alloc(SV_CACHE_LINE, sv_ring_bytes(4096));
        struct sv_ring_writer writer;
        uint32_t consumed = 0;
        sv_ring_init(ring, 4096);
        sv_ring_writer_attach(&writer, ring, count_consumed, &consumed);
        for (int k = 0; k < 4; k++) {
            struct sv_record *record = sv_ring_reserve(&writer, 64);
            *record = (struct sv_record){.length = 64, .type = 1};
            sv_ring_publish(&writer, record);
        }
        ((struct sv_record *)(ring->data + 96))->length = lengths[i]; /* the second one */
        atomic_store(&ring->head, 4 * 96);
        sv_ring_writer_refresh(&writer);
        CHECK(consumed >= 1 && consumed <= 4 && writer.ledger == writer.head);
        free(ring);
    }
}
