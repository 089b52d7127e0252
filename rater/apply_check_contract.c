/* Contracts of a new catalog: whether their terms, their ends and their quantities leave what was rated as it is. */
#include "rater/apply_check_internal.h"
#include "rater/fees.h"
#include "rater/postgres_value.h"

/* A term that covers windows which another contract has billed: a new contract, or one that now starts earlier or ends
 * later. */
static enum weir_status check_term(struct apply_check *check, const struct weir_contract *contract)
{
    struct apply_question question = {
        .texts = {contract->customer, contract->key},
        .text_count = 2,
        .times = {contract->whole_starts_at, contract->whole_ends_at},
        .time_count = 2,
    };
    int64_t found;
    enum weir_status status = weir_apply_ask_time(
        check,
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

static enum weir_status check_end(struct apply_check *check, const struct weir_contract *contract)
{
    struct apply_question question = {.texts = {contract->customer, contract->key}, .text_count = 2};
    int64_t found;
    enum weir_status status =
        weir_apply_ask_time(check,
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
static enum weir_status check_charged_beyond(struct apply_check *check, const struct weir_contract *contract)
{
    struct apply_question question = {
        .texts = {contract->customer, contract->key},
        .text_count = 2,
        .times = {contract->whole_ends_at},
        .time_count = 1,
    };
    int64_t found;
    enum weir_status status = weir_apply_ask_time(
        check,
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

static enum weir_status find_last_period(struct apply_check *check, const struct weir_contract *contract,
                                         int64_t before, struct last_period *ret_last)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer time = {0};
    PGresult *result = NULL;

    weir_put_time(&time, weir_apply_whole_microseconds(before));
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
static enum weir_status check_last_period(struct apply_check *check, const struct weir_contract *before,
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
static enum weir_status check_term_minimum(struct apply_check *check, const struct weir_contract *before,
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

static enum weir_status check_ends(struct apply_check *check, const struct weir_contract *before,
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

static void say_rated_contract(struct apply_check *check, const struct weir_contract *contract, const char *fields)
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
static enum weir_status check_terms(struct apply_check *check, const struct weir_contract *before,
                                    const struct weir_contract *after)
{
    struct apply_question question = {.texts = {before->customer, before->key}, .text_count = 2, .time_count = 2};
    struct weir_terms_change change;
    enum weir_status status = WEIR_OK;
    int64_t found;

    for (int64_t at = 0; status == WEIR_OK && weir_contract_next_change(before, after, &at, &change);) {
        char from[WEIR_TIME_TEXT_MAX], last[WEIR_TIME_TEXT_MAX];
        question.times[0] = change.from;
        question.times[1] = change.until;
        status = weir_apply_ask_time(check,
                                     after->key.length
                                         ? "SELECT max(period_start) FROM weir.billing_periods WHERE customer = "
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
static enum weir_status check_quantities(struct apply_check *check, const struct weir_contract *before,
                                         const struct weir_contract *after)
{
    struct apply_question question = {.texts = {before->customer, before->key}, .text_count = 2, .time_count = 1};
    int64_t found = 0;

    if (!weir_contract_quantity_change(before, after, &question.times[0]))
        return WEIR_OK;
    enum weir_status status = weir_apply_ask_time(
        check,
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
static enum weir_status check_currency(struct apply_check *check, const struct weir_contract *before,
                                       const struct weir_contract *after)
{
    struct weir_parameters parameters = {0};
    struct weir_slice was = before->book->currency, is = after->book->currency;
    PGresult *grants = NULL;

    if (weir_slice_equal(was, is))
        return WEIR_OK;
    weir_parameters_add_slice(&parameters, after->key);
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

enum weir_status weir_apply_check_contract(struct apply_check *check, const struct weir_change *change, bool is_rated)
{
    const struct weir_contract *contract = change->after.contract;
    enum weir_status status = WEIR_OK;
    char fields[128];

    if (!change->is_added && is_rated) {
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
