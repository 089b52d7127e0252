/* A topic that is made anew while it is read, and outgrows the old one before anybody asks, would pass for the old one:
 * the offset where reading goes on is there, and librdkafka 2.0.2 does not tell topics apart. So now and then Kafka is
 * asked what it cannot answer the same way in another log: the first offset that is as late as a message that was taken
 * (the anchor). In one log the answer only rises, when retention took messages. Where it has fallen, the anchor itself
 * is read again and its timestamp compared: an index that a broker built anew may answer with an offset that is lower,
 * in the same log.
 *
 * The anchor moves on with what is read, else retention would pass it. A new one is asked for before the old one is
 * looked at: when that still stands, the new one is of the same log. */
#include "ingest/source_kafka_internal.h"

enum {
    LOOK_MS = 5000,
    FIRST_MS = 500, /* until a partition that got no anchor is asked for again */
    ASK_MS = 1000,
};

static bool is_read(const struct kafka_partition *partition)
{
    return partition->is_ours && !partition->must_seek && !partition->is_checking && !partition->has_loss;
}

static void choose(struct kafka_partition *partition)
{
    partition->next_anchor = (struct kafka_anchor){.message = partition->position - 1, .stamp = partition->stamp};
    if (!is_read(partition) || partition->stamp < 0)
        partition->next_anchor.message = -1;
}

static void keep_next(struct kafka_partition *partition, int64_t first)
{
    partition->next_anchor.first = first;
    if (first <= 0 || first > partition->next_anchor.message) /* 0 would be the answer of any log */
        partition->next_anchor.message = -1;
}

static void judge(struct kafka_source *source, struct kafka_partition *partition, int64_t first)
{
    struct kafka_anchor anchor = partition->anchor;

    if (first >= 0 && first < anchor.first) {
        partition->anchor.message = -1;
        partition->position = anchor.message;
        partition->stamp = anchor.stamp;
        partition->is_checking = true;
        weir_kafka_demand_seek(source, partition);
    } else if (first != anchor.first || partition->next_anchor.message >= 0) {
        partition->anchor = partition->next_anchor;
    }
}

/* 1. the asking thread */

static bool ask(rd_kafka_t *handle, rd_kafka_topic_partition_list_t *list)
{
    return list->cnt > 0 && !rd_kafka_offsets_for_times(handle, list, ASK_MS);
}

static void *ask_both(void *context)
{
    struct kafka_look *look = context;

    look->is_next_answered = ask(look->handle, look->next);
    look->is_old_answered = ask(look->handle, look->old);
    look->are_ends_answered = ask(look->handle, look->ends);
    /* release publishes the answers. */
    atomic_store_explicit(&look->is_done, true, memory_order_release);
    return NULL;
}

/* 2. the polling thread */

static rd_kafka_topic_partition_list_t *list_of(const struct kafka_source *source, bool is_next)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++) {
        const struct kafka_partition *partition = &source->partitions[i];
        const struct kafka_anchor *anchor = is_next ? &partition->next_anchor : &partition->anchor;
        if (anchor->message >= 0 && is_read(partition))
            rd_kafka_topic_partition_list_add(list, source->topic, i)->offset = anchor->stamp;
    }
    return list;
}

static rd_kafka_topic_partition_list_t *ends_of(const struct kafka_source *source)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].is_paused && source->partitions[i].is_ours)
            rd_kafka_topic_partition_list_add(list, source->topic, i)->offset = RD_KAFKA_OFFSET_END;
    return list;
}

static void drop_lists(struct kafka_look *look)
{
    rd_kafka_topic_partition_list_destroy(look->ends);
    rd_kafka_topic_partition_list_destroy(look->next);
    rd_kafka_topic_partition_list_destroy(look->old);
}

static void begin_look(struct kafka_source *source, bool is_full)
{
    struct kafka_look *look = &source->look;

    for (int32_t i = 0; i < source->partition_count; i++) {
        source->partitions[i].next_anchor.message = -1;
        if (is_full || source->partitions[i].anchor.message < 0)
            choose(&source->partitions[i]);
    }
    look->handle = source->handle;
    look->is_full = is_full;
    look->next = list_of(source, true);
    look->old = is_full ? list_of(source, false) : rd_kafka_topic_partition_list_new(1);
    look->ends = ends_of(source);
    look->is_under_way = look->next->cnt + look->old->cnt + look->ends->cnt > 0;
    atomic_store_explicit(&look->is_done, false, memory_order_relaxed); /* the thread is not there yet */
    if (look->is_under_way)
        weir_check(pthread_create(&look->thread, NULL, ask_both, look) == 0);
    else
        drop_lists(look);
}

/* What became of a partition meanwhile: one that begins anew has no anchors, and one that is not read is left. */
static void end_look(struct kafka_source *source)
{
    struct kafka_look *look = &source->look;

    (void)pthread_join(look->thread, NULL);
    look->is_under_way = false;
    for (int i = 0; i < look->next->cnt; i++) {
        const rd_kafka_topic_partition_t *answer = &look->next->elems[i];
        bool is_known = look->is_next_answered && !answer->err;
        keep_next(weir_kafka_partition_of(source, answer->partition), is_known ? answer->offset : -1);
    }
    for (int i = 0; i < look->old->cnt; i++) {
        const rd_kafka_topic_partition_t *answer = &look->old->elems[i];
        struct kafka_partition *partition = weir_kafka_partition_of(source, answer->partition);
        if (look->is_old_answered && !answer->err && is_read(partition) && partition->anchor.message >= 0)
            judge(source, partition, answer->offset);
    }
    for (int i = 0; i < look->ends->cnt; i++) {
        const rd_kafka_topic_partition_t *answer = &look->ends->elems[i];
        weir_kafka_partition_of(source, answer->partition)->told_end =
            look->are_ends_answered && !answer->err ? answer->offset : -1;
    }
    drop_lists(look);
    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].anchor.message < 0 && is_read(&source->partitions[i]))
            source->partitions[i].anchor = source->partitions[i].next_anchor;
    source->next_first_anchor = weir_kafka_now_ms() + FIRST_MS;
    if (look->is_full)
        source->next_anchor_look = weir_kafka_now_ms() + LOOK_MS;
}

void weir_kafka_look_anchors(struct kafka_source *source)
{
    const struct kafka_look *look = &source->look;

    /* acquire: the answers. */
    if (look->is_under_way && atomic_load_explicit(&look->is_done, memory_order_acquire))
        end_look(source);
    int64_t now = weir_kafka_now_ms();
    if (!look->is_under_way && !source->until_end && !source->down_since && now >= source->next_first_anchor)
        begin_look(source, now >= source->next_anchor_look);
}

void weir_kafka_leave_anchors(struct kafka_source *source)
{
    if (source->look.is_under_way)
        end_look(source);
}
