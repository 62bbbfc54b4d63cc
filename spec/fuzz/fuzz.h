/* fuzz.h: what is fuzzed. Each target takes any bytes, part of which are its rules and where the stream is cut into reads,
 * and returns NULL, or what does not hold. `make fuzz` finds inputs (main.c); the unit test of the same inputs replays what is
 * kept in corpus/ and regressions/. */
#ifndef SV_SPEC_FUZZ_H
#define SV_SPEC_FUZZ_H

#include <stddef.h>
#include <stdint.h>

typedef const char *fuzz_target(const uint8_t *data, size_t size);

fuzz_target fuzz_eof, fuzz_length, fuzz_mqtt, fuzz_redis, fuzz_proxy;

struct fuzz_input {
    const uint8_t *data;
    size_t size;
};

/* The next byte, 0 at the end. */
static inline uint8_t fuzz_byte(struct fuzz_input *input) {
    if (input->size == 0)
        return 0;
    input->size--;
    return *input->data++;
}

#endif
