/* Rows of a table into PostgreSQL: new ones by COPY straight into it (nobody else can have made them, since the
 * customer is locked), changed ones by one statement for all. What stands in them is postgres_write.c's. */
#include <stdio.h>

#include "rater/postgres_table.h"

enum {
    UPSERT_ROWS_MAX = 20000, /* rows of one statement: parameters stay at some megabytes */
    SQL_MAX = 4096,
};

/* 1. Statements: one list of columns makes the COPY and the upsert. */

static const char *type_name(enum weir_postgres_type type)
{
    switch (type) {
    case WEIR_PG_BOOL:
        return "bool";
    case WEIR_PG_BYTEA:
        return "bytea";
    case WEIR_PG_INT8:
        return "int8";
    case WEIR_PG_INT4:
        return "int4";
    case WEIR_PG_TEXT:
        return "text";
    case WEIR_PG_TIMESTAMPTZ:
        return "timestamptz";
    case WEIR_PG_NUMERIC:
        return "numeric";
    case WEIR_PG_UUID:
        return "uuid";
    case WEIR_PG_JSONB:
        return "jsonb";
    }
    weir_check(!"a type that is none");
    return "";
}

struct sql {
    char text[SQL_MAX];
    size_t length;
};

static void add_sql(struct sql *sql, const char *part, const char *name)
{
    int length = snprintf(sql->text + sql->length, SQL_MAX - sql->length, "%s%s", part, name);
    weir_check(length >= 0 && (size_t)length < SQL_MAX - sql->length);
    sql->length += (size_t)length;
}

static void add_columns(struct sql *sql, const struct weir_postgres_table *table, bool keys_only)
{
    const char *comma = " (";

    for (int i = 0; i < table->column_count; i++)
        if (!keys_only || table->columns[i].is_key) {
            add_sql(sql, comma, table->columns[i].name);
            comma = ", ";
        }
    add_sql(sql, ")", "");
}

static const char *copy_sql(const struct weir_postgres_table *table, struct sql *sql)
{
    sql->length = 0;
    add_sql(sql, "COPY ", table->name);
    add_columns(sql, table, false);
    add_sql(sql, " FROM STDIN (FORMAT binary)", "");
    return sql->text;
}

static const char *upsert_sql(const struct weir_postgres_table *table, struct sql *sql)
{
    const char *comma = " SELECT * FROM unnest(";
    char number[24];

    sql->length = 0;
    add_sql(sql, "INSERT INTO ", table->name);
    add_columns(sql, table, false);
    for (int i = 0; i < table->column_count; i++, comma = ", ") {
        snprintf(number, sizeof number, "$%d::", i + 1);
        add_sql(sql, comma, number);
        add_sql(sql, type_name(table->columns[i].type), "[]");
    }
    add_sql(sql, ") ON CONFLICT", "");
    add_columns(sql, table, true);
    add_sql(sql, " DO UPDATE SET ", table->touched);
    add_sql(sql, " = now()", "");
    for (int i = 0; i < table->column_count; i++)
        if (!table->columns[i].is_key) {
            add_sql(sql, ", ", table->columns[i].name);
            add_sql(sql, " = excluded.", table->columns[i].name);
        }
    return sql->text;
}

/* 2. COPY. */

enum weir_status weir_postgres_copy_send(struct weir_postgres_ledger *ledger, const char *doing,
                                         struct weir_error *reterr)
{
    struct weir_buffer *copy = &ledger->copy;
    int sent = PQputCopyData(ledger->connection, copy->data, (int)copy->length);

    copy->length = 0;
    return sent == 1 ? WEIR_OK : weir_postgres_failed(ledger->connection, NULL, doing, reterr);
}

enum weir_status weir_postgres_copy_begin(struct weir_postgres_ledger *ledger, const struct weir_postgres_table *table,
                                          const char *doing, struct weir_postgres_sink *sink, struct weir_error *reterr)
{
    struct sql sql;
    PGresult *result = PQexec(ledger->connection, copy_sql(table, &sql));

    if (PQresultStatus(result) != PGRES_COPY_IN)
        return weir_postgres_failed(ledger->connection, result, doing, reterr);
    PQclear(result);
    for (int i = 0; i < table->column_count; i++)
        sink->to[i] = &ledger->copy;
    ledger->copy.length = 0;
    weir_put_copy_header(&ledger->copy);
    return WEIR_OK;
}

enum weir_status weir_postgres_copy_end(struct weir_postgres_ledger *ledger, const char *doing,
                                        struct weir_error *reterr)
{
    weir_put_copy_end(&ledger->copy);
    enum weir_status status = weir_postgres_copy_send(ledger, doing, reterr);

    if (status != WEIR_OK)
        return status;
    if (PQputCopyEnd(ledger->connection, NULL) != 1)
        return weir_postgres_failed(ledger->connection, NULL, doing, reterr);
    for (PGresult *result; (result = PQgetResult(ledger->connection));) {
        if (PQresultStatus(result) == PGRES_COMMAND_OK)
            PQclear(result);
        else if (status == WEIR_OK)
            status = weir_postgres_failed(ledger->connection, result, doing, reterr);
        else
            PQclear(result);
    }
    return status;
}

/* 3. Rows that a batch leaves. */

static enum weir_status copy_new(struct weir_postgres_ledger *ledger, const struct weir_postgres_rows *rows,
                                 struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    struct weir_postgres_sink sink = {{0}};
    bool has_begun = false;

    for (size_t i = 0; i < rows->count && status == WEIR_OK; i++) {
        const struct weir_entry *entry = rows->entry(rows->list, i);
        if (!entry->is_dirty || entry->exists)
            continue;
        if (!has_begun)
            status = weir_postgres_copy_begin(ledger, rows->table, rows->doing, &sink, reterr);
        has_begun = true;
        for (uint32_t part = 0; status == WEIR_OK; part++) {
            size_t before = ledger->copy.length;
            weir_put_row(&ledger->copy, rows->table->column_count);
            if (!rows->put(ledger, rows->list, i, part, &sink)) {
                ledger->copy.length = before;
                break;
            }
            if (ledger->copy.length >= WEIR_POSTGRES_COPY_CHUNK)
                status = weir_postgres_copy_send(ledger, rows->doing, reterr);
        }
    }
    return has_begun && status == WEIR_OK ? weir_postgres_copy_end(ledger, rows->doing, reterr) : status;
}

static enum weir_status upsert(struct weir_postgres_ledger *ledger, const struct weir_postgres_rows *rows, size_t count,
                               struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    struct sql sql;
    PGresult *result = NULL;

    for (int i = 0; i < rows->table->column_count; i++) {
        weir_array_end(&ledger->columns[i], count);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    enum weir_status status =
        weir_postgres_ask(ledger->connection, upsert_sql(rows->table, &sql), &parameters, rows->doing, &result, reterr);
    PQclear(result);
    return status;
}

static enum weir_status update_changed(struct weir_postgres_ledger *ledger, const struct weir_postgres_rows *rows,
                                       struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    struct weir_postgres_sink sink = {{0}};
    size_t count = 0;

    for (int c = 0; c < rows->table->column_count; c++)
        sink.to[c] = &ledger->columns[c];
    for (size_t i = 0; i < rows->count && status == WEIR_OK; i++) {
        const struct weir_entry *entry = rows->entry(rows->list, i);
        if (!entry->is_dirty || !entry->exists)
            continue;
        for (int c = 0; c < rows->table->column_count && count == 0; c++)
            weir_array_begin(&ledger->columns[c], rows->table->columns[c].type);
        for (uint32_t part = 0; rows->put(ledger, rows->list, i, part, &sink); part++)
            count++;
        if (count >= UPSERT_ROWS_MAX) {
            status = upsert(ledger, rows, count, reterr);
            count = 0;
        }
    }
    return count && status == WEIR_OK ? upsert(ledger, rows, count, reterr) : status;
}

enum weir_status weir_postgres_write_rows(struct weir_postgres_ledger *ledger, const struct weir_postgres_rows *rows,
                                          struct weir_error *reterr)
{
    enum weir_status status = copy_new(ledger, rows, reterr);

    return status == WEIR_OK ? update_changed(ledger, rows, reterr) : status;
}
