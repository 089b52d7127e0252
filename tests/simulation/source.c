/* Kafka as a worker sees it: a log of messages for each partition, a consumer group that gives partitions and takes
 * them away (in good order, or lost), and quarantine.
 *
 * Who owns what is known to the group at once; a member learns of it when it polls. In between it is a zombie. A member
 * that leaves in good order has its partitions revoked first; one that dies or stops for too long just loses them. A
 * free partition goes to the next member that polls and has fewer than its share. */
#include <stdlib.h>
#include <string.h>

#include "cli/writer.h"
#include "tests/simulation/simulation.h"

enum { NOBODY = -1, MEMBERS_MAX = LIVES_MAX, SESSION = 3 };

struct simulated_source {
    struct weir_source source;
    struct weir_source_listener listener;
    const struct process *process;
    bool is_ours[PARTITIONS_MAX]; /* as this member knows */
    bool is_lost[PARTITIONS_MAX]; /* being told that it was taken away: nothing of it may be sealed any more */
    bool is_paused[PARTITIONS_MAX];
    int64_t position[PARTITIONS_MAX]; /* the next offset to be returned */
};

static struct {
    struct simulated_source *owner[PARTITIONS_MAX]; /* as the group knows; NULL: free */
    bool must_leave[PARTITIONS_MAX];                /* the owner is asked to give it up in good order */
    struct simulated_source *members[MEMBERS_MAX];
    unsigned member_count;
} group;

void source_begin(void)
{
    memset(&group, 0, sizeof group);
}

/* 1. the group */
static bool is_live(const struct simulated_source *member)
{
    return member && !member->process->is_dead && member->process->stalled_until <= simulated_clock();
}

static unsigned owned_by(const struct simulated_source *member)
{
    unsigned count = 0;

    for (unsigned i = 0; i < run.shape.partitions; i++)
        count += group.owner[i] == member;
    return count;
}

static unsigned fair_share(void)
{
    unsigned live = 0;

    for (unsigned i = 0; i < group.member_count; i++)
        live += is_live(group.members[i]);
    return live ? (run.shape.partitions + live - 1) / live : run.shape.partitions;
}

static void set_free(unsigned partition)
{
    group.owner[partition] = NULL;
    group.must_leave[partition] = false;
}

void expire_member(const struct process *process)
{
    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (group.owner[i] && group.owner[i]->process == process)
            set_free(i);
}

/* What goes in good order, with nothing gone wrong so far, is written first: all that was fetched. */
static void check_hand_over(const struct simulated_source *source, unsigned partition, bool is_lost)
{
    const struct weir_lane_state *state = stored_state(partition);

    if (!is_lost && run.faults == 0 && !run.was_full && (!state || state->next_offset < source->position[partition]))
        run_fails("%s was handed over at offset %lld, and all below %lld was fetched", run.partitions[partition].name,
                  state ? (long long)state->next_offset : -1, (long long)source->position[partition]);
}

void __real_weir_writer_send(struct weir_writer *writer, struct weir_flight *flight);
void __wrap_weir_writer_send(struct weir_writer *writer, struct weir_flight *flight);
void __wrap_weir_writer_send(struct weir_writer *writer, struct weir_flight *flight)
{
    for (unsigned i = 0; i < group.member_count; i++)
        for (unsigned p = 0; group.members[i] && p < run.shape.partitions; p++)
            if (group.members[i]->process == this_process() && group.members[i]->is_lost[p]
                && weir_slice_equal(flight->sealed->cut.lane, weir_slice_text(run.partitions[p].name)))
                run_fails("%s is lost, and more of it is sealed", run.partitions[p].name);
    __real_weir_writer_send(writer, flight);
}

static void revoke(struct simulated_source *source, unsigned partition, bool is_lost)
{
    trace("partition %u revoked%s", partition, is_lost ? ", lost" : "");
    run.revocations++;
    source->is_ours[partition] = false;
    source->is_lost[partition] = is_lost;
    source->listener.revoked(source->listener.context, weir_slice_text(TOPIC), (int32_t)partition, is_lost);
    check_hand_over(source, partition, is_lost);
    if (group.owner[partition] == source && !source->process->is_dead)
        set_free(partition);
}

static bool assign(struct simulated_source *source, unsigned partition, struct weir_error *reterr)
{
    int64_t offset = -1;

    trace("partition %u assigned", partition);
    source->is_lost[partition] = false;
    group.owner[partition] = source;
    if (!source->listener.assigned(source->listener.context, weir_slice_text(TOPIC), (int32_t)partition, &offset,
                                   reterr))
        return false;
    source->is_ours[partition] = true;
    source->is_paused[partition] = false;
    source->position[partition] = offset;
    trace("partition %u is read from %lld", partition, (long long)offset);
    return true;
}

/* What the group has decided about this member since it polled last. */
static bool catch_up(struct simulated_source *source, struct weir_error *reterr)
{
    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (source->is_ours[i] && group.owner[i] != source)
            revoke(source, i, true);
    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (source->is_ours[i] && group.must_leave[i])
            revoke(source, i, false);
    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (!group.owner[i] && owned_by(source) < fair_share() && !assign(source, i, reterr))
            return false;
    return true;
}

/* What was to be read next is gone: as ingest/source_kafka_gaps.c tells it. */
static void tell_losses(struct simulated_source *source)
{
    for (unsigned i = 0; i < run.shape.partitions; i++) {
        int64_t low = log_start(&run.partitions[i]);
        if (!source->is_ours[i] || low == 0 || source->position[i] >= low)
            continue;
        enum weir_gap_kind kind = source->position[i] < 0 ? WEIR_GAP_NOTHING_STORED : WEIR_GAP_RETENTION;
        trace("partition %u begins at %lld, and %lld was to be read", i, (long long)low,
              (long long)source->position[i]);
        source->listener.gone(source->listener.context, (int32_t)i, kind, low);
        source->position[i] = low;
    }
}

/* 2. the interface */
static size_t fetch(struct simulated_source *source, unsigned number, struct weir_message *ret_messages, size_t max)
{
    const struct partition *partition = &run.partitions[number];
    size_t count = 0;

    if (log_start(partition) > 0 && source->position[number] < log_start(partition))
        return 0; /* told when it polls again */
    for (unsigned i = 0; i < partition->count && count < max; i++) {
        const struct simulated_event *event = &partition->events[i];
        if (event->offset < source->position[number])
            continue;
        if (event->visible > simulated_clock())
            break;
        ret_messages[count++] = (struct weir_message){
            .topic = weir_slice_text(TOPIC),
            .partition = (int32_t)number,
            .offset = event->offset,
            .timestamp = -1,
            .sequence = event->offset,
            .value = weir_slice_of(event->text, event->length),
        };
        source->position[number] = event->offset + 1;
    }
    return count;
}

static size_t fetch_all(struct simulated_source *source, struct weir_message *ret_messages, size_t max)
{
    size_t count = 0;

    for (unsigned i = 0; i < run.shape.partitions; i++)
        if (source->is_ours[i] && !source->is_paused[i])
            count += fetch(source, i, ret_messages + count, max - count);
    if (count)
        trace("fetched %zu messages, partition %d from offset %lld on", count, ret_messages[0].partition,
              (long long)ret_messages[0].offset);
    return count;
}

/* What else may happen to a member: asked to give up all, asked to stop, given old messages again. */
enum whim { WHIM_NONE, WHIM_REVOKE, WHIM_STOP, WHIM_AGAIN, WHIM_COUNT };

static void follow_whim(struct simulated_source *source, enum whim whim)
{
    if (whim == WHIM_STOP)
        this_process()->stop = true;
    for (unsigned i = 0; i < run.shape.partitions; i++) {
        if (whim == WHIM_REVOKE && group.owner[i] == source)
            group.must_leave[i] = true;
        if (whim != WHIM_AGAIN || !source->is_ours[i] || source->position[i] <= log_start(&run.partitions[i]))
            continue;
        source->position[i] -= source->position[i] > 2 ? 2 : source->position[i];
        if (source->position[i] < log_start(&run.partitions[i]))
            source->position[i] = log_start(&run.partitions[i]);
    }
}

static enum weir_status poll(struct weir_source *self, int timeout_ms, struct weir_message *ret_messages, size_t max,
                             size_t *ret_count, struct weir_error *reterr)
{
    struct simulated_source *source = (struct simulated_source *)self;

    *ret_count = 0;
    if (meet_fault(FAULT_BIT(FAULT_DEAD_BEFORE) | FAULT_BIT(FAULT_STALL), "poll") == FAULT_DEAD_BEFORE)
        return dead(reterr);
    follow_whim(source, (enum whim)choose(WHIM_COUNT, "the group's whim"));
    if (!catch_up(source, reterr))
        return WEIR_FATAL;
    tell_losses(source);
    if (max > run.shape.fetch)
        max = run.shape.fetch;
    *ret_count = fetch_all(source, ret_messages, max);
    if (*ret_count == 0) {
        wait_for(never, NULL, timeout_ms * (WEIR_SECOND / 1000));
        *ret_count = fetch_all(source, ret_messages, max);
    }
    return WEIR_OK;
}

static void pause_partition(struct weir_source *self, int32_t partition)
{
    ((struct simulated_source *)self)->is_paused[partition] = true;
}

static void resume_partition(struct weir_source *self, int32_t partition)
{
    ((struct simulated_source *)self)->is_paused[partition] = false;
}

static enum weir_status seek(struct weir_source *self, int32_t partition, int64_t offset, struct weir_error *reterr)
{
    (void)reterr;
    trace("partition %d is read again from %lld", partition, (long long)offset);
    ((struct simulated_source *)self)->position[partition] = offset;
    return WEIR_OK;
}

static void mark_durable(struct weir_source *self, int32_t partition, int64_t next_offset)
{
    (void)self, (void)partition, (void)next_offset;
}

static bool is_caught_up(struct weir_source *self, int32_t number)
{
    const struct simulated_source *source = (struct simulated_source *)self;
    const struct partition *partition = &run.partitions[number];

    for (unsigned i = 0; i < partition->count; i++)
        if (partition->events[i].offset >= source->position[number]
            && partition->events[i].offset >= log_start(partition) && partition->events[i].visible <= simulated_clock())
            return false;
    return source->is_ours[number];
}

static int64_t lag(struct weir_source *self, int32_t partition)
{
    return ((struct simulated_source *)self)->is_ours[partition] ? 0 : -1;
}

static void leave(struct weir_source *self)
{
    struct simulated_source *source = (struct simulated_source *)self;

    for (unsigned i = 0; i < run.shape.partitions && !source->process->is_dead; i++)
        if (source->is_ours[i])
            revoke(source, i, false); /* also one that the group gave away already: not known here yet */
    expire_member(source->process);
    for (unsigned i = 0; i < group.member_count; i++)
        if (group.members[i] == source)
            group.members[i] = NULL;
    free(source);
}

struct weir_source *source_handle(const struct weir_source_listener *listener)
{
    static const struct weir_source_ops ops = {.name = "simulated",
                                               .poll = poll,
                                               .pause = pause_partition,
                                               .resume = resume_partition,
                                               .seek = seek,
                                               .mark_durable = mark_durable,
                                               .is_caught_up = is_caught_up,
                                               .lag = lag,
                                               .free = leave};
    struct simulated_source *source = weir_new(sizeof *source);

    source->source.ops = &ops;
    source->listener = *listener;
    source->process = this_process();
    weir_check(group.member_count < MEMBERS_MAX);
    group.members[group.member_count++] = source;
    return &source->source;
}

/* 3. quarantine */
enum { QUEUE_MAX = 8 };

struct place {
    unsigned partition;
    int64_t offset;
};

struct simulated_quarantine {
    struct weir_quarantine quarantine;
    struct place waiting[QUEUE_MAX];
    unsigned count;
};

static struct {
    bool is_there[PARTITIONS_MAX][2 * EVENTS_MAX];
} records;

void quarantine_begin(void)
{
    memset(&records, 0, sizeof records);
}

bool is_quarantined(unsigned partition, int64_t offset)
{
    return records.is_there[partition][offset];
}

static enum weir_status put(struct weir_quarantine *self, const struct weir_message *message,
                            const struct weir_rejection *why, struct weir_error *reterr)
{
    struct simulated_quarantine *quarantine = (struct simulated_quarantine *)self;

    if (quarantine->count == run.shape.queue) {
        run.was_full = true;
        return weir_fail(reterr, WEIR_AGAIN, "quarantine is full");
    }
    trace("offset %lld to quarantine: %s", (long long)message->offset, weir_reason_name[why->reason]);
    quarantine->waiting[quarantine->count++] = (struct place){(unsigned)message->partition, message->offset};
    return WEIR_OK;
}

static enum weir_status flush(struct weir_quarantine *self, struct weir_error *reterr)
{
    struct simulated_quarantine *quarantine = (struct simulated_quarantine *)self;
    enum fault fault = meet_fault(FAULTS_ANY, "flushing quarantine");

    if (fault == FAULT_DEAD_BEFORE)
        return dead(reterr);
    if (fault == FAULT_REFUSED)
        return weir_fail(reterr, WEIR_RETRY, "quarantine cannot be reached");
    for (unsigned i = 0; i < quarantine->count; i++)
        records.is_there[quarantine->waiting[i].partition][quarantine->waiting[i].offset] = true;
    quarantine->count = 0;
    return lose_answer(fault, reterr);
}

static uint64_t backlog(const struct weir_quarantine *self)
{
    return ((const struct simulated_quarantine *)self)->count;
}

static void quarantine_free(struct weir_quarantine *self)
{
    free(self);
}

struct weir_quarantine *quarantine_handle(void)
{
    static const struct weir_quarantine_ops ops = {
        .put = put, .flush = flush, .backlog = backlog, .free = quarantine_free};
    struct simulated_quarantine *quarantine = weir_new(sizeof *quarantine);

    quarantine->quarantine.ops = &ops;
    return &quarantine->quarantine;
}
