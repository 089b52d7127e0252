/* Kafka through librdkafka's high-level consumer. Payloads are not copied: messages are views into librdkafka's, which
 * are given back at the next poll. Rebalances are served inside poll, so lanes come and go on the polling thread.
 *
 * Where a partition is read from is decided here (`position`), not by librdkafka. Its batch call (2.0.2; mended in 2.1)
 * counts a message as consumed when it puts it into the batch; a rebalance then takes messages of partitions that stay
 * ours out of the batch again, and goes on behind them: they would be skipped without a word. So after every rebalance
 * the batch is dropped whole, and each partition of ours is sought to its position. */
#include <stdlib.h>
#include <time.h>

#include "common/log.h"
#include "common/model/event.h"
#include "ingest/kafka_common.h"

enum {
    CALL_MS = 10000, /* synchronous questions to the brokers */
    ASK_MS = 2500,   /* one question of several tries */
    PROBE_MS = 100,  /* is anybody there again? */
    REACH_MS = 30000,
    SEEK_MS = 30000,      /* librdkafka may take this long until it can seek */
    SLICE_MS = 100,       /* of a wait for messages: in between, what a rebalance left to do is done */
    COMMIT_MS = 5000,     /* rarely: one that meets a rebalance costs us all partitions, see revoke */
    COMMIT_LOOK_MS = 300, /* but what has just begun or ended is told soon: until_end, others wait for it */
    REBALANCE_MS = 2000,  /* no commits for so long after partitions were revoked */
    END_CHECK_MS = 250,
    COMPLAIN_MS = 10000,
    JOIN_MS = 5000,
};

struct partition {
    bool is_ours;
    bool is_eof; /* nothing was there at the last look */
    bool is_paused;
    bool is_fresh;      /* assigned in this batch, and nothing of it has been seen or taken back */
    bool must_seek;     /* what arrives is not wanted until librdkafka has been told to read from position */
    int64_t seek_since; /* monotonic ms */
    int64_t position;   /* everything below was returned, or holds nothing for us; -1: where the partition begins */
    int64_t delivered;  /* last returned message + 1, or where reading began; -1: none yet */
    int64_t low, end;   /* until_end: as they were at the start */
    int64_t durable;    /* below this the worker needs nothing again; -1: nothing yet */
    int64_t committed;
};

struct kafka_source {
    struct weir_source source;
    struct weir_source_listener listener;
    rd_kafka_t *handle;
    rd_kafka_queue_t *queue;
    char *topic, *brokers;
    bool until_end;
    int reach_ms;
    bool is_cooperative;
    bool is_closing;     /* leaving the group by ourselves */
    bool has_joined;     /* has been told what its partitions are, though it may be none */
    bool has_rebalanced; /* since the batch was begun */
    bool has_seeks;      /* some partition must_seek */
    bool is_late;        /* poll was not called for so long that the group went on without us */
    int max_poll_ms;
    struct partition *partitions;
    int32_t partition_count;
    rd_kafka_message_t *held[WEIR_POLL_MESSAGES_MAX]; /* of the last poll */
    size_t held_count;
    struct weir_header *headers;
    size_t header_count, header_room;
    int64_t next_commit, last_commit, last_end_check, last_poll; /* monotonic ms */
    int64_t down_since, last_complaint;                          /* monotonic ms; down_since 0: brokers answer */
    char last_reason[256];                                       /* why they do not */
    bool is_ended;
    bool has_failed;
    struct weir_error failure;
};

static int64_t monotonic_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

static struct partition *partition_of(struct kafka_source *source, int32_t number)
{
    if (number >= source->partition_count) {
        source->partitions = weir_resize(source->partitions, (size_t)number + 1, sizeof *source->partitions);
        for (int32_t i = source->partition_count; i <= number; i++)
            source->partitions[i] = (struct partition){.delivered = -1, .durable = -1, .committed = -1};
        source->partition_count = number + 1;
    }
    weir_check(source->partitions != NULL);
    return &source->partitions[number];
}

static void fail(struct kafka_source *source, const struct weir_error *error)
{
    if (!source->has_failed)
        source->failure = *error;
    source->has_failed = true;
}

static void demand_seek(struct kafka_source *source, struct partition *partition)
{
    partition->must_seek = true;
    partition->seek_since = monotonic_ms();
    source->has_seeks = true;
}

/* Reading begins, or begins again, at offset; -1: where the partition begins. */
static void start_at(struct kafka_source *source, struct partition *partition, int64_t offset)
{
    partition->position = offset >= 0 ? offset : source->until_end ? partition->low : -1;
    partition->delivered = partition->durable = offset;
    partition->committed = -1; /* what the group has committed may be ahead of what is stored: it is set right soon */
    partition->is_eof = false;
    demand_seek(source, partition);
    source->is_ended = false;
}

/* 1. offsets for lag monitors
 * ------------------------------------------------------------------------------------------ */

/* Below this nobody need read again. What is behind the last message (transaction markers, aborted ones) needs no cut.
 */
static int64_t settled(const struct kafka_source *source, const struct partition *partition)
{
    int64_t position = partition->position;

    if (source->until_end && position > partition->end)
        position = partition->end > partition->low ? partition->end : partition->low;
    return partition->durable >= partition->delivered && position > partition->durable ? position : partition->durable;
}

static bool is_commit_due(const struct kafka_source *source, const struct partition *partition)
{
    int64_t offset = settled(source, partition);

    if (!partition->is_ours || offset < 0 || offset == partition->committed)
        return false;
    return partition->committed < 0 || monotonic_ms() - source->last_commit >= COMMIT_MS
           || (source->until_end && offset >= partition->end) || source->is_closing;
}

static void commit(struct kafka_source *source)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++) {
        struct partition *partition = &source->partitions[i];
        if (!is_commit_due(source, partition))
            continue;
        partition->committed = settled(source, partition);
        rd_kafka_topic_partition_list_add(list, source->topic, i)->offset = partition->committed;
    }
    if (list->cnt > 0) {
        (void)rd_kafka_commit(source->handle, list, true); /* what becomes of it: on_commit */
        source->last_commit = monotonic_ms();
    }
    rd_kafka_topic_partition_list_destroy(list);
    source->next_commit = monotonic_ms() + COMMIT_LOOK_MS;
}

/* A commit that failed (a rebalance under way) is repeated with the next one; nothing rests on it but lag figures, and
 * other workers' waiting at the end. */
static void on_commit(rd_kafka_t *handle, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t *list,
                      void *context)
{
    struct kafka_source *source = context;

    (void)handle;
    for (int i = 0; list && i < list->cnt; i++)
        if ((error || list->elems[i].err) && list->elems[i].partition >= 0)
            partition_of(source, list->elems[i].partition)->committed = -1;
}

static void mark_durable(struct weir_source *self, int32_t number, int64_t next_offset)
{
    struct partition *partition = partition_of((struct kafka_source *)self, number);

    if (next_offset > partition->durable)
        partition->durable = next_offset;
}

/* 2. rebalances
 * ---------------------------------------------------------------------------------------------------------- */
static rd_kafka_topic_partition_list_t *one(const struct kafka_source *source, int32_t number, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, source->topic, number)->offset = offset;
    return list;
}

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
        struct partition *partition = partition_of(source, list->elems[i].partition);
        struct weir_error error;
        int64_t offset = -1;
        partition->is_ours =
            source->listener.assigned(source->listener.context, topic, list->elems[i].partition, &offset, &error);
        if (!partition->is_ours)
            fail(source, &error);
        list->elems[i].offset = offset < 0 ? RD_KAFKA_OFFSET_BEGINNING : offset;
        start_at(source, partition, offset);
        partition->is_fresh = true;
    }
    if (source->is_cooperative)
        log_refusal(rd_kafka_incremental_assign(source->handle, list), "assign");
    else
        rd_kafka_assign(source->handle, list);
    if (source->next_commit < monotonic_ms() + COMMIT_LOOK_MS)
        source->next_commit = monotonic_ms() + COMMIT_LOOK_MS;
}

static void resume_partition(struct weir_source *self, int32_t number);

static void revoke(struct kafka_source *source, rd_kafka_topic_partition_list_t *list)
{
    struct weir_slice topic = weir_slice_text(source->topic);
    /* librdkafka forgets to say "lost" when a revocation was waiting while the time ran out. */
    bool lost = rd_kafka_assignment_lost(source->handle) || source->is_late;

    for (int i = 0; i < list->cnt; i++) {
        if (!partition_of(source, list->elems[i].partition)->is_ours)
            continue;
        source->listener.revoked(source->listener.context, topic, list->elems[i].partition, lost);
        resume_partition(&source->source,
                         list->elems[i].partition); /* librdkafka would keep it paused when it comes back */
    }
    /* In a rebalance a commit may reach the broker with the old generation, and librdkafka then drops the whole
     * assignment as lost. The next owner commits what it finds stored. */
    if (source->is_closing && !lost)
        commit(source);
    source->next_commit = monotonic_ms() + REBALANCE_MS;
    for (int i = 0; i < list->cnt; i++)
        partition_of(source, list->elems[i].partition)->is_ours = false;
    if (source->is_cooperative)
        log_refusal(rd_kafka_incremental_unassign(source->handle, list), "unassign");
    else
        rd_kafka_assign(source->handle, NULL);
}

static void on_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t what, rd_kafka_topic_partition_list_t *list,
                         void *context)
{
    struct kafka_source *source = context;

    source->is_cooperative = strcmp(rd_kafka_rebalance_protocol(handle), "COOPERATIVE") == 0;
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

/* 3. brokers that do not answer
 * -------------------------------------------------------------------------------------------- */
static void on_error(rd_kafka_t *handle, int code, const char *reason, void *context)
{
    struct kafka_source *source = context;
    struct weir_error error;
    char text[512];

    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(handle, text, sizeof text);
        weir_fail(&error, WEIR_FATAL, "Kafka: %s", text);
        fail(source, &error);
        return;
    }
    if (code == RD_KAFKA_RESP_ERR__ALL_BROKERS_DOWN) { /* comes beside the reason, which names the broker */
        if (!source->down_since)
            source->down_since = monotonic_ms();
        return;
    }
    (void)snprintf(source->last_reason, sizeof source->last_reason, "%s", reason);
    weir_log(WEIR_LOG_DEBUG, "kafka: %s (%s)", reason, rd_kafka_err2name((rd_kafka_resp_err_t)code));
}

/* Says every ten seconds that nobody answers, until somebody does. */
static void watch_brokers(struct kafka_source *source)
{
    const struct rd_kafka_metadata *metadata;
    struct weir_error error;
    int64_t now = monotonic_ms();

    if (!source->down_since || now - source->last_complaint < COMPLAIN_MS)
        return;
    source->last_complaint = now;
    if (rd_kafka_metadata(source->handle, 0, NULL, &metadata, PROBE_MS) == RD_KAFKA_RESP_ERR_NO_ERROR) {
        rd_kafka_metadata_destroy(metadata);
        source->down_since = 0;
        return;
    }
    if (source->until_end && now - source->down_since >= source->reach_ms) {
        weir_fail(&error, WEIR_FATAL, "Kafka at %s has not answered for %d s: %s", source->brokers,
                  source->reach_ms / 1000, source->last_reason);
        fail(source, &error);
        return;
    }
    weir_log(WEIR_LOG_WARN, "Kafka at %s does not answer (%s); trying on", source->brokers, source->last_reason);
}

/* 4. messages
 * -------------------------------------------------------------------------------------------------------------- */

/* Adds the message's headers to the batch's array; pointers are set when that has stopped moving. */
static void take_headers(struct kafka_source *source, const rd_kafka_message_t *from, struct weir_message *message)
{
    rd_kafka_headers_t *headers;
    const char *name;
    const void *value;
    size_t size;

    if (rd_kafka_message_headers(from, &headers) != RD_KAFKA_RESP_ERR_NO_ERROR)
        return;
    size_t count = rd_kafka_header_cnt(headers);
    if (count > WEIR_HEADERS_MAX) {
        message->is_too_large = true;
        count = WEIR_HEADERS_MAX;
    }
    if (source->header_room - source->header_count < count) {
        source->header_room = (source->header_count + count) * 2;
        source->headers = weir_resize(source->headers, source->header_room, sizeof *source->headers);
    }
    for (size_t i = 0; i < count && !rd_kafka_header_get_all(headers, i, &name, &value, &size); i++) {
        source->headers[source->header_count++] =
            (struct weir_header){weir_slice_text(name), weir_slice_of(value, value ? size : 0)};
        message->header_count++;
    }
}

/* false: nobody wants it. */
static bool take_message(struct kafka_source *source, const rd_kafka_message_t *from, struct weir_message *message)
{
    struct partition *partition = partition_of(source, from->partition);

    if (!partition->is_ours || partition->must_seek || from->offset < partition->position)
        return false;
    partition->position = from->offset + 1;
    partition->is_eof = false;
    if (source->until_end && from->offset >= partition->end)
        return false;
    partition->delivered = from->offset + 1;
    *message = (struct weir_message){
        .topic = weir_slice_text(source->topic),
        .partition = from->partition,
        .offset = from->offset,
        .sequence = from->offset,
        .is_tombstone = from->payload == NULL,
        .is_too_large = from->len > WEIR_EVENT_BYTES_MAX,
        .value = weir_slice_of(from->payload, from->len > WEIR_EVENT_BYTES_MAX ? WEIR_EVENT_BYTES_MAX : from->len),
    };
    take_headers(source, from, message);
    return true;
}

/* librdkafka does not know where to go on. */
static enum weir_status out_of_range(struct kafka_source *source, const rd_kafka_message_t *from,
                                     struct weir_error *reterr)
{
    int64_t position = partition_of(source, from->partition)->position;
    int64_t low = -1, high = -1;

    if (rd_kafka_query_watermark_offsets(source->handle, source->topic, from->partition, &low, &high, CALL_MS)
        || (position >= low && position <= high))
        return weir_fail(reterr, WEIR_FATAL, "lane %s:%d cannot be read from offset %lld: %s", source->topic,
                         from->partition, (long long)position, rd_kafka_message_errstr(from));
    return weir_fail(reterr, WEIR_FATAL,
                     "lane %s:%d is to be read from offset %lld, but Kafka holds only %lld to %lld: retention, or a "
                     "topic made anew, took the rest. Nothing was skipped: bring the topic back, or go on without by "
                     "setting the lane's next_offset in the window store (docs/redis.md)",
                     source->topic, from->partition, (long long)position, (long long)low, (long long)high);
}

/* A topic may seem gone for a moment while brokers change; is it? */
static enum weir_status unknown_topic(struct kafka_source *source, struct weir_error *reterr)
{
    int32_t count;
    enum weir_status status =
        weir_kafka_partitions(source->handle, source->brokers, source->topic, CALL_MS, &count, reterr);

    return status == WEIR_REJECT ? WEIR_FATAL : WEIR_OK;
}

/* What is no message: the end of a partition, or an error. */
static enum weir_status take_notice(struct kafka_source *source, const rd_kafka_message_t *from,
                                    struct weir_error *reterr)
{
    struct partition *partition = from->partition >= 0 ? partition_of(source, from->partition) : NULL;

    switch (from->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (!partition || partition->must_seek || !partition->is_ours || from->offset < partition->position)
            return WEIR_OK;
        partition->is_eof = true;
        partition->position = from->offset;
        return WEIR_OK;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return partition && partition->is_ours ? out_of_range(source, from, reterr) : WEIR_OK;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return unknown_topic(source, reterr);
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return weir_fail(reterr, WEIR_FATAL, "topic '%s' at %s: %s", source->topic, source->brokers,
                         rd_kafka_err2str(from->err));
    default:
        weir_log(WEIR_LOG_WARN, "kafka: %s (%s); trying on", rd_kafka_message_errstr(from),
                 rd_kafka_err2name(from->err));
        return WEIR_OK;
    }
}

static void give_back(struct kafka_source *source)
{
    for (size_t i = 0; i < source->held_count; i++)
        rd_kafka_message_destroy(source->held[i]);
    source->held_count = 0;
    source->header_count = 0;
}

/* The next batch into held: what is there, else the first that comes within the time. librdkafka itself would wait for
 * the whole batch. */
static void fetch(struct kafka_source *source, int timeout_ms, size_t max)
{
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : monotonic_ms() + timeout_ms;
    ssize_t got = rd_kafka_consume_batch_queue(source->queue, 0, source->held, max);

    while (got == 0 && !source->has_rebalanced && !source->has_failed && timeout_ms != 0) {
        int64_t left = deadline - monotonic_ms();
        if (left <= 0)
            break;
        got = rd_kafka_consume_batch_queue(source->queue, left < SLICE_MS ? (int)left : SLICE_MS, source->held, 1);
        if (got == 1 && max > 1) {
            ssize_t more = rd_kafka_consume_batch_queue(source->queue, 0, source->held + 1, max - 1);
            got += more > 0 ? more : 0;
        }
    }
    source->held_count = got > 0 ? (size_t)got : 0;
    if (source->held_count > 0)
        source->down_since = 0;
}

/* Tells librdkafka where to read, for partitions that came to us or were sought. */
static enum weir_status seek_all(struct kafka_source *source, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (!source->has_seeks)
        return WEIR_OK;
    source->has_seeks = false;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);
    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].is_ours && source->partitions[i].must_seek)
            rd_kafka_topic_partition_list_add(list, source->topic, i)->offset =
                source->partitions[i].position < 0 ? RD_KAFKA_OFFSET_BEGINNING : source->partitions[i].position;
    if (list->cnt > 0)
        rd_kafka_error_destroy(rd_kafka_seek_partitions(source->handle, list, CALL_MS));
    for (int i = 0; i < list->cnt && status == WEIR_OK; i++) {
        struct partition *partition = partition_of(source, list->elems[i].partition);
        rd_kafka_resp_err_t error = list->elems[i].err;
        /* "Wrong state": an assignment that has not been carried out yet. */
        partition->must_seek = error != RD_KAFKA_RESP_ERR_NO_ERROR;
        source->has_seeks |= partition->must_seek;
        if (error && monotonic_ms() - partition->seek_since > SEEK_MS)
            status = weir_fail(reterr, WEIR_FATAL, "lane %s:%d cannot be read from offset %lld: %s", source->topic,
                               list->elems[i].partition, (long long)partition->position, rd_kafka_err2str(error));
    }
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

/* 5. the end
 * ------------------------------------------------------------------------------------------------------------------ */

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
        is_done = rd_kafka_committed(source->handle, list, CALL_MS) == RD_KAFKA_RESP_ERR_NO_ERROR;
    for (int i = 0; i < list->cnt && is_done; i++)
        is_done = list->elems[i].offset >= partition_of(source, list->elems[i].partition)->end;
    rd_kafka_topic_partition_list_destroy(list);
    return is_done;
}

static bool is_at_end(struct kafka_source *source)
{
    if (source->is_ended)
        return true;
    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].is_ours && source->partitions[i].position < source->partitions[i].end)
            return false;
    if (!source->has_joined || monotonic_ms() - source->last_end_check < END_CHECK_MS)
        return false;
    source->is_ended = others_are_done(source);
    source->last_end_check = monotonic_ms();
    return source->is_ended;
}

static enum weir_status ask_ends(struct kafka_source *source, struct weir_error *reterr)
{
    int32_t count = 0;
    enum weir_status status =
        weir_kafka_partitions(source->handle, source->brokers, source->topic, ASK_MS, &count, reterr);

    for (int32_t i = 0; i < count && status == WEIR_OK; i++) {
        struct partition *partition = partition_of(source, i);
        rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(source->handle, source->topic, i, &partition->low,
                                                                     &partition->end, ASK_MS);
        if (error)
            status = weir_fail(reterr, WEIR_RETRY, "topic '%s' at %s: the end of partition %d cannot be asked for: %s",
                               source->topic, source->brokers, i, rd_kafka_err2str(error));
    }
    return status;
}

/* Where the topic ends now, for until_end. */
static enum weir_status find_ends(struct kafka_source *source, struct weir_error *reterr)
{
    int64_t deadline = monotonic_ms() + source->reach_ms;
    enum weir_status status;

    while ((status = ask_ends(source, reterr)) == WEIR_RETRY && monotonic_ms() < deadline) {
        rd_kafka_poll(source->handle, PROBE_MS); /* on_error learns why */
        watch_brokers(source);
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

/* 6. the interface
 * --------------------------------------------------------------------------------------------------------------- */
static enum weir_status take_batch(struct kafka_source *source, struct weir_message *ret_messages, size_t *ret_count,
                                   struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    size_t count = 0, headers = 0;

    for (size_t i = 0; i < source->held_count && status == WEIR_OK; i++) {
        const rd_kafka_message_t *from = source->held[i];
        if (from->err)
            status = take_notice(source, from, reterr);
        else if (take_message(source, from, &ret_messages[count]))
            count++;
    }
    for (size_t i = 0; i < count; i++) { /* the array of headers moves no more */
        ret_messages[i].headers = source->headers + headers;
        headers += ret_messages[i].header_count;
    }
    if (status == WEIR_OK)
        *ret_count = count;
    return status;
}

/* See the top of this file. A partition that has just come, and of which nothing was fetched yet, is read from the
 * right place already: another seek would cost it half a second. */
static void settle_rebalance(struct kafka_source *source)
{
    source->has_rebalanced = false;
    for (size_t i = 0; i < source->held_count; i++)
        if (source->held[i]->partition >= 0)
            partition_of(source, source->held[i]->partition)->is_fresh = false;
    for (int32_t i = 0; i < source->partition_count; i++) {
        struct partition *partition = &source->partitions[i];
        if (partition->is_fresh)
            partition->must_seek = false;
        else
            demand_seek(source, partition);
        partition->is_fresh = false;
    }
}

static enum weir_status poll_messages(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages,
                                      size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct kafka_source *source = (struct kafka_source *)self;
    enum weir_status status;

    give_back(source);
    *ret_count = 0;
    if (source->last_poll && monotonic_ms() - source->last_poll >= source->max_poll_ms)
        source->is_late = true;
    if (monotonic_ms() >= source->next_commit)
        commit(source);
    watch_brokers(source);
    status = seek_all(source, reterr);
    if (status != WEIR_OK)
        return status;
    fetch(source, timeout_ms, max < WEIR_POLL_MESSAGES_MAX ? max : WEIR_POLL_MESSAGES_MAX);
    source->last_poll = monotonic_ms();
    if (source->has_rebalanced)
        settle_rebalance(source);
    status = take_batch(source, ret_messages, ret_count, reterr);
    if (status == WEIR_OK && source->has_failed) {
        *ret_count = 0;
        *reterr = source->failure;
        status = WEIR_FATAL;
    }
    if (status == WEIR_OK && source->until_end && *ret_count == 0 && is_at_end(source))
        return WEIR_AGAIN;
    return status;
}

static void pause_partition(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    struct partition *partition = partition_of(source, number);
    rd_kafka_topic_partition_list_t *list = one(source, number, RD_KAFKA_OFFSET_INVALID);

    if (partition->is_ours && !partition->is_paused) {
        rd_kafka_pause_partitions(source->handle, list);
        partition->is_paused = true;
        partition->is_eof = false; /* nobody looks while it is paused; after it, the end is told again */
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static void resume_partition(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    struct partition *partition = partition_of(source, number);
    rd_kafka_topic_partition_list_t *list = one(source, number, RD_KAFKA_OFFSET_INVALID);

    /* Resuming what is not paused would drop what was fetched. */
    if (partition->is_paused) {
        rd_kafka_resume_partitions(source->handle, list);
        partition->is_paused = false;
        demand_seek(source, partition);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static enum weir_status seek_partition(struct weir_source *self, int32_t number, int64_t offset,
                                       struct weir_error *reterr)
{
    struct kafka_source *source = (struct kafka_source *)self;

    (void)reterr;
    start_at(source, partition_of(source, number), offset); /* the next poll carries it out */
    return WEIR_OK;
}

static bool is_caught_up(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    const struct partition *partition = partition_of(source, number);

    return partition->is_eof || (source->until_end && partition->is_ours && partition->position >= partition->end);
}

int64_t weir_source_kafka_lag(const struct weir_source *self, int32_t number)
{
    const struct kafka_source *source = (const struct kafka_source *)self;
    int64_t low, high;

    if (number < 0 || number >= source->partition_count || !source->partitions[number].is_ours)
        return -1;
    const struct partition *partition = &source->partitions[number];
    if (partition->is_eof)
        return 0;
    if (rd_kafka_get_watermark_offsets(source->handle, source->topic, number, &low, &high) || high < 0)
        return -1;
    int64_t position = partition->position >= 0 ? partition->position : low;
    return position < 0 ? -1 : high > position ? high - position : 0;
}

/* A member that has no id yet cannot take leave, and the group would wait for it until its session times out. */
static void wait_for_member_id(struct kafka_source *source)
{
    int64_t deadline = monotonic_ms() + JOIN_MS;
    bool has_id = source->has_joined;

    while (!has_id && monotonic_ms() < deadline) {
        char *id = rd_kafka_memberid(source->handle);
        has_id = id && *id;
        rd_kafka_mem_free(source->handle, id);
        ssize_t got = has_id ? 0 : rd_kafka_consume_batch_queue(source->queue, JOIN_MS / 50, source->held, 1);
        source->held_count = got > 0 ? (size_t)got : 0;
        give_back(source);
    }
}

static void free_source(struct weir_source *self)
{
    struct kafka_source *source = (struct kafka_source *)self;

    give_back(source);
    source->is_closing = true;
    if (source->queue) {
        wait_for_member_id(source);
        rd_kafka_queue_destroy(source->queue);
        rd_kafka_consumer_close(source->handle); /* revokes everything: the listener hands the lanes over */
    }
    /* librdkafka before 2.3 aborts on destroying a member that joined and was not assigned anything yet (its issue
     * 4312). It has left the group, and the process is about to end: its memory stays. */
    if (source->handle && (!source->queue || source->has_joined || rd_kafka_version() >= 0x02030000))
        rd_kafka_destroy(source->handle);
    free(source->partitions);
    free(source->headers);
    free(source->topic);
    free(source->brokers);
    free(source);
}

static enum weir_status open_consumer(struct kafka_source *source, const struct weir_kafka_settings *settings,
                                      struct weir_error *reterr)
{
    static const struct weir_kafka_pair defaults[] = {
        {"partition.assignment.strategy", "cooperative-sticky"},
        {"isolation.level", "read_committed"},
        {"fetch.message.max.bytes", "4194304"},
        {"queued.max.messages.kbytes", "65536"},
        {"queued.min.messages", "200000"},
        {"session.timeout.ms", "10000"}, /* how long the lanes of a worker that died wait for another one */
        {"client.id", "weir-ingest"},
        {NULL, NULL},
    };
    const struct weir_kafka_pair owned[] = {
        {"group.id", settings->group},  {"enable.auto.commit", "false"},  {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"}, {"enable.partition.eof", "true"}, {NULL, NULL},
    };
    char text[512];
    rd_kafka_conf_t *conf;
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);

    if (status != WEIR_OK)
        return status;
    size_t size = sizeof text;
    if (rd_kafka_conf_get(conf, "max.poll.interval.ms", text, &size) == RD_KAFKA_CONF_OK)
        source->max_poll_ms = (int)strtol(text, NULL, 10);
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_error_cb(conf, on_error);
    rd_kafka_conf_set_offset_commit_cb(conf, on_commit);
    rd_kafka_conf_set_opaque(conf, source);
    source->handle = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!source->handle) {
        rd_kafka_conf_destroy(conf);
        return weir_fail(reterr, WEIR_REJECT, "Kafka consumer: %s", text);
    }
    if (source->until_end && (status = find_ends(source, reterr)) != WEIR_OK)
        return status;
    rd_kafka_poll_set_consumer(source->handle);
    source->queue = rd_kafka_queue_get_consumer(source->handle);
    rd_kafka_topic_partition_list_t *topics = one(source, RD_KAFKA_PARTITION_UA, RD_KAFKA_OFFSET_INVALID);
    rd_kafka_resp_err_t error = rd_kafka_subscribe(source->handle, topics);
    rd_kafka_topic_partition_list_destroy(topics);
    return error ? weir_fail(reterr, WEIR_FATAL, "topic '%s': %s", source->topic, rd_kafka_err2str(error)) : WEIR_OK;
}

enum weir_status weir_source_kafka_open(const struct weir_kafka_settings *settings,
                                        const struct weir_source_listener *listener, struct weir_source **ret_source,
                                        struct weir_error *reterr)
{
    static const struct weir_source_ops ops = {
        .name = "kafka",
        .poll = poll_messages,
        .pause = pause_partition,
        .resume = resume_partition,
        .seek = seek_partition,
        .mark_durable = mark_durable,
        .is_caught_up = is_caught_up,
        .free = free_source,
    };
    struct kafka_source *source = weir_new(sizeof *source);

    source->source.ops = &ops;
    source->listener = *listener;
    source->until_end = settings->until_end;
    source->reach_ms = settings->reach_ms ? settings->reach_ms : REACH_MS;
    source->last_complaint = -COMPLAIN_MS;
    source->topic = weir_copy_text(settings->topic, strlen(settings->topic));
    source->brokers = weir_copy_text(settings->brokers, strlen(settings->brokers));
    enum weir_status status = open_consumer(source, settings, reterr);
    if (status == WEIR_OK)
        *ret_source = &source->source;
    else
        free_source(&source->source);
    return status;
}
