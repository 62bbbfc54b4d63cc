/* dtls.c: what datagrams need beyond tls.c: cookies, timers, whole records. RFC 6347; DTLS 1.2.
 *
 * A first ClientHello is answered with a HelloVerifyRequest that is made here, without a byte of memory: mbedTLS would want its 36 KiB
 * for it. Only who comes back with the cookie, and so receives at the address he sends from, gets a connection; its second ClientHello
 * goes to mbedTLS as it is (RFC 6347 4.2.1 lets a server begin there), when its turn has come. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>

#include <mbedtls/md.h>

#include "base/clock.h"
#include "net/tls_internal.h"

#define RECORD_HEAD 13u
#define MESSAGE_HEAD 12u
#define RANDOM_SIZE 32u
#define HANDSHAKE_RECORD 22
#define CLIENT_HELLO 1
#define HELLO_VERIFY_REQUEST 3
#define COOKIE_LIFE_S 60u
#define COOKIE_STAMP 4u
#define FLIGHT_MTU 1200 /* goes through every usual network in one piece */
#define PEER_SIZE 128u
#define HELLO_MAX 4096u /* record of a ClientHello that is kept; in one piece it is smaller on any usual network */

/* ---------------------------------------------------------------------------------------------------------- cookies */

/* What tells peers apart, without the padding of addresses. */
static size_t pack_peer(const struct sv_address *peer, unsigned char packed[PEER_SIZE]) {
    const struct sockaddr_in6 *six = &peer->u.in6;
    switch (peer->u.base.sa_family) {
    case AF_INET:
        memcpy(packed, &peer->u.in.sin_addr, 4);
        memcpy(packed + 4, &peer->u.in.sin_port, 2);
        return 6;
    case AF_INET6:
        memcpy(packed, &six->sin6_addr, 16);
        memcpy(packed + 16, &six->sin6_port, 2);
        memcpy(packed + 18, &six->sin6_scope_id, 4);
        return 22;
    default:
        memcpy(packed, &peer->u, peer->length < PEER_SIZE ? peer->length : PEER_SIZE);
        return peer->length < PEER_SIZE ? peer->length : PEER_SIZE;
    }
}

/* When it was made, and what only we can know of that and the peer. */
static int make_cookie(const struct sv_tls_port *port, uint32_t stamp, const unsigned char *peer, size_t length,
                       unsigned char cookie[SV_TLS_COOKIE_SIZE]) {
    unsigned char input[COOKIE_STAMP + PEER_SIZE] = {stamp >> 24, stamp >> 16 & 255, stamp >> 8 & 255, stamp & 255}, hash[32];
    if (length > PEER_SIZE)
        return MBEDTLS_ERR_SSL_BAD_INPUT_DATA;
    memcpy(input + COOKIE_STAMP, peer, length);
    int result = mbedtls_md_hmac(mbedtls_md_info_from_type(MBEDTLS_MD_SHA256), sv_tls_shared_cookie_key(port->shared), SV_TLS_KEY_SIZE,
                                 input, COOKIE_STAMP + length, hash);
    memcpy(cookie, input, COOKIE_STAMP);
    memcpy(cookie + COOKIE_STAMP, hash, SV_TLS_COOKIE_SIZE - COOKIE_STAMP);
    return result;
}

static uint32_t now_s(void) { return (uint32_t)(sv_now_ns() / SV_NS_PER_SECOND); }

int sv_dtls_write_cookie(void *context, unsigned char **at, unsigned char *end, const unsigned char *peer, size_t length) {
    if ((size_t)(end - *at) < SV_TLS_COOKIE_SIZE)
        return MBEDTLS_ERR_SSL_BUFFER_TOO_SMALL;
    int result = make_cookie(context, now_s(), peer, length, *at);
    if (result == 0)
        *at += SV_TLS_COOKIE_SIZE;
    return result;
}

static uint32_t stamp_of(const unsigned char *cookie) {
    return (uint32_t)cookie[0] << 24 | (uint32_t)cookie[1] << 16 | (uint32_t)cookie[2] << 8 | cookie[3];
}

/* Whether we made it for that peer, at whatever time: mbedTLS asks again when the handshake begins, which may have had to wait. */
int sv_dtls_check_cookie(void *context, const unsigned char *cookie, size_t cookie_length, const unsigned char *peer, size_t length) {
    unsigned char expected[SV_TLS_COOKIE_SIZE], difference = 0;
    if (cookie_length != SV_TLS_COOKIE_SIZE || make_cookie(context, stamp_of(cookie), peer, length, expected) != 0)
        return -1;
    for (size_t i = 0; i < SV_TLS_COOKIE_SIZE; i++) /* in the same time wherever they differ */
        difference |= (unsigned char)(expected[i] ^ cookie[i]);
    return difference == 0 ? 0 : -1;
}

/* --------------------------------------------------------------------------------------------------------- greeting */

struct hello {
    const unsigned char *record; /* its head: the answer repeats the sequence numbers */
    size_t length;               /* of the record */
    const unsigned char *cookie;
    size_t cookie_length;
};

static uint64_t random_of(const struct hello *hello) {
    uint64_t word;
    memcpy(&word, hello->record + RECORD_HEAD + MESSAGE_HEAD + 2 + RANDOM_SIZE - sizeof word, sizeof word);
    return word;
}

/* A number that no other hello with a cookie has: what is random in it, from us and from the client. */
static uint64_t number_of(const struct hello *hello) {
    uint64_t word;
    memcpy(&word, hello->cookie + hello->cookie_length - sizeof word, sizeof word);
    return word ^ random_of(hello);
}

static size_t number_at(const unsigned char *data, unsigned bytes) {
    size_t number = 0;
    while (bytes-- > 0)
        number = number << 8 | *data++;
    return number;
}

/* Whether a datagram begins with a whole ClientHello of epoch 0. One in fragments is none for mbedTLS either. */
static bool parse_hello(const unsigned char *data, size_t length, struct hello *hello) {
    if (length < RECORD_HEAD + MESSAGE_HEAD || data[0] != HANDSHAKE_RECORD || data[1] != 0xfe || number_at(data + 3, 2) != 0)
        return false;
    size_t record = number_at(data + 11, 2);
    if (record > length - RECORD_HEAD || record < MESSAGE_HEAD)
        return false;
    const unsigned char *message = data + RECORD_HEAD;
    size_t size = number_at(message + 1, 3);
    if (message[0] != CLIENT_HELLO || number_at(message + 6, 3) != 0 || number_at(message + 9, 3) != size || size > record - MESSAGE_HEAD)
        return false;
    const unsigned char *body = message + MESSAGE_HEAD;
    size_t at = 2 + RANDOM_SIZE; /* version, random, session id, cookie */
    if (size < at + 1 || body[0] != 0xfe)
        return false;
    at += 1 + body[at];
    if (size < at + 1 || size - at - 1 < body[at])
        return false;
    *hello = (struct hello){.record = data, .length = RECORD_HEAD + record, .cookie = body + at + 1, .cookie_length = body[at]};
    return true;
}

/* False: it cannot be made. */
static bool write_verify_request(const struct sv_tls_port *port, const struct hello *hello, const unsigned char *packed,
                                 size_t packed_length, unsigned char answer[SV_DTLS_ANSWER_SIZE]) {
    enum { BODY = 3 + SV_TLS_COOKIE_SIZE };
    _Static_assert(SV_DTLS_ANSWER_SIZE == RECORD_HEAD + MESSAGE_HEAD + BODY, "a HelloVerifyRequest");
    unsigned char *message = answer + RECORD_HEAD, *body = message + MESSAGE_HEAD;
    memset(answer, 0, SV_DTLS_ANSWER_SIZE);
    answer[0] = HANDSHAKE_RECORD;
    answer[1] = 0xfe;
    answer[2] = 0xff; /* DTLS 1.0 whatever will be spoken (RFC 6347 4.2.1) */
    memcpy(answer + 3, hello->record + 3, 8);
    answer[12] = MESSAGE_HEAD + BODY;
    message[0] = HELLO_VERIFY_REQUEST;
    message[3] = message[11] = BODY;
    memcpy(message + 4, hello->record + RECORD_HEAD + 4, 2);
    body[0] = 0xfe;
    body[1] = 0xff;
    body[2] = SV_TLS_COOKIE_SIZE;
    return make_cookie(port, now_s(), packed, packed_length, body + 3) == 0;
}

static enum sv_dtls_greeting greet(const struct sv_tls_port *port, const struct sv_address *peer, const struct hello *hello,
                                   unsigned char answer[SV_DTLS_ANSWER_SIZE]) {
    unsigned char packed[PEER_SIZE];
    size_t packed_length = pack_peer(peer, packed);
    if (hello->length <= HELLO_MAX &&
        sv_dtls_check_cookie((void *)(uintptr_t)port, hello->cookie, hello->cookie_length, packed, packed_length) == 0 &&
        now_s() - stamp_of(hello->cookie) <= COOKIE_LIFE_S)
        return SV_DTLS_WELCOME;
    return write_verify_request(port, hello, packed, packed_length, answer) ? SV_DTLS_ANSWERED : SV_DTLS_DROPPED;
}

enum sv_dtls_greeting sv_dtls_greet(const struct sv_tls_port *port, const struct sv_address *peer, const void *data, size_t length,
                                    unsigned char answer[SV_DTLS_ANSWER_SIZE]) {
    struct hello hello;
    return SV_HAS_DTLS && parse_hello(data, length, &hello) ? greet(port, peer, &hello, answer) : SV_DTLS_DROPPED;
}

struct sv_tls *sv_dtls_accept(struct sv_tls_port *port, const void *data, size_t length) {
    struct hello hello;
    if (!parse_hello(data, length, &hello) || hello.cookie_length == 0)
        return NULL;
    struct sv_tls *tls = sv_tls_new(port, -1);
    if (!tls)
        return NULL;
    /* Doubled on its way, or replayed: a second connection would take the datagrams of the first. */
    uint64_t number = number_of(&hello);
    if (sv_tls_shared_take_hello(port->shared, number)) {
        tls->hello_number = number;
        tls->hello = random_of(&hello);
        if (sv_tls_keep(&tls->input, data, hello.length) == 0)
            return tls;
    }
    sv_tls_free(tls);
    return NULL;
}

/* What a connection costs is not spent before its turn has come. 0 or an error of mbedTLS. */
int sv_dtls_begin(struct sv_tls *tls) {
    struct sv_address peer = {.length = sizeof peer.u};
    unsigned char packed[PEER_SIZE];
    if (getpeername(tls->fd, &peer.u.base, &peer.length) < 0) {
        tls->socket_error = errno;
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    }
    int result = sv_tls_set_up(tls);
#if SV_HAS_DTLS
    if (result == 0)
        result = mbedtls_ssl_set_client_transport_id(&tls->ssl, packed, pack_peer(&peer, packed));
    if (result == 0)
        mbedtls_ssl_set_mtu(&tls->ssl, FLIGHT_MTU);
#else
    (void)packed;
#endif
    return result;
}

/* Nobody was served by it: its peer may repeat himself. */
void sv_dtls_give_back(struct sv_tls *tls) {
    if (tls->hello_number && !tls->has_been_open)
        sv_tls_shared_give_hello(tls->port->shared, tls->hello_number);
}

void sv_dtls_set_socket(struct sv_tls *tls, int fd) { tls->fd = fd; }

/* ---------------------------------------------------------------------------------------------------------- records */

/* A datagram goes as a whole or not at all. One waits for the socket; what else finds none is lost, as on the way. */
int sv_dtls_send_record(void *context, const unsigned char *data, size_t length) {
    struct sv_tls *tls = context;
    ssize_t count;
    if (tls->output.data && sv_tls_flush(tls) != 0)
        return (int)length;
    do
        count = send(tls->fd, data, length, MSG_DONTWAIT | MSG_NOSIGNAL);
    while (count < 0 && errno == EINTR);
    if (count < 0 && (errno == EAGAIN || errno == ENOBUFS)) {
        if (sv_tls_keep(&tls->output, data, length) < 0)
            return MBEDTLS_ERR_SSL_ALLOC_FAILED;
    } else if (count < 0 && errno == ECONNREFUSED) { /* nobody is there any more; other errors are about the way, for the moment */
        tls->socket_error = errno;
        return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
    }
    return (int)length;
}

/* What a ClientHello is to a connection. mbedTLS would take each for a client that begins anew, and be deaf to one that does so in the
 * middle of a handshake. */
enum greeting { NOT_FOR_MBEDTLS, FOR_MBEDTLS, IS_ANEW };

static enum greeting meet(struct sv_tls *tls, const struct hello *hello) {
    struct sv_address peer = {.length = sizeof peer.u};
    unsigned char answer[SV_DTLS_ANSWER_SIZE];
    if (random_of(hello) == tls->hello) /* its own, come late or again: a reason to repeat a flight, as long as there is one */
        return tls->state == SV_TLS_SHAKING ? FOR_MBEDTLS : NOT_FOR_MBEDTLS;
    if (getpeername(tls->fd, &peer.u.base, &peer.length) < 0)
        return NOT_FOR_MBEDTLS;
    enum sv_dtls_greeting greeting = greet(tls->port, &peer, hello, answer);
    /* RFC 6347 4.2.8: only who has shown with the cookie that he is there ends what was. */
    if (greeting == SV_DTLS_WELCOME && sv_tls_keep(&tls->successor, hello->record, hello->length) == 0)
        return IS_ANEW;
    ssize_t count = greeting == SV_DTLS_ANSWERED ? send(tls->fd, answer, sizeof answer, MSG_DONTWAIT | MSG_NOSIGNAL) : 0;
    (void)count; /* without room for it the peer asks again */
    return NOT_FOR_MBEDTLS;
}

size_t sv_dtls_successor(const struct sv_tls *tls, const void **data) {
    *data = tls->successor.data;
    return tls->successor.end;
}

int sv_dtls_receive_datagram(void *context, unsigned char *data, size_t size) {
    struct sv_tls *tls = context;
    ssize_t count = -1;
    if (tls->input.data) { /* the ClientHello that brought the cookie */
        size_t length = tls->input.end < size ? tls->input.end : size;
        memcpy(data, tls->input.data, length);
        sv_tls_drop_kept(&tls->input);
        return (int)length;
    }
    while (tls->reads_left > 0) {
        tls->reads_left--;
        count = recv(tls->fd, data, size, MSG_DONTWAIT);
        struct hello hello;
        enum greeting greeting = count > 0 && parse_hello(data, (size_t)count, &hello) ? meet(tls, &hello) : FOR_MBEDTLS;
        if (greeting == IS_ANEW)
            return MBEDTLS_ERR_SSL_CLIENT_RECONNECT;
        if (count > 0 && greeting == FOR_MBEDTLS)
            return (int)count;
        if (count < 0 && errno == EAGAIN)
            break;
        if (count < 0 && errno != EINTR) {
            tls->socket_error = errno;
            return MBEDTLS_ERR_SSL_INTERNAL_ERROR;
        }
        /* else an empty datagram, or one to be ignored */
    }
    tls->has_blocked = true;
    return MBEDTLS_ERR_SSL_WANT_READ;
}

/* ----------------------------------------------------------------------------------------------------------- timers */

void sv_dtls_set_timer(void *context, uint32_t middle_ms, uint32_t end_ms) {
    struct sv_tls *tls = context;
    int64_t now = sv_now_ns();
    tls->timer_middle_ns = end_ms ? now + middle_ms * SV_NS_PER_MS : 0;
    tls->timer_end_ns = end_ms ? now + end_ms * SV_NS_PER_MS : 0;
}

/* -1: not running, 0: neither is over, 1: the middle, 2: all. */
int sv_dtls_get_timer(void *context) {
    const struct sv_tls *tls = context;
    if (tls->timer_end_ns == 0)
        return -1;
    int64_t now = sv_now_ns();
    return now >= tls->timer_end_ns ? 2 : now >= tls->timer_middle_ns;
}

int64_t sv_dtls_due(const struct sv_tls *tls) { return tls->state == SV_TLS_SHAKING ? tls->timer_end_ns : 0; }
