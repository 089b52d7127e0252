/* Rows of text for the table, CSV and NDJSON ledgers: columns, cells, and their three ways of being written. */
#ifndef WEIR_RATER_TEXT_ROW_H
#define WEIR_RATER_TEXT_ROW_H

#include <stdbool.h>
#include <stdio.h>

#include "common/slice.h"
#include "rater/ledger.h"

enum weir_cell_kind {
    WEIR_CELL_TEXT,
    WEIR_CELL_NUMBER,  /* a whole number: bare in JSON; aligned right */
    WEIR_CELL_DECIMAL, /* a string in JSON; aligned right, trailing zeros trimmed in tables */
    WEIR_CELL_JSON,    /* a JSON object as it is */
};

struct weir_column {
    const char *name;
    enum weir_cell_kind kind;
    bool is_nullable; /* empty is null in JSON */
};

enum { WEIR_COLUMNS_MAX = 24, WEIR_CELL_MAX = 8 * (6 * (WEIR_PATH_TEXT_MAX + WEIR_IDENTIFIER_MAX) + 8) };

/* Writes one row; cells point anywhere. false: a write failed (errno). */
bool weir_row_csv(FILE *output, const struct weir_column *columns, const struct weir_slice *cells, int count);
bool weir_row_csv_header(FILE *output, const struct weir_column *columns, int count);
bool weir_row_ndjson(FILE *output, const struct weir_column *columns, const struct weir_slice *cells, int count);

/* A table is kept until its widths are known. */
struct weir_text_table;
struct weir_text_table *weir_text_table_new(const struct weir_column *columns, int count);
struct weir_text_table *weir_text_table_free(struct weir_text_table *table);
void weir_text_table_add(struct weir_text_table *table, const struct weir_slice *cells);
/* Columns that are empty in every row are left out. bold: terminal. */
bool weir_text_table_write(const struct weir_text_table *table, FILE *output, bool is_terminal);

/* dimensions as compact JSON with the names sorted as given; into text (WEIR_CELL_MAX), returns the length. */
size_t weir_dimensions_json(const struct weir_dimension *dimensions, uint32_t count, char *text);

#endif
