/* What the rater's state has in PostgreSQL: keys go over as arrays, the rows that exist come back with the place of
 * their key. */
#include <stdlib.h>
#include <string.h>

#include "rater/postgres_rows.h"

/* 1. customers */

/* Those of entries that are not loaded, sorted, each once, into ledger->customers. */
static size_t list_customers(struct weir_postgres_ledger *ledger, struct weir_state *state)
{
    struct weir_state_view all = weir_state_all(state);
    size_t room = all.window_count + all.price_count + all.period_count + all.account_count, count = 0, kept = 0;
    struct weir_series series;

    if (room > ledger->customer_room) {
        ledger->customer_room = room;
        ledger->customers = weir_resize(ledger->customers, room, sizeof *ledger->customers);
    }
    struct weir_slice *customers = ledger->customers;
    for (size_t i = 0; i < all.window_count; i++)
        if (!all.windows[i]->entry.is_loaded) {
            weir_check(weir_series_parse(all.windows[i]->series_key, &series));
            customers[count++] = series.customer;
        }
    for (size_t i = 0; i < all.price_count; i++)
        if (!all.prices[i]->entry.is_loaded)
            customers[count++] = all.prices[i]->customer;
    for (size_t i = 0; i < all.period_count; i++)
        if (!all.periods[i]->entry.is_loaded)
            customers[count++] = all.periods[i]->customer;
    for (size_t i = 0; i < all.account_count; i++)
        if (!all.accounts[i]->entry.is_loaded)
            customers[count++] = all.accounts[i]->customer;
    if (count)
        qsort(customers, count, sizeof *customers, weir_slice_compare_items);
    for (size_t i = 0; i < count; i++)
        if (kept == 0 || !weir_slice_equal(customers[kept - 1], customers[i]))
            customers[kept++] = customers[i];
    return kept;
}

/* Those that have grants, or orders of grants, get an account. */
static void note_accounts(const PGresult *result, struct weir_state *state)
{
    for (int i = 0; i < PQntuples(result); i++)
        if (!PQgetisnull(result, i, 1))
            weir_state_account(state, weir_postgres_field(result, i, 1));
}

/* What a rehearsal does instead of locking. */
static enum weir_status look_at_customers(struct weir_postgres_ledger *ledger, const struct weir_parameters *parameters,
                                          struct weir_state *state, struct weir_error *reterr)
{
    PGresult *result = NULL;
    enum weir_status status = weir_postgres_ask(
        ledger->connection, "SELECT 0, customer FROM weir.customers WHERE customer = ANY ($1::text[]) AND has_orders",
        parameters, "looking at customers", &result, reterr);

    if (status == WEIR_OK)
        note_accounts(result, state);
    PQclear(result);
    return status;
}

/* Both statements go through the customers in one order, so that raters wait for one another in a line and not in a
 * circle. */
enum weir_status weir_postgres_lock_customers(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                              struct weir_error *reterr)
{
    size_t count = list_customers(ledger, state);
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    if (count == 0)
        return WEIR_OK;
    weir_array_begin(&ledger->columns[0], WEIR_PG_TEXT);
    for (size_t i = 0; i < count; i++)
        weir_put_text(&ledger->columns[0], ledger->customers[i]);
    weir_array_end(&ledger->columns[0], count);
    weir_parameters_add(&parameters, ledger->columns[0].data, ledger->columns[0].length);
    if (ledger->rehearsed)
        return look_at_customers(ledger, &parameters, state, reterr);
    enum weir_status status = weir_postgres_ask(
        ledger->connection, "INSERT INTO weir.customers (customer) SELECT unnest($1::text[]) ON CONFLICT DO NOTHING",
        &parameters, "noting customers", &result, reterr);
    if (status != WEIR_OK)
        return status;
    PQclear(result);
    /* The locks are what is wanted, and of the rows those alone that have grants or orders. */
    status = weir_postgres_ask(ledger->connection,
                               "WITH locked AS MATERIALIZED (SELECT customer, has_orders FROM weir.customers"
                               " WHERE customer = ANY ($1::text[]) ORDER BY customer FOR NO KEY UPDATE)"
                               " SELECT (SELECT count(*) FROM locked), o.customer FROM (SELECT) AS one"
                               " LEFT JOIN locked AS o ON o.has_orders",
                               &parameters, "locking customers", &result, reterr);
    if (status != WEIR_OK)
        return status;
    bool is_whole = weir_get_int8(PQgetvalue(result, 0, 0)) == (int64_t)count;
    note_accounts(result, state);
    PQclear(result);
    return is_whole
               ? WEIR_OK
               : weir_fail(reterr, WEIR_RETRY, "PostgreSQL: a row of weir.customers went away while it was locked");
}

/* 2. cells of an answer */
struct row {
    const PGresult *result;
    int number;
};

static struct weir_slice text_at(struct row row, int column)
{
    return weir_slice_of(PQgetvalue(row.result, row.number, column),
                         (size_t)PQgetlength(row.result, row.number, column));
}

static bool is_null(struct row row, int column)
{
    return PQgetisnull(row.result, row.number, column);
}

static int64_t int8_at(struct row row, int column)
{
    return weir_get_int8(PQgetvalue(row.result, row.number, column));
}

static uint32_t int4_at(struct row row, int column)
{
    return is_null(row, column) ? 0 : (uint32_t)weir_get_int4(PQgetvalue(row.result, row.number, column));
}

static int64_t time_at(struct row row, int column)
{
    return is_null(row, column) ? 0 : weir_get_time(PQgetvalue(row.result, row.number, column));
}

static bool decimal_at(struct row row, int column, struct weir_decimal *ret_value)
{
    return weir_get_decimal(PQgetvalue(row.result, row.number, column),
                            (size_t)PQgetlength(row.result, row.number, column), ret_value);
}

/* events, value, latest_time, latest_offset: four columns from `column` on. */
static bool total_at(struct row row, int column, struct weir_window_total *ret_total)
{
    struct weir_window_total total = {
        .events = (uint64_t)int8_at(row, column),
        .latest_time = int8_at(row, column + 2),
        .latest_offset = int8_at(row, column + 3),
    };

    if (!decimal_at(row, column + 1, &total.value))
        return false;
    *ret_total = total;
    return true;
}

/* 3. asking by keys */

/* One table's part of a load: keys of entries from `first` on, and what to do with each row. */
struct question {
    struct weir_postgres_ledger *ledger;
    struct weir_state *state;
    const char *sql; /* its first column is the key's place, from 1 */
    const char *doing;
    int key_columns;
    size_t first, count;
};

typedef bool take_row(const struct question *question, size_t index, struct row row);

static enum weir_status ask(const struct question *question, take_row *take, struct weir_error *reterr)
{
    struct weir_postgres_ledger *ledger = question->ledger;
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    for (int i = 0; i < question->key_columns; i++) {
        weir_array_end(&ledger->columns[i], question->count);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    enum weir_status status =
        weir_postgres_ask(ledger->connection, question->sql, &parameters, question->doing, &result, reterr);
    if (status != WEIR_OK)
        return status;
    for (int i = 0; i < PQntuples(result) && status == WEIR_OK; i++) {
        struct row row = {result, i};
        if (!take(question, question->first + (size_t)int8_at(row, 0) - 1, row))
            status = weir_fail(reterr, WEIR_FATAL,
                               "PostgreSQL, %s: a row that weir never wrote; restore the tables of schema "
                               "weir as they were",
                               question->doing);
    }
    PQclear(result);
    return status;
}

static void begin_keys(struct question *question, const enum weir_postgres_type *types)
{
    for (int i = 0; i < question->key_columns; i++)
        weir_array_begin(&question->ledger->columns[i], types[i]);
}

/* 4. windows */
static bool unpriced_at(struct row row, int column, enum weir_unpriced *ret_unpriced)
{
    struct weir_slice name =
        is_null(row, column) ? weir_slice_text(weir_unpriced_name[WEIR_UNPRICED_PRICED]) : text_at(row, column);

    for (int i = 0; i < WEIR_UNPRICED_COUNT; i++)
        if (weir_slice_equal(name, weir_slice_text(weir_unpriced_name[i]))) {
            *ret_unpriced = (enum weir_unpriced)i;
            return true;
        }
    return false;
}

/* All lanes of a window carry the same terms: a write that changes them writes them all. */
static bool take_window(const struct question *question, size_t index, struct row row)
{
    struct weir_rated_window *window = weir_state_all(question->state).windows[index];
    struct weir_rated_lane *lane = weir_rated_window_lane(question->state, window, text_at(row, 1));

    if (!weir_slice_equal(text_at(row, 14), window->series_key) || time_at(row, 15) != window->end)
        return false;
    window->entry.exists = true;
    lane->revision = int4_at(row, 6);
    if (!total_at(row, 2, &lane->total) || !unpriced_at(row, 7, &window->unpriced))
        return false;
    lane->total.retracted = (uint64_t)int8_at(row, 16);
    window->contract = weir_state_copy(question->state, text_at(row, 8));
    window->period_start = time_at(row, 9);
    window->period_end = time_at(row, 10);
    window->price_book = weir_state_copy(question->state, text_at(row, 11));
    window->price_book_version = int4_at(row, 12);
    window->price_key = weir_state_copy(question->state, text_at(row, 13));
    return true;
}

static enum weir_status load_windows(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                     struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_UUID};
    struct question question = {
        .ledger = ledger,
        .state = state,
        .sql =
            "SELECT k.n, w.lane, w.events, w.value, w.latest_time, w.latest_offset, w.revision, w.unpriced, w.contract,"
            " w.period_start, w.period_end, w.price_book, w.price_book_version, w.price_key, w.series_key, "
            "w.window_end,"
            " w.retracted"
            " FROM unnest($1::text[], $2::timestamptz[], $3::uuid[]) WITH ORDINALITY AS k(customer, start, series, n)"
            " JOIN weir.rated_windows AS w ON w.customer = k.customer AND w.window_start = k.start AND w.series = "
            "k.series",
        .doing = "loading rated windows",
        .key_columns = 3,
    };
    struct weir_state_view all = weir_state_all(state);
    struct weir_series series;

    begin_keys(&question, types);
    while (question.first < all.window_count && all.windows[question.first]->entry.is_loaded)
        question.first++;
    for (size_t i = question.first; i < all.window_count; i++, question.count++) {
        struct weir_rated_window *window = all.windows[i];
        struct weir_row_id id = weir_row_id(ledger, window->series_key);
        weir_check(!window->entry.is_loaded && weir_series_parse(window->series_key, &series));
        weir_put_text(&ledger->columns[0], series.customer);
        weir_put_time(&ledger->columns[1], window->start);
        weir_put_uuid(&ledger->columns[2], id.bytes);
    }
    return question.count ? ask(&question, take_window, reterr) : WEIR_OK;
}

/* 5. prices and splits */
static bool take_price(const struct question *question, size_t index, struct row row)
{
    struct weir_price_running *price = weir_state_all(question->state).prices[index];

    price->entry.exists = true;
    price->events = (uint64_t)int8_at(row, 2);
    return decimal_at(row, 1, &price->quantity) && decimal_at(row, 3, &price->amount)
           && weir_slice_equal(text_at(row, 4), price->price_key);
}

static const enum weir_postgres_type price_types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT,
                                                      WEIR_PG_INT4, WEIR_PG_UUID, WEIR_PG_UUID};

static void put_price_key(struct weir_postgres_ledger *ledger, const struct weir_price_running *price)
{
    struct weir_row_id id = weir_row_id(ledger, price->price_key);

    weir_put_text(&ledger->columns[0], price->customer);
    weir_put_text(&ledger->columns[1], price->contract);
    weir_put_time(&ledger->columns[2], price->period_start);
    weir_put_text(&ledger->columns[3], price->price_book);
    weir_put_int4(&ledger->columns[4], (int32_t)price->price_book_version);
    weir_put_uuid(&ledger->columns[5], id.bytes);
}

static enum weir_status load_prices(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                    struct weir_error *reterr)
{
    struct question question = {
        .ledger = ledger,
        .state = state,
        .sql = "SELECT k.n, p.quantity, p.events, p.amount, p.price_key"
               " FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::int[], $6::uuid[])"
               " WITH ORDINALITY AS k(customer, contract, start, book, version, id, n) JOIN weir.price_totals AS p"
               " ON p.customer = k.customer AND p.contract = k.contract AND p.period_start = k.start"
               " AND p.price_book = k.book AND p.price_book_version = k.version AND p.price_id = k.id",
        .doing = "loading prices' totals",
        .key_columns = 6,
    };
    struct weir_state_view all = weir_state_all(state);

    begin_keys(&question, price_types);
    while (question.first < all.price_count && all.prices[question.first]->entry.is_loaded)
        question.first++;
    for (size_t i = question.first; i < all.price_count; i++, question.count++) {
        weir_check(!all.prices[i]->entry.is_loaded);
        put_price_key(ledger, all.prices[i]);
    }
    return question.count ? ask(&question, take_price, reterr) : WEIR_OK;
}

static bool take_split(const struct question *question, size_t index, struct row row)
{
    struct weir_split_running *split = weir_state_all(question->state).splits[index];

    split->entry.exists = true;
    return total_at(row, 1, &split->total) && weir_slice_equal(text_at(row, 5), split->series_key);
}

static enum weir_status load_splits(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                    struct weir_error *reterr)
{
    struct question question = {
        .ledger = ledger,
        .state = state,
        .sql =
            "SELECT k.n, s.events, s.value, s.latest_time, s.latest_offset, s.series_key"
            " FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::int[], $6::uuid[], $7::uuid[])"
            " WITH ORDINALITY AS k(customer, contract, start, book, version, id, series, n) JOIN weir.split_totals AS s"
            " ON s.customer = k.customer AND s.contract = k.contract AND s.period_start = k.start"
            " AND s.price_book = k.book AND s.price_book_version = k.version AND s.price_id = k.id"
            " AND s.series = k.series",
        .doing = "loading splits' totals",
        .key_columns = 7,
    };
    struct weir_state_view all = weir_state_all(state);

    begin_keys(&question, price_types);
    while (question.first < all.split_count && all.splits[question.first]->entry.is_loaded)
        question.first++;
    for (size_t i = question.first; i < all.split_count; i++, question.count++) {
        struct weir_row_id id = weir_row_id(ledger, all.splits[i]->series_key);
        weir_check(!all.splits[i]->entry.is_loaded);
        put_price_key(ledger, all.splits[i]->price);
        weir_put_uuid(&ledger->columns[6], id.bytes);
    }
    return question.count ? ask(&question, take_split, reterr) : WEIR_OK;
}

/* 6. periods */
static bool take_period(const struct question *question, size_t index, struct row row)
{
    struct weir_period_running *period = weir_state_all(question->state).periods[index];

    period->entry.exists = true;
    period->true_up_revision = int4_at(row, 3);
    period->is_advance_charged = *PQgetvalue(row.result, row.number, 4);
    period->is_closed = *PQgetvalue(row.result, row.number, 5);
    return decimal_at(row, 1, &period->usage_amount) && decimal_at(row, 2, &period->true_up);
}

static enum weir_status load_periods(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                     struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ};
    struct question question = {
        .ledger = ledger,
        .state = state,
        .sql =
            "SELECT k.n, p.usage_amount, p.true_up, p.true_up_revision, p.is_advance_charged, p.is_closed"
            " FROM unnest($1::text[], $2::text[], $3::timestamptz[]) WITH ORDINALITY AS k(customer, contract, start, n)"
            " JOIN weir.billing_periods AS p"
            " ON p.customer = k.customer AND p.contract = k.contract AND p.period_start = k.start",
        .doing = "loading billing periods",
        .key_columns = 3,
    };
    struct weir_state_view all = weir_state_all(state);

    begin_keys(&question, types);
    while (question.first < all.period_count && all.periods[question.first]->entry.is_loaded)
        question.first++;
    for (size_t i = question.first; i < all.period_count; i++, question.count++) {
        weir_check(!all.periods[i]->entry.is_loaded);
        weir_put_text(&ledger->columns[0], all.periods[i]->customer);
        weir_put_text(&ledger->columns[1], all.periods[i]->contract);
        weir_put_time(&ledger->columns[2], all.periods[i]->start);
    }
    return question.count ? ask(&question, take_period, reterr) : WEIR_OK;
}

/* 7. items without a running total */
static bool take_charged(const struct question *question, size_t index, struct row row)
{
    struct weir_charged_item *charged = weir_state_all(question->state).charged[index];

    charged->entry.exists = true;
    charged->revision = int4_at(row, 3);
    return decimal_at(row, 1, &charged->quantity) && decimal_at(row, 2, &charged->amount);
}

static enum weir_status load_charged(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                     struct weir_error *reterr)
{
    static const enum weir_postgres_type types[] = {WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT};
    struct question question = {
        .ledger = ledger,
        .state = state,
        .sql = "SELECT k.n, sum(l.quantity), sum(l.amount), max(l.revision)"
               " FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[]) WITH ORDINALITY"
               " AS k(customer, contract, start, item, n) JOIN weir.line_items AS l ON l.customer = k.customer"
               " AND l.period_start = k.start AND l.meter IS NULL AND l.contract = k.contract AND l.item = k.item"
               " GROUP BY k.n",
        .doing = "loading charged items",
        .key_columns = 4,
    };
    struct weir_state_view all = weir_state_all(state);

    begin_keys(&question, types);
    while (question.first < all.charged_count && all.charged[question.first]->entry.is_loaded)
        question.first++;
    for (size_t i = question.first; i < all.charged_count; i++, question.count++) {
        weir_check(!all.charged[i]->entry.is_loaded);
        weir_put_text(&ledger->columns[0], all.charged[i]->customer);
        weir_put_text(&ledger->columns[1], all.charged[i]->contract);
        weir_put_time(&ledger->columns[2], all.charged[i]->period_start);
        weir_put_text(&ledger->columns[3], all.charged[i]->item);
    }
    return question.count ? ask(&question, take_charged, reterr) : WEIR_OK;
}

enum weir_status weir_postgres_load_state(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                          struct weir_error *reterr)
{
    enum weir_status status = load_windows(ledger, state, reterr);

    if (status == WEIR_OK)
        status = load_prices(ledger, state, reterr);
    if (status == WEIR_OK)
        status = load_splits(ledger, state, reterr);
    if (status == WEIR_OK)
        status = load_periods(ledger, state, reterr);
    if (status == WEIR_OK)
        status = load_charged(ledger, state, reterr);
    return status;
}

/* 7. what else was rated into a split */

/* Of all windows but those of $8 and $9 (a split's place, a window's start), the one share that decides: the lowest,
 * the highest or the latest. So a split of a year of minutes costs one row here. A window lies whole in one period, so
 * the period's bounds find the windows by the key's first columns. */
static const char rest_sql[] =
    "SELECT k.n, r.events, r.value, r.latest_time, r.latest_offset"
    " FROM unnest($1::text[], $2::text[], $3::timestamptz[], $4::text[], $5::int[], $6::text[], $7::uuid[],"
    " $10::timestamptz[], $11::int[])"
    " WITH ORDINALITY AS k(customer, contract, start, book, version, price, series, period_end, sign, n), LATERAL ("
    "SELECT w.events, w.value, w.latest_time, w.latest_offset FROM weir.rated_windows AS w"
    " WHERE w.customer = k.customer AND w.window_start >= k.start AND w.window_start < k.period_end"
    " AND w.series = k.series AND w.events > 0 AND w.unpriced IS NULL AND w.contract = k.contract"
    " AND w.period_start = k.start AND w.price_book = k.book AND w.price_book_version = k.version"
    " AND w.price_key = k.price AND (k.n, w.window_start) NOT IN (SELECT * FROM unnest($8::bigint[],"
    " $9::timestamptz[])) ORDER BY w.value * k.sign DESC,"
    " CASE WHEN k.sign = 0 THEN w.latest_time END DESC, CASE WHEN k.sign = 0 THEN w.latest_offset END DESC,"
    " w.value DESC LIMIT 1) AS r";

enum { REST_KEYS = 11, REST_OWN = 7, REST_BOUNDS = 9 }; /* the key; windows that are known; period_end and sign */

/* What the value is multiplied by so that the highest decides; 0: the latest does. */
static int32_t sign_of(enum weir_aggregation aggregation)
{
    return aggregation == WEIR_AGGREGATION_MAX ? 1 : aggregation == WEIR_AGGREGATION_MIN ? -1 : 0;
}

static void put_split(struct weir_postgres_ledger *ledger, const struct weir_split_running *split)
{
    const struct weir_price_running *price = split->price;
    struct weir_row_id id = weir_row_id(ledger, split->series_key);

    weir_put_text(&ledger->columns[0], price->customer);
    weir_put_text(&ledger->columns[1], price->contract);
    weir_put_time(&ledger->columns[2], price->period_start);
    weir_put_text(&ledger->columns[3], price->price_book);
    weir_put_int4(&ledger->columns[4], (int32_t)price->price_book_version);
    weir_put_text(&ledger->columns[5], price->price_key);
    weir_put_uuid(&ledger->columns[6], id.bytes);
    weir_put_time(&ledger->columns[REST_BOUNDS], price->period_end);
    weir_put_int4(&ledger->columns[REST_BOUNDS + 1], sign_of(split->aggregation));
}

static int compare_asked(const void *left, const void *right)
{
    const struct weir_split_running *const *a = left, *const *b = right;
    return weir_slice_compare((*a)->series_key, (*b)->series_key);
}

/* The state's windows of the splits' series, in whatever period: more than are needed are harmless. Splits are sorted
 * by series. How many there are. */
static size_t put_own(struct weir_postgres_ledger *ledger, struct weir_state *state, struct weir_split_running **asked,
                      size_t count)
{
    struct weir_state_view all = weir_state_all(state);
    size_t own = 0;

    for (size_t i = 0; i < all.window_count; i++) {
        struct weir_slice key = all.windows[i]->series_key;
        size_t low = 0, high = count;
        while (low < high) {
            size_t middle = low + (high - low) / 2;
            if (weir_slice_compare(asked[middle]->series_key, key) < 0)
                low = middle + 1;
            else
                high = middle;
        }
        for (; low < count && weir_slice_equal(asked[low]->series_key, key); low++, own++) {
            weir_put_int8(&ledger->columns[REST_OWN], (int64_t)low + 1);
            weir_put_time(&ledger->columns[REST_OWN + 1], all.windows[i]->start);
        }
    }
    return own;
}

static enum weir_status take_rest(struct weir_postgres_ledger *ledger, struct weir_split_running **asked, size_t count,
                                  size_t own, struct weir_error *reterr)
{
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    for (int i = 0; i < REST_KEYS; i++) {
        weir_array_end(&ledger->columns[i], i == REST_OWN || i == REST_OWN + 1 ? own : count);
        weir_parameters_add(&parameters, ledger->columns[i].data, ledger->columns[i].length);
    }
    enum weir_status status = weir_postgres_ask(ledger->connection, rest_sql, &parameters,
                                                "looking for a split's other windows", &result, reterr);
    for (int i = 0; status == WEIR_OK && i < PQntuples(result); i++) {
        struct row row = {result, i};
        if (!total_at(row, 1, &asked[int8_at(row, 0) - 1]->rest))
            status = weir_fail(reterr, WEIR_FATAL, "weir.rated_windows: a value that weir never wrote");
    }
    PQclear(result);
    return status;
}

enum weir_status weir_postgres_load_rest(struct weir_postgres_ledger *ledger, struct weir_state *state,
                                         struct weir_error *reterr)
{
    static const enum weir_postgres_type types[REST_KEYS] = {
        WEIR_PG_TEXT, WEIR_PG_TEXT, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TEXT,        WEIR_PG_INT4, WEIR_PG_TEXT,
        WEIR_PG_UUID, WEIR_PG_INT8, WEIR_PG_TIMESTAMPTZ, WEIR_PG_TIMESTAMPTZ, WEIR_PG_INT4};
    struct weir_state_view all = weir_state_all(state);
    struct weir_split_running **asked = weir_new_array(all.split_count + 1, sizeof(struct weir_split_running *));
    enum weir_status status = WEIR_OK;
    size_t count = 0;

    for (size_t i = 0; i < all.split_count; i++)
        if (all.splits[i]->wants_rest)
            asked[count++] = all.splits[i];
    qsort(asked, count, sizeof(struct weir_split_running *), compare_asked);
    for (int i = 0; i < REST_KEYS; i++)
        weir_array_begin(&ledger->columns[i], types[i]);
    for (size_t i = 0; i < count; i++)
        put_split(ledger, asked[i]);
    if (count)
        status = take_rest(ledger, asked, count, put_own(ledger, state, asked, count), reterr);
    free(asked);
    return status;
}
