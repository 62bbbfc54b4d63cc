/* notify.c: see notify.h. */
#include "process/notify.h"

#include <errno.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"

/* -------------------------------------------------------------------------------------------------- the environment */

static const char *const variables[SV_NOTIFY_VARIABLES] = {
    "NOTIFY_SOCKET", "WATCHDOG_USEC", "WATCHDOG_PID", "LISTEN_PID", "LISTEN_FDS", "LISTEN_FDNAMES", "LISTEN_FDS_START"};

static void hide_variables(struct sv_notify *notify) {
    for (size_t i = 0; i < SV_NOTIFY_VARIABLES; i++) {
        const char *value = getenv(variables[i]);
        notify->hidden[i] = value ? strdup(value) : NULL;
        if (value) unsetenv(variables[i]);
    }
}

static void show_variables(struct sv_notify *notify) {
    for (size_t i = 0; i < SV_NOTIFY_VARIABLES; i++) {
        if (notify->hidden[i]) setenv(variables[i], notify->hidden[i], 1);
        free(notify->hidden[i]);
        notify->hidden[i] = NULL;
    }
}

/* ----------------------------------------------------------------------------------------------------------- sending */

static void warn(struct sv_notify *notify, const char *what, int error) {
    if (!notify->has_failed) sv_log_about(notify->log, SRVLUA_LOG_WARNING, 0, error, "NOTIFY_SOCKET: %s: %s", what, strerror(error));
    notify->has_failed = true;
}

/* The socket is connected so that it is still found inside of a chroot; a receiver that was started anew is looked up again. */
static void send_text(struct sv_notify *notify, const char *text, int flags) {
    if (notify->fd < 0) return;
    size_t length = strlen(text);
    if (send(notify->fd, text, length, MSG_NOSIGNAL | flags) >= 0) return;
    if (errno == EAGAIN && flags & MSG_DONTWAIT) return; /* the next one will do */
    if (connect(notify->fd, (const struct sockaddr *)&notify->address, notify->length) == 0 &&
        send(notify->fd, text, length, MSG_NOSIGNAL | flags) >= 0)
        return;
    warn(notify, "a message could not be sent", errno);
}

/* A path, or (with @) a name that is in no file system. 0 or -errno. */
static int read_address(struct sv_notify *notify, const char *name) {
    size_t length = strlen(name);
    if (name[0] != '/' && name[0] != '@') return -EAFNOSUPPORT;
    if (length >= sizeof notify->address.sun_path) return -ENAMETOOLONG;
    notify->address = (struct sockaddr_un){.sun_family = AF_UNIX};
    memcpy(notify->address.sun_path, name, length);
    if (name[0] == '@') notify->address.sun_path[0] = '\0';
    notify->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + (name[0] == '/'));
    return 0;
}

static int open_socket(struct sv_notify *notify, const char *name) {
    struct timeval patience = {.tv_sec = 1};
    int result = read_address(notify, name);
    if (result) return result;
    notify->fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);
    if (notify->fd < 0) return -errno;
    setsockopt(notify->fd, SOL_SOCKET, SO_SNDTIMEO, &patience, sizeof patience); /* without it a stuck receiver would be waited for */
    return connect(notify->fd, (const struct sockaddr *)&notify->address, notify->length) ? -errno : 0;
}

/* WATCHDOG_PID names the process that shall be watched, if it is there. */
static int64_t read_watchdog_ms(const char *usec, const char *pid) {
    if (!usec || (pid && *pid && strtol(pid, NULL, 10) != getpid())) return 0;
    long long interval = strtoll(usec, NULL, 10);
    if (interval <= 0) return 0;
    return interval / 2000 > 0 ? interval / 2000 : 1;
}

void sv_notify_open(struct sv_notify *notify, const struct sv_log *log) {
    *notify = (struct sv_notify){.fd = -1, .log = log};
    hide_variables(notify);
    const char *name = notify->hidden[0];
    if (!name || !*name) return;
    int result = open_socket(notify, name);
    if (result) warn(notify, name, -result);
    notify->watchdog_ms = read_watchdog_ms(notify->hidden[1], notify->hidden[2]);
}

void sv_notify_leave(struct sv_notify *notify) {
    if (notify->fd >= 0) close(notify->fd);
    notify->fd = -1;
}

void sv_notify_close(struct sv_notify *notify) {
    sv_notify_leave(notify);
    show_variables(notify);
}

/* ---------------------------------------------------------------------------------------------------------- messages */

static int feed_watchdog(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    send_text(context, "WATCHDOG=1", MSG_DONTWAIT);
    return 0;
}

void sv_notify_watch(struct sv_notify *notify, struct srvlua_loop *loop) {
    if (notify->fd < 0 || !notify->watchdog_ms) return;
    if (sv_timer_add_internal(loop, notify->watchdog_ms, true, feed_watchdog, notify) < 0) warn(notify, "watchdog", ENOMEM);
}

void sv_notify_ready(struct sv_notify *notify, bool has_moved) {
    char text[48] = "READY=1";
    if (has_moved) snprintf(text, sizeof text, "READY=1\nMAINPID=%d", (int)getpid());
    send_text(notify, text, 0);
}

void sv_notify_reloading(struct sv_notify *notify) {
    char text[64];
    snprintf(text, sizeof text, "RELOADING=1\nMONOTONIC_USEC=%lld", (long long)(sv_now_ns() / 1000));
    send_text(notify, text, 0);
}

void sv_notify_stopping(struct sv_notify *notify) {
    send_text(notify, "STOPPING=1", 0);
}
