/* What of a partition can be read no more: offsets that retention took, a topic that was made anew, the start of a lane
 * that has nothing stored. Nothing is skipped without a word: the listener is told from where to where.
 *
 * A topic that was made anew may well hold the offset where a lane goes on. So reading begins one message earlier, with
 * the last one that the lane took, and Kafka's timestamp of it is compared; it is the worker's to remember. Where that
 * offset holds no message any more (compacted, a transaction's marker, retention) there is nothing to compare. The same
 * is done while it runs, after the topic was away for a moment. */
#include "common/log.h"
#include "ingest/source_kafka_internal.h"

enum { ASK_MS = 2500 };

static bool ask_range(const struct kafka_source *source, int32_t number, int64_t *ret_low, int64_t *ret_high)
{
    return !weir_kafka_range(source->handle, source->topic, number, ASK_MS, ret_low, ret_high);
}

/* Messages that were returned before must be taken first, so it is told at the next poll; until then no more are. */
static void lose(struct kafka_source *source, struct kafka_partition *partition, enum weir_gap_kind kind)
{
    partition->position += partition->is_checking;
    partition->is_checking = false;
    partition->has_loss = true;
    partition->loss = kind;
    weir_kafka_demand_seek(source, partition);
}

/* 1. how a lane begins */
void weir_kafka_begin(struct kafka_source *source, int32_t number, int64_t offset)
{
    struct kafka_partition *partition = weir_kafka_partition_of(source, number);
    int64_t stamp =
        offset > 0 && source->listener.stamp ? source->listener.stamp(source->listener.context, number) : -1;

    weir_kafka_start_at(source, partition, offset);
    partition->stamp = stamp;
    /* A batch run would not ask Kafka for what lies behind its end, and not notice that there is nothing. */
    if (stamp >= 0 || (source->until_end && offset > partition->end)) {
        partition->is_checking = true;
        partition->position = offset - 1;
    }
    if (offset < 0 && source->listener.gone)
        lose(source, partition, WEIR_GAP_NOTHING_STORED);
}

void weir_kafka_check_again(struct kafka_source *source)
{
    for (int32_t i = 0; i < source->partition_count; i++) {
        struct kafka_partition *partition = &source->partitions[i];
        if (!partition->is_ours || partition->must_seek || partition->is_checking || partition->stamp < 0)
            continue;
        partition->is_checking = true;
        partition->position--;
        weir_kafka_demand_seek(source, partition);
    }
}

bool weir_kafka_check(struct kafka_source *source, struct kafka_partition *partition, int64_t offset, int64_t stamp)
{
    int64_t compared = partition->position++;

    partition->is_checking = false;
    if (offset > compared) {
        partition->stamp = -1;
        return true;
    }
    if (partition->stamp >= 0 && stamp != partition->stamp)
        lose(source, partition, WEIR_GAP_RECREATED);
    return false;
}

/* 2. offsets that are not there */
void weir_kafka_look(struct kafka_source *source, int32_t number)
{
    struct kafka_partition *partition = weir_kafka_partition_of(source, number);
    int64_t wanted = partition->position + partition->is_checking, low = -1, high = -1;

    if (!ask_range(source, number, &low, &high))
        weir_kafka_demand_seek(source, partition); /* and so ask again */
    else if (wanted < low)
        lose(source, partition, WEIR_GAP_RETENTION);
    else if (wanted > high)
        lose(source, partition, WEIR_GAP_RECREATED);
    else if (partition->is_checking && partition->position < low) {
        partition->is_checking = false; /* what would be compared is gone */
        partition->position = wanted;
        partition->stamp = -1;
        weir_kafka_demand_seek(source, partition);
    } else
        weir_kafka_demand_seek(source, partition);
}

/* Assigned anew: only so does librdkafka (2.0.2) take it up again. All of them where the group shares by taking
 * everything away and dealing it out (eager). */
void weir_kafka_restart(struct kafka_source *source, int32_t number)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++) {
        struct kafka_partition *partition = &source->partitions[i];
        if (!partition->is_ours || (source->is_cooperative && i != number))
            continue;
        rd_kafka_topic_partition_list_add(list, source->topic, i)->offset =
            partition->position < 0 ? RD_KAFKA_OFFSET_BEGINNING : partition->position;
        partition->is_stopped = false;
        partition->must_seek = partition->has_loss;
    }
    if (source->is_cooperative) {
        rd_kafka_error_destroy(rd_kafka_incremental_unassign(source->handle, list));
        rd_kafka_error_destroy(rd_kafka_incremental_assign(source->handle, list));
    } else {
        rd_kafka_assign(source->handle, list);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

/* A worker that keeps no gaps must not go on. */
static enum weir_status refuse(const struct kafka_source *source, int32_t number, int64_t from, int64_t low,
                               int64_t high, struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_FATAL,
                     "lane %s:%d is to be read from offset %lld, but Kafka holds only %lld to %lld: retention, or a "
                     "topic made anew, took the rest. Nothing was skipped",
                     source->topic, number, (long long)from, (long long)low, (long long)high);
}

/* At once, and in one question for all of them: a rebalance waits for this. */
void weir_kafka_begin_unstored(struct kafka_source *source, const rd_kafka_topic_partition_list_t *assigned)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(assigned->cnt + 1);

    for (int i = 0; i < assigned->cnt; i++)
        if (weir_kafka_partition_of(source, assigned->elems[i].partition)->has_loss)
            rd_kafka_topic_partition_list_add(list, source->topic, assigned->elems[i].partition)->offset =
                RD_KAFKA_OFFSET_BEGINNING;
    /* What is not answered, the next polls ask for, one by one. */
    bool is_answered = list->cnt > 0 && !rd_kafka_offsets_for_times(source->handle, list, ASK_MS);
    for (int i = 0; i < list->cnt && is_answered; i++) {
        int64_t low = list->elems[i].offset;
        if (list->elems[i].err || low < 0)
            continue;
        if (low > 0)
            source->listener.gone(source->listener.context, list->elems[i].partition, WEIR_GAP_NOTHING_STORED, low);
        struct kafka_partition *partition = weir_kafka_partition_of(source, list->elems[i].partition);
        weir_kafka_start_at(source, partition, -1);
        partition->position = low;
    }
    rd_kafka_topic_partition_list_destroy(list);
}

enum weir_status weir_kafka_tell_loss(struct kafka_source *source, int32_t number, struct weir_error *reterr)
{
    struct kafka_partition *partition = weir_kafka_partition_of(source, number);
    enum weir_gap_kind kind = partition->loss;
    int64_t from = partition->position, low = -1, high = -1;
    bool is_start = kind == WEIR_GAP_NOTHING_STORED;

    if (!ask_range(source, number, &low, &high))
        return WEIR_RETRY;
    bool is_there = kind == WEIR_GAP_RETENTION && low <= from; /* after all */
    if (!is_there && !source->listener.gone)
        return refuse(source, number, from, low, high, reterr);
    if (is_there)
        low = from;
    if (!is_there && (!is_start || low > 0))
        source->listener.gone(source->listener.context, number, kind, low);
    weir_kafka_start_at(source, partition, is_start ? -1 : low);
    partition->position = low;
    return WEIR_OK;
}

/* 3. topics that forget by key */
void weir_kafka_ask_policy(struct kafka_source *source)
{
    rd_kafka_ConfigResource_t *resource = rd_kafka_ConfigResource_new(RD_KAFKA_RESOURCE_TOPIC, source->topic);

    source->policy = rd_kafka_queue_new(source->handle);
    rd_kafka_DescribeConfigs(source->handle, &resource, 1, NULL, source->policy);
    rd_kafka_ConfigResource_destroy(resource);
}

static bool is_compacted(rd_kafka_event_t *event)
{
    const rd_kafka_DescribeConfigs_result_t *result = rd_kafka_event_DescribeConfigs_result(event);
    size_t resources = 0, entries = 0;
    const rd_kafka_ConfigResource_t **resource =
        result ? rd_kafka_DescribeConfigs_result_resources(result, &resources) : NULL;
    const rd_kafka_ConfigEntry_t **entry =
        resources == 1 ? rd_kafka_ConfigResource_configs(resource[0], &entries) : NULL;

    for (size_t i = 0; i < entries; i++) {
        const char *value = rd_kafka_ConfigEntry_value(entry[i]);
        if (strcmp(rd_kafka_ConfigEntry_name(entry[i]), "cleanup.policy") == 0)
            return value && strstr(value, "compact");
    }
    return false; /* nobody may tell us */
}

void weir_kafka_look_policy(struct kafka_source *source)
{
    rd_kafka_event_t *event = source->policy ? rd_kafka_queue_poll(source->policy, 0) : NULL;

    if (!event)
        return;
    if (rd_kafka_event_type(event) == RD_KAFKA_EVENT_DESCRIBECONFIGS_RESULT && is_compacted(event))
        weir_log(WEIR_LOG_WARN,
                 "topic %s has cleanup.policy=compact: Kafka keeps only the last event of each key, and usage that is "
                 "compacted away before it is read is lost. Set cleanup.policy=delete",
                 source->topic);
    rd_kafka_event_destroy(event);
    rd_kafka_queue_destroy(source->policy);
    source->policy = NULL;
}
