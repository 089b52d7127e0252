#include "rater/apply_check.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rater/fees.h"
#include "rater/postgres_value.h"

/* A slice for printf's %.*s. */
#define TEXT(slice) (int)(slice).length, (slice).data

struct check {
    PGconn *connection;
    const struct weir_catalog *before, *after;
    struct weir_apply_report *report;  /* what is refused */
    struct weir_apply_report *history; /* what a rerating or recount could follow; the same, when that is refused too */
    struct weir_error *reterr;
    PGresult *meters, *versions, *contracts; /* that have rated usage; sorted, in binary */
};

/* 1. what was rated, as a whole */

/* A window without a meter in the catalog of its day (no_meter) holds no meter to that name. */
static enum weir_status list_rated(struct check *check)
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
static void check_missing(struct check *check)
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

/* Texts, then times, as parameters of a question that answers one time, or null. */
struct question {
    struct weir_slice texts[2];
    int text_count;
    int64_t times[2];
    int time_count;
    int32_t number;
    bool has_number;
};

static int64_t whole_microseconds(int64_t time)
{
    return time == WEIR_TIME_NEVER ? time : time - time % 1000;
}

static enum weir_status ask_time(struct check *check, const char *sql, const struct question *question,
                                 int64_t *ret_time)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer bytes = {0};
    PGresult *result = NULL;

    for (int i = 0; i < question->time_count; i++)
        weir_put_time(&bytes, whole_microseconds(question->times[i]));
    weir_put_int4(&bytes, question->number);
    for (int i = 0; i < question->text_count; i++)
        weir_parameters_add(&parameters, question->texts[i].length ? question->texts[i].data : "",
                            question->texts[i].length);
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

/* 3. entries that changed */
static void check_meter(struct check *check, const struct weir_change *change)
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

/* The first window that was priced by another version of the book and would have been priced by this one. */
static enum weir_status check_new_version(struct check *check, const struct weir_price_book_version *version)
{
    const struct weir_price_book *book = version->book;
    int64_t until = WEIR_TIME_NEVER, found;

    for (uint32_t i = 0; i < book->version_count; i++)
        if (book->versions[i].effective_from > version->effective_from && book->versions[i].effective_from < until)
            until = book->versions[i].effective_from;
    struct question question = {
        .texts = {book->key},
        .text_count = 1,
        .times = {version->effective_from, until},
        .time_count = 2,
        .number = (int32_t)version->version,
        .has_number = true,
    };
    enum weir_status status = ask_time(
        check,
        "SELECT min(w.window_start) FROM weir.price_totals AS p JOIN weir.rated_windows AS w ON w.customer = p.customer"
        " AND w.window_start >= p.period_start AND w.window_start < p.period_end"
        " WHERE p.price_book = $1::text AND p.price_book_version <> $4::int AND p.period_end > $2::timestamptz"
        " AND p.period_start < $3::timestamptz AND w.price_book = p.price_book AND w.price_book_version <> $4::int"
        " AND w.window_start >= $2::timestamptz AND w.window_start < $3::timestamptz",
        &question, &found);
    if (status == WEIR_OK && found) {
        char from[WEIR_TIME_TEXT_MAX], at[WEIR_TIME_TEXT_MAX];
        weir_time_format(version->effective_from, from);
        weir_time_format(found, at);
        weir_apply_say(check->history,
                       "price book '%.*s' version %u takes effect %s, and the window of %s is rated already: let "
                       "it take effect after all rated windows, or rerate",
                       TEXT(book->key), version->version, from, at);
    }
    return status;
}

static enum weir_status check_version(struct check *check, const struct weir_change *change)
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

/* A term that covers windows which another contract has billed: a new contract, or one that now starts earlier or ends
 * later. */
static enum weir_status check_term(struct check *check, const struct weir_contract *contract)
{
    struct question question = {
        .texts = {contract->customer, contract->key},
        .text_count = 2,
        .times = {contract->whole_starts_at, contract->whole_ends_at},
        .time_count = 2,
    };
    int64_t found;
    enum weir_status status =
        ask_time(check,
                 "SELECT max(window_start) FROM weir.rated_windows WHERE customer = $1::text AND contract <> $2::text"
                 " AND price_book IS NOT NULL AND window_start >= $3::timestamptz AND window_start < $4::timestamptz",
                 &question, &found);
    if (status == WEIR_OK && found) {
        char at[WEIR_TIME_TEXT_MAX];
        weir_time_format(found, at);
        weir_apply_say(check->history,
                       "contract '%.*s' covers the window of %s, which was rated for customer '%.*s' under another "
                       "contract: let it start after all rated windows, or rerate",
                       TEXT(contract->key), at, TEXT(contract->customer));
    }
    return status;
}

static enum weir_status check_end(struct check *check, const struct weir_contract *contract)
{
    struct question question = {.texts = {contract->customer, contract->key}, .text_count = 2};
    int64_t found;
    enum weir_status status = ask_time(check,
                                       "SELECT max(window_end) FROM weir.rated_windows WHERE customer = $1::text"
                                       " AND contract = $2::text AND price_book IS NOT NULL",
                                       &question, &found);
    if (status == WEIR_OK && found > contract->whole_ends_at) {
        char end[WEIR_TIME_TEXT_MAX], at[WEIR_TIME_TEXT_MAX];
        weir_time_format(contract->whole_ends_at, end);
        weir_time_format(found, at);
        weir_apply_say(check->history,
                       "contract '%.*s' ends %s, and its last rated window ends %s: let it end then or later, or "
                       "rerate",
                       TEXT(contract->key), end, at);
    }
    return status;
}

/* What was charged for time that no longer belongs to the contract: fees in advance need no usage. */
static enum weir_status check_charged_beyond(struct check *check, const struct weir_contract *contract)
{
    struct question question = {
        .texts = {contract->customer, contract->key},
        .text_count = 2,
        .times = {contract->whole_ends_at},
        .time_count = 1,
    };
    int64_t found;
    enum weir_status status =
        ask_time(check,
                 "SELECT min(period_start) FROM (SELECT period_start FROM weir.line_items WHERE customer = $1::text AND"
                 " contract = $2::text AND period_start >= $3::timestamptz GROUP BY period_start, item"
                 " HAVING sum(amount) <> 0) AS charged",
                 &question, &found);
    if (status == WEIR_OK && found) {
        char end[WEIR_TIME_TEXT_MAX], at[WEIR_TIME_TEXT_MAX];
        weir_time_format(contract->whole_ends_at, end);
        weir_time_format(found, at);
        weir_apply_say(check->history,
                       "contract '%.*s' ends %s, and its period from %s on was charged already: let it end after that, "
                       "or rerate",
                       TEXT(contract->key), end, at);
    }
    return status;
}

/* The last period that was rated before a time. start 0: there is none. */
struct last_period {
    int64_t start, end;
    bool is_advance_charged, is_closed;
};

static enum weir_status find_last_period(struct check *check, const struct weir_contract *contract, int64_t before,
                                         struct last_period *ret_last)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer time = {0};
    PGresult *result = NULL;

    weir_put_time(&time, whole_microseconds(before));
    weir_parameters_add(&parameters, contract->customer.data, contract->customer.length);
    weir_parameters_add(&parameters, contract->key.data, contract->key.length);
    weir_parameters_add(&parameters, time.data + 4, 8);
    enum weir_status status =
        weir_postgres_ask(check->connection,
                          "SELECT period_start, period_end, is_advance_charged, is_closed FROM weir.billing_periods"
                          " WHERE customer = $1::text AND contract = $2::text AND period_start < $3::timestamptz"
                          " ORDER BY period_start DESC LIMIT 1",
                          &parameters, "looking at rated periods", &result, check->reterr);
    weir_buffer_free(&time);
    *ret_last = (struct last_period){0};
    if (status == WEIR_OK && PQntuples(result) == 1)
        *ret_last =
            (struct last_period){weir_get_time(PQgetvalue(result, 0, 0)), weir_get_time(PQgetvalue(result, 0, 1)),
                                 *PQgetvalue(result, 0, 2), *PQgetvalue(result, 0, 3)};
    PQclear(result);
    return status;
}

/* A fee that was charged and would be another amount if the period ended then; NULL: none. */
static const struct weir_fee *changed_fee(const struct weir_contract *contract, const struct last_period *last,
                                          int64_t new_end)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, last->start);

    for (uint32_t i = 0; version && i < version->fee_count; i++) {
        const struct weir_fee *fee = &version->fees[i];
        struct weir_decimal times, old, new;
        if (!(fee->charged == WEIR_FEE_IN_ADVANCE ? last->is_advance_charged : last->is_closed))
            continue;
        if (!weir_fee_of_period(contract, fee, last->start, last->end, &times, &old)
            || !weir_fee_of_period(contract, fee, last->start, new_end, &times, &new)
            || weir_decimal_compare(old, new) != 0)
            return fee;
    }
    return NULL;
}

/* Another end cuts the period that holds it, or one that was cut ends later: it must not have been charged as it was.
 */
static enum weir_status check_last_period(struct check *check, const struct weir_contract *before,
                                          const struct weir_contract *after)
{
    bool is_earlier = after->whole_ends_at < before->whole_ends_at;
    struct last_period last;
    int64_t start, new_end;
    enum weir_status status =
        find_last_period(check, after, is_earlier ? after->whole_ends_at : before->whole_ends_at, &last);

    if (status != WEIR_OK || !last.start || last.start < after->whole_starts_at
        || (is_earlier ? last.end <= after->whole_ends_at : last.end != before->whole_ends_at))
        return status;
    const struct weir_contract *contract = weir_contract_phase_at(after, last.start);
    weir_contract_period_at(contract, last.start, &start, &new_end);
    new_end = is_earlier ? after->whole_ends_at : new_end;
    const struct weir_fee *fee = changed_fee(contract, &last, new_end);
    if (!fee && !(is_earlier && last.is_closed))
        return WEIR_OK;
    char from[WEIR_TIME_TEXT_MAX], to[WEIR_TIME_TEXT_MAX], end[WEIR_TIME_TEXT_MAX];
    weir_time_format(last.start, from);
    weir_time_format(last.end, to);
    weir_time_format(new_end, end);
    weir_apply_say(check->history,
                   "contract '%.*s': with another ends_at, the period from %s to %s ends %s, and %s%.*s%s: let the "
                   "contract end with a period that is not charged yet, or rerate",
                   TEXT(after->key), from, to, end, fee ? "its fee '" : "it is closed",
                   (int)(fee ? fee->key.length : 0), fee ? fee->key.data : "", fee ? "' was charged by that" : "");
    return WEIR_OK;
}

/* What is missing to a minimum of the term, of spend or a quantity, is charged with its last period: another one must
 * not be closed by then. */
static enum weir_status check_term_minimum(struct check *check, const struct weir_contract *before,
                                           const struct weir_contract *after)
{
    const struct weir_contract *shorter = after->whole_ends_at < before->whole_ends_at ? after : before;
    struct last_period last;
    struct weir_term term;

    if (!before->has_term_minimum && !after->has_term_minimum)
        return WEIR_OK;
    enum weir_status status = find_last_period(check, after, shorter->whole_ends_at, &last);
    if (status != WEIR_OK || !last.is_closed || last.end != shorter->whole_ends_at
        || last.start < shorter->whole_starts_at)
        return status;
    weir_contract_term_at(shorter, last.start, &term);
    if (term.ends_at == term.renews_at)
        return WEIR_OK;
    char end[WEIR_TIME_TEXT_MAX];
    weir_time_format(last.end, end);
    weir_apply_say(check->history,
                   "contract '%.*s': with another ends_at its term ends otherwise, and the period until %s is closed, "
                   "in which its minimum %s: let the contract end with a later period, or rerate",
                   TEXT(after->key), end, shorter == after ? "would be settled" : "was settled");
    return WEIR_OK;
}

static enum weir_status check_ends(struct check *check, const struct weir_contract *before,
                                   const struct weir_contract *after)
{
    enum weir_status status = WEIR_OK;

    if (after->whole_ends_at < before->whole_ends_at) {
        status = check_end(check, after);
        if (status == WEIR_OK)
            status = check_charged_beyond(check, after);
    }
    if (status == WEIR_OK && after->whole_ends_at != before->whole_ends_at)
        status = check_last_period(check, before, after);
    if (status == WEIR_OK && after->whole_ends_at != before->whole_ends_at)
        status = check_term_minimum(check, before, after);
    return status;
}

static void say_rated_contract(struct check *check, const struct weir_contract *contract, const char *fields)
{
    if (contract->key.length)
        weir_apply_say(check->history,
                       "contract '%.*s' has rated periods, and its %s changed: end it with ends_at, and add a "
                       "contract with the new terms from then on",
                       TEXT(contract->key), fields);
    else
        weir_apply_say(check->history,
                       "default_contract has rated periods, and its %s changed: give customers contracts with the "
                       "new terms, or change prices by a new version of its price book",
                       fields);
}

/* Terms that changed in a time that has rated periods. */
static enum weir_status check_terms(struct check *check, const struct weir_contract *before,
                                    const struct weir_contract *after)
{
    struct question question = {.texts = {before->customer, before->key}, .text_count = 2, .time_count = 2};
    struct weir_terms_change change;
    enum weir_status status = WEIR_OK;
    int64_t found;

    for (int64_t at = 0; status == WEIR_OK && weir_contract_next_change(before, after, &at, &change);) {
        char from[WEIR_TIME_TEXT_MAX], last[WEIR_TIME_TEXT_MAX];
        question.times[0] = change.from;
        question.times[1] = change.until;
        status = ask_time(check,
                          after->key.length ? "SELECT max(period_start) FROM weir.billing_periods WHERE customer = "
                                              "$1::text AND contract = $2::text AND period_start >= $3::timestamptz"
                                              " AND period_start < $4::timestamptz"
                                            : "SELECT max(period_start) FROM weir.billing_periods WHERE $1::text = ''"
                                              " AND contract = $2::text AND period_start >= $3::timestamptz"
                                              " AND period_start < $4::timestamptz",
                          &question, &found);
        if (status != WEIR_OK || !found)
            continue;
        if (after->key.length == 0) { /* of some customer, which is enough */
            say_rated_contract(check, after, change.fields);
            continue;
        }
        weir_time_format(change.from, from);
        weir_time_format(found, last);
        weir_apply_say(
            check->history,
            "contract '%.*s' has rated periods until the one that starts %s, and its %s changed from %s%s%.*s"
            "%s on: put the new terms into a phase that starts with a later period, or rerate",
            TEXT(after->key), last, change.fields, from, change.phase.length ? " (phase '" : "", TEXT(change.phase),
            change.phase.length ? "')" : "");
    }
    return status;
}

/* Periods that are under way take a change when they end. */
static enum weir_status check_quantities(struct check *check, const struct weir_contract *before,
                                         const struct weir_contract *after)
{
    struct question question = {.texts = {before->customer, before->key}, .text_count = 2, .time_count = 1};
    int64_t found = 0;

    if (!weir_contract_quantity_change(before, after, &question.times[0]))
        return WEIR_OK;
    enum weir_status status =
        ask_time(check,
                 "SELECT max(period_start) FROM weir.billing_periods WHERE customer = $1::text AND contract = $2::text"
                 " AND period_end > $3::timestamptz AND is_closed",
                 &question, &found);
    if (status == WEIR_OK && found) {
        char from[WEIR_TIME_TEXT_MAX], last[WEIR_TIME_TEXT_MAX];
        weir_time_format(question.times[0], from);
        weir_time_format(found, last);
        weir_apply_say(check->history,
                       "contract '%.*s' has periods that ended with all their fees, until the one that starts %s, and "
                       "its quantities changed from %s on: let them change after that period, or rerate",
                       TEXT(after->key), last, from);
    }
    return status;
}

static bool lists_prepaid(const struct weir_contract *contract, struct weir_slice key)
{
    const struct weir_contract *first = contract - contract->phase;

    for (const struct weir_contract *terms = first; terms < first + contract->phase_count; terms++)
        for (uint32_t i = 0; i < terms->commitment_count; i++)
            if (terms->commitments[i].type == WEIR_COMMITMENT_PREPAID
                && weir_slice_equal(terms->commitments[i].key, key))
                return true;
    return false;
}

/* A balance is in one currency for good: what is left of a prepaid amount cannot become another currency's, which no
 * rerating changes. One that the contract does not have any more ends at 0. */
static enum weir_status check_currency(struct check *check, const struct weir_contract *before,
                                       const struct weir_contract *after)
{
    struct weir_parameters parameters = {0};
    struct weir_slice was = before->book->currency, is = after->book->currency;
    PGresult *grants = NULL;

    if (weir_slice_equal(was, is))
        return WEIR_OK;
    weir_parameters_add(&parameters, after->key.length ? after->key.data : "", after->key.length);
    weir_parameters_add(&parameters, is.data, is.length);
    enum weir_status status =
        weir_postgres_ask(check->connection,
                          "SELECT DISTINCT grant_key, false FROM weir.grants WHERE contract = $1::text"
                          " AND currency <> $2::text UNION SELECT DISTINCT grant_key, true FROM weir.grant_orders"
                          " WHERE contract = $1::text AND currency <> $2::text ORDER BY 1, 2 DESC",
                          &parameters, "looking at prepaid amounts", &grants, check->reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(grants); i++) {
        struct weir_slice key = weir_postgres_field(grants, i, 0);
        if (!*PQgetvalue(grants, i, 1) && !lists_prepaid(after, key))
            continue;
        weir_apply_say(check->report,
                       "%s '%.*s' is in %.*s now, and its prepaid amount '%.*s' has a balance in %.*s: end it, and add "
                       "a contract with another key (and the amount with another, where the catalog lists it)",
                       after->key.length ? "contract" : "default_contract", TEXT(after->key), TEXT(is), TEXT(key),
                       TEXT(was));
        break;
    }
    PQclear(grants);
    return status;
}

static enum weir_status check_contract(struct check *check, const struct weir_change *change)
{
    const struct weir_contract *contract = change->after.contract;
    enum weir_status status = WEIR_OK;
    char fields[128];

    if (change->is_removed)
        return WEIR_OK; /* check_missing */
    if (!change->is_added && is_rated(check->contracts, contract->key)) {
        weir_contract_changes(change->before.contract, contract, fields, sizeof fields);
        if (*fields)
            say_rated_contract(check, contract, fields);
        status = check_terms(check, change->before.contract, contract);
        if (status == WEIR_OK)
            status = check_currency(check, change->before.contract, contract);
        if (status == WEIR_OK)
            status = check_quantities(check, change->before.contract, contract);
    }
    if (contract->key.length == 0 || status != WEIR_OK)
        return status;
    status = check_term(check, contract);
    if (status == WEIR_OK && !change->is_added)
        status = check_ends(check, change->before.contract, contract);
    return status;
}

/* 4. all of it */
enum weir_status weir_apply_check(PGconn *connection, const struct weir_catalog *before,
                                  const struct weir_catalog *after, const struct weir_change_list *changes,
                                  struct weir_apply_report *report, struct weir_apply_report *history,
                                  struct weir_error *reterr)
{
    struct check check = {
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
        else
            status = check_contract(&check, change);
    }
    PQclear(check.meters);
    PQclear(check.versions);
    PQclear(check.contracts);
    return status;
}
