/* user.c: a user process: a program of the host's that the manager starts and restarts, whatever its end. It is an endpoint of the
 * server like a worker, but nobody sends it anything, its signals are its own, and reloads do not concern it. Its loop turns only
 * when the program turns it; so what it sends is announced at once (sv_runtime_order). */
#include <stdio.h>
#include <sys/prctl.h>
#include <unistd.h>

#include "process/runtime.h"

static void receive(void *context, const struct sv_message *message) {
    struct sv_runtime *rt = context;
    sv_log_write(&rt->log, SRVLUA_LOG_WARNING, "user process: a record of type %d is not for me", message->type);
}

static void failed(void *context) {
    struct sv_runtime *rt = context;
    rt->hooks.failed(rt->hooks.context);
}

/* It dies with the manager. */
static void follow_manager(const struct sv_runtime *rt) {
    prctl(PR_SET_PDEATHSIG, SIGKILL);
    if (getppid() != atomic_load(&rt->shared->manager_pid)) _exit(0); /* the manager died before that took effect */
}

_Noreturn void sv_user_main(struct sv_runtime *rt, uint32_t slot) {
    struct sv_loop_hooks hooks = {.receive = receive, .failed = failed, .context = rt};
    char title[64];
    follow_manager(rt);
    sv_notify_leave(&rt->notify);
    sv_runtime_unbecome(rt);
    snprintf(title, sizeof title, "srvlua: user %u", slot);
    srvlua_set_process_name(title);
    rt->worker = (struct sv_worker){.phase = SV_WORKER_SERVING};
    rt->coroutines = rt->coroutines_peak = 0;
    atomic_store(&rt->slots[slot].pid[0], getpid()); /* as the manager does: maybe it has not come to it yet */
    int result = sv_runtime_become(rt, SRVLUA_ROLE_USER, "user", (int)slot, 0, sv_endpoint_of_slot(&rt->ipc, slot, 0), &hooks, NULL);
    if (result) {
        sv_log_write(&rt->log, SRVLUA_LOG_ERROR, "user process %u could not be set up: %s", slot, srvlua_strerror(-result));
        _exit(255);
    }
    sv_signals_release(&rt->saved_signals); /* what the manager has sent meanwhile comes now */
    int status = rt->hooks.run_user(rt->hooks.context, slot - rt->config.workers - rt->config.task_workers);
    sv_runtime_flush(rt);
    fflush(NULL);
    _exit(status);
}
