/* proxy.h: the PROXY header, versions 1 and 2 (protocols.md 4). A pure parser.
 * runs in: reactors. */
#ifndef SV_FRAMING_PROXY_H
#define SV_FRAMING_PROXY_H

#include <stddef.h>
#include <stdint.h>

#define SV_PROXY_HEADER_MAX 536
#define SV_PROXY_TEXT_SIZE 46 /* INET6_ADDRSTRLEN */

struct sv_proxy_header {
    size_t length;                  /* of the header in bytes */
    int is_proxied;                 /* 0: LOCAL, UNKNOWN, unix: the socket's own addresses hold */
    int family;                     /* AF_INET, AF_INET6 */
    char address[SV_PROXY_TEXT_SIZE]; /* of the client, as inet_ntop() writes it */
    int port;
};

/* Looks at the bytes from the beginning of the connection. Returns
 *   > 0  more are needed: so many may be read without reading beyond the header
 *   0    *header is filled in, length <= `length`
 *   -1   this is none, or cannot become a valid one any more; *reason says why (static). */
int sv_proxy_parse(const unsigned char *data, size_t length, struct sv_proxy_header *header, const char **reason);

#endif
