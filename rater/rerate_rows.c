/* The report of a rerating: a row for each customer (and item) and currency. */
#include <stdlib.h>

#include "rater/rerate_internal.h"

/* 1. one customer */
static struct weir_rerate_row *find_row(struct rerate_rows *list, size_t first, struct weir_slice customer,
                                        struct weir_slice item, struct weir_slice currency, int places)
{
    for (size_t i = list->count; i > first; i--)
        if (weir_slice_equal(list->rows[i - 1].item, item) && weir_slice_equal(list->rows[i - 1].currency, currency))
            return &list->rows[i - 1];
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 256;
        list->rows = weir_resize(list->rows, list->room, sizeof *list->rows);
    }
    struct weir_rerate_row *row = &list->rows[list->count++];
    *row = (struct weir_rerate_row){
        .customer = weir_arena_copy(list->arena, customer.data, customer.length),
        .item = item.length ? weir_arena_copy(list->arena, item.data, item.length) : (struct weir_slice){0},
        .currency = weir_arena_copy(list->arena, currency.data, currency.length),
        .currency_places = places,
    };
    return row;
}

/* One amount of the customer, of before or after. */
struct adding {
    struct rerate_rows *rows;
    const struct weir_rerate_request *request;
    const struct rerate_customer *customer;
    const struct rerate_fresh *fresh;
    size_t first; /* row of this customer */
    bool is_fitting;
};

static void add(struct adding *adding, bool is_after, struct weir_slice item, struct weir_slice currency, int places,
                struct weir_decimal amount)
{
    struct weir_slice shown = adding->request->has_items ? item : (struct weir_slice){0};
    struct weir_rerate_row *row =
        find_row(adding->rows, adding->first, adding->customer->customer, shown, currency, places);
    struct weir_decimal *sum = is_after ? &row->after : &row->before;

    adding->is_fitting = weir_decimal_add(*sum, amount, sum) && adding->is_fitting;
}

static bool is_shown(const struct adding *adding, int64_t period_start)
{
    return period_start >= adding->customer->shown_from && period_start < adding->customer->shown_to;
}

static bool is_shown_meter(const struct adding *adding, struct weir_slice meter)
{
    return !adding->customer->shown_meter.length || weir_slice_equal(adding->customer->shown_meter, meter);
}

static void add_before(struct adding *adding)
{
    const struct rerate_customer *customer = adding->customer;

    for (size_t i = 0; i < customer->price_count; i++) {
        const struct rerate_old_price *price = &customer->prices[i];
        if (is_shown(adding, price->period_start) && is_shown_meter(adding, price->meter))
            add(adding, false, price->meter, price->currency, price->currency_places, price->amount);
    }
    for (size_t i = 0; i < customer->other_count; i++) {
        const struct rerate_old_other *other = &customer->others[i];
        if (is_shown(adding, other->period_start))
            add(adding, false, other->item, other->currency, other->currency_places, other->amount);
    }
}

static void add_after(struct adding *adding)
{
    const struct rerate_fresh *fresh = adding->fresh;
    struct weir_state_view all = fresh->state ? weir_state_all(fresh->state) : (struct weir_state_view){0};

    for (size_t i = 0; i < all.price_count; i++) {
        const struct weir_price_running *price = all.prices[i];
        const struct weir_price_book *book = weir_catalog_book(fresh->catalog, price->price_book);
        struct weir_slice meter = weir_rerate_price_meter(price->price_key);
        if (is_shown(adding, price->period_start) && is_shown_meter(adding, meter))
            add(adding, true, meter, book->currency, book->currency_places, price->amount);
    }
    for (size_t i = 0; i < fresh->other_count; i++) {
        const struct weir_line_item *item = &fresh->others[i];
        if (is_shown(adding, item->period_start))
            add(adding, true, item->item, item->currency, item->currency_places, item->amount);
    }
}

bool weir_rerate_rows_add(struct rerate_rows *rows, const struct weir_rerate_request *request,
                          struct rerate_customer *customer, const struct rerate_fresh *fresh, bool *ret_is_changed)
{
    struct adding adding = {rows, request, customer, fresh, rows->count, true};

    add_before(&adding);
    add_after(&adding);
    *ret_is_changed = false;
    for (size_t i = adding.first; i < rows->count; i++)
        *ret_is_changed = *ret_is_changed || rows->rows[i].before.e12 != rows->rows[i].after.e12;
    customer->first_row = adding.first;
    customer->row_count = rows->count - adding.first;
    return adding.is_fitting;
}

/* 2. all of them */
static int by_key(const void *left, const void *right)
{
    const struct weir_rerate_row *a = left, *b = right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (!order)
        order = weir_slice_compare(a->item, b->item);
    return order ? order : weir_slice_compare(a->currency, b->currency);
}

void weir_rerate_rows_append(struct rerate_rows *rows, const struct rerate_rows *from)
{
    for (size_t i = 0; i < from->count; i++) {
        const struct weir_rerate_row *other = &from->rows[i];
        struct weir_rerate_row *row =
            find_row(rows, rows->count, other->customer, other->item, other->currency, other->currency_places);
        row->before = other->before;
        row->after = other->after;
    }
}

void weir_rerate_rows_report(struct rerate_rows *rows, struct weir_rerate_report *report)
{
    if (rows->count)
        qsort(rows->rows, rows->count, sizeof *rows->rows, by_key);
    report->row_count = rows->count;
    report->rows = rows->rows;
    report->owned = rows->arena;
}

void weir_rerate_report_free(struct weir_rerate_report *report)
{
    free(report->rows);
    weir_arena_free(report->owned);
    *report = (struct weir_rerate_report){0};
}
