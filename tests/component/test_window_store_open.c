/* The log of open windows in Redis: that it stays short, that nothing is lost with its front, what damage to it does,
 * and lanes from before there was one. */
#include <inttypes.h>
#include <pthread.h>
#include <stdatomic.h>

#include "window_store_twins.h"

TestSuite(window_store_open, .fini = stop_server);

enum { WINDOWS = 20, KEY_BYTES = 20000 };

/* Long keys: a few cuts are a segment. */
static struct weir_slice long_key(int number)
{
    static char keys[WINDOWS][KEY_BYTES];
    snprintf(keys[number], sizeof keys[number], "%d", number);
    return weir_slice_of(keys[number], KEY_BYTES);
}

static void put_windows(struct cut *cut, int from, int to, uint64_t events)
{
    for (int i = from; i < to; i++)
        put_window(cut, long_key(i), i % 3, events);
}

static long long bytes_of_log(redisContext *context, size_t *ret_segments)
{
    long long bytes = 0;
    redisReply *keys = redisCommand(context, "KEYS *:open:*");
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *length = redisCommand(context, "STRLEN %b", keys->element[i]->str, keys->element[i]->len);
        bytes += length->integer;
        freeReplyObject(length);
    }
    *ret_segments = keys->elements;
    freeReplyObject(keys);
    return bytes;
}

static void check_all(struct fixture *f, struct picture *picture, uint64_t events)
{
    struct picture scanned = {0};
    scan(f, &scanned);
    take(f, picture);
    cr_assert_eq(picture->count, WINDOWS);
    cr_assert_eq(scanned.count, WINDOWS);
    for (size_t i = 0; i < WINDOWS; i++) {
        cr_assert_eq(picture->rows[i].total.events, events);
        cr_assert_eq(scanned.rows[i].total.events, events);
        cr_assert(!picture->rows[i].is_closed && !scanned.rows[i].is_closed && !scanned.rows[i].has_work);
    }
    clear(&scanned);
}

Test(window_store_open, rounds_keep_the_log_short)
{
    enum { CUTS = 60, ROUND = 10 };
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    size_t segments;
    take(f, &picture);
    for (int i = 1; i <= CUTS; i++) {
        begin_cut(f, &cut, &picture.state, i);
        put_windows(&cut, 0, WINDOWS, (uint64_t)i);
        cut.cut.begins_round = i % ROUND == 1;
        cut.cut.ends_round = i % ROUND == 0;
        must_write(f, &cut, &picture.state);
        long long most = 4 * ROUND * WINDOWS * (KEY_BYTES + 20LL) + 2 * (1 << 20);
        cr_assert_leq(bytes_of_log(context, &segments), most, "after %d cuts", i);
        struct picture scanned = {0};
        scan(f, &scanned);
        cr_assert(scanned.count == WINDOWS && scanned.rows[0].total.events == (unsigned)i);
        clear(&scanned);
        if (i % 25 == 0)
            check_all(f, &picture, (uint64_t)i); /* after which nobody knows where the round began */
    }
    check_all(f, &picture, CUTS);
    cr_assert_leq(segments, 2 * ROUND * WINDOWS * (KEY_BYTES + 20LL) / (1 << 20) + 2);
    clear(&picture);
    close_private(f, context);
}

/* A round is known to be whole only to who knows where it began, which is forgotten with the connection. */
Test(window_store_open, a_round_whose_begin_is_not_known_drops_nothing)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_error error;
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 1);
    put_windows(&cut, 0, WINDOWS / 2, 4);
    cut.cut.begins_round = true;
    must_write(f, &cut, &picture.state);
    begin_cut(f, &cut, &picture.state, 2);
    put_windows(&cut, WINDOWS / 2, WINDOWS, 4);
    cut.cut.ends_round = true;
    tell(context, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_RETRY);
    must_write(f, &cut, &picture.state);
    check_all(f, &picture, 4);
    clear(&picture);
    close_private(f, context);
}

/* The same cut twice, as after an answer that was lost; and a round in one cut. */
Test(window_store_open, a_cut_that_is_sent_again_adds_nothing)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    size_t segments;
    take(f, &picture);
    for (int i = 1; i <= 3; i++) {
        begin_cut(f, &cut, &picture.state, i);
        put_windows(&cut, 0, WINDOWS, (uint64_t)i);
        cut.cut.begins_round = cut.cut.ends_round = true;
        cr_assert_eq(write_cut(f, &cut), WEIR_OK);
        long long bytes = bytes_of_log(context, &segments);
        must_write(f, &cut, &picture.state);
        cr_assert_eq(bytes_of_log(context, &segments), bytes);
    }
    check_all(f, &picture, 3);
    clear(&picture);
    close_private(f, context);
}

/* A window that was closed stays closed, whatever the log still says of it, and is there once. */
Test(window_store_open, a_closed_window_is_no_open_one)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0}, scanned = {0};
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 1);
    put_windows(&cut, 0, 2, 4);
    must_write(f, &cut, &picture.state);
    begin_cut(f, &cut, &picture.state, 2);
    put_windows(&cut, 0, 1, 5);
    cut.windows[0].is_closed = true;
    must_write(f, &cut, &picture.state);
    scan(f, &scanned);
    take(f, &picture);
    struct picture *both[] = {&picture, &scanned};
    for (size_t i = 0; i < 2; i++) {
        cr_assert_eq(both[i]->count, 2);
        const struct row *closed = find_row(both[i], 0, MINUTE * NS, long_key(0));
        const struct row *open = find_row(both[i], MINUTE * NS, 2 * MINUTE * NS, long_key(1));
        cr_assert(closed && closed->is_closed && closed->total.events == 5);
        cr_assert(open && !open->is_closed && open->total.events == 4);
    }
    begin_cut(f, &cut, &picture.state, 3); /* what is forgotten does not come back either */
    cut.cut.forget_windows_below = cut.cut.state.forgotten = MINUTE * NS;
    struct weir_work work[2];
    cr_assert_eq(read_work(f, work, 2), 1);
    finish(f, work, 1);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert(picture.count == 1 && !picture.rows[0].is_closed);
    clear(&picture);
    clear(&scanned);
    close_private(f, context);
}

Test(window_store_open, damage_is_told)
{
    static const char *const damage[] = {
        "SETRANGE weir:{%s}:open:0 16 x",       /* bytes of a block */
        "SETRANGE weir:{%s}:open:0 8 x",        /* a span that is not there */
        "SETRANGE weir:{%s}:open:0 19 \x01",    /* whether its records have numbers */
        "SETRANGE weir:{%s}:open:0 24 \xff",    /* length of a value */
        "SETRANGE weir:{%s}:open:0 24 \x05",    /* whether a key comes before it */
        "SETRANGE weir:{%s}:open:0 25 xx",      /* length of a key */
        "SETRANGE weir:{%s}:open:0 20027 \xff", /* a value */
        "SET weir:{%s}:open:0 short",
        "DEL weir:{%s}:open:0",
        "HINCRBY weir:{%s}:logs open 1",
        "HSET weir:{%s}:logs open_from 1",
        "HSET weir:{%s}:logs open_from 10000000",
    };
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    for (size_t i = 0; i < sizeof damage / sizeof *damage; i++) {
        struct picture picture = {0};
        struct weir_lane_state state;
        struct weir_error error = {""};
        struct cut cut;
        tell(context, "FLUSHALL");
        take(f, &picture);
        begin_cut(f, &cut, &picture.state, 1);
        put_windows(&cut, 0, WINDOWS, 4);
        must_write(f, &cut, &picture.state);
        freeReplyObject(redisCommand(context, damage[i], f->lane));
        struct tally loaded = {0};
        struct weir_lane_loader loader = {&loaded, tally_window, tally_ids};
        cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &state, &error), WEIR_FATAL,
                     "%s", damage[i]);
        cr_assert(strstr(error.text, "changed by hand"), "%s: %s", damage[i], error.text);
        struct picture scanned = {0};
        cr_assert_eq(f->store->ops->scan_windows(f->store, lane_name(f), on_scan, &scanned, &error), WEIR_FATAL, "%s",
                     damage[i]);
        clear(&scanned);
        clear(&picture);
    }
    close_private(f, context);
}

/* What is told once is a few bytes from then on, in whichever cut; until the next round, or owner. */
Test(window_store_open, a_number_stands_for_a_key)
{
    enum { CUTS = 12, MOST = WINDOWS * (5 + 8) + 3 * 20 };
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    size_t segments;
    take(f, &picture);
    for (int i = 0; i < CUTS; i++) {
        long long before = bytes_of_log(context, &segments);
        begin_cut(f, &cut, &picture.state, i + 1);
        cut.cut.begins_round = i == 6;
        cut.cut.ends_round = i == 7;
        put_windows(&cut, 0, WINDOWS, 300 + (unsigned)i * 5);
        for (uint32_t n = 0; n < WINDOWS; n++) {
            cut.windows[n].number = n + 1;
            if (i % 3)
                cut.windows[n].window.series_key = weir_slice_of(NULL, 0);
        }
        must_write(f, &cut, &picture.state);
        if (i % 3)
            cr_assert_leq(bytes_of_log(context, &segments), before + MOST);
        if (i % 3 == 2)
            check_all(f, &picture, 300 + (unsigned)i * 5); /* takes it: who has it now tells all again */
    }
    clear(&picture);
    close_private(f, context);
}

/* A number of a window that is closed goes to another one, which may be of the same end or not. */
Test(window_store_open, a_number_goes_to_another_window)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    for (int i = 1; i <= WINDOWS; i++) {
        begin_cut(f, &cut, &picture.state, 3 * i);
        put_window(&cut, long_key(i - 1), i % 3, 10)->number = 7;
        put_window(&cut, weir_slice_text("stays"), 1, 10 * (unsigned)i)->number = 8;
        if (i > 1)
            cut.windows[1].window.series_key = weir_slice_of(NULL, 0);
        must_write(f, &cut, &picture.state);
        begin_cut(f, &cut, &picture.state, 3 * i + 1);
        put_window(&cut, weir_slice_of(NULL, 0), i % 3, 10 + (unsigned)i)->number = 7;
        must_write(f, &cut, &picture.state);
        begin_cut(f, &cut, &picture.state, 3 * i + 2);
        put_window(&cut, long_key(i - 1), i % 3, 20 + (unsigned)i)->is_closed = true;
        if (i < WINDOWS)
            must_write(f, &cut, &picture.state);
    }
    take(f, &picture);
    cr_assert_eq(picture.count, WINDOWS + 1);
    for (int i = 1; i <= WINDOWS; i++) {
        const struct row *row = find_row(&picture, i % 3 * MINUTE * NS, (i % 3 + 1) * MINUTE * NS, long_key(i - 1));
        cr_assert(row && row->is_closed == (i < WINDOWS));
        cr_assert_eq(row->total.events, (i < WINDOWS ? 20u : 10u) + (unsigned)i);
    }
    const struct row *stays = find_row(&picture, MINUTE * NS, 2 * MINUTE * NS, weir_slice_text("stays"));
    cr_assert(stays && stays->total.events == 10 * WINDOWS);
    clear(&picture);
    close_private(f, context);
}

static enum weir_status load_numbers(struct fixture *f, redisContext *context, uint32_t told, uint32_t meant,
                                     int minute)
{
    struct picture picture = {0};
    struct weir_lane_state state;
    struct weir_error error = {""};
    struct tally loaded = {0};
    struct weir_lane_loader loader = {&loaded, tally_window, tally_ids};
    struct cut cut;
    tell(context, "FLUSHALL");
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 1);
    put_window(&cut, weir_slice_text("a"), 1, 10)->number = told;
    put_window(&cut, weir_slice_text("b"), 2, 10)->number = told + 1;
    must_write(f, &cut, &picture.state);
    begin_cut(f, &cut, &picture.state, 2);
    put_window(&cut, weir_slice_of(NULL, 0), minute, 10)->number = meant;
    must_write(f, &cut, &picture.state);
    clear(&picture);
    return f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &state, &error);
}

Test(window_store_open, a_number_that_was_not_told_is_damage)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    cr_assert_eq(load_numbers(f, context, 1, 1, 1), WEIR_OK);
    cr_assert_eq(load_numbers(f, context, UINT32_MAX - 1, UINT32_MAX, 2), WEIR_OK);
    cr_assert_eq(load_numbers(f, context, 1, 3, 1), WEIR_FATAL);
    cr_assert_eq(load_numbers(f, context, 1, 1, 2), WEIR_FATAL); /* of another end */
    close_private(f, context);
}

/* As format 4 wrote it: records have their keys, and no numbers. */
Test(window_store_open, a_log_without_numbers_goes_on)
{
    enum { BLOCK = 20 + 2 * 7 };
    static const char records[] = {1, 0, 'a', 3, 0, 1, 9, 1, 0, 'b', 3, 0, 1, 9}; /* 9 events each, open */
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    char block[BLOCK];
    memcpy(block, (const int64_t[]){0, MINUTE * NS}, 16);
    memcpy(block + 16, (const uint32_t[]){sizeof records}, 4);
    memcpy(block + 20, records, sizeof records);
    take(f, &picture);
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 4", f->lane));
    freeReplyObject(redisCommand(context, "SADD weir:{%s}:spans 0:60000000000", f->lane));
    freeReplyObject(redisCommand(context, "APPEND weir:{%s}:open:0 %b", f->lane, block, sizeof block));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:logs open %d", f->lane, BLOCK));
    for (int step = 0; step < 4; step++) {
        struct picture scanned = {0};
        scan(f, &scanned);
        take(f, &picture);
        cr_assert(picture.count == 2 && scanned.count == 2);
        const struct row *a = find_row(&picture, 0, MINUTE * NS, weir_slice_text("a"));
        const struct row *b = find_row(&picture, 0, MINUTE * NS, weir_slice_text("b"));
        cr_assert(a && b && b->total.events == 9 && !a->is_closed && !b->is_closed);
        cr_assert_eq(a->total.events, 9 + 2 * (unsigned)step);
        begin_cut(f, &cut, &picture.state, 2 * step + 1);
        put_window(&cut, weir_slice_text("a"), 0, 10 + 2 * (unsigned)step)->number = 1;
        must_write(f, &cut, &picture.state);
        begin_cut(f, &cut, &picture.state, 2 * step + 2);
        put_window(&cut, weir_slice_of(NULL, 0), 0, 11 + 2 * (unsigned)step)->number = 1;
        must_write(f, &cut, &picture.state);
        clear(&scanned);
    }
    clear(&picture);
    close_private(f, context);
}

/* As weir wrote a lane when open windows had fields as well. */
Test(window_store_open, a_lane_of_fields_goes_on)
{
    static const char packed[] = {0, 1, 9}; /* 9 events, open */
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 3", f->lane));
    freeReplyObject(redisCommand(context, "SADD weir:{%s}:spans 0:60000000000", f->lane));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:windows:0:60000000000 a %b b %b", f->lane, packed,
                                 sizeof packed, packed, sizeof packed));
    for (int step = 0; step < 3; step++) {
        take(f, &picture);
        cr_assert_eq(picture.count, 2);
        const struct row *a = find_row(&picture, 0, MINUTE * NS, weir_slice_text("a"));
        const struct row *b = find_row(&picture, 0, MINUTE * NS, weir_slice_text("b"));
        cr_assert(a && b && b->total.events == 9 && !b->is_closed);
        cr_assert_eq(a->total.events, 9 + (unsigned)step);
        cr_assert_eq(a->is_closed, step == 2);
        begin_cut(f, &cut, &picture.state, step + 1);
        put_window(&cut, weir_slice_text("a"), 0, 10 + (unsigned)step)->is_closed = step == 1;
        if (step < 2)
            must_write(f, &cut, &picture.state);
    }
    clear(&picture);
    close_private(f, context);
}

/* Somebody reads while the owner lets the log's front go. */
struct owner {
    struct fixture f;
    struct weir_lane_state state;
    atomic_bool is_over;
};

static void *write_rounds(void *context)
{
    struct owner *owner = context;
    static struct cut cut;
    for (int i = 2; !atomic_load(&owner->is_over); i++) {
        begin_cut(&owner->f, &cut, &owner->state, i);
        put_windows(&cut, 0, WINDOWS, (uint64_t)i);
        cut.cut.begins_round = i % 2;
        cut.cut.ends_round = i % 2 == 0;
        must_write(&owner->f, &cut, &owner->state);
    }
    return NULL;
}

Test(window_store_open, a_scan_goes_on_when_the_front_goes)
{
    enum { SCANS = 100 };
    static struct owner owner;
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_error error;
    struct cut cut;
    pthread_t thread;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 1);
    put_windows(&cut, 0, WINDOWS, 1);
    must_write(f, &cut, &picture.state);
    owner.f = *f;
    owner.state = picture.state;
    cr_assert_eq(weir_store_redis_open(f->url, &f->store, &error), WEIR_OK);
    cr_assert_eq(pthread_create(&thread, NULL, write_rounds, &owner), 0);
    /* Here a round takes no longer than a scan, so the owner may win several times on end; that is no damage. */
    for (int whole = 0, tries = 0; whole < SCANS; tries++) {
        struct picture scanned = {0};
        enum weir_status status = f->store->ops->scan_windows(f->store, lane_name(f), on_scan, &scanned, &error);
        cr_assert(status == WEIR_OK || (status == WEIR_RETRY && strstr(error.text, "faster than it can be read")), "%s",
                  error.text);
        cr_assert(status != WEIR_OK || scanned.count == WINDOWS);
        cr_assert_lt(tries, 100 * SCANS);
        whole += status == WEIR_OK;
        clear(&scanned);
    }
    atomic_store(&owner.is_over, true);
    pthread_join(thread, NULL);
    weir_window_store_free(owner.f.store);
    clear(&picture);
    close_private(f, context);
}
