/* A worker gone mad under a running server (PROCESS): it sends records of every type with wild members and scribbles over its rings.
 * The master neither crashes nor hangs, and other clients go on being served. */
#include <arpa/inet.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "server/server.h"
#include "unit.h"

#define DEADLINE_S 20

static void send_wild_records(struct sv_runtime *rt, uint32_t reactor) {
    static const uint64_t ids[] = {0, 99, 70000, INT32_MAX, UINT32_MAX, UINT64_C(1) << 40, UINT64_MAX};
    struct sv_file_head head = {.offset = -5, .length = -1, .tag = 7};
    for (uint16_t type = 1; type < SV_RECORD_TYPES + 5; type++)
        for (size_t i = 0; i < sizeof ids / sizeof *ids; i++)
            for (int32_t value = -1; value <= 1; value++) sv_send(&rt->endpoint, reactor, type, ids[i], value, &head, sizeof head);
    sv_kick(&rt->endpoint, reactor);
}

static void scribble(struct sv_runtime *rt, uint32_t reactor) {
    struct sv_ring *ring = sv_ipc_ring(&rt->ipc, reactor, rt->endpoint.id);
    for (int i = 0; i < 5000; i++) ring->data[(unsigned)rand() % ring->size] = (unsigned char)rand();
    for (int i = 0; i < 20; i++) {
        sv_send(&rt->endpoint, reactor, SV_RECORD_PAUSE, 1 << 20, 0, "abc", 3);
        atomic_fetch_add(&ring->tail, (uint64_t)rand() << (rand() % 20));
        sv_kick(&rt->endpoint, reactor);
        usleep(1000);
    }
}

static int on_receive(srvlua_server *server, const struct srvlua_event_data *event, void *unused) {
    (void)unused;
    uint32_t reactor = sv_endpoint_of_reactor(0);
    char order = event->length == 1 ? *(const char *)event->data : '\0';
    if (order == 'r') send_wild_records(&server->rt, reactor);
    if (order == 's') {
        scribble(&server->rt, reactor);
        _exit(1);
    }
    srvlua_send(server, event->fd, event->data, event->length, NULL);
    return 0;
}

static int tell_port(srvlua_server *server, const struct srvlua_event_data *event, void *channel) {
    (void)event;
    struct srvlua_port_info info;
    srvlua_port_get_info(srvlua_get_port(server, 0), &info);
    return write(*(int *)channel, &info.port, sizeof info.port) != sizeof info.port;
}

static int tell_start(srvlua_server *server, const struct srvlua_event_data *event, void *births) {
    (void)server, (void)event;
    return write(*(int *)births, "w", 1) != 1;
}

static void run_server(int channel, int births) {
    struct srvlua_status status;
    srvlua_server *server = srvlua_new("127.0.0.1", 0, SRVLUA_PROCESS, SRVLUA_SOCK_TCP, &status);
    const struct srvlua_setting settings[] = {
        {.name = "worker_num", .value = {.type = SRVLUA_VALUE_NUMBER, .number = 2}},
        {.name = "reactor_num", .value = {.type = SRVLUA_VALUE_NUMBER, .number = 1}},
        {.name = "log_level", .value = {.type = SRVLUA_VALUE_STRING, .string = "none", .length = 4}},
    };
    int result = -1;
    if (server && !srvlua_set(server, settings, sizeof settings / sizeof *settings, &status) &&
        !srvlua_on(server, SRVLUA_ON_START, tell_port, &channel, &status) &&
        !srvlua_on(server, SRVLUA_ON_WORKER_START, tell_start, &births, &status) &&
        !srvlua_on(server, SRVLUA_ON_RECEIVE, on_receive, NULL, &status))
        result = srvlua_start(server, &status);
    if (result) fprintf(stderr, "%s\n", status.message);
    _exit(result ? 1 : 0);
}

static int connect_to(int port) {
    struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)port), .sin_addr.s_addr = htonl(INADDR_LOOPBACK)};
    int client = socket(AF_INET, SOCK_STREAM, 0);
    struct timeval patience = {.tv_sec = DEADLINE_S};
    setsockopt(client, SOL_SOCKET, SO_RCVTIMEO, &patience, sizeof patience);
    return connect(client, (struct sockaddr *)&address, sizeof address) ? -1 : client;
}

static bool is_echoed(int client, const char *text) {
    char answer[64];
    size_t length = strlen(text), got = 0;
    if (write(client, text, length) != (ssize_t)length) return false;
    while (got < length) {
        ssize_t part = read(client, answer + got, sizeof answer - got);
        if (part <= 0) return false;
        got += (size_t)part;
    }
    return memcmp(answer, text, length) == 0;
}

TEST(a_mad_worker_takes_nobody_along) {
    int channel[2], births[2], port = 0, status = -1;
    char birth;
    if (pipe(channel) || pipe(births)) exit(1);
    pid_t server = fork();
    if (server == 0) run_server(channel[1], births[1]);
    close(channel[1]);
    close(births[1]);
    for (int i = 0; i < 2; i++) CHECK(read(births[0], &birth, 1) == 1);
    CHECK(read(channel[0], &port, sizeof port) == sizeof port);
    int clients[4]; /* two for each worker */
    for (int i = 0; i < 4; i++) CHECK((clients[i] = connect_to(port)) >= 0 && is_echoed(clients[i], "hello"));
    CHECK(is_echoed(clients[0], "r"));
    for (int i = 0; i < 4; i++) CHECK(is_echoed(clients[i], "still here"));
    for (int round = 0; round < 8; round++) {
        CHECK(write(clients[0], "s", 1) == 1);
        for (int i = 1; i < 4; i++) CHECK(is_echoed(clients[i], "and here"));
        CHECK(read(births[0], &birth, 1) == 1);
        CHECK(is_echoed(clients[0], "again")); /* by its worker's successor, through the same ring */
    }
    int late = connect_to(port);
    CHECK(is_echoed(late, "new ones too"));
    close(late);
    for (int i = 0; i < 4; i++) close(clients[i]);
    kill(server, SIGTERM);
    CHECK(waitpid(server, &status, 0) == server && WIFEXITED(status) && WEXITSTATUS(status) == 0);
    close(channel[0]);
    close(births[0]);
}
