/* hang.c: see hang.h. */
#include "process/hang.h"

#include <signal.h>
#include <stdio.h>
#include <string.h>

#include "base/clock.h"
#include "process/runtime.h"

#define LOOKS_PER_AGE 5 /* so a report is late by a fifth at most */
#define LEAST_INTERVAL_MS 10
#define MOST_INTERVAL_MS 200
#define ANSWER_WAIT_NS (SV_NS_PER_SECOND / 2)
#define URGES_MAX 3 /* each ends one of the worker's tries (fault.c) */

static int64_t to_ns(double seconds) {
    return (int64_t)(seconds * 1e9);
}

/* Both limits, for a process of this slot. */
static double warning_of(const struct sv_runtime *rt, uint32_t slot) {
    return slot < rt->config.workers ? rt->config.hang_warning : rt->config.task_hang_warning;
}

static double timeout_of(const struct sv_runtime *rt, uint32_t slot) {
    return slot < rt->config.workers ? rt->config.hang_timeout : rt->config.task_hang_timeout;
}

/* The age to look for, 0: none. */
static double first_age(const struct sv_runtime *rt, uint32_t slot) {
    return warning_of(rt, slot) > 0 ? warning_of(rt, slot) : timeout_of(rt, slot);
}

int64_t sv_hang_interval_ms(const struct sv_runtime *rt) {
    double age = first_age(rt, 0), task_age = rt->config.task_workers ? first_age(rt, rt->config.workers) : 0;
    if (task_age > 0 && (age <= 0 || task_age < age)) age = task_age;
    if (age <= 0) return 0;
    int64_t interval_ms = (int64_t)(age * 1e3 / LOOKS_PER_AGE);
    if (interval_ms > MOST_INTERVAL_MS) return MOST_INTERVAL_MS;
    return interval_ms < LEAST_INTERVAL_MS ? LEAST_INTERVAL_MS : interval_ms;
}

static struct sv_stack_text *stack_of(const struct sv_runtime *rt, uint32_t slot, uint32_t parity) {
    return &rt->stacks[slot * 2 + parity];
}

static void ask(struct sv_hang_watch *watch, pid_t pid, int64_t now_ns) {
    watch->phase = SV_HANG_ASKED;
    watch->asked_ns = now_ns;
    sigqueue(pid, SV_SIGNAL_ASK, (union sigval){.sival_int = (int)watch->request}); /* it may be dead already */
}

/* Copies the answer, with a NUL behind it; false if there is none, or it is just being written. */
static bool take_answer(const struct sv_stack_text *stack, uint32_t request, char text[SV_STACK_TEXT_MAX + 1]) {
    uint32_t version = atomic_load_explicit(&stack->version, memory_order_acquire);
    if (version & 1 || atomic_load_explicit(&stack->request, memory_order_relaxed) != request) return false;
    uint32_t length = atomic_load_explicit(&stack->length, memory_order_relaxed);
    if (length > SV_STACK_TEXT_MAX) return false;
    memcpy(text, stack->text, length);
    text[length] = '\0';
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&stack->version, memory_order_relaxed) == version;
}

/* Who asked is told at the next look, so that a better text (a binding's safe point) may come in place of the first one. */
static void report(struct sv_runtime *rt, uint32_t slot, uint32_t parity, pid_t pid, struct sv_hang_watch *watch, int64_t now_ns) {
    char text[SV_STACK_TEXT_MAX + 1];
    int64_t waited_ns = now_ns - watch->asked_ns;
    bool has_stack = take_answer(stack_of(rt, slot, parity), watch->request, text);
    if (!has_stack && waited_ns < ANSWER_WAIT_NS) return;
    if (!has_stack && watch->urges < URGES_MAX) {
        watch->urges++;
        ask(watch, pid, now_ns);
        return;
    }
    const struct sv_slot_life *life = &rt->slots[slot].life[parity];
    bool is_over = atomic_load_explicit(&life->beat, memory_order_acquire) != watch->beat;
    uint64_t session = is_over ? 0 : atomic_load_explicit(&life->serving, memory_order_relaxed);
    int64_t age_ns = watch->asked_ns - watch->since_ns;
    bool is_killed = !is_over && timeout_of(rt, slot) > 0 && age_ns >= to_ns(timeout_of(rt, slot));
    char serving[64] = "";
    if (session & SV_TASK_KEY)
        snprintf(serving, sizeof serving, ", running task %u", (uint32_t)session);
    else if (session)
        snprintf(serving, sizeof serving, ", serving session %llu", (unsigned long long)session);
    sv_log_about(&rt->log, SRVLUA_LOG_WARNING, session & SV_TASK_KEY ? 0 : (int64_t)session, 0, "worker %u (pid %d) %s been in one callback for %.1f s%s%s%s%s", slot,
                 (int)pid, is_over ? "had" : "has", (double)age_ns / 1e9, serving, is_killed ? ": it is killed (hang_timeout)" : "",
                 has_stack && *text ? "\nstack traceback:\n" : "; its stack could not be read", has_stack ? text : "");
    watch->phase = is_killed ? SV_HANG_KILLED : SV_HANG_CALM;
    if (is_killed) kill(pid, SIGKILL);
}

void sv_hang_look(struct sv_runtime *rt, uint32_t slot, uint32_t parity, pid_t pid, struct sv_hang_watch *watch) {
    int64_t now_ns = sv_now_ns(), warning_ns = to_ns(warning_of(rt, slot)), timeout_ns = to_ns(timeout_of(rt, slot));
    if (watch->phase == SV_HANG_ASKED) report(rt, slot, parity, pid, watch, now_ns);
    if (watch->phase != SV_HANG_CALM) return;
    uint32_t beat = atomic_load_explicit(&rt->slots[slot].life[parity].beat, memory_order_acquire);
    if (beat != watch->beat || !(beat & 1)) {
        watch->beat = beat;
        watch->since_ns = now_ns;
        watch->report_age = warning_ns;
        return;
    }
    int64_t age_ns = now_ns - watch->since_ns;
    bool is_reported = warning_ns > 0 && age_ns >= watch->report_age;
    if (!is_reported && (timeout_ns <= 0 || age_ns < timeout_ns)) return;
    watch->report_age = age_ns * 2;
    watch->request++;
    watch->urges = 0;
    ask(watch, pid, now_ns);
}
