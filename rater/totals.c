/* Totals of windows and periods: how shares merge, what quantity they stand for, and by how much a price's changes. */
#include "rater/rate_internal.h"

/* Of two lanes' events of one time and offset the higher value is the later one: whichever lane is looked at first, and
 * so that a share that moves forward never moves the window back. */
static bool is_later(const struct weir_window_total *a, const struct weir_window_total *b)
{
    if (a->latest_time != b->latest_time)
        return a->latest_time > b->latest_time;
    return a->latest_offset != b->latest_offset ? a->latest_offset > b->latest_offset
                                                : weir_decimal_compare(a->value, b->value) > 0;
}

bool weir_total_merge(enum weir_aggregation aggregation, struct weir_window_total *total,
                      const struct weir_window_total *more)
{
    bool is_first = total->events == 0;

    total->retracted += more->retracted;
    if (more->events == 0)
        return true;
    if (__builtin_add_overflow(total->events, more->events, &total->events))
        return false;
    switch (aggregation) {
    case WEIR_AGGREGATION_COUNT:
        return true;
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
    case WEIR_AGGREGATION_UNIQUE: /* across lanes a text counts once for each (docs/rating.md 2.3) */
        return weir_decimal_add(total->value, more->value, &total->value);
    case WEIR_AGGREGATION_MIN:
        if (is_first || weir_decimal_compare(more->value, total->value) < 0)
            total->value = more->value;
        return true;
    case WEIR_AGGREGATION_MAX:
        if (is_first || weir_decimal_compare(more->value, total->value) > 0)
            total->value = more->value;
        return true;
    case WEIR_AGGREGATION_LATEST:
        if (is_first || is_later(more, total)) {
            total->value = more->value;
            total->latest_time = more->latest_time;
            total->latest_offset = more->latest_offset;
        }
        return true;
    case WEIR_AGGREGATION_COUNT_OF:
        break;
    }
    weir_check(!"an aggregation that is none");
    return false;
}

bool weir_quantity_of(enum weir_aggregation aggregation, const struct weir_window_total *total,
                      struct weir_decimal *ret_quantity)
{
    *ret_quantity = (struct weir_decimal){0};
    if (total->events == 0)
        return true;
    if (aggregation == WEIR_AGGREGATION_AVG)
        return weir_decimal_divide(total->value, weir_decimal_of_count(total->events), WEIR_HALF_EVEN, ret_quantity);
    *ret_quantity = aggregation == WEIR_AGGREGATION_COUNT ? weir_decimal_of_count(total->events) : total->value;
    return true;
}

bool weir_merge_lanes(enum weir_aggregation aggregation, const struct weir_rated_window *window,
                      const struct weir_rated_lane *lane, const struct weir_window_total *total,
                      struct weir_window_total *ret_merged)
{
    *ret_merged = (struct weir_window_total){0};
    for (uint32_t i = 0; i < window->lane_count; i++)
        if (!weir_total_merge(aggregation, ret_merged,
                              lane && total && &window->lanes[i] == lane ? total : &window->lanes[i].total))
            return false;
    return true;
}

static bool is_of_split(const struct weir_rated_window *window, const struct target *target)
{
    return window->unpriced == WEIR_UNPRICED_PRICED && window->period_start == target->period_start
           && window->price_book_version == target->version->version
           && weir_slice_equal(window->series_key, target->window->series_key)
           && weir_slice_equal(window->price_book, target->version->book->key)
           && weir_slice_equal(window->price_key, target->price->key)
           && weir_slice_equal(window->contract, target->contract->key);
}

/* The split's total from all its windows, with target's as it will be: its value may have moved back, and then the fold
 * of before cannot tell what remains. What the state does not hold of it was loaded as its rest. */
static bool fold_again(struct weir_rater *rater, struct target *target, const struct weir_window_total *after)
{
    enum weir_aggregation aggregation = target->meter->aggregation;
    struct weir_state_view all = weir_state_all(rater->state);
    struct weir_window_total folded = *after;

    weir_check(target->split->wants_rest || !rater->ledger->ops->keeps_state);
    if (!weir_total_merge(aggregation, &folded, &target->split->rest))
        return false;
    for (size_t i = 0; i < all.window_count; i++) {
        struct weir_window_total total;
        if (all.windows[i] == target->window || !is_of_split(all.windows[i], target))
            continue;
        if (!weir_merge_lanes(aggregation, all.windows[i], NULL, NULL, &total)
            || !weir_total_merge(aggregation, &folded, &total))
            return false;
    }
    target->split->total = folded;
    return true;
}

bool weir_moves_back(enum weir_aggregation aggregation, const struct weir_window_total *before,
                     const struct weir_window_total *after)
{
    if (after->retracted > before->retracted || after->events < before->events)
        return true;
    if (before->events == 0)
        return false;
    switch (aggregation) {
    case WEIR_AGGREGATION_MIN:
        return weir_decimal_compare(after->value, before->value) > 0;
    case WEIR_AGGREGATION_MAX:
        return weir_decimal_compare(after->value, before->value) < 0;
    case WEIR_AGGREGATION_LATEST:
        return is_later(before, after);
    default:
        return false;
    }
}

bool weir_rater_quantity_change(struct weir_rater *rater, struct target *target, const struct weir_window_total *before,
                                const struct weir_window_total *after, struct weir_decimal *ret_change)
{
    enum weir_aggregation aggregation = target->meter->aggregation;
    struct weir_decimal old, new;

    if (!target->split)
        return weir_quantity_of(aggregation, before, &old) && weir_quantity_of(aggregation, after, &new)
               && weir_decimal_subtract(new, old, ret_change);
    struct weir_window_total *folded = &target->split->total;
    if (!weir_quantity_of(aggregation, folded, &old))
        return false;
    uint64_t events = folded->events;
    if (aggregation == WEIR_AGGREGATION_AVG) {
        struct weir_decimal change;
        if (!weir_decimal_subtract(after->value, before->value, &change)
            || !weir_decimal_add(folded->value, change, &folded->value))
            return false;
    } else if (before->events > 0 && weir_moves_back(aggregation, before, after)) {
        if (!fold_again(rater, target, after))
            return false;
    } else if (!weir_total_merge(aggregation, folded, after)) {
        /* Where nothing is missing, a window's minimum only falls, its maximum only rises, its latest only gets
         * later: so merging the new total into the old fold is exact. */
        return false;
    }
    folded->events = events - before->events + after->events;
    folded->retracted = 0; /* not kept of splits */
    target->split->entry.is_dirty = true;
    return weir_quantity_of(aggregation, folded, &new) && weir_decimal_subtract(new, old, ret_change);
}
