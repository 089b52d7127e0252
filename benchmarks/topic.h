/* A topic of the benchmark's own, filled with events of the workload, and bare librdkafka clients for it. Every call
 * that fails ends the program. One thread. */
#ifndef WEIR_BENCHMARKS_TOPIC_H
#define WEIR_BENCHMARKS_TOPIC_H

#include <librdkafka/rdkafka.h>

#include "benchmarks/measure.h"
#include "benchmarks/workload.h"

/* How producers choose the partition. In each way a resend goes where the event went. */
enum weir_topic_keys {
    WEIR_TOPIC_BY_CUSTOMER,
    WEIR_TOPIC_UNKEYED, /* by the event's id: every partition has events of every customer */
    WEIR_TOPIC_HOT,     /* by customer, and four of five customers in partition 0 */
};

struct weir_topic {
    const char *brokers;
    char name[80];
    int32_t partitions;
    const char *codec; /* librdkafka's compression.type */
    enum weir_topic_keys keys;
    bool is_binary;            /* events in binary mode */
    bool is_stamped_by_broker; /* a message's time is when the broker put it into its log */
};

/* pairs: property, value, …, NULL. */
rd_kafka_t *weir_topic_client(const struct weir_topic *topic, rd_kafka_type_t type, const char *const *pairs);
void weir_topic_create(const struct weir_topic *topic);
void weir_topic_remove(const struct weir_topic *topic);
/* Where an event of the workload belongs. */
int32_t weir_topic_partition_of(const struct weir_topic *topic, const char *event, size_t length);
/* Of each message that was delivered, or was not; its _private is send's opaque. */
typedef void weir_topic_delivery(rd_kafka_t *producer, const rd_kafka_message_t *message, void *context);
/* A producer as one would set it up for throughput, and the topic at it. on_delivery may be NULL. */
rd_kafka_t *weir_topic_producer(const struct weir_topic *topic, const char *linger_ms, weir_topic_delivery *on_delivery,
                                rd_kafka_topic_t **ret_of);
/* Blocks while the queue is full. */
void weir_topic_send(rd_kafka_t *producer, rd_kafka_topic_t *of, int32_t partition, const char *event, size_t length,
                     void *opaque);
void weir_topic_producer_end(rd_kafka_t *producer, rd_kafka_topic_t *of); /* when everything is delivered */
/* All that the workload has. */
void weir_topic_fill(const struct weir_topic *topic, struct weir_workload *workload);
enum { WEIR_TOPIC_CONSUMERS_MAX = 8 };
/* Reads so many events, all that there are, from the beginning as librdkafka does it alone, by batches, with long
 * queues; what it took from the first message to the last. With several consumers each is on a thread of its own and
 * has every so many-th partition; they begin together, and the first and the last message are those of all. */
struct weir_took weir_topic_consume_bare(const struct weir_topic *topic, uint64_t events, int consumers);

#endif
