/* TLS connections between an mbedTLS client and ours, over socket pairs: handshakes, bytes, ends. */
#include <malloc.h>

#include "net/tls_internal.h"
#include "tls_client.h"

static const struct client_wish nothing = {0};
static const struct client_wish only_1_2 = {.only_1_2 = true};

static void shrink(int fd) {
    int size = 4096;
    setsockopt(fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size);
    setsockopt(fd, SOL_SOCKET, SO_RCVBUF, &size, sizeof size);
}

static unsigned char byte_at(size_t position) { return (unsigned char)(position * 31 + position / 251); }

TEST(handshake_and_a_word_each_way) {
    struct server server = {0};
    struct pair pair;
    struct sv_tls_info info;
    char *pem;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(strcmp(pair.client.server, "own") == 0);
    CHECK(talks(&pair));
    CHECK(sv_tls_describe(pair.tls, &info, &pem) == 0);
    CHECK(strcmp(info.protocol, sv_tls_library_versions() & SV_TLS_1_3 ? "TLSv1.3" : "TLSv1.2") == 0);
    CHECK(strncmp(info.cipher, "TLS_", 4) == 0 && strchr(info.cipher, '-') == NULL);
    CHECK(!info.is_resumed && !info.is_in_kernel && info.certificate_length == 0 && !pem);
    CHECK(info.server_name[0] == 0 && info.alpn[0] == 0);
    CHECK(strcmp(sv_tls_error(pair.tls), "no error") == 0);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(handshake_byte_by_byte) {
    struct server server = {0};
    struct pair pair;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &(struct client_wish){.cut = 1}));
    pair.client.cut = 0;
    CHECK(talks(&pair));
    close_pair(&pair);
    close_server(&server, true);
}

TEST(handshake_through_a_socket_that_takes_little) {
    struct server server = {0};
    struct pair pair;
    open_server(&server, NULL, NULL);
    open_pair(&pair, &server, &nothing);
    shrink(pair.fd);
    shake_client(&pair.client);
    /* The socket is full of other bytes when the server's flight is due. */
    static char filler[65536];
    ssize_t got;
    size_t filled = 0;
    while ((got = send(pair.fd, filler, filled ? 1 : 512, MSG_DONTWAIT)) > 0)
        filled += (size_t)got;
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_WANTS_OUTPUT && sv_tls_pending(pair.tls));
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_WANTS_OUTPUT);
    while (filled > 0 && (got = recv(pair.client.fd, filler, filled, MSG_DONTWAIT)) > 0)
        filled -= (size_t)got;
    CHECK(filled == 0);
    shake(&pair);
    CHECK(pair.step == SV_TLS_DONE && pair.client.is_done);
    CHECK(talks(&pair));
    close_pair(&pair);
    close_server(&server, true);
}

/* Nothing is spent on who connects and says nothing, and little on who talks. */
TEST(memory_of_a_connection) {
    struct server server = {0};
    struct pair pair;
    enum { COUNT = 32 };
    static struct pair pairs[COUNT];
    open_server(&server, NULL, NULL);
    open_pair(&pair, &server, &nothing);
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_WANTS_INPUT);
    CHECK(sv_tls_memory(pair.tls) < 2048);
    close_pair(&pair);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(sv_tls_memory(pair.tls) > 32768 && sv_tls_memory(pair.tls) <= 40960);
    close_pair(&pair);
    for (int i = 0; i < COUNT; i++)
        CHECK(connect_pair(&pairs[i], &server, &nothing) && talks(&pairs[i]));
    size_t before = mallinfo2().uordblks;
    if (before > 0) { /* a sanitizer's malloc does not say */
        for (int i = 0; i < COUNT; i++) {
            sv_tls_free(pairs[i].tls);
            pairs[i].tls = NULL;
        }
        size_t after = mallinfo2().uordblks;
        CHECK((before - after) / COUNT <= (MBEDTLS_VERSION_NUMBER < 0x03000000 ? 40960 : 43008));
    }
    for (int i = 0; i < COUNT; i++)
        close_pair(&pairs[i]);
    close_server(&server, true);
}

TEST(several_records_are_read_at_once) {
    struct server server = {0};
    struct pair pair;
    char data[256];
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    for (int i = 0; i < 10; i++)
        CHECK(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"0123456789", 10) == 10);
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 100);
    CHECK(!sv_tls_has_input(pair.tls));
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == -EAGAIN);
    for (int i = 0; i < 10; i++)
        CHECK(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"0123456789", 10) == 10);
    for (int i = 0; i < 100; i += 4) { /* less than a record at a time */
        CHECK(i == 0 || sv_tls_has_input(pair.tls));
        CHECK(sv_tls_receive(pair.tls, data, 4) == 4 && data[0] == '0' + i % 10);
    }
    CHECK(sv_tls_receive(pair.tls, data, 4) == -EAGAIN);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(what_one_leaves_in_the_shared_space_survives_another) {
    struct server server = {0};
    struct pair one, other;
    char data[256];
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&one, &server, &nothing) && connect_pair(&other, &server, &nothing));
    for (int turns = 0; turns < 3; turns++) {
        for (int i = 0; i < 10; i++)
            mbedtls_ssl_write(&one.client.ssl, (const unsigned char *)"0123456789", 10);
        CHECK(sv_tls_receive(one.tls, data, 10) == 10 && sv_tls_has_input(one.tls));
        CHECK(talks(&other));
        CHECK(sv_tls_has_input(one.tls) && sv_tls_memory(one.tls) > sv_tls_memory(other.tls));
        CHECK(sv_tls_receive(one.tls, data, sizeof data) == 90 && memcmp(data + 80, "0123456789", 10) == 0);
        CHECK(sv_tls_memory(one.tls) == sv_tls_memory(other.tls));
    }
    mbedtls_ssl_write(&one.client.ssl, (const unsigned char *)"0123456789", 10);
    mbedtls_ssl_write(&one.client.ssl, (const unsigned char *)"0123456789", 10);
    CHECK(sv_tls_receive(one.tls, data, 10) == 10);
    close_pair(&one); /* with bytes in the shared space */
    CHECK(talks(&other));
    close_pair(&other);
    close_server(&server, true);
}

static void bulk(const struct client_wish *wish) {
    enum { TOTAL = 600000 };
    struct server server = {0};
    struct pair pair;
    static unsigned char to[TOTAL], from[TOTAL], room[65536];
    size_t written = 0, received = 0, sent = 0, read = 0;
    bool is_right = true;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, wish));
    shrink(pair.fd);
    shrink(pair.client.fd);
    for (size_t i = 0; i < TOTAL; i++)
        to[i] = byte_at(i), from[i] = (unsigned char)~byte_at(i);
    for (int turns = 0; (received < TOTAL || read < TOTAL) && turns < 1000000; turns++) {
        if (written < TOTAL) {
            int count = mbedtls_ssl_write(&pair.client.ssl, to + written, TOTAL - written);
            written += count > 0 ? (size_t)count : 0;
        }
        ssize_t got = sv_tls_receive(pair.tls, room, turns % 3 ? sizeof room : 1000);
        for (ssize_t i = 0; i < got; i++)
            is_right &= room[i] == byte_at(received++);
        CHECK(got > 0 || got == -EAGAIN);
        if (sent < TOTAL) { /* in odd vectors */
            size_t left = TOTAL - sent, first = left < 7 ? left : 7, second = left - first < 20001 ? left - first : 20001;
            struct iovec parts[3] = {{from + sent, first}, {from + sent, 0}, {from + sent + first, second}};
            got = sv_tls_send(pair.tls, parts, 3);
            CHECK(got > 0 || got == -EAGAIN);
            sent += got > 0 ? (size_t)got : 0;
        } else {
            sv_tls_flush(pair.tls);
        }
        size_t count = read_client(&pair.client, room, sizeof room);
        for (size_t i = 0; i < count; i++)
            is_right &= room[i] == (unsigned char)~byte_at(read++);
    }
    CHECK(received == TOTAL && read == TOTAL && is_right);
    CHECK(!sv_tls_pending(pair.tls));
    close_pair(&pair);
    close_server(&server, true);
}

TEST(bulk_both_ways_through_tiny_buffers) { bulk(&nothing); }

TEST(bulk_in_small_records) { bulk(&(struct client_wish){.wants_small_records = true, .only_1_2 = true}); }

/* What a client takes at once is not left to later calls, though records go out a few at a time. Both positions of the stack are
 * tried meanwhile, as often as it takes and no longer, if that matters for the suite. */
TEST(much_goes_out_with_one_call) {
    enum { TOTAL = 6 * SV_TLS_RECORD };
    struct server server = {0};
    struct pair pair;
    static unsigned char data[TOTAL], room[TOTAL];
    int size = 4 * TOTAL;
    bool is_right = true;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(setsockopt(pair.fd, SOL_SOCKET, SO_SNDBUFFORCE, &size, sizeof size) == 0 ||
          setsockopt(pair.fd, SOL_SOCKET, SO_SNDBUF, &size, sizeof size) == 0);
    for (size_t i = 0; i < TOTAL; i++)
        data[i] = byte_at(i);
    bool is_tried = strstr(mbedtls_ssl_get_ciphersuite(&pair.tls->ssl), "GCM");
    for (int turn = 0; turn < 5; turn++) {
        struct iovec parts[2] = {{data, TOTAL - SV_TLS_RECORD}, {data + TOTAL - SV_TLS_RECORD, SV_TLS_RECORD}};
        CHECK(sv_tls_send(pair.tls, parts, 2) == TOTAL);
        size_t read = 0, count;
        while (read < TOTAL && (count = read_client(&pair.client, room + read, TOTAL - read)) > 0)
            read += count;
        is_right &= read == TOTAL && memcmp(room, data, TOTAL) == 0;
        CHECK(server.scratch->writing.tries == (!is_tried ? 0 : turn < 2 ? 6 * (turn + 1) : 16));
    }
    CHECK(is_right && (server.scratch->writing.least_ns[0] > 0) == is_tried && (server.scratch->writing.least_ns[1] > 0) == is_tried);
    close_pair(&pair);
    close_server(&server, true);
}

/* A client that never reads gets one burst of memory and no more. */
TEST(output_of_a_client_that_does_not_read) {
    struct server server = {0};
    struct pair pair;
    static unsigned char data[200000];
    struct iovec all = {data, sizeof data};
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    shrink(pair.fd);
    ssize_t count;
    int sends = 0;
    while ((count = sv_tls_send(pair.tls, &all, 1)) > 0 && sends < 1000)
        sends++;
    CHECK(count == -EAGAIN && sv_tls_pending(pair.tls));
    CHECK(sv_tls_memory(pair.tls) < 40960 + 66560);
    CHECK(sv_tls_flush(pair.tls) == -EAGAIN);
    CHECK(sv_tls_pending_plain(pair.tls) > 0 && sv_tls_pending_plain(pair.tls) <= sv_tls_pending(pair.tls));
    sv_tls_uncount(pair.tls);
    CHECK(sv_tls_pending(pair.tls) && sv_tls_pending_plain(pair.tls) == 0);
    sv_tls_discard(pair.tls);
    CHECK(!sv_tls_pending(pair.tls) && sv_tls_send(pair.tls, &all, 1) == -EPIPE);
    CHECK(sv_tls_shut(pair.tls) == 0);
    close_pair(&pair);
    close_server(&server, true);
}

/* Records are longer than what they carry: small ones several times. */
TEST(plain_bytes_that_wait_are_counted) {
    struct server server = {0};
    struct pair pair;
    static unsigned char data[20000];
    struct iovec word = {data, 10};
    size_t most = 0;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    shrink(pair.fd);
    while (sv_tls_send(pair.tls, &word, 1) > 0)
        most = sv_tls_pending_plain(pair.tls) > most ? sv_tls_pending_plain(pair.tls) : most;
    CHECK(most == 10 && sv_tls_pending(pair.tls) > 0);
    while (sv_tls_flush(pair.tls) == -EAGAIN)
        read_client(&pair.client, data, sizeof data);
    CHECK(sv_tls_pending_plain(pair.tls) == 0);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(close_notify_of_the_client) {
    struct server server = {0};
    struct pair pair;
    char data[16];
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"end", 3) == 3);
    mbedtls_ssl_close_notify(&pair.client.ssl);
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 3);
    CHECK(sv_tls_has_input(pair.tls)); /* the end */
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 0 && sv_tls_was_closed_cleanly(pair.tls));
    CHECK(!sv_tls_has_input(pair.tls) && sv_tls_receive(pair.tls, data, sizeof data) == 0);
    struct iovec word = {"bye", 3}; /* the other direction is still open */
    CHECK(sv_tls_send(pair.tls, &word, 1) == 3);
    CHECK(sv_tls_shut(pair.tls) == 0 && sv_tls_shut(pair.tls) == 0);
    CHECK(sv_tls_send(pair.tls, &word, 1) == -EPIPE);
    CHECK(read_client(&pair.client, data, sizeof data) == 3);
    CHECK(pair.client.error == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(fin_without_close_notify) {
    struct server server = {0};
    struct pair pair;
    char data[16];
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"end", 3) == 3);
    shutdown(pair.client.fd, SHUT_WR);
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 3);
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 0 && !sv_tls_was_closed_cleanly(pair.tls));
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 0);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(bad_record_is_answered_with_an_alert) {
    static const char *const bad[] = {
        "\x17\x03\x03\x00\x20" "0123456789012345678901234567890-", /* MAC */
        "\x17\x03\x03\xff\xff",                                    /* length */
        "\x99\x03\x03\x00\x20" "0123456789012345678901234567890-", /* type */
    };
    for (int i = 0; i < 3; i++) {
        struct server server = {0};
        struct pair pair;
        char data[64];
        open_server(&server, NULL, NULL);
        CHECK(connect_pair(&pair, &server, &nothing));
        CHECK(talks(&pair));
        size_t length = i == 1 ? 5 : 37;
        CHECK(send(pair.client.fd, bad[i], length, 0) == (ssize_t)length);
        CHECK(sv_tls_receive(pair.tls, data, sizeof data) == -EPROTO);
        CHECK(sv_tls_receive(pair.tls, data, sizeof data) == -EPROTO);
        CHECK(strcmp(sv_tls_error(pair.tls), "no error") != 0);
        struct iovec word = {"x", 1};
        CHECK(sv_tls_send(pair.tls, &word, 1) == 1);
        CHECK(sv_tls_shut(pair.tls) == 0 && sv_tls_shut(pair.tls) == 0);
        CHECK(sv_tls_send(pair.tls, &word, 1) == -EPIPE);
        CHECK(read_client(&pair.client, data, sizeof data) == 1);
        CHECK(pair.client.error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
        close_pair(&pair);
        close_server(&server, true);
    }
}

TEST(good_bytes_before_a_bad_record_arrive) {
    struct server server = {0};
    struct pair pair;
    char data[64];
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(mbedtls_ssl_write(&pair.client.ssl, (const unsigned char *)"good", 4) == 4);
    CHECK(send(pair.client.fd, "\x17\x03\x03\x00\x02xx", 7, 0) == 7);
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == 4);
    CHECK(sv_tls_has_input(pair.tls));
    struct iovec answer = {"answer", 6}; /* to what came before */
    CHECK(sv_tls_send(pair.tls, &answer, 1) == 6);
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == -EPROTO);
    CHECK(sv_tls_send(pair.tls, &answer, 1) == 6);
    CHECK(sv_tls_shut(pair.tls) == 0);
    CHECK(read_client(&pair.client, data, sizeof data) == 12 && memcmp(data, "answeranswer", 12) == 0);
    CHECK(pair.client.error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(what_is_no_tls_costs_no_memory) {
    struct server server = {0};
    struct pair pair;
    open_server(&server, NULL, NULL);
    open_pair(&pair, &server, &nothing);
    CHECK(send(pair.client.fd, "GET / HTTP/1.1\r\n\r\n", 18, 0) == 18);
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_FAILED && sv_tls_handshake(pair.tls) == SV_TLS_FAILED);
    CHECK(sv_tls_memory(pair.tls) < 2048);
    CHECK(strstr(sv_tls_error(pair.tls), "no TLS") != NULL);
    close_pair(&pair);
    open_pair(&pair, &server, &nothing);
    CHECK(send(pair.client.fd, "\x16garbage garbage garbage", 24, 0) == 24);
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_FAILED);
    close_pair(&pair);
    open_pair(&pair, &server, &nothing);
    shutdown(pair.client.fd, SHUT_WR);
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_FAILED);
    CHECK(strstr(sv_tls_error(pair.tls), "closed by the peer") != NULL);
    close_pair(&pair);
    close_server(&server, true);
}

#if MBEDTLS_VERSION_NUMBER < 0x03000000
TEST(old_versions_are_refused) {
    for (int minor = MBEDTLS_SSL_MINOR_VERSION_1; minor <= MBEDTLS_SSL_MINOR_VERSION_2; minor++) {
        struct server server = {0};
        struct pair pair;
        open_server(&server, NULL, NULL);
        open_pair(&pair, &server, &nothing);
        mbedtls_ssl_conf_max_version(&pair.client.config, MBEDTLS_SSL_MAJOR_VERSION_3, minor);
        mbedtls_ssl_conf_min_version(&pair.client.config, MBEDTLS_SSL_MAJOR_VERSION_3, minor);
        shake(&pair);
        CHECK(pair.step == SV_TLS_FAILED && pair.client.error == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE);
        close_pair(&pair);
        close_server(&server, true);
    }
}
#endif

TEST(renegotiation_is_refused) {
    struct server server = {0};
    struct pair pair;
    char data[16];
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &only_1_2));
    mbedtls_ssl_conf_renegotiation(&pair.client.config, MBEDTLS_SSL_RENEGOTIATION_ENABLED);
    CHECK(is_waiting(mbedtls_ssl_renegotiate(&pair.client.ssl)));
    CHECK(sv_tls_receive(pair.tls, data, sizeof data) == -EAGAIN);
    int result = mbedtls_ssl_renegotiate(&pair.client.ssl); /* learns of the refusal */
    CHECK(result != 0 && !is_waiting(result));
    struct sv_tls_info info;
    char *pem;
    CHECK(sv_tls_describe(pair.tls, &info, &pem) == 0); /* the connection itself goes on */
    struct iovec word = {"x", 1};
    CHECK(sv_tls_send(pair.tls, &word, 1) == 1);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(suites_and_curves_of_the_rules) {
    struct server server = {0};
    struct pair pair;
    struct sv_tls_info info;
    char *pem, wrong[64];
    CHECK(sv_tls_parse_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", &server.rules.ciphers, wrong,
                               sizeof wrong) == 0);
    CHECK(sv_tls_parse_groups("P-384", &server.rules.groups, wrong, sizeof wrong) == 0);
    server.rules.versions = SV_TLS_1_2;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &only_1_2) && talks(&pair)); /* with a certificate of P-256: that is another matter */
    close_pair(&pair);
    close_server(&server, true);
    sv_tls_rules_free(&server.rules);
    server = (struct server){0};
    CHECK(sv_tls_parse_ciphers("ECDHE-ECDSA-AES256-GCM-SHA384:TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", &server.rules.ciphers, wrong,
                               sizeof wrong) == 0);
    server.rules.versions = SV_TLS_1_2;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &only_1_2));
    CHECK(sv_tls_describe(pair.tls, &info, &pem) == 0);
    CHECK(strcmp(info.cipher, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384") == 0); /* our order */
    close_pair(&pair);
    static const int one[] = {0xc02b, 0};
    CHECK(connect_pair(&pair, &server, &(struct client_wish){.suites = one, .only_1_2 = true}));
    CHECK(sv_tls_describe(pair.tls, &info, &pem) == 0);
    CHECK(strcmp(info.cipher, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256") == 0);
    close_pair(&pair);
    static const int none[] = {0xcca9, 0xc009, 0};
    CHECK(!connect_pair(&pair, &server, &(struct client_wish){.suites = none, .only_1_2 = true}));
    close_pair(&pair);
    close_server(&server, true);
    sv_tls_rules_free(&server.rules);
    /* By default nothing but ECDHE with AEAD. */
    server = (struct server){0};
    open_server(&server, NULL, NULL);
    static const int weak[] = {0xc009, 0xc00a, 0xc023, 0xc024, 0xc0ac, 0x9c, 0x2f, 0};
    CHECK(!connect_pair(&pair, &server, &(struct client_wish){.suites = weak, .only_1_2 = true}));
    close_pair(&pair);
    close_server(&server, true);
}

TEST(alpn) {
    static const char *both[] = {"imap", "b", "a", NULL}, *foreign[] = {"imap", NULL};
    char *ours[] = {"a", "b", NULL};
    struct server server = {0};
    struct pair pair;
    struct sv_tls_info info;
    char *pem;
    server.rules.alpn = ours;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&pair, &server, &(struct client_wish){.alpn = both}));
    CHECK(sv_tls_describe(pair.tls, &info, &pem) == 0 && strcmp(info.alpn, "a") == 0);
    close_pair(&pair);
    CHECK(connect_pair(&pair, &server, &nothing));
    CHECK(sv_tls_describe(pair.tls, &info, &pem) == 0 && info.alpn[0] == 0);
    close_pair(&pair);
    open_pair(&pair, &server, &(struct client_wish){.alpn = foreign});
    shake_client(&pair.client);
    CHECK(sv_tls_handshake(pair.tls) == SV_TLS_FAILED);
    unsigned char alert[7] = {0};
    CHECK(recv(pair.client.fd, alert, 7, MSG_DONTWAIT) == 7);
    CHECK(alert[0] == 21 && alert[5] == 2 && alert[6] == 120); /* fatal, no_application_protocol */
    close_pair(&pair);
    close_server(&server, true);
}

/* Bytes that are almost TLS must neither crash nor hang anything. */
TEST(damaged_handshakes) {
    struct server server = {0};
    open_server(&server, NULL, NULL);
    unsigned char hello[1024];
    struct pair pair;
    open_pair(&pair, &server, &nothing);
    shake_client(&pair.client);
    ssize_t length = recv(pair.fd, hello, sizeof hello, MSG_DONTWAIT);
    close_pair(&pair);
    CHECK(length > 100);
    srandom(1);
    for (int i = 0; i < 400; i++) {
        unsigned char copy[1024];
        memcpy(copy, hello, sizeof copy);
        for (int k = random() % 3; k >= 0; k--)
            copy[5 + random() % (length - 5)] = (unsigned char)random();
        open_pair(&pair, &server, &nothing);
        CHECK(send(pair.client.fd, copy, (size_t)length, 0) == length);
        sv_tls_handshake(pair.tls);
        shutdown(pair.client.fd, SHUT_WR);
        for (int turns = 0; turns < 4 && pair.step != SV_TLS_FAILED; turns++)
            pair.step = sv_tls_handshake(pair.tls);
        CHECK(pair.step == SV_TLS_FAILED);
        close_pair(&pair);
    }
    close_server(&server, true);
}
