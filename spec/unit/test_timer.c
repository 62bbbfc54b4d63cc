/* Timers and deferred functions of a loop. */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "reactor/loop.h"
#include "unit.h"

#define DEADLINE_MS 5000

struct fixture {
    struct srvlua_loop loop;
    char trace[256]; /* a letter per call */
    int failures;
    int64_t timer; /* for callbacks that clear or make timers */
};

static void note_failure(void *context) { ((struct fixture *)context)->failures++; }

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    struct sv_loop_hooks hooks = {.failed = note_failure, .context = fixture};
    if (!fixture || sv_loop_init(&fixture->loop, NULL, &hooks)) {
        perror("loop");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    sv_loop_free(&fixture->loop);
    free(fixture);
}

static void mark(struct fixture *fixture, char letter) {
    size_t length = strlen(fixture->trace);
    if (length + 1 < sizeof fixture->trace)
        fixture->trace[length] = letter;
}

/* What a callback is given: its fixture and the letter it leaves there. */
struct call {
    struct fixture *fixture;
    char letter;
};

static struct call *call(struct fixture *fixture, char letter) {
    struct call *made = malloc(sizeof *made);
    if (!made)
        exit(1);
    *made = (struct call){fixture, letter};
    return made;
}

static int leave_letter(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)loop, (void)id;
    struct call *made = user_data;
    mark(made->fixture, made->letter);
    return 0;
}

static void release_call(void *user_data) {
    struct call *made = user_data;
    mark(made->fixture, '-');
    free(made);
}

static int64_t after(struct fixture *fixture, int64_t ms, char letter) {
    return srvlua_timer_add(&fixture->loop, ms, 0, leave_letter, call(fixture, letter), release_call);
}

static int64_t tick(struct fixture *fixture, int64_t ms, char letter) {
    return srvlua_timer_add(&fixture->loop, ms, 1, leave_letter, call(fixture, letter), release_call);
}

/* Turns until the trace is as expected, or the deadline has come. */
static bool traces(struct fixture *fixture, const char *expected) {
    int64_t end = sv_now_ns() + DEADLINE_MS * SV_NS_PER_MS;
    while (strcmp(fixture->trace, expected) != 0 && strlen(fixture->trace) <= strlen(expected) && sv_now_ns() < end)
        sv_loop_turn(&fixture->loop, 50);
    return strcmp(fixture->trace, expected) == 0;
}

static void busy_wait(int64_t ms) {
    int64_t end = sv_now_ns() + ms * SV_NS_PER_MS;
    while (sv_now_ns() < end)
        continue;
}

TEST(timers_fire_by_due_time_once) {
    struct fixture *fixture = set_up();
    CHECK(after(fixture, 30, 'c') == 1 && after(fixture, 10, 'a') == 2 && after(fixture, 20, 'b') == 3);
    CHECK(sv_loop_user_timers(&fixture->loop) == 3);
    CHECK(traces(fixture, "a-b-c-"));
    CHECK(sv_loop_user_timers(&fixture->loop) == 0 && srvlua_timer_list(&fixture->loop, NULL, 0) == 0);
    tear_down(fixture);
}

TEST(no_timer_fires_early) {
    struct fixture *fixture = set_up();
    int64_t start = sv_now_ns();
    after(fixture, 25, 'a');
    CHECK(traces(fixture, "a-"));
    CHECK(sv_now_ns() - start >= 25 * SV_NS_PER_MS);
    tear_down(fixture);
}

TEST(a_hundred_timers_come_in_order_whatever_the_order_they_were_made_in) {
    struct fixture *fixture = set_up();
    char expected[201] = "";
    for (int i = 0; i < 100; i++) {
        int place = i * 37 % 100; /* each of 0..99 once */
        after(fixture, 10 + place / 4 * 10, (char)('A' + place / 4));
    }
    for (int i = 0; i < 100; i++) {
        expected[2 * i] = (char)('A' + i / 4);
        expected[2 * i + 1] = '-';
    }
    CHECK(traces(fixture, expected));
    tear_down(fixture);
}

TEST(equal_due_times_fire_in_the_order_they_were_made) {
    struct fixture *fixture = set_up();
    int64_t ids[3];
    for (int i = 0; i < 3; i++)
        ids[i] = after(fixture, 5, (char)('a' + i));
    busy_wait(20); /* all are late */
    CHECK(traces(fixture, "a-b-c-") && ids[2] == ids[0] + 2);
    tear_down(fixture);
}

TEST(a_tick_skips_what_it_missed_and_keeps_its_phase) {
    struct fixture *fixture = set_up();
    int64_t start = sv_now_ns();
    int64_t id = tick(fixture, 40, 't');
    busy_wait(130); /* 40, 80 and 120 are over */
    struct srvlua_timer_info first = {0}, next = {0};
    CHECK(srvlua_timer_get_info(&fixture->loop, id, &first) == 1 && first.exec_count == 0 && first.interval == 40);
    CHECK(traces(fixture, "t"));
    CHECK(srvlua_timer_get_info(&fixture->loop, id, &next) == 1 && next.exec_count == 1);
    CHECK((next.exec_msec - first.exec_msec) % 40 == 0 && next.exec_msec - first.exec_msec >= 120); /* on the beat */
    CHECK(traces(fixture, "tt")); /* and no burst: the next is the one at 160 */
    CHECK(sv_now_ns() - start >= 160 * SV_NS_PER_MS);
    CHECK(srvlua_timer_clear(&fixture->loop, id) == 0 && strcmp(fixture->trace, "tt-") == 0);
    tear_down(fixture);
}

TEST(a_cleared_timer_is_gone_at_once) {
    struct fixture *fixture = set_up();
    int64_t id = after(fixture, 5, 'a');
    CHECK(srvlua_timer_get_info(&fixture->loop, id, NULL) == 1);
    CHECK(srvlua_timer_clear(&fixture->loop, id) == 0 && strcmp(fixture->trace, "-") == 0);
    CHECK(srvlua_timer_get_info(&fixture->loop, id, NULL) == 0);
    CHECK(srvlua_timer_clear(&fixture->loop, id) == -505 && srvlua_timer_clear(&fixture->loop, 0) == -505);
    CHECK(srvlua_timer_clear(&fixture->loop, -1) == -505 && srvlua_timer_clear(&fixture->loop, 99) == -505);
    after(fixture, 20, 'b');
    CHECK(traces(fixture, "-b-"));
    tear_down(fixture);
}

static int clear_self(srvlua_loop *loop, int64_t id, void *user_data) {
    struct fixture *fixture = ((struct call *)user_data)->fixture;
    struct srvlua_timer_info info = {0};
    mark(fixture, 's');
    CHECK(srvlua_timer_clear(loop, id) == 0 && srvlua_timer_clear(loop, id) == -505);
    CHECK(srvlua_timer_get_info(loop, id, &info) == 1 && info.removed == 1);
    CHECK(srvlua_timer_list(loop, NULL, 0) == 0);
    mark(fixture, 'e'); /* what it was given is still there */
    return 0;
}

TEST(a_tick_may_clear_itself) {
    struct fixture *fixture = set_up();
    int64_t id = srvlua_timer_add(&fixture->loop, 3, 1, clear_self, call(fixture, ' '), release_call);
    CHECK(traces(fixture, "se-"));
    CHECK(srvlua_timer_get_info(&fixture->loop, id, NULL) == 0 && sv_loop_user_timers(&fixture->loop) == 0);
    tear_down(fixture);
}

static int clear_other(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)id;
    struct fixture *fixture = ((struct call *)user_data)->fixture;
    mark(fixture, 'x');
    CHECK(srvlua_timer_clear(loop, fixture->timer) == 0);
    return 0;
}

TEST(a_timer_may_clear_one_that_is_due_in_the_same_pass) {
    struct fixture *fixture = set_up();
    srvlua_timer_add(&fixture->loop, 5, 0, clear_other, call(fixture, ' '), release_call);
    fixture->timer = after(fixture, 5, 'a');
    after(fixture, 5, 'b');
    busy_wait(10);
    CHECK(traces(fixture, "x--b-"));
    tear_down(fixture);
}

static int make_another(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)id;
    struct fixture *fixture = ((struct call *)user_data)->fixture;
    mark(fixture, 'm');
    fixture->timer = srvlua_timer_add(loop, 1, 0, leave_letter, call(fixture, 'n'), release_call);
    busy_wait(5); /* due before the pass is over */
    return 0;
}

TEST(a_timer_made_in_a_pass_fires_in_a_later_one) {
    struct fixture *fixture = set_up();
    struct srvlua_timer_stats before, afterwards;
    srvlua_timer_add(&fixture->loop, 2, 0, make_another, call(fixture, ' '), release_call);
    after(fixture, 2, 'a');
    busy_wait(5);
    CHECK(traces(fixture, "m-a-"));
    srvlua_timer_get_stats(&fixture->loop, &before);
    CHECK(traces(fixture, "m-a-n-"));
    srvlua_timer_get_stats(&fixture->loop, &afterwards);
    CHECK(afterwards.round > before.round);
    tear_down(fixture);
}

TEST(clear_all_takes_the_users_timers_only) {
    struct fixture *fixture = set_up();
    int64_t ids[4] = {0};
    CHECK(srvlua_timer_clear_all(&fixture->loop) == -505); /* there never was one */
    int64_t own = sv_timer_add_internal(&fixture->loop, 10, false, leave_letter, call(fixture, 'i'));
    tick(fixture, 1, 'a');
    after(fixture, 1, 'b');
    int64_t made_internal = after(fixture, 15, 'j');
    sv_timer_make_internal(&fixture->loop, made_internal);
    CHECK(srvlua_timer_list(&fixture->loop, ids, 4) == 2 && ids[0] == 2 && ids[1] == 3);
    CHECK(srvlua_timer_list(&fixture->loop, ids, 1) == 2);
    CHECK(srvlua_timer_get_info(&fixture->loop, own, NULL) == 0 && srvlua_timer_clear(&fixture->loop, own) == -505);
    CHECK(srvlua_timer_clear_all(&fixture->loop) == 0 && strcmp(fixture->trace, "--") == 0);
    CHECK(srvlua_timer_clear_all(&fixture->loop) == 0);
    CHECK(traces(fixture, "--ij-"));
    tear_down(fixture);
}

TEST(the_statistics_start_with_the_first_timer) {
    struct fixture *fixture = set_up();
    struct srvlua_timer_stats stats;
    sv_timer_add_internal(&fixture->loop, 1000, true, leave_letter, NULL);
    srvlua_timer_get_stats(&fixture->loop, &stats);
    CHECK(!stats.initialized && stats.num == 0 && stats.round == 0);
    after(fixture, 1, 'a');
    srvlua_timer_get_stats(&fixture->loop, &stats);
    CHECK(stats.initialized && stats.num == 2);
    CHECK(traces(fixture, "a-"));
    srvlua_timer_get_stats(&fixture->loop, &stats);
    CHECK(stats.num == 1 && stats.round >= 1);
    tear_down(fixture);
}

TEST(less_than_a_millisecond_is_refused_and_long_times_are_not) {
    struct fixture *fixture = set_up();
    CHECK(srvlua_timer_add(&fixture->loop, 0, 0, leave_letter, NULL, NULL) == -505);
    CHECK(srvlua_timer_add(&fixture->loop, -5, 1, leave_letter, NULL, NULL) == -505);
    CHECK(srvlua_timer_add(&fixture->loop, INT64_MAX, 1, leave_letter, NULL, NULL) == 1);
    after(fixture, 2, 'a');
    CHECK(traces(fixture, "a-"));
    tear_down(fixture);
}

TEST(what_is_left_is_released_with_the_loop) {
    struct fixture *fixture = set_up();
    tick(fixture, 1000, 'a');
    after(fixture, 1000, 'b');
    sv_loop_free(&fixture->loop);
    CHECK(strcmp(fixture->trace, "--") == 0);
    free(fixture);
}

static int fail(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)loop, (void)id;
    mark(user_data, 'f');
    return 1;
}

TEST(failing_callbacks_are_reported) {
    struct fixture *fixture = set_up();
    srvlua_timer_add(&fixture->loop, 1, 0, fail, fixture, NULL);
    CHECK(traces(fixture, "f") && fixture->failures == 1);
    CHECK(srvlua_defer(&fixture->loop, fail, fixture) == 0);
    CHECK(traces(fixture, "ff") && fixture->failures == 2);
    tear_down(fixture);
}

/* --------------------------------------------------------------------------------------------------------- deferred */

static int leave_one(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)loop;
    CHECK(id == 0);
    mark(user_data, '1');
    return 0;
}

static int defer_another(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)id;
    mark(user_data, 'd');
    return srvlua_defer(loop, leave_one, user_data);
}

TEST(deferred_functions_run_in_order_without_any_event) {
    struct fixture *fixture = set_up();
    char expected[64] = "";
    for (int i = 0; i < 20; i++) {
        CHECK(srvlua_defer(&fixture->loop, defer_another, fixture) == 0);
        CHECK(srvlua_defer(&fixture->loop, leave_one, fixture) == 0);
        strcat(expected, "d1");
    }
    for (int i = 0; i < 20; i++)
        strcat(expected, "1"); /* what was deferred meanwhile */
    CHECK(traces(fixture, expected));
    tear_down(fixture);
}

static int stop_loop(srvlua_loop *loop, int64_t id, void *user_data) {
    (void)id;
    mark(user_data, '.');
    sv_loop_stop(loop);
    return 0;
}

TEST(a_loop_runs_until_it_is_stopped) {
    struct fixture *fixture = set_up();
    after(fixture, 5, 'a');
    srvlua_timer_add(&fixture->loop, 15, 0, stop_loop, fixture, NULL);
    after(fixture, 5000, 'b');
    sv_loop_run(&fixture->loop);
    CHECK(strcmp(fixture->trace, "a-.") == 0);
    tear_down(fixture);
}
