/* descriptor.h: the descriptor of a client socket, and what waits for it.
 *
 * An operation (connect, receive, send …) is a function that goes on as far as it can without waiting. Where it must wait, its
 * coroutine is suspended until the descriptor is ready or the time is over; who is in no coroutine waits in poll(). So there
 * is one implementation of each, with one result:
 *
 *              step() = -EAGAIN                 ready, late, poked
 *   starting ────────────────────► waiting ──────────────────────────► step() … ──► push(), resume
 *      └── else ──► push(), return          closed ──► push(), resume at the end of the turn
 *
 * Steps run no Lua. The watch of a descriptor lives as long as it is open and goes on waiting for input between operations:
 * a request and its answer need no epoll_ctl. The alarm is not moved when a deadline becomes later, only when it rings.
 *
 * runs in: every process. One thread. */
#ifndef SV_LUA_CLIENT_DESCRIPTOR_H
#define SV_LUA_CLIENT_DESCRIPTOR_H

#include "lua/binding.h"
#include "lua/coroutine.h"

struct sv_client;
struct sv_descriptor;
struct sv_alarm;

#define SV_CLIENT_NS_PER_MS 1000000

struct sv_operation {
    const char *name; /* of the method: what its coroutine waits in */
    struct sv_descriptor *descriptor;
    bool is_reading, is_writing; /* what nobody else may do meanwhile */
    int (*step)(
        struct sv_operation *operation); /* -EAGAIN: has to wait for `wants`; else the result, negative: failed */
    int (*late)(struct sv_operation *operation); /* the time is over: goes on after all, as step(); NULL: -ETIMEDOUT */
    int (*push)(lua_State *L, struct sv_operation *operation, int result); /* ends it: pushes what the method returns */
    int wants;           /* enum srvlua_readiness; 0: nothing, somebody pokes it */
    int64_t timeout_ns;  /* of each wait; 0: without limit */
    int64_t deadline_ns; /* of this wait; set by step() if `has_deadline` */
    bool has_deadline;
    struct sv_lua_coroutine *coroutine; /* that starts it and waits; NULL: blocks */
    bool is_cut;                        /* blocks, and the descriptor was closed meanwhile */
};

struct sv_descriptor {
    struct sv_client *client;
    int fd;          /* -1: none yet */
    bool is_drained; /* nothing to read, as far as is known: the watch or poll() has to say so first */
    bool is_closed;
    int holds; /* functions that use it: its memory stays */
    srvlua_watch *watch;
    struct sv_alarm *alarm;
    struct sv_operation *reading, *writing; /* who waits; one that does both is in both places */
    void (*on_idle)(
        struct sv_descriptor *descriptor); /* ready, or late, while nobody waits; NULL: input stays unread */
    int64_t idle_until_ns;                 /* 0: for ever */
    void (*release)(struct sv_descriptor *descriptor); /* frees the memory */
    void (*forget)(struct sv_descriptor *descriptor);  /* this process was forked: what it belongs to has lost it */
    struct sv_descriptor *next, **link;                /* all of the process */
};

int64_t sv_client_now_ns(void);

/* Readies the struct; nothing is open yet. */
void sv_descriptor_init(struct sv_descriptor *descriptor, struct sv_client *client,
                        void (*release)(struct sv_descriptor *));
/* Takes over an open, non-blocking descriptor. 0 or -errno; then it is closed. */
int sv_descriptor_adopt(struct sv_descriptor *descriptor, int fd);
/* Closes the one that was adopted, if any, so that another can be. */
void sv_descriptor_drop(struct sv_descriptor *descriptor);
/* Ends what waits with `closed`, closes and releases it. */
void sv_descriptor_close(struct sv_descriptor *descriptor);
/* Nobody uses it now: on_idle is called when it becomes ready, or after that time. It keeps no process from leaving. */
void sv_descriptor_rest(struct sv_descriptor *descriptor, void (*on_idle)(struct sv_descriptor *), int64_t until_ns);
/* The contrary. */
void sv_descriptor_wake(struct sv_descriptor *descriptor);
/* Whoever waits and will not be resumed any more waits no longer. */
void sv_descriptor_drop_abandoned(struct sv_descriptor *descriptor);
/* In a forked child: gives up the copy. */
void sv_descriptor_abandon(struct sv_descriptor *descriptor);

/* Runs an operation to its end and returns as the method does: `return sv_operation_run(L, operation, 2);` The first `keep`
 * arguments stay on the stack while it waits. Before it is begun: operation->coroutine = sv_lua_suspendable(L). */
int sv_operation_run(lua_State *L, struct sv_operation *operation, int keep);
/* Ends a waiting operation; its coroutine goes on when the loop comes to it. */
void sv_operation_end(struct sv_operation *operation, int result);
/* Somebody else did what a waiting operation waits for: it goes on. */
void sv_operation_poke(struct sv_operation *operation);

#endif
