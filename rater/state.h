/* What has been rated so far: last totals of windows, running totals of prices and splits, billing periods.
 *
 * The rater works on these tables and nothing else; a ledger fills the entries it does not know yet (load) and keeps
 * the ones that changed (write), together with the line items, in one transaction. An embedded ledger keeps nothing:
 * there the state simply lives as long as the run.
 *
 * Entries are made by the rater's find-or-make calls with is_loaded false. Protocol for a ledger:
 *   load:  for each entry with !is_loaded: fill it from storage if a row exists (exists = true), then is_loaded = true.
 *   write: store each entry with is_dirty, then is_dirty = false, exists = true.
 * Entries never move; keys are owned by the state. One thread.
 */
#ifndef WEIR_RATER_STATE_H
#define WEIR_RATER_STATE_H

#include "common/model/catalog.h"
#include "common/model/window.h"

/* Why a window has no price. The word stands in PostgreSQL and in reports. */
#define WEIR_UNPRICED(X) X(PRICED, ) X(NO_METER, no_meter) X(NO_CONTRACT, no_contract) X(NO_PRICE, no_price)
enum weir_unpriced {
#define WEIR_X(upper, lower) WEIR_UNPRICED_##upper,
    WEIR_UNPRICED(WEIR_X)
#undef WEIR_X
        WEIR_UNPRICED_COUNT
};
extern const char *const weir_unpriced_name[WEIR_UNPRICED_COUNT]; /* "" for PRICED */

struct weir_entry {
    bool is_loaded;
    bool exists; /* a row stands in storage (or the entry was written before, in this run) */
    bool is_dirty;
};

/* What becomes of a share's row of windows that are held. */
enum weir_held_change { WEIR_HELD_AS_IT_WAS, WEIR_HELD_HOLD, WEIR_HELD_LET_GO };

/* One lane's share of a window: the last total that was rated. */
struct weir_rated_lane {
    struct weir_slice lane; /* "events:3" */
    bool is_dirty;
    struct weir_window_total total;
    uint32_t revision; /* of the last rating; 0: never rated */

    /* Held back by a gap (docs/gaps.md), or kept out because it cannot be rated; held_number 0: it is not. */
    uint64_t held_number; /* of the row: another one when the row changes */
    bool may_lower;       /* the operator's word: what was rebuilt replaces what was rated even where it is less */
    enum weir_held_change held_change;
    struct weir_window_total held; /* what was rebuilt */
    bool is_refused;               /* the row says that it cannot be rated */
    struct weir_slice refused; /* why it cannot be rated, when that is why it is held; written with WEIR_HELD_HOLD */

    bool is_replaced; /* by what was counted again; the ledger notes it with the run that it writes for */
    struct weir_window_total replaced;
};

/* The gaps of a lane, loaded before anything of it is rated. Embedded ledgers know none. Key: lane. */
struct weir_held_span {
    int64_t from, to; /* event times [from, to) */
};
struct weir_held_lane {
    struct weir_entry entry;
    struct weir_slice lane;
    bool has_held;    /* some window of it is held */
    int64_t released; /* the number of its last gap that was released; 0: none was */
    uint32_t span_count;
    struct weir_held_span *spans; /* of those that are open */
};

/* Key: (series_key, start). All lanes that hold a share of it. */
struct weir_rated_window {
    struct weir_entry entry;
    struct weir_slice series_key; /* weir_series_parse() gives meter, customer, dimensions */
    int64_t start, end;
    enum weir_unpriced unpriced;      /* as of the last rating */
    struct weir_slice contract;       /* what it was rated under; empty: the default contract or unpriced */
    int64_t period_start, period_end; /* 0, 0: no contract */
    struct weir_slice price_book;     /* empty: unpriced */
    uint32_t price_book_version;
    struct weir_slice price_key;
    uint32_t lane_count;
    uint32_t lane_room;
    struct weir_rated_lane *lanes; /* ledger's load adds with weir_rated_window_lane() */
};

/* The running total of one price of one version in one billing period. Key: all slices, period_start and version. */
struct weir_price_running {
    struct weir_entry entry;
    struct weir_slice customer;
    struct weir_slice contract;
    int64_t period_start, period_end;
    struct weir_slice price_book;
    uint32_t price_book_version;
    struct weir_slice price_key;
    struct weir_decimal quantity; /* Q */
    uint64_t events;              /* N */
    struct weir_decimal amount;   /* price(Q, N): derived, kept for finance and reconcile */
};

/* The period's merged total of one split, for aggregations that do not simply add up (min, max, latest, avg without
 * rollup). Key: the price's key and series_key. */
struct weir_split_running {
    struct weir_entry entry;
    const struct weir_price_running *price; /* carries the first part of the key */
    struct weir_slice series_key;
    struct weir_window_total total;
    /* The fold of its windows that the state does not hold, for folding it anew: filled by load_rest of those that want
     * it. Only min, max and latest. */
    bool wants_rest;
    enum weir_aggregation aggregation;
    struct weir_window_total rest;
};

/* One billing period of one contract (or of one customer under the default contract). Key: customer, contract, start.
 */
struct weir_period_running {
    struct weir_entry entry;
    struct weir_slice customer;
    struct weir_slice contract;
    int64_t start, end;
    struct weir_decimal usage_amount; /* sum of usage line items */
    struct weir_decimal true_up;      /* charged so far for minimum_spend */
    uint32_t true_up_revision;
    bool is_advance_charged;   /* fees in advance are in the ledger */
    bool is_closed;            /* fees in arrears, flat fees at zero and the true-up are in the ledger */
    bool has_discount_entries; /* what a discount on its invoice needs is in the state */

    enum weir_held_change refused_change; /* of its row in refused_periods */
    struct weir_slice refused;            /* why it cannot be closed; written with WEIR_HELD_HOLD */
};

/* What one item of a period was charged so far that no running total keeps: fees that can change after they were
 * charged. The ledger's line items are its only store: load adds them up, write has nothing to keep. Key: customer,
 * contract, period_start, item. */
struct weir_charged_item {
    struct weir_entry entry;
    struct weir_slice customer;
    struct weir_slice contract;
    int64_t period_start, period_end;
    struct weir_slice item;
    struct weir_decimal quantity, amount; /* reversals taken off */
    uint32_t revision;                    /* the highest one */
};

/* The part of a price's running total that is of one segment of its period (docs/credits.md 2): only of contracts with
 * prepaid amounts. Key: the price's key and start. */
struct weir_segment_running {
    struct weir_entry entry;
    const struct weir_price_running *price; /* carries the first part of the key */
    int64_t start;
    struct weir_decimal quantity;
    uint64_t events;
};

/* What a minimum quantity has charged in one billing period for what is missing; or what discounts on the invoice have
 * taken off an item, below zero, with the item's key in place of the commitment's (they are never the same). Key:
 * customer, contract, period_start, commitment. */
struct weir_commitment_running {
    struct weir_entry entry;
    struct weir_slice customer;
    struct weir_slice contract;
    int64_t period_start, period_end;
    struct weir_slice commitment;
    struct weir_decimal quantity; /* the shortfall */
    struct weir_decimal amount;
    uint32_t revision;
};

/* What was drawn from a grant for the usage of a meter in one segment; grant empty: the overage. Key: all but amount
 * and revision. */
struct weir_draw_running {
    struct weir_entry entry;
    struct weir_slice customer;
    struct weir_slice contract;
    int64_t period_start, period_end;
    int64_t segment_start;
    struct weir_slice meter;
    struct weir_slice grant;
    struct weir_decimal amount; /* that is in the ledger */
    uint32_t revision;
    struct weir_decimal target; /* that should be: the rater's, while it draws */
    struct weir_decimal change; /* what this batch added to amount */
};

/* How a grant ended. The words stand in PostgreSQL. */
#define WEIR_GRANT_ENDS(X) X(EXPIRY, expiry) X(VOID, void) X(REFUND, refund)
enum weir_grant_end {
#define WEIR_X(upper, lower) WEIR_GRANT_END_##upper,
    WEIR_GRANT_ENDS(WEIR_X)
#undef WEIR_X
        WEIR_GRANT_END_COUNT
};
extern const char *const weir_grant_end_name[WEIR_GRANT_END_COUNT];

/* A prepaid amount of one customer, and the entries of its balance. Key: customer, contract, key. */
struct weir_grant_running {
    struct weir_entry entry;
    struct weir_slice customer;
    struct weir_slice contract;
    struct weir_slice key;
    struct weir_decimal amount;  /* granted so far */
    struct weir_decimal balance; /* after entry number `number` */
    uint32_t number;             /* 0: there is none yet */
    struct weir_slice currency;
    struct weir_slice rolled_from; /* key of the grant that it is the rollover of; empty: of none */
    struct weir_decimal taken;     /* lost so far, when it ended */
    struct weir_decimal rolled;    /* that went on so far */
    struct weir_decimal charged;   /* by line items of its refund so far */
    uint32_t refunds;              /* line items of its refund */
    bool has_ended;                /* something of that stands: it is not all taken back */
    /* What this batch added to each; end is the kind of taken's entry. */
    struct weir_decimal change, taken_change, rolled_change, charged_change;
    enum weir_grant_end end;
    struct weir_decimal left; /* the rater's, while it draws */
    int64_t starts_at, expires_at;
    int64_t noted_starts_at, noted_expires_at; /* as the ledger has them; where it has the grant */
    const struct weir_commitment *commitment;  /* what it is, when the batch has touched it */
};

/* Its access window is another one than the ledger has. */
static inline bool weir_grant_has_moved(const struct weir_grant_running *grant)
{
    return grant->number > 0
           && (grant->starts_at != grant->noted_starts_at || grant->expires_at != grant->noted_expires_at);
}

/* A word about one grant beside the catalog: an amount that was granted at run time, or the end of one before its time,
 * or both. Of the customer of the account. */
struct weir_grant_order {
    struct weir_slice contract;
    struct weir_commitment commitment; /* not is_grant: its key alone */
    struct weir_slice currency;
    bool is_grant;
    bool is_ended;
    enum weir_grant_end end;
    int64_t ends_at; /* usage of windows before this is drawn from it */
};

/* A customer with prepaid amounts (by the catalog or granted so far), minimum quantities or discounts on the invoice:
 * all of its segments, commitments, draws and grants are loaded with it. Key: customer. */
struct weir_account {
    struct weir_entry entry;
    struct weir_slice customer;
    size_t order_count, order_room;
    struct weir_grant_order *orders; /* the state's memory */
    bool is_drawn;                   /* in this pass */
    bool is_outdated;                /* drawn by another catalog: it waits for a rerating (outdated.c) */
    bool is_overdrawn;               /* with is_outdated: what would be drawn does not fit, and it waits for that */
};

struct weir_state;

struct weir_state *weir_state_new(void);
struct weir_state *weir_state_free(struct weir_state *state); /* NULL in, NULL out */
/* Forgets all entries; memory is kept for the next batch. */
void weir_state_clear(struct weir_state *state);
/* Forgets the windows and their lanes' shares; running totals and periods stay. */
void weir_state_forget_windows(struct weir_state *state);

/* Find or make; never NULL. Slices are copied. */
struct weir_rated_window *weir_state_window(struct weir_state *state, struct weir_slice series_key, int64_t start,
                                            int64_t end);
/* The same; hash: weir_hash64 of series_key with seed 0. */
struct weir_rated_window *weir_state_window_of(struct weir_state *state, uint64_t hash, struct weir_slice series_key,
                                               int64_t start, int64_t end);
struct weir_price_running *weir_state_price(struct weir_state *state, struct weir_slice customer,
                                            struct weir_slice contract, int64_t period_start, int64_t period_end,
                                            struct weir_slice price_book, uint32_t price_book_version,
                                            struct weir_slice price_key);
struct weir_split_running *weir_state_split(struct weir_state *state, const struct weir_price_running *price,
                                            struct weir_slice series_key);
struct weir_period_running *weir_state_period(struct weir_state *state, struct weir_slice customer,
                                              struct weir_slice contract, int64_t start, int64_t end);
struct weir_charged_item *weir_state_charged(struct weir_state *state, struct weir_slice customer,
                                             struct weir_slice contract, int64_t period_start, int64_t period_end,
                                             struct weir_slice item);
struct weir_segment_running *weir_state_segment(struct weir_state *state, const struct weir_price_running *price,
                                                int64_t start);
struct weir_commitment_running *weir_state_commitment(struct weir_state *state, struct weir_slice customer,
                                                      struct weir_slice contract, int64_t period_start,
                                                      int64_t period_end, struct weir_slice commitment);
struct weir_grant_running *weir_state_grant(struct weir_state *state, struct weir_slice customer,
                                            struct weir_slice contract, struct weir_slice key);
struct weir_account *weir_state_account(struct weir_state *state, struct weir_slice customer);
/* NULL: it has no such entry. */
struct weir_account *weir_state_known_account(const struct weir_state *state, struct weir_slice customer);
/* One more order of the account, zeroed; the pointer lives until the next one is made. */
struct weir_grant_order *weir_state_order(struct weir_state *state, struct weir_account *account);
/* Of the probe only the key and period_end count. */
struct weir_draw_running *weir_state_draw(struct weir_state *state, const struct weir_draw_running *probe);
/* The lane's share, made with zeros if it is not there. The pointer lives until the next lane is added to this window.
 */
struct weir_rated_lane *weir_rated_window_lane(struct weir_state *state, struct weir_rated_window *window,
                                               struct weir_slice lane);
/* The same, by the state's entry of the lane, whose name it shares. */
struct weir_rated_lane *weir_rated_window_share(struct weir_state *state, struct weir_rated_window *window,
                                                const struct weir_held_lane *lane);
struct weir_held_lane *weir_state_lane(struct weir_state *state, struct weir_slice lane);
/* Zeroed memory and a copy that live as long as the state's entries. */
void *weir_state_take(struct weir_state *state, size_t size);
struct weir_slice weir_state_copy(struct weir_state *state, struct weir_slice text);

/* All entries in the order they were made, for load and write. */
struct weir_state_view {
    size_t window_count, price_count, split_count, period_count, lane_count, charged_count;
    size_t segment_count, commitment_count, draw_count, grant_count, account_count;
    struct weir_rated_window **windows;
    struct weir_price_running **prices;
    struct weir_split_running **splits;
    struct weir_period_running **periods;
    struct weir_held_lane **lanes;
    struct weir_charged_item **charged;
    struct weir_segment_running **segments;
    struct weir_commitment_running **commitments;
    struct weir_draw_running **draws;
    struct weir_grant_running **grants;
    struct weir_account **accounts;
};
struct weir_state_view weir_state_all(struct weir_state *state); /* valid until an entry is made */

#endif
