/* inherited.c: see inherited.h. */
#include "net/inherited.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#define FIRST_INHERITED 3
#define MOST_INHERITED 60000 /* more is no list of sockets */

/* A number of the environment; `otherwise` where there is none. */
static long read_variable(const char *name, long otherwise) {
    const char *text = getenv(name);
    char *end;
    if (!text || !*text) {
        return otherwise;
    }
    errno = 0;
    long number = strtol(text, &end, 10);
    return errno || *end ? otherwise : number;
}

int sv_inherited_count(int *first) {
    long start = read_variable("LISTEN_FDS_START", FIRST_INHERITED);
    long count = read_variable("LISTEN_FDS", 0);
    if (read_variable("LISTEN_PID", -1) != (long)getpid() || start < FIRST_INHERITED || count <= 0 ||
        count > MOST_INHERITED || start > INT_MAX - MOST_INHERITED) {
        return 0;
    }
    *first = (int)start;
    return (int)count;
}

static int type_of(int kind, sa_family_t family) {
    bool is_stream = kind == SOCK_STREAM;
    if (kind != SOCK_STREAM && kind != SOCK_DGRAM) {
        return -ESOCKTNOSUPPORT;
    }
    switch (family) {
    case AF_INET:
        return is_stream ? SRVLUA_SOCK_TCP : SRVLUA_SOCK_UDP;
    case AF_INET6:
        return is_stream ? SRVLUA_SOCK_TCP6 : SRVLUA_SOCK_UDP6;
    case AF_UNIX:
        return is_stream ? SRVLUA_SOCK_UNIX_STREAM : SRVLUA_SOCK_UNIX_DGRAM;
    default:
        return -ESOCKTNOSUPPORT;
    }
}

/* The type of a socket and its address; -errno. */
static int look_at(int fd, struct sv_address *address) {
    struct sv_address peer = {.length = sizeof peer.u};
    int kind;
    socklen_t size = sizeof kind;
    address->length = sizeof address->u;
    if (getsockopt(fd, SOL_SOCKET, SO_TYPE, &kind, &size) < 0 ||
        getsockname(fd, &address->u.base, &address->length) < 0) {
        return -errno;
    }
    if (getpeername(fd, &peer.u.base, &peer.length) == 0) {
        return -EISCONN;
    }
    return type_of(kind, address->u.base.sa_family);
}

int sv_inherited_adopt(int fd, struct sv_listener *listener) {
    memset(listener, 0, sizeof *listener);
    listener->fd = -1;
    listener->is_inherited = true;
    int type = look_at(fd, &listener->address);
    if (type < 0) {
        return type;
    }
    listener->type = type;
    /* The original stays open, so that another server of this process finds it; programs that we run do not get it. */
    fcntl(fd, F_SETFD, FD_CLOEXEC);
    listener->fd = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_INHERITED);
    int flags = listener->fd < 0 ? -1 : fcntl(listener->fd, F_GETFL);
    if (flags < 0 || fcntl(listener->fd, F_SETFL, flags | O_NONBLOCK) < 0) {
        int result = -errno;
        sv_listener_close(listener, false);
        return result;
    }
    return 0;
}
