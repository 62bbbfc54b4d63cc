/* Session tickets: resumption between ports with the same keys, and how keys follow from one another. */
#include "net/tls_internal.h"
#include "tls_client.h"

#define LIFE (3600 * SV_NS_PER_SECOND)

static void open_ticket_server(struct server *server, struct sv_tls_shared *shared) {
    server->rules.has_tickets = true;
    open_server(server, NULL, shared);
}

/* A full handshake, and the session that the client takes from it. */
static bool make_session(struct server *server, const struct client_wish *wish, mbedtls_ssl_session *session) {
    struct pair pair;
    struct sv_tls_info info;
    char *pem;
    bool is_good = connect_pair(&pair, server, wish) && talks(&pair);
    mbedtls_ssl_session_init(session);
    is_good = is_good && mbedtls_ssl_get_session(&pair.client.ssl, session) == 0;
    is_good = is_good && sv_tls_describe(pair.tls, &info, &pem) == 0 && !info.is_resumed;
    if (is_good)
        free(pem);
    close_pair(&pair);
    return is_good;
}

static bool resumes(struct server *server, const struct client_wish *wish, mbedtls_ssl_session *session) {
    struct pair pair;
    struct sv_tls_info info;
    char *pem;
    struct client_wish again = *wish;
    again.session = session;
    bool is_good = connect_pair(&pair, server, &again) && talks(&pair) && sv_tls_describe(pair.tls, &info, &pem) == 0;
    CHECK(is_good);
    if (is_good) {
        CHECK((pem != NULL) == (wish->certificate != NULL));
        free(pem);
    }
    close_pair(&pair);
    return is_good && info.is_resumed;
}

TEST(sessions_resume_at_every_port_with_the_same_keys) {
    struct server one = {0}, other = {0}, stranger = {0};
    mbedtls_ssl_session session;
    const struct client_wish wish = {.only_1_2 = true};
    struct sv_tls_shared *shared = new_shared(LIFE);
    open_ticket_server(&one, shared);
    open_ticket_server(&other, shared);
    open_ticket_server(&stranger, NULL);
    CHECK(make_session(&one, &wish, &session));
    for (int i = 0; i < 5; i++) {
        CHECK(resumes(&one, &wish, &session));
        CHECK(resumes(&other, &wish, &session));
    }
    CHECK(!resumes(&stranger, &wish, &session)); /* which costs a full handshake and no more */
    CHECK(sv_tls_port_replace(one.port, &one.bytes, &one.status) == 0);
    CHECK(resumes(&one, &wish, &session));
    mbedtls_ssl_session_free(&session);
    close_server(&one, false);
    close_server(&other, false);
    close_server(&stranger, true);
    free(shared);
}

#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
/* There a ticket comes after the handshake, and the client asks for it by reading. */
static bool make_session_1_3(struct server *server, const struct client_wish *wish, mbedtls_ssl_session *session) {
    struct pair pair;
    char data[16];
    int result = 0;
    bool is_good = connect_pair(&pair, server, wish);
    mbedtls_ssl_session_init(session);
    for (int i = 0; is_good && i < 4 && result != MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET; i++)
        result = mbedtls_ssl_read(&pair.client.ssl, (unsigned char *)data, sizeof data);
    is_good = is_good && result == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET && mbedtls_ssl_get_session(&pair.client.ssl, session) == 0;
    close_pair(&pair);
    return is_good;
}

TEST(sessions_of_tls_1_3) {
    struct server one = {0}, other = {0}, asking = {.rules = {.asks_for_certificate = true}};
    struct sv_tls_paths paths = own_paths();
    mbedtls_ssl_session session;
    const struct client_wish wish = {0}, certified = {.certificate = "client"};
    struct sv_tls_shared *shared = new_shared(LIFE);
    open_ticket_server(&one, shared);
    open_ticket_server(&other, shared);
    paths.client_cert_file = file_path("root", ".crt");
    asking.rules.has_tickets = true;
    open_server(&asking, &paths, NULL);
    CHECK(make_session_1_3(&one, &wish, &session));
    CHECK(resumes(&one, &wish, &session));
    CHECK(resumes(&other, &wish, &session));
    mbedtls_ssl_session_free(&session);
    CHECK(!make_session_1_3(&asking, &certified, &session)); /* it would lose the certificate */
    mbedtls_ssl_session_free(&session);
    close_server(&one, false);
    close_server(&other, false);
    close_server(&asking, true);
    free(shared);
}
#endif

TEST(no_tickets_where_they_are_off) {
    struct server server = {0};
    mbedtls_ssl_session session;
    const struct client_wish wish = {.only_1_2 = true};
    open_server(&server, NULL, NULL);
    CHECK(make_session(&server, &wish, &session));
    CHECK(!resumes(&server, &wish, &session));
    mbedtls_ssl_session_free(&session);
    close_server(&server, true);
}

TEST(resumed_sessions_have_the_certificate_of_the_client) {
    struct server server = {.rules = {.asks_for_certificate = true, .verifies_peer = true}};
    struct sv_tls_paths paths = own_paths();
    mbedtls_ssl_session session;
    const struct client_wish wish = {.only_1_2 = true, .certificate = "client"};
    paths.client_cert_file = file_path("root", ".crt");
    server.rules.has_tickets = true;
    open_server(&server, &paths, NULL);
    CHECK(make_session(&server, &wish, &session));
    CHECK(resumes(&server, &wish, &session)); /* checks the PEM */
    mbedtls_ssl_session_free(&session);
    close_server(&server, true);
}

static void wait_for_epoch(struct sv_tls_shared *shared, uint64_t epoch) {
    while (sv_tls_shared_epoch(shared, sv_now_ns()) < epoch)
        usleep(1000);
}

TEST(old_tickets_are_of_no_use) {
    struct server server = {0};
    mbedtls_ssl_session session;
    const struct client_wish wish = {.only_1_2 = true};
    open_ticket_server(&server, new_shared(SV_NS_PER_SECOND / 5));
    CHECK(make_session(&server, &wish, &session));
    uint64_t epoch = sv_tls_shared_epoch(server.shared, sv_now_ns());
    wait_for_epoch(server.shared, epoch + 2);
    CHECK(!resumes(&server, &wish, &session));
    CHECK(!resumes(&server, &wish, &session));
    mbedtls_ssl_session_free(&session);
    close_server(&server, true);
}

TEST(keys_follow_from_one_another) {
    struct sv_tls_shared *shared = new_shared(LIFE), *copy = new_shared(LIFE);
    unsigned char first[SV_TLS_KEY_SIZE], second[SV_TLS_KEY_SIZE], other[SV_TLS_KEY_SIZE];
    int64_t now = sv_now_ns();
    CHECK(sv_tls_shared_epoch(shared, now) == 1);
    CHECK(sv_tls_shared_key(shared, now, 1, first));
    CHECK(!sv_tls_shared_key(shared, now, 0, other) && !sv_tls_shared_key(shared, now, 2, other));
    memcpy(copy, shared, sv_tls_shared_bytes()); /* as another process would find it at the same time */
    CHECK(sv_tls_shared_key(shared, now + LIFE, 2, second) && memcmp(first, second, sizeof first) != 0);
    CHECK(sv_tls_shared_key(copy, now + LIFE, 2, other) && memcmp(other, second, sizeof other) == 0);
    CHECK(sv_tls_shared_key(shared, now + LIFE, 1, other) && memcmp(other, first, sizeof other) == 0);
    CHECK(sv_tls_shared_key(shared, now + 2 * LIFE, 2, other) && memcmp(other, second, sizeof other) == 0);
    CHECK(sv_tls_shared_key(shared, now + 2 * LIFE, 3, other));
    CHECK(!sv_tls_shared_key(shared, now + 2 * LIFE, 1, other));
    /* Nobody came for a long time: a new key at once, and no old one. */
    CHECK(sv_tls_shared_key(shared, now + 1000000 * LIFE, 1000001, other));
    CHECK(!sv_tls_shared_key(shared, now + 1000000 * LIFE, 1000000, other));
    CHECK(sv_tls_shared_key(shared, now + 1000001 * LIFE, 1000001, second));
    free(shared);
    free(copy);
}

/* A writer that was stopped half-way an epoch ago goes on: readers must not take its key for the present one. */
TEST(torn_keys_are_not_believed) {
    struct sv_tls_shared *shared = new_shared(LIFE), *late = new_shared(LIFE);
    unsigned char key[SV_TLS_KEY_SIZE], right[SV_TLS_KEY_SIZE];
    int64_t now = sv_now_ns();
    CHECK(sv_tls_shared_key(shared, now + LIFE, 2, key));
    memcpy(late, shared, sv_tls_shared_bytes());
    CHECK(sv_tls_shared_key(shared, now + 2 * LIFE, 3, key));
    CHECK(sv_tls_shared_key(shared, now + 3 * LIFE, 4, right));
    size_t size = sv_tls_shared_bytes();
    for (size_t at = 64; at < size; at += 8) { /* one word of epoch 2 over what is there */
        unsigned char kept[8];
        memcpy(kept, (char *)shared + at, 8);
        memcpy((char *)shared + at, (char *)late + at, 8);
        if (sv_tls_shared_key(shared, now + 3 * LIFE, 4, key))
            CHECK(memcmp(key, right, sizeof key) == 0);
        memcpy((char *)shared + at, kept, 8);
    }
    free(shared);
    free(late);
}

TEST(damaged_tickets) {
    struct server server = {0};
    open_ticket_server(&server, NULL);
    unsigned char data[256];
    mbedtls_ssl_session session;
    srandom(1);
    for (size_t length = 0; length < sizeof data; length++) {
        uint64_t epoch = 1;
        for (size_t i = 0; i < length; i++)
            data[i] = (unsigned char)random();
        if (length >= 8 && length % 2)
            memcpy(data, &epoch, 8);
        mbedtls_ssl_session_init(&session);
        CHECK(sv_tls_ticket_parse(server.port, &session, data, length) < 0);
        mbedtls_ssl_session_free(&session);
    }
    close_server(&server, true);
}
