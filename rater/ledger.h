/* Where line items end: a table, CSV or NDJSON for people and pipes, PostgreSQL for finance. Append-only.
 *
 * A ledger handle belongs to one thread.
 */
#ifndef WEIR_RATER_LEDGER_H
#define WEIR_RATER_LEDGER_H

#include <stdio.h>

#include "common/model/line_item.h"
#include "common/status.h"
#include "rater/state.h"

struct weir_ledger;

struct weir_ledger_ops {
    const char *name; /* "table", "csv", "ndjson", "postgres" */
    bool keeps_state; /* true: load and write keep the state, the rater forgets it after each batch. false: the rater's
                         is the only one */
    /* Fills the entries of state that are not loaded. PostgreSQL: begins the transaction if none is open and locks the
     * customers concerned, so that two raters never rate one customer at the same time. May be called again in one
     * transaction after more entries were made (of the same customers, or further ones). WEIR_RETRY: the transaction is
     * gone; clear the state and start over. */
    enum weir_status (*load)(struct weir_ledger *ledger, struct weir_state *state, struct weir_error *reterr);
    /* Appends the items and keeps the dirty entries, all in the transaction, and commits. WEIR_RETRY: it may or may not
     * have been committed: clear the state and start over; what was committed will show as a difference of zero. */
    enum weir_status (*write)(struct weir_ledger *ledger, const struct weir_line_item *items, size_t count,
                              struct weir_state *state, struct weir_error *reterr);
    /* Gives the open transaction up, if any. */
    void (*abandon)(struct weir_ledger *ledger);
    /* Periods that wait to be settled and that no catalog lists: those of the default contract (contract '') where
     * advance fees are not charged yet, or not closed with end <= before; of contracts with a key those with end <=
     * span_start where nothing is settled yet (an order made them); and of any contract those that could not be
     * closed, a minute after the last try or once on a new connection. At most max; views live until the next call.
     * Embedded ledgers: none (*ret_count = 0). */
    enum weir_status (*unsettled)(struct weir_ledger *ledger, int64_t before, int64_t span_start, size_t max,
                                  struct weir_period_running *ret_periods, size_t *ret_count,
                                  struct weir_error *reterr);
    /* The end of the output: totals, footers, flush. Once. */
    enum weir_status (*finish)(struct weir_ledger *ledger, struct weir_error *reterr);
    void (*free)(struct weir_ledger *ledger);
    /* Fills the rest of each split that wants it: what was rated into it of windows that the state does not hold, in
     * the transaction that load began. Only asked of a ledger that keeps the state; the others have none. */
    enum weir_status (*load_rest)(struct weir_ledger *ledger, struct weir_state *state, struct weir_error *reterr);
    /* What an order of grants needs (rater/orders.h), in the transaction that load began; NULL where there are none.
     * Entries of periods and prices of the contract's rated periods that overlap [from, to); of the windows that were
     * rated in one; and the order's row. */
    enum weir_status (*list_prices)(struct weir_ledger *ledger, struct weir_state *state, struct weir_slice customer,
                                    struct weir_slice contract, int64_t from, int64_t to, struct weir_error *reterr);
    enum weir_status (*list_windows)(struct weir_ledger *ledger, struct weir_state *state,
                                     const struct weir_period_running *period, struct weir_error *reterr);
    enum weir_status (*add_order)(struct weir_ledger *ledger, struct weir_slice customer,
                                  const struct weir_grant_order *order, const char *reason, const char *by,
                                  struct weir_error *reterr);
    /* Customers, by name from `after` on, with something left of a grant that expired in [from, through]. At most max;
     * views live until the next call. NULL where nothing expires. */
    enum weir_status (*expired)(struct weir_ledger *ledger, int64_t from, int64_t through, struct weir_slice after,
                                size_t max, struct weir_slice *ret_customers, size_t *ret_count,
                                struct weir_error *reterr);
    /* No line item will come of a customer that is not behind all that there were some of: a summary of those may be
     * written. NULL: it makes no difference. */
    enum weir_status (*customers_done)(struct weir_ledger *ledger, struct weir_error *reterr);
};

struct weir_ledger {
    const struct weir_ledger_ops *ops;
};

enum weir_ledger_format { WEIR_LEDGER_TABLE, WEIR_LEDGER_CSV, WEIR_LEDGER_NDJSON };

/* Line items in columns of design section 6 plus item and component, to `output` (the caller's; not closed). With
 * is_summary one row per (customer, contract, period_start, period_end, item, kind, currency), sorted, with the columns
 * customer, contract, period_start, period_end, item, kind, quantity, amount, invoice_amount, currency. Table: columns
 * line up, in UTF-8 width, with a total line per currency; colours only when `output` is a terminal. */
enum weir_status weir_ledger_text_open(enum weir_ledger_format format, bool is_summary, FILE *output,
                                       struct weir_ledger **ret_ledger, struct weir_error *reterr);

/* url: any libpq connection string. Connects at once; the schema must be the one of this binary ("run weir migrate"
 * otherwise). */
enum weir_status weir_ledger_postgres_open(const char *url, struct weir_ledger **ret_ledger, struct weir_error *reterr);

/* All that a PostgreSQL ledger writes from now on is the run's (weir.reratings); 0: raters'. Between transactions. */
void weir_ledger_postgres_write_for(struct weir_ledger *ledger, int64_t run);

static inline void weir_ledger_free(struct weir_ledger *ledger)
{
    if (ledger)
        ledger->ops->free(ledger);
}

#endif
