/* socket.c: options of listening sockets; see socket.h. */
#include "lua/socket.h"

#include <arpa/inet.h>
#include <errno.h>
#include <net/if.h>
#include <netinet/in.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>

#include "lua/errors.h"
#include "lua/values.h"

const struct sv_lua_kind sv_lua_socket_kind = {"srvlua.ListenSocket"};

struct listen_socket {
    const struct sv_lua_kind *kind;
    srvlua_port *port;
};

static struct listen_socket *check_socket(lua_State *L) { return sv_lua_check_self(L, &sv_lua_socket_kind); }

static int descriptor_of(const struct listen_socket *self) {
    struct srvlua_port_info info;

    srvlua_port_get_info(self->port, &info);
    return info.socket;
}

/* ---------------------------------------------------------------------------------------------------- option values */

/* The structures that options take besides int. */
union option {
    int number;
    char bytes[256];
    struct linger linger;
    struct timeval time;
    struct ip_mreqn interface;
    struct group_req group;
    struct group_source_req source;
};

static bool is_multicast_group(int name) { return name == MCAST_JOIN_GROUP || name == MCAST_LEAVE_GROUP; }

static bool is_multicast_source(int name) {
    return name == MCAST_JOIN_SOURCE_GROUP || name == MCAST_LEAVE_SOURCE_GROUP || name == MCAST_BLOCK_SOURCE ||
           name == MCAST_UNBLOCK_SOURCE;
}

/* An integral field of the table at argument 4. */
static int check_field(lua_State *L, const char *name) {
    double number;

    lua_getfield(L, 4, name);
    number = lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TNUMBER || number != (int)number)
        sv_lua_argument_error(L, 4, lua_pushfstring(L, "field '%s' must be an integer", name));
    lua_pop(L, 1);
    return (int)number;
}

/* Interface on the top of the stack, by name or number, nil = any: its number, or -1 with errno. */
static int interface_number(lua_State *L) {
    unsigned number;

    if (lua_isnil(L, -1))
        return 0;
    if (lua_type(L, -1) == LUA_TNUMBER)
        return (int)lua_tonumber(L, -1);
    if (lua_type(L, -1) != LUA_TSTRING)
        sv_lua_argument_error(L, 4, "an interface is a name or a number");
    number = if_nametoindex(lua_tostring(L, -1));
    return number ? (int)number : -1;
}

/* Address text in a field of the table at argument 4; raises if it is none of that family. */
static void check_address(lua_State *L, const char *name, int level, struct sockaddr_storage *address) {
    const char *text;
    bool is_good;

    lua_getfield(L, 4, name);
    text = lua_type(L, -1) == LUA_TSTRING ? lua_tostring(L, -1) : "";
    memset(address, 0, sizeof *address);
    if (level == IPPROTO_IPV6) {
        struct sockaddr_in6 *six = (struct sockaddr_in6 *)address;
        six->sin6_family = AF_INET6;
        is_good = inet_pton(AF_INET6, text, &six->sin6_addr) == 1;
    } else {
        struct sockaddr_in *four = (struct sockaddr_in *)address;
        four->sin_family = AF_INET;
        is_good = inet_pton(AF_INET, text, &four->sin_addr) == 1;
    }
    if (!is_good)
        sv_lua_argument_error(L, 4, lua_pushfstring(L, "field '%s' must be an IP address", name));
    lua_pop(L, 1);
}

/* { group =, interface = [, source =] }: the option's length, or -1 with errno. */
static int read_multicast(lua_State *L, int level, int name, union option *option) {
    int interface;

    if (!lua_istable(L, 4))
        sv_lua_type_error(L, 4, "table");
    lua_getfield(L, 4, "interface");
    interface = interface_number(L);
    lua_pop(L, 1);
    if (interface < 0)
        return -1;
    if (is_multicast_source(name)) {
        option->source.gsr_interface = (uint32_t)interface;
        check_address(L, "group", level, &option->source.gsr_group);
        check_address(L, "source", level, &option->source.gsr_source);
        return sizeof option->source;
    }
    option->group.gr_interface = (uint32_t)interface;
    check_address(L, "group", level, &option->group.gr_group);
    return sizeof option->group;
}

/* The value at argument 4 as the kernel takes it: its length, or -1 with errno. */
static int read_option(lua_State *L, int level, int name, union option *option) {
    size_t length;
    const char *bytes;

    memset(option, 0, sizeof *option);
    if ((level == IPPROTO_IP || level == IPPROTO_IPV6) && (is_multicast_group(name) || is_multicast_source(name)))
        return read_multicast(L, level, name, option);
    if ((level == IPPROTO_IP && name == IP_MULTICAST_IF) || (level == IPPROTO_IPV6 && name == IPV6_MULTICAST_IF)) {
        int interface;
        lua_pushvalue(L, 4);
        interface = interface_number(L);
        if (interface < 0)
            return -1;
        if (level == IPPROTO_IPV6)
            return option->number = interface, (int)sizeof option->number;
        option->interface.imr_ifindex = interface;
        return sizeof option->interface;
    }
    if (lua_istable(L, 4) && level == SOL_SOCKET && name == SO_LINGER) {
        option->linger.l_onoff = check_field(L, "onoff");
        option->linger.l_linger = check_field(L, "linger");
        return sizeof option->linger;
    }
    if (lua_istable(L, 4) && level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
        option->time.tv_sec = check_field(L, "sec");
        option->time.tv_usec = check_field(L, "usec");
        return sizeof option->time;
    }
    switch (lua_type(L, 4)) {
    case LUA_TBOOLEAN:
        option->number = lua_toboolean(L, 4);
        return sizeof option->number;
    case LUA_TSTRING: /* a name: SO_BINDTODEVICE, TCP_CONGESTION */
        bytes = lua_tolstring(L, 4, &length);
        if (length > sizeof option->bytes)
            return errno = EINVAL, -1;
        memcpy(option->bytes, bytes, length);
        return (int)length;
    default:
        option->number = sv_lua_check_int(L, 4);
        return sizeof option->number;
    }
}

/* --------------------------------------------------------------------------------------------------------- methods */

/* socket:setOption(level, name, value) -> true */
static int socket_set_option(lua_State *L) {
    struct listen_socket *self = check_socket(L);
    int level = sv_lua_check_int(L, 2), name = sv_lua_check_int(L, 3);
    union option option;
    int length = read_option(L, level, name, &option);

    if (length < 0 || setsockopt(descriptor_of(self), level, name, &option, (socklen_t)length) == -1)
        return sv_lua_fail_code(L, errno);
    lua_pushboolean(L, 1);
    return 1;
}

/* socket:getOption(level, name) -> int, or what setOption takes as a table */
static int socket_get_option(lua_State *L) {
    struct listen_socket *self = check_socket(L);
    int level = sv_lua_check_int(L, 2), name = sv_lua_check_int(L, 3);
    union option option;
    socklen_t length = sizeof option;

    memset(&option, 0, sizeof option);
    if (getsockopt(descriptor_of(self), level, name, &option, &length) == -1)
        return sv_lua_fail_code(L, errno);
    if (level == SOL_SOCKET && name == SO_LINGER) {
        lua_createtable(L, 0, 2);
        lua_pushinteger(L, option.linger.l_onoff);
        lua_setfield(L, -2, "onoff");
        lua_pushinteger(L, option.linger.l_linger);
        lua_setfield(L, -2, "linger");
    } else if (level == SOL_SOCKET && (name == SO_RCVTIMEO || name == SO_SNDTIMEO)) {
        lua_createtable(L, 0, 2);
        lua_pushnumber(L, (double)option.time.tv_sec);
        lua_setfield(L, -2, "sec");
        lua_pushnumber(L, (double)option.time.tv_usec);
        lua_setfield(L, -2, "usec");
    } else if (length <= sizeof option.number) { /* some options of IP are one byte */
        lua_pushinteger(L, length == 1 ? option.bytes[0] : option.number);
    } else {
        lua_pushlstring(L, option.bytes, length);
    }
    return 1;
}

static int socket_index(lua_State *L) {
    struct listen_socket *self = check_socket(L);

    if (lua_type(L, 2) == LUA_TSTRING && strcmp(lua_tostring(L, 2), "fd") == 0) {
        lua_pushinteger(L, descriptor_of(self));
        return 1;
    }
    luaL_getmetafield(L, 1, "methods");
    lua_pushvalue(L, 2);
    lua_rawget(L, -2);
    return 1;
}

static const struct sv_lua_function socket_methods[] = {
    SV_LUA_METHOD("setOption", socket_set_option),
    SV_LUA_METHOD("getOption", socket_get_option),
    SV_LUA_END,
};

static const struct sv_lua_function socket_metamethods[] = {
    SV_LUA_METHOD("__index", socket_index),
    SV_LUA_END,
};

void sv_lua_socket_open(lua_State *L, struct sv_lua *lua) {
    luaL_newmetatable(L, sv_lua_socket_kind.name);
    sv_lua_register(L, lua, socket_metamethods);
    lua_newtable(L);
    sv_lua_register(L, lua, socket_methods);
    lua_setfield(L, -2, "methods");
    lua_pushstring(L, sv_lua_socket_kind.name);
    lua_setfield(L, -2, "__metatable");
    lua_pop(L, 1);
}

void sv_lua_push_socket(lua_State *L, int owner_index, srvlua_port *port) {
    struct listen_socket *self = lua_newuserdata(L, sizeof *self);

    self->kind = &sv_lua_socket_kind;
    self->port = port;
    luaL_getmetatable(L, sv_lua_socket_kind.name);
    lua_setmetatable(L, -2);
    sv_lua_keep_alive(L, owner_index);
}
