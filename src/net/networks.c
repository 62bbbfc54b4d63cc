/* networks.c: see networks.h. */
#include "net/networks.h"

#include <arpa/inet.h>
#include <errno.h>
#include <stdlib.h>
#include <string.h>

static const unsigned char v4_prefix[12] = {[10] = 0xff, [11] = 0xff};

/* The first `length` bytes of `text` as an address: how many of the 128 bits come before it (IPv4: 96), or -1: it is none. */
static int parse_address(const char *text, size_t length, unsigned char bytes[16]) {
    char address[INET6_ADDRSTRLEN];
    if (length >= sizeof address) return -1;
    memcpy(address, text, length);
    address[length] = '\0';
    if (inet_pton(AF_INET, address, bytes + 12) == 1) {
        memcpy(bytes, v4_prefix, sizeof v4_prefix);
        return 96;
    }
    return inet_pton(AF_INET6, address, bytes) == 1 ? 0 : -1;
}

int sv_networks_parse(struct sv_networks *networks, char *const *texts, size_t count) {
    *networks = (struct sv_networks){0};
    if (!count) return 0;
    networks->items = calloc(count, sizeof *networks->items);
    if (!networks->items) return -ENOMEM;
    for (size_t i = 0; i < count; i++) {
        struct sv_network *network = &networks->items[networks->count];
        const char *slash = strchr(texts[i], '/');
        int before = parse_address(texts[i], slash ? (size_t)(slash - texts[i]) : strlen(texts[i]), network->bytes);
        if (before < 0) continue; /* was checked: cannot be */
        network->bits = (unsigned char)(slash ? before + atoi(slash + 1) : 128);
        networks->count++;
    }
    return 0;
}

void sv_networks_free(struct sv_networks *networks) {
    free(networks->items);
    *networks = (struct sv_networks){0};
}

static bool contains(const struct sv_network *network, const unsigned char bytes[16]) {
    unsigned whole = network->bits / 8, rest = network->bits % 8;
    if (memcmp(network->bytes, bytes, whole) != 0) return false;
    return !rest || (network->bytes[whole] ^ bytes[whole]) >> (8 - rest) == 0;
}

bool sv_networks_contain(const struct sv_networks *networks, const char *address) {
    unsigned char bytes[16];
    if (!networks->count || parse_address(address, strcspn(address, "%"), bytes) < 0) return false; /* "%": a link-local one's interface */
    for (size_t i = 0; i < networks->count; i++)
        if (contains(&networks->items[i], bytes)) return true;
    return false;
}
