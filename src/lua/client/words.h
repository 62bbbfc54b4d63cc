/* words.h: the error words of client sockets (runtime.md 6.6).
 *
 * What fails in here returns an errno value or one of these, negated; Lua gets `nil, word`. */
#ifndef SV_LUA_CLIENT_WORDS_H
#define SV_LUA_CLIENT_WORDS_H

#include "lua/binding.h"

enum sv_client_error { /* beside errno values */
                       SV_CLIENT_CLOSED = 10000,
                       SV_CLIENT_HOST_NOT_FOUND,
                       SV_CLIENT_BUSY_READING,
                       SV_CLIENT_BUSY_WRITING,
                       SV_CLIENT_BUSY_CONNECTING,
                       SV_CLIENT_DUBIOUS,
                       SV_CLIENT_TOO_MANY_WAITING,
                       SV_CLIENT_TLS /* the connection's TLS has the text */
};

/* Pushes nil and the word of `error` (positive); `text`: of SV_CLIENT_TLS. Returns 2. */
int sv_client_push_failure(lua_State *L, int error, const char *text);
/* `return sv_client_fail(L, error);` for all but SV_CLIENT_TLS. */
int sv_client_fail(lua_State *L, int error);

#endif
