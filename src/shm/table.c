/* table.c: definition of a table, and the operations of srvlua.h; see table.h. */
#include "shm/table.h"

#include <errno.h>
#include <stddef.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/random.h>

#include "base/errors.h"
#include "base/hash.h"
#include "base/size.h"

#define ALL_COLUMNS (-1)
#define READS_BEFORE_LOCKING 64 /* of a row that changes all the time */

_Static_assert(SRVLUA_KEY_MAX + 1 == SV_KEY_WORDS * sizeof(uint64_t), "a key and its length fill the words");

/* ----------------------------------------------------------------------------------------------------- definition */

srvlua_table *srvlua_table_new(int64_t size, struct srvlua_status *status) {
    if (size < 1 || size > INT32_MAX) {
        sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "a table has 1 to 2147483647 rows");
        return NULL;
    }
    srvlua_table *table = calloc(1, sizeof *table);
    if (!table) {
        sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for a table");
        return NULL;
    }
    table->size = size;
    return table;
}

void srvlua_table_free(srvlua_table *table) {
    if (!table)
        return;
    if (table->memory)
        munmap(table->memory, table->bytes);
    sv_self_close(&table->self);
    for (int i = 0; i < table->column_count; i++)
        free(table->columns[i].name);
    free(table->columns);
    free(table);
}

int srvlua_table_add_column(srvlua_table *table, const char *name, enum srvlua_column_type type, int64_t size,
                            struct srvlua_status *status) {
    if (table->memory)
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "columns are added before create");
    if (*name == '\0')
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "a column has a name");
    if (srvlua_table_find_column(table, name) >= 0)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is a column '%s' already", name);
    if (type != SRVLUA_COLUMN_INT && type != SRVLUA_COLUMN_FLOAT && type != SRVLUA_COLUMN_STRING)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "unknown type %d of column '%s'", (int)type, name);
    if (type == SRVLUA_COLUMN_STRING && (size < 1 || size > SRVLUA_COLUMN_SIZE_MAX))
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "string column '%s' needs a size of 1 to %d bytes", name,
                       SRVLUA_COLUMN_SIZE_MAX);
    size_t words = type == SRVLUA_COLUMN_STRING ? 1 + ((size_t)size + 7) / 8 : 1;
    if (table->image_words + words > UINT32_MAX)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "a row is too large");

    struct sv_column *columns = realloc(table->columns, ((size_t)table->column_count + 1) * sizeof *columns);
    if (!columns)
        return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for a column");
    table->columns = columns;
    char *copy = strdup(name);
    if (!copy)
        return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for a column");
    columns[table->column_count] = (struct sv_column){.name = copy,
                                                      .type = type,
                                                      .size = type == SRVLUA_COLUMN_STRING ? (uint32_t)size : 0,
                                                      .offset = (uint32_t)table->image_words};
    table->image_words += words;
    return table->column_count++;
}

int srvlua_table_column_count(const srvlua_table *table) { return table->column_count; }

int srvlua_table_get_column(const srvlua_table *table, int column, struct srvlua_column *info) {
    if (column < 0 || column >= table->column_count)
        return -SRVLUA_ERROR_INVALID_PARAMS;
    const struct sv_column *found = &table->columns[column];
    *info = (struct srvlua_column){.name = found->name, .type = found->type, .size = found->size};
    return 0;
}

int srvlua_table_find_column(const srvlua_table *table, const char *name) {
    for (int i = 0; i < table->column_count; i++)
        if (strcmp(table->columns[i].name, name) == 0)
            return i;
    return -SRVLUA_ERROR_INVALID_PARAMS;
}

/* Where the parts lie in the mapping. */
struct layout {
    size_t lanes, taken, buckets, rows, bytes;
    uint64_t bucket_count;
};

/* False if no address space is large enough. */
static bool lay_out(const srvlua_table *table, struct layout *layout) {
    size_t rows;
    layout->bucket_count = (uint64_t)sv_power_of_two_from(table->size);
    layout->lanes = sv_cache_lines(sizeof(struct sv_table_head));
    layout->taken = layout->lanes + SV_TABLE_LANES * sizeof(struct sv_lane);
    layout->buckets = layout->taken + sv_cache_lines(sv_freemap_bytes(table->capacity));
    layout->rows = layout->buckets + sv_cache_lines(layout->bucket_count * sizeof(uint64_t));
    return !__builtin_mul_overflow(table->stride, table->capacity, &rows) &&
           !__builtin_add_overflow(layout->rows, rows, &layout->bytes) && layout->bytes < SIZE_MAX / 4;
}

int srvlua_table_create(srvlua_table *table, struct srvlua_status *status) {
    struct layout layout;
    if (table->memory)
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "the table is created already");
    if (table->column_count == 0)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "a table needs a column");
    table->capacity = (uint64_t)table->size + SV_TABLE_SPARE;
    table->stride = sv_cache_lines(offsetof(struct sv_row, images) + 2 * table->image_words * sizeof(uint64_t));
    if (!lay_out(table, &layout) || sv_self_open(&table->self) < 0)
        return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for the table");
    void *memory = mmap(NULL, layout.bytes, PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS | MAP_NORESERVE, -1, 0);
    if (memory == MAP_FAILED) {
        int result = sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "no memory for the table (%zu bytes)", layout.bytes);
        sv_self_close(&table->self);
        return result;
    }
    unsigned char *base = memory;
    table->memory = memory;
    table->bytes = layout.bytes;
    table->head = memory;
    table->lanes = (struct sv_lane *)(void *)(base + layout.lanes);
    sv_freemap_open(&table->taken, base + layout.taken, table->capacity);
    table->buckets = (_Atomic uint64_t *)(void *)(base + layout.buckets);
    table->bucket_mask = layout.bucket_count - 1;
    table->rows = base + layout.rows;
    if (getrandom(table->head->seed, sizeof table->head->seed, GRND_NONBLOCK) < 0)
        table->head->seed[0] = (uintptr_t)memory; /* early boot: address randomisation must do */
    return 0;
}

int64_t srvlua_table_size(const srvlua_table *table) { return table->size; }

size_t srvlua_table_memory_size(const srvlua_table *table) { return table->bytes; }

size_t srvlua_table_row_size(const srvlua_table *table) { return table->image_words * sizeof(uint64_t); }

/* ------------------------------------------------------------------------------------------------------ arguments */

/* 0, or why nothing can be done with that key. */
static int check_key(const srvlua_table *table, const void *bytes, size_t length, struct sv_key *key,
                     struct srvlua_status *status) {
    if (!table->memory)
        return sv_fail(status, SRVLUA_ERROR_WRONG_OPERATION, "the table is not created yet");
    if (length == 0 || length > SRVLUA_KEY_MAX)
        return sv_fail(status, SRVLUA_ERROR_NAME_TOO_LONG, "a key has 1 to %d bytes, not %zu", SRVLUA_KEY_MAX, length);
    unsigned char *text = (unsigned char *)key->words;
    memset(key->words, 0, sizeof key->words);
    text[0] = (unsigned char)length;
    memcpy(text + 1, bytes, length);
    key->used = sv_key_used(key->words);
    key->hash = sv_hash_words(table->head->seed, key->words, key->used);
    return 0;
}

static int check_cells(const srvlua_table *table, const struct srvlua_cell *cells, size_t count,
                       struct srvlua_status *status) {
    for (size_t i = 0; i < count; i++) {
        if (cells[i].column < 0 || cells[i].column >= table->column_count)
            return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "there is no column %d", cells[i].column);
        const struct sv_column *column = &table->columns[cells[i].column];
        if (column->type == SRVLUA_COLUMN_STRING && cells[i].length > column->size)
            return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "%zu bytes are too long for column '%s' of %u bytes",
                           cells[i].length, column->name, column->size);
    }
    return 0;
}

/* ------------------------------------------------------------------------------------------------------ operations */

/* A row that is there, owned by the caller, and its place; NULL if there is none. */
static struct sv_row *own_row(const srvlua_table *table, const struct sv_key *key, uint64_t *place) {
    for (;;) {
        int64_t found = sv_table_find(table, key);
        if (found < 0)
            return NULL;
        struct sv_row *row = sv_table_own(table, (uint64_t)found, key);
        if (row) {
            *place = (uint64_t)found;
            return row;
        }
    }
}

static void end_update(const srvlua_table *table, struct sv_row *row, uint64_t place) {
    sv_owner_give(&row->owner);
    atomic_fetch_add_explicit(&table->lanes[place % SV_TABLE_LANES].updates, 1, memory_order_relaxed);
}

static int fail_full(const srvlua_table *table, struct srvlua_status *status) {
    return sv_fail(status, SRVLUA_ERROR_MALLOC_FAIL, "the table of %lld rows is full", (long long)table->size);
}

int srvlua_table_set(srvlua_table *table, const void *key, size_t key_length, const struct srvlua_cell *cells,
                     size_t count, struct srvlua_status *status) {
    struct sv_key wanted;
    int result = check_key(table, key, key_length, &wanted, status);
    if (result == 0)
        result = check_cells(table, cells, count, status);
    if (result < 0)
        return result;
    do {
        uint64_t place;
        struct sv_row *row = own_row(table, &wanted, &place);
        if (row) {
            sv_row_update(table, row, cells, count);
            end_update(table, row, place);
            return 0;
        }
        result = sv_table_insert(table, &wanted, cells, count);
    } while (result == -EAGAIN);
    return result < 0 ? fail_full(table, status) : 0;
}

int srvlua_table_incr(srvlua_table *table, const void *key, size_t key_length, struct srvlua_cell *cell,
                      struct srvlua_status *status) {
    struct sv_key wanted;
    int result = check_key(table, key, key_length, &wanted, status);
    if (result < 0)
        return result;
    if (cell->column < 0 || cell->column >= table->column_count ||
        table->columns[cell->column].type == SRVLUA_COLUMN_STRING)
        return sv_fail(status, SRVLUA_ERROR_INVALID_PARAMS, "column %d is no number", cell->column);
    do {
        uint64_t place;
        struct sv_row *row = own_row(table, &wanted, &place);
        if (row) {
            sv_row_add(table, row, cell);
            end_update(table, row, place);
            return 0;
        }
        result = sv_table_insert(table, &wanted, cell, 1);
    } while (result == -EAGAIN);
    return result < 0 ? fail_full(table, status) : 0;
}

/* Reads a row that is changed all the time as its owner, if nobody else is that at the moment. */
static enum sv_read read_as_owner(const srvlua_table *table, struct sv_row *row, const struct sv_key *key, int column,
                                  uint64_t *image) {
    if (!sv_owner_try(&row->owner, sv_self_id(&table->self)))
        return SV_READ_AGAIN;
    enum sv_read result = sv_row_read(table, row, key, column, image, NULL);
    sv_owner_give(&row->owner);
    return result;
}

static int read_row(const srvlua_table *table, const void *bytes, size_t length, int column, uint64_t *image,
                    struct srvlua_status *status) {
    struct sv_key key;
    int result = check_key(table, bytes, length, &key, status);
    if (result < 0)
        return result;
    for (int reads = 0;; reads++) {
        int64_t place = sv_table_find(table, &key);
        if (place < 0)
            return 0;
        struct sv_row *row = sv_table_row(table, (uint64_t)place);
        enum sv_read read = reads < READS_BEFORE_LOCKING ? sv_row_read(table, row, &key, column, image, NULL)
                                                         : read_as_owner(table, row, &key, column, image);
        if (read != SV_READ_AGAIN)
            return read == SV_READ_ROW;
        sv_relax();
    }
}

int srvlua_table_get(srvlua_table *table, const void *key, size_t key_length, void *row, struct srvlua_status *status) {
    return read_row(table, key, key_length, ALL_COLUMNS, row, status);
}

int srvlua_table_get_cell(srvlua_table *table, const void *key, size_t key_length, void *row, struct srvlua_cell *cell,
                          struct srvlua_status *status) {
    int result = check_cells(table, &(struct srvlua_cell){.column = cell->column}, 1, status);
    if (result == 0)
        result = read_row(table, key, key_length, cell->column, row, status);
    if (result > 0)
        srvlua_table_read(table, row, cell);
    return result;
}

void srvlua_table_read(const srvlua_table *table, const void *row, struct srvlua_cell *cell) {
    const struct sv_column *column = &table->columns[cell->column];
    const uint64_t *words = (const uint64_t *)row + column->offset;
    switch (column->type) {
    case SRVLUA_COLUMN_INT:
        cell->integer = (int64_t)words[0];
        break;
    case SRVLUA_COLUMN_FLOAT:
        memcpy(&cell->number, words, sizeof cell->number);
        break;
    case SRVLUA_COLUMN_STRING:
        cell->length = words[0];
        cell->string = (const char *)(words + 1);
        break;
    }
}

int srvlua_table_exist(srvlua_table *table, const void *key, size_t key_length, struct srvlua_status *status) {
    return read_row(table, key, key_length, ALL_COLUMNS, NULL, status);
}

int srvlua_table_del(srvlua_table *table, const void *key, size_t key_length, struct srvlua_status *status) {
    struct sv_key wanted;
    uint64_t place;
    int result = check_key(table, key, key_length, &wanted, status);
    if (result < 0)
        return result;
    if (!own_row(table, &wanted, &place))
        return 0;
    sv_table_delete(table, place);
    return 1;
}

int64_t srvlua_table_count(srvlua_table *table) { return table->memory ? sv_table_count(table) : 0; }

int64_t srvlua_table_clear(srvlua_table *table) {
    int64_t removed = 0;
    if (!table->memory)
        return 0;
    for (int64_t place = sv_freemap_next_taken(&table->taken, 0); place >= 0;
         place = sv_freemap_next_taken(&table->taken, (uint64_t)place + 1)) {
        if (!sv_table_own(table, (uint64_t)place, NULL))
            continue;
        sv_table_delete(table, (uint64_t)place);
        removed++;
    }
    return removed;
}

/* --------------------------------------------------------------------------------------------------------- walking */

void srvlua_table_walk_begin(srvlua_table *table, struct srvlua_table_walk *walk) {
    walk->place = 0;
    walk->epoch = table->memory ? atomic_fetch_add(&table->head->epoch, 1) : 0;
}

/* Copies key and row of a place, at one version. True if there is one that is older than the walk. */
static bool read_place(const srvlua_table *table, struct sv_row *row, uint64_t epoch, uint64_t *words,
                       uint64_t *image) {
    for (int reads = 0;; reads++) {
        bool is_owner = reads >= READS_BEFORE_LOCKING && sv_owner_try(&row->owner, sv_self_id(&table->self));
        uint64_t version, birth = 0;
        enum sv_read read = sv_row_read(table, row, NULL, ALL_COLUMNS, image, &version);
        if (read == SV_READ_ROW) {
            birth = atomic_load_explicit(&row->birth, memory_order_relaxed);
            for (int i = 0; i < SV_KEY_WORDS; i++)
                words[i] = atomic_load_explicit(&row->key[i], memory_order_relaxed);
            atomic_thread_fence(memory_order_acquire);
            if (atomic_load_explicit(&row->version, memory_order_relaxed) != version)
                read = SV_READ_AGAIN;
        }
        if (is_owner)
            sv_owner_give(&row->owner);
        if (read != SV_READ_AGAIN)
            return read == SV_READ_ROW && birth <= epoch;
        sv_relax();
    }
}

int srvlua_table_walk_next(srvlua_table *table, struct srvlua_table_walk *walk, char key[SRVLUA_KEY_MAX + 1],
                           size_t *key_length, void *row) {
    int64_t place;
    if (!table->memory)
        return 0;
    while ((place = sv_freemap_next_taken(&table->taken, walk->place)) >= 0) {
        uint64_t words[SV_KEY_WORDS];
        walk->place = (uint64_t)place + 1;
        if (!read_place(table, sv_table_row(table, (uint64_t)place), walk->epoch, words, row))
            continue;
        const char *text = (const char *)words;
        *key_length = (unsigned char)text[0];
        memcpy(key, text + 1, *key_length);
        key[*key_length] = '\0';
        return 1;
    }
    walk->place = table->capacity;
    return 0;
}

void srvlua_table_get_stats(srvlua_table *table, struct srvlua_table_stats *stats) {
    *stats = (struct srvlua_table_stats){.num = srvlua_table_count(table), .size = table->size};
    stats->available_slice_num = stats->num < stats->size ? stats->size - stats->num : 0;
    if (!table->memory)
        return;
    for (int i = 0; i < SV_TABLE_LANES; i++) {
        struct sv_lane *lane = &table->lanes[i];
        stats->insert_count += (int64_t)atomic_load_explicit(&lane->inserts, memory_order_relaxed);
        stats->delete_count += (int64_t)atomic_load_explicit(&lane->deletes, memory_order_relaxed);
        stats->conflict_count += (int64_t)atomic_load_explicit(&lane->conflicts, memory_order_relaxed);
        stats->update_count += (int64_t)atomic_load_explicit(&lane->updates, memory_order_relaxed);
    }
    stats->conflict_max_level = (int64_t)atomic_load_explicit(&table->head->longest, memory_order_relaxed);
}
