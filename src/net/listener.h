/* listener.h: sockets that a server listens on: making, listening, closing them and the files of unix ones.
 *
 * Owner: the port (the process that made the server); forked processes and reactors use `fd` only, and close their copy
 * with sv_listener_close(listener, false). No function here keeps a reference to what it is given.
 * runs in: the process that makes the server, before and in start(); BASE workers and reactors for enable_reuse_port.
 * Blocks only to resolve a host name. */
#ifndef SV_NET_LISTENER_H
#define SV_NET_LISTENER_H

#include <stdbool.h>
#include <sys/types.h>

#include "net/address.h"

struct sv_listener {
    int fd;                    /* non-blocking, close-on-exec; -1: not open */
    int type;                  /* enum srvlua_socket_type without SRVLUA_SSL */
    struct sv_address address; /* as bound: port 0 is replaced by the kernel's choice */
    char *file;                /* unix: absolute path of the socket file (a later chdir does no harm); else NULL */
    dev_t dev;                 /* unix: identity of that file as we made it */
    ino_t ino;
    bool is_inherited; /* a service manager listens there too (inherited.h) */
};

/* Makes and binds a socket; fills *listener. It does not listen yet. After a failure fd is -1, and `address` is the one
 * that was wanted unless the failure came before it was known (length 0).
 * TCP sockets get SO_REUSEADDR: a bind succeeds over connections in TIME_WAIT, and fails with EADDRINUSE when somebody
 * else listens there, but not when somebody has only bound: sv_listener_is_same() finds that within one server, and
 * sv_listener_listen() reports the rest. UDP sockets do not get it: every second bind is EADDRINUSE.
 * reuse_port: SO_REUSEPORT (ignored for unix). IPv6 sockets serve IPv4 clients too.
 * Unix: a socket file that belongs to no open socket is replaced. A live one (even if it does not listen yet), or a
 * file that is no socket, is EADDRINUSE and stays untouched. Whoever is behind it does not notice the question.
 * Returns 0 or -code: those of sv_address_resolve(), errno of socket, setsockopt or bind. */
int sv_listener_open(const char *host, int port, int type, bool reuse_port, struct sv_listener *listener,
                     struct srvlua_status *status);
/* The same for an address that is already known, e.g. one more listener of a reuse_port group, or another try at
 * listener->address. `listener` must not be open. */
int sv_listener_open_at(const struct sv_address *address, int type, bool reuse_port, struct sv_listener *listener,
                        struct srvlua_status *status);

/* Starts listening; nothing to do for datagram sockets, and for inherited ones that listen already. Returns 0 or -errno, EADDRINUSE if somebody was faster. */
int sv_listener_listen(const struct sv_listener *listener, int backlog, struct srvlua_status *status);

/* Both are IP sockets of one protocol and one address: the pair that the kernel lets pass at bind. Equal unix paths are
 * refused by sv_listener_open() itself. */
bool sv_listener_is_same(const struct sv_listener *one, const struct sv_listener *other);

/* Closes this process's descriptor; remove_file: removes the socket file too, if it still is the one we made. May be
 * called on one that is not open, and twice. */
void sv_listener_close(struct sv_listener *listener, bool remove_file);

#endif
