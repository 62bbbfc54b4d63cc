/* errors.h: how the binding tells failures to Lua (methods.md 0.2, runtime.md 1).
 *
 * Run-time failures are `false, message, code`, pushed by one function; wrong arguments raise the usual
 * `bad argument #n to 'name' (...)`; errors nobody caught are turned into one text with its traceback. */
#ifndef SV_LUA_ERRORS_H
#define SV_LUA_ERRORS_H

#include "lua/binding.h"

/* Returns `false, message, code` from a Lua function: `return sv_lua_fail_with(L, code, message);` */
int sv_lua_fail_with(lua_State *L, int code, const char *message);
/* The same for what a function of srvlua.h reported. */
int sv_lua_fail(lua_State *L, const struct srvlua_status *status);
/* The same with an errno value or a code of srvlua_error_table() and its text. */
int sv_lua_fail_code(lua_State *L, int code);
/* The same for a failure of a server method that the binding found itself: getLastError() tells it too. */
int sv_lua_fail_server(lua_State *L, struct sv_lua_server *self, int code, const char *message);
/* true for result >= 0, else the failure. */
int sv_lua_result(lua_State *L, int result, const struct srvlua_status *status);
/* Raises a table { message =, code = } that reads as its message: what a constructor raises. */
int sv_lua_raise(lua_State *L, const struct srvlua_status *status);

/* Raises the value on the top of the stack, in a function that has run other Lua threads: LuaJIT up to 2022 takes the
 * thread that ran last for the one that goes on after the error, and compiled code crashes with that. */
int sv_lua_raise_after_others(lua_State *L);

/* Raises `bad argument #n to 'name' (problem)` for the C function that is running. */
int sv_lua_argument_error(lua_State *L, int argument, const char *problem);
/* The same with `expected EXPECTED, got TYPE`. */
int sv_lua_type_error(lua_State *L, int argument, const char *expected);

/* C function: (error value [, thread that failed]) -> text with traceback. Also a message handler for lua_pcall. */
int sv_lua_describe_error(lua_State *L);

#endif
