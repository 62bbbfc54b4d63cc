/* log.h: the one logger.
 *
 * A sink is where lines go: a descriptor that is opened append-only and shared by all processes and threads of a server.
 * A `struct sv_log` is one writer's view of it: the sink plus who is speaking (role and id). Each line is one write(2) of
 * at most SV_LOG_LINE_MAX bytes, so lines of several processes and threads never mix. Formats: settings.md 3.14, 2.4.
 *
 * runs in: every process and every reactor thread. Never blocks but for the write itself, never allocates per line.
 * The sink's configuration is changed before start() only; reopening replaces the file behind the same descriptor
 * (dup2), so that threads need no lock. */
#ifndef SV_BASE_LOG_H
#define SV_BASE_LOG_H

#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "srvlua.h"

#define SV_LOG_LINE_MAX 65536

enum sv_log_rotation { SV_LOG_SINGLE, SV_LOG_MONTHLY, SV_LOG_DAILY, SV_LOG_HOURLY, SV_LOG_EVERY_MINUTE };

struct sv_log_sink; /* opaque */

struct sv_log_sink *sv_log_sink_new(void); /* stderr, level INFO, text; NULL without memory */
void sv_log_sink_free(struct sv_log_sink *sink);

/* Sends lines to `path` (opened append, created 0644), or back to stderr with NULL. 0 or -errno; on failure nothing changes. */
int sv_log_sink_open(struct sv_log_sink *sink, const char *path);
/* Opens the path again and puts it behind the same descriptor; 0 or -errno. No effect for stderr. */
int sv_log_sink_reopen(struct sv_log_sink *sink);
void sv_log_sink_set_level(struct sv_log_sink *sink, enum srvlua_log_level level);
/* strftime format, must give 1..64 bytes: 0 or -1 with nothing changed. */
int sv_log_sink_set_date_format(struct sv_log_sink *sink, const char *format, bool with_microseconds);
void sv_log_sink_set_json(struct sv_log_sink *sink, bool is_json);
void sv_log_sink_set_rotation(struct sv_log_sink *sink, enum sv_log_rotation rotation);
/* ERROR lines also go to stderr when lines go to a file (display_errors; off after daemonize). */
void sv_log_sink_set_display_errors(struct sv_log_sink *sink, bool is_on);
/* The file and those that follow it are given to this user and group (-1: as it is), so that processes that changed their
 * identity can open them again. For root; 0 or -errno. No effect for stderr. */
int sv_log_sink_set_owner(struct sv_log_sink *sink, uid_t user, gid_t group);
/* Stays with the descriptor from now on: the path means another file here, or none (chroot). */
void sv_log_sink_keep(struct sv_log_sink *sink);
/* Lines go to a file. */
bool sv_log_sink_has_file(const struct sv_log_sink *sink);
/* Descriptor lines go to (2 for stderr). */
int sv_log_sink_fd(const struct sv_log_sink *sink);

struct sv_log {
    struct sv_log_sink *sink;
    const char *role; /* "master", "reactor", "manager", "worker", "task", "user"; static string */
    int id;           /* of the worker or reactor; -1: none */
    int pid;
};

/* A view for the calling process; pid is getpid() now. */
struct sv_log sv_log_view(struct sv_log_sink *sink, const char *role, int id);

bool sv_log_is_on(const struct sv_log *log, enum srvlua_log_level level);
void sv_log_write(const struct sv_log *log, enum srvlua_log_level level, const char *format, ...) SRVLUA_PRINTF(3, 4);
/* The same with what concerns the line: session id (0: none), code of methods.md 2 (0: none). Text format appends
 * nothing for them; json has `session` and `code`. */
void sv_log_about(const struct sv_log *log, enum srvlua_log_level level, int64_t session, int code, const char *format, ...)
    SRVLUA_PRINTF(5, 6);
/* The same from a signal handler: takes no lock and no memory but stack (about SV_LOG_LINE_MAX), leaves files as they are; the
 * date has the default format. */
void sv_log_from_signal(const struct sv_log *log, enum srvlua_log_level level, int64_t session, const char *message, size_t length);
void sv_log_vwrite(const struct sv_log *log, enum srvlua_log_level level, int64_t session, int code, const char *format,
                   va_list arguments);

/* At most one line a second per limit: true if the caller may write now; counts what it swallowed in `suppressed`. */
struct sv_log_limit {
    int64_t next_ns; /* monotonic */
    uint32_t suppressed;
};
bool sv_log_limit_pass(struct sv_log_limit *limit, int64_t now_ns);

#endif
