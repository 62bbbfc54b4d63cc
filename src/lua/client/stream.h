/* stream.h: a connection: its descriptor, its input that was not taken yet, its TLS. Reading and writing without Lua.
 *
 * Input is read as much as there is and taken in pieces: one system call for many lines. Its block comes from the process's
 * stock when something is read and goes back when all is taken, so a connection that waits costs none.
 *
 * runs in: every process. One thread. */
#ifndef SV_LUA_CLIENT_STREAM_H
#define SV_LUA_CLIENT_STREAM_H

#include "lua/client/bytes.h"
#include "lua/client/descriptor.h"
#include "lua/client/tls.h"

struct sv_client_pool;

struct sv_stream {
    struct sv_descriptor descriptor; /* first */
    struct sv_bytes input;
    struct sv_client_tls *tls;       /* NULL: plain */
    struct sv_stream **holder;       /* the place that knows it; cleared when it closes; NULL: none */
    struct sv_client_pool *pool;     /* where it counts, or NULL */
    struct sv_stream *newer, *older; /* in the pool */
    int reused;                      /* how often it came from its pool */
    bool is_unix;
};

/* NULL: no memory. */
struct sv_stream *sv_stream_new(struct sv_client *client);
/* Ends what waits, closes, frees. Its place in the pool is free then. */
void sv_stream_close(struct sv_stream *stream);
/* Looks for input without waiting: 1 some is there, 0 none, or why there will be none, negative. */
int sv_stream_probe(struct sv_stream *stream, int *wants);

/* --- receive */

enum sv_pattern { SV_PATTERN_LINE, SV_PATTERN_ALL, SV_PATTERN_COUNT, SV_PATTERN_ANY, SV_PATTERN_UNTIL };

struct sv_receive { /* what is to be received, and how far that has come */
    enum sv_pattern pattern;
    size_t count;      /* COUNT: bytes; ANY, UNTIL: at most so many */
    const char *until; /* UNTIL */
    size_t until_length;
    bool is_inclusive;
    size_t scanned;           /* bytes of input known not to have the end in them */
    size_t length, swallowed; /* result: so much of the input, and so much behind it is taken away with it */
    bool is_end;              /* UNTIL: the pattern follows, or is the end of the result */
};

/* Goes on receiving: 0 when all is there, -EAGAIN, or what went wrong, -SV_CLIENT_CLOSED at the end of the stream. */
int sv_stream_receive(struct sv_stream *stream, struct sv_receive *receive, int *wants);
/* The result was used: takes it from the input. */
void sv_stream_take(struct sv_stream *stream, const struct sv_receive *receive);
/* Takes the first `length` bytes. */
void sv_stream_consume(struct sv_stream *stream, size_t length);
/* Removes CRs from the first `length` bytes of the input, in place; the new length. The bytes in between are garbage. */
size_t sv_stream_strip(struct sv_stream *stream, size_t length);

/* --- send */

/* Sends on from *sent: 0 when all is sent, -EAGAIN, or what went wrong. */
int sv_stream_send(struct sv_stream *stream, const char *data, size_t length, size_t *sent, int *wants);

#endif
