/* lookup.c: see lookup.h. */
#include "lua/client/lookup.h"

#include <arpa/inet.h>
#include <errno.h>
#include <netinet/in.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/un.h>

#include "lua/client/client.h"
#include "lua/client/words.h"
#include "lua/dns.h"

#define UNIX_PREFIX "unix:"

bool sv_lookup_is_unix(const char *host) { return strncmp(host, UNIX_PREFIX, sizeof UNIX_PREFIX - 1) == 0; }

int sv_lookup_set_path(struct sv_lookup *lookup, const char *path) {
    struct sockaddr_un *address = (struct sockaddr_un *)&lookup->literal;

    if (sv_lookup_is_unix(path))
        path += sizeof UNIX_PREFIX - 1;
    if (strlen(path) >= sizeof address->sun_path)
        return -ENAMETOOLONG;
    address->sun_family = AF_UNIX;
    strcpy(address->sun_path, path);
    lookup->addresses = &lookup->literal;
    lookup->count = 1;
    return 0;
}

socklen_t sv_lookup_size(const struct sockaddr_storage *address) {
    if (address->ss_family == AF_UNIX)
        return (socklen_t)(offsetof(struct sockaddr_un, sun_path) + strlen(((struct sockaddr_un *)address)->sun_path) +
                           1);
    return address->ss_family == AF_INET6 ? sizeof(struct sockaddr_in6) : sizeof(struct sockaddr_in);
}

int sv_lookup_push(lua_State *L, const struct sockaddr_storage *address, socklen_t size) {
    char text[INET6_ADDRSTRLEN] = "";

    if (address->ss_family == AF_UNIX) {
        size_t offset = offsetof(struct sockaddr_un, sun_path);
        const char *path = ((const struct sockaddr_un *)address)->sun_path;
        size_t length = size > offset ? size - offset : 0;
        lua_pushlstring(L, path,
                        length && path[0] ? strnlen(path, length) : length); /* an abstract one has all of it */
        return 1;
    }
    if (address->ss_family == AF_INET6) {
        inet_ntop(AF_INET6, &((const struct sockaddr_in6 *)address)->sin6_addr, text, sizeof text);
        lua_pushstring(L, text);
        lua_pushinteger(L, ntohs(((const struct sockaddr_in6 *)address)->sin6_port));
    } else {
        inet_ntop(AF_INET, &((const struct sockaddr_in *)address)->sin_addr, text, sizeof text);
        lua_pushstring(L, text);
        lua_pushinteger(L, ntohs(((const struct sockaddr_in *)address)->sin_port));
    }
    return 2;
}

static void set_port(struct sockaddr_storage *address, int port) {
    if (address->ss_family == AF_INET6)
        ((struct sockaddr_in6 *)address)->sin6_port = htons((uint16_t)port);
    else
        ((struct sockaddr_in *)address)->sin_port = htons((uint16_t)port);
}

/* An address as text, IPv6 in brackets too. */
static bool read_literal(struct sockaddr_storage *address, const char *host) {
    struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
    struct sockaddr_in *four = (struct sockaddr_in *)address;
    char text[INET6_ADDRSTRLEN];
    size_t length = strlen(host);

    if (inet_pton(AF_INET, host, &four->sin_addr) == 1) {
        four->sin_family = AF_INET;
        return true;
    }
    if (length > 2 && host[0] == '[' && host[length - 1] == ']' && length - 2 < sizeof text) {
        memcpy(text, host + 1, length - 2);
        text[length - 2] = 0;
        host = text;
    }
    if (inet_pton(AF_INET6, host, &six->sin6_addr) != 1)
        return false;
    six->sin6_family = AF_INET6;
    return true;
}

static int translate(int code) {
    switch (code) {
    case 0:
        return 0;
    case SRVLUA_ERROR_DNSLOOKUP_RESOLVE_TIMEOUT:
        return -ETIMEDOUT;
    case SRVLUA_ERROR_MALLOC_FAIL:
        return -ENOMEM;
    default:
        return -SV_CLIENT_HOST_NOT_FOUND;
    }
}

static void note_answer(void *context, int code, const struct sv_lua_dns_answer *answer) {
    struct sv_lookup *lookup = context;
    bool has_waited = lookup->query != NULL;

    lookup->query = NULL;
    lookup->result = translate(code);
    if (code == 0) {
        *lookup->answer = *answer;
        lookup->addresses = lookup->answer->addresses;
        lookup->count = answer->count;
    }
    if (has_waited)
        sv_operation_poke(lookup->operation);
}

/* Seconds for a look-up in the call: what is left for the operation, or socket_dns_timeout if that is less. */
static double seconds_left(const struct sv_operation *operation) {
    const struct sv_lua *lua = operation->descriptor->client->lua;
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};
    double left, limit = 60;

    if (!operation->deadline_ns)
        return -1;
    left = (double)(operation->deadline_ns - sv_client_now_ns()) / 1e9;
    if (lua->server && srvlua_get_setting(lua->server->server, "socket_dns_timeout", &value) == 0 &&
        value.type == SRVLUA_VALUE_NUMBER)
        limit = value.number;
    if (limit > 0 && left > limit)
        left = limit;
    return left > 0 ? left : 0;
}

static int ask(struct sv_lookup *lookup, struct sv_operation *operation, const char *host) {
    struct sv_lua *lua = operation->descriptor->client->lua;
    struct sv_lua_dns_query *query = NULL;
    int result;

    lookup->is_begun = true;
    lookup->answer = malloc(sizeof *lookup->answer);
    if (!lookup->answer)
        return -ENOMEM;
    if (!operation->coroutine) {
        result = translate(-sv_lua_dns_block(lua, host, AF_UNSPEC, seconds_left(operation), lookup->answer));
        if (operation->is_cut)
            return -SV_CLIENT_CLOSED;
        lookup->addresses = lookup->answer->addresses;
        lookup->count = result == 0 ? lookup->answer->count : 0;
        return result;
    }
    lookup->operation = operation;
    result = sv_lua_dns_start(lua, host, AF_UNSPEC, -1, note_answer, lookup, &query);
    if (result < 0)
        return translate(-result);
    lookup->query = query;
    return query ? -EAGAIN : lookup->result;
}

int sv_lookup_step(struct sv_lookup *lookup, struct sv_operation *operation, const char *host, int port) {
    int i, result = lookup->result;

    operation->wants = 0;
    if (lookup->count == 0 && read_literal(&lookup->literal, host)) {
        lookup->addresses = &lookup->literal;
        lookup->count = 1;
    } else if (lookup->count == 0 && !lookup->is_begun) {
        result = ask(lookup, operation, host);
    } else if (lookup->query) {
        return -EAGAIN;
    }
    if (result < 0)
        return result;
    for (i = 0; i < lookup->count; i++)
        set_port(&lookup->addresses[i], port);
    return 0;
}

void sv_lookup_end(struct sv_lookup *lookup) {
    sv_lua_dns_cancel(lookup->query);
    free(lookup->answer);
    *lookup = (struct sv_lookup){0};
}
