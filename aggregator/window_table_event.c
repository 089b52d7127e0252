/* What an event does to its windows: prepared, then applied. */
#include "aggregator/window_table_internal.h"

/* What adds up is subtracted; other windows have kept the event, or are refused. */
static enum weir_prepared take_out_reading(const struct weir_meter *meter, const struct weir_reading *reading,
                                           const struct window *window, uint64_t id, struct weir_window_total *total)
{
    if (total->events == 0)
        return WEIR_PREPARED_ABSENT;
    total->retracted++;
    switch (meter->aggregation) {
    case WEIR_AGGREGATION_COUNT:
        total->events--;
        return WEIR_PREPARED;
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
        total->events--;
        return weir_decimal_subtract(total->value, reading->value, &total->value) ? WEIR_PREPARED
                                                                                  : WEIR_PREPARED_OVERFLOW;
    default:
        if (!window_kept(window) || !weir_kept_has_id(window->kept, id))
            return WEIR_PREPARED_ABSENT; /* counted before the meter became retractable */
        weir_kept_total_without(window->kept, meter->aggregation, id, total);
        return WEIR_PREPARED;
    }
}

static bool add_reading(const struct weir_meter *meter, const struct weir_reading *reading, int64_t time,
                        int64_t offset, struct weir_window_change *change)
{
    struct weir_window_total *total = &change->after;
    bool is_first = total->events++ == 0;

    switch (meter->aggregation) {
    case WEIR_AGGREGATION_COUNT:
        return true;
    case WEIR_AGGREGATION_SUM:
    case WEIR_AGGREGATION_AVG:
        return weir_decimal_add(total->value, reading->value, &total->value);
    case WEIR_AGGREGATION_MIN:
        if (is_first || weir_decimal_compare(reading->value, total->value) < 0)
            total->value = reading->value;
        return true;
    case WEIR_AGGREGATION_MAX:
        if (is_first || weir_decimal_compare(reading->value, total->value) > 0)
            total->value = reading->value;
        return true;
    case WEIR_AGGREGATION_LATEST:
        if (is_first || time > total->latest_time || (time == total->latest_time && offset > total->latest_offset)) {
            total->value = reading->value;
            total->latest_time = time;
            total->latest_offset = offset;
        }
        return true;
    case WEIR_AGGREGATION_UNIQUE:
        return !change->is_new_unique || weir_decimal_add(total->value, weir_decimal_of(1), &total->value);
    case WEIR_AGGREGATION_COUNT_OF:
        break;
    }
    weir_check(!"an aggregation that is none");
    return false;
}

static bool keeps_events(const struct weir_meter *meter)
{
    return meter->is_retractable && meter->aggregation != WEIR_AGGREGATION_COUNT
           && meter->aggregation != WEIR_AGGREGATION_SUM && meter->aggregation != WEIR_AGGREGATION_AVG;
}

/* The window of the series that holds the time; NONE: not there (and not to be made), or the limit is reached. */
static uint32_t find_window(struct weir_window_table *table, const struct weir_meter *meter, uint32_t series,
                            int64_t time, bool is_made)
{
    uint32_t position = table->series[series].latest;
    int64_t start, end;

    if (position != NONE && time >= table->windows[position].start && time < window_end(&table->windows[position]))
        return position;
    weir_window_of(meter->window, time, &start, &end);
    position = weir_window_look(table, series, start);
    if (position == NONE && is_made) {
        position = weir_window_add(table, series, start, end, true);
        if (position != NONE && keeps_events(meter)) {
            table->windows[position].kept = weir_kept_new(meter->aggregation);
            table->windows[position].flags |= KEEPS_EVENTS;
            table->unique_bytes += weir_kept_bytes(table->windows[position].kept);
        }
    }
    if (position == NONE && table->series[series].window_count == 0)
        weir_window_remove_series(table, series);
    return position;
}

/* Whether the window has no text like a `unique` meter's. */
static void look_unique(const struct window *window, const struct weir_reading *reading,
                        struct weir_window_change *change)
{
    change->unique = reading->unique;
    if (window_kept(window))
        change->is_new_unique = !weir_kept_has_unique(window->kept, change->unique);
    else
        change->is_new_unique = !window->unique || !weir_unique_set_has(window->unique, change->unique);
}

static void fill_record(const struct weir_meter *meter, const struct weir_reading *reading,
                        const struct weir_window_event *event, struct weir_window_change *change)
{
    change->record.id = event->id;
    change->record.time = event->time;
    change->record.offset = event->offset;
    if (meter->aggregation == WEIR_AGGREGATION_UNIQUE)
        change->record.unique = change->unique;
    else
        change->record.value = reading->value;
}

enum weir_prepared weir_window_table_prepare(struct weir_window_table *table, enum weir_window_step step,
                                             const struct weir_reading *reading, const struct weir_window_event *event,
                                             struct weir_window_change *ret_change)
{
    const struct weir_meter *meter = &table->catalog->meters[reading->meter];
    uint32_t series = weir_window_find_series(table, reading, event->customer);
    uint32_t position = find_window(table, meter, series, event->time, step != WEIR_WINDOW_UNDO);
    enum weir_prepared prepared = WEIR_PREPARED;

    if (position == NONE)
        return step == WEIR_WINDOW_UNDO ? WEIR_PREPARED_ABSENT : WEIR_PREPARED_FULL;
    const struct window *window = &table->windows[position];
    ret_change->window = position;
    ret_change->is_unpriced = window->flags & IS_UNPRICED;
    ret_change->after = window_total(table, position);
    ret_change->is_new_unique = false;
    ret_change->step = step;
    if (step == WEIR_WINDOW_VOID) {
        ret_change->after.retracted++;
    } else if (step == WEIR_WINDOW_UNDO) {
        ret_change->record.id = event->id;
        prepared = take_out_reading(meter, reading, window, event->id, &ret_change->after);
    } else {
        if (meter->aggregation == WEIR_AGGREGATION_UNIQUE)
            look_unique(window, reading, ret_change);
        if (!add_reading(meter, reading, event->time, event->offset, ret_change))
            prepared = WEIR_PREPARED_OVERFLOW;
        if (window_kept(window))
            fill_record(meter, reading, event, ret_change);
    }
    return prepared;
}

static void apply_kept(struct weir_window_table *table, struct window *window, const struct weir_window_change *change)
{
    table->unique_bytes -= weir_kept_bytes(window_kept(window));
    table->unique_count -= weir_kept_count(window_kept(window));
    if (change->step == WEIR_WINDOW_ADD)
        weir_kept_add(window->kept, &change->record);
    else if (change->step == WEIR_WINDOW_UNDO)
        weir_kept_remove(window->kept, change->record.id);
    table->unique_bytes += weir_kept_bytes(window_kept(window));
    table->unique_count += weir_kept_count(window_kept(window));
}

void weir_window_table_apply(struct weir_window_table *table, const struct weir_window_change *change)
{
    struct window *window = &table->windows[change->window];

    weir_check(change->after.events + 2 * change->after.retracted > window->events + 2 * window->retracted);
    window_set_total(table, change->window, &change->after);
    if (window_kept(window)) {
        apply_kept(table, window, change);
    } else if (change->is_new_unique) {
        if (!window->unique)
            window->unique = weir_unique_set_new();
        else
            table->unique_bytes -= weir_unique_set_bytes(window->unique);
        weir_unique_set_add(window->unique, change->unique);
        table->unique_count++;
        table->unique_bytes += weir_unique_set_bytes(window->unique);
    }
    if (!(window->flags & IS_CHANGED))
        weir_window_mark_changed(table, change->window);
}
