/* polling.h: coroutines that wait for another process by looking every millisecond, while their own process goes on.
 *
 * runs in: every process that has a loop. */
#ifndef SV_LUA_POLLING_H
#define SV_LUA_POLLING_H

#include "lua/binding.h"

struct sv_lua_coroutine;

/* What a coroutine waits for. Its object is the self of the function that waits, and stays alive meanwhile. */
struct sv_lua_poll {
    const char *name;                             /* of the function that waits */
    void *object;
    int (*look)(void *object);                    /* -EBUSY: not yet; else what to return */
    void (*leave)(void *object);                  /* the waiting has ended, one way or another; may be NULL */
    int (*push)(lua_State *L, int result);        /* pushes what the function returns and counts it; -ETIMEDOUT: in vain */
};

/* Argument `argument` as seconds: negative = for ever. */
double sv_lua_optional_timeout(lua_State *L, int argument, double value);
/* Ends a Lua function by waiting: `return sv_lua_poll(L, coroutine, &poll, timeout);` The object is at index 1. */
int sv_lua_poll(lua_State *L, struct sv_lua_coroutine *coroutine, const struct sv_lua_poll *poll, double timeout);

#endif
