/* fault.c: see fault.h. */
#include "process/fault.h"

#include <errno.h>
#include <execinfo.h>
#include <setjmp.h>
#include <signal.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/mman.h>
#include <ucontext.h>
#include <unistd.h>

#include "process/runtime.h"

#define MAGIC UINT64_C(0x7372766c75614621)
#define STACK_SIZE (256 * 1024) /* building a log line takes 64 KiB; untouched pages cost nothing */
#define FRAMES_MAX 48
#define REPORT_MAX 16384
#define TRIES_MAX 4 /* of the hook, each after a fault in the one before */

static const struct {
    int number;
    const char *name;
} fatal_signals[] = {{SIGSEGV, "SIGSEGV"}, {SIGBUS, "SIGBUS"}, {SIGFPE, "SIGFPE"}, {SIGILL, "SIGILL"}, {SIGABRT, "SIGABRT"}};
#define FATAL_COUNT (sizeof fatal_signals / sizeof *fatal_signals)

struct sv_fault { /* at the base of the alternate stack */
    uint64_t magic;
    struct sv_runtime *rt;
    struct sv_stack_text *answer;
    pid_t pid, manager;
    sigjmp_buf guard;
    volatile sig_atomic_t is_guarded; /* a fault goes to `guard` */
    volatile sig_atomic_t is_reporting;
    struct sigaction former[FATAL_COUNT];
};

/* NULL on a stack that is not ours: a thread of the program's own, or the program has set another one. */
static struct sv_fault *fault_of(const void *context) {
    const ucontext_t *interrupted = context;
    struct sv_fault *fault = interrupted->uc_stack.ss_sp;
    if (interrupted->uc_stack.ss_flags & SS_DISABLE || !fault || fault->magic != MAGIC) return NULL;
    return fault->pid == getpid() ? fault : NULL; /* the program may have forked */
}

/* ------------------------------------------------------------------------------------------------ guarded reading */

static size_t whole_lines(const char *text, size_t size) {
    const char *end = memrchr(text, '\n', strnlen(text, size));
    return end ? (size_t)(end - text) : 0;
}

/* Has the hook write into the answer. If it faults each time, the lines it wrote until then have to do. */
static size_t write_stack(struct sv_fault *fault, const void *interrupted) {
    const struct sv_runtime_hooks *hooks = &fault->rt->hooks;
    char *text = fault->answer->text;
    size_t size = sizeof fault->answer->text;
    if (!hooks->write_stack) return 0;
    for (volatile int tries = 0; tries < TRIES_MAX; tries++) {
        memset(text, 0, size);
        if (sigsetjmp(fault->guard, 1) == 0) {
            fault->is_guarded = 1;
            size_t length = hooks->write_stack(hooks->context, text, size, interrupted);
            fault->is_guarded = 0;
            return length < size ? length : size;
        }
        fault->is_guarded = 0;
    }
    return whole_lines(text, size);
}

/* --------------------------------------------------------------------------------------------- asked by the manager */

static bool begin_answer(struct sv_stack_text *answer) {
    uint32_t version = atomic_load_explicit(&answer->version, memory_order_relaxed);
    if (version & 1) return false; /* we interrupted who writes it */
    atomic_store_explicit(&answer->version, version + 1, memory_order_relaxed);
    atomic_thread_fence(memory_order_release); /* before what follows */
    return true;
}

static void end_answer(struct sv_stack_text *answer, size_t length) {
    atomic_store_explicit(&answer->length, (uint32_t)length, memory_order_relaxed);
    atomic_store_explicit(&answer->version, atomic_load_explicit(&answer->version, memory_order_relaxed) + 1, memory_order_release);
}

static void on_ask(int signo, siginfo_t *info, void *context) {
    (void)signo;
    struct sv_fault *fault = fault_of(context);
    if (!fault || info->si_code != SI_QUEUE || info->si_pid != fault->manager) return;
    if (fault->is_guarded) siglongjmp(fault->guard, 1); /* asked again: what we read leads in circles, or we wait for a lock */
    int saved_errno = errno;
    if (begin_answer(fault->answer)) {
        atomic_store_explicit(&fault->answer->request, (uint32_t)info->si_value.sival_int, memory_order_relaxed);
        end_answer(fault->answer, write_stack(fault, context));
    }
    errno = saved_errno;
}

void sv_fault_improve(struct sv_runtime *rt, const char *text, size_t length) {
    struct sv_stack_text *answer = rt->fault ? rt->fault->answer : NULL;
    if (!answer || !begin_answer(answer)) return;
    if (length > sizeof answer->text) length = sizeof answer->text;
    memcpy(answer->text, text, length);
    end_answer(answer, length);
}

/* ------------------------------------------------------------------------------------------------------ fatal signals */

struct report {
    size_t length;
    char text[REPORT_MAX];
};

static void add(struct report *report, const char *text) {
    size_t length = strnlen(text, sizeof report->text - report->length);
    memcpy(report->text + report->length, text, length);
    report->length += length;
}

/* Where the signal came, NULL if that is not known on this machine. */
static void *address_of(const ucontext_t *interrupted) {
#if defined(__x86_64__)
    return (void *)(uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP];
#elif defined(__aarch64__)
    return (void *)(uintptr_t)interrupted->uc_mcontext.pc;
#else
    (void)interrupted;
    return NULL;
#endif
}

/* The unwinder may abort behind compiled Lua code; what it found until then is there. */
static int find_frames(struct sv_fault *fault, void *frames[FRAMES_MAX]) {
    memset(frames, 0, FRAMES_MAX * sizeof *frames);
    if (sigsetjmp(fault->guard, 1) == 0) {
        fault->is_guarded = 1;
        backtrace(frames, FRAMES_MAX);
    }
    fault->is_guarded = 0;
    int count = 0;
    while (count < FRAMES_MAX && frames[count]) count++;
    return count;
}

/* The C frames, one a line, by way of a file without a name: the C library writes them to a descriptor or allocates. */
static void add_frames(struct sv_fault *fault, struct report *report, const void *context) {
    void *frames[FRAMES_MAX];
    int count = find_frames(fault, frames), first = 0;
    while (first < count && frames[first] != address_of(context)) first++;
    if (first == count) first = 0;
    int fd = memfd_create("frames", MFD_CLOEXEC);
    if (fd < 0) return;
    if (sigsetjmp(fault->guard, 1) == 0) {
        fault->is_guarded = 1;
        backtrace_symbols_fd(frames + first, count - first, fd);
    }
    fault->is_guarded = 0;
    ssize_t length = pread(fd, report->text + report->length, sizeof report->text - report->length, 0);
    if (length > 0) report->length += (size_t)length;
    close(fd);
    while (report->length > 0 && report->text[report->length - 1] == '\n') report->length--;
}

static size_t index_of(int signo) {
    size_t index = 0;
    while (fatal_signals[index].number != signo) index++;
    return index;
}

static void write_report(struct sv_fault *fault, int signo, const siginfo_t *info, const void *context) {
    struct sv_runtime *rt = fault->rt;
    struct report report = {.length = 0};
    uint64_t serving = atomic_load_explicit(&rt->worker.life->serving, memory_order_relaxed);
    uint64_t session = serving & SV_TASK_KEY ? 0 : serving;
    int length = snprintf(report.text, sizeof report.text, "worker %d crashed: signal %d (%s)", rt->slot, signo,
                          fatal_signals[index_of(signo)].name);
    report.length = (size_t)length;
    char detail[96];
    if (info->si_code > 0)
        snprintf(detail, sizeof detail, ", address %p", info->si_addr);
    else
        snprintf(detail, sizeof detail, ", sent by process %d", (int)info->si_pid);
    add(&report, detail);
    if (session)
        snprintf(detail, sizeof detail, ", while it served session %llu", (unsigned long long)session);
    else
        snprintf(detail, sizeof detail, ", while it ran task %u", (uint32_t)serving);
    if (serving) add(&report, detail);
    add(&report, "\nC frames:\n");
    add_frames(fault, &report, context);
    add(&report, "\nstack traceback:\n");
    atomic_fetch_or(&fault->answer->version, 1); /* nobody reads it any more */
    size_t stack = write_stack(fault, context);
    if (stack > sizeof report.text - report.length) stack = sizeof report.text - report.length;
    memcpy(report.text + report.length, fault->answer->text, stack);
    report.length += stack;
    sv_log_from_signal(&rt->log, SRVLUA_LOG_ERROR, (int64_t)session, report.text, report.length);
}

/* Lets come what would have come without us. */
static void pass_on(const struct sv_fault *fault, int signo, const siginfo_t *info) {
    struct sigaction standard = {.sa_handler = SIG_DFL};
    sigaction(signo, fault ? &fault->former[index_of(signo)] : &standard, NULL);
    if (info->si_code <= 0) raise(signo); /* sent by somebody: nothing repeats it */
}

/* Who crashed may hold a lock that the unwinder wants. */
static void on_alarm(int signo, siginfo_t *info, void *context) {
    (void)signo, (void)info;
    struct sv_fault *fault = fault_of(context);
    if (!fault) return;
    alarm(1);
    if (fault->is_guarded) siglongjmp(fault->guard, 1);
}

static void set_alarm(void) {
    struct sigaction action = {.sa_sigaction = on_alarm, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SIGALRM);
    sigaction(SIGALRM, &action, NULL);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
    alarm(1);
}

static void on_fatal(int signo, siginfo_t *info, void *context) {
    struct sv_fault *fault = fault_of(context);
    if (fault && fault->is_guarded) siglongjmp(fault->guard, 1);
    int saved_errno = errno;
    if (fault && !fault->is_reporting) {
        fault->is_reporting = 1;
        set_alarm();
        write_report(fault, signo, info, context);
        fault->is_reporting = 0;
    }
    pass_on(fault, signo, info);
    errno = saved_errno;
}

/* --------------------------------------------------------------------------------------------------------- set-up */

void sv_fault_prepare(void) {
    void *frame;
    backtrace(&frame, 1); /* loads the unwinder, which allocates */
}

static void unblock(void) {
    sigset_t set;
    sigemptyset(&set);
    sigaddset(&set, SV_SIGNAL_ASK);
    for (size_t i = 0; i < FATAL_COUNT; i++) sigaddset(&set, fatal_signals[i].number);
    sigprocmask(SIG_UNBLOCK, &set, NULL);
}

static struct sv_fault *make_stack(void) {
    size_t page = (size_t)sysconf(_SC_PAGESIZE);
    unsigned char *base = mmap(NULL, page + STACK_SIZE, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (base == MAP_FAILED) return NULL;
    mprotect(base, page, PROT_NONE); /* only a precaution */
    stack_t stack = {.ss_sp = base + page, .ss_size = STACK_SIZE};
    if (sigaltstack(&stack, NULL) == 0) return stack.ss_sp;
    munmap(base, page + STACK_SIZE);
    return NULL;
}

int sv_fault_open(struct sv_runtime *rt) {
    struct sigaction ask = {.sa_handler = SIG_IGN};
    sigaction(SV_SIGNAL_ASK, &ask, NULL); /* its default would end the process */
    struct sv_fault *fault = make_stack();
    if (!fault) return -errno;
    fault->rt = rt;
    fault->answer = &rt->stacks[(uint32_t)rt->slot * 2 + rt->parity];
    fault->pid = getpid();
    fault->manager = getppid();
    fault->magic = MAGIC;
    atomic_store(&fault->answer->request, 0);
    if (atomic_load(&fault->answer->version) & 1) atomic_fetch_add(&fault->answer->version, 1); /* the former one died over it */
    rt->fault = fault;
    /* SA_NODEFER: a fault while we read is ours to catch, and a second request ends an endless first one */
    ask = (struct sigaction){.sa_sigaction = on_ask, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_RESTART | SA_NODEFER};
    struct sigaction fatal = {.sa_sigaction = on_fatal, .sa_flags = SA_SIGINFO | SA_ONSTACK | SA_NODEFER};
    sigaction(SV_SIGNAL_ASK, &ask, NULL);
    for (size_t i = 0; i < FATAL_COUNT; i++) sigaction(fatal_signals[i].number, &fatal, &fault->former[i]);
    unblock();
    return 0;
}
