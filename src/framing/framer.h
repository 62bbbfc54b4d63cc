/* framer.h: where packets end in a stream of bytes. Pure parsers: no I/O, no memory of their own.
 *
 * A reactor keeps what has come of a connection in one piece, beginning with the first byte of a packet, and asks after each read.
 * The scan goes on where it stopped (struct sv_framer_state), so the work is linear in the bytes however they are cut into reads.
 *
 * runs in: reactors. Reads `data` only, and the rules; writes the state only. */
#ifndef SV_FRAMING_FRAMER_H
#define SV_FRAMING_FRAMER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#define SV_EOF_MAX 8
#define SV_LENGTH_FUNCTION_SEES 65536u /* bytes, at most, that package_length_func gets to see */

struct sv_framer_rules; /* below */

struct sv_framer_state { /* of the packet that is coming in; all 0 at its beginning */
    uint64_t at;    /* bytes that need no second look */
    uint64_t total; /* length of the whole packet once it is known, else 0: the reactor reads large packets with it */
    uint64_t left;  /* the parser's own, e.g. elements that are still to come */
};

enum sv_frame_result {
    SV_FRAME_MORE,     /* no whole packet yet */
    SV_FRAME_PACKET,   /* the first `length` bytes are one (eof check: some) */
    SV_FRAME_SKIP,     /* the first `length` bytes are nothing that anybody is told of */
    SV_FRAME_VIOLATION /* the connection ends */
};

struct sv_frame {
    enum sv_frame_result result;
    size_t length;
    int code;           /* VIOLATION: SRVLUA_ERROR_PACKAGE_LENGTH_TOO_LARGE, _NOT_FOUND, _MALFORMED_DATA */
    const char *reason; /* VIOLATION: a few words for the log; static, or as long-lived as the rules' context */
};

/* Looks at `length` >= 1 bytes, all that has come since the packet began. After PACKET and SKIP the caller sets the state to 0.
 * The result does not depend on how the stream was cut into reads, but for eof_check, whose packets may come glued. */
typedef struct sv_frame (*sv_framer)(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                                     size_t length);

/* package_length_func: > 0 the packet's length, 0 more bytes needed, < 0 violation, with *reason set or left as it is. */
typedef int64_t (*sv_length_function)(void *context, const unsigned char *data, size_t length, const char **reason);

struct sv_framer_rules { /* of one port; the context differs from reactor to reactor */
    sv_framer next;      /* NULL: raw, one read is one packet */
    uint32_t max_length; /* package_max_length */
    unsigned char eof[SV_EOF_MAX];
    uint8_t eof_length;
    char length_type; /* one of c C s S l L n N v V q Q J P */
    uint32_t length_offset, body_offset;
    sv_length_function length_function;
    void *length_context;
};

struct sv_frame sv_frame_eof_split(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                                   size_t length);
struct sv_frame sv_frame_eof_check(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                                   size_t length);
struct sv_frame sv_frame_length(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                                size_t length);
struct sv_frame sv_frame_function(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                                  size_t length);
struct sv_frame sv_frame_mqtt(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                              size_t length);
struct sv_frame sv_frame_redis(const struct sv_framer_rules *rules, struct sv_framer_state *state, const unsigned char *data,
                               size_t length);

/* Width in bytes of a length field, 0: no such letter. */
unsigned sv_length_width(char letter);

#endif
