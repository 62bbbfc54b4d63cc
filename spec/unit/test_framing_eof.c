/* Packets that end with a mark: split and check (protocols.md 1.3). */
#include "framing.h"

#define LIMIT 65536u

static struct sv_framer_rules rules_of(sv_framer next, const char *mark, size_t length) {
    struct sv_framer_rules rules = {.next = next, .max_length = LIMIT, .eof_length = (uint8_t)length};
    memcpy(rules.eof, mark, length);
    return rules;
}

#define SPLIT(mark) rules_of(sv_frame_eof_split, (mark), sizeof(mark) - 1)
#define CHECKED(mark) rules_of(sv_frame_eof_check, (mark), sizeof(mark) - 1)

TEST(splits_at_each_mark) {
    struct sv_framer_rules crlf = SPLIT("\r\n"), zeros = SPLIT("\0\0"), semicolon = SPLIT(";"), eight = SPLIT("12345678");
    CHECK(gives(&crlf, BYTES("a\r\nb\r\n"), "3 3"));
    CHECK(gives(&crlf, BYTES("\r\n\r\n"), "2 2"));
    CHECK(gives(&crlf, BYTES("a\r\nbb\r\n\r\nrest"), "3 4 2"));
    CHECK(gives(&crlf, BYTES("x"), ""));
    CHECK(gives(&crlf, BYTES("\r\r\n\n\r\n"), "3 3"));
    CHECK(gives(&zeros, BYTES("a\0b\0\0"), "5"));
    CHECK(gives(&zeros, BYTES("a\0b\0\0\0c\0\0"), "5 4"));
    CHECK(gives(&semicolon, BYTES(";a;;"), "1 2 1"));
    CHECK(gives(&eight, BYTES("1234567 12345678x1231234567812345678"), "16 12 8"));
}

TEST(marks_with_false_starts) {
    struct sv_framer_rules twice = SPLIT("\r\n\r\n"), same = SPLIT("aa"), mixed = SPLIT("aab");
    CHECK(gives(&twice, BYTES("x\r\n\ry\r\r\n\r\nz\r\n\r\n"), "10 5"));
    CHECK(gives(&twice, BYTES("\r\n\r\n\r\n"), "4"));
    CHECK(gives(&same, BYTES("aaab"), "2"));
    CHECK(gives(&same, BYTES("aaabaa"), "2 4"));
    CHECK(gives(&mixed, BYTES("aaabaaaab"), "4 5"));
}

TEST(split_limit_counts_the_mark_and_each_packet) {
    struct sv_framer_rules rules = SPLIT("\r\n");
    unsigned char *data = filled(2 * LIMIT + 2, 'x');
    put(data + LIMIT - 2, "\r\n", 2);
    put(data + 2 * LIMIT - 2, "\r\n", 2);
    CHECK(gives(&rules, data, 2 * LIMIT, "65536 65536"));
    data[LIMIT - 2] = 'x';
    put(data + LIMIT - 1, "\r\n", 2); /* one byte late, and there in the same read */
    CHECK(gives(&rules, data, 2 * LIMIT, "1201"));
    memset(data, 'x', LIMIT);
    CHECK(judge(&rules, data, LIMIT - 1) == 0);
    CHECK(judge(&rules, data, LIMIT) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    put(data, "a\r\nb\r\n", 6);
    CHECK(gives(&rules, data, LIMIT + 5, "3 3"));
    CHECK(gives(&rules, data, LIMIT + 6, "3 3 1201"));
    free(data);
}

TEST(split_never_looks_at_a_byte_again_but_for_a_mark_that_is_cut) {
    const char *marks[] = {"\n", "\r\n", "\r\n\r\n", "abcdefgh"};
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        size_t width = strlen(marks[i]);
        struct sv_framer_rules rules = rules_of(sv_frame_eof_split, marks[i], width);
        unsigned char *data = filled(LIMIT - 1, '\r');
        CHECK(bytes_looked_at(&rules, data, LIMIT - 1) <= (uint64_t)width * LIMIT);
        free(data);
    }
}

TEST(random_packets_in_any_reads) {
    const char *marks[] = {"\n", "\r\n", "\r\n\r\n", "aab", "\1\2\3\4\5\6\7\10"};
    uint32_t numbers = 4711;
    for (size_t i = 0; i < sizeof marks / sizeof marks[0]; i++) {
        struct sv_framer_rules rules = rules_of(sv_frame_eof_split, marks[i], strlen(marks[i]));
        struct stream stream = {0};
        size_t lengths[300];
        for (size_t k = 0; k < 300; k++) {
            size_t begin = stream.length, body = stream_random(&numbers) % (k % 50 ? 40 : 4000);
            for (size_t b = 0; b < body; b++) {
                /* Parts of the mark, but not its last byte, which then ends the packet. */
                unsigned char byte = (unsigned char)marks[i][stream_random(&numbers) % strlen(marks[i])];
                append(&stream, byte == rules.eof[rules.eof_length - 1] ? "x" : (char *)&byte, 1);
            }
            append(&stream, rules.eof, rules.eof_length);
            lengths[k] = stream.length - begin;
        }
        CHECK(gives_lengths(&rules, &stream, lengths, 300));
        free(stream.data);
    }
}

/* ------------------------------------------------------------------------------------------------------- check */

/* The events of a check depend on the reads; that each ends with the mark, and what they are together, does not. */
static bool checks(const struct sv_framer_rules *rules, const unsigned char *data, size_t length, stream_reads reads,
                   void *context, size_t used, int code) {
    struct stream_end end = stream_read(rules, data, length, reads, context);
    bool is_right = !end.fault && end.code == code && end.used == used;
    for (size_t i = 0; is_right && i < end.count; i++) {
        size_t after = end.events[i].begin + end.events[i].length;
        is_right = end.events[i].length >= rules->eof_length &&
                   memcmp(data + after - rules->eof_length, rules->eof, rules->eof_length) == 0;
    }
    stream_free(&end);
    return is_right;
}

static bool checks_all(const struct sv_framer_rules *rules, const unsigned char *data, size_t length, size_t used, int code) {
    bool is_right = checks(rules, data, length, stream_at_once, NULL, used, code) &&
                    checks(rules, data, length, stream_by_bytes, NULL, used, code);
    for (uint32_t seed = 1; is_right && seed <= RANDOM_CUTS; seed++) {
        uint32_t numbers = seed * 2654435761u;
        is_right = checks(rules, data, length, stream_at_random, &numbers, used, code);
    }
    return is_right;
}

static size_t read_of(void *context) { return *(*(size_t **)context)++; }

/* The lengths of the events when the reads are as long as `reads` says. */
static bool gives_in_reads(const struct sv_framer_rules *rules, const unsigned char *data, size_t length, size_t *reads,
                           const char *expected) {
    char text[256];
    struct stream_end end = stream_read(rules, data, length, read_of, &reads);
    describe(&end, text, sizeof text);
    stream_free(&end);
    return !end.fault && strcmp(text, expected) == 0;
}

TEST(check_delivers_when_the_end_is_the_mark) {
    struct sv_framer_rules crlf = CHECKED("\r\n"), zeros = CHECKED("\0\0");
    CHECK(gives_in_reads(&crlf, BYTES("a\r\nb\r\n"), (size_t[]){6}, "6"));
    CHECK(gives_in_reads(&crlf, BYTES("a\r\nb\r\n"), (size_t[]){2, 2, 2}, "6"));
    CHECK(gives_in_reads(&crlf, BYTES("a\r\nb\r\n"), (size_t[]){3, 3}, "3 3"));
    CHECK(gives_in_reads(&crlf, BYTES("\r\n\r\n"), (size_t[]){4}, "4"));
    CHECK(gives_in_reads(&crlf, BYTES("a\r\nb\r\nc"), (size_t[]){7}, ""));
    CHECK(gives_in_reads(&crlf, BYTES("x"), (size_t[]){1}, ""));
    CHECK(gives_in_reads(&zeros, BYTES("a\0b\0\0"), (size_t[]){2, 3}, "5"));
    CHECK(checks_all(&crlf, BYTES("one\r\ntwo\r\nthree\r\n"), 17, 0));
}

TEST(check_limit) {
    struct sv_framer_rules rules = CHECKED("\r\n");
    unsigned char *data = filled(2 * LIMIT, 'x');
    CHECK(judge(&rules, data, LIMIT - 1) == 0);
    CHECK(judge(&rules, data, LIMIT) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    CHECK(checks_all(&rules, data, LIMIT, 0, SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE));
    put(data + LIMIT - 2, "\r\n", 2);
    CHECK(checks_all(&rules, data, LIMIT, LIMIT, 0));
    CHECK(checks_all(&rules, data, LIMIT + 7, LIMIT, 0)); /* also when more has come with it */
    put(data + LIMIT - 2, "x\r\n", 3);
    CHECK(checks_all(&rules, data, LIMIT + 1, 0, SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE));
    free(data);
}

TEST(check_lets_small_packets_pass_whose_reads_never_end_with_the_mark) {
    struct sv_framer_rules rules = CHECKED("\r\n");
    struct stream stream = {0};
    for (int i = 0; i < 20000; i++)
        append(&stream, "GET key:1\r\n", 11);
    size_t reads[] = {1003, 65536, 65536, 65536, 20000, SIZE_MAX};
    size_t *next = reads;
    CHECK(checks(&rules, stream.data, stream.length, read_of, &next, stream.length, 0));
    CHECK(checks_all(&rules, stream.data, stream.length, stream.length, 0));
    free(stream.data);
}
