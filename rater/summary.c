#include "rater/summary.h"

#include <stdlib.h>

#include "common/arena.h"
#include "common/hash.h"
#include "common/text_order.h"

enum { FIRST_SLOTS = 1024, FEW = 16 };

struct slot {
    uint32_t tag; /* of the row's hash: growing touches no row */
    uint32_t row; /* position + 1, 0: free */
};

struct weir_summary {
    struct weir_arena *arena;
    struct weir_summary_row *rows;
    size_t count, room, last; /* last: the row that was added to last */
    struct slot *slots;
    uint32_t mask;
    const struct weir_summary_row **sorted; /* NULL: not yet */
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
    free(summary->sorted);
    free(summary);
    return NULL;
}

void weir_summary_clear(struct weir_summary *summary)
{
    if (summary->slots)
        memset(summary->slots, 0, ((size_t)summary->mask + 1) * sizeof *summary->slots);
    weir_arena_clear(summary->arena);
    free(summary->sorted);
    summary->sorted = NULL;
    summary->count = 0;
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

static struct slot *find_slot(const struct weir_summary *summary, uint32_t tag, const struct weir_summary_row *row)
{
    uint32_t at = tag & summary->mask;

    while (summary->slots[at].row
           && (summary->slots[at].tag != tag || !same_row(&summary->rows[summary->slots[at].row - 1], row)))
        at = (at + 1) & summary->mask;
    return &summary->slots[at];
}

static void grow(struct weir_summary *summary)
{
    struct slot *old = summary->slots;
    uint32_t old_count = old ? summary->mask + 1 : 0, count = old ? old_count * 2 : FIRST_SLOTS;

    summary->slots = weir_new_array(count, sizeof *summary->slots);
    summary->mask = count - 1;
    summary->room = count / 2;
    summary->rows = weir_resize(summary->rows, summary->room, sizeof *summary->rows);
    for (uint32_t i = 0; i < old_count; i++) {
        if (!old[i].row)
            continue;
        uint32_t at = old[i].tag & summary->mask;
        while (summary->slots[at].row)
            at = (at + 1) & summary->mask;
        summary->slots[at] = old[i];
    }
    free(old);
}

/* Rows come mostly with others of the same customer: then the text is the one that the last row has. */
static struct weir_slice keep(struct weir_summary *summary, struct weir_slice text, struct weir_slice last)
{
    return weir_slice_equal(text, last) ? last : weir_arena_copy(summary->arena, text.data, text.length);
}

static struct weir_summary_row *add_row(struct weir_summary *summary, const struct weir_summary_row *probe)
{
    static const struct weir_summary_row none;
    const struct weir_summary_row *last = summary->count ? &summary->rows[summary->last] : &none;
    struct weir_summary_row *row = &summary->rows[summary->count];

    *row = *probe;
    row->customer = keep(summary, probe->customer, last->customer);
    row->contract = keep(summary, probe->contract, last->contract);
    row->item = keep(summary, probe->item, last->item);
    row->currency = keep(summary, probe->currency, last->currency);
    summary->last = summary->count++;
    return row;
}

/* The item's row, which is mostly the one of the item before it; made with zeros if it is not there. */
static struct weir_summary_row *find_row(struct weir_summary *summary, const struct weir_summary_row *probe)
{
    if (summary->count && same_row(&summary->rows[summary->last], probe))
        return &summary->rows[summary->last];
    if (summary->count == summary->room)
        grow(summary);
    uint32_t tag = (uint32_t)hash_row(probe);
    struct slot *slot = find_slot(summary, tag, probe);
    if (slot->row) {
        summary->last = slot->row - 1;
        return &summary->rows[summary->last];
    }
    *slot = (struct slot){tag, (uint32_t)summary->count + 1};
    return add_row(summary, probe);
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

    weir_check(!summary->sorted);
    struct weir_summary_row *row = find_row(summary, &probe);
    if (weir_decimal_add(row->quantity, item->quantity, &row->quantity)
        && weir_decimal_add(row->amount, item->amount, &row->amount))
        return WEIR_OK;
    return weir_fail(reterr, WEIR_REJECT,
                     "customer '%.*s', %s '%.*s': the sum of a period does not fit (limit about 1.7e26)",
                     (int)item->customer.length, item->customer.data, weir_kind_name[item->kind],
                     (int)item->item.length, item->item.data);
}

/* Of one customer. */
static int compare(const struct weir_summary_row *a, const struct weir_summary_row *b)
{
    int order = weir_slice_compare(a->contract, b->contract);

    if (!order)
        order = (a->period_start > b->period_start) - (a->period_start < b->period_start);
    if (!order)
        order = weir_slice_compare(a->item, b->item);
    if (!order)
        order = strcmp(weir_kind_name[a->kind], weir_kind_name[b->kind]);
    return order ? order : weir_slice_compare(a->currency, b->currency);
}

static int compare_rows(const void *left, const void *right)
{
    return compare(*(const struct weir_summary_row *const *)left, *(const struct weir_summary_row *const *)right);
}

static void sort_customer(const struct weir_summary_row **rows, size_t count)
{
    if (count > FEW) {
        qsort((void *)rows, count, sizeof *rows, compare_rows);
        return;
    }
    for (size_t i = 1; i < count; i++) {
        const struct weir_summary_row *row = rows[i];
        size_t to = i;
        for (; to > 0 && compare(rows[to - 1], row) > 0; to--)
            rows[to] = rows[to - 1];
        rows[to] = row;
    }
}

/* Rows that were made one after another for one customer: its name is looked at once. */
struct runs {
    struct weir_slice *customers;
    uint32_t *begins; /* and one more, where the last ends */
    uint32_t *order;
    uint32_t count;
};

static void find_runs(const struct weir_summary *summary, struct runs *runs)
{
    runs->customers = weir_new_array(summary->count, sizeof *runs->customers);
    runs->begins = weir_new_array(summary->count + 1, sizeof *runs->begins);
    runs->order = weir_new_array(summary->count, sizeof *runs->order);
    for (uint32_t i = 0; i < summary->count; i++) {
        struct weir_slice customer = summary->rows[i].customer;
        if (i > 0 && weir_slice_equal(customer, summary->rows[i - 1].customer))
            continue;
        runs->customers[runs->count] = customer;
        runs->begins[runs->count++] = i;
    }
    runs->begins[runs->count] = (uint32_t)summary->count;
    weir_text_order(runs->customers, runs->count, runs->order);
}

/* All by customer first, which is most of the work, then each customer's few. */
static void sort(struct weir_summary *summary)
{
    struct runs runs = {0};
    size_t count = 0;

    find_runs(summary, &runs);
    summary->sorted = weir_new_array(summary->count, sizeof *summary->sorted);
    for (uint32_t i = 0, after; i < runs.count; i = after) {
        size_t first = count;
        for (after = i; after < runs.count; after++) {
            uint32_t run = runs.order[after];
            if (!weir_slice_equal(runs.customers[run], runs.customers[runs.order[i]]))
                break;
            for (uint32_t row = runs.begins[run]; row < runs.begins[run + 1]; row++)
                summary->sorted[count++] = &summary->rows[row];
        }
        sort_customer(summary->sorted + first, count - first);
    }
    free(runs.customers);
    free(runs.begins);
    free(runs.order);
}

const struct weir_summary_row *const *weir_summary_rows(struct weir_summary *summary, size_t *ret_count)
{
    if (!summary->sorted)
        sort(summary);
    *ret_count = summary->count;
    return summary->sorted;
}
