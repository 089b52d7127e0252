/* One contract, every twin: what the window store promises, on memory and on a real Redis, one promise at a time. */
#include "window_store_twins.h"

TestSuite(window_store, .fini = stop_server);

CONTRACT(a_fresh_lane_is_empty)
{
    struct picture picture = {0};
    struct weir_work work[4];
    take(f, &picture);
    cr_assert_gt(picture.state.epoch, 0);
    cr_assert_eq(picture.state.next_offset, -1);
    cr_assert_eq(picture.state.watermark, 0);
    cr_assert_eq(picture.state.high, 0);
    cr_assert_gt(picture.state.first_time, picture.state.last_time);
    cr_assert_eq(picture.state.counts.read, 0);
    cr_assert_eq(memcmp(picture.state.secret, secret, sizeof(secret)), 0);
    cr_assert_eq(picture.count + picture.ids_count, 0);
    cr_assert_eq(read_work(f, work, 4), 0);
    scan(f, &picture);
    cr_assert_eq(picture.count, 0);
    clear(&picture);
}

CONTRACT(the_first_owner_makes_the_secret)
{
    struct picture picture = {0};
    static const unsigned char other[WEIR_LANE_SECRET_BYTES] = "another";
    struct weir_lane_state state;
    struct weir_error error;
    take(f, &picture);
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), other, NULL, &state, &error), WEIR_OK);
    cr_assert_gt(state.epoch, picture.state.epoch);
    cr_assert_eq(memcmp(state.secret, secret, sizeof(secret)), 0);
    clear(&picture);
}

CONTRACT(state_comes_back_as_written)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, INT64_MAX);
    cut.cut.state.high = INT64_MAX - 1;
    cut.cut.state.watermark = -5;
    cut.cut.state.forgotten = INT64_MAX - 2;
    cut.cut.state.first_time = INT64_MIN;
    cut.cut.state.last_time = 1767610799123456789;
    cut.cut.state.counts = (struct weir_lane_counts){UINT64_MAX, UINT64_C(1) << 53, (UINT64_C(1) << 53) + 1, 4, 5, 6};
    must_write(f, &cut, &picture.state);
    struct weir_lane_state written = picture.state;
    take(f, &picture);
    cr_assert_gt(picture.state.epoch, written.epoch);
    written.epoch = picture.state.epoch;
    cr_assert_eq(memcmp(&picture.state, &written, sizeof(written)), 0);
    clear(&picture);
}

static bool same_gap(const struct weir_gap *a, const struct weir_gap *b)
{
    return a->kind == b->kind && a->from == b->from && a->to == b->to && a->time_from == b->time_from
           && a->time_to == b->time_to && a->found_at == b->found_at;
}

CONTRACT(gaps_and_stamp_come_back_as_written)
{
    struct picture picture = {0};
    struct weir_lane_state read;
    struct weir_error error;
    struct cut cut;
    take(f, &picture);
    cr_assert_eq(picture.state.gaps.count, 0);
    cr_assert_eq(picture.state.stamp, -1);
    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        struct weir_gap gap = {.kind = (enum weir_gap_kind)(i % WEIR_GAP_KIND_COUNT),
                               .from = i,
                               .to = i % 2 ? INT64_MAX : WEIR_GAP_END_UNKNOWN,
                               .time_from = i ? -1767610799123456000 : 0,
                               .time_to = INT64_MAX,
                               .found_at = 1767610799123456000 + i};
        begin_cut(f, &cut, &picture.state, 10 * (i + 1));
        cut.cut.state.stamp = INT64_MAX - i;
        weir_gaps_add(&cut.cut.state.gaps, &gap);
        must_write(f, &cut, &picture.state);
    }
    struct weir_lane_state written = picture.state;
    take(f, &picture);
    cr_assert_eq(picture.state.stamp, INT64_MAX - (WEIR_GAPS_MAX - 1));
    cr_assert_eq(picture.state.gaps.count, WEIR_GAPS_MAX);
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &read, &error), WEIR_OK);
    cr_assert_eq(read.gaps.count, WEIR_GAPS_MAX);
    cr_assert_gt(read.epoch, written.epoch);
    for (int i = 0; i < WEIR_GAPS_MAX; i++) {
        cr_assert(same_gap(&picture.state.gaps.at[i], &written.gaps.at[i]), "gap %d", i);
        cr_assert(same_gap(&read.gaps.at[i], &written.gaps.at[i]), "gap %d", i);
    }
    begin_cut(f, &cut, &picture.state, 1000); /* a cut that adds none leaves them */
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.state.gaps.count, WEIR_GAPS_MAX);
    clear(&picture);
}

CONTRACT(a_lane_that_nobody_took_reads_as_none)
{
    struct weir_lane_state state;
    struct weir_error error;
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &state, &error), WEIR_OK);
    cr_assert_eq(state.epoch, 0);
    cr_assert_eq(state.next_offset, -1);
}

CONTRACT(a_lane_begins_anew_as_a_step_of_its_owner_alone)
{
    struct picture old = {0}, now = {0};
    struct cut cut;
    take(f, &old);
    begin_cut(f, &cut, &old.state, 100);
    put_window(&cut, weir_slice_text("k"), 1, 5);
    put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
    must_write(f, &cut, &old.state);
    take(f, &now);
    begin_cut(f, &cut, &old.state, 0);
    cut.cut.is_anew = true;
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "a zombie");
    struct weir_lane_state wrong = now.state;
    wrong.next_offset = 90;
    begin_cut(f, &cut, &wrong, 0);
    cut.cut.is_anew = true;
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "another offset than the stored one");
    begin_cut(f, &cut, &now.state, 0);
    cut.cut.is_anew = true;
    put_window(&cut, weir_slice_text("k"), 1, 6);
    must_write(f, &cut, &now.state);
    for (int i = 0; i < 2; i++)
        cr_assert_eq(write_cut(f, &cut), WEIR_OK, "the same cut again");
    begin_cut(f, &cut, &now.state, 10);
    put_ids(&cut, 1, "abcdefghijkljkl", WEIR_ID_BYTES);
    must_write(f, &cut, &now.state);
    take(f, &now);
    cr_assert_eq(now.state.next_offset, 10);
    cr_assert_eq(now.count, 1);
    cr_assert_eq(now.rows[0].total.events, 6);
    cr_assert_eq(now.ids[0].length, 2 * WEIR_ID_BYTES, "ids are kept");
    clear(&old);
    clear(&now);
}

CONTRACT(an_old_owner_writes_nothing)
{
    struct picture old = {0}, now = {0};
    struct cut cut;
    take(f, &old);
    take(f, &now);
    begin_cut(f, &cut, &old.state, 10);
    put_window(&cut, weir_slice_text("k"), 1, 5)->is_closed = true;
    put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    begin_cut(f, &cut, &now.state, 10);
    must_write(f, &cut, &now.state);
    begin_cut(f, &cut, &old.state, 10); /* the same offsets as the new owner's cut: the epoch alone tells */
    put_window(&cut, weir_slice_text("k"), 1, 5)->is_closed = true;
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    take(f, &now);
    cr_assert_eq(now.count + now.ids_count, 0);
    cr_assert_eq(now.state.next_offset, 10);
    clear(&old);
    clear(&now);
}

CONTRACT(a_late_cut_of_an_old_owner_disturbs_nothing)
{
    struct picture old = {0}, now = {0};
    struct cut cut;
    take(f, &old);
    take(f, &now);
    for (int i = 1; i < 4; i++) {
        begin_cut(f, &cut, &now.state, 10 * i);
        put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
        must_write(f, &cut, &now.state);
        begin_cut(f, &cut, &old.state, 10 * i); /* as when it waited in a queue while the lane was taken anew */
        cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    }
    take(f, &now);
    cr_assert_eq(now.ids[0].length, 3 * WEIR_ID_BYTES);
    clear(&old);
    clear(&now);
}

CONTRACT(an_unexpected_offset_writes_nothing)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    struct weir_lane_state wrong = picture.state;
    for (int64_t offset = 8; offset <= 12; offset++) {
        if (offset == 10)
            continue;
        wrong.next_offset = offset;
        begin_cut(f, &cut, &wrong, 30);
        put_window(&cut, weir_slice_text("k"), 1, 5);
        put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
        cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "offset %d", (int)offset);
    }
    take(f, &picture);
    cr_assert_eq(picture.count + picture.ids_count, 0);
    cr_assert_eq(picture.state.next_offset, 10);
    clear(&picture);
}

CONTRACT(a_lane_that_was_never_taken_can_not_be_written)
{
    struct weir_lane_state state = {.epoch = 1, .next_offset = -1};
    struct weir_work work[1];
    struct cut cut;
    begin_cut(f, &cut, &state, 10);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED);
    cr_assert_eq(read_work(f, work, 1), 0);
}

CONTRACT(the_same_cut_again_is_harmless)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    struct weir_cut_window *window = put_window(&cut, weir_slice_text("k"), 1, 5);
    window->is_closed = true;
    window->unique = weir_slice_of("0123456789abcdef", 16);
    put_ids(&cut, 1, "123456789012012", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    for (int i = 0; i < 3; i++)
        cr_assert_eq(write_cut(f, &cut), WEIR_OK);
    struct cut next;
    begin_cut(f, &next, &picture.state, 10); /* moves no offset, as when windows close by the wall clock */
    put_window(&next, weir_slice_text("k"), 1, 5)->is_closed = true;
    for (int i = 0; i < 3; i++)
        cr_assert_eq(write_cut(f, &next), WEIR_OK);
    begin_cut(f, &next, &picture.state, 20);
    put_ids(&next, 1, "abcdefghijkljkl", WEIR_ID_BYTES);
    must_write(f, &next, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 1);
    cr_assert_eq(picture.rows[0].unique_length, 16);
    cr_assert_eq(picture.ids_count, 1);
    cr_assert_eq(picture.ids[0].length, 2 * WEIR_ID_BYTES);
    cr_assert_eq(memcmp(picture.ids[0].ids, "123456789012012abcdefghijkljkl", 2 * WEIR_ID_BYTES), 0);
    clear(&picture);
}

CONTRACT(totals_are_absolute_and_exact)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    struct weir_window_total total = {UINT64_MAX, UINT64_MAX, weir_decimal_max(), INT64_MIN, INT64_MAX};
    for (int i = 0; i < 3; i++) {
        begin_cut(f, &cut, &picture.state, 10 * (i + 1));
        put_window(&cut, weir_slice_text("k"), -3, 5)->window.total = total;
        must_write(f, &cut, &picture.state);
        take(f, &picture);
        cr_assert_eq(picture.count, 1);
        cr_assert(same_total(&picture.rows[0].total, &total));
        cr_assert_eq(picture.rows[0].start, -3 * MINUTE * NS);
        total.value = weir_decimal_negate(total.value);
        total.events /= 3;
    }
    clear(&picture);
}

CONTRACT(keys_may_hold_any_bytes)
{
    static const struct weir_slice keys[] = {
        {"\0\0\0", 3}, {"\0\0", 2}, {"\xff\xfe \r\n", 5}, {" ", 1}, {"*3\r\n$3\r\n", 8}, {"\xd9\xda", 2},
    };
    enum { KEYS = sizeof(keys) / sizeof(*keys) };
    struct picture picture = {0};
    struct weir_work work[KEYS + 3];
    struct cut cut;
    char longest[3][WEIR_SERIES_KEY_MAX];
    uint32_t lengths[3] = {255, 256, WEIR_SERIES_KEY_MAX};
    for (int i = 0; i < 3; i++)
        for (size_t n = 0; n < lengths[i]; n++)
            longest[i][n] = (char)(n * 7 + (size_t)i);
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    for (int i = 0; i < KEYS; i++)
        put_window(&cut, keys[i], 1, (uint64_t)i + 1)->is_closed = true;
    for (int i = 0; i < 3; i++) {
        struct weir_cut_window *window = put_window(&cut, weir_slice_of(longest[i], lengths[i]), 1, 100 + (uint64_t)i);
        window->is_closed = true;
        window->unique = weir_slice_of("\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff\0\xff", 16);
    }
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, KEYS + 3);
    for (int i = 0; i < KEYS + 3; i++) {
        struct row *row = find_row(&picture, MINUTE * NS, 2 * MINUTE * NS, cut.windows[i].window.series_key);
        cr_assert_not_null(row, "key %d", i);
        cr_assert(same_total(&row->total, &cut.windows[i].window.total));
        cr_assert_eq(row->unique_length, i < KEYS ? 0 : 16);
    }
    cr_assert_eq(read_work(f, work, KEYS + 3), KEYS + 3);
    finish(f, work, KEYS + 3);
    cr_assert_eq(read_work(f, work, KEYS + 3), 0);
    clear(&picture);
}

CONTRACT(unique_fingerprints_add_up_by_window)
{
    struct picture picture = {0};
    struct cut cut;
    char fingerprints[64];
    take(f, &picture);
    for (size_t i = 0; i < sizeof(fingerprints); i++)
        fingerprints[i] = (char)i;
    for (int round = 0; round < 3; round++) {
        begin_cut(f, &cut, &picture.state, 10 * (round + 1));
        for (int w = 0; w < 4; w++) /* two series in two spans; the second span's second window never gets any */
            if (w < 3)
                put_window(&cut, weir_slice_text(w & 1 ? "b" : "a"), w / 2, 1)->unique =
                    weir_slice_of(fingerprints + 16 * round, round == 2 ? 32 : 16);
            else
                put_window(&cut, weir_slice_text("b"), 1, 1);
        must_write(f, &cut, &picture.state);
    }
    take(f, &picture);
    cr_assert_eq(picture.count, 4);
    for (int w = 0; w < 4; w++) {
        struct row *row =
            find_row(&picture, w / 2 * MINUTE * NS, (w / 2 + 1) * MINUTE * NS, weir_slice_text(w & 1 ? "b" : "a"));
        cr_assert_eq(row->unique_length, w < 3 ? 64 : 0);
        cr_assert(w == 3 || memcmp(row->unique, fingerprints, 64) == 0);
    }
    clear(&picture);
}

CONTRACT(ids_are_kept_by_bucket_until_forgotten)
{
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    put_ids(&cut, -2, "-2-2-2-2-2-22-2", WEIR_ID_BYTES);
    put_ids(&cut, 5, "555555555555555", WEIR_ID_BYTES);
    put_ids(&cut, 3, "333333333333333", WEIR_ID_BYTES);
    put_ids(&cut, 4, "444444444444444", WEIR_ID_BYTES);
    put_ids(&cut, 3, "3.3.3.3.3.3..3.", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_ids_below = 4;
    put_ids(&cut, 5, "5+5+5+5+5+5++5+5-5-5-5-5-5--5-", 2 * WEIR_ID_BYTES);
    put_ids(&cut, 3, "too late.......", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.ids_count, 2);
    for (int i = 0; i < 2; i++) {
        cr_assert(picture.ids[i].bucket == 4 || picture.ids[i].bucket == 5);
        if (picture.ids[i].bucket == 5)
            cr_assert(picture.ids[i].length == 3 * WEIR_ID_BYTES
                      && memcmp(picture.ids[i].ids, "5555555555555555+5+5+5+5+5++5+5-5-5-5-5-5--5-", 3 * WEIR_ID_BYTES)
                             == 0);
    }
    begin_cut(f, &cut, &picture.state, 30); /* a bucket comes back after it was forgotten */
    cut.cut.state.epoch = picture.state.epoch;
    put_ids(&cut, 3, "once more......", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.ids_count, 3);
    clear(&picture);
}

CONTRACT(a_change_between_read_and_finish_stays_on_the_list)
{
    struct picture picture = {0};
    struct weir_work work[8], again[8];
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    put_window(&cut, weir_slice_text("open"), 1, 1);
    for (int i = 0; i < 3; i++)
        put_window(&cut, weir_slice_text("closed"), i, 1)->is_closed = true;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(read_work(f, work, 8), 3);
    cr_assert_eq(read_work(f, again, 2), 2, "no more than asked for");
    cr_assert_eq(read_work(f, work, 8), 3, "reading takes nothing off");
    begin_cut(f, &cut, &picture.state, 20);
    put_window(&cut, weir_slice_text("closed"), 1, 2)->is_closed = true;
    must_write(f, &cut, &picture.state);
    finish(f, work, 3);
    finish(f, work, 3);
    cr_assert_eq(read_work(f, again, 8), 1);
    cr_assert_eq(again[0].window.start, MINUTE * NS);
    cr_assert_eq(again[0].window.total.events, 2);
    scan(f, &picture);
    cr_assert_eq(picture.count, 4);
    for (size_t i = 0; i < 4; i++) {
        cr_assert_eq(picture.rows[i].is_closed, picture.rows[i].key_length == 6);
        cr_assert_eq(picture.rows[i].has_work, picture.rows[i].is_closed && picture.rows[i].start == MINUTE * NS);
    }
    finish(f, again, 1);
    cr_assert_eq(read_work(f, again, 8), 0);
    clear(&picture);
}

CONTRACT(only_finished_windows_are_forgotten)
{
    struct picture picture = {0};
    struct weir_work work[8];
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    for (int i = 0; i < 4; i++)
        put_window(&cut, weir_slice_text("k"), i, 1)->is_closed = true;
    cut.cut.windows == cut.windows ? (void)(cut.windows[1].unique = weir_slice_of("0123456789abcdef", 16)) : (void)0;
    cut.cut.forget_windows_below = 3 * MINUTE * NS;
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 4, "all are on the list of work");
    cr_assert_eq(read_work(f, work, 8), 4);
    for (size_t i = 0; i < 4; i++)
        if (work[i].window.start != 0)
            finish(f, &work[i], 1);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_windows_below = 3 * MINUTE * NS;
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_not_null(find_row(&picture, 0, MINUTE * NS, weir_slice_text("k")), "still to be rated");
    cr_assert_not_null(find_row(&picture, 3 * MINUTE * NS, 4 * MINUTE * NS, weir_slice_text("k")), "not old enough");
    if (f->is_redis)
        cr_assert_eq(picture.count, 2, "the two between are finished and old");
    cr_assert_eq(read_work(f, work, 8), 1);
    finish(f, work, 1);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_windows_below = 3 * MINUTE * NS;
    must_write(f, &cut, &picture.state);
    if (f->is_redis) {
        take(f, &picture);
        cr_assert_eq(picture.count, 1);
    }
    clear(&picture);
}

CONTRACT(lanes_are_listed_by_topic)
{
    struct picture picture = {0};
    struct weir_error error;
    struct cut cut;
    char other[WEIR_LANE_NAME_MAX + 8], topic[WEIR_LANE_NAME_MAX];
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 77);
    must_write(f, &cut, &picture.state);
    snprintf(topic, sizeof(topic), "%.*s", (int)(strrchr(f->lane, ':') - f->lane), f->lane);
    snprintf(other, sizeof(other), "%s:0:3", topic); /* of topic "<topic>:0" */
    cr_assert_eq(f->store->ops->take_lane(f->store, weir_slice_text(other), secret, NULL, &picture.state, &error),
                 WEIR_OK);
    struct listed listed = {.only = f->lane}, listed_other = {.only = other};
    f->store->ops->list_lanes(f->store, topic, on_lane, &listed, &error);
    f->store->ops->list_lanes(f->store, topic, on_lane, &listed_other, &error);
    cr_assert_eq(listed.count, 1);
    cr_assert_eq(listed_other.count, 0);
    cr_assert_eq(listed.state.next_offset, 77);
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed, &error);
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed_other, &error);
    cr_assert_eq(listed.count, 2);
    cr_assert_eq(listed_other.count, 1);
    clear(&picture);
}
