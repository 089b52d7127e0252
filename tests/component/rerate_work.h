/* Shared by the tests of rerating: catalogs that differ in one thing each, windows that change from round to round in
 * several lanes, and what a rater makes of them. */
#ifndef WEIR_TESTS_COMPONENT_RERATE_WORK_H
#define WEIR_TESTS_COMPONENT_RERATE_WORK_H

#include "common/calendar.h"
#include "postgres_database.h"
#include "rater/rate.h"
#include "rater/rerate.h"
#include "rater/summary.h"

#define S(text) weir_slice_text(text)

enum { WORK_WINDOWS = 360, WORK_CUSTOMERS = 6, WORK_LANES = 2 };
#define WORK_START (INT64_C(1767225600) * WEIR_SECOND) /* 2026-01-01 */

/* What a catalog of the tests says: the rest is the same in all of them. */
struct terms {
    const char *unit_price; /* of tokens beyond 100 */
    const char *peak_price;
    const char *fee, *floor;
    const char *billing_period; /* of customer 0's contract */
    const char *tokens_when;    /* "" or a `when` that leaves some models without a price */
    const char *effective_from; /* of version 2, which costs one more a unit; "": there is none */
    const char *commitments;    /* of customer 0's contract beside the floor: each with a comma before it */
    const char *floor_per;
    const char *renews; /* customer 0's contract, with a comma behind it; "": it does not */
};

static const struct terms plain_terms = {"0.003", "0.125", "9.99", "500", "month", "", "", "", "period", ""};

static inline struct weir_catalog *make_catalog(const struct terms *terms)
{
    static const char book[] =
        "{\"key\":\"standard\",\"version\":%d,\"currency\":\"USD\",\"effective_from\":\"%s\",\"prices\":["
        "{\"meter\":\"tokens\",%s\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"100\",\"unit_price\":\"0.01\","
        "\"flat_fee\":\"1.5\",\"flat_fee_at_zero\":true},{\"up_to\":null,\"unit_price\":\"%d%s\"}],"
        "\"minimum_amount\":\"2\"},{\"meter\":\"peak\",\"model\":\"per_unit\",\"unit_price\":\"%s\"}],"
        "\"fees\":[{\"key\":\"base\",\"amount\":\"%s\",\"per\":\"period\",\"charged\":\"in_arrears\"}]}";
    char books[2][1500] = {"", ""}, *text;
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};

    snprintf(books[0], sizeof books[0], book, 1, "2020-01-01T00:00:00Z", terms->tokens_when, 0, terms->unit_price + 1,
             terms->peak_price, terms->fee);
    if (*terms->effective_from)
        snprintf(books[1], sizeof books[1], book, 2, terms->effective_from, terms->tokens_when, 1,
                 terms->unit_price + 1, terms->peak_price, terms->fee);
    int length = asprintf(
        &text,
        "{\"meters\":[{\"key\":\"tokens\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.n\","
        "\"window\":\"1h\",\"group_by\":[\"model\"]},{\"key\":\"peak\",\"event_type\":\"t\",\"aggregation\":\"max\","
        "\"value\":\"data.n\",\"window\":\"1h\"}],\"price_books\":[%s%s%s],\"contracts\":[{\"key\":\"c0\","
        "\"customer\":\"customer 0\",\"price_book\":\"standard\",\"starts_at\":\"2025-01-01T00:00:00Z\","
        "\"billing_period\":\"%s\",\"timezone\":\"UTC\",%s\"commitments\":[{\"key\":\"floor\",\"type\":"
        "\"minimum_spend\",\"amount\":\"%s\",\"per\":\"%s\"}%s]}],\"default_contract\":{\"price_book\":"
        "\"standard\","
        "\"billing_period\":\"month\",\"timezone\":\"UTC\"}}",
        books[0], *books[1] ? "," : "", books[1], terms->billing_period, terms->renews, terms->floor, terms->floor_per,
        terms->commitments);
    cr_assert_gt(length, 0);
    cr_assert_eq(weir_catalog_parse("test", text, (size_t)length, &catalog, &mistakes), WEIR_OK, "%s: %s",
                 mistakes.count ? mistakes.mistakes[0].path : "", mistakes.count ? mistakes.mistakes[0].text : "");
    free(text);
    return catalog;
}

/* Windows of all lanes: three a customer and hour, over a month and a bit. */
struct work {
    char lanes[WORK_LANES][24];
    char keys[WORK_WINDOWS][WEIR_SERIES_KEY_MAX];
    struct weir_lane_window windows[WORK_LANES * WORK_WINDOWS];
};

static inline void make_work(struct work *work)
{
    for (int i = 0; i < WORK_WINDOWS; i++) {
        char customer[32], model[32];
        snprintf(customer, sizeof customer, "customer %d", i % WORK_CUSTOMERS);
        snprintf(model, sizeof model, "model %d", i / WORK_CUSTOMERS % 3);
        bool is_peak = i % 5 == 4;
        struct weir_series series = {.meter = S(is_peak ? "peak" : "tokens"),
                                     .customer = S(customer),
                                     .dimension_count = is_peak ? 0 : 1,
                                     .dimensions = {{S("model"), S(model)}}};
        size_t length = weir_series_write(&series, work->keys[i]);
        int64_t start = WORK_START + i / 18 * 37 * WEIR_HOUR;
        for (int lane = 0; lane < WORK_LANES; lane++) {
            snprintf(work->lanes[lane], sizeof work->lanes[lane], "events:%d", lane);
            work->windows[lane * WORK_WINDOWS + i] = (struct weir_lane_window){
                .lane = S(work->lanes[lane]),
                .window = {weir_slice_of(work->keys[i], length), start, start + WEIR_HOUR, {0}},
            };
        }
    }
}

/* Late events and retractions. */
static inline void grow_work(struct work *work, int round)
{
    for (int i = 0; i < WORK_LANES * WORK_WINDOWS; i++) {
        struct weir_window_total *total = &work->windows[i].window.total;
        if ((i + round) % 3 == 0 && total->events > 2) {
            total->events -= 2;
            total->retracted += 2;
            total->value.e12 -= (weir_int128)((i * 29 + round * 13) % 1500) * 10000000007;
            continue;
        }
        total->events += 1 + (uint64_t)((i * 7 + round) % 3);
        total->value.e12 += (weir_int128)((i * 31 + round * 17) % 1000) * 10000000007;
    }
}

static const struct weir_horizon all_ended = {WORK_START, WORK_START + 40 * WEIR_DAY, WEIR_TIME_NEVER};

/* Rates the work in batches, backwards: so that every charge is the difference that its arrival made. */
static inline void rate_work(const char *url, const struct weir_catalog *catalog, struct work *work, bool is_settled)
{
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    cr_assert_eq(weir_ledger_postgres_open(url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    for (int at = WORK_LANES * WORK_WINDOWS - 45; at >= 0; at -= 45) {
        enum weir_status status;
        while ((status = weir_rater_rate(rater, work->windows + at, 45, &error)) == WEIR_RETRY)
            ;
        cr_assert_eq(status, WEIR_OK, "%s", error.text);
    }
    if (is_settled)
        cr_assert_eq(weir_rater_settle(rater, &all_ended, &error), WEIR_OK, "%s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
}

/* What a rater makes of the totals at once: "customer,contract,period,item,kind,quantity,amount" lines, sorted. */
static inline char *embedded_summary(const struct weir_catalog *catalog, struct work *work)
{
    char *text;
    size_t length;
    FILE *output = open_memstream(&text, &length);
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;

    cr_assert_eq(weir_ledger_text_open(WEIR_LEDGER_CSV, true, output, &ledger, &error), WEIR_OK);
    rater = weir_rater_new(catalog, ledger);
    cr_assert_eq(weir_rater_rate(rater, work->windows, WORK_LANES * WORK_WINDOWS, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(weir_rater_settle(rater, &all_ended, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(ledger->ops->finish(ledger, &error), WEIR_OK);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    fclose(output);
    return text;
}

#endif
