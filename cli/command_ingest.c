/* `weir ingest`: an ingest worker, Kafka -> windows in Redis. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "cli/admitted.h"
#include "cli/commands.h"
#include "cli/ingest_threads.h"
#include "cli/open.h"
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
        "once. At most one thread for each partition, of all workers, has something to do. SIGTERM stops cleanly:\n"
        "what was read is written and the partitions go to the other workers.",
    .example = "WEIR_KAFKA_BROKERS=127.0.0.1:9092 weir ingest --catalog deploy/example/catalog --until-end",
};

struct ingest {
    struct weir_settings settings;
    struct weir_catalog *catalog;
    struct weir_ingest_threads *threads;
    struct weir_metrics *metrics;
};

static const char *why_not_ready(void *context)
{
    return weir_workers_why_not_ready(context);
}

static enum weir_status set_up(struct ingest *ingest, struct weir_error *reterr)
{
    enum weir_status status = weir_ingest_threads_open(&ingest->settings, ingest->catalog, &ingest->threads, reterr);

    if (status != WEIR_OK)
        return status;
    ingest->metrics = weir_metrics_new();
    weir_workers_add_metrics(ingest->metrics, weir_ingest_threads_peers(ingest->threads));
    weir_metrics_ready_call(ingest->metrics, why_not_ready, weir_ingest_threads_peers(ingest->threads));
    return weir_open_metrics(ingest->metrics, &ingest->settings, reterr);
}

static void report(struct ingest *ingest, int64_t took)
{
    const struct weir_worker_peers *peers = weir_ingest_threads_peers(ingest->threads);
    uint64_t outcomes[WEIR_OUTCOME_FULL], read = weir_workers_read(peers);
    uint64_t milliseconds = (uint64_t)(took / 1000000);

    for (size_t i = 0; i < WEIR_OUTCOME_FULL; i++)
        outcomes[i] = weir_workers_outcome(peers, (enum weir_outcome)i);
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
    enum weir_status status = set_up(&ingest, &error);
    if (status == WEIR_OK) {
        weir_metrics_set_ready(ingest.metrics, true, "");
        weir_daemon_ready("starting"); /* what it waits for from now on needs no restart; the status says what */
        status = weir_ingest_threads_run(ingest.threads, stop, &error);
        weir_daemon_stopping();
        weir_metrics_set_ready(ingest.metrics, false, "stopping");
    }
    if (status == WEIR_OK)
        report(&ingest, weir_time_now() - started);
    else
        weir_log(WEIR_LOG_ERROR, "%s", error.text);
    weir_metrics_free(ingest.metrics);
    weir_ingest_threads_free(ingest.threads);
    weir_catalog_free(ingest.catalog);
    weir_settings_free(&ingest.settings);
    return status == WEIR_OK ? WEIR_EXIT_DONE : status == WEIR_REJECT ? WEIR_EXIT_USAGE : WEIR_EXIT_FAILED;
}
