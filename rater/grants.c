/* The grants of a customer: those of its contracts' terms, those that were ordered at run time, and what is left of
 * either when it ends (docs/credits.md 2 and 5). */
#include <stdlib.h>
#include <string.h>

#include "common/calendar.h"
#include "rater/draw_internal.h"

static const char rollover_suffix[] = "+rollover"; /* no key of a catalog or an operator has a '+' */

struct noted_grant {
    struct weir_grant_running *running;
    const struct weir_grant_order *end; /* the order that ended it before its time; NULL: none */
    int64_t ends_at;                    /* nothing is drawn from it from then on */
    struct noted_grant *rest;           /* what its rollover goes to; NULL: it has none */
    struct noted_grant *source;         /* the grant that it is the rollover of; NULL: of none */
    struct weir_rollover rollover;      /* of a source */
    struct weir_decimal rolled;         /* of this one, that goes on */
    bool has_ended;
};

/* 1. noting */
static const struct weir_grant_order *end_of(const struct weir_grant_book *book, struct weir_slice contract,
                                             struct weir_slice key)
{
    for (size_t i = 0; book->account && i < book->account->order_count; i++) {
        const struct weir_grant_order *order = &book->account->orders[i];
        if (order->is_ended && weir_slice_equal(order->commitment.key, key)
            && weir_slice_equal(order->contract, contract))
            return order;
    }
    return NULL;
}

static struct noted_grant *add_noted(struct weir_grant_book *book, struct weir_slice contract,
                                     const struct weir_contract *terms, const struct weir_commitment *commitment)
{
    struct weir_state *state = book->rater->state;
    struct noted_grant *noted = weir_state_take(state, sizeof *noted);
    struct weir_grant_running *running = weir_state_grant(state, book->customer, contract, commitment->key);

    running->commitment = commitment;
    running->starts_at = commitment->starts_at;
    running->expires_at = commitment->expires_at;
    if (terms && running->starts_at < terms->whole_starts_at)
        running->starts_at = terms->whole_starts_at;
    if (terms && running->expires_at > terms->whole_ends_at)
        running->expires_at = terms->whole_ends_at;
    running->entry.is_dirty |= weir_grant_has_moved(running);
    noted->running = running;
    noted->ends_at = running->expires_at;
    const struct weir_grant_order *end = end_of(book, contract, commitment->key);
    if (end && end->ends_at < running->expires_at) {
        noted->end = end;
        noted->ends_at = end->ends_at > running->starts_at ? end->ends_at : running->starts_at;
    }
    if (book->noted_count == book->noted_room) {
        book->noted_room = book->noted_room ? book->noted_room * 2 : 32;
        book->noted = weir_resize(book->noted, book->noted_room, sizeof(struct noted_grant *));
    }
    book->noted[book->noted_count++] = noted;
    return noted;
}

/* What goes on at its expiry: a grant of its own, whose amount is known then. One that ends before, or with the
 * contract, leaves nothing. */
static void note_rest(struct weir_grant_book *book, struct noted_grant *noted, const struct weir_contract *terms)
{
    struct weir_grant_running *running = noted->running;
    const struct weir_commitment *commitment = running->commitment;

    if (weir_decimal_is_zero(commitment->rollover_fraction) || noted->end
        || (terms && commitment->expires_at >= terms->whole_ends_at))
        return;
    struct weir_state *state = book->rater->state;
    uint32_t length = commitment->key.length + (uint32_t)sizeof rollover_suffix - 1;
    char *key = weir_state_take(state, length);
    memcpy(key, commitment->key.data, commitment->key.length);
    memcpy(key + commitment->key.length, rollover_suffix, sizeof rollover_suffix - 1);
    struct weir_commitment *rest = weir_state_take(state, sizeof *rest);
    *rest = *commitment;
    rest->key = weir_slice_of(key, length);
    rest->amount = rest->price = rest->rollover_fraction = (struct weir_decimal){0};
    rest->starts_at = commitment->expires_at;
    rest->expires_at = commitment->rollover_expires_at;
    noted->rest = add_noted(book, running->contract, terms, rest);
    noted->rest->source = noted;
    noted->rest->running->currency = running->currency;
    noted->rest->running->rolled_from = running->key;
    noted->rest->running->left = (struct weir_decimal){0};
    noted->rest->rollover = (struct weir_rollover){.from = &running->left,
                                                   .at = running->expires_at,
                                                   .fraction = commitment->rollover_fraction,
                                                   .left = &noted->rest->running->left};
}

static struct noted_grant *find_noted(const struct weir_grant_book *book, struct weir_slice contract,
                                      struct weir_slice key)
{
    for (size_t i = 0; i < book->noted_count; i++)
        if (weir_slice_equal(book->noted[i]->running->key, key)
            && weir_slice_equal(book->noted[i]->running->contract, contract))
            return book->noted[i];
    return NULL;
}

/* One for all terms of the contract that list it. Brings what is granted to the amount. */
static struct noted_grant *note_grant(struct weir_grant_book *book, struct weir_slice contract,
                                      const struct weir_contract *terms, const struct weir_commitment *commitment,
                                      struct weir_slice currency)
{
    struct noted_grant *noted = find_noted(book, contract, commitment->key);

    if (noted)
        return noted;
    noted = add_noted(book, contract, terms, commitment);
    struct weir_grant_running *grant = noted->running;
    grant->currency = currency;
    grant->change.e12 = commitment->amount.e12 - grant->amount.e12; /* neither is below 0 */
    grant->amount = grant->left = commitment->amount;
    grant->entry.is_dirty |= grant->change.e12 != 0;
    note_rest(book, noted, terms);
    return noted;
}

/* What a commitment per term is in one of them. */
static struct noted_grant *note_term(struct weir_grant_book *book, const struct weir_contract *terms,
                                     const struct weir_commitment *commitment, const struct weir_term *term)
{
    struct weir_state *state = book->rater->state;
    char text[WEIR_TERM_KEY_MAX];
    struct weir_slice key = weir_term_key(commitment->key, term->number, text);
    struct noted_grant *noted = find_noted(book, terms->key, key);

    if (noted)
        return noted;
    struct weir_commitment *of_term = weir_state_take(state, sizeof *of_term);
    *of_term = weir_commitment_of_term(terms, commitment, term);
    of_term->key = weir_state_copy(state, key);
    return note_grant(book, terms->key, terms, of_term, terms->book->currency);
}

static struct noted_grant *note_order(struct weir_grant_book *book, const struct weir_grant_order *order)
{
    const struct weir_contract *terms =
        weir_terms_of(book->rater->catalog, book->customer, order->contract, order->commitment.starts_at);

    return note_grant(book, order->contract, terms, &order->commitment, order->currency);
}

void weir_grant_book_begin(struct weir_grant_book *book, struct weir_slice customer)
{
    book->customer = customer;
    book->account = weir_state_known_account(book->rater->state, customer);
    book->count = book->noted_count = book->added_count = 0;
    for (size_t i = 0; book->account && i < book->account->order_count; i++)
        if (book->account->orders[i].is_grant)
            note_order(book, &book->account->orders[i]);
}

/* 2. drawing */
static void add_grant(struct weir_grant_book *book, const struct weir_contract *terms, struct noted_grant *noted)
{
    const struct weir_commitment *commitment = noted->running->commitment;

    if (book->count == book->room) {
        book->room = book->room ? book->room * 2 : 32;
        book->grants = weir_resize(book->grants, book->room, sizeof *book->grants);
    }
    book->grants[book->count++] = (struct weir_grant){
        .key = commitment->key,
        .contract = terms->key,
        .terms_at = terms->starts_at,
        .currency = noted->running->currency,
        .left = &noted->running->left,
        .funding = commitment->funding,
        .priority = commitment->priority,
        .starts_at = noted->running->starts_at,
        .expires_at = noted->running->expires_at,
        .is_ended = noted->end != NULL,
        .ends_at = noted->ends_at,
        .meter_count = commitment->meter_count,
        .meters = commitment->meters,
        .has_overage = true,
        .overage_multiplier = commitment->overage_multiplier,
        .rollover = noted->source ? &noted->rollover : NULL,
    };
    if (noted->rest)
        add_grant(book, terms, noted->rest);
}

/* false: these terms' part of the grant is there. */
static bool is_new_of(const struct weir_grant_book *book, const struct weir_contract *terms,
                      const struct noted_grant *noted)
{
    for (size_t i = 0; i < book->count; i++)
        if (book->grants[i].terms_at == terms->starts_at && weir_slice_equal(book->grants[i].contract, terms->key)
            && weir_slice_equal(book->grants[i].key, noted->running->key))
            return false;
    return true;
}

/* Of the term that holds the time, and of those before it whatever can still be drawn then. */
static void add_per_term(struct weir_grant_book *book, const struct weir_contract *terms,
                         const struct weir_commitment *commitment, int64_t time)
{
    struct weir_term term;
    int64_t until = WEIR_TIME_NEVER, from;

    for (weir_contract_term_at(terms, time, &term); until > time; weir_contract_term(terms, term.number - 1, &term)) {
        struct weir_commitment of_term = weir_commitment_of_term(terms, commitment, &term);
        until = weir_decimal_is_zero(of_term.rollover_fraction) ? of_term.expires_at : of_term.rollover_expires_at;
        if (until > time && weir_term_lists(terms, &term, commitment->key, &from)) {
            struct noted_grant *noted = note_term(book, terms, commitment, &term);
            if (is_new_of(book, terms, noted))
                add_grant(book, terms, noted);
        }
        if (term.number == 1)
            return;
    }
}

void weir_grant_book_add(struct weir_grant_book *book, const struct weir_contract *terms, int64_t time)
{
    for (uint32_t i = 0; i < terms->commitment_count; i++)
        if (terms->commitments[i].is_per_term && terms->commitments[i].type == WEIR_COMMITMENT_PREPAID)
            add_per_term(book, terms, &terms->commitments[i], time);
    for (size_t i = 0; i < book->added_count; i++)
        if (book->added[i] == terms)
            return;
    if (book->added_count == book->added_room) {
        book->added_room = book->added_room ? book->added_room * 2 : 8;
        book->added = weir_resize(book->added, book->added_room, sizeof(const struct weir_contract *));
    }
    book->added[book->added_count++] = terms;
    for (uint32_t i = 0; i < terms->commitment_count; i++)
        if (terms->commitments[i].type == WEIR_COMMITMENT_PREPAID && !terms->commitments[i].is_per_term)
            add_grant(book, terms, note_grant(book, terms->key, terms, &terms->commitments[i], terms->book->currency));
    for (size_t i = 0; book->account && i < book->account->order_count; i++) {
        const struct weir_grant_order *order = &book->account->orders[i];
        if (order->is_grant && weir_slice_equal(order->contract, terms->key))
            add_grant(book, terms, note_order(book, order));
    }
}

/* 3. ends */

/* What a refund gives back: the price of what is left, so that late usage lowers it. false: overflow. */
static bool refund_of(const struct weir_commitment *commitment, struct weir_decimal left,
                      struct weir_decimal *ret_money)
{
    return weir_decimal_multiply(commitment->price, left, ret_money)
           && weir_decimal_divide(*ret_money, commitment->amount, WEIR_HALF_EVEN, ret_money);
}

/* In the billing period in which the grant ended. */
static void charge_refund(struct weir_grant_book *book, const struct noted_grant *noted)
{
    struct weir_grant_running *grant = noted->running;
    const struct weir_catalog *catalog = book->rater->catalog;
    const struct weir_contract *terms = weir_terms_of(catalog, book->customer, grant->contract, noted->ends_at);
    struct weir_period_running period = {.customer = grant->customer, .contract = grant->contract};

    if (!terms)
        return; /* of a catalog that is only tried: one that is applied keeps what it says of the past */
    weir_contract_period_at(terms, noted->ends_at, &period.start, &period.end);
    struct weir_line_item item = weir_rater_period_item(terms, &period, weir_price_book_at(terms->book, period.start));
    item.item = grant->key;
    item.kind = WEIR_KIND_FEE;
    item.component = WEIR_COMPONENT_FEE;
    item.has_unit_price = false;
    item.quantity = weir_decimal_of(0);
    item.amount = grant->charged_change;
    item.revision = ++grant->refunds;
    weir_rater_add_item(book->rater, &item);
}

static bool end_grant(struct weir_grant_book *book, struct noted_grant *noted)
{
    struct weir_grant_running *grant = noted->running;
    struct weir_decimal taken, charged = {0};

    grant->end = noted->end ? noted->end->end : WEIR_GRANT_END_EXPIRY;
    noted->rolled = (struct weir_decimal){0};
    if (noted->rest && !weir_decimal_multiply(grant->left, grant->commitment->rollover_fraction, &noted->rolled))
        return false;
    if (noted->end && grant->end == WEIR_GRANT_END_REFUND && !refund_of(grant->commitment, grant->left, &charged))
        return false;
    taken.e12 = grant->left.e12 - noted->rolled.e12; /* a fraction is at most 1 */
    charged = weir_decimal_negate(charged);
    grant->taken_change.e12 = taken.e12 - grant->taken.e12;
    grant->rolled_change.e12 = noted->rolled.e12 - grant->rolled.e12;
    grant->charged_change.e12 = charged.e12 - grant->charged.e12;
    grant->taken = taken;
    grant->rolled = noted->rolled;
    grant->charged = charged;
    grant->entry.is_dirty |= grant->taken_change.e12 != 0 || grant->rolled_change.e12 != 0;
    if (!weir_decimal_is_zero(grant->charged_change))
        charge_refund(book, noted);
    return true;
}

/* What came in of a rollover, once its source has ended. */
static void take_in(struct noted_grant *noted)
{
    struct weir_grant_running *grant = noted->running;

    grant->change.e12 = noted->source->rolled.e12 - grant->amount.e12;
    grant->amount = noted->source->rolled;
    if (!noted->rollover.is_set)
        grant->left = grant->amount;
    grant->entry.is_dirty |= grant->change.e12 != 0;
}

/* It has expired by terms that let it expire later now: what was lost, or went on, is there again. */
static void take_back_end(struct noted_grant *noted)
{
    struct weir_grant_running *grant = noted->running;

    grant->taken_change = weir_decimal_negate(grant->taken);
    grant->rolled_change = weir_decimal_negate(grant->rolled);
    grant->entry.is_dirty |= grant->taken.e12 != 0 || grant->rolled.e12 != 0;
    grant->taken = grant->rolled = (struct weir_decimal){0};
    grant->end = WEIR_GRANT_END_EXPIRY;
}

/* An expiry is written when its time has passed by the clock as well (settle.c). So one that stands, and was to come
 * later than now, is of terms that were changed since; any other stands, however far this rater knows of usage. */
bool weir_grant_book_end(struct weir_grant_book *book)
{
    int64_t now = book->noted_count > 0 ? weir_time_now() : 0;

    for (size_t i = 0; i < book->noted_count; i++) { /* a source stands before its rollover */
        struct noted_grant *noted = book->noted[i];
        if (noted->source && !noted->source->has_ended && weir_decimal_is_zero(noted->running->amount))
            continue; /* nothing came in, and nothing does */
        if (noted->source)
            take_in(noted);
        noted->has_ended = (noted->running->has_ended && noted->ends_at <= now) || noted->end
                           || (noted->ends_at <= book->rater->ended && noted->ends_at < WEIR_TIME_NEVER)
                           || (noted->rest && noted->rest->rollover.is_set);
        if (noted->has_ended && !end_grant(book, noted))
            return false;
        if (!noted->has_ended && noted->running->has_ended)
            take_back_end(noted);
    }
    return true;
}

void weir_grant_book_free(struct weir_grant_book *book)
{
    free(book->grants);
    free((void *)book->added);
    free((void *)book->noted);
}
