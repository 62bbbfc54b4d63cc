/* address.c: see address.h. */
#include "net/address.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netdb.h>
#include <stddef.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/errors.h"

/* -------------------------------------------------------------------------------------------------------- types */

static int without_ssl(int type) { return type & ~SRVLUA_SSL; }

bool sv_type_is_valid(int type) {
    return without_ssl(type) >= SRVLUA_SOCK_TCP && without_ssl(type) <= SRVLUA_SOCK_UNIX_DGRAM;
}

bool sv_type_is_stream(int type) {
    type = without_ssl(type);
    return type == SRVLUA_SOCK_TCP || type == SRVLUA_SOCK_TCP6 || type == SRVLUA_SOCK_UNIX_STREAM;
}

bool sv_type_is_dgram(int type) { return sv_type_is_valid(type) && !sv_type_is_stream(type); }

bool sv_type_is_unix(int type) {
    type = without_ssl(type);
    return type == SRVLUA_SOCK_UNIX_STREAM || type == SRVLUA_SOCK_UNIX_DGRAM;
}

bool sv_type_is_inet6(int type) {
    type = without_ssl(type);
    return type == SRVLUA_SOCK_TCP6 || type == SRVLUA_SOCK_UDP6;
}

/* --------------------------------------------------------------------------------------------- text to address */

static bool parse_inet(const char *text, int port, struct sv_address *address) {
    struct sockaddr_in in = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port)};
    if (inet_pton(AF_INET, text, &in.sin_addr) != 1) {
        return false;
    }
    address->length = sizeof in;
    address->u.in = in;
    return true;
}

/* Index of an interface given by number or name (RFC 4007 section 11); 0: no such thing. */
static uint32_t parse_scope(const char *text) {
    size_t digits = strspn(text, "0123456789");
    if (digits == 0 || text[digits] != '\0') {
        return if_nametoindex(text);
    }
    unsigned long long number = strtoull(text, NULL, 10);
    return number <= UINT32_MAX ? (uint32_t)number : 0;
}

static bool parse_inet6(const char *text, int port, struct sv_address *address) {
    struct sockaddr_in6 in6 = {.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)port)};
    char host[INET6_ADDRSTRLEN];
    size_t length = strcspn(text, "%");
    if (length >= sizeof host) {
        return false;
    }
    memcpy(host, text, length);
    host[length] = '\0';
    if (inet_pton(AF_INET6, host, &in6.sin6_addr) != 1) {
        return false;
    }
    if (text[length] == '%') {
        in6.sin6_scope_id = parse_scope(text + length + 1);
        if (in6.sin6_scope_id == 0) {
            return false;
        }
    }
    address->length = sizeof in6;
    address->u.in6 = in6;
    return true;
}

/* `path` fits: the callers compared it with SV_HOST_MAX. */
static void set_path(const char *path, struct sv_address *address) {
    size_t length = strlen(path);
    memset(&address->u.un, 0, sizeof address->u.un);
    address->u.un.sun_family = AF_UNIX;
    memcpy(address->u.un.sun_path, path, length);
    address->length = (socklen_t)(offsetof(struct sockaddr_un, sun_path) + length + 1);
}

/* Text of digits and dots that is no address is mistyped: the name service need not be bothered with it. */
static bool is_mistyped_number(const char *host) { return host[strspn(host, "0123456789.")] == '\0'; }

static int look_up_name(const char *host, int port, int type, struct sv_address *address,
                        struct srvlua_status *status) {
    bool is_inet6 = sv_type_is_inet6(type);
    const struct addrinfo hints = {
        .ai_family = is_inet6 ? AF_INET6 : AF_INET,
        .ai_socktype = sv_type_is_stream(type) ? SOCK_STREAM : SOCK_DGRAM,
    };
    struct addrinfo *found = NULL;
    int result = is_mistyped_number(host) ? EAI_NONAME : getaddrinfo(host, NULL, &hints, &found);
    if (result == EAI_MEMORY) {
        return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory to resolve '%s'", host);
    }
    if (result != 0) {
        const char *reason = result == EAI_SYSTEM ? srvlua_strerror(errno) : gai_strerror(result);
        return sv_fail(status, SRVLUA_ERROR_BAD_HOST_ADDR, "'%s' is neither an %s address nor a known host name: %s",
                       host, is_inet6 ? "IPv6" : "IPv4", reason);
    }
    address->length = found->ai_addrlen;
    memcpy(&address->u, found->ai_addr, found->ai_addrlen);
    freeaddrinfo(found);
    if (is_inet6) {
        address->u.in6.sin6_port = htons((uint16_t)port);
    } else {
        address->u.in.sin_port = htons((uint16_t)port);
    }
    return 0;
}

int sv_address_resolve(const char *host, int port, int type, struct sv_address *address, struct srvlua_status *status) {
    if (!sv_type_is_valid(type)) {
        return sv_fail(status, SRVLUA_ERROR_BAD_SOCKET_TYPE, "unknown socket type %d", type);
    }
    if (strlen(host) > SV_HOST_MAX) {
        return sv_fail(status, SRVLUA_ERROR_NAME_TOO_LONG, "%s longer than %d bytes",
                       sv_type_is_unix(type) ? "unix socket path" : "host", SV_HOST_MAX);
    }
    if (host[0] == '\0') {
        return sv_fail(status, SRVLUA_ERROR_BAD_HOST_ADDR, "empty %s",
                       sv_type_is_unix(type) ? "unix socket path" : "host");
    }
    if (sv_type_is_unix(type)) {
        set_path(host, address);
        return 0;
    }
    if (port < 0 || port > UINT16_MAX) {
        return sv_fail(status, SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT, "port %d is outside 0..65535", port);
    }
    if (sv_type_is_inet6(type) ? parse_inet6(host, port, address) : parse_inet(host, port, address)) {
        return 0;
    }
    return look_up_name(host, port, type, address, status);
}

int sv_address_parse_literal(const char *text, int port, struct sv_address *address, struct srvlua_status *status) {
    if (text[0] == '/') {
        if (strlen(text) > SV_HOST_MAX) {
            return sv_fail(status, SRVLUA_ERROR_NAME_TOO_LONG, "unix socket path longer than %d bytes", SV_HOST_MAX);
        }
        set_path(text, address);
        return 0;
    }
    if (parse_inet(text, port, address) || parse_inet6(text, port, address)) {
        return 0;
    }
    return sv_fail(status, SRVLUA_ERROR_BAD_HOST_ADDR, "'%.100s' is not an IP address", text);
}

/* --------------------------------------------------------------------------------------------- address to text */

/* Bytes of the path; 0 if the socket is unbound. The kernel may report a length that counts a NUL behind sun_path. */
static size_t path_length(const struct sv_address *address) {
    size_t head = offsetof(struct sockaddr_un, sun_path);
    if (address->length <= head) {
        return 0;
    }
    size_t room = address->length - head;
    if (room > sizeof address->u.un.sun_path) {
        room = sizeof address->u.un.sun_path;
    }
    return strnlen(address->u.un.sun_path, room);
}

void sv_address_text(const struct sv_address *address, char text[SV_ADDRESS_TEXT_SIZE], int *port) {
    sa_family_t family = address->length >= sizeof(sa_family_t) ? address->u.base.sa_family : AF_UNSPEC;
    text[0] = '\0';
    *port = -1;
    if (family == AF_INET) {
        inet_ntop(AF_INET, &address->u.in.sin_addr, text, SV_ADDRESS_TEXT_SIZE);
        *port = ntohs(address->u.in.sin_port);
    } else if (family == AF_INET6) {
        inet_ntop(AF_INET6, &address->u.in6.sin6_addr, text, SV_ADDRESS_TEXT_SIZE);
        *port = ntohs(address->u.in6.sin6_port);
        if (address->u.in6.sin6_scope_id != 0 && IN6_IS_ADDR_LINKLOCAL(&address->u.in6.sin6_addr)) {
            size_t length = strlen(text);
            snprintf(text + length, SV_ADDRESS_TEXT_SIZE - length, "%%%u", (unsigned)address->u.in6.sin6_scope_id);
        }
    } else if (family == AF_UNIX) {
        size_t length = path_length(address);
        memcpy(text, address->u.un.sun_path, length);
        text[length] = '\0';
    }
}

bool sv_address_equal(const struct sv_address *one, const struct sv_address *other) {
    if (one->length < sizeof(sa_family_t) || other->length < sizeof(sa_family_t) ||
        one->u.base.sa_family != other->u.base.sa_family) {
        return false;
    }
    switch (one->u.base.sa_family) {
    case AF_INET:
        return one->u.in.sin_port == other->u.in.sin_port && one->u.in.sin_addr.s_addr == other->u.in.sin_addr.s_addr;
    case AF_INET6:
        return one->u.in6.sin6_port == other->u.in6.sin6_port &&
               one->u.in6.sin6_scope_id == other->u.in6.sin6_scope_id &&
               memcmp(&one->u.in6.sin6_addr, &other->u.in6.sin6_addr, sizeof one->u.in6.sin6_addr) == 0;
    case AF_UNIX: {
        size_t length = path_length(one);
        return length == path_length(other) && memcmp(one->u.un.sun_path, other->u.un.sun_path, length) == 0;
    }
    default:
        return false;
    }
}
