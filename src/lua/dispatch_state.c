/* dispatch_state.c: see dispatch_state.h. */
#include "lua/dispatch_state.h"

#include <stdlib.h>

#include "lua/callbacks.h"
#include "lua/connections.h"
#include "lua/errors.h"
#include "lua/reactor_state.h"
#include "lua/values.h"

#define DATA_MAX 8180 /* bytes of a packet that the function gets to see */

struct dispatch_state {
    struct sv_lua_reactor_state base; /* first: it is found through it */
    const struct srvlua_dispatch_event *event; /* that is asked about */
};

/* The program's settings, as the stand-in shows them; lives on the stack of start(). */
struct stand_in_settings {
    const struct srvlua_setting *entries;
    size_t count;
};

/* ------------------------------------------------------------------------------------------- what the function sees */

static struct dispatch_state *state_of(lua_State *L) { return (struct dispatch_state *)sv_lua_reactor_state_of(L); }

/* server:exist(fd) -> boolean */
static int stand_in_exist(lua_State *L) {
    lua_pushboolean(L, srvlua_reactor_exist(state_of(L)->base.reactor, sv_lua_check_integer(L, 2)));
    return 1;
}

/* server:getClientInfo(fd [, reactor_id [, ignore_error = false]]) -> table */
static int stand_in_get_client_info(lua_State *L) {
    struct dispatch_state *state = state_of(L);
    int64_t fd = sv_lua_check_integer(L, 2);
    bool ignore_error = sv_lua_optional_boolean(L, 4, false);
    bool is_its_close = state->event->type == SRVLUA_DISPATCH_CLOSE && state->event->fd == fd; /* as in a close callback */
    struct srvlua_client_info info;
    struct srvlua_status status;

    if (srvlua_reactor_client_info(state->base.reactor, fd, ignore_error || is_its_close, &info, &status) < 0)
        return sv_lua_fail(L, &status);
    sv_lua_push_client_info(L, &info);
    return 1;
}

/* --------------------------------------------------------------------------------------------------- making a state */

static void push_stand_in(lua_State *L, struct dispatch_state *state, const struct stand_in_settings *settings) {
    static const struct sv_lua_function methods[] = {
        SV_LUA_METHOD("exist", stand_in_exist),
        SV_LUA_METHOD("getClientInfo", stand_in_get_client_info),
    };
    size_t i;

    lua_newtable(L);
    for (i = 0; i < sizeof methods / sizeof methods[0]; i++)
        sv_lua_add_to_reactor_state(L, &state->base, &methods[i]);
    lua_newtable(L);
    for (i = 0; i < settings->count; i++) {
        sv_lua_push_value(L, &settings->entries[i].value); /* nil for what is not serialisable */
        lua_setfield(L, -2, settings->entries[i].name);
    }
    sv_lua_add_effective_settings(L, srvlua_reactor_server(state->base.reactor), lua_gettop(L));
    lua_setfield(L, -2, "setting");
}

/* Calls the function for the event at hand; upvalues: state, function, stand-in. -> its first result */
static int ask(lua_State *L) {
    struct dispatch_state *state = lua_touserdata(L, lua_upvalueindex(1));
    const struct srvlua_dispatch_event *event = state->event;
    int count = 3;

    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushvalue(L, lua_upvalueindex(3));
    lua_pushnumber(L, (double)event->fd);
    lua_pushinteger(L, event->type);
    if (state->base.takes[4] && event->data) {
        lua_pushlstring(L, event->data, event->length < DATA_MAX ? event->length : DATA_MAX);
        count++;
    }
    lua_call(L, count, 1);
    return 1;
}

static void finish_state(lua_State *L, struct sv_lua_reactor_state *base, void *settings) {
    lua_pushlightuserdata(L, base);
    lua_insert(L, -2);
    push_stand_in(L, (struct dispatch_state *)base, settings);
    lua_pushcclosure(L, ask, 3);
}

static void free_state(void *context) {
    struct dispatch_state *state = context;

    sv_lua_free_reactor_state(&state->base);
    free(state);
}

/* srvlua_dispatcher.make; user_data: the program's settings */
static int make_state(srvlua_reactor *reactor, void *user_data, void **context, struct srvlua_status *status) {
    struct sv_lua_reactor_function function = {.setting = "dispatch_func", .finish = finish_state, .data = user_data};
    struct dispatch_state *state = calloc(1, sizeof *state);
    int result;

    if (!state)
        return srvlua_fail(srvlua_reactor_server(reactor), status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    srvlua_get_setting(srvlua_reactor_server(reactor), function.setting, &function.value);
    result = sv_lua_make_reactor_state(&state->base, reactor, &function, status);
    if (result < 0)
        free(state);
    else
        *context = state;
    return result;
}

/* ----------------------------------------------------------------------------------------------------------- asking */

/* The answer on the top of the stack as a number, or its description in *status. */
static int32_t read_answer(lua_State *L, struct srvlua_status *status) {
    double number = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : 0.5;

    if (number >= -3 && number <= INT32_MAX && number == (int32_t)number)
        return (int32_t)number;
    sv_lua_write_value(L, status->message, sizeof status->message);
    return INT32_MIN;
}

static int32_t read_error(lua_State *L, struct srvlua_status *status) {
    sv_lua_write_error(L, status->message, sizeof status->message);
    return SRVLUA_DISPATCH_FAILED;
}

/* srvlua_dispatch_function. No call here but the protected one can fail. */
static int32_t dispatch(srvlua_reactor *reactor, void *context, const struct srvlua_dispatch_event *event,
                        struct srvlua_status *status) {
    struct dispatch_state *state = context;
    lua_State *L = state->base.L;
    int32_t answer;

    (void)reactor;
    state->event = event;
    answer = sv_lua_run_reactor_state(&state->base) == 0 ? read_answer(L, status) : read_error(L, status);
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

void sv_lua_prepare_dispatch_states(lua_State *L, struct sv_lua_server *self) {
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
    srvlua_set_dispatcher(self->server, &dispatcher, &status); /* if it cannot, start() says why */
}
