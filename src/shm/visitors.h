/* visitors.h: how many connections an address has, and how fast it makes new ones (max_connection_per_ip, connection_rate_per_ip).
 *
 * One table for all ports, reactors and workers, in shared memory. An entry is one word (tag of address and port | live connections) that
 * changes by compare-and-swap, and the time of its token bucket. IPv6 addresses count by their /64. The session keeps the number of its
 * entry, and sv_session_free() gives it back: whoever ends a session, the manager for a dead worker too, so nothing drifts.
 * No locks. runs in: acceptors and reactors of any process. */
#ifndef SV_SHM_VISITORS_H
#define SV_SHM_VISITORS_H

#include <stdatomic.h>
#include <stdint.h>

#include "shm/arena.h"

struct sv_visitors {
    struct sv_visitor *entries; /* NULL: there are no limits */
    uint64_t mask;
    uint64_t key[2]; /* random, so that nobody can aim at an entry */
};

size_t sv_visitors_bytes(uint32_t size);
/* Before the first fork; `size`: a power of two, at least twice the connections. 0 or -ENOMEM, -EIO. */
int sv_visitors_init(struct sv_visitors *visitors, struct sv_arena *arena, uint32_t size);

enum sv_visit { SV_VISIT_WELCOME, SV_VISIT_TOO_MANY, SV_VISIT_TOO_FAST };
/* A connection of `address` (text) to `port` (index). limit 0: none; rate: per second, 0: none. WELCOME: *entry (> 0) is to be given
 * back, or 0 if nothing is counted (a full table, no IP address). */
enum sv_visit sv_visitors_enter(struct sv_visitors *visitors, const char *address, uint16_t port, int64_t limit, double rate,
                                int64_t now_ns, uint32_t *entry);
void sv_visitors_leave(struct sv_visitors *visitors, uint32_t entry);

#endif
