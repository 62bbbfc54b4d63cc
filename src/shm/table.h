/* table.h: the inside of srvlua_table: rows of fixed columns by key, shared by processes that may die at any
 * instruction.
 *
 * Files: table.c        definition, and the operations of srvlua.h
 *        table_row.c    what is in a row: reading and changing its columns
 *        table_index.c  which rows there are: finding, inserting and deleting, and putting right what the dead left
 *
 * A table is one mapping: head | lanes | free map | buckets | rows. A row lives in one place from its insertion to its
 * deletion, so a walk over the places meets it exactly once.
 *
 *   bucket ──► row ──► row ──► 0     chains of places; links carry a counter, so that a place that was used again
 *                                    is noticed, and a mark: this row is leaving. Who meets a marked row unlinks it.
 *
 * Row     Two images of the columns; `version` says which one counts, and whether the row is there at all. A change is
 *         written to the other image and takes effect with the store of `version`; so it is whole or has not happened.
 *         Readers take no lock: they copy, and look whether the version is still the same.
 * Owner   Writers of a row exclude each other by its owner word (owner.h). One that takes it from a dead process puts
 *         the row right first (recover). Nothing else waits for a writer that was stopped.
 *
 *            claimed: locked, nobody finds it     linked: found, not there yet     live
 *   blank ──────────────────────────────────────► ───────────────────────────────► ───────┐ version store
 *     ▲                                                                                   │
 *     └────────────── retired: marked, unlinked, its bit cleared ◄────────────────────────┘ version store
 *
 * Lane    Inserting and deleting also hold one of the lanes. It names the place that is being worked on, so that the
 *         next holder can finish for one that died, and it keeps its share of the number of rows: `word` is count and
 *         place in one, and while it names a place, the version of that row decides whether the change counts. So the
 *         sum over the lanes is right at any instant, whoever died where.
 *
 * Lock order: row, then lane. A lane's holder takes a second row only by trying.
 * runs in: any process, any thread that has the table, after srvlua_table_create(). */
#ifndef SV_SHM_TABLE_H
#define SV_SHM_TABLE_H

#include "shm/arena.h"
#include "shm/freemap.h"
#include "shm/owner.h"
#include "srvlua.h"

#define SV_KEY_WORDS 8   /* a byte of length, then the key, then zeros */
#define SV_TABLE_LANES 64
#define SV_TABLE_SPARE 128 /* places beyond `size`: taken by insertions that did not end yet, or never will */

enum {
    SV_ROW_IMAGE = 1, /* bits of version: which image counts */
    SV_ROW_LIVE = 2,  /* the row is there */
    SV_ROW_STEP = 4   /* counts every change from here on, through all lives of the place */
};

struct sv_row { /* shared */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t owner;
    _Atomic uint64_t version; /* owner */
    _Atomic uint64_t birth;   /* owner: the table's epoch when the row was linked */
    _Atomic uint64_t next;    /* link; any process */
    _Atomic uint64_t key[SV_KEY_WORDS]; /* owner, while the row is not linked */
    _Atomic uint64_t images[];          /* owner: image 0, image 1 */
};

struct sv_lane { /* shared; written by its holder unless said otherwise */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t owner;
    _Atomic uint64_t sequence; /* changes begun */
    _Atomic uint64_t word;     /* rows << 32 | place + 1 of the row whose change has begun; also: its recoverer */
    _Atomic uint64_t expected; /* that row's version when the change has happened */
    _Atomic int32_t change;    /* what it adds to rows */
    _Atomic uint32_t place;    /* + 1: being inserted or deleted; 0 = none */
    _Atomic uint64_t inserts, deletes, conflicts;
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t updates; /* of rows in every 64th place; any process */
};

struct sv_table_head { /* shared */
    _Alignas(SV_CACHE_LINE) _Atomic uint64_t epoch; /* walks begun; any process */
    _Atomic uint64_t longest;                       /* chain that an insertion met; any process */
    uint64_t seed[2];                               /* of the hash; written once */
};

struct sv_column {
    char *name;
    enum srvlua_column_type type;
    uint32_t size;   /* bytes, of strings */
    uint32_t offset; /* in an image, in words. A string is its length in a word, then its bytes in whole words */
};

struct srvlua_table { /* private; the same in every process but for `self` */
    int64_t size;
    struct sv_column *columns;
    int column_count;
    size_t image_words;

    void *memory; /* NULL before create */
    size_t bytes;
    struct sv_self self;
    struct sv_table_head *head;
    struct sv_lane *lanes;
    struct sv_freemap taken;
    _Atomic uint64_t *buckets; /* links */
    uint64_t bucket_mask;
    unsigned char *rows;
    size_t stride; /* bytes from row to row */
    uint64_t capacity;
};

struct sv_key {
    uint64_t words[SV_KEY_WORDS];
    size_t used; /* words that the key reaches into */
    uint64_t hash;
};

static inline size_t sv_key_used(const uint64_t *words) {
    size_t length = *(const unsigned char *)words;
    return length < sizeof(uint64_t) * SV_KEY_WORDS ? length / 8 + 1 : SV_KEY_WORDS;
}

static inline struct sv_row *sv_table_row(const srvlua_table *table, uint64_t place) {
    return (struct sv_row *)(void *)(table->rows + place * table->stride);
}

static inline _Atomic uint64_t *sv_row_image(const srvlua_table *table, struct sv_row *row, uint64_t version) {
    return row->images + (version & SV_ROW_IMAGE ? table->image_words : 0);
}

/* --------------------------------------------------------------------------------------------------- table_row.c */

bool sv_row_has_key(struct sv_row *row, const struct sv_key *key);

enum sv_read { SV_READ_NOTHING, SV_READ_ROW, SV_READ_AGAIN /* it changed meanwhile */ };

/* Copies the row, or only `column` if that is >= 0, into `image` (NULL: only looks). With `key` it must be that key's;
 * `version` (may be NULL) is the one that was read. */
enum sv_read sv_row_read(const srvlua_table *table, struct sv_row *row, const struct sv_key *key, int column,
                         uint64_t *image, uint64_t *version);

/* The rest is for the row's owner. Both take effect by their last store, whole. */

/* Changes the columns that cells name of a live row. */
void sv_row_update(const srvlua_table *table, struct sv_row *row, const struct srvlua_cell *cells, size_t count);
/* Adds to a column of a live row; cell becomes the sum. */
void sv_row_add(const srvlua_table *table, struct sv_row *row, struct srvlua_cell *cell);
/* Writes all columns of a row that is not live; returns the version that makes it live. */
uint64_t sv_row_prepare(const srvlua_table *table, struct sv_row *row, const struct srvlua_cell *cells, size_t count);

/* ------------------------------------------------------------------------------------------------- table_index.c */

/* Place of the key's row, or -1. The row may be gone or not be there yet. */
int64_t sv_table_find(const srvlua_table *table, const struct sv_key *key);
/* Becomes the owner of the row in a place if it is live, and `key`'s (NULL: anybody's); else NULL. May wait. */
struct sv_row *sv_table_own(const srvlua_table *table, uint64_t place, const struct sv_key *key);
/* 0; -EAGAIN: the key has a row by now; -501: no place is left. */
int sv_table_insert(const srvlua_table *table, const struct sv_key *key, const struct srvlua_cell *cells, size_t count);
/* Deletes a live row that the caller owns; it is nobody's afterwards. */
void sv_table_delete(const srvlua_table *table, uint64_t place);
int64_t sv_table_count(const srvlua_table *table);

#endif
