/* Listeners and socket options, on loopback and in a directory of its own. */
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "net/listener.h"
#include "net/socket_options.h"
#include "unit.h"

static int open_listener(const char *host, int port, int type, struct sv_listener *listener) {
    struct srvlua_status status = {0};
    int result = sv_listener_open(host, port, type, false, listener, &status);
    return result < 0 && (status.code != -result || listener->fd != -1) ? 0 : result;
}

static int start_listening(const struct sv_listener *listener) {
    struct srvlua_status status;
    return sv_listener_listen(listener, 16, &status);
}

static int port_of(const struct sv_listener *listener) {
    char text[SV_ADDRESS_TEXT_SIZE];
    int port;
    sv_address_text(&listener->address, text, &port);
    return port;
}

static int option_of(int fd, int level, int option) {
    int value = -1;
    socklen_t length = sizeof value;
    getsockopt(fd, level, option, &value, &length);
    return value;
}

static bool exists(const char *path) {
    struct stat file;
    return lstat(path, &file) == 0;
}

/* A directory for one test; it must be empty when the test ends. */
struct place {
    char directory[64];
    char path[96];
};

static void enter_place(struct place *place) {
    strcpy(place->directory, "/tmp/srvlua-unit-XXXXXX");
    CHECK(mkdtemp(place->directory) != NULL);
    snprintf(place->path, sizeof place->path, "%s/server.sock", place->directory);
}

static void leave_place(const struct place *place) { CHECK(rmdir(place->directory) == 0); }

TEST(port_0_becomes_the_kernels_choice) {
    static const int types[] = {SRVLUA_SOCK_TCP, SRVLUA_SOCK_UDP};
    for (size_t i = 0; i < 2; i++) {
        struct sv_listener listener;
        CHECK(open_listener("127.0.0.1", 0, types[i], &listener) == 0);
        CHECK(listener.fd >= 0 && port_of(&listener) > 0 && listener.file == NULL);
        CHECK(fcntl(listener.fd, F_GETFD) & FD_CLOEXEC);
        CHECK(fcntl(listener.fd, F_GETFL) & O_NONBLOCK);
        CHECK(option_of(listener.fd, SOL_SOCKET, SO_REUSEADDR) == (types[i] == SRVLUA_SOCK_TCP));
        CHECK(start_listening(&listener) == 0);
        sv_listener_close(&listener, true);
        sv_listener_close(&listener, true);
        CHECK(listener.fd == -1);
    }
}

TEST(failures_leave_nothing_open) {
    struct sv_listener listener;
    CHECK(open_listener("192.0.2.1", 0, SRVLUA_SOCK_TCP, &listener) == -EADDRNOTAVAIL);
    CHECK(open_listener("127.0.0.1", 65536, SRVLUA_SOCK_TCP, &listener) == -SRVLUA_ERROR_SERVER_INVALID_LISTEN_PORT);
    CHECK(open_listener("127.0.0.1", 0, 99, &listener) == -SRVLUA_ERROR_BAD_SOCKET_TYPE);
    CHECK(open_listener("/nonexistent/server.sock", 0, SRVLUA_SOCK_UNIX_STREAM, &listener) == -ENOENT);
    sv_listener_close(&listener, true);
}

TEST(a_listening_tcp_port_is_taken) {
    struct sv_listener owner, second;
    CHECK(open_listener("127.0.0.1", 0, SRVLUA_SOCK_TCP, &owner) == 0 && start_listening(&owner) == 0);
    CHECK(open_listener("127.0.0.1", port_of(&owner), SRVLUA_SOCK_TCP, &second) == -EADDRINUSE);
    CHECK(sv_address_equal(&second.address, &owner.address)); /* so that start() can try again */
    sv_listener_close(&owner, false);
    struct srvlua_status status;
    CHECK(sv_listener_open_at(&second.address, SRVLUA_SOCK_TCP, false, &second, &status) == 0);
    sv_listener_close(&second, false);
}

TEST(two_binds_of_one_server_are_found) {
    struct sv_listener tcp, again, udp, elsewhere;
    CHECK(open_listener("127.0.0.1", 0, SRVLUA_SOCK_TCP, &tcp) == 0);
    CHECK(open_listener("127.0.0.1", port_of(&tcp), SRVLUA_SOCK_TCP, &again) == 0); /* the kernel lets it pass */
    CHECK(sv_listener_is_same(&tcp, &again));
    CHECK(start_listening(&tcp) == 0 && start_listening(&again) == -EADDRINUSE);
    CHECK(open_listener("127.0.0.1", port_of(&tcp), SRVLUA_SOCK_UDP, &udp) == 0 && !sv_listener_is_same(&tcp, &udp));
    CHECK(open_listener("127.0.0.2", port_of(&tcp), SRVLUA_SOCK_TCP, &elsewhere) == 0);
    CHECK(!sv_listener_is_same(&tcp, &elsewhere));
    struct sv_listener udp_again;
    CHECK(open_listener("127.0.0.1", port_of(&udp), SRVLUA_SOCK_UDP, &udp_again) == -EADDRINUSE);
    sv_listener_close(&tcp, false);
    sv_listener_close(&again, false);
    sv_listener_close(&udp, false);
    sv_listener_close(&elsewhere, false);
}

TEST(reuse_port_shares_a_port) {
    struct sv_listener first, second;
    struct srvlua_status status;
    CHECK(sv_listener_open("127.0.0.1", 0, SRVLUA_SOCK_TCP, true, &first, &status) == 0 &&
          start_listening(&first) == 0);
    CHECK(sv_listener_open_at(&first.address, SRVLUA_SOCK_TCP, true, &second, &status) == 0);
    CHECK(start_listening(&second) == 0 && port_of(&first) == port_of(&second));
    sv_listener_close(&first, false);
    sv_listener_close(&second, false);
}

TEST(an_ipv6_listener_serves_ipv4_clients) {
    struct sv_listener listener;
    if (open_listener("::", 0, SRVLUA_SOCK_TCP6, &listener) == -EAFNOSUPPORT) {
        return; /* a machine without IPv6 */
    }
    CHECK(start_listening(&listener) == 0);
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct sockaddr_in to = {.sin_family = AF_INET, .sin_port = listener.address.u.in6.sin6_port};
    to.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
    CHECK(connect(client, (struct sockaddr *)&to, sizeof to) == 0);
    struct sv_address peer = {.length = sizeof peer.u};
    int accepted = accept(listener.fd, &peer.u.base, &peer.length);
    char text[SV_ADDRESS_TEXT_SIZE];
    int port;
    sv_address_text(&peer, text, &port);
    CHECK(accepted >= 0 && strcmp(text, "::ffff:127.0.0.1") == 0 && port > 0);
    close(client);
    close(accepted);
    sv_listener_close(&listener, false);
}

TEST(a_stale_socket_file_is_replaced) {
    static const int types[] = {SRVLUA_SOCK_UNIX_STREAM, SRVLUA_SOCK_UNIX_DGRAM};
    struct place place;
    enter_place(&place);
    for (size_t i = 0; i < 2; i++) {
        struct sv_listener stale, listener;
        CHECK(open_listener(place.path, 0, types[1 - i], &stale) == 0);
        sv_listener_close(&stale, false);
        CHECK(exists(place.path));
        CHECK(open_listener(place.path, 0, types[i], &listener) == 0 && start_listening(&listener) == 0);
        sv_listener_close(&listener, true);
        CHECK(!exists(place.path));
    }
    leave_place(&place);
}

TEST(a_live_socket_file_is_not_touched) {
    static const int types[] = {SRVLUA_SOCK_UNIX_STREAM, SRVLUA_SOCK_UNIX_DGRAM};
    struct place place;
    enter_place(&place);
    for (size_t i = 0; i < 2; i++) {
        struct sv_listener owner, second;
        CHECK(open_listener(place.path, 0, types[i], &owner) == 0);
        CHECK(open_listener(place.path, 0, types[i], &second) == -EADDRINUSE); /* bound, not listening yet */
        CHECK(start_listening(&owner) == 0);
        CHECK(open_listener(place.path, 0, types[i], &second) == -EADDRINUSE);
        CHECK(open_listener(place.path, 0, types[1 - i], &second) == -EADDRINUSE);
        CHECK(accept(owner.fd, NULL, NULL) < 0); /* the question left no connection behind */
        CHECK(exists(place.path));
        sv_listener_close(&owner, true);
    }
    leave_place(&place);
}

TEST(a_file_that_is_no_socket_is_not_touched) {
    struct place place;
    struct sv_listener listener;
    enter_place(&place);
    close(open(place.path, O_CREAT | O_WRONLY, 0600));
    CHECK(open_listener(place.path, 0, SRVLUA_SOCK_UNIX_STREAM, &listener) == -EADDRINUSE && exists(place.path));
    unlink(place.path);
    CHECK(symlink("/nonexistent", place.path) == 0);
    CHECK(open_listener(place.path, 0, SRVLUA_SOCK_UNIX_STREAM, &listener) == -EADDRINUSE && exists(place.path));
    unlink(place.path);
    leave_place(&place);
}

TEST(closing_removes_only_our_own_file) {
    struct place place;
    struct sv_listener first, second;
    enter_place(&place);
    CHECK(open_listener(place.path, 0, SRVLUA_SOCK_UNIX_STREAM, &first) == 0);
    unlink(place.path);
    CHECK(open_listener(place.path, 0, SRVLUA_SOCK_UNIX_STREAM, &second) == 0);
    sv_listener_close(&first, true);
    CHECK(exists(place.path));
    sv_listener_close(&second, true);
    CHECK(!exists(place.path));
    leave_place(&place);
}

TEST(a_relative_path_is_removed_from_another_directory) {
    struct place place;
    struct sv_listener listener;
    char before[4096];
    enter_place(&place);
    CHECK(getcwd(before, sizeof before) != NULL && chdir(place.directory) == 0);
    CHECK(open_listener("server.sock", 0, SRVLUA_SOCK_UNIX_STREAM, &listener) == 0 && exists(place.path));
    CHECK(chdir(before) == 0);
    sv_listener_close(&listener, true);
    CHECK(!exists(place.path));
    leave_place(&place);
}

static const struct sv_socket_options everything = {
    .nodelay = true,
    .keepalive = true,
    .keepidle = 100,
    .keepinterval = 20,
    .keepcount = 4,
    .user_timeout_ms = 30000,
    .defer_accept = 1,
    .fastopen_queue = 16,
    .send_buffer = 16384,
    .recv_buffer = 32768,
};

TEST(options_reach_tcp_sockets) {
    struct sv_listener listener;
    const char *failed = NULL;
    CHECK(open_listener("127.0.0.1", 0, SRVLUA_SOCK_TCP, &listener) == 0);
    int result = sv_socket_apply_listener(listener.fd, listener.type, &everything, &failed);
    CHECK(result == 0 || strcmp(failed, "tcp_fastopen") == 0); /* as the machine's sysctl says */
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_DEFER_ACCEPT) > 0);
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_FASTOPEN) == 16);
    CHECK(option_of(listener.fd, SOL_SOCKET, SO_RCVBUF) == 2 * 32768); /* Linux doubles what it is told */
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_NODELAY) == 0);
    CHECK(sv_socket_apply_connection(listener.fd, listener.type, &everything, &failed) == 0 && failed == NULL);
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_NODELAY) != 0 &&
          option_of(listener.fd, SOL_SOCKET, SO_KEEPALIVE) != 0);
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_KEEPIDLE) == 100);
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_KEEPINTVL) == 20);
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_KEEPCNT) == 4);
    CHECK(option_of(listener.fd, IPPROTO_TCP, TCP_USER_TIMEOUT) == 30000);
    CHECK(option_of(listener.fd, SOL_SOCKET, SO_SNDBUF) == 2 * 16384);
    sv_listener_close(&listener, false);
}

TEST(options_that_do_not_concern_a_type_are_skipped) {
    int pair[2];
    const char *failed;
    struct sv_listener udp;
    CHECK(socketpair(AF_UNIX, SOCK_STREAM, 0, pair) == 0);
    CHECK(sv_socket_apply_connection(pair[0], SRVLUA_SOCK_UNIX_STREAM, &everything, &failed) == 0 && failed == NULL);
    CHECK(sv_socket_apply_listener(pair[0], SRVLUA_SOCK_UNIX_STREAM, &everything, &failed) == 0);
    close(pair[0]);
    close(pair[1]);
    CHECK(open_listener("127.0.0.1", 0, SRVLUA_SOCK_UDP, &udp) == 0);
    CHECK(sv_socket_apply_listener(udp.fd, udp.type, &everything, &failed) == 0);
    CHECK(option_of(udp.fd, SOL_SOCKET, SO_SNDBUF) == 2 * 16384 &&
          option_of(udp.fd, SOL_SOCKET, SO_RCVBUF) == 2 * 32768);
    sv_listener_close(&udp, false);
}

TEST(the_first_option_that_fails_is_named) {
    const char *failed = NULL;
    CHECK(sv_socket_apply_connection(-1, SRVLUA_SOCK_TCP, &everything, &failed) == -EBADF);
    CHECK(failed && strcmp(failed, "kernel_socket_send_buffer_size") == 0);
    const struct sv_socket_options nothing = {0};
    CHECK(sv_socket_apply_connection(-1, SRVLUA_SOCK_TCP, &nothing, &failed) == 0 && failed == NULL);
}

TEST(datagrams_are_sent_or_fail_with_errno) {
    struct place place;
    struct sv_listener udp, local;
    static char big[70000];
    char byte;
    enter_place(&place);
    CHECK(open_listener("127.0.0.1", 0, SRVLUA_SOCK_UDP, &udp) == 0);
    CHECK(sv_datagram_send(udp.fd, &udp.address, "x", 1) == 0);
    CHECK(recv(udp.fd, &byte, 1, 0) == 1 && byte == 'x');
    CHECK(sv_datagram_send(udp.fd, &udp.address, big, sizeof big) == -EMSGSIZE);
    CHECK(open_listener(place.path, 0, SRVLUA_SOCK_UNIX_DGRAM, &local) == 0);
    struct sv_address nobody;
    CHECK(sv_address_parse_literal("/nonexistent.sock", 0, &nobody, NULL) == 0);
    CHECK(sv_datagram_send(local.fd, &nobody, "x", 1) == -ENOENT);
    int result = 0;
    for (int i = 0; i < 100000 && result == 0; i++) {
        result = sv_datagram_send(local.fd, &local.address, "x", 1);
    }
    CHECK(result == -EAGAIN); /* a full queue is told, not waited for */
    sv_listener_close(&udp, false);
    sv_listener_close(&local, true);
    leave_place(&place);
}
