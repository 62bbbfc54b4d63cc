/* fault.h: what a worker does when a signal interrupts it: it tells the manager which code is running (hang.h), and it writes a
 * report before a fatal signal ends it. The text of the Lua stack, or of whatever else runs the program, comes from the hook
 * `write_stack`; what it reads may just be changing, so a fault in it is caught and it is called again.
 *
 * Handlers run on a stack of their own, at whose base they find what they need: there are no globals. Only in children that
 * are workers; the host's process keeps its handlers, and what the host had for a fatal signal runs after the report.
 * runs in: worker, its main thread. */
#ifndef SV_PROCESS_FAULT_H
#define SV_PROCESS_FAULT_H

#include <stddef.h>

struct sv_runtime;
struct sv_fault;

/* Loads what a backtrace needs, so that no handler has to. In the parent of the workers. */
void sv_fault_prepare(void);
/* Installs the handlers in a new worker. 0 or -errno; then it can do without them. */
int sv_fault_open(struct sv_runtime *rt);
/* A better text than the answer to the manager's last request, from outside of handlers. */
void sv_fault_improve(struct sv_runtime *rt, const char *text, size_t length);

#endif
