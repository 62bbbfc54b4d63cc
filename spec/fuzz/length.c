/* length.c: a length field, or a function. Input: letter, offsets, limit, reads, stream. */
#include "packets.h"

/* Digits and `:`, as far as the function may look; also lengths below what it saw, and reasons of its own. */
static int64_t netstring(void *context, const unsigned char *data, size_t length, const char **reason) {
    (void)context;
    int64_t value = 0;
    for (size_t i = 0; i < length; i++) {
        if (data[i] == ':')
            return value + 1;
        if (data[i] == '!')
            *reason = "exclamation";
        if (data[i] < '0' || data[i] > '9' || value > 100000)
            return data[i] == '?' ? INT64_MIN : -1;
        value = value * 10 + data[i] - '0';
    }
    return 0;
}

const char *fuzz_length(const uint8_t *data, size_t size) {
    static const char letters[] = "cCsSnvlLNVqQJP";
    struct fuzz_input input = {data, size};
    uint8_t kind = fuzz_byte(&input);
    struct sv_framer_rules rules = {.next = kind & 16 ? sv_frame_function : sv_frame_length,
                                    .length_type = letters[kind % 16 % (sizeof letters - 1)],
                                    .length_offset = fuzz_byte(&input) % 24,
                                    .body_offset = fuzz_byte(&input) % 48,
                                    .length_function = netstring};
    rules.max_length = 32u + 2u * fuzz_byte(&input); /* no less than a header */
    struct stream_sizes reads = fuzz_reads(&input);
    return fuzz_packets(&rules, input, &reads);
}
