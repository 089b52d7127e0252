/* The lane protocol: who may write a lane's cut, and how its windows become a bill, under every fault that the issue of
 * "each event counts once" names. Each step has the C function that it stands for beside it.
 *
 * One partition of Kafka, two workers of one group, one store (Redis) that may fall back to an older cut of itself, two
 * raters, one ledger (PostgreSQL). A worker that the group has taken the lane from and that does not know it yet (it was
 * stopped) goes on with what it has in memory and under way: the zombie.
 *
 * What is checked, in every state that can be reached:
 *   - the store's cut is exactly what the log up to its offset says: no event lost, none counted twice (cut_is_exact)
 *   - whoever writes a cut is the last one who took the lane (execute)
 *   - a closed window that is not on the list of work was rated (nothing_is_forgotten)
 *   - what is billed never goes down and never goes beyond the truth (rate)
 *   - quarantined messages below the offset have their record (cut_is_exact)
 * and wherever it ends (tests/spin/run shows that it always does: there is no cycle) the bill is the truth (the monitor).
 *
 * What is abstracted, and why no behaviour is lost by it:
 *   - Reading and sealing are one step (weir_intake_take, weir_lane_seal): what is read and not sealed is in one worker's
 *     memory only.
 *   - Epochs and tokens are only ever compared for equality, so a fresh one is the smallest that nobody holds. In the code
 *     they are 64-bit numbers with random steps.
 *   - A transaction of the ledger is committed or not at one moment: a server that is still committing when the client
 *     has gone holds the customers' locks, so nobody else sees the difference.
 *   - Raters' claims are left out: they only divide the work.
 *   - Times are those of the messages; the wall clock closes windows of a lane that has been read to its end.
 * Faults are bounded (the limits below), everything else may happen in any order.
 *
 * -DM_... breaks one safeguard (tests/spin/run has the list): each must make the check fail. */

/* ---- how much may go wrong -------------------------------------------------------------------------- */
#ifndef FALLBACKS
#define FALLBACKS 1 /* the store becomes an older cut of itself: failover, restart from a snapshot, emptied */
#endif
#ifndef CUTS_OFF
#define CUTS_OFF 1 /* connections of a worker to the store that break: the answer is lost, or the request is still on its way */
#endif
#ifndef HAND_OVERS
#define HAND_OVERS 1 /* the group moves the lane, and the worker has time to hand it over */
#endif
#ifndef LOSSES
#define LOSSES 1 /* the group moves the lane without waiting: the worker is a zombie until it hears of it */
#endif
#ifndef CRASHES
#define CRASHES 1 /* a worker is killed and starts again */
#endif
#ifndef COMMITS_LOST
#define COMMITS_LOST 1 /* commits of the ledger whose answer is lost, done or not; or the rater dies there */
#endif
#ifndef ZOMBIE_TAKES
#define ZOMBIE_TAKES 1 /* how often a worker takes a lane again that the group has given to the other one */
#endif
#ifndef RATERS
#define RATERS 2
#endif
#ifndef FLIGHTS
#define FLIGHTS 2 /* cuts of one lane under way */
#endif

/* ---- the log ---------------------------------------------------------------------------------------- */
/* offset 0  A in w0
 *        1  B in w1: closes w0
 *        2  A again, as a resend that carries a time of w1
 *        3  C in w0: late, and accepted
 *        4  (-DLONG_LOG) something that cannot be read
 *        5  (-DLONG_LOG) B again
 * w1 is closed by the wall clock once the lane is read to its end. */
#ifdef LONG_LOG
#define END 6
#else
#define END 4
#endif
#define UNREADABLE 4
#define ID_OF(m) ((m) == 1 || (m) == 5 -> 2 : ((m) == 3 -> 4 : 1))
#define WINDOW_OF(m) ((m) == 1 || (m) == 2 || (m) == 5)

/* What each prefix of the log counts to: the independent model. */
#define TRUTH_0(o) (((o) > 0) + ((o) > 3))
#define TRUTH_1(o) ((o) > 1)
#define TRUTH_IDS(o) (((o) > 0 -> 1 : 0) | ((o) > 1 -> 2 : 0) | ((o) > 3 -> 4 : 0))
#define TRUTH(w, o) ((w) == 0 -> TRUTH_0(o) : TRUTH_1(o))

/* ---- the store -------------------------------------------------------------------------------------- */
typedef Cut { /* window_store.h, docs/redis.md: the lane hash, windows, ids, work */
    byte epoch;
    byte number; /* "cut" of the lane hash */
    byte offset;
    byte total[2];
    byte ids;    /* a bit each */
    byte closed; /* a bit for each window */
    byte work[2]; /* the token; 0: not on the list */
#ifdef M_EPOCH_STEP_ONE
    byte shown; /* the epoch as the protocol sees it */
#endif
};
Cut store, old;

/* A sealed cut on its way (weir_flight, weir_cut). */
typedef Flight {
    byte epoch;
#ifdef M_EPOCH_STEP_ONE
    byte shown;
#endif
    byte expected, next;
    byte changed; /* windows in it */
    byte total[2];
    byte closed;
    byte ids; /* new ones */
    bit has_quarantined;
#ifdef M_INCREMENTS
    byte more[2];
#endif
};

typedef Packet {
    bit is_there;
    bit is_dirty;
    byte number;
    Flight flight;
};

typedef Worker {
    bit is_member;  /* believes that the lane is its own: between on_assigned and on_revoked */
    bit is_lost;    /* the group has taken it away, and the news is on its way */
    bit is_revoked; /* on_revoked with time to hand over */
    bit has_taken;  /* raised the epoch, not loaded yet */
    bit has_lane;
    byte epoch;
#ifdef M_EPOCH_STEP_ONE
    byte shown;
#endif
    byte position; /* of the source: what Kafka gives next */
    byte offset;   /* the lane in memory */
    byte total[2];
    byte ids;
    byte closed;
    byte known_number; /* weir_redis_lane of the writing thread's handle: of the last cut known to be stored */
    bit has_flight;    /* the writing thread has a cut ... */
    bit is_sent;       /* ... and has sent its transaction; else the probe comes first */
    bit is_dirty;      /* the lane hash was changed since WATCH */
    Flight flight;
    bit has_next;      /* a cut that was sealed meanwhile */
    Flight next;
    Packet astray;     /* a transaction on a connection that was given up: may still arrive */
};
Worker worker[2];

byte group_owner = 0; /* whom the group has given the lane to */
bit is_recorded;      /* the unreadable message's record in quarantine is durable */

/* ---- the ledger ------------------------------------------------------------------------------------- */
byte rated[2];  /* rated_windows: the last total that was rated */
byte billed[2]; /* line items added up */
byte lock;      /* of the customer's row; 0: free */
#ifdef M_COMMITTED_OFFSET
byte committed; /* Kafka's offset of the group */
#endif

typedef Rater {
    byte step;
    bit window;
    byte token;
    byte total;
    byte before;
};
Rater rater[2];

byte fallbacks = FALLBACKS, cuts_off = CUTS_OFF, hand_overs = HAND_OVERS, losses = LOSSES, crashes = CRASHES,
     commits_lost = COMMITS_LOST, zombie_takes = ZOMBIE_TAKES;

/* ---- small things ----------------------------------------------------------------------------------- */
#define W worker[me]

inline copy_flight(to, from)
{
    d_step {
    to.epoch = from.epoch; to.expected = from.expected; to.next = from.next; to.changed = from.changed;
    to.total[0] = from.total[0]; to.total[1] = from.total[1]; to.closed = from.closed; to.ids = from.ids;
    to.has_quarantined = from.has_quarantined;
#ifdef M_EPOCH_STEP_ONE
    to.shown = from.shown;
#endif
#ifdef M_INCREMENTS
    to.more[0] = from.more[0]; to.more[1] = from.more[1];
#endif
    }
}

inline clear_flight(it)
{
    d_step {
    it.epoch = 0; it.expected = 0; it.next = 0; it.changed = 0; it.total[0] = 0; it.total[1] = 0; it.closed = 0;
    it.ids = 0; it.has_quarantined = 0;
#ifdef M_EPOCH_STEP_ONE
    it.shown = 0;
#endif
#ifdef M_INCREMENTS
    it.more[0] = 0; it.more[1] = 0;
#endif
    }
}

inline copy_cut(to, from)
{
    d_step {
    to.epoch = from.epoch; to.number = from.number; to.offset = from.offset; to.total[0] = from.total[0];
    to.total[1] = from.total[1]; to.ids = from.ids; to.closed = from.closed; to.work[0] = from.work[0];
    to.work[1] = from.work[1];
#ifdef M_EPOCH_STEP_ONE
    to.shown = from.shown;
#endif
    }
}

inline clear_packet(it)
{
    d_step {
    it.is_there = 0; it.is_dirty = 0; it.number = 0;
    clear_flight(it.flight)
    }
}

#define HOLDS_EPOCH(i, e) (worker[i].epoch == e || worker[i].flight.epoch == e || worker[i].next.epoch == e \
                           || worker[i].astray.flight.epoch == e)
#define EPOCH_IS_HELD(e) (store.epoch == e || old.epoch == e || HOLDS_EPOCH(0, e) || HOLDS_EPOCH(1, e))
#define TOKEN_IS_HELD(t, w) (store.work[w] == t || old.work[w] == t || rater[0].token == t || rater[1].token == t)

#define OLD_IS_OLD (old.epoch != store.epoch || old.number != store.number || old.work[0] != store.work[0] \
                    || old.work[1] != store.work[1])

inline clear_cut(it)
{
    d_step {
    it.epoch = 0; it.number = 0; it.offset = 0; it.total[0] = 0; it.total[1] = 0; it.ids = 0; it.closed = 0;
    it.work[0] = 0; it.work[1] = 0
#ifdef M_EPOCH_STEP_ONE
    ; it.shown = 0
#endif
    }
}

/* Redis: whoever WATCHes the lane hash finds its transaction refused. */
inline lane_hash_changes()
{
    d_step {
    if :: worker[0].is_sent -> worker[0].is_dirty = 1 :: else fi;
    if :: worker[1].is_sent -> worker[1].is_dirty = 1 :: else fi;
    if :: worker[0].astray.is_there -> worker[0].astray.is_dirty = 1 :: else fi;
    if :: worker[1].astray.is_there -> worker[1].astray.is_dirty = 1 :: else fi
    }
}

/* ---- what must hold --------------------------------------------------------------------------------- */
inline cut_is_exact()
{
    d_step {
    assert(store.total[0] == TRUTH_0(store.offset));
    assert(store.total[1] == TRUTH_1(store.offset));
    assert(store.ids == TRUTH_IDS(store.offset));
    assert(store.offset <= UNREADABLE || is_recorded)
    }
}

inline nothing_is_forgotten()
{
    d_step {
    assert(!(store.closed & 1) || store.work[0] || rated[0] >= store.total[0]);
    assert(!(store.closed & 2) || store.work[1] || rated[1] >= store.total[1])
    }
}

/* ---- a worker: the lane ------------------------------------------------------------------------------ */
/* weir_lane_free: nothing of it stays. Flights are the writer's, see give_up. */
inline drop_lane()
{
    d_step {
    W.has_lane = 0; W.has_taken = 0; W.epoch = 0; W.offset = 0; W.total[0] = 0; W.total[1] = 0; W.ids = 0;
    W.closed = 0
#ifndef M_NO_SEEK
    ; W.position = 0
#endif
#ifdef M_EPOCH_STEP_ONE
    ; W.shown = 0
#endif
    }
}

/* take_lane of store_redis.c, take_lane.lua: the epoch is raised first, which fences every earlier owner. */
inline raise_epoch()
{
    d_step {
    i = 1;
    do :: EPOCH_IS_HELD(i) -> i++ :: else -> break od;
    store.epoch = i; store.number = 0; W.epoch = i;
#ifdef M_EPOCH_STEP_ONE
    store.shown = store.shown + 1; W.shown = store.shown;
#endif
    W.has_taken = 1; W.known_number = 0; i = 0;
    lane_hash_changes()
    }
}

#ifdef M_EPOCH_STEP_ONE
#define EPOCH_IS(cut, it) (cut.shown == it.shown)
#else
#define EPOCH_IS(cut, it) (cut.epoch == it.epoch)
#endif

/* weir_redis_load, still_ours, weir_lane_start, and the seek of on_assigned or retake_lanes. */
inline load()
{
    W.has_taken = 0;
    if
#ifndef M_LOAD_UNCHECKED
    :: !EPOCH_IS(store, W) || store.number != 0 -> drop_lane() /* another one took it meanwhile: later once more */
    :: else ->
#else
    :: true ->
#endif
        W.has_lane = 1; W.offset = store.offset; W.total[0] = store.total[0]; W.total[1] = store.total[1];
        W.closed = store.closed;
#ifndef M_IDS_NOT_STORED
        W.ids = store.ids;
#endif
#ifdef M_COMMITTED_OFFSET
        W.offset = committed;
#endif
#ifdef M_NO_SEEK
        if :: W.position < W.offset -> W.position = W.offset :: else fi /* forward is always possible */
#else
        W.position = W.offset
#endif
    fi
}

/* One message: is_wanted, weir_intake_take, weir_lane_take. */
inline take_message(m)
{
    d_step {
    if
    :: m < W.offset -> skip
    :: m >= W.offset && m == UNREADABLE -> made.has_quarantined = 1; W.offset = m + 1
    :: m >= W.offset && m != UNREADABLE ->
        if
        :: W.ids & ID_OF(m) -> skip /* a duplicate */
        :: else ->
            W.ids = W.ids | ID_OF(m); made.ids = made.ids | ID_OF(m);
            W.total[WINDOW_OF(m)] = W.total[WINDOW_OF(m)] + 1;
#ifdef M_INCREMENTS
            made.more[WINDOW_OF(m)] = made.more[WINDOW_OF(m)] + 1;
#endif
            made.changed = made.changed | (1 << WINDOW_OF(m))
        fi;
        if /* raise_watermark: an event of w1 is far enough behind the end of w0 */
        :: WINDOW_OF(m) == 1 && !(W.closed & 1) -> W.closed = W.closed | 1; made.changed = made.changed | 1
        :: else
        fi;
        W.offset = m + 1
    fi
    }
}

/* weir_lane_seal: a copy of what changed, with absolute totals. */
inline seal()
{
    d_step {
    made.epoch = W.epoch; made.next = W.offset; made.total[0] = W.total[0]; made.total[1] = W.total[1];
    made.closed = W.closed
#ifdef M_EPOCH_STEP_ONE
    ; made.shown = W.shown
#endif
    }
}

/* step of worker.c: some messages more, then a cut of them. */
inline read_and_seal()
{
    d_step {
    made.expected = W.offset;
    do
    :: W.position < to -> take_message(W.position); W.position++
    :: else -> break
    od;
    to = 0;
    seal()
    }
}

/* tend_lanes, weir_lane_idle: read to the end, the wall clock closes what is open. */
inline idle_and_seal()
{
    d_step {
    made.expected = W.offset;
    made.changed = 3 & ~W.closed;
    W.closed = 3;
    seal()
    }
}

#define CAN_READ (W.has_lane && W.position < END)
#define CAN_IDLE (W.has_lane && W.position == END && W.closed != 3)
/* Whether the store is not what the worker last wrote: then, and only then, another cut of a lane without news matters.
 * tend_lanes sends an empty one every few seconds (must_look), so one comes. */
#ifdef M_NO_IDLE_CUTS
#define CAN_NOTICE 0
#else
#define CAN_NOTICE (W.has_lane && W.position == END && W.closed == 3 \
    && (!EPOCH_IS(store, W) || store.offset != W.offset || store.number != W.known_number))
#endif

/* ---- a worker: the writing thread --------------------------------------------------------------------- */
#define F W.flight

#ifdef M_NO_EPOCH_CHECK
#define SAME_EPOCH 1
#else
#define SAME_EPOCH EPOCH_IS(store, F)
#endif
#if defined(M_NO_OFFSET_CHECK) || defined(M_COMMITTED_OFFSET) || defined(BLIND_RETRY)
#define SAME_OFFSET 1
#else
#define SAME_OFFSET (store.offset == F.expected)
#endif
#if defined(M_NO_NUMBER_CHECK) || defined(M_NO_OFFSET_CHECK) || defined(BLIND_RETRY)
#define SAME_NUMBER 1
#else
#define SAME_NUMBER (store.number == W.known_number)
#endif
#ifdef BLIND_RETRY /* what was not acknowledged is written again without a look */
#define IS_WRITTEN_ALREADY 0
#else
#define IS_WRITTEN_ALREADY (SAME_EPOCH && store.offset == F.next \
    && (store.number == W.known_number + 1 || (store.number == W.known_number && F.expected != F.next)))
#endif

/* The flight is back with the worker (land of worker_lanes.c), and the writing thread takes the next one. */
inline land()
{
    d_step {
    clear_flight(F);
    W.is_sent = 0; W.is_dirty = 0; W.has_flight = W.has_next;
    copy_flight(F, W.next);
    clear_flight(W.next);
    W.has_next = 0;
    if :: !W.has_lane && !W.has_flight -> W.known_number = 0 :: else fi
    }
}

inline written()
{
#ifdef M_COMMITTED_OFFSET
    committed = F.next;
#endif
    land()
}

/* write_once of writer.c, then look and judge_lane of store_redis.c: WATCH, then what the store holds. */
inline probe()
{
#ifndef M_NO_QUARANTINE_FLUSH
    if :: F.has_quarantined -> is_recorded = 1 :: else fi;
#endif
    if
    :: IS_WRITTEN_ALREADY -> W.known_number = store.number; written()
    :: !IS_WRITTEN_ALREADY && !(SAME_EPOCH && SAME_OFFSET && SAME_NUMBER) ->
        /* FENCED: land drops the lane; later cuts of it come back in the same way */
        if
#ifdef M_KEEP_WHEN_FENCED
        :: W.has_lane && F.epoch == W.epoch -> raise_epoch(); W.has_taken = 0
#else
        :: W.has_lane && F.epoch == W.epoch -> drop_lane()
#endif
        :: else
        fi;
        land()
    :: else -> W.is_sent = 1 /* weir_redis_encode_cut, commit: MULTI ... EXEC */
    fi
}

/* Redis runs EXEC: all of it, or none of it when the lane hash has changed since WATCH. */
inline execute(cut, dirty, number_now)
{
    was_done = 0;
    if
#ifndef M_NO_WATCH
    :: dirty -> skip
    :: else ->
#else
    :: true ->
#endif
        d_step {
        was_done = 1;
        assert(cut.epoch == store.epoch); /* a fenced writer changes nothing */
        store.number = number_now; store.offset = cut.next;
        store.ids = store.ids | cut.ids;
        i = 0;
        do
        :: i < 2 && (cut.changed & (1 << i)) ->
#ifdef M_INCREMENTS
            store.total[i] = store.total[i] + cut.more[i];
#else
            store.total[i] = cut.total[i];
#endif
            if
#ifdef M_REVISIONS_UNLISTED
            :: (cut.closed & ~store.closed) & (1 << i) ->
#else
            :: cut.closed & (1 << i) -> /* encode_work: the change's token */
#endif
                store.closed = store.closed | (1 << i);
                token = 1;
                do :: TOKEN_IS_HELD(token, i) -> token++ :: else -> break od;
                store.work[i] = token;
                token = 0
            :: else
            fi;
            i++
        :: i < 2 && !(cut.changed & (1 << i)) -> i++
        :: i == 2 -> break
        od;
        lane_hash_changes();
        cut_is_exact();
        nothing_is_forgotten();
        i = 0
        }
    fi
}

inline go_astray()
{
    d_step {
    W.astray.is_there = 1; W.astray.is_dirty = W.is_dirty; W.astray.number = W.known_number + 1;
    copy_flight(W.astray.flight, F)
    }
}

/* give_up of worker_lanes.c, and a process that ends: flights are back or forgotten. What was sent may still arrive. */
inline abandon()
{
    if
    :: W.is_sent && !W.astray.is_there -> go_astray()
    :: else /* the connection ended before it arrived */
    fi;
    W.has_next = 0;
    clear_flight(W.next);
    drop_lane();
    land();
    W.is_member = 0; W.is_revoked = 0; W.is_lost = 0
}

/* What a step works with; nothing of it outlives the step. */
hidden byte i, to, token, was_done;
hidden Flight made;

proctype Work(bit me)
{
end:
    do
    /* on_assigned; its take is the next alternative. News of a loss comes before news of an assignment. */
    :: atomic { group_owner == me && !W.is_member -> W.is_member = 1 }

    /* take_lane, of on_assigned and retake_lanes: when nothing of an earlier taking is under way. A zombie does so too. */
    :: atomic {
        W.is_member && !W.has_lane && !W.has_taken && !W.is_revoked && !W.has_flight && (!W.is_lost || zombie_takes > 0) ->
        if :: W.is_lost -> zombie_takes-- :: else fi;
#ifdef M_LOAD_BEFORE_RAISE
        W.offset = store.offset; W.position = store.offset; W.total[0] = store.total[0]; W.total[1] = store.total[1];
        W.closed = store.closed; W.ids = store.ids; W.has_taken = 1
#else
        raise_epoch()
#endif
       }
    :: atomic {
        W.has_taken ->
#ifdef M_LOAD_BEFORE_RAISE
        raise_epoch(); W.has_taken = 0; W.has_lane = 1
#else
        load()
#endif
       }

    /* The consuming thread seals a cut and the writing thread begins with it. To seal earlier and wait would change nothing
     * but this worker's memory. A lane that is being handed over is sealed too (settle_lane). */
    :: atomic {
        !W.has_flight && (CAN_READ || CAN_IDLE || CAN_NOTICE) ->
        if
        :: CAN_READ ->
            to = W.position + 1;
            do :: to < END -> to++ :: break od;
            read_and_seal()
        :: CAN_IDLE -> idle_and_seal()
        :: CAN_NOTICE -> made.expected = W.offset; seal()
        fi;
        W.has_flight = 1;
        copy_flight(F, made);
        clear_flight(made);
        probe()
       }
#if FLIGHTS > 1
    /* Another one while the first is under way. */
    :: atomic {
        W.has_flight && !W.has_next && (CAN_READ || CAN_IDLE) ->
        if
        :: CAN_READ -> to = END; read_and_seal()
        :: CAN_IDLE -> idle_and_seal()
        fi;
        W.has_next = 1;
        copy_flight(W.next, made);
        clear_flight(made)
       }
#endif
    /* write_flight: the next one, or the same again. */
    :: atomic { W.has_flight && !W.is_sent -> probe() }
    /* EXEC arrives, and its answer comes back: done, or nil (then once more from the probe). */
    :: atomic {
        W.is_sent ->
        execute(W.flight, W.is_dirty, W.known_number + 1);
        W.is_sent = 0; W.is_dirty = 0;
        if :: was_done -> W.known_number = W.known_number + 1; written() :: else fi;
        was_done = 0
       }
    /* The connection breaks: after EXEC was done, or with the request still on its way. WEIR_RETRY: from the probe again. */
    :: atomic {
        W.is_sent && cuts_off > 0 ->
        cuts_off--;
        if
        :: execute(W.flight, W.is_dirty, W.known_number + 1); was_done = 0
        :: !W.astray.is_there -> go_astray()
        fi;
        W.is_sent = 0; W.is_dirty = 0
       }
    /* What was sent on a connection that was given up arrives late, or never. */
    :: atomic {
        W.astray.is_there ->
        if :: execute(W.astray.flight, W.astray.is_dirty, W.astray.number) :: skip fi;
        was_done = 0;
        clear_packet(W.astray)
       }

    /* on_revoked with time (settle_lane): all is written, or the time has run out. */
    :: atomic {
        W.is_revoked && !W.is_lost && !W.has_taken && ((!W.has_flight && !CAN_IDLE) || W.is_sent) ->
        abandon(); group_owner = 1 - me
       }
    /* on_revoked, lost: the zombie hears of it. Nothing is written any more. */
    :: atomic { W.is_lost -> abandon() }
    od
}

/* ---- a rater ------------------------------------------------------------------------------------------ */
#define R rater[me]
#define FREE 0
#define HAS_TOKEN 1
#define HAS_TOTAL 2
#define HAS_LOCK 3
#define HAS_RATED 4

inline forget_reading(it)
{
    d_step {
    if :: it.step == HAS_TOKEN -> it.step = FREE; it.token = 0; it.window = 0; it.total = 0 :: else fi
    }
}

inline start_over()
{
    d_step {
    R.step = FREE; R.token = 0; R.total = 0; R.before = 0; R.window = 0
    }
}

/* rate_window of rate.c: the difference to what was rated. */
inline write_difference()
{
    if
    :: R.total == R.before -> skip /* unchanged */
#ifndef M_NO_STALE_RULE
    :: R.total < R.before -> skip /* stale: an older cut came back; what is rated stands */
    :: R.total > R.before ->
#else
    :: R.total != R.before ->
#endif
#ifdef M_NO_LAST_TOTAL
        billed[R.window] = billed[R.window] + R.total;
#else
        assert(R.total > R.before); /* a bill never goes down because of an older cut */
        billed[R.window] = billed[R.window] + R.total - R.before;
#endif
        rated[R.window] = R.total
    fi;
    assert(billed[R.window] <= TRUTH(R.window, END))
}

proctype Rate(bit me)
{
end:
    do
#ifdef RATERS_AT_ONCE
    /* All the steps below as one: for the runs that look closely at the workers. */
    :: atomic {
        store.work[0] || store.work[1] ->
        if :: store.work[0] -> R.window = 0 :: store.work[1] -> R.window = 1 fi;
        R.total = store.total[R.window]; R.before = rated[R.window];
        write_difference();
        store.work[R.window] = 0;
        nothing_is_forgotten();
        start_over()
       }
#else
    /* weir_redis_read_work: the tokens first ... */
    :: atomic {
        R.step == FREE && (store.work[0] || store.work[1]) ->
        if :: store.work[0] -> R.window = 0 :: store.work[1] -> R.window = 1 fi;
        R.token = store.work[R.window];
#ifdef M_TOTAL_BEFORE_TOKEN
        R.token = 0; R.total = store.total[R.window];
#endif
        R.step = HAS_TOKEN
       }
    /* ... then the totals. */
    :: atomic {
        R.step == HAS_TOKEN ->
#ifdef M_TOTAL_BEFORE_TOKEN
        R.token = store.work[R.window];
#else
        R.total = store.total[R.window];
#endif
        R.step = HAS_TOTAL
#ifdef M_FINISH_FIRST
        ; if :: store.work[R.window] == R.token -> store.work[R.window] = 0 :: else fi
#endif
       }
    /* weir_ledger_ops.load: begins, locks the customer, then reads what was rated. */
    :: atomic {
#ifdef M_NO_LOCK
        R.step == HAS_TOTAL ->
#else
        R.step == HAS_TOTAL && lock == 0 -> lock = me + 1;
#endif
        R.before = rated[R.window]; R.step = HAS_LOCK
       }
    /* weir_ledger_ops.write: line items and the new last total in one transaction, committed. */
    :: atomic {
        R.step == HAS_LOCK -> write_difference(); lock = 0; R.step = HAS_RATED
       }
    /* The answer of the commit is lost, or the rater dies: done or not done. */
    :: atomic {
        R.step == HAS_LOCK && commits_lost > 0 ->
        commits_lost--;
        if
        :: write_difference()
        :: skip
        fi;
#ifdef M_LEDGER_APART
        rated[R.window] = R.before;
#endif
        lock = 0;
        start_over()
       }
    /* weir_redis_finish_work, finish_work.lua: off the list, unless it has changed since. */
    :: atomic {
        R.step == HAS_RATED ->
        if
#ifdef M_FINISH_WITHOUT_TOKEN
        :: true -> store.work[R.window] = 0
#else
        :: store.work[R.window] == R.token -> store.work[R.window] = 0
#endif
        :: else
        fi;
        nothing_is_forgotten();
        start_over()
       }
#endif
    od
}

/* ---- what goes wrong from outside --------------------------------------------------------------------- */
proctype Faults()
{
    bit me;

end:
    do
    /* The group: a rebalance, cooperative or not, of a member that answers. */
    :: atomic {
        hand_overs > 0 && worker[group_owner].is_member && !worker[group_owner].is_revoked && !worker[group_owner].is_lost ->
        hand_overs--; worker[group_owner].is_revoked = 1
       }
    /* ... of one that was silent for longer than the session timeout: it knows nothing. */
    :: atomic {
        losses > 0 && worker[group_owner].is_member && !worker[group_owner].is_lost && !worker[1 - group_owner].is_lost ->
        losses--; worker[group_owner].is_lost = 1; group_owner = 1 - group_owner
       }
    /* kill -9; the group gives the lane to the other one or, after a restart, to the same. */
    :: atomic {
        crashes > 0 ->
        crashes--;
        if :: me = 0 :: me = 1 fi;
        abandon();
        if :: group_owner == me -> group_owner = 1 - me :: true fi;
        me = 0
       }
    /* A replica or a snapshot is as old as it likes; first it is the empty store. */
    :: atomic { fallbacks > 0 && OLD_IS_OLD -> copy_cut(old, store) }
    /* The store falls back. Every connection ends with the old server. */
    :: atomic {
        fallbacks > 0 ->
        fallbacks--;
        copy_cut(store, old);
        worker[0].is_sent = 0; worker[0].is_dirty = 0; clear_packet(worker[0].astray);
        worker[1].is_sent = 0; worker[1].is_dirty = 0; clear_packet(worker[1].astray);
        forget_reading(rater[0]);
        forget_reading(rater[1]);
        if :: fallbacks == 0 -> clear_cut(old) :: else fi
       }
    /* From now on nothing goes wrong any more. */
    :: atomic {
        fallbacks + cuts_off + hand_overs + losses + crashes + commits_lost + zombie_takes > 0 ->
        fallbacks = 0; cuts_off = 0; hand_overs = 0; losses = 0; crashes = 0; commits_lost = 0; zombie_takes = 0;
        clear_cut(old)
       }
    od
}

/* ---- wherever it ends --------------------------------------------------------------------------------- */
#define LANE_OF_OWNER worker[group_owner]
proctype Monitor()
{
end:
    atomic {
        timeout ->
        assert(LANE_OF_OWNER.has_lane && !LANE_OF_OWNER.has_flight && !worker[1 - group_owner].has_lane);
        assert(store.offset == END && store.closed == 3 && !store.work[0] && !store.work[1]);
        cut_is_exact();
        assert(rated[0] == store.total[0] && rated[1] == store.total[1]);
        assert(billed[0] == TRUTH(0, END) && billed[1] == TRUTH(1, END));
        assert(lock == 0)
    }
}

init
{
    atomic {
        run Work(0);
        run Work(1);
        run Rate(0);
#if RATERS > 1
        run Rate(1);
#endif
        run Faults();
        run Monitor()
    }
}
