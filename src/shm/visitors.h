/* visitors.h: how many connections an address has, and how fast it makes new ones (max_connection_per_ip, connection_rate_per_ip).
 *
 * One table for all ports, reactors and workers, in shared memory. An address of a port (IPv6: a /64) has an entry in one certain
 * group of 16: a word (tag | live connections) and the time of its token bucket, each changed by compare-and-swap. Nobody says that an
 * entry is no longer used: one without connections whose bucket is full again is as good as none, and the next address takes it; where
 * there is none, the one whose bucket is fullest. So strangers who come once cannot fill the table, and live connections fill it only to
 * a quarter.
 *
 * The session keeps the number of its entry, and sv_session_free() gives it back: whoever ends a session, the manager for a dead
 * worker too. The number is written before the entry counts it, and cleared after the entry has forgotten it: a process that is killed
 * in between leaves a count that is one too low, never too high, until the address has no connections any more.
 *
 * No locks. runs in: acceptors and reactors of any process. */
#ifndef SV_SHM_VISITORS_H
#define SV_SHM_VISITORS_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "shm/arena.h"

enum sv_visit { SV_VISIT_WELCOME, SV_VISIT_TOO_MANY, SV_VISIT_TOO_FAST };
#define SV_VISIT_RESULTS 3

struct sv_visitor {
    _Atomic uint64_t word;  /* tag << 24 | connections; 0: never used */
    _Atomic int64_t due_ns; /* monotonic: when the token bucket is full (again) */
};

struct sv_visitor_log { /* one limit of the log for all processes */
    _Atomic int64_t next_ns;
    _Atomic uint32_t suppressed;
};

struct sv_visitors {
    struct sv_visitor *entries; /* NULL: there are no limits */
    struct sv_visitor_log *logs; /* [SV_VISIT_RESULTS] */
    uint64_t groups;            /* a power of two */
    uint64_t key[2];            /* random, so that nobody can aim at a group */
};

/* For a server of so many connections at a time. */
size_t sv_visitors_bytes(int64_t connections);
/* Before the first fork. 0 or -errno. */
int sv_visitors_init(struct sv_visitors *visitors, struct sv_arena *arena, int64_t connections);

/* A connection of `address` (text) to `port` (index). limit 0: none; rate: per second, 0: none; the burst is the rate rounded up.
 * WELCOME: *visit is to be given back, or 0 if nothing is counted (no limit, a full group, no IP address). */
enum sv_visit sv_visitors_enter(struct sv_visitors *visitors, const char *address, uint16_t port, int64_t limit, double rate,
                                int64_t now_ns, _Atomic uint64_t *visit);
/* Gives *visit back, once; it is 0 afterwards. */
void sv_visitors_leave(struct sv_visitors *visitors, _Atomic uint64_t *visit);
/* A refusal may be logged now, once a second for each result; *suppressed: how many were not since the last. */
bool sv_visitors_may_log(struct sv_visitors *visitors, enum sv_visit result, int64_t now_ns, uint32_t *suppressed);

#endif
