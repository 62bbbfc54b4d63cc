/* waiting.c: see waiting.h. */
#include "lua/waiting.h"

#include <errno.h>
#include <math.h>
#include <poll.h>
#include <time.h>

#include "lua/coroutine.h"

#define STEP_MS 86400000.0 /* at most at a time: an int of milliseconds is 24 days */

double sv_lua_now(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* Milliseconds until `end` (negative: never), for one call. */
static int milliseconds_until(double end) {
    double left = end < 0 ? STEP_MS : ceil((end - sv_lua_now()) * 1000);

    return left < 0 ? 0 : (int)(left < STEP_MS ? left : STEP_MS);
}

static int poll_until(int fd, int events, double end) {
    struct pollfd poller = {.fd = fd,
                            .events = (short)((events & SRVLUA_READABLE ? POLLIN : 0) |
                                              (events & SRVLUA_WRITABLE ? POLLOUT : 0))};

    for (;;) {
        int result = poll(&poller, 1, milliseconds_until(end));
        if (result > 0)
            return 1;
        if (result < 0 && errno != EINTR)
            return -errno;
        if (end >= 0 && sv_lua_now() >= end)
            return 0;
    }
}

static int note(srvlua_loop *loop, int fd, int events, void *is_ready) {
    (void)loop;
    (void)fd;
    (void)events;
    *(bool *)is_ready = true;
    return 0;
}

static int turn_until(struct sv_lua *lua, int fd, int events, double end) {
    srvlua_loop *loop = sv_lua_loop(lua);
    struct srvlua_status status;
    srvlua_watch *watch = NULL;
    bool is_ready = false;

    if (fd >= 0) {
        watch = srvlua_watch_new(loop, fd, events, note, &is_ready, &status);
        if (!watch)
            return -status.code;
    }
    lua->may_turn = false; /* what runs in it waits by itself */
    do
        srvlua_loop_turn(loop, milliseconds_until(end));
    while (!is_ready && (end < 0 || sv_lua_now() < end));
    lua->may_turn = true;
    srvlua_watch_free(watch);
    return is_ready;
}

int sv_lua_block(struct sv_lua *lua, int fd, int events, double seconds) {
    double end = seconds < 0 ? -1 : sv_lua_now() + seconds;

    return lua->may_turn ? turn_until(lua, fd, events, end) : poll_until(fd, events, end);
}
