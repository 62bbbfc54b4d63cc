/* connection_methods.c: what programs do with connections and datagrams; see connection_methods.h. */
#include "lua/connection_methods.h"

#include <stdlib.h>

#include "lua/connections.h"
#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/stack.h"
#include "lua/values.h"

#define PAGE_MAX 100 /* ids per getClientList */

int sv_lua_server_close(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    bool reset = sv_lua_optional_boolean(L, 3, false);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_close(self->server, fd, reset, &status), &status);
}

int sv_lua_server_exist(lua_State *L, struct sv_lua_server *self) {
    lua_pushboolean(L, srvlua_exist(self->server, sv_lua_check_integer(L, 2)));
    return 1;
}

int sv_lua_server_pause(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_pause(self->server, fd, &status), &status);
}

int sv_lua_server_resume(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_resume(self->server, fd, &status), &status);
}

int sv_lua_server_confirm(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_confirm(self->server, fd, &status), &status);
}

int sv_lua_server_protect(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    bool is_protected = sv_lua_optional_boolean(L, 3, true);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_protect(self->server, fd, is_protected, &status), &status);
}

int sv_lua_server_bind(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    int64_t uid = sv_lua_check_integer(L, 3);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_bind(self->server, fd, uid, &status), &status);
}

int sv_lua_server_heartbeat(lua_State *L, struct sv_lua_server *self) {
    bool close_them = sv_lua_optional_boolean(L, 2, true);
    struct srvlua_status status;
    int64_t *ids = NULL;
    int64_t count = srvlua_heartbeat(self->server, close_them, &ids, &status);

    if (count < 0)
        return sv_lua_fail(L, &status);
    sv_lua_push_ids(L, ids, (size_t)count);
    free(ids);
    return 1;
}

int sv_lua_server_get_client_info(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    bool ignore_error = sv_lua_optional_boolean(L, 4, false);
    struct srvlua_client_info info;
    struct srvlua_status status;

    sv_lua_optional_integer(L, 3, -1); /* has no effect (methods.md 6) */
    if (srvlua_get_client_info(self->server, fd, ignore_error, &info, &status) < 0)
        return sv_lua_fail(L, &status);
    sv_lua_push_client_info(L, &info);
    return 1;
}

int sv_lua_server_get_client_list(lua_State *L, struct sv_lua_server *self) {
    int64_t start_fd = sv_lua_optional_integer(L, 2, 0);
    int64_t page_size = sv_lua_optional_integer(L, 3, 10);
    int64_t ids[PAGE_MAX];
    struct srvlua_status status;
    int count = srvlua_get_client_list(self->server, start_fd, page_size, ids, &status);

    if (count < 0)
        return sv_lua_fail(L, &status);
    sv_lua_push_ids(L, ids, (size_t)count);
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------- sending */

/* A suspended send keeps its arguments (server, fd, data) on its coroutine's stack. */
static int send_again(void *user_data, int code) {
    struct sv_lua_coroutine *coroutine = user_data;
    struct sv_lua_server *self = coroutine->lua->server;
    lua_State *L = coroutine->L;
    int64_t fd = (int64_t)lua_tonumber(L, 2);
    struct srvlua_status status;
    size_t length;
    const char *data = lua_tolstring(L, 3, &length);
    int result, count;

    if (code) {
        result = srvlua_fail(self->server, &status, code, "session %lld took nothing within send_timeout",
                             (long long)fd);
    } else {
        result = srvlua_send(self->server, fd, data, length, &status);
        if (result == -SRVLUA_ERROR_OUTPUT_BUFFER_OVERFLOW &&
            srvlua_wait_for_output(self->server, fd, send_again, coroutine, NULL) == 0)
            return 0;
    }
    count = sv_lua_result(coroutine->lua->L, result, &status); /* there: as in sv_lua_run() */
    lua_settop(L, 0);
    lua_xmove(coroutine->lua->L, L, count);
    return sv_lua_resume(coroutine, count);
}

/* The running coroutine if it may wait until the connection's queue has room; it is registered for that then. */
static struct sv_lua_coroutine *wait_to_send(lua_State *L, struct sv_lua_server *self, int64_t fd) {
    struct sv_lua_coroutine *coroutine;

    coroutine = sv_lua_suspendable_if_free(L); /* with nothing there to suspend the send fails */
    if (!coroutine || srvlua_wait_for_output(self->server, fd, send_again, coroutine, NULL) != 0)
        return NULL;
    return coroutine;
}

int sv_lua_server_send(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_status status;
    const char *data, *path;
    size_t length;

    if (lua_type(L, 2) != LUA_TSTRING) {
        int64_t fd = sv_lua_check_integer(L, 2);
        data = sv_lua_check_string(L, 3, &length);
        int result = srvlua_send(self->server, fd, data, length, &status);
        struct sv_lua_coroutine *waiting = result == -SRVLUA_ERROR_OUTPUT_BUFFER_OVERFLOW ? wait_to_send(L, self, fd)
                                                                                          : NULL;
        if (waiting)
            return sv_lua_suspend_with(L, waiting, "send", 3);
        return sv_lua_result(L, result, &status);
    }
    path = sv_lua_check_text(L, 2);
    if (path[0] != '/')
        return sv_lua_argument_error(L, 2, "number, or a path that begins with '/' expected");
    data = sv_lua_check_string(L, 3, &length);
    return sv_lua_result(L, srvlua_sendto(self->server, path, 0, data, length, sv_lua_optional_int(L, 4, -1), &status),
                         &status);
}

int sv_lua_server_sendfile(lua_State *L, struct sv_lua_server *self) {
    int64_t fd = sv_lua_check_integer(L, 2);
    const char *path = sv_lua_check_text(L, 3);
    int64_t offset = sv_lua_optional_integer(L, 4, 0);
    int64_t length = sv_lua_optional_integer(L, 5, 0);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_sendfile(self->server, fd, path, offset, length, &status), &status);
}

int sv_lua_server_sendto(lua_State *L, struct sv_lua_server *self) {
    size_t length;
    const char *address = sv_lua_check_text(L, 2);
    int port = sv_lua_check_int(L, 3);
    const char *data = sv_lua_check_string(L, 4, &length);
    int server_socket = sv_lua_optional_int(L, 5, -1);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_sendto(self->server, address, port, data, length, server_socket, &status), &status);
}

int sv_lua_server_sendwait(lua_State *L, struct sv_lua_server *self) {
    size_t length;
    int64_t fd = sv_lua_check_integer(L, 2);
    const char *data = sv_lua_check_string(L, 3, &length);
    struct srvlua_status status;

    return sv_lua_result(L, srvlua_sendwait(self->server, fd, data, length, &status), &status);
}
