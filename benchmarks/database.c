#include "benchmarks/database.h"

#include <libpq-fe.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "common/status.h"
#include "rater/migrate.h"

enum { PIECE = 262144 }; /* bytes that are given to a COPY at once */

/* 1. databases */
static void run(PGconn *connection, const char *sql)
{
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);
    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

static PGconn *connect_to(const char *url)
{
    PGconn *connection = PQconnectdb(url);
    if (PQstatus(connection) != CONNECTION_OK)
        weir_measure_die("%s: %s", "connecting", PQerrorMessage(connection));
    run(connection, "SET client_min_messages = warning; SET timezone = 'UTC'");
    return connection;
}

void weir_database_make(const char *name, char url[512])
{
    static struct weir_migration_list list;
    struct weir_error error;
    char sql[256];
    const char *server = weir_measure_server("POSTGRES_URL"), *slashes = strstr(server, "://"),
               *path = slashes ? strchr(slashes + 3, '/') : NULL;
    if (!path)
        weir_measure_die("%s: %s", server, "must be postgresql://.../DATABASE");
    PGconn *connection = connect_to(server);
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
    run(connection, sql);
    snprintf(sql, sizeof sql, "CREATE DATABASE %s TEMPLATE template0 ENCODING 'UTF8'", name);
    run(connection, sql);
    PQfinish(connection);
    const char *options = strchr(path, '?');
    snprintf(url, 512, "%.*s/%s%s", (int)(path - server), server, name, options ? options : "");
    if (weir_migrate(url, false, &list, &error) != WEIR_OK)
        weir_measure_die("%s: %s", "migrating", error.text);
}

void weir_database_drop(const char *name)
{
    char sql[256];
    PGconn *connection = connect_to(weir_measure_server("POSTGRES_URL"));
    snprintf(sql, sizeof sql, "DROP DATABASE IF EXISTS %s WITH (FORCE)", name);
    run(connection, sql);
    PQfinish(connection);
}

/* 2. rows, as PostgreSQL itself encodes them */
#define ITEM_COLUMNS                                                                                                   \
    "customer, contract, item, meter, dimensions, period_start, period_end, window_start, window_end, kind, "          \
    "component, price_book,"                                                                                           \
    " price_book_version, model, tier, quantity, unit_price, amount, currency, revision"
#define WINDOW_COLUMNS                                                                                                 \
    "customer, window_start, series, lane, window_end, meter, dimensions, series_key, events, value, latest_time, "    \
    "latest_offset, revision,"                                                                                         \
    " unpriced, contract, period_start, period_end, price_book, price_book_version, price_key"

static char *copy_out(PGconn *connection, const char *columns, const char *table, int64_t window_start,
                      size_t *ret_length)
{
    char sql[1024], *all = NULL, *piece;
    size_t length = 0;
    int got;

    snprintf(sql, sizeof sql,
             "COPY (SELECT %s FROM weir.%s WHERE window_start = to_timestamp(%lld)) TO STDOUT (FORMAT binary)", columns,
             table, (long long)(window_start / WEIR_SECOND));
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COPY_OUT)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    while ((got = PQgetCopyData(connection, &piece, 0)) > 0) {
        all = weir_resize(all, length + (size_t)got, 1);
        memcpy(all + length, piece, (size_t)got);
        length += (size_t)got;
        PQfreemem(piece);
    }
    PQclear(PQgetResult(connection));
    *ret_length = length;
    return all;
}

static void copy_in_begin(PGconn *connection, const char *sql)
{
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COPY_IN)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
}

static void copy_in_end(PGconn *connection, const char *sql)
{
    PGresult *result;

    if (PQputCopyEnd(connection, NULL) != 1)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    while ((result = PQgetResult(connection))) {
        if (PQresultStatus(result) != PGRES_COMMAND_OK)
            weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
        PQclear(result);
    }
}

static void copy_in(PGconn *connection, const char *sql, const char *data, size_t length)
{
    copy_in_begin(connection, sql);
    for (size_t at = 0; at < length; at += PIECE)
        if (PQputCopyData(connection, data + at, (int)(length - at < PIECE ? length - at : PIECE)) != 1)
            weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    copy_in_end(connection, sql);
}

void weir_database_copy_out(const char *url, int64_t first_hour, int count, struct weir_database_rows *ret_rows)
{
    PGconn *connection = connect_to(url);

    for (int i = 0; i < count; i++) {
        int64_t start = first_hour + i * WEIR_HOUR;
        ret_rows[i].items = copy_out(connection, ITEM_COLUMNS, "line_items", start, &ret_rows[i].items_length);
        ret_rows[i].windows = copy_out(connection, WINDOW_COLUMNS, "rated_windows", start, &ret_rows[i].windows_length);
    }
    PQfinish(connection);
}

void weir_database_free_rows(struct weir_database_rows *rows, int count)
{
    for (int i = 0; i < count; i++) {
        free(rows[i].items);
        free(rows[i].windows);
    }
    free(rows);
}

struct weir_took weir_database_copy_in(const char *url, const struct weir_database_rows *rows, int count)
{
    PGconn *connection = connect_to(url);

    run(connection, "SELECT weir.make_line_items_partition('2026-01-01')");
    struct weir_took began = weir_measure_now();
    for (int i = 0; i < count; i++) {
        run(connection, "BEGIN");
        copy_in(connection, "COPY weir.line_items (" ITEM_COLUMNS ") FROM STDIN (FORMAT binary)", rows[i].items,
                rows[i].items_length);
        copy_in(connection, "COPY weir.rated_windows (" WINDOW_COLUMNS ") FROM STDIN (FORMAT binary)", rows[i].windows,
                rows[i].windows_length);
        run(connection, "COMMIT");
    }
    struct weir_took took = weir_measure_since(began);
    PQfinish(connection);
    return took;
}

/* 3. questions */
void weir_database_each(const char *url, const char *sql, void (*visit)(void *context, const char *text), void *context)
{
    PGconn *connection = connect_to(url);
    PGresult *result = PQexec(connection, sql);
    ExecStatusType status = PQresultStatus(result);

    if (status != PGRES_COMMAND_OK && status != PGRES_TUPLES_OK)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    for (int row = 0; row < PQntuples(result); row++)
        visit(context, PQgetvalue(result, row, 0));
    PQclear(result);
    PQfinish(connection);
}

static void keep_first(void *context, const char *text)
{
    char *answer = context;

    if (!answer[0])
        snprintf(answer, WEIR_DATABASE_ANSWER_MAX, "%s", text);
}

void weir_database_ask(const char *url, const char *sql, char answer[WEIR_DATABASE_ANSWER_MAX])
{
    answer[0] = '\0';
    weir_database_each(url, sql, keep_first, answer);
}

static void keep_rows(PGconn *connection, const char *query, FILE *file)
{
    char sql[1024], *piece;
    int got;

    snprintf(sql, sizeof sql, "COPY (%s) TO STDOUT (FORMAT binary)", query);
    PGresult *result = PQexec(connection, sql);
    if (PQresultStatus(result) != PGRES_COPY_OUT)
        weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    PQclear(result);
    while ((got = PQgetCopyData(connection, &piece, 0)) > 0) {
        if (fwrite(piece, 1, (size_t)got, file) != (size_t)got)
            weir_measure_die("%s: %s", sql, "no room for what was read");
        PQfreemem(piece);
    }
    PQclear(PQgetResult(connection));
}

struct weir_took weir_database_copy_rows(const char *url, const char *query, const char *table)
{
    PGconn *connection = connect_to(url);
    FILE *file = tmpfile();
    char sql[1024], *bytes = weir_new(PIECE);
    size_t got;

    if (!file)
        weir_measure_die("%s: %s", table, "no file can be made for its rows");
    keep_rows(connection, query, file);
    rewind(file);
    snprintf(sql, sizeof sql, "COPY %s FROM STDIN (FORMAT binary)", table);
    struct weir_took began = weir_measure_now();
    copy_in_begin(connection, sql);
    while ((got = fread(bytes, 1, PIECE, file)) > 0)
        if (PQputCopyData(connection, bytes, (int)got) != 1)
            weir_measure_die("%s: %s", sql, PQerrorMessage(connection));
    copy_in_end(connection, sql);
    struct weir_took took = weir_measure_since(began);
    (void)fclose(file);
    free(bytes);
    PQfinish(connection);
    return took;
}

void weir_database_compare(const char *one, const char *other, int64_t rows)
{
    const char *urls[] = {one, other};
    char answers[2][256];

    for (int i = 0; i < 2; i++) {
        PGconn *connection = connect_to(urls[i]);
        PGresult *result = PQexec(
            connection,
            "SELECT concat_ws(' ', count(*), sum(quantity), sum(amount), (SELECT sum(value) FROM weir.rated_windows))"
            " FROM weir.line_items");
        snprintf(answers[i], sizeof answers[i], "%s", PQgetvalue(result, 0, 0));
        PQclear(result);
        PQfinish(connection);
    }
    if (strtoll(answers[0], NULL, 10) != rows)
        weir_measure_die("%s: %lld line items were wanted", answers[0], (long long)rows);
    if (strcmp(answers[0], answers[1]) != 0)
        weir_measure_die("%s: %s", answers[0], answers[1]);
}
