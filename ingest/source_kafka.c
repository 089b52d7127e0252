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
#include "ingest/source_kafka_internal.h"

enum {
    REACH_MS = 30000,
    SEEK_MS = 30000, /* librdkafka may take this long until it can seek */
    SLICE_MS = 100,  /* of a wait for messages: in between, what a rebalance left to do is done */
    JOIN_MS = 5000,
    ENDS_AHEAD = 8, /* messages */
};

int64_t weir_kafka_now_ms(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec * 1000 + now.tv_nsec / 1000000;
}

struct kafka_partition *weir_kafka_partition_of(struct kafka_source *source, int32_t number)
{
    if (number >= source->partition_count) {
        source->partitions = weir_resize(source->partitions, (size_t)number + 1, sizeof *source->partitions);
        for (int32_t i = source->partition_count; i <= number; i++)
            source->partitions[i] = (struct kafka_partition){.delivered = -1,
                                                             .durable = -1,
                                                             .committed = -1,
                                                             .stamp = -1,
                                                             .anchor.message = -1,
                                                             .next_anchor.message = -1,
                                                             .told_end = -1};
        source->partition_count = number + 1;
    }
    weir_check(source->partitions != NULL);
    return &source->partitions[number];
}

void weir_kafka_give_up(struct kafka_source *source, const struct weir_error *error)
{
    if (!source->has_failed)
        source->failure = *error;
    source->has_failed = true;
}

void weir_kafka_demand_seek(struct kafka_source *source, struct kafka_partition *partition)
{
    partition->must_seek = true;
    partition->seek_since = weir_kafka_now_ms();
    source->has_seeks = true;
}

/* Reading begins, or begins again, at offset; -1: where the partition begins. */
void weir_kafka_start_at(struct kafka_source *source, struct kafka_partition *partition, int64_t offset)
{
    partition->position = offset >= 0 ? offset : source->until_end ? partition->low : -1;
    partition->delivered = partition->durable = offset;
    partition->committed = -1; /* what the group has committed may be ahead of what is stored: it is set right soon */
    partition->is_eof = partition->is_checking = partition->has_loss = false;
    partition->stamp = -1;
    partition->anchor.message = partition->next_anchor.message = partition->told_end = -1;
    weir_kafka_demand_seek(source, partition);
    source->is_ended = false;
}

rd_kafka_topic_partition_list_t *weir_kafka_one(const struct kafka_source *source, int32_t number)
{
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, source->topic, number);
    return list;
}

/* 1. messages */

/* Those that cannot be left unread are added to the batch's array; pointers are set when that has stopped moving. */
static void take_headers(struct kafka_source *source, const rd_kafka_message_t *from, struct weir_message *message)
{
    if (weir_kafka_has_no_headers(from))
        return;
    if (source->header_room - source->header_count < WEIR_HEADERS_MAX) {
        source->header_room = (source->header_count + WEIR_HEADERS_MAX) * 2;
        source->headers = weir_resize(source->headers, source->header_room, sizeof *source->headers);
    }
    weir_kafka_headers(from, source->headers + source->header_count, WEIR_HEADERS_MAX, message);
    if (message->headers)
        source->header_count += message->header_count;
}

static int64_t stamp_of(const rd_kafka_message_t *message)
{
    rd_kafka_timestamp_type_t type;
    int64_t stamp = rd_kafka_message_timestamp(message, &type);
    return type == RD_KAFKA_TIMESTAMP_NOT_AVAILABLE ? -1 : stamp;
}

/* false: nobody wants it. */
static bool take_message(struct kafka_source *source, const rd_kafka_message_t *from, struct weir_message *message)
{
    struct kafka_partition *partition = weir_kafka_partition_of(source, from->partition);
    int64_t stamp = stamp_of(from);

    if (!partition->is_ours || partition->must_seek || from->offset < partition->position)
        return false;
    if (partition->is_checking && !weir_kafka_check(source, partition, from->offset, stamp))
        return false;
    partition->position = from->offset + 1;
    partition->stamp = stamp;
    partition->is_eof = partition->is_end_old = false;
    if (source->until_end && from->offset >= partition->end)
        return false;
    partition->delivered = from->offset + 1;
    *message = (struct weir_message){
        .topic = source->topic_name,
        .partition = from->partition,
        .offset = from->offset,
        .sequence = from->offset,
        .timestamp = stamp,
        .is_tombstone = from->payload == NULL,
        .is_too_large = from->len > WEIR_EVENT_BYTES_MAX,
        .value = weir_slice_of(from->payload, from->len > WEIR_EVENT_BYTES_MAX ? WEIR_EVENT_BYTES_MAX : from->len),
    };
    take_headers(source, from, message);
    return true;
}

/* A topic may seem gone for a moment while brokers change, or while somebody makes it anew; is it? */
static enum weir_status unknown_topic(struct kafka_source *source, struct weir_error *reterr)
{
    int32_t count;
    enum weir_status status =
        weir_kafka_partitions(source->handle, source->brokers, source->topic, WEIR_KAFKA_CALL_MS, &count, reterr);

    if (status == WEIR_REJECT)
        return WEIR_FATAL;
    weir_kafka_check_again(source);
    return WEIR_OK;
}

/* librdkafka will do nothing any more. It tells consumers so among their messages, and producers by their callback. */
static enum weir_status say_fatal(const struct kafka_source *source, struct weir_error *reterr)
{
    char text[512] = "";
    rd_kafka_resp_err_t code = rd_kafka_fatal_error(source->handle, text, sizeof text);

    return weir_fail(reterr, WEIR_FATAL, "Kafka at %s: %s%s", source->brokers, text,
                     code == RD_KAFKA_RESP_ERR_FENCED_INSTANCE_ID
                         ? ". Give each worker a name of its own (kafka.properties.group.instance.id)"
                         : "");
}

/* What is no message: the end of a partition, or an error. */
static enum weir_status take_notice(struct kafka_source *source, const rd_kafka_message_t *from,
                                    struct weir_error *reterr)
{
    struct kafka_partition *partition = from->partition >= 0 ? weir_kafka_partition_of(source, from->partition) : NULL;

    switch (from->err) {
    case RD_KAFKA_RESP_ERR__PARTITION_EOF:
        if (!partition || partition->must_seek || !partition->is_ours || from->offset < partition->position)
            return WEIR_OK;
        if (partition->is_checking && from->offset == partition->position) {
            weir_kafka_look(source, from->partition); /* the message to compare with is beyond the end */
            return WEIR_OK;
        }
        if (from->offset > partition->position + partition->is_checking)
            partition->stamp = -1;
        partition->is_checking = false;
        partition->is_eof = true;
        partition->is_end_old = false;
        partition->position = from->offset;
        return WEIR_OK;
    case RD_KAFKA_RESP_ERR__AUTO_OFFSET_RESET:
        if (!partition || !partition->is_ours)
            return WEIR_OK;
        partition->is_stopped = true;
        if (!partition->has_loss)
            weir_kafka_look(source, from->partition);
        return WEIR_OK;
    case RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART:
        return unknown_topic(source, reterr);
    case RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED:
    case RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED:
        return weir_fail(reterr, WEIR_FATAL, "topic '%s' at %s: %s", source->topic, source->brokers,
                         rd_kafka_err2str(from->err));
    case RD_KAFKA_RESP_ERR__FATAL:
        return say_fatal(source, reterr);
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
    int64_t deadline = timeout_ms < 0 ? INT64_MAX : weir_kafka_now_ms() + timeout_ms;
    ssize_t got = rd_kafka_consume_batch_queue(source->queue, 0, source->held, max);

    weir_kafka_wake_fetcher(&source->fetcher, source->queue);

    while (got == 0 && !source->has_rebalanced && !source->has_failed && timeout_ms != 0) {
        int64_t left = deadline - weir_kafka_now_ms();
        if (left <= 0)
            break;
        got = rd_kafka_consume_batch_queue(source->queue, left < SLICE_MS ? (int)left : SLICE_MS, source->held, 1);
        if (got == 1 && max > 1) {
            ssize_t more = rd_kafka_consume_batch_queue(source->queue, 0, source->held + 1, max - 1);
            got += more > 0 ? more : 0;
        }
    }
    source->held_count = got > 0 ? (size_t)got : 0;
    for (size_t i = 0; i < source->held_count && source->down_since; i++)
        if (!source->held[i]->err)
            weir_kafka_brokers_are_back(source);
}

/* Tells librdkafka where to read, for partitions that came to us or were sought. */
static enum weir_status seek_all(struct kafka_source *source, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (!source->has_seeks)
        return WEIR_OK;
    source->has_seeks = false;
    for (int32_t i = 0; i < source->partition_count; i++)
        if (source->partitions[i].is_ours && source->partitions[i].has_loss
            && (status = weir_kafka_tell_loss(source, i, reterr)) == WEIR_FATAL)
            return status;
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(source->partition_count);
    for (int32_t i = 0; i < source->partition_count; i++) {
        struct kafka_partition *partition = &source->partitions[i];
        bool is_due = partition->is_ours && partition->must_seek && !partition->has_loss;
        if (is_due && partition->is_stopped)
            weir_kafka_restart(source, i);
        else if (is_due)
            rd_kafka_topic_partition_list_add(list, source->topic, i)->offset =
                partition->position < 0 ? RD_KAFKA_OFFSET_BEGINNING : partition->position;
        source->has_seeks |= partition->is_ours && partition->has_loss;
    }
    status = WEIR_OK;
    if (list->cnt > 0)
        rd_kafka_error_destroy(rd_kafka_seek_partitions(source->handle, list, WEIR_KAFKA_CALL_MS));
    for (int i = 0; i < list->cnt && status == WEIR_OK; i++) {
        struct kafka_partition *partition = weir_kafka_partition_of(source, list->elems[i].partition);
        rd_kafka_resp_err_t error = list->elems[i].err;
        /* "Wrong state": an assignment that has not been carried out yet. */
        partition->must_seek = error != RD_KAFKA_RESP_ERR_NO_ERROR;
        source->has_seeks |= partition->must_seek;
        if (error && weir_kafka_now_ms() - partition->seek_since > SEEK_MS)
            status = weir_fail(reterr, WEIR_FATAL, "lane %s:%d cannot be read from offset %lld: %s", source->topic,
                               list->elems[i].partition, (long long)partition->position, rd_kafka_err2str(error));
    }
    rd_kafka_topic_partition_list_destroy(list);
    return status;
}

static void mark_durable(struct weir_source *self, int32_t number, int64_t next_offset)
{
    struct kafka_partition *partition = weir_kafka_partition_of((struct kafka_source *)self, number);

    if (next_offset > partition->durable)
        partition->durable = next_offset;
}

/* 2. the interface */

/* Each comes from another core: what stands behind the value is looked at, and before it if there are headers. */
static inline void prefetch_ends(const rd_kafka_message_t *message, bool has_headers)
{
    const char *value = message->payload;

    __builtin_prefetch(value + message->len);
    if (has_headers && value)
        __builtin_prefetch(value - 1);
}

static enum weir_status take_batch(struct kafka_source *source, struct weir_message *ret_messages, size_t *ret_count,
                                   struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    bool has_headers = false; /* the message before */
    size_t count = 0, headers = 0;

    for (size_t i = 0; i < source->held_count && status == WEIR_OK; i++) {
        const rd_kafka_message_t *from = source->held[i];
        if (i + ENDS_AHEAD < source->held_count)
            prefetch_ends(source->held[i + ENDS_AHEAD], has_headers);
        if (from->err) {
            status = take_notice(source, from, reterr);
        } else if (take_message(source, from, &ret_messages[count])) {
            has_headers = ret_messages[count].header_count > 0;
            count++;
        }
    }
    for (size_t i = 0; i < count && source->header_count > 0; i++) /* the array of headers moves no more */
        if (ret_messages[i].headers) {
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
            weir_kafka_partition_of(source, source->held[i]->partition)->is_fresh = false;
    for (int32_t i = 0; i < source->partition_count; i++) {
        struct kafka_partition *partition = &source->partitions[i];
        if (partition->is_fresh)
            partition->must_seek = false;
        else
            weir_kafka_demand_seek(source, partition);
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
    if (source->last_poll && weir_kafka_now_ms() - source->last_poll >= source->max_poll_ms)
        source->is_late = true;
    if (weir_kafka_now_ms() >= source->next_commit)
        weir_kafka_commit(source);
    weir_kafka_watch_brokers(source);
    weir_kafka_look_policy(source);
    weir_kafka_look_anchors(source);
    status = seek_all(source, reterr);
    if (status != WEIR_OK)
        return status;
    fetch(source, timeout_ms, max < WEIR_POLL_MESSAGES_MAX ? max : WEIR_POLL_MESSAGES_MAX);
    source->last_poll = weir_kafka_now_ms();
    if (source->has_rebalanced)
        settle_rebalance(source);
    status = take_batch(source, ret_messages, ret_count, reterr);
    if (status == WEIR_OK && source->has_failed) {
        *ret_count = 0;
        *reterr = source->failure;
        status = WEIR_FATAL;
    }
    if (status == WEIR_OK && source->until_end && *ret_count == 0 && weir_kafka_is_at_end(source))
        return WEIR_AGAIN;
    return status;
}

static void pause_partition(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    struct kafka_partition *partition = weir_kafka_partition_of(source, number);
    rd_kafka_topic_partition_list_t *list = weir_kafka_one(source, number);

    if (partition->is_ours && !partition->is_paused) {
        rd_kafka_pause_partitions(source->handle, list);
        partition->is_paused = true;
        partition->is_eof = false; /* nobody looks while it is paused; after it, the end is told again */
    }
    rd_kafka_topic_partition_list_destroy(list);
}

void weir_kafka_resume(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    struct kafka_partition *partition = weir_kafka_partition_of(source, number);
    rd_kafka_topic_partition_list_t *list = weir_kafka_one(source, number);

    /* Resuming what is not paused would drop what was fetched. */
    if (partition->is_paused) {
        rd_kafka_resume_partitions(source->handle, list);
        partition->is_paused = false;
        weir_kafka_demand_seek(source, partition);
    }
    rd_kafka_topic_partition_list_destroy(list);
}

static enum weir_status seek_partition(struct weir_source *self, int32_t number, int64_t offset,
                                       struct weir_error *reterr)
{
    (void)reterr;
    weir_kafka_begin((struct kafka_source *)self, number, offset); /* the next poll carries it out */
    return WEIR_OK;
}

/* Offsets between position and the end that the last fetch told; -1: not known. */
static int64_t ahead(const struct kafka_source *source, int32_t number)
{
    const struct kafka_partition *partition = &source->partitions[number];
    int64_t low, high;

    if (rd_kafka_get_watermark_offsets(source->handle, source->topic, number, &low, &high) || high < 0)
        return -1;
    int64_t position = partition->position >= 0 ? partition->position : low;
    return position < 0 ? -1 : high > position ? high - position : 0;
}

static int64_t lag(struct weir_source *self, int32_t number)
{
    const struct kafka_source *source = (const struct kafka_source *)self;

    if (number < 0 || number >= source->partition_count || !source->partitions[number].is_ours)
        return -1;
    const struct kafka_partition *partition = &source->partitions[number];
    int64_t left = partition->is_eof ? 0 : ahead(source, number);
    return partition->is_paused && partition->told_end - partition->position > left
               ? partition->told_end - partition->position
               : left;
}

static bool is_caught_up(struct weir_source *self, int32_t number)
{
    struct kafka_source *source = (struct kafka_source *)self;
    const struct kafka_partition *partition = weir_kafka_partition_of(source, number);

    if (source->until_end && partition->is_ours && partition->position >= partition->end && !partition->is_checking
        && !partition->has_loss)
        return true;
    if (source->down_since || partition->is_paused || partition->must_seek)
        return false;
    /* Brokers tell the end only when a fetch comes back empty: never, while something trickles in. And they tell it
     * before a transaction that is still open, whose events will come. */
    int64_t left = ahead(source, number);
    return left < 0 ? partition->is_eof : left == 0 && !partition->is_end_old;
}

static int64_t next(struct weir_source *self, int32_t number, int64_t next_offset)
{
    const struct kafka_source *source = (const struct kafka_source *)self;
    const struct kafka_partition *partition = weir_kafka_partition_of((struct kafka_source *)self, number);

    if (!partition->is_ours || !partition->is_eof || partition->must_seek || partition->is_checking
        || next_offset < partition->delivered)
        return next_offset;
    /* A batch run passes over what lies beyond its end without returning it. */
    int64_t offset = source->until_end && partition->position > partition->end ? partition->end : partition->position;
    return offset > next_offset ? offset : next_offset;
}

/* A member that has no id yet cannot take leave, and the group would wait for it until its session times out. */
static const char *trouble(struct weir_source *self)
{
    const struct kafka_source *source = (const struct kafka_source *)self;

    if (source->down_since)
        return "Kafka does not answer";
    return source->has_joined ? NULL : "waiting for the consumer group";
}

static void wait_for_member_id(struct kafka_source *source)
{
    int64_t deadline = weir_kafka_now_ms() + JOIN_MS;
    bool has_id = source->has_joined;

    while (!has_id && weir_kafka_now_ms() < deadline) {
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
        source->is_late |= rd_kafka_assignment_lost(source->handle);
        rd_kafka_consumer_close(source->handle); /* revokes: the listener hands the lanes over */
        weir_kafka_hand_over_rest(source);
    }
    weir_kafka_leave_anchors(source);
    if (source->policy)
        rd_kafka_queue_destroy(source->policy);
    /* librdkafka before 2.3 aborts on destroying a member that joined and was not assigned anything yet (its issue
     * 4312). It has left the group, and the process is about to end: its memory stays. */
    if (source->handle && (!source->queue || source->has_joined || rd_kafka_version() >= 0x02030000))
        rd_kafka_destroy(source->handle);
    weir_kafka_close_fetcher(&source->fetcher);
    free(source->partitions);
    free(source->headers);
    free(source->topic);
    free(source->brokers);
    free(source);
}

static enum weir_status open_consumer(struct kafka_source *source, const struct weir_kafka_settings *settings,
                                      struct weir_error *reterr)
{
    const struct weir_kafka_pair defaults[] = {
        {"partition.assignment.strategy", "cooperative-sticky"},
        {"isolation.level", "read_committed"},
        {"fetch.message.max.bytes", "4194304"},
        {"queued.max.messages.kbytes", "65536"},
        {"queued.min.messages", "200000"},
        {"session.timeout.ms", "10000"},   /* how long the lanes of a worker that died wait for another one */
        {"heartbeat.interval.ms", "1000"}, /* how soon a rebalance is noticed; a partition that moves waits for two */
        {"topic.metadata.refresh.interval.ms", "30000"}, /* how long new partitions wait to be noticed */
        {"client.id", "weir-ingest"},
        {weir_kafka_backoff_property(), "10"}, /* how soon a queue that was full is looked at again; not known: NULL */
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
    rd_kafka_conf_set_rebalance_cb(conf, weir_kafka_on_rebalance);
    rd_kafka_conf_set_error_cb(conf, weir_kafka_on_error);
    rd_kafka_conf_set_offset_commit_cb(conf, weir_kafka_on_commit);
    rd_kafka_conf_set_opaque(conf, source);
    source->handle = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    if (!source->handle) {
        rd_kafka_conf_destroy(conf);
        return weir_fail(reterr, WEIR_REJECT, "Kafka consumer: %s", text);
    }
    if (source->until_end && (status = weir_kafka_find_ends(source, reterr)) != WEIR_OK)
        return status;
    weir_kafka_open_fetcher(&source->fetcher, source->handle);
    weir_kafka_ask_policy(source);
    rd_kafka_poll_set_consumer(source->handle);
    source->queue = rd_kafka_queue_get_consumer(source->handle);
    rd_kafka_topic_partition_list_t *topics = weir_kafka_one(source, RD_KAFKA_PARTITION_UA);
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
        .resume = weir_kafka_resume,
        .seek = seek_partition,
        .trouble = trouble,
        .mark_durable = mark_durable,
        .is_caught_up = is_caught_up,
        .next = next,
        .lag = lag,
        .free = free_source,
    };
    struct kafka_source *source = weir_new(sizeof *source);

    source->source.ops = &ops;
    source->listener = *listener;
    source->until_end = settings->until_end;
    source->reach_ms = settings->reach_ms ? settings->reach_ms : REACH_MS;
    source->topic = weir_copy_text(settings->topic, strlen(settings->topic));
    source->topic_name = weir_slice_text(source->topic);
    source->brokers = weir_copy_text(settings->brokers, strlen(settings->brokers));
    enum weir_status status = open_consumer(source, settings, reterr);
    if (status == WEIR_OK)
        *ret_source = &source->source;
    else
        free_source(&source->source);
    return status;
}
