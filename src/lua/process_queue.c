/* process_queue.c: message queues of System V between a process and those that started it.
 *
 * A message's type is the id of the process it is for, so that several can share a queue (MSGQUEUE_ORIENT). */
#include <errno.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ipc.h>
#include <sys/msg.h>

#include "lua/errors.h"
#include "lua/process_object.h"
#include "lua/values.h"

#define MESSAGE_MAX 65536 /* bytes, and less than that */
#define ORIENT 1
#define BALANCE 2
#define NOWAIT 256 /* as programs know it; the system's number is another */

struct message { /* as msgsnd() has it */
    long type;
    char data[];
};

/* The key of the script file, or a queue of its own where there is none. */
static key_t default_key(lua_State *L) {
    const char *script;
    key_t key;

    lua_getfield(L, LUA_REGISTRYINDEX, "srvlua.script");
    if (!lua_isstring(L, -1)) {
        lua_getglobal(L, "arg");
        if (lua_istable(L, -1))
            lua_rawgeti(L, -1, 0);
    }
    script = lua_tostring(L, -1);
    key = script ? ftok(script, 1) : -1;
    return key == -1 ? IPC_PRIVATE : key;
}

/* 0 or -errno. */
static int set_capacity(int queue, int64_t bytes) {
    struct msqid_ds info;

    if (msgctl(queue, IPC_STAT, &info) < 0)
        return -errno;
    info.msg_qbytes = (msglen_t)bytes;
    return msgctl(queue, IPC_SET, &info) < 0 ? -errno : 0;
}

/* process:useQueue([key = 0 [, mode = 2 [, capacity = -1]]]) -> true */
static int process_use_queue(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int64_t key = sv_lua_optional_integer(L, 2, 0);
    int mode = sv_lua_optional_int(L, 3, BALANCE);
    int64_t capacity = sv_lua_optional_integer(L, 4, -1);
    int queue, result;

    if ((mode & ~NOWAIT) != ORIENT && (mode & ~NOWAIT) != BALANCE)
        return sv_lua_argument_error(L, 3, lua_pushfstring(L, "MSGQUEUE_ORIENT or MSGQUEUE_BALANCE, also + IPC_NOWAIT, "
                                                              "expected, got %d", mode));
    if (key > UINT_MAX)
        return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS, "a key has 32 bits");
    queue = msgget(key > 0 ? (key_t)(uint32_t)key : default_key(L), IPC_CREAT | 0666);
    if (queue < 0)
        return sv_lua_fail_code(L, errno);
    result = capacity > 0 ? set_capacity(queue, capacity) : 0;
    if (result < 0)
        return sv_lua_fail_code(L, -result);
    self->queue = queue;
    self->queue_key = key > 0 ? key : 0;
    self->queue_mode = mode;
    lua_pushboolean(L, 1);
    return 1;
}

/* Pushes the failure if there is no queue; 0: there is one. */
static int refuse_without_queue(lua_State *L, const struct sv_lua_process *self) {
    if (self->queue >= 0)
        return 0;
    return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION, "useQueue was not called");
}

static int flags_of(const struct sv_lua_process *self) { return self->queue_mode & NOWAIT ? IPC_NOWAIT : 0; }

/* process:push(data) -> true */
static int process_push(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    size_t length;
    const char *data = sv_lua_check_string(L, 2, &length);
    struct message *message;
    int result;

    if (refuse_without_queue(L, self))
        return 3;
    if (length == 0)
        return sv_lua_fail_with(L, SRVLUA_ERROR_NO_PAYLOAD, "there is nothing to push");
    if (length >= MESSAGE_MAX)
        return sv_lua_fail_with(L, SRVLUA_ERROR_DATA_LENGTH_TOO_LARGE, "a message has less than 64 KiB");
    message = lua_newuserdata(L, sizeof *message + length);
    message->type = self->id;
    memcpy(message->data, data, length);
    do
        result = msgsnd(self->queue, message, length, flags_of(self));
    while (result < 0 && errno == EINTR);
    if (result < 0)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* process:pop([size = 65536]) -> data */
static int process_pop(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    int64_t size = sv_lua_optional_integer(L, 2, MESSAGE_MAX);
    struct message *message;
    ssize_t got;

    if (refuse_without_queue(L, self))
        return 3;
    if (size < 1)
        return sv_lua_fail_with(L, SRVLUA_ERROR_INVALID_PARAMS, "a size from 1 on is needed");
    if (size > MESSAGE_MAX)
        size = MESSAGE_MAX;
    message = lua_newuserdata(L, sizeof *message + (size_t)size);
    do
        got = msgrcv(self->queue, message, (size_t)size, self->queue_mode & ORIENT ? self->id : 0, flags_of(self));
    while (got < 0 && errno == EINTR);
    if (got < 0)
        return sv_lua_fail_code(L, errno == ENOMSG ? EAGAIN : errno);
    lua_pushlstring(L, message->data, (size_t)got);
    return 1;
}

/* process:statQueue() -> { queue_num =, queue_bytes = } */
static int process_stat_queue(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);
    struct msqid_ds info;

    if (refuse_without_queue(L, self))
        return 3;
    if (msgctl(self->queue, IPC_STAT, &info) < 0)
        return sv_lua_fail_code(L, errno);
    lua_createtable(L, 0, 2);
    lua_pushnumber(L, (double)info.msg_qnum);
    lua_setfield(L, -2, "queue_num");
    lua_pushnumber(L, (double)info.__msg_cbytes);
    lua_setfield(L, -2, "queue_bytes");
    return 1;
}

/* process:freeQueue() -> true */
static int process_free_queue(lua_State *L) {
    struct sv_lua_process *self = sv_lua_check_process(L);

    if (refuse_without_queue(L, self))
        return 3;
    if (msgctl(self->queue, IPC_RMID, NULL) < 0)
        return sv_lua_fail_code(L, errno);
    self->queue = -1;
    lua_pushboolean(L, 1);
    return 1;
}

const struct sv_lua_function sv_lua_queue_methods[] = {
    SV_LUA_METHOD("useQueue", process_use_queue),
    SV_LUA_METHOD("push", process_push),
    SV_LUA_METHOD("pop", process_pop),
    SV_LUA_METHOD("statQueue", process_stat_queue),
    SV_LUA_METHOD("freeQueue", process_free_queue),
    SV_LUA_END,
};
