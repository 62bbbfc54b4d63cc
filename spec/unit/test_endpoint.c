/* Endpoints: records between processes and threads, bells, payloads in chunks, descriptors, and who takes over a dead one. */
#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/endpoint.h"
#include "unit.h"

#define ROUND_TRIPS 20000
#define DEADLINE_MS 10000

/* One reactor, two workers: endpoints are master 0, manager 1, reactor 2, worker 0 at 3 and 4, worker 1 at 5 and 6. */
enum { MASTER = 0, MANAGER = 1, REACTOR = 2, WORKER = 3, SUCCESSOR = 4, OTHER_WORKER = 5 };

static const struct sv_ipc_sizes sizes = {.worker_ring = 1 << 18, .task_ring = 1 << 16, .message_ring = 1 << 14};

struct fixture {
    struct sv_arena arena;
    struct sv_ipc ipc;
};

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    if (!fixture || sv_arena_map(&fixture->arena, sv_ipc_bytes(1, 2, 2, &sizes) + 65536) ||
        sv_ipc_init(&fixture->ipc, &fixture->arena, true, 1, 2, 2, &sizes)) {
        perror("shared memory");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    sv_ipc_close(&fixture->ipc);
    sv_arena_unmap(&fixture->arena);
    free(fixture);
}

static struct sv_endpoint opened(struct fixture *fixture, uint32_t id) {
    struct sv_endpoint endpoint;
    if (sv_endpoint_open(&endpoint, &fixture->ipc, id)) {
        perror("endpoint");
        exit(1);
    }
    return endpoint;
}

/* What a receiver was handed, at most the last few of them. */
struct received {
    uint32_t count;
    struct sv_message last[8];
    unsigned char bytes[8][32]; /* the beginning of each payload */
    size_t good;                /* bytes that fit the pattern of `pattern_byte` */
};

static unsigned char pattern_byte(size_t position) { return (unsigned char)(position * 7 + position / 251); }

static void note(void *context, const struct sv_message *message) {
    struct received *received = context;
    uint32_t place = received->count++ % 8;
    received->last[place] = *message;
    size_t most = message->length < 32 ? message->length : 32;
    if (most)
        memcpy(received->bytes[place], message->payload, most);
    received->good = 0;
    for (size_t i = 0; i < message->length; i++)
        received->good += message->payload[i] == pattern_byte(i);
}

static int send_text(struct sv_endpoint *from, uint32_t to, uint64_t id, const char *text) {
    return sv_send(from, to, SV_RECORD_SEND, id, 0, text, strlen(text));
}

static bool is_rung(const struct sv_endpoint *endpoint) {
    struct pollfd bell = {.fd = sv_bell_fd(endpoint), .events = POLLIN};
    return poll(&bell, 1, 0) == 1;
}

TEST(a_record_arrives_with_its_members) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    CHECK(!sv_has_mail(&reactor) && sv_receive(&reactor, 10, note, &received) == 0);
    CHECK(sv_send(&worker, REACTOR, SV_RECORD_CLOSE, UINT64_C(1) << 40, -1, "ab", 2) == 0);
    sv_kick_all(&worker);
    CHECK(sv_has_mail(&reactor) && sv_receive(&reactor, 10, note, &received) == 1);
    const struct sv_message *message = &received.last[0];
    CHECK(message->type == SV_RECORD_CLOSE && message->source == WORKER && message->id == UINT64_C(1) << 40);
    CHECK(message->value == -1 && message->length == 2 && memcmp(received.bytes[0], "ab", 2) == 0 && !message->owned);
    CHECK(!sv_has_mail(&reactor));
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(mail_is_taken_in_batches_and_in_order) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    for (uint64_t id = 0; id < 10; id++)
        CHECK(send_text(&worker, REACTOR, id, "x") == 0);
    sv_kick_all(&worker);
    CHECK(sv_receive(&reactor, 4, note, &received) == 4 && received.last[3].id == 3);
    CHECK(sv_has_mail(&reactor) && sv_receive(&reactor, 100, note, &received) == 6 && received.last[9 % 8].id == 9);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(a_full_ring_is_no_error_that_lasts) {
    struct fixture *fixture = set_up();
    struct sv_endpoint manager = opened(fixture, MANAGER), master = opened(fixture, MASTER);
    struct received received = {0};
    unsigned char data[1000] = {0};
    uint32_t sent = 0;
    while (sv_send(&manager, MASTER, SV_RECORD_READY, sent, 0, data, sizeof data) == 0)
        sent++;
    CHECK(sent > 10);
    CHECK(sv_send(&manager, MASTER, SV_RECORD_READY, sent, 0, data, sizeof data) == -EAGAIN);
    CHECK(sv_receive(&master, 1000, note, &received) == sent); /* being full kicks */
    CHECK(sv_has_mail(&manager));                              /* and the receiver tells of the space */
    CHECK(sv_send(&manager, MASTER, SV_RECORD_READY, sent, 0, data, sizeof data) == 0);
    CHECK(sv_send(&manager, MASTER, SV_RECORD_READY, 0, 0, data, 1 << 14) == -EMSGSIZE);
    sv_endpoint_close(&manager);
    sv_endpoint_close(&master);
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------------------ bells */

TEST(bells_ring_only_for_sleepers_and_once) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    CHECK(send_text(&worker, REACTOR, 1, "x") == 0);
    sv_kick_all(&worker);
    CHECK(!is_rung(&reactor));        /* it did not sleep, */
    CHECK(!sv_fall_asleep(&reactor)); /* and does not now that something is there */
    CHECK(sv_receive(&reactor, 10, note, &received) == 1);

    CHECK(sv_fall_asleep(&reactor));
    CHECK(send_text(&worker, REACTOR, 2, "x") == 0);
    CHECK(!is_rung(&reactor)); /* not per record */
    sv_kick_all(&worker);
    CHECK(is_rung(&reactor));
    sv_bell_clear(&reactor);
    sv_kick(&worker, REACTOR);
    CHECK(!is_rung(&reactor));
    sv_wake_up(&reactor);
    CHECK(sv_receive(&reactor, 10, note, &received) == 1);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(a_full_batch_kicks_by_itself) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    CHECK(sv_fall_asleep(&reactor));
    for (uint32_t i = 0; i < SV_KICK_EVERY; i++)
        CHECK(send_text(&worker, REACTOR, i, "x") == 0);
    CHECK(is_rung(&reactor));
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* Its sender died between the record and the bell. */
TEST(the_managers_bells_find_mail_that_nobody_announced) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    CHECK(sv_fall_asleep(&reactor));
    CHECK(send_text(&worker, REACTOR, 1, "last words") == 0);
    sv_endpoint_close(&worker);
    CHECK(!is_rung(&reactor) && !sv_has_mail(&reactor));
    sv_ring_all_bells(&fixture->ipc);
    CHECK(is_rung(&reactor) && sv_receive(&reactor, 10, note, &received) == 1);
    CHECK(memcmp(received.bytes[0], "last words", 10) == 0);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* Waits for mail as a loop does; false after the deadline. */
static bool sleep_until_mail(struct sv_endpoint *endpoint) {
    sv_kick_all(endpoint);
    if (sv_fall_asleep(endpoint)) {
        struct pollfd bell = {.fd = sv_bell_fd(endpoint), .events = POLLIN};
        if (poll(&bell, 1, DEADLINE_MS) != 1)
            return false;
        sv_bell_clear(endpoint);
    }
    sv_wake_up(endpoint);
    return true;
}

static void answer(void *context, const struct sv_message *message) {
    struct sv_endpoint *endpoint = context;
    sv_send(endpoint, message->source, SV_RECORD_SEND, message->id + 1, 0, NULL, 0);
}

TEST(no_wake_up_is_lost_between_processes) {
    struct fixture *fixture = set_up();
    pid_t child = fork();
    if (child == 0) {
        struct sv_endpoint worker = opened(fixture, WORKER);
        for (uint32_t answered = 0; answered < ROUND_TRIPS;) {
            if (!sleep_until_mail(&worker))
                _exit(1);
            answered += sv_receive(&worker, 10, answer, &worker);
        }
        sv_kick_all(&worker);
        _exit(0);
    }
    struct sv_endpoint reactor = opened(fixture, REACTOR);
    struct received received = {0};
    bool is_late = false;
    for (uint32_t i = 0; i < ROUND_TRIPS && !is_late; i++) {
        CHECK(sv_send(&reactor, WORKER, SV_RECORD_RECEIVE, 2 * i, 0, NULL, 0) == 0);
        uint32_t before = received.count;
        while (received.count == before && !is_late) {
            is_late = !sleep_until_mail(&reactor);
            sv_receive(&reactor, 10, note, &received);
        }
        CHECK(received.last[(received.count - 1) % 8].id == 2 * i + 1);
    }
    int status = 1;
    if (is_late)
        kill(child, SIGKILL);
    CHECK(waitpid(child, &status, 0) == child && status == 0 && !is_late);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* ----------------------------------------------------------------------------------------------------------- chunks */

struct draining {
    struct sv_endpoint *receiver;
    struct received *received;
    int calls;
};

static int drain(void *context) {
    struct draining *draining = context;
    draining->calls++;
    sv_receive(draining->receiver, 2, note, draining->received);
    return draining->calls > 10000;
}

static int give_up(void *context) {
    (void)context;
    return 1;
}

TEST(payloads_of_any_length_arrive_whole) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    struct draining draining = {&reactor, &received, 0};
    uint32_t most = sv_max_payload_to(&worker, REACTOR);
    const size_t lengths[] = {0, 1, most - 3, most - 2, most, most + 1, 2 * (size_t)most, 5 << 20};
    unsigned char *data = malloc(5 << 20);
    for (size_t i = 0; i < 5 << 20; i++)
        data[i] = pattern_byte(i);

    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        size_t head = lengths[i] < 3 ? lengths[i] : 3; /* head and payload are one text */
        CHECK(sv_send_wait(&worker, REACTOR, SV_RECORD_SEND, i, 4, data, head, data + head, lengths[i] - head, drain,
                           &draining) == 0);
        sv_kick_all(&worker);
        while (sv_has_mail(&reactor))
            sv_receive(&reactor, 10, note, &received);
        const struct sv_message *last = &received.last[i % 8];
        CHECK(received.count == i + 1 && last->id == i && last->value == 4 && last->source == WORKER);
        CHECK(last->length == lengths[i] && received.good == lengths[i]);
    }
    CHECK(draining.calls > 0 && !reactor.partials);
    free(data);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(chunks_of_different_senders_do_not_mix) {
    struct fixture *fixture = set_up();
    struct sv_endpoint workers[2] = {opened(fixture, WORKER), opened(fixture, OTHER_WORKER)};
    struct sv_endpoint reactor = opened(fixture, REACTOR);
    struct received received = {0};
    unsigned char data[150000];
    for (size_t i = 0; i < sizeof data; i++)
        data[i] = pattern_byte(i);
    for (int i = 0; i < 2; i++) {
        CHECK(sv_send_wait(&workers[i], REACTOR, SV_RECORD_SEND, 1, 0, NULL, 0, data, sizeof data, give_up, NULL) == 0);
        sv_kick_all(&workers[i]);
    }
    while (sv_has_mail(&reactor))
        sv_receive(&reactor, 1, note, &received); /* a chunk of each in turn */
    CHECK(received.count == 2 && received.last[0].length == sizeof data && received.last[1].length == sizeof data);
    CHECK(received.good == sizeof data);
    sv_endpoint_close(&workers[0]);
    sv_endpoint_close(&workers[1]);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

static void keep(void *context, const struct sv_message *message) {
    unsigned char **kept = context;
    if (message->owned) {
        *kept = *message->owned;
        *message->owned = NULL;
    }
}

TEST(a_receiver_may_keep_a_payload_that_came_in_chunks) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    unsigned char data[100000], *kept = NULL;
    memset(data, 'k', sizeof data);
    CHECK(sv_send_wait(&worker, REACTOR, SV_RECORD_SEND, 1, 0, NULL, 0, data, sizeof data, give_up, NULL) == 0);
    sv_kick_all(&worker);
    while (sv_has_mail(&reactor))
        sv_receive(&reactor, 10, keep, &kept);
    CHECK(kept && memcmp(kept, data, sizeof data) == 0);
    free(kept);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(what_a_dead_sender_left_unfinished_is_dropped) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    unsigned char data[600000];
    memset(data, 1, sizeof data); /* more than the ring holds: the sender ends in the middle */
    CHECK(sv_send_wait(&worker, REACTOR, SV_RECORD_SEND, 1, 0, NULL, 0, data, sizeof data, give_up, NULL) == -EPIPE);
    sv_endpoint_close(&worker);
    sv_receive_from(&reactor, WORKER, note, &received);
    CHECK(received.count == 0 && reactor.partials);

    /* its successor begins anew under the same id */
    worker = opened(fixture, WORKER);
    for (size_t i = 0; i < 100000; i++)
        data[i] = pattern_byte(i);
    CHECK(sv_send_wait(&worker, REACTOR, SV_RECORD_SEND, 1, 0, NULL, 0, data, 100000, give_up, NULL) == 0);
    sv_receive_from(&reactor, WORKER, note, &received);
    CHECK(received.count == 1 && received.last[0].length == 100000 && received.good == 100000);

    CHECK(sv_send_wait(&worker, REACTOR, SV_RECORD_SEND, 2, 0, NULL, 0, data, sizeof data, give_up, NULL) == -EPIPE);
    sv_receive_from(&reactor, WORKER, note, &received);
    CHECK(reactor.partials);
    sv_forget_partials(&reactor, OTHER_WORKER);
    CHECK(reactor.partials);
    sv_forget_partials(&reactor, WORKER);
    CHECK(!reactor.partials);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* A packet that came in pieces went with the worker that had begun to put it together, and nobody said so; and what a worker died
 * over was announced as given once more, and was not. */
static int send_packet(struct sv_endpoint *reactor, uint64_t id, const unsigned char *data, size_t length) {
    return sv_send_wait(reactor, WORKER, SV_RECORD_RECEIVE, id, 0, NULL, 0, data, length, give_up, NULL);
}

static unsigned char *new_pattern(size_t length) {
    unsigned char *data = malloc(length);
    for (size_t i = 0; data && i < length; i++)
        data[i] = pattern_byte(i);
    return data;
}

TEST(a_successor_puts_together_what_its_predecessor_had_begun) {
    struct fixture *fixture = set_up();
    struct sv_endpoint reactor = opened(fixture, REACTOR), worker = opened(fixture, WORKER);
    struct received received = {0};
    unsigned char *data = new_pattern(150000);
    CHECK(data && send_packet(&reactor, 1, data, 10) == 0 && send_packet(&reactor, 2, data, 100000) == 0);
    size_t at = 0;
    struct sv_record *record; /* the first piece of 3, a whole packet between, the rest of 3 */
    uint32_t size = sv_max_payload_to(&reactor, WORKER);
    CHECK((record = sv_send_reserve(&reactor, WORKER, size, &size)));
    *record = (struct sv_record){.length = size, .type = SV_RECORD_RECEIVE, .flags = SV_RECORD_FIRST, .id = 3};
    memcpy(record->payload, data, size);
    sv_send_filled(&reactor, WORKER, record);
    CHECK(send_packet(&reactor, 4, data, 20) == 0);
    sv_kick_all(&reactor);
    while (sv_receive(&worker, 1, note, &received)) {}
    CHECK(received.count == 3 && received.last[2].id == 4 && worker.partials);
    sv_endpoint_close(&worker); /* dies */

    for (int life = 0; life < 2; life++) { /* and the next one, too, at once */
        worker = opened(fixture, WORKER);
        received.count = 0;
        while (sv_receive(&worker, 1, note, &received)) {}
        CHECK(received.count == 0 && worker.partials && !worker.partials->next && worker.partials->id == 3);
        if (life == 0) sv_endpoint_close(&worker);
    }
    at = size;
    CHECK(sv_send_some(&reactor, WORKER, SV_RECORD_RECEIVE, 3, 0, NULL, 0, data, 100000, &at) == 0);
    sv_kick_all(&reactor);
    while (sv_receive(&worker, 1, note, &received)) {}
    CHECK(received.count == 1 && received.last[0].id == 3 && received.last[0].length == 100000 && received.good == 100000);
    CHECK(sv_ring_backlog(sv_ipc_ring(&fixture->ipc, WORKER, REACTOR)) == 0);
    free(data);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(a_long_packet_whose_beginning_is_gone_is_told_as_lost) {
    struct fixture *fixture = set_up();
    struct sv_endpoint reactor = opened(fixture, REACTOR), worker = opened(fixture, WORKER);
    struct received received = {0};
    size_t length = 700000, at = 0; /* the ring has room for a third of it */
    unsigned char *data = new_pattern(length);
    for (int i = 0; i < 2; i++) {
        CHECK(sv_send_some(&reactor, WORKER, SV_RECORD_RECEIVE, 7, 0, NULL, 0, data, length, &at) == -EAGAIN);
        sv_kick_all(&reactor);
        while (sv_receive(&worker, 1, note, &received)) {}
        CHECK(received.count == 0 && worker.partials);
    }
    sv_endpoint_close(&worker); /* dies */
    worker = opened(fixture, WORKER);
    while (sv_send_some(&reactor, WORKER, SV_RECORD_RECEIVE, 7, 0, NULL, 0, data, length, &at) == -EAGAIN) {
        sv_kick_all(&reactor);
        while (sv_receive(&worker, 1, note, &received)) {}
    }
    sv_kick_all(&reactor);
    while (sv_receive(&worker, 1, note, &received)) {}
    CHECK(received.count == 1 && received.last[0].type == SV_RECORD_LOST && received.last[0].id == 7 &&
          received.last[0].value == SV_RECORD_RECEIVE);
    CHECK(send_packet(&reactor, 7, data, 100000) == 0);
    sv_kick_all(&reactor);
    while (sv_receive(&worker, 1, note, &received)) {}
    CHECK(received.count == 2 && received.last[1].length == 100000 && received.good == 100000);
    free(data);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* A worker that dies over one of the packets that it is handed. */
struct mortal {
    struct received received;
    uint32_t dies_at;
};

static void note_and_die(void *context, const struct sv_message *message) {
    struct mortal *mortal = context;
    note(&mortal->received, message);
    if (mortal->received.count == mortal->dies_at) _exit(0);
}

static void live(struct fixture *fixture, struct mortal *mortal, uint32_t dies_at) {
    memset(mortal, 0, sizeof *mortal);
    mortal->dies_at = dies_at;
    pid_t child = fork();
    if (child == 0) {
        struct sv_endpoint worker = opened(fixture, WORKER);
        worker.is_redelivering = true;
        while (sv_receive(&worker, 1, note_and_die, mortal)) {}
        _exit(0);
    }
    CHECK(child > 0 && waitpid(child, NULL, 0) == child);
}

TEST(a_packet_in_pieces_is_given_once_more_and_no_third_time) {
    struct fixture *fixture = set_up();
    struct sv_endpoint reactor = opened(fixture, REACTOR);
    struct mortal *mortal = mmap(NULL, sizeof *mortal, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    unsigned char *data = new_pattern(100000);
    CHECK(mortal != MAP_FAILED && data);
    CHECK(send_packet(&reactor, 1, data, 10) == 0 && send_packet(&reactor, 2, data, 100000) == 0 && send_packet(&reactor, 3, data, 5) == 0);
    sv_kick_all(&reactor);

    const struct received *received = &mortal->received;
    live(fixture, mortal, 2);
    CHECK(received->count == 2 && received->last[1].id == 2 && received->good == 100000);
    CHECK(sv_ipc_gives_again(&fixture->ipc, WORKER, REACTOR));
    live(fixture, mortal, 1);
    CHECK(received->count == 1 && received->last[0].id == 2 && received->good == 100000);
    CHECK(!sv_ipc_gives_again(&fixture->ipc, WORKER, REACTOR));
    live(fixture, mortal, 0);
    CHECK(received->count == 1 && received->last[0].id == 3 && received->good == 5);
    CHECK(sv_ring_backlog(sv_ipc_ring(&fixture->ipc, WORKER, REACTOR)) == 0);
    munmap(mortal, sizeof *mortal);
    free(data);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------- muting, taking over */

TEST(a_muted_inbox_leaves_the_reactors_records_alone) {
    struct fixture *fixture = set_up();
    struct sv_endpoint reactor = opened(fixture, REACTOR), manager = opened(fixture, MANAGER);
    struct sv_endpoint worker = opened(fixture, WORKER);
    struct received received = {0};
    CHECK(send_text(&reactor, WORKER, 1, "event") == 0 && send_text(&manager, WORKER, 2, "order") == 0);
    sv_kick_all(&reactor);
    sv_kick_all(&manager);
    sv_set_muted(&worker, true);
    CHECK(sv_receive(&worker, 10, note, &received) == 1 && received.last[0].id == 2);
    CHECK(sv_fall_asleep(&worker));
    sv_wake_up(&worker);
    sv_set_muted(&worker, false);
    CHECK(sv_has_mail(&worker) && sv_receive(&worker, 10, note, &received) == 1 && received.last[1].id == 1);
    sv_endpoint_close(&reactor);
    sv_endpoint_close(&manager);
    sv_endpoint_close(&worker);
    tear_down(fixture);
}

static void die_at_second(void *context, const struct sv_message *message) {
    (void)context;
    if (message->id == 2)
        _exit(0); /* in the middle of its callback */
}

TEST(a_successor_gets_what_was_queued_and_not_what_was_running) {
    struct fixture *fixture = set_up();
    struct sv_endpoint reactor = opened(fixture, REACTOR);
    struct received received = {0};
    for (uint64_t id = 1; id <= 4; id++)
        CHECK(send_text(&reactor, WORKER, id, "x") == 0);
    sv_kick_all(&reactor);
    pid_t child = fork();
    if (child == 0) {
        struct sv_endpoint worker = opened(fixture, WORKER);
        sv_receive(&worker, 10, die_at_second, NULL);
        _exit(1);
    }
    int status = 1;
    CHECK(waitpid(child, &status, 0) == child && status == 0);
    sv_ring_all_bells(&fixture->ipc);
    struct sv_endpoint worker = opened(fixture, WORKER);
    CHECK(sv_receive(&worker, 10, note, &received) == 2 && received.last[0].id == 3 && received.last[1].id == 4);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

TEST(a_receiver_that_defers_gives_the_space_back_later) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    struct received received = {0};
    reactor.is_deferring_release = true;
    CHECK(send_text(&worker, REACTOR, 1, "still there") == 0);
    sv_kick_all(&worker);
    CHECK(sv_receive(&reactor, 10, note, &received) == 1);
    struct sv_ring *ring = sv_ipc_ring(&fixture->ipc, REACTOR, WORKER);
    CHECK(ring && sv_ring_backlog(ring) > 0);
    CHECK(memcmp(received.last[0].payload, "still there", 11) == 0); /* may be written from the ring */
    sv_release_held(&reactor);
    CHECK(ring && sv_ring_backlog(ring) == 0);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

static void count_taken(void *context, const struct sv_record *record) { *(uint64_t *)context += record->id; }

TEST(a_sender_hears_what_its_peers_took) {
    struct fixture *fixture = set_up();
    struct sv_endpoint reactor = opened(fixture, REACTOR), worker = opened(fixture, WORKER);
    struct received received = {0};
    uint64_t taken = 0;
    reactor.consumed = count_taken;
    reactor.consumed_context = &taken;
    CHECK(send_text(&reactor, WORKER, 3, "x") == 0 && send_text(&reactor, WORKER, 4, "x") == 0);
    sv_kick_all(&reactor);
    sv_ring_writer_refresh(sv_writer_to(&reactor, WORKER));
    CHECK(taken == 0);
    CHECK(sv_receive(&worker, 10, note, &received) == 2);
    sv_ring_writer_refresh(sv_writer_to(&reactor, WORKER));
    CHECK(taken == 7);
    sv_endpoint_close(&reactor);
    sv_endpoint_close(&worker);
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------------ descriptors */

static bool is_file_with(int fd, char byte) {
    char found = 0;
    return fd >= 0 && pread(fd, &found, 1, 0) == 1 && found == byte;
}

static int file_with(char byte) {
    int fd = memfd_create("endpoint", MFD_CLOEXEC);
    if (fd < 0 || write(fd, &byte, 1) != 1) {
        perror("memfd");
        exit(1);
    }
    return fd;
}

TEST(open_files_reach_the_process_that_takes_their_tag) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    int error = 0, first = file_with('1'), second = file_with('2'), taken;
    uint64_t first_tag = sv_fd_send(&worker, REACTOR, first, 100, &error);
    uint64_t second_tag = sv_fd_send(&worker, REACTOR, second, 100, &error);
    CHECK(first_tag && second_tag && first_tag != second_tag && !error);
    close(first);
    close(second);
    CHECK(is_file_with(taken = sv_fd_take(&reactor, second_tag), '2')); /* records may overtake one another */
    close(taken);
    CHECK(is_file_with(taken = sv_fd_take(&reactor, first_tag), '1'));
    close(taken);
    CHECK(sv_fd_take(&reactor, first_tag) == -1);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    tear_down(fixture);
}

/* Each file's sender died before its record: nobody takes them, and they must not pile up. */
TEST(descriptors_without_a_record_are_closed) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER), reactor = opened(fixture, REACTOR);
    int file = file_with('x'), error = 0;
    for (int i = 0; i < 2000; i++) {
        uint64_t tag = sv_fd_send(&worker, REACTOR, file, 100, &error);
        if (!CHECK(tag != 0))
            break;
        CHECK(sv_fd_take(&reactor, tag + 1) == -1);
    }
    int lowest = dup(file);
    CHECK(lowest < 600);
    close(lowest);
    close(file);
    sv_endpoint_close(&worker);
    sv_endpoint_close(&reactor);
    lowest = open("/dev/null", O_RDONLY);
    CHECK(lowest < 60);
    close(lowest);
    tear_down(fixture);
}

TEST(a_full_channel_is_waited_for_and_given_up) {
    struct fixture *fixture = set_up();
    struct sv_endpoint worker = opened(fixture, WORKER);
    int file = file_with('x'), error = 0, sent = 0;
    while (sent < 10000 && sv_fd_send(&worker, REACTOR, file, 20, &error))
        sent++;
    CHECK(sent > 1 && sent < 10000 && error == EAGAIN);
    close(file);
    sv_endpoint_close(&worker);
    tear_down(fixture);
}
