/* reactor_handle.h: what a function of the program that runs in a reactor holds on to, and what all such functions have in common.
 *
 * Handles are made in start() before the first fork and used by one reactor thread each (BASE: by one worker each, which has
 * copies of all of them). They are the only part of the server object that a reactor's thread may write to. */
#ifndef SV_SERVER_REACTOR_HANDLE_H
#define SV_SERVER_REACTOR_HANDLE_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

#include "srvlua.h"

struct srvlua_reactor {
    srvlua_server *server;
    uint32_t number; /* BASE: worker id */
    void *context;
};

/* One line in so long, whichever reactor has something to say. */
bool sv_reactor_may_tell(_Atomic int64_t *next_ns, int64_t now_ns, int64_t interval_ns);
/* Warns, once a minute, of a call that held up its reactor. */
void sv_reactor_tell_slow(srvlua_reactor *reactor, const char *function, _Atomic int64_t *next_ns, int64_t begin_ns, int64_t now_ns);

#endif
