/* Parts of `weir reconcile`: command_reconcile.c (what is compared, and when), reconcile_windows.c (windows in Redis
 * with what was rated of them, and their repair), reconcile_report.c (what is said of it). Nobody else's.
 *
 * Beside running workers and raters nothing is called different that is only on its way. Every window is looked at in
 * Redis between two looks at PostgreSQL: the snapshot of before, and now. What Redis has less of than the snapshot was
 * rated from an earlier, larger total: `older`. What PostgreSQL still has less of afterwards, and that no list of work
 * names, will not be rated by anybody: `unrated`, `newer`.
 */
#ifndef WEIR_CLI_RECONCILE_H
#define WEIR_CLI_RECONCILE_H

#include <jansson.h>

#include "aggregator/window_store.h"
#include "common/arena.h"
#include "common/model/catalog.h"
#include "common/settings.h"
#include "ingest/kafka_offsets.h"
#include "rater/lanes.h"
#include "rater/ledger_audit.h"
#include "rater/rate.h"
#include "rater/reconciliations.h"

enum {
    WEIR_RECONCILE_SHOWN_MAX = 20,    /* differences told one by one in a table */
    WEIR_RECONCILE_LISTED_MAX = 1000, /* and in JSON; the rest is only counted */
    WEIR_RECONCILE_DAMAGED_MAX = 100000,
};

/* The topic of usage events, and that of admitted ones; without partitions when it is not there. */
enum { WEIR_RECONCILE_TOPICS = 2 };
struct weir_reconcile_topic {
    char name[WEIR_SETTING_TEXT_MAX];
    struct weir_kafka_offsets *offsets;
    int32_t partition_count;
};

/* Windows that end at one time, and how many of the lane's shares in them were rated and are in Redis. */
struct weir_reconcile_span {
    int64_t end;
    uint64_t rated, matched;
};

struct weir_reconcile_lane {
    char name_bytes[WEIR_LANE_NAME_MAX + 1];
    struct weir_slice name;
    struct weir_lane_state state;
    int64_t gap; /* PostgreSQL's last one of it, before its windows were read; only for a repair */
    int64_t watermark_after, forgotten_after; /* when all its windows had been looked at */
    uint64_t windows, open, waiting, rated, differing;
    struct weir_reconcile_span *spans; /* by end */
    size_t span_count;
};

enum { WEIR_RECONCILE_TALLIES = 1000 };

/* One window of the batch under way. */
struct weir_reconcile_item {
    bool is_closed, has_work;
    enum weir_difference kind; /* WEIR_DIFFERENCE_COUNT: no difference */
    bool is_repaired;
    struct weir_audited_share rated;
    const char *why; /* it was left alone; the batch's arena. NULL: it was not */
};

struct weir_reconcile {
    struct weir_settings settings;
    struct weir_window_store *store;
    struct weir_ledger_audit *audit;
    struct weir_reconciliation result;

    struct weir_reconcile_topic topics[WEIR_RECONCILE_TOPICS];
    struct weir_reconcile_lane *lanes;
    size_t lane_count;

    /* The batch under way: windows[i] and items[i]. */
    struct weir_reconcile_lane *lane;
    struct weir_arena *arena; /* the batch's series keys */
    struct weir_window *windows;
    struct weir_reconcile_item *items;
    struct weir_audited_share *shares;
    size_t count;
    enum weir_status status; /* of a batch that failed within the scan */
    struct weir_error error;

    /* Repair. */
    struct weir_catalog *catalog;
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_lane_window *work;
    size_t *work_items;               /* which item each of them is */
    struct weir_window_store *looker; /* a second handle: the first one is within a scan */
    struct weir_lane_book *book;
    uint64_t failures;
    struct weir_work *tallies; /* of the batch under way; WEIR_RECONCILE_TALLIES of them */
    size_t tally_count;

    /* Customers whose totals do not add up: nothing of theirs is rated by a repair. Sorted once all are known. */
    struct weir_arena *names;
    struct weir_slice *damaged;
    size_t damaged_count, damaged_room;

    uint64_t told;
    json_t *list; /* differences, for JSON; NULL: a table */
};

/* Tells and counts one difference. why: why it was left alone (a repair), or NULL. */
void weir_reconcile_tell(struct weir_reconcile *reconcile, enum weir_difference kind, bool is_repaired, const char *why,
                         const char *format, ...) __attribute__((format(printf, 5, 6)));
void weir_reconcile_report(const struct weir_reconcile *reconcile);
/* What Kafka holds of the lane's partition; NULL: it has no such partition. */
const struct weir_kafka_offsets *weir_reconcile_offsets(const struct weir_reconcile *reconcile,
                                                        const struct weir_reconcile_lane *lane);
/* How many offsets of the lane's partition are yet to be counted. */
int64_t weir_reconcile_behind(const struct weir_reconcile *reconcile, const struct weir_reconcile_lane *lane);

/* All windows of the lane. */
enum weir_status weir_reconcile_windows(struct weir_reconcile *reconcile, struct weir_reconcile_lane *lane,
                                        struct weir_error *reterr);
/* For weir_rater_on_refusal: notes why a window could not be repaired. */
void weir_reconcile_tell_refused(void *context, const struct weir_lane_window *window, struct weir_slice why);
void weir_reconcile_add_damaged(struct weir_reconcile *reconcile, struct weir_slice customer);
bool weir_reconcile_is_damaged(const struct weir_reconcile *reconcile, struct weir_slice customer);

#endif
