/* What accounts with prepaid amounts and minimum quantities have in PostgreSQL: loaded whole with them. */
#include <string.h>

#include "rater/postgres_rows.h"

/* 1. one row of each kind */

struct answer {
    struct weir_postgres_ledger *ledger;
    struct weir_state *state;
    const PGresult *rows;
};

typedef bool take_answer(const struct answer *answer, int row);

static struct weir_slice text_at(const struct answer *answer, int row, int column)
{
    return weir_postgres_field(answer->rows, row, column);
}

static int64_t time_at(const struct answer *answer, int row, int column)
{
    return weir_get_time(PQgetvalue(answer->rows, row, column));
}

static uint32_t int4_at(const struct answer *answer, int row, int column)
{
    return (uint32_t)weir_get_int4(PQgetvalue(answer->rows, row, column));
}

static bool decimal_at(const struct answer *answer, int row, int column, struct weir_decimal *ret_value)
{
    return weir_get_decimal(PQgetvalue(answer->rows, row, column), (size_t)PQgetlength(answer->rows, row, column),
                            ret_value);
}

static const struct weir_entry stored = {.is_loaded = true, .exists = true};

/* The price's own row is loaded like that of every other price, after this. */
static bool take_segment(const struct answer *answer, int row)
{
    const struct weir_price_running *price = weir_state_price(
        answer->state, text_at(answer, row, 0), text_at(answer, row, 1), time_at(answer, row, 2),
        time_at(answer, row, 3), text_at(answer, row, 4), int4_at(answer, row, 5), text_at(answer, row, 6));
    struct weir_segment_running *segment = weir_state_segment(answer->state, price, time_at(answer, row, 7));

    segment->entry = stored;
    segment->events = (uint64_t)weir_get_int8(PQgetvalue(answer->rows, row, 9));
    return decimal_at(answer, row, 8, &segment->quantity);
}

static bool take_commitment(const struct answer *answer, int row)
{
    struct weir_commitment_running *commitment =
        weir_state_commitment(answer->state, text_at(answer, row, 0), text_at(answer, row, 1), time_at(answer, row, 2),
                              time_at(answer, row, 3), text_at(answer, row, 4));

    commitment->entry = stored;
    commitment->revision = int4_at(answer, row, 7);
    return decimal_at(answer, row, 5, &commitment->quantity) && decimal_at(answer, row, 6, &commitment->amount);
}

static bool take_draw(const struct answer *answer, int row)
{
    const struct weir_draw_running probe = {.customer = text_at(answer, row, 0),
                                            .contract = text_at(answer, row, 1),
                                            .period_start = time_at(answer, row, 2),
                                            .period_end = time_at(answer, row, 3),
                                            .segment_start = time_at(answer, row, 4),
                                            .meter = text_at(answer, row, 5),
                                            .grant = text_at(answer, row, 6)};
    struct weir_draw_running *draw = weir_state_draw(answer->state, &probe);

    draw->entry = stored;
    draw->revision = int4_at(answer, row, 8);
    return decimal_at(answer, row, 7, &draw->amount);
}

static bool take_grant(const struct answer *answer, int row)
{
    struct weir_grant_running *grant =
        weir_state_grant(answer->state, text_at(answer, row, 0), text_at(answer, row, 1), text_at(answer, row, 2));

    grant->entry = stored;
    grant->number = int4_at(answer, row, 4);
    grant->refunds = int4_at(answer, row, 9);
    grant->starts_at = grant->noted_starts_at = time_at(answer, row, 10);
    grant->expires_at = grant->noted_expires_at = time_at(answer, row, 11);
    grant->rolled_from = weir_state_copy(answer->state, text_at(answer, row, 12));
    grant->currency = weir_state_copy(answer->state, text_at(answer, row, 13));
    if (!decimal_at(answer, row, 3, &grant->amount) || !decimal_at(answer, row, 5, &grant->balance)
        || !decimal_at(answer, row, 6, &grant->taken) || !decimal_at(answer, row, 7, &grant->rolled)
        || !decimal_at(answer, row, 8, &grant->charged))
        return false;
    grant->has_ended = !weir_decimal_is_zero(grant->taken) || !weir_decimal_is_zero(grant->rolled);
    return true;
}

static unsigned word_at(const struct answer *answer, int row, int column, const char *const words[], unsigned count)
{
    unsigned word = 0;

    while (word < count && !weir_slice_equal(text_at(answer, row, column), weir_slice_text(words[word])))
        word++;
    return word;
}

/* "a,b,c": no key has a comma. */
static void take_meters(struct weir_state *state, struct weir_slice list, struct weir_commitment *commitment)
{
    uint32_t count = list.length > 0;

    for (uint32_t i = 0; i < list.length; i++)
        count += list.data[i] == ',';
    commitment->meters = weir_state_take(state, count * sizeof *commitment->meters + 1);
    for (uint32_t i = 0, start = 0; i <= list.length && list.length > 0; i++)
        if (i == list.length || list.data[i] == ',') {
            commitment->meters[commitment->meter_count++] =
                weir_state_copy(state, weir_slice_of(list.data + start, i - start));
            start = i + 1;
        }
}

/* "50,20%", as put_thresholds wrote it. false: not by weir. */
static bool take_thresholds(struct weir_state *state, struct weir_slice list, struct weir_thresholds *thresholds)
{
    struct weir_threshold threshold;

    thresholds->list = weir_state_take(state, (list.length + 1) * sizeof *thresholds->list);
    for (uint32_t i = 0, start = 0; i <= list.length && list.length > 0; i++)
        if (i == list.length || list.data[i] == ',') {
            if (weir_threshold_parse(weir_slice_of(list.data + start, i - start), &threshold) != WEIR_DECIMAL_OK
                || !weir_thresholds_add(thresholds, &threshold))
                return false;
            start = i + 1;
        }
    return true;
}

static bool take_ordered_grant(const struct answer *answer, int row, struct weir_grant_order *order)
{
    struct weir_commitment *commitment = &order->commitment;
    unsigned funding = word_at(answer, row, 5, weir_funding_name, WEIR_FUNDING_COUNT);

    order->is_grant = true;
    order->currency = weir_state_copy(answer->state, text_at(answer, row, 3));
    commitment->funding = (enum weir_funding)funding;
    commitment->priority = weir_get_int8(PQgetvalue(answer->rows, row, 7));
    commitment->starts_at = time_at(answer, row, 8);
    commitment->expires_at = time_at(answer, row, 9);
    commitment->rollover_expires_at = PQgetisnull(answer->rows, row, 13) ? WEIR_TIME_NEVER : time_at(answer, row, 13);
    take_meters(answer->state, text_at(answer, row, 10), commitment);
    commitment->package = weir_state_copy(answer->state, text_at(answer, row, 17));
    commitment->package_count = weir_get_int8(PQgetvalue(answer->rows, row, 18));
    return funding < WEIR_FUNDING_COUNT && decimal_at(answer, row, 4, &commitment->amount)
           && decimal_at(answer, row, 6, &commitment->price)
           && decimal_at(answer, row, 11, &commitment->overage_multiplier)
           && decimal_at(answer, row, 12, &commitment->rollover_fraction)
           && take_thresholds(answer->state, text_at(answer, row, 16), &commitment->low_balance);
}

static bool take_order(const struct answer *answer, int row)
{
    struct weir_grant_order *order =
        weir_state_order(answer->state, weir_state_account(answer->state, text_at(answer, row, 0)));

    order->contract = weir_state_copy(answer->state, text_at(answer, row, 1));
    order->commitment.type = WEIR_COMMITMENT_PREPAID;
    order->commitment.key = weir_state_copy(answer->state, text_at(answer, row, 2));
    order->is_ended = !PQgetisnull(answer->rows, row, 14);
    if (order->is_ended) {
        unsigned end = word_at(answer, row, 14, weir_grant_end_name, WEIR_GRANT_END_COUNT);
        order->end = (enum weir_grant_end)end;
        order->ends_at = time_at(answer, row, 15);
        if (end >= WEIR_GRANT_END_COUNT)
            return false;
    }
    return PQgetisnull(answer->rows, row, 4) || take_ordered_grant(answer, row, order);
}

/* 2. all of an account */

static const struct {
    const char *sql, *doing;
    take_answer *take;
} questions[] = {
    {"SELECT customer, contract, period_start, period_end, price_book, price_book_version, price_key, segment_start,"
     " quantity, events FROM weir.segment_totals WHERE customer = ANY ($1::text[])",
     "loading segments' totals", take_segment},
    {"SELECT customer, contract, period_start, period_end, commitment, quantity, amount, revision"
     " FROM weir.commitment_totals WHERE customer = ANY ($1::text[])",
     "loading commitments' totals", take_commitment},
    {"SELECT customer, contract, period_start, period_end, segment_start, meter, grant_key, amount, revision"
     " FROM weir.draw_totals WHERE customer = ANY ($1::text[])",
     "loading draws", take_draw},
    {"SELECT g.customer, g.contract, g.grant_key, s.amount, l.number, l.balance_after, s.taken, s.rolled, s.charged,"
     " s.refunds, g.starts_at, g.expires_at, coalesce(g.rolled_from, ''), g.currency"
     " FROM weir.grants_now AS g, LATERAL (SELECT e.number, e.balance_after FROM weir.grant_entries AS e"
     "  WHERE e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key"
     "  ORDER BY e.number DESC LIMIT 1) AS l,"
     " LATERAL (SELECT coalesce(sum(e.amount) FILTER (WHERE kind = 'grant' OR kind = 'rollover' AND g.rolled_from IS"
     "   NOT NULL), 0) AS amount,"
     "  -coalesce(sum(e.amount) FILTER (WHERE kind IN ('expiry', 'void', 'refund')), 0) AS taken,"
     "  -coalesce(sum(e.amount) FILTER (WHERE kind = 'rollover' AND g.rolled_from IS NULL), 0) AS rolled,"
     "  coalesce(sum(e.charged), 0) AS charged, count(*) FILTER (WHERE e.charged <> 0)::int AS refunds"
     "  FROM weir.grant_entries AS e"
     "  WHERE e.customer = g.customer AND e.contract = g.contract AND e.grant_key = g.grant_key) AS s"
     " WHERE g.customer = ANY ($1::text[])",
     "loading grants", take_grant},
    {"SELECT customer, contract, grant_key, o.currency, o.amount, o.funding, o.price, o.priority, o.starts_at,"
     " o.expires_at, array_to_string(o.meters, ','), o.overage_multiplier, o.rollover_fraction, o.rollover_expires_at,"
     " e.kind, e.ends_at, coalesce(array_to_string(o.low_balance, ','), ''), coalesce(o.package, ''),"
     " coalesce(o.packages, 0) FROM (SELECT * FROM weir.grant_orders WHERE customer = ANY ($1::text[])) AS o"
     " FULL JOIN (SELECT * FROM weir.grant_ends WHERE customer = ANY ($1::text[])) AS e"
     " USING (customer, contract, grant_key) ORDER BY customer, contract, grant_key",
     "loading orders", take_order},
};

enum { QUESTIONS = sizeof questions / sizeof *questions };

enum weir_status weir_postgres_load_accounts(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                             struct weir_error *reterr)
{
    struct weir_state_view all = weir_state_all(state);
    struct weir_parameters parameters = {0};
    enum weir_status status = WEIR_OK;
    size_t count = 0;

    weir_array_begin(&ledger->columns[0], WEIR_PG_TEXT);
    for (size_t i = 0; i < all.account_count; i++) {
        if (all.accounts[i]->entry.is_loaded)
            continue;
        weir_put_text(&ledger->columns[0], all.accounts[i]->customer);
        count++;
    }
    weir_array_end(&ledger->columns[0], count);
    weir_parameters_add(&parameters, ledger->columns[0].data, ledger->columns[0].length);
    for (int q = 0; count > 0 && q < QUESTIONS && status == WEIR_OK; q++) {
        PGresult *rows = NULL;
        status =
            weir_postgres_ask(ledger->connection, questions[q].sql, &parameters, questions[q].doing, &rows, reterr);
        const struct answer answer = {ledger, state, rows};
        for (int i = 0; status == WEIR_OK && i < PQntuples(rows); i++)
            if (!questions[q].take(&answer, i))
                status = weir_fail(reterr, WEIR_FATAL, "PostgreSQL, %s: an amount that weir never wrote",
                                   questions[q].doing);
        PQclear(rows);
    }
    return status;
}

void weir_postgres_mark_accounts_loaded(struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);

    for (size_t i = 0; i < all.segment_count; i++)
        all.segments[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.commitment_count; i++)
        all.commitments[i]->entry.is_loaded = true;
    for (size_t i = 0; i < all.account_count; i++)
        all.accounts[i]->entry.is_loaded = true;
}
