/* stream.c: see stream.h. */
#include "lua/client/stream.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include "lua/client/client.h"
#include "lua/client/pool.h"
#include "lua/client/words.h"

#define SPACE_MIN 1024        /* less is not worth a system call */
#define INPUT_MAX 0x7f000000u /* what a string of Lua can hold */
#define BUDGET (1024 * 1024)  /* bytes in one step, so that others have their turn */

/* ----------------------------------------------------------------------------------------------- life of a connection */

/* Empty input gives its block back. */
static void give_block_back(struct sv_stream *stream) {
    struct sv_client *client = stream->descriptor.client;

    if (!stream->input.block || sv_bytes_length(&stream->input) > 0)
        return;
    if (stream->input.capacity == SV_CLIENT_INPUT_SIZE && client->input_count < SV_CLIENT_INPUT_KEPT)
        client->inputs[client->input_count++] = stream->input.block;
    else
        free(stream->input.block);
    stream->input = (struct sv_bytes){0};
}

static void release(struct sv_descriptor *descriptor) {
    struct sv_stream *stream = (struct sv_stream *)descriptor;

    sv_bytes_consume(&stream->input, sv_bytes_length(&stream->input));
    give_block_back(stream);
    sv_client_tls_free(stream->tls);
    free(stream);
}

/* This process was forked: the object that has the connection loses it. Pools are given up as a whole. */
static void forget(struct sv_descriptor *descriptor) {
    struct sv_stream *stream = (struct sv_stream *)descriptor;

    if (stream->holder)
        *stream->holder = NULL;
}

struct sv_stream *sv_stream_new(struct sv_client *client) {
    struct sv_stream *stream = calloc(1, sizeof *stream);

    if (!stream)
        return NULL;
    sv_descriptor_init(&stream->descriptor, client, release);
    stream->descriptor.forget = forget;
    return stream;
}

void sv_stream_close(struct sv_stream *stream) {
    struct sv_client_pool *pool = stream->pool;

    if (stream->descriptor.is_closed)
        return;
    if (stream->holder)
        *stream->holder = NULL;
    stream->holder = NULL;
    stream->pool = NULL;
    if (stream->tls)
        sv_client_tls_say_end(stream->tls);
    sv_descriptor_close(&stream->descriptor);
    if (pool)
        sv_client_pool_leave(pool);
}

/* ----------------------------------------------------------------------------------------------------------- reading */

/* Room for input of which `hint` more bytes are wanted. It grows with what has come, not with what was asked for. */
static bool make_room(struct sv_stream *stream, size_t hint) {
    struct sv_client *client = stream->descriptor.client;
    size_t length = sv_bytes_length(&stream->input);
    size_t most = length > SV_CLIENT_INPUT_SIZE ? length : SV_CLIENT_INPUT_SIZE;
    size_t size = hint < SPACE_MIN ? SPACE_MIN : hint < most ? hint : most;

    if (!stream->input.block && client->input_count > 0) {
        stream->input.block = client->inputs[--client->input_count];
        stream->input.capacity = SV_CLIENT_INPUT_SIZE;
    }
    if (!stream->input.block)
        size = SV_CLIENT_INPUT_SIZE; /* the first block */
    return length < INPUT_MAX && sv_bytes_reserve(&stream->input, size);
}

/* Reads what there is. Bytes; 0: the end; -EAGAIN; -errno; -SV_CLIENT_TLS. */
static ssize_t fill(struct sv_stream *stream, size_t hint, int *wants) {
    struct sv_descriptor *descriptor = &stream->descriptor;
    size_t space;
    ssize_t count;

    *wants = SRVLUA_READABLE;
    if (descriptor->is_drained && !stream->tls)
        return -EAGAIN;
    if (!make_room(stream, hint))
        return -ENOMEM;
    space = sv_bytes_space(&stream->input);
    if (stream->tls) {
        count = sv_client_tls_read(stream->tls, stream->input.block + stream->input.end, space, wants);
    } else {
        do
            count = recv(descriptor->fd, stream->input.block + stream->input.end, space, MSG_DONTWAIT);
        while (count < 0 && errno == EINTR);
        if (count < 0)
            count = errno == EWOULDBLOCK ? -EAGAIN : -errno;
        /* Less than there was room for: the next try would find nothing. */
        descriptor->is_drained = count == -EAGAIN || (count > 0 && (size_t)count < space);
    }
    if (count > 0)
        stream->input.end += (size_t)count;
    else
        give_block_back(stream);
    return count;
}

int sv_stream_probe(struct sv_stream *stream, int *wants) {
    ssize_t count;

    if (sv_bytes_length(&stream->input) > 0)
        return 1;
    stream->descriptor.is_drained = false;
    count = fill(stream, 1, wants);
    if (count == -EAGAIN)
        return 0;
    return count > 0 ? 1 : count == 0 ? -SV_CLIENT_CLOSED : (int)count;
}

/* Bytes at the end of `data` that may be the beginning of the pattern. */
static size_t begun_pattern(const char *data, size_t length, const struct sv_receive *receive) {
    size_t size = receive->until_length - 1;

    if (size > length)
        size = length;
    while (size > 0 && memcmp(data + length - size, receive->until, size) != 0)
        size--;
    return size;
}

static void find_pattern(const char *data, size_t length, struct sv_receive *receive, bool *is_found) {
    const char *hit = NULL;
    size_t limit = receive->count, size = receive->until_length, before, after;

    *is_found = true;
    if (length - receive->scanned >= size)
        hit = memmem(data + receive->scanned, length - receive->scanned, receive->until, size);
    if (!hit) {
        before = limit ? length - begun_pattern(data, length, receive) : 0;
        if (limit && before >= limit)
            receive->length = limit;
        else
            *is_found = false;
        receive->scanned = length >= size ? length - size + 1 : 0;
        return;
    }
    before = (size_t)(hit - data);
    receive->scanned = before;
    if (limit && before > limit) {
        receive->length = limit;
        return;
    }
    if (!receive->is_inclusive) {
        receive->length = before;
        receive->swallowed = size;
        receive->is_end = true;
        return;
    }
    if (limit && before + size > limit && before > 0) { /* the pattern comes next */
        receive->length = before;
        return;
    }
    after = before + size;
    receive->length = limit && after > limit ? limit : after;
    receive->swallowed = after - receive->length;
    receive->is_end = true;
}

/* Whether the input has all that is to be received. */
static bool is_complete(const struct sv_stream *stream, struct sv_receive *receive) {
    const char *data = sv_bytes_data(&stream->input), *hit;
    size_t length = sv_bytes_length(&stream->input);
    bool is_found;

    switch (receive->pattern) {
    case SV_PATTERN_LINE:
        hit = length > receive->scanned ? memchr(data + receive->scanned, '\n', length - receive->scanned) : NULL;
        receive->scanned = length;
        if (!hit)
            return false;
        receive->length = (size_t)(hit - data);
        receive->swallowed = 1;
        return true;
    case SV_PATTERN_COUNT:
        receive->length = receive->count;
        return length >= receive->count;
    case SV_PATTERN_ANY:
        receive->length = length < receive->count ? length : receive->count;
        return length > 0;
    case SV_PATTERN_UNTIL:
        find_pattern(data, length, receive, &is_found);
        return is_found;
    default:
        return false; /* ALL: only the end of the stream tells */
    }
}

int sv_stream_receive(struct sv_stream *stream, struct sv_receive *receive, int *wants) {
    size_t budget = BUDGET;
    ssize_t count;

    while (!is_complete(stream, receive)) {
        size_t hint = 1;
        if (receive->pattern == SV_PATTERN_COUNT)
            hint = receive->count - sv_bytes_length(&stream->input);
        else if (receive->pattern == SV_PATTERN_ALL)
            hint = (size_t)-1;
        if (budget == 0 && !(stream->tls && sv_client_tls_has_input(stream->tls))) {
            stream->descriptor.is_drained = true; /* the watch will say that there is more */
            *wants = SRVLUA_READABLE;
            return -EAGAIN;
        }
        count = fill(stream, hint, wants);
        if (count < 0)
            return (int)count;
        if (count == 0 && receive->pattern != SV_PATTERN_ALL)
            return -SV_CLIENT_CLOSED;
        if (count == 0) {
            receive->length = sv_bytes_length(&stream->input);
            return 0;
        }
        budget -= (size_t)count < budget ? (size_t)count : budget;
    }
    return 0;
}

void sv_stream_take(struct sv_stream *stream, const struct sv_receive *receive) {
    sv_stream_consume(stream, receive->length + receive->swallowed);
}

void sv_stream_consume(struct sv_stream *stream, size_t length) {
    sv_bytes_consume(&stream->input, length);
    give_block_back(stream);
}

size_t sv_stream_strip(struct sv_stream *stream, size_t length) {
    char *from, *to, *begin = stream->input.block ? stream->input.block + stream->input.begin : NULL;
    char *end = begin + length;

    to = length ? memchr(begin, '\r', length) : NULL;
    if (!to)
        return length;
    for (from = to; from < end; from++)
        if (*from != '\r')
            *to++ = *from;
    return (size_t)(to - begin);
}

/* ----------------------------------------------------------------------------------------------------------- writing */

int sv_stream_send(struct sv_stream *stream, const char *data, size_t length, size_t *sent, int *wants) {
    while (*sent < length) {
        size_t left = length - *sent;
        ssize_t count;
        *wants = SRVLUA_WRITABLE;
        if (stream->tls) {
            count = sv_client_tls_write(stream->tls, data + *sent, left, wants);
        } else {
            count = send(stream->descriptor.fd, data + *sent, left, MSG_DONTWAIT | MSG_NOSIGNAL);
            if (count < 0 && errno == EINTR)
                continue;
            if (count < 0)
                count = errno == EWOULDBLOCK ? -EAGAIN : -errno;
        }
        if (count < 0)
            return (int)count;
        *sent += (size_t)count;
        if (!stream->tls && (size_t)count < left)
            return -EAGAIN; /* its buffer is full: the next try would only be told so */
    }
    return 0;
}
