/* fd_channel.c: open descriptors on their way to another process (SCM_RIGHTS). The record in the ring keeps their place in the
 * order and names the tag; the descriptor always lies in the channel before that record is published. */
#include <errno.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "ipc/endpoint.h"

#define STRAY_MAX 256 /* descriptors without a record yet; older ones were sent by somebody who died before its record */

uint64_t sv_fd_send(struct sv_endpoint *endpoint, uint32_t to, int fd, int timeout_ms, int *error) {
    uint64_t tag = (uint64_t)getpid() << 32 | (endpoint->next_tag++ & UINT32_MAX);
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control = {0};
    struct iovec part = {&tag, sizeof tag};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    header->cmsg_level = SOL_SOCKET;
    header->cmsg_type = SCM_RIGHTS;
    header->cmsg_len = CMSG_LEN(sizeof(int));
    memcpy(CMSG_DATA(header), &fd, sizeof fd);
    int channel = endpoint->ipc->fd_channels[to][1];
    for (;;) {
        if (sendmsg(channel, &message, MSG_NOSIGNAL) >= 0) return tag;
        if (errno == EINTR) continue;
        if (errno != EAGAIN && errno != ETOOMANYREFS) break;
        sv_kick_all(endpoint); /* the peer empties the channel when it sees the records of those before */
        struct pollfd room = {.fd = channel, .events = POLLOUT};
        if (timeout_ms <= 0) break;
        poll(&room, errno == EAGAIN ? 1 : 0, 10);
        timeout_ms -= 10;
    }
    *error = errno;
    return 0;
}

static int receive_one(int channel, uint64_t *tag) {
    union {
        char space[CMSG_SPACE(sizeof(int))];
        struct cmsghdr align;
    } control;
    struct iovec part = {tag, sizeof *tag};
    struct msghdr message = {.msg_iov = &part, .msg_iovlen = 1, .msg_control = control.space, .msg_controllen = sizeof control.space};
    ssize_t got;
    *tag = 0;
    do got = recvmsg(channel, &message, MSG_CMSG_CLOEXEC);
    while (got < 0 && errno == EINTR);
    if (got < (ssize_t)sizeof *tag) return got < 0 ? -2 : -1;
    struct cmsghdr *header = CMSG_FIRSTHDR(&message);
    if (!header || header->cmsg_level != SOL_SOCKET || header->cmsg_type != SCM_RIGHTS) return -1; /* no room for the descriptor */
    int fd;
    memcpy(&fd, CMSG_DATA(header), sizeof fd);
    return fd;
}

static void keep_stray(struct sv_endpoint *endpoint, int fd, uint64_t tag) {
    if (endpoint->stray_count == STRAY_MAX) {
        close(endpoint->strays[0].fd);
        memmove(endpoint->strays, endpoint->strays + 1, --endpoint->stray_count * sizeof *endpoint->strays);
    }
    if (!endpoint->strays) endpoint->strays = malloc(STRAY_MAX * sizeof *endpoint->strays);
    if (!endpoint->strays) {
        close(fd);
        return;
    }
    endpoint->strays[endpoint->stray_count].fd = fd;
    endpoint->strays[endpoint->stray_count++].tag = tag;
}

int sv_fd_take(struct sv_endpoint *endpoint, uint64_t tag) {
    for (size_t i = 0; i < endpoint->stray_count; i++) {
        if (endpoint->strays[i].tag != tag) continue;
        int fd = endpoint->strays[i].fd;
        memmove(endpoint->strays + i, endpoint->strays + i + 1, (--endpoint->stray_count - i) * sizeof *endpoint->strays);
        return fd;
    }
    for (;;) {
        uint64_t found;
        int fd = receive_one(endpoint->ipc->fd_channels[endpoint->id][0], &found);
        if (fd == -2) return -1;
        if (fd < 0) {
            if (found == tag) return -1;
            continue;
        }
        if (found == tag) return fd;
        keep_stray(endpoint, fd, found);
    }
}
