/* frame.h: what framers answer. Only for this folder.
 * runs in: reactors. Pure. */
#ifndef SV_FRAMING_FRAME_H
#define SV_FRAMING_FRAME_H

#include "framing/framer.h"
#include "srvlua.h"

static inline struct sv_frame sv_frame_more(void) { return (struct sv_frame){.result = SV_FRAME_MORE}; }

static inline struct sv_frame sv_frame_packet(size_t length) {
    return (struct sv_frame){.result = SV_FRAME_PACKET, .length = length};
}

static inline struct sv_frame sv_frame_skip(size_t length) {
    return (struct sv_frame){.result = SV_FRAME_SKIP, .length = length};
}

static inline struct sv_frame sv_frame_violation(int code, const char *reason) {
    return (struct sv_frame){.result = SV_FRAME_VIOLATION, .code = code, .reason = reason};
}

static inline struct sv_frame sv_frame_malformed(const char *reason) {
    return sv_frame_violation(SRVLUA_ERROR_PACKAGE_MALFORMED_DATA, reason);
}

static inline struct sv_frame sv_frame_too_large(void) {
    return sv_frame_violation(SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE, "packet over package_max_length");
}

/* The packet whose length has become known, when it has come. */
static inline struct sv_frame sv_frame_of_total(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                                                uint64_t total, size_t length) {
    if (total > rules->max_length)
        return sv_frame_too_large();
    state->total = total;
    return length >= total ? sv_frame_packet((size_t)total) : sv_frame_more();
}

#endif
