/* `weir reconcile`: Kafka, Redis and PostgreSQL against each other. Reads only. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/window_store.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "common/arena.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/hash.h"
#include "common/log.h"
#include "common/settings.h"
#include "ingest/kafka_offsets.h"
#include "rater/ledger_audit.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_RECONCILE,
    .name = "weir reconcile",
    .arguments = "[OPTIONS]",
    .purpose =
        "Compares, lane by lane, Kafka's offsets with the lanes' cuts in Redis and each window in Redis with what\n"
        "was rated of it in PostgreSQL; then the ledger with its own totals. Reads only. Exit status 1: something "
        "differs.\n"
        "Run it at rest for a clean answer; beside running workers what is on its way shows as behind or waiting.",
    .example = "weir reconcile --kafka-topic events",
};

enum { SHOWN_MAX = 20, FIRST_SLOTS = 4096 };

/* What was rated of one window in this lane; found by series key and start. */
struct rated {
    uint64_t hash; /* 0: free */
    struct weir_slice series_key;
    int64_t start;
    struct weir_window_total total;
    bool is_in_redis;
};

struct lane_report {
    char name_bytes[WEIR_LANE_NAME_MAX + 1];
    struct weir_slice name;
    struct weir_lane_state state;
    uint64_t windows, open, waiting, differing;
    uint64_t rated, only_rated; /* only_rated: Redis has forgotten them, which it may once they are rated */
};

struct reconciling {
    struct weir_settings settings;
    struct weir_window_store *store;
    struct weir_ledger_audit *audit;
    struct weir_kafka_offsets *offsets;
    int32_t partition_count;
    struct lane_report *lanes;
    size_t lane_count;
    struct weir_arena *arena; /* of the lane under way */
    struct rated *table;
    uint64_t mask, count;
    struct lane_report *lane;
    uint64_t differences;
};

/* 1. differences ------------------------------------------------------------------------------------------------------
 */
static void differ(struct reconciling *reconciling, const char *text)
{
    if (++reconciling->differences <= SHOWN_MAX)
        printf("  differs: %s\n", text);
    else if (reconciling->differences == SHOWN_MAX + 1)
        printf("  and more, which are only counted\n");
}

static void differ_window(struct reconciling *reconciling, const struct weir_window *window,
                          const struct weir_window_total *rated)
{
    char start[WEIR_TIME_TEXT_MAX], found[WEIR_DECIMAL_TEXT_MAX], was[WEIR_DECIMAL_TEXT_MAX], text[1024];
    struct weir_series series = {0};

    (void)weir_series_parse(window->series_key, &series);
    weir_time_format(window->start, start);
    weir_decimal_format_short(window->total.value, found);
    weir_decimal_format_short(rated ? rated->value : (struct weir_decimal){0}, was);
    snprintf(text, sizeof text,
             "lane %s, customer '%.*s', meter '%.*s', window %s: Redis has %" PRIu64
             " events, value %s; rated were %" PRIu64 " events, value %s",
             reconciling->lane->name_bytes, (int)series.customer.length, series.customer.data, (int)series.meter.length,
             series.meter.data, start, window->total.events, found, rated ? rated->events : 0, was);
    differ(reconciling, text);
    reconciling->lane->differing++;
}

/* 2. what was rated of a lane
 * ------------------------------------------------------------------------------------------ */
static struct rated *find_rated(const struct reconciling *reconciling, struct weir_slice series_key, int64_t start)
{
    uint64_t hash = weir_hash64(series_key.data, series_key.length, (uint64_t)start) | 1;
    uint64_t at = hash >> 1 & reconciling->mask;

    while (reconciling->table[at].hash
           && (reconciling->table[at].hash != hash || reconciling->table[at].start != start
               || !weir_slice_equal(reconciling->table[at].series_key, series_key)))
        at = (at + 1) & reconciling->mask;
    return &reconciling->table[at];
}

static void grow(struct reconciling *reconciling)
{
    struct rated *old = reconciling->table;
    uint64_t old_slots = old ? reconciling->mask + 1 : 0, slots = old ? old_slots * 2 : FIRST_SLOTS;

    reconciling->table = weir_new_array(slots, sizeof *reconciling->table);
    reconciling->mask = slots - 1;
    for (uint64_t i = 0; i < old_slots; i++)
        if (old[i].hash)
            *find_rated(reconciling, old[i].series_key, old[i].start) = old[i];
    free(old);
}

static void add_rated(void *context, const struct weir_audited_window *audited)
{
    struct reconciling *reconciling = context;
    struct weir_slice series_key = audited->window.series_key;
    int64_t start = audited->window.start;

    if (!reconciling->table || reconciling->count * 4 >= (reconciling->mask + 1) * 3)
        grow(reconciling);
    struct rated *rated = find_rated(reconciling, series_key, start);
    *rated = (struct rated){
        .hash = weir_hash64(series_key.data, series_key.length, (uint64_t)start) | 1,
        .series_key = weir_arena_copy(reconciling->arena, series_key.data, series_key.length),
        .start = start,
        .total = audited->window.total,
    };
    reconciling->count++;
    reconciling->lane->rated++;
}

/* 3. what Redis has of it
 * ------------------------------------------------------------------------------------------------ */
static bool same_total(const struct weir_window_total *a, const struct weir_window_total *b)
{
    return a->events == b->events && weir_decimal_compare(a->value, b->value) == 0 && a->latest_time == b->latest_time
           && a->latest_offset == b->latest_offset;
}

static void compare_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct reconciling *reconciling = context;
    struct lane_report *lane = reconciling->lane;
    struct rated *rated = reconciling->table ? find_rated(reconciling, window->series_key, window->start) : NULL;
    bool was_rated = rated && rated->hash;

    lane->windows++;
    lane->open += !is_closed;
    lane->waiting += has_work;
    if (was_rated)
        rated->is_in_redis = true;
    if (is_closed && !has_work && !(was_rated && same_total(&rated->total, &window->total)))
        differ_window(reconciling, window, was_rated ? &rated->total : NULL);
}

static enum weir_status compare_lane(struct reconciling *reconciling, struct lane_report *lane,
                                     struct weir_error *reterr)
{
    reconciling->lane = lane;
    reconciling->arena = weir_arena_new();
    reconciling->table = NULL;
    reconciling->count = 0;
    enum weir_status status = weir_ledger_audit_windows(reconciling->audit, lane->name, add_rated, reconciling, reterr);
    if (status == WEIR_OK)
        status =
            reconciling->store->ops->scan_windows(reconciling->store, lane->name, compare_window, reconciling, reterr);
    for (uint64_t i = 0; reconciling->table && i <= reconciling->mask; i++)
        lane->only_rated += reconciling->table[i].hash && !reconciling->table[i].is_in_redis;
    free(reconciling->table);
    weir_arena_free(reconciling->arena);
    return status;
}

/* 4. Kafka
 * ------------------------------------------------------------------------------------------------------------------ */
static void compare_offsets(struct reconciling *reconciling, const struct lane_report *lane)
{
    char text[512];
    const char *colon = strrchr(lane->name_bytes, ':');
    long partition = colon ? strtol(colon + 1, NULL, 10) : -1;

    if (partition < 0 || partition >= reconciling->partition_count) {
        snprintf(text, sizeof text, "lane %s: Kafka has no such partition", lane->name_bytes);
        differ(reconciling, text);
        return;
    }
    const struct weir_kafka_offsets *offsets = &reconciling->offsets[partition];
    if (lane->state.next_offset > offsets->end) {
        snprintf(text, sizeof text,
                 "lane %s: its cut is at offset %lld, beyond Kafka's end %lld: was the topic recreated?",
                 lane->name_bytes, (long long)lane->state.next_offset, (long long)offsets->end);
        differ(reconciling, text);
    }
    if (lane->state.next_offset >= 0 && lane->state.next_offset < offsets->low) {
        snprintf(text, sizeof text,
                 "lane %s: its cut is at offset %lld, and Kafka holds only from %lld on: what is between is gone",
                 lane->name_bytes, (long long)lane->state.next_offset, (long long)offsets->low);
        differ(reconciling, text);
    }
    const struct weir_lane_counts *counts = &lane->state.counts;
    if (counts->read != counts->counted + counts->duplicate + counts->unmatched + counts->quarantined) {
        snprintf(text, sizeof text, "lane %s: %" PRIu64 " events read are not what became of them added up",
                 lane->name_bytes, counts->read);
        differ(reconciling, text);
    }
}

/* 5. the report
 * ---------------------------------------------------------------------------------------------------------------- */
static void add_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct reconciling *reconciling = context;

    reconciling->lanes = weir_resize(reconciling->lanes, reconciling->lane_count + 1, sizeof *reconciling->lanes);
    struct lane_report *lane = &reconciling->lanes[reconciling->lane_count++];
    *lane = (struct lane_report){.state = *state};
    memcpy(lane->name_bytes, name.data, name.length);
    lane->name.length = name.length;
}

static int by_name(const void *a, const void *b)
{
    const struct lane_report *left = a, *right = b;
    int order = (left->name.length > right->name.length) - (left->name.length < right->name.length);
    return order ? order : strcmp(left->name_bytes, right->name_bytes); /* :2 before :10 */
}

static int64_t behind(const struct reconciling *reconciling, const struct lane_report *lane)
{
    const char *colon = strrchr(lane->name_bytes, ':');
    long partition = colon ? strtol(colon + 1, NULL, 10) : -1;
    int64_t next = lane->state.next_offset;

    if (partition < 0 || partition >= reconciling->partition_count)
        return 0;
    const struct weir_kafka_offsets *offsets = &reconciling->offsets[partition];
    return offsets->end - (next < offsets->low ? offsets->low : next);
}

static void print_lanes(const struct reconciling *reconciling)
{
    size_t width = 4;

    for (size_t i = 0; i < reconciling->lane_count; i++)
        width = reconciling->lanes[i].name.length > width ? reconciling->lanes[i].name.length : width;
    printf("%-*s  %12s  %10s  %12s  %10s  %10s  %10s  %10s  %10s\n", (int)width, "lane", "offset", "behind", "counted",
           "windows", "open", "waiting", "rated", "differing");
    for (size_t i = 0; i < reconciling->lane_count; i++) {
        const struct lane_report *lane = &reconciling->lanes[i];
        printf("%-*s  %12" PRId64 "  %10" PRId64 "  %12" PRIu64 "  %10" PRIu64 "  %10" PRIu64 "  %10" PRIu64
               "  %10" PRIu64 "  %10" PRIu64 "\n",
               (int)width, lane->name_bytes, lane->state.next_offset, behind(reconciling, lane),
               lane->state.counts.counted, lane->windows, lane->open, lane->waiting, lane->rated, lane->differing);
    }
}

static void differ_total(void *context, const struct weir_audit_difference *difference)
{
    char kept[WEIR_DECIMAL_TEXT_MAX], summed[WEIR_DECIMAL_TEXT_MAX], start[WEIR_TIME_TEXT_MAX], text[1024];

    weir_decimal_format_short(difference->kept, kept);
    weir_decimal_format_short(difference->summed, summed);
    weir_time_format(difference->period_start, start);
    snprintf(
        text, sizeof text,
        "ledger, customer '%.*s', contract '%.*s', period from %s, %s%s%.*s: kept is %s, its line items add up to %s",
        (int)difference->customer.length, difference->customer.data, (int)difference->contract.length,
        difference->contract.data, start, weir_audit_total_name[difference->total],
        difference->meter.length ? " of meter " : "", (int)difference->meter.length, difference->meter.data, kept,
        summed);
    differ(context, text);
}

static enum weir_status reconcile(struct reconciling *reconciling, struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start(usage.name);
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&reconciling->settings, properties);
    enum weir_status status =
        weir_kafka_ask_offsets(&kafka, &reconciling->offsets, &reconciling->partition_count, reterr);

    if (status == WEIR_OK)
        status = reconciling->store->ops->list_lanes(reconciling->store, reconciling->settings.kafka_topic, add_lane,
                                                     reconciling, reterr);
    if (status == WEIR_OK && reconciling->lane_count)
        qsort(reconciling->lanes, reconciling->lane_count, sizeof *reconciling->lanes, by_name);
    for (size_t i = 0; i < reconciling->lane_count && status == WEIR_OK; i++) {
        struct lane_report *lane = &reconciling->lanes[i];
        lane->name.data = lane->name_bytes;
        compare_offsets(reconciling, lane);
        status = compare_lane(reconciling, lane, reterr);
        weir_progress_show(&progress, "%zu of %zu lanes", i + 1, reconciling->lane_count);
    }
    if (status == WEIR_OK)
        status = weir_ledger_audit_totals(reconciling->audit, differ_total, reconciling, reterr);
    weir_progress_end(&progress);
    return status;
}

static void report(const struct reconciling *reconciling)
{
    uint64_t waiting = 0, open = 0, only_rated = 0;
    int64_t late = 0;

    print_lanes(reconciling);
    for (size_t i = 0; i < reconciling->lane_count; i++) {
        waiting += reconciling->lanes[i].waiting;
        open += reconciling->lanes[i].open;
        only_rated += reconciling->lanes[i].only_rated;
        late += behind(reconciling, &reconciling->lanes[i]);
    }
    printf("weir reconcile: lanes=%zu behind=%" PRId64 " open=%" PRIu64 " waiting=%" PRIu64 " forgotten=%" PRIu64
           " differences=%" PRIu64 "\n",
           reconciling->lane_count, late, open, waiting, only_rated, reconciling->differences);
}

int weir_command_reconcile(int argc, char **argv)
{
    struct reconciling reconciling = {0};
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &reconciling.settings);

    if (parsed >= 0)
        return parsed;
    enum weir_status status = weir_store_redis_open(reconciling.settings.redis_url, &reconciling.store, &error);
    if (status == WEIR_OK)
        status = weir_ledger_audit_open(reconciling.settings.postgres_url, &reconciling.audit, &error);
    if (status == WEIR_OK)
        status = reconcile(&reconciling, &error);
    if (status == WEIR_OK)
        report(&reconciling);
    else
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_ledger_audit_free(reconciling.audit);
    weir_window_store_free(reconciling.store);
    free(reconciling.offsets);
    free(reconciling.lanes);
    weir_settings_free(&reconciling.settings);
    if (status != WEIR_OK)
        return status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
    return reconciling.differences ? WEIR_EXIT_FAILED : WEIR_EXIT_DONE;
}
