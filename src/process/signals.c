/* signals.c: see signals.h. */
#include "process/signals.h"

#include "reactor/signal.h"

static void server_signals(sigset_t *set) {
    sigemptyset(set);
    sigaddset(set, SIGTERM);
    sigaddset(set, SIGUSR1);
    sigaddset(set, SIGUSR2);
    sigaddset(set, SIGCHLD);
    sigaddset(set, SIGHUP);
    sigaddset(set, SIGWINCH);
    sigaddset(set, SIGALRM);
    sigaddset(set, SIGIO);
    sigaddset(set, SIGRTMIN);
}

static void disregard(int signo) {
    (void)signo; /* write() fails with EPIPE all the same */
}

void sv_signals_take_over(struct sv_signal_state *saved) {
    sigset_t set;
    server_signals(&set);
    sigprocmask(SIG_BLOCK, &set, &saved->mask);
    struct sigaction nothing = {.sa_handler = disregard, .sa_flags = SA_RESTART};
    sigaction(SIGPIPE, &nothing, &saved->pipe_action);
}

void sv_signals_give_back(const struct sv_signal_state *saved) {
    sigset_t set;
    server_signals(&set);
    while (sigtimedwait(&set, NULL, &(struct timespec){0}) > 0) {} /* what came during the shutdown is not for the host */
    sigaction(SIGPIPE, &saved->pipe_action, NULL);
    sigprocmask(SIG_SETMASK, &saved->mask, NULL);
}

int sv_signals_open(struct srvlua_loop *loop, void (*handler)(void *context, int signo), void *context) {
    sigset_t set, own;
    server_signals(&set);
    own = set; /* of these the program may handle some (events.md 11) */
    sigdelset(&own, SIGHUP);
    sigdelset(&own, SIGALRM);
    sigdelset(&own, SIGIO);
    return sv_loop_read_signals(loop, &set, &own, handler, context);
}

void sv_signals_release(const struct sv_signal_state *saved) {
    sigset_t set, mask = saved->mask;
    server_signals(&set);
    for (int signo = 1; signo < NSIG; signo++) {
        struct sigaction action, standard = {.sa_handler = SIG_DFL};
        if (sigismember(&set, signo) != 1 || sigaction(signo, NULL, &action)) continue;
        if (action.sa_handler != SIG_IGN || signo == SIGTERM) sigaction(signo, &standard, NULL);
        sigdelset(&mask, signo);
    }
    sigprocmask(SIG_SETMASK, &mask, NULL);
}
