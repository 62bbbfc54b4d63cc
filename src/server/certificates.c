/* certificates.c: see certificates.h. */
#include "server/certificates.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "base/errors.h"
#include "server/server.h"

static int out_of_memory(struct srvlua_status *status) {
    return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
}

/* ---------------------------------------------------------------------------------------------------------- files */

int sv_certificates_read(const struct sv_port_settings *settings, struct sv_tls_bytes *bytes, struct srvlua_status *status) {
    const struct sv_certificate_map *map = &settings->ssl_sni_certs;
    struct sv_tls_sni_paths *sni = calloc(map->count + 1, sizeof *sni);
    if (!sni) return out_of_memory(status);
    for (size_t i = 0; i < map->count; i++)
        sni[i] = (struct sv_tls_sni_paths){.name = map->items[i].name,
                                           .cert_file = map->items[i].cert_file,
                                           .key_file = map->items[i].key_file,
                                           .passphrase = map->items[i].passphrase};
    struct sv_tls_paths paths = {.cert_file = settings->ssl_cert_file,
                                 .key_file = settings->ssl_key_file,
                                 .passphrase = settings->ssl_passphrase,
                                 .client_cert_file = settings->ssl_client_cert_file,
                                 .ca_file = settings->ssl_cafile,
                                 .ca_path = settings->ssl_capath,
                                 .sni = sni,
                                 .sni_count = map->count};
    int result = sv_tls_files_read(&paths, bytes, status);
    free(sni);
    return result;
}

int sv_certificates_copy(struct sv_tls_bytes *to, const void *data, size_t length) {
    *to = (struct sv_tls_bytes){0};
    if (!data) return 0;
    to->data = malloc(length + 1);
    if (!to->data) return -SRVLUA_ERROR_MALLOC_FAIL;
    memcpy(to->data, data, length);
    to->length = length;
    return 0;
}

/* ----------------------------------------------------------------------------------------------------------- rules */

int sv_certificates_parse_ciphers(const struct sv_string_list *names, int **ciphers, char *wrong, size_t size) {
    size_t length = 1;
    for (size_t i = 0; i < names->count; i++) length += strlen(names->items[i]) + 1;
    char *text = malloc(length), *end = text;
    if (!text) return -1;
    for (size_t i = 0; i < names->count; i++) {
        if (i) *end++ = ':';
        end = stpcpy(end, names->items[i]);
    }
    *end = '\0';
    int result = sv_tls_parse_ciphers(text, ciphers, wrong, size);
    free(text);
    return result;
}

int sv_certificates_parse_curves(const char *text, uint16_t **groups, char *wrong, size_t size) {
    return sv_tls_parse_groups(text && strcmp(text, "auto") == 0 ? NULL : text, groups, wrong, size);
}

static char **copy_names(const struct sv_string_list *names) {
    char **copies = calloc(names->count + 1, sizeof *copies);
    for (size_t i = 0; copies && i < names->count; i++) {
        copies[i] = strdup(names->items[i]);
        if (copies[i]) continue;
        while (i) free(copies[--i]);
        free(copies);
        return NULL;
    }
    return copies;
}

/* What the settings demand; the names in them were checked when they were set. */
static int make_rules(const struct srvlua_port *port, struct sv_tls_rules *rules) {
    const struct sv_port_settings *settings = &port->effective;
    uint32_t wanted = (uint32_t)settings->ssl_protocols & (SV_TLS_1_2 | SV_TLS_1_3);
    char wrong[64];
    *rules = (struct sv_tls_rules){
        .is_datagram = sv_type_is_dgram(port->type),
        .versions = sv_tls_library_versions() & (wanted ? wanted : SV_TLS_1_2 | SV_TLS_1_3),
        .prefers_own_order = settings->ssl_prefer_server_ciphers,
        .asks_for_certificate = settings->ssl_client_cert_file || settings->ssl_verify_peer,
        .verifies_peer = settings->ssl_verify_peer,
        .allows_self_signed = settings->ssl_allow_self_signed,
        .verify_depth = (int)settings->ssl_verify_depth,
        .has_tickets = settings->ssl_session_tickets,
        .ticket_life_ns = (int64_t)(settings->ssl_session_timeout * 1e9),
        .wants_kernel = settings->ssl_ktls,
    };
    if (sv_certificates_parse_ciphers(&settings->ssl_ciphers, &rules->ciphers, wrong, sizeof wrong) == 0 &&
        sv_certificates_parse_curves(settings->ssl_ecdh_curve, &rules->groups, wrong, sizeof wrong) == 0 &&
        (!settings->ssl_alpn.count || (rules->alpn = copy_names(&settings->ssl_alpn))))
        return 0;
    sv_tls_rules_free(rules);
    return -SRVLUA_ERROR_MALLOC_FAIL;
}

/* ----------------------------------------------------------------------------------------------------------- start */

static int check_port(struct srvlua_port *port, struct srvlua_status *status) {
    struct sv_port_settings *settings = &port->effective;
    struct sv_port_name name = sv_port_name(port);
    if (!settings->ssl_cert_file || !settings->ssl_key_file)
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "%s speaks TLS: it needs ssl_cert_file and ssl_key_file", name.text);
    if (settings->ssl_verify_peer && !settings->ssl_client_cert_file && !settings->ssl_cafile && !settings->ssl_capath)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS,
                       "ssl_verify_peer of %s needs ssl_client_cert_file, ssl_cafile or ssl_capath", name.text);
    if (sv_type_is_dgram(port->type) && !sv_tls_library_has_datagrams())
        return sv_fail(status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "%s: the library has no DTLS", name.text);
    /* those of a primary port without TLS were not judged */
    return settings->certificates.data ? 0 : sv_certificates_read(settings, &settings->certificates, status);
}

int sv_certificates_check(srvlua_server *server, struct srvlua_status *status) {
    int result = 0;
    for (size_t i = 0; result == 0 && i < server->port_count; i++)
        if (server->ports[i]->has_ssl) result = check_port(server->ports[i], status);
    return result;
}

static size_t count_ports(const srvlua_server *server) {
    size_t count = 0;
    for (size_t i = 0; i < server->port_count; i++) count += server->ports[i]->has_ssl;
    return count;
}

static int open_port(struct srvlua_port *port, struct sv_tls_shared *shared, struct sv_tls_bytes *bytes, struct srvlua_status *status) {
    if (make_rules(port, &port->tls) || sv_certificates_copy(bytes, port->effective.certificates.data, port->effective.certificates.length))
        return out_of_memory(status);
    port->tls_shared = shared;
    int result = sv_tls_shared_init(shared, port->tls.ticket_life_ns);
    return result ? sv_fail(status, -result, "no random numbers for TLS: %s", strerror(-result)) : 0;
}

int sv_certificates_open(srvlua_server *server, struct srvlua_status *status) {
    size_t count = count_ports(server), each = sv_cache_lines(sv_tls_shared_bytes());
    if (!count) return 0;
    server->certificates = calloc(server->port_count, sizeof *server->certificates);
    void *shared = mmap(NULL, count * each, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared != MAP_FAILED) {
        server->tls_shared = shared;
        server->tls_shared_bytes = count * each;
    }
    int result = server->certificates && server->tls_shared ? 0 : out_of_memory(status);
    size_t used = 0;
    for (size_t i = 0; result == 0 && i < server->port_count; i++)
        if (server->ports[i]->has_ssl)
            result = open_port(server->ports[i], (void *)(server->tls_shared + each * used++), &server->certificates[i], status);
    if (result) sv_certificates_close(server);
    return result;
}

void sv_certificates_close(srvlua_server *server) {
    for (size_t i = 0; i < server->port_count; i++) {
        sv_tls_rules_free(&server->ports[i]->tls);
        server->ports[i]->tls = (struct sv_tls_rules){0};
        server->ports[i]->tls_shared = NULL;
        if (server->certificates) sv_tls_bytes_free(&server->certificates[i]);
    }
    free(server->certificates);
    server->certificates = NULL;
    if (server->tls_shared) munmap(server->tls_shared, server->tls_shared_bytes);
    server->tls_shared = NULL;
}

/* ------------------------------------------------------------------------------------------------- while it runs */

/* Reads the files of one port, or of all with TLS, into `renewals`; *count of them. 0 or -code. */
static int read_again(srvlua_server *server, const srvlua_port *only, struct sv_renewal *renewals, size_t *count, struct srvlua_status *status) {
    int result = 0;
    for (size_t i = 0; result == 0 && i < server->port_count; i++) {
        const srvlua_port *port = server->ports[i];
        if (!port->has_ssl || (only && port != only)) continue;
        renewals[*count] = (struct sv_renewal){.port = port->index};
        result = sv_certificates_read(&port->effective, &renewals[*count].bytes, status);
        if (result == 0) ++*count;
    }
    return result;
}

int srvlua_reload_certificates(srvlua_server *server, const srvlua_port *port, struct srvlua_status *status) {
    struct srvlua_status own;
    if (!status) status = &own;
    int result = sv_check_call(server, SV_CALL_CONTROL, status);
    if (result) return result;
    size_t possible = count_ports(server), count = 0;
    if (!possible) return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "the server has no port with TLS");
    if (port && !port->has_ssl)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "%s does not speak TLS", sv_port_name(port).text);
    struct sv_renewal *renewals = calloc(possible, sizeof *renewals);
    if (!renewals) return sv_server_note(server, out_of_memory(status));
    result = read_again(server, port, renewals, &count, status);
    if (result == 0)
        result = sv_renew(&server->rt, renewals, count, status);
    else
        while (count) sv_tls_bytes_free(&renewals[--count].bytes);
    free(renewals);
    return sv_server_note(server, result);
}

bool sv_certificates_renew(void *context) {
    srvlua_server *server = context;
    struct srvlua_status status;
    if (!count_ports(server)) return false;
    int result = srvlua_reload_certificates(server, NULL, &status);
    if (result)
        sv_log_about(&server->log, SRVLUA_LOG_ERROR, 0, -result, "the certificates were not reloaded: %s", status.message);
    else
        sv_log_write(&server->log, SRVLUA_LOG_INFO, "the certificates were reloaded");
    return true;
}
