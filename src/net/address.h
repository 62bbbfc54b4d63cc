/* address.h: socket addresses and the socket types of the public API.
 *
 * An address is a plain value: copied freely, owned by nobody, allocates nothing. Types are those of
 * enum srvlua_socket_type; the SRVLUA_SSL bit may be set and is ignored here.
 * runs in: anywhere, any thread. Only sv_address_resolve() may block (it may ask the name service). */
#ifndef SV_NET_ADDRESS_H
#define SV_NET_ADDRESS_H

#include <netinet/in.h>
#include <stdbool.h>
#include <sys/socket.h>
#include <sys/un.h>

#include "srvlua.h"

#define SV_HOST_MAX 107          /* bytes of a host or unix path, without the NUL (methods.md 3) */
#define SV_ADDRESS_TEXT_SIZE 112 /* for sv_address_text: sun_path need not end with NUL */

struct sv_address {
    socklen_t length; /* bytes of `u` in use; to receive one from the kernel set it to sizeof u before */
    union {
        struct sockaddr base;
        struct sockaddr_in in;
        struct sockaddr_in6 in6;
        struct sockaddr_un un;
    } u;
};

bool sv_type_is_valid(int type); /* one of the six; with or without SRVLUA_SSL */
bool sv_type_is_stream(int type);
bool sv_type_is_dgram(int type);
bool sv_type_is_unix(int type);
bool sv_type_is_inet6(int type);

/* Address to listen on: a literal of the type's family, a host name (the first address it has in that family) or, for
 * unix types, a path (`port` is ignored). May block.
 * Returns 0 or -code: 724 type, 504 host too long, 9004 port outside 0..65535, 722 not an address nor a known name. */
int sv_address_resolve(const char *host, int port, int type, struct sv_address *address, struct srvlua_status *status);

/* Address to send a datagram to: IPv4 text, IPv6 text or an absolute path; the family is told by the text. Asks no
 * name service. The port must have been checked (1..65535); paths ignore it.
 * Returns 0 or -code: 504 path too long, 722 anything else. */
int sv_address_parse_literal(const char *text, int port, struct sv_address *address, struct srvlua_status *status);

/* Text of an address. IP text as the kernel says it: an IPv4 client of an IPv6 socket is "::ffff:1.2.3.4"; a link-local
 * IPv6 address carries its interface as "%number", for without it nobody could answer. Unix: the path, "" if unbound.
 * *port: number, -1 for unix. */
void sv_address_text(const struct sv_address *address, char text[SV_ADDRESS_TEXT_SIZE], int *port);

/* Same family, same host or path, same port. A wildcard equals only itself. */
bool sv_address_equal(const struct sv_address *one, const struct sv_address *other);

#endif
