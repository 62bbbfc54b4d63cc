/* load.c: the load of `make bench`: one thread that keeps messages under way on many connections to an echo server on 127.0.0.1
 * and compares every byte that comes back.
 *
 *   load PORT CONNECTIONS DEPTH SECONDS WARMUP [BYTES]   each connection has DEPTH messages of BYTES (64) under way: as many as
 *                                                came back are sent anew, with one system call if they are small. Prints
 *                                                "echoes-per-second p50 p99 echoes": latencies in microseconds; `echoes`
 *                                                counts those of the warm-up too
 *   load PORT CONNECTIONS hold                   one echo per connection, then "ready"; holds them until its input ends
 *
 * A message is a packet for every server: it begins with the number of bytes behind that number (32 bits, big endian) and ends with
 * "\r\n\r\n", which is nowhere else in it.
 * Ends with status 1 and a line on stderr when a byte is wrong, a connection ends or nothing comes for five seconds. */
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

#define BLOCK_BYTES 64u /* what messages are made of */
#define MESSAGE_MAX (16u << 20)
#define DEPTH_MAX 1024
#define EVENTS_MAX 512
#define PATIENCE_MS 5000
#define SECOND_NS 1000000000u

/* Latencies by the power of two of their nanoseconds and 64 steps within it: at most 1.6 % off. */
#define STEP_BITS 6
#define STEPS (1u << STEP_BITS)

struct client {
    int fd;
    bool waits_for_room;
    uint64_t sent, received; /* positions in the stream, which is the same both ways */
    uint64_t *sent_at_ns;    /* [depth]: of message n at n % depth */
};

struct load {
    int epoll;
    uint64_t depth, size; /* of a message */
    size_t count;
    struct client *clients;
    uint64_t echoes; /* since the last reset() */
    uint64_t latencies[64 * STEPS];
};

static void fail(const char *format, ...) __attribute__((format(printf, 1, 2), noreturn));
static void fail(const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    fputs("load: ", stderr);
    vfprintf(stderr, format, arguments);
    fputc('\n', stderr);
    va_end(arguments);
    exit(EXIT_FAILURE);
}

static uint64_t now_ns(void) {
    struct timespec now;

    clock_gettime(CLOCK_MONOTONIC, &now);
    return (uint64_t)now.tv_sec * SECOND_NS + (uint64_t)now.tv_nsec;
}

/* --------------------------------------------------------------------------------------------------------- messages */

/* Bytes of a connection's stream that no other connection has, and no other place in this one. */
static void make_block(const struct load *load, size_t client, uint64_t number, unsigned char block[BLOCK_BYTES]) {
    uint64_t words[BLOCK_BYTES / sizeof(uint64_t)];
    uint64_t word = (client + 1) * UINT64_C(0x9e3779b97f4a7c15) + number, blocks = load->size / BLOCK_BYTES;

    for (size_t i = 0; i < sizeof words / sizeof words[0]; i++, word += UINT64_C(0x2545f4914f6cdd1d))
        words[i] = word | UINT64_C(0x8080808080808080); /* no line ends */
    memcpy(block, words, sizeof words);
    if (number % blocks == 0) {
        uint32_t length = htonl((uint32_t)load->size - (uint32_t)sizeof length);
        memcpy(block, &length, sizeof length);
    }
    if (number % blocks == blocks - 1)
        memcpy(block + BLOCK_BYTES - 4, "\r\n\r\n", 4);
}

static void check(const struct load *load, const struct client *client, const unsigned char *data, size_t length) {
    size_t number = (size_t)(client - load->clients);
    uint64_t at = client->received;

    if (length > client->sent - at)
        fail("connection %zu: more came back than was sent", number);
    while (length > 0) {
        unsigned char expected[BLOCK_BYTES];
        size_t offset = at % BLOCK_BYTES;
        size_t part = BLOCK_BYTES - offset < length ? BLOCK_BYTES - offset : length;

        make_block(load, number, at / BLOCK_BYTES, expected);
        if (memcmp(expected + offset, data, part) != 0)
            fail("connection %zu: message %llu came back changed", number, (unsigned long long)(at / load->size));
        data += part;
        at += part;
        length -= part;
    }
}

/* -------------------------------------------------------------------------------------------------------- latencies */

static size_t bucket_of(uint64_t ns) {
    int shift = 63 - __builtin_clzll(ns | STEPS) - STEP_BITS;

    return (size_t)shift * STEPS + (ns >> shift);
}

static double middle_us(size_t bucket) {
    size_t shift = bucket < 2 * STEPS ? 0 : bucket / STEPS - 1;
    uint64_t low = (uint64_t)(bucket - shift * STEPS) << shift;

    return ((double)low + (double)(UINT64_C(1) << shift) / 2) / 1e3;
}

static double quantile_us(const struct load *load, double part) {
    uint64_t rank = (uint64_t)(part * (double)load->echoes), seen = 0;
    size_t last = sizeof load->latencies / sizeof load->latencies[0] - 1;

    for (size_t i = 0; i < last; i++) {
        seen += load->latencies[i];
        if (seen > rank)
            return middle_us(i);
    }
    return middle_us(last);
}

/* ------------------------------------------------------------------------------------------------------ connections */

static int connect_to(int port) {
    int one = 1, fd = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
    struct sockaddr_in address = {
        .sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};

    if (fd < 0 || connect(fd, (struct sockaddr *)&address, sizeof address))
        fail("cannot connect to port %d: %s", port, strerror(errno));
    setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &one, sizeof one);
    fcntl(fd, F_SETFL, O_NONBLOCK);
    return fd;
}

static void watch(const struct load *load, int operation, struct client *client) {
    struct epoll_event event = {.events = EPOLLIN | (client->waits_for_room ? EPOLLOUT : 0u), .data.ptr = client};

    if (epoll_ctl(load->epoll, operation, client->fd, &event))
        fail("epoll_ctl: %s", strerror(errno));
}

/* Sends of what is missing to `depth` messages under way as much as one system call takes. */
static void send_more(const struct load *load, struct client *client, uint64_t time_ns) {
    unsigned char data[DEPTH_MAX * BLOCK_BYTES];
    uint64_t end = (client->received / load->size + load->depth) * load->size, first = client->sent / BLOCK_BYTES;
    size_t begun = client->sent % BLOCK_BYTES, length = 0;

    for (uint64_t number = first; number * BLOCK_BYTES < end && length < sizeof data; number++, length += BLOCK_BYTES)
        make_block(load, (size_t)(client - load->clients), number, data + length);
    if (length <= begun)
        return;
    for (uint64_t number = (client->sent + load->size - 1) / load->size;
         number * load->size < first * BLOCK_BYTES + length; number++)
        client->sent_at_ns[number % load->depth] = time_ns;
    ssize_t sent = send(client->fd, data + begun, length - begun, MSG_NOSIGNAL);
    if (sent < 0 && errno != EAGAIN)
        fail("send: %s", strerror(errno));
    if (sent > 0)
        client->sent += (uint64_t)sent;
    bool has_more = client->sent < end;
    if (has_more != client->waits_for_room) {
        client->waits_for_room = has_more;
        watch(load, EPOLL_CTL_MOD, client);
    }
}

/* Takes in what is there. */
static void receive(struct load *load, struct client *client, uint64_t time_ns) {
    unsigned char data[DEPTH_MAX * BLOCK_BYTES];
    ssize_t got = recv(client->fd, data, sizeof data, 0);

    if (got == 0 || (got < 0 && errno != EAGAIN))
        fail("connection %zu ended: %s", (size_t)(client - load->clients),
             got ? strerror(errno) : "closed by the server");
    if (got < 0)
        return;
    check(load, client, data, (size_t)got);
    uint64_t before = client->received / load->size;
    client->received += (uint64_t)got;
    for (uint64_t number = before; number < client->received / load->size; number++) {
        load->latencies[bucket_of(time_ns - client->sent_at_ns[number % load->depth])]++;
        load->echoes++;
    }
}

static void open_all(struct load *load, int port) {
    for (size_t i = 0; i < load->count; i++) {
        struct client *client = &load->clients[i];
        client->sent_at_ns = calloc(load->depth, sizeof *client->sent_at_ns);
        if (!client->sent_at_ns)
            fail("out of memory");
        client->fd = connect_to(port);
        watch(load, EPOLL_CTL_ADD, client);
    }
}

/* ---------------------------------------------------------------------------------------------------------- running */

static void turn(struct load *load, bool is_sending) {
    struct epoll_event events[EVENTS_MAX];
    int count = epoll_wait(load->epoll, events, EVENTS_MAX, PATIENCE_MS);

    if (count == 0)
        fail("nothing came back for %d ms", PATIENCE_MS);
    for (int i = 0; i < count; i++) {
        struct client *client = events[i].data.ptr;
        uint64_t time_ns = now_ns();
        if (events[i].events & ~(uint32_t)EPOLLOUT)
            receive(load, client, time_ns);
        if (is_sending)
            send_more(load, client, time_ns);
    }
}

static void reset(struct load *load) {
    load->echoes = 0;
    memset(load->latencies, 0, sizeof load->latencies);
}

static void measure(struct load *load, double seconds, double warm_up) {
    for (size_t i = 0; i < load->count; i++)
        send_more(load, &load->clients[i], now_ns());
    uint64_t begin_ns = now_ns() + (uint64_t)(warm_up * SECOND_NS);
    while (now_ns() < begin_ns)
        turn(load, true);
    uint64_t warm_up_echoes = load->echoes;
    reset(load);
    begin_ns = now_ns();
    uint64_t time_ns, end_ns = begin_ns + (uint64_t)(seconds * SECOND_NS);
    while ((time_ns = now_ns()) < end_ns)
        turn(load, true);
    printf("%.0f %.1f %.1f %llu\n", (double)load->echoes * SECOND_NS / (double)(time_ns - begin_ns),
           quantile_us(load, 0.5), quantile_us(load, 0.99), (unsigned long long)(load->echoes + warm_up_echoes));
}

static void hold(struct load *load) {
    for (size_t i = 0; i < load->count; i++)
        send_more(load, &load->clients[i], now_ns());
    while (load->echoes < load->count)
        turn(load, false);
    puts("ready");
    fflush(stdout);
    while (getchar() != EOF)
        ;
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
    bool is_holding = argc == 4 && strcmp(argv[3], "hold") == 0;
    struct load *load = calloc(1, sizeof *load);

    if (!is_holding && argc != 6 && argc != 7)
        fail("usage: load PORT CONNECTIONS DEPTH SECONDS WARMUP [BYTES] | load PORT CONNECTIONS hold");
    long count = atol(argv[2]), depth = is_holding ? 1 : atol(argv[3]);
    if (count < 1 || depth < 1 || depth > DEPTH_MAX)
        fail("connections: at least 1; depth: 1 to %d", DEPTH_MAX);
    load->size = argc == 7 ? strtoull(argv[6], NULL, 10) : BLOCK_BYTES;
    if (load->size == 0 || load->size % BLOCK_BYTES != 0 || load->size > MESSAGE_MAX)
        fail("BYTES: a multiple of %u, at most %u", BLOCK_BYTES, MESSAGE_MAX);
    allow_descriptors((size_t)count + 16);
    load->count = (size_t)count;
    load->depth = (uint64_t)depth;
    load->clients = calloc(load->count, sizeof *load->clients);
    load->epoll = epoll_create1(EPOLL_CLOEXEC);
    if (!load->clients || load->epoll < 0)
        fail("cannot begin: %s", strerror(errno));
    open_all(load, atoi(argv[1]));
    if (is_holding)
        hold(load);
    else
        measure(load, atof(argv[4]), atof(argv[5]));
    return EXIT_SUCCESS;
}
