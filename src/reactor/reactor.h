/* reactor.h: owns client sockets. One module with two homes: a thread of the master (PROCESS), where events go to workers through
 * rings (ring_home.h), or a worker's own loop (BASE), where they are function calls.
 *
 *   socket ─► read ─► home->commit(data)            orders: send, sendfile, close, pause, resume … ─► functions below
 *   EOF, error, idle, close order ─► begin_close ─► home->notify(CLOSED) … answer_close ─► flush ─► kill ─► reap
 *
 * A reactor never blocks and always takes in what workers send. It allocates nothing per message while clients read.
 * runs in: the thread or process that owns it; no Lua. */
#ifndef SV_REACTOR_REACTOR_H
#define SV_REACTOR_REACTOR_H

#include "base/log.h"
#include "net/address.h"
#include "net/connection.h"
#include "net/networks.h"
#include "net/output.h"
#include "net/socket_options.h"
#include "reactor/loop.h"
#include "shm/session.h"
#include "shm/slot.h"

#define SV_READ_MAX 65536u

/* What a reactor has to know of a port; filled from its settings before the first fork, then read only. */
struct sv_port_rules {
    uint16_t index;
    int type;        /* enum srvlua_socket_type */
    int number;      /* port number; 0 for unix */
    char name[SV_ADDRESS_TEXT_SIZE + 16]; /* in messages: "port 9501", "unix socket /tmp/socket" */
    int listener_fd;
    bool is_inherited; /* others listen there too: it is never shut down */
    struct sv_socket_options options;
    int64_t output_limit, high_watermark, low_watermark; /* bytes; 0: no limit, no events */
    int64_t heartbeat_ns, idle_ns;                       /* 0: off */
    bool has_close_events;  /* CLOSED is announced and answered before the socket is closed */
    bool has_connect_event, has_close_callback, has_buffer_full, has_buffer_empty;
    bool is_delayed;        /* enable_delay_receive */

    struct sv_framer_rules framing; /* of stream ports */
    int64_t package_timeout_ns;     /* 0: off; so are the two below */

    bool has_proxy;         /* open_proxy_protocol */
    const struct sv_networks *trusted; /* that may send its header */
    int64_t proxy_timeout_ns;          /* 0: no limit */
    int64_t visitor_limit;             /* connections of an address at a time; 0: no limit */
    double visitor_rate;               /* new ones of an address per second; 0: no limit */
    const struct sv_networks *visitor_exempt; /* that these two do not bind */

    const struct sv_tls_rules *tls; /* NULL: plain */
    const struct sv_tls_bytes *certificates;
    struct sv_tls_shared *tls_shared;
    int64_t handshake_timeout_ns;
    int64_t handshake_limit; /* unfinished handshakes per reactor; 0: none */
};

struct sv_port_shared { /* of one port, by all reactors and workers; in shared memory */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t violations; /* second << 32 | how many were found in it */
};

struct sv_reactor_home { /* where events go */
    void *context;
    /* Room for the next bytes of a connection, *size of them; NULL: none now, and the home has set SV_BLOCK_RING or _QUEUED. */
    unsigned char *(*reserve)(void *context, struct sv_connection *connection, uint32_t *size);
    /* `length` bytes (0: nothing came) are in the room that was reserved. */
    void (*commit)(void *context, struct sv_connection *connection, uint32_t length, int64_t stamp_ns);
    /* Whether a packet of the connection can be passed on now; false: the home has set SV_BLOCK_RING or _QUEUED, or it is to be
     * asked again in the next turn of the loop. */
    bool (*may_deliver)(void *context, struct sv_connection *connection);
    /* A packet; never lost. *owned, if there is one: the malloc'ed buffer that begins with it; set to NULL if the home keeps it. */
    void (*deliver)(void *context, struct sv_connection *connection, const void *data, size_t length, int64_t stamp_ns,
                    unsigned char **owned);
    /* SV_RECORD_CONNECT (payload: struct sv_tls_info and PEM, or nothing), _CLOSED, _BUFFER_FULL, _BUFFER_EMPTY; never lost. */
    void (*notify)(void *context, struct sv_connection *connection, uint16_t type, int32_t value, const void *payload, size_t length);
    /* The connection ends. True if its worker need not be asked: nobody could miss a close callback, or send anything before it. */
    bool (*forget)(void *context, struct sv_connection *connection);
    /* A datagram; false: the worker has no room, stop reading that socket until sv_reactor_resume_datagrams(). */
    bool (*datagram)(void *context, const struct sv_port_rules *port, const struct sv_address *from, const void *data,
                     size_t length, int64_t stamp_ns);
    /* The connection ends: forget it. */
    void (*gone)(void *context, struct sv_connection *connection);
};

struct sv_batch_entry { /* a send that still lies in a ring */
    const unsigned char *data;
    uint32_t length;
    uint32_t next; /* index + 1 */
};

#define SV_BATCH_ENTRIES 512

/* What an unfinished connection, or packet, has a time limit for. */
enum sv_deadline_kind { SV_DEADLINE_PROXY, SV_DEADLINE_HANDSHAKE, SV_DEADLINE_PACKET, SV_DEADLINES };

struct sv_port_state { /* per reactor and port */
    struct sv_link heard, active;
    struct sv_link deadlines[SV_DEADLINES]; /* ordered by due_ns */
    struct sv_framer_rules framing; /* the port's, with this reactor's context */
    struct sv_tls_port *tls;
    int64_t handshakes; /* unfinished, and not waiting for their turn */
    struct sv_link waiting_handshakes;
    int64_t waiting_count;
    uint64_t swallowed; /* violations that were not logged */
    ev_io datagrams; /* data: the reactor; used for datagram ports it serves */
    bool is_watching;
};

struct sv_reactor {
    uint16_t number;         /* reactor id; BASE: worker id */
    struct srvlua_loop *loop;
    struct sv_endpoint *endpoint;
    struct sv_session_table *sessions;
    struct sv_counters *counters;
    const struct sv_port_rules *ports;
    uint16_t port_count;
    struct sv_log log;
    struct sv_reactor_home home;
    int64_t output_memory_limit;
    int64_t max_connection;
    int64_t max_queued_bytes;
    double heartbeat_interval; /* seconds; 0: off */
    struct sv_port_shared *shared_ports; /* [port_count] */
    /* Fills in what differs from reactor to reactor (length_context); NULL: nothing does. */
    void (*fill_framing)(void *context, uint32_t reactor, uint16_t port, struct sv_framer_rules *rules);
    void *framing_context;

    struct sv_connection **by_slot; /* [sessions->mask + 1], mapped, touched as used */
    size_t by_slot_bytes;
    struct sv_port_state *port_states;
    struct sv_link all, dirty, dead, ready;
    size_t connection_count;
    void *free_connections; /* pooled */
    struct sv_output_pool pool;
    struct sv_batch_entry batch[SV_BATCH_ENTRIES];
    uint32_t batch_count;
    unsigned char *scratch; /* SV_READ_MAX + 64 bytes */
    ev_timer heartbeat, idle, deadline, violation_report;
    struct sv_tls_scratch *tls_scratch; /* NULL: no port has TLS */
    int64_t next_deadline_ns;
    bool is_pump_due; /* run_ready() is deferred */
    uint64_t pumped_turn; /* turn of the loop in which those that were ready had their say before any read */
    uint64_t handshake_turn; /* turn of the loop in which handshakes took handshake_ns */
    int64_t handshake_ns;
    bool is_quiet; /* reads nothing any more */
    struct sv_log_limit memory_warning, damage_warning, datagram_warning;
    uint16_t port_cursor;
};

/* All members up to framing_context are set by the caller. 0 or -errno, with *status. */
int sv_reactor_init(struct sv_reactor *reactor, struct srvlua_status *status);
/* Closes what is left without events. */
void sv_reactor_free(struct sv_reactor *reactor);
/* In a forked child: closes the copies of the clients' sockets, so that they end when the owner closes them; nothing else changes. */
void sv_reactor_drop_copies(struct sv_reactor *reactor);
/* To be called before the loop sleeps: flushes what the turn queued, frees what died. */
void sv_reactor_end_turn(struct sv_reactor *reactor);
/* To be called after a batch of records: writes the sends that lie in rings, then gives the rings' space back. */
void sv_reactor_end_batch(struct sv_reactor *reactor);

/* Takes a claimed session over (its os_fd, port, peer are filled in), and its handshake if that has begun already (datagrams). */
void sv_reactor_adopt(struct sv_reactor *reactor, struct sv_session *session, struct sv_tls *tls);
/* Begins to read a datagram port. */
void sv_reactor_watch_datagrams(struct sv_reactor *reactor, uint16_t port);
void sv_reactor_resume_datagrams(struct sv_reactor *reactor);

/* The connection of a session id, NULL if it is not ours or gone. */
struct sv_connection *sv_reactor_find(const struct sv_reactor *reactor, uint64_t id);

/* An order that came as a record (SEND, SENDFILE, CLOSE, PAUSE, RESUME, IDLE_CLOSE, ACCEPTED, CERTIFICATES); false: not one of these. */
bool sv_reactor_order(struct sv_reactor *reactor, const struct sv_message *message);

/* The orders as functions; BASE workers call them directly. send copies; *owned as in struct sv_message. */
void sv_reactor_send(struct sv_reactor *reactor, struct sv_connection *connection, const void *data, size_t length,
                     unsigned char **owned);
void sv_reactor_send_file(struct sv_reactor *reactor, struct sv_connection *connection, int file, int64_t offset, int64_t length);
/* Notifies OUTPUT_LOW, once, as soon as the queue is at its low watermark. */
void sv_reactor_want_low(struct sv_reactor *reactor, struct sv_connection *connection);
/* enum sv_close_order bits. Without ANSWER the close is announced first. */
void sv_reactor_close(struct sv_reactor *reactor, struct sv_connection *connection, int order);
void sv_reactor_set_block(struct sv_reactor *reactor, struct sv_connection *connection, enum sv_read_block block, bool is_on);
/* Ends a connection on our own account (idle, protocol error): output discarded, CLOSED announced with `value`. */
void sv_reactor_abandon(struct sv_reactor *reactor, struct sv_connection *connection, int close_errno, int32_t value);
/* Ends a connection because the user's dispatch function wants it: output goes out first, CLOSED announced with our number. */
void sv_reactor_dismiss(struct sv_reactor *reactor, struct sv_connection *connection);
/* Blocks until all output of a connection is in the kernel. 0 or -errno. */
int sv_reactor_flush_blocking(struct sv_reactor *reactor, struct sv_connection *connection, const void *data, size_t length);

/* Takes nothing in any more and stops reading everything, for good, but what is on its way to be open (PROXY header, handshake). */
void sv_reactor_quiet(struct sv_reactor *reactor);
/* Ends these, with a word to those who speak TLS already. */
void sv_reactor_cancel_openings(struct sv_reactor *reactor);
/* There are some that are worth waiting for. */
bool sv_reactor_is_opening(const struct sv_reactor *reactor);
/* Passes on the whole packets that were read, whether there is room or not. Not from a callback. */
void sv_reactor_pass_on_all(struct sv_reactor *reactor);
/* Closes all connections after their output is flushed, without events. True when none is left. */
bool sv_reactor_close_all(struct sv_reactor *reactor);

/* heartbeat.c: starts the idle checks; keeps the lists. */
void sv_heartbeat_start(struct sv_reactor *reactor);
void sv_heartbeat_stop(struct sv_reactor *reactor);
void sv_heartbeat_add(struct sv_reactor *reactor, struct sv_connection *connection);
void sv_heartbeat_heard(struct sv_reactor *reactor, struct sv_connection *connection);
void sv_heartbeat_sent(struct sv_reactor *reactor, struct sv_connection *connection);

#endif
