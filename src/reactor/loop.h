/* loop.h: the event loop of one process or reactor thread: a libev loop (epoll) with timers, watches, deferred functions and the bell of
 * an endpoint. The one place for batching: before the loop blocks it flushes what the turn produced, rings the bells that are due
 * and says that it sleeps; after it woke it takes the mail in.
 *
 *   turn:  wake ─► mail (up to 8 × 64 records) ─► signals ─► timers, I/O ─► deferred ─► cycle ─► before_sleep hook ─► kick ─► sleep
 *
 * Owner: the process or thread that made it; nobody else touches it. A forked child destroys the copy it inherited
 * (sv_loop_free closes its descriptors) and makes its own. */
#ifndef SV_REACTOR_LOOP_H
#define SV_REACTOR_LOOP_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "ipc/endpoint.h"
#include "srvlua.h"

struct sv_timer_heap;
struct sv_loop_signals;

struct sv_deferred {
    srvlua_timer_callback callback;
    void *user_data;
    bool is_soon; /* by srvlua_call_soon() */
};

struct sv_loop_hooks { /* all may be NULL; `context` goes with each */
    sv_receiver receive;                /* a record came in */
    void (*after_mail)(void *context);  /* a batch of records was handed over */
    void (*before_sleep)(void *context);/* flush what the turn produced; may defer, may send */
    bool (*has_work)(void *context);    /* there is something to do that is no record: the loop must not sleep */
    bool (*is_expecting)(void *context);/* something is awaited that should come at once: the loop may spin for it */
    void (*failed)(void *context);      /* a callback returned nonzero */
    void (*before_callback)(void *context); /* both or none: around each callback of the loop's own API */
    void (*after_callback)(void *context);
    void *context;
};

struct srvlua_loop {
    struct ev_loop *ev;
    struct sv_endpoint *endpoint; /* NULL: a loop without mail */
    struct sv_loop_hooks hooks;
    ev_prepare prepare;
    ev_check check;
    ev_idle busy;  /* runs while the loop must not block */
    ev_io bell;
    ev_timer alarm; /* due time of the next timer */
    ev_timer sweep; /* once a second: looks into all rings, for bells that died with their ringer */
    struct sv_timer_heap *timers;
    struct sv_loop_signals *signals; /* signal.h; NULL: it reads none */
    struct sv_deferred *deferred;
    size_t deferred_count, deferred_capacity, soon_count;
    uint64_t turns;
    struct srvlua_watch *watches;
    size_t watch_count; /* of those that are not in the background */
    struct sv_deferred cycle[2]; /* run in every turn: at its end, at its beginning; callback NULL: none */
    int64_t spin_ns;   /* longest busy wait before it sleeps, 0 = none */
    int spin_credit;   /* grows when something came in time, falls when not */
    uint32_t spin_rests;
    bool is_stopping;
    bool is_turned_by_hand; /* sv_loop_turn() sees to the end of the turn: it must come before the caller has its say */
    bool is_busy; /* `busy` is active */
};

/* Makes a loop for `endpoint` (may be NULL). 0 or -errno. */
int sv_loop_init(struct srvlua_loop *loop, struct sv_endpoint *endpoint, const struct sv_loop_hooks *hooks);
/* Ends it; timers' release functions run. In a forked child this closes the inherited copy's descriptors. */
void sv_loop_free(struct srvlua_loop *loop);
/* Waits for mail, or work, without sleeping, as long as that has been worth it lately. True if something came. */
bool sv_loop_spin(struct srvlua_loop *loop);
/* Turns until sv_loop_stop(). */
void sv_loop_run(struct srvlua_loop *loop);
/* One turn that does not block longer than `timeout_ms` (negative: as long as it takes). */
void sv_loop_turn(struct srvlua_loop *loop, int timeout_ms);
void sv_loop_stop(struct srvlua_loop *loop);

/* Timers of users that are alive. What keeps a leaving worker (events.md 3) is more: srvlua_loop_pending(). */
size_t sv_loop_user_timers(const struct srvlua_loop *loop);
/* A timer of our own: not in lists or counts of users. Id, or -code. */
int64_t sv_timer_add_internal(struct srvlua_loop *loop, int64_t ms, bool repeat, srvlua_timer_callback callback, void *user_data);
void sv_timer_clear_internal(struct srvlua_loop *loop, int64_t timer_id);
/* Takes a timer out of the users' lists and counts (stats_file). */
void sv_timer_make_internal(struct srvlua_loop *loop, int64_t timer_id);

#endif
