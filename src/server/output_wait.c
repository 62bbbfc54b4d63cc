/* output_wait.c: sends that wait until a client has taken enough of what is queued for it (send_yield, settings.md 3.5).
 * runs in: the worker that the connection belongs to. */
#include <errno.h>
#include <stdlib.h>

#include "base/errors.h"
#include "server/server.h"

struct sv_output_waiter {
    struct sv_output_waiter *next;
    srvlua_server *server;
    uint64_t id;
    srvlua_output_callback callback;
    void *user_data;
    int64_t timer; /* 0: waits without limit */
};

static bool take_out(srvlua_server *server, struct sv_output_waiter *waiter) {
    struct sv_output_waiter **link = &server->waiters;
    while (*link && *link != waiter) link = &(*link)->next;
    if (!*link) return false;
    *link = waiter->next;
    return true;
}

static void append(srvlua_server *server, struct sv_output_waiter *waiter) {
    struct sv_output_waiter **link = &server->waiters;
    while (*link) link = &(*link)->next;
    *link = waiter;
}

static int on_timeout(srvlua_loop *loop, int64_t timer, void *user_data) {
    (void)loop, (void)timer;
    struct sv_output_waiter *waiter = user_data;
    waiter->timer = 0;
    if (!take_out(waiter->server, waiter)) return 0;
    int result = waiter->callback(waiter->user_data, ETIMEDOUT);
    free(waiter);
    return result;
}

void sv_output_wait_end(srvlua_server *server, uint64_t id) {
    struct sv_output_waiter *woken = NULL, **last = &woken;
    for (struct sv_output_waiter **link = &server->waiters; *link;) {
        struct sv_output_waiter *waiter = *link;
        if (waiter->id != id) {
            link = &waiter->next;
            continue;
        }
        *link = waiter->next;
        waiter->next = NULL;
        *last = waiter;
        last = &waiter->next;
    }
    while (woken) { /* who finds no room waits again, behind the others and in the same order */
        struct sv_output_waiter *waiter = woken;
        woken = waiter->next;
        if (waiter->timer) sv_timer_clear_internal(&server->rt.loop, waiter->timer);
        sv_worker_begin_running(&server->rt);
        if (waiter->callback(waiter->user_data, 0)) srvlua_callback_failed(server);
        sv_worker_end_running(&server->rt);
        free(waiter);
    }
}

static int ask_to_be_told(srvlua_server *server, const struct sv_session *session, uint64_t id) {
    struct sv_runtime *rt = &server->rt;
    if (!sv_runtime_owns(rt, session))
        return sv_runtime_order(rt, session, SV_RECORD_WANT_OUTPUT_LOW, id, 0, NULL, 0, NULL, 0);
    struct sv_connection *connection = sv_reactor_find(&rt->reactor, id);
    if (!connection) return -SRVLUA_ERROR_SESSION_CLOSED;
    sv_reactor_want_low(&rt->reactor, connection);
    return 0;
}

int srvlua_wait_for_output(srvlua_server *server, int64_t fd, srvlua_output_callback callback, void *user_data,
                           struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    struct sv_session *session = fd > 0 ? sv_session_find(&rt->sessions, (uint64_t)fd) : NULL;
    bool is_ours = session && rt->role == SRVLUA_ROLE_WORKER &&
                   (sv_runtime_owns(rt, session) ||
                    atomic_load_explicit(&session->worker, memory_order_acquire) == (uint32_t)rt->slot);
    if (!is_ours || !server->effective.send_yield)
        return sv_fail(status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "a send to session %lld must not wait here", (long long)fd);
    struct sv_output_waiter *waiter = calloc(1, sizeof *waiter);
    if (!waiter) return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    *waiter = (struct sv_output_waiter){.server = server, .id = (uint64_t)fd, .callback = callback, .user_data = user_data};
    double timeout = server->effective.send_timeout;
    if (timeout > 0) {
        int64_t timeout_ms = (int64_t)(timeout * 1000 + 0.5);
        waiter->timer = sv_timer_add_internal(&rt->loop, timeout_ms > 0 ? timeout_ms : 1, false, on_timeout, waiter);
    }
    append(server, waiter);
    int result = ask_to_be_told(server, session, (uint64_t)fd);
    if (result == 0) return 0;
    take_out(server, waiter);
    if (waiter->timer) sv_timer_clear_internal(&rt->loop, waiter->timer);
    free(waiter);
    return sv_fail(status, -result, "session %lld cannot be waited for", (long long)fd);
}
