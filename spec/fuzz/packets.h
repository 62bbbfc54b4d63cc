/* packets.h: what holds for all framers: the same packets in any reads, and each packet is one by itself. */
#ifndef SV_SPEC_FUZZ_PACKETS_H
#define SV_SPEC_FUZZ_PACKETS_H

#include "fuzz.h"
#include "stream.h"

/* The next four bytes say how long reads are, again and again. */
static inline struct stream_sizes fuzz_reads(struct fuzz_input *input) {
    struct stream_sizes reads = {.next = 0};
    for (int i = 0; i < 4; i++)
        reads.sizes[i] = fuzz_byte(input) % 64;
    return reads;
}

static inline const char *fuzz_each_packet(const struct sv_framer_rules *rules, const uint8_t *data, size_t size) {
    struct stream_end end = stream_read(rules, data, size, stream_at_once, NULL);
    const char *fault = end.fault;
    for (size_t i = 0; !fault && i < end.count; i++) {
        struct sv_framer_state state = {0};
        struct sv_frame frame = stream_ask(rules, &state, data + end.events[i].begin, end.events[i].length);
        if (frame.result != end.events[i].result || frame.length != end.events[i].length)
            fault = "a packet that is another one by itself";
    }
    stream_free(&end);
    return fault;
}

static inline const char *fuzz_packets(const struct sv_framer_rules *rules, struct fuzz_input input,
                                       struct stream_sizes *reads) {
    const char *fault = stream_compare(rules, input.data, input.size, stream_by_bytes, NULL);
    if (!fault)
        fault = stream_compare(rules, input.data, input.size, stream_by_sizes, reads);
    /* A function may have looked at more than it calls a packet. */
    return fault || rules->next == sv_frame_function ? fault : fuzz_each_packet(rules, input.data, input.size);
}

#endif
