/* dispatch.c: which worker an event goes to (settings.md 3.1). runs in: reactor threads; reads what never changes after start(),
 * and the shared slots. */
#include <string.h>

#include "server/server.h"

bool sv_dispatch_is_sticky(int64_t mode) {
    return mode == SV_DISPATCH_FD || mode == SV_DISPATCH_IP;
}

bool sv_dispatch_has_order(int64_t mode) {
    return mode == SV_DISPATCH_FD || mode == SV_DISPATCH_IP || mode == SV_DISPATCH_UID;
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

/* The next idle one in rotation; none: the next in rotation, which is worth a line. */
static uint32_t next_idle(srvlua_server *server) {
    struct sv_runtime *rt = &server->rt;
    uint32_t first = rotate(server);
    for (uint32_t i = 0; i < rt->config.workers; i++) {
        uint32_t worker = (first + i) % rt->config.workers;
        uint32_t parity = atomic_load_explicit(&rt->slots[worker].parity, memory_order_relaxed);
        if (atomic_load_explicit(&rt->slots[worker].life[parity].state, memory_order_relaxed) == SV_PROCESS_IDLE) {
            bool is_waiting = false; /* idle, but something lies in its inbox already */
            for (uint32_t r = 0; r < rt->ipc.reactors && !is_waiting; r++) {
                struct sv_ring *ring = sv_ipc_ring(&rt->ipc, sv_endpoint_of_slot(&rt->ipc, worker, parity), sv_endpoint_of_reactor(r));
                is_waiting = ring && sv_ring_backlog(ring) > 0;
            }
            if (!is_waiting) return worker;
        }
    }
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
    (void)type;
    uint32_t by_descriptor = connection ? (uint32_t)connection->session->os_fd : 0;
    switch (server->effective.dispatch_mode) {
        case SV_DISPATCH_ROUND: return rotate(server);
        case SV_DISPATCH_IDLE: return next_idle(server);
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
