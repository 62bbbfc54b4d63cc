/* stats.c: the counters that stats() shows, and the file that worker 0 writes them to (settings.md 3.20). */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/errors.h"
#include "server/server.h"

#define STATS_MAX 64

struct list {
    struct srvlua_stat *stats;
    size_t count, max;
};

static void put(struct list *list, const char *name, int64_t value) {
    if (list->count < list->max) list->stats[list->count++] = (struct srvlua_stat){name, value};
}

static int64_t sum(const struct sv_runtime *rt, enum sv_counter which) {
    int64_t total = 0;
    for (uint32_t i = 0; i < rt->ipc.endpoints; i++) total += sv_counter_get(&sv_inbox_of(&rt->ipc, i)->counters, which);
    return total;
}

static int64_t idle_workers(const struct sv_runtime *rt) {
    int64_t idle = 0;
    for (uint32_t i = 0; i < rt->config.workers; i++) {
        uint32_t parity = atomic_load_explicit(&rt->slots[i].parity, memory_order_relaxed);
        idle += atomic_load_explicit(&rt->slots[i].life[parity].state, memory_order_relaxed) != SV_PROCESS_BUSY;
    }
    return idle;
}

static void put_tasks(struct list *list, const struct sv_runtime *rt) {
    int64_t busy = 0;
    uint64_t count, bytes;
    for (uint32_t i = rt->config.workers; i < rt->config.workers + rt->config.task_workers; i++) {
        uint32_t parity = atomic_load_explicit(&rt->slots[i].parity, memory_order_relaxed);
        busy += atomic_load_explicit(&rt->slots[i].life[parity].state, memory_order_relaxed) == SV_PROCESS_BUSY;
    }
    put(list, "tasking_num", busy);
    if (!rt->config.task_workers) return;
    sv_tasks_count(rt, &count, &bytes);
    put(list, "task_idle_worker_num", rt->config.task_workers - busy);
    put(list, "task_queue_num", (int64_t)count);
    put(list, "task_queue_bytes", (int64_t)bytes);
}

/* Descriptors of listeners and live connections. */
static void descriptor_range(const srvlua_server *server, int64_t *least, int64_t *most) {
    const struct sv_runtime *rt = &server->rt;
    *least = INT_MAX;
    *most = 0;
    for (size_t i = 0; i < server->port_count; i++) {
        int fd = server->rules[i].listener_fd;
        if (fd < *least) *least = fd;
        if (fd > *most) *most = fd;
    }
    for (int64_t slot = sv_session_next_live(&rt->sessions, 0); slot >= 0; slot = sv_session_next_live(&rt->sessions, slot + 1)) {
        const struct sv_session *session = &rt->sessions.entries[slot];
        if (server->mode == SRVLUA_BASE && !sv_runtime_owns(rt, session)) continue;
        if (session->os_fd >= 0 && session->os_fd < *least) *least = session->os_fd;
        if (session->os_fd > *most) *most = session->os_fd;
    }
}

static int64_t dispatched_to_us(const struct sv_runtime *rt) {
    int64_t total = 0;
    for (uint32_t i = 0; i < rt->ipc.reactors; i++) {
        const struct sv_ring *ring = sv_ipc_ring(&rt->ipc, rt->endpoint.id, sv_endpoint_of_reactor(i));
        if (ring) total += (int64_t)atomic_load_explicit(&ring->packets, memory_order_relaxed);
    }
    return total - rt->worker.dispatch_baseline;
}

int srvlua_stats(srvlua_server *server, struct srvlua_stat *stats, size_t max, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, SV_CALL_CONTROL, status);
    if (result) return result;
    struct list list = {stats, 0, max};
    int64_t accepted = sum(rt, SV_COUNT_ACCEPTED), closed = sum(rt, SV_COUNT_CLOSED), least, most;
    descriptor_range(server, &least, &most);
    put(&list, "start_time", rt->shared->start_time);
    put(&list, "connection_num", accepted > closed ? accepted - closed : 0);
    put(&list, "abort_count", sum(rt, SV_COUNT_ABORTED));
    put(&list, "accept_count", accepted);
    put(&list, "close_count", closed);
    put(&list, "worker_num", rt->config.workers);
    put(&list, "task_worker_num", rt->config.task_workers);
    put(&list, "user_worker_num", rt->config.users);
    put(&list, "idle_worker_num", idle_workers(rt));
    put(&list, "dispatch_count", sum(rt, SV_COUNT_DISPATCHED));
    put(&list, "request_count", sum(rt, SV_COUNT_REQUESTS));
    put(&list, "response_count", sum(rt, SV_COUNT_RESPONSES));
    put(&list, "total_recv_bytes", sum(rt, SV_COUNT_RECV_BYTES));
    put(&list, "total_send_bytes", sum(rt, SV_COUNT_SEND_BYTES));
    put(&list, "pipe_packet_msg_id", 1 + sum(rt, SV_COUNT_CHUNKED));
    put(&list, "session_round", (int64_t)atomic_load(rt->sessions.last_id));
    put(&list, "min_fd", least);
    put(&list, "max_fd", most);
    put_tasks(&list, rt);
    put(&list, "coroutine_num", rt->coroutines);
    put(&list, "coroutine_peek_num", rt->coroutines_peak);
    put(&list, "concurrency", 0);
    put(&list, "error_count", sum(rt, SV_COUNT_ERRORS));
    put(&list, "reload_failed", sum(rt, SV_COUNT_RELOAD_FAILED));
    put(&list, "lost_count", sum(rt, SV_COUNT_LOST));
    if (rt->role == SRVLUA_ROLE_WORKER || rt->role == SRVLUA_ROLE_TASK) {
        put(&list, "worker_request_count", (int64_t)atomic_load(&rt->worker.life->requests));
        put(&list, "worker_response_count", server->responses);
        put(&list, "worker_dispatch_count", dispatched_to_us(rt));
        put(&list, "worker_concurrency", 0);
    }
    return (int)list.count;
}

int64_t srvlua_stats_timer(const srvlua_server *server) {
    return server->stats_timer;
}

void srvlua_count_coroutines(srvlua_server *server, int change) {
    struct sv_runtime *rt = &server->rt;
    rt->coroutines += change;
    if (rt->coroutines > rt->coroutines_peak) rt->coroutines_peak = rt->coroutines;
    if (rt->worker.life) atomic_store_explicit(&rt->worker.life->coroutines, rt->coroutines, memory_order_relaxed);
}

/* ------------------------------------------------------------------------------------------------------ stats_file */

static bool has_ending(const char *path, const char *ending) {
    size_t length = strlen(path), part = strlen(ending);
    return length >= part && strcmp(path + length - part, ending) == 0;
}

static void print_stats(FILE *file, const char *path, const struct srvlua_stat *stats, int count) {
    bool is_json = has_ending(path, ".json"), is_lua = has_ending(path, ".lua");
    if (is_json) fputc('{', file);
    if (is_lua) fputs("return {\n", file);
    for (int i = 0; i < count; i++) {
        if (is_json)
            fprintf(file, "%s\"%s\":%lld", i ? "," : "", stats[i].name, (long long)stats[i].value);
        else if (is_lua)
            fprintf(file, "  %s = %lld,\n", stats[i].name, (long long)stats[i].value);
        else
            fprintf(file, "%s: %lld\n", stats[i].name, (long long)stats[i].value);
    }
    if (is_json || is_lua) fputs("}\n", file);
}

/* Under a temporary name, then renamed: a reader never sees half a file. */
static int write_file(srvlua_server *server) {
    const char *path = server->effective.stats_file;
    struct srvlua_stat stats[STATS_MAX];
    char temporary[PATH_MAX];
    int count = srvlua_stats(server, stats, STATS_MAX, NULL);
    int length = snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
    if (count < 0 || length < 0 || (size_t)length >= sizeof temporary) return -ENAMETOOLONG;
    FILE *file = fopen(temporary, "we");
    if (!file) return -errno;
    print_stats(file, path, stats, count);
    int error = ferror(file) ? EIO : 0;
    if (fclose(file) && !error) error = errno;
    if (!error && rename(temporary, path)) error = errno;
    if (error) unlink(temporary);
    return -error;
}

static int on_timer(srvlua_loop *loop, int64_t timer, void *context) {
    (void)loop, (void)timer;
    srvlua_server *server = context;
    int result = write_file(server);
    if (result && !server->has_stats_warning) {
        server->has_stats_warning = true;
        sv_log_write(&server->log, SRVLUA_LOG_WARNING, "stats_file '%s' cannot be written: %s", server->effective.stats_file, strerror(-result));
    }
    return 0;
}

void sv_stats_start_file(srvlua_server *server) {
    if (!server->effective.stats_file || server->rt.slot != 0 || server->stats_timer) return;
    int64_t timer = srvlua_timer_add(&server->rt.loop, server->effective.stats_timer_interval, 1, on_timer, server, NULL);
    if (timer > 0) server->stats_timer = timer;
}
