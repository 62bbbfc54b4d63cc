/* serialise.c: see serialise.h. */
#include "lua/serialise.h"

#include "lua/errors.h"

void sv_lua_serialise_open(lua_State *L, struct sv_lua *lua) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "string.buffer");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "encode");
    lua->encode_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getfield(L, -1, "decode");
    lua->decode_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_pop(L, 1);
}

const char *sv_lua_try_pack(const struct sv_lua *lua, lua_State *L, int index, size_t *length, int *flags) {
    if (lua_type(L, index) == LUA_TSTRING) {
        *flags = 0;
        lua_pushvalue(L, index);
        return lua_tolstring(L, -1, length);
    }
    *flags = SRVLUA_TASK_SERIALIZE;
    if (index < 0 && index > LUA_REGISTRYINDEX)
        index += lua_gettop(L) + 1;
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->encode_ref);
    lua_pushvalue(L, index);
    return lua_pcall(L, 1, 1, 0) == 0 ? lua_tolstring(L, -1, length) : NULL;
}

const char *sv_lua_pack_element(lua_State *L, int index, int argument, size_t *length, int *flags) {
    const char *bytes = sv_lua_try_pack(sv_lua_of(L), L, index, length, flags);

    if (!bytes)
        sv_lua_argument_error(L, argument, lua_tostring(L, -1));
    return bytes;
}

const char *sv_lua_pack(lua_State *L, int argument, size_t *length, int *flags) {
    if (lua_isnone(L, argument))
        sv_lua_type_error(L, argument, "value");
    return sv_lua_pack_element(L, argument, argument, length, flags);
}

bool sv_lua_unpack(const struct sv_lua *lua, lua_State *L, const void *data, size_t length, int flags) {
    if (!(flags & SRVLUA_TASK_SERIALIZE)) {
        lua_pushlstring(L, data, length);
        return true;
    }
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->decode_ref);
    lua_pushlstring(L, data, length);
    return lua_pcall(L, 1, 1, 0) == 0;
}
