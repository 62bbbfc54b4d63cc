/* owner.c: who is who among processes; see owner.h. */
#include "shm/owner.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <unistd.h>

#define PID_BITS 22 /* the kernel's pids end at 2^22 */
#define START_BITS 41
#define SPINS 200
#define FIRST_NAP_NS 50000L
#define LONGEST_NAP_NS 1000000L

/* Fields of /proc/PID/stat, counted from the state, which follows the name in parentheses. */
#define FIELDS_TO_THREADS 17
#define FIELDS_TO_START 19

struct process_state {
    char state;
    long threads;
    uint64_t start; /* clock ticks since boot */
};

/* What /proc says of a process; false if it says nothing. `who` is a pid or "self". */
static bool read_state(const char *who, struct process_state *process) {
    char path[64], text[1024];
    snprintf(path, sizeof path, "/proc/%s/stat", who);
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0)
        return false;
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length <= 0)
        return false;
    text[length] = '\0';
    const char *at = strrchr(text, ')');
    if (!at || at[1] != ' ')
        return false;
    at += 2;
    process->state = *at;
    for (int field = 0; field < FIELDS_TO_START; field++) {
        at = strchr(at, ' ');
        if (!at)
            return false;
        at++;
        if (field + 1 == FIELDS_TO_THREADS)
            process->threads = strtol(at, NULL, 10);
    }
    process->start = strtoull(at, NULL, 10);
    return true;
}

static bool read_state_of(pid_t pid, struct process_state *process) {
    char who[24];
    snprintf(who, sizeof who, "%d", (int)pid);
    return read_state(who, process);
}

static uint64_t make_id(pid_t pid, uint64_t start) {
    return (start & ((UINT64_C(1) << START_BITS) - 1)) << PID_BITS | (uint64_t)pid;
}

/* Of the calling process. Without a start if /proc is not about this process's pids: others could not check it there. */
static uint64_t find_id(void) {
    struct process_state own, by_pid;
    pid_t pid = getpid();
    if (read_state("self", &own) && read_state_of(pid, &by_pid) && own.start == by_pid.start)
        return make_id(pid, own.start);
    return make_id(pid, 0);
}

int sv_self_open(struct sv_self *self) {
    size_t size = (size_t)sysconf(_SC_PAGESIZE);
    void *page = mmap(NULL, size, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);
    if (page == MAP_FAILED)
        return -errno;
    self->page = page;
    self->forgets = madvise(page, size, MADV_WIPEONFORK) == 0;
    return 0;
}

void sv_self_close(struct sv_self *self) {
    if (self->page)
        munmap(self->page, (size_t)sysconf(_SC_PAGESIZE));
    self->page = NULL;
}

uint64_t sv_self_id(const struct sv_self *self) {
    uint64_t id = atomic_load_explicit(&self->page->id, memory_order_acquire);
    if (id && (self->forgets || (pid_t)(id & ((1u << PID_BITS) - 1)) == getpid()))
        return id;
    id = find_id();
    atomic_store_explicit(&self->page->note, 0, memory_order_relaxed);
    atomic_store_explicit(&self->page->id, id, memory_order_release);
    return id;
}

_Atomic uint64_t *sv_self_note(const struct sv_self *self) {
    sv_self_id(self);
    return &self->page->note;
}

bool sv_owner_is_alive(uint64_t id) {
    pid_t pid = (pid_t)(id & ((1u << PID_BITS) - 1));
    uint64_t start = id >> PID_BITS;
    struct process_state process;
    if (kill(pid, 0) == -1 && errno == ESRCH)
        return false;
    if (!start || !read_state_of(pid, &process))
        return true; /* the kernel knows the pid, and nothing more is to be had */
    if (process.start != start)
        return false;
    /* 'Z' with threads: only the first thread has ended */
    return process.state != 'X' && (process.state != 'Z' || process.threads > 1);
}

enum sv_taken sv_owner_try_hard(_Atomic uint64_t *word, uint64_t me) {
    uint64_t holder = atomic_load_explicit(word, memory_order_relaxed);
    if (holder != 0 && (holder == me || sv_owner_is_alive(holder)))
        return SV_NOT_TAKEN;
    if (!atomic_compare_exchange_strong_explicit(word, &holder, me, memory_order_acquire, memory_order_relaxed))
        return SV_NOT_TAKEN;
    return holder == 0 ? SV_TAKEN : SV_TAKEN_FROM_DEAD;
}

enum sv_taken sv_owner_take(_Atomic uint64_t *word, uint64_t me) {
    for (unsigned turn = 0;; turn++) {
        for (int spin = 0; spin < SPINS; spin++) {
            if (sv_owner_try(word, me))
                return SV_TAKEN;
            sv_relax();
        }
        enum sv_taken taken = sv_owner_try_hard(word, me);
        if (taken != SV_NOT_TAKEN)
            return taken;
        sv_nap(turn);
    }
}

void sv_nap(unsigned turn) {
    long length = turn < 20 ? FIRST_NAP_NS * (long)(turn + 1) : LONGEST_NAP_NS;
    struct timespec nap = {.tv_nsec = length < LONGEST_NAP_NS ? length : LONGEST_NAP_NS};
    nanosleep(&nap, NULL);
}
