/* input.h: what the files of this folder share about a connection's way in (opening.c, input.c, violation.c, datagram.c, deadline.c).
 *
 *   accepted ─► [PROXY header] ─► [TLS handshake] ─► open ─► bytes ─► [decrypted] ─► [framer] ─► home
 *               └──────────── opening.c ────────────────┘    └───────────── input.c ────────────────┘
 *
 * runs in: reactors. */
#ifndef SV_REACTOR_INPUT_H
#define SV_REACTOR_INPUT_H

#include "reactor/reactor.h"

static inline struct sv_port_state *sv_port_state_of(const struct sv_connection *connection) {
    return &connection->reactor->port_states[connection->port];
}

static inline const struct sv_port_rules *sv_port_rules_of(const struct sv_connection *connection) {
    return &connection->reactor->ports[connection->port];
}

/* Nothing of it is passed on now. In a shutdown the packets that were read still are. */
static inline bool sv_input_is_stopped(const struct sv_connection *connection) {
    return connection->is_dead || (connection->read_blocks & ~(unsigned)SV_BLOCK_QUIET);
}

static inline size_t sv_input_kept(const struct sv_input *input) {
    return input->end - input->begin;
}

/* input.c: from a socket to whole packets. */
void sv_input_open(struct sv_connection *connection);     /* to be called once it was adopted */
void sv_input_readable(struct sv_connection *connection); /* the socket has something */
void sv_input_writable(struct sv_connection *connection); /* it has room, and the connection is not open yet */
void sv_input_resume(struct sv_connection *connection);   /* it may be read again */
void sv_input_flush(struct sv_connection *connection);    /* passes whole packets on, whether there is room or not: the last act */
void sv_input_forget(struct sv_connection *connection);   /* it is dead */
void sv_input_free(struct sv_connection *connection);     /* it is reaped */
/* The time limit of an unfinished thing has come. */
void sv_input_overdue(struct sv_connection *connection, int64_t now_ns);
/* A connection that is no one's yet ends: neither connect nor close event, abort_count + 1. reason NULL: silently. */
void sv_input_give_up(struct sv_connection *connection, const char *reason);
int sv_input_start(struct sv_reactor *reactor, struct srvlua_status *status);
void sv_input_stop(struct sv_reactor *reactor);

/* datagram.c: the watcher of a port's listener, unless it is a stream's, which never starts it. */
void sv_datagram_start(struct sv_reactor *reactor, uint16_t port);
/* What a peer that has begun anew leaves to the session after this one; NULL: he has not. To be asked for before the socket is closed,
 * and inherited, which frees it, after that. */
struct sv_datagram_heir;
struct sv_datagram_heir *sv_datagram_heir_of(const struct sv_connection *connection);
void sv_datagram_inherit(struct sv_reactor *reactor, struct sv_datagram_heir *heir);

/* deadline.c: at most one time limit per connection. */
void sv_deadline_start(struct sv_reactor *reactor);
void sv_deadline_stop(struct sv_reactor *reactor);
void sv_deadline_set(struct sv_connection *connection, enum sv_deadline_kind kind, int64_t due_ns);
void sv_deadline_clear(struct sv_connection *connection);

/* reactor.c, for input.c */
void sv_reactor_watch(struct sv_connection *connection);
void sv_reactor_begin_close(struct sv_connection *connection, enum sv_close_reason reason, int close_errno, int32_t value);
void sv_reactor_kill(struct sv_connection *connection);

/* input.c, for opening.c */
void sv_input_read(struct sv_connection *connection); /* an open one */
void sv_input_go_on_later(struct sv_connection *connection);
bool sv_input_append(struct sv_input *input, const unsigned char *data, size_t length); /* false: no memory */
void sv_input_release(struct sv_input *input);

/* opening.c, for input.c */
void sv_opening_go_on(struct sv_connection *connection); /* with its handshake */
void sv_opening_end_handshake(struct sv_connection *connection);
void sv_opening_cancel(struct sv_connection *connection); /* it ends for a reason of ours, with a word to who speaks TLS already */
void sv_opening_leave_queue(struct sv_connection *connection); /* of those whose handshake waits for its turn, if it is there */

/* violation.c: one log line, and the close travels behind what was passed on. */
void sv_input_violate(struct sv_connection *connection, int code, const char *reason);
void sv_violations_start(struct sv_reactor *reactor);
void sv_violations_stop(struct sv_reactor *reactor);

#endif
