/* The window store: aggregator/store_memory.c behind handles that fail.
 *
 * What Redis adds to the contract is added here as docs/redis.md and aggregator/store_redis.c have it: a cut's number
 * in its epoch, which a handle counts; a take that another one overtakes while it loads; a server that falls back,
 * whole, to an earlier moment. Every change is kept in a list, so that an earlier moment is the list's beginning, done
 * again. */
#include <stdlib.h>
#include <string.h>

#include "tests/simulation/simulation.h"

enum change_kind { CHANGE_TAKE, CHANGE_CUT, CHANGE_FINISH, CHANGE_TOKENS };

/* One change of the server, with copies of all that it carried. */
struct change {
    enum change_kind kind;
    unsigned partition;
    const struct process *process; /* who took */
    uint64_t raise;                /* of the epoch */
    unsigned char secret[WEIR_LANE_SECRET_BYTES];
    struct weir_cut cut;
    struct weir_cut_window *windows;
    struct weir_cut_ids *ids;
    struct weir_work *work;
    size_t work_count;
    uint64_t tokens; /* as many are never given again: another timeline has them */
};

/* What the server knows of a lane beside what the memory store does. */
struct served {
    uint64_t number;             /* of the last cut in its epoch */
    const struct process *owner; /* who took it last */
};

static struct {
    struct weir_window_store *store;
    struct change *changes;
    size_t count, room;
    struct served lanes[PARTITIONS_MAX];
    uint64_t cuts_ever;
    uint64_t raise; /* the last take's; given: a take that is done again */
    bool is_raise_given;
} server;

/* A take that is done again must end in the same epoch. */
uint64_t __real_weir_epoch_raise(void);
uint64_t __wrap_weir_epoch_raise(void);
uint64_t __wrap_weir_epoch_raise(void)
{
    if (!server.is_raise_given)
        server.raise = __real_weir_epoch_raise();
    return server.raise;
}

struct handle {
    struct weir_window_store base;
    uint64_t epoch[PARTITIONS_MAX], number[PARTITIONS_MAX];
    char *views; /* of read_work: they outlive a change of the server */
};

/* 1. changes */
static struct weir_slice copy_slice(struct weir_slice from)
{
    return weir_slice_of(weir_copy_text(from.data, from.length), from.length);
}

static void free_slice(struct weir_slice slice)
{
    free((char *)slice.data);
}

static void free_change(struct change *change)
{
    for (size_t i = 0; i < change->cut.window_count; i++) {
        free_slice(change->windows[i].window.series_key);
        free_slice(change->windows[i].unique);
    }
    for (size_t i = 0; i < change->cut.ids_count; i++)
        free_slice(change->ids[i].ids);
    for (size_t i = 0; i < change->work_count; i++)
        free_slice(change->work[i].window.series_key);
    free(change->windows);
    free(change->ids);
    free(change->work);
}

static struct change *note(enum change_kind kind, unsigned partition)
{
    if (server.count == server.room) {
        server.room = server.room ? server.room * 2 : 64;
        server.changes = weir_resize(server.changes, server.room, sizeof *server.changes);
    }
    struct change *change = &server.changes[server.count++];
    *change = (struct change){.kind = kind, .partition = partition, .process = this_process()};
    return change;
}

static void note_cut(unsigned partition, const struct weir_cut *cut)
{
    struct change *change = note(CHANGE_CUT, partition);

    change->cut = *cut;
    change->cut.lane = weir_slice_text(run.partitions[partition].name);
    change->windows = weir_new_array(cut->window_count + 1, sizeof *change->windows);
    change->ids = weir_new_array(cut->ids_count + 1, sizeof *change->ids);
    for (size_t i = 0; i < cut->window_count; i++) {
        change->windows[i] = cut->windows[i];
        change->windows[i].window.series_key = copy_slice(cut->windows[i].window.series_key);
        change->windows[i].unique = copy_slice(cut->windows[i].unique);
    }
    for (size_t i = 0; i < cut->ids_count; i++)
        change->ids[i] = (struct weir_cut_ids){cut->ids[i].bucket, copy_slice(cut->ids[i].ids)};
    change->cut.windows = change->windows;
    change->cut.ids = change->ids;
}

/* Makes the memory store's counter of tokens go on by so many, in a lane of nobody's. */
static void use_up_tokens(uint64_t count)
{
    static const unsigned char secret[WEIR_LANE_SECRET_BYTES];
    struct weir_slice name = weir_slice_text("nobody:0");
    struct weir_cut cut = {.lane = name};

    weir_check(server.store->ops->take_lane(server.store, name, secret, NULL, &cut.state, NULL) == WEIR_OK);
    cut.expected_offset = cut.state.next_offset;
    for (uint64_t i = 0; i < count; i++)
        weir_check(server.store->ops->write_cut(server.store, &cut, NULL) == WEIR_OK);
}

static void do_again(const struct change *change)
{
    struct served *lane = &server.lanes[change->partition];
    struct weir_slice name = weir_slice_text(run.partitions[change->partition].name);
    struct weir_lane_state state;

    switch (change->kind) {
    case CHANGE_TAKE:
        server.raise = change->raise;
        server.is_raise_given = true;
        server.store->ops->take_lane(server.store, name, change->secret, NULL, &state, NULL);
        server.is_raise_given = false;
        *lane = (struct served){.owner = change->process};
        return;
    case CHANGE_CUT:
        weir_check(server.store->ops->write_cut(server.store, &change->cut, NULL) == WEIR_OK);
        lane->number++;
        return;
    case CHANGE_FINISH:
        server.store->ops->finish_work(server.store, name, change->work, change->work_count, NULL);
        return;
    case CHANGE_TOKENS:
        use_up_tokens(change->tokens);
        return;
    }
}

static void fall_back(size_t kept)
{
    if (kept >= server.count)
        return;
    trace("the store falls back by %zu changes, to %zu", server.count - kept, kept);
    run.fallbacks++;
    run.is_settled = false;
    weir_window_store_free(server.store);
    server.store = weir_store_memory_new();
    memset(server.lanes, 0, sizeof server.lanes);
    for (size_t i = 0; i < kept; i++)
        do_again(&server.changes[i]);
    for (size_t i = kept; i < server.count; i++)
        free_change(&server.changes[i]);
    server.count = kept;
    note(CHANGE_TOKENS, 0)->tokens = server.cuts_ever;
    use_up_tokens(server.cuts_ever);
}

static void fall_back_before(enum fault fault)
{
    if (fault == FAULT_OLDER_1 && server.count)
        fall_back(server.count - 1);
    if (fault == FAULT_OLDER_HALF)
        fall_back(server.count / 2);
    if (fault == FAULT_OLDER_ALL)
        fall_back(0);
}

void store_begin(void)
{
    memset(&server, 0, sizeof server);
    server.store = weir_store_memory_new();
}

void store_end(void)
{
    for (size_t i = 0; i < server.count; i++)
        free_change(&server.changes[i]);
    free(server.changes);
    weir_window_store_free(server.store);
}

/* 2. what is stored, and whether it is right */
struct looking {
    const char *name;
    struct weir_lane_state state;
    bool is_found;
};

static void look_at(void *context, struct weir_slice name, const struct weir_lane_state *state)
{
    struct looking *looking = context;

    if (!weir_slice_equal(name, weir_slice_text(looking->name)))
        return;
    looking->state = *state;
    looking->is_found = true;
}

const struct weir_lane_state *stored_state(unsigned partition)
{
    static _Thread_local struct looking looking;

    looking = (struct looking){.name = run.partitions[partition].name};
    server.store->ops->list_lanes(server.store, TOPIC, look_at, &looking, NULL);
    return looking.is_found ? &looking.state : NULL;
}

bool store_has_work(unsigned partition)
{
    struct weir_work work;
    size_t count = 0;

    server.store->ops->read_work(server.store, weir_slice_text(run.partitions[partition].name), 1, &work, &count, NULL);
    return count > 0;
}

void stored_windows(unsigned partition,
                    void (*visit)(void *context, const struct weir_window *window, bool is_closed, bool has_work),
                    void *context)
{
    server.store->ops->scan_windows(server.store, weir_slice_text(run.partitions[partition].name), visit, context,
                                    NULL);
}

struct comparison {
    unsigned partition, found, tallied;
    int64_t watermark;
    const struct expectation *expectation;
};

static void compare_tally(struct comparison *comparison, struct weir_slice customer, const struct weir_tally *tally)
{
    const struct weir_tally *expected = &comparison->expectation->tallies[tally_place(customer)];

    if (memcmp(tally, expected, sizeof *tally) != 0)
        run_fails("%s: the tally of '%.*s' says %llu duplicate and %llu refused, and should %llu and %llu",
                  run.partitions[comparison->partition].name, (int)customer.length, customer.data,
                  (unsigned long long)tally->duplicate, (unsigned long long)tally->quarantined,
                  (unsigned long long)expected->duplicate, (unsigned long long)expected->quarantined);
    comparison->tallied++;
}

static void compare_window(void *context, const struct weir_window *window, bool is_closed, bool has_work)
{
    struct comparison *comparison = context;
    const struct expectation *expectation = comparison->expectation;
    const struct weir_window_total *total = &window->total;
    struct weir_slice customer;
    struct weir_tally tally;

    if (weir_tally_load(window, &customer, &tally)) {
        compare_tally(comparison, customer, &tally);
        return;
    }
    const struct expected_window *known = find_expected(expectation, window->series_key, window->start);

    (void)has_work;
    if (!known)
        run_fails("%s holds a window that no event made", run.partitions[comparison->partition].name);
    const struct weir_window_total *expected = &known->total;
    if (!same_total(total, expected))
        run_fails("%s, %.*s: the window holds %llu events, value %lld, and should hold %llu, value %lld",
                  run.partitions[comparison->partition].name, (int)window->series_key.data[0],
                  window->series_key.data + 2, (unsigned long long)total->events,
                  (long long)(total->value.e12 / 1000000000000), (unsigned long long)expected->events,
                  (long long)(expected->value.e12 / 1000000000000));
    bool is_passed = window->end <= comparison->watermark;
    bool is_being_passed = window->end == comparison->watermark + 1; /* some of this end are closed, some not yet */
    if (is_closed != is_passed && !(is_closed && is_being_passed))
        run_fails("%s: a window is %s, and the watermark has %spassed its end",
                  run.partitions[comparison->partition].name, is_closed ? "closed" : "open", is_closed ? "not " : "");
    comparison->found++;
}

void check_lane(unsigned partition)
{
    static struct expectation expectation;
    const struct weir_lane_state *state = stored_state(partition);
    const struct partition *sent = &run.partitions[partition];
    struct comparison comparison = {.partition = partition, .expectation = &expectation, .watermark = state->watermark};

    enum fate fates[EVENTS_MAX];
    expect_lane(sent, state->next_offset, &state->gaps, &expectation);
    judge_all(sent, state->next_offset, &state->gaps, fates);
    stored_windows(partition, compare_window, &comparison);
    if (comparison.found != expectation.count)
        run_fails("%s holds %u windows and should hold %u", sent->name, comparison.found, expectation.count);
    for (unsigned i = 0; i <= CUSTOMERS_MAX; i++)
        comparison.tallied -= expectation.tallies[i].duplicate + expectation.tallies[i].quarantined > 0;
    if (comparison.tallied != 0)
        run_fails("%s lacks a tally", sent->name);
    if (memcmp(&state->counts, &expectation.counts, sizeof state->counts) != 0)
        run_fails("%s: read %llu, counted %llu, duplicate %llu, quarantined %llu; should be %llu, %llu, %llu, %llu",
                  sent->name, (unsigned long long)state->counts.read, (unsigned long long)state->counts.counted,
                  (unsigned long long)state->counts.duplicate, (unsigned long long)state->counts.quarantined,
                  (unsigned long long)expectation.counts.read, (unsigned long long)expectation.counts.counted,
                  (unsigned long long)expectation.counts.duplicate, (unsigned long long)expectation.counts.quarantined);
    for (unsigned i = 0; i < sent->count && sent->events[i].offset < state->next_offset; i++)
        if (fates[i] >= FATE_CONFLICT && fates[i] != FATE_UNREAD && !is_quarantined(partition, sent->events[i].offset))
            run_fails("%s: the cut passed offset %lld, whose quarantine record is not durable", sent->name,
                      (long long)sent->events[i].offset);
}

/* 3. the interface */
unsigned partition_of(struct weir_slice lane)
{
    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (weir_slice_equal(lane, weir_slice_text(run.partitions[i].name)))
            return i;
    run_fails("a lane that is none");
}

static enum weir_status refused(struct weir_error *reterr)
{
    return weir_fail(reterr, WEIR_RETRY, "the store cannot be reached");
}

static enum weir_status take_lane(struct weir_window_store *base, struct weir_slice name,
                                  const unsigned char secret[WEIR_LANE_SECRET_BYTES],
                                  const struct weir_lane_loader *loader, struct weir_lane_state *ret_state,
                                  struct weir_error *reterr)
{
    struct handle *handle = (struct handle *)base;
    unsigned partition = partition_of(name);
    enum fault fault = meet_fault(FAULTS_ANY | FAULTS_OLDER, "taking a lane");

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return refused(reterr);
    fall_back_before(fault);
    weir_check(server.store->ops->take_lane(server.store, name, secret, loader, ret_state, reterr) == WEIR_OK);
    struct change *change = note(CHANGE_TAKE, partition);
    memcpy(change->secret, secret, WEIR_LANE_SECRET_BYTES);
    change->raise = server.raise;
    server.lanes[partition] = (struct served){.owner = this_process()};
    trace("took %s: epoch %llu, offset %lld", run.partitions[partition].name, (unsigned long long)ret_state->epoch,
          (long long)ret_state->next_offset);
    handle->epoch[partition] = ret_state->epoch;
    handle->number[partition] = 0;
    if (fault == FAULT_OLDER_AFTER)
        fall_back(server.count - 1);
    if (fault == FAULT_NONE && meet_fault(FAULT_BIT(FAULT_STALL), "loading a lane") == FAULT_DEAD_BEFORE)
        return dead(reterr);
    const struct weir_lane_state *now = stored_state(partition);
    if (fault == FAULT_NONE
        && (!now || now->epoch != ret_state->epoch || now->next_offset != ret_state->next_offset
            || server.lanes[partition].number != 0))
        return weir_fail(reterr, WEIR_FENCED, "another one took the lane while it was loaded");
    return lose_answer(fault, reterr);
}

/* What Redis has beyond epoch and offset: the cut's number. true: the answer is *ret_status already. */
static bool judge_number(const struct handle *handle, unsigned partition, const struct weir_cut *cut,
                         enum weir_status *ret_status)
{
    const struct weir_lane_state *stored = stored_state(partition);
    uint64_t number = server.lanes[partition].number;
    uint64_t own = handle->epoch[partition] == cut->state.epoch ? handle->number[partition] : 0;

    if (!stored || stored->epoch != cut->state.epoch)
        return false;
    if (stored->next_offset == cut->state.next_offset
        && (number == own + 1 || (number == own && cut->expected_offset != cut->state.next_offset))) {
        *ret_status = WEIR_OK;
        return true;
    }
    if (stored->next_offset == cut->expected_offset && number != own) {
        *ret_status = WEIR_FENCED;
        return true;
    }
    return false;
}

static void check_write(unsigned partition, const struct weir_lane_state *before, const struct weir_cut *cut)
{
    const struct weir_lane_state *after = stored_state(partition);

    if (server.lanes[partition].owner != this_process())
        run_fails("%s wrote to %s, which %s has taken", this_process()->name, run.partitions[partition].name,
                  server.lanes[partition].owner ? server.lanes[partition].owner->name : "nobody");
    if (after->next_offset < before->next_offset || after->watermark < before->watermark
        || after->next_offset != cut->state.next_offset)
        run_fails("%s: next offset %lld, watermark %lld, went back from %lld, %lld", run.partitions[partition].name,
                  (long long)after->next_offset, (long long)after->watermark, (long long)before->next_offset,
                  (long long)before->watermark);
    check_lane(partition);
    remember_cut(partition, after, cut);
}

static enum weir_status apply_cut(struct handle *handle, const struct weir_cut *cut, struct weir_error *reterr)
{
    unsigned partition = partition_of(cut->lane);
    enum weir_status status = WEIR_OK;
    struct weir_lane_state before = {0};

    if (judge_number(handle, partition, cut, &status)) {
        trace("cut of %s to offset %lld: %s", run.partitions[partition].name, (long long)cut->state.next_offset,
              status == WEIR_OK ? "there already" : "fenced by its number");
        if (status != WEIR_OK)
            return weir_fail(reterr, status, "the stored cut's number is another");
        handle->epoch[partition] = cut->state.epoch;
        handle->number[partition] = server.lanes[partition].number;
        return status;
    }
    if (stored_state(partition))
        before = *stored_state(partition);
    status = server.store->ops->write_cut(server.store, cut, reterr);
    trace("cut of %s: epoch %llu, offset %lld to %lld, %zu windows, watermark %lld: %s", run.partitions[partition].name,
          (unsigned long long)cut->state.epoch, (long long)cut->expected_offset, (long long)cut->state.next_offset,
          cut->window_count, (long long)(cut->state.watermark / WEIR_SECOND), status == WEIR_OK ? "written" : "fenced");
    if (status != WEIR_OK)
        return status;
    note_cut(partition, cut);
    server.cuts_ever++;
    run.store_writes++;
    handle->number[partition] = handle->epoch[partition] == cut->state.epoch ? handle->number[partition] + 1 : 1;
    handle->epoch[partition] = cut->state.epoch;
    server.lanes[partition].number++;
    check_write(partition, &before, cut);
    return WEIR_OK;
}

static enum weir_status write_cut(struct weir_window_store *base, const struct weir_cut *cut, struct weir_error *reterr)
{
    enum fault fault = meet_fault(FAULTS_ANY | FAULTS_OLDER, "writing a cut");

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return refused(reterr);
    fall_back_before(fault);
    enum weir_status status = apply_cut((struct handle *)base, cut, reterr);
    if (fault == FAULT_OLDER_AFTER && status == WEIR_OK)
        fall_back(server.count - 1);
    enum weir_status answer = lose_answer(fault, reterr);
    return answer == WEIR_OK ? status : answer;
}

static enum weir_status list_lanes(struct weir_window_store *base, const char *topic,
                                   void (*visit)(void *context, struct weir_slice lane,
                                                 const struct weir_lane_state *state),
                                   void *context, struct weir_error *reterr)
{
    (void)base;
    if (strcmp(topic, TOPIC) != 0)
        return WEIR_OK; /* of admitted events: none */
    enum fault fault = meet_fault(FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_DEAD_BEFORE), "listing lanes");
    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    return fault == FAULT_REFUSED ? refused(reterr)
                                  : server.store->ops->list_lanes(server.store, topic, visit, context, reterr);
}

static enum weir_status read_lane(struct weir_window_store *base, struct weir_slice name,
                                  struct weir_lane_state *ret_state, struct weir_error *reterr)
{
    enum fault fault = meet_fault(FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_DEAD_BEFORE)
                                      | (run.shape.losses ? FAULT_BIT(FAULT_OLDER_ALL) : 0),
                                  "reading a lane");

    (void)base;
    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    fall_back_before(fault);
    return fault == FAULT_REFUSED ? refused(reterr)
                                  : server.store->ops->read_lane(server.store, name, ret_state, reterr);
}

static enum weir_status read_more_work(struct weir_window_store *base, struct weir_slice name,
                                       struct weir_work_place *place, size_t max, struct weir_work *ret_work,
                                       size_t *ret_count, struct weir_error *reterr)
{
    struct handle *handle = (struct handle *)base;
    enum fault fault =
        meet_fault(FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_DEAD_BEFORE) | FAULTS_OLDER, "reading work");
    size_t room = 1;

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return refused(reterr);
    fall_back_before(fault);
    weir_check(server.store->ops->read_more_work(server.store, name, place, max, ret_work, ret_count, reterr)
               == WEIR_OK);
    for (size_t i = 0; i < *ret_count; i++)
        room += ret_work[i].window.series_key.length;
    handle->views = weir_resize(handle->views, room, 1);
    for (size_t i = 0, at = 0; i < *ret_count; i++) {
        struct weir_slice *key = &ret_work[i].window.series_key;
        memcpy(handle->views + at, key->data, key->length);
        key->data = handle->views + at;
        at += key->length;
    }
    if (fault == FAULT_OLDER_AFTER && server.count)
        fall_back(server.count - 1);
    return WEIR_OK;
}

static enum weir_status read_work(struct weir_window_store *base, struct weir_slice name, size_t max,
                                  struct weir_work *ret_work, size_t *ret_count, struct weir_error *reterr)
{
    struct weir_work_place front = {0};
    return read_more_work(base, name, &front, max, ret_work, ret_count, reterr);
}

static enum weir_status finish_work(struct weir_window_store *base, struct weir_slice name,
                                    const struct weir_work *work, size_t count, struct weir_error *reterr)
{
    enum fault fault = meet_fault(FAULTS_ANY | FAULTS_OLDER, "finishing work");

    (void)base;
    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return refused(reterr);
    fall_back_before(fault);
    struct change *change = note(CHANGE_FINISH, partition_of(name));
    change->work = weir_new_array(count + 1, sizeof *change->work);
    for (; change->work_count < count; change->work_count++) {
        change->work[change->work_count] = work[change->work_count];
        change->work[change->work_count].window.series_key = copy_slice(work[change->work_count].window.series_key);
    }
    trace("finished %zu windows of %.*s", count, (int)name.length, name.data);
    weir_check(server.store->ops->finish_work(server.store, name, work, count, reterr) == WEIR_OK);
    if (fault == FAULT_OLDER_AFTER)
        fall_back(server.count - 1);
    return lose_answer(fault, reterr);
}

static void handle_free(struct weir_window_store *base)
{
    free(((struct handle *)base)->views);
    free(base);
}

struct weir_window_store *store_handle(void)
{
    static const struct weir_window_store_ops ops = {.name = "simulated",
                                                     .take_lane = take_lane,
                                                     .write_cut = write_cut,
                                                     .list_lanes = list_lanes,
                                                     .read_lane = read_lane,
                                                     .read_work = read_work,
                                                     .read_more_work = read_more_work,
                                                     .finish_work = finish_work,
                                                     .free = handle_free};
    struct handle *handle = weir_new(sizeof *handle);

    handle->base.ops = &ops;
    return &handle->base;
}
