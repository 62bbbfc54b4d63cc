/* values.c: arguments and setting values; see values.h. */
#include "lua/values.h"

#include <limits.h>
#include <math.h>
#include <string.h>

#include "lua/errors.h"

#define NESTING_MAX 32 /* of tables in a setting's value; ends cyclic ones */

/* ------------------------------------------------------------------------------------------------------ arguments */

double sv_lua_check_number(lua_State *L, int argument) {
    if (lua_type(L, argument) != LUA_TNUMBER)
        sv_lua_type_error(L, argument, "number");
    return lua_tonumber(L, argument);
}

int64_t sv_lua_check_integer(lua_State *L, int argument) {
    double number = sv_lua_check_number(L, argument);

    if (number >= -9223372036854775808.0 && number < 9223372036854775808.0) {
        int64_t integer = (int64_t)number;
        if ((double)integer == number)
            return integer;
    } else if (isfinite(number)) { /* so large that it is integral */
        return number < 0 ? INT64_MIN : INT64_MAX;
    }
    sv_lua_argument_error(L, argument, lua_pushfstring(L, "integer expected, got %f", number));
    return 0;
}

int64_t sv_lua_optional_integer(lua_State *L, int argument, int64_t value) {
    return lua_isnoneornil(L, argument) ? value : sv_lua_check_integer(L, argument);
}

int sv_lua_check_int(lua_State *L, int argument) {
    int64_t integer = sv_lua_check_integer(L, argument);

    return integer < INT_MIN ? INT_MIN : integer > INT_MAX ? INT_MAX : (int)integer;
}

int sv_lua_optional_int(lua_State *L, int argument, int value) {
    return lua_isnoneornil(L, argument) ? value : sv_lua_check_int(L, argument);
}

bool sv_lua_optional_boolean(lua_State *L, int argument, bool value) {
    if (lua_isnoneornil(L, argument))
        return value;
    if (!lua_isboolean(L, argument))
        sv_lua_type_error(L, argument, "boolean");
    return lua_toboolean(L, argument);
}

const char *sv_lua_check_string(lua_State *L, int argument, size_t *length) {
    if (lua_type(L, argument) != LUA_TSTRING)
        sv_lua_type_error(L, argument, "string");
    return lua_tolstring(L, argument, length);
}

const char *sv_lua_check_text(lua_State *L, int argument) {
    size_t length;
    const char *text = sv_lua_check_string(L, argument, &length);

    if (strlen(text) != length)
        sv_lua_argument_error(L, argument, "string contains a zero byte");
    return text;
}

void sv_lua_check_callable(lua_State *L, int argument) {
    if (lua_isfunction(L, argument))
        return;
    if (luaL_getmetafield(L, argument, "__call")) {
        lua_pop(L, 1);
        return;
    }
    sv_lua_type_error(L, argument, "function");
}

/* ----------------------------------------------------------------------------------------------- settings from Lua */

/* Moves the value on the top of the stack to the table at `anchors`, which keeps it until the C function returns. */
static void anchor(lua_State *L, int anchors) { lua_rawseti(L, anchors, (int)lua_objlen(L, anchors) + 1); }

static int append_bytecode(lua_State *L, const void *piece, size_t length, void *buffer) {
    (void)L;
    luaL_addlstring(buffer, piece, length);
    return 0;
}

/* A value that no setting takes, as messages call it; the text is on the top of the stack. */
static void refuse_value(lua_State *L, struct srvlua_value *value, int anchors) {
    value->type = SRVLUA_VALUE_OTHER;
    value->string = lua_tolstring(L, -1, &value->length);
    anchor(L, anchors);
}

/* Bytecode of the Lua function at `index`. A function with upvalues, or written in C, could not work in another Lua state. */
static void read_function(lua_State *L, int index, struct srvlua_value *value, int anchors) {
    luaL_Buffer buffer;
    const char *upvalue;

    if (lua_iscfunction(L, index)) {
        lua_pushliteral(L, "C function");
        refuse_value(L, value, anchors);
        return;
    }
    upvalue = lua_getupvalue(L, index, 1);
    if (upvalue) {
        lua_pop(L, 1);
        lua_pushfstring(L, "function with upvalue '%s'", *upvalue ? upvalue : "?"); /* stripped bytecode has no names */
        refuse_value(L, value, anchors);
        return;
    }
    value->type = SRVLUA_VALUE_FUNCTION;
    lua_pushvalue(L, index);
    luaL_buffinit(L, &buffer);
    if (lua_dump(L, append_bytecode, &buffer) != 0)
        luaL_error(L, "cannot dump a function");
    luaL_pushresult(&buffer);
    value->string = lua_tolstring(L, -1, &value->length);
    anchor(L, anchors);
    lua_pop(L, 1); /* the copy of the function */
}

/* Names travel as C strings: with a NUL in it one would be taken for another. */
static bool is_name(lua_State *L, int index) {
    return lua_type(L, index) == LUA_TSTRING && strlen(lua_tostring(L, index)) == lua_objlen(L, index);
}

/* What a table is: entries 1..n without gaps (or none at all), entries with names, or neither. */
static enum srvlua_value_type kind_of_table(lua_State *L, int index, size_t *count) {
    size_t names = 0, numbers = 0, others = 0, highest = lua_objlen(L, index);

    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        if (is_name(L, -2))
            names++;
        else if (lua_type(L, -2) == LUA_TNUMBER)
            numbers++;
        else
            others++;
    }
    *count = names + numbers;
    if (others > 0)
        return SRVLUA_VALUE_OTHER;
    if (names == 0 && numbers == highest)
        return SRVLUA_VALUE_LIST;
    return numbers == 0 ? SRVLUA_VALUE_MAP : SRVLUA_VALUE_OTHER;
}

static void read_value(lua_State *L, int index, struct srvlua_value *value, int anchors, int depth);

static struct srvlua_setting *new_entries(lua_State *L, size_t count, int anchors) {
    struct srvlua_setting *entries = lua_newuserdata(L, (count + 1) * sizeof *entries);

    memset(entries, 0, (count + 1) * sizeof *entries);
    anchor(L, anchors);
    return entries;
}

static void read_table(lua_State *L, int index, struct srvlua_value *value, int anchors, int depth) {
    size_t count = 0, used = 0;
    enum srvlua_value_type type = depth < NESTING_MAX ? kind_of_table(L, index, &count) : SRVLUA_VALUE_OTHER;
    struct srvlua_setting *entries;

    value->type = type;
    if (type == SRVLUA_VALUE_OTHER) {
        value->string = depth < NESTING_MAX ? "a table that is neither a list nor a map" : "a table nested too deeply";
        value->length = strlen(value->string);
        return;
    }
    luaL_checkstack(L, 8, "settings");
    value->entries = entries = new_entries(L, count, anchors);
    value->length = count;
    if (type == SRVLUA_VALUE_LIST) {
        for (used = 0; used < count; used++) {
            lua_rawgeti(L, index, (int)used + 1);
            read_value(L, lua_gettop(L), &entries[used].value, anchors, depth + 1);
            lua_pop(L, 1);
        }
        return;
    }
    for (lua_pushnil(L); lua_next(L, index); lua_pop(L, 1)) {
        entries[used].name = lua_tostring(L, -2);
        read_value(L, lua_gettop(L), &entries[used++].value, anchors, depth + 1);
    }
}

static void read_value(lua_State *L, int index, struct srvlua_value *value, int anchors, int depth) {
    switch (lua_type(L, index)) {
    case LUA_TBOOLEAN:
        value->type = SRVLUA_VALUE_BOOLEAN;
        value->boolean = lua_toboolean(L, index);
        break;
    case LUA_TNUMBER:
        value->type = SRVLUA_VALUE_NUMBER;
        value->number = lua_tonumber(L, index);
        break;
    case LUA_TSTRING:
        value->type = SRVLUA_VALUE_STRING;
        value->string = lua_tolstring(L, index, &value->length);
        break;
    case LUA_TTABLE:
        read_table(L, index, value, anchors, depth);
        break;
    case LUA_TFUNCTION:
        read_function(L, index, value, anchors);
        break;
    default:
        value->type = SRVLUA_VALUE_OTHER;
        value->string = luaL_typename(L, index);
        value->length = strlen(value->string);
        break;
    }
}

const struct srvlua_setting *sv_lua_check_settings(lua_State *L, int argument, size_t *count) {
    struct srvlua_setting *settings;
    size_t used = 0, entries = 0;
    int anchors;

    if (!lua_istable(L, argument))
        sv_lua_type_error(L, argument, "table");
    for (lua_pushnil(L); lua_next(L, argument); lua_pop(L, 1)) {
        if (lua_type(L, -2) != LUA_TSTRING)
            sv_lua_argument_error(L, argument,
                                  lua_pushfstring(L, "names of settings are strings, got a %s", luaL_typename(L, -2)));
        if (!is_name(L, -2))
            sv_lua_argument_error(L, argument, "names of settings are strings without NUL");
        entries++;
    }
    lua_newtable(L);
    anchors = lua_gettop(L);
    settings = new_entries(L, entries, anchors);
    for (lua_pushnil(L); lua_next(L, argument); lua_pop(L, 1)) {
        settings[used].name = lua_tostring(L, -2);
        read_value(L, lua_gettop(L), &settings[used++].value, anchors, 0);
    }
    *count = entries;
    return settings;
}

/* ------------------------------------------------------------------------------------------------- settings to Lua */

void sv_lua_push_value(lua_State *L, const struct srvlua_value *value) {
    size_t i;

    switch (value->type) {
    case SRVLUA_VALUE_BOOLEAN:
        lua_pushboolean(L, value->boolean);
        break;
    case SRVLUA_VALUE_NUMBER:
        lua_pushnumber(L, value->number);
        break;
    case SRVLUA_VALUE_STRING:
        lua_pushlstring(L, value->string, value->length);
        break;
    case SRVLUA_VALUE_LIST:
    case SRVLUA_VALUE_MAP:
        luaL_checkstack(L, 3, "settings");
        lua_newtable(L);
        for (i = 0; i < value->length; i++) {
            sv_lua_push_value(L, &value->entries[i].value);
            if (value->type == SRVLUA_VALUE_LIST)
                lua_rawseti(L, -2, (int)i + 1);
            else
                lua_setfield(L, -2, value->entries[i].name);
        }
        break;
    default:
        lua_pushnil(L);
        break;
    }
}

void sv_lua_copy_entries(lua_State *L, int from, int to) {
    for (lua_pushnil(L); lua_next(L, from);) {
        lua_pushvalue(L, -2);
        lua_insert(L, -2);
        lua_rawset(L, to); /* leaves the key for lua_next */
    }
}
