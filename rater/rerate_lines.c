/* A customer's line items as they are and as they should be, side by side in the order of windows: what differs is
 * taken back and written anew. */
#include <jansson.h>
#include <stdlib.h>

#include "common/hash.h"
#include "rater/rerate_write.h"

enum {
    FIRST_TEXTS = 256,
    AHEAD_MAX = 1000, /* old lines of a customer that make it small: others are read along with the next one */
};
static const char doing[] = "reading line items";

void weir_rerate_lines_free(struct rerate_lines *lines)
{
    PQfreemem(lines->row);
    PQfinish(lines->connection);
    weir_arena_free(lines->arena);
    free(lines->texts);
    free(lines->now.lines);
    free(lines->later.lines);
    *lines = (struct rerate_lines){0};
}

/* 1. texts, each kept once for a customer */
static struct rerate_text *text_slot(const struct rerate_lines *lines, uint64_t hash, struct weir_slice text)
{
    size_t at = (size_t)hash & (lines->text_room - 1);

    while (lines->texts[at].text.data
           && (lines->texts[at].hash != hash || !weir_slice_equal(lines->texts[at].text, text)))
        at = (at + 1) & (lines->text_room - 1);
    return &lines->texts[at];
}

static void grow_texts(struct rerate_lines *lines)
{
    struct rerate_text *old = lines->texts;
    size_t room = lines->text_room;

    lines->text_room = room ? 2 * room : FIRST_TEXTS;
    lines->texts = weir_new_array(lines->text_room, sizeof *lines->texts);
    for (size_t i = 0; i < room; i++)
        if (old[i].text.data)
            *text_slot(lines, old[i].hash, old[i].text) = old[i];
    free(old);
}

static struct rerate_text *keep_text(struct rerate_lines *lines, struct weir_slice text)
{
    if (lines->text_count * 2 >= lines->text_room)
        grow_texts(lines);
    uint64_t hash = weir_hash64(text.length ? text.data : "", text.length, 0);
    struct rerate_text *slot = text_slot(lines, hash, text);
    if (!slot->text.data) {
        slot->hash = hash;
        slot->text = weir_arena_copy(lines->arena, text.length ? text.data : "", text.length);
        lines->text_count++;
    }
    return slot;
}

static struct weir_slice keep(struct rerate_lines *lines, struct weir_slice text)
{
    return keep_text(lines, text)->text;
}

static int by_name(const void *left, const void *right)
{
    return weir_slice_compare(((const struct weir_dimension *)left)->name,
                              ((const struct weir_dimension *)right)->name);
}

/* Dimensions sorted by name, as weir writes JSON: one text for one combination. */
static struct weir_slice keep_dimensions(struct rerate_lines *lines, const struct weir_dimension *dimensions,
                                         uint32_t count)
{
    struct weir_dimension sorted[WEIR_DIMENSIONS_MAX];
    static _Thread_local char json[WEIR_CELL_MAX];

    if (count) {
        memcpy(sorted, dimensions, count * sizeof *sorted);
        qsort(sorted, count, sizeof *sorted, by_name);
    }
    return keep(lines, weir_slice_of(json, weir_dimensions_json(sorted, count, json)));
}

/* The same of what PostgreSQL writes; parsed once for each combination. false: not what weir wrote. */
static bool read_dimensions(struct rerate_lines *lines, struct weir_slice jsonb, struct weir_slice *ret_dimensions)
{
    struct weir_dimension dimensions[WEIR_DIMENSIONS_MAX];
    uint32_t count = 0;
    const char *name;
    json_t *value;

    if (jsonb.length < 1)
        return false;
    struct weir_slice text = weir_slice_of(jsonb.data + 1, jsonb.length - 1); /* behind jsonb's version */
    struct rerate_text *slot = keep_text(lines, text);
    *ret_dimensions = slot->canonical;
    if (slot->canonical.data)
        return true;
    json_t *object = json_loadb(text.data, text.length, 0, NULL);
    bool is_good = json_is_object(object) && json_object_size(object) <= WEIR_DIMENSIONS_MAX;
    if (is_good)
        json_object_foreach(object, name, value)
        {
            is_good = is_good && json_is_string(value);
            dimensions[count].name = weir_slice_text(name);
            dimensions[count++].text =
                weir_slice_of(is_good ? json_string_value(value) : "", is_good ? json_string_length(value) : 0);
        }
    if (is_good) {
        *ret_dimensions = keep_dimensions(lines, dimensions, count);
        keep_text(lines, text)->canonical = *ret_dimensions;
    }
    json_decref(object);
    return is_good;
}

/* 2. lines */
static struct rerate_line *add_line(struct rerate_lines *lines, const struct rerate_line *line)
{
    bool is_later =
        !line->has_meter || (line->window_start == line->period_start && line->window_end == line->period_end);
    struct rerate_line_list *list = is_later ? &lines->later : &lines->now;

    if (list->count == list->room) {
        list->room = list->room ? 2 * list->room : 1024;
        list->lines = weir_resize(list->lines, list->room, sizeof *list->lines);
    }
    list->lines[list->count] = *line;
    list->lines[list->count].number = list->count;
    return &list->lines[list->count++];
}

static bool is_of_a_change(const struct rerate_lines *lines, const struct rerate_line *line)
{
    return weir_rerate_is_draw(line->component)
           || weir_rerate_is_changed(lines->judge, line->contract, line->period_start, line->price_book,
                                     line->price_book_version, line->item, line->has_meter);
}

/* One more of those that are kept while the customer is judged; too many are none. */
static bool has_room(struct rerate_lines *lines)
{
    size_t max = lines->kept_max ? lines->kept_max : WEIR_RERATE_KEPT_LINES;

    if (lines->is_whole && lines->now.count + lines->later.count >= max) {
        lines->is_whole = false;
        lines->now.count = lines->later.count = 0;
    }
    return lines->is_whole;
}

/* Texts that are the catalog's or the state's outlive the customer; those of dimensions only the batch. */
void weir_rerate_lines_item(void *context, const struct weir_line_item *item)
{
    struct rerate_lines *lines = context;

    if (!lines->is_judged && !has_room(lines))
        return;
    const struct rerate_line line = {
        .is_new = true,
        .has_meter = item->meter.length > 0,
        .has_unit_price = item->has_unit_price,
        .component = item->component,
        .tier = item->kind == WEIR_KIND_USAGE ? item->tier : 0,
        .price_book_version = item->price_book_version,
        .revision = 1,
        .contract = item->contract,
        .item = item->item,
        .price_book = item->price_book,
        .model = weir_slice_text(item->model),
        .currency = item->currency,
        .period_start = item->period_start,
        .period_end = item->period_end,
        .window_start = item->window_start,
        .window_end = item->window_end,
        .quantity = item->quantity,
        .unit_price = item->unit_price,
        .amount = item->amount,
    };

    if (lines->is_judged && !is_of_a_change(lines, &line))
        return;
    add_line(lines, &line)->dimensions = keep_dimensions(lines, item->dimensions, item->dimension_count);
}

static bool read_decimal(struct weir_slice field, struct weir_decimal *ret_value)
{
    return field.data && weir_get_decimal(field.data, field.length, ret_value);
}

static uint32_t number_of(struct weir_slice field)
{
    return field.data ? (uint32_t)weir_get_int4(field.data) : 0;
}

static bool read_line(struct rerate_lines *lines, struct rerate_line *line)
{
    const struct weir_slice *fields = lines->fields;

    *line = (struct rerate_line){
        .contract = keep(lines, fields[0]),
        .period_start = weir_get_time(fields[1].data),
        .period_end = weir_get_time(fields[2].data),
        .window_start = weir_get_time(fields[3].data),
        .window_end = weir_get_time(fields[4].data),
        .item = keep(lines, fields[5]),
        .has_meter = *fields[6].data,
        .tier = number_of(fields[9]),
        .price_book = keep(lines, fields[10]),
        .price_book_version = number_of(fields[11]),
        .model = keep(lines, fields[12]),
        .has_unit_price = fields[14].data,
        .currency = keep(lines, fields[16]),
        .revision = number_of(fields[17]),
    };
    for (int i = 0; i < WEIR_COMPONENT_COUNT; i++)
        if (*weir_component_name[i] == *fields[8].data
            && weir_slice_equal(fields[8], weir_slice_text(weir_component_name[i]))) {
            line->component = (enum weir_component)i;
            break;
        }
    return read_dimensions(lines, fields[7], &line->dimensions) && read_decimal(fields[13], &line->quantity)
           && (!line->has_unit_price || read_decimal(fields[14], &line->unit_price))
           && read_decimal(fields[15], &line->amount);
}

/* The stream's next row, which stands there until the one after it. */
static enum weir_status next_row(struct rerate_lines *lines, struct weir_error *reterr)
{
    PQfreemem(lines->row);
    lines->row = NULL;
    return weir_rerate_copy_next(lines->connection, lines->fields, RERATE_LINE_COLUMNS, doing, &lines->row, reterr);
}

static enum weir_status take_row(struct rerate_lines *lines, struct rerate_line *line, struct weir_error *reterr)
{
    if (!read_line(lines, line))
        return weir_fail(reterr, WEIR_FATAL, "PostgreSQL, weir.line_items: a row that weir never wrote");
    return next_row(lines, reterr);
}

/* The ledger's next line; has_next false: there is none. */
static enum weir_status next_line(struct rerate_lines *lines, struct weir_error *reterr)
{
    lines->has_next = lines->row != NULL;
    return lines->row ? take_row(lines, &lines->next, reterr) : WEIR_OK;
}

/* The next one of a group that changes. */
static enum weir_status next_changed(struct rerate_lines *lines, struct weir_error *reterr)
{
    enum weir_status status;

    do
        status = next_line(lines, reterr);
    while (status == WEIR_OK && lines->has_next && !is_of_a_change(lines, &lines->next));
    return status;
}

/* Lines of one charge come in the order of writing either way. As the primary key has them they need no sorting; only
 * the stream of one that was judged must be in the order of windows. */
static bool lines_sql(struct rerate_lines *lines, const struct rerate_customer *customer,
                      const struct rerate_customer *last, struct weir_buffer *sql)
{
    weir_buffer_add(
        sql, weir_slice_text("COPY (SELECT contract, period_start, period_end, window_start, window_end, item,"
                             " meter IS NOT NULL, dimensions, component, tier, price_book, price_book_version, model,"
                             " quantity, unit_price, amount, currency, revision, customer FROM weir.line_items"));
    bool is_one = last == customer;
    if (!weir_rerate_add_literal(lines->connection, sql,
                                 is_one ? " WHERE customer = " : " WHERE customer >= ", customer->customer)
        || (!is_one && !weir_rerate_add_literal(lines->connection, sql, " AND customer <= ", last->customer))
        || (customer->meter.length
            && !weir_rerate_add_literal(lines->connection, sql, " AND coalesce(meter, '') IN ('', ", customer->meter)))
        return false;
    weir_buffer_add(sql, weir_slice_text(customer->meter.length ? ")" : ""));
    if (customer->from != INT64_MIN)
        weir_rerate_add_time(sql, " AND period_start >= ", customer->from);
    if (customer->to != WEIR_TIME_NEVER)
        weir_rerate_add_time(sql, " AND period_start < ", customer->to);
    weir_buffer_add(sql,
                    weir_slice_text(" AND kind IN ('usage', 'fee', 'true_up', 'drawdown', 'overage', 'reversal')"));
    weir_buffer_add(sql, weir_slice_text(lines->is_judged ? " ORDER BY window_start, line_item_id"
                                                          : " ORDER BY customer, period_start, line_item_id"));
    weir_buffer_add(sql, weir_slice_text(") TO STDOUT (FORMAT binary)"));
    weir_buffer_add(sql, weir_slice_of("", 1));
    return true;
}

static void clear(struct rerate_lines *lines)
{
    weir_arena_clear(lines->arena);
    if (lines->text_room)
        memset(lines->texts, 0, lines->text_room * sizeof *lines->texts);
    lines->text_count = lines->now.count = lines->later.count = 0;
}

static struct weir_slice customer_of(const struct rerate_lines *lines)
{
    return lines->fields[RERATE_LINE_COLUMNS - 1];
}

enum weir_status weir_rerate_lines_drain(struct rerate_lines *lines, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK && lines->row)
        status = next_row(lines, reterr);
    lines->is_small = false;
    return status;
}

/* Of customers from this one to the last. */
static enum weir_status ask(struct rerate_lines *lines, const struct rerate_customer *customer,
                            const struct rerate_customer *last, struct weir_error *reterr)
{
    struct weir_buffer sql = {0};
    enum weir_status status;

    if (lines_sql(lines, customer, last, &sql))
        status = weir_rerate_copy_begin(lines->connection, sql.data, doing, reterr);
    else
        status = weir_postgres_failed(lines->connection, NULL, doing, reterr);
    weir_buffer_free(&sql);
    return status == WEIR_OK ? next_row(lines, reterr) : status;
}

void weir_rerate_lines_keep(struct rerate_lines *lines)
{
    clear(lines);
    lines->is_judged = false;
    lines->is_whole = true;
}

static void judge_before(struct rerate_judge *judge, const struct rerate_line *line)
{
    const struct rerate_group key = {
        .contract = line->contract,
        .item = line->item,
        .price_book = line->price_book,
        .period_start = line->period_start,
        .price_book_version = line->price_book_version,
        .has_meter = line->has_meter,
    };

    if (!weir_rerate_is_draw(line->component))
        weir_rerate_judge_before(judge, &key, line->component, line->tier, line->quantity, line->amount);
}

/* A statement costs what some hundred lines do. So where the customer before had its lines read too, and few, this
 * one's come along with those of all that follow in the chunk and are looked at in the same span. */
static const struct rerate_customer *last_to_read(const struct rerate_lines *lines, const struct rerate_chunk *chunk,
                                                  const struct rerate_customer *customer)
{
    const struct rerate_customer *last = customer, *end = chunk->customers + chunk->count;

    if (!lines->is_small || customer != lines->expected || !lines->is_whole)
        return customer;
    while (last + 1 < end && last[1].from == customer->from && last[1].to == customer->to
           && weir_slice_equal(last[1].meter, customer->meter))
        last++;
    return last;
}

enum weir_status weir_rerate_lines_read(struct rerate_lines *lines, const struct rerate_chunk *chunk,
                                        const struct rerate_customer *customer, struct weir_error *reterr)
{
    bool judges = lines->judge->lacks_before;
    enum weir_status status = WEIR_OK;
    struct rerate_line line;
    size_t count = 0;

    while (status == WEIR_OK && lines->row && weir_slice_compare(customer_of(lines), customer->customer) < 0)
        status = next_row(lines, reterr);
    if (status == WEIR_OK && !lines->row)
        status = ask(lines, customer, last_to_read(lines, chunk, customer), reterr);
    for (; status == WEIR_OK && lines->row && weir_slice_equal(customer_of(lines), customer->customer); count++) {
        status = take_row(lines, &line, reterr);
        if (status == WEIR_OK && judges)
            judge_before(lines->judge, &line);
        if (status == WEIR_OK && has_room(lines))
            (void)add_line(lines, &line);
    }
    lines->judge->lacks_before = false;
    lines->is_small = count <= AHEAD_MAX;
    lines->expected = customer + 1;
    return status;
}

enum weir_status weir_rerate_lines_begin(struct rerate_lines *lines, const struct rerate_customer *customer,
                                         struct weir_error *reterr)
{
    enum weir_status status = weir_rerate_lines_drain(lines, reterr); /* of customers that follow */

    clear(lines);
    lines->is_judged = true;
    if (status == WEIR_OK)
        status = ask(lines, customer, customer, reterr);
    return status == WEIR_OK ? next_changed(lines, reterr) : status;
}

/* 3. the difference */

/* Of the window, fee or true-up that a line is of. */
static int by_window(const struct rerate_line *a, const struct rerate_line *b)
{
    if (a->window_start != b->window_start)
        return a->window_start < b->window_start ? -1 : 1;
    if (a->window_end != b->window_end)
        return a->window_end < b->window_end ? -1 : 1;
    if (a->has_meter != b->has_meter)
        return a->has_meter < b->has_meter ? -1 : 1;
    int order = weir_slice_compare(a->item, b->item);
    return order ? order : weir_slice_compare(a->dimensions, b->dimensions);
}

/* What may stand for what: everything but the amounts. */
static int by_charge(const struct rerate_line *a, const struct rerate_line *b)
{
    int order = by_window(a, b);

    if (!order)
        order = weir_slice_compare(a->contract, b->contract);
    if (!order)
        order = (a->period_start > b->period_start) - (a->period_start < b->period_start);
    if (!order)
        order = weir_slice_compare(a->price_book, b->price_book);
    if (!order)
        order = (a->price_book_version > b->price_book_version) - (a->price_book_version < b->price_book_version);
    if (!order)
        order = (int)a->component - (int)b->component;
    return order ? order : (a->tier > b->tier) - (a->tier < b->tier);
}

static int by_charge_and_age(const void *left, const void *right)
{
    const struct rerate_line *a = left, *b = right;
    int order = by_charge(a, b);
    if (!order)
        order = (int)a->is_new - (int)b->is_new;
    return order ? order : (a->number > b->number) - (a->number < b->number);
}

typedef enum weir_status emit_line(void *context, const struct rerate_line *line, bool is_reversal,
                                   struct weir_error *reterr);

/* Adds up lines [first, end) of one charge, old or new; the last one's words stand for all. false: does not fit. */
static bool add_up(const struct rerate_line *first, const struct rerate_line *end, struct rerate_line *sum)
{
    struct rerate_line total = end[-1];

    total.quantity = total.amount = (struct weir_decimal){0};
    for (const struct rerate_line *line = first; line < end; line++)
        if (!weir_decimal_add(total.quantity, line->quantity, &total.quantity)
            || !weir_decimal_add(total.amount, line->amount, &total.amount))
            return false;
    *sum = total;
    return true;
}

static bool is_nothing(const struct rerate_line *line)
{
    return weir_decimal_is_zero(line->quantity) && weir_decimal_is_zero(line->amount);
}

/* Lines [first, end) are of one charge, old ones first. */
static enum weir_status settle_charge(const struct rerate_line *first, const struct rerate_line *end, uint32_t revision,
                                      emit_line *emit, void *context, struct weir_error *reterr)
{
    const struct rerate_line *middle = first;
    struct rerate_line old = {0}, new = {0};
    enum weir_status status = WEIR_OK;

    while (middle < end && !middle->is_new)
        middle++;
    if ((middle > first && !add_up(first, middle, &old)) || (end > middle && !add_up(middle, end, &new)))
        return weir_fail(reterr, WEIR_REJECT, "item '%.*s': a sum of its line items does not fit",
                         (int)first->item.length, first->item.data);
    if (old.quantity.e12 == new.quantity.e12 && old.amount.e12 == new.amount.e12)
        return WEIR_OK;
    if (!is_nothing(&old)) {
        old.quantity = weir_decimal_negate(old.quantity);
        old.amount = weir_decimal_negate(old.amount);
        old.revision = revision;
        status = emit(context, &old, true, reterr);
    }
    new.revision = revision;
    return status == WEIR_OK && !is_nothing(&new) ? emit(context, &new, false, reterr) : status;
}

static enum weir_status settle_window(const struct rerate_line *first, const struct rerate_line *end, emit_line *emit,
                                      void *context, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;
    uint32_t revision = 1;

    for (const struct rerate_line *line = first; line < end; line++)
        revision = !line->is_new && line->revision > revision ? line->revision : revision;
    while (first < end && status == WEIR_OK) {
        const struct rerate_line *next = first + 1;
        while (next < end && by_charge(first, next) == 0)
            next++;
        status = settle_charge(first, next, revision, emit, context, reterr);
        first = next;
    }
    return status;
}

static enum weir_status settle_list(struct rerate_line_list *list, emit_line *emit, void *context,
                                    struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    if (list->count)
        qsort(list->lines, list->count, sizeof *list->lines, by_charge_and_age);
    for (size_t at = 0; at < list->count && status == WEIR_OK;) {
        size_t next = at + 1;
        while (next < list->count && by_window(&list->lines[at], &list->lines[next]) == 0)
            next++;
        status = settle_window(&list->lines[at], &list->lines[next], emit, context, reterr);
        at = next;
    }
    list->count = 0;
    return status;
}

enum weir_status weir_rerate_lines_merge(struct rerate_lines *lines, int64_t until, bool is_end, emit_line *emit,
                                         void *context, struct weir_error *reterr)
{
    enum weir_status status = WEIR_OK;

    while (status == WEIR_OK && lines->has_next && (is_end || lines->next.window_start <= until)) {
        (void)add_line(lines, &lines->next);
        status = next_changed(lines, reterr);
    }
    if (status == WEIR_OK)
        status = settle_list(&lines->now, emit, context, reterr);
    return status == WEIR_OK && is_end ? settle_list(&lines->later, emit, context, reterr) : status;
}

static void drop_unchanged(const struct rerate_lines *lines, struct rerate_line_list *list)
{
    size_t kept = 0;

    for (size_t i = 0; i < list->count; i++)
        if (is_of_a_change(lines, &list->lines[i]))
            list->lines[kept++] = list->lines[i];
    list->count = kept;
}

enum weir_status weir_rerate_lines_settle(struct rerate_lines *lines, emit_line *emit, void *context,
                                          struct weir_error *reterr)
{
    weir_check(lines->is_whole && !lines->has_next);
    drop_unchanged(lines, &lines->now);
    drop_unchanged(lines, &lines->later);
    enum weir_status status = settle_list(&lines->now, emit, context, reterr);
    return status == WEIR_OK ? settle_list(&lines->later, emit, context, reterr) : status;
}
