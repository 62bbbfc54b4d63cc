/* redis.c: RESP2 requests (protocols.md 1.7).
 *
 *   first byte `*`: *N CRLF, then N times  $length CRLF bytes CRLF  or  :number CRLF
 *   else:           one line, an inline command
 *
 * state->at: inline, where the search for the end of the line goes on; array, where the next element's line begins, once
 * state->left elements are awaited. A line is at most 32 bytes long, so it may well be read again until it is whole.
 * runs in: reactors. */
#include <string.h>

#include "framing/frame.h"

#define MOST_ELEMENTS 1048576
#define LONGEST_NUMBER 32u     /* bytes of a line with a number, its first and last ones included */
#define LONGEST_INLINE 65536u

enum line_result { LINE_MORE, LINE_WHOLE, LINE_BAD };

struct line {
    enum line_result result;
    size_t length; /* all three of a whole one; with CRLF */
    int64_t value;
};

/* A line of any character, a decimal number within least..most, CRLF; refused with the first byte that does not fit. */
static struct line read_number(const unsigned char *data, size_t length, int64_t least, int64_t most) {
    const struct line more = {.result = LINE_MORE}, bad = {.result = LINE_BAD};
    size_t seen = length < LONGEST_NUMBER ? length : LONGEST_NUMBER;
    size_t i = 1;
    bool is_negative = i < seen && data[i] == '-';
    i += is_negative;
    size_t first_digit = i;
    uint64_t value = 0, limit = is_negative ? (uint64_t)0 - (uint64_t)least : (uint64_t)most;
    for (; i < seen && data[i] >= '0' && data[i] <= '9'; i++) {
        unsigned digit = data[i] - '0';
        if (value > (limit - digit) / 10)
            return bad;
        value = value * 10 + digit;
    }
    if (i < seen && (data[i] != '\r' || i == first_digit))
        return bad;
    if (i + 1 < seen) {
        if (data[i + 1] != '\n')
            return bad;
        return (struct line){LINE_WHOLE, i + 2, (int64_t)(is_negative ? 0 - value : value)};
    }
    return length < LONGEST_NUMBER ? more : bad;
}

static struct sv_frame read_inline(struct sv_framer_state *state, const unsigned char *data, size_t seen) {
    size_t searched = seen < LONGEST_INLINE ? seen : LONGEST_INLINE;
    const unsigned char *end = memchr(data + state->at, '\n', searched - (size_t)state->at);
    if (!end) {
        state->at = searched;
        if (searched == LONGEST_INLINE)
            return sv_frame_violation(SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE, "inline command over 64 KiB");
        return sv_frame_more();
    }
    size_t length = (size_t)(end - data) + 1;
    bool is_empty = length == 1 || (length == 2 && data[0] == '\r');
    return is_empty ? sv_frame_skip(length) : sv_frame_packet(length);
}

/* A bulk whose length line is `line` long; PACKET with the element's own length, or as for the command. */
static struct sv_frame read_bulk(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                 const unsigned char *data, size_t seen, const struct line *line) {
    if (line->value < 0)
        return sv_frame_malformed("bulk of negative length");
    uint64_t end = state->at + line->length + (uint64_t)line->value; /* where its CRLF begins */
    if (end + 2 > rules->max_length)
        return sv_frame_too_large();
    if (state->left == 1)
        state->total = end + 2;
    if ((end < seen && data[end] != '\r') || (end + 1 < seen && data[end + 1] != '\n'))
        return sv_frame_malformed("bulk without CRLF at its end");
    return seen >= end + 2 ? sv_frame_packet((size_t)(end + 2 - state->at)) : sv_frame_more();
}

/* The same for any element. */
static struct sv_frame read_element(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                    const unsigned char *data, size_t seen) {
    if (seen == state->at)
        return sv_frame_more();
    unsigned char kind = data[state->at];
    if (kind != '$' && kind != ':')
        return sv_frame_malformed("element that is neither a bulk nor a number");
    int64_t least = kind == '$' ? INT32_MIN : INT64_MIN, most = kind == '$' ? INT32_MAX : INT64_MAX;
    struct line line = read_number(data + state->at, seen - (size_t)state->at, least, most);
    if (line.result == LINE_MORE)
        return sv_frame_more();
    if (line.result == LINE_BAD)
        return sv_frame_malformed(kind == '$' ? "bad bulk length" : "bad number");
    return kind == '$' ? read_bulk(rules, state, data, seen, &line) : sv_frame_packet(line.length);
}

static struct sv_frame read_array(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                  const unsigned char *data, size_t seen) {
    if (state->left == 0) {
        struct line line = read_number(data, seen, INT32_MIN, INT32_MAX);
        if (line.result == LINE_MORE)
            return sv_frame_more();
        if (line.result == LINE_BAD || line.value > MOST_ELEMENTS)
            return sv_frame_malformed("bad number of elements");
        if (line.value <= 0)
            return sv_frame_skip(line.length);
        state->at = line.length;
        state->left = (uint64_t)line.value;
    }
    while (state->left > 0) {
        struct sv_frame element = read_element(rules, state, data, seen);
        if (element.result != SV_FRAME_PACKET)
            return element;
        state->at += element.length;
        state->left--;
    }
    return sv_frame_packet((size_t)state->at);
}

/* Bytes over the limit are not looked at: whether they are well-formed makes no difference. */
struct sv_frame sv_frame_redis(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                               const unsigned char *data, size_t length) {
    size_t seen = length < rules->max_length ? length : rules->max_length;
    struct sv_frame frame = data[0] == '*' ? read_array(rules, state, data, seen) : read_inline(state, data, seen);
    return frame.result == SV_FRAME_MORE && length >= rules->max_length ? sv_frame_too_large() : frame;
}
