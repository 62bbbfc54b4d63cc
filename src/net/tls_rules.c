/* tls_rules.c: what settings may say about TLS: names of suites and curves; what the library can do. Constant tables, no state. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>

#include <mbedtls/ecp.h>
#include <mbedtls/ssl_ciphersuites.h>

#include "net/tls_internal.h"

/* What Swoole has where nothing is set; stands for our default. */
#define SWOOLE_SUITES "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH"

struct suite {
    int number;
    const char *iana, *openssl;
};

/* All that can be asked for. What is not here (finite-field DHE, static ECDH, PSK, NULL, RC4, 3DES, anonymous) is never offered. */
static const struct suite suites[] = {
    {0xc02b, "TLS_ECDHE_ECDSA_WITH_AES_128_GCM_SHA256", "ECDHE-ECDSA-AES128-GCM-SHA256"},
    {0xc02f, "TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", "ECDHE-RSA-AES128-GCM-SHA256"},
    {0xcca9, "TLS_ECDHE_ECDSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-ECDSA-CHACHA20-POLY1305"},
    {0xcca8, "TLS_ECDHE_RSA_WITH_CHACHA20_POLY1305_SHA256", "ECDHE-RSA-CHACHA20-POLY1305"},
    {0xc02c, "TLS_ECDHE_ECDSA_WITH_AES_256_GCM_SHA384", "ECDHE-ECDSA-AES256-GCM-SHA384"},
    {0xc030, "TLS_ECDHE_RSA_WITH_AES_256_GCM_SHA384", "ECDHE-RSA-AES256-GCM-SHA384"},
    {0xc0ac, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM", "ECDHE-ECDSA-AES128-CCM"},
    {0xc0ad, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM", "ECDHE-ECDSA-AES256-CCM"},
    {0xc0ae, "TLS_ECDHE_ECDSA_WITH_AES_128_CCM_8", "ECDHE-ECDSA-AES128-CCM8"},
    {0xc0af, "TLS_ECDHE_ECDSA_WITH_AES_256_CCM_8", "ECDHE-ECDSA-AES256-CCM8"},
    {0xc05c, "TLS_ECDHE_ECDSA_WITH_ARIA_128_GCM_SHA256", "ECDHE-ECDSA-ARIA128-GCM-SHA256"},
    {0xc05d, "TLS_ECDHE_ECDSA_WITH_ARIA_256_GCM_SHA384", "ECDHE-ECDSA-ARIA256-GCM-SHA384"},
    {0xc060, "TLS_ECDHE_RSA_WITH_ARIA_128_GCM_SHA256", "ECDHE-ARIA128-GCM-SHA256"},
    {0xc061, "TLS_ECDHE_RSA_WITH_ARIA_256_GCM_SHA384", "ECDHE-ARIA256-GCM-SHA384"},
    {0xc023, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA256", "ECDHE-ECDSA-AES128-SHA256"},
    {0xc027, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA256", "ECDHE-RSA-AES128-SHA256"},
    {0xc024, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA384", "ECDHE-ECDSA-AES256-SHA384"},
    {0xc028, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA384", "ECDHE-RSA-AES256-SHA384"},
    {0xc009, "TLS_ECDHE_ECDSA_WITH_AES_128_CBC_SHA", "ECDHE-ECDSA-AES128-SHA"},
    {0xc013, "TLS_ECDHE_RSA_WITH_AES_128_CBC_SHA", "ECDHE-RSA-AES128-SHA"},
    {0xc00a, "TLS_ECDHE_ECDSA_WITH_AES_256_CBC_SHA", "ECDHE-ECDSA-AES256-SHA"},
    {0xc014, "TLS_ECDHE_RSA_WITH_AES_256_CBC_SHA", "ECDHE-RSA-AES256-SHA"},
    {0xc072, "TLS_ECDHE_ECDSA_WITH_CAMELLIA_128_CBC_SHA256", "ECDHE-ECDSA-CAMELLIA128-SHA256"},
    {0xc076, "TLS_ECDHE_RSA_WITH_CAMELLIA_128_CBC_SHA256", "ECDHE-RSA-CAMELLIA128-SHA256"},
    {0xc073, "TLS_ECDHE_ECDSA_WITH_CAMELLIA_256_CBC_SHA384", "ECDHE-ECDSA-CAMELLIA256-SHA384"},
    {0xc077, "TLS_ECDHE_RSA_WITH_CAMELLIA_256_CBC_SHA384", "ECDHE-RSA-CAMELLIA256-SHA384"},
    {0x009c, "TLS_RSA_WITH_AES_128_GCM_SHA256", "AES128-GCM-SHA256"},
    {0x009d, "TLS_RSA_WITH_AES_256_GCM_SHA384", "AES256-GCM-SHA384"},
    {0x003c, "TLS_RSA_WITH_AES_128_CBC_SHA256", "AES128-SHA256"},
    {0x003d, "TLS_RSA_WITH_AES_256_CBC_SHA256", "AES256-SHA256"},
    {0x002f, "TLS_RSA_WITH_AES_128_CBC_SHA", "AES128-SHA"},
    {0x0035, "TLS_RSA_WITH_AES_256_CBC_SHA", "AES256-SHA"},
};

/* Of TLS 1.3: on wherever the library has it, so naming them is right and changes nothing. */
static const char *const suites_1_3[] = {"TLS_AES_128_GCM_SHA256", "TLS_AES_256_GCM_SHA384", "TLS_CHACHA20_POLY1305_SHA256"};

/* ECDHE and AEAD only. Those of TLS 1.3 stand before them (RFC 8446 B.4). */
const int sv_tls_default_suites[] = {0xc02b, 0xc02f, 0xcca9, 0xcca8, 0xc02c, 0xc030, 0};

struct group {
    uint16_t number; /* IANA's */
    const char *names[3];
};

static const struct group groups[] = {
    {29, {"X25519"}},
    {23, {"P-256", "prime256v1", "secp256r1"}},
    {24, {"P-384", "secp384r1"}},
    {25, {"P-521", "secp521r1"}},
    {30, {"X448"}},
    {26, {"brainpoolP256r1"}},
    {27, {"brainpoolP384r1"}},
    {28, {"brainpoolP512r1"}},
    {22, {"secp256k1"}},
};

/* Fast ones first. The library's own list begins with P-521, which takes several times as long. */
const uint16_t sv_tls_default_groups[] = {29, 23, 24, 25, 0};

uint32_t sv_tls_library_versions(void) { return SV_TLS_1_2 | (SV_HAS_TLS_1_3 ? SV_TLS_1_3 : 0); }

bool sv_tls_library_has_datagrams(void) { return SV_HAS_DTLS; }

bool sv_tls_library_follows_client(void) { return SV_MBEDTLS_3; }

/* mbedTLS writes IANA's names with '-' for '_'. */
static bool is_same_name(const char *known, const char *name, size_t length) {
    if (strlen(known) != length)
        return false;
    for (size_t i = 0; i < length; i++) {
        char one = known[i] == '_' ? '-' : known[i], other = name[i] == '_' ? '-' : name[i];
        if (strncasecmp(&one, &other, 1) != 0)
            return false;
    }
    return true;
}

static bool is_suite_of_1_3(const char *name, size_t length) {
    const size_t prefix = sizeof "TLS1-3-" - 1; /* mbedTLS */
    for (size_t i = 0; i < sizeof suites_1_3 / sizeof suites_1_3[0]; i++) {
        if (is_same_name(suites_1_3[i], name, length))
            return true;
        if (length > prefix && strncasecmp(name, "TLS1-3-", prefix) == 0 &&
            is_same_name(suites_1_3[i] + 4, name + prefix, length - prefix))
            return true;
    }
    return false;
}

static int find_suite(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof suites / sizeof suites[0]; i++)
        if (is_same_name(suites[i].iana, name, length) || is_same_name(suites[i].openssl, name, length))
            return mbedtls_ssl_ciphersuite_from_id(suites[i].number) ? suites[i].number : 0;
    return 0;
}

static int find_group(const char *name, size_t length) {
    for (size_t i = 0; i < sizeof groups / sizeof groups[0]; i++)
        for (int k = 0; k < 3 && groups[i].names[k]; k++)
            if (strlen(groups[i].names[k]) == length && strncasecmp(groups[i].names[k], name, length) == 0)
                return mbedtls_ecp_curve_info_from_tls_id(groups[i].number) ? groups[i].number : 0;
    return 0;
}

static int complain(const char *name, size_t length, char *wrong, size_t size) {
    snprintf(wrong, size, "%.*s", (int)(length < 200 ? length : 200), name);
    return -1;
}

static size_t count_names(const char *text) {
    size_t count = 1;
    for (; *text; text++)
        count += *text == ':';
    return count;
}

int sv_tls_parse_ciphers(const char *text, int **ciphers, char *wrong, size_t size) {
    *ciphers = NULL;
    if (!text || !*text || strcmp(text, SWOOLE_SUITES) == 0)
        return 0;
    int *list = calloc(count_names(text) + 1, sizeof *list);
    if (!list)
        return complain("no memory", 9, wrong, size);
    size_t count = 0;
    for (const char *name = text;;) {
        size_t length = strcspn(name, ":");
        int number = find_suite(name, length);
        if (number == 0 && !is_suite_of_1_3(name, length)) {
            free(list);
            return complain(name, length, wrong, size);
        }
        bool is_there = number == 0;
        for (size_t i = 0; i < count; i++)
            is_there |= list[i] == number;
        if (!is_there)
            list[count++] = number;
        if (!name[length])
            break;
        name += length + 1;
    }
    if (count == 0) { /* only such as are on anyway: nothing would be left for TLS 1.2 */
        free(list);
        return complain(text, strlen(text), wrong, size);
    }
    *ciphers = list;
    return 0;
}

int sv_tls_parse_groups(const char *text, uint16_t **result, char *wrong, size_t size) {
    *result = NULL;
    if (!text || !*text || strcasecmp(text, "auto") == 0)
        return 0;
    uint16_t *list = calloc(count_names(text) + 1, sizeof *list);
    if (!list)
        return complain("no memory", 9, wrong, size);
    size_t count = 0;
    for (const char *name = text;;) {
        size_t length = strcspn(name, ":");
        int number = find_group(name, length);
        if (number == 0) {
            free(list);
            return complain(name, length, wrong, size);
        }
        bool is_there = false;
        for (size_t i = 0; i < count; i++)
            is_there |= list[i] == number;
        if (!is_there)
            list[count++] = (uint16_t)number;
        if (!name[length])
            break;
        name += length + 1;
    }
    *result = list;
    return 0;
}

void sv_tls_rules_free(struct sv_tls_rules *rules) {
    free(rules->ciphers);
    free(rules->groups);
    for (char **name = rules->alpn; name && *name; name++)
        free(*name);
    free(rules->alpn);
    *rules = (struct sv_tls_rules){0};
}
