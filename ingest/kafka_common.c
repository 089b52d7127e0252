#include "ingest/kafka_common.h"

#include <string.h>
#include <syslog.h>

#include "common/log.h"

const char *const weir_kafka_owned_properties[] = {
    "bootstrap.servers",
    "kafka.brokers sets it",
    "group.id",
    "kafka.group sets it",
    "enable.auto.commit",
    "offsets are part of the lane cut",
    "enable.auto.offset.store",
    "offsets are part of the lane cut",
    "auto.offset.reset",
    "an offset that is gone must be told, not skipped",
    "enable.partition.eof",
    "tells that a lane is caught up",
    "enable.idempotence",
    "produce must not repeat, quarantine may",
    NULL,
    NULL,
};

static void log_line(const rd_kafka_t *handle, int level, const char *facility, const char *text)
{
    (void)handle;
    if (strcmp(facility, "FAIL") == 0) /* a connection: on_error callbacks, or a failed call, say it in our words */
        level = LOG_DEBUG;
    weir_log(level <= LOG_ERR      ? WEIR_LOG_WARN
             : level <= LOG_NOTICE ? WEIR_LOG_INFO
                                   : WEIR_LOG_DEBUG,
             "kafka %s: %s", facility, text);
}

static enum weir_status set(rd_kafka_conf_t *conf, const char *name, const char *value, struct weir_error *reterr)
{
    char text[512];

    if (rd_kafka_conf_set(conf, name, value, text, sizeof text) == RD_KAFKA_CONF_OK)
        return WEIR_OK;
    return weir_fail(reterr, WEIR_REJECT, "kafka property %s: %s", name, text);
}

static const char *why_owned(const char *name)
{
    for (int i = 0; weir_kafka_owned_properties[i]; i += 2)
        if (strcmp(weir_kafka_owned_properties[i], name) == 0)
            return weir_kafka_owned_properties[i + 1];
    return NULL;
}

static enum weir_status set_all(rd_kafka_conf_t *conf, const struct weir_kafka_settings *settings,
                                const struct weir_kafka_pair *defaults, const struct weir_kafka_pair *owned,
                                struct weir_error *reterr)
{
    enum weir_status status = set(conf, "bootstrap.servers", settings->brokers, reterr);

    for (; status == WEIR_OK && defaults->name; defaults++)
        status = set(conf, defaults->name, defaults->value, reterr);
    for (size_t i = 0; i < settings->property_count && status == WEIR_OK; i++) {
        const char *why = why_owned(settings->properties[i].name);
        status = why ? weir_fail(reterr, WEIR_REJECT, "kafka.properties.%s is weir's own: %s. Take it out",
                                 settings->properties[i].name, why)
                     : set(conf, settings->properties[i].name, settings->properties[i].value, reterr);
    }
    for (; status == WEIR_OK && owned->name; owned++)
        status = set(conf, owned->name, owned->value, reterr);
    return status;
}

enum weir_status weir_kafka_conf(const struct weir_kafka_settings *settings, const struct weir_kafka_pair *defaults,
                                 const struct weir_kafka_pair *owned, rd_kafka_conf_t **ret_conf,
                                 struct weir_error *reterr)
{
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    enum weir_status status = set_all(conf, settings, defaults, owned, reterr);

    rd_kafka_conf_set_log_cb(conf, log_line);
    if (status == WEIR_OK)
        *ret_conf = conf;
    else
        rd_kafka_conf_destroy(conf);
    return status;
}

enum weir_status weir_kafka_partitions(rd_kafka_t *handle, const char *brokers, const char *topic, int timeout_ms,
                                       int32_t *ret_count, struct weir_error *reterr)
{
    const struct rd_kafka_metadata *metadata = NULL;
    rd_kafka_topic_t *of = rd_kafka_topic_new(handle, topic, NULL);
    rd_kafka_resp_err_t error = rd_kafka_metadata(handle, 0, of, &metadata, timeout_ms);

    rd_kafka_topic_destroy(of);
    *ret_count = -1;
    if (error)
        return weir_fail(reterr, WEIR_RETRY, "Kafka at %s does not answer: %s", brokers, rd_kafka_err2str(error));
    error = metadata->topic_cnt ? metadata->topics[0].err : RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART;
    if (!error || error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART)
        *ret_count = metadata->topic_cnt ? metadata->topics[0].partition_cnt : 0;
    rd_kafka_metadata_destroy(metadata);
    if (error == RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE)
        return weir_fail(reterr, WEIR_RETRY, "topic '%s' at %s: %s", topic, brokers, rd_kafka_err2str(error));
    if (error == RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART || (!error && *ret_count == 0))
        return weir_fail(reterr, WEIR_REJECT, "topic '%s' does not exist at %s: create it, or set kafka.topic", topic,
                         brokers);
    return error ? weir_fail(reterr, WEIR_REJECT, "topic '%s' at %s: %s", topic, brokers, rd_kafka_err2str(error))
                 : WEIR_OK;
}

static rd_kafka_resp_err_t ask_offset(rd_kafka_t *handle, const char *topic, int32_t partition, int64_t which,
                                      int timeout_ms, int64_t *ret_offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);

    rd_kafka_topic_partition_list_add(list, topic, partition)->offset = which;
    rd_kafka_resp_err_t error = rd_kafka_offsets_for_times(handle, list, timeout_ms);
    if (!error)
        error = list->elems[0].err;
    if (!error && list->elems[0].offset < 0)
        error = RD_KAFKA_RESP_ERR__NO_OFFSET;
    if (!error)
        *ret_offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return error;
}

rd_kafka_resp_err_t weir_kafka_range(rd_kafka_t *handle, const char *topic, int32_t partition, int timeout_ms,
                                     int64_t *ret_low, int64_t *ret_end)
{
    int64_t low = 0, end = 0;
    rd_kafka_resp_err_t error = ask_offset(handle, topic, partition, RD_KAFKA_OFFSET_BEGINNING, timeout_ms, &low);

    if (!error)
        error = ask_offset(handle, topic, partition, RD_KAFKA_OFFSET_END, timeout_ms, &end);
    if (error)
        return error;
    *ret_low = low;
    *ret_end = end;
    return RD_KAFKA_RESP_ERR_NO_ERROR;
}
