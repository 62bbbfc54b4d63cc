/* socket_options.h: options of listening and accepted sockets (settings.md 1.4, 1.9), and sending a datagram.
 *
 * No failure here is fatal: all options are tried, the first that failed is named by its setting so that the caller can
 * log one warning. Options that do not concern the socket's type, and zeros, are skipped.
 * runs in: any process or thread that holds the descriptor. Never blocks, never allocates. */
#ifndef SV_NET_SOCKET_OPTIONS_H
#define SV_NET_SOCKET_OPTIONS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "net/address.h"

struct sv_socket_options {
    bool nodelay;        /* open_tcp_nodelay */
    bool keepalive;      /* open_tcp_keepalive; the next three count only with it */
    int keepidle;        /* tcp_keepidle, seconds */
    int keepinterval;    /* tcp_keepinterval, seconds */
    int keepcount;       /* tcp_keepcount */
    int user_timeout_ms; /* tcp_user_timeout; 0 = kernel's */
    int defer_accept;    /* tcp_defer_accept, seconds; 0 = off */
    int fastopen_queue;  /* tcp_fastopen; 0 = off */
    int64_t send_buffer; /* kernel_socket_send_buffer_size, bytes; 0 = kernel's */
    int64_t recv_buffer; /* kernel_socket_recv_buffer_size, bytes; 0 = kernel's */
};

/* Options of a listener, to be set before it listens: defer_accept, fastopen_queue, recv_buffer (it scales the TCP
 * window of what is accepted). A datagram socket is its own connection: it gets both buffers here. A kernel that does
 * not serve fast open counts as a failure of "tcp_fastopen" (ENOPROTOOPT); the option is set all the same.
 * Returns 0, or -errno of the first option that failed with its name in *failed (a static string; else NULL). */
int sv_socket_apply_listener(int fd, int type, const struct sv_socket_options *options, const char **failed);
/* Options of an accepted connection: nodelay, keepalive, user_timeout_ms, both buffers. Returns as above. */
int sv_socket_apply_connection(int fd, int type, const struct sv_socket_options *options, const char **failed);

/* Sends one datagram, retrying when a signal interrupts it; never waits. Returns 0 or -errno: EAGAIN when a unix peer's
 * queue is full, or this socket's send buffer is (with datagrams that unix peers did not read yet), EMSGSIZE when the
 * datagram is too big, ENOENT or ECONNREFUSED when a unix peer is not there. */
int sv_datagram_send(int fd, const struct sv_address *to, const void *data, size_t length);

#endif
