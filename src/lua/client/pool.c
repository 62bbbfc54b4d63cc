/* pool.c: see pool.h. */
#include "lua/client/pool.h"

#include <stdlib.h>
#include <string.h>

#include "lua/client/client.h"
#include "lua/client/stream.h"
#include "lua/client/words.h"

struct sv_client_pool {
    struct sv_client *client;
    struct sv_client_pool *next; /* in its bucket */
    int size;                    /* 0: nobody has said yet */
    int backlog;                 /* -1: users are not limited */
    int users;                   /* connections in use or being made */
    int idle;
    struct sv_stream *newest, *oldest;
    struct sv_client_pool_waiter *waiting, **last;
    int waiting_count;
    bool is_serving;
    size_t length;
    char name[];
};

static struct sv_client_pool **bucket_of(struct sv_client *client, const char *name, size_t length) {
    uint32_t hash = 2166136261u;
    size_t i;

    for (i = 0; i < length; i++)
        hash = (hash ^ (unsigned char)name[i]) * 16777619u;
    return &client->pools[hash % SV_CLIENT_POOL_BUCKETS];
}

struct sv_client_pool *sv_client_pool_get(struct sv_client *client, const char *name, size_t length) {
    struct sv_client_pool **bucket = bucket_of(client, name, length), *pool;

    for (pool = *bucket; pool; pool = pool->next)
        if (pool->length == length && memcmp(pool->name, name, length) == 0)
            return pool;
    pool = calloc(1, sizeof *pool + length + 1);
    if (!pool)
        return NULL;
    pool->client = client;
    pool->backlog = -1;
    pool->last = &pool->waiting;
    pool->length = length;
    memcpy(pool->name, name, length);
    pool->next = *bucket;
    *bucket = pool;
    return pool;
}

void sv_client_pool_set_limits(struct sv_client_pool *pool, int size, int backlog) {
    if (pool->size > 0)
        return;
    pool->size = size;
    pool->backlog = backlog;
}

void sv_client_pool_tidy(struct sv_client_pool *pool) {
    struct sv_client_pool **link = bucket_of(pool->client, pool->name, pool->length);

    if (pool->users > 0 || pool->idle > 0 || pool->waiting || pool->is_serving)
        return;
    while (*link != pool)
        link = &(*link)->next;
    *link = pool->next;
    free(pool);
}

/* ------------------------------------------------------------------------------------------------- idle connections */

static void unlink_idle(struct sv_client_pool *pool, struct sv_stream *stream) {
    if (stream->newer)
        stream->newer->older = stream->older;
    else
        pool->newest = stream->older;
    if (stream->older)
        stream->older->newer = stream->newer;
    else
        pool->oldest = stream->newer;
    stream->newer = stream->older = NULL;
    pool->idle--;
}

static void drop_idle(struct sv_client_pool *pool, struct sv_stream *stream) {
    unlink_idle(pool, stream);
    stream->pool = NULL; /* it is no user */
    sv_stream_close(stream);
}

/* Its time is over, or its peer has closed it, or sends what nobody asked for. */
static void on_idle(struct sv_descriptor *descriptor) {
    struct sv_stream *stream = (struct sv_stream *)descriptor;
    struct sv_client_pool *pool = stream->pool;

    drop_idle(pool, stream);
    sv_client_pool_tidy(pool);
}

static bool is_sound(struct sv_stream *stream) {
    int64_t until_ns = stream->descriptor.idle_until_ns;
    int wants;

    if (until_ns && sv_client_now_ns() >= until_ns)
        return false; /* in a process without a loop nobody else looks */
    return sv_stream_probe(stream, &wants) == 0;
}

/* The connection that was used last: of all it is the least likely to have been closed by its peer. */
static struct sv_stream *take_idle(struct sv_client_pool *pool) {
    struct sv_stream *stream;

    while ((stream = pool->newest) != NULL) {
        if (!is_sound(stream)) {
            drop_idle(pool, stream);
            continue;
        }
        unlink_idle(pool, stream);
        sv_descriptor_wake(&stream->descriptor);
        stream->reused++;
        return stream;
    }
    return NULL;
}

/* ------------------------------------------------------------------------------------------------------------ users */

static bool has_place(const struct sv_client_pool *pool) { return pool->backlog < 0 || pool->users < pool->size; }

int sv_client_pool_enter(struct sv_client_pool *pool, struct sv_stream **stream) {
    *stream = NULL;
    if (!has_place(pool))
        return pool->waiting_count < pool->backlog ? 0 : -SV_CLIENT_TOO_MANY_WAITING;
    pool->users++;
    *stream = take_idle(pool);
    return 1;
}

void sv_client_pool_wait(struct sv_client_pool *pool, struct sv_client_pool_waiter *waiter) {
    waiter->next = NULL;
    waiter->link = pool->last;
    *pool->last = waiter;
    pool->last = &waiter->next;
    pool->waiting_count++;
}

void sv_client_pool_stop_waiting(struct sv_client_pool *pool, struct sv_client_pool_waiter *waiter) {
    if (!waiter->link)
        return;
    *waiter->link = waiter->next;
    if (waiter->next)
        waiter->next->link = waiter->link;
    else
        pool->last = waiter->link;
    waiter->link = NULL;
    pool->waiting_count--;
}

/* Lets those in who wait, one after the other: each may fail at once and leave its place to the next. */
static void serve(struct sv_client_pool *pool) {
    if (pool->is_serving)
        return;
    pool->is_serving = true;
    while (pool->waiting && has_place(pool)) {
        struct sv_client_pool_waiter *waiter = pool->waiting;
        sv_client_pool_stop_waiting(pool, waiter);
        pool->users++;
        waiter->enter(waiter, take_idle(pool));
    }
    pool->is_serving = false;
}

void sv_client_pool_leave(struct sv_client_pool *pool) {
    pool->users--;
    serve(pool);
    sv_client_pool_tidy(pool);
}

void sv_client_pool_put(struct sv_client_pool *pool, struct sv_stream *stream, int64_t idle_ns) {
    pool->users--;
    stream->holder = NULL;
    stream->pool = pool;
    stream->older = pool->newest;
    stream->newer = NULL;
    if (pool->newest)
        pool->newest->newer = stream;
    else
        pool->oldest = stream;
    pool->newest = stream;
    pool->idle++;
    sv_descriptor_rest(&stream->descriptor, on_idle, idle_ns ? sv_client_now_ns() + idle_ns : 0);
    while (pool->idle > pool->size)
        drop_idle(pool, pool->oldest);
    serve(pool);
    sv_client_pool_tidy(pool);
}

void sv_client_pools_free(struct sv_client *client) {
    int i;

    for (i = 0; i < SV_CLIENT_POOL_BUCKETS; i++) {
        struct sv_client_pool *pool = client->pools[i], *next;
        for (; pool; pool = next) {
            next = pool->next;
            free(pool);
        }
        client->pools[i] = NULL;
    }
}
