/* tls_sessions.h: what this process knows of the TLS connections whose connect event came to it, until their close event is over
 * (protocols.md 2.9). A hash table by session id. runs in: workers. */
#ifndef SV_SERVER_TLS_SESSIONS_H
#define SV_SERVER_TLS_SESSIONS_H

#include <stddef.h>
#include <stdint.h>

#include "net/tls.h"

struct sv_tls_session {
    struct sv_tls_session *next;
    uint64_t id;
    struct sv_tls_info info;
    char pem[]; /* the client's certificate; "": none */
};

struct sv_tls_sessions {
    struct sv_tls_session **buckets;
    size_t count, mask; /* mask + 1 buckets, if there are any */
};

/* Payload of a CONNECT record. Without memory, or if it is damaged, nothing is known of the connection. */
void sv_tls_sessions_add(struct sv_tls_sessions *sessions, uint64_t id, const void *payload, size_t length);
const struct sv_tls_session *sv_tls_sessions_find(const struct sv_tls_sessions *sessions, uint64_t id);
void sv_tls_sessions_remove(struct sv_tls_sessions *sessions, uint64_t id);
void sv_tls_sessions_free(struct sv_tls_sessions *sessions);

#endif
