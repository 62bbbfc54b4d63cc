/* timer.c: timers of one loop: a binary heap by due time and, among equals, by age. Ids count 1, 2, 3 ... and are not used twice;
 * an open hash finds a timer by its id. A timer made during a pass fires in a later one. */
#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "reactor/reactor_internal.h"

struct timer {
    int64_t id, due_ns, interval_ns, exec_count, round;
    size_t position; /* in the heap; SIZE_MAX while it is fired */
    srvlua_timer_callback callback;
    void *user_data;
    void (*release)(void *user_data);
    struct timer *next_in_bucket;
    bool is_internal;   /* in no list and no count of users */
    bool is_background; /* internal, but the public functions clear it */
    bool is_removed;
};

struct sv_timer_heap {
    struct timer **heap;
    size_t count, capacity;
    struct timer **buckets;
    size_t bucket_count; /* power of two */
    size_t live, user_live;
    int64_t next_id, round, start_ns;
    struct timer *running;
    bool is_used;
};

static bool is_before(const struct timer *one, const struct timer *other) {
    return one->due_ns != other->due_ns ? one->due_ns < other->due_ns : one->id < other->id;
}

static void put(struct sv_timer_heap *heap, size_t position, struct timer *timer) {
    heap->heap[position] = timer;
    timer->position = position;
}

static void sift_up(struct sv_timer_heap *heap, size_t position, struct timer *timer) {
    while (position > 0) {
        size_t parent = (position - 1) / 2;
        if (!is_before(timer, heap->heap[parent])) break;
        put(heap, position, heap->heap[parent]);
        position = parent;
    }
    put(heap, position, timer);
}

static void sift_down(struct sv_timer_heap *heap, size_t position, struct timer *timer) {
    for (;;) {
        size_t child = position * 2 + 1;
        if (child >= heap->count) break;
        if (child + 1 < heap->count && is_before(heap->heap[child + 1], heap->heap[child])) child++;
        if (!is_before(heap->heap[child], timer)) break;
        put(heap, position, heap->heap[child]);
        position = child;
    }
    put(heap, position, timer);
}

static void heap_insert(struct sv_timer_heap *heap, struct timer *timer) {
    sift_up(heap, heap->count++, timer);
}

static void heap_remove(struct sv_timer_heap *heap, struct timer *timer) {
    size_t position = timer->position;
    struct timer *last = heap->heap[--heap->count];
    timer->position = SIZE_MAX;
    if (last == timer) return;
    if (position > 0 && is_before(last, heap->heap[(position - 1) / 2]))
        sift_up(heap, position, last);
    else
        sift_down(heap, position, last);
}

static struct timer **bucket_of(const struct sv_timer_heap *heap, int64_t id) {
    return &heap->buckets[(size_t)id & (heap->bucket_count - 1)];
}

static struct timer *find(const struct sv_timer_heap *heap, int64_t id) {
    if (id < 1) return NULL;
    struct timer *timer = *bucket_of(heap, id);
    while (timer && timer->id != id) timer = timer->next_in_bucket;
    return timer;
}

static bool grow(struct sv_timer_heap *heap) {
    size_t capacity = heap->capacity * 2;
    struct timer **grown = realloc(heap->heap, capacity * sizeof *grown);
    if (!grown) return false;
    heap->heap = grown;
    struct timer **buckets = calloc(capacity, sizeof *buckets);
    if (!buckets) return false;
    struct timer **old = heap->buckets;
    size_t old_count = heap->bucket_count;
    heap->buckets = buckets;
    heap->bucket_count = heap->capacity = capacity;
    for (size_t i = 0; i < old_count; i++) {
        for (struct timer *timer = old[i], *next; timer; timer = next) {
            next = timer->next_in_bucket;
            struct timer **bucket = bucket_of(heap, timer->id);
            timer->next_in_bucket = *bucket;
            *bucket = timer;
        }
    }
    free(old);
    return true;
}

struct sv_timer_heap *sv_timer_heap_new(void) {
    struct sv_timer_heap *heap = calloc(1, sizeof *heap);
    if (!heap) return NULL;
    heap->capacity = heap->bucket_count = 16;
    heap->heap = malloc(heap->capacity * sizeof *heap->heap);
    heap->buckets = calloc(heap->bucket_count, sizeof *heap->buckets);
    heap->next_id = 1;
    heap->start_ns = sv_now_ns();
    if (heap->heap && heap->buckets) return heap;
    sv_timer_heap_free(heap);
    return NULL;
}

void sv_timer_heap_free(struct sv_timer_heap *heap) {
    if (!heap) return;
    for (size_t i = 0; heap->buckets && i < heap->bucket_count; i++) {
        for (struct timer *timer = heap->buckets[i], *next; timer; timer = next) {
            next = timer->next_in_bucket;
            if (timer->release) timer->release(timer->user_data);
            free(timer);
        }
    }
    free(heap->buckets);
    free(heap->heap);
    free(heap);
}

/* The only place where a timer ends. */
static void dispose(struct sv_timer_heap *heap, struct timer *timer) {
    struct timer **link = bucket_of(heap, timer->id);
    while (*link != timer) link = &(*link)->next_in_bucket;
    *link = timer->next_in_bucket;
    if (timer->release) timer->release(timer->user_data);
    free(timer);
}

/* The only place where a timer is taken out of the counts. */
static void mark_removed(struct sv_timer_heap *heap, struct timer *timer) {
    timer->is_removed = true;
    heap->live--;
    if (!timer->is_internal) heap->user_live--;
}

int64_t sv_timer_heap_next(const struct sv_timer_heap *heap, int64_t now_ns) {
    if (!heap->count) return -1;
    int64_t wait = heap->heap[0]->due_ns - now_ns;
    return wait > 0 ? wait : 0;
}

/* The next due time that is still to come, on the timer's own beat. */
static int64_t next_beat(const struct timer *timer, int64_t now_ns) {
    int64_t missed = (now_ns - timer->due_ns) / timer->interval_ns;
    return timer->due_ns + (missed < 0 ? 1 : missed + 1) * timer->interval_ns;
}

void sv_timer_heap_run(struct srvlua_loop *loop) {
    struct sv_timer_heap *heap = loop->timers;
    int64_t now_ns = sv_now_ns();
    int64_t newest = heap->next_id; /* timers made from here on wait for the next pass */
    heap->round++;
    while (heap->count && heap->heap[0]->due_ns <= now_ns && heap->heap[0]->id < newest) {
        struct timer *timer = heap->heap[0];
        heap_remove(heap, timer);
        timer->exec_count++;
        timer->round = heap->round;
        if (!timer->interval_ns) mark_removed(heap, timer);
        struct timer *outer = heap->running;
        heap->running = timer;
        int result = sv_loop_call(loop, timer->callback, timer->id, timer->user_data);
        heap = loop->timers;
        if (!heap) return; /* the callback ended the loop */
        heap->running = outer;
        if (result && loop->hooks.failed) loop->hooks.failed(loop->hooks.context);
        if (timer->is_removed) {
            dispose(heap, timer);
        } else {
            timer->due_ns = next_beat(timer, sv_now_ns());
            heap_insert(heap, timer);
        }
    }
}

static int64_t add(struct srvlua_loop *loop, int64_t ms, bool repeat, bool is_internal, srvlua_timer_callback callback,
                   void *user_data, void (*release)(void *)) {
    struct sv_timer_heap *heap = loop->timers;
    if (ms < 1) return -SRVLUA_ERROR_INVALID_PARAMS;
    if (ms > INT64_MAX / SV_NS_PER_MS / 4) ms = INT64_MAX / SV_NS_PER_MS / 4; /* 73 years */
    if (heap->live >= heap->capacity - 1 && !grow(heap)) return -SRVLUA_ERROR_MALLOC_FAIL;
    struct timer *timer = calloc(1, sizeof *timer);
    if (!timer) return -SRVLUA_ERROR_MALLOC_FAIL;
    timer->id = heap->next_id++;
    timer->due_ns = sv_now_ns() + ms * SV_NS_PER_MS;
    timer->interval_ns = repeat ? ms * SV_NS_PER_MS : 0;
    timer->round = heap->round;
    timer->callback = callback;
    timer->user_data = user_data;
    timer->release = release;
    timer->is_internal = is_internal;
    struct timer **bucket = bucket_of(heap, timer->id);
    timer->next_in_bucket = *bucket;
    *bucket = timer;
    heap_insert(heap, timer);
    heap->live++;
    if (!is_internal) {
        heap->user_live++;
        heap->is_used = true;
    }
    return timer->id;
}

static void clear(struct sv_timer_heap *heap, struct timer *timer) {
    mark_removed(heap, timer);
    if (timer->position == SIZE_MAX) return; /* it is being fired: sv_timer_heap_run ends it */
    heap_remove(heap, timer);
    dispose(heap, timer);
}

int64_t srvlua_timer_add(srvlua_loop *loop, int64_t ms, int repeat, srvlua_timer_callback callback, void *user_data,
                         void (*release)(void *user_data)) {
    return add(loop, ms, repeat != 0, false, callback, user_data, release);
}

int64_t srvlua_timer_add_background(srvlua_loop *loop, int64_t ms, int repeat, srvlua_timer_callback callback, void *user_data,
                                    void (*release)(void *user_data)) {
    int64_t id = add(loop, ms, repeat != 0, true, callback, user_data, release);
    if (id > 0) find(loop->timers, id)->is_background = true;
    return id;
}

int64_t sv_timer_add_internal(struct srvlua_loop *loop, int64_t ms, bool repeat, srvlua_timer_callback callback, void *user_data) {
    return add(loop, ms, repeat, true, callback, user_data, NULL);
}

void sv_timer_make_internal(struct srvlua_loop *loop, int64_t timer_id) {
    struct timer *timer = find(loop->timers, timer_id);
    if (!timer || timer->is_internal) return;
    timer->is_internal = true;
    loop->timers->user_live--;
}

void sv_timer_clear_internal(struct srvlua_loop *loop, int64_t timer_id) {
    struct timer *timer = find(loop->timers, timer_id);
    if (timer && timer->is_internal && !timer->is_removed) clear(loop->timers, timer);
}

int srvlua_timer_clear(srvlua_loop *loop, int64_t timer_id) {
    struct timer *timer = find(loop->timers, timer_id);
    if (!timer || timer->is_removed || (timer->is_internal && !timer->is_background)) return -SRVLUA_ERROR_INVALID_PARAMS;
    clear(loop->timers, timer);
    return 0;
}

int srvlua_timer_clear_all(srvlua_loop *loop) {
    struct sv_timer_heap *heap = loop->timers;
    if (!heap->is_used) return -SRVLUA_ERROR_INVALID_PARAMS;
    for (size_t i = 0; i < heap->bucket_count; i++) {
        for (struct timer *timer = heap->buckets[i], *next; timer; timer = next) {
            next = timer->next_in_bucket;
            if (!timer->is_internal && !timer->is_removed) clear(heap, timer);
        }
    }
    return 0;
}

int srvlua_timer_get_info(srvlua_loop *loop, int64_t timer_id, struct srvlua_timer_info *info) {
    const struct sv_timer_heap *heap = loop->timers;
    const struct timer *timer = find(heap, timer_id);
    if (!timer || timer->is_internal) return 0;
    if (timer->is_removed && timer != heap->running) return 0;
    if (info) {
        info->exec_msec = (timer->due_ns - heap->start_ns) / SV_NS_PER_MS;
        info->exec_count = timer->exec_count;
        info->interval = timer->interval_ns / SV_NS_PER_MS;
        info->round = timer->round;
        info->removed = timer->is_removed;
    }
    return 1;
}

static int by_id(const void *one, const void *other) {
    int64_t a = *(const int64_t *)one, b = *(const int64_t *)other;
    return (a > b) - (a < b);
}

size_t srvlua_timer_list(srvlua_loop *loop, int64_t *ids, size_t max) {
    const struct sv_timer_heap *heap = loop->timers;
    size_t count = 0;
    for (size_t i = 0; i < heap->bucket_count; i++) {
        for (const struct timer *timer = heap->buckets[i]; timer; timer = timer->next_in_bucket) {
            if (timer->is_internal || timer->is_removed) continue;
            if (count < max) ids[count] = timer->id;
            count++;
        }
    }
    if (max) qsort(ids, count < max ? count : max, sizeof *ids, by_id);
    return count;
}

void srvlua_timer_get_stats(srvlua_loop *loop, struct srvlua_timer_stats *stats) {
    const struct sv_timer_heap *heap = loop->timers;
    stats->initialized = heap->is_used;
    stats->num = heap->is_used ? (int64_t)heap->live : 0;
    stats->round = heap->is_used ? heap->round : 0;
}

size_t sv_loop_user_timers(const struct srvlua_loop *loop) {
    return loop->timers->user_live;
}
