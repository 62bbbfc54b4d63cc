/* reactor_state.h: small Lua states in which functions of the program run inside reactors (settings.md 3.3).
 *
 * Each belongs to one reactor: a thread of the master or, in BASE mode, a worker. It has a few libraries, and nothing of the
 * program but the bytecode of one function; what is shared by dispatch_func and package_length_func is here.
 * runs in: making and freeing: start(); the rest: the reactor. */
#ifndef SV_LUA_REACTOR_STATE_H
#define SV_LUA_REACTOR_STATE_H

#include "lua/binding.h"

struct sv_lua_reactor_state {
    lua_State *L; /* index 1: what `finish` left, to be called */
    srvlua_reactor *reactor;
    bool takes[5]; /* takes[n]: the function has an n-th parameter, or any number */
};

struct sv_lua_reactor_function {
    const char *setting; /* its name, for messages */
    struct srvlua_value value; /* bytecode */
    /* The loaded function is on the top of the stack; to be replaced by a function without arguments that calls it. May raise. */
    void (*finish)(lua_State *L, struct sv_lua_reactor_state *state, void *data);
    void *data;
};

/* 0, or -code with *status filled. To be freed. */
int sv_lua_make_reactor_state(struct sv_lua_reactor_state *state, srvlua_reactor *reactor, const struct sv_lua_reactor_function *function,
                              struct srvlua_status *status);
void sv_lua_free_reactor_state(struct sv_lua_reactor_state *state);

/* Calls what index 1 is; 0 with its result on the top of the stack, or else with the error. lua_settop(L, 1) after that. */
int sv_lua_run_reactor_state(struct sv_lua_reactor_state *state);
/* The error on the top of the stack, and a value that was not expected, as text; no call of these can fail. */
void sv_lua_write_error(lua_State *L, char *text, size_t size);
void sv_lua_write_value(lua_State *L, char *text, size_t size);

/* Puts a function into the table on the top of the stack; sv_lua_reactor_state_of() finds the state in it. */
void sv_lua_add_to_reactor_state(lua_State *L, struct sv_lua_reactor_state *state, const struct sv_lua_function *row);
struct sv_lua_reactor_state *sv_lua_reactor_state_of(lua_State *L);

#endif
