/* networks.h: lists of IP addresses and networks ("10.0.0.0/8", "::1"), as settings give them.
 * runs in: making: start(); asking: anywhere, read only. */
#ifndef SV_NET_NETWORKS_H
#define SV_NET_NETWORKS_H

#include <stdbool.h>
#include <stddef.h>

struct sv_network {
    unsigned char bytes[16]; /* IPv4 as ::ffff:a.b.c.d */
    unsigned char bits;      /* 0..128 */
};

struct sv_networks {
    struct sv_network *items;
    size_t count;
};

/* Texts were checked by sv_check_networks(). 0 or -ENOMEM. */
int sv_networks_parse(struct sv_networks *networks, char *const *texts, size_t count);
void sv_networks_free(struct sv_networks *networks);
/* `address` as text; an IPv4 client of an IPv6 socket ("::ffff:a.b.c.d") counts as IPv4. False for what is no address. */
bool sv_networks_contain(const struct sv_networks *networks, const char *address);

#endif
