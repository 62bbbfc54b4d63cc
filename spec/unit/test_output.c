/* What a connection still has to send: order, parts of files, sockets that block, blocks that are used again. */
#include <errno.h>
#include <fcntl.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/socket.h>
#include <unistd.h>

#include "net/output.h"
#include "unit.h"

struct fixture {
    int socket, peer;
    struct sv_output output;
    struct sv_output_pool pool;
};

static struct fixture set_up(void) {
    int ends[2];
    if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0, ends)) {
        perror("socketpair");
        exit(1);
    }
    return (struct fixture){.socket = ends[0], .peer = ends[1]};
}

static void tear_down(struct fixture *fixture) {
    sv_output_clear(&fixture->output, &fixture->pool);
    sv_output_pool_free(&fixture->pool);
    close(fixture->socket);
    if (fixture->peer >= 0)
        close(fixture->peer);
}

static int append(struct fixture *fixture, const void *data, size_t length) {
    return sv_output_append(&fixture->output, &fixture->pool, data, length);
}

static int flush(struct fixture *fixture, int64_t *written) {
    return sv_output_flush(&fixture->output, &fixture->pool, fixture->socket, NULL, written);
}

/* A file without a name that holds `text`. */
static int file_of(const char *text, size_t length) {
    int file = memfd_create("output", MFD_CLOEXEC);
    if (file < 0 || write(file, text, length) != (ssize_t)length) {
        perror("memfd");
        exit(1);
    }
    return file;
}

static bool receives(struct fixture *fixture, const char *expected) {
    char data[256];
    ssize_t got = recv(fixture->peer, data, sizeof data, MSG_DONTWAIT);
    return got == (ssize_t)strlen(expected) && memcmp(data, expected, (size_t)got) == 0;
}

static unsigned char byte_at(size_t position) { return (unsigned char)(position * 31 + position / 251); }

static unsigned char *pattern(size_t length) {
    unsigned char *data = malloc(length);
    for (size_t i = 0; i < length; i++)
        data[i] = byte_at(i);
    return data;
}

/* Flushes and reads in turns until everything of `total` bytes went over; true if all bytes were right. */
static bool passes(struct fixture *fixture, size_t total) {
    size_t seen = 0;
    unsigned char data[65536];
    for (int turns = 0; seen < total && turns < 100000; turns++) {
        int64_t written;
        if (flush(fixture, &written) < 0)
            return false;
        ssize_t got;
        while ((got = recv(fixture->peer, data, sizeof data, MSG_DONTWAIT)) > 0)
            for (ssize_t i = 0; i < got; i++)
                if (data[i] != byte_at(seen++))
                    return false;
    }
    return seen == total && sv_output_is_empty(&fixture->output);
}

TEST(nothing_queued_is_drained) {
    struct fixture fixture = set_up();
    int64_t written = -1;
    CHECK(sv_output_is_empty(&fixture.output));
    CHECK(flush(&fixture, &written) == SV_OUTPUT_DRAINED && written == 0);
    tear_down(&fixture);
}

/* An empty send, as a worker gone mad may order it, ended the master. */
TEST(no_bytes_queue_nothing) {
    struct fixture fixture = set_up();
    CHECK(append(&fixture, "", 0) == 0 && sv_output_is_empty(&fixture.output));
    tear_down(&fixture);
}

TEST(small_pieces_leave_together_in_order) {
    struct fixture fixture = set_up();
    int64_t written;
    CHECK(append(&fixture, "one ", 4) == 0 && append(&fixture, "two ", 4) == 0 && append(&fixture, "three", 5) == 0);
    CHECK(fixture.output.bytes == 13 && fixture.output.first == fixture.output.last);
    CHECK(flush(&fixture, &written) == SV_OUTPUT_DRAINED && written == 13);
    CHECK(fixture.output.bytes == 0 && sv_output_is_empty(&fixture.output));
    CHECK(receives(&fixture, "one two three"));
    tear_down(&fixture);
}

TEST(data_files_and_buffers_keep_their_order) {
    struct fixture fixture = set_up();
    int64_t written;
    char *owned = strdup("..[buffer]");
    CHECK(append(&fixture, "data ", 5) == 0);
    CHECK(sv_output_append_file(&fixture.output, file_of("a whole file", 12), 2, 5) == 0);
    CHECK(append(&fixture, " more ", 6) == 0);
    CHECK(sv_output_adopt(&fixture.output, (unsigned char *)owned, 2, 10) == 0);
    CHECK(fixture.output.bytes == 19); /* files count nothing */
    CHECK(flush(&fixture, &written) == SV_OUTPUT_DRAINED && written == 24);
    CHECK(receives(&fixture, "data whole more [buffer]"));
    tear_down(&fixture);
}

TEST(all_sizes_arrive_whole) {
    const size_t sizes[] = {1,      SV_OUTPUT_BLOCK_BYTES - 1, SV_OUTPUT_BLOCK_BYTES, SV_OUTPUT_BLOCK_BYTES + 1, 100000,
                            3 << 20};
    for (size_t i = 0; i < sizeof sizes / sizeof *sizes; i++) {
        struct fixture fixture = set_up();
        unsigned char *data = pattern(sizes[i]);
        size_t cut = sizes[i] / 3;
        CHECK(append(&fixture, data, cut) == 0 && append(&fixture, data + cut, sizes[i] - cut) == 0);
        CHECK(fixture.output.bytes == (int64_t)sizes[i]);
        CHECK(passes(&fixture, sizes[i]));
        CHECK(fixture.output.bytes == 0);
        free(data);
        tear_down(&fixture);
    }
}

TEST(a_large_file_passes_a_small_socket) {
    struct fixture fixture = set_up();
    size_t size = 2 << 20;
    unsigned char *data = pattern(size);
    CHECK(sv_output_append_file(&fixture.output, file_of((char *)data, size), 0, (int64_t)size) == 0);
    CHECK(passes(&fixture, size));
    free(data);
    tear_down(&fixture);
}

TEST(a_full_socket_blocks_and_goes_on) {
    struct fixture fixture = set_up();
    size_t size = 4 << 20;
    unsigned char *data = pattern(size);
    int64_t written = 0;
    CHECK(append(&fixture, data, size) == 0);
    CHECK(flush(&fixture, &written) == SV_OUTPUT_BLOCKED && written > 0 && written < (int64_t)size);
    CHECK(fixture.output.bytes == (int64_t)size - written);
    CHECK(flush(&fixture, &written) == SV_OUTPUT_BLOCKED && written == 0);
    CHECK(passes(&fixture, size));
    free(data);
    tear_down(&fixture);
}

TEST(one_flush_leaves_time_for_others) {
    struct fixture fixture = set_up();
    int sink = open("/dev/null", O_RDWR); /* sendfile takes everything there */
    size_t size = 3 << 20;
    unsigned char *data = pattern(size);
    int64_t written = 0;
    CHECK(sv_output_append_file(&fixture.output, file_of((char *)data, size), 0, (int64_t)size) == 0);
    CHECK(sv_output_flush(&fixture.output, &fixture.pool, sink, NULL, &written) == SV_OUTPUT_MORE);
    CHECK(written >= 1 << 20 && written < 2 << 20);
    close(sink);
    free(data);
    tear_down(&fixture);
}

TEST(a_file_that_shrank_is_an_error) {
    struct fixture fixture = set_up();
    int file = file_of("0123456789", 10);
    int64_t written;
    CHECK(sv_output_append_file(&fixture.output, file, 0, 10) == 0);
    CHECK(ftruncate(file, 4) == 0);
    CHECK(flush(&fixture, &written) == -EIO && written == 4);
    tear_down(&fixture);
}

TEST(a_peer_that_is_gone_is_an_error) {
    struct fixture fixture = set_up();
    int64_t written;
    close(fixture.peer);
    fixture.peer = -1;
    CHECK(append(&fixture, "x", 1) == 0);
    CHECK(flush(&fixture, &written) == -EPIPE && written == 0);
    tear_down(&fixture);
}

TEST(clear_closes_files_and_frees_everything) {
    struct fixture fixture = set_up();
    int file = file_of("x", 1);
    CHECK(append(&fixture, "abc", 3) == 0 && sv_output_append_file(&fixture.output, file, 0, 1) == 0);
    sv_output_clear(&fixture.output, &fixture.pool);
    CHECK(sv_output_is_empty(&fixture.output) && fixture.output.bytes == 0);
    CHECK(fcntl(file, F_GETFD) < 0 && errno == EBADF);
    tear_down(&fixture);
}

TEST(drained_blocks_are_used_again) {
    struct fixture fixture = set_up();
    int64_t written;
    CHECK(append(&fixture, "one", 3) == 0);
    const struct sv_output_part *block = fixture.output.first;
    CHECK(flush(&fixture, &written) == SV_OUTPUT_DRAINED && fixture.pool.free_count == 1);
    CHECK(append(&fixture, "two", 3) == 0 && fixture.output.first == block && fixture.pool.free_count == 0);
    CHECK(flush(&fixture, &written) == SV_OUTPUT_DRAINED && receives(&fixture, "onetwo"));
    tear_down(&fixture);
}
