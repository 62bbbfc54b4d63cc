/* task_file.h: data that are too long for a message of a queue lie in a file, which who takes the message reads, and removes when the task runs.
 *
 * Names: srvlua.task.KEY.SERVER.PID.NUMBER (all but the last in hexadecimal): key of the queue, identity of the server's first
 * process (shm/owner.h), pid of who wrote it, a count. Of a server that is dead they tell whether somebody may still want them.
 *
 * runs in: any process. Blocks as files do. */
#ifndef SV_IPC_TASK_FILE_H
#define SV_IPC_TASK_FILE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/types.h>

#define SV_TASK_FILE_PREFIX "srvlua.task."
#define SV_TASK_FILE_NAME_MAX 96

struct sv_task_files {
    const char *directory;
    int32_t key;     /* of the queue */
    uint64_t server; /* whose files these are */
    uint64_t count;  /* written by this process */
    bool has_user, has_group; /* whose they become */
    uid_t user;
    gid_t group;
};

/* Writes data to a new file, for its user and group only. 0 and its name, or -errno and no file. */
int sv_task_file_write(struct sv_task_files *files, const void *data, size_t length, char name[SV_TASK_FILE_NAME_MAX]);
/* Reads the file of a message; *data is the caller's to free. The name comes from the message and is not trusted. 0; -EBADMSG: it
 * is no name of ours, or the file has not `length` bytes; -errno. */
int sv_task_file_read(const struct sv_task_files *files, const char *name, size_t name_length, uint64_t length, unsigned char **data);
/* Removes it, if it is a name of ours. */
void sv_task_file_remove(const struct sv_task_files *files, const char *name, size_t name_length);
/* Removes files of servers that are dead, unless their queue is there and has messages, which may be about them. */
void sv_task_files_sweep(const char *directory);

#endif
