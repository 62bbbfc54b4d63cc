/* command.c: questions to other processes; see command.h. The callbacks lie in the environment of the server, field `commands`:
 * [number] = function, for the collector is to have a server that never ran. */
#include "lua/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/serialise.h"
#include "lua/values.h"

#define WRONG_RETURN_TYPE "{\"data\":\"wrong return type\",\"code\":-2}"
#define CALL_FAILED "{\"data\":\"failed to call function\",\"code\":-1}"

/* ---------------------------------------------------------------------------------------------------------- answering */

/* A registered callback: the user_data of srvlua_add_command(). */
struct command {
    struct sv_lua *lua;
    int number;
    char what[96]; /* for messages */
};

struct call {
    const struct command *command;
    const struct srvlua_command_request *request;
};

/* Calls the callback and answers with the string that it returns. */
static int call_back(lua_State *L) {
    const struct call *call = lua_touserdata(L, 1);
    const struct sv_lua *lua = call->command->lua;
    srvlua_server *server = lua->server->server;
    const char *text = WRONG_RETURN_TYPE;
    size_t length = sizeof WRONG_RETURN_TYPE - 1;

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->server_ref);
    lua_getfenv(L, -1);
    lua_getfield(L, -1, "commands");
    lua_rawgeti(L, -1, call->command->number);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->server_ref);
    if (!sv_lua_unpack(lua, L, call->request->data, call->request->length, call->request->flags))
        return lua_error(L);
    lua_call(L, 2, 1);
    if (lua_type(L, -1) == LUA_TSTRING)
        text = lua_tolstring(L, -1, &length);
    srvlua_command_reply(server, text, length);
    return 0;
}

static int push_call(lua_State *L, void *argument) {
    lua_pushcfunction(L, call_back);
    lua_pushlightuserdata(L, argument);
    return 2;
}

/* srvlua_command_handler; user_data is a struct command. */
static void answer(srvlua_server *server, const struct srvlua_command_request *request, void *user_data) {
    struct command *command = user_data;
    struct call call = {command, request};

    if (!sv_lua_call(command->lua, command->what, push_call, &call))
        return;
    srvlua_command_reply(server, CALL_FAILED, sizeof CALL_FAILED - 1);
    srvlua_callback_failed(server);
}

int sv_lua_add_command(lua_State *L, struct sv_lua_server *self) {
    const char *name = sv_lua_check_text(L, 2);
    int types = sv_lua_check_int(L, 3);
    struct srvlua_status status;
    struct command *command;
    int result;

    sv_lua_check_callable(L, 4);
    lua_getfenv(L, 1);
    lua_getfield(L, -1, "commands");
    if (lua_isnil(L, -1)) {
        lua_newtable(L);
        lua_pushvalue(L, -1);
        lua_setfield(L, -4, "commands");
    }
    command = lua_newuserdata(L, sizeof *command);
    command->lua = self->lua;
    command->number = (int)lua_objlen(L, -2) + 1;
    snprintf(command->what, sizeof command->what, "callback of the command '%s'", name);
    result = srvlua_add_command(self->server, name, types, answer, command, &status);
    if (result < 0)
        return sv_lua_fail(L, &status);
    lua_pushvalue(L, 4);
    lua_rawseti(L, -3, command->number);
    lua_setfield(L, -2, name); /* kept from the collector */
    lua_pushboolean(L, 1);
    return 1;
}

/* ------------------------------------------------------------------------------------------------------------- asking */

struct waiter {
    struct sv_lua_coroutine *coroutine;
    bool decodes;
    bool is_suspended; /* the coroutine is: srvlua_command() has returned */
    int count;         /* values that are the answer, on the coroutine's stack; 0: none has come yet */
};

/* Pushes srvlua.json's decode; raises if that cannot be loaded. */
static void push_decoder(lua_State *L) {
    lua_getglobal(L, "require");
    lua_pushliteral(L, "srvlua.json");
    lua_call(L, 1, 1);
    lua_getfield(L, -1, "decode");
    lua_remove(L, -2);
}

/* text -> value | false, message, code */
static int decode(lua_State *L) {
    push_decoder(L);
    lua_insert(L, 1);
    lua_call(L, 1, LUA_MULTRET);
    return lua_gettop(L);
}

/* Pushes what the text of an answer stands for; returns how many values that is. */
static int push_decoded(lua_State *L, srvlua_server *server, const char *text, size_t length) {
    int top = lua_gettop(L);

    lua_pushcfunction(L, decode);
    lua_pushlstring(L, text, length);
    if (lua_pcall(L, 1, LUA_MULTRET, 0) != 0) {
        lua_pushboolean(L, 0);
        lua_insert(L, -2);
        lua_pushinteger(L, SRVLUA_ERROR_INVALID_PARAMS);
    }
    if (lua_gettop(L) - top > 1)
        srvlua_fail(server, NULL, (int)lua_tointeger(L, -1), "%s", lua_tostring(L, -2));
    return lua_gettop(L) - top;
}

/* Pushes what server:command returns; `L` is a thread that may run, or runs. */
static int push_answer(lua_State *L, srvlua_server *server, const struct waiter *waiter, int code, const char *data, size_t length) {
    struct srvlua_status status;

    lua_checkstack(L, LUA_MINSTACK);
    if (code) {
        srvlua_fail(server, &status, code, "%s", srvlua_strerror(code));
        return sv_lua_fail(L, &status);
    }
    if (waiter->decodes)
        return push_decoded(L, server, data, length);
    lua_pushlstring(L, data, length);
    return 1;
}

/* srvlua_command_callback */
static int on_answer(srvlua_server *server, int code, const void *data, size_t length, void *user_data) {
    struct waiter *waiter = user_data;
    struct sv_lua_coroutine *coroutine = waiter->coroutine;
    struct sv_lua *lua = coroutine->lua;
    int count;

    if (!waiter->is_suspended) {
        waiter->count = push_answer(coroutine->L, server, waiter, code, data, length);
        return 0;
    }
    count = push_answer(lua->L, server, waiter, code, data, length);
    free(waiter);
    lua_xmove(lua->L, coroutine->L, count);
    return sv_lua_resume(coroutine, count);
}

/* Elsewhere the code is 509, coroutine or not. */
static bool may_ask(const struct sv_lua_server *self) {
    if (srvlua_get_mode(self->server) == SRVLUA_PROCESS)
        return srvlua_get_role(self->server) == SRVLUA_ROLE_MASTER;
    return srvlua_get_worker_id(self->server) == 0;
}

int sv_lua_command(lua_State *L, struct sv_lua_server *self) {
    const char *name = sv_lua_check_text(L, 2);
    int64_t process_id = sv_lua_check_integer(L, 3);
    int process_type = sv_lua_check_int(L, 4);
    bool decodes = sv_lua_optional_boolean(L, 6, true);
    struct srvlua_command_request request = {.name = name};
    struct srvlua_status status;
    struct sv_lua_coroutine *coroutine;
    struct waiter *waiter;
    int result;

    request.data = sv_lua_pack(L, 5, &request.length, &request.flags);
    coroutine = may_ask(self) ? sv_lua_suspendable(L) : NULL;
    if (!coroutine && may_ask(self))
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_CO_OUT_OF_COROUTINE, "'command' waits: it needs a coroutine");
    if (decodes) {
        push_decoder(L);
        lua_pop(L, 1);
    }
    waiter = malloc(sizeof *waiter);
    if (!waiter)
        return sv_lua_fail_server(L, self, SRVLUA_ERROR_MALLOC_FAIL, "not enough memory");
    *waiter = (struct waiter){.coroutine = coroutine, .decodes = decodes};
    result = srvlua_command(self->server, &request, process_id, process_type, on_answer, waiter, &status);
    if (result >= 0 && !waiter->count) {
        waiter->is_suspended = true;
        return sv_lua_suspend(L, coroutine, "command");
    }
    result = result < 0 ? sv_lua_fail(L, &status) : waiter->count;
    free(waiter);
    return result;
}
