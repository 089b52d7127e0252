#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admitted.h"
#include "cli/reconcile.h"
#include "common/calendar.h"

/* 1. one difference */
static void list(struct weir_reconcile *reconcile, enum weir_difference kind, bool is_repaired, const char *why,
                 const char *text)
{
    json_t *entry = json_object();

    json_object_set_new(entry, "kind", json_string(weir_difference_name[kind]));
    json_object_set_new(entry, "text", json_string(text));
    if (reconcile->rater) {
        json_object_set_new(entry, "is_repaired", json_boolean(is_repaired));
        json_object_set_new(entry, "why_not", why ? json_string(why) : json_null());
    }
    json_array_append_new(reconcile->list, entry);
}

static void print(const struct weir_reconcile *reconcile, enum weir_difference kind, bool is_repaired, const char *why,
                  const char *text)
{
    if (reconcile->told == WEIR_RECONCILE_SHOWN_MAX + 1)
        printf("  and more, which are only counted\n");
    if (reconcile->told > WEIR_RECONCILE_SHOWN_MAX)
        return;
    printf("  %s: %s%s%s%s\n", is_repaired ? "repaired" : "differs", weir_difference_name[kind], ": ", text, "");
    if (why)
        printf("    left alone: %s\n", why);
}

void weir_reconcile_tell(struct weir_reconcile *reconcile, enum weir_difference kind, bool is_repaired, const char *why,
                         const char *format, ...)
{
    char text[2048];
    va_list arguments;

    va_start(arguments, format);
    vsnprintf(text, sizeof text, format, arguments);
    va_end(arguments);
    reconcile->told++;
    if (is_repaired)
        reconcile->result.repaired++;
    else
        reconcile->result.differences[kind]++;
    if (!reconcile->list)
        print(reconcile, kind, is_repaired, why, text);
    else if (reconcile->told <= WEIR_RECONCILE_LISTED_MAX)
        list(reconcile, kind, is_repaired, why, text);
}

/* 2. the whole */
const struct weir_kafka_offsets *weir_reconcile_offsets(const struct weir_reconcile *reconcile,
                                                        const struct weir_reconcile_lane *lane)
{
    const struct weir_reconcile_topic *topic = &reconcile->topics[weir_is_admitted(lane->name)];
    const char *colon = strrchr(lane->name_bytes, ':');
    long partition = colon ? strtol(colon + 1, NULL, 10) : -1;

    return partition >= 0 && partition < topic->partition_count ? &topic->offsets[partition] : NULL;
}

int64_t weir_reconcile_behind(const struct weir_reconcile *reconcile, const struct weir_reconcile_lane *lane)
{
    const struct weir_kafka_offsets *offsets = weir_reconcile_offsets(reconcile, lane);
    int64_t next = lane->state.next_offset;

    if (!offsets)
        return 0;
    int64_t from = next < offsets->low ? offsets->low : next;
    return offsets->end > from ? offsets->end - from : 0;
}

static void print_lanes(const struct weir_reconcile *reconcile)
{
    size_t width = 4;

    for (size_t i = 0; i < reconcile->lane_count; i++)
        width = reconcile->lanes[i].name.length > width ? reconcile->lanes[i].name.length : width;
    printf("%-*s  %12s  %10s  %12s  %10s  %10s  %10s  %10s  %10s\n", (int)width, "lane", "offset", "behind", "counted",
           "windows", "open", "waiting", "rated", "differing");
    for (size_t i = 0; i < reconcile->lane_count; i++) {
        const struct weir_reconcile_lane *lane = &reconcile->lanes[i];
        printf("%-*s  %12" PRId64 "  %10" PRId64 "  %12" PRIu64 "  %10" PRIu64 "  %10" PRIu64 "  %10" PRIu64
               "  %10" PRIu64 "  %10" PRIu64 "\n",
               (int)width, lane->name_bytes, lane->state.next_offset, weir_reconcile_behind(reconcile, lane),
               lane->state.counts.counted, lane->windows, lane->open, lane->waiting, lane->rated, lane->differing);
    }
}

static void set_number(json_t *object, const char *name, uint64_t value)
{
    json_object_set_new(object, name, json_integer((json_int_t)value));
}

static json_t *json_lanes(const struct weir_reconcile *reconcile)
{
    json_t *lanes = json_array();

    for (size_t i = 0; i < reconcile->lane_count; i++) {
        const struct weir_reconcile_lane *lane = &reconcile->lanes[i];
        json_t *entry = json_object();
        json_object_set_new(entry, "lane", json_string(lane->name_bytes));
        json_object_set_new(entry, "next_offset", json_integer(lane->state.next_offset));
        json_object_set_new(entry, "behind", json_integer(weir_reconcile_behind(reconcile, lane)));
        set_number(entry, "counted", lane->state.counts.counted);
        set_number(entry, "windows", lane->windows);
        set_number(entry, "open", lane->open);
        set_number(entry, "waiting", lane->waiting);
        set_number(entry, "rated", lane->rated);
        set_number(entry, "differing", lane->differing);
        json_array_append_new(lanes, entry);
    }
    return lanes;
}

static void print_json(const struct weir_reconcile *reconcile)
{
    const struct weir_reconciliation *result = &reconcile->result;
    char started[WEIR_TIME_TEXT_MAX];
    json_t *root = json_object(), *kinds = json_object();

    weir_time_format(result->started_at, started);
    json_object_set_new(root, "topic", json_string(reconcile->settings.kafka_topic));
    json_object_set_new(root, "started_at", json_string(started));
    json_object_set_new(root, "lanes", json_lanes(reconcile));
    set_number(root, "windows", result->windows);
    set_number(root, "waiting", result->waiting);
    set_number(root, "behind", result->behind);
    set_number(root, "repaired", result->repaired);
    set_number(root, "differences", weir_reconciliation_differences(result));
    for (int i = 0; i < WEIR_DIFFERENCE_COUNT; i++)
        set_number(kinds, weir_difference_name[i], result->differences[i]);
    json_object_set_new(root, "differences_by_kind", kinds);
    json_object_set(root, "list", reconcile->list);
    json_object_set_new(root, "list_is_whole", json_boolean(reconcile->told <= WEIR_RECONCILE_LISTED_MAX));
    json_dumpf(root, stdout, JSON_INDENT(2));
    putchar('\n');
    json_decref(root);
}

void weir_reconcile_report(const struct weir_reconcile *reconcile)
{
    const struct weir_reconciliation *result = &reconcile->result;
    uint64_t open = 0;

    if (reconcile->list) {
        print_json(reconcile);
        return;
    }
    print_lanes(reconcile);
    for (size_t i = 0; i < reconcile->lane_count; i++)
        open += reconcile->lanes[i].open;
    printf("weir reconcile: lanes=%" PRIu64 " behind=%" PRIu64 " windows=%" PRIu64 " open=%" PRIu64 " waiting=%" PRIu64
           " repaired=%" PRIu64 " differences=%" PRIu64 "\n",
           result->lanes, result->behind, result->windows, open, result->waiting, result->repaired,
           weir_reconciliation_differences(result));
}
