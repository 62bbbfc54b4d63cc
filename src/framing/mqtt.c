/* mqtt.c: MQTT control packets (protocols.md 1.6): a byte, the remaining length in 1..4 bytes of 7 bits, that many bytes.
 * runs in: reactors. */
#include "framing/frame.h"

#define MOST_LENGTH_BYTES 4

struct sv_frame sv_frame_mqtt(const struct sv_framer_rules *rules, struct sv_framer_state *state,
                              const unsigned char *data, size_t length) {
    if (state->total)
        return sv_frame_of_total(rules, state, state->total, length);
    uint64_t remaining = 0;
    for (size_t i = 1; i <= MOST_LENGTH_BYTES && i < length; i++) {
        remaining |= (uint64_t)(data[i] & 0x7f) << (7 * (i - 1));
        if (data[i] < 0x80) {
            state->at = i + 1;
            return sv_frame_of_total(rules, state, i + 1 + remaining, length);
        }
    }
    if (length > MOST_LENGTH_BYTES)
        return sv_frame_malformed("remaining length of more than four bytes");
    return sv_frame_more();
}
