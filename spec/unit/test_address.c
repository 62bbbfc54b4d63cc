/* Addresses: types, resolving, literals, text, equality. */
#include <arpa/inet.h>
#include <stddef.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/address.h"
#include "unit.h"

static int resolve(const char *host, int port, int type, struct sv_address *address) {
    struct srvlua_status status = {0};
    int result = sv_address_resolve(host, port, type, address, &status);
    if (result < 0 && (status.code != -result || status.message[0] == '\0')) {
        return 0; /* a failure without code and text counts as no failure */
    }
    return result;
}

static int literal(const char *text, struct sv_address *address) {
    struct srvlua_status status = {0};
    return sv_address_parse_literal(text, 7, address, &status);
}

static bool reads_as(const struct sv_address *address, const char *expected, int expected_port) {
    char text[SV_ADDRESS_TEXT_SIZE];
    int port;
    sv_address_text(address, text, &port);
    return strcmp(text, expected) == 0 && port == expected_port;
}

/* A path of `length` bytes. */
static const char *long_path(char *path, size_t length) {
    memset(path, 'x', length);
    path[0] = '/';
    path[length] = '\0';
    return path;
}

TEST(socket_types_are_told_apart) {
    CHECK(!sv_type_is_valid(0) && !sv_type_is_valid(7) && !sv_type_is_valid(-1) && !sv_type_is_valid(99));
    CHECK(!sv_type_is_valid(SRVLUA_SSL) && !sv_type_is_dgram(0) && !sv_type_is_dgram(7));
    for (int type = SRVLUA_SOCK_TCP; type <= SRVLUA_SOCK_UNIX_DGRAM; type++) {
        CHECK(sv_type_is_valid(type) && sv_type_is_valid(type | SRVLUA_SSL));
        CHECK(sv_type_is_stream(type) != sv_type_is_dgram(type));
        CHECK(sv_type_is_stream(type) == sv_type_is_stream(type | SRVLUA_SSL));
    }
    CHECK(sv_type_is_stream(SRVLUA_SOCK_TCP) && sv_type_is_stream(SRVLUA_SOCK_TCP6));
    CHECK(sv_type_is_stream(SRVLUA_SOCK_UNIX_STREAM) && sv_type_is_dgram(SRVLUA_SOCK_UNIX_DGRAM));
    CHECK(sv_type_is_unix(SRVLUA_SOCK_UNIX_DGRAM) && !sv_type_is_unix(SRVLUA_SOCK_UDP));
    CHECK(sv_type_is_inet6(SRVLUA_SOCK_UDP6) && !sv_type_is_inet6(SRVLUA_SOCK_UDP));
}

TEST(resolve_takes_literals_of_the_types_family) {
    struct sv_address address;
    CHECK(resolve("127.0.0.1", 9501, SRVLUA_SOCK_TCP, &address) == 0);
    CHECK(address.length == sizeof address.u.in && reads_as(&address, "127.0.0.1", 9501));
    CHECK(resolve("0.0.0.0", 0, SRVLUA_SOCK_UDP, &address) == 0 && reads_as(&address, "0.0.0.0", 0));
    CHECK(resolve("::1", 65535, SRVLUA_SOCK_TCP6 | SRVLUA_SSL, &address) == 0 && reads_as(&address, "::1", 65535));
    CHECK(resolve("::1", 80, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    CHECK(resolve("127.0.0.1", 80, SRVLUA_SOCK_UDP6, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
}

TEST(resolve_looks_up_names) {
    struct sv_address address;
    CHECK(resolve("localhost", 80, SRVLUA_SOCK_TCP, &address) == 0 && reads_as(&address, "127.0.0.1", 80));
}

TEST(resolve_refuses_what_is_no_host) {
    struct sv_address address;
    CHECK(resolve("", 80, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    CHECK(resolve("", 0, SRVLUA_SOCK_UNIX_STREAM, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    CHECK(resolve("999.1.1.1", 80, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    CHECK(resolve("127.0.0", 80, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    CHECK(resolve("::zz", 80, SRVLUA_SOCK_TCP6, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    CHECK(resolve("127.0.0.1", -1, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT);
    CHECK(resolve("127.0.0.1", 65536, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT);
    CHECK(resolve("127.0.0.1", 80, 99, &address) == -SRVLUA_ERROR_BAD_SOCKET_TYPE);
}

TEST(a_path_has_at_most_107_bytes) {
    struct sv_address address;
    char path[256];
    CHECK(resolve(long_path(path, 107), 99999, SRVLUA_SOCK_UNIX_STREAM, &address) == 0 && reads_as(&address, path, -1));
    CHECK(resolve(long_path(path, 108), 0, SRVLUA_SOCK_UNIX_STREAM, &address) == -SRVLUA_ERROR_NAME_TOO_LONG);
    CHECK(resolve(long_path(path, 108), 0, SRVLUA_SOCK_TCP, &address) == -SRVLUA_ERROR_NAME_TOO_LONG);
    CHECK(literal(long_path(path, 107), &address) == 0 && reads_as(&address, path, -1));
    CHECK(literal(long_path(path, 108), &address) == -SRVLUA_ERROR_NAME_TOO_LONG);
}

TEST(a_literal_tells_its_family) {
    struct sv_address address;
    CHECK(literal("10.0.0.1", &address) == 0 && address.u.base.sa_family == AF_INET &&
          reads_as(&address, "10.0.0.1", 7));
    CHECK(literal("::1", &address) == 0 && address.u.base.sa_family == AF_INET6 && reads_as(&address, "::1", 7));
    CHECK(literal("/tmp/x.sock", &address) == 0 && address.u.base.sa_family == AF_UNIX);
}

TEST(a_literal_is_no_name) {
    struct sv_address address;
    static const char *const bad[] = {
        "",     "localhost", "127.0.0", "999.1.1.1", "1.2.3.4.5", "0x7f.1",    " 127.0.0.1",
        "::zz", "::1%",      "x.sock",  "[::1]",     "::1%none",  "fe80::1%0", "fe80::1%99999999999"};
    for (size_t i = 0; i < sizeof bad / sizeof *bad; i++) {
        CHECK(literal(bad[i], &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
    }
    char text[2048];
    memset(text, '1', sizeof text - 1);
    text[sizeof text - 1] = '\0';
    CHECK(literal(text, &address) == -SRVLUA_ERROR_BAD_HOST_ADDR);
}

TEST(mapped_and_link_local_text_can_be_answered) {
    struct sv_address address;
    CHECK(literal("::ffff:127.0.0.1", &address) == 0 && reads_as(&address, "::ffff:127.0.0.1", 7));
    CHECK(literal("fe80::1%3", &address) == 0 && address.u.in6.sin6_scope_id == 3 &&
          reads_as(&address, "fe80::1%3", 7));
    CHECK(literal("fe80::1%lo", &address) == 0 && address.u.in6.sin6_scope_id != 0);
}

TEST(text_of_unix_peers) {
    int pair[2];
    struct sv_address address = {.length = sizeof address.u};
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(getpeername(pair[0], &address.u.base, &address.length) == 0 && reads_as(&address, "", -1));
    close(pair[0]);
    close(pair[1]);
    memset(&address, 'x', sizeof address); /* 108 bytes of path without a NUL, and a length that counts one */
    address.u.un.sun_family = AF_UNIX;
    address.length = sizeof address.u.un + 1;
    char text[SV_ADDRESS_TEXT_SIZE];
    int port;
    sv_address_text(&address, text, &port);
    CHECK(strlen(text) == sizeof address.u.un.sun_path);
    address.length = 0; /* what recvfrom() says of an unbound datagram socket */
    CHECK(reads_as(&address, "", -1));
}

TEST(equal_means_host_and_port) {
    struct sv_address one, other;
    CHECK(literal("10.0.0.1", &one) == 0 && literal("10.0.0.1", &other) == 0 && sv_address_equal(&one, &other));
    other.u.in.sin_port = htons(8);
    CHECK(!sv_address_equal(&one, &other));
    CHECK(literal("10.0.0.2", &other) == 0 && !sv_address_equal(&one, &other));
    CHECK(literal("::ffff:10.0.0.1", &other) == 0 && !sv_address_equal(&one, &other));
    CHECK(literal("::1", &one) == 0 && literal("0::1", &other) == 0 && sv_address_equal(&one, &other));
    CHECK(literal("/a", &one) == 0 && literal("/a", &other) == 0 && sv_address_equal(&one, &other));
    CHECK(literal("/ab", &other) == 0 && !sv_address_equal(&one, &other));
}
