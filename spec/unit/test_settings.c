/* Settings: what set accepts and refuses, all or nothing, hints, and what start derives. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/resource.h>
#include <unistd.h>

#include "base/log.h"
#include "base/machine.h"
#include "server/settings.h"
#include "server/settings_table.h"
#include "server/settings_value.h"
#include "unit.h"

/* A server with its primary port, logging into a file. */
struct fixture {
    struct sv_server_settings server;
    struct sv_port_settings port;
    struct sv_log_sink *sink;
    struct sv_log log;
    struct srvlua_status status;
    bool is_tls;
    char path[48];
    char text[16384];
};

static struct fixture *set_up(void) {
    struct fixture *fixture = calloc(1, sizeof *fixture);
    sv_server_settings_init(&fixture->server);
    sv_port_settings_init(&fixture->port);
    strcpy(fixture->path, "/tmp/srvlua-test-settings-XXXXXX");
    int fd = mkstemp(fixture->path);
    CHECK(fd >= 0);
    close(fd);
    fixture->sink = sv_log_sink_new();
    CHECK(sv_log_sink_open(fixture->sink, fixture->path) == 0);
    fixture->log = sv_log_view(fixture->sink, "master", -1);
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    sv_server_settings_free(&fixture->server);
    sv_port_settings_free(&fixture->port);
    sv_log_sink_free(fixture->sink);
    unlink(fixture->path);
    free(fixture);
}

static const char *logged(struct fixture *fixture) {
    int fd = open(fixture->path, O_RDONLY);
    ssize_t length = read(fd, fixture->text, sizeof fixture->text - 1);
    close(fd);
    fixture->text[length > 0 ? length : 0] = '\0';
    return fixture->text;
}

static bool has_logged(struct fixture *fixture, const char *text) { return strstr(logged(fixture), text) != NULL; }

static struct srvlua_value number(double value) {
    return (struct srvlua_value){.type = SRVLUA_VALUE_NUMBER, .number = value};
}

static struct srvlua_value boolean(int value) {
    return (struct srvlua_value){.type = SRVLUA_VALUE_BOOLEAN, .boolean = value};
}

static struct srvlua_value string(const char *value) {
    return (struct srvlua_value){.type = SRVLUA_VALUE_STRING, .string = value, .length = strlen(value)};
}

static struct srvlua_value list(const struct srvlua_setting *entries, size_t count) {
    return (struct srvlua_value){.type = SRVLUA_VALUE_LIST, .entries = entries, .length = count};
}

static int set_all(struct fixture *fixture, const struct srvlua_setting *settings, size_t count) {
    fixture->status = (struct srvlua_status){0};
    return sv_settings_apply(&fixture->server, &fixture->port, fixture->is_tls, settings, count, &fixture->log, &fixture->status);
}

static int set(struct fixture *fixture, const char *name, struct srvlua_value value) {
    struct srvlua_setting setting = {name, value};
    return set_all(fixture, &setting, 1);
}

static int set_on_port(struct fixture *fixture, const char *name, struct srvlua_value value) {
    struct srvlua_setting setting = {name, value};
    fixture->status = (struct srvlua_status){0};
    return sv_settings_apply(NULL, &fixture->port, fixture->is_tls, &setting, 1, &fixture->log, &fixture->status);
}

/* Refused with exactly this message? */
static bool refuses(struct fixture *fixture, const char *name, struct srvlua_value value, const char *message) {
    int result = set(fixture, name, value);
    bool is_refused = result == -505 && fixture->status.code == 505 && strcmp(fixture->status.message, message) == 0;
    if (!is_refused)
        fprintf(stderr, "got %d: %s\n", result, fixture->status.message);
    return is_refused;
}

static int finish(struct fixture *fixture, int mode) {
    return sv_settings_finish(&fixture->server, &fixture->port, mode, &fixture->log, &fixture->status);
}

/* -------------------------------------------------------------------------------------------------------- the table */

TEST(every_row_is_sound) {
    size_t count = 0;
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++, count++) {
        char text[192];
        sv_setting_describe(row, text, sizeof text);
        CHECK(*text && row->doc && *row->doc);
        CHECK(sv_setting_find(row->name) == row); /* no name twice */
        CHECK(!sv_setting_refusal(row->name));
        for (int i = 0; i < SV_SETTING_ALIASES && row->aliases[i]; i++)
            CHECK(sv_setting_find(row->aliases[i]) == row);
        CHECK((row->type == SV_SETTING_ENUM) == (row->choices != NULL));
        CHECK(!(row->later && (row->flags & SV_SETTING_NO_EFFECT)));
        CHECK(sv_setting_group_title(row->group) != NULL);
    }
    CHECK(count <= sizeof((struct sv_settings_given *)0)->bits * 8);
}

/* A default that set itself would refuse could not be written down in a configuration. */
TEST(every_default_is_accepted) {
    struct fixture *fixture = set_up();
    for (const struct sv_setting_row *row = sv_setting_rows; row->name; row++) {
        struct sv_setting_value usual = sv_setting_value_default(row);
        struct srvlua_value value;
        if (strcmp(row->name, "log_file") == 0)
            continue; /* its default would send the notices of the others to stderr */
        switch (row->type) {
        case SV_SETTING_BOOL:
            value = boolean(usual.number != 0);
            break;
        case SV_SETTING_STRING:
        case SV_SETTING_PATH:
            value = string(usual.text ? usual.text : "");
            break;
        case SV_SETTING_INT_LIST:
        case SV_SETTING_STRING_LIST:
        case SV_SETTING_STRING_OR_LIST:
        case SV_SETTING_PAIR_LIST:
        case SV_SETTING_CERTIFICATES:
            value = list(NULL, 0);
            break;
        case SV_SETTING_FUNCTION:
            continue;
        default:
            value = number(usual.number == SV_DERIVE ? 0 : usual.number);
            break;
        }
        if (!CHECK(set(fixture, row->name, value) == 0))
            fprintf(stderr, "%s: %s\n", row->name, fixture->status.message);
    }
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------------------ types */

TEST(numbers_must_be_integral_and_in_range) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "backlog", number(128)) == 0 && fixture->port.backlog == 128);
    CHECK(refuses(fixture, "backlog", number(-1), "bad setting 'backlog': expected integer 1..65535, got -1"));
    CHECK(refuses(fixture, "backlog", number(0), "bad setting 'backlog': expected integer 1..65535, got 0"));
    CHECK(refuses(fixture, "backlog", number(1.5), "bad setting 'backlog': expected integer 1..65535, got 1.5"));
    CHECK(refuses(fixture, "backlog", string("128"), "bad setting 'backlog': expected integer 1..65535, got '128'"));
    CHECK(refuses(fixture, "backlog", boolean(0), "bad setting 'backlog': expected integer 1..65535, got false"));
    CHECK(refuses(fixture, "backlog", list(NULL, 0), "bad setting 'backlog': expected integer 1..65535, got table"));
    CHECK(set(fixture, "worker_num", number(0.0 / 0.0)) == -505);
    CHECK(set(fixture, "worker_num", number(1.0 / 0.0)) == -505);
    CHECK(fixture->port.backlog == 128);
    tear_down(fixture);
}

TEST(booleans_are_true_false_1_and_0) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "open_tcp_nodelay", number(0)) == 0 && !fixture->port.open_tcp_nodelay);
    CHECK(set(fixture, "open_tcp_nodelay", number(1)) == 0 && fixture->port.open_tcp_nodelay);
    CHECK(set(fixture, "open_tcp_nodelay", boolean(0)) == 0 && !fixture->port.open_tcp_nodelay);
    CHECK(refuses(fixture, "reload_async", string("perhaps"),
                  "bad setting 'reload_async': expected boolean, got 'perhaps'"));
    CHECK(refuses(fixture, "reload_async", number(2), "bad setting 'reload_async': expected boolean, got 2"));
    tear_down(fixture);
}

TEST(false_is_zero_where_zero_is_off) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "heartbeat_check_interval", number(30)) == 0);
    CHECK(set(fixture, "heartbeat_check_interval", boolean(0)) == 0 && fixture->server.heartbeat_check_interval == 0);
    CHECK(set(fixture, "heartbeat_check_interval", boolean(1)) == -505);
    CHECK(set(fixture, "tcp_fastopen", boolean(1)) == 0 && fixture->port.tcp_fastopen == 256);
    CHECK(set(fixture, "tcp_fastopen", boolean(0)) == 0 && fixture->port.tcp_fastopen == 0);
    CHECK(set(fixture, "tcp_defer_accept", boolean(1)) == 0 && fixture->port.tcp_defer_accept == 1);
    tear_down(fixture);
}

TEST(seconds_may_have_fractions_and_must_be_finite) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "max_wait_time", number(0.25)) == 0 && fixture->server.max_wait_time == 0.25);
    CHECK(set(fixture, "max_wait_time", number(-1)) == -505);
    CHECK(set(fixture, "max_wait_time", number(1.0 / 0.0)) == -505);
    CHECK(set(fixture, "max_idle_time", number(0)) == 0);
    CHECK(refuses(fixture, "max_idle_time", number(0.0001),
                  "bad setting 'max_idle_time': expected seconds 0 or 0.001..1000000000, got 0.0001"));
    tear_down(fixture);
}

TEST(sizes_may_be_text) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "socket_buffer_size", string("8M")) == 0 && fixture->port.socket_buffer_size == 8 << 20);
    CHECK(set(fixture, "socket_buffer_size", string("64kB")) == 0 && fixture->port.socket_buffer_size == 65536);
    CHECK(set(fixture, "socket_buffer_size", number(0)) == 0 && fixture->port.socket_buffer_size == 0);
    CHECK(set(fixture, "socket_buffer_size", string("4095")) == -505);
    CHECK(set(fixture, "socket_buffer_size", string("eight")) == -505);
    CHECK(set(fixture, "socket_buffer_size", number(-4096)) == -505);
    CHECK(set(fixture, "output_buffer_size", string("4g")) == -505);
    tear_down(fixture);
}

TEST(enums_are_names_or_numbers) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "dispatch_mode", string("ip")) == 0 && fixture->server.dispatch_mode == SV_DISPATCH_IP);
    CHECK(set(fixture, "dispatch_mode", number(1)) == 0 && fixture->server.dispatch_mode == SV_DISPATCH_ROUND);
    for (const char *const *name = (const char *const[]){"nonsense", "FD", "", NULL}; *name; name++)
        CHECK(set(fixture, "dispatch_mode", string(*name)) == -505);
    for (const double *mode = (const double[]){0, 6, 12, -1, 2.5, 77, -2}; *mode != -2; mode++)
        CHECK(set(fixture, "dispatch_mode", number(*mode)) == -505);
    CHECK(fixture->server.dispatch_mode == SV_DISPATCH_ROUND);
    CHECK(strstr(fixture->status.message, "'least_latency' (11), got 77") != NULL); /* fits the message */
    tear_down(fixture);
}

TEST(strings_and_paths) {
    struct fixture *fixture = set_up();
    struct srvlua_value with_nul = {.type = SRVLUA_VALUE_STRING, .string = "a\0b", .length = 3};
    char directory[4096], expected[4200];
    CHECK(getcwd(directory, sizeof directory) != NULL);
    snprintf(expected, sizeof expected, "%s/x/stats.json", directory);
    CHECK(set(fixture, "stats_file", string("x/stats.json")) == 0);
    CHECK(strcmp(fixture->server.stats_file, expected) == 0);
    CHECK(set(fixture, "stats_file", string("/abs")) == 0 && strcmp(fixture->server.stats_file, "/abs") == 0);
    CHECK(set(fixture, "stats_file", string("")) == 0 && fixture->server.stats_file == NULL);
    CHECK(set(fixture, "stats_file", with_nul) == -505);
    CHECK(set(fixture, "pid_file", boolean(0)) == -505);
    CHECK(set(fixture, "log_date_format", string("")) == -505);
    CHECK(set(fixture, "log_date_format", string("%H")) == 0 && strcmp(fixture->server.log_date_format, "%H") == 0);
    CHECK(refuses(fixture, "package_eof", string(""),
                  "bad setting 'package_eof': expected string of 1..8 bytes, got ''"));
    CHECK(set(fixture, "package_eof", string("123456789")) == -505);
    CHECK(set(fixture, "package_eof", with_nul) == 0);
    CHECK(fixture->port.package_eof.length == 3 && memcmp(fixture->port.package_eof.bytes, "a\0b", 3) == 0);
    CHECK(set(fixture, "package_length_type", string("v")) == 0 && *fixture->port.package_length_type == 'v');
    CHECK(
        refuses(fixture, "package_length_type", string("x"),
                "bad setting 'package_length_type': expected one of the letters c C s S l L n N v V q Q J P, got 'x'"));
    tear_down(fixture);
}

TEST(lists_are_checked_entry_by_entry) {
    struct fixture *fixture = set_up();
    struct srvlua_setting good[] = {{NULL, string("10.0.0.0/8")}, {NULL, string("::1")}};
    struct srvlua_setting bad[] = {{NULL, string("10.0.0.0/33")}};
    struct srvlua_setting mixed[] = {{NULL, string("10.0.0.1")}, {NULL, number(5)}};
    CHECK(set(fixture, "connection_limit_exempt", list(good, 2)) == 0 && fixture->port.connection_limit_exempt.count == 2);
    CHECK(set(fixture, "connection_limit_exempt", list(bad, 1)) == -505);
    CHECK(strstr(fixture->status.message, "'10.0.0.0/33' is neither") != NULL);
    CHECK(set(fixture, "connection_limit_exempt", list(mixed, 2)) == -505);
    CHECK(set(fixture, "connection_limit_exempt", string("10.0.0.1")) == -505);
    CHECK(set(fixture, "connection_limit_exempt", list(NULL, 0)) == 0);
    tear_down(fixture);
}

/* --------------------------------------------------------------------------------------------------------- one call */

TEST(one_bad_value_and_nothing_of_the_call_takes_effect) {
    struct fixture *fixture = set_up();
    struct srvlua_setting settings[] = {{"backlog", number(128)},
                                        {"pid_file", string("/tmp/pid")},
                                        {"log_level", string("none")},
                                        {"worker_num", string("two")}};
    CHECK(set_all(fixture, settings, 4) == -505);
    CHECK(fixture->port.backlog == 512 && !fixture->server.pid_file);
    CHECK(!sv_port_setting_is_given(&fixture->port, "backlog"));
    CHECK(sv_log_is_on(&fixture->log, SRVLUA_LOG_INFO));
    CHECK(set_all(fixture, settings, 3) == 0);
    CHECK(fixture->port.backlog == 128 && strcmp(fixture->server.pid_file, "/tmp/pid") == 0);
    CHECK(sv_port_setting_is_given(&fixture->port, "backlog"));
    CHECK(!sv_log_is_on(&fixture->log, SRVLUA_LOG_ERROR));
    tear_down(fixture);
}

TEST(calls_merge) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "pid_file", string("/tmp/one")) == 0);
    CHECK(set(fixture, "worker_num", number(3)) == 0);
    CHECK(set(fixture, "pid_file", string("/tmp/two")) == 0);
    CHECK(fixture->server.worker_num == 3 && strcmp(fixture->server.pid_file, "/tmp/two") == 0);
    tear_down(fixture);
}

TEST(aliases_mean_the_same_and_must_agree) {
    struct fixture *fixture = set_up();
    struct srvlua_setting settings[] = {{"output_buffer_size", number(100000)}, {"buffer_output_size", number(200000)}};
    CHECK(set_all(fixture, settings, 2) == -505);
    CHECK(strcmp(fixture->status.message,
                 "bad setting 'buffer_output_size': 'output_buffer_size' is the same setting and "
                 "has another value") == 0);
    settings[0].value = string("64k");
    settings[1].value = number(65536);
    CHECK(set_all(fixture, settings, 2) == 0 && fixture->server.output_buffer_size == 65536);
    CHECK(set(fixture, "max_conn", number(10)) == 0 && fixture->server.max_connection == 10);
    CHECK(sv_server_setting_is_given(&fixture->server, "max_connection"));
    tear_down(fixture);
}

TEST(unknown_names_are_warned_about_with_the_nearest) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "wroker_num", number(3)) == 0);
    CHECK(has_logged(fixture, " WARNING "));
    CHECK(has_logged(fixture, "unknown setting 'wroker_num'; nearest is 'worker_num'\n"));
    CHECK(set(fixture, "Worker_Num", number(3)) == 0);
    CHECK(has_logged(fixture, "unknown setting 'Worker_Num'; nearest is 'worker_num'\n"));
    CHECK(set(fixture, "max_con", number(3)) == 0);
    CHECK(has_logged(fixture, "unknown setting 'max_con'; nearest is 'max_conn'\n"));
    CHECK(set(fixture, "nothing_like_it", boolean(1)) == 0);
    CHECK(has_logged(fixture, "unknown setting 'nothing_like_it'\n"));
    CHECK(set_on_port(fixture, "worker_nun", number(3)) == 0); /* of server settings only */
    CHECK(has_logged(fixture, "unknown setting 'worker_nun'\n"));
    CHECK(fixture->server.worker_num == SV_DERIVE);
    tear_down(fixture);
}

TEST(server_settings_are_refused_on_a_port) {
    struct fixture *fixture = set_up();
    CHECK(set_on_port(fixture, "backlog", number(64)) == 0 && fixture->port.backlog == 64);
    CHECK(set_on_port(fixture, "worker_num", number(2)) == -505);
    CHECK(strcmp(fixture->status.message, "bad setting 'worker_num': it is a server setting, not one of a port") == 0);
    tear_down(fixture);
}

TEST(names_of_swoole_that_cannot_be_are_refused_with_the_reason) {
    struct fixture *fixture = set_up();
    CHECK(refuses(fixture, "stack_size", number(8192),
                  "setting 'stack_size' is not supported: coroutines have no C stack of their own"));
    CHECK(set_on_port(fixture, "ssl_method", number(1)) == -505);
    for (const struct sv_refused_setting *refused = sv_refused_settings; refused->name; refused++)
        CHECK(!sv_setting_find(refused->name) && refused->reason && set(fixture, refused->name, boolean(1)) == -505);
    tear_down(fixture);
}

TEST(what_is_not_built_is_refused_unless_it_is_off) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "open_http_protocol", boolean(0)) == 0);
    CHECK(set(fixture, "http_compression", boolean(0)) == 0);
    CHECK(set(fixture, "hang_warning", boolean(0)) == 0);
    CHECK(set(fixture, "ssl_cert_file", string("")) == 0);
    CHECK(set(fixture, "http_max_header_size", number(65536)) == 0);
    CHECK(refuses(fixture, "open_http_protocol", boolean(1),
                  "setting 'open_http_protocol' is not supported yet: needs HTTP"));
    CHECK(refuses(fixture, "http_max_header_size", number(8192),
                  "setting 'http_max_header_size' is not supported yet: needs HTTP"));
    CHECK(set(fixture, "user", string("no-such-user-here")) == -505);
    CHECK(strcmp(fixture->status.message,
                 "bad setting 'user': expected name or number of a user, got 'no-such-user-here'") == 0);
    tear_down(fixture);
}

TEST(settings_without_effect_are_told) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "trace_flags", number(7)) == 0);
    CHECK(has_logged(fixture, " NOTICE "));
    CHECK(has_logged(fixture, "setting 'trace_flags' has no effect\n"));
    tear_down(fixture);
}

TEST(a_package_limit_that_is_too_small_is_adjusted) {
    struct fixture *fixture = set_up();
    CHECK(set_on_port(fixture, "package_max_length", number(1000)) == 0);
    CHECK(fixture->port.package_max_length == 65536);
    CHECK(has_logged(fixture, "setting 'package_max_length' adjusted from 1000 to 65536\n"));
    tear_down(fixture);
}

/* ---------------------------------------------------------------------------------------------------------- the log */

TEST(log_settings_hold_before_the_warnings_of_their_call) {
    struct fixture *fixture = set_up();
    char other[64];
    snprintf(other, sizeof other, "%s.other", fixture->path);
    struct srvlua_setting settings[] = {
        {"unknown_one", number(1)}, {"log_file", string(other)}, {"log_format", string("json")}};
    CHECK(set_all(fixture, settings, 3) == 0);
    CHECK(*logged(fixture) == '\0');
    CHECK(rename(other, fixture->path) == 0);
    CHECK(has_logged(fixture, "\"message\":\"unknown setting 'unknown_one'\"}\n"));
    tear_down(fixture);
}

TEST(a_log_file_that_cannot_be_opened_is_a_bad_setting) {
    struct fixture *fixture = set_up();
    struct srvlua_setting settings[] = {{"log_rotation", string("daily")},
                                        {"log_level", string("none")},
                                        {"log_file", string("/nonexistent-directory/srvlua.log")}};
    CHECK(set_all(fixture, settings, 3) == -505);
    CHECK(strcmp(fixture->status.message,
                 "bad setting 'log_file': cannot open '/nonexistent-directory/srvlua.log': No such "
                 "file or directory") == 0);
    CHECK(!fixture->server.log_file && fixture->server.log_rotation == SV_LOG_SINGLE);
    sv_log_write(&fixture->log, SRVLUA_LOG_INFO, "still here");
    CHECK(has_logged(fixture, "still here\n"));
    tear_down(fixture);
}

TEST(debug_mode_is_the_lowest_level) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "debug_mode", boolean(1)) == 0 && sv_log_is_on(&fixture->log, SRVLUA_LOG_DEBUG));
    CHECK(set(fixture, "debug_mode", boolean(0)) == 0 && !sv_log_is_on(&fixture->log, SRVLUA_LOG_DEBUG));
    CHECK(set(fixture, "log_level", number(SRVLUA_LOG_ERROR)) == 0);
    CHECK(!sv_log_is_on(&fixture->log, SRVLUA_LOG_WARNING));
    tear_down(fixture);
}

/* ------------------------------------------------------------------------------------------------------------ start */

TEST(defaults_follow_from_the_machine_and_the_mode) {
    struct fixture *fixture = set_up();
    int cpus = sv_machine_cpus();
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.worker_num == cpus);
    CHECK(fixture->server.reactor_num == (cpus < 8 ? cpus : 8));
    CHECK(fixture->server.max_connection > 0 && fixture->server.max_connection <= 100000);
    CHECK(fixture->server.session_table_size == 1 << 20);
    CHECK(fixture->server.max_coroutine == 100000);
    CHECK(fixture->server.send_yield && fixture->server.reload_async);
    CHECK(fixture->server.output_memory_limit >= 64 << 20);
    CHECK(!strstr(logged(fixture), "adjusted"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(finish(fixture, SRVLUA_BASE) == 0);
    CHECK(fixture->server.worker_num == 1 && fixture->server.reactor_num == 1);
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "worker_num", number(0)) == 0 && finish(fixture, SRVLUA_BASE) == 0);
    CHECK(fixture->server.worker_num == cpus && fixture->server.reactor_num == cpus);
    tear_down(fixture);
}

TEST(too_many_processes_and_threads_are_adjusted) {
    struct fixture *fixture = set_up();
    int cpus = sv_machine_cpus();
    char expected[128];
    CHECK(set(fixture, "worker_num", number(2)) == 0 && set(fixture, "reactor_num", number(5000)) == 0);
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.reactor_num == 2);
    CHECK(has_logged(fixture, "setting 'reactor_num' adjusted from 5000 to 2: "));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "worker_num", number(65535)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    snprintf(expected, sizeof expected, "setting 'worker_num' adjusted from 65535 to %d: ", cpus * 1000);
    CHECK(cpus * 1000 >= 65535 || has_logged(fixture, expected));
    tear_down(fixture);
}

TEST(grace_is_half_above_ten) {
    const struct {
        double max_request;
        int64_t grace;
    } cases[] = {{0, 0}, {10, 0}, {11, 5}, {12, 6}, {1000, 500}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture *fixture = set_up();
        CHECK(set(fixture, "max_request", number(cases[i].max_request)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
        CHECK(fixture->server.max_request_grace == cases[i].grace);
        tear_down(fixture);
    }
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "max_request_grace", number(0)) == 0 && set(fixture, "max_request", number(1000)) == 0);
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0 && fixture->server.max_request_grace == 0);
    tear_down(fixture);
}

TEST(coroutines_force_reload_async) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "reload_async", boolean(0)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.reload_async);
    CHECK(has_logged(fixture, "setting 'reload_async' adjusted from false to true"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "reload_async", boolean(0)) == 0 && set(fixture, "enable_coroutine", boolean(0)) == 0);
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0 && !fixture->server.reload_async && !fixture->server.send_yield);
    tear_down(fixture);
}

TEST(send_yield_needs_a_mode_that_keeps_the_worker) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "dispatch_mode", number(1)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(!fixture->server.send_yield && !strstr(logged(fixture), "adjusted"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "dispatch_mode", number(1)) == 0 && set(fixture, "send_yield", boolean(1)) == 0);
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0 && !fixture->server.send_yield);
    CHECK(has_logged(fixture, "setting 'send_yield' adjusted from true to false: dispatch_mode is 1"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "dispatch_mode", number(1)) == 0 && finish(fixture, SRVLUA_BASE) == 0);
    CHECK(fixture->server.send_yield);
    tear_down(fixture);
}

TEST(rings_and_tables_become_powers_of_two) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "worker_ring_size", string("100k")) == 0 &&
          set(fixture, "session_table_size", number(5000)) == 0);
    CHECK(set(fixture, "max_connection", number(100)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.worker_ring_size == 131072 && fixture->server.session_table_size == 8192);
    CHECK(has_logged(fixture, "setting 'worker_ring_size' adjusted from 102400 to 131072: a power of two"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "session_table_size", number(1024)) == 0 && set(fixture, "max_connection", number(1000)) == 0);
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0 && fixture->server.session_table_size == 2048);
    tear_down(fixture);
}

TEST(rings_have_room_for_packets_that_are_given_again) {
    struct fixture *fixture = set_up();
    CHECK(set(fixture, "on_lost_request", string("redeliver")) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.worker_ring_size == 4 << 20 && !strstr(logged(fixture), "adjusted"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "on_lost_request", string("redeliver")) == 0 && set(fixture, "worker_ring_size", string("1m")) == 0 &&
          finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.worker_ring_size == 4 << 20);
    CHECK(has_logged(fixture, "setting 'worker_ring_size' adjusted from 1048576 to 4194304: on_lost_request is 'redeliver'"));
    tear_down(fixture);
}

/* Last of those that look at descriptors: it changes the limits of this process and puts the soft one back. */
TEST(connections_fit_the_descriptor_limit) {
    struct rlimit before, now;
    CHECK(getrlimit(RLIMIT_NOFILE, &before) == 0);
    now = (struct rlimit){.rlim_cur = 64, .rlim_max = before.rlim_max};
    CHECK(setrlimit(RLIMIT_NOFILE, &now) == 0);
    struct fixture *fixture = set_up();
    CHECK(finish(fixture, SRVLUA_PROCESS) == 0 && fixture->server.max_connection == 64);
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur > 64); /* with room for the server's own */
    CHECK(!strstr(logged(fixture), "adjusted"));
    tear_down(fixture);

    fixture = set_up();
    CHECK(set(fixture, "max_connection", number(900)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(fixture->server.max_connection == 900);
    CHECK(getrlimit(RLIMIT_NOFILE, &now) == 0 && now.rlim_cur > 900);
    tear_down(fixture);

    if (before.rlim_max != RLIM_INFINITY && before.rlim_max < 1048576) {
        fixture = set_up();
        CHECK(set(fixture, "max_connection", number(1048576)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
        CHECK(fixture->server.max_connection == (int64_t)before.rlim_max);
        CHECK(has_logged(fixture, "setting 'max_connection' adjusted from 1048576 to "));
        tear_down(fixture);
    }
    CHECK(setrlimit(RLIMIT_NOFILE, &before) == 0);
}

TEST(watermarks) {
    struct fixture *fixture = set_up();
    CHECK(sv_port_settings_finish(&fixture->port, &fixture->status) == 0);
    CHECK(fixture->port.buffer_high_watermark == (1 << 20) / 5 * 4);
    fixture->port.buffer_low_watermark = fixture->port.buffer_high_watermark + 1;
    CHECK(sv_port_settings_finish(&fixture->port, &fixture->status) == -505);
    fixture->port.socket_buffer_size = fixture->port.buffer_high_watermark = 0; /* no limit: never full */
    CHECK(sv_port_settings_finish(&fixture->port, &fixture->status) == 0 && fixture->port.buffer_high_watermark == 0);
    tear_down(fixture);
}

/* The effective interval and idle times of two ports for what was given. */
static bool derives(double interval, double idle, double other_idle, double now, double idle_now, double other_now) {
    struct sv_server_settings server = {.heartbeat_check_interval = interval};
    struct sv_port_settings one = {.heartbeat_idle_time = idle}, other = {.heartbeat_idle_time = other_idle};
    sv_settings_derive_heartbeat(&server, (struct sv_port_settings *[]){&one, &other}, 2);
    return server.heartbeat_check_interval == now && one.heartbeat_idle_time == idle_now &&
           other.heartbeat_idle_time == other_now;
}

TEST(heartbeat_times_follow_from_one_another) {
    CHECK(derives(0, 0, 0, 0, 0, 0));
    CHECK(derives(30, 0, 0, 30, 60, 60));
    CHECK(derives(0, 60, 0, 30, 60, 0));
    CHECK(derives(0, 60, 8, 4, 60, 8));
    CHECK(derives(0, 1.5, 0, 1, 1.5, 0));
    CHECK(derives(0, 0.5, 0, 0.5, 0.5, 0));
    CHECK(derives(100, 10, 0, 100, 10, 200));
}

/* -------------------------------------------------------------------------------------------------- copies, reading */

TEST(a_copy_owns_what_it_has) {
    struct fixture *fixture = set_up();
    struct sv_server_settings copy;
    struct sv_port_settings port;
    sv_server_settings_init(&copy);
    sv_port_settings_init(&port);
    CHECK(set(fixture, "pid_file", string("/tmp/one")) == 0 && set(fixture, "backlog", number(7)) == 0);
    CHECK(sv_server_settings_copy(&copy, &fixture->server) == 0 && sv_port_settings_copy(&port, &fixture->port) == 0);
    CHECK(set(fixture, "pid_file", string("/tmp/two")) == 0);
    CHECK(strcmp(copy.pid_file, "/tmp/one") == 0 && sv_server_setting_is_given(&copy, "pid_file"));
    CHECK(port.backlog == 7 && sv_port_setting_is_given(&port, "backlog"));
    CHECK(sv_server_settings_copy(&copy, &fixture->server) == 0 && strcmp(copy.pid_file, "/tmp/two") == 0);
    sv_server_settings_free(&copy);
    sv_port_settings_free(&port);
    tear_down(fixture);
}

TEST(values_can_be_read_by_name) {
    struct fixture *fixture = set_up();
    struct srvlua_value value;
    CHECK(sv_settings_get(&fixture->server, &fixture->port, "no_such", &value) == -505);
    CHECK(sv_settings_get(&fixture->server, &fixture->port, "worker_num", &value) == 0);
    CHECK(value.type == SRVLUA_VALUE_NIL);
    CHECK(set(fixture, "max_conn", number(50)) == 0 && finish(fixture, SRVLUA_PROCESS) == 0);
    CHECK(sv_settings_get(&fixture->server, &fixture->port, "max_conn", &value) == 0);
    CHECK(value.type == SRVLUA_VALUE_NUMBER && value.number == 50);
    CHECK(sv_settings_get(&fixture->server, &fixture->port, "open_tcp_nodelay", &value) == 0);
    CHECK(value.type == SRVLUA_VALUE_BOOLEAN && value.boolean);
    CHECK(sv_settings_get(&fixture->server, &fixture->port, "log_date_format", &value) == 0);
    CHECK(value.type == SRVLUA_VALUE_STRING && strcmp(value.string, "%Y-%m-%d %H:%M:%S") == 0);
    CHECK(sv_settings_get(&fixture->server, &fixture->port, "task_ipc_mode", &value) == 0 && value.number == 1);
    for (const char *const *name = sv_settings_effective_names(); *name; name++)
        CHECK(sv_settings_get(&fixture->server, &fixture->port, *name, &value) == 0 &&
              value.type == SRVLUA_VALUE_NUMBER);
    tear_down(fixture);
}
