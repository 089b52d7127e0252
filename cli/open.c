#include "cli/open.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

#include "cli/catalog_option.h"
#include "cli/commands.h"
#include "cli/outage.h"
#include "cli/quarantined.h"
#include "common/calendar.h"
#include "common/cores.h"
#include "common/daemon.h"
#include "common/log.h"
#include "rater/apply.h"

int weir_open_catalog(const struct weir_settings *settings, struct weir_catalog **ret_catalog)
{
    struct weir_error error;

    if (*settings->catalog) {
        *ret_catalog = weir_catalog_option(settings->catalog);
        return *ret_catalog ? -1 : WEIR_EXIT_USAGE;
    }
    if (weir_apply_load_catalog(settings->postgres_url, ret_catalog, &error) == WEIR_OK)
        return -1;
    weir_log(WEIR_LOG_ERROR, "%s", error.text);
    return WEIR_EXIT_FAILED;
}

/* Whoever asks meanwhile is told that we live, and what we wait for. */
static enum weir_status show_waiting(const struct weir_settings *settings, struct weir_metrics **ret_metrics,
                                     struct weir_error *reterr)
{
    weir_daemon_ready("waiting for PostgreSQL"); /* no restart would help */
    *ret_metrics = weir_metrics_new();
    weir_metrics_set_ready(*ret_metrics, false, "waiting for PostgreSQL, which has the catalog");
    return weir_open_metrics(*ret_metrics, settings, reterr);
}

static enum weir_status wait_for_catalog(const struct weir_settings *settings, const _Atomic bool *stop,
                                         struct weir_catalog **ret_catalog, struct weir_error *reterr)
{
    bool may_end = settings->until_end || settings->until_done;
    struct weir_outage outage = {0};
    struct weir_metrics *metrics = NULL;
    struct weir_error page_error;
    enum weir_status status;

    while ((status = weir_apply_load_catalog(settings->postgres_url, ret_catalog, reterr)) == WEIR_RETRY) {
        weir_outage_begin(&outage, "the catalog cannot be read yet, trying again", reterr->text);
        if (!metrics && show_waiting(settings, &metrics, &page_error) != WEIR_OK) {
            *reterr = page_error;
            status = WEIR_FATAL;
            break;
        }
        if (atomic_load_explicit(stop, memory_order_relaxed)
            || (may_end && weir_outage_lasts(&outage) > settings->patience))
            break;
        weir_daemon_alive();
        nanosleep(&(struct timespec){.tv_sec = 1}, NULL); /* a signal ends it early, which is what we want */
    }
    if (status == WEIR_OK)
        weir_outage_end(&outage, "PostgreSQL answers");
    weir_metrics_free(metrics);
    return status;
}

int weir_await_catalog(const struct weir_settings *settings, const _Atomic bool *stop,
                       struct weir_catalog **ret_catalog)
{
    struct weir_error error;

    if (*settings->catalog)
        return weir_open_catalog(settings, ret_catalog);
    enum weir_status status = wait_for_catalog(settings, stop, ret_catalog, &error);
    if (status == WEIR_OK)
        return -1;
    bool is_stopped = status == WEIR_RETRY && atomic_load_explicit(stop, memory_order_relaxed);
    if (is_stopped && !settings->until_end && !settings->until_done)
        return WEIR_EXIT_DONE;
    weir_log(WEIR_LOG_ERROR, "%s%s", error.text,
             is_stopped             ? ". Stopped by a signal before anything was done"
             : status == WEIR_RETRY ? ". Patience is at its end; start it again to go on"
                                    : "");
    return WEIR_EXIT_FAILED;
}

struct weir_kafka_settings weir_open_kafka_settings(const struct weir_settings *settings,
                                                    struct weir_property properties[WEIR_PROPERTIES_MAX])
{
    for (size_t i = 0; i < settings->kafka_property_count; i++)
        properties[i] = (struct weir_property){settings->kafka_properties[i].name, settings->kafka_properties[i].value};
    return (struct weir_kafka_settings){
        .brokers = settings->kafka_brokers,
        .topic = settings->kafka_topic,
        .group = settings->kafka_group,
        .properties = properties,
        .property_count = settings->kafka_property_count,
        .until_end = settings->until_end,
        .reach_ms = (int)(settings->patience / (WEIR_SECOND / 1000)),
    };
}

enum weir_status weir_open_metrics(struct weir_metrics *metrics, const struct weir_settings *settings,
                                   struct weir_error *reterr)
{
    uint16_t port = 0;
    enum weir_status status = weir_metrics_open(metrics, settings->metrics_listen, &port, reterr);

    if (status == WEIR_FATAL && (settings->until_end || settings->until_done)) {
        weir_log(WEIR_LOG_WARN, "no metrics page: %s", reterr->text);
        return WEIR_OK;
    }
    if (status == WEIR_OK && port)
        weir_log(WEIR_LOG_INFO, "metrics on port %u: /metrics /healthz /readyz", port);
    return status;
}

enum weir_status weir_open_worker(const struct weir_settings *settings, const struct weir_catalog *catalog,
                                  const struct weir_kafka_settings *kafka, const struct weir_worker_settings *of_worker,
                                  struct weir_opened_worker *opened, struct weir_error *reterr)
{
    char topic[WEIR_SETTING_TEXT_MAX];
    enum weir_status status = weir_store_redis_open(settings->redis_url, &opened->consumer_store, reterr);

    if (status == WEIR_OK)
        status = weir_store_redis_open(settings->redis_url, &opened->writer_store, reterr);
    if (status == WEIR_OK)
        status = weir_quarantine_kafka_open(kafka, weir_quarantine_topic(settings, topic), &opened->quarantine, reterr);
    if (status == WEIR_OK)
        opened->worker =
            weir_worker_new(catalog, of_worker, opened->consumer_store, opened->writer_store, opened->quarantine);
    return status;
}

void weir_close_worker(struct weir_opened_worker *opened)
{
    weir_worker_free(opened->worker);
    weir_quarantine_free(opened->quarantine);
    weir_window_store_free(opened->writer_store);
    weir_window_store_free(opened->consumer_store);
}

struct weir_worker_settings weir_open_worker_settings(const struct weir_settings *settings)
{
    return (struct weir_worker_settings){
        .lane = {.disorder = settings->disorder,
                 .lateness = settings->lateness,
                 .retention = settings->id_retention,
                 .max_future = settings->max_future,
                 .windows_max = (uint64_t)settings->lane_windows_max,
                 .ids_max = (uint64_t)settings->lane_ids_max},
        .flush_interval = settings->flush_interval,
        .idle = settings->idle,
        .cuts_max = (uint32_t)settings->ring_cuts,
        .changes_max = (size_t)settings->lane_changes_max,
        .cores = weir_cores(),
        .hand_over = settings->hand_over,
        .until_end = settings->until_end,
        .patience = settings->patience,
    };
}
