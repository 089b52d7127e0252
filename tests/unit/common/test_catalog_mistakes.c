/* Every mistake is found, where it is, in words that name it; and nothing else is called a mistake. Each row changes
 * the full catalog in up to three places and expects exactly one mistake, unless it says how many. */
#include "tests/unit/common/catalog_support.h"

struct row {
    const char *place[3];
    const char *json[3];
    const char *path;
    const char *kind;
    const char *word;
    size_t count; /* 0: one */
};

#define ONE(place, json, path, kind, word)                                                                             \
    {                                                                                                                  \
        {place}, {json}, path, kind, word, 0                                                                           \
    }
#define SOME(place, json, path, kind, word, count)                                                                     \
    {                                                                                                                  \
        {place}, {json}, path, kind, word, count                                                                       \
    }
#define TWO(place, json, place2, json2, path, kind, word)                                                              \
    {                                                                                                                  \
        {place, place2}, {json, json2}, path, kind, word, 0                                                            \
    }
#define METER "{\"key\":\"m\",\"event_type\":\"e\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"1h\"}"
#define PRICE0 "price_books/1/prices/0"
#define AT_PRICE0 "$.price_books[1].prices[0]"

static const struct row top_rows[] = {
    ONE("meterz", "[]", "$.meterz", "unknown_key", "price_books, contracts"),
    ONE("$schema", "5", "$[\"$schema\"]", "wrong_type", "string"),
    SOME("meters", "{}", "$.meters", "wrong_type", "list", 23),
    SOME("meters", "null", "$.meters", "wrong_type", "null", 23),
    SOME("price_books", "\"x\"", "$.price_books", "wrong_type", "list", 7),
    ONE("contracts", "{}", "$.contracts", "wrong_type", "object"),
    ONE("contracts/#", "7", "$.contracts[4]", "wrong_type", "the number 7"),
    ONE("default_contract", "null", "$.default_contract", "wrong_type", "object"),
    ONE("default_contract", "[]", "$.default_contract", "wrong_type", "object"),
};

static const struct row meter_rows[] = {
    ONE("meters/#", "[]", "$.meters[8]", "wrong_type", "object"),
    ONE("meters/7/key", NULL, "$.meters[7]", "missing_key", "\"key\""),
    ONE("meters/7/event_type", NULL, "$.meters[7]", "missing_key", "\"event_type\""),
    ONE("meters/7/aggregation", NULL, "$.meters[7]", "missing_key", "\"aggregation\""),
    ONE("meters/7/value", NULL, "$.meters[7]", "missing_key", "\"value\""),
    ONE("meters/7/window", NULL, "$.meters[7]", "missing_key", "\"window\""),
    ONE("meters/7/agregation", "\"sum\"", "$.meters[7].agregation", "unknown_key", "allowed are key, event_type"),
    ONE("meters/1/group_bye", "[]", "$.meters[1].group_bye", "unknown_key", "did you mean \"group_by\""),
    ONE("meters/1/ü", "[]", "$.meters[1][\"ü\"]", "unknown_key", "unknown"),
    ONE("meters/7/key", "\"\"", "$.meters[7].key", "bad_value", "1 to 64 bytes"),
    ONE("meters/7/key", "\"a b\"", "$.meters[7].key", "bad_value", "letters"),
    ONE("meters/7/key", "\"ä\"", "$.meters[7].key", "bad_value", "letters"),
    ONE("meters/7/key", "\"12345678901234567890123456789012345678901234567890123456789012345\"", "$.meters[7].key",
        "bad_value", "65 bytes"),
    ONE("meters/7/key", "5", "$.meters[7].key", "wrong_type", "string"),
    ONE("meters/7/key", "\"tokens\"", "$.meters[7].key", "duplicate", "$.meters[0] in test.json"),
    ONE("meters/7/event_type", "\"\"", "$.meters[7].event_type", "bad_value", "1 to 256"),
    ONE("meters/7/event_type", "null", "$.meters[7].event_type", "wrong_type", "null"),
    ONE("meters/7/aggregation", "\"total\"", "$.meters[7].aggregation", "bad_value", "count, sum, min, max"),
    ONE("meters/7/aggregation", "\"mim\"", "$.meters[7].aggregation", "bad_value", "did you mean \"min\""),
    ONE("meters/7/aggregation", "true", "$.meters[7].aggregation", "wrong_type", "true"),
    ONE("meters/1/value", "\"data.x\"", "$.meters[1].value", "unknown_key", "with aggregation \"count\""),
    ONE("meters/0/rollup", "\"sum\"", "$.meters[0].rollup", "unknown_key", "with aggregation \"sum\""),
    ONE("meters/1/rollup", "\"sum\"", "$.meters[1].rollup", "unknown_key", "count"),
    ONE("meters/3/rollup", "\"sum\"", "$.meters[3].rollup", "unknown_key", "unique"),
    ONE("meters/7/rollup", "\"max\"", "$.meters[7].rollup", "bad_value", "sum"),
    ONE("meters/0/retractable", "true", "$.meters[0].retractable", "unknown_key", "with aggregation \"sum\""),
    ONE("meters/1/retractable", "true", "$.meters[1].retractable", "unknown_key", "count"),
    ONE("meters/3/retractable", "\"yes\"", "$.meters[3].retractable", "wrong_type", "yes"),
    ONE("meters/7/rollup", "null", "$.meters[7].rollup", "wrong_type", "null"),
    ONE("meters/7/window", "\"2h\"", "$.meters[7].window", "bad_value", "1m, 5m, 15m, 1h, 1d, 1mo"),
    ONE("meters/7/window", "3600", "$.meters[7].window", "wrong_type", "1mo"),
    ONE("meters/7/value", "\"data\"", "$.meters[7].value", "bad_value", "path"),
    ONE("meters/7/value", "\"data.\"", "$.meters[7].value", "bad_value", "path"),
    ONE("meters/7/value", "\"data..x\"", "$.meters[7].value", "bad_value", "path"),
    ONE("meters/7/value", "\"data.a\\nb\"", "$.meters[7].value", "bad_value", "path"),
    ONE("meters/7/value", "\"Data.a\"", "$.meters[7].value", "bad_value", "path"),
    ONE("meters/7/value", "\"\"", "$.meters[7].value", "bad_value", "bytes"),
    ONE("meters/7/value", "\"subject\"", "$.meters[7].value", "bad_value", "an attribute is no number"),
    ONE("meters/7/value", "\"data.1.2.3.4.5.6.7.8\"", "$.meters[7].value", "bad_value", "one to seven names"),
    ONE("meters/7/value", "\"data.12345678901234567890123456789012345678901234567890123456789012345\"",
        "$.meters[7].value", "bad_value", "64 bytes"),
    ONE("meters/3/value", "\"time\"", "$.meters[3].value", "bad_value", "not id, time"),
    ONE("meters/3/value", "\"id\"", "$.meters[3].value", "bad_value", "not id, time"),
    ONE("meters/3/value", "\"specversion\"", "$.meters[3].value", "bad_value", "not id, time"),
    ONE("meters/3/value", "\"data_base64\"", "$.meters[3].value", "bad_value", "path"),
    ONE("meters/3/value", "\"data\"", "$.meters[3].value", "bad_value", "path"),
    ONE("meters/7/group_by", "\"x\"", "$.meters[7].group_by", "wrong_type", "list"),
    ONE("meters/7/group_by", "[1]", "$.meters[7].group_by[0]", "wrong_type", "string"),
    ONE("meters/7/group_by", "[\"a\",\"a\"]", "$.meters[7].group_by[1]", "duplicate", "twice"),
    ONE("meters/7/group_by", "[\"\"]", "$.meters[7].group_by[0]", "bad_value", "bytes"),
    ONE("meters/7/group_by", "[\"a..b\"]", "$.meters[7].group_by", "bad_value", "dimension"),
    ONE("meters/7/group_by", "[\"1.2.3.4.5.6.7.8\"]", "$.meters[7].group_by", "bad_value", "seven"),
    ONE("meters/7/group_by", "[\"1\",\"2\",\"3\",\"4\",\"5\",\"6\",\"7\",\"8\",\"9\"]", "$.meters[7].group_by",
        "bad_value", "9 entries"),
    ONE("meters/7/where", "[]", "$.meters[7].where", "wrong_type", "object"),
    ONE("meters/7/where", "{\"data.x\":\"a\"}", "$.meters[7].where[\"data.x\"]", "wrong_type", "list"),
    ONE("meters/7/where", "{\"data.x\":[]}", "$.meters[7].where[\"data.x\"]", "bad_value", "1 to 64"),
    ONE("meters/7/where", "{\"data.x\":[\"a\",1]}", "$.meters[7].where[\"data.x\"][1]", "wrong_type", "string"),
    ONE("meters/7/where", "{\"data.x\":[\"a\",\"b\",\"a\"]}", "$.meters[7].where[\"data.x\"][2]", "duplicate", "twice"),
    ONE("meters/7/where", "{\"x.y\":[\"a\"]}", "$.meters[7].where[\"x.y\"]", "bad_value", "path"),
    ONE("meters/7/where",
        "{\"data.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."
        "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\":[\"\"]}",
        "$.meters[7].where[\"data.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa.bbbbbb\"…]", "bad_value",
        "128 in all"),
    ONE("meters/7/where", "{\"time\":[\"a\"]}", "$.meters[7].where.time", "bad_value", "path"),
    ONE("meters/7/where",
        "{\"a\":[\"\"],\"b\":[\"\"],\"c\":[\"\"],\"d\":[\"\"],\"e\":[\"\"],\"f\":[\"\"],\"g\":[\"\"],"
        "\"h\":[\"\"],\"i\":[\"\"]}",
        "$.meters[7].where", "bad_value", "9 paths"),
};

static const struct row book_rows[] = {
    ONE("price_books/#", "true", "$.price_books[3]", "wrong_type", "object"),
    SOME("price_books/2/key", NULL, "$.price_books[2]", "missing_key", "\"key\"", 2),
    ONE("price_books/2/version", NULL, "$.price_books[2]", "missing_key", "\"version\""),
    ONE("price_books/2/currency", NULL, "$.price_books[2]", "missing_key", "\"currency\""),
    ONE("price_books/2/effective_from", NULL, "$.price_books[2]", "missing_key", "\"effective_from\""),
    ONE("price_books/2/price", "[]", "$.price_books[2].price", "unknown_key", "unknown"),
    ONE("price_books/2/version", "0", "$.price_books[2].version", "bad_value", "from 1"),
    ONE("price_books/2/version", "-1", "$.price_books[2].version", "bad_value", "from 1"),
    ONE("price_books/2/version", "1.5", "$.price_books[2].version", "wrong_type", "whole number"),
    ONE("price_books/2/version", "\"7\"", "$.price_books[2].version", "wrong_type", "not in quotes"),
    ONE("price_books/2/version", "2147483648", "$.price_books[2].version", "bad_value", "2147483647"),
    ONE("price_books/2/currency", "\"YEN\"", "$.price_books[2].currency", "unknown_reference", "ISO 4217"),
    ONE("price_books/2/currency", "\"jpy\"", "$.price_books[2].currency", "bad_value", "capital"),
    ONE("price_books/2/currency", "\"XXX\"", "$.price_books[2].currency", "unknown_reference", "ISO 4217"),
    ONE("price_books/2/currency", "\"JP\"", "$.price_books[2].currency", "bad_value", "bytes"),
    ONE("price_books/2/currency", "392", "$.price_books[2].currency", "wrong_type", "string"),
    ONE("price_books/2/rounding", "\"half_down\"", "$.price_books[2].rounding", "bad_value", "half_even, half_up"),
    ONE("price_books/2/effective_from", "\"2025-06-01\"", "$.price_books[2].effective_from", "bad_value", "RFC 3339"),
    ONE("price_books/2/effective_from", "\"2025-06-31T00:00:00Z\"", "$.price_books[2].effective_from", "no_such_time",
        "no such time"),
    ONE("price_books/2/effective_from", "\"1969-12-31T23:59:59Z\"", "$.price_books[2].effective_from", "no_such_time",
        "1970"),
    ONE("price_books/2/effective_from", "\"2262-01-01T00:00:00Z\"", "$.price_books[2].effective_from", "no_such_time",
        "2261"),
    ONE("price_books/2/effective_from", "1735689600", "$.price_books[2].effective_from", "wrong_type", "string"),
    ONE("price_books/1/version", "1", "$.price_books[1].version", "duplicate", "$.price_books[0] in test.json"),
    ONE("price_books/1/effective_from", "\"2025-01-01T00:00:00Z\"", "$.price_books[1].effective_from", "out_of_order",
        "after version 1"),
    ONE("price_books/1/effective_from", "\"2024-01-01T00:00:00Z\"", "$.price_books[1].effective_from", "out_of_order",
        "after version 1"),
    ONE("price_books/1/currency", "\"EUR\"", "$.price_books[1].currency", "out_of_order", "same currency"),
    ONE("price_books/1/rounding", "\"half_up\"", "$.price_books[1].rounding", "out_of_order", "round the same way"),
    ONE("price_books/2/prices", "{}", "$.price_books[2].prices", "wrong_type", "list"),
    ONE("price_books/2/fees", "null", "$.price_books[2].fees", "wrong_type", "list"),
    ONE("price_books/2/fees", "[{\"key\":\"f\",\"amount\":\"1\",\"per\":\"period\"}]", "$.price_books[2].fees[0]",
        "missing_key", "\"charged\""),
    ONE("price_books/2/discounts/0/rate", "\"2\"", "$.price_books[2].discounts[0].rate", "not_representable",
        "at most \"1\""),
    ONE("price_books/2/discounts/0/meters", "[\"toks\"]", "$.price_books[2].discounts[0].meters[0]",
        "unknown_reference", "no meter"),
    ONE("price_books/2/discounts/0/key", "\"storage\"", "$.price_books[2].discounts[0].key", "key_clash", "a meter"),
    ONE("price_books/1/discounts", "[{\"key\":\"seat\",\"type\":\"percentage\",\"rate\":\"1\"}]",
        "$.price_books[1].discounts[0].key", "key_clash", "a fee"),
    ONE("price_books/2/drawdown_order", "[]", "$.price_books[2].drawdown_order", "bad_value", "1 to 5"),
    ONE("price_books/2/drawdown_order", "[\"expires\"]", "$.price_books[2].drawdown_order[0]", "bad_value",
        "did you mean \"expires_at\""),
    ONE("price_books/2/drawdown_order", "[\"key\"]", "$.price_books[2].drawdown_order[0]", "bad_value",
        "must be one of priority, funding, meters, expires_at, starts_at"),
    ONE("price_books/2/drawdown_order", "[\"meters\",\"priority\",\"meters\"]", "$.price_books[2].drawdown_order[2]",
        "duplicate", "stands in the list already"),
    ONE("price_books/1/packages/0/price", NULL, "$.price_books[1].packages[0]", "missing_key", "\"price\""),
    ONE("price_books/1/packages/0/amount", "\"0\"", "$.price_books[1].packages[0].amount", "bad_value",
        "greater than 0"),
    ONE("price_books/1/packages/1/price", "\"1\"", "$.price_books[1].packages[1].price", "unknown_key",
        "beside \"tiers\""),
    ONE("price_books/1/packages/1/tiers/1/up_to", "\"1000\"", "$.price_books[1].packages[1].tiers[1].up_to",
        "out_of_order", "ascend"),
    ONE("price_books/1/packages/1/tiers/1/flat_fee", "\"1\"", "$.price_books[1].packages[1].tiers[1].flat_fee",
        "unknown_key", "in a package"),
    ONE("price_books/1/packages/1/key", "\"starter\"", "$.price_books[1].packages[1]", "duplicate", "packages[0]"),
    ONE("contracts/1/commitments/4/package", "\"startr\"", "$.contracts[1].commitments[4].package", "unknown_reference",
        "did you mean \"starter\""),
    ONE("contracts/1/commitments/4/package", "\"any\"", "$.contracts[1].commitments[4].package", "contradiction",
        "is bought by amount"),
    ONE("contracts/1/commitments/4/amount", "\"5\"", "$.contracts[1].commitments[4].package", "contradiction",
        "is bought whole"),
    ONE("contracts/1/commitments/3/amount", NULL, "$.contracts[1].commitments[3].package", "contradiction",
        "is bought by amount"),
    ONE("price_books/1/packages/0/price", "\"170141183460469231731687303\"", "$.contracts[1].commitments[4].package",
        "not_representable", "does not fit"),
    ONE("contracts/1/commitments/4/quantity", "\"1.5\"", "$.contracts[1].commitments[4].quantity", "bad_value",
        "whole number"),
    ONE("contracts/1/commitments/4/quantity", "\"1000000\"", "$.contracts[1].commitments[4].quantity", "bad_value",
        "\"999999\""),
    ONE("contracts/1/commitments/4/price", "\"1\"", "$.contracts[1].commitments[4].price", "unknown_key",
        "beside \"package\""),
    ONE("default_contract/commitments/0", "{\"key\":\"x\",\"type\":\"prepaid\",\"package\":\"starter\"}",
        "$.default_contract.commitments[0]", "contradiction", "nobody buys anything"),
    ONE("contracts/1/drawdown_order", "\"priority\"", "$.contracts[1].drawdown_order", "wrong_type", "list"),
    ONE("contracts/0/phases/1/drawdown_order", "[1]", "$.contracts[0].phases[1].drawdown_order[0]", "wrong_type",
        "string"),
    ONE("price_books/1/fees/0/key", NULL, "$.price_books[1].fees[0]", "missing_key", "\"key\""),
    ONE("price_books/1/fees/0/amount", NULL, "$.price_books[1].fees[0]", "missing_key", "\"amount\""),
    ONE("price_books/1/fees/0/per", NULL, "$.price_books[1].fees[0]", "missing_key", "\"per\""),
    ONE("price_books/1/fees/0/per", "\"month\"", "$.price_books[1].fees[0].per", "bad_value", "period"),
    ONE("price_books/1/fees/1/proration", "\"days\"", "$.price_books[1].fees[1].proration", "bad_value",
        "did you mean \"day\""),
    ONE("price_books/1/fees/4/amount", "\"1\"", "$.price_books[1].fees[4].amount", "unknown_key", "unit_price"),
    ONE("price_books/1/fees/2/unit_price", "\"1\"", "$.price_books[1].fees[2].unit_price", "unknown_key",
        "with per \"contract\""),
    ONE("price_books/1/fees/2/proration", "\"day\"", "$.price_books[1].fees[2].proration", "unknown_key",
        "with per \"contract\""),
    ONE("price_books/1/fees/0/amount", "\"-1\"", "$.price_books[1].fees[0].amount", "bad_value", "0 or more"),
    ONE("price_books/1/fees/0/charged", "\"in_arrear\"", "$.price_books[1].fees[0].charged", "bad_value",
        "did you mean \"in_arrears\""),
    ONE("price_books/1/fees/0/tax", "1", "$.price_books[1].fees[0].tax", "unknown_key", "unknown"),
    ONE("price_books/1/fees/1/key", "\"platform\"", "$.price_books[1].fees[1]", "duplicate", "fees[0]"),
    ONE("price_books/1/fees/1/key", "\"tokens\"", "$.price_books[1].fees[1].key", "key_clash", "meter"),
    ONE("price_books/0/fees/0/key", "\"seats\"", "$.price_books[0].fees[0].key", "key_clash", "meter"),
};

static const struct row price_rows[] = {
    ONE("price_books/1/prices/#", "[]", "$.price_books[1].prices[9]", "wrong_type", "object"),
    ONE(PRICE0 "/meter", NULL, AT_PRICE0, "missing_key", "\"meter\""),
    ONE(PRICE0 "/model", NULL, AT_PRICE0, "missing_key", "\"model\""),
    ONE(PRICE0 "/tiers", NULL, AT_PRICE0, "missing_key", "with model \"graduated\""),
    ONE("price_books/1/prices/1/unit_price", NULL, "$.price_books[1].prices[1]", "missing_key", "unit_price"),
    ONE("price_books/1/prices/3/package_size", NULL, "$.price_books[1].prices[3]", "missing_key", "package_size"),
    ONE("price_books/1/prices/3/package_price", NULL, "$.price_books[1].prices[3]", "missing_key", "package_price"),
    ONE("price_books/1/prices/6/rate", NULL, "$.price_books[1].prices[6]", "missing_key", "rate"),
    ONE("price_books/1/prices/5/amount", NULL, "$.price_books[1].prices[5]", "missing_key", "amount"),
    ONE(PRICE0 "/unit_price", "\"1\"", AT_PRICE0 ".unit_price", "unknown_key", "does not go with model \"graduated\""),
    ONE("price_books/1/prices/1/tiers", "[]", "$.price_books[1].prices[1].tiers", "unknown_key", "per_unit"),
    ONE("price_books/1/prices/5/fixed_fee", "\"1\"", "$.price_books[1].prices[5].fixed_fee", "unknown_key", "flat"),
    ONE(PRICE0 "/free_unit", "\"1\"", AT_PRICE0 ".free_unit", "unknown_key", "unknown key"),
    ONE("price_books/1/prices/1/free_unit", "\"1\"", "$.price_books[1].prices[1].free_unit", "unknown_key",
        "did you mean \"free_units\""),
    ONE(PRICE0 "/meter", "\"token\"", AT_PRICE0 ".meter", "unknown_reference", "did you mean \"tokens\""),
    ONE(PRICE0 "/model", "\"tiered\"", AT_PRICE0 ".model", "bad_value", "per_unit, graduated"),
    ONE("price_books/1/prices/1/unit_price", "0.0000025", "$.price_books[1].prices[1].unit_price", "wrong_type",
        "write it as a string"),
    ONE("price_books/1/prices/1/unit_price", "0.0000025", "$.price_books[1].prices[1].unit_price", "wrong_type",
        "2.5e-6"),
    ONE("price_books/1/prices/1/unit_price", "3", "$.price_books[1].prices[1].unit_price", "wrong_type",
        "write it as a string"),
    ONE("price_books/1/prices/1/unit_price", "null", "$.price_books[1].prices[1].unit_price", "wrong_type", "null"),
    ONE("price_books/1/prices/1/unit_price", "\"\"", "$.price_books[1].prices[1].unit_price", "bad_value", "digits"),
    ONE("price_books/1/prices/1/unit_price", "\"1,5\"", "$.price_books[1].prices[1].unit_price", "bad_value", "digits"),
    ONE("price_books/1/prices/1/unit_price", "\"$5\"", "$.price_books[1].prices[1].unit_price", "bad_value", "digits"),
    ONE("price_books/1/prices/1/unit_price", "\"01\"", "$.price_books[1].prices[1].unit_price", "bad_value", "digits"),
    ONE("price_books/1/prices/1/unit_price", "\".5\"", "$.price_books[1].prices[1].unit_price", "bad_value", "digits"),
    ONE("price_books/1/prices/1/unit_price", "\" 5\"", "$.price_books[1].prices[1].unit_price", "bad_value", "digits"),
    ONE("price_books/1/prices/1/unit_price", "\"-0.1\"", "$.price_books[1].prices[1].unit_price", "bad_value",
        "0 or more"),
    ONE("price_books/1/prices/1/unit_price", "\"0.0000000000001\"", "$.price_books[1].prices[1].unit_price",
        "bad_value", "more than 12 decimal places"),
    ONE("price_books/1/prices/1/unit_price", "\"1e-13\"", "$.price_books[1].prices[1].unit_price", "not_representable",
        "more than 12 decimal places"),
    ONE("price_books/1/prices/1/unit_price", "\"170141183460469231731687303.715884105728\"",
        "$.price_books[1].prices[1].unit_price", "not_representable", "too many digits"),
    ONE(PRICE0 "/tiers", "[]", AT_PRICE0 ".tiers", "bad_value", "1 to 64"),
    ONE(PRICE0 "/tiers", "{}", AT_PRICE0 ".tiers", "wrong_type", "list"),
    ONE(PRICE0 "/tiers/1", "5", AT_PRICE0 ".tiers[1]", "wrong_type", "object"),
    ONE(PRICE0 "/tiers/0/up_to", NULL, AT_PRICE0 ".tiers[0]", "missing_key", "up_to"),
    ONE(PRICE0 "/tiers/2/up_to", NULL, AT_PRICE0 ".tiers[2]", "missing_key", "up_to"),
    ONE(PRICE0 "/tiers/1/unit_price", NULL, AT_PRICE0 ".tiers[1]", "missing_key", "unit_price"),
    ONE(PRICE0 "/tiers/1/upto", "\"5\"", AT_PRICE0 ".tiers[1].upto", "unknown_key", "up_to"),
    ONE(PRICE0 "/tiers/1/up_to", "\"1000000\"", AT_PRICE0 ".tiers[1].up_to", "out_of_order", "ascend"),
    ONE(PRICE0 "/tiers/1/up_to", "\"999999.999999999999\"", AT_PRICE0 ".tiers[1].up_to", "out_of_order", "ascend"),
    ONE(PRICE0 "/tiers/0/up_to", "\"0\"", AT_PRICE0 ".tiers[0].up_to", "bad_value", "greater than 0"),
    ONE(PRICE0 "/tiers/0/up_to", "1000", AT_PRICE0 ".tiers[0].up_to", "wrong_type", "write it as a string"),
    ONE(PRICE0 "/tiers/1/up_to", "null", AT_PRICE0 ".tiers[1].up_to", "out_of_order", "only the last"),
    ONE(PRICE0 "/tiers/2/up_to", "\"3000000\"", AT_PRICE0 ".tiers[2].up_to", "out_of_order", "must be open"),
    ONE(PRICE0 "/tiers/2/flat_fee", "\"-5\"", AT_PRICE0 ".tiers[2].flat_fee", "bad_value", "0 or more"),
    ONE(PRICE0 "/tiers/0/flat_fee_at_zero", "\"true\"", AT_PRICE0 ".tiers[0].flat_fee_at_zero", "wrong_type",
        "not in quotes"),
    ONE(PRICE0 "/tiers/0/flat_fee", NULL, AT_PRICE0 ".tiers[0]", "missing_key", "flat_fee_at_zero"),
    ONE(PRICE0 "/tiers/2/flat_fee_at_zero", "true", AT_PRICE0 ".tiers[2].flat_fee_at_zero", "unknown_key",
        "a tier after the first"),
    ONE("price_books/1/prices/3/package_size", "\"0\"", "$.price_books[1].prices[3].package_size", "bad_value",
        "greater than 0"),
    ONE("price_books/1/prices/3/package_size", "\"0e5\"", "$.price_books[1].prices[3].package_size", "bad_value",
        "greater than 0"),
    ONE("price_books/1/prices/3/package_price", "\"-1\"", "$.price_books[1].prices[3].package_price", "bad_value",
        "0 or more"),
    ONE("price_books/1/prices/6/rate", "\"2.9%\"", "$.price_books[1].prices[6].rate", "bad_value", "digits"),
    ONE("price_books/1/prices/6/fixed_fee", "\"-0.30\"", "$.price_books[1].prices[6].fixed_fee", "bad_value", "0"),
    ONE("price_books/1/prices/5/amount", "\"-20\"", "$.price_books[1].prices[5].amount", "bad_value", "0"),
    ONE(PRICE0 "/free_units", "\"-1\"", AT_PRICE0 ".free_units", "bad_value", "0 or more"),
    ONE(PRICE0 "/minimum_amount", "\"-1\"", AT_PRICE0 ".minimum_amount", "bad_value", "0 or more"),
    ONE(PRICE0 "/maximum_amount", "\"0.99\"", AT_PRICE0 ".maximum_amount", "out_of_order", "below minimum_amount"),
    ONE("price_books/1/prices/1/when", "[]", "$.price_books[1].prices[1].when", "wrong_type", "object"),
    ONE("price_books/1/prices/1/when/model", "5", "$.price_books[1].prices[1].when.model", "wrong_type", "string"),
    ONE("price_books/1/prices/1/when/modell", "\"x\"", "$.price_books[1].prices[1].when.modell", "never_matches",
        "did you mean \"model\""),
    ONE("price_books/1/prices/3/when", "{\"x\":\"y\"}", "$.price_books[1].prices[3].when.x", "never_matches",
        "it has none"),
    ONE("price_books/1/prices/2/when/region", "\"ap-south-1\"", "$.price_books[1].prices[2].when.region",
        "never_matches", "\"where\""),
    ONE("price_books/1/prices/1/when", NULL, "$.price_books[1].prices[1]", "never_matches", "prices[0]"),
    ONE("price_books/1/prices/#",
        "{\"meter\":\"tokens\",\"when\":{\"region\":\"us-east-1\"},\"model\":\"flat\",\"amount\":\"1\"}",
        "$.price_books[1].prices[9]", "ambiguous", "prices[1]"),
};

static const struct row contract_rows[] = {
    ONE("contracts/2/key", NULL, "$.contracts[2]", "missing_key", "\"key\""),
    ONE("contracts/2/customer", NULL, "$.contracts[2]", "missing_key", "\"customer\""),
    ONE("contracts/2/price_book", NULL, "$.contracts[2]", "missing_key", "\"price_book\""),
    ONE("contracts/2/starts_at", NULL, "$.contracts[2]", "missing_key", "\"starts_at\""),
    ONE("contracts/2/billing_period", NULL, "$.contracts[2]", "missing_key", "\"billing_period\""),
    ONE("contracts/2/timezone", NULL, "$.contracts[2]", "missing_key", "\"timezone\""),
    ONE("contracts/2/ends", "null", "$.contracts[2].ends", "unknown_key", "unknown"),
    ONE("contracts/2/time_zone", "null", "$.contracts[2].time_zone", "unknown_key", "unknown"),
    ONE("contracts/2/key", "\"acme-2025\"", "$.contracts[2].key", "duplicate", "$.contracts[0] in test.json"),
    ONE("contracts/2/key", "\"a/b\"", "$.contracts[2].key", "bad_value", "letters"),
    ONE("contracts/2/customer", "\"\"", "$.contracts[2].customer", "bad_value", "1 to 256"),
    ONE("contracts/2/customer", "5", "$.contracts[2].customer", "wrong_type", "string"),
    ONE("contracts/2/price_book", "\"tokio\"", "$.contracts[2].price_book", "unknown_reference",
        "did you mean \"tokyo\""),
    ONE("contracts/2/starts_at", "null", "$.contracts[2].starts_at", "wrong_type", "RFC 3339"),
    ONE("contracts/2/starts_at", "\"2026-02-01\"", "$.contracts[2].starts_at", "bad_value", "RFC 3339"),
    ONE("contracts/2/starts_at", "\"2026-02-01T00:00:00\"", "$.contracts[2].starts_at", "bad_value", "RFC 3339"),
    ONE("contracts/2/starts_at", "\"2026-02-01T00:00:00.5Z\"", "$.contracts[2].starts_at", "bad_value", "whole second"),
    ONE("contracts/2/starts_at", "\"2026-02-29T00:00:00Z\"", "$.contracts[2].starts_at", "no_such_time", "no such"),
    ONE("contracts/2/starts_at", "\"1960-02-01T00:00:00Z\"", "$.contracts[2].starts_at", "no_such_time", "1970"),
    ONE("contracts/2/ends_at", "\"2026-01-31T15:00:00Z\"", "$.contracts[2].ends_at", "out_of_order", "after starts_at"),
    ONE("contracts/2/ends_at", "\"2025-01-01T00:00:00Z\"", "$.contracts[2].ends_at", "out_of_order", "after starts_at"),
    ONE("contracts/2/ends_at", "\"never\"", "$.contracts[2].ends_at", "bad_value", "RFC 3339"),
    ONE("contracts/2/billing_period", "\"monthly\"", "$.contracts[2].billing_period", "bad_value",
        "did you mean \"month\""),
    ONE("contracts/2/billing_period", "1", "$.contracts[2].billing_period", "wrong_type", "day, week, month"),
    ONE("contracts/0/billing_anchor", "0", "$.contracts[0].billing_anchor", "bad_value", "1"),
    ONE("contracts/0/billing_anchor", "32", "$.contracts[0].billing_anchor", "bad_value", "31"),
    ONE("contracts/0/billing_anchor", "\"1\"", "$.contracts[0].billing_anchor", "wrong_type", "not in quotes"),
    ONE("contracts/1/billing_anchor", "1", "$.contracts[1].billing_anchor", "wrong_type", "string"),
    ONE("contracts/1/billing_anchor", "\"02-32\"", "$.contracts[1].billing_anchor", "bad_value", "\"04-06\""),
    ONE("contracts/1/billing_anchor", "\"13-01\"", "$.contracts[1].billing_anchor", "bad_value", "\"04-06\""),
    ONE("contracts/1/billing_anchor", "\"1-1\"", "$.contracts[1].billing_anchor", "bad_value", "\"04-06\""),
    ONE("contracts/2/billing_anchor", "1", "$.contracts[2].billing_anchor", "unknown_key", "every day"),
    ONE("default_contract/billing_anchor", "[]", "$.default_contract.billing_anchor", "wrong_type", "found"),
    {{"contracts/2/billing_period", "contracts/2/billing_anchor"},
     {"\"week\"", "\"tusday\""},
     "$.contracts[2].billing_anchor",
     "bad_value",
     "did you mean \"tuesday\"",
     1},
    ONE("contracts/2/timezone", "\"Asia/Tokio\"", "$.contracts[2].timezone", "unknown_reference", "IANA"),
    ONE("contracts/2/timezone", "\"../etc/passwd\"", "$.contracts[2].timezone", "bad_value", "IANA"),
    ONE("contracts/2/timezone", "\"\"", "$.contracts[2].timezone", "bad_value", "bytes"),
    ONE("contracts/2/timezone", "9", "$.contracts[2].timezone", "wrong_type", "string"),
    ONE("contracts/1/starts_at", "\"2025-12-01T00:00:00Z\"", "$.contracts[1]", "overlap", "acme-2025"),
    ONE("contracts/0/ends_at", NULL, "$.contracts[1]", "overlap", "has no end"),
    ONE("contracts/0/ends_at", "\"2026-03-01T00:00:00Z\"", "$.contracts[1]", "overlap", "2026-03-01T00:00:00Z"),
    {{"contracts/0/ends_at", "contracts/1/ends_at", "contracts/#"},
     {"null", "\"2026-04-01T00:00:00Z\"",
      "{\"key\":\"late\",\"customer\":\"acme\",\"price_book\":\"standard\",\"starts_at\":\"2026-07-01T00:00:00Z\","
      "\"billing_period\":\"month\",\"timezone\":\"UTC\"}"},
     "$.contracts[4]",
     "overlap",
     "contract \"acme-2025\" ($.contracts[0]",
     2},
    ONE("contracts/0/prices", "{}", "$.contracts[0].prices", "wrong_type", "list"),
    ONE("contracts/0/prices/0/unit_price", NULL, "$.contracts[0].prices[0]", "missing_key", "unit_price"),
    ONE("contracts/0/prices/0/meter", "\"x\"", "$.contracts[0].prices[0].meter", "unknown_reference", "no meter"),
    ONE("contracts/0/prices/0/when", "{\"x\":\"y\"}", "$.contracts[0].prices[0].when.x", "never_matches", "x"),
    ONE("contracts/0/prices/#",
        "{\"meter\":\"tokens\",\"when\":{\"region\":\"us-east-1\"},\"model\":\"flat\",\"amount\":\"1\"}",
        "$.contracts[0].prices[1]", "ambiguous", "prices[0]"),
    ONE("contracts/0/overrides", "[{\"meter\":\"tokens\",\"multiplier\":\"1\"}]", "$.contracts[0].overrides[0].meter",
        "duplicate", "prices of its own"),
    {{"contracts/2/prices", "contracts/2/commitments"},
     {"[{\"meter\":\"requests\",\"model\":\"flat\",\"amount\":\"1\"}]",
      "[{\"key\":\"requests\",\"type\":\"minimum_spend\",\"amount\":\"1\",\"per\":\"period\"}]"},
     "$.contracts[2].commitments[0].key",
     "key_clash",
     "a meter priced by the contract",
     0},
    {{"contracts/2/prices", "price_books/2/fees"},
     {"[{\"meter\":\"requests\",\"model\":\"flat\",\"amount\":\"1\"}]",
      "[{\"key\":\"requests\",\"amount\":\"1\",\"per\":\"period\",\"charged\":\"in_advance\"}]"},
     "$.contracts[2].prices",
     "key_clash",
     "rename the fee",
     1},
    ONE("contracts/1/overrides", "{}", "$.contracts[1].overrides", "wrong_type", "list"),
    ONE("contracts/1/overrides/0", "1", "$.contracts[1].overrides[0]", "wrong_type", "object"),
    ONE("contracts/1/overrides/0/meter", NULL, "$.contracts[1].overrides[0]", "missing_key", "meter"),
    ONE("contracts/1/overrides/0/multiplier", NULL, "$.contracts[1].overrides[0]", "missing_key", "multiplier"),
    ONE("contracts/1/overrides/0/meter", "\"x\"", "$.contracts[1].overrides[0].meter", "unknown_reference", "no meter"),
    ONE("contracts/1/overrides/0/multiplier", "0.85", "$.contracts[1].overrides[0].multiplier", "wrong_type",
        "write it as a string"),
    ONE("contracts/1/overrides/0/multiplier", "\"-1\"", "$.contracts[1].overrides[0].multiplier", "bad_value", "0"),
    ONE("contracts/1/overrides/1/meter", "\"tokens\"", "$.contracts[1].overrides[1].meter", "duplicate",
        "overrides[0]"),
    ONE("contracts/1/overrides/0/factor", "\"1\"", "$.contracts[1].overrides[0].factor", "unknown_key", "unknown"),
    ONE("contracts/1/commitments", "\"\"", "$.contracts[1].commitments", "wrong_type", "list"),
    ONE("contracts/1/commitments/0/key", NULL, "$.contracts[1].commitments[0]", "missing_key", "key"),
    ONE("contracts/1/commitments/0/type", NULL, "$.contracts[1].commitments[0]", "missing_key", "type"),
    ONE("contracts/1/commitments/0/amount", NULL, "$.contracts[1].commitments[0]", "missing_key", "minimum_spend"),
    ONE("contracts/1/commitments/0/per", NULL, "$.contracts[1].commitments[0]", "missing_key", "per"),
    ONE("contracts/1/commitments/1/amount", NULL, "$.contracts[1].commitments[1]", "missing_key", "prepaid"),
    ONE("contracts/1/commitments/2/meter", NULL, "$.contracts[1].commitments[2]", "missing_key", "meter"),
    ONE("contracts/1/commitments/2/quantity", NULL, "$.contracts[1].commitments[2]", "missing_key", "quantity"),
    ONE("contracts/1/commitments/2/per", NULL, "$.contracts[1].commitments[2]", "missing_key", "per"),
    ONE("contracts/1/commitments/0/type", "\"minimum\"", "$.contracts[1].commitments[0].type", "bad_value",
        "minimum_spend, prepaid"),
    ONE("contracts/1/commitments/0/priority", "1", "$.contracts[1].commitments[0].priority", "unknown_key",
        "minimum_spend"),
    ONE("contracts/1/commitments/1/per", "\"period\"", "$.contracts[1].commitments[1].per", "bad_value",
        "contract, term"),
    ONE("contracts/1/commitments/2/per", "\"contract\"", "$.contracts[1].commitments[2].per", "bad_value",
        "period, term"),
    ONE("contracts/1/commitments/2/per", "\"term\"", "$.contracts[1].commitments[2].per", "contradiction",
        "has no end"),
    ONE("contracts/3/commitments/#",
        "{\"key\":\"more\",\"type\":\"minimum_quantity\",\"meter\":\"tokens\",\"quantity\":\"1\",\"per\":\"period\"}",
        "$.contracts[3].commitments[3].meter", "duplicate", "charged twice"),
    ONE("contracts/1/commitments/#",
        "{\"key\":\"more\",\"type\":\"minimum_quantity\",\"meter\":\"tokens\",\"quantity\":\"1\",\"per\":\"period\"}",
        "$.contracts[1].commitments[5].meter", "duplicate", "commitments[2], and in the same terms"),
    ONE("contracts/3/commitments/2/months", "12", "$.contracts[3].commitments[2].months", "unknown_key",
        "minimum_quantity"),
    ONE("contracts/1/commitments/0/per", "\"contract\"", "$.contracts[1].commitments[0].per", "bad_value",
        "period, term"),
    ONE("contracts/1/commitments/0/per", "\"term\"", "$.contracts[1].commitments[0].per", "contradiction",
        "has no end"),
    ONE("contracts/1/commitments/#", "{\"key\":\"again\",\"type\":\"prepaid\",\"amount\":\"1\",\"per\":\"term\"}",
        "$.contracts[1].commitments[5].per", "contradiction", "does not renew"),
    ONE("default_contract/commitments/0/per", "\"term\"", "$.default_contract.commitments[0].per", "contradiction",
        "has no end"),
    ONE("contracts/1/commitments/1/months", "6", "$.contracts[1].commitments[1].months", "contradiction",
        "per \"term\""),
    ONE("contracts/1/commitments/0/months", "6", "$.contracts[1].commitments[0].months", "unknown_key",
        "minimum_spend"),
    ONE("contracts/3/commitments/1/expires_at", "\"2027-01-01T00:00:00Z\"", "$.contracts[3].commitments[1].expires_at",
        "contradiction", "\"months\""),
    ONE("contracts/3/commitments/1/months", "0", "$.contracts[3].commitments[1].months", "bad_value", "1 to 120"),
    ONE("contracts/3/commitments/1/months", "121", "$.contracts[3].commitments[1].months", "bad_value", "1 to 120"),
    ONE("contracts/3/commitments/1/rollover_fraction", NULL, "$.contracts[3].commitments[1].rollover_months",
        "contradiction", "nothing goes on"),
    ONE("contracts/3/renews", "12", "$.contracts[3].renews", "wrong_type", "object"),
    ONE("contracts/3/renews", "{}", "$.contracts[3].renews", "missing_key", "months"),
    ONE("contracts/3/renews/years", "1", "$.contracts[3].renews.years", "unknown_key", "months"),
    ONE("contracts/3/renews/months", "0", "$.contracts[3].renews.months", "bad_value", "1 to 120"),
    ONE("contracts/1/renews", "{\"months\":7}", "$.contracts[1].renews.months", "contradiction", "a multiple of 3"),
    SOME("contracts/3/renews", NULL, "$.contracts[3].commitments[0].per", "contradiction", "has no end", 3),
    ONE("default_contract/renews", "{\"months\":12}", "$.default_contract.renews", "unknown_key", "allowed are"),
    ONE("contracts/1/commitments/0/amount", "\"0\"", "$.contracts[1].commitments[0].amount", "bad_value",
        "greater than 0"),
    ONE("contracts/1/commitments/2/quantity", "\"0.0\"", "$.contracts[1].commitments[2].quantity", "bad_value",
        "greater than 0"),
    ONE("contracts/1/commitments/1/priority", "\"5\"", "$.contracts[1].commitments[1].priority", "wrong_type",
        "not in quotes"),
    ONE("contracts/1/commitments/1/priority", "1000000001", "$.contracts[1].commitments[1].priority", "bad_value",
        "1000000000"),
    ONE("contracts/1/commitments/1/expires_at", "null", "$.contracts[1].commitments[1].expires_at", "wrong_type",
        "RFC 3339"),
    ONE("contracts/1/commitments/1/overage_multiplier", "\"-1\"", "$.contracts[1].commitments[1].overage_multiplier",
        "bad_value", "0 or more"),
    ONE("contracts/1/commitments/1/funding", "\"gift\"", "$.contracts[1].commitments[1].funding", "bad_value",
        "promotional"),
    ONE("contracts/1/commitments/0/funding", "\"free\"", "$.contracts[1].commitments[0].funding", "unknown_key",
        "minimum_spend"),
    ONE("contracts/1/commitments/1/price", "\"-1\"", "$.contracts[1].commitments[1].price", "bad_value", "0 or more"),
    ONE("contracts/1/commitments/1/meters", "[]", "$.contracts[1].commitments[1].meters", "bad_value", "1"),
    ONE("contracts/1/commitments/1/meters", "[\"tokens\",\"toks\"]", "$.contracts[1].commitments[1].meters[1]",
        "unknown_reference", "no meter"),
    ONE("contracts/1/commitments/1/meters", "[\"tokens\",\"requests\",\"tokens\"]",
        "$.contracts[1].commitments[1].meters[2]", "duplicate", "already"),
    ONE("contracts/1/commitments/1/starts_at", "\"2025-12-31T23:59:59Z\"", "$.contracts[1].commitments[1].starts_at",
        "out_of_order", "term"),
    ONE("contracts/1/commitments/1/expires_at", "\"2026-01-01T00:00:00Z\"", "$.contracts[1].commitments[1].expires_at",
        "out_of_order", "not after the start"),
    ONE("contracts/1/commitments/1/low_balance", "\"20%\"", "$.contracts[1].commitments[1].low_balance", "wrong_type",
        "list"),
    ONE("contracts/1/commitments/1/low_balance", "[]", "$.contracts[1].commitments[1].low_balance", "bad_value", "1"),
    ONE("contracts/1/commitments/1/low_balance/1", "\"100%\"", "$.contracts[1].commitments[1].low_balance[1]",
        "bad_value", "below 100"),
    ONE("contracts/1/commitments/1/low_balance/1", "\"1e3\"", "$.contracts[1].commitments[1].low_balance[1]",
        "bad_value", "such as"),
    ONE("contracts/1/commitments/1/low_balance/1", "\"-1\"", "$.contracts[1].commitments[1].low_balance[1]",
        "bad_value", "such as"),
    ONE("contracts/1/commitments/1/low_balance/#", "\"20.0%\"", "$.contracts[1].commitments[1].low_balance[3]",
        "duplicate", "already"),
    ONE("contracts/1/commitments/0/low_balance", "[\"5\"]", "$.contracts[1].commitments[0].low_balance", "unknown_key",
        "minimum_spend"),
    ONE("contracts/1/low_balance/0", "\"20%\"", "$.contracts[1].low_balance[0]", "bad_value", "amount"),
    ONE("default_contract/low_balance", "[\"999999999999999999999999999\"]", "$.default_contract.low_balance[0]",
        "not_representable", "amount"),
    ONE("default_contract/commitments/#", "{\"key\":\"f2\",\"type\":\"prepaid\",\"amount\":\"1\"}",
        "$.default_contract.commitments[1]", "contradiction", "nobody buys"),
    ONE("default_contract/commitments/#",
        "{\"key\":\"f2\",\"type\":\"prepaid\",\"amount\":\"1\",\"funding\":\"free\",\"price\":\"0.5\"}",
        "$.default_contract.commitments[1].price", "contradiction", "costs nothing"),
    ONE("contracts/1/commitments/2/meter", "\"lowest\"", "$.contracts[1].commitments[2].meter", "unknown_reference",
        "without dimensions"),
    ONE("contracts/1/commitments/2/meter", "\"toks\"", "$.contracts[1].commitments[2].meter", "unknown_reference",
        "no meter"),
    ONE("contracts/1/commitments/#", "{\"key\":\"f2\",\"type\":\"minimum_spend\",\"amount\":\"1\",\"per\":\"period\"}",
        "$.contracts[1].commitments[5]", "duplicate", "at most one"),
    ONE("contracts/1/commitments/1/key", "\"floor\"", "$.contracts[1].commitments[1]", "duplicate", "commitments[0]"),
    ONE("contracts/1/commitments/1/key", "\"platform\"", "$.contracts[1].commitments[1].key", "key_clash", "a fee of"),
    ONE("contracts/1/commitments/1/key", "\"tokens\"", "$.contracts[1].commitments[1].key", "key_clash", "a meter"),
    ONE("contracts/1/quantities/0/fee", "\"platform\"", "$.contracts[1].quantities[0].fee", "unknown_reference",
        "no unit_price"),
    ONE("contracts/1/quantities/0/fee", "\"sea\"", "$.contracts[1].quantities[0].fee", "unknown_reference", "no fee"),
    ONE("contracts/1/quantities/1/effective_from", "\"2026-02-15T00:00:00Z\"", "$.contracts[1].quantities[1]",
        "duplicate", "already"),
    ONE("contracts/1/quantities/1/quantity", "\"-1\"", "$.contracts[1].quantities[1].quantity", "bad_value",
        "0 or more"),
    ONE("contracts/1/discounts/0/rate", "\"1.000000000001\"", "$.contracts[1].discounts[0].rate", "not_representable",
        "at most \"1\""),
    ONE("contracts/1/discounts/0/rate", "\"0\"", "$.contracts[1].discounts[0].rate", "bad_value", "greater than 0"),
    ONE("contracts/1/discounts/0/rate", NULL, "$.contracts[1].discounts[0]", "missing_key", "rate"),
    ONE("contracts/1/discounts/0/amount", "\"1\"", "$.contracts[1].discounts[0].amount", "unknown_key", "percentage"),
    ONE("contracts/1/discounts/0/applies_to", "\"all\"", "$.contracts[1].discounts[0].applies_to", "bad_value",
        "invoice"),
    ONE("contracts/1/discounts/0/applies_to", "\"invoice\"", "$.contracts[1].discounts[0].meters", "unknown_key",
        "off the invoice"),
    ONE("contracts/1/discounts/1/amount", NULL, "$.contracts[1].discounts[1]", "missing_key", "amount"),
    ONE("contracts/1/discounts/1/meters", NULL, "$.contracts[1].discounts[1]", "missing_key", "meters"),
    ONE("contracts/1/discounts/1/meters", "[]", "$.contracts[1].discounts[1].meters", "bad_value", "1 to 256"),
    ONE("contracts/1/discounts/1/meters/0", "\"toks\"", "$.contracts[1].discounts[1].meters[0]", "unknown_reference",
        "no meter"),
    ONE("contracts/1/discounts/0/meters/1", "\"tokens\"", "$.contracts[1].discounts[0].meters[1]", "duplicate",
        "twice"),
    ONE("contracts/1/discounts/0/ends_at", "\"2026-01-01T00:00:00Z\"", "$.contracts[1].discounts[0].ends_at",
        "out_of_order", "later"),
    ONE("contracts/1/discounts/1/key", "\"launch\"", "$.contracts[1].discounts[1]", "duplicate", "discounts[0]"),
    ONE("contracts/1/discounts/1/key", "\"floor\"", "$.contracts[1].discounts[1].key", "key_clash", "a commitment"),
    ONE("contracts/1/discounts/1/key", "\"platform\"", "$.contracts[1].discounts[1].key", "key_clash", "a fee"),
    ONE("contracts/1/discounts/1/key", "\"tokens\"", "$.contracts[1].discounts[1].key", "key_clash", "a meter"),
    ONE("default_contract/commitments/0/key", "\"platform\"", "$.default_contract.commitments[0].key", "key_clash",
        "fee"),
    ONE("default_contract/price_book", NULL, "$.default_contract", "missing_key", "price_book"),
    ONE("default_contract/billing_period", NULL, "$.default_contract", "missing_key", "billing_period"),
    ONE("default_contract/timezone", NULL, "$.default_contract", "missing_key", "timezone"),
    ONE("default_contract/key", "\"x\"", "$.default_contract.key", "unknown_key", "unknown"),
    ONE("default_contract/starts_at", "\"2026-01-01T00:00:00Z\"", "$.default_contract.starts_at", "unknown_key",
        "unknown"),
};

#define PHASE(n) "contracts/0/phases/" n
#define AT_PHASE(n, member) "$.contracts[0].phases[" n "]" member

static const struct row phase_rows[] = {
    ONE("contracts/0/phases", "{}", "$.contracts[0].phases", "wrong_type", "list"),
    ONE("contracts/0/phases/#", "7", AT_PHASE("2", ""), "wrong_type", "object"),
    ONE(PHASE("0/key"), NULL, AT_PHASE("0", ""), "missing_key", "\"key\""),
    ONE(PHASE("0/key"), "\"a/b\"", AT_PHASE("0", ".key"), "bad_value", "letters"),
    ONE(PHASE("1/key"), "\"ramp\"", AT_PHASE("1", ""), "duplicate", "phases[0]"),
    ONE(PHASE("0/starts_at"), NULL, AT_PHASE("0", ""), "missing_key", "starts_at"),
    ONE(PHASE("0/starts_at"), "\"2025-04-01T00:00:00.5Z\"", AT_PHASE("0", ".starts_at"), "bad_value", "whole second"),
    ONE(PHASE("0/starts_at"), "\"2025-01-01T00:00:00Z\"", AT_PHASE("0", ".starts_at"), "out_of_order",
        "2025-01-01T00:00:00Z; phases ascend"),
    ONE(PHASE("0/starts_at"), "\"2025-09-01T00:00:00Z\"", AT_PHASE("1", ".starts_at"), "out_of_order", "phases ascend"),
    ONE(PHASE("1/starts_at"), "\"2026-01-01T00:00:00Z\"", AT_PHASE("1", ".starts_at"), "out_of_order",
        "ends 2026-01-01T00:00:00Z"),
    ONE(PHASE("0/starts_at"), "\"2026-01-01T00:00:00Z\"", AT_PHASE("0", ".starts_at"), "out_of_order",
        "ends 2026-01-01T00:00:00Z"), /* after the phase that follows it */
    ONE(PHASE("0/starts_at"), "\"2025-04-15T00:00:00Z\"", AT_PHASE("0", ".starts_at"), "within_period",
        ": 2025-04-01T00:00:00Z or 2025-05-01T00:00:00Z"),
    ONE(PHASE("0/starts_at"), "\"2025-04-01T00:00:00+01:00\"", AT_PHASE("0", ".starts_at"), "within_period",
        "2025-03-01T00:00:00Z or 2025-04-01T00:00:00Z"),
    ONE(PHASE("0/starts_at"), "\"2025-01-15T00:00:00Z\"", AT_PHASE("0", ".starts_at"), "within_period",
        "does: 2025-02-01T00:00:00Z"),
    ONE(PHASE("1/starts_at"), "\"2025-12-15T00:00:00Z\"", AT_PHASE("1", ".starts_at"), "within_period",
        "does: 2025-12-01T00:00:00Z"),
    ONE(PHASE("0/reason"), "\"\"", AT_PHASE("0", ".reason"), "bad_value", "1 to 256"),
    ONE(PHASE("0/ends_at"), "null", AT_PHASE("0", ".ends_at"), "unknown_key", "unknown"),
    ONE(PHASE("0/price_book"), "\"standart\"", AT_PHASE("0", ".price_book"), "unknown_reference", "\"standard\""),
    ONE(PHASE("0/price_book"), "\"tokyo\"", AT_PHASE("0", ".price_book"), "out_of_order", "JPY"),
    TWO(PHASE("0/price_book"), NULL, PHASE("0/overrides"), NULL, AT_PHASE("0", ""), "missing_key", "changes nothing"),
    ONE(PHASE("0/overrides/0/meter"), "\"tokens\"", AT_PHASE("0", ".overrides[0].meter"), "duplicate", "of its own"),
    ONE(PHASE("1/overrides"), NULL, AT_PHASE("1", ".prices"), "duplicate", "override for meter \"requests\" goes on"),
    ONE(PHASE("1/prices/0/meter"), "\"token\"", AT_PHASE("1", ".prices[0].meter"), "unknown_reference", "no meter"),
    ONE(PHASE("1/commitments/0/key"), "\"platform\"", AT_PHASE("1", ".commitments[0].key"), "key_clash", "a fee of"),
    ONE("contracts/0/commitments",
        "[{\"key\":\"platform\",\"type\":\"minimum_spend\",\"amount\":\"1\",\"per\":\"period\"}]",
        "$.contracts[0].commitments[0].key", "key_clash", "a fee of"),
    /* a book that the contract did not have before, and a fee of which has a meter's name that goes on */
    {{"price_books/#", PHASE("0/price_book"), PHASE("0/overrides")},
     {"{\"key\":\"other\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2025-01-01T00:00:00Z\","
      "\"fees\":[{\"key\":\"tokens\",\"amount\":\"1\",\"per\":\"period\",\"charged\":\"in_advance\"}]}",
      "\"other\"", "[]"},
     AT_PHASE("0", ".price_book"),
     "key_clash",
     "meter \"tokens\" is also a fee",
     0},
};

/* Boundaries that cut: acme has a meter of each length in UTC, nippon one of 1h in Asia/Tokyo. */
static const struct row boundary_rows[] = {
    ONE("contracts/2/starts_at", "\"2026-02-01T00:30:00Z\"", "$.contracts[2].starts_at", "cuts_window", "storage"),
    ONE("contracts/2/ends_at", "\"2026-03-01T00:00:01Z\"", "$.contracts[2].ends_at", "cuts_window",
        "2026-03-01T00:00:01Z"),
    ONE("contracts/2/timezone", "\"Asia/Kolkata\"", "$.contracts[2].billing_period", "cuts_window",
        "2026-01-31T18:30:00Z (time zone Asia/Kolkata)"),
    ONE("contracts/2/timezone", "\"Asia/Kathmandu\"", "$.contracts[2].billing_period", "cuts_window", "storage"),
    ONE("contracts/2/timezone", "\"Australia/Lord_Howe\"", "$.contracts[2].billing_period", "cuts_window", "storage"),
    ONE("meters/2/window", "\"1d\"", "$.contracts[2].starts_at", "cuts_window", "storage"),
    ONE("contracts/1/billing_period", "\"week\"", "$.contracts[1].billing_period", "cuts_window", "seats"),
    ONE("contracts/1/billing_period", "\"day\"", "$.contracts[1].billing_period", "cuts_window", "1mo"),
    ONE("contracts/1/billing_anchor", "\"01-15\"", "$.contracts[1].billing_period", "cuts_window", "1mo"),
    ONE("contracts/2/prices", "[{\"meter\":\"users\",\"model\":\"flat\",\"amount\":\"1\"}]", "$.contracts[2].starts_at",
        "cuts_window", "which the contract prices"),
    SOME("contracts/1/timezone", "\"Europe/Berlin\"", "$.contracts[1].billing_period", "cuts_window", "users", 2),
    SOME("default_contract/timezone", "\"America/New_York\"", "$.default_contract.billing_period", "cuts_window",
         "users", 2),
    {{"price_books/2/effective_from", "default_contract/price_book", "default_contract/timezone"},
     {"\"1971-06-01T00:00:00Z\"", "\"tokyo\"", "\"Africa/Monrovia\""},
     "$.default_contract.billing_period",
     "cuts_window",
     "1971-06-01T00:44:30Z",
     0},
    SOME("contracts/0/starts_at", "\"2025-01-02T12:00:00Z\"", "$.contracts[0].starts_at", "cuts_window", "users", 2),
    /* weeks from a phase on that prices a month's meter; days would do for the meters before it */
    {{"contracts/2/phases", "contracts/2/timezone", "contracts/2/starts_at"},
     {"[{\"key\":\"p\",\"starts_at\":\"2026-03-02T00:00:00Z\",\"prices\":[{\"meter\":\"seats\",\"model\":\"flat\","
      "\"amount\":\"1\"}]}]",
      "\"UTC\"", "\"2026-02-02T00:00:00Z\""},
     "$.contracts[2].phases[0].starts_at",
     "cuts_window",
     "which the contract prices",
     0},
    {{"contracts/2/phases", "contracts/2/timezone", "contracts/2/starts_at"},
     {"[{\"key\":\"p\",\"starts_at\":\"2026-03-01T00:00:00Z\",\"prices\":[{\"meter\":\"seats\",\"model\":\"flat\","
      "\"amount\":\"1\"}]}]",
      "\"UTC\"", "\"2026-02-02T00:00:00Z\""},
     "$.contracts[2].billing_period",
     "cuts_window",
     "which the contract prices",
     0},
};

/* Changes that are no mistakes. */
static const struct row good_rows[] = {
    {{"meters/7/where"}, {"{}"}, 0, 0, 0, 0},
    {{"meters/7/where"}, {"{\"subject\":[\"\"],\"type\":[\"a\"],\"myextension1\":[\"b\"]}"}, 0, 0, 0, 0},
    {{"meters/7/group_by"}, {"[]"}, 0, 0, 0, 0},
    {{"meters/7/group_by"}, {"[\"1.2.3.4.5.6.7\",\"ü ö\"]"}, 0, 0, 0, 0},
    {{"meters/3/value"}, {"\"data.user\""}, 0, 0, 0, 0},
    {{"meters/3/value"}, {"\"someextension\""}, 0, 0, 0, 0},
    {{"price_books/2/prices"}, {NULL}, 0, 0, 0, 0},
    {{"price_books/2/prices"}, {"[]"}, 0, 0, 0, 0},
    {{"price_books/1/prices/1/unit_price"}, {"\"0.0000000000010000\""}, 0, 0, 0, 0},
    {{"price_books/1/prices/1/unit_price"}, {"\"170141183460469231731687303.715884105727\""}, 0, 0, 0, 0},
    {{"price_books/1/prices/1/unit_price"}, {"\"0e999999999999\""}, 0, 0, 0, 0},
    {{"price_books/1/prices/0/tiers/0/flat_fee_at_zero"}, {"false"}, 0, 0, 0, 0},
    {{"price_books/1/prices/0/maximum_amount"}, {"\"1\""}, 0, 0, 0, 0},
    {{"price_books/1/prices/2/when/region"}, {"\"us-east-1\""}, 0, 0, 0, 0},
    {{"price_books/1/prices/2/when/request.tier"}, {"\"\""}, 0, 0, 0, 0},
    /* equally specific but never both: another text on the same dimension */
    {{"price_books/1/prices/#"},
     {"{\"meter\":\"tokens\",\"when\":{\"model\":\"small\"},\"model\":\"flat\",\"amount\":\"1\"}"},
     0,
     0,
     0,
     0},
    /* equally specific, and where both match a third price, {model, region}, is more specific */
    {{"price_books/1/prices/#"},
     {"{\"meter\":\"tokens\",\"when\":{\"region\":\"eu-west-1\"},\"model\":\"flat\",\"amount\":\"1\"}"},
     0,
     0,
     0,
     0},
    {{"contracts/0/ends_at"}, {"\"2025-12-01T00:00:00Z\""}, 0, 0, 0, 0}, /* a month without a contract */
    {{"meters/7/where"},
     {"{\"data.aaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaaa."
      "bbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbbb\":[\"\"]}"},
     0,
     0,
     0,
     0},
    /* Liberia was 44 minutes and 30 seconds off until 1972 */
    {{"price_books/2/effective_from", "default_contract/price_book", "default_contract/timezone"},
     {"\"1972-02-01T00:00:00Z\"", "\"tokyo\"", "\"Africa/Monrovia\""},
     0,
     0,
     0,
     0},
    /* the window of the last odd boundary begins before there is a price */
    {{"price_books/2/effective_from", "default_contract/price_book", "default_contract/timezone"},
     {"\"1972-01-01T00:44:00Z\"", "\"tokyo\"", "\"Africa/Monrovia\""},
     0,
     0,
     0,
     0},
    {{"contracts/2/billing_period"}, {"\"year\""}, 0, 0, 0, 0},
    {{"contracts/2/billing_period", "contracts/2/billing_anchor"}, {"\"month\"", "31"}, 0, 0, 0, 0},
    {{"contracts/2/billing_period", "contracts/2/billing_anchor"}, {"\"week\"", "\"sunday\""}, 0, 0, 0, 0},
    {{"contracts/2/billing_period", "contracts/2/billing_anchor"}, {"\"year\"", "\"02-31\""}, 0, 0, 0, 0},
    {{"contracts/1/billing_anchor"}, {"\"10-01\""}, 0, 0, 0, 0}, /* with months of 1mo windows: quarters as they were */
    {{"contracts/2/starts_at"}, {"\"2020-02-01T00:00:00.000Z\""}, 0, 0, 0, 0}, /* before the book's first version */
    {{"contracts/0/phases"}, {"[]"}, 0, 0, 0, 0},
    /* units of a fee that only a phase's price book has */
    {{"price_books/#", PHASE("0/price_book"), "contracts/0/quantities"},
     {"{\"key\":\"other\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2025-01-01T00:00:00Z\","
      "\"fees\":[{\"key\":\"site\",\"unit_price\":\"1\",\"per\":\"period\",\"charged\":\"in_advance\"}]}",
      "\"other\"", "[{\"fee\":\"site\",\"effective_from\":\"2025-04-01T00:00:00Z\",\"quantity\":\"2\"}]"},
     0,
     0,
     0,
     0},
    {{PHASE("1/price_book")}, {"\"standard\""}, 0, 0, 0, 0},
    {{"contracts"}, {NULL}, 0, 0, 0, 0},
    {{"default_contract"}, {NULL}, 0, 0, 0, 0},
    {{"contracts/2/timezone", "meters/2/window"}, {"\"Asia/Kolkata\"", "\"15m\""}, 0, 0, 0, 0},
};

static size_t check_row(const struct row *row)
{
    json_t *json = full_catalog();
    for (int i = 0; i < 3 && row->place[i]; i++)
        change(json, row->place[i], row->json[i]);
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    enum weir_status status = parse_json(json, &catalog, &mistakes);
    size_t expected = row->count ? row->count : 1;
    bool found = false;
    if (!row->path) {
        if (status != WEIR_OK)
            print_all(&mistakes);
        cr_expect_eq(status, WEIR_OK, "%s = %s is no mistake", row->place[0], row->json[0]);
    } else {
        for (size_t i = 0; i < mistakes.count; i++) {
            const struct weir_mistake *mistake = &mistakes.mistakes[i];
            cr_expect_not(strchr(mistake->text, '\n'));
            found = found
                    || (strcmp(mistake->path, row->path) == 0 && strcmp(mistake->kind, row->kind) == 0
                        && strstr(mistake->text, row->word) && strcmp(mistake->file, "test.json") == 0);
        }
        if (!found || mistakes.count != expected)
            print_all(&mistakes);
        cr_expect_eq(status, WEIR_REJECT);
        cr_expect(found, "%s = %s: expected %s: [%s] ...%s...", row->place[0],
                  row->json[0] ? row->json[0] : "(removed)", row->path, row->kind, row->word);
        cr_expect_eq(mistakes.count, expected, "%s = %s: %zu mistakes, expected %zu", row->place[0],
                     row->json[0] ? row->json[0] : "(removed)", mistakes.count, expected);
    }
    weir_catalog_free(catalog);
    weir_mistake_list_free(&mistakes);
    json_decref(json);
    return 1;
}

#define CHECK_ROWS(rows)                                                                                               \
    for (size_t row = 0; row < sizeof(rows) / sizeof *(rows); row++)                                                   \
    (void)check_row(&(rows)[row])

Test(catalog_mistakes, top)
{
    CHECK_ROWS(top_rows);
}
Test(catalog_mistakes, meters)
{
    CHECK_ROWS(meter_rows);
}
Test(catalog_mistakes, price_books)
{
    CHECK_ROWS(book_rows);
}
Test(catalog_mistakes, prices)
{
    CHECK_ROWS(price_rows);
}
Test(catalog_mistakes, contracts)
{
    CHECK_ROWS(contract_rows);
}
Test(catalog_mistakes, phases)
{
    CHECK_ROWS(phase_rows);
}
Test(catalog_mistakes, boundaries)
{
    CHECK_ROWS(boundary_rows);
}
Test(catalog_mistakes, none)
{
    CHECK_ROWS(good_rows);
}

/* Not JSON, or a key twice: one mistake, with line and column. */
Test(catalog_mistakes, syntax)
{
    static const struct {
        const char *json, *file, *word;
    } rows[] = {
        {"", "bad.json:1:0", "not valid JSON"},
        {"{\n  \"meters\": [,]\n}", "bad.json:2:", "near"},
        {"{\"meters\":[],\n\"meters\":[]}", "bad.json:2:", "duplicate"},
        {"{\"meters\":[{\"key\":\"a\",\"key\":\"b\"}]}", "bad.json:1:", "duplicate"},
        {"{} x", "bad.json:1:", "not valid JSON"},
        {"{\"meters\":\"\xff\"}", "bad.json:1:", "not valid JSON"},
        {"{\"meters\":\"\\u0000\"}", "bad.json:1:", "not valid JSON"},
        {"{\"meters\":1e999}", "bad.json:1:", "not valid JSON"},
    };
    for (size_t i = 0; i < sizeof rows / sizeof *rows; i++) {
        struct weir_catalog *catalog = NULL;
        struct weir_mistake_list mistakes = {0};
        cr_expect_eq(weir_catalog_parse("bad.json", rows[i].json, strlen(rows[i].json), &catalog, &mistakes),
                     WEIR_REJECT);
        cr_assert_eq(mistakes.count, 1, "%s", rows[i].json);
        cr_expect(strncmp(mistakes.mistakes[0].file, rows[i].file, strlen(rows[i].file)) == 0, "%s",
                  mistakes.mistakes[0].file);
        cr_expect(strstr(mistakes.mistakes[0].text, rows[i].word), "%s", mistakes.mistakes[0].text);
        cr_expect_str_eq(mistakes.mistakes[0].kind, "syntax");
        weir_mistake_list_free(&mistakes);
    }
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_expect_eq(weir_catalog_parse("x", "[]", 2, &catalog, &mistakes), WEIR_REJECT);
    cr_expect_str_eq(mistakes.mistakes[0].kind, "wrong_type");
    weir_mistake_list_free(&mistakes);
}

/* Many at once: all are there, in order of place. */
Test(catalog_mistakes, all_at_once)
{
    json_t *json = full_catalog();
    change(json, "price_books/1/prices/0/tiers/1/up_to", "\"5\"");
    change(json, "meters/7/window", "\"1w\"");
    change(json, "contracts/2/timezone", "\"Mars\"");
    for (int i = 0; i < 11; i++)
        change(json, "meters/#", "{}");
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    cr_assert_eq(parse_json(json, &catalog, &mistakes), WEIR_REJECT);
    cr_assert_eq(mistakes.count, 3 + 11 * 4);
    cr_expect_str_eq(mistakes.mistakes[0].path, "$.contracts[2].timezone");
    cr_expect_str_eq(mistakes.mistakes[1].path, "$.meters[7].window");
    cr_expect_str_eq(mistakes.mistakes[2].path, "$.meters[8]");
    cr_expect_str_eq(mistakes.mistakes[3 + 11 * 4 - 2].path, "$.meters[18]");
    cr_expect_str_eq(mistakes.mistakes[3 + 11 * 4 - 1].path, "$.price_books[1].prices[0].tiers[1].up_to");
    weir_mistake_list_free(&mistakes);
    json_decref(json);
}
