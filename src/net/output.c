/* output.c: see output.h. */
#include "net/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define VECTORS 64
#define FILE_PIECE 65536 /* read and encrypted at a time, at most */
#define FLUSH_MAX (1 << 20) /* per call: one fast client must not keep the others waiting */
#define POOL_MAX 256        /* 4 MiB kept at most: what a few clients at their socket_buffer_size take, without new pages each time */
#define SMALL_BLOCK 1024

enum part_kind { PART_BLOCK, PART_OWNED, PART_FILE };

struct sv_output_part {
    struct sv_output_part *next;
    enum part_kind kind;
    int file;
    int64_t begin, end; /* bytes of data, or positions in the file */
    int64_t capacity;
    unsigned char *data; /* PART_BLOCK: behind this struct */
};

static struct sv_output_part *take_block(struct sv_output_pool *pool, size_t capacity) {
    if (capacity == SV_OUTPUT_BLOCK_BYTES && pool->free_blocks) {
        struct sv_output_part *part = pool->free_blocks;
        pool->free_blocks = part->next;
        pool->free_count--;
        part->next = NULL;
        part->begin = part->end = 0;
        return part;
    }
    struct sv_output_part *part = malloc(sizeof *part + capacity);
    if (!part) return NULL;
    *part = (struct sv_output_part){.kind = PART_BLOCK, .file = -1, .capacity = (int64_t)capacity};
    part->data = (unsigned char *)(part + 1);
    return part;
}

static void dispose(struct sv_output_pool *pool, struct sv_output_part *part) {
    if (part->kind == PART_BLOCK && part->capacity == SV_OUTPUT_BLOCK_BYTES && pool->free_count < POOL_MAX) {
        part->next = pool->free_blocks;
        pool->free_blocks = part;
        pool->free_count++;
        return;
    }
    if (part->kind == PART_OWNED) free(part->data);
    if (part->kind == PART_FILE) close(part->file);
    free(part);
}

void sv_output_pool_free(struct sv_output_pool *pool) {
    while (pool->free_blocks) {
        struct sv_output_part *part = pool->free_blocks;
        pool->free_blocks = part->next;
        free(part);
    }
    pool->free_count = 0;
}

static int64_t cost_of(const struct sv_output_part *part) {
    return part->capacity + (int64_t)sizeof *part;
}

static void link_part(struct sv_output *output, struct sv_output_part *part) {
    output->allocated += cost_of(part);
    if (output->last)
        output->last->next = part;
    else
        output->first = part;
    output->last = part;
}

/* An empty queue is mostly drained within the turn: a pooled block. One that grows gets blocks in proportion to what it holds. */
static size_t block_size(const struct sv_output *output) {
    size_t wanted = ((size_t)output->bytes / 4 + SMALL_BLOCK - 1) & ~(size_t)(SMALL_BLOCK - 1);
    if (!output->first || wanted >= SV_OUTPUT_BLOCK_BYTES) return SV_OUTPUT_BLOCK_BYTES;
    return wanted ? wanted : SMALL_BLOCK;
}

/* Copies into new blocks, behind `output`. A long piece takes several: pooled blocks hold pages that are there already, and each is
 * free as soon as its bytes are sent. 0 or -ENOMEM with nothing queued. */
static int append_blocks(struct sv_output *output, struct sv_output_pool *pool, const unsigned char *data, size_t length) {
    struct sv_output blocks = {0};
    size_t last_capacity = block_size(output);
    while (length) {
        size_t part_length = length < SV_OUTPUT_BLOCK_BYTES ? length : SV_OUTPUT_BLOCK_BYTES;
        size_t capacity = part_length > last_capacity ? part_length : last_capacity;
        struct sv_output_part *part = take_block(pool, capacity);
        if (!part) {
            sv_output_clear(&blocks, pool);
            return -ENOMEM;
        }
        memcpy(part->data, data, part_length);
        part->end = (int64_t)part_length;
        link_part(&blocks, part);
        data += part_length;
        length -= part_length;
    }
    if (output->last)
        output->last->next = blocks.first;
    else
        output->first = blocks.first;
    output->last = blocks.last;
    output->allocated += blocks.allocated;
    return 0;
}

int sv_output_append(struct sv_output *output, struct sv_output_pool *pool, const void *data, size_t length) {
    const unsigned char *from = data;
    struct sv_output_part *last = output->last;
    if (!length) return 0;
    size_t room = last && last->kind == PART_BLOCK ? (size_t)(last->capacity - last->end) : 0;
    size_t head = room < length ? room : length;
    if (length > head && append_blocks(output, pool, from + head, length - head)) return -ENOMEM;
    if (head) {
        memcpy(last->data + last->end, from, head);
        last->end += (int64_t)head;
    }
    output->bytes += (int64_t)length;
    return 0;
}

int sv_output_adopt(struct sv_output *output, unsigned char *data, size_t start, size_t length) {
    struct sv_output_part *part = malloc(sizeof *part);
    if (!part) return -ENOMEM;
    *part = (struct sv_output_part){.kind = PART_OWNED, .file = -1, .begin = (int64_t)start, .end = (int64_t)length, .capacity = (int64_t)length, .data = data};
    link_part(output, part);
    output->bytes += (int64_t)(length - start);
    return 0;
}

int sv_output_append_file(struct sv_output *output, int file, int64_t offset, int64_t length) {
    struct sv_output_part *part = malloc(sizeof *part);
    if (!part) return -ENOMEM;
    *part = (struct sv_output_part){.kind = PART_FILE, .file = file, .begin = offset, .end = offset + length};
    link_part(output, part);
    return 0;
}

static void drop_first(struct sv_output *output, struct sv_output_pool *pool) {
    struct sv_output_part *part = output->first;
    output->first = part->next;
    if (!output->first) output->last = NULL;
    output->allocated -= cost_of(part);
    dispose(pool, part);
}

void sv_output_trim(struct sv_output *output, struct sv_output_pool *pool) {
    struct sv_output_part *part = output->first;
    if (!part || part->next || part->kind != PART_BLOCK || (part->end - part->begin) * 2 > part->capacity) return;
    size_t length = (size_t)(part->end - part->begin);
    struct sv_output_part *small = take_block(pool, length);
    if (!small) return;
    memcpy(small->data, part->data + part->begin, length);
    small->end = (int64_t)length;
    drop_first(output, pool);
    link_part(output, small);
}

static void consume(struct sv_output *output, struct sv_output_pool *pool, int64_t count) {
    output->bytes -= count;
    while (count > 0) {
        struct sv_output_part *part = output->first;
        int64_t there = part->end - part->begin;
        if (count < there) {
            part->begin += count;
            return;
        }
        count -= there;
        drop_first(output, pool);
    }
}

static ssize_t write_data(struct sv_output *output, int socket, struct sv_tls *tls) {
    struct iovec vectors[VECTORS];
    int count = 0;
    for (struct sv_output_part *part = output->first; part && part->kind != PART_FILE && count < VECTORS; part = part->next) {
        vectors[count].iov_base = part->data + part->begin;
        vectors[count++].iov_len = (size_t)(part->end - part->begin);
    }
    if (tls) {
        ssize_t sent = sv_tls_send(tls, vectors, count);
        if (sent < 0) errno = (int)-sent;
        return sent < 0 ? -1 : sent;
    }
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

/* Through TLS: read and encrypted, piece by piece. */
static ssize_t encrypt_file(struct sv_output_part *part, struct sv_tls *tls) {
    unsigned char piece[FILE_PIECE];
    int64_t left = part->end - part->begin, most = (int64_t)sv_tls_appetite(tls);
    if (sv_tls_pending(tls)) { /* it would take nothing: the disk need not be asked */
        errno = EAGAIN;
        return -1;
    }
    if (most > FILE_PIECE) most = FILE_PIECE;
    ssize_t got = pread(part->file, piece, (size_t)(left < most ? left : most), part->begin);
    if (got == 0) errno = EIO;
    if (got <= 0) return -1;
    struct iovec vector = {.iov_base = piece, .iov_len = (size_t)got};
    ssize_t sent = sv_tls_send(tls, &vector, 1);
    sv_tls_uncount(tls);
    if (sent < 0) errno = (int)-sent;
    return sent < 0 ? -1 : sent;
}

static ssize_t write_file(struct sv_output_part *part, int socket, struct sv_tls *tls) {
    if (tls) return encrypt_file(part, tls);
    off_t offset = part->begin;
    int64_t left = part->end - part->begin;
    ssize_t sent = sendfile(socket, part->file, &offset, (size_t)(left < FLUSH_MAX ? left : FLUSH_MAX));
    if (sent == 0) {
        errno = EIO; /* the file is shorter than it was */
        return -1;
    }
    return sent;
}

int sv_output_flush(struct sv_output *output, struct sv_output_pool *pool, int socket, struct sv_tls *tls, int64_t *written) {
    int64_t total = 0;
    int result = tls && sv_tls_pending(tls) ? sv_tls_flush(tls) : 0;
    *written = 0;
    if (result) return result == -EAGAIN ? SV_OUTPUT_BLOCKED : result;
    while (output->first && total < FLUSH_MAX) {
        struct sv_output_part *first = output->first;
        ssize_t sent = first->kind == PART_FILE ? write_file(first, socket, tls) : write_data(output, socket, tls);
        if (sent < 0) {
            *written = total;
            if (errno == EINTR) continue;
            return errno == EAGAIN || errno == EWOULDBLOCK ? SV_OUTPUT_BLOCKED : -errno;
        }
        total += sent;
        if (first->kind == PART_FILE) {
            first->begin += sent;
            if (first->begin == first->end) drop_first(output, pool);
        } else {
            consume(output, pool, sent);
        }
    }
    *written = total;
    if (tls && !output->first && sv_tls_pending(tls)) return SV_OUTPUT_BLOCKED;
    return output->first ? SV_OUTPUT_MORE : SV_OUTPUT_DRAINED;
}

void sv_output_clear(struct sv_output *output, struct sv_output_pool *pool) {
    while (output->first) drop_first(output, pool);
    output->bytes = 0;
}
