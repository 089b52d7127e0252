/* One connection to PostgreSQL as weir uses it, and what its errors mean. libpq's own header stays behind this floor.
 *
 * Everything travels in binary: exact, and without parsing on either side. Times travel as microseconds, weir's are
 * nanoseconds: what is no whole microsecond is refused, never rounded. One thread.
 */
#ifndef WEIR_RATER_POSTGRES_H
#define WEIR_RATER_POSTGRES_H

#include <libpq-fe.h>

#include "common/decimal.h"
#include "common/slice.h"
#include "common/status.h"

/* The first half of every advisory lock's key: "weir" in ASCII, so that other users of the database do not meet our
 * locks. */
#define WEIR_LOCK_CLASS "2003132786"

/* Opens a connection with weir's session settings (UTF-8, UTC, no search path). NULL: *reterr says why; *ret_status is
 * WEIR_RETRY (nobody answers, or not now) or WEIR_FATAL (refused). `program` names us in pg_stat_activity. */
PGconn *weir_postgres_connect(const char *url, const char *program, enum weir_status *ret_status,
                              struct weir_error *reterr);

/* The same, and the schema must be this binary's (weir_postgres_check_schema). */
PGconn *weir_postgres_open(const char *url, const char *program, enum weir_status *ret_status,
                           struct weir_error *reterr);

/* What a failed result (or, NULL, a broken connection) means: WEIR_RETRY for what passes (connection, deadlock,
 * shutdown, disk full, read-only), WEIR_FATAL for the rest. `doing` names the step, "writing line items". Clears the
 * result. */
enum weir_status weir_postgres_failed(PGconn *connection, PGresult *result, const char *doing,
                                      struct weir_error *reterr);

/* Runs a command (or several, without parameters) that answers no rows. */
enum weir_status weir_postgres_run(PGconn *connection, const char *sql, const char *doing, struct weir_error *reterr);

/* Parameters of one statement, in binary. Types are those of the casts in the SQL. */
enum { WEIR_PARAMETERS_MAX = 24 };
struct weir_parameters {
    int count;
    const char *values[WEIR_PARAMETERS_MAX];
    int lengths[WEIR_PARAMETERS_MAX];
};
void weir_parameters_add(struct weir_parameters *parameters, const void *bytes, size_t length);
/* A text, which is not copied; one without bytes is empty, and not null. */
void weir_parameters_add_slice(struct weir_parameters *parameters, struct weir_slice text);
void weir_parameters_add_text(struct weir_parameters *parameters, const char *text);

/* Runs one statement; *ret_result is the caller's to PQclear, its rows in binary. parameters may be NULL. */
enum weir_status weir_postgres_ask(PGconn *connection, const char *sql, const struct weir_parameters *parameters,
                                   const char *doing, PGresult **ret_result, struct weir_error *reterr);

/* The catalog that was applied last: a row of its text and its number, or no row. *ret_result as above. */
enum weir_status weir_postgres_ask_catalog(PGconn *connection, PGresult **ret_result, struct weir_error *reterr);

/* A field's bytes, as text or whatever it is; they live as long as the result. */
struct weir_slice weir_postgres_field(const PGresult *result, int row, int column);

/* Whether the schema `weir` is the one of this binary. WEIR_FATAL: it is not; *reterr says what to do. */
enum weir_status weir_postgres_check_schema(PGconn *connection, struct weir_error *reterr);

#endif
