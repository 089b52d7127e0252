#include "ingest/kafka_offsets.h"

#include <stdlib.h>

#include "ingest/kafka_common.h"

enum { ASK_MS = 15000 };

static enum weir_status ask_committed(rd_kafka_t *handle, const char *topic, struct weir_kafka_offsets *offsets,
                                      int32_t count, struct weir_error *reterr)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(count);

    for (int32_t i = 0; i < count; i++)
        rd_kafka_topic_partition_list_add(list, topic, i);
    rd_kafka_resp_err_t error = rd_kafka_committed(handle, list, ASK_MS);
    for (int i = 0; i < list->cnt && !error; i++)
        offsets[list->elems[i].partition].committed = list->elems[i].offset < 0 ? -1 : list->elems[i].offset;
    rd_kafka_topic_partition_list_destroy(list);
    return error ? weir_fail(reterr, WEIR_RETRY, "Kafka does not tell committed offsets: %s", rd_kafka_err2str(error))
                 : WEIR_OK;
}

static enum weir_status ask(rd_kafka_t *handle, const struct weir_kafka_settings *settings,
                            struct weir_kafka_offsets **ret_offsets, int32_t *ret_count, struct weir_error *reterr)
{
    int32_t count = 0;
    enum weir_status status = weir_kafka_partitions(handle, settings->brokers, settings->topic, ASK_MS, &count, reterr);

    if (status != WEIR_OK) {
        *ret_count = count;
        return status;
    }
    struct weir_kafka_offsets *offsets = weir_new_array((size_t)count, sizeof *offsets);
    for (int32_t i = 0; i < count && status == WEIR_OK; i++) {
        rd_kafka_resp_err_t error =
            weir_kafka_range(handle, settings->topic, i, ASK_MS, &offsets[i].low, &offsets[i].end);
        if (error)
            status = weir_fail(reterr, WEIR_RETRY, "Kafka does not tell the end of %s:%d: %s", settings->topic, i,
                               rd_kafka_err2str(error));
    }
    if (status == WEIR_OK)
        status = ask_committed(handle, settings->topic, offsets, count, reterr);
    if (status != WEIR_OK) {
        free(offsets);
        return status;
    }
    *ret_offsets = offsets;
    *ret_count = count;
    return WEIR_OK;
}

enum weir_status weir_kafka_ask_offsets(const struct weir_kafka_settings *settings,
                                        struct weir_kafka_offsets **ret_offsets, int32_t *ret_count,
                                        struct weir_error *reterr)
{
    static const struct weir_kafka_pair defaults[] = {
        {"isolation.level", "read_committed"}, {"client.id", "weir-reconcile"}, {NULL, NULL}};
    const struct weir_kafka_pair owned[] = {
        {"group.id", settings->group}, {"enable.auto.commit", "false"}, {NULL, NULL}};
    char text[512];
    rd_kafka_conf_t *conf;
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);

    *ret_count = -1;
    if (status != WEIR_OK)
        return status;
    rd_kafka_t *handle = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!handle) {
        rd_kafka_conf_destroy(conf);
        return weir_fail(reterr, WEIR_REJECT, "Kafka consumer: %s", text);
    }
    status = ask(handle, settings, ret_offsets, ret_count, reterr);
    rd_kafka_destroy(handle);
    return status;
}
