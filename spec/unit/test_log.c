/* The logger: formats, levels, what may not forge a line, files that are renamed and rotated. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/errors.h"
#include "base/log.h"
#include "unit.h"

#define TEXT_MAX (4 * SV_LOG_LINE_MAX)

/* One log file in a directory of its own. */
struct fixture {
    char directory[64], path[96];
    struct sv_log_sink *sink;
    struct sv_log log;
    char *text;
};

static struct fixture set_up(void) {
    struct fixture fixture = {.directory = "/tmp/srvlua-test-log-XXXXXX", .text = malloc(TEXT_MAX)};
    CHECK(mkdtemp(fixture.directory) != NULL);
    snprintf(fixture.path, sizeof fixture.path, "%s/log", fixture.directory);
    fixture.sink = sv_log_sink_new();
    sv_log_sink_set_display_errors(fixture.sink, false);
    CHECK(sv_log_sink_open(fixture.sink, fixture.path) == 0);
    fixture.log = sv_log_view(fixture.sink, "worker", 2);
    return fixture;
}

static void tear_down(struct fixture *fixture) {
    DIR *directory = opendir(fixture->directory);
    struct dirent *entry;
    while (directory && (entry = readdir(directory)))
        unlinkat(dirfd(directory), entry->d_name, 0);
    if (directory)
        closedir(directory);
    rmdir(fixture->directory);
    sv_log_sink_free(fixture->sink);
    free(fixture->text);
}

/* The whole file, "" if there is none; valid until the next call. */
static const char *contents(struct fixture *fixture, const char *path) {
    int fd = open(path, O_RDONLY);
    ssize_t length = fd >= 0 ? read(fd, fixture->text, TEXT_MAX - 1) : 0;
    if (fd >= 0)
        close(fd);
    fixture->text[length > 0 ? length : 0] = '\0';
    return fixture->text;
}

static int count_lines(const char *text) {
    int lines = 0;
    for (; *text; text++)
        lines += *text == '\n';
    return lines;
}

TEST(a_text_line_has_time_level_pid_role_and_message) {
    struct fixture fixture = set_up();
    char expected[64];
    sv_log_write(&fixture.log, SRVLUA_LOG_WARNING, "%s is %d", "answer", 42);
    const char *text = contents(&fixture, fixture.path);
    snprintf(expected, sizeof expected, " WARNING %d worker#2 answer is 42\n", getpid());
    CHECK(strlen(text) == strlen("2031-05-04 12:00:00") + strlen(expected));
    CHECK(strcmp(text + strlen("2031-05-04 12:00:00"), expected) == 0);
    CHECK(text[4] == '-' && text[10] == ' ' && text[13] == ':');
    tear_down(&fixture);
}

TEST(a_process_without_id_shows_none) {
    struct fixture fixture = set_up();
    struct sv_log master = sv_log_view(fixture.sink, "master", -1);
    sv_log_write(&master, SRVLUA_LOG_INFO, "ready");
    CHECK(strstr(contents(&fixture, fixture.path), " master ready\n") != NULL);
    tear_down(&fixture);
}

TEST(lines_below_the_level_are_not_written) {
    struct fixture fixture = set_up();
    sv_log_write(&fixture.log, SRVLUA_LOG_TRACE, "hidden");
    CHECK(!sv_log_is_on(&fixture.log, SRVLUA_LOG_TRACE));
    CHECK(sv_log_is_on(&fixture.log, SRVLUA_LOG_INFO));
    sv_log_sink_set_level(fixture.sink, SRVLUA_LOG_NONE);
    sv_log_write(&fixture.log, SRVLUA_LOG_ERROR, "hidden");
    CHECK(!sv_log_is_on(&fixture.log, SRVLUA_LOG_NONE));
    CHECK(*contents(&fixture, fixture.path) == '\0');
    tear_down(&fixture);
}

TEST(text_from_outside_cannot_forge_a_line) {
    struct fixture fixture = set_up();
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "first\n2031-05-04 ERROR\r\x1b[2J\n\ttraceback\n\n");
    const char *text = contents(&fixture, fixture.path);
    CHECK(strstr(text, "first\n\t2031-05-04 ERROR\\x0d\\x1b[2J\n\ttraceback\n") != NULL);
    CHECK(count_lines(text) == 3);
    tear_down(&fixture);
}

TEST(json_has_all_members_and_escapes) {
    struct fixture fixture = set_up();
    char expected[160];
    sv_log_sink_set_json(fixture.sink, true);
    sv_log_about(&fixture.log, SRVLUA_LOG_ERROR, 77, 1005, "a \"b\" \\ \n\t\x01 \xc3\xa9 \xff\xc0\xaf\xed\xa0\x80!");
    const char *text = contents(&fixture, fixture.path);
    CHECK(strncmp(text, "{\"time\":\"20", 11) == 0);
    CHECK(text[19] == 'T' && strncmp(text + 35, "Z\",\"level\":\"error\",", 18) == 0);
    snprintf(expected, sizeof expected, "\"pid\":%d,\"role\":\"worker\",\"id\":2,", getpid());
    CHECK(strstr(text, expected) != NULL);
    CHECK(strstr(text, "\"message\":\"a \\\"b\\\" \\\\ \\n\\t\\u0001 \xc3\xa9 "
                       "\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd\\ufffd!\",\"session\":77,\"code\":1005}\n") != NULL);
    tear_down(&fixture);
}

TEST(json_keeps_the_stack_apart) {
    struct fixture fixture = set_up();
    struct sv_log manager = sv_log_view(fixture.sink, "manager", -1);
    sv_log_sink_set_json(fixture.sink, true);
    sv_log_write(&manager, SRVLUA_LOG_INFO, "boom\nstack traceback:\n\tapp.lua:1: in main");
    CHECK(strstr(contents(&fixture, fixture.path),
                 "\"id\":null,\"message\":\"boom\",\"stack\":\"\\tapp.lua:1: in main\"}\n") != NULL);
    tear_down(&fixture);
}

TEST(what_is_too_long_is_cut_to_one_whole_line) {
    struct fixture fixture = set_up();
    char *longest = malloc(2 * SV_LOG_LINE_MAX);
    memset(longest, '"', 2 * SV_LOG_LINE_MAX);
    longest[2 * SV_LOG_LINE_MAX - 1] = '\0';
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "%s", longest);
    const char *text = contents(&fixture, fixture.path);
    CHECK(strlen(text) == SV_LOG_LINE_MAX && text[SV_LOG_LINE_MAX - 1] == '\n' && count_lines(text) == 1);

    sv_log_sink_set_json(fixture.sink, true);
    CHECK(unlink(fixture.path) == 0 && sv_log_sink_reopen(fixture.sink) == 0);
    sv_log_about(&fixture.log, SRVLUA_LOG_INFO, INT64_MAX, 9999, "%s", longest);
    text = contents(&fixture, fixture.path);
    CHECK(strlen(text) <= SV_LOG_LINE_MAX && count_lines(text) == 1);
    CHECK(strstr(text, "\\\"\",\"session\":9223372036854775807,\"code\":9999}\n") != NULL);
    free(longest);
    tear_down(&fixture);
}

TEST(the_date_is_formatted_as_told) {
    struct fixture fixture = set_up();
    char long_format[200];
    memset(long_format, 'x', sizeof long_format);
    long_format[65] = '\0';
    CHECK(sv_log_sink_set_date_format(fixture.sink, "", false) == -1);
    CHECK(sv_log_sink_set_date_format(fixture.sink, long_format, false) == -1);
    long_format[64] = '\0';
    CHECK(sv_log_sink_set_date_format(fixture.sink, long_format, false) == 0);
    CHECK(sv_log_sink_set_date_format(fixture.sink, "[%Y]", true) == 0);
    sv_log_write(&fixture.log, SRVLUA_LOG_NOTICE, "now");
    const char *text = contents(&fixture, fixture.path);
    CHECK(text[0] == '[' && text[5] == ']' && text[6] == '.' && strncmp(text + 13, " NOTICE ", 8) == 0);
    tear_down(&fixture);
}

TEST(a_renamed_file_is_opened_again_behind_the_same_descriptor) {
    struct fixture fixture = set_up();
    char old[128];
    int fd = sv_log_sink_fd(fixture.sink);
    snprintf(old, sizeof old, "%s.old", fixture.path);
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "before");
    CHECK(rename(fixture.path, old) == 0);
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "between");
    CHECK(sv_log_sink_reopen(fixture.sink) == 0);
    CHECK(sv_log_sink_fd(fixture.sink) == fd && (fcntl(fd, F_GETFD) & FD_CLOEXEC));
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "after");
    CHECK(strstr(contents(&fixture, old), "between\n") != NULL);
    const char *text = contents(&fixture, fixture.path);
    CHECK(strstr(text, "after\n") != NULL && count_lines(text) == 1);
    tear_down(&fixture);
}

TEST(a_file_that_cannot_be_opened_changes_nothing) {
    struct fixture fixture = set_up();
    CHECK(sv_log_sink_open(fixture.sink, "/nonexistent-directory/log") == -ENOENT);
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "still here");
    CHECK(strstr(contents(&fixture, fixture.path), "still here\n") != NULL);
    CHECK(sv_log_sink_open(fixture.sink, NULL) == 0 && sv_log_sink_fd(fixture.sink) == 2);
    tear_down(&fixture);
}

TEST(rotation_adds_a_suffix_and_follows_the_period) {
    struct fixture fixture = set_up();
    char path[128], suffix[16];
    time_t now = time(NULL);
    struct tm parts;

    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "plain");
    sv_log_sink_set_rotation(fixture.sink, SV_LOG_MONTHLY); /* the next line goes over */
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "by month");
    localtime_r(&now, &parts);
    strftime(suffix, sizeof suffix, "%Y%m", &parts);
    snprintf(path, sizeof path, "%s.%s", fixture.path, suffix);
    CHECK(strstr(contents(&fixture, path), "by month\n") != NULL);

    sv_log_sink_set_rotation(fixture.sink, SV_LOG_DAILY);
    CHECK(sv_log_sink_open(fixture.sink, fixture.path) == 0);
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "by day");
    strftime(suffix, sizeof suffix, "%Y%m%d", &parts);
    snprintf(path, sizeof path, "%s.%s", fixture.path, suffix);
    CHECK(strstr(contents(&fixture, path), "by day\n") != NULL);
    CHECK(strstr(contents(&fixture, fixture.path), "by day\n") == NULL);
    tear_down(&fixture);
}

TEST(lines_of_many_processes_stay_whole) {
    enum { PROCESSES = 4, LINES = 200 };
    struct fixture fixture = set_up();
    for (int i = 0; i < PROCESSES; i++) {
        if (fork() == 0) {
            struct sv_log log = sv_log_view(fixture.sink, "worker", i);
            for (int line = 0; line < LINES; line++)
                sv_log_write(&log, SRVLUA_LOG_INFO, "begin %0100d end", line);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++)
        wait(NULL);
    char *text = fixture.text;
    contents(&fixture, fixture.path);
    CHECK(count_lines(text) == PROCESSES * LINES);
    for (char *line = strtok(text, "\n"); line; line = strtok(NULL, "\n"))
        if (!CHECK(strstr(line, " begin ") != NULL && strcmp(line + strlen(line) - 4, " end") == 0))
            break;
    tear_down(&fixture);
}

TEST(logging_leaves_errno_alone) {
    struct fixture fixture = set_up();
    errno = EPIPE;
    sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "%m");
    CHECK(errno == EPIPE);
    CHECK(strstr(contents(&fixture, fixture.path), strerror(EPIPE)) != NULL);
    tear_down(&fixture);
}

/* In a handler no function of the C library may be used that splits times, so this does it by hand. */
TEST(a_line_from_a_signal_handler_looks_like_the_others) {
    struct fixture fixture = set_up();
    char expected[64], date[20];
    const char *text = "";
    for (int tries = 0; tries < 5; tries++) { /* the second may end in between */
        CHECK(sv_log_sink_open(fixture.sink, fixture.path) == 0 && truncate(fixture.path, 0) == 0);
        sv_log_write(&fixture.log, SRVLUA_LOG_INFO, "usual");
        sv_log_from_signal(&fixture.log, SRVLUA_LOG_ERROR, 7, "unusual\nsecond\n", 15);
        text = contents(&fixture, fixture.path);
        snprintf(date, sizeof date, "%s", text);
        if (strstr(text + 1, date))
            break;
    }
    snprintf(expected, sizeof expected, "\n%s ERROR %d worker#2 unusual\n\tsecond\n", date, getpid());
    CHECK(strstr(text, expected) != NULL);
    CHECK(count_lines(text) == 3);
    tear_down(&fixture);
}

TEST(a_json_line_has_the_time_in_utc) {
    struct fixture fixture = set_up();
    char expected[40], first[40];
    const char *text = "";
    time_t now;
    sv_log_sink_set_json(fixture.sink, true);
    do {
        now = time(NULL);
        CHECK(truncate(fixture.path, 0) == 0);
        sv_log_from_signal(&fixture.log, SRVLUA_LOG_ERROR, 7, "boom\nstack traceback:\n\tx", 24);
        text = contents(&fixture, fixture.path);
    } while (time(NULL) != now);
    strftime(expected, sizeof expected, "{\"time\":\"%Y-%m-%dT%H:%M:%S.", gmtime(&now));
    snprintf(first, strlen(expected) + 1, "%s", text);
    CHECK(strcmp(first, expected) == 0);
    CHECK(strstr(text, "\"message\":\"boom\",\"stack\":\"\\tx\",\"session\":7}\n") != NULL);
    tear_down(&fixture);
}

TEST(a_limit_lets_one_line_a_second_pass) {
    struct sv_log_limit limit = {0};
    CHECK(sv_log_limit_pass(&limit, 5 * SV_NS_PER_SECOND));
    CHECK(!sv_log_limit_pass(&limit, 5 * SV_NS_PER_SECOND + 1));
    CHECK(!sv_log_limit_pass(&limit, 6 * SV_NS_PER_SECOND - 1));
    CHECK(limit.suppressed == 2);
    CHECK(sv_log_limit_pass(&limit, 6 * SV_NS_PER_SECOND));
}

/* errors.h is small enough to be tested with its neighbour. */

TEST(every_code_has_a_name_and_a_text_and_they_ascend) {
    int last = 499;
    for (const struct srvlua_error_entry *entry = srvlua_error_table(); entry->name; entry++) {
        CHECK(entry->code > last);
        CHECK(entry->text && strcmp(srvlua_strerror(entry->code), entry->text) == 0);
        last = entry->code;
    }
    CHECK(last == SRVLUA_ERROR_CO_NOT_EXISTS);
    CHECK(strcmp(srvlua_strerror(ENOENT), strerror(ENOENT)) == 0);
    CHECK(strcmp(srvlua_strerror(12345), "unknown error") == 0);
    CHECK(strcmp(srvlua_strerror(-1), "unknown error") == 0);
}

TEST(a_failure_fills_the_status_and_gives_the_negative_code) {
    struct srvlua_status status;
    CHECK(sv_fail(NULL, 505, "unseen") == -505);
    CHECK(sv_fail(&status, 505, "no %s", "port") == -505);
    CHECK(status.code == 505 && strcmp(status.message, "no port") == 0);
    CHECK(sv_fail(&status, 505, "%300d", 1) == -505 && strlen(status.message) == sizeof status.message - 1);
    CHECK(sv_fail_errno(&status, ENOENT, "open") == -ENOENT);
    CHECK(status.code == ENOENT && strcmp(status.message, "open: No such file or directory") == 0);
}
