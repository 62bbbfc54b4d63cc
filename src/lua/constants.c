/* constants.c: one table of names and numbers, and ERROR_* from the library's table; see constants.h. */
#include "lua/constants.h"

#include <netinet/in.h>
#include <netinet/tcp.h>
#include <signal.h>
#include <sys/resource.h>
#include <sys/socket.h>

#define SAME(name)                                                                                                     \
    { #name, name }
#define OURS(name)                                                                                                     \
    { #name, SRVLUA_##name }

static const struct {
    const char *name;
    int value;
} constants[] = {
    /* modes, socket types, states of workers */
    OURS(BASE),
    OURS(PROCESS),
    OURS(SOCK_TCP),
    OURS(SOCK_UDP),
    OURS(SOCK_TCP6),
    OURS(SOCK_UDP6),
    OURS(SOCK_UNIX_STREAM),
    OURS(SOCK_UNIX_DGRAM),
    {"TCP", SRVLUA_SOCK_TCP},
    {"UDP", SRVLUA_SOCK_UDP},
    {"TCP6", SRVLUA_SOCK_TCP6},
    {"UDP6", SRVLUA_SOCK_UDP6},
    {"UNIX_STREAM", SRVLUA_SOCK_UNIX_STREAM},
    {"UNIX_DGRAM", SRVLUA_SOCK_UNIX_DGRAM},
    OURS(SSL),
    OURS(SSL_TLSv1_2),
    OURS(SSL_TLSv1_3),
    OURS(WORKER_BUSY),
    OURS(WORKER_IDLE),
    OURS(WORKER_EXIT),
    /* kinds of processes that answer commands */
    {"COMMAND_MASTER", 2},
    {"COMMAND_REACTOR_THREAD", 4},
    {"COMMAND_EVENT_WORKER", 8},
    {"COMMAND_WORKER", 8},
    {"COMMAND_TASK_WORKER", 16},
    {"COMMAND_MANAGER", 32},
    /* channels, events of descriptors */
    {"CHANNEL_OK", 0},
    {"CHANNEL_TIMEOUT", -1},
    {"CHANNEL_CLOSED", -2},
    {"EVENT_READ", 512},
    {"EVENT_WRITE", 1024},
    /* dispatch_mode */
    {"DISPATCH_ROUND", 1},
    {"DISPATCH_FDMOD", 2},
    {"DISPATCH_IDLE_WORKER", 3},
    {"DISPATCH_IPMOD", 4},
    {"DISPATCH_UIDMOD", 5},
    {"DISPATCH_USERFUNC", 6},
    {"DISPATCH_STREAM", 7},
    {"DISPATCH_CO_CONN_LB", 8},
    {"DISPATCH_CO_REQ_LB", 9},
    {"DISPATCH_CONCURRENT_LB", 10},
    {"DISPATCH_LEAST_LATENCY", 11},
    /* types and results of dispatch_func */
    OURS(DISPATCH_DATA),
    OURS(DISPATCH_PACKET),
    OURS(DISPATCH_CLOSE),
    OURS(DISPATCH_CONNECT),
    OURS(DISPATCH_BUFFER_FULL),
    OURS(DISPATCH_BUFFER_EMPTY),
    OURS(DISCARD_PACKET),
    OURS(CLOSE_CONNECTION),
    OURS(USERFUNC_FALLBACK),
    /* task_ipc_mode and flags of tasks */
    {"IPC_UNSOCK", 1},
    {"IPC_MSGQUEUE", 2},
    {"IPC_PREEMPTIVE", 3},
    {"TASK_TMPFILE", 1},
    {"TASK_SERIALIZE", 2},
    {"TASK_NONBLOCK", 4},
    {"TASK_CALLBACK", 8},
    {"TASK_WAITALL", 16},
    {"TASK_COROUTINE", 32},
    {"TASK_PEEK", 64},
    {"TASK_NOREPLY", 128},
    {"TIMER_MIN_MS", 1},
    /* pipes, message queues and priorities of processes */
    {"PIPE_TYPE_NONE", 0},
    {"PIPE_TYPE_STREAM", 1},
    {"PIPE_TYPE_DGRAM", 2},
    {"PIPE_MASTER", 1},
    {"PIPE_WORKER", 2},
    {"PIPE_READ", 3},
    {"PIPE_WRITE", 4},
    {"MSGQUEUE_ORIENT", 1},
    {"MSGQUEUE_BALANCE", 2},
    {"IPC_NOWAIT", 256},
    SAME(PRIO_PROCESS),
    SAME(PRIO_PGRP),
    SAME(PRIO_USER),
    /* log levels */
    OURS(LOG_DEBUG),
    OURS(LOG_TRACE),
    OURS(LOG_INFO),
    OURS(LOG_NOTICE),
    OURS(LOG_WARNING),
    OURS(LOG_ERROR),
    OURS(LOG_NONE),
    /* types of locks */
    OURS(RWLOCK),
    OURS(MUTEX),
    OURS(SPINLOCK),
    /* socket options */
    SAME(SOL_SOCKET),
    SAME(SO_BINDTODEVICE),
    SAME(SO_BROADCAST),
    SAME(SO_BUSY_POLL),
    SAME(SO_DEBUG),
    SAME(SO_DONTROUTE),
    SAME(SO_ERROR),
    SAME(SO_INCOMING_CPU),
    SAME(SO_KEEPALIVE),
    SAME(SO_LINGER),
    SAME(SO_MARK),
    SAME(SO_OOBINLINE),
    SAME(SO_PRIORITY),
    SAME(SO_RCVBUF),
    SAME(SO_RCVBUFFORCE),
    SAME(SO_RCVLOWAT),
    SAME(SO_RCVTIMEO),
    SAME(SO_REUSEADDR),
    SAME(SO_REUSEPORT),
    SAME(SO_SNDBUF),
    SAME(SO_SNDBUFFORCE),
    SAME(SO_SNDLOWAT),
    SAME(SO_SNDTIMEO),
    SAME(SO_TYPE),
    SAME(IPPROTO_IP),
    SAME(IPPROTO_IPV6),
    SAME(IPPROTO_TCP),
    SAME(IPPROTO_UDP),
    SAME(TCP_CONGESTION),
    SAME(TCP_CORK),
    SAME(TCP_DEFER_ACCEPT),
    SAME(TCP_FASTOPEN),
    SAME(TCP_KEEPCNT),
    SAME(TCP_KEEPIDLE),
    SAME(TCP_KEEPINTVL),
    SAME(TCP_LINGER2),
    SAME(TCP_MAXSEG),
    SAME(TCP_NODELAY),
    SAME(TCP_QUICKACK),
    SAME(TCP_SYNCNT),
    SAME(TCP_USER_TIMEOUT),
    SAME(TCP_WINDOW_CLAMP),
    SAME(IP_FREEBIND),
    SAME(IP_MTU_DISCOVER),
    SAME(IP_MULTICAST_ALL),
    SAME(IP_MULTICAST_IF),
    SAME(IP_MULTICAST_LOOP),
    SAME(IP_MULTICAST_TTL),
    SAME(IP_PKTINFO),
    SAME(IP_RECVTOS),
    SAME(IP_TOS),
    SAME(IP_TRANSPARENT),
    SAME(IP_TTL),
    SAME(IPV6_MULTICAST_HOPS),
    SAME(IPV6_MULTICAST_IF),
    SAME(IPV6_MULTICAST_LOOP),
    SAME(IPV6_RECVPKTINFO),
    SAME(IPV6_TCLASS),
    SAME(IPV6_UNICAST_HOPS),
    SAME(IPV6_V6ONLY),
    SAME(MCAST_BLOCK_SOURCE),
    SAME(MCAST_EXCLUDE),
    SAME(MCAST_INCLUDE),
    SAME(MCAST_JOIN_GROUP),
    SAME(MCAST_JOIN_SOURCE_GROUP),
    SAME(MCAST_LEAVE_GROUP),
    SAME(MCAST_LEAVE_SOURCE_GROUP),
    SAME(MCAST_UNBLOCK_SOURCE),
    /* signals; what Process.signal takes for a handler */
    {"SIG_IGN", 1},
    SAME(SIGABRT),
    SAME(SIGALRM),
    SAME(SIGBUS),
    SAME(SIGCHLD),
    SAME(SIGCONT),
    SAME(SIGFPE),
    SAME(SIGHUP),
    SAME(SIGILL),
    SAME(SIGINT),
    SAME(SIGIO),
    SAME(SIGKILL),
    SAME(SIGPIPE),
    SAME(SIGPROF),
    SAME(SIGPWR),
    SAME(SIGQUIT),
    SAME(SIGSEGV),
    SAME(SIGSTOP),
    SAME(SIGSYS),
    SAME(SIGTERM),
    SAME(SIGTRAP),
    SAME(SIGTSTP),
    SAME(SIGTTIN),
    SAME(SIGTTOU),
    SAME(SIGURG),
    SAME(SIGUSR1),
    SAME(SIGUSR2),
    SAME(SIGVTALRM),
    SAME(SIGWINCH),
    SAME(SIGXCPU),
    SAME(SIGXFSZ),
};

void sv_lua_push_constants(lua_State *L) {
    const struct srvlua_error_entry *error;
    size_t i;

    lua_newtable(L);
    for (i = 0; i < sizeof constants / sizeof constants[0]; i++) {
        lua_pushinteger(L, constants[i].value);
        lua_setfield(L, -2, constants[i].name);
    }
    for (error = srvlua_error_table(); error->name; error++) {
        lua_pushfstring(L, "ERROR_%s", error->name);
        lua_pushinteger(L, error->code);
        lua_rawset(L, -3);
    }
    lua_pushinteger(L, SIGRTMIN); /* a function call in the C library */
    lua_setfield(L, -2, "SIGRTMIN");
}
