/* eof.c: split and check. Input: kind and length of the mark, limit, the mark, reads, stream. */
#include "packets.h"

/* Packets of a check depend on the reads: they end with the mark, and only what has none is refused. */
static const char *check(const struct sv_framer_rules *rules, struct fuzz_input stream, stream_reads reads, void *context) {
    struct stream_end end = stream_read(rules, stream.data, stream.size, reads, context);
    const char *fault = end.fault;
    for (size_t i = 0; !fault && i < end.count; i++) {
        size_t after = end.events[i].begin + end.events[i].length;
        if (end.events[i].length < rules->eof_length ||
            memcmp(stream.data + after - rules->eof_length, rules->eof, rules->eof_length) != 0)
            fault = "a packet that does not end with the mark";
    }
    if (!fault && end.code && end.code != SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE)
        fault = "a violation other than that of the limit";
    if (!fault && end.code && stream.size - end.used >= rules->max_length &&
        memmem(stream.data + end.used, rules->max_length, rules->eof, rules->eof_length))
        fault = "a violation although there is a mark";
    stream_free(&end);
    return fault;
}

/* The packets of a split, by a search from each packet's beginning. */
static const char *compare_with_search(const struct sv_framer_rules *rules, struct fuzz_input stream) {
    struct stream_end end = stream_read(rules, stream.data, stream.size, stream_at_once, NULL);
    const char *fault = NULL;
    size_t at = 0, i = 0;
    for (const uint8_t *mark; !fault && (mark = memmem(stream.data + at, stream.size - at, rules->eof, rules->eof_length)); i++) {
        size_t length = (size_t)(mark - stream.data) + rules->eof_length - at;
        if (length > rules->max_length)
            break;
        if (i >= end.count || end.events[i].begin != at || end.events[i].length != length)
            fault = "not the packet that ends with the first mark";
        at += length;
    }
    if (!fault && (i != end.count || (end.code != 0) != (stream.size - at >= rules->max_length)))
        fault = "too many packets, or a violation in the wrong place";
    stream_free(&end);
    return fault;
}

const char *fuzz_eof(const uint8_t *data, size_t size) {
    struct fuzz_input input = {data, size};
    uint8_t kind = fuzz_byte(&input);
    struct sv_framer_rules rules = {.next = kind & 8 ? sv_frame_eof_check : sv_frame_eof_split,
                                    .max_length = 8u + fuzz_byte(&input),
                                    .eof_length = (uint8_t)(1 + kind % 8)};
    for (uint8_t i = 0; i < rules.eof_length; i++)
        rules.eof[i] = fuzz_byte(&input);
    struct stream_sizes reads = fuzz_reads(&input);
    const char *fault = NULL;
    if (kind & 8) {
        fault = check(&rules, input, stream_by_bytes, NULL);
        fault = fault ? fault : check(&rules, input, stream_by_sizes, &reads);
        return fault ? fault : check(&rules, input, stream_at_once, NULL);
    }
    fault = fuzz_packets(&rules, input, &reads);
    return fault ? fault : compare_with_search(&rules, input);
}
