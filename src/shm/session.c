/* session.c: see session.h. */
#include "shm/session.h"

#include <assert.h>
#include <errno.h>
#include <string.h>

size_t sv_session_table_bytes(uint32_t size) {
    return sv_cache_lines((size_t)size * sizeof(struct sv_session)) + sv_cache_lines(((size_t)size + 63) / 64 * 8) + SV_CACHE_LINE;
}

int sv_session_table_init(struct sv_session_table *table, struct sv_arena *arena, uint32_t size, uint64_t start_id) {
    assert(size >= 64 && (size & (size - 1)) == 0);
    table->mask = size - 1;
    table->visitors = (struct sv_visitors){0};
    table->entries = sv_arena_alloc(arena, (size_t)size * sizeof(struct sv_session));
    table->live = sv_arena_alloc(arena, ((size_t)size + 63) / 64 * 8);
    table->last_id = sv_arena_alloc(arena, SV_CACHE_LINE);
    if (!table->entries || !table->live || !table->last_id) return -ENOMEM;
    atomic_store(table->last_id, start_id);
    return 0;
}

/* The bit is the claim: whoever sets it owns the slot, so two acceptors can never hold one slot for two ids. */
static bool take_slot(struct sv_session_table *table, uint64_t slot) {
    uint64_t bit = UINT64_C(1) << (slot & 63);
    return !(atomic_fetch_or(&table->live[slot >> 6], bit) & bit);
}

struct sv_session *sv_session_claim(struct sv_session_table *table) {
    for (uint64_t tries = 0; tries <= table->mask; tries++) {
        uint64_t id = atomic_fetch_add(table->last_id, 1) + 1;
        uint64_t slot = id & table->mask;
        if (!take_slot(table, slot)) continue;
        struct sv_session *session = &table->entries[slot];
        atomic_store_explicit(&session->id, 0, memory_order_release); /* nobody finds it half made */
        atomic_store_explicit(&session->control, id << 32, memory_order_relaxed);
        atomic_store_explicit(&session->uid, 0, memory_order_relaxed);
        atomic_store_explicit(&session->close_reason, SV_CLOSE_NONE, memory_order_relaxed);
        atomic_store_explicit(&session->close_errno, 0, memory_order_relaxed);
        atomic_store_explicit(&session->worker, UINT32_MAX, memory_order_relaxed);
        atomic_store_explicit(&session->last_recv_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&session->last_send_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&session->output_bytes, 0, memory_order_relaxed);
        atomic_store_explicit(&session->dispatched_bytes, 0, memory_order_relaxed);
        atomic_store_explicit(&session->last_dispatch_ns, 0, memory_order_relaxed);
        atomic_store_explicit(&session->consumed_bytes, 0, memory_order_relaxed);
        session->owner = 0;
        session->reactor = session->port = 0;
        session->os_fd = -1;
        atomic_store_explicit(&session->visit, 0, memory_order_relaxed);
        session->connect_ns = 0;
        session->peer_port = 0;
        session->proxy_port = -1;
        session->peer_text[0] = '\0';
        atomic_store_explicit(&session->state, SV_SESSION_CLAIMED, memory_order_release); /* `owner` is nobody's from here on */
        atomic_store_explicit(&session->id, id, memory_order_release);
        return session;
    }
    return NULL;
}

void sv_session_free(struct sv_session_table *table, struct sv_session *session) {
    uint64_t slot = (uint64_t)(session - table->entries);
    sv_visitors_leave(&table->visitors, &session->visit);
    atomic_store_explicit(&session->state, SV_SESSION_FREE, memory_order_release);
    atomic_fetch_and(&table->live[slot >> 6], ~(UINT64_C(1) << (slot & 63)));
}

void sv_session_set_state(struct sv_session *session, enum sv_session_state state) {
    enum sv_session_state before = sv_session_get_state(session);
    (void)before;
    assert(state > before && "a session's state only goes forward");
    atomic_store_explicit(&session->state, state, memory_order_release);
}

int64_t sv_session_change_flags(struct sv_session *session, uint64_t id, uint32_t set, uint32_t clear) {
    uint64_t old = atomic_load(&session->control);
    do {
        if (old >> 32 != (id & UINT32_MAX)) return -1;
    } while (!atomic_compare_exchange_weak(&session->control, &old, (old | set) & ~(uint64_t)clear));
    return (uint32_t)old;
}

int sv_session_bind(struct sv_session *session, uint64_t id, uint32_t uid) {
    uint64_t expected = 0;
    if (atomic_compare_exchange_strong(&session->uid, &expected, id << 32 | uid)) {
        if (atomic_load(&session->id) == id) return 1;
        uint64_t mine = id << 32 | uid; /* the slot changed hands meanwhile: take it back, if it is still there */
        atomic_compare_exchange_strong(&session->uid, &mine, 0);
        return -1;
    }
    return expected >> 32 == (id & UINT32_MAX) ? 0 : -1;
}

bool sv_session_uid(const struct sv_session *session, uint64_t id, uint32_t *uid) {
    uint64_t word = atomic_load_explicit(&session->uid, memory_order_acquire);
    *uid = (uint32_t)word;
    return word && word >> 32 == (id & UINT32_MAX);
}

int64_t sv_session_next_live(const struct sv_session_table *table, int64_t slot) {
    uint64_t last_word = table->mask >> 6;
    if ((uint64_t)slot > table->mask) return -1;
    uint64_t word = (uint64_t)slot >> 6;
    uint64_t bits = atomic_load_explicit(&table->live[word], memory_order_acquire) & (~UINT64_C(0) << (slot & 63));
    while (!bits) {
        if (word++ == last_word) return -1;
        bits = atomic_load_explicit(&table->live[word], memory_order_acquire);
    }
    return (int64_t)(word * 64 + (uint64_t)__builtin_ctzll(bits));
}
