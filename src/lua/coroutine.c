/* coroutine.c: pooled coroutines, plain calls, suspending, srvlua.sleep; see coroutine.h. */
#include "lua/coroutine.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "lua/errors.h"
#include "lua/thread.h"
#include "lua/values.h"
#include "lua/waiting.h"

#define IDLE_MAX 1024  /* threads kept for later; each is about 1 KiB */
#define BUCKETS_MIN 64 /* power of two */
#define STACKS_MAX 10  /* shown of coroutines that are left behind */

void sv_lua_coroutine_open(lua_State *L, struct sv_lua *lua) {
    lua_pushcfunction(L, sv_lua_describe_error);
    lua->describe_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(L, "pcall");
    lua->pcall_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua_getglobal(L, "xpcall");
    lua->xpcall_ref = luaL_ref(L, LUA_REGISTRYINDEX);
    lua->by_id = calloc(BUCKETS_MIN, sizeof(struct sv_lua_coroutine *));
    if (!lua->by_id)
        luaL_error(L, "not enough memory");
    lua->bucket_count = BUCKETS_MIN;
}

static void free_list(struct sv_lua_coroutine *coroutine) {
    while (coroutine) {
        struct sv_lua_coroutine *next = coroutine->next;
        free(coroutine);
        coroutine = next;
    }
}

void sv_lua_coroutine_close(struct sv_lua *lua) {
    int64_t i;

    for (i = 0; i < lua->bucket_count; i++)
        free_list(lua->by_id[i]);
    free(lua->by_id);
    lua->by_id = NULL;
    lua->bucket_count = 0;
    free_list(lua->idle);
    free_list(lua->abandoned);
    lua->idle = lua->abandoned = NULL;
    lua->idle_count = 0;
}

/* The server that this process belongs to, or NULL. */
static srvlua_server *running_server(const struct sv_lua *lua) {
    return lua->is_running && !lua->own_loop ? lua->server->server : NULL;
}

srvlua_loop *sv_lua_loop(const struct sv_lua *lua) {
    if (lua->own_loop)
        return lua->own_loop;
    return lua->server ? srvlua_get_loop(lua->server->server) : NULL;
}

void sv_lua_log(const struct sv_lua *lua, enum srvlua_log_level level, const char *format, ...) {
    char short_text[512], *text = short_text;
    va_list arguments;
    int length;

    va_start(arguments, format);
    length = vsnprintf(short_text, sizeof short_text, format, arguments);
    va_end(arguments);
    if (length >= (int)sizeof short_text && (text = malloc((size_t)length + 1))) {
        va_start(arguments, format);
        vsnprintf(text, (size_t)length + 1, format, arguments);
        va_end(arguments);
    }
    if (!text)
        text = short_text;
    if (lua->server)
        srvlua_log(lua->server->server, level, "%s", text);
    else
        fprintf(stderr, "%s\n", text);
    if (text != short_text)
        free(text);
}

/* ------------------------------------------------------------------------------------------------------- the pool */

static int make_thread(lua_State *L) {
    struct sv_lua_coroutine *coroutine = lua_touserdata(L, 1);

    coroutine->thread = lua_newthread(L);
    coroutine->ref = luaL_ref(L, LUA_REGISTRYINDEX);
    return 0;
}

static struct sv_lua_coroutine **bucket_of(const struct sv_lua *lua, int64_t id) {
    return &lua->by_id[id & (lua->bucket_count - 1)];
}

/* Without memory the buckets only stay crowded. */
static void grow_buckets(struct sv_lua *lua) {
    int64_t i, old_count = lua->bucket_count;
    struct sv_lua_coroutine **old = lua->by_id,
                            **buckets = calloc((size_t)old_count * 2, sizeof(struct sv_lua_coroutine *));

    if (!buckets)
        return;
    lua->by_id = buckets;
    lua->bucket_count = old_count * 2;
    for (i = 0; i < old_count; i++) {
        while (old[i]) {
            struct sv_lua_coroutine *coroutine = old[i], **bucket = bucket_of(lua, coroutine->id);
            old[i] = coroutine->next;
            coroutine->next = *bucket;
            *bucket = coroutine;
        }
    }
    free(old);
}

/* Those that run are found by the chain of what runs: most callbacks never suspend, and this costs 10 ns (measured). */
static void list_coroutine(struct sv_lua_coroutine *coroutine) {
    struct sv_lua *lua = coroutine->lua;
    struct sv_lua_coroutine **bucket;

    if (++lua->listed_count > lua->bucket_count)
        grow_buckets(lua);
    bucket = bucket_of(lua, coroutine->id);
    coroutine->next = *bucket;
    *bucket = coroutine;
    coroutine->is_listed = true;
}

static void unlist_coroutine(struct sv_lua_coroutine *coroutine) {
    struct sv_lua_coroutine **link = bucket_of(coroutine->lua, coroutine->id);

    while (*link != coroutine)
        link = &(*link)->next;
    *link = coroutine->next;
    coroutine->lua->listed_count--;
    coroutine->is_listed = false;
}

static struct sv_lua_coroutine *find_running(const struct sv_lua *lua, int64_t id) {
    const struct sv_lua_running *running = lua->running;

    while (running && !(running->coroutine && running->coroutine->id == id))
        running = running->outer;
    return running ? running->coroutine : NULL;
}

struct sv_lua_coroutine *sv_lua_find_coroutine(const struct sv_lua *lua, int64_t id) {
    struct sv_lua_coroutine *coroutine = *bucket_of(lua, id);

    while (coroutine && coroutine->id != id)
        coroutine = coroutine->next;
    return coroutine ? coroutine : find_running(lua, id);
}

static struct sv_lua_coroutine *make_coroutine(struct sv_lua *lua) {
    struct sv_lua_coroutine *coroutine = calloc(1, sizeof *coroutine);

    if (!coroutine)
        return NULL;
    if (lua_cpcall(lua->L, make_thread, coroutine) != 0) {
        lua_pop(lua->L, 1);
        free(coroutine);
        return NULL;
    }
    coroutine->lua = lua;
    coroutine->context_ref = LUA_NOREF;
    coroutine->innermost = &coroutine->own;
    coroutine->own.L = coroutine->L = coroutine->thread;
    coroutine->own.coroutine = coroutine;
    return coroutine;
}

struct sv_lua_coroutine *sv_lua_new_coroutine(struct sv_lua *lua, const char *what) {
    struct sv_lua_coroutine *coroutine = lua->idle;
    srvlua_server *server = running_server(lua);

    if (coroutine) {
        lua->idle = coroutine->next;
        lua->idle_count--;
    } else {
        coroutine = make_coroutine(lua);
        if (!coroutine)
            return NULL;
    }
    coroutine->id = ++lua->last_coroutine_id;
    coroutine->parent = -1;
    coroutine->what = coroutine->own.what = what;
    coroutine->waits_in = NULL;
    coroutine->request = -1;
    coroutine->has_suspended = coroutine->is_main = false;
    coroutine->origin_line = 0;
    if (++lua->live_count > lua->peak_count)
        lua->peak_count = lua->live_count;
    if (server)
        srvlua_count_coroutines(server, 1);
    return coroutine;
}

static void drop_coroutine(struct sv_lua_coroutine *coroutine) {
    luaL_unref(coroutine->lua->L, LUA_REGISTRYINDEX, coroutine->ref);
    free(coroutine);
}

/* It lives no longer. */
static void uncount_coroutine(struct sv_lua_coroutine *coroutine) {
    struct sv_lua *lua = coroutine->lua;
    srvlua_server *server = running_server(lua);

    if (coroutine->is_listed)
        unlist_coroutine(coroutine);
    lua->live_count--;
    if (server) {
        srvlua_count_coroutines(server, -1);
        srvlua_end_request(server, coroutine->request);
    }
    if (coroutine->context_ref != LUA_NOREF) {
        luaL_unref(lua->L, LUA_REGISTRYINDEX, coroutine->context_ref);
        coroutine->context_ref = LUA_NOREF;
    }
}

/* One whose function has ended goes back to the pool, one that failed is dropped. */
static void leave_coroutine(struct sv_lua_coroutine *coroutine, bool is_sound) {
    struct sv_lua *lua = coroutine->lua;

    uncount_coroutine(coroutine);
    if (!is_sound || lua->idle_count >= IDLE_MAX) {
        drop_coroutine(coroutine);
        return;
    }
    lua_settop(coroutine->thread, 0);
    coroutine->next = lua->idle;
    lua->idle = coroutine;
    lua->idle_count++;
}

bool sv_lua_is_full(struct sv_lua *lua, const char *what) {
    struct timespec now;

    if (lua->live_count < lua->max_coroutine)
        return false;
    clock_gettime(CLOCK_MONOTONIC, &now);
    if (now.tv_sec != lua->refused_at) {
        lua->refused_at = now.tv_sec;
        sv_lua_log(lua, SRVLUA_LOG_WARNING, "%s refused: max_coroutine (%d) is reached", what, lua->max_coroutine);
    }
    return true;
}

void sv_lua_forget_coroutines(struct sv_lua *lua) {
    sv_lua_abandon_coroutines(lua, NULL);
    lua->current = NULL;
    lua->running = NULL;
    lua->depth = 0;
    lua->peak_count = 0;
    lua->last_coroutine_id = 0;
}

/* --------------------------------------------------------------------------------------------------------- errors */

/* Logs the error value on the top of lua->L, which is text by now or could not be made text; takes it away. */
static void log_error(struct sv_lua *lua, const char *what, const struct sv_lua_coroutine *started) {
    const char *text = lua_tostring(lua->L, -1);

    lua->error_count++;
    if (!text)
        text = "(no message)";
    if (!started || !started->origin_line)
        sv_lua_log(lua, SRVLUA_LOG_ERROR, "uncaught error in %s: %s", what, text);
    else if (started->parent < 0)
        sv_lua_log(lua, SRVLUA_LOG_ERROR, "uncaught error in %s: %s\n\tstarted at %s:%d", what, text, started->origin,
                   started->origin_line);
    else
        sv_lua_log(lua, SRVLUA_LOG_ERROR, "uncaught error in %s: %s\n\tstarted in coroutine %lld at %s:%d", what, text,
                   (long long)started->parent, started->origin, started->origin_line);
    lua_pop(lua->L, 1);
}

/* Logs the error that ended a coroutine, with the stack that it had there. */
static void log_coroutine_error(struct sv_lua_coroutine *coroutine) {
    struct sv_lua *lua = coroutine->lua;

    lua_checkstack(lua->L, 4);
    lua_rawgeti(lua->L, LUA_REGISTRYINDEX, lua->describe_ref);
    lua_xmove(coroutine->thread, lua->L, 1);
    lua_rawgeti(lua->L, LUA_REGISTRYINDEX, coroutine->ref);
    lua_pcall(lua->L, 2, 1, 0); /* text, or what went wrong with it */
    log_error(lua, coroutine->what, coroutine);
}

/* For who began it and will raise it again. */
static void keep_error(struct sv_lua_coroutine *coroutine) {
    struct sv_lua *lua = coroutine->lua;

    lua_xmove(coroutine->thread, lua->L, 1);
    lua->main_error_ref = luaL_ref(lua->L, LUA_REGISTRYINDEX);
}

void sv_lua_count_failure(const struct sv_lua *lua) {
    srvlua_server *server = running_server(lua);

    if (server)
        srvlua_callback_failed(server);
}

/* -------------------------------------------------------------------------------------------------------- running */

/* After coroutine.yield outside of the program's own coroutines: what it yields goes to who resumed it, `to`, or
 * nowhere. */
static int take_yielded(struct sv_lua_coroutine *coroutine, lua_State *to) {
    int count = lua_gettop(coroutine->thread);

    if (!to || !lua_checkstack(to, count + 1))
        count = 0;
    else
        lua_xmove(coroutine->thread, to, count);
    lua_settop(coroutine->thread, 0);
    lua_pushlightuserdata(coroutine->thread, coroutine);
    return count;
}

/* Runs it until it ends, suspends or fails. `to`: who gets what it returns or yields, or its error; NULL: nobody.
 * Returns the number of these values, or -1 after an error. */
static int run(struct sv_lua_coroutine *coroutine, int count, lua_State *to) {
    struct sv_lua *lua = coroutine->lua;
    struct sv_lua_coroutine *previous = lua->current;
    int status;

    coroutine->own.outer = lua->running;
    coroutine->own.depth = lua->running ? lua->running->depth : 0;
    coroutine->waits_in = NULL;
    lua->current = coroutine;
    lua->running = coroutine->innermost;
    lua->depth++;
    status = lua_resume(coroutine->L, count);
    if (coroutine->innermost != &coroutine->own)
        status = sv_lua_thread_return(coroutine, status);
    lua->depth--;
    lua->running = coroutine->own.outer;
    lua->current = previous;
    count = 0;
    if (status == 0) {
        if (to && lua_checkstack(to, lua_gettop(coroutine->thread) + 1)) {
            count = lua_gettop(coroutine->thread);
            lua_xmove(coroutine->thread, to, count);
        }
        leave_coroutine(coroutine, true);
        return count;
    }
    if (status == LUA_YIELD) {
        srvlua_server *server = running_server(lua);
        if (!coroutine->waits_in)
            count = take_yielded(coroutine, to);
        if (!coroutine->is_listed)
            list_coroutine(coroutine);
        if (!coroutine->has_suspended && server)
            coroutine->request = srvlua_suspend_request(server);
        coroutine->has_suspended = true;
        return count;
    }
    if (to) {
        lua_pushvalue(coroutine->thread, -1);
        lua_xmove(coroutine->thread, to, 1);
    }
    if (coroutine->is_main)
        keep_error(coroutine);
    else
        log_coroutine_error(coroutine);
    leave_coroutine(coroutine, false);
    return -1;
}

/* What a killed one has waited for has come. */
static void bury(struct sv_lua_coroutine *coroutine) {
    struct sv_lua_coroutine **link = &coroutine->lua->abandoned;

    while (*link != coroutine)
        link = &(*link)->next;
    *link = coroutine->next;
    while (coroutine->innermost != &coroutine->own) {
        struct sv_lua_running *record = coroutine->innermost;
        coroutine->innermost = record->outer;
        free(record);
    }
    drop_coroutine(coroutine);
}

bool sv_lua_kill_coroutine(struct sv_lua_coroutine *coroutine) {
    struct sv_lua *lua = coroutine->lua;
    bool is_awaited = coroutine->ticket == 0; /* else nothing but unpark() would come, which looks for the ticket */

    if (!coroutine->waits_in)
        return false;
    if (coroutine->timer)
        srvlua_timer_clear(sv_lua_loop(lua), coroutine->timer);
    coroutine->ticket = coroutine->timer = 0;
    uncount_coroutine(coroutine);
    coroutine->is_abandoned = coroutine->is_killed = true;
    coroutine->next = lua->abandoned;
    lua->abandoned = coroutine;
    if (!is_awaited)
        bury(coroutine);
    return true;
}

int sv_lua_resume(struct sv_lua_coroutine *coroutine, int count) {
    if (coroutine->is_killed)
        bury(coroutine);
    else if (!coroutine->is_abandoned)
        return run(coroutine, count, NULL) < 0;
    return 0;
}

int sv_lua_resume_for(struct sv_lua_coroutine *coroutine, int count, lua_State *L) {
    struct sv_lua *lua = coroutine->lua;

    if (coroutine->is_abandoned) {
        lua_pushliteral(L, "cannot resume dead coroutine");
        return -1;
    }
    count = run(coroutine, count, L);
    if (count < 0)
        sv_lua_count_failure(lua);
    return count;
}

int sv_lua_run(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument) {
    struct sv_lua_coroutine *coroutine = sv_lua_new_coroutine(lua, what);
    int count;

    if (!coroutine) {
        sv_lua_log(lua, SRVLUA_LOG_ERROR, "uncaught error in %s: not enough memory", what);
        return 1;
    }
    count = push(lua->L, argument); /* not there: a thread that does not run cannot be told that memory is short */
    if (count > LUA_MINSTACK)
        lua_checkstack(coroutine->thread, count);
    lua_xmove(lua->L, coroutine->thread, count);
    return run(coroutine, count - 1, NULL) < 0;
}

int sv_lua_call(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument) {
    lua_State *L = lua->L;
    struct sv_lua_running here = {
        .L = L, .what = what, .outer = lua->running, .depth = lua->running ? lua->running->depth : 0};
    struct sv_lua_coroutine *previous = lua->current;
    int handler, status;

    lua_checkstack(L, LUA_MINSTACK);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->describe_ref);
    handler = lua_gettop(L);
    lua->current = NULL;
    lua->running = &here;
    lua->depth++;
    status = lua_pcall(L, push(L, argument) - 1, 0, handler);
    lua->depth--;
    lua->running = here.outer;
    lua->current = previous;
    if (status != 0)
        log_error(lua, what, NULL);
    lua_pop(L, 1);
    return status != 0;
}

int sv_lua_start(struct sv_lua *lua, const char *what, sv_lua_push push, void *argument) {
    return lua->uses_coroutines ? sv_lua_run(lua, what, push, argument) : sv_lua_call(lua, what, push, argument);
}

/* ----------------------------------------------------------------------------------------------------- suspending */

/* Pushes the name of the function on the top of the stack, as a program would write it; takes the function away. */
static void push_function_name(lua_State *L, const char *name_of_call) {
    int function = lua_gettop(L);

    lua_getfield(L, LUA_REGISTRYINDEX, "_LOADED");
    for (lua_pushnil(L); lua_istable(L, -2) && lua_next(L, -2); lua_pop(L, 1)) {
        if (!lua_istable(L, -1) || lua_type(L, -2) != LUA_TSTRING)
            continue;
        for (lua_pushnil(L); lua_next(L, -2); lua_pop(L, 1)) {
            if (lua_type(L, -2) != LUA_TSTRING || !lua_rawequal(L, -1, function))
                continue;
            if (strcmp(lua_tostring(L, -4), "_G") == 0)
                lua_pushvalue(L, -2);
            else
                lua_pushfstring(L, "%s.%s", lua_tostring(L, -4), lua_tostring(L, -2));
            lua_replace(L, function);
            lua_settop(L, function);
            return;
        }
    }
    lua_settop(L, function - 1);
    lua_pushstring(L, name_of_call ? name_of_call : "a C function");
}

/* Raises, naming the C function that calls Lua below the running one of `thread`; pcall and xpcall are none that
 * hinder. */
static void raise_cannot_suspend(lua_State *L, struct sv_lua *lua, lua_State *thread) {
    lua_Debug frame;
    int level;

    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->pcall_ref);
    lua_rawgeti(L, LUA_REGISTRYINDEX, lua->xpcall_ref);
    for (level = 1; lua_getstack(thread, level, &frame); level++) {
        lua_getinfo(thread, "Snf", &frame);
        lua_xmove(thread, L, 1);
        if (strcmp(frame.what, "C") == 0 && !lua_rawequal(L, -1, -2) && !lua_rawequal(L, -1, -3)) {
            push_function_name(L, frame.name);
            luaL_error(L, "cannot suspend here: inside %s", lua_tostring(L, -1));
        }
        lua_pop(L, 1);
    }
    luaL_error(L, "cannot suspend here: inside a C function");
}

/* The coroutine of ours that L belongs to, or NULL. *blocked: the innermost of its threads that cannot yield, or NULL. */
static struct sv_lua_coroutine *find_coroutine(const struct sv_lua *lua, lua_State *L, lua_State **blocked) {
    const struct sv_lua_running *running = lua->running;

    *blocked = NULL;
    if (!running || running->L != L)
        return NULL; /* resumed by a function that we did not replace */
    for (;; running = running->outer) {
        if (!*blocked && lua_status(running->L) != LUA_YIELD && !lua_isyieldable(running->L))
            *blocked = running->L; /* those that have yielded wait in coroutine.resume, as part of the chain already */
        if (running->what)
            return running->coroutine;
        if (!running->outer || running->outer->L != running->resumer)
            return NULL;
    }
}

struct sv_lua_coroutine *sv_lua_suspendable(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    lua_State *blocked;
    struct sv_lua_coroutine *coroutine = find_coroutine(lua, L, &blocked);

    if (!coroutine || !sv_lua_loop(lua))
        return NULL;
    if (blocked)
        raise_cannot_suspend(L, lua, blocked);
    return coroutine;
}

struct sv_lua_coroutine *sv_lua_suspendable_if_free(lua_State *L) {
    struct sv_lua *lua = sv_lua_of(L);
    lua_State *blocked;
    struct sv_lua_coroutine *coroutine = find_coroutine(lua, L, &blocked);

    return blocked || !sv_lua_loop(lua) ? NULL : coroutine;
}

int sv_lua_suspend_with(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in, int count) {
    coroutine->waits_in = waits_in;
    coroutine->L = L;
    coroutine->innermost = coroutine->lua->running;
    lua_settop(L, count);
    lua_pushlightuserdata(L, coroutine);
    return lua_yield(L, count + 1);
}

int sv_lua_suspend(lua_State *L, struct sv_lua_coroutine *coroutine, const char *waits_in) {
    return sv_lua_suspend_with(L, coroutine, waits_in, 0);
}

/* ------------------------------------------------------------------------------------------------- what is suspended */

void sv_lua_push_stack(lua_State *L, const struct sv_lua_coroutine *coroutine) {
    const struct sv_lua_running *running = coroutine->innermost;

    for (;; running = running->outer) {
        luaL_traceback(L, running->L, NULL, 0); /* "stack traceback:" and lines */
        luaL_gsub(L, lua_tostring(L, -1), "stack traceback:\n", "");
        lua_remove(L, -2);
        lua_concat(L, 2);
        if (running == &coroutine->own)
            return;
        lua_pushliteral(L, "\n\t(resumed by)\n");
        lua_concat(L, 2);
    }
}

static int by_value(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;

    return (a > b) - (a < b);
}

void sv_lua_list_coroutines(const struct sv_lua *lua, int64_t *ids) {
    const struct sv_lua_coroutine *coroutine;
    const struct sv_lua_running *running;
    int64_t i, count = 0;

    for (i = 0; i < lua->bucket_count; i++)
        for (coroutine = lua->by_id[i]; coroutine; coroutine = coroutine->next)
            ids[count++] = coroutine->id;
    for (running = lua->running; running; running = running->outer)
        if (running->coroutine && !running->coroutine->is_listed)
            ids[count++] = running->coroutine->id;
    qsort(ids, (size_t)count, sizeof *ids, by_value);
}

int sv_lua_start_later(struct sv_lua_coroutine *coroutine, srvlua_timer_callback start) {
    int result = srvlua_defer(sv_lua_loop(coroutine->lua), start, coroutine);

    if (result == 0)
        list_coroutine(coroutine);
    return result;
}

/* (binding, what ends): logs the warning. */
static int describe_suspended(lua_State *L) {
    struct sv_lua *lua = lua_touserdata(L, 1);
    int64_t *ids = lua_newuserdata(L, (size_t)lua->live_count * sizeof *ids);
    int i;

    sv_lua_list_coroutines(lua, ids);
    lua_pushliteral(L, "");
    for (i = 0; i < lua->live_count && i < STACKS_MAX; i++) {
        const struct sv_lua_coroutine *coroutine = sv_lua_find_coroutine(lua, ids[i]);
        lua_pushfstring(L, "\n\tcoroutine %f waits in %s\n", (double)ids[i],
                        coroutine->waits_in ? coroutine->waits_in : "coroutine.yield");
        lua_concat(L, 2);
        sv_lua_push_stack(L, coroutine);
    }
    if (lua->live_count > STACKS_MAX) {
        lua_pushfstring(L, "\n\tand %d more", lua->live_count - STACKS_MAX);
        lua_concat(L, 2);
    }
    sv_lua_log(lua, SRVLUA_LOG_WARNING,
               "%s ends while coroutines (%d) are suspended, which nothing can resume any more:%s",
               (const char *)lua_touserdata(L, 2), lua->live_count, lua_tostring(L, -1));
    return 0;
}

/* sv_lua_push for describe_suspended(). */
struct warning {
    struct sv_lua *lua;
    const char *what;
};

static int push_warning(lua_State *L, void *argument) {
    const struct warning *warning = argument;

    lua_pushcfunction(L, describe_suspended);
    lua_pushlightuserdata(L, warning->lua);
    lua_pushlightuserdata(L, (void *)warning->what);
    return 3;
}

void sv_lua_abandon_coroutines(struct sv_lua *lua, const char *warn_of) {
    struct warning warning = {lua, warn_of};
    int64_t i;

    if (warn_of && lua->live_count > 0)
        sv_lua_call(lua, warn_of, push_warning, &warning);
    for (i = 0; i < lua->bucket_count; i++) {
        while (lua->by_id[i]) {
            struct sv_lua_coroutine *coroutine = lua->by_id[i];
            lua->by_id[i] = coroutine->next;
            coroutine->next = lua->abandoned;
            coroutine->is_abandoned = true;
            coroutine->is_listed = false;
            lua->abandoned = coroutine;
        }
    }
    lua->live_count = 0;
    lua->listed_count = 0;
}

/* ------------------------------------------------------------------------------------------------------------ sleep */

static int wake_sleeper(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_lua_coroutine *coroutine = user_data;

    (void)loop;
    (void)timer_id;
    lua_pushboolean(coroutine->L, 1);
    return sv_lua_resume(coroutine, 1);
}

int sv_lua_sleep(lua_State *L) {
    double seconds = sv_lua_check_number(L, 1);
    struct sv_lua *lua = sv_lua_of(L);
    struct sv_lua_coroutine *coroutine;
    srvlua_loop *loop;
    int64_t result;

    if (!(seconds >= 0 && isfinite(seconds)))
        return sv_lua_argument_error(L, 1, "seconds from 0 on expected");
    if (seconds > 1e9)
        seconds = 1e9; /* 31 years: what the clock functions take everywhere */
    coroutine = sv_lua_suspendable(L);
    if (!coroutine) {
        sv_lua_block(lua, -1, 0, seconds);
        lua_pushboolean(L, 1);
        return 1;
    }
    loop = sv_lua_loop(lua);
    if (seconds > 0)
        result = srvlua_timer_add(loop, (int64_t)ceil(seconds * 1000), 0, wake_sleeper, coroutine, NULL);
    else
        result = srvlua_defer(loop, wake_sleeper, coroutine);
    if (result < 0)
        return sv_lua_fail_code(L, (int)-result);
    return sv_lua_suspend(L, coroutine, "sleep");
}
