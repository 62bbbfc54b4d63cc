/* eof.c: packets that end with a mark of 1..8 bytes (protocols.md 1.3).
 * runs in: reactors. */
#include <string.h>

#include "framing/frame.h"

static size_t smaller(size_t one, size_t other) { return one < other ? one : other; }

static const unsigned char *find_mark(const struct sv_framer_rules *rules, const unsigned char *data, size_t length) {
    return rules->eof_length == 1 ? memchr(data, rules->eof[0], length)
                                  : memmem(data, length, rules->eof, rules->eof_length);
}

static bool ends_with_mark(const struct sv_framer_rules *rules, const unsigned char *data, size_t length) {
    size_t width = rules->eof_length;
    return length >= width && memcmp(data + length - width, rules->eof, width) == 0;
}

/* Only what can belong to a packet within the limit is searched, so a late mark is no excuse in whatever pieces it comes. */
struct sv_frame sv_frame_eof_split(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                   const unsigned char *data, size_t length) {
    size_t searched = smaller(length, rules->max_length);
    const unsigned char *mark = find_mark(rules, data + state->at, searched - (size_t)state->at);
    if (mark)
        return sv_frame_packet((size_t)(mark - data) + rules->eof_length);
    if (length >= rules->max_length)
        return sv_frame_violation(SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE, "package_max_length bytes without package_eof");
    /* A mark that has come in part begins among the last bytes. */
    if (searched >= rules->eof_length)
        state->at = searched - rules->eof_length + 1;
    return sv_frame_more();
}

/* Whole packets may be followed by the beginning of one each time bytes come, so a sender of nothing but small packets can
 * reach the limit too: they go without that beginning then. No byte is looked at twice for it but that beginning's. */
static struct sv_frame cut_at_limit(const struct sv_framer_rules *rules, const unsigned char *data) {
    for (size_t end = rules->max_length; end >= rules->eof_length; end--)
        if (ends_with_mark(rules, data, end))
            return sv_frame_packet(end);
    return sv_frame_violation(SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE, "package_max_length bytes without package_eof");
}

struct sv_frame sv_frame_eof_check(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                   const unsigned char *data, size_t length) {
    (void)state; /* nothing of what came before is looked at */
    if (length <= rules->max_length && ends_with_mark(rules, data, length))
        return sv_frame_packet(length);
    if (length >= rules->max_length)
        return cut_at_limit(rules, data);
    return sv_frame_more();
}
