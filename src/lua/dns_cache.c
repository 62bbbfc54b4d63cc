/* dns_cache.c: see dns_cache.h. A hash table of chains, and a list of all entries, the one used last at its head. */
#include "lua/dns_cache.h"

#include <ctype.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>

#include "lua/dns.h"

#define BUCKETS 4096 /* 32 KiB; chains stay short up to some ten thousand names */

struct entry {
    struct entry *next;          /* in its bucket */
    struct entry *newer, *older; /* in the order of use */
    double end;                  /* seconds of the monotonic clock */
    unsigned bucket;
    int family;
    struct sv_lua_dns_answer *answer; /* cut to what it holds */
    char name[];
};

struct sv_lua_dns_cache {
    struct entry *buckets[BUCKETS];
    struct entry *newest, *oldest;
    struct sv_lua_dns_answer found; /* what the last look-up gave out */
    int64_t count;
};

static double now(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (double)time.tv_sec + (double)time.tv_nsec / 1e9;
}

/* FNV-1a. */
static unsigned bucket_of(const char *name, int family) {
    uint32_t hash = 2166136261u ^ (uint32_t)family;

    for (; *name; name++)
        hash = (hash ^ (uint32_t)tolower((unsigned char)*name)) * 16777619u;
    return hash % BUCKETS;
}

static size_t size_of(const struct sv_lua_dns_answer *answer) {
    return offsetof(struct sv_lua_dns_answer, addresses) + (size_t)answer->count * sizeof answer->addresses[0];
}

static void take_from_order(struct sv_lua_dns_cache *cache, struct entry *entry) {
    *(entry->newer ? &entry->newer->older : &cache->newest) = entry->older;
    *(entry->older ? &entry->older->newer : &cache->oldest) = entry->newer;
}

static void put_first(struct sv_lua_dns_cache *cache, struct entry *entry) {
    entry->newer = NULL;
    entry->older = cache->newest;
    *(cache->newest ? &cache->newest->newer : &cache->oldest) = entry;
    cache->newest = entry;
}

static void remove_entry(struct sv_lua_dns_cache *cache, struct entry *entry) {
    struct entry **link = &cache->buckets[entry->bucket];

    while (*link != entry)
        link = &(*link)->next;
    *link = entry->next;
    take_from_order(cache, entry);
    cache->count--;
    free(entry->answer);
    free(entry);
}

static struct entry *find_entry(struct sv_lua_dns_cache *cache, const char *name, int family) {
    struct entry *entry = cache->buckets[bucket_of(name, family)];

    while (entry && (entry->family != family || strcasecmp(entry->name, name) != 0))
        entry = entry->next;
    return entry;
}

struct sv_lua_dns_cache *sv_lua_dns_cache_new(void) {
    return calloc(1, sizeof(struct sv_lua_dns_cache));
}

void sv_lua_dns_cache_clear(struct sv_lua_dns_cache *cache) {
    while (cache->oldest)
        remove_entry(cache, cache->oldest);
}

void sv_lua_dns_cache_free(struct sv_lua_dns_cache *cache) {
    if (cache)
        sv_lua_dns_cache_clear(cache);
    free(cache);
}

const struct sv_lua_dns_answer *sv_lua_dns_cache_find(struct sv_lua_dns_cache *cache, const char *name, int family) {
    struct entry *entry = find_entry(cache, name, family);

    if (!entry)
        return NULL;
    if (entry->end <= now()) {
        remove_entry(cache, entry);
        return NULL;
    }
    take_from_order(cache, entry);
    put_first(cache, entry);
    memcpy(&cache->found, entry->answer, size_of(entry->answer));
    return &cache->found;
}

void sv_lua_dns_cache_put(struct sv_lua_dns_cache *cache, const char *name, int family,
                          const struct sv_lua_dns_answer *answer, double seconds, int64_t capacity) {
    struct entry *entry = find_entry(cache, name, family);
    size_t size = size_of(answer), name_size = strlen(name) + 1;

    if (entry)
        remove_entry(cache, entry);
    while (cache->oldest && cache->count >= capacity)
        remove_entry(cache, cache->oldest);
    if (capacity <= 0 || seconds <= 0)
        return;
    entry = calloc(1, sizeof *entry + name_size);
    if (entry)
        entry->answer = malloc(size);
    if (!entry || !entry->answer) {
        free(entry);
        return;
    }
    memcpy(entry->name, name, name_size);
    memcpy(entry->answer, answer, size);
    entry->family = family;
    entry->end = now() + seconds;
    entry->bucket = bucket_of(name, family);
    entry->next = cache->buckets[entry->bucket];
    cache->buckets[entry->bucket] = entry;
    put_first(cache, entry);
    cache->count++;
}
