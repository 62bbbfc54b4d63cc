/* renewal.h: other certificates for the ports of a running server: from the process that has read them to every reactor.
 *
 *   any process ── RENEW ──► master (BASE: manager) ── CERTIFICATES ──► each reactor thread (BASE: each worker)
 *
 * Who passes them on checks them again and keeps them for processes that are forked later. It never waits for a reactor: what finds
 * no room stays in an outbox until newer ones for that port take its place; so each reactor gets them in order. Clients and orders,
 * which go by the same rings, find room beside them. A BASE worker that was forked with newer ones than a record in its
 * inbox brings knows that by their numbers. */
#ifndef SV_PROCESS_RENEWAL_H
#define SV_PROCESS_RENEWAL_H

#include "ipc/outbox.h"
#include "net/tls.h"

struct sv_runtime;

struct sv_renewals { /* of the calling process */
    /* Hands a CERTIFICATES record to all reactors; NULL: that is another process's business. */
    void (*pass_on)(void *context, const struct sv_message *message);
    void *context;
    uint64_t last; /* number of the newest renewal that this process has, or was forked with */
    struct sv_outbox outbox;
};

struct sv_renewal {
    uint16_t port; /* index of one with TLS */
    struct sv_tls_bytes bytes;
};

/* Gives these certificates to all reactors of the server, and takes them over in any case. All or none: 0 when they are on their
 * way, or -code. runs in: any process; in those that do not pass them on it waits for room, 5 s at most. */
int sv_renew(struct sv_runtime *rt, struct sv_renewal *renewals, size_t count, struct srvlua_status *status);

/* The rest is for master, manager and single process. */
void sv_renewals_begin(struct sv_runtime *rt, void (*pass_on)(void *context, const struct sv_message *message), void *context);
/* A RENEW record has come. */
void sv_renewals_take(struct sv_runtime *rt, const struct sv_message *message);
/* Puts a CERTIFICATES record into an endpoint's inbox, as soon as there is room. */
void sv_renewals_send(struct sv_runtime *rt, uint32_t endpoint, const struct sv_message *message);
/* At the end of the loop's turn. */
void sv_renewals_flush(struct sv_runtime *rt);
/* That process has gone and nobody inherits its inbox. */
void sv_renewals_drop(struct sv_runtime *rt, uint32_t endpoint);
/* The calling process has another role now, or ends. */
void sv_renewals_end(struct sv_runtime *rt);

/* BASE worker: is what this record brings news? */
bool sv_renewals_are_new(struct sv_runtime *rt, const struct sv_message *message);

#endif
