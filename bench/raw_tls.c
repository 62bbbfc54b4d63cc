/* raw_tls.c CERTIFICATE KEY FILE: the yardstick of `make bench` for TLS: mbedTLS and an epoll loop, nothing else.
 *
 * It does what a program could at best: what a readable socket has is read with one system call, a flight of the handshake and four
 * records are written with one. A socket that is full is waited for, since the client (tls_load.c) always reads.
 *
 * A connection may ask, in 16 bytes each: a letter and a number of bytes in 15 digits.
 *   d  send so many, in pieces of 64 KiB     f  the same from FILE     u  take so many, then answer with one byte
 * bench/tls.lua serves the same. Prints where it listens; ends by a signal. */
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <poll.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/ssl_ticket.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "net/tls_internal.h"

#define EVENTS_MAX 512
#define PIECE 65536u
#define REQUEST_BYTES 16u
#define PATIENCE_MS 5000
#define TICKET_SECONDS 3600

struct session {
    mbedtls_ssl_context ssl;
    int fd;
    bool is_open, is_sending;
    char kind;
    uint64_t left, at; /* of the request */
};

struct server {
    int epoll, listener, file;
    mbedtls_ssl_config config;
    mbedtls_x509_crt certificate;
    mbedtls_pk_context key;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    mbedtls_ssl_ticket_context tickets;
};

/* mbedTLS is called where the stack suits it, else a fifth of these figures would be luck (net/tls_stack.c). */
static struct sv_tls_stack writing, reading;

/* One session is served at a time and leaves nothing in them: what is half a record is in mbedTLS's own buffer. */
static unsigned char input[PIECE], output[PIECE + 8192], piece[PIECE];
static size_t input_begin, input_end, output_length;
static bool may_read;

static void die(const char *what) {
    perror(what);
    exit(EXIT_FAILURE);
}

static void check(int result, const char *what) {
    if (result == 0)
        return;
    fprintf(stderr, "raw_tls: %s: -%#x\n", what, (unsigned)-result);
    exit(EXIT_FAILURE);
}

/* ------------------------------------------------------------------------------------------------------------- bytes */

static int take(void *context, unsigned char *data, size_t size) {
    const struct session *session = context;

    if (input_begin == input_end) {
        if (!may_read)
            return MBEDTLS_ERR_SSL_WANT_READ;
        ssize_t got = recv(session->fd, input, sizeof input, 0);
        may_read = false;
        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
        input_begin = 0;
        input_end = (size_t)got;
        if (got == 0)
            return 0;
    }
    if (size > input_end - input_begin)
        size = input_end - input_begin;
    memcpy(data, input + input_begin, size);
    input_begin += size;
    return (int)size;
}

static bool flush(const struct session *session) {
    size_t sent = 0, length = output_length;

    output_length = 0;
    while (sent < length) {
        ssize_t count = send(session->fd, output + sent, length - sent, MSG_NOSIGNAL);
        struct pollfd room = {.fd = session->fd, .events = POLLOUT};
        if (count < 0 && (errno != EAGAIN || poll(&room, 1, PATIENCE_MS) != 1))
            return false;
        if (count > 0)
            sent += (size_t)count;
    }
    return true;
}

static int gather(void *context, const unsigned char *data, size_t length) {
    if (length > sizeof output - output_length && !flush(context))
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    memcpy(output + output_length, data, length);
    output_length += length;
    return (int)length;
}

/* ---------------------------------------------------------------------------------------------------------- requests */

static bool write_all(struct session *session, const unsigned char *data, size_t length) {
    while (length > 0) {
        int written = sv_tls_stack_write(&writing, &session->ssl, data, length);
        if (written <= 0)
            return false;
        data += written;
        length -= (size_t)written;
    }
    return true;
}

static bool send_piece(const struct server *server, struct session *session) {
    size_t size = session->left < PIECE ? (size_t)session->left : PIECE;

    if (session->kind == 'f' && pread(server->file, piece, size, (off_t)session->at) != (ssize_t)size)
        die("the file");
    session->at += size;
    session->left -= size;
    return write_all(session, piece, size);
}

static bool take_bytes(struct session *session, const unsigned char *data, size_t length) {
    if (session->left == 0) {
        char request[REQUEST_BYTES + 1] = "";
        if (length < REQUEST_BYTES)
            return false;
        memcpy(request, data, REQUEST_BYTES);
        session->kind = request[0];
        session->left = strtoull(request + 1, NULL, 10);
        session->at = 0;
        length -= REQUEST_BYTES;
    }
    if (session->kind != 'u' || length == 0)
        return true;
    if (length > session->left)
        return false;
    session->left -= length;
    return session->left > 0 || write_all(session, (const unsigned char *)"k", 1);
}

/* False: the session is over. */
static bool serve(const struct server *server, struct session *session) {
    static unsigned char data[PIECE];

    may_read = true;
    if (!session->is_open) {
        int result = mbedtls_ssl_handshake(&session->ssl);
        if (!flush(session) || (result != 0 && result != MBEDTLS_ERR_SSL_WANT_READ))
            return false;
        session->is_open = result == 0;
        if (!session->is_open)
            return true;
    }
    do {
        int got = sv_tls_stack_read(&reading, &session->ssl, data, sizeof data);
        if (got > 0 ? !take_bytes(session, data, (size_t)got) : got != MBEDTLS_ERR_SSL_WANT_READ) {
            mbedtls_ssl_close_notify(&session->ssl);
            flush(session);
            return false;
        }
    } while (input_begin < input_end || mbedtls_ssl_get_bytes_avail(&session->ssl) > 0);
    if (session->left > 0 && session->kind != 'u' && !send_piece(server, session))
        return false;
    return flush(session);
}

/* -------------------------------------------------------------------------------------------------------------- loop */

static void watch(const struct server *server, int operation, int fd, struct session *session, uint32_t events) {
    struct epoll_event event = {.events = events, .data.ptr = session};

    if (epoll_ctl(server->epoll, operation, fd, &event))
        die("epoll_ctl");
}

static void on_event(const struct server *server, struct session *session) {
    input_begin = input_end = output_length = 0;
    if (!serve(server, session)) {
        close(session->fd);
        mbedtls_ssl_free(&session->ssl);
        free(session);
        return;
    }
    bool is_sending = session->left > 0 && session->kind != 'u';
    if (is_sending != session->is_sending)
        watch(server, EPOLL_CTL_MOD, session->fd, session, EPOLLIN | (is_sending ? EPOLLOUT : 0u));
    session->is_sending = is_sending;
}

static void accept_all(const struct server *server) {
    int one = 1, fd;

    while ((fd = accept4(server->listener, NULL, NULL, SOCK_NONBLOCK | SOCK_CLOEXEC)) >= 0) {
        struct session *session = calloc(1, sizeof *session);
        if (!session)
            die("calloc");
        setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
        session->fd = fd;
        mbedtls_ssl_init(&session->ssl);
        check(mbedtls_ssl_setup(&session->ssl, &server->config), "a session");
        mbedtls_ssl_set_bio(&session->ssl, session, gather, take, NULL);
        watch(server, EPOLL_CTL_ADD, fd, session, EPOLLIN);
    }
    if (errno != EAGAIN && errno != ECONNABORTED)
        die("accept4");
}

/* ------------------------------------------------------------------------------------------------------------- set up */

/* As srvlua does by default. */
static void configure(struct server *server, const char *certificate, const char *key) {
    mbedtls_ssl_config *config = &server->config;

    mbedtls_entropy_init(&server->entropy);
    mbedtls_ctr_drbg_init(&server->random);
    mbedtls_ssl_config_init(config);
    mbedtls_x509_crt_init(&server->certificate);
    mbedtls_pk_init(&server->key);
    mbedtls_ssl_ticket_init(&server->tickets);
    check(mbedtls_ctr_drbg_seed(&server->random, mbedtls_entropy_func, &server->entropy, NULL, 0), "random numbers");
    check(mbedtls_x509_crt_parse_file(&server->certificate, certificate), certificate);
    check(mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_SERVER, MBEDTLS_SSL_TRANSPORT_STREAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT),
          "configuration");
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    static const uint16_t groups[] = {29, 23, 24, 25, 0};
    check(mbedtls_pk_parse_keyfile(&server->key, key, NULL, mbedtls_ctr_drbg_random, &server->random), key);
    mbedtls_ssl_conf_groups(config, groups);
    mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    static const mbedtls_ecp_group_id groups[] = {MBEDTLS_ECP_DP_CURVE25519, MBEDTLS_ECP_DP_SECP256R1,
                                                  MBEDTLS_ECP_DP_SECP384R1, MBEDTLS_ECP_DP_SECP521R1,
                                                  MBEDTLS_ECP_DP_NONE};
    check(mbedtls_pk_parse_keyfile(&server->key, key, NULL), key);
    mbedtls_ssl_conf_curves(config, groups);
#endif
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &server->random);
    check(mbedtls_ssl_conf_own_cert(config, &server->certificate, &server->key), certificate);
    check(mbedtls_ssl_ticket_setup(&server->tickets, mbedtls_ctr_drbg_random, &server->random,
                                   MBEDTLS_CIPHER_AES_256_GCM, TICKET_SECONDS),
          "tickets");
    mbedtls_ssl_conf_session_tickets_cb(config, mbedtls_ssl_ticket_write, mbedtls_ssl_ticket_parse, &server->tickets);
}

static int listen_anywhere(void) {
    int fd = socket(AF_INET, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    socklen_t length = sizeof address;

    if (fd < 0 || bind(fd, (struct sockaddr *)&address, sizeof address) || listen(fd, 4096) ||
        getsockname(fd, (struct sockaddr *)&address, &length))
        die("listen");
    printf("raw_tls on 127.0.0.1:%d\n", ntohs(address.sin_port));
    fflush(stdout);
    return fd;
}

int main(int argc, char **argv) {
    static struct server server;

    if (argc != 4) {
        fputs("usage: raw_tls CERTIFICATE KEY FILE\n", stderr);
        return EXIT_FAILURE;
    }
    configure(&server, argv[1], argv[2]);
    server.file = open(argv[3], O_RDONLY | O_CLOEXEC);
    server.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (server.epoll < 0 || server.file < 0)
        die("cannot begin");
    server.listener = listen_anywhere();
    watch(&server, EPOLL_CTL_ADD, server.listener, NULL, EPOLLIN);
    for (;;) {
        struct epoll_event events[EVENTS_MAX];
        int count = epoll_wait(server.epoll, events, EVENTS_MAX, -1);

        if (count < 0 && errno != EINTR)
            die("epoll_wait");
        for (int i = 0; i < count; i++) {
            if (events[i].data.ptr)
                on_event(&server, events[i].data.ptr);
            else
                accept_all(&server);
        }
    }
}
