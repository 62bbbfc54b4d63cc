/* ring_home.h: the home of a reactor thread: its events go to workers through rings.
 *
 * Each worker is a target: the endpoint of its present generation, the connections that wait for room in its ring, and what could
 * not be put there yet (events are never lost, and keep their order). Data is read from the socket straight into the ring.
 * runs in: the reactor's thread. */
#ifndef SV_REACTOR_RING_HOME_H
#define SV_REACTOR_RING_HOME_H

#include "reactor/reactor.h"

struct sv_overflow;

struct sv_ring_target {
    uint32_t endpoint;
    uint32_t successor;     /* endpoint to switch to as soon as END found room in the present one's ring; 0 = none */
    struct sv_link waiting; /* connections with SV_BLOCK_RING */
    struct sv_link served;  /* the same, whose packets filled the ring: they come after the others, who would starve else */
    struct sv_overflow *first, *last;
    uint32_t in_flight; /* connections and datagrams given to it since it was last seen idle: it may answer at any time */
};

struct sv_ring_home {
    struct sv_reactor *reactor;
    struct sv_endpoint *endpoint;
    struct sv_slot *slots;
    struct sv_ring_target *targets;
    uint32_t worker_count;
    struct sv_link queued; /* connections with SV_BLOCK_QUEUED */
    uint32_t stuck;        /* targets with something that waits */
    bool are_datagrams_stopped;
    struct sv_record *record; /* reserved for the read that is going on */
    uint32_t record_target;
    /* Worker for an event of a connection, or (connection NULL) a datagram; set by the server's dispatch. */
    uint32_t (*choose)(void *context, const struct sv_connection *connection, const struct sv_address *from, uint16_t type);
    void *choose_context;
    /* The same asked of the user first, who may look at the data: a worker or enum srvlua_dispatch_result; NULL: there is no
     * such function. Then data is read into the reactor's scratch space, for its ring is known only after the question. */
    int32_t (*ask)(void *context, uint32_t reactor, const struct sv_connection *connection, const struct sv_address *from,
                   uint16_t type, const void *data, size_t length);
    bool is_sticky;           /* the choice at CONNECT holds for the connection's life */
    bool is_sticky_in_flight; /* a choice holds while records of the connection are unfinished */
};

/* Members up to worker_count, choose and the is_sticky ones are set by the caller. 0 or -ENOMEM. */
int sv_ring_home_init(struct sv_ring_home *home);
void sv_ring_home_free(struct sv_ring_home *home);
struct sv_reactor_home sv_ring_home_table(struct sv_ring_home *home);

/* After a bell: rings may have room again. */
void sv_ring_home_check_space(struct sv_ring_home *home);
/* Nothing is put aside: all that workers are to get is in their rings. */
bool sv_ring_home_has_passed_on(const struct sv_ring_home *home);
/* New work of a worker goes to another generation; the former one gets END. */
void sv_ring_home_switch(struct sv_ring_home *home, uint32_t worker, uint32_t parity);
/* A process died, a worker or (a greater number) another one: connections that waited for its answer are asked again. True if there
 * are some whose close was begun, perhaps by the dead process: the caller takes in what all processes have sent by now, since a
 * living one that closes a connection has sent all that it accepted for it, then calls close_left. */
bool sv_ring_home_worker_down(struct sv_ring_home *home, uint32_t slot);
void sv_ring_home_close_left(struct sv_ring_home *home);
/* True while a worker may send without ringing our bell (it is inside a callback): sleep only briefly then. */
bool sv_ring_home_expects_mail(struct sv_ring_home *home);

#endif
