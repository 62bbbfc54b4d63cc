/* Who runs package_length_func: what can be set, and what start() would make of it. */
#include <string.h>

#include "srvlua.h"
#include "unit.h"

static int on_receive(srvlua_server *server, const struct srvlua_event_data *data, void *user_data) {
    (void)server, (void)data, (void)user_data;
    return 0;
}

static int64_t three(srvlua_reactor *reactor, void *context, const void *data, size_t length, struct srvlua_status *status) {
    (void)reactor, (void)context, (void)data, (void)length, (void)status;
    return 3;
}

static srvlua_server *new_server(int mode) {
    srvlua_server *server = srvlua_new("127.0.0.1", 0, mode, SRVLUA_SOCK_TCP, NULL);
    srvlua_on(server, SRVLUA_ON_RECEIVE, on_receive, NULL, NULL);
    return server;
}

/* With open_length_check as `is_on` says. */
static void set_function(srvlua_server *server, srvlua_length_function function, const char *bytecode, int is_on) {
    struct srvlua_setting settings[] = {{"package_length_func", {.type = SRVLUA_VALUE_FUNCTION}},
                                        {"open_length_check", {.type = SRVLUA_VALUE_BOOLEAN, .boolean = is_on}}};
    if (function) memcpy(&settings[0].value.function, &function, sizeof function);
    settings[0].value.string = bytecode;
    settings[0].value.length = bytecode ? strlen(bytecode) : 0;
    CHECK(srvlua_set(server, settings, 2, NULL) == 0);
}

TEST(a_measurer_needs_a_function) {
    srvlua_server *server = new_server(SRVLUA_PROCESS);
    struct srvlua_measurer measurer = {.user_data = server};
    CHECK(srvlua_port_set_measurer(srvlua_get_port(server, 0), &measurer, NULL) == -SRVLUA_ERROR_INVALID_PARAMS);
    measurer.call = three;
    CHECK(srvlua_port_set_measurer(srvlua_get_port(server, 0), &measurer, NULL) == 0);
    CHECK(srvlua_port_set_measurer(srvlua_get_port(server, 0), NULL, NULL) == 0);
    srvlua_free(server);
}

TEST(bytecode_that_is_used_needs_a_measurer) {
    struct srvlua_measurer measurer = {.call = three};
    struct srvlua_status status;
    for (int mode = SRVLUA_BASE; mode <= SRVLUA_PROCESS; mode++) {
        srvlua_server *server = new_server(mode);
        set_function(server, NULL, "bytecode", 0);
        CHECK(srvlua_check(server, NULL) == 0);
        set_function(server, NULL, "bytecode", 1);
        CHECK(srvlua_check(server, &status) == -SRVLUA_ERROR_INVALID_PARAMS);
        CHECK(strstr(status.message, "package_length_func") != NULL);
        CHECK(srvlua_port_set_measurer(srvlua_get_port(server, 0), &measurer, NULL) == 0);
        CHECK(srvlua_check(server, NULL) == 0);
        srvlua_free(server);
    }
}

TEST(who_inherits_settings_inherits_the_measurer) {
    struct srvlua_measurer measurer = {.call = three};
    struct srvlua_setting own = {"open_length_check", {.type = SRVLUA_VALUE_BOOLEAN, .boolean = 1}};
    struct srvlua_value value;
    srvlua_server *server = new_server(SRVLUA_PROCESS);
    srvlua_port *port;
    CHECK(srvlua_add_listener(server, "127.0.0.1", 0, SRVLUA_SOCK_TCP, &port, NULL) == 0);
    set_function(server, NULL, "bytecode", 1);
    CHECK(srvlua_port_set_measurer(srvlua_get_port(server, 0), &measurer, NULL) == 0);
    CHECK(srvlua_check(server, NULL) == 0);
    CHECK(srvlua_port_set(port, &own, 1, NULL) == 0); /* without the function: the field counts */
    CHECK(srvlua_check(server, NULL) == 0);
    CHECK(srvlua_port_get_setting(port, "package_length_func", &value) == 0 && value.type == SRVLUA_VALUE_NIL);
    CHECK(srvlua_port_get_setting(port, "package_body_start", &value) == 0 && value.number == 4);
    srvlua_free(server);
}

TEST(a_plain_function_needs_none) {
    srvlua_server *server = new_server(SRVLUA_PROCESS);
    set_function(server, three, NULL, 1);
    CHECK(srvlua_check(server, NULL) == 0);
    srvlua_free(server);
}
