/* Who runs dispatch_func: what can be set, and what start() would make of it. */
#include <string.h>

#include "srvlua.h"
#include "unit.h"

static int on_receive(srvlua_server *server, const struct srvlua_event_data *data, void *user_data) {
    (void)server, (void)data, (void)user_data;
    return 0;
}

static int32_t first_worker(srvlua_reactor *reactor, void *context, const struct srvlua_dispatch_event *event,
                            struct srvlua_status *status) {
    (void)reactor, (void)context, (void)event, (void)status;
    return 0;
}

static srvlua_server *new_server(int mode) {
    srvlua_server *server = srvlua_new("127.0.0.1", 0, mode, SRVLUA_SOCK_TCP, NULL);
    srvlua_on(server, SRVLUA_ON_RECEIVE, on_receive, NULL, NULL);
    return server;
}

static void set_function(srvlua_server *server, srvlua_dispatch_function function, const char *bytecode) {
    struct srvlua_setting setting = {"dispatch_func", {.type = SRVLUA_VALUE_FUNCTION}};
    if (function) memcpy(&setting.value.function, &function, sizeof function);
    setting.value.string = bytecode;
    setting.value.length = bytecode ? strlen(bytecode) : 0;
    CHECK(srvlua_set(server, &setting, 1, NULL) == 0);
}

TEST(a_dispatcher_needs_a_function) {
    srvlua_server *server = new_server(SRVLUA_PROCESS);
    struct srvlua_dispatcher dispatcher = {.user_data = server};
    CHECK(srvlua_set_dispatcher(server, &dispatcher, NULL) == -SRVLUA_ERROR_INVALID_PARAMS);
    dispatcher.call = first_worker;
    CHECK(srvlua_set_dispatcher(server, &dispatcher, NULL) == 0);
    CHECK(srvlua_set_dispatcher(server, NULL, NULL) == 0);
    srvlua_free(server);
}

TEST(bytecode_needs_a_dispatcher) {
    struct srvlua_dispatcher dispatcher = {.call = first_worker};
    struct srvlua_status status;
    srvlua_server *server = new_server(SRVLUA_PROCESS);
    set_function(server, NULL, "bytecode");
    CHECK(srvlua_check(server, &status) == -SRVLUA_ERROR_INVALID_PARAMS);
    CHECK(strstr(status.message, "dispatch_func") != NULL);
    CHECK(srvlua_set_dispatcher(server, &dispatcher, NULL) == 0);
    CHECK(srvlua_check(server, &status) == 0);
    srvlua_free(server);
}

TEST(a_plain_function_needs_none) {
    srvlua_server *server = new_server(SRVLUA_PROCESS);
    set_function(server, first_worker, NULL);
    CHECK(srvlua_check(server, NULL) == 0);
    srvlua_free(server);
}

TEST(bytecode_is_nothing_in_base_mode) {
    srvlua_server *server = new_server(SRVLUA_BASE);
    set_function(server, NULL, "bytecode");
    CHECK(srvlua_check(server, NULL) == 0);
    srvlua_free(server);
}
