/* dns_cache.h: answers of name servers, each until its time is over; when it is full, the one that was used longest ago goes.
 *
 * runs in: every process that looks names up. */
#ifndef SV_LUA_DNS_CACHE_H
#define SV_LUA_DNS_CACHE_H

#include <stdint.h>

struct sv_lua_dns_answer;
struct sv_lua_dns_cache;

/* NULL: no memory. */
struct sv_lua_dns_cache *sv_lua_dns_cache_new(void);
void sv_lua_dns_cache_free(struct sv_lua_dns_cache *cache);
/* The answer for a name (of any case) and a family, valid until the next call here; NULL: none, or its time is over. */
const struct sv_lua_dns_answer *sv_lua_dns_cache_find(struct sv_lua_dns_cache *cache, const char *name, int family);
/* Keeps a copy for so many seconds, and `capacity` answers at most; without memory it is not kept. */
void sv_lua_dns_cache_put(struct sv_lua_dns_cache *cache, const char *name, int family,
                          const struct sv_lua_dns_answer *answer, double seconds, int64_t capacity);
void sv_lua_dns_cache_clear(struct sv_lua_dns_cache *cache);

#endif
