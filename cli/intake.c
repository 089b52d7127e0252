#include "cli/intake.h"

#include <stdlib.h>

#include "common/daemon.h"
#include "ingest/decode.h"
#include "ingest/reading.h"

enum { TEXTS_AHEAD = 2 };

/* One message of a group: each has a decoder and a reader of its own, whose views must live until it is counted. */
struct seat {
    struct weir_decoder *decoder;
    struct weir_reader *reader;
    enum weir_status decoded, was_read;
    uint32_t count;
    struct weir_rejection rejection;
    struct weir_event event;
    struct weir_lane_hashes hashes;
    struct weir_reading readings[WEIR_METERS_MAX];
};

struct weir_intake {
    struct weir_quarantine *quarantine;
    const _Atomic bool *stop; /* NULL: never */
    struct weir_intake_counts counts;
    struct seat seats[WEIR_INTAKE_GROUP];
};

struct weir_intake *weir_intake_new(const struct weir_catalog *catalog, struct weir_quarantine *quarantine)
{
    struct weir_intake *intake = weir_new(sizeof *intake);

    intake->quarantine = quarantine;
    for (int i = 0; i < WEIR_INTAKE_GROUP; i++) {
        intake->seats[i].decoder = weir_decoder_new(catalog);
        intake->seats[i].reader = weir_reader_new(catalog);
    }
    return intake;
}

struct weir_intake *weir_intake_free(struct weir_intake *intake)
{
    if (!intake)
        return NULL;
    for (int i = 0; i < WEIR_INTAKE_GROUP; i++) {
        weir_decoder_free(intake->seats[i].decoder);
        weir_reader_free(intake->seats[i].reader);
    }
    free(intake);
    return NULL;
}

void weir_intake_stop_on(struct weir_intake *intake, const _Atomic bool *stop)
{
    intake->stop = stop;
}

/* Everything that can be known of a message by itself. */
static void read_message(struct seat *seat, const struct weir_intake_item *item)
{
    seat->was_read = WEIR_REJECT;
    seat->count = 0;
    seat->decoded = weir_decode(seat->decoder, item->message, &seat->event, &seat->rejection);
    if (seat->decoded == WEIR_OK)
        seat->was_read = weir_read_event(seat->reader, &seat->event, seat->readings, &seat->count, &seat->rejection);
    if (seat->was_read != WEIR_OK)
        seat->count = 0;
    else if (seat->count > 0)
        weir_lane_hash(item->lane, &seat->event, seat->readings, seat->count, &seat->hashes);
}

/* The text came from another core. A line for each prefetch; what is longer than these the processor sees coming. */
static void prefetch_text(const struct weir_intake_item *item)
{
    enum { LINE = 64, FIRST_LINES = 6 };
    struct weir_slice text = item->message->value;

    for (uint32_t at = 0; at < text.length && at < FIRST_LINES * LINE; at += LINE)
        __builtin_prefetch(text.data + at);
}

static void prefetch(const struct seat *seat, const struct weir_intake_item *item, int stage)
{
    if (seat->count > 0)
        weir_lane_prefetch(item->lane, &seat->hashes, seat->count, stage);
}

static enum weir_status put_away(struct weir_intake *intake, const struct seat *seat,
                                 const struct weir_message *message, struct weir_error *reterr)
{
    return intake->quarantine->ops->put(intake->quarantine, message, &seat->rejection, reterr);
}

static enum weir_status full(const struct weir_lane *lane, struct weir_error *reterr)
{
    struct weir_slice name = weir_lane_name(lane);
    return weir_fail(reterr, WEIR_FATAL,
                     "lane %.*s is full: %llu windows and %llu ids in memory. Raise lane_windows_max or lane_ids_max "
                     "with the memory "
                     "that they need, start more workers, or lower lateness; nothing was lost",
                     (int)name.length, name.data, (unsigned long long)weir_lane_windows(lane),
                     (unsigned long long)weir_lane_ids(lane));
}

/* The lane has moved past the event already, so its record must get through. */
static enum weir_status must_put_away(struct weir_intake *intake, const struct seat *seat,
                                      const struct weir_message *message, struct weir_error *reterr)
{
    enum weir_status status = put_away(intake, seat, message, reterr);

    while (status == WEIR_AGAIN
           || status == WEIR_RETRY) { /* full, or the broker is away: nothing can go on without it */
        /* relaxed: a flag by itself. */
        if (intake->stop && atomic_load_explicit(intake->stop, memory_order_relaxed))
            return WEIR_FATAL;
        weir_daemon_alive();
        status = intake->quarantine->ops->flush(intake->quarantine, reterr);
        if (status == WEIR_OK)
            status = put_away(intake, seat, message, reterr);
    }
    return status == WEIR_OK ? WEIR_OK : WEIR_FATAL;
}

/* The order of the checks is docs/rating.md 1.5: decode, time, matching and reading, identity. */
static enum weir_status take_one(struct weir_intake *intake, struct seat *seat, struct weir_intake_item *item,
                                 int64_t now, struct weir_error *reterr)
{
    const struct weir_message *message = item->message;
    struct weir_rejection late;
    enum weir_status status = WEIR_OK;

    item->outcome = WEIR_OUTCOME_REJECTED;
    bool is_refused = seat->decoded != WEIR_OK;
    if (!is_refused && weir_lane_check_time(item->lane, seat->event.time, now, &late) != WEIR_OK) {
        seat->rejection = late;
        is_refused = true;
    }
    if (is_refused || seat->was_read != WEIR_OK) {
        status = put_away(intake, seat, message, reterr);
        if (status == WEIR_OK)
            weir_lane_reject(item->lane, message->sequence);
    } else {
        item->outcome = weir_lane_take(item->lane, &seat->event, seat->readings, seat->count, &seat->hashes,
                                       message->sequence, &seat->rejection);
        if (item->outcome == WEIR_OUTCOME_FULL)
            return full(item->lane, reterr);
        if (item->outcome == WEIR_OUTCOME_REJECTED)
            status = must_put_away(intake, seat, message, reterr);
    }
    if (status != WEIR_OK)
        return status == WEIR_AGAIN ? status : WEIR_FATAL;
    weir_lane_set_stamp(item->lane, message->timestamp);
    intake->counts.outcomes[item->outcome]++;
    intake->counts.bytes += message->value.length;
    if (item->outcome == WEIR_OUTCOME_REJECTED)
        intake->counts.rejections[seat->rejection.reason]++;
    return WEIR_OK;
}

enum weir_status weir_intake_take(struct weir_intake *intake, struct weir_intake_item *items, size_t count, int64_t now,
                                  size_t *ret_taken, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    weir_check(count <= WEIR_INTAKE_GROUP);
    for (size_t i = 0; i < count && i < TEXTS_AHEAD; i++)
        prefetch_text(&items[i]);
    for (size_t i = 0; i < count; i++) {
        if (i + TEXTS_AHEAD < count)
            prefetch_text(&items[i + TEXTS_AHEAD]);
        read_message(&intake->seats[i], &items[i]);
        prefetch(&intake->seats[i], &items[i], 0);
    }
    for (int stage = 1; stage <= 2; stage++)
        for (size_t i = 0; i < count; i++)
            prefetch(&intake->seats[i], &items[i], stage);
    *ret_taken = 0;
    while (*ret_taken < count
           && (status = take_one(intake, &intake->seats[*ret_taken], &items[*ret_taken], now, reterr)) == WEIR_OK)
        ++*ret_taken;
    return status;
}

const struct weir_intake_counts *weir_intake_counts(const struct weir_intake *intake)
{
    return &intake->counts;
}
