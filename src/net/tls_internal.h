/* tls_internal.h: what the files of the TLS module share (tls.h). Only src/net/tls*.c, dtls.c and ticket_keys.c include it. */
#ifndef SV_NET_TLS_INTERNAL_H
#define SV_NET_TLS_INTERNAL_H

#include <mbedtls/ctr_drbg.h>
#include <mbedtls/entropy.h>
#include <mbedtls/pk.h>
#include <mbedtls/ssl.h>
#include <mbedtls/version.h>
#include <mbedtls/x509_crt.h>

#include "net/tls.h"

#define SV_MBEDTLS_3 (MBEDTLS_VERSION_NUMBER >= 0x03000000)
#if SV_MBEDTLS_3 && defined(MBEDTLS_SSL_PROTO_TLS1_3)
#define SV_HAS_TLS_1_3 1
#else
#define SV_HAS_TLS_1_3 0
#endif
#if defined(MBEDTLS_SSL_PROTO_DTLS) && defined(MBEDTLS_SSL_DTLS_HELLO_VERIFY)
#define SV_HAS_DTLS 1
#else
#define SV_HAS_DTLS 0
#endif
#if defined(MBEDTLS_SSL_SESSION_TICKETS) && defined(MBEDTLS_GCM_C)
#define SV_HAS_TICKETS 1
#else
#define SV_HAS_TICKETS 0
#endif
#ifndef MBEDTLS_PRIVATE /* 2.28: all fields are open */
#define MBEDTLS_PRIVATE(member) member
#endif

/* -------------------------------------------------------------------------------------------------- random numbers */

struct sv_tls_random {
    mbedtls_entropy_context entropy;
    mbedtls_ctr_drbg_context generator;
};
/* 0 or an error of mbedTLS; to be freed in either case. Not before a fork: the child would repeat the parent's numbers. */
int sv_tls_random_init(struct sv_tls_random *random);
void sv_tls_random_free(struct sv_tls_random *random);

/* The text of an error of mbedTLS, in lower case like the words of errno. */
void sv_tls_describe_error(int code, char *text, size_t size);

/* ---------------------------------------------------------------------------------------- certificates (tls_files.c) */

struct sv_tls_pair {
    struct sv_tls_pair *next;
    char *name; /* in lower case, perhaps with "*." before it; NULL: the port's own */
    mbedtls_x509_crt chain;
    mbedtls_pk_context key;
};

struct sv_tls_credentials {
    struct sv_tls_pair *pairs; /* the port's own is the first */
    mbedtls_x509_crt authorities;
    bool has_authorities;
    bool has_named_authorities; /* ssl_client_cert_file: clients are told their names */
};
/* 0 or -code; to be freed in either case. */
int sv_tls_credentials_parse(struct sv_tls_credentials *credentials, const struct sv_tls_bytes *bytes, struct sv_tls_random *random,
                             struct srvlua_status *status);
void sv_tls_credentials_free(struct sv_tls_credentials *credentials);

/* tls_key.c: `text` ends with a NUL, which `size` counts. 0 or an error of mbedTLS. */
int sv_tls_key_parse(mbedtls_pk_context *key, const unsigned char *text, size_t size, const char *passphrase, struct sv_tls_random *random);

/* ------------------------------------------------------------------------------------------------ ports (tls_port.c) */

/* Certificates and the configuration made with them. Connections hold the one they began with. */
struct sv_tls_generation {
    unsigned users;
    struct sv_tls_port *port;
    struct sv_tls_credentials credentials;
    mbedtls_ssl_config config;
};

struct sv_tls_port {
    const struct sv_tls_rules *rules;
    struct sv_tls_shared *shared;
    struct sv_tls_scratch *scratch;
    struct sv_tls_random random;
    struct sv_tls_generation *generation;
    int *suites;
#if SV_MBEDTLS_3
    uint16_t *groups;
#else
    mbedtls_ecp_group_id *groups;
#endif
};

void sv_tls_generation_release(struct sv_tls_generation *generation);

/* ------------------------------------------------------------------------------------------------ rules (tls_rules.c) */

extern const int sv_tls_default_suites[];       /* ended by 0 */
extern const uint16_t sv_tls_default_groups[];  /* ended by 0 */

/* ------------------------------------------------------------------------------------------------------ connections */

#define SV_TLS_RECORD 16384u                      /* plain bytes of one at most */
#define SV_TLS_RECORD_ROOM (SV_TLS_RECORD + 256u) /* encrypted, with all that belongs to it */
#define SV_TLS_BURST 4u                           /* records that go out with one system call */
#define SV_TLS_READ_AHEAD 65536u

/* tls_stack.c: mbedtls_ssl_write and _read with the stack where they are fastest. */
struct sv_tls_stack { /* what is known of one direction */
    uint8_t tries;
    int64_t least_ns[2]; /* of a full record, by position */
};
int sv_tls_stack_write(struct sv_tls_stack *stack, mbedtls_ssl_context *ssl, const unsigned char *data, size_t length);
int sv_tls_stack_read(struct sv_tls_stack *stack, mbedtls_ssl_context *ssl, unsigned char *data, size_t size);

/* Nothing lies in `output` and `plain` between two calls. */
struct sv_tls_scratch {
    struct sv_tls *owner; /* whose input it is */
    struct sv_tls_stack reading, writing;
    size_t begin, end;
    size_t output_length;
    unsigned char input[SV_TLS_READ_AHEAD];
    unsigned char output[SV_TLS_BURST * SV_TLS_RECORD_ROOM];
    unsigned char plain[SV_TLS_RECORD];
};

struct sv_tls_kept { /* malloc'ed; NULL: nothing */
    unsigned char *data;
    size_t begin, end;
};

/*  FRESH ── first byte ──► SHAKING ── handshake done ──► OPEN ── end of stream, bad record ──► ENDED: sends still go out
 *    └──────────────────────┴── error ──► BROKEN ◄── error ──┘                               */
enum sv_tls_state { SV_TLS_FRESH, SV_TLS_SHAKING, SV_TLS_OPEN, SV_TLS_ENDED, SV_TLS_BROKEN };

struct sv_tls {
    mbedtls_ssl_context ssl; /* from SHAKING on; first, so that callbacks find their connection */
    struct sv_tls_port *port;
    struct sv_tls_generation *generation; /* from SHAKING on */
    int fd;
    int failure;      /* -errno: what every call says in BROKEN, and receive in ENDED */
    int socket_error; /* errno that a callback met */
    uint8_t state;    /* enum sv_tls_state */
    uint8_t reads_left;     /* system calls that the running operation may still make to read */
    uint8_t burst;          /* records that the next send puts together at most */
    uint8_t unasked;        /* alerts that the peer made us send (renegotiation) */
    uint8_t farewell;       /* description of the fatal alert that the stream ends with; 0: none */
    bool is_datagram, has_blocked, has_seen_fin, was_clean, is_shut, is_receiving, has_sent_certificate, has_told_end;
    bool has_alerted; /* in the running operation */
    bool has_been_open;
    struct sv_tls_kept input, output;
    size_t plain; /* bytes that the last send took, while some of them wait in `output` */
    struct sv_tls_kept successor; /* DTLS: the ClientHello with which its peer has begun anew */
    char *server_name;
    int64_t timer_middle_ns, timer_end_ns; /* DTLS: monotonic; 0: not running */
    uint64_t hello;                        /* DTLS: of the random bytes of the ClientHello that it began with */
    uint64_t hello_number;                 /* DTLS: what was taken for it (sv_tls_shared_take_hello); 0: nothing */
    char message[200];
};

/* Prepares the handshake: certificates, the library's context. 0 or an error of mbedTLS. */
int sv_tls_set_up(struct sv_tls *tls);
/* Adds to what is kept. 0 or -ENOMEM. */
int sv_tls_keep(struct sv_tls_kept *kept, const void *data, size_t length);
void sv_tls_drop_kept(struct sv_tls_kept *kept);

/* dtls.c: as sv_tls_set_up, for a session that has its socket. */
int sv_dtls_begin(struct sv_tls *tls);
/* The connection ends. */
void sv_dtls_give_back(struct sv_tls *tls);
/* dtls.c: what mbedTLS calls for datagrams. */
int sv_dtls_send_record(void *context, const unsigned char *data, size_t length);
int sv_dtls_receive_datagram(void *context, unsigned char *data, size_t size);
void sv_dtls_set_timer(void *context, uint32_t middle_ms, uint32_t end_ms);
int sv_dtls_get_timer(void *context);
int sv_dtls_write_cookie(void *context, unsigned char **at, unsigned char *end, const unsigned char *peer, size_t length);
int sv_dtls_check_cookie(void *context, const unsigned char *cookie, size_t cookie_length, const unsigned char *peer, size_t length);

/* ---------------------------------------------------------------------------------------------------- ticket_keys.c */

#define SV_TLS_KEY_SIZE 32u
#define SV_TLS_COOKIE_SIZE 32u

/* What mbedTLS calls; the context is the sv_tls_port. */
int sv_tls_ticket_write(void *context, const mbedtls_ssl_session *session, unsigned char *start, const unsigned char *end,
                        size_t *length, uint32_t *lifetime);
int sv_tls_ticket_parse(void *context, mbedtls_ssl_session *session, unsigned char *data, size_t length);
/* The key of an epoch: the one of `now_ns`, which is made if need be, or the one before. False: there is none, or not any more. */
bool sv_tls_shared_key(struct sv_tls_shared *shared, int64_t now_ns, uint64_t epoch, unsigned char key[SV_TLS_KEY_SIZE]);
uint64_t sv_tls_shared_epoch(const struct sv_tls_shared *shared, int64_t now_ns);
const unsigned char *sv_tls_shared_cookie_key(const struct sv_tls_shared *shared);
/* False: this ClientHello (dtls.c's number of it) was taken before, by whatever process. Old ones are forgotten. */
bool sv_tls_shared_take_hello(struct sv_tls_shared *shared, uint64_t hello);
/* It may be taken again. */
void sv_tls_shared_give_hello(struct sv_tls_shared *shared, uint64_t hello);

#endif
