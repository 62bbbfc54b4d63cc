/* proxy.c: see proxy.h. Both versions as haproxy's specification has them: refused with the first byte that cannot be right.
 * runs in: reactors. */
#include "framing/proxy.h"

#include <arpa/inet.h>
#include <stdbool.h>
#include <string.h>

static size_t smaller(size_t one, size_t other) { return one < other ? one : other; }

/* Whether `data` begins with `word`, as far as both go. */
static bool agrees(const unsigned char *data, size_t length, const void *word, size_t word_length) {
    return memcmp(data, word, smaller(length, word_length)) == 0;
}

static int refuse(const char **reason, const char *text) {
    *reason = text;
    return -1;
}

/* ------------------------------------------------------------------------------------------------ version 1, text
 *
 *   PROXY UNKNOWN [anything] CRLF
 *   PROXY TCP4|TCP6 source destination source-port destination-port CRLF     one space between two */

#define TEXT_MAX 107
#define TEXT_MIN 15 /* PROXY UNKNOWN, CRLF */
#define TCP6_MIN 22 /* PROXY TCP6 :: :: 0 0, CRLF */
#define FIELDS_AT 11
#define FIELD_MAX (SV_PROXY_TEXT_SIZE - 1)

enum { SOURCE, DESTINATION, SOURCE_PORT, DESTINATION_PORT, FIELDS };

/* inet_pton() alone says what an address is. What is none yet can become one if one of these, the shortest first, makes it
 * one: each state that an unfinished address can be in has its end here. */
static const char *const ends[] = {"", "0", ":", "::", ".0", "0.0", ".0.0", "0.0.0", ".0.0.0", "0.0.0.0"};

static bool is_address(int family, const unsigned char *text, size_t length, const char *end, void *address) {
    char copy[FIELD_MAX + sizeof "0.0.0.0"];
    memcpy(copy, text, length);
    memcpy(copy + length, end, strlen(end) + 1);
    return memchr(text, '\0', length) == NULL && inet_pton(family, copy, address) == 1;
}

/* The least number of bytes that make it an address, -1: none do. */
static int missing_of_address(int family, const unsigned char *text, size_t length) {
    struct in6_addr address;
    for (size_t i = 0; i < sizeof ends / sizeof ends[0]; i++)
        if (is_address(family, text, length, ends[i], &address))
            return (int)strlen(ends[i]);
    return -1;
}

/* Every beginning of a port is one. */
static int read_port(const unsigned char *text, size_t length) {
    int port = 0;
    if (length == 0 || length > 5 || (length > 1 && text[0] == '0'))
        return -1;
    for (size_t i = 0; i < length; i++) {
        if (text[i] < '0' || text[i] > '9')
            return -1;
        port = port * 10 + text[i] - '0';
    }
    return port <= UINT16_MAX ? port : -1;
}

static int missing_of_port(const unsigned char *text, size_t length) {
    return length == 0 ? 1 : read_port(text, length) >= 0 ? 0 : -1;
}

static bool take_field(int field, const unsigned char *text, size_t length, struct sv_proxy_header *header) {
    struct in6_addr address;
    if (field >= SOURCE_PORT) {
        int port = read_port(text, length);
        if (field == SOURCE_PORT)
            header->port = port;
        return port >= 0;
    }
    if (!is_address(header->family, text, length, "", &address))
        return false;
    if (field == SOURCE)
        inet_ntop(header->family, &address, header->address, sizeof header->address);
    return true;
}

/* A field whose end has not come: the least number of bytes until the header's end, -1: it cannot become one. */
static int missing_from(int field, int family, const unsigned char *text, size_t length) {
    const int address = (int)strlen(family == AF_INET ? "0.0.0.0" : "::");
    const int behind[FIELDS] = {address + 7, 6, 4, 2};
    int missing = field <= DESTINATION ? missing_of_address(family, text, length) : missing_of_port(text, length);
    return missing < 0 ? -1 : missing + behind[field];
}

static int parse_fields(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    size_t at = FIELDS_AT;
    for (int field = 0; field < FIELDS; field++) {
        const unsigned char *text = data + at;
        size_t most = smaller(length - at, FIELD_MAX + 1);
        const unsigned char *end = memchr(text, field == DESTINATION_PORT ? '\r' : ' ', most);
        size_t width = end ? (size_t)(end - text) : most;
        if (width > FIELD_MAX)
            return refuse(reason, "PROXY header with an address or port too long");
        int missing = end ? 0 : missing_from(field, header->family, text, width);
        if (missing < 0 || (end && !take_field(field, text, width, header)))
            return refuse(reason, field <= DESTINATION ? "PROXY header with a bad address" : "PROXY header with a bad port");
        if (!end)
            return missing;
        at += width + 1;
    }
    if (at == length)
        return 1;
    if (data[at] != '\n')
        return refuse(reason, "PROXY header without CRLF at its end");
    header->length = at + 1;
    header->is_proxied = 1;
    return 0;
}

static int parse_unknown(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    size_t at = strlen("PROXY UNKNOWN");
    if (at < length && data[at] != ' ' && data[at] != '\r')
        return refuse(reason, "PROXY header of an unknown kind");
    for (; at < length; at++) {
        if (data[at] == '\0' || data[at] == '\n')
            return refuse(reason, "PROXY header with NUL or a bare line feed");
        if (data[at] != '\r')
            continue;
        if (at + 1 == length)
            return 1;
        if (data[at + 1] != '\n')
            return refuse(reason, "PROXY header without CRLF at its end");
        header->length = at + 2;
        return 0;
    }
    return 2;
}

static int parse_text(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    static const char unknown[] = "PROXY UNKNOWN", tcp4[] = "PROXY TCP4 ", tcp6[] = "PROXY TCP6 ";
    if (agrees(data, length, unknown, strlen(unknown))) {
        if (length < strlen(unknown))
            return TEXT_MIN - (int)length;
        return parse_unknown(data, length, header, reason);
    }
    bool is_tcp4 = agrees(data, length, tcp4, strlen(tcp4));
    if (!is_tcp4 && !agrees(data, length, tcp6, strlen(tcp6)))
        return refuse(reason, "no PROXY header");
    if (length < FIELDS_AT)
        return TCP6_MIN - (int)length;
    header->family = is_tcp4 ? AF_INET : AF_INET6;
    return parse_fields(data, length, header, reason);
}

/* What can only end beyond the limit is too long already. */
static int parse_limited_text(const unsigned char *data, size_t length, struct sv_proxy_header *header,
                              const char **reason) {
    size_t seen = smaller(length, TEXT_MAX);
    int more = parse_text(data, seen, header, reason);
    return more > 0 && seen + (size_t)more > TEXT_MAX ? refuse(reason, "PROXY header over 107 bytes") : more;
}

/* ---------------------------------------------------------------------------------------------- version 2, binary
 *
 *   signature(12)  version and command(1)  family(1)  length(2)  |  addresses, TLVs: `length` bytes */

#define HEAD 16
#define LOCAL 0x20
#define PROXIED 0x21
#define TCP4 0x11
#define TCP6 0x21
#define UNIX_STREAM 0x31
#define TLV_HEAD 3
#define TLV_CRC32C 3

static const unsigned char signature[12] = {0x0d, 0x0a, 0x0d, 0x0a, 0x00, 0x0d, 0x0a, 0x51, 0x55, 0x49, 0x54, 0x0a};

static unsigned two_bytes(const unsigned char *at) { return (unsigned)at[0] << 8 | at[1]; }

static uint32_t four_bytes(const unsigned char *at) { return (uint32_t)two_bytes(at) << 16 | two_bytes(at + 2); }

static size_t addresses_size(unsigned char family) {
    switch (family) {
    case TCP4: return 12;
    case TCP6: return 36;
    case UNIX_STREAM: return 216;
    default: return 0;
    }
}

/* CRC32C (RFC 3720 appendix B.4) with the four bytes at `hole` as if they were 0. Rare and short: no table. */
static uint32_t checksum(const unsigned char *data, size_t length, size_t hole) {
    uint32_t crc = UINT32_MAX;
    for (size_t i = 0; i < length; i++) {
        crc ^= i - hole < 4 ? 0 : data[i];
        for (int bit = 0; bit < 8; bit++)
            crc = crc >> 1 ^ (crc & 1 ? UINT32_C(0x82f63b78) : 0);
    }
    return ~crc;
}

static int check_tlvs(const unsigned char *data, size_t at, size_t length, const char **reason) {
    bool has_checksum = false;
    while (at < length) {
        if (length - at < TLV_HEAD || length - at - TLV_HEAD < two_bytes(data + at + 1))
            return refuse(reason, "PROXY header with a TLV beyond its end");
        size_t value = at + TLV_HEAD, size = two_bytes(data + at + 1);
        if (data[at] == TLV_CRC32C) {
            if (has_checksum || size != 4 || checksum(data, length, value) != four_bytes(data + value))
                return refuse(reason, "PROXY header with a wrong checksum");
            has_checksum = true;
        }
        at = value + size;
    }
    return 0;
}

static void take_address(const unsigned char *data, struct sv_proxy_header *header) {
    bool is_tcp4 = data[13] == TCP4;
    header->is_proxied = 1;
    header->family = is_tcp4 ? AF_INET : AF_INET6;
    inet_ntop(header->family, data + HEAD, header->address, sizeof header->address);
    header->port = (int)two_bytes(data + HEAD + (is_tcp4 ? 8 : 32));
}

static int parse_binary(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    if (!agrees(data, length, signature, sizeof signature))
        return refuse(reason, "no PROXY header");
    if (length > 12 && data[12] != LOCAL && data[12] != PROXIED)
        return refuse(reason, "PROXY header of an unknown version or command");
    if (length > 14 && HEAD + (data[14] << 8) > SV_PROXY_HEADER_MAX)
        return refuse(reason, "PROXY header over 536 bytes");
    if (length < HEAD)
        return HEAD - (int)length;
    bool is_local = data[12] == LOCAL;
    size_t addresses = is_local ? 0 : addresses_size(data[13]), total = HEAD + (size_t)two_bytes(data + 14);
    if (total > SV_PROXY_HEADER_MAX)
        return refuse(reason, "PROXY header over 536 bytes");
    if (total < HEAD + addresses)
        return refuse(reason, "PROXY header shorter than its addresses");
    if (length < total)
        return (int)(total - length);
    /* Where the addresses of other families end is not known, nor has LOCAL anything to say. */
    if (addresses > 0 && check_tlvs(data, HEAD + addresses, total, reason))
        return -1;
    header->length = total;
    if (addresses > 0 && data[13] != UNIX_STREAM)
        take_address(data, header);
    return 0;
}

/* ------------------------------------------------------------------------------------------------------------- both */

int sv_proxy_parse(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    memset(header, 0, sizeof *header);
    if (length == 0)
        return TEXT_MIN; /* of the two the shorter one */
    return data[0] == signature[0] ? parse_binary(data, length, header, reason)
                                   : parse_limited_text(data, length, header, reason);
}
