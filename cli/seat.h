/* A message on its way from decoding to counting: decoded, matched, read and hashed, all that can be known of it by
 * itself. Filled by one thread and counted by another or the same, so it keeps little: one line of the cache, and one
 * for each reading.
 */
#ifndef WEIR_CLI_SEAT_H
#define WEIR_CLI_SEAT_H

#include "aggregator/lane.h"
#include "common/model/catalog.h"
#include "ingest/source.h"

/* A message and the lane that it goes to. */
struct weir_intake_item {
    struct weir_lane *lane;
    const struct weir_message *message;
    enum weir_outcome outcome; /* set by weir_intake_take */
};

struct weir_seat {
    _Alignas(64) struct weir_slice subject; /* of the event; when it is not decoded, as far as it could be read */
    int64_t time;                           /* of the event, as is_retraction */
    struct weir_lane_hashes hashes;
    struct weir_reading *readings; /* the seat's own; views into the message or into texts */
    char *texts;                   /* WEIR_SEAT_TEXT_BYTES */
    uint32_t count;                /* of readings */
    bool is_retraction;
    bool is_whole;   /* false: it is to be filled again by whoever counts it */
    bool is_decoded; /* only when whole; false: the message is refused, and why was said */
    bool is_read;    /* the same, of matching and reading */
};

enum { WEIR_SEAT_TEXT_BYTES = 256 };

/* Decoder, reader and their scratch: one for each thread. */
struct weir_seat_filler;

/* The catalog must outlive it. */
struct weir_seat_filler *weir_seat_filler_new(const struct weir_catalog *catalog);
struct weir_seat_filler *weir_seat_filler_free(struct weir_seat_filler *filler); /* NULL in, NULL out */

/* Fills it so that it lives as long as the message. What will not do so (a message that is refused, texts that are none
 * of the message's and do not fit into the seat's) leaves it not whole. */
void weir_seat_fill(struct weir_seat_filler *filler, const struct weir_intake_item *item, struct weir_seat *seat);
/* Fills it whole, until the filler's next call. *reterr: why it is refused, if it is. */
void weir_seat_fill_for_now(struct weir_seat_filler *filler, const struct weir_intake_item *item,
                            struct weir_seat *seat, struct weir_rejection *reterr);
/* Fetches the message's text, which came from another core, before it is decoded. */
void weir_seat_prefetch_text(const struct weir_intake_item *item);

/* So many seats, with what they own; ends with weir_seats_free. */
struct weir_seat *weir_seats_new(const struct weir_catalog *catalog, size_t count);
struct weir_seat *weir_seats_free(struct weir_seat *seats); /* NULL in, NULL out */

#endif
