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
    "{\"key\":\"users\",\"event_type\":\"call\",\"aggregation\":\"unique\",\"value\":\"data.user\",\"window\":\"5m\"},"
    "{\"key\":\"high\",\"event_type\":\"job\",\"aggregation\":\"max\",\"value\":\"data.tokens\",\"window\":\"1m\","
    "\"retractable\":true},"
    "{\"key\":\"low\",\"event_type\":\"job\",\"aggregation\":\"min\",\"value\":\"data.tokens\",\"window\":\"5m\","
    "\"retractable\":true},"
    "{\"key\":\"final\",\"event_type\":\"job\",\"aggregation\":\"latest\",\"value\":\"data.tokens\",\"window\":\"1m\","
    "\"retractable\":true},"
    "{\"key\":\"agents\",\"event_type\":\"job\",\"aggregation\":\"unique\",\"value\":\"data.user\",\"window\":\"5m\","
    "\"retractable\":true}],"
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
    "{\"meter\":\"users\",\"model\":\"per_unit\",\"unit_price\":\"7\"},"
    "{\"meter\":\"high\",\"model\":\"per_unit\",\"unit_price\":\"1.1\"},"
    "{\"meter\":\"low\",\"model\":\"per_unit\",\"unit_price\":\"0.9\"},"
    "{\"meter\":\"final\",\"model\":\"graduated\",\"tiers\":["
    "{\"up_to\":\"4\",\"unit_price\":\"2\"},{\"up_to\":null,\"unit_price\":\"1.5\"}]},"
    "{\"meter\":\"agents\",\"model\":\"per_unit\",\"unit_price\":\"3\"}],"
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
    if (event->is_broken)
        length -= 1 + (int)(event->id % 5); /* cut off: not JSON */
    weir_check(length > 0 && (size_t)length < sizeof event->text);
    event->length = (uint32_t)length;
}

/* Another one, for an id that was not counted before. Its time is up to three minutes before what is sent then, which
 * is late for windows that have closed, never too late to be accepted. */
static void make_new(struct simulated_event *event, uint64_t *seed, unsigned id, int64_t around, bool is_plain)
{
    event->id = id;
    event->customer = below(seed, run.shape.customers);
    event->model = below(seed, 2);
    event->user = below(seed, 4);
    event->value = (int64_t)below(seed, 9) + 1;
    event->time = around - (int64_t)below(seed, run.shape.is_plain ? 30 : 180) * WEIR_SECOND;
    event->is_job = !run.shape.is_plain && !is_plain && below(seed, 2);
    event->is_retraction = event->is_job && below(seed, 6) == 0;
}

/* A message that repeats an earlier one: the same, taken back, or with other content. Of another partition's it can
 * take nothing back there, and so does it here, ahead of an event that never comes. */
static bool make_again(struct simulated_event *event, uint64_t *seed, unsigned number)
{
    bool is_elsewhere = number > 0 && below(seed, 4) == 0;
    const struct partition *partition = &run.partitions[is_elsewhere ? below(seed, number) : number];
    unsigned which = partition->count ? below(seed, partition->count) : 0;

    if (partition->count == 0 || partition->events[which].is_broken
        || (is_elsewhere && !partition->events[which].is_job))
        return false;
    int64_t offset = event->offset, visible = event->visible;
    *event = partition->events[which];
    event->offset = offset;
    event->visible = visible;
    event->is_retraction = event->is_job && (is_elsewhere || below(seed, 2));
    if (event->is_retraction)
        return true;
    if (below(seed, 3) == 0)
        event->value += 100;
    else if (!run.shape.is_long && !event->is_job && below(seed, 2))
        event->time += (int64_t)below(seed, 120) * WEIR_SECOND; /* the time is no part of the content */
    return true;
}

/* Kafka's retention passes messages, read or not, some time after they came; never the last one. */
static void make_losses(struct partition *partition, uint64_t *seed)
{
    unsigned last = 0;

    for (unsigned i = 0; i < run.shape.losses && last + 1 < partition->count; i++) {
        unsigned first = last + 1 + below(seed, partition->count - last - 1);
        int64_t at = partition->events[first].visible + (int64_t)below(seed, 40) * (WEIR_SECOND / 10);
        if (i > 0 && at < partition->losses[i - 1].at)
            at = partition->losses[i - 1].at;
        partition->losses[partition->loss_count++] = (struct loss){at, partition->events[first].offset};
        last = first;
    }
}

static void make_partition(unsigned number, uint64_t *seed)
{
    struct partition *partition = &run.partitions[number];
    int64_t offset = 0, visible = CLOCK_START;
    int64_t span = run.shape.minutes * WEIR_MINUTE;
    int64_t first = WALL_START + (run.shape.is_long ? WEIR_HOUR : -WEIR_HOUR);

    *partition = (struct partition){0};
    snprintf(partition->name, sizeof partition->name, TOPIC ":%u", number);
    while (partition->count < run.shape.events) {
        struct simulated_event *event = &partition->events[partition->count];
        int64_t around = first + span * partition->count / run.shape.events;
        bool is_last = run.shape.losses && partition->count + 1 == run.shape.events; /* what a lane surely has */
        *event = (struct simulated_event){.offset = offset, .visible = visible};
        unsigned kind = run.shape.is_plain || is_last ? 9 : below(seed, 10);
        if (kind > 2 || !make_again(event, seed, number))
            make_new(event, seed, number * EVENTS_MAX + partition->count, around, is_last);
        event->is_broken = kind == 3;
        write_text(event);
        partition->count++;
        offset += 1 + (below(seed, 6) == 0);
        /* Now and then all is read and the lane idle before more comes. */
        if (below(seed, 3) == 0)
            visible += (1 + (int64_t)below(seed, run.shape.pauses)) * (WEIR_SECOND / 10);
    }
    make_losses(partition, seed);
}

void make_events(uint64_t seed)
{
    for (unsigned i = 0; i < run.shape.partitions; i++)
        make_partition(i, &seed);
}

void trace_events(void)
{
    static const char *const names[] = {"counted", "undoes", "ahead", "duplicate", "conflict", "broken", "late"};
    static const struct weir_gaps none;

    for (unsigned i = 0; i < run.shape.partitions; i++) {
        struct partition *partition = &run.partitions[i];
        enum fate fates[EVENTS_MAX];
        judge_all(partition, INT64_MAX, &none, fates);
        for (unsigned j = 0; j < partition->count; j++)
            trace("%s offset %lld: %-9s %s", partition->name, (long long)partition->events[j].offset, names[fates[j]],
                  partition->events[j].text);
        for (unsigned j = 0; j < partition->loss_count; j++)
            trace("%s begins at %lld from %lld ms on", partition->name, (long long)partition->losses[j].low,
                  (long long)((partition->losses[j].at - CLOCK_START) / 1000000));
    }
}

int64_t end_offset(const struct partition *partition)
{
    return partition->count ? partition->events[partition->count - 1].offset + 1 : -1;
}

int64_t log_start(const struct partition *partition)
{
    int64_t low = 0;

    for (unsigned i = 0; i < partition->loss_count; i++)
        if (partition->losses[i].at <= simulated_clock())
            low = partition->losses[i].low;
    return low;
}

/* 2. the straight model */
struct expected_window *find_expected(const struct expectation *expectation, struct weir_slice series, int64_t start)
{
    for (unsigned i = 0; i < expectation->count; i++) {
        const struct expected_window *window = &expectation->windows[i];
        if (window->start == start && weir_slice_equal(series, weir_slice_of(window->series, window->series_length)))
            return (struct expected_window *)window;
    }
    return NULL;
}

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
    struct expected_window *known = find_expected(expectation, weir_slice_of(key, length), start);
    if (known)
        return known;
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
    bool is_first = total->events++ == 0;

    if (aggregation == WEIR_AGGREGATION_SUM || aggregation == WEIR_AGGREGATION_AVG)
        weir_check(weir_decimal_add(total->value, value, &total->value));
    if (aggregation == WEIR_AGGREGATION_MAX && (is_first || value.e12 > total->value.e12))
        total->value = value;
    if (aggregation == WEIR_AGGREGATION_MIN && (is_first || value.e12 < total->value.e12))
        total->value = value;
    if (aggregation == WEIR_AGGREGATION_LATEST && (is_first || event->time >= total->latest_time)) {
        total->value = value;
        total->latest_time = event->time;
        total->latest_offset = event->offset;
    }
    window->users |= 1u << event->user;
    if (aggregation == WEIR_AGGREGATION_UNIQUE)
        total->value = weir_decimal_of(__builtin_popcount(window->users));
}

static bool is_same_content(const struct simulated_event *a, const struct simulated_event *b)
{
    return a->is_job == b->is_job && a->customer == b->customer && a->value == b->value && a->model == b->model
           && a->user == b->user;
}

/* By what became of the same id's earlier messages; those that were not read are FATE_UNREAD. */
static enum fate judge(const struct partition *partition, unsigned which, const enum fate *fates)
{
    const struct simulated_event *event = &partition->events[which];
    const struct simulated_event *known = NULL;
    bool is_standing = false;

    for (unsigned i = 0; i < which; i++) {
        if (fates[i] > FATE_AHEAD || partition->events[i].id != event->id)
            continue;
        known = &partition->events[i];
        is_standing = fates[i] == FATE_COUNTED;
    }
    if (!known)
        return event->is_retraction ? FATE_AHEAD : FATE_COUNTED;
    if (!is_same_content(known, event))
        return FATE_CONFLICT;
    return event->is_retraction && is_standing ? FATE_UNDOES : FATE_DUPLICATE;
}

static bool is_missing(const struct weir_gaps *gaps, int64_t offset)
{
    for (uint32_t i = 0; i < gaps->count; i++)
        if (offset >= gaps->at[i].from && offset < gaps->at[i].to)
            return true;
    return false;
}

void judge_all(const struct partition *partition, int64_t next_offset, const struct weir_gaps *gaps,
               enum fate fates[EVENTS_MAX])
{
    int64_t high = 0;

    for (unsigned i = 0; i < partition->count; i++) {
        const struct simulated_event *event = &partition->events[i];
        if (event->offset >= next_offset || is_missing(gaps, event->offset))
            fates[i] = FATE_UNREAD;
        else if (event->is_broken)
            fates[i] = FATE_BROKEN;
        else if (high > 0 && event->time < high - run.shape.disorder - run.shape.lateness)
            fates[i] = FATE_LATE;
        else
            fates[i] = judge(partition, i, fates);
        if (fates[i] < FATE_CONFLICT && event->time > high)
            high = event->time;
    }
}

static bool is_undone_later(const struct partition *partition, unsigned which, const enum fate *fates)
{
    for (unsigned i = which + 1; i < partition->count; i++)
        if (fates[i] == FATE_UNDOES && partition->events[i].id == partition->events[which].id)
            return true;
    return false;
}

static void expect_event(const struct partition *partition, unsigned which, const enum fate *fates,
                         struct expectation *expectation)
{
    const struct simulated_event *event = &partition->events[which];
    bool is_undone = is_undone_later(partition, which, fates);

    if (event->time < expectation->first_time)
        expectation->first_time = event->time;
    if (event->time > expectation->last_time)
        expectation->last_time = event->time;
    for (uint32_t m = 0; m < run.catalog->meter_count; m++) {
        const struct weir_meter *meter = &run.catalog->meters[m];
        if (!weir_slice_equal(meter->event_type, weir_slice_text(event->is_job ? "job" : "call")))
            continue;
        struct expected_window *window = find_window(expectation, meter, event);
        if (fates[which] != FATE_COUNTED)
            window->total.retracted++;
        else if (!is_undone)
            add_event(window, meter->aggregation, event);
    }
}

unsigned tally_place(struct weir_slice customer)
{
    unsigned number = 0;
    char text[32];

    if (customer.length == 0)
        return 0;
    snprintf(text, sizeof text, "%.*s", (int)customer.length, customer.data);
    weir_check(sscanf(text, "customer-%u", &number) == 1 && number < CUSTOMERS_MAX);
    return 1 + number;
}

static void expect_tally(struct expectation *expectation, const struct simulated_event *event, enum fate fate)
{
    struct weir_tally *tally = &expectation->tallies[fate == FATE_BROKEN ? 0 : 1 + event->customer];

    tally->duplicate += fate == FATE_DUPLICATE;
    tally->quarantined += fate >= FATE_CONFLICT && fate != FATE_UNREAD;
}

void expect_lane(const struct partition *partition, int64_t next_offset, const struct weir_gaps *gaps,
                 struct expectation *ret_expectation)
{
    enum fate fates[EVENTS_MAX];

    judge_all(partition, next_offset, gaps, fates);
    ret_expectation->count = 0;
    ret_expectation->first_time = WEIR_TIME_NEVER;
    ret_expectation->last_time = INT64_MIN;
    ret_expectation->counts = (struct weir_lane_counts){0};
    memset(ret_expectation->tallies, 0, sizeof ret_expectation->tallies);
    for (unsigned i = 0; i < partition->count; i++) {
        struct weir_lane_counts *counts = &ret_expectation->counts;
        counts->read += fates[i] != FATE_UNREAD;
        counts->counted += fates[i] == FATE_COUNTED;
        counts->retracted += fates[i] == FATE_UNDOES || fates[i] == FATE_AHEAD;
        counts->duplicate += fates[i] == FATE_DUPLICATE;
        counts->quarantined += fates[i] >= FATE_CONFLICT && fates[i] != FATE_UNREAD;
        expect_tally(ret_expectation, &partition->events[i], fates[i]);
        if (fates[i] <= FATE_AHEAD)
            expect_event(partition, i, fates, ret_expectation);
    }
}
