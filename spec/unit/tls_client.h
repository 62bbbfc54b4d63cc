/* tls_client.h: what the tests of TLS share: certificates made as they run, and a client by mbedTLS that never blocks. */
#ifndef SV_SPEC_TLS_CLIENT_H
#define SV_SPEC_TLS_CLIENT_H

#include <errno.h>
#include <fcntl.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/ecp.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pem.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
#include <psa/crypto.h>
#endif

#include "base/clock.h"
#include "net/tls.h"
#include "unit.h"

static mbedtls_entropy_context entropy;
static mbedtls_ctr_drbg_context generator;
static char directory[64];

static inline void must(int holds, const char *what) {
    if (!holds) {
        fprintf(stderr, "cannot go on: %s\n", what);
        exit(1);
    }
}

/* Path of a file of the test; sixteen of them live at a time. */
static inline const char *file_path(const char *name, const char *extension) {
    static char paths[16][160];
    static unsigned turn;
    char *path = paths[turn++ % 16];
    snprintf(path, sizeof paths[0], "%s/%s%s", directory, name, extension);
    return path;
}

static inline void write_file(const char *path, const void *data, size_t length) {
    FILE *file = fopen(path, "w");
    must(file && fwrite(data, 1, length, file) == length && fclose(file) == 0, path);
}

/* ------------------------------------------------------------------------------------------------------ certificates */

struct wish { /* for a certificate */
    const char *name;   /* its file names and common name */
    const char *issuer; /* NULL: itself */
    bool is_authority, is_expired, only_signs;
};

static inline void read_key(mbedtls_pk_context *key, const char *path) {
    mbedtls_pk_init(key);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    must(mbedtls_pk_parse_keyfile(key, path, NULL, mbedtls_ctr_drbg_random, &generator) == 0, path);
#else
    must(mbedtls_pk_parse_keyfile(key, path, NULL) == 0, path);
#endif
}

static inline void make_key(const char *name) {
    unsigned char text[2048];
    mbedtls_pk_context key;
    mbedtls_pk_init(&key);
    must(mbedtls_pk_setup(&key, mbedtls_pk_info_from_type(MBEDTLS_PK_ECKEY)) == 0 &&
             mbedtls_ecp_gen_key(MBEDTLS_ECP_DP_SECP256R1, mbedtls_pk_ec(key), mbedtls_ctr_drbg_random, &generator) == 0 &&
             mbedtls_pk_write_key_pem(&key, text, sizeof text) == 0,
         "key");
    write_file(file_path(name, ".key"), text, strlen((char *)text));
    mbedtls_pk_free(&key);
}

static inline void make_certificate(const struct wish *wish) {
    static int serial_number = 1;
    const char *issuer = wish->issuer ? wish->issuer : wish->name;
    unsigned char text[4096];
    char subject_name[160], issuer_name[160];
    mbedtls_pk_context key, issuer_key;
    mbedtls_x509write_cert writer;
    mbedtls_mpi serial;

    make_key(wish->name);
    read_key(&key, file_path(wish->name, ".key"));
    read_key(&issuer_key, file_path(issuer, ".key"));
    snprintf(subject_name, sizeof subject_name, "CN=%s", wish->name);
    snprintf(issuer_name, sizeof issuer_name, "CN=%s", issuer);
    mbedtls_x509write_crt_init(&writer);
    mbedtls_mpi_init(&serial);
    mbedtls_x509write_crt_set_md_alg(&writer, MBEDTLS_MD_SHA256);
    mbedtls_x509write_crt_set_subject_key(&writer, &key);
    mbedtls_x509write_crt_set_issuer_key(&writer, &issuer_key);
    must(mbedtls_mpi_lset(&serial, serial_number++) == 0 && mbedtls_x509write_crt_set_serial(&writer, &serial) == 0 &&
             mbedtls_x509write_crt_set_subject_name(&writer, subject_name) == 0 &&
             mbedtls_x509write_crt_set_issuer_name(&writer, issuer_name) == 0 &&
             mbedtls_x509write_crt_set_validity(&writer, "20200101000000", wish->is_expired ? "20210101000000" : "20491231235959") == 0 &&
             mbedtls_x509write_crt_set_basic_constraints(&writer, wish->is_authority, -1) == 0 &&
             (!wish->only_signs || mbedtls_x509write_crt_set_key_usage(&writer, MBEDTLS_X509_KU_KEY_CERT_SIGN) == 0) &&
             mbedtls_x509write_crt_pem(&writer, text, sizeof text, mbedtls_ctr_drbg_random, &generator) == 0,
         wish->name);
    write_file(file_path(wish->name, ".crt"), text, strlen((char *)text));
    mbedtls_x509write_crt_free(&writer);
    mbedtls_mpi_free(&serial);
    mbedtls_pk_free(&key);
    mbedtls_pk_free(&issuer_key);
}

static inline void remove_directory(void) {
    char command[128];
    snprintf(command, sizeof command, "rm -rf %s", directory);
    if (system(command) != 0)
        fprintf(stderr, "%s stays\n", directory);
}

/* Before the tests: a directory with certificates. */
__attribute__((constructor)) static void prepare(void) {
    static const struct wish wishes[] = {
        {.name = "own"},
        {.name = "other"},
        {.name = "star"},
        {.name = "new"},
        {.name = "root", .is_authority = true},
        {.name = "middle", .issuer = "root", .is_authority = true},
        {.name = "low", .issuer = "middle", .is_authority = true},
        {.name = "leaf", .issuer = "middle"},
        {.name = "deep", .issuer = "low"},
        {.name = "client", .issuer = "root"},
        {.name = "old", .issuer = "root", .is_expired = true},
        {.name = "lonely"},
        {.name = "stale", .is_expired = true},
        {.name = "foreign", .is_authority = true},
        {.name = "stranger", .issuer = "foreign"},
        {.name = "signer", .only_signs = true},
        {.name = "unfit", .issuer = "root", .only_signs = true},
    };
    mbedtls_entropy_init(&entropy);
    mbedtls_ctr_drbg_init(&generator);
    must(mbedtls_ctr_drbg_seed(&generator, mbedtls_entropy_func, &entropy, NULL, 0) == 0, "random numbers");
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    must(psa_crypto_init() == PSA_SUCCESS, "PSA");
#endif
    strcpy(directory, "/tmp/srvlua-tls-XXXXXX");
    must(mkdtemp(directory) != NULL, directory);
    atexit(remove_directory);
    for (size_t i = 0; i < sizeof wishes / sizeof wishes[0]; i++)
        make_certificate(&wishes[i]);
}

/* Files one after another: a chain. */
static inline const char *join_files(const char *name, const char *one, const char *other, const char *third) {
    const char *parts[] = {one, other, third};
    char text[16384];
    size_t length = 0;
    for (int i = 0; i < 3 && parts[i]; i++) {
        FILE *file = fopen(file_path(parts[i], ".crt"), "r");
        must(file != NULL, parts[i]);
        length += fread(text + length, 1, sizeof text - length, file);
        fclose(file);
    }
    write_file(file_path(name, ".crt"), text, length);
    return name;
}

/* ------------------------------------------------------------------------------------------------------------ server */

struct server { /* one reactor's part of a port */
    struct sv_tls_rules rules;
    struct sv_tls_bytes bytes;
    struct sv_tls_shared *shared;
    struct sv_tls_scratch *scratch;
    struct sv_tls_port *port;
    struct srvlua_status status;
};

static inline struct sv_tls_shared *new_shared(int64_t life_ns) {
    struct sv_tls_shared *shared = aligned_alloc(64, (sv_tls_shared_bytes() + 63) / 64 * 64);
    must(shared && sv_tls_shared_init(shared, life_ns) == 0, "shared keys");
    return shared;
}

static inline struct sv_tls_paths own_paths(void) {
    struct sv_tls_paths paths = {.cert_file = file_path("own", ".crt"), .key_file = file_path("own", ".key")};
    return paths;
}

/* The scratch may be another server's: then it is shared as in a reactor with two ports. */
static inline void open_server(struct server *server, const struct sv_tls_paths *paths, struct sv_tls_shared *shared) {
    struct sv_tls_paths own = own_paths();
    server->rules.versions = server->rules.versions ? server->rules.versions : sv_tls_library_versions();
    server->rules.prefers_own_order = true;
    server->shared = shared ? shared : new_shared(3600 * SV_NS_PER_SECOND);
    server->scratch = sv_tls_scratch_new();
    must(sv_tls_files_read(paths ? paths : &own, &server->bytes, &server->status) == 0, server->status.message);
    server->port = sv_tls_port_new(&server->rules, &server->bytes, server->shared, server->scratch, &server->status);
    must(server->port != NULL, server->status.message);
}

static inline void close_server(struct server *server, bool with_shared) {
    sv_tls_port_free(server->port);
    sv_tls_scratch_free(server->scratch);
    sv_tls_bytes_free(&server->bytes);
    if (with_shared)
        free(server->shared);
}

/* ------------------------------------------------------------------------------------------------------------ client */

struct client_wish {
    const char *server_name, *certificate, *key; /* key NULL: as the certificate is called */
    const char **alpn;
    const int *suites;
    mbedtls_ssl_session *session;
    bool is_datagram;
    bool only_1_2, wants_small_records;
    size_t cut; /* bytes that go out at once; 0: all */
};

struct client {
    mbedtls_ssl_context ssl;
    mbedtls_ssl_config config;
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
    int fd;
    size_t cut;
    bool is_done, has_ended;
    int error; /* of mbedTLS */
    char server[64]; /* common name of the server's certificate */
    int64_t middle_ns, end_ns;
};

static inline int client_send(void *context, const unsigned char *data, size_t length) {
    struct client *client = context;
    ssize_t count = send(client->fd, data, client->cut && client->cut < length ? client->cut : length, MSG_DONTWAIT | MSG_NOSIGNAL);
    if (count >= 0)
        return (int)count;
    return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_WRITE : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static inline int client_receive(void *context, unsigned char *data, size_t size) {
    struct client *client = context;
    ssize_t count = recv(client->fd, data, size, MSG_DONTWAIT);
    if (count >= 0)
        return (int)count;
    return errno == EAGAIN ? MBEDTLS_ERR_SSL_WANT_READ : MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static inline void client_set_timer(void *context, uint32_t middle_ms, uint32_t end_ms) {
    struct client *client = context;
    client->middle_ns = end_ms ? sv_now_ns() + middle_ms * SV_NS_PER_MS : 0;
    client->end_ns = end_ms ? sv_now_ns() + end_ms * SV_NS_PER_MS : 0;
}

static inline int client_get_timer(void *context) {
    struct client *client = context;
    int64_t now = sv_now_ns();
    return client->end_ns == 0 ? -1 : now >= client->end_ns ? 2 : now >= client->middle_ns;
}

static inline void open_client(struct client *client, int fd, const struct client_wish *wish) {
    memset(client, 0, sizeof *client);
    client->fd = fd;
    client->cut = wish->cut;
    mbedtls_ssl_init(&client->ssl);
    mbedtls_ssl_config_init(&client->config);
    mbedtls_x509_crt_init(&client->chain);
    mbedtls_pk_init(&client->key);
    must(mbedtls_ssl_config_defaults(&client->config, MBEDTLS_SSL_IS_CLIENT,
                                     wish->is_datagram ? MBEDTLS_SSL_TRANSPORT_DATAGRAM : MBEDTLS_SSL_TRANSPORT_STREAM,
                                     MBEDTLS_SSL_PRESET_DEFAULT) == 0,
         "client");
    mbedtls_ssl_conf_authmode(&client->config, MBEDTLS_SSL_VERIFY_NONE);
    mbedtls_ssl_conf_rng(&client->config, mbedtls_ctr_drbg_random, &generator);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000
    if (wish->only_1_2)
        mbedtls_ssl_conf_max_tls_version(&client->config, MBEDTLS_SSL_VERSION_TLS1_2);
#endif
#if MBEDTLS_VERSION_NUMBER >= 0x03060100 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
    mbedtls_ssl_conf_tls13_enable_signal_new_session_tickets(&client->config, MBEDTLS_SSL_TLS1_3_SIGNAL_NEW_SESSION_TICKETS_ENABLED);
#endif
    mbedtls_ssl_conf_handshake_timeout(&client->config, 20, 2000); /* tests lose datagrams */
#if defined(MBEDTLS_SSL_MAX_FRAGMENT_LENGTH)
    if (wish->wants_small_records)
        must(mbedtls_ssl_conf_max_frag_len(&client->config, MBEDTLS_SSL_MAX_FRAG_LEN_512) == 0, "small records");
#endif
    if (wish->suites)
        mbedtls_ssl_conf_ciphersuites(&client->config, wish->suites);
    if (wish->alpn)
        must(mbedtls_ssl_conf_alpn_protocols(&client->config, wish->alpn) == 0, "alpn");
    if (wish->certificate) {
        must(mbedtls_x509_crt_parse_file(&client->chain, file_path(wish->certificate, ".crt")) == 0, wish->certificate);
        read_key(&client->key, file_path(wish->key ? wish->key : wish->certificate, ".key"));
        must(mbedtls_ssl_conf_own_cert(&client->config, &client->chain, &client->key) == 0, wish->certificate);
    }
    must(mbedtls_ssl_setup(&client->ssl, &client->config) == 0, "client");
    mbedtls_ssl_set_hostname(&client->ssl, wish->server_name);
    if (wish->session)
        must(mbedtls_ssl_set_session(&client->ssl, wish->session) == 0, "session");
    mbedtls_ssl_set_bio(&client->ssl, client, client_send, client_receive, NULL);
    mbedtls_ssl_set_timer_cb(&client->ssl, client, client_set_timer, client_get_timer);
}

static inline void close_client(struct client *client) {
    mbedtls_ssl_free(&client->ssl);
    mbedtls_ssl_config_free(&client->config);
    mbedtls_x509_crt_free(&client->chain);
    mbedtls_pk_free(&client->key);
    close(client->fd);
}

static inline bool is_waiting(int result) { return result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE; }

static inline void shake_client(struct client *client) {
    if (client->is_done || client->error)
        return;
    int result = mbedtls_ssl_handshake(&client->ssl);
    if (result == 0) {
        const mbedtls_x509_crt *certificate = mbedtls_ssl_get_peer_cert(&client->ssl);
        if (certificate) {
            char name[64];
            mbedtls_x509_dn_gets(name, sizeof name, &certificate->subject);
            snprintf(client->server, sizeof client->server, "%s", name + 3);
        }
        client->is_done = true;
    } else if (!is_waiting(result)) {
        client->error = result;
    }
}

/* Plain bytes that came, added up in `data`. */
static inline size_t read_client(struct client *client, void *data, size_t size) {
    size_t filled = 0;
    int waits = 0; /* 3.x says so once after a ticket, whatever there is */
    while (filled < size && !client->has_ended && !client->error) {
        int result = mbedtls_ssl_read(&client->ssl, (unsigned char *)data + filled, size - filled);
        if (result > 0) {
            filled += (size_t)result;
            continue;
        }
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
        if (result == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET)
            continue;
#endif
        if (is_waiting(result) && waits++ == 0)
            continue;
        if (result == 0 || result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
            client->has_ended = true;
        else if (!is_waiting(result))
            client->error = result;
        if (result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
            client->error = result;
        break;
    }
    return filled;
}

/* -------------------------------------------------------------------------------------------------------------- both */

struct pair {
    struct client client;
    struct sv_tls *tls;
    int fd; /* the server's */
    enum sv_tls_step step;
};

static inline void open_pair(struct pair *pair, struct server *server, const struct client_wish *wish) {
    int ends[2];
    must(socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK | SOCK_CLOEXEC, 0, ends) == 0, "socketpair");
    *pair = (struct pair){.fd = ends[0], .step = SV_TLS_WANTS_INPUT};
    open_client(&pair->client, ends[1], wish);
    pair->tls = sv_tls_new(server->port, ends[0]);
    must(pair->tls != NULL, "connection");
}

/* Both sides go on with their handshakes until both have ended one way or the other. */
static inline void shake(struct pair *pair) {
    for (int turns = 0; turns < 20000; turns++) {
        shake_client(&pair->client);
        if (pair->step != SV_TLS_FAILED && pair->step != SV_TLS_DONE)
            pair->step = sv_tls_handshake(pair->tls);
        if (pair->step == SV_TLS_DONE && 0 < sv_tls_pending(pair->tls))
            sv_tls_flush(pair->tls);
        if ((pair->step == SV_TLS_FAILED || pair->step == SV_TLS_DONE) && (pair->client.is_done || pair->client.error))
            return;
        if (pair->step == SV_TLS_FAILED && turns > 100)
            return;
    }
}

static inline bool connect_pair(struct pair *pair, struct server *server, const struct client_wish *wish) {
    open_pair(pair, server, wish);
    shake(pair);
    return pair->step == SV_TLS_DONE && pair->client.is_done;
}

static inline void close_pair(struct pair *pair) {
    sv_tls_free(pair->tls);
    close(pair->fd);
    close_client(&pair->client);
}

/* One word each way. */
static inline bool talks(struct pair *pair) {
    char data[64];
    if (mbedtls_ssl_write(&pair->client.ssl, (const unsigned char *)"ping", 4) != 4)
        return false;
    if (sv_tls_receive(pair->tls, data, sizeof data) != 4 || memcmp(data, "ping", 4) != 0)
        return false;
    struct iovec words[2] = {{"po", 2}, {"ng", 2}};
    if (sv_tls_send(pair->tls, words, 2) != 4)
        return false;
    return read_client(&pair->client, data, sizeof data) == 4 && memcmp(data, "pong", 4) == 0;
}

#endif
