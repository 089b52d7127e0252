#include <stdlib.h>
#include <string.h>

#include "rater/apply_check_internal.h"
#include "rater/postgres_value.h"

/* 1. what was rated, as a whole */

/* A window without a meter in the catalog of its day (no_meter) holds no meter to that name. */
static enum weir_status list_rated(struct apply_check *check)
{
    enum weir_status status =
        weir_postgres_ask(check->connection,
                          "SELECT meter COLLATE \"C\" FROM weir.price_totals UNION SELECT meter FROM weir.rated_windows"
                          " WHERE unpriced IN ('no_contract', 'no_price') ORDER BY 1",
                          NULL, "listing rated meters", &check->meters, check->reterr);
    if (status == WEIR_OK)
        status = weir_postgres_ask(
            check->connection, "SELECT DISTINCT price_book, price_book_version FROM weir.price_totals ORDER BY 1, 2",
            NULL, "listing rated price book versions", &check->versions, check->reterr);
    if (status == WEIR_OK)
        status = weir_postgres_ask(check->connection,
                                   "SELECT contract, min(customer) FROM weir.billing_periods GROUP BY 1 ORDER BY 1",
                                   NULL, "listing rated contracts", &check->contracts, check->reterr);
    return status;
}

static bool is_rated(const PGresult *result, struct weir_slice key)
{
    int low = 0, high = PQntuples(result);

    while (low < high) {
        int middle = low + (high - low) / 2;
        int order = weir_slice_compare(weir_postgres_field(result, middle, 0), key);
        if (order == 0)
            return true;
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return false;
}

static bool has_version(const struct weir_catalog *catalog, struct weir_slice key, int32_t version)
{
    const struct weir_price_book *book = weir_catalog_book(catalog, key);

    for (uint32_t i = 0; book && i < book->version_count; i++)
        if (book->versions[i].version == (uint32_t)version)
            return true;
    return false;
}

static int by_key(const void *left, const void *right)
{
    return weir_slice_compare(*(const struct weir_slice *)left, *(const struct weir_slice *)right);
}

/* Contracts' keys, sorted; to be freed. */
static struct weir_slice *contract_keys(const struct weir_catalog *catalog)
{
    struct weir_slice *keys = weir_new_array(catalog->contract_count + 1, sizeof *keys);

    for (uint32_t i = 0; i < catalog->contract_count; i++)
        keys[i] = catalog->contracts[i].key;
    qsort(keys, catalog->contract_count, sizeof *keys, by_key);
    return keys;
}

/* Whatever was rated must still be in the catalog, also where it was rated with a catalog that was never applied. */
static void check_missing(struct apply_check *check)
{
    for (int i = 0; i < PQntuples(check->meters); i++)
        if (!weir_catalog_meter(check->after, weir_postgres_field(check->meters, i, 0)))
            weir_apply_say(check->report,
                           "meter '%.*s' has rated usage and is missing: put it back (take its prices out of the next "
                           "version of the price book to stop charging for it)",
                           TEXT(weir_postgres_field(check->meters, i, 0)));
    for (int i = 0; i < PQntuples(check->versions); i++) {
        int32_t version = weir_get_int4(PQgetvalue(check->versions, i, 1));
        if (!has_version(check->after, weir_postgres_field(check->versions, i, 0), version))
            weir_apply_say(check->report,
                           "price book '%.*s' version %d has rated usage and is missing: put it back; later "
                           "usage is priced by a later version, beside it",
                           TEXT(weir_postgres_field(check->versions, i, 0)), version);
    }
    struct weir_slice *keys = contract_keys(check->after);
    for (int i = 0; i < PQntuples(check->contracts); i++) {
        struct weir_slice key = weir_postgres_field(check->contracts, i, 0),
                          customer = weir_postgres_field(check->contracts, i, 1);
        if (key.length == 0 && !check->after->default_contract)
            weir_apply_say(check->report, "default_contract has rated periods and is missing: put it back");
        else if (key.length && !bsearch(&key, keys, check->after->contract_count, sizeof *keys, by_key))
            weir_apply_say(check->report,
                           "contract '%.*s' of customer '%.*s' has rated periods and is missing: put it back, "
                           "and end it with ends_at",
                           TEXT(key), TEXT(customer));
    }
    free(keys);
}

/* 2. questions about windows */

int64_t weir_apply_whole_microseconds(int64_t time)
{
    return time == WEIR_TIME_NEVER ? time : time - time % 1000;
}

enum weir_status weir_apply_ask_time(struct apply_check *check, const char *sql, const struct apply_question *question,
                                     int64_t *ret_time)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer bytes = {0};
    PGresult *result = NULL;

    for (int i = 0; i < question->time_count; i++)
        weir_put_time(&bytes, weir_apply_whole_microseconds(question->times[i]));
    weir_put_int4(&bytes, question->number);
    for (int i = 0; i < question->text_count; i++)
        weir_parameters_add_slice(&parameters, question->texts[i]);
    for (int i = 0; i < question->time_count; i++)
        weir_parameters_add(&parameters, bytes.data + 12 * i + 4, 8);
    if (question->has_number)
        weir_parameters_add(&parameters, bytes.data + 12 * question->time_count + 4, 4);
    enum weir_status status =
        weir_postgres_ask(check->connection, sql, &parameters, "looking at rated windows", &result, check->reterr);
    weir_buffer_free(&bytes);
    if (status != WEIR_OK)
        return status;
    *ret_time = PQgetisnull(result, 0, 0) ? 0 : weir_get_time(PQgetvalue(result, 0, 0));
    PQclear(result);
    return WEIR_OK;
}

/* 3. meters and price books that changed */

static void check_meter(struct apply_check *check, const struct weir_change *change)
{
    char fields[128];

    if (change->is_added || change->is_removed || !is_rated(check->meters, change->after.meter->key))
        return;
    weir_meter_changes(check->before, change->before.meter, check->after, change->after.meter, fields, sizeof fields);
    /* Another value leaves windows as they are, and what they add up to: counting again (rater/recount.h) mends them.
     */
    bool is_recountable = strcmp(fields, "value") == 0;
    if (*fields)
        weir_apply_say(is_recountable ? check->history : check->report,
                       "meter '%.*s' has rated usage, and its %s changed: add a meter with another key, and "
                       "price that in a new version of the price book%s",
                       TEXT(change->after.meter->key), fields,
                       is_recountable ? "; or count it again (weir apply --rerate, then weir recount)" : "");
}

/* What needs no window: fees, purchases, true-ups and discounts on the invoice go by the version at their period's
 * start, missing quantities by the one at its end, flat fees at zero have a total without events. What a rerating took
 * back is no charge any more. The first condition is that of an index (line_items_beside_usage), so that usage is not
 * looked through. */
static const char charged_sql[] =
    "SELECT min(period_start) FROM (SELECT period_start FROM weir.line_items"
    " WHERE (meter IS NULL OR component = 'invoice_discount') AND price_book = $1::text"
    "  AND price_book_version <> $4::int AND component IN ('fee', 'true_up', 'invoice_discount')"
    "  AND period_start >= $2::timestamptz AND period_start < $3::timestamptz"
    " GROUP BY customer, contract, period_start, price_book_version, item, component HAVING sum(amount) <> 0"
    " UNION ALL SELECT period_start FROM weir.line_items"
    " WHERE (meter IS NULL OR component = 'invoice_discount') AND price_book = $1::text"
    "  AND price_book_version <> $4::int AND component = 'shortfall'"
    "  AND period_end > $2::timestamptz AND period_end <= $3::timestamptz"
    "  AND period_start > $2::timestamptz - interval '2 years' AND period_start < $3::timestamptz"
    " GROUP BY customer, contract, period_start, price_book_version, item HAVING sum(amount) <> 0"
    " UNION ALL SELECT period_start FROM weir.price_totals WHERE price_book = $1::text"
    "  AND price_book_version <> $4::int AND events = 0 AND amount <> 0"
    "  AND period_start >= $2::timestamptz AND period_start < $3::timestamptz) AS charged";

/* The first window that was priced by another version of the book and would have been priced by this one. */
static const char priced_sql[] =
    "SELECT min(w.window_start) FROM weir.price_totals AS p JOIN weir.rated_windows AS w ON w.customer = p.customer"
    " AND w.window_start >= p.period_start AND w.window_start < p.period_end"
    " WHERE p.price_book = $1::text AND p.price_book_version <> $4::int AND p.period_end > $2::timestamptz"
    " AND p.period_start < $3::timestamptz AND w.price_book = p.price_book AND w.price_book_version <> $4::int"
    " AND w.window_start >= $2::timestamptz AND w.window_start < $3::timestamptz";

/* Periods that have begun (number 1: ended) with their fees under the book, by the catalog of before. */
static const char begun_sql[] =
    "SELECT min(p.period_start) FROM weir.billing_periods AS p JOIN weir.contract_terms AS t ON t.contract = p.contract"
    " AND coalesce(p.period_start >= t.starts_at, true) AND coalesce(p.period_start < t.ends_at, true)"
    " WHERE t.price_book = $1::text AND p.is_advance_charged AND (p.is_closed OR $4::int = 0)"
    " AND p.period_start >= $2::timestamptz AND p.period_start < $3::timestamptz";

/* A fee that the version before does not have, rather one in advance: where that has none either, no line item tells
 * that periods have begun without it. NULL: there is none. */
static const struct weir_fee *new_fee(const struct weir_price_book_version *version)
{
    const struct weir_price_book_version *before = weir_price_book_at(version->book, version->effective_from - 1);
    const struct weir_fee *found = NULL;

    for (uint32_t i = 0; i < version->fee_count; i++) {
        const struct weir_fee *fee = &version->fees[i];
        bool is_new = true;
        for (uint32_t j = 0; before && j < before->fee_count; j++)
            is_new &= !weir_slice_equal(before->fees[j].key, fee->key);
        if (is_new && (!found || fee->charged == WEIR_FEE_IN_ADVANCE))
            found = fee;
    }
    return found;
}

static enum weir_status check_new_fee(struct apply_check *check, const struct weir_price_book_version *version,
                                      struct apply_question question)
{
    const struct weir_fee *fee = new_fee(version);
    int64_t found = 0;

    if (!fee)
        return WEIR_OK;
    question.number = fee->charged != WEIR_FEE_IN_ADVANCE;
    enum weir_status status = weir_apply_ask_time(check, begun_sql, &question, &found);
    if (status == WEIR_OK && found) {
        char from[WEIR_TIME_TEXT_MAX], at[WEIR_TIME_TEXT_MAX];
        weir_time_format(version->effective_from, from);
        weir_time_format(found, at);
        weir_apply_say(
            check->history,
            "price book '%.*s' version %u takes effect %s, and the period from %s on was charged without its "
            "fee '%.*s': let it take effect after that, or rerate",
            TEXT(version->book->key), version->version, from, at, TEXT(fee->key));
    }
    return status;
}

/* A version that takes effect before what was charged by another. */
static enum weir_status check_new_version(struct apply_check *check, const struct weir_price_book_version *version)
{
    const struct weir_price_book *book = version->book;
    int64_t until = WEIR_TIME_NEVER, window, period = 0;

    for (uint32_t i = 0; i < book->version_count; i++)
        if (book->versions[i].effective_from > version->effective_from && book->versions[i].effective_from < until)
            until = book->versions[i].effective_from;
    struct apply_question question = {
        .texts = {book->key},
        .text_count = 1,
        .times = {version->effective_from, until},
        .time_count = 2,
        .number = (int32_t)version->version,
        .has_number = true,
    };
    enum weir_status status = weir_apply_ask_time(check, priced_sql, &question, &window);
    if (status == WEIR_OK && !window)
        status = weir_apply_ask_time(check, charged_sql, &question, &period);
    if (status == WEIR_OK && !window && !period)
        return check_new_fee(check, version, question);
    if (status == WEIR_OK) {
        char from[WEIR_TIME_TEXT_MAX], at[WEIR_TIME_TEXT_MAX];
        weir_time_format(version->effective_from, from);
        weir_time_format(window ? window : period, at);
        weir_apply_say(check->history,
                       window
                           ? "price book '%.*s' version %u takes effect %s, and the window of %s is rated already: "
                             "let it take effect after all rated windows, or rerate"
                           : "price book '%.*s' version %u takes effect %s, and the period from %s on was charged by "
                             "another version (fees, true-ups): let it take effect after that, or rerate",
                       TEXT(book->key), version->version, from, at);
    }
    return status;
}

static enum weir_status check_version(struct apply_check *check, const struct weir_change *change)
{
    if (change->is_removed)
        return WEIR_OK; /* check_missing */
    if (change->is_added)
        return check_new_version(check, change->after.version);
    if (check->history != check->report
        && !weir_slice_equal(change->before.version->book->currency, change->after.version->book->currency))
        weir_apply_say(check->report,
                       "price book '%.*s' has another currency: what was rated in one cannot be in another. "
                       "Add a book with another key",
                       TEXT(change->after.version->book->key));
    weir_apply_say(check->history,
                   "price book '%.*s' version %u was applied with other content, and a version never changes: give "
                   "the new prices a version of their own, with their effective_from",
                   TEXT(change->after.version->book->key), change->after.version->version);
    return WEIR_OK;
}

/* 4. all of it */
enum weir_status weir_apply_check(PGconn *connection, const struct weir_catalog *before,
                                  const struct weir_catalog *after, const struct weir_change_list *changes,
                                  struct weir_apply_report *report, struct weir_apply_report *history,
                                  struct weir_error *reterr)
{
    struct apply_check check = {
        .connection = connection,
        .before = before,
        .after = after,
        .report = report,
        .history = history,
        .reterr = reterr,
    };
    enum weir_status status = list_rated(&check);

    if (status == WEIR_OK)
        check_missing(&check);
    for (size_t i = 0; i < changes->count && status == WEIR_OK; i++) {
        const struct weir_change *change = &changes->changes[i];
        if (change->kind == WEIR_CHANGE_METER)
            check_meter(&check, change);
        else if (change->kind == WEIR_CHANGE_VERSION)
            status = check_version(&check, change);
        else if (!change->is_removed) /* check_missing */
            status = weir_apply_check_contract(&check, change, is_rated(check.contracts, change->after.contract->key));
    }
    if (status == WEIR_OK && changes->count)
        status = weir_apply_check_orders(&check);
    PQclear(check.meters);
    PQclear(check.versions);
    PQclear(check.contracts);
    return status;
}
