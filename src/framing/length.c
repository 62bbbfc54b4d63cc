/* length.c: packets with a length field, or whose length a function of the application tells (protocols.md 1.4, 1.5).
 * runs in: reactors. */
#include <string.h>

#include "framing/frame.h"

enum order { HOST_SIGNED, HOST_UNSIGNED, BIG_ENDIAN_UNSIGNED, LITTLE_ENDIAN_UNSIGNED };

struct letter {
    char name;
    uint8_t width;
    uint8_t order;
};

static const struct letter letters[] = {
    {'c', 1, HOST_SIGNED},            {'C', 1, HOST_UNSIGNED},       {'s', 2, HOST_SIGNED},
    {'S', 2, HOST_UNSIGNED},          {'n', 2, BIG_ENDIAN_UNSIGNED}, {'v', 2, LITTLE_ENDIAN_UNSIGNED},
    {'l', 4, HOST_SIGNED},            {'L', 4, HOST_UNSIGNED},       {'N', 4, BIG_ENDIAN_UNSIGNED},
    {'V', 4, LITTLE_ENDIAN_UNSIGNED}, {'q', 8, HOST_SIGNED},         {'Q', 8, HOST_UNSIGNED},
    {'J', 8, BIG_ENDIAN_UNSIGNED},    {'P', 8, LITTLE_ENDIAN_UNSIGNED},
};

static const struct letter *find_letter(char name) {
    for (size_t i = 0; i < sizeof letters / sizeof letters[0]; i++)
        if (letters[i].name == name)
            return &letters[i];
    return NULL;
}

unsigned sv_length_width(char letter) {
    const struct letter *found = find_letter(letter);
    return found ? found->width : 0;
}

static uint64_t bytes_in_order(const unsigned char *field, unsigned width, bool is_big_endian) {
    uint64_t value = 0;
    for (unsigned i = 0; i < width; i++)
        value = value << 8 | field[is_big_endian ? i : width - 1 - i];
    return value;
}

/* Values that are negative, or above INT64_MAX, come out negative. */
static int64_t read_field(const struct letter *letter, const unsigned char *field) {
    const bool host_is_big_endian = __BYTE_ORDER__ == __ORDER_BIG_ENDIAN__;
    bool is_big_endian = letter->order == BIG_ENDIAN_UNSIGNED ||
                         (letter->order != LITTLE_ENDIAN_UNSIGNED && host_is_big_endian);
    uint64_t value = bytes_in_order(field, letter->width, is_big_endian);
    switch (letter->order == HOST_SIGNED ? letter->width : 8) {
    case 1: return (int8_t)value;
    case 2: return (int16_t)value;
    case 4: return (int32_t)value;
    default: return (int64_t)value;
    }
}

struct sv_frame sv_frame_length(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                const unsigned char *data, size_t length) {
    if (state->total)
        return sv_frame_of_total(rules, state, state->total, length);
    const struct letter *letter = find_letter(rules->length_type);
    if (!letter) /* settings let none through */
        return sv_frame_malformed("unknown package_length_type");
    size_t header = (size_t)rules->length_offset + letter->width;
    if (length < header)
        return sv_frame_more();
    state->at = header;
    int64_t value = read_field(letter, data + rules->length_offset);
    if (value < 0)
        return sv_frame_malformed("negative or impossible length");
    uint64_t total = (uint64_t)value + rules->body_offset;
    if (total == 0)
        return sv_frame_violation(SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND, "packet of length 0");
    if (total < header)
        return sv_frame_malformed("packet shorter than its header");
    return sv_frame_of_total(rules, state, total, length);
}

struct sv_frame sv_frame_function(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                  const unsigned char *data, size_t length) {
    if (state->total)
        return sv_frame_of_total(rules, state, state->total, length);
    size_t most = rules->max_length < SV_LENGTH_FUNCTION_SEES ? rules->max_length : SV_LENGTH_FUNCTION_SEES;
    size_t seen = length < most ? length : most;
    const char *reason = "package_length_func refuses the packet";
    int64_t total = rules->length_function(rules->length_context, data, seen, &reason);
    if (total < 0)
        return sv_frame_malformed(reason);
    if (total > 0)
        return sv_frame_of_total(rules, state, (uint64_t)total, length);
    if (seen == most)
        return sv_frame_violation(SRVLUA_ERROR_PACKAGE_LENGTH_NOT_FOUND, "package_length_func finds no length");
    return sv_frame_more();
}
