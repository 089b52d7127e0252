/* The end of bounded input: every window is handed out once. Customer by customer, so that whoever rates them finds
 * what it has of a customer where the last window was, and by name, so that nobody has to sort what comes of it. */
#include "aggregator/window_table_internal.h"
#include "common/text_order.h"

enum { FAR = 24, NEAR = 12 }; /* so many steps ahead what will be looked at is fetched, and what that leads to */

static struct weir_slice customer_of(const struct series *series)
{
    const char *at = series->key;
    uint16_t length;

    memcpy(&length, at, sizeof length); /* of the meter's key: common/model/window.h */
    at += sizeof length + length;
    memcpy(&length, at, sizeof length);
    return weir_slice_of(at + sizeof length, length);
}

/* A customer's few series by meter, whose prices they may share; those of one meter in the order in which they were
 * made. */
static void sort_by_meter(const struct weir_window_table *table, uint32_t *series, uint32_t count)
{
    for (uint32_t i = 1; i < count; i++) {
        uint32_t position = series[i], to = i;
        for (; to > 0 && table->series[series[to - 1]].meter > table->series[position].meter; to--)
            series[to] = series[to - 1];
        series[to] = position;
    }
}

/* Series that have a customer's number in common, which nearly always are all of a customer's. */
struct groups {
    uint32_t *of;                 /* by number, or by series: the group and 1, 0: none yet */
    struct weir_slice *customers; /* by group */
    uint32_t *ends;               /* by group: how many series it has, then where they end */
    uint32_t *order;              /* by customer */
    uint32_t count;
    bool is_by_number; /* else each series is a group */
};

static uint32_t *group_slot(const struct groups *groups, const struct weir_window_table *table, uint32_t series)
{
    return &groups->of[groups->is_by_number ? table->series[series].customer : series];
}

/* So that each customer's name is looked at, and put into order, once and not with every series. */
static void group_series(const struct weir_window_table *table, struct groups *groups)
{
    groups->is_by_number = table->customers < table->series_used;
    uint32_t most = groups->is_by_number ? table->customers + 1 : table->series_used; /* numbers go through it */
    groups->of = weir_new_array(most, sizeof *groups->of);
    groups->customers = weir_new_array(most, sizeof *groups->customers);
    groups->ends = weir_new_array(most, sizeof *groups->ends);
    groups->order = weir_new_array(most, sizeof *groups->order);
    for (uint32_t i = 1; i < table->series_used; i++) {
        if (!table->series[i].key_length)
            continue;
        uint32_t *group = group_slot(groups, table, i);
        if (!*group) {
            groups->customers[groups->count] = customer_of(&table->series[i]);
            *group = ++groups->count;
        }
        groups->ends[*group - 1]++;
    }
    weir_text_order(groups->customers, groups->count, groups->order);
}

static int compare_positions(const void *left, const void *right)
{
    uint32_t a = *(const uint32_t *)left, b = *(const uint32_t *)right;
    return (a > b) - (a < b);
}

/* The positions of the series that are there, in the order in which they are handed out; how many. */
static uint32_t order_series(const struct weir_window_table *table, uint32_t *ret_series)
{
    enum { MANY = 1000 }; /* of one customer: they stay in the order in which they were made */
    struct groups groups = {0};
    uint32_t count = 0;

    group_series(table, &groups);
    for (uint32_t i = 0; i < groups.count; i++)
        groups.ends[groups.order[i]] = count += groups.ends[groups.order[i]];
    for (uint32_t i = table->series_used; i-- > 1;)
        if (table->series[i].key_length)
            ret_series[--groups.ends[*group_slot(&groups, table, i) - 1]] = i;
    /* They are where they begin now. */
    for (uint32_t i = 0, after; i < groups.count; i = after) {
        const struct weir_slice *customer = &groups.customers[groups.order[i]];
        for (after = i + 1; after < groups.count; after++)
            if (!weir_slice_equal(groups.customers[groups.order[after]], *customer))
                break;
        uint32_t from = groups.ends[groups.order[i]];
        uint32_t to = after < groups.count ? groups.ends[groups.order[after]] : count;
        for (uint32_t at = from; at < to && at + FAR < count; at++)
            __builtin_prefetch(&table->series[ret_series[at + FAR]]);
        if (after > i + 1)
            qsort(ret_series + from, to - from, sizeof *ret_series, compare_positions);
        if (to - from < MANY)
            sort_by_meter(table, ret_series + from, to - from);
    }
    free(groups.of);
    free(groups.customers);
    free(groups.ends);
    free(groups.order);
    return count;
}

/* A counting sort: the windows of a series in the order in which they were made. */
static void start_draining(struct weir_window_table *table)
{
    uint32_t *series = weir_new_array(table->series_used, sizeof *series);
    uint32_t *ends = weir_new_array(table->series_used, sizeof *ends), sum = 0;
    uint32_t count = order_series(table, series);

    for (uint32_t i = 0; i < count; i++) {
        if (i + FAR < count) {
            __builtin_prefetch(&table->series[series[i + FAR]]);
            __builtin_prefetch(&ends[series[i + FAR]], 1);
        }
        ends[series[i]] = sum += table->series[series[i]].window_count;
    }
    weir_check(sum == table->window_count);
    table->drain = weir_new_array(table->window_count + 1, sizeof *table->drain);
    for (uint32_t i = table->windows_used; i-- > 1;) {
        if (i > FAR) {
            __builtin_prefetch(&ends[table->windows[i - FAR].series], 1);
            __builtin_prefetch(&table->drain[ends[table->windows[i - NEAR].series]], 1);
        }
        if (table->windows[i].series != NONE)
            table->drain[--ends[table->windows[i].series]] = i;
    }
    free(ends);
    free(series);
}

/* Whether the window at that place is its customer's last one. */
static bool ends_customer(const struct weir_window_table *table, size_t at)
{
    if (at + 1 == table->window_count)
        return true;
    uint32_t here = table->windows[table->drain[at]].series, next = table->windows[table->drain[at + 1]].series;
    return here != next && !weir_slice_equal(customer_of(&table->series[here]), customer_of(&table->series[next]));
}

/* What windows further on lead to, a step more the nearer they are. */
static void fetch_ahead(const struct weir_window_table *table, size_t at)
{
    if (at + 3 * NEAR >= table->window_count)
        return;
    __builtin_prefetch(&table->windows[table->drain[at + 3 * NEAR]]);
    __builtin_prefetch(&table->series[table->windows[table->drain[at + 2 * NEAR]].series]);
    const char *key = table->series[table->windows[table->drain[at + NEAR]].series].key;
    __builtin_prefetch(key);
    __builtin_prefetch(key + 32); /* most keys are longer than that, half of those cross a line */
}

size_t weir_window_table_drain(struct weir_window_table *table, size_t max, struct weir_window *ret_windows,
                               bool *ret_is_whole)
{
    size_t count = 0;

    if (!table->drain)
        start_draining(table);
    *ret_is_whole = false;
    while (count < max && table->drained < table->window_count && !(*ret_is_whole && count >= max / 2)) {
        size_t at = table->drained++;
        uint32_t position = table->drain[at];
        const struct window *window = &table->windows[position];
        fetch_ahead(table, at);
        ret_windows[count++] = (struct weir_window){.series_key = series_key(table, window->series),
                                                    .start = window->start,
                                                    .end = window_end(window),
                                                    .total = window_total(table, position)};
        *ret_is_whole = ends_customer(table, at);
    }
    return count;
}
