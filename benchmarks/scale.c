/* What grows with the load: memory of an id and of an open window; events per second with more open windows, lanes,
 * threads and bytes, and in binary mode.
 *
 * Memory is what the process has in RAM, from before the first to after the last, at every step of the growth: not what
 * a struct is said to have. Each size is measured in a process of its own, since memory that was freed does not all go
 * back.
 */
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aggregator/seen.h"
#include "aggregator/window_table.h"
#include "benchmarks/measure.h"
#include "benchmarks/topic.h"
#include "benchmarks/way.h"
#include "benchmarks/workload.h"
#include "common/calendar.h"
#include "common/hash.h"
#include "ingest/record_headers.h"

enum { GROUP = 16, STEPS = 400, HOURS = 24, CUSTOMER_BYTES = 32, PARTITIONS = 4 };

/* What one process found. */
struct found {
    double ns;           /* for each, by CPU time of the thread */
    double bytes, worst; /* of memory each: in the end, and the most of all steps from half the size on */
};

static uint64_t mix(uint64_t number)
{
    number = (number ^ number >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    number = (number ^ number >> 27) * UINT64_C(0x94D049BB133111EB);
    return number ^ number >> 31;
}

/* Runs the measurement in a process of its own. */
static struct found apart(struct found (*measure)(uint64_t count), uint64_t count)
{
    struct found found;
    int ends[2];

    fflush(stdout);
    if (pipe(ends) != 0)
        weir_measure_die("no pipe");
    pid_t child = fork();
    if (child == 0) {
        (void)measure(2000); /* pages of code and libraries come in */
        found = measure(count);
        _exit(write(ends[1], &found, sizeof found) == (ssize_t)sizeof found ? 0 : 1);
    }
    close(ends[1]);
    bool is_whole = child > 0 && read(ends[0], &found, sizeof found) == (ssize_t)sizeof found;
    close(ends[0]);
    if (child > 0)
        (void)waitpid(child, NULL, 0);
    if (!is_whole)
        weir_measure_die("%" PRIu64 ": the measuring process failed", count);
    return found;
}

/* Called often: a peak is taken by what was there when it began, not by what is there now. */
static void note_memory(struct found *found, uint64_t before, uint64_t done, uint64_t count)
{
    double peak = (double)(weir_measure_peak() - before) / (double)done;

    found->bytes = (double)(weir_measure_resident() - before) / (double)done;
    if (done >= count / 2 && peak > found->worst)
        found->worst = peak;
}

/* 1. Ids: each new, as most are. */

static struct found measure_ids(uint64_t count)
{
    uint64_t before = weir_measure_resident(), step = count / STEPS + 1;
    struct weir_seen *seen = weir_seen_new(count);
    struct found found = {0};
    double start = weir_measure_thread_cpu(), aside = 0;

    for (uint64_t i = 0; i < count; i += GROUP) {
        uint64_t ids[GROUP], some = count - i < GROUP ? count - i : GROUP;
        for (uint64_t j = 0; j < some; j++)
            weir_seen_prefetch(seen, ids[j] = mix(i + j + 1));
        for (uint64_t j = 0; j < some; j++) {
            struct weir_id_mark mark = {.content = (uint32_t)i};
            if (weir_seen_look(seen, ids[j], mark.content, &mark) != WEIR_SEEN_NEW
                || weir_seen_add(seen, ids[j], mark, 1 + (uint32_t)(i * 60 / count)) != WEIR_OK)
                weir_measure_die("a new id is known");
        }
        if ((i + some) / step != i / step || i + some == count) {
            double then = weir_measure_thread_cpu();
            note_memory(&found, before, i + some, count);
            aside += weir_measure_thread_cpu() - then;
        }
    }
    found.ns = (weir_measure_thread_cpu() - start - aside) / (double)count * 1e9;
    if (weir_seen_count(seen) != count)
        weir_measure_die("ids are missing");
    weir_seen_free(seen);
    return found;
}

/* 2. Open windows of an hour: a day of each series. */

static const char catalog_text[] =
    "{\"meters\":[{\"key\":\"tokens\",\"event_type\":\"llm.completion\",\"aggregation\":\"sum\",\"value\":"
    "\"data.tokens\",\"window\":\"1h\",\"group_by\":[\"model\"]}]}";

static struct weir_catalog *load_catalog(void)
{
    struct weir_mistake_list mistakes;
    struct weir_catalog *catalog;

    if (weir_catalog_parse("scale", catalog_text, sizeof catalog_text - 1, &catalog, &mistakes) != WEIR_OK)
        weir_measure_die("%s", mistakes.mistakes[0].text);
    return catalog;
}

/* Adds one to window `number`; customers come in a scattered order, hours too. */
static void touch_window(struct weir_window_table *table, uint64_t number, uint64_t count, int64_t offset)
{
    char customer[CUSTOMER_BYTES];
    uint64_t series = number / HOURS, at = number % HOURS;
    int length = snprintf(customer, sizeof customer, "customer-%06" PRIu64, series);
    struct weir_slice name = weir_slice_of(customer, (size_t)length);
    struct weir_reading reading = {.meter = 0, .value = weir_decimal_of((int64_t)number)};
    struct weir_window_event event = {.customer = name,
                                      .id = number,
                                      .time =
                                          (int64_t)(490000 + at) * WEIR_HOUR + (int64_t)(number % 3600) * WEIR_SECOND,
                                      .offset = offset};
    static const struct weir_hash_key secret;
    bool is_retractable;
    struct weir_window_change change;
    uint32_t prepared;

    (void)count;
    reading.dimensions[0] = weir_slice_text("large");
    (void)weir_window_table_hash(table, &reading, 1, weir_hash64(name.data, name.length, 0), &secret, &is_retractable);
    if (weir_window_table_prepare(table, WEIR_WINDOW_ADD, &reading, 1, &event, &change, &prepared) != WEIR_PREPARED)
        weir_measure_die("a window cannot be made");
    weir_window_table_apply(table, WEIR_WINDOW_ADD, &reading, &change, 1);
}

static void count_window(void *context, const struct weir_cut_window *window)
{
    *(uint64_t *)context += window->window.total.events;
}

/* Sealed every tenth of it, as a lane is many times a second: few windows are changed and not written. */
static struct found measure_windows(uint64_t count)
{
    struct weir_catalog *catalog = load_catalog();
    uint64_t before = weir_measure_resident(), step = count / STEPS + 1, sealed = 0;
    struct weir_window_table *table = weir_window_table_new(catalog, UINT32_MAX - 1, false, NULL);
    struct found found = {0};
    double start = weir_measure_thread_cpu(), aside = 0;

    for (uint64_t i = 0; i < count; i++) {
        touch_window(table, i, count, (int64_t)i);
        if (i % 50000 == 49999)
            weir_window_table_take_changed(table, count_window, &sealed);
        if ((i + 1) % step == 0 || i + 1 == count) {
            double then = weir_measure_thread_cpu();
            note_memory(&found, before, i + 1, count);
            aside += weir_measure_thread_cpu() - then;
        }
    }
    found.ns = (weir_measure_thread_cpu() - start - aside) / (double)count * 1e9;
    weir_window_table_take_changed(table, count_window, &sealed);
    if (weir_window_table_count(table) != count || sealed != count)
        weir_measure_die("windows are missing");
    weir_window_table_free(table);
    weir_catalog_free(catalog);
    return found;
}

/* 3. Events, from bytes to windows, with more and more windows open: a day of each series. */

enum { EVENT_BYTES = 256 };

struct events {
    char *text; /* EVENT_BYTES for each */
    struct weir_message *messages;
    uint64_t count;
};

static size_t write_event(char *text, uint64_t id, uint64_t window)
{
    uint64_t customer = window / HOURS, hour = window % HOURS;

    return (size_t)snprintf(text, EVENT_BYTES,
                            "{\"specversion\":\"1.0\",\"id\":\"01J9Z%016" PRIu64 "\",\"source\":\"inference-gateway\","
                            "\"type\":\"llm.completion\",\"subject\":\"customer-%06" PRIu64
                            "\",\"time\":\"2026-01-05T%02" PRIu64 ":%02" PRIu64 ":00Z\","
                            "\"data\":{\"model\":\"large\",\"tokens\":%" PRIu64 ",\"region\":\"eu-west-1\"}}",
                            id, customer, hour, id % 60, id % 4001);
}

/* Events `from` and on: in the order of windows; or each of any customer, in the last hour, and 1 % in any hour. */
static void write_events(struct events *events, uint64_t from, uint64_t count, uint64_t windows, bool is_in_order)
{
    events->count = count;
    for (uint64_t i = 0; i < count; i++) {
        char *text = events->text + i * EVENT_BYTES;
        uint64_t draw = mix(from + i) % windows, window = from + i;
        if (!is_in_order && i % 100 == 0)
            window = draw;
        else if (!is_in_order && windows >= HOURS)
            window = draw % (windows / HOURS) * HOURS + HOURS - 1;
        events->messages[i] = (struct weir_message){.value = weir_slice_of(text, write_event(text, from + i, window))};
    }
}

static void take_events(struct weir_way *way, struct events *events)
{
    for (uint64_t i = 0; i < events->count; i += GROUP)
        weir_way_take(way, &events->messages[i], events->count - i < GROUP ? events->count - i : GROUP);
}

/* A lane as a worker has it, in which nothing closes meanwhile. */
static const struct weir_lane_settings open_lane = {.disorder = 2 * WEIR_DAY,
                                                    .lateness = WEIR_DAY,
                                                    .retention = WEIR_DAY,
                                                    .max_future = INT64_MAX / 4,
                                                    .windows_max = UINT32_MAX - 1,
                                                    .ids_max = UINT32_MAX};

static void seal(struct weir_way *way, struct weir_sealed_cut *cut)
{
    for (uint32_t i = 0; i < way->lane_count; i++)
        weir_lane_seal(way->lanes[i], cut);
}

static struct found measure_growth(uint64_t windows)
{
    enum { BATCH = 20000 };
    uint64_t measured = weir_measure_is_smoke() ? 50000 : 500000;
    struct events events = {weir_new_array(measured, EVENT_BYTES), weir_new_array(measured, sizeof *events.messages),
                            0};
    struct weir_catalog *catalog = load_catalog();
    struct weir_sealed_cut *cut = weir_sealed_cut_new();
    struct weir_way way;
    struct found found = {0};

    weir_way_open(&way, catalog, 1, &open_lane);
    for (uint64_t i = 0; i < windows; i += events.count) {
        write_events(&events, i, windows - i < BATCH ? windows - i : BATCH, windows, true);
        take_events(&way, &events);
        seal(&way, cut);
    }
    write_events(&events, windows, measured, windows, false);
    double start = weir_measure_thread_cpu();
    take_events(&way, &events);
    found.ns = (weir_measure_thread_cpu() - start) / (double)measured * 1e9;
    if (weir_lane_windows(way.lanes[0]) != windows
        || weir_lane_state(way.lanes[0])->counts.counted != windows + measured)
        weir_measure_die("%" PRIu64 " windows are open, %" PRIu64 " are wanted", weir_lane_windows(way.lanes[0]),
                         windows);
    weir_way_close(&way);
    weir_sealed_cut_free(cut);
    weir_catalog_free(catalog);
    free(events.text);
    free(events.messages);
    return found;
}

/* 4. The workload, from bytes to windows: with more lanes, threads and bytes, and in binary mode. */

struct load {
    struct weir_catalog *catalog;
    char *text;
    struct weir_message *messages;
    uint64_t count, repeated;
    uint32_t lanes;
};

/* As librdkafka would have it: a record, in which weir's source has found the headers. */
static void put_binary(const char *text, size_t length, char *at, size_t room, struct weir_message *message)
{
    static char record[WEIR_WORKLOAD_RECORD_MAX];
    struct weir_workload_message parts = weir_workload_to_binary(text, length);
    struct weir_slice value;
    size_t bytes = weir_workload_to_record(&parts, record, &value);

    weir_check(bytes <= room);
    memcpy(at, record, bytes);
    message->value = weir_slice_of(at + (value.data - record), value.length);
    weir_check(weir_record_find_headers(weir_slice_of(NULL, 0), message->value, WEIR_HEADERS_MAX, &message->unread,
                                        &message->header_count));
}

/* By customer, as producers key events: a lane of four has a quarter of the customers, not a quarter of the events of
 * each, which would be four times the windows. */
static struct load make_load(uint64_t count, uint32_t event_bytes, bool is_binary)
{
    struct weir_workload *workload = weir_workload_new(&(struct weir_workload_settings){
        .seed = 7, .events = count, .customers = 10000, .span_seconds = 3600, .event_bytes = event_bytes});
    const struct weir_topic keyed = {.partitions = PARTITIONS};
    size_t room = event_bytes > 400 ? event_bytes : 400, length;
    struct load load = {.catalog = weir_way_catalog(),
                        .text = weir_new_array(count + 1, room),
                        .messages = weir_new_array(count, sizeof *load.messages),
                        .count = count};

    for (uint64_t i = 0; i < count; i++) {
        static char text[WEIR_WORKLOAD_EVENT_MAX];
        struct weir_message *message = &load.messages[i];
        char *at = load.text + i * room;
        length = weir_workload_next(workload, text);
        weir_check(length > 0 && length <= room);
        *message = (struct weir_message){.value = weir_slice_of(at, length),
                                         .partition = weir_topic_partition_of(&keyed, text, length)};
        if (is_binary)
            put_binary(text, length, at, room, message);
        else
            memcpy(at, text, length);
    }
    weir_workload_free(workload);
    return load;
}

/* Not in binary mode. */
static void deal(struct load *load, enum weir_topic_keys keys)
{
    const struct weir_topic topic = {.partitions = PARTITIONS, .keys = keys};

    for (uint64_t i = 0; i < load->count; i++)
        load->messages[i].partition =
            weir_topic_partition_of(&topic, load->messages[i].value.data, load->messages[i].value.length);
}

static void free_load(struct load *load)
{
    free(load->text);
    free(load->messages);
    weir_catalog_free(load->catalog);
}

/* One worker's consuming thread. */
static void *work(void *of)
{
    struct load *load = of;
    struct weir_way way;
    uint64_t counted = 0;

    weir_way_open(&way, load->catalog, load->lanes, &open_lane);
    for (uint64_t i = 0; i < load->count; i += GROUP)
        weir_way_take(&way, &load->messages[i], load->count - i < GROUP ? load->count - i : GROUP);
    for (uint32_t i = 0; i < way.lane_count; i++)
        counted += weir_lane_state(way.lanes[i])->counts.counted;
    if (counted != load->count)
        weir_measure_die("%" PRIu64 " events were counted, %" PRIu64 " were made", counted, load->count);
    weir_way_close(&way);
    return NULL;
}

static struct weir_took run_threads(struct load *loads, uint32_t threads, uint32_t lanes)
{
    pthread_t running[2];
    struct weir_took start = weir_measure_now();

    for (uint32_t i = 0; i < threads; i++) {
        loads[i].lanes = lanes;
        if (pthread_create(&running[i], NULL, work, &loads[i]) != 0)
            weir_measure_die("no thread can be made");
    }
    for (uint32_t i = 0; i < threads; i++)
        pthread_join(running[i], NULL);
    return weir_measure_since(start);
}

static void measure_ways(void)
{
    enum { ONE, FOUR_LANES, TWO_THREADS, UNKEYED, LARGE, BINARY, WAYS };
    struct weir_figure figures[WAYS] = {[ONE] = {.what = "bytes to windows: one lane, one thread"},
                                        [FOUR_LANES] = {.what = "four lanes, one thread"},
                                        [TWO_THREADS] = {.what = "four lanes, two threads (as two workers)"},
                                        [UNKEYED] = {.what = "four lanes, one thread, events without keys"},
                                        [LARGE] = {.what = "one lane, events of 2 KB"},
                                        [BINARY] = {.what = "one lane, binary mode"}};
    uint64_t count = weir_measure_is_smoke() ? 10000 : 400000;
    struct load plain[2] = {make_load(count, 0, false), make_load(count, 0, false)},
                large = make_load(count / 4, 2048, false), binary = make_load(count, 0, true);

    for (int i = 0; i < WAYS; i++)
        figures[i].unit = "million events/s";
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        weir_measure_progress("bytes to windows, %d of %d", i + 1, weir_measure_repetitions());
        weir_figure_add_rate(&figures[ONE], (double)count, run_threads(plain, 1, 1));
        weir_figure_add_rate(&figures[FOUR_LANES], (double)count, run_threads(plain, 1, 4));
        weir_figure_add_rate(&figures[TWO_THREADS], 2 * (double)count, run_threads(plain, 2, 2));
        deal(&plain[0], WEIR_TOPIC_UNKEYED);
        weir_figure_add_rate(&figures[UNKEYED], (double)count, run_threads(plain, 1, 4));
        deal(&plain[0], WEIR_TOPIC_BY_CUSTOMER);
        weir_figure_add_rate(&figures[LARGE], (double)count / 4, run_threads(&large, 1, 1));
        weir_figure_add_rate(&figures[BINARY], (double)count, run_threads(&binary, 1, 1));
    }
    for (int i = 0; i < WAYS; i++)
        weir_measure_print(&figures[i]);
    weir_measure_target(&(struct weir_target){.what = "four lanes on one thread, against one lane",
                                              .figure = &figures[FOUR_LANES],
                                              .ceiling = &figures[ONE],
                                              .at_least = 0.9});
    weir_measure_target(&(struct weir_target){.what = "four lanes on two threads, against one lane on one",
                                              .figure = &figures[TWO_THREADS],
                                              .ceiling = &figures[ONE],
                                              .at_least = 1.8});
    free_load(&plain[0]);
    free_load(&plain[1]);
    free_load(&large);
    free_load(&binary);
}

/* 5. The report. */

static const char *short_number(uint64_t count, char text[40])
{
    if (count % 1000000 == 0)
        snprintf(text, 40, "%" PRIu64 " million", count / 1000000);
    else
        snprintf(text, 40, "%" PRIu64 " thousand", count / 1000);
    return text;
}

static void measure_memory(const char *thing, struct found (*measure)(uint64_t count), uint64_t count, double at_most)
{
    char names[4][128], number[40];
    struct weir_figure speed = {.what = names[0], .unit = "million/s"}, bytes = {.what = names[1], .unit = "bytes"},
                       worst = {.what = names[2], .unit = "bytes"};

    short_number(count, number);
    snprintf(names[0], sizeof names[0], "new %s, up to %s", thing, number);
    snprintf(names[1], sizeof names[1], "memory of one of %s %s", number, thing);
    snprintf(names[2], sizeof names[2], "the same, at the worst moment of growth");
    snprintf(names[3], sizeof names[3], "memory of each of %s %s, at the worst moment", number, thing);
    /* Memory is the same on a busy day: twice is enough. */
    int repetitions = weir_measure_repetitions() < 2 ? 1 : 2;
    for (int i = 0; i < repetitions; i++) {
        weir_measure_progress("%s, %d of %d", names[0], i + 1, repetitions);
        struct found found = apart(measure, count);
        weir_figure_add(&speed, 1000 / found.ns, found.ns / 1000);
        weir_figure_add(&bytes, found.bytes, 0);
        weir_figure_add(&worst, found.worst, 0);
    }
    weir_measure_print(&speed);
    weir_measure_print(&bytes);
    weir_measure_print(&worst);
    if (at_most > 0)
        weir_measure_target(&(struct weir_target){.what = names[3], .figure = &worst, .at_most = at_most});
}

static void measure_growths(void)
{
    static const uint64_t windows[] = {10000, 1000000, 10000000};
    struct weir_figure figures[3] = {0};
    char names[3][96], number[40];
    size_t sizes = weir_measure_is_smoke() ? 2 : 3;

    for (int i = 0; i < weir_measure_repetitions(); i++)
        for (size_t size = 0; size < sizes; size++) {
            uint64_t count = weir_measure_is_smoke() && size > 0 ? 50000 : windows[size];
            snprintf(names[size], sizeof names[size], "events into %s open windows", short_number(count, number));
            weir_measure_progress("%s, %d of %d", names[size], i + 1, weir_measure_repetitions());
            figures[size].what = names[size];
            figures[size].unit = "million events/s";
            struct found found = apart(measure_growth, count);
            weir_figure_add(&figures[size], 1000 / found.ns, found.ns / 1000);
        }
    for (size_t size = 0; size < sizes; size++)
        weir_measure_print(&figures[size]);
    weir_measure_target(&(struct weir_target){.what = "events/s with 10 million open windows, against 10 thousand",
                                              .figure = &figures[sizes - 1],
                                              .ceiling = &figures[0],
                                              .at_least = 0.5});
}

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "scale",
        .about = "What grows with the load: memory of an id and of an open window; events per second with more open\n"
                 "windows, lanes, threads and bytes, and in binary mode. 10 million windows want 2 GB of memory.",
        .example = "--repetitions 1",
        .repetitions = 5,
    };

    weir_measure_start(&program, argc, argv);
    uint64_t unit = weir_measure_is_smoke() ? 100000 : 1000000;
    measure_memory("ids", measure_ids, unit, 16);
    measure_memory("ids", measure_ids, 10 * unit, 16);
    if (!weir_measure_is_smoke())
        measure_memory("ids", measure_ids, 50 * unit, 16);
    measure_memory("open windows", measure_windows, unit, 128);
    if (!weir_measure_is_smoke())
        measure_memory("open windows", measure_windows, 10 * unit, 128);
    measure_growths();
    measure_ways(); /* last: what this process has freed would be there for those that measure memory */
    return weir_measure_end();
}
