/* polling.c: see polling.h. */
#include "lua/polling.h"

#include <errno.h>
#include <stdlib.h>

#include "lua/coroutine.h"
#include "lua/errors.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define PERIOD_MS 1

struct waiter {
    struct sv_lua_poll poll;
    struct sv_lua_coroutine *coroutine;
    double end; /* seconds of the monotonic clock, negative: never */
};

static void leave(struct waiter *waiter) {
    if (waiter->poll.leave)
        waiter->poll.leave(waiter->poll.object);
    waiter->poll.leave = NULL;
}

static void release(void *user_data) {
    leave(user_data); /* the loop ends, and nobody resumes the coroutine */
    free(user_data);
}

static int look(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct waiter *waiter = user_data;
    lua_State *L = waiter->coroutine->L;
    bool is_wanted = !waiter->coroutine->is_abandoned; /* else it must not get what it has waited for */
    int result = is_wanted ? waiter->poll.look(waiter->poll.object) : -ECANCELED;

    if (result == -EBUSY && (waiter->end < 0 || sv_lua_now() < waiter->end))
        return 0;
    leave(waiter); /* while the object is sure to be there */
    srvlua_timer_clear(loop, timer_id);
    lua_settop(L, 0);
    return sv_lua_resume(waiter->coroutine, waiter->poll.push(L, result == -EBUSY ? -ETIMEDOUT : result));
}

double sv_lua_optional_timeout(lua_State *L, int argument, double value) {
    double timeout = lua_isnoneornil(L, argument) ? value : sv_lua_check_number(L, argument);

    if (timeout != timeout)
        sv_lua_argument_error(L, argument, "seconds expected, got nan");
    return timeout;
}

int sv_lua_poll(lua_State *L, struct sv_lua_coroutine *coroutine, const struct sv_lua_poll *poll, double timeout) {
    struct waiter *waiter = malloc(sizeof *waiter);
    int64_t id = -SRVLUA_ERROR_MALLOC_FAIL;

    if (waiter) {
        *waiter = (struct waiter){.poll = *poll, .coroutine = coroutine, .end = timeout < 0 ? -1 : sv_lua_now() + timeout};
        id = srvlua_timer_add(sv_lua_loop(coroutine->lua), PERIOD_MS, 1, look, waiter, release);
    }
    if (id < 0) {
        if (poll->leave)
            poll->leave(poll->object);
        free(waiter);
        return sv_lua_fail_code(L, (int)-id);
    }
    return sv_lua_suspend_with(L, coroutine, poll->name, 1);
}
