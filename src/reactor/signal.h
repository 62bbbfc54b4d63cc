/* signal.h: signals of one process, read through a signalfd by its loop, before all else of a turn; handlers never run in signal
 * context. Some signals may be the owner's own (a server's process); the program may handle the others by srvlua_signal(), also
 * those for which the owner has a reaction that is none of its business otherwise.
 *
 * What the program handles is blocked in the calling thread, so that it waits for the loop, until its handler or the loop goes.
 * Owner: the loop's process; one loop of a process. */
#ifndef SV_REACTOR_SIGNAL_H
#define SV_REACTOR_SIGNAL_H

#include <signal.h>

#include "reactor/loop.h"

/* Reads `set`, which the caller has blocked, from now on: what nobody else handles goes to `handler`. `own`, a part of it, is
 * refused to srvlua_signal(). 0 or -errno. */
int sv_loop_read_signals(struct srvlua_loop *loop, const sigset_t *set, const sigset_t *own,
                         void (*handler)(void *context, int signo), void *context);
/* Part of sv_loop_free(): unblocks what srvlua_signal() has blocked. */
void sv_loop_signals_free(struct srvlua_loop *loop);

/* For who waits elsewhere than in the loop: where signals are read, -1: nowhere; and handles what is there. */
int sv_loop_signal_fd(const struct srvlua_loop *loop);
void sv_loop_handle_signals(struct srvlua_loop *loop);

#endif
