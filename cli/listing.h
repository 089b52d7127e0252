/* Rows of a command on standard output, as --format says: a table, which is kept until its widths are known, csv with a
 * header, or json, an object a line. What cannot be written is told once, at the end. One thread. */
#ifndef WEIR_CLI_LISTING_H
#define WEIR_CLI_LISTING_H

#include "rater/text_row.h"

struct weir_listing {
    const char *format; /* table, csv or json */
    const struct weir_column *columns;
    int count;
    struct weir_text_table *table; /* NULL: csv or json */
    bool is_broken;
};

/* Texts and columns are the caller's and must stay. */
struct weir_listing weir_listing_begin(const char *format, const struct weir_column *columns, int count);
void weir_listing_add(struct weir_listing *listing, const struct weir_slice *cells);
/* has_table: a table is shown, not dropped. false: not all could be written. */
bool weir_listing_end(struct weir_listing *listing, bool has_table);
/* The same for what has come to `status`, and shows its table when that is WEIR_OK. Answers it, or WEIR_FATAL when all
 * was well but the writing. */
enum weir_status weir_listing_finish(struct weir_listing *listing, enum weir_status status, struct weir_error *reterr);

#endif
