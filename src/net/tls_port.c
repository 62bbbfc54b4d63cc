/* tls_port.c: what connections of one port share in one reactor: random numbers, certificates, the library's configuration. */
#include <ctype.h>
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <mbedtls/error.h>
#include <mbedtls/ssl_ciphersuites.h>
#if SV_MBEDTLS_3 || defined(MBEDTLS_PSA_CRYPTO_C)
#include <psa/crypto.h>
#endif

#include "base/clock.h"
#include "base/errors.h"
#include "net/tls_internal.h"

/* Retransmission of a flight: after 1, 2, 4, 8 seconds (RFC 6347 4.2.4.1). */
#define DTLS_FIRST_TIMEOUT_MS 1000u
#define DTLS_LAST_TIMEOUT_MS 8000u
#define NAME_MAX_LENGTH 253u

void sv_tls_describe_error(int code, char *text, size_t size) {
    mbedtls_strerror(code, text, size);
    for (char *c = text; *c; c++)
        *c = (char)tolower((unsigned char)*c);
}

int sv_tls_random_init(struct sv_tls_random *random) {
    int64_t own[] = {getpid(), sv_now_ns()}; /* besides what the system gives: different in every process */
    mbedtls_entropy_init(&random->entropy);
    mbedtls_ctr_drbg_init(&random->generator);
    return mbedtls_ctr_drbg_seed(&random->generator, mbedtls_entropy_func, &random->entropy, (const unsigned char *)own,
                                 sizeof own);
}

void sv_tls_random_free(struct sv_tls_random *random) {
    mbedtls_ctr_drbg_free(&random->generator);
    mbedtls_entropy_free(&random->entropy);
}

struct sv_tls_scratch *sv_tls_scratch_new(void) {
    struct sv_tls_scratch *scratch = malloc(sizeof *scratch); /* touched as used */
    if (scratch) {
        scratch->owner = NULL;
        scratch->reading = scratch->writing = (struct sv_tls_stack){0};
        scratch->begin = scratch->end = scratch->output_length = 0;
    }
    return scratch;
}

void sv_tls_scratch_free(struct sv_tls_scratch *scratch) { free(scratch); }

/* --------------------------------------------------------------------------------------------- choosing certificates */

/* "*.b.example" stands for one label. */
static bool is_covered(const char *wildcard, const char *name) {
    const char *rest = strchr(name, '.');
    return rest && rest > name && strcmp(wildcard + 1, rest) == 0;
}

static struct sv_tls_pair *find_pair(struct sv_tls_pair *pairs, const char *name) {
    for (struct sv_tls_pair *pair = pairs; pair; pair = pair->next)
        if (pair->name && strcmp(pair->name, name) == 0)
            return pair;
    for (struct sv_tls_pair *pair = pairs; pair; pair = pair->next)
        if (pair->name && pair->name[0] == '*' && is_covered(pair->name, name))
            return pair;
    return NULL;
}

/* A name in lower case; false for what is none. An address is not allowed as a name (RFC 6066 3): it ends in a number or has colons. */
static bool take_name(const unsigned char *data, size_t length, char name[NAME_MAX_LENGTH + 1]) {
    bool has_letter = false;
    if (length > 0 && data[length - 1] == '.') /* the root, which clients should leave out */
        length--;
    if (length == 0 || length > NAME_MAX_LENGTH)
        return false;
    for (size_t i = 0; i < length; i++) {
        if (!isalnum(data[i]) && data[i] != '-' && data[i] != '_' && data[i] != '.')
            return false;
        has_letter = data[i] == '.' ? false : has_letter || !isdigit(data[i]);
        name[i] = (char)tolower(data[i]);
    }
    name[length] = 0;
    return has_letter;
}

static int choose_certificate(void *context, mbedtls_ssl_context *ssl, const unsigned char *data, size_t length) {
    struct sv_tls_generation *generation = context;
    struct sv_tls *tls = (struct sv_tls *)ssl;
    char name[NAME_MAX_LENGTH + 1];

    if (!take_name(data, length, name))
        return 0;
    free(tls->server_name);
    tls->server_name = strdup(name);
    struct sv_tls_pair *pair = find_pair(generation->credentials.pairs, name);
    return pair ? mbedtls_ssl_set_hs_own_cert(ssl, &pair->chain, &pair->key) : 0;
}

/* -------------------------------------------------------------------------------------------------- client certificates */

static bool is_own_issuer(const mbedtls_x509_crt *certificate) {
    return certificate->issuer_raw.len == certificate->subject_raw.len &&
           memcmp(certificate->issuer_raw.p, certificate->subject_raw.p, certificate->subject_raw.len) == 0;
}

/* Called from the root of a chain down to the client's own certificate, which has depth 0. */
static int judge_certificate(void *context, mbedtls_x509_crt *certificate, int depth, uint32_t *flags) {
    const struct sv_tls_rules *rules = context;
    if (rules->verify_depth > 0 && depth > rules->verify_depth + 1)
        *flags |= MBEDTLS_X509_BADCERT_OTHER;
    if (rules->allows_self_signed && depth == 0 && !certificate->next && is_own_issuer(certificate))
        *flags &= ~(uint32_t)MBEDTLS_X509_BADCERT_NOT_TRUSTED;
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- configuration */

static void set_versions(mbedtls_ssl_config *config, const struct sv_tls_rules *rules) {
#if SV_MBEDTLS_3
    bool has_1_3 = SV_HAS_TLS_1_3 && !rules->is_datagram && rules->versions & SV_TLS_1_3;
    bool has_1_2 = rules->is_datagram || rules->versions & SV_TLS_1_2 || !has_1_3;
    mbedtls_ssl_conf_min_tls_version(config, has_1_2 ? MBEDTLS_SSL_VERSION_TLS1_2 : MBEDTLS_SSL_VERSION_TLS1_3);
    mbedtls_ssl_conf_max_tls_version(config, has_1_3 ? MBEDTLS_SSL_VERSION_TLS1_3 : MBEDTLS_SSL_VERSION_TLS1_2);
#else
    (void)rules;
    mbedtls_ssl_conf_min_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
    mbedtls_ssl_conf_max_version(config, MBEDTLS_SSL_MAJOR_VERSION_3, MBEDTLS_SSL_MINOR_VERSION_3);
#endif
}

static void set_algorithms(mbedtls_ssl_config *config, const struct sv_tls_port *port) {
    mbedtls_ssl_conf_ciphersuites(config, port->suites);
#if SV_MBEDTLS_3
    mbedtls_ssl_conf_groups(config, port->groups);
    mbedtls_ssl_conf_preference_order(config, port->rules->prefers_own_order ? MBEDTLS_SSL_SRV_CIPHERSUITE_ORDER_SERVER
                                                                             : MBEDTLS_SSL_SRV_CIPHERSUITE_ORDER_CLIENT);
#else
    mbedtls_ssl_conf_curves(config, port->groups);
#endif
#if defined(MBEDTLS_SSL_RENEGOTIATION)
    mbedtls_ssl_conf_renegotiation(config, MBEDTLS_SSL_RENEGOTIATION_DISABLED);
#endif
}

static void set_verification(struct sv_tls_generation *generation, const struct sv_tls_rules *rules) {
    mbedtls_ssl_config *config = &generation->config;
    mbedtls_ssl_conf_authmode(config, rules->verifies_peer          ? MBEDTLS_SSL_VERIFY_REQUIRED
                                      : rules->asks_for_certificate ? MBEDTLS_SSL_VERIFY_OPTIONAL
                                                                    : MBEDTLS_SSL_VERIFY_NONE);
    if (generation->credentials.has_authorities)
        mbedtls_ssl_conf_ca_chain(config, &generation->credentials.authorities, NULL);
    if (!generation->credentials.has_named_authorities)
        mbedtls_ssl_conf_cert_req_ca_list(config, MBEDTLS_SSL_CERT_REQ_CA_LIST_DISABLED);
    mbedtls_ssl_conf_verify(config, judge_certificate, (void *)rules);
}

static void set_tickets(mbedtls_ssl_config *config, struct sv_tls_port *port) {
#if SV_HAS_TICKETS
    if (port->rules->has_tickets)
        mbedtls_ssl_conf_session_tickets_cb(config, sv_tls_ticket_write, sv_tls_ticket_parse, port);
#if SV_HAS_TLS_1_3
    /* Its sessions forget the client's certificate when they are saved. */
    if (port->rules->asks_for_certificate || port->rules->verifies_peer)
        mbedtls_ssl_conf_new_session_tickets(config, 0);
#endif
#else
    (void)config, (void)port;
#endif
}

static void set_datagrams(mbedtls_ssl_config *config, struct sv_tls_port *port) {
#if SV_HAS_DTLS
    mbedtls_ssl_conf_dtls_cookies(config, sv_dtls_write_cookie, sv_dtls_check_cookie, port);
    mbedtls_ssl_conf_handshake_timeout(config, DTLS_FIRST_TIMEOUT_MS, DTLS_LAST_TIMEOUT_MS);
#else
    (void)config, (void)port;
#endif
}

static int configure(struct sv_tls_generation *generation, struct sv_tls_port *port) {
    const struct sv_tls_rules *rules = port->rules;
    mbedtls_ssl_config *config = &generation->config;
    struct sv_tls_pair *own = generation->credentials.pairs;

    int result = mbedtls_ssl_config_defaults(config, MBEDTLS_SSL_IS_SERVER,
                                             rules->is_datagram ? MBEDTLS_SSL_TRANSPORT_DATAGRAM : MBEDTLS_SSL_TRANSPORT_STREAM,
                                             MBEDTLS_SSL_PRESET_DEFAULT);
    if (result == 0)
        result = mbedtls_ssl_conf_own_cert(config, &own->chain, &own->key);
    if (result == 0 && rules->alpn)
        result = mbedtls_ssl_conf_alpn_protocols(config, (const char **)rules->alpn);
    if (result != 0)
        return result;
    mbedtls_ssl_conf_rng(config, mbedtls_ctr_drbg_random, &port->random.generator);
    mbedtls_ssl_conf_sni(config, choose_certificate, generation);
    set_versions(config, rules);
    set_algorithms(config, port);
    set_verification(generation, rules);
    set_tickets(config, port);
    if (rules->is_datagram)
        set_datagrams(config, port);
    return 0;
}

/* --------------------------------------------------------------------------------------------------------- generations */

void sv_tls_generation_release(struct sv_tls_generation *generation) {
    if (!generation || --generation->users > 0)
        return;
    mbedtls_ssl_config_free(&generation->config);
    sv_tls_credentials_free(&generation->credentials);
    free(generation);
}

static int new_generation(struct sv_tls_port *port, const struct sv_tls_bytes *bytes, struct sv_tls_generation **result,
                          struct srvlua_status *status) {
    struct sv_tls_generation *generation = calloc(1, sizeof *generation);
    if (!generation)
        return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "TLS: no memory");
    generation->users = 1; /* the port */
    generation->port = port;
    mbedtls_ssl_config_init(&generation->config);
    int code = sv_tls_credentials_parse(&generation->credentials, bytes, &port->random, status);
    if (code == 0 && (code = configure(generation, port)) != 0) {
        char text[160];
        sv_tls_describe_error(code, text, sizeof text);
        code = sv_fail(status, SRVLUA_ERROR_SYSTEM_CALL_FAIL, "TLS cannot be configured: %s", text);
    }
    if (code != 0) {
        sv_tls_generation_release(generation);
        return code;
    }
    *result = generation;
    return 0;
}

/* -------------------------------------------------------------------------------------------------------------- ports */

/* TLS 1.3's suites, then those of the rules. */
static int *make_suites(const struct sv_tls_rules *rules) {
    static const int suites_1_3[] = {0x1301, 0x1303, 0x1302};
    const size_t extra = SV_HAS_TLS_1_3 ? sizeof suites_1_3 / sizeof suites_1_3[0] : 0;
    const int *chosen = rules->ciphers ? rules->ciphers : sv_tls_default_suites;
    size_t count = 0;
    while (chosen[count])
        count++;
    int *suites = calloc(extra + count + 1, sizeof *suites);
    if (!suites)
        return NULL;
    for (size_t i = 0; i < extra; i++)
        suites[i] = suites_1_3[i];
    memcpy(suites + extra, chosen, count * sizeof *suites);
    return suites;
}

static bool make_groups(struct sv_tls_port *port) {
    const uint16_t *chosen = port->rules->groups ? port->rules->groups : sv_tls_default_groups;
    size_t count = 0, known = 0;
    while (chosen[count])
        count++;
    port->groups = calloc(count + 1, sizeof *port->groups); /* 0 ends both kinds of list */
    if (!port->groups)
        return false;
    for (size_t i = 0; i < count; i++) {
        const mbedtls_ecp_curve_info *info = mbedtls_ecp_curve_info_from_tls_id(chosen[i]);
        if (info)
#if SV_MBEDTLS_3
            port->groups[known++] = chosen[i];
#else
            port->groups[known++] = info->grp_id;
#endif
    }
    return true;
}

/* TLS 1.3 computes in PSA; telling it a second time does nothing. */
static bool start_library(void) {
#if SV_MBEDTLS_3 && defined(MBEDTLS_PSA_CRYPTO_C)
    return psa_crypto_init() == PSA_SUCCESS;
#else
    return true;
#endif
}

struct sv_tls_port *sv_tls_port_new(const struct sv_tls_rules *rules, const struct sv_tls_bytes *bytes, struct sv_tls_shared *shared,
                                    struct sv_tls_scratch *scratch, struct srvlua_status *status) {
    struct sv_tls_port *port = calloc(1, sizeof *port);
    if (!port) {
        sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "TLS: no memory");
        return NULL;
    }
    port->rules = rules;
    port->shared = shared;
    port->scratch = scratch;
    if (sv_tls_random_init(&port->random) != 0 || !start_library()) {
        sv_fail(status, EIO, "TLS: no random numbers");
        goto failed;
    }
    port->suites = make_suites(rules);
    if (!port->suites || !make_groups(port)) {
        sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "TLS: no memory");
        goto failed;
    }
    if (new_generation(port, bytes, &port->generation, status) == 0)
        return port;
failed:
    sv_tls_port_free(port);
    return NULL;
}

int sv_tls_port_replace(struct sv_tls_port *port, const struct sv_tls_bytes *bytes, struct srvlua_status *status) {
    struct sv_tls_generation *generation;
    int code = new_generation(port, bytes, &generation, status);
    if (code != 0)
        return code;
    sv_tls_generation_release(port->generation);
    port->generation = generation;
    return 0;
}

void sv_tls_port_free(struct sv_tls_port *port) {
    if (!port)
        return;
    sv_tls_generation_release(port->generation);
    sv_tls_random_free(&port->random);
    free(port->suites);
    free(port->groups);
    free(port);
}
