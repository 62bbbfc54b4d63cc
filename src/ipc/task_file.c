/* task_file.c: see task_file.h. */
#include "ipc/task_file.h"

#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "ipc/msgqueue.h"
#include "shm/owner.h"

static int open_directory(const char *directory) {
    int fd = open(directory, O_RDONLY | O_DIRECTORY | O_CLOEXEC);
    return fd < 0 ? -errno : fd;
}

/* ------------------------------------------------------------------------------------------------------- writing */

static int write_all(int fd, const unsigned char *data, size_t length) {
    while (length) {
        ssize_t written = write(fd, data, length);
        if (written < 0 && errno == EINTR) continue;
        if (written < 0) return -errno;
        data += written;
        length -= (size_t)written;
    }
    return 0;
}

static int hand_over(const struct sv_task_files *files, int fd) {
    uid_t user = files->has_user ? files->user : (uid_t)-1;
    gid_t group = files->has_group ? files->group : (gid_t)-1;
    if ((!files->has_user || user == geteuid()) && (!files->has_group || group == getegid())) return 0;
    return fchown(fd, user, group) ? -errno : 0;
}

int sv_task_file_write(struct sv_task_files *files, const void *data, size_t length, char name[SV_TASK_FILE_NAME_MAX]) {
    int at = open_directory(files->directory);
    if (at < 0) return at;
    snprintf(name, SV_TASK_FILE_NAME_MAX, SV_TASK_FILE_PREFIX "%" PRIx32 ".%" PRIx64 ".%x.%" PRIu64, (uint32_t)files->key, files->server,
             (unsigned)getpid(), ++files->count);
    int fd = openat(at, name, O_WRONLY | O_CREAT | O_EXCL | O_CLOEXEC | O_NOFOLLOW, 0660);
    int result = fd < 0 ? -errno : hand_over(files, fd);
    if (result == 0) result = write_all(fd, data, length);
    if (fd >= 0) close(fd); /* nothing is left that could fail: the data are the kernel's */
    if (fd >= 0 && result) unlinkat(at, name, 0);
    close(at);
    return result;
}

/* -------------------------------------------------------------------------------------------------------- taking */

static bool copy_name(char copy[SV_TASK_FILE_NAME_MAX], const char *name, size_t length) {
    size_t prefix = sizeof SV_TASK_FILE_PREFIX - 1;
    if (length <= prefix || length >= SV_TASK_FILE_NAME_MAX || memcmp(name, SV_TASK_FILE_PREFIX, prefix) != 0) return false;
    if (memchr(name, '/', length) || memchr(name, '\0', length)) return false;
    memcpy(copy, name, length);
    copy[length] = '\0';
    return true;
}

static int read_all(int fd, unsigned char *data, size_t length) {
    for (size_t got = 0; got < length;) {
        ssize_t count = read(fd, data + got, length - got);
        if (count < 0 && errno == EINTR) continue;
        if (count <= 0) return count ? -errno : -EBADMSG;
        got += (size_t)count;
    }
    return 0;
}

/* The whole file, if it is one with so many bytes. */
static int read_file(int fd, uint64_t length, unsigned char **data) {
    struct stat info;
    if (fstat(fd, &info)) return -errno;
    if (!S_ISREG(info.st_mode) || (uint64_t)info.st_size != length) return -EBADMSG;
    *data = malloc((size_t)length + 1);
    if (!*data) return -ENOMEM;
    int result = read_all(fd, *data, (size_t)length);
    if (result) free(*data);
    return result;
}

int sv_task_file_read(const struct sv_task_files *files, const char *name, size_t name_length, uint64_t length, unsigned char **data) {
    char copy[SV_TASK_FILE_NAME_MAX];
    if (!copy_name(copy, name, name_length)) return -EBADMSG;
    int at = open_directory(files->directory);
    if (at < 0) return at;
    int fd = openat(at, copy, O_RDONLY | O_CLOEXEC | O_NOFOLLOW | O_NONBLOCK);
    int result = fd < 0 ? -errno : read_file(fd, length, data);
    if (fd >= 0) close(fd);
    close(at);
    return result;
}

void sv_task_file_remove(const struct sv_task_files *files, const char *name, size_t name_length) {
    char copy[SV_TASK_FILE_NAME_MAX];
    int at = copy_name(copy, name, name_length) ? open_directory(files->directory) : -1;
    if (at < 0) return;
    unlinkat(at, copy, 0);
    close(at);
}

/* ------------------------------------------------------------------------------------------------------ sweeping */

static bool is_left_behind(const char *name) {
    uint32_t key;
    uint64_t server, number;
    unsigned pid;
    int end = 0;
    int found = sscanf(name, SV_TASK_FILE_PREFIX "%" SCNx32 ".%" SCNx64 ".%x.%" SCNu64 "%n", &key, &server, &pid, &number, &end);
    if (found != 4 || name[end] != '\0' || sv_owner_is_alive(server)) return false;
    return key == 0 || !sv_msgqueue_is_waiting((int32_t)key);
}

void sv_task_files_sweep(const char *directory) {
    DIR *files = opendir(directory);
    if (!files) return;
    for (struct dirent *entry; (entry = readdir(files));)
        if (is_left_behind(entry->d_name)) unlinkat(dirfd(files), entry->d_name, 0);
    closedir(files);
}
