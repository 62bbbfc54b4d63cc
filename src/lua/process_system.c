/* process_system.c: the functions of srvlua.Process that need no object: kill, wait, alarm, daemon, affinity. */
#include <errno.h>
#include <fcntl.h>
#include <sched.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/time.h>
#include <sys/wait.h>
#include <unistd.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/process_object.h"
#include "lua/values.h"

#define CPUS_MAX 8192

/* Process.kill(pid [, signo = SIGTERM]) -> true; signal 0 only looks whether the process is there */
static int process_kill(lua_State *L) {
    int pid = sv_lua_check_int(L, 1);
    int signo = sv_lua_optional_int(L, 2, SIGTERM);

    if (kill(pid, signo) < 0)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* Whether this process supervises those of the server: what waits there for any child would take them away. */
static bool is_supervisor(const struct sv_lua *lua) {
    enum srvlua_role role = lua->is_running ? srvlua_get_role(lua->server->server) : SRVLUA_ROLE_BEFORE;

    return role == SRVLUA_ROLE_MASTER || role == SRVLUA_ROLE_MANAGER;
}

/* Process.wait([is_blocking = true]) -> { pid =, code =, signal = } */
static int process_wait(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    bool is_blocking = sv_lua_optional_boolean(L, 1, true);
    int status = 0;
    pid_t pid;

    if (is_supervisor(lua))
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "the server waits for the children of this process");
    do
        pid = waitpid(-1, &status, is_blocking ? 0 : WNOHANG);
    while (pid < 0 && errno == EINTR);
    if (pid < 0)
        return sv_lua_fail_code(L, errno);
    if (pid == 0)
        return sv_lua_fail_with(L, EAGAIN, "no child has ended yet");
    lua_createtable(L, 0, 3);
    lua_pushinteger(L, pid);
    lua_setfield(L, -2, "pid");
    lua_pushinteger(L, WIFEXITED(status) ? WEXITSTATUS(status) : 0);
    lua_setfield(L, -2, "code");
    lua_pushinteger(L, WIFSIGNALED(status) ? WTERMSIG(status) : 0);
    lua_setfield(L, -2, "signal");
    return 1;
}

/* Process.alarm(microseconds [, type = 0]) -> true; negative: no more alarms */
static int process_alarm(lua_State *L) {
    static const int types[] = {ITIMER_REAL, ITIMER_VIRTUAL, ITIMER_PROF};
    int64_t interval = sv_lua_check_integer(L, 1);
    int type = sv_lua_optional_int(L, 2, 0);
    struct itimerval timer = {{0, 0}, {0, 0}};

    if (interval == 0 || type < 0 || type > 2)
        return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS,
                                interval ? "a type from 0 to 2 is needed" : "an alarm takes 1 microsecond or more");
    if (interval > 0) {
        timer.it_interval.tv_sec = (time_t)(interval / 1000000);
        timer.it_interval.tv_usec = (suseconds_t)(interval % 1000000);
        timer.it_value = timer.it_interval;
    }
    if (setitimer(types[type], &timer, NULL) < 0)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* ----------------------------------------------------------------------------------------------------------- daemon */

/* Descriptors 0, 1 and 2 become those of the sequence at `index`; nil: as it is. 0 or -errno. */
static int take_descriptors(lua_State *L, int index) {
    int fd, result = 0;

    for (fd = 0; result >= 0 && fd <= 2; fd++) {
        lua_rawgeti(L, index, fd + 1);
        if (!lua_isnil(L, -1))
            result = dup2((int)lua_tointeger(L, -1), fd);
        lua_pop(L, 1);
    }
    return result < 0 ? -errno : 0;
}

/* 0 or -errno. */
static int close_standard_streams(void) {
    int fd, null = open("/dev/null", O_RDWR | O_CLOEXEC);

    if (null < 0)
        return -errno;
    for (fd = 0; fd <= 2; fd++)
        dup2(null, fd);
    if (null > 2)
        close(null);
    return 0;
}

static void check_descriptors(lua_State *L, int argument) {
    int i;

    if (!lua_istable(L, argument))
        sv_lua_type_error(L, argument, "table");
    for (i = 1; i <= 3; i++) {
        lua_rawgeti(L, argument, i);
        if (!lua_isnil(L, -1) && lua_type(L, -1) != LUA_TNUMBER)
            sv_lua_argument_error(L, argument, lua_pushfstring(L, "descriptor %d is a %s", i, luaL_typename(L, -1)));
        lua_pop(L, 1);
    }
}

/* Process.daemon([keeps_directory = true [, keeps_streams = true [, descriptors]]]) -> true; the process has another pid */
static int process_daemon(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    bool keeps_directory = sv_lua_optional_boolean(L, 1, true);
    bool keeps_streams = sv_lua_optional_boolean(L, 2, true);
    int result = 0;
    pid_t pid;

    if (!lua_isnoneornil(L, 3))
        check_descriptors(L, 3);
    if (lua->is_running)
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "a process of a running server stays where it is");
    fflush(NULL);
    pid = fork();
    if (pid < 0)
        return sv_lua_fail_code(L, errno);
    if (pid > 0)
        _exit(0);
    if (lua->own_loop)
        srvlua_loop_forked(lua->own_loop);
    if (setsid() < 0)
        result = -errno;
    if (result == 0 && !keeps_directory && chdir("/") < 0)
        result = -errno;
    if (result == 0 && !keeps_streams)
        result = close_standard_streams();
    if (result == 0 && lua_istable(L, 3))
        result = take_descriptors(L, 3);
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    lua_pushboolean(L, 1);
    return 1;
}

/* --------------------------------------------------------------------------------------------------------- affinity */

/* Process.setAffinity(cpus) -> true; numbers from 0 on */
static int process_set_affinity(lua_State *L) {
    cpu_set_t *set;
    size_t i, count, size = CPU_ALLOC_SIZE(CPUS_MAX);
    bool is_valid;
    int result;

    if (!lua_istable(L, 1))
        return sv_lua_type_error(L, 1, "table");
    count = lua_objlen(L, 1);
    is_valid = count > 0;
    set = lua_newuserdata(L, size);
    CPU_ZERO_S(size, set);
    for (i = 1; is_valid && i <= count; i++) {
        double cpu;
        lua_rawgeti(L, 1, (int)i);
        cpu = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : -1;
        is_valid = cpu >= 0 && cpu < CPUS_MAX && cpu == (int)cpu;
        if (is_valid)
            CPU_SET_S((int)cpu, size, set);
        lua_pop(L, 1);
    }
    if (!is_valid)
        return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS, "a sequence of CPU numbers from 0 on is needed");
    result = sched_setaffinity(0, size, set);
    if (result < 0)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* Process.getAffinity() -> sequence of CPU numbers */
static int process_get_affinity(lua_State *L) {
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *set = lua_newuserdata(L, size);
    int cpu, count = 0;

    CPU_ZERO_S(size, set);
    if (sched_getaffinity(0, size, set) < 0)
        return sv_lua_fail_code(L, errno);
    lua_newtable(L);
    for (cpu = 0; cpu < CPUS_MAX; cpu++) {
        if (!CPU_ISSET_S(cpu, size, set))
            continue;
        lua_pushinteger(L, cpu);
        lua_rawseti(L, -2, ++count);
    }
    return 1;
}

const struct sv_lua_function sv_lua_process_functions[] = {
    SV_LUA_FUNCTION("kill", process_kill),
    SV_LUA_FUNCTION("wait", process_wait),
    SV_LUA_FUNCTION("signal", sv_lua_process_signal),
    SV_LUA_FUNCTION("alarm", process_alarm),
    SV_LUA_FUNCTION("daemon", process_daemon),
    SV_LUA_FUNCTION("setAffinity", process_set_affinity),
    SV_LUA_FUNCTION("getAffinity", process_get_affinity),
    SV_LUA_END,
};
