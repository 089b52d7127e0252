#include "rater/lanes.h"

#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "common/calendar.h"
#include "common/model/event.h"
#include "common/model/tally.h"
#include "rater/postgres.h"
#include "rater/postgres_value.h"

enum { NOTE_SECONDS = 2, COLUMNS = 9 };

/* What this rater has noted of a lane. */
struct noted {
    char name[WEIR_LANE_NAME_MAX];
    uint32_t length;
    unsigned char secret[WEIR_LANE_SECRET_BYTES]; /* another one: the store was emptied since */
    int64_t next_offset, highest_offset;
    uint32_t gap_count;
    int64_t last_gap_found_at;
    int64_t gap; /* PostgreSQL's last one of the lane */
    time_t at;   /* monotonic seconds */
};

struct weir_lane_book {
    char *url;
    PGconn *connection;
    struct noted *noted;
    size_t noted_count, noted_room;
    struct weir_open_gap *gaps;
    size_t gap_room;
    PGresult *answer; /* what the last answer's views point into */
    struct weir_buffer columns[COLUMNS];
};

struct weir_lane_book *weir_lane_book_new(const char *url)
{
    struct weir_lane_book *book = weir_new(sizeof *book);
    book->url = weir_copy_text(url, strlen(url));
    return book;
}

struct weir_lane_book *weir_lane_book_free(struct weir_lane_book *book)
{
    if (!book)
        return NULL;
    PQclear(book->answer);
    PQfinish(book->connection);
    for (int i = 0; i < COLUMNS; i++)
        weir_buffer_free(&book->columns[i]);
    free(book->noted);
    free(book->gaps);
    free(book->url);
    free(book);
    return NULL;
}

void weir_lane_book_forget(struct weir_lane_book *book)
{
    book->noted_count = 0;
}

static enum weir_status connect_if_needed(struct weir_lane_book *book, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (book->connection && PQstatus(book->connection) == CONNECTION_OK)
        return WEIR_OK;
    PQfinish(book->connection);
    book->connection = weir_postgres_open(book->url, "weir lanes", &status, reterr);
    return status;
}

static enum weir_status ask(struct weir_lane_book *book, const char *sql, const struct weir_parameters *parameters,
                            const char *doing, struct weir_error *reterr)
{
    enum weir_status status = connect_if_needed(book, reterr);

    PQclear(book->answer);
    book->answer = NULL;
    return status == WEIR_OK ? weir_postgres_ask(book->connection, sql, parameters, doing, &book->answer, reterr)
                             : status;
}

static int64_t int8_at(const PGresult *rows, int row, int column)
{
    return weir_get_int8(PQgetvalue(rows, row, column));
}

static int64_t time_at(const PGresult *rows, int row, int column)
{
    return weir_get_time(PQgetvalue(rows, row, column));
}

static bool is_of_topic(struct weir_slice lane, const char *topic)
{
    const char *colon = memrchr(lane.data, ':', lane.length);
    return colon && weir_slice_equal(weir_slice_of(lane.data, (size_t)(colon - lane.data)), weir_slice_text(topic));
}

/* Gaps of admitted events are decided on, and held windows of theirs rated, with those of their topic. */
static bool is_of_topic_or_admitted(struct weir_slice lane, const char *topic)
{
    size_t length = strlen(topic), suffix = strlen(WEIR_ADMITTED_SUFFIX);

    return is_of_topic(lane, topic)
           || (lane.length > length + suffix && memcmp(lane.data, topic, length) == 0
               && memcmp(lane.data + length, WEIR_ADMITTED_SUFFIX ":", suffix + 1) == 0);
}

/* 1. noting */
static struct noted *noted_of(struct weir_lane_book *book, struct weir_slice lane)
{
    for (size_t i = 0; i < book->noted_count; i++)
        if (weir_slice_equal(weir_slice_of(book->noted[i].name, book->noted[i].length), lane))
            return &book->noted[i];
    if (book->noted_count == book->noted_room) {
        book->noted_room = book->noted_room ? book->noted_room * 2 : 16;
        book->noted = weir_resize(book->noted, book->noted_room, sizeof *book->noted);
    }
    struct noted *noted = &book->noted[book->noted_count++];
    *noted = (struct noted){.length = lane.length, .highest_offset = -1};
    weir_check(lane.length <= sizeof noted->name);
    memcpy(noted->name, lane.data, lane.length);
    return noted;
}

static time_t monotonic_seconds(void)
{
    struct timespec now;
    (void)clock_gettime(CLOCK_MONOTONIC, &now);
    return now.tv_sec;
}

static int64_t last_gap_found_at(const struct weir_lane_state *state)
{
    return state->gaps.count ? state->gaps.at[state->gaps.count - 1].found_at : 0;
}

/* That a lane has counted anything must be known before its store can be emptied unseen. */
static bool must_note(const struct noted *noted, const struct weir_lane_state *state)
{
    return noted->at == 0 || memcmp(noted->secret, state->secret, sizeof noted->secret) != 0
           || noted->gap_count != state->gaps.count || noted->last_gap_found_at != last_gap_found_at(state)
           || (noted->highest_offset < 0 && state->next_offset >= 0) || state->next_offset < noted->next_offset
           || (state->next_offset != noted->next_offset && monotonic_seconds() - noted->at >= NOTE_SECONDS);
}

/* Whole microseconds, as PostgreSQL keeps them: down, or up to the next. */
static int64_t floor_us(int64_t time)
{
    int64_t rest = time % 1000;
    return time - rest - (rest < 0 ? 1000 : 0);
}

static int64_t ceiling_us(int64_t time)
{
    int64_t low = floor_us(time);
    return low == time ? low : low + 1000;
}

static void add_column(struct weir_lane_book *book, int column, size_t count, struct weir_parameters *parameters)
{
    weir_array_end(&book->columns[column], count);
    weir_parameters_add(parameters, book->columns[column].data, book->columns[column].length);
}

static void put_gaps(struct weir_lane_book *book, const struct weir_gaps *gaps, struct weir_parameters *parameters)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT,        WEIR_PG_INT8,        WEIR_PG_INT8,
                                                    WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ};
    enum { GAP_COLUMNS = sizeof types / sizeof *types };

    for (int i = 0; i < GAP_COLUMNS; i++)
        weir_array_begin(&book->columns[i], types[i]);
    for (uint32_t i = 0; i < gaps->count; i++) {
        const struct weir_gap *gap = &gaps->at[i];
        weir_put_text(&book->columns[0], weir_slice_text(weir_gap_kind_name[gap->kind]));
        weir_put_int8(&book->columns[1], gap->from);
        weir_put_int8(&book->columns[2], gap->to);
        weir_put_time(&book->columns[3], floor_us(gap->time_from));
        weir_put_time(&book->columns[4], ceiling_us(gap->time_to));
        weir_put_time(&book->columns[5], floor_us(gap->found_at));
    }
    for (int i = 0; i < GAP_COLUMNS; i++)
        add_column(book, i, gaps->count, parameters);
}

static enum weir_status note(struct weir_lane_book *book, struct weir_slice lane, const struct weir_lane_state *state,
                             struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer *scalars = &book->columns[COLUMNS - 1];

    scalars->length = 0;
    weir_put_int8(scalars, state->next_offset);
    weir_put_time(scalars, floor_us(state->watermark));
    weir_parameters_add(&parameters, lane.data, lane.length);
    weir_parameters_add(&parameters, scalars->data + 4, 8);
    weir_parameters_add(&parameters, scalars->data + 16, 8);
    put_gaps(book, &state->gaps, &parameters);
    return ask(book,
               "SELECT known_offset, known_highest FROM weir.note_lane($1::text, $2::bigint,"
               " $3::timestamptz, $4::text[], $5::bigint[], $6::bigint[], $7::timestamptz[],"
               " $8::timestamptz[], $9::timestamptz[])",
               &parameters, "noting a lane", reterr);
}

/* A statement of its own: the one that notes does not see the gaps that it adds. */
static enum weir_status find_last_gap(struct weir_lane_book *book, struct weir_slice lane, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    weir_parameters_add(&parameters, lane.data, lane.length);
    return ask(book, "SELECT coalesce(max(gap), 0) FROM weir.lane_gaps WHERE lane = $1::text", &parameters,
               "looking for a lane's last gap", reterr);
}

enum weir_status weir_lane_book_note(struct weir_lane_book *book, struct weir_slice lane,
                                     const struct weir_lane_state *state, int64_t *ret_back, int64_t *ret_gap,
                                     struct weir_error *reterr)
{
    struct noted *noted = noted_of(book, lane);

    *ret_back = -1;
    if (!must_note(noted, state)) {
        *ret_gap = noted->gap;
        return WEIR_OK;
    }
    enum weir_status status = note(book, lane, state, reterr);
    if (status != WEIR_OK)
        return status;
    int64_t known = int8_at(book->answer, 0, 0), highest = int8_at(book->answer, 0, 1);
    status = find_last_gap(book, lane, reterr);
    if (status != WEIR_OK)
        return status;
    if (state->next_offset < known)
        *ret_back = known;
    *ret_gap = noted->gap = int8_at(book->answer, 0, 0);
    noted->next_offset = state->next_offset;
    noted->highest_offset = highest;
    noted->gap_count = state->gaps.count;
    noted->last_gap_found_at = last_gap_found_at(state);
    noted->at = monotonic_seconds() + 1; /* + 1: never 0 */
    memcpy(noted->secret, state->secret, sizeof noted->secret);
    return WEIR_OK;
}

enum weir_status weir_lane_book_rated(struct weir_lane_book *book, const struct weir_lane_rating *lanes, size_t count,
                                      struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer *names = &book->columns[0], *offsets = &book->columns[1], *through = &book->columns[2],
                       *counts = &book->columns[3];

    weir_array_begin(names, WEIR_PG_TEXT);
    weir_array_begin(offsets, WEIR_PG_INT8);
    weir_array_begin(through, WEIR_PG_TIMESTAMPTZ);
    weir_array_begin(counts, WEIR_PG_INT8);
    for (size_t i = 0; i < count; i++) {
        const struct weir_lane_counts *of = &lanes[i].counts;
        const uint64_t values[] = {of->read, of->counted, of->duplicate, of->unmatched, of->retracted, of->quarantined};
        weir_put_text(names, lanes[i].name);
        weir_put_int8(offsets, lanes[i].offset);
        weir_put_time(through, floor_us(lanes[i].through));
        for (size_t j = 0; j < sizeof values / sizeof *values; j++)
            weir_put_int8(counts, (int64_t)values[j]);
    }
    add_column(book, 0, count, &parameters);
    add_column(book, 1, count, &parameters);
    add_column(book, 2, count, &parameters);
    add_column(book, 3, 6 * count, &parameters);
    return ask(book, "SELECT weir.note_rated($1::text[], $2::bigint[], $3::timestamptz[], $4::bigint[])", &parameters,
               "noting how far lanes are rated", reterr);
}

enum weir_status weir_lane_book_tallies(struct weir_lane_book *book, struct weir_slice lane,
                                        const struct weir_work *tallies, size_t count, struct weir_error *reterr)
{
    enum { TALLY_COLUMNS = 4 };
    struct weir_parameters parameters = {0};

    if (count == 0)
        return WEIR_OK;
    for (int i = 0; i < TALLY_COLUMNS; i++)
        weir_array_begin(&book->columns[i], i == 0 ? WEIR_PG_TEXT : WEIR_PG_INT8);
    for (size_t i = 0; i < count; i++) {
        struct weir_slice customer;
        struct weir_tally tally;
        weir_check(weir_tally_load(&tallies[i].window, &customer, &tally));
        weir_put_text(&book->columns[0], customer);
        weir_put_int8(&book->columns[1], (int64_t)tally.duplicate);
        weir_put_int8(&book->columns[2], (int64_t)tally.quarantined);
        weir_put_int8(&book->columns[3], (int64_t)tally.admitted);
    }
    weir_parameters_add(&parameters, lane.data, lane.length);
    for (int i = 0; i < TALLY_COLUMNS; i++)
        add_column(book, i, count, &parameters);
    return ask(book, "SELECT weir.note_tallies($1::text, $2::text[], $3::bigint[], $4::bigint[], $5::bigint[])",
               &parameters, "noting duplicates and refused events by customer", reterr);
}

/* 2. asking */

/* weir_window_total_is_older of what is held and what was rated. */
#define IS_FEWER                                                                                                       \
    "(h.events + 2 * h.retracted < coalesce(h.rated_events + 2 * h.rated_retracted, 0)"                                \
    " OR h.events + h.retracted < coalesce(h.rated_events + h.rated_retracted, 0))"

static enum weir_gap_kind kind_of(struct weir_slice name)
{
    enum weir_gap_kind kind = WEIR_GAP_NOTHING_STORED;

    while (!weir_slice_equal(name, weir_slice_text(weir_gap_kind_name[kind])))
        weir_check(++kind < WEIR_GAP_KIND_COUNT); /* the table's own check lets no other in */
    return kind;
}

enum weir_status weir_lane_book_open_gaps(struct weir_lane_book *book, const char *topic, bool are_counted,
                                          const struct weir_open_gap **ret_gaps, size_t *ret_count,
                                          struct weir_error *reterr)
{
    static const char counted[] =
        "SELECT g.gap, g.lane, g.kind, g.from_offset, g.to_offset, g.time_from, g.time_to, g.found_at, h.held, h.fewer"
        " FROM weir.open_gaps AS g, LATERAL (SELECT count(*) AS held,"
        " count(*) FILTER (WHERE " IS_FEWER ") AS fewer FROM weir.held_windows AS h"
        " WHERE h.lane = g.lane AND h.window_start < g.time_to AND h.window_end > g.time_from) AS h ORDER BY g.gap";
    static const char plain[] =
        "SELECT gap, lane, kind, from_offset, to_offset, time_from, time_to, found_at, 0::bigint,"
        " 0::bigint FROM weir.open_gaps ORDER BY gap";
    enum weir_status status = ask(book, are_counted ? counted : plain, NULL, "looking for open gaps", reterr);
    size_t count = 0;

    if (status != WEIR_OK)
        return status;
    const PGresult *rows = book->answer;
    if ((size_t)PQntuples(rows) > book->gap_room) {
        book->gap_room = (size_t)PQntuples(rows) * 2;
        book->gaps = weir_resize(book->gaps, book->gap_room, sizeof *book->gaps);
    }
    for (int i = 0; i < PQntuples(rows); i++) {
        if (!is_of_topic_or_admitted(weir_postgres_field(rows, i, 1), topic))
            continue;
        book->gaps[count++] = (struct weir_open_gap){
            .number = int8_at(rows, i, 0),
            .lane = weir_postgres_field(rows, i, 1),
            .gap = {.kind = kind_of(weir_postgres_field(rows, i, 2)),
                    .from = int8_at(rows, i, 3),
                    .to = int8_at(rows, i, 4),
                    .time_from = time_at(rows, i, 5),
                    .time_to = time_at(rows, i, 6),
                    .found_at = time_at(rows, i, 7)},
            .held = (uint64_t)int8_at(rows, i, 8),
            .fewer = (uint64_t)int8_at(rows, i, 9),
        };
    }
    *ret_gaps = book->gaps;
    *ret_count = count;
    return WEIR_OK;
}

enum weir_status weir_lane_book_released(struct weir_lane_book *book, const char *topic, size_t max,
                                         struct weir_lane_window *ret_windows, size_t *ret_count,
                                         struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer *limit = &book->columns[0];

    limit->length = 0;
    weir_put_int8(limit, (int64_t)max);
    weir_parameters_add_text(&parameters, topic);
    weir_parameters_add(&parameters, limit->data + 4, 8);
    enum weir_status status = ask(
        book,
        "SELECT h.lane, h.series_key, h.window_start, h.window_end, h.total, h.held_number FROM weir.held_windows AS h"
        " WHERE (starts_with(h.lane, $1::text || ':') OR starts_with(h.lane, $1::text || '" WEIR_ADMITTED_SUFFIX ":'))"
        " AND (h.refused IS NULL OR h.refused_at < (SELECT"
        " greatest(backend_start, now() - interval '1 minute') FROM pg_stat_activity WHERE pid = pg_backend_pid()))"
        " AND NOT EXISTS (SELECT FROM weir.open_gaps AS g"
        " WHERE g.lane = h.lane AND g.time_from < h.window_end AND g.time_to > h.window_start)"
        " ORDER BY h.customer, h.window_start, h.series, h.lane LIMIT $2::bigint",
        &parameters, "looking for windows that were let go", reterr);
    if (status != WEIR_OK)
        return status;
    const PGresult *rows = book->answer;
    for (int i = 0; i < PQntuples(rows); i++) {
        if (PQgetlength(rows, i, 4) != WEIR_WINDOW_TOTAL_BYTES)
            return weir_fail(reterr, WEIR_FATAL, "weir.held_windows, lane %.*s: a total that weir never wrote",
                             PQgetlength(rows, i, 0), PQgetvalue(rows, i, 0));
        ret_windows[i] = (struct weir_lane_window){
            .lane = weir_postgres_field(rows, i, 0),
            .window = {.series_key = weir_postgres_field(rows, i, 1),
                       .start = time_at(rows, i, 2),
                       .end = time_at(rows, i, 3),
                       .total = weir_window_total_load((const unsigned char *)PQgetvalue(rows, i, 4))},
            .held_number = (uint64_t)int8_at(rows, i, 5),
        };
    }
    *ret_count = (size_t)PQntuples(rows);
    return WEIR_OK;
}

enum weir_status weir_lane_book_refused(struct weir_lane_book *book, const char *topic, uint64_t *ret_count,
                                        struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    weir_parameters_add_text(&parameters, topic);
    enum weir_status status =
        ask(book,
            "SELECT count(*) FROM weir.held_windows WHERE refused IS NOT NULL"
            " AND (starts_with(lane, $1::text || ':') OR starts_with(lane, $1::text || '" WEIR_ADMITTED_SUFFIX ":'))",
            &parameters, "counting windows that cannot be rated", reterr);
    if (status == WEIR_OK)
        *ret_count = (uint64_t)int8_at(book->answer, 0, 0);
    return status;
}

enum weir_status weir_lane_book_refused_periods(struct weir_lane_book *book, size_t max,
                                                void (*visit)(void *context, struct weir_slice why), void *context,
                                                uint64_t *ret_count, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct weir_buffer *limit = &book->columns[0];

    limit->length = 0;
    weir_put_int8(limit, (int64_t)max);
    weir_parameters_add(&parameters, limit->data + 4, 8);
    enum weir_status status = ask(book,
                                  "SELECT count(*) OVER (), refused FROM weir.refused_periods"
                                  " ORDER BY customer, contract, period_start LIMIT $1::bigint",
                                  &parameters, "looking for periods that cannot be closed", reterr);
    if (status != WEIR_OK)
        return status;
    *ret_count = PQntuples(book->answer) ? (uint64_t)int8_at(book->answer, 0, 0) : 0;
    for (int i = 0; i < PQntuples(book->answer); i++)
        visit(context, weir_postgres_field(book->answer, i, 1));
    return WEIR_OK;
}

enum weir_status weir_lane_book_lanes(struct weir_lane_book *book, const char *topic,
                                      void (*visit)(void *context, struct weir_slice lane, int64_t watermark),
                                      void *context, struct weir_error *reterr)
{
    enum weir_status status =
        ask(book, "SELECT lane, watermark FROM weir.live_lanes", NULL, "looking for known lanes", reterr);

    for (int i = 0; status == WEIR_OK && i < PQntuples(book->answer); i++)
        if (is_of_topic(weir_postgres_field(book->answer, i, 0), topic))
            visit(context, weir_postgres_field(book->answer, i, 0), time_at(book->answer, i, 1));
    return status;
}

/* 3. the operator's word */

/* Windows that no other gap holds, by what becomes of them. $1 lane, $2 gap or 0, $3 whether it lowers. */
static const char foreseen[] =
    "WITH chosen AS (SELECT gap, lane, time_from, time_to FROM weir.open_gaps"
    " WHERE lane = $1::text AND ($2::bigint = 0 OR gap = $2::bigint)),"
    " freed AS (SELECT " IS_FEWER " AS is_fewer FROM weir.held_windows AS h"
    " WHERE EXISTS (SELECT FROM chosen AS g WHERE g.lane = h.lane AND g.time_from < h.window_end"
    " AND g.time_to > h.window_start) AND NOT EXISTS (SELECT FROM weir.open_gaps AS g WHERE g.lane = h.lane"
    " AND g.time_from < h.window_end AND g.time_to > h.window_start AND g.gap NOT IN (SELECT gap FROM chosen)))"
    " SELECT (SELECT count(*) FROM chosen), count(*) FILTER (WHERE NOT is_fewer),"
    " count(*) FILTER (WHERE is_fewer AND NOT $3::bool), count(*) FILTER (WHERE is_fewer AND $3::bool) FROM freed";

static const char closed[] = "INSERT INTO weir.gap_releases (gap, released_at, released_by, reason, lowers) SELECT gap,"
                             " clock_timestamp(), $4::text || ' as ' || session_user, $5::text, $3::bool"
                             " FROM weir.open_gaps"
                             " WHERE lane = $1::text AND ($2::bigint = 0 OR gap = $2::bigint)";

static void put_release(struct weir_lane_book *book, const struct weir_release *release,
                        struct weir_parameters *parameters)
{
    struct weir_buffer *bytes = &book->columns[0];

    bytes->length = 0;
    weir_put_int8(bytes, release->gap);
    weir_put_bool(bytes, release->lowers);
    weir_parameters_add(parameters, release->lane.data, release->lane.length);
    weir_parameters_add(parameters, bytes->data + 4, 8);
    weir_parameters_add(parameters, bytes->data + 16, 1);
}

static enum weir_status write_release(struct weir_lane_book *book, const struct weir_release *release,
                                      struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    put_release(book, release, &parameters);
    weir_parameters_add_text(&parameters, release->by);
    weir_parameters_add_text(&parameters, release->reason);
    return ask(book, closed, &parameters, "releasing gaps", reterr);
}

enum weir_status weir_lane_book_release(struct weir_lane_book *book, const struct weir_release *release, bool is_dry,
                                        struct weir_release_counts *ret_counts, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    enum weir_status status = connect_if_needed(book, reterr);

    /* One at a time, so that what is foretold is what happens; raters go on. */
    if (status == WEIR_OK)
        status = weir_postgres_run(book->connection,
                                   "BEGIN; SELECT pg_advisory_xact_lock(" WEIR_LOCK_CLASS ", hashtext('weir release'))",
                                   "beginning a release", reterr);
    put_release(book, release, &parameters);
    if (status == WEIR_OK)
        status = ask(book, foreseen, &parameters, "looking at held windows", reterr);
    if (status == WEIR_OK)
        *ret_counts = (struct weir_release_counts){
            .gaps = (uint64_t)int8_at(book->answer, 0, 0),
            .rated = (uint64_t)int8_at(book->answer, 0, 1),
            .kept = (uint64_t)int8_at(book->answer, 0, 2),
            .lowered = (uint64_t)int8_at(book->answer, 0, 3),
        };
    if (status == WEIR_OK && !is_dry)
        status = write_release(book, release, reterr);
    if (status == WEIR_OK)
        return weir_postgres_run(book->connection, "COMMIT", "committing a release", reterr);
    PQfinish(book->connection); /* gives the transaction up */
    book->connection = NULL;
    return status;
}

/* 4. lanes that are gone */

/* Empty: nothing speaks against it. A lane that is alive is noted at least every quarter of an hour. */
static const char against_ending[] =
    "SELECT CASE WHEN l.lane IS NULL THEN 'there is no such lane in weir.lanes'"
    " WHEN l.lane ~ '\\.admitted:[0-9]+$' THEN 'nothing waits for a lane of admitted events'"
    " WHEN v.lane IS NULL THEN 'it has ended already'"
    " WHEN v.seen_at > now() - interval '1 hour' THEN 'a rater saw it within the last hour: its raters and workers are"
    " to be stopped an hour before'"
    " WHEN EXISTS (SELECT FROM weir.open_gaps AS g WHERE g.lane = l.lane) THEN 'it has open gaps: release them first'"
    " WHEN EXISTS (SELECT FROM weir.held_windows AS h WHERE h.lane = l.lane) THEN 'windows of it are held or refused"
    " (weir.held_usage): a rater of its topic is to rate them first'"
    " WHEN NOT EXISTS (SELECT FROM weir.live_lanes AS o WHERE o.lane <> l.lane) THEN 'it is the last one: nothing would"
    " say how far usage is rated. Start a rater of the new topic first'"
    " ELSE '' END FROM (SELECT $1::text AS lane) AS a LEFT JOIN weir.lanes AS l ON l.lane = a.lane"
    " LEFT JOIN weir.live_lanes AS v ON v.lane = l.lane";

static enum weir_status write_end(struct weir_lane_book *book, struct weir_slice lane, const char *by,
                                  const char *reason, bool is_dry, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};

    weir_parameters_add(&parameters, lane.data, lane.length);
    enum weir_status status = ask(book, against_ending, &parameters, "looking at a lane", reterr);
    if (status == WEIR_OK && PQgetlength(book->answer, 0, 0) > 0)
        return weir_fail(reterr, WEIR_REJECT, "lane %.*s does not end: %s", (int)lane.length, lane.data,
                         PQgetvalue(book->answer, 0, 0));
    if (status != WEIR_OK || is_dry)
        return status;
    weir_parameters_add_text(&parameters, by);
    weir_parameters_add_text(&parameters, reason);
    return ask(book,
               "INSERT INTO weir.lane_ends (lane, ended_by, reason)"
               " VALUES ($1::text, $2::text || ' as ' || session_user, $3::text)",
               &parameters, "ending a lane", reterr);
}

enum weir_status weir_lane_book_end(struct weir_lane_book *book, struct weir_slice lane, const char *by,
                                    const char *reason, bool is_dry, struct weir_error *reterr)
{
    enum weir_status status = connect_if_needed(book, reterr);

    /* One at a time: of two the second may be the last one. */
    if (status == WEIR_OK)
        status = weir_postgres_run(book->connection,
                                   "BEGIN; SELECT pg_advisory_xact_lock(" WEIR_LOCK_CLASS ", hashtext('weir release'))",
                                   "beginning to end a lane", reterr);
    if (status == WEIR_OK)
        status = write_end(book, lane, by, reason, is_dry, reterr);
    if (status == WEIR_OK)
        return weir_postgres_run(book->connection, "COMMIT", "committing a lane's end", reterr);
    PQfinish(book->connection); /* gives the transaction up */
    book->connection = NULL;
    return status;
}
