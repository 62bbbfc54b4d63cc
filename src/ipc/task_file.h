/* task_file.h: data that are too long for a message of a queue lie in a file, which who takes the message reads and removes.
 *
 * Names: srvlua.task.KEY.SERVER.PID.NUMBER (all but the last in hexadecimal): key of the queue, identity of the server's first
 * process (shm/owner.h), pid of who wrote it, a count. Of a server that is dead they tell whether somebody may still want them.
 *
 * runs in: any process. Blocks as files do. */
#ifndef SV_IPC_TASK_FILE_H
#define SV_IPC_TASK_FILE_H

#include <stddef.h>
#include <stdint.h>

#define SV_TASK_FILE_PREFIX "srvlua.task."
#define SV_TASK_FILE_NAME_MAX 96

/* Writes data to a new file in `directory`, for owner and group only. 0 and its name, or -errno and no file. */
int sv_task_file_write(const char *directory, int32_t key, uint64_t server, uint64_t number, const void *data, size_t length,
                       char name[SV_TASK_FILE_NAME_MAX]);
void sv_task_file_remove(const char *directory, const char *name);
/* Reads the file of a message, *data is the caller's to free, and removes it. The name comes from the message and is not trusted.
 * 0; -EBADMSG: it is no name of ours, or the file has not `length` bytes; -errno. */
int sv_task_file_take(const char *directory, const char *name, size_t name_length, uint64_t length, unsigned char **data);
/* Removes files of servers that are dead, unless their queue is there and has messages, which may be about them. */
void sv_task_files_sweep(const char *directory);

#endif
