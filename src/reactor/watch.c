/* watch.c: descriptors that the program watches (srvlua_watch_*). One door in, one out: srvlua_watch_free() stops a watch at once;
 * its memory goes then too, or, if its callback is running, after that. A loop that ends only lets go of its watches. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>

#include "base/errors.h"
#include "reactor/reactor_internal.h"

struct srvlua_watch {
    ev_io io;
    struct srvlua_loop *loop; /* NULL: it has ended */
    struct srvlua_watch *next, **link;
    srvlua_watch_callback callback;
    void *user_data;
    int events; /* wanted */
    int ready;  /* of those, while the callback runs */
    bool is_in_background, is_running, is_freed;
};

static int call_back(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)timer;
    struct srvlua_watch *watch = user_data;
    return watch->callback(loop, watch->io.fd, watch->ready, watch->user_data);
}

static void on_ready(struct ev_loop *ev, ev_io *io, int events) {
    (void)ev;
    struct srvlua_watch *watch = io->data;
    struct srvlua_loop *loop = watch->loop;
    watch->ready = ((events & (EV_READ | EV_ERROR) ? SRVLUA_READABLE : 0) | (events & (EV_WRITE | EV_ERROR) ? SRVLUA_WRITABLE : 0)) &
                   watch->events;
    watch->is_running = true;
    if (sv_loop_call(loop, call_back, 0, watch) && loop->hooks.failed) loop->hooks.failed(loop->hooks.context);
    watch->is_running = false;
    if (watch->is_freed) free(watch);
}

static void start(struct srvlua_watch *watch) {
    if (!watch->events) return;
    /* Each time, for libev to ask the kernel again: the number may belong to another file by now. */
    ev_io_set(&watch->io, watch->io.fd, (watch->events & SRVLUA_READABLE ? EV_READ : 0) | (watch->events & SRVLUA_WRITABLE ? EV_WRITE : 0));
    ev_io_start(watch->loop->ev, &watch->io);
}

srvlua_watch *srvlua_watch_new(srvlua_loop *loop, int fd, int events, srvlua_watch_callback callback, void *user_data,
                               struct srvlua_status *status) {
    if (fd < 0 || fcntl(fd, F_GETFD) < 0) {
        sv_fail(status, EBADF, "no open descriptor: %d", fd);
        return NULL;
    }
    struct srvlua_watch *watch = calloc(1, sizeof *watch);
    if (!watch) {
        sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory");
        return NULL;
    }
    watch->loop = loop;
    watch->callback = callback;
    watch->user_data = user_data;
    watch->events = events;
    ev_io_init(&watch->io, on_ready, fd, 0);
    watch->io.data = watch;
    watch->next = loop->watches;
    watch->link = &loop->watches;
    if (watch->next) watch->next->link = &watch->next;
    loop->watches = watch;
    loop->watch_count++;
    start(watch);
    return watch;
}

void srvlua_watch_set(srvlua_watch *watch, int events) {
    if (events == watch->events || !watch->loop) return;
    watch->events = events;
    ev_io_stop(watch->loop->ev, &watch->io);
    start(watch);
}

int srvlua_watch_get(const srvlua_watch *watch) {
    return watch->loop ? watch->events : -1;
}

void srvlua_watch_set_background(srvlua_watch *watch, int is_background) {
    bool is_in_background = is_background != 0;
    if (is_in_background == watch->is_in_background || !watch->loop) return;
    watch->is_in_background = is_in_background;
    watch->loop->watch_count += is_in_background ? (size_t)-1 : 1;
}

/* The only place where a watch leaves its loop. */
static void detach(struct srvlua_watch *watch) {
    struct srvlua_loop *loop = watch->loop;
    ev_io_stop(loop->ev, &watch->io);
    if (!watch->is_in_background) loop->watch_count--;
    *watch->link = watch->next;
    if (watch->next) watch->next->link = watch->link;
    watch->loop = NULL;
}

void srvlua_watch_free(srvlua_watch *watch) {
    if (!watch) return;
    if (watch->loop) detach(watch);
    if (watch->is_running)
        watch->is_freed = true;
    else
        free(watch);
}

void sv_watches_detach(struct srvlua_loop *loop) {
    while (loop->watches) detach(loop->watches);
}
