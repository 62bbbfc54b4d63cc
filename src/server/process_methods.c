/* process_methods.c: who the processes are, and orders to them: reload, stop, shutdown. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/errors.h"
#include "server/server.h"

#define USERS_MAX 10000

/* ------------------------------------------------------------------------------------------------------- identity */

int srvlua_get_worker_id(const srvlua_server *server) {
    enum srvlua_role role = srvlua_get_role(server);
    return role == SRVLUA_ROLE_WORKER || role == SRVLUA_ROLE_TASK ? server->rt.slot : -1;
}

static bool is_own(const srvlua_server *server, int worker_id) {
    return srvlua_get_worker_id(server) >= 0 && (worker_id < 0 || worker_id == server->rt.slot);
}

int srvlua_get_worker_pid(srvlua_server *server, int worker_id, struct srvlua_status *status) {
    enum srvlua_role role = srvlua_get_role(server);
    if (role == SRVLUA_ROLE_BEFORE || role == SRVLUA_ROLE_AFTER)
        return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "the server is not running");
    if (is_own(server, worker_id)) return getpid();
    if (worker_id < 0 || (uint32_t)worker_id >= server->rt.slot_count)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no process %d", worker_id);
    const struct sv_slot *slot = &server->rt.slots[worker_id];
    int pid = atomic_load(&slot->pid[atomic_load(&slot->parity)]);
    return pid ? pid : sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "process %d is not running now", worker_id);
}

int srvlua_get_worker_status(srvlua_server *server, int worker_id, struct srvlua_status *status) {
    const struct sv_runtime *rt = &server->rt;
    enum srvlua_role role = srvlua_get_role(server);
    uint32_t workers = rt->config.workers + rt->config.task_workers;
    if (role == SRVLUA_ROLE_BEFORE || role == SRVLUA_ROLE_AFTER)
        return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "the server is not running");
    if (is_own(server, worker_id)) return (int)atomic_load(&rt->worker.life->state);
    if (worker_id < 0 || (uint32_t)worker_id >= workers)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no worker %d", worker_id);
    const struct sv_slot *slot = &rt->slots[worker_id];
    int state = (int)atomic_load(&slot->life[atomic_load(&slot->parity)].state);
    return state ? state : SRVLUA_WORKER_IDLE;
}

/* Shared memory is there from within start() until just before it returns. */
static bool has_shared_memory(const srvlua_server *server) {
    enum srvlua_role role = srvlua_get_role(server);
    return role != SRVLUA_ROLE_BEFORE && role != SRVLUA_ROLE_AFTER && server->rt.shared;
}

int srvlua_get_manager_pid(const srvlua_server *server) {
    return has_shared_memory(server) ? atomic_load(&server->rt.shared->manager_pid) : 0;
}

int srvlua_get_master_pid(const srvlua_server *server) {
    const struct sv_runtime *rt = &server->rt;
    if (!has_shared_memory(server)) return 0;
    if (server->mode == SRVLUA_PROCESS) return atomic_load(&rt->shared->master_pid);
    if (rt->role == SRVLUA_ROLE_WORKER && rt->slot == 0) return getpid();
    return atomic_load(&rt->slots[0].pid[atomic_load(&rt->slots[0].parity)]);
}

int srvlua_get_process_id(const srvlua_server *server) {
    enum srvlua_role role = srvlua_get_role(server);
    return role & (SRVLUA_ROLE_WORKER | SRVLUA_ROLE_TASK | SRVLUA_ROLE_USER) ? server->rt.slot : -1;
}

/* -------------------------------------------------------------------------------------------------- user processes */

int srvlua_add_process(srvlua_server *server, srvlua_process_main main, void *user_data, struct srvlua_status *status) {
    int result = sv_check_call(server, SV_CALL_CONFIGURE, status);
    if (result) return result;
    if (server->user_count >= USERS_MAX)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "more than %d user processes", USERS_MAX);
    struct sv_user_process *grown = realloc(server->users, (server->user_count + 1) * sizeof *grown);
    if (!grown) return sv_server_fail(server, status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    server->users = grown;
    server->users[server->user_count] = (struct sv_user_process){main, user_data};
    return (int)server->user_count++;
}

void srvlua_forked(srvlua_server *server) {
    enum srvlua_role role = srvlua_get_role(server);
    if (role == SRVLUA_ROLE_BEFORE || role == SRVLUA_ROLE_AFTER) return;
    sv_runtime_abandon(&server->rt);
    for (size_t i = 0; i < server->port_count; i++) sv_listener_close(&server->ports[i]->listener, false);
}

/* --------------------------------------------------------------------------------------------------------- orders */

int srvlua_reload(srvlua_server *server, int only_task_workers, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, SV_CALL_CONTROL, status);
    if (result) return result;
    int manager = srvlua_get_manager_pid(server);
    if (!manager) return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "there is no manager to reload the workers");
    if (only_task_workers && server->mode == SRVLUA_BASE)
        return sv_server_fail(server, status, SRVLUA_ERROR_OPERATION_NOT_SUPPORT, "BASE mode cannot reload task workers");
    if (rt->role == SRVLUA_ROLE_MANAGER && rt->is_reloading)
        return sv_server_fail(server, status, SRVLUA_ERROR_WRONG_OPERATION, "a reload is going on");
    if (kill(manager, only_task_workers ? SIGUSR2 : SIGUSR1))
        return sv_server_fail(server, status, errno, "the manager could not be signalled: %s", strerror(errno));
    if (rt->role == SRVLUA_ROLE_MANAGER) rt->is_reloading = true; /* the signal comes with the next turn */
    return 0;
}

int srvlua_stop(srvlua_server *server, int worker_id, int wait_event, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, worker_id < 0 ? SV_CALL_STOP_SELF : SV_CALL_CONTROL, status);
    if (result) return result;
    if (worker_id >= 0 && (uint32_t)worker_id >= rt->config.workers + rt->config.task_workers)
        return sv_server_fail(server, status, SRVLUA_ERROR_INVALID_PARAMS, "there is no worker %d", worker_id);
    if (is_own(server, worker_id)) {
        if (wait_event)
            sv_worker_leave(rt);
        else
            sv_worker_stop_now(rt);
        return 0;
    }
    struct sv_slot *slot = &rt->slots[worker_id];
    uint32_t parity = atomic_load(&slot->parity);
    int pid = atomic_load(&slot->pid[parity]);
    if (!pid) return 0; /* it has ended, and its successor is on the way */
    result = sv_runtime_tell(rt, sv_endpoint_of_slot(&rt->ipc, (uint32_t)worker_id, parity), SV_RECORD_STOP, (uint64_t)pid,
                             wait_event ? SV_STOP_LEAVE : SV_STOP_NOW);
    return result ? sv_server_fail(server, status, -result, "worker %d takes nothing in", worker_id) : 0;
}

int srvlua_shutdown(srvlua_server *server, struct srvlua_status *status) {
    struct sv_runtime *rt = &server->rt;
    int result = sv_check_call(server, SV_CALL_CONTROL, status);
    if (result) return result;
    if (atomic_load(&rt->shared->is_shutting_down)) return 0;
    if (server->mode == SRVLUA_PROCESS) {
        result = sv_runtime_tell(rt, sv_runtime_master(rt), SV_RECORD_SHUTDOWN, 0, 0);
    } else if (rt->worker.is_alone) {
        sv_runtime_begin_shutdown(rt);
        sv_worker_leave(rt);
    } else if (kill(atomic_load(&rt->shared->manager_pid), SIGTERM)) {
        result = -errno;
    }
    return result ? sv_server_fail(server, status, -result, "the shutdown could not be asked for: %s", srvlua_strerror(-result)) : 0;
}

void srvlua_flush(srvlua_server *server) {
    enum srvlua_role role = srvlua_get_role(server);
    if (role != SRVLUA_ROLE_BEFORE && role != SRVLUA_ROLE_AFTER) sv_runtime_flush(&server->rt);
}
