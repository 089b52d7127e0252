#include "rater/project.h"

#include "common/calendar.h"
#include "rater/draw_internal.h"
#include "rater/postgres_rows.h"

static const char *state_of(const struct weir_state *state, const struct weir_grant_running *grant, int64_t now)
{
    const struct weir_account *account = weir_state_known_account(state, grant->customer);

    for (size_t i = 0; account && i < account->order_count; i++) {
        const struct weir_grant_order *order = &account->orders[i];
        if (order->is_ended && order->ends_at <= now && weir_slice_equal(order->commitment.key, grant->key)
            && weir_slice_equal(order->contract, grant->contract))
            return weir_grant_end_name[order->end];
    }
    return grant->expires_at <= now ? "expired" : grant->starts_at > now ? "future" : "active";
}

/* What goes out at an end is known by then; what the catalog has no more is as it was. */
static void tell(struct weir_rater *rater, const struct weir_grant_running *grant, int64_t now,
                 void (*visit)(void *context, const struct weir_projected_grant *grant), void *context)
{
    const struct weir_commitment *commitment = grant->commitment;
    struct weir_projected_grant told = {
        .customer = grant->customer,
        .contract = grant->contract,
        .grant = grant->key,
        .currency = grant->currency,
        .funding = commitment ? weir_slice_text(weir_funding_name[commitment->funding]) : (struct weir_slice){0},
        .starts_at = grant->starts_at,
        .expires_at = grant->expires_at,
        .state = state_of(rater->state, grant, now),
        .balance = grant->balance,
        .projected = grant->balance,
    };

    if (commitment)
        told.projected.e12 = grant->left.e12 - grant->taken.e12 - grant->rolled.e12;
    if (grant->number > 0 || !weir_decimal_is_zero(told.projected))
        visit(context, &told);
}

struct projecting {
    struct weir_rater *rater;
    int64_t now;
    void (*visit)(void *context, const struct weir_projected_grant *grant);
    void *context;
};

static enum weir_status take(void *context, struct weir_postgres_ledger *ledger, const struct weir_line_item *items,
                             size_t count, struct weir_state *state, struct weir_error *reterr)
{
    const struct projecting *projecting = context;
    struct weir_state_view all = weir_state_all(state);

    (void)ledger, (void)items, (void)count, (void)reterr;
    for (size_t i = 0; i < all.grant_count; i++)
        tell(projecting->rater, all.grants[i], projecting->now, projecting->visit, projecting->context);
    return WEIR_OK;
}

enum weir_status weir_rater_project(struct weir_rater *rater, const struct weir_slice *customers, size_t customer_count,
                                    const struct weir_lane_window *windows, size_t count, int64_t now,
                                    void (*visit)(void *context, const struct weir_projected_grant *grant),
                                    void *context, struct weir_error *reterr)
{
    struct projecting projecting = {rater, now, visit, context};

    for (size_t i = 0; i < customer_count; i++)
        weir_state_account(rater->state, customers[i]);
    weir_postgres_ledger_rehearse(rater->ledger, take, &projecting);
    return weir_rater_rate(rater, windows, count, reterr);
}
