/* The session table: ids, slots, stale ids, words that change hands, and acceptors in several processes. */
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "shm/session.h"
#include "unit.h"

#define SIZE 64u

struct fixture {
    struct sv_arena arena;
    struct sv_session_table table;
};

static struct fixture set_up(uint32_t size, uint64_t start_id) {
    struct fixture fixture;
    if (sv_arena_map(&fixture.arena, sv_session_table_bytes(size) + sizeof(struct sv_arena_header) + 65536) ||
        sv_session_table_init(&fixture.table, &fixture.arena, size, start_id)) {
        perror("shared memory");
        exit(1);
    }
    return fixture;
}

static void tear_down(struct fixture *fixture) { sv_arena_unmap(&fixture->arena); }

static uint64_t id_of(const struct sv_session *session) { return session ? atomic_load(&session->id) : 0; }

TEST(ids_count_from_the_start_id) {
    struct fixture fixture = set_up(SIZE, 0);
    CHECK(id_of(sv_session_claim(&fixture.table)) == 1);
    CHECK(id_of(sv_session_claim(&fixture.table)) == 2);
    tear_down(&fixture);

    fixture = set_up(SIZE, UINT32_MAX); /* counting goes on beyond 32 bits */
    CHECK(id_of(sv_session_claim(&fixture.table)) == UINT64_C(1) << 32);
    tear_down(&fixture);
}

TEST(an_id_is_found_until_its_slot_is_anothers) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *first = sv_session_claim(&fixture.table);
    CHECK(sv_session_find(&fixture.table, 1) == first);
    CHECK(!sv_session_find(&fixture.table, 0) && !sv_session_find(&fixture.table, 2));
    CHECK(!sv_session_find(&fixture.table, 1 + SIZE));

    sv_session_free(&fixture.table, first);
    CHECK(sv_session_find(&fixture.table, 1) == first); /* its last owner still */
    uint64_t last = 0;
    while (last < 1 + SIZE) {
        struct sv_session *next = sv_session_claim(&fixture.table);
        last = id_of(next);
        sv_session_free(&fixture.table, next);
    }
    CHECK(!sv_session_find(&fixture.table, 1) && sv_session_find(&fixture.table, 1 + SIZE) == first);
    tear_down(&fixture);
}

TEST(what_was_true_of_a_closed_session_stays) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *session = sv_session_claim(&fixture.table);
    sv_session_set_state(session, SV_SESSION_OPEN);
    strcpy(session->peer_text, "192.0.2.1");
    atomic_store(&session->close_reason, SV_CLOSE_BY_CLIENT);
    sv_session_set_state(session, SV_SESSION_CLOSING);
    sv_session_free(&fixture.table, session);
    const struct sv_session *after = sv_session_find(&fixture.table, 1);
    CHECK(after && after->close_reason == SV_CLOSE_BY_CLIENT && strcmp(after->peer_text, "192.0.2.1") == 0);
    CHECK(after && sv_session_get_state(after) == SV_SESSION_FREE);
    tear_down(&fixture);
}

TEST(a_reused_slot_starts_clean) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *session = sv_session_claim(&fixture.table);
    CHECK(sv_session_bind(session, 1, 7) == 1);
    sv_session_change_flags(session, 1, SV_SESSION_PROTECTED, 0);
    atomic_store(&session->close_reason, SV_CLOSE_OTHER);
    atomic_store(&session->output_bytes, 5);
    strcpy(session->peer_text, "192.0.2.1");
    sv_session_free(&fixture.table, session);
    while (id_of(session) != 1 + SIZE)
        sv_session_free(&fixture.table, sv_session_claim(&fixture.table));
    uint32_t uid;
    CHECK(sv_session_flags(session) == 0 && session->close_reason == SV_CLOSE_NONE && session->output_bytes == 0);
    CHECK(!sv_session_uid(session, 1 + SIZE, &uid) && session->peer_text[0] == '\0');
    tear_down(&fixture);
}

TEST(busy_slots_are_skipped_and_a_full_table_says_so) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *sessions[SIZE];
    for (uint32_t i = 0; i < SIZE; i++)
        CHECK((sessions[i] = sv_session_claim(&fixture.table)) != NULL);
    CHECK(!sv_session_claim(&fixture.table));
    sv_session_free(&fixture.table, sessions[9]); /* id 10 */
    struct sv_session *next = sv_session_claim(&fixture.table);
    CHECK(next == sessions[9] && id_of(next) % SIZE == 10 && id_of(next) > SIZE);
    CHECK(!sv_session_claim(&fixture.table));
    tear_down(&fixture);
}

TEST(flags_are_tied_to_the_id) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *session = sv_session_claim(&fixture.table);
    CHECK(sv_session_change_flags(session, 1, SV_SESSION_PROTECTED, 0) == 0);
    CHECK(sv_session_change_flags(session, 1, SV_SESSION_CLOSE_ASKED, SV_SESSION_PROTECTED) == SV_SESSION_PROTECTED);
    CHECK(sv_session_flags(session) == SV_SESSION_CLOSE_ASKED);
    CHECK(sv_session_change_flags(session, 1 + SIZE, SV_SESSION_PROTECTED, 0) == -1);
    CHECK(sv_session_flags(session) == SV_SESSION_CLOSE_ASKED);
    tear_down(&fixture);
}

TEST(a_uid_is_bound_once) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *session = sv_session_claim(&fixture.table);
    uint32_t uid;
    CHECK(!sv_session_uid(session, 1, &uid));
    CHECK(sv_session_bind(session, 1, (uint32_t)-10) == 1);
    CHECK(sv_session_uid(session, 1, &uid) && uid == 4294967286u);
    CHECK(sv_session_bind(session, 1, (uint32_t)-10) == 0 && sv_session_bind(session, 1, 3) == 0);
    CHECK(!sv_session_uid(session, 1 + SIZE, &uid));
    CHECK(sv_session_bind(session, 1 + SIZE, 3) == -1);
    tear_down(&fixture);
}

TEST(a_bind_for_a_stale_id_leaves_the_slot_alone) {
    struct fixture fixture = set_up(SIZE, 0);
    struct sv_session *session = sv_session_claim(&fixture.table);
    uint32_t uid;
    CHECK(sv_session_bind(session, 1 + SIZE, 3) == -1);
    CHECK(sv_session_bind(session, 1, 4) == 1 && sv_session_uid(session, 1, &uid) && uid == 4);
    tear_down(&fixture);
}

TEST(the_walk_meets_every_live_slot_in_order) {
    struct fixture fixture = set_up(4 * SIZE, 0);
    CHECK(sv_session_next_live(&fixture.table, 0) == -1);
    for (uint32_t i = 0; i < 200; i++)
        sv_session_claim(&fixture.table);
    for (uint64_t id = 1; id <= 200; id++)
        if (id % 63 != 0)
            sv_session_free(&fixture.table, sv_session_find(&fixture.table, id));
    CHECK(sv_session_next_live(&fixture.table, 0) == 63);
    CHECK(sv_session_next_live(&fixture.table, 63) == 63);
    CHECK(sv_session_next_live(&fixture.table, 64) == 126);
    CHECK(sv_session_next_live(&fixture.table, 127) == 189);
    CHECK(sv_session_next_live(&fixture.table, 190) == -1);
    CHECK(sv_session_next_live(&fixture.table, 4 * SIZE) == -1);
    tear_down(&fixture);
}

/* Four processes claim until the table is full: each slot and each id went to one of them. */
TEST(acceptors_in_several_processes_never_share_a_slot) {
    enum { ACCEPTORS = 4, SLOTS = 4096 };
    struct fixture fixture = set_up(SLOTS, 0);
    pid_t acceptors[ACCEPTORS];
    for (int i = 0; i < ACCEPTORS; i++) {
        if ((acceptors[i] = fork()) == 0) {
            struct sv_session *session;
            for (int claims = 0; claims < SLOTS / ACCEPTORS; claims++) {
                if (!(session = sv_session_claim(&fixture.table)))
                    _exit(1);
                if (session->owner != 0) /* claimed by another as well */
                    _exit(2);
                session->owner = (uint32_t)i + 1;
            }
            _exit(0);
        }
    }
    for (int i = 0; i < ACCEPTORS; i++) {
        int status;
        CHECK(waitpid(acceptors[i], &status, 0) == acceptors[i] && status == 0);
    }
    uint32_t owners[ACCEPTORS + 1] = {0};
    for (uint32_t slot = 0; slot < SLOTS; slot++) {
        const struct sv_session *session = &fixture.table.entries[slot];
        CHECK((id_of(session) & (SLOTS - 1)) == slot && session->owner <= ACCEPTORS);
        owners[session->owner <= ACCEPTORS ? session->owner : 0]++;
    }
    for (int i = 1; i <= ACCEPTORS; i++)
        CHECK(owners[i] == SLOTS / ACCEPTORS);
    CHECK(!sv_session_claim(&fixture.table));
    tear_down(&fixture);
}
