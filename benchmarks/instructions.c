/* The parts of an event's way, each in a loop of its own, for counting instructions: tests/instructions runs it under
 * callgrind with two counts and takes the difference, so that what is done once does not count.
 *
 * Parts: generate (making the events, which is in decode and intake too), decode (bytes to readings), the same two of
 * Kafka's binary mode (generate-binary, decode-binary: from a record's bytes, headers and all), intake (bytes to
 * windows: decode, seen and absorb), seen (one new id), price (one window's charge under four graduated tiers). Each
 * checks its answer.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "aggregator/seen.h"
#include "benchmarks/measure.h"
#include "benchmarks/way.h"
#include "benchmarks/workload.h"
#include "ingest/decode.h"
#include "ingest/reading.h"
#include "ingest/record_headers.h"
#include "rater/price.h"

enum { SEED = 7, CUSTOMERS = 200, SMOKE_COUNT = 2000 };

static struct weir_workload *start_workload(uint64_t count)
{
    /* Event time passes as in a run of a million events: so windows come, close and go at the rate that they do there.
     */
    return weir_workload_new(&(struct weir_workload_settings){
        .seed = SEED, .events = count, .customers = CUSTOMERS, .repeated_permille = 10});
}

enum mode { STRUCTURED, BINARY };

/* The next message of the workload, in text or record, which are the caller's; false: none is left. */
static bool next_message(struct weir_workload *workload, enum mode mode, char text[WEIR_WORKLOAD_EVENT_MAX],
                         char record[WEIR_WORKLOAD_RECORD_MAX], struct weir_slice *ret_value)
{
    size_t length = weir_workload_next(workload, text);

    if (length == 0)
        return false;
    if (mode == BINARY) {
        struct weir_workload_message message = weir_workload_to_binary(text, length);
        (void)weir_workload_to_record(&message, record, ret_value);
    } else {
        *ret_value = weir_slice_of(text, length);
    }
    return true;
}

static void generate_as(uint64_t count, enum mode mode)
{
    static char text[WEIR_WORKLOAD_EVENT_MAX], record[WEIR_WORKLOAD_RECORD_MAX];
    struct weir_workload *workload = start_workload(count);
    struct weir_slice value;
    uint64_t bytes = 0;

    while (next_message(workload, mode, text, record, &value))
        bytes += value.length;
    if (bytes > 320 * count || bytes < (mode == BINARY ? 50 : 200) * count)
        weir_measure_die("events of another length than the workload's");
    weir_workload_free(workload);
}

static void decode_as(uint64_t count, enum mode mode)
{
    static char text[WEIR_WORKLOAD_EVENT_MAX], record[WEIR_WORKLOAD_RECORD_MAX];
    static struct weir_event event;
    static struct weir_reading readings[WEIR_METERS_MAX];
    struct weir_catalog *catalog = weir_way_catalog();
    struct weir_workload *workload = start_workload(count);
    struct weir_decoder *decoder = weir_decoder_new(catalog);
    struct weir_reader *reader = weir_reader_new(catalog);
    struct weir_message message = {0};
    uint64_t found = 0, want;

    while (next_message(workload, mode, text, record, &message.value)) {
        struct weir_rejection why;
        uint32_t read = 0;
        if (mode == BINARY
            && !weir_record_find_headers((struct weir_slice){0}, message.value, WEIR_HEADERS_MAX, &message.unread,
                                         &message.header_count))
            weir_measure_die("the headers of a record are not found");
        if (weir_decode(decoder, &message, &event, &why) != WEIR_OK
            || weir_read_event(reader, &event, readings, &read, &why) != WEIR_OK)
            weir_measure_die("an event of the workload does not decode");
        found += read;
    }
    struct weir_workload_totals made = weir_workload_totals(workload);
    want = 3 * made.completions + 3 * made.requests + 2 * made.samples;
    if (found < want || made.repeated > count / 20)
        weir_measure_die("not every meter was read");
    weir_reader_free(reader);
    weir_decoder_free(decoder);
    weir_workload_free(workload);
    weir_catalog_free(catalog);
}

static void generate(uint64_t count)
{
    generate_as(count, STRUCTURED);
}

static void decode(uint64_t count)
{
    decode_as(count, STRUCTURED);
}

static void generate_binary(uint64_t count)
{
    generate_as(count, BINARY);
}

static void decode_binary(uint64_t count)
{
    decode_as(count, BINARY);
}

static void seen(uint64_t count)
{
    struct weir_seen *ids = weir_seen_new(count);

    for (uint64_t i = 1; i <= count; i++) {
        uint64_t id = i * UINT64_C(0x9E3779B97F4A7C15);
        struct weir_id_mark mark = {.content = (uint32_t)i, .effect = (uint32_t)i & 0xffff};
        if (weir_seen_look(ids, id, mark.content, &mark) != WEIR_SEEN_NEW || weir_seen_add(ids, id, mark, 1) != WEIR_OK)
            weir_measure_die("a new id is known");
    }
    if (weir_seen_count(ids) != count)
        weir_measure_die("ids are missing");
    weir_seen_free(ids);
}

static void intake(uint64_t count)
{
    static char text[WEIR_WAY_GROUP][WEIR_WORKLOAD_EVENT_MAX];
    struct weir_catalog *catalog = weir_way_catalog();
    struct weir_workload *workload = start_workload(count);
    struct weir_lane_settings settings = {
        .is_bounded = true, .windows_max = UINT32_MAX - 1, .ids_max = UINT32_MAX, .lateness = 0, .retention = 0};
    struct weir_message messages[WEIR_WAY_GROUP];
    static struct weir_way way;
    size_t group, length = 0;

    weir_way_open(&way, catalog, 1, &settings);
    do {
        for (group = 0; group < WEIR_WAY_GROUP && (length = weir_workload_next(workload, text[group])) > 0; group++)
            messages[group] = (struct weir_message){.value = weir_slice_of(text[group], length)};
        weir_way_take(&way, messages, group);
    } while (group == WEIR_WAY_GROUP);
    struct weir_workload_totals made = weir_workload_totals(workload);
    const struct weir_lane_counts *counts = &weir_lane_state(way.lanes[0])->counts;
    if (counts->counted != made.events || counts->duplicate != made.repeated)
        weir_measure_die("the lane counted otherwise than was made");
    weir_way_close(&way);
    weir_workload_free(workload);
    weir_catalog_free(catalog);
}

static bool add_up(void *context, const struct weir_charge *difference)
{
    struct weir_decimal *sum = context;
    return weir_decimal_add(*sum, difference->amount, sum);
}

static void price(uint64_t count)
{
    static const char text[] =
        "{\"meters\":[{\"key\":\"m\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":"
        "\"1h\"}],\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":"
        "\"2026-01-01T00:00:00Z\",\"prices\":[{\"meter\":\"m\",\"model\":\"graduated\",\"tiers\":["
        "{\"up_to\":\"1000\",\"unit_price\":\"0\"},{\"up_to\":\"100000\",\"unit_price\":\"0.0000025\",\"flat_fee\":"
        "\"5\"},"
        "{\"up_to\":\"1000000\",\"unit_price\":\"0.000002\"},{\"up_to\":null,\"unit_price\":\"0.0000015\"}]}]}],"
        "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";
    static struct weir_running_charges charges;
    struct weir_mistake_list mistakes;
    struct weir_catalog *catalog;
    struct weir_decimal quantity = {0}, sum = {0}, total;

    if (weir_catalog_parse("price", text, sizeof text - 1, &catalog, &mistakes) != WEIR_OK)
        weir_measure_die("%s", mistakes.mistakes[0].text);
    const struct weir_price *by = &catalog->books[0].versions[0].prices[0];
    for (uint64_t i = 0; i < count; i++)
        if (!weir_decimal_add(quantity, weir_decimal_of((int64_t)(i % 997)), &quantity)
            || !weir_price_advance(by, quantity, i + 1, &charges, add_up, &sum))
            weir_measure_die("a charge does not fit");
    if (!weir_price_total(by, quantity, count, &total) || weir_decimal_compare(total, sum) != 0)
        weir_measure_die("the differences do not add up to the price of the total");
    weir_catalog_free(catalog);
}

static const struct {
    const char *name;
    void (*run)(uint64_t count);
} parts[] = {{"generate", generate},
             {"decode", decode},
             {"generate-binary", generate_binary},
             {"decode-binary", decode_binary},
             {"seen", seen},
             {"intake", intake},
             {"price", price}};

int main(int argc, char **argv)
{
    static const char *part;
    static uint64_t count = SMOKE_COUNT;
    static const struct weir_measure_program program = {
        .name = "instructions",
        .about = "The parts of an event's way, each in a loop of its own; tests/instructions counts them by callgrind.",
        .example = "--part decode --count 20000",
        .repetitions = 1,
        .options = {{"--part", "NAME", "generate, decode (-binary), intake, seen or price (each once)", NULL, &part},
                    {"--count", "N", "events; windows for price (2,000)", &count, NULL}},
    };
    bool is_found = false;

    weir_measure_start(&program, argc, argv);
    for (size_t i = 0; i < sizeof parts / sizeof *parts; i++)
        if (!part || strcmp(part, parts[i].name) == 0) {
            parts[i].run(count);
            is_found = true;
        }
    if (!is_found)
        weir_measure_die("--part %s: no such part; --help lists them", part);
    return weir_measure_end();
}
