/* accept.c: see accept.h. */
#include "reactor/accept.h"

#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "base/clock.h"
#include "reactor/door.h"

#define ACCEPTS_PER_TURN 64
#define PAUSE_STEP 0.02 /* seconds between looks for room */

int64_t sv_live_connections(const struct sv_ipc *ipc) {
    int64_t live = 0;
    for (uint32_t i = 0; i < ipc->endpoints; i++) {
        const struct sv_counters *counters = &sv_inbox_of(ipc, i)->counters;
        live += sv_counter_get(counters, SV_COUNT_ACCEPTED) - sv_counter_get(counters, SV_COUNT_CLOSED);
    }
    return live;
}

static void watch_listeners(struct sv_acceptor *acceptor, bool is_on) {
    for (uint16_t i = 0; i < acceptor->port_count; i++) {
        if (!sv_type_is_stream(acceptor->ports[i].type)) continue;
        if (is_on)
            ev_io_start(acceptor->loop->ev, &acceptor->watchers[i]);
        else
            ev_io_stop(acceptor->loop->ev, &acceptor->watchers[i]);
    }
}

static void pause_accepting(struct sv_acceptor *acceptor) {
    watch_listeners(acceptor, false);
    acceptor->paused_until_ns = sv_now_ns() + SV_NS_PER_SECOND;
    ev_timer_again(acceptor->loop->ev, &acceptor->pause);
}

static void on_pause(struct ev_loop *ev, ev_timer *watcher, int events) {
    (void)events;
    struct sv_acceptor *acceptor = watcher->data;
    if (sv_live_connections(acceptor->ipc) >= acceptor->max_connection && sv_now_ns() < acceptor->paused_until_ns) return;
    ev_timer_stop(ev, watcher);
    if (acceptor->is_accepting) watch_listeners(acceptor, true);
}

static void refuse(struct sv_acceptor *acceptor, int fd) {
    close(fd);
    sv_count(acceptor->counters, SV_COUNT_ABORTED, 1);
}

/* No descriptor is left: gives the reserve up for a moment, so that the client is told rather than left in the queue. */
static void refuse_for_want_of_descriptors(struct sv_acceptor *acceptor, int listener) {
    if (sv_log_limit_pass(&acceptor->descriptor_warning, sv_now_ns()))
        sv_log_about(&acceptor->log, SRVLUA_LOG_WARNING, 0, errno, "a connection is refused: %s", strerror(errno));
    if (acceptor->reserve >= 0) {
        close(acceptor->reserve);
        int fd = accept4(listener, NULL, NULL, SOCK_CLOEXEC);
        if (fd >= 0) refuse(acceptor, fd);
        acceptor->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC);
    }
    pause_accepting(acceptor);
}

void sv_fill_accepted(struct sv_session *session, uint32_t owner, uint16_t reactor, uint16_t port, int fd, const struct sv_address *peer) {
    int64_t now_ns = sv_wall_ns();
    int peer_port;
    session->owner = owner;
    session->reactor = reactor;
    session->port = port;
    session->os_fd = fd;
    session->connect_ns = now_ns;
    sv_address_text(peer, session->peer_text, &peer_port);
    session->peer_port = peer_port < 0 ? 0 : peer_port;
    atomic_store_explicit(&session->last_recv_ns, now_ns, memory_order_relaxed);
}

/* False: there is no room for clients at present. */
static bool take(struct sv_acceptor *acceptor, int fd, const struct sv_port_rules *port, const struct sv_address *peer) {
    struct sv_session *session = sv_session_claim(acceptor->sessions);
    if (!session) {
        refuse(acceptor, fd);
        return false;
    }
    sv_fill_accepted(session, acceptor->owner, acceptor->reactor, port->index, fd, peer);
    if (!port->has_proxy && !sv_door_pass(acceptor->sessions, acceptor->counters, &acceptor->log, port, session, NULL)) {
        close(fd);
        sv_session_free(acceptor->sessions, session);
        return true;
    }
    sv_count(acceptor->counters, SV_COUNT_ACCEPTED, 1);
    if (acceptor->accepted(acceptor->context, session)) return true;
    sv_count(acceptor->counters, SV_COUNT_CLOSED, 1);
    refuse(acceptor, fd);
    sv_session_free(acceptor->sessions, session);
    return false;
}

static void on_listener(struct ev_loop *ev, ev_io *watcher, int events) {
    (void)ev, (void)events;
    struct sv_acceptor *acceptor = watcher->data;
    const struct sv_port_rules *port = &acceptor->ports[watcher - acceptor->watchers];
    for (int i = 0; i < ACCEPTS_PER_TURN; i++) {
        struct sv_address peer = {.length = sizeof peer.u};
        int fd = accept4(watcher->fd, &peer.u.base, &peer.length, SOCK_NONBLOCK | SOCK_CLOEXEC);
        if (fd < 0) {
            if (errno == EMFILE || errno == ENFILE || errno == ENOMEM || errno == ENOBUFS)
                refuse_for_want_of_descriptors(acceptor, watcher->fd);
            if (errno == EINTR || errno == ECONNABORTED) continue;
            return;
        }
        if (sv_live_connections(acceptor->ipc) >= acceptor->max_connection) {
            refuse(acceptor, fd);
            if (sv_log_limit_pass(&acceptor->limit_warning, sv_now_ns()))
                sv_log_about(&acceptor->log, SRVLUA_LOG_WARNING, 0, SRVLUA_ERROR_SERVER_TOO_MANY_SOCKET,
                             "a connection is refused: max_connection of %lld is reached", (long long)acceptor->max_connection);
            pause_accepting(acceptor);
            return;
        }
        if (!take(acceptor, fd, port, &peer)) {
            pause_accepting(acceptor);
            return;
        }
    }
}

int sv_acceptor_init(struct sv_acceptor *acceptor) {
    acceptor->watchers = calloc(acceptor->port_count, sizeof *acceptor->watchers);
    if (!acceptor->watchers) return -ENOMEM;
    acceptor->reserve = open("/dev/null", O_RDONLY | O_CLOEXEC); /* -1: clients wait in the queue then */
    acceptor->is_accepting = false;
    for (uint16_t i = 0; i < acceptor->port_count; i++) {
        ev_io_init(&acceptor->watchers[i], on_listener, acceptor->ports[i].listener_fd, EV_READ);
        acceptor->watchers[i].data = acceptor;
    }
    ev_timer_init(&acceptor->pause, on_pause, PAUSE_STEP, PAUSE_STEP);
    acceptor->pause.data = acceptor;
    return 0;
}

void sv_acceptor_start(struct sv_acceptor *acceptor) {
    if (!acceptor->watchers || acceptor->is_accepting) return;
    acceptor->is_accepting = true;
    watch_listeners(acceptor, true);
}

void sv_acceptor_stop(struct sv_acceptor *acceptor) {
    if (!acceptor->watchers) return;
    acceptor->is_accepting = false;
    watch_listeners(acceptor, false);
    ev_timer_stop(acceptor->loop->ev, &acceptor->pause);
}

void sv_acceptor_free(struct sv_acceptor *acceptor) {
    if (!acceptor->watchers) return;
    sv_acceptor_stop(acceptor);
    if (acceptor->reserve >= 0) close(acceptor->reserve);
    free(acceptor->watchers);
    acceptor->watchers = NULL;
}
