/* What a checked catalog looks like, look-ups against brute force over random catalogs, limits at their edges, merging.
 */
#include <inttypes.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "common/model/currency.h"
#include "tests/unit/common/catalog_support.h"

static struct weir_catalog *must_parse(const char *json)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    enum weir_status status = weir_catalog_parse("test.json", json, strlen(json), &catalog, &mistakes);
    if (status != WEIR_OK)
        print_all(&mistakes);
    cr_assert_eq(status, WEIR_OK);
    weir_mistake_list_free(&mistakes);
    return catalog;
}

static size_t count_mistakes(const char *json)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    weir_catalog_parse("test.json", json, strlen(json), &catalog, &mistakes);
    size_t count = mistakes.count;
    weir_mistake_list_free(&mistakes);
    weir_catalog_free(catalog);
    return count;
}

static bool is(struct weir_slice slice, const char *text)
{
    return weir_slice_equal(slice, weir_slice_text(text));
}

static struct weir_decimal decimal(const char *text)
{
    struct weir_decimal value;
    cr_assert_eq(weir_decimal_parse(weir_slice_text(text), &value), WEIR_DECIMAL_OK);
    return value;
}

static bool equals(struct weir_decimal value, const char *text)
{
    return weir_decimal_compare(value, decimal(text)) == 0;
}

static int64_t at(const char *text)
{
    int64_t time;
    cr_assert(weir_time_parse(weir_slice_text(text), &time), "%s", text);
    return time;
}

/* 1. the full catalog, field by field */

Test(catalog, meters_as_written)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    json_t *json = full_catalog();
    cr_assert_eq(parse_json(json, &catalog, &mistakes), WEIR_OK);
    cr_expect_eq(catalog->meter_count, 8);
    for (uint32_t i = 0; i < catalog->meter_count; i++) {
        cr_expect_eq(catalog->meters[i].index, i);
        cr_expect(i == 0 || weir_slice_compare(catalog->meters[i - 1].key, catalog->meters[i].key) < 0);
    }
    const struct weir_meter *tokens = weir_catalog_meter(catalog, weir_slice_text("tokens"));
    cr_assert(tokens);
    cr_expect(is(tokens->event_type, "llm.completion"));
    cr_expect_eq(tokens->aggregation, WEIR_AGGREGATION_SUM);
    cr_expect_eq(tokens->window, WEIR_WINDOW_1H);
    cr_expect(is(catalog->paths[tokens->value_slot].text, "data.tokens"));
    cr_assert_eq(tokens->group_count, 3);
    cr_expect(is(tokens->groups[2].name, "request.tier"));
    const struct weir_path *path = &catalog->paths[tokens->groups[2].slot];
    cr_assert_eq(path->step_count, 3);
    cr_expect(is(path->text, "data.request.tier"));
    cr_expect(is(path->steps[0], "data") && is(path->steps[1], "request") && is(path->steps[2], "tier"));
    cr_assert_eq(tokens->where_count, 2);
    cr_expect_eq(tokens->where[0].slot, tokens->groups[1].slot, "data.region is one path");
    cr_expect_eq(tokens->where[0].value_count, 2);
    cr_expect(is(tokens->where[0].values[1], "us-east-1"));
    cr_expect(is(catalog->paths[tokens->where[1].slot].text, "source"));
    cr_expect_eq(weir_catalog_meter(catalog, weir_slice_text("requests"))->value_slot, UINT32_MAX);
    cr_expect(weir_catalog_meter(catalog, weir_slice_text("storage"))->rollup_sum);
    cr_expect_not(weir_catalog_meter(catalog, weir_slice_text("latency"))->rollup_sum);
    cr_expect_null(weir_catalog_meter(catalog, weir_slice_text("token")));
    for (uint32_t i = 0; i < catalog->path_count; i++)
        for (uint32_t j = 0; j < i; j++)
            cr_expect_not(weir_slice_equal(catalog->paths[i].text, catalog->paths[j].text));
    weir_catalog_free(catalog);
    json_decref(json);
}

Test(catalog, prices_as_written)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    json_t *json = full_catalog();
    cr_assert_eq(parse_json(json, &catalog, &mistakes), WEIR_OK);
    const struct weir_price_book *book = weir_catalog_book(catalog, weir_slice_text("standard"));
    cr_assert(book);
    cr_expect_eq(book->version_count, 2);
    cr_expect_eq(book->currency_places, 2);
    cr_expect_eq(book->rounding, WEIR_HALF_EVEN);
    cr_expect_null(weir_price_book_at(book, at("2025-01-01T00:00:00Z") - 1));
    cr_expect_eq(weir_price_book_at(book, at("2025-01-01T00:00:00Z"))->version, 1);
    cr_expect_eq(weir_price_book_at(book, at("2026-01-01T00:00:00Z") - 1)->version, 1);
    const struct weir_price_book_version *version = weir_price_book_at(book, at("2026-01-01T00:00:00Z"));
    cr_expect_eq(version->version, 2);
    cr_expect_eq(version->book, book);
    const struct weir_meter *tokens = weir_catalog_meter(catalog, weir_slice_text("tokens"));
    struct weir_slice texts[3] = {weir_slice_text("small"), weir_slice_text("eu-west-1"), weir_slice_text("")};
    const struct weir_price *price = weir_price_for(version, tokens, texts);
    cr_expect(is(price->key, "tokens"));
    cr_assert_eq(price->tier_count, 3);
    cr_expect(price->tiers[0].has_up_to && equals(price->tiers[0].up_to, "1000000") && price->flat_fee_at_zero);
    cr_expect(equals(price->tiers[0].flat_fee, "5") && equals(price->tiers[1].flat_fee, "0"));
    cr_expect(!price->tiers[2].has_up_to && equals(price->tiers[2].unit_price, "0.000001"));
    cr_expect(equals(price->free_units, "1000") && price->has_minimum && price->has_maximum);
    cr_expect(equals(price->minimum_amount, "1") && equals(price->maximum_amount, "10000"));
    texts[0] = weir_slice_text("large");
    price = weir_price_for(version, tokens, texts);
    cr_expect(is(price->key, "tokens[model=large,region=eu-west-1]"));
    texts[1] = weir_slice_text("us-east-1");
    price = weir_price_for(version, tokens, texts);
    cr_expect(is(price->key, "tokens[model=large]") && equals(price->unit_price, "0.0000025"));
    cr_expect_not(price->has_minimum || price->has_maximum || price->flat_fee_at_zero);
    cr_expect_null(weir_price_for(version, weir_catalog_meter(catalog, weir_slice_text("lowest")), texts));
    cr_assert_eq(version->fee_count, 5);
    cr_expect(version->fees[4].is_per_unit && equals(version->fees[4].amount, "20") && !version->fees[0].is_per_unit);
    cr_expect(is(version->fees[0].key, "platform") && equals(version->fees[0].amount, "99"));
    cr_expect_eq(version->fees[0].charged, WEIR_FEE_IN_ADVANCE);
    cr_expect_eq(version->fees[1].charged, WEIR_FEE_IN_ARREARS);
    cr_expect(version->fees[0].per == WEIR_FEE_PER_PERIOD && version->fees[0].proration == WEIR_PRORATION_NONE);
    cr_expect_eq(version->fees[1].proration, WEIR_PRORATION_DAY);
    cr_expect_eq(version->fees[2].per, WEIR_FEE_PER_CONTRACT);
    cr_expect_eq(version->fees[3].per, WEIR_FEE_PER_YEAR);
    book = weir_catalog_book(catalog, weir_slice_text("tokyo"));
    cr_expect_eq(book->currency_places, 0);
    cr_expect_eq(book->rounding, WEIR_HALF_UP);
    weir_catalog_free(catalog);
    json_decref(json);
}

Test(catalog, contracts_as_written)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    json_t *json = full_catalog();
    cr_assert_eq(parse_json(json, &catalog, &mistakes), WEIR_OK);
    struct weir_slice acme = weir_slice_text("acme");
    int64_t turn = at("2026-01-01T00:00:00Z"), start, end;
    cr_expect_eq(weir_catalog_contract_at(catalog, acme, at("2025-01-01T00:00:00Z") - 1), catalog->default_contract);
    cr_expect(is(weir_catalog_contract_at(catalog, acme, turn - 1)->key, "acme-2025"));
    const struct weir_contract *contract = weir_catalog_contract_at(catalog, acme, turn);
    cr_expect(is(contract->key, "acme-2026"));
    cr_expect_eq(contract->ends_at, WEIR_TIME_NEVER);
    cr_expect_eq(contract->billing_period, WEIR_PERIOD_QUARTER);
    cr_assert_eq(contract->override_count, 2);
    cr_expect(is(contract->overrides[0].meter->key, "tokens") && equals(contract->overrides[0].multiplier, "0.85"));
    cr_assert_eq(contract->commitment_count, 5);
    /* By the contract's own package; and by the price book's, three whole. */
    cr_expect(equals(contract->commitments[3].amount, "5000.5") && equals(contract->commitments[3].price, "4000.4"));
    cr_expect(equals(contract->commitments[4].amount, "300") && equals(contract->commitments[4].price, "270"));
    cr_expect_eq(contract->commitments[4].package_count, 3);
    cr_expect_eq(contract->commitments[0].type, WEIR_COMMITMENT_MINIMUM_SPEND);
    cr_expect(equals(contract->commitments[0].overage_multiplier, "1"));
    cr_assert_eq(contract->quantity_count, 2); /* by time */
    cr_expect(is(contract->quantities[0].fee, "seat") && equals(contract->quantities[0].quantity, "10.5"));
    cr_expect_eq(contract->quantities[1].effective_from, at("2026-02-15T00:00:00Z"));
    cr_assert_eq(contract->discount_count, 2);
    const struct weir_discount *discount = &contract->discounts[0];
    cr_expect(is(discount->key, "launch") && discount->type == WEIR_DISCOUNT_PERCENTAGE);
    cr_expect(equals(discount->rate, "0.15") && discount->meter_count == 2);
    cr_expect(is(discount->meters[0]->key, "tokens") && is(discount->meters[1]->key, "requests"));
    cr_expect(discount->starts_at == at("2026-01-01T00:00:00Z") && discount->ends_at == at("2026-07-01T00:00:00Z"));
    cr_expect(discount[1].type == WEIR_DISCOUNT_AMOUNT && equals(discount[1].amount, "20"));
    cr_expect(discount[1].starts_at == 0 && discount[1].ends_at == WEIR_TIME_NEVER);
    cr_expect_eq(contract->commitments[0].expires_at, WEIR_TIME_NEVER);
    cr_expect_eq(contract->commitments[1].priority, 5);
    cr_expect_eq(contract->commitments[1].expires_at, at("2027-01-01T00:00:00.5Z"));
    cr_expect(is(contract->commitments[2].meter->key, "tokens") && equals(contract->commitments[2].quantity, "1e6"));
    weir_contract_period_at(contract, turn, &start, &end);
    cr_expect(start == turn && end == at("2026-04-01T00:00:00Z"));
    contract = weir_catalog_contract_at(catalog, weir_slice_text("日本"), at("2026-02-01T00:00:00+09:00"));
    cr_expect(is(contract->key, "nippon"));
    weir_contract_period_at(contract, at("2026-02-01T10:00:00+09:00"), &start, &end);
    cr_expect(start == at("2026-02-01T00:00:00+09:00") && end == at("2026-02-02T00:00:00+09:00"));
    uint32_t count;
    const struct weir_discount *discounts = weir_contract_discounts(contract, at("2026-02-01T00:00:00+09:00"), &count);
    cr_expect(!contract->has_own_discounts && discounts && count == 1 && is(discounts[0].key, "opening"));
    contract = weir_catalog_contract_at(catalog, weir_slice_text("nobody"), turn);
    cr_expect_eq(contract, catalog->default_contract);
    cr_expect(contract->key.length == 0 && contract->customer.length == 0 && contract->starts_at == 0
              && contract->ends_at == WEIR_TIME_NEVER);
    weir_contract_period_at(contract, at("1970-01-15T00:00:00Z"), &start, &end);
    cr_expect(start == 0 && end == at("1970-02-01T00:00:00Z"));
    weir_catalog_free(catalog);
    json_decref(json);
}

/* By the tier that holds the whole purchase; to the cent, as the book rounds. */
Test(catalog, packages_cost_what_their_size_says)
{
    static const struct {
        const char *amount, *price, *half_up;
    } rows[] = {
        {"0.000000000001", "0", "0"},
        {"0.005", "0", "0.01"},
        {"0.015", "0.02", "0.02"},
        {"1000", "1000", "1000"},
        {"1000.01", "900.01", "900.01"},
        {"1000.05", "900.04", "900.05"},
        {"1000.000000000001", "900", "900"},
        {"20000", "18000", "18000"},
        {"20000.01", "17000.01", "17000.01"},
    };
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    json_t *json = full_catalog();
    cr_assert_eq(parse_json(json, &catalog, &mistakes), WEIR_OK);
    const struct weir_contract *nobody = catalog->default_contract;
    struct weir_price_book book = *nobody->book;
    struct weir_slice key = weir_slice_text("any");
    cr_expect_eq(weir_contract_package(nobody, key, at("2026-01-01T00:00:00Z") - 1), NULL, "the version before");
    const struct weir_package *package = weir_contract_package(nobody, key, at("2026-01-01T00:00:00Z"));
    cr_assert(package);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        for (int half_up = 0; half_up < 2; half_up++) {
            struct weir_decimal amount = decimal(rows[i].amount), price;
            int64_t none = 0;
            book.rounding = half_up ? WEIR_HALF_UP : WEIR_HALF_EVEN;
            cr_assert(weir_package_buy(package, &book, &none, &amount, &price));
            cr_expect(equals(price, half_up ? rows[i].half_up : rows[i].price), "%s, %d", rows[i].amount, half_up);
        }
    weir_catalog_free(catalog);
    json_decref(json);
}

/* A contract's own price comes before the book's, whatever is more specific; the book's serve the rest. */
Test(catalog, prices_of_a_contract)
{
    struct weir_catalog *catalog = must_parse(
        "{\"meters\":[{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\",\"group_by\":"
        "[\"a\",\"b\"]},{\"key\":\"n\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}],"
        "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":\"2026-01-01T00:00:"
        "00Z\","
        "\"prices\":[{\"meter\":\"m\",\"model\":\"flat\",\"amount\":\"1\"},"
        "{\"meter\":\"m\",\"when\":{\"a\":\"x\",\"b\":\"y\"},\"model\":\"flat\",\"amount\":\"2\"},"
        "{\"meter\":\"m\",\"when\":{\"b\":\"z\"},\"model\":\"flat\",\"amount\":\"3\"}]}],"
        "\"contracts\":[{\"key\":\"c\",\"customer\":\"k\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:00Z\","
        "\"billing_period\":\"month\",\"timezone\":\"UTC\",\"prices\":["
        "{\"meter\":\"n\",\"model\":\"flat\",\"amount\":\"4\"},"
        "{\"meter\":\"m\",\"when\":{\"a\":\"x\"},\"model\":\"flat\",\"amount\":\"5\"}]}],"
        "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}");
    static const struct {
        const char *a, *b, *own, *list;
    } rows[] = {
        {"x", "y", "5", "2"}, {"x", "z", "5", "3"}, {"x", "", "5", "1"}, {"w", "z", "3", "3"}, {"", "", "1", "1"}};
    const struct weir_meter *m = weir_catalog_meter(catalog, weir_slice_text("m")),
                            *n = weir_catalog_meter(catalog, weir_slice_text("n"));
    int64_t time = at("2026-05-01T00:00:00Z");
    const struct weir_price_book_version *own = weir_price_book_at(catalog->contracts[0].book, time),
                                         *list = weir_price_book_at(catalog->default_contract->book, time);
    cr_assert(own->version == 1 && is(own->book->key, "b") && own->book == catalog->contracts[0].book);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weir_slice texts[] = {weir_slice_text(rows[i].a), weir_slice_text(rows[i].b)};
        cr_expect(equals(weir_price_for(own, m, texts)->amount, rows[i].own), "%zu", i);
        cr_expect(equals(weir_price_for(list, m, texts)->amount, rows[i].list), "%zu", i);
    }
    cr_expect(equals(weir_price_for(own, n, NULL)->amount, "4") && !weir_price_for(list, n, NULL));
    char found[64] = "";
    const struct weir_price *price;
    for (uint32_t next = 0; (price = weir_next_price(own, &next));)
        snprintf(found + strlen(found), sizeof found - strlen(found), "%.*s ", (int)price->key.length, price->key.data);
    cr_expect_str_eq(found, "m[a=x] n m[b=z] m ", "%s", found); /* not m[a=x,b=y], which nothing finds */
    weir_catalog_free(catalog);
}

/* A phase replaces what it names, and the rest goes on; looked up, each time finds the terms that hold. */
Test(catalog, phases_as_written)
{
    static const struct {
        const char *time, *phase, *starts_at, *ends_at;
        uint32_t overrides, prices, commitments;
    } rows[] = {
        {"2025-01-01T00:00:00Z", "", "2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z", 0, 1, 0},
        {"2025-03-31T23:59:59Z", "", "2025-01-01T00:00:00Z", "2025-04-01T00:00:00Z", 0, 1, 0},
        {"2025-04-01T00:00:00Z", "ramp", "2025-04-01T00:00:00Z", "2025-09-01T00:00:00Z", 1, 1, 0},
        {"2025-09-01T00:00:00Z", "amendment-2", "2025-09-01T00:00:00Z", "2026-01-01T00:00:00Z", 0, 1, 1},
    };
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    json_t *json = full_catalog();
    cr_assert_eq(parse_json(json, &catalog, &mistakes), WEIR_OK);
    cr_expect(weir_catalog_contract_count(catalog) == 4 && catalog->contract_count == 6);
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        int64_t time = at(rows[i].time), start, end;
        const struct weir_contract *contract = weir_catalog_contract_at(catalog, weir_slice_text("acme"), time);
        cr_assert(is(contract->key, "acme-2025") && is(contract->phase_key, rows[i].phase), "%s", rows[i].time);
        cr_expect(contract->starts_at == at(rows[i].starts_at) && contract->ends_at == at(rows[i].ends_at));
        cr_expect(contract->whole_starts_at == at("2025-01-01T00:00:00Z")
                  && contract->whole_ends_at == at("2026-01-01T00:00:00Z") && contract->phase_count == 3);
        cr_expect(contract->override_count == rows[i].overrides && contract->price_count == rows[i].prices
                      && contract->commitment_count == rows[i].commitments,
                  "%s", rows[i].time);
        cr_expect_eq(weir_contract_phase_at(contract, time), contract);
        cr_expect_eq(weir_contract_phase_at(contract - contract->phase, time), contract);
        weir_contract_period_at(contract, time, &start, &end);
        cr_expect(start <= time && time < end && start >= contract->starts_at && end <= contract->ends_at);
    }
    const struct weir_contract *amended =
        weir_catalog_contract_at(catalog, weir_slice_text("acme"), at("2025-10-01T00:00:00Z"));
    cr_expect(is(amended->reason, "ticket 4711") && is(amended->prices[0].meter->key, "requests"));
    weir_catalog_free(catalog);
    json_decref(json);
}

/* What was applied is read back whatever the zone's rules say by now. */
Test(catalog, phases_of_an_applied_catalog)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    json_t *json = full_catalog();
    change(json, "contracts/0/phases/0/starts_at", "\"2025-04-01T01:00:00Z\"");
    char *text = json_dumps(json, 0);
    cr_assert_eq(weir_catalog_parse("test.json", text, strlen(text), &catalog, &mistakes), WEIR_REJECT);
    weir_mistake_list_free(&mistakes);
    change(json, "price_books/0/prices", NULL); /* nothing that an hour would cut through */
    change(json, "price_books/1/prices", NULL);
    change(json, "contracts/0/prices", NULL);
    change(json, "contracts/0/phases/1/prices", NULL);
    change(json, "contracts/1/commitments/2", NULL); /* for some of them */
    change(json, "contracts/3/commitments/2", NULL);
    free(text);
    text = json_dumps(json, 0);
    cr_assert_eq(weir_catalog_parse("test.json", text, strlen(text), &catalog, &mistakes), WEIR_REJECT);
    cr_assert(mistakes.count == 1 && strcmp(mistakes.mistakes[0].kind, "within_period") == 0);
    weir_mistake_list_free(&mistakes);
    cr_assert_eq(weir_catalog_parse_applied("test.json", text, strlen(text), &catalog, &mistakes), WEIR_OK);
    weir_catalog_free(catalog);
    free(text);
    json_decref(json);
}

/* Which charge twice what is missing; a weir of before took them, and what it stored is to be read. */
Test(catalog, two_minimum_quantities_of_a_meter)
{
    static const char text[] =
        "{\"meters\":[{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"}],\"price_"
        "books\":[{"
        "\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2026-01-01T00:00:00Z\",\"prices\":[{"
        "\"meter\":\"m\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],\"contracts\":[{\"key\":\"c\",\"customer\":"
        "\"c\","
        "\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":\"UTC\","
        "\"commitments\":[{\"key\":\"one\",\"type\":\"minimum_quantity\",\"meter\":\"m\",\"quantity\":\"60\",\"per\":"
        "\"period\"}%s{\"key\":\"two\",\"type\":\"minimum_quantity\",\"meter\":\"m\",\"quantity\":\"100\",\"per\":\"%"
        "s\"}]%s}]}";
    static const struct {
        const char *between, *per, *after;
        bool is_taken, was_taken;
    } cases[] = {
        {",", "period", "", false, true},
        {",", "term", ",\"ends_at\":\"2027-01-01T00:00:00Z\"", false, false},
        {"],\"phases\":[{\"key\":\"later\",\"starts_at\":\"2026-02-01T00:00:00Z\",\"commitments\":[", "period", "}]",
         true, true},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        for (int applied = 0; applied < 2; applied++) {
            struct weir_catalog *catalog = NULL;
            struct weir_mistake_list mistakes = {0};
            char json[sizeof text + 128];
            snprintf(json, sizeof json, text, cases[i].between, cases[i].per, cases[i].after);
            enum weir_status status = (applied ? weir_catalog_parse_applied : weir_catalog_parse)(
                "test.json", json, strlen(json), &catalog, &mistakes);
            bool is_taken = applied ? cases[i].was_taken : cases[i].is_taken;
            cr_assert_eq(status, is_taken ? WEIR_OK : WEIR_REJECT, "%zu, applied %d: %s", i, applied,
                         mistakes.count ? mistakes.mistakes[0].text : "taken");
            cr_assert(is_taken || (mistakes.count == 1 && strstr(mistakes.mistakes[0].text, "charged twice")));
            weir_mistake_list_free(&mistakes);
            weir_catalog_free(catalog);
        }
}

/* Each length of period writes its anchor its own way. */
Test(catalog, anchors_as_written)
{
    static const struct {
        const char *period, *anchor, *text, *start, *end;
    } rows[] = {
        {"day", NULL, "", "2026-05-15T00:00:00Z", "2026-05-16T00:00:00Z"},
        {"week", NULL, "monday", "2026-05-11T00:00:00Z", "2026-05-18T00:00:00Z"},
        {"week", "\"sunday\"", "sunday", "2026-05-10T00:00:00Z", "2026-05-17T00:00:00Z"},
        {"month", NULL, "1", "2026-05-01T00:00:00Z", "2026-06-01T00:00:00Z"},
        {"month", "31", "31", "2026-04-30T00:00:00Z", "2026-05-31T00:00:00Z"},
        {"quarter", NULL, "01-01", "2026-04-01T00:00:00Z", "2026-07-01T00:00:00Z"},
        {"quarter", "\"11-30\"", "02-30", "2026-02-28T00:00:00Z", "2026-05-30T00:00:00Z"},
        {"year", NULL, "01-01", "2026-01-01T00:00:00Z", "2027-01-01T00:00:00Z"},
        {"year", "\"04-06\"", "04-06", "2026-04-06T00:00:00Z", "2027-04-06T00:00:00Z"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        char json[512], text[WEIR_ANCHOR_TEXT_MAX];
        int64_t start, end;
        snprintf(json, sizeof json,
                 "{\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":"
                 "\"2020-01-01T00:00:00Z\"}],\"default_contract\":{\"price_book\":\"b\",\"timezone\":\"UTC\","
                 "\"billing_period\":\"%s\"%s%s}}",
                 rows[i].period, rows[i].anchor ? ",\"billing_anchor\":" : "", rows[i].anchor ? rows[i].anchor : "");
        struct weir_catalog *catalog = must_parse(json);
        const struct weir_contract *contract = catalog->default_contract;
        weir_contract_period_at(contract, at("2026-05-15T12:00:00Z"), &start, &end);
        cr_expect(start == at(rows[i].start) && end == at(rows[i].end), "%s %s", rows[i].period, rows[i].text);
        weir_anchor_format(contract->billing_period, contract->billing_anchor, text);
        cr_expect_str_eq(text, rows[i].text);
        weir_catalog_free(catalog);
    }
}

/* A period is cut to the contract's term. */
Test(catalog, periods_are_cut)
{
    struct weir_catalog *catalog = must_parse(
        "{\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":\"2020-01-01T00:00:"
        "00Z\"}],"
        "\"contracts\":[{\"key\":\"c\",\"customer\":\"x\",\"price_book\":\"b\",\"starts_at\":\"2026-01-10T05:00:00Z\","
        "\"ends_at\":\"2026-02-03T06:07:08Z\",\"billing_period\":\"month\",\"timezone\":\"Europe/Berlin\"}]}");
    int64_t start, end;
    weir_contract_period_at(&catalog->contracts[0], at("2026-01-15T00:00:00Z"), &start, &end);
    cr_expect(start == at("2026-01-10T05:00:00Z") && end == at("2026-02-01T00:00:00+01:00"));
    weir_contract_period_at(&catalog->contracts[0], at("2026-02-02T00:00:00Z"), &start, &end);
    cr_expect(start == at("2026-02-01T00:00:00+01:00") && end == at("2026-02-03T06:07:08Z"));
    cr_expect_null(weir_catalog_contract_at(catalog, weir_slice_text("y"), 0));
    weir_catalog_free(catalog);
}

/* Identity of prices: sorted names, and no two prices of different `when` share a key. */
Test(catalog, price_keys_are_escaped)
{
    struct weir_catalog *catalog = must_parse(
        "{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\","
        "\"group_by\":[\"z\",\"a\"]}],"
        "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":\"2020-01-01T00:00:"
        "00Z\","
        "\"prices\":[{\"meter\":\"m\",\"when\":{\"z\":\"1,a=2]\\\\\",\"a\":\"\"},\"model\":\"flat\",\"amount\":\"1\"},"
        "{\"meter\":\"m\",\"when\":{\"z\":\"1\",\"a\":\"2\"},\"model\":\"flat\",\"amount\":\"1\"}]}]}");
    const struct weir_price *prices = catalog->books[0].versions[0].prices;
    cr_expect(is(prices[0].key, "m[a=,z=1\\,a\\=2\\]\\\\]"), "%.*s", (int)prices[0].key.length, prices[0].key.data);
    cr_expect(is(prices[1].key, "m[a=2,z=1]"));
    cr_expect_eq(prices[0].when[0].group, 1);
    weir_catalog_free(catalog);
}

/* 2. look-ups against brute force */

static uint64_t chance_state;
static uint32_t chance(uint32_t below)
{
    chance_state = chance_state * 6364136223846793005u + 1442695040888963407u;
    return (uint32_t)(chance_state >> 33) % below;
}

struct text {
    char *data;
    size_t length;
    FILE *stream;
};
/* The stream keeps pointers into *text, so text must stay where it is. */
static void text_begin(struct text *text)
{
    text->stream = open_memstream(&text->data, &text->length);
    cr_assert(text->stream);
}

static const char *const letters[] = {"", "a", "b", "c"};

/* Contracts of a few customers, one after the other with and without gaps, in random order. */
Test(catalog, contract_at_agrees_with_brute_force)
{
    enum { CUSTOMERS = 7, EACH = 12 };
    struct {
        unsigned customer, from, to;
    } terms[CUSTOMERS * EACH];
    chance_state = 7;
    for (int round = 0; round < 20; round++) {
        size_t count = 0;
        for (unsigned customer = 0; customer < CUSTOMERS; customer++)
            for (unsigned day = chance(5), n = chance(EACH); n > 0; n--) {
                unsigned from = day + chance(3), to = from + 1 + chance(9);
                terms[count].customer = customer;
                terms[count].from = from;
                terms[count++].to = day = to;
            }
        for (size_t i = 0; i + 1 < count; i++) {
            size_t j = i + chance((uint32_t)(count - i));
            __typeof__(terms[0]) swap = terms[i];
            terms[i] = terms[j];
            terms[j] = swap;
        }
        struct text text;
        text_begin(&text);
        fprintf(text.stream, "{\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":"
                             "\"2020-01-01T00:00:00Z\"}],\"contracts\":[");
        for (size_t i = 0; i < count; i++) {
            char from[WEIR_TIME_TEXT_MAX], to[WEIR_TIME_TEXT_MAX];
            weir_time_format(terms[i].from * WEIR_DAY, from);
            weir_time_format(terms[i].to * WEIR_DAY, to);
            fprintf(text.stream,
                    "%s{\"key\":\"k%zu\",\"customer\":\"%u\",\"price_book\":\"b\",\"starts_at\":\"%s\","
                    "\"ends_at\":\"%s\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}",
                    i ? "," : "", i, terms[i].customer, from, to);
        }
        fputs("]}", text.stream);
        fclose(text.stream);
        struct weir_catalog *catalog = must_parse(text.data);
        for (unsigned customer = 0; customer <= CUSTOMERS; customer++) {
            char name[24];
            snprintf(name, sizeof name, "%u", customer);
            for (int64_t half = 0; half < 300; half++) {
                char expected[24] = "";
                for (size_t i = 0; i < count; i++)
                    if (terms[i].customer == customer && 2 * terms[i].from <= half && half < 2 * terms[i].to)
                        snprintf(expected, sizeof expected, "k%zu", i);
                const struct weir_contract *contract =
                    weir_catalog_contract_at(catalog, weir_slice_text(name), half * WEIR_DAY / 2);
                cr_assert(contract ? is(contract->key, expected) : !*expected);
            }
        }
        weir_catalog_free(catalog);
        free(text.data);
    }
}

/* Random prices over three dimensions: those that check accepts have, for every split, one winner, which is the most
 * specific of those that hold; those that it calls ambiguous have a split with two. */
Test(catalog, price_for_agrees_with_brute_force)
{
    chance_state = 11;
    int accepted = 0, refused = 0;
    for (int round = 0; round < 3000; round++) {
        enum { PRICES_MAX = 8 };
        unsigned count = 1 + chance(PRICES_MAX), when[PRICES_MAX][3]; /* 0: any, else letters[n - 1] */
        struct text text;
        text_begin(&text);
        fputs(
            "{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\",\"group_by\":"
            "[\"y\",\"x\",\"z\"]},{\"key\":\"l\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\"}],"
            "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":"
            "\"2020-01-01T00:00:00Z\",\"prices\":[{\"meter\":\"l\",\"model\":\"flat\",\"amount\":\"1\"}",
            text.stream);
        for (unsigned i = 0; i < count; i++) {
            fprintf(text.stream, ",{\"meter\":\"m\",\"model\":\"flat\",\"amount\":\"%u\",\"when\":{", i);
            bool some = false;
            for (int d = 0; d < 3; d++) {
                when[i][d] = chance(2) ? 0 : 1 + chance(3);
                if (when[i][d])
                    fprintf(text.stream, "%s\"%c\":\"%s\"", some ? "," : "", "yxz"[d], letters[when[i][d] - 1]);
                some = some || when[i][d];
            }
            fputs("}}", text.stream);
        }
        fputs("]}]}", text.stream);
        fclose(text.stream);

        int winner[64];
        bool tie = false;
        for (int split = 0; split < 64; split++) {
            int best = -1, ties = 0;
            winner[split] = -1;
            for (unsigned i = 0; i < count; i++) {
                int keys = 0;
                bool holds = true;
                for (int d = 0; d < 3; d++) {
                    keys += when[i][d] != 0;
                    holds = holds && (!when[i][d] || when[i][d] - 1 == (unsigned)(split >> (2 * d)) % 4);
                }
                if (!holds || keys < best)
                    continue;
                ties = keys == best ? ties + 1 : 1;
                best = keys;
                winner[split] = (int)i;
            }
            tie = tie || ties > 1;
        }

        struct weir_catalog *catalog = NULL;
        struct weir_mistake_list mistakes = {0};
        enum weir_status status = weir_catalog_parse("test.json", text.data, text.length, &catalog, &mistakes);
        cr_assert_eq(status, tie ? WEIR_REJECT : WEIR_OK, "%s", text.data);
        if (status == WEIR_OK) {
            const struct weir_meter *meter = weir_catalog_meter(catalog, weir_slice_text("m"));
            for (int split = 0; split < 64; split++) {
                struct weir_slice texts[3];
                for (int d = 0; d < 3; d++)
                    texts[d] = weir_slice_text(letters[(split >> (2 * d)) % 4]);
                const struct weir_price *price = weir_price_for(&catalog->books[0].versions[0], meter, texts);
                cr_assert_eq(price ? (int)(price->amount.e12 / WEIR_DECIMAL_ONE) : -1, winner[split]);
            }
            const struct weir_meter *other = weir_catalog_meter(catalog, weir_slice_text("l"));
            cr_assert(is(weir_price_for(&catalog->books[0].versions[0], other, NULL)->key, "l"));
            accepted++;
        } else {
            refused++;
        }
        weir_catalog_free(catalog);
        weir_mistake_list_free(&mistakes);
        free(text.data);
    }
    cr_expect(accepted > 300 && refused > 300, "%d accepted, %d refused", accepted, refused);
}

Test(catalog, versions_and_keys_agree_with_brute_force)
{
    enum { BOOKS = 40, VERSIONS = 25 };
    struct text text;
    text_begin(&text);
    fputs("{\"price_books\":[", text.stream);
    for (int n = 0; n < BOOKS * VERSIONS; n++) {
        int i = n * 77 % (BOOKS * VERSIONS); /* another order: 77 and 1000 have no common factor */
        char from[WEIR_TIME_TEXT_MAX];
        weir_time_format((i % VERSIONS + 1) * 10 * WEIR_DAY, from);
        fprintf(text.stream, "%s{\"key\":\"b%d\",\"version\":%d,\"currency\":\"EUR\",\"effective_from\":\"%s\"}",
                n ? "," : "", i / VERSIONS, (i % VERSIONS + 1) * 3, from);
    }
    fputs("]}", text.stream);
    fclose(text.stream);
    struct weir_catalog *catalog = must_parse(text.data);
    cr_assert_eq(catalog->book_count, BOOKS);
    for (int b = 0; b < BOOKS; b++) {
        char key[24];
        snprintf(key, sizeof key, "b%d", b);
        const struct weir_price_book *book = weir_catalog_book(catalog, weir_slice_text(key));
        cr_assert(book && is(book->key, key) && book->version_count == VERSIONS);
        for (int64_t day = 0; day < 270; day++) {
            const struct weir_price_book_version *version = weir_price_book_at(book, day * WEIR_DAY);
            int64_t expected = day / 10 > VERSIONS ? VERSIONS : day / 10;
            cr_assert_eq(version ? version->version : 0, (uint32_t)expected * 3);
            cr_assert(!version || version->book == book);
        }
    }
    cr_expect_null(weir_catalog_book(catalog, weir_slice_text("b")));
    cr_expect_null(weir_catalog_book(catalog, weir_slice_text("")));
    weir_catalog_free(catalog);
    free(text.data);
}

/* 3. limits: the last that is good, the first that is not */

static size_t with_meters(int meters, int paths_each)
{
    struct text text;
    text_begin(&text);
    fputs("{\"meters\":[", text.stream);
    for (int i = 0; i < meters; i++) {
        fprintf(text.stream,
                "%s{\"key\":\"m%d\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\","
                "\"group_by\":[",
                i ? "," : "", i);
        for (int p = 0; p < paths_each; p++)
            fprintf(text.stream, "%s\"p%d\"", p ? "," : "", i * paths_each + p);
        fputs("]}", text.stream);
    }
    fputs("]}", text.stream);
    fclose(text.stream);
    size_t mistakes = count_mistakes(text.data);
    free(text.data);
    return mistakes;
}

Test(catalog, limits_of_meters_and_paths)
{
    cr_expect_eq(with_meters(WEIR_METERS_MAX, 0), 0);
    cr_expect_eq(with_meters(WEIR_METERS_MAX + 1, 0), 1);
    cr_expect_eq(with_meters(WEIR_PATHS_MAX / 8, 8), 0);
    cr_expect_eq(with_meters(WEIR_PATHS_MAX / 8 + 1, 8), 1, "said once");
    cr_expect_eq(with_meters(WEIR_PATHS_MAX, 1), 0);
    cr_expect_eq(with_meters(WEIR_PATHS_MAX + 1, 1), 1);
}

/* {...,"member":[entry,entry,...]}: printf format with one %d for the entry's number. */
static size_t with_entries(const char *head, const char *entry, int count, const char *tail)
{
    struct text text;
    text_begin(&text);
    fputs(head, text.stream);
    for (int i = 0; i < count; i++) {
        if (i)
            fputc(',', text.stream);
        for (const char *c = entry; *c; c++)
            if (*c == '#')
                fprintf(text.stream, "%d", i + 1);
            else
                fputc(*c, text.stream);
    }
    fputs(tail, text.stream);
    fclose(text.stream);
    size_t mistakes = count_mistakes(text.data);
    free(text.data);
    return mistakes;
}

#define ONE_METER                                                                                                      \
    "{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\",\"group_by\":["      \
    "\"d\"]}],"
#define ONE_BOOK                                                                                                       \
    "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"EUR\",\"effective_from\":\"2020-01-01T00:00:00Z\""

Test(catalog, limits_of_lists)
{
    static const struct {
        const char *head, *entry, *tail;
        int max;
    } rows[] = {
        {ONE_METER ONE_BOOK ",\"prices\":[{\"meter\":\"m\",\"model\":\"volume\",\"tiers\":[",
         "{\"up_to\":\"#\",\"unit_price\":\"1\"}", ",{\"up_to\":null,\"unit_price\":\"0\"}]}]}]}", WEIR_TIERS_MAX - 1},
        {ONE_METER ONE_BOOK ",\"prices\":[",
         "{\"meter\":\"m\",\"when\":{\"d\":\"#\"},\"model\":\"flat\",\"amount\":\"0\"}", "]}]}", WEIR_PRICES_MAX},
        {ONE_METER ONE_BOOK ",\"fees\":[",
         "{\"key\":\"f#\",\"amount\":\"1\",\"per\":\"period\",\"charged\":\"in_advance\"}", "]}]}", WEIR_FEES_MAX},
        {ONE_METER ONE_BOOK
         "}],\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"day\",\"timezone\":\"UTC\","
         "\"commitments\":[",
         "{\"key\":\"c#\",\"type\":\"prepaid\",\"amount\":\"1\",\"funding\":\"free\"}", "]}}", WEIR_COMMITMENTS_MAX},
        {"{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\",\"where\":{",
         "\"data.x#\":[\"a\"]", "}}]}", WEIR_WHERE_MAX},
        {"{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\",\"where\":"
         "{\"data.x\":[",
         "\"#\"", "]}}]}", WEIR_WHERE_VALUES_MAX},
        {"{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\",\"group_by\":[",
         "\"#\"", "]}]}", WEIR_DIMENSIONS_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        cr_expect_eq(with_entries(rows[i].head, rows[i].entry, rows[i].max, rows[i].tail), 0, "row %zu", i);
        cr_expect_eq(with_entries(rows[i].head, rows[i].entry, rows[i].max + 1, rows[i].tail), 1, "row %zu", i);
    }
}

/* Texts of exactly the most bytes, and one more. */
Test(catalog, limits_of_texts)
{
    static const struct {
        const char *place, *format;
        int max;
    } rows[] = {
        {"meters/7/key", "%s", WEIR_KEY_MAX},
        {"meters/7/event_type", "%s", WEIR_IDENTIFIER_MAX},
        {"meters/7/value", "data.%s", 64},
        {"meters/3/value", "%s", 64},
        {"meters/7/value", "data.123456789012345678901234567890123456789012345678901234567890.%s", 128 - 5 - 61},
        {"contracts/2/key", "%s", WEIR_KEY_MAX},
        {"contracts/2/customer", "%s", WEIR_IDENTIFIER_MAX},
        {"price_books/1/prices/2/when/model", "%s", WEIR_IDENTIFIER_MAX},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        for (int more = 0; more < 2; more++) {
            json_t *json = full_catalog();
            char filling[300], value[400], quoted[402];
            memset(filling, 'a', sizeof filling);
            filling[rows[i].max + more] = 0;
            snprintf(value, sizeof value, rows[i].format, filling);
            snprintf(quoted, sizeof quoted, "\"%s\"", value);
            change(json, rows[i].place, quoted);
            struct weir_catalog *catalog = NULL;
            struct weir_mistake_list mistakes = {0};
            parse_json(json, &catalog, &mistakes);
            cr_expect_eq(mistakes.count, (size_t)more, "%s with %d bytes", rows[i].place, rows[i].max + more);
            weir_catalog_free(catalog);
            weir_mistake_list_free(&mistakes);
            json_decref(json);
        }
    }
}

/* 4. files */

static void write_file(const char *folder, const char *name, const char *text)
{
    char path[300];
    snprintf(path, sizeof path, "%s/%s", folder, name);
    FILE *stream = fopen(path, "w");
    cr_assert(stream && fputs(text, stream) != EOF && fclose(stream) == 0);
}

static void remove_folder(const char *folder)
{
    char command[300];
    snprintf(command, sizeof command, "rm -r %s", folder);
    cr_assert_eq(system(command), 0);
}

#define METER_M "{\"meters\":[{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"count\",\"window\":\"1h\"}]}"

Test(catalog, folders_are_merged)
{
    char folder[] = "/tmp/weir-catalog-XXXXXX";
    cr_assert(mkdtemp(folder));
    write_file(folder, "b.json", METER_M);
    write_file(folder, "a.json", "{" ONE_BOOK ",\"prices\":[{\"meter\":\"m\",\"model\":\"flat\",\"amount\":\"1\"}]}]}");
    write_file(folder, "c.json",
               "{\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"day\",\"timezone\":\"UTC\"}}");
    write_file(folder, ".d.json", "no JSON, an editor's");
    write_file(folder, "README.md", "no JSON");
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    enum weir_status status = weir_catalog_load(folder, &catalog, &mistakes);
    print_all(&mistakes);
    cr_assert_eq(status, WEIR_OK);
    cr_expect(catalog->meter_count == 1 && catalog->book_count == 1 && catalog->default_contract);
    weir_catalog_free(catalog);
    remove_folder(folder);
}

Test(catalog, duplicates_across_files_name_both)
{
    char folder[] = "/tmp/weir-catalog-XXXXXX";
    cr_assert(mkdtemp(folder));
    write_file(folder, "1.json", METER_M);
    write_file(folder, "2.json", METER_M);
    write_file(folder, "3.json", "{\"meters\":[}");
    write_file(folder, "4.json",
               "{" ONE_BOOK
               "}],\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"day\",\"timezone\":\"UTC\"}}");
    write_file(folder, "5.json",
               "{\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"day\",\"timezone\":\"UTC\"}}");
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(weir_catalog_load(folder, &catalog, &mistakes), WEIR_REJECT);
    cr_assert_eq(mistakes.count, 3);
    cr_expect(strstr(mistakes.mistakes[0].file, "/2.json") && strstr(mistakes.mistakes[0].text, "/1.json"));
    cr_expect(strstr(mistakes.mistakes[1].file, "/3.json:1:"));
    cr_expect(strstr(mistakes.mistakes[2].file, "/5.json") && strstr(mistakes.mistakes[2].text, "/4.json"));
    cr_expect_str_eq(mistakes.mistakes[2].path, "$.default_contract");
    weir_mistake_list_free(&mistakes);
    remove_folder(folder);
}

Test(catalog, what_cannot_be_read_is_one_mistake)
{
    char folder[] = "/tmp/weir-catalog-XXXXXX";
    cr_assert(mkdtemp(folder));
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(weir_catalog_load(folder, &catalog, &mistakes), WEIR_REJECT);
    cr_assert_eq(mistakes.count, 1);
    cr_expect(strstr(mistakes.mistakes[0].text, "no *.json"));
    weir_mistake_list_free(&mistakes);
    char path[64];
    snprintf(path, sizeof path, "%s/missing", folder);
    cr_assert_eq(weir_catalog_load(path, &catalog, &mistakes), WEIR_REJECT);
    cr_assert_eq(mistakes.count, 1);
    cr_expect(strstr(mistakes.mistakes[0].text, "No such file"));
    cr_expect_str_eq(mistakes.mistakes[0].kind, "unreadable");
    weir_mistake_list_free(&mistakes);
    snprintf(path, sizeof path, "%s/a.json", folder);
    cr_assert_eq(mkdir(path, 0700), 0);
    cr_assert_eq(weir_catalog_load(folder, &catalog, &mistakes), WEIR_REJECT);
    cr_assert_eq(mistakes.count, 1);
    cr_expect(strstr(mistakes.mistakes[0].text, "directory"));
    weir_mistake_list_free(&mistakes);
    remove_folder(folder);
}

/* 5. size */

Test(catalog, a_hundred_thousand_contracts, .timeout = 120)
{
    static const char *const zones[] = {"UTC", "Europe/Berlin", "America/New_York", "Asia/Tokyo"};
    static const char *const periods[] = {"day", "week", "month", "quarter", "year"};
    enum { COUNT = 100000 };
    struct text text;
    text_begin(&text);
    fputs(ONE_METER ONE_BOOK ",\"prices\":[{\"meter\":\"m\",\"model\":\"flat\",\"amount\":\"1\"}]}],\"contracts\":[",
          text.stream);
    for (int i = 0; i < COUNT; i++)
        fprintf(text.stream,
                "%s{\"key\":\"k%d\",\"customer\":\"c%d\",\"price_book\":\"b\",\"starts_at\":"
                "\"20%02d-01-01T00:00:00Z\",\"ends_at\":\"20%02d-01-01T00:00:00Z\",\"billing_period\":\"%s\","
                "\"timezone\":\"%s\"}",
                i ? "," : "", i, i / 3, 25 + i % 3, 26 + i % 3, periods[i % 5], zones[i % 4]);
    fputs("]}", text.stream);
    fclose(text.stream);
    struct timespec before, after;
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &before);
    struct weir_catalog *catalog = must_parse(text.data);
    clock_gettime(CLOCK_PROCESS_CPUTIME_ID, &after);
    double seconds = (double)(after.tv_sec - before.tv_sec) + (double)(after.tv_nsec - before.tv_nsec) / 1e9;
    cr_log_info("%.2f s", seconds);
    cr_expect(seconds < 30, "%.2f s (also under sanitizers)", seconds);
    cr_expect_eq(catalog->contract_count, COUNT);
    for (int i = 0; i < COUNT; i += 997) {
        char customer[16], key[16];
        snprintf(customer, sizeof customer, "c%d", i / 3);
        snprintf(key, sizeof key, "k%d", i);
        int64_t time = weir_days_of_date(2025 + i % 3, 7, 1) * WEIR_DAY;
        cr_assert(is(weir_catalog_contract_at(catalog, weir_slice_text(customer), time)->key, key));
    }
    weir_catalog_free(catalog);
    free(text.data);
}

/* More mistakes than are listed: they are counted, and said to be. */
Test(catalog, too_many_mistakes_are_counted)
{
    struct text text;
    text_begin(&text);
    fputs("{\"contracts\":[0", text.stream);
    for (int i = 1; i < 100010; i++)
        fputs(",0", text.stream);
    fputs("]}", text.stream);
    fclose(text.stream);
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(weir_catalog_parse("test.json", text.data, text.length, &catalog, &mistakes), WEIR_REJECT);
    cr_assert_eq(mistakes.count, 100001);
    cr_expect_str_eq(mistakes.mistakes[100000].text, "10 more mistakes are not listed");
    weir_mistake_list_free(&mistakes);
    free(text.data);
}

Test(currency, places)
{
    static const struct {
        const char *code;
        int places;
    } rows[] = {{"USD", 2}, {"EUR", 2},   {"JPY", 0},  {"KWD", 3},  {"CLF", 4},  {"ZWG", 2},
                {"AED", 2}, {"UGX", 0},   {"TND", 3},  {"XXX", -1}, {"XAU", -1}, {"usd", -1},
                {"US", -1}, {"USDT", -1}, {"DEM", -1}, {"", -1},    {"SDU", -1}};
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++)
        cr_expect_eq(weir_currency_places(weir_slice_text(rows[i].code)), rows[i].places, "%s", rows[i].code);
}
