/* The outbox: records that wait for room keep their order and stay whole, and what is for the dead is dropped. */
#include <stdlib.h>
#include <string.h>

#include "ipc/outbox.h"
#include "unit.h"

/* Endpoints of two workers without reactors: master 0, manager 1, worker 0 at 2 and 3, worker 1 at 4 and 5. */
enum { MASTER = 0, WORKER = 2, OTHER = 4 };

static const struct sv_ipc_sizes sizes = {.worker_ring = 1 << 14, .task_ring = 1 << 14, .message_ring = 1 << 14};

struct fixture {
    struct sv_arena arena;
    struct sv_ipc ipc;
    struct sv_endpoint master, worker, other;
    struct sv_outbox outbox;
};

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture || sv_arena_map(&fixture->arena, sv_ipc_bytes(0, 2, 2, &sizes) + 65536) ||
        sv_ipc_init(&fixture->ipc, &fixture->arena, true, 0, 2, 2, &sizes) ||
        sv_endpoint_open(&fixture->master, &fixture->ipc, MASTER) ||
        sv_endpoint_open(&fixture->worker, &fixture->ipc, WORKER) ||
        sv_endpoint_open(&fixture->other, &fixture->ipc, OTHER)) {
        perror("shared memory");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    sv_outbox_free(&fixture->outbox);
    sv_endpoint_close(&fixture->master);
    sv_endpoint_close(&fixture->worker);
    sv_endpoint_close(&fixture->other);
    sv_ipc_close(&fixture->ipc);
    sv_arena_unmap(&fixture->arena);
    free(fixture);
}

/* Payload of `length` bytes that tells its id. */
static int put(struct fixture *fixture, uint32_t to, uint64_t id, size_t length) {
    unsigned char *payload = malloc(length + 1);
    if (!payload)
        exit(1);
    memset(payload, (int)id, length);
    int result = sv_outbox_send(&fixture->outbox, &fixture->master, to, SV_RECORD_COMMAND, id, 7, "head", 4, payload, length);
    free(payload);
    return result;
}

struct received {
    int count;
    uint64_t ids[64];
    bool is_whole;
};

static void note(void *context, const struct sv_message *message) {
    struct received *received = context;
    received->is_whole = received->is_whole && message->type == SV_RECORD_COMMAND && message->value == 7 &&
                         message->length >= 4 && memcmp(message->payload, "head", 4) == 0;
    for (size_t i = 4; i < message->length; i++)
        received->is_whole = received->is_whole && message->payload[i] == (unsigned char)message->id;
    if (received->count < 64)
        received->ids[received->count] = message->id;
    received->count++;
}

/* The peer takes everything in, and the sender sends on, until nothing moves any more. */
static struct received exchange(struct fixture *fixture, struct sv_endpoint *peer) {
    struct received received = {.is_whole = true};
    for (int turn = 0; turn < 1000; turn++) {
        sv_kick_all(&fixture->master);
        atomic_store(&peer->inbox->look_everywhere, 1);
        while (sv_receive(peer, SV_DRAIN_BATCH, note, &received)) {}
        sv_outbox_flush(&fixture->outbox, &fixture->master);
    }
    return received;
}

TEST(what_fits_goes_at_once) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100) == 0 && put(fixture, WORKER, 2, 0) == 0 && !fixture->outbox.first);
    struct received received = exchange(fixture, &fixture->worker);
    CHECK(received.count == 2 && received.ids[0] == 1 && received.ids[1] == 2 && received.is_whole);
    tear_down(fixture);
}

TEST(what_does_not_fit_comes_later_whole_and_in_order) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && fixture->outbox.bytes == 100004);
    CHECK(put(fixture, WORKER, 2, 5) == 0 && put(fixture, WORKER, 3, 70000) == 0 && put(fixture, WORKER, 4, 0) == 0);
    struct received received = exchange(fixture, &fixture->worker);
    CHECK(received.count == 4 && received.is_whole && !fixture->outbox.first && fixture->outbox.bytes == 0);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(received.ids[i] == i + 1);
    tear_down(fixture);
}

TEST(a_full_peer_holds_up_no_other) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && put(fixture, OTHER, 2, 50) == 0);
    struct received received = exchange(fixture, &fixture->other);
    CHECK(received.count == 1 && received.ids[0] == 2 && fixture->outbox.first);
    CHECK(exchange(fixture, &fixture->worker).count == 1 && !fixture->outbox.first);
    tear_down(fixture);
}

TEST(what_is_dropped_does_not_come) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && put(fixture, WORKER, 2, 10) == 0 && put(fixture, OTHER, 1, 100000) == 0);
    sv_outbox_drop(&fixture->outbox, WORKER, 1);
    struct received received = exchange(fixture, &fixture->worker);
    CHECK(received.count == 1 && received.ids[0] == 2);
    CHECK(exchange(fixture, &fixture->other).count == 1 && !fixture->outbox.first);
    tear_down(fixture);
}

TEST(all_that_waits_for_a_peer_can_be_dropped) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && put(fixture, WORKER, 2, 100000) == 0 && put(fixture, OTHER, 3, 100000) == 0);
    sv_outbox_drop_all(&fixture->outbox, WORKER);
    CHECK(exchange(fixture, &fixture->worker).count == 0);
    struct received received = exchange(fixture, &fixture->other);
    CHECK(received.count == 1 && received.ids[0] == 3 && !fixture->outbox.first);
    tear_down(fixture);
}

/* As many small records as go into the ring of a peer now. */
static int fill(struct fixture *fixture, uint32_t to) {
    int count = 0;
    while (sv_send(&fixture->master, to, SV_RECORD_COMMAND, 9, 7, "head", 4) == 0)
        count++;
    return count;
}

TEST(bulk_leaves_room_for_others) {
    struct fixture *fixture = set_up();
    fixture->outbox.is_bulk = true;
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && put(fixture, WORKER, 2, 2000) == 0 && fixture->outbox.first);
    int others = fill(fixture, WORKER);
    CHECK(others >= (int)(sizes.message_ring / 4 / (2 * SV_RECORD_ALIGN)));
    struct received received = exchange(fixture, &fixture->worker);
    CHECK(received.count == others + 2 && received.is_whole && !fixture->outbox.first);
    tear_down(fixture);
}

TEST(what_is_superseded_does_not_come_unless_it_was_begun) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && put(fixture, WORKER, 2, 10) == 0 && put(fixture, OTHER, 3, 100000) == 0 &&
          put(fixture, OTHER, 4, 10) == 0);
    sv_outbox_supersede(&fixture->outbox, WORKER, SV_RECORD_COMMAND, 8);
    sv_outbox_supersede(&fixture->outbox, OTHER, SV_RECORD_COMMAND, 7);
    CHECK(exchange(fixture, &fixture->worker).count == 2);
    struct received received = exchange(fixture, &fixture->other);
    CHECK(received.count == 1 && received.ids[0] == 3 && received.is_whole && !fixture->outbox.first && fixture->outbox.bytes == 0);
    tear_down(fixture);
}

TEST(what_is_left_at_the_end_is_freed) {
    struct fixture *fixture = set_up();
    CHECK(put(fixture, WORKER, 1, 100000) == 0 && put(fixture, OTHER, 2, 100000) == 0);
    sv_outbox_free(&fixture->outbox);
    CHECK(!fixture->outbox.first && !fixture->outbox.last && fixture->outbox.bytes == 0);
    tear_down(fixture);
}
