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
    REST = 20, /* looks take at most one part in so many of the time, also when a broker hangs: nothing is read
                  meanwhile */
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

/* One question for all partitions, how many of them; those that nobody answers for stay as they are. */
static int ask(struct kafka_source *source, bool is_next)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++) {
        const struct kafka_partition *partition = &source->partitions[i];
        const struct kafka_anchor *anchor = is_next ? &partition->next_anchor : &partition->anchor;
        if (anchor->message >= 0 && is_read(partition))
            rd_kafka_topic_partition_list_add(list, source->topic, i)->offset = anchor->stamp;
    }
    bool is_answered = list->cnt > 0 && !rd_kafka_offsets_for_times(source->handle, list, ASK_MS);
    for (int i = 0; i < list->cnt; i++) {
        struct kafka_partition *partition = weir_kafka_partition_of(source, list->elems[i].partition);
        bool is_known = is_answered && !list->elems[i].err;
        if (is_next)
            keep_next(partition, is_known ? list->elems[i].offset : -1);
        else if (is_known)
            judge(source, partition, list->elems[i].offset);
    }
    int count = list->cnt;
    rd_kafka_topic_partition_list_destroy(list);
    return count;
}

void weir_kafka_look_anchors(struct kafka_source *source)
{
    int64_t now = weir_kafka_now_ms();
    bool is_full = now >= source->next_anchor_look;

    if (source->until_end || source->down_since || now < source->next_first_anchor)
        return;
    for (int32_t i = 0; i < source->partition_count; i++) {
        source->partitions[i].next_anchor.message = -1;
        if (is_full || source->partitions[i].anchor.message < 0)
            choose(&source->partitions[i]);
    }
    int asked = ask(source, true);
    asked += is_full ? ask(source, false) : 0;
    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].anchor.message < 0 && is_read(&source->partitions[i]))
            source->partitions[i].anchor = source->partitions[i].next_anchor;
    if (asked == 0)
        return;
    int64_t ended = weir_kafka_now_ms(), rest = (ended - now) * REST;
    source->next_first_anchor = ended + (rest > FIRST_MS ? rest : FIRST_MS);
    if (is_full)
        source->next_anchor_look = ended + LOOK_MS;
}
