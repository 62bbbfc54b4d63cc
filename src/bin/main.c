/* main.c: the launcher, `srvlua [options] app.lua [args...]`.
 *
 * Makes a Lua state, puts the project's modules on its path, runs one file or chunk and turns its outcome into an exit
 * status. All of the server is in the library and the binding; the launcher only tells the binding, through two fields
 * of the registry, the script's name ("srvlua.script") and that start() shall only check ("srvlua.check").
 *
 * runs in: the process the user started, before and after the server. Server processes leave inside the library. */
#include <errno.h>
#include <libgen.h>
#include <limits.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lauxlib.h>
#include <lua.h>
#include <luajit.h>
#include <lualib.h>

#include "srvlua.h"

enum { EXIT_USAGE = 2 };

/* clang-format off */
static const char usage[] =
    "usage: srvlua [options] app.lua [args...]\n"
    "  app.lua        run this file; - is standard input; arg[1], arg[2]... are its arguments\n"
    "  -e CHUNK       run this text instead of a file\n"
    "  -c, --check    run the file, but let server:start() only check settings and callbacks\n"
    "  -h, --help     show this help\n"
    "  -v, --version  show the version\n"
    "  --             end of the options\n";
/* clang-format on */

struct options {
    const char *chunk;  /* text of -e, or NULL */
    const char *script; /* path of the file, "-", or NULL with -e */
    char **arguments;   /* what the script is given: the rest of argv */
    int argument_count;
    bool is_check;
    bool is_answered; /* --help or --version was served: nothing to run */
};

/* The binding (src/lua), linked in and found by require under this name. */
int luaopen_srvlua_core(lua_State *L);

/* ---------------------------------------------------------------------------------------------------- command line */

static int refuse(const char *format, const char *what) {
    fputs("srvlua: ", stderr);
    fprintf(stderr, format, what);
    fputs(" (srvlua --help)\n", stderr);
    return EXIT_USAGE;
}

/* Fills *options; returns 0 or the exit status of a wrong command line. */
static int parse_options(int argc, char **argv, struct options *options) {
    int i = 1;
    for (; i < argc && argv[i][0] == '-' && argv[i][1] != '\0'; i++) {
        const char *option = argv[i];
        if (strcmp(option, "--") == 0) {
            i++;
            break;
        }
        if (strcmp(option, "-h") == 0 || strcmp(option, "--help") == 0) {
            fputs(usage, stdout);
            options->is_answered = true;
            return 0;
        }
        if (strcmp(option, "-v") == 0 || strcmp(option, "--version") == 0) {
            puts("srvlua " SRVLUA_VERSION " (" LUAJIT_VERSION ")");
            options->is_answered = true;
            return 0;
        }
        if (strcmp(option, "-c") == 0 || strcmp(option, "--check") == 0) {
            options->is_check = true;
        } else if (strcmp(option, "-e") == 0) {
            if (options->chunk != NULL)
                return refuse("%s was given twice", option);
            if (i + 1 == argc)
                return refuse("%s needs a chunk of Lua", option);
            options->chunk = argv[++i];
        } else if (strcmp(option, "--watch") == 0) {
            return refuse("%s is not supported yet", option);
        } else {
            return refuse("unknown option '%s'", option);
        }
    }
    if (options->chunk == NULL) {
        if (i == argc)
            return refuse("%s", "no file was given");
        if (strcmp(argv[i], "serve") == 0 || strcmp(argv[i], "ctl") == 0)
            return refuse("'%s' is not supported yet", argv[i]);
        options->script = argv[i++];
    }
    options->arguments = argv + i;
    options->argument_count = argc - i;
    return 0;
}

/* ---------------------------------------------------------------------------------------------------- module search */

/* Resolves home/relative into `directory`; true if srvlua's Lua modules are there. */
static bool has_modules(const char *home, const char *relative, char directory[PATH_MAX]) {
    char path[2 * PATH_MAX];
    snprintf(path, sizeof path, "%s/%s", home, relative);
    if (realpath(path, directory) == NULL)
        return false;
    snprintf(path, sizeof path, "%s/srvlua/init.lua", directory);
    return access(path, R_OK) == 0;
}

/* Puts `templates` before package[field]. */
static void prepend_search(lua_State *L, const char *field, const char *templates) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, field);
    lua_pushfstring(L, "%s;%s", templates, lua_isstring(L, -1) ? lua_tostring(L, -1) : "");
    lua_setfield(L, -3, field);
    lua_pop(L, 2);
}

static void prepend_lua_directory(lua_State *L, const char *directory) {
    prepend_search(L, "path", lua_pushfstring(L, "%s/?.lua;%s/?/init.lua", directory, directory));
    lua_pop(L, 1);
}

/* Where the modules are follows from where this program is, so that a tree may be moved or staged:
 *   CHECKOUT/build/srvlua         CHECKOUT/lua                          (build/asan/srvlua: one folder deeper)
 *   PREFIX/bin/srvlua             PREFIX/share/lua/5.1, PREFIX/lib/lua/5.1
 * What is found goes before what LUA_PATH and the interpreter's defaults say, the build tree first. */
static void extend_search(lua_State *L) {
    char program[PATH_MAX], directory[PATH_MAX];
    ssize_t length = readlink("/proc/self/exe", program, sizeof program - 1);
    if (length < 0)
        return; /* no /proc: LUA_PATH has to do */
    program[length] = '\0';
    const char *home = dirname(program);

    if (has_modules(home, "../share/lua/5.1", directory)) {
        prepend_lua_directory(L, directory);
        prepend_search(L, "cpath", lua_pushfstring(L, "%s/../../../lib/lua/5.1/?.so", directory));
        lua_pop(L, 1);
    }
    if (has_modules(home, "../lua", directory) || has_modules(home, "../../lua", directory))
        prepend_lua_directory(L, directory);
}

static void preload_core(lua_State *L) {
    lua_getglobal(L, "package");
    lua_getfield(L, -1, "preload");
    lua_pushcfunction(L, luaopen_srvlua_core);
    lua_setfield(L, -2, "srvlua.core");
    lua_pop(L, 2);
}

/* ------------------------------------------------------------------------------------------------------ running it */

/* Message handler: the error as text, then the traceback. */
static int add_traceback(lua_State *L) {
    if (!lua_isstring(L, 1)) {
        if (lua_istable(L, 1) && !luaL_getmetafield(L, 1, "__tostring")) {
            lua_getfield(L, 1, "message");
            if (lua_isstring(L, -1))
                lua_replace(L, 1);
        }
        lua_settop(L, 1);
        if (!lua_isstring(L, 1)) {
            lua_getglobal(L, "tostring");
            lua_insert(L, 1);
            lua_call(L, 1, 1);
        }
    }
    luaL_traceback(L, L, lua_tostring(L, 1), 1);
    return 1;
}

/* arg[0] is the script (or this program, for a chunk), arg[1]... what follows it. */
static void set_arguments(lua_State *L, const char *name, int count, char **arguments) {
    lua_createtable(L, count, 1);
    lua_pushstring(L, name);
    lua_rawseti(L, -2, 0);
    for (int i = 0; i < count; i++) {
        lua_pushstring(L, arguments[i]);
        lua_rawseti(L, -2, i + 1);
    }
    lua_setglobal(L, "arg");
}

static void tell_binding(lua_State *L, const char *name, bool is_check) {
    lua_pushstring(L, name);
    lua_setfield(L, LUA_REGISTRYINDEX, "srvlua.script");
    lua_pushboolean(L, is_check);
    lua_setfield(L, LUA_REGISTRYINDEX, "srvlua.check");
}

/* Pushes the chunk, or a message. Returns 0 or the error of lua_load. */
static int load_script(lua_State *L, const struct options *options) {
    if (options->chunk != NULL)
        return luaL_loadbuffer(L, options->chunk, strlen(options->chunk), "=(command line)");
    if (strcmp(options->script, "-") == 0)
        return luaL_loadfile(L, NULL);
    if (access(options->script, R_OK) != 0) {
        lua_pushfstring(L, "cannot open %s: %s", options->script, strerror(errno));
        return LUA_ERRFILE;
    }
    return luaL_loadfile(L, options->script);
}

static int run_script(lua_State *L, const char *program, const struct options *options) {
    const char *name = options->chunk != NULL ? "(command line)" : options->script;

    set_arguments(L, options->chunk != NULL ? program : name, options->argument_count, options->arguments);
    tell_binding(L, name, options->is_check);

    if (!lua_checkstack(L, options->argument_count + LUA_MINSTACK)) {
        fputs("srvlua: too many arguments\n", stderr);
        return EXIT_FAILURE;
    }
    lua_pushcfunction(L, add_traceback);
    int error = load_script(L, options);
    if (error == 0) {
        for (int i = 0; i < options->argument_count; i++)
            lua_pushstring(L, options->arguments[i]);
        error = lua_pcall(L, options->argument_count, 0, 1);
    }
    if (error != 0) {
        const char *message = lua_tostring(L, -1);
        fflush(stdout);
        fprintf(stderr, "srvlua: %s\n", message != NULL ? message : "error without a message");
        return EXIT_FAILURE;
    }
    if (options->is_check) /* the file came to its end without start() */
        printf("%s: ok\n", name);
    return EXIT_SUCCESS;
}

int main(int argc, char **argv) {
    struct options options = {0};
    int status = parse_options(argc, argv, &options);
    if (status != 0 || options.is_answered)
        return status;

    lua_State *L = luaL_newstate();
    if (L == NULL) {
        fputs("srvlua: not enough memory for a Lua state\n", stderr);
        return EXIT_FAILURE;
    }
    /* A server's lines are wanted when they are written, into a pipe or a file too, and whole among other processes'. */
    setvbuf(stdout, NULL, _IOLBF, BUFSIZ);
    luaL_openlibs(L);
    extend_search(L);
    preload_core(L);
    status = run_script(L, argv[0], &options);
    lua_close(L);
    return status;
}
