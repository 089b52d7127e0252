/* What a Kafka source does when messages are gone: it tells from where to where, once, when all before was taken, and
 * goes on with what there is. Against a real Kafka. */
#include "kafka_server.h"

#include "ingest/kafka_scan.h"
#include "ingest/source_kafka_internal.h"

/* A worker of one partition as plain as can be. What is told of gaps is put down as text, in its place among messages.
 */
struct worker {
    struct weir_source *source;
    int64_t next, stamp; /* as the lane would store them; next 0: nothing stored */
    int64_t seen;
    bool keeps_gaps;
    char told[256];
    enum weir_status status;
    struct weir_error error;
};

static bool on_assigned(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                        struct weir_error *reterr)
{
    const struct worker *worker = context;
    (void)topic, (void)partition, (void)reterr;
    *ret_offset = worker->next > 0 ? worker->next : -1;
    return true;
}

static void on_revoked(void *context, struct weir_slice topic, int32_t partition, bool lost)
{
    (void)context, (void)topic, (void)partition, (void)lost;
}

static int64_t on_stamp(void *context, int32_t partition)
{
    (void)partition;
    return ((const struct worker *)context)->stamp;
}

static void on_gone(void *context, int32_t partition, enum weir_gap_kind kind, int64_t next_offset)
{
    struct worker *worker = context;
    size_t length = strlen(worker->told);
    cr_assert_eq(partition, 0);
    cr_assert(kind == WEIR_GAP_RECREATED || next_offset >= worker->next);
    snprintf(worker->told + length, sizeof worker->told - length, "%s %lld-%lld;", weir_gap_kind_name[kind],
             (long long)worker->next, (long long)next_offset);
    worker->next = next_offset;
    worker->stamp = -1;
}

static void start(struct worker *worker, const char *topic, bool until_end)
{
    static const struct weir_property quick[] = {{"heartbeat.interval.ms", "50"}, {"session.timeout.ms", "6000"}};
    struct weir_kafka_settings settings = {.brokers = kafka_brokers(),
                                           .topic = topic,
                                           .group = topic,
                                           .properties = quick,
                                           .property_count = 2,
                                           .until_end = until_end};
    struct weir_source_listener listener = {.context = worker, .assigned = on_assigned, .revoked = on_revoked};
    if (worker->keeps_gaps) {
        listener.stamp = on_stamp;
        listener.gone = on_gone;
    }
    cr_assert_eq(weir_source_kafka_open(&settings, &listener, &worker->source, &worker->error), WEIR_OK, "%s",
                 worker->error.text);
}

static void stop(struct worker *worker)
{
    weir_source_free(worker->source);
    worker->source = NULL;
    worker->told[0] = '\0';
    worker->seen = 0;
    worker->status = WEIR_OK;
}

static void step(struct worker *worker, size_t max)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    size_t count = 0;
    worker->status = worker->source->ops->poll(worker->source, 50, messages, max, &count, &worker->error);
    for (size_t i = 0; i < count; i++) {
        cr_assert_geq(messages[i].offset, worker->next, "offset %lld comes again", (long long)messages[i].offset);
        worker->next = messages[i].offset + 1;
        worker->stamp = messages[i].timestamp;
        worker->seen++;
    }
}

#define UNTIL(condition, ...)                                                                                          \
    for (int64_t deadline_ = now_ms() + 2 * KAFKA_CALL_MS; !(condition);) {                                            \
        cr_assert(now_ms() < deadline_, "waited in vain for " #condition);                                             \
        __VA_ARGS__;                                                                                                   \
    }

static void read_until(struct worker *worker, int64_t next)
{
    UNTIL(worker->next >= next && worker->source->ops->is_caught_up(worker->source, 0), {
        step(worker, WEIR_POLL_MESSAGES_MAX);
        cr_assert_eq(worker->status, WEIR_OK, "%s", worker->error.text);
    });
}

static void put(const char *topic, int count, int64_t timestamp)
{
    rd_kafka_t *producer = kafka_producer(NULL);
    for (int i = 0; i < count; i++)
        cr_assert_eq(rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0),
                                       RD_KAFKA_V_VALUE("x", 1), RD_KAFKA_V_TIMESTAMP(timestamp + i), RD_KAFKA_V_END),
                     RD_KAFKA_RESP_ERR_NO_ERROR);
    kafka_flush(producer);
    rd_kafka_destroy(producer);
}

Test(source_gaps, what_retention_took_is_told)
{
    struct worker worker = {.next = 20, .stamp = 1019, .keeps_gaps = true};
    char topic[64];
    kafka_topic("retention", 1, topic);
    put(topic, 100, 1000);
    kafka_delete_before(topic, 0, 50);
    start(&worker, topic, false);
    read_until(&worker, 100);
    cr_expect_str_eq(worker.told, "retention 20-50;");
    cr_expect_eq(worker.seen, 50);
    stop(&worker);
    kafka_delete_before(topic, 0, 100); /* all of it was read: nothing is missing, and nothing there to compare with */
    put(topic, 10, 2000);
    start(&worker, topic, false);
    read_until(&worker, 110);
    cr_expect_str_eq(worker.told, "");
    cr_expect_eq(worker.seen, 10);
    stop(&worker);
}

Test(source_gaps, what_retention_takes_while_a_lane_is_paused_is_told_in_its_place)
{
    struct worker worker = {.stamp = -1, .keeps_gaps = true};
    char topic[64];
    kafka_topic("paused", 1, topic);
    put(topic, 10, 1000);
    start(&worker, topic, false);
    read_until(&worker, 10);
    worker.source->ops->pause(worker.source, 0);
    put(topic, 30, 2000);
    kafka_delete_before(topic, 0, 25);
    step(&worker, 100);
    worker.source->ops->resume(worker.source, 0);
    read_until(&worker, 40);
    cr_expect_str_eq(worker.told, "retention 10-25;");
    cr_expect_eq(worker.seen, 25);
    stop(&worker);
}

Test(source_gaps, a_lane_with_nothing_stored_is_told_what_was_before_it)
{
    struct worker worker = {.stamp = -1, .keeps_gaps = true};
    char topic[64];
    kafka_topic("begins", 1, topic);
    put(topic, 100, 1000);
    start(&worker, topic, true);
    UNTIL(worker.status == WEIR_AGAIN, step(&worker, 100));
    cr_expect_str_eq(worker.told, "", "it begins at 0");
    stop(&worker);
    kafka_delete_before(topic, 0, 60);
    worker.next = 0;
    worker.stamp = -1;
    start(&worker, topic, true);
    UNTIL(worker.status == WEIR_AGAIN, step(&worker, 100));
    cr_expect_str_eq(worker.told, "nothing_stored 0-60;");
    cr_expect_eq(worker.seen, 40);
    worker.next = 0; /* the store is emptied while it runs */
    worker.stamp = -1;
    cr_assert_eq(worker.source->ops->seek(worker.source, 0, -1, &worker.error), WEIR_OK);
    worker.seen = 0;
    worker.told[0] = '\0';
    UNTIL(worker.seen == 40, step(&worker, 100));
    cr_expect_str_eq(worker.told, "nothing_stored 0-60;");
    stop(&worker);
}

Test(source_gaps, a_topic_made_anew_is_told_however_long_it_is)
{
    static const int lengths[] = {0, 5, 20, 60};
    for (size_t i = 0; i < sizeof lengths / sizeof *lengths; i++) {
        struct worker worker = {.stamp = -1, .keeps_gaps = true};
        char topic[64];
        kafka_topic("anew", 1, topic);
        put(topic, 20, 1000);
        start(&worker, topic, false);
        read_until(&worker, 20);
        stop(&worker);
        start(&worker, topic, i % 2); /* the same one: nothing is told, nothing comes twice */
        put(topic, 1, 1900);
        UNTIL(i % 2 ? worker.status == WEIR_AGAIN : worker.seen == 1, step(&worker, 100));
        cr_expect_str_eq(worker.told, "");
        stop(&worker);
        worker.next = 20; /* the last message was not stored */
        worker.stamp = 1019;
        kafka_make_anew(topic, 1);
        put(topic, lengths[i], 5000);
        start(&worker, topic, i % 2);
        UNTIL(*worker.told, step(&worker, 100));
        UNTIL(worker.next == lengths[i], step(&worker, 100));
        cr_expect_str_eq(worker.told, "recreated 20-0;", "length %d: %s", lengths[i], worker.told);
        cr_expect_eq(worker.seen, lengths[i]);
        stop(&worker);
    }
}

Test(source_gaps, a_topic_made_anew_while_it_is_read_is_told)
{
    struct worker worker = {.stamp = -1, .keeps_gaps = true};
    char topic[64];
    kafka_topic("under", 1, topic);
    put(topic, 20, 1000);
    start(&worker, topic, false);
    read_until(&worker, 20);
    kafka_make_anew(topic, 1);
    put(topic, 10, 5000);
    /* It may notice that the topic is away, and end with that: then the next one finds out. */
    UNTIL(*worker.told || worker.status == WEIR_FATAL, step(&worker, 100));
    if (worker.status == WEIR_FATAL) {
        stop(&worker);
        start(&worker, topic, false);
    }
    UNTIL(worker.next == 10 && *worker.told, step(&worker, 100));
    cr_expect_str_eq(worker.told, "recreated 20-0;");
    stop(&worker);
}

static bool has_anchor(const struct worker *worker)
{
    return ((const struct kafka_source *)worker->source)->partitions[0].anchor.message >= 0;
}

/* Nobody fetches, or asks, while the lane is paused: where reading goes on there is a message of the new topic. */
Test(source_gaps, a_topic_made_anew_that_outgrew_the_old_one_is_told)
{
    struct worker worker = {.stamp = -1, .keeps_gaps = true};
    char topic[64];
    kafka_topic("outgrown", 1, topic);
    put(topic, 20, 1000);
    start(&worker, topic, false);
    read_until(&worker, 20);
    UNTIL(has_anchor(&worker), step(&worker, 100));
    worker.source->ops->pause(worker.source, 0);
    kafka_make_anew(topic, 1);
    put(topic, 60, 5000);
    worker.source->ops->resume(worker.source, 0);
    UNTIL(*worker.told, step(&worker, 100));
    cr_expect_str_eq(strchr(worker.told, '-'), "-0;", "%s", worker.told);
    worker.seen = 0;
    UNTIL(worker.next == 60, step(&worker, 100));
    cr_expect_eq(worker.seen, 60);
    stop(&worker);
}

Test(source_gaps, markers_and_aborted_messages_are_no_gaps)
{
    struct worker worker = {.stamp = -1, .keeps_gaps = true};
    char topic[64];
    kafka_topic("markers", 1, topic);
    rd_kafka_t *producer = kafka_producer(topic);
    cr_assert_null(rd_kafka_init_transactions(producer, KAFKA_CALL_MS));
    for (int round = 0; round < 4; round++) { /* aborted ones first and last */
        cr_assert_null(rd_kafka_begin_transaction(producer));
        for (int i = 0; i < 5; i++)
            kafka_put(producer, topic, 0, "x", 1);
        kafka_flush(producer);
        cr_assert_null(round == 1 || round == 2 ? rd_kafka_commit_transaction(producer, KAFKA_CALL_MS)
                                                : rd_kafka_abort_transaction(producer, KAFKA_CALL_MS));
    }
    rd_kafka_destroy(producer);
    for (int again = 0; again < 3; again++) { /* the last time it begins where no message is */
        start(&worker, topic, true);
        UNTIL(worker.status == WEIR_AGAIN, step(&worker, 100));
        cr_expect_str_eq(worker.told, "");
        cr_expect_eq(worker.seen, again == 0 ? 10 : 0);
        cr_expect_eq(worker.next, again == 2 ? 22 : 17);
        stop(&worker);
        if (again == 1)
            worker.next = 22;
    }
}

/* What holds nothing is passed over by the lane too: or else Kafka's retention, once past the markers, would look as if
 * it had taken events. */
Test(source_gaps, what_holds_nothing_is_passed_over)
{
    struct worker worker = {.stamp = -1, .keeps_gaps = true};
    char topic[64], empty[64];
    kafka_topic("passed", 1, topic);
    kafka_topic("empty", 1, empty);
    rd_kafka_t *producer = kafka_producer(topic);
    cr_assert_null(rd_kafka_init_transactions(producer, KAFKA_CALL_MS));
    cr_assert_null(rd_kafka_begin_transaction(producer));
    for (int i = 0; i < 5; i++)
        kafka_put(producer, topic, 0, "x", 1);
    kafka_flush(producer);
    cr_assert_null(rd_kafka_commit_transaction(producer, KAFKA_CALL_MS));
    rd_kafka_destroy(producer);
    start(&worker, topic, false);
    read_until(&worker, 5);
    cr_expect_eq(worker.source->ops->next(worker.source, 0, 5), 6, "the marker");
    cr_expect_eq(worker.source->ops->next(worker.source, 0, 4), 4, "not all that was returned was taken");
    stop(&worker);
    kafka_delete_before(topic, 0, 6);
    worker.next = 6;
    start(&worker, topic, false);
    UNTIL(worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 100));
    cr_expect_str_eq(worker.told, "");
    stop(&worker);
    worker = (struct worker){.stamp = -1, .keeps_gaps = true};
    start(&worker, empty, false);
    UNTIL(worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 100));
    cr_expect_eq(worker.source->ops->next(worker.source, 0, -1), 0, "known to begin at 0");
    stop(&worker);
}

Test(source_gaps, a_worker_that_keeps_no_gaps_stops)
{
    struct worker worker = {.next = 20, .stamp = -1};
    char topic[64];
    kafka_topic("stops", 1, topic);
    put(topic, 100, 1000);
    kafka_delete_before(topic, 0, 50);
    start(&worker, topic, false);
    UNTIL(worker.status == WEIR_FATAL, step(&worker, 100));
    cr_expect(strstr(worker.error.text, "from offset 20, but Kafka holds only 50 to 100"), "%s", worker.error.text);
    cr_expect_eq(worker.seen, 0);
    stop(&worker);
}

Test(source_gaps, new_partitions_are_noticed)
{
    struct worker worker = {.stamp = -1};
    static const struct weir_property quick[] = {{"topic.metadata.refresh.interval.ms", "500"}};
    char topic[64];
    kafka_topic("grows", 1, topic);
    struct weir_kafka_settings settings = {
        .brokers = kafka_brokers(), .topic = topic, .group = topic, .properties = quick, .property_count = 1};
    struct weir_source_listener listener = {.context = &worker, .assigned = on_assigned, .revoked = on_revoked};
    cr_assert_eq(weir_source_kafka_open(&settings, &listener, &worker.source, &worker.error), WEIR_OK);
    put(topic, 3, 1000);
    UNTIL(worker.seen == 3, step(&worker, 100));
    kafka_add_partitions(topic, 3);
    worker.next = 0;
    worker.seen = 0;
    kafka_fill(topic, 2, 0, 5);
    UNTIL(worker.seen == 5, step(&worker, 100));
    stop(&worker);
}

/* Reading again: what goes while it is read. */
struct scanned {
    const char *topic;
    int64_t count, last;
};

static bool remove_most(void *context, const struct weir_message *message)
{
    struct scanned *scanned = context;

    if (scanned->count++ == 0)
        kafka_delete_before(scanned->topic, 0, 900);
    scanned->last = message->offset;
    return true;
}

Test(source_gaps, messages_that_go_while_they_are_scanned)
{
    static const struct weir_property small[] = {{"fetch.message.max.bytes", "1000"}, {"queued.min.messages", "1"}};

    for (int has_all = 0; has_all < 2; has_all++) {
        char topic[64];
        kafka_topic("scan", 1, topic);
        for (int i = 0; i < 10; i++)
            kafka_fill(topic, 0, 100 * i, 100); /* ten answers of the broker's */
        struct scanned scanned = {.topic = topic};
        struct weir_kafka_stretch stretch = {.to = INT64_MAX};
        struct weir_error error = {{0}};
        enum weir_status status = weir_kafka_scan(
            &(struct weir_kafka_settings){
                .brokers = kafka_brokers(), .topic = topic, .group = topic, .properties = small, .property_count = 2},
            &stretch, 1, &(struct weir_kafka_scan){.context = &scanned, .visit = remove_most, .has_all = has_all},
            &error);
        cr_assert_eq(status, has_all ? WEIR_RETRY : WEIR_OK, "%s", error.text);
        cr_assert(!has_all == (scanned.last == 999), "last %lld", (long long)scanned.last);
        cr_assert(!has_all || strstr(error.text, "removed while they were read"), "%s", error.text);
    }
}
