/* DTLS over loopback: cookies without memory, loss and disorder, records as datagrams, what is no DTLS. */
#include <poll.h>

#include "tls_client.h"

#define QUEUE 64

struct wire { /* the client's way to the server, which loses and holds back what it is told to */
    struct client client;
    uint64_t lose_out, lose_in; /* bit n: the nth datagram of that direction does not arrive */
    bool swaps;                 /* each second datagram overtakes the first */
    unsigned out, in;
    size_t held_length;
    unsigned char held[17000];
};

struct dtls {
    struct server server;
    int listener, fd;
    struct sv_address address;
    struct wire wire;
    struct sv_tls *tls;
    enum sv_tls_step step;
    unsigned greetings;
};

static int wire_send(void *context, const unsigned char *data, size_t length) {
    struct wire *wire = context;
    unsigned number = wire->out++;
    if (number < 64 && wire->lose_out >> number & 1)
        return (int)length;
    if (wire->swaps && wire->held_length == 0) {
        memcpy(wire->held, data, length);
        wire->held_length = length;
        return (int)length;
    }
    int result = client_send(&wire->client, data, length);
    if (wire->held_length > 0) {
        client_send(&wire->client, wire->held, wire->held_length);
        wire->held_length = 0;
    }
    return result;
}

static int wire_receive(void *context, unsigned char *data, size_t size) {
    struct wire *wire = context;
    for (;;) {
        int result = client_receive(&wire->client, data, size);
        if (result < 0)
            return result;
        unsigned number = wire->in++;
        if (number >= 64 || !(wire->lose_in >> number & 1))
            return result;
    }
}

static int bind_socket(struct sv_address *address) {
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0), yes = 1;
    setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &yes, sizeof yes);
    address->length = sizeof address->u.in;
    must(bind(fd, &address->u.base, address->length) == 0 && getsockname(fd, &address->u.base, &address->length) == 0, "bind");
    return fd;
}

static void open_dtls(struct dtls *dtls, const struct client_wish *wish) {
    struct client_wish datagrams = *wish;
    datagrams.is_datagram = true;
    dtls->server.rules.is_datagram = true;
    open_server(&dtls->server, NULL, NULL);
    dtls->address.u.in = (struct sockaddr_in){.sin_family = AF_INET, .sin_addr = {htonl(INADDR_LOOPBACK)}};
    dtls->listener = bind_socket(&dtls->address);
    dtls->fd = -1;
    dtls->step = SV_TLS_WANTS_INPUT;
    int fd = socket(AF_INET, SOCK_DGRAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0);
    must(connect(fd, &dtls->address.u.base, dtls->address.length) == 0, "connect");
    open_client(&dtls->wire.client, fd, &datagrams);
    mbedtls_ssl_set_bio(&dtls->wire.client.ssl, &dtls->wire, wire_send, wire_receive, NULL);
}

static void close_dtls(struct dtls *dtls) {
    sv_tls_free(dtls->tls);
    close(dtls->listener);
    if (dtls->fd >= 0)
        close(dtls->fd);
    close_client(&dtls->wire.client);
    close_server(&dtls->server, true);
}

/* What a reactor does with a datagram of nobody. */
static enum sv_dtls_greeting greet(struct dtls *dtls) {
    unsigned char data[17000], answer[SV_DTLS_ANSWER_SIZE];
    struct sv_address peer = {.length = sizeof peer.u};
    ssize_t length = recvfrom(dtls->listener, data, sizeof data, 0, &peer.u.base, &peer.length);
    if (length < 0)
        return SV_DTLS_DROPPED;
    dtls->greetings++;
    enum sv_dtls_greeting greeting = sv_dtls_greet(dtls->server.port, &peer, data, (size_t)length, answer);
    if (greeting == SV_DTLS_ANSWERED)
        CHECK(sendto(dtls->listener, answer, sizeof answer, 0, &peer.u.base, peer.length) == sizeof answer);
    struct sv_tls *accepted = greeting == SV_DTLS_WELCOME ? sv_dtls_accept(dtls->server.port, data, (size_t)length) : NULL;
    if (accepted && dtls->tls) {
        sv_tls_free(accepted);
    } else if (accepted) {
        struct sv_address own = dtls->address;
        dtls->fd = bind_socket(&own);
        must(connect(dtls->fd, &peer.u.base, peer.length) == 0, "connect");
        sv_dtls_set_socket(accepted, dtls->fd);
        dtls->tls = accepted;
    }
    return greeting;
}

static void shake_both(struct dtls *dtls) {
    struct client *client = &dtls->wire.client;
    int64_t give_up = sv_now_ns() + 20 * SV_NS_PER_SECOND;
    while (sv_now_ns() < give_up && !client->error && dtls->step != SV_TLS_FAILED && !(client->is_done && dtls->step == SV_TLS_DONE)) {
        shake_client(client);
        greet(dtls);
        if (client->is_done) { /* it may have to repeat its last flight */
            char nothing[16];
            read_client(client, nothing, sizeof nothing);
        }
        if (dtls->tls && dtls->step != SV_TLS_DONE)
            dtls->step = sv_tls_handshake(dtls->tls);
        else if (dtls->tls)
            CHECK(sv_tls_receive(dtls->tls, (char[16]){0}, 16) == -EAGAIN);
        struct pollfd sockets[3] = {{client->fd, POLLIN, 0}, {dtls->listener, POLLIN, 0}, {dtls->fd, POLLIN, 0}};
        poll(sockets, 3, 2);
    }
}

static bool connect_dtls(struct dtls *dtls, const struct client_wish *wish) {
    open_dtls(dtls, wish);
    shake_both(dtls);
    bool is_there = dtls->step == SV_TLS_DONE && dtls->wire.client.is_done;
    if (!is_there)
        fprintf(stderr, "server %d (%s), client %#x\n", dtls->step, dtls->tls ? sv_tls_error(dtls->tls) : "none", -dtls->wire.client.error);
    return is_there;
}

static const struct client_wish nothing = {0};

static bool says(struct dtls *dtls, const char *text) {
    char data[64];
    int length = (int)strlen(text);
    return mbedtls_ssl_write(&dtls->wire.client.ssl, (const unsigned char *)text, (size_t)length) == length &&
           sv_tls_receive(dtls->tls, data, sizeof data) == length && memcmp(data, text, (size_t)length) == 0;
}

TEST(handshake_with_a_cookie) {
    struct dtls dtls = {0};
    struct sv_tls_info info;
    char *pem, data[64];
    CHECK(connect_dtls(&dtls, &nothing));
    CHECK(dtls.greetings == 2);
    CHECK(says(&dtls, "ping"));
    struct iovec word = {"pong", 4};
    CHECK(sv_tls_send(dtls.tls, &word, 1) == 4);
    CHECK(read_client(&dtls.wire.client, data, sizeof data) == 4 && memcmp(data, "pong", 4) == 0);
    CHECK(sv_tls_describe(dtls.tls, &info, &pem) == 0 && strcmp(info.protocol, "DTLSv1.2") == 0);
    CHECK(sv_dtls_due(dtls.tls) == 0);
    CHECK(sv_tls_memory(dtls.tls) <= 40960);
    mbedtls_ssl_close_notify(&dtls.wire.client.ssl);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 0 && sv_tls_was_closed_cleanly(dtls.tls));
    CHECK(sv_tls_shut(dtls.tls) == 0);
    read_client(&dtls.wire.client, data, sizeof data);
    CHECK(dtls.wire.client.error == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
    close_dtls(&dtls);
}

TEST(records_are_datagrams) {
    struct dtls dtls = {0};
    char data[64];
    CHECK(connect_dtls(&dtls, &nothing));
    for (int i = 0; i < 3; i++)
        CHECK(mbedtls_ssl_write(&dtls.wire.client.ssl, (const unsigned char *)"0123456789", 10) == 10);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 10);
    CHECK(sv_tls_receive(dtls.tls, data, 4) == 4 && sv_tls_has_input(dtls.tls)); /* its rest is not lost */
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 6 && data[0] == '4');
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 10);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == -EAGAIN && !sv_tls_has_input(dtls.tls));
    close_dtls(&dtls);
}

TEST(several_records_in_a_datagram) {
    struct dtls dtls = {0};
    unsigned char both[256];
    char data[64];
    CHECK(connect_dtls(&dtls, &nothing));
    dtls.wire.swaps = true; /* holds it back */
    CHECK(mbedtls_ssl_write(&dtls.wire.client.ssl, (const unsigned char *)"one", 3) == 3);
    size_t first = dtls.wire.held_length;
    memcpy(both, dtls.wire.held, first);
    dtls.wire.held_length = 0;
    CHECK(mbedtls_ssl_write(&dtls.wire.client.ssl, (const unsigned char *)"two", 3) == 3);
    memcpy(both + first, dtls.wire.held, dtls.wire.held_length);
    client_send(&dtls.wire.client, both, first + dtls.wire.held_length - 1); /* the second is cut: lost */
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 3 && memcmp(data, "one", 3) == 0);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == -EAGAIN && !sv_tls_has_input(dtls.tls));
    client_send(&dtls.wire.client, both, first + dtls.wire.held_length); /* the first is a copy */
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 3 && memcmp(data, "two", 3) == 0);
    dtls.wire.held_length = 0;
    dtls.wire.swaps = false;
    CHECK(says(&dtls, "ping"));
    close_dtls(&dtls);
}

static void send_much(const struct client_wish *wish) {
    static unsigned char sent[40000], got[40000];
    struct dtls dtls = {0};
    size_t taken = 0, there = 0;
    for (size_t i = 0; i < sizeof sent; i++)
        sent[i] = (unsigned char)(i * 7 + i / 256);
    CHECK(connect_dtls(&dtls, wish));
    for (int turns = 0; there < sizeof sent && turns < 1000; turns++) {
        struct iovec parts[2] = {{sent + taken, (sizeof sent - taken) / 3}, {sent + taken + (sizeof sent - taken) / 3, 0}};
        parts[1].iov_len = sizeof sent - taken - parts[0].iov_len;
        if (taken < sizeof sent) {
            ssize_t count = sv_tls_send(dtls.tls, parts, 2);
            CHECK(count > 0 || count == -EAGAIN);
            taken += count > 0 ? (size_t)count : 0;
        } else {
            sv_tls_flush(dtls.tls);
        }
        there += read_client(&dtls.wire.client, got + there, sizeof got - there);
    }
    CHECK(there == sizeof sent && memcmp(sent, got, sizeof sent) == 0);
    close_dtls(&dtls);
}

TEST(large_sends_are_split) { send_much(&nothing); }

TEST(large_sends_to_a_client_that_wants_small_records) { send_much(&(struct client_wish){.wants_small_records = true}); }

TEST(lost_datagrams_of_the_handshake) {
    for (unsigned bit = 0; bit < 5; bit++) {
        struct dtls dtls = {0};
        dtls.wire.lose_out = UINT64_C(1) << bit;
        CHECK(connect_dtls(&dtls, &nothing));
        dtls.wire.lose_out = 0;
        CHECK(says(&dtls, "ping"));
        close_dtls(&dtls);
        memset(&dtls, 0, sizeof dtls);
        dtls.wire.lose_in = UINT64_C(1) << bit;
        CHECK(connect_dtls(&dtls, &nothing));
        CHECK(says(&dtls, "ping"));
        close_dtls(&dtls);
    }
}

TEST(datagrams_that_overtake_one_another) {
    struct dtls dtls = {0};
    CHECK(connect_dtls(&dtls, &nothing));
    dtls.wire.swaps = true;
    char data[64];
    for (int i = 0; i < 4; i++)
        CHECK(mbedtls_ssl_write(&dtls.wire.client.ssl, (const unsigned char *)"0123" + i, 1) == 1);
    static const char order[] = "1032"; /* as they come */
    for (int i = 0; i < 4; i++)
        CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 1 && data[0] == order[i]);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == -EAGAIN);
    close_dtls(&dtls);
}

TEST(replayed_and_foreign_datagrams_are_dropped) {
    struct dtls dtls = {0};
    char data[64];
    CHECK(connect_dtls(&dtls, &nothing));
    dtls.wire.swaps = true; /* keeps a copy of what it sends next */
    CHECK(mbedtls_ssl_write(&dtls.wire.client.ssl, (const unsigned char *)"once", 4) == 4);
    dtls.wire.swaps = false;
    for (int i = 0; i < 3; i++)
        client_send(&dtls.wire.client, dtls.wire.held, dtls.wire.held_length);
    dtls.wire.held_length = 0;
    client_send(&dtls.wire.client, (const unsigned char *)"garbage", 7);
    client_send(&dtls.wire.client, (const unsigned char *)"\x17\xfe\xfd\0\1\0\0\0\0\0\x77\0\x20" "01234567890123456789012345678901", 45);
    send(dtls.wire.client.fd, "", 0, 0);
    CHECK(says(&dtls, "once")); /* "once" of before */
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == 4);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == -EAGAIN);
    CHECK(says(&dtls, "ping"));
    close_dtls(&dtls);
}

TEST(what_is_no_hello_is_not_answered) {
    struct dtls dtls = {0};
    unsigned char hello[1024], data[1024];
    open_dtls(&dtls, &nothing);
    shake_client(&dtls.wire.client);
    struct sv_address peer = {.length = sizeof peer.u};
    ssize_t length = recvfrom(dtls.listener, hello, sizeof hello, 0, &peer.u.base, &peer.length);
    CHECK(length > 60);
    unsigned char answer[SV_DTLS_ANSWER_SIZE];
    for (ssize_t cut = 0; cut < length; cut++)
        CHECK(sv_dtls_greet(dtls.server.port, &peer, hello, (size_t)cut, answer) == SV_DTLS_DROPPED);
    static const int must_not_change[] = {0, 1, 3, 4, 13, 19, 20, 21}; /* type, version, epoch, message type, offset */
    for (size_t i = 0; i < sizeof must_not_change / sizeof must_not_change[0]; i++) {
        memcpy(data, hello, sizeof data);
        data[must_not_change[i]] ^= 0x41;
        CHECK(sv_dtls_greet(dtls.server.port, &peer, data, (size_t)length, answer) == SV_DTLS_DROPPED);
    }
    srandom(1);
    for (int i = 0; i < 5000; i++) {
        memcpy(data, hello, sizeof data);
        for (int k = random() % 4; k >= 0; k--)
            data[random() % length] = (unsigned char)random();
        CHECK(sv_dtls_greet(dtls.server.port, &peer, data, (size_t)length, answer) != SV_DTLS_WELCOME);
    }
    close_dtls(&dtls);
}

/* A hello that has come back with its cookie: its length; where it came from. */
static ssize_t fetch_hello(struct dtls *dtls, unsigned char *hello, size_t size, struct sv_address *peer) {
    shake_client(&dtls->wire.client);
    CHECK(greet(dtls) == SV_DTLS_ANSWERED);
    shake_client(&dtls->wire.client);
    peer->length = sizeof peer->u;
    return recvfrom(dtls->listener, hello, size, 0, &peer->u.base, &peer->length);
}

TEST(cookies_are_of_one_peer) {
    struct dtls dtls = {0};
    unsigned char hello[1024], answer[SV_DTLS_ANSWER_SIZE];
    struct sv_address peer;
    open_dtls(&dtls, &nothing);
    ssize_t length = fetch_hello(&dtls, hello, sizeof hello, &peer);
    CHECK(length > SV_DTLS_ANSWER_SIZE); /* less than what was asked: no amplifier */
    struct sv_address other = peer;
    other.u.in.sin_port ^= htons(1);
    CHECK(sv_dtls_greet(dtls.server.port, &other, hello, (size_t)length, answer) == SV_DTLS_ANSWERED);
    hello[13 + 12 + 2 + 32 + 1 + 1 + 20] ^= 1;
    CHECK(sv_dtls_greet(dtls.server.port, &peer, hello, (size_t)length, answer) == SV_DTLS_ANSWERED);
    hello[13 + 12 + 2 + 32 + 1 + 1 + 20] ^= 1;
    CHECK(sv_dtls_greet(dtls.server.port, &peer, hello, (size_t)length, answer) == SV_DTLS_WELCOME);
    close_dtls(&dtls);
}

/* Doubled on its way: two connections would share the peer's datagrams, and neither would get all. */
TEST(hellos_are_taken_once) {
    struct dtls dtls = {0};
    unsigned char hello[1024];
    struct sv_address peer;
    open_dtls(&dtls, &nothing);
    ssize_t length = fetch_hello(&dtls, hello, sizeof hello, &peer);
    struct sv_tls *first = sv_dtls_accept(dtls.server.port, hello, (size_t)length);
    CHECK(first && !sv_dtls_accept(dtls.server.port, hello, (size_t)length));
    CHECK(sv_tls_memory(first) < 2048); /* the rest is for those whose turn it is */
    sv_tls_free(first); /* nobody was served: its client repeats itself, and must not be ignored */
    first = sv_dtls_accept(dtls.server.port, hello, (size_t)length);
    CHECK(first);
    sv_tls_free(first);
    memset(hello + length, 0, sizeof hello - (size_t)length);
    CHECK(!sv_dtls_accept(dtls.server.port, hello, 30));
    close_dtls(&dtls);
}

/* The hellos of its beginning, come late, are no client that begins anew, and are not answered. */
TEST(own_hello_does_not_end_a_connection) {
    struct dtls dtls = {0};
    unsigned char first[1024], hello[1024];
    char data[64];
    open_dtls(&dtls, &nothing);
    shake_client(&dtls.wire.client);
    ssize_t first_length = recv(dtls.listener, first, sizeof first, MSG_PEEK);
    CHECK(greet(&dtls) == SV_DTLS_ANSWERED);
    shake_client(&dtls.wire.client);
    ssize_t length = recv(dtls.listener, hello, sizeof hello, MSG_PEEK);
    CHECK(length > 60);
    shake_both(&dtls);
    CHECK(says(&dtls, "ping"));
    client_send(&dtls.wire.client, first, (size_t)first_length);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == -EAGAIN);
    CHECK(recv(dtls.wire.client.fd, data, sizeof data, MSG_DONTWAIT) < 0);
    CHECK(says(&dtls, "ping"));
    client_send(&dtls.wire.client, hello, (size_t)length);
    CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == -EAGAIN);
    CHECK(says(&dtls, "ping"));
    close_dtls(&dtls);
}

/* The server repeats its flight until the client has it, and asks to be called for that. */
TEST(flights_are_repeated_in_time) {
    struct dtls dtls = {0};
    dtls.wire.lose_in = 0x1e; /* all of the server's first flight, which is one datagram or a few */
    CHECK(connect_dtls(&dtls, &nothing));
    CHECK(says(&dtls, "ping"));
    close_dtls(&dtls);
    memset(&dtls, 0, sizeof dtls);
    open_dtls(&dtls, &nothing);
    while (!dtls.tls) {
        shake_client(&dtls.wire.client);
        greet(&dtls);
    }
    CHECK(sv_tls_handshake(dtls.tls) == SV_TLS_WANTS_INPUT);
    int64_t due = sv_dtls_due(dtls.tls), now = sv_now_ns();
    CHECK(due > now && due <= now + SV_NS_PER_SECOND);
    close_dtls(&dtls);
}

/* A client that lost its state comes from the same port: its old connection ends, whether it was open or not, but not before the cookie
 * has come back; what came with it begins the next one. */
static void begin_anew(bool is_open) {
    struct dtls dtls = {0};
    char data[64];
    const void *heritage = NULL;
    open_dtls(&dtls, &nothing);
    while (!dtls.tls) {
        shake_client(&dtls.wire.client);
        greet(&dtls);
    }
    if (is_open)
        shake_both(&dtls);
    else
        CHECK(sv_tls_handshake(dtls.tls) == SV_TLS_WANTS_INPUT);
    while (recv(dtls.wire.client.fd, data, sizeof data, MSG_DONTWAIT) >= 0) /* it loses what there was */
        continue;
    mbedtls_ssl_session_reset(&dtls.wire.client.ssl);
    dtls.wire.client.is_done = false;
    dtls.wire.client.error = 0;
    shake_client(&dtls.wire.client);
    for (int hellos = 0; hellos < 2; hellos++) {
        CHECK(sv_dtls_successor(dtls.tls, &heritage) == 0);
        if (is_open)
            CHECK(sv_tls_receive(dtls.tls, data, sizeof data) == (hellos == 0 ? -EAGAIN : 0) && !sv_tls_was_closed_cleanly(dtls.tls));
        else
            CHECK(sv_tls_handshake(dtls.tls) == (hellos == 0 ? SV_TLS_WANTS_INPUT : SV_TLS_FAILED));
        shake_client(&dtls.wire.client);
    }
    size_t length = sv_dtls_successor(dtls.tls, &heritage);
    struct sv_tls *next = sv_dtls_accept(dtls.server.port, heritage, length);
    CHECK(length > 60 && next);
    sv_tls_free(dtls.tls);
    sv_dtls_set_socket(next, dtls.fd);
    dtls.tls = next;
    dtls.step = SV_TLS_WANTS_INPUT;
    shake_both(&dtls);
    CHECK(says(&dtls, "ping"));
    close_dtls(&dtls);
}

TEST(client_that_begins_anew) { begin_anew(true); }

TEST(client_that_begins_anew_in_the_middle_of_a_handshake) { begin_anew(false); }
