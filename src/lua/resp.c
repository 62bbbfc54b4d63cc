/* resp.c: commands of Redis clients to Lua; see resp.h. */
#include "lua/resp.h"

#include <ctype.h>
#include <string.h>

#include "lua/callbacks.h"
#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/values.h"

#define NAME_SIZE 64 /* names of commands are shorter */

static const char what[] = "command handler";

/* ---------------------------------------------------------------------------------------------- one command's bytes */

/* The framer lets whole and valid commands through only. What is not one reads as a line with unbalanced quotes, which
 * closes the connection. */
struct reader {
    const char *at, *end;
};

/* Reads the number behind a type byte, and its line end. */
static bool read_number(struct reader *reader, int64_t *number) {
    const char *at = reader->at;
    bool is_negative = at < reader->end && *at == '-';
    uint64_t value = 0;

    if (at < reader->end && (*at == '-' || *at == '+'))
        at++;
    for (; at < reader->end && *at >= '0' && *at <= '9'; at++)
        value = value * 10 + (uint64_t)(*at - '0');
    if (reader->end - at < 2 || at[0] != '\r' || at[1] != '\n')
        return false;
    reader->at = at + 2;
    *number = (int64_t)(is_negative ? 0 - value : value);
    return true;
}

/* Pushes `$length data` as a string, `:number` as a number. */
static bool push_element(lua_State *L, struct reader *reader) {
    char type = reader->at < reader->end ? *reader->at++ : '\0';
    int64_t number;

    if ((type != '$' && type != ':') || !read_number(reader, &number))
        return false;
    if (type == ':') {
        lua_pushnumber(L, (lua_Number)number);
        return true;
    }
    if (number < 0 || reader->end - reader->at < 2 || number > reader->end - reader->at - 2)
        return false;
    lua_pushlstring(L, reader->at, (size_t)number);
    reader->at += number + 2;
    return true;
}

/* Pushes the first element as a string, and a sequence of the others. */
static bool push_array(lua_State *L, struct reader *reader) {
    int64_t i, count;

    reader->at++;
    if (!read_number(reader, &count) || count < 1 || count > reader->end - reader->at || !push_element(L, reader))
        return false;
    lua_tostring(L, -1);
    lua_createtable(L, (int)count - 1, 0);
    for (i = 1; i < count; i++) {
        if (!push_element(L, reader))
            return false;
        lua_rawseti(L, -2, (int)i);
    }
    return true;
}

static bool is_blank(char byte) { return byte == ' ' || byte == '\t'; }

static void skip_blanks(struct reader *reader) {
    while (reader->at < reader->end && is_blank(*reader->at))
        reader->at++;
}

static int hex_digit(char digit) {
    static const char digits[] = "0123456789abcdef";
    const char *place = digit ? strchr(digits, tolower((unsigned char)digit)) : NULL;

    return place ? (int)(place - digits) : -1;
}

/* The byte that an escape in "..." stands for; reader->at is behind the backslash, and behind the escape afterwards. */
static char read_escape(struct reader *reader) {
    static const char escapes[] = "n\nr\rt\tb\ba\a";
    char byte = *reader->at++;
    const char *escape;

    if (byte == 'x' && reader->end - reader->at >= 2 && hex_digit(reader->at[0]) >= 0 &&
        hex_digit(reader->at[1]) >= 0) {
        byte = (char)(hex_digit(reader->at[0]) * 16 + hex_digit(reader->at[1]));
        reader->at += 2;
        return byte;
    }
    for (escape = escapes; *escape; escape += 2)
        if (*escape == byte)
            return escape[1];
    return byte;
}

/* Adds the rest of a quoted part; false if the quotes are not closed, or something follows at once. */
static bool add_quoted(luaL_Buffer *word, struct reader *reader, char quote) {
    while (reader->at < reader->end) {
        char byte = *reader->at++;
        bool has_more = reader->at < reader->end;
        if (byte == quote)
            return !has_more || is_blank(*reader->at);
        if (byte == '\\' && has_more && quote == '"')
            byte = read_escape(reader);
        else if (byte == '\\' && has_more && *reader->at == '\'')
            byte = *reader->at++;
        luaL_addchar(word, byte);
    }
    return false;
}

/* Pushes the word that begins here; what it pushed is there in any case. */
static bool push_word(lua_State *L, struct reader *reader) {
    luaL_Buffer word;
    bool is_sound = true;

    luaL_buffinit(L, &word);
    while (is_sound && reader->at < reader->end && !is_blank(*reader->at)) {
        char byte = *reader->at++;
        if (byte == '"' || byte == '\'')
            is_sound = add_quoted(&word, reader, byte);
        else
            luaL_addchar(&word, byte);
    }
    luaL_pushresult(&word);
    return is_sound;
}

/* Pushes the first word of a line and a sequence of the others. */
static bool push_line(lua_State *L, struct reader *reader) {
    int i;

    if (!push_word(L, reader))
        return false;
    lua_newtable(L);
    for (i = 1; skip_blanks(reader), reader->at < reader->end; i++) {
        if (!push_word(L, reader))
            return false;
        lua_rawseti(L, -2, i);
    }
    return true;
}

/* A line without its end and the blanks before it; an array is left as it is. */
static struct reader read_command(const char *data, size_t length) {
    struct reader reader = {data, data + length};

    if (length == 0 || *data == '*')
        return reader;
    if (reader.end[-1] == '\n')
        reader.end--;
    if (reader.end > reader.at && reader.end[-1] == '\r')
        reader.end--;
    skip_blanks(&reader);
    return reader;
}

/* ----------------------------------------------------------------------------------------------------------- events */

struct command_event {
    const struct sv_lua_server *self;
    const struct srvlua_event_data *data;
    struct reader reader;
};

/* sv_lua_push: run(fd, name, arguments, size) of redis.lua; name is false for what is no command. */
static int push_command(lua_State *L, void *argument) {
    struct command_event *event = argument;
    int top;
    bool is_sound;

    lua_checkstack(L, LUA_MINSTACK);
    lua_rawgeti(L, LUA_REGISTRYINDEX, event->self->commands_ref);
    lua_pushnumber(L, (lua_Number)event->data->fd);
    top = lua_gettop(L);
    is_sound = *event->reader.at == '*' && event->reader.at == event->data->data ? push_array(L, &event->reader)
                                                                                 : push_line(L, &event->reader);
    if (!is_sound) {
        lua_settop(L, top);
        lua_pushboolean(L, 0);
        lua_newtable(L);
    }
    lua_pushnumber(L, (lua_Number)event->data->length);
    return 5;
}

/* srvlua_callback for `receive` of ports that speak the protocol. */
static int on_command(srvlua_server *server, const struct srvlua_event_data *data, void *user_data) {
    struct sv_lua_server *self = user_data;
    struct sv_lua *lua = self->lua;
    struct command_event event = {self, data, read_command(data->data, data->length)};

    if (lua->role != srvlua_get_role(server))
        sv_lua_adopt_process(lua);
    if (event.reader.at == event.reader.end)
        return 0; /* a line of blanks */
    if (lua->uses_coroutines && sv_lua_is_full(lua, what)) {
        srvlua_close(server, data->fd, 0, NULL);
        return 0;
    }
    return sv_lua_start(lua, what, push_command, &event);
}

/* --------------------------------------------------------------------------------------------------------- handlers */

/* Pushes a field of the environment of the server at index 1. */
static void push_private(lua_State *L, const char *name) {
    lua_getfenv(L, 1);
    lua_getfield(L, -1, name);
    lua_remove(L, -2);
}

static void change_case(char *to, const char *name, size_t length, int (*change)(int)) {
    size_t i;

    for (i = 0; i < length; i++)
        to[i] = (char)change((unsigned char)name[i]);
}

/* server:setHandler(command, handler) -> true. Found under two spellings without a change of case at each command. */
static int set_handler(lua_State *L, struct sv_lua_server *self) {
    size_t length;
    const char *name = sv_lua_check_string(L, 2, &length);
    char other_case[NAME_SIZE];

    sv_lua_check_callable(L, 3);
    if (length == 0 || length >= NAME_SIZE)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_INVALID_PARAMS, "the name of a command has 1 to 63 bytes");
    push_private(L, "handlers");
    change_case(other_case, name, length, toupper);
    lua_pushlstring(L, other_case, length);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    change_case(other_case, name, length, tolower);
    lua_pushlstring(L, other_case, length);
    lua_pushvalue(L, 3);
    lua_rawset(L, -3);
    lua_pushboolean(L, 1);
    return 1;
}

/* server:getHandler(command) -> handler | nil */
static int get_handler(lua_State *L, struct sv_lua_server *self) {
    size_t length;
    const char *name = sv_lua_check_string(L, 2, &length);
    char lower[NAME_SIZE];

    (void)self;
    if (length >= NAME_SIZE)
        return 0;
    push_private(L, "handlers");
    change_case(lower, name, length, tolower);
    lua_pushlstring(L, lower, length);
    lua_rawget(L, -2);
    return 1;
}

/* ------------------------------------------------------------------------------------------------------------ start */

/* Calls set() of the server at index 1: a redis server's primary port speaks the protocol and no other. */
static void set_protocol(lua_State *L, const struct sv_lua *lua) {
    static const char *const others[] = {"open_eof_check", "open_eof_split", "open_length_check", "open_mqtt_protocol"};
    size_t i;

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->server_methods_ref);
    lua_getfield(L, -1, "set");
    lua_pushvalue(L, 1);
    lua_newtable(L);
    lua_pushboolean(L, 1);
    lua_setfield(L, -2, "open_redis_protocol");
    for (i = 0; i < sizeof others / sizeof others[0]; i++) {
        lua_pushboolean(L, 0);
        lua_setfield(L, -2, others[i]);
    }
    lua_call(L, 2, 0);
    lua_pop(L, 1);
}

static bool is_switched_on(const srvlua_port *port, const char *setting) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    return srvlua_port_get_setting(port, setting, &value) == 0 && value.type == SRVLUA_VALUE_BOOLEAN && value.boolean;
}

/* The order is that of protocols.md 1.1. */
static bool speaks_redis(const srvlua_port *port) {
    static const char *const before[] = {"open_eof_check", "open_eof_split", "open_length_check", "open_http_protocol",
                                         "open_mqtt_protocol"};
    size_t i;

    for (i = 0; i < sizeof before / sizeof before[0]; i++)
        if (is_switched_on(port, before[i]))
            return false;
    return is_switched_on(port, "open_redis_protocol");
}

static bool has_streams(const srvlua_port *port) {
    struct srvlua_port_info info;

    srvlua_port_get_info(port, &info);
    return info.ssl || info.type == SRVLUA_SOCK_TCP || info.type == SRVLUA_SOCK_TCP6 ||
           info.type == SRVLUA_SOCK_UNIX_STREAM;
}

/* Whether the program has a `receive` callback for the port object on the top of the stack. */
static bool has_receive(lua_State *L) {
    bool has;

    lua_getfenv(L, -1);
    lua_rawgeti(L, -1, SRVLUA_ON_RECEIVE + 1);
    has = !lua_isnil(L, -1);
    lua_pop(L, 2);
    return has;
}

/* The port object is on the top of the stack. The primary port's callback is no longer where other ports look for it, so
 * they get it as their own. */
static int choose_receiver(lua_State *L, struct sv_lua_server *self, struct sv_lua_port *port, bool primary_has,
                           struct srvlua_status *status) {
    struct sv_lua_port *source = has_receive(L) ? port : primary_has ? self->primary : NULL;

    if (speaks_redis(port->port))
        return srvlua_port_on(port->port, SRVLUA_ON_RECEIVE, on_command, self, status);
    if (source)
        return srvlua_port_on(port->port, SRVLUA_ON_RECEIVE, sv_lua_on_event, &source->callbacks[SRVLUA_ON_RECEIVE],
                              status);
    if (!has_streams(port->port))
        return 0;
    return srvlua_fail(self->server, status, SRVLUA_ERROR_SERVER_INVALID_CALLBACK,
                       "a port without open_redis_protocol needs a 'receive' callback");
}

int sv_lua_take_commands(lua_State *L, struct sv_lua_server *self, struct srvlua_status *status) {
    int ports, i, result = 0, top = lua_gettop(L);
    bool primary_has;

    if (!self->has_commands)
        return 0;
    set_protocol(L, self->lua);
    push_private(L, "ports");
    ports = lua_gettop(L);
    lua_rawgeti(L, ports, 1);
    primary_has = has_receive(L);
    for (i = 1; result == 0 && i <= (int)lua_objlen(L, ports); i++) {
        lua_rawgeti(L, ports, i);
        result = choose_receiver(L, self, lua_touserdata(L, -1), primary_has, status);
    }
    lua_settop(L, ports - 1);
    sv_lua_release_commands(L, self);
    push_private(L, "commands");
    self->commands_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_settop(L, top);
    return result;
}

void sv_lua_release_commands(lua_State *L, struct sv_lua_server *self) {
    luaL_unref(L, LUA_REGISTRYINDEX, self->commands_ref);
    self->commands_ref = LUA_NOREF;
}

/* ----------------------------------------------------------------------------------------------------------- module */

/* serve(server, handlers, run): makes the server a redis server: run(fd, name, arguments, size) gets the commands,
 * `handlers` what setHandler() is given. */
static int redis_serve(lua_State *L) {
    static const struct sv_lua_function methods[] = {
        SV_LUA_SERVER_METHOD("setHandler", set_handler, SV_LUA_BEFORE | SRVLUA_ROLE_WORKER),
        SV_LUA_SERVER_METHOD("getHandler", get_handler, SV_LUA_ALWAYS),
        SV_LUA_END,
    };
    struct sv_lua_server *self = sv_lua_to_object(L, 1, &sv_lua_server_kind);

    if (!self)
        return sv_lua_type_error(L, 1, "server");
    lua_settop(L, 3);
    lua_getfenv(L, 1);
    lua_pushvalue(L, 2);
    lua_setfield(L, -2, "handlers");
    lua_pushvalue(L, 3);
    lua_setfield(L, -2, "commands");
    luaL_getmetafield(L, 1, "__index"); /* the table of fields */
    sv_lua_register(L, self->lua, methods);
    self->has_commands = true;
    return 0;
}

/* failed(text): logs and counts an error that a handler raised; may end the process (exit_on_error). */
static int redis_failed(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    lua->error_count++;
    sv_lua_log(lua, SRVLUA_LOG_ERROR, "uncaught error in %s: %s", what, sv_lua_check_string(L, 1, NULL));
    sv_lua_count_failure(lua);
    return 0;
}

void sv_lua_push_redis_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("serve", redis_serve),
        SV_LUA_FUNCTION("failed", redis_failed),
        SV_LUA_FUNCTION("describe", sv_lua_describe_error),
        SV_LUA_END,
    };

    lua_newtable(L);
    sv_lua_register(L, lua, functions);
}
