/* From a price's running total to line items: what the new total costs less what the old one did. */
#include <stdlib.h>

#include "rater/rate_internal.h"

/* The next line item's place; what it holds is of an earlier batch. */
static struct weir_line_item *next_item(struct weir_rater *rater)
{
    if (rater->item_count == rater->item_room) {
        rater->item_room = rater->item_room ? rater->item_room * 2 : 4096;
        rater->items = weir_resize(rater->items, rater->item_room, sizeof *rater->items);
    }
    return &rater->items[rater->item_count++];
}

void weir_rater_add_item(struct weir_rater *rater, const struct weir_line_item *item)
{
    *next_item(rater) = *item;
}

bool weir_add_usage(struct weir_period_running *period, struct weir_decimal amount)
{
    if (weir_decimal_is_zero(amount))
        return true;
    period->entry.is_dirty = true;
    return weir_decimal_add(period->usage_amount, amount, &period->usage_amount);
}

struct emission {
    struct weir_rater *rater;
    const struct target *target;
    uint32_t revision;
};

/* Field by field, and only the dimensions that there are: an item is half a kilobyte, most of it dimensions that nobody
 * uses. */
static void fill_item(const struct emission *emission, const struct weir_charge *charge, struct weir_line_item *item)
{
    const struct target *target = emission->target;
    const struct weir_price_book *book = target->version->book;
    const struct weir_series *series = &emission->rater->charging.series;

    item->customer = target->running->customer;
    item->contract = target->running->contract;
    item->item = item->meter = target->meter->key;
    item->dimension_count = target->window ? series->dimension_count : 0;
    for (uint32_t i = 0; i < item->dimension_count; i++)
        item->dimensions[i] = series->dimensions[i];
    item->period_start = target->period_start;
    item->period_end = target->period_end;
    item->window_start = target->window ? target->window->start : target->period_start;
    item->window_end = target->window ? target->window->end : target->period_end;
    item->advance_at = 0;
    item->kind = WEIR_KIND_USAGE;
    item->component = charge->component;
    item->price_book = book->key;
    item->price_book_version = target->version->version;
    item->model = weir_price_model_name[target->price->model];
    item->tier = charge->tier;
    item->quantity = weir_decimal_by_words(&charge->quantity); /* as it was just written, and so is the amount */
    item->has_unit_price = charge->has_unit_price;
    item->unit_price = charge->unit_price;
    item->amount = weir_decimal_by_words(&charge->amount);
    item->currency = book->currency;
    item->currency_places = book->currency_places;
    item->rounding = book->rounding;
    item->revision = emission->revision;
}

static bool emit_usage(void *context, const struct weir_charge *charge)
{
    struct emission *emission = context;
    const struct target *target = emission->target;
    struct weir_decimal amount = weir_decimal_by_words(&charge->amount);

    fill_item(emission, charge, next_item(emission->rater));
    return weir_add_usage(target->period, amount)
           && weir_decimal_add(target->running->amount, amount, &target->running->amount);
}

/* The dimensions of the target's window, parsed once for windows of one series that follow one another. */
static void read_series(struct charging *charging, const struct target *target)
{
    if (!target->window || target->window->series_key.data == charging->series_key)
        return;
    weir_check(weir_series_parse(target->window->series_key, &charging->series));
    charging->series_key = target->window->series_key.data;
}

/* What the running total costs so far: mostly the price is the one that was charged last, and then it is known. false:
 * overflow. */
static bool know_charges(struct charging *charging, const struct target *target)
{
    const struct weir_price_running *running = target->running;
    struct weir_running_charges *charges = &charging->charges;

    if (charging->running == running && charging->effective == target->effective)
        return true;
    /* A price that was never evaluated has charged nothing, not even its flat fee at zero. */
    charges->is_known = running->entry.exists || running->entry.is_dirty;
    return !charges->is_known
           || weir_price_charges(target->effective, running->quantity, running->events, &charges->lists[charges->at]);
}

bool weir_rater_charge(struct weir_rater *rater, struct target *target, struct weir_decimal quantity, uint64_t events,
                       uint32_t revision)
{
    struct weir_price_running *running = target->running;
    struct charging *charging = &rater->charging;
    struct emission emission = {.rater = rater, .target = target, .revision = revision};

    read_series(charging, target);
    bool is_known = know_charges(charging, target);
    charging->running = NULL; /* until this one is done */
    if (!is_known
        || !weir_price_advance(target->effective, quantity, events, &charging->charges, emit_usage, &emission))
        return false;
    running->quantity = quantity;
    running->events = events;
    running->entry.is_dirty = true;
    charging->running = running;
    charging->effective = target->effective;
    return true;
}
