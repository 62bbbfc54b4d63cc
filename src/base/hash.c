/* hash.c: SipHash (Aumasson and Bernstein, 2012) with one round for each word and three at the end; see hash.h. */
#include "base/hash.h"

struct state {
    uint64_t a, b, c, d;
};

static inline uint64_t rotate(uint64_t value, int bits) { return value << bits | value >> (64 - bits); }

static inline void sip_round(struct state *s) {
    s->a += s->b;
    s->b = rotate(s->b, 13) ^ s->a;
    s->a = rotate(s->a, 32);
    s->c += s->d;
    s->d = rotate(s->d, 16) ^ s->c;
    s->a += s->d;
    s->d = rotate(s->d, 21) ^ s->a;
    s->c += s->b;
    s->b = rotate(s->b, 17) ^ s->c;
    s->c = rotate(s->c, 32);
}

uint64_t sv_hash_words(const uint64_t seed[2], const uint64_t *words, size_t count) {
    struct state s = {seed[0] ^ 0x736f6d6570736575, seed[1] ^ 0x646f72616e646f6d, seed[0] ^ 0x6c7967656e657261,
                      seed[1] ^ 0x7465646279746573};
    for (size_t i = 0; i < count; i++) {
        s.d ^= words[i];
        sip_round(&s);
        s.a ^= words[i];
    }
    uint64_t last = (uint64_t)count * 8 << 56;
    s.d ^= last;
    sip_round(&s);
    s.a ^= last;
    s.c ^= 0xff;
    sip_round(&s);
    sip_round(&s);
    sip_round(&s);
    return s.a ^ s.b ^ s.c ^ s.d;
}
