/* connection.h: one client connection as its reactor knows it. The state that others see lies in its session.
 *
 * Owner: one reactor; nobody else touches it. It is only ever marked as dead (reactor.c, kill) and freed at the end of the loop
 * turn (reap), because callbacks further up the stack may still hold it. */
#ifndef SV_NET_CONNECTION_H
#define SV_NET_CONNECTION_H

#include <ev.h>
#include <stdbool.h>
#include <stdint.h>

#include "framing/framer.h"
#include "net/output.h"
#include "net/tls.h"
#include "shm/session.h"

/* Why a socket is not read at the moment; it is read when no bit is set. */
enum sv_read_block {
    SV_BLOCK_PAUSED = 1,      /* pause() */
    SV_BLOCK_UNCONFIRMED = 2, /* enable_delay_receive, until confirm() */
    SV_BLOCK_RING = 4,        /* the ring to its worker is full */
    SV_BLOCK_QUEUED = 8,      /* max_queued_bytes */
    SV_BLOCK_CLOSING = 16,
    SV_BLOCK_QUIET = 32,      /* the server shuts down */
    SV_BLOCK_HANDSHAKE = 64   /* other TLS handshakes come first */
};

struct sv_link { /* element of a doubly linked list; a head points to itself when empty */
    struct sv_link *next, *previous;
};

static inline void sv_list_init(struct sv_link *head) {
    head->next = head->previous = head;
}
static inline bool sv_list_is_empty(const struct sv_link *head) {
    return head->next == head;
}
static inline bool sv_link_is_in(const struct sv_link *link) {
    return link->next != NULL;
}
static inline void sv_list_append(struct sv_link *head, struct sv_link *link) {
    link->next = head;
    link->previous = head->previous;
    head->previous->next = link;
    head->previous = link;
}
static inline void sv_list_remove(struct sv_link *link) {
    if (!link->next) return;
    link->next->previous = link->previous;
    link->previous->next = link->next;
    link->next = link->previous = NULL;
}

/* What is expected of the peer. Only an open connection is one for its users. */
enum sv_stage { SV_STAGE_PROXY, SV_STAGE_HANDSHAKE, SV_STAGE_OPEN };

struct sv_input { /* bytes that were read and are not passed on: a packet that is incomplete, or waits for room */
    unsigned char *data; /* malloc'ed; NULL: nothing waits */
    size_t begin, end, capacity;
    struct sv_framer_state state; /* of the packet that begins at `begin` */
};

struct sv_reactor;

struct sv_connection {
    ev_io io;
    struct sv_reactor *reactor;
    struct sv_session *session;
    uint64_t id;
    uint16_t port; /* index */
    uint16_t read_blocks;   /* enum sv_read_block */
    uint16_t is_above_high : 1, is_dead : 1, is_reset : 1, is_owed_close : 1, wants_low : 1, is_left_closing : 1, has_said_goodbye : 1,
        is_counted : 1, wants_write : 1, is_deaf : 1, is_known : 1;
                         /* owed: CLOSED was announced, not answered; wants_low: a send waits for the queue; left: whoever was
                         closing it may have died meanwhile; goodbye: close_notify was sent, or is not to be; counted: as a handshake;
                         wants_write: its handshake does; deaf: it takes nothing any more, and what it had sent is still passed on:
                         CLOSED is announced behind that; known: a worker was given an event of it */
    uint8_t stage;          /* enum sv_stage */
    uint8_t deadline;       /* enum sv_deadline_kind of the list it is in */
    uint32_t target;        /* worker that gets its events; UINT32_MAX: chosen per packet */
    uint64_t write_turn;    /* turn of the last immediate write */
    struct sv_tls *tls;     /* NULL: plain */
    struct sv_input input;
    struct sv_output output;
    int64_t counted_output; /* of output.allocated, in SV_COUNT_OUTPUT */
    uint32_t batch_first, batch_last; /* sends of this batch that still lie in a ring: indices + 1 */
    uint64_t undelivered;   /* bytes in the worker's ring, by our own account (max_queued_bytes) */
    uint32_t in_flight;     /* records of it that a worker has not finished (dispatch modes that keep a worker so long) */
    int64_t active_ns;      /* monotonic: last byte either way (max_idle_time) */
    int64_t heard_ns;       /* monotonic: last byte received (heartbeat) */
    struct sv_link all;     /* every connection of the reactor */
    struct sv_link dirty;   /* flushed at the end of the turn */
    struct sv_link waiting; /* for space in the ring of its worker; before it is open: for its handshake's turn */
    struct sv_link ready;   /* has input to pass on that no event of the socket will announce */
    struct sv_link timed;   /* in a list of deadlines (deadline.c), until due_ns (monotonic) */
    int64_t due_ns;
    int64_t began_ns;       /* monotonic: when it was taken in */
    struct sv_link heard;   /* ordered by heard_ns, per port */
    struct sv_link active;  /* ordered by active_ns, per port */
};

#define sv_container(link, type, member) ((type *)((char *)(link)-offsetof(type, member)))

#endif
