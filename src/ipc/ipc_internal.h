/* ipc_internal.h: what the files of this folder share. */
#ifndef SV_IPC_INTERNAL_H
#define SV_IPC_INTERNAL_H

#include "ipc/endpoint.h"

/* Adds a chunk. True when the payload is complete or the record is a whole one; *whole is then the payload, to be freed by the
 * caller. False: more is to come, or the chunk belongs to nothing and was dropped. */
bool sv_chunk_add(struct sv_endpoint *endpoint, uint32_t source, const struct sv_record *record, const unsigned char *payload,
                  struct sv_partial **whole);
/* Whether chunks from that source wait for the rest of their payload, and could be read again; from now on they cannot. */
bool sv_chunks_are_in_ring(const struct sv_endpoint *endpoint, uint32_t source);
void sv_chunks_leave_ring(struct sv_endpoint *endpoint, uint32_t source);
void sv_chunk_free(struct sv_partial *whole);

#endif
