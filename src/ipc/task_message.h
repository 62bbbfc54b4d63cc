/* task_message.h: the form that a task has in a message queue, where processes that know nothing of each other may put and find it.
 *
 *   offset  bytes  (numbers as this machine has them: a queue does not leave it)
 *    0       4     "SVT1": form and its version; another form begins otherwise
 *    4       4     checksum of all that follows
 *    8       4     flags: enum srvlua_task_flag; TMPFILE: what follows is the name of a file in task_tmpdir
 *   12       4     event worker that gave the task, -1: none that wants a result
 *   16       8     id of the task in that worker
 *   24       8     server that gave it: pid and start of its first process (shm/owner.h)
 *   32       4     generation of the worker's life
 *   36       4     bytes that follow the head
 *   40       8     when it was given, nanoseconds since the epoch
 *   48       8     bytes of the task's data: those that follow, or in the file
 *   56             data, or the file's name
 *
 * Everything is checked before it is believed: anybody may have written it. Pure functions. */
#ifndef SV_IPC_TASK_MESSAGE_H
#define SV_IPC_TASK_MESSAGE_H

#include <stddef.h>
#include <stdint.h>

#define SV_TASK_HEAD_BYTES 56u
#define SV_TASK_GIVEN_AGAIN 0x100 /* among the flags: who ran it died, and it was put back (on_lost_request) */

struct sv_task_message {
    uint64_t id;
    uint32_t flags;
    int32_t worker;
    uint64_t server;
    uint32_t born;
    int64_t stamp_ns;
    uint64_t data_length;
    const void *bytes; /* data or name */
    size_t length;
};

static inline size_t sv_task_message_size(const struct sv_task_message *message) {
    return SV_TASK_HEAD_BYTES + message->length;
}
/* Writes sv_task_message_size() bytes. */
void sv_task_message_write(const struct sv_task_message *message, void *target);
/* 0, and *message points into `text`; or -EBADMSG: that is no task, or damaged. */
int sv_task_message_read(struct sv_task_message *message, const void *text, size_t size);
/* The size that the head at `text` tells, if that is at most `most`; else 0. */
size_t sv_task_message_told_size(const void *text, size_t most);

#endif
