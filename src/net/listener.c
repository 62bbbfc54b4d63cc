/* listener.c: see listener.h. */
#include "net/listener.h"

#include <errno.h>
#include <netinet/in.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errors.h"

/* "bind" and where, as people write it: 1.2.3.4:80, [::1]:80, /path. */
static int fail_at(struct srvlua_status *status, int errno_value, const char *verb, const struct sv_address *address) {
    char text[SV_ADDRESS_TEXT_SIZE];
    char what[SV_ADDRESS_TEXT_SIZE + 32];
    int port;
    sv_address_text(address, text, &port);
    if (port < 0) {
        snprintf(what, sizeof what, "%s %s", verb, text);
    } else {
        bool is_inet6 = address->u.base.sa_family == AF_INET6;
        snprintf(what, sizeof what, is_inet6 ? "%s [%s]:%d" : "%s %s:%d", verb, text, port);
    }
    return sv_fail_errno(status, errno_value, what);
}

static bool is_same_file(const struct stat *file, dev_t dev, ino_t ino) {
    return S_ISSOCK(file->st_mode) && file->st_dev == dev && file->st_ino == ino;
}

/* Is any socket bound to this file? A datagram socket may only be connected to a datagram socket: for one that is bound
 * to a live stream socket the kernel answers EPROTOTYPE, listening or not, and its owner has no connection to accept.
 * Only ECONNREFUSED says that nobody is there; when we may not ask (EACCES), somebody may be. */
static bool is_stale(const struct sv_address *address) {
    int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (fd < 0) {
        return false;
    }
    bool is_refused = connect(fd, &address->u.base, address->length) < 0 && errno == ECONNREFUSED;
    close(fd);
    return is_refused;
}

/* Removes the socket file that a killed server left behind. False: there is none, or it is not ours to remove. Two
 * servers that find the same stale file in the same instant could still remove each other's: the second look at the
 * file leaves microseconds for that. */
static bool remove_stale_file(const struct sv_address *address) {
    const char *path = address->u.un.sun_path;
    struct stat before;
    struct stat after;
    if (lstat(path, &before) < 0 || !S_ISSOCK(before.st_mode) || !is_stale(address)) {
        return false;
    }
    return lstat(path, &after) == 0 && is_same_file(&after, before.st_dev, before.st_ino) && unlink(path) == 0;
}

/* Remembers the file that bind made. */
static int remember_file(struct sv_listener *listener) {
    struct stat file;
    listener->file = realpath(listener->address.u.un.sun_path, NULL);
    if (!listener->file || lstat(listener->file, &file) < 0) {
        return -errno;
    }
    listener->dev = file.st_dev;
    listener->ino = file.st_ino;
    return 0;
}

static int bind_unix(struct sv_listener *listener) {
    const struct sv_address *address = &listener->address;
    if (bind(listener->fd, &address->u.base, address->length) < 0) {
        if (errno != EADDRINUSE) {
            return -errno;
        }
        if (!remove_stale_file(address)) {
            return -EADDRINUSE;
        }
        if (bind(listener->fd, &address->u.base, address->length) < 0) {
            return -errno;
        }
    }
    return remember_file(listener);
}

static int set_flag(int fd, int level, int option, int value) {
    return setsockopt(fd, level, option, &value, sizeof value) < 0 ? -errno : 0;
}

static int bind_inet(struct sv_listener *listener, bool reuse_port) {
    struct sv_address *address = &listener->address;
    int result = 0;
    if (sv_type_is_stream(listener->type)) {
        result = set_flag(listener->fd, SOL_SOCKET, SO_REUSEADDR, 1);
    }
    if (result == 0 && reuse_port) {
        result = set_flag(listener->fd, SOL_SOCKET, SO_REUSEPORT, 1);
    }
    if (result == 0 && sv_type_is_inet6(listener->type)) {
        result = set_flag(listener->fd, IPPROTO_IPV6, IPV6_V6ONLY, 0); /* whatever net.ipv6.bindv6only says */
    }
    if (result != 0) {
        return result;
    }
    if (bind(listener->fd, &address->u.base, address->length) < 0) {
        return -errno;
    }
    socklen_t length = sizeof address->u;
    if (getsockname(listener->fd, &address->u.base, &length) < 0) {
        return -errno;
    }
    address->length = length;
    return 0;
}

/* A listener that is not open, so that sv_listener_close() may follow whatever happens. */
static void reset(struct sv_listener *listener, int type) {
    memset(listener, 0, sizeof *listener);
    listener->fd = -1;
    listener->type = type & ~SRVLUA_SSL;
}

int sv_listener_open_at(const struct sv_address *address, int type, bool reuse_port, struct sv_listener *listener,
                        struct srvlua_status *status) {
    struct sv_address wanted = *address; /* it may be listener->address */
    reset(listener, type);
    listener->address = wanted;
    int kind = sv_type_is_stream(type) ? SOCK_STREAM : SOCK_DGRAM;
    listener->fd = socket(wanted.u.base.sa_family, kind | SOCK_CLOEXEC | SOCK_NONBLOCK, 0);
    if (listener->fd < 0) {
        return sv_fail_errno(status, errno, "socket");
    }
    int result = sv_type_is_unix(type) ? bind_unix(listener) : bind_inet(listener, reuse_port);
    if (result < 0) {
        sv_listener_close(listener, true);
        return fail_at(status, -result, "bind", &wanted);
    }
    return 0;
}

int sv_listener_open(const char *host, int port, int type, bool reuse_port, struct sv_listener *listener,
                     struct srvlua_status *status) {
    struct sv_address address;
    reset(listener, type);
    int result = sv_address_resolve(host, port, type, &address, status);
    return result < 0 ? result : sv_listener_open_at(&address, type, reuse_port, listener, status);
}

static bool is_listening(int fd) {
    int is_on = 0;
    socklen_t size = sizeof is_on;
    return getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &is_on, &size) == 0 && is_on;
}

int sv_listener_listen(const struct sv_listener *listener, int backlog, struct srvlua_status *status) {
    if (listener->is_inherited && is_listening(listener->fd)) {
        return 0; /* the length of the queue is whose socket it is to say */
    }
    if (sv_type_is_stream(listener->type) && listen(listener->fd, backlog) < 0) {
        return fail_at(status, errno, "listen on", &listener->address);
    }
    return 0;
}

bool sv_listener_is_same(const struct sv_listener *one, const struct sv_listener *other) {
    return !sv_type_is_unix(one->type) && sv_type_is_stream(one->type) == sv_type_is_stream(other->type) &&
           sv_address_equal(&one->address, &other->address);
}

void sv_listener_close(struct sv_listener *listener, bool remove_file) {
    struct stat file;
    /* Before the descriptor is closed: the open socket holds the inode, so that its number cannot be another file's. */
    if (remove_file && listener->file && lstat(listener->file, &file) == 0 &&
        is_same_file(&file, listener->dev, listener->ino)) {
        unlink(listener->file); /* a failure leaves a stale file, which the next bind replaces */
    }
    free(listener->file);
    listener->file = NULL;
    if (listener->fd >= 0) {
        close(listener->fd);
        listener->fd = -1;
    }
}
