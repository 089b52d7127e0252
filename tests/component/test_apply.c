/* weir apply on a real PostgreSQL: what is stored, and every way of changing history that is refused. */
#include <jansson.h>

#include "common/model/catalog_document.h"
#include "postgres_database.h"
#include "rater/apply.h"
#include "rater/rate.h"

#define S(text) weir_slice_text(text)

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(apply, .fini = drop_database, .timeout = 600);

static void settle_until(json_t *json, const char *until);

/* The catalog that history was made with; each test changes it in one place. 2026-02 was rated: acme by its contract,
 * zoo by the default one, and a free rider's usage of `calls` stays unpriced. */
static const char catalog_text[] =
    "{'meters':[{'key':'tokens','event_type':'t','aggregation':'sum','value':'data.n','window':'1h','group_by':['model'"
    ",'region'],"
    "  'where':{'data.ok':['yes','si'],'data.v':['1']}},"
    " {'key':'calls','event_type':'c','aggregation':'count','window':'1h'},"
    " {'key':'peak','event_type':'c','aggregation':'max','value':'data.n','window':'1h'},"
    " {'key':'unused','event_type':'u','aggregation':'count','window':'1h'}],"
    "'price_books':[{'key':'standard','version':1,'currency':'USD','effective_from':'2026-01-01T00:00:00Z',"
    "  'prices':[{'meter':'tokens','model':'per_unit','unit_price':'0.50'},"
    "   {'meter':'tokens','when':{'model':'large'},'model':'graduated','tiers':[{'up_to':'10','unit_price':'1'},"
    "     {'up_to':null,'unit_price':'0.5','flat_fee':'2'}]}],"
    "  'fees':[{'key':'base','amount':'1','per':'period','charged':'in_arrears'},"
    "   {'key':'seat','amount':'2','per':'period','charged':'in_advance'}]},"
    " {'key':'standard','version':2,'currency':'USD','effective_from':'2026-03-01T00:00:00Z',"
    "  'prices':[{'meter':'tokens','model':'per_unit','unit_price':'0.40'}]},"
    " {'key':'spare','version':1,'currency':'EUR','rounding':'half_up','effective_from':'2026-01-01T00:00:00Z',"
    "  'prices':[{'meter':'unused','model':'flat','amount':'7'}]}],"
    "'contracts':[{'key':'acme-1','customer':'acme','price_book':'standard','starts_at':'2026-01-01T00:00:00Z',"
    "  'billing_period':'month','timezone':'UTC','overrides':[{'meter':'tokens','multiplier':'0.5'}],"
    "  'commitments':[{'key':'floor','type':'minimum_spend','amount':'5','per':'period'}]},"
    " {'key':'idle-1','customer':'idle','price_book':'spare','starts_at':'2026-01-01T00:00:00Z','ends_at':'2026-06-"
    "01T00:00:00Z',"
    "  'billing_period':'month','timezone':'UTC'}],"
    "'default_contract':{'price_book':'standard','billing_period':'month','timezone':'UTC'}}";

#define PHASE(key, from, rest) "{'key':'" key "','starts_at':'" from "T00:00:00Z'," rest "}"
#define DISCOUNT(from)                                                                                                 \
    "[{'key':'off','type':'percentage','rate':'0.1','meters':['tokens'],'starts_at':'" from "T00:00:00Z'}]"

static json_t *catalog_json(void)
{
    char *text = strdup(catalog_text);
    for (char *c = text; *c; c++)
        *c = *c == '\'' ? '"' : *c;
    json_t *catalog = json_loads(text, 0, NULL);
    cr_assert(catalog);
    free(text);
    return catalog;
}

static struct weir_apply_report apply(json_t *catalog, bool dry_run)
{
    struct weir_apply_report report = {0};
    struct weir_error error;
    char *text = json_dumps(catalog, 0);
    enum weir_status status = weir_apply_catalog(database.url, text, strlen(text), dry_run, &report, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
    free(text);
    return report;
}

static void rate_one(struct weir_rater *rater, const char *customer, const char *meter, const char *start_text)
{
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_error error;
    bool has_groups = strcmp(meter, "tokens") == 0;
    struct weir_series series = {.meter = S(meter),
                                 .customer = S(customer),
                                 .dimension_count = has_groups ? 2 : 0,
                                 .dimensions = {{S("model"), S("large")}, {S("region"), S("eu")}}};
    int64_t start;
    cr_assert(weir_time_parse(S(start_text), &start));
    struct weir_lane_window window = {.lane = S("events:0"),
                                      .window = {weir_slice_of(key, weir_series_write(&series, key)),
                                                 start,
                                                 start + WEIR_HOUR,
                                                 {.events = 3, .value = weir_decimal_of(3)}}};
    cr_assert_eq(weir_rater_rate(rater, &window, 1, &error), WEIR_OK, "%s", error.text);
}

/* Applies the catalog and rates some of February with it. */
static void make_history(bool applied)
{
    struct weir_catalog *catalog = NULL;
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_mistake_list mistakes = {0};
    struct weir_error error;

    database_make(&database);
    json_t *json = catalog_json();
    if (applied) {
        struct weir_apply_report report = apply(json, false);
        cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
        weir_apply_report_free(&report);
        cr_assert_eq(weir_apply_load_catalog(database.url, &catalog, &error), WEIR_OK, "%s", error.text);
    } else {
        char *text = json_dumps(json, 0);
        cr_assert_eq(weir_catalog_parse("folder", text, strlen(text), &catalog, &mistakes), WEIR_OK);
        free(text);
    }
    json_decref(json);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    rate_one(rater, "acme", "tokens", "2026-02-10T00:00:00Z");
    rate_one(rater, "acme", "tokens", "2026-02-10T05:00:00Z");
    rate_one(rater, "zoo", "tokens", "2026-02-12T00:00:00Z");
    rate_one(rater, "rider", "calls", "2026-02-12T00:00:00Z");
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

/* 1. stored */
Test(apply, stores_and_reads_back)
{
    struct weir_catalog *catalog = NULL;
    struct weir_error error;

    database_make(&database);
    cr_assert_eq(weir_apply_load_catalog(database.url, &catalog, &error), WEIR_REJECT);
    cr_assert(strstr(error.text, "weir apply"), "%s", error.text);
    json_t *json = catalog_json();
    struct weir_apply_report report = apply(json, true);
    cr_assert(report.outcome == WEIR_APPLY_STORED && report.catalog_version == 0);
    weir_apply_report_free(&report);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.catalog_versions"), 0, "a dry run stored");
    report = apply(json, false);
    cr_assert(report.outcome == WEIR_APPLY_STORED && report.catalog_version == 1);
    cr_assert_eq(report.count, 10); /* 4 meters, 3 versions, 2 contracts, the default contract */
    weir_apply_report_free(&report);
    report = apply(json, false);
    cr_assert(report.outcome == WEIR_APPLY_UNCHANGED && report.catalog_version == 1 && report.count == 0);
    weir_apply_report_free(&report);
    cr_assert_eq(weir_apply_load_catalog(database.url, &catalog, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(catalog->meter_count, 4);
    weir_catalog_free(catalog);
    char *rows =
        ask_text(&database,
                 "SELECT concat((SELECT count(*) FROM weir.meters), ' ', (SELECT count(*) FROM weir.contracts), ' ',"
                 " (SELECT count(*) FROM weir.price_book_versions), ' ', (SELECT string_agg(concat_ws('/', price_book,"
                 " currency, currency_places, rounding), ' ' ORDER BY price_book) FROM weir.price_books))");
    cr_assert_str_eq(rows, "4 3 3 spare/EUR/2/half_up standard/USD/2/half_even", "%s", rows);
    free(rows);
    json_decref(json);
}

/* The same said otherwise is the same. */
Test(apply, compares_by_meaning)
{
    make_history(true);
    json_t *json = catalog_json();
    json_t *price =
        json_array_get(json_object_get(json_array_get(json_object_get(json, "price_books"), 0), "prices"), 0);
    json_object_set_new(price, "unit_price", json_string("0.5"));
    json_object_set_new(price, "free_units", json_string("0.00"));
    json_t *book = json_array_get(json_object_get(json, "price_books"), 0);
    json_object_set_new(book, "rounding", json_string("half_even"));
    json_object_set_new(book, "effective_from", json_string("2026-01-01T01:00:00+01:00"));
    json_t *fees = json_object_get(book, "fees");
    json_array_append(fees, json_array_get(fees, 0));
    json_array_remove(fees, 0);
    json_t *where = json_object_get(json_array_get(json_object_get(json, "meters"), 0), "where");
    json_object_set_new(where, "data.ok", json_pack("[s,s]", "si", "yes"));
    json_t *contract = json_array_get(json_object_get(json, "contracts"), 0);
    json_object_set_new(contract, "ends_at", json_null());
    json_object_set_new(contract, "billing_anchor", json_integer(1));
    json_t *meters = json_object_get(json, "meters");
    json_array_append(meters, json_array_get(meters, 0));
    json_array_remove(meters, 0);
    struct weir_apply_report report = apply(json, false);
    for (size_t i = 0; i < report.count; i++)
        cr_log_info("%s", report.lines[i]);
    cr_assert_eq(report.outcome, WEIR_APPLY_UNCHANGED, "%s", report.count ? report.lines[0] : "");
    weir_apply_report_free(&report);
    json_decref(json);
}

/* 2. changes */

/* "price_books/0/prices/1/model": the parent of the last step, and the step. */
static json_t *parent_of(json_t *root, const char *path, char step[64])
{
    for (;;) {
        size_t length = strcspn(path, "/");
        snprintf(step, 64, "%.*s", (int)length, path);
        if (!path[length])
            return root;
        root = json_is_array(root) ? json_array_get(root, strtoul(step, NULL, 10)) : json_object_get(root, step);
        cr_assert(root, "%s", path);
        path += length + 1;
    }
}

/* Sets the value (JSON with ' for "; NULL: removes it) at a path; a number beyond a list's end appends. */
static void change(json_t *root, const char *path, const char *value_text)
{
    char step[64], text[2048];
    json_t *parent = parent_of(root, path, step), *value = NULL;

    if (value_text) {
        snprintf(text, sizeof text, "%s", value_text);
        for (char *c = text; *c; c++)
            *c = *c == '\'' ? '"' : *c;
        value = json_loads(text, JSON_DECODE_ANY, NULL);
        cr_assert(value, "%s", text);
    }
    size_t index = strtoul(step, NULL, 10);
    if (!json_is_array(parent))
        value ? json_object_set_new(parent, step, value) : json_object_del(parent, step);
    else if (!value)
        json_array_remove(parent, index);
    else if (index < json_array_size(parent))
        json_array_set_new(parent, index, value);
    else
        json_array_append_new(parent, value);
}

struct attempt {
    const char *path, *value;
    const char *says; /* of the refusal; NULL: it is allowed */
};

static void try_all(const struct attempt *attempts, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *json = catalog_json();
        change(json, attempts[i].path, attempts[i].value);
        struct weir_apply_report report = apply(json, true);
        if (attempts[i].says) {
            cr_assert_eq(report.outcome, WEIR_APPLY_REFUSED, "%s = %s is allowed", attempts[i].path, attempts[i].value);
            bool is_said = false;
            for (size_t j = 0; j < report.count; j++)
                is_said = is_said || strstr(report.lines[j], attempts[i].says);
            cr_assert(is_said, "%s = %s: %s", attempts[i].path, attempts[i].value, report.lines[0]);
            cr_assert(strchr(report.lines[0], ':') && !strchr(report.lines[0], '\n'), "%s", report.lines[0]);
        } else {
            cr_assert_eq(report.outcome, WEIR_APPLY_STORED, "%s = %s: %s", attempts[i].path, attempts[i].value,
                         report.count ? report.lines[0] : "nothing changed");
            cr_assert_geq(report.count, 1);
        }
        weir_apply_report_free(&report);
        json_decref(json);
    }
}

#define TRY(...)                                                                                                       \
    static const struct attempt attempts[] = {__VA_ARGS__};                                                            \
    try_all(attempts, sizeof attempts / sizeof *attempts)

Test(apply, versions)
{
    make_history(true);
    TRY({"price_books/0/prices/0/unit_price", "'0.51'", "standard' version 1"},
        {"price_books/0/prices/1/tiers/1/flat_fee", "'3'", "standard' version 1"},
        {"price_books/0/prices/0/maximum_amount", "'3'", "standard' version 1"},
        {"price_books/0/fees/0/amount", "'3'", "standard' version 1"},
        {"price_books/0/fees/1/charged", "'in_arrears'", "standard' version 1"},
        {"price_books/0/fees/2", "{'key':'x','amount':'1','per':'period','charged':'in_advance'}",
         "version never changes"},
        {"price_books/0/prices/1/when/model", "'small'", "standard' version 1"},
        {"price_books/0/prices/2", "{'meter':'calls','model':'flat','amount':'1'}", "standard' version 1"},
        {"price_books/0/effective_from", "'2026-01-02T00:00:00Z'", "standard' version 1"},
        {"price_books/1/prices/0/unit_price", "'0.41'", "standard' version 2"}, /* not rated yet, and still a version */
        {"price_books/0", NULL, "standard' version 1 has rated usage and is missing"},
        {"price_books/2/rounding", "'half_even'", "spare' version 1"},
        {"price_books/1", NULL, NULL}, /* never rated: may go */
        /* a new version may not reach back before what is rated... */
        {"price_books/1",
         "{'key':'standard','version':3,'currency':'USD','effective_from':'2026-02-12T00:00:00Z','prices':[{'meter':'"
         "tokens','model':'per_unit','unit_price':'1'}]}",
         "version 3 takes effect 2026-02-12T00:00:00Z"},
        /* ...but may take effect after it */
        {"price_books/1",
         "{'key':'standard','version':3,'currency':'USD','effective_from':'2026-02-12T00:00:01Z','prices':[{'meter':'"
         "tokens','model':'per_unit','unit_price':'1'}]}",
         NULL},
        {"price_books/3",
         "{'key':'standard','version':3,'currency':'USD','effective_from':'2026-05-01T00:00:00Z','prices':[{'meter':'"
         "tokens','model':'per_unit','unit_price':'1'}]}",
         NULL},
        {"price_books/3",
         "{'key':'spare','version':2,'currency':'EUR','rounding':'half_up','effective_from':'2026-02-01T00:00:00Z'}",
         NULL});
}

/* A version, and what apply says of it beside the catalog; NULL: it is stored. */
struct judged {
    const char *value, *says;
};

static void judge_versions(const json_t *json, const struct judged *versions, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        json_t *with = json_deep_copy(json);
        change(with, "price_books/2", versions[i].value);
        struct weir_apply_report report = apply(with, true);
        cr_assert_eq(report.outcome, versions[i].says ? WEIR_APPLY_REFUSED : WEIR_APPLY_STORED, "%s: %s",
                     versions[i].value, report.count ? report.lines[0] : "");
        cr_assert(!versions[i].says || strstr(report.lines[0], versions[i].says), "%s: %s", versions[i].value,
                  report.lines[0]);
        weir_apply_report_free(&report);
        json_decref(with);
    }
}

/* A period that began without usage is charged all the same, and so is one that ended. */
Test(apply, a_version_from_before_what_was_charged)
{
#define VERSION(from, book, currency)                                                                                  \
    "{'key':'" book "','version':9,'currency':'" currency "','effective_from':'" from                                  \
    "T00:00:00Z','prices':[{'meter':'tokens','model':'per_unit','unit_price':'1'}]}"
    json_t *json = catalog_json();

    database_make(&database);
    change(json, "price_books/1", NULL); /* its fees go on in March */
    settle_until(json, "2026-04-05T00:00:00Z");
    static const struct judged versions[] = {
        {VERSION("2026-02-11", "standard", "USD"), "the period from 2026-03-01T00:00:00Z on was charged by another"},
        {VERSION("2026-04-01", "standard", "USD"), "the period from 2026-04-01T00:00:00Z on was charged by another"},
        {VERSION("2026-04-02", "standard", "USD"), NULL},
        {VERSION("2026-02-11", "other", "USD"), NULL},
    };
    judge_versions(json, versions, sizeof versions / sizeof *versions);
    json_decref(json);
}

/* March began, and February ended, without a fee that the version brings: no line item says so. */
Test(apply, a_version_with_a_fee_that_was_not_charged)
{
#define FEES(from, charged)                                                                                            \
    "{'key':'standard','version':9,'currency':'USD','effective_from':'" from                                           \
    "T00:00:00Z','prices':[],'fees':[{'key':'late','amount':'1','per':'period','charged':'" charged "'}]}"
    json_t *json = catalog_json();

    database_make(&database);
    change(json, "price_books/1", NULL);
    change(json, "price_books/0/fees", "[]");
    change(json, "contracts/0/commitments", NULL);
    settle_until(json, "2026-04-05T00:00:00Z");
    static const struct judged versions[] = {
        {FEES("2026-04-01", "in_advance"), "period from 2026-04-01T00:00:00Z on was charged without its fee 'late'"},
        {FEES("2026-03-01", "in_arrears"), "period from 2026-03-01T00:00:00Z on was charged without its fee 'late'"},
        {FEES("2026-04-01", "in_arrears"), NULL},
        {FEES("2026-04-02", "in_advance"), NULL},
        {VERSION("2026-04-01", "standard", "USD"), NULL},
    };
    judge_versions(json, versions, sizeof versions / sizeof *versions);
    json_decref(json);
}

/* What is missing to a minimum quantity is priced at the period's end. */
Test(apply, a_version_from_before_a_missing_quantity)
{
    json_t *json = catalog_json();

    database_make(&database);
    change(json, "price_books/1", NULL);
    change(json, "price_books/0/fees", "[]");
    change(json, "contracts/0/commitments",
           "[{'key':'least','type':'minimum_quantity','meter':'tokens','quantity':'50','per':'period'}]");
    settle_until(json, "2026-03-01T00:00:00Z");
    static const struct judged versions[] = {
        {VERSION("2026-02-28", "standard", "USD"), "the period from 2026-02-01T00:00:00Z on was charged by another"},
        {VERSION("2026-03-01", "standard", "USD"), NULL},
    };
    judge_versions(json, versions, sizeof versions / sizeof *versions);
    json_decref(json);
}

Test(apply, meters)
{
    make_history(true);
    TRY({"meters/0/aggregation", "'avg'", "meter 'tokens' has rated usage, and its aggregation changed"},
        {"meters/0/value", "'data.other'", "its value changed"}, {"meters/0/window", "'15m'", "its window changed"},
        {"meters/0/group_by", "['model','region','zone']", "its group_by changed"},
        {"meters/0/group_by", "['region','model']", "its group_by changed"},
        {"meters/1/window", "'1d'",
         "meter 'calls' has rated usage, and its window changed"}, /* unpriced usage is usage */
        {"meters/1", NULL, "meter 'calls' has rated usage and is missing"}, {"meters/0/where/data.ok", "['yes']", NULL},
        {"meters/0/event_type", "'t2'", NULL}, {"meters/2/rollup", "'sum'", NULL}, {"meters/3/window", "'1d'", NULL},
        {"meters/2", NULL, NULL},
        {"meters/4", "{'key':'new','event_type':'u','aggregation':'count','window':'1h'}", NULL});
}

/* A grant that was ordered has its key for good: under acme's contract, and zoo's under the default one. */
Test(apply, keys_of_what_was_ordered)
{
#define PREPAID(key) "{'key':'" key "','type':'prepaid','amount':'5','funding':'free'}"
    make_history(true);
    sql_on(database.admin,
           "INSERT INTO weir.customers VALUES ('zoo') ON CONFLICT DO NOTHING;"
           "INSERT INTO weir.grant_orders (customer, contract, grant_key, currency, amount, funding, price, priority,"
           " starts_at, expires_at, meters, overage_multiplier, rollover_fraction, reason, ordered_by) SELECT customer,"
           " contract, grant_key, 'USD', 5, 'free', 0, 0, '2026-02-01', '2027-01-01', '{}', 1, 0, 'ticket 1', 'me@here'"
           " FROM (VALUES ('acme', 'acme-1', 'pack'), ('zoo', '', 'gift')) AS o (customer, contract, grant_key)");
    TRY({"contracts/0/phases", "[" PHASE("p", "2026-05-01", "'commitments':[" PREPAID("pack") "]") "]",
         "commitment 'pack' of contract 'acme-1': a grant of customer 'acme' was ordered with that key, and both would "
         "be "
         "one item: give the commitment another key"},
        {"contracts/0/phases", "[" PHASE("p", "2026-05-01", "'commitments':[" PREPAID("gift") "]") "]", NULL},
        {"contracts/1/commitments", "[" PREPAID("pack") "]", NULL},
        {"price_books/3",
         "{'key':'standard','version':3,'currency':'USD','effective_from':'2026-05-01T00:00:00Z','prices':[],"
         "'fees':[{'key':'pack','amount':'1','per':'period','charged':'in_advance'}]}",
         "fee 'pack' of contract 'acme-1'"},
        {"price_books/3",
         "{'key':'standard','version':3,'currency':'USD','effective_from':'2026-05-01T00:00:00Z','prices':[],"
         "'fees':[{'key':'gift','amount':'1','per':'period','charged':'in_advance'}]}",
         "fee 'gift' under the default contract: a grant of customer 'zoo'"},
        {"meters/4", "{'key':'gift','event_type':'u','aggregation':'count','window':'1h'}", "meter 'gift'"},
        {"meters/4", "{'key':'other','event_type':'u','aggregation':'count','window':'1h'}", NULL});
}

/* What was stored beside an order by an earlier weir does not hold up what else is applied. */
Test(apply, a_key_that_was_there_beside_the_order)
{
    make_history(true);
    sql_on(
        database.admin,
        "INSERT INTO weir.grant_orders (customer, contract, grant_key, currency, amount, funding, price, priority,"
        " starts_at, expires_at, meters, overage_multiplier, rollover_fraction, reason, ordered_by) VALUES ('acme',"
        " 'acme-1', 'floor', 'USD', 5, 'free', 0, 0, '2026-02-01', '2027-01-01', '{}', 1, 0, 'ticket 1', 'me@here')");
    TRY({"meters/4", "{'key':'other','event_type':'u','aggregation':'count','window':'1h'}", NULL});
}

Test(apply, contracts)
{
    make_history(true);
    TRY({"contracts/0/customer", "'acme2'", "contract 'acme-1' has rated periods, and its customer changed"},
        {"contracts/0/price_book", "'spare'", "its price_book changed"},
        {"contracts/0/starts_at", "'2026-01-02T00:00:00Z'", "its starts_at changed"},
        {"contracts/0/billing_period", "'quarter'", "its billing_period changed"},
        {"contracts/0/billing_anchor", "15", "its billing_anchor changed"},
        {"contracts/0/timezone", "'Europe/Berlin'", "its timezone changed"},
        {"contracts/0/prices", "[{'meter':'calls','model':'flat','amount':'1'}]", "its prices changed"},
        {"contracts/1/prices", "[{'meter':'calls','model':'flat','amount':'1'}]", NULL},
        {"contracts/0/overrides/0/multiplier", "'0.6'", "its overrides changed"},
        {"contracts/0/overrides", NULL, "its overrides changed"},
        {"contracts/0/commitments/0/amount", "'6'", "its commitments changed"},
        {"contracts/0/commitments", NULL, "its commitments changed"},
        {"contracts/0", NULL, "contract 'acme-1' of customer 'acme' has rated periods and is missing"},
        {"contracts/0/ends_at", "'2026-02-10T05:00:00Z'", "its last rated window ends 2026-02-10T06:00:00Z"},
        {"contracts/0/ends_at", "'2026-02-10T06:00:00Z'", NULL},
        {"contracts/0/ends_at", "'2027-01-01T00:00:00Z'", NULL}, {"contracts/1/customer", "'idle2'", NULL},
        {"contracts/1/billing_period", "'day'", NULL}, {"contracts/1", NULL, NULL},
        /* zoo was billed by the default contract on 12 February, rider's usage has no price */
        {"contracts/2",
         "{'key':'zoo-1','customer':'zoo','price_book':'standard','starts_at':'2026-02-12T00:00:00Z','billing_period':'"
         "month','timezone':'UTC'}",
         "contract 'zoo-1' covers the window of 2026-02-12T00:00:00Z"},
        {"contracts/2",
         "{'key':'zoo-1','customer':'zoo','price_book':'standard','starts_at':'2026-02-12T01:00:00Z','billing_period':'"
         "month','timezone':'UTC'}",
         NULL},
        {"contracts/2",
         "{'key':'zoo-1','customer':'zoo','price_book':'standard','starts_at':'2026-01-01T00:00:00Z','ends_at':'2026-"
         "02-12T00:00:00Z','billing_period':'month','timezone':'UTC'}",
         NULL},
        {"contracts/2",
         "{'key':'rider-1','customer':'rider','price_book':'spare','starts_at':'2026-01-01T00:00:00Z','billing_period':"
         "'month','timezone':'UTC'}",
         NULL},
        {"contracts/1/customer", "'zoo'", "contract 'idle-1' covers the window"},
        {"default_contract/timezone", "'Europe/Berlin'",
         "default_contract has rated periods, and its timezone changed"},
        {"default_contract/price_book", "'spare'", "its price_book changed"},
        {"default_contract/discounts", DISCOUNT("2026-02-01"), "default_contract has rated periods, and its discounts"},
        {"default_contract/discounts", DISCOUNT("2026-02-02"), NULL},
        {"default_contract", NULL, "default_contract has rated periods and is missing"});
}

/* A prepaid amount of the contract in its currency, and one of another: by a catalog that a rerating could follow. */
Test(apply, a_contract_in_another_currency)
{
    static const struct {
        const char *commitments, *rows, *says;
    } attempts[] = {
        {"'credit'",
         "INSERT INTO weir.grants (customer, contract, grant_key, currency, funding, price, priority, starts_at,"
         " expires_at) VALUES ('acme', 'acme-1', 'credit', 'USD', 'paid', 5, 0, '2026-02-01', 'infinity')",
         "contract 'acme-1' is in EUR now, and its prepaid amount 'credit' has a balance in USD"},
        {"'other'", "SELECT", NULL},
        {"'other'",
         "INSERT INTO weir.grant_orders (customer, contract, grant_key, currency, amount, funding, price,"
         " priority, starts_at, expires_at, meters, overage_multiplier, rollover_fraction, reason, ordered_by)"
         " VALUES ('acme', 'acme-1', 'sorry', 'USD', 5, 'free', 0, 0, '2026-02-01', 'infinity', '{}', 1, 0,"
         " 'test', 'test')",
         "its prepaid amount 'sorry' has a balance in USD"},
    };

    make_history(true);
    for (size_t i = 0; i < sizeof attempts / sizeof *attempts; i++) {
        struct weir_apply_report report = {0};
        struct weir_error error;
        char commitments[128];
        sql_on(database.admin, attempts[i].rows);
        json_t *json = catalog_json();
        snprintf(commitments, sizeof commitments, "[{'key':%s,'type':'prepaid','amount':'5'}]",
                 attempts[i].commitments);
        change(json, "contracts/0/price_book", "'spare'");
        change(json, "contracts/0/overrides", NULL);
        change(json, "contracts/0/commitments", commitments);
        char *text = json_dumps(json, 0);
        cr_assert_eq(weir_apply_for_rerating(database.url, text, strlen(text), true, &report, &error), WEIR_OK, "%s",
                     error.text);
        cr_assert_eq(report.outcome, attempts[i].says ? WEIR_APPLY_REFUSED : WEIR_APPLY_STORED, "%zu: %s", i,
                     report.count ? report.lines[0] : "");
        cr_assert(!attempts[i].says || strstr(report.lines[0], attempts[i].says), "%zu: %s", i, report.lines[0]);
        weir_apply_report_free(&report);
        free(text);
        json_decref(json);
    }
}

/* A discount is for periods that begin in its time: acme's February is rated, March is not. */
Test(apply, discounts)
{
    make_history(true);
    TRY({"contracts/0/discounts", DISCOUNT("2026-02-02"), NULL},
        {"contracts/0/discounts", DISCOUNT("2026-02-01"),
         "until the one that starts 2026-02-01T00:00:00Z, and its discounts changed from 2026-02-01T00:00:00Z on"},
        {"contracts/0/discounts", "[{'key':'off','type':'percentage','rate':'0.1'}]",
         "its discounts changed from 2026-01-01T00:00:00Z on"},
        {"price_books/1/discounts", DISCOUNT("2026-03-01"), "standard' version 2 was applied with other content"},
        {"price_books/1/packages", "[{'key':'p','amount':'1','price':'1'}]",
         "standard' version 2 was applied with other content"},
        {"contracts/0/packages", "[{'key':'p','amount':'1','price':'1'}]", NULL},
        {"contracts/0/drawdown_order", "['expires_at']", "its drawdown_order changed from 2026-01-01T00:00:00Z on"},
        {"price_books/1/drawdown_order", "['expires_at']", "standard' version 2 was applied with other content"});
}

/* What is in force stays so when it is told to end. */
Test(apply, a_discount_that_ends)
{
    make_history(true);
    json_t *json = catalog_json();
    change(json, "contracts/0/discounts", DISCOUNT("2026-03-01"));
    struct weir_apply_report report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
    weir_apply_report_free(&report);
    change(json, "contracts/0/discounts/0/ends_at", "'2026-04-01T00:00:00Z'");
    report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
    cr_assert_str_eq(report.lines[0], "~ contract acme-1 of acme: discounts");
    weir_apply_report_free(&report);
    change(json, "contracts/0/packages", "[{'key':'p','amount':'1','price':'1'}]");
    report = apply(json, false);
    cr_assert_str_eq(report.lines[0], "~ contract acme-1 of acme: packages");
    weir_apply_report_free(&report);
    json_decref(json);
}

/* acme's February is rated: a phase may hold from March on. */
Test(apply, phases)
{
    make_history(true);
    TRY({"contracts/0/phases", "[" PHASE("p", "2026-03-01", "'overrides':[]") "]", NULL},
        {"contracts/0/phases", "[" PHASE("p", "2026-02-01", "'overrides':[]") "]",
         "until the one that starts 2026-02-01T00:00:00Z, and its overrides changed from 2026-02-01T00:00:00Z (phase "
         "'p')"},
        /* a phase that says what holds anyway */
        {"contracts/0/phases",
         "[" PHASE("p", "2026-02-01",
                   "'overrides':[{'meter':'tokens','multiplier':'0.50'}],'price_book':'standard'") "]",
         NULL},
        /* over after January, which had no usage */
        {"contracts/0/phases",
         "[" PHASE("p", "2026-02-01", "'commitments':[]") "," PHASE("q", "2026-03-01", "'commitments':[]") "]",
         "its commitments changed from 2026-02-01T00:00:00Z (phase 'p')"},
        /* nothing of idle was rated */
        {"contracts/1/phases", "[" PHASE("p", "2026-02-01", "'commitments':[]") "]", NULL});
}

/* What was planned may be changed until it is rated, and is shown. */
Test(apply, an_amendment)
{
    static const char *const lines[] = {
        "~ contract acme-1 of acme",
        "  - phase r from 2026-03-01T00:00:00Z: first year",
        "  ~ phase s from 2026-05-01T00:00:00Z",
        "  + phase a from 2026-06-01T00:00:00Z: amendment of 2026-02-20",
        "  ~ from 2026-03-01T00:00:00Z: overrides",
        "  ~ from 2026-04-01T00:00:00Z: overrides, commitments",
        "  ~ from 2026-05-01T00:00:00Z: overrides",
        "  ~ from 2026-06-01T00:00:00Z: prices, commitments",
    };
    make_history(true);
    json_t *json = catalog_json();
    change(json, "contracts/0/phases",
           "[" PHASE("r", "2026-03-01", "'reason':'first year','overrides':[]") "," PHASE("s", "2026-04-01",
                                                                                          "'commitments':[]") "]");
    struct weir_apply_report report = apply(json, false);
    cr_assert(report.outcome == WEIR_APPLY_STORED && report.count == 5, "%zu", report.count);
    weir_apply_report_free(&report);
    report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_UNCHANGED);
    weir_apply_report_free(&report);
    change(
        json, "contracts/0/phases",
        "[" PHASE("s", "2026-05-01", "'commitments':[]") "," PHASE(
            "a", "2026-06-01",
            "'reason':'amendment of 2026-02-20','overrides':[],'commitments':[{'key':'floor',"
            "'type':'minimum_spend','amount':'9','per':'period'}],'prices':[{'meter':'calls','model':'flat','amount':"
            "'1'}]") "]");
    report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
    for (size_t i = 0; i < sizeof lines / sizeof *lines; i++)
        cr_assert_str_eq(report.lines[i], lines[i], "%s", report.lines[i]);
    weir_apply_report_free(&report);
    change(json, "contracts/0/phases/1/reason", "'amendment 1'"); /* alters no charge, and is kept */
    report = apply(json, false);
    cr_assert(report.outcome == WEIR_APPLY_STORED
              && strcmp(report.lines[1], "  ~ phase a from 2026-06-01T00:00:00Z: amendment 1") == 0);
    weir_apply_report_free(&report);
    char *rows =
        ask_text(&database, "SELECT string_agg(concat_ws(' ', phase, reason, to_char(starts_at AT TIME ZONE 'UTC',"
                            " 'MM-DD'), to_char(ends_at AT TIME ZONE 'UTC', 'MM-DD'), price_book,"
                            " jsonb_array_length(prices), jsonb_array_length(overrides), commitments #>> '{0,"
                            "amount}'), ', ' ORDER BY starts_at) FROM weir.contract_terms WHERE contract ="
                            " 'acme-1'");
    cr_assert_str_eq(rows, "01-01 05-01 standard 0 1 5, s 05-01 06-01 standard 0 1, a amendment 1 06-01 standard 1 0 9",
                     "%s", rows);
    free(rows);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.contract_terms"),
                 5); /* idle's and the default's too */
    json_decref(json);
}

/* What goes on and what a phase says anew, as for all other terms; null is what the price book says. */
Test(apply, packages_and_orders_in_sql)
{
    database_make(&database);
    json_t *json = catalog_json();
    change(json, "price_books/0/packages", "[{'key':'small','amount':'10','price':'9'}]");
    change(json, "price_books/0/drawdown_order", "['expires_at']");
    change(json, "contracts/0/packages", "[{'key':'large','amount':'100','price':'80'}]");
    change(json, "contracts/0/phases",
           "[" PHASE("o", "2026-05-01", "'drawdown_order':['funding','meters']") "," PHASE(
               "p", "2026-06-01", "'packages':[{'key':'huge','amount':'1000','price':'700'}]") "]");
    struct weir_apply_report report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED, "%s", report.count ? report.lines[0] : "");
    weir_apply_report_free(&report);
    char *books =
        ask_text(&database, "SELECT string_agg(concat_ws(' ', price_book, price_book_version, packages #>> '{0,key}',"
                            " drawdown_order), ', ' ORDER BY price_book, price_book_version) FROM"
                            " weir.price_book_versions");
    cr_expect_str_eq(books, "spare 1, standard 1 small [\"expires_at\"], standard 2", "%s", books);
    char *terms = ask_text(
        &database, "SELECT string_agg(concat_ws(' ', coalesce(phase, '-'), packages #>> '{0,key}', drawdown_order),"
                   " ', ' ORDER BY contract, starts_at) FROM weir.contract_terms WHERE contract <> 'idle-1'");
    cr_expect_str_eq(terms, "-, - large, o large [\"funding\", \"meters\"], p huge [\"funding\", \"meters\"]", "%s",
                     terms);
    free(books);
    free(terms);
    json_decref(json);
}

/* Terms may only grow over what nobody else has billed. */
Test(apply, a_contract_that_grows)
{
    make_history(true);
    json_t *json = catalog_json();
    change(json, "contracts/2",
           "{'key':'zoo-1','customer':'zoo','price_book':'standard','starts_at':'2026-01-01T00:00:00Z',"
           "'ends_at':'2026-02-01T00:00:00Z','billing_period':'month','timezone':'UTC'}");
    struct weir_apply_report report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
    cr_assert_str_eq(report.lines[0], "+ contract zoo-1 of zoo");
    weir_apply_report_free(&report);
    change(json, "contracts/2/ends_at", "'2026-03-01T00:00:00Z'");
    report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_REFUSED);
    weir_apply_report_free(&report);
    change(json, "contracts/2/ends_at", "'2026-02-11T00:00:00Z'");
    report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED);
    cr_assert_str_eq(report.lines[0], "~ contract zoo-1 of zoo: ends_at", "%s", report.lines[0]);
    cr_assert_eq(report.value_count, 1);
    cr_assert_str_eq(report.values[0], "contract zoo-1: ends_at: \"2026-02-01T00:00:00Z\" -> \"2026-02-11T00:00:00Z\"");
    cr_assert_eq(ask_number(&database, "SELECT max(catalog_version) FROM weir.catalog_versions"), 3);
    weir_apply_report_free(&report);
    json_decref(json);
}

/* Applies it, rates a window of acme in February and settles what has ended by then, and what has begun. */
static void settle_until(json_t *json, const char *until)
{
    struct weir_apply_report report = apply(json, false);
    struct weir_catalog *catalog = NULL;
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_error error;
    struct weir_horizon horizon = {0};

    cr_assert_neq(report.outcome, WEIR_APPLY_REFUSED);
    weir_apply_report_free(&report);
    cr_assert(weir_time_parse(S("2026-02-10T00:00:00Z"), &horizon.first_time)
              && weir_time_parse(S(until), &horizon.last_time) && weir_time_parse(S(until), &horizon.ended));
    cr_assert_eq(weir_apply_load_catalog(database.url, &catalog, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &ledger, &error), WEIR_OK, "%s", error.text);
    rater = weir_rater_new(catalog, ledger);
    rate_one(rater, "acme", "tokens", "2026-02-10T00:00:00Z");
    cr_assert_eq(weir_rater_settle(rater, &horizon, &error), WEIR_OK, "%s", error.text);
    weir_rater_free(rater);
    weir_ledger_free(ledger);
    weir_catalog_free(catalog);
}

static void settle_february(json_t *json)
{
    settle_until(json, "2026-03-05T00:00:00Z");
}

/* Whether the contract may end then, and what is said. */
static void try_end(json_t *json, const char *ends_at, const char *says)
{
    change(json, "contracts/0/ends_at", ends_at);
    struct weir_apply_report report = apply(json, true);
    if (says) {
        cr_assert(report.outcome == WEIR_APPLY_REFUSED && strstr(report.lines[0], says), "%s: %s", ends_at,
                  report.count ? report.lines[0] : "allowed");
    } else {
        cr_assert_eq(report.outcome, WEIR_APPLY_STORED, "%s: %s", ends_at, report.lines[0]);
    }
    weir_apply_report_free(&report);
}

static void expect_renewal(json_t *json, const char *place, const char *value, const char *const lines[], size_t count)
{
    change(json, place, value);
    struct weir_apply_report report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_STORED, "%s: %s", value, report.count ? report.lines[0] : "");
    cr_assert_eq(report.count, count, "%s: %zu lines", value, report.count);
    for (size_t i = 0; i < count; i++)
        cr_expect_str_eq(report.lines[i], lines[i], "%s: %s", value, report.lines[i]);
    weir_apply_report_free(&report);
}

/* Until the contract ends, and an end may be taken back; what changes is what is per term, from when on it is. */
Test(apply, renewals)
{
    make_history(true);
    json_t *json = catalog_json();
    expect_renewal(json, "contracts/0/renews", "{'months':12}",
                   (const char *const[]){"~ contract acme-1 of acme: renews", "  ~ renews every 12 months"}, 2);
    expect_renewal(
        json, "contracts/0/phases",
        "[" PHASE("p", "2026-03-01", "'commitments':[{'key':'year','type':'prepaid','amount':'9','per':'term'}]") "]",
        (const char *const[]){"~ contract acme-1 of acme", "  + phase p from 2026-03-01T00:00:00Z",
                              "  ~ from 2026-03-01T00:00:00Z: commitments"},
        3);
    expect_renewal(json, "contracts/0/renews/months", "6",
                   (const char *const[]){"~ contract acme-1 of acme: renews", "  ~ renews every 6 months",
                                         "  ~ from 2026-03-01T00:00:00Z: renews"},
                   3);
    expect_renewal(json, "contracts/0/ends_at", "'2026-07-01T00:00:00Z'",
                   (const char *const[]){"~ contract acme-1 of acme: ends_at",
                                         "  ~ ends with its term 1, 2026-07-01T00:00:00Z: not renewed then"},
                   2);
    expect_renewal(json, "contracts/0/ends_at", "'2026-08-01T00:00:00Z'",
                   (const char *const[]){"~ contract acme-1 of acme: ends_at",
                                         "  ~ ends 2026-08-01T00:00:00Z, within its "
                                         "term 2, which would end 2027-01-01T00:00:00Z"},
                   2);
    expect_renewal(json, "contracts/0/ends_at", "null",
                   (const char *const[]){"~ contract acme-1 of acme: ends_at", "  ~ renews every 6 months"}, 2);
    char *terms = ask_text(&database,
                           "SELECT string_agg(concat_ws(' ', term, to_char(starts_at AT TIME ZONE 'UTC', 'YYYY-MM-DD'),"
                           " to_char(ends_at AT TIME ZONE 'UTC', 'YYYY-MM-DD')), ', ' ORDER BY term)"
                           " FROM weir.contract_renewals WHERE contract = 'acme-1' AND term < 3");
    cr_expect_str_eq(terms, "1 2026-01-01 2026-07-01, 2 2026-07-01 2027-01-01", "%s", terms);
    free(terms);
    change(json, "contracts/0/phases", NULL); /* what was rated has no such amount */
    change(json, "contracts/0/commitments", "[{'key':'year','type':'prepaid','amount':'9','per':'term'}]");
    struct weir_apply_report report = apply(json, false);
    cr_assert_eq(report.outcome, WEIR_APPLY_REFUSED);
    cr_expect(strstr(report.lines[0], "its commitments"), "%s", report.lines[0]);
    weir_apply_report_free(&report);
    json_decref(json);
}

#define PER_TERM "[{'key':'floor','type':'minimum_spend','amount':'5','per':'term'}]"

/* Where something is per term, other months are other terms, also of what was rated. */
Test(apply, other_months_of_a_renewal)
{
    database_make(&database);
    json_t *json = catalog_json();
    change(json, "contracts/0/renews", "{'months':12}");
    settle_february(json);
    change(json, "contracts/0/renews/months", "4"); /* nothing is */
    change(json, "contracts/0/phases", "[" PHASE("p", "2026-04-01", "'commitments':" PER_TERM) "]");
    settle_february(json);
    change(json, "contracts/0/renews/months", "6"); /* from April on, which is not rated */
    change(json, "contracts/0/phases/0/starts_at", "'2026-05-01T00:00:00Z'");
    settle_until(json, "2026-05-05T00:00:00Z");
    change(json, "contracts/0/renews/months", "12");
    struct weir_apply_report report = apply(json, true);
    cr_assert(report.outcome == WEIR_APPLY_REFUSED
                  && strstr(report.lines[0], "rated periods until the one that starts 2026-05-01T00:00:00Z, and its "
                                             "renews changed from 2026-05-01T00:00:00Z (phase 'p') on"),
              "%s", report.count ? report.lines[0] : "allowed");
    weir_apply_report_free(&report);
    json_decref(json);
}

/* What is missing to a minimum of a term is charged when the term ends: a true-up that was charged does not move, and
 * none comes into a period that is closed. */
Test(apply, an_end_of_a_term_with_a_minimum)
{
    database_make(&database);
    json_t *json = catalog_json(); /* March's version has no fees */
    change(json, "contracts/0/renews", "{'months':4}");
    change(json, "contracts/0/commitments", PER_TERM);
    settle_february(json);
    try_end(json, "'2026-03-01T00:00:00Z'",
            "with another ends_at its term ends otherwise, and the period until 2026-03-01T00:00:00Z is closed, in "
            "which its minimum would be settled");
    try_end(json, "'2026-04-01T00:00:00Z'", NULL);
    try_end(json, "'2026-05-01T00:00:00Z'", NULL);
    settle_until(json, "2026-05-05T00:00:00Z");
    try_end(json, "null", NULL); /* the term ended then anyway */
    json_decref(json);
}

Test(apply, a_true_up_that_would_move)
{
    database_make(&database);
    json_t *json = catalog_json();
    change(json, "contracts/0/renews", "{'months':4}");
    change(json, "contracts/0/commitments",
           "[{'key':'least','type':'minimum_quantity','meter':'tokens','quantity':'5','per':'term'}]");
    change(json, "contracts/0/ends_at", "'2026-04-01T00:00:00Z'");
    settle_february(json);
    try_end(json, "null", NULL);
    change(json, "contracts/0/ends_at", "'2026-04-01T00:00:00Z'");
    settle_until(json, "2026-04-05T00:00:00Z");
    try_end(json, "null",
            "the period until 2026-04-01T00:00:00Z is closed, in which its minimum was settled: let the contract "
            "end with a later period, or rerate");
    try_end(json, "'2026-05-01T00:00:00Z'", "in which its minimum was settled");
    json_decref(json);
}

/* An end that comes later may not take back what was charged: fees need no usage. */
Test(apply, an_end_that_comes_later)
{
    database_make(&database);
    json_t *json = catalog_json();
    change(json, "price_books/1", NULL); /* the version of March, which has no fees */
    settle_february(json);
    try_end(json, "'2026-02-10T00:00:00Z'", "its last rated window ends 2026-02-10T01:00:00Z");
    try_end(json, "'2026-02-20T00:00:00Z'", "its period from 2026-03-01T00:00:00Z on was charged already");
    try_end(json, "'2026-03-01T00:00:00Z'", "its period from 2026-03-01T00:00:00Z on was charged already");
    try_end(json, "'2026-03-20T00:00:00Z'", NULL); /* not prorated: it costs the same */
    try_end(json, "'2026-04-01T00:00:00Z'", NULL);
    json_decref(json);
}

Test(apply, an_end_within_what_was_charged)
{
    database_make(&database);
    json_t *json = catalog_json();
    change(json, "price_books/1", NULL);
    change(json, "price_books/0/fees/1/proration", "'day'");
    change(json, "contracts/0/ends_at", "'2026-03-20T00:00:00Z'");
    settle_february(json);
    try_end(json, "'2026-03-10T00:00:00Z'", "ends 2026-03-10T00:00:00Z, and its fee 'seat' was charged by that");
    try_end(json, "'2026-03-25T00:00:00Z'", "ends 2026-03-25T00:00:00Z, and its fee 'seat' was charged by that");
    try_end(json, "null", "ends 2026-04-01T00:00:00Z, and its fee 'seat' was charged by that");
    json_decref(json);
}

static void assert_row(const char *sql, const char *expected)
{
    PGresult *result = PQexec(database.admin, sql);

    cr_assert_eq(PQresultStatus(result), PGRES_TUPLES_OK, "%s", PQerrorMessage(database.admin));
    cr_assert_str_eq(PQgetvalue(result, 0, 0), expected, "%s", sql);
    PQclear(result);
}

/* Seats of a period that is over stay; those of one that was charged in advance are charged for when it ends. */
Test(apply, quantities_of_a_period_under_way)
{
    static const char sums[] = "SELECT concat_ws(' ', sum(quantity), sum(amount), max(revision), count(*))"
                               " FROM weir.line_items WHERE item = 'seat' AND period_start = '2026-03-01Z'";
    database_make(&database);
    json_t *json = catalog_json();
    change(json, "price_books/1", NULL);
    change(json, "price_books/0/fees/1",
           "{'key':'seat','unit_price':'2','per':'period','charged':'in_advance','proration':'day'}");
    change(json, "contracts/0/quantities", "[{'fee':'seat','effective_from':'2026-01-01T00:00:00Z','quantity':'10'}]");
    settle_february(json);
    assert_row(sums, "10.000000000000 20.000000000000 1 1");

    change(json, "contracts/0/quantities/1", "{'fee':'seat','effective_from':'2026-02-28T23:59:59Z','quantity':'12'}");
    struct weir_apply_report report = apply(json, true);
    cr_assert(report.outcome == WEIR_APPLY_REFUSED
                  && strstr(report.lines[0], "its quantities changed from 2026-02-28T23:59:59Z on"),
              "%s", report.count ? report.lines[0] : "allowed");
    weir_apply_report_free(&report);

    change(json, "contracts/0/quantities/1/effective_from", "'2026-03-11T00:00:00Z'");
    settle_until(json, "2026-03-20T00:00:00Z");
    assert_row(sums, "10.000000000000 20.000000000000 1 1");
    change(json, "contracts/0/quantities/2", "{'fee':'seat','effective_from':'2026-06-01T00:00:00Z','quantity':'9'}");
    settle_until(json, "2026-04-05T00:00:00Z");
    assert_row(sums, "12.000000000000 22.709677419355 2 2");
    json_decref(json);
}

/* Closed is closed, also where nothing would cost another amount. */
Test(apply, an_end_within_a_closed_period)
{
    database_make(&database);
    json_t *json = catalog_json(); /* March's version has no fees */
    settle_february(json);
    try_end(json, "'2026-02-20T00:00:00Z'",
            "from 2026-02-01T00:00:00Z to 2026-03-01T00:00:00Z ends "
            "2026-02-20T00:00:00Z, and it is closed");
    try_end(json, "'2026-03-01T00:00:00Z'", NULL);
    json_decref(json);
}

/* Raters had the catalog from a folder: what they rated counts, though nothing was ever applied. */
Test(apply, the_first_catalog_must_hold_what_was_rated)
{
    make_history(false);
    TRY({"meters/4", "{'key':'new','event_type':'u','aggregation':'count','window':'1h'}", NULL},
        {"price_books/0", NULL, "standard' version 1 has rated usage and is missing"},
        {"contracts/0", NULL, "contract 'acme-1' of customer 'acme' has rated periods and is missing"},
        {"contracts/0/key", "'acme-2'", "contract 'acme-2' covers the window of 2026-02-10T05:00:00Z"},
        {"default_contract", NULL, "default_contract has rated periods and is missing"});
}

Test(apply, refuses_an_invalid_catalog)
{
    static const char text[] = "{\"meters\":[{\"key\":\"m\"}]}";
    struct weir_apply_report report = {0};
    struct weir_error error = {{0}};

    database_make(&database);
    cr_assert_eq(weir_apply_catalog(database.url, text, sizeof text - 1, false, &report, &error), WEIR_REJECT);
    cr_assert(strstr(error.text, "weir check"), "%s", error.text);
}

Test(apply, without_a_schema)
{
    struct weir_catalog *catalog = NULL;
    struct weir_error error = {{0}};

    database_make_empty(&database);
    cr_assert_eq(weir_apply_load_catalog(database.url, &catalog, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "weir migrate"), "%s", error.text);
}
