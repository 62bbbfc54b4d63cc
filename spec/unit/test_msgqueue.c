/* Message queues: types, fullness, who is killed while it takes; the form of tasks in them, and files of long ones. */
#include <dirent.h>
#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/stat.h>
#include <sys/wait.h>
#include <unistd.h>

#include "ipc/msgqueue.h"
#include "ipc/task_file.h"
#include "ipc/task_message.h"
#include "shm/owner.h"
#include "srvlua.h"
#include "unit.h"

#define KILLS 200

static struct sv_msgqueue opened(int32_t key) {
    struct sv_msgqueue queue;
    int result = sv_msgqueue_open(&queue, key);
    if (result) {
        fprintf(stderr, "message queue: %s\n", strerror(-result));
        exit(1);
    }
    return queue;
}

static int put(const struct sv_msgqueue *queue, long type, const char *text) {
    struct sv_queue_message message = {.type = type};
    memcpy(message.text, text, strlen(text));
    return sv_msgqueue_send(queue, &message, strlen(text));
}

static bool got(const struct sv_msgqueue *queue, long type, const char *text) {
    struct sv_queue_message message;
    ssize_t length = sv_msgqueue_receive(queue, type, &message);
    return length == (ssize_t)strlen(text) && memcmp(message.text, text, (size_t)length) == 0;
}

/* A key that nobody else is likely to use. */
static int32_t own_key(void) { return (int32_t)(0x5e000000 + getpid() % 0xffffff); }

/* ------------------------------------------------------------------------------------------------------------- queues */

TEST(messages_are_taken_by_type_or_in_their_order) {
    struct sv_msgqueue queue = opened(0);
    struct sv_queue_message message;
    uint64_t count = 0, bytes = 0;
    CHECK(queue.is_private && queue.most > 0 && queue.most <= SV_QUEUE_TEXT_MAX);
    CHECK(put(&queue, 1, "one") == 0 && put(&queue, 2, "two") == 0 && put(&queue, 1, "three") == 0 && put(&queue, 3, "") == 0);
    CHECK(sv_msgqueue_stat(&queue, &count, &bytes) == 0 && count == 4 && bytes == 11);
    CHECK(got(&queue, 2, "two") && sv_msgqueue_receive(&queue, 2, &message) == -EAGAIN);
    CHECK(got(&queue, 0, "one") && message.type != 1);
    CHECK(got(&queue, 0, "three") && got(&queue, 3, "") && sv_msgqueue_receive(&queue, 0, &message) == -EAGAIN);
    sv_msgqueue_remove(&queue);
    CHECK(queue.id == -1 && put(&queue, 1, "x") < 0);
}

TEST(a_full_queue_says_so_and_nothing_is_too_long_for_it_but_what_never_fits) {
    struct sv_msgqueue queue = opened(0);
    static struct sv_queue_message message = {.type = 7};
    int count = 0, result;
    while ((result = sv_msgqueue_send(&queue, &message, queue.most)) == 0 && count < 1000)
        count++;
    CHECK(result == -EAGAIN && count > 0);
    CHECK(sv_msgqueue_receive(&queue, 7, &message) == (ssize_t)queue.most);
    CHECK(sv_msgqueue_send(&queue, &message, queue.most) == 0);
    CHECK(sv_msgqueue_send(&queue, &message, queue.most + 1) == -EMSGSIZE);
    sv_msgqueue_remove(&queue);
}

TEST(a_queue_with_a_key_is_everybodys) {
    int32_t key = own_key();
    struct sv_msgqueue first = opened(key), second = opened(key);
    CHECK(!first.is_private && first.id == second.id && !sv_msgqueue_is_waiting(key));
    CHECK(put(&first, 1, "kept") == 0 && sv_msgqueue_is_waiting(key));
    CHECK(got(&second, 0, "kept"));
    CHECK(sv_msgqueue_set_owner(&first, getuid(), getgid()) == 0);
    sv_msgqueue_remove(&first);
    CHECK(!sv_msgqueue_is_waiting(key) && put(&second, 1, "x") < 0);
}

/* What a consumer has; the parent looks at it when it is dead. */
struct consumer {
    struct sv_queue_message message;
    _Atomic int64_t done; /* sum of the numbers that it has worked off */
};

static _Noreturn void consume(const struct sv_msgqueue *queue, struct consumer *consumer) {
    for (;;) {
        int number;
        if (sv_msgqueue_receive(queue, 0, &consumer->message) != sizeof number)
            continue;
        memcpy(&number, consumer->message.text, sizeof number);
        atomic_fetch_add(&consumer->done, number);
        consumer->message.type = 0; /* a kill between these two counts it twice: the test allows for that */
    }
}

TEST(a_consumer_that_is_killed_has_taken_nothing_or_all_of_a_message) {
    struct sv_msgqueue queue = opened(0);
    struct consumer *consumer = mmap(NULL, sizeof *consumer, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    int64_t sent = 0, lost = 0;
    struct sv_queue_message message = {.type = 1};
    if (consumer == MAP_FAILED)
        exit(1);
    for (int kills = 0; kills < KILLS; kills++) {
        pid_t pid = fork();
        if (pid == 0)
            consume(&queue, consumer);
        for (int i = 0, most = 20 + kills * 7 % 400; i < most;) {
            int number = kills * 1000 + i + 1;
            memcpy(message.text, &number, sizeof number);
            if (sv_msgqueue_send(&queue, &message, sizeof number))
                continue;
            sent += number;
            i++;
        }
        kill(pid, SIGKILL);
        waitpid(pid, NULL, 0);
        int number = 0;
        if (consumer->message.type == 1)
            memcpy(&number, consumer->message.text, sizeof number);
        consumer->message.type = 0;
        lost += number;
    }
    for (;;) {
        int number;
        if (sv_msgqueue_receive(&queue, 0, &message) != sizeof number)
            break;
        memcpy(&number, message.text, sizeof number);
        sent -= number;
    }
    int64_t twice = atomic_load(&consumer->done) + lost - sent;
    CHECK(twice >= 0 && twice <= lost); /* nothing is missing */
    munmap(consumer, sizeof *consumer);
    sv_msgqueue_remove(&queue);
}

/* ------------------------------------------------------------------------------------------------------- form of tasks */

static const struct sv_task_message example = {.id = UINT64_C(0x100000007),
                                               .flags = SRVLUA_TASK_SERIALIZE | SRVLUA_TASK_NONBLOCK,
                                               .worker = 3,
                                               .server = UINT64_C(0x1234567890),
                                               .born = 9,
                                               .stamp_ns = INT64_C(1700000000123456789),
                                               .data_length = 11,
                                               .bytes = "hello\0world",
                                               .length = 11};

TEST(a_task_is_read_as_it_was_written) {
    unsigned char text[128];
    struct sv_task_message message;
    size_t size = sv_task_message_size(&example);
    sv_task_message_write(&example, text + 1); /* no alignment is needed */
    CHECK(size == SV_TASK_HEAD_BYTES + 11 && memcmp(text + 1, "SVT1", 4) == 0);
    CHECK(sv_task_message_read(&message, text + 1, size) == 0);
    CHECK(message.id == example.id && message.flags == example.flags && message.worker == example.worker);
    CHECK(message.server == example.server && message.born == example.born && message.stamp_ns == example.stamp_ns);
    CHECK(message.length == 11 && message.data_length == 11 && memcmp(message.bytes, "hello\0world", 11) == 0);
}

TEST(what_is_no_task_or_damaged_is_refused) {
    unsigned char text[128] = {0};
    struct sv_task_message message;
    size_t size = sv_task_message_size(&example);
    CHECK(sv_task_message_read(&message, text, sizeof text) == -EBADMSG);
    sv_task_message_write(&example, text);
    for (size_t length = 0; length < sizeof text; length++)
        if (length != size)
            CHECK(sv_task_message_read(&message, text, length) == -EBADMSG);
    for (size_t bit = 0; bit < size * 8; bit++) {
        text[bit / 8] ^= (unsigned char)(1 << bit % 8);
        CHECK(sv_task_message_read(&message, text, size) == -EBADMSG);
        text[bit / 8] ^= (unsigned char)(1 << bit % 8);
    }
    CHECK(sv_task_message_read(&message, text, size) == 0);
    CHECK(sv_task_message_told_size(text, sizeof text) == size && sv_task_message_told_size(text, size - 1) == 0);
}

TEST(fields_that_cannot_be_are_refused) {
    unsigned char text[128];
    struct sv_task_message message, wrong;
    wrong = example, wrong.flags = 1u << 20;
    sv_task_message_write(&wrong, text);
    CHECK(sv_task_message_read(&message, text, sv_task_message_size(&wrong)) == -EBADMSG);
    wrong = example, wrong.worker = -2;
    sv_task_message_write(&wrong, text);
    CHECK(sv_task_message_read(&message, text, sv_task_message_size(&wrong)) == -EBADMSG);
    wrong = example, wrong.data_length = 12;
    sv_task_message_write(&wrong, text);
    CHECK(sv_task_message_read(&message, text, sv_task_message_size(&wrong)) == -EBADMSG);
    wrong.flags |= SRVLUA_TASK_TMPFILE;
    sv_task_message_write(&wrong, text);
    CHECK(sv_task_message_read(&message, text, sv_task_message_size(&wrong)) == 0);
}

/* --------------------------------------------------------------------------------------------------------------- files */

struct place {
    char path[64];
    struct sv_self self;
    struct sv_task_files files;
};

static void make_place(struct place *place) {
    *place = (struct place){.path = "/tmp/srvlua-unit-XXXXXX"};
    if (!mkdtemp(place->path) || sv_self_open(&place->self)) {
        perror("directory");
        exit(1);
    }
    place->files = (struct sv_task_files){.directory = place->path, .key = 5, .server = sv_self_id(&place->self)};
}

static int count_files(const struct place *place) {
    int count = 0;
    DIR *files = opendir(place->path);
    for (struct dirent *entry; files && (entry = readdir(files));)
        count += entry->d_name[0] != '.';
    if (files)
        closedir(files);
    return count;
}

static void end_place(struct place *place) {
    sv_self_close(&place->self);
    CHECK(rmdir(place->path) == 0);
}

TEST(a_file_is_read_and_removed) {
    struct place place;
    char name[SV_TASK_FILE_NAME_MAX], other[SV_TASK_FILE_NAME_MAX];
    unsigned char *data = NULL;
    make_place(&place);
    CHECK(sv_task_file_write(&place.files, "some\0data", 9, name) == 0);
    CHECK(sv_task_file_write(&place.files, "", 0, other) == 0 && strcmp(name, other) != 0);
    CHECK(count_files(&place) == 2);
    place.files.count = 0;
    CHECK(sv_task_file_write(&place.files, "x", 1, other) == -EEXIST && strcmp(name, other) == 0);
    CHECK(sv_task_file_read(&place.files, name, strlen(name), 8, &data) == -EBADMSG);
    CHECK(sv_task_file_read(&place.files, name, strlen(name), 9, &data) == 0 && memcmp(data, "some\0data", 9) == 0);
    free(data);
    sv_task_file_remove(&place.files, name, strlen(name));
    CHECK(count_files(&place) == 1);
    CHECK(sv_task_file_read(&place.files, name, strlen(name), 9, &data) == -ENOENT);
    place.files.count = 1;
    CHECK(sv_task_file_write(&place.files, "", 0, other) == -EEXIST);
    sv_task_file_remove(&place.files, other, strlen(other));
    CHECK(count_files(&place) == 0);
    place.files.directory = "/nonexistent";
    CHECK(sv_task_file_write(&place.files, "", 0, name) == -ENOENT);
    end_place(&place);
}

TEST(names_from_messages_lead_nowhere_else) {
    struct place place;
    char path[160], target[160];
    unsigned char *data = NULL;
    make_place(&place);
    static const char *const names[] = {"", "x", "srvlua.task.", "../srvlua.task.1", "srvlua.task./etc/passwd",
                                        "srvlua.task.1/../../x"};
    for (size_t i = 0; i < sizeof names / sizeof *names; i++)
        CHECK(sv_task_file_read(&place.files, names[i], strlen(names[i]), 1, &data) == -EBADMSG);
    CHECK(sv_task_file_read(&place.files, "srvlua.task.\0.1.1.1", 19, 1, &data) == -EBADMSG);
    snprintf(target, sizeof target, "%s/target", place.path);
    snprintf(path, sizeof path, "%s/srvlua.task.0.1.1.1", place.path);
    int fd = open(target, O_WRONLY | O_CREAT, 0600);
    CHECK(fd >= 0 && write(fd, "x", 1) == 1);
    close(fd);
    CHECK(symlink(target, path) == 0);
    CHECK(sv_task_file_read(&place.files, "srvlua.task.0.1.1.1", 19, 1, &data) == -ELOOP);
    unlink(path);
    CHECK(mkfifo(path, 0600) == 0 && sv_task_file_read(&place.files, "srvlua.task.0.1.1.1", 19, 0, &data) == -EBADMSG);
    unlink(path);
    unlink(target);
    end_place(&place);
}

TEST(files_of_dead_servers_are_swept_unless_their_queue_has_messages) {
    struct place place;
    int32_t key = own_key();
    struct sv_msgqueue queue = opened(key);
    char name[SV_TASK_FILE_NAME_MAX], kept[SV_TASK_FILE_NAME_MAX], strange[160];
    make_place(&place);
    struct sv_task_files dead = place.files;
    dead.server = UINT64_C(1) << 40 | 1; /* pid 1, which did not start then */
    CHECK(sv_task_file_write(&place.files, "a", 1, kept) == 0);
    dead.key = 0;
    CHECK(sv_task_file_write(&dead, "b", 1, name) == 0);
    dead.key = key;
    CHECK(sv_task_file_write(&dead, "c", 1, name) == 0);
    snprintf(strange, sizeof strange, "%s/srvlua.task.of.others", place.path);
    close(open(strange, O_WRONLY | O_CREAT, 0600));
    CHECK(put(&queue, 1, "about it") == 0);
    sv_task_files_sweep(place.path);
    CHECK(count_files(&place) == 3);
    sv_msgqueue_remove(&queue);
    sv_task_files_sweep(place.path);
    CHECK(count_files(&place) == 2);
    unlink(strange);
    sv_task_file_remove(&place.files, kept, strlen(kept));
    sv_task_files_sweep("/nonexistent");
    end_place(&place);
}
