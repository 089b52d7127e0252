/* The PostgreSQL ledger's parts: ledger_postgres.c (connection and transaction), postgres_load.c and postgres_write.c
 * (the rater's state in its tables, written by postgres_table.c); rerate_write.c, which stores a whole state anew; and
 * rehearsal.c, which writes nothing. Nobody else's.
 */
#ifndef WEIR_RATER_POSTGRES_ROWS_H
#define WEIR_RATER_POSTGRES_ROWS_H

#include "common/arena.h"
#include "common/digest.h"
#include "rater/ledger.h"
#include "rater/partitions.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"
#include "rater/text_row.h"

enum { WEIR_ROW_COLUMNS_MAX = 24 };

struct weir_postgres_ledger;

/* What would be written, in the transaction that it was loaded in. */
typedef enum weir_status weir_postgres_rehearsed(void *context, struct weir_postgres_ledger *ledger,
                                                 const struct weir_line_item *items, size_t count,
                                                 struct weir_state *state, struct weir_error *reterr);

struct weir_postgres_ledger {
    struct weir_ledger ledger;
    char *url;
    PGconn *connection; /* NULL: to be opened at the next load */
    bool in_transaction;
    int64_t run;                        /* that is written for; 0: none */
    weir_postgres_rehearsed *rehearsed; /* NULL: it writes */
    void *rehearsal;
    struct weir_digester *digester;
    PGresult *unsettled; /* what the last answer's views point into */
    PGresult *expired;   /* the same */

    struct weir_buffer columns[WEIR_ROW_COLUMNS_MAX]; /* arrays of one statement */
    struct weir_buffer copy;                          /* rows on their way to COPY */
    struct weir_slice *customers;
    size_t customer_room;
    char json[WEIR_CELL_MAX];

    /* Known to be in the database, as long as the connection lives: they are never removed. */
    struct weir_partitions partitions;
    struct weir_arena *arena; /* of the books' names */
    struct weir_slice *books; /* also those noted in the open transaction */
    size_t book_count, book_room;
};

/* The first 128 bits of SHA-256. */
struct weir_row_id {
    unsigned char bytes[WEIR_DIGEST_BYTES];
};
struct weir_row_id weir_row_id(struct weir_postgres_ledger *ledger, struct weir_slice key);

/* From now on the ledger only reads: each batch sees one moment, locks no customer and is given up. Once. */
void weir_postgres_ledger_rehearse(struct weir_ledger *self, weir_postgres_rehearsed *take, void *context);

/* All in the open transaction. */
enum weir_status weir_postgres_lock_customers(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                              struct weir_error *reterr);
enum weir_status weir_postgres_load_state(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                          struct weir_error *reterr);
enum weir_status weir_postgres_load_rest(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                         struct weir_error *reterr);
/* postgres_credits_load.c: all that belongs to the state's accounts. Loaded before prices: it makes entries of them. */
enum weir_status weir_postgres_load_accounts(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                             struct weir_error *reterr);
void weir_postgres_mark_accounts_loaded(struct weir_state *state);
/* postgres_credits.c: what changed of it. The marks of what was written go with the state, which is cleared after each
 * batch. */
enum weir_status weir_postgres_write_accounts(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                              struct weir_error *reterr);
/* postgres_orders.c: see ledger.h. */
enum weir_status weir_postgres_list_prices(struct weir_ledger *self, struct weir_state *state,
                                           struct weir_slice customer, struct weir_slice contract, int64_t from,
                                           int64_t to, struct weir_error *reterr);
enum weir_status weir_postgres_list_windows(struct weir_ledger *self, struct weir_state *state,
                                            const struct weir_period_running *period, struct weir_error *reterr);
enum weir_status weir_postgres_add_order(struct weir_ledger *self, struct weir_slice customer,
                                         const struct weir_grant_order *order, const char *reason, const char *by,
                                         struct weir_error *reterr);
enum weir_status weir_postgres_read_expired(struct weir_postgres_ledger *ledger, int64_t from, int64_t through,
                                            struct weir_slice after, size_t max, struct weir_error *reterr);
enum weir_status weir_postgres_write_items(struct weir_postgres_ledger *ledger, const struct weir_line_item *items,
                                           size_t count, struct weir_error *reterr);
/* postgres_held.c: open gaps and held windows. Loaded before anything else is told apart. */
enum weir_status weir_postgres_load_held(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                         struct weir_error *reterr);
/* Periods that cannot be closed, and those that could be. */
enum weir_status weir_postgres_write_refused(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                             struct weir_error *reterr);
enum weir_status weir_postgres_write_held(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                          struct weir_error *reterr);
/* postgres_recount.c: what windows were before they were counted again. Only of a run. */
enum weir_status weir_postgres_write_recounted(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                               struct weir_error *reterr);
enum weir_status weir_postgres_write_state(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                           struct weir_error *reterr);

#endif
