/* loop.c: see loop.h. */
#include "reactor/loop.h"

#include <errno.h>
#include <stdlib.h>

#include "base/clock.h"
#include "reactor/reactor_internal.h"
#include "reactor/signal.h"

#define SOON_ROUNDS 16
#define MAIL_ROUNDS 8 /* so that a flood of records does not keep the sockets waiting */

int sv_loop_call(struct srvlua_loop *loop, srvlua_timer_callback callback, int64_t timer, void *user_data) {
    if (loop->hooks.before_callback) loop->hooks.before_callback(loop->hooks.context);
    int result = callback(loop, timer, user_data);
    if (loop->hooks.after_callback) loop->hooks.after_callback(loop->hooks.context); /* the callback may have ended the loop */
    return result;
}

/* In the order in which they came; what they defer in turn comes in the next pass. */
static void run_deferred(struct srvlua_loop *loop, bool only_soon) {
    size_t count = loop->deferred_count, kept = 0;
    for (size_t i = 0; i < count; i++) {
        struct sv_deferred next = loop->deferred[i];
        if (only_soon && !next.is_soon) {
            loop->deferred[kept++] = next;
            continue;
        }
        loop->soon_count -= next.is_soon;
        if (sv_loop_call(loop, next.callback, 0, next.user_data) && loop->hooks.failed) loop->hooks.failed(loop->hooks.context);
        if (!loop->ev) return; /* it has ended the loop */
    }
    if (kept == count) return;
    for (size_t i = count; i < loop->deferred_count; i++) loop->deferred[kept++] = loop->deferred[i];
    loop->deferred_count = kept;
}

static void run_cycle(struct srvlua_loop *loop, bool at_begin) {
    struct sv_deferred *cycle = &loop->cycle[at_begin];
    if (cycle->callback && sv_loop_call(loop, cycle->callback, 0, cycle->user_data) && loop->hooks.failed)
        loop->hooks.failed(loop->hooks.context);
}

static void set_busy(struct srvlua_loop *loop, bool is_busy) {
    if (is_busy == loop->is_busy) return;
    loop->is_busy = is_busy;
    if (is_busy)
        ev_idle_start(loop->ev, &loop->busy);
    else
        ev_idle_stop(loop->ev, &loop->busy);
}

static void arm_alarm(struct srvlua_loop *loop) {
    int64_t wait_ns = sv_timer_heap_next(loop->timers, sv_now_ns());
    if (wait_ns < 0) {
        ev_timer_stop(loop->ev, &loop->alarm);
        return;
    }
    ev_now_update(loop->ev);
    ev_timer_stop(loop->ev, &loop->alarm);
    ev_timer_set(&loop->alarm, (double)wait_ns / 1e9, 0.);
    ev_timer_start(loop->ev, &loop->alarm);
}

static void end_turn(struct srvlua_loop *loop) {
    run_deferred(loop, false);
    for (int round = 1; round < SOON_ROUNDS && loop->ev && loop->soon_count; round++) run_deferred(loop, true);
    run_cycle(loop, false);
}

/* Credit decides: each hit is worth several misses, and without credit only now and then one more try is made. */
#define CREDIT_MOST 64
#define CREDIT_OF_HIT 4
#define RESTS 32

static bool has_come(struct srvlua_loop *loop) {
    return sv_has_mail(loop->endpoint) || (loop->hooks.has_work && loop->hooks.has_work(loop->hooks.context));
}

static void pause_briefly(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#endif
}

bool sv_loop_spin(struct srvlua_loop *loop) {
    if (loop->spin_credit <= 0 && ++loop->spin_rests % RESTS) return false;
    int64_t end_ns = sv_now_ns() + loop->spin_ns;
    do {
        for (int i = 0; i < 16; i++) {
            if (has_come(loop)) {
                loop->spin_credit += loop->spin_credit < CREDIT_MOST ? CREDIT_OF_HIT : 0;
                return true;
            }
            pause_briefly();
        }
    } while (sv_now_ns() < end_ns);
    if (loop->spin_credit > 0) loop->spin_credit--;
    return false;
}

/* Says that the loop sleeps; false: it must not. */
static bool fall_asleep(struct srvlua_loop *loop) {
    bool may_spin = loop->spin_ns > 0 && loop->hooks.is_expecting && loop->hooks.is_expecting(loop->hooks.context);
    if (may_spin && sv_loop_spin(loop)) return false;
    if (!sv_fall_asleep(loop->endpoint)) return false;
    if (!loop->hooks.has_work || !loop->hooks.has_work(loop->hooks.context)) return true;
    sv_wake_up(loop->endpoint);
    return false;
}

static void on_prepare(struct ev_loop *ev, ev_prepare *watcher, int events) {
    (void)ev, (void)events;
    struct srvlua_loop *loop = watcher->data;
    if (!loop->is_turned_by_hand) end_turn(loop);
    if (loop->hooks.before_sleep) loop->hooks.before_sleep(loop->hooks.context);
    bool may_block = !loop->deferred_count && !loop->is_stopping;
    if (sv_timer_heap_next(loop->timers, 0) >= 0) arm_alarm(loop);
    if (loop->endpoint) {
        sv_kick_all(loop->endpoint);
        if (may_block) may_block = fall_asleep(loop);
    }
    set_busy(loop, !may_block);
}

static void take_mail(struct srvlua_loop *loop) {
    for (int round = 0; round < MAIL_ROUNDS && !loop->is_stopping; round++) {
        uint32_t count = sv_receive(loop->endpoint, SV_DRAIN_BATCH, loop->hooks.receive, loop->hooks.context);
        if (!count) break;
        if (loop->hooks.after_mail) loop->hooks.after_mail(loop->hooks.context);
        sv_kick_all(loop->endpoint);
    }
}

static void on_check(struct ev_loop *ev, ev_check *watcher, int events) {
    (void)ev, (void)events;
    struct srvlua_loop *loop = watcher->data;
    loop->turns++;
    if (loop->endpoint) sv_wake_up(loop->endpoint);
    run_cycle(loop, true);
    if (loop->endpoint && sv_has_mail(loop->endpoint)) take_mail(loop);
}

static void on_bell(struct ev_loop *ev, ev_io *watcher, int events) {
    (void)ev, (void)events;
    struct srvlua_loop *loop = watcher->data;
    sv_bell_clear(loop->endpoint);
}

static void on_alarm(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    sv_timer_heap_run(watcher->data);
}

static void on_sweep(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)events;
    struct srvlua_loop *loop = watcher->data;
    atomic_store(&loop->endpoint->inbox->look_everywhere, 1);
}

static void on_busy(struct ev_loop *ev, ev_idle *watcher, int events) {
    (void)ev, (void)watcher, (void)events; /* its existence keeps the loop from blocking */
}

int sv_loop_init(struct srvlua_loop *loop, struct sv_endpoint *endpoint, const struct sv_loop_hooks *hooks) {
    *loop = (struct srvlua_loop){.endpoint = endpoint};
    if (hooks) loop->hooks = *hooks;
    loop->timers = sv_timer_heap_new();
    loop->ev = ev_loop_new(EVBACKEND_EPOLL | EVFLAG_NOENV);
    if (!loop->timers || !loop->ev) {
        sv_timer_heap_free(loop->timers);
        if (loop->ev) ev_loop_destroy(loop->ev);
        *loop = (struct srvlua_loop){0};
        return -ENOMEM;
    }
    ev_prepare_init(&loop->prepare, on_prepare);
    ev_check_init(&loop->check, on_check);
    ev_idle_init(&loop->busy, on_busy);
    ev_timer_init(&loop->alarm, on_alarm, 0., 0.);
    ev_timer_init(&loop->sweep, on_sweep, 1., 1.);
    loop->prepare.data = loop->check.data = loop->busy.data = loop->alarm.data = loop->sweep.data = loop;
    ev_set_priority(&loop->check, EV_MAXPRI); /* mail before I/O: answers leave before new questions come in */
    ev_prepare_start(loop->ev, &loop->prepare);
    ev_check_start(loop->ev, &loop->check);
    if (endpoint) {
        ev_io_init(&loop->bell, on_bell, sv_bell_fd(endpoint), EV_READ);
        loop->bell.data = loop;
        ev_io_start(loop->ev, &loop->bell);
        ev_timer_start(loop->ev, &loop->sweep);
    }
    return 0;
}

void sv_loop_free(struct srvlua_loop *loop) {
    if (!loop->ev) return;
    sv_timer_heap_free(loop->timers);
    sv_watches_detach(loop);
    sv_loop_signals_free(loop);
    ev_loop_destroy(loop->ev);
    free(loop->deferred);
    *loop = (struct srvlua_loop){0};
}

void sv_loop_run(struct srvlua_loop *loop) {
    while (!loop->is_stopping) ev_run(loop->ev, EVRUN_ONCE);
}

static void on_limit(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)ev, (void)watcher, (void)events;
}

static void wait_and_handle(struct srvlua_loop *loop, int timeout_ms) {
    ev_timer limit;
    ev_timer_init(&limit, on_limit, timeout_ms / 1e3, 0.);
    ev_now_update(loop->ev);
    if (timeout_ms >= 0) ev_timer_start(loop->ev, &limit);
    ev_run(loop->ev, EVRUN_ONCE);
    ev_timer_stop(loop->ev, &limit);
}

void sv_loop_turn(struct srvlua_loop *loop, int timeout_ms) {
    loop->is_turned_by_hand = true;
    wait_and_handle(loop, timeout_ms);
    loop->is_turned_by_hand = false;
    end_turn(loop);
}

void sv_loop_stop(struct srvlua_loop *loop) {
    loop->is_stopping = true;
}

static int add_deferred(struct srvlua_loop *loop, srvlua_timer_callback callback, void *user_data, bool is_soon) {
    if (loop->deferred_count == loop->deferred_capacity) {
        size_t capacity = loop->deferred_capacity ? loop->deferred_capacity * 2 : 16;
        struct sv_deferred *grown = realloc(loop->deferred, capacity * sizeof *grown);
        if (!grown) return -ENOMEM;
        loop->deferred = grown;
        loop->deferred_capacity = capacity;
    }
    loop->deferred[loop->deferred_count++] = (struct sv_deferred){callback, user_data, is_soon};
    loop->soon_count += is_soon;
    return 0;
}

int srvlua_defer(srvlua_loop *loop, srvlua_timer_callback callback, void *user_data) {
    return add_deferred(loop, callback, user_data, false);
}

int srvlua_call_soon(srvlua_loop *loop, srvlua_timer_callback callback, void *user_data) {
    return add_deferred(loop, callback, user_data, true);
}

int srvlua_loop_set_cycle(srvlua_loop *loop, int at_begin, srvlua_timer_callback callback, void *user_data) {
    struct sv_deferred *cycle = &loop->cycle[at_begin != 0];
    if (!callback && !cycle->callback) return -SRVLUA_ERROR_INVALID_PARAMS;
    *cycle = (struct sv_deferred){callback, user_data, false};
    return 0;
}

srvlua_loop *srvlua_loop_new(void) {
    struct srvlua_loop *loop = malloc(sizeof *loop);
    if (loop && sv_loop_init(loop, NULL, NULL) == 0) return loop;
    free(loop);
    return NULL;
}

void srvlua_loop_free(srvlua_loop *loop) {
    if (!loop) return;
    sv_loop_free(loop);
    free(loop);
}

void srvlua_loop_forked(srvlua_loop *loop) {
    ev_loop_fork(loop->ev);
}

void srvlua_loop_turn(srvlua_loop *loop, int timeout_ms) {
    sv_loop_turn(loop, timeout_ms);
}

int64_t srvlua_loop_turns(const srvlua_loop *loop) {
    return (int64_t)loop->turns;
}

size_t srvlua_loop_pending(const srvlua_loop *loop) {
    return sv_loop_user_timers(loop) + loop->watch_count + loop->deferred_count;
}
