/* port.c: objects in server.ports; see port.h. */
#include "lua/port.h"

#include <string.h>

#include "lua/callbacks.h"
#include "lua/connections.h"
#include "lua/errors.h"
#include "lua/socket.h"
#include "lua/values.h"

const struct sv_lua_kind sv_lua_port_kind = {"srvlua.Port"};

static struct sv_lua_port *check_port(lua_State *L) { return sv_lua_check_self(L, &sv_lua_port_kind); }

/* Pushes the table of the port's settings, making it at the first call. The primary port's is the server's. */
static void push_setting(lua_State *L, const struct sv_lua_port *self) {
    int environment;

    lua_getfenv(L, 1);
    environment = lua_gettop(L);
    lua_getfield(L, environment, "setting");
    if (!lua_isnil(L, -1))
        return;
    if (self == self->owner->primary) {
        lua_getfield(L, environment, "server");
        lua_getfenv(L, -1);
        lua_getfield(L, -1, "setting");
    } else {
        lua_newtable(L);
    }
    lua_pushvalue(L, -1);
    lua_setfield(L, environment, "setting");
}

/* port:set(settings) -> true; raises for a bad setting */
static int port_set(lua_State *L) {
    struct sv_lua_port *self = check_port(L);
    struct srvlua_status status;
    size_t count;
    const struct srvlua_setting *settings = sv_lua_check_settings(L, 2, &count);
    int result = srvlua_port_set(self->port, settings, count, &status);

    if (result == -SRVLUA_ERROR_WRONG_OPERATION)
        return sv_lua_fail(L, &status);
    if (result < 0)
        return luaL_error(L, "%s", status.message);
    push_setting(L, self);
    sv_lua_copy_entries(L, 2, lua_gettop(L));
    lua_pushboolean(L, 1);
    return 1;
}

/* port:on(event, callback) -> true */
static int port_on(lua_State *L) {
    struct sv_lua_port *self = check_port(L);

    return sv_lua_register_callback(L, self->owner, self);
}

/* port:getCallback(event) -> callback | nil */
static int port_get_callback(lua_State *L) {
    check_port(L);
    return sv_lua_get_callback(L, false);
}

/* port:getSocket() -> socket */
static int port_get_socket(lua_State *L) {
    struct sv_lua_port *self = check_port(L);
    struct srvlua_port_info info;

    srvlua_port_get_info(self->port, &info);
    if (info.socket < 0)
        return sv_lua_fail_server(L, self->owner, SRVLUA_ERROR_WRONG_OPERATION, "the socket of this port is not open");
    sv_lua_push_socket(L, 1, self->port);
    return 1;
}

/* Pushes a property of the port at index 1 by its name; false if there is none. */
static bool push_property(lua_State *L, const struct sv_lua_port *self, const char *name) {
    struct srvlua_port_info info;

    srvlua_port_get_info(self->port, &info);
    if (strcmp(name, "host") == 0) {
        lua_pushstring(L, info.host);
    } else if (strcmp(name, "port") == 0) {
        lua_pushinteger(L, info.port);
    } else if (strcmp(name, "type") == 0) {
        lua_pushinteger(L, info.type);
    } else if (strcmp(name, "ssl") == 0) {
        lua_pushboolean(L, info.ssl);
    } else if (strcmp(name, "sock") == 0) {
        lua_pushinteger(L, info.socket);
    } else if (strcmp(name, "setting") == 0 || strcmp(name, "connections") == 0) {
        lua_getfenv(L, 1);
        lua_getfield(L, -1, name);
    } else {
        return false;
    }
    return true;
}

static int port_index(lua_State *L) {
    struct sv_lua_port *self = check_port(L);

    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    if (lua_isnil(L, -1) && lua_type(L, 2) == LUA_TSTRING && !push_property(L, self, lua_tostring(L, 2)))
        lua_pushnil(L);
    return 1;
}

static int port_newindex(lua_State *L) {
    return luaL_error(L, "a port takes no fields (got '%s')", lua_tostring(L, 2));
}

static int port_tostring(lua_State *L) {
    struct sv_lua_port *self = check_port(L);
    struct srvlua_port_info info;

    srvlua_port_get_info(self->port, &info);
    lua_pushfstring(L, "srvlua.Port: %s:%d", info.host, info.port);
    return 1;
}

static const struct sv_lua_function port_methods[] = {
    SV_LUA_METHOD("set", port_set),
    SV_LUA_METHOD("on", port_on),
    SV_LUA_METHOD("getCallback", port_get_callback),
    SV_LUA_METHOD("getSocket", port_get_socket),
    SV_LUA_END,
};

static const struct sv_lua_function port_metamethods[] = {
    SV_LUA_METHOD("__index", port_index),
    SV_LUA_METHOD("__newindex", port_newindex),
    SV_LUA_METHOD("__tostring", port_tostring),
    SV_LUA_END,
};

void sv_lua_port_open(lua_State *L, struct sv_lua *lua) {
    luaL_newmetatable(L, sv_lua_port_kind.name);
    sv_lua_register(L, lua, port_metamethods);
    lua_newtable(L);
    sv_lua_register(L, lua, port_methods);
    lua_setfield(L, -2, "methods");
    lua_pushstring(L, sv_lua_port_kind.name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

struct sv_lua_port *sv_lua_push_port(lua_State *L, int server_index, srvlua_port *port) {
    struct sv_lua_server *owner = lua_touserdata(L, server_index);
    struct sv_lua_port *self = lua_newuserdata(L, sizeof *self);
    int event, index = lua_gettop(L);

    self->kind = &sv_lua_port_kind;
    self->owner = owner;
    self->port = port;
    for (event = 0; event < SRVLUA_EVENT_COUNT; event++)
        self->callbacks[event] = (struct sv_lua_callback){owner->lua, LUA_NOREF};
    luaL_getmetatable(L, sv_lua_port_kind.name);
    lua_setmetatable(L, -2);
    lua_newtable(L);
    lua_pushvalue(L, server_index);
    lua_setfield(L, -2, "server");
    sv_lua_push_connections(L, index, owner, port);
    lua_setfield(L, -2, "connections");
    lua_setfenv(L, index);
    return self;
}
