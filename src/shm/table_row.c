/* table_row.c: what is in a row of a table; see table.h.
 *
 * Shared words are loaded and stored one by one without ordering; the version orders them. A reader that saw a word of
 * a later change also sees, behind its fence, the version before that change: the writer's release fence comes between
 * the two. */
#include "shm/table.h"

#include <string.h>

static inline uint64_t get_word(_Atomic uint64_t *word) { return atomic_load_explicit(word, memory_order_relaxed); }

static inline void put_word(_Atomic uint64_t *word, uint64_t value) {
    atomic_store_explicit(word, value, memory_order_relaxed);
}

static size_t words_of(size_t bytes) { return (bytes + 7) / 8; }

bool sv_row_has_key(struct sv_row *row, const struct sv_key *key) {
    for (size_t i = 0; i < key->used; i++) /* equal first words mean equal lengths */
        if (get_word(&row->key[i]) != key->words[i])
            return false;
    return true;
}

/* -------------------------------------------------------------------------------------------------------- reading */

/* Words of a column that say something: of a string its length and its bytes. */
static size_t words_in_use(const struct sv_column *column, uint64_t first) {
    if (column->type != SRVLUA_COLUMN_STRING)
        return 1;
    /* While its image is being overwritten, a length may be of any row that was here. */
    return 1 + words_of(first <= column->size ? first : column->size);
}

static void read_column(const struct sv_column *column, _Atomic uint64_t *from, uint64_t *to) {
    from += column->offset;
    to += column->offset;
    to[0] = get_word(&from[0]);
    for (size_t i = 1, count = words_in_use(column, to[0]); i < count; i++)
        to[i] = get_word(&from[i]);
}

enum sv_read sv_row_read(const srvlua_table *table, struct sv_row *row, const struct sv_key *key, int column,
                         uint64_t *image, uint64_t *version) {
    uint64_t before = atomic_load_explicit(&row->version, memory_order_acquire);
    if (!(before & SV_ROW_LIVE))
        return SV_READ_NOTHING;
    if (key && !sv_row_has_key(row, key))
        return SV_READ_AGAIN;
    if (image) {
        _Atomic uint64_t *from = sv_row_image(table, row, before);
        if (column >= 0)
            read_column(&table->columns[column], from, image);
        else
            for (int i = 0; i < table->column_count; i++)
                read_column(&table->columns[i], from, image);
    }
    if (version)
        *version = before;
    atomic_thread_fence(memory_order_acquire);
    return atomic_load_explicit(&row->version, memory_order_relaxed) == before ? SV_READ_ROW : SV_READ_AGAIN;
}

/* ------------------------------------------------------------------------------------------------------- changing */

static uint64_t number_as_word(double number) {
    uint64_t word;
    memcpy(&word, &number, sizeof word);
    return word;
}

static double word_as_number(uint64_t word) {
    double number;
    memcpy(&number, &word, sizeof number);
    return number;
}

static void put_cell(const struct sv_column *column, _Atomic uint64_t *image, const struct srvlua_cell *cell) {
    image += column->offset;
    switch (column->type) {
    case SRVLUA_COLUMN_INT:
        put_word(image, (uint64_t)cell->integer);
        break;
    case SRVLUA_COLUMN_FLOAT:
        put_word(image, number_as_word(cell->number));
        break;
    case SRVLUA_COLUMN_STRING:
        put_word(image, cell->length);
        for (size_t at = 0; at < cell->length; at += 8) {
            uint64_t word = 0;
            memcpy(&word, cell->string + at, cell->length - at < 8 ? cell->length - at : 8);
            put_word(++image, word);
        }
        break;
    }
}

static void copy_column(const struct sv_column *column, _Atomic uint64_t *from, _Atomic uint64_t *to) {
    from += column->offset;
    to += column->offset;
    uint64_t first = get_word(from);
    put_word(to, first);
    for (size_t i = 1, count = words_in_use(column, first); i < count; i++)
        put_word(&to[i], get_word(&from[i]));
}

static bool is_among(int column, const struct srvlua_cell *cells, size_t count) {
    for (size_t i = 0; i < count; i++)
        if (cells[i].column == column)
            return true;
    return false;
}

static uint64_t version_of(struct sv_row *row) { return get_word(&row->version); }

static void set_version(struct sv_row *row, uint64_t version) {
    atomic_store_explicit(&row->version, version, memory_order_release);
}

/* A single word is whole by itself: it is changed in place. The version changes all the same, so that nobody reads one
 * word from before this change and another from after the next. */
static void update_in_place(const srvlua_table *table, struct sv_row *row, const struct srvlua_cell *cell) {
    uint64_t version = version_of(row);
    atomic_thread_fence(memory_order_release);
    put_cell(&table->columns[cell->column], sv_row_image(table, row, version), cell);
    set_version(row, version + SV_ROW_STEP);
}

void sv_row_update(const srvlua_table *table, struct sv_row *row, const struct srvlua_cell *cells, size_t count) {
    if (count == 0)
        return;
    if (count == 1 && table->columns[cells[0].column].type != SRVLUA_COLUMN_STRING) {
        update_in_place(table, row, &cells[0]);
        return;
    }
    uint64_t version = version_of(row);
    _Atomic uint64_t *from = sv_row_image(table, row, version);
    _Atomic uint64_t *to = sv_row_image(table, row, version ^ SV_ROW_IMAGE);
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < table->column_count; i++)
        if (!is_among(i, cells, count))
            copy_column(&table->columns[i], from, to);
    for (size_t i = 0; i < count; i++)
        put_cell(&table->columns[cells[i].column], to, &cells[i]);
    set_version(row, (version ^ SV_ROW_IMAGE) + SV_ROW_STEP);
}

void sv_row_add(const srvlua_table *table, struct sv_row *row, struct srvlua_cell *cell) {
    const struct sv_column *column = &table->columns[cell->column];
    uint64_t word = get_word(sv_row_image(table, row, version_of(row)) + column->offset);
    if (column->type == SRVLUA_COLUMN_INT)
        cell->integer = (int64_t)(word + (uint64_t)cell->integer);
    else
        cell->number += word_as_number(word);
    update_in_place(table, row, cell);
}

uint64_t sv_row_prepare(const srvlua_table *table, struct sv_row *row, const struct srvlua_cell *cells, size_t count) {
    uint64_t version = version_of(row) ^ SV_ROW_IMAGE;
    _Atomic uint64_t *image = sv_row_image(table, row, version);
    atomic_thread_fence(memory_order_release);
    for (int i = 0; i < table->column_count; i++)
        put_word(image + table->columns[i].offset, 0); /* also 0.0, and the length of '' */
    for (size_t i = 0; i < count; i++)
        put_cell(&table->columns[cells[i].column], image, &cells[i]);
    return (version | SV_ROW_LIVE) + SV_ROW_STEP;
}
