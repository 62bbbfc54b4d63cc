/* proxy.c: PROXY headers. Input: the beginning of a connection. */
#include <arpa/inet.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "framing/proxy.h"
#include "fuzz.h"

#define MOST 700u

static int parse(const uint8_t *data, size_t length, struct sv_proxy_header *header, const char **reason) {
    uint8_t *copy = malloc(length ? length : 1);
    memcpy(copy, data, length);
    int more = sv_proxy_parse(copy, length, header, reason);
    free(copy);
    return more;
}

static bool is_equal(const struct sv_proxy_header *one, const struct sv_proxy_header *other) {
    return one->length == other->length && one->is_proxied == other->is_proxied && one->family == other->family &&
           one->port == other->port && strcmp(one->address, other->address) == 0;
}

static const char *check_header(const struct sv_proxy_header *header, size_t length) {
    unsigned char address[16];
    if (header->length == 0 || header->length > length || header->length > SV_PROXY_HEADER_MAX)
        return "a header of bytes that are not there";
    if (!header->is_proxied)
        return NULL;
    if (header->port < 0 || header->port > 65535)
        return "a port that is none";
    if (!memchr(header->address, '\0', sizeof header->address) || inet_pton(header->family, header->address, address) != 1)
        return "an address that is none";
    return NULL;
}

/* What a verdict says must hold with all that comes later, and none may come within the bytes that were asked for. */
const char *fuzz_proxy(const uint8_t *data, size_t size) {
    struct sv_proxy_header first = {0}, header;
    const char *reason, *fault = NULL;
    int verdict = 1;
    size_t asked_until = 0;
    for (size_t length = 0; length <= size && length <= MOST && !fault; length++) {
        reason = NULL;
        int more = parse(data, length, &header, &reason);
        if (verdict <= 0) {
            if (more != verdict || (more == 0 && !is_equal(&header, &first)))
                fault = "another verdict with more bytes";
        } else if (more == 0) {
            fault = length < asked_until ? "a header that ends within what was asked for" : check_header(&header, length);
            if (!fault && header.length != length)
                fault = "a header that ended before";
            first = header;
        } else if (more > 0 && (length + (size_t)more > SV_PROXY_HEADER_MAX || length + (size_t)more < asked_until)) {
            fault = "fewer bytes than were asked for, or more than a header has";
        }
        if (!fault && more < 0 && !reason)
            fault = "no reason";
        if (more > 0)
            asked_until = length + (size_t)more;
        verdict = more;
    }
    return fault;
}
