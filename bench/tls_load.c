/* tls_load.c: the load of `make bench` for TLS: one thread, connections to 127.0.0.1 with TLS 1.2 and ECDHE, AES-128-GCM.
 *
 *   tls_load PORT full|resumed CONNECTIONS SECONDS   as many handshakes as go, so many at a time: full ones, or with the ticket of the
 *                                                    first. Prints "handshakes-per-second handshakes"
 *   tls_load PORT d|f|u CONNECTIONS SECONDS MIB      each connection asks for MIB mebibytes, again and again (raw_tls.c says how): d, f
 *                                                    from the server, u to it. Prints "MiB-per-second MiB"
 *   tls_load PORT hold CONNECTIONS                   makes connections, then "ready"; holds them until its input ends
 *
 * Ends with status 1 and a line on stderr when a connection fails or nothing comes for five seconds. */
#define MBEDTLS_ALLOW_PRIVATE_ACCESS
#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/tcp.h>
#include <stdarg.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/resource.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>

#define EVENTS_MAX 64
#define PIECE 65536u
#define REQUEST_BYTES 16
#define PATIENCE_MS 5000
#define SECOND_NS 1000000000u
#define MIB 1048576u

enum stage { SHAKING, OPEN, ENDING, ENDED };

struct client {
    mbedtls_ssl_context ssl;
    int fd;
    enum stage stage;
    bool is_writing, has_seen_certificate;
    uint64_t to_send, to_receive; /* of the request */
    size_t half_sent;             /* mbedTLS wants the same bytes again */
};

struct load {
    int epoll, port;
    char kind; /* s: handshakes; d, f, u; h: hold */
    bool is_resuming, has_session, is_over;
    size_t count, open;
    uint64_t size; /* of a request */
    uint64_t done; /* handshakes, bytes */
    struct client *clients;
    mbedtls_ssl_session session;
    mbedtls_ssl_config config;
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
};

/* One connection is served at a time and leaves nothing in them. */
static unsigned char input[PIECE], data[PIECE];
static size_t input_begin, input_end;
static bool may_read;

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    fputs("tls_load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

static void check(int result, const char *what) {
    if (result != 0)
        fail("%s: -%#x", what, (unsigned)-result);
}

static uint64_t now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* ------------------------------------------------------------------------------------------------------------- bytes */

static int take(void *context, unsigned char *room, size_t size) {
    const struct client *client = context;

    if (input_begin == input_end) {
        if (!may_read)
            return MBEDTLS_ERR_SSL_WANT_READ;
        ssize_t got = recv(client->fd, input, sizeof input, 0);
        may_read = false;
        if (got < 0)
            return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
        input_begin = 0;
        input_end = (size_t)got;
    }
    if (size > input_end - input_begin)
        size = input_end - input_begin;
    memcpy(room, input + input_begin, size);
    input_begin += size;
    return (int)size;
}

static int give(void *context, const unsigned char *bytes, size_t length) {
    const struct client *client = context;
    ssize_t sent = send(client->fd, bytes, length, MSG_NOSIGNAL);

    if (sent < 0)
        return errno == EAGAIN || errno == EINTR ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    return (int)sent;
}

static void watch(const struct load *load, int operation, struct client *client) {
    struct epoll_event event = {.events = EPOLLIN | (client->is_writing ? EPOLLOUT : 0u), .data.ptr = client};

    if (epoll_ctl(load->epoll, operation, client->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

static void want_to_write(const struct load *load, struct client *client, bool is_writing) {
    if (client->is_writing == is_writing)
        return;
    client->is_writing = is_writing;
    watch(load, EPOLL_CTL_MOD, client);
}

/* -------------------------------------------------------------------------------------------------------- connections */

static void begin(struct load *load, struct client *client) {
    int one = 1;
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)load->port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    *client = (struct client){.fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0), .is_writing = true};
    if (client->fd < 0 || connect(client->fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect to port %d: %s", load->port, strerror(errno));
    setsockopt(client->fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(client->fd, F_SETFL, O_NONBLOCK);
    mbedtls_ssl_init(&client->ssl);
    check(mbedtls_ssl_setup(&client->ssl, &load->config), "a connection");
    mbedtls_ssl_set_bio(&client->ssl, client, give, take, NULL);
    if (load->has_session)
        check(mbedtls_ssl_set_session(&client->ssl, &load->session), "the session");
    watch(load, EPOLL_CTL_ADD, client);
}

static void end(struct client *client) {
    mbedtls_ssl_free(&client->ssl);
    close(client->fd);
}

static void ask(const struct load *load, struct client *client) {
    char request[REQUEST_BYTES + 1];

    snprintf(request, sizeof request, "%c%015llu", load->kind, (unsigned long long)load->size);
    if (mbedtls_ssl_write(&client->ssl, (unsigned char *)request, REQUEST_BYTES) != REQUEST_BYTES)
        fail("the request was not taken");
    client->to_send = load->kind == 'u' ? load->size : 0;
    client->to_receive = load->kind == 'u' ? 1 : load->size;
    want_to_write(load, client, client->to_send > 0);
}

static void on_shaken(struct load *load, struct client *client) {
    load->open++;
    client->stage = OPEN;
    if (load->kind == 'h') {
        mbedtls_ssl_free(&client->ssl); /* the socket stays */
        epoll_ctl(load->epoll, EPOLL_CTL_DEL, client->fd, NULL);
        return;
    }
    if (load->kind != 's') {
        ask(load, client);
        return;
    }
    if (load->has_session && client->has_seen_certificate)
        fail("the ticket was not taken");
    if (load->is_resuming && !load->has_session) {
        check(mbedtls_ssl_get_session(&client->ssl, &load->session), "the session");
        load->has_session = true;
    }
    load->done++;
    mbedtls_ssl_close_notify(&client->ssl);
    client->stage = ENDING;
    want_to_write(load, client, false);
}

static void shake(struct load *load, struct client *client) {
    int result = 0;

    while (result == 0 && client->ssl.state != MBEDTLS_SSL_HANDSHAKE_OVER) {
        if (client->ssl.state == MBEDTLS_SSL_SERVER_CERTIFICATE)
            client->has_seen_certificate = true;
        result = mbedtls_ssl_handshake_step(&client->ssl);
    }
    if (result == 0) {
        on_shaken(load, client);
        return;
    }
    if (result != MBEDTLS_ERR_SSL_WANT_READ && result != MBEDTLS_ERR_SSL_WANT_WRITE)
        fail("handshake: -%#x", (unsigned)-result);
    want_to_write(load, client, result == MBEDTLS_ERR_SSL_WANT_WRITE);
}

static void send_more(const struct load *load, struct client *client) {
    for (int records = 0; records < 4 && client->to_send > 0; records++) {
        size_t size = client->half_sent ? client->half_sent : client->to_send < 16384 ? (size_t)client->to_send : 16384;
        int written = mbedtls_ssl_write(&client->ssl, data, size);
        client->half_sent = written == MBEDTLS_ERR_SSL_WANT_WRITE ? size : 0;
        if (client->half_sent)
            return;
        if (written < 0)
            fail("sending: -%#x", (unsigned)-written);
        client->to_send -= (uint64_t)written;
    }
    if (client->to_send == 0)
        want_to_write(load, client, false);
}

static void receive(struct load *load, struct client *client) {
    static unsigned char plain[PIECE];

    do {
        int got = mbedtls_ssl_read(&client->ssl, plain, sizeof plain);
        if (got == MBEDTLS_ERR_SSL_WANT_READ || got == MBEDTLS_ERR_SSL_WANT_WRITE)
            continue;
        if (got <= 0 || (uint64_t)got > client->to_receive)
            fail("receiving: %d", got);
        client->to_receive -= (uint64_t)got;
        if (client->to_receive > 0)
            continue;
        load->done += load->size;
        if (!load->is_over)
            ask(load, client);
    } while (input_begin < input_end || mbedtls_ssl_get_bytes_avail(&client->ssl) > 0);
}

/* After close_notify: until the server has closed. */
static void wait_for_end(struct load *load, struct client *client) {
    ssize_t got = recv(client->fd, input, sizeof input, 0);

    if (got > 0 || (got < 0 && errno == EAGAIN))
        return;
    end(client);
    client->stage = ENDED;
    if (!load->is_over)
        begin(load, client);
}

static void on_event(struct load *load, struct client *client, uint32_t events) {
    input_begin = input_end = 0;
    may_read = true;
    if (client->stage == ENDING)
        wait_for_end(load, client);
    else if (client->stage == SHAKING)
        shake(load, client);
    else {
        if (events & EPOLLOUT)
            send_more(load, client);
        if (events & ~(uint32_t)EPOLLOUT)
            receive(load, client);
    }
}

static void turn(struct load *load) {
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(load->epoll, events, EVENTS_MAX, PATIENCE_MS);

    if (count == 0)
        fail("nothing came for %d ms", PATIENCE_MS);
    for (int i = 0; i < count; i++)
        on_event(load, events[i].data.ptr, events[i].events);
}

/* ------------------------------------------------------------------------------------------------------------ running */

static void hold(struct load *load) {
    for (size_t i = 0; i < load->count; i++) {
        begin(load, &load->clients[i]);
        while (load->open <= i)
            turn(load);
    }
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
}

static bool is_busy(const struct load *load, const struct client *client) {
    return load->kind == 's' ? client->stage != ENDED : client->stage == SHAKING || client->to_receive > 0;
}

static void measure(struct load *load, double seconds) {
    uint64_t time_ns, begin_ns = now_ns(), end_ns = begin_ns + (uint64_t)(seconds * SECOND_NS);

    begin(load, &load->clients[0]);
    while (load->open == 0) /* the first has the ticket for all */
        turn(load);
    for (size_t i = 1; i < load->count; i++)
        begin(load, &load->clients[i]);
    while ((time_ns = now_ns()) < end_ns)
        turn(load);
    load->is_over = true; /* what has begun comes to its end, so that the server has done no more than is counted */
    for (size_t i = 0; i < load->count; i++)
        while (is_busy(load, &load->clients[i]))
            turn(load);
    time_ns = now_ns();
    uint64_t done = load->kind == 's' ? load->done : load->done / MIB;
    printf("%.1f %llu\n", (double)done * SECOND_NS / (double)(time_ns - begin_ns), (unsigned long long)done);
}

static void configure(struct load *load) {
    static const int suites[] = {0xc02b, 0xc02f, 0};
    mbedtls_ssl_config *config = &load->config;

    mbedtls_entropy_init(&load->entropy);
    mbedtls_ctr_drbg_init(&load->random);
    mbedtls_ssl_config_init(config);
    mbedtls_ssl_session_init(&load->session);
    check(mbedtls_ctr_drbg_seed(&load->random, mbedtls_entropy_func, &load->entropy, NULL, 0), "random numbers");
    check(mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                      MBEDTLS_SSL_PRESET_DEFAULT),
          "configuration");
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &load->random);
    mbedtls_ssl_conf_authmode(config, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_ciphersuites(config, suites);
    mbedtls_ssl_conf_session_tickets(config, load->is_resuming ? MBEDTLS_SSL_SESSION_TICKETS_ENABLED
                                                               : MBEDTLS_SSL_SESSION_TICKETS_DISABLED);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    mbedtls_ssl_conf_max_tls_version(config, MBEDTLS_SSL_VERSION_TLS1_2);
#endif
}

static void allow_descriptors(size_t count) {
    struct rlimit limit;

    getrlimit(RLIMIT_NOFILE, &limit);
    if (limit.rlim_cur < count && limit.rlim_max >= count)
        limit.rlim_cur = count;
    if (limit.rlim_cur < count || setrlimit(RLIMIT_NOFILE, &limit))
        fail("%zu open files are not allowed here", count);
}

int main(int argc, char **argv) {
    static struct load load;
    const char *kind = argc > 2 ? argv[2] : "";
    bool is_shaking = strcmp(kind, "full") == 0 || strcmp(kind, "resumed") == 0, is_holding = strcmp(kind, "hold") == 0;
    bool is_bulk = strlen(kind) == 1 && strchr("dfu", kind[0]);

    if (!(is_shaking && argc == 5) && !(is_bulk && argc == 6) && !(is_holding && argc == 4))
        fail(
            "usage: tls_load PORT full|resumed CONNECTIONS SECONDS | d|f|u CONNECTIONS SECONDS MIB | hold CONNECTIONS");
    load.port = atoi(argv[1]);
    load.kind = is_shaking ? 's' : kind[0];
    load.is_resuming = kind[0] == 'r';
    load.count = strtoul(argv[3], NULL, 10);
    load.size = is_bulk ? strtoull(argv[5], NULL, 10) * MIB : 0;
    if (load.count < 1 || (is_bulk && load.size == 0))
        fail("CONNECTIONS and MIB: at least 1");
    allow_descriptors(load.count + 16);
    load.clients = calloc(load.count, sizeof *load.clients);
    load.epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load.clients || load.epoll < 0)
        fail("cannot begin: %s", strerror(errno));
    configure(&load);
    if (is_holding)
        hold(&load);
    else
        measure(&load, atof(argv[4]));
    return EXIT_SUCCESS;
}
