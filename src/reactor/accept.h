/* accept.h: takes connections from the listening sockets and gives each a session.
 *
 * runs in: the master's main thread or its only reactor thread (PROCESS), or each worker's loop (BASE). What becomes of a session is
 * the hook's business. */
#ifndef SV_REACTOR_ACCEPT_H
#define SV_REACTOR_ACCEPT_H

#include "base/log.h"
#include "reactor/reactor.h"

struct sv_acceptor {
    struct srvlua_loop *loop;
    const struct sv_ipc *ipc;
    struct sv_session_table *sessions;
    struct sv_counters *counters;
    const struct sv_port_rules *ports;
    uint16_t port_count;
    struct sv_log log;
    int64_t max_connection;
    uint32_t owner;     /* endpoint that sessions are for; the hook may choose another */
    uint16_t reactor;   /* its number as users see it */
    /* A claimed session with everything filled in; false: it could not be passed on. */
    bool (*accepted)(void *context, struct sv_session *session);
    void *context;

    ev_io *watchers;  /* [port_count] */
    ev_timer pause;   /* looks whether there is room again */
    int64_t paused_until_ns;
    int reserve;      /* a descriptor to give up when all others are used */
    bool is_accepting;
    struct sv_log_limit limit_warning, descriptor_warning;
};

/* Members up to `context` are set by the caller. 0 or -errno. The others do nothing without it. */
int sv_acceptor_init(struct sv_acceptor *acceptor);
void sv_acceptor_start(struct sv_acceptor *acceptor);
void sv_acceptor_stop(struct sv_acceptor *acceptor);
void sv_acceptor_free(struct sv_acceptor *acceptor);
/* Who it is: for a claimed session. */
void sv_fill_accepted(struct sv_session *session, uint32_t owner, uint16_t reactor, uint16_t port, int fd, const struct sv_address *peer);
/* Live connections of the whole server. */
int64_t sv_live_connections(const struct sv_ipc *ipc);

#endif
