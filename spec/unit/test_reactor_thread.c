/* A reactor thread on its own: the test plays master, manager and two workers. What becomes of connections when workers die. */
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "process/runtime.h"
#include "unit.h"

#define WORKERS 2
#define SLOTS (WORKERS + 2) /* and user processes */
#define PATIENCE_MS 5000

static const struct sv_ipc_sizes sizes = {.worker_ring = 1 << 16, .task_ring = 1 << 16, .message_ring = 1 << 14};

struct seen { /* the last record that a worker got */
    uint16_t type;
    uint64_t id;
    uint32_t count;
};

struct fixture {
    struct sv_runtime rt;
    struct sv_port_rules rules;
    struct sv_reactor_thread thread;
    struct sv_endpoint master, manager, lives[SLOTS][2];
    struct seen seen[SLOTS][2];
    bool is_told;
    uint64_t began_at;
};

static uint32_t choose(void *context, const struct sv_connection *connection, const struct sv_address *from, uint16_t type) {
    (void)context, (void)connection, (void)from, (void)type;
    return 0;
}

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct sv_runtime *rt = &fixture->rt;
    size_t bytes = sv_ipc_bytes(1, WORKERS, SLOTS, &sizes) + sv_session_table_bytes(1024) + sizeof(struct sv_shared) +
                   SLOTS * sizeof(struct sv_slot) + 65536;
    fixture->rules = (struct sv_port_rules){.type = SRVLUA_SOCK_UNIX_STREAM, .listener_fd = -1, .output_limit = 1 << 20, .has_close_events = true, .has_close_callback = true};
    rt->sink = sv_log_sink_new();
    if (!rt->sink || sv_arena_map(&rt->arena, bytes) || sv_session_table_init(&rt->sessions, &rt->arena, 1024, 0) ||
        sv_ipc_init(&rt->ipc, &rt->arena, true, 1, WORKERS, SLOTS, &sizes))
        exit(1);
    rt->shared = sv_arena_alloc(&rt->arena, sizeof *rt->shared);
    rt->slots = sv_arena_alloc(&rt->arena, SLOTS * sizeof *rt->slots);
    rt->config.workers = WORKERS;
    rt->slot_count = SLOTS;
    rt->config.reactors = 1;
    rt->config.is_sticky = true;
    rt->hooks.choose = choose;
    rt->ports = &fixture->rules;
    rt->port_count = 1;
    fixture->thread.rt = rt;
    if (sv_reactor_thread_start(&fixture->thread) || sv_endpoint_open(&fixture->master, &rt->ipc, SV_ENDPOINT_MASTER) ||
        sv_endpoint_open(&fixture->manager, &rt->ipc, SV_ENDPOINT_MANAGER))
        exit(1);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t parity = 0; parity < 2; parity++)
            if (sv_endpoint_open(&fixture->lives[slot][parity], &rt->ipc, sv_endpoint_of_slot(&rt->ipc, slot, parity))) exit(1);
    return fixture;
}

static void tell(struct sv_endpoint *from, uint16_t type, uint64_t id, int32_t value) {
    CHECK(sv_send(from, sv_endpoint_of_reactor(0), type, id, value, NULL, 0) == 0);
    sv_kick_all(from);
}

static void tear_down(struct fixture *fixture) {
    struct sv_runtime *rt = &fixture->rt;
    atomic_store(&rt->shared->shutdown_deadline_ns, sv_now_ns());
    tell(&fixture->master, SV_RECORD_DRAIN, 0, 0);
    sv_reactor_thread_join(&fixture->thread);
    for (uint32_t slot = 0; slot < SLOTS; slot++)
        for (uint32_t parity = 0; parity < 2; parity++) sv_endpoint_close(&fixture->lives[slot][parity]);
    sv_endpoint_close(&fixture->manager);
    sv_endpoint_close(&fixture->master);
    sv_ipc_close(&rt->ipc);
    sv_arena_unmap(&rt->arena);
    sv_log_sink_free(rt->sink);
    free(fixture);
}

/* A client of the reactor; *session is its connection. */
static int connect_client(struct fixture *fixture, struct sv_session **session) {
    int pair[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, pair)) exit(1);
    *session = sv_session_claim(&fixture->rt.sessions);
    (*session)->owner = sv_endpoint_of_reactor(0);
    (*session)->os_fd = pair[1];
    tell(&fixture->master, SV_RECORD_ACCEPTED, atomic_load(&(*session)->id), 0);
    for (int i = 0; i < PATIENCE_MS && sv_session_get_state(*session) != SV_SESSION_OPEN; i++) usleep(1000);
    return pair[0];
}

/* What the client gets up to the end of the stream, or until nothing comes for long. */
static bool gets(int client, const char *wanted) {
    char text[256];
    size_t length = 0;
    struct pollfd readable = {.fd = client, .events = POLLIN};
    while (poll(&readable, 1, PATIENCE_MS) == 1) {
        ssize_t got = read(client, text + length, sizeof text - 1 - length);
        if (got <= 0) break;
        length += (size_t)got;
    }
    text[length] = '\0';
    if (strcmp(text, wanted) != 0) fprintf(stderr, "the client got '%s'\n", text);
    return strcmp(text, wanted) == 0;
}

static void note(void *context, const struct sv_message *message) {
    struct seen *seen = context;
    seen->count++;
    seen->type = message->type;
    seen->id = message->id;
}

static bool hears(struct fixture *fixture, uint32_t slot, uint32_t parity, uint16_t type) {
    struct seen *seen = &fixture->seen[slot][parity];
    for (int i = 0; i < PATIENCE_MS && seen->type != type; i++) {
        sv_receive(&fixture->lives[slot][parity], 1, note, seen);
        usleep(1000);
    }
    return seen->type == type;
}

/* Sends as a worker does inside a callback: no bell is rung before its end. */
static void send_quietly(struct sv_endpoint *worker, const struct sv_session *session, const char *text) {
    CHECK(sv_send(worker, sv_endpoint_of_reactor(0), SV_RECORD_SEND, atomic_load(&session->id), 0, text, strlen(text)) == 0);
}

static void mark(struct sv_session *session, uint32_t flags) {
    sv_session_change_flags(session, atomic_load(&session->id), flags, 0);
}

TEST(what_a_worker_sent_before_it_closes_is_not_lost_when_its_predecessor_dies) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session);
    send_quietly(&fixture->lives[0][1], session, "bye");
    mark(session, SV_SESSION_CLOSE_ASKED | SV_SESSION_CLOSE_FIRED); /* the close callback runs in the second life */
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, 0, 0);
    CHECK(gets(client, "bye"));
    close(client);
    tear_down(fixture);
}

TEST(a_close_that_its_worker_died_over_is_made_good) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session);
    send_quietly(&fixture->lives[0][0], session, "last words");
    mark(session, SV_SESSION_CLOSE_ASKED | SV_SESSION_CLOSE_FIRED);
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, 0, 0);
    CHECK(gets(client, "last words"));
    close(client);
    tear_down(fixture);
}

TEST(a_close_that_another_worker_asked_for_and_died_over_is_made_good) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session); /* of worker 0 */
    mark(session, SV_SESSION_CLOSE_ASKED);
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, 1, 0);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED));
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, ""));
    close(client);
    tear_down(fixture);
}

TEST(a_close_that_a_user_process_asked_for_and_died_over_is_made_good) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session); /* of worker 0 */
    send_quietly(&fixture->lives[WORKERS][0], session, "last words");
    mark(session, SV_SESSION_CLOSE_ASKED);
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, WORKERS, 0);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED));
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, "last words"));
    close(client);
    tear_down(fixture);
}

TEST(what_a_user_process_sent_before_it_closes_is_not_lost_when_a_worker_dies) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session);
    send_quietly(&fixture->lives[WORKERS + 1][0], session, "bye");
    mark(session, SV_SESSION_CLOSE_ASKED);
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, 1, 0);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED));
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, "bye"));
    close(client);
    tear_down(fixture);
}

/* A close callback that runs is its worker's, which lives. */
TEST(the_death_of_a_user_process_does_not_end_a_close_that_is_running) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session);
    mark(session, SV_SESSION_CLOSE_ASKED | SV_SESSION_CLOSE_FIRED);
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, WORKERS, 0);
    send_quietly(&fixture->lives[0][0], session, "from the callback");
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, "from the callback"));
    close(client);
    tear_down(fixture);
}

static int tell_death_late(void *context) {
    struct fixture *fixture = context;
    bool has_begun = sv_writer_to(&fixture->lives[0][0], sv_endpoint_of_reactor(0))->tail > fixture->began_at;
    if (has_begun && !fixture->is_told) tell(&fixture->manager, SV_RECORD_WORKER_DOWN, 0, 0);
    fixture->is_told |= has_begun;
    usleep(1000);
    return 0;
}

static int die(void *context) {
    (void)context;
    return 1;
}

TEST(the_late_news_of_a_death_takes_nothing_from_the_successor) {
    struct fixture *fixture = set_up();
    struct sv_endpoint *worker = &fixture->lives[0][0];
    struct sv_session *session, *other;
    static char bytes[300000]; /* several times what the ring takes, in many parts */
    int client = connect_client(fixture, &session), other_client = connect_client(fixture, &other);
    uint32_t reactor = sv_endpoint_of_reactor(0);
    sv_send_wait(worker, reactor, SV_RECORD_SEND, atomic_load(&other->id), 0, NULL, 0, bytes, sizeof bytes, die, NULL);
    sv_endpoint_close(worker); /* its successor is there before the reactor hears of it */
    CHECK(sv_endpoint_open(worker, &fixture->rt.ipc, sv_endpoint_of_slot(&fixture->rt.ipc, 0, 0)) == 0);
    fixture->began_at = sv_writer_to(worker, reactor)->tail;
    CHECK(sv_send_wait(worker, reactor, SV_RECORD_SEND, atomic_load(&session->id), 0, NULL, 0, bytes, sizeof bytes, tell_death_late,
                       fixture) == 0);
    CHECK(fixture->is_told);
    tell(worker, SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    size_t length = 0;
    struct pollfd readable = {.fd = client, .events = POLLIN};
    for (ssize_t got = 1; got > 0 && poll(&readable, 1, PATIENCE_MS) == 1; length += got > 0 ? (size_t)got : 0)
        got = read(client, bytes, sizeof bytes);
    CHECK(length == sizeof bytes);
    tell(worker, SV_RECORD_CLOSE, atomic_load(&other->id), SV_CLOSE_ANSWER);
    CHECK(gets(other_client, "")); /* nothing of what was cut off */
    close(client);
    close(other_client);
    tear_down(fixture);
}

TEST(a_close_callback_that_its_worker_died_before_is_asked_for_again) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    int client = connect_client(fixture, &session);
    shutdown(client, SHUT_WR);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED));
    fixture->seen[0][0].type = 0;
    tell(&fixture->manager, SV_RECORD_WORKER_DOWN, 0, 0);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED) && fixture->seen[0][0].count == 2);
    send_quietly(&fixture->lives[0][0], session, "so long");
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, "so long"));
    close(client);
    tear_down(fixture);
}

/* Without a close callback nobody is woken by a client that came and went without a word. */
TEST(the_end_of_a_silent_client_is_not_announced_to_nobody) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    fixture->rules.has_close_callback = false;
    int client = connect_client(fixture, &session);
    shutdown(client, SHUT_WR);
    CHECK(gets(client, ""));
    CHECK(!sv_has_mail_from(&fixture->lives[0][0], sv_endpoint_of_reactor(0)));
    close(client);
    tear_down(fixture);
}

/* ... but who has got something of it may still answer until it has seen the end. */
TEST(the_end_of_a_client_that_spoke_is_announced_without_a_callback_too) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    fixture->rules.has_close_callback = false;
    int client = connect_client(fixture, &session);
    CHECK(write(client, "question", 8) == 8);
    shutdown(client, SHUT_WR);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED));
    send_quietly(&fixture->lives[0][0], session, "answer");
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, "answer"));
    close(client);
    tear_down(fixture);
}

/* A send that waits for room learns of the end by its close event. */
TEST(the_end_of_a_client_that_a_send_waits_for_is_announced) {
    struct fixture *fixture = set_up();
    struct sv_session *session;
    fixture->rules.has_close_callback = false;
    fixture->rules.low_watermark = -1; /* never reached */
    int client = connect_client(fixture, &session);
    tell(&fixture->lives[0][0], SV_RECORD_WANT_OUTPUT_LOW, atomic_load(&session->id), 0);
    shutdown(client, SHUT_WR);
    CHECK(hears(fixture, 0, 0, SV_RECORD_CLOSED));
    tell(&fixture->lives[0][0], SV_RECORD_CLOSE, atomic_load(&session->id), SV_CLOSE_ANSWER);
    CHECK(gets(client, ""));
    close(client);
    tear_down(fixture);
}
