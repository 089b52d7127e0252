#include "benchmarks/workload.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/status.h"

enum {
    RECENT = 4096, /* a repeated event is one of the last so many */
    SPAN_SECONDS = 2 * 86400,
    NOON_SECONDS = 12 * 3600,
    JITTER_SECONDS = 60,
    LATE_SECONDS = 6 * 3600,
    PLAIN_BYTES = 400, /* of an event without a text, at most */
    PADDING = 8192,
    GUIDE = 4096, /* the first step of the search for a customer */
};

struct weir_workload {
    struct weir_workload_settings settings;
    uint64_t state; /* of the random numbers */
    uint64_t made;
    struct weir_workload_totals totals;
    uint64_t *ranks; /* cumulated Zipf weights, scaled to 2^63 */
    uint32_t guide[GUIDE + 1];
    char *recent; /* recent_room bytes for each */
    size_t recent_room;
    uint16_t recent_length[RECENT];
    char padding[PADDING];
};

const char weir_workload_catalog[] =
    "{\"meters\":["
    "{\"key\":\"tokens-in\",\"event_type\":\"llm.completion\",\"aggregation\":\"sum\",\"value\":\"data.tokens_in\","
    "\"window\":\"1h\",\"group_by\":[\"model\"]},"
    "{\"key\":\"tokens-out\",\"event_type\":\"llm.completion\",\"aggregation\":\"sum\",\"value\":\"data.tokens_out\","
    "\"window\":\"1h\"},"
    "{\"key\":\"completions\",\"event_type\":\"llm.completion\",\"aggregation\":\"count\",\"window\":\"1h\"},"
    "{\"key\":\"requests\",\"event_type\":\"api.request\",\"aggregation\":\"count\",\"window\":\"1h\"},"
    "{\"key\":\"endpoints\",\"event_type\":\"api.request\",\"aggregation\":\"unique\",\"value\":\"data.path\","
    "\"window\":\"1d\"},"
    "{\"key\":\"slowest\",\"event_type\":\"api.request\",\"aggregation\":\"max\",\"value\":\"data.millis\","
    "\"window\":\"1h\"},"
    "{\"key\":\"stored\",\"event_type\":\"storage.sample\",\"aggregation\":\"latest\",\"value\":\"data.gigabytes\","
    "\"window\":\"1h\"},"
    "{\"key\":\"stored-hours\",\"event_type\":\"storage.sample\",\"aggregation\":\"avg\",\"value\":\"data.gigabytes\","
    "\"window\":\"1h\",\"rollup\":\"sum\"}],"
    "\"price_books\":[{\"key\":\"standard\",\"version\":1,\"currency\":\"USD\","
    "\"effective_from\":\"2026-01-01T00:00:00Z\",\"prices\":["
    "{\"meter\":\"tokens-in\",\"when\":{\"model\":\"large\"},\"model\":\"per_unit\",\"unit_price\":\"0.0000025\"},"
    "{\"meter\":\"tokens-in\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"1000000\",\"unit_price\":\"0\"},"
    "{\"up_to\":\"20000000\",\"unit_price\":\"0.0000015\",\"flat_fee\":\"5.00\"},"
    "{\"up_to\":null,\"unit_price\":\"0.000001\"}]},"
    "{\"meter\":\"tokens-out\",\"model\":\"volume\",\"tiers\":[{\"up_to\":\"500000\",\"unit_price\":\"0.00001\"},"
    "{\"up_to\":null,\"unit_price\":\"0.000008\"}]},"
    "{\"meter\":\"completions\",\"model\":\"package\",\"package_size\":\"1000\",\"package_price\":\"0.2\"},"
    "{\"meter\":\"requests\",\"model\":\"per_unit\",\"unit_price\":\"0.0004\",\"free_units\":\"1000\"},"
    "{\"meter\":\"endpoints\",\"model\":\"per_unit\",\"unit_price\":\"0.01\"},"
    "{\"meter\":\"slowest\",\"model\":\"per_unit\",\"unit_price\":\"0.000001\"},"
    "{\"meter\":\"stored\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":\"100\",\"unit_price\":\"0.02\","
    "\"flat_fee\":\"1\"},{\"up_to\":null,\"unit_price\":\"0.015\"}]},"
    "{\"meter\":\"stored-hours\",\"model\":\"percentage\",\"rate\":\"0.003\",\"fixed_fee\":\"0.000001\","
    "\"maximum_amount\":\"250\"}],"
    "\"fees\":[{\"key\":\"platform\",\"amount\":\"99.00\",\"per\":\"period\",\"charged\":\"in_advance\"}]}],"
    "\"default_contract\":{\"price_book\":\"standard\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

/* 1. Random numbers: splitmix64, which takes any seed. */

static uint64_t next_random(struct weir_workload *workload)
{
    uint64_t z = workload->state += UINT64_C(0x9E3779B97F4A7C15);
    z = (z ^ z >> 30) * UINT64_C(0xBF58476D1CE4E5B9);
    z = (z ^ z >> 27) * UINT64_C(0x94D049BB133111EB);
    return z ^ z >> 31;
}

/* Customer of rank r has weight 1/r. In whole numbers, so that every machine draws the same ones. */
static void make_ranks(struct weir_workload *workload)
{
    uint32_t count = workload->settings.customers;
    uint64_t sum = 0, unit = (UINT64_C(1) << 62) / 16; /* the weights of a million ranks add up to less than 15 units */
    uint32_t at = 0;

    workload->ranks = weir_new_array(count, sizeof *workload->ranks);
    for (uint32_t i = 0; i < count; i++)
        workload->ranks[i] = sum += unit / (i + 1);
    for (uint32_t i = 0; i <= GUIDE; i++) {
        while (at < count - 1 && workload->ranks[at] <= sum / GUIDE * i)
            at++;
        workload->guide[i] = at;
    }
}

static uint32_t draw_customer(struct weir_workload *workload)
{
    uint64_t sum = workload->ranks[workload->settings.customers - 1], draw = next_random(workload) % sum;
    uint64_t step = draw / (sum / GUIDE);
    uint32_t low = workload->guide[step < GUIDE ? step : GUIDE];
    uint32_t high = step < GUIDE ? workload->guide[step + 1] : workload->settings.customers - 1;

    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (workload->ranks[middle] <= draw)
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

/* Words without a meaning, which compress as text does: from a generator of its own, so that events are the same with
 * and without. */
static void make_padding(struct weir_workload *workload)
{
    struct weir_workload words = {.state = 1};

    for (size_t i = 0; i < PADDING; i++) {
        uint64_t draw = next_random(&words);
        workload->padding[i] = draw % 6 == 0 ? ' ' : (char)('a' + (draw >> 8) % 20 * ((draw >> 16) % 20) / 20);
    }
}

struct weir_workload *weir_workload_new(const struct weir_workload_settings *settings)
{
    struct weir_workload *workload = weir_new(sizeof *workload);

    weir_check(settings->customers >= 1 && settings->customers <= 1000000);
    weir_check(settings->event_bytes <= WEIR_WORKLOAD_EVENT_MAX - 96);
    workload->settings = *settings;
    workload->state = settings->seed;
    workload->recent_room = settings->event_bytes > PLAIN_BYTES ? settings->event_bytes : PLAIN_BYTES;
    workload->recent = weir_new_array(RECENT, workload->recent_room);
    make_ranks(workload);
    make_padding(workload);
    return workload;
}

struct weir_workload *weir_workload_free(struct weir_workload *workload)
{
    if (!workload)
        return NULL;
    free(workload->ranks);
    free(workload->recent);
    free(workload);
    return NULL;
}

/* 2. Text: sprintf would cost more than all that is measured. */

static char *put_text(char *at, const char *text, size_t length)
{
    memcpy(at, text, length);
    return at + length;
}
#define PUT(AT, LITERAL) put_text((AT), "" LITERAL, sizeof(LITERAL) - 1)

static char *put_digits(char *at, uint64_t value, int digits)
{
    for (int i = digits - 1; i >= 0; i--, value /= 10)
        at[i] = (char)('0' + value % 10);
    return at + digits;
}

static char *put_number(char *at, uint64_t value)
{
    int digits = 1;
    for (uint64_t rest = value; rest >= 10; rest /= 10)
        digits++;
    return put_digits(at, value, digits);
}

static char *put_time(char *at, uint64_t second, uint64_t serial)
{
    uint64_t clock = second % 86400;

    at = put_digits(PUT(at, "2026-01-"), 5 + second / 86400, 2);
    at = put_digits(PUT(at, "T"), clock / 3600, 2);
    at = put_digits(PUT(at, ":"), clock / 60 % 60, 2);
    at = put_digits(PUT(at, ":"), clock % 60, 2);
    at = put_digits(PUT(at, "."), serial % 1000, 3);
    return PUT(at, "Z");
}

static char *put_completion(struct weir_workload *workload, char *at, uint64_t draw)
{
    static const char models[4][8] = {"large", "medium", "small", "embed"};
    const char *model = models[draw & 3];
    uint64_t tokens_in = (draw >> 2) % 4001, tokens_out = (draw >> 20) % 9970;

    workload->totals.completions++;
    workload->totals.tokens_in += tokens_in;
    at = put_text(PUT(at, "\"data\":{\"model\":\""), model, strlen(model));
    at = put_number(PUT(at, "\",\"tokens_in\":"), tokens_in);
    at = put_number(PUT(at, ",\"tokens_out\":\""), tokens_out / 10);
    at = put_number(PUT(at, "."), tokens_out % 10);
    return PUT(at, "\",\"region\":\"eu-west-1\",\"cached\":false}}");
}

static char *put_request(struct weir_workload *workload, char *at, uint64_t draw)
{
    workload->totals.requests++;
    at = put_number(PUT(at, "\"data\":{\"path\":\"/v1/resources/"), draw & 63);
    at = put_number(PUT(at, "\",\"millis\":"), (draw >> 6) % 3000);
    at = put_digits(PUT(at, "."), (draw >> 30) % 1000, 3);
    return PUT(at, ",\"status\":200,\"region\":\"us-east-1\"}}");
}

static char *put_sample(struct weir_workload *workload, char *at, uint64_t draw)
{
    workload->totals.samples++;
    at = put_number(PUT(at, "\"data\":{\"gigabytes\":"), draw % 5000);
    at = put_digits(PUT(at, "."), (draw >> 13) % 1000000, 6);
    at = put_digits(PUT(at, ",\"bucket\":\"bucket-"), (draw >> 40) % 13, 4);
    return PUT(at, "\",\"region\":\"eu-west-1\"}}");
}

/* 3. Events. */

static uint64_t draw_second(struct weir_workload *workload, bool is_late)
{
    const struct weir_workload_settings *settings = &workload->settings;
    uint64_t span = settings->span_seconds ? settings->span_seconds : SPAN_SECONDS;
    uint64_t second = (uint64_t)((unsigned __int128)workload->made * span / settings->events)
                      + (settings->span_seconds ? NOON_SECONDS : 0);
    uint64_t back = next_random(workload) % (is_late ? LATE_SECONDS : JITTER_SECONDS);
    return second > back ? second - back : 0;
}

/* A text at the end of data, until the event is as long as wanted. */
static size_t pad(const struct weir_workload *workload, char *text, size_t length, uint64_t draw)
{
    static const char name[] = ",\"prompt\":\"";
    size_t around = sizeof name, wanted = workload->settings.event_bytes; /* and the text's end quote */

    if (wanted <= length + around)
        return length;
    char *at = put_text(text + length - 2, name, sizeof name - 1); /* over the two closing braces */
    size_t more = wanted - length - around;
    at = put_text(at, workload->padding + draw % (PADDING - WEIR_WORKLOAD_EVENT_MAX), more);
    return (size_t)(PUT(at, "\"}}") - text);
}

static size_t make_event(struct weir_workload *workload, char *text)
{
    static const char kinds[3][16] = {"llm.completion", "api.request", "storage.sample"};
    static const char sources[3][24] = {"inference-gateway", "api-gateway/edge-7", "storage-sampler/eu"};
    uint64_t serial = ++workload->totals.events, draw = next_random(workload);
    int kind = (int[]){0, 0, 0, 0, 0, 0, 0, 1, 1, 2}[serial * 7 % 10];
    bool is_late = next_random(workload) % 1000 < workload->settings.late_permille;
    char *at = text;

    at = put_digits(PUT(at, "{\"specversion\":\"1.0\",\"id\":\"01J9Z"), serial, 16);
    at = put_text(PUT(at, "\",\"source\":\""), sources[kind], strlen(sources[kind]));
    at = put_text(PUT(at, "\",\"type\":\""), kinds[kind], strlen(kinds[kind]));
    at = put_digits(PUT(at, "\",\"subject\":\"customer-"), draw_customer(workload), 6);
    at = put_time(PUT(at, "\",\"time\":\""), draw_second(workload, is_late), serial);
    at = PUT(at, "\",\"datacontenttype\":\"application/json\",");
    at = kind == 0   ? put_completion(workload, at, draw)
         : kind == 1 ? put_request(workload, at, draw)
                     : put_sample(workload, at, draw);
    return pad(workload, text, (size_t)(at - text), draw);
}

size_t weir_workload_next(struct weir_workload *workload, char *text)
{
    uint64_t distinct = workload->totals.events;

    if (workload->made == workload->settings.events)
        return 0;
    workload->made++;
    if (distinct > 0 && next_random(workload) % 1000 < workload->settings.repeated_permille) {
        uint64_t which = next_random(workload) % (distinct < RECENT ? distinct : RECENT);
        workload->totals.repeated++;
        memcpy(text, workload->recent + which * workload->recent_room, workload->recent_length[which]);
        return workload->recent_length[which];
    }
    size_t length = make_event(workload, text);
    weir_check(length <= workload->recent_room);
    memcpy(workload->recent + distinct % RECENT * workload->recent_room, text, length);
    workload->recent_length[distinct % RECENT] = (uint16_t)length;
    return length;
}

/* The text between the mark, which must come next, and the quote behind it; *at moves past the two. */
static struct weir_slice take_text(const char **at, const char *end, const char *mark)
{
    const char *from = memmem(*at, (size_t)(end - *at), mark, strlen(mark));

    weir_check(from != NULL);
    from += strlen(mark);
    const char *to = memchr(from, '"', (size_t)(end - from));
    weir_check(to != NULL);
    *at = to + 1;
    return weir_slice_of(from, (size_t)(to - from));
}

struct weir_workload_message weir_workload_to_binary(const char *text, size_t length)
{
    static const char *const marks[WEIR_WORKLOAD_HEADERS][2] = {{"ce_specversion", "{\"specversion\":\""},
                                                                {"ce_id", ",\"id\":\""},
                                                                {"ce_source", ",\"source\":\""},
                                                                {"ce_type", ",\"type\":\""},
                                                                {"ce_subject", ",\"subject\":\""},
                                                                {"ce_time", ",\"time\":\""},
                                                                {"content-type", ",\"datacontenttype\":\""}};
    static const char data[] = ",\"data\":";
    const char *at = text, *end = text + length;
    struct weir_workload_message message;

    for (int i = 0; i < WEIR_WORKLOAD_HEADERS; i++)
        message.headers[i] = (struct weir_header){weir_slice_text(marks[i][0]), take_text(&at, end, marks[i][1])};
    weir_check((size_t)(end - at) > sizeof data && memcmp(at, data, sizeof data - 1) == 0);
    at += sizeof data - 1;
    message.value = weir_slice_of(at, (size_t)(end - 1 - at)); /* without the event's own brace */
    return message;
}

static size_t put_length(char *at, uint64_t length)
{
    size_t count = 0;

    for (length <<= 1; length >= 0x80; length >>= 7)
        at[count++] = (char)(length | 0x80);
    at[count++] = (char)length;
    return count;
}

static size_t put_bytes(char *at, struct weir_slice bytes)
{
    size_t count = put_length(at, bytes.length);

    memcpy(at + count, bytes.data, bytes.length);
    return count + bytes.length;
}

size_t weir_workload_to_record(const struct weir_workload_message *message, char record[WEIR_WORKLOAD_RECORD_MAX],
                               struct weir_slice *ret_value)
{
    static const char front[] = {0, 0, 0, 1}; /* attributes, deltas of time and offset, no key */
    char *at = record;
    size_t bytes = sizeof front + message->value.length + 8;

    for (int i = 0; i < WEIR_WORKLOAD_HEADERS; i++)
        bytes += message->headers[i].name.length + message->headers[i].value.length + 4;
    weir_check(bytes < WEIR_WORKLOAD_RECORD_MAX - 8);
    char body[WEIR_WORKLOAD_RECORD_MAX], *end = body; /* its length stands before it, in as many bytes as it needs */
    memcpy(end, front, sizeof front);
    end += sizeof front;
    end += put_bytes(end, message->value);
    size_t value_end = (size_t)(end - body);
    end += put_length(end, WEIR_WORKLOAD_HEADERS);
    for (int i = 0; i < WEIR_WORKLOAD_HEADERS; i++) {
        end += put_bytes(end, message->headers[i].name);
        end += put_bytes(end, message->headers[i].value);
    }
    at += put_length(at, (uint64_t)(end - body));
    memcpy(at, body, (size_t)(end - body));
    *ret_value = weir_slice_of(at + value_end - message->value.length, message->value.length);
    return (size_t)(at - record) + (size_t)(end - body);
}

struct weir_workload_totals weir_workload_totals(const struct weir_workload *workload)
{
    return workload->totals;
}

bool weir_workload_write(struct weir_workload *workload, const char *events_path, const char *catalog_path)
{
    char text[WEIR_WORKLOAD_EVENT_MAX + 1];
    FILE *events = fopen(events_path, "w"), *catalog = fopen(catalog_path, "w");
    bool is_good = events && catalog && fputs(weir_workload_catalog, catalog) >= 0;
    size_t length;

    while (is_good && (length = weir_workload_next(workload, text)) > 0) {
        text[length] = '\n';
        is_good = fwrite(text, 1, length + 1, events) == length + 1;
    }
    is_good = !(events && fclose(events)) && is_good;
    return !(catalog && fclose(catalog)) && is_good;
}
