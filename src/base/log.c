/* log.c: the one logger. runs in: every process and every reactor thread.
 *
 * A line is built on the stack and leaves with one write to a descriptor opened with O_APPEND; that, and not a lock, is
 * what keeps the lines of many processes whole. */
#include "base/log.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"

#define DEFAULT_DATE_FORMAT "%Y-%m-%d %H:%M:%S"
#define DATE_MAX 64
#define SECONDS_PER_DAY 86400
#define FILE_MODE 0644
#define FIRST_FREE_FD 3 /* a log file must never become stdin, stdout or stderr */
/* What the rest of a JSON line may need once its message was cut: closing quote, session, code, brace. */
#define JSON_RESERVE 128

struct sv_log_sink {
    int fd;                 /* STDERR_FILENO, or the file's: it stays the same while files behind it change */
    char *path;             /* without suffix; NULL: stderr */
    char *date_format;      /* NULL: DEFAULT_DATE_FORMAT */
    _Atomic int64_t period; /* of the file that is open, as the number that its suffix is; 0: no suffix */
    _Atomic int64_t utc_offset; /* seconds, as of the last line */
    enum srvlua_log_level level;
    enum sv_log_rotation rotation;
    bool with_microseconds, is_json, displays_errors;
    bool is_kept;           /* the path is of no use any more */
    uid_t user;             /* owner of files to come; -1: who makes them */
    gid_t group;
};

struct line {
    char *text;
    size_t length, limit;
};

static const char *const level_names[] = {"debug", "trace", "info", "notice", "warning", "error"};
static const char *const level_titles[] = {"DEBUG", "TRACE", "INFO", "NOTICE", "WARNING", "ERROR"};

/* --------------------------------------------------------------------------------------------------------- the file */

/* The period that `now` lies in: the digits of the suffix read as a number. */
static int64_t period_of(enum sv_log_rotation rotation, const struct tm *now) {
    int64_t month = (now->tm_year + INT64_C(1900)) * 100 + now->tm_mon + 1;
    int64_t day = month * 100 + now->tm_mday;
    switch (rotation) {
    case SV_LOG_MONTHLY:
        return month;
    case SV_LOG_DAILY:
        return day;
    case SV_LOG_HOURLY:
        return day * 100 + now->tm_hour;
    case SV_LOG_EVERY_MINUTE:
        return (day * 100 + now->tm_hour) * 100 + now->tm_min;
    case SV_LOG_SINGLE:
        break;
    }
    return 0;
}

static int64_t current_period(enum sv_log_rotation rotation) {
    time_t now = time(NULL);
    struct tm parts;
    return localtime_r(&now, &parts) ? period_of(rotation, &parts) : 0;
}

/* Opens the file of a period; its descriptor, or -errno. */
static int open_file(const char *path, int64_t period) {
    char *name;
    int fd;

    int length = period ? asprintf(&name, "%s.%" PRId64, path, period) : asprintf(&name, "%s", path);
    if (length < 0)
        return -ENOMEM;
    do
        fd = open(name, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC | O_NOCTTY, FILE_MODE);
    while (fd < 0 && errno == EINTR);
    int error = errno;
    free(name);
    if (fd >= FIRST_FREE_FD || fd < 0)
        return fd < 0 ? -error : fd;

    int moved = fcntl(fd, F_DUPFD_CLOEXEC, FIRST_FREE_FD);
    error = errno;
    close(fd);
    return moved < 0 ? -error : moved;
}

/* Hands a file to the workers' identity, if it is ours to give. */
static int give_away(const struct sv_log_sink *sink, int fd) {
    bool is_wanted = sink->user != (uid_t)-1 || sink->group != (gid_t)-1;
    return is_wanted && geteuid() == 0 && fchown(fd, sink->user, sink->group) < 0 ? -errno : 0;
}

/* Puts the file of a period behind the sink's descriptor; 0 or -errno. */
static int replace_file(struct sv_log_sink *sink, int64_t period) {
    int fd = open_file(sink->path, period), result = 0;
    if (fd < 0)
        return fd;
    give_away(sink, fd); /* where that fails, who may not open it stays with the former file */
    while (dup3(fd, sink->fd, O_CLOEXEC) < 0) {
        if (errno == EINTR || errno == EBUSY) /* EBUSY: another thread is just opening something */
            continue;
        result = -errno;
        break;
    }
    close(fd);
    return result;
}

/* Goes over to the file of a new period. The thread that wins the exchange does it; where that fails, lines go on into
 * the old file until the next period or a reopening. */
static int follow_rotation(struct sv_log_sink *sink, int64_t period) {
    int64_t open_period = atomic_load_explicit(&sink->period, memory_order_relaxed);
    if (open_period == period || !atomic_compare_exchange_strong(&sink->period, &open_period, period))
        return 0;
    return replace_file(sink, period);
}

/* --------------------------------------------------------------------------------------------------------- the sink */

struct sv_log_sink *sv_log_sink_new(void) {
    struct sv_log_sink *sink = calloc(1, sizeof *sink);
    if (!sink)
        return NULL;
    struct tm parts;
    time_t now = time(NULL);
    tzset(); /* now, so that no line has to read the zone's file */
    if (localtime_r(&now, &parts))
        sink->utc_offset = parts.tm_gmtoff;
    sink->fd = STDERR_FILENO;
    sink->level = SRVLUA_LOG_INFO;
    sink->displays_errors = true;
    sink->user = (uid_t)-1;
    sink->group = (gid_t)-1;
    return sink;
}

void sv_log_sink_free(struct sv_log_sink *sink) {
    if (!sink)
        return;
    if (sink->path)
        close(sink->fd);
    free(sink->path);
    free(sink->date_format);
    free(sink);
}

int sv_log_sink_open(struct sv_log_sink *sink, const char *path) {
    char *copy = NULL;
    int fd = STDERR_FILENO;
    int64_t period = 0;

    if (path) {
        copy = strdup(path);
        if (!copy)
            return -ENOMEM;
        period = current_period(sink->rotation);
        fd = open_file(path, period);
        if (fd < 0) {
            free(copy);
            return fd;
        }
    }
    if (sink->path)
        close(sink->fd);
    free(sink->path);
    sink->path = copy;
    sink->fd = fd;
    atomic_store(&sink->period, period);
    return 0;
}

int sv_log_sink_reopen(struct sv_log_sink *sink) {
    if (!sink->path || sink->is_kept)
        return 0;
    int64_t period = current_period(sink->rotation);
    atomic_store(&sink->period, period);
    return replace_file(sink, period);
}

void sv_log_sink_set_level(struct sv_log_sink *sink, enum srvlua_log_level level) { sink->level = level; }

int sv_log_sink_set_date_format(struct sv_log_sink *sink, const char *format, bool with_microseconds) {
    char text[DATE_MAX + 1];
    time_t now = time(NULL);
    struct tm parts;

    if (!localtime_r(&now, &parts) || strftime(text, sizeof text, format, &parts) == 0)
        return -1;
    char *copy = strdup(format);
    if (!copy)
        return -1;
    free(sink->date_format);
    sink->date_format = copy;
    sink->with_microseconds = with_microseconds;
    return 0;
}

void sv_log_sink_set_json(struct sv_log_sink *sink, bool is_json) { sink->is_json = is_json; }

void sv_log_sink_set_rotation(struct sv_log_sink *sink, enum sv_log_rotation rotation) { sink->rotation = rotation; }

void sv_log_sink_set_display_errors(struct sv_log_sink *sink, bool is_on) { sink->displays_errors = is_on; }

int sv_log_sink_set_owner(struct sv_log_sink *sink, uid_t user, gid_t group) {
    sink->user = user;
    sink->group = group;
    return sink->path ? give_away(sink, sink->fd) : 0;
}

void sv_log_sink_keep(struct sv_log_sink *sink) { sink->is_kept = true; }

bool sv_log_sink_has_file(const struct sv_log_sink *sink) { return sink->path != NULL; }

int sv_log_sink_fd(const struct sv_log_sink *sink) { return sink->fd; }

/* -------------------------------------------------------------------------------------------------- building a line */

static void append(struct line *line, const char *bytes, size_t length) {
    if (length > line->limit - line->length)
        length = line->limit - line->length;
    memcpy(line->text + line->length, bytes, length);
    line->length += length;
}

static void append_format(struct line *line, const char *format, ...) SRVLUA_PRINTF(2, 3);
static void append_format(struct line *line, const char *format, ...) {
    char text[DATE_MAX * 2];
    va_list arguments;
    va_start(arguments, format);
    int length = vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    if (length > 0)
        append(line, text, (size_t)length < sizeof text ? (size_t)length : sizeof text - 1);
}

/* Appends all or nothing, so that an escape sequence is never cut. */
static bool append_whole(struct line *line, const char *bytes, size_t length) {
    if (length > line->limit - line->length)
        return false;
    append(line, bytes, length);
    return true;
}

/* Text that may come from a client must not be able to forge a line or drive a terminal: control characters become
 * \xNN, and what follows a newline (a traceback) is indented, while every record begins with its time. */
static void append_plain(struct line *line, const char *text, size_t length) {
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        char escape[5];
        bool fits;
        if (c == '\n') {
            bool is_indented = i + 1 < length && text[i + 1] == '\t';
            fits = append_whole(line, "\n\t", is_indented ? 1 : 2);
        } else if ((c < ' ' && c != '\t') || c == 0x7f) {
            snprintf(escape, sizeof escape, "\\x%02x", c);
            fits = append_whole(line, escape, 4);
        } else {
            fits = append_whole(line, &text[i], 1);
        }
        if (!fits)
            return;
    }
}

/* Bytes of the well-formed UTF-8 sequence at `text`, 0 if it is none (RFC 3629: no surrogates, nothing overlong). */
static size_t utf8_sequence(const unsigned char *text, size_t length) {
    unsigned char first = text[0];
    size_t size = first < 0x80 ? 1 : first < 0xc2 ? 0 : first < 0xe0 ? 2 : first < 0xf0 ? 3 : first < 0xf5 ? 4 : 0;
    if (size > length)
        return 0;
    for (size_t i = 1; i < size; i++)
        if ((text[i] & 0xc0) != 0x80)
            return 0;
    if ((first == 0xe0 && text[1] < 0xa0) || (first == 0xed && text[1] > 0x9f) || (first == 0xf0 && text[1] < 0x90) ||
        (first == 0xf4 && text[1] > 0x8f))
        return 0;
    return size;
}

static void append_json_string(struct line *line, const char *text, size_t length) {
    append(line, "\"", 1);
    for (size_t i = 0; i < length;) {
        unsigned char c = (unsigned char)text[i];
        size_t size = utf8_sequence((const unsigned char *)text + i, length - i);
        char escape[7];
        bool fits;
        if (size == 0)
            fits = append_whole(line, "\\ufffd", 6);
        else if (c == '"' || c == '\\')
            fits = append_whole(line, (char[]){'\\', (char)c}, 2);
        else if (c == '\n')
            fits = append_whole(line, "\\n", 2);
        else if (c == '\t')
            fits = append_whole(line, "\\t", 2);
        else if (c < ' ' || c == 0x7f)
            fits = append_whole(line, escape, (size_t)snprintf(escape, sizeof escape, "\\u%04x", c));
        else
            fits = append_whole(line, &text[i], size);
        if (!fits)
            break;
        i += size ? size : 1;
    }
    line->limit += 1; /* the quote's place was kept by whoever set the limit */
    append(line, "\"", 1);
    line->limit -= 1;
}

static int days_of_year(int year) { return year % 4 == 0 && (year % 100 != 0 || year % 400 == 0) ? 366 : 365; }

/* What gmtime_r does, without its lock; nothing before 1970. */
static void split_time(int64_t seconds, struct tm *parts) {
    static const int days_of_month[] = {31, 28, 31, 30, 31, 30, 31, 31, 30, 31, 30, 31};
    int64_t days = seconds > 0 ? seconds / SECONDS_PER_DAY : 0;
    int second = seconds > 0 ? (int)(seconds % SECONDS_PER_DAY) : 0;
    int year = 1970, month = 0;
    for (; days >= days_of_year(year); year++)
        days -= days_of_year(year);
    for (;; month++) {
        int length = days_of_month[month] + (month == 1 && days_of_year(year) == 366);
        if (days < length)
            break;
        days -= length;
    }
    *parts = (struct tm){.tm_year = year - 1900,
                         .tm_mon = month,
                         .tm_mday = (int)days + 1,
                         .tm_hour = second / 3600,
                         .tm_min = second / 60 % 60,
                         .tm_sec = second % 60};
}

/* The default format, and what JSON has; strftime takes a lock. */
static void append_plain_date(struct line *line, const struct tm *parts, char separator) {
    append_format(line, "%04d-%02d-%02d%c%02d:%02d:%02d", parts->tm_year + 1900, parts->tm_mon + 1, parts->tm_mday, separator,
                  parts->tm_hour, parts->tm_min, parts->tm_sec);
}

static void append_date(struct line *line, const struct sv_log_sink *sink, const struct tm *parts, long microseconds) {
    char date[DATE_MAX + 1];
    const char *format = sink->date_format ? sink->date_format : DEFAULT_DATE_FORMAT;
    /* A format that fitted when it was set may not fit now: names of months differ in length. */
    if (strftime(date, sizeof date, format, parts) == 0)
        strftime(date, sizeof date, DEFAULT_DATE_FORMAT, parts);
    append(line, date, strlen(date));
    if (sink->with_microseconds)
        append_format(line, ".%06ld", microseconds);
}

/* What one line says. */
struct record {
    const struct sv_log *log;
    enum srvlua_log_level level;
    int64_t session;
    int code;
    struct timespec time;
    struct tm local;
    bool is_from_signal;
    const char *message;
    size_t length;
};

static void build_text(struct line *line, const struct record *record) {
    const struct sv_log *log = record->log;
    if (record->is_from_signal)
        append_plain_date(line, &record->local, ' ');
    else
        append_date(line, log->sink, &record->local, record->time.tv_nsec / 1000);
    append_format(line, " %s %d %s", level_titles[record->level], log->pid, log->role);
    if (log->id >= 0)
        append_format(line, "#%d", log->id);
    append(line, " ", 1);
    line->limit = SV_LOG_LINE_MAX - 1;
    append_plain(line, record->message, record->length);
    line->limit = SV_LOG_LINE_MAX;
    append(line, "\n", 1);
}

static void build_json(struct line *line, const struct record *record) {
    static const char stack_mark[] = "\nstack traceback:\n";
    const struct sv_log *log = record->log;
    struct tm utc;
    const char *stack = memmem(record->message, record->length, stack_mark, sizeof stack_mark - 1);
    size_t message_length = stack ? (size_t)(stack - record->message) : record->length;

    split_time(record->time.tv_sec, &utc);
    append_format(line, "{\"time\":\"");
    append_plain_date(line, &utc, 'T');
    append_format(line, ".%06ldZ\",\"level\":\"%s\"", record->time.tv_nsec / 1000, level_names[record->level]);
    append_format(line, ",\"pid\":%d,\"role\":\"%s\",\"id\":", log->pid, log->role);
    if (log->id >= 0)
        append_format(line, "%d", log->id);
    else
        append_format(line, "null");
    append_format(line, ",\"message\":");
    line->limit = SV_LOG_LINE_MAX - JSON_RESERVE;
    append_json_string(line, record->message, message_length);
    if (stack && line->length + sizeof ",\"stack\":\"\"" < line->limit) {
        stack += sizeof stack_mark - 1;
        append_format(line, ",\"stack\":");
        append_json_string(line, stack, (size_t)(record->message + record->length - stack));
    }
    line->limit = SV_LOG_LINE_MAX;
    if (record->session)
        append_format(line, ",\"session\":%" PRId64, record->session);
    if (record->code)
        append_format(line, ",\"code\":%d", record->code);
    append(line, "}\n", 2);
}

/* A log line that cannot be written has nowhere to be reported: it is lost. Pipes and full disks can take a part. */
static void write_line(int fd, const struct line *line) {
    size_t written = 0;
    while (written < line->length) {
        ssize_t n = write(fd, line->text + written, line->length - written);
        if (n > 0)
            written += (size_t)n;
        else if (n == 0 || errno != EINTR)
            return;
    }
}

static void write_record(const struct record *record) {
    const struct sv_log_sink *sink = record->log->sink;
    char text[SV_LOG_LINE_MAX];
    struct line line = {text, 0, sizeof text};

    if (sink->is_json)
        build_json(&line, record);
    else
        build_text(&line, record);
    write_line(sink->fd, &line);
    if (record->level == SRVLUA_LOG_ERROR && sink->displays_errors && sink->fd != STDERR_FILENO)
        write_line(STDERR_FILENO, &line);
}

static size_t without_trailing_newlines(const char *text, size_t length) {
    while (length > 0 && text[length - 1] == '\n')
        length--;
    return length;
}

/* ------------------------------------------------------------------------------------------------------ the writers */

struct sv_log sv_log_view(struct sv_log_sink *sink, const char *role, int id) {
    return (struct sv_log){.sink = sink, .role = role, .id = id, .pid = getpid()};
}

bool sv_log_is_on(const struct sv_log *log, enum srvlua_log_level level) {
    return level >= log->sink->level && level < SRVLUA_LOG_NONE;
}

void sv_log_vwrite(const struct sv_log *log, enum srvlua_log_level level, int64_t session, int code, const char *format,
                   va_list arguments) {
    int saved_errno = errno; /* callers log between a failed call and looking at its errno */
    char message[SV_LOG_LINE_MAX];
    struct record record = {.log = log, .level = level, .session = session, .code = code, .message = message};

    if (!sv_log_is_on(log, level))
        return;
    clock_gettime(CLOCK_REALTIME, &record.time);
    if (!localtime_r(&record.time.tv_sec, &record.local))
        return; /* the year does not fit an int */
    atomic_store_explicit(&log->sink->utc_offset, record.local.tm_gmtoff, memory_order_relaxed);
    if (log->sink->path && !log->sink->is_kept) {
        int result = follow_rotation(log->sink, period_of(log->sink->rotation, &record.local));
        if (result < 0) {
            struct record failure = record;
            failure.level = SRVLUA_LOG_ERROR;
            failure.session = failure.code = 0;
            failure.length = (size_t)snprintf(message, sizeof message, "cannot open the next log file: %s",
                                              strerror(-result));
            write_record(&failure);
        }
    }
    errno = saved_errno; /* for %m */
    int length = vsnprintf(message, sizeof message, format, arguments);
    if (length >= 0) {
        record.length = (size_t)length < sizeof message ? (size_t)length : sizeof message - 1;
        record.length = without_trailing_newlines(message, record.length);
        write_record(&record);
    }
    errno = saved_errno;
}

void sv_log_write(const struct sv_log *log, enum srvlua_log_level level, const char *format, ...) {
    va_list arguments;
    va_start(arguments, format);
    sv_log_vwrite(log, level, 0, 0, format, arguments);
    va_end(arguments);
}

void sv_log_about(const struct sv_log *log, enum srvlua_log_level level, int64_t session, int code, const char *format,
                  ...) {
    va_list arguments;
    va_start(arguments, format);
    sv_log_vwrite(log, level, session, code, format, arguments);
    va_end(arguments);
}

void sv_log_from_signal(const struct sv_log *log, enum srvlua_log_level level, int64_t session, const char *message, size_t length) {
    struct record record = {.log = log,
                            .level = level,
                            .session = session,
                            .is_from_signal = true,
                            .message = message,
                            .length = without_trailing_newlines(message, length)};
    if (!sv_log_is_on(log, level))
        return;
    clock_gettime(CLOCK_REALTIME, &record.time);
    split_time(record.time.tv_sec + atomic_load_explicit(&log->sink->utc_offset, memory_order_relaxed), &record.local);
    write_record(&record);
}

bool sv_log_limit_pass(struct sv_log_limit *limit, int64_t now_ns) {
    if (now_ns < limit->next_ns) {
        limit->suppressed++;
        return false;
    }
    limit->next_ns = now_ns + SV_NS_PER_SECOND;
    return true;
}
