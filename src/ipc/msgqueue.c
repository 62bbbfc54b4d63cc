/* msgqueue.c: see msgqueue.h. */
#include "ipc/msgqueue.h"

#include <errno.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#define MODE 0660

/* The least of what the system, the queue and the callers have room for. */
static int find_most(struct sv_msgqueue *queue) {
    struct msginfo info;
    struct msqid_ds state;
    if (msgctl(0, IPC_INFO, (struct msqid_ds *)&info) < 0) return -errno;
    if (msgctl(queue->id, IPC_STAT, &state)) return -errno;
    queue->most = SV_QUEUE_TEXT_MAX;
    queue->capacity = state.msg_qbytes;
    if ((size_t)info.msgmax < queue->most) queue->most = (size_t)info.msgmax;
    if (state.msg_qbytes < queue->most) queue->most = state.msg_qbytes;
    return 0;
}

bool sv_msgqueue_is_there(void) {
    struct msginfo info;
    return msgctl(0, IPC_INFO, (struct msqid_ds *)&info) >= 0;
}

int sv_msgqueue_open(struct sv_msgqueue *queue, int32_t key) {
    *queue = (struct sv_msgqueue){.is_private = key == 0};
    queue->id = msgget(key ? key : IPC_PRIVATE, IPC_CREAT | MODE);
    if (queue->id < 0) return -errno;
    int result = find_most(queue);
    if (result == 0) return 0;
    if (queue->is_private) sv_msgqueue_remove(queue);
    queue->id = -1;
    return result;
}

int sv_msgqueue_set_owner(const struct sv_msgqueue *queue, uid_t user, gid_t group) {
    struct msqid_ds state;
    if (msgctl(queue->id, IPC_STAT, &state)) return -errno;
    if (user != (uid_t)-1) state.msg_perm.uid = user;
    if (group != (gid_t)-1) state.msg_perm.gid = group;
    return msgctl(queue->id, IPC_SET, &state) ? -errno : 0;
}

void sv_msgqueue_remove(struct sv_msgqueue *queue) {
    if (queue->id >= 0) msgctl(queue->id, IPC_RMID, NULL);
    queue->id = -1;
}

int sv_msgqueue_send(const struct sv_msgqueue *queue, const struct sv_queue_message *message, size_t length) {
    if (length > queue->most) return -EMSGSIZE;
    while (msgsnd(queue->id, message, length, IPC_NOWAIT))
        if (errno != EINTR) return -errno;
    return 0;
}

ssize_t sv_msgqueue_receive(const struct sv_msgqueue *queue, long type, struct sv_queue_message *message) {
    ssize_t length;
    while ((length = msgrcv(queue->id, message, sizeof message->text, type, IPC_NOWAIT | MSG_NOERROR)) < 0)
        if (errno != EINTR) return errno == ENOMSG ? -EAGAIN : -errno;
    return length;
}

int sv_msgqueue_stat(const struct sv_msgqueue *queue, uint64_t *messages, uint64_t *bytes) {
    struct msqid_ds state;
    if (msgctl(queue->id, IPC_STAT, &state)) return -errno;
    *messages = state.msg_qnum;
    *bytes = state.__msg_cbytes;
    return 0;
}

bool sv_msgqueue_is_waiting(int32_t key) {
    struct sv_msgqueue queue = {.id = msgget(key, 0)};
    uint64_t messages = 0, bytes;
    return queue.id >= 0 && sv_msgqueue_stat(&queue, &messages, &bytes) == 0 && messages > 0;
}
