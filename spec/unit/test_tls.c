/* TLS connections between an mbedTLS client and ours, over socket pairs: handshakes, bytes, ends. */
#include "tls_client.h"

static const struct client_wish nothing = {0};

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
