/* Brokers that do not answer, and the end of a batch run (until_end). */
#include <stdio.h>

#include "common/log.h"
#include "ingest/source_kafka_internal.h"

enum {
    ASK_MS = 2500,  /* one question of several tries */
    PROBE_MS = 500, /* is anybody there? Brokers may be an ocean away */
    END_CHECK_MS = 250,
    PROBE_EVERY_MS = 1000,
    COMPLAIN_MS = 60000,
};

/* 1. brokers that do not answer */
void weir_kafka_on_error(rd_kafka_t *handle, int code, const char *reason, void *context)
{
    struct kafka_source *source = context;

    (void)handle;
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) { /* comes beside the reason, which names the broker */
        if (!source->down_since)
            source->down_since = weir_kafka_now_ms();
        return;
    }
    /* "All are down" does not come when librdkafka still counts on one that it has not tried: so any lost connection
     * makes us ask. */
    if (code == RD_KAFKA_RESP_ERR__TRANSPORT)
        source->is_suspect = true;
    (void)snprintf(source->last_reason, sizeof source->last_reason, "%s", reason);
    weir_log(WEIR_LOG_DEBUG, "kafka: %s (%s)", reason, rd_kafka_err2name((rd_kafka_resp_err_t)code));
}

/* What was the end before they went may be it no longer: each partition is sought again, and librdkafka then tells
 * its end anew. */
void weir_kafka_brokers_are_back(struct kafka_source *source)
{
    if (source->last_complaint >= source->down_since)
        weir_log(WEIR_LOG_INFO, "Kafka at %s answers again, after %lld s", source->brokers,
                 (long long)(weir_kafka_now_ms() - source->down_since) / 1000);
    source->down_since = 0;
    for (int32_t i = 0; i < source->partition_count; i++) {
        struct kafka_partition *partition = &source->partitions[i];
        partition->is_end_old = true;
        if (!partition->is_ours || !partition->is_eof)
            continue;
        partition->is_eof = false;
        weir_kafka_demand_seek(source, partition);
    }
}

static bool somebody_answers(struct kafka_source *source)
{
    const struct rd_kafka_metadata *metadata;

    if (rd_kafka_metadata(source->handle, 0, NULL, &metadata, PROBE_MS) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return false;
    rd_kafka_metadata_destroy(metadata);
    return true;
}

/* Looks every second whether somebody answers; says once that nobody does, and every minute from then on. */
void weir_kafka_watch_brokers(struct kafka_source *source)
{
    struct weir_error error;
    int64_t now = weir_kafka_now_ms();

    if ((!source->down_since && !source->is_suspect) || now - source->last_probe < PROBE_EVERY_MS)
        return;
    source->last_probe = now;
    source->is_suspect = false;
    bool is_answered = somebody_answers(source);
    if (is_answered && source->down_since)
        weir_kafka_brokers_are_back(source);
    if (is_answered)
        return;
    if (!source->down_since)
        source->down_since = now;
    if (source->until_end && now - source->down_since >= source->reach_ms) {
        weir_fail(&error, WEIR_FATAL, "Kafka at %s has not answered for %d s: %s", source->brokers,
                  source->reach_ms / 1000, source->last_reason);
        weir_kafka_give_up(source, &error);
        return;
    }
    if (source->last_complaint >= source->down_since && now - source->last_complaint < COMPLAIN_MS)
        return;
    source->last_complaint = now;
    weir_log(WEIR_LOG_WARN, "Kafka at %s does not answer (%s); trying on", source->brokers, source->last_reason);
}

/* 2. the end */

/* Whether the others' partitions are at their end as well, as their commits say: a partition that is on its way between
 * two workers must not be left behind by both. (Commits of an earlier run are set right by whoever is assigned.) */
static bool others_are_done(struct kafka_source *source)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);
    bool is_done = true;

    for (int32_t i = 0; i < source->partition_count; i++)
        if (!source->partitions[i].is_ours && source->partitions[i].end > source->partitions[i].low)
            rd_kafka_topic_partition_list_add(list, source->topic, i);
    if (list->cnt > 0)
        is_done = rd_kafka_committed(source->handle, list, WEIR_KAFKA_CALL_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; i < list->cnt && is_done; i++)
        is_done = list->elems[i].offset >= weir_kafka_partition_of(source, list->elems[i].partition)->end;
    rd_kafka_topic_partition_list_destroy(list);
    return is_done;
}

bool weir_kafka_is_at_end(struct kafka_source *source)
{
    if (source->is_ended)
        return true;
    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].is_ours
            && (source->partitions[i].position < source->partitions[i].end || source->partitions[i].is_checking
                || source->partitions[i].has_loss))
            return false;
    if (!source->has_joined || weir_kafka_now_ms() - source->last_end_check < END_CHECK_MS)
        return false;
    source->is_ended = others_are_done(source);
    source->last_end_check = weir_kafka_now_ms();
    return source->is_ended;
}

static enum weir_status ask_ends(struct kafka_source *source, struct weir_error *reterr)
{
    int32_t count = 0;
    enum weir_status status =
        weir_kafka_partitions(source->handle, source->brokers, source->topic, ASK_MS, &count, reterr);

    for (int32_t i = 0; i < count && status == WEIR_OK; i++) {
        struct kafka_partition *partition = weir_kafka_partition_of(source, i);
        rd_kafka_resp_err_t error =
            weir_kafka_range(source->handle, source->topic, i, ASK_MS, &partition->low, &partition->end);
        if (error)
            status = weir_fail(reterr, WEIR_RETRY, "topic '%s' at %s: the end of partition %d cannot be asked for: %s",
                               source->topic, source->brokers, i, rd_kafka_err2str(error));
    }
    return status;
}

/* Where the topic ends now, for until_end. */
enum weir_status weir_kafka_find_ends(struct kafka_source *source, struct weir_error *reterr)
{
    int64_t deadline = weir_kafka_now_ms() + source->reach_ms;
    enum weir_status status;

    while ((status = ask_ends(source, reterr)) == WEIR_RETRY && weir_kafka_now_ms() < deadline) {
        rd_kafka_poll(source->handle, PROBE_MS); /* on_error learns why */
        weir_kafka_watch_brokers(source);
    }
    if (status != WEIR_RETRY)
        return status;
    rd_kafka_poll(source->handle, 0);
    if (!*source->last_reason)
        return WEIR_FATAL;
    return weir_fail(reterr, WEIR_FATAL,
                     "Kafka at %s has not answered for %d s: %s. Is it up, and kafka.brokers right?", source->brokers,
                     source->reach_ms / 1000, source->last_reason);
}
