/* The window store on Redis alone: what only a server does. */
#include <inttypes.h>
#include <pthread.h>

#include "window_store_twins.h"

TestSuite(window_store_redis, .fini = stop_server);

static long long ask(redisContext *context, const char *command)
{
    redisReply *reply = redisCommand(context, command);
    cr_assert(reply && reply->type == REDIS_REPLY_INTEGER);
    long long answer = reply->integer;
    freeReplyObject(reply);
    return answer;
}

/* Everything in the database, as one number. */
static uint64_t digest_of_database(redisContext *context)
{
    redisReply *keys = redisCommand(context, "KEYS *");
    uint64_t digest = 0;
    for (size_t i = 0; i < keys->elements; i++) {
        redisReply *dump = redisCommand(context, "DUMP %b", keys->element[i]->str, keys->element[i]->len);
        digest += weir_hash64(dump->str, dump->len, weir_hash64(keys->element[i]->str, keys->element[i]->len, 0));
        freeReplyObject(dump);
    }
    freeReplyObject(keys);
    return digest;
}

static void full_cut(struct fixture *f, struct cut *cut, const struct weir_lane_state *state, int64_t next_offset)
{
    begin_cut(f, cut, state, next_offset);
    struct weir_cut_window *window = put_window(cut, weir_slice_text("k"), next_offset, 5);
    window->is_closed = true;
    window->unique = weir_slice_of("0123456789abcdef", 16);
    put_window(cut, weir_slice_text("k"), 0, 5);
    put_ids(cut, next_offset, "123456789012012", WEIR_ID_BYTES);
}

Test(window_store_redis, out_of_memory_refuses_the_whole_cut)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    struct weir_error error;
    struct weir_work work[4];
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    cr_assert_eq(read_work(f, work, 4), 1);
    uint64_t before = digest_of_database(context);
    tell(context, "CONFIG SET maxmemory 1");
    full_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_ids_below = 15;
    cut.cut.forget_windows_below = INT64_MAX;
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "maxmemory"), "%s", error.text);
    cr_assert_eq(digest_of_database(context), before, "a refused cut wrote something");
    finish(f, work, 1); /* taking off the list needs no memory */
    tell(context, "CONFIG SET maxmemory 0");
    must_write(f, &cut, &picture.state);
    cr_assert_eq(read_work(f, work, 4), 1);
    clear(&picture);
    close_private(f, context);
}

/* Whatever maxmemory is, from where nothing fits to where everything does: all of a cut is there, or nothing. */
Test(window_store_redis, memory_that_ends_anywhere_leaves_whole_cuts)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct large large;
    struct weir_error error;
    int written = 0, refused = 0;
    make_large(&large, 20000, 1 << 20, 5);
    take(f, &picture);
    struct cut cut;
    full_cut(f, &cut, &picture.state, 1);
    must_write(f, &cut, &picture.state);
    redisReply *info = redisCommand(context, "INFO memory");
    long long used = strtoll(strstr(info->str, "used_memory:") + 12, NULL, 10);
    freeReplyObject(info);
    for (int i = 0; i < 24; i++) {
        redisReply *reply = redisCommand(context, "CONFIG SET maxmemory %lld", used + (i - 4) * 524288LL);
        freeReplyObject(reply);
        uint64_t before = digest_of_database(context);
        begin_cut(f, &cut, &picture.state, picture.state.next_offset + 1);
        cut.cut.windows = large.windows;
        cut.cut.window_count = large.count;
        put_ids(&cut, i, large.bytes, (1 << 20) / WEIR_ID_BYTES * WEIR_ID_BYTES);
        enum weir_status status = f->store->ops->write_cut(f->store, &cut.cut, &error);
        cr_assert(status == WEIR_OK || (status == WEIR_RETRY && strstr(error.text, "maxmemory")), "%s", error.text);
        if (status == WEIR_OK)
            picture.state = cut.cut.state;
        else
            cr_assert_eq(digest_of_database(context), before, "part of a cut at %d", i);
        written += status == WEIR_OK;
        refused += status == WEIR_RETRY;
    }
    cr_assert(written > 0 && refused > 0, "%d written, %d refused", written, refused);
    tell(context, "CONFIG SET maxmemory 0");
    int64_t next_offset = picture.state.next_offset;
    struct tally loaded = {0};
    struct weir_lane_loader loader = {&loaded, tally_window, tally_ids};
    f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &picture.state, &error);
    cr_assert_eq(picture.state.next_offset, next_offset);
    cr_assert_eq(loaded.ids, 1 + (uint64_t)written * ((1 << 20) / WEIR_ID_BYTES));
    free_large(&large);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, a_wrong_type_anywhere_refuses_the_whole_cut)
{
    static const char *const spoiled[] = {"lane",
                                          "spans",
                                          "logs",
                                          "working",
                                          "windows:600000000000:660000000000",
                                          "open:0",
                                          "work:600000000000:660000000000",
                                          "unique:600000000000:660000000000:0",
                                          "seen:10:0"};
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct weir_error error;
    for (size_t i = 0; i < sizeof(spoiled) / sizeof(*spoiled); i++) {
        struct picture picture = {0};
        struct cut cut;
        tell(context, "FLUSHALL");
        take(f, &picture);
        redisReply *reply = redisCommand(context, "DEL weir:{%s}:%s", f->lane, spoiled[i]);
        freeReplyObject(reply);
        reply = redisCommand(context, "LPUSH weir:{%s}:%s x", f->lane, spoiled[i]);
        freeReplyObject(reply);
        uint64_t before = digest_of_database(context);
        full_cut(f, &cut, &picture.state, 10);
        cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_FATAL, "%s", spoiled[i]);
        cr_assert(strstr(error.text, "holds something else"), "%s", error.text);
        cr_assert_eq(digest_of_database(context), before, "%s", spoiled[i]);
        clear(&picture);
    }
    close_private(f, context);
}

/* Redis falls back to before a take, another worker takes the lane, and the first one, a zombie by now, still writes.
 * Its cut fits in every number that a count of takes and cuts would have. */
Test(window_store_redis, an_epoch_that_was_lost_is_not_given_out_again)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct weir_window_store *zombie = NULL;
    struct weir_lane_state lost, state;
    struct weir_error error;
    struct cut cut;
    cr_assert_eq(weir_store_redis_open(f->url, &zombie, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(zombie->ops->take_lane(zombie, lane_name(f), secret, NULL, &lost, &error), WEIR_OK);
    freeReplyObject(redisCommand(context, "FLUSHALL"));
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_OK);
    begin_cut(f, &cut, &lost, 10);
    cr_assert_eq(zombie->ops->write_cut(zombie, &cut.cut, &error), WEIR_FENCED);
    weir_window_store_free(zombie);
    close_private(f, context);
}

Test(window_store_redis, another_format_is_refused)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_lane_state state;
    struct weir_error error;
    struct weir_work work[1];
    size_t count;
    struct cut cut;
    take(f, &picture);
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 6", f->lane));
    full_cut(f, &cut, &picture.state, 10);
    uint64_t before = digest_of_database(context);
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "another format"), "%s", error.text);
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_FATAL);
    cr_assert_eq(f->store->ops->read_work(f->store, lane_name(f), 1, work, &count, &error), WEIR_FATAL);
    cr_assert_eq(f->store->ops->list_lanes(f->store, NULL, on_lane, &(struct listed){.only = ""}, &error), WEIR_FATAL);
    cr_assert_eq(digest_of_database(context), before);
    clear(&picture);
    close_private(f, context);
}

/* As weir wrote a lane before it noted what it had forgotten. */
Test(window_store_redis, a_lane_without_forgotten_goes_on)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_lane_state read;
    struct weir_error error;
    struct cut cut;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "HDEL weir:{%s}:lane forgotten", f->lane));
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &read, &error), WEIR_OK, "%s", error.text);
    take(f, &picture);
    cr_assert_eq(read.forgotten, 0);
    cr_assert_eq(picture.state.forgotten, 0);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.state.forgotten = 1767610799123456789;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(f->store->ops->read_lane(f->store, lane_name(f), &read, &error), WEIR_OK, "%s", error.text);
    cr_assert_eq(read.forgotten, 1767610799123456789);
    clear(&picture);
    close_private(f, context);
}

/* As weir wrote a lane before there were retractions: the first owner of this weir goes on with it. */
Test(window_store_redis, a_lane_of_the_old_format_goes_on)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    char value[41] = {7}, ids[12 * 200000];
    value[8] = 21;
    value[40] = 1;
    for (uint32_t i = 0; i < sizeof ids; i++)
        ids[i] = (char)(i * 31 + i / 12);
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "HDEL weir:{%s}:lane retracted stamp gaps forgotten", f->lane));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 1", f->lane));
    freeReplyObject(redisCommand(context, "SADD weir:{%s}:spans 0:60", f->lane));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:windows:0:60 k %b", f->lane, value, sizeof value));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:logs ids:3 %d", f->lane, (int)sizeof ids));
    freeReplyObject(redisCommand(context, "SET weir:{%s}:ids:3:0 %b", f->lane, ids, sizeof ids));
    struct listed listed = {.only = f->lane};
    struct weir_error error;
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed, &error);
    cr_assert_eq(listed.count, 1, "raters read it before it is taken");
    take(f, &picture);
    cr_assert_gt(picture.state.epoch, 1);
    cr_assert_eq(picture.state.next_offset, 10);
    cr_assert_eq(picture.state.stamp, -1);
    cr_assert_eq(picture.state.gaps.count, 0);
    cr_assert_eq(picture.state.counts.retracted, 0);
    cr_assert_eq(memcmp(picture.state.secret, secret, sizeof(secret)), 0);
    redisReply *reply = redisCommand(context, "HGET weir:{%s}:lane format", f->lane);
    cr_assert_str_eq(reply->str, "5");
    freeReplyObject(reply);
    cr_assert_eq(picture.count, 1);
    cr_assert(picture.rows[0].total.events == 7 && picture.rows[0].total.value.e12 == 21 && picture.rows[0].is_closed);
    cr_assert_eq(picture.rows[0].total.retracted, 0);
    cr_assert_eq(picture.ids[0].length, sizeof ids / 12 * WEIR_ID_BYTES);
    for (size_t i = 0; i < sizeof ids / 12; i++) {
        struct weir_id_mark mark;
        uint64_t id = weir_id_load(picture.ids[0].ids + i * WEIR_ID_BYTES, &mark);
        cr_assert(memcmp(&id, ids + i * 12, 8) == 0 && memcmp(&mark.content, ids + i * 12 + 8, 4) == 0);
        cr_assert_eq(mark.state, WEIR_ID_COUNTED_UNKNOWN);
    }
    begin_cut(f, &cut, &picture.state, 20);
    put_window(&cut, weir_slice_text("k"), 5, 5);
    put_ids(&cut, 3, "abcdefghijkljkl", WEIR_ID_BYTES);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 2);
    cr_assert_eq(picture.ids[0].length, (sizeof ids / 12 + 1) * WEIR_ID_BYTES);
    begin_cut(f, &cut, &picture.state, 30);
    cut.cut.forget_ids_below = 4;
    must_write(f, &cut, &picture.state);
    redisReply *left = redisCommand(context, "KEYS *:3:0");
    cr_assert_eq(left->elements, 0, "old logs are forgotten like new ones");
    freeReplyObject(left);
    clear(&picture);
    close_private(f, context);
}

/* As weir wrote a lane before totals were packed; and a Redis that goes back to such a lane is one that went back. */
Test(window_store_redis, a_lane_of_plain_totals_goes_on)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    struct weir_error error;
    unsigned char value[49];
    weir_window_total_store(&(struct weir_window_total){.events = 7, .value.e12 = 21, .retracted = 3}, value);
    value[48] = 1;
    take(f, &picture);
    begin_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:lane format 2", f->lane));
    freeReplyObject(redisCommand(context, "SADD weir:{%s}:spans 0:60", f->lane));
    freeReplyObject(redisCommand(context, "HSET weir:{%s}:windows:0:60 k %b", f->lane, value, sizeof value));
    struct listed listed = {.only = f->lane};
    f->store->ops->list_lanes(f->store, NULL, on_lane, &listed, &error);
    cr_assert_eq(listed.count, 1, "raters read it before it is taken");
    begin_cut(f, &cut, &picture.state, 20);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "nothing is written into it before it is taken");
    take(f, &picture);
    redisReply *reply = redisCommand(context, "HGET weir:{%s}:lane format", f->lane);
    cr_assert_str_eq(reply->str, "5");
    freeReplyObject(reply);
    cr_assert_eq(picture.count, 1);
    cr_assert(picture.rows[0].total.events == 7 && picture.rows[0].total.value.e12 == 21 && picture.rows[0].is_closed);
    cr_assert_eq(picture.rows[0].total.retracted, 3);
    begin_cut(f, &cut, &picture.state, 20);
    put_window(&cut, weir_slice_text("k"), 5, 5);
    must_write(f, &cut, &picture.state);
    take(f, &picture);
    cr_assert_eq(picture.count, 2);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, a_redis_that_went_back_in_time_is_noticed)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct cut cut;
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    struct weir_lane_state older = picture.state;
    redisReply *dump = redisCommand(context, "DUMP weir:{%s}:lane", f->lane);
    begin_cut(f, &cut, &picture.state, 10); /* closes a window by the wall clock: no offset moves */
    put_window(&cut, weir_slice_text("k"), 0, 5)->is_closed = true;
    must_write(f, &cut, &picture.state);
    freeReplyObject(redisCommand(context, "RESTORE weir:{%s}:lane 0 %b REPLACE", f->lane, dump->str, dump->len));
    freeReplyObject(dump);
    full_cut(f, &cut, &older, 20);
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "the cut before this one is lost, though the offset fits");
    tell(context, "FLUSHALL");
    cr_assert_eq(write_cut(f, &cut), WEIR_FENCED, "everything is lost");
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, a_lost_connection_is_a_retry_and_then_works)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_error error;
    struct weir_work work[4];
    size_t count;
    struct cut cut;
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    tell(context, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(f->store->ops->write_cut(f->store, &cut.cut, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "reconnecting"), "%s", error.text);
    must_write(f, &cut, &picture.state);
    tell(context, "CLIENT KILL TYPE normal SKIPME yes");
    cr_assert_eq(f->store->ops->read_work(f->store, lane_name(f), 4, work, &count, &error), WEIR_RETRY);
    cr_assert_eq(read_work(f, work, 4), 1);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, scripts_that_were_flushed_are_sent_again)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_work work[4];
    struct cut cut;
    for (int i = 1; i < 4; i++) {
        tell(context, "SCRIPT FLUSH");
        take(f, &picture);
        tell(context, "SCRIPT FLUSH");
        full_cut(f, &cut, &picture.state, 10 * i);
        must_write(f, &cut, &picture.state);
        tell(context, "SCRIPT FLUSH");
        cr_assert_eq(read_work(f, work, 4), 1);
        finish(f, work, 1);
    }
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, nothing_is_left_of_what_was_forgotten)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_work work[4];
    struct cut cut;
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    cr_assert_gt(ask(context, "DBSIZE"), 6);
    cr_assert_eq(read_work(f, work, 4), 1);
    finish(f, work, 1);
    begin_cut(f, &cut, &picture.state, 20);
    cut.cut.forget_ids_below = INT64_MAX;
    cut.cut.forget_windows_below = cut.cut.state.forgotten = INT64_MAX;
    must_write(f, &cut, &picture.state);
    cr_assert_eq(ask(context, "DBSIZE"), 4, "weir:lanes, the lane hash, the log of open windows and its length");
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, another_handle_may_write_what_one_has_taken)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct weir_error error;
    struct weir_window_store *taker = f->store;
    struct cut cut;
    cr_assert_eq(weir_store_redis_open(server.socket_url, &f->store, &error), WEIR_OK);
    for (int i = 0; i < 3; i++) {
        struct fixture other = *f;
        other.store = taker;
        take(&other, &picture);
        cr_assert_eq(picture.ids_count, (size_t)i * 2);
        for (int n = 1; n <= 2; n++) {
            full_cut(f, &cut, &picture.state, i * 20 + 10 * n);
            must_write(f, &cut, &picture.state);
        }
    }
    weir_window_store_free(taker);
    clear(&picture);
    close_private(f, context);
}

struct overtaker {
    struct fixture *other;
    struct picture picture;
};

/* At the first window that the slower one loads, the other takes the lane and forgets what is yet to be loaded. */
static void overtake(void *context, const struct weir_window *window, bool is_closed, struct weir_slice unique)
{
    struct overtaker *overtaker = context;
    struct cut cut;

    (void)window;
    (void)is_closed;
    (void)unique;
    if (overtaker->picture.state.epoch != 0)
        return;
    take(overtaker->other, &overtaker->picture);
    begin_cut(overtaker->other, &cut, &overtaker->picture.state, 20);
    cut.cut.forget_ids_below = INT64_MAX;
    cut.cut.forget_windows_below = INT64_MAX;
    must_write(overtaker->other, &cut, &overtaker->picture.state);
}

static void pass_ids(void *context, int64_t bucket, struct weir_slice ids)
{
    (void)context;
    (void)bucket;
    (void)ids;
}

Test(window_store_redis, a_load_that_another_owner_overtakes_is_fenced_not_damaged)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct fixture other = *f;
    struct overtaker overtaker = {.other = &other};
    struct weir_lane_loader loader = {&overtaker, overtake, pass_ids};
    struct picture picture = {0};
    struct weir_lane_state state;
    struct weir_error error = {""};
    struct cut cut;

    cr_assert_eq(weir_store_redis_open(server.socket_url, &other.store, &error), WEIR_OK);
    take(f, &picture);
    full_cut(f, &cut, &picture.state, 10);
    must_write(f, &cut, &picture.state);
    enum weir_status status = f->store->ops->take_lane(f->store, lane_name(f), secret, &loader, &state, &error);
    cr_expect_eq(status, WEIR_FENCED, "%d: %s", status, error.text);
    cr_expect_not_null(strstr(error.text, "another worker took it"), "%s", error.text);
    weir_window_store_free(other.store);
    clear(&overtaker.picture);
    clear(&picture);
    close_private(f, context);
}

struct rival {
    pthread_t thread;
    const char *lane;
    int written, fenced;
};

/* Takes the lane and counts one id an offset, until fenced; then takes it again. */
static void *compete(void *context)
{
    struct rival *rival = context;
    struct fixture f = {.is_redis = true};
    struct weir_error error;
    snprintf(f.lane, sizeof(f.lane), "%s", rival->lane);
    cr_assert_eq(weir_store_redis_open(server.url, &f.store, &error), WEIR_OK);
    while (rival->written < 300) {
        struct weir_lane_state state;
        enum weir_status status = f.store->ops->take_lane(f.store, lane_name(&f), secret, NULL, &state, &error);
        cr_assert(status == WEIR_OK || status == WEIR_FENCED, "%s", error.text);
        while (status == WEIR_OK && rival->written < 300) {
            struct cut cut;
            char id[WEIR_ID_BYTES] = {0};
            begin_cut(&f, &cut, &state, state.next_offset + 1);
            memcpy(id, &cut.cut.state.next_offset, 8);
            put_ids(&cut, 0, id, sizeof(id));
            status = f.store->ops->write_cut(f.store, &cut.cut, &error);
            cr_assert(status == WEIR_OK || status == WEIR_FENCED, "%s", error.text);
            rival->written += status == WEIR_OK;
            rival->fenced += status == WEIR_FENCED;
            state = cut.cut.state;
        }
    }
    weir_window_store_free(f.store);
    return NULL;
}

Test(window_store_redis, rivals_for_a_lane_lose_and_double_nothing)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct picture picture = {0};
    struct rival rivals[3] = {{.lane = f->lane}, {.lane = f->lane}, {.lane = f->lane}};
    for (int i = 0; i < 3; i++)
        cr_assert_eq(pthread_create(&rivals[i].thread, NULL, compete, &rivals[i]), 0);
    for (int i = 0; i < 3; i++)
        pthread_join(rivals[i].thread, NULL);
    take(f, &picture);
    cr_assert_eq(picture.state.next_offset, 899);
    cr_assert_eq(picture.ids_count, 1);
    cr_assert_eq(picture.ids[0].length, 900 * WEIR_ID_BYTES);
    for (int64_t i = 0; i < 900; i++)
        cr_assert_eq(memcmp(picture.ids[0].ids + i * WEIR_ID_BYTES, &i, 8), 0, "id %d", (int)i);
    cr_assert_gt(rivals[0].fenced + rivals[1].fenced + rivals[2].fenced, 0);
    clear(&picture);
    close_private(f, context);
}

Test(window_store_redis, replica_password_and_eviction_are_named)
{
    struct fixture fixture, *f = &fixture;
    redisContext *context = open_private(f);
    struct weir_lane_state state;
    struct weir_error error;
    char url[128];
    tell(context, "REPLICAOF 127.0.0.1 1");
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "replica"), "%s", error.text);
    tell(context, "REPLICAOF NO ONE");
    tell(context, "CONFIG SET maxmemory 100mb maxmemory-policy allkeys-lru");
    cr_assert_eq(f->store->ops->take_lane(f->store, lane_name(f), secret, NULL, &state, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "noeviction"), "%s", error.text);
    tell(context, "CONFIG SET maxmemory-policy noeviction requirepass p@ss:w/rd");
    struct weir_window_store *store;
    snprintf(url, sizeof(url), "redis://127.0.0.1:%d/3", server.port);
    cr_assert_eq(weir_store_redis_open(url, &store, &error), WEIR_OK);
    cr_assert_eq(store->ops->take_lane(store, lane_name(f), secret, NULL, &state, &error), WEIR_FATAL);
    cr_assert(strstr(error.text, "password"), "%s", error.text);
    weir_window_store_free(store);
    snprintf(url, sizeof(url), "redis://default:p%%40ss%%3Aw%%2Frd@127.0.0.1:%d/3", server.port);
    cr_assert_eq(weir_store_redis_open(url, &store, &error), WEIR_OK);
    cr_assert_eq(store->ops->take_lane(store, lane_name(f), secret, NULL, &state, &error), WEIR_OK, "%s", error.text);
    weir_window_store_free(store);
    tell(context, "SELECT 3");
    cr_assert_eq(ask(context, "DBSIZE"), 2);
    close_private(f, context);
}

Test(window_store_redis, a_server_that_is_not_there_is_a_retry)
{
    struct weir_window_store *store;
    struct weir_lane_state state;
    struct weir_error error;
    cr_assert_eq(weir_store_redis_open("redis://127.0.0.1:1", &store, &error), WEIR_OK);
    cr_assert_eq(store->ops->take_lane(store, weir_slice_text("t:0"), secret, NULL, &state, &error), WEIR_RETRY);
    cr_assert(strstr(error.text, "not reached"), "%s", error.text);
    weir_window_store_free(store);
}

Test(window_store_redis, bad_urls_are_refused_without_showing_them)
{
    static const char *const urls[] = {"",
                                       "localhost:6379",
                                       "http://localhost",
                                       "redis://",
                                       "redis://hidden@host",
                                       "redis://:hidden@",
                                       "redis://u:hidden@host:0",
                                       "redis://u:hidden@host:65536",
                                       "redis://u:hidden@host:12x",
                                       "redis://u:hidden%4@host",
                                       "redis://u:hidden%00@host",
                                       "redis://u:hidden@host/x",
                                       "redis://[::1",
                                       "redis://[::1]x",
                                       "unix:relative",
                                       "rediss://u:hidden@host:6379"};
    static const char *const good[] = {"redis://host",         "redis://host:1/15", "redis://:p@host/",
                                       "redis://[::1]:7000/2", "unix:/path",        "unix:///path"};
    struct weir_window_store *store;
    struct weir_error error;
    for (size_t i = 0; i < sizeof(urls) / sizeof(*urls); i++) {
        cr_assert_eq(weir_store_redis_open(urls[i], &store, &error), WEIR_REJECT, "%s", urls[i]);
        cr_assert_null(strstr(error.text, "hidden"), "%s", error.text);
    }
    cr_assert(strstr(error.text, "TLS"), "%s", error.text);
    for (size_t i = 0; i < sizeof(good) / sizeof(*good); i++) {
        cr_assert_eq(weir_store_redis_open(good[i], &store, &error), WEIR_OK, "%s", good[i]);
        weir_window_store_free(store);
    }
}
