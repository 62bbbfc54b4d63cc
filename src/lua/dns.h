/* dns.h: host names to addresses, with c-ares (runtime.md 7): the hosts file and resolv.conf, or the setting dns_server.
 *
 * Answers from servers are kept per process, as dns_cache_expire and dns_cache_capacity say, never longer than their TTL.
 * There are sockets only while somebody waits for an answer; a process that was forked meanwhile begins anew.
 *
 * c-ares is a guest with a little state of its own: ares_library_init() counts its callers, without a lock. It is called
 * with each set of sockets and undone with it, in the one thread that runs Lua.
 *
 * runs in: every process. */
#ifndef SV_LUA_DNS_H
#define SV_LUA_DNS_H

#include <sys/socket.h>

#include "lua/binding.h"

#define SV_LUA_DNS_ADDRESSES 32 /* of one name; more are left out */

struct sv_lua_dns_answer {
    int count;                                               /* at least 1 */
    struct sockaddr_storage addresses[SV_LUA_DNS_ADDRESSES]; /* AF_INET first; ports are 0 */
};

struct sv_lua_dns;
struct sv_lua_dns_query;

/* code: 0, or 712 (timeout), 711 (not found and all else), 501; then there is no answer. It is valid during the call only. */
typedef void (*sv_lua_dns_done)(void *context, int code, const struct sv_lua_dns_answer *answer);

/* Looks a name up: `done` is called once, perhaps before this returns; then *query is NULL. An address is its own answer.
 * family: AF_UNSPEC, AF_INET, AF_INET6; timeout: seconds, negative: as the setting socket_dns_timeout says.
 * 0, or -code without a call of `done`: -509 no loop, -501. What `done` resumes reports its errors itself. */
int sv_lua_dns_start(struct sv_lua *lua, const char *name, int family, double timeout, sv_lua_dns_done done,
                     void *context, struct sv_lua_dns_query **query);
/* `done` is not called any more. The query must not have been answered; NULL is fine. */
void sv_lua_dns_cancel(struct sv_lua_dns_query *query);

/* The same for who must wait in the call. 0 and *answer, or the code negated. */
int sv_lua_dns_block(struct sv_lua *lua, const char *name, int family, double timeout,
                     struct sv_lua_dns_answer *answer);

/* The module srvlua.dns. */
void sv_lua_push_dns_module(lua_State *L, struct sv_lua *lua);
/* Gives up cache and sockets. */
void sv_lua_dns_close(struct sv_lua *lua);

#endif
