/* A row of the ledger (design section 6), as the rater makes it and a ledger writes it. Append-only: never changed. */
#ifndef WEIR_COMMON_MODEL_LINE_ITEM_H
#define WEIR_COMMON_MODEL_LINE_ITEM_H

#include <stdbool.h>
#include <stdint.h>

#include "common/decimal.h"
#include "common/model/window.h"

#define WEIR_KINDS(X)                                                                                                  \
    X(USAGE, usage)                                                                                                    \
    X(FEE, fee)                                                                                                        \
    X(TRUE_UP, true_up) X(DRAWDOWN, drawdown) X(OVERAGE, overage) X(ADJUSTMENT, adjustment) X(REVERSAL, reversal)
enum weir_kind {
#define WEIR_X(upper, lower) WEIR_KIND_##upper,
    WEIR_KINDS(WEIR_X)
#undef WEIR_X
        WEIR_KIND_COUNT
};
extern const char *const weir_kind_name[WEIR_KIND_COUNT];

/* Which part of a price an amount comes from (docs/rating.md 5). */
#define WEIR_COMPONENTS(X)                                                                                             \
    X(FREE_UNITS, free_units)                                                                                          \
    X(UNITS, units)                                                                                                    \
    X(FLAT_FEE, flat_fee)                                                                                              \
    X(PACKAGE, package)                                                                                                \
    X(FIXED_FEE, fixed_fee)                                                                                            \
    X(FLAT, flat)                                                                                                      \
    X(DISCOUNT, discount)                                                                                              \
    X(MINIMUM, minimum)                                                                                                \
    X(MAXIMUM, maximum)                                                                                                \
    X(INVOICE_DISCOUNT, invoice_discount)                                                                              \
    X(FEE, fee) X(TRUE_UP, true_up) X(SHORTFALL, shortfall) X(DRAWDOWN, drawdown) X(OVERAGE, overage)
enum weir_component {
#define WEIR_X(upper, lower) WEIR_COMPONENT_##upper,
    WEIR_COMPONENTS(WEIR_X)
#undef WEIR_X
        WEIR_COMPONENT_COUNT
};
extern const char *const weir_component_name[WEIR_COMPONENT_COUNT];

/* Views; alive while the batch that made it is. Times are ns since 1970. */
struct weir_line_item {
    struct weir_slice customer;
    struct weir_slice contract; /* empty: the default contract */
    struct weir_slice item;     /* key of the meter, fee, commitment or grant */
    struct weir_slice meter;    /* of usage; empty for the rest */
    uint32_t dimension_count;   /* a drawdown has one, `meter` */
    struct weir_dimension dimensions[WEIR_DIMENSIONS_MAX];
    int64_t period_start, period_end;
    int64_t window_start, window_end; /* fees and true-ups: the period; drawdown and overage: the segment */
    int64_t advance_at;               /* charged in advance: when it is to be invoiced; 0: when its period ends */
    enum weir_kind kind;
    enum weir_component component;
    struct weir_slice price_book;
    uint32_t price_book_version; /* true-ups: the version in force at the period's start */
    const char *model;           /* price model's name; "" but for usage */
    uint32_t tier;               /* from 1; 0: none */
    struct weir_decimal quantity;
    bool has_unit_price;
    struct weir_decimal unit_price; /* after the override */
    struct weir_decimal amount;     /* 12 places */
    struct weir_slice currency;
    int currency_places;
    enum weir_rounding rounding;
    uint32_t revision; /* 1 for a window's first rating; each later change of the window adds 1 */
};

#endif
