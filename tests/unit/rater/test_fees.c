/* Fees: pieces of a period add up to the whole, whatever the clock does; years and contracts are counted once. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "rater/fees.h"

static int64_t at(const char *text)
{
    int64_t time;
    cr_assert(weir_time_parse(weir_slice_text(text), &time), "%s", text);
    return time;
}

static struct weir_decimal decimal(const char *text)
{
    struct weir_decimal value;
    cr_assert_eq(weir_decimal_parse(weir_slice_text(text), &value), WEIR_DECIMAL_OK, "%s", text);
    return value;
}

/* A catalog with one contract of these terms. */
static struct weir_catalog *catalog_with(const char *terms)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    char *json = NULL;

    cr_assert(asprintf(&json,
                       "{\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":"
                       "\"2020-01-01T00:00:00Z\"}],\"contracts\":[{\"key\":\"c\",\"customer\":\"c\",\"price_book\":"
                       "\"b\",%s}]}",
                       terms)
              > 0);
    enum weir_status status = weir_catalog_parse("test", json, strlen(json), &catalog, &mistakes);
    cr_assert_eq(status, WEIR_OK, "%s: %s", json, mistakes.count ? mistakes.mistakes[0].text : "");
    free(json);
    return catalog;
}

/* How often the fee is charged in all periods until a time, and what the last of them cost. */
static int times_until(const struct weir_contract *contract, const struct weir_fee *fee, const char *until)
{
    struct weir_decimal quantity, amount, total = {0};
    int64_t time = contract->starts_at, start, end;

    for (; time < at(until); time = end) {
        weir_contract_period_at(contract, time, &start, &end);
        cr_assert(weir_fee_of_period(contract, fee, start, end, &quantity, &amount));
        cr_assert(weir_decimal_add(total, quantity, &total));
    }
    return (int)(total.e12 / WEIR_DECIMAL_ONE);
}

Test(fees, pieces_of_a_period_add_up)
{
    static const char *const zones[] = {"Europe/Berlin", "America/Havana", "Pacific/Apia", "Asia/Kolkata"};
    static const char *const periods[] = {"day", "week", "month", "quarter", "year"};
    struct weir_decimal quantity, amount;
    char terms[256];

    srand(6);
    for (int round = 0; round < 400; round++) {
        snprintf(terms, sizeof terms,
                 "\"starts_at\":\"2020-01-01T00:00:00Z\",\"billing_period\":\"%s\",\"timezone\":\"%s\"",
                 periods[round % 5], zones[round % 4]);
        struct weir_catalog *catalog = catalog_with(terms);
        const struct weir_contract *contract = &catalog->contracts[0];
        struct weir_fee fee = {.amount = {(weir_int128)(rand() % 1000000) * 1000000007 + rand() % 10},
                               .proration = round % 2 ? WEIR_PRORATION_DAY : WEIR_PRORATION_SECOND};
        struct weir_decimal total = {0};
        int64_t start, end, next;
        weir_contract_period_at(contract, at("2021-01-01T00:00:00Z") + rand() % 1000 * WEIR_DAY, &start, &end);
        for (int64_t from = start; from < end; from = next) {
            next = from + (1 + rand() % (int64_t)((end - start) / WEIR_SECOND / 3 + 1)) * WEIR_SECOND;
            next = next > end ? end : next;
            cr_assert(weir_fee_of_period(contract, &fee, from, next, &quantity, &amount));
            cr_assert(quantity.e12 == WEIR_DECIMAL_ONE && amount.e12 >= 0);
            cr_assert(weir_decimal_add(total, amount, &total));
        }
        cr_assert_eq(weir_decimal_compare(total, fee.amount), 0, "%s", terms);
        weir_catalog_free(catalog);
    }
}

static void expect_share(const char *zone, enum weir_proration proration, const char *start, const char *end,
                         const char *share)
{
    struct weir_decimal quantity, amount;
    struct weir_fee fee = {.amount = decimal("100"), .proration = proration};
    char terms[256];

    snprintf(terms, sizeof terms,
             "\"starts_at\":\"2020-01-01T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":\"%s\"", zone);
    struct weir_catalog *catalog = catalog_with(terms);
    cr_assert(weir_fee_of_period(&catalog->contracts[0], &fee, at(start), at(end), &quantity, &amount));
    cr_expect_eq(weir_decimal_compare(amount, decimal(share)), 0, "%s in %s", start, zone);
    weir_catalog_free(catalog);
}

Test(fees, days_are_dates_and_seconds_are_exact)
{
    /* March 29th 2026 has 23 hours in Berlin, October 25th has 25. */
    expect_share("Europe/Berlin", WEIR_PRORATION_DAY, "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00",
                 "3.225806451613");
    expect_share("Europe/Berlin", WEIR_PRORATION_SECOND, "2026-03-29T00:00:00+01:00", "2026-03-30T00:00:00+02:00",
                 "3.095558546434");
    expect_share("Europe/Berlin", WEIR_PRORATION_SECOND, "2026-10-25T00:00:00+02:00", "2026-10-26T00:00:00+01:00",
                 "3.355704697986");
    /* A day that is cut belongs to what comes after it. */
    expect_share("UTC", WEIR_PRORATION_DAY, "2026-06-01T00:00:00Z", "2026-06-16T12:00:00Z", "50");
    expect_share("UTC", WEIR_PRORATION_DAY, "2026-06-16T12:00:00Z", "2026-07-01T00:00:00Z", "50");
    expect_share("UTC", WEIR_PRORATION_SECOND, "2026-06-01T00:00:00Z", "2026-06-16T12:00:00Z", "51.666666666667");
    expect_share("UTC", WEIR_PRORATION_DAY, "2024-02-29T00:00:00Z", "2024-03-01T00:00:00Z", "3.448275862069");
}

/* The first day's own date, and the same date of later years: a February 29th is the 28th in most. */
static int anniversaries_until(const struct weir_contract *contract, int64_t until)
{
    int64_t year, found_year;
    int month, day, found_month, found_day, count = 0;

    weir_date_of_days(weir_zone_day(contract->zone, contract->starts_at), &year, &month, &day);
    for (int64_t date = 0; date < until; year++, count++) {
        date = weir_days_of_date(year + 1, month, day);
        weir_date_of_days(date, &found_year, &found_month, &found_day);
        date -= found_month != month;
    }
    return count;
}

Test(fees, years_and_contracts_are_counted_once)
{
    static const char *const periods[] = {"day", "week", "month", "quarter", "year"};
    static const char *const starts[] = {"2023-05-17T00:00:00+02:00", "2024-02-29T00:00:00+01:00",
                                         "2023-05-17T15:30:00+02:00", "2023-12-31T23:59:59+01:00"};
    const struct weir_fee yearly = {.amount = decimal("1"), .per = WEIR_FEE_PER_YEAR};
    const struct weir_fee once = {.amount = decimal("1"), .per = WEIR_FEE_PER_CONTRACT};
    char terms[256];

    for (int i = 0; i < 20; i++) {
        snprintf(terms, sizeof terms, "\"starts_at\":\"%s\",\"billing_period\":\"%s\",\"timezone\":\"Europe/Berlin\"",
                 starts[i % 4], periods[i / 4]);
        struct weir_catalog *catalog = catalog_with(terms);
        const struct weir_contract *contract = &catalog->contracts[0];
        int64_t end, start = contract->starts_at;
        while (start < at("2034-02-01T00:00:00Z")) /* through the end of that period */
            weir_contract_period_at(contract, start, &end, &start);
        cr_expect_eq(times_until(contract, &once, "2034-02-01T00:00:00Z"), 1, "%s", terms);
        cr_expect_eq(times_until(contract, &yearly, "2034-02-01T00:00:00Z"),
                     anniversaries_until(contract, weir_zone_day(contract->zone, start)), "%s", terms);
        weir_catalog_free(catalog);
    }
}

static bool add_piece(void *context, const struct weir_fee_piece *piece)
{
    char **at = context, quantity[WEIR_DECIMAL_TEXT_MAX], amount[WEIR_DECIMAL_TEXT_MAX], time[WEIR_TIME_TEXT_MAX];

    weir_decimal_format_short(piece->quantity, quantity);
    weir_decimal_format_short(piece->amount, amount);
    weir_time_format(piece->start, time);
    *at += sprintf(*at, "%.10s %s %s; ", time, quantity, amount);
    return true;
}

/* Seats: what there is at the start, then each change for the rest of the period. */
Test(fees, units_are_charged_from_when_they_are_there)
{
    static const struct {
        enum weir_proration proration;
        const char *start, *end, *pieces;
    } cases[] = {
        {WEIR_PRORATION_DAY, "2026-03-01T00:00:00Z", "2026-04-01T00:00:00Z", ""},
        {WEIR_PRORATION_DAY, "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z",
         "2026-04-11 10 133.333333333333; 2026-04-16 2.5 25; 2026-04-21 -12.5 -83.333333333333; "},
        {WEIR_PRORATION_DAY, "2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z", "2026-05-01 3 60; "},
        {WEIR_PRORATION_SECOND, "2026-04-01T00:00:00Z", "2026-04-16T00:00:00Z", "2026-04-11 10 33.333333333333; "},
        {WEIR_PRORATION_SECOND, "2026-04-16T00:00:00Z", "2026-05-01T00:00:00Z",
         "2026-04-16 12.5 125; 2026-04-21 -12.5 -83.333333333333; "},
        {WEIR_PRORATION_NONE, "2026-04-01T00:00:00Z", "2026-05-01T00:00:00Z", ""},
        {WEIR_PRORATION_NONE, "2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z", "2026-05-01 3 60; "},
    };
    struct weir_catalog *catalog =
        catalog_with("\"starts_at\":\"2026-01-01T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":\"UTC\"");
    struct weir_contract contract = catalog->contracts[0];
    const struct weir_slice seat = weir_slice_text("seat");
    struct weir_quantity quantities[] = {
        {weir_slice_text("other"), at("2026-01-01T00:00:00Z"), decimal("99")},
        {seat, at("2026-04-11T00:00:00Z"), decimal("10")},
        {seat, at("2026-04-16T00:00:00Z"), decimal("12.5")},
        {seat, at("2026-04-21T00:00:00Z"), decimal("0")},
        {seat, at("2026-05-01T00:00:00Z"), decimal("3")},
        {weir_slice_text("zone"), at("2026-01-01T00:00:00Z"), decimal("99")},
    };

    contract.quantities = quantities;
    contract.quantity_count = 6;
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++) {
        const struct weir_fee fee = {
            .key = seat, .amount = decimal("20"), .is_per_unit = true, .proration = cases[i].proration};
        char text[512] = "", *end = text;
        cr_assert(weir_fee_pieces(&contract, &fee, at(cases[i].start), at(cases[i].end), add_piece, &end));
        cr_expect_str_eq(text, cases[i].pieces, "case %zu", i);
    }
    weir_catalog_free(catalog);
}

Test(fees, the_default_contract_has_fees_of_periods_only)
{
    struct weir_decimal quantity, amount;
    const struct weir_contract contract = {.starts_at = 0};

    for (int per = WEIR_FEE_PER_YEAR; per < WEIR_FEE_PER_COUNT; per++) {
        const struct weir_fee fee = {.amount = decimal("1"), .per = per};
        cr_assert(weir_fee_of_period(&contract, &fee, 0, WEIR_DAY, &quantity, &amount));
        cr_expect(weir_decimal_is_zero(quantity) && weir_decimal_is_zero(amount));
    }
}

Test(fees, what_does_not_fit_is_said)
{
    struct weir_decimal quantity, amount;
    struct weir_catalog *catalog =
        catalog_with("\"starts_at\":\"2026-01-10T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":\"UTC\"");
    struct weir_fee fee = {.amount = weir_decimal_max(), .proration = WEIR_PRORATION_SECOND};

    cr_expect_not(weir_fee_of_period(&catalog->contracts[0], &fee, at("2026-01-10T00:00:00Z"),
                                     at("2026-02-01T00:00:00Z"), &quantity, &amount));
    cr_expect(weir_fee_of_period(&catalog->contracts[0], &fee, at("2026-02-01T00:00:00Z"), at("2026-03-01T00:00:00Z"),
                                 &quantity, &amount));
    weir_catalog_free(catalog);
}
