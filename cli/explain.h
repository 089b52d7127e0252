/* Parts of `weir explain`: command_explain.c (what is asked for, and in which order), explain_price.c (contract, price
 * and the arithmetic of the difference), explain_events.c (the events themselves, out of Kafka), explain_text.c (the
 * same in words). Nobody else's.
 *
 * The explanation is one JSON object that grows: rater/ledger_explain.h begins it, each part adds members. --format
 * json prints it, the table is a reading of it.
 */
#ifndef WEIR_CLI_EXPLAIN_H
#define WEIR_CLI_EXPLAIN_H

#include <jansson.h>

#include "aggregator/window_store.h"
#include "common/model/catalog.h"
#include "common/settings.h"

enum {
    WEIR_EXPLAIN_EVENTS_MAX = 1000, /* events of one lane that are listed; all are added up */
    WEIR_EXPLAIN_EVENTS_SHOWN = 20, /* and in a table */
};

struct weir_explain {
    struct weir_settings settings;
    const _Atomic bool *stop;
    json_t *root;
    struct weir_catalog *catalog; /* that was in force when the row was written; NULL: none was stored */
};

/* Members of the item. */
const char *weir_explain_text(const json_t *object, const char *name); /* "" for null and what is missing */
/* Whether the line item is what a window charges; what a discount on the invoice takes off usage is of kind usage too.
 */
bool weir_explain_is_usage(const json_t *item);
int64_t weir_explain_time(const json_t *object, const char *name);
struct weir_decimal weir_explain_decimal(const json_t *object, const char *name);
json_t *weir_explain_json_decimal(struct weir_decimal value);
json_t *weir_explain_json_slice(struct weir_slice text);
json_t *weir_explain_json_time(int64_t time); /* WEIR_TIME_NEVER: null */

/* Adds "term" where the contract renews or has a minimum of its term. */
enum weir_status weir_explain_term(struct weir_explain *explain, struct weir_error *reterr);
/* After that. Adds "contract", "price" and "arithmetic" for usage; for fees and true-ups "contract" and "arithmetic".
 */
void weir_explain_price(struct weir_explain *explain);
/* Adds "next_offset", "events" and their sums to each of "lanes". */
enum weir_status weir_explain_events(struct weir_explain *explain, struct weir_error *reterr);
/* next_offset of each of "lanes", and whether Redis answered. */
void weir_explain_offsets(struct weir_explain *explain);
void weir_explain_print(const struct weir_explain *explain);

#endif
