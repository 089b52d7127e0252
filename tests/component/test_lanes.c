/* Lanes, gaps and held windows in PostgreSQL: what is a loss, what is held, and what an operator's word does. */
#include "postgres_database.h"

#include "common/calendar.h"
#include "rater/lanes.h"

static struct database database;

static void drop_database(void)
{
    database_drop(&database);
} /* also after a failed assertion */

TestSuite(lanes, .fini = drop_database);

#define S(text) weir_slice_text(text)
static const int64_t noon = INT64_C(1767614400) * WEIR_SECOND; /* 2026-01-05T12:00:00Z */

static const char catalog_json[] =
    "{\"meters\":[{\"key\":\"calls\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"},"
    "{\"key\":\"top\",\"event_type\":\"t\",\"aggregation\":\"max\",\"value\":\"data.v\",\"window\":\"1h\"},"
    "{\"key\":\"dear\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"1h\"},"
    "{\"key\":\"last\",\"event_type\":\"t\",\"aggregation\":\"latest\",\"value\":\"data.v\",\"window\":\"1h\"},"
    "{\"key\":\"mean\",\"event_type\":\"t\",\"aggregation\":\"avg\",\"value\":\"data.v\",\"window\":\"1h\"}],"
    "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2026-01-01T00:00:00Z\","
    "\"prices\":[{\"meter\":\"calls\",\"model\":\"per_unit\",\"unit_price\":\"1\"},"
    "{\"meter\":\"top\",\"model\":\"per_unit\",\"unit_price\":\"1\"},"
    "{\"meter\":\"last\",\"model\":\"per_unit\",\"unit_price\":\"1\"},"
    "{\"meter\":\"dear\",\"model\":\"per_unit\",\"unit_price\":\"1000000\"},"
    "{\"meter\":\"mean\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],"
    "\"default_contract\":{\"price_book\":\"b\",\"billing_period\":\"month\",\"timezone\":\"UTC\"}}";

struct bench {
    struct weir_catalog *catalog;
    struct weir_ledger *ledger;
    struct weir_rater *rater;
    struct weir_lane_book *book;
    struct weir_lane_state state;
    int64_t gap; /* the last one that was noted */
};

static struct bench set_up(void)
{
    struct bench bench = {.state = {.epoch = 1, .next_offset = 100, .watermark = noon}};
    struct weir_mistake_list mistakes = {0};
    struct weir_error error;

    database_make(&database);
    cr_assert_eq(weir_catalog_parse("test", catalog_json, sizeof catalog_json - 1, &bench.catalog, &mistakes), WEIR_OK);
    cr_assert_eq(weir_ledger_postgres_open(database.url, &bench.ledger, &error), WEIR_OK, "%s", error.text);
    bench.rater = weir_rater_new(bench.catalog, bench.ledger);
    bench.book = weir_lane_book_new(database.url);
    return bench;
}

static void tear_down(struct bench *bench)
{
    weir_lane_book_free(bench->book);
    weir_rater_free(bench->rater);
    weir_ledger_free(bench->ledger);
    weir_catalog_free(bench->catalog);
}

static int64_t note(struct bench *bench, const char *lane)
{
    struct weir_error error;
    int64_t back;
    cr_assert_eq(weir_lane_book_note(bench->book, S(lane), &bench->state, &back, &bench->gap, &error), WEIR_OK, "%s",
                 error.text);
    return back;
}

static void add_gap(struct bench *bench, enum weir_gap_kind kind, int64_t time_from, int64_t time_to)
{
    static int64_t found_at;
    struct weir_gap gap = {kind, 100, 200, time_from, time_to, noon + (found_at += WEIR_SECOND)};
    weir_gaps_add(&bench->state.gaps, &gap);
}

/* A window of one hour from `hour` on. */
static enum weir_status try_to_rate_in(struct bench *bench, const char *lane, const char *meter, int hour,
                                       uint64_t events, int64_t value, struct weir_error *reterr)
{
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = S(meter), .customer = S("acme")};
    struct weir_lane_window window = {
        .window = {.start = noon + hour * WEIR_HOUR, .end = noon + (hour + 1) * WEIR_HOUR}, .known_gap = bench->gap};

    window.lane = S(lane);
    window.window.series_key = weir_slice_of(key, weir_series_write(&series, key));
    window.window.total.events = events;
    window.window.total.value = weir_decimal_of(value);
    return weir_rater_rate(bench->rater, &window, 1, reterr);
}

static void rate_in(struct bench *bench, const char *lane, const char *meter, int hour, uint64_t events, int64_t value)
{
    struct weir_error error;

    cr_assert_eq(try_to_rate_in(bench, lane, meter, hour, events, value, &error), WEIR_OK, "%s", error.text);
}

static void rate(struct bench *bench, int lane, const char *meter, int hour, uint64_t events, int64_t value)
{
    char name[32];

    snprintf(name, sizeof name, "events:%d", lane);
    rate_in(bench, name, meter, hour, events, value);
}

/* As `weir rater` does it; how many were there. */
static size_t rate_released(struct bench *bench)
{
    struct weir_lane_window windows[16];
    struct weir_error error;
    size_t count = 0;

    cr_assert_eq(weir_lane_book_released(bench->book, "events", 16, windows, &count, &error), WEIR_OK, "%s",
                 error.text);
    if (count)
        cr_assert_eq(weir_rater_rate(bench->rater, windows, count, &error), WEIR_OK, "%s", error.text);
    return count;
}

static struct weir_release_counts release(struct bench *bench, int64_t gap, bool lowers, bool is_dry)
{
    const struct weir_release word = {S("events:0"), gap, "me@here", "because", lowers};
    struct weir_release_counts counts;
    struct weir_error error;
    cr_assert_eq(weir_lane_book_release(bench->book, &word, is_dry, &counts, &error), WEIR_OK, "%s", error.text);
    return counts;
}

static long amount(void)
{
    return ask_number(&database, "SELECT coalesce(sum(amount), 0)::bigint FROM weir.line_items");
}

static long held(void)
{
    return ask_number(&database, "SELECT count(*) FROM weir.held_windows");
}

static size_t open_gaps(struct bench *bench, const struct weir_open_gap **ret_gaps)
{
    struct weir_error error;
    size_t count;
    cr_assert_eq(weir_lane_book_open_gaps(bench->book, "events", true, ret_gaps, &count, &error), WEIR_OK, "%s",
                 error.text);
    return count;
}

/* 1. What is a loss. */

Test(lanes, nothing_stored_is_a_loss_of_a_lane_that_was_known)
{
    struct bench bench = set_up();
    const struct weir_open_gap *gaps;

    add_gap(&bench, WEIR_GAP_NOTHING_STORED, 0, noon);
    note(&bench, "events:0"); /* at once, with all that it counted */
    cr_assert_eq(open_gaps(&bench, &gaps), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.lane_gaps WHERE NOT is_loss"), 1);
    memset(bench.state.secret, 7, sizeof bench.state.secret); /* the store was emptied, and 40 events counted again */
    bench.state.gaps.count = 0;
    bench.state.next_offset = 40;
    cr_assert_eq(note(&bench, "events:0"), 100, "it went back, and that is told");
    add_gap(&bench, WEIR_GAP_NOTHING_STORED, 0, noon + WEIR_HOUR);
    cr_assert_eq(note(&bench, "events:0"), -1);
    note(&bench, "events:0");
    cr_assert_eq(open_gaps(&bench, &gaps), 1);
    cr_assert_eq(gaps[0].gap.time_to, noon + WEIR_HOUR);
    cr_assert_eq(ask_number(&database, "SELECT highest_offset FROM weir.lanes"), 100, "it does not go back");
    cr_assert_eq(ask_number(&database, "SELECT times_back FROM weir.lanes"), 1);
    struct weir_lane_book *other = weir_lane_book_new(database.url); /* another rater: nothing new */
    struct weir_error error;
    int64_t back, gap;
    cr_assert_eq(weir_lane_book_note(other, S("events:0"), &bench.state, &back, &gap, &error), WEIR_OK);
    cr_assert_eq(gap, gaps[0].number);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.lane_gaps"), 2);
    weir_lane_book_free(other);
    note(&bench, "others:0");
    cr_assert_eq(open_gaps(&bench, &gaps), 1, "another topic's lanes are not ours");
    tear_down(&bench);
}

/* It was empty when it was known: what came and went since is lost, and no old topic's past. */
Test(lanes, nothing_stored_is_a_loss_of_a_lane_that_was_known_empty)
{
    struct bench bench = set_up();
    const struct weir_open_gap *gaps;

    bench.state.next_offset = -1;
    note(&bench, "events:0");
    bench.state.next_offset = 0; /* the very next look */
    note(&bench, "events:0");
    cr_assert_eq(ask_number(&database, "SELECT highest_offset FROM weir.lanes"), 0);
    memset(bench.state.secret, 7, sizeof bench.state.secret);
    add_gap(&bench, WEIR_GAP_NOTHING_STORED, 0, noon);
    note(&bench, "events:0");
    cr_assert_eq(open_gaps(&bench, &gaps), 1);
    tear_down(&bench);
}

Test(lanes, gaps_of_admitted_events_are_decided_on_with_the_others)
{
    struct bench bench = set_up();
    const struct weir_open_gap *gaps;
    static const char *const others[] = {"events2:0", "events.admitted2:0", "events.quarantine:0", "even:0"};

    add_gap(&bench, WEIR_GAP_RECREATED, 0, noon + WEIR_HOUR);
    note(&bench, "events.admitted:0");
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        note(&bench, others[i]);
    cr_assert_eq(open_gaps(&bench, &gaps), 1);
    cr_assert(weir_slice_equal(gaps[0].lane, S("events.admitted:0")));
    rate_in(&bench, "events.admitted:0", "calls", 0, 5, 0);
    for (size_t i = 0; i < sizeof others / sizeof *others; i++)
        rate_in(&bench, others[i], "calls", 0, 7, 0);
    cr_assert_eq(held(), 1 + 4);
    cr_assert_eq(amount(), 0);
    sql_on(database.admin,
           "INSERT INTO weir.gap_releases SELECT gap, now(), 'me', 'because', false FROM weir.open_gaps");
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(amount(), 5);
    tear_down(&bench);
}

Test(lanes, that_a_lane_has_counted_is_noted_at_once)
{
    struct bench bench = set_up();

    bench.state.next_offset = -1;
    note(&bench, "events:0");
    bench.state.next_offset = 10; /* the very next look */
    note(&bench, "events:0");
    cr_assert_eq(ask_number(&database, "SELECT highest_offset FROM weir.lanes"), 10);
    tear_down(&bench);
}

Test(lanes, how_far_each_lane_is_rated_is_kept_with_what_became_of_its_events)
{
    struct bench bench = set_up();
    struct weir_error error;
    const struct weir_lane_rating ratings[] = {
        {S("events:0"),
         100,
         noon,
         {.read = 21, .counted = 6, .duplicate = 5, .unmatched = 4, .retracted = 3, .quarantined = 3}},
        {S("events:1"), 7, noon + WEIR_HOUR + 999, {.read = 7, .counted = 7}},
        {S("never:0"), 9, noon, {0}},
    };

    note(&bench, "events:0");
    note(&bench, "events:1");
    cr_assert_eq(weir_lane_book_rated(bench.book, ratings, 3, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.lanes WHERE lane = 'events:0' AND rated_offset = 100"
                                       " AND rated_through = '2026-01-05 12:00:00+00' AND (events_read, events_counted,"
                                       " events_duplicate, events_unmatched, events_retracted, events_quarantined)"
                                       " = (21, 6, 5, 4, 3, 3)"),
                 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.lanes WHERE lane = 'events:1' AND rated_offset = 7"
                                       " AND rated_through = '2026-01-05 13:00:00+00' AND events_read = 7"
                                       " AND events_quarantined = 0"),
                 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.lanes"), 2);
    tear_down(&bench);
}

Test(lanes, gaps_and_words_are_append_only)
{
    struct bench bench = set_up();
    static const char *const wrong[] = {"UPDATE weir.lane_gaps SET is_loss = false", "DELETE FROM weir.lane_gaps",
                                        "TRUNCATE weir.gap_releases", "UPDATE weir.gap_releases SET reason = 'x'",
                                        "DELETE FROM weir.gap_releases"};

    add_gap(&bench, WEIR_GAP_RETENTION, 0, noon);
    note(&bench, "events:0");
    release(&bench, 0, false, false);
    for (size_t i = 0; i < sizeof wrong / sizeof *wrong; i++)
        cr_assert_str_eq(sqlstate_of(&database, wrong[i]), "23001", "%s", wrong[i]);
    tear_down(&bench);
}

/* 2. What is held. */

Test(lanes, windows_in_a_gap_are_held_and_others_are_rated)
{
    struct bench bench = set_up();

    rate(&bench, 0, "calls", 0, 100, 0);
    rate(&bench, 0, "calls", 1, 50, 0);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + 2 * WEIR_HOUR);
    note(&bench, "events:0");
    cr_assert_eq(amount(), 150);
    rate(&bench, 0, "calls", 0, 101, 0); /* more, and yet it may be below the truth */
    rate(&bench, 0, "calls", 1, 50, 0);  /* exactly what was rated */
    rate(&bench, 0, "calls", -1, 7, 0);  /* before it */
    rate(&bench, 0, "calls", 2, 8, 0);   /* after it */
    rate(&bench, 1, "calls", 0, 9, 0);   /* another lane's share of a window that is held */
    cr_assert_eq(amount(), 150 + 7 + 8 + 9);
    cr_assert_eq(held(), 1);
    cr_assert_eq(weir_rater_counts(bench.rater).held, 1);
    cr_assert_eq(rate_released(&bench), 0);
    rate(&bench, 0, "calls", 0, 120, 0); /* it changes while it is held */
    cr_assert_eq(ask_number(&database, "SELECT events FROM weir.held_usage"), 120);
    cr_assert_eq(ask_number(&database, "SELECT rated_events FROM weir.held_usage"), 100);
    rate(&bench, 0, "calls", 0, 100, 0); /* read before that, by a rater that hung; nobody else has it on a list */
    cr_assert_eq(ask_number(&database, "SELECT events FROM weir.held_usage"), 120);
    tear_down(&bench);
}

Test(lanes, a_window_that_is_what_was_rated_is_held_no_more)
{
    struct bench bench = set_up();

    rate(&bench, 0, "calls", 0, 100, 0);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + 2 * WEIR_HOUR);
    note(&bench, "events:0");
    rate(&bench, 0, "calls", 0, 40, 0); /* so far, of what is read again */
    cr_assert_eq(held(), 1);
    rate(&bench, 0, "calls", 0, 100, 0);
    cr_assert_eq(held(), 0);
    tear_down(&bench);
}

Test(lanes, a_window_goes_when_no_gap_holds_it_any_more)
{
    struct bench bench = set_up();
    const struct weir_open_gap *gaps;

    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + 2 * WEIR_HOUR);
    add_gap(&bench, WEIR_GAP_RECREATED, noon + WEIR_HOUR, noon + 3 * WEIR_HOUR);
    note(&bench, "events:0");
    for (int hour = 0; hour < 3; hour++)
        rate(&bench, 0, "calls", hour, 10, 0);
    cr_assert_eq(open_gaps(&bench, &gaps), 2);
    cr_assert(gaps[0].held == 2 && gaps[1].held == 2 && gaps[0].fewer == 0);
    int64_t first = gaps[0].number, second = gaps[1].number;
    struct weir_release_counts counts = release(&bench, first, false, true);
    cr_assert(counts.gaps == 1 && counts.rated == 1 && counts.kept == 0 && counts.lowered == 0);
    cr_assert_eq(open_gaps(&bench, &gaps), 2, "a dry run");
    release(&bench, first, false, false);
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(amount(), 10);
    cr_assert_eq(release(&bench, first, false, false).gaps, 0, "once");
    release(&bench, second, false, false);
    cr_assert_eq(rate_released(&bench), 2);
    cr_assert_eq(rate_released(&bench), 0);
    cr_assert_eq(amount(), 30);
    cr_assert_eq(held(), 0);
    tear_down(&bench);
}

/* 3. The operator's word. */

static void fall_short(struct bench *bench)
{
    rate(bench, 0, "calls", 0, 100, 0);
    rate(bench, 0, "top", 0, 10, 70);
    rate(bench, 0, "mean", 0, 10, 70);
    cr_assert_eq(amount(), 100 + 70 + 7);
    add_gap(bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
    note(bench, "events:0");
    rate(bench, 0, "calls", 0, 60, 0);
    rate(bench, 0, "top", 0, 6, 50);
    rate(bench, 0, "mean", 0, 5, 10);
    cr_assert_eq(held(), 3);
}

Test(lanes, what_was_rated_is_kept)
{
    struct bench bench = set_up();

    fall_short(&bench);
    struct weir_release_counts counts = release(&bench, 0, false, false);
    cr_assert(counts.gaps == 1 && counts.rated == 0 && counts.kept == 3 && counts.lowered == 0);
    cr_assert_eq(rate_released(&bench), 3);
    cr_assert_eq(amount(), 177);
    cr_assert_eq(held(), 0);
    rate(&bench, 0, "calls", 0, 101, 0); /* the gap is decided on: from now on it is a window like others */
    cr_assert_eq(amount(), 178);
    tear_down(&bench);
}

Test(lanes, what_was_rebuilt_replaces_it_where_it_may)
{
    struct bench bench = set_up();

    fall_short(&bench);
    cr_assert_eq(release(&bench, 0, true, false).lowered, 3);
    rate(&bench, 0, "calls", 0, 65, 0); /* came before the held one was let go: the same word, and the newer total */
    cr_assert_eq(amount(), 65 + 70 + 7);
    cr_assert_eq(rate_released(&bench), 2);
    cr_assert_eq(amount(), 65 + 50 + 2, "the period's maximum is taken back, too");
    cr_assert_eq(held(), 0);
    rate(&bench, 0, "calls", 0, 30, 0);
    cr_assert_eq(amount(), 65 + 50 + 2, "the word was for once");
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.gap_releases WHERE lowers AND reason = 'because'"),
                 1);
    tear_down(&bench);
}

Test(lanes, a_maximum_that_was_lost_leaves_the_next_one)
{
    struct bench bench = set_up();

    rate(&bench, 0, "top", 0, 10, 70);
    rate(&bench, 0, "top", 5, 10, 60);
    rate(&bench, 1, "top", 0, 1, 30);
    cr_assert_eq(amount(), 70);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
    note(&bench, "events:0");
    rate(&bench, 0, "top", 0, 12, 50); /* more events than before, without the highest */
    cr_assert_eq(amount(), 70);
    release(&bench, 0, false, false);
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(amount(), 60, "the other window's");
    rate(&bench, 0, "top", 0, 13, 65);
    cr_assert_eq(amount(), 65);
    tear_down(&bench);
}

Test(lanes, two_raters_let_a_window_go_once)
{
    struct bench bench = set_up();
    struct weir_lane_window late[4];
    struct weir_error error;
    size_t count;

    fall_short(&bench);
    release(&bench, 0, true, false);
    struct weir_lane_book *other = weir_lane_book_new(database.url);
    cr_assert_eq(weir_lane_book_released(other, "events", 4, late, &count, &error), WEIR_OK);
    cr_assert_eq(count, 3);
    rate_released(&bench);
    rate(&bench, 0, "calls", 0, 90, 0); /* and it grows */
    cr_assert_eq(amount(), 90 + 50 + 2);
    cr_assert_eq(weir_rater_rate(bench.rater, late, count, &error), WEIR_OK);
    cr_assert_eq(amount(), 90 + 50 + 2, "what was read before lowers nothing any more");
    weir_lane_book_free(other);
    tear_down(&bench);
}

Test(lanes, a_total_that_was_held_anew_is_not_let_go_as_it_was)
{
    struct bench bench = set_up();
    struct weir_lane_window late[4];
    struct weir_error error;
    size_t count;

    fall_short(&bench);
    release(&bench, 0, true, false);
    struct weir_lane_book *other = weir_lane_book_new(database.url);
    cr_assert_eq(weir_lane_book_released(other, "events", 4, late, &count, &error), WEIR_OK);
    cr_assert_eq(count, 3);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR); /* before anybody has rated them */
    note(&bench, "events:0");
    rate(&bench, 0, "calls", 0, 65, 0);
    release(&bench, 0, true, false);
    cr_assert_eq(weir_rater_rate(bench.rater, late, count, &error), WEIR_OK);
    rate_released(&bench);
    cr_assert_eq(amount(), 65 + 50 + 2, "the newer one, not what was read of the older");
    cr_assert_eq(held(), 0);
    weir_lane_book_free(other);
    tear_down(&bench);
}

/* A total with retractions. */
static void rate_counts(struct bench *bench, int hour, uint64_t events, uint64_t retracted)
{
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = S("calls"), .customer = S("acme")};
    struct weir_lane_window window = {.lane = S("events:0"),
                                      .window = {.series_key = weir_slice_of(key, weir_series_write(&series, key)),
                                                 .start = noon + hour * WEIR_HOUR,
                                                 .end = noon + (hour + 1) * WEIR_HOUR,
                                                 .total = {.events = events, .retracted = retracted}},
                                      .known_gap = bench->gap};
    struct weir_error error;

    cr_assert_eq(weir_rater_rate(bench->rater, &window, 1, &error), WEIR_OK, "%s", error.text);
}

/* More changes than were rated, and fewer events that came: what was rated stands, and the dry run says so. */
Test(lanes, retractions_do_not_pass_for_events_that_were_lost)
{
    for (int lowers = 0; lowers < 2; lowers++) {
        struct bench bench = set_up();
        const struct weir_open_gap *gaps;

        rate_counts(&bench, 0, 100, 0);
        add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
        note(&bench, "events:0");
        rate_counts(&bench, 0, 60, 25); /* 15 were lost */
        cr_assert_eq(open_gaps(&bench, &gaps), 1);
        cr_assert_eq(gaps[0].fewer, 1);
        struct weir_release_counts counts = release(&bench, 0, lowers, true);
        cr_assert(counts.rated == 0 && counts.kept == !lowers && counts.lowered == (uint64_t)lowers);
        release(&bench, 0, lowers, false);
        cr_assert_eq(rate_released(&bench), 1);
        cr_assert_eq(amount(), lowers ? 60 : 100);
        cr_assert_eq(held(), 0);
        rate_counts(&bench, 0, 90, 25); /* it has overtaken what was rated */
        cr_assert_eq(amount(), 90);
        tear_down(&bench);
        database_drop(&database);
    }
}

Test(lanes, retractions_that_came_lower_it_without_a_word)
{
    struct bench bench = set_up();

    rate_counts(&bench, 0, 100, 0);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
    note(&bench, "events:0");
    rate_counts(&bench, 0, 75, 25);
    cr_assert_eq(release(&bench, 0, false, false).rated, 1);
    rate_released(&bench);
    cr_assert_eq(amount(), 75);
    tear_down(&bench);
}

Test(lanes, an_older_total_does_not_replace_the_one_that_is_held)
{
    struct bench bench = set_up();

    rate(&bench, 0, "calls", 0, 100, 0);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
    note(&bench, "events:0");
    rate(&bench, 0, "calls", 0, 90, 0);
    rate(&bench, 0, "calls", 0, 50, 0); /* Redis was emptied again, and Kafka has lost more */
    cr_assert_eq(ask_number(&database, "SELECT events FROM weir.held_usage"), 90);
    release(&bench, 0, true, false);
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(amount(), 90);
    tear_down(&bench);
}

/* A rater that saw the gap open commits its row after the word was given: the word is for that window as well. */
Test(lanes, a_row_that_comes_after_the_word_has_it)
{
    struct bench bench = set_up();

    fall_short(&bench);
    sql_on(database.admin, "CREATE TEMP TABLE late AS SELECT * FROM weir.held_windows; DELETE FROM weir.held_windows");
    release(&bench, 0, true, false);
    sql_on(database.admin, "INSERT INTO weir.held_windows SELECT * FROM late");
    cr_assert_eq(rate_released(&bench), 3);
    cr_assert_eq(amount(), 60 + 50 + 2);
    tear_down(&bench);
}

/* The last word counts: one of a gap of before is not for what another gap holds. */
Test(lanes, an_earlier_word_is_not_for_a_later_gap)
{
    struct bench bench = set_up();

    fall_short(&bench);
    release(&bench, 0, true, false);
    rate_released(&bench);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
    note(&bench, "events:0");
    rate(&bench, 0, "calls", 0, 40, 0);
    release(&bench, 0, false, false);
    rate_released(&bench);
    cr_assert_eq(amount(), 60 + 50 + 2);
    tear_down(&bench);
}

/* A rater that read windows before the loss hangs until after the word: it reads them again, whatever they are. */
Test(lanes, what_was_read_before_the_loss_is_not_rated_after_the_word)
{
    for (int lowers = 0; lowers < 2; lowers++) {
        struct bench bench = set_up();
        struct weir_error error;

        note(&bench, "events:0");
        struct bench hanging = bench;
        rate(&bench, 0, "calls", 0, 80, 0);
        rate(&bench, 1, "calls", 0, 5, 0);
        add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
        note(&bench, "events:0");
        rate(&bench, 0, "calls", 0, 60, 0);
        release(&bench, 0, lowers, false);
        cr_assert_eq(try_to_rate_in(&hanging, "events:0", "calls", 0, 100, 0, &error), WEIR_AGAIN);
        cr_assert(strstr(error.text, "of lane events:0 was released after its windows were read"), "%s", error.text);
        cr_assert_eq(rate_released(&bench), 1);
        cr_assert_eq(try_to_rate_in(&hanging, "events:0", "calls", 0, 100, 0, &error), WEIR_AGAIN);
        cr_assert_eq(try_to_rate_in(&hanging, "events:0", "calls", 7, 100, 0, &error), WEIR_AGAIN);
        cr_assert_eq(amount(), (lowers ? 60 : 80) + 5);
        rate(&hanging, 1, "calls", 0, 6, 0); /* no gap of this lane */
        hanging.book = weir_lane_book_new(database.url);
        note(&hanging, "events:0");
        rate(&hanging, 0, "calls", 0, 90, 0); /* read again */
        cr_assert_eq(amount(), 90 + 6);
        weir_lane_book_free(hanging.book);
        tear_down(&bench);
        database_drop(&database);
    }
}

/* A gap that is no loss waits for nobody's word, and one that is open holds by itself. */
Test(lanes, only_a_word_makes_raters_read_again)
{
    struct bench bench = set_up();

    add_gap(&bench, WEIR_GAP_NOTHING_STORED, 0, noon);
    note(&bench, "events:0");
    bench.gap = 0;
    rate(&bench, 0, "calls", 0, 100, 0);
    add_gap(&bench, WEIR_GAP_RETENTION, noon, noon + WEIR_HOUR);
    note(&bench, "events:0");
    bench.gap = 0;
    rate(&bench, 0, "calls", 0, 101, 0);
    rate(&bench, 0, "calls", 1, 50, 0);
    cr_assert_eq(amount(), 100 + 50);
    cr_assert_eq(held(), 1);
    tear_down(&bench);
}

static void rate_latest(struct bench *bench, int lane, int hour, struct weir_window_total total)
{
    char key[WEIR_SERIES_KEY_MAX], name[32];
    struct weir_series series = {.meter = S("last"), .customer = S("acme")};
    struct weir_lane_window window = {
        .window = {.start = noon + hour * WEIR_HOUR, .end = noon + (hour + 1) * WEIR_HOUR, .total = total}};
    struct weir_error error;

    snprintf(name, sizeof name, "events:%d", lane);
    window.lane = S(name);
    window.window.series_key = weir_slice_of(key, weir_series_write(&series, key));
    cr_assert_eq(weir_rater_rate(bench->rater, &window, 1, &error), WEIR_OK, "%s", error.text);
}

/* Events of one time, at one offset of two lanes: the higher value counts, whichever comes last and is looked at first.
 */
Test(lanes, latest_of_one_time_and_offset)
{
    struct bench bench = set_up();

    for (int high = 0; high < 2; high++)
        for (int last = 0; last < 2; last++) {
            int hour = 1 + 2 * high + last;
            struct weir_window_total early = {.events = 1, .value = weir_decimal_of(9), .latest_time = noon},
                                     tie[2] = {{.latest_time = noon + hour * WEIR_HOUR, .latest_offset = 5},
                                               {.latest_time = noon + hour * WEIR_HOUR, .latest_offset = 5}};
            tie[high].value = weir_decimal_of(hour * 10 + 8);
            tie[!high].value = weir_decimal_of(hour * 10 + 3);
            tie[!last].events = 1;
            tie[last].events = 2;
            rate_latest(&bench, last, hour, early);
            rate_latest(&bench, !last, hour, tie[!last]);
            cr_assert_eq(amount(), hour * 10 + (last == high ? 3 : 8));
            rate_latest(&bench, last, hour, tie[last]);
            cr_assert_eq(amount(), hour * 10 + 8);
        }
    tear_down(&bench);
}

/* 4. What cannot be rated. */

struct told {
    int count;
    char why[WEIR_ERROR_TEXT_MAX];
};

static void tell(void *context, const struct weir_lane_window *window, struct weir_slice why)
{
    struct told *told = context;

    cr_assert(weir_slice_equal(window->lane, S("events:0")));
    told->count++;
    snprintf(told->why, sizeof told->why, "%.*s", (int)why.length, why.data);
}

/* In one batch: 10 calls, then 2 of `dear`, then so many that no amount holds them, then 3 of another customer. */
static void rate_with_one_too_large(struct bench *bench)
{
    static const struct {
        const char *meter, *customer;
        int hour;
        int64_t value;
    } rows[] = {{"calls", "acme", 0, 0},
                {"dear", "acme", 0, 2},
                {"dear", "acme", 1, INT64_MAX},
                {"dear", "acme", 2, 4},
                {"dear", "other", 0, 3}};
    enum { ROWS = sizeof rows / sizeof *rows };
    char keys[ROWS][WEIR_SERIES_KEY_MAX];
    struct weir_lane_window windows[ROWS];
    struct weir_error error;

    for (int i = 0; i < ROWS; i++) {
        struct weir_series series = {.meter = S(rows[i].meter), .customer = S(rows[i].customer)};
        struct weir_window_total total = {.events = 10, .value = weir_decimal_of(rows[i].value)};
        if (rows[i].value == INT64_MAX)
            cr_assert(weir_decimal_scale(weir_decimal_of(INT64_MAX), 1000, &total.value));
        windows[i] = (struct weir_lane_window){
            .lane = S("events:0"),
            .window = {.series_key = weir_slice_of(keys[i], weir_series_write(&series, keys[i])),
                       .start = noon + rows[i].hour * WEIR_HOUR,
                       .end = noon + (rows[i].hour + 1) * WEIR_HOUR,
                       .total = total}};
    }
    cr_assert_eq(weir_rater_rate(bench->rater, windows, ROWS, &error), WEIR_OK, "%s", error.text);
}

static void assert_adds_up(void)
{
    cr_assert_eq(ask_number(&database,
                            "SELECT count(*) FROM (SELECT sum(amount) AS amount FROM weir.price_totals EXCEPT"
                            " SELECT sum(amount) FROM weir.line_items) AS d"),
                 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM (SELECT sum(usage_amount) FROM weir.billing_periods EXCEPT"
                                       " SELECT sum(amount) FROM weir.line_items) AS d"),
                 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM (SELECT meter, sum(quantity), sum(amount)"
                                       " FROM weir.price_totals GROUP BY 1 EXCEPT SELECT meter, sum(quantity),"
                                       " sum(amount) FROM weir.line_items WHERE kind = 'usage' GROUP BY 1) AS d"),
                 0, "by meter, and the quantities as well");
}

Test(lanes, a_window_that_cannot_be_rated_holds_back_no_other)
{
    struct bench bench = set_up();
    struct told told = {0};
    struct weir_error error;
    uint64_t refused;

    weir_rater_on_refusal(bench.rater, tell, &told);
    rate_with_one_too_large(&bench);
    cr_assert_eq(amount(), 10 + 9 * 1000000);
    assert_adds_up();
    cr_assert_eq(told.count, 1);
    cr_assert(strstr(told.why, "'acme', meter 'dear', window 2026-01-05T13:00:00") && strstr(told.why, "does not fit"),
              "%s", told.why);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.held_usage WHERE refused LIKE '%does not fit%'"), 1);
    cr_assert_eq(weir_lane_book_refused(bench.book, "events", &refused, &error), WEIR_OK);
    cr_assert_eq(refused, 1);
    cr_assert_eq(rate_released(&bench), 1, "a rater that has just started tries it at once");
    cr_assert_eq(rate_released(&bench), 0, "and then in a minute");
    sql_on(database.admin, "UPDATE weir.held_windows SET refused_at = now() - interval '61 s'");
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(held(), 1);
    cr_assert_eq(weir_rater_counts(bench.rater).refused, 3);
    assert_adds_up();
    rate(&bench, 0, "dear", 1, 11, 1); /* it was corrected */
    cr_assert_eq(amount(), 10 + 10 * 1000000);
    cr_assert_eq(held(), 0);
    assert_adds_up();
    tear_down(&bench);
}

/* A window of acme's of the first hour, of millions of millions. */
static void rate_trillions(struct bench *bench, const char *meter, int64_t trillions)
{
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = S(meter), .customer = S("acme")};
    struct weir_lane_window window = {.lane = S("events:0"),
                                      .window = {.series_key = weir_slice_of(key, weir_series_write(&series, key)),
                                                 .start = noon,
                                                 .end = noon + WEIR_HOUR,
                                                 .total = {.events = 10}}};
    struct weir_error error;

    cr_assert(weir_decimal_scale(weir_decimal_of(trillions), 1000000000000, &window.window.total.value));
    cr_assert_eq(weir_rater_rate(bench->rater, &window, 1, &error), WEIR_OK, "%s", error.text);
}

/* Each amount fits, and both together do not fit the period: that shows only when half of the second is done. */
Test(lanes, half_of_a_window_that_cannot_be_rated_is_undone)
{
    struct bench bench = set_up();

    rate_trillions(&bench, "dear", 100000000); /* 10^20, for a million each */
    cr_assert_eq(held(), 0);
    rate_trillions(&bench, "top", 100000000000000); /* 10^26, for 1 each */
    cr_assert_eq(held(), 1);
    rate(&bench, 0, "top", 1, 1, 5); /* of the price that was not charged */
    rate(&bench, 0, "calls", 0, 3, 0);
    assert_adds_up();
    cr_assert_eq(
        ask_number(&database, "SELECT (sum(amount) - 100000000000000000000000000)::bigint FROM weir.line_items"), 8);
    cr_assert_eq(held(), 1);
    rate(&bench, 0, "top", 0, 11, 7); /* corrected */
    assert_adds_up();
    cr_assert_eq(
        ask_number(&database, "SELECT (sum(amount) - 100000000000000000000000000)::bigint FROM weir.line_items"), 10);
    cr_assert_eq(held(), 0);
    tear_down(&bench);
}

/* The catalog says otherwise than when the window was rated: it waits for the right one, and the others do not. */
Test(lanes, a_window_whose_terms_changed_waits_for_them)
{
    static const char *const was[] = {"\"version\":1",
                                      "{\"meter\":\"calls\",\"model\":\"per_unit\",\"unit_price\":\"1\"},"};
    static const char *const is[] = {"\"version\":2", ""}; /* another version; no price any more */
    struct bench bench = set_up();

    rate(&bench, 0, "calls", 0, 100, 0);
    for (int i = 0; i < 2; i++) {
        char text[sizeof catalog_json + 64];
        const char *at = strstr(catalog_json, was[i]);
        struct weir_mistake_list mistakes = {0};
        struct bench other = bench;
        snprintf(text, sizeof text, "%.*s%s%s", (int)(at - catalog_json), catalog_json, is[i], at + strlen(was[i]));
        cr_assert_eq(weir_catalog_parse("test", text, strlen(text), &other.catalog, &mistakes), WEIR_OK, "%s: %s", text,
                     mistakes.count ? mistakes.mistakes[0].text : "");
        other.rater = weir_rater_new(other.catalog, bench.ledger);
        rate(&other, 0, "calls", 0, 101 + (uint64_t)i, 0);
        rate(&other, 0, "top", i, 1, 7);
        cr_assert_eq(amount(), 100 + 7 * (i + 1));
        cr_assert_eq(
            ask_number(&database, "SELECT count(*) FROM weir.held_usage WHERE refused LIKE '%catalog now says%'"), 1);
        weir_rater_free(other.rater);
        weir_catalog_free(other.catalog);
    }
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(amount(), 102 + 14);
    cr_assert_eq(held(), 0);
    tear_down(&bench);
}

/* From here on rates by this one. */
static void use_catalog(struct bench *bench, const char *text)
{
    struct weir_mistake_list mistakes = {0};
    struct weir_error error;

    weir_rater_free(bench->rater);
    weir_ledger_free(bench->ledger);
    weir_catalog_free(bench->catalog);
    cr_assert_eq(weir_catalog_parse("test", text, strlen(text), &bench->catalog, &mistakes), WEIR_OK, "%s",
                 mistakes.count ? mistakes.mistakes[0].text : "");
    cr_assert_eq(weir_ledger_postgres_open(database.url, &bench->ledger, &error), WEIR_OK, "%s", error.text);
    bench->rater = weir_rater_new(bench->catalog, bench->ledger);
}

/* Two flat fees of `flat_fee` each without usage, and a minimum spend of `minimum` under the default contract. */
static void use_periods(struct bench *bench, const char *flat_fee, const char *minimum)
{
    static const char format[] =
        "{\"meters\":[{\"key\":\"calls\",\"event_type\":\"t\",\"aggregation\":\"count\",\"window\":\"1h\"},"
        "{\"key\":\"dear\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":\"1h\"}],"
        "\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2026-01-01T00:00:"
        "00Z\","
        "\"fees\":[{\"key\":\"first\",\"amount\":\"3\",\"per\":\"period\",\"charged\":\"in_advance\"},"
        "{\"key\":\"last\",\"amount\":\"5\",\"per\":\"period\",\"charged\":\"in_arrears\"}],"
        "\"prices\":[{\"meter\":\"calls\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":null,\"unit_price\":\"1\","
        "\"flat_fee\":\"%s\",\"flat_fee_at_zero\":true}]},"
        "{\"meter\":\"dear\",\"model\":\"graduated\",\"tiers\":[{\"up_to\":null,\"unit_price\":\"1\","
        "\"flat_fee\":\"%s\",\"flat_fee_at_zero\":true}]}]},"
        "{\"key\":\"plain\",\"version\":1,\"currency\":\"USD\",\"effective_from\":\"2026-01-01T00:00:00Z\",\"prices\":["
        "{\"meter\":\"dear\",\"model\":\"per_unit\",\"unit_price\":\"1000000\"}]}],"
        "\"contracts\":[{\"key\":\"big\",\"customer\":\"acme\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:"
        "00Z\","
        "\"ends_at\":\"2026-02-01T00:00:00Z\",\"billing_period\":\"month\",\"timezone\":\"UTC\"},"
        "{\"key\":\"small\",\"customer\":\"other\",\"price_book\":\"plain\",\"starts_at\":\"2026-01-01T00:00:00Z\","
        "\"billing_period\":\"month\",\"timezone\":\"UTC\"}],"
        "\"default_contract\":{\"price_book\":\"plain\",\"billing_period\":\"month\",\"timezone\":\"UTC\","
        "\"commitments\":[{\"key\":\"least\",\"type\":\"minimum_spend\",\"per\":\"period\",\"amount\":\"%s\"}]}"
        "}";
    char text[sizeof format + 256];

    (void)snprintf(text, sizeof text, format, flat_fee, flat_fee, minimum);
    use_catalog(bench, text);
}

/* A window of the first hour whose amount is that many times 10^20. */
static void rate_of(struct bench *bench, const char *customer, int64_t value)
{
    char key[WEIR_SERIES_KEY_MAX];
    struct weir_series series = {.meter = S("dear"), .customer = S(customer)};
    struct weir_lane_window window = {.lane = S("events:0"),
                                      .window = {.series_key = weir_slice_of(key, weir_series_write(&series, key)),
                                                 .start = noon,
                                                 .end = noon + WEIR_HOUR,
                                                 .total = {.events = 10, .value = weir_decimal_of(value)}}};
    struct weir_error error;

    for (int i = 0; i < 2; i++)
        cr_assert(
            weir_decimal_multiply(window.window.total.value, weir_decimal_of(10000000), &window.window.total.value));
    cr_assert_eq(weir_rater_rate(bench->rater, &window, 1, &error), WEIR_OK, "%s", error.text);
}

static uint64_t settle(struct bench *bench)
{
    const struct weir_horizon horizon = {noon, noon + WEIR_HOUR, WEIR_TIME_NEVER};
    uint64_t before = weir_rater_counts(bench->rater).refused_periods;
    struct weir_error error;

    cr_assert_eq(weir_rater_settle(bench->rater, &horizon, &error), WEIR_OK, "%s", error.text);
    return weir_rater_counts(bench->rater).refused_periods - before;
}

static void copy_reason(void *context, struct weir_slice why)
{
    struct told *told = context;

    snprintf(told->why, sizeof told->why, "%.*s", (int)why.length, why.data);
}

Test(lanes, a_period_that_cannot_be_closed_holds_back_no_other)
{
    struct bench bench = set_up();
    struct told told = {0};
    struct weir_error error;
    uint64_t refused;

    use_periods(&bench, "100000000000000000000000000", "1"); /* twice 10^26 */
    rate_of(&bench, "default", 1);
    cr_assert_eq(settle(&bench), 1);
    cr_assert_eq(weir_lane_book_refused_periods(bench.book, 1, copy_reason, &told, &refused, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_eq(refused, 1);
    cr_assert(
        strstr(told.why, "customer 'acme', contract 'big', period from 2026-01-01T00:00:00Z: its amounts do not fit"),
        "%s", told.why);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.billing_periods WHERE is_closed"), 2,
                 "the others are");
    cr_assert_eq(ask_number(&database, "SELECT sum(amount)::bigint FROM weir.line_items WHERE customer = 'acme'"), 3,
                 "what begins it is charged, and nothing of what ends it");
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.price_totals WHERE customer = 'acme'"), 0);
    cr_assert_eq(settle(&bench), 0, "tried again in a minute");
    sql_on(database.admin, "UPDATE weir.refused_periods SET refused_at = now() - interval '61 s'");
    cr_assert_eq(settle(&bench), 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.refused_periods"), 1);

    use_periods(&bench, "7", "1"); /* mended */
    cr_assert_eq(settle(&bench), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.refused_periods"), 0);
    cr_assert_eq(ask_number(&database, "SELECT sum(amount)::bigint FROM weir.line_items WHERE customer = 'acme'"),
                 3 + 5 + 7 + 7);
    tear_down(&bench);
}

/* Under the default contract, where the ledger knows the periods and no catalog does. By itself nothing brings usage
 * that far below zero. */
Test(lanes, a_period_of_the_default_contract_waits_as_well)
{
    static const char closed[] = "SELECT count(*) FROM weir.billing_periods WHERE is_closed AND contract = ''";
    struct bench bench = set_up();

    use_periods(&bench, "1", "100000000000000000000000000");
    rate_of(&bench, "below", 1);
    rate_of(&bench, "above", 1);
    sql_on(database.admin, "UPDATE weir.billing_periods SET usage_amount = -1e26 WHERE customer = 'below'");
    cr_assert_eq(settle(&bench), 1);
    cr_assert_eq(settle(&bench), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.refused_periods WHERE customer = 'below'"), 1);
    cr_assert_eq(ask_number(&database, closed), 1);
    sql_on(database.admin, "UPDATE weir.billing_periods SET usage_amount = 1e20 WHERE customer = 'below'");
    sql_on(database.admin, "UPDATE weir.refused_periods SET refused_at = now() - interval '61 s'");
    cr_assert_eq(settle(&bench), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.refused_periods"), 0);
    cr_assert_eq(ask_number(&database, closed), 2);
    tear_down(&bench);
}

/* acme has 10 prepaid and pays so many times the price beyond; other has 10 as well, and usage at its price. */
static void use_prepaid(struct bench *bench, const char *multiplier, const char *period, const char *expires_at)
{
    static const char format[] =
        "{\"meters\":[{\"key\":\"dear\",\"event_type\":\"t\",\"aggregation\":\"sum\",\"value\":\"data.v\",\"window\":"
        "\"1h\"}],\"price_books\":[{\"key\":\"b\",\"version\":1,\"currency\":\"USD\",\"effective_from\":"
        "\"2026-01-01T00:00:00Z\",\"prices\":[{\"meter\":\"dear\",\"model\":\"per_unit\",\"unit_price\":\"1\"}]}],"
        "\"contracts\":[{\"key\":\"a\",\"customer\":\"acme\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:"
        "00Z\","
        "\"billing_period\":\"%s\",\"timezone\":\"UTC\",\"commitments\":[{\"key\":\"credit\",\"type\":\"prepaid\","
        "\"amount\":\"10\",\"overage_multiplier\":\"%s\",\"expires_at\":\"%s\"}]},"
        "{\"key\":\"o\",\"customer\":\"other\",\"price_book\":\"b\",\"starts_at\":\"2026-01-01T00:00:00Z\","
        "\"billing_period\":\"%s\",\"timezone\":\"UTC\",\"commitments\":[{\"key\":\"credit\",\"type\":\"prepaid\","
        "\"amount\":\"10\",\"expires_at\":\"2026-01-21T00:00:00Z\"}]}]}";
    char text[sizeof format + 256];

    (void)snprintf(text, sizeof text, format, period, multiplier, expires_at, period);
    use_catalog(bench, text);
}

/* A window of acme's, `days` after the first, whose value is that many times 10^25; and beside it one of other's. */
static void rate_both(struct bench *bench, int days, uint64_t events, int64_t value)
{
    static const char *const customers[] = {"acme", "other"};
    char keys[2][WEIR_SERIES_KEY_MAX];
    struct weir_lane_window windows[2];
    struct weir_error error;

    for (int i = 0; i < 2; i++) {
        struct weir_series series = {.meter = S("dear"), .customer = S(customers[i])};
        struct weir_window_total total = {.events = i ? 1 : events, .value = weir_decimal_of(i ? 1 : value)};
        for (int times = 0; !i && times < 5; times++)
            cr_assert(weir_decimal_multiply(total.value, weir_decimal_of(100000), &total.value));
        windows[i] = (struct weir_lane_window){
            .lane = S("events:0"),
            .window = {.series_key = weir_slice_of(keys[i], weir_series_write(&series, keys[i])),
                       .start = noon + days * WEIR_DAY,
                       .end = noon + days * WEIR_DAY + WEIR_HOUR,
                       .total = total}};
    }
    cr_assert_eq(weir_rater_rate(bench->rater, windows, 2, &error), WEIR_OK, "%s", error.text);
}

static int64_t sum_of(const char *customer, const char *kind)
{
    char sql[256];

    snprintf(sql, sizeof sql,
             "SELECT coalesce(sum(amount), 0)::bigint FROM weir.line_items WHERE customer = '%s' AND kind = '%s'",
             customer, kind);
    return ask_number(&database, sql);
}

Test(lanes, overage_that_does_not_fit_keeps_out_its_window)
{
    struct bench bench = set_up();
    struct told told = {0};

    use_prepaid(&bench, "3", "month", "2027-01-01T00:00:00Z");
    weir_rater_on_refusal(bench.rater, tell, &told);
    rate_both(&bench, 0, 1, 0);
    rate_both(&bench, 1, 1, 10);
    cr_assert_eq(told.count, 1);
    cr_assert(strstr(told.why, "'acme', meter 'dear', window 2026-01-06T12:00:00") && strstr(told.why, "does not fit")
                  && strstr(told.why, "overage_multiplier"),
              "%s", told.why);
    cr_assert_eq(sum_of("other", "usage"), 2);
    cr_assert_eq(sum_of("other", "drawdown"), -2);
    cr_assert_eq(held(), 1);
    rate_both(&bench, 2, 1, 0);
    cr_assert_eq(held(), 1, "it alone");
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.rated_windows WHERE customer = 'acme'"), 2);
    cr_assert_eq(settle(&bench), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.billing_periods WHERE is_closed"), 2);

    rate_both(&bench, 1, 3, 0); /* it was corrected */
    cr_assert_eq(held(), 0);
    cr_assert_eq(sum_of("acme", "overage"), 0);
    tear_down(&bench);
}

/* What each month of a quarter costs is more than any amount holds while the order of rating knows a sum that fits. */
Test(lanes, a_customer_whose_drawdown_does_not_fit_holds_back_no_other)
{
    struct bench bench = set_up();
    struct told told = {0};

    use_prepaid(&bench, "1", "quarter", "2027-01-01T00:00:00Z");
    weir_rater_on_refusal(bench.rater, tell, &told);
    rate_both(&bench, 0, 1, 10);
    rate_both(&bench, 60, 1, -10);
    cr_assert_eq(told.count, 0);
    rate_both(&bench, 30, 1, 10);
    cr_assert_eq(told.count, 1);
    cr_assert(strstr(told.why, "customer 'acme': what is drawn from its prepaid amounts") && strstr(told.why, "fit"),
              "%s", told.why);
    cr_assert_eq(weir_rater_counts(bench.rater).windows, 6, "what was done again counts once");
    cr_assert_eq(held(), 1);
    cr_assert_eq(sum_of("other", "usage"), 3);
    cr_assert_eq(sum_of("other", "drawdown"), -1, "until its expiry");

    rate_both(&bench, 0, 3, 0); /* January was corrected */
    sql_on(database.admin, "UPDATE weir.held_windows SET refused_at = now() - interval '61 s'");
    cr_assert_eq(rate_released(&bench), 1);
    cr_assert_eq(held(), 0);
    cr_assert_eq(sum_of("acme", "usage"), 0);
    cr_assert_eq(sum_of("acme", "drawdown"), 0);
    tear_down(&bench);
}

/* A catalog with another multiplier, for usage that is rated: neither its period nor what expires holds others back. */
Test(lanes, a_period_whose_drawdown_does_not_fit_holds_back_no_other)
{
    struct bench bench = set_up();
    struct told told = {0};
    struct weir_error error;
    uint64_t refused;

    use_prepaid(&bench, "1", "month", "2026-01-20T00:00:00Z");
    rate_both(&bench, 0, 1, 10);
    use_prepaid(&bench, "3", "month", "2026-01-20T00:00:00Z");
    cr_assert_eq(settle(&bench), 1);
    cr_assert_eq(weir_lane_book_refused_periods(bench.book, 1, copy_reason, &told, &refused, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_eq(refused, 1);
    cr_assert(strstr(told.why, "customer 'acme': what is drawn from its prepaid amounts"), "%s", told.why);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.billing_periods WHERE is_closed"), 1);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.grant_entries WHERE customer = 'other'"
                                       " AND kind = 'expiry'"),
                 1);
    cr_assert_eq(sum_of("acme", "fee"), 0);

    use_prepaid(&bench, "1", "month", "2026-01-20T00:00:00Z"); /* mended */
    cr_assert_eq(settle(&bench), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.refused_periods"), 0);
    cr_assert_eq(ask_number(&database, "SELECT count(*) FROM weir.billing_periods WHERE is_closed"), 2);
    cr_assert_eq(sum_of("acme", "fee"), 10);
    tear_down(&bench);
}
