/* What grows with the load: memory of an id and of an open window, and the speed of the lane as they become many.
 *
 * Memory is what the process has in RAM, from before the first to after the last, at every step of the growth: not what
 * a struct is said to have. Each size is measured in a process of its own, since memory that was freed does not all go
 * back.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include "aggregator/seen.h"
#include "aggregator/window_table.h"
#include "benchmarks/measure.h"
#include "common/calendar.h"
#include "common/hash.h"

enum { GROUP = 16, STEPS = 400, HOURS = 24, CUSTOMER_BYTES = 32 };

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
                || weir_seen_set(seen, ids[j], mark, 1 + (uint32_t)(i * 60 / count)) != WEIR_OK)
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
    struct weir_window_change change;

    (void)count;
    reading.dimensions[0] = weir_slice_text("large");
    uint64_t hash = weir_window_table_hash(table, &reading, weir_hash64(name.data, name.length, 0));
    if (weir_window_table_prepare(table, WEIR_WINDOW_ADD, &reading, hash, &event, &change) != WEIR_PREPARED)
        weir_measure_die("a window cannot be made");
    weir_window_table_apply(table, &change);
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

/* 3. The report. */

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
    for (int i = 0; i < weir_measure_repetitions(); i++) {
        weir_measure_progress("%s, %d of %d", names[0], i + 1, weir_measure_repetitions());
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

int main(int argc, char **argv)
{
    static const struct weir_measure_program program = {
        .name = "scale",
        .about = "What grows with the load: memory of an id and of an open window, and the speed as they become many.",
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
    return weir_measure_end();
}
