/* reactor_internal.h: what the files of this folder share. */
#ifndef SV_REACTOR_INTERNAL_H
#define SV_REACTOR_INTERNAL_H

#include "reactor/loop.h"

/* loop.c: calls back, between the loop's hooks for that. */
int sv_loop_call(struct srvlua_loop *loop, srvlua_timer_callback callback, int64_t timer, void *user_data);

/* timer.c */
struct sv_timer_heap *sv_timer_heap_new(void);
void sv_timer_heap_free(struct sv_timer_heap *heap); /* runs the release functions */
/* Nanoseconds until the next timer is due: 0 = now, -1 = there is none. */
int64_t sv_timer_heap_next(const struct sv_timer_heap *heap, int64_t now_ns);
/* Fires what is due. */
void sv_timer_heap_run(struct srvlua_loop *loop);

/* watch.c: the loop ends and lets go of its watches, which stay their owners'. */
void sv_watches_detach(struct srvlua_loop *loop);

#endif
