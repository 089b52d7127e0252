#include "rater/summary.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/hash.h"

enum { FIRST_SLOTS = 1024 };

struct weir_summary {
    struct weir_arena *arena;
    struct weir_summary_row *rows;
    size_t count, room;
    uint32_t *slots; /* row + 1, 0: free */
    uint32_t mask;
    bool is_sorted; /* then the slots no longer point right */
};

struct weir_summary *weir_summary_new(void)
{
    struct weir_summary *summary = weir_new(sizeof *summary);
    summary->arena = weir_arena_new();
    return summary;
}

struct weir_summary *weir_summary_free(struct weir_summary *summary)
{
    if (!summary)
        return NULL;
    weir_arena_free(summary->arena);
    free(summary->rows);
    free(summary->slots);
    free(summary);
    return NULL;
}

static uint64_t hash_row(const struct weir_summary_row *row)
{
    uint64_t hash = weir_hash64(row->customer.data, row->customer.length, (uint64_t)row->period_start + row->kind);
    hash = weir_hash64(row->contract.data, row->contract.length, hash);
    return weir_hash64(row->item.data, row->item.length, hash);
}

static bool same_row(const struct weir_summary_row *a, const struct weir_summary_row *b)
{
    return a->period_start == b->period_start && a->kind == b->kind && weir_slice_equal(a->customer, b->customer)
           && weir_slice_equal(a->item, b->item) && weir_slice_equal(a->contract, b->contract)
           && weir_slice_equal(a->currency, b->currency);
}

static uint32_t *find_slot(const struct weir_summary *summary, const struct weir_summary_row *row)
{
    uint32_t at = (uint32_t)hash_row(row) & summary->mask;

    while (summary->slots[at] && !same_row(&summary->rows[summary->slots[at] - 1], row))
        at = (at + 1) & summary->mask;
    return &summary->slots[at];
}

static void grow(struct weir_summary *summary)
{
    uint32_t slots = summary->slots ? (summary->mask + 1) * 2 : FIRST_SLOTS;

    free(summary->slots);
    summary->slots = weir_new_array(slots, sizeof *summary->slots);
    summary->mask = slots - 1;
    summary->room = slots / 2;
    summary->rows = weir_resize(summary->rows, summary->room, sizeof *summary->rows);
    for (size_t i = 0; i < summary->count; i++)
        *find_slot(summary, &summary->rows[i]) = (uint32_t)i + 1;
}

static struct weir_slice keep(struct weir_summary *summary, struct weir_slice text)
{
    return weir_arena_copy(summary->arena, text.data, text.length);
}

enum weir_status weir_summary_add(struct weir_summary *summary, const struct weir_line_item *item,
                                  struct weir_error *reterr)
{
    struct weir_summary_row probe = {
        .customer = item->customer,
        .contract = item->contract,
        .item = item->item,
        .currency = item->currency,
        .period_start = item->period_start,
        .period_end = item->period_end,
        .kind = item->kind,
        .currency_places = item->currency_places,
        .rounding = item->rounding,
    };

    weir_check(!summary->is_sorted);
    if (summary->count == summary->room)
        grow(summary);
    uint32_t *slot = find_slot(summary, &probe);
    if (!*slot) {
        probe.customer = keep(summary, probe.customer);
        probe.contract = keep(summary, probe.contract);
        probe.item = keep(summary, probe.item);
        probe.currency = keep(summary, probe.currency);
        summary->rows[summary->count++] = probe;
        *slot = (uint32_t)summary->count;
    }
    struct weir_summary_row *row = &summary->rows[*slot - 1];
    if (weir_decimal_add(row->quantity, item->quantity, &row->quantity)
        && weir_decimal_add(row->amount, item->amount, &row->amount))
        return WEIR_OK;
    return weir_fail(reterr, WEIR_REJECT,
                     "customer '%.*s', %s '%.*s': the sum of a period does not fit (limit about 1.7e26)",
                     (int)item->customer.length, item->customer.data, weir_kind_name[item->kind],
                     (int)item->item.length, item->item.data);
}

static int compare_rows(const void *left, const void *right)
{
    const struct weir_summary_row *a = left, *b = right;
    int order = weir_slice_compare(a->customer, b->customer);

    if (!order)
        order = weir_slice_compare(a->contract, b->contract);
    if (!order)
        order = (a->period_start > b->period_start) - (a->period_start < b->period_start);
    if (!order)
        order = weir_slice_compare(a->item, b->item);
    if (!order)
        order = strcmp(weir_kind_name[a->kind], weir_kind_name[b->kind]);
    return order ? order : weir_slice_compare(a->currency, b->currency);
}

const struct weir_summary_row *weir_summary_rows(struct weir_summary *summary, size_t *ret_count)
{
    if (summary->count)
        qsort(summary->rows, summary->count, sizeof *summary->rows, compare_rows);
    summary->is_sorted = true;
    *ret_count = summary->count;
    return summary->rows;
}
