/* tls.c: connections: mbedTLS between a non-blocking socket and a caller who sees another one. See tls.h. */
#include <ctype.h>
#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mbedtls/pem.h>
#include <mbedtls/ssl_ciphersuites.h>

#include "net/tls_internal.h"

/* System calls that one call makes at most to read: a peer that sends faster than we decrypt must not keep the reactor. */
#define READS_OF_RECEIVE 1u
#define READS_OF_DATAGRAMS 64u
#define READS_OF_DATAGRAM_HANDSHAKE 8u
/* Records without data (empty ones, warnings) in one call of receive, and alerts that a peer may make us send in its life. */
#define EMPTY_RECORDS_MAX 32u
#define UNASKED_MAX 8u
#define SEND_MAX (1u << 20) /* plain bytes that one call takes at most: one fast client must not keep the others waiting */
#define ALERT_RECORD 21
#define HANDSHAKE_RECORD 22

static void say(struct sv_tls *tls, const char *format, ...) __attribute__((format(printf, 2, 3)));

static void say(struct sv_tls *tls, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    vsnprintf(tls->message, sizeof tls->message, format, arguments);
    va_end(arguments);
}

/* ------------------------------------------------------------------------------------------------------ kept bytes */

void sv_tls_drop_kept(struct sv_tls_kept *kept) {
    free(kept->data);
    *kept = (struct sv_tls_kept){0};
}

int sv_tls_keep(struct sv_tls_kept *kept, const void *data, size_t length) {
    size_t there = kept->end - kept->begin;
    unsigned char *room = malloc(there + length);
    if (!room)
        return -ENOMEM;
    if (there > 0)
        memcpy(room, kept->data + kept->begin, there);
    memcpy(room + there, data, length);
    free(kept->data);
    *kept = (struct sv_tls_kept){.data = room, .end = there + length};
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- input */

/* Makes the shared space ours: what another connection left there moves into memory of its own. */
static void claim_scratch(struct sv_tls *tls) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    struct sv_tls *owner = scratch->owner;
    if (owner && owner != tls && scratch->begin < scratch->end &&
        sv_tls_keep(&owner->input, scratch->input + scratch->begin, scratch->end - scratch->begin) < 0) {
        owner->failure = -ENOMEM; /* a stream with a hole is of no use */
        owner->state = SV_TLS_BROKEN;
        say(owner, "no memory");
    }
    if (owner != tls)
        scratch->begin = scratch->end = 0;
    scratch->owner = tls;
}

/* Fills the shared space. Bytes, 0: FIN, or -errno. */
static ssize_t read_ahead(struct sv_tls *tls) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    ssize_t count;
    claim_scratch(tls);
    do
        count = recv(tls->fd, scratch->input, sizeof scratch->input, MSG_DONTWAIT);
    while (count < 0 && errno == EINTR);
    scratch->begin = 0;
    scratch->end = count > 0 ? (size_t)count : 0;
    return count < 0 ? -errno : count;
}

static bool has_read_ahead(const struct sv_tls *tls) {
    const struct sv_tls_scratch *scratch = tls->port->scratch;
    return tls->input.data || (scratch->owner == tls && scratch->begin < scratch->end);
}

static size_t take(struct sv_tls *tls, unsigned char *data, size_t size) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    const unsigned char *from = tls->input.data ? tls->input.data : scratch->input;
    size_t *begin = tls->input.data ? &tls->input.begin : &scratch->begin;
    size_t there = (tls->input.data ? tls->input.end : scratch->end) - *begin;
    if (size > there)
        size = there;
    memcpy(data, from + *begin, size);
    *begin += size;
    if (tls->input.data && tls->input.begin == tls->input.end)
        sv_tls_drop_kept(&tls->input);
    return size;
}

static int receive_bytes(void *context, unsigned char *data, size_t size) {
    struct sv_tls *tls = context;
    if (!has_read_ahead(tls)) {
        if (tls->reads_left == 0) {
            tls->has_blocked = true;
            return MBEDTLS_ERR_SSL_WANT_READ;
        }
        tls->reads_left--;
        ssize_t count = read_ahead(tls);
        if (count == -EAGAIN) {
            tls->has_blocked = true;
            return MBEDTLS_ERR_SSL_WANT_READ;
        }
        if (count < 0) {
            tls->socket_error = (int)-count;
            return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
        }
        if (count == 0) {
            tls->has_seen_fin = true;
            return 0;
        }
    }
    return (int)take(tls, data, size);
}

/* ---------------------------------------------------------------------------------------------------------- output */

/* Bytes or -errno. */
static ssize_t write_socket(struct sv_tls *tls, const unsigned char *data, size_t length) {
    ssize_t count;
    do
        count = send(tls->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    return count < 0 ? -errno : count;
}

int sv_tls_flush(struct sv_tls *tls) {
    while (tls->output.data) {
        ssize_t count = write_socket(tls, tls->output.data + tls->output.begin, tls->output.end - tls->output.begin);
        if (count < 0)
            return (int)count;
        tls->output.begin += (size_t)count;
        if (tls->output.begin == tls->output.end || tls->is_datagram)
            sv_tls_drop_kept(&tls->output);
    }
    tls->plain = 0;
    return 0;
}

/* Sends what was gathered, and keeps what the socket does not take. 0, -EAGAIN: something is kept, -errno. */
static int push_output(struct sv_tls *tls) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    size_t length = scratch->output_length, sent = 0;
    int result = sv_tls_flush(tls);
    scratch->output_length = 0;
    while (result == 0 && sent < length) {
        ssize_t count = write_socket(tls, scratch->output + sent, length - sent);
        if (count < 0)
            result = (int)count;
        else
            sent += (size_t)count;
    }
    if (result == -EAGAIN && sent < length && sv_tls_keep(&tls->output, scratch->output + sent, length - sent) < 0)
        return -ENOMEM;
    return result;
}

static int gather_bytes(void *context, const unsigned char *data, size_t length) {
    struct sv_tls *tls = context;
    struct sv_tls_scratch *scratch = tls->port->scratch;
    if (tls->is_receiving)
        tls->unasked++;
    while (length > sizeof scratch->output - scratch->output_length) {
        int result = push_output(tls);
        if (result < 0 && result != -EAGAIN) {
            tls->socket_error = -result;
            return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
        }
    }
    if (length > 0 && data[0] == ALERT_RECORD)
        tls->has_alerted = true;
    memcpy(scratch->output + scratch->output_length, data, length);
    scratch->output_length += length;
    return (int)length;
}

/* ------------------------------------------------------------------------------------------------------------- life */

struct sv_tls *sv_tls_new(struct sv_tls_port *port, int fd) {
    struct sv_tls *tls = calloc(1, sizeof *tls);
    if (!tls)
        return NULL;
    mbedtls_ssl_init(&tls->ssl);
    tls->port = port;
    tls->fd = fd;
    tls->is_datagram = port->rules->is_datagram;
    tls->burst = SV_TLS_BURST;
    return tls;
}

void sv_tls_free(struct sv_tls *tls) {
    if (!tls)
        return;
    if (tls->port->scratch->owner == tls)
        tls->port->scratch->owner = NULL;
    sv_dtls_give_back(tls);
    mbedtls_ssl_free(&tls->ssl);
    sv_tls_generation_release(tls->generation);
    sv_tls_drop_kept(&tls->input);
    sv_tls_drop_kept(&tls->output);
    sv_tls_drop_kept(&tls->successor);
    free(tls->server_name);
    free(tls);
}

int sv_tls_set_up(struct sv_tls *tls) {
    struct sv_tls_generation *generation = tls->port->generation;
    int result = mbedtls_ssl_setup(&tls->ssl, &generation->config);
    if (result != 0)
        return result;
    generation->users++;
    tls->generation = generation;
    tls->state = SV_TLS_SHAKING;
    if (tls->is_datagram) {
        mbedtls_ssl_set_bio(&tls->ssl, tls, sv_dtls_send_record, sv_dtls_receive_datagram, NULL);
        mbedtls_ssl_set_timer_cb(&tls->ssl, tls, sv_dtls_set_timer, sv_dtls_get_timer);
    } else {
        mbedtls_ssl_set_bio(&tls->ssl, tls, gather_bytes, receive_bytes, NULL);
    }
    return 0;
}

/* ---------------------------------------------------------------------------------------------------------- failing */

/* What a certificate is for is judged beside its chain, with an error that others share. */
static bool has_refused_certificate(const struct sv_tls *tls, int result) {
#if SV_MBEDTLS_3
    const int unfit = MBEDTLS_ERR_SSL_BAD_CERTIFICATE;
#else
    const int unfit = MBEDTLS_ERR_SSL_BAD_HS_CERTIFICATE;
#endif
    uint32_t flags = mbedtls_ssl_get_verify_result(&tls->ssl);
    return result == MBEDTLS_ERR_X509_CERT_VERIFY_FAILED || (result == unfit && flags != 0 && flags != UINT32_MAX);
}

/* What is wrong with the client's certificate: mbedTLS's lines as one. */
static void describe_certificate(struct sv_tls *tls) {
    char text[160];
    uint32_t flags = mbedtls_ssl_get_verify_result(&tls->ssl);
    if (flags == MBEDTLS_X509_BADCERT_OTHER) /* only judge_certificate() says so */
        snprintf(text, sizeof text, "its chain is longer than ssl_verify_depth");
    else if (mbedtls_x509_crt_verify_info(text, sizeof text, "", flags) < 0)
        snprintf(text, sizeof text, "flags %#x", (unsigned)flags);
    size_t length = strlen(text);
    while (length > 0 && text[length - 1] == '\n')
        text[--length] = 0;
    for (char *c = text; *c; c++)
        if (*c == '\n')
            *c = ',';
    say(tls, "certificate of the client refused: %s", text);
}

/* mbedTLS ends over some errors without telling the peer, as over records that are too long. */
static void alert(struct sv_tls *tls, int result) {
    unsigned char description = MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE;
    if (!tls->generation || tls->is_datagram || tls->has_alerted || tls->socket_error || tls->has_seen_fin)
        return;
    if (result == MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE || result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY)
        return;
    if (result == MBEDTLS_ERR_SSL_ALLOC_FAILED)
        description = MBEDTLS_SSL_ALERT_MSG_INTERNAL_ERROR;
    if (result == MBEDTLS_ERR_SSL_NO_CLIENT_CERTIFICATE) /* RFC 5246 7.4.6 */
        description = MBEDTLS_SSL_ALERT_MSG_HANDSHAKE_FAILURE;
    mbedtls_ssl_send_alert_message(&tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, description); /* without room for it: none */
}

/* Ends a connection because of an error of mbedTLS, or of the socket below it. Returns -errno. */
static int fail(struct sv_tls *tls, int result) {
    char text[160];
    tls->state = SV_TLS_BROKEN;
    tls->failure = tls->socket_error ? -tls->socket_error : result == MBEDTLS_ERR_SSL_ALLOC_FAILED ? -ENOMEM : -EPROTO;
    if (tls->socket_error) {
        say(tls, "%s", srvlua_strerror(tls->socket_error));
    } else if (tls->unasked > UNASKED_MAX) {
        say(tls, "renegotiation was asked for again and again");
    } else if (has_refused_certificate(tls, result)) {
        describe_certificate(tls);
    } else if (result == MBEDTLS_ERR_SSL_CLIENT_RECONNECT) {
        say(tls, "the peer began anew");
    } else if (result == MBEDTLS_ERR_SSL_CONN_EOF || result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
        say(tls, "closed by the peer");
    } else {
        sv_tls_describe_error(result, text, sizeof text);
        say(tls, "%s", text);
    }
    return tls->failure;
}

/* What an alert says to a peer whose record was bad. */
static unsigned char farewell_to(int result) {
    switch (result) {
    case MBEDTLS_ERR_SSL_FATAL_ALERT_MESSAGE: return 0; /* who ended it knows */
    case MBEDTLS_ERR_SSL_INVALID_MAC: return MBEDTLS_SSL_ALERT_MSG_BAD_RECORD_MAC;
    default: return MBEDTLS_SSL_ALERT_MSG_UNEXPECTED_MESSAGE;
    }
}

/* A bad record came. Nothing more is read, but what came before it may still be answered: the alert is for sv_tls_shut(). */
static int damage(struct sv_tls *tls, int result) {
    fail(tls, result);
    if (tls->failure == -EPROTO && !tls->is_datagram) {
        tls->state = SV_TLS_ENDED;
        tls->farewell = farewell_to(result);
    }
    return tls->failure;
}

const char *sv_tls_error(const struct sv_tls *tls) { return tls->message[0] ? tls->message : "no error"; }

/* -------------------------------------------------------------------------------------------------------- handshake */

static bool is_over(const struct sv_tls *tls) { return tls->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_HANDSHAKE_OVER; }

/* Waits for the first byte, which must announce a handshake, before anything is spent on the client. */
static enum sv_tls_step begin(struct sv_tls *tls) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    ssize_t count = read_ahead(tls);
    if (count == -EAGAIN)
        return SV_TLS_WANTS_INPUT;
    if (count <= 0) {
        tls->socket_error = (int)-count;
        fail(tls, MBEDTLS_ERR_SSL_CONN_EOF);
        return SV_TLS_FAILED;
    }
    if (scratch->input[0] != HANDSHAKE_RECORD) {
        fail(tls, MBEDTLS_ERR_SSL_INVALID_RECORD);
        say(tls, "no TLS: the first byte is %#x", scratch->input[0]);
        return SV_TLS_FAILED;
    }
    int result = sv_tls_set_up(tls);
    if (result != 0) {
        fail(tls, result);
        return SV_TLS_FAILED;
    }
    return SV_TLS_DONE;
}

static enum sv_tls_step begin_session(struct sv_tls *tls) {
    int result = sv_dtls_begin(tls);
    if (result == 0)
        return SV_TLS_DONE;
    fail(tls, result);
    return SV_TLS_FAILED;
}

static int shake(struct sv_tls *tls) {
    int result = 0;
    while (result == 0 && !is_over(tls)) {
        if (tls->ssl.MBEDTLS_PRIVATE(state) == MBEDTLS_SSL_SERVER_CERTIFICATE)
            tls->has_sent_certificate = true; /* so this session is not resumed */
        result = mbedtls_ssl_handshake_step(&tls->ssl);
    }
    return result;
}

enum sv_tls_step sv_tls_handshake(struct sv_tls *tls) {
    if (tls->state == SV_TLS_BROKEN)
        return SV_TLS_FAILED;
    if (tls->state >= SV_TLS_OPEN)
        return SV_TLS_DONE;
    int result = sv_tls_flush(tls);
    if (result == -EAGAIN && !tls->is_datagram)
        return SV_TLS_WANTS_OUTPUT;
    if (result < 0 && result != -EAGAIN) {
        tls->socket_error = -result;
        fail(tls, MBEDTLS_ERR_SSL_INTERNAL_ERROR);
        return SV_TLS_FAILED;
    }
    tls->reads_left = tls->is_datagram ? READS_OF_DATAGRAM_HANDSHAKE : READS_OF_RECEIVE;
    if (tls->state == SV_TLS_FRESH) {
        enum sv_tls_step step = tls->is_datagram ? begin_session(tls) : begin(tls);
        if (step != SV_TLS_DONE)
            return step;
        tls->reads_left = 0; /* that was all that could be there before we have answered */
    }
    int shaken = shake(tls);
    if (shaken != 0 && shaken != MBEDTLS_ERR_SSL_WANT_READ && shaken != MBEDTLS_ERR_SSL_WANT_WRITE)
        alert(tls, shaken);
    int pushed = push_output(tls);
    if (pushed < 0 && pushed != -EAGAIN && !tls->socket_error)
        tls->socket_error = -pushed;
    if (tls->socket_error || (shaken != 0 && shaken != MBEDTLS_ERR_SSL_WANT_READ && shaken != MBEDTLS_ERR_SSL_WANT_WRITE)) {
        fail(tls, shaken);
        return SV_TLS_FAILED;
    }
    if (shaken == 0) {
        tls->state = SV_TLS_OPEN;
        tls->has_been_open = true;
#if SV_HAS_DTLS
        if (tls->is_datagram)
            mbedtls_ssl_set_mtu(&tls->ssl, 0); /* it was for the flights; data has records as large as they may be */
#endif
        return SV_TLS_DONE;
    }
    return pushed == -EAGAIN && !tls->is_datagram ? SV_TLS_WANTS_OUTPUT : SV_TLS_WANTS_INPUT;
}

void sv_tls_cancel(struct sv_tls *tls) {
    if (tls->state != SV_TLS_SHAKING || tls->ssl.MBEDTLS_PRIVATE(state) <= MBEDTLS_SSL_CLIENT_HELLO)
        return; /* before its hello it is not known how to speak to it */
    mbedtls_ssl_send_alert_message(&tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_USER_CANCELED);
    mbedtls_ssl_send_alert_message(&tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_WARNING, MBEDTLS_SSL_ALERT_MSG_CLOSE_NOTIFY);
    push_output(tls); /* what the socket does not take is lost with the connection */
    tls->state = SV_TLS_BROKEN;
    tls->failure = -ECONNABORTED;
}

/* ------------------------------------------------------------------------------------------------------------ bytes */

bool sv_tls_has_input(const struct sv_tls *tls) {
    if (tls->state != SV_TLS_OPEN)
        return tls->state > SV_TLS_OPEN && !tls->has_told_end;
    return has_read_ahead(tls) || mbedtls_ssl_get_bytes_avail(&tls->ssl) > 0 || mbedtls_ssl_check_pending(&tls->ssl) != 0;
}

bool sv_tls_was_closed_cleanly(const struct sv_tls *tls) { return tls->was_clean; }

/* mbedTLS tells the peer of a bad record at once. Its alert never leaves the shared space, and its number, with which nothing has been
 * sent, is used again. */
static int read_record(struct sv_tls *tls, unsigned char *data, size_t size) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    unsigned char number[sizeof tls->ssl.MBEDTLS_PRIVATE(cur_out_ctr)];
    size_t length = scratch->output_length;
    memcpy(number, tls->ssl.MBEDTLS_PRIVATE(cur_out_ctr), sizeof number);
    int result = sv_tls_stack_read(&scratch->reading, &tls->ssl, data, size);
    if (result >= 0 || result == MBEDTLS_ERR_SSL_WANT_READ || result == MBEDTLS_ERR_SSL_WANT_WRITE || tls->is_datagram)
        return result;
    scratch->output_length = length;
    memcpy(tls->ssl.MBEDTLS_PRIVATE(cur_out_ctr), number, sizeof number);
    return result;
}

/* One record's worth. Bytes, 0: the end, -EAGAIN, -errno. */
static ssize_t receive_record(struct sv_tls *tls, unsigned char *data, size_t size) {
    for (unsigned turns = 0; turns < EMPTY_RECORDS_MAX; turns++) {
        tls->has_blocked = false;
        int result = read_record(tls, data, size);
        if (result > 0)
            return result;
        if (tls->has_seen_fin && (result == 0 || result == MBEDTLS_ERR_SSL_CONN_EOF)) {
            tls->state = SV_TLS_ENDED;
            return 0;
        }
        if (result == MBEDTLS_ERR_SSL_PEER_CLOSE_NOTIFY) {
            tls->state = SV_TLS_ENDED;
            tls->was_clean = true;
            return 0;
        }
        if (result == MBEDTLS_ERR_SSL_CLIENT_RECONNECT) { /* DTLS: the client began anew from the same port */
            tls->state = SV_TLS_ENDED;
            return 0;
        }
        if (result == MBEDTLS_ERR_SSL_BAD_INPUT_DATA)
            result = MBEDTLS_ERR_SSL_INVALID_RECORD; /* its word for a length beyond its buffer */
        if (tls->socket_error || (result != 0 && result != MBEDTLS_ERR_SSL_WANT_READ && result != MBEDTLS_ERR_SSL_WANT_WRITE))
            return damage(tls, result);
        if (tls->unasked > UNASKED_MAX) /* each refused renegotiation is an alert; unread ones would pile up */
            return damage(tls, MBEDTLS_ERR_SSL_UNEXPECTED_MESSAGE);
        if (tls->has_blocked)
            return -EAGAIN;
        /* else it was an empty record or a warning, and more may have been read ahead */
    }
    return tls->is_datagram ? -EAGAIN : damage(tls, MBEDTLS_ERR_SSL_INVALID_RECORD);
}

/* What there is besides bytes: the end or a failure. */
static ssize_t tell_end(struct sv_tls *tls, ssize_t result) {
    tls->has_told_end = true;
    return result;
}

ssize_t sv_tls_receive(struct sv_tls *tls, void *data, size_t size) {
    size_t filled = 0;
    ssize_t count = 0;
    if (tls->state == SV_TLS_BROKEN)
        return tell_end(tls, tls->failure);
    if (tls->state == SV_TLS_ENDED)
        return tell_end(tls, tls->failure);
    if (tls->state != SV_TLS_OPEN || size == 0)
        return -EAGAIN;
    tls->reads_left = tls->is_datagram ? READS_OF_DATAGRAMS : READS_OF_RECEIVE;
    tls->is_receiving = true;
    do { /* what was read ahead anyway */
        count = receive_record(tls, (unsigned char *)data + filled, size - filled);
        if (count > 0)
            filled += (size_t)count;
        if (tls->is_datagram)
            break;
    } while (count > 0 && filled < size && sv_tls_has_input(tls));
    tls->is_receiving = false;
    if (tls->port->scratch->output_length > 0)
        push_output(tls); /* alerts; if the socket is broken the next call meets it */
    if (filled > 0)
        return (ssize_t)filled; /* an end or a failure is told by the next call: the state has it */
    return count == -EAGAIN ? count : tell_end(tls, count);
}

struct cursor { /* in the caller's vectors */
    const struct iovec *vector;
    int count;
    size_t offset;
};

static void skip(struct cursor *cursor, size_t length) {
    cursor->offset += length;
    while (cursor->count > 0 && cursor->offset >= cursor->vector->iov_len) {
        cursor->offset -= cursor->vector->iov_len;
        cursor->vector++;
        cursor->count--;
    }
}

/* The next bytes, `limit` at most, in one piece: where they lie, or put together in `room`. */
static const unsigned char *next_piece(const struct cursor *from, size_t limit, unsigned char *room, size_t *length) {
    struct cursor cursor = *from;
    const unsigned char *data = (const unsigned char *)cursor.vector->iov_base + cursor.offset;
    size_t there = cursor.vector->iov_len - cursor.offset;
    if (there >= limit || cursor.count == 1) {
        *length = there < limit ? there : limit;
        return data;
    }
    *length = 0;
    while (cursor.count > 0 && *length < limit) {
        size_t part = cursor.vector->iov_len - cursor.offset;
        if (part > limit - *length)
            part = limit - *length;
        memcpy(room + *length, (const unsigned char *)cursor.vector->iov_base + cursor.offset, part);
        *length += part;
        skip(&cursor, part);
    }
    return room;
}

/* Plain bytes of one record; a client may have asked for small ones (RFC 6066 4). */
static size_t record_limit(const struct sv_tls *tls) {
    int limit = mbedtls_ssl_get_max_out_record_payload(&tls->ssl);
    return limit > 0 && limit < (int)SV_TLS_RECORD ? (size_t)limit : SV_TLS_RECORD;
}

/* Encrypts a few records and writes them with one system call. 0, -EAGAIN: the socket takes no more, or another error. */
static int send_burst(struct sv_tls *tls, struct cursor *cursor, size_t limit, size_t *taken) {
    struct sv_tls_scratch *scratch = tls->port->scratch;
    size_t before = *taken;
    for (unsigned records = 0; cursor->count > 0 && records < tls->burst && !tls->output.data; records++) {
        size_t length;
        const unsigned char *piece = next_piece(cursor, limit, scratch->plain, &length);
        int written = sv_tls_stack_write(&scratch->writing, &tls->ssl, piece, length);
        if (written == MBEDTLS_ERR_SSL_WANT_WRITE || written == MBEDTLS_ERR_SSL_WANT_READ)
            break;
        if (written < 0) {
            scratch->output_length = 0;
            return fail(tls, written);
        }
        *taken += (size_t)written;
        skip(cursor, (size_t)written);
    }
    int result = push_output(tls);
    tls->plain = *taken - before;
    /* What a slow client did not take is in memory: put less together next time. */
    if (tls->output.data)
        tls->burst = 1;
    else if (tls->burst < SV_TLS_BURST)
        tls->burst++;
    return result;
}

ssize_t sv_tls_send(struct sv_tls *tls, const struct iovec *vectors, int count) {
    struct cursor cursor = {.vector = vectors, .count = count};
    size_t taken = 0, before;
    if (tls->state == SV_TLS_BROKEN)
        return tls->failure;
    if (tls->state < SV_TLS_OPEN || tls->is_shut)
        return tls->is_shut ? -EPIPE : -EAGAIN;
    int result = sv_tls_flush(tls);
    if (result < 0)
        return result;
    skip(&cursor, 0); /* over empty vectors */
    size_t limit = record_limit(tls);
    do {
        before = taken;
        result = send_burst(tls, &cursor, limit, &taken);
    } while (result == 0 && cursor.count > 0 && taken > before && taken < SEND_MAX);
    if (result < 0 && result != -EAGAIN)
        return result;
    return taken > 0 ? (ssize_t)taken : count > 0 && cursor.count > 0 ? -EAGAIN : 0;
}

size_t sv_tls_appetite(const struct sv_tls *tls) { return tls->burst * record_limit(tls); }

size_t sv_tls_pending(const struct sv_tls *tls) { return tls->output.end - tls->output.begin; }

/* A send finds nothing kept, so all that waits is of the last one. Its records are a little longer than what they carry. */
size_t sv_tls_pending_plain(const struct sv_tls *tls) {
    size_t pending = sv_tls_pending(tls);
    return pending < tls->plain ? pending : tls->plain;
}

void sv_tls_uncount(struct sv_tls *tls) { tls->plain = 0; }

void sv_tls_discard(struct sv_tls *tls) {
    tls->is_shut = tls->is_shut || sv_tls_pending(tls) > 0;
    sv_tls_drop_kept(&tls->output);
}

int sv_tls_shut(struct sv_tls *tls) {
    if ((tls->state == SV_TLS_OPEN || tls->state == SV_TLS_ENDED) && !tls->is_shut) {
        tls->is_shut = true;
        if (tls->farewell) /* neither can fail: they are only gathered */
            mbedtls_ssl_send_alert_message(&tls->ssl, MBEDTLS_SSL_ALERT_LEVEL_FATAL, tls->farewell);
        else if (!tls->failure)
            mbedtls_ssl_close_notify(&tls->ssl);
    }
    return push_output(tls);
}

/* Kernels and libraries that could do it are rare and none could be tried: ssl_ktls falls back, as it may. */
bool sv_tls_is_in_kernel(const struct sv_tls *tls) {
    (void)tls;
    return false;
}

/* ------------------------------------------------------------------------------------------------------ information */

size_t sv_tls_memory(const struct sv_tls *tls) {
    size_t total = sizeof *tls + tls->input.end + tls->output.end;
    if (tls->server_name)
        total += strlen(tls->server_name) + 1;
    if (tls->generation) /* both buffers of the library, keys, session */
        total += MBEDTLS_SSL_IN_CONTENT_LEN + MBEDTLS_SSL_OUT_CONTENT_LEN + 3072;
    return total;
}

/* mbedTLS writes TLS-A-WITH-B and TLS1-3-B for IANA's TLS_A_WITH_B and TLS_B. */
static void copy_suite(const char *name, char *suite, size_t size) {
    const char prefix[] = "TLS1-3-";
    bool is_1_3 = strncmp(name, prefix, sizeof prefix - 1) == 0;
    snprintf(suite, size, "%s%s", is_1_3 ? "TLS_" : "", is_1_3 ? name + sizeof prefix - 1 : name);
    for (char *c = suite; *c; c++)
        if (*c == '-')
            *c = '_';
}

static int copy_certificate(const mbedtls_x509_crt *certificate, char **pem, uint32_t *length) {
    size_t size = certificate->raw.len / 48 * 65 + 256, used = 0;
    unsigned char *text = malloc(size);
    if (!text)
        return -ENOMEM;
    if (mbedtls_pem_write_buffer("-----BEGIN CERTIFICATE-----\n", "-----END CERTIFICATE-----\n", certificate->raw.p,
                                 certificate->raw.len, text, size, &used) != 0) {
        free(text);
        return -ENOMEM;
    }
    *pem = (char *)text;
    *length = (uint32_t)(used - 1); /* without the NUL */
    return 0;
}

int sv_tls_describe(const struct sv_tls *tls, struct sv_tls_info *info, char **pem) {
    *info = (struct sv_tls_info){0};
    *pem = NULL;
    if (!tls->generation)
        return 0;
    const char *suite = mbedtls_ssl_get_ciphersuite(&tls->ssl);
    const char *alpn = mbedtls_ssl_get_alpn_protocol(&tls->ssl);
    const mbedtls_x509_crt *certificate = mbedtls_ssl_get_peer_cert(&tls->ssl);
    snprintf(info->protocol, sizeof info->protocol, "%s", mbedtls_ssl_get_version(&tls->ssl));
    copy_suite(suite ? suite : "", info->cipher, sizeof info->cipher);
    snprintf(info->server_name, sizeof info->server_name, "%s", tls->server_name ? tls->server_name : "");
    snprintf(info->alpn, sizeof info->alpn, "%s", alpn ? alpn : "");
    info->is_resumed = !tls->has_sent_certificate;
    return certificate && certificate->raw.len > 0 ? copy_certificate(certificate, pem, &info->certificate_length) : 0;
}
