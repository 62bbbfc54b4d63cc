/* tcp.h: the stream objects of srvlua.socket: tcp() and unix() (runtime.md 6.2, 6.3).
 *
 * An object has at most one connection and, for what may wait, one operation of each kind in itself: while one waits, the
 * object is on the stack of its coroutine.
 *
 * runs in: every process. */
#ifndef SV_LUA_CLIENT_TCP_H
#define SV_LUA_CLIENT_TCP_H

#include "lua/client/client.h"
#include "lua/client/stream.h"

extern const struct sv_lua_kind sv_lua_tcp_kind, sv_lua_tls_session_kind;

struct sv_connect;
struct sv_until;

struct sv_tcp {
    const struct sv_lua_kind *kind;
    struct sv_client *client;
    bool is_unix;                            /* connect takes a path */
    struct sv_stream *stream;                /* NULL: not connected */
    struct sv_connect *connecting;           /* NULL: it does not */
    int64_t timeouts_ns[SV_CLIENT_TIMEOUTS]; /* 0: the default */
    struct sv_receiving {
        struct sv_operation operation; /* first */
        struct sv_receive receive;
        struct sv_until *until; /* of the iterator that receives, or NULL */
    } receiving;
    struct sv_sending {
        struct sv_operation operation; /* first */
        const char *data;              /* a Lua string on the stack, the client's scratch, or `owned` */
        size_t length, sent;
        struct sv_bytes owned;
    } sending;
    struct sv_shaking {
        struct sv_operation operation; /* first */
        bool wants_session;
    } shaking;
};

/* What connect() was asked for; belongs to its arguments. */
struct sv_connect_request {
    const char *host; /* or a path */
    int port;         /* 0: host is a path */
    const char *pool;
    size_t pool_length;
    int pool_size, backlog;             /* 0, -1: not said */
    struct sv_lua_coroutine *coroutine; /* that waits, or NULL */
};

/* connect.c: ends the Lua function, which has the object as its argument 1. */
int sv_tcp_connect(lua_State *L, struct sv_tcp *self, const struct sv_connect_request *request);
/* Ends a connect that waits, with `closed`. */
void sv_tcp_stop_connecting(struct sv_tcp *self);
/* The Lua state ends: its coroutine does not go on. */
void sv_tcp_forget_connecting(struct sv_tcp *self);
/* If this process was forked while the object connected, or its coroutine will not be resumed, it does no longer. */
void sv_tcp_check_connecting(struct sv_tcp *self);

/* A time limit of the object, or the default. */
int64_t sv_tcp_timeout(const struct sv_tcp *self, enum sv_client_timeout which);

/* tcp.c: argument 2, a string, number or sequence of these, as bytes: of the string, or in the client's scratch. */
const char *sv_client_check_data(lua_State *L, struct sv_client *client, size_t *length);
/* tcp.c: makes the classes; leaves the stack as it was. */
void sv_lua_tcp_open(lua_State *L, struct sv_lua *lua);
/* Makes an object. */
struct sv_tcp *sv_lua_push_tcp(lua_State *L, struct sv_client *client, bool is_unix);

#endif
