/* table.c: shared rows; see table.h.
 *
 * The environment of an object has the names of its columns: [i + 1] = name, [name] = i. What follows a metatable's
 * __index is a table for each object, which has `size` and `memorySize`, and then the methods. */
#include "lua/table.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/errors.h"
#include "lua/integers.h"
#include "lua/values.h"

#define CELLS_ON_STACK 32
#define NUMBER_TEXT_MAX 400 /* of any double without a fraction */
#define METHODS_NAME "srvlua.Table.methods"

const struct sv_lua_kind sv_lua_table_kind = {"srvlua.Table"};

struct table {
    const struct sv_lua_kind *kind;
    srvlua_table *table;
    void *row; /* for a copy of a row; NULL: not made yet, or in use (a finalizer may come here meanwhile) */
};

static struct table *check_table(lua_State *L) {
    struct table *self = sv_lua_check_self(L, &sv_lua_table_kind);

    if (!self->table)
        luaL_error(L, "the table was collected"); /* the Lua state ends */
    return self;
}

/* ------------------------------------------------------------------------------------------------------------- rows */

/* Memory for a copy of a row, to be given back with give_row(). An error in between (want of memory) loses it. */
static void *take_row(lua_State *L, struct table *self) {
    void *row = self->row;

    self->row = NULL;
    if (!row) {
        row = malloc(srvlua_table_row_size(self->table) + 1); /* also for a table without columns */
        if (!row)
            luaL_error(L, "not enough memory");
    }
    return row;
}

static void give_row(struct table *self, void *row) {
    if (self->row)
        free(row);
    else
        self->row = row;
}

static void push_cell(lua_State *L, const struct srvlua_column *column, const struct srvlua_cell *cell) {
    switch (column->type) {
    case SRVLUA_COLUMN_INT:
        sv_lua_push_int64(L, cell->integer);
        break;
    case SRVLUA_COLUMN_FLOAT:
        lua_pushnumber(L, cell->number);
        break;
    case SRVLUA_COLUMN_STRING:
        lua_pushlstring(L, cell->string, cell->length);
        break;
    }
}

/* Pushes a copied row as a new table. The object's environment is at `names`. */
static void push_row(lua_State *L, struct table *self, const void *row, int names) {
    int count = srvlua_table_column_count(self->table), i;

    lua_createtable(L, 0, count);
    for (i = 0; i < count; i++) {
        struct srvlua_column column;
        struct srvlua_cell cell = {.column = i};

        srvlua_table_get_column(self->table, i, &column);
        srvlua_table_read(self->table, row, &cell);
        lua_rawgeti(L, names, i + 1);
        push_cell(L, &column, &cell);
        lua_rawset(L, -3);
    }
}

/* -------------------------------------------------------------------------------------------------------- arguments */

/* A key: a string, or an integral number as its decimal text, which goes to `text`. */
static const char *check_key(lua_State *L, int argument, char text[NUMBER_TEXT_MAX], size_t *length) {
    double number;

    if (lua_type(L, argument) == LUA_TSTRING)
        return lua_tolstring(L, argument, length);
    if (lua_type(L, argument) != LUA_TNUMBER)
        sv_lua_type_error(L, argument, "string or integer");
    number = lua_tonumber(L, argument);
    if (!isfinite(number) || floor(number) != number)
        sv_lua_argument_error(L, argument, lua_pushfstring(L, "integer expected, got %f", number));
    *length = (size_t)snprintf(text, NUMBER_TEXT_MAX, "%.0f", number + 0.0); /* -0 is 0 */
    return text;
}

/* Number of the column that the value at `index` names; the object is at 1. Raises for argument `argument`. */
static int check_column(lua_State *L, int index, int argument) {
    int column;

    if (lua_type(L, index) != LUA_TSTRING)
        sv_lua_argument_error(L, argument, lua_pushfstring(L, "names of columns are strings, got a %s",
                                                           luaL_typename(L, index)));
    lua_getfenv(L, 1);
    lua_pushvalue(L, index);
    lua_rawget(L, -2);
    if (lua_isnil(L, -1))
        sv_lua_argument_error(L, argument, lua_pushfstring(L, "there is no column '%s'", lua_tostring(L, index)));
    column = (int)lua_tointeger(L, -1);
    lua_pop(L, 2);
    return column;
}

/* Reads the value at `index` for cell->column. */
static void check_cell(lua_State *L, struct table *self, int index, int argument, struct srvlua_cell *cell) {
    static const char *const expected[] = {"", "an integer of 64 bits", "a number", "a string"};
    struct srvlua_column column;
    bool is_good;

    srvlua_table_get_column(self->table, cell->column, &column);
    switch (column.type) {
    case SRVLUA_COLUMN_INT:
        is_good = sv_lua_to_int64(L, index, &cell->integer);
        break;
    case SRVLUA_COLUMN_FLOAT:
        is_good = lua_type(L, index) == LUA_TNUMBER;
        cell->number = lua_tonumber(L, index);
        break;
    default:
        is_good = lua_type(L, index) == LUA_TSTRING;
        cell->string = is_good ? lua_tolstring(L, index, &cell->length) : NULL;
        break;
    }
    if (!is_good)
        sv_lua_argument_error(L, argument,
                              lua_pushfstring(L, "column '%s' takes %s, got %s", column.name, expected[column.type],
                                              lua_type(L, index) == LUA_TNUMBER ? lua_tostring(L, index)
                                                                                : luaL_typename(L, index)));
}

/* ------------------------------------------------------------------------------------------------------- definition */

/* table:column(name, type [, size]) -> true; raises for a bad one */
static int table_column(lua_State *L) {
    struct table *self = check_table(L);
    const char *name = sv_lua_check_text(L, 2);
    int type = sv_lua_check_int(L, 3);
    int64_t size = sv_lua_optional_integer(L, 4, 0);
    struct srvlua_status status;
    int column = srvlua_table_add_column(self->table, name, (enum srvlua_column_type)type, size, &status);

    if (column < 0)
        return luaL_error(L, "%s", status.message);
    free(self->row); /* it is too small now */
    self->row = NULL;
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_pushinteger(L, column);
    lua_rawset(L, -3);
    lua_pushvalue(L, 2);
    lua_rawseti(L, -2, column + 1);
    lua_pushboolean(L, 1);
    return 1;
}

/* table:create() -> true; raises without columns, or a second time */
static int table_create(lua_State *L) {
    struct table *self = check_table(L);
    struct srvlua_status status;
    int result;

    if (sv_lua_of(L)->is_running)
        return sv_lua_fail_with(L, SRVLUA_ERROR_WRONG_OPERATION,
                                "a table of a running server's process would be that process's own");
    result = srvlua_table_create(self->table, &status);
    if (result < 0 && result != -SRVLUA_ERROR_MALLOC_FAIL)
        return luaL_error(L, "%s", status.message);
    if (result == 0) {
        luaL_getmetafield(L, 1, "__index");
        lua_pushnumber(L, (double)srvlua_table_memory_size(self->table));
        lua_setfield(L, -2, "memorySize");
    }
    return sv_lua_result(L, result, &status);
}

/* ------------------------------------------------------------------------------------------------------- operations */

/* table:set(key, row) -> true */
static int table_set(lua_State *L) {
    struct table *self = check_table(L);
    char text[NUMBER_TEXT_MAX];
    size_t key_length, count = 0;
    const char *key = check_key(L, 2, text, &key_length);
    struct srvlua_cell on_stack[CELLS_ON_STACK], *cells = on_stack;
    int columns = srvlua_table_column_count(self->table);
    struct srvlua_status status;

    if (!lua_istable(L, 3))
        return sv_lua_type_error(L, 3, "table");
    if (columns > CELLS_ON_STACK)
        cells = lua_newuserdata(L, (size_t)columns * sizeof *cells);
    for (lua_pushnil(L); lua_next(L, 3); lua_pop(L, 1)) {
        struct srvlua_cell cell = {.column = check_column(L, lua_gettop(L) - 1, 3)};
        check_cell(L, self, lua_gettop(L), 3, &cell);
        cells[count++] = cell; /* each name once, so there is room */
    }
    return sv_lua_result(L, srvlua_table_set(self->table, key, key_length, cells, count, &status), &status);
}

/* table:get(key [, column]) -> row | value | false */
static int table_get(lua_State *L) {
    struct table *self = check_table(L);
    char text[NUMBER_TEXT_MAX];
    size_t key_length;
    const char *key = check_key(L, 2, text, &key_length);
    bool wants_column = !lua_isnoneornil(L, 3);
    struct srvlua_cell cell = {.column = wants_column ? check_column(L, 3, 3) : -1};
    struct srvlua_status status;
    void *row = take_row(L, self);
    int result = wants_column ? srvlua_table_get_cell(self->table, key, key_length, row, &cell, &status)
                              : srvlua_table_get(self->table, key, key_length, row, &status);

    if (result > 0 && wants_column) {
        struct srvlua_column column;
        srvlua_table_get_column(self->table, cell.column, &column);
        push_cell(L, &column, &cell);
    } else if (result > 0) {
        lua_getfenv(L, 1);
        push_row(L, self, row, lua_gettop(L));
    } else {
        lua_pushboolean(L, 0);
    }
    give_row(self, row);
    return result < 0 ? sv_lua_fail(L, &status) : 1;
}

static int change(lua_State *L, bool is_subtracted) {
    struct table *self = check_table(L);
    char text[NUMBER_TEXT_MAX];
    size_t key_length;
    const char *key = check_key(L, 2, text, &key_length);
    struct srvlua_cell cell = {.column = check_column(L, 3, 3), .integer = 1, .number = 1};
    struct srvlua_column column;
    struct srvlua_status status;
    int result;

    srvlua_table_get_column(self->table, cell.column, &column);
    if (column.type == SRVLUA_COLUMN_STRING)
        return sv_lua_argument_error(L, 3, lua_pushfstring(L, "column '%s' is a string", column.name));
    if (!lua_isnoneornil(L, 4))
        check_cell(L, self, 4, 4, &cell);
    if (is_subtracted) {
        cell.integer = (int64_t)(0 - (uint64_t)cell.integer);
        cell.number = -cell.number;
    }
    result = srvlua_table_incr(self->table, key, key_length, &cell, &status);
    if (result < 0)
        return sv_lua_fail(L, &status);
    push_cell(L, &column, &cell);
    return 1;
}

/* table:incr(key, column [, by = 1]) -> new value */
static int table_incr(lua_State *L) { return change(L, false); }

/* table:decr(key, column [, by = 1]) -> new value */
static int table_decr(lua_State *L) { return change(L, true); }

static int ask(lua_State *L, int (*function)(srvlua_table *table, const void *key, size_t key_length,
                                             struct srvlua_status *status)) {
    struct table *self = check_table(L);
    char text[NUMBER_TEXT_MAX];
    size_t key_length;
    const char *key = check_key(L, 2, text, &key_length);
    struct srvlua_status status;
    int result = function(self->table, key, key_length, &status);

    if (result < 0)
        return sv_lua_fail(L, &status);
    lua_pushboolean(L, result);
    return 1;
}

/* table:exist(key) -> boolean */
static int table_exist(lua_State *L) { return ask(L, srvlua_table_exist); }

/* table:del(key) -> boolean */
static int table_del(lua_State *L) { return ask(L, srvlua_table_del); }

/* table:count() -> rows now */
static int table_count(lua_State *L) {
    lua_pushnumber(L, (double)srvlua_table_count(check_table(L)->table));
    return 1;
}

/* table:clear() -> rows removed */
static int table_clear(lua_State *L) {
    lua_pushnumber(L, (double)srvlua_table_clear(check_table(L)->table));
    return 1;
}

/* What `table:rows()` returns: () -> key, row | nil. Upvalues: walk, table, environment of the table. */
static int walk_next(lua_State *L) {
    struct srvlua_table_walk *walk = lua_touserdata(L, lua_upvalueindex(1));
    struct table *self = lua_touserdata(L, lua_upvalueindex(2));
    char key[SRVLUA_KEY_MAX + 1];
    size_t length;
    void *row = take_row(L, self);
    int is_there = srvlua_table_walk_next(self->table, walk, key, &length, row);

    if (is_there) {
        lua_pushlstring(L, key, length);
        push_row(L, self, row, lua_upvalueindex(3));
    } else {
        lua_pushnil(L);
    }
    give_row(self, row);
    return is_there ? 2 : 1;
}

/* table:rows() -> iterator */
static int table_rows(lua_State *L) {
    struct table *self = check_table(L);
    struct srvlua_table_walk *walk = lua_newuserdata(L, sizeof *walk);

    srvlua_table_walk_begin(self->table, walk);
    lua_pushvalue(L, 1);
    lua_getfenv(L, 1);
    lua_pushcclosure(L, walk_next, 3);
    return 1;
}

static void set_number(lua_State *L, const char *name, int64_t value) {
    lua_pushnumber(L, (double)value);
    lua_setfield(L, -2, name);
}

/* table:stats() -> counters */
static int table_stats(lua_State *L) {
    struct srvlua_table_stats stats;

    srvlua_table_get_stats(check_table(L)->table, &stats);
    lua_createtable(L, 0, 8);
    set_number(L, "num", stats.num);
    set_number(L, "size", stats.size);
    set_number(L, "available_slice_num", stats.available_slice_num);
    set_number(L, "conflict_count", stats.conflict_count);
    set_number(L, "conflict_max_level", stats.conflict_max_level);
    set_number(L, "insert_count", stats.insert_count);
    set_number(L, "update_count", stats.update_count);
    set_number(L, "delete_count", stats.delete_count);
    return 1;
}

/* ---------------------------------------------------------------------------------------------------------- objects */

static int table_gc(lua_State *L) {
    struct table *self = sv_lua_check_self(L, &sv_lua_table_kind);

    srvlua_table_free(self->table);
    free(self->row);
    self->table = NULL;
    self->row = NULL;
    return 0;
}

static const struct sv_lua_function methods[] = {
    SV_LUA_METHOD("column", table_column),
    SV_LUA_METHOD("create", table_create),
    SV_LUA_METHOD("set", table_set),
    SV_LUA_METHOD("get", table_get),
    SV_LUA_METHOD("incr", table_incr),
    SV_LUA_METHOD("decr", table_decr),
    SV_LUA_METHOD("exist", table_exist),
    SV_LUA_METHOD("exists", table_exist),
    SV_LUA_METHOD("del", table_del),
    SV_LUA_METHOD("count", table_count),
    SV_LUA_METHOD("rows", table_rows),
    SV_LUA_METHOD("clear", table_clear),
    SV_LUA_METHOD("stats", table_stats),
    SV_LUA_END,
};

static const struct sv_lua_function metamethods[] = {
    SV_LUA_METHOD("__gc", table_gc),
    SV_LUA_END,
};

/* Gives the userdata on the top of the stack its metatable, with what is this object's own. */
static void set_metatable(lua_State *L, struct sv_lua *lua, const struct table *self) {
    lua_newtable(L);
    sv_lua_register(L, lua, metamethods);
    lua_pushstring(L, sv_lua_table_kind.name);
    lua_setfield(L, -2, "__metatable");
    lua_newtable(L);
    lua_pushnumber(L, (double)srvlua_table_size(self->table));
    lua_setfield(L, -2, "size");
    luaL_getmetatable(L, METHODS_NAME);
    lua_getfield(L, -1, "__index");
    lua_setfield(L, -4, "methods");
    lua_setmetatable(L, -2);
    lua_setfield(L, -2, "__index");
    lua_setmetatable(L, -2);
}

/* Table(size [, conflict_proportion]) */
static int table_new(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    int64_t size = sv_lua_check_integer(L, 2);
    double proportion = lua_isnoneornil(L, 3) ? 1 : sv_lua_check_number(L, 3);
    struct srvlua_status status;
    struct table *self;

    if (!(proportion >= 0.2 && proportion <= 1))
        return sv_lua_argument_error(L, 3, "a number from 0.2 to 1 expected");
    self = lua_newuserdata(L, sizeof *self);
    self->kind = &sv_lua_table_kind;
    self->row = NULL;
    self->table = srvlua_table_new(size, &status);
    if (!self->table)
        return sv_lua_raise(L, &status);
    set_metatable(L, lua, self);
    lua_newtable(L);
    lua_setfenv(L, -2);
    return 1;
}

void sv_lua_table_open(lua_State *L, struct sv_lua *lua) {
    luaL_newmetatable(L, METHODS_NAME);
    lua_newtable(L);
    sv_lua_register(L, lua, methods);
    lua_setfield(L, -2, "__index");
    lua_pop(L, 1);
}

void sv_lua_push_table_class(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function constructor = SV_LUA_METHOD("Table", table_new);

    sv_lua_push_class(L, lua, &constructor);
    lua_pushinteger(L, SRVLUA_COLUMN_INT);
    lua_setfield(L, -2, "TYPE_INT");
    lua_pushinteger(L, SRVLUA_COLUMN_FLOAT);
    lua_setfield(L, -2, "TYPE_FLOAT");
    lua_pushinteger(L, SRVLUA_COLUMN_STRING);
    lua_setfield(L, -2, "TYPE_STRING");
}
