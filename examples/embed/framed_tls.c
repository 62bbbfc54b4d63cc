/* framed_tls.c [port [BASE|PROCESS]]: packets over TLS in C, without Lua: a port whose packets a C function measures, and a plain
 * port on a unix socket for whoever runs the server.
 *
 * A packet is a letter, two bytes of length (the lower one first), and so many bytes: 'E' is sent back, 'U' in upper case.
 * The unix socket, /tmp/srvlua-PORT.admin, takes lines: `reload` reads the certificates again, `count` says how many clients
 * there are.
 *
 * CERT, KEY and, for client certificates, CA in the environment name PEM files; without: cert.pem, key.pem, and everybody
 * is let in. */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "srvlua.h"

#define HEADER 3

/* Runs in the reactors, so it looks at its arguments and at nothing else. */
static int64_t measure(srvlua_reactor *reactor, void *context, const void *data, size_t length, struct srvlua_status *status) {
    (void)reactor, (void)context;
    const unsigned char *bytes = data;
    if (bytes[0] != 'E' && bytes[0] != 'U') {
        snprintf(status->message, sizeof status->message, "no packet begins with byte %d", bytes[0]);
        return -1; /* the connection ends, and the log says why */
    }
    return length < HEADER ? 0 : HEADER + bytes[1] + 256 * bytes[2];
}

/* A send that fails is no error of the callback: the client may be gone, and then `close` tells. */
static void answer(srvlua_server *server, int64_t fd, const void *data, size_t length) {
    struct srvlua_status status;
    if (srvlua_send(server, fd, data, length, &status) < 0)
        srvlua_log(server, SRVLUA_LOG_WARNING, "connection %lld: %s", (long long)fd, status.message);
}

/* Both ports call it: the one for orders has no callback of its own for connect. */
static int greet(srvlua_server *server, const struct srvlua_event_data *event, void *unused) {
    (void)unused;
    struct srvlua_client_info info;
    struct srvlua_status status;
    if (srvlua_get_client_info(server, event->fd, 0, &info, &status) == 0 && info.is_ssl)
        srvlua_log(server, SRVLUA_LOG_INFO, "%s came by %s%s", info.remote_ip, info.ssl_protocol,
                   info.ssl_client_cert ? ", with a certificate" : "");
    return 0;
}

/* One whole packet, however it came. */
static int on_packet(srvlua_server *server, const struct srvlua_event_data *event, void *unused) {
    (void)unused;
    const unsigned char *bytes = event->data;
    unsigned char *copy = malloc(event->length);
    if (!copy)
        return -1;
    for (size_t i = 0; i < event->length; i++)
        copy[i] = bytes[0] == 'U' && i >= HEADER ? (unsigned char)toupper(bytes[i]) : bytes[i];
    answer(server, event->fd, copy, event->length);
    free(copy);
    return 0;
}

static int on_order(srvlua_server *server, const struct srvlua_event_data *event, void *unused) {
    (void)unused;
    struct srvlua_status status = {.message = "done"};
    if (event->length == 7 && memcmp(event->data, "reload\n", 7) == 0)
        srvlua_reload_certificates(server, NULL, &status);
    else if (event->length == 6 && memcmp(event->data, "count\n", 6) == 0)
        snprintf(status.message, sizeof status.message, "%lld", (long long)srvlua_port_connection_count(srvlua_get_port(server, 0)));
    else
        snprintf(status.message, sizeof status.message, "reload or count?");
    strcat(status.message, "\n");
    answer(server, event->fd, status.message, strlen(status.message));
    return 0;
}

static int print_addresses(srvlua_server *server, const struct srvlua_event_data *event, void *unused) {
    (void)event, (void)unused;
    struct srvlua_port_info packets, orders;
    srvlua_port_get_info(srvlua_get_port(server, 0), &packets);
    srvlua_port_get_info(srvlua_get_port(server, 1), &orders);
    printf("packets over TLS on %s:%d, orders on %s\n", packets.host, packets.port, orders.host);
    fflush(stdout);
    return 0;
}

static const char *file_name(const char *variable, const char *otherwise) {
    const char *name = getenv(variable);
    return name ? name : otherwise;
}

static int set_up(srvlua_server *server, const char *admin_path, struct srvlua_status *status) {
    const char *authority = getenv("CA");
    const struct srvlua_setting tls[] = {
        SRVLUA_SET_STRING("ssl_cert_file", file_name("CERT", "cert.pem")),
        SRVLUA_SET_STRING("ssl_key_file", file_name("KEY", "key.pem")),
        SRVLUA_SET_BOOLEAN("open_length_check", 1),
        SRVLUA_SET_FUNCTION("package_length_func", measure),
        SRVLUA_SET_BOOLEAN("ssl_verify_peer", authority != NULL),
        SRVLUA_SET_STRING("ssl_client_cert_file", authority ? authority : ""),
    };
    const struct srvlua_setting lines[] = {SRVLUA_SET_BOOLEAN("open_eof_split", 1), SRVLUA_SET_STRING("package_eof", "\n")};
    srvlua_port *admin;
    int result = srvlua_set(server, tls, authority ? 6 : 5, status);
    if (result == 0)
        result = srvlua_add_listener(server, admin_path, 0, SRVLUA_SOCK_UNIX_STREAM, &admin, status);
    if (result == 0) /* what it is not told here is at its default: it inherits nothing now */
        result = srvlua_port_set(admin, lines, 2, status);
    if (result == 0)
        result = srvlua_port_on(admin, SRVLUA_ON_RECEIVE, on_order, NULL, status);
    if (result == 0)
        result = srvlua_on(server, SRVLUA_ON_START, print_addresses, NULL, status);
    if (result == 0)
        result = srvlua_on(server, SRVLUA_ON_CONNECT, greet, NULL, status);
    return result == 0 ? srvlua_on(server, SRVLUA_ON_RECEIVE, on_packet, NULL, status) : result;
}

int main(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 9501;
    int mode = argc > 2 && strcmp(argv[2], "BASE") == 0 ? SRVLUA_BASE : SRVLUA_PROCESS;
    struct srvlua_status status;
    struct srvlua_port_info info;
    char path[64];
    int result = -1;

    srvlua_server *server = srvlua_new("127.0.0.1", port, mode, SRVLUA_SOCK_TCP + SRVLUA_SSL, &status);
    if (server) {
        srvlua_port_get_info(srvlua_get_port(server, 0), &info);
        snprintf(path, sizeof path, "/tmp/srvlua-%d.admin", info.port);
        result = set_up(server, path, &status);
    }
    if (result == 0)
        result = srvlua_start(server, &status);
    if (result < 0)
        fprintf(stderr, "framed_tls: %s (%d)\n", status.message, status.code);
    srvlua_free(server);
    return result < 0 ? EXIT_FAILURE : EXIT_SUCCESS;
}
