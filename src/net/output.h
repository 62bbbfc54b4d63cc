/* output.h: what a connection still has to send: bytes and parts of files, in order.
 *
 * Owner: one connection, and with it one reactor. Small pieces share pooled blocks, so that a connection that is drained holds
 * none and a busy reactor allocates nothing per message. runs in: the owning reactor. Never blocks. */
#ifndef SV_NET_OUTPUT_H
#define SV_NET_OUTPUT_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "net/tls.h"

#define SV_OUTPUT_BLOCK_BYTES 16384

struct sv_output_part;

struct sv_output {
    struct sv_output_part *first, *last;
    int64_t bytes;     /* of data; parts of files count nothing */
    int64_t allocated; /* bytes of memory that the data takes */
};

struct sv_output_pool { /* free blocks of one reactor */
    struct sv_output_part *free_blocks;
    size_t free_count;
};

void sv_output_pool_free(struct sv_output_pool *pool);

static inline bool sv_output_is_empty(const struct sv_output *output) {
    return !output->first;
}

/* Copies data behind what is queued. 0 or -ENOMEM with nothing queued. */
int sv_output_append(struct sv_output *output, struct sv_output_pool *pool, const void *data, size_t length);
/* Takes over a malloc'ed buffer, of which the bytes from `start` on are sent. 0 or -ENOMEM (the buffer stays the caller's). */
int sv_output_adopt(struct sv_output *output, unsigned char *data, size_t start, size_t length);
/* Takes over a descriptor: `length` bytes of the file from `offset` on. 0 or -ENOMEM (the descriptor stays the caller's). */
int sv_output_append_file(struct sv_output *output, int file, int64_t offset, int64_t length);

enum sv_output_result { SV_OUTPUT_DRAINED, SV_OUTPUT_BLOCKED, SV_OUTPUT_MORE };

/* Writes to the socket, through `tls` if that is not NULL, until it takes no more, at most about 1 MiB (then MORE). *written counts
 * plain bytes that left; with TLS, DRAINED means that no encrypted ones wait either.
 * Returns an enum sv_output_result or -errno; a file that shrank is -EIO. */
int sv_output_flush(struct sv_output *output, struct sv_output_pool *pool, int socket, struct sv_tls *tls,
                    int64_t *written);
/* The peer takes nothing for now: memory that the queue holds without need is given back. Ten thousand clients who never read must
 * cost what is queued for them, not a block each. */
void sv_output_trim(struct sv_output *output, struct sv_output_pool *pool);
/* Discards everything. */
void sv_output_clear(struct sv_output *output, struct sv_output_pool *pool);

#endif
