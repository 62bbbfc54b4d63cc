/* client.c: see client.h. */
#include "lua/client/client.h"

#include <math.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <unistd.h>

#include "lua/client/descriptor.h"
#include "lua/client/pool.h"
#include "lua/client/tcp.h"
#include "lua/client/tls.h"
#include "lua/client/udp.h"
#include "lua/errors.h"
#include "lua/values.h"

/* -------------------------------------------------------------------------------------------------- time limits */

static double seconds_setting(const struct sv_lua *lua, const char *name, double seconds) {
    struct srvlua_value value = {.type = SRVLUA_VALUE_NIL};

    if (lua->server && srvlua_get_setting(lua->server->server, name, &value) == 0 && value.type == SRVLUA_VALUE_NUMBER)
        seconds = value.number;
    return seconds;
}

int64_t sv_client_default_timeout(struct sv_client *client, enum sv_client_timeout which) {
    static const struct {
        const char *setting;
        double seconds; /* without a server */
    } defaults[] = {
        [SV_CLIENT_CONNECT] = {"socket_connect_timeout", 10},
        [SV_CLIENT_WRITE] = {"socket_write_timeout", 60},
        [SV_CLIENT_READ] = {"socket_read_timeout", 60},
    };
    const struct sv_lua *lua = client->lua;
    const srvlua_server *server = lua->server ? lua->server->server : NULL;
    int i;

    if (!client->has_timeouts || client->timeouts_of != server) {
        for (i = 0; i < SV_CLIENT_TIMEOUTS; i++)
            client->timeouts_ns[i] = (int64_t)(fmin(seconds_setting(lua, defaults[i].setting, defaults[i].seconds),
                                                    1e9) *
                                               1e9);
        client->timeouts_of = server;
        client->has_timeouts = !server || lua->is_running; /* before start() they may yet change */
    }
    return client->timeouts_ns[which];
}

int64_t sv_client_check_timeout(lua_State *L, int argument) {
    double ms = lua_isnoneornil(L, argument) ? 0 : sv_lua_check_number(L, argument);

    if (!(ms >= 0))
        sv_lua_argument_error(L, argument, "milliseconds from 0 on expected");
    return (int64_t)(ceil(fmin(ms, 1e12)) * SV_CLIENT_NS_PER_MS);
}

/* ---------------------------------------------------------------------------------------------- life of the state */

static struct sv_client *new_client(struct sv_lua *lua) {
    struct sv_client *client = calloc(1, sizeof *client);
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

    if (client && page != MAP_FAILED && madvise(page, size, MADV_WIPEONFORK) == 0) {
        client->lua = lua;
        client->is_same_process = page;
        *client->is_same_process = 1;
        return client;
    }
    if (page != MAP_FAILED)
        munmap(page, size);
    free(client);
    return NULL;
}

void sv_lua_sockets_after_fork(struct sv_lua *lua) {
    struct sv_client *client = lua->client;

    if (!client || *client->is_same_process)
        return;
    *client->is_same_process = 1;
    while (client->descriptors) {
        struct sv_descriptor *descriptor = client->descriptors;
        if (descriptor->forget)
            descriptor->forget(descriptor);
        sv_descriptor_abandon(descriptor);
    }
    sv_client_pools_free(client);
    sv_client_tls_library_free(client->tls); /* its random numbers would be the parent's too */
    client->tls = NULL;
    client->has_timeouts = false;
}

void sv_lua_sockets_close(struct sv_lua *lua) {
    struct sv_client *client = lua->client;

    if (!client)
        return;
    while (client->descriptors) /* of pools; objects were collected before this */
        sv_descriptor_abandon(client->descriptors);
    sv_client_pools_free(client);
    sv_client_tls_library_free(client->tls);
    sv_bytes_free(&client->scratch);
    while (client->input_count > 0)
        free(client->inputs[--client->input_count]);
    munmap((void *)client->is_same_process, (size_t)sysconf(_SC_PAGESIZE));
    free(client);
    lua->client = NULL;
}

/* ------------------------------------------------------------------------------------------------------ the module */

/* What the sockets of this process share; made when the first one is. */
static struct sv_client *find_client(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);

    if (!lua->client) {
        lua->client = new_client(lua);
        if (!lua->client)
            luaL_error(L, "not enough memory");
    }
    sv_client_check_process(lua->client);
    return lua->client;
}

/* socket.tcp() -> object */
static int socket_tcp(lua_State *L) {
    sv_lua_push_tcp(L, find_client(L), false);
    return 1;
}

/* socket.unix() -> object */
static int socket_unix(lua_State *L) {
    sv_lua_push_tcp(L, find_client(L), true);
    return 1;
}

/* socket.udp() -> object */
static int socket_udp(lua_State *L) {
    sv_lua_push_udp(L, find_client(L));
    return 1;
}

void sv_lua_push_socket_module(lua_State *L, struct sv_lua *lua) {
    static const struct sv_lua_function functions[] = {
        SV_LUA_FUNCTION("tcp", socket_tcp),
        SV_LUA_FUNCTION("unix", socket_unix),
        SV_LUA_FUNCTION("udp", socket_udp),
        SV_LUA_END,
    };

    if (lua->sockets_ref != LUA_NOREF) {
        lua_rawgeti(L, LUA_REGISTRYINDEX, lua->sockets_ref);
        return;
    }
    sv_lua_tcp_open(L, lua);
    sv_lua_udp_open(L, lua);
    lua_newtable(L);
    sv_lua_register(L, lua, functions);
    lua_pushvalue(L, -1);
    lua->sockets_ref = luaL_ref(L, LUA_REGISTRYINDEX);
}
