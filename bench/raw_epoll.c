/* raw_epoll.c [port]: the yardstick of `make bench`: a plain echo server with epoll, in one thread.
 *
 * Level triggered; a readable socket is read once and what was read is written back at once: one system call per turn of
 * the loop and two per message, the least that a server can do. Prints where it listens; ends by a signal. */
#include <errno.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#define EVENTS_MAX 512
#define READ_MAX 65536
#define PATIENCE_MS 5000

static void die(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

static int listen_on(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    if (fd < 0)
        die("socket");
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &one, sizeof one);
    if (bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&address, &length))
        die("listen");
    printf("raw_epoll on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

static void watch(int epoll, int operation, int fd, uint32_t events) {
    struct epoll_event event = {.events = events, .data.fd = fd};

    if (epoll_ctl(epoll, operation, fd, &event))
        die("epoll_ctl");
}

static void accept_all(int epoll, int listener) {
    int one = 1, fd;

    while ((fd = accept4(listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        watch(epoll, EPOLL_CTL_ADD, fd, EPOLLIN);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept4");
}

/* Waits for room, which large messages need: the client (load.c) always reads. One that does not is cut off. */
static void echo(int fd) {
    static char data[READ_MAX];
    ssize_t got = recv(fd, data, sizeof data, 0), sent = 0;

    if (got < 0 && (errno == EAGAIN || errno == EINTR))
        return;
    while (got > 0 && sent < got) {
        struct pollfd room = {.fd = fd, .events = POLLOUT};
        ssize_t count = send(fd, data + sent, (size_t)(got - sent), MSG_NOSIGNAL);
        if (count > 0)
            sent += count;
        else if (errno != EAGAIN || poll(&room, 1, PATIENCE_MS) != 1)
            break;
    }
    if (got <= 0 || sent < got)
        close(fd);
}

int main(int argc, char **argv) {
    int listener = listen_on(argc > 1 ? atoi(argv[1]) : 0);
    int epoll = epoll_create1(EPOLL_CLOEXEC);

    if (epoll < 0)
        die("epoll_create1");
    watch(epoll, EPOLL_CTL_ADD, listener, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(epoll, events, EVENTS_MAX, -1);

        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.fd == listener)
                accept_all(epoll, listener);
            else
                echo(events[i].data.fd);
        }
    }
}
