/* tls_stack.c: calls mbedTLS's record layer with the stack where that is fastest.
 *
 * For GCM mbedTLS 2.28 copies each block byte by byte into two arrays on the stack and reads them back at once, which has to wait for
 * the stores. Where both arrays lie in the same 32 bytes that takes less time: an EPYC (Zen 3) encrypts a MiB in 5.3 ms then, else in
 * 6.3 ms. Stacks are aligned to 16 bytes, so it was a matter of luck, for a thread's life. Which of the two positions is the good one
 * depends on the library's build: the first full records try both in turn. */
#include <string.h>

#include "base/clock.h"
#include "net/tls_internal.h"

#define TRIES 16u /* records; of each position the fastest counts, for anything may interrupt the others */
#define STEP 16u  /* the alignment of stacks */

/* The place, 0 or 1, for the next record. */
static unsigned place_of(const struct sv_tls_stack *stack) {
    if (stack->tries < TRIES)
        return stack->tries % 2;
    return stack->least_ns[1] < stack->least_ns[0];
}

static void note(struct sv_tls_stack *stack, unsigned place, int64_t ns) {
    if (stack->tries < 2 || ns < stack->least_ns[place])
        stack->least_ns[place] = ns;
    stack->tries++;
}

static bool is_telling(const struct sv_tls_stack *stack, const mbedtls_ssl_context *ssl) {
    const char *suite = stack->tries < TRIES ? mbedtls_ssl_get_ciphersuite(ssl) : NULL;
    return suite && strstr(suite, "GCM");
}

/* Bytes to move the stack by, from a frame at this address. */
static size_t shift_for(unsigned place, const void *frame) { return ((uintptr_t)frame / STEP + place) % 2 * STEP; }

/* Not inlined: the address of its frame is what counts. */
__attribute__((noinline)) static int write_at(unsigned place, mbedtls_ssl_context *ssl, const unsigned char *data, size_t length) {
    void *room = __builtin_alloca(shift_for(place, __builtin_frame_address(0)));
    __asm__ volatile("" : : "r"(room) : "memory"); /* or it would be left out */
    return mbedtls_ssl_write(ssl, data, length);
}

__attribute__((noinline)) static int read_at(unsigned place, mbedtls_ssl_context *ssl, unsigned char *data, size_t size) {
    void *room = __builtin_alloca(shift_for(place, __builtin_frame_address(0)));
    __asm__ volatile("" : : "r"(room) : "memory");
    return mbedtls_ssl_read(ssl, data, size);
}

int sv_tls_stack_write(struct sv_tls_stack *stack, mbedtls_ssl_context *ssl, const unsigned char *data, size_t length) {
    unsigned place = place_of(stack);
    bool is_tried = length >= SV_TLS_RECORD && is_telling(stack, ssl);
    int64_t begin_ns = is_tried ? sv_now_ns() : 0;
    int written = write_at(place, ssl, data, length);
    if (is_tried && written == (int)SV_TLS_RECORD)
        note(stack, place, sv_now_ns() - begin_ns);
    return written;
}

int sv_tls_stack_read(struct sv_tls_stack *stack, mbedtls_ssl_context *ssl, unsigned char *data, size_t size) {
    unsigned place = place_of(stack);
    bool is_tried = size >= SV_TLS_RECORD && is_telling(stack, ssl);
    int64_t begin_ns = is_tried ? sv_now_ns() : 0;
    int got = read_at(place, ssl, data, size);
    if (is_tried && got == (int)SV_TLS_RECORD)
        note(stack, place, sv_now_ns() - begin_ns);
    return got;
}
