/* The PROXY header, versions 1 and 2 (protocols.md 4). */
#include <arpa/inet.h>
#include <stdlib.h>
#include <string.h>

#include "framing/proxy.h"
#include "unit.h"

#define BYTES(text) (const unsigned char *)(text), sizeof(text) - 1
#define SIGNATURE "\r\n\r\n\0\r\nQUIT\n"

/* Of bytes at an end of allocated memory, so that a sanitizer sees a look beyond them. */
static int parse(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    unsigned char *copy = malloc(length ? length : 1);
    memcpy(copy, data, length);
    int more = sv_proxy_parse(copy, length, header, reason);
    free(copy);
    return more;
}

/* Reads as a reactor does, never more than it is told; the bytes that were read then, or -1 as the parser. */
static int read_header(const unsigned char *data, size_t length, struct sv_proxy_header *header) {
    const char *reason = NULL;
    size_t have = 0;
    for (;;) {
        int more = parse(data, have, header, &reason);
        if (more < 0)
            return CHECK(reason != NULL) ? -1 : -2;
        if (more == 0)
            return CHECK(header->length == have) ? (int)have : -2;
        if (!CHECK(have + (size_t)more <= length))
            return -2;
        have += (size_t)more;
    }
}

/* Whether the header, with and without bytes behind it, says this; NULL: the socket's own address holds. */
static bool says(const unsigned char *data, size_t length, const char *address, int port) {
    struct sv_proxy_header header;
    const char *reason;
    unsigned char longer[1024];
    memcpy(longer, data, length);
    memcpy(longer + length, "\r\nhello", 8);
    for (size_t have = 1; have < length; have++) { /* however it is cut */
        int more = parse(data, have, &header, &reason);
        if (!CHECK(more > 0 && have + (size_t)more <= length))
            return false;
    }
    if (!CHECK(read_header(data, length, &header) == (int)length) || !CHECK(!parse(longer, length + 7, &header, &reason)))
        return false;
    if (header.length != length || (bool)header.is_proxied != (address != NULL))
        return false;
    return !address || (strcmp(header.address, address) == 0 && header.port == port &&
                        header.family == (strchr(address, ':') ? AF_INET6 : AF_INET));
}

/* Whether these bytes are refused with the last of them, and not before. */
static bool ends_with_mistake(const unsigned char *data, size_t length) {
    struct sv_proxy_header header;
    const char *reason = NULL;
    for (size_t have = 0; have < length; have++)
        if (parse(data, have, &header, &reason) <= 0) {
            fprintf(stderr, "judged at byte %zu: %.*s\n", have, (int)length, (const char *)data);
            return false;
        }
    return parse(data, length, &header, &reason) == -1 && reason;
}

static bool text_ends_with_mistake(const char *text) {
    return ends_with_mistake((const unsigned char *)text, strlen(text));
}

/* ----------------------------------------------------------------------------------------------------- version 1 */

TEST(text) {
    CHECK(says(BYTES("PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n"), "192.0.2.7", 56324));
    CHECK(says(BYTES("PROXY TCP4 0.0.0.0 0.0.0.0 0 0\r\n"), "0.0.0.0", 0));
    CHECK(says(BYTES("PROXY TCP4 255.255.255.255 255.255.255.255 65535 65535\r\n"), "255.255.255.255", 65535));
    CHECK(says(BYTES("PROXY TCP6 2001:db8::7 2001:db8::1 56324 443\r\n"), "2001:db8::7", 56324));
    CHECK(says(BYTES("PROXY TCP6 :: ::1 1 2\r\n"), "::", 1));
    CHECK(says(BYTES("PROXY TCP6 2001:0DB8:0:0:0:0:0:7 1:2:3:4:5:6:7:: 5 6\r\n"), "2001:db8::7", 5));
    CHECK(says(BYTES("PROXY TCP6 ::ffff:192.0.2.7 1:2:3:4:5:6:192.0.2.7 5 6\r\n"), "::ffff:192.0.2.7", 5));
    CHECK(says(BYTES("PROXY TCP6 ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
               "ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff", 65535));
}

TEST(unknown_text) {
    CHECK(says(BYTES("PROXY UNKNOWN\r\n"), NULL, 0));
    CHECK(says(BYTES("PROXY UNKNOWN anything  else\t1\r\n"), NULL, 0));
    CHECK(says(BYTES("PROXY UNKNOWN ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff ffff:ffff:ffff:ffff:ffff:ffff:ffff:ffff 65535 65535\r\n"),
               NULL, 0)); /* 107 bytes */
    CHECK(text_ends_with_mistake("PROXY UNKNOWNx"));
    CHECK(text_ends_with_mistake("PROXY UNKNOWN\n"));
    CHECK(text_ends_with_mistake("PROXY UNKNOWN a\n"));
    CHECK(text_ends_with_mistake("PROXY UNKNOWN a\rb"));
    CHECK(ends_with_mistake(BYTES("PROXY UNKNOWN a\0")));
}

TEST(no_header) {
    CHECK(text_ends_with_mistake("G"));
    CHECK(text_ends_with_mistake("p"));
    CHECK(text_ends_with_mistake("PROXy"));
    CHECK(text_ends_with_mistake("PROXY  "));
    CHECK(text_ends_with_mistake("PROXY TCP5"));
    CHECK(text_ends_with_mistake("PROXY UD"));
    CHECK(text_ends_with_mistake("PROXY TCP4\r"));
    CHECK(text_ends_with_mistake("\r\n\n"));
    CHECK(ends_with_mistake(BYTES("\0")));
}

TEST(malformed_text) {
    CHECK(text_ends_with_mistake("PROXY TCP4  "));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4  "));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4  "));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1 2 "));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3 "));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4."));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.256"));
    CHECK(text_ends_with_mistake("PROXY TCP4 01"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4\r"));
    CHECK(text_ends_with_mistake("PROXY TCP4 :"));
    CHECK(text_ends_with_mistake("PROXY TCP4 a"));
    CHECK(ends_with_mistake(BYTES("PROXY TCP4 1.2.3.4\0")));
    CHECK(text_ends_with_mistake("PROXY TCP6 1."));
    CHECK(text_ends_with_mistake("PROXY TCP6 12345"));
    CHECK(text_ends_with_mistake("PROXY TCP6 1::2::"));
    CHECK(text_ends_with_mistake("PROXY TCP6 1:2:3:4:5:6:7:8:"));
    CHECK(text_ends_with_mistake("PROXY TCP6 1:2:3:4:5:6:7 "));
    CHECK(text_ends_with_mistake("PROXY TCP6 :1"));
    CHECK(text_ends_with_mistake("PROXY TCP6 1: "));
    CHECK(text_ends_with_mistake("PROXY TCP6 fe80::1%"));
    CHECK(text_ends_with_mistake("PROXY TCP6 ::ffff:1.2.3.4."));
    CHECK(text_ends_with_mistake("PROXY TCP6 ::1 1.")); /* the destination, too */
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 00"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 65536"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1234 +"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1 -"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1 99999"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1 \r"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\n"));
    CHECK(text_ends_with_mistake("PROXY TCP4 1.2.3.4 1.2.3.4 1 2\r\r"));
}

TEST(too_long_text) {
    char text[200];
    memcpy(text, "PROXY UNKNOWN ", 15);
    memset(text + 14, 'x', sizeof text - 14);
    CHECK(ends_with_mistake((unsigned char *)text, 106)); /* an end of line would make it 108 */
    text[105] = '\r';
    CHECK(!ends_with_mistake((unsigned char *)text, 106));
    CHECK(ends_with_mistake((unsigned char *)text, 107)); /* xx..x CR x */
    text[106] = '\n';
    CHECK(says((unsigned char *)text, 107, NULL, 0));
    CHECK(text_ends_with_mistake("PROXY TCP4 1111"));
    struct sv_proxy_header header;
    const char *reason = NULL;
    for (size_t width = 45; width < 60; width++) { /* seen at once */
        memcpy(text, "PROXY TCP6 ", 12);
        memset(text + 11, '0', width);
        CHECK(parse((unsigned char *)text, 11 + width, &header, &reason) == -1);
    }
}

TEST(never_reads_beyond_a_text_and_not_byte_by_byte) {
    static const char header[] = "PROXY TCP4 192.0.2.7 198.51.100.1 56324 443\r\n";
    struct sv_proxy_header parsed;
    const char *reason;
    size_t have = 0;
    int reads = 0, more;
    for (; (more = parse((const unsigned char *)header, have, &parsed, &reason)) > 0; reads++)
        have += (size_t)more;
    CHECK(more == 0 && have == strlen(header) && reads <= 8);
}

/* ----------------------------------------------------------------------------------------------------- version 2 */

#define FOUR "\xc0\x00\x02\x07\xc6\x33\x64\x01\xdc\x04\x01\xbb"
#define SIX                                                                                                            \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x07"                                                                       \
    "\x20\x01\x0d\xb8\0\0\0\0\0\0\0\0\0\0\0\x01\0\x05\x01\xbb"

struct block {
    unsigned char data[SV_PROXY_HEADER_MAX + 64];
    size_t length;
};

static struct block block_of(int command, int family, const unsigned char *addresses, size_t length) {
    struct block block = {.length = 16 + length};
    memcpy(block.data, SIGNATURE, 12);
    block.data[12] = (unsigned char)command;
    block.data[13] = (unsigned char)family;
    block.data[14] = (unsigned char)(length >> 8);
    block.data[15] = (unsigned char)length;
    memcpy(block.data + 16, addresses, length);
    return block;
}

static bool block_says(int command, int family, const unsigned char *addresses, size_t length, const char *address, int port) {
    struct block block = block_of(command, family, addresses, length);
    return says(block.data, block.length, address, port);
}

static bool is_refused(int command, int family, const unsigned char *addresses, size_t length) {
    struct block block = block_of(command, family, addresses, length);
    struct sv_proxy_header header;
    return read_header(block.data, block.length, &header) == -1;
}

TEST(binary) {
    static const unsigned char zeros[SV_PROXY_HEADER_MAX];
    CHECK(block_says(0x21, 0x11, BYTES(FOUR), "192.0.2.7", 56324));
    CHECK(block_says(0x21, 0x21, BYTES(SIX), "2001:db8::7", 5));
    CHECK(block_says(0x21, 0x11, BYTES(FOUR "\x04\0\2ab"), "192.0.2.7", 56324));
    CHECK(block_says(0x21, 0x21, BYTES(SIX "\x04\0\0\xe0\0\1x"), "2001:db8::7", 5));
    CHECK(block_says(0x21, 0x31, zeros, 216, NULL, 0));
    CHECK(block_says(0x21, 0x00, zeros, 0, NULL, 0));
    CHECK(block_says(0x21, 0x00, BYTES("what ever"), NULL, 0));
    CHECK(block_says(0x21, 0x12, BYTES(FOUR), NULL, 0)); /* datagrams, and families that nobody has */
    CHECK(block_says(0x21, 0xff, BYTES("x"), NULL, 0));
    CHECK(block_says(0x20, 0x00, zeros, 0, NULL, 0));
    CHECK(block_says(0x20, 0x11, zeros, 12, NULL, 0));
    CHECK(block_says(0x20, 0x11, BYTES("short"), NULL, 0));
    CHECK(block_says(0x20, 0x00, zeros, SV_PROXY_HEADER_MAX - 16, NULL, 0));
}

TEST(malformed_binary) {
    static const unsigned char zeros[SV_PROXY_HEADER_MAX];
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x22")));
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x31")));
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x11")));
    CHECK(ends_with_mistake(BYTES("\r\n\r\n\0\r\nQUIT\r")));
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x21\x11\0\x0b"))); /* before the addresses come */
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x21\x21\0\x23")));
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x21\x31\0\xd7")));
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x20\x00\x02\x09")));
    CHECK(ends_with_mistake(BYTES(SIGNATURE "\x20\x00\x03")));
    CHECK(is_refused(0x21, 0x11, zeros, 11));
    CHECK(is_refused(0x21, 0x11, BYTES(FOUR "\x04\0")));
    CHECK(is_refused(0x21, 0x11, BYTES(FOUR "\x04\0\1")));
    CHECK(is_refused(0x21, 0x11, BYTES(FOUR "\x04\xff\xff" "ab")));
}

/* The check value of CRC32C, "123456789" -> e3069283, and what follows from it for headers (bit by bit, high bit first). */
static uint32_t crc32c(const unsigned char *data, size_t length) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++)
        for (int bit = 0; bit < 8; bit++) {
            uint32_t high = crc >> 31 ^ (data[i] >> bit & 1u);
            crc = crc << 1 ^ (high ? 0x1edc6f41u : 0);
        }
    uint32_t reflected = 0;
    for (int bit = 0; bit < 32; bit++)
        reflected |= (crc >> bit & 1u) << (31 - bit);
    return ~reflected;
}

TEST(checksums) {
    CHECK(crc32c(BYTES("123456789")) == 0xe3069283u);
    struct block block = block_of(0x21, 0x11, BYTES(FOUR "\x03\0\4\0\0\0\0\x04\0\2ab"));
    const size_t at = 16 + 12 + 3;
    uint32_t sum = htonl(crc32c(block.data, block.length));
    memcpy(block.data + at, &sum, 4);
    CHECK(says(block.data, block.length, "192.0.2.7", 56324));
    struct sv_proxy_header header;
    block.data[at + 3] ^= 1;
    CHECK(read_header(block.data, block.length, &header) == -1);
    block.data[at + 3] ^= 1;
    block.data[17] ^= 1;
    CHECK(read_header(block.data, block.length, &header) == -1);
    CHECK(is_refused(0x21, 0x11, BYTES(FOUR "\x03\0\3\0\0\0")));
    CHECK(block_says(0x20, 0x11, BYTES(FOUR "\x03\0\4\0\0\0\0"), NULL, 0)); /* LOCAL: the block is skipped */
}
