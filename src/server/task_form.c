/* task_form.c: tasks as bytes that programs put into message queues themselves; the form is ipc/task_message.h. */
#include <stdlib.h>

#include "base/clock.h"
#include "ipc/task_message.h"
#include "srvlua.h"

void *srvlua_task_pack(const void *data, size_t *length, int flags) {
    struct sv_task_message message = {.flags = (uint32_t)(flags & SRVLUA_TASK_SERIALIZE) | SRVLUA_TASK_NOREPLY,
                                      .worker = -1,
                                      .stamp_ns = sv_wall_ns(),
                                      .data_length = *length,
                                      .bytes = data,
                                      .length = *length};
    *length = sv_task_message_size(&message);
    void *packed = *length <= UINT32_MAX ? malloc(*length) : NULL;
    if (packed) sv_task_message_write(&message, packed);
    return packed;
}

int srvlua_task_unpack(const void *packed, size_t packed_length, const void **data, size_t *length, int *flags) {
    struct sv_task_message message;
    if (sv_task_message_read(&message, packed, packed_length) || message.flags & SRVLUA_TASK_TMPFILE)
        return -SRVLUA_ERROR_PACKAGE_MALFORMED_DATA;
    *data = message.bytes;
    *length = message.length;
    *flags = (int)message.flags;
    return 0;
}
