/* bytes.h: a queue of bytes in one growing block: filled at its end, used up at its beginning. Knows no sockets, no Lua. */
#ifndef SV_LUA_CLIENT_BYTES_H
#define SV_LUA_CLIENT_BYTES_H

#include <stdbool.h>
#include <stddef.h>

struct sv_bytes {
    char *block; /* malloc'ed, or NULL */
    size_t capacity, begin, end;
};

static inline const char *sv_bytes_data(const struct sv_bytes *bytes) { return bytes->block + bytes->begin; }
static inline size_t sv_bytes_length(const struct sv_bytes *bytes) { return bytes->end - bytes->begin; }
static inline size_t sv_bytes_space(const struct sv_bytes *bytes) { return bytes->capacity - bytes->end; }

/* Makes room for `size` more bytes behind the last one; false: no memory. Moves what is there. */
bool sv_bytes_reserve(struct sv_bytes *bytes, size_t size);
bool sv_bytes_append(struct sv_bytes *bytes, const void *data, size_t length);
/* The first `length` bytes are used up. */
void sv_bytes_consume(struct sv_bytes *bytes, size_t length);
void sv_bytes_free(struct sv_bytes *bytes);

#endif
