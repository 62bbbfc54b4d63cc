/* What settings may say about TLS: names of suites and curves. */
#include <stdlib.h>
#include <string.h>

#include "net/tls.h"
#include "unit.h"

static char wrong[64];

static bool ciphers_are(const char *text, const int *expected) {
    int *ciphers;
    if (sv_tls_parse_ciphers(text, &ciphers, wrong, sizeof wrong) != 0)
        return false;
    bool is_so = ciphers != NULL;
    for (size_t i = 0; is_so; i++) {
        is_so = ciphers[i] == expected[i];
        if (!expected[i])
            break;
    }
    free(ciphers);
    return is_so;
}

static bool ciphers_are_wrong(const char *text, const char *name) {
    int *ciphers;
    wrong[0] = 0;
    bool is_so = sv_tls_parse_ciphers(text, &ciphers, wrong, sizeof wrong) == -1 && !ciphers && strcmp(wrong, name) == 0;
    if (!is_so)
        fprintf(stderr, "%s: %s\n", text, wrong);
    return is_so;
}

TEST(three_spellings_of_suites) {
    CHECK(ciphers_are("ECDHE-RSA-AES128-GCM-SHA256", (int[]){0xc02f, 0}));
    CHECK(ciphers_are("TLS_ECDHE_RSA_WITH_AES_128_GCM_SHA256", (int[]){0xc02f, 0}));
    CHECK(ciphers_are("TLS-ECDHE-RSA-WITH-AES-128-GCM-SHA256", (int[]){0xc02f, 0}));
    CHECK(ciphers_are("ecdhe-ecdsa-chacha20-poly1305:AES256-SHA:AES256-SHA", (int[]){0xcca9, 0x35, 0}));
    CHECK(ciphers_are("TLS_AES_128_GCM_SHA256:TLS1-3-AES-256-GCM-SHA384:ECDHE-ECDSA-AES256-GCM-SHA384", (int[]){0xc02c, 0}));
}

TEST(defaults_of_suites) {
    static const char *const texts[] = {NULL, "", "EECDH+AESGCM:EDH+AESGCM:AES256+EECDH:AES256+EDH"};
    for (int i = 0; i < 3; i++) {
        int *ciphers = (int *)1;
        CHECK(sv_tls_parse_ciphers(texts[i], &ciphers, wrong, sizeof wrong) == 0 && ciphers == NULL);
    }
}

TEST(wrong_suites) {
    CHECK(ciphers_are_wrong("HIGH", "HIGH"));
    CHECK(ciphers_are_wrong("ECDHE-RSA-AES128-GCM-SHA256:!aNULL", "!aNULL"));
    CHECK(ciphers_are_wrong("EECDH+AESGCM", "EECDH+AESGCM"));
    CHECK(ciphers_are_wrong("DHE-RSA-AES128-GCM-SHA256", "DHE-RSA-AES128-GCM-SHA256")); /* no finite fields */
    CHECK(ciphers_are_wrong("NULL-SHA256", "NULL-SHA256"));
    CHECK(ciphers_are_wrong("PSK-AES128-GCM-SHA256", "PSK-AES128-GCM-SHA256"));
    CHECK(ciphers_are_wrong("ECDHE-RSA-AES128-GCM-SHA256:", ""));
    CHECK(ciphers_are_wrong("TLS_AES_128_GCM_SHA256", "TLS_AES_128_GCM_SHA256")); /* leaves nothing for 1.2 */
}

TEST(curves) {
    uint16_t *groups;
    CHECK(sv_tls_parse_groups("auto", &groups, wrong, sizeof wrong) == 0 && !groups);
    CHECK(sv_tls_parse_groups("", &groups, wrong, sizeof wrong) == 0 && !groups);
    CHECK(sv_tls_parse_groups(NULL, &groups, wrong, sizeof wrong) == 0 && !groups);
    CHECK(sv_tls_parse_groups("X25519:P-256:prime256v1:secp384r1", &groups, wrong, sizeof wrong) == 0);
    CHECK(groups[0] == 29 && groups[1] == 23 && groups[2] == 24 && groups[3] == 0);
    free(groups);
    CHECK(sv_tls_parse_groups("X25519:P-257", &groups, wrong, sizeof wrong) == -1 && strcmp(wrong, "P-257") == 0);
    CHECK(sv_tls_parse_groups("P-256:", &groups, wrong, sizeof wrong) == -1 && wrong[0] == 0);
}
