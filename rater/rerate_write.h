/* One thread's writing of a rerating: a transaction for some customers, under the locks that raters take.
 *
 * A customer is judged first, group by group (one meter, fee or commitment in one period under one price book version):
 * whether the ledger's sums are what the catalog makes of the windows. Only where they are not, what differs is
 * written. So a group whose sums are right is left alone, in whatever order its windows were charged.
 *
 * What is charged now is kept while the customer is judged, and the ledger's lines are read once, for the sums and for
 * what differs. A customer with more lines than are kept is gone through twice: the second time batch by batch, with
 * the ledger's lines as a stream beside it.
 */
#ifndef WEIR_RATER_RERATE_WRITE_H
#define WEIR_RATER_RERATE_WRITE_H

#include "rater/postgres_rows.h"
#include "rater/rerate_internal.h"

/* 1. rerate_judge.c */

struct rerate_group {
    uint64_t hash;
    struct weir_slice contract, item, price_book;
    int64_t period_start;
    uint32_t price_book_version;
    bool has_meter;
    bool is_changed;
    uint32_t sum_count, sum_room;
    struct rerate_sum *sums;
};

/* What a component and tier of the group amount to. */
struct rerate_sum {
    enum weir_component component;
    uint32_t tier;
    struct weir_decimal quantity[2], amount[2]; /* before, after */
};

struct rerate_judge {
    struct weir_arena *arena; /* of groups; one customer */
    struct rerate_group **slots;
    size_t slot_count, group_count;
    struct rerate_group *last;
    bool is_fitting;    /* all sums did */
    bool has_new_terms; /* some window is rated under other terms */
    bool lacks_before;  /* what the ledger has is not added yet */
    PGresult *old;      /* the chunk's sums, by customer; NULL: they were not asked for */
    int old_at;
};

void weir_rerate_judge_free(struct rerate_judge *judge);
/* Before each chunk. */
void weir_rerate_judge_forget(struct rerate_judge *judge);
void weir_rerate_judge_begin(struct rerate_judge *judge);
/* A rerate_fresh's take_item; the context is the judge. */
void weir_rerate_judge_item(void *context, const struct weir_line_item *item);
/* What the ledger has of the customer, by the chunk's sums (read for the first one that asks); customers ask in their
 * order. Or line by line (weir_rerate_lines_read). */
enum weir_status weir_rerate_judge_sums(struct rerate_judge *judge, PGconn *connection,
                                        const struct rerate_chunk *chunk, const struct rerate_customer *customer,
                                        struct weir_error *reterr);
void weir_rerate_judge_before(struct rerate_judge *judge, const struct rerate_group *key, enum weir_component component,
                              uint32_t tier, struct weir_decimal quantity, struct weir_decimal amount);
/* The verdict on the customer whose items were taken, and of which the ledger's are known. WEIR_REJECT: a sum does not
 * fit. */
enum weir_status weir_rerate_judge_end(struct rerate_judge *judge, const struct rerate_fresh *fresh,
                                       bool *ret_is_changed, struct weir_error *reterr);
/* After the verdict: whether a line is of a group that changes. */
bool weir_rerate_is_changed(struct rerate_judge *judge, struct weir_slice contract, int64_t period_start,
                            struct weir_slice price_book, uint32_t price_book_version, struct weir_slice item,
                            bool has_meter);
/* Drawdown and overage: lines of a whole period, each of one grant, meter and segment, that no group adds up. */
bool weir_rerate_is_draw(enum weir_component component);
/* Whether the window's terms are others than those that the share was rated under. */
bool weir_rerate_has_new_terms(const struct rerate_window *share, const struct weir_rated_window *window);

/* 2. rerate_lines.c */

/* A charge of a window, fee or true-up. Texts are the list's, or the rater's while it has the customer. */
struct rerate_line {
    bool is_new, has_meter, has_unit_price;
    size_t number; /* in its list: old ones come in the order of writing */
    enum weir_component component;
    uint32_t tier, price_book_version, revision;
    struct weir_slice contract, item, dimensions, price_book, model, currency;
    int64_t period_start, period_end, window_start, window_end;
    struct weir_decimal quantity, unit_price, amount;
};

struct rerate_line_list {
    size_t count, room;
    struct rerate_line *lines;
};

struct rerate_text {
    uint64_t hash;
    struct weir_slice text;      /* data NULL: a free slot */
    struct weir_slice canonical; /* of dimensions as PostgreSQL writes them: as weir does */
};

enum { RERATE_LINE_COLUMNS = 19 };

struct rerate_lines {
    PGconn *connection; /* of the COPY that reads; NULL: not open yet */
    char *row; /* of the COPY under way, not taken yet: PQfreemem's, perhaps another customer's; NULL: none is */
    struct weir_slice fields[RERATE_LINE_COLUMNS]; /* its fields */
    bool is_small;                                 /* the customer whose lines were read last had few */
    const struct rerate_customer *expected;        /* the one after it in the chunk */
    struct rerate_judge *judge;
    bool is_judged;  /* what is taken is of groups that change alone */
    bool is_whole;   /* all that was taken so far is there */
    size_t kept_max; /* lines of a customer; 0: WEIR_RERATE_KEPT_LINES */
    struct weir_arena *arena;
    struct rerate_text *texts;
    size_t text_count, text_room;
    struct rerate_line_list now, later; /* of the batch; those that stand for a whole period, for the end */
    struct rerate_line next;            /* of the ledger */
    bool has_next;
};

void weir_rerate_lines_free(struct rerate_lines *lines);

/* The one way: before the customer is judged; while it is, items are taken; then the ledger's lines are read, for the
 * judge too if it lacks them; and, if is_whole is still true, what differs goes out. */
void weir_rerate_lines_keep(struct rerate_lines *lines);
/* Customers of the chunk in their order; lines of those that follow may be read along. */
enum weir_status weir_rerate_lines_read(struct rerate_lines *lines, const struct rerate_chunk *chunk,
                                        const struct rerate_customer *customer, struct weir_error *reterr);
/* Passes by what was read along and not asked for: after each chunk. */
enum weir_status weir_rerate_lines_drain(struct rerate_lines *lines, struct weir_error *reterr);
enum weir_status weir_rerate_lines_settle(struct rerate_lines *lines,
                                          enum weir_status (*emit)(void *context, const struct rerate_line *line,
                                                                   bool is_reversal, struct weir_error *reterr),
                                          void *context, struct weir_error *reterr);

/* The other way, of customers that were judged: the ledger's lines as a stream. */
enum weir_status weir_rerate_lines_begin(struct rerate_lines *lines, const struct rerate_customer *customer,
                                         struct weir_error *reterr);
/* A rerate_fresh's take_item; the context is the lines. */
void weir_rerate_lines_item(void *context, const struct weir_line_item *item);
/* Calls emit for each row that brings the ledger to what was taken: of windows that start until `until`, or with is_end
 * of all. WEIR_REJECT: a sum does not fit. */
enum weir_status weir_rerate_lines_merge(struct rerate_lines *lines, int64_t until, bool is_end,
                                         enum weir_status (*emit)(void *context, const struct rerate_line *line,
                                                                  bool is_reversal, struct weir_error *reterr),
                                         void *context, struct weir_error *reterr);

/* 3. rerate_write.c */

struct rerate_writer {
    struct weir_postgres_ledger *ledger; /* its connection writes, by a transaction of ours */
    const char *url;                     /* the caller's */
    PGconn *maker;                       /* of partitions; NULL until one is needed */
    struct weir_partitions partitions;   /* all that were there when it was opened, and those that it made */
    int64_t last_period;                 /* start of the last line's: its partition is there */
    int64_t run;
    int catalog_version;
    struct rerate_judge judge;
    struct rerate_lines lines;
    struct rerate_customer *customer; /* being written */
    struct weir_buffer copy;          /* line items to be copied */
    bool is_copying;                  /* their COPY is under way on the ledger's connection */
    size_t copied;                    /* bytes, by it */
    struct weir_buffer terms[11];     /* new terms of windows */
    size_t term_count;
    struct weir_buffer cleared[4]; /* customers, periods and meters of which `totals` has all that is to be there */
    size_t cleared_count;
    struct weir_state *totals;
};

enum weir_status weir_rerate_writer_open(struct rerate_writer *writer, const struct weir_rerate_request *request,
                                         int64_t run, int catalog_version, struct weir_error *reterr);
void weir_rerate_writer_close(struct rerate_writer *writer);
/* Begins the transaction and locks the customers. */
enum weir_status weir_rerate_writer_begin(struct rerate_writer *writer, const struct weir_slice *customers,
                                          size_t count, struct weir_error *reterr);
/* After each batch, while the customer is judged: windows that are rated under other terms now. */
enum weir_status weir_rerate_writer_terms(struct rerate_writer *writer, const struct rerate_window *shares,
                                          size_t count, const struct rerate_fresh *fresh, struct weir_error *reterr);
/* After each batch of a customer whose lines are a stream: those of windows that start until then. */
enum weir_status weir_rerate_writer_batch(struct rerate_writer *writer, int64_t until, struct weir_error *reterr);
/* The rest of its lines, or all of them where they were kept, and its totals. */
enum weir_status weir_rerate_writer_end(struct rerate_writer *writer, struct rerate_fresh *fresh,
                                        struct weir_error *reterr);
/* Sends what is left of their rows, notes that the customers are done, and commits. */
enum weir_status weir_rerate_writer_commit(struct rerate_writer *writer, const struct rerate_chunk *chunk,
                                           const struct weir_rerate_row *rows, struct weir_error *reterr);
void weir_rerate_writer_abandon(struct rerate_writer *writer);

/* 4. rerate_accounts.c */

/* After everything was rated anew: completes the fresh state by what it has to go on from, so that it is what is to be
 * stored, with the entries that bring balances to it. Once for each time that it was rated. Whether anything changes.
 */
bool weir_rerate_accounts_complete(struct rerate_fresh *fresh);

#endif
