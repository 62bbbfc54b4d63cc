/* A worker that works off the inbox of its predecessor while that is still alive: it takes what reactors left there and nothing
 * else. (It once took the manager's order to leave, which was the predecessor's, and marks that the predecessor had taken kept it
 * from its own records.) */
#include <stdlib.h>
#include <unistd.h>

#include "ipc/endpoint.h"
#include "unit.h"

/* Two reactors, one worker: endpoints are master 0, manager 1, reactors 2 and 3, worker 4 and its successor 5. */
enum { MANAGER = 1, REACTOR = 2, OTHER_REACTOR = 3, WORKER = 4, SUCCESSOR = 5 };

static const struct sv_ipc_sizes sizes = {.worker_ring = 1 << 16, .task_ring = 1 << 16, .message_ring = 1 << 14};

struct fixture {
    struct sv_arena arena;
    struct sv_ipc ipc;
    struct sv_endpoint manager, reactors[2], worker, heir;
    uint32_t count, from_manager, next_lives;
};

static void note(void *context, const struct sv_message *message) {
    struct fixture *fixture = context;
    fixture->count++;
    fixture->from_manager += message->source == MANAGER;
}

/* The manager, as quick as can be: it begins a new life as soon as all ends are there. */
static void begin_next_life(void *context, const struct sv_message *message) {
    struct fixture *fixture = context;
    if (message->type != SV_RECORD_END || !sv_ipc_has_all_ends(&fixture->ipc, WORKER)) return;
    sv_ipc_forget_ends(&fixture->ipc, WORKER);
    CHECK(sv_endpoint_open(&fixture->heir, &fixture->ipc, WORKER) == 0);
    fixture->count = 0;
    while (sv_receive(&fixture->heir, 64, note, fixture)) {}
    fixture->next_lives++;
}

static uint32_t receive(struct fixture *fixture, struct sv_endpoint *endpoint) {
    fixture->count = fixture->from_manager = 0;
    while (sv_receive(endpoint, 64, note, fixture)) {}
    return fixture->count;
}

static void send(struct sv_endpoint *from, uint16_t type) {
    CHECK(sv_send(from, WORKER, type, 1, 0, "abc", 3) == 0);
    sv_kick_all(from);
}

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture || sv_arena_map(&fixture->arena, sv_ipc_bytes(2, 1, 1, &sizes) + 65536) ||
        sv_ipc_init(&fixture->ipc, &fixture->arena, true, 2, 1, 1, &sizes) ||
        sv_endpoint_open(&fixture->manager, &fixture->ipc, MANAGER) || sv_endpoint_open(&fixture->worker, &fixture->ipc, WORKER)) {
        perror("setting up");
        exit(1);
    }
    for (uint32_t i = 0; i < 2; i++)
        if (sv_endpoint_open(&fixture->reactors[i], &fixture->ipc, REACTOR + i)) exit(1);
    send(&fixture->reactors[0], SV_RECORD_RECEIVE);
    CHECK(receive(fixture, &fixture->worker) == 1);
    sv_set_muted(&fixture->worker, true); /* the inbox is handed over */
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    sv_endpoint_close(&fixture->manager);
    for (int i = 0; i < 2; i++) sv_endpoint_close(&fixture->reactors[i]);
    sv_endpoint_close(&fixture->worker);
    sv_endpoint_close(&fixture->heir);
    sv_ipc_close(&fixture->ipc);
    sv_arena_unmap(&fixture->arena);
    free(fixture);
}

TEST(an_heir_leaves_alone_what_others_tell_the_owner) {
    struct fixture *fixture = set_up();
    send(&fixture->reactors[0], SV_RECORD_RECEIVE);
    send(&fixture->manager, SV_RECORD_STOP);
    CHECK(sv_endpoint_inherit(&fixture->heir, &fixture->ipc, WORKER) == 0);
    CHECK(receive(fixture, &fixture->heir) == 1 && fixture->from_manager == 0);
    CHECK(receive(fixture, &fixture->worker) == 1 && fixture->from_manager == 1);
    send(&fixture->manager, SV_RECORD_STOP);
    CHECK(receive(fixture, &fixture->heir) == 0);
    CHECK(receive(fixture, &fixture->worker) == 1);
    tear_down(fixture);
}

TEST(an_heir_sees_records_whose_marks_the_owner_took) {
    struct fixture *fixture = set_up();
    CHECK(sv_endpoint_inherit(&fixture->heir, &fixture->ipc, WORKER) == 0);
    CHECK(receive(fixture, &fixture->heir) == 0);
    send(&fixture->reactors[0], SV_RECORD_RECEIVE);
    send(&fixture->reactors[1], SV_RECORD_END); /* a ring that was not there yet */
    CHECK(!sv_has_mail(&fixture->worker) && receive(fixture, &fixture->worker) == 0);
    CHECK(receive(fixture, &fixture->heir) == 2);
    tear_down(fixture);
}

TEST(an_heir_lets_the_owner_sleep_and_be_woken) {
    struct fixture *fixture = set_up();
    uint64_t rung = 0;
    CHECK(sv_fall_asleep(&fixture->worker));
    CHECK(sv_endpoint_inherit(&fixture->heir, &fixture->ipc, WORKER) == 0 && receive(fixture, &fixture->heir) == 0);
    send(&fixture->manager, SV_RECORD_STOP);
    CHECK(read(sv_bell_fd(&fixture->worker), &rung, sizeof rung) == sizeof rung);
    tear_down(fixture);
}

/* It took the END of its predecessor for its own, which left at once, and was ended for good in the eyes of its successor: that never
 * looked for what clients had sent it. */
TEST(an_end_belongs_to_one_life) {
    struct fixture *fixture = set_up();
    sv_set_muted(&fixture->worker, false);
    send(&fixture->reactors[1], SV_RECORD_RECEIVE);
    for (int i = 0; i < 2; i++) send(&fixture->reactors[i], SV_RECORD_END);
    while (sv_receive(&fixture->worker, 64, begin_next_life, fixture)) {}
    CHECK(fixture->next_lives == 1 && fixture->count == 0);
    CHECK(!sv_ipc_has_all_ends(&fixture->ipc, WORKER));
    send(&fixture->reactors[0], SV_RECORD_RECEIVE);
    CHECK(receive(fixture, &fixture->heir) == 1);
    tear_down(fixture);
}

static uint32_t receive_once(struct fixture *fixture, struct sv_endpoint *endpoint) {
    fixture->count = 0;
    sv_receive(endpoint, 1, note, fixture);
    return fixture->count;
}

TEST(ends_are_there_when_all_of_them_are) {
    struct fixture *fixture = set_up();
    sv_set_muted(&fixture->worker, false);
    send(&fixture->reactors[0], SV_RECORD_END);
    CHECK(receive_once(fixture, &fixture->worker) == 1 && !sv_ipc_has_all_ends(&fixture->ipc, WORKER));
    send(&fixture->reactors[1], SV_RECORD_END);
    CHECK(receive_once(fixture, &fixture->worker) == 1 && sv_ipc_has_all_ends(&fixture->ipc, WORKER));
    tear_down(fixture);
}
