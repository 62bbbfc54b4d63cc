/* Certificates: reading and checking files, choosing by name, those of clients, new ones under running connections. */
#include "tls_client.h"

static const struct client_wish nothing = {0};

/* ------------------------------------------------------------------------------------------------------- files, names */

static struct srvlua_status status;

static bool reads(const struct sv_tls_paths *paths) {
    struct sv_tls_bytes bytes;
    status = (struct srvlua_status){0};
    bool is_good = sv_tls_files_read(paths, &bytes, &status) == 0;
    CHECK(is_good == (bytes.data != NULL));
    sv_tls_bytes_free(&bytes);
    return is_good;
}

static bool fails(const struct sv_tls_paths *paths, int code, const char *words) {
    bool is_so = !reads(paths) && status.code == code && strstr(status.message, words);
    if (!is_so)
        fprintf(stderr, "%d %s\n", status.code, status.message);
    return is_so;
}

static bool run_openssl(const char *arguments) {
    char command[400];
    snprintf(command, sizeof command, "cd %s && openssl %s >/dev/null 2>&1", directory, arguments);
    return system(command) == 0;
}

TEST(files_that_are_not_what_they_should_be) {
    char missing[160], garbage[160], own_key[160], other_key[160];
    snprintf(missing, sizeof missing, "%s/missing.crt", directory);
    snprintf(garbage, sizeof garbage, "%s/garbage", directory);
    snprintf(own_key, sizeof own_key, "%s/own.key", directory);
    snprintf(other_key, sizeof other_key, "%s/other.key", directory);
    write_file(garbage, "garbage\n", 8);
    struct sv_tls_paths paths = own_paths();
    CHECK(reads(&paths));
    paths.cert_file = missing;
    CHECK(fails(&paths, ENOENT, missing));
    paths.cert_file = directory;
    CHECK(fails(&paths, EISDIR, directory));
    paths.cert_file = garbage;
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, garbage));
    paths.cert_file = own_key;
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, own_key));
    paths = own_paths();
    paths.key_file = garbage;
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, garbage));
    paths.key_file = other_key;
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, other_key));
    paths.key_file = NULL;
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "ssl_key_file"));
    paths = own_paths();
    paths.client_cert_file = garbage;
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "ssl_client_cert_file"));
    paths.client_cert_file = NULL;
    paths.ca_file = missing;
    CHECK(fails(&paths, ENOENT, "ssl_cafile"));
    paths.ca_file = NULL;
    paths.ca_path = missing;
    CHECK(fails(&paths, ENOENT, "ssl_capath"));
    paths.ca_path = directory; /* with much else in it */
    CHECK(reads(&paths));
    paths = (struct sv_tls_paths){.cert_file = file_path("signer", ".crt"), .key_file = file_path("signer", ".key")};
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "key usage"));
    paths = (struct sv_tls_paths){.cert_file = file_path("stale", ".crt"), .key_file = file_path("stale", ".key")};
    CHECK(reads(&paths)); /* that it is over is the clients' business */
    paths.cert_file = paths.key_file = "/dev/zero";
    CHECK(fails(&paths, EINVAL, "/dev/zero"));
}

/* A certificate so often in one file. */
static void write_chain(const char *path, const char *certificate, size_t count) {
    FILE *file = fopen(path, "w");
    must(file != NULL, path);
    for (size_t i = 0; i < count; i++)
        fputs(certificate, file);
    fclose(file);
}

TEST(chains_as_long_as_a_handshake_takes) {
    struct sv_tls_paths paths = own_paths();
    char chain[160], own[4096] = "";
    struct server server = {0};
    struct pair pair;
    FILE *file = fopen(paths.cert_file, "r");
    must(file && fread(own, 1, sizeof own - 1, file) > 0, "own.crt");
    fclose(file);
    snprintf(chain, sizeof chain, "%s/chain.crt", directory);
    paths.cert_file = chain;
    size_t count = 0; /* the first that are too many */
    do
        write_chain(chain, own, ++count);
    while (count < 200 && reads(&paths));
    CHECK(count > 20);
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "16 KiB"));
    write_chain(chain, own, count - 1);
    open_server(&server, &paths, NULL);
    CHECK(connect_pair(&pair, &server, &nothing) && talks(&pair));
    close_pair(&pair);
    close_server(&server, true);
}

TEST(passphrases_and_one_file_for_both) {
    struct sv_tls_paths paths = {.cert_file = file_path("own", ".crt")};
    char locked[160], both[160], older[160];
    snprintf(locked, sizeof locked, "%s/locked.key", directory);
    snprintf(older, sizeof older, "%s/older.key", directory);
    snprintf(both, sizeof both, "%s/both.pem", directory);
    CHECK(run_openssl("pkcs8 -topk8 -v2 aes-256-cbc -iter 3000 -in own.key -out locked.key -passout pass:secret"));
    CHECK(run_openssl("ec -aes128 -in own.key -out older.key -passout pass:secret"));
    for (int i = 0; i < 2; i++) {
        paths.key_file = i ? older : locked;
        paths.passphrase = "secret";
        CHECK(reads(&paths));
        paths.passphrase = "wrong";
        CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, paths.key_file));
        paths.passphrase = NULL;
        CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "ssl_passphrase"));
    }
    char command[400];
    snprintf(command, sizeof command, "cat %s/own.crt %s/own.key > %s", directory, directory, both);
    CHECK(system(command) == 0);
    paths = (struct sv_tls_paths){.cert_file = both, .key_file = both};
    struct server server = {0};
    struct pair pair;
    open_server(&server, &paths, NULL);
    CHECK(connect_pair(&pair, &server, &nothing) && talks(&pair));
    close_pair(&pair);
    close_server(&server, true);
    paths = (struct sv_tls_paths){.cert_file = file_path("own", ".crt"), .key_file = locked, .passphrase = "secret"};
    open_server(&server, &paths, NULL); /* it travels with the key */
    CHECK(connect_pair(&pair, &server, &nothing) && talks(&pair));
    close_pair(&pair);
    close_server(&server, true);
}

TEST(names_of_sni_certificates) {
    struct sv_tls_paths paths = own_paths();
    static const char *const bad[] = {"", "*", "*.", "a..b", "-", "a b", "1.2.3.4", "*.*.b", "a.*", "ä", "::1", ".a"};
    struct sv_tls_sni_paths sni[2] = {{.cert_file = paths.cert_file, .key_file = paths.key_file}};
    sni[1] = sni[0];
    paths.sni = sni;
    paths.sni_count = 1;
    for (size_t i = 0; i < sizeof bad / sizeof bad[0]; i++) {
        sni[0].name = bad[i];
        if (strcmp(bad[i], "-") != 0)
            CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "ssl_sni_certs"));
    }
    paths.sni_count = 2;
    sni[0].name = "a.example";
    sni[1].name = "A.Example";
    CHECK(fails(&paths, SRVLUA_ERROR_INVALID_PARAMS, "twice"));
    sni[1].name = "*.example";
    CHECK(reads(&paths));
    sni[1].key_file = "/nowhere";
    CHECK(fails(&paths, ENOENT, "/nowhere"));
}

TEST(bytes_that_were_damaged_on_their_way) {
    struct server server = {0};
    struct sv_tls_paths paths = own_paths();
    paths.client_cert_file = file_path("root", ".crt");
    open_server(&server, &paths, NULL);
    struct sv_tls_bytes copy = {.data = malloc(server.bytes.length)};
    for (size_t length = 0; length < server.bytes.length; length += 7) {
        memcpy(copy.data, server.bytes.data, length);
        copy.length = length;
        int result = sv_tls_port_replace(server.port, &copy, &status);
        if (result == 0) /* without the authorities at the end it is complete, too */
            CHECK(length > server.bytes.length / 2);
    }
    srandom(1);
    for (int i = 0; i < 300; i++) {
        memcpy(copy.data, server.bytes.data, server.bytes.length);
        copy.length = server.bytes.length;
        copy.data[random() % (i % 2 ? (long)copy.length : 16)] ^= (unsigned char)(1 + random() % 255);
        sv_tls_port_replace(server.port, &copy, &status);
    }
    CHECK(sv_tls_port_replace(server.port, &server.bytes, &status) == 0);
    struct pair pair;
    CHECK(connect_pair(&pair, &server, &nothing) && talks(&pair));
    close_pair(&pair);
    sv_tls_bytes_free(&copy);
    close_server(&server, true);
}

static bool shows(struct server *server, const char *asked, const char *certificate, const char *name) {
    struct pair pair;
    struct sv_tls_info info;
    char *pem;
    bool is_so = connect_pair(&pair, server, &(struct client_wish){.server_name = asked}) && talks(&pair) &&
                 strcmp(pair.client.server, certificate) == 0 && sv_tls_describe(pair.tls, &info, &pem) == 0 &&
                 strcmp(info.server_name, name) == 0;
    if (!is_so)
        fprintf(stderr, "%s: %s, not %s\n", asked, pair.client.server, certificate);
    close_pair(&pair);
    return is_so;
}

TEST(sni_chooses_the_certificate) {
    struct server server = {0};
    struct sv_tls_paths paths = own_paths();
    char files[3][2][160];
    static const char *const names[] = {"A.example", "*.b.example", "x.b.example"}, *const made[] = {"other", "star", "new"};
    struct sv_tls_sni_paths sni[3];
    for (int i = 0; i < 3; i++) {
        snprintf(files[i][0], sizeof files[i][0], "%s/%s.crt", directory, made[i]);
        snprintf(files[i][1], sizeof files[i][1], "%s/%s.key", directory, made[i]);
        sni[i] = (struct sv_tls_sni_paths){.name = names[i], .cert_file = files[i][0], .key_file = files[i][1]};
    }
    paths.sni = sni;
    paths.sni_count = 3;
    open_server(&server, &paths, NULL);
    CHECK(shows(&server, "a.example", "other", "a.example"));
    CHECK(shows(&server, "A.EXAMPLE", "other", "a.example"));
    CHECK(shows(&server, "y.b.example", "star", "y.b.example"));
    CHECK(shows(&server, "x.b.example", "new", "x.b.example"));
    CHECK(shows(&server, "b.example", "own", "b.example"));
    CHECK(shows(&server, "x.y.b.example", "own", "x.y.b.example"));
    CHECK(shows(&server, "else.example", "own", "else.example"));
    CHECK(shows(&server, NULL, "own", ""));
    CHECK(shows(&server, "127.0.0.1", "own", ""));
    CHECK(shows(&server, "a\nb.example", "own", ""));
    close_server(&server, true);
}

TEST(whole_chain_is_sent) {
    struct server server = {0};
    struct pair pair;
    struct sv_tls_paths paths = {.key_file = file_path("leaf", ".key")};
    char chain[160];
    snprintf(chain, sizeof chain, "%s", file_path(join_files("chain", "leaf", "middle", NULL), ".crt"));
    paths.cert_file = chain;
    open_server(&server, &paths, NULL);
    CHECK(connect_pair(&pair, &server, &nothing));
    const mbedtls_x509_crt *sent = mbedtls_ssl_get_peer_cert(&pair.client.ssl);
    CHECK(sent && sent->next && !sent->next->next);
    close_pair(&pair);
    close_server(&server, true);
}

TEST(new_certificates_leave_connections_alone) {
    struct server server = {0};
    struct pair old, begun, fresh;
    struct sv_tls_bytes bytes;
    open_server(&server, NULL, NULL);
    CHECK(connect_pair(&old, &server, &nothing));
    open_pair(&begun, &server, &nothing);
    shake_client(&begun.client);
    CHECK(sv_tls_handshake(begun.tls) == SV_TLS_WANTS_INPUT); /* has answered */
    struct sv_tls_paths paths = {.cert_file = file_path("new", ".crt"), .key_file = file_path("new", ".key")};
    CHECK(sv_tls_files_read(&paths, &bytes, &status) == 0);
    CHECK(sv_tls_port_replace(server.port, &bytes, &status) == 0);
    sv_tls_bytes_free(&bytes);
    shake(&begun);
    CHECK(begun.step == SV_TLS_DONE && strcmp(begun.client.server, "own") == 0 && talks(&begun));
    CHECK(talks(&old));
    CHECK(connect_pair(&fresh, &server, &nothing) && strcmp(fresh.client.server, "new") == 0 && talks(&fresh));
    CHECK(sv_tls_port_replace(server.port, &(struct sv_tls_bytes){0}, &status) < 0); /* nothing changes */
    close_pair(&fresh);
    CHECK(connect_pair(&fresh, &server, &nothing) && strcmp(fresh.client.server, "new") == 0);
    CHECK(talks(&old) && talks(&begun));
    close_pair(&old);
    close_pair(&begun);
    close_pair(&fresh);
    close_server(&server, true);
}

/* ---------------------------------------------------------------------------------------------- certificates of clients */

/* Whether a client with this certificate comes in; *shown: whether the server has its PEM. */
static bool enters(struct server *server, const char *certificate, const char *key, bool *shown) {
    struct pair pair;
    struct sv_tls_info info;
    char *pem = NULL, text[4096] = "", *expected = text;
    bool is_in = connect_pair(&pair, server, &(struct client_wish){.certificate = certificate, .key = key});
    if (is_in)
        is_in = talks(&pair);
    *shown = false;
    if (is_in && certificate && sv_tls_describe(pair.tls, &info, &pem) == 0 && pem) {
        FILE *file = fopen(file_path(certificate, ".crt"), "r");
        text[fread(text, 1, sizeof text - 1, file)] = 0;
        fclose(file);
        strstr(text, "-----END CERTIFICATE-----\n")[26] = 0; /* the client's own, without its chain */
        CHECK(info.certificate_length == strlen(pem));
        *shown = strcmp(pem, expected) == 0;
    }
    if (!is_in)
        CHECK(pair.step == SV_TLS_FAILED && strcmp(sv_tls_error(pair.tls), "no error") != 0);
    free(pem);
    close_pair(&pair);
    return is_in;
}

/* The client with this certificate is refused, with this alert and these words. */
static void refuses(struct server *server, const char *certificate, const char *key, unsigned char description, const char *words) {
    struct pair pair;
    unsigned char alert[7] = {0};
    open_pair(&pair, server, &(struct client_wish){.certificate = certificate, .key = key, .only_1_2 = true});
    while (pair.step != SV_TLS_FAILED && pair.step != SV_TLS_DONE) {
        shake_client(&pair.client);
        pair.step = sv_tls_handshake(pair.tls);
    }
    CHECK(pair.step == SV_TLS_FAILED && strstr(sv_tls_error(pair.tls), words));
    if (!strstr(sv_tls_error(pair.tls), words))
        fprintf(stderr, "%s\n", sv_tls_error(pair.tls));
    CHECK(recv(pair.client.fd, alert, sizeof alert, MSG_DONTWAIT) == sizeof alert);
    CHECK(alert[0] == 21 && alert[5] == MBEDTLS_SSL_ALERT_LEVEL_FATAL && alert[6] == description);
    close_pair(&pair);
}

TEST(why_client_certificates_are_refused) {
    struct server server = {.rules = {.asks_for_certificate = true, .verifies_peer = true, .verify_depth = 1}};
    struct sv_tls_paths paths = own_paths();
    paths.client_cert_file = file_path("root", ".crt");
    open_server(&server, &paths, NULL);
    join_files("deep-chain", "deep", "low", "middle");
    refuses(&server, NULL, NULL, MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE, "no client certif");
    refuses(&server, "deep-chain", "deep", MBEDTLS_SSL_ALERT_MSG_ACCESS_DENIED, "ssl_verify_depth");
    refuses(&server, "old", NULL, MBEDTLS_SSL_ALERT_MSG_CERT_EXPIRED, "expired");
    refuses(&server, "stranger", NULL, MBEDTLS_SSL_ALERT_MSG_UNKNOWN_CA, "not correctly signed");
    refuses(&server, "unfit", NULL, MBEDTLS_SSL_ALERT_MSG_UNSUPPORTED_CERT, "keyUsage");
    close_server(&server, true);
}

struct expectation {
    const char *certificate, *key;
    bool is_in;
};

static void expect(const struct sv_tls_rules *rules, const char *authority, const struct expectation *all, size_t count) {
    struct server server = {.rules = *rules};
    struct sv_tls_paths paths = own_paths();
    char file[160];
    snprintf(file, sizeof file, "%s/%s.crt", directory, authority ? authority : "");
    paths.client_cert_file = authority ? file : NULL;
    open_server(&server, &paths, NULL);
    for (size_t i = 0; i < count; i++) {
        bool shown, is_in = enters(&server, all[i].certificate, all[i].key, &shown);
        if (is_in != all[i].is_in)
            fprintf(stderr, "certificate %s\n", all[i].certificate);
        CHECK(is_in == all[i].is_in);
        CHECK(shown == (is_in && all[i].certificate && rules->asks_for_certificate));
    }
    close_server(&server, true);
}

#define EXPECT(rules, authority, ...)                                                                                  \
    do {                                                                                                               \
        const struct expectation all[] = {__VA_ARGS__};                                                                \
        expect(&(rules), authority, all, sizeof all / sizeof all[0]);                                                  \
    } while (0)

TEST(client_certificates_are_not_asked_for_by_default) {
    struct sv_tls_rules rules = {0};
    EXPECT(rules, NULL, {NULL, NULL, true}, {"client", NULL, true}, {"old", NULL, true});
}

TEST(client_certificates_that_are_asked_for_only) {
    struct sv_tls_rules rules = {.asks_for_certificate = true};
    EXPECT(rules, "root", {NULL, NULL, true}, {"client", NULL, true}, {"old", NULL, true}, {"stranger", NULL, true}, {"lonely", NULL, true});
}

TEST(client_certificates_that_are_demanded) {
    struct sv_tls_rules rules = {.asks_for_certificate = true, .verifies_peer = true};
    join_files("leaf-chain", "leaf", "middle", NULL);
    EXPECT(rules, "root", {NULL, NULL, false}, {"client", NULL, true}, {"old", NULL, false}, {"stranger", NULL, false},
           {"lonely", NULL, false}, {"stale", NULL, false}, {"leaf", NULL, false}, {"leaf-chain", "leaf", true});
}

TEST(self_signed_client_certificates) {
    struct sv_tls_rules rules = {.asks_for_certificate = true, .verifies_peer = true, .allows_self_signed = true};
    join_files("lonely-chain", "lonely", "foreign", NULL);
    join_files("stranger-chain", "stranger", "foreign", NULL);
    EXPECT(rules, "root", {NULL, NULL, false}, {"client", NULL, true}, {"lonely", NULL, true}, {"stale", NULL, false},
           {"old", NULL, false}, {"stranger", NULL, false}, {"lonely-chain", "lonely", false}, {"stranger-chain", "stranger", false});
}

TEST(depth_of_chains_of_clients) {
    struct sv_tls_rules rules = {.asks_for_certificate = true, .verifies_peer = true, .verify_depth = 1};
    join_files("leaf-chain", "leaf", "middle", NULL);
    join_files("deep-chain", "deep", "low", "middle");
    EXPECT(rules, "root", {"client", NULL, true}, {"leaf-chain", "leaf", true}, {"deep-chain", "deep", false});
    rules.verify_depth = 2;
    EXPECT(rules, "root", {"deep-chain", "deep", true});
    rules.verify_depth = 0;
    EXPECT(rules, "root", {"deep-chain", "deep", true});
}

TEST(authorities_of_a_directory) {
    struct server server = {.rules = {.asks_for_certificate = true, .verifies_peer = true}};
    struct sv_tls_paths paths = own_paths();
    bool shown;
    paths.ca_path = directory;
    open_server(&server, &paths, NULL);
    CHECK(enters(&server, "client", NULL, &shown) && shown);
    CHECK(enters(&server, "stranger", NULL, &shown));
    CHECK(!enters(&server, "old", NULL, &shown));
    CHECK(!enters(&server, NULL, NULL, &shown));
    close_server(&server, true);
}
