/* serialise.h: Lua values as bytes, for what crosses processes: tasks, results, messages, commands (methods.md 0.4).
 *
 * Strings travel as they are; all else in the form of LuaJIT's string.buffer, which refuses functions, threads, userdata, cycles
 * and tables deeper than 100 levels. Which of the two it is says a flag beside the bytes.
 *
 * runs in: every process. */
#ifndef SV_LUA_SERIALISE_H
#define SV_LUA_SERIALISE_H

#include "lua/binding.h"

/* Finds what the functions here need. Leaves the stack as it was. */
void sv_lua_serialise_open(lua_State *L, struct sv_lua *lua);

/* The bytes of the value at argument `argument`; *flags: 0 or SRVLUA_TASK_SERIALIZE. What holds them is pushed: they live as long
 * as that is on the stack. Raises an argument error if the value cannot be sent; no argument at all is one, too. */
const char *sv_lua_pack(lua_State *L, int argument, size_t *length, int *flags);
/* The same for the value at `index`, an element of argument `argument`. */
const char *sv_lua_pack_element(lua_State *L, int index, int argument, size_t *length, int *flags);
/* The same for any value on the stack. NULL: it cannot be sent; why is pushed. */
const char *sv_lua_try_pack(const struct sv_lua *lua, lua_State *L, int index, size_t *length, int *flags);

/* Pushes the value of such bytes. False: they are damaged; why is pushed instead. */
bool sv_lua_unpack(const struct sv_lua *lua, lua_State *L, const void *data, size_t length, int flags);

#endif
