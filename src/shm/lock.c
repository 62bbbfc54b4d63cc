/* lock.c: locks that processes share (srvlua_lock in srvlua.h); their holder may die.
 *
 * `writer` is the owner word (owner.h) of who holds the lock alone. Readers of a RWLOCK are counted in a place for each
 * process. A reader counts itself, then looks for a writer; a writer takes its word, then looks for readers; each steps
 * back if it sees the other, so that at least one of them does. The counts of a dead process are dropped by who finds
 * them.
 *
 * A waiting writer is counted, too; readers who find one wait. `is_wanted` spares them the search: it is set by every
 * waiting writer and cleared by a reader that finds none.
 *
 * Who takes the word from a dead writer notes that in `is_abandoned`, for it may have to step back: the next one that
 * gets the lock is told.
 *
 * Who waits sleeps on `turn`, which changes with every release. It is woken up if it has said that it sleeps; it looks
 * again after 10 ms whatever happens, and then also whether the holder is alive: the dead wake nobody.
 * runs in: any process, any thread. Lock and unlock make no system call where nobody waits. */
#include <errno.h>
#include <stdlib.h>
#include <sys/mman.h>

#include "base/errors.h"
#include "shm/arena.h"
#include "shm/futex.h"
#include "shm/owner.h"
#include "srvlua.h"

#define LOOK_AGAIN_NS (10 * SV_NS_PER_MS)
#define SHORT_SPIN_NS 2000
#define LONG_SPIN_NS 50000
#define BRIEF_SPINS 200 /* for one who will step back at once */
#define PROCESSES_MAX 1024
#define POLLS_PER_LOOK 16 /* each is a millisecond */

struct process { /* shared; written by that process, and by who clears the place of a dead one */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t id; /* 0 = free */
    _Atomic uint32_t readers;
    _Atomic uint32_t waiting_writers;
};

struct shared {
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t writer;
    _Atomic uint32_t turn;         /* futex */
    _Atomic uint32_t is_awaited;   /* somebody sleeps on turn */
    _Atomic uint32_t is_wanted;    /* a writer may be waiting */
    _Atomic uint32_t is_abandoned; /* a writer died, and nobody has been told */
    _Atomic uint32_t used;         /* places of processes that were ever used */
    struct process processes[];    /* RWLOCK only */
};

struct srvlua_lock { /* private; the same in every process but for `self`, whose note is the place of the process + 1 */
    enum srvlua_lock_type type;
    struct shared *shared;
    size_t bytes;
    struct sv_self self;
    _Atomic unsigned polls;
};

srvlua_lock *srvlua_lock_new(int type, struct srvlua_status *status) {
    if (type != SRVLUA_RWLOCK && type != SRVLUA_MUTEX && type != SRVLUA_SPINLOCK) {
        sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "unknown type %d of a lock", type);
        return NULL;
    }
    srvlua_lock *lock = calloc(1, sizeof *lock);
    if (!lock || sv_self_open(&lock->self) < 0)
        goto fail;
    lock->type = type;
    lock->bytes = sizeof *lock->shared + (type == SRVLUA_RWLOCK ? PROCESSES_MAX * sizeof(struct process) : 0);
    void *memory = mmap(NULL, lock->bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory != MAP_FAILED) {
        lock->shared = memory;
        return lock;
    }
    sv_self_close(&lock->self);
fail:
    sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for a lock");
    free(lock);
    return NULL;
}

void srvlua_lock_free(srvlua_lock *lock) {
    if (!lock)
        return;
    munmap(lock->shared, lock->bytes);
    sv_self_close(&lock->self);
    free(lock);
}

int srvlua_lock_get_type(const srvlua_lock *lock) { return lock->type; }

/* ------------------------------------------------------------------------------------- processes that read or wait */

/* The place of the calling process; makes one if need be, NULL if there is none left. */
static struct process *find_own_place(const srvlua_lock *lock, bool may_make) {
    struct shared *shared = lock->shared;
    uint64_t me = sv_self_id(&lock->self);
    _Atomic uint64_t *note = sv_self_note(&lock->self);
    uint64_t known = atomic_load_explicit(note, memory_order_relaxed);
    if (known)
        return &shared->processes[known - 1];
    for (int looks_for_dead = 0; may_make && looks_for_dead <= 1; looks_for_dead++)
        for (uint32_t i = 0; i < PROCESSES_MAX; i++) {
            struct process *place = &shared->processes[i];
            uint64_t id = atomic_load(&place->id);
            if (id != me && id != 0 && (!looks_for_dead || sv_owner_is_alive(id)))
                continue;
            /* Another thread of this process may have made it. */
            if (id != me && !atomic_compare_exchange_strong(&place->id, &id, me))
                continue;
            if (id != 0 && id != me) {
                atomic_store(&place->readers, 0);
                atomic_store(&place->waiting_writers, 0);
            }
            uint32_t used = atomic_load(&shared->used);
            while (used <= i && !atomic_compare_exchange_weak(&shared->used, &used, i + 1))
                ;
            atomic_store_explicit(note, i + 1, memory_order_relaxed);
            return place;
        }
    return NULL;
}

/* Whether a living process has something in one of its counts; clears those of the dead if that is to be looked at. */
static bool is_anyone(const srvlua_lock *lock, bool readers, bool looks_for_dead) {
    struct shared *shared = lock->shared;
    uint32_t used = atomic_load(&shared->used);
    for (uint32_t i = 0; i < used; i++) {
        struct process *place = &shared->processes[i];
        if (atomic_load(readers ? &place->readers : &place->waiting_writers) == 0)
            continue;
        uint64_t id = atomic_load(&place->id);
        if (!looks_for_dead || id == sv_self_id(&lock->self) || sv_owner_is_alive(id))
            return true;
        if (sv_owner_try_hard(&place->id, sv_self_id(&lock->self)) == SV_NOT_TAKEN)
            return true; /* another one is at it, or lives there by now */
        atomic_store(&place->readers, 0);
        atomic_store(&place->waiting_writers, 0);
        sv_owner_give(&place->id);
    }
    return false;
}

static bool is_reading(const srvlua_lock *lock) {
    const struct process *own = lock->type == SRVLUA_RWLOCK ? find_own_place(lock, false) : NULL;
    return own && atomic_load(&own->readers) > 0;
}

/* ---------------------------------------------------------------------------------------------------------- trying */

static void wake_waiters(struct shared *shared) {
    atomic_fetch_add(&shared->turn, 1);
    if (atomic_load(&shared->is_awaited) && atomic_exchange(&shared->is_awaited, 0))
        sv_futex_wake(&shared->turn, INT_MAX);
}

static void give_writer(struct shared *shared) {
    atomic_store(&shared->writer, 0);
    wake_waiters(shared);
}

/* What the new holder is told: 1 if the last one died. */
static int take_news(struct shared *shared) {
    return atomic_load(&shared->is_abandoned) && atomic_exchange(&shared->is_abandoned, 0);
}

/* 0, 1 (taken from the dead) or -EBUSY. */
static int try_write(const srvlua_lock *lock, bool looks_for_dead) {
    struct shared *shared = lock->shared;
    uint64_t me = sv_self_id(&lock->self);
    if (lock->type == SRVLUA_RWLOCK && is_anyone(lock, true, looks_for_dead))
        return -EBUSY;
    enum sv_taken taken = sv_owner_try(&shared->writer, me) ? SV_TAKEN
                          : looks_for_dead                  ? sv_owner_try_hard(&shared->writer, me)
                                                            : SV_NOT_TAKEN;
    if (taken == SV_NOT_TAKEN)
        return -EBUSY;
    if (taken == SV_TAKEN_FROM_DEAD)
        atomic_store(&shared->is_abandoned, 1);
    atomic_thread_fence(memory_order_seq_cst);
    for (int spin = 0; lock->type == SRVLUA_RWLOCK; spin++) {
        bool is_last = spin == BRIEF_SPINS;
        if (!is_anyone(lock, true, is_last && looks_for_dead))
            break;
        if (is_last) {
            give_writer(shared);
            return -EBUSY;
        }
        sv_relax();
    }
    return take_news(shared);
}

/* Whether a reader has to stay out: for a writer, or for one that waits. */
static bool is_closed_to_readers(const srvlua_lock *lock, bool looks_for_dead) {
    struct shared *shared = lock->shared;
    for (int spin = 0; atomic_load(&shared->writer); spin++) {
        if (spin < BRIEF_SPINS) { /* it may be one that steps back */
            sv_relax();
            continue;
        }
        if (!looks_for_dead || sv_owner_try_hard(&shared->writer, sv_self_id(&lock->self)) != SV_TAKEN_FROM_DEAD)
            return true;
        atomic_store(&shared->is_abandoned, 1);
        give_writer(shared);
    }
    if (!atomic_load(&shared->is_wanted))
        return false;
    if (is_anyone(lock, false, looks_for_dead))
        return true;
    atomic_store(&shared->is_wanted, 0);
    if (!is_anyone(lock, false, false))
        return false;
    atomic_store(&shared->is_wanted, 1); /* it came meanwhile */
    return true;
}

/* The same for a reader; also -EAGAIN. `is_nested`: this process reads already and cannot wait for a writer that waits
 * for it. */
static int try_read(const srvlua_lock *lock, bool looks_for_dead, bool is_nested) {
    struct process *own = find_own_place(lock, true);
    if (!own)
        return -EAGAIN;
    if (is_nested) {
        atomic_fetch_add(&own->readers, 1);
        return 0;
    }
    if (is_closed_to_readers(lock, looks_for_dead))
        return -EBUSY;
    atomic_fetch_add(&own->readers, 1);
    atomic_thread_fence(memory_order_seq_cst);
    if (atomic_load(&lock->shared->writer) == 0)
        return take_news(lock->shared);
    atomic_fetch_sub(&own->readers, 1);
    wake_waiters(lock->shared);
    return -EBUSY;
}

static int try_lock(const srvlua_lock *lock, int is_shared, bool looks_for_dead) {
    if (!is_shared)
        return try_write(lock, looks_for_dead);
    if (lock->type != SRVLUA_RWLOCK)
        return -SRVLUA_ERROR_INVALID_PARAMS;
    return try_read(lock, looks_for_dead, false);
}

int srvlua_lock_trylock(srvlua_lock *lock, int shared) { return try_lock(lock, shared, true); }

int srvlua_lock_poll(srvlua_lock *lock, int shared) {
    unsigned polls = atomic_fetch_add_explicit(&lock->polls, 1, memory_order_relaxed);
    return try_lock(lock, shared, polls % POLLS_PER_LOOK == 0);
}

void srvlua_lock_announce_writer(srvlua_lock *lock, int change) {
    struct process *own = lock->type == SRVLUA_RWLOCK ? find_own_place(lock, true) : NULL;
    if (!own)
        return; /* readers may go before it then */
    atomic_fetch_add(&own->waiting_writers, (uint32_t)change);
    if (change > 0)
        atomic_store(&lock->shared->is_wanted, 1);
    else
        wake_waiters(lock->shared);
}

/* --------------------------------------------------------------------------------------------------------- waiting */

/* Tries for as long as others hold it if they are quick. */
static int spin(const srvlua_lock *lock, int is_shared) {
    int64_t end = sv_now_ns() + (lock->type == SRVLUA_SPINLOCK ? LONG_SPIN_NS : SHORT_SPIN_NS);
    int result;
    do {
        sv_relax();
        result = try_lock(lock, is_shared, false);
    } while (result == -EBUSY && sv_now_ns() < end);
    return result;
}

static int wait_for_lock(const srvlua_lock *lock, int is_shared, double timeout) {
    struct shared *shared = lock->shared;
    struct sv_patience patience = sv_patience_begin(timeout);
    int result = spin(lock, is_shared);
    bool looks_for_dead = true; /* not where the lock is given on all the time */
    while (result == -EBUSY) {
        uint32_t turn = atomic_load(&shared->turn);
        atomic_store(&shared->is_awaited, 1);
        result = try_lock(lock, is_shared, looks_for_dead);
        if (result != -EBUSY)
            break;
        int64_t left = sv_patience_left(&patience);
        if (left <= 0)
            return -ETIMEDOUT;
        sv_futex_wait(&shared->turn, turn, left < LOOK_AGAIN_NS ? left : LOOK_AGAIN_NS);
        looks_for_dead = atomic_load(&shared->turn) == turn;
    }
    return result;
}

int srvlua_lock_lock(srvlua_lock *lock, int shared, double timeout) {
    if (shared && lock->type != SRVLUA_RWLOCK)
        return -SRVLUA_ERROR_INVALID_PARAMS;
    int result = try_lock(lock, shared, false);
    if (result != -EBUSY)
        return result;
    if (atomic_load(&lock->shared->writer) == sv_self_id(&lock->self))
        return -EDEADLK;
    if (is_reading(lock))
        return shared ? try_read(lock, false, true) : -EDEADLK;
    if (shared)
        return wait_for_lock(lock, true, timeout);
    srvlua_lock_announce_writer(lock, 1);
    result = wait_for_lock(lock, false, timeout);
    srvlua_lock_announce_writer(lock, -1);
    return result;
}

int srvlua_lock_unlock(srvlua_lock *lock) {
    if (atomic_load(&lock->shared->writer) == sv_self_id(&lock->self)) {
        give_writer(lock->shared);
        return 0;
    }
    if (!is_reading(lock))
        return -EPERM;
    atomic_fetch_sub(&find_own_place(lock, false)->readers, 1);
    wake_waiters(lock->shared);
    return 0;
}
