/* What of a customer is looked at: whole billing periods, and with prepaid amounts or minimum quantities what they hang
 * together with. */
#include "rater/rerate_internal.h"

/* 1. names that were mistyped: a run that finds nothing to do would look as if nothing had to be done */

static bool catalog_has_contract(const struct weir_catalog *catalog, struct weir_slice key)
{
    bool has = false;

    for (uint32_t i = 0; i < catalog->contract_count; i++)
        has = has || weir_slice_equal(catalog->contracts[i].key, key);
    return has;
}

static bool catalog_has_version(const struct weir_catalog *catalog, struct weir_slice key, uint32_t version)
{
    const struct weir_price_book *book = weir_catalog_book(catalog, key);
    bool has = book && !version;

    for (uint32_t i = 0; book && i < book->version_count; i++)
        has = has || book->versions[i].version == version;
    return has;
}

static enum weir_status fail_unknown(struct weir_error *reterr, const char *what, struct weir_slice name)
{
    return weir_fail(reterr, WEIR_REJECT, "there is no %s '%.*s', neither in the catalog nor in the ledger", what,
                     (int)name.length, name.data);
}

enum weir_status weir_rerate_check_names(PGconn *connection, const struct weir_rerate_request *request,
                                         struct weir_error *reterr)
{
    static const char sql[] = "SELECT EXISTS (SELECT FROM weir.meters WHERE meter = $1::text)"
                              "    OR EXISTS (SELECT FROM weir.price_totals WHERE meter = $1::text),"
                              " EXISTS (SELECT FROM weir.billing_periods WHERE contract = $2::text),"
                              " EXISTS (SELECT FROM weir.price_totals WHERE price_book = $3::text AND $4::integer IN "
                              "(0, price_book_version)),"
                              " EXISTS (SELECT FROM weir.customers WHERE customer = $5::text)";
    const struct weir_rerate_filter *filter = &request->filter;
    const struct weir_slice names[] = {filter->meter, filter->contract, filter->price_book};
    bool is_known[] = {!filter->meter.length || weir_catalog_meter(request->catalog, filter->meter),
                       !filter->contract.length || catalog_has_contract(request->catalog, filter->contract),
                       !filter->price_book.length
                           || catalog_has_version(request->catalog, filter->price_book, filter->price_book_version),
                       !filter->customer.length};
    struct weir_parameters parameters = {0};
    struct weir_buffer version = {0};
    PGresult *result = NULL;

    if (is_known[0] && is_known[1] && is_known[2] && is_known[3])
        return WEIR_OK;
    for (size_t i = 0; i < 3; i++)
        weir_parameters_add_slice(&parameters, names[i]);
    weir_put_int4(&version, (int32_t)filter->price_book_version);
    weir_parameters_add(&parameters, version.data + 4, 4);
    weir_parameters_add_slice(&parameters, filter->customer);
    enum weir_status status =
        weir_postgres_ask(connection, sql, &parameters, "looking for what is named", &result, reterr);
    for (int i = 0; status == WEIR_OK && i < 4; i++)
        is_known[i] = is_known[i] || *PQgetvalue(result, 0, i);
    weir_buffer_free(&version);
    PQclear(result);
    if (status != WEIR_OK)
        return status;
    if (!is_known[0])
        return fail_unknown(reterr, "meter", filter->meter);
    if (!is_known[1])
        return fail_unknown(reterr, "contract", filter->contract);
    if (!is_known[2] && !filter->price_book_version)
        return fail_unknown(reterr, "price book", filter->price_book);
    if (!is_known[2])
        return weir_fail(reterr, WEIR_REJECT,
                         "there is no version %u of price book '%.*s', neither in the catalog nor in the ledger",
                         filter->price_book_version, (int)filter->price_book.length, filter->price_book.data);
    return is_known[3] ? WEIR_OK
                       : weir_fail(reterr, WEIR_REJECT, "customer '%.*s' was never rated", (int)filter->customer.length,
                                   filter->customer.data);
}

/* 2. whole periods */

/* Widens the span by one period that it cuts through. */
static bool widen(int64_t start, int64_t end, int64_t *from, int64_t *to)
{
    if (start >= *to || end <= *from || (start >= *from && end <= *to))
        return false;
    *from = start < *from ? start : *from;
    *to = end > *to ? end : *to;
    return true;
}

static bool widen_by(const struct weir_contract *contract, int64_t time, int64_t *from, int64_t *to)
{
    int64_t start, end;

    if (!contract)
        return false;
    weir_contract_period_at(contract, time, &start, &end);
    return widen(start, end, from, to);
}

/* The default contract's period as well: it may begin while the customer has a contract with a key. */
static bool widen_at(const struct weir_catalog *catalog, struct weir_slice customer, int64_t time, int64_t *from,
                     int64_t *to)
{
    bool is_wider = widen_by(weir_catalog_contract_at(catalog, customer, time), time, from, to);

    return widen_by(catalog->default_contract, time, from, to) || is_wider;
}

/* Widens the span to whole billing periods of before and of the catalog. */
static void whole_periods(const struct weir_catalog *catalog, const struct rerate_customer *customer, int64_t *from,
                          int64_t *to)
{
    bool is_wider = *from < *to;

    while (is_wider) {
        is_wider = *from != INT64_MIN && widen_at(catalog, customer->customer, *from, from, to);
        is_wider = (*to != WEIR_TIME_NEVER && widen_at(catalog, customer->customer, *to - 1, from, to)) || is_wider;
        for (size_t i = 0; i < customer->period_count; i++)
            is_wider = widen(customer->periods[i].start, customer->periods[i].end, from, to) || is_wider;
    }
}

/* 3. what the request chooses */
void weir_rerate_choose(const struct weir_rerate_request *request, struct rerate_customer *customer)
{
    customer->from = request->filter.from;
    customer->to = request->filter.to;
    customer->meter = request->filter.meter;
    whole_periods(request->catalog, customer, &customer->from, &customer->to);
    customer->shown_from = customer->from;
    customer->shown_to = customer->to;
    customer->shown_meter = customer->meter;
}

static bool is_named(const struct weir_rerate_filter *filter, struct weir_slice contract, struct weir_slice book,
                     uint32_t version)
{
    return (!filter->contract.length || weir_slice_equal(filter->contract, contract))
           && (!filter->price_book.length
               || (weir_slice_equal(filter->price_book, book)
                   && (!filter->price_book_version || filter->price_book_version == version)));
}

static void span_add(int64_t *from, int64_t *to, int64_t start, int64_t end)
{
    *from = start < *from ? start : *from;
    *to = end > *to ? end : *to;
}

void weir_rerate_narrow(const struct weir_rerate_request *request, const struct rerate_fresh *fresh,
                        struct rerate_customer *customer)
{
    const struct weir_rerate_filter *filter = &request->filter;
    struct weir_state_view all = weir_state_all(fresh->state);
    int64_t from = WEIR_TIME_NEVER, to = INT64_MIN;

    for (size_t i = 0; i < customer->price_count; i++) {
        const struct rerate_old_price *price = &customer->prices[i];
        if (weir_rerate_is_in(customer, price->period_start)
            && is_named(filter, price->contract, price->price_book, price->price_book_version))
            span_add(&from, &to, price->period_start, price->period_start + 1);
    }
    for (size_t i = 0; i < all.price_count; i++)
        if (is_named(filter, all.prices[i]->contract, all.prices[i]->price_book, all.prices[i]->price_book_version))
            span_add(&from, &to, all.prices[i]->period_start, all.prices[i]->period_end);
    if (from >= to)
        from = to = 0;
    whole_periods(request->catalog, customer, &from, &to);
    customer->from = customer->shown_from = from;
    customer->to = customer->shown_to = to;
}

/* 4. what hangs together with it */

struct rerate_span weir_rerate_span(const struct rerate_customer *customer)
{
    struct rerate_span span = {"-infinity", "infinity"};

    if (customer->from != INT64_MIN)
        weir_time_format(customer->from, span.from);
    if (customer->to != WEIR_TIME_NEVER)
        weir_time_format(customer->to, span.to);
    return span;
}

void weir_rerate_add_span(struct weir_parameters *parameters, const struct rerate_customer *customer,
                          struct rerate_span *span)
{
    *span = weir_rerate_span(customer);
    weir_parameters_add(parameters, customer->customer.data, customer->customer.length);
    weir_parameters_add_text(parameters, span->from);
    weir_parameters_add_text(parameters, span->to);
}

/* Whether the chosen times and meter hold anything of the customer. */
static enum weir_status is_there(PGconn *connection, const struct weir_rerate_request *request,
                                 const struct rerate_customer *customer, bool *ret_is_there, struct weir_error *reterr)
{
    const struct weir_rerate_filter *filter = &request->filter;
    struct rerate_span span;
    struct weir_parameters parameters = {0};
    PGresult *result = NULL;

    *ret_is_there = filter->from == INT64_MIN && filter->to == WEIR_TIME_NEVER && !filter->meter.length;
    for (size_t i = 0; i < customer->period_count && !filter->meter.length; i++)
        *ret_is_there = *ret_is_there || weir_rerate_is_in(customer, customer->periods[i].start);
    if (*ret_is_there || customer->from >= customer->to)
        return WEIR_OK;
    weir_rerate_add_span(&parameters, customer, &span);
    weir_parameters_add_slice(&parameters, filter->meter);
    enum weir_status status = weir_postgres_ask(
        connection,
        "SELECT EXISTS (SELECT FROM weir.rated_windows WHERE customer = $1::text AND window_start >="
        " $2::text::timestamptz AND window_start < $3::text::timestamptz AND $4::text IN ('', meter))",
        &parameters, "looking for windows", &result, reterr);
    if (status == WEIR_OK)
        *ret_is_there = *PQgetvalue(result, 0, 0);
    PQclear(result);
    return status;
}

enum weir_status weir_rerate_widen(PGconn *connection, const struct weir_rerate_request *request,
                                   struct rerate_customer *customer, struct weir_error *reterr)
{
    bool is_chosen;

    if (!customer->has_commitments || customer->from >= customer->to)
        return WEIR_OK;
    enum weir_status status = is_there(connection, request, customer, &is_chosen, reterr);
    if (status != WEIR_OK)
        return status;
    customer->meter = (struct weir_slice){0};
    if (!is_chosen) {
        customer->to = customer->shown_to = customer->from;
        return WEIR_OK;
    }
    if (customer->has_prepaid) {
        customer->from = INT64_MIN;
        customer->to = WEIR_TIME_NEVER;
    }
    if (!request->shows_chosen) {
        customer->shown_from = customer->from;
        customer->shown_to = customer->to;
        customer->shown_meter = customer->meter;
    }
    return WEIR_OK;
}
