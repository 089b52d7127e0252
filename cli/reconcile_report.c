#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli/admitted.h"
#include "cli/reconcile.h"
#include "common/calendar.h"
#include "common/log.h"
#include "common/shown.h"
#include "rater/text_row.h"

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
    weir_log_progress(NULL); /* on the terminal that this goes to, too */
    if (reconcile->told == WEIR_RECONCILE_SHOWN_MAX + 1)
        printf("  and more, which are only counted\n");
    if (reconcile->told > WEIR_RECONCILE_SHOWN_MAX)
        return;
    printf("  %s: %s: ", is_repaired ? "repaired" : "differs", weir_difference_name[kind]);
    weir_shown_put(stdout, text);
    putchar('\n');
    if (why) {
        fputs("    left alone: ", stdout);
        weir_shown_put(stdout, why);
        putchar('\n');
    }
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

enum { LANE_COLUMNS = 9 };

static void print_lanes(const struct weir_reconcile *reconcile)
{
    static const struct weir_column columns[LANE_COLUMNS] = {
        {"lane", WEIR_CELL_TEXT, false},        {"offset", WEIR_CELL_NUMBER, false},
        {"behind", WEIR_CELL_NUMBER, false},    {"counted", WEIR_CELL_NUMBER, false},
        {"windows", WEIR_CELL_NUMBER, false},   {"open", WEIR_CELL_NUMBER, false},
        {"waiting", WEIR_CELL_NUMBER, false},   {"rated", WEIR_CELL_NUMBER, false},
        {"differing", WEIR_CELL_NUMBER, false},
    };
    struct weir_text_table *table = weir_text_table_new(columns, LANE_COLUMNS);

    for (size_t i = 0; i < reconcile->lane_count; i++) {
        const struct weir_reconcile_lane *lane = &reconcile->lanes[i];
        const int64_t figures[] = {
            lane->state.next_offset,
            weir_reconcile_behind(reconcile, lane),
            (int64_t)lane->state.counts.counted,
            (int64_t)lane->windows,
            (int64_t)lane->open,
            (int64_t)lane->waiting,
            (int64_t)lane->rated,
            (int64_t)lane->differing,
        };
        char texts[LANE_COLUMNS - 1][24];
        struct weir_slice cells[LANE_COLUMNS] = {lane->name};
        for (int figure = 0; figure < LANE_COLUMNS - 1; figure++) {
            (void)snprintf(texts[figure], sizeof texts[figure], "%" PRId64, figures[figure]);
            cells[figure + 1] = weir_slice_text(texts[figure]);
        }
        weir_text_table_add(table, cells);
    }
    weir_text_table_write(table, stdout, isatty(STDOUT_FILENO));
    weir_text_table_free(table);
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
