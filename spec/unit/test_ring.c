/* Rings: records and their order, the wrap, being full, corrupt producers, and processes that are killed at any instant. */
#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <time.h>
#include <unistd.h>

#include "shm/ring.h"
#include "unit.h"

#define SMALL 4096u
#define PRODUCER_KILLS 150
#define CONSUMER_KILLS 150
#define RECORDS 200000u

static struct sv_ring *new_ring(uint32_t size) {
    struct sv_ring *ring = mmap(NULL, sv_ring_bytes(size), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (ring == MAP_FAILED) {
        perror("mmap");
        exit(1);
    }
    sv_ring_init(ring, size);
    return ring;
}

static void drop_ring(struct sv_ring *ring) { munmap(ring, sv_ring_bytes(ring->size)); }

/* Both ends of a ring in one process. */
struct pair {
    struct sv_ring *ring;
    struct sv_ring_writer writer;
    struct sv_ring_reader reader;
};

static struct pair new_pair(uint32_t size) {
    struct pair pair = {.ring = new_ring(size)};
    sv_ring_writer_attach(&pair.writer, pair.ring, NULL, NULL);
    sv_ring_reader_attach(&pair.reader, pair.ring);
    return pair;
}

static bool put(struct sv_ring_writer *writer, uint64_t id, uint32_t length) {
    struct sv_record *record = sv_ring_reserve(writer, length);
    if (!record)
        return false;
    *record = (struct sv_record){.length = length, .type = 1, .flags = SV_RECORD_FIRST | SV_RECORD_LAST, .id = id};
    memset(record->payload, (int)(id & 0xff), length);
    sv_ring_publish(writer, record);
    return true;
}

/* The next record is `id`, whole; it is taken and given back. */
static bool got(struct sv_ring_reader *reader, uint64_t id, uint32_t length) {
    const struct sv_record *record = sv_ring_peek(reader);
    if (!record || record->id != id || record->length != length)
        return false;
    for (uint32_t i = 0; i < length; i++)
        if (record->payload[i] != (id & 0xff))
            return false;
    sv_ring_take(reader, record);
    sv_ring_begin(reader);
    sv_ring_release(reader);
    return true;
}

TEST(an_empty_ring_has_nothing) {
    struct pair pair = new_pair(SMALL);
    CHECK(!sv_ring_peek(&pair.reader));
    CHECK(sv_ring_backlog(pair.ring) == 0);
    drop_ring(pair.ring);
}

TEST(records_come_in_order_with_all_members) {
    struct pair pair = new_pair(SMALL);
    struct sv_record *record = sv_ring_reserve(&pair.writer, 5);
    *record = (struct sv_record){.length = 5,
                                 .type = 7,
                                 .flags = SV_RECORD_FIRST,
                                 .id = UINT64_C(1) << 40,
                                 .source = 3,
                                 .value = -1,
                                 .stamp_ns = 42};
    memcpy(record->payload, "a\0b\0c", 5);
    sv_ring_publish(&pair.writer, record);
    CHECK(put(&pair.writer, 2, 0));

    const struct sv_record *seen = sv_ring_peek(&pair.reader);
    CHECK(seen && seen->length == 5 && seen->type == 7 && seen->flags == SV_RECORD_FIRST && seen->source == 3);
    CHECK(seen && seen->id == UINT64_C(1) << 40 && seen->value == -1 && seen->stamp_ns == 42);
    CHECK(seen && memcmp(seen->payload, "a\0b\0c", 5) == 0);
    CHECK(sv_ring_peek(&pair.reader) == seen);
    sv_ring_take(&pair.reader, seen);
    CHECK(got(&pair.reader, 2, 0));
    CHECK(!sv_ring_peek(&pair.reader));
    drop_ring(pair.ring);
}

TEST(what_is_reserved_is_not_seen_before_it_is_published) {
    struct pair pair = new_pair(SMALL);
    struct sv_record *record = sv_ring_reserve(&pair.writer, 8);
    *record = (struct sv_record){.length = 8, .type = 1};
    CHECK(!sv_ring_peek(&pair.reader));

    /* its producer dies here; the successor's record takes the place */
    sv_ring_writer_attach(&pair.writer, pair.ring, NULL, NULL);
    CHECK(put(&pair.writer, 9, 16));
    CHECK(got(&pair.reader, 9, 16));
    drop_ring(pair.ring);
}

TEST(a_record_may_be_published_shorter_than_reserved) {
    struct pair pair = new_pair(SMALL);
    struct sv_record *record = sv_ring_reserve(&pair.writer, 900);
    *record = (struct sv_record){.length = 3, .type = 1, .id = 0x61};
    memset(record->payload, 0x61, 3);
    sv_ring_publish(&pair.writer, record);
    CHECK(sv_ring_backlog(pair.ring) == 2 * SV_RECORD_ALIGN);
    CHECK(got(&pair.reader, 0x61, 3));
    drop_ring(pair.ring);
}

TEST(every_length_passes_the_wrap) {
    struct pair pair = new_pair(SMALL);
    uint64_t id = 0;
    for (uint32_t length = 0; length <= sv_ring_max_payload(SMALL); length++) {
        CHECK(put(&pair.writer, id, length));
        CHECK(got(&pair.reader, id, length));
        id++;
    }
    drop_ring(pair.ring);
}

TEST(the_largest_record_fits_wherever_an_empty_ring_stands) {
    for (uint32_t before = 0; before <= SMALL / SV_RECORD_ALIGN; before++) {
        struct pair pair = new_pair(SMALL);
        for (uint32_t i = 0; i < before; i++)
            CHECK(put(&pair.writer, i, 0) && got(&pair.reader, i, 0));
        CHECK(put(&pair.writer, 5, sv_ring_max_payload(SMALL)));
        CHECK(got(&pair.reader, 5, sv_ring_max_payload(SMALL)));
        drop_ring(pair.ring);
    }
}

TEST(a_full_ring_refuses_and_asks_for_space_once) {
    struct pair pair = new_pair(SMALL);
    uint64_t written = 0, read = 0;
    while (put(&pair.writer, written, 96))
        written++;
    CHECK(written == SMALL / 128);
    CHECK(atomic_load(&pair.ring->want_space) == 1);

    while (read < written / 2 - 1)
        CHECK(got(&pair.reader, read, 96) && (read++, !sv_ring_is_wanted(&pair.reader)));
    CHECK(!sv_ring_has_half(&pair.writer));
    CHECK(got(&pair.reader, read++, 96));
    CHECK(sv_ring_has_half(&pair.writer));
    CHECK(sv_ring_is_wanted(&pair.reader));  /* half is free: the producer is woken, */
    CHECK(!sv_ring_is_wanted(&pair.reader)); /* once */
    CHECK(put(&pair.writer, written, 96));
    drop_ring(pair.ring);
}

TEST(reading_sockets_uses_the_rest_before_the_end) {
    struct pair pair = new_pair(SMALL);
    for (uint64_t i = 0; i < 3; i++)
        CHECK(put(&pair.writer, i, 992) && got(&pair.reader, i, 992));
    CHECK(put(&pair.writer, 3, 480) && got(&pair.reader, 3, 480)); /* 512 bytes to the end */
    uint32_t size = 4000;
    struct sv_record *record = sv_ring_reserve_between(&pair.writer, 400, &size);
    CHECK(record && size == 512 - SV_RECORD_ALIGN);
    size = 4000;
    record = sv_ring_reserve_between(&pair.writer, 481, &size); /* more than the rest: behind a pad */
    CHECK(record && (unsigned char *)record == pair.ring->data && size == SMALL - 512 - SV_RECORD_ALIGN);
    *record = (struct sv_record){.length = 2, .type = 1, .id = 0x7a};
    memset(record->payload, 0x7a, 2);
    sv_ring_publish(&pair.writer, record);
    CHECK(got(&pair.reader, 0x7a, 2));
    size = 10;
    record = sv_ring_reserve_between(&pair.writer, 1, &size);
    CHECK(record && size == 10);
    drop_ring(pair.ring);
}

/* ------------------------------------------------------------------------------------------------------- the ledger */

struct ledger {
    uint64_t next;
    bool is_right;
};

static void note_consumed(void *context, const struct sv_record *record) {
    struct ledger *ledger = context;
    ledger->is_right &= record->type != SV_RECORD_PAD && record->id == ledger->next &&
                        record->payload[0] == (record->id & 0xff);
    ledger->next++;
}

TEST(the_producer_hears_of_each_released_record_before_it_is_overwritten) {
    struct pair pair = new_pair(SMALL);
    struct ledger ledger = {.is_right = true};
    sv_ring_writer_attach(&pair.writer, pair.ring, note_consumed, &ledger);
    uint64_t written = 0, read = 0;
    for (int round = 0; round < 200; round++) {
        while (put(&pair.writer, written, 40 + (uint32_t)(written % 300)))
            written++;
        for (int i = 0; i < 5; i++, read++)
            CHECK(got(&pair.reader, read, 40 + (uint32_t)(read % 300)));
    }
    sv_ring_writer_refresh(&pair.writer);
    CHECK(ledger.is_right && ledger.next == read);
    drop_ring(pair.ring);
}

/* ------------------------------------------------------------------------------------------------------- bad peers */

TEST(a_consumer_never_trusts_a_length) {
    const uint32_t lengths[] = {33, 100, SMALL, SMALL - SV_RECORD_ALIGN + 1, UINT32_MAX - 31, UINT32_MAX};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct pair pair = new_pair(SMALL);
        struct sv_record *record = sv_ring_reserve(&pair.writer, 32);
        *record = (struct sv_record){.length = 32, .type = 1};
        sv_ring_publish(&pair.writer, record);
        record->length = lengths[i]; /* a producer gone mad */
        CHECK(!sv_ring_peek(&pair.reader) && pair.reader.is_corrupt);
        CHECK(!sv_ring_peek(&pair.reader));
        drop_ring(pair.ring);
    }
}

TEST(a_producer_never_believes_an_impossible_head) {
    struct pair pair = new_pair(SMALL);
    for (uint64_t i = 0; i < 32; i++)
        CHECK(put(&pair.writer, i, 96));
    atomic_store(&pair.ring->head, UINT64_C(1) << 40); /* a consumer gone mad */
    CHECK(!put(&pair.writer, 32, 96));
    drop_ring(pair.ring);
}

TEST(a_successor_sees_what_was_not_begun_and_nothing_twice) {
    struct pair pair = new_pair(SMALL);
    for (uint64_t i = 0; i < 4; i++)
        CHECK(put(&pair.writer, i, 10));
    CHECK(got(&pair.reader, 0, 10));
    const struct sv_record *record = sv_ring_peek(&pair.reader);
    sv_ring_take(&pair.reader, record);
    sv_ring_begin(&pair.reader);                            /* 1 is being worked on */
    sv_ring_take(&pair.reader, sv_ring_peek(&pair.reader)); /* 2 was looked at; then the consumer dies */

    sv_ring_reader_attach(&pair.reader, pair.ring);
    CHECK(got(&pair.reader, 2, 10) && got(&pair.reader, 3, 10));
    CHECK(!sv_ring_peek(&pair.reader) && sv_ring_backlog(pair.ring) == 0);
    drop_ring(pair.ring);
}

/* ------------------------------------------------------------------------------------------------------ kill -9 */

static void nap(unsigned microseconds) { nanosleep(&(struct timespec){.tv_nsec = microseconds * 1000L}, NULL); }

static uint32_t mixed(uint64_t number) {
    number = (number ^ number >> 30) * UINT64_C(0xbf58476d1ce4e5b9);
    return (uint32_t)(number ^ number >> 27);
}

/* Records that say where they lie, and whose length and bytes follow from that. */
static void produce_for_ever(struct sv_ring *ring) {
    struct sv_ring_writer writer;
    sv_ring_writer_attach(&writer, ring, NULL, NULL);
    for (;;) {
        uint32_t seed = mixed(writer.tail);
        uint32_t length = seed % (sv_ring_max_payload(ring->size) + 1);
        struct sv_record *record = sv_ring_reserve(&writer, length);
        if (!record) {
            nap(20);
            continue;
        }
        *record = (struct sv_record){.length = length, .type = 1, .id = writer.reserved, .source = seed};
        memset(record->payload, (int)(seed >> 24), length);
        sv_ring_publish(&writer, record);
    }
}

static bool is_whole(const struct sv_ring_reader *reader, const struct sv_record *record) {
    if (record->id != reader->position || record->type != 1)
        return false;
    for (uint32_t i = 0; i < record->length; i++)
        if (record->payload[i] != record->source >> 24)
            return false;
    return true;
}

static void reap(pid_t child) {
    kill(child, SIGKILL);
    while (waitpid(child, NULL, 0) < 0 && errno == EINTR)
        continue;
}

TEST(no_killed_producer_leaves_a_torn_record) {
    struct pair pair = new_pair(1u << 16);
    uint64_t count = 0, torn = 0;
    srand(1);
    for (int i = 0; i < PRODUCER_KILLS; i++) {
        pid_t child = fork();
        if (child == 0) {
            produce_for_ever(pair.ring);
            _exit(0);
        }
        uint64_t enough = count + 1 + (uint64_t)(rand() % 300);
        const struct sv_record *record;
        while (count < enough) {
            if (!(record = sv_ring_peek(&pair.reader))) {
                if (!CHECK(!pair.reader.is_corrupt))
                    break;
                continue;
            }
            torn += !is_whole(&pair.reader, record);
            count++;
            sv_ring_take(&pair.reader, record);
            sv_ring_release(&pair.reader);
        }
        reap(child);
        for (; (record = sv_ring_peek(&pair.reader)); count++) { /* its last words */
            torn += !is_whole(&pair.reader, record);
            sv_ring_take(&pair.reader, record);
            sv_ring_release(&pair.reader);
        }
    }
    CHECK(torn == 0 && !pair.reader.is_corrupt);
    CHECK(count > PRODUCER_KILLS && sv_ring_backlog(pair.ring) == 0);
    drop_ring(pair.ring);
}

static void consume_for_ever(struct sv_ring *ring, _Atomic unsigned char *seen) {
    struct sv_ring_reader reader;
    sv_ring_reader_attach(&reader, ring);
    for (;;) {
        const struct sv_record *record = sv_ring_peek(&reader);
        if (!record) {
            nap(20);
            continue;
        }
        sv_ring_take(&reader, record);
        sv_ring_begin(&reader);
        atomic_fetch_add(&seen[record->id], 1);
        sv_ring_release(&reader);
    }
}

TEST(no_killed_consumer_loses_more_than_what_it_worked_on) {
    struct sv_ring *ring = new_ring(1u << 16);
    struct sv_ring_writer writer;
    sv_ring_writer_attach(&writer, ring, NULL, NULL);
    _Atomic unsigned char *seen = mmap(NULL, RECORDS, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    uint32_t written = 0, kills = 0, lost = 0, twice = 0;
    srand(2);
    while (written < RECORDS || sv_ring_backlog(ring) > 0) {
        pid_t child = fork();
        if (child == 0) {
            consume_for_ever(ring, seen);
            _exit(0);
        }
        /* the last one may finish in peace */
        bool is_mortal = kills < CONSUMER_KILLS;
        uint32_t enough = is_mortal ? written + 1 + (uint32_t)rand() % (2 * RECORDS / CONSUMER_KILLS) : RECORDS;
        if (enough > RECORDS)
            enough = RECORDS;
        while (written < enough) {
            if (put(&writer, written, 16))
                written++;
            else
                nap(20);
        }
        while (!is_mortal && sv_ring_backlog(ring) > 0)
            nap(100);
        reap(child);
        kills += is_mortal;
    }
    for (uint32_t i = 0; i < RECORDS; i++) {
        lost += seen[i] == 0;
        twice += seen[i] > 1;
    }
    CHECK(twice == 0);
    CHECK(lost <= kills);
    munmap((void *)seen, RECORDS);
    drop_ring(ring);
}
