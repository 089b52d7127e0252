/* Events per second on one core from bytes to readings, beside the ceilings: simdjson's DOM parse alone (nothing looked
 * up, no duplicate keys found, numbers as doubles) and jansson.
 *
 * They run in turn, on one thread, by its CPU time. Every run of ours is checked: the readings' number and exact total
 * must be what the generator put in.
 */
#include <jansson.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "benchmarks/dom_ceiling.h"
#include "benchmarks/measure.h"
#include "benchmarks/workload.h"
#include "ingest/decode.h"
#include "ingest/reading.h"

enum { SMOKE_EVENTS = 2000, FULL_EVENTS = 200000, EVENT_ROOM = 400, PADDING = 64, ID_BYTES = 31 };

static const char catalog_text[] =
    "{\"meters\":["
    "{\"key\":\"tokens\",\"event_type\":\"llm.completion\",\"aggregation\":\"sum\",\"value\":\"data.tokens\","
    "\"window\":\"1h\","
    "\"group_by\":[\"model\"],\"where\":{\"data.region\":[\"eu-west-1\",\"us-east-1\"]}},"
    "{\"key\":\"requests\",\"event_type\":\"llm.completion\",\"aggregation\":\"count\",\"window\":\"1h\",\"group_by\":["
    "\"model\",\"region\"]},"
    "{\"key\":\"seconds\",\"event_type\":\"llm.completion\",\"aggregation\":\"sum\",\"value\":\"data.seconds\","
    "\"window\":\"1h\"}]}";

struct corpus {
    size_t count;
    size_t bytes;
    char *text;
    struct weir_slice *events;
    struct weir_decimal total; /* of all readings' values */
    uint64_t readings;
};

static uint64_t next_random(uint64_t *state)
{
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    return *state;
}

static void add_to(struct weir_decimal *total, int64_t millis)
{
    weir_check(weir_decimal_add(*total, (struct weir_decimal){(weir_int128)millis * (WEIR_DECIMAL_ONE / 1000)}, total));
}

static size_t make_event(struct corpus *corpus, uint64_t *random, char *text)
{
    static const char *const models[] = {"large", "small", "medium-2026", "embedding"};
    static const char *const regions[] = {"eu-west-1", "us-east-1", "ap-south-1"};
    uint64_t tokens = next_random(random) % 20000;
    uint64_t millis = next_random(random) % 60000;
    size_t region = next_random(random) % 3;
    uint64_t a = next_random(random), b = next_random(random);

    corpus->readings += region < 2 ? 3 : 2;
    add_to(&corpus->total, (int64_t)(region < 2 ? tokens * 1000 : 0) + (int64_t)millis);
    return (size_t)sprintf(
        text,
        "{\"specversion\":\"1.0\",\"id\":\"%08x-%04x-%04x-%012llx\",\"source\":\"api-gateway-%u\",\"type\":\"llm."
        "completion\","
        "\"subject\":\"customer-%u\",\"time\":\"2026-01-%02uT%02u:%02u:%02u.%03uZ\","
        "\"data\":{\"tokens\":%llu,\"model\":\"%s\",\"region\":\"%s\",\"seconds\":\"%llu.%03llu\",\"cached\":%s}}",
        (unsigned)a, (unsigned)(a >> 32) & 0xffff, (unsigned)(a >> 48), (unsigned long long)(b & 0xffffffffffff),
        (unsigned)(b >> 60), (unsigned)(b >> 48) % 5000, 1 + (unsigned)(a % 28), (unsigned)(b % 24), (unsigned)(a % 60),
        (unsigned)(b % 60), (unsigned)(a % 1000), (unsigned long long)tokens, models[b % 4], regions[region],
        (unsigned long long)(millis / 1000), (unsigned long long)(millis % 1000), a & 1 ? "true" : "false");
}

static struct corpus corpus_new(size_t count)
{
    struct corpus corpus = {.count = count};
    uint64_t random = 88172645463325252u;

    corpus.text = weir_new(count * EVENT_ROOM + PADDING);
    corpus.events = weir_new_array(count, sizeof *corpus.events);
    for (size_t i = 0; i < count; i++) {
        char *text = corpus.text + corpus.bytes;
        corpus.events[i] = weir_slice_of(text, make_event(&corpus, &random, text));
        corpus.bytes += corpus.events[i].length;
        weir_check(corpus.events[i].length < EVENT_ROOM);
    }
    return corpus;
}

struct ours {
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    const struct weir_catalog *catalog;
};

static bool run_ours(const struct ours *ours, const struct corpus *corpus)
{
    static struct weir_event event;
    static struct weir_reading readings[WEIR_METERS_MAX];
    struct weir_rejection why;
    struct weir_decimal total = {0};
    uint64_t count = 0;

    for (size_t i = 0; i < corpus->count; i++) {
        struct weir_message message = {.value = corpus->events[i]};
        uint32_t read = 0;
        if (weir_decode(ours->decoder, &message, &event, &why) != WEIR_OK
            || weir_read_event(ours->reader, &event, readings, &read, &why) != WEIR_OK)
            return false;
        count += read;
        for (uint32_t j = 0; j < read; j++)
            if (ours->catalog->meters[readings[j].meter].aggregation == WEIR_AGGREGATION_SUM
                && !weir_decimal_add(total, readings[j].value, &total))
                return false;
    }
    return count == corpus->readings && weir_decimal_compare(total, corpus->total) == 0;
}

static bool run_decode(const struct ours *ours, const struct corpus *corpus)
{
    static struct weir_event event;
    struct weir_rejection why;
    size_t id_bytes = 0;

    for (size_t i = 0; i < corpus->count; i++) {
        struct weir_message message = {.value = corpus->events[i]};
        if (weir_decode(ours->decoder, &message, &event, &why) != WEIR_OK)
            return false;
        id_bytes += event.id.length;
    }
    return id_bytes == corpus->count * ID_BYTES;
}

static bool run_dom(const struct ours *ours, const struct corpus *corpus)
{
    (void)ours;
    for (size_t i = 0; i < corpus->count; i++)
        if (!dom_ceiling_parse(corpus->events[i].data, corpus->events[i].length))
            return false;
    return true;
}

static bool run_jansson(const struct ours *ours, const struct corpus *corpus)
{
    (void)ours;
    for (size_t i = 0; i < corpus->count; i++) {
        json_t *root = json_loadb(corpus->events[i].data, corpus->events[i].length, JSON_REJECT_DUPLICATES, NULL);
        if (!root)
            return false;
        json_decref(root);
    }
    return true;
}

static const struct contender {
    const char *name;
    bool (*run)(const struct ours *ours, const struct corpus *corpus);
} contenders[] = {{"weir decode", run_decode},
                  {"weir decode and read", run_ours},
                  {"simdjson DOM alone", run_dom},
                  {"jansson alone", run_jansson}};
enum { CONTENDERS = sizeof contenders / sizeof contenders[0] };

static const struct weir_measure_program program = {
    .name = "decode",
    .about = "Events per second on one core from bytes to readings, beside simdjson's DOM parse and jansson alone.",
    .repetitions = 7,
};

static void report(const struct weir_figure figures[CONTENDERS])
{
    const struct weir_figure *decode = &figures[0], *dom = &figures[2], *jansson = &figures[3];

    for (int i = 0; i < CONTENDERS; i++)
        weir_measure_print(&figures[i]);
    weir_measure_target(
        &(struct weir_target){.what = "decode, of simdjson's DOM", .figure = decode, .ceiling = dom, .at_least = 0.7});
    weir_measure_target(
        &(struct weir_target){.what = "decode, of jansson", .figure = decode, .ceiling = jansson, .at_least = 10});
}

int main(int argc, char **argv)
{
    weir_measure_start(&program, argc, argv);
    struct corpus corpus = corpus_new(weir_measure_is_smoke() ? SMOKE_EVENTS : FULL_EVENTS);
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes;
    static struct weir_figure figures[CONTENDERS];

    if (weir_catalog_parse("benchmark", catalog_text, sizeof catalog_text - 1, &catalog, &mistakes) != WEIR_OK)
        weir_measure_die("%s: %s", mistakes.mistakes[0].path, mistakes.mistakes[0].text);
    struct ours ours = {weir_decoder_new(catalog), weir_reader_new(catalog), catalog};
    for (int repetition = 0; repetition < weir_measure_repetitions(); repetition++)
        for (int i = 0; i < CONTENDERS; i++) {
            double start = weir_measure_thread_cpu();
            if (!contenders[i].run(&ours, &corpus))
                weir_measure_die("%s gave a wrong answer", contenders[i].name);
            double took = weir_measure_thread_cpu() - start;
            figures[i].what = contenders[i].name;
            figures[i].unit = "million events/s";
            weir_figure_add_rate(&figures[i], (double)corpus.count, (struct weir_took){.wall = took, .cpu = took});
        }
    printf("%zu events of %zu bytes, one thread, by its CPU time\n", corpus.count, corpus.bytes / corpus.count);
    report(figures);
    weir_decoder_free(ours.decoder);
    weir_reader_free(ours.reader);
    weir_catalog_free(catalog);
    free(corpus.text);
    free(corpus.events);
    return weir_measure_end();
}
