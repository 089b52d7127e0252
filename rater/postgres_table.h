/* How a table's rows are written: postgres_write.c lists columns and fills rows, postgres_table.c makes the COPY and
 * the statement of them. Nobody else's.
 */
#ifndef WEIR_RATER_POSTGRES_TABLE_H
#define WEIR_RATER_POSTGRES_TABLE_H

#include "rater/postgres_rows.h"

enum { WEIR_POSTGRES_COPY_CHUNK = 256 * 1024 }; /* bytes handed to libpq at once */

/* One list of columns makes the COPY, the upsert and the arrays. */
struct weir_postgres_column {
    const char *name;
    enum weir_postgres_type type;
    bool is_key;
};

struct weir_postgres_table {
    const char *name;    /* "weir.rated_windows" */
    const char *touched; /* set to now() by an upsert; NULL: there is no upsert */
    int column_count;
    const struct weir_postgres_column *columns;
};

/* Where a row's fields go: for COPY all into one buffer, for arrays each into its own. */
struct weir_postgres_sink {
    struct weir_buffer *to[WEIR_ROW_COLUMNS_MAX];
};

/* Writes row `index` of a list; false: there is none at that place to write. */
typedef bool weir_postgres_put_entry(struct weir_postgres_ledger *ledger, const void *list, size_t index, uint32_t part,
                                     struct weir_postgres_sink *sink);

/* Rows of one table that a batch leaves: `put` writes part `part` of entry `index`, until it says there is none. */
struct weir_postgres_rows {
    const struct weir_postgres_table *table;
    const char *doing;
    const void *list;
    size_t count;
    const struct weir_entry *(*entry)(const void *list, size_t index);
    weir_postgres_put_entry *put;
};

/* A COPY of rows that the caller puts into ledger->copy: begin, send whenever WEIR_POSTGRES_COPY_CHUNK have gathered,
 * end, which is the server's verdict on all rows. */
enum weir_status weir_postgres_copy_begin(struct weir_postgres_ledger *ledger, const struct weir_postgres_table *table,
                                          const char *doing, struct weir_postgres_sink *sink,
                                          struct weir_error *reterr);
enum weir_status weir_postgres_copy_send(struct weir_postgres_ledger *ledger, const char *doing,
                                         struct weir_error *reterr);
enum weir_status weir_postgres_copy_end(struct weir_postgres_ledger *ledger, const char *doing,
                                        struct weir_error *reterr);
/* Those of the entries that are dirty: new ones by COPY, changed ones by upsert. */
enum weir_status weir_postgres_write_rows(struct weir_postgres_ledger *ledger, const struct weir_postgres_rows *rows,
                                          struct weir_error *reterr);

#endif
