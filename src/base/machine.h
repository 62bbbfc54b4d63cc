/* machine.h: how much of the machine this process may use. Reads /proc and /sys at every call: for start-up only.
 * runs in: anywhere. */
#ifndef SV_BASE_MACHINE_H
#define SV_BASE_MACHINE_H

#include <stdint.h>

/* CPUs: those of the affinity mask, less where a cgroup's quota allows less (rounded up); at least 1. */
int sv_machine_cpus(void);
/* Bytes of memory: RAM or the smallest limit of our cgroups. 0 if the system does not tell. */
int64_t sv_machine_memory(void);
/* The longest accept queue that listen() grants (net.core.somaxconn). 0 if the system does not tell. */
int64_t sv_machine_accept_queue(void);

#endif
