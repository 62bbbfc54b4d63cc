/* words.c: see words.h. */
#include "lua/client/words.h"

#include <ctype.h>
#include <errno.h>

static const char *const words[] = {
    [SV_CLIENT_CLOSED - SV_CLIENT_CLOSED] = "closed",
    [SV_CLIENT_HOST_NOT_FOUND - SV_CLIENT_CLOSED] = "host not found",
    [SV_CLIENT_BUSY_READING - SV_CLIENT_CLOSED] = "socket busy reading",
    [SV_CLIENT_BUSY_WRITING - SV_CLIENT_CLOSED] = "socket busy writing",
    [SV_CLIENT_BUSY_CONNECTING - SV_CLIENT_CLOSED] = "socket busy connecting",
    [SV_CLIENT_DUBIOUS - SV_CLIENT_CLOSED] = "connection in dubious state",
    [SV_CLIENT_TOO_MANY_WAITING - SV_CLIENT_CLOSED] = "too many waiting connect operations",
};

/* The C library's text in lower case. */
static void push_system_error(lua_State *L, int error) {
    const char *text = srvlua_strerror(error);
    char word[128];
    size_t i;

    for (i = 0; i < sizeof word && text[i]; i++)
        word[i] = (char)tolower((unsigned char)text[i]);
    lua_pushlstring(L, word, i);
}

int sv_client_push_failure(lua_State *L, int error, const char *text) {
    lua_pushnil(L);
    if (error == SV_CLIENT_TLS)
        lua_pushstring(L, text ? text : "handshake failed");
    else if (error >= SV_CLIENT_CLOSED)
        lua_pushstring(L, words[error - SV_CLIENT_CLOSED]);
    else if (error == ETIMEDOUT)
        lua_pushliteral(L, "timeout");
    else
        push_system_error(L, error);
    return 2;
}

int sv_client_fail(lua_State *L, int error) { return sv_client_push_failure(L, error, NULL); }
