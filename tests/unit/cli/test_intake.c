/* The way in with a helper that decodes ahead, against the same without one: the same messages, good and bad, leave the
 * same lanes, the same outcomes and the same records in quarantine. No librdkafka: runs under ThreadSanitizer. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli/intake.h"
#include "common/calendar.h"
#include "common/hash.h"

static const char catalog_json[] =
    "{\"meters\":["
    "{\"key\":\"c\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1m\"},"
    "{\"key\":\"s\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"5m\",\"group_by\":["
    "\"g\"]},"
    "{\"key\":\"u\",\"event_type\":\"t\",\"aggregation\":\"unique\",\"value\":\"data.u\",\"window\":\"1h\","
    "\"group_by\":[\"g\",\"h\"]}]}";

enum { T0 = 1767225600, LANES = 3, EVENTS = 12000, BATCH_MAX = 4096, TEXT = 1400 };

/* 1. a quarantine that is full now and then, and keeps a digest of what it took */
struct sink {
    struct weir_quarantine base;
    uint64_t puts, records, digest;
    uint64_t full_every; /* 0: never */
    bool is_full;
};

static enum weir_status put(struct weir_quarantine *quarantine, const struct weir_message *message,
                            const struct weir_rejection *why, struct weir_error *reterr)
{
    struct sink *sink = (struct sink *)quarantine;

    (void)reterr;
    if (sink->full_every && ++sink->puts % sink->full_every == 0)
        sink->is_full = true;
    if (sink->is_full)
        return WEIR_AGAIN;
    sink->records++;
    sink->digest = weir_hash64(why->detail, strlen(why->detail), sink->digest + (uint64_t)message->sequence);
    return WEIR_OK;
}

static enum weir_status flush(struct weir_quarantine *quarantine, struct weir_error *reterr)
{
    (void)reterr;
    ((struct sink *)quarantine)->is_full = false;
    return WEIR_OK;
}

/* 2. messages */
struct traffic {
    struct weir_message messages[EVENTS];
    int lanes[EVENTS];
    char (*texts)[TEXT];
};

/* Escapes make a text that is none of the message's, long ones do not fit beside it; numbers and truth values as
 * dimensions are written anew. */
static void write_text(char text[TEXT], int id)
{
    static const char *const groups[] = {"\"large\"", "\"a\\/b\\u00e9\"", "1.50", "true", "12", "null", "7e2"};
    char customer[300], distinct[700];
    int escaped = rand() % 40 == 0 ? 60 : rand() % 3, at = snprintf(customer, sizeof customer, "c%d", rand() % 50);

    for (int i = 0; i < escaped; i++)
        at += snprintf(customer + at, sizeof customer - (size_t)at, "\\/");
    at = snprintf(distinct, sizeof distinct, "u%d", rand() % 9);
    for (int i = rand() % 20 == 0 ? 300 : rand() % 2; i > 0; i--)
        at += snprintf(distinct + at, sizeof distinct - (size_t)at, "\\n");
    snprintf(text, TEXT,
             "{\"specversion\":\"1.0\",\"id\":\"%s%d\",\"source\":\"s\",\"type\":\"%s\",\"subject\":\"%s\",\"time\":"
             "\"2026-01-01T%02d:%02d:00Z\",\"data\":{\"v\":%s,\"g\":%s,\"h\":%s,\"u\":\"%s\"}%s",
             rand() % 4 ? "i" : "\\/", rand() % 30 ? id : id / 2, rand() % 20 ? "t" : "other", customer, rand() % 2,
             rand() % 60, rand() % 50 ? "1.25" : "\"much\"", groups[rand() % 7], groups[rand() % 7], distinct,
             rand() % 50 ? "}" : "");
}

#define TEXT_OF(LITERAL)                                                                                               \
    {                                                                                                                  \
        LITERAL, sizeof(LITERAL) - 1                                                                                   \
    }
static size_t put_slice(char *at, struct weir_slice slice)
{
    at[0] = (char)(slice.length * 2); /* less than 64 bytes each */
    memcpy(at + 1, slice.data, slice.length);
    return 1 + slice.length;
}

/* Its headers, of an id and a customer of its own, as they stand in a record behind the value. */
static void leave_unread(struct weir_message *message, char *at, int number)
{
    char id[16], customer[16];
    size_t length = 0;

    snprintf(id, sizeof id, "b%d", rand() % 20 ? number : number / 2);
    snprintf(customer, sizeof customer, rand() % 9 ? "c%d" : "caf\xc3\xa9%d", rand() % 50);
    for (uint32_t i = 0; i < message->header_count; i++) {
        struct weir_slice name = message->headers[i].name;
        length += put_slice(at + length, name);
        length +=
            put_slice(at + length, weir_slice_equal(name, weir_slice_text("ce_id"))        ? weir_slice_text(id)
                                   : weir_slice_equal(name, weir_slice_text("ce_subject")) ? weir_slice_text(customer)
                                                                                           : message->headers[i].value);
    }
    message->headers = NULL;
    message->unread = weir_slice_of(at, length);
}

static void make_traffic(struct traffic *traffic)
{
    static const struct weir_header headers[] = {
        {TEXT_OF("ce_specversion"), TEXT_OF("1.0")}, {TEXT_OF("ce_id"), TEXT_OF("binary")},
        {TEXT_OF("ce_source"), TEXT_OF("s")},        {TEXT_OF("ce_type"), TEXT_OF("t")},
        {TEXT_OF("ce_subject"), TEXT_OF("c1")},      {TEXT_OF("ce_time"), TEXT_OF("2026-01-01T00:30:00Z")}};
    int64_t next[LANES] = {0};

    traffic->texts = weir_new_array(EVENTS, TEXT);
    for (int i = 0; i < EVENTS; i++) {
        write_text(traffic->texts[i], i);
        traffic->lanes[i] = rand() % LANES;
        struct weir_message *message = &traffic->messages[i];
        *message =
            (struct weir_message){.sequence = next[traffic->lanes[i]]++, .value = weir_slice_text(traffic->texts[i])};
        if (rand() % 30 == 0) {
            int length = snprintf(traffic->texts[i], TEXT, "{\"v\":1,\"g\":\"x\",\"h\":2.5,\"u\":\"w\"}");
            message->value = weir_slice_of(traffic->texts[i], (size_t)length);
            message->header_count = sizeof headers / sizeof *headers;
            message->headers = headers;
            if (rand() % 4)
                leave_unread(message, traffic->texts[i] + length, i);
        }
    }
}

/* 3. the way of all of it */
struct result {
    struct weir_intake_counts counts;
    uint64_t records, refused, windows;
    uint64_t lanes[LANES];
};

static void digest_cut(const struct weir_cut *cut, struct result *result, int lane)
{
    uint64_t digest = (uint64_t)cut->state.next_offset;

    for (size_t i = 0; i < cut->window_count; i++) {
        const struct weir_cut_window *window = &cut->windows[i];
        digest = weir_hash64(window->window.series_key.data, window->window.series_key.length,
                             digest + (uint64_t)window->window.start);
        digest = weir_hash64(window->unique.data, window->unique.length, digest + window->window.total.events);
        digest += (uint64_t)window->window.total.value.e12;
    }
    for (size_t i = 0; i < cut->ids_count; i++)
        digest = weir_hash64(cut->ids[i].ids.data, cut->ids[i].ids.length, digest);
    result->windows += cut->window_count;
    result->lanes[lane] = digest;
}

static void take_batch(struct weir_intake *intake, struct sink *sink, struct weir_intake_item *items, size_t count)
{
    struct weir_error error = {{0}};
    enum weir_status status;

    for (size_t done = 0, taken; done < count; done += taken) {
        status = weir_intake_take(intake, items + done, count - done, T0 * WEIR_SECOND, &taken, &error);
        cr_assert(status == WEIR_OK || status == WEIR_AGAIN, "%s", error.text);
        cr_assert(status == WEIR_AGAIN || taken == count - done);
        if (status == WEIR_AGAIN)
            flush(&sink->base, &error);
    }
}

static struct result run(const struct weir_catalog *catalog, const struct traffic *traffic, bool has_helper,
                         uint64_t full_every, unsigned seed)
{
    static const struct weir_quarantine_ops ops = {.put = put, .flush = flush};
    static struct weir_intake_item items[BATCH_MAX];
    struct weir_lane_settings settings = {.disorder = WEIR_HOUR,
                                          .lateness = WEIR_DAY,
                                          .retention = WEIR_DAY,
                                          .max_future = WEIR_HOUR + WEIR_MINUTE * 50,
                                          .windows_max = 1000000,
                                          .ids_max = 1000000};
    struct sink sink = {.base.ops = &ops, .full_every = full_every};
    struct weir_intake *intake = weir_intake_new(catalog, &sink.base, has_helper);
    struct weir_lane_state state = {.next_offset = 0, .secret = "the same in every run"};
    struct weir_sealed_cut *sealed = weir_sealed_cut_new();
    struct weir_lane *lanes[LANES];
    struct weir_error error;
    struct result result = {.windows = 0};

    for (int i = 0; i < LANES; i++) {
        lanes[i] = weir_lane_new(catalog, weir_slice_text("events:0"), &settings);
        cr_assert_eq(weir_lane_start(lanes[i], &state, &error), WEIR_OK);
    }
    srand(seed);
    for (size_t at = 0; at < EVENTS;) {
        size_t count = 1 + (size_t)rand() % (rand() % 2 ? 40 : BATCH_MAX);
        count = count < EVENTS - at ? count : EVENTS - at;
        for (size_t i = 0; i < count; i++)
            items[i] =
                (struct weir_intake_item){.lane = lanes[traffic->lanes[at + i]], .message = &traffic->messages[at + i]};
        weir_intake_call_helper(intake, rand() % 4); /* if there is one */
        take_batch(intake, &sink, items, count);
        at += count;
    }
    for (int i = 0; i < LANES; i++) {
        weir_lane_seal(lanes[i], sealed);
        digest_cut(&sealed->cut, &result, i);
        weir_lane_free(lanes[i]);
    }
    result.counts = *weir_intake_counts(intake);
    result.records = sink.records;
    result.refused = sink.digest;
    weir_sealed_cut_free(sealed);
    weir_intake_free(intake);
    return result;
}

Test(intake, a_helper_changes_nothing_that_is_counted_or_refused)
{
    struct traffic *traffic = weir_new(sizeof *traffic);
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};

    cr_assert_eq(weir_catalog_parse("test", catalog_json, sizeof catalog_json - 1, &catalog, &mistakes), WEIR_OK);
    srand(11);
    make_traffic(traffic);
    struct result alone = run(catalog, traffic, false, 0, 1);
    cr_assert_gt(alone.counts.outcomes[WEIR_OUTCOME_COUNTED], EVENTS / 3);
    cr_assert_gt(alone.counts.outcomes[WEIR_OUTCOME_DUPLICATE], 0);
    cr_assert_gt(alone.counts.outcomes[WEIR_OUTCOME_UNMATCHED], 0);
    cr_assert_gt(alone.counts.rejections[WEIR_REASON_MALFORMED_JSON], 0);
    cr_assert_gt(alone.counts.rejections[WEIR_REASON_NUMBER_RANGE] + alone.counts.rejections[WEIR_REASON_WRONG_TYPE],
                 0);
    cr_assert_gt(alone.counts.rejections[WEIR_REASON_TOO_EARLY], 0);
    cr_assert_gt(alone.counts.rejections[WEIR_REASON_CONFLICT], 0);
    for (unsigned seed = 1; seed <= 4; seed++) {
        struct result helped = run(catalog, traffic, true, seed % 2 ? 0 : 17, seed);
        cr_assert_eq(memcmp(&helped, &alone, sizeof alone), 0, "seed %u", seed);
    }
    weir_catalog_free(catalog);
    free(traffic->texts);
    free(traffic);
}

/* What the seats keep of a message ends with it: the next batch's messages stand in the same memory. */
Test(intake, a_batch_is_done_with_when_take_returns)
{
    struct traffic *traffic = weir_new(sizeof *traffic);
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    static const struct weir_quarantine_ops ops = {.put = put, .flush = flush};
    struct sink sink = {.base.ops = &ops, .full_every = 1}; /* full at once: the rest of each batch is given up */
    struct weir_error error;
    size_t taken;

    cr_assert_eq(weir_catalog_parse("test", catalog_json, sizeof catalog_json - 1, &catalog, &mistakes), WEIR_OK);
    srand(12);
    make_traffic(traffic);
    struct weir_lane_settings settings = {
        .lateness = WEIR_DAY, .retention = WEIR_DAY, .max_future = WEIR_DAY, .windows_max = 100000, .ids_max = 100000};
    struct weir_lane *lane = weir_lane_new(catalog, weir_slice_text("events:0"), &settings);
    struct weir_lane_state state = {.next_offset = 0};
    struct weir_intake *intake = weir_intake_new(catalog, &sink.base, true);
    cr_assert_eq(weir_lane_start(lane, &state, &error), WEIR_OK);
    for (int i = 0; i < 300; i++) {
        size_t count = 1 + (size_t)rand() % 2000;
        struct weir_intake_item *items = weir_new_array(count, sizeof *items);
        struct weir_message *messages = weir_new_array(count, sizeof *messages);
        for (size_t j = 0; j < count; j++) {
            messages[j] = traffic->messages[j];
            messages[j].sequence = weir_lane_state(lane)->next_offset + (int64_t)j;
            items[j] = (struct weir_intake_item){.lane = lane, .message = &messages[j]};
        }
        weir_intake_call_helper(intake, i % 3 > 0);
        enum weir_status status = weir_intake_take(intake, items, count, T0 * WEIR_SECOND, &taken, &error);
        cr_assert(status == WEIR_AGAIN ? taken < count : status == WEIR_OK && taken == count);
        sink.is_full = false;
        sink.puts = rand() % 3 ? 0 : (uint64_t)-1;
        free(messages);
        free(items);
    }
    weir_intake_free(intake);
    weir_lane_free(lane);
    weir_catalog_free(catalog);
    free(traffic->texts);
    free(traffic);
}
