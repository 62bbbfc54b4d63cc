/* messages.c: see messages.h. */
#include "process/messages.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "process/runtime.h"

struct sv_kept_message {
    struct sv_kept_message *next;
    uint32_t slot, flags;
    uint16_t type;
    uint64_t id;
    uint32_t endpoint; /* where its first part went, and */
    uint32_t born;     /* the life that got that; valid if sent > 0 */
    size_t sent;       /* bytes, of head and data */
    size_t length;     /* of both */
    unsigned char bytes[];
};

static uint32_t endpoint_of(const struct sv_runtime *rt, uint32_t slot) {
    return sv_endpoint_of_slot(&rt->ipc, slot, atomic_load_explicit(&rt->slots[slot].parity, memory_order_acquire));
}

static uint32_t born_at(const struct sv_runtime *rt, const struct sv_kept_message *message) {
    uint32_t parity = message->endpoint - sv_endpoint_of_slot(&rt->ipc, message->slot, 0);
    return atomic_load(&rt->slots[message->slot].born[parity]);
}

/* A process that went before it had all of a message never had any of it: its successor gets all. */
static bool is_gone(const struct sv_runtime *rt, const struct sv_kept_message *message) {
    uint32_t parity = message->endpoint - sv_endpoint_of_slot(&rt->ipc, message->slot, 0);
    if (born_at(rt, message) != message->born) return true;
    return message->endpoint != endpoint_of(rt, message->slot) && !atomic_load(&rt->slots[message->slot].pid[parity]);
}

static void address(const struct sv_runtime *rt, struct sv_kept_message *message) {
    message->endpoint = endpoint_of(rt, message->slot);
    message->born = born_at(rt, message);
}

/* Sends as much as fits; true when all of it was sent. */
static bool send_on(struct sv_runtime *rt, struct sv_kept_message *message) {
    if (message->sent && is_gone(rt, message)) message->sent = 0;
    if (!message->sent) address(rt, message);
    return sv_send_some(&rt->endpoint, message->endpoint, message->type, message->id, (int32_t)message->flags, NULL, 0, message->bytes,
                        message->length, &message->sent) == 0;
}

static size_t memory_of(size_t length) {
    return sizeof(struct sv_kept_message) + length;
}

static bool has_room(const struct sv_runtime *rt, size_t length) {
    return rt->messages.bytes + memory_of(length) <= (size_t)rt->config.message_stash;
}

static bool has_targets(struct sv_runtime *rt) {
    struct sv_message_queue *queue = &rt->messages;
    if (queue->targets) return true;
    queue->targets = calloc(rt->slot_count, sizeof *queue->targets);
    queue->target_count = queue->targets ? rt->slot_count : 0;
    return queue->targets != NULL;
}

static int keep(struct sv_runtime *rt, const struct sv_kept_message *model, const void *head, size_t head_length, const void *data,
                size_t length) {
    struct sv_message_target *target = &rt->messages.targets[model->slot];
    struct sv_kept_message *message = malloc(memory_of(head_length + length));
    if (!message) return -SRVLUA_ERROR_MALLOC_FAIL;
    *message = *model;
    if (head_length) memcpy(message->bytes, head, head_length);
    if (length) memcpy(message->bytes + head_length, data, length);
    if (target->last)
        target->last->next = message;
    else
        target->first = message;
    target->last = message;
    rt->messages.bytes += memory_of(message->length);
    rt->messages.count++;
    return 0;
}

static void drop_first(struct sv_message_queue *queue, struct sv_message_target *target) {
    struct sv_kept_message *message = target->first;
    target->first = message->next;
    if (!target->first) target->last = NULL;
    queue->bytes -= memory_of(message->length);
    queue->count--;
    free(message);
}

static void flush_target(struct sv_runtime *rt, struct sv_message_target *target) {
    while (target->first && send_on(rt, target->first)) drop_first(&rt->messages, target);
}

/* A message of which a part has gone is kept in any case: it cannot be taken back. */
int sv_messages_send(struct sv_runtime *rt, uint32_t slot, uint32_t flags, const void *data, size_t length) {
    struct sv_message_head head = {.source = rt->slot, .stamp_ns = sv_wall_ns()};
    struct sv_kept_message model = {.slot = slot, .flags = flags, .type = SV_RECORD_MESSAGE, .length = sizeof head + length};
    if (!has_targets(rt)) return -SRVLUA_ERROR_MALLOC_FAIL;
    struct sv_message_target *target = &rt->messages.targets[slot];
    flush_target(rt, target);
    bool must_wait = target->first != NULL;
    if (must_wait || model.length > sv_max_payload_to(&rt->endpoint, endpoint_of(rt, slot))) {
        if (!has_room(rt, model.length)) return -SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL;
    }
    if (!must_wait) {
        address(rt, &model);
        int result = sv_send_some(&rt->endpoint, model.endpoint, SV_RECORD_MESSAGE, 0, (int32_t)flags, &head, sizeof head, data, length,
                                  &model.sent);
        if (result == 0) return 0;
        if (result != -EAGAIN) return -SRVLUA_ERROR_MALLOC_FAIL;
        if (!model.sent && !has_room(rt, model.length)) return -SRVLUA_ERROR_SERVER_PIPE_BUFFER_FULL;
    }
    return keep(rt, &model, &head, sizeof head, data, length);
}

void sv_messages_forward(struct sv_runtime *rt, uint32_t slot, const struct sv_message *message) {
    struct sv_kept_message model = {
        .slot = slot, .flags = (uint32_t)message->value, .type = message->type, .id = message->id, .length = message->length};
    if (!has_targets(rt) || keep(rt, &model, NULL, 0, message->payload, message->length))
        sv_log_about(&rt->log, SRVLUA_LOG_ERROR, 0, SRVLUA_ERROR_MALLOC_FAIL, "out of memory: a %s for worker %u is lost",
                     message->type == SV_RECORD_FINISH ? "task's result" : "message", slot);
}

/* One target that has no room holds up none of the others. */
void sv_messages_flush(struct sv_runtime *rt) {
    for (uint32_t slot = 0; rt->messages.count && slot < rt->messages.target_count; slot++) flush_target(rt, &rt->messages.targets[slot]);
}

bool sv_messages_are_waiting(const struct sv_runtime *rt) {
    return rt->messages.count != 0;
}

void sv_messages_free(struct sv_message_queue *queue) {
    for (uint32_t slot = 0; slot < queue->target_count; slot++)
        while (queue->targets[slot].first) drop_first(queue, &queue->targets[slot]);
    free(queue->targets);
    *queue = (struct sv_message_queue){0};
}
