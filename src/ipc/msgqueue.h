/* msgqueue.h: System V message queues: how tasks can wait outside of the server's memory (settings.md 3.6).
 *
 * A queue with a key belongs to the system: it outlives every process, and others may put messages into it. One without a key is
 * removed by who made it. A message has a type, which receivers choose by, and up to SV_QUEUE_TEXT_MAX bytes.
 *
 * Owner: the server, made before the first fork; the number is the same in all processes. Nothing here waits. */
#ifndef SV_IPC_MSGQUEUE_H
#define SV_IPC_MSGQUEUE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SV_QUEUE_TEXT_MAX 8192u /* what kernels take by default (kernel.msgmax) */

struct sv_msgqueue {
    int id;          /* -1: none */
    bool is_private;
    size_t most;     /* bytes of a message that this system takes, at most SV_QUEUE_TEXT_MAX */
    size_t capacity; /* bytes of all messages that may wait */
};

struct sv_queue_message { /* as the system calls have it */
    long type; /* > 0 */
    unsigned char text[SV_QUEUE_TEXT_MAX];
};

/* Whether the system has such queues. */
bool sv_msgqueue_is_there(void);
/* Joins the queue with this key, which is made (mode 0660) if there is none; key 0: a private one. 0 or -errno. */
int sv_msgqueue_open(struct sv_msgqueue *queue, int32_t key);
/* Gives it to the user and group that are to use it; (uid_t)-1, (gid_t)-1: as it is. 0 or -errno. */
int sv_msgqueue_set_owner(const struct sv_msgqueue *queue, uid_t user, gid_t group);
/* Removes it, with everything that is in it. */
void sv_msgqueue_remove(struct sv_msgqueue *queue);

/* 0; -EAGAIN: it is full; -EMSGSIZE; -EIDRM: it was removed; -errno. */
int sv_msgqueue_send(const struct sv_msgqueue *queue, const struct sv_queue_message *message, size_t length);
/* Takes the oldest message of a type, 0: of any. Bytes of its text; -EAGAIN: there is none; -EIDRM, -errno. A longer one is cut.
 * A process that is killed in this call either has taken nothing, or *message is complete. */
ssize_t sv_msgqueue_receive(const struct sv_msgqueue *queue, long type, struct sv_queue_message *message);
/* Messages that wait, and their bytes. 0 or -errno. */
int sv_msgqueue_stat(const struct sv_msgqueue *queue, uint64_t *messages, uint64_t *bytes);
/* Whether a queue with this key is there and has messages. */
bool sv_msgqueue_is_waiting(int32_t key);

#endif
