#include "cli/intake.h"

#include <stdlib.h>

#include "cli/ahead.h"
#include "common/daemon.h"

struct weir_intake {
    struct weir_quarantine *quarantine;
    const _Atomic bool *stop; /* NULL: never */
    int64_t patience;         /* ns; 0: for ever */
    struct weir_intake_counts counts;
    struct weir_ahead *ahead;
    struct weir_event event;         /* the one at hand: what weir_lane_take reads of it */
    struct weir_rejection rejection; /* why it is refused */
};

struct weir_intake *weir_intake_new(const struct weir_catalog *catalog, struct weir_quarantine *quarantine,
                                    bool has_helper)
{
    struct weir_intake *intake = weir_new(sizeof *intake);

    intake->quarantine = quarantine;
    intake->ahead = weir_ahead_new(catalog, has_helper);
    return intake;
}

struct weir_intake *weir_intake_free(struct weir_intake *intake)
{
    if (!intake)
        return NULL;
    weir_ahead_free(intake->ahead);
    free(intake);
    return NULL;
}

void weir_intake_call_helper(struct weir_intake *intake, bool is_called)
{
    weir_ahead_call_helper(intake->ahead, is_called);
}

void weir_intake_stop_on(struct weir_intake *intake, const _Atomic bool *stop, int64_t patience)
{
    intake->stop = stop;
    intake->patience = patience;
}

static enum weir_status put_away(struct weir_intake *intake, const struct weir_message *message,
                                 struct weir_error *reterr)
{
    return intake->quarantine->ops->put(intake->quarantine, message, &intake->rejection, reterr);
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
static enum weir_status must_put_away(struct weir_intake *intake, const struct weir_message *message,
                                      struct weir_error *reterr)
{
    enum weir_status status = put_away(intake, message, reterr);
    int64_t since = weir_monotonic();

    while (status == WEIR_AGAIN
           || status == WEIR_RETRY) { /* full, or the broker is away: nothing can go on without it */
        /* relaxed: a flag by itself. */
        if (intake->stop && atomic_load_explicit(intake->stop, memory_order_relaxed))
            return WEIR_FATAL;
        if (intake->patience && weir_monotonic() - since > intake->patience)
            return WEIR_FATAL;
        weir_daemon_alive();
        status = intake->quarantine->ops->flush(intake->quarantine, reterr);
        if (status == WEIR_OK)
            status = put_away(intake, message, reterr);
    }
    return status == WEIR_OK ? WEIR_OK : WEIR_FATAL;
}

static enum weir_status refuse(struct weir_intake *intake, const struct weir_seat *seat,
                               const struct weir_intake_item *item, struct weir_error *reterr)
{
    enum weir_status status = put_away(intake, item->message, reterr);

    if (status == WEIR_OK)
        weir_lane_reject(item->lane, seat->subject, item->message->sequence);
    return status;
}

static inline enum weir_status count_one(struct weir_intake *intake, const struct weir_seat *seat,
                                         struct weir_intake_item *item, struct weir_error *reterr)
{
    intake->event.subject = seat->subject;
    intake->event.time = seat->time;
    intake->event.is_retraction = seat->is_retraction;
    item->outcome = weir_lane_take(item->lane, &intake->event, seat->readings, seat->count, &seat->hashes,
                                   item->message->sequence, &intake->rejection);
    if (__builtin_expect(item->outcome == WEIR_OUTCOME_FULL, 0))
        return full(item->lane, reterr);
    if (__builtin_expect(item->outcome == WEIR_OUTCOME_REJECTED, 0))
        return must_put_away(intake, item->message, reterr);
    return WEIR_OK;
}

/* The order of the checks is docs/rating.md 1.5: decode, time, matching and reading, identity. */
static enum weir_status take_one(struct weir_intake *intake, struct weir_seat *seat, struct weir_intake_item *item,
                                 int64_t now, struct weir_error *reterr)
{
    enum weir_status status;

    item->outcome = WEIR_OUTCOME_REJECTED;
    if (__builtin_expect(!seat->is_whole, 0))
        weir_seat_fill_for_now(weir_ahead_filler(intake->ahead), item, seat, &intake->rejection);
    bool is_late = seat->is_decoded && weir_lane_check_time(item->lane, seat->time, now, &intake->rejection) != WEIR_OK;
    if (__builtin_expect(is_late || !seat->is_read, 0))
        status = refuse(intake, seat, item, reterr);
    else
        status = count_one(intake, seat, item, reterr);
    if (__builtin_expect(status != WEIR_OK, 0))
        return status == WEIR_AGAIN ? status : WEIR_FATAL;
    weir_lane_set_stamp(item->lane, item->message->timestamp);
    intake->counts.outcomes[item->outcome]++;
    intake->counts.bytes += item->message->value.length;
    if (item->outcome == WEIR_OUTCOME_REJECTED)
        intake->counts.rejections[intake->rejection.reason]++;
    return WEIR_OK;
}

static void prefetch(const struct weir_seat *seats, const struct weir_intake_item *items, size_t count)
{
    struct weir_lane_coming events[WEIR_AHEAD_GROUP];
    size_t coming = 0;

    for (size_t i = 0; i < count; i++)
        if (seats[i].count > 0) {
            __builtin_prefetch(seats[i].subject.data); /* mostly, another core has read it so far */
            events[coming++] =
                (struct weir_lane_coming){items[i].lane, &seats[i].hashes, seats[i].readings, seats[i].count};
        }
    weir_lane_prefetch(events, coming);
}

enum weir_status weir_intake_take(struct weir_intake *intake, struct weir_intake_item *items, size_t count, int64_t now,
                                  size_t *ret_taken, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    struct weir_seat *seats;
    size_t size;

    *ret_taken = 0;
    weir_ahead_begin(intake->ahead, items, count);
    while (status == WEIR_OK && (seats = weir_ahead_next(intake->ahead, &size))) {
        prefetch(seats, items + *ret_taken, size);
        for (size_t i = 0; i < size; i++, ++*ret_taken)
            if ((status = take_one(intake, &seats[i], &items[*ret_taken], now, reterr)) != WEIR_OK)
                break;
    }
    weir_ahead_end(intake->ahead);
    return status;
}

const struct weir_intake_counts *weir_intake_counts(const struct weir_intake *intake)
{
    return &intake->counts;
}
