/* connections.c: iterators over connections and their records as tables; see connections.h. */
#include "lua/connections.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "lua/errors.h"
#include "lua/values.h"

const struct sv_lua_kind sv_lua_connections_kind = {"srvlua.Connections"};

struct connections {
    const struct sv_lua_kind *kind;
    struct sv_lua_server *server;
    srvlua_port *port; /* or NULL: all */
};

/* One walk: the ids that there were when it began. */
struct walk {
    srvlua_server *server;
    size_t next, count;
    int64_t ids[];
};

static struct connections *check_connections(lua_State *L) { return sv_lua_check_self(L, &sv_lua_connections_kind); }

/* What `connections()` returns: () -> the next id that still exists, or nil. */
static int walk_next(lua_State *L) {
    struct walk *walk = lua_touserdata(L, lua_upvalueindex(1));

    while (walk->next < walk->count) {
        int64_t id = walk->ids[walk->next++];
        if (!srvlua_exist(walk->server, id))
            continue;
        lua_pushnumber(L, (double)id);
        return 1;
    }
    lua_pushnil(L);
    return 1;
}

/* connections() -> iterator */
static int connections_call(lua_State *L) {
    struct connections *self = check_connections(L);
    srvlua_server *server = self->server->server;
    struct srvlua_status status;
    struct walk *walk;
    int64_t *ids = NULL;
    int64_t count = srvlua_get_client_ids(server, self->port, &ids, &status);

    if (count < 0)
        return sv_lua_fail(L, &status);
    walk = lua_newuserdata(L, sizeof *walk + (size_t)count * sizeof *ids);
    walk->server = server;
    walk->next = 0;
    walk->count = (size_t)count;
    if (count > 0)
        memcpy(walk->ids, ids, (size_t)count * sizeof *ids);
    free(ids);
    lua_pushvalue(L, 1); /* keeps the server */
    lua_pushcclosure(L, walk_next, 2);
    return 1;
}

/* connections:count() -> int */
static int connections_count(lua_State *L) {
    struct connections *self = check_connections(L);
    struct srvlua_stat stats[64];
    struct srvlua_status status;
    int64_t count = -SRVLUA_ERROR_WRONG_OPERATION;
    int i, known;

    if (self->port) {
        count = srvlua_port_connection_count(self->port);
        if (count < 0)
            return sv_lua_fail_server(L, self->server, (int)-count, srvlua_strerror((int)-count));
        lua_pushnumber(L, (double)count);
        return 1;
    }
    known = srvlua_stats(self->server->server, stats, sizeof stats / sizeof stats[0], &status);
    if (known < 0)
        return sv_lua_fail(L, &status);
    for (i = 0; i < known && strcmp(stats[i].name, "connection_num") != 0; i++)
        ;
    lua_pushnumber(L, i < known ? (double)stats[i].value : 0);
    return 1;
}

/* connections:has(fd) -> boolean */
static int connections_has(lua_State *L) {
    struct connections *self = check_connections(L);
    int64_t fd = sv_lua_check_integer(L, 2);
    srvlua_server *server = self->server->server;
    bool is_there = srvlua_exist(server, fd);

    if (is_there && self->port) {
        struct srvlua_client_info client;
        struct srvlua_port_info port;
        srvlua_port_get_info(self->port, &port);
        is_there = srvlua_get_client_info(server, fd, 0, &client, NULL) >= 0 && client.server_fd == port.socket;
    }
    lua_pushboolean(L, is_there);
    return 1;
}

/* connections:info(fd) -> table */
static int connections_info(lua_State *L) {
    struct connections *self = check_connections(L);
    int64_t fd = sv_lua_check_integer(L, 2);
    struct srvlua_client_info info;
    struct srvlua_status status;

    if (srvlua_get_client_info(self->server->server, fd, 0, &info, &status) < 0)
        return sv_lua_fail(L, &status);
    sv_lua_push_client_info(L, &info);
    return 1;
}

static const struct sv_lua_function connections_methods[] = {
    SV_LUA_METHOD("count", connections_count),
    SV_LUA_METHOD("has", connections_has),
    SV_LUA_METHOD("info", connections_info),
    SV_LUA_END,
};

static const struct sv_lua_function connections_metamethods[] = {
    SV_LUA_METHOD("__call", connections_call),
    SV_LUA_END,
};

void sv_lua_connections_open(lua_State *L, struct sv_lua *lua) {
    luaL_newmetatable(L, sv_lua_connections_kind.name);
    sv_lua_register(L, lua, connections_metamethods);
    lua_newtable(L);
    sv_lua_register(L, lua, connections_methods);
    lua_setfield(L, -2, "__index");
    lua_pushstring(L, sv_lua_connections_kind.name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void sv_lua_push_connections(lua_State *L, int owner_index, struct sv_lua_server *server, srvlua_port *port) {
    struct connections *connections = lua_newuserdata(L, sizeof *connections);

    connections->kind = &sv_lua_connections_kind;
    connections->server = server;
    connections->port = port;
    luaL_getmetatable(L, sv_lua_connections_kind.name);
    lua_setmetatable(L, -2);
    sv_lua_keep_alive(L, owner_index);
}

/* -------------------------------------------------------------------------------------------------------- as tables */

static void set_number(lua_State *L, const char *name, double value) {
    lua_pushnumber(L, value);
    lua_setfield(L, -2, name);
}

static void set_boolean(lua_State *L, const char *name, bool value) {
    lua_pushboolean(L, value);
    lua_setfield(L, -2, name);
}

static void set_text(lua_State *L, const char *name, const char *text) {
    if (!text)
        return;
    lua_pushstring(L, text);
    lua_setfield(L, -2, name);
}

static void set_tls(lua_State *L, const struct srvlua_client_info *info) {
    set_boolean(L, "ssl", true);
    if (!info->ssl_protocol)
        return;
    set_text(L, "ssl_protocol", info->ssl_protocol);
    set_text(L, "ssl_cipher", info->ssl_cipher);
    set_text(L, "ssl_server_name", info->ssl_server_name);
    set_text(L, "ssl_alpn", info->ssl_alpn);
    set_text(L, "ssl_client_cert", info->ssl_client_cert);
    set_boolean(L, "ssl_resumed", info->ssl_resumed);
    set_boolean(L, "ssl_ktls", info->ssl_ktls);
}

void sv_lua_push_client_info(lua_State *L, const struct srvlua_client_info *info) {
    lua_createtable(L, 0, 18);
    set_number(L, "server_port", info->server_port);
    set_number(L, "server_fd", info->server_fd);
    set_number(L, "socket_fd", info->socket_fd);
    set_number(L, "socket_type", info->socket_type);
    set_number(L, "remote_port", info->remote_port);
    lua_pushstring(L, info->remote_ip);
    lua_setfield(L, -2, "remote_ip");
    set_number(L, "reactor_id", info->reactor_id);
    set_number(L, "connect_time", (double)info->connect_time);
    set_number(L, "last_time", floor(info->last_recv_time));
    set_number(L, "last_recv_time", info->last_recv_time);
    set_number(L, "last_send_time", info->last_send_time);
    set_number(L, "last_dispatch_time", info->last_dispatch_time);
    set_number(L, "close_errno", info->close_errno);
    set_number(L, "recv_queued_bytes", (double)info->recv_queued_bytes);
    set_number(L, "send_queued_bytes", (double)info->send_queued_bytes);
    if (info->has_uid)
        set_number(L, "uid", info->uid);
    if (info->worker_id >= 0)
        set_number(L, "worker_id", info->worker_id);
    if (info->proxy_ip) {
        set_text(L, "proxy_ip", info->proxy_ip);
        set_number(L, "proxy_port", info->proxy_port);
    }
    if (info->is_ssl)
        set_tls(L, info);
}

void sv_lua_push_ids(lua_State *L, const int64_t *ids, size_t count) {
    size_t i;

    lua_createtable(L, (int)count, 0);
    for (i = 0; i < count; i++) {
        lua_pushnumber(L, (double)ids[i]);
        lua_rawseti(L, -2, (int)i + 1);
    }
}
