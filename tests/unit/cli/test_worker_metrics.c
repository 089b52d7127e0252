/* What the workers of a process show together, of gauges that are set here. */
#include <criterion/criterion.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/worker_metrics.h"
#include "common/calendar.h"

enum { WORKERS = 3 };

static struct weir_worker_gauges gauges[WORKERS];
static struct weir_worker_peers peers;

static void set_up(void)
{
    for (int i = 0; i < WORKERS; i++) {
        gauges[i].by_partition = weir_new_array(WEIR_PARTITIONS_MAX, sizeof *gauges[i].by_partition);
        peers.gauges[peers.count++] = &gauges[i];
    }
}

static void tear_down(void)
{
    for (int i = 0; i < WORKERS; i++)
        weir_worker_gauges_free(&gauges[i]);
}

TestSuite(worker_metrics, .init = set_up, .fini = tear_down);

static struct weir_lane_gauges *lane_of(int worker, int32_t partition)
{
    char name[32];

    snprintf(name, sizeof name, "events:%d", partition);
    struct weir_lane_gauges *lane = weir_lane_gauges_of(&gauges[worker], partition, name);
    atomic_store(&lane->is_ours, true);
    return lane;
}

static char *page_of(void)
{
    struct weir_metrics *metrics = weir_metrics_new();

    weir_workers_add_metrics(metrics, &peers);
    char *page = weir_metrics_page(metrics);
    weir_metrics_free(metrics);
    return page;
}

static void assert_shows(const char *row, int64_t value)
{
    char *page = page_of(), line[128];

    snprintf(line, sizeof line, "\n%s %" PRId64 "\n", row, value);
    cr_assert(strstr(page, line), "no %s in\n%s", line + 1, page);
    free(page);
}

/* Each worker's figure is ten times that of the one before, so that every digit of a sum is one of them. */
static uint64_t digit(int worker, uint64_t figure)
{
    static const uint64_t tens[WORKERS] = {1, 10, 100};
    return figure * tens[worker];
}

Test(worker_metrics, figures_are_sums)
{
    for (int i = 0; i < WORKERS; i++) {
        struct weir_worker_gauges *to = &gauges[i];
        to->lanes = digit(i, 1);
        to->windows = digit(i, 2);
        to->ids = digit(i, 3);
        to->lane_bytes = digit(i, 4);
        to->cuts_written = digit(i, 5);
        to->cuts_retried = digit(i, 6);
        to->cuts_fenced = digit(i, 7);
        to->cuts_in_flight = digit(i, 8);
        to->lanes_paused = digit(i, 9);
        to->bytes = digit(i, 1);
        to->cuts_max = digit(i, 2);
        to->quarantine_backlog = digit(i, 3);
        to->outcomes[WEIR_OUTCOME_COUNTED] = digit(i, 4);
        to->outcomes[WEIR_OUTCOME_REJECTED] = digit(i, 5);
        to->rejections[WEIR_REASON_TOO_LATE] = digit(i, 6);
        to->gaps[WEIR_GAP_RETENTION] = digit(i, 7);
    }
    assert_shows("weir_lanes", 111);
    assert_shows("weir_windows", 222);
    assert_shows("weir_ids", 333);
    assert_shows("weir_lane_bytes", 444);
    assert_shows("weir_cuts_total{result=\"written\"}", 555);
    assert_shows("weir_cuts_total{result=\"retried\"}", 666);
    assert_shows("weir_cuts_total{result=\"fenced\"}", 777);
    assert_shows("weir_cuts_in_flight", 888);
    assert_shows("weir_lanes_paused", 999);
    assert_shows("weir_event_bytes_total", 111);
    assert_shows("weir_cuts_in_flight_limit", 222);
    assert_shows("weir_quarantine_backlog", 333);
    assert_shows("weir_events_total{outcome=\"counted\"}", 444);
    assert_shows("weir_events_total{outcome=\"quarantined\"}", 555);
    assert_shows("weir_events_total{outcome=\"duplicate\"}", 0);
    assert_shows("weir_quarantined_events_total{reason=\"too_late\"}", 666);
    assert_shows("weir_lane_gaps_total{kind=\"retention\"}", 777);
    cr_assert_eq(weir_workers_outcome(&peers, WEIR_OUTCOME_COUNTED), (uint64_t)444);
    cr_assert_eq(weir_workers_read(&peers), (uint64_t)999);
}

Test(worker_metrics, the_lowest_watermark_is_of_who_has_lanes)
{
    assert_shows("weir_watermark_seconds", 0);
    for (int i = 0; i < WORKERS; i++)
        gauges[i].watermark = (100 + i) * WEIR_SECOND;
    assert_shows("weir_watermark_seconds", 0);
    gauges[2].lanes = 1;
    assert_shows("weir_watermark_seconds", 102);
    gauges[1].lanes = 1;
    assert_shows("weir_watermark_seconds", 101);
}

Test(worker_metrics, the_jump_of_the_clock_is_the_greatest_either_way)
{
    gauges[0].clock_jump = 5 * WEIR_SECOND;
    gauges[1].clock_jump = -70 * WEIR_SECOND;
    gauges[2].clock_jump = 60 * WEIR_SECOND;
    assert_shows("weir_clock_jump_seconds", -70);
    gauges[2].clock_jump = 71 * WEIR_SECOND;
    assert_shows("weir_clock_jump_seconds", 71);
}

static void assert_why(const char *expected)
{
    const char *why = weir_workers_why_not_ready(&peers);
    cr_assert_str_eq(why ? why : "ready", expected);
}

Test(worker_metrics, one_that_is_not_ready_is_enough)
{
    assert_why("ready");
    gauges[1].lanes_waiting = 1;
    assert_why("lanes are yet to be taken");
    weir_outage_begin(&gauges[1].store, "trying again", "a test");
    assert_why("the window store does not answer");
    assert_shows("weir_window_store_up", 0);
    assert_shows("weir_quarantine_up", 1);
    weir_outage_end(&gauges[1].store, "it answers");
    gauges[1].lanes_waiting = 0;
    assert_why("ready");
    assert_shows("weir_window_store_up", 1);
    weir_outage_begin(&gauges[2].quarantine, "trying again", "a test");
    assert_why("the quarantine topic takes no records");
    assert_shows("weir_quarantine_up", 0);
    assert_shows("weir_window_store_up", 1);
    gauges[0].source_trouble = "Kafka does not answer";
    assert_why("Kafka does not answer");
}

/* A lane that went from one to another is a row of its owner's alone. */
Test(worker_metrics, each_lane_is_one_row)
{
    static const struct {
        int worker;
        int32_t partition;
    } owned[] = {{0, 0}, {0, 2}, {1, 3}, {2, 1}};

    for (size_t i = 0; i < sizeof owned / sizeof *owned; i++) {
        struct weir_lane_gauges *lane = lane_of(owned[i].worker, owned[i].partition);
        lane->lag = 10 + owned[i].partition;
        lane->watermark = (20 + owned[i].partition) * WEIR_SECOND;
        lane->unsealed = 30 + (uint64_t)owned[i].partition;
        lane->is_paused = owned[i].partition == 3;
    }
    struct weir_lane_gauges *gone = lane_of(1, 1); /* its lag is that of then */
    gone->lag = 99;
    gone->is_ours = false;
    lane_of(1, 3)->lag = -1; /* not known */
    char *page = page_of();
    static const char *const expected[] = {
        "weir_lane_lag{lane=\"events:0\"} 10\nweir_lane_lag{lane=\"events:2\"} 12\nweir_lane_lag{lane=\"events:1\"} "
        "11\n#",
        "weir_lane_watermark_seconds{lane=\"events:0\"} 20\nweir_lane_watermark_seconds{lane=\"events:2\"} 22\n"
        "weir_lane_watermark_seconds{lane=\"events:3\"} 23\nweir_lane_watermark_seconds{lane=\"events:1\"} 21\n#",
        "weir_lane_unsealed_changes{lane=\"events:0\"} 30\nweir_lane_unsealed_changes{lane=\"events:2\"} 32\n"
        "weir_lane_unsealed_changes{lane=\"events:3\"} 33\nweir_lane_unsealed_changes{lane=\"events:1\"} 31\n#",
        "weir_lane_paused{lane=\"events:0\"} 0\nweir_lane_paused{lane=\"events:2\"} 0\n"
        "weir_lane_paused{lane=\"events:3\"} 1\nweir_lane_paused{lane=\"events:1\"} 0\n#"};
    for (size_t i = 0; i < sizeof expected / sizeof *expected; i++)
        cr_assert(strstr(page, expected[i]), "not\n%s\nin\n%s", expected[i], page);
    free(page);
}
