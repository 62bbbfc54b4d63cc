/* outbox.h: records that did not fit into their peer's ring yet, for processes that must not wait.
 *
 * What is sent goes into the ring at once if nothing for that peer is waiting; else, or as far as it does not fit, it is kept and
 * goes later, in the order in which it was sent to that peer. A peer rings the bell when there is room again; then
 * sv_outbox_flush() has its time.
 *
 * runs in: the process of the endpoint. Nothing here blocks. */
#ifndef SV_IPC_OUTBOX_H
#define SV_IPC_OUTBOX_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/endpoint.h"

struct sv_outgoing;

struct sv_outbox { /* all zero: empty */
    struct sv_outgoing *first, *last;
    size_t bytes; /* payloads that wait */
    bool is_bulk; /* constant: what is sent leaves room for others in the ring (sv_send_bulk) */
};

/* Sends a record of any length, or keeps it. 0, or -ENOMEM. */
int sv_outbox_send(struct sv_outbox *outbox, struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value,
                   const void *head, size_t head_length, const void *payload, size_t length);
/* Sends what there is room for now. */
void sv_outbox_flush(struct sv_outbox *outbox, struct sv_endpoint *endpoint);
/* Drops what waits for a peer of one id: the process that it was for is dead. */
void sv_outbox_drop(struct sv_outbox *outbox, uint32_t to, uint64_t id);
/* Drops what waits for a peer. */
void sv_outbox_drop_all(struct sv_outbox *outbox, uint32_t to);
/* Drops what waits for a peer, has this type and value, and was not begun: something newer takes its place. */
void sv_outbox_supersede(struct sv_outbox *outbox, uint32_t to, uint16_t type, int32_t value);
/* Drops everything. */
void sv_outbox_free(struct sv_outbox *outbox);

#endif
