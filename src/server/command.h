/* command.h: named questions to the processes of a running server, each answered by the process that is asked (methods.md 11).
 *
 *   asker: srvlua_command ─► COMMAND record ─► target: handler, srvlua_command_reply ─► COMMAND_REPLY record ─► asker: callback
 *
 * A question is for one life of a process. That is known by its birth, which travels along: another life of the slot drops the
 * question, and the asker, who looks after those that it has asked, gives 9003 as the answer. A process that is just being started
 * again is waited for. Neither side ever waits for room in a ring.
 *
 * runs in: the asker is the master, in BASE event worker 0; targets are that one itself, the manager and all workers. */
#ifndef SV_SERVER_COMMAND_H
#define SV_SERVER_COMMAND_H

#include <stddef.h>
#include <stdint.h>

#include "ipc/outbox.h"
#include "srvlua.h"

struct sv_command { /* as registered before start() */
    char *name;
    int types;
    srvlua_command_handler handler;
    void *user_data;
};

struct sv_question;
struct sv_answer;

struct sv_commands {
    struct sv_command *items;
    size_t count;
    struct sv_question *first, *last; /* asked, or to be asked, and not answered yet; oldest first */
    uint32_t asked;                   /* numbers them */
    size_t held;                      /* those that wait for their target's start */
    int64_t ticker;                   /* while there are any; 0: none */
    struct sv_outbox outbox;
    struct sv_answer *answering; /* the question whose handler is running, innermost first; NULL: none */
};

/* Hooks of the runtime: a COMMAND or COMMAND_REPLY has come; the process is about to sleep. */
void sv_commands_take(void *context, const struct sv_message *message);
void sv_commands_look(void *context);
/* The process has become another one: what its parent asked is not its business. */
void sv_commands_forget(srvlua_server *server);
void sv_commands_free(srvlua_server *server);

#endif
