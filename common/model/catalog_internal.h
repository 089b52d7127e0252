/* How a catalog comes to be; private to common/model/catalog*.c.
 *
 *   catalog.c            files -> JSON -> the steps below -> the finished catalog; look-ups
 *   catalog_read.c       one JSON value -> one checked C value, or a mistake
 *   catalog_mistakes.c   the list of mistakes
 *   catalog_meters.c     $.meters, and the table of paths
 *   catalog_prices.c     $.price_books: versions, fees
 *   catalog_price.c      one price, and how the prices of a version get along
 *   catalog_contracts.c  $.contracts, $.default_contract
 *   catalog_phases.c     $.contracts[*].phases
 *   catalog_discounts.c  discounts of contracts and price books
 *   catalog_credits.c    what contracts and price books say of prepaid amounts in general
 *   catalog_quantities.c a contract's quantities of fees per unit
 *   catalog_thresholds.c thresholds of balances
 *   catalog_renewals.c   contracts' renews, and what is per term
 *   catalog_terms.c      the terms of contracts that renew (not of reading)
 *   catalog_calendars.c  the calendars that contracts share
 *   catalog_check.c      what needs several entries: overlaps, clashes of keys
 *   catalog_boundaries.c period boundaries that would cut windows
 *
 * Reading never stops at a mistake. Each kind of entry is first read into a draft, which remembers where it stood and
 * whether it is whole, so that one mistake is reported once and not again by everything that refers to it.
 */
#ifndef WEIR_COMMON_MODEL_CATALOG_INTERNAL_H
#define WEIR_COMMON_MODEL_CATALOG_INTERNAL_H

#include <jansson.h>

#include "common/arena.h"
#include "common/model/catalog.h"

/* 1. places */

/* A value and the way to it. Nodes live on the C stack while their value is read; the path is only written out for a
 * mistake. */
struct weir_node {
    const struct weir_node *up; /* NULL: the file's top level */
    const char *name;           /* a member; NULL: an element */
    size_t index;               /* the element, or the number of the file */
    json_t *json;               /* NULL: not there */
};

struct weir_node weir_node_member(const struct weir_node *object, const char *name);
struct weir_node weir_node_element(const struct weir_node *list, size_t index);

/* Where an entry of a top-level list stood. */
struct weir_origin {
    uint32_t file;
    uint32_t index; /* in the list; UINT32_MAX: the value is no list */
    uint32_t phase; /* of contracts: this element of its phases, from 1; 0: the contract itself */
};

/* 2. mistakes */

/* Kinds of mistake; the second column says whether schemas/catalog.schema.json sees them too
 * (tests/unit/test_schemas.py holds the two together): a schema sees one value at a time. */
#define WEIR_MISTAKE_KINDS(X)                                                                                          \
    X(UNREADABLE, unreadable, false) /* the file */                                                                    \
    X(SYNTAX, syntax, false)         /* no JSON, or a key twice */                                                     \
    X(UNKNOWN_KEY, unknown_key, true)                                                                                  \
    X(MISSING_KEY, missing_key, true)                                                                                  \
    X(WRONG_TYPE, wrong_type, true)                                                                                    \
    X(BAD_VALUE, bad_value, true)                  /* not one of the words, not of the form, too long, too many */     \
    X(NOT_REPRESENTABLE, not_representable, false) /* a decimal of the right form that does not fit */                 \
    X(NO_SUCH_TIME, no_such_time, false)           /* February 30th, or out of range */                                \
    X(DUPLICATE, duplicate, false)                 /* of a key that must be unique */                                  \
    X(UNKNOWN_REFERENCE, unknown_reference, false) /* meter, price book, currency, time zone */                        \
    X(OUT_OF_ORDER, out_of_order, false)           /* tiers, versions, start and end, minimum and maximum */           \
    X(NEVER_MATCHES, never_matches, false)                                                                             \
    X(AMBIGUOUS, ambiguous, false)                                                                                     \
    X(OVERLAP, overlap, false)                                                                                         \
    X(CUTS_WINDOW, cuts_window, false)                                                                                 \
    X(CONTRADICTION, contradiction, false) /* two members that cannot both be meant */                                 \
    X(KEY_CLASH, key_clash, false)                                                                                     \
    X(WITHIN_PERIOD, within_period, false) /* a phase that begins within a billing period */                           \
    X(TOO_MANY, too_many, false)           /* over all files */
enum weir_mistake_kind {
#define WEIR_X(upper, lower, structural) WEIR_MISTAKE_##upper,
    WEIR_MISTAKE_KINDS(WEIR_X)
#undef WEIR_X
};

struct weir_mistake_draft {
    struct weir_mistake mistake;
    uint32_t file;
    size_t number; /* order of finding */
};

/* Mistakes beyond this many are counted, not listed: a slip in a generator must not fill the memory. */
enum { WEIR_MISTAKES_LISTED_MAX = 100000 };

struct weir_mistakes {
    struct weir_arena *arena;
    size_t found;
    size_t listed;
    size_t room;
    struct weir_mistake_draft *drafts;
};

/* 3. drafts */

struct weir_meter_draft {
    struct weir_meter meter; /* first: sorted and searched by its key */
    struct weir_origin origin;
    bool broken;
};

struct weir_version_draft {
    struct weir_slice key;
    struct weir_slice currency;
    int currency_places;
    enum weir_rounding rounding;
    struct weir_price_book_version version; /* .version 0: not read */
    bool has_effective_from;
    struct weir_origin origin;
    bool broken;
};

struct weir_contract_draft {
    struct weir_contract contract;
    struct weir_origin origin;
    struct weir_origin end_origin; /* of what ends_at is from: the contract, or the phase after this one */
    unsigned says;                 /* WEIR_SAYS_...: the terms that stand here; others go on from the phase before */
    bool has_term;                 /* starts_at and ends_at are good */
    bool has_period;               /* zone and billing_period are good */
};
enum {
    WEIR_SAYS_BOOK = 1,
    WEIR_SAYS_PRICES = 2,
    WEIR_SAYS_OVERRIDES = 4,
    WEIR_SAYS_COMMITMENTS = 8,
    WEIR_SAYS_DISCOUNTS = 16,
    WEIR_SAYS_DRAWDOWN_ORDER = 32,
    WEIR_SAYS_PACKAGES = 64,
    WEIR_SAYS_ALL = 127
};

/* A meter that a price book prices, and since when. */
struct weir_priced_meter {
    const struct weir_meter *meter;
    int64_t from;
};

/* What the cross checks need to know of a price book. */
struct weir_book_facts {
    bool broken;  /* its meters or times are not all known: no checks that rest on them */
    int64_t from; /* the first version's effective_from */
    uint32_t meter_count;
    struct weir_priced_meter *meters; /* by key */
    uint32_t fee_count;
    struct weir_slice *fee_keys; /* of all versions, sorted */
};

struct weir_zone_entry {
    struct weir_slice name;
    struct weir_zone *zone; /* NULL: unknown */
};

/* What a catalog owns (catalog->owned). */
struct weir_catalog_owned {
    struct weir_arena *arena;
    uint32_t zone_count;
    uint32_t zone_room;
    struct weir_zone_entry *zones; /* by name */
};

/* A load under way. */
struct weir_catalog_load {
    struct weir_catalog *catalog;
    struct weir_catalog_owned *owned;
    struct weir_arena *arena;   /* owned->arena: what stays */
    struct weir_arena *scratch; /* what goes when the load is over */
    struct weir_mistakes mistakes;
    uint32_t file_count;
    const char **file_names;
    json_t **roots; /* NULL: not readable as an object */
    bool paths_full;
    bool was_applied; /* see weir_catalog_parse_applied */
    size_t meter_count;
    struct weir_meter_draft *meters; /* by key */
    size_t version_count;
    struct weir_version_draft *versions; /* by key, then version */
    struct weir_book_facts *facts;       /* as catalog->books */
    size_t contract_count;
    struct weir_contract_draft *contracts; /* by customer, then start; each with its phases after it */
    struct weir_contract_draft *default_contract;
};

/* 4. mistakes and texts in them (catalog_mistakes.c) */

void weir_mistake_add(struct weir_catalog_load *load, const struct weir_node *node, enum weir_mistake_kind kind,
                      const char *format, ...) __attribute__((format(printf, 4, 5)));
/* The same for an entry of a top-level list, and a member of it unless that is NULL. */
void weir_mistake_add_at(struct weir_catalog_load *load, struct weir_origin origin, const char *list,
                         const char *member, enum weir_mistake_kind kind, const char *format, ...)
    __attribute__((format(printf, 6, 7)));
/* One whose file is already "name:line:column". */
void weir_mistake_add_file(struct weir_catalog_load *load, uint32_t file, const char *file_text,
                           enum weir_mistake_kind kind, const char *text);
/* Sorts and hands over; the load's list is empty then. */
void weir_mistakes_take(struct weir_mistakes *mistakes, struct weir_mistake_list *ret_list);
/* Texts for a mistake, in the scratch arena: what was found, a quoted and shortened text, "$.list[3] in file". */
const char *weir_found(struct weir_catalog_load *load, const json_t *json);
const char *weir_quoted(struct weir_catalog_load *load, struct weir_slice text);
const char *weir_origin_text(struct weir_catalog_load *load, struct weir_origin origin, const char *list);
const char *weir_time_quoted(struct weir_catalog_load *load, int64_t time);
/* "a, b, c" */
const char *weir_words(struct weir_catalog_load *load, const char *const words[], size_t count);
/* ": did you mean \"x\"?" for the nearest of the words, or "". */
const char *weir_nearest(struct weir_catalog_load *load, struct weir_slice word, const char *const words[],
                         size_t count);

/* 5. reading (catalog_read.c) */

/* A key that an object may have. Objects come in variants (price models, commitment types), one bit each. */
struct weir_field {
    const char *name;
    unsigned allowed;
    unsigned required;
};
enum { WEIR_IN_ALL = 0x7fffffff };

/* Reports what is no object, unknown keys and missing ones. variant: one bit, or WEIR_IN_ALL when it is not known.
 * variant_text says what the variant is in a message ("with model \"flat\""), or "". False: it is no object. */
bool weir_read_object(struct weir_catalog_load *load, const struct weir_node *node, const struct weir_field fields[],
                      size_t field_count, unsigned variant, const char *variant_text);

/* Each of these reads a member of an object. False: it is not there (reported by weir_read_object if it must be), or it
 * is wrong and reported here; the result is untouched then. */
bool weir_read_list(struct weir_catalog_load *load, const struct weir_node *object, const char *name, size_t min,
                    size_t max, struct weir_node *ret_list);
bool weir_read_text(struct weir_catalog_load *load, const struct weir_node *object, const char *name, size_t min,
                    size_t max, struct weir_slice *ret_text);
bool weir_read_key(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                   struct weir_slice *ret_key);
bool weir_read_choice(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                      const char *const choices[], size_t choice_count, unsigned *ret_choice);
bool weir_read_integer(struct weir_catalog_load *load, const struct weir_node *object, const char *name, int64_t min,
                       int64_t max, int64_t *ret_integer);
bool weir_read_boolean(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                       bool *ret_boolean);
enum weir_sign { WEIR_NOT_NEGATIVE, WEIR_POSITIVE };
bool weir_read_decimal(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                       enum weir_sign sign, struct weir_decimal *ret_value);
enum weir_time_precision { WEIR_ANY_TIME, WEIR_WHOLE_SECONDS };
bool weir_read_time(struct weir_catalog_load *load, const struct weir_node *object, const char *name,
                    enum weir_time_precision precision, int64_t *ret_time);

/* The value itself as a text of min..max bytes. */
bool weir_read_node_text(struct weir_catalog_load *load, const struct weir_node *node, size_t min, size_t max,
                         struct weir_slice *ret_text);

/* 6. the steps, in this order */

void weir_catalog_read_meters(struct weir_catalog_load *load);
void weir_catalog_read_price_books(struct weir_catalog_load *load);
void weir_catalog_read_contracts(struct weir_catalog_load *load);
void weir_catalog_check(struct weir_catalog_load *load);
void weir_catalog_check_boundaries(struct weir_catalog_load *load);
/* Whether the contract has a price of its own for this meter. */
bool weir_contract_has_own(const struct weir_contract *contract, struct weir_slice meter);
/* Books for contracts with prices of their own; only of a catalog without mistakes. */
void weir_catalog_make_own_books(struct weir_catalog_load *load);
/* One calendar for all contracts that share it; only of a catalog without mistakes. */
void weir_catalog_make_calendars(struct weir_catalog_load *load);

/* The member `list` of every file that has it, as a list; the number of elements of all files (for one allocation). */
bool weir_catalog_list(struct weir_catalog_load *load, uint32_t file, const char *list, struct weir_node *ret_root,
                       struct weir_node *ret_list);
size_t weir_catalog_list_total(struct weir_catalog_load *load, const char *list);

/* References: the draft of a meter, NULL and a mistake when there is none. */
const struct weir_meter_draft *weir_read_meter(struct weir_catalog_load *load, const struct weir_node *object,
                                               const char *name);
const struct weir_meter_draft *weir_read_node_meter(struct weir_catalog_load *load, const struct weir_node *node);
/* The slot of a path; false: the table is full (reported once). */
bool weir_path_slot(struct weir_catalog_load *load, const struct weir_node *node, struct weir_slice text,
                    uint32_t *ret_slot);
/* The member `prices`, checked and sorted. */
void weir_read_prices(struct weir_catalog_load *load, const struct weir_node *object, struct weir_price **ret_prices,
                      uint32_t *ret_count);
/* False: its meter or its `when` is not known well enough to compare it with others. */
bool weir_read_price(struct weir_catalog_load *load, const struct weir_node *node, struct weir_price *ret_price);
/* Of a contract that is right. */
void weir_catalog_note_invoice_discounts(struct weir_contract *contract);
/* The member `discounts` of a contract, a phase or a price book version. */
void weir_read_discounts(struct weir_catalog_load *load, const struct weir_node *object,
                         struct weir_discount **ret_discounts, uint32_t *ret_count);
/* The member `drawdown_order` of a contract, a phase or a price book version. */
void weir_read_draw_order(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_draw_order *ret_order);
/* The member `packages` of a contract, a phase or a price book version. */
void weir_read_packages(struct weir_catalog_load *load, const struct weir_node *object,
                        struct weir_package **ret_packages, uint32_t *ret_count);
/* The members `package` and `quantity` of a commitment, whose price is 0 until weir_catalog_price_packages. */
void weir_read_package_of(struct weir_catalog_load *load, const struct weir_node *node,
                          struct weir_commitment *commitment);
/* What commitments that are bought as a package amount to and cost, in all contracts. */
void weir_catalog_price_packages(struct weir_catalog_load *load);
/* The member `tiers`. flat_fee_at_zero NULL: tiers have a unit_price alone. */
void weir_read_tiers(struct weir_catalog_load *load, const struct weir_node *object, bool *flat_fee_at_zero,
                     struct weir_tier **ret_tiers, uint32_t *ret_count);
/* The member `quantities` of a contract, sorted, into all its drafts: the contract's and its phases'. */
void weir_read_quantities(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_contract_draft drafts[], size_t draft_count);
/* Reports what stands twice or ties, then sorts. `list` is the node of the prices, in their order there. */
void weir_prices_settle(struct weir_catalog_load *load, const struct weir_node *list, struct weir_price *prices,
                        const bool comparable[], uint32_t count);
/* Members of a contract or a phase. */
void weir_read_book(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract);
void weir_read_overrides(struct weir_catalog_load *load, const struct weir_node *object,
                         struct weir_contract *contract);
void weir_read_commitments(struct weir_catalog_load *load, const struct weir_node *object,
                           struct weir_contract *contract);
/* The member `low_balance`. has_whole: percentages are of something that was granted. */
void weir_read_low_balance(struct weir_catalog_load *load, const struct weir_node *object, bool has_whole,
                           struct weir_thresholds *ret_thresholds);
/* The member `per` of a commitment of known type, and what says more of one per term. */
void weir_read_per(struct weir_catalog_load *load, const struct weir_node *object, const struct weir_contract *contract,
                   struct weir_commitment *commitment);
/* The member `renews` of a contract whose billing period is read. */
void weir_read_renewal(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract);
/* How many phases are read of a contract. */
size_t weir_phase_count(const struct weir_node *contract);
/* The member `phases` of the contract that drafts[0] was read from, into the drafts after it (weir_phase_count). */
void weir_read_phases(struct weir_catalog_load *load, const struct weir_node *node,
                      struct weir_contract_draft drafts[]);
int weir_origin_compare(struct weir_origin a, struct weir_origin b);

#endif
