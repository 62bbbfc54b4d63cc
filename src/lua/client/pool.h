/* pool.h: connections of this process that wait for their next user, by name (runtime.md 6.2).
 *
 * A pool exists as long as a connection, idle or in use, belongs to it. Idle connections are watched: one that its peer closes,
 * or that gets data nobody asked for, is dropped. With a backlog the size limits those in use as well, and who comes then
 * waits in a queue for a place, or for a connection that is put back.
 *
 * runs in: every process. One thread; no Lua. */
#ifndef SV_LUA_CLIENT_POOL_H
#define SV_LUA_CLIENT_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct sv_client;
struct sv_client_pool;
struct sv_stream;

#define SV_CLIENT_POOL_SIZE 30

struct sv_client_pool_waiter {
    /* There is a place now; `stream`: and a connection in it, or NULL. */
    void (*enter)(struct sv_client_pool_waiter *waiter, struct sv_stream *stream);
    struct sv_client_pool_waiter *next, **link; /* link NULL: does not wait */
};

/* The pool of that name, made if need be. NULL: no memory. A new one must be entered, or left to sv_client_pool_tidy(). */
struct sv_client_pool *sv_client_pool_get(struct sv_client *client, const char *name, size_t length);
/* Says how large it is and whether it has a backlog (-1: none), if nobody has yet. */
void sv_client_pool_set_limits(struct sv_client_pool *pool, int size, int backlog);
/* Frees a pool that nothing belongs to. */
void sv_client_pool_tidy(struct sv_client_pool *pool);

/* A new user: 1, *stream is its connection or NULL (it may make one); 0: it has to wait; -SV_CLIENT_TOO_MANY_WAITING. */
int sv_client_pool_enter(struct sv_client_pool *pool, struct sv_stream **stream);
/* After 0: waits for its turn. */
void sv_client_pool_wait(struct sv_client_pool *pool, struct sv_client_pool_waiter *waiter);
void sv_client_pool_stop_waiting(struct sv_client_pool *pool, struct sv_client_pool_waiter *waiter);
/* A user's place is free, and it has no connection any more. */
void sv_client_pool_leave(struct sv_client_pool *pool);
/* A user's connection comes back, to be kept for so long (0: for ever). */
void sv_client_pool_put(struct sv_client_pool *pool, struct sv_stream *stream, int64_t idle_ns);

/* In a forked process, or at the end: forgets all pools. */
void sv_client_pools_free(struct sv_client *client);

#endif
