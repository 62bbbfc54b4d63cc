/* endpoint.h: the one way for bytes to cross a process or a thread.
 *
 * Every process and reactor thread is an endpoint: an inbox (one ring per peer that ever wrote to it, made on first use), a bell
 * (eventfd) and a `sleeping` word. The directory of rings lies in shared memory; handles are private to who uses them.
 *
 *   sending:  sv_send() writes the record and marks the peer dirty; the bell is rung by sv_kick_all(), by every 64th record, and
 *             before anything that blocks; and only if the peer said that it sleeps.
 *   waking:   a kick sets the sender's bit in the peer's `dirty` words first, so that the peer looks only into rings that have
 *             something. Lost wake-ups need a producer that dies between the two steps; sv_ring_all_bells() and the peers'
 *             sweep once a second are for those.
 *
 * Numbers: master 0, manager 1, reactor r: 2 + r, process slot s of parity p: 2 + reactors + 2 s + p.
 * runs in: its own process or thread only; nothing here blocks except sv_send_wait(). */
#ifndef SV_IPC_ENDPOINT_H
#define SV_IPC_ENDPOINT_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "ipc/record.h"
#include "shm/arena.h"
#include "shm/ring.h"
#include "shm/slot.h"

#define SV_ENDPOINT_MASTER 0u
#define SV_ENDPOINT_MANAGER 1u
#define SV_CHUNK_MAX 65536u
#define SV_KICK_EVERY 64u
#define SV_DRAIN_BATCH 64u

struct sv_inbox { /* shared, one per endpoint */
    _Alignas(SV_CACHE_LINE) _Atomic uint32_t sleeping; /* the owner sets it before it blocks; who clears it rings the bell */
    _Atomic uint32_t look_everywhere;                  /* anyone: look into all rings, not only the dirty ones */
    struct sv_counters counters;                       /* the owner's */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t dirty[];  /* senders set their bit; the owner takes them */
};

struct sv_ipc_sizes { /* bytes of rings by kind of pair; powers of two */
    uint32_t worker_ring, task_ring, message_ring;
};

struct sv_ipc { /* the layout; made before the first fork, a private copy in each process */
    struct sv_arena *arena;
    uint32_t reactors, slots, workers; /* slots: workers, then task workers, then user processes */
    uint32_t endpoints;
    bool is_process_mode;
    struct sv_ipc_sizes sizes;
    _Atomic uint32_t *directory; /* [to * endpoints + from]: ring's offset in the arena / 64, 0 = none yet */
    unsigned char *inboxes;
    size_t inbox_bytes;
    int *bells;                  /* eventfd per endpoint */
    int (*fd_channels)[2];       /* per endpoint: [0] the owner reads, [1] others write */
};

static inline uint32_t sv_endpoint_of_reactor(uint32_t reactor) {
    return 2 + reactor;
}
static inline uint32_t sv_endpoint_of_slot(const struct sv_ipc *ipc, uint32_t slot, uint32_t parity) {
    return 2 + ipc->reactors + 2 * slot + parity;
}
/* The process slot of an endpoint, -1: master, manager, a reactor. */
static inline int32_t sv_slot_of_endpoint(const struct sv_ipc *ipc, uint32_t endpoint) {
    uint32_t first = sv_endpoint_of_slot(ipc, 0, 0);
    return endpoint < first ? -1 : (int32_t)((endpoint - first) / 2);
}
/* Its parity; the endpoint is a slot's. */
static inline uint32_t sv_parity_of_endpoint(const struct sv_ipc *ipc, uint32_t endpoint) {
    return (endpoint - sv_endpoint_of_slot(ipc, 0, 0)) & 1;
}
static inline struct sv_inbox *sv_inbox_of(const struct sv_ipc *ipc, uint32_t endpoint) {
    return (struct sv_inbox *)(ipc->inboxes + endpoint * ipc->inbox_bytes);
}

/* Bytes of arena for a layout, rings included (as far as address space is not a matter: at most 64 GiB). */
size_t sv_ipc_bytes(uint32_t reactors, uint32_t workers, uint32_t slots, const struct sv_ipc_sizes *sizes);
/* Before the first fork. 0 or -errno. sv_ipc_close() closes this process's descriptors. */
int sv_ipc_init(struct sv_ipc *ipc, struct sv_arena *arena, bool is_process_mode, uint32_t reactors, uint32_t workers,
                uint32_t slots, const struct sv_ipc_sizes *sizes);
void sv_ipc_close(struct sv_ipc *ipc);
/* Wakes every endpoint and makes it look into all its rings. For the manager, after a process died. */
void sv_ring_all_bells(const struct sv_ipc *ipc);
/* The ring from one endpoint to another, or NULL if it was never used. For statistics. */
struct sv_ring *sv_ipc_ring(const struct sv_ipc *ipc, uint32_t to, uint32_t from);

/* Whether every reactor has said that nothing more comes for the present life of an inbox (END), and all of it was taken in. */
bool sv_ipc_has_all_ends(const struct sv_ipc *ipc, uint32_t to);
/* A new life begins on that inbox. */
void sv_ipc_forget_ends(const struct sv_ipc *ipc, uint32_t to);

struct sv_partial { /* a payload that is still arriving in chunks */
    struct sv_partial *next;
    uint32_t source;
    uint64_t id;
    uint16_t type;
    bool is_in_ring; /* all its chunks so far are: a successor can put it together again */
    size_t length, capacity;
    unsigned char *data;
};

struct sv_message { /* a record as its receiver gets it; the payload is whole */
    uint16_t type;
    uint32_t source;
    uint64_t id;
    int32_t value;
    int64_t stamp_ns;
    const unsigned char *payload;
    size_t length;
    unsigned char **owned; /* not NULL: the payload came in chunks and lies in *owned; take it by setting that to NULL */
};

struct sv_endpoint {
    const struct sv_ipc *ipc;
    uint32_t id;
    struct sv_inbox *inbox;
    struct sv_ring_writer *writers; /* [endpoints]; .ring NULL until first used */
    struct sv_ring_reader *readers;
    uint32_t *unkicked; /* [endpoints]: records sent since the last kick */
    uint32_t *kick_list;
    uint32_t kick_count;
    uint64_t *pending; /* bitmap of sources that still have something */
    bool has_pending;
    bool is_redelivering;      /* what a predecessor died over is taken in once more (on_lost_request) */
    bool is_heir;              /* takes what reactors left in a predecessor's inbox; all else of it stays its owner's */
    bool is_muted;             /* records of reactors stay where they are (the inbox is not ours yet, or no more) */
    bool is_deferring_release; /* the receiver releases itself (it writes to sockets straight from the rings) */
    uint64_t *held;            /* bitmap of sources with taken but unreleased records */
    struct sv_partial *partials;
    uint32_t damaged_source; /* whose ring was found overwritten, UINT32_MAX: none; cleared by who has logged it */
    uint64_t next_tag; /* of descriptors */
    struct sv_stray { int fd; uint64_t tag; } *strays; /* descriptors that came before their record */
    size_t stray_count, stray_capacity;
    sv_ring_consumed sent;     /* told of every record that is sent, for all peers; NULL: nobody wants to know */
    void *sent_context;
    sv_ring_consumed consumed; /* told of every record of ours that was taken, for all peers; context below */
    void *consumed_context;
};

/* Attaches the calling process or thread to endpoint `id`; a successor goes on where its predecessor stood. 0 or -errno. */
int sv_endpoint_open(struct sv_endpoint *endpoint, const struct sv_ipc *ipc, uint32_t id);
/* The same for the inbox of a predecessor that has handed it over but may be alive: the records of reactors are the heir's, the
 * bell, the marks of senders and the records of all others stay the owner's. So the heir looks into the rings themselves, each
 * time it receives, and is woken at its own endpoint. 0 or -errno. */
int sv_endpoint_inherit(struct sv_endpoint *endpoint, const struct sv_ipc *ipc, uint32_t id);
void sv_endpoint_close(struct sv_endpoint *endpoint);

/* Writes a record of at most one chunk. 0, or -EAGAIN if the ring is full (want_space is set then), -ENOMEM without a ring. */
int sv_send(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *payload,
            size_t length);
/* Any length, in chunks, as far as there is room now: from *at on, which moves on (0 at first). 0: all is written; -EAGAIN: the
 * ring is full (want_space is set); -ENOMEM without a ring. */
int sv_send_some(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *head,
                 size_t head_length, const void *payload, size_t length, size_t *at);
/* The same for what can wait: a quarter of the ring stays free for what cannot. */
int sv_send_bulk(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *head,
                 size_t head_length, const void *payload, size_t length, size_t *at);
/* Any length, in chunks; what does not fit waits: kicks the peer, then takes in what arrives through `wait` until there is room.
 * Atomic towards the receiver, who gets the payload whole. wait(context) blocks briefly; when it returns nonzero, -EPIPE. */
int sv_send_wait(struct sv_endpoint *endpoint, uint32_t to, uint16_t type, uint64_t id, int32_t value, const void *head,
                 size_t head_length, const void *payload, size_t length, int (*wait)(void *context), void *context);
/* Space in the ring to fill in place; publish with sv_send_filled. NULL: full. */
struct sv_record *sv_send_reserve(struct sv_endpoint *endpoint, uint32_t to, uint32_t least, uint32_t *size);
void sv_send_filled(struct sv_endpoint *endpoint, uint32_t to, struct sv_record *record);
/* The same for what may wait: nobody is woken for it, it is read with the next record from here, or when the peer looks everywhere. */
void sv_send_unannounced(struct sv_endpoint *endpoint, uint32_t to, struct sv_record *record);
struct sv_ring_writer *sv_writer_to(struct sv_endpoint *endpoint, uint32_t to);
/* Largest payload of one record to that peer. */
uint32_t sv_max_payload_to(struct sv_endpoint *endpoint, uint32_t to);

/* Rings the bells of all peers that got something. */
void sv_kick_all(struct sv_endpoint *endpoint);
void sv_kick(struct sv_endpoint *endpoint, uint32_t to);
/* Wakes an endpoint for something else than records. True if it slept. Any process. */
bool sv_wake(const struct sv_ipc *ipc, uint32_t endpoint);

typedef void (*sv_receiver)(void *context, const struct sv_message *message);
/* Takes at most `most` records of each peer in and hands them to `receiver`; returns how many. Each is marked as begun before
 * the call, so that no successor gets it again, and released after it; with is_deferring_release by sv_release_held(). Chunks stay
 * in the ring until their payload is whole and was handed over, as far as the ring has room for that; of an event that a dead
 * predecessor had begun to put together and that is not there any more the receiver is told by SV_RECORD_LOST. */
uint32_t sv_receive(struct sv_endpoint *endpoint, uint32_t most, sv_receiver receiver, void *context);
/* Whether the successor of a dead process gets from a peer once more what that process died over (is_redelivering). */
bool sv_ipc_gives_again(const struct sv_ipc *ipc, uint32_t to, uint32_t from);
/* True if that peer has published something that was not taken in yet. */
bool sv_has_mail_from(const struct sv_endpoint *endpoint, uint32_t from);
/* Takes in everything that one peer has published by now, e.g. the last words of a dead one. */
void sv_receive_from(struct sv_endpoint *endpoint, uint32_t from, sv_receiver receiver, void *context);
/* With is_deferring_release: gives back what was taken since the last call. */
void sv_release_held(struct sv_endpoint *endpoint);
/* Records of reactors are taken in, or left alone, from now on. */
void sv_set_muted(struct sv_endpoint *endpoint, bool is_muted);
/* True if something is there to receive; looks at the shared words. */
bool sv_has_mail(struct sv_endpoint *endpoint);

/* Going to sleep: false means do not block, something came in between. */
bool sv_fall_asleep(struct sv_endpoint *endpoint);
void sv_wake_up(struct sv_endpoint *endpoint);
/* Empties the bell after it made the loop return. */
void sv_bell_clear(const struct sv_endpoint *endpoint);
static inline int sv_bell_fd(const struct sv_endpoint *endpoint) {
    return endpoint->ipc->bells[endpoint->id];
}
/* Drops the half-received payloads of a peer. Those of a dead one go by themselves when its successor's first record comes: only
 * that stands in the right place between the records of the two. */
void sv_forget_partials(struct sv_endpoint *endpoint, uint32_t source);
/* Whether a part of something that a reactor sends is here, and the rest still to come. */
bool sv_has_partials_of_reactors(const struct sv_endpoint *endpoint);
/* The same for those senders that count. */
bool sv_has_partials_of(const struct sv_endpoint *endpoint, bool (*counts)(const void *context, uint32_t source), const void *context);
/* Drops those for a session that is no more: who sent them may have given up half way. */
void sv_forget_partials_for(struct sv_endpoint *endpoint, uint64_t id);

/* Hands an open descriptor to a peer ahead of the record that names its tag. Returns the tag, or 0 with *error = errno; waits
 * for room in the channel at most `timeout_ms`. */
uint64_t sv_fd_send(struct sv_endpoint *endpoint, uint32_t to, int fd, int timeout_ms, int *error);
/* The descriptor that was sent with `tag`, now the caller's; -1 if it never came. */
int sv_fd_take(struct sv_endpoint *endpoint, uint64_t tag);

#endif
