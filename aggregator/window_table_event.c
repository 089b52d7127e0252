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

/* The window of the series that holds the time, which is not the latest; NONE: not there (and not to be made), or the
 * limit is reached. */
static __attribute__((noinline)) uint32_t find_other_window(struct weir_window_table *table,
                                                            const struct weir_reading *reading, uint32_t series,
                                                            struct weir_window_event *event, bool is_made)
{
    const struct meter *meter = &table->meters[reading->meter];
    struct span *span = &table->spans[meter->window];
    uint32_t latest = table->series[series].latest;
    int64_t time = event->time;

    if (time < span->start || time >= span->end)
        weir_window_of(meter->window, time, &span->start, &span->end);
    uint32_t position = weir_window_look(table, series, span->start);
    if (position == NONE && is_made) {
        position = weir_window_add(table, series, span->start, span->end, true);
        if (position != NONE)
            table->made[event->made++] = (struct made){position, latest};
        if (position != NONE && meter->keeps_events) {
            window_keep_events(&table->windows[position], meter->aggregation);
            table->unique_bytes += weir_kept_bytes(table->windows[position].kept);
        }
    }
    if (position == NONE && table->series[series].window_count == 0)
        weir_window_remove_series(table, series);
    return position;
}

/* Two series of one customer have one number from now on, the lower one. */
static inline void know_customer(struct weir_window_table *table, struct weir_window_event *event, uint32_t series)
{
    struct series *one = &table->series[series], *other;

    if (event->series == NONE)
        event->series = series;
    other = &table->series[event->series];
    if (one->customer < other->customer)
        other->customer = one->customer;
    else
        one->customer = other->customer;
    event->number = one->customer == NO_NUMBER ? 0 : one->customer;
}

/* The series of a reading: the event's first, or one that has not met it yet. Where prefetch has found it; others may
 * have gone and come since. */
static __attribute__((noinline)) uint32_t
meet_series(struct weir_window_table *table, const struct weir_reading *reading, struct weir_window_event *event)
{
    uint32_t series = reading->place;

    if (!is_series_of(table, &table->series[series], reading, event))
        series = weir_window_find_series(table, reading, event);
    know_customer(table, event, series);
    return series;
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

static void fill_record(const struct weir_reading *reading, const struct weir_window_event *event, bool is_unique,
                        struct weir_window_change *change)
{
    change->record.id = event->id;
    change->record.time = event->time;
    change->record.offset = event->offset;
    if (is_unique)
        change->record.unique = change->unique;
    else
        change->record.value = reading->value;
}

/* Any step on any window. */
static __attribute__((noinline)) enum weir_prepared
prepare_other(struct weir_window_table *table, enum weir_window_step step, const struct weir_reading *reading,
              const struct weir_window_event *event, struct weir_window_change *change)
{
    const struct weir_meter *meter = &table->catalog->meters[reading->meter];
    const struct window *window = &table->windows[change->window];

    change->is_new_unique = false;
    change->after = window_total(table, change->window);
    if (step == WEIR_WINDOW_VOID) {
        change->after.retracted++;
        return WEIR_PREPARED;
    }
    if (step == WEIR_WINDOW_UNDO) {
        change->record.id = event->id;
        return take_out_reading(meter, reading, window, event->id, &change->after);
    }
    bool is_unique = meter->aggregation == WEIR_AGGREGATION_UNIQUE;
    if (is_unique)
        look_unique(window, reading, change);
    if (window_kept(window))
        fill_record(reading, event, is_unique, change);
    return add_reading(meter, reading, event->time, event->offset, change) ? WEIR_PREPARED : WEIR_PREPARED_OVERFLOW;
}

/* Whether the series is the reading's and has met the event's customer already, whom its number tells then. */
static inline bool is_met(const struct weir_window_table *table, const struct series *series,
                          const struct weir_reading *reading, const struct weir_window_event *event)
{
    return series->meter == reading->meter && series->customer == event->number
           && (table->meters[reading->meter].group_count == 0
               || weir_window_has_groups_of(table, series, reading, event));
}

/* What is PLAIN can only go wrong in its sum, and nothing of it needs to be kept for apply, which adds once more.
 * *flags: those of all windows. */
static inline enum weir_prepared prepare(struct weir_window_table *table, enum weir_window_step step,
                                         const struct weir_reading *reading, struct weir_window_event *event,
                                         struct weir_window_change *change, uint32_t *flags)
{
    uint32_t series = reading->place;
    struct weir_decimal sum;

    if (!is_met(table, &table->series[series], reading, event))
        series = meet_series(table, reading, event);
    uint32_t position = table->series[series].latest;
    const struct window *window = &table->windows[position];
    if (!holds_time(window, event->time)) {
        position = find_other_window(table, reading, series, event, step != WEIR_WINDOW_UNDO);
        if (position == NONE)
            return step == WEIR_WINDOW_UNDO ? WEIR_PREPARED_ABSENT : WEIR_PREPARED_FULL;
        window = &table->windows[position];
    }
    change->window = position;
    *flags |= window->flags;
    if (step != WEIR_WINDOW_ADD || !(window->flags & PLAIN))
        return prepare_other(table, step, reading, event, change);
    if (window->flags & SUMS && !weir_decimal_add(window->value, reading->value, &sum))
        return WEIR_PREPARED_OVERFLOW;
    return WEIR_PREPARED;
}

/* The event is refused: it leaves no windows behind, which would be billed fees though nobody used anything in them. */
static __attribute__((noinline)) void unmake_all(struct weir_window_table *table, struct weir_window_event *event)
{
    while (event->made > 0)
        weir_window_unmake(table, table->made[--event->made]);
}

static inline enum weir_prepared prepare_all(struct weir_window_table *table, enum weir_window_step step,
                                             const struct weir_reading *readings, uint32_t count,
                                             struct weir_window_event *event, struct weir_window_change *ret_changes,
                                             uint32_t *ret_prepared)
{
    uint32_t flags = 0;

    for (uint32_t i = 0; i < count; i++) {
        enum weir_prepared prepared = prepare(table, step, &readings[i], event, &ret_changes[i], &flags);
        if (__builtin_expect(prepared != WEIR_PREPARED, 0)) {
            *ret_prepared = i;
            unmake_all(table, event);
            return prepared;
        }
    }
    *ret_prepared = count;
    event->is_unpriced = flags & IS_UNPRICED;
    return WEIR_PREPARED;
}

enum weir_prepared weir_window_table_prepare(struct weir_window_table *table, enum weir_window_step step,
                                             const struct weir_reading *readings, uint32_t count,
                                             struct weir_window_event *event, struct weir_window_change *ret_changes,
                                             uint32_t *ret_prepared)
{
    if (step == WEIR_WINDOW_ADD)
        return prepare_all(table, WEIR_WINDOW_ADD, readings, count, event, ret_changes, ret_prepared);
    return prepare_all(table, step, readings, count, event, ret_changes, ret_prepared);
}

static void apply_kept(struct weir_window_table *table, enum weir_window_step step, struct window *window,
                       const struct weir_window_change *change)
{
    table->unique_bytes -= weir_kept_bytes(window_kept(window));
    table->unique_count -= weir_kept_count(window_kept(window));
    if (step == WEIR_WINDOW_ADD)
        weir_kept_add(window->kept, &change->record);
    else if (step == WEIR_WINDOW_UNDO)
        weir_kept_remove(window->kept, change->record.id);
    table->unique_bytes += weir_kept_bytes(window_kept(window));
    table->unique_count += weir_kept_count(window_kept(window));
}

static __attribute__((noinline)) void apply_other(struct weir_window_table *table, enum weir_window_step step,
                                                  struct window *window, const struct weir_window_change *change)
{
    uint64_t events = change->after.events;

    __asm__("" : "+r"(events)); /* both counts by one load would wait, as a decimal would (weir_decimal_by_words) */
    weir_check(events + 2 * change->after.retracted > window->events + 2 * window->retracted);
    window_set_total(table, change->window, &change->after);
    if (window_kept(window)) {
        apply_kept(table, step, window, change);
    } else if (change->is_new_unique) {
        if (!window->unique)
            window->unique = weir_unique_set_new();
        else
            table->unique_bytes -= weir_unique_set_bytes(window->unique);
        weir_unique_set_add(window->unique, change->unique);
        table->unique_count++;
        table->unique_bytes += weir_unique_set_bytes(window->unique);
    }
}

void weir_window_table_apply(struct weir_window_table *table, enum weir_window_step step,
                             const struct weir_reading *readings, const struct weir_window_change *changes,
                             uint32_t count)
{
    uint32_t plain = step == WEIR_WINDOW_ADD ? PLAIN : 0;

    for (uint32_t i = 0; i < count; i++) {
        struct window *window = &table->windows[changes[i].window];
        if (window->flags & plain) {
            window->events++;
            weir_check(window->events > 0);
            if (window->flags & SUMS)
                window->value.e12 += readings[i].value.e12; /* prepare has seen that it fits */
        } else {
            apply_other(table, step, window, &changes[i]);
        }
        if (!(window->flags & IS_CHANGED))
            weir_window_mark_changed(table, changes[i].window);
    }
}
