/* Parts of `weir recount`: command_recount.c (what is asked for, and what is said of it), recount_live.c (how far lanes
 * are, and so which windows can be counted again), recount_read.c (Kafka or files, counted into the side),
 * recount_compare.c (that beside what was rated), recount_write.c (what differs, rated or rehearsed). Nobody
 * else's.
 *
 * The side is a window store in memory. A lane of its own for each partition fills it by the way that workers go: the
 * same intake, the same lane, the same cuts; of each cut only the meter's windows are kept. The rules, and why nothing
 * counts twice where the recount ends and the live lanes begin: docs/meter-changes.md.
 */
#ifndef WEIR_CLI_RECOUNT_H
#define WEIR_CLI_RECOUNT_H

#include "aggregator/lane.h"
#include "cli/intake.h"
#include "cli/quarantined.h"
#include "common/arena.h"
#include "common/settings.h"
#include "ingest/kafka_offsets.h"
#include "rater/recount.h"
#include "rater/rehearsal.h"

#define WEIR_RECOUNTED_SUFFIX ".recounted" /* TOPIC.recounted:0, the lane of what was counted from files */

/* A lane of the topic, or of its admitted events. */
struct weir_recount_lane {
    char name_bytes[WEIR_LANE_NAME_MAX + 1];
    struct weir_slice name;
    int32_t partition;
    bool is_admitted;
    struct weir_lane_state state; /* as it was before anything was read */
    struct weir_kafka_offsets offsets;
    int64_t complete_from; /* what Kafka has lost holds no event of a window that starts then or later */
};

/* A window that waits to be rated, or an open gap: windows that overlap it are held. */
struct weir_recount_place {
    struct weir_slice series_key; /* empty: every series */
    int64_t start, end;
};

/* What becomes of a window. */
#define WEIR_RECOUNT_VERDICTS(X)                                                                                       \
    X(SAME, unchanged)                                                                                                 \
    X(CHANGED, changed) X(LOST, lost) X(OPEN, open) X(WAITING, waiting) X(HELD, held) X(FROM_FILES, from_files)
enum weir_recount_verdict {
#define WEIR_X(upper, lower) WEIR_RECOUNT_##upper,
    WEIR_RECOUNT_VERDICTS(WEIR_X)
#undef WEIR_X
        WEIR_RECOUNT_VERDICT_COUNT
};

/* A lane's share of a window: on record, found, or both. Shares of one window stand together. */
struct weir_recount_share {
    struct weir_slice lane, series_key;
    int64_t start, end;
    bool is_found;
    bool is_kept;                                   /* no lane of this topic's: it stays whatever was counted */
    struct weir_window_total before, stored, after; /* stored: on record now; before: when the run came to it */
    enum weir_recount_verdict verdict;              /* the window's */
};

struct weir_recount {
    struct weir_settings settings;
    const _Atomic bool *stop;
    struct weir_catalog *catalog, *applied; /* applied: the one in force; may be the same */
    const struct weir_meter *meter;
    struct weir_meter alone;     /* the meter, which takes out what was retracted: whether it may was judged then */
    struct weir_catalog counted; /* a view of the catalog with it alone: what others can read is no matter here */
    const struct weir_meter *meter_before; /* as what is on record was counted */
    int catalog_version;
    struct weir_recount_filter filter;
    const char *const *files;
    size_t file_count; /* 0: Kafka */

    /* recount_live.c */
    struct weir_recount_lane *lanes;
    size_t lane_count;
    int64_t complete_from, final_until;
    bool has_admitted; /* since lanes were looked at, events were admitted: their lane takes any */
    struct weir_recount_place *waiting, *gaps;
    size_t waiting_count, gap_count;
    struct weir_arena *arena; /* of waiting's and found's series keys */

    /* recount_read.c */
    struct weir_window_store *side;
    char files_lane[WEIR_LANE_NAME_MAX + 1];
    struct weir_lane_window *found;
    size_t found_count, found_room;
    uint64_t outcomes[WEIR_OUTCOME_FULL];
    uint64_t rejections[WEIR_REASON_COUNT];
    uint64_t left_out; /* events in quarantine */
    bool is_quarantine_short;

    /* recount_compare.c */
    struct weir_recount_book *book;
    struct weir_recount_share *shares;
    size_t share_count;
    uint64_t verdicts[WEIR_RECOUNT_VERDICT_COUNT]; /* windows */

    int64_t run;                      /* 0: nothing is written */
    struct weir_rehearsal *rehearsal; /* of what would be; NULL: of a run */
};

/* Whether a window is asked for. */
bool weir_recount_wants(const struct weir_recount *recount, const struct weir_window *window);

/* Fills lanes and final_until, waiting, gaps. WEIR_REJECT: some lane is not there to be asked. */
enum weir_status weir_recount_look(struct weir_recount *recount, struct weir_error *reterr);
/* Fills has_admitted. */
enum weir_status weir_recount_look_again(struct weir_recount *recount, struct weir_error *reterr);
/* Fills found, and complete_from. */
enum weir_status weir_recount_count(struct weir_recount *recount, struct weir_error *reterr);
/* WEIR_FATAL: what was found, or is on record, is more than lane_windows_max. */
enum weir_status weir_recount_too_many(const struct weir_recount *recount, struct weir_error *reterr);
/* Fills shares and verdicts. */
enum weir_status weir_recount_compare(struct weir_recount *recount, struct weir_error *reterr);
/* Where the shares of the window that begins at first end. */
size_t weir_recount_next_window(const struct weir_recount *recount, size_t first);
/* The totals of a window's shares, from first on, before and after; *ret_next: where the next window's begin. A total
 * that does not fit is WEIR_REJECT. */
enum weir_status weir_recount_merge(const struct weir_recount *recount, size_t first,
                                    struct weir_window_total *ret_before, struct weir_window_total *ret_after,
                                    size_t *ret_next, struct weir_error *reterr);
bool weir_recount_is_same(const struct weir_window_total *a, const struct weir_window_total *b);
/* Rates the shares that changed, for the run. */
enum weir_status weir_recount_write(struct weir_recount *recount, struct weir_error *reterr);
/* Makes the rehearsal, and prices by it what would be rated. */
enum weir_status weir_recount_rehearse(struct weir_recount *recount, struct weir_error *reterr);

#endif
