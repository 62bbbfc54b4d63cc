/* host.c MODE LOG: a C program around the library, for embed_spec.lua. Checks what srvlua.h promises a host, prints a line for
 * each check that fails, and at last "done". Five servers run in it, one after the other; the third one is shut down by a user
 * process, the others by their worker. */
#include <dirent.h>
#include <errno.h>
#include <netinet/in.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "srvlua.h"

static void check(int holds, const char *what, int line) {
    if (!holds)
        printf("line %d: %s\n", line, what);
}
#define CHECK(condition) check((condition) != 0, #condition, __LINE__)

static int count_descriptors(void) {
    int count = 0;
    DIR *directory = opendir("/proc/self/fd");
    while (directory && readdir(directory))
        count++;
    if (directory)
        closedir(directory);
    return count;
}

static void on_own_signal(int signo) { (void)signo; }

/* What the callbacks are given to write to: host and server processes write to the same pipe. */
struct host {
    int pipe[2];
    int lives[2]; /* a letter for each life of the user process */
    int calls;
};

static void tell(const struct host *host, char letter) {
    if (write(host->pipe[1], &letter, 1) != 1)
        abort();
}

static void ask(srvlua_server *server, struct host *host);

static int on_start(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    CHECK(event->event == SRVLUA_ON_START && srvlua_get_loop(server) != NULL);
    tell(user_data, 's');
    ask(server, user_data);
    return 0;
}

static int shut_down(srvlua_loop *loop, int64_t id, void *server) {
    (void)loop;
    CHECK(id >= 1);
    CHECK(srvlua_shutdown(server, NULL) == 0);
    return 0;
}

static void say_released(void *server) { srvlua_log(server, SRVLUA_LOG_NOTICE, "the timer is released"); }

/* Commands: asked by the master, in BASE by the worker itself, which is answered at once. */
static void answer_command(srvlua_server *server, const struct srvlua_command_request *request, void *user_data) {
    (void)user_data;
    CHECK(srvlua_get_worker_id(server) == 0 && strcmp(request->name, "reverse") == 0 && request->length == 3);
    CHECK(request->flags == SRVLUA_TASK_SERIALIZE);
    const char *data = request->data;
    const char reversed[] = {data[2], data[1], data[0]};
    srvlua_command_reply(server, reversed, sizeof reversed);
    srvlua_command_reply(server, "a second one", 12); /* is none */
}

static int on_answer(srvlua_server *server, int code, const void *data, size_t length, void *user_data) {
    CHECK(srvlua_get_role(server) == (srvlua_get_mode(server) == SRVLUA_BASE ? SRVLUA_ROLE_WORKER : SRVLUA_ROLE_MASTER));
    CHECK(code == 0 && length == 3 && memcmp(data, "cba", 3) == 0);
    tell(user_data, 'c');
    return 0;
}

static void ask(srvlua_server *server, struct host *host) {
    struct srvlua_command_request request = {.name = "reverse", .data = "abc", .length = 3, .flags = SRVLUA_TASK_SERIALIZE};
    struct srvlua_status status;
    CHECK(srvlua_command(server, &request, 0, SRVLUA_COMMAND_EVENT_WORKER, on_answer, host, &status) == 0);
    CHECK(srvlua_command(server, &request, 1, SRVLUA_COMMAND_EVENT_WORKER, on_answer, host, &status) == -505);
    CHECK(srvlua_command(server, &request, 0, SRVLUA_COMMAND_MANAGER, on_answer, host, &status) == -507);
    request.name = "other";
    CHECK(srvlua_command(server, &request, 0, SRVLUA_COMMAND_EVENT_WORKER, on_answer, host, &status) == -9012);
}

static int on_worker_start(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    struct srvlua_stat stats[64];
    struct srvlua_value value;
    CHECK(event->worker_id == 0 && srvlua_get_worker_id(server) == 0);
    CHECK(srvlua_get_role(server) == SRVLUA_ROLE_WORKER && srvlua_get_worker_pid(server, -1, NULL) == getpid());
    CHECK(srvlua_stats(server, stats, 64, NULL) > 20);
    CHECK(srvlua_get_setting(server, "worker_num", &value) == 0 && value.number == 1);
    CHECK(srvlua_set(server, NULL, 0, NULL) == -SRVLUA_ERROR_WRONG_OPERATION);
    CHECK(srvlua_start(server, NULL) == -SRVLUA_ERROR_WRONG_OPERATION);
    tell(user_data, 'w');
    CHECK(srvlua_timer_add(srvlua_get_loop(server), 10, 0, shut_down, server, say_released) >= 1);
    return 0;
}

static int on_receive(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    (void)server, (void)event, (void)user_data;
    return 0;
}

static int on_shutdown(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    (void)server, (void)event;
    ((struct host *)user_data)->calls++;
    return 1; /* a failing callback changes nothing here */
}

static void run_server(int mode, const char *log, struct host *host) {
    struct srvlua_status status = {0};
    srvlua_server *server = srvlua_new("127.0.0.1", 0, mode, SRVLUA_SOCK_TCP, &status);
    CHECK(server != NULL && srvlua_get_role(server) == SRVLUA_ROLE_BEFORE);
    const struct srvlua_setting settings[] = {
        SRVLUA_SET_NUMBER("worker_num", 1),
        SRVLUA_SET_STRING("log_file", log),
        {.name = "log_date_format", .value = {.type = SRVLUA_VALUE_STRING, .string = "DATExxx", .length = 4}},
    };
    CHECK(srvlua_set(server, settings, 3, &status) == 0);
    CHECK(srvlua_stats(server, NULL, 0, &status) == -SRVLUA_ERROR_WRONG_OPERATION && status.code == 509 &&
          status.message[0]);
    CHECK(srvlua_send(server, 1, "x", 1, &status) == -SRVLUA_ERROR_WRONG_OPERATION && srvlua_last_error(server) == 509);
    CHECK(srvlua_check(server, &status) == -SRVLUA_ERROR_SERVER_INVALID_CALLBACK); /* receive is missing */
    CHECK(srvlua_on(server, SRVLUA_ON_RECEIVE, on_receive, host, &status) == 0 && srvlua_check(server, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_START, on_start, host, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_WORKER_START, on_worker_start, host, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_SHUTDOWN, on_shutdown, host, &status) == 0);
    CHECK(srvlua_get_loop(server) == NULL);
    CHECK(srvlua_add_command(server, "reverse", SRVLUA_COMMAND_EVENT_WORKER, answer_command, NULL, &status) == 0);
    CHECK(srvlua_add_command(server, "reverse", SRVLUA_COMMAND_MASTER, answer_command, NULL, &status) == -505);
    CHECK(srvlua_add_command(server, "none", 0, answer_command, NULL, &status) == -505);
    CHECK(srvlua_add_command(server, "thread", SRVLUA_COMMAND_REACTOR_THREAD, answer_command, NULL, &status) == -505);
    const struct srvlua_command_request early = {.name = "reverse"};
    CHECK(srvlua_command(server, &early, 0, SRVLUA_COMMAND_EVENT_WORKER, on_answer, host, &status) == -509);

    int calls = host->calls;
    CHECK(srvlua_start(server, &status) == 0);
    CHECK(host->calls == calls + 1 && srvlua_get_role(server) == SRVLUA_ROLE_AFTER);
    CHECK(srvlua_start(server, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    CHECK(srvlua_get_loop(server) == NULL && srvlua_get_master_pid(server) == 0);
    char letters[4] = "";
    CHECK(read(host->pipe[0], letters, 3) == 3 && strchr(letters, 's') && strchr(letters, 'w') && strchr(letters, 'c'));
    srvlua_free(server);
}

/* ---- a server with user processes, which is shut down by one of them */

static int on_program_signal(srvlua_loop *loop, int signo, void *user_data) {
    (void)loop;
    CHECK(signo == SIGUSR1);
    ++*(int *)user_data;
    return 0;
}

static int wait_for_end(srvlua_server *server, int process_id, void *user_data) {
    (void)server, (void)user_data;
    CHECK(process_id == 1);
    while (pause())
        ; /* until SIGTERM, which is not the host's here */
    return 0;
}

/* The first life of the process fails, the second ends well, the third ends the server. */
static int run_process(srvlua_server *server, int process_id, void *user_data) {
    struct host *host = user_data;
    struct srvlua_status status;
    srvlua_loop *loop = srvlua_get_loop(server);
    int signals = 0;
    char life = '1';
    CHECK(process_id == 2 && srvlua_get_process_id(server) == 2 && srvlua_get_worker_id(server) == -1);
    CHECK(srvlua_get_role(server) == SRVLUA_ROLE_USER && srvlua_get_worker_pid(server, 2, NULL) == getpid());
    CHECK(srvlua_stop(server, -1, 0, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    CHECK(srvlua_send(server, 77, "x", 1, &status) == -SRVLUA_ERROR_SESSION_NOT_EXIST);
    CHECK(srvlua_signal(loop, SIGUSR1, on_program_signal, &signals, &status) == 0);
    CHECK(srvlua_signal(loop, SIGKILL, on_program_signal, &signals, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    CHECK(kill(getpid(), SIGUSR1) == 0);
    while (!signals)
        srvlua_loop_turn(loop, -1);
    CHECK(srvlua_signal(loop, SIGUSR1, NULL, NULL, &status) == 0);
    CHECK(srvlua_signal(loop, SIGUSR1, NULL, NULL, &status) == -SRVLUA_ERROR_INVALID_PARAMS);
    CHECK(read(host->lives[0], &life, 1) == 1);
    if (life != '3')
        return life == '1' ? 7 : 0;
    CHECK(srvlua_shutdown(server, &status) == 0);
    while (pause())
        ;
    return 0;
}

static int on_worker_error(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    (void)server;
    CHECK(event->worker_id == 2 && event->exit_code == 7 && event->signal == 0);
    tell(user_data, 'e');
    return 0;
}

static void run_user_processes(int mode, const char *log, struct host *host) {
    struct srvlua_status status = {0};
    srvlua_server *server = srvlua_new("127.0.0.1", 0, mode, SRVLUA_SOCK_TCP, &status);
    const struct srvlua_setting settings[] = {
        SRVLUA_SET_NUMBER("worker_num", 1),
        SRVLUA_SET_STRING("log_file", log),
        {.name = "log_date_format", .value = {.type = SRVLUA_VALUE_STRING, .string = "DATExxx", .length = 4}},
    };
    CHECK(srvlua_set(server, settings, 3, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_RECEIVE, on_receive, host, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_WORKER_ERROR, on_worker_error, host, &status) == 0);
    CHECK(srvlua_get_process_id(server) == -1);
    CHECK(srvlua_add_process(server, wait_for_end, host, &status) == 0);
    CHECK(srvlua_add_process(server, run_process, host, &status) == 1);
    CHECK(write(host->lives[1], "123", 3) == 3);
    CHECK(srvlua_start(server, &status) == 0);
    CHECK(srvlua_add_process(server, run_process, host, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    char letter = '\0';
    CHECK(read(host->pipe[0], &letter, 1) == 1 && letter == 'e');
    srvlua_free(server);
}

/* ---- a server with a task worker: task, result, a second result, message there and back, end */

static int on_task(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    struct srvlua_task_origin origin;
    struct srvlua_status status;
    (void)user_data;
    CHECK(srvlua_get_role(server) == SRVLUA_ROLE_TASK && event->worker_id == 1 && event->source_worker_id == 0);
    CHECK(event->flags & SRVLUA_TASK_SERIALIZE && event->dispatch_time > 1e9);
    CHECK(srvlua_get_task_origin(server, &origin, &status) == 0 && origin.task_id == event->task_id);
    CHECK(srvlua_task_finish(server, &origin, event->data, event->length, 0, &status) == 0);
    CHECK(srvlua_task_finish(server, &origin, "a second one", 12, 0, &status) == 0); /* is dropped */
    CHECK(srvlua_task(server, "x", 1, &(struct srvlua_task_options){.dst = -1}, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    return 0;
}

static int on_result(srvlua_server *server, const struct srvlua_task_result *result, void *user_data) {
    struct srvlua_status status;
    CHECK(result->code == 0 && result->length == 100000 && memcmp(result->data, "tttt", 4) == 0);
    CHECK(result->task_worker_id == 1 && result->dispatch_time > 1e9 && !(result->flags & SRVLUA_TASK_SERIALIZE));
    tell(user_data, 'r');
    CHECK(srvlua_send_message(server, 1, "hello", 5, SRVLUA_TASK_SERIALIZE, &status) == 0);
    CHECK(srvlua_send_message(server, 0, "to myself", 9, 0, &status) == -SRVLUA_ERROR_INVALID_PARAMS);
    CHECK(srvlua_send_message(server, 2, "nobody", 6, 0, &status) == -SRVLUA_ERROR_INVALID_PARAMS);
    return 0;
}

static int on_message(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    struct srvlua_status status;
    CHECK(event->length == 5 && memcmp(event->data, "hello", 5) == 0 && event->dispatch_time > 1e9);
    if (event->worker_id == 1) {
        CHECK(event->source_worker_id == 0 && event->flags == SRVLUA_TASK_SERIALIZE);
        CHECK(srvlua_send_message(server, 0, event->data, event->length, 0, &status) == 0);
        return 0;
    }
    CHECK(event->worker_id == 0 && event->source_worker_id == 1 && event->flags == 0);
    tell(user_data, 'm');
    CHECK(srvlua_shutdown(server, &status) == 0);
    return 0;
}

static int give_tasks(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    static char data[100000];
    struct srvlua_status status;
    struct srvlua_task_options options = {
        .dst = 0, .flags = SRVLUA_TASK_SERIALIZE, .callback = on_result, .user_data = user_data, .timeout = 10};
    if (event->worker_id != 0)
        return 0;
    memset(data, 't', sizeof data);
    int64_t forgotten = srvlua_task(server, "", 0, &options, &status), id = srvlua_task(server, data, sizeof data, &options, &status);
    CHECK(forgotten >= 0 && id >= 0 && forgotten != id);
    srvlua_task_forget(server, forgotten);
    options.dst = 1;
    CHECK(srvlua_task(server, "", 0, &options, &status) == -SRVLUA_ERROR_INVALID_PARAMS);
    return 0;
}

static void run_tasks(int mode, const char *log, struct host *host) {
    struct srvlua_status status = {0};
    srvlua_server *server = srvlua_new("127.0.0.1", 0, mode, SRVLUA_SOCK_TCP, &status);
    const struct srvlua_setting settings[] = {
        SRVLUA_SET_NUMBER("worker_num", 1),
        SRVLUA_SET_NUMBER("task_worker_num", 1),
        SRVLUA_SET_STRING("log_file", log),
        {.name = "log_date_format", .value = {.type = SRVLUA_VALUE_STRING, .string = "DATExxx", .length = 4}},
    };
    CHECK(srvlua_set(server, settings, 4, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_RECEIVE, on_receive, host, &status) == 0);
    CHECK(srvlua_check(server, &status) == -SRVLUA_ERROR_SERVER_INVALID_CALLBACK); /* task is missing */
    CHECK(srvlua_on(server, SRVLUA_ON_TASK, on_task, host, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_PIPE_MESSAGE, on_message, host, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_WORKER_START, give_tasks, host, &status) == 0);
    CHECK(srvlua_task(server, "x", 1, &(struct srvlua_task_options){.dst = -1}, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    CHECK(srvlua_send_message(server, 0, "x", 1, 0, &status) == -SRVLUA_ERROR_WRONG_OPERATION);
    CHECK(srvlua_start(server, &status) == 0);
    char letters[3] = "";
    CHECK(read(host->pipe[0], letters, 2) == 2 && memcmp(letters, "rm", 2) == 0);
    srvlua_free(server);
}

/* ------------------------------------------------------------------------------------------ packets by own measures */

struct measured {
    int made, freed, received, closed;
    int clients[3]; /* the worker is its own client */
};

static int64_t by_digit(srvlua_reactor *reactor, void *context, const void *data, size_t length, struct srvlua_status *status) {
    CHECK(context == NULL && length >= 1 && status->message[0] == '\0');
    CHECK(srvlua_reactor_id(reactor) == 0 && srvlua_reactor_server(reactor) != NULL);
    return *(const char *)data - '0';
}

static int make_measure(srvlua_reactor *reactor, void *user_data, void **context, struct srvlua_status *status) {
    struct measured *measured = user_data;
    (void)status;
    CHECK(srvlua_reactor_id(reactor) == 0);
    measured->made++;
    *context = measured;
    return 0;
}

static void free_measure(void *context) { ((struct measured *)context)->freed++; }

static int64_t in_pairs(srvlua_reactor *reactor, void *context, const void *data, size_t length, struct srvlua_status *status) {
    CHECK(((struct measured *)context)->made == 1 && length >= 1);
    if (*(const char *)data != '!')
        return 2;
    srvlua_reactor_log(reactor, SRVLUA_LOG_NOTICE, "a packet is measured");
    strcpy(status->message, "exclamation marks are none");
    return -1;
}

static int send_packets(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    static const char *const streams[] = {"2a3bc", "3de", "ffgg!"};
    struct measured *measured = user_data;
    (void)event;
    for (size_t i = 0; i < 3; i++) {
        struct srvlua_port_info info;
        srvlua_port_get_info(srvlua_get_port(server, i), &info);
        struct sockaddr_in address = {.sin_family = AF_INET, .sin_port = htons((uint16_t)info.port)};
        address.sin_addr.s_addr = htonl(INADDR_LOOPBACK);
        measured->clients[i] = socket(AF_INET, SOCK_STREAM | SOCK_CLOEXEC, 0);
        CHECK(connect(measured->clients[i], (struct sockaddr *)&address, sizeof address) == 0);
        CHECK(write(measured->clients[i], streams[i], strlen(streams[i])) == (ssize_t)strlen(streams[i]));
    }
    return 0;
}

static void end_if_all_came(srvlua_server *server, const struct measured *measured) {
    if (measured->received == 5 && measured->closed == 1)
        CHECK(srvlua_shutdown(server, NULL) == 0);
}

static int on_packet_of_stream(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    static const char *const packets[] = {"2a", "3bc", "3de", "ff", "gg"};
    struct measured *measured = user_data;
    size_t i = 0;
    while (i < 5 && (event->length != strlen(packets[i]) || memcmp(event->data, packets[i], event->length) != 0))
        i++;
    CHECK(i < 5);
    measured->received++;
    end_if_all_came(server, measured);
    return 0;
}

static int on_end_of_stream(srvlua_server *server, const struct srvlua_event_data *event, void *user_data) {
    struct measured *measured = user_data;
    if (measured->received == 5 && measured->closed == 1)
        return 0; /* the others, in the shutdown */
    CHECK(event->port == srvlua_get_port(server, 2) && event->reactor_id == 0);
    measured->closed++;
    end_if_all_came(server, measured);
    return 0;
}

static void run_measured(int mode, const char *log) {
    struct srvlua_status status = {0};
    struct measured measured = {.clients = {-1, -1, -1}};
    srvlua_server *server = srvlua_new("127.0.0.1", 0, mode, SRVLUA_SOCK_TCP, &status);
    srvlua_port *ports[2];
    struct srvlua_setting settings[] = {
        SRVLUA_SET_NUMBER("worker_num", 1),
        SRVLUA_SET_STRING("log_file", log),
        {.name = "log_date_format", .value = {.type = SRVLUA_VALUE_STRING, .string = "DATExxx", .length = 4}},
        SRVLUA_SET_BOOLEAN("open_length_check", 1),
        SRVLUA_SET_FUNCTION("package_length_func", by_digit),
    };
    struct srvlua_measurer measurer = {.make = make_measure, .call = in_pairs, .free = free_measure, .user_data = &measured};
    CHECK(srvlua_set(server, settings, 5, &status) == 0);
    for (int i = 0; i < 2; i++)
        CHECK(srvlua_add_listener(server, "127.0.0.1", 0, SRVLUA_SOCK_TCP, &ports[i], &status) == 0);
    CHECK(srvlua_port_set(ports[1], settings + 3, 1, &status) == 0); /* without the function: its measurer is asked */
    CHECK(srvlua_on(server, SRVLUA_ON_RECEIVE, on_packet_of_stream, &measured, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_CLOSE, on_end_of_stream, &measured, &status) == 0);
    CHECK(srvlua_on(server, SRVLUA_ON_WORKER_START, send_packets, &measured, &status) == 0);
    CHECK(srvlua_port_set_measurer(ports[1], &measurer, &status) == 0);
    CHECK(srvlua_start(server, &status) == 0);
    CHECK(measured.made == 1 && measured.freed == 1);
    for (int i = 0; i < 3; i++)
        if (measured.clients[i] >= 0)
            close(measured.clients[i]);
    srvlua_free(server);
}

/* Tasks as they wait in message queues. */
static void check_task_form(void) {
    const void *data = NULL;
    size_t packed_length = 4, length = 0;
    int flags = 0;
    char *packed = srvlua_task_pack("data", &packed_length, SRVLUA_TASK_SERIALIZE);
    CHECK(packed && packed_length > 4 && srvlua_task_unpack(packed, packed_length, &data, &length, &flags) == 0);
    CHECK(length == 4 && memcmp(data, "data", 4) == 0 && flags & SRVLUA_TASK_SERIALIZE);
    CHECK(srvlua_task_unpack(packed, packed_length - 1, &data, &length, &flags) == -SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    packed[packed_length - 1]++;
    CHECK(srvlua_task_unpack(packed, packed_length, &data, &length, &flags) == -SRVLUA_ERROR_PACKAGE_MALFORMED_DATA);
    free(packed);
}

static void check_failures(void) {
    struct srvlua_status status = {0};
    CHECK(srvlua_new("127.0.0.1", 70000, SRVLUA_BASE, SRVLUA_SOCK_TCP, &status) == NULL && status.code == 9004);
    CHECK(srvlua_new("127.0.0.1", 0, 9, SRVLUA_SOCK_TCP, &status) == NULL && status.code == 505);
    CHECK(srvlua_new("192.0.2.77", 0, SRVLUA_BASE, SRVLUA_SOCK_TCP, NULL) == NULL);
    srvlua_free(NULL);
    CHECK(srvlua_event_from_name("WORKERSTART") == SRVLUA_ON_WORKER_START && srvlua_event_from_name("onStart") == -1);
    CHECK(strcmp(srvlua_event_name(SRVLUA_ON_WORKER_START), "workerStart") == 0);
    CHECK(srvlua_event_is_port_level(SRVLUA_ON_RECEIVE) && !srvlua_event_is_port_level(SRVLUA_ON_TASK));
    int last = 0;
    for (const struct srvlua_error_entry *entry = srvlua_error_table(); entry->name; entry++) {
        CHECK(entry->code > last && strcmp(srvlua_strerror(entry->code), entry->text) == 0);
        last = entry->code;
    }
    CHECK(srvlua_strerror(-77) != NULL && srvlua_strerror(ENOENT) != NULL);
    check_task_form();

    srvlua_server *server = srvlua_new("127.0.0.1", 0, SRVLUA_PROCESS, SRVLUA_SOCK_TCP, &status);
    const struct srvlua_setting bad = SRVLUA_SET_NUMBER("backlog", -1);
    const struct srvlua_setting of_server = SRVLUA_SET_NUMBER("worker_num", 1);
    CHECK(srvlua_set(server, &bad, 1, &status) == -505 && strstr(status.message, "bad setting 'backlog': expected"));
    CHECK(srvlua_port_set(srvlua_get_port(server, 0), &of_server, 1, &status) == -505);
    srvlua_port *port = NULL;
    struct srvlua_port_info info;
    CHECK(srvlua_add_listener(server, "127.0.0.1", 0, SRVLUA_SOCK_UDP, &port, &status) == 0 &&
          srvlua_port_count(server) == 2);
    srvlua_port_get_info(port, &info);
    CHECK(info.port > 0 && info.type == SRVLUA_SOCK_UDP && !info.ssl && info.socket >= 0 &&
          !strcmp(info.host, "127.0.0.1"));
    CHECK(srvlua_port_on(port, SRVLUA_ON_START, on_receive, NULL, &status) == -505);
    CHECK(srvlua_add_listener(server, "127.0.0.1", 0, 77, &port, &status) == -724);
    CHECK(srvlua_fail(server, &status, 4711, "%s %d", "made", 1) == -4711 && strcmp(status.message, "made 1") == 0);
    CHECK(srvlua_last_error(server) == 4711);
    srvlua_free(server);
}

int main(int argc, char **argv) {
    int mode = argc > 2 && strcmp(argv[1], "BASE") == 0 ? SRVLUA_BASE : SRVLUA_PROCESS;
    struct host host = {0};
    struct sigaction own = {.sa_handler = on_own_signal}, now;
    if (argc < 3 || pipe(host.pipe) || pipe(host.lives) || sigaction(SIGTERM, &own, NULL) || sigaction(SIGUSR1, &own, NULL))
        return 2;
    check_failures();
    int descriptors = count_descriptors();
    run_server(mode, argv[2], &host);
    run_server(mode, argv[2], &host);
    run_user_processes(mode, argv[2], &host);
    run_tasks(mode, argv[2], &host);
    run_measured(mode, argv[2]);
    CHECK(count_descriptors() == descriptors);
    CHECK(sigaction(SIGTERM, NULL, &now) == 0 && now.sa_handler == on_own_signal);
    CHECK(sigaction(SIGUSR1, NULL, &now) == 0 && now.sa_handler == on_own_signal);
    CHECK(sigaction(SIGPIPE, NULL, &now) == 0 && now.sa_handler == SIG_DFL);
    sigset_t blocked;
    CHECK(sigprocmask(SIG_BLOCK, NULL, &blocked) == 0 && !sigismember(&blocked, SIGTERM) &&
          !sigismember(&blocked, SIGCHLD));
    puts("done");
    return 0;
}
