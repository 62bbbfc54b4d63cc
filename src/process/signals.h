/* signals.h: the signals of a server, which its processes read in their loops (reactor/signal.h).
 *
 * The set is blocked from sv_signals_take_over() on, in every thread and child. runs in: master, manager, workers. */
#ifndef SV_PROCESS_SIGNALS_H
#define SV_PROCESS_SIGNALS_H

#include <signal.h>

#include "reactor/loop.h"

#define SV_SIGNAL_ASK (SIGRTMIN + 1) /* manager to worker: which code is running? (fault.h) */

struct sv_signal_state { /* what the host had before */
    sigset_t mask;
    struct sigaction pipe_action;
};

/* Blocks the server's signals and gives SIGPIPE a handler that does nothing, and that exec() takes away: ignored, it would be so
 * in every program that a worker runs. *saved is for sv_signals_give_back(), which drops those signals that wait. */
void sv_signals_take_over(struct sv_signal_state *saved);
void sv_signals_give_back(const struct sv_signal_state *saved);
/* For a child that handles its signals itself: those of the server come to it, and what the host handles has its default reaction.
 * As after exec(), what the host ignores stays ignored, but for SIGTERM. SIGPIPE stays as it is. */
void sv_signals_release(const struct sv_signal_state *saved);
/* Reads them in this process's loop until that is freed. 0 or -errno. */
int sv_signals_open(struct srvlua_loop *loop, void (*handler)(void *context, int signo), void *context);

#endif
