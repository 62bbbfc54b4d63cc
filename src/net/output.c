/* output.c: see output.h. */
#include "net/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/sendfile.h>
#include <sys/socket.h>
#include <unistd.h>

#define VECTORS 64
#define FLUSH_MAX (1 << 20) /* per call: one fast client must not keep the others waiting */
#define POOL_MAX 256        /* 4 MiB kept at most */

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

static void link_part(struct sv_output *output, struct sv_output_part *part) {
    if (output->last)
        output->last->next = part;
    else
        output->first = part;
    output->last = part;
}

int sv_output_append(struct sv_output *output, struct sv_output_pool *pool, const void *data, size_t length) {
    const unsigned char *from = data;
    struct sv_output_part *last = output->last;
    if (!length) return 0;
    size_t room = last && last->kind == PART_BLOCK ? (size_t)(last->capacity - last->end) : 0;
    size_t head = room < length ? room : length;
    if (length > head) { /* allocate first, so that nothing is queued when memory is out */
        size_t rest = length - head;
        size_t capacity = rest <= SV_OUTPUT_BLOCK_BYTES ? SV_OUTPUT_BLOCK_BYTES : rest;
        struct sv_output_part *part = take_block(pool, capacity);
        if (!part) return -ENOMEM;
        memcpy(part->data, from + head, rest);
        part->end = (int64_t)rest;
        if (head) {
            memcpy(last->data + last->end, from, head);
            last->end += (int64_t)head;
        }
        link_part(output, part);
    } else {
        memcpy(last->data + last->end, from, head);
        last->end += (int64_t)head;
    }
    output->bytes += (int64_t)length;
    return 0;
}

int sv_output_adopt(struct sv_output *output, unsigned char *data, size_t start, size_t length) {
    struct sv_output_part *part = malloc(sizeof *part);
    if (!part) return -ENOMEM;
    *part = (struct sv_output_part){.kind = PART_OWNED, .file = -1, .begin = (int64_t)start, .end = (int64_t)length, .data = data};
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
    dispose(pool, part);
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

static ssize_t write_data(struct sv_output *output, int socket) {
    struct iovec vectors[VECTORS];
    int count = 0;
    for (struct sv_output_part *part = output->first; part && part->kind != PART_FILE && count < VECTORS; part = part->next) {
        vectors[count].iov_base = part->data + part->begin;
        vectors[count++].iov_len = (size_t)(part->end - part->begin);
    }
    struct msghdr message = {.msg_iov = vectors, .msg_iovlen = (size_t)count};
    return sendmsg(socket, &message, MSG_NOSIGNAL | MSG_DONTWAIT);
}

static ssize_t write_file(struct sv_output_part *part, int socket) {
    off_t offset = part->begin;
    int64_t left = part->end - part->begin;
    ssize_t sent = sendfile(socket, part->file, &offset, (size_t)(left < FLUSH_MAX ? left : FLUSH_MAX));
    if (sent == 0) {
        errno = EIO; /* the file is shorter than it was */
        return -1;
    }
    return sent;
}

int sv_output_flush(struct sv_output *output, struct sv_output_pool *pool, int socket, int64_t *written) {
    int64_t total = 0;
    while (output->first && total < FLUSH_MAX) {
        struct sv_output_part *first = output->first;
        ssize_t sent = first->kind == PART_FILE ? write_file(first, socket) : write_data(output, socket);
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
    return output->first ? SV_OUTPUT_MORE : SV_OUTPUT_DRAINED;
}

void sv_output_clear(struct sv_output *output, struct sv_output_pool *pool) {
    while (output->first) drop_first(output, pool);
    output->bytes = 0;
}
