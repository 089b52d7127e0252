/* One line item with everything in PostgreSQL that tells why it is what it is: for `weir explain`. Reads only.
 *
 * The answer is JSON, made by PostgreSQL in one statement, so it is one snapshot. Decimals are strings in their
 * shortest form, times RFC 3339 in UTC: item       the row charge     the rows that were written with it, of one change
 * of its window: [first, last] of line_item_id revisions  every row of the same window (fees and true-ups: of the same
 * period and item), in the order of writing lanes      the lanes' shares of the window as last rated; series_key in
 * hexadecimal running    by dimensions, component and tier of the item's meter and version: quantity and amount before
 * and after the charge period     the billing period's row, and sums before the charge catalog    catalog_version,
 * applied_at and text of the catalog that was in force when the row was written; null: none was stored
 * rerating   the run that wrote the row, its start, operator and reason; null: a rater did
 */
#ifndef WEIR_RATER_LEDGER_EXPLAIN_H
#define WEIR_RATER_LEDGER_EXPLAIN_H

#include <stdbool.h>
#include <stdint.h>

#include "common/slice.h"
#include "common/status.h"

/* url: any libpq connection string. *ret_json is to be freed. WEIR_REJECT: there is no such line item. */
enum weir_status weir_ledger_explain(const char *url, int64_t line_item_id, char **ret_json, struct weir_error *reterr);

/* What is asked of the term in which a line item is. */
struct weir_explained_term {
    int64_t line_item_id;
    int64_t before;   /* the first row of its charge */
    int64_t from, to; /* the term */
    struct weir_slice commitment;
    bool has_usage; /* also what was used; else only what the commitment has charged */
};
/* JSON: for each billing period of the term that has any, period_start, usage_before and true_up_before (of rows before
 * the charge; what was charged for missing quantities is usage) and true_up, and of a minimum quantity missing and
 * charged, its quantity and amount (of all rows). *ret_json is to be freed. */
enum weir_status weir_ledger_explain_term(const char *url, const struct weir_explained_term *term, char **ret_json,
                                          struct weir_error *reterr);

#endif
