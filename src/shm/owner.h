/* owner.h: words in shared memory that say which process holds something, so that nothing stays held by the dead.
 *
 * A word is 0 (free) or the id of a process: its pid and when it started, so that a pid that was used again is not
 * taken for its first bearer. Whoever finds a word taken for longer than it should be looks whether that process lives,
 * and takes the word over if it does not; what the word protects may be half done then, and the taker is told so.
 *
 * Where /proc cannot be read (after chroot) the pid alone decides. Taking a free word and giving it back makes no
 * system call. The threads of a process have one id: a word that one of them holds is only waited for by the others.
 * runs in: any process, any thread. */
#ifndef SV_SHM_OWNER_H
#define SV_SHM_OWNER_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>

/* What a process knows of itself. A fork's copy begins empty: the kernel clears the page. */
struct sv_self_page {
    _Atomic uint64_t id;   /* 0 = not asked yet */
    _Atomic uint64_t note; /* the owner's of the struct sv_self to use; 0 in a fresh process */
};

struct sv_self {
    struct sv_self_page *page;
    bool forgets; /* the kernel clears the page; else the pid is asked for each time */
};

/* 0 or -errno. */
int sv_self_open(struct sv_self *self);
void sv_self_close(struct sv_self *self);
/* Id of the calling process, never 0. */
uint64_t sv_self_id(const struct sv_self *self);
/* The note of the calling process. */
_Atomic uint64_t *sv_self_note(const struct sv_self *self);

/* Two or three system calls. A process that waits to be reaped is not alive, a stopped one is. */
bool sv_owner_is_alive(uint64_t id);

enum sv_taken {
    SV_NOT_TAKEN,
    SV_TAKEN,
    SV_TAKEN_FROM_DEAD /* its holder died: what the word protects must be looked after */
};

/* Takes the word if it is free. */
static inline bool sv_owner_try(_Atomic uint64_t *word, uint64_t me) {
    uint64_t free_word = 0;
    return atomic_load_explicit(word, memory_order_relaxed) == 0 &&
           atomic_compare_exchange_strong_explicit(word, &free_word, me, memory_order_acquire, memory_order_relaxed);
}

/* The same, or takes it from a dead holder. */
enum sv_taken sv_owner_try_hard(_Atomic uint64_t *word, uint64_t me);
/* Waits for it: spins, then naps up to 1 ms each time. Never SV_NOT_TAKEN. */
enum sv_taken sv_owner_take(_Atomic uint64_t *word, uint64_t me);

static inline void sv_owner_give(_Atomic uint64_t *word) { atomic_store_explicit(word, 0, memory_order_release); }

/* One turn of a loop that waits for a few nanoseconds. */
static inline void sv_relax(void) {
#if defined(__x86_64__) || defined(__i386__)
    __builtin_ia32_pause();
#elif defined(__aarch64__)
    __asm__ volatile("yield");
#endif
}

/* Sleeps `turn` times longer than the first time, which is 50 us; 1 ms at most. */
void sv_nap(unsigned turn);

#endif
