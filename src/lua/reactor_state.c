/* reactor_state.c: see reactor_state.h.
 *
 * What runs in such a state is protected: an error, running out of memory included, ends the call and not the process. */
#include "lua/reactor_state.h"

#include <stdio.h>
#include <sys/random.h>

#include "lua/constants.h"

/* print(...): one line of the log */
static int print(lua_State *L) {
    int i, count = lua_gettop(L);
    luaL_Buffer line;

    luaL_buffinit(L, &line);
    for (i = 1; i <= count; i++) {
        if (i > 1)
            luaL_addchar(&line, '\t');
        lua_pushvalue(L, lua_upvalueindex(3)); /* tostring */
        lua_pushvalue(L, i);
        lua_call(L, 1, 1);
        luaL_addvalue(&line);
    }
    luaL_pushresult(&line);
    srvlua_reactor_log(sv_lua_reactor_state_of(L)->reactor, SRVLUA_LOG_INFO, "%s", lua_tostring(L, -1));
    return 0;
}

/* --------------------------------------------------------------------------------------------------- making a state */

/* Opens a library of the state, on its way through `name` of the globals. */
static void open_library(lua_State *L, const char *name, lua_CFunction open) {
    lua_pushcfunction(L, open);
    lua_pushstring(L, name);
    lua_call(L, 1, 0);
}

/* Takes away every global that the function must not have. */
static void prune_globals(lua_State *L) {
    static const char *const kept[] = {"string", "table",  "math",   "bit",   "tonumber", "tostring", "type",
                                       "pairs",  "ipairs", "select", "error", "pcall",    "assert",   NULL};
    size_t i;

    lua_newtable(L);
    for (i = 0; kept[i]; i++) {
        lua_getglobal(L, kept[i]);
        lua_setfield(L, -2, kept[i]);
    }
    lua_replace(L, LUA_GLOBALSINDEX);
}

/* Each reactor draws other numbers than the others, and than in the run before. */
static void seed_random(lua_State *L, srvlua_reactor *reactor) {
    uint32_t seed = (uint32_t)srvlua_reactor_id(reactor);

    if (getrandom(&seed, sizeof seed, GRND_NONBLOCK) < 0)
        seed = seed * 2654435761u; /* early boot: the number will do */
    lua_getfield(L, LUA_GLOBALSINDEX, "math");
    lua_getfield(L, -1, "randomseed");
    lua_pushnumber(L, seed);
    lua_call(L, 1, 0);
    lua_pop(L, 1);
}

/* Which parameters the function at `index` has. */
static void read_parameters(lua_State *L, int index, struct sv_lua_reactor_state *state) {
    size_t i;

    lua_getglobal(L, "debug");
    lua_getfield(L, -1, "getinfo");
    lua_pushvalue(L, index);
    lua_pushliteral(L, "u");
    lua_call(L, 2, 1);
    lua_getfield(L, -1, "nparams");
    lua_getfield(L, -2, "isvararg");
    for (i = 0; i < sizeof state->takes / sizeof state->takes[0]; i++)
        state->takes[i] = lua_tointeger(L, -2) >= (lua_Integer)i || lua_toboolean(L, -1);
    lua_pop(L, 4);
}

struct sv_lua_reactor_state *sv_lua_reactor_state_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(2)); }

/* The upvalues of such a function: its row for argument errors, the state, tostring. */
void sv_lua_add_to_reactor_state(lua_State *L, struct sv_lua_reactor_state *state, const struct sv_lua_function *row) {
    lua_pushlightuserdata(L, (void *)row);
    lua_pushlightuserdata(L, state);
    lua_getglobal(L, "tostring");
    lua_pushcclosure(L, row->function, 3);
    lua_setfield(L, -2, row->name);
}

struct make_call {
    struct sv_lua_reactor_state *state;
    const struct sv_lua_reactor_function *function;
};

static int build_state(lua_State *L) {
    static const struct sv_lua_function printing = SV_LUA_FUNCTION("print", print);
    const struct make_call *call = lua_touserdata(L, 1);
    const struct sv_lua_reactor_function *function = call->function;
    struct sv_lua_reactor_state *state = call->state;

    open_library(L, "", luaopen_base);
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    open_library(L, LUA_BITLIBNAME, luaopen_bit);
    open_library(L, LUA_DBLIBNAME, luaopen_debug);
    open_library(L, LUA_JITLIBNAME, luaopen_jit); /* switches the compiler on */

    lua_pushfstring(L, "=%s", function->setting);
    if (luaL_loadbuffer(L, function->value.string, function->value.length, lua_tostring(L, -1)) != 0)
        return lua_error(L);
    read_parameters(L, lua_gettop(L), state);
    prune_globals(L);
    seed_random(L, state->reactor);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    sv_lua_add_to_reactor_state(L, state, &printing);
    sv_lua_push_constants(L);
    lua_setfield(L, -2, "srvlua");
    lua_setfenv(L, -2); /* it was loaded with the globals as they were */
    function->finish(L, state, function->data);
    lua_setfield(L, LUA_REGISTRYINDEX, "srvlua.call");
    return 0;
}

int sv_lua_make_reactor_state(struct sv_lua_reactor_state *state, srvlua_reactor *reactor, const struct sv_lua_reactor_function *function,
                              struct srvlua_status *status) {
    struct make_call call = {state, function};

    *state = (struct sv_lua_reactor_state){.reactor = reactor, .L = luaL_newstate()};
    if (!state->L)
        return srvlua_fail(srvlua_reactor_server(reactor), status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    if (lua_cpcall(state->L, build_state, &call) != 0) {
        srvlua_fail(srvlua_reactor_server(reactor), status, SRVLUA_ERROR_INVALID_PARAMS, "%s cannot be loaded in a reactor: %s",
                    function->setting, lua_tostring(state->L, -1));
        sv_lua_free_reactor_state(state);
        return -SRVLUA_ERROR_INVALID_PARAMS;
    }
    lua_getfield(state->L, LUA_REGISTRYINDEX, "srvlua.call");
    return 0;
}

void sv_lua_free_reactor_state(struct sv_lua_reactor_state *state) { lua_close(state->L); }

/* ---------------------------------------------------------------------------------------------------------- running */

int sv_lua_run_reactor_state(struct sv_lua_reactor_state *state) {
    lua_pushvalue(state->L, 1);
    return lua_pcall(state->L, 0, 1, 0);
}

void sv_lua_write_error(lua_State *L, char *text, size_t size) {
    if (lua_type(L, -1) == LUA_TSTRING)
        snprintf(text, size, "%s", lua_tostring(L, -1));
    else
        snprintf(text, size, "a %s was raised", luaL_typename(L, -1));
}

void sv_lua_write_value(lua_State *L, char *text, size_t size) {
    if (lua_type(L, -1) == LUA_TNUMBER)
        snprintf(text, size, "%.14g", lua_tonumber(L, -1));
    else
        snprintf(text, size, lua_isnil(L, -1) ? "%s" : "a %s", luaL_typename(L, -1));
}
