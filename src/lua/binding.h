/* binding.h: what the files of the Lua binding share: the state of one Lua state, its objects, how functions are listed.
 *
 * The binding is written against srvlua.h only. It holds no globals: `struct sv_lua` is a userdata in the registry of the
 * Lua state, and every C function that the binding hands to Lua has it as upvalue 2 (upvalue 1 is its row, below).
 *
 * runs in: the process that builds the server, and its forked copies: each has a copy of the Lua state. One thread. */
#ifndef SV_LUA_BINDING_H
#define SV_LUA_BINDING_H

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "srvlua.h"

#if LUAJIT_VERSION_NUM < 20100
#error "LuaJIT 2.1 is needed"
#endif

#define SV_LUA_STATE_NAME "srvlua.state" /* key of struct sv_lua in the registry */

struct sv_client;
struct sv_lua_coroutine;
struct sv_lua_dns;
struct sv_lua_event;
struct sv_lua_running;
struct sv_lua_server;

/* Pushes a function and its arguments; returns how many values that are. It may fail for want of memory only: nothing
 * protects it but start() itself, which then ends the process (protecting each push costs 40 ns, measured). */
typedef int (*sv_lua_push)(lua_State *L, void *argument);

/* The binding in one Lua state. */
struct sv_lua {
    lua_State *L;                 /* the thread that runs start(); before it the one that loaded the module */
    struct sv_lua_server *server; /* the newest server that was not collected, or NULL */
    bool is_running;              /* start() of `server` was entered and has not returned */
    pid_t starter;                /* the process that called start() */
    srvlua_loop *own_loop;        /* without a server: of srvlua.run or a child process, while it runs; NULL else */
    bool may_turn;                /* the program runs beside the loop of its process: waiting turns that (waiting.h) */

    /* What this process is; learned at its first callback (callbacks.c). */
    enum srvlua_role role;
    bool uses_coroutines; /* enable_coroutine, and this kind of process has them */
    bool uses_objects;    /* event_object */
    bool uses_task_objects; /* the task callback gets an object */
    int max_coroutine;
    int64_t refused_at; /* second of the last log line about max_coroutine */

    /* coroutine.c */
    bool can_suspend;                 /* the loop of this process turns while coroutines wait; not before the first callback */
    struct sv_lua_coroutine *current; /* running now, or NULL; the user's own coroutines do not count */
    struct sv_lua_coroutine *idle;    /* finished threads to be used again */
    int idle_count;
    struct sv_lua_coroutine **by_id; /* buckets of the live ones that have suspended */
    int64_t bucket_count, listed_count; /* a power of two; of coroutines in them */
    int live_count, peak_count;
    int64_t last_coroutine_id, last_ticket;
    int depth; /* callbacks inside one another */
    struct sv_lua_coroutine *abandoned;    /* nobody resumes them any more; kept, for who waits for them may still know them */
    struct sv_lua_running *spare_records; /* thread.c */

    /* script_loop.c */
    bool is_turning;         /* own_loop is */
    bool is_told_to_exit;    /* by Event.exit() */
    int main_error_ref;      /* what the function of srvlua.run failed with; LUA_NOREF: it did not */

    /* event.c */
    struct sv_lua_event *events; /* descriptors */
    int cycle_refs[2];           /* functions for the end and the beginning of each turn, LUA_NOREF: none */

    /* stack.c; signal handlers look at these */
    struct sv_lua_running *running;       /* the Lua threads that run, innermost first */
    lua_State *volatile walked;           /* the thread whose frames are being read */
    volatile bool is_searching;           /* machine code is being read */
    volatile pid_t copy_pid;              /* a copy of this process that looks at its stack */
    char *copy_text;                      /* in such a copy: where the stack goes; else NULL */
    size_t copy_size;
    lua_Hook users_hook;                  /* in whose place ours is, while it is */
    int users_hook_mask, users_hook_count;

    bool has_made_timer;
    int last_process_id; /* of Process objects */
    int64_t error_count; /* uncaught errors of this process */
    struct sv_client *client; /* client/client.c: what client sockets share; NULL: none was made */
    struct sv_lua_dns *dns; /* of the process that looked a name up last, or NULL */

    /* References into the registry. */
    int server_ref;         /* while running: the server object */
    int sockets_ref;        /* module srvlua.socket, or LUA_NOREF */
    int timers_ref;         /* table: id of a user's timer -> its struct */
    int signals_ref;        /* table: number of a signal -> its handler */
    int loaded_modules_ref; /* package.loaded as it was when start() was called, or LUA_NOREF */
    int describe_ref;       /* message handler: error value -> text with traceback */
    int random_seed_ref;    /* math.randomseed as it was when the module was loaded */
    int pcall_ref, xpcall_ref;
    int encode_ref, decode_ref; /* of string.buffer */
    int run_task_ref, task_object_ref, task_origins_ref; /* task.c */
    double result_warned_at; /* seconds, monotonic; 0: never: of a result that found no room */
    int server_index_ref, server_newindex_ref, server_methods_ref; /* what metatables of servers are made of */
};

/* Roles in which a server method may be called: the call matrix (methods.md 1.4). */
enum {
    SV_LUA_BEFORE = SRVLUA_ROLE_BEFORE,
    SV_LUA_RUNNING = SRVLUA_ROLE_MASTER | SRVLUA_ROLE_MANAGER | SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK |
                     SRVLUA_ROLE_USER,
    SV_LUA_ALWAYS = SV_LUA_BEFORE | SV_LUA_RUNNING | SRVLUA_ROLE_AFTER
};

/* One function as Lua sees it. The row is upvalue 1 of the function, so that argument errors can name it. */
struct sv_lua_function {
    const char *name;
    lua_CFunction function;
    int (*server_method)(lua_State *L,
                         struct sv_lua_server *self); /* instead of `function`: self and role are checked */
    unsigned roles;                                   /* of server_method */
    int hidden_arguments;                             /* 1 for methods: self is not counted in messages */
};
#define SV_LUA_FUNCTION(name, function)                                                                                \
    { name, function, NULL, 0, 0 }
#define SV_LUA_METHOD(name, function)                                                                                  \
    { name, function, NULL, 0, 1 }
#define SV_LUA_SERVER_METHOD(name, method, roles)                                                                      \
    { name, NULL, method, roles, 1 }
#define SV_LUA_END                                                                                                     \
    { NULL, NULL, NULL, 0, 0 }

/* Puts functions into the table on the top of the stack. */
void sv_lua_register(lua_State *L, struct sv_lua *lua, const struct sv_lua_function *rows);

/* Makes the metatable `name` with these functions in it and `methods` as its __index. Pushes it. */
void sv_lua_new_metatable(lua_State *L, struct sv_lua *lua, const char *name, const struct sv_lua_function *metamethods,
                          const struct sv_lua_function *methods);
/* Pushes a class: a table that makes an object when it is called. The constructor gets the class as its first argument. */
void sv_lua_push_class(lua_State *L, struct sv_lua *lua, const struct sv_lua_function *constructor);
/* Raises with code 509 in a process of a running server: what is shared is made before start(). */
void sv_lua_refuse_while_running(lua_State *L, const struct sv_lua *lua, const char *what);

/* The row and the binding of the C function that is running. */
static inline const struct sv_lua_function *sv_lua_row(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(1)); }
static inline struct sv_lua *sv_lua_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(2)); }

/* Userdata of the binding begin with a pointer to their kind: cheaper to check than a metatable's name. */
struct sv_lua_kind {
    const char *name;
};
extern const struct sv_lua_kind sv_lua_server_kind, sv_lua_port_kind, sv_lua_connections_kind, sv_lua_socket_kind,
    sv_lua_table_kind, sv_lua_atomic_kind, sv_lua_lock_kind;

/* The userdata at `index` if it is of that kind, else NULL. */
void *sv_lua_to_object(lua_State *L, int index, const struct sv_lua_kind *kind);
/* The same for argument 1, the self of a method; raises if it is something else. */
void *sv_lua_check_self(lua_State *L, const struct sv_lua_kind *kind);

/* Makes the userdata on the top of the stack keep the object at `owner_index` from the collector. */
void sv_lua_keep_alive(lua_State *L, int owner_index);

/* A registered callback: the user_data of srvlua_on(). */
struct sv_lua_callback {
    struct sv_lua *lua;
    int ref; /* into the registry while the server runs; LUA_NOREF: the user has none for this event */
};

/* Object `Server`. Its environment table holds what belongs to it: [event + 1] = callback, ports = sequence, setting;
 * of a srvlua.redis.Server handlers and commands, the function that gets them (resp.c). */
struct sv_lua_server {
    const struct sv_lua_kind *kind;
    struct sv_lua *lua;
    srvlua_server *server;
    struct sv_lua_port *primary;
    bool has_returned; /* start() has returned, well or not */
    bool has_commands; /* it is a srvlua.redis.Server (resp.c) */
    int commands_ref;  /* while running: who gets their commands, LUA_NOREF: nobody */
    struct sv_lua_callback callbacks[SRVLUA_EVENT_COUNT];
};

/* Object `Port`. Environment: [event + 1] = callback, server, connections, setting (nil until it was set). */
struct sv_lua_port {
    const struct sv_lua_kind *kind;
    struct sv_lua_server *owner;
    srvlua_port *port;
    struct sv_lua_callback callbacks[SRVLUA_EVENT_COUNT];
};

#endif
