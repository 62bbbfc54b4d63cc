/* echo.c [port [BASE|PROCESS]]: an echo server in C, without Lua: what a host program of the library looks like.
 *
 * Built by `make embed` into build/embed/echo; against an installed library:
 *     cc echo.c $(pkg-config --cflags --libs srvlua) -o echo    # and ldconfig, once after the library was installed
 *
 * Everything is set up in the process that calls srvlua_start(). The server then forks; each callback runs in the one
 * thread of whichever process it belongs to. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "srvlua.h"

static int print_address(srvlua_server *server, const struct srvlua_event_data *event, void *greeting) {
    (void)event;
    struct srvlua_port_info info;
    srvlua_port_get_info(srvlua_get_port(server, 0), &info);
    printf("%s on %s:%d\n", (const char *)greeting, info.host, info.port);
    fflush(stdout);
    return 0;
}

/* A send that fails is no error of the callback: the client may be gone, and then `close` tells. */
static int send_back(srvlua_server *server, const struct srvlua_event_data *event, void *unused) {
    (void)unused;
    struct srvlua_status status;
    if (srvlua_send(server, event->fd, event->data, event->length, &status) < 0)
        srvlua_log(server, SRVLUA_LOG_WARNING, "connection %lld: %s", (long long)event->fd, status.message);
    return 0;
}

static int fail(srvlua_server *server, const struct srvlua_status *status) {
    fprintf(stderr, "echo: %s (%d)\n", status->message, status->code);
    srvlua_free(server);
    return EXIT_FAILURE;
}

int main(int argc, char **argv) {
    int port = argc > 1 ? atoi(argv[1]) : 9501;
    int mode = argc > 2 && strcmp(argv[2], "BASE") == 0 ? SRVLUA_BASE : SRVLUA_PROCESS;
    struct srvlua_status status;

    srvlua_server *server = srvlua_new("127.0.0.1", port, mode, SRVLUA_SOCK_TCP, &status);
    if (server == NULL)
        return fail(NULL, &status);

    const struct srvlua_setting settings[] = {
        SRVLUA_SET_NUMBER("worker_num", 1),
        SRVLUA_SET_BOOLEAN("open_tcp_nodelay", 1),
        SRVLUA_SET_STRING("log_level", "warning"),
    };
    if (srvlua_set(server, settings, sizeof settings / sizeof settings[0], &status) < 0 ||
        srvlua_on(server, SRVLUA_ON_START, print_address, "echo", &status) < 0 ||
        srvlua_on(server, SRVLUA_ON_RECEIVE, send_back, NULL, &status) < 0 || srvlua_start(server, &status) < 0)
        return fail(server, &status);

    srvlua_free(server);
    return EXIT_SUCCESS;
}
