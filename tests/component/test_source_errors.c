/* The Kafka source and brokers that answer with errors, late, elsewhere or not at all: librdkafka's mock cluster, which
 * does so where and when it is told to. Whatever happens, each partition's messages come in order, none left out and
 * none twice within an assignment; what passes is waited for, and what only somebody can mend ends the source. */
#include "kafka_server.h"

#include <librdkafka/rdkafka_mock.h>

#include "common/log.h"
#include "ingest/source.h"

enum { PARTITIONS = 3, BROKERS = 3, READERS_MAX = 2, ROOM = 200000 };
enum api {
    FETCH = 1,
    LIST_OFFSETS = 2,
    OFFSET_COMMIT = 8,
    OFFSET_FETCH = 9,
    FIND_COORDINATOR = 10,
    JOIN_GROUP = 11,
    HEARTBEAT = 12,
    SYNC_GROUP = 14,
};

/* The hook of kafka_server.h need not start a real Kafka. */
__attribute__((constructor)) static void have_no_server(void)
{
    setenv("WEIR_TEST_KAFKA_BROKERS", "none: each test has a cluster of its own", 0);
}

/* 1. the cluster, one for each test (each is a process) */
static rd_kafka_t *host;
static rd_kafka_mock_cluster_t *cluster;

static void set_up(void)
{
    char text[512];
    host = rd_kafka_new(RD_KAFKA_PRODUCER, rd_kafka_conf_new(), text, sizeof text);
    cluster = rd_kafka_mock_cluster_new(host, BROKERS);
    cr_assert(cluster);
    setenv("WEIR_TEST_KAFKA_BROKERS", rd_kafka_mock_cluster_bootstraps(cluster), 1);
    cr_assert_eq(rd_kafka_mock_topic_create(cluster, "mocked", PARTITIONS, BROKERS), RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int i = 0; i < PARTITIONS; i++)
        rd_kafka_mock_partition_set_leader(cluster, "mocked", i, 1 + i % BROKERS);
    rd_kafka_mock_coordinator_set(cluster, "group", "mocked", 1);
}

static void tear_down(void)
{
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
}

/* The next answer of this broker to such a request; rtt_ms: and that late. */
static void push(int broker, enum api api, rd_kafka_resp_err_t error, int rtt_ms)
{
    rd_kafka_mock_broker_push_request_error_rtts(cluster, broker, (int16_t)api, 1, error, rtt_ms);
}

/* Answers that nobody has asked for yet. */
static size_t waiting(enum api api)
{
    size_t sum = 0, count = 0;
    for (int i = 1; i <= BROKERS; i++)
        if (rd_kafka_mock_broker_error_stack_cnt(cluster, i, (int16_t)api, &count) == RD_KAFKA_RESP_ERR_NO_ERROR)
            sum += count;
    return sum;
}

static int64_t filled;

/* So many more messages in each partition; the value of each is its offset. */
static void fill(int64_t count)
{
    for (int i = 0; i < PARTITIONS; i++)
        kafka_fill("mocked", i, filled, count);
    filled += count;
}

/* 2. a reader: what it has read is stored from time to time, and it begins there whenever a partition comes to it */
struct store {
    int64_t next[PARTITIONS], stamps[PARTITIONS]; /* stamp: of the message before next; -1: none */
};

struct reader {
    struct weir_source *source;
    struct store *store, memory;
    bool is_ours[PARTITIONS];
    int assigned, revoked, lost, gone;
    int64_t seen;
    enum weir_status status;
    struct weir_error error;
};

static struct reader readers[READERS_MAX];

static bool on_assigned(void *context, struct weir_slice topic, int32_t partition, int64_t *ret_offset,
                        struct weir_error *reterr)
{
    struct reader *reader = context;
    (void)topic, (void)reterr;
    cr_assert_not(reader->is_ours[partition], "partition %d comes twice", partition);
    reader->is_ours[partition] = true;
    reader->assigned++;
    reader->memory.next[partition] = reader->store->next[partition];
    reader->memory.stamps[partition] = reader->store->stamps[partition];
    *ret_offset = reader->memory.next[partition] > 0 ? reader->memory.next[partition] : -1;
    return true;
}

static void keep(struct reader *reader, int32_t partition)
{
    if (reader->memory.next[partition] < reader->store->next[partition])
        return; /* a zombie's cut: refused */
    reader->store->next[partition] = reader->memory.next[partition];
    reader->store->stamps[partition] = reader->memory.stamps[partition];
}

static void on_revoked(void *context, struct weir_slice topic, int32_t partition, bool lost)
{
    struct reader *reader = context;
    (void)topic;
    cr_assert(reader->is_ours[partition]);
    reader->is_ours[partition] = false;
    reader->revoked++;
    reader->lost += lost;
    if (!lost)
        keep(reader, partition);
}

static int64_t on_stamp(void *context, int32_t partition)
{
    return ((struct reader *)context)->memory.stamps[partition];
}

static void on_gone(void *context, int32_t partition, enum weir_gap_kind kind, int64_t next_offset)
{
    struct reader *reader = context;
    fprintf(stderr, "partition %d: %s, from %lld to %lld\n", partition, weir_gap_kind_name[kind],
            (long long)reader->memory.next[partition], (long long)next_offset);
    reader->gone++;
}

/* The mock cluster waits for a session less a second for members to join again, and forgets one that waits there once
 * its session is over, without an answer: a test that holds it up for a second loses its reader. It asks again when the
 * longest time between polls has passed; what must keep its partitions has a session in which nobody waits for it. */
enum { SESSION_MS = 6000, LONG_SESSION_MS = 30000 };

static void start(struct reader *reader, struct store *store, bool until_end, int session_ms)
{
    char session[16], longest[16];
    snprintf(session, sizeof session, "%d", session_ms);
    snprintf(longest, sizeof longest, "%d", session_ms + 4000);
    const struct weir_property quick[] = {
        {"heartbeat.interval.ms", "50"},     {"session.timeout.ms", session},
        {"max.poll.interval.ms", longest},   {"topic.metadata.refresh.interval.ms", "200"},
        {"reconnect.backoff.max.ms", "200"}, {"retry.backoff.ms", "20"},
        {"fetch.wait.max.ms", "50"}};
    const struct weir_kafka_settings settings = {.brokers = kafka_brokers(),
                                                 .topic = "mocked",
                                                 .group = "mocked",
                                                 .properties = quick,
                                                 .property_count = sizeof quick / sizeof *quick,
                                                 .until_end = until_end};
    struct weir_source_listener listener = {
        .context = reader, .assigned = on_assigned, .revoked = on_revoked, .stamp = on_stamp, .gone = on_gone};
    *reader = (struct reader){.store = store};
    cr_assert_eq(weir_source_kafka_open(&settings, &listener, &reader->source, &reader->error), WEIR_OK, "%s",
                 reader->error.text);
}

static void stop(struct reader *reader)
{
    weir_source_free(reader->source);
    reader->source = NULL;
}

static void take(struct reader *reader, const struct weir_message *message)
{
    char text[32];
    struct store *memory = &reader->memory;
    cr_assert(reader->is_ours[message->partition]);
    cr_assert_eq(message->offset, memory->next[message->partition], "partition %d: offset %lld instead of %lld",
                 message->partition, (long long)message->offset, (long long)memory->next[message->partition]);
    snprintf(text, sizeof text, "%lld", (long long)message->offset);
    cr_assert(weir_slice_equal(message->value, weir_slice_text(text)));
    memory->next[message->partition]++;
    memory->stamps[message->partition] = message->timestamp;
    reader->seen++;
}

static void flush(struct reader *reader)
{
    for (int i = 0; i < PARTITIONS; i++)
        if (reader->is_ours[i]) {
            keep(reader, i);
            reader->source->ops->mark_durable(reader->source, i, reader->memory.next[i]);
        }
}

/* One poll of each; the first that does not say OK ends it. */
static bool step_all(void)
{
    static struct weir_message messages[50];
    for (int i = 0; i < READERS_MAX; i++) {
        struct reader *reader = &readers[i];
        size_t count = 0;
        if (!reader->source)
            continue;
        reader->status = reader->source->ops->poll(reader->source, 20, messages, 50, &count, &reader->error);
        for (size_t m = 0; m < count; m++)
            take(reader, &messages[m]);
        if (reader->status == WEIR_FATAL)
            return false;
        if (reader->seen % 3 != 0)
            flush(reader);
    }
    return true;
}

static bool all_read(void)
{
    bool is_read = true;
    for (int p = 0; p < PARTITIONS; p++) {
        bool here = false;
        for (int i = 0; i < READERS_MAX; i++)
            here |= readers[i].source && readers[i].is_ours[p] && readers[i].memory.next[p] == filled;
        is_read &= here;
    }
    return is_read;
}

#define UNTIL(condition, ...)                                                                                          \
    for (int64_t deadline_ = now_ms() + 2 * KAFKA_CALL_MS; !(condition);) {                                            \
        cr_assert(now_ms() < deadline_, "waited in vain for " #condition ": " __VA_ARGS__);                            \
        cr_assert(step_all(), "%s%s", readers[0].error.text, readers[1].error.text);                                   \
    }

/* Everything sent so far and `count` more messages are read, and nothing was ever taken for lost. */
static void read_on(int64_t count, const char *after)
{
    fill(count);
    UNTIL(all_read(), "after %s", after);
    cr_assert_eq(readers[0].gone + readers[1].gone, 0, "nothing is gone, after %s", after);
}

/* 3. what passes */
struct answer {
    enum api api;
    rd_kafka_resp_err_t error;
    int rtt_ms;
};
#define ANSWER(api, error)                                                                                             \
    {                                                                                                                  \
        api, RD_KAFKA_RESP_ERR_##error, 0                                                                              \
    }

/* Who is asked: whoever leads, the coordinator, anybody. */
static void push_everywhere(const struct answer *answer)
{
    bool is_to_one = answer->api != FETCH && answer->api != FIND_COORDINATOR;

    for (int broker = 1; broker <= (is_to_one ? 1 : BROKERS); broker++)
        push(broker, answer->api, answer->error, answer->rtt_ms);
}

/* Each of them is met, and more is read, before the next one. */
static void meet(const struct answer *answers, size_t count)
{
    for (size_t i = 0; i < count; i++) {
        const char *name = rd_kafka_err2name(answers[i].error);
        push_everywhere(&answers[i]);
        fill(1); /* what is committed already is not committed again */
        UNTIL(waiting(answers[i].api) == 0, "%s of %d", name, answers[i].api);
        read_on(20, name);
    }
}

Test(source_errors, of_fetching_pass)
{
    static const struct answer answers[] = {
        ANSWER(FETCH, NOT_LEADER_FOR_PARTITION),   ANSWER(FETCH, LEADER_NOT_AVAILABLE),
        ANSWER(FETCH, UNKNOWN_TOPIC_OR_PART),      ANSWER(FETCH, REQUEST_TIMED_OUT),
        ANSWER(FETCH, KAFKA_STORAGE_ERROR),        ANSWER(FETCH, OFFSET_NOT_AVAILABLE),
        ANSWER(FETCH, BROKER_NOT_AVAILABLE),       ANSWER(FETCH, REPLICA_NOT_AVAILABLE),
        ANSWER(FETCH, FENCED_LEADER_EPOCH),        ANSWER(FETCH, UNKNOWN_LEADER_EPOCH),
        ANSWER(FETCH, NETWORK_EXCEPTION),          ANSWER(FETCH, UNKNOWN),
        ANSWER(FETCH, OFFSET_OUT_OF_RANGE),        ANSWER(FETCH, _TRANSPORT),
        {FETCH, RD_KAFKA_RESP_ERR_NO_ERROR, 1500},
    };
    struct store store = {0};
    set_up();
    start(&readers[0], &store, false, LONG_SESSION_MS);
    read_on(100, "the start");
    meet(answers, sizeof answers / sizeof *answers);
    cr_assert_eq(readers[0].seen, PARTITIONS * filled, "one assignment, no message twice");
    cr_assert_eq(readers[0].assigned, PARTITIONS);
    stop(&readers[0]);
    tear_down();
}

Test(source_errors, of_offsets_pass)
{
    static const struct answer answers[] = {
        ANSWER(OFFSET_COMMIT, COORDINATOR_LOAD_IN_PROGRESS),
        ANSWER(OFFSET_COMMIT, NOT_COORDINATOR),
        ANSWER(OFFSET_COMMIT, REQUEST_TIMED_OUT),
        ANSWER(OFFSET_COMMIT, _TRANSPORT),
    };
    static const rd_kafka_resp_err_t offsets[] = {
        RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR_LEADER_NOT_AVAILABLE,
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART, RD_KAFKA_RESP_ERR__TRANSPORT};
    struct store store = {0};
    set_up();
    /* Nothing is stored, so that it has to ask where each partition begins. */
    for (size_t i = 0; i < sizeof offsets / sizeof *offsets; i++)
        for (int broker = 1; broker <= BROKERS; broker++)
            push(broker, LIST_OFFSETS, offsets[i], 0);
    start(&readers[0], &store, false, SESSION_MS);
    read_on(100, "the start");
    meet(answers, sizeof answers / sizeof *answers);
    stop(&readers[0]);
    tear_down();
}

Test(source_errors, of_the_group_pass)
{
    static const struct answer joining[] = {
        ANSWER(FIND_COORDINATOR, COORDINATOR_NOT_AVAILABLE),
        ANSWER(FIND_COORDINATOR, _TRANSPORT),
        ANSWER(JOIN_GROUP, COORDINATOR_LOAD_IN_PROGRESS),
        ANSWER(JOIN_GROUP, NOT_COORDINATOR),
        ANSWER(JOIN_GROUP, UNKNOWN_MEMBER_ID),
        ANSWER(JOIN_GROUP, _TRANSPORT),
        ANSWER(SYNC_GROUP, REBALANCE_IN_PROGRESS),
        ANSWER(SYNC_GROUP, NOT_COORDINATOR),
        ANSWER(SYNC_GROUP, _TRANSPORT),
    };
    static const struct answer running[] = {
        ANSWER(HEARTBEAT, NOT_COORDINATOR),
        ANSWER(HEARTBEAT, COORDINATOR_NOT_AVAILABLE),
        ANSWER(HEARTBEAT, _TRANSPORT),
        ANSWER(HEARTBEAT, REBALANCE_IN_PROGRESS),
        ANSWER(HEARTBEAT, ILLEGAL_GENERATION),
        ANSWER(HEARTBEAT, UNKNOWN_MEMBER_ID),
        {HEARTBEAT, RD_KAFKA_RESP_ERR_NO_ERROR, 1000},
    };
    struct store store = {0};
    set_up();
    for (size_t i = 0; i < sizeof joining / sizeof *joining; i++)
        push_everywhere(&joining[i]);
    size_t coordinators = waiting(FIND_COORDINATOR), joins = waiting(JOIN_GROUP);
    start(&readers[0], &store, false, SESSION_MS);
    UNTIL(waiting(JOIN_GROUP) < joins, "the coordinator");
    cr_expect_lt(waiting(FIND_COORDINATOR), coordinators);
    /* What the brokers have left that nobody asked: the mock cluster ends with a failed assertion where a member asks
     * for the coordinator again, is told so, and joins once more, while it waits to join. */
    rd_kafka_mock_clear_request_errors(cluster, FIND_COORDINATOR);
    read_on(100, "the start");
    cr_expect_eq(waiting(JOIN_GROUP), 0);
    cr_expect_eq(waiting(SYNC_GROUP), 0);
    meet(running, sizeof running / sizeof *running);
    cr_expect_gt(readers[0].lost, 0, "a member that the group does not know has lost its partitions");
    stop(&readers[0]);
    tear_down();
}

/* A batch run asks for the ends first, and then for what the others have committed. */
Test(source_errors, of_a_batch_run_pass)
{
    static const rd_kafka_resp_err_t ends[] = {
        RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT, RD_KAFKA_RESP_ERR_NOT_LEADER_FOR_PARTITION, RD_KAFKA_RESP_ERR__TRANSPORT};
    static const rd_kafka_resp_err_t committed[] = {RD_KAFKA_RESP_ERR_COORDINATOR_LOAD_IN_PROGRESS,
                                                    RD_KAFKA_RESP_ERR_NOT_COORDINATOR,
                                                    RD_KAFKA_RESP_ERR_REQUEST_TIMED_OUT};
    struct store store = {0};
    set_up();
    fill(500);
    for (int broker = 1; broker <= BROKERS; broker++)
        for (size_t i = 0; i < 3; i++)
            push(broker, LIST_OFFSETS, ends[i], 0);
    for (size_t i = 0; i < 3; i++)
        push(1, OFFSET_FETCH, committed[i], 0);
    start(&readers[0], &store, true, SESSION_MS);
    start(&readers[1], &store, true, SESSION_MS);
    fill(10); /* behind the end */
    UNTIL(readers[0].status == WEIR_AGAIN && readers[1].status == WEIR_AGAIN, "the end");
    for (int i = 0; i < PARTITIONS; i++)
        cr_expect_eq(store.next[i], 500, "partition %d ends at %lld", i, (long long)store.next[i]);
    cr_expect_eq(waiting(OFFSET_FETCH), 0);
    cr_expect_eq(waiting(LIST_OFFSETS), 0);
    stop(&readers[0]);
    stop(&readers[1]);
    tear_down();
}

/* 4. what does not */
static void ends_with(enum api api, rd_kafka_resp_err_t error, const char *says)
{
    struct store store = {0};
    set_up();
    fill(10);
    push(1, api, error, 0);
    start(&readers[0], &store, false, SESSION_MS);
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    while (step_all())
        cr_assert(now_ms() < deadline, "it goes on");
    cr_expect(strstr(readers[0].error.text, "topic 'mocked' at 127.0.0.1:"), "%s", readers[0].error.text);
    cr_expect(strstr(readers[0].error.text, says), "%s", readers[0].error.text);
    stop(&readers[0]);
    tear_down();
}

Test(source_errors, a_group_that_is_forbidden_ends_it)
{
    ends_with(JOIN_GROUP, RD_KAFKA_RESP_ERR_GROUP_AUTHORIZATION_FAILED, "Group authorization failed");
}

Test(source_errors, a_topic_that_is_forbidden_ends_it)
{
    ends_with(FETCH, RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED, "Topic authorization failed");
}

/* 5. brokers that move, vanish and dawdle */
Test(source_errors, leaders_and_coordinators_that_move_lose_nothing)
{
    struct store store = {0};
    set_up();
    start(&readers[0], &store, false, LONG_SESSION_MS);
    read_on(100, "the start");
    for (int i = 0; i < 9; i++) {
        rd_kafka_mock_partition_set_leader(cluster, "mocked", i % PARTITIONS, 1 + (i + i / 3) % BROKERS);
        rd_kafka_mock_coordinator_set(cluster, "group", "mocked", 1 + (i + 1) % BROKERS);
        read_on(50, "a move");
    }
    cr_assert_eq(readers[0].seen, PARTITIONS * filled);
    stop(&readers[0]);
    tear_down();
}

Test(source_errors, brokers_that_vanish_and_come_back_lose_nothing)
{
    struct store store = {0};
    set_up();
    start(&readers[0], &store, false, LONG_SESSION_MS);
    read_on(100, "the start");
    for (int i = 0; i < 4; i++) {
        fill(50);
        for (int broker = 1; broker <= BROKERS; broker++)
            if (i == 3 || broker == 1 + i)
                rd_kafka_mock_broker_set_down(cluster, broker);
        for (int64_t end = now_ms() + 600; now_ms() < end;)
            cr_assert(step_all(), "%s", readers[0].error.text);
        for (int broker = 1; broker <= BROKERS; broker++)
            rd_kafka_mock_broker_set_up(cluster, broker);
        read_on(50, "brokers that were down");
    }
    for (int broker = 1; broker <= BROKERS; broker++)
        rd_kafka_mock_broker_set_rtt(cluster, broker, 300);
    read_on(50, "long round trips");
    cr_assert_eq(readers[0].seen, PARTITIONS * filled, "not lost in between: the session is longer");
    stop(&readers[0]);
    tear_down();
}

/* 6. all of it at random, with two readers that come and go */
static uint64_t random_state;

static int below(int limit)
{
    random_state = random_state * UINT64_C(6364136223846793005) + UINT64_C(1442695040888963407);
    return (int)((random_state >> 33) % (uint64_t)limit);
}

static void push_any(void)
{
    static const struct answer answers[] = {
        ANSWER(FETCH, NOT_LEADER_FOR_PARTITION),
        ANSWER(FETCH, UNKNOWN_TOPIC_OR_PART),
        ANSWER(FETCH, OFFSET_OUT_OF_RANGE),
        ANSWER(FETCH, _TRANSPORT),
        {FETCH, RD_KAFKA_RESP_ERR_NO_ERROR, 700},
        ANSWER(LIST_OFFSETS, NOT_LEADER_FOR_PARTITION),
        ANSWER(LIST_OFFSETS, REQUEST_TIMED_OUT),
        ANSWER(LIST_OFFSETS, _TRANSPORT),
        {LIST_OFFSETS, RD_KAFKA_RESP_ERR_NO_ERROR, 700},
        ANSWER(OFFSET_COMMIT, NOT_COORDINATOR),
        ANSWER(OFFSET_COMMIT, _TRANSPORT),
        ANSWER(FIND_COORDINATOR, COORDINATOR_NOT_AVAILABLE),
        ANSWER(JOIN_GROUP, UNKNOWN_MEMBER_ID),
        ANSWER(SYNC_GROUP, REBALANCE_IN_PROGRESS),
        ANSWER(SYNC_GROUP, _TRANSPORT),
        ANSWER(HEARTBEAT, REBALANCE_IN_PROGRESS),
        ANSWER(HEARTBEAT, ILLEGAL_GENERATION),
        ANSWER(HEARTBEAT, UNKNOWN_MEMBER_ID),
        ANSWER(HEARTBEAT, _TRANSPORT),
    };
    const struct answer *answer = &answers[below(sizeof answers / sizeof *answers)];

    for (int broker = 1; broker <= BROKERS; broker++)
        if (below(2))
            push(broker, answer->api, answer->error, answer->rtt_ms);
}

static void do_anything(struct store *store)
{
    int broker = 1 + below(BROKERS);

    switch (below(8)) {
    case 0:
        rd_kafka_mock_partition_set_leader(cluster, "mocked", below(PARTITIONS), broker);
        return;
    case 1:
        rd_kafka_mock_coordinator_set(cluster, "group", "mocked", broker);
        return;
    case 2:
        rd_kafka_mock_broker_set_down(cluster, broker);
        for (int64_t end = now_ms() + below(600); now_ms() < end;)
            cr_assert(step_all(), "%s%s", readers[0].error.text, readers[1].error.text);
        rd_kafka_mock_broker_set_up(cluster, broker);
        return;
    case 3:
        if (readers[1].source)
            stop(&readers[1]);
        else
            start(&readers[1], store, false, SESSION_MS);
        return;
    default:
        push_any();
    }
}

/* By hand, with a seed: librdkafka 2.0.2 may never return from closing a consumer (rd_kafka_consumer_close) whose
 * coordinator goes at that moment, once in twenty runs on a busy machine. With seed 333 three of four runs took
 * something for lost when both ends of a partition were asked for at once. */
Test(source_errors, at_random_lose_nothing)
{
    const char *given = getenv("WEIR_TEST_SEED");
    if (!given)
        cr_skip_test("WEIR_TEST_SEED is not set");
    uint64_t seed = strtoull(given, NULL, 10);
    struct store store = {0};

    fprintf(stderr, "source_errors at random: WEIR_TEST_SEED=%llu\n", (unsigned long long)seed);
    random_state = seed;
    set_up();
    start(&readers[0], &store, false, SESSION_MS);
    read_on(100, "the start");
    for (int i = 0; i < 30; i++) {
        fill(1 + below(30));
        do_anything(&store);
        for (int64_t end = now_ms() + below(300); now_ms() < end;)
            cr_assert(step_all(), "%s%s", readers[0].error.text, readers[1].error.text);
        cr_assert_eq(readers[0].gone + readers[1].gone, 0, "something is taken for lost, seed %llu",
                     (unsigned long long)seed);
    }
    for (int broker = 1; broker <= BROKERS; broker++)
        for (int api = FETCH; api <= SYNC_GROUP; api++)
            rd_kafka_mock_clear_request_errors(cluster, (int16_t)api);
    read_on(20, "the end");
    for (int i = 0; i < READERS_MAX; i++)
        if (readers[i].source)
            stop(&readers[i]);
    tear_down();
}
