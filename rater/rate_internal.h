/* Shared by rate.c (batches of windows), aim.c (what prices them), totals.c, charge.c, settle.c (billing periods) and
 * fees.c; nobody else's. */
#ifndef WEIR_RATER_RATE_INTERNAL_H
#define WEIR_RATER_RATE_INTERNAL_H

#include "common/arena.h"
#include "rater/price.h"
#include "rater/rate.h"

/* One price with one contract's override and discounts; scaled NULL: it overflows. */
struct overridden {
    const struct weir_contract *contract;
    const struct weir_price *price;
    const struct weir_discount *list; /* the first of the list that the discounts are of; NULL: none is in force */
    uint32_t discounts;               /* those of it that are in force, a bit each */
    const struct weir_price *scaled;
};

/* Through when a contract's periods are known to be settled, so that a daemon does not ask again every time. */
struct settled {
    int64_t closed;   /* periods with end <= this are closed */
    int64_t advanced; /* periods with end <= this have their fees in advance */
};

enum { WEIR_KNOWN_PERIODS = 64 }; /* a power of two */

/* Everything that rating one window touches. */
struct target {
    /* The window's own. */
    const struct weir_lane_window *from;
    struct weir_rated_window *window;     /* NULL: a charge without a window (flat fee at zero) */
    const struct weir_held_lane *lane;    /* its open gaps; NULL: as window */
    struct weir_segment_running *segment; /* only where there are prepaid amounts; once the account is loaded */
    bool is_refused;

    /* From here on that of all windows of a series under the same terms: copied as one piece (aim_as). */
    enum weir_unpriced unpriced;
    const struct weir_meter *meter;
    const struct weir_contract *contract; /* NULL: no_meter, no_contract */
    int64_t period_start, period_end;
    struct weir_period_running *period;
    const struct weir_price_book_version *version;
    const struct weir_price *price;     /* identity */
    const struct weir_price *effective; /* after the override; NULL: it does not fit */
    struct weir_price_running *running;
    struct weir_split_running *split; /* only where a period folds */
};

/* What the last charge found, good for the next one of the same price or series. Its pointers are into the state:
 * forgotten whenever that forgets. */
struct charging {
    const struct weir_price_running *running; /* `charges` is what its total costs under `effective`; NULL: nothing */
    const struct weir_price *effective;
    struct weir_running_charges charges;
    const char *series_key; /* of `series`; NULL: none */
    struct weir_series series;
};

/* The billing period that a contract's last window was in. */
struct known_period {
    const struct weir_contract *contract; /* NULL: none yet */
    int64_t start, end;
};

enum { WEIR_KNOWN_SERIES = 1 << 14, WEIR_KNOWN_KEY_MAX = 72 };

/* What the last window of a series found, where it stands by the hash of its key. */
struct known_series {
    uint64_t hash;
    uint32_t generation; /* of the memo; another one: forgotten */
    uint32_t key_length;
    char key[WEIR_KNOWN_KEY_MAX];
    struct target target; /* what is its window's own means nothing */
};

/* Where the state is not forgotten after each batch: windows of several series that alternate, or in any order. Off
 * where windows come by series anyway and hardly any is found. */
struct series_memo {
    struct known_series *known; /* NULL: not used yet */
    uint64_t *hashes;           /* of the batch's windows' keys; as much room as for targets */
    uint64_t found, missed;     /* of this generation */
    uint32_t generation;        /* from 1 */
    bool is_off;
};

struct weir_rater {
    const struct weir_catalog *catalog;
    struct weir_ledger *ledger;
    struct weir_state *state;
    struct weir_rater_counts counts;
    void (*tell_refused)(void *context, const struct weir_lane_window *window, struct weir_slice why);
    void *tell_context;

    struct weir_arena *overrides;
    struct overridden *overridden;
    uint32_t overridden_count, overridden_room;

    struct settled *settled;  /* by contract index */
    int64_t settled_from;     /* the span's start when that was found */
    uint32_t settled_through; /* contracts below it, weir_rater_settle_through has been at */

    struct charging charging;
    struct known_period periods[WEIR_KNOWN_PERIODS]; /* by contract */

    struct series_memo memo;

    struct weir_slice *overdrawn; /* customers of the batch that is done again without them (outdated.c) */
    size_t overdrawn_count;
    struct weir_arena *batch; /* what has to outlive the state in such a batch */

    int64_t ended;          /* usage of before is known: what expired by then has expired; INT64_MIN: not known */
    int64_t expired_all_at; /* weir_monotonic_now(): when all grants were last looked at for that */

    struct target *targets;
    size_t target_room;
    struct weir_line_item *items;
    size_t item_count, item_room;
};

/* 1. aim.c */

/* Fills rater->targets, and makes the entries that rating the windows will touch, so that one load fetches them all. */
enum weir_status weir_rater_aim(struct weir_rater *rater, const struct weir_lane_window *windows, size_t count,
                                struct weir_error *reterr);
/* What is known of series led to entries that are gone. */
void weir_rater_forget_series(struct weir_rater *rater);
/* Once the customers' accounts are loaded: the segments of the batch's targets. */
void weir_rater_aim_at_segments(struct weir_rater *rater, size_t count);
/* min, max, latest and avg of a period are not sums of their windows, unless rolled up. */
bool weir_period_folds(const struct weir_meter *meter);
/* The price as this contract pays it in the billing period that begins then; NULL: the override overflows. */
const struct weir_price *weir_rater_effective_price(struct weir_rater *rater, const struct weir_contract *contract,
                                                    const struct weir_price *price, int64_t period_start);

/* 2. totals.c */

/* All lanes' shares of the window merged, with `lane` counting as `total`. false: overflow. */
bool weir_merge_lanes(enum weir_aggregation aggregation, const struct weir_rated_window *window,
                      const struct weir_rated_lane *lane, const struct weir_window_total *total,
                      struct weir_window_total *ret_merged);
/* Whether a period that `before` was folded into has to be folded anew: events were taken out again, or some that a
 * rebuilt window (docs/gaps.md) does not have. Never without a rated event: such a total can only have added to it. */
bool weir_moves_back(enum weir_aggregation aggregation, const struct weir_window_total *before,
                     const struct weir_window_total *after);
/* By how much the price's quantity changes. Where a period folds, the split's total is brought forward as well. false:
 * overflow. */
bool weir_rater_quantity_change(struct weir_rater *rater, struct target *target, const struct weir_window_total *before,
                                const struct weir_window_total *after, struct weir_decimal *ret_change);

/* 3. charge.c */
void weir_rater_add_item(struct weir_rater *rater, const struct weir_line_item *item);
/* Adds to the period's usage. false: overflow. */
bool weir_add_usage(struct weir_period_running *period, struct weir_decimal amount);
/* Brings the running total of target's price to (quantity, events) and makes the line items of the difference. false:
 * overflow. */
bool weir_rater_charge(struct weir_rater *rater, struct target *target, struct weir_decimal quantity, uint64_t events,
                       uint32_t revision);

/* 4. settle.c, fees.c and rate.c */

/* A line item of a fee or a true-up: no window, no dimensions; `version` is the one in force at the period's start. */
struct weir_line_item weir_rater_period_item(const struct weir_contract *contract,
                                             const struct weir_period_running *period,
                                             const struct weir_price_book_version *version);
/* The fees that are charged then. false: overflow. */
bool weir_rater_charge_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period, enum weir_fee_charged charged);
/* Fees that were charged in advance, brought to what they come to now that the period is over; before, entries have to
 * be made for what they were charged, and loaded. false: overflow. */
void weir_rater_aim_at_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period);
bool weir_rater_adjust_fees(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period);

/* Brings the true-ups of a closed period, and of the term that it is of, to what usage leaves short. false: overflow.
 */
bool weir_rater_true_up(struct weir_rater *rater, const struct weir_contract *contract,
                        struct weir_period_running *period);
/* Those that the period alone bears: for missing quantities, and a minimum spend of its own; whether they fit. */
bool weir_rater_true_up_period(struct weir_rater *rater, const struct weir_contract *contract,
                               struct weir_period_running *period);
bool weir_rater_can_true_up_period(struct weir_rater *rater, const struct weir_contract *contract,
                                   const struct weir_period_running *period, bool is_over);
/* Brings what is charged for a minimum spend to a shortfall, in the period that bears it. false: overflow. */
bool weir_rater_charge_true_up(struct weir_rater *rater, const struct weir_contract *contract,
                               struct weir_period_running *period, struct weir_slice commitment,
                               struct weir_decimal shortfall);
/* false: what one of the period's true-ups would be does not fit, or what is drawn for its usage. */
bool weir_rater_can_true_up(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period);

/* 5. minimums.c: minimum quantities, and what is bought */

/* Calls visit for each price of the meter (NULL: of all) that usage of the period can have found. */
bool weir_rater_each_price(const struct weir_contract *contract, const struct weir_period_running *period,
                           const struct weir_meter *meter,
                           bool (*visit)(void *context, const struct weir_price_book_version *version,
                                         const struct weir_price *price),
                           void *context);
/* Brings what is charged for a commitment to (quantity, amount), with a line item of the difference: *item, but for its
 * item, amounts and revision. false: it does not fit. */
bool weir_rater_charge_commitment(struct weir_rater *rater, struct weir_commitment_running *running,
                                  struct weir_decimal quantity, struct weir_decimal amount,
                                  struct weir_line_item *item);

/* Makes the entries that weir_rater_minimums and weir_rater_draw will touch. */
void weir_rater_aim_at_minimums(struct weir_rater *rater, const struct weir_contract *contract,
                                const struct weir_period_running *period);
/* The meter's prices in the period: makes their entries; adds up what was used by them. false: overflow. */
void weir_rater_aim_at_quantity(struct weir_rater *rater, const struct weir_contract *contract,
                                const struct weir_period_running *period, const struct weir_meter *meter);
bool weir_rater_add_quantity(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period, const struct weir_meter *meter,
                             struct weir_decimal *quantity);
/* What the period's shortfalls of quantities should cost in all; is_over: those of a term that ends with it as well.
 * false: overflow. */
bool weir_rater_shortfalls(struct weir_rater *rater, const struct weir_contract *contract,
                           const struct weir_period_running *period, bool is_over, struct weir_decimal *ret_amount);
/* Brings what is charged for them to that. false: overflow. */
bool weir_rater_minimums(struct weir_rater *rater, const struct weir_contract *contract,
                         const struct weir_period_running *period);
/* Charges what is bought in the period: the prices of prepaid amounts that start in it. */
void weir_rater_charge_purchases(struct weir_rater *rater, const struct weir_contract *contract,
                                 const struct weir_period_running *period);

/* 6. invoice_discounts.c: discounts on the whole invoice */

/* Makes the entries that weir_rater_invoice_discounts will touch. */
void weir_rater_aim_at_invoice_discounts(struct weir_rater *rater, const struct weir_contract *contract,
                                         struct weir_period_running *period);
/* Brings what they take off each item of a period to what they come to by now. false: it does not fit, and nothing was
 * changed. */
bool weir_rater_invoice_discounts(struct weir_rater *rater, const struct weir_contract *contract,
                                  struct weir_period_running *period);
bool weir_rater_can_discount(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period);

/* 7. terms.c: minimums per term, of contracts that has_term_minimum */

/* Makes the entries that the others will touch: all periods of the term that the period is of, and what was used in
 * those that a minimum quantity is held against. */
void weir_rater_aim_at_term(struct weir_rater *rater, const struct weir_contract *contract,
                            const struct weir_period_running *period);
bool weir_rater_can_true_up_term(struct weir_rater *rater, const struct weir_contract *contract,
                                 const struct weir_period_running *period);
/* Brings what the term's last period is charged to what is missing, once that is closed; `period`, of the term, is
 * closed or about to be, and its own true-ups are brought forward. false: overflow. */
bool weir_rater_true_up_term(struct weir_rater *rater, const struct weir_contract *contract,
                             const struct weir_period_running *period);
/* What was used for a minimum quantity in the term that ends with the period. *ret_is_due: one does, and its first
 * period is known. false: overflow. */
bool weir_rater_term_quantity(struct weir_rater *rater, const struct weir_contract *contract,
                              const struct weir_period_running *period, const struct weir_commitment *commitment,
                              bool *ret_is_due, struct weir_decimal *ret_quantity);

/* 8. draw.c: prepaid amounts, drawn down */

/* orders.c: charges what the state's accounts have bought at run time, where that was not charged as it was ordered. */
void weir_rater_charge_orders(struct weir_rater *rater);
/* The segment of the contract's billing period that holds time. account: the customer's, with what was ordered for it;
 * NULL: nothing was. */
void weir_segment_at(const struct weir_contract *contract, const struct weir_account *account, int64_t period_start,
                     int64_t period_end, int64_t time, int64_t *ret_start, int64_t *ret_end);
/* Whether the period's usage is kept by segment. */
bool weir_has_segments(const struct weir_contract *contract, const struct weir_account *account, int64_t period_start,
                       int64_t period_end);
/* outdated.c: marks the accounts that were just loaded and were drawn by another catalog; nothing of them may be rated,
 * settled or ordered until they are rerated. */
void weir_rater_find_outdated(struct weir_rater *rater);
bool weir_rater_is_outdated(const struct weir_rater *rater, struct weir_slice customer);
/* WEIR_FATAL, with what is to be done. */
enum weir_status weir_rater_say_outdated(struct weir_slice customer, struct weir_error *reterr);
/* That, or why else the customer's account is marked; never WEIR_OK. */
enum weir_status weir_rater_say_waiting(const struct weir_rater *rater, struct weir_slice customer,
                                        struct weir_error *reterr);
/* What is drawn for the customer does not fit: WEIR_REJECT. Where rater->overdrawn_count has grown by it, the batch can
 * be done again: the next weir_rater_find_outdated keeps the customer out. Until they are forgotten, before a batch. */
enum weir_status weir_rater_say_overdrawn(struct weir_rater *rater, struct weir_slice customer,
                                          struct weir_error *reterr);
void weir_rater_forget_overdrawn(struct weir_rater *rater);
/* false: usage of the period is too much for an overage_multiplier of its contract: what comes on top may not fit. As
 * with true-ups, is_over: with what a period's or term's end brings. */
bool weir_rater_can_draw(struct weir_rater *rater, const struct weir_contract *contract,
                         const struct weir_period_running *period, bool is_over);
/* Brings the drawdown of every customer whose segments the state holds, all of them, to what they come to: line items,
 * and the state's draws and grants. Those that are outdated stay as they are. */
enum weir_status weir_rater_draw(struct weir_rater *rater, struct weir_error *reterr);

enum weir_status weir_rater_overflow(const struct weir_rated_window *window, struct weir_error *reterr);
enum weir_status weir_rater_write(struct weir_rater *rater, struct weir_error *reterr);
/* Ends a batch: line items go, and the state where the ledger keeps it. */
void weir_rater_forget(struct weir_rater *rater);

#endif
