/* Quarantine in Kafka, read back by bare librdkafka; and `weir produce`, read back by our own source. */
#include "kafka_server.h"

#include <fcntl.h>
#include <librdkafka/rdkafka_mock.h>
#include <signal.h>

#include "cli/commands.h"
#include "ingest/quarantine.h"

static const char *header_of(const rd_kafka_message_t *message, const char *name)
{
    static char text[2048];
    rd_kafka_headers_t *headers;
    const void *value;
    size_t size;
    if (rd_kafka_message_headers(message, &headers) || rd_kafka_header_get_last(headers, name, &value, &size))
        return "(none)";
    snprintf(text, sizeof text, "%.*s", (int)size, (const char *)value);
    return text;
}

static const struct weir_rejection why = {
    .reason = WEIR_REASON_NUMBER_RANGE, .field = "data.tokens", .detail = "'1e99' is too large"};

Test(quarantine_kafka, keeps_the_event_as_it_was)
{
    struct weir_quarantine *quarantine;
    struct weir_error error = {""};
    char topic[64], beside[80];
    kafka_topic("events", 1, topic);
    snprintf(beside, sizeof beside, "%s.quarantine", topic);
    struct weir_kafka_settings settings = {.brokers = kafka_brokers(), .topic = topic, .group = "any"};
    cr_assert_eq(weir_quarantine_kafka_open(&settings, NULL, &quarantine, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK, "nothing yet: %s", error.text);

    const struct weir_header headers[] = {{weir_slice_text("ce_id"), weir_slice_of("a\0b", 3)},
                                          {weir_slice_text("empty"), weir_slice_text("")}};
    char *large = malloc(WEIR_EVENT_BYTES_MAX);
    memset(large, 'x', WEIR_EVENT_BYTES_MAX);
    static char bulk[40000];
    struct weir_header many[WEIR_HEADERS_MAX];
    for (size_t i = 0; i < WEIR_HEADERS_MAX; i++)
        many[i] = (struct weir_header){weir_slice_text("bulk"), weir_slice_of(bulk, sizeof bulk)};
    struct weir_message messages[] = {
        {.value = weir_slice_of("\xff{\0}", 4), .header_count = 2, .headers = headers},
        {.is_tombstone = true},
        {.value = weir_slice_of(NULL, 0),
         .header_count = 2,
         .unread = weir_slice_of("\x0a"
                                 "ce_id\x02"
                                 "b"
                                 "\x08"
                                 "void\x01",
                                 14)},
        {.value = weir_slice_of(large, 990000)}, /* fits */
        {.value = weir_slice_of(large, WEIR_EVENT_BYTES_MAX), .is_too_large = true},
        {.value = weir_slice_of(large, 990000), .header_count = WEIR_HEADERS_MAX, .headers = many},
    };
    enum { COUNT = sizeof messages / sizeof *messages };
    for (int i = 0; i < COUNT; i++) {
        messages[i].topic = weir_slice_text(topic);
        messages[i].partition = 3;
        messages[i].offset = INT64_C(5000000000) + i;
        cr_assert_eq(quarantine->ops->put(quarantine, &messages[i], &why, &error), WEIR_OK, "%d: %s", i, error.text);
    }
    cr_assert_eq(quarantine->ops->flush(quarantine, &error), WEIR_OK, "%s", error.text);

    /* Created by use, with as many partitions as the broker likes: without keys they are in any of them. */
    static rd_kafka_message_t *kept[COUNT];
    const char *const pairs[] = {"group.id", "test", "enable.partition.eof", "false", NULL};
    rd_kafka_t *client = kafka_client(RD_KAFKA_CONSUMER, pairs);
    rd_kafka_poll_set_consumer(client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(16);
    const struct rd_kafka_metadata *metadata;
    rd_kafka_topic_t *of = rd_kafka_topic_new(client, beside, NULL);
    cr_assert_eq(rd_kafka_metadata(client, 0, of, &metadata, KAFKA_CALL_MS), RD_KAFKA_RESP_ERR_NO_ERROR);
    for (int i = 0; i < metadata->topics[0].partition_cnt; i++)
        rd_kafka_topic_partition_list_add(list, beside, i)->offset = 0;
    rd_kafka_assign(client, list);
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    for (int seen = 0; seen < COUNT;) {
        cr_assert(now_ms() < deadline, "only %d records", seen);
        rd_kafka_message_t *message = rd_kafka_consumer_poll(client, 100);
        if (!message)
            continue;
        cr_assert_eq(message->err, RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_message_errstr(message));
        int which = atoi(header_of(message, "weir_offset") + 9); /* its last digit */
        cr_assert(which >= 0 && which < COUNT && !kept[which]);
        kept[which] = message;
        seen++;
    }
    for (int i = 0; i < COUNT; i++) {
        char offset[32];
        snprintf(offset, sizeof offset, "%lld", (long long)messages[i].offset);
        cr_expect_str_eq(header_of(kept[i], "weir_topic"), topic);
        cr_expect_str_eq(header_of(kept[i], "weir_partition"), "3");
        cr_expect_str_eq(header_of(kept[i], "weir_offset"), offset);
        cr_expect_str_eq(header_of(kept[i], "weir_reason"), "number_range");
        cr_expect_str_eq(header_of(kept[i], "weir_field"), "data.tokens");
        cr_expect_str_eq(header_of(kept[i], "weir_detail"), "'1e99' is too large");
        cr_expect_str_eq(header_of(kept[i], "weir_cut"), i >= 4 ? "true" : "(none)", "record %d", i);
    }
    cr_expect(kept[0]->len == 4 && memcmp(kept[0]->payload, "\xff{\0}", 4) == 0);
    cr_expect_str_eq(header_of(kept[0], "ce_id"), "a");
    cr_expect_str_eq(header_of(kept[0], "empty"), "");
    cr_expect_null(kept[1]->payload);
    cr_expect(kept[2]->payload && kept[2]->len == 0, "empty is not null");
    cr_expect_str_eq(header_of(kept[2], "ce_id"), "b", "as its source left it");
    cr_expect(kept[3]->len == 990000 && memcmp(kept[3]->payload, large, 990000) == 0);
    cr_expect(kept[4]->len > 990000 && memcmp(kept[4]->payload, large, kept[4]->len) == 0);
    cr_expect(kept[5]->len > 900000 && memcmp(kept[5]->payload, large, kept[5]->len) == 0);
    for (int i = 0; i < COUNT; i++)
        rd_kafka_message_destroy(kept[i]);
    rd_kafka_metadata_destroy(metadata);
    rd_kafka_topic_destroy(of);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_destroy(client);
    weir_quarantine_free(quarantine);
    free(large);
}

Test(quarantine_kafka, full_queues_and_brokers_that_are_away)
{
    struct weir_quarantine *quarantine;
    struct weir_error error = {""};
    rd_kafka_t *host = kafka_client(RD_KAFKA_PRODUCER, NULL);
    rd_kafka_mock_cluster_t *cluster = rd_kafka_mock_cluster_new(host, 1);
    rd_kafka_mock_topic_create(cluster, "away", 1, 1);
    const struct weir_property properties[] = {{"queue.buffering.max.messages", "10"}};
    struct weir_kafka_settings settings = {.brokers = rd_kafka_mock_cluster_bootstraps(cluster),
                                           .topic = "any",
                                           .properties = properties,
                                           .property_count = 1};
    struct weir_message message = {.topic = weir_slice_text("any"), .value = weir_slice_text("{")};
    cr_assert_eq(weir_quarantine_kafka_open(&settings, "away", &quarantine, &error), WEIR_OK, "%s", error.text);
    rd_kafka_mock_broker_set_down(cluster, 1);
    for (int i = 0; i < 10; i++)
        cr_assert_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK, "%s", error.text);
    cr_expect_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_AGAIN);
    cr_expect_eq(quarantine->ops->flush(quarantine, &error), WEIR_RETRY);
    cr_expect(strstr(error.text, "'away'"), "%s", error.text);
    rd_kafka_mock_broker_set_up(cluster, 1);
    enum weir_status status = WEIR_RETRY;
    for (int64_t deadline = now_ms() + KAFKA_CALL_MS; status == WEIR_RETRY && now_ms() < deadline;)
        status = quarantine->ops->flush(quarantine, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
    cr_expect_eq(quarantine->ops->put(quarantine, &message, &why, &error), WEIR_OK);
    weir_quarantine_free(quarantine);
    rd_kafka_mock_cluster_destroy(cluster);
    rd_kafka_destroy(host);
}

enum { REFUSED_MAX = 1024 };

struct refusing {
    rd_kafka_t *host;
    rd_kafka_mock_cluster_t *cluster;
    struct weir_quarantine *quarantine;
    int count; /* of records put, at offsets from 0 on */
    struct weir_error error;
};

/* A topic on a mock broker, and a quarantine that believes at once what it says of the topic: like one that has known
 * it for longer than topic.metadata.propagation.max.ms. */
static void open_refusing(struct refusing *refusing)
{
    static const struct weir_property properties[] = {{"topic.metadata.propagation.max.ms", "0"},
                                                      {"topic.metadata.refresh.interval.ms", "50"},
                                                      {"queue.buffering.max.messages", "20"}};

    refusing->host = kafka_client(RD_KAFKA_PRODUCER, NULL);
    refusing->cluster = rd_kafka_mock_cluster_new(refusing->host, 1);
    rd_kafka_mock_topic_create(refusing->cluster, "refusing", 1, 1);
    struct weir_kafka_settings settings = {.brokers = rd_kafka_mock_cluster_bootstraps(refusing->cluster),
                                           .topic = "any",
                                           .properties = properties,
                                           .property_count = sizeof properties / sizeof *properties};
    cr_assert_eq(weir_quarantine_kafka_open(&settings, "refusing", &refusing->quarantine, &refusing->error), WEIR_OK,
                 "%s", refusing->error.text);
}

static void close_refusing(struct refusing *refusing)
{
    weir_quarantine_free(refusing->quarantine);
    rd_kafka_mock_cluster_destroy(refusing->cluster);
    rd_kafka_destroy(refusing->host);
}

static enum weir_status put_one(struct refusing *refusing)
{
    struct weir_message message = {.topic = weir_slice_text("any"),
                                   .offset = refusing->count,
                                   .value = weir_slice_text("{"),
                                   .is_tombstone = refusing->count % 3 == 2};
    enum weir_status status = refusing->quarantine->ops->put(refusing->quarantine, &message, &why, &refusing->error);

    cr_assert_lt(refusing->count, REFUSED_MAX);
    refusing->count += status == WEIR_OK;
    return status;
}

/* Until it says so, or with text in its reason. */
static void flush_until(struct refusing *refusing, enum weir_status wanted, const char *text)
{
    enum weir_status status;
    int64_t deadline = now_ms() + KAFKA_CALL_MS;

    do {
        status = refusing->quarantine->ops->flush(refusing->quarantine, &refusing->error);
        cr_assert(status == WEIR_OK || status == WEIR_RETRY, "%d: %s", status, refusing->error.text);
    } while ((status != wanted || (text && !strstr(refusing->error.text, text))) && now_ms() < deadline);
    cr_assert_eq(status, wanted, "%s", refusing->error.text);
}

/* Every offset that was put stands in the topic, as it was put. */
static void check_kept(struct refusing *refusing)
{
    char text[512];
    bool is_there[REFUSED_MAX] = {false};
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    rd_kafka_conf_t *conf = rd_kafka_conf_new();

    rd_kafka_conf_set(conf, "bootstrap.servers", rd_kafka_mock_cluster_bootstraps(refusing->cluster), text,
                      sizeof text);
    rd_kafka_conf_set(conf, "group.id", "look", text, sizeof text);
    rd_kafka_t *client = rd_kafka_new(RD_KAFKA_CONSUMER, conf, text, sizeof text);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(1);
    rd_kafka_topic_partition_list_add(list, "refusing", 0)->offset = 0;
    rd_kafka_assign(client, list);
    for (int found = 0; found < refusing->count;) {
        cr_assert(now_ms() < deadline, "only %d of %d", found, refusing->count);
        rd_kafka_message_t *message = rd_kafka_consumer_poll(client, 100);
        if (!message)
            continue;
        cr_assert_eq(message->err, RD_KAFKA_RESP_ERR_NO_ERROR, "%s", rd_kafka_message_errstr(message));
        int offset = atoi(header_of(message, "weir_offset"));
        cr_assert(offset >= 0 && offset < refusing->count);
        cr_expect_eq(message->payload == NULL, offset % 3 == 2);
        cr_expect_str_eq(header_of(message, "weir_detail"), why.detail);
        found += !is_there[offset];
        is_there[offset] = true;
        rd_kafka_message_destroy(message);
    }
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
}

/* As a broker answers that has just started, and as one that really has no such topic: nobody can tell them apart. */
Test(quarantine_kafka, a_topic_that_is_unknown_for_a_while_loses_nothing)
{
    struct refusing refusing = {0};

    open_refusing(&refusing);
    for (int i = 0; i < 5; i++)
        cr_assert_eq(put_one(&refusing), WEIR_OK, "%s", refusing.error.text);
    flush_until(&refusing, WEIR_OK, NULL);
    rd_kafka_mock_topic_set_error(refusing.cluster, "refusing", RD_KAFKA_RESP_ERR_UNKNOWN_TOPIC_OR_PART);
    enum weir_status status;
    do { /* until the producer has heard of it */
        cr_assert_eq(put_one(&refusing), WEIR_OK);
        status = refusing.quarantine->ops->flush(refusing.quarantine, &refusing.error);
    } while (status == WEIR_OK);
    cr_assert_eq(status, WEIR_RETRY);
    cr_expect(strstr(refusing.error.text, "If this lasts, create it, or set quarantine.topic"), "%s",
              refusing.error.text);
    int before = refusing.count - 1;
    while (put_one(&refusing) == WEIR_OK) /* taken, until there are as many as may be under way */
        cr_assert_lt(refusing.count, REFUSED_MAX);
    cr_expect(refusing.count - before >= 20 && refusing.count - before <= 40, "%d", refusing.count - before);
    cr_expect_eq(refusing.quarantine->ops->backlog(refusing.quarantine), (uint64_t)(refusing.count - before));
    cr_expect_eq(put_one(&refusing), WEIR_AGAIN);
    flush_until(&refusing, WEIR_RETRY, "quarantine topic 'refusing' does not take records");
    rd_kafka_mock_topic_set_error(refusing.cluster, "refusing", RD_KAFKA_RESP_ERR_NO_ERROR);
    flush_until(&refusing, WEIR_OK, NULL);
    cr_expect_eq(refusing.quarantine->ops->backlog(refusing.quarantine), 0);
    cr_expect_eq(put_one(&refusing), WEIR_OK);
    flush_until(&refusing, WEIR_OK, NULL);
    check_kept(&refusing);
    close_refusing(&refusing);
}

/* Each in its own request: some are delivered, the others not. */
Test(quarantine_kafka, refused_deliveries_are_put_again)
{
    static const rd_kafka_resp_err_t errors[] = {RD_KAFKA_RESP_ERR_TOPIC_AUTHORIZATION_FAILED,
                                                 RD_KAFKA_RESP_ERR_MSG_SIZE_TOO_LARGE, RD_KAFKA_RESP_ERR_INVALID_MSG,
                                                 RD_KAFKA_RESP_ERR_POLICY_VIOLATION};
    struct refusing refusing = {0};

    open_refusing(&refusing);
    for (size_t i = 0; i < sizeof errors / sizeof *errors; i++) {
        cr_assert_eq(put_one(&refusing), WEIR_OK);
        flush_until(&refusing, WEIR_OK, NULL);
        rd_kafka_mock_push_request_errors(refusing.cluster, 0 /* Produce */, 1, errors[i]);
        for (int n = 0; n < 3; n++)
            cr_assert_eq(put_one(&refusing), WEIR_OK);
        flush_until(&refusing, WEIR_RETRY, rd_kafka_err2str(errors[i]));
        flush_until(&refusing, WEIR_OK, NULL);
    }
    check_kept(&refusing);
    close_refusing(&refusing);
}

/* produce */

static int produce(const char *topic, const char *path)
{
    char *arguments[] = {
        "produce", "--kafka-brokers", (char *)kafka_brokers(), "--kafka-topic", (char *)topic, (char *)path, NULL};
    return weir_command_produce(6, arguments);
}

/* stderr into a file, which is read when it is all over. */
static void take_errors(char path[64])
{
    strcpy(path, "/tmp/weir-errors-XXXXXX");
    int file = mkstemp(path);
    cr_assert(file >= 0 && dup2(file, STDERR_FILENO) == STDERR_FILENO);
    close(file);
}

/* What the command said. Log lines, which begin with the time, are left out: librdkafka writes some whenever a broker
 * that has just started is still busy. */
static const char *errors_in(const char *path)
{
    static char text[4096];
    size_t length = 0;
    FILE *file = fopen(path, "r");

    while (fgets(text + length, (int)(sizeof text - length), file))
        if (text[length] < '0' || text[length] > '9')
            length += strlen(text + length);
    text[length] = '\0';
    fclose(file);
    unlink(path);
    return text;
}

static FILE *new_file(char path[64])
{
    strcpy(path, "/tmp/weir-produce-XXXXXX");
    FILE *file = fdopen(mkstemp(path), "w");
    cr_assert(file);
    return file;
}

Test(produce, keys_by_customer_and_keeps_every_byte)
{
    enum { COUNT = 20000, CUSTOMERS = 50 };
    char topic[64], path[64], errors[64], line[256];
    static int partition_of[CUSTOMERS];
    static rd_kafka_message_t *messages[1];
    kafka_topic("produce", 4, topic);
    FILE *file = new_file(path);
    for (int i = 0; i < COUNT; i++)
        fprintf(file,
                "{\"specversion\":\"1.0\",\"id\":\"%d\",\"source\":\"test\",\"type\":\"t\",\"subject\":\"c-%d\","
                "\"time\":\"2026-01-05T10:59:59Z\",\"data\":{}}\n",
                i, i % CUSTOMERS);
    fputs("not an event\n\n  \n{\"subject\":\"c-1\"}", file);
    fclose(file);
    take_errors(errors);
    int status = produce(topic, path);
    unlink(path);
    const char *told = errors_in(errors);
    snprintf(line, sizeof line, "weir produce: published %d events (2 without a key) to %s in ", COUNT + 2, topic);
    cr_assert_eq(status, 0, "%s", told);
    cr_assert(strncmp(told, line, strlen(line)) == 0, "%s", told);

    const char *const pairs[] = {"group.id", topic, "auto.offset.reset", "earliest", NULL};
    rd_kafka_t *client = kafka_client(RD_KAFKA_CONSUMER, pairs);
    rd_kafka_poll_set_consumer(client);
    rd_kafka_topic_partition_list_t *list = rd_kafka_topic_partition_list_new(4);
    for (int i = 0; i < 4; i++)
        rd_kafka_topic_partition_list_add(list, topic, i)->offset = 0;
    rd_kafka_assign(client, list);
    static int next[CUSTOMERS];
    int without_key = 0;
    int64_t deadline = now_ms() + KAFKA_CALL_MS;
    for (int seen = 0; seen < COUNT + 2;) {
        cr_assert(now_ms() < deadline, "only %d messages", seen);
        if (!(messages[0] = rd_kafka_consumer_poll(client, 100)))
            continue;
        const rd_kafka_message_t *message = messages[0];
        seen++;
        if (!message->key) {
            without_key++;
            cr_assert((message->len == 12 && memcmp(message->payload, "not an event", 12) == 0)
                      || (message->len == 17 && memcmp(message->payload, "{\"subject\":\"c-1\"}", 17) == 0));
        } else {
            int customer = atoi((const char *)message->key + 2);
            cr_assert(customer >= 0 && customer < CUSTOMERS);
            cr_assert(next[customer] == 0 || partition_of[customer] == message->partition,
                      "a customer in two partitions");
            partition_of[customer] = message->partition;
            int length = snprintf(
                line, sizeof line,
                "{\"specversion\":\"1.0\",\"id\":\"%d\",\"source\":\"test\",\"type\":\"t\",\"subject\":\"c-%d\","
                "\"time\":\"2026-01-05T10:59:59Z\",\"data\":{}}",
                next[customer]++ * CUSTOMERS + customer, customer);
            cr_assert(message->len == (size_t)length && memcmp(message->payload, line, message->len) == 0,
                      "in order, as it was");
        }
        rd_kafka_message_destroy(messages[0]);
    }
    cr_expect_eq(without_key, 2);
    bool is_spread = false;
    for (int i = 1; i < CUSTOMERS; i++)
        is_spread |= partition_of[i] != partition_of[0];
    cr_expect(is_spread);
    rd_kafka_topic_partition_list_destroy(list);
    rd_kafka_consumer_close(client);
    rd_kafka_destroy(client);
}

Test(produce, a_topic_made_by_use_and_lines_that_are_too_large)
{
    char topic[64], path[64], errors[64], want[256];
    snprintf(topic, sizeof topic, "by-use-%d-%lld", (int)getpid(), (long long)time(NULL));
    FILE *file = new_file(path);
    for (int i = 0; i < WEIR_EVENT_BYTES_MAX + 1; i++)
        fputc('x', file);
    fputs("\nsmall\n", file);
    fclose(file);
    take_errors(errors);
    int status = produce(topic, path);
    unlink(path);
    const char *told = errors_in(errors);
    snprintf(want, sizeof want,
             "weir produce: %s: line 1 is over 1048576 bytes and cannot be published\n"
             "weir produce: 1 events are published; 1 were too large\n",
             path);
    cr_expect_eq(status, 1);
    cr_expect_str_eq(told, want);
}

Test(produce, mistakes)
{
    char errors[64];
    take_errors(errors);
    cr_expect_eq(produce("events", "/nowhere/at/all"), 2);
    cr_expect_eq(produce("no such topic's name", "/dev/null"), 2);
    const char *told = errors_in(errors);
    cr_expect(strstr(told, "/nowhere/at/all: cannot be read"), "%s", told);
    cr_expect(strstr(told, "no such topic's name"), "%s", told);
}
