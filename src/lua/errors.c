/* errors.c: failures, argument errors and the text of uncaught errors; see errors.h. */
#include "lua/errors.h"

#include <string.h>

int sv_lua_fail_with(lua_State *L, int code, const char *message) {
    lua_pushboolean(L, 0);
    lua_pushstring(L, message);
    lua_pushinteger(L, code);
    return 3;
}

int sv_lua_fail(lua_State *L, const struct srvlua_status *status) {
    return sv_lua_fail_with(L, status->code, status->message);
}

int sv_lua_fail_code(lua_State *L, int code) { return sv_lua_fail_with(L, code, srvlua_strerror(code)); }

int sv_lua_fail_server(lua_State *L, struct sv_lua_server *self, int code, const char *message) {
    struct srvlua_status status;

    srvlua_fail(self->server, &status, code, "%s", message);
    return sv_lua_fail(L, &status);
}

int sv_lua_result(lua_State *L, int result, const struct srvlua_status *status) {
    if (result < 0)
        return sv_lua_fail(L, status);
    lua_pushboolean(L, 1);
    return 1;
}

static int error_to_string(lua_State *L) {
    lua_getfield(L, 1, "message");
    return 1;
}

int sv_lua_raise(lua_State *L, const struct srvlua_status *status) {
    lua_createtable(L, 0, 2);
    lua_pushstring(L, status->message);
    lua_setfield(L, -2, "message");
    lua_pushinteger(L, status->code);
    lua_setfield(L, -2, "code");
    if (luaL_newmetatable(L, "srvlua.error")) {
        lua_pushcfunction(L, error_to_string);
        lua_setfield(L, -2, "__tostring");
    }
    lua_setmetatable(L, -2);
    return lua_error(L);
}

static int nothing(lua_State *L) {
    (void)L;
    return 0;
}

int sv_lua_raise_after_others(lua_State *L) {
    lua_pushcfunction(L, nothing);
    lua_call(L, 0, 0); /* now this thread is the last one */
    return lua_error(L);
}

int sv_lua_argument_error(lua_State *L, int argument, const char *problem) {
    const struct sv_lua_function *row = sv_lua_row(L);

    return luaL_error(L, "bad argument #%d to '%s' (%s)", argument - row->hidden_arguments, row->name, problem);
}

int sv_lua_type_error(lua_State *L, int argument, const char *expected) {
    return sv_lua_argument_error(L, argument,
                                 lua_pushfstring(L, "%s expected, got %s", expected, luaL_typename(L, argument)));
}

/* Pushes an error value as text: strings as they are, others by tostring, and the `message` of a table if that does not
 * show it. */
static void push_error_text(lua_State *L, int index) {
    if (lua_type(L, index) == LUA_TSTRING) {
        lua_pushvalue(L, index);
        return;
    }
    lua_getglobal(L, "tostring");
    lua_pushvalue(L, index);
    lua_call(L, 1, 1);
    if (lua_type(L, -1) != LUA_TSTRING) {
        lua_pop(L, 1);
        lua_pushfstring(L, "a %s", luaL_typename(L, index));
    }
    if (lua_istable(L, index)) {
        lua_getfield(L, index, "message");
        if (lua_type(L, -1) == LUA_TSTRING && !strstr(lua_tostring(L, -2), lua_tostring(L, -1))) {
            lua_pushfstring(L, "%s: %s", lua_tostring(L, -2), lua_tostring(L, -1));
            lua_replace(L, -2);
            lua_replace(L, -2);
        } else {
            lua_pop(L, 1);
        }
    }
}

int sv_lua_describe_error(lua_State *L) {
    lua_State *thread = lua_tothread(L, 2);

    push_error_text(L, 1);
    luaL_traceback(L, thread ? thread : L, lua_tostring(L, -1), thread ? 0 : 1);
    return 1;
}
