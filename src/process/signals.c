/* signals.c: see signals.h. */
#include "process/signals.h"

#include <errno.h>
#include <sys/signalfd.h>
#include <unistd.h>

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

static void on_signal(struct ev_loop *ev, ev_io *watcher, int events) {
    (void)ev, (void)events;
    struct sv_signals *signals = watcher->data;
    struct signalfd_siginfo info;
    while (read(signals->fd, &info, sizeof info) == sizeof info) {
        signals->handler(signals->context, (int)info.ssi_signo);
        if (signals->fd < 0) return; /* the handler ended the loop */
    }
}

int sv_signals_open(struct sv_signals *signals, struct srvlua_loop *loop, void (*handler)(void *context, int signo), void *context) {
    sigset_t set;
    server_signals(&set);
    signals->fd = signalfd(-1, &set, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals->fd < 0) return -errno;
    signals->handler = handler;
    signals->context = context;
    ev_io_init(&signals->watcher, on_signal, signals->fd, EV_READ);
    signals->watcher.data = signals;
    ev_set_priority(&signals->watcher, EV_MAXPRI);
    ev_io_start(loop->ev, &signals->watcher);
    return 0;
}

void sv_signals_close(struct sv_signals *signals, struct srvlua_loop *loop) {
    if (signals->fd < 0) return;
    if (loop->ev) ev_io_stop(loop->ev, &signals->watcher);
    close(signals->fd);
    signals->fd = -1;
}
