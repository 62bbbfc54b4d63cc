/* mqtt.c: control packets. Input: limit, reads, stream. */
#include "packets.h"

const char *fuzz_mqtt(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct sv_framer_rules rules = {.next = sv_frame_mqtt, .max_length = 8u + 2u * fuzz_byte(&input)};
    struct stream_sizes reads = fuzz_reads(&input);
    return fuzz_packets(&rules, input, &reads);
}
