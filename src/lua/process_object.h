/* process_object.h: what the files that make up srvlua.Process share.
 *
 * An object is inherited by every process that is forked after it was made, and each has its own copy: the child that it
 * stands for uses the child's end of the pipe, all others the parent's. */
#ifndef SV_LUA_PROCESS_OBJECT_H
#define SV_LUA_PROCESS_OBJECT_H

#include "lua/binding.h"

enum sv_lua_pipe_type { SV_LUA_PIPE_NONE = 0, SV_LUA_PIPE_STREAM = 1, SV_LUA_PIPE_DGRAM = 2 };

enum sv_lua_pipe_end { SV_LUA_PARENTS_END, SV_LUA_CHILDS_END };

struct sv_lua_pipe_block { /* waits to be written */
    struct sv_lua_pipe_block *next;
    size_t length, written;
    char data[];
};

/* Object `Process`. Environment: callback, socket (what exportSocket gave). */
struct sv_lua_process {
    const struct sv_lua_kind *kind;
    struct sv_lua *lua;
    bool is_child; /* this process is the one that the object stands for */
    bool is_redirected, uses_coroutines;
    int position; /* among the server's user processes, -1: none of them */
    int id;
    pid_t pid;     /* 0: not started */
    int child_ref; /* in the child: keeps the object */

    enum sv_lua_pipe_type pipe_type;
    int pipe[2]; /* by enum sv_lua_pipe_end; -1: closed */
    bool is_nonblocking;
    double timeout; /* of reading and writing, seconds; negative: none */
    struct sv_lua_pipe_block *first, *last;
    srvlua_watch *writer; /* while there are blocks */
    int writing_ref;      /* then: keeps the object from the collector */
    pid_t writing_pid;    /* whose blocks these are */

    int queue; /* id of the message queue, -1: none */
    int64_t queue_key;
    int queue_mode; /* of useQueue */
};

struct sv_lua_process *sv_lua_check_process(lua_State *L);

/* The end of the pipe that this process uses. */
static inline int *sv_lua_process_end(struct sv_lua_process *self) {
    return &self->pipe[self->is_child ? SV_LUA_CHILDS_END : SV_LUA_PARENTS_END];
}

/* process_pipe.c */
int sv_lua_pipe_open(struct sv_lua_process *self); /* 0 or -errno */
void sv_lua_pipe_close(struct sv_lua_process *self);
void sv_lua_pipe_close_end(struct sv_lua_process *self, enum sv_lua_pipe_end end);
/* In the child: its end becomes descriptors 0, 1 and 2. 0 or -errno. */
int sv_lua_pipe_redirect(struct sv_lua_process *self);
extern const struct sv_lua_function sv_lua_pipe_methods[];

/* pipe_socket.c: pushes a socket on a duplicate of `fd`; 1, or the failure as it is to be returned. */
int sv_lua_push_pipe_socket(lua_State *L, struct sv_lua *lua, int fd);
/* Whether the value at `index` is a socket that this process has made and not closed. */
bool sv_lua_is_live_pipe_socket(lua_State *L, int index);
void sv_lua_pipe_socket_open(lua_State *L, struct sv_lua *lua);
/* As send() and recv(), without waiting and without a signal; interrupted calls are repeated. Bytes, or -errno. */
ssize_t sv_lua_pipe_send(int fd, const char *data, size_t length);
ssize_t sv_lua_pipe_recv(int fd, void *buffer, size_t size);

/* process_queue.c */
extern const struct sv_lua_function sv_lua_queue_methods[];

/* process_system.c: functions that need no object. */
extern const struct sv_lua_function sv_lua_process_functions[];

/* signal.c: Process.signal(signo, fn) -> true */
int sv_lua_process_signal(lua_State *L);

#endif
