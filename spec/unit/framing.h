/* framing.h: what the tests of all framers share: streams with the packets they are to give, in any reads. */
#ifndef SV_SPEC_FRAMING_H
#define SV_SPEC_FRAMING_H

#include <stdio.h>

#include "stream.h"
#include "unit.h"

#define RANDOM_CUTS 40

/* A literal with its length; it may hold NUL. */
#define BYTES(text) (const unsigned char *)(text), sizeof(text) - 1

/* What a stream gives, as text: "5 2 skip3 1204" are packets of 5 and 2 bytes, 3 skipped ones, a violation. */
static inline void describe(const struct stream_end *end, char *text, size_t size) {
    size_t used = 0;
    text[0] = '\0';
    for (size_t i = 0; i < end->count && used < size; i++)
        used += (size_t)snprintf(text + used, size - used, "%s%s%zu", used ? " " : "",
                                 end->events[i].result == SV_FRAME_SKIP ? "skip" : "", end->events[i].length);
    if (end->code && used < size)
        snprintf(text + used, size - used, "%s%d", used ? " " : "", end->code);
}

/* Whether the stream gives `expected` (see describe) at once, byte by byte and in random reads. */
static inline bool gives(const struct sv_framer_rules *rules, const unsigned char *data, size_t length, const char *expected) {
    char text[4096];
    struct stream_end end = stream_read(rules, data, length, stream_at_once, NULL);
    describe(&end, text, sizeof text);
    const char *fault = end.fault;
    stream_free(&end);
    if (!fault)
        fault = stream_compare(rules, data, length, stream_by_bytes, NULL);
    for (uint32_t seed = 1; !fault && seed <= RANDOM_CUTS; seed++) {
        uint32_t numbers = seed * 2654435761u;
        fault = stream_compare(rules, data, length, stream_at_random, &numbers);
    }
    if (fault)
        fprintf(stderr, "fault: %s\n", fault);
    if (strcmp(text, expected) != 0)
        fprintf(stderr, "gives \"%s\", not \"%s\"\n", text, expected);
    return !fault && strcmp(text, expected) == 0;
}

/* The first answer to `length` bytes that came at once; its code for a violation, else 0. */
static inline int judge(const struct sv_framer_rules *rules, const unsigned char *data, size_t length) {
    struct sv_framer_state state = {0};
    struct sv_frame frame = stream_ask(rules, &state, data, length);
    return frame.result == SV_FRAME_VIOLATION ? frame.code : 0;
}

static inline void put(unsigned char *at, const void *bytes, size_t length) { memcpy(at, bytes, length); }

/* `length` bytes of `fill`, to be freed; the caller puts something in. */
static inline unsigned char *filled(size_t length, int fill) {
    unsigned char *data = malloc(length);
    memset(data, fill, length);
    return data;
}

/* A stream that grows. */
struct stream {
    unsigned char *data;
    size_t length, capacity;
};

static inline void append(struct stream *stream, const void *data, size_t length) {
    if (stream->length + length > stream->capacity) {
        stream->capacity = 2 * (stream->length + length);
        stream->data = realloc(stream->data, stream->capacity);
    }
    if (length > 0 && stream->data)
        memcpy(stream->data + stream->length, data, length);
    stream->length += length;
}

/* Whether the stream gives exactly packets that are `lengths` long, however it is cut. */
static inline bool gives_lengths(const struct sv_framer_rules *rules, const struct stream *stream, const size_t *lengths,
                                 size_t count) {
    struct stream_end end = stream_read(rules, stream->data, stream->length, stream_at_once, NULL);
    bool is_right = !end.fault && end.code == 0 && end.count == count && end.used == stream->length;
    for (size_t i = 0; is_right && i < count; i++)
        is_right = end.events[i].result == SV_FRAME_PACKET && end.events[i].length == lengths[i];
    stream_free(&end);
    if (is_right)
        is_right = !stream_compare(rules, stream->data, stream->length, stream_by_bytes, NULL);
    for (uint32_t seed = 1; is_right && seed <= RANDOM_CUTS; seed++) {
        uint32_t numbers = seed * 2654435761u;
        is_right = !stream_compare(rules, stream->data, stream->length, stream_at_random, &numbers);
    }
    return is_right;
}

/* Bytes that are looked at when `length` bytes come one by one and form no packet: each look begins at state.at. */
static inline uint64_t bytes_looked_at(const struct sv_framer_rules *rules, const unsigned char *data, size_t length) {
    struct sv_framer_state state = {0};
    uint64_t sum = 0;
    for (size_t have = 1; have <= length; have++) {
        sum += have - state.at;
        if (rules->next(rules, &state, data, have).result != SV_FRAME_MORE)
            return UINT64_MAX;
    }
    return sum;
}

#endif
