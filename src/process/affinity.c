/* affinity.c: see affinity.h. */
#include "process/affinity.h"

#include <errno.h>
#include <sched.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

#include "base/errors.h"

#define CPUS_MAX 4096

static bool is_ignored(int cpu, const int64_t *ignored, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (ignored[i] == cpu) return true;
    return false;
}

int sv_cpus_list(struct sv_cpu_list *cpus, const int64_t *ignored, size_t ignored_count, struct srvlua_status *status) {
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *mask = CPU_ALLOC(CPUS_MAX);
    int result = 0;
    *cpus = (struct sv_cpu_list){.items = calloc(CPUS_MAX, sizeof *cpus->items)};
    if (!mask || !cpus->items) {
        result = sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "out of memory");
        goto out;
    }
    CPU_ZERO_S(size, mask);
    if (sched_getaffinity(0, size, mask)) {
        result = sv_fail_errno(status, errno, "open_cpu_affinity");
        goto out;
    }
    for (int cpu = 0; cpu < CPUS_MAX; cpu++)
        if (CPU_ISSET_S((size_t)cpu, size, mask) && !is_ignored(cpu, ignored, ignored_count)) cpus->items[cpus->total++] = cpu;
    cpus->count = cpus->total;
    for (int cpu = 0; cpu < CPUS_MAX; cpu++)
        if (CPU_ISSET_S((size_t)cpu, size, mask) && is_ignored(cpu, ignored, ignored_count)) cpus->items[cpus->total++] = cpu;
    if (cpus->count == 0) result = sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "cpu_affinity_ignore leaves no CPU");
out:
    CPU_FREE(mask);
    if (result) sv_cpus_free(cpus);
    return result;
}

void sv_cpus_free(struct sv_cpu_list *cpus) {
    free(cpus->items);
    *cpus = (struct sv_cpu_list){0};
}

static int set_mask(const int *items, int count) {
    size_t size = CPU_ALLOC_SIZE(CPUS_MAX);
    cpu_set_t *mask = CPU_ALLOC(CPUS_MAX);
    if (!mask) return -ENOMEM;
    CPU_ZERO_S(size, mask);
    for (int i = 0; i < count; i++) CPU_SET_S((size_t)items[i], size, mask);
    int result = sched_setaffinity(0, size, mask) ? -errno : 0;
    CPU_FREE(mask);
    return result;
}

void sv_cpus_pin(const struct sv_cpu_list *cpus, uint32_t number, const struct sv_log *log) {
    if (!cpus->items) return;
    const int *chosen = &cpus->items[number % (uint32_t)cpus->count];
    int result = set_mask(chosen, 1);
    if (result) sv_log_about(log, SRVLUA_LOG_WARNING, 0, -result, "open_cpu_affinity: CPU %d: %s", *chosen, strerror(-result));
}

void sv_cpus_unpin(const struct sv_cpu_list *cpus) {
    if (cpus->items) set_mask(cpus->items, cpus->total); /* it was allowed before; nothing to be done if it is no more */
}
