/* task_form.c: see task_form.h. */
#include "lua/task_form.h"

#include <stdlib.h>

#include "lua/errors.h"
#include "lua/serialise.h"
#include "lua/values.h"

/* Task.pack(value) -> string; raises for what cannot be sent */
static int task_pack(lua_State *L) {
    size_t length;
    int flags;
    const char *bytes = sv_lua_pack(L, 1, &length, &flags);
    void *packed = srvlua_task_pack(bytes, &length, flags);

    if (!packed)
        return sv_lua_fail_code(L, SRVLUA_ERROR_MALLOC_FAIL);
    lua_pushlstring(L, packed, length);
    free(packed);
    return 1;
}

/* Task.unpack(text) -> value | false, message, code */
static int task_unpack(lua_State *L) {
    size_t length;
    const char *text = sv_lua_check_string(L, 1, &length);
    const void *data;
    int flags;
    int result = srvlua_task_unpack(text, length, &data, &length, &flags);

    if (result == 0 && sv_lua_unpack(sv_lua_of(L), L, data, length, flags))
        return 1;
    return sv_lua_fail_with(L, SRVLUA_ERROR_PACKAGE_MALFORMED_DATA, "that is no packed task, or a damaged one");
}

void sv_lua_push_task_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("pack", task_pack),
        SV_LUA_FUNCTION("unpack", task_unpack),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, functions);
}
