/* machine.c: how much of the machine this process may use. runs in: anywhere, at start-up.
 *
 * Limits of control groups hold for a group and all below it, so every group from ours up to the root is looked at.
 * In a container the path that /proc tells may be the host's and not be visible; the root of the mount still is. */
#include "base/machine.h"

#include <inttypes.h>
#include <limits.h>
#include <math.h>
#include <sched.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#define MOST_CPUS 4096

/* One kind of limit as one version of the interface shows it. */
struct limit {
    const char *controller; /* in /proc/self/cgroup; "" is version 2 */
    const char *mount;
    double (*read)(const char *directory); /* INFINITY: none */
};

/* Reads up to two words of a file; the number of words. */
static int read_words(const char *directory, const char *name, char first[32], char second[32]) {
    char path[PATH_MAX];
    if (snprintf(path, sizeof path, "%s/%s", directory, name) >= (int)sizeof path)
        return 0;
    FILE *file = fopen(path, "re");
    if (!file)
        return 0;
    int words = fscanf(file, "%31s %31s", first, second);
    fclose(file);
    return words > 0 ? words : 0;
}

/* A number of a file that is > 0, else INFINITY ("max", -1, no such file). */
static double read_number(const char *directory, const char *name) {
    char first[32], second[32];
    double number;
    if (read_words(directory, name, first, second) < 1 || sscanf(first, "%lf", &number) != 1 || !(number > 0))
        return INFINITY;
    return number;
}

static double cpus_v2(const char *directory) {
    char quota_text[32], period_text[32];
    double quota, period;
    if (read_words(directory, "cpu.max", quota_text, period_text) != 2 || sscanf(quota_text, "%lf", &quota) != 1 ||
        sscanf(period_text, "%lf", &period) != 1 || !(quota > 0) || !(period > 0))
        return INFINITY;
    return quota / period;
}

static double cpus_v1(const char *directory) {
    double quota = read_number(directory, "cpu.cfs_quota_us"), period = read_number(directory, "cpu.cfs_period_us");
    return isfinite(quota) && isfinite(period) ? quota / period : INFINITY;
}

static double memory_v2(const char *directory) { return read_number(directory, "memory.max"); }

static double memory_v1(const char *directory) { return read_number(directory, "memory.limit_in_bytes"); }

/* Is `name` one of the comma-separated `names`? */
static bool has_controller(const char *names, const char *name) {
    size_t length = strlen(name);
    if (length == 0)
        return *names == '\0';
    for (const char *at = names; at; at = strchr(at, ',')) {
        at += *at == ',';
        if (strncmp(at, name, length) == 0 && (at[length] == ',' || at[length] == '\0'))
            return true;
    }
    return false;
}

/* Our group's path below the controller's mount: "" for the root or when there is none. */
static void find_group(const char *controller, char *group, size_t size) {
    char line[PATH_MAX + 64];
    FILE *file = fopen("/proc/self/cgroup", "re");

    *group = '\0';
    if (!file)
        return;
    while (fgets(line, sizeof line, file)) { /* "4:cpu,cpuacct:/path" */
        char *names = strchr(line, ':');
        char *path = names ? strchr(names + 1, ':') : NULL;
        if (!path)
            continue;
        *path++ = '\0';
        if (!has_controller(names + 1, controller))
            continue;
        path[strcspn(path, "\n")] = '\0';
        if (strcmp(path, "/") != 0)
            snprintf(group, size, "%s", path);
        break;
    }
    fclose(file);
}

static double smallest_limit(const struct limit *limit) {
    char group[PATH_MAX], directory[PATH_MAX * 2];
    double smallest = INFINITY;

    find_group(limit->controller, group, sizeof group);
    for (;;) {
        snprintf(directory, sizeof directory, "%s%s", limit->mount, group);
        smallest = fmin(smallest, limit->read(directory));
        char *last = strrchr(group, '/');
        if (!last)
            return smallest;
        *last = '\0';
    }
}

static int affinity_cpus(void) {
    cpu_set_t *set = CPU_ALLOC(MOST_CPUS);
    size_t size = CPU_ALLOC_SIZE(MOST_CPUS);
    int count = 0;

    if (set) {
        CPU_ZERO_S(size, set);
        if (sched_getaffinity(0, size, set) == 0)
            count = CPU_COUNT_S(size, set);
        CPU_FREE(set);
    }
    if (count < 1)
        count = (int)sysconf(_SC_NPROCESSORS_ONLN);
    return count < 1 ? 1 : count;
}

int sv_machine_cpus(void) {
    static const struct limit limits[] = {{"", "/sys/fs/cgroup", cpus_v2}, {"cpu", "/sys/fs/cgroup/cpu", cpus_v1}};
    double cpus = affinity_cpus();
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        cpus = fmin(cpus, ceil(smallest_limit(&limits[i])));
    return cpus < 1 ? 1 : (int)cpus;
}

int64_t sv_machine_memory(void) {
    static const struct limit limits[] = {{"", "/sys/fs/cgroup", memory_v2},
                                          {"memory", "/sys/fs/cgroup/memory", memory_v1}};
    long pages = sysconf(_SC_PHYS_PAGES), page_size = sysconf(_SC_PAGESIZE);
    double memory = pages > 0 && page_size > 0 ? (double)pages * (double)page_size : INFINITY;
    for (size_t i = 0; i < sizeof limits / sizeof *limits; i++)
        memory = fmin(memory, smallest_limit(&limits[i]));
    return isfinite(memory) ? (int64_t)memory : 0;
}

int64_t sv_machine_accept_queue(void) {
    double most = read_number("/proc/sys/net/core", "somaxconn");
    return isfinite(most) ? (int64_t)most : 0;
}
