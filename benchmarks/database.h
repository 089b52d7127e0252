/* Databases of a benchmark's own in PostgreSQL, and the bare binary COPY that the ledger is measured beside: the very
 * same rows into the same tables with the same indexes. Every call that fails ends the program. One thread. */
#ifndef WEIR_BENCHMARKS_DATABASE_H
#define WEIR_BENCHMARKS_DATABASE_H

#include <stdint.h>

#include "benchmarks/measure.h"

/* A new one, migrated, on the server of WEIR_POSTGRES_URL. One of that name before it is dropped. */
void weir_database_make(const char *name, char url[512]);
void weir_database_drop(const char *name);

/* The rows of one hour, as PostgreSQL encodes them. */
struct weir_database_rows {
    char *items, *windows;
    size_t items_length, windows_length;
};

/* Line items and rated windows whose window starts in each of the hours from first_hour (ns) on. */
void weir_database_copy_out(const char *url, int64_t first_hour, int count, struct weir_database_rows *ret_rows);
void weir_database_free_rows(struct weir_database_rows *rows, int count); /* and the array */
/* A transaction for each; windows are of January 2026. */
struct weir_took weir_database_copy_in(const char *url, const struct weir_database_rows *rows, int count);
/* The first field of the first row; empty: there is none, or it is null. */
enum { WEIR_DATABASE_ANSWER_MAX = 256 };
void weir_database_ask(const char *url, const char *sql, char answer[WEIR_DATABASE_ANSWER_MAX]);
/* Calls visit with the first field of each row, "" where it is null. */
void weir_database_each(const char *url, const char *sql, void (*visit)(void *context, const char *text),
                        void *context);
/* The time of a binary COPY of what the query answers into a table that takes it. What is copied is not held in
 * memory: it waits in a file without a name. */
struct weir_took weir_database_copy_rows(const char *url, const char *query, const char *table);
/* So many line items, and the same sums, stand in both. */
void weir_database_compare(const char *one, const char *other, int64_t rows);

#endif
