/* settings_check.c: what a setting's type and range cannot say about its value. runs in: before start(). */
#include "server/settings_check.h"

#include <arpa/inet.h>
#include <ctype.h>
#include <grp.h>
#include <limits.h>
#include <netinet/in.h>
#include <pwd.h>
#include <sched.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "ipc/msgqueue.h"
#include "net/tls.h"
#include "process/task_queue.h"
#include "server/certificates.h"

#define DATE_MAX 64 /* settings.md 1.8 */
#define CPUS_MAX 4096

static bool fail(char *expected, size_t size, const char *text) {
    snprintf(expected, size, "%s", text);
    return false;
}

bool sv_check_date_format(const struct sv_setting_value *value, char *expected, size_t size) {
    char text[DATE_MAX + 1];
    time_t now = time(NULL);
    struct tm parts;
    if (localtime_r(&now, &parts) && strftime(text, sizeof text, value->text, &parts) > 0)
        return true;
    return fail(expected, size, "strftime format that gives 1..64 bytes");
}

bool sv_check_directory(const struct sv_setting_value *value, char *expected, size_t size) {
    struct stat info;
    if (value->length == 0 || (stat(value->text, &info) == 0 && S_ISDIR(info.st_mode)))
        return true;
    return fail(expected, size, "path of an existing directory");
}

/* Makes the directories that a path names, as far as they are missing. */
static bool make_directories(const char *path) {
    char copy[PATH_MAX];
    struct stat info;
    size_t length = strlen(path);

    if (length == 0 || length >= sizeof copy)
        return false;
    memcpy(copy, path, length + 1);
    for (char *end = copy + 1; *end; end++) {
        if (*end != '/')
            continue;
        *end = '\0';
        mkdir(copy, 0755); /* whether that was of use shows at the end */
        *end = '/';
    }
    mkdir(copy, 0755);
    return stat(copy, &info) == 0 && S_ISDIR(info.st_mode);
}

bool sv_check_made_directory(const struct sv_setting_value *value, char *expected, size_t size) {
    return make_directories(value->text) || fail(expected, size, "path of a directory, or of one that can be made");
}

bool sv_check_task_way(const struct sv_setting_value *value, char *expected, size_t size) {
    return value->number < SV_TASK_WAY_QUEUE || sv_msgqueue_is_there() ||
           fail(expected, size, "'ring': this system has no System V message queues");
}

static bool is_number(const char *text) {
    size_t digits = strspn(text, "0123456789");
    return digits > 0 && digits < 11 && text[digits] == '\0';
}

bool sv_check_user(const struct sv_setting_value *value, char *expected, size_t size) {
    if (value->length == 0 || is_number(value->text) || getpwnam(value->text))
        return true;
    return fail(expected, size, "name or number of a user");
}

bool sv_check_group(const struct sv_setting_value *value, char *expected, size_t size) {
    if (value->length == 0 || is_number(value->text) || getgrnam(value->text))
        return true;
    return fail(expected, size, "name or number of a group");
}

bool sv_check_cpus_left(const struct sv_setting_value *value, char *expected, size_t size) {
    cpu_set_t *set = CPU_ALLOC(CPUS_MAX);
    size_t bytes = CPU_ALLOC_SIZE(CPUS_MAX);
    bool is_left = true;

    if (!set)
        return fail(expected, size, "enough memory");
    CPU_ZERO_S(bytes, set);
    if (sched_getaffinity(0, bytes, set) == 0) {
        for (size_t i = 0; i < value->integers.count; i++)
            CPU_CLR_S((size_t)value->integers.items[i], bytes, set);
        is_left = CPU_COUNT_S(bytes, set) > 0;
    }
    CPU_FREE(set);
    return is_left || fail(expected, size, "list that leaves at least one CPU");
}

/* "address" or "address/bits" */
static bool is_network(const char *text) {
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[sizeof(struct in6_addr)];
    const char *slash = strchr(text, '/');
    size_t length = slash ? (size_t)(slash - text) : strlen(text);

    if (length >= sizeof address)
        return false;
    memcpy(address, text, length);
    address[length] = '\0';
    int most_bits = inet_pton(AF_INET, address, bytes) == 1 ? 32 : inet_pton(AF_INET6, address, bytes) == 1 ? 128 : -1;
    if (most_bits < 0 || !slash)
        return most_bits > 0;
    return is_number(slash + 1) && strtol(slash + 1, NULL, 10) <= most_bits;
}

bool sv_check_networks(const struct sv_setting_value *value, char *expected, size_t size) {
    for (size_t i = 0; i < value->strings.count; i++)
        if (!is_network(value->strings.items[i])) {
            snprintf(expected, size, "list of IP addresses or networks like '10.0.0.0/8' ('%.60s' is neither)",
                     value->strings.items[i]);
            return false;
        }
    return true;
}

/* "1.2.3.4", "1.2.3.4:53", "::1", "[::1]:53" */
bool sv_check_address_and_port(const struct sv_setting_value *value, char *expected, size_t size) {
    char address[INET6_ADDRSTRLEN];
    unsigned char bytes[sizeof(struct in6_addr)];
    const char *text = value->text, *port = NULL;
    size_t length = value->length;
    bool is_bracketed = *text == '[';

    if (length == 0)
        return true;
    if (is_bracketed) {
        const char *end = strchr(++text, ']');
        length = end ? (size_t)(end - text) : 0;
        port = end && end[1] == ':' ? end + 2 : NULL;
        if (end && end[1] != '\0' && !port)
            length = 0;
    } else if (strchr(text, ':') && strchr(text, ':') == strrchr(text, ':')) {
        port = strchr(text, ':') + 1;
        length = (size_t)(port - 1 - text);
    }
    if (length > 0 && length < sizeof address) {
        memcpy(address, text, length);
        address[length] = '\0';
        bool is_address = inet_pton(is_bracketed || !strchr(address, '.') ? AF_INET6 : AF_INET, address, bytes) == 1;
        bool is_port = !port || (is_number(port) && strtol(port, NULL, 10) >= 1 && strtol(port, NULL, 10) <= 65535);
        if (is_address && is_port)
            return true;
    }
    return fail(expected, size, "IP address, optionally with :port");
}

bool sv_check_length_type(const struct sv_setting_value *value, char *expected, size_t size) {
    if (value->length == 1 && strchr("cCsSlLnNvVqQJP", value->text[0]))
        return true;
    return fail(expected, size, "one of the letters c C s S l L n N v V q Q J P");
}

bool sv_check_locations(const struct sv_setting_value *value, char *expected, size_t size) {
    for (size_t i = 0; i < value->strings.count; i++)
        if (value->strings.items[i][0] != '/')
            return fail(expected, size, "list of strings that begin with '/'");
    return true;
}

bool sv_check_never_masked(const struct sv_setting_value *value, char *expected, size_t size) {
    return value->number == 0 || fail(expected, size, "false (RFC 6455 forbids servers to mask)");
}

bool sv_check_tls_versions(const struct sv_setting_value *value, char *expected, size_t size) {
    uint32_t wanted = (uint32_t)value->number & (SV_TLS_1_2 | SV_TLS_1_3);
    return !wanted || (wanted & sv_tls_library_versions()) ||
           fail(expected, size, "TLSv1.2: the library has no TLSv1.3");
}

bool sv_check_ciphers(const struct sv_setting_value *value, char *expected, size_t size) {
    char wrong[64] = "";
    int *ciphers = NULL;
    if (sv_certificates_parse_ciphers(&value->strings, &ciphers, wrong, sizeof wrong) == 0) {
        free(ciphers);
        return true;
    }
    snprintf(expected, size, "names of TLS 1.2 suites ('%.63s' is none)", wrong);
    return false;
}

bool sv_check_curves(const struct sv_setting_value *value, char *expected, size_t size) {
    char wrong[64] = "";
    uint16_t *groups = NULL;
    if (sv_certificates_parse_curves(value->text, &groups, wrong, sizeof wrong) == 0) {
        free(groups);
        return true;
    }
    snprintf(expected, size, "'auto' or names of curves ('%.63s' is none)", wrong);
    return false;
}

bool sv_check_alpn(const struct sv_setting_value *value, char *expected, size_t size) {
    size_t bytes = 0;
    for (size_t i = 0; i < value->strings.count; i++) {
        size_t length = strlen(value->strings.items[i]);
        bytes += length + 1;
        if (length < 1 || length > 255 || bytes > 65533)
            return fail(expected, size, "list of names of 1..255 bytes, 64 KiB together at most");
    }
    return true;
}
