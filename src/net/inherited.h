/* inherited.h: sockets that a service manager opened for us and passed on (socket activation, sd_listen_fds(3)):
 * LISTEN_PID names the process they are for, LISTEN_FDS says how many, LISTEN_FDS_START where they begin (3).
 *
 * They stay the service manager's: it goes on listening when we are gone, so nobody here may shut them down, remove their
 * files, or change how long their queue is.
 * runs in: the process that makes the server, before start(). */
#ifndef SV_NET_INHERITED_H
#define SV_NET_INHERITED_H

#include "net/listener.h"

/* How many descriptors were passed to this process, beginning with *first; 0: none. */
int sv_inherited_count(int *first);
/* Makes *listener from a copy of an inherited descriptor, type and address as the socket says. 0 or -errno: EBADF,
 * ENOTSOCK, EISCONN (a client), ESOCKTNOSUPPORT; *listener is not open then. */
int sv_inherited_adopt(int fd, struct sv_listener *listener);

#endif
