/* Cases: a catalog, and events by seed with what must become of each. The straight model of windows. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

static const char catalog_text[] =
    "{\"meters\":["
    "{\"key\":\"calls\",\"event_type\":\"call\",\"aggregation\":\"count\",\"window\":\"1m\"},"
    "{\"key\":\"tokens\",\"event_type\":\"call\",\"aggregation\":\"sum\",\"value\":\"data.tokens\",\"window\":\"1m\","
    "\"group_by\":[\"model\"]},"
    "{\"key\":\"jobs\",\"event_type\":\"job\",\"aggregation\":\"count\",\"window\":\"1m\"},"
    "{\"key\":\"work\",\"event_type\":\"job\",\"aggregation\":\"sum\",\"value\":\"data.tokens\",\"window\":\"5m\"},"
    "{\"key\":\"mean\",\"event_type\":\"job\",\"aggregation\":\"avg\",\"value\":\"data.tokens\",\"window\":\"1m\"},"
    "{\"key\":\"peak\",\"event_type\":\"call\",\"aggregation\":\"max\",\"value\":\"data.tokens\",\"window\":\"5m\"},"
    "{\"key\":\"last\",\"event_type\":\"call\",\"aggregation\":\"latest\",\"value\":\"data.tokens\",\"window\":\"1m\"},"
    "{\"key\":\"users\",\"event_type\":\"call\",\"aggregation\":\"unique\",\"value\":\"data.user\",\"window\":\"5m\"}],"
    "\"price_books\":[{\"key\":\"book\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2020-01-01T00:00:00Z\","
    "\"prices\":["
    "{\"meter\":\"calls\",\"model\":\"package\",\"package_size\":\"3\",\"package_price\":\"0.5\"},"
    "{\"meter\":\"jobs\",\"model\":\"package\",\"package_size\":\"2\",\"package_price\":\"0.7\"},"
    "{\"meter\":\"work\",\"model\":\"graduated\",\"tiers\":["
    "{\"up_to\":\"10\",\"unit_price\":\"0.1\",\"flat_fee\":\"1\"},{\"up_to\":null,\"unit_price\":\"0.01\"}]},"
    "{\"meter\":\"mean\",\"model\":\"per_unit\",\"unit_price\":\"0.123456789012\"},"
    "{\"meter\":\"tokens\",\"model\":\"graduated\",\"tiers\":["
    "{\"up_to\":\"20\",\"unit_price\":\"1.25\",\"flat_fee\":\"2\"},{\"up_to\":null,\"unit_price\":\"0.333333333333\"}]}"
    ","
    "{\"meter\":\"peak\",\"model\":\"volume\",\"tiers\":["
    "{\"up_to\":\"5\",\"unit_price\":\"3\"},{\"up_to\":null,\"unit_price\":\"2\",\"flat_fee\":\"1\"}]},"
    "{\"meter\":\"last\",\"model\":\"percentage\",\"rate\":\"0.029\",\"fixed_fee\":\"0.3\"},"
    "{\"meter\":\"users\",\"model\":\"per_unit\",\"unit_price\":\"7\"}],"
    "\"fees\":[{\"key\":\"platform\",\"amount\":\"99\",\"per\":\"period\",\"charged\":\"in_advance\"},"
    "{\"key\":\"support\",\"amount\":\"10\",\"per\":\"period\",\"charged\":\"in_arrears\"}]}],"
    "\"contracts\":[{\"key\":\"first\",\"customer\":\"customer-0\",\"price_book\":\"book\","
    "\"starts_at\":\"2020-01-01T00:00:00Z\",\"ends_at\":null,\"billing_period\":\"day\",\"timezone\":\"UTC\","
    "\"commitments\":[{\"key\":\"floor\",\"type\":\"minimum_spend\",\"amount\":\"60\",\"per\":\"period\"}]}],"
    "\"default_contract\":{\"price_book\":\"book\",\"billing_period\":\"day\",\"timezone\":\"UTC\"}}";

void make_catalog(void)
{
    struct weir_mistake_list mistakes = {0};

    if (weir_catalog_parse("simulation", catalog_text, sizeof catalog_text - 1, &run.catalog, &mistakes) == WEIR_OK)
        return;
    for (size_t i = 0; i < mistakes.count; i++)
        fprintf(stderr, "%s: %s\n", mistakes.mistakes[i].path, mistakes.mistakes[i].text);
    exit(1);
}

/* 1. events */
static unsigned below(uint64_t *seed, unsigned limit)
{
    return (unsigned)(next_random(seed) % limit);
}

static void write_text(struct simulated_event *event)
{
    char time[WEIR_TIME_TEXT_MAX];

    weir_time_format(event->time, time);
    int length =
        snprintf(event->text, sizeof event->text,
                 "{\"specversion\":\"1.0\",\"id\":\"id-%u\",\"source\":\"s\",\"type\":\"%s\",%s\"subject\":"
                 "\"customer-%u\",\"time\":\"%s\",\"data\":{\"tokens\":%lld,\"model\":\"m%u\",\"user\":\"u%u\"}}",
                 event->id, event->is_job ? "job" : "call", event->is_retraction ? "\"retraction\":true," : "",
                 event->customer, time, (long long)event->value, event->model, event->user);
    if (event->fate == FATE_BROKEN)
        length -= 1 + (int)(event->id % 5); /* cut off: not JSON */
    weir_check(length > 0 && (size_t)length < sizeof event->text);
    event->length = (uint32_t)length;
}

/* Another one, for an id that was not counted before. Its time is up to three minutes before what is sent then, which
 * is late for windows that have closed, never too late to be accepted. */
static void make_new(struct simulated_event *event, uint64_t *seed, unsigned id, int64_t around)
{
    event->id = id;
    event->customer = below(seed, run.shape.customers);
    event->model = below(seed, 2);
    event->user = below(seed, 4);
    event->value = (int64_t)below(seed, 9) + 1;
    event->time = around - (int64_t)below(seed, run.shape.is_plain ? 30 : 180) * WEIR_SECOND;
    event->fate = FATE_COUNTED;
    event->is_job = !run.shape.is_plain && below(seed, 2);
    event->is_retraction = event->is_job && below(seed, 6) == 0;
    if (event->is_retraction)
        event->fate = FATE_AHEAD;
}

/* Counted, and not taken out again. */
static bool is_standing(const struct partition *partition, unsigned id)
{
    bool is_counted = false;

    for (unsigned i = 0; i < partition->count; i++)
        if (partition->events[i].id == id && partition->events[i].fate <= FATE_UNDOES)
            is_counted = partition->events[i].fate == FATE_COUNTED;
    return is_counted;
}

/* A message that repeats an earlier one of the partition: the same, or with other content. */
static bool make_again(struct simulated_event *event, uint64_t *seed, const struct partition *partition)
{
    unsigned which = partition->count ? below(seed, partition->count) : 0;

    if (partition->count == 0 || partition->events[which].fate >= FATE_CONFLICT)
        return false;
    int64_t offset = event->offset, visible = event->visible;
    *event = partition->events[which];
    event->offset = offset;
    event->visible = visible;
    event->fate = FATE_DUPLICATE;
    event->is_retraction = event->is_job && below(seed, 2);
    if (event->is_retraction) {
        event->fate = is_standing(partition, event->id) ? FATE_UNDOES : FATE_DUPLICATE;
    } else if (below(seed, 3) == 0) {
        event->fate = FATE_CONFLICT;
        event->value += 100;
    } else if (!run.shape.is_long && !event->is_job && below(seed, 2)) {
        event->time += (int64_t)below(seed, 120) * WEIR_SECOND; /* the time is no part of the content */
    }
    return true;
}

static void make_partition(struct partition *partition, uint64_t *seed, unsigned number)
{
    int64_t offset = 0, visible = CLOCK_START, high = 0;
    int64_t span = run.shape.minutes * WEIR_MINUTE;
    int64_t first = WALL_START + (run.shape.is_long ? WEIR_HOUR : -WEIR_HOUR);

    *partition = (struct partition){0};
    snprintf(partition->name, sizeof partition->name, TOPIC ":%u", number);
    while (partition->count < run.shape.events) {
        struct simulated_event *event = &partition->events[partition->count];
        int64_t around = first + span * partition->count / run.shape.events;
        *event = (struct simulated_event){.offset = offset, .visible = visible};
        unsigned kind = run.shape.is_plain ? 9 : below(seed, 10);
        if (kind > 2 || !make_again(event, seed, partition))
            make_new(event, seed, number * EVENTS_MAX + partition->count, around);
        if (kind == 3)
            event->fate = FATE_BROKEN;
        else if (high > 0 && event->time < high - run.shape.disorder - run.shape.lateness)
            event->fate = FATE_LATE;
        else if (event->fate != FATE_CONFLICT && event->time > high)
            high = event->time;
        write_text(event);
        partition->count++;
        offset += 1 + (below(seed, 6) == 0);
        /* Now and then all is read and the lane idle before more comes. */
        if (below(seed, 3) == 0)
            visible += (1 + (int64_t)below(seed, run.shape.pauses)) * (WEIR_SECOND / 10);
    }
}

void make_events(uint64_t seed)
{
    for (unsigned i = 0; i < run.shape.partitions; i++)
        make_partition(&run.partitions[i], &seed, i);
}

void trace_events(void)
{
    static const char *const names[] = {"counted", "undoes", "ahead", "duplicate", "conflict", "broken", "late"};

    for (unsigned i = 0; i < run.shape.partitions; i++)
        for (unsigned j = 0; j < run.partitions[i].count; j++) {
            const struct simulated_event *event = &run.partitions[i].events[j];
            trace("%s offset %lld: %-9s %s", run.partitions[i].name, (long long)event->offset, names[event->fate],
                  event->text);
        }
}

int64_t end_offset(const struct partition *partition)
{
    return partition->count ? partition->events[partition->count - 1].offset + 1 : -1;
}

/* 2. the straight model */
static struct expected_window *find_window(struct expectation *expectation, const struct weir_meter *meter,
                                           const struct simulated_event *event)
{
    char key[WEIR_SERIES_KEY_MAX], customer[32], model[16];
    struct weir_series series = {.meter = meter->key, .dimension_count = meter->group_count};
    int64_t start, end;

    snprintf(customer, sizeof customer, "customer-%u", event->customer);
    snprintf(model, sizeof model, "m%u", event->model);
    series.customer = weir_slice_text(customer);
    if (meter->group_count)
        series.dimensions[0] = (struct weir_dimension){weir_slice_text("model"), weir_slice_text(model)};
    size_t length = weir_series_write(&series, key);
    weir_window_of(meter->window, event->time, &start, &end);
    for (unsigned i = 0; i < expectation->count; i++) {
        struct expected_window *window = &expectation->windows[i];
        if (window->start == start && window->series_length == length && memcmp(window->series, key, length) == 0)
            return window;
    }
    weir_check(expectation->count < EXPECTED_MAX && length <= sizeof expectation->windows[0].series);
    struct expected_window *window = &expectation->windows[expectation->count++];
    *window = (struct expected_window){.series_length = (uint32_t)length, .start = start, .end = end};
    memcpy(window->series, key, length);
    return window;
}

static void add_event(struct expected_window *window, enum weir_aggregation aggregation,
                      const struct simulated_event *event)
{
    struct weir_window_total *total = &window->total;
    struct weir_decimal value = weir_decimal_of(event->value);
    bool is_sum = aggregation == WEIR_AGGREGATION_SUM || aggregation == WEIR_AGGREGATION_AVG;

    if (event->fate != FATE_COUNTED)
        total->retracted++;
    if (event->fate == FATE_UNDOES) {
        total->events--;
        weir_check(!is_sum || weir_decimal_subtract(total->value, value, &total->value));
    }
    if (event->fate != FATE_COUNTED)
        return;
    total->events++;
    if (is_sum)
        weir_check(weir_decimal_add(total->value, value, &total->value));
    if (aggregation == WEIR_AGGREGATION_MAX && value.e12 > total->value.e12)
        total->value = value;
    if (aggregation == WEIR_AGGREGATION_LATEST && event->time >= total->latest_time) {
        total->value = value;
        total->latest_time = event->time;
        total->latest_offset = event->offset;
    }
    window->users |= 1u << event->user;
    if (aggregation == WEIR_AGGREGATION_UNIQUE)
        total->value = weir_decimal_of(__builtin_popcount(window->users));
}

void expect_lane(const struct partition *partition, int64_t next_offset, struct expectation *ret_expectation)
{
    ret_expectation->count = 0;
    ret_expectation->first_time = WEIR_TIME_NEVER;
    ret_expectation->last_time = INT64_MIN;
    ret_expectation->counts = (struct weir_lane_counts){0};
    for (unsigned i = 0; i < partition->count && partition->events[i].offset < next_offset; i++) {
        const struct simulated_event *event = &partition->events[i];
        ret_expectation->counts.read++;
        ret_expectation->counts.counted += event->fate == FATE_COUNTED;
        ret_expectation->counts.retracted += event->fate == FATE_UNDOES || event->fate == FATE_AHEAD;
        ret_expectation->counts.duplicate += event->fate == FATE_DUPLICATE;
        ret_expectation->counts.quarantined += event->fate >= FATE_CONFLICT;
        if (event->fate > FATE_AHEAD)
            continue;
        if (event->time < ret_expectation->first_time)
            ret_expectation->first_time = event->time;
        if (event->time > ret_expectation->last_time)
            ret_expectation->last_time = event->time;
        for (uint32_t m = 0; m < run.catalog->meter_count; m++)
            if (weir_slice_equal(run.catalog->meters[m].event_type, weir_slice_text(event->is_job ? "job" : "call")))
                add_event(find_window(ret_expectation, &run.catalog->meters[m], event),
                          run.catalog->meters[m].aggregation, event);
    }
}
