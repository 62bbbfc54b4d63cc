/* Connections per address: limits, rates, a table that is full, and processes that are killed at any instant. */
#include <signal.h>
#include <stdlib.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/clock.h"
#include "shm/session.h"
#include "unit.h"

#define SECOND SV_NS_PER_SECOND
#define START (1000 * SECOND)

struct fixture {
    struct sv_arena arena;
    struct sv_session_table table;
    _Atomic uint64_t visit; /* the last one's */
};

static struct fixture set_up(int64_t connections) {
    struct fixture fixture = {0};
    size_t bytes = sv_session_table_bytes(4096) + sv_visitors_bytes(connections);
    if (sv_arena_map(&fixture.arena, bytes) || sv_session_table_init(&fixture.table, &fixture.arena, 4096, 0) ||
        sv_visitors_init(&fixture.table.visitors, &fixture.arena, connections)) {
        perror("shared memory");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) { sv_arena_unmap(&fixture->arena); }

static enum sv_visit enter(struct fixture *fixture, const char *address, uint16_t port, int64_t limit, double rate, int64_t now_ns) {
    return sv_visitors_enter(&fixture->table.visitors, address, port, limit, rate, now_ns, &fixture->visit);
}

static uint64_t live(const struct fixture *fixture) { /* of all addresses */
    uint64_t sum = 0;
    for (uint64_t i = 0; i < fixture->table.visitors.groups * 16; i++)
        sum += atomic_load(&fixture->table.visitors.entries[i].word) & 0xffffff;
    return sum;
}

/* ----------------------------------------------------------------------------------------------- limits and rates */

TEST(an_address_has_its_limit_and_gets_it_back) {
    struct fixture fixture = set_up(1000);
    _Atomic uint64_t visits[3] = {0};
    for (int i = 0; i < 3; i++) {
        CHECK(sv_visitors_enter(&fixture.table.visitors, "192.0.2.1", 0, 3, 0, START, &visits[i]) == SV_VISIT_WELCOME);
        CHECK(visits[i] != 0);
    }
    CHECK(enter(&fixture, "192.0.2.1", 0, 3, 0, START) == SV_VISIT_TOO_MANY && fixture.visit == 0);
    CHECK(enter(&fixture, "192.0.2.2", 0, 3, 0, START) == SV_VISIT_WELCOME);
    sv_visitors_leave(&fixture.table.visitors, &visits[1]);
    CHECK(visits[1] == 0);
    sv_visitors_leave(&fixture.table.visitors, &visits[1]); /* nothing is given back twice */
    CHECK(enter(&fixture, "192.0.2.1", 0, 3, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "192.0.2.1", 0, 3, 0, START) == SV_VISIT_TOO_MANY);
    CHECK(live(&fixture) == 4);
    tear_down(&fixture);
}

TEST(ports_count_for_themselves) {
    struct fixture fixture = set_up(1000);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "192.0.2.1", 1, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 0, START) == SV_VISIT_TOO_MANY);
    CHECK(enter(&fixture, "192.0.2.1", 1, 1, 0, START) == SV_VISIT_TOO_MANY);
    tear_down(&fixture);
}

TEST(ipv6_counts_by_64_bits_and_mapped_ipv4_as_ipv4) {
    struct fixture fixture = set_up(1000);
    CHECK(enter(&fixture, "2001:db8:0:1::1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "2001:db8:0:1:ffff::2", 0, 1, 0, START) == SV_VISIT_TOO_MANY);
    CHECK(enter(&fixture, "2001:db8:0:2::1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "fe80::1%3", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "fe80::2%4", 0, 1, 0, START) == SV_VISIT_TOO_MANY);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "::ffff:192.0.2.1", 0, 1, 0, START) == SV_VISIT_TOO_MANY);
    CHECK(enter(&fixture, "::ffff:192.0.2.2", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "::1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "::ffff:1.1.1.1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    tear_down(&fixture);
}

TEST(who_has_no_address_is_not_counted) {
    struct fixture fixture = set_up(1000);
    static const char *const texts[] = {"", "/run/a.sock", "localhost", "0000:0000:0000:0000:0000:0000:0000:0000:0000:0000:0000"};
    for (size_t i = 0; i < 2 * sizeof texts / sizeof *texts; i++)
        CHECK(enter(&fixture, texts[i / 2], 0, 1, 1, START) == SV_VISIT_WELCOME && fixture.visit == 0);
    CHECK(live(&fixture) == 0);
    tear_down(&fixture);
}

static int burst(struct fixture *fixture, double rate, int64_t now_ns) {
    int welcome = 0;
    while (welcome < 1000 && enter(fixture, "192.0.2.1", 0, 0, rate, now_ns) == SV_VISIT_WELCOME) welcome++;
    CHECK(fixture->visit == 0); /* a rate alone gives nothing to give back */
    return welcome;
}

TEST(the_burst_is_the_rate_rounded_up_and_one_at_least) {
    static const struct {
        double rate;
        int burst;
    } cases[] = {{1, 1}, {1.5, 2}, {10, 10}, {2.0001, 3}, {0.1, 1}, {0.0001, 1}, {1e-300, 1}, {100, 100}};
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        struct fixture fixture = set_up(1000);
        CHECK(burst(&fixture, cases[i].rate, START) == cases[i].burst);
        CHECK(burst(&fixture, cases[i].rate, START) == 0);
        tear_down(&fixture);
    }
}

TEST(tokens_come_back_at_the_rate) {
    struct fixture fixture = set_up(1000);
    CHECK(burst(&fixture, 10, START) == 10);
    CHECK(burst(&fixture, 10, START + SECOND / 10 - 1) == 0);
    CHECK(burst(&fixture, 10, START + SECOND / 10) == 1);
    CHECK(burst(&fixture, 10, START + SECOND / 2) == 4);
    CHECK(burst(&fixture, 10, START + 100 * SECOND) == 10); /* it never holds more than a burst */
    CHECK(burst(&fixture, 0.5, START + 200 * SECOND) == 1);
    CHECK(burst(&fixture, 0.5, START + 202 * SECOND - 1) == 0);
    CHECK(burst(&fixture, 0.5, START + 202 * SECOND) == 1);
    CHECK(burst(&fixture, 0.5, START + 200 * SECOND) == 0); /* a clock that was read a little earlier */
    tear_down(&fixture);
}

TEST(a_steady_client_at_the_rate_is_never_refused) {
    struct fixture fixture = set_up(1000);
    for (int i = 0; i < 1000; i++)
        CHECK(enter(&fixture, "192.0.2.1", 0, 0, 8, START + i * (SECOND / 8)) == SV_VISIT_WELCOME);
    tear_down(&fixture);
}

TEST(whom_the_limit_refuses_has_spent_no_token) {
    struct fixture fixture = set_up(1000);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 2, START) == SV_VISIT_WELCOME);
    for (int i = 0; i < 5; i++) {
        _Atomic uint64_t other = 0;
        CHECK(sv_visitors_enter(&fixture.table.visitors, "192.0.2.1", 0, 1, 2, START, &other) == SV_VISIT_TOO_MANY);
    }
    sv_visitors_leave(&fixture.table.visitors, &fixture.visit);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 2, START) == SV_VISIT_WELCOME);
    sv_visitors_leave(&fixture.table.visitors, &fixture.visit);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 2, START) == SV_VISIT_TOO_FAST && fixture.visit == 0);
    CHECK(live(&fixture) == 0);
    tear_down(&fixture);
}

TEST(refusals_are_logged_once_a_second) {
    struct fixture fixture = set_up(1000);
    uint32_t suppressed;
    CHECK(sv_visitors_may_log(&fixture.table.visitors, SV_VISIT_TOO_MANY, START, &suppressed) && suppressed == 0);
    CHECK(!sv_visitors_may_log(&fixture.table.visitors, SV_VISIT_TOO_MANY, START + SECOND - 1, &suppressed));
    CHECK(sv_visitors_may_log(&fixture.table.visitors, SV_VISIT_TOO_FAST, START, &suppressed) && suppressed == 0);
    CHECK(sv_visitors_may_log(&fixture.table.visitors, SV_VISIT_TOO_MANY, START + SECOND, &suppressed) && suppressed == 1);
    tear_down(&fixture);
}

/* -------------------------------------------------------------------------------------------------- a full table */

static const char *address_of(char text[64], uint32_t number) {
    snprintf(text, 64, "%u.%u.%u.%u", 1 + (number >> 24), number >> 16 & 255, number >> 8 & 255, number & 255);
    return text;
}

TEST(strangers_who_come_once_leave_no_trace_that_matters) {
    struct fixture fixture = set_up(200); /* 1024 entries */
    char text[64];
    _Atomic uint64_t held = 0;
    CHECK(sv_visitors_enter(&fixture.table.visitors, "192.0.2.1", 0, 1, 0.001, START, &held) == SV_VISIT_WELCOME);
    for (uint32_t i = 0; i < 100000; i++) { /* their buckets stay empty for a quarter of an hour */
        CHECK(enter(&fixture, address_of(text, i), 0, 1, 0.001, START + i) == SV_VISIT_WELCOME && fixture.visit != 0);
        sv_visitors_leave(&fixture.table.visitors, &fixture.visit);
    }
    CHECK(live(&fixture) == 1);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 0, START) == SV_VISIT_TOO_MANY);
    sv_visitors_leave(&fixture.table.visitors, &held);
    CHECK(live(&fixture) == 0);
    tear_down(&fixture);
}

TEST(a_full_table_lets_everybody_in_uncounted) {
    struct fixture fixture = set_up(200);
    char text[64];
    static _Atomic uint64_t visits[20000];
    uint64_t counted = 0;
    for (uint32_t i = 0; i < 20000; i++) {
        CHECK(sv_visitors_enter(&fixture.table.visitors, address_of(text, i), 0, 1, 5, START, &visits[i]) == SV_VISIT_WELCOME);
        counted += visits[i] != 0;
    }
    CHECK(counted == 1024 && live(&fixture) == 1024);
    for (uint32_t i = 0; i < 20000; i++) sv_visitors_leave(&fixture.table.visitors, &visits[i]);
    CHECK(live(&fixture) == 0);
    for (uint32_t i = 0; i < 20000 && i < counted; i++)
        CHECK(sv_visitors_enter(&fixture.table.visitors, address_of(text, i), 0, 1, 0, START + SECOND, &visits[i]) == SV_VISIT_WELCOME);
    CHECK(live(&fixture) > 900);
    tear_down(&fixture);
}

TEST(as_many_strangers_as_there_may_be_connections_are_all_counted) {
    struct fixture fixture = set_up(100000);
    char text[64];
    uint64_t counted = 0;
    for (uint32_t i = 0; i < 100000; i++) {
        CHECK(enter(&fixture, address_of(text, i * 7), 0, 1, 0, START) == SV_VISIT_WELCOME);
        counted += fixture.visit != 0;
    }
    CHECK(counted >= 99990);
    tear_down(&fixture);
}

TEST(a_number_whose_entry_is_anothers_by_now_takes_nothing_away) {
    struct fixture fixture = set_up(1000);
    struct sv_visitors *visitors = &fixture.table.visitors;
    _Atomic uint64_t first = 0, stale, second = 0;
    CHECK(sv_visitors_enter(visitors, "192.0.2.1", 0, 5, 0, START, &first) == SV_VISIT_WELCOME);
    atomic_store(&stale, first); /* killed after the entry had forgotten it, before it was cleared */
    sv_visitors_leave(visitors, &first);
    visitors->entries[stale & 0xffffff].word = 0xabcd000000000001;
    sv_visitors_leave(visitors, &stale);
    CHECK(live(&fixture) == 1 && stale == 0);
    visitors->entries[0].word = 0;
    CHECK(sv_visitors_enter(visitors, "192.0.2.1", 0, 5, 0, START, &second) == SV_VISIT_WELCOME);
    atomic_store(&stale, second);
    sv_visitors_leave(visitors, &second);
    sv_visitors_leave(visitors, &stale); /* the same address, without connections: never below none */
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 0, START) == SV_VISIT_WELCOME);
    CHECK(enter(&fixture, "192.0.2.1", 0, 1, 0, START) == SV_VISIT_TOO_MANY);
    tear_down(&fixture);
}

/* ------------------------------------------------------------------------------------------------------ sessions */

TEST(who_frees_a_session_gives_its_count_back) {
    struct fixture fixture = set_up(1000);
    struct sv_session *session = sv_session_claim(&fixture.table);
    CHECK(sv_visitors_enter(&fixture.table.visitors, "192.0.2.1", 0, 1, 0, START, &session->visit) == SV_VISIT_WELCOME);
    CHECK(live(&fixture) == 1);
    sv_session_free(&fixture.table, session);
    CHECK(live(&fixture) == 0 && session->visit == 0);
    tear_down(&fixture);
}

TEST(without_limits_nothing_is_mapped_or_counted) {
    struct fixture fixture = set_up(1000);
    fixture.table.visitors = (struct sv_visitors){0};
    struct sv_session *session = sv_session_claim(&fixture.table);
    CHECK(sv_visitors_enter(&fixture.table.visitors, "192.0.2.1", 0, 1, 1, START, &session->visit) == SV_VISIT_WELCOME);
    sv_session_free(&fixture.table, session);
    tear_down(&fixture);
}

enum { PROCESSES = 4, ADDRESSES = 3, LIMIT = 5, ROUNDS = 20000, HELD = 8 };

struct shared {
    _Atomic int64_t inside[ADDRESSES];
    _Atomic int64_t most[ADDRESSES];
    _Atomic uint64_t rounds[PROCESSES];
    _Atomic uint64_t refused;
};

static struct shared *map_shared(void) {
    struct shared *shared = mmap(NULL, sizeof *shared, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
    if (shared == MAP_FAILED) exit(1);
    return shared;
}

static const char *const addresses[ADDRESSES] = {"192.0.2.1", "192.0.2.2", "2001:db8::1"};

/* Enters and leaves with up to HELD sessions at a time; `rounds` 0: until it is killed. */
static void hammer(struct fixture *fixture, struct shared *shared, int number, int rounds, bool counts_inside) {
    struct sv_session *held[HELD] = {0};
    int of[HELD];
    unsigned seed = (unsigned)number + 1;
    for (int i = 0; rounds == 0 || i < rounds; i++) {
        int k = rand_r(&seed) % HELD, address = rand_r(&seed) % ADDRESSES;
        if (held[k]) {
            if (counts_inside) atomic_fetch_sub(&shared->inside[of[k]], 1);
            sv_session_free(&fixture->table, held[k]);
            held[k] = NULL;
        } else {
            struct sv_session *session = sv_session_claim(&fixture->table);
            session->owner = (uint32_t)number + 1;
            if (sv_visitors_enter(&fixture->table.visitors, addresses[address], 0, LIMIT, 0, sv_now_ns(), &session->visit) ==
                SV_VISIT_WELCOME) {
                held[k] = session;
                of[k] = address;
                if (counts_inside) {
                    int64_t inside = atomic_fetch_add(&shared->inside[address], 1) + 1, most = atomic_load(&shared->most[address]);
                    while (inside > most && !atomic_compare_exchange_weak(&shared->most[address], &most, inside)) {}
                }
            } else {
                sv_session_free(&fixture->table, session);
                atomic_fetch_add(&shared->refused, 1);
            }
        }
        atomic_fetch_add(&shared->rounds[number], 1);
    }
    for (int k = 0; k < HELD; k++) {
        if (!held[k]) continue;
        if (counts_inside) atomic_fetch_sub(&shared->inside[of[k]], 1);
        sv_session_free(&fixture->table, held[k]);
    }
}

TEST(processes_together_keep_to_the_limit) {
    struct fixture fixture = set_up(1000);
    struct shared *shared = map_shared();
    pid_t children[PROCESSES];
    for (int i = 0; i < PROCESSES; i++)
        if ((children[i] = fork()) == 0) {
            hammer(&fixture, shared, i, ROUNDS, true);
            _exit(0);
        }
    for (int i = 0; i < PROCESSES; i++) {
        int status;
        CHECK(waitpid(children[i], &status, 0) == children[i] && status == 0);
    }
    for (int i = 0; i < ADDRESSES; i++) CHECK(shared->inside[i] == 0 && shared->most[i] == LIMIT);
    CHECK(shared->refused > 0 && live(&fixture) == 0);
    munmap(shared, sizeof *shared);
    tear_down(&fixture);
}

static void free_sessions_of(struct fixture *fixture, uint32_t owner) {
    for (int64_t slot = sv_session_next_live(&fixture->table, 0); slot >= 0; slot = sv_session_next_live(&fixture->table, slot + 1)) {
        struct sv_session *session = &fixture->table.entries[slot];
        if (sv_session_get_state(session) != SV_SESSION_FREE && session->owner == owner) sv_session_free(&fixture->table, session);
    }
}

/* Killed at any instant, each is replaced and its sessions are freed by somebody else: the address never loses room for good. */
TEST(nothing_drifts_when_holders_are_killed) {
    struct fixture fixture = set_up(1000);
    struct shared *shared = map_shared();
    pid_t children[PROCESSES];
    for (int kills = 0; kills < 200; kills++) {
        int victim = kills % PROCESSES;
        if (kills >= PROCESSES) {
            uint64_t before = atomic_load(&shared->rounds[victim]);
            for (int waits = 0; atomic_load(&shared->rounds[victim]) < before + 200 && waits < 20000; waits++) usleep(50);
            kill(children[victim], SIGKILL);
            CHECK(waitpid(children[victim], NULL, 0) == children[victim]);
            free_sessions_of(&fixture, (uint32_t)victim + 1);
        }
        if ((children[victim] = fork()) == 0) {
            hammer(&fixture, shared, victim, 0, false);
            _exit(0);
        }
    }
    for (int i = 0; i < PROCESSES; i++) {
        kill(children[i], SIGKILL);
        CHECK(waitpid(children[i], NULL, 0) == children[i]);
    }
    for (uint32_t owner = 1; owner <= PROCESSES; owner++) free_sessions_of(&fixture, owner);
    CHECK(live(&fixture) == 0);
    for (int i = 0; i < ADDRESSES; i++)
        for (int k = 0; k < LIMIT; k++) CHECK(enter(&fixture, addresses[i], 0, LIMIT, 0, sv_now_ns()) == SV_VISIT_WELCOME);
    munmap(shared, sizeof *shared);
    tear_down(&fixture);
}
