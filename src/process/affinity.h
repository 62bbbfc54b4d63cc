/* affinity.h: open_cpu_affinity: reactor i and worker i run on CPU i modulo n of those the server may use (settings.md 1.1).
 *
 * runs in: the starting process (list), reactor threads and workers (pin). */
#ifndef SV_PROCESS_AFFINITY_H
#define SV_PROCESS_AFFINITY_H

#include <stddef.h>
#include <stdint.h>

#include "base/log.h"

struct sv_cpu_list {
    int *items; /* NULL: nothing is pinned; ascending, then those that are left out */
    int count, total;
};

/* The CPUs of the calling thread's mask without the ignored ones. 0, -505 if none is left, -501. */
int sv_cpus_list(struct sv_cpu_list *cpus, const int64_t *ignored, size_t ignored_count, struct srvlua_status *status);
void sv_cpus_free(struct sv_cpu_list *cpus);
/* Pins the calling thread; nothing to do without a list. A failure is a warning: the scheduler goes on choosing. */
void sv_cpus_pin(const struct sv_cpu_list *cpus, uint32_t number, const struct sv_log *log);
/* Gives the calling thread all CPUs back that it had. */
void sv_cpus_unpin(const struct sv_cpu_list *cpus);

#endif
