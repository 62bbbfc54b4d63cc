/* redis.c: commands. Input: limit, reads, stream. */
#include "packets.h"

/* A reader of its own, of what the framer called a command: all of it belongs to the command, and nothing is missing. */
static const char *read_command(const uint8_t *data, size_t length) {
    if (data[0] != '*')
        return memchr(data, '\n', length) == data + length - 1 ? NULL : "an inline command that is not a line";
    size_t at = 1;
    long elements = strtol((const char *)data + at, NULL, 10);
    const uint8_t *line = memchr(data, '\n', length);
    at = (size_t)(line - data) + 1;
    for (; elements > 0; elements--) {
        if (at + 3 >= length || !(line = memchr(data + at, '\n', length - at)))
            return "elements are missing";
        size_t bulk = data[at] == '$' ? strtoul((const char *)data + at + 1, NULL, 10) + 2 : 0;
        at = (size_t)(line - data) + 1 + bulk;
        if (at > length || data[at - 1] != '\n' || data[at - 2] != '\r')
            return "an element that ends otherwise";
    }
    return at == length ? NULL : "a command with more than its elements";
}

const char *fuzz_redis(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    struct sv_framer_rules rules = {.next = sv_frame_redis, .max_length = 16u + 2u * fuzz_byte(&input)};
    struct stream_sizes reads = fuzz_reads(&input);
    const char *fault = fuzz_packets(&rules, input, &reads);
    struct stream_end end = stream_read(&rules, input.data, input.size, stream_at_once, NULL);
    for (size_t i = 0; !fault && i < end.count; i++)
        if (end.events[i].result == SV_FRAME_PACKET)
            fault = read_command(input.data + end.events[i].begin, end.events[i].length);
    stream_free(&end);
    return fault;
}
