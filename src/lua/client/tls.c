/* tls.c: see tls.h. */
#include "lua/client/tls.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <errno.h>
#include <netinet/in.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/error.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
#include <psa/crypto.h>
#endif

#include "lua/client/client.h"
#include "lua/client/words.h"

#define RAW_SIZE 4096
#define MESSAGE_SIZE 320
#define NAME_MAX_LENGTH 255

/* What connections with the same demands share: CA certificates, if they verify, and the rest of the configuration. */
struct trust {
    int users; /* the library is one */
    char *path;
    struct stat file; /* as it was when it was read */
    mbedtls_x509_crt certificates;
    mbedtls_ssl_config config;
};

struct sv_client_tls_library {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context random;
    struct trust *careless, *careful; /* the one verifies nothing */
};

struct sv_client_tls {
    mbedtls_ssl_context ssl;
    struct trust *trust;
    int fd;
    int error; /* errno of the descriptor's last failure, or 0 */
    bool verify, is_done;
    bool is_address; /* the name is one, and is compared here */
    char name[NAME_MAX_LENGTH + 1];
    char message[MESSAGE_SIZE];
    size_t raw_begin,
        raw_end; /* bytes from the descriptor that TLS has not asked for yet: a record takes one system call */
    unsigned char raw[RAW_SIZE];
};

struct sv_client_tls_session {
    mbedtls_ssl_session session;
    bool is_verified; /* then for this name: a resumed handshake shows no certificate */
    char name[NAME_MAX_LENGTH + 1];
};

/* -------------------------------------------------------------------------------------------------------- messages */

static void say(char *message, size_t size, const char *format, ...) __attribute__((format(printf, 3, 4)));

static void say(char *message, size_t size, const char *format, ...) {
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(message, size, format, arguments);
    va_end(arguments);
}

/* The text of an error of mbedTLS, in lower case like the words of errno. */
static void describe(int code, char *text, size_t size) {
    char *c;

    mbedtls_strerror(code, text, size);
    for (c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

static void describe_errno(int code, char *text, size_t size) {
    char *c;

    say(text, size, "%s", srvlua_strerror(code));
    for (c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

/* What is wrong with a certificate: mbedTLS's lines as one. */
static void describe_flags(uint32_t flags, char *text, size_t size) {
    char *c, *last = NULL;
    int length = mbedtls_x509_crt_verify_info(text, size, "", flags);

    if (length < 0)
        say(text, size, "flags %#x", (unsigned)flags);
    for (c = text; *c; c++) {
        if (*c == '\n') {
            *c = ',';
            last = c;
        }
    }
    if (last && !last[1])
        *last = 0;
    text[0] = (char)tolower((unsigned char)text[0]);
}

/* -------------------------------------------------------------------------------------------------- the shared part */

static void free_trust(struct trust *trust) {
    if (!trust || --trust->users > 0)
        return;
    mbedtls_ssl_config_free(&trust->config);
    mbedtls_x509_crt_free(&trust->certificates);
    free(trust->path);
    free(trust);
}

void sv_client_tls_library_free(struct sv_client_tls_library *library) {
    if (!library)
        return;
    free_trust(library->careless);
    free_trust(library->careful);
    mbedtls_ctr_drbg_free(&library->random);
    mbedtls_entropy_free(&library->entropy);
    free(library);
}

static struct sv_client_tls_library *find_library(struct sv_client *client, char *message, size_t size) {
    struct sv_client_tls_library *library = client->tls;
    char text[160];
    int result;

    if (library)
        return library;
    library = calloc(1, sizeof *library);
    if (!library) {
        say(message, size, "handshake failed: no memory");
        return NULL;
    }
    mbedtls_entropy_init(&library->entropy);
    mbedtls_ctr_drbg_init(&library->random);
    result = mbedtls_ctr_drbg_seed(&library->random, mbedtls_entropy_func, &library->entropy,
                                   (const unsigned char *)"srvlua.socket", 13);
#if MBEDTLS_VERSION_NUMBER >= 0x03000000 && defined(MBEDTLS_PSA_CRYPTO_C)
    if (result == 0 && psa_crypto_init() != PSA_SUCCESS) /* TLS 1.3 asks for it; a second time it does nothing */
        result = MBEDTLS_ERR_SSL_HW_ACCEL_FAILED;
#endif
    if (result != 0) {
        describe(result, text, sizeof text);
        say(message, size, "handshake failed: %s", text);
        sv_client_tls_library_free(library);
        return NULL;
    }
    client->tls = library;
    return library;
}

static struct trust *new_trust(struct sv_client_tls_library *library, bool verify, char *message, size_t size) {
    struct trust *trust = calloc(1, sizeof *trust);

    if (!trust) {
        say(message, size, "handshake failed: no memory");
        return NULL;
    }
    trust->users = 1;
    mbedtls_x509_crt_init(&trust->certificates);
    mbedtls_ssl_config_init(&trust->config);
    if (mbedtls_ssl_config_defaults(&trust->config, MBEDTLS_SSL_IS_CLIENT, MBEDTLS_SSL_TRANSPORT_STREAM,
                                    MBEDTLS_SSL_PRESET_DEFAULT) != 0) {
        say(message, size, "handshake failed: no memory");
        free_trust(trust);
        return NULL;
    }
#if MBEDTLS_VERSION_NUMBER >= 0x03020000
    mbedtls_ssl_conf_min_tls_version(&trust->config, MBEDTLS_SSL_VERSION_TLS1_2);
#else
    mbedtls_ssl_conf_min_version(&trust->config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
    mbedtls_ssl_conf_rng(&trust->config, mbedtls_ctr_drbg_random, &library->random);
    mbedtls_ssl_conf_authmode(&trust->config, verify ? MBEDTLS_SSL_VERIFY_REQUIRED : MBEDTLS_SSL_VERIFY_NONE);
    if (verify)
        mbedtls_ssl_conf_ca_chain(&trust->config, &trust->certificates, NULL);
    return trust;
}

static const char *system_ca_file(void) {
    static const char *const paths[] = {
        "/etc/ssl/certs/ca-certificates.crt",                /* Debian, Arch, Alpine */
        "/etc/pki/tls/certs/ca-bundle.crt",                  /* Fedora */
        "/etc/pki/ca-trust/extracted/pem/tls-ca-bundle.pem", /* RHEL */
        "/etc/ssl/ca-bundle.pem",                            /* SUSE */
        "/etc/ssl/cert.pem",
    };
    size_t i;

    for (i = 0; i < sizeof paths / sizeof paths[0]; i++)
        if (access(paths[i], R_OK) == 0)
            return paths[i];
    return paths[0];
}

static bool is_same_file(const struct stat *one, const struct stat *other) {
    return one->st_dev == other->st_dev && one->st_ino == other->st_ino && one->st_size == other->st_size &&
           one->st_mtim.tv_sec == other->st_mtim.tv_sec && one->st_mtim.tv_nsec == other->st_mtim.tv_nsec;
}

/* The trust in a file of CA certificates, which is read again when it has changed. */
static struct trust *find_careful(struct sv_client_tls_library *library, const char *path, char *message, size_t size) {
    struct trust *trust = library->careful;
    struct stat file;
    char text[160];
    int result;

    if (!path)
        path = system_ca_file();
    if (stat(path, &file) < 0) {
        describe_errno(errno, text, sizeof text);
        say(message, size, "certificate verify failed: %s: %s", path, text);
        return NULL;
    }
    if (trust && strcmp(trust->path, path) == 0 && is_same_file(&trust->file, &file))
        return trust;
    trust = new_trust(library, true, message, size);
    if (!trust)
        return NULL;
    trust->file = file;
    trust->path = strdup(path);
    result = trust->path ? mbedtls_x509_crt_parse_file(&trust->certificates, path) : MBEDTLS_ERR_X509_ALLOC_FAILED;
    if (result < 0 || trust->certificates.version == 0) { /* > 0: so many were of unknown kinds */
        describe(result < 0 ? result : MBEDTLS_ERR_X509_CERT_UNKNOWN_FORMAT, text, sizeof text);
        say(message, size, "certificate verify failed: no CA certificates in %s: %s", path, text);
        free_trust(trust);
        return NULL;
    }
    free_trust(library->careful);
    library->careful = trust;
    return trust;
}

static struct trust *find_trust(struct sv_client *client, const struct sv_client_tls_options *options, char *message,
                                size_t size) {
    struct sv_client_tls_library *library = find_library(client, message, size);

    if (!library)
        return NULL;
    if (options->verify)
        return find_careful(library, options->ca_file, message, size);
    if (!library->careless)
        library->careless = new_trust(library, false, message, size);
    return library->careless;
}

/* ------------------------------------------------------------------------------------------------------ a connection */

static int send_raw(void *context, const unsigned char *data, size_t length) {
    struct sv_client_tls *tls = context;
    ssize_t count;

    do
        count = send(tls->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    if (count >= 0)
        return (int)count;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return MBEDTLS_ERR_SSL_WANT_WRITE;
    tls->error = errno;
    return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

static int read_descriptor(struct sv_client_tls *tls, unsigned char *data, size_t size) {
    ssize_t count;

    do
        count = recv(tls->fd, data, size, MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    if (count >= 0)
        return (int)count;
    if (errno == EAGAIN || errno == EWOULDBLOCK)
        return MBEDTLS_ERR_SSL_WANT_READ;
    tls->error = errno;
    return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
}

/* TLS asks for five bytes, then for the record they announce. */
static int receive_raw(void *context, unsigned char *data, size_t size) {
    struct sv_client_tls *tls = context;
    size_t there = tls->raw_end - tls->raw_begin;

    if (there == 0) {
        int count;
        if (size >= RAW_SIZE)
            return read_descriptor(tls, data, size);
        count = read_descriptor(tls, tls->raw, RAW_SIZE);
        if (count <= 0)
            return count;
        tls->raw_begin = 0;
        tls->raw_end = there = (size_t)count;
    }
    if (size > there)
        size = there;
    memcpy(data, tls->raw + tls->raw_begin, size);
    tls->raw_begin += size;
    return (int)size;
}

static bool is_address(const char *name) {
    unsigned char address[16];

    return inet_pton(AF_INET, name, address) == 1 || inet_pton(AF_INET6, name, address) == 1;
}

/* mbedTLS 2.28 leaves a name that was not set before as it is; 3.6 wants it to be told that there is none. */
static int set_name(struct sv_client_tls *tls, const char *name) {
    tls->name[0] = 0;
    if (name && strlen(name) > NAME_MAX_LENGTH)
        return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
    if (name)
        strcpy(tls->name, name);
    tls->is_address = name && is_address(name);
    return mbedtls_ssl_set_hostname(&tls->ssl, name && !tls->is_address ? name : NULL);
}

/* A session may be resumed if what it was verified for is what is asked for now. */
static bool is_good(const struct sv_client_tls_session *session, const struct sv_client_tls *tls) {
    return !tls->verify || (session->is_verified && strcmp(session->name, tls->name) == 0);
}

struct sv_client_tls *sv_client_tls_new(struct sv_client *client, int fd, const struct sv_client_tls_options *options,
                                        char *message, size_t size) {
    struct trust *trust = find_trust(client, options, message, size);
    struct sv_client_tls *tls;
    char text[160];
    int result;

    if (!trust)
        return NULL;
    tls = calloc(1, sizeof *tls);
    if (!tls) {
        say(message, size, "handshake failed: no memory");
        return NULL;
    }
    trust->users++;
    tls->trust = trust;
    tls->fd = fd;
    tls->verify = options->verify;
    mbedtls_ssl_init(&tls->ssl);
    result = mbedtls_ssl_setup(&tls->ssl, &trust->config);
    if (result == 0)
        result = set_name(tls, options->name);
    if (result == 0 && options->session && is_good(options->session, tls))
        result = mbedtls_ssl_set_session(&tls->ssl, &options->session->session);
    if (result != 0) {
        describe(result, text, sizeof text);
        say(message, size, "handshake failed: %s", text);
        sv_client_tls_free(tls);
        return NULL;
    }
    mbedtls_ssl_set_bio(&tls->ssl, tls, send_raw, receive_raw, NULL);
    return tls;
}

void sv_client_tls_free(struct sv_client_tls *tls) {
    if (!tls)
        return;
    mbedtls_ssl_free(&tls->ssl);
    free_trust(tls->trust);
    free(tls);
}

const char *sv_client_tls_message(const struct sv_client_tls *tls) { return tls->message; }

/* What a call of mbedTLS that did not succeed means. */
static int translate(struct sv_client_tls *tls, int result, const char *what, int *wants) {
    char text[200];

    if (result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE) {
        *wants = result == MBEDTLS_ERR_SSL_WANT_READ ? SRVLUA_READABLE : SRVLUA_WRITABLE;
        return -EAGAIN;
    }
    if (tls->is_done && tls->error)
        return -tls->error;
    if (tls->error)
        describe_errno(tls->error, text, sizeof text);
    else if (result == MBEDTLS_ERR_SSL_CONN_EOF || result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        say(text, sizeof text, "closed by the peer");
    else
        describe(result, text, sizeof text);
    say(tls->message, sizeof tls->message, "%s%s", what, text);
    return -SV_CLIENT_TLS;
}

/* Whether the certificate of the peer names the address as a whole, in its iPAddress entries. */
static bool names_address(const struct sv_client_tls *tls) {
    const mbedtls_x509_crt *certificate = mbedtls_ssl_get_peer_cert(&tls->ssl);
    const mbedtls_x509_sequence *entry;
    unsigned char address[16];
    size_t length = inet_pton(AF_INET, tls->name, address) == 1 ? 4 : 16;

    if (length == 16 && inet_pton(AF_INET6, tls->name, address) != 1)
        return false;
    for (entry = certificate ? &certificate->subject_alt_names : NULL; entry; entry = entry->next)
        if (entry->buf.tag == (MBEDTLS_ASN1_CONTEXT_SPECIFIC | 7) && entry->buf.len == length &&
            memcmp(entry->buf.p, address, length) == 0)
            return true;
    return false;
}

int sv_client_tls_handshake(struct sv_client_tls *tls, int *wants) {
    int result = mbedtls_ssl_handshake(&tls->ssl);
    uint32_t flags;

    if (result == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED) {
        char text[256];
        flags = mbedtls_ssl_get_verify_result(&tls->ssl);
        describe_flags(flags, text, sizeof text);
        say(tls->message, sizeof tls->message, "certificate verify failed: %s", text);
        return -SV_CLIENT_TLS;
    }
    if (result != 0)
        return translate(tls, result, "handshake failed: ", wants);
    if (tls->verify && tls->is_address && !names_address(tls)) {
        say(tls->message, sizeof tls->message, "certificate verify failed: it is not of address %s", tls->name);
        return -SV_CLIENT_TLS;
    }
    tls->is_done = true;
    return 0;
}

ssize_t sv_client_tls_read(struct sv_client_tls *tls, void *data, size_t size, int *wants) {
    int result;

    do
        result = mbedtls_ssl_read(&tls->ssl, data, size);
#ifdef MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET
    while (result == MBEDTLS_ERR_SSL_RECEIVED_NEW_SESSION_TICKET);
#else
    while (0);
#endif
    if (result >= 0)
        return result;
    if (result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY || result == MBEDTLS_ERR_SSL_CONN_EOF)
        return 0;
    return translate(tls, result, "", wants);
}

ssize_t sv_client_tls_write(struct sv_client_tls *tls, const void *data, size_t length, int *wants) {
    int result = mbedtls_ssl_write(&tls->ssl, data, length);

    return result >= 0 ? result : translate(tls, result, "", wants);
}

bool sv_client_tls_has_input(const struct sv_client_tls *tls) {
    return tls->raw_end > tls->raw_begin || mbedtls_ssl_check_pending(&tls->ssl);
}

void sv_client_tls_say_end(struct sv_client_tls *tls) {
    if (tls->is_done)
        mbedtls_ssl_close_notify(&tls->ssl); /* whether it goes out or not */
}

/* ---------------------------------------------------------------------------------------------------------- sessions */

struct sv_client_tls_session *sv_client_tls_get_session(struct sv_client_tls *tls) {
    struct sv_client_tls_session *session = calloc(1, sizeof *session);

    if (!session)
        return NULL;
    mbedtls_ssl_session_init(&session->session);
    if (mbedtls_ssl_get_session(&tls->ssl, &session->session) != 0) { /* 3.x gives it once only */
        free(session);
        return NULL;
    }
    session->is_verified = tls->verify;
    strcpy(session->name, tls->name);
    return session;
}

void sv_client_tls_session_free(struct sv_client_tls_session *session) {
    if (!session)
        return;
    mbedtls_ssl_session_free(&session->session);
    free(session);
}
