/* What the files of the Kafka source share: source_kafka.c (messages, the interface), source_kafka_fetch.c (speed),
 * source_kafka_group.c (rebalances and commits), source_kafka_gaps.c (what can be read no more), source_kafka_anchor.c
 * (whether it is still the same topic) and source_kafka_end.c (brokers that are away, the end of a batch run). All on
 * the polling thread, but for the questions of a look at anchors. */
#ifndef WEIR_INGEST_SOURCE_KAFKA_INTERNAL_H
#define WEIR_INGEST_SOURCE_KAFKA_INTERNAL_H

#include <pthread.h>
#include <stdatomic.h>

#include "ingest/kafka_common.h"

enum {
    WEIR_KAFKA_CALL_MS = 10000,      /* synchronous questions to the brokers */
    WEIR_KAFKA_COMMIT_LOOK_MS = 300, /* what has just begun or ended is committed soon: until_end, others wait for it */
};

/* A message that was taken: what tells a log from another one that is as long. */
struct kafka_anchor {
    int64_t message; /* its offset; -1: none */
    int64_t stamp;   /* Kafka's timestamp of it, ms */
    int64_t first;   /* the first offset that is as late, by Kafka's answer */
};

struct kafka_partition {
    bool is_ours;
    bool is_eof;     /* nothing was there at the last look */
    bool is_end_old; /* brokers were away: nothing was heard since of where the partition ends */
    bool is_paused;
    bool is_fresh;      /* assigned in this batch, and nothing of it has been seen or taken back */
    bool is_stopped;    /* librdkafka has given it up, after an offset that is not there: it takes no seek any more */
    bool must_seek;     /* what arrives is not wanted until librdkafka has been told to read from position */
    int64_t seek_since; /* monotonic ms */
    int64_t position;   /* everything below was returned, or holds nothing for us; -1: where the partition begins */
    int64_t delivered;  /* last returned message + 1, or where reading began; -1: none yet */
    int64_t low, end;   /* until_end: as they were at the start */
    int64_t durable;    /* below this the worker needs nothing again; -1: nothing yet */
    int64_t committed;
    bool is_checking; /* position is the message before the first that is wanted: it is compared and passed over */
    int64_t stamp;    /* Kafka's timestamp of the last message below what is wanted, ms; -1: not known */
    bool has_loss;    /* to be told at the next poll */
    enum weir_gap_kind loss;
    struct kafka_anchor anchor, next_anchor; /* next_anchor: of the look under way */
    int64_t told_end; /* by the last look while it was paused: no fetch tells it then; -1: not known */
};

/* A look at all anchors, and at the ends of partitions that are paused, which a thread of its own asks the brokers for:
 * they answer one question of a connection after the other, and one for messages only when some come, or after
 * fetch.wait.max.ms (500). */
struct kafka_look {
    bool is_under_way, is_full;
    pthread_t thread;
    rd_kafka_t *handle;
    rd_kafka_topic_partition_list_t *next, *old, *ends; /* the thread's own until it is done */
    bool is_next_answered, is_old_answered, are_ends_answered;
    _Atomic bool is_done;
};

/* librdkafka's, which may be asleep beside a queue with room (source_kafka_fetch.c). */
struct kafka_fetcher {
    rd_kafka_t *handle;
    size_t queue_peak; /* since it was woken last */
    bool can_wake;
    char *username, *password; /* as librdkafka has them; may be empty */
};

struct kafka_source {
    struct weir_source source;
    struct weir_source_listener listener;
    rd_kafka_t *handle;
    rd_kafka_queue_t *queue;
    char *topic, *brokers;
    struct weir_slice topic_name; /* the same, measured once: each message has it */
    bool until_end;
    int reach_ms;
    bool is_cooperative;
    bool is_closing;     /* leaving the group by ourselves */
    bool has_joined;     /* has been told what its partitions are, though it may be none */
    bool has_rebalanced; /* since the batch was begun */
    bool has_seeks;      /* some partition must_seek */
    bool is_late;        /* poll was not called for so long that the group went on without us */
    int max_poll_ms;
    struct kafka_partition *partitions;
    int32_t partition_count;
    rd_kafka_message_t *held[WEIR_POLL_MESSAGES_MAX]; /* of the last poll */
    size_t held_count;
    struct kafka_fetcher fetcher;
    struct kafka_look look;
    struct weir_header *headers;
    size_t header_count, header_room;
    int64_t next_commit, last_commit, last_end_check, last_poll; /* monotonic ms */
    int64_t next_anchor_look, next_first_anchor;                 /* monotonic ms */
    int64_t down_since, last_probe, last_complaint;              /* monotonic ms; down_since 0: brokers answer */
    bool is_suspect;                                             /* a connection was lost: does anybody answer? */
    char last_reason[256];                                       /* why they do not */
    bool is_ended;
    bool has_failed;
    struct weir_error failure;
    rd_kafka_queue_t *policy; /* where the answer to ask_policy comes; NULL: it has come */
};

int64_t weir_kafka_now_ms(void);                                                              /* monotonic */
struct kafka_partition *weir_kafka_partition_of(struct kafka_source *source, int32_t number); /* until the next call */
rd_kafka_topic_partition_list_t *weir_kafka_one(const struct kafka_source *source, int32_t number);
/* poll fails with the first of these. */
void weir_kafka_give_up(struct kafka_source *source, const struct weir_error *error);
void weir_kafka_demand_seek(struct kafka_source *source, struct kafka_partition *partition);
/* Reading begins, or begins again, at offset; -1: where the partition begins. */
void weir_kafka_start_at(struct kafka_source *source, struct kafka_partition *partition, int64_t offset);
void weir_kafka_resume(struct weir_source *self, int32_t number);

/* source_kafka_fetch.c */
const char *weir_kafka_backoff_property(void); /* NULL: this librdkafka has none */
void weir_kafka_open_fetcher(struct kafka_fetcher *fetcher, rd_kafka_t *handle);
void weir_kafka_close_fetcher(struct kafka_fetcher *fetcher);
void weir_kafka_wake_fetcher(struct kafka_fetcher *fetcher, rd_kafka_queue_t *queue); /* when it may be asleep */
bool weir_kafka_has_no_headers(const rd_kafka_message_t *message); /* true: surely none. For messages without err */
/* The first max headers, views that live as long as `from`; how many. *ret_all: how many it has. */
uint32_t weir_kafka_list_headers(const rd_kafka_message_t *from, struct weir_header *room, uint32_t max,
                                 uint32_t *ret_all);
/* Sets the headers of *message, which is what weir makes of `from`; where they cannot be left unread, the first max of
 * them are in room, views that live as long as `from`. It is too large where there are more than WEIR_HEADERS_MAX. */
void weir_kafka_headers(const rd_kafka_message_t *from, struct weir_header *room, uint32_t max,
                        struct weir_message *message);

/* source_kafka_gaps.c */
/* Reading begins at offset, after a look at the message before it; -1: where the partition begins. */
void weir_kafka_begin(struct kafka_source *source, int32_t number, int64_t offset);
/* All partitions go back to their last message, to see whether it is still the same one. */
void weir_kafka_check_again(struct kafka_source *source);
/* The first message that came; true: it is wanted. */
bool weir_kafka_check(struct kafka_source *source, struct kafka_partition *partition, int64_t offset, int64_t stamp);
/* Kafka says that the offset that is wanted is not there: finds out why. */
void weir_kafka_look(struct kafka_source *source, int32_t number);
/* Begins a partition that is stopped again, at its position. */
void weir_kafka_restart(struct kafka_source *source, int32_t number);
/* For partitions that have just come: where those begin that have nothing stored, and what is missing before it. */
void weir_kafka_begin_unstored(struct kafka_source *source, const rd_kafka_topic_partition_list_t *assigned);
/* WEIR_RETRY: the brokers do not say where to go on. WEIR_FATAL: the worker keeps no gaps. */
enum weir_status weir_kafka_tell_loss(struct kafka_source *source, int32_t number, struct weir_error *reterr);
/* Asks whether the topic is compacted, and says so when the answer comes. */
void weir_kafka_ask_policy(struct kafka_source *source);
void weir_kafka_look_policy(struct kafka_source *source);

/* source_kafka_anchor.c */
void weir_kafka_look_anchors(struct kafka_source *source);  /* when it is time */
void weir_kafka_leave_anchors(struct kafka_source *source); /* before the handle goes */

/* source_kafka_group.c; callbacks of librdkafka's, which are served by poll. */
void weir_kafka_commit(struct kafka_source *source); /* what is due */
void weir_kafka_on_commit(rd_kafka_t *handle, rd_kafka_resp_err_t error, rd_kafka_topic_partition_list_t *list,
                          void *context);
void weir_kafka_on_rebalance(rd_kafka_t *handle, rd_kafka_resp_err_t what, rd_kafka_topic_partition_list_t *list,
                             void *context);
void weir_kafka_hand_over_rest(struct kafka_source *source); /* after the consumer was closed */

/* source_kafka_end.c */
void weir_kafka_on_error(rd_kafka_t *handle, int code, const char *reason, void *context);
void weir_kafka_watch_brokers(struct kafka_source *source); /* says that nobody answers, and that somebody does again */
void weir_kafka_brokers_are_back(struct kafka_source *source);
/* until_end: asks where the topic ends now. WEIR_REJECT: no such topic. WEIR_FATAL: nobody answers. */
enum weir_status weir_kafka_find_ends(struct kafka_source *source, struct weir_error *reterr);
bool weir_kafka_is_at_end(struct kafka_source *source); /* and so are the other workers */

#endif
