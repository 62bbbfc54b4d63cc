/* tls_sessions.c: see tls_sessions.h. */
#include "server/tls_sessions.h"

#include <stdlib.h>
#include <string.h>

#define LEAST_BUCKETS 64

/* Where the pointer to an id's entry is, or would be. Ids count up: their low bits spread them evenly. */
static struct sv_tls_session **place_of(const struct sv_tls_sessions *sessions, uint64_t id) {
    struct sv_tls_session **place = &sessions->buckets[id & sessions->mask];
    while (*place && (*place)->id != id) place = &(*place)->next;
    return place;
}

/* Twice the buckets, or the first. Without memory the lists get longer. */
static void grow(struct sv_tls_sessions *sessions) {
    size_t size = sessions->buckets ? (sessions->mask + 1) * 2 : LEAST_BUCKETS;
    struct sv_tls_sessions grown = {.buckets = calloc(size, sizeof *grown.buckets), .count = sessions->count, .mask = size - 1};
    if (!grown.buckets) return;
    for (size_t i = 0; sessions->buckets && i <= sessions->mask; i++) {
        while (sessions->buckets[i]) {
            struct sv_tls_session *session = sessions->buckets[i];
            sessions->buckets[i] = session->next;
            session->next = grown.buckets[session->id & grown.mask];
            grown.buckets[session->id & grown.mask] = session;
        }
    }
    free(sessions->buckets);
    *sessions = grown;
}

void sv_tls_sessions_add(struct sv_tls_sessions *sessions, uint64_t id, const void *payload, size_t length) {
    struct sv_tls_info info;
    if (length < sizeof info) return;
    memcpy(&info, payload, sizeof info);
    if (info.certificate_length != length - sizeof info) return;
    if (!sessions->buckets || sessions->count > sessions->mask) grow(sessions);
    if (!sessions->buckets) return;
    sv_tls_sessions_remove(sessions, id);
    struct sv_tls_session *session = malloc(sizeof *session + info.certificate_length + 1);
    if (!session) return;
    *session = (struct sv_tls_session){.id = id, .info = info};
    session->info.protocol[sizeof info.protocol - 1] = session->info.cipher[sizeof info.cipher - 1] = '\0';
    session->info.server_name[sizeof info.server_name - 1] = session->info.alpn[sizeof info.alpn - 1] = '\0';
    memcpy(session->pem, (const char *)payload + sizeof info, info.certificate_length);
    session->pem[info.certificate_length] = '\0';
    *place_of(sessions, id) = session;
    sessions->count++;
}

const struct sv_tls_session *sv_tls_sessions_find(const struct sv_tls_sessions *sessions, uint64_t id) {
    return sessions->count ? *place_of(sessions, id) : NULL;
}

void sv_tls_sessions_remove(struct sv_tls_sessions *sessions, uint64_t id) {
    if (!sessions->count) return;
    struct sv_tls_session **place = place_of(sessions, id), *session = *place;
    if (!session) return;
    *place = session->next;
    free(session);
    sessions->count--;
}

void sv_tls_sessions_free(struct sv_tls_sessions *sessions) {
    for (size_t i = 0; sessions->buckets && i <= sessions->mask; i++) {
        while (sessions->buckets[i]) {
            struct sv_tls_session *session = sessions->buckets[i];
            sessions->buckets[i] = session->next;
            free(session);
        }
    }
    free(sessions->buckets);
    *sessions = (struct sv_tls_sessions){0};
}
