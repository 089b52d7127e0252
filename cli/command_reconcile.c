/* `weir reconcile`: Kafka, Redis and PostgreSQL against each other; with --repair, what differs is rated. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admitted.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/reconcile.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/calendars.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_RECONCILE,
    .name = "weir reconcile",
    .arguments = "[OPTIONS]",
    .purpose =
        "Compares, lane by lane, Kafka's offsets with the lanes' cuts in Redis and each window in Redis with what\n"
        "was rated of it in PostgreSQL; then the ledger with its own totals. Reads only, unless --repair: then closed\n"
        "windows that nobody would rate any more are rated, as a rater would. Safe beside running workers and raters,\n"
        "safe to repeat. The result is kept in weir.reconciliations and shown by every rater's /metrics. What each\n"
        "kind of difference means: docs/operations.md. Exit status: 0 nothing differs, 1 something does.",
    .example = "weir reconcile --repair --format json",
};

/* 1. Kafka */
static void compare_offsets(struct weir_reconcile *reconcile, const struct weir_reconcile_lane *lane)
{
    const struct weir_kafka_offsets *offsets = weir_reconcile_offsets(reconcile, lane);
    const char *name = lane->name_bytes;
    const struct weir_lane_counts *counts = &lane->state.counts;
    long long next = lane->state.next_offset;

    if (counts->read
        != counts->counted + counts->duplicate + counts->unmatched + counts->retracted + counts->quarantined)
        weir_reconcile_tell(reconcile, WEIR_DIFFERENCE_COUNTS, false, NULL,
                            "lane %s: %" PRIu64 " events read are not what became of them added up", name,
                            counts->read);
    if (!offsets) {
        weir_reconcile_tell(reconcile, WEIR_DIFFERENCE_OFFSET, false, NULL, "lane %s: Kafka has no such partition",
                            name);
        return;
    }
    if (next > offsets->end)
        weir_reconcile_tell(reconcile, WEIR_DIFFERENCE_OFFSET, false, NULL,
                            "lane %s: its cut is at offset %lld, beyond Kafka's end %lld: was the topic recreated?",
                            name, next, (long long)offsets->end);
    if (next >= 0 && next < offsets->low)
        weir_reconcile_tell(
            reconcile, WEIR_DIFFERENCE_OFFSET, false, NULL,
            "lane %s: its cut is at offset %lld, and Kafka holds only from %lld on: what is between is gone", name,
            next, (long long)offsets->low);
}

/* 2. lanes */
static void add_lane(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct weir_reconcile *reconcile = context;

    reconcile->lanes = weir_resize(reconcile->lanes, reconcile->lane_count + 1, sizeof *reconcile->lanes);
    struct weir_reconcile_lane *lane = &reconcile->lanes[reconcile->lane_count++];
    *lane = (struct weir_reconcile_lane){.state = *state, .watermark_after = WEIR_TIME_NEVER};
    memcpy(lane->name_bytes, name.data, name.length);
    lane->name.length = name.length;
}

static int by_name(const void *a, const void *b)
{
    const struct weir_reconcile_lane *left = a, *right = b;
    int order = (left->name.length > right->name.length) - (left->name.length < right->name.length);
    return order ? order : strcmp(left->name_bytes, right->name_bytes); /* :2 before :10 */
}

static struct weir_reconcile_lane *find_lane(struct weir_reconcile *reconcile, struct weir_slice name)
{
    for (size_t i = 0; i < reconcile->lane_count; i++)
        if (weir_slice_equal(reconcile->lanes[i].name, name))
            return &reconcile->lanes[i];
    return NULL;
}

static bool is_of_topics(const struct weir_reconcile *reconcile, struct weir_slice lane)
{
    for (int i = 0; i < WEIR_RECONCILE_TOPICS; i++) {
        size_t length = strlen(reconcile->topics[i].name);
        if (lane.length > length + 1 && memcmp(lane.data, reconcile->topics[i].name, length) == 0
            && lane.data[length] == ':' && !memchr(lane.data + length + 1, ':', lane.length - length - 1))
            return true;
    }
    return false;
}

/* Of both topics. */
static enum weir_status list_lanes(struct weir_reconcile *reconcile,
                                   void (*visit)(void *context, struct weir_slice name,
                                                 const struct weir_lane_state *state),
                                   struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    for (int i = 0; i < WEIR_RECONCILE_TOPICS && status == WEIR_OK; i++)
        status =
            reconcile->store->ops->list_lanes(reconcile->store, reconcile->topics[i].name, visit, reconcile, reterr);
    return status;
}

/* Nothing was ever admitted where there is no such topic. One that has lanes was there: it was not mistyped. */
static enum weir_status ask_offsets(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings kafka = weir_open_kafka_settings(&reconcile->settings, properties);
    enum weir_status status = WEIR_OK;

    for (int i = 0; i < WEIR_RECONCILE_TOPICS && status == WEIR_OK; i++) {
        struct weir_reconcile_topic *topic = &reconcile->topics[i];
        kafka.topic = topic->name;
        status = weir_kafka_ask_offsets(&kafka, &topic->offsets, &topic->partition_count, reterr);
        bool is_missing = status == WEIR_REJECT && topic->partition_count == 0;
        if (i > 0 && status == WEIR_REJECT)
            status = WEIR_OK;
        else if (is_missing && reconcile->lane_count)
            status = WEIR_FATAL;
    }
    return status;
}

/* Spans come lane by lane. */
struct span_reader {
    struct weir_reconcile *reconcile;
    char unknown_bytes[WEIR_LANE_NAME_MAX + 1];
    struct weir_slice unknown; /* empty: the lane of the last span is known, or another topic's */
    uint64_t shares;
};

static void end_unknown(struct span_reader *reader)
{
    if (reader->unknown.length)
        weir_reconcile_tell(reader->reconcile, WEIR_DIFFERENCE_LANE, false, NULL,
                            "lane %.*s: %" PRIu64 " windows of it were rated, and Redis does not know it",
                            (int)reader->unknown.length, reader->unknown.data, reader->shares);
    reader->unknown.length = 0;
    reader->shares = 0;
}

static void add_unknown(struct span_reader *reader, const struct weir_audited_span *span)
{
    if (!is_of_topics(reader->reconcile, span->lane) || span->lane.length > WEIR_LANE_NAME_MAX)
        return;
    memcpy(reader->unknown_bytes, span->lane.data, span->lane.length);
    reader->unknown = weir_slice_of(reader->unknown_bytes, span->lane.length);
    reader->shares += span->shares;
}

static void add_span(void *context, const struct weir_audited_span *span)
{
    struct span_reader *reader = context;
    struct weir_reconcile *reconcile = reader->reconcile;
    struct weir_reconcile_lane *lane = find_lane(reconcile, span->lane);

    if (!weir_slice_equal(reader->unknown, span->lane))
        end_unknown(reader);
    if (!lane) {
        add_unknown(reader, span);
        return;
    }
    lane->spans = weir_resize(lane->spans, lane->span_count + 1, sizeof *lane->spans);
    lane->spans[lane->span_count++] = (struct weir_reconcile_span){.end = span->end, .rated = span->shares};
    lane->rated += span->shares;
}

/* 3. what Redis forgot before its time */
static void note_watermark(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct weir_reconcile_lane *lane = find_lane(context, name);

    if (!lane)
        return;
    lane->watermark_after = state->watermark;
    lane->forgotten_after = state->forgotten;
}

/* A lane forgets its windows in the order of their ends, and its cut tells through when: read after we have looked, so
 * what ends later was not forgotten while we did. A lane that has fallen back meanwhile tells nothing of before. */
static void tell_missing(struct weir_reconcile *reconcile, const struct weir_reconcile_lane *lane)
{
    bool keeps_all = weir_is_admitted(lane->name); /* then all must be there */
    char end[WEIR_TIME_TEXT_MAX];

    if (!keeps_all
        && (lane->watermark_after == WEIR_TIME_NEVER || lane->watermark_after < lane->state.watermark
            || lane->forgotten_after == 0)) /* a cut of an older weir, which does not tell */
        return;
    for (size_t i = 0; i < lane->span_count; i++) {
        const struct weir_reconcile_span *span = &lane->spans[i];
        if ((!keeps_all && span->end <= lane->forgotten_after) || span->matched >= span->rated)
            continue;
        weir_time_format(span->end, end);
        weir_reconcile_tell(reconcile, WEIR_DIFFERENCE_MISSING, false, NULL,
                            "lane %s: of %" PRIu64 " windows that end at %s and were rated, Redis has lost %" PRIu64
                            ": later events of theirs would look like an older total",
                            lane->name_bytes, span->rated, end, span->rated - span->matched);
    }
}

/* 4. the ledger by itself */
static void tell_total(void *context, const struct weir_audit_difference *difference)
{
    struct weir_reconcile *reconcile = context;
    char kept[WEIR_DECIMAL_TEXT_MAX], summed[WEIR_DECIMAL_TEXT_MAX], start[WEIR_TIME_TEXT_MAX];
    bool is_windows = difference->total == WEIR_AUDIT_WINDOW_QUANTITY || difference->total == WEIR_AUDIT_WINDOW_EVENTS;

    weir_decimal_format_short(difference->kept, kept);
    weir_decimal_format_short(difference->summed, summed);
    weir_time_format(difference->period_start, start);
    weir_reconcile_add_damaged(reconcile, difference->customer);
    weir_reconcile_tell(
        reconcile, WEIR_DIFFERENCE_TOTAL, false, NULL,
        "ledger, customer '%.*s', contract '%.*s', period from %s, %s%s%.*s: kept is %s, its %s add up to %s",
        (int)difference->customer.length, difference->customer.data, (int)difference->contract.length,
        difference->contract.data, start, weir_audit_total_name[difference->total],
        difference->meter.length ? " of " : "", (int)difference->meter.length, difference->meter.data, kept,
        is_windows ? "rated windows" : "line items", summed);
}

static void tell_period(void *context, struct weir_slice why)
{
    struct weir_reconcile *reconcile = context;

    weir_reconcile_tell(reconcile, WEIR_DIFFERENCE_UNRATED, false,
                        reconcile->rater ? "raters try to close it every minute" : NULL,
                        "ledger, a period cannot be closed: %.*s", (int)why.length, why.data);
}

/* What was repaired must add up as well; customers that did not before are told already. */
static void tell_new_total(void *context, const struct weir_audit_difference *difference)
{
    if (!weir_reconcile_is_damaged(context, difference->customer))
        tell_total(context, difference);
}

static enum weir_status look_again(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    reconcile->audit = weir_ledger_audit_free(reconcile->audit);
    enum weir_status status = weir_ledger_audit_open(reconcile->settings.postgres_url, &reconcile->audit, reterr);

    return status == WEIR_OK ? weir_ledger_audit_totals(reconcile->audit, tell_new_total, reconcile, reterr) : status;
}

/* 5. all of it */
static enum weir_status look_around(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    enum weir_status status = weir_ledger_audit_totals(reconcile->audit, tell_total, reconcile, reterr);
    uint64_t periods;

    if (status == WEIR_OK)
        status = weir_lane_book_refused_periods(reconcile->book, INT32_MAX, tell_period, reconcile, &periods, reterr);
    if (reconcile->damaged_count)
        qsort(reconcile->damaged, reconcile->damaged_count, sizeof *reconcile->damaged, weir_slice_compare_items);
    if (status == WEIR_OK)
        status = list_lanes(reconcile, add_lane, reterr);
    /* Kafka's ends after the lanes' offsets: an end only grows. */
    if (status == WEIR_OK)
        status = ask_offsets(reconcile, reterr);
    if (status != WEIR_OK)
        return status;
    if (reconcile->lane_count)
        qsort(reconcile->lanes, reconcile->lane_count, sizeof *reconcile->lanes, by_name);
    for (size_t i = 0; i < reconcile->lane_count; i++)
        reconcile->lanes[i].name.data = reconcile->lanes[i].name_bytes;

    struct span_reader reader = {.reconcile = reconcile};
    status = weir_ledger_audit_spans(reconcile->audit, add_span, &reader, reterr);
    if (status == WEIR_OK)
        end_unknown(&reader);
    return status;
}

static void sum_up(struct weir_reconcile *reconcile)
{
    reconcile->result.lanes = reconcile->lane_count;
    for (size_t i = 0; i < reconcile->lane_count; i++) {
        reconcile->result.windows += reconcile->lanes[i].windows;
        reconcile->result.waiting += reconcile->lanes[i].waiting;
        reconcile->result.behind += (uint64_t)weir_reconcile_behind(reconcile, &reconcile->lanes[i]);
    }
}

static enum weir_status compare(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    struct weir_progress progress = weir_progress_start(usage.name);
    enum weir_status status = look_around(reconcile, reterr);

    for (size_t i = 0; i < reconcile->lane_count && status == WEIR_OK; i++) {
        compare_offsets(reconcile, &reconcile->lanes[i]);
        status = weir_reconcile_windows(reconcile, &reconcile->lanes[i], reterr);
        weir_progress_show(&progress, "%zu of %zu lanes", i + 1, reconcile->lane_count);
    }
    if (status == WEIR_OK)
        status = list_lanes(reconcile, note_watermark, reterr);
    for (size_t i = 0; i < reconcile->lane_count && status == WEIR_OK; i++)
        tell_missing(reconcile, &reconcile->lanes[i]);
    if (status == WEIR_OK && reconcile->result.repaired)
        status = look_again(reconcile, reterr);
    if (status == WEIR_OK)
        sum_up(reconcile); /* else lanes may have no names yet, and nothing is reported */
    weir_progress_end(&progress);
    return status;
}

static enum weir_status set_up(struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    const struct weir_settings *settings = &reconcile->settings;
    size_t room = (size_t)settings->rater_batch;
    enum weir_status status = weir_store_redis_open(settings->redis_url, &reconcile->store, reterr);

    reconcile->result.started_at = weir_time_now();
    snprintf(reconcile->topics[0].name, sizeof reconcile->topics[0].name, "%s", settings->kafka_topic);
    (void)weir_admitted_topic(settings, reconcile->topics[1].name);
    reconcile->names = weir_arena_new();
    reconcile->windows = weir_new_array(room, sizeof *reconcile->windows);
    reconcile->items = weir_new_array(room, sizeof *reconcile->items);
    reconcile->shares = weir_new_array(room, sizeof *reconcile->shares);
    reconcile->list = settings->format[0] == 'j' ? json_array() : NULL;
    reconcile->book = weir_lane_book_new(settings->postgres_url);
    if (status == WEIR_OK)
        status = weir_ledger_audit_open(settings->postgres_url, &reconcile->audit, reterr);
    if (status != WEIR_OK || !settings->repair)
        return status;
    reconcile->work = weir_new_array(room, sizeof *reconcile->work);
    reconcile->work_items = weir_new_array(room, sizeof *reconcile->work_items);
    reconcile->tallies = weir_new_array(WEIR_RECONCILE_TALLIES, sizeof *reconcile->tallies);
    status = weir_store_redis_open(settings->redis_url, &reconcile->looker, reterr);
    if (status == WEIR_OK)
        status = weir_ledger_postgres_open(settings->postgres_url, &reconcile->ledger, reterr);
    if (status == WEIR_OK)
        status = weir_calendars_open(settings->postgres_url, reconcile->catalog, false, reterr);
    if (status != WEIR_OK)
        return status;
    reconcile->rater = weir_rater_new(reconcile->catalog, reconcile->ledger);
    weir_rater_on_refusal(reconcile->rater, weir_reconcile_tell_refused, reconcile);
    return WEIR_OK;
}

static void tear_down(struct weir_reconcile *reconcile)
{
    weir_rater_free(reconcile->rater);
    weir_ledger_free(reconcile->ledger);
    weir_ledger_audit_free(reconcile->audit);
    weir_window_store_free(reconcile->looker);
    weir_lane_book_free(reconcile->book);
    weir_window_store_free(reconcile->store);
    weir_catalog_free(reconcile->catalog);
    weir_arena_free(reconcile->names);
    json_decref(reconcile->list);
    for (size_t i = 0; i < reconcile->lane_count; i++)
        free(reconcile->lanes[i].spans);
    free(reconcile->lanes);
    for (int i = 0; i < WEIR_RECONCILE_TOPICS; i++)
        free(reconcile->topics[i].offsets);
    free(reconcile->windows);
    free(reconcile->items);
    free(reconcile->shares);
    free(reconcile->work);
    free(reconcile->work_items);
    free(reconcile->tallies);
    free(reconcile->damaged);
    weir_settings_free(&reconcile->settings);
}

static enum weir_status keep_result(const struct weir_reconcile *reconcile, struct weir_error *reterr)
{
    struct weir_reconciliations *kept = weir_reconciliations_new(reconcile->settings.postgres_url);
    enum weir_status status =
        weir_reconciliations_add(kept, reconcile->settings.kafka_topic, &reconcile->result, reterr);

    weir_reconciliations_free(kept);
    return status;
}

int weir_command_reconcile(int argc, char **argv)
{
    struct weir_reconcile reconcile = {0};
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &reconcile.settings);

    if (parsed >= 0)
        return parsed;
    parsed = reconcile.settings.repair ? weir_open_catalog(&reconcile.settings, &reconcile.catalog) : -1;
    if (parsed >= 0) {
        weir_settings_free(&reconcile.settings);
        return parsed;
    }
    enum weir_status status = set_up(&reconcile, &error);
    if (status == WEIR_OK)
        status = compare(&reconcile, &error);
    if (status == WEIR_OK) {
        weir_reconcile_report(&reconcile);
        status = keep_result(&reconcile, &error);
    }
    if (status != WEIR_OK)
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    uint64_t differences = weir_reconciliation_differences(&reconcile.result);
    tear_down(&reconcile);
    if (status != WEIR_OK)
        return status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
    return differences ? WEIR_EXIT_FAILED : WEIR_EXIT_DONE;
}
