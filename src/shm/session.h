/* session.h: the table of client connections that every process can look into.
 *
 * An id counts up from start_session_id + 1, is shared by all ports and workers and never reused; its slot is id mod size.
 * `entry->id == id` refuses stale ids: others check for a quick answer, the owning reactor checks again and decides. What was
 * true of a closed session (reason, addresses) stays until its slot is used again.
 *
 * Writers: the process that accepts claims the slot; from then on the owning reactor alone writes, but for the words that say
 * otherwise: `control` and `uid` change by compare-and-swap tied to the id, so that nobody marks a successor by mistake, and the
 * worker's line belongs to the worker that serves the session.
 * No locks: a process can die anywhere. */
#ifndef SV_SHM_SESSION_H
#define SV_SHM_SESSION_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/arena.h"
#include "shm/visitors.h"

/*   claim            reactor takes it       EOF, error, close        acknowledged          flushed
 *  ───────► CLAIMED ────────────────► OPEN ──────────────► CLOSING ─────────────► FLUSHING ────────► FREE
 *              └────────── the reactor could not take it ──────────────────────────────────────────►  */
enum sv_session_state { SV_SESSION_FREE, SV_SESSION_CLAIMED, SV_SESSION_OPEN, SV_SESSION_CLOSING, SV_SESSION_FLUSHING };

/* VIOLATION: the client broke its port's protocol; like OTHER, but what was accepted still goes out. */
enum sv_close_reason { SV_CLOSE_NONE, SV_CLOSE_BY_SERVER, SV_CLOSE_BY_CLIENT, SV_CLOSE_OTHER, SV_CLOSE_VIOLATION };

/* Bits of `control` that any process may set or clear. */
enum sv_session_flag {
    SV_SESSION_CLOSE_ASKED = 1, /* the server asked for the close: sends fail, data that waits is dropped */
    SV_SESSION_CLOSE_FIRED = 2, /* the close callback was begun; it never runs twice */
    SV_SESSION_PROTECTED = 4,   /* heartbeat and max_idle_time keep off */
    SV_SESSION_CONFIRMED = 8    /* is being read, or was ordered to be (enable_delay_receive) */
};

#define SV_PEER_TEXT_MAX 112
#define SV_PROXY_TEXT_AT 48 /* in peer_text: where the sender of a PROXY header stands, behind the address in the header */

struct sv_session { /* five cache lines; writer: see above */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t id; /* 0 = never used */
    _Atomic uint64_t control;                    /* any process: low half of the id << 32 | enum sv_session_flag */
    _Atomic uint64_t uid;                        /* any process, once: low half of the id << 32 | uid */
    _Atomic uint32_t state;                      /* enum sv_session_state */
    _Atomic uint32_t close_reason;               /* enum sv_close_reason */
    _Atomic int32_t close_errno;
    _Atomic uint32_t worker; /* id of the worker that its events go to, UINT32_MAX before the first */
    uint32_t owner;          /* endpoint that owns the socket */
    uint16_t reactor;        /* its number as users see it: reactor, BASE: worker */
    uint16_t port;           /* index of the port */
    int32_t os_fd;
    _Atomic uint64_t visit;  /* counts for its address (visitors.h): written before the socket is passed on, cleared by sv_session_free() */

    _Alignas(SV_CACHE_LINE) _Atomic int64_t last_recv_ns; /* reactor; wall clock */
    _Atomic int64_t last_send_ns;
    _Atomic uint64_t output_bytes;     /* accepted by send and held by the reactor */
    _Atomic uint64_t dispatched_bytes; /* handed to the worker's ring so far */

    _Alignas(SV_CACHE_LINE) _Atomic int64_t last_dispatch_ns; /* worker: stamp of the packet it began last */
    _Atomic uint64_t consumed_bytes;                          /* worker: taken from the ring so far */

    _Alignas(SV_CACHE_LINE) int64_t connect_ns; /* wall clock; this line: the acceptor, and until it is open the reactor */
    int32_t peer_port;
    int32_t proxy_port; /* of who sent the PROXY header; -1: there was none */
    char peer_text[SV_PEER_TEXT_MAX]; /* IP text or unix path */
};

struct sv_session_table {
    struct sv_session *entries;
    _Atomic uint64_t *live;      /* one bit per slot that is not free */
    _Atomic uint64_t *last_id;   /* shared counter */
    uint64_t mask;               /* size - 1 */
    struct sv_visitors visitors; /* that sessions are counted in; without entries there are no limits */
};

/* Bytes that a table of `size` slots (a power of two) takes from the arena. */
size_t sv_session_table_bytes(uint32_t size);
/* Before the first fork. 0 or -ENOMEM. */
int sv_session_table_init(struct sv_session_table *table, struct sv_arena *arena, uint32_t size, uint64_t start_id);

/* A new id and its slot, state CLAIMED and all else cleared; NULL when the table is full. Acceptor of any process. */
struct sv_session *sv_session_claim(struct sv_session_table *table);
/* The slot is free, and its address may have another connection; id, reason and addresses stay readable. Owning reactor, or the
 * manager for a dead owner. */
void sv_session_free(struct sv_session_table *table, struct sv_session *session);
/* Owning reactor only; asserts the predecessor. */
void sv_session_set_state(struct sv_session *session, enum sv_session_state state);

/* The slot of an id if it is that id's (live or its last owner), else NULL. Any process. */
static inline struct sv_session *sv_session_find(const struct sv_session_table *table, uint64_t id) {
    struct sv_session *session = &table->entries[id & table->mask];
    return id && atomic_load_explicit(&session->id, memory_order_acquire) == id ? session : NULL;
}

static inline uint32_t sv_session_flags(const struct sv_session *session) {
    return (uint32_t)atomic_load_explicit(&session->control, memory_order_acquire);
}

static inline enum sv_session_state sv_session_get_state(const struct sv_session *session) {
    return (enum sv_session_state)atomic_load_explicit(&session->state, memory_order_acquire);
}

/* Sets and clears flags of session `id`; returns the flags before, or -1 if the slot is another's by now. Any process. */
int64_t sv_session_change_flags(struct sv_session *session, uint64_t id, uint32_t set, uint32_t clear);
/* Binds a uid: 1 done, 0 bound already, -1 the slot is another's by now. */
int sv_session_bind(struct sv_session *session, uint64_t id, uint32_t uid);
/* The bound uid in *uid: true if there is one. */
bool sv_session_uid(const struct sv_session *session, uint64_t id, uint32_t *uid);

/* Goes through the slots that are not free: the next slot number >= `slot`, or -1. */
int64_t sv_session_next_live(const struct sv_session_table *table, int64_t slot);

#endif
