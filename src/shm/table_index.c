/* table_index.c: which rows a table has: chains, places, lanes, and what to do after a death; see table.h.
 *
 * Chains are lists without locks, after Harris and Michael: a row is taken out by marking its own link, so that nobody
 * links behind it any more, and then by unlinking it, which anyone may do. Rows are linked at the front only, so that
 * one compare-and-swap of the bucket also proves that no row with the same key was linked since the search. */
#include "shm/table.h"

#include <errno.h>
#include <string.h>

#include "base/hash.h"

#define NO_PLACE (-1)

/* ---------------------------------------------------------------------------------------------------------- links */

/* counter << 33 | place + 1 << 1 | mark. The counter grows with every change of a link, also when its place is used
 * again. */
static uint64_t make_link(uint64_t next, uint64_t mark, uint64_t previous) {
    return ((previous >> 33) + 1) << 33 | next << 1 | mark;
}

static uint64_t link_next(uint64_t link) { return link >> 1 & UINT32_MAX; } /* place + 1; 0 ends the chain */

static bool is_marked(uint64_t link) { return link & 1; }

static bool swap_link(_Atomic uint64_t *link, uint64_t before, uint64_t after) {
    return atomic_compare_exchange_strong(link, &before, after);
}

static _Atomic uint64_t *bucket_of(const srvlua_table *table, uint64_t hash) {
    return &table->buckets[hash & table->bucket_mask];
}

/* Searches the bucket's chain for the key, unlinking what is marked; without key it only does that, to the chain's end.
 * *first is the bucket as it was when the search began, *passed (may be NULL) how many rows were passed. Place or
 * NO_PLACE. */
static int64_t search_chain(const srvlua_table *table, _Atomic uint64_t *bucket, const struct sv_key *key,
                            uint64_t *first, uint64_t *passed) {
    _Atomic uint64_t *previous;
    uint64_t link, count;
again:
    previous = bucket;
    link = *first = atomic_load(bucket);
    count = 0;
    while (link_next(link)) {
        uint64_t place = link_next(link) - 1;
        struct sv_row *row = sv_table_row(table, place);
        uint64_t next = atomic_load(&row->next);
        /* Only while the link leads here is `next` this chain's: the place may be another row's by now. */
        if (atomic_load(previous) != link)
            goto again;
        if (is_marked(next)) {
            uint64_t shorter = make_link(link_next(next), 0, link);
            if (!swap_link(previous, link, shorter))
                goto again;
            if (previous == bucket)
                *first = shorter;
            link = shorter;
            continue;
        }
        if (key && sv_row_has_key(row, key)) {
            /* A key that was read while the link stood still is that of a row in this chain, not of the place's next
             * row. */
            if (atomic_load(&row->next) != next)
                goto again;
            if (passed)
                *passed = count;
            return (int64_t)place;
        }
        count++;
        previous = &row->next;
        link = next;
    }
    if (passed)
        *passed = count;
    return NO_PLACE;
}

int64_t sv_table_find(const srvlua_table *table, const struct sv_key *key) {
    uint64_t first;
    return search_chain(table, bucket_of(table, key->hash), key, &first, NULL);
}

static void mark(struct sv_row *row) {
    uint64_t next = atomic_load(&row->next);
    while (!is_marked(next) &&
           !atomic_compare_exchange_weak(&row->next, &next, make_link(link_next(next), 1, next)))
        ;
}

/* Hash of the key that is in a row, which may be half written. */
static uint64_t hash_in_row(const srvlua_table *table, struct sv_row *row) {
    uint64_t words[SV_KEY_WORDS];
    for (int i = 0; i < SV_KEY_WORDS; i++)
        words[i] = atomic_load_explicit(&row->key[i], memory_order_relaxed);
    return sv_hash_words(table->head->seed, words, sv_key_used(words));
}

/* Takes a row that is not live out of its chain, if it is in one, and frees its place. The caller owns it, and may die
 * anywhere in here: all of it can be done again. A key that is half written was never linked: any bucket does. */
static void retire(const srvlua_table *table, uint64_t place, uint64_t hash) {
    uint64_t first;
    mark(sv_table_row(table, place));
    search_chain(table, bucket_of(table, hash), NULL, &first, NULL);
    sv_freemap_clear(&table->taken, place);
}

/* ---------------------------------------------------------------------------------------------------------- lanes */

static uint64_t make_word(uint32_t rows, uint64_t place_plus_one) { return (uint64_t)rows << 32 | place_plus_one; }

static uint32_t word_rows(uint64_t word) { return (uint32_t)(word >> 32); }

static uint64_t word_place(uint64_t word) { return word & UINT32_MAX; } /* + 1 */

/* What the lane adds to the number of rows: with the change that has begun, if the row's version says that it has
 * happened. */
static uint32_t rows_of_lane(const srvlua_table *table, struct sv_lane *lane) {
    for (;;) {
        uint64_t sequence = atomic_load_explicit(&lane->sequence, memory_order_acquire);
        uint64_t word = atomic_load_explicit(&lane->word, memory_order_acquire);
        uint32_t rows = word_rows(word);
        if (!word_place(word))
            return rows;
        uint64_t expected = atomic_load_explicit(&lane->expected, memory_order_relaxed);
        int32_t change = atomic_load_explicit(&lane->change, memory_order_relaxed);
        struct sv_row *row = sv_table_row(table, word_place(word) - 1);
        if (atomic_load_explicit(&row->version, memory_order_acquire) == expected)
            rows += (uint32_t)change;
        atomic_thread_fence(memory_order_acquire);
        if (atomic_load_explicit(&lane->word, memory_order_relaxed) == word &&
            atomic_load_explicit(&lane->sequence, memory_order_relaxed) == sequence)
            return rows;
    }
}

int64_t sv_table_count(const srvlua_table *table) {
    uint32_t shares[SV_TABLE_LANES], again[SV_TABLE_LANES], sum = 0;
    /* Twice the same shares are those of one instant. Where rows come and go all the time, the last look must do. */
    for (int turn = 0; turn < 8; turn++) {
        sum = 0;
        for (int i = 0; i < SV_TABLE_LANES; i++)
            sum += again[i] = rows_of_lane(table, &table->lanes[i]);
        if (turn > 0 && memcmp(shares, again, sizeof shares) == 0)
            break;
        memcpy(shares, again, sizeof shares);
    }
    if (sum <= table->capacity)
        return sum;
    return sum - (uint32_t)table->capacity < UINT32_C(1) << 30 ? (int64_t)table->capacity : 0; /* below 0 */
}

/* Changes the version of a row that comes or goes, and the number of rows with it. */
static void change_life(struct sv_lane *lane, uint64_t place, struct sv_row *row, uint64_t version, int32_t change) {
    uint32_t rows = word_rows(atomic_load_explicit(&lane->word, memory_order_relaxed));
    uint64_t sequence = atomic_load_explicit(&lane->sequence, memory_order_relaxed);
    atomic_store_explicit(&lane->sequence, sequence + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release);
    atomic_store_explicit(&lane->expected, version, memory_order_relaxed);
    atomic_store_explicit(&lane->change, change, memory_order_relaxed);
    atomic_store_explicit(&lane->word, make_word(rows, place + 1), memory_order_release);
    atomic_store_explicit(&row->version, version, memory_order_release);
    atomic_store_explicit(&lane->word, make_word(rows + (uint32_t)change, 0), memory_order_release);
}

/* Puts a row right that was taken over from a dead process: ends the change that a lane has begun with it, and moves
 * its version on, for the dead may have changed a word in place without saying so. */
static void recover_row(const srvlua_table *table, uint64_t place) {
    struct sv_row *row = sv_table_row(table, place);
    for (int i = 0; i < SV_TABLE_LANES; i++) {
        uint64_t word = atomic_load(&table->lanes[i].word);
        if (word_place(word) == place + 1)
            atomic_compare_exchange_strong(&table->lanes[i].word, &word,
                                           make_word(rows_of_lane(table, &table->lanes[i]), 0));
    }
    uint64_t version = atomic_load_explicit(&row->version, memory_order_relaxed);
    atomic_store_explicit(&row->version, version + SV_ROW_STEP, memory_order_release);
}

/* Finishes what the lane's last holder died over. False if that row is somebody's now: who took it over is at it. */
static bool repair_lane(const srvlua_table *table, struct sv_lane *lane, uint64_t held, uint64_t me) {
    uint64_t place = atomic_load_explicit(&lane->place, memory_order_relaxed) - 1;
    if (place != held) {
        struct sv_row *row = sv_table_row(table, place);
        enum sv_taken taken = sv_owner_try_hard(&row->owner, me);
        if (taken == SV_NOT_TAKEN)
            return false;
        if (taken == SV_TAKEN_FROM_DEAD) {
            recover_row(table, place);
            if (!(atomic_load(&row->version) & SV_ROW_LIVE))
                retire(table, place, hash_in_row(table, row));
        }
        sv_owner_give(&row->owner);
    }
    atomic_store_explicit(&lane->place, 0, memory_order_relaxed);
    return true;
}

/* A lane for work on a row that the caller owns. Lanes are held for less than a microsecond, unless their holder was
 * stopped or died: the dead are looked for when no lane is free. */
static struct sv_lane *enter_lane(const srvlua_table *table, uint64_t hash, uint64_t place) {
    uint64_t me = sv_self_id(&table->self);
    for (unsigned turn = 0;; turn++) {
        for (uint64_t i = 0; i < SV_TABLE_LANES; i++) {
            struct sv_lane *lane = &table->lanes[((hash >> 32) + i) % SV_TABLE_LANES];
            if (!sv_owner_try(&lane->owner, me) &&
                (turn == 0 || sv_owner_try_hard(&lane->owner, me) == SV_NOT_TAKEN))
                continue;
            if (atomic_load_explicit(&lane->place, memory_order_relaxed) && !repair_lane(table, lane, place, me)) {
                sv_owner_give(&lane->owner);
                continue;
            }
            atomic_store_explicit(&lane->place, (uint32_t)(place + 1), memory_order_release);
            return lane;
        }
        if (turn > 0)
            sv_nap(turn);
    }
}

static void leave_lane(struct sv_lane *lane) {
    atomic_store_explicit(&lane->place, 0, memory_order_release);
    sv_owner_give(&lane->owner);
}

/* ------------------------------------------------------------------------------------------------------ inserting */

struct claim {
    const srvlua_table *table;
    uint64_t me;
    bool looks_for_dead;
};

/* Becomes the owner of a free place. */
static bool claim_place(void *context, uint64_t place) {
    const struct claim *claim = context;
    struct sv_row *row = sv_table_row(claim->table, place);
    enum sv_taken taken = sv_owner_try(&row->owner, claim->me) ? SV_TAKEN
                          : claim->looks_for_dead              ? sv_owner_try_hard(&row->owner, claim->me)
                                                               : SV_NOT_TAKEN;
    if (taken == SV_NOT_TAKEN)
        return false;
    if (taken == SV_TAKEN_FROM_DEAD)
        recover_row(claim->table, place);
    if (!sv_freemap_is_taken(&claim->table->taken, place) && !(atomic_load(&row->version) & SV_ROW_LIVE))
        return true;
    sv_owner_give(&row->owner);
    return false;
}

/* Becomes the owner of a blank row. NO_PLACE when the table is full. */
static int64_t take_place(const srvlua_table *table) {
    struct claim claim = {.table = table, .me = sv_self_id(&table->self)};
    int64_t place = sv_freemap_find(&table->taken, claim_place, &claim);
    if (place >= 0 || sv_table_count(table) >= table->size)
        return place;
    /* Fewer rows than there should be room for: the dead hold places, or left hints that are wrong, or many rows are
     * being made at this moment. (What the dead hold in lanes is less than there is to spare.) */
    claim.looks_for_dead = true;
    for (unsigned turn = 0; turn < 20 && sv_table_count(table) < table->size; turn++) {
        sv_freemap_forget(&table->taken);
        place = sv_freemap_find(&table->taken, claim_place, &claim);
        if (place >= 0)
            return place;
        sv_nap(turn);
    }
    return NO_PLACE;
}

static void count_conflict(const srvlua_table *table, struct sv_lane *lane, uint64_t passed) {
    if (passed == 0)
        return;
    atomic_fetch_add_explicit(&lane->conflicts, 1, memory_order_relaxed);
    uint64_t longest = atomic_load_explicit(&table->head->longest, memory_order_relaxed);
    while (passed > longest && !atomic_compare_exchange_weak(&table->head->longest, &longest, passed))
        ;
}

/* Links a row that is not live yet. False if the key has one. */
static bool link_row(const srvlua_table *table, struct sv_lane *lane, uint64_t place, const struct sv_key *key) {
    struct sv_row *row = sv_table_row(table, place);
    _Atomic uint64_t *bucket = bucket_of(table, key->hash);
    uint64_t first, passed;
    do {
        if (search_chain(table, bucket, key, &first, &passed) != NO_PLACE)
            return false;
        atomic_store(&row->next, make_link(link_next(first), 0, atomic_load(&row->next)));
    } while (!swap_link(bucket, first, make_link(place + 1, 0, first)));
    count_conflict(table, lane, passed);
    return true;
}

int sv_table_insert(const srvlua_table *table, const struct sv_key *key, const struct srvlua_cell *cells,
                    size_t count) {
    int64_t found = take_place(table);
    if (found < 0)
        return -SRVLUA_ERROR_MALLOC_FAIL;
    uint64_t place = (uint64_t)found;
    struct sv_row *row = sv_table_row(table, place);
    struct sv_lane *lane = enter_lane(table, key->hash, place);
    sv_freemap_set(&table->taken, place);
    for (int i = 0; i < SV_KEY_WORDS; i++)
        atomic_store_explicit(&row->key[i], key->words[i], memory_order_relaxed);
    bool is_linked = link_row(table, lane, place, key);
    if (is_linked) {
        uint64_t version = sv_row_prepare(table, row, cells, count);
        /* After linking: a row of the same key that a walk has met was gone then, so that walk is older than this. */
        atomic_store(&row->birth, atomic_load(&table->head->epoch));
        change_life(lane, place, row, version, 1);
        atomic_fetch_add_explicit(&lane->inserts, 1, memory_order_relaxed);
    } else {
        retire(table, place, key->hash);
    }
    leave_lane(lane);
    sv_owner_give(&row->owner);
    return is_linked ? 0 : -EAGAIN;
}

/* ------------------------------------------------------------------------------------------------ owning, deleting */

struct sv_row *sv_table_own(const srvlua_table *table, uint64_t place, const struct sv_key *key) {
    struct sv_row *row = sv_table_row(table, place);
    enum sv_taken taken = sv_owner_take(&row->owner, sv_self_id(&table->self));
    if (taken == SV_TAKEN_FROM_DEAD)
        recover_row(table, place);
    bool is_live = atomic_load_explicit(&row->version, memory_order_relaxed) & SV_ROW_LIVE;
    if (is_live && (!key || sv_row_has_key(row, key)))
        return row;
    if (!is_live && taken == SV_TAKEN_FROM_DEAD)
        retire(table, place, hash_in_row(table, row));
    sv_owner_give(&row->owner);
    return NULL;
}

void sv_table_delete(const srvlua_table *table, uint64_t place) {
    struct sv_row *row = sv_table_row(table, place);
    uint64_t hash = hash_in_row(table, row);
    struct sv_lane *lane = enter_lane(table, hash, place);
    uint64_t version = atomic_load_explicit(&row->version, memory_order_relaxed);
    change_life(lane, place, row, (version & ~(uint64_t)SV_ROW_LIVE) + SV_ROW_STEP, -1);
    atomic_fetch_add_explicit(&lane->deletes, 1, memory_order_relaxed);
    retire(table, place, hash);
    leave_lane(lane);
    sv_owner_give(&row->owner);
}
