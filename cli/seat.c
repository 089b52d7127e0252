#include "cli/seat.h"

#include <assert.h>
#include <stdlib.h>

#include "ingest/decode.h"
#include "ingest/reading.h"

enum { LINE = 64 };

static_assert(sizeof(struct weir_seat) == 2 * LINE || sizeof(struct weir_seat) == LINE, "seats stand on lines");

enum { HAS_UNIQUE_TEXT = 128 };
static_assert((int)WEIR_DIMENSIONS_MAX < (int)HAS_UNIQUE_TEXT, "both stand in a byte");

struct weir_seat_filler {
    uint8_t *texts; /* by meter, which ones its readings have: how many dimensions, and HAS_UNIQUE_TEXT */
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    struct weir_event event;
    struct weir_rejection unsaid; /* why a message is refused that will be filled again */
};

struct weir_seat_filler *weir_seat_filler_new(const struct weir_catalog *catalog)
{
    struct weir_seat_filler *filler = weir_new(sizeof *filler);

    filler->texts = weir_new_array(catalog->meter_count + 1, sizeof *filler->texts);
    for (uint32_t i = 0; i < catalog->meter_count; i++)
        filler->texts[i] =
            (uint8_t)(catalog->meters[i].group_count
                      | (catalog->meters[i].aggregation == WEIR_AGGREGATION_UNIQUE ? HAS_UNIQUE_TEXT : 0));
    filler->decoder = weir_decoder_new(catalog);
    filler->reader = weir_reader_new(catalog);
    return filler;
}

struct weir_seat_filler *weir_seat_filler_free(struct weir_seat_filler *filler)
{
    if (!filler)
        return NULL;
    weir_decoder_free(filler->decoder);
    weir_reader_free(filler->reader);
    free(filler->texts);
    free(filler);
    return NULL;
}

/* Fields in the order of the struct: they are written once, and read by another core. */
static void fill(struct weir_seat_filler *filler, const struct weir_intake_item *item, struct weir_seat *seat,
                 struct weir_rejection *reterr)
{
    const struct weir_event *event = &filler->event;

    seat->count = 0;
    seat->is_whole = true;
    seat->is_read = false;
    seat->is_decoded = weir_decode(filler->decoder, item->message, &filler->event, reterr) == WEIR_OK;
    seat->subject = event->subject;
    if (!seat->is_decoded)
        return;
    seat->time = event->time;
    seat->is_retraction = event->is_retraction;
    seat->is_read = weir_read_event(filler->reader, event, seat->readings, &seat->count, reterr) == WEIR_OK;
    if (!seat->is_read)
        seat->count = 0;
    else if (seat->count > 0)
        weir_lane_hash(item->lane, event, seat->readings, seat->count, &seat->hashes);
}

static inline bool is_of_message(struct weir_slice message, struct weir_slice text)
{
    return (uintptr_t)text.data - (uintptr_t)message.data < message.length || text.length == 0;
}

/* Whether all texts are views into the message, as mostly. */
static inline bool are_of_message(const uint8_t *texts, struct weir_slice message, const struct weir_seat *seat)
{
    const struct weir_reading *end = seat->readings + seat->count;

    if (!is_of_message(message, seat->subject))
        return false;
    for (const struct weir_reading *reading = seat->readings; reading < end; reading++) {
        uint32_t has = texts[reading->meter];
        if (has == 0)
            continue;
        if (has & HAS_UNIQUE_TEXT && !is_of_message(message, reading->unique_text))
            return false;
        for (uint32_t j = 0; j < (has & ~(uint32_t)HAS_UNIQUE_TEXT); j++)
            if (!is_of_message(message, reading->dimensions[j]))
                return false;
    }
    return true;
}

/* Makes the text one of the message's or of the seat's. false: no room. */
static bool keep_text(struct weir_slice message, struct weir_slice *text, char **at, const char *end)
{
    if (is_of_message(message, *text))
        return true;
    if (text->length > (size_t)(end - *at))
        return false;
    memcpy(*at, text->data, text->length);
    text->data = *at;
    *at += text->length;
    return true;
}

static __attribute__((noinline)) bool keep_texts(const uint8_t *texts, struct weir_slice message,
                                                 struct weir_seat *seat)
{
    char *at = seat->texts, *end = seat->texts + WEIR_SEAT_TEXT_BYTES;
    bool is_kept = keep_text(message, &seat->subject, &at, end);

    for (uint32_t i = 0; i < seat->count && is_kept; i++) {
        struct weir_reading *reading = &seat->readings[i];
        uint32_t has = texts[reading->meter];
        if (has & HAS_UNIQUE_TEXT)
            is_kept = keep_text(message, &reading->unique_text, &at, end);
        for (uint32_t j = 0; j < (has & ~(uint32_t)HAS_UNIQUE_TEXT) && is_kept; j++)
            is_kept = keep_text(message, &reading->dimensions[j], &at, end);
    }
    return is_kept;
}

/* The value, and headers that stand behind it. */
static inline struct weir_slice bytes_of(const struct weir_message *message)
{
    const char *begin = message->value.data;

    return message->unread.data ? weir_slice_of(begin, (size_t)(message->unread.data - begin) + message->unread.length)
                                : message->value;
}

void weir_seat_fill(struct weir_seat_filler *filler, const struct weir_intake_item *item, struct weir_seat *seat)
{
    struct weir_slice bytes = bytes_of(item->message);

    fill(filler, item, seat, &filler->unsaid);
    seat->is_whole =
        seat->is_read && (are_of_message(filler->texts, bytes, seat) || keep_texts(filler->texts, bytes, seat));
    if (!seat->is_whole)
        seat->count = 0;
}

void weir_seat_fill_for_now(struct weir_seat_filler *filler, const struct weir_intake_item *item,
                            struct weir_seat *seat, struct weir_rejection *reterr)
{
    fill(filler, item, seat, reterr);
}

static inline void prefetch_lines(struct weir_slice text)
{
    enum { FIRST_LINES = 6 }; /* what is longer than that the processor sees coming */

    for (uint32_t at = 0; at < text.length && at < FIRST_LINES * LINE; at += LINE)
        __builtin_prefetch(text.data + at);
}

void weir_seat_prefetch_text(const struct weir_intake_item *item)
{
    prefetch_lines(item->message->value);
    prefetch_lines(item->message->unread);
}

/* How many meters an event can match at most. */
static uint32_t readings_max(const struct weir_catalog *catalog)
{
    uint32_t most = 1;

    for (uint32_t i = 0; i < catalog->meter_count; i++) {
        uint32_t count = 0;
        for (uint32_t j = 0; j < catalog->meter_count; j++)
            count += weir_slice_equal(catalog->meters[i].event_type, catalog->meters[j].event_type);
        if (count > most)
            most = count;
    }
    return most;
}

/* One piece of memory: the seats, their readings, their texts. */
struct weir_seat *weir_seats_new(const struct weir_catalog *catalog, size_t count)
{
    static_assert(sizeof(struct weir_reading) % LINE == 0, "readings stand on lines too");
    size_t readings = readings_max(catalog), each = sizeof(struct weir_seat) + readings * sizeof(struct weir_reading);
    char *memory = aligned_alloc(LINE, count * (each + WEIR_SEAT_TEXT_BYTES));

    weir_check(memory != NULL);
    memset(memory, 0, count * (each + WEIR_SEAT_TEXT_BYTES));
    struct weir_seat *seats = (struct weir_seat *)memory;
    for (size_t i = 0; i < count; i++) {
        seats[i].readings =
            (struct weir_reading *)(memory + count * sizeof *seats + i * readings * sizeof(struct weir_reading));
        seats[i].texts = memory + count * each + i * WEIR_SEAT_TEXT_BYTES;
    }
    return seats;
}

struct weir_seat *weir_seats_free(struct weir_seat *seats)
{
    free(seats);
    return NULL;
}
