#include "cli/open.h"

#include <stdio.h>
#include <string.h>

#include "cli/catalog_option.h"
#include "cli/commands.h"
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
        .hand_over = settings->hand_over,
        .until_end = settings->until_end,
        .patience = settings->patience,
    };
}
