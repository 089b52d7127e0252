/* What only Kafka has: groups that share a topic and hand partitions over, transactions, offsets that are gone, brokers
 * that are away. Against a real Kafka, but for brokers that come and go: those are librdkafka's mock cluster. */
#include "kafka_server.h"

#include <fcntl.h>
#include <librdkafka/rdkafka_mock.h>
#include <pthread.h>
#include <stdatomic.h>
#include <sys/stat.h>

#include "common/log.h"
#include "ingest/record_headers.h"
#include "ingest/source.h"

enum { PARTITIONS_MAX = 16 };

/* 1. A worker as plain as can be, over a store of offsets that stands for the window store. The value of each message
 * in a plain topic is its offset, and each must be the one that comes next: nothing skipped, nothing twice. */

struct worker;

struct store {
    int64_t next[PARTITIONS_MAX];         /* below this everything is written */
    struct worker *owner[PARTITIONS_MAX]; /* by the news that the workers got */
    int taken_over;                       /* lanes whose owner had not given them up */
};

struct worker {
    struct weir_source *source;
    struct store *store;
    int64_t next[PARTITIONS_MAX]; /* in memory */
    int64_t seen;
    int assigned, revoked, lost;
    bool has_gaps; /* the topic has more in it than messages */
    bool refuses;
    bool is_fenced[PARTITIONS_MAX]; /* somebody else has taken the lane */
    bool has_ended;
    enum weir_status status;
    struct weir_error error;
};

static bool on_assigned(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                        struct weir_error *reterr)
{
    struct worker *worker = context;
    (void)topic;
    if (worker->refuses) {
        weir_fail(reterr, WEIR_FATAL, "no room for partition %d", partition);
        return false;
    }
    cr_assert_lt(partition, PARTITIONS_MAX);
    struct worker *before = worker->store->owner[partition];
    if (before) {
        /* Of one that left all was handed over (stop). So this one lives, and was taken for dead: on a machine that is
         * too busy to let heartbeats through, or a broker that slept over them. The group gives its partitions away
         * before it can know; it is a zombie until it polls, is told then that they are lost, and a store fences it
         * meanwhile. No fault of the source's: it polls what the group has to say, and nothing that it asks for
         * between two polls (looks at anchors, at offsets) takes longer than some seconds, while heartbeats go on. */
        before->is_fenced[partition] = true;
        worker->store->taken_over++;
    }
    worker->store->owner[partition] = worker;
    worker->is_fenced[partition] = false;
    worker->assigned++;
    worker->next[partition] = worker->store->next[partition];
    *ret_offset = worker->next[partition] > 0 ? worker->next[partition] : -1;
    return true;
}

static void on_revoked(void *context, struct weir_slice topic, int32_t partition, bool lost)
{
    struct worker *worker = context;
    (void)topic;
    bool is_fenced = worker->is_fenced[partition];
    cr_assert(worker->store->owner[partition] == worker || lost || is_fenced);
    worker->revoked++;
    worker->lost += lost;
    worker->is_fenced[partition] = false;
    if (!lost && !is_fenced)
        worker->store->next[partition] = worker->next[partition];
    if (worker->store->owner[partition] == worker)
        worker->store->owner[partition] = NULL;
}

static struct weir_kafka_settings settings_of(const char *topic, const struct weir_property *properties)
{
    struct weir_kafka_settings settings = {
        .brokers = kafka_brokers(), .topic = topic, .group = topic, .properties = properties};
    while (properties && properties[settings.property_count].name)
        settings.property_count++;
    return settings;
}

static const struct weir_property quick[] = {
    {"heartbeat.interval.ms", "50"}, {"session.timeout.ms", "12000"}, {NULL, NULL}};

static void start(struct worker *worker, struct store *store, const struct weir_kafka_settings *settings)
{
    struct weir_source_listener listener = {.context = worker, .assigned = on_assigned, .revoked = on_revoked};
    *worker = (struct worker){.store = store};
    cr_assert_eq(weir_source_kafka_open(settings, &listener, &worker->source, &worker->error), WEIR_OK, "%s",
                 worker->error.text);
}

static void stop(struct worker *worker)
{
    weir_source_free(worker->source);
    worker->source = NULL;
    for (int i = 0; i < PARTITIONS_MAX; i++)
        cr_assert_neq(worker->store->owner[i], worker, "it has left, and partition %d was not handed over", i);
}

static void take(struct worker *worker, const struct weir_message *message)
{
    char text[32];
    int32_t partition = message->partition;
    if (worker->is_fenced[partition])
        return; /* the store would refuse its cut */
    cr_assert_eq(worker->store->owner[partition], worker, "a message of partition %d, which is not ours", partition);
    cr_assert(worker->has_gaps ? message->offset >= worker->next[partition]
                               : message->offset == worker->next[partition],
              "partition %d: offset %lld instead of %lld", partition, (long long)message->offset,
              (long long)worker->next[partition]);
    snprintf(text, sizeof text, "%lld", (long long)message->offset);
    cr_assert(worker->has_gaps || weir_slice_equal(message->value, weir_slice_text(text)));
    worker->next[partition] = message->offset + 1;
    worker->seen++;
}

static size_t step(struct worker *worker, int timeout_ms, size_t max)
{
    static struct weir_message messages[WEIR_POLL_MESSAGES_MAX];
    size_t count = 0;
    worker->status = worker->source->ops->poll(worker->source, timeout_ms, messages, max, &count, &worker->error);
    worker->has_ended = worker->status == WEIR_AGAIN;
    for (size_t i = 0; i < count; i++)
        take(worker, &messages[i]);
    return count;
}

/* The cut: what is in memory is stored, and Kafka is told. */
static void flush(struct worker *worker)
{
    for (int i = 0; i < PARTITIONS_MAX; i++) {
        if (worker->store->owner[i] != worker)
            continue;
        worker->store->next[i] = worker->next[i];
        worker->source->ops->mark_durable(worker->source, i, worker->next[i]);
    }
}

#define UNTIL(condition, ...)                                                                                          \
    for (int64_t deadline_ = now_ms() + KAFKA_CALL_MS; !(condition);) {                                                \
        cr_assert(now_ms() < deadline_, "waited in vain for " #condition);                                             \
        __VA_ARGS__;                                                                                                   \
    }

static void read_to_end(struct worker *worker)
{
    UNTIL(worker->has_ended, {
        step(worker, 50, WEIR_POLL_MESSAGES_MAX);
        cr_assert_neq(worker->status, WEIR_FATAL, "%s", worker->error.text);
        flush(worker);
    });
}

static int64_t total(const struct store *store)
{
    int64_t sum = 0;
    for (int i = 0; i < PARTITIONS_MAX; i++)
        sum += store->next[i];
    return sum;
}

static int64_t committed(const char *topic, int partition)
{
    const char *const pairs[] = {"group.id", topic, NULL};
    rd_kafka_t *client = kafka_client(RD_KAFKA_CONSUMER, pairs);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, topic, partition);
    cr_assert_eq(rd_kafka_committed(client, list, KAFKA_CALL_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    int64_t offset = list->elems[0].offset;
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    return offset;
}

/* 2. Groups. */

/* Workers come and go while a topic is read; each partition is read by one at a time, each message counted once. */
struct sharing {
    char topic[64];
    struct weir_kafka_settings settings;
    struct worker workers[3]; /* 0 stays, 1 and 2 come and go */
    struct store store;
    int changes;
    int64_t next_change;
};

enum { SHARED_PARTITIONS = 6, SHARED_CHANGES = 12 };

static void come_and_go(struct sharing *sharing)
{
    struct worker *worker = &sharing->workers[1 + sharing->changes % 2];
    if (now_ms() < sharing->next_change || sharing->changes >= SHARED_CHANGES)
        return;
    sharing->changes++;
    sharing->next_change = now_ms() + 400;
    if (worker->source) {
        stop(worker);
    } else {
        struct worker before = *worker;
        start(worker, &sharing->store, &sharing->settings);
        worker->seen = before.seen;
    }
}

static void step_all(struct sharing *sharing, unsigned round, int timeout_ms, size_t max)
{
    for (int i = 0; i < 3; i++) {
        struct worker *worker = &sharing->workers[i];
        if (!worker->source)
            continue;
        step(worker, timeout_ms, max);
        cr_assert_eq(worker->status, WEIR_OK, "%s", worker->error.text);
        if ((round + (unsigned)i) % 7 == 0)
            flush(worker);
    }
    come_and_go(sharing);
}

static void start_sharing(struct sharing *sharing, const struct weir_property *properties)
{
    kafka_topic("share", SHARED_PARTITIONS, sharing->topic);
    sharing->settings = settings_of(sharing->topic, properties);
    start(&sharing->workers[0], &sharing->store, &sharing->settings);
    sharing->next_change = now_ms() + 500;
}

static void stop_sharing(struct sharing *sharing, int64_t each)
{
    for (int i = 0; i < 3; i++)
        if (sharing->workers[i].source)
            stop(&sharing->workers[i]);
    cr_expect_eq(sharing->changes, SHARED_CHANGES, "too few messages to learn from");
    cr_expect_leq(sharing->store.taken_over, SHARED_PARTITIONS, "handed over, not taken: %d",
                  sharing->store.taken_over);
    for (int i = 0; i < SHARED_PARTITIONS; i++)
        cr_expect_eq(sharing->store.next[i], each, "partition %d ends at %lld", i, (long long)sharing->store.next[i]);
}

/* There is more than they can take: queues are full while partitions change hands. */
static void share_a_backlog(const char *strategy)
{
    enum { EACH = 60000, PER_PACE = 20, BATCH_MAX = 600 };
    const struct weir_property properties[] = {
        quick[0], quick[1], {"partition.assignment.strategy", strategy}, {NULL, NULL}};
    static struct sharing sharing;
    const struct timespec pace = {0, 500000};

    start_sharing(&sharing, properties);
    for (int i = 0; i < SHARED_PARTITIONS; i++)
        kafka_fill(sharing.topic, i, 0, EACH);
    int64_t began = now_ms(), allowed = 0;
    for (unsigned round = 0; total(&sharing.store) < (int64_t)SHARED_PARTITIONS * EACH; round++) {
        int64_t seen = sharing.workers[0].seen + sharing.workers[1].seen + sharing.workers[2].seen;
        if (seen > allowed && sharing.changes < SHARED_CHANGES) { /* so that there is something left to share */
            nanosleep(&pace, NULL);
            allowed += PER_PACE;
        } else {
            step_all(&sharing, round, 1, 1 + round % BATCH_MAX);
        }
        cr_assert_lt(now_ms() - began, 120000, "%lld messages after two minutes", (long long)total(&sharing.store));
    }
    stop_sharing(&sharing, EACH);
}

Test(source_kafka, workers_share_a_backlog)
{
    share_a_backlog("cooperative-sticky");
}
Test(source_kafka, workers_share_a_backlog_by_an_eager_strategy)
{
    share_a_backlog("range,roundrobin");
}

/* Messages come one by one: whoever waits for a batch is caught by each rebalance with a part of it in hand. */
static _Atomic int trickled; /* to each partition; the end, once it is */
static _Atomic bool has_trickled;

static void *trickle(void *topic)
{
    const struct timespec pace = {0, 1000000};
    rd_kafka_t *producer = kafka_producer(NULL);
    char value[32];
    for (int i = 0; !has_trickled; i++) {
        for (int partition = 0; partition < SHARED_PARTITIONS; partition++)
            kafka_put(producer, topic, partition, value, (size_t)snprintf(value, sizeof value, "%d", i));
        trickled = i + 1;
        nanosleep(&pace, NULL);
    }
    kafka_flush(producer);
    rd_kafka_destroy(producer);
    return NULL;
}

Test(source_kafka, workers_share_a_trickle)
{
    static struct sharing sharing;
    pthread_t producer;

    start_sharing(&sharing, quick);
    cr_assert_eq(pthread_create(&producer, NULL, trickle, sharing.topic), 0);
    int64_t began = now_ms();
    for (unsigned round = 0; sharing.changes < SHARED_CHANGES; round++) {
        step_all(&sharing, round, 20, WEIR_POLL_MESSAGES_MAX);
        cr_assert_lt(now_ms() - began, 120000, "%d changes after two minutes", sharing.changes);
    }
    has_trickled = true;
    cr_assert_eq(pthread_join(producer, NULL), 0);
    for (unsigned round = 0; total(&sharing.store) < (int64_t)SHARED_PARTITIONS * trickled; round++) {
        step_all(&sharing, round, 20, WEIR_POLL_MESSAGES_MAX);
        cr_assert_lt(now_ms() - began, 180000, "%lld messages after three minutes", (long long)total(&sharing.store));
    }
    stop_sharing(&sharing, trickled);
}

/* A worker that does not poll loses its partitions; it is told so, and what it had is not written. */
Test(source_kafka, a_worker_that_hangs_loses_its_lanes)
{
    const struct weir_property hasty[] = {{"heartbeat.interval.ms", "50"},
                                          {"session.timeout.ms", "3000"},
                                          {"max.poll.interval.ms", "3000"},
                                          {NULL, NULL}};
    struct store store = {.next = {0}};
    struct worker hangs, lives;
    char topic[64];
    kafka_topic("lost", 2, topic);
    kafka_fill(topic, 0, 0, 100);
    kafka_fill(topic, 1, 0, 100);
    struct weir_kafka_settings settings = settings_of(topic, hasty);
    const struct weir_kafka_settings others = settings_of(topic, quick);
    start(&hangs, &store, &settings);
    UNTIL(hangs.seen == 200, step(&hangs, 20, 50));
    /* hangs: nothing flushed */
    struct store after = {.next = {0}};
    start(&lives, &after, &others);
    UNTIL(lives.seen == 200, step(&lives, 20, 50));
    cr_expect_eq(lives.assigned, 2);
    UNTIL(hangs.revoked == 2, step(&hangs, 20, 50));
    cr_expect_eq(hangs.lost, 2);
    cr_expect_eq(total(&store), 0);
    stop(&hangs);
    stop(&lives);
}

Test(source_kafka, a_lane_that_is_refused_ends_it)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char topic[64];
    kafka_topic("refused", 1, topic);
    kafka_fill(topic, 0, 0, 10);
    struct weir_kafka_settings settings = settings_of(topic, quick);
    start(&worker, &store, &settings);
    worker.refuses = true;
    UNTIL(worker.status == WEIR_FATAL, cr_assert_eq(step(&worker, 50, 10), 0));
    cr_expect_str_eq(worker.error.text, "no room for partition 0");
    stop(&worker);
    cr_expect_eq(worker.revoked, 0);
}

/* 3. Offsets. */

Test(source_kafka, begins_where_the_lane_is_stored)
{
    struct store store = {.next = {40, 0, 100}};
    struct worker worker;
    char topic[64];
    kafka_topic("stored", 3, topic);
    for (int i = 0; i < 3; i++)
        kafka_fill(topic, i, 0, 100);
    kafka_delete_before(topic, 1, 30); /* of a lane that has nothing stored: what there is, is read */
    struct weir_kafka_settings settings = settings_of(topic, quick);
    settings.until_end = true;
    start(&worker, &store, &settings);
    worker.has_gaps = true;
    read_to_end(&worker);
    cr_expect_eq(worker.seen, 60 + 70 + 0);
    stop(&worker);
    for (int i = 0; i < 3; i++)
        cr_expect_eq(store.next[i], 100);
}

static void gone(int64_t stored, int64_t deleted, const char *text)
{
    struct store store = {.next = {stored}};
    struct worker worker;
    char topic[64], want[160];
    kafka_topic("gone", 1, topic);
    kafka_fill(topic, 0, 0, 100);
    kafka_delete_before(topic, 0, deleted);
    struct weir_kafka_settings settings = settings_of(topic, quick);
    start(&worker, &store, &settings);
    UNTIL(worker.status == WEIR_FATAL, cr_assert_eq(step(&worker, 50, 10), 0));
    snprintf(want, sizeof want, "lane %s:0 is to be read from offset %s", topic, text);
    cr_expect(strstr(worker.error.text, want), "%s", worker.error.text);
    stop(&worker);
}

Test(source_kafka, offsets_that_retention_took_are_not_skipped)
{
    gone(20, 50, "20, but Kafka holds only 50 to 100");
}
Test(source_kafka, offsets_that_do_not_exist_yet_are_not_waited_for)
{
    gone(140, 0, "140, but Kafka holds only 0 to 100");
}

Test(source_kafka, what_is_durable_is_committed_for_lag_monitors)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char topic[64];
    kafka_topic("durable", 1, topic);
    kafka_fill(topic, 0, 0, 100);
    struct weir_kafka_settings settings = settings_of(topic, quick);
    start(&worker, &store, &settings);
    cr_expect_eq(worker.source->ops->lag(worker.source, 0), -1);
    UNTIL(worker.seen == 60, step(&worker, 50, 60 - (size_t)worker.seen));
    cr_expect_eq(worker.source->ops->lag(worker.source, 0), 40);
    cr_expect_eq(worker.source->ops->lag(worker.source, 7), -1);
    worker.source->ops->mark_durable(worker.source, 0, 50);
    UNTIL(committed(topic, 0) == 50, worker.source->ops->pause(worker.source, 0), step(&worker, 50, 1));
    worker.source->ops->resume(worker.source, 0);
    UNTIL(worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 50, 100));
    cr_expect_eq(worker.seen, 100);
    cr_expect_eq(worker.source->ops->lag(worker.source, 0), 0);
    kafka_fill(topic, 0, 100, 5); /* new messages end it, and end again */
    UNTIL(worker.seen == 105, step(&worker, 50, 100));
    UNTIL(worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 50, 100));
    flush(&worker);
    stop(&worker); /* commits the last ones while leaving */
    cr_expect_eq(committed(topic, 0), 105);
}

/* 4. Messages. */

Test(source_kafka, headers_tombstones_and_empty_values)
{
    static struct weir_message messages[8];
    struct store store = {.next = {0}};
    struct worker worker;
    char topic[64];
    size_t seen = 0;
    kafka_topic("headers", 1, topic);
    rd_kafka_t *producer = kafka_producer(NULL);
    kafka_put(producer, topic, 0, NULL, 0);
    kafka_put(producer, topic, 0, "", 0);
    rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE("x", 1),
                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADER("ce_id", "a\0b", 3),
                      RD_KAFKA_V_HEADER("empty", "", 0), RD_KAFKA_V_HEADER("null", NULL, 0),
                      RD_KAFKA_V_HEADER("ce_id", "again", 5), RD_KAFKA_V_END);
    rd_kafka_headers_t *many = rd_kafka_headers_new(70);
    for (int i = 0; i < 70; i++)
        rd_kafka_header_add(many, i == 69 ? "last" : "h", -1, "v", 1);
    rd_kafka_producev(producer, RD_KAFKA_V_TOPIC(topic), RD_KAFKA_V_PARTITION(0), RD_KAFKA_V_VALUE("y", 1),
                      RD_KAFKA_V_MSGFLAGS(RD_KAFKA_MSG_F_COPY), RD_KAFKA_V_HEADERS(many), RD_KAFKA_V_END);
    kafka_flush(producer);
    rd_kafka_destroy(producer);
    struct weir_kafka_settings settings = settings_of(topic, quick);
    start(&worker, &store, &settings);
    UNTIL(seen == 4, {
        size_t count = 0;
        cr_assert_eq(worker.source->ops->poll(worker.source, 50, messages + seen, 8 - seen, &count, &worker.error),
                     WEIR_OK);
        for (size_t i = seen; i < seen + count; i++) {
            const struct weir_message *message = &messages[i];
            struct weir_header read[WEIR_HEADERS_MAX];
            const struct weir_header *headers;
            uint32_t header_count = weir_message_headers(message, read, &headers);
            cr_expect_eq(message->is_tombstone, i == 0);
            cr_expect_eq(message->value.length, i < 2 ? 0u : 1u);
            cr_expect_eq(message->is_too_large, i == 3, "more headers than are looked at");
            cr_assert_eq(header_count, i == 2 ? 4u : i == 3 ? (unsigned)WEIR_HEADERS_MAX : 0u);
            if (i == 2) {
                cr_expect(weir_slice_equal(headers[0].name, weir_slice_text("ce_id")));
                cr_expect(weir_slice_equal(headers[0].value, weir_slice_of("a\0b", 3)));
                cr_expect(weir_slice_equal(headers[1].name, weir_slice_text("empty")) && headers[1].value.length == 0);
                cr_expect(weir_slice_equal(headers[2].name, weir_slice_text("null")) && headers[2].value.length == 0);
                cr_expect(weir_slice_equal(headers[3].value, weir_slice_text("again")));
            } else if (i == 3) {
                cr_expect(weir_slice_equal(headers[63].name, weir_slice_text("h")));
            }
        }
        seen += count;
    });
    stop(&worker);
}

Test(source_kafka, aborted_transactions_are_not_seen)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char topic[64];
    kafka_topic("transactions", 2, topic);
    rd_kafka_t *producer = kafka_producer(topic);
    cr_assert_null(rd_kafka_init_transactions(producer, KAFKA_CALL_MS));
    for (int round = 0; round < 4; round++) { /* the last one is aborted, and a marker ends the partition */
        cr_assert_null(rd_kafka_begin_transaction(producer));
        for (int i = 0; i < 10; i++)
            kafka_put(producer, topic, 0, round % 2 ? "aborted" : "committed", round % 2 ? 7 : 9);
        if (round == 3)
            kafka_put(producer, topic, 1, "aborted", 7); /* and nothing else in partition 1 */
        kafka_flush(producer);
        cr_assert_null(round % 2 ? rd_kafka_abort_transaction(producer, KAFKA_CALL_MS)
                                 : rd_kafka_commit_transaction(producer, KAFKA_CALL_MS));
    }
    cr_assert_null(rd_kafka_begin_transaction(producer)); /* one is open: its messages are not there yet */
    kafka_put(producer, topic, 0, "open", 4);
    kafka_flush(producer);

    struct weir_kafka_settings settings = settings_of(topic, quick);
    settings.until_end = true;
    start(&worker, &store, &settings);
    worker.has_gaps = true;
    read_to_end(&worker);
    cr_expect_eq(worker.seen, 20);
    cr_expect_eq(store.next[0], 32, "%lld",
                 (long long)store.next[0]);                 /* 10 committed, marker, 10 aborted, marker, 10 committed */
    UNTIL(committed(topic, 1) == 2, step(&worker, 50, 10)); /* a partition without any message is at its end, too */
    UNTIL(committed(topic, 0) == 44, step(&worker, 50, 10));
    stop(&worker);
    cr_assert_null(rd_kafka_abort_transaction(producer, KAFKA_CALL_MS));
    rd_kafka_destroy(producer);
}

/* The broker says "end" before it: its events will come, and a lane that followed the clock meanwhile would call them
 * late. */
Test(source_kafka, an_open_transaction_is_not_the_end)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char topic[64];
    kafka_topic("open", 1, topic);
    kafka_fill(topic, 0, 0, 1);
    rd_kafka_t *producer = kafka_producer(topic);
    cr_assert_null(rd_kafka_init_transactions(producer, KAFKA_CALL_MS));
    struct weir_kafka_settings settings = settings_of(topic, quick);
    start(&worker, &store, &settings);
    worker.has_gaps = true;
    UNTIL(worker.seen == 1 && worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 50, 100));
    cr_assert_null(rd_kafka_begin_transaction(producer));
    kafka_put(producer, topic, 0, "open", 4);
    kafka_flush(producer);
    UNTIL(!worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 50, 100));
    cr_expect_eq(worker.seen, 1);
    cr_assert_null(rd_kafka_commit_transaction(producer, KAFKA_CALL_MS));
    UNTIL(worker.seen == 2 && worker.source->ops->is_caught_up(worker.source, 0), step(&worker, 50, 100));
    stop(&worker);
    rd_kafka_destroy(producer);
}

/* 5. The end. */

Test(source_kafka, what_comes_after_the_start_is_not_waited_for)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char topic[64];
    kafka_topic("tail", 2, topic);
    kafka_fill(topic, 0, 0, 500);
    struct weir_kafka_settings settings = settings_of(topic, quick);
    settings.until_end = true;
    start(&worker, &store, &settings);
    kafka_fill(topic, 0, 500, 500);
    kafka_fill(topic, 1, 0, 500);
    rd_kafka_t *producer = kafka_producer(NULL); /* and it goes on */
    int64_t more = 1000;
    UNTIL(worker.has_ended, {
        char value[32];
        for (int i = 0; i < 50; i++, more++)
            kafka_put(producer, topic, 0, value, (size_t)snprintf(value, sizeof value, "%lld", (long long)more));
        step(&worker, 10, 100);
        cr_assert_neq(worker.status, WEIR_FATAL, "%s", worker.error.text);
        flush(&worker);
    });
    stop(&worker);
    cr_expect_eq(store.next[0], 500);
    cr_expect_eq(store.next[1], 0);
    kafka_flush(producer);
    rd_kafka_destroy(producer);
    settings.until_end = false; /* nothing of it was skipped */
    start(&worker, &store, &settings);
    UNTIL(worker.seen == 500 + 500 + (more - 1000), step(&worker, 50, 4096));
    stop(&worker);
}

/* More workers than partitions: all of them end, and none before all is read. */
Test(source_kafka, all_workers_end_together)
{
    enum { WORKERS = 4, PARTITIONS = 3, EACH = 20000 };
    static struct worker workers[WORKERS];
    struct store store = {.next = {0}};
    char topic[64];
    int running = WORKERS;
    kafka_topic("together", PARTITIONS, topic);
    kafka_fill(topic, 0, 0, EACH);
    kafka_fill(topic, 2, 0, EACH); /* 1 is empty */
    struct weir_kafka_settings settings = settings_of(topic, quick);
    settings.until_end = true;
    for (int i = 0; i < WORKERS; i++)
        start(&workers[i], &store, &settings);
    for (int64_t deadline = now_ms() + KAFKA_CALL_MS; running > 0;) {
        cr_assert(now_ms() < deadline, "%d workers do not end", running);
        for (int i = 0; i < WORKERS; i++) {
            if (!workers[i].source)
                continue;
            step(&workers[i], 5, 500);
            cr_assert_neq(workers[i].status, WEIR_FATAL, "%s", workers[i].error.text);
            flush(&workers[i]);
            if (workers[i].has_ended) {
                cr_expect_eq(total(&store), 2 * EACH, "worker %d ended at %lld", i, (long long)total(&store));
                stop(&workers[i]);
                running--;
            }
        }
    }
    int64_t seen = 0;
    for (int i = 0; i < WORKERS; i++)
        seen += workers[i].seen;
    cr_expect_eq(seen, 2 * EACH);
}

/* Kafka's committed offsets are for monitors: a store that came back older is read up again, whatever they say. */
Test(source_kafka, commits_of_an_earlier_run_end_nothing)
{
    enum { EACH = 5000 };
    static struct worker workers[2];
    struct store store = {.next = {0}};
    char topic[64];
    kafka_topic("stale", 2, topic);
    kafka_fill(topic, 0, 0, EACH);
    kafka_fill(topic, 1, 0, EACH);
    struct weir_kafka_settings settings = settings_of(topic, quick);
    settings.until_end = true;
    start(&workers[0], &store, &settings);
    read_to_end(&workers[0]);
    stop(&workers[0]);
    cr_assert_eq(committed(topic, 0), EACH);
    cr_assert_eq(committed(topic, 1), EACH);
    store.next[0] = 0;
    store.next[1] = 1000;
    for (int i = 0; i < 2; i++)
        start(&workers[i], &store, &settings);
    for (int64_t deadline = now_ms() + KAFKA_CALL_MS; workers[0].source || workers[1].source;) {
        cr_assert(now_ms() < deadline);
        for (int i = 0; i < 2; i++) {
            if (!workers[i].source)
                continue;
            step(&workers[i], 5, 500);
            cr_assert_neq(workers[i].status, WEIR_FATAL, "%s", workers[i].error.text);
            flush(&workers[i]);
            if (workers[i].has_ended)
                stop(&workers[i]);
        }
    }
    cr_expect_eq(store.next[0], EACH);
    cr_expect_eq(store.next[1], EACH);
    cr_expect_eq(workers[0].seen + workers[1].seen, 2 * EACH - 1000);
}

/* 6. Mistakes of those who set it up. */

static void refused(const char *name, const char *value, bool until_end, const char *text)
{
    const struct weir_property properties[] = {{name, value}, {NULL, NULL}};
    struct weir_kafka_settings settings = settings_of("nobody-created-this", properties);
    struct weir_source_listener listener = {.assigned = on_assigned, .revoked = on_revoked};
    struct weir_source *source = NULL;
    struct weir_error error = {""};
    settings.until_end = until_end;
    settings.property_count = name != NULL;
    cr_expect_eq(weir_source_kafka_open(&settings, &listener, &source, &error), WEIR_REJECT, "%s", name);
    cr_expect(strstr(error.text, text), "%s", error.text);
    cr_expect_null(source);
}

Test(source_kafka, properties_that_are_refused)
{
    refused("no.such.property", "1", false, "kafka property no.such.property: No such configuration property");
    refused("fetch.min.bytes", "few", false, "kafka property fetch.min.bytes: ");
    refused("isolation.level", "read_everything", false, "Invalid value \"read_everything\"");
    refused("partition.assignment.strategy", "cooperative-sticky,range", false, "Kafka consumer: ");
    for (int i = 0; weir_kafka_owned_properties[i]; i += 2) {
        char text[256];
        snprintf(text, sizeof text, "kafka.properties.%s is weir's own: %s", weir_kafka_owned_properties[i],
                 weir_kafka_owned_properties[i + 1]);
        refused(weir_kafka_owned_properties[i], "1", false, text);
    }
    struct stat is_there; /* TLS goes through to librdkafka, which looks for the file */
    cr_assert_neq(stat("/nowhere/ca.pem", &is_there), 0);
    refused("ssl.ca.location", "/nowhere/ca.pem", true, "nobody-created-this"); /* not used without TLS */
    const struct weir_property tls[] = {
        {"security.protocol", "ssl"}, {"ssl.ca.location", "/nowhere/ca.pem"}, {NULL, NULL}};
    struct weir_kafka_settings settings = settings_of("any", tls);
    struct weir_source_listener listener = {.assigned = on_assigned, .revoked = on_revoked};
    struct weir_source *source = NULL;
    struct weir_error error = {""};
    cr_expect_eq(weir_source_kafka_open(&settings, &listener, &source, &error), WEIR_REJECT);
    cr_expect(strstr(error.text, "ssl.ca.location"), "%s", error.text);
}

Test(source_kafka, a_topic_that_does_not_exist)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char want[256];
    snprintf(want, sizeof want, "topic 'nobody-created-this' does not exist at %s", kafka_brokers());
    refused(NULL, NULL, true, want);
    struct weir_kafka_settings settings = settings_of("nobody-created-this", quick);
    start(&worker, &store, &settings);
    UNTIL(worker.status == WEIR_FATAL, step(&worker, 50, 10));
    cr_expect(strstr(worker.error.text, want), "%s", worker.error.text);
    stop(&worker);
}

/* 7. Brokers that are away. */

/* What the log says, in a file. */
static void log_to(char path[64])
{
    strcpy(path, "/tmp/weir-log-XXXXXX");
    int file = mkstemp(path);
    cr_assert(file >= 0 && dup2(file, STDERR_FILENO) == STDERR_FILENO);
    close(file);
    weir_log_open("test", false, WEIR_LOG_INFO);
}

static const char *content_of(const char *path)
{
    static char content[1 << 16];
    FILE *file = fopen(path, "r");
    cr_assert(file);
    content[fread(content, 1, sizeof content - 1, file)] = '\0';
    fclose(file);
    return content;
}

static int lines_with(const char *path, const char *text)
{
    int count = 0;
    for (const char *at = content_of(path); (at = strstr(at, text)); at++)
        count++;
    return count;
}

Test(source_kafka, brokers_that_come_back_are_waited_for)
{
    struct store store = {.next = {0}};
    struct worker worker;
    char path[64], text[512];
    rd_kafka_conf_t *conf = rd_kafka_conf_new();
    rd_kafka_t *host = rd_kafka_new(RD_KAFKA_PRODUCER, conf, text, sizeof text);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(host, 1);
    cr_assert(cluster);
    rd_kafka_mock_topic_create(cluster, "mocked", 1, 1);
    setenv("WEIR_TEST_KAFKA_BROKERS", rd_kafka_mock_cluster_bootstraps(cluster), 1);
    kafka_fill("mocked", 0, 0, 10);
    log_to(path);
    rd_kafka_mock_broker_set_down(cluster, 1);
    struct weir_kafka_settings settings = settings_of("mocked", quick);
    start(&worker, &store, &settings);
    UNTIL(lines_with(path, "does not answer") == 1, {
        cr_assert_eq(step(&worker, 50, 10), 0);
        cr_assert_eq(worker.status, WEIR_OK, "%s", worker.error.text);
    });
    cr_expect_eq(lines_with(path, "\n"), 1, "and nothing else: %s", content_of(path));
    rd_kafka_mock_broker_set_up(cluster, 1);
    UNTIL(worker.seen == 10, {
        step(&worker, 50, 10);
        cr_assert_eq(worker.status, WEIR_OK, "%s", worker.error.text);
    });
    rd_kafka_mock_broker_set_down(cluster, 1);
    int64_t began = now_ms();
    stop(&worker); /* leaves without them */
    cr_expect_lt(now_ms() - began, 30000);
    unlink(path);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
}

Test(source_kafka, a_batch_run_does_not_wait_for_ever)
{
    struct weir_kafka_settings settings = {
        .brokers = "127.0.0.1:1", .topic = "any", .group = "any", .until_end = true, .reach_ms = 1000};
    struct weir_source_listener listener = {.assigned = on_assigned, .revoked = on_revoked};
    struct weir_source *source = NULL;
    struct weir_error error = {""};
    cr_expect_eq(weir_source_kafka_open(&settings, &listener, &source, &error), WEIR_FATAL);
    cr_expect(strstr(error.text, "Kafka at 127.0.0.1:1 has not answered for 1 s"), "%s", error.text);
    cr_expect(strstr(error.text, "Connection refused"), "%s", error.text);
}
