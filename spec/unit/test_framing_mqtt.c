/* MQTT control packets (protocols.md 1.6). */
#include "framing.h"

#define LIMIT (2u << 20)

static const struct sv_framer_rules rules = {.next = sv_frame_mqtt, .max_length = LIMIT};

TEST(the_examples_of_the_contract) {
    unsigned char *data = filled(131, 'p');
    put(data, "\x30\x80\x01", 3);
    CHECK(gives(&rules, BYTES("\xc0\0"), "2"));
    CHECK(gives(&rules, data, 131, "131"));
    CHECK(gives(&rules, BYTES("\x30\x03\0\1a"), "5"));
    CHECK(gives(&rules, BYTES("\x30\xff\xff\xff\xff"), "1204"));
    CHECK(gives(&rules, BYTES("\xc0\x80\0"), "3"));
    CHECK(gives(&rules, BYTES("\xc0\0\x30\x03\0\1a\xd0\0\0\x7f"), "2 5 2"));
    CHECK(gives(&rules, BYTES("\xc0\x80\x80\x80\0\xc0\0"), "5 2"));
    free(data);
}

TEST(limits) {
    struct sv_framer_rules small = {.next = sv_frame_mqtt, .max_length = 65536};
    CHECK(judge(&small, BYTES("\x30\xfc\xff\x03")) == 0); /* 4 + 65532 */
    CHECK(judge(&small, BYTES("\x30\xfd\xff\x03")) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    CHECK(judge(&small, BYTES("\x30\xff\xff\xff\x7f")) == SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE);
    CHECK(judge(&small, BYTES("\x30\xff\xff\xff")) == 0);
    CHECK(judge(&small, BYTES("\x30\xff\xff\xff\x80")) == SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    unsigned char *data = filled(65536 + 5, 'p');
    put(data, "\x30\xfc\xff\x03", 4);
    put(data + 65536, "\x30\xff\xff\xff\xff", 5);
    CHECK(gives(&small, data, 65536 + 5, "65536 1204"));
    free(data);
}

TEST(random_packets_in_any_reads) {
    uint32_t numbers = 31;
    struct stream stream = {0};
    size_t lengths[400];
    for (size_t i = 0; i < 400; i++) {
        size_t begin = stream.length, remaining = stream_random(&numbers) % (i % 40 ? 200 : 20000), rest = remaining;
        unsigned char first = (unsigned char)stream_random(&numbers);
        append(&stream, &first, 1);
        do {
            unsigned char byte = (unsigned char)(rest % 128 | (rest >= 128 ? 0x80 : 0));
            append(&stream, &byte, 1);
        } while (rest /= 128);
        unsigned char *body = filled(remaining, (int)(i % 256));
        append(&stream, body, remaining);
        free(body);
        lengths[i] = stream.length - begin;
    }
    CHECK(gives_lengths(&rules, &stream, lengths, 400));
    free(stream.data);
}
