/* datagram.c: what comes to datagram ports: packets for workers, and DTLS sessions.
 *
 * A DTLS peer that came back with its cookie gets a socket of its own, bound to the address that it sent to and
 * connected to the peer, so that the kernel sorts the datagrams and a session is a connection like any other.
 *
 * Nothing is kept of a peer before that, nor of one for which there is no room: clients repeat themselves (RFC 6347 4.2.4). Those whose
 * handshake has to wait for its turn cost a socket and a ClientHello, and are limited in number.
 * runs in: the reactor that reads the listener. */
#include <errno.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "reactor/accept.h"
#include "reactor/door.h"
#include "reactor/input.h"

#define DATAGRAMS_PER_TURN 64
#define WAITING_MAX 1000 /* sessions of a port and reactor whose handshake waits for its turn */

struct route { /* the two ends of a datagram's way */
    struct sv_address peer, own;
};

struct sv_datagram_heir { /* the ClientHello with which a session's peer has begun anew */
    uint16_t port;
    struct route route;
    size_t length;
    unsigned char data[];
};

/* The listener's address may be bound again, by the sockets of its sessions. */
static void share(int listener) {
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* failure shows when a session binds */
    setsockopt(listener, IPPROTO_IP, IP_PKTINFO, &on, sizeof on);   /* without it sessions are bound as the listener is */
    setsockopt(listener, IPPROTO_IPV6, IPV6_RECVPKTINFO, &on, sizeof on);
}

/* ------------------------------------------------------------------------------------- to which address, from which */

union control {
    struct cmsghdr align;
    char room[CMSG_SPACE(sizeof(struct in6_pktinfo)) + CMSG_SPACE(sizeof(struct in_pktinfo))];
};

/* The address of ours that a datagram was sent to takes the place of the listener's, which may stand for all that there are. */
static void take_own_address(struct msghdr *message, struct sv_address *own) {
    for (struct cmsghdr *part = CMSG_FIRSTHDR(message); part; part = CMSG_NXTHDR(message, part)) {
        if (own->u.base.sa_family == AF_INET && part->cmsg_level == IPPROTO_IP && part->cmsg_type == IP_PKTINFO) {
            struct in_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof info);
            own->u.in.sin_addr = info.ipi_spec_dst;
        } else if (own->u.base.sa_family == AF_INET6 && part->cmsg_level == IPPROTO_IPV6 && part->cmsg_type == IPV6_PKTINFO) {
            struct in6_pktinfo info;
            memcpy(&info, CMSG_DATA(part), sizeof info);
            if (IN6_IS_ADDR_MULTICAST(&info.ipi6_addr)) continue;
            own->u.in6.sin6_addr = info.ipi6_addr;
            if (IN6_IS_ADDR_LINKLOCAL(&info.ipi6_addr)) own->u.in6.sin6_scope_id = info.ipi6_ifindex;
        }
    }
}

/* Bytes of the next datagram; -1: there is none. */
static ssize_t receive(int fd, void *data, size_t size, struct route *route) {
    union control control;
    struct iovec vector = {.iov_base = data, .iov_len = size};
    ssize_t got;
    do {
        struct msghdr message = {.msg_name = &route->peer.u, .msg_namelen = sizeof route->peer.u, .msg_iov = &vector, .msg_iovlen = 1,
                                 .msg_control = &control, .msg_controllen = sizeof control};
        route->own.length = sizeof route->own.u;
        got = recvmsg(fd, &message, MSG_DONTWAIT);
        route->peer.length = message.msg_namelen;
        if (got >= 0 && getsockname(fd, &route->own.u.base, &route->own.length) == 0) take_own_address(&message, &route->own);
    } while (got < 0 && errno == EINTR);
    return got;
}

/* From the address that was asked. If the socket has no room the peer asks again. */
static void answer(int listener, const struct route *route, const unsigned char *data, size_t length) {
    union control control = {.room = {0}};
    struct iovec vector = {.iov_base = (void *)(uintptr_t)data, .iov_len = length};
    struct msghdr message = {.msg_name = (void *)(uintptr_t)&route->peer.u, .msg_namelen = route->peer.length, .msg_iov = &vector,
                             .msg_iovlen = 1, .msg_control = &control, .msg_controllen = sizeof control};
    struct cmsghdr *part = CMSG_FIRSTHDR(&message);
    if (route->own.u.base.sa_family == AF_INET) {
        struct in_pktinfo info = {.ipi_spec_dst = route->own.u.in.sin_addr};
        *part = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IP, .cmsg_type = IP_PKTINFO};
        memcpy(CMSG_DATA(part), &info, sizeof info);
        message.msg_controllen = CMSG_SPACE(sizeof info);
    } else {
        struct in6_pktinfo info = {.ipi6_addr = route->own.u.in6.sin6_addr, .ipi6_ifindex = route->own.u.in6.sin6_scope_id};
        *part = (struct cmsghdr){.cmsg_len = CMSG_LEN(sizeof info), .cmsg_level = IPPROTO_IPV6, .cmsg_type = IPV6_PKTINFO};
        memcpy(CMSG_DATA(part), &info, sizeof info);
        message.msg_controllen = CMSG_SPACE(sizeof info);
    }
    ssize_t sent = sendmsg(listener, &message, MSG_DONTWAIT | MSG_NOSIGNAL);
    (void)sent;
}

static bool is_same_peer(const struct sv_address *a, const struct sv_address *b) {
    if (a->u.base.sa_family != b->u.base.sa_family) return false;
    if (a->u.base.sa_family == AF_INET) return a->u.in.sin_port == b->u.in.sin_port && a->u.in.sin_addr.s_addr == b->u.in.sin_addr.s_addr;
    return a->u.in6.sin6_port == b->u.in6.sin6_port && IN6_ARE_ADDR_EQUAL(&a->u.in6.sin6_addr, &b->u.in6.sin6_addr);
}

/* ---------------------------------------------------------------------------------------------------------- sessions */

/* The socket, or -errno. */
static int open_socket(const struct route *route) {
    int on = 1, error;
    int fd = socket(route->own.u.base.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &route->own.u.base, route->own.length) == 0 && connect(fd, &route->peer.u.base, route->peer.length) == 0) return fd;
    error = errno;
    close(fd);
    return -error;
}

static void refuse(struct sv_reactor *reactor, const char *why) {
    sv_count(reactor->counters, SV_COUNT_ABORTED, 1);
    if (sv_log_limit_pass(&reactor->datagram_warning, sv_now_ns()))
        sv_log_write(&reactor->log, SRVLUA_LOG_WARNING, "a DTLS session is refused: %s", why);
}

static void take(struct sv_reactor *reactor, const struct sv_port_rules *rules, const struct route *route, const void *data, size_t length,
                 int *left);

/* Between bind() and connect() the socket was one for everybody: what came for others is theirs. */
static void take_strays(struct sv_reactor *reactor, const struct sv_port_rules *rules, int fd, const struct sv_address *peer, int *left) {
    struct route route;
    ssize_t got;
    while ((got = receive(fd, reactor->scratch, SV_READ_MAX, &route)) >= 0)
        if (!is_same_peer(&route.peer, peer) && (*left)-- > 0) take(reactor, rules, &route, reactor->scratch, (size_t)got, left);
}

/* Whoever is refused by the door has not even a socket. False: it was not begun. */
static bool begin(struct sv_reactor *reactor, const struct sv_port_rules *rules, const struct route *route, struct sv_tls *tls, int *left) {
    struct sv_session *session = sv_session_claim(reactor->sessions);
    if (!session) {
        refuse(reactor, "there is no room for it");
        return false;
    }
    sv_fill_accepted(session, reactor->endpoint->id, reactor->number, rules->index, -1, &route->peer);
    if (sv_door_admit(reactor, rules, session, NULL)) {
        int fd = open_socket(route);
        if (fd >= 0) {
            session->os_fd = fd;
            sv_count(reactor->counters, SV_COUNT_ACCEPTED, 1);
            sv_dtls_set_socket(tls, fd);
            take_strays(reactor, rules, fd, &route->peer, left);
            sv_reactor_adopt(reactor, session, tls);
            return true;
        }
        refuse(reactor, strerror(-fd));
    }
    sv_session_free(reactor->sessions, session);
    return false;
}

static bool has_turn(const struct sv_port_state *state, const struct sv_port_rules *rules) {
    return !rules->handshake_limit || state->handshakes < rules->handshake_limit || state->waiting_count < WAITING_MAX;
}

/* A datagram from a peer that has no session. */
static void take(struct sv_reactor *reactor, const struct sv_port_rules *rules, const struct route *route, const void *data, size_t length,
                 int *left) {
    struct sv_port_state *state = &reactor->port_states[rules->index];
    unsigned char words[SV_DTLS_ANSWER_SIZE];
    enum sv_dtls_greeting greeting = sv_dtls_greet(state->tls, &route->peer, data, length, words);
    if (greeting == SV_DTLS_ANSWERED) answer(rules->listener_fd, route, words, sizeof words);
    if (greeting != SV_DTLS_WELCOME || !has_turn(state, rules)) return;
    if (sv_live_connections(reactor->endpoint->ipc) >= reactor->max_connection) {
        refuse(reactor, "max_connection is reached");
        return;
    }
    struct sv_tls *tls = sv_dtls_accept(state->tls, data, length);
    if (tls && !begin(reactor, rules, route, tls, left)) sv_tls_free(tls);
}

/* Takes in what came to a listener from peers that have no session. */
static void read_sessions(struct sv_reactor *reactor, const struct sv_port_rules *rules) {
    struct route route;
    int left = DATAGRAMS_PER_TURN;
    while (left-- > 0) {
        ssize_t got = receive(rules->listener_fd, reactor->scratch, SV_READ_MAX, &route);
        if (got < 0) return; /* EAGAIN, or an error that an earlier answer brought back: nothing to do about it */
        take(reactor, rules, &route, reactor->scratch, (size_t)got, &left);
    }
}

/* ---------------------------------------------------------------------------------------- peers that have begun anew */

struct sv_datagram_heir *sv_datagram_heir_of(const struct sv_connection *connection) {
    const void *data;
    size_t length = connection->tls && !connection->reactor->is_quiet ? sv_dtls_successor(connection->tls, &data) : 0;
    struct sv_datagram_heir *heir = length ? malloc(sizeof *heir + length) : NULL;
    if (!heir) return NULL;
    heir->port = connection->port;
    heir->length = length;
    heir->route.peer.length = heir->route.own.length = sizeof heir->route.own.u;
    memcpy(heir->data, data, length);
    if (getpeername(connection->io.fd, &heir->route.peer.u.base, &heir->route.peer.length) == 0 &&
        getsockname(connection->io.fd, &heir->route.own.u.base, &heir->route.own.length) == 0)
        return heir;
    free(heir);
    return NULL;
}

void sv_datagram_inherit(struct sv_reactor *reactor, struct sv_datagram_heir *heir) {
    int left = DATAGRAMS_PER_TURN;
    if (!heir) return;
    take(reactor, &reactor->ports[heir->port], &heir->route, heir->data, heir->length, &left);
    free(heir);
}

/* -------------------------------------------------------------------------------------------------------- listeners */

static void on_datagram(struct ev_loop *ev, ev_io *watcher, int events) {
    (void)events;
    struct sv_reactor *reactor = watcher->data;
    struct sv_port_state *state = sv_container(watcher, struct sv_port_state, datagrams);
    const struct sv_port_rules *port = &reactor->ports[state - reactor->port_states];
    if (state->tls) {
        read_sessions(reactor, port);
        return;
    }
    for (int i = 0; i < DATAGRAMS_PER_TURN; i++) {
        struct sv_address from = {.length = sizeof from.u};
        ssize_t got = recvfrom(watcher->fd, reactor->scratch, SV_READ_MAX, MSG_DONTWAIT, &from.u.base, &from.length);
        if (got < 0) {
            if (errno == EINTR) continue;
            return; /* EAGAIN, or an error that an earlier answer brought back: nothing to do about it */
        }
        if (!reactor->home.datagram(reactor->home.context, port, &from, reactor->scratch, (size_t)got, sv_wall_ns())) {
            ev_io_stop(ev, watcher);
            return;
        }
        if (reactor->is_quiet) return;
    }
}

void sv_datagram_start(struct sv_reactor *reactor, uint16_t port) {
    ev_io *watcher = &reactor->port_states[port].datagrams;
    ev_io_init(watcher, on_datagram, reactor->ports[port].listener_fd, EV_READ);
    watcher->data = reactor;
}

void sv_reactor_watch_datagrams(struct sv_reactor *reactor, uint16_t port) {
    struct sv_port_state *state = &reactor->port_states[port];
    if (state->tls) share(reactor->ports[port].listener_fd);
    state->is_watching = true;
    ev_io_start(reactor->loop->ev, &state->datagrams);
}

void sv_reactor_resume_datagrams(struct sv_reactor *reactor) {
    for (uint16_t i = 0; i < reactor->port_count && !reactor->is_quiet; i++)
        if (reactor->port_states[i].is_watching) ev_io_start(reactor->loop->ev, &reactor->port_states[i].datagrams);
}
