/* dns.c: look-ups with c-ares, and the module srvlua.dns; see dns.h.
 *
 *   start ──► known? ──► done            (an address, the cache)
 *     │
 *     └──► lookup, one for all who ask for the same ──► c-ares ──► finished ──► done for each query
 *              query: one who waits; its timer ─────────────────────────────► done with 712
 *
 * c-ares calls back in the middle of its work, where it must not be called. So its answers are only noted there and given
 * out when it has returned. Its sockets and its memory of servers (the channel) go when nobody waits any more. */
#include "lua/dns.h"

#include <ares.h>
#include <arpa/inet.h>
#include <math.h>
#include <netdb.h>
#include <poll.h>
#include <stdlib.h>
#include <string.h>
#include <strings.h>
#include <time.h>
#include <unistd.h>

#include "lua/coroutine.h"
#include "lua/dns_cache.h"
#include "lua/errors.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define NAME_MAX_BYTES 255
#define TICK_MS 100 /* how often c-ares looks whether a server is late */
#define NO_LIMIT_SECONDS 1e9

/* One question to the servers. */
struct lookup {
    struct lookup *next;
    struct sv_lua_dns_query *waiting; /* who wants to know, first come first */
    struct sv_lua_dns *dns;           /* NULL: of a call that blocks */
    bool is_finished;
    int code;
    double ttl; /* seconds; 0: not to be kept */
    int family;
    struct sv_lua_dns_answer answer;
    char name[NAME_MAX_BYTES + 1];
};

/* One who waits. */
struct sv_lua_dns_query {
    struct sv_lua_dns_query *next;
    struct lookup *lookup; /* NULL: answered, or given up */
    struct sv_lua_dns *dns;
    int64_t timer;
    sv_lua_dns_done done;
    void *context;
};

struct socket_watch {
    struct socket_watch *next;
    srvlua_watch *watch;
    ares_socket_t fd;
};

struct sv_lua_dns {
    struct sv_lua *lua;
    struct sv_lua_dns_cache *cache;
    pid_t owner;

    srvlua_loop *loop; /* of the channel */
    ares_channel channel;
    bool has_channel;
    bool is_stale;   /* the loop has gone */
    bool is_foreign; /* it is another process's: this one was forked */
    bool is_giving_out;
    int64_t tick; /* timer of the channel */
    struct socket_watch *watches;
    struct lookup *lookups;
};

/* A setting of the running server, or its default where there is none. */
static double number_setting(const struct sv_lua *lua, const char *name, double otherwise) {
    struct srvlua_value value;

    if (!lua->server || srvlua_get_setting(lua->server->server, name, &value) < 0 || value.type != SRVLUA_VALUE_NUMBER)
        return otherwise;
    return value.number;
}

static double time_limit(const struct sv_lua *lua, double timeout) {
    if (timeout >= 0)
        return fmin(timeout, NO_LIMIT_SECONDS);
    timeout = number_setting(lua, "socket_dns_timeout", 60);
    return timeout > 0 ? fmin(timeout, NO_LIMIT_SECONDS) : NO_LIMIT_SECONDS;
}

/* --------------------------------------------------------------------------------------------------- what is known */

/* Whether the name is an address; then that is the answer. */
static bool is_address(const char *name, struct sv_lua_dns_answer *answer) {
    struct sockaddr_in *v4 = (struct sockaddr_in *)&answer->addresses[0];
    struct sockaddr_in6 *v6 = (struct sockaddr_in6 *)&answer->addresses[0];

    memset(&answer->addresses[0], 0, sizeof answer->addresses[0]);
    answer->count = 1;
    if (inet_pton(AF_INET, name, &v4->sin_addr) == 1)
        v4->sin_family = AF_INET;
    else if (inet_pton(AF_INET6, name, &v6->sin6_addr) == 1)
        v6->sin6_family = AF_INET6;
    else
        return false;
    return true;
}

/* An answer that needs no server, or NULL. `own` is room for it. */
static const struct sv_lua_dns_answer *find_known(struct sv_lua_dns *dns, const char *name, int family,
                                                  struct sv_lua_dns_answer *own) {
    return is_address(name, own) ? own : sv_lua_dns_cache_find(dns->cache, name, family);
}

static void keep(struct sv_lua_dns *dns, const struct lookup *lookup) {
    double longest;

    if (lookup->code != 0 || lookup->ttl <= 0)
        return;
    longest = number_setting(dns->lua, "dns_cache_expire", 60);
    sv_lua_dns_cache_put(dns->cache, lookup->name, lookup->family, &lookup->answer, fmin(longest, lookup->ttl),
                         (int64_t)number_setting(dns->lua, "dns_cache_capacity", 1000));
}

/* ------------------------------------------------------------------------------------------------------------ c-ares */

static void copy_addresses(struct lookup *lookup, const struct ares_addrinfo *info, int family) {
    const struct ares_addrinfo_node *node;
    struct sv_lua_dns_answer *answer = &lookup->answer;

    for (node = info->nodes; node && answer->count < SV_LUA_DNS_ADDRESSES; node = node->ai_next) {
        if (node->ai_family != family || node->ai_addrlen > sizeof answer->addresses[0])
            continue;
        if (answer->count == 0 || node->ai_ttl < lookup->ttl)
            lookup->ttl = node->ai_ttl;
        memset(&answer->addresses[answer->count], 0, sizeof answer->addresses[0]);
        memcpy(&answer->addresses[answer->count++], node->ai_addr, node->ai_addrlen);
    }
}

/* c-ares has an answer, or gives up the lookup with its channel. */
static void note_answer(void *context, int status, int timeouts, struct ares_addrinfo *info) {
    struct lookup *lookup = context;

    (void)timeouts;
    lookup->is_finished = true;
    if (status == ARES_SUCCESS && info) {
        copy_addresses(lookup, info, AF_INET);
        copy_addresses(lookup, info, AF_INET6);
    }
    if (info)
        ares_freeaddrinfo(info);
    if (lookup->answer.count > 0)
        lookup->code = 0;
    else if (status == ARES_ETIMEOUT)
        lookup->code = SRVLUA_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT;
    else if (status == ARES_ENOMEM)
        lookup->code = SRVLUA_ERROR_MALLOC_FAIL;
    else
        lookup->code = SRVLUA_ERROR_DNSLOOKUP_RESOLVE_FAILED;
}

static bool open_channel(const struct sv_lua *lua, ares_channel *channel, ares_sock_state_cb watch_socket,
                         void *context) {
    struct ares_options options = {.sock_state_cb = watch_socket, .sock_state_cb_data = context};
    struct srvlua_value value;
    int status = ares_library_init(ARES_LIB_INIT_ALL);

    if (status != ARES_SUCCESS)
        return false;
    if (ares_init_options(channel, &options, watch_socket ? ARES_OPT_SOCK_STATE_CB : 0) != ARES_SUCCESS) {
        ares_library_cleanup();
        return false;
    }
    if (lua->server && srvlua_get_setting(lua->server->server, "dns_server", &value) == 0 &&
        value.type == SRVLUA_VALUE_STRING && value.length > 0)
        ares_set_servers_ports_csv(*channel, value.string); /* its form was checked */
    return true;
}

static void close_channel(ares_channel channel) {
    ares_destroy(channel);
    ares_library_cleanup();
}

static struct lookup *new_lookup(struct sv_lua_dns *dns, const char *name, int family) {
    struct lookup *lookup = calloc(1, sizeof *lookup);

    if (lookup) {
        lookup->dns = dns;
        lookup->family = family;
        strcpy(lookup->name, name);
    }
    return lookup;
}

/* Asks; the answer may be there at once. Addresses stay in the order of the server. */
static void ask(ares_channel channel, struct lookup *lookup) {
    struct ares_addrinfo_hints hints = {.ai_family = lookup->family, .ai_flags = ARES_AI_NOSORT};

    ares_getaddrinfo(channel, lookup->name, NULL, &hints, note_answer, lookup);
}

/* ------------------------------------------------------------------------------------------------------ in the loop */

static void give_out(struct sv_lua_dns *dns);
static void settle(struct sv_lua_dns *dns);

static int turn_ready(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct sv_lua_dns *dns = user_data;

    (void)loop;
    ares_process_fd(dns->channel, events & SRVLUA_READABLE ? fd : ARES_SOCKET_BAD,
                    events & SRVLUA_WRITABLE ? fd : ARES_SOCKET_BAD);
    give_out(dns);
    return 0;
}

static int turn_tick(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_dns *dns = user_data;

    (void)loop;
    (void)timer_id;
    ares_process_fd(dns->channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    give_out(dns);
    return 0;
}

static void release_tick(void *user_data) {
    struct sv_lua_dns *dns = user_data;

    if (dns->tick != 0)
        dns->is_stale = true; /* nobody has cleared it: the loop ends */
}

/* c-ares has opened a socket, waits for something else of it, or is about to close it. */
static void watch_socket(void *context, ares_socket_t fd, int is_reading, int is_writing) {
    struct sv_lua_dns *dns = context;
    struct socket_watch **link = &dns->watches, *watch;
    int events = (is_reading ? SRVLUA_READABLE : 0) | (is_writing ? SRVLUA_WRITABLE : 0);

    while (*link && (*link)->fd != fd)
        link = &(*link)->next;
    watch = *link;
    if (events == 0) {
        if (!watch)
            return;
        *link = watch->next;
        if (!dns->is_foreign)
            srvlua_watch_free(watch->watch);
        free(watch);
    } else if (watch) {
        srvlua_watch_set(watch->watch, events);
    } else {
        watch = calloc(1, sizeof *watch); /* without memory the servers seem to be silent */
        if (watch)
            watch->watch = srvlua_watch_new(dns->loop, fd, events, turn_ready, dns, NULL);
        if (!watch || !watch->watch) {
            free(watch);
            return;
        }
        srvlua_watch_set_background(watch->watch, 1); /* the timers of those who wait keep the process */
        watch->fd = fd;
        watch->next = dns->watches;
        dns->watches = watch;
    }
}

/* --------------------------------------------------------------------------------------------------------- who waits */

/* Takes a query from its lookup. */
static void detach(struct sv_lua_dns_query *query) {
    struct sv_lua_dns_query **link = &query->lookup->waiting;

    while (*link != query)
        link = &(*link)->next;
    *link = query->next;
    query->lookup = NULL;
}

/* Whatever happens to it, a query goes with its timer. */
static void release_query(void *user_data) {
    struct sv_lua_dns_query *query = user_data;

    if (query->lookup) {
        query->dns->is_stale = true; /* it waits: so the loop ends */
        detach(query);
    }
    free(query);
}

static int turn_late(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_dns_query *query = user_data;
    struct sv_lua_dns *dns = query->dns;
    bool was_giving_out = dns->is_giving_out;

    (void)loop;
    (void)timer_id;
    detach(query);
    dns->is_giving_out = true;
    query->done(query->context, SRVLUA_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT, NULL);
    dns->is_giving_out = was_giving_out;
    settle(dns);
    return 0;
}

static void unlink_lookup(struct sv_lua_dns *dns, const struct lookup *lookup) {
    struct lookup **link = &dns->lookups;

    while (*link != lookup)
        link = &(*link)->next;
    *link = lookup->next;
}

/* Calls `done` for all that have an answer. Anything may be asked and given up meanwhile. */
static void give_out(struct sv_lua_dns *dns) {
    struct lookup *lookup;

    if (dns->is_giving_out)
        return;
    dns->is_giving_out = true;
    for (;;) {
        for (lookup = dns->lookups; lookup && !lookup->is_finished; lookup = lookup->next)
            ;
        if (!lookup)
            break;
        unlink_lookup(dns, lookup);
        keep(dns, lookup);
        while (lookup->waiting) {
            struct sv_lua_dns_query *query = lookup->waiting;
            sv_lua_dns_done done = query->done;
            void *context = query->context;

            detach(query);
            srvlua_timer_clear(dns->loop, query->timer);
            done(context, lookup->code, lookup->code == 0 ? &lookup->answer : NULL);
        }
        free(lookup);
    }
    dns->is_giving_out = false;
    settle(dns);
}

/* Ends the channel; whoever waits yet is forgotten. A stale one has lost its loop, and its timers with it. */
static void end_channel(struct sv_lua_dns *dns) {
    int64_t tick = dns->tick;

    if (!dns->has_channel)
        return;
    dns->has_channel = false;
    dns->tick = 0;
    if (!dns->is_stale && tick > 0)
        srvlua_timer_clear(dns->loop, tick);
    close_channel(dns->channel); /* notes an answer for each lookup */
    while (dns->watches) {
        struct socket_watch *watch = dns->watches;
        dns->watches = watch->next;
        if (!dns->is_foreign)
            srvlua_watch_free(watch->watch);
        free(watch);
    }
    while (dns->lookups) {
        struct lookup *lookup = dns->lookups;
        dns->lookups = lookup->next;
        while (lookup->waiting)
            detach(lookup->waiting);
        free(lookup);
    }
}

/* Ends the channel if nobody waits. */
static void settle(struct sv_lua_dns *dns) {
    const struct lookup *lookup = dns->lookups;

    while (lookup && !lookup->waiting)
        lookup = lookup->next;
    if (!lookup && !dns->is_giving_out)
        end_channel(dns);
}

/* ------------------------------------------------------------------------------------------------------ the interface */

/* The resolver of this process, or NULL: no memory. */
static struct sv_lua_dns *find_dns(struct sv_lua *lua) {
    struct sv_lua_dns *dns = lua->dns;

    if (!dns) {
        dns = calloc(1, sizeof *dns);
        if (dns)
            dns->cache = sv_lua_dns_cache_new();
        if (!dns || !dns->cache) {
            free(dns);
            return NULL;
        }
        dns->lua = lua;
        dns->owner = getpid();
        lua->dns = dns;
    }
    if (dns->owner != getpid()) { /* forked: the loop and who waits in it are another process's */
        dns->owner = getpid();
        dns->is_stale = dns->is_foreign = true;
        dns->is_giving_out = false;
        sv_lua_dns_cache_clear(dns->cache);
    }
    if (dns->is_stale)
        end_channel(dns);
    dns->is_stale = dns->is_foreign = false;
    return dns;
}

static bool ensure_channel(struct sv_lua_dns *dns, srvlua_loop *loop) {
    if (dns->has_channel)
        return true;
    dns->loop = loop;
    if (!open_channel(dns->lua, &dns->channel, watch_socket, dns))
        return false;
    dns->has_channel = true;
    dns->tick = srvlua_timer_add(loop, TICK_MS, 1, turn_tick, dns, release_tick);
    if (dns->tick > 0)
        return true;
    end_channel(dns);
    return false;
}

/* Makes the query of one who waits. NULL: no memory. */
static struct sv_lua_dns_query *wait_for(struct lookup *lookup, double seconds, sv_lua_dns_done done, void *context) {
    struct sv_lua_dns_query *query = calloc(1, sizeof *query), **link = &lookup->waiting;

    if (!query)
        return NULL;
    query->dns = lookup->dns;
    query->done = done;
    query->context = context;
    query->timer = srvlua_timer_add(lookup->dns->loop, (int64_t)fmax(1, ceil(seconds * 1000)), 0, turn_late, query,
                                    release_query);
    if (query->timer < 0) {
        free(query);
        return NULL;
    }
    query->lookup = lookup;
    while (*link)
        link = &(*link)->next;
    *link = query;
    return query;
}

int sv_lua_dns_start(struct sv_lua *lua, const char *name, int family, double timeout, sv_lua_dns_done done,
                     void *context, struct sv_lua_dns_query **query) {
    struct sv_lua_dns_answer own;
    const struct sv_lua_dns_answer *known;
    struct sv_lua_dns *dns = find_dns(lua);
    srvlua_loop *loop = sv_lua_loop(lua);
    struct lookup *lookup;

    *query = NULL;
    if (!loop)
        return -SRVLUA_ERROR_WRONG_OPERATION;
    if (!dns)
        return -SRVLUA_ERROR_MALLOC_FAIL;
    known = find_known(dns, name, family, &own);
    if (known) {
        own = *known; /* the cache may change in `done` */
        done(context, 0, &own);
        return 0;
    }
    if (strlen(name) > NAME_MAX_BYTES) {
        done(context, SRVLUA_ERROR_DNSLOOKUP_RESOLVE_FAILED, NULL);
        return 0;
    }
    for (lookup = dns->lookups; lookup; lookup = lookup->next) {
        if (!lookup->is_finished && lookup->family == family && strcasecmp(lookup->name, name) == 0)
            break;
    }
    if (!lookup) {
        if (!ensure_channel(dns, loop))
            return -SRVLUA_ERROR_MALLOC_FAIL;
        lookup = new_lookup(dns, name, family);
        if (lookup) {
            lookup->next = dns->lookups;
            dns->lookups = lookup;
            ask(dns->channel, lookup);
        }
    }
    if (lookup && lookup->is_finished) {
        unlink_lookup(dns, lookup);
        settle(dns);
        keep(dns, lookup);
        done(context, lookup->code, lookup->code == 0 ? &lookup->answer : NULL);
        free(lookup);
        return 0;
    }
    if (lookup)
        *query = wait_for(lookup, time_limit(lua, timeout), done, context);
    settle(dns); /* if there was no memory */
    return *query ? 0 : -SRVLUA_ERROR_MALLOC_FAIL;
}

void sv_lua_dns_cancel(struct sv_lua_dns_query *query) {
    struct sv_lua_dns *dns;

    if (!query)
        return;
    dns = query->dns;
    detach(query);
    srvlua_timer_clear(dns->loop, query->timer);
    settle(dns);
}

/* Milliseconds until c-ares wants to look again, or until the time is over. */
static int milliseconds_to_wait(ares_channel channel, double left) {
    struct timeval most = {.tv_sec = (time_t)left, .tv_usec = (suseconds_t)((left - floor(left)) * 1e6)}, room;
    const struct timeval *wait = ares_timeout(channel, &most, &room);

    return (int)fmin(1e6, (double)wait->tv_sec * 1e3 + (double)wait->tv_usec / 1e3 + 1);
}

/* Waits until c-ares has an answer or the time is over. */
static void wait_blocking(ares_channel channel, const struct lookup *lookup, double end) {
    while (!lookup->is_finished) {
        ares_socket_t sockets[ARES_GETSOCK_MAXNUM];
        struct pollfd polled[ARES_GETSOCK_MAXNUM];
        /* Two bits for each socket; the macros for them shift an int too far. */
        unsigned mask = (unsigned)ares_getsock(channel, sockets, ARES_GETSOCK_MAXNUM);
        double left = end - sv_lua_now();
        int count = 0, i;

        if (left <= 0)
            return;
        for (i = 0; i < ARES_GETSOCK_MAXNUM; i++) {
            short events = (mask >> i & 1 ? POLLIN : 0) | (mask >> (i + ARES_GETSOCK_MAXNUM) & 1 ? POLLOUT : 0);
            if (events)
                polled[count++] = (struct pollfd){.fd = sockets[i], .events = events};
        }
        if (poll(polled, (nfds_t)count, milliseconds_to_wait(channel, left)) < 0)
            count = 0; /* a signal, or no memory: look at the time again */
        for (i = 0; i < count; i++) {
            int events = polled[i].revents;
            if (events)
                ares_process_fd(channel, events & ~POLLOUT ? polled[i].fd : ARES_SOCKET_BAD,
                                events & POLLOUT ? polled[i].fd : ARES_SOCKET_BAD);
        }
        ares_process_fd(channel, ARES_SOCKET_BAD, ARES_SOCKET_BAD);
    }
}

/* What a process waits for that stands beside its loop (waiting.h). */
struct turning {
    bool is_done;
    int code;
    struct sv_lua_dns_answer *answer;
};

static void finish_turning(void *context, int code, const struct sv_lua_dns_answer *answer) {
    struct turning *turning = context;

    turning->is_done = true;
    turning->code = code;
    if (code == 0)
        *turning->answer = *answer;
}

static int turn_until_answered(struct sv_lua *lua, const char *name, int family, double timeout,
                               struct sv_lua_dns_answer *answer) {
    struct turning turning = {.answer = answer};
    struct sv_lua_dns_query *query;
    int result = sv_lua_dns_start(lua, name, family, timeout, finish_turning, &turning, &query);

    if (result < 0)
        return result;
    lua->may_turn = false; /* what runs in it waits by itself */
    while (!turning.is_done)
        srvlua_loop_turn(sv_lua_loop(lua), -1);
    lua->may_turn = true;
    return -turning.code;
}

int sv_lua_dns_block(struct sv_lua *lua, const char *name, int family, double timeout,
                     struct sv_lua_dns_answer *answer) {
    struct sv_lua_dns_answer own;
    const struct sv_lua_dns_answer *known;
    struct sv_lua_dns *dns = find_dns(lua);
    struct lookup *lookup;
    ares_channel channel;
    int code;

    if (lua->may_turn)
        return turn_until_answered(lua, name, family, timeout, answer);
    if (!dns)
        return -SRVLUA_ERROR_MALLOC_FAIL;
    known = find_known(dns, name, family, &own);
    if (known) {
        *answer = *known;
        return 0;
    }
    if (strlen(name) > NAME_MAX_BYTES)
        return -SRVLUA_ERROR_DNSLOOKUP_RESOLVE_FAILED;
    lookup = new_lookup(NULL, name, family);
    if (!lookup || !open_channel(lua, &channel, NULL, NULL)) {
        free(lookup);
        return -SRVLUA_ERROR_MALLOC_FAIL;
    }
    ask(channel, lookup);
    wait_blocking(channel, lookup, sv_lua_now() + time_limit(lua, timeout));
    code = lookup->is_finished ? lookup->code : SRVLUA_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT;
    close_channel(channel);
    if (code == 0) {
        keep(dns, lookup);
        *answer = lookup->answer;
    }
    free(lookup);
    return -code;
}

void sv_lua_dns_close(struct sv_lua *lua) {
    struct sv_lua_dns *dns = lua->dns;

    if (!dns)
        return;
    dns->is_stale = true; /* the loops are gone, or go themselves */
    dns->is_foreign = dns->owner != getpid();
    end_channel(dns);
    sv_lua_dns_cache_free(dns->cache);
    free(dns);
    lua->dns = NULL;
}

/* --------------------------------------------------------------------------------------------------------- the module */

/* What dns.resolve waits for. */
struct resolving {
    struct sv_lua_coroutine *coroutine; /* NULL until it is suspended */
    lua_State *L;                       /* where to push what is known at once */
    int count;                          /* of values pushed there */
};

static int push_answer(lua_State *L, int code, const struct sv_lua_dns_answer *answer) {
    char text[INET6_ADDRSTRLEN];
    int i;

    if (code != 0)
        return sv_lua_fail_code(L, code);
    lua_createtable(L, answer->count, 0);
    for (i = 0; i < answer->count; i++) {
        const struct sockaddr_storage *address = &answer->addresses[i];
        const void *bytes = address->ss_family == AF_INET
                                ? (const void *)&((const struct sockaddr_in *)address)->sin_addr
                                : &((const struct sockaddr_in6 *)address)->sin6_addr;
        lua_pushstring(L, inet_ntop(address->ss_family, bytes, text, sizeof text));
        lua_rawseti(L, -2, i + 1);
    }
    return 1;
}

static void finish_resolving(void *context, int code, const struct sv_lua_dns_answer *answer) {
    struct resolving *resolving = context;
    struct sv_lua_coroutine *coroutine = resolving->coroutine;
    struct sv_lua *lua;
    int count;

    if (!coroutine) {
        resolving->count = push_answer(resolving->L, code, answer);
        return;
    }
    lua = coroutine->lua;
    lua_checkstack(lua->L, LUA_MINSTACK);
    count = push_answer(lua->L, code, answer);
    lua_xmove(lua->L, coroutine->L, count);
    if (sv_lua_resume(coroutine, count) != 0)
        sv_lua_count_failure(lua);
}

static int family_option(lua_State *L) {
    const char *family = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";

    if (lua_isnil(L, -1) || strcmp(family, "any") == 0)
        return AF_UNSPEC;
    if (strcmp(family, "inet") == 0)
        return AF_INET;
    if (strcmp(family, "inet6") == 0)
        return AF_INET6;
    return sv_lua_argument_error(L, 2, "field 'family': 'any', 'inet' or 'inet6' expected");
}

static double timeout_option(lua_State *L) {
    double timeout = lua_tonumber(L, -1);

    if (lua_isnil(L, -1))
        return -1;
    if (lua_type(L, -1) != LUA_TNUMBER || !(timeout > 0))
        sv_lua_argument_error(L, 2, "field 'timeout': seconds above 0 expected");
    return timeout;
}

static void check_options(lua_State *L, int *family, double *timeout) {
    *family = AF_UNSPEC;
    *timeout = -1;
    if (lua_isnoneornil(L, 2))
        return;
    if (!lua_istable(L, 2))
        sv_lua_type_error(L, 2, "table");
    lua_getfield(L, 2, "family");
    *family = family_option(L);
    lua_getfield(L, 2, "timeout");
    *timeout = timeout_option(L);
    lua_pop(L, 2);
}

/* dns.resolve(name [, { family =, timeout = }]) -> sequence of addresses | false, message, code */
static int resolve(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    const char *name = sv_lua_check_text(L, 1);
    struct sv_lua_coroutine *coroutine;
    struct sv_lua_dns_query *query;
    struct resolving *resolving;
    int family, result;
    double timeout;

    check_options(L, &family, &timeout);
    coroutine = sv_lua_suspendable(L);
    if (!coroutine) {
        struct sv_lua_dns_answer answer;
        result = sv_lua_dns_block(lua, name, family, timeout, &answer);
        return push_answer(L, -result, &answer);
    }
    resolving = lua_newuserdata(L, sizeof *resolving);
    *resolving = (struct resolving){.L = L};
    result = sv_lua_dns_start(lua, name, family, timeout, finish_resolving, resolving, &query);
    if (result == 0 && query) {
        resolving->coroutine = coroutine;
        lua_replace(L, 1); /* it stays there while the coroutine waits */
        return sv_lua_suspend_with(L, coroutine, "dns.resolve", 1);
    }
    return result < 0 ? sv_lua_fail_code(L, -result) : resolving->count;
}

/* dns.clearCache() -> true */
static int clear_cache(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    if (lua->dns)
        sv_lua_dns_cache_clear(lua->dns->cache);
    lua_pushboolean(L, 1);
    return 1;
}

void sv_lua_push_dns_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("resolve", resolve),
        SV_LUA_FUNCTION("clearCache", clear_cache),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, functions);
}
