#include "rater/text_row.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/model/currency.h"
#include "common/shown.h"

/* A row of NDJSON: one JSON cell, and texts of which each byte may take six. */
enum { ROW_MAX = 2 * WEIR_CELL_MAX + WEIR_COLUMNS_MAX * (6 * WEIR_IDENTIFIER_MAX + 64) };

/* 1. JSON */

/* How one byte stands inside a JSON string; the texts are valid UTF-8 (decoding saw to it). Returns the length. */
static size_t escape_byte(unsigned char byte, char to[6])
{
    static const char hex[] = "0123456789abcdef";

    if (byte == '"' || byte == '\\') {
        to[0] = '\\';
        to[1] = (char)byte;
        return 2;
    }
    if (byte >= 0x20) {
        to[0] = (char)byte;
        return 1;
    }
    memcpy(to, "\\u00", 4);
    to[4] = hex[byte >> 4];
    to[5] = hex[byte & 15];
    return 6;
}

static bool is_plain(unsigned char byte)
{
    return byte >= 0x20 && byte != '"' && byte != '\\';
}

/* In runs of bytes that stand for themselves: nearly always that is all of them. */
static size_t json_string(struct weir_slice text, char *to)
{
    size_t length = 0;
    uint32_t from = 0, at = 0;

    to[length++] = '"';
    for (;; from = ++at) {
        while (at < text.length && is_plain((unsigned char)text.data[at]))
            at++;
        if (at > from)
            memcpy(to + length, text.data + from, at - from);
        length += at - from;
        if (at == text.length)
            break;
        length += escape_byte((unsigned char)text.data[at], to + length);
    }
    to[length++] = '"';
    return length;
}

size_t weir_dimensions_json(const struct weir_dimension *dimensions, uint32_t count, char *text)
{
    size_t length = 0;

    text[length++] = '{';
    for (uint32_t i = 0; i < count; i++) {
        if (i)
            text[length++] = ',';
        length += json_string(dimensions[i].name, text + length);
        text[length++] = ':';
        length += json_string(dimensions[i].text, text + length);
    }
    text[length++] = '}';
    weir_check(length <= WEIR_CELL_MAX);
    return length;
}

static void put(FILE *output, struct weir_slice text)
{
    fwrite_unlocked(text.data, 1, text.length, output);
}

static size_t add(char *to, const char *data, size_t length)
{
    if (length)
        memcpy(to, data, length);
    return length;
}

/* A row is made in memory and written at once: a call for each piece would take longer than making it. */
bool weir_row_ndjson(FILE *output, const struct weir_column *columns, const struct weir_slice *cells, int count)
{
    static _Thread_local char row[ROW_MAX];
    size_t length = 0;

    for (int i = 0; i < count; i++) {
        size_t name = strlen(columns[i].name);
        weir_check(length + name + 8 + 6 * (size_t)WEIR_IDENTIFIER_MAX <= ROW_MAX - WEIR_CELL_MAX
                   && cells[i].length
                          <= (columns[i].kind == WEIR_CELL_JSON ? (size_t)WEIR_CELL_MAX : WEIR_IDENTIFIER_MAX));
        row[length++] = i ? ',' : '{';
        row[length++] = '"';
        length += add(row + length, columns[i].name, name);
        row[length++] = '"';
        row[length++] = ':';
        if (columns[i].is_nullable && cells[i].length == 0)
            length += add(row + length, "null", 4);
        else if (columns[i].kind == WEIR_CELL_NUMBER || columns[i].kind == WEIR_CELL_JSON)
            length += add(row + length, cells[i].data, cells[i].length);
        else
            length += json_string(cells[i], row + length);
    }
    row[length++] = '}';
    row[length++] = '\n';
    fwrite_unlocked(row, 1, length, output);
    return !ferror_unlocked(output);
}

/* 2. CSV (RFC 4180, lines ended by \n) */
static bool wants_quotes(struct weir_slice text)
{
    for (uint32_t i = 0; i < text.length; i++)
        if (text.data[i] == '"' || text.data[i] == ',' || text.data[i] == '\n' || text.data[i] == '\r')
            return true;
    return false;
}

/* Whether one of eight bytes is at most ','. Of those which are, hardly any stands in a key, a time or a number. */
static bool has_low(const char *text)
{
    const uint64_t ones = UINT64_MAX / 0xFF;
    uint64_t bytes;

    memcpy(&bytes, text, sizeof bytes);
    return (bytes - ones * (',' + 1)) & ~bytes & ones << 7;
}

/* Eight at a time; the last ones overlap those before. */
static bool may_want_quotes(struct weir_slice text)
{
    if (text.length < 8)
        return wants_quotes(text);
    for (uint32_t at = 0; at + 8 < text.length; at += 8)
        if (has_low(text.data + at))
            return wants_quotes(text);
    return has_low(text.data + text.length - 8) && wants_quotes(text);
}

static size_t csv_cell(struct weir_slice text, char *to)
{
    size_t length = 0;

    if (!may_want_quotes(text))
        return add(to, text.data, text.length);
    to[length++] = '"';
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.data[i] == '"')
            to[length++] = '"';
        to[length++] = text.data[i];
    }
    to[length++] = '"';
    return length;
}

bool weir_row_csv_header(FILE *output, const struct weir_column *columns, int count)
{
    for (int i = 0; i < count; i++)
        fprintf(output, "%s%s", i ? "," : "", columns[i].name);
    putc_unlocked('\n', output);
    return !ferror_unlocked(output);
}

bool weir_row_csv(FILE *output, const struct weir_column *columns, const struct weir_slice *cells, int count)
{
    static _Thread_local char row[ROW_MAX];
    size_t length = 0;

    (void)columns;
    for (int i = 0; i < count; i++) {
        weir_check(length + 2 * (size_t)cells[i].length + 4 <= ROW_MAX);
        if (i)
            row[length++] = ',';
        length += csv_cell(cells[i], row + length);
    }
    row[length++] = '\n';
    fwrite_unlocked(row, 1, length, output);
    return !ferror_unlocked(output);
}

/* 3. tables */
struct weir_text_table {
    const struct weir_column *columns;
    int column_count;
    int currency; /* the column that says it; -1: none does */
    struct weir_arena *arena;
    struct weir_slice *cells; /* row by row */
    size_t row_count, row_room;
    size_t widths[WEIR_COLUMNS_MAX]; /* 0: empty in every row so far */
};

struct weir_text_table *weir_text_table_new(const struct weir_column *columns, int count)
{
    struct weir_text_table *table = weir_new(sizeof *table);

    weir_check(count <= WEIR_COLUMNS_MAX);
    table->columns = columns;
    table->column_count = count;
    table->currency = count - 1;
    while (table->currency >= 0 && strcmp(columns[table->currency].name, "currency") != 0)
        table->currency--;
    table->arena = weir_arena_new();
    return table;
}

struct weir_text_table *weir_text_table_free(struct weir_text_table *table)
{
    if (!table)
        return NULL;
    weir_arena_free(table->arena);
    free(table->cells);
    free(table);
    return NULL;
}

/* A copy of which a terminal obeys nothing: names come with events. */
static struct weir_slice shown(struct weir_arena *arena, struct weir_slice text)
{
    char *copy = weir_arena_take(arena, text.length + 1);

    return (struct weir_slice){copy, weir_shown_copy(text, copy)};
}

/* Places that stay, so that money looks like money: those of the row's currency, and two at least. */
static int places_of(const struct weir_text_table *table, const struct weir_slice *cells)
{
    int places = table->currency >= 0 ? weir_currency_places(cells[table->currency]) : 2;

    return places > 2 ? places : 2;
}

void weir_text_table_add(struct weir_text_table *table, const struct weir_slice *cells)
{
    size_t kept = 1 + (size_t)places_of(table, cells);

    if (table->row_count == table->row_room) {
        table->row_room = table->row_room ? table->row_room * 2 : 256;
        table->cells = weir_resize(table->cells, table->row_room * (size_t)table->column_count, sizeof *table->cells);
    }
    struct weir_slice *row = table->cells + table->row_count++ * (size_t)table->column_count;
    for (int i = 0; i < table->column_count; i++) {
        struct weir_slice text = cells[i];
        if (table->columns[i].kind == WEIR_CELL_JSON && text.length == 2)
            text.length = 0; /* no dimensions */
        if (table->columns[i].kind == WEIR_CELL_DECIMAL && text.length > 0 && memchr(text.data, '.', text.length)) {
            const char *point = memchr(text.data, '.', text.length);
            while (text.data[text.length - 1] == '0' && text.length > (size_t)(point - text.data) + kept)
                text.length--;
        }
        row[i] = shown(table->arena, text);
        if (weir_shown_width(row[i]) > table->widths[i])
            table->widths[i] = weir_shown_width(row[i]);
    }
}

/* How many characters stand behind the point, the point included: decimals line up on it. */
static size_t tail_of(struct weir_slice text)
{
    const char *point = text.length ? memchr(text.data, '.', text.length) : NULL;
    return point ? text.length - (size_t)(point - text.data) : 0;
}

struct layout {
    size_t heads[WEIR_COLUMNS_MAX]; /* decimals: before the point */
    size_t tails[WEIR_COLUMNS_MAX]; /* and from it on */
    size_t widths[WEIR_COLUMNS_MAX];
    bool is_shown[WEIR_COLUMNS_MAX];
};

static void lay_out(const struct weir_text_table *table, struct layout *layout)
{
    *layout = (struct layout){{0}, {0}, {0}, {false}};
    for (size_t row = 0; row < table->row_count; row++)
        for (int i = 0; i < table->column_count; i++) {
            struct weir_slice cell = table->cells[row * (size_t)table->column_count + (size_t)i];
            size_t tail = table->columns[i].kind == WEIR_CELL_DECIMAL ? tail_of(cell) : 0;
            size_t head = weir_shown_width(cell) - tail;
            layout->tails[i] = tail > layout->tails[i] ? tail : layout->tails[i];
            layout->heads[i] = head > layout->heads[i] ? head : layout->heads[i];
        }
    for (int i = 0; i < table->column_count; i++) {
        layout->is_shown[i] = table->widths[i] > 0 || table->row_count == 0;
        layout->widths[i] = layout->heads[i] + layout->tails[i];
        if (strlen(table->columns[i].name) > layout->widths[i])
            layout->widths[i] = strlen(table->columns[i].name);
    }
}

static void put_spaces(FILE *output, size_t count)
{
    while (count-- > 0)
        putc_unlocked(' ', output);
}

static void put_cell(FILE *output, const struct layout *layout, int column, enum weir_cell_kind kind,
                     struct weir_slice cell, bool is_last)
{
    size_t width = weir_shown_width(cell), space = layout->widths[column] - width;
    size_t behind = kind == WEIR_CELL_DECIMAL && cell.length ? layout->tails[column] - tail_of(cell) : 0;

    if (kind == WEIR_CELL_NUMBER || kind == WEIR_CELL_DECIMAL) {
        put_spaces(output, space - behind);
        put(output, cell);
        space = behind;
    } else {
        put(output, cell);
    }
    if (!is_last)
        put_spaces(output, space + 2);
}

bool weir_text_table_write(const struct weir_text_table *table, FILE *output, bool is_terminal)
{
    struct layout layout;
    int last = 0;

    lay_out(table, &layout);
    for (int i = 0; i < table->column_count; i++)
        last = layout.is_shown[i] ? i : last;
    fputs(is_terminal ? "\033[1m" : "", output);
    for (int i = 0; i <= last; i++)
        if (layout.is_shown[i])
            put_cell(output, &layout, i,
                     table->columns[i].kind == WEIR_CELL_DECIMAL ? WEIR_CELL_NUMBER : table->columns[i].kind,
                     weir_slice_text(table->columns[i].name), i == last);
    fputs(is_terminal ? "\033[0m\n" : "\n", output);
    for (size_t row = 0; row < table->row_count; row++) {
        for (int i = 0; i <= last; i++)
            if (layout.is_shown[i])
                put_cell(output, &layout, i, table->columns[i].kind,
                         table->cells[row * (size_t)table->column_count + (size_t)i], i == last);
        putc_unlocked('\n', output);
    }
    return !ferror(output);
}
