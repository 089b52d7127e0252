/* The catalog: meters, price books by version, fees, contracts. Read once, checked whole, immutable afterwards, shared
 * by all threads without a lock. Everything here is owned by the catalog and lives until weir_catalog_free().
 *
 * The shapes below are design section 4 after checking: references are resolved to pointers, lists are sorted the way
 * the pipeline looks them up, defaults are filled in.
 */
#ifndef WEIR_COMMON_MODEL_CATALOG_H
#define WEIR_COMMON_MODEL_CATALOG_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "common/calendar.h"
#include "common/decimal.h"
#include "common/model/window.h"
#include "common/status.h"

enum {
    WEIR_METERS_MAX = 256,
    WEIR_WHERE_MAX = 8,         /* where paths of one meter */
    WEIR_WHERE_VALUES_MAX = 64, /* values of one where path */
    WEIR_TIERS_MAX = 64,
    WEIR_PRICES_MAX = 1024,          /* prices of one price book version */
    WEIR_FEES_MAX = 64,              /* fees of one price book version */
    WEIR_OVERRIDES_MAX = 256,        /* of one contract */
    WEIR_COMMITMENTS_MAX = 16,       /* of one contract */
    WEIR_DISCOUNTS_MAX = 16,         /* of one contract or price book version */
    WEIR_PACKAGES_MAX = 64,          /* of one contract or price book version */
    WEIR_PACKAGE_COUNT_MAX = 999999, /* of one package in one purchase */
    WEIR_QUANTITIES_MAX = 1024,      /* of one contract */
    WEIR_PHASES_MAX = 120,           /* of one contract: ten years of months */
    WEIR_THRESHOLDS_MAX = 16,        /* of one balance */
    WEIR_REASON_MAX = 256,           /* bytes: why a phase's terms are others */
    WEIR_TERM_MONTHS_MAX = 120,      /* of a term, or from its start until something expires */
    WEIR_CONTRACTS_MAX = 1000000,    /* and their phases */
};

/* 1. meters */
#define WEIR_AGGREGATIONS(X)                                                                                           \
    X(COUNT, count) X(SUM, sum) X(MIN, min) X(MAX, max) X(LATEST, latest) X(AVG, avg) X(UNIQUE, unique)
enum weir_aggregation {
#define WEIR_X(upper, lower) WEIR_AGGREGATION_##upper,
    WEIR_AGGREGATIONS(WEIR_X)
#undef WEIR_X
        WEIR_AGGREGATION_COUNT_OF
};
extern const char *const weir_aggregation_name[WEIR_AGGREGATION_COUNT_OF];

/* A place in an event, e.g. data.usage.tokens; the slot indexes weir_event.values. */
struct weir_path {
    struct weir_slice text;     /* "data.usage.tokens" */
    uint32_t step_count;        /* 1..8 */
    struct weir_slice steps[8]; /* "data", "usage", "tokens" */
};

struct weir_where {
    uint32_t slot;
    uint32_t value_count;
    struct weir_slice *values;
};

struct weir_group {
    struct weir_slice name; /* as in the catalog: "model"; the path is data.model */
    uint32_t slot;
};

struct weir_meter {
    struct weir_slice key;
    struct weir_slice event_type;
    enum weir_aggregation aggregation;
    bool rollup_sum;     /* min, max, latest, avg: a period adds the windows' values up */
    bool is_retractable; /* an event can be taken out again: count, sum, avg always; the others when they say so */
    enum weir_window_length window;
    uint32_t value_slot; /* UINT32_MAX for count */
    uint32_t where_count;
    struct weir_where where[WEIR_WHERE_MAX];
    uint32_t group_count;
    struct weir_group groups[WEIR_DIMENSIONS_MAX];
    uint32_t index; /* of this meter in catalog->meters */
};

/* 2. price books */
#define WEIR_PRICE_MODELS(X)                                                                                           \
    X(PER_UNIT, per_unit)                                                                                              \
    X(GRADUATED, graduated) X(VOLUME, volume) X(PACKAGE, package) X(PERCENTAGE, percentage) X(FLAT, flat)
enum weir_price_model {
#define WEIR_X(upper, lower) WEIR_MODEL_##upper,
    WEIR_PRICE_MODELS(WEIR_X)
#undef WEIR_X
        WEIR_PRICE_MODEL_COUNT
};
extern const char *const weir_price_model_name[WEIR_PRICE_MODEL_COUNT];

struct weir_tier {
    bool has_up_to;            /* false exactly for the last tier */
    struct weir_decimal up_to; /* inclusive */
    struct weir_decimal unit_price;
    struct weir_decimal flat_fee; /* 0 when not given */
};

struct weir_when {
    uint32_t group; /* index into meter->groups */
    struct weir_slice text;
};

struct weir_price {
    const struct weir_meter *meter;
    uint32_t when_count;
    struct weir_when when[WEIR_DIMENSIONS_MAX]; /* sorted by dimension name */
    struct weir_slice key; /* identity within its version: "tokens" or "tokens[model=large,region=eu]" (names sorted; in
                              a text '\\', ',', '=', ']' are escaped by '\\') */
    enum weir_price_model model;
    bool flat_fee_at_zero;
    bool has_minimum;
    bool has_maximum;
    uint32_t tier_count; /* graduated, volume */
    struct weir_tier *tiers;
    struct weir_decimal unit_price;   /* per_unit */
    struct weir_decimal package_size; /* package, > 0 */
    struct weir_decimal package_price;
    struct weir_decimal rate;       /* percentage; "0.029" is 2.9 % */
    struct weir_decimal fixed_fee;  /* percentage, per event */
    struct weir_decimal amount;     /* flat */
    struct weir_decimal free_units; /* 0 when not given */
    struct weir_decimal minimum_amount;
    struct weir_decimal maximum_amount;
    const struct weir_discount_list *discounts; /* what a contract takes off; NULL: nothing. Not of a catalog's: rater/
                                                   price.h */
};

enum weir_fee_charged { WEIR_FEE_IN_ADVANCE, WEIR_FEE_IN_ARREARS };

/* How often: in every billing period; when a contract begins and in each period that has an anniversary of that; once
 * in the life of a contract. */
#define WEIR_FEE_PERS(X) X(PERIOD, period) X(YEAR, year) X(CONTRACT, contract)
enum weir_fee_per {
#define WEIR_X(upper, lower) WEIR_FEE_PER_##upper,
    WEIR_FEE_PERS(WEIR_X)
#undef WEIR_X
        WEIR_FEE_PER_COUNT
};
extern const char *const weir_fee_per_name[WEIR_FEE_PER_COUNT];

/* What a period pays that the contract's term cuts: all, or the share of its days or seconds. */
#define WEIR_PRORATIONS(X) X(NONE, none) X(DAY, day) X(SECOND, second)
enum weir_proration {
#define WEIR_X(upper, lower) WEIR_PRORATION_##upper,
    WEIR_PRORATIONS(WEIR_X)
#undef WEIR_X
        WEIR_PRORATION_COUNT
};
extern const char *const weir_proration_name[WEIR_PRORATION_COUNT];

struct weir_fee {
    struct weir_slice key;
    struct weir_decimal amount; /* each time */
    bool is_per_unit;           /* amount is for one unit; contracts say how many (weir_quantity). Only per period */
    enum weir_fee_per per;
    enum weir_fee_charged charged;
    enum weir_proration proration; /* only per period */
};

/* By what prepaid amounts are put in the order in which they are drawn down, in the customary order: the lower
 * priority, free before paid, the fewest meters, the earliest expiry, the earliest start. */
#define WEIR_DRAW_KEYS(X)                                                                                              \
    X(PRIORITY, priority)                                                                                              \
    X(FUNDING, funding) X(METERS, meters) X(EXPIRES_AT, expires_at) X(STARTS_AT, starts_at)
enum weir_draw_key {
#define WEIR_X(upper, lower) WEIR_DRAW_BY_##upper,
    WEIR_DRAW_KEYS(WEIR_X)
#undef WEIR_X
        WEIR_DRAW_KEY_COUNT
};
extern const char *const weir_draw_key_name[WEIR_DRAW_KEY_COUNT];

/* What these leave open, the amounts' own keys decide. */
struct weir_draw_order {
    uint32_t count; /* 0: it is not said here */
    enum weir_draw_key keys[WEIR_DRAW_KEY_COUNT];
};

/* What prepaid amounts can be bought as (docs/credits.md 2.3). */
struct weir_package {
    struct weir_slice key;
    struct weir_decimal amount, price; /* of one, where they are bought whole; otherwise 0 */
    uint32_t tier_count;               /* 0: whole; otherwise by any amount, all of it at the unit_price of its tier */
    struct weir_tier *tiers;
};

struct weir_price_book_version {
    const struct weir_price_book *book;
    uint32_t version;       /* >= 1 */
    int64_t effective_from; /* ns */
    uint32_t price_count;
    struct weir_price *prices; /* by meter index, then most `when` keys first, then key */
    uint32_t fee_count;
    struct weir_fee *fees;
    uint32_t discount_count;
    struct weir_discount *discounts;       /* of contracts without a list of their own */
    struct weir_draw_order drawdown_order; /* of contracts that do not say one */
    uint32_t package_count;
    struct weir_package *packages;
    /* A contract with prices of its own has versions of its own, which hold these alone; the book's comes after them.
     * NULL: it is the book's. */
    const struct weir_price_book_version *base;
};

struct weir_price_book {
    struct weir_slice key;
    struct weir_slice currency;  /* ISO 4217, the same in every version */
    int currency_places;         /* minor unit: 0 for JPY, 2 for USD, 3 for KWD */
    enum weir_rounding rounding; /* of invoice amounts, the same in every version */
    uint32_t version_count;
    struct weir_price_book_version *versions; /* by effective_from, ascending, all different */
};

/* 3. contracts */

/* What contracts with the same billing_period, billing_anchor and timezone have in common. */
struct weir_calendar {
    enum weir_billing_period billing_period;
    struct weir_billing_anchor anchor;
    struct weir_slice timezone;
    const struct weir_zone *zone;
    int64_t from; /* the earliest time at which a contract can need it */
    /* Boundaries that were written down (rater/calendars.h) hold whatever the zone's rules say by now: ascending, each
     * period from one to the next; 0 when there are none. */
    size_t kept_count;
    int64_t *kept;
};

struct weir_override {
    const struct weir_meter *meter;
    struct weir_decimal multiplier; /* >= 0 */
};

#define WEIR_COMMITMENT_TYPES(X)                                                                                       \
    X(MINIMUM_SPEND, minimum_spend) X(PREPAID, prepaid) X(MINIMUM_QUANTITY, minimum_quantity)
enum weir_commitment_type {
#define WEIR_X(upper, lower) WEIR_COMMITMENT_##upper,
    WEIR_COMMITMENT_TYPES(WEIR_X)
#undef WEIR_X
        WEIR_COMMITMENT_TYPE_COUNT
};
extern const char *const weir_commitment_type_name[WEIR_COMMITMENT_TYPE_COUNT];

/* How a grant came to the customer, in the order in which they are drawn down at one priority. */
#define WEIR_FUNDINGS(X) X(FREE, free) X(PROMOTIONAL, promotional) X(PAID, paid)
enum weir_funding {
#define WEIR_X(upper, lower) WEIR_FUNDING_##upper,
    WEIR_FUNDINGS(WEIR_X)
#undef WEIR_X
        WEIR_FUNDING_COUNT
};
extern const char *const weir_funding_name[WEIR_FUNDING_COUNT];

/* A balance that falls to it is told (docs/credits.md 5.1): an amount, or a percentage, from 0 to below 100, of what
 * was granted. */
struct weir_threshold {
    struct weir_decimal value;
    bool is_percent;
};
enum { WEIR_THRESHOLD_TEXT_MAX = WEIR_DECIMAL_TEXT_MAX + 1 };

struct weir_thresholds {
    uint32_t count;              /* up to WEIR_THRESHOLDS_MAX */
    struct weir_threshold *list; /* amounts, then percentages, ascending, all different */
};

struct weir_commitment {
    struct weir_slice key;
    enum weir_commitment_type type;
    struct weir_decimal amount;     /* minimum_spend, prepaid; > 0 */
    const struct weir_meter *meter; /* minimum_quantity */
    struct weir_decimal quantity;   /* minimum_quantity; > 0 */

    /* prepaid (docs/credits.md) */
    enum weir_funding funding;              /* paid when not given */
    struct weir_decimal price;              /* what it was bought for: the amount when not given, 0 unless paid */
    struct weir_slice package;              /* that it was bought as; empty: none */
    int64_t package_count;                  /* how many of it; 0: the amount was said */
    int64_t priority;                       /* lower first, 0 when not given */
    int64_t starts_at, expires_at;          /* draws usage of [starts_at, expires_at) in terms that list it; when not
                                               given INT64_MIN and WEIR_TIME_NEVER */
    uint32_t meter_count;                   /* usage of these alone; 0: of all */
    struct weir_slice *meters;              /* sorted, all different */
    struct weir_decimal overage_multiplier; /* 1 when not given */
    struct weir_decimal rollover_fraction;  /* of what is left at expires_at; 0 when not given */
    int64_t rollover_expires_at;            /* WEIR_TIME_NEVER when not given */
    struct weir_thresholds low_balance;     /* of what is left of it; has no part in any charge */

    /* Minimums: over each term of the contract, otherwise over each billing period. prepaid: granted anew with each
     * term, otherwise once; then the times above are those of one term only (weir_commitment_of_term). */
    bool is_per_term;
    uint32_t months;          /* prepaid per term: from the term's start until it expires; 0: with the term */
    uint32_t rollover_months; /* from then until what went on does; 0: as long as a term */
};

#define WEIR_DISCOUNT_TYPES(X) X(PERCENTAGE, percentage) X(AMOUNT, amount)
enum weir_discount_type {
#define WEIR_X(upper, lower) WEIR_DISCOUNT_##upper,
    WEIR_DISCOUNT_TYPES(WEIR_X)
#undef WEIR_X
        WEIR_DISCOUNT_TYPE_COUNT
};
extern const char *const weir_discount_type_name[WEIR_DISCOUNT_TYPE_COUNT];

/* What is taken off in each billing period that begins in [starts_at, ends_at) (docs/fees.md). */
struct weir_discount {
    struct weir_slice key;
    enum weir_discount_type type;
    struct weir_decimal rate;         /* percentage; above 0, at most 1 */
    struct weir_decimal amount;       /* amount; > 0 */
    bool is_on_invoice;               /* off all usage and fees of a period together; otherwise off each price */
    uint32_t meter_count;             /* percentage: 0 when not given; on the invoice 0 */
    const struct weir_meter **meters; /* all different; none: all that are priced */
    int64_t starts_at;                /* 0 when not given */
    int64_t ends_at;                  /* WEIR_TIME_NEVER when not given */
};

/* From when on a contract has how many of a fee's units, such as seats. */
struct weir_quantity {
    struct weir_slice fee;
    int64_t effective_from;
    struct weir_decimal quantity;
};

/* The terms of a contract from starts_at until ends_at. A contract in phases stands in the catalog once for each, one
 * after another without a gap, all with its key; a phase begins where a billing period does, so a period has one entry.
 */
struct weir_contract {
    struct weir_slice key;              /* empty for the default contract */
    struct weir_slice customer;         /* empty for the default contract */
    const struct weir_price_book *book; /* with prices of its own: a copy, in which they come before the book's */
    int64_t starts_at;                  /* 0 for the default contract */
    int64_t ends_at;                    /* WEIR_TIME_NEVER: open */
    int64_t whole_starts_at;            /* of the contract, all phases together */
    int64_t whole_ends_at;
    uint32_t phase;              /* 0: the terms that it begins with */
    uint32_t phase_count;        /* of all its entries, this one among them: they begin at this - phase */
    struct weir_slice phase_key; /* empty for phase 0 */
    struct weir_slice reason;    /* why the phase's terms are others; may be empty */
    enum weir_billing_period billing_period;
    struct weir_billing_anchor billing_anchor;
    struct weir_slice timezone;
    const struct weir_zone *zone;
    const struct weir_calendar *calendar; /* of the three */
    uint32_t price_count;
    struct weir_price *prices; /* its own, in the order of a version's; none for a meter with an override */
    uint32_t override_count;
    struct weir_override *overrides;
    uint32_t commitment_count;
    struct weir_commitment *commitments; /* at most one minimum_spend */
    bool has_own_discounts;              /* a list of its own, which may be empty; otherwise the price book's
                                            (weir_contract_discounts) */
    uint32_t discount_count;
    struct weir_discount *discounts; /* in the order in which they are taken off */
    bool has_invoice_discounts;      /* of its own or its price book's, at some time */
    struct weir_draw_order drawdown_order;
    uint32_t package_count;
    struct weir_package *packages; /* its own, which come before the price book's */
    uint32_t quantity_count;
    struct weir_quantity *quantities; /* by fee, then effective_from; all different */
    bool has_prepaid, has_minimum_quantity;
    struct weir_thresholds low_balance; /* of what is left of all its grants together: amounts */
    bool has_term_minimum;              /* a minimum of spend or of a quantity per term, in any phase */
    uint32_t renews_months;             /* it renews by itself, for terms of so many; 0: it has one term */
};

/* A term of a contract that renews: terms follow one another without a gap, each begins where a billing period does. */
struct weir_term {
    uint32_t number;            /* from 1 */
    int64_t starts_at, ends_at; /* cut to the contract's end */
    int64_t renews_at;          /* when the next one begins, or would; WEIR_TIME_NEVER: it does not renew */
};

/* 4. the whole */
struct weir_catalog {
    uint32_t path_count;
    struct weir_path *paths; /* slot -> path, all different */
    uint32_t meter_count;
    struct weir_meter *meters; /* by key */
    uint32_t book_count;
    struct weir_price_book *books; /* by key */
    uint32_t contract_count;
    struct weir_contract *contracts;        /* by customer, then starts_at; no two hold at one time */
    struct weir_contract *default_contract; /* NULL: customers without a contract are unpriced */
    size_t calendar_count;
    struct weir_calendar *calendars; /* all different; by timezone, billing_period, anchor */
    void *owned;                     /* the arena and zones; catalog.c's business */
};

/* One mistake in a catalog. Views live as long as the list. */
struct weir_mistake {
    const char *file; /* as given or found in the folder */
    const char *path; /* JSON path: "$.price_books[0].prices[1].tiers" */
    const char *kind; /* one word for programs: "unknown_key", "missing_key", "overlap", ... (catalog_internal.h) */
    const char *text; /* what was found and what is allowed */
};

struct weir_mistake_list {
    size_t count;
    struct weir_mistake *mistakes; /* in order of file, then place */
    void *owned;
};

/* Reads a file, or every *.json of a folder (sorted by name, not recursive), merged; a missing list is an empty one.
 * WEIR_OK: *ret_catalog is the caller's. WEIR_REJECT: *reterr_mistakes holds every mistake found, at least one (an
 * unreadable file counts as one). Both are to be freed by their functions. */
enum weir_status weir_catalog_load(const char *path, struct weir_catalog **ret_catalog,
                                   struct weir_mistake_list *reterr_mistakes);
/* The same from one JSON text in memory; `name` stands for the file in mistakes. For tests, fuzzing and PostgreSQL. */
enum weir_status weir_catalog_parse(const char *name, const char *json, size_t length,
                                    struct weir_catalog **ret_catalog, struct weir_mistake_list *reterr_mistakes);
/* One that was applied: where its phases begin was checked by the zone rules of that day, and is not asked of today's.
 * It may have several minimum quantities per period of one meter in the same terms, as was accepted once. */
enum weir_status weir_catalog_parse_applied(const char *name, const char *json, size_t length,
                                            struct weir_catalog **ret_catalog,
                                            struct weir_mistake_list *reterr_mistakes);
struct weir_catalog *weir_catalog_free(struct weir_catalog *catalog); /* NULL in, NULL out */
void weir_mistake_list_free(struct weir_mistake_list *mistakes);

/* "50", "12.5%"; anything but WEIR_DECIMAL_OK: it is none. */
enum weir_decimal_result weir_threshold_parse(struct weir_slice text, struct weir_threshold *ret_threshold);
void weir_threshold_format(const struct weir_threshold *threshold, char text[WEIR_THRESHOLD_TEXT_MAX]);
/* In its place in a list that has room. false: it is there already. */
bool weir_thresholds_add(struct weir_thresholds *thresholds, const struct weir_threshold *threshold);
bool weir_thresholds_equal(const struct weir_thresholds *a, const struct weir_thresholds *b);

/* Look-ups; NULL when there is none. Each is O(log n). */
const struct weir_meter *weir_catalog_meter(const struct weir_catalog *catalog, struct weir_slice key);
const struct weir_price_book *weir_catalog_book(const struct weir_catalog *catalog, struct weir_slice key);
/* The customer's contract at a time (in its phase), or the default contract, or NULL (docs/rating.md 3.1). */
const struct weir_contract *weir_catalog_contract_at(const struct weir_catalog *catalog, struct weir_slice customer,
                                                     int64_t time);
/* The customer's contracts with a key, of all times: *ret_count from here on. */
const struct weir_contract *weir_catalog_contracts_of(const struct weir_catalog *catalog, struct weir_slice customer,
                                                      uint32_t *ret_count);
/* What in these terms has the key: "commitment", or "fee" of any version of their price book; NULL: nothing. */
const char *weir_contract_item(const struct weir_contract *terms, struct weir_slice key);
/* The terms of the same contract that hold at a time of its term. */
const struct weir_contract *weir_contract_phase_at(const struct weir_contract *contract, int64_t time);
/* The instant of the contract's calendar that is so many months after its start: where the first billing period begins
 * on that day or after it (docs/catalog.md, "Renewal and end"). 0: the start itself. Not cut to the contract's end;
 * WEIR_TIME_NEVER beyond all times. */
int64_t weir_contract_months_on(const struct weir_contract *contract, uint32_t months);
/* The term that holds a time of the contract's; one that does not renew has one term. */
void weir_contract_term_at(const struct weir_contract *contract, int64_t time, struct weir_term *ret_term);
/* By its number, whether the contract gets that far or not. */
void weir_contract_term(const struct weir_contract *contract, uint32_t number, struct weir_term *ret_term);
/* The minimum spend per term that these terms (one phase) list; NULL: none. */
const struct weir_commitment *weir_contract_term_minimum(const struct weir_contract *terms);
/* A minimum quantity per term; terms can list several, of different meters. */
bool weir_commitment_is_term_quantity(const struct weir_commitment *commitment);
/* From when on a term's conditions (of any phase) list a commitment with this key: the term's start, or that of a phase
 * in it. false: none of them does. */
bool weir_term_lists(const struct weir_contract *contract, const struct weir_term *term, struct weir_slice key,
                     int64_t *ret_from);
/* What a prepaid amount per term is in one of them: with its times; the key is the caller's to set. */
struct weir_commitment weir_commitment_of_term(const struct weir_contract *contract,
                                               const struct weir_commitment *commitment, const struct weir_term *term);
/* The key of that grant: the commitment's own in the first term, then with "+2", "+3", ... Lives in text or in key. */
enum { WEIR_TERM_KEY_MAX = WEIR_KEY_MAX + 12 };
struct weir_slice weir_term_key(struct weir_slice key, uint32_t number, char text[WEIR_TERM_KEY_MAX]);
/* Whether a grant with this key is what the prepaid commitment grants, in whatever term. */
bool weir_commitment_grants(const struct weir_commitment *commitment, struct weir_slice grant);
/* Contracts with a key, each counted once whatever phases it has. */
uint32_t weir_catalog_contract_count(const struct weir_catalog *catalog);
/* The version in force at a time (docs/rating.md 3.3). */
const struct weir_price_book_version *weir_price_book_at(const struct weir_price_book *book, int64_t time);
/* What is taken off in the contract's billing period that begins at a time, in order, those among it that hold then
 * (docs/fees.md): the contract's own list, or that of the price book's version in force at that time. NULL: none. */
const struct weir_discount *weir_contract_discounts(const struct weir_contract *contract, int64_t period_start,
                                                    uint32_t *ret_count);
/* In which order prepaid amounts are drawn down for usage of the contract's billing period that begins at a time: the
 * contract's own, that of the price book's version in force then, or the customary one. */
const struct weir_draw_order *weir_contract_draw_order(const struct weir_contract *contract, int64_t period_start);
/* The package that can be bought under the contract at a time: its own, or that of the price book's version in force
 * then. NULL: there is none. */
const struct weir_package *weir_contract_package(const struct weir_contract *contract, struct weir_slice key,
                                                 int64_t time);
/* What *count of a package (0: one; made 1) amount to and cost, or, of one that is bought by amount, what *amount
 * costs: to the minor unit of the currency, by the book's rounding. false: it does not fit. */
bool weir_package_buy(const struct weir_package *package, const struct weir_price_book *book, int64_t *count,
                      struct weir_decimal *amount, struct weir_decimal *ret_price);
/* A whole number of packages, 1 to WEIR_PACKAGE_COUNT_MAX. */
bool weir_package_count_parse(struct weir_slice text, int64_t *ret_count);
/* The price for one split (docs/rating.md 3.4); texts are in the meter's group order. */
const struct weir_price *weir_price_for(const struct weir_price_book_version *version, const struct weir_meter *meter,
                                        const struct weir_slice texts[]);
/* Every price of a version that some split can find, one after another: *at is 0 first, and the call's business. NULL:
 * there are no more. */
const struct weir_price *weir_next_price(const struct weir_price_book_version *version, uint32_t *at);
/* Periods that hold from now on for contracts of this calendar (copied): before the catalog is shared by threads. */
void weir_calendar_keep(struct weir_catalog *catalog, struct weir_calendar *calendar, const int64_t *boundaries,
                        size_t count);
/* The calendar's period that holds time: as it was written down, or by the zone's rules. */
void weir_calendar_period_at(const struct weir_calendar *calendar, int64_t time, int64_t *ret_start, int64_t *ret_end);
/* The contract's billing period that holds time, a time of this entry's, cut to its term (docs/rating.md 3.2). */
void weir_contract_period_at(const struct weir_contract *contract, int64_t time, int64_t *ret_start, int64_t *ret_end);

#endif
