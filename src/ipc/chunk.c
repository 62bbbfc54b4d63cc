/* chunk.c: payloads larger than one record, put together again by (source, type, id). */
#include <stdlib.h>
#include <string.h>

#include "ipc/ipc_internal.h"

#define PARTIAL_MAX ((size_t)1 << 31) /* no sender makes more; a corrupt one must not exhaust the receiver */

static struct sv_partial **find(struct sv_endpoint *endpoint, uint32_t source, const struct sv_record *record) {
    struct sv_partial **link = &endpoint->partials;
    while (*link && !((*link)->source == source && (*link)->id == record->id && (*link)->type == record->type))
        link = &(*link)->next;
    return link;
}

void sv_chunk_free(struct sv_partial *whole) {
    free(whole->data);
    free(whole);
}

static bool append(struct sv_partial *partial, const unsigned char *data, uint32_t length) {
    size_t needed = partial->length + length;
    if (needed > PARTIAL_MAX) return false;
    if (needed > partial->capacity) {
        size_t capacity = partial->capacity ? partial->capacity * 2 : 4 * SV_CHUNK_MAX;
        if (capacity < needed) capacity = needed;
        unsigned char *grown = realloc(partial->data, capacity);
        if (!grown) return false;
        partial->data = grown;
        partial->capacity = capacity;
    }
    memcpy(partial->data + partial->length, data, length);
    partial->length = needed;
    return true;
}

bool sv_chunk_add(struct sv_endpoint *endpoint, uint32_t source, const struct sv_record *record, const unsigned char *payload,
                  struct sv_partial **whole) {
    struct sv_partial **link = find(endpoint, source, record);
    if (record->flags & SV_RECORD_FIRST) {
        if (*link) { /* its sender died in the middle of the last one */
            (*link)->length = 0;
            (*link)->is_in_ring = true;
        } else {
            struct sv_partial *fresh = calloc(1, sizeof *fresh);
            if (!fresh) return false;
            fresh->source = source;
            fresh->id = record->id;
            fresh->type = record->type;
            fresh->is_in_ring = true;
            *link = fresh;
        }
    }
    struct sv_partial *partial = *link;
    if (!partial) return false;
    if (!append(partial, payload, record->length)) {
        *link = partial->next;
        sv_chunk_free(partial);
        return false;
    }
    if (!(record->flags & SV_RECORD_LAST)) return false;
    *link = partial->next;
    *whole = partial;
    return true;
}

bool sv_chunks_are_in_ring(const struct sv_endpoint *endpoint, uint32_t source) {
    for (const struct sv_partial *partial = endpoint->partials; partial; partial = partial->next)
        if (partial->source == source && partial->is_in_ring) return true;
    return false;
}

void sv_chunks_leave_ring(struct sv_endpoint *endpoint, uint32_t source) {
    for (struct sv_partial *partial = endpoint->partials; partial; partial = partial->next)
        if (partial->source == source) partial->is_in_ring = false;
}

/* Drops those from a source, or (UINT32_MAX) from all, that are for an id, or (0) for any. */
static void forget(struct sv_endpoint *endpoint, uint32_t source, uint64_t id) {
    struct sv_partial **link = &endpoint->partials;
    while (*link) {
        struct sv_partial *partial = *link;
        if ((source != UINT32_MAX && partial->source != source) || (id && partial->id != id)) {
            link = &partial->next;
            continue;
        }
        *link = partial->next;
        sv_chunk_free(partial);
    }
}

void sv_forget_partials(struct sv_endpoint *endpoint, uint32_t source) {
    forget(endpoint, source, 0);
}

bool sv_has_partials_of_reactors(const struct sv_endpoint *endpoint) {
    for (const struct sv_partial *partial = endpoint->partials; partial; partial = partial->next)
        if (partial->source >= sv_endpoint_of_reactor(0) && partial->source < sv_endpoint_of_reactor(endpoint->ipc->reactors)) return true;
    return false;
}

bool sv_has_partials_of(const struct sv_endpoint *endpoint, bool (*counts)(const void *context, uint32_t source), const void *context) {
    for (const struct sv_partial *partial = endpoint->partials; partial; partial = partial->next)
        if (counts(context, partial->source)) return true;
    return false;
}

void sv_forget_partials_for(struct sv_endpoint *endpoint, uint64_t id) {
    forget(endpoint, UINT32_MAX, id);
}
