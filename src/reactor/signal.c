/* signal.c: see signal.h. */
#include "reactor/signal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

#include "base/errors.h"
#include "reactor/reactor_internal.h"

struct user_handler {
    srvlua_signal_callback callback; /* NULL: none */
    void *user_data;
};

struct sv_loop_signals {
    int fd;
    ev_io watcher;
    sigset_t wanted;  /* what fd reads */
    sigset_t standing; /* the part of it that is read in any case */
    sigset_t own;
    sigset_t blocked; /* by us */
    void (*handler)(void *context, int signo);
    void *context;
    struct user_handler users[NSIG];
};

static int call_back(srvlua_loop *loop, int64_t signo, void *user_data) {
    struct user_handler *user = user_data;
    return user->callback(loop, (int)signo, user->user_data);
}

static void take(struct srvlua_loop *loop, int signo) {
    struct sv_loop_signals *signals = loop->signals;
    struct user_handler user = signals->users[signo]; /* as it is now: it may remove itself */
    if (user.callback) {
        if (sv_loop_call(loop, call_back, signo, &user) && loop->hooks.failed) loop->hooks.failed(loop->hooks.context);
    } else if (signals->handler) {
        signals->handler(signals->context, signo);
    }
}

int sv_loop_signal_fd(const struct srvlua_loop *loop) {
    return loop->signals ? loop->signals->fd : -1;
}

void sv_loop_handle_signals(struct srvlua_loop *loop) {
    struct signalfd_siginfo info;
    while (loop->signals && read(loop->signals->fd, &info, sizeof info) == sizeof info) /* a handler may end the loop */
        if (info.ssi_signo < NSIG) take(loop, (int)info.ssi_signo);
}

static void on_readable(struct ev_loop *ev, ev_io *watcher, int events) {
    (void)ev, (void)events;
    sv_loop_handle_signals(watcher->data);
}

static struct sv_loop_signals *signals_of(struct srvlua_loop *loop) {
    if (loop->signals) return loop->signals;
    struct sv_loop_signals *signals = calloc(1, sizeof *signals);
    if (!signals) return NULL;
    sigemptyset(&signals->wanted);
    sigemptyset(&signals->standing);
    sigemptyset(&signals->own);
    sigemptyset(&signals->blocked);
    signals->fd = signalfd(-1, &signals->wanted, SFD_NONBLOCK | SFD_CLOEXEC);
    if (signals->fd < 0) {
        int error = errno;
        free(signals);
        errno = error;
        return NULL;
    }
    ev_io_init(&signals->watcher, on_readable, signals->fd, EV_READ);
    signals->watcher.data = loop;
    ev_set_priority(&signals->watcher, EV_MAXPRI);
    ev_io_start(loop->ev, &signals->watcher);
    loop->signals = signals;
    return signals;
}

int sv_loop_read_signals(struct srvlua_loop *loop, const sigset_t *set, const sigset_t *own,
                         void (*handler)(void *context, int signo), void *context) {
    struct sv_loop_signals *signals = signals_of(loop);
    if (!signals || signalfd(signals->fd, set, 0) < 0) return -errno;
    signals->wanted = signals->standing = *set;
    signals->own = *own;
    signals->handler = handler;
    signals->context = context;
    return 0;
}

void sv_loop_signals_free(struct srvlua_loop *loop) {
    struct sv_loop_signals *signals = loop->signals;
    if (!signals) return;
    ev_io_stop(loop->ev, &signals->watcher);
    close(signals->fd);
    pthread_sigmask(SIG_UNBLOCK, &signals->blocked, NULL);
    free(signals);
    loop->signals = NULL;
}

/* Reads a signal from now on, or no more unless it is read in any case. 0 or -errno. */
static int want(struct sv_loop_signals *signals, int signo, bool is_wanted) {
    sigset_t wanted = signals->wanted, one, before;
    if (sigismember(&signals->standing, signo)) return 0;
    if (is_wanted)
        sigaddset(&wanted, signo);
    else
        sigdelset(&wanted, signo);
    if (signalfd(signals->fd, &wanted, 0) < 0) return -errno;
    signals->wanted = wanted;
    sigemptyset(&one);
    sigaddset(&one, signo);
    if (is_wanted) {
        pthread_sigmask(SIG_BLOCK, &one, &before);
        if (!sigismember(&before, signo)) sigaddset(&signals->blocked, signo);
    } else if (sigismember(&signals->blocked, signo)) {
        pthread_sigmask(SIG_UNBLOCK, &one, NULL);
        sigdelset(&signals->blocked, signo);
    }
    return 0;
}

int srvlua_signal(srvlua_loop *loop, int signo, srvlua_signal_callback callback, void *user_data, struct srvlua_status *status) {
    sigset_t known;
    if (signo < 1 || signo >= NSIG || sigemptyset(&known) || sigaddset(&known, signo))
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is no signal %d", signo);
    if (signo == SIGKILL || signo == SIGSTOP)
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "nobody can handle signal %d (%s)", signo, strsignal(signo));
    if (loop->signals && sigismember(&loop->signals->own, signo))
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "signal %d (%s) is the server's own in this process", signo, strsignal(signo));
    if (!callback && (!loop->signals || !loop->signals->users[signo].callback))
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "signal %d (%s) has no handler", signo, strsignal(signo));
    struct sv_loop_signals *signals = signals_of(loop);
    int result = signals ? want(signals, signo, callback != NULL) : -errno;
    if (result) return sv_fail(status, -result, "signal %d cannot be read: %s", signo, strerror(-result));
    signals->users[signo] = (struct user_handler){callback, user_data};
    return 0;
}
