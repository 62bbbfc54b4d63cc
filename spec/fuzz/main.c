/* main.c: the program of one target, TARGET being its function. */
#include <stdio.h>
#include <stdlib.h>

#include "fuzz.h"

#ifndef TARGET /* a look at this file alone, for lint */
#define TARGET fuzz_eof
#endif

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size) {
    const char *fault = TARGET(data, size);
    if (fault) {
        fprintf(stderr, "does not hold: %s\n", fault);
        abort();
    }
    return 0;
}
