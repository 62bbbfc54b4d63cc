/* length_state.c: see length_state.h. */
#include "lua/length_state.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "lua/reactor_state.h"

#define NAME "package_length_func"

struct length_state {
    struct sv_lua_reactor_state base; /* first: it is found through it */
    const char *data; /* that is asked about */
    size_t length;
};

/* Calls the function for the data at hand; upvalues: state, function. -> its first result */
static int ask(lua_State *L) {
    const struct length_state *state = lua_touserdata(L, lua_upvalueindex(1));

    lua_pushvalue(L, lua_upvalueindex(2));
    lua_pushlstring(L, state->data, state->length);
    lua_call(L, 1, 1);
    return 1;
}

static void finish_state(lua_State *L, struct sv_lua_reactor_state *state, void *data) {
    (void)data;
    lua_pushlightuserdata(L, state);
    lua_insert(L, -2);
    lua_pushcclosure(L, ask, 2);
}

static void free_state(void *context) {
    struct length_state *state = context;

    sv_lua_free_reactor_state(&state->base);
    free(state);
}

/* srvlua_measurer.make; user_data: the port that has the setting */
static int make_state(srvlua_reactor *reactor, void *user_data, void **context, struct srvlua_status *status) {
    struct sv_lua_reactor_function function = {.setting = NAME, .finish = finish_state};
    struct length_state *state = calloc(1, sizeof *state);
    int result;

    if (!state)
        return srvlua_fail(srvlua_reactor_server(reactor), status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
    srvlua_port_get_setting(user_data, NAME, &function.value);
    result = sv_lua_make_reactor_state(&state->base, reactor, &function, status);
    if (result < 0)
        free(state);
    else
        *context = state;
    return result;
}

/* The answer on the top of the stack: a length, 0, or -1 with the reason in *status. */
static int64_t read_answer(lua_State *L, struct srvlua_status *status) {
    char text[64];
    double number = lua_type(L, -1) == LUA_TNUMBER ? lua_tonumber(L, -1) : NAN;

    if (number >= 0 && number == floor(number) && isfinite(number))
        return number < 0x1p53 ? (int64_t)number : INT64_MAX;
    sv_lua_write_value(L, text, sizeof text);
    snprintf(status->message, sizeof status->message, NAME " returned %s", text);
    return -1;
}

static int64_t read_error(lua_State *L, struct srvlua_status *status) {
    char text[sizeof status->message - sizeof NAME " failed: "];

    sv_lua_write_error(L, text, sizeof text);
    snprintf(status->message, sizeof status->message, NAME " failed: %s", text);
    return -1;
}

/* srvlua_length_function. No call here but the protected one can fail. */
static int64_t measure(srvlua_reactor *reactor, void *context, const void *data, size_t length, struct srvlua_status *status) {
    struct length_state *state = context;
    lua_State *L = state->base.L;
    int64_t total;

    (void)reactor;
    state->data = data;
    state->length = length;
    total = sv_lua_run_reactor_state(&state->base) == 0 ? read_answer(L, status) : read_error(L, status);
    lua_settop(L, 1);
    return total;
}

void sv_lua_prepare_length_states(struct sv_lua_server *self) {
    struct srvlua_status status;
    size_t i;

    for (i = 0; i < srvlua_port_count(self->server); i++) {
        srvlua_port *port = srvlua_get_port(self->server, i);
        struct srvlua_measurer measurer = {.make = make_state, .call = measure, .free = free_state, .user_data = port};
        struct srvlua_value function;
        bool has_function = srvlua_port_get_setting(port, NAME, &function) == 0 && function.type == SRVLUA_VALUE_FUNCTION;
        srvlua_port_set_measurer(port, has_function ? &measurer : NULL, &status); /* where it cannot, start() says why */
    }
}
