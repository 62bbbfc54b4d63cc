/* outbox.c: see outbox.h. */
#include "ipc/outbox.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

struct sv_outgoing {
    struct sv_outgoing *next;
    uint32_t to;
    uint16_t type;
    int32_t value;
    uint64_t id;
    size_t at; /* so much of it is in the ring */
    size_t length;
    unsigned char payload[];
};

static bool is_waiting_for(const struct sv_outbox *outbox, uint32_t to) {
    for (const struct sv_outgoing *outgoing = outbox->first; outgoing; outgoing = outgoing->next)
        if (outgoing->to == to) return true;
    return false;
}

static void append(struct sv_outbox *outbox, struct sv_outgoing *outgoing) {
    outgoing->next = NULL;
    if (outbox->last)
        outbox->last->next = outgoing;
    else
        outbox->first = outgoing;
    outbox->last = outgoing;
    outbox->bytes += outgoing->length;
}

static int send_some(const struct sv_outbox *outbox, struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value,
                     const void *head, size_t head_length, const void *payload, size_t length, size_t *at) {
    return (outbox->is_bulk ? sv_send_bulk : sv_send_some)(endpoint, to, type, id, value, head, head_length, payload, length, at);
}

int sv_outbox_send(struct sv_outbox *outbox, struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value,
                   const void *head, size_t head_length, const void *payload, size_t length) {
    size_t at = 0;
    int result = -EAGAIN;
    if (!is_waiting_for(outbox, to))
        result = send_some(outbox, endpoint, to, type, id, value, head, head_length, payload, length, &at);
    if (result != -EAGAIN) return result;
    struct sv_outgoing *outgoing = malloc(sizeof *outgoing + head_length + length);
    if (!outgoing) return -ENOMEM;
    *outgoing = (struct sv_outgoing){.to = to, .type = type, .value = value, .id = id, .at = at, .length = head_length + length};
    if (head_length) memcpy(outgoing->payload, head, head_length);
    if (length) memcpy(outgoing->payload + head_length, payload, length);
    append(outbox, outgoing);
    return 0;
}

static int send_more(const struct sv_outbox *outbox, struct sv_endpoint *endpoint, struct sv_outgoing *outgoing) {
    return send_some(outbox, endpoint, outgoing->to, outgoing->type, outgoing->id, outgoing->value, NULL, 0, outgoing->payload,
                     outgoing->length, &outgoing->at);
}

void sv_outbox_flush(struct sv_outbox *outbox, struct sv_endpoint *endpoint) {
    struct sv_outbox left = {.is_bulk = outbox->is_bulk};
    struct sv_outgoing *next;
    for (struct sv_outgoing *outgoing = outbox->first; outgoing; outgoing = next) {
        next = outgoing->next;
        if (is_waiting_for(&left, outgoing->to) || send_more(outbox, endpoint, outgoing))
            append(&left, outgoing);
        else
            free(outgoing);
    }
    *outbox = left;
}

/* Drops those that are as `matches` says beside `wanted`. */
static void drop(struct sv_outbox *outbox, bool (*matches)(const struct sv_outgoing *outgoing, const struct sv_outgoing *wanted),
                 const struct sv_outgoing *wanted) {
    struct sv_outbox left = {.is_bulk = outbox->is_bulk};
    struct sv_outgoing *next;
    for (struct sv_outgoing *outgoing = outbox->first; outgoing; outgoing = next) {
        next = outgoing->next;
        if (matches(outgoing, wanted))
            free(outgoing);
        else
            append(&left, outgoing);
    }
    *outbox = left;
}

static bool goes_there(const struct sv_outgoing *outgoing, const struct sv_outgoing *wanted) {
    return outgoing->to == wanted->to;
}

static bool has_id(const struct sv_outgoing *outgoing, const struct sv_outgoing *wanted) {
    return outgoing->to == wanted->to && outgoing->id == wanted->id;
}

/* One that has begun goes on: its receiver waits for the rest. */
static bool is_superseded(const struct sv_outgoing *outgoing, const struct sv_outgoing *wanted) {
    return outgoing->to == wanted->to && outgoing->type == wanted->type && outgoing->value == wanted->value && outgoing->at == 0;
}

void sv_outbox_drop(struct sv_outbox *outbox, uint32_t to, uint64_t id) {
    drop(outbox, has_id, &(struct sv_outgoing){.to = to, .id = id});
}

void sv_outbox_drop_all(struct sv_outbox *outbox, uint32_t to) {
    drop(outbox, goes_there, &(struct sv_outgoing){.to = to});
}

void sv_outbox_supersede(struct sv_outbox *outbox, uint32_t to, uint16_t type, int32_t value) {
    drop(outbox, is_superseded, &(struct sv_outgoing){.to = to, .type = type, .value = value});
}

void sv_outbox_free(struct sv_outbox *outbox) {
    struct sv_outgoing *next;
    for (struct sv_outgoing *outgoing = outbox->first; outgoing; outgoing = next) {
        next = outgoing->next;
        free(outgoing);
    }
    *outbox = (struct sv_outbox){.is_bulk = outbox->is_bulk};
}
