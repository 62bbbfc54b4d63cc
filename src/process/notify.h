/* notify.h: tells a service manager (systemd's protocol, events.md 15) how the server is: datagrams to the socket that
 * NOTIFY_SOCKET names. Without that variable nothing here does anything.
 *
 * Owner: the process that called start(); forked children close their copy first of all, and find neither these variables nor
 * those of socket activation in their environment.
 * runs in: that process's main thread. Blocks for at most a second per message, should the receiver be stuck. */
#ifndef SV_PROCESS_NOTIFY_H
#define SV_PROCESS_NOTIFY_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "base/log.h"
#include "reactor/loop.h"

#define SV_NOTIFY_VARIABLES 7

struct sv_notify {
    int fd; /* -1: nobody wants to know */
    struct sockaddr_un address;
    socklen_t length;
    int64_t watchdog_ms; /* how often to say that we live; 0: never */
    bool has_failed;     /* one warning is enough */
    const struct sv_log *log;
    char *hidden[SV_NOTIFY_VARIABLES]; /* values that are kept from children; NULL: it was not set */
};

/* Reads the variables and takes them out of the environment. `log` is kept. */
void sv_notify_open(struct sv_notify *notify, const struct sv_log *log);
/* In a forked child: it has nothing to tell. */
void sv_notify_leave(struct sv_notify *notify);
/* Ends it in the process that opened it, whose environment is as it was then. */
void sv_notify_close(struct sv_notify *notify);

/* Begins to feed the watchdog, if there is one, from this loop. */
void sv_notify_watch(struct sv_notify *notify, struct srvlua_loop *loop);
/* The server is up, or a reload is over; has_moved: this is not the process that was started (daemonize). */
void sv_notify_ready(struct sv_notify *notify, bool has_moved);
void sv_notify_reloading(struct sv_notify *notify);
void sv_notify_stopping(struct sv_notify *notify);

#endif
