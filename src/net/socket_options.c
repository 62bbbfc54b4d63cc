/* socket_options.c: see socket_options.h. */
#include "net/socket_options.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netinet/tcp.h>
#include <stdlib.h>
#include <unistd.h>

/* Tries options one after the other and remembers the first failure. */
struct attempt {
    int fd;
    int result;
    const char **failed;
};

static void note_failure(struct attempt *attempt, const char *setting, int errno_value) {
    if (attempt->result == 0) {
        attempt->result = -errno_value;
        *attempt->failed = setting;
    }
}

static void set_option(struct attempt *attempt, int level, int option, int64_t value, const char *setting) {
    int number = value > INT_MAX ? INT_MAX : (int)value;
    if (setsockopt(attempt->fd, level, option, &number, sizeof number) < 0) {
        note_failure(attempt, setting, errno);
    }
}

static void set_send_buffer(struct attempt *attempt, const struct sv_socket_options *options) {
    if (options->send_buffer > 0) {
        set_option(attempt, SOL_SOCKET, SO_SNDBUF, options->send_buffer, "kernel_socket_send_buffer_size");
    }
}

static void set_recv_buffer(struct attempt *attempt, const struct sv_socket_options *options) {
    if (options->recv_buffer > 0) {
        set_option(attempt, SOL_SOCKET, SO_RCVBUF, options->recv_buffer, "kernel_socket_recv_buffer_size");
    }
}

/* Linux takes TCP_FASTOPEN on any listener, but serves it only if bit 1 of this sysctl is set; its default is 1. */
static bool fastopen_is_served(void) {
    char text[16] = "";
    int fd = open("/proc/sys/net/ipv4/tcp_fastopen", O_RDONLY | O_CLOEXEC);
    if (fd < 0) {
        return true; /* no /proc: cannot tell */
    }
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    return length <= 0 || (atoi(text) & 2);
}

static void set_fastopen(struct attempt *attempt, int queue) {
    set_option(attempt, IPPROTO_TCP, TCP_FASTOPEN, queue, "tcp_fastopen");
    if (!fastopen_is_served()) {
        note_failure(attempt, "tcp_fastopen", ENOPROTOOPT);
    }
}

static bool is_tcp(int type) { return sv_type_is_stream(type) && !sv_type_is_unix(type); }

int sv_socket_apply_listener(int fd, int type, const struct sv_socket_options *options, const char **failed) {
    struct attempt attempt = {.fd = fd, .failed = failed};
    *failed = NULL;
    set_recv_buffer(&attempt, options);
    if (sv_type_is_dgram(type)) {
        set_send_buffer(&attempt, options);
    }
    if (is_tcp(type) && options->defer_accept > 0) {
        set_option(&attempt, IPPROTO_TCP, TCP_DEFER_ACCEPT, options->defer_accept, "tcp_defer_accept");
    }
    if (is_tcp(type) && options->fastopen_queue > 0) {
        set_fastopen(&attempt, options->fastopen_queue);
    }
    return attempt.result;
}

static void apply_tcp(struct attempt *attempt, const struct sv_socket_options *options) {
    if (options->nodelay) {
        set_option(attempt, IPPROTO_TCP, TCP_NODELAY, 1, "open_tcp_nodelay");
    }
    if (options->keepalive) {
        set_option(attempt, SOL_SOCKET, SO_KEEPALIVE, 1, "open_tcp_keepalive");
        set_option(attempt, IPPROTO_TCP, TCP_KEEPIDLE, options->keepidle, "tcp_keepidle");
        set_option(attempt, IPPROTO_TCP, TCP_KEEPINTVL, options->keepinterval, "tcp_keepinterval");
        set_option(attempt, IPPROTO_TCP, TCP_KEEPCNT, options->keepcount, "tcp_keepcount");
    }
    if (options->user_timeout_ms > 0) {
        set_option(attempt, IPPROTO_TCP, TCP_USER_TIMEOUT, options->user_timeout_ms, "tcp_user_timeout");
    }
}

int sv_socket_apply_connection(int fd, int type, const struct sv_socket_options *options, const char **failed) {
    struct attempt attempt = {.fd = fd, .failed = failed};
    *failed = NULL;
    set_send_buffer(&attempt, options);
    set_recv_buffer(&attempt, options);
    if (is_tcp(type)) {
        apply_tcp(&attempt, options);
    }
    return attempt.result;
}

int sv_datagram_send(int fd, const struct sv_address *to, const void *data, size_t length) {
    ssize_t sent;
    do {
        sent = sendto(fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL, &to->u.base, to->length);
    } while (sent < 0 && errno == EINTR);
    return sent < 0 ? -errno : 0;
}
