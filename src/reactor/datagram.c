/* datagram.c: DTLS sessions. A peer that came back with its cookie gets a socket of its own, bound to the listener's address and connected
 * to the peer, so that the kernel sorts the datagrams and a session is a connection like any other.
 * runs in: the reactor that reads the listener. */
#include <errno.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "reactor/accept.h"
#include "reactor/door.h"
#include "reactor/input.h"

void sv_datagram_share(int listener) {
    int on = 1;
    setsockopt(listener, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on); /* failure shows when a session binds */
}

/* The socket, or -errno. */
static int open_socket(int listener, const struct sv_address *peer) {
    struct sv_address own = {.length = sizeof own.u};
    int on = 1, error;
    if (getsockname(listener, &own.u.base, &own.length)) return -errno;
    int fd = socket(own.u.base.sa_family, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    if (fd < 0) return -errno;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof on);
    if (bind(fd, &own.u.base, own.length) == 0 && connect(fd, &peer->u.base, peer->length) == 0) return fd;
    error = errno;
    close(fd);
    return -error;
}

static void refuse(struct sv_reactor *reactor, const char *why) {
    sv_count(reactor->counters, SV_COUNT_ABORTED, 1);
    if (why && sv_log_limit_pass(&reactor->datagram_warning, sv_now_ns()))
        sv_log_write(&reactor->log, SRVLUA_LOG_WARNING, "a DTLS session is refused: %s", why);
}

void sv_datagram_session(struct sv_reactor *reactor, const struct sv_port_rules *rules, const struct sv_address *peer, const void *data,
                         size_t length) {
    struct sv_port_state *state = &reactor->port_states[rules->index];
    struct sv_tls *tls = NULL;
    if (sv_dtls_greet(state->tls, rules->listener_fd, peer, data, length, &tls) != SV_DTLS_ACCEPTED) return;
    bool has_room = sv_live_connections(reactor->endpoint->ipc) < reactor->max_connection;
    int fd = has_room ? open_socket(rules->listener_fd, peer) : -EMFILE;
    struct sv_session *session = fd >= 0 ? sv_session_claim(reactor->sessions) : NULL;
    if (!session) {
        refuse(reactor, has_room ? "it gets no socket" : "max_connection is reached");
        if (fd >= 0) close(fd);
        sv_tls_free(tls);
        return;
    }
    sv_fill_accepted(session, reactor->endpoint->id, reactor->number, rules->index, fd, peer);
    sv_count(reactor->counters, SV_COUNT_ACCEPTED, 1);
    sv_dtls_set_socket(tls, fd);
    if (sv_door_admit(reactor, rules, session, NULL)) {
        sv_reactor_adopt(reactor, session, tls);
        return;
    }
    close(fd);
    sv_tls_free(tls);
    sv_count(reactor->counters, SV_COUNT_CLOSED, 1);
    sv_session_free(reactor->sessions, session);
}
