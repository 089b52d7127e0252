/* Kafka through librdkafka's high-level consumer. Payloads are not copied: messages are views into librdkafka's, which
 * are given back at the next poll. Rebalances are served inside poll, so lanes come and go on the polling thread. */
#include <stdlib.h>
#include <time.h>

#include "common/log.h"
#include "common/model/event.h"
#include "ingest/kafka_common.h"

enum {
    CALL_MS = 10000,       /* synchronous questions to the brokers */
    REACH_MS = 30000,      /* until_end: how long brokers may stay away at the start */
    COMMIT_MS = 1000,
    COMMIT_END_MS = 300,   /* until_end: other workers wait for our offsets */
    REBALANCE_MS = 2000,   /* no commits for so long after partitions were revoked */
    END_CHECK_MS = 250,
    COMPLAIN_MS = 10000,
};

struct partition {
    bool is_known;      /* was seen in the topic or assigned */
    bool is_ours;
    bool is_eof;        /* nothing was there at the last look */
    int64_t position;   /* everything below was returned, or holds nothing for us */
    int64_t delivered;  /* last returned message + 1; -1: none yet */
    int64_t low, end;   /* until_end: as they were at the start */
    int64_t durable;    /* to be committed; -1: nothing yet */
    int64_t committed;
};

struct kafka_source {
    struct weir_source source;
    struct weir_source_listener listener;
    rd_kafka_t *handle;
    rd_kafka_queue_t *queue;
    char *topic, *brokers;
    bool until_end;
    bool is_cooperative;
    bool is_closing; /* leaving the group by ourselves */
    bool was_assigned;
    struct partition *partitions;
    int32_t partition_count;
    rd_kafka_message_t *held[WEIR_POLL_MESSAGES_MAX]; /* of the last poll */
    size_t held_count;
    struct weir_header *headers;
    size_t header_count, header_room;
    int64_t last_commit, last_end_check, last_complaint; /* monotonic ms */
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
    return &source->partitions[number];
}

static void fail(struct kafka_source *source, const struct weir_error *error)
{
    if (!source->has_failed)
        source->failure = *error;
    source->has_failed = true;
}

/* 1. offsets for lag monitors ------------------------------------------------------------------------------------------ */
static void commit(struct kafka_source *source, bool is_async)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);

    for (int32_t i = 0; i < source->partition_count; i++) {
        struct partition *partition = &source->partitions[i];
        if (!partition->is_ours || partition->durable <= partition->committed)
            continue;
        rd_kafka_topic_partition_list_add(list, source->topic, i)->offset = partition->durable;
        partition->committed = partition->durable;
    }
    /* A commit that fails (a rebalance under way) is repeated with the next one; nothing rests on it but lag figures. */
    if (list->cnt > 0 && rd_kafka_commit(source->handle, list, is_async) != RD_KAFKA_RESP_ERR_NO_ERROR)
        for (int i = 0; i < list->cnt; i++)
            partition_of(source, list->elems[i].partition)->committed = -1;
    rd_kafka_topic_partition_list_destroy(list);
    source->last_commit = monotonic_ms();
}

static void mark_durable(struct weir_source *self, int32_t number, int64_t next_offset)
{
    struct partition *partition = partition_of((struct kafka_source *)self, number);

    /* What is behind the last message (transaction markers) needs no cut. */
    if (partition->is_eof && next_offset >= partition->delivered)
        next_offset = partition->position;
    if (next_offset > partition->durable)
        partition->durable = next_offset;
}

/* 2. rebalances ---------------------------------------------------------------------------------------------------------- */
static void assign(struct kafka_source *source, rd_kafka_topic_partition_list_t *list)
{
    struct weir_slice topic = weir_slice_text(source->topic);

    for (int i = 0; i < list->cnt; i++) {
        struct partition *partition = partition_of(source, list->elems[i].partition);
        struct weir_error error;
        int64_t offset = -1;
        if (!source->listener.assigned(source->listener.context, topic, list->elems[i].partition, &offset, &error)) {
            fail(source, &error);
            offset = -1;
        }
        list->elems[i].offset = offset < 0 ? RD_KAFKA_OFFSET_BEGINNING : offset;
        partition->is_known = partition->is_ours = true;
        partition->is_eof = false;
        partition->position = offset < 0 ? partition->low : offset;
        partition->delivered = partition->durable = offset;
        partition->committed = -1;
    }
    if (source->is_cooperative) {
        rd_kafka_error_t *error = rd_kafka_incremental_assign(source->handle, list);
        if (error)
            weir_log(WEIR_LOG_ERROR, "kafka assign: %s", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    } else {
        rd_kafka_assign(source->handle, list);
    }
}

static void revoke(struct kafka_source *source, rd_kafka_topic_partition_list_t *list)
{
    struct weir_slice topic = weir_slice_text(source->topic);
    bool lost = rd_kafka_assignment_lost(source->handle);

    for (int i = 0; i < list->cnt; i++)
        if (partition_of(source, list->elems[i].partition)->is_ours)
            source->listener.revoked(source->listener.context, topic, list->elems[i].partition, lost);
    /* In a rebalance a commit may reach the broker with the old generation, and librdkafka then drops the whole assignment as lost. The
     * next owner commits what it finds stored. */
    if (source->is_closing && !lost)
        commit(source, false);
    source->last_commit = monotonic_ms() + REBALANCE_MS;
    for (int i = 0; i < list->cnt; i++)
        partition_of(source, list->elems[i].partition)->is_ours = false;
    if (source->is_cooperative) {
        rd_kafka_error_t *error = rd_kafka_incremental_unassign(source->handle, list);
        if (error)
            weir_log(WEIR_LOG_ERROR, "kafka unassign: %s", rd_kafka_error_string(error));
        rd_kafka_error_destroy(error);
    } else {
        rd_kafka_assign(source->handle, NULL);
    }
}

static void on_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t what, rd_kafka_topic_partition_list_t *list,
                         void *context)
{
    struct kafka_source *source = context;

    source->is_cooperative = strcmp(rd_kafka_rebalance_protocol(handle), "COOPERATIVE") == 0;
    source->was_assigned = true;
    if (what == RD_KAFKA_RESP_ERR__ASSIGN_PARTITIONS)
        assign(source, list);
    else
        revoke(source, list);
}

static void on_error(rd_kafka_t *handle, int code, const char *reason, void *context)
{
    struct kafka_source *source = context;
    struct weir_error error;
    char text[512];

    if (code == RD_KAFKA_RESP_ERR__FATAL) {
        rd_kafka_fatal_error(handle, text, sizeof text);
        weir_fail(&error, WEIR_FATAL, "Kafka: %s", text);
        fail(source, &error);
    } else if (monotonic_ms() - source->last_complaint >= COMPLAIN_MS) {
        source->last_complaint = monotonic_ms();
        weir_log(WEIR_LOG_WARN, "kafka: %s (%s); trying on", reason, rd_kafka_err2name((rd_kafka_resp_err_t)code));
    }
}

/* 3. messages -------------------------------------------------------------------------------------------------------------- */

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

static void take_message(struct kafka_source *source, const rd_kafka_message_t *from, struct weir_message *message)
{
    struct partition *partition = partition_of(source, from->partition);

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
    partition->position = partition->delivered = from->offset + 1;
    partition->is_eof = false;
}

static enum weir_status out_of_range(struct kafka_source *source, const rd_kafka_message_t *from,
                                     struct weir_error *reterr)
{
    int64_t low = -1, high = -1;

    (void)rd_kafka_query_watermark_offsets(source->handle, source->topic, from->partition, &low, &high, CALL_MS);
    return weir_fail(reterr, WEIR_FATAL,
                     "lane %s:%d is to be read from offset %lld, but Kafka holds only %lld to %lld: retention or a "
                     "recreated topic took what is between. Nothing was skipped; see README, \"offsets that are gone\"",
                     source->topic, from->partition, (long long)partition_of(source, from->partition)->position,
                     (long long)low, (long long)high);
}

/* What is no message: the end of a partition, or an error. */
static enum weir_status take_notice(struct kafka_source *source, const rd_kafka_message_t *from,
                                    struct weir_error *reterr)
{
    switch (from->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF: {
        struct partition *partition = partition_of(source, from->partition);
        partition->is_eof = true;
        if (from->offset > partition->position)
            partition->position = from->offset;
        return WEIR_OK;
    }
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        return out_of_range(source, from, reterr);
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return weir_fail(reterr, WEIR_FATAL, "topic '%s' at %s: %s. Create it, or set kafka.topic", source->topic,
                         source->brokers, rd_kafka_err2str(from->err));
    default:
        on_error(source->handle, from->err, rd_kafka_message_errstr(from), source);
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

/* 4. the end ------------------------------------------------------------------------------------------------------------------ */

/* Whether the others' partitions are at their end as well, as their commits say: a partition that is on its way between two workers
 * must not be left behind by both. */
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
    if (monotonic_ms() - source->last_end_check < END_CHECK_MS)
        return false;
    source->is_ended = others_are_done(source);
    source->last_end_check = monotonic_ms();
    return source->is_ended;
}

static enum weir_status find_ends(struct kafka_source *source, struct weir_error *reterr)
{
    int32_t count = 0;
    int64_t deadline = monotonic_ms() + REACH_MS;
    enum weir_status status;

    do
        status = weir_kafka_partitions(source->handle, source->brokers, source->topic, CALL_MS / 4, &count, reterr);
    while (status == WEIR_RETRY && monotonic_ms() < deadline);
    if (status != WEIR_OK)
        return status == WEIR_RETRY ? WEIR_FATAL : status;
    for (int32_t i = 0; i < count; i++) {
        struct partition *partition = partition_of(source, i);
        rd_kafka_resp_err_t error = rd_kafka_query_watermark_offsets(source->handle, source->topic, i, &partition->low,
                                                                     &partition->end, CALL_MS);
        if (error)
            return weir_fail(reterr, WEIR_FATAL, "topic '%s', partition %d: its end cannot be asked for: %s",
                             source->topic, i, rd_kafka_err2str(error));
        partition->is_known = true;
    }
    return WEIR_OK;
}

/* 5. the interface --------------------------------------------------------------------------------------------------------------- */
static enum weir_status poll_messages(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages,
                                      size_t max, size_t *ret_count, struct weir_error *reterr)
{
    struct kafka_source *source = (struct kafka_source *)self;
    enum weir_status status = WEIR_OK;
    size_t count = 0, headers = 0;

    give_back(source);
    *ret_count = 0;
    if (monotonic_ms() - source->last_commit >= (source->until_end ? COMMIT_END_MS : COMMIT_MS))
        commit(source, true);
    ssize_t got = rd_kafka_consume_batch_queue(source->queue, timeout_ms, source->held,
                                               max < WEIR_POLL_MESSAGES_MAX ? max : WEIR_POLL_MESSAGES_MAX);
    source->held_count = got > 0 ? (size_t)got : 0;
    for (size_t i = 0; i < source->held_count && status == WEIR_OK; i++) {
        const rd_kafka_message_t *from = source->held[i];
        if (from->err)
            status = take_notice(source, from, reterr);
        else if (partition_of(source, from->partition)->is_ours)
            take_message(source, from, &ret_messages[count++]);
    }
    for (size_t i = 0; i < count; i++) { /* the array of headers moves no more */
        ret_messages[i].headers = source->headers + headers;
        headers += ret_messages[i].header_count;
    }
    *ret_count = count;
    if (source->has_failed) {
        *reterr = source->failure;
        return WEIR_FATAL;
    }
    if (status == WEIR_OK && source->until_end && count == 0 && is_at_end(source))
        return WEIR_AGAIN;
    return status;
}

static rd_kafka_topic_partition_list_t *one(const struct kafka_source *source, int32_t number, int64_t offset)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, source->topic, number)->offset = offset;
    return list;
}

static void pause_partition(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    rd_kafka_topic_partition_list_t *list = one(source, number, RD_KAFKA_OFFSET_INVALID);
    rd_kafka_pause_partitions(source->handle, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static void resume_partition(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    rd_kafka_topic_partition_list_t *list = one(source, number, RD_KAFKA_OFFSET_INVALID);
    rd_kafka_resume_partitions(source->handle, list);
    rd_kafka_topic_partition_list_destroy(list);
}

static enum weir_status seek_partition(struct weir_source *self, int32_t number, int64_t offset,
                                       struct weir_error *reterr)
{
    struct kafka_source *source = (struct kafka_source *)self;
    struct partition *partition = partition_of(source, number);
    rd_kafka_topic_partition_list_t *list = one(source, number, offset < 0 ? RD_KAFKA_OFFSET_BEGINNING : offset);
    rd_kafka_error_t *error = rd_kafka_seek_partitions(source->handle, list, CALL_MS);
    rd_kafka_resp_err_t of_partition = list->elems[0].err;
    enum weir_status status = WEIR_OK;

    if (error || of_partition)
        status = weir_fail(reterr, WEIR_FATAL, "lane %s:%d cannot be read again from offset %lld: %s", source->topic,
                           number, (long long)offset,
                           error ? rd_kafka_error_string(error) : rd_kafka_err2str(of_partition));
    rd_kafka_error_destroy(error);
    rd_kafka_topic_partition_list_destroy(list);
    partition->position = offset < 0 ? partition->low : offset;
    partition->delivered = offset;
    partition->is_eof = false;
    source->is_ended = false;
    return status;
}

static bool is_caught_up(struct weir_source *self, int32_t number)
{
    return partition_of((struct kafka_source *)self, number)->is_eof;
}

static void free_source(struct weir_source *self)
{
    struct kafka_source *source = (struct kafka_source *)self;

    give_back(source);
    source->is_closing = true;
    if (source->queue) {
        rd_kafka_queue_destroy(source->queue);
        rd_kafka_consumer_close(source->handle); /* revokes everything: the listener hands the lanes over */
    }
    /* librdkafka before 2.3 aborts on destroying a member that joined and was not assigned anything yet (its issue 4312).
     * It has left the group, and the process is about to end: its memory stays. */
    if (source->handle && (source->was_assigned || rd_kafka_version() >= 0x02030000))
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
        {"client.id", "weir-ingest"},
        {NULL, NULL},
    };
    const struct weir_kafka_pair owned[] = {
        {"group.id", settings->group},        {"enable.auto.commit", "false"},  {"enable.auto.offset.store", "false"},
        {"auto.offset.reset", "error"},       {"enable.partition.eof", "true"}, {NULL, NULL},
    };
    char text[512];
    rd_kafka_conf_t *conf;
    enum weir_status status = weir_kafka_conf(settings, defaults, owned, &conf, reterr);

    if (status != WEIR_OK)
        return status;
    rd_kafka_conf_set_rebalance_cb(conf, on_rebalance);
    rd_kafka_conf_set_error_cb(conf, on_error);
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
    source->topic = weir_copy_text(settings->topic, strlen(settings->topic));
    source->brokers = weir_copy_text(settings->brokers, strlen(settings->brokers));
    enum weir_status status = open_consumer(source, settings, reterr);
    if (status == WEIR_OK)
        *ret_source = &source->source;
    else
        free_source(&source->source);
    return status;
}
