/* descriptor.c: see descriptor.h. */
#include "lua/client/descriptor.h"

#include <errno.h>
#include <stdlib.h>
#include <time.h>
#include <unistd.h>

#include "lua/client/client.h"
#include "lua/client/words.h"
#include "lua/waiting.h"

#define LATEST_MS INT64_C(1000000000000)

int64_t sv_client_now_ns(void) {
    struct timespec time;

    clock_gettime(CLOCK_MONOTONIC, &time);
    return (int64_t)time.tv_sec * 1000000000 + time.tv_nsec;
}

/* -------------------------------------------------------------------------------------------------------- the alarm */

/* A timer has its own memory, for the loop lets go of it only after its callback, which may end the descriptor. */
struct sv_alarm {
    struct sv_descriptor *descriptor; /* NULL: no longer wanted */
    srvlua_loop *loop;
    int64_t id, due_ns;
};

static void release_alarm(void *user_data) {
    struct sv_alarm *alarm = user_data;

    if (alarm->descriptor)
        alarm->descriptor->alarm = NULL; /* the loop has ended */
    free(alarm);
}

static void clear_alarm(struct sv_descriptor *descriptor) {
    struct sv_alarm *alarm = descriptor->alarm;

    if (!alarm)
        return;
    descriptor->alarm = NULL;
    alarm->descriptor = NULL;
    srvlua_timer_clear(alarm->loop, alarm->id);
}

static int settle(struct sv_descriptor *descriptor, int events);

static int ring(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct sv_alarm *alarm = user_data;
    struct sv_descriptor *descriptor = alarm->descriptor;

    (void)loop;
    (void)timer_id;
    if (!descriptor)
        return 0;
    descriptor->alarm = NULL;
    alarm->descriptor = NULL;
    return settle(descriptor, 0);
}

/* Sees to it that the alarm rings at that time (0: never) or before. What waits without a descriptor, for a name or its turn, has
 * no watch to keep a program's own loop going: its alarm does. 0 or -errno. */
static int set_alarm(struct sv_descriptor *descriptor, int64_t due_ns) {
    const struct sv_lua *lua = descriptor->client->lua;
    bool is_counted = lua->own_loop && descriptor->fd < 0;
    struct sv_alarm *alarm;
    int64_t ms = LATEST_MS;

    if (due_ns == 0 && !is_counted)
        return 0;
    if (descriptor->alarm && (due_ns == 0 || descriptor->alarm->due_ns <= due_ns))
        return 0;
    if (due_ns)
        ms = (due_ns - sv_client_now_ns() + SV_CLIENT_NS_PER_MS - 1) / SV_CLIENT_NS_PER_MS;
    clear_alarm(descriptor);
    alarm = malloc(sizeof *alarm);
    if (!alarm)
        return -ENOMEM;
    *alarm = (struct sv_alarm){.loop = sv_lua_loop(lua), .due_ns = due_ns ? due_ns : INT64_MAX};
    alarm->id = (is_counted ? srvlua_timer_add : srvlua_timer_add_background)(alarm->loop, ms > 1 ? ms : 1, 0, ring,
                                                                              alarm, release_alarm);
    if (alarm->id < 0) {
        free(alarm);
        return -ENOMEM;
    }
    alarm->descriptor = descriptor;
    descriptor->alarm = alarm;
    return 0;
}

/* -------------------------------------------------------------------------------------------------------- the watch */

static int on_ready(srvlua_loop *loop, int fd, int events, void *user_data) {
    struct sv_descriptor *descriptor = user_data;

    (void)loop;
    (void)fd;
    if (events & SRVLUA_READABLE)
        descriptor->is_drained = false;
    return settle(descriptor, events);
}

/* An open socket keeps a server's process from leaving, unless it rests. A program's own loop ends when nothing can happen any
 * more: there it counts only while somebody waits for it. */
static void count_watch(struct sv_descriptor *descriptor) {
    bool is_waited_for = descriptor->reading || descriptor->writing;
    bool is_counted = !descriptor->on_idle && (is_waited_for || !descriptor->client->lua->own_loop);

    if (descriptor->watch)
        srvlua_watch_set_background(descriptor->watch, !is_counted);
}

/* The watch, if this process has a loop; made anew when another loop has come. */
static srvlua_watch *find_watch(struct sv_descriptor *descriptor) {
    srvlua_loop *loop;

    if (descriptor->watch && srvlua_watch_get(descriptor->watch) >= 0)
        return descriptor->watch;
    srvlua_watch_free(descriptor->watch);
    loop = sv_lua_loop(descriptor->client->lua);
    descriptor->watch = loop ? srvlua_watch_new(loop, descriptor->fd, 0, on_ready, descriptor, NULL) : NULL;
    count_watch(descriptor);
    return descriptor->watch;
}

/* Watches for what is waited for. Input goes on being watched when nobody waits for it any more: usually somebody will, soon. */
static int update_watch(struct sv_descriptor *descriptor) {
    int wanted = (descriptor->reading ? descriptor->reading->wants : 0) |
                 (descriptor->writing ? descriptor->writing->wants : 0);
    srvlua_watch *watch;
    int watched;

    if (descriptor->fd < 0 || (!wanted && !descriptor->watch))
        return 0;
    watch = find_watch(descriptor);
    if (!watch)
        return -ENOMEM;
    watched = srvlua_watch_get(watch);
    if ((wanted & ~watched) || (watched & SRVLUA_WRITABLE & ~wanted))
        srvlua_watch_set(watch, wanted | (watched & SRVLUA_READABLE));
    return 0;
}

/* ----------------------------------------------------------------------------------------------------------- waiting */

static void leave(struct sv_operation *operation) {
    struct sv_descriptor *descriptor = operation->descriptor;

    if (descriptor->reading == operation)
        descriptor->reading = NULL;
    if (descriptor->writing == operation)
        descriptor->writing = NULL;
    count_watch(descriptor);
}

static void set_deadline(struct sv_operation *operation) {
    if (!operation->has_deadline)
        operation->deadline_ns = operation->timeout_ns ? sv_client_now_ns() + operation->timeout_ns : 0;
}

static double seconds_until(int64_t deadline_ns) {
    int64_t left_ns = deadline_ns - sv_client_now_ns();

    if (deadline_ns == 0)
        return -1;
    return left_ns > 0 ? (double)left_ns / 1e9 : 0;
}

static void enter(struct sv_operation *operation) {
    struct sv_descriptor *descriptor = operation->descriptor;

    if (operation->is_reading)
        descriptor->reading = operation;
    if (operation->is_writing)
        descriptor->writing = operation;
    count_watch(descriptor);
}

/* Makes an operation of a coroutine wait. 0 or -errno. */
static int wait_for_it(struct sv_operation *operation) {
    struct sv_descriptor *descriptor = operation->descriptor;
    int result;

    set_deadline(operation);
    enter(operation);
    result = set_alarm(descriptor, operation->deadline_ns);
    if (result == 0)
        result = update_watch(descriptor);
    if (result < 0)
        leave(operation);
    return result;
}

/* One function less uses it. */
static void let_go(struct sv_descriptor *descriptor) {
    if (--descriptor->holds == 0 && descriptor->is_closed)
        descriptor->release(descriptor);
}

static int late(struct sv_operation *operation) { return operation->late ? operation->late(operation) : -ETIMEDOUT; }

/* The results of an operation that has waited go to its coroutine; how many they are. The descriptor may be closed then. */
static int push_results(struct sv_operation *operation, int result) {
    lua_State *from = operation->descriptor->client->lua->L;
    struct sv_lua_coroutine *coroutine = operation->coroutine;
    int count;

    leave(operation);
    operation->coroutine = NULL;
    lua_checkstack(from, LUA_MINSTACK);
    count = operation->push(from, operation, result); /* there, because a thread that waits cannot be told of errors */
    lua_settop(coroutine->L, 0);
    lua_xmove(from, coroutine->L, count);
    return count;
}

/* What a step returned, when it may have to wait on: true if it has ended, with *result. */
static bool has_ended(struct sv_operation *operation, int *result) {
    if (*result != -EAGAIN)
        return true;
    *result = wait_for_it(operation);
    return *result < 0;
}

/* Those who wait for input take it, or the watch lets go of it. */
static void drop_unwanted_input(struct sv_descriptor *descriptor) {
    const struct sv_operation *reading = descriptor->reading, *writing = descriptor->writing;

    if (!(reading && reading->wants & SRVLUA_READABLE) && !(writing && writing->wants & SRVLUA_READABLE))
        srvlua_watch_set(descriptor->watch, srvlua_watch_get(descriptor->watch) & ~SRVLUA_READABLE);
}

static void set_alarms(struct sv_descriptor *descriptor) {
    if (descriptor->reading)
        set_alarm(descriptor, descriptor->reading->deadline_ns);
    if (descriptor->writing)
        set_alarm(descriptor, descriptor->writing->deadline_ns);
    if (descriptor->on_idle)
        set_alarm(descriptor, descriptor->idle_until_ns);
}

/* Looks after everybody who waits, for events or (0) because of the time: steps first, then the coroutines, for these may do
 * anything to the descriptor. Returns nonzero after an error in one. */
static int settle(struct sv_descriptor *descriptor, int events) {
    struct sv_operation *waiting[2] = {descriptor->reading, descriptor->writing};
    struct {
        struct sv_lua_coroutine *coroutine;
        int count;
    } ended[2];
    int i, count = 0, failed = 0;
    int64_t now_ns = events ? 0 : sv_client_now_ns();

    if (descriptor->on_idle && (events || (descriptor->idle_until_ns && now_ns >= descriptor->idle_until_ns))) {
        descriptor->on_idle(descriptor);
        return 0;
    }
    if (events & SRVLUA_READABLE)
        drop_unwanted_input(descriptor);
    descriptor->holds++;
    for (i = 0; i < 2; i++) {
        struct sv_operation *operation = waiting[i];
        int result;
        if (!operation || (descriptor->reading != operation && descriptor->writing != operation))
            continue; /* nobody, or the first one has ended it */
        if (!operation->coroutine)
            continue; /* blocks further out */
        if (events & operation->wants)
            result = operation->step(operation);
        else if (!events && operation->deadline_ns && now_ns >= operation->deadline_ns)
            result = late(operation);
        else
            continue;
        if (i == 0 && waiting[1] == operation)
            waiting[1] = NULL;
        if (!has_ended(operation, &result))
            continue;
        ended[count].coroutine = operation->coroutine;
        ended[count++].count = push_results(operation, result);
    }
    if (!descriptor->is_closed) {
        update_watch(descriptor);
        set_alarms(descriptor);
    }
    let_go(descriptor);
    for (i = 0; i < count; i++)
        failed |= sv_lua_resume(ended[i].coroutine, ended[i].count);
    return failed;
}

/* -------------------------------------------------------------------------------------------------------- operations */

/* Waits in the call. The loop may turn meanwhile, so others may close the descriptor. */
static int block(struct sv_operation *operation) {
    struct sv_descriptor *descriptor = operation->descriptor;
    int result = -EAGAIN;

    while (result == -EAGAIN) {
        int ready;
        set_deadline(operation);
        enter(operation);
        ready = sv_lua_block(descriptor->client->lua, operation->wants ? descriptor->fd : -1, operation->wants,
                             seconds_until(operation->deadline_ns));
        leave(operation);
        if (operation->is_cut)
            return -SV_CLIENT_CLOSED;
        if (ready < 0)
            return ready;
        if (ready && operation->wants & SRVLUA_READABLE)
            descriptor->is_drained = false;
        result = ready ? operation->step(operation) : late(operation);
    }
    return result;
}

int sv_operation_run(lua_State *L, struct sv_operation *operation, int keep) {
    struct sv_descriptor *descriptor = operation->descriptor;
    struct sv_lua_coroutine *coroutine = operation->coroutine;
    int count, result;

    operation->is_cut = false;
    descriptor->holds++;
    result = operation->step(operation);
    if (result == -EAGAIN && !coroutine) {
        result = block(operation);
    } else if (!has_ended(operation, &result)) {
        descriptor->holds--;
        return sv_lua_suspend_with(L, coroutine, operation->name, keep);
    }
    operation->coroutine = NULL;
    count = operation->push(L, operation, result);
    let_go(descriptor);
    return count;
}

struct resumption {
    struct sv_lua_coroutine *coroutine;
    int count;
};

static int resume_later(srvlua_loop *loop, int64_t timer_id, void *user_data) {
    struct resumption resumption = *(struct resumption *)user_data;

    (void)loop;
    (void)timer_id;
    free(user_data);
    return sv_lua_resume(resumption.coroutine, resumption.count);
}

void sv_operation_end(struct sv_operation *operation, int result) {
    struct sv_lua *lua = operation->descriptor->client->lua;
    struct resumption resumption = {.coroutine = operation->coroutine};
    struct resumption *later;

    if (!resumption.coroutine) { /* it blocks further out */
        operation->is_cut = true;
        return;
    }
    later = malloc(sizeof *later);
    resumption.count = push_results(operation, result);
    if (later) {
        *later = resumption;
        if (srvlua_call_soon(sv_lua_loop(lua), resume_later, later) == 0)
            return;
        free(later);
    }
    sv_lua_resume(resumption.coroutine, resumption.count); /* no memory: then at once */
}

void sv_operation_poke(struct sv_operation *operation) {
    int result = operation->step(operation);

    if (has_ended(operation, &result))
        sv_operation_end(operation, result);
}

/* ------------------------------------------------------------------------------------------------- opening and closing */

void sv_descriptor_init(struct sv_descriptor *descriptor, struct sv_client *client,
                        void (*release)(struct sv_descriptor *)) {
    descriptor->client = client;
    descriptor->fd = -1;
    descriptor->release = release;
    descriptor->link = &client->descriptors;
    descriptor->next = client->descriptors;
    if (descriptor->next)
        descriptor->next->link = &descriptor->next;
    client->descriptors = descriptor;
}

int sv_descriptor_adopt(struct sv_descriptor *descriptor, int fd) {
    clear_alarm(descriptor); /* the next one is of another kind */
    descriptor->fd = fd;
    descriptor->is_drained = true;
    if (!sv_lua_loop(descriptor->client->lua) || find_watch(descriptor))
        return 0; /* the watch counts for workerExit from now on */
    sv_descriptor_drop(descriptor);
    return -ENOMEM;
}

void sv_descriptor_drop(struct sv_descriptor *descriptor) {
    srvlua_watch_free(descriptor->watch);
    descriptor->watch = NULL;
    if (descriptor->fd >= 0)
        close(descriptor->fd);
    descriptor->fd = -1;
}

static void unlink_descriptor(struct sv_descriptor *descriptor) {
    *descriptor->link = descriptor->next;
    if (descriptor->next)
        descriptor->next->link = descriptor->link;
}

void sv_descriptor_close(struct sv_descriptor *descriptor) {
    struct sv_operation *reading = descriptor->reading, *writing = descriptor->writing;

    descriptor->is_closed = true;
    if (reading)
        sv_operation_end(reading, -SV_CLIENT_CLOSED);
    if (writing && writing != reading)
        sv_operation_end(writing, -SV_CLIENT_CLOSED);
    clear_alarm(descriptor);
    sv_descriptor_drop(descriptor);
    unlink_descriptor(descriptor);
    descriptor->holds++;
    let_go(descriptor);
}

static void drop_if_abandoned(struct sv_operation *operation) {
    struct sv_lua_coroutine *coroutine = operation ? operation->coroutine : NULL;

    if (!coroutine || !coroutine->is_abandoned)
        return;
    leave(operation);
    operation->coroutine = NULL;
    sv_lua_resume(coroutine, 0); /* one that was killed ends */
}

void sv_descriptor_drop_abandoned(struct sv_descriptor *descriptor) {
    drop_if_abandoned(descriptor->reading);
    drop_if_abandoned(descriptor->writing);
}

void sv_descriptor_abandon(struct sv_descriptor *descriptor) {
    descriptor->reading = descriptor->writing = NULL;
    clear_alarm(descriptor);
    sv_descriptor_drop(descriptor);
    unlink_descriptor(descriptor);
    descriptor->release(descriptor);
}

void sv_descriptor_rest(struct sv_descriptor *descriptor, void (*on_idle)(struct sv_descriptor *), int64_t until_ns) {
    descriptor->on_idle = on_idle;
    descriptor->idle_until_ns = until_ns;
    if (!sv_lua_loop(descriptor->client->lua) || !find_watch(descriptor))
        return; /* who takes it out looks first */
    srvlua_watch_set(descriptor->watch, SRVLUA_READABLE);
    count_watch(descriptor);
    set_alarm(descriptor, until_ns);
}

void sv_descriptor_wake(struct sv_descriptor *descriptor) {
    descriptor->on_idle = NULL;
    descriptor->idle_until_ns = 0;
    count_watch(descriptor);
}
