/* tls.h: TLS and DTLS connections on sockets, by mbedTLS (2.28, or 3.x where it is present).
 *
 *   settings ─► sv_tls_rules (constant)      files ─► sv_tls_files_read ─► bytes, checked (they travel between processes)
 *                         └──────────┬───────────────────────┘
 *                     sv_tls_port: one reactor's, with parsed certificates and random numbers of its own: no locks
 *                                    └─► sv_tls: one connection. Its functions behave like those of a non-blocking socket.
 *
 * Ciphertext that was read ahead lies in a space that all connections of a sv_tls_port's reactor share (sv_tls_scratch); what a
 * connection leaves there when another one needs it moves into memory of its own. Encrypted bytes that the socket did not take
 * are kept by the connection and go first. One call reads the socket a bounded number of times: it must be watched level-triggered.
 * Before the first byte of the client a connection takes no memory but its own struct.
 * Nothing is global. runs in: reactors; reading files: the process that configures, or asks for other certificates. */
#ifndef SV_NET_TLS_H
#define SV_NET_TLS_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>
#include <sys/uio.h>

#include "net/address.h"
#include "srvlua.h"

#define SV_TLS_1_2 32u /* SRVLUA_SSL_TLSv1_2 */
#define SV_TLS_1_3 64u

/* ------------------------------------------------------------------------------------------- what settings demand */

struct sv_tls_sni_paths {
    const char *name, *cert_file, *key_file, *passphrase;
};

struct sv_tls_paths { /* NULL: not given */
    const char *cert_file, *key_file, *passphrase;
    const char *client_cert_file, *ca_file, *ca_path;
    const struct sv_tls_sni_paths *sni;
    size_t sni_count;
};

struct sv_tls_bytes { /* the contents of all files of a port, in one piece without pointers */
    unsigned char *data; /* malloc'ed */
    size_t length;
};

/* Reads all files and checks them: certificates and keys parse and match, names are names. 0; -errno (message names the file); or
 * -SRVLUA_ERROR_INVALID_PARAMS. On failure *bytes is empty. */
int sv_tls_files_read(const struct sv_tls_paths *paths, struct sv_tls_bytes *bytes, struct srvlua_status *status);
/* Zeroes and frees. */
void sv_tls_bytes_free(struct sv_tls_bytes *bytes);

struct sv_tls_rules { /* of one port, from its settings; constant once made */
    bool is_datagram;
    uint32_t versions;         /* SV_TLS_1_2 | SV_TLS_1_3 */
    int *ciphers;              /* mbedTLS numbers in order of preference, ended by 0; NULL: default; malloc'ed */
    uint16_t *groups;          /* IANA numbers, ended by 0; NULL: automatic; malloc'ed */
    char **alpn;               /* ended by NULL; NULL: none; malloc'ed with its strings */
    bool prefers_own_order;
    bool asks_for_certificate; /* ssl_client_cert_file, or a verifying port */
    bool verifies_peer, allows_self_signed;
    int verify_depth;          /* 0: the library's */
    bool has_tickets;
    int64_t ticket_life_ns;
    bool wants_kernel;         /* ssl_ktls */
};
/* ssl_ciphers, ssl_ecdh_curve: 0, or -1 with what is wrong in `wrong` (a name). '' and NULL are the default. */
int sv_tls_parse_ciphers(const char *text, int **ciphers, char *wrong, size_t size);
int sv_tls_parse_groups(const char *text, uint16_t **groups, char *wrong, size_t size);
void sv_tls_rules_free(struct sv_tls_rules *rules);
/* What this build's library can do: bits of SV_TLS_1_x; whether it has DTLS; whether it can let the client's order decide. */
uint32_t sv_tls_library_versions(void);
bool sv_tls_library_has_datagrams(void);
bool sv_tls_library_follows_client(void);

/* Keys of session tickets and DTLS cookies of one port, in shared memory: the same for all reactors and workers. They follow from one
 * another, a new one every ticket_life_ns, so any process may make the next (ticket_keys.c). */
struct sv_tls_shared;
size_t sv_tls_shared_bytes(void);
/* Before the first fork. 0 or -EIO without random numbers. */
int sv_tls_shared_init(struct sv_tls_shared *shared, int64_t ticket_life_ns);

/* ------------------------------------------------------------------------------------------------- in a reactor */

struct sv_tls_scratch; /* of one reactor */
struct sv_tls_scratch *sv_tls_scratch_new(void);
void sv_tls_scratch_free(struct sv_tls_scratch *scratch);

struct sv_tls_port;
/* NULL with a message. `rules` and `shared` must outlive it. */
struct sv_tls_port *sv_tls_port_new(const struct sv_tls_rules *rules, const struct sv_tls_bytes *bytes, struct sv_tls_shared *shared,
                                    struct sv_tls_scratch *scratch, struct srvlua_status *status);
/* New handshakes use these certificates; those that run, and connections, keep theirs. 0, or -code with nothing changed. */
int sv_tls_port_replace(struct sv_tls_port *port, const struct sv_tls_bytes *bytes, struct srvlua_status *status);
void sv_tls_port_free(struct sv_tls_port *port); /* its connections were freed before */

/* --------------------------------------------------------------------------------------------------- connections */

struct sv_tls;
/* A server's side on a connected non-blocking socket, which stays the caller's. NULL without memory. */
struct sv_tls *sv_tls_new(struct sv_tls_port *port, int fd);
/* Says no goodbye. */
void sv_tls_free(struct sv_tls *tls);

enum sv_tls_step { SV_TLS_DONE, SV_TLS_WANTS_INPUT, SV_TLS_WANTS_OUTPUT, SV_TLS_FAILED };
/* Goes on with the handshake as far as it can; after FAILED sv_tls_error() says why, and an alert was sent if that was possible. */
enum sv_tls_step sv_tls_handshake(struct sv_tls *tls);

/* Ends an unfinished handshake for a reason of our own: user_canceled, close_notify (RFC 5246 7.2.2). */
void sv_tls_cancel(struct sv_tls *tls);

/* Like recv(): bytes; 0 at the end of the stream; -EAGAIN; -EPROTO after a bad record (sv_tls_error()), which may be answered until
 * sv_tls_shut() sends the alert; -errno of the socket. A datagram session gives the bytes of one record at most. */
ssize_t sv_tls_receive(struct sv_tls *tls, void *data, size_t size);
/* Something was read ahead, or the end or a failure is still to be told: receive without waiting for the socket. */
bool sv_tls_has_input(const struct sv_tls *tls);
/* The stream ended with close_notify (and not just with FIN). */
bool sv_tls_was_closed_cleanly(const struct sv_tls *tls);

/* Like sendmsg(): takes plain bytes and returns how many it took, which then are out of the caller's hands; -EAGAIN none; -errno. */
ssize_t sv_tls_send(struct sv_tls *tls, const struct iovec *vectors, int count);
/* Plain bytes that it writes with one system call: who has to fetch them first fetches no more. */
size_t sv_tls_appetite(const struct sv_tls *tls);
/* Encrypted bytes that wait for the socket; how many plain ones of the last send they are, unless that was said not to count. */
size_t sv_tls_pending(const struct sv_tls *tls);
size_t sv_tls_pending_plain(const struct sv_tls *tls);
void sv_tls_uncount(struct sv_tls *tls);
/* They are dropped; then nothing can be sent any more. */
void sv_tls_discard(struct sv_tls *tls);
/* Writes them. 0 nothing is left, -EAGAIN, -errno. */
int sv_tls_flush(struct sv_tls *tls);
/* Queues the close_notify alert, or the one over a bad record, once. Results as of flush. */
int sv_tls_shut(struct sv_tls *tls);
/* Sends go straight to the socket now, which encrypts: write and sendfile as on plain ones. */
bool sv_tls_is_in_kernel(const struct sv_tls *tls);

/* Why the last operation failed; never NULL; lives as long as the connection. */
const char *sv_tls_error(const struct sv_tls *tls);
/* Memory that the connection takes, roughly. */
size_t sv_tls_memory(const struct sv_tls *tls);

#define SV_TLS_NAME_SIZE 256
struct sv_tls_info { /* after the handshake; as it travels to a worker, the certificate's PEM behind it */
    char protocol[12];  /* "TLSv1.2", "DTLSv1.2" */
    char cipher[64];    /* IANA name */
    char server_name[SV_TLS_NAME_SIZE]; /* "": none */
    char alpn[SV_TLS_NAME_SIZE];        /* "": none */
    uint8_t is_resumed, is_in_kernel;
    uint32_t certificate_length; /* bytes of PEM; 0: none */
};
/* Fills *info; the PEM is malloc'ed into *pem (NULL: none) and the caller's. 0 or -ENOMEM. */
int sv_tls_describe(const struct sv_tls *tls, struct sv_tls_info *info, char **pem);

/* -------------------------------------------------------------------------------------------------------- DTLS
 *
 * A datagram from a peer without a session goes to sv_dtls_greet(), which answers with a cookie and keeps nothing. When the peer comes
 * back with it he is welcome, and sv_dtls_accept() makes a connection of his datagram, for which the caller makes a socket, bound to the
 * address that the datagram was sent to and connected to the peer. */
enum sv_dtls_greeting { SV_DTLS_DROPPED, SV_DTLS_ANSWERED, SV_DTLS_WELCOME };
#define SV_DTLS_ANSWER_SIZE 60u
/* ANSWERED: `answer` is to be sent to him, and all of it. */
enum sv_dtls_greeting sv_dtls_greet(const struct sv_tls_port *port, const struct sv_address *peer, const void *data, size_t length,
                                    unsigned char answer[SV_DTLS_ANSWER_SIZE]);
/* What was welcome. NULL: no memory, or there was a connection for this very datagram already, by whatever process. */
struct sv_tls *sv_dtls_accept(struct sv_tls_port *port, const void *data, size_t length);
void sv_dtls_set_socket(struct sv_tls *tls, int fd);
/* The peer has begun anew, and the connection has failed or ended over it: bytes of the datagram with which he did, which is to be
 * greeted when the socket is closed; 0: he has not. */
size_t sv_dtls_successor(const struct sv_tls *tls, const void **data);
/* Nanoseconds (monotonic clock, absolute) at which sv_tls_handshake() has to be called again for retransmission; 0: not. */
int64_t sv_dtls_due(const struct sv_tls *tls);

#endif
