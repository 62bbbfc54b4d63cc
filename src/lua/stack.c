/* stack.c: see stack.h. */
#include "lua/stack.h"

#include <signal.h>
#include <string.h>
#include <sys/resource.h>
#include <sys/wait.h>
#include <time.h>
#include <ucontext.h>
#include <unistd.h>


#define FIRST_LEVELS 12 /* of a deep stack, as luaL_traceback has it */
#define LAST_LEVELS 10
#define THREADS_MAX 8
#define TEXT_MAX 8000
#define PAGE_SIZE 4096
#define REACH (1 << 20)    /* exits lie near the code that uses them */
#define COPY_WAIT_MS 150   /* a copy of the process takes some milliseconds */

/* ----------------------------------------------------------------------------------------------------- the text */

struct text {
    char *bytes;
    size_t length, size;
};

static void add(struct text *text, const char *string) {
    while (*string && text->length < text->size)
        text->bytes[text->length++] = *string++;
}

static void add_number(struct text *text, int number) {
    char digits[16];
    int i = sizeof digits - 1;

    digits[i] = '\0';
    do
        digits[--i] = (char)('0' + number % 10);
    while ((number /= 10) > 0 && i > 0);
    add(text, digits + i);
}

static void add_place(struct text *text, const char *source, int line) {
    add(text, source);
    add(text, ":");
    add_number(text, line);
}

static void add_frame(struct text *text, const lua_Debug *frame) {
    add(text, "\t");
    if (frame->currentline > 0)
        add_place(text, frame->short_src, frame->currentline);
    else
        add(text, frame->short_src);
    if (*frame->what == 'm') {
        add(text, ": in main chunk");
    } else if (frame->name && *frame->namewhat) {
        add(text, ": in function '");
        add(text, frame->name);
        add(text, "'");
    } else if (*frame->what == 'C') {
        add(text, ": in a C function");
    } else {
        add(text, ": in function <");
        add_place(text, frame->short_src, frame->linedefined);
        add(text, ">");
    }
}

static int count_levels(lua_State *L) {
    lua_Debug frame;
    int low = 0, high = 1;

    while (lua_getstack(L, high, &frame)) {
        low = high;
        high *= 2;
    }
    while (low < high) {
        int middle = (low + high) / 2;
        if (lua_getstack(L, middle, &frame))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

static void add_frames(struct text *text, lua_State *L, bool is_compiled) {
    lua_Debug frame;
    int level, count = count_levels(L);

    for (level = 0; lua_getstack(L, level, &frame); level++) {
        if (level == FIRST_LEVELS && count - level > LAST_LEVELS) {
            add(text, "\t...\n");
            level = count - LAST_LEVELS;
            if (!lua_getstack(L, level, &frame))
                break;
        }
        lua_getinfo(L, "Sln", &frame);
        add_frame(text, &frame);
        add(text, level == 0 && is_compiled ? " (compiled)\n" : "\n");
    }
}

/* The frames of one of the threads that run. At a fault all of this is done again: then without that thread's. */
static void add_thread(struct sv_lua *lua, struct text *text, lua_State *L, lua_State *unreadable) {
    if (L == unreadable) {
        add(text, "\t(frames that cannot be read)\n");
        return;
    }
    lua->walked = L;
    add_frames(text, L, lua->copy_text && text->length == 0);
    lua->walked = NULL;
}

/* All that run, innermost first. `hooked`: the thread that certainly runs, or NULL. */
static size_t write_threads(struct sv_lua *lua, lua_State *hooked, char *bytes, size_t size) {
    const struct sv_lua_running *running = lua->running;
    lua_State *unreadable = lua->walked;
    struct text text = {bytes, 0, size};
    int count;

    if (!running || (hooked && running->L != hooked)) { /* resumed by a function that we did not replace */
        add_thread(lua, &text, hooked ? hooked : lua->L, unreadable);
        if (running)
            add(&text, "\t(resumed by)\n");
    }
    for (count = 0; running && count < THREADS_MAX; count++, running = running->outer) {
        add_thread(lua, &text, running->L, unreadable);
        add(&text, running->what ? "\t(" : "\t(resumed by)\n");
        if (!running->what)
            continue;
        add(&text, running->what);
        add(&text, ")\n");
    }
    lua->walked = NULL;
    return text.length;
}

/* --------------------------------------------------------------------------------------------------- at a safe point */

/* At the next instruction in the interpreter: nothing moves now. */
static void on_hook(lua_State *L, lua_Debug *event) {
    char text[TEXT_MAX];
    struct sv_lua *lua;

    (void)event;
    lua_getfield(L, LUA_REGISTRYINDEX, SV_LUA_STATE_NAME);
    lua = lua_touserdata(L, -1);
    lua_pop(L, 1);
    if (lua->copy_text) {
        write_threads(lua, L, lua->copy_text, lua->copy_size);
        _exit(0);
    }
    lua_sethook(L, lua->users_hook, lua->users_hook_mask, lua->users_hook_count);
    if (lua->server)
        srvlua_improve_stack(lua->server->server, text, write_threads(lua, L, text, sizeof text));
}

/* lua_sethook may be called in signal handlers. */
static void set_hook(struct sv_lua *lua) {
    if (lua_gethook(lua->L) == on_hook)
        return;
    lua->users_hook = lua_gethook(lua->L);
    lua->users_hook_mask = lua_gethookmask(lua->L);
    lua->users_hook_count = lua_gethookcount(lua->L);
    lua_sethook(lua->L, on_hook, LUA_MASKCOUNT, 1);
}

/* --------------------------------------------------------------------------------------------------- compiled code */

#if defined(__x86_64__)

/* Compiled code leaves by `jcc exit` (0F 8x, distance), where exits stand in a row: `push number; jmp` (6A nn EB nn). Number 0
 * is in every trace and restores the state at its beginning. NULL: `code` is not compiled Lua code. */
static const unsigned char *find_exit(const unsigned char *code) {
    const unsigned char *page = (const unsigned char *)((uintptr_t)code & ~(uintptr_t)(PAGE_SIZE - 1));
    int i;

    for (i = 0; i < PAGE_SIZE - 6; i++) {
        const unsigned char *jump = page + i, *exit;
        int32_t distance;
        if (jump[0] != 0x0f || (jump[1] & 0xf0) != 0x80)
            continue;
        memcpy(&distance, jump + 2, sizeof distance);
        exit = jump + 6 + distance;
        if (distance > REACH || distance < -REACH || exit[0] != 0x6a || exit[1] >= 32 || exit[2] != 0xeb)
            continue;
        exit -= 4 * exit[1];
        if (exit[0] == 0x6a && exit[1] == 0 && exit[2] == 0xeb)
            return exit;
    }
    return NULL;
}

/* What the copy does: takes the exit, and on_hook() has the stack. */
static void leave_compiled_code(struct sv_lua *lua, char *text, size_t size, const ucontext_t *interrupted,
                                const unsigned char *exit) {
    static const int deadly[] = {SIGSEGV, SIGBUS, SIGFPE, SIGILL, SIGABRT, SIGALRM};
    ucontext_t next; /* the kernel's is shorter */
    struct rlimit no_core = {0, 0};
    size_t i;

    memset(&next, 0, sizeof next);
    next.uc_mcontext = interrupted->uc_mcontext;
    next.__fpregs_mem = *interrupted->uc_mcontext.fpregs;
    next.uc_mcontext.fpregs = &next.__fpregs_mem;
    next.uc_mcontext.gregs[REG_RIP] = (greg_t)(uintptr_t)exit;
    memcpy(&next.uc_sigmask, &interrupted->uc_sigmask, (NSIG - 1) / 8);
    setrlimit(RLIMIT_CORE, &no_core);
    for (i = 0; i < sizeof deadly / sizeof deadly[0]; i++) {
        signal(deadly[i], SIG_DFL);
        sigdelset(&next.uc_sigmask, deadly[i]);
    }
    alarm(1);
    lua->copy_text = text;
    lua->copy_size = size;
    setcontext(&next);
    _exit(1);
}

static void end_copy(struct sv_lua *lua) {
    if (lua->copy_pid <= 0)
        return;
    kill(lua->copy_pid, SIGKILL);
    waitpid(lua->copy_pid, NULL, 0);
    lua->copy_pid = 0;
}

static bool has_copy_succeeded(struct sv_lua *lua) {
    const struct timespec pause = {0, 1000000};
    int i, status;

    for (i = 0; i < COPY_WAIT_MS; i++) {
        if (waitpid(lua->copy_pid, &status, WNOHANG) == lua->copy_pid) {
            lua->copy_pid = 0;
            return status == 0;
        }
        nanosleep(&pause, NULL);
    }
    return false;
}

/* Compiled code keeps the position, and the newest frames, to itself until it is left. That cannot be made to happen here, but in a
 * copy of this process, which writes into the same text if that is shared memory, and ends. */
static bool write_compiled(struct sv_lua *lua, char *text, size_t size, const ucontext_t *interrupted) {
    const unsigned char *exit;
    bool is_again = lua->is_searching, is_written = false; /* the search has faulted: this is no code of LuaJIT's */

    end_copy(lua); /* of a call that did not come to its end */
    lua->is_searching = !is_again;
    exit = is_again ? NULL : find_exit((const unsigned char *)(uintptr_t)interrupted->uc_mcontext.gregs[REG_RIP]);
    lua->is_searching = false;
    if (!exit)
        return false;
    lua->copy_pid = fork();
    if (lua->copy_pid == 0)
        leave_compiled_code(lua, text, size, interrupted, exit);
    if (lua->copy_pid > 0)
        is_written = has_copy_succeeded(lua);
    end_copy(lua);
    return is_written;
}

#else

static bool write_compiled(struct sv_lua *lua, char *text, size_t size, const ucontext_t *interrupted) {
    (void)lua, (void)text, (void)size, (void)interrupted;
    return false;
}

#endif

size_t sv_lua_write_stack(void *user_data, char *text, size_t size, const void *interrupted) {
    struct sv_lua *lua = user_data;

    set_hook(lua);
    if (write_compiled(lua, text, size, interrupted))
        return strnlen(text, size);
    memset(text, 0, size);
    return write_threads(lua, NULL, text, size);
}
