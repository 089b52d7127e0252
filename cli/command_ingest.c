/* `weir ingest`: an ingest worker, Kafka -> windows in Redis. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admitted.h"
#include "cli/commands.h"
#include "cli/open.h"
#include "cli/worker.h"
#include "cli/worker_metrics.h"
#include "common/calendar.h"
#include "common/daemon.h"
#include "common/log.h"
#include "common/metrics.h"
#include "common/settings.h"

static const struct weir_usage usage = {
    .command = WEIR_COMMAND_INGEST,
    .name = "weir ingest",
    .arguments = "[OPTIONS]",
    .purpose =
        "Consumes usage events from Kafka, rolls them into windows and keeps those in Redis, each event counted\n"
        "once. Start as many as there are partitions at most; they share the partitions. SIGTERM stops cleanly:\n"
        "what was read is written and the partitions go to the other workers.",
    .example = "WEIR_KAFKA_BROKERS=127.0.0.1:9092 weir ingest --catalog deploy/example/catalog --until-end",
};

struct ingest {
    struct weir_settings settings;
    struct weir_catalog *catalog;
    struct weir_window_store *consumer_store, *writer_store;
    struct weir_quarantine *quarantine;
    struct weir_worker *worker;
    struct weir_metrics *metrics;
    struct weir_property properties[WEIR_PROPERTIES_MAX];
    struct weir_kafka_settings admitted;
    char admitted_topic[WEIR_SETTING_TEXT_MAX];
};

static int64_t watermark_seconds(void *context)
{
    struct weir_worker_gauges *gauges = context;
    return atomic_load_explicit(&gauges->watermark, memory_order_relaxed) / WEIR_SECOND;
}

static void add_metrics(struct weir_metrics *metrics, struct weir_worker_gauges *gauges)
{
    static const char *const outcomes[WEIR_OUTCOME_FULL] = {
        [WEIR_OUTCOME_COUNTED] = "outcome=\"counted\"",      [WEIR_OUTCOME_DUPLICATE] = "outcome=\"duplicate\"",
        [WEIR_OUTCOME_UNMATCHED] = "outcome=\"unmatched\"",  [WEIR_OUTCOME_RETRACTED] = "outcome=\"retracted\"",
        [WEIR_OUTCOME_REJECTED] = "outcome=\"quarantined\"",
    };
    static char reasons[WEIR_REASON_COUNT][48];

    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        if (i != WEIR_OUTCOME_UNPRICED) /* only `weir rate` tells it; here the rater does */
            weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_events_total", outcomes[i],
                             "Events taken, by what became of them.", &gauges->outcomes[i]);
    for (int i = 0; i < WEIR_REASON_COUNT; i++) {
        snprintf(reasons[i], sizeof reasons[i], "reason=\"%s\"", weir_reason_name[i]);
        weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_quarantined_events_total", reasons[i],
                         "Events in quarantine, by reason.", &gauges->rejections[i]);
    }
    static char kinds[WEIR_GAP_KIND_COUNT][32];
    for (int i = 0; i < WEIR_GAP_KIND_COUNT; i++) {
        snprintf(kinds[i], sizeof kinds[i], "kind=\"%s\"", weir_gap_kind_name[i]);
        weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_lane_gaps_total", kinds[i],
                         "Gaps found: events that Kafka lost before they were counted.", &gauges->gaps[i]);
    }
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_event_bytes_total", "", "Bytes of events taken.",
                     &gauges->bytes);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_lanes", "", "Lanes that this worker owns.", &gauges->lanes);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_lanes_paused", "",
                     "Lanes that are not read: the window store is behind or away.", &gauges->lanes_paused);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_windows", "", "Windows in memory.", &gauges->windows);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_ids", "", "Event ids in memory.", &gauges->ids);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_lane_bytes", "", "Memory of windows and ids.",
                     &gauges->lane_bytes);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"written\"",
                     "Lane cuts sent to the window store.", &gauges->cuts_written);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"fenced\"", "", &gauges->cuts_fenced);
    weir_metrics_add(metrics, WEIR_METRIC_COUNTER, "weir_cuts_total", "result=\"retried\"", "", &gauges->cuts_retried);
    weir_metrics_add(metrics, WEIR_METRIC_GAUGE, "weir_cuts_in_flight", "", "Cuts under way to the window store.",
                     &gauges->cuts_in_flight);
    weir_metrics_add_call(metrics, WEIR_METRIC_GAUGE, "weir_watermark_seconds", "",
                          "Lowest watermark of this worker's lanes, seconds since 1970.", watermark_seconds, gauges);
    weir_worker_add_metrics(metrics, gauges);
}

static const char *why_not_ready(void *context)
{
    return weir_worker_why_not_ready(context);
}

static enum weir_status set_up(struct ingest *ingest, struct weir_source **ret_source, struct weir_error *reterr)
{
    const struct weir_settings *settings = &ingest->settings;
    struct weir_kafka_settings kafka = weir_open_kafka_settings(settings, ingest->properties);
    struct weir_worker_settings worker = weir_open_worker_settings(settings);
    kafka.reach_ms = (int)(settings->patience / (WEIR_SECOND / 1000));
    ingest->admitted = kafka;
    ingest->admitted.topic = weir_admitted_topic(settings, ingest->admitted_topic);
    worker.admitted = &ingest->admitted;
    enum weir_status status = weir_store_redis_open(settings->redis_url, &ingest->consumer_store, reterr);

    if (status == WEIR_OK)
        status = weir_store_redis_open(settings->redis_url, &ingest->writer_store, reterr);
    if (status == WEIR_OK)
        status = weir_quarantine_kafka_open(&kafka, *settings->quarantine_topic ? settings->quarantine_topic : NULL,
                                            &ingest->quarantine, reterr);
    if (status != WEIR_OK)
        return status;
    ingest->worker =
        weir_worker_new(ingest->catalog, &worker, ingest->consumer_store, ingest->writer_store, ingest->quarantine);
    struct weir_source_listener listener = weir_worker_listener(ingest->worker);
    ingest->metrics = weir_metrics_new();
    add_metrics(ingest->metrics, weir_worker_gauges(ingest->worker));
    weir_metrics_ready_call(ingest->metrics, why_not_ready, weir_worker_gauges(ingest->worker));
    status = weir_open_metrics(ingest->metrics, settings, reterr);
    return status == WEIR_OK ? weir_source_kafka_open(&kafka, &listener, ret_source, reterr) : status;
}

static void report(const struct ingest *ingest, int64_t took)
{
    struct weir_worker_gauges *gauges = weir_worker_gauges(ingest->worker);
    uint64_t outcomes[WEIR_OUTCOME_FULL], read = 0;
    uint64_t milliseconds = (uint64_t)(took / 1000000);

    for (int i = 0; i < WEIR_OUTCOME_FULL; i++)
        read += outcomes[i] = atomic_load_explicit(&gauges->outcomes[i], memory_order_relaxed);
    weir_log_plain(WEIR_LOG_INFO,
                   "read=%" PRIu64 " counted=%" PRIu64 " duplicate=%" PRIu64 " unmatched=%" PRIu64 " retracted=%" PRIu64
                   " quarantined=%" PRIu64 " seconds=%" PRIu64 ".%03" PRIu64 " events_per_second=%" PRIu64,
                   read, outcomes[WEIR_OUTCOME_COUNTED] + outcomes[WEIR_OUTCOME_UNPRICED],
                   outcomes[WEIR_OUTCOME_DUPLICATE], outcomes[WEIR_OUTCOME_UNMATCHED], outcomes[WEIR_OUTCOME_RETRACTED],
                   outcomes[WEIR_OUTCOME_REJECTED], milliseconds / 1000, milliseconds % 1000,
                   read * 1000 / (milliseconds ? milliseconds : 1));
}

int weir_command_ingest(int argc, char **argv)
{
    struct ingest ingest = {0};
    struct weir_source *source = NULL;
    struct weir_error error = {{0}};
    int parsed = weir_settings_load(&usage, argc, argv, &ingest.settings);

    if (parsed >= 0)
        return parsed;
    if (weir_is_admitted(weir_slice_text(ingest.settings.kafka_topic))) {
        weir_log(WEIR_LOG_ERROR, "kafka.topic '%s': weir admit reads the topics of admitted events, nobody else",
                 ingest.settings.kafka_topic);
        weir_settings_free(&ingest.settings);
        return WEIR_EXIT_USAGE;
    }
    const _Atomic bool *stop = weir_daemon_catch_signals();
    int64_t started = weir_time_now();
    parsed = weir_await_catalog(&ingest.settings, stop, &ingest.catalog);
    if (parsed >= 0) {
        weir_settings_free(&ingest.settings);
        return parsed;
    }
    enum weir_status status = set_up(&ingest, &source, &error);
    if (status == WEIR_OK) {
        weir_metrics_set_ready(ingest.metrics, true, "");
        weir_daemon_ready("starting"); /* what it waits for from now on needs no restart; the status says what */
        status = weir_worker_run(ingest.worker, source, stop, &error);
        weir_daemon_stopping();
        weir_metrics_set_ready(ingest.metrics, false, "stopping");
    }
    if (status == WEIR_OK)
        report(&ingest, weir_time_now() - started);
    else
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_metrics_free(ingest.metrics);
    weir_worker_free(ingest.worker);
    weir_quarantine_free(ingest.quarantine);
    weir_window_store_free(ingest.writer_store);
    weir_window_store_free(ingest.consumer_store);
    weir_catalog_free(ingest.catalog);
    weir_settings_free(&ingest.settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
