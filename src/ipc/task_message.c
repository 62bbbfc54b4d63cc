/* task_message.c: see task_message.h. */
#include "ipc/task_message.h"

#include <errno.h>
#include <string.h>

#include "srvlua.h"

#define FLAGS_KNOWN (2 * SRVLUA_TASK_NOREPLY - 1 + SV_TASK_GIVEN_AGAIN)

struct head {
    char form[4];
    uint32_t checksum;
    uint32_t flags;
    int32_t worker;
    uint64_t id;
    uint64_t server;
    uint32_t born;
    uint32_t length;
    int64_t stamp_ns;
    uint64_t data_length;
};
_Static_assert(sizeof(struct head) == SV_TASK_HEAD_BYTES, "the form has no gaps");

static const char form[4] = "SVT1";

/* Against damage, not against malice: who may write to the queue may give tasks. */
static uint64_t mix(uint64_t sum, const unsigned char *bytes, size_t length) {
    for (size_t at = 0; at < length; at += 8) {
        uint64_t word = 0;
        memcpy(&word, bytes + at, length - at < 8 ? length - at : 8);
        sum = (sum ^ word) * UINT64_C(0x9e3779b97f4a7c15);
        sum ^= sum >> 29;
    }
    return sum;
}

static uint32_t checksum(const struct head *head, const void *bytes, size_t length) {
    size_t begin = offsetof(struct head, flags);
    uint64_t sum = mix(length + 1, (const unsigned char *)head + begin, sizeof *head - begin);
    sum = mix(sum, bytes, length);
    return (uint32_t)(sum ^ sum >> 32);
}

void sv_task_message_write(const struct sv_task_message *message, void *target) {
    struct head head = {.flags = message->flags,
                        .worker = message->worker,
                        .id = message->id,
                        .server = message->server,
                        .born = message->born,
                        .length = (uint32_t)message->length,
                        .stamp_ns = message->stamp_ns,
                        .data_length = message->data_length};
    memcpy(head.form, form, sizeof form);
    head.checksum = checksum(&head, message->bytes, message->length);
    memcpy(target, &head, sizeof head);
    if (message->length) memcpy((unsigned char *)target + sizeof head, message->bytes, message->length);
}

int sv_task_message_read(struct sv_task_message *message, const void *text, size_t size) {
    struct head head;
    if (size < sizeof head) return -EBADMSG;
    memcpy(&head, text, sizeof head);
    const unsigned char *bytes = (const unsigned char *)text + sizeof head;
    if (memcmp(head.form, form, sizeof form) != 0 || head.length != size - sizeof head) return -EBADMSG;
    if (head.checksum != checksum(&head, bytes, head.length)) return -EBADMSG;
    if (head.flags & ~(uint32_t)FLAGS_KNOWN || head.worker < -1) return -EBADMSG;
    if (!(head.flags & SRVLUA_TASK_TMPFILE) && head.data_length != head.length) return -EBADMSG;
    *message = (struct sv_task_message){.id = head.id,
                                        .flags = head.flags,
                                        .worker = head.worker,
                                        .server = head.server,
                                        .born = head.born,
                                        .stamp_ns = head.stamp_ns,
                                        .data_length = head.data_length,
                                        .bytes = bytes,
                                        .length = head.length};
    return 0;
}

size_t sv_task_message_told_size(const void *text, size_t most) {
    struct head head;
    memcpy(&head, text, sizeof head);
    return head.length <= most - sizeof head ? sizeof head + head.length : 0;
}
