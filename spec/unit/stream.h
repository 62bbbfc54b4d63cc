/* stream.h: cuts a stream of bytes into reads as a reactor gets them, and lets a framer find the packets. For the unit tests
 * of framers and for what fuzzes them.
 *
 * The framer sees, of each packet, a copy that is exactly as long as it may look, and in which everything is overwritten that
 * it said to need no second look at (but the first two bytes, which tell kinds of packets apart): a scan that begins anew, or
 * goes too far, gets something wrong. */
#ifndef SV_SPEC_STREAM_H
#define SV_SPEC_STREAM_H

#include <stdlib.h>
#include <string.h>

#include "framing/framer.h"
#include "srvlua.h"

struct stream_event {
    enum sv_frame_result result;
    size_t begin, length; /* in the stream */
};

struct stream_end {
    struct stream_event *events; /* packets and what is skipped */
    size_t count, used;          /* bytes of them all */
    int code;                    /* of the violation, or 0 */
    const char *fault;           /* of the framer: what of its contract does not hold, or NULL */
};

/* How many bytes the next read brings. */
typedef size_t (*stream_reads)(void *context);

static inline size_t stream_at_once(void *context) { return (void)context, SIZE_MAX; }

static inline size_t stream_by_bytes(void *context) { return (void)context, 1; }

/* Sizes that come again and again, of 4 bytes; for stream_by_sizes(). */
struct stream_sizes {
    unsigned char sizes[4];
    unsigned next;
};

static inline size_t stream_by_sizes(void *context) {
    struct stream_sizes *sizes = context;
    return 1u + sizes->sizes[sizes->next++ % 4];
}

/* Random numbers that are the same in each run; *context != 0. */
static inline uint32_t stream_random(uint32_t *context) {
    *context ^= *context << 13;
    *context ^= *context >> 17;
    *context ^= *context << 5;
    return *context;
}

/* Mostly small reads, some large ones. */
static inline size_t stream_at_random(void *context) {
    uint32_t number = stream_random(context);
    return 1 + (number >> 8) % (number % 8 ? 9 : 3000);
}

static inline const char *stream_check(const struct sv_framer_rules *rules, const struct sv_frame *frame,
                                       const struct sv_framer_state *before, const struct sv_framer_state *after,
                                       size_t length) {
    switch (frame->result) {
    case SV_FRAME_MORE:
        if (after->at < before->at || after->at > length)
            return "the scan goes on from where it never was";
        if (after->total && (after->total <= length || after->total > rules->max_length))
            return "a total that the packet cannot have";
        return length >= rules->max_length ? "more bytes are wanted than the limit allows" : NULL;
    case SV_FRAME_PACKET:
    case SV_FRAME_SKIP:
        if (frame->length == 0 || frame->length > length)
            return "a packet of bytes that are not there";
        return frame->length > rules->max_length ? "a packet over the limit" : NULL;
    case SV_FRAME_VIOLATION:
        if (frame->code != SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE && frame->code != SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND &&
            frame->code != SRVLUA_ERROR_PACKAGE_MALFORMED_DATA)
            return "a violation with a wrong code";
        return frame->reason ? NULL : "a violation without a reason";
    }
    return "an unknown result";
}

/* `end` is that of allocated memory with room for `length` bytes: a sanitizer sees a look beyond it. */
static inline struct sv_frame stream_show(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                          const unsigned char *data, size_t length, unsigned char *end) {
    unsigned char *copy = end - length;
    memcpy(copy, data, length);
    if (state->at > 2 && state->at <= length)
        memset(copy + 2, 0xee, (size_t)state->at - 2);
    return rules->next(rules, state, copy, length);
}

static inline struct sv_frame stream_ask(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                         const unsigned char *data, size_t length) {
    unsigned char *room = malloc(length);
    struct sv_frame frame = stream_show(rules, state, data, length, room + length);
    free(room);
    return frame;
}

/* The packets among the bytes that have come; false: the stream ends here. */
static inline bool stream_cut(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                              size_t have, unsigned char *room_end, struct stream_end *end) {
    while (end->used < have) {
        struct sv_framer_state before = *state;
        struct sv_frame frame = stream_show(rules, state, data + end->used, have - end->used, room_end);
        end->fault = stream_check(rules, &frame, &before, state, have - end->used);
        if (end->fault)
            return false;
        if (frame.result == SV_FRAME_MORE)
            return true;
        end->code = frame.code;
        if (frame.result == SV_FRAME_VIOLATION)
            return false;
        end->events[end->count++] = (struct stream_event){frame.result, end->used, frame.length};
        end->used += frame.length;
        *state = (struct sv_framer_state){0};
    }
    return true;
}

/* Reads all of the stream, up to a violation. */
static inline struct stream_end stream_read(const struct sv_framer_rules *rules, const unsigned char *data, size_t length,
                                            stream_reads reads, void *context) {
    struct stream_end end = {.events = malloc((length + 1) * sizeof *end.events)};
    struct sv_framer_state state = {0};
    unsigned char *room = malloc(length + 1);
    unsigned char *room_end = room + length + 1;
    size_t have = 0;
    do {
        size_t come = reads(context);
        have = come < length - have ? have + come : length;
    } while (stream_cut(rules, &state, data, have, room_end, &end) && have < length);
    free(room);
    return end;
}

static inline bool stream_ends_equal(const struct stream_end *one, const struct stream_end *other) {
    if (one->count != other->count || one->code != other->code)
        return false;
    for (size_t i = 0; i < one->count; i++)
        if (one->events[i].result != other->events[i].result || one->events[i].length != other->events[i].length)
            return false;
    return true;
}

static inline void stream_free(struct stream_end *end) { free(end->events); }

/* NULL if these reads give what reading at once gives, else what is wrong. */
static inline const char *stream_compare(const struct sv_framer_rules *rules, const unsigned char *data, size_t length,
                                         stream_reads reads, void *context) {
    struct stream_end whole = stream_read(rules, data, length, stream_at_once, NULL);
    struct stream_end cut = stream_read(rules, data, length, reads, context);
    const char *fault = whole.fault ? whole.fault : cut.fault;
    if (!fault && !stream_ends_equal(&whole, &cut))
        fault = "other packets when the stream is cut into other reads";
    stream_free(&whole);
    stream_free(&cut);
    return fault;
}

#endif
