/* Terms of contracts that renew: where they begin, whatever months, days and clocks do, and what is granted in each. */
#include "tests/unit/common/catalog_support.h"

static struct weir_catalog *parse(const char *starts_at, const char *more, const char *commitments)
{
    char json[4096];
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    int length = snprintf(
        json, sizeof json,
        "{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1m\"}],\"price_"
        "books\":[{"
        "\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"1970-01-01T00:00:00Z\",\"prices\":[{"
        "\"meter\":\"m\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],\"contracts\":[{\"key\":\"c\",\"customer\":"
        "\"x\","
        "\"price_book\":\"b\",\"starts_at\":\"%s\",%s,\"commitments\":[%s]}]}",
        starts_at, more, commitments);
    cr_assert(length > 0 && length < (int)sizeof json);
    enum weir_status status = weir_catalog_parse("test", json, (size_t)length, &catalog, &mistakes);
    if (status != WEIR_OK)
        print_all(&mistakes);
    cr_assert_eq(status, WEIR_OK, "%s", json);
    return catalog;
}

static int64_t at(const char *text)
{
    int64_t time;
    cr_assert(weir_time_parse(weir_slice_text(text), &time), "%s", text);
    return time;
}

Test(terms, begin_where_they_should)
{
    static const struct {
        const char *starts_at, *more, *terms[5]; /* from the second on */
    } rows[] = {
        /* A year, by the month, in UTC: leap days make no difference. */
        {"2026-01-01T00:00:00Z",
         "\"billing_period\":\"month\",\"timezone\":\"UTC\",\"renews\":{\"months\":12}",
         {"2027-01-01T00:00:00Z", "2028-01-01T00:00:00Z", "2029-01-01T00:00:00Z"}},
        /* The 31st is every month's last day. */
        {"2027-12-31T00:00:00Z",
         "\"billing_period\":\"month\",\"billing_anchor\":31,\"timezone\":\"UTC\",\"renews\":{\"months\":1}",
         {"2028-01-31T00:00:00Z", "2028-02-29T00:00:00Z", "2028-03-31T00:00:00Z", "2028-04-30T00:00:00Z"}},
        /* So is it from a day on that is one. */
        {"2027-02-28T00:00:00Z",
         "\"billing_period\":\"month\",\"billing_anchor\":31,\"timezone\":\"UTC\",\"renews\":{\"months\":6}",
         {"2027-08-31T00:00:00Z", "2028-02-29T00:00:00Z", "2028-08-31T00:00:00Z"}},
        {"2024-02-29T00:00:00Z",
         "\"billing_period\":\"year\",\"billing_anchor\":\"02-29\",\"timezone\":\"UTC\",\"renews\":{\"months\":12}",
         {"2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z"}},
        {"2024-02-29T00:00:00Z",
         "\"billing_period\":\"day\",\"timezone\":\"UTC\",\"renews\":{\"months\":12}",
         {"2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2027-02-28T00:00:00Z", "2028-02-29T00:00:00Z"}},
        /* Days begin at midnight of the contract's zone, summer and winter. */
        {"2026-01-01T00:00:00+01:00",
         "\"billing_period\":\"month\",\"timezone\":\"Europe/Berlin\",\"renews\":{\"months\":6}",
         {"2026-06-30T22:00:00Z", "2026-12-31T23:00:00Z", "2027-06-30T22:00:00Z"}},
        /* Midnight is skipped: the day begins at one o'clock. */
        {"2025-04-24T00:00:00+02:00",
         "\"billing_period\":\"month\",\"billing_anchor\":24,\"timezone\":\"Africa/Cairo\",\"renews\":{\"months\":12}",
         {"2026-04-23T22:00:00Z", "2027-04-23T22:00:00Z"}},
        /* A part of a month before the first whole one belongs to the first term. */
        {"2026-01-15T10:30:00Z",
         "\"billing_period\":\"month\",\"timezone\":\"UTC\",\"renews\":{\"months\":12}",
         {"2027-02-01T00:00:00Z", "2028-02-01T00:00:00Z"}},
        {"2026-01-15T10:30:00Z",
         "\"billing_period\":\"month\",\"billing_anchor\":15,\"timezone\":\"UTC\",\"renews\":{\"months\":12}",
         {"2027-01-15T00:00:00Z", "2028-01-15T00:00:00Z"}},
        {"2026-02-10T00:00:00Z",
         "\"billing_period\":\"quarter\",\"timezone\":\"UTC\",\"renews\":{\"months\":6}",
         {"2026-10-01T00:00:00Z", "2027-04-01T00:00:00Z"}},
        /* Weeks go by the date: the first Monday on it or after it. */
        {"2026-01-01T00:00:00Z",
         "\"billing_period\":\"week\",\"timezone\":\"UTC\",\"renews\":{\"months\":1}",
         {"2026-02-02T00:00:00Z", "2026-03-02T00:00:00Z", "2026-04-06T00:00:00Z"}},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weir_catalog *catalog = parse(rows[i].starts_at, rows[i].more, "");
        struct weir_term term;
        weir_contract_term(catalog->contracts, 1, &term);
        cr_expect_eq(term.starts_at, at(rows[i].starts_at));
        for (uint32_t n = 0; n < 5 && rows[i].terms[n]; n++) {
            char found[WEIR_TIME_TEXT_MAX];
            weir_contract_term(catalog->contracts, n + 2, &term);
            weir_time_format(term.starts_at, found);
            cr_expect_str_eq(found, rows[i].terms[n], "row %zu, term %u", i, n + 2);
        }
        weir_catalog_free(catalog);
    }
}

static uint64_t random_state = 20261126;
static uint32_t pick(uint32_t count)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (uint32_t)(random_state >> 33) % count;
}

/* Whole billing periods from one instant to another; the first may be cut. */
static uint32_t periods_between(const struct weir_contract *contract, int64_t from, int64_t to)
{
    uint32_t count = 0;
    for (int64_t start, end; from < to; from = end, count++)
        weir_contract_period_at(contract, from, &start, &end);
    cr_expect_eq(from, to, "a term ends within a billing period");
    return count;
}

static void check_terms(const struct weir_contract *contract, uint32_t step)
{
    struct weir_term term, next, found;
    int64_t start, end;
    weir_contract_term(contract, 1, &term);
    cr_expect_eq(term.starts_at, contract->starts_at);
    for (uint32_t number = 1; number <= 14; number++, term = next) {
        weir_contract_term(contract, number + 1, &next);
        cr_assert(term.ends_at == next.starts_at && term.renews_at == next.starts_at, "a gap after term %u", number);
        cr_assert(term.starts_at < term.ends_at, "term %u is empty", number);
        weir_contract_period_at(contract, next.starts_at, &start, &end);
        cr_assert_eq(start, next.starts_at, "term %u begins within a billing period", number + 1);
        weir_contract_term_at(contract, term.ends_at - 1, &found);
        cr_assert(found.number == number && found.starts_at == term.starts_at && found.ends_at == term.ends_at);
        weir_contract_term_at(contract, next.starts_at, &found);
        cr_assert_eq(found.number, number + 1);
        if (step && number > 1)
            cr_assert_eq(periods_between(contract, term.starts_at, term.ends_at), contract->renews_months / step);
        else if (number == 1)
            periods_between(contract, term.starts_at, term.ends_at);
    }
}

/* Of whatever start, anchor, zone and length: no gap, no overlap, none that is empty, each of whole billing periods. */
Test(terms, follow_one_another)
{
    static const char *const zones[] = {"UTC",          "Europe/Berlin",  "America/New_York", "Africa/Cairo",
                                        "Asia/Beirut",  "America/Havana", "Atlantic/Azores",  "Australia/Lord_Howe",
                                        "Asia/Kolkata", "Pacific/Apia",   "America/Santiago", "Asia/Tehran"};
    for (int i = 0; i < 600; i++) {
        char more[256], anchor[64] = "", starts_at[WEIR_TIME_TEXT_MAX];
        enum weir_billing_period period = pick(WEIR_BILLING_PERIOD_COUNT);
        uint32_t step = period == WEIR_PERIOD_MONTH     ? 1
                        : period == WEIR_PERIOD_QUARTER ? 3
                        : period == WEIR_PERIOD_YEAR    ? 12
                                                        : 0;
        if (period == WEIR_PERIOD_MONTH)
            snprintf(anchor, sizeof anchor, "\"billing_anchor\":%u,", pick(4) ? 28 + pick(4) : 1 + pick(31));
        else if (step)
            snprintf(anchor, sizeof anchor, "\"billing_anchor\":\"%02u-%02u\",", 1 + pick(12),
                     pick(2) ? 28 + pick(4) : 1 + pick(31));
        int64_t start = at("2009-12-01T00:00:00Z") + (int64_t)pick(20 * 366 * 24 * 60) * WEIR_MINUTE;
        weir_time_format(pick(3) ? start - start % WEIR_DAY : start, starts_at);
        snprintf(more, sizeof more, "\"billing_period\":\"%s\",%s\"timezone\":\"%s\",\"renews\":{\"months\":%u}",
                 weir_billing_period_name[period], anchor, zones[pick(sizeof zones / sizeof *zones)],
                 (step ? step : 1) * (1 + pick(step == 12 ? 3 : 14)));
        struct weir_catalog *catalog = parse(starts_at, more, "");
        check_terms(catalog->contracts, step);
        weir_catalog_free(catalog);
    }
}

/* What was written down of a calendar holds: terms begin there, and not an hour beside it. */
Test(terms, go_by_the_calendar_that_was_written)
{
    struct weir_catalog *catalog =
        parse("2026-01-31T00:00:00Z",
              "\"billing_period\":\"month\",\"billing_anchor\":31,\"timezone\":\"UTC\",\"renews\":{\"months\":2}", "");
    struct weir_contract *contract = catalog->contracts;
    struct weir_calendar *calendar = catalog->calendars;
    int64_t kept[30], start = contract->starts_at, end;
    for (int i = 0; i < 30; i++, start = end) {
        weir_calendar_period_at(calendar, start, &start, &end);
        kept[i] = start + (i == 0 ? 0 : (i % 3 - 1) * WEIR_HOUR); /* the clocks went by other rules */
    }
    weir_calendar_keep(catalog, calendar, kept, 30);
    for (uint32_t number = 1; number < 14; number++) {
        struct weir_term term, found;
        weir_contract_term(contract, number, &term);
        cr_expect_eq(term.starts_at, kept[2 * (number - 1)], "term %u", number);
        cr_expect_eq(term.ends_at, kept[2 * number], "term %u", number);
        weir_contract_term_at(contract, term.ends_at - 1, &found);
        cr_expect_eq(found.number, number);
    }
    weir_catalog_free(catalog);
}

Test(terms, end_with_the_contract)
{
    struct weir_catalog *catalog =
        parse("2026-01-01T00:00:00Z",
              "\"ends_at\":\"2027-03-10T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":"
              "\"UTC\",\"renews\":{\"months\":12}",
              "");
    struct weir_term term;
    weir_contract_term_at(catalog->contracts, at("2027-03-09T23:59:59Z"), &term);
    cr_expect(term.number == 2 && term.ends_at == at("2027-03-10T00:00:00Z")
              && term.renews_at == at("2028-01-01T00:00:00Z"));
    weir_catalog_free(catalog);
    catalog = parse("2026-01-01T00:00:00Z",
                    "\"ends_at\":\"2027-03-10T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":\"UTC\"", "");
    weir_contract_term_at(catalog->contracts, at("2027-03-09T23:59:59Z"), &term);
    cr_expect(term.number == 1 && term.ends_at == at("2027-03-10T00:00:00Z") && term.renews_at == WEIR_TIME_NEVER);
    weir_catalog_free(catalog);
}

/* Each term has an amount with times of its own, and the key says which. */
Test(terms, have_grants_of_their_own)
{
    struct weir_catalog *catalog =
        parse("2026-01-15T00:00:00Z", "\"billing_period\":\"month\",\"timezone\":\"UTC\",\"renews\":{\"months\":12}",
              "{\"key\":\"k\",\"type\":\"prepaid\",\"amount\":\"1\",\"per\":\"term\",\"rollover_fraction\":\"1\"},"
              "{\"key\":\"l\",\"type\":\"prepaid\",\"amount\":\"1\",\"per\":\"term\",\"months\":3,\"rollover_"
              "fraction\":\"1\","
              "\"rollover_months\":1}");
    const struct weir_contract *contract = catalog->contracts;
    struct weir_term term;
    weir_contract_term(contract, 2, &term);
    struct weir_commitment k = weir_commitment_of_term(contract, &contract->commitments[0], &term);
    struct weir_commitment l = weir_commitment_of_term(contract, &contract->commitments[1], &term);
    cr_expect(k.starts_at == at("2027-02-01T00:00:00Z") && k.expires_at == at("2028-02-01T00:00:00Z")
              && k.rollover_expires_at == at("2029-02-01T00:00:00Z"));
    cr_expect(l.starts_at == at("2027-02-01T00:00:00Z") && l.expires_at == at("2027-05-01T00:00:00Z")
              && l.rollover_expires_at == at("2027-06-01T00:00:00Z"));
    char text[WEIR_TERM_KEY_MAX];
    struct weir_slice key = weir_slice_text("0123456789012345678901234567890123456789012345678901234567890123");
    cr_expect(weir_slice_equal(weir_term_key(key, 1, text), key));
    cr_expect(weir_slice_equal(weir_term_key(k.key, 2, text), weir_slice_text("k+2")));
    cr_expect_eq(weir_term_key(key, UINT32_MAX, text).length, 75);
    static const struct {
        const char *key;
        bool is_one;
    } rows[] = {{"k", true},    {"k+2", true},   {"k+17", true},        {"k+", false},           {"kk", false},
                {"l+2", false}, {"k+2a", false}, {"k+rollover", false}, {"k+2+rollover", false}, {"", false}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(weir_commitment_grants(&contract->commitments[0], weir_slice_text(rows[i].key)), rows[i].is_one,
                     "%s", rows[i].key);
    weir_catalog_free(catalog);
}

/* From the first phase on in a term that lists it. */
Test(terms, list_what_their_phases_do)
{
    struct weir_catalog *catalog = parse("2026-01-01T00:00:00Z",
                                         "\"billing_period\":\"month\",\"timezone\":\"UTC\",\"renews\":{\"months\":12},"
                                         "\"phases\":[{\"key\":\"p\",\"starts_at\":"
                                         "\"2027-03-01T00:00:00Z\",\"commitments\":[{\"key\":\"k\",\"type\":"
                                         "\"prepaid\",\"amount\":\"1\",\"per\":\"term\"}]},"
                                         "{\"key\":\"q\",\"starts_at\":\"2028-06-01T00:00:00Z\",\"commitments\":[]}]",
                                         "");
    static const char *const from[] = {NULL, "2027-03-01T00:00:00Z", "2028-01-01T00:00:00Z", NULL};
    for (uint32_t number = 1; number <= 4; number++) {
        struct weir_term term;
        int64_t found = 0;
        weir_contract_term(catalog->contracts, number, &term);
        bool is_listed = weir_term_lists(&catalog->contracts[1], &term, weir_slice_text("k"), &found);
        cr_expect(is_listed == (from[number - 1] != NULL) && (!is_listed || found == at(from[number - 1])), "%u",
                  number);
    }
    weir_catalog_free(catalog);
}
