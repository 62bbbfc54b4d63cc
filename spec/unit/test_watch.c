/* Watched descriptors, and what else loops offer to programs. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "reactor/loop.h"
#include "unit.h"

#define DEADLINE_MS 5000

struct fixture {
    struct srvlua_loop loop;
    int ends[2]; /* a socket pair; the first one is watched */
    srvlua_watch *watch;
    int calls, seen; /* of the watch's callback; what it was told last */
    int result;      /* what it returns */
    int failures, entered, left;
};

static void note_failure(void *context) { ((struct fixture *)context)->failures++; }
static void note_entry(void *context) { ((struct fixture *)context)->entered++; }
static void note_exit(void *context) { ((struct fixture *)context)->left++; }

static int note_call(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct fixture *fixture = user_data;
    (void)loop;
    CHECK(fd == fixture->ends[0]);
    fixture->calls++;
    fixture->seen = events;
    return fixture->result;
}

static int free_it(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct fixture *fixture = user_data;
    srvlua_watch_free(fixture->watch);
    fixture->watch = NULL;
    return note_call(loop, fd, events, user_data);
}

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct sv_loop_hooks hooks = {
        .failed = note_failure, .before_callback = note_entry, .after_callback = note_exit, .context = fixture};
    if (!fixture || sv_loop_init(&fixture->loop, NULL, &hooks) ||
        socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, fixture->ends)) {
        perror("set up");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    srvlua_watch_free(fixture->watch);
    sv_loop_free(&fixture->loop);
    close(fixture->ends[0]);
    close(fixture->ends[1]);
    free(fixture);
}

static void watch(struct fixture *fixture, int events, srvlua_watch_callback callback) {
    fixture->watch = srvlua_watch_new(&fixture->loop, fixture->ends[0], events, callback, fixture, NULL);
    CHECK(fixture->watch != NULL);
}

static void send_byte(struct fixture *fixture) { CHECK(write(fixture->ends[1], "x", 1) == 1); }

static bool is_called(struct fixture *fixture) {
    int64_t end = sv_now_ns() + DEADLINE_MS * SV_NS_PER_MS;
    int before = fixture->calls;
    while (fixture->calls == before && sv_now_ns() < end)
        sv_loop_turn(&fixture->loop, 50);
    return fixture->calls > before;
}

static bool is_left_alone(struct fixture *fixture) {
    int before = fixture->calls;
    for (int i = 0; i < 3; i++)
        sv_loop_turn(&fixture->loop, 1);
    return fixture->calls == before;
}

TEST(callbacks_tell_what_of_the_wanted_is_possible) {
    struct fixture *fixture = set_up();
    watch(fixture, SRVLUA_READABLE, note_call);
    CHECK(is_left_alone(fixture));
    send_byte(fixture);
    CHECK(is_called(fixture) && fixture->seen == SRVLUA_READABLE);
    srvlua_watch_set(fixture->watch, SRVLUA_WRITABLE);
    CHECK(srvlua_watch_get(fixture->watch) == SRVLUA_WRITABLE);
    CHECK(is_called(fixture) && fixture->seen == SRVLUA_WRITABLE);
    srvlua_watch_set(fixture->watch, SRVLUA_READABLE | SRVLUA_WRITABLE);
    CHECK(is_called(fixture) && fixture->seen == (SRVLUA_READABLE | SRVLUA_WRITABLE));
    srvlua_watch_set(fixture->watch, 0);
    CHECK(is_left_alone(fixture));
    tear_down(fixture);
}

TEST(a_hang_up_is_told_to_whoever_waits_for_anything) {
    struct fixture *fixture = set_up();
    watch(fixture, SRVLUA_READABLE | SRVLUA_WRITABLE, note_call);
    close(fixture->ends[1]);
    CHECK(is_called(fixture) && fixture->seen == (SRVLUA_READABLE | SRVLUA_WRITABLE));
    tear_down(fixture);
}

TEST(a_watch_may_end_in_its_callback) {
    struct fixture *fixture = set_up();
    watch(fixture, SRVLUA_READABLE, free_it);
    send_byte(fixture);
    CHECK(is_called(fixture) && !fixture->watch && srvlua_loop_pending(&fixture->loop) == 0);
    CHECK(is_left_alone(fixture));
    tear_down(fixture);
}

TEST(a_watch_that_ends_in_anothers_callback_is_not_called_any_more) {
    struct fixture *fixture = set_up();
    srvlua_watch *both[2];
    watch(fixture, SRVLUA_WRITABLE, free_it); /* ends whichever of the two is called second */
    both[0] = fixture->watch;
    watch(fixture, SRVLUA_WRITABLE, free_it);
    both[1] = fixture->watch;
    CHECK(srvlua_loop_pending(&fixture->loop) == 2);
    CHECK(is_called(fixture) && fixture->calls == 1);
    fixture->watch = both[0];
    CHECK(is_called(fixture) && fixture->calls == 2 && both[1]);
    CHECK(srvlua_loop_pending(&fixture->loop) == 0);
    tear_down(fixture);
}

TEST(a_descriptor_may_be_watched_twice) {
    struct fixture *fixture = set_up();
    watch(fixture, SRVLUA_READABLE, note_call);
    srvlua_watch *second = srvlua_watch_new(&fixture->loop, fixture->ends[0], SRVLUA_WRITABLE, note_call, fixture, NULL);
    CHECK(is_called(fixture) && fixture->seen == SRVLUA_WRITABLE);
    srvlua_watch_free(second);
    CHECK(is_left_alone(fixture));
    send_byte(fixture);
    CHECK(is_called(fixture) && fixture->seen == SRVLUA_READABLE);
    tear_down(fixture);
}

TEST(a_number_that_belongs_to_another_file_by_now_is_watched_as_that) {
    struct fixture *fixture = set_up();
    int others[2];
    watch(fixture, SRVLUA_READABLE, note_call);
    CHECK(is_left_alone(fixture));
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, others) == 0);
    srvlua_watch_free(fixture->watch);
    CHECK(dup2(others[0], fixture->ends[0]) == fixture->ends[0]);
    watch(fixture, SRVLUA_READABLE, note_call);
    CHECK(is_left_alone(fixture));
    CHECK(write(others[1], "x", 1) == 1);
    CHECK(is_called(fixture));
    close(others[0]);
    close(others[1]);
    tear_down(fixture);
}

TEST(what_is_no_open_descriptor_is_refused) {
    struct fixture *fixture = set_up();
    struct srvlua_status status = {0};
    int closed = dup(fixture->ends[0]);
    close(closed);
    CHECK(!srvlua_watch_new(&fixture->loop, -1, SRVLUA_READABLE, note_call, fixture, &status) && status.code == EBADF);
    CHECK(!srvlua_watch_new(&fixture->loop, closed, SRVLUA_READABLE, note_call, fixture, NULL));
    CHECK(srvlua_loop_pending(&fixture->loop) == 0);
    tear_down(fixture);
}

TEST(an_error_is_told_to_the_loops_owner_and_hooks_stand_around_each_call) {
    struct fixture *fixture = set_up();
    fixture->result = 1;
    watch(fixture, SRVLUA_WRITABLE, note_call);
    CHECK(is_called(fixture) && fixture->failures == fixture->calls);
    CHECK(fixture->entered == fixture->calls && fixture->left == fixture->calls);
    tear_down(fixture);
}

static int nothing(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)loop, (void)timer, (void)user_data;
    return 0;
}

TEST(pending_is_what_keeps_a_process_from_leaving) {
    struct fixture *fixture = set_up();
    CHECK(srvlua_loop_pending(&fixture->loop) == 0);
    watch(fixture, 0, note_call);
    CHECK(srvlua_loop_pending(&fixture->loop) == 1);
    srvlua_watch_set_background(fixture->watch, 1);
    srvlua_watch_set_background(fixture->watch, 2);
    CHECK(srvlua_loop_pending(&fixture->loop) == 0);
    srvlua_watch_set_background(fixture->watch, 0);
    srvlua_timer_add(&fixture->loop, 1000, 0, nothing, NULL, NULL);
    sv_timer_add_internal(&fixture->loop, 1000, false, nothing, NULL);
    srvlua_defer(&fixture->loop, nothing, NULL);
    CHECK(srvlua_loop_pending(&fixture->loop) == 3);
    sv_loop_turn(&fixture->loop, 0);
    CHECK(srvlua_loop_pending(&fixture->loop) == 2);
    tear_down(fixture);
}

TEST(a_loop_that_ends_leaves_watches_to_their_owners) {
    struct fixture *fixture = set_up();
    srvlua_loop *loop = srvlua_loop_new();
    fixture->watch = srvlua_watch_new(loop, fixture->ends[0], SRVLUA_WRITABLE, note_call, fixture, NULL);
    srvlua_loop_free(loop);
    srvlua_loop_free(NULL);
    srvlua_watch_set(fixture->watch, SRVLUA_READABLE);
    srvlua_watch_set_background(fixture->watch, 1);
    srvlua_watch_free(fixture->watch);
    srvlua_watch_free(NULL);
    fixture->watch = NULL;
    CHECK(fixture->calls == 0);
    tear_down(fixture);
}

TEST(the_copy_in_a_child_does_not_touch_the_parents_watches) {
    struct fixture *fixture = set_up();
    watch(fixture, SRVLUA_READABLE, note_call);
    CHECK(is_left_alone(fixture)); /* the kernel knows of it */
    pid_t child = fork();
    if (child == 0) {
        srvlua_watch_free(fixture->watch);
        sv_loop_free(&fixture->loop);
        _exit(0);
    }
    CHECK(waitpid(child, NULL, 0) == child);
    send_byte(fixture);
    CHECK(is_called(fixture));
    tear_down(fixture);
}

TEST(a_turn_without_limit_waits_for_what_comes) {
    struct fixture *fixture = set_up();
    srvlua_loop *loop = srvlua_loop_new();
    int64_t before_ns = sv_now_ns();
    srvlua_timer_add(loop, 20, 0, nothing, NULL, NULL);
    while (srvlua_loop_pending(loop) && srvlua_loop_turns(loop) < 10)
        srvlua_loop_turn(loop, -1);
    CHECK(srvlua_loop_pending(loop) == 0 && srvlua_loop_turns(loop) > 0);
    CHECK(sv_now_ns() - before_ns >= 19 * SV_NS_PER_MS);
    srvlua_loop_free(loop);
    tear_down(fixture);
}

/* A letter per call: t timer, d deferred, w watch, e end of the turn, b its beginning. */
static char trace[64];

static int mark(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)loop, (void)timer;
    size_t length = 0;
    while (trace[length])
        length++;
    if (length + 1 < sizeof trace)
        trace[length] = *(const char *)user_data;
    return 0;
}

static int mark_and_defer(srvlua_loop *loop, int64_t timer, void *user_data) {
    srvlua_defer(loop, mark, "d");
    return mark(loop, timer, user_data);
}

TEST(a_turn_has_its_order) {
    srvlua_loop *loop = srvlua_loop_new();
    CHECK(srvlua_loop_set_cycle(loop, 0, NULL, NULL) == -SRVLUA_ERROR_INVALID_PARAMS);
    srvlua_timer_add(loop, 1, 0, mark_and_defer, "t", NULL);
    CHECK(srvlua_loop_set_cycle(loop, 0, mark, "e") == 0 && srvlua_loop_set_cycle(loop, 1, mark, "b") == 0);
    for (int i = 0; i < 10 && srvlua_loop_pending(loop); i++)
        srvlua_loop_turn(loop, -1);
    CHECK(strstr(trace, "btde") != NULL && srvlua_loop_turns(loop) < 10);
    CHECK(srvlua_loop_set_cycle(loop, 1, NULL, NULL) == 0 && srvlua_loop_set_cycle(loop, 0, NULL, NULL) == 0);
    CHECK(srvlua_loop_set_cycle(loop, 1, NULL, NULL) == -SRVLUA_ERROR_INVALID_PARAMS);
    srvlua_loop_free(loop);
}

static int mark_until_five(srvlua_loop *loop, int64_t timer, void *user_data) {
    int *calls = user_data;
    (void)timer;
    if (++*calls < 5)
        srvlua_call_soon(loop, mark_until_five, calls);
    return 0;
}

TEST(what_is_called_soon_comes_in_the_same_turn) {
    srvlua_loop *loop = srvlua_loop_new();
    int calls = 0;
    CHECK(srvlua_call_soon(loop, mark_until_five, &calls) == 0 && srvlua_loop_pending(loop) == 1);
    srvlua_loop_turn(loop, -1);
    CHECK(calls == 5 && srvlua_loop_turns(loop) == 1 && srvlua_loop_pending(loop) == 0);
    srvlua_loop_free(loop);
}

static int call_for_ever(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)timer;
    ++*(int *)user_data;
    return srvlua_call_soon(loop, call_for_ever, user_data);
}

TEST(what_is_called_soon_again_and_again_keeps_nothing_else_from_its_turn) {
    struct fixture *fixture = set_up();
    int calls = 0;
    watch(fixture, SRVLUA_WRITABLE, note_call);
    srvlua_call_soon(&fixture->loop, call_for_ever, &calls);
    CHECK(is_called(fixture) && calls > 0 && calls < 100);
    tear_down(fixture);
}
