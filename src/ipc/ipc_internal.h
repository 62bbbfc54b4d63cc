/* ipc_internal.h: what the files of this folder share. */
#ifndef SV_IPC_INTERNAL_H
#define SV_IPC_INTERNAL_H

#include "ipc/endpoint.h"

/* Adds a chunk. True when the payload is complete or the record is a whole one; *whole is then the payload, to be freed by the
 * caller. False: more is to come, or the chunk belongs to nothing and was dropped. */
bool sv_chunk_add(struct sv_endpoint *endpoint, uint32_t source, const struct sv_record *record, const unsigned char *payload,
                  struct sv_partial **whole);
void sv_chunk_free(struct sv_partial *whole);

#endif
