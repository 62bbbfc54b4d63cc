/* bytes.c: see bytes.h. */
#include "lua/client/bytes.h"

#include <stdlib.h>
#include <string.h>

#define FIRST_SIZE 1024

bool sv_bytes_reserve(struct sv_bytes *bytes, size_t size) {
    size_t length = sv_bytes_length(bytes), capacity = bytes->capacity ? bytes->capacity : FIRST_SIZE;
    char *block;

    if (sv_bytes_space(bytes) >= size && bytes->block)
        return true;
    if (bytes->begin > 0) {
        memmove(bytes->block, bytes->block + bytes->begin, length);
        bytes->begin = 0;
        bytes->end = length;
        if (sv_bytes_space(bytes) >= size)
            return true;
    }
    if (size > (size_t)-1 / 4 - length)
        return false;
    while (capacity < length + size)
        capacity *= 2;
    block = realloc(bytes->block, capacity);
    if (!block)
        return false;
    bytes->block = block;
    bytes->capacity = capacity;
    return true;
}

bool sv_bytes_append(struct sv_bytes *bytes, const void *data, size_t length) {
    if (!sv_bytes_reserve(bytes, length))
        return false;
    memcpy(bytes->block + bytes->end, data, length);
    bytes->end += length;
    return true;
}

void sv_bytes_consume(struct sv_bytes *bytes, size_t length) {
    bytes->begin += length;
    if (bytes->begin == bytes->end)
        bytes->begin = bytes->end = 0;
}

void sv_bytes_free(struct sv_bytes *bytes) {
    free(bytes->block);
    *bytes = (struct sv_bytes){0};
}
