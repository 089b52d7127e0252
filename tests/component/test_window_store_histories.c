/* The window store's contract over random histories, against a plain model, and over cuts as large as they come. */
#include <inttypes.h>

#include "window_store_twins.h"

TestSuite(window_store, .fini = stop_server);

/* 1. Random histories against a plain model. */

struct random_walk {
    struct fixture *f;
    struct picture model;
    struct weir_lane_state state;
    uint64_t seed;
    int round_steps; /* cuts until the round ends that is under way; 0: none is */
    char fingerprints[1 << 12];
    struct walk_number {
        int64_t start;
        size_t key; /* of walk_keys */
        bool is_taken, is_told;
    } numbers[100];       /* of open windows, few enough to go from one to another; [0] is none */
    redisContext *bender; /* Redis only: kills connections, flushes scripts */
};

static uint64_t roll(struct random_walk *walk, uint64_t below)
{
    walk->seed += UINT64_C(0x9e3779b97f4a7c15);
    uint64_t z = walk->seed;
    z = (z ^ (z >> 30)) * UINT64_C(0xbf58476d1ce4e5b9);
    z = (z ^ (z >> 27)) * UINT64_C(0x94d049bb133111eb);
    return (z ^ (z >> 31)) % below;
}

static const char *const walk_keys[] = {"a", "b\xff",
                                        "a longer series key with more bytes in it than a listpack likes to hold"};

/* All that is open and not in the cut yet, in this cut or, for a while, in this and others. */
static void bring_round(struct random_walk *walk, struct cut *cut, bool used[40][3])
{
    bool is_long = walk->round_steps == 0 && roll(walk, 4) == 0;
    if (is_long || roll(walk, 8) == 0) {
        cut->cut.begins_round = true;
        walk->round_steps = is_long ? 3 : 1;
    }
    if (walk->round_steps == 0)
        return;
    cut->cut.ends_round = --walk->round_steps == 0;
    for (size_t i = 0; cut->cut.ends_round && i < walk->model.count; i++) {
        const struct row *row = &walk->model.rows[i];
        int64_t minute = row->start / (MINUTE * NS);
        for (size_t key = 0; key < 3; key++)
            if (!row->is_closed && !used[minute][key]
                && weir_slice_equal(weir_slice_text(walk_keys[key]), weir_slice_of(row->key, row->key_length)))
                put_window(cut, weir_slice_text(walk_keys[key]), minute, 0)->window.total = row->total;
    }
}

/* Up to somewhere before the first window that is open. */
static void forget_closed(struct random_walk *walk, struct cut *cut)
{
    int64_t before = (int64_t)roll(walk, 30) * MINUTE * NS;
    for (size_t i = 0; i < walk->model.count; i++)
        if (!walk->model.rows[i].is_closed && walk->model.rows[i].end <= before)
            before = walk->model.rows[i].end - 1;
    for (size_t i = 0; i < cut->cut.window_count; i++)
        if (!cut->windows[i].is_closed && cut->windows[i].window.end <= before)
            before = cut->windows[i].window.end - 1;
    if (before > cut->cut.state.forgotten)
        cut->cut.state.forgotten = before;
}

static void random_cut(struct random_walk *walk, struct cut *cut)
{
    begin_cut(walk->f, cut, &walk->state, walk->state.next_offset + (int64_t)roll(walk, 3));
    bool moves = cut->cut.state.next_offset != walk->state.next_offset;
    bool used[40][3] = {{false}};
    size_t windows = roll(walk, 30);
    for (size_t i = 0; i < windows; i++) {
        int64_t minute = (int64_t)roll(walk, 40);
        size_t key = roll(walk, 3);
        if (used[minute][key])
            continue;
        used[minute][key] = true;
        struct weir_cut_window *window = put_window(cut, weir_slice_text(walk_keys[key]), minute, roll(walk, 1000));
        const struct row *known =
            find_row(&walk->model, minute * MINUTE * NS, (minute + 1) * MINUTE * NS, weir_slice_text(walk_keys[key]));
        window->is_closed = (known && known->is_closed) || window->window.end <= walk->state.forgotten || roll(walk, 2);
        if (moves && roll(walk, 3) == 0)
            window->unique = weir_slice_of(walk->fingerprints + roll(walk, 100), 16 * (1 + (uint32_t)roll(walk, 4)));
    }
    for (size_t i = 0; moves && i < roll(walk, 4); i++)
        put_ids(cut, (int64_t)roll(walk, 6) - 2, walk->fingerprints + roll(walk, 200),
                WEIR_ID_BYTES * (uint32_t)roll(walk, 8));
    if (roll(walk, 4) == 0)
        cut->cut.forget_ids_below = (int64_t)roll(walk, 6) - 3;
    bring_round(walk, cut, used);
    if (roll(walk, 4) == 0)
        forget_closed(walk, cut);
    cut->cut.forget_windows_below = cut->cut.state.forgotten;
    cut->cut.state.watermark = (int64_t)roll(walk, 1000);
}

/* As a lane does it, but that some windows have no number, and some are told again. */
static void number_window(struct random_walk *walk, struct weir_cut_window *window)
{
    struct walk_number *number = NULL, *end = walk->numbers + sizeof walk->numbers / sizeof *walk->numbers;
    size_t key = 0;
    while (!weir_slice_equal(weir_slice_text(walk_keys[key]), window->window.series_key))
        key++;
    for (struct walk_number *one = walk->numbers + 1; one < end; one++)
        if (one->is_taken && one->start == window->window.start && one->key == key)
            number = one;
    if (window->is_closed) {
        if (number)
            number->is_taken = false;
        return;
    }
    for (struct walk_number *one = walk->numbers + 1; one < end && !number; one++)
        if (!one->is_taken && roll(walk, 3) == 0)
            *(number = one) = (struct walk_number){window->window.start, key, true, false};
    if (!number)
        return;
    window->number = (uint32_t)(number - walk->numbers);
    if (number->is_told && window->unique.length == 0 && roll(walk, 4))
        window->window.series_key = weir_slice_of(NULL, 0);
    number->is_told = true;
}

static void number_windows(struct random_walk *walk, struct cut *cut)
{
    for (size_t i = 0; i < sizeof walk->numbers / sizeof *walk->numbers; i++)
        walk->numbers[i].is_told &= !cut->cut.begins_round;
    for (size_t i = 0; i < cut->cut.window_count; i++)
        number_window(walk, &cut->windows[i]);
}

static bool span_has_work(const struct picture *model, int64_t start, int64_t end)
{
    for (size_t i = 0; i < model->count; i++)
        if (model->rows[i].start == start && model->rows[i].end == end && model->rows[i].has_work)
            return true;
    return false;
}

static void model_cut(struct random_walk *walk, const struct weir_cut *cut)
{
    struct picture *model = &walk->model;
    for (size_t i = 0; i < cut->window_count; i++) {
        const struct weir_cut_window *window = &cut->windows[i];
        struct row *row = find_row(model, window->window.start, window->window.end, window->window.series_key);
        if (!row)
            row = add_row(model, &window->window);
        row->total = window->window.total;
        row->is_closed = window->is_closed;
        row->has_work |= window->is_closed;
        add_unique(row, window->unique);
    }
    for (size_t i = 0; i < cut->ids_count; i++)
        if (cut->ids[i].ids.length && cut->ids[i].bucket >= cut->forget_ids_below)
            add_ids(model, cut->ids[i].bucket, cut->ids[i].ids);
    for (size_t i = 0; i < model->ids_count;)
        if (model->ids[i].bucket < cut->forget_ids_below)
            forget_bucket(model, i);
        else
            i++;
    for (size_t i = 0; walk->f->is_redis && i < model->count;) /* memory keeps windows */
        if (model->rows[i].end <= cut->forget_windows_below
            && !span_has_work(model, model->rows[i].start, model->rows[i].end))
            forget_row(model, i);
        else
            i++;
    walk->state = cut->state;
}

static void bend(struct random_walk *walk)
{
    const char *command = roll(walk, 2) ? "SCRIPT FLUSH" : "CLIENT KILL TYPE normal SKIPME yes";
    if (walk->bender)
        freeReplyObject(redisCommand(walk->bender, command));
}

static void walk_write(struct random_walk *walk)
{
    struct cut cut;
    struct weir_error error = {""};
    struct weir_window_store *store = walk->f->store;
    random_cut(walk, &cut);
    struct cut sent = cut; /* the model has the keys of all */
    sent.cut.windows = sent.windows;
    sent.cut.ids = sent.ids;
    number_windows(walk, &sent);
    if (roll(walk, 5) == 0) { /* refused first: by epoch or by offset */
        struct cut wrong = sent;
        wrong.cut.windows = wrong.windows;
        wrong.cut.ids = wrong.ids;
        if (roll(walk, 2))
            wrong.cut.state.epoch--;
        else
            wrong.cut.state.next_offset = 5 + (wrong.cut.expected_offset += 1 + (int64_t)roll(walk, 3));
        cr_assert_eq(store->ops->write_cut(store, &wrong.cut, &error), WEIR_FENCED);
    }
    if (roll(walk, 6) == 0)
        bend(walk);
    enum weir_status status = WEIR_RETRY;
    for (int i = 0; i < 3 && status == WEIR_RETRY; i++)
        status = store->ops->write_cut(store, &sent.cut, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
    for (uint64_t again = roll(walk, 8) == 0 ? 2 : 0; again > 0; again--)
        cr_assert_eq(store->ops->write_cut(store, &sent.cut, &error), WEIR_OK, "%s", error.text);
    model_cut(walk, &cut.cut);
}

static void walk_rate(struct random_walk *walk)
{
    struct weir_work work[200];
    size_t expected = 0, max = 1 + roll(walk, 199);
    for (size_t i = 0; i < walk->model.count; i++)
        expected += walk->model.rows[i].has_work;
    size_t count = read_work(walk->f, work, max);
    cr_assert(count <= expected && (count > 0 || expected == 0), "%zu of %zu", count, expected);
    for (size_t i = 0; i < count; i++) {
        struct row *row = find_row(&walk->model, work[i].window.start, work[i].window.end, work[i].window.series_key);
        cr_assert(row && row->has_work && same_total(&row->total, &work[i].window.total));
        for (size_t n = 0; n < i; n++)
            cr_assert(work[n].window.start != work[i].window.start
                          || !weir_slice_equal(work[n].window.series_key, work[i].window.series_key),
                      "an item stands twice in one answer");
    }
    size_t first = count ? roll(walk, count) : 0;
    for (size_t i = first; i < count; i++)
        find_row(&walk->model, work[i].window.start, work[i].window.end, work[i].window.series_key)->has_work = false;
    struct weir_error error = {""};
    enum weir_status status = WEIR_RETRY;
    if (roll(walk, 6) == 0)
        bend(walk);
    for (int i = 0; i < 3 && status == WEIR_RETRY; i++)
        status =
            walk->f->store->ops->finish_work(walk->f->store, lane_name(walk->f), work + first, count - first, &error);
    cr_assert_eq(status, WEIR_OK, "%s", error.text);
}

static void compare_with_model(struct random_walk *walk)
{
    struct picture loaded = {0}, scanned = {0};
    uint64_t epoch = walk->state.epoch;
    take(walk->f, &loaded);
    memset(walk->numbers, 0, sizeof walk->numbers);
    scan(walk->f, &scanned);
    cr_assert_gt(loaded.state.epoch, epoch);
    walk->state.epoch = loaded.state.epoch;
    cr_assert_eq(memcmp(&loaded.state, &walk->state, sizeof(loaded.state)), 0);
    cr_assert_eq(loaded.count, walk->model.count);
    cr_assert_eq(scanned.count, walk->model.count);
    for (size_t i = 0; i < walk->model.count; i++) {
        const struct row *row = &walk->model.rows[i];
        struct weir_slice key = weir_slice_of(row->key, row->key_length);
        const struct row *load = find_row(&loaded, row->start, row->end, key);
        const struct row *seen = find_row(&scanned, row->start, row->end, key);
        cr_assert(load && seen && same_total(&load->total, &row->total) && same_total(&seen->total, &row->total));
        cr_assert(load->is_closed == row->is_closed && seen->is_closed == row->is_closed);
        cr_assert_eq(seen->has_work, row->has_work);
        cr_assert_eq(load->unique_length, row->unique_length);
        cr_assert(row->unique_length == 0 || memcmp(load->unique, row->unique, row->unique_length) == 0);
    }
    cr_assert_eq(loaded.ids_count, walk->model.ids_count);
    for (size_t i = 0; i < loaded.ids_count; i++) {
        size_t m = 0;
        while (m < walk->model.ids_count && walk->model.ids[m].bucket != loaded.ids[i].bucket)
            m++;
        cr_assert(m < walk->model.ids_count && walk->model.ids[m].length == loaded.ids[i].length
                  && memcmp(walk->model.ids[m].ids, loaded.ids[i].ids, loaded.ids[i].length) == 0);
    }
    clear(&loaded);
    clear(&scanned);
}

CONTRACT(random_histories_match_a_model)
{
    for (uint64_t seed = 1; seed <= 25; seed++) {
        struct random_walk walk = {.f = f, .seed = seed};
        snprintf(f->lane, sizeof(f->lane), "walk-%d-%d:%d", (int)getpid(), (int)time(NULL), (int)seed);
        for (size_t i = 0; i < sizeof(walk.fingerprints); i++)
            walk.fingerprints[i] = (char)roll(&walk, 256);
        if (f->is_redis && server.pid)
            walk.bender = redisConnect("127.0.0.1", server.port);
        take(f, &walk.model);
        walk.state = walk.model.state;
        for (int step = 0; step < 60; step++) {
            uint64_t what = roll(&walk, 10);
            if (what < 6)
                walk_write(&walk);
            else if (what < 9)
                walk_rate(&walk);
            else
                compare_with_model(&walk);
        }
        compare_with_model(&walk);
        clear(&walk.model);
        if (walk.bender)
            redisFree(walk.bender);
    }
}

/* 2. Large cuts. */

/* Rates all there is, in batches; every item must come exactly once. */
static size_t drain(struct fixture *f, size_t batch)
{
    struct weir_work *work = calloc(batch, sizeof(*work));
    size_t total = 0;
    for (size_t count; (count = read_work(f, work, batch)) > 0; total += count)
        finish(f, work, count);
    free(work);
    return total;
}

static size_t read_more(struct fixture *f, struct weir_work_place *place, struct weir_work *work, size_t max)
{
    struct weir_error error = {""};
    size_t count = SIZE_MAX;
    cr_assert_eq(f->store->ops->read_more_work(f->store, lane_name(f), place, max, work, &count, &error), WEIR_OK, "%s",
                 error.text);
    cr_assert_leq(count, max);
    return count;
}

static size_t number_of(const struct weir_work *work)
{
    return strtoul(work->window.series_key.data + sizeof("series number ") - 1, NULL, 10);
}

/* Spans of every size that Redis keeps in its own way, and lots that end within one. */
CONTRACT(reading_on_passes_by_what_is_under_way)
{
    enum { WINDOWS = 9000, LOT = 70 };
    static bool is_seen[WINDOWS], is_rated[WINDOWS];
    struct picture picture = {0};
    struct weir_work work[LOT];
    struct weir_work_place place = {0};
    struct large large;
    struct cut cut;
    size_t seen = 0, rated = 0;
    make_large(&large, WINDOWS, 1, 3);
    for (size_t i = 0; i < WINDOWS; i++)
        if (i % 7 == 0)
            large.windows[i].window.start = large.windows[i].window.end - NS * (1 + (int64_t)i % 5);
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 1000);
    cut.cut.windows = large.windows;
    cut.cut.window_count = WINDOWS;
    must_write(f, &cut, &picture.state);
    for (size_t count = LOT; count == LOT; seen += count) {
        count = read_more(f, &place, work, LOT);
        for (size_t i = 0; i < count; i++) {
            cr_assert(!is_seen[number_of(&work[i])], "window %zu came twice", number_of(&work[i]));
            is_seen[number_of(&work[i])] = true;
        }
    }
    cr_assert_gt(seen, WINDOWS / 2 * 9 / 10, "only %zu were read", seen);
    cr_assert_eq(read_more(f, &place, work, LOT), 0, "nothing is behind the end");
    place = (struct weir_work_place){0};
    for (size_t count = LOT, lot = 0; count == LOT; lot++) { /* what is finished meanwhile hides no other */
        count = read_more(f, &place, work, LOT);
        for (size_t i = 0; i < count && lot % 2; i++)
            is_rated[number_of(&work[i])] = true;
        finish(f, work, lot % 2 ? count : 0);
    }
    for (size_t count; (count = read_work(f, work, LOT)) > 0; finish(f, work, count))
        for (size_t i = 0; i < count; i++) {
            cr_assert(!is_rated[number_of(&work[i])], "window %zu is off the list", number_of(&work[i]));
            is_rated[number_of(&work[i])] = true;
        }
    for (size_t i = 0; i < WINDOWS; i++)
        rated += is_rated[i];
    cr_assert_eq(rated, WINDOWS / 2);
    free_large(&large);
    clear(&picture);
}

/* Logs over several segments, ids and fingerprints across their ends, and more items than one packed argument holds. */
CONTRACT(a_cut_of_two_million_windows_is_one_cut)
{
#ifdef __SANITIZE_ADDRESS__
    enum { WINDOWS = 200000, IDS = 2500001, FINGERPRINTS = 1000001 };
#else
    enum { WINDOWS = 2000000, IDS = 2500001, FINGERPRINTS = 1000001 };
#endif
    struct picture picture = {0};
    struct large large;
    make_large(&large, WINDOWS, (size_t)IDS * WEIR_ID_BYTES, 3);
    large.windows[7].unique = weir_slice_of(large.bytes, (size_t)FINGERPRINTS * WEIR_UNIQUE_BYTES);
    take(f, &picture);
    struct weir_cut_ids ids[] = {{1, weir_slice_of(large.bytes, (size_t)(IDS - 1) * WEIR_ID_BYTES)},
                                 {2, weir_slice_of(large.bytes, WEIR_ID_BYTES)},
                                 {1, weir_slice_of(large.bytes + 7, WEIR_ID_BYTES)}};
    struct cut cut;
    begin_cut(f, &cut, &picture.state, 1000);
    cut.cut.windows = large.windows;
    cut.cut.window_count = WINDOWS;
    cut.cut.ids = ids;
    cut.cut.ids_count = 3;
    must_write(f, &cut, &picture.state);
    struct tally expected = {0}, loaded = {0};
    for (size_t i = 0; i < WINDOWS; i++)
        tally_window(&expected, &large.windows[i].window, large.windows[i].is_closed, large.windows[i].unique);
    for (size_t i = 0; i < 3; i++)
        tally_ids(&expected, ids[i].bucket, ids[i].ids);
    struct weir_lane_loader loader = {&loaded, tally_window, tally_ids};
    struct weir_error error = {""};
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &picture.state, &error), WEIR_OK,
                 "%s", error.text);
    cr_assert_eq(memcmp(&loaded, &expected, sizeof(loaded)), 0,
                 "%" PRIu64 " windows, %" PRIu64 " ids, %" PRIu64 " unique", loaded.windows, loaded.ids, loaded.unique);
    cr_assert_eq(drain(f, 50000), WINDOWS / 2);
    free_large(&large);
    clear(&picture);
}

CONTRACT(work_is_drained_in_small_batches_and_many_spans)
{
    enum { WINDOWS = 30000 };
    struct picture picture = {0};
    struct large large;
    make_large(&large, WINDOWS, 1, 997);
    take(f, &picture);
    struct cut cut;
    begin_cut(f, &cut, &picture.state, 1000);
    cut.cut.windows = large.windows;
    cut.cut.window_count = WINDOWS;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(drain(f, 100), WINDOWS / 2);
    begin_cut(f, &cut, &picture.state, 2000);
    cut.cut.forget_windows_below = cut.cut.state.forgotten = INT64_MAX;
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, f->is_redis ? 0 : WINDOWS);
    free_large(&large);
    clear(&picture);
}
