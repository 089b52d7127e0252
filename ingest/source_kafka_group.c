/* The group: partitions that come and go, and the offsets that are committed for lag monitors. */
#include "common/log.h"
#include "ingest/source_kafka_internal.h"

enum {
    COMMIT_MS = 5000,    /* rarely: one that meets a rebalance costs us all partitions, see revoke */
    REBALANCE_MS = 2000, /* no commits for so long after partitions were revoked */
};

/* 1. offsets for lag monitors */

/* Below this nobody need read again. What is behind the last message (transaction markers, aborted ones) needs no cut.
 */
static int64_t settled(const struct kafka_source *source, const struct kafka_partition *partition)
{
    int64_t position = partition->position;

    if (source->until_end && position > partition->end)
        position = partition->end > partition->low ? partition->end : partition->low;
    return partition->durable >= partition->delivered && position > partition->durable ? position : partition->durable;
}

static bool is_commit_due(const struct kafka_source *source, const struct kafka_partition *partition)
{
    int64_t offset = settled(source, partition);

    if (!partition->is_ours || offset < 0 || offset == partition->committed)
        return false;
    return partition->committed < 0 || weir_kafka_now_ms() - source->last_commit >= COMMIT_MS
           || (source->until_end && offset >= partition->end) || source->is_closing;
}

void weir_kafka_commit(struct kafka_source *source)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++) {
        struct kafka_partition *partition = &source->partitions[i];
        if (!is_commit_due(source, partition))
            continue;
        partition->committed = settled(source, partition);
        rd_kafka_topic_partition_list_add(list, source->topic, i)->offset = partition->committed;
    }
    if (list->cnt > 0) {
        (void)rd_kafka_commit(source->handle, list, true); /* what becomes of it: on_commit */
        source->last_commit = weir_kafka_now_ms();
    }
    rd_kafka_topic_partition_list_destroy(list);
    source->next_commit = weir_kafka_now_ms() + WEIR_KAFKA_COMMIT_LOOK_MS;
}

/* A commit that failed (a rebalance under way) is repeated with the next one; nothing rests on it but lag figures, and
 * other workers' waiting at the end. */
void weir_kafka_on_commit(rd_kafka_t *handle, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t *list,
                          void *context)
{
    struct kafka_source *source = context;

    (void)handle;
    for (int i = 0; list && i < list->cnt; i++)
        if ((error || list->elems[i].err) && list->elems[i].partition >= 0)
            weir_kafka_partition_of(source, list->elems[i].partition)->committed = -1;
}

/* 2. rebalances */
static void log_refusal(rd_kafka_error_t *error, const char *what)
{
    if (error)
        weir_log(WEIR_LOG_ERROR, "kafka %s: %s", what, rd_kafka_error_string(error));
    rd_kafka_error_destroy(error);
}

static void assign(struct kafka_source *source, rd_kafka_topic_partition_list_t *list)
{
    struct weir_slice topic = weir_slice_text(source->topic);

    for (int i = 0; i < list->cnt; i++) {
        struct kafka_partition *partition = weir_kafka_partition_of(source, list->elems[i].partition);
        struct weir_error error;
        int64_t offset = -1;
        partition->is_ours =
            source->listener.assigned(source->listener.context, topic, list->elems[i].partition, &offset, &error);
        if (!partition->is_ours) {
            weir_kafka_give_up(source, &error);
            continue;
        }
        weir_kafka_begin(source, list->elems[i].partition, offset);
        partition->is_stopped = false;
    }
    weir_kafka_begin_unstored(source, list);
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_partition *partition = weir_kafka_partition_of(source, list->elems[i].partition);
        list->elems[i].offset = partition->position < 0 ? RD_KAFKA_OFFSET_BEGINNING : partition->position;
        partition->is_fresh = partition->is_ours && !partition->has_loss;
    }
    if (source->is_cooperative)
        log_refusal(rd_kafka_incremental_assign(source->handle, list), "assign");
    else
        rd_kafka_assign(source->handle, list);
    if (source->next_commit < weir_kafka_now_ms() + WEIR_KAFKA_COMMIT_LOOK_MS)
        source->next_commit = weir_kafka_now_ms() + WEIR_KAFKA_COMMIT_LOOK_MS;
}

static void revoke(struct kafka_source *source, rd_kafka_topic_partition_list_t *list)
{
    struct weir_slice topic = weir_slice_text(source->topic);
    /* librdkafka forgets to say "lost" when a revocation was waiting while the time ran out. */
    bool lost = rd_kafka_assignment_lost(source->handle) || source->is_late;

    for (int i = 0; i < list->cnt; i++) {
        if (!weir_kafka_partition_of(source, list->elems[i].partition)->is_ours)
            continue;
        source->listener.revoked(source->listener.context, topic, list->elems[i].partition, lost);
        weir_kafka_resume(&source->source,
                          list->elems[i].partition); /* librdkafka would keep it paused when it comes back */
    }
    /* In a rebalance a commit may reach the broker with the old generation, and librdkafka then drops the whole
     * assignment as lost. The next owner commits what it finds stored. */
    if (source->is_closing && !lost)
        weir_kafka_commit(source);
    source->next_commit = weir_kafka_now_ms() + REBALANCE_MS;
    for (int i = 0; i < list->cnt; i++)
        weir_kafka_partition_of(source, list->elems[i].partition)->is_ours = false;
    if (source->is_cooperative)
        log_refusal(rd_kafka_incremental_unassign(source->handle, list), "unassign");
    else
        rd_kafka_assign(source->handle, NULL);
}

/* Closed in the middle of a rebalance, librdkafka (2.0.2) tells of what that one takes away, and drops the rest without
 * a word. Whoever is given it by now has a higher epoch, or reads on from what is written here. */
void weir_kafka_hand_over_rest(struct kafka_source *source)
{
    for (int32_t i = 0; i < source->partition_count; i++) {
        if (!source->partitions[i].is_ours)
            continue;
        source->listener.revoked(source->listener.context, weir_slice_text(source->topic), i, source->is_late);
        source->partitions[i].is_ours = false;
    }
}

void weir_kafka_on_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t what, rd_kafka_topic_partition_list_t *list,
                             void *context)
{
    struct kafka_source *source = context;

    const char *protocol = rd_kafka_rebalance_protocol(handle);
    if (protocol) /* NULL: librdkafka is too busy, or closing, to say; it does not change within a group */
        source->is_cooperative = strcmp(protocol, "COOPERATIVE") == 0;
    source->has_rebalanced = true;
    for (int32_t i = 0; i < source->partition_count; i++)
        source->partitions[i].is_fresh = false;
    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS) {
        source->has_joined = true;
        source->is_late = false;
        assign(source, list);
    } else {
        revoke(source, list);
    }
}
