/* reactor_handle.c: see reactor_handle.h. runs in: reactors. */
#include "server/reactor_handle.h"

#include "base/clock.h"
#include "server/server.h"

#define SLOW_NS (10 * SV_NS_PER_MS)
#define SLOW_WARNING_NS (60 * SV_NS_PER_SECOND)

bool sv_reactor_may_tell(_Atomic int64_t *next_ns, int64_t now_ns, int64_t interval_ns) {
    int64_t next = atomic_load_explicit(next_ns, memory_order_relaxed);
    return now_ns >= next && atomic_compare_exchange_strong(next_ns, &next, now_ns + interval_ns);
}

void sv_reactor_tell_slow(srvlua_reactor *reactor, const char *function, _Atomic int64_t *next_ns, int64_t begin_ns, int64_t now_ns) {
    if (now_ns - begin_ns <= SLOW_NS || !sv_reactor_may_tell(next_ns, now_ns, SLOW_WARNING_NS)) return;
    srvlua_reactor_log(reactor, SRVLUA_LOG_WARNING, "%s took %lld ms: it holds up every connection of its reactor", function,
                       (long long)((now_ns - begin_ns) / SV_NS_PER_MS));
}

srvlua_server *srvlua_reactor_server(const srvlua_reactor *reactor) {
    return reactor->server;
}

int srvlua_reactor_id(const srvlua_reactor *reactor) {
    return (int)reactor->number;
}

void srvlua_reactor_log(srvlua_reactor *reactor, enum srvlua_log_level level, const char *format, ...) {
    const char *role = reactor->server->mode == SRVLUA_BASE ? "worker" : "reactor";
    struct sv_log log = sv_log_view(reactor->server->sink, role, (int)reactor->number);
    va_list arguments;
    va_start(arguments, format);
    sv_log_vwrite(&log, level, 0, 0, format, arguments);
    va_end(arguments);
}
