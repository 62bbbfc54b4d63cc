/* renewal.c: see renewal.h. */
#include "process/renewal.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/errors.h"
#include "process/runtime.h"

#define WAIT_NS (5 * SV_NS_PER_SECOND)
#define FIRST_ID (UINT64_C(1) << 63) /* sessions have other ids */

struct renewal_head { /* in front of each port's bytes in a RENEW record */
    uint64_t length;
    uint32_t port;
    uint32_t reserved;
};

static int out_of_memory(struct srvlua_status *status) {
    return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
}

static void free_renewals(struct sv_renewal *renewals, size_t count) {
    for (size_t i = 0; i < count; i++) sv_tls_bytes_free(&renewals[i].bytes);
}

/* --------------------------------------------------------------------------------------------------- passing on */

/* Would a reactor take them? */
static int check(const struct sv_runtime *rt, const struct sv_renewal *renewal, struct srvlua_status *status) {
    if (renewal->port >= rt->port_count || !rt->ports[renewal->port].tls)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is no port %u with TLS", renewal->port + 1u);
    const struct sv_port_rules *rules = &rt->ports[renewal->port];
    struct sv_tls_scratch *scratch = sv_tls_scratch_new();
    if (!scratch) return out_of_memory(status);
    struct sv_tls_port *port = sv_tls_port_new(rules->tls, &renewal->bytes, rules->tls_shared, scratch, status);
    if (port) sv_tls_port_free(port);
    sv_tls_scratch_free(scratch);
    return port ? 0 : -SRVLUA_ERROR_INVALID_PARAMS;
}

static void pass_on(struct sv_runtime *rt, struct sv_renewal *renewal) {
    struct sv_message message = {.type = SV_RECORD_CERTIFICATES,
                                 .source = rt->endpoint.id,
                                 .id = ++rt->renewals.last,
                                 .value = renewal->port,
                                 .payload = renewal->bytes.data,
                                 .length = renewal->bytes.length};
    rt->renewals.pass_on(rt->renewals.context, &message);
    struct sv_tls_bytes *kept = &rt->certificates[renewal->port];
    sv_tls_bytes_free(kept);
    *kept = renewal->bytes;
    renewal->bytes = (struct sv_tls_bytes){0};
}

static int check_and_pass_on(struct sv_runtime *rt, struct sv_renewal *renewals, size_t count, struct srvlua_status *status) {
    int result = 0;
    for (size_t i = 0; result == 0 && i < count; i++) result = check(rt, &renewals[i], status);
    for (size_t i = 0; result == 0 && i < count; i++) pass_on(rt, &renewals[i]);
    return result;
}

void sv_renewals_begin(struct sv_runtime *rt, void (*passer)(void *context, const struct sv_message *message), void *context) {
    rt->renewals = (struct sv_renewals){.pass_on = passer, .context = context, .last = FIRST_ID, .outbox = {.is_bulk = true}};
}

void sv_renewals_end(struct sv_runtime *rt) {
    sv_outbox_free(&rt->renewals.outbox);
    rt->renewals.pass_on = NULL;
}

void sv_renewals_send(struct sv_runtime *rt, uint32_t endpoint, const struct sv_message *message) {
    sv_outbox_supersede(&rt->renewals.outbox, endpoint, message->type, message->value);
    if (sv_outbox_send(&rt->renewals.outbox, &rt->endpoint, endpoint, message->type, message->id, message->value, NULL, 0, message->payload,
                       message->length))
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "out of memory: a reactor goes on with the former certificates of port %d", message->value + 1);
}

void sv_renewals_flush(struct sv_runtime *rt) {
    if (rt->renewals.outbox.first) sv_outbox_flush(&rt->renewals.outbox, &rt->endpoint);
}

void sv_renewals_drop(struct sv_runtime *rt, uint32_t endpoint) {
    sv_outbox_drop_all(&rt->renewals.outbox, endpoint);
}

bool sv_renewals_are_new(struct sv_runtime *rt, const struct sv_message *message) {
    if (message->source != SV_ENDPOINT_MANAGER || message->id <= rt->renewals.last) return false;
    rt->renewals.last = message->id;
    return true;
}

/* ------------------------------------------------------------------------------------------------- as one record */

static unsigned char *pack(const struct sv_renewal *renewals, size_t count, size_t *length) {
    *length = 0;
    for (size_t i = 0; i < count; i++) *length += sizeof(struct renewal_head) + renewals[i].bytes.length;
    unsigned char *packed = malloc(*length), *at = packed;
    for (size_t i = 0; packed && i < count; i++) {
        struct renewal_head head = {.length = renewals[i].bytes.length, .port = renewals[i].port};
        at = mempcpy(at, &head, sizeof head);
        at = mempcpy(at, renewals[i].bytes.data, renewals[i].bytes.length);
    }
    return packed;
}

/* The next of a record; false: it is malformed, or there is no memory. */
static bool unpack(const unsigned char **payload, size_t *length, struct sv_renewal *renewal) {
    struct renewal_head head;
    if (*length < sizeof head) return false;
    memcpy(&head, *payload, sizeof head);
    if (head.length > *length - sizeof head || head.port > UINT16_MAX || !(renewal->bytes.data = malloc(head.length + 1))) return false;
    memcpy(renewal->bytes.data, *payload + sizeof head, head.length);
    renewal->bytes.length = head.length;
    renewal->port = (uint16_t)head.port;
    *payload += sizeof head + head.length;
    *length -= sizeof head + head.length;
    return true;
}

void sv_renewals_take(struct sv_runtime *rt, const struct sv_message *message) {
    const unsigned char *payload = message->payload;
    size_t length = message->length, count = 0;
    if (!rt->certificates || !rt->renewals.pass_on) return;
    struct sv_renewal *renewals = calloc(rt->port_count, sizeof *renewals);
    bool is_sound = renewals != NULL;
    while (is_sound && length) is_sound = count < rt->port_count && unpack(&payload, &length, &renewals[count++]);
    struct srvlua_status status = {.message = "the record is damaged, or there is no memory"};
    if (!is_sound || check_and_pass_on(rt, renewals, count, &status))
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "certificates that another process has read are not used: %s", status.message);
    if (renewals) free_renewals(renewals, count);
    free(renewals);
}

static int send_away(struct sv_runtime *rt, const struct sv_renewal *renewals, size_t count, struct srvlua_status *status) {
    uint32_t to = rt->ipc.is_process_mode ? sv_runtime_master(rt) : SV_ENDPOINT_MANAGER;
    size_t length;
    unsigned char *packed = pack(renewals, count, &length);
    if (!packed) return out_of_memory(status);
    int result = sv_runtime_send(rt, to, SV_RECORD_RENEW, 0, 0, NULL, 0, packed, length, sv_now_ns() + WAIT_NS);
    sv_kick(&rt->endpoint, to); /* rare: at once, whatever the caller does next */
    explicit_bzero(packed, length);
    free(packed);
    return result ? sv_fail(status, -result, "the certificates could not be handed on: %s", srvlua_strerror(-result)) : 0;
}

int sv_renew(struct sv_runtime *rt, struct sv_renewal *renewals, size_t count, struct srvlua_status *status) {
    int result = rt->renewals.pass_on ? check_and_pass_on(rt, renewals, count, status) : send_away(rt, renewals, count, status);
    free_renewals(renewals, count);
    return result;
}
