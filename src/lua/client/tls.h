/* tls.h: TLS on a connected descriptor, as client: handshake, reading, writing; sessions to resume. Knows no Lua.
 *
 * What would block is -EAGAIN and says in *wants (enum srvlua_readiness) for what to wait; -SV_CLIENT_TLS has its text in
 * sv_client_tls_message(). mbedTLS 2.28 or 3.x; TLS 1.2 at least.
 *
 * runs in: every process. One thread. */
#ifndef SV_LUA_CLIENT_TLS_H
#define SV_LUA_CLIENT_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <sys/types.h>

struct sv_client;
struct sv_client_tls;
struct sv_client_tls_library;
struct sv_client_tls_session;

struct sv_client_tls_options {
    const char *name;    /* for SNI, and checked with `verify`; an IP address is only checked; NULL: none */
    bool verify;         /* the certificate, by the CA certificates of ca_file */
    const char *ca_file; /* NULL: the system's */
    const struct sv_client_tls_session *session; /* to resume, or NULL */
};

/* Readies TLS for a handshake on `fd`. NULL: see the message (at most `size` bytes). */
struct sv_client_tls *sv_client_tls_new(struct sv_client *client, int fd, const struct sv_client_tls_options *options,
                                        char *message, size_t size);
int sv_client_tls_handshake(struct sv_client_tls *tls, int *wants);
ssize_t sv_client_tls_read(struct sv_client_tls *tls, void *data, size_t size, int *wants); /* 0: the end */
ssize_t sv_client_tls_write(struct sv_client_tls *tls, const void *data, size_t length, int *wants);
/* Text of the last -SV_CLIENT_TLS. */
const char *sv_client_tls_message(const struct sv_client_tls *tls);
/* Whether something that was read waits to be taken. */
bool sv_client_tls_has_input(const struct sv_client_tls *tls);
/* Tells the peer that this is the end, if it can be told without waiting. */
void sv_client_tls_say_end(struct sv_client_tls *tls);
void sv_client_tls_free(struct sv_client_tls *tls);

/* The session of a connection, for later handshakes, or NULL where there is none. The caller's. */
struct sv_client_tls_session *sv_client_tls_get_session(struct sv_client_tls *tls);
void sv_client_tls_session_free(struct sv_client_tls_session *session);

void sv_client_tls_library_free(struct sv_client_tls_library *library);

#endif
