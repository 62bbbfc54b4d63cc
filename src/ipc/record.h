/* record.h: the kinds of records that cross processes and threads, and what their members mean.
 *
 * `id` is the session unless said otherwise; `value`, `stamp_ns` and the payload are named per type. Payloads larger than one
 * record travel as chunks of the same type and id (flags FIRST and LAST). */
#ifndef SV_IPC_RECORD_H
#define SV_IPC_RECORD_H

#include <stdint.h>

#include "shm/ring.h"

enum sv_record_type {
    /* reactor -> worker: events */
    SV_RECORD_CONNECT = 1,   /* value: reactor id */
    SV_RECORD_RECEIVE,       /* value: reactor id; stamp; payload: data */
    SV_RECORD_PACKET,        /* id: 0; value: port index; stamp; payload: struct sv_packet_head, data */
    SV_RECORD_CLOSED,        /* value: reactor id, or -1 closed by the server: run the close callback, then answer CLOSE */
    SV_RECORD_GONE,          /* nobody has heard of the connection but by its CONNECT record without an event: forget that */
    SV_RECORD_BUFFER_FULL,   /* value: reactor id */
    SV_RECORD_BUFFER_EMPTY,  /* value: reactor id */
    SV_RECORD_OUTPUT_LOW,    /* the answer to WANT_OUTPUT_LOW: the queue has fallen to the low watermark */

    /* any process -> owner of a connection (reactor, in BASE a worker): orders */
    SV_RECORD_SEND,          /* payload: data */
    SV_RECORD_SENDFILE,      /* payload: struct sv_file_head; the open file comes through the fd channel */
    SV_RECORD_CLOSE,         /* value: enum sv_close_order */
    SV_RECORD_PAUSE,
    SV_RECORD_RESUME,
    SV_RECORD_WANT_OUTPUT_LOW, /* tell this worker when the queue is at its low watermark (a send waits) */
    SV_RECORD_IDLE_CLOSE,    /* heartbeat(): closes with output discarded, event with reactor id -1 */

    /* acceptor -> reactor */
    SV_RECORD_ACCEPTED,      /* a claimed session whose os_fd, port and peer are filled in */

    /* supervision; id: process number or 0 */
    SV_RECORD_QUIESCE,       /* master -> reactors: stop reading and accepting; answered QUIESCED */
    SV_RECORD_QUIESCED,      /* reactor -> master */
    SV_RECORD_SERVE,         /* master -> reactors: clients may come now (datagram ports are read) */
    SV_RECORD_DRAIN,         /* master -> reactors: workers are gone; flush output until the shutdown's deadline, close, end */
    SV_RECORD_DRAINED,       /* reactor -> master: that is done, the thread ends */
    SV_RECORD_WORKER_DOWN,   /* manager -> reactors: id: slot, value: parity; that process is dead */
    SV_RECORD_SWITCH,        /* manager -> reactors: id: slot, value: parity; new work goes to that parity now */
    SV_RECORD_END,           /* reactor -> worker: nothing more comes from here for this life */
    SV_RECORD_READY,         /* worker -> manager: id: slot, value: parity; workerStart is done */
    SV_RECORD_BYE,           /* worker -> manager: id: slot, value: parity; asks to be replaced (max_request, SIGTERM, stop) */
    SV_RECORD_STOP,          /* any -> worker: id: pid, so that it means no later life of the slot; value: enum sv_stop_order */
    SV_RECORD_STOP_ALL,      /* master -> manager: the server shuts down */
    SV_RECORD_SHUTDOWN,      /* any -> master: shut down, please */
    SV_RECORD_START_FAILED,  /* manager -> master: value: code; the server cannot go on */
    SV_RECORD_RELOADING,     /* manager -> master: a reload begins */
    SV_RECORD_RELOADED,      /* manager -> master: it is over */

    /* certificates (process/renewal.h) */
    SV_RECORD_RENEW,         /* any -> master (BASE: manager); id: 0; payload: a head and the bytes for each port */
    SV_RECORD_CERTIFICATES,  /* master, manager -> reactors: id: number of the renewal; value: port index; payload: the bytes */

    /* commands (server/command.h); id: of the question */
    SV_RECORD_COMMAND,       /* asker -> any: value: number of the command; payload: struct command_head, data */
    SV_RECORD_COMMAND_REPLY, /* value: 0, or a code instead of an answer; payload: the answer */

    /* never in a ring: an endpoint tells its own receiver */
    SV_RECORD_LOST,          /* value: type of the event that went with a predecessor, RECEIVE or PACKET; no payload */

    /* between processes; payload: a head (below), data; value: enum srvlua_task_flag of the data */
    SV_RECORD_FINISH,        /* task worker -> who gave the task; id: task */
    SV_RECORD_MESSAGE,       /* any -> event or task worker; id: 0 */
    SV_RECORD_TYPES
};

enum sv_close_order {
    SV_CLOSE_ANSWER = 1, /* the close callback ran (or there is none): flush and close */
    SV_CLOSE_RESET = 2   /* drop the queue, close with RST */
};

enum sv_stop_order {
    SV_STOP_NOW,   /* after the running callback; what is pending is abandoned */
    SV_STOP_LEAVE, /* a user's stop(id, true): hand the inbox over, ask for a successor, wait until nothing is pending */
    SV_STOP_WAIT   /* the manager's: the successor is there, or the server shuts down */
};

struct sv_packet_head { /* in front of a datagram's bytes */
    int32_t peer_port;  /* -1: unix */
    int32_t server_socket;
    uint32_t address_length; /* bytes of text that follow, without NUL; then the datagram */
    uint32_t reserved;
};

struct sv_finish_head { /* in front of a task's result */
    uint32_t task_worker;   /* process number */
    uint32_t born;          /* of who gave the task (process/tasks.h) */
    int64_t stamp_ns;       /* wall clock */
};

struct sv_message_head { /* in front of a message */
    int32_t source;      /* process number, -1: master or manager */
    uint32_t reserved;
    int64_t stamp_ns;    /* wall clock */
};

struct sv_file_head {
    int64_t offset;
    int64_t length;
    uint64_t tag; /* of the descriptor in the fd channel */
};

#endif
