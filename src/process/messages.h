/* messages.h: messages to workers that wait in their sender until there is room (settings.md: message_stash_size).
 *
 * A process with a loop never waits to send one: what does not fit into the ring is kept, in order per target, and sent on as room
 * comes; beyond message_stash_size it is refused. runs in: any process of the server. */
#ifndef SV_PROCESS_MESSAGES_H
#define SV_PROCESS_MESSAGES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sv_message;
struct sv_runtime;
struct sv_kept_message;

struct sv_message_target { /* what waits for it */
    struct sv_kept_message *first, *last;
};

struct sv_message_queue { /* private to the process */
    size_t count, bytes;               /* of all; memory */
    struct sv_message_target *targets; /* [slots], made when first needed */
    uint32_t target_count;
};

/* Sends data to the present process of a worker's slot; keeps what does not fit. 0; -9006: too much is kept already; -501. */
int sv_messages_send(struct sv_runtime *rt, uint32_t slot, uint32_t flags, const void *data, size_t length);
/* Sends on a record that came for a former process of the slot; what does not fit is kept, however much it is. runs in: manager. */
void sv_messages_forward(struct sv_runtime *rt, uint32_t slot, const struct sv_message *message);
/* Sends on what fits now. For the end of a turn. */
void sv_messages_flush(struct sv_runtime *rt);
bool sv_messages_are_waiting(const struct sv_runtime *rt);
void sv_messages_free(struct sv_message_queue *queue);

#endif
