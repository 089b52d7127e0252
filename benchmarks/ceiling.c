/* What the parts that weir stands on can do alone, each beside the others: bare librdkafka, parsers, Redis. The ceiling
 * of one benchmark is measured in its own run again (a bare COPY in benchmark_ledger): this is the overview. */
#include <hiredis/hiredis.h>
#include <inttypes.h>
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "benchmarks/dom_ceiling.h"
#include "benchmarks/measure.h"
#include "benchmarks/process.h"
#include "benchmarks/topic.h"

enum { SEED = 7, PARTITIONS = 4, CUSTOMERS = 10000, BATCH = 1000, TOTAL_BYTES = 12, ID_BYTES = 15, PADDING = 64 };

static const char about[] =
    "What the parts that weir stands on can do alone: bare librdkafka with lz4 and without, simdjson's DOM and "
    "jansson,\n"
    "and Redis (a script that checks an epoch and writes 1,000 totals; HSET; APPEND of ids). Needs WEIR_KAFKA_BROKERS\n"
    "and WEIR_REDIS_URL; makes topics and keys of its own and removes them again.";

static struct weir_topic topics[2] = {{.partitions = PARTITIONS, .codec = "lz4"},
                                      {.partitions = PARTITIONS, .codec = "none"}};
static int made; /* topics */
static redisContext *redis;
static char key[64];

static struct weir_workload *start_workload(uint64_t events)
{
    return weir_workload_new(&(struct weir_workload_settings){
        .seed = SEED, .events = events, .customers = CUSTOMERS, .repeated_permille = 10, .late_permille = 10});
}

static void clean_up(void)
{
    while (made > 0)
        weir_topic_remove(&topics[--made]);
    if (redis)
        freeReplyObject(redisCommand(redis, "DEL %s %s:ids", key, key));
}

/* 1. Parsers, over events in memory. */

struct corpus {
    char *text;
    struct weir_slice *events;
    uint64_t count;
};

static struct corpus make_corpus(uint64_t count)
{
    struct weir_workload *workload = start_workload(count);
    struct corpus corpus = {weir_new_array(count + 1, 400), weir_new_array(count, sizeof *corpus.events), count};
    char event[WEIR_WORKLOAD_EVENT_MAX], *at = corpus.text;

    for (uint64_t i = 0; i < count; i++) {
        size_t length = weir_workload_next(workload, event);
        memcpy(at, event, length);
        corpus.events[i] = weir_slice_of(at, length);
        at += length;
    }
    weir_check((size_t)(at - corpus.text) + PADDING < (count + 1) * 400);
    weir_workload_free(workload);
    return corpus;
}

static bool parse_dom(struct weir_slice event)
{
    return dom_ceiling_parse(event.data, event.length);
}

static bool parse_jansson(struct weir_slice event)
{
    json_t *root = json_loadb(event.data, event.length, JSON_REJECT_DUPLICATES, NULL);

    json_decref(root);
    return root != NULL;
}

static struct weir_took parse(const struct corpus *corpus, bool (*parser)(struct weir_slice event))
{
    struct weir_took start = weir_measure_now();

    for (uint64_t i = 0; i < corpus->count; i++)
        if (!parser(corpus->events[i]))
            weir_measure_die("an event of the workload is no JSON");
    return weir_measure_since(start);
}

/* 2. Redis, a thousand totals or ids a call. */

static const char script[] =
    "if redis.call('HGET', KEYS[1], 'epoch') ~= ARGV[1] then return redis.error_reply('fenced') end "
    "for i = 2, #ARGV, 500 do redis.call('HSET', KEYS[1], unpack(ARGV, i, math.min(i + 499, #ARGV))) "
    "end return #ARGV";

struct call {
    const char *words[2 * BATCH + 8];
    size_t lengths[2 * BATCH + 8];
    int count;
    char fields[BATCH][16];
    char value[BATCH * ID_BYTES];
};

static void add_word(struct call *call, const char *word, size_t length)
{
    call->words[call->count] = word;
    call->lengths[call->count++] = length;
}

static void send_call(const struct call *call)
{
    redisReply *reply = redisCommandArgv(redis, call->count, (const char **)(uintptr_t)call->words, call->lengths);

    if (!reply || reply->type == REDIS_REPLY_ERROR)
        weir_measure_die("Redis: %s", reply ? reply->str : redis->errstr);
    freeReplyObject(reply);
}

static void add_totals(struct call *call)
{
    for (int i = 0; i < BATCH; i++) {
        snprintf(call->fields[i], sizeof call->fields[i], "window-%06d", i);
        add_word(call, call->fields[i], strlen(call->fields[i]));
        add_word(call, call->value, TOTAL_BYTES);
    }
}

static struct weir_took call_redis(const struct call *call, uint64_t things)
{
    struct weir_took start = weir_measure_now();

    for (uint64_t i = 0; i < things; i += BATCH)
        send_call(call);
    return weir_measure_since(start);
}

static void prepare_calls(struct call calls[3])
{
    static char ids[80];

    snprintf(ids, sizeof ids, "%s:ids", key);
    freeReplyObject(redisCommand(redis, "HSET %s epoch 1", key));
    add_word(&calls[0], "EVAL", 4);
    add_word(&calls[0], script, sizeof script - 1);
    add_word(&calls[0], "1", 1);
    add_word(&calls[0], key, strlen(key));
    add_word(&calls[0], "1", 1);
    add_totals(&calls[0]);
    add_word(&calls[1], "HSET", 4);
    add_word(&calls[1], key, strlen(key));
    add_totals(&calls[1]);
    add_word(&calls[2], "APPEND", 6);
    add_word(&calls[2], ids, strlen(ids));
    add_word(&calls[2], calls[2].value, sizeof calls[2].value);
}

/* Every total stands, and every id. */
static void check_redis(uint64_t ids)
{
    redisReply *fields = redisCommand(redis, "HLEN %s", key), *bytes = redisCommand(redis, "STRLEN %s:ids", key);

    if (!fields || !bytes || fields->integer != BATCH + 1 || (uint64_t)bytes->integer != ids * ID_BYTES)
        weir_measure_die("Redis does not hold what was written");
    freeReplyObject(fields);
    freeReplyObject(bytes);
    freeReplyObject(redisCommand(redis, "DEL %s:ids", key));
}

/* 3. In turns. */

enum { LZ4, NONE, DOM, JANSSON, SCRIPT, HSET, APPEND, PARTS };

static struct weir_figure figures[PARTS] = {
    [LZ4] = {.what = "bare librdkafka batch consume, lz4", .unit = "million events/s"},
    [NONE] = {.what = "bare librdkafka batch consume, uncompressed", .unit = "million events/s"},
    [DOM] = {.what = "simdjson DOM", .unit = "million events/s"},
    [JANSSON] = {.what = "jansson", .unit = "million events/s"},
    [SCRIPT] = {.what = "Redis: a fenced script writes 1,000 totals", .unit = "million totals/s"},
    [HSET] = {.what = "Redis: HSET of 1,000 totals", .unit = "million totals/s"},
    [APPEND] = {.what = "Redis: APPEND of 1,000 ids", .unit = "million ids/s"},
};

static void fill_topics(uint64_t events)
{
    for (int i = 0; i < 2; i++) {
        struct weir_workload *workload = start_workload(events);
        topics[i].brokers = weir_measure_server("KAFKA_BROKERS");
        snprintf(topics[i].name, sizeof topics[i].name, "benchmark-ceiling-%d-%d-%lld", i, (int)getpid(),
                 (long long)time(NULL));
        weir_topic_create(&topics[i]);
        made++;
        weir_measure_progress("filling a topic, %s", topics[i].codec);
        weir_topic_fill(&topics[i], workload);
        weir_workload_free(workload);
    }
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {.name = "ceiling", .about = about, .repetitions = 5};
    static struct call calls[3];

    weir_measure_start(&program, argc, argv);
    uint64_t events = weir_measure_is_smoke() ? 20000 : 1000000, parsed = events / 10, totals = events / 2;
    redis = weir_process_redis(weir_measure_server("REDIS_URL"));
    snprintf(key, sizeof key, "benchmark-ceiling-%d", (int)getpid());
    weir_measure_at_end(clean_up);
    fill_topics(events);
    prepare_calls(calls);
    struct corpus corpus = make_corpus(parsed);
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        weir_measure_progress("%d of %d", i + 1, weir_measure_repetitions());
        for (int j = 0; j < 2; j++)
            weir_figure_add_rate(&figures[LZ4 + j], (double)events, weir_topic_consume_bare(&topics[j], events, 1));
        weir_figure_add_rate(&figures[DOM], (double)parsed, parse(&corpus, parse_dom));
        weir_figure_add_rate(&figures[JANSSON], (double)parsed, parse(&corpus, parse_jansson));
        for (int j = 0; j < 3; j++)
            weir_figure_add_rate(&figures[SCRIPT + j], (double)totals, call_redis(&calls[j], totals));
        check_redis(totals);
    }
    for (int i = 0; i < PARTS; i++)
        weir_measure_print(&figures[i]);
    free(corpus.text);
    free(corpus.events);
    return weir_measure_end();
}
