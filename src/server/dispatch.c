/* dispatch.c: which worker an event goes to (settings.md 3.1). runs in: reactor threads; reads what never changes after start(),
 * and the shared slots. */
#include <string.h>

#include "base/clock.h"
#include "server/server.h"

bool sv_dispatch_is_sticky(int64_t mode) {
    return mode == SV_DISPATCH_FD || mode == SV_DISPATCH_IP || mode == SV_DISPATCH_CO_CONN;
}

bool sv_dispatch_has_order(int64_t mode) {
    return sv_dispatch_is_sticky(mode) || mode == SV_DISPATCH_UID || mode == SV_DISPATCH_LEAST_LATENCY;
}

static uint32_t hash_bytes(const void *data, size_t length) { /* FNV-1a */
    const unsigned char *bytes = data;
    uint32_t hash = 2166136261u;
    for (size_t i = 0; i < length; i++) hash = (hash ^ bytes[i]) * 16777619u;
    return hash;
}

/* IPv4 as a big-endian number, IPv6 a hash of its bytes, mapped IPv4 as IPv4, unix a hash of its path. */
static uint32_t hash_address(const struct sv_address *address) {
    switch (address->u.base.sa_family) {
        case AF_INET: return ntohl(address->u.in.sin_addr.s_addr);
        case AF_INET6:
            if (IN6_IS_ADDR_V4MAPPED(&address->u.in6.sin6_addr)) {
                uint32_t v4;
                memcpy(&v4, address->u.in6.sin6_addr.s6_addr + 12, sizeof v4);
                return ntohl(v4);
            }
            return hash_bytes(&address->u.in6.sin6_addr, 16);
        default: return hash_bytes(address->u.un.sun_path, address->length > sizeof(sa_family_t) ? address->length - sizeof(sa_family_t) : 0);
    }
}

static uint32_t rotate(srvlua_server *server) {
    return atomic_fetch_add_explicit(&server->rotation, 1, memory_order_relaxed) % server->rt.config.workers;
}

/* What the shared words tell of a worker's present life. */
struct load {
    bool is_there;       /* its process is not being respawned */
    bool is_busy;        /* inside a callback */
    int64_t waiting;     /* data packets in its inbox that it has not begun */
    int64_t coroutines;
    int64_t expected_ns; /* wait until it would begin one more */
};

static struct load load_of(const struct sv_runtime *rt, uint32_t worker) {
    const struct sv_slot *slot = &rt->slots[worker];
    uint32_t parity = atomic_load_explicit(&slot->parity, memory_order_relaxed);
    const struct sv_slot_life *life = &slot->life[parity];
    struct load load = {.is_there = atomic_load_explicit(&slot->pid[parity], memory_order_relaxed) != 0,
                        .is_busy = atomic_load_explicit(&life->state, memory_order_relaxed) == SV_PROCESS_BUSY,
                        .coroutines = atomic_load_explicit(&life->coroutines, memory_order_relaxed)};
    for (uint32_t reactor = 0; reactor < rt->ipc.reactors; reactor++) {
        const struct sv_ring *ring = sv_ipc_ring(&rt->ipc, sv_endpoint_of_slot(&rt->ipc, worker, parity), sv_endpoint_of_reactor(reactor));
        if (!ring) continue;
        int64_t served = (int64_t)atomic_load_explicit(&ring->served, memory_order_relaxed);
        load.waiting += (int64_t)atomic_load_explicit(&ring->packets, memory_order_relaxed) - served;
    }
    if (!rt->config.measures_time) return load;
    int64_t average_ns = atomic_load_explicit(&life->average_ns, memory_order_relaxed);
    int64_t since_ns = atomic_load_explicit(&life->busy_since_ns, memory_order_relaxed);
    int64_t running_ns = since_ns ? sv_now_ns() - since_ns : 0;
    load.expected_ns = load.waiting * average_ns;
    if (since_ns) load.expected_ns += running_ns > average_ns ? running_ns : average_ns;
    return load;
}

/* The smaller, the better; what each mode looks at. */
static int64_t cost_of(int64_t mode, const struct load *load) {
    switch (mode) {
        case SV_DISPATCH_IDLE:
        case SV_DISPATCH_STREAM: return load->is_busy || load->waiting > 0;
        case SV_DISPATCH_LEAST_LATENCY: return load->expected_ns;
        default: /* coroutines, or requests being worked on: a callback without a coroutine counts as one */
            return load->coroutines + load->waiting + (load->is_busy && !load->coroutines);
    }
}

/* The cheapest worker that is there, beginning the look at `first`. */
static uint32_t cheapest(srvlua_server *server, uint32_t first, int64_t *cost) {
    const struct sv_runtime *rt = &server->rt;
    uint32_t best = first;
    *cost = INT64_MAX;
    for (uint32_t i = 0; i < rt->config.workers && *cost > 0; i++) {
        uint32_t worker = (first + i) % rt->config.workers;
        struct load load = load_of(rt, worker);
        if (!load.is_there) continue;
        int64_t its_cost = cost_of(server->effective.dispatch_mode, &load);
        if (its_cost >= *cost) continue;
        *cost = its_cost;
        best = worker;
    }
    return best;
}

/* The next idle one in rotation; none: the next in rotation, which is worth a line. */
static uint32_t next_idle(srvlua_server *server) {
    int64_t cost;
    uint32_t first = rotate(server);
    uint32_t worker = cheapest(server, first, &cost);
    if (cost == 0) return worker;
    int64_t now_ns = sv_now_ns(), next_ns = atomic_load_explicit(&server->next_idle_warning_ns, memory_order_relaxed);
    if (now_ns >= next_ns && atomic_compare_exchange_strong(&server->next_idle_warning_ns, &next_ns, now_ns + SV_NS_PER_SECOND))
        sv_log_about(&server->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_NO_IDLE_WORKER, "no idle worker: packets wait for the next in turn");
    return first;
}

static uint32_t by_peer_text(const struct sv_session *session, uint32_t by_descriptor) {
    struct sv_address address;
    if (!session->peer_text[0] || session->peer_text[0] == '/') return by_descriptor;
    if (sv_address_parse_literal(session->peer_text, session->peer_port ? session->peer_port : 1, &address, NULL)) return by_descriptor;
    return hash_address(&address);
}

uint32_t sv_dispatch_choose(void *context, const struct sv_connection *connection, const struct sv_address *from, uint16_t type) {
    srvlua_server *server = context;
    uint32_t workers = server->rt.config.workers;
    int64_t cost;
    (void)type;
    uint32_t by_descriptor = connection ? (uint32_t)connection->session->os_fd : 0;
    switch (server->effective.dispatch_mode) {
        case SV_DISPATCH_ROUND: return rotate(server);
        case SV_DISPATCH_IDLE:
        case SV_DISPATCH_STREAM: return next_idle(server);
        case SV_DISPATCH_CO_CONN:
            if (!connection) return hash_address(from) % workers;
            return cheapest(server, 0, &cost);
        case SV_DISPATCH_CO_REQ:
        case SV_DISPATCH_CONCURRENT:
        case SV_DISPATCH_LEAST_LATENCY: return cheapest(server, rotate(server), &cost);
        case SV_DISPATCH_IP:
            return (connection ? by_peer_text(connection->session, by_descriptor) : hash_address(from)) % workers;
        case SV_DISPATCH_UID: {
            uint32_t uid;
            if (connection && sv_session_uid(connection->session, connection->id, &uid)) return uid % workers;
            return (connection ? by_descriptor : hash_address(from)) % workers;
        }
        default: return (connection ? by_descriptor : hash_address(from)) % workers;
    }
}
