/* One run of weir in one process: a case (catalog, events), the outside (Kafka's group and log, the window store, the
 * ledger, quarantine) with everything that can go wrong there, the actors (workers and raters, the real code), and the
 * promises that are checked while it runs and at its end.
 *
 * The outside outlives its users: a store, a source or a ledger that an actor holds is a handle of a process, and the
 * state behind it is the run's. A process that is killed goes on until its code has unwound, but nothing that it does
 * reaches the outside any more: to everybody else it is as dead as after SIGKILL.
 */
#ifndef WEIR_TESTS_SIMULATION_SIMULATION_H
#define WEIR_TESTS_SIMULATION_SIMULATION_H

#include "aggregator/window_store.h"
#include "cli/worker.h"
#include "common/calendar.h"
#include "common/model/tally.h"
#include "ingest/quarantine.h"
#include "ingest/source.h"
#include "rater/rate.h"
#include "rater/state.h"
#include "tests/simulation/schedule.h"

enum {
    PARTITIONS_MAX = 3,
    WORKERS_MAX = 3,
    RATERS_MAX = 2,
    CUSTOMERS_MAX = 4,
    EVENTS_MAX = 96, /* of one partition */
    EVENT_BYTES_MAX = 320,
    LOSSES_MAX = 2,   /* of one partition */
    LIVES_MAX = 64,   /* processes that one run may start */
    SERIES_MAX = 256, /* bytes of a series key */
    BATCH_MAX = 8,    /* windows of a rater's transaction */
    THREADS_OF_RATER_MAX = 2,
};

#define TOPIC "usage"

/* 1. a case (events.c) */
enum fate {
    FATE_COUNTED,
    FATE_UNDOES, /* a retraction of an event that was counted */
    FATE_AHEAD,  /* a retraction whose event has not come: it will not count */
    FATE_DUPLICATE,
    FATE_CONFLICT, /* a known id, other content: quarantine */
    FATE_BROKEN,   /* no event at all: quarantine */
    FATE_LATE,     /* a resend that comes too late to be told from a new one: quarantine */
    FATE_UNREAD,   /* not read, or gone before it could be */
};

/* A message of a partition. */
struct simulated_event {
    char text[EVENT_BYTES_MAX];
    uint32_t length;
    int64_t offset;  /* ascending; some are left out, as compaction and transactions do */
    int64_t visible; /* simulated_clock from which it can be fetched */
    int64_t time;
    unsigned customer, model, id;
    bool is_job;        /* an event that can be retracted: its meters add up */
    bool is_retraction; /* of the event with its id */
    int64_t value;
    unsigned user;
    bool is_broken;
};

struct partition {
    char name[32]; /* the lane's */
    unsigned count;
    struct simulated_event events[EVENTS_MAX];
    unsigned loss_count;
    struct loss {
        int64_t at;  /* simulated_clock from which ... */
        int64_t low; /* ... Kafka holds nothing below this offset */
    } losses[LOSSES_MAX];
};

struct shape {
    unsigned partitions, workers, raters;
    unsigned events; /* of each partition */
    unsigned customers;
    unsigned minutes; /* that the events' times span */
    bool is_plain;    /* only new, good events */
    bool is_long;     /* far more time than lateness, so that ids are forgotten; the wall clock comes after it */
    unsigned losses;  /* how often Kafka's retention passes messages, 0..LOSSES_MAX; an operator releases the gaps */
    unsigned lowers;  /* of ten words of the operator's, so many lower what was rated */
    unsigned pauses;  /* between messages, in tenths of a second at most */
    uint32_t cuts_max;
    size_t changes_max;
    unsigned queue;        /* records that quarantine holds until they are durable, 1..8 */
    unsigned batch, fetch; /* windows a transaction; messages a poll */
    unsigned threads;      /* of a rater */
    int64_t flush_interval, idle, disorder, lateness;
};

/* What a window must hold. */
struct expected_window {
    char series[SERIES_MAX];
    uint32_t series_length;
    int64_t start, end;
    struct weir_window_total total;
    unsigned users; /* bits: which users a `unique` window has seen */
};

enum { EXPECTED_MAX = 1024 };

struct expectation {
    unsigned count;
    struct expected_window windows[EXPECTED_MAX];
    int64_t first_time, last_time; /* of counted events; first > last: none */
    struct weir_lane_counts counts;
    struct weir_tally tallies[1 + CUSTOMERS_MAX]; /* the first one is nobody's */
};

#define WALL_START (20000 * WEIR_DAY) /* 2024-10-04 */

struct run {
    struct shape shape;
    struct weir_catalog *catalog; /* of all runs */
    struct partition partitions[PARTITIONS_MAX];
    struct process lives[LIVES_MAX];
    unsigned life_count;
    uint64_t operator_seed;
    bool is_ending;  /* nobody is started again */
    bool has_jumped; /* the clock of a long case */
    bool was_full;   /* quarantine had no room, once at least */
    bool is_settled; /* a rater found all rated and settled the periods, since the store last went back */
    uint64_t faults, store_writes, commits, fallbacks, deaths, stalls, revocations, gaps, holds, words, releases;
};

/* The run under way; one at a time. */
extern struct run run;

void make_catalog(void);
/* Makes the events of the run's shape, by seed. */
void make_events(uint64_t seed);
void trace_events(void);
/* The straight model: what becomes of a partition's messages below next_offset where those in the gaps were never read,
 * and what its windows hold then. */
void judge_all(const struct partition *partition, int64_t next_offset, const struct weir_gaps *gaps,
               enum fate fates[EVENTS_MAX]);
void expect_lane(const struct partition *partition, int64_t next_offset, const struct weir_gaps *gaps,
                 struct expectation *ret_expectation);
struct expected_window *find_expected(const struct expectation *expectation, struct weir_slice series, int64_t start);
unsigned tally_place(struct weir_slice customer);      /* in an expectation's tallies */
int64_t end_offset(const struct partition *partition); /* one past the last message */
int64_t log_start(const struct partition *partition);  /* the first one that Kafka still holds, now */

/* 2. the outside */

/* What may go wrong where something is asked of the outside. */
enum fault {
    FAULT_NONE,
    FAULT_REFUSED,     /* nothing happened, and the caller is told to try again */
    FAULT_ANSWER_LOST, /* it happened, and the caller is told to try again */
    FAULT_DEAD_BEFORE, /* the process is killed first */
    FAULT_DEAD_AFTER,  /* it happened, and then the process is killed */
    FAULT_STALL,       /* the process stops for longer than the group waits, then goes on */
    FAULT_OLDER_1,     /* the store falls back by one write, by half of them, to nothing, and then is asked */
    FAULT_OLDER_HALF,
    FAULT_OLDER_ALL,
    FAULT_OLDER_AFTER, /* it happened, and is lost with the fall back by one write */
    FAULT_COUNT,
};
#define FAULT_BIT(fault) (1u << (fault))
#define FAULTS_OLDER                                                                                                   \
    (FAULT_BIT(FAULT_OLDER_1) | FAULT_BIT(FAULT_OLDER_HALF) | FAULT_BIT(FAULT_OLDER_ALL) | FAULT_BIT(FAULT_OLDER_AFTER))
#define FAULTS_ANY                                                                                                     \
    (FAULT_BIT(FAULT_REFUSED) | FAULT_BIT(FAULT_ANSWER_LOST) | FAULT_BIT(FAULT_DEAD_BEFORE)                            \
     | FAULT_BIT(FAULT_DEAD_AFTER) | FAULT_BIT(FAULT_STALL))

/* The caller's process is about to ask something of the outside: lets others go first, chooses a fault among those
 * allowed, and does what FAULT_DEAD_BEFORE and FAULT_STALL say. FAULT_DEAD_BEFORE: the process is dead; do nothing and
 * answer dead(). */
enum fault meet_fault(unsigned allowed, const char *what);
/* After FAULT_ANSWER_LOST and FAULT_DEAD_AFTER: the answer. */
enum weir_status lose_answer(enum fault fault, struct weir_error *reterr);
enum weir_status dead(struct weir_error *reterr);
void kill_process(void); /* the caller's */
bool never(void *context);

void store_begin(void);
void store_end(void);
/* The lane as it is stored against the straight model of the messages before its next offset. */
void check_lane(unsigned partition);
unsigned partition_of(struct weir_slice lane);
struct weir_window_store *store_handle(void);                   /* of the caller's process */
const struct weir_lane_state *stored_state(unsigned partition); /* NULL: never taken */
bool store_has_work(unsigned partition);
void stored_windows(unsigned partition,
                    void (*visit)(void *context, const struct weir_window *window, bool is_closed, bool has_work),
                    void *context);

void source_begin(void);
struct weir_source *source_handle(const struct weir_source_listener *listener);
/* The group's session of this process has timed out: its partitions are free, it learns of it when it polls. */
void expire_member(const struct process *process);

void quarantine_begin(void);
struct weir_quarantine *quarantine_handle(void);
bool is_quarantined(unsigned partition, int64_t offset); /* durable */

struct books; /* the tables of a ledger */
struct books *books_new(void);
struct books *books_free(struct books *books);
/* is_safe: nothing goes wrong and nobody interferes: for the ledger that says what is right. */
struct weir_ledger *ledger_handle(struct books *books, bool is_safe);
void release_locks(const struct process *process); /* a connection is gone: so is its transaction */
/* The two must hold the same: rated windows, periods, and the sums of line items. */
void compare_books(const struct books *found, const struct books *expected);
void visit_rated(const struct books *books,
                 void (*visit)(void *context, const struct weir_rated_window *window,
                               const struct weir_rated_lane *share),
                 void *context);
/* What was rated of it last; NULL: nothing. */
const struct weir_window_total *rated_total(const struct books *books, unsigned partition, struct weir_slice series,
                                            int64_t start);

/* What PostgreSQL knows of lanes, gaps and held windows (book.c); weir_lane_book and weir_claims are on it. */
void book_begin(void);
bool book_is_open(void); /* a gap that nobody decided on, or a window that is held */
unsigned gap_number(unsigned partition, const struct weir_gap *gap); /* 0: no rater has recorded it */
bool is_decided(unsigned gap);                                       /* it was no loss, or was released */
bool was_touched(unsigned partition, int64_t start, int64_t end);    /* by any gap that was recorded */
bool may_have_lowered(unsigned partition, int64_t start, int64_t end);
void check_closing(int64_t period_end); /* of a billing period, now, by the caller's process */
void check_words(void);                 /* at the end: each did what it says */
/* At the end: what raters were told of a tally that the store holds is what the store holds. */
void check_noted_tally(unsigned partition, const struct weir_window *window, bool is_closed);
/* Inside a ledger's transaction. */
void load_held(struct weir_state *state);
void keep_held(struct weir_state *state);

/* What lanes held in cuts that the store took (truth.c): a total that is less than the truth, of a lane that could not
 * read all, may be rated only by an operator's word. */
void truth_begin(void);
void truth_end(void);
void remember_cut(unsigned partition, const struct weir_lane_state *state, const struct weir_cut *cut);
/* What is about to be committed, against what lanes held, what was rated and what was decided. */
void check_commit(struct weir_state *stored, struct weir_state *state);
bool same_total(const struct weir_window_total *a, const struct weir_window_total *b);

/* 3. actors and the end (actors.c, check.c) */
extern struct books *run_books;
void start_actors(void);
/* Waits until everything that was sent is counted, closed, rated and settled. */
void wait_for_rest(void);
void stop_actors(void);
bool is_complete(void); /* all that was sent is counted, and all windows and periods have ended */
void check_end(void);

#endif
