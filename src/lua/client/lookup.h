/* lookup.h: from a host name to socket addresses, as a part of an operation (connect, setpeername).
 *
 * runs in: every process. */
#ifndef SV_LUA_CLIENT_LOOKUP_H
#define SV_LUA_CLIENT_LOOKUP_H

#include <sys/socket.h>

#include "lua/client/descriptor.h"

struct sv_lua_dns_answer;
struct sv_lua_dns_query;

struct sv_lookup {
    int count;                          /* of addresses; 0: not known yet */
    struct sockaddr_storage *addresses; /* with their port */
    struct sockaddr_storage literal;
    struct sv_operation *operation;
    struct sv_lua_dns_answer *answer;
    struct sv_lua_dns_query *query;
    int result;    /* of the query */
    bool is_begun; /* the query */
};

/* Whether `host` begins with "unix:". */
bool sv_lookup_is_unix(const char *host);
/* Finds the addresses: 0, -EAGAIN (the operation is poked when it can go on), or what went wrong. */
int sv_lookup_step(struct sv_lookup *lookup, struct sv_operation *operation, const char *host, int port);
/* Makes `path` the only address. 0 or -ENAMETOOLONG. */
int sv_lookup_set_path(struct sv_lookup *lookup, const char *path);
/* Frees what it has; a query that is going on ends. */
void sv_lookup_end(struct sv_lookup *lookup);

/* Bytes of an address, for connect(). */
socklen_t sv_lookup_size(const struct sockaddr_storage *address);
/* Pushes ip, port, or the path of a unix address. Returns how many. */
int sv_lookup_push(lua_State *L, const struct sockaddr_storage *address, socklen_t size);

#endif
