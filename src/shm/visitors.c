/* visitors.c: see visitors.h. */
#include "shm/visitors.h"

#include <arpa/inet.h>
#include <errno.h>
#include <math.h>
#include <string.h>
#include <sys/random.h>

#include "base/clock.h"
#include "base/hash.h"

#define GROUP 16u               /* entries: four cache lines */
#define ENTRIES_PER_CONNECTION 4 /* at a quarter full a group of 16 overflows once in a million, if every client is another */
#define COUNT_BITS 24
#define COUNT_MASK ((UINT64_C(1) << COUNT_BITS) - 1)
#define TAG_MASK (~COUNT_MASK)
#define TRIES 64                /* others that are faster at the same entry; then the client is let in uncounted */
#define LONGEST_NS INT64_C(100000000000000000) /* three years between two connections */

static uint64_t groups_for(int64_t connections) {
    uint64_t groups = 64;
    while (groups * GROUP < (uint64_t)connections * ENTRIES_PER_CONNECTION) groups *= 2;
    return groups;
}

size_t sv_visitors_bytes(int64_t connections) {
    return groups_for(connections) * GROUP * sizeof(struct sv_visitor) + sv_cache_lines(SV_VISIT_RESULTS * sizeof(struct sv_visitor_log));
}

int sv_visitors_init(struct sv_visitors *visitors, struct sv_arena *arena, int64_t connections) {
    visitors->groups = groups_for(connections);
    if (getrandom(visitors->key, sizeof visitors->key, 0) != sizeof visitors->key) return -EIO;
    visitors->logs = sv_arena_alloc(arena, SV_VISIT_RESULTS * sizeof *visitors->logs);
    visitors->entries = sv_arena_alloc(arena, visitors->groups * GROUP * sizeof *visitors->entries);
    return visitors->logs && visitors->entries ? 0 : -ENOMEM;
}

/* ------------------------------------------------------------------------------------------------------- addresses */

/* IPv4 (also of an IPv6 socket, "::ffff:a.b.c.d") is told apart from IPv6 by the first word, which no global /64 has. */
static bool read_network(const char *text, uint64_t *network) {
    static const unsigned char v4_prefix[12] = {[10] = 0xff, [11] = 0xff};
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[16];
    size_t length = strcspn(text, "%"); /* a link-local address's interface */
    if (length >= sizeof address) return false;
    memcpy(address, text, length);
    address[length] = '\0';
    bool is_v4 = inet_pton(AF_INET, address, bytes + 12) == 1;
    if (is_v4)
        memcpy(bytes, v4_prefix, sizeof v4_prefix);
    else if (inet_pton(AF_INET6, address, bytes) == 1)
        is_v4 = memcmp(bytes, v4_prefix, sizeof v4_prefix) == 0;
    else
        return false;
    memcpy(network, is_v4 ? bytes + 8 : bytes, sizeof *network);
    return true;
}

/* --------------------------------------------------------------------------------------------------------- entries */

struct group {
    struct sv_visitor *found, *victim; /* NULL: none */
    uint64_t word;                     /* as it was: of `found`, else of `victim` */
    int64_t live;                      /* of all entries with the tag: two that begin at the same moment may make one each */
};

static struct group look(struct sv_visitor *entries, uint64_t tag, int64_t now_ns) {
    struct group group = {0};
    int64_t least_ns = INT64_MAX;
    uint64_t victim_word = 0;
    for (unsigned i = 0; i < GROUP; i++) {
        uint64_t word = atomic_load(&entries[i].word);
        if (word & TAG_MASK && (word & TAG_MASK) == tag) {
            group.live += (int64_t)(word & COUNT_MASK);
            if (!group.found) group.found = &entries[i], group.word = word;
        } else if (!(word & COUNT_MASK)) {
            int64_t due_ns = atomic_load_explicit(&entries[i].due_ns, memory_order_relaxed);
            if (due_ns < now_ns) due_ns = now_ns; /* the first of those that are as good as none, so that all take the same */
            if (due_ns < least_ns) least_ns = due_ns, group.victim = &entries[i], victim_word = word;
        }
    }
    if (!group.found) group.word = victim_word;
    return group;
}

/* The bucket as a time (GCRA): each connection moves it on by the interval between two; it may be `burst` - 1 of them ahead. */
static bool take_token(struct sv_visitor *entry, double rate, int64_t now_ns) {
    double interval = SV_NS_PER_SECOND / rate;
    int64_t interval_ns = interval < LONGEST_NS ? (int64_t)interval : LONGEST_NS;
    int64_t ahead_ns = ((int64_t)ceil(rate) - 1) * interval_ns;
    int64_t due_ns = atomic_load(&entry->due_ns), next_ns;
    do {
        if (due_ns > now_ns + ahead_ns) return false;
        next_ns = (due_ns > now_ns ? due_ns : now_ns) + interval_ns;
    } while (!atomic_compare_exchange_weak(&entry->due_ns, &due_ns, next_ns));
    return true;
}

enum sv_visit sv_visitors_enter(struct sv_visitors *visitors, const char *address, uint16_t port, int64_t limit, double rate,
                                int64_t now_ns, _Atomic uint64_t *visit) {
    uint64_t key[2] = {0, port};
    atomic_store(visit, 0);
    if (!visitors->entries || (limit == 0 && rate == 0) || !read_network(address, &key[0])) return SV_VISIT_WELCOME;
    uint64_t hash = sv_hash_words(visitors->key, key, 2), first = (hash & (visitors->groups - 1)) * GROUP;
    uint64_t tag = hash & TAG_MASK ? hash & TAG_MASK : ~COUNT_MASK;
    bool has_token = rate == 0;
    for (int tries = 0; tries < TRIES; tries++) {
        struct group group = look(&visitors->entries[first], tag, now_ns);
        if (limit > 0 && group.live >= limit) return SV_VISIT_TOO_MANY;
        struct sv_visitor *entry = group.found ? group.found : group.victim;
        if (!entry) return SV_VISIT_WELCOME;
        if (!group.found) {
            int64_t due_ns = atomic_load(&entry->due_ns);
            if (!atomic_compare_exchange_strong(&entry->word, &group.word, tag)) continue;
            group.word = tag;
            if (due_ns > now_ns) atomic_compare_exchange_strong(&entry->due_ns, &due_ns, now_ns); /* it was another's */
        }
        if (!has_token && !take_token(entry, rate, now_ns)) return SV_VISIT_TOO_FAST;
        has_token = true;
        if (limit == 0) return SV_VISIT_WELCOME;
        atomic_store(visit, tag | (uint64_t)(entry - visitors->entries));
        if (atomic_compare_exchange_strong(&entry->word, &group.word, group.word + 1)) return SV_VISIT_WELCOME;
        atomic_store(visit, 0);
    }
    return SV_VISIT_WELCOME;
}

void sv_visitors_leave(struct sv_visitors *visitors, _Atomic uint64_t *visit) {
    uint64_t value = atomic_load(visit);
    if (!value) return;
    struct sv_visitor *entry = &visitors->entries[value & COUNT_MASK];
    uint64_t word = atomic_load(&entry->word);
    while ((word & TAG_MASK) == (value & TAG_MASK) && word & COUNT_MASK)
        if (atomic_compare_exchange_weak(&entry->word, &word, word - 1)) break;
    atomic_store(visit, 0);
}

bool sv_visitors_may_log(struct sv_visitors *visitors, enum sv_visit result, int64_t now_ns, uint32_t *suppressed) {
    struct sv_visitor_log *log = &visitors->logs[result];
    int64_t next_ns = atomic_load(&log->next_ns);
    if (now_ns < next_ns || !atomic_compare_exchange_strong(&log->next_ns, &next_ns, now_ns + SV_NS_PER_SECOND)) {
        atomic_fetch_add(&log->suppressed, 1);
        return false;
    }
    *suppressed = atomic_exchange(&log->suppressed, 0);
    return true;
}
