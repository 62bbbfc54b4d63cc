/* reactor_state.c: dispatch_func in Lua states of the reactors; see reactor_state.h.
 *
 * What runs in such a state is protected: an error, running out of memory included, ends the call and not the process. */
#include "lua/reactor_state.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>

#include "lua/callbacks.h"
#include "lua/connections.h"
#include "lua/constants.h"
#include "lua/errors.h"
#include "lua/values.h"

#define DATA_MAX 8180 /* bytes of a packet that the function gets to see */

struct reactor_state {
    lua_State *L; /* index 1: `ask`, which calls the function */
    srvlua_reactor *reactor;
    bool wants_data; /* the function takes a fourth parameter */
    const struct srvlua_dispatch_event *event; /* that is asked about */
};

/* The program's settings, as the stand-in shows them; lives on the stack of start(). */
struct stand_in_settings {
    const struct srvlua_setting *entries;
    size_t count;
};

/* ------------------------------------------------------------------------------------------- what the function sees */

static struct reactor_state *state_of(lua_State *L) { return lua_touserdata(L, lua_upvalueindex(2)); }

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
    srvlua_reactor_log(state_of(L)->reactor, SRVLUA_LOG_INFO, "%s", lua_tostring(L, -1));
    return 0;
}

/* server:exist(fd) -> boolean */
static int stand_in_exist(lua_State *L) {
    lua_pushboolean(L, srvlua_reactor_exist(state_of(L)->reactor, sv_lua_check_integer(L, 2)));
    return 1;
}

/* server:getClientInfo(fd [, reactor_id [, ignore_error = false]]) -> table */
static int stand_in_get_client_info(lua_State *L) {
    struct reactor_state *state = state_of(L);
    int64_t fd = sv_lua_check_integer(L, 2);
    bool ignore_error = sv_lua_optional_boolean(L, 4, false);
    bool is_its_close = state->event->type == SRVLUA_DISPATCH_CLOSE && state->event->fd == fd; /* as in a close callback */
    struct srvlua_client_info info;
    struct srvlua_status status;

    if (srvlua_reactor_client_info(state->reactor, fd, ignore_error || is_its_close, &info, &status) < 0)
        return sv_lua_fail(L, &status);
    sv_lua_push_client_info(L, &info);
    return 1;
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

/* Whether the function at `index` takes a fourth parameter, or any number. */
static bool takes_data(lua_State *L, int index) {
    bool result;

    lua_getglobal(L, "debug");
    lua_getfield(L, -1, "getinfo");
    lua_pushvalue(L, index);
    lua_pushliteral(L, "u");
    lua_call(L, 2, 1);
    lua_getfield(L, -1, "nparams");
    lua_getfield(L, -2, "isvararg");
    result = lua_tointeger(L, -2) >= 4 || lua_toboolean(L, -1);
    lua_pop(L, 4);
    return result;
}

/* Puts a function into the table on the top of the stack, with its row for argument errors and the state as upvalues. */
static void add_function(lua_State *L, struct reactor_state *state, const struct sv_lua_function *row) {
    lua_pushlightuserdata(L, (void *)row);
    lua_pushlightuserdata(L, state);
    lua_getglobal(L, "tostring");
    lua_pushcclosure(L, row->function, 3);
    lua_setfield(L, -2, row->name);
}

static void push_stand_in(lua_State *L, struct reactor_state *state, const struct stand_in_settings *settings) {
    static const struct sv_lua_function methods[] = {
        SV_LUA_METHOD("exist", stand_in_exist),
        SV_LUA_METHOD("getClientInfo", stand_in_get_client_info),
    };
    size_t i;

    lua_newtable(L);
    for (i = 0; i < sizeof methods / sizeof methods[0]; i++)
        add_function(L, state, &methods[i]);
    lua_newtable(L);
    for (i = 0; i < settings->count; i++) {
        sv_lua_push_value(L, &settings->entries[i].value); /* nil for what is not serialisable */
        lua_setfield(L, -2, settings->entries[i].name);
    }
    sv_lua_add_effective_settings(L, srvlua_reactor_server(state->reactor), lua_gettop(L));
    lua_setfield(L, -2, "setting");
}

/* Calls the function for the event at hand; upvalues: state, function, stand-in. -> its first result */
static int ask(lua_State *L) {
    struct reactor_state *state = lua_touserdata(L, lua_upvalueindex(1));
    const struct srvlua_dispatch_event *event = state->event;
    int count = 3;

    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_pushnumber(L, (double)event->fd);
    lua_pushinteger(L, event->type);
    if (state->wants_data && event->data) {
        lua_pushlstring(L, event->data, event->length < DATA_MAX ? event->length : DATA_MAX);
        count++;
    }
    lua_call(L, count, 1);
    return 1;
}

struct make_call {
    struct reactor_state *state;
    const struct stand_in_settings *settings;
};

static int build_state(lua_State *L) {
    static const struct sv_lua_function printing = SV_LUA_FUNCTION("print", print);
    const struct make_call *call = lua_touserdata(L, 1);
    struct reactor_state *state = call->state;
    struct srvlua_value function = {.type = SRVLUA_VALUE_NIL};

    open_library(L, "", luaopen_base);
    open_library(L, LUA_TABLIBNAME, luaopen_table);
    open_library(L, LUA_STRLIBNAME, luaopen_string);
    open_library(L, LUA_MATHLIBNAME, luaopen_math);
    open_library(L, LUA_BITLIBNAME, luaopen_bit);
    open_library(L, LUA_DBLIBNAME, luaopen_debug);
    open_library(L, LUA_JITLIBNAME, luaopen_jit); /* switches the compiler on */

    srvlua_get_setting(srvlua_reactor_server(state->reactor), "dispatch_func", &function);
    if (luaL_loadbuffer(L, function.string, function.length, "=dispatch_func") != 0)
        return lua_error(L);
    state->wants_data = takes_data(L, lua_gettop(L));
    prune_globals(L);
    seed_random(L, state->reactor);
    lua_pushvalue(L, LUA_GLOBALSINDEX);
    add_function(L, state, &printing);
    sv_lua_push_constants(L);
    lua_setfield(L, -2, "srvlua");
    lua_setfenv(L, -2); /* it was loaded with the globals as they were */

    lua_pushlightuserdata(L, state);
    lua_insert(L, -2);
    push_stand_in(L, state, call->settings);
    lua_pushcclosure(L, ask, 3);
    lua_setfield(L, LUA_REGISTRYINDEX, "srvlua.ask");
    return 0;
}

static void free_state(void *context) {
    struct reactor_state *state = context;

    lua_close(state->L);
    free(state);
}

/* srvlua_dispatcher.make */
static int make_state(srvlua_reactor *reactor, void *user_data, void **context, struct srvlua_status *status) {
    struct reactor_state *state = calloc(1, sizeof *state);
    struct make_call call = {state, user_data};

    if (state)
        state->L = luaL_newstate();
    if (!state || !state->L) {
        free(state);
        return srvlua_fail(srvlua_reactor_server(reactor), status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    }
    state->reactor = reactor;
    if (lua_cpcall(state->L, build_state, &call) != 0) {
        srvlua_fail(srvlua_reactor_server(reactor), status, SRVLUA_ERROR_INVALID_PARAMS,
                    "dispatch_func cannot be loaded in a reactor: %s", lua_tostring(state->L, -1));
        free_state(state);
        return -SRVLUA_ERROR_INVALID_PARAMS;
    }
    lua_getfield(state->L, LUA_REGISTRYINDEX, "srvlua.ask");
    *context = state;
    return 0;
}

/* ----------------------------------------------------------------------------------------------------------- asking */

/* The answer on the top of the stack as a number, or its description in *status. */
static int32_t read_answer(lua_State *L, struct srvlua_status *status) {
    double number = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0.5;

    if (number >= -3 && number <= INT32_MAX && number == (int32_t)number)
        return (int32_t)number;
    if (lua_type(L, -1) == LUA_TNUMBER)
        snprintf(status->message, sizeof status->message, "%.14g", lua_tonumber(L, -1));
    else
        snprintf(status->message, sizeof status->message, lua_isnil(L, -1) ? "%s" : "a %s", luaL_typename(L, -1));
    return INT32_MIN;
}

static int32_t read_error(lua_State *L, struct srvlua_status *status) {
    if (lua_type(L, -1) == LUA_TSTRING)
        snprintf(status->message, sizeof status->message, "%s", lua_tostring(L, -1));
    else
        snprintf(status->message, sizeof status->message, "a %s was raised", luaL_typename(L, -1));
    return SRVLUA_DISPATCH_FAILED;
}

/* srvlua_dispatch_function. No call here but the protected one can fail. */
static int32_t dispatch(srvlua_reactor *reactor, void *context, const struct srvlua_dispatch_event *event,
                        struct srvlua_status *status) {
    struct reactor_state *state = context;
    lua_State *L = state->L;
    int32_t answer;

    (void)reactor;
    state->event = event;
    lua_pushvalue(L, 1);
    answer = lua_pcall(L, 0, 1, 0) == 0 ? read_answer(L, status) : read_error(L, status);
    lua_settop(L, 1);
    return answer;
}

/* -------------------------------------------------------------------------------------------------------- preparing */

/* Copies the entries with names from the table on the top of the stack, which replaces it: the program may have put others
 * there. */
static void keep_named_entries(lua_State *L) {
    int from = lua_gettop(L);

    lua_newtable(L);
    for (lua_pushnil(L); lua_next(L, from); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            continue;
        lua_pushvalue(L, -2);
        lua_pushvalue(L, -2);
        lua_rawset(L, from + 1);
    }
    lua_replace(L, from);
}

void sv_lua_prepare_reactor_states(lua_State *L, struct sv_lua_server *self) {
    struct srvlua_value function = {.type = SRVLUA_VALUE_NIL};
    struct srvlua_dispatcher dispatcher = {.make = make_state, .call = dispatch, .free = free_state};
    struct stand_in_settings *settings;
    struct srvlua_status status;

    srvlua_get_setting(self->server, "dispatch_func", &function);
    if (function.type != SRVLUA_VALUE_FUNCTION)
        return;
    settings = lua_newuserdata(L, sizeof *settings);
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "setting");
    keep_named_entries(L);
    settings->entries = sv_lua_check_settings(L, lua_gettop(L), &settings->count);
    dispatcher.user_data = settings;
    if (srvlua_set_dispatcher(self->server, &dispatcher, &status) < 0)
        luaL_error(L, "%s", status.message);
}
