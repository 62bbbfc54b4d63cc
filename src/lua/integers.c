/* integers.c: 64-bit integers; see integers.h. The C API of LuaJIT knows no int64_t: two Lua functions make and read
 * them. */
#include "lua/integers.h"

#include "lua/errors.h"

#define LUA_TCDATA 10
#define EXACT (INT64_C(1) << 53)
#define REGISTRY_NAME "srvlua.int64" /* key of { make, read } in the registry */

/* make(high, low) -> int64_t; read(value) -> high, low, or nothing if it is no int64_t. low is 0 to 2^32-1. */
static const char functions[] =
    "local ffi = require 'ffi'\n"
    "local int64 = ffi.typeof 'int64_t'\n"
    "return { function(high, low) return int64(high) * 4294967296LL + low end,\n"
    "  function(value)\n"
    "    if not ffi.istype(int64, value) then return end\n"
    "    local low = tonumber(value % 4294967296LL)\n"
    "    if low < 0 then low = low + 4294967296 end\n"
    "    return tonumber((value - low) / 4294967296LL), low\n"
    "  end }\n";

static void push_function(lua_State *L, int which) {
    lua_getfield(L, LUA_REGISTRYINDEX, REGISTRY_NAME);
    if (lua_isnil(L, -1)) { /* first use */
        lua_pop(L, 1);
        if (luaL_loadbuffer(L, functions, sizeof functions - 1, "=srvlua.int64") != 0)
            lua_error(L);
        lua_call(L, 0, 1);
        lua_pushvalue(L, -1);
        lua_setfield(L, LUA_REGISTRYINDEX, REGISTRY_NAME);
    }
    lua_rawgeti(L, -1, which);
    lua_remove(L, -2);
}

void sv_lua_push_int64(lua_State *L, int64_t value) {
    if (value >= -EXACT && value <= EXACT) {
        lua_pushnumber(L, (double)value);
        return;
    }
    uint32_t low = (uint32_t)value;
    luaL_checkstack(L, 6, "64-bit integer");
    push_function(L, 1);
    lua_pushnumber(L, (double)((value - (int64_t)low) / (INT64_C(1) << 32)));
    lua_pushnumber(L, low);
    lua_call(L, 2, 1);
}

bool sv_lua_to_int64(lua_State *L, int index, int64_t *value) {
    if (lua_type(L, index) == LUA_TNUMBER) {
        double number = lua_tonumber(L, index);
        if (!(number >= -9223372036854775808.0 && number < 9223372036854775808.0))
            return false;
        *value = (int64_t)number;
        return (double)*value == number;
    }
    if (lua_type(L, index) != LUA_TCDATA)
        return false;
    lua_pushvalue(L, index);
    luaL_checkstack(L, 6, "64-bit integer");
    push_function(L, 2);
    lua_insert(L, -2);
    lua_call(L, 1, 2);
    bool is_int64 = !lua_isnil(L, -1);
    if (is_int64)
        *value = (int64_t)((uint64_t)(int64_t)lua_tonumber(L, -2) << 32 | (uint64_t)lua_tonumber(L, -1));
    lua_pop(L, 2);
    return is_int64;
}

int64_t sv_lua_check_int64(lua_State *L, int argument) {
    int64_t value = 0;

    if (sv_lua_to_int64(L, argument, &value))
        return value;
    if (lua_type(L, argument) != LUA_TNUMBER)
        sv_lua_type_error(L, argument, "integer");
    sv_lua_argument_error(L, argument,
                          lua_pushfstring(L, "64-bit integer expected, got %f", lua_tonumber(L, argument)));
    return value;
}

int64_t sv_lua_optional_int64(lua_State *L, int argument, int64_t value) {
    return lua_isnoneornil(L, argument) ? value : sv_lua_check_int64(L, argument);
}
