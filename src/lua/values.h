/* values.h: arguments of Lua functions, and values of settings in both directions.
 *
 * The check functions raise an argument error that names the function which is running (methods.md 0.2). Numbers must be
 * numbers: text that looks like one is refused. nil counts as absent where there is a default. */
#ifndef SV_LUA_VALUES_H
#define SV_LUA_VALUES_H

#include "lua/binding.h"

/* An integral number; what 64 bits cannot hold becomes the nearest they can. */
int64_t sv_lua_check_integer(lua_State *L, int argument);
int64_t sv_lua_optional_integer(lua_State *L, int argument, int64_t value);
/* The same cut to an int. */
int sv_lua_check_int(lua_State *L, int argument);
int sv_lua_optional_int(lua_State *L, int argument, int value);
double sv_lua_check_number(lua_State *L, int argument);
bool sv_lua_optional_boolean(lua_State *L, int argument, bool value);
/* A string of any bytes; lives as long as the argument. */
const char *sv_lua_check_string(lua_State *L, int argument, size_t *length);
/* A string without NUL, for what the C library takes. */
const char *sv_lua_check_text(lua_State *L, int argument);
/* A function, or a value with __call. */
void sv_lua_check_callable(lua_State *L, int argument);

/* The table at `argument` as settings; they live until the running C function returns. Raises for keys that are no names. */
const struct srvlua_setting *sv_lua_check_settings(lua_State *L, int argument, size_t *count);
/* Pushes a value of a setting. */
void sv_lua_push_value(lua_State *L, const struct srvlua_value *value);
/* Copies the entries of the table at `from` to the table at `to` (absolute indices). */
void sv_lua_copy_entries(lua_State *L, int from, int to);

#endif
