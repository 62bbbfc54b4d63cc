/* client.h: what the client sockets of one process share (runtime.md 6), and the module srvlua.socket.
 *
 *   tcp.c, udp.c  methods and their arguments      connect.c  pool, name, addresses in turn
 *   stream.c      reading and writing, no Lua      pool.c     connections that wait for their next user
 *   tls.c         TLS on a stream                  descriptor.c  readiness, time limits, coroutines
 *
 * All of it hangs off the Lua state. A forked process closes its copies of its parent's connections before it uses any.
 *
 * runs in: every process. One thread. */
#ifndef SV_LUA_CLIENT_CLIENT_H
#define SV_LUA_CLIENT_CLIENT_H

#include "lua/binding.h"
#include "lua/client/bytes.h"

struct sv_descriptor;
struct sv_client_pool;
struct sv_client_tls_library;

#define SV_CLIENT_POOL_BUCKETS 64
#define SV_CLIENT_INPUT_SIZE 8192 /* of a block for input that is used again */
#define SV_CLIENT_INPUT_KEPT 64   /* of those, unused */

enum sv_client_timeout { SV_CLIENT_CONNECT, SV_CLIENT_WRITE, SV_CLIENT_READ, SV_CLIENT_TIMEOUTS };

struct sv_client {
    struct sv_lua *lua;
    volatile int *is_same_process; /* in a page that the kernel clears at fork */
    struct sv_descriptor *descriptors;
    struct sv_client_pool *pools[SV_CLIENT_POOL_BUCKETS];
    struct sv_bytes scratch; /* what send() joins, what udp receives */
    char *inputs[SV_CLIENT_INPUT_KEPT];
    int input_count;
    struct sv_client_tls_library *tls;       /* NULL: nobody has used TLS */
    int64_t timeouts_ns[SV_CLIENT_TIMEOUTS]; /* defaults, by the settings of that server: */
    const srvlua_server *timeouts_of;
    bool has_timeouts; /* they are known and do not change any more */
};

/* Pushes the module; a second time the same table. */
void sv_lua_push_socket_module(lua_State *L, struct sv_lua *lua);
/* This process may have been forked: what it has of its parent's sockets is closed, without a word to their peers. */
void sv_lua_sockets_after_fork(struct sv_lua *lua);
/* The Lua state ends. */
void sv_lua_sockets_close(struct sv_lua *lua);

/* Looks for a fork; called first by every method. */
static inline void sv_client_check_process(struct sv_client *client) {
    if (!*client->is_same_process)
        sv_lua_sockets_after_fork(client->lua);
}
/* The default of a time limit in nanoseconds, 0: none. */
int64_t sv_client_default_timeout(struct sv_client *client, enum sv_client_timeout which);
/* Argument `argument` as milliseconds of a time limit, in nanoseconds; nil, 0: 0, the default. */
int64_t sv_client_check_timeout(lua_State *L, int argument);

#endif
