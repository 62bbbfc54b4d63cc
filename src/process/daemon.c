/* daemon.c: going into the background, and the pid file (settings.md 3.15, 3.16). runs in: the starting process. */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/errors.h"
#include "process/runtime.h"

int sv_daemonize(struct sv_runtime *rt, struct srvlua_status *status) {
    fflush(NULL);
    pid_t child = fork();
    if (child < 0) return sv_fail_errno(status, errno, "daemonize: fork");
    if (child > 0) _exit(0); /* the shell gets its prompt back */
    if (setsid() < 0 || chdir("/") < 0) return sv_fail_errno(status, errno, "daemonize");
    int input = open("/dev/null", O_RDWR | O_CLOEXEC);
    if (input < 0) return sv_fail_errno(status, errno, "daemonize: /dev/null");
    int log = sv_log_sink_fd(rt->sink);
    int output = log == STDERR_FILENO ? input : log;
    dup2(input, STDIN_FILENO);
    dup2(output, STDOUT_FILENO);
    dup2(output, STDERR_FILENO);
    if (input > STDERR_FILENO) close(input);
    sv_log_sink_set_display_errors(rt->sink, false);
    rt->is_in_background = true;
    return 0;
}

static int directory_of(const char *path, char *directory, size_t size) {
    const char *slash = strrchr(path, '/');
    size_t length = slash ? (size_t)(slash - path) : 0;
    if (length >= size) return -ENAMETOOLONG;
    if (!slash)
        strcpy(directory, ".");
    else if (length == 0)
        strcpy(directory, "/");
    else {
        memcpy(directory, path, length);
        directory[length] = '\0';
    }
    return 0;
}

int sv_pid_file_check(const char *path, struct srvlua_status *status) {
    char directory[PATH_MAX];
    int result = directory_of(path, directory, sizeof directory);
    if (result == 0 && access(directory, W_OK | X_OK)) result = -errno;
    return result ? sv_fail(status, -result, "pid_file '%s' cannot be written: %s", path, strerror(-result)) : 0;
}

int sv_pid_file_write(const char *path, struct srvlua_status *status) {
    char temporary[PATH_MAX];
    int length = snprintf(temporary, sizeof temporary, "%s.%d", path, (int)getpid());
    if (length < 0 || (size_t)length >= sizeof temporary) return sv_fail(status, ENAMETOOLONG, "pid_file: the name is too long");
    int fd = open(temporary, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0644);
    if (fd < 0) return sv_fail_errno(status, errno, "pid_file");
    int failed = dprintf(fd, "%d", (int)getpid()) < 0 ? errno : 0;
    fchmod(fd, 0644); /* whatever the umask is */
    close(fd);
    if (!failed && rename(temporary, path)) failed = errno;
    if (!failed) return 0;
    unlink(temporary);
    return sv_fail_errno(status, failed, "pid_file");
}

void sv_pid_file_remove(const char *path) {
    int fd = open(path, O_RDONLY | O_CLOEXEC);
    if (fd < 0) return;
    char text[32] = "";
    ssize_t length = read(fd, text, sizeof text - 1);
    close(fd);
    if (length > 0 && atoi(text) == (int)getpid()) unlink(path);
}
