/* certificates.h: TLS of the ports: from settings to what reactors need, and other certificates while the server runs.
 *
 *   set ─► files are read and judged, their bytes kept with the port's settings
 *   start ─► what every port with TLS has: rules, keys of tickets, bytes (struct sv_port_rules points to them)
 *   reloadCertificates, SIGHUP ─► files are read again in that process; the bytes go where they are needed (process/renewal.h)
 *
 * runs in: the process that builds the server; reloading: any process. */
#ifndef SV_SERVER_CERTIFICATES_H
#define SV_SERVER_CERTIFICATES_H

#include "net/tls.h"
#include "server/settings.h"

struct srvlua_port;

/* Reads and judges the files that the settings name; `bytes` is empty before, and after a failure. 0 or -code, as of
 * sv_tls_files_read(). */
int sv_certificates_read(const struct sv_port_settings *settings, struct sv_tls_bytes *bytes, struct srvlua_status *status);
/* Fills empty bytes with a copy. 0 or -501. */
int sv_certificates_copy(struct sv_tls_bytes *to, const void *data, size_t length);
/* ssl_ciphers, ssl_ecdh_curve: as sv_tls_parse_*(). */
int sv_certificates_parse_ciphers(const struct sv_string_list *names, int **ciphers, char *wrong, size_t size);
int sv_certificates_parse_curves(const char *text, uint16_t **groups, char *wrong, size_t size);

/* start(), once the effective settings are there: has every port with TLS what it needs? 0 or -code. */
int sv_certificates_check(srvlua_server *server, struct srvlua_status *status);
/* start(), before the first fork: makes what the reactors' rules point to. 0 or -code with nothing made. */
int sv_certificates_open(srvlua_server *server, struct srvlua_status *status);
void sv_certificates_close(srvlua_server *server);

/* SIGHUP in the process that was started: reads all files again and logs what came of it. False: there is no port with TLS. */
bool sv_certificates_renew(void *context);

#endif
