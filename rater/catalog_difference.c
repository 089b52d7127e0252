#include "rater/catalog_difference.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

/* 1. equal by meaning */
static bool same_number(struct weir_decimal a, struct weir_decimal b)
{
    return a.e12 == b.e12;
}

static bool same_groups(const struct weir_meter *a, const struct weir_meter *b)
{
    bool is_same = a->group_count == b->group_count;

    for (uint32_t i = 0; is_same && i < a->group_count; i++)
        is_same = weir_slice_equal(a->groups[i].name, b->groups[i].name);
    return is_same;
}

/* Slots are numbers of one catalog; the paths they stand for compare. */
struct side {
    const struct weir_catalog *catalog;
    const struct weir_meter *meter;
};

static struct weir_slice path_of(const struct weir_catalog *catalog, uint32_t slot)
{
    return slot == UINT32_MAX ? (struct weir_slice){0} : catalog->paths[slot].text;
}

static bool has_value(const struct weir_where *where, struct weir_slice value)
{
    for (uint32_t i = 0; i < where->value_count; i++)
        if (weir_slice_equal(where->values[i], value))
            return true;
    return false;
}

static bool same_values(const struct weir_where *a, const struct weir_where *b)
{
    for (uint32_t i = 0; i < a->value_count; i++)
        if (!has_value(b, a->values[i]))
            return false;
    return a->value_count == b->value_count;
}

static bool same_where(struct side a, struct side b)
{
    for (uint32_t i = 0; i < a.meter->where_count; i++) {
        bool is_found = false;
        for (uint32_t j = 0; j < b.meter->where_count && !is_found; j++)
            is_found =
                weir_slice_equal(path_of(a.catalog, a.meter->where[i].slot), path_of(b.catalog, b.meter->where[j].slot))
                && same_values(&a.meter->where[i], &b.meter->where[j]);
        if (!is_found)
            return false;
    }
    return a.meter->where_count == b.meter->where_count;
}

static bool same_tiers(const struct weir_price *a, const struct weir_price *b)
{
    bool is_same = a->tier_count == b->tier_count;

    for (uint32_t i = 0; is_same && i < a->tier_count; i++)
        is_same = a->tiers[i].has_up_to == b->tiers[i].has_up_to && same_number(a->tiers[i].up_to, b->tiers[i].up_to)
                  && same_number(a->tiers[i].unit_price, b->tiers[i].unit_price)
                  && same_number(a->tiers[i].flat_fee, b->tiers[i].flat_fee);
    return is_same;
}

static bool same_price(const struct weir_price *a, const struct weir_price *b)
{
    return weir_slice_equal(a->key, b->key) && a->model == b->model && a->flat_fee_at_zero == b->flat_fee_at_zero
           && a->has_minimum == b->has_minimum && a->has_maximum == b->has_maximum && same_tiers(a, b)
           && same_number(a->unit_price, b->unit_price) && same_number(a->package_size, b->package_size)
           && same_number(a->package_price, b->package_price) && same_number(a->rate, b->rate)
           && same_number(a->fixed_fee, b->fixed_fee) && same_number(a->amount, b->amount)
           && same_number(a->free_units, b->free_units) && same_number(a->minimum_amount, b->minimum_amount)
           && same_number(a->maximum_amount, b->maximum_amount);
}

static bool has_fee(const struct weir_price_book_version *version, const struct weir_fee *fee)
{
    for (uint32_t i = 0; i < version->fee_count; i++)
        if (weir_slice_equal(version->fees[i].key, fee->key))
            return same_number(version->fees[i].amount, fee->amount) && version->fees[i].per == fee->per
                   && version->fees[i].is_per_unit == fee->is_per_unit && version->fees[i].charged == fee->charged
                   && version->fees[i].proration == fee->proration;
    return false;
}

static bool same_meters(const struct weir_discount *a, const struct weir_discount *b)
{
    for (uint32_t i = 0; i < a->meter_count; i++) {
        bool is_found = false;
        for (uint32_t j = 0; j < b->meter_count && !is_found; j++)
            is_found = weir_slice_equal(a->meters[i]->key, b->meters[j]->key);
        if (!is_found)
            return false;
    }
    return a->meter_count == b->meter_count;
}

/* When they hold is not asked here. */
static bool same_discount(const struct weir_discount *a, const struct weir_discount *b)
{
    return weir_slice_equal(a->key, b->key) && a->type == b->type && a->is_on_invoice == b->is_on_invoice
           && same_number(a->rate, b->rate) && same_number(a->amount, b->amount) && same_meters(a, b);
}

/* In their order, which is that of taking them off. */
static bool same_discounts(const struct weir_discount *a, uint32_t a_count, const struct weir_discount *b,
                           uint32_t b_count)
{
    bool is_same = a_count == b_count;

    for (uint32_t i = 0; is_same && i < a_count; i++)
        is_same = same_discount(&a[i], &b[i]) && a[i].starts_at == b[i].starts_at && a[i].ends_at == b[i].ends_at;
    return is_same;
}

static bool same_package_tiers(const struct weir_package *a, const struct weir_package *b)
{
    bool is_same = a->tier_count == b->tier_count;

    for (uint32_t i = 0; is_same && i < a->tier_count; i++)
        is_same = a->tiers[i].has_up_to == b->tiers[i].has_up_to && same_number(a->tiers[i].up_to, b->tiers[i].up_to)
                  && same_number(a->tiers[i].unit_price, b->tiers[i].unit_price);
    return is_same;
}

static bool same_packages(const struct weir_package *a, uint32_t a_count, const struct weir_package *b,
                          uint32_t b_count)
{
    for (uint32_t i = 0; i < a_count; i++) {
        bool is_found = false;
        for (uint32_t j = 0; j < b_count && !is_found; j++)
            is_found = weir_slice_equal(a[i].key, b[j].key) && same_number(a[i].amount, b[j].amount)
                       && same_number(a[i].price, b[j].price) && same_package_tiers(&a[i], &b[j]);
        if (!is_found)
            return false;
    }
    return a_count == b_count;
}

static bool same_order(const struct weir_draw_order *a, const struct weir_draw_order *b)
{
    bool is_same = a->count == b->count;

    for (uint32_t i = 0; is_same && i < a->count; i++)
        is_same = a->keys[i] == b->keys[i];
    return is_same;
}

/* Prices are sorted by meter and then by key in every catalog. */
static bool same_version(const struct weir_price_book_version *a, const struct weir_price_book_version *b)
{
    bool is_same = a->effective_from == b->effective_from && a->price_count == b->price_count
                   && a->fee_count == b->fee_count && weir_slice_equal(a->book->currency, b->book->currency)
                   && a->book->rounding == b->book->rounding
                   && same_discounts(a->discounts, a->discount_count, b->discounts, b->discount_count)
                   && same_order(&a->drawdown_order, &b->drawdown_order)
                   && same_packages(a->packages, a->package_count, b->packages, b->package_count);

    for (uint32_t i = 0; is_same && i < a->price_count; i++)
        is_same = same_price(&a->prices[i], &b->prices[i]);
    for (uint32_t i = 0; is_same && i < a->fee_count; i++)
        is_same = has_fee(b, &a->fees[i]);
    return is_same;
}

static bool same_own_prices(const struct weir_contract *a, const struct weir_contract *b)
{
    bool is_same = a->price_count == b->price_count;

    for (uint32_t i = 0; is_same && i < a->price_count; i++)
        is_same = same_price(&a->prices[i], &b->prices[i]);
    return is_same;
}

static bool same_overrides(const struct weir_contract *a, const struct weir_contract *b)
{
    for (uint32_t i = 0; i < a->override_count; i++) {
        bool is_found = false;
        for (uint32_t j = 0; j < b->override_count && !is_found; j++)
            is_found = weir_slice_equal(a->overrides[i].meter->key, b->overrides[j].meter->key)
                       && same_number(a->overrides[i].multiplier, b->overrides[j].multiplier);
        if (!is_found)
            return false;
    }
    return a->override_count == b->override_count;
}

/* What a prepaid amount has of its own. */
static bool same_grant(const struct weir_commitment *a, const struct weir_commitment *b)
{
    for (uint32_t i = 0; i < a->meter_count && a->meter_count == b->meter_count; i++)
        if (!weir_slice_equal(a->meters[i], b->meters[i]))
            return false;
    return a->meter_count == b->meter_count && a->funding == b->funding && same_number(a->price, b->price)
           && a->priority == b->priority && a->starts_at == b->starts_at && a->expires_at == b->expires_at
           && same_number(a->overage_multiplier, b->overage_multiplier)
           && same_number(a->rollover_fraction, b->rollover_fraction)
           && a->rollover_expires_at == b->rollover_expires_at && a->is_per_term == b->is_per_term
           && a->months == b->months && a->rollover_months == b->rollover_months;
}

static bool has_per_term(const struct weir_contract *contract)
{
    for (uint32_t i = 0; i < contract->commitment_count; i++)
        if (contract->commitments[i].is_per_term)
            return true;
    return false;
}

static bool same_commitment(const struct weir_commitment *a, const struct weir_commitment *b)
{
    struct weir_slice none = {0};

    return weir_slice_equal(a->key, b->key) && a->type == b->type && same_number(a->amount, b->amount)
           && weir_slice_equal(a->meter ? a->meter->key : none, b->meter ? b->meter->key : none)
           && same_number(a->quantity, b->quantity) && same_grant(a, b);
}

static bool same_commitments(const struct weir_contract *a, const struct weir_contract *b)
{
    for (uint32_t i = 0; i < a->commitment_count; i++) {
        bool is_found = false;
        for (uint32_t j = 0; j < b->commitment_count && !is_found; j++)
            is_found = same_commitment(&a->commitments[i], &b->commitments[j]);
        if (!is_found)
            return false;
    }
    return a->commitment_count == b->commitment_count;
}

/* The first from `at` on of a list that is in force. */
static uint32_t next_in_force(const struct weir_discount *discounts, uint32_t count, uint32_t at, int64_t time)
{
    while (at < count && (time < discounts[at].starts_at || time >= discounts[at].ends_at))
        at++;
    return at;
}

/* For the billing periods that begin at a time. Where both are the price book's, that is what differs. */
static bool same_discounts_at(const struct weir_contract *a, const struct weir_contract *b, int64_t time)
{
    uint32_t a_count, b_count, i = 0, j = 0;
    const struct weir_discount *old = weir_contract_discounts(a, time, &a_count);
    const struct weir_discount *new = weir_contract_discounts(b, time, &b_count);

    if (!a->has_own_discounts && !b->has_own_discounts)
        return true;
    for (;; i++, j++) {
        i = next_in_force(old, a_count, i, time);
        j = next_in_force(new, b_count, j, time);
        if (i == a_count || j == b_count)
            return i == a_count && j == b_count;
        if (!same_discount(&old[i], &new[j]))
            return false;
    }
}

/* Likewise. */
static bool same_order_at(const struct weir_contract *a, const struct weir_contract *b, int64_t time)
{
    return (!a->drawdown_order.count && !b->drawdown_order.count)
           || same_order(weir_contract_draw_order(a, time), weir_contract_draw_order(b, time));
}

static void cut_after(int64_t boundary, int64_t time, int64_t *until)
{
    if (boundary > time && boundary < *until)
        *until = boundary;
}

/* Brings *until, after time, forward to where others of the contract's discounts, or another order of drawdown, can be
 * in force. */
static void cut_at_discounts(const struct weir_contract *contract, int64_t time, int64_t *until)
{
    uint32_t count;
    const struct weir_discount *discounts = weir_contract_discounts(contract, time, &count);

    for (uint32_t i = 0; i < count; i++) {
        cut_after(discounts[i].starts_at, time, until);
        cut_after(discounts[i].ends_at, time, until);
    }
    bool is_book = !contract->has_own_discounts || !contract->drawdown_order.count;
    for (uint32_t i = 0; is_book && i < contract->book->version_count; i++)
        cut_after(contract->book->versions[i].effective_from, time, until);
}

/* 2. fields that differ */
static void add_word(bool differs, const char *word, char *text, size_t size)
{
    size_t length = strlen(text);

    if (differs)
        snprintf(text + length, size - length, "%s%s", length ? ", " : "", word);
}

void weir_meter_changes(const struct weir_catalog *before, const struct weir_meter *old,
                        const struct weir_catalog *after, const struct weir_meter *new, char *text, size_t size)
{
    struct weir_slice old_value = path_of(before, old->value_slot), new_value = path_of(after, new->value_slot);

    *text = '\0';
    add_word(old->aggregation != new->aggregation, "aggregation", text, size);
    add_word(!weir_slice_equal(old_value, new_value), "value", text, size);
    add_word(old->rollup_sum != new->rollup_sum, "rollup", text, size);
    add_word(old->window != new->window, "window", text, size);
    add_word(!same_groups(old, new), "group_by", text, size);
}

void weir_contract_changes(const struct weir_contract *before, const struct weir_contract *after, char *text,
                           size_t size)
{
    *text = '\0';
    add_word(!weir_slice_equal(before->customer, after->customer), "customer", text, size);
    add_word(before->starts_at != after->starts_at, "starts_at", text, size);
    add_word(before->billing_period != after->billing_period, "billing_period", text, size);
    add_word(memcmp(&before->billing_anchor, &after->billing_anchor, sizeof after->billing_anchor) != 0,
             "billing_anchor", text, size);
    add_word(!weir_slice_equal(before->timezone, after->timezone), "timezone", text, size);
}

/* At a time of both. */
static void terms_changes(const struct weir_contract *before, const struct weir_contract *after, int64_t time,
                          char *text, size_t size)
{
    *text = '\0';
    add_word(!weir_slice_equal(before->book->key, after->book->key), "price_book", text, size);
    add_word(!same_own_prices(before, after), "prices", text, size);
    add_word(!same_overrides(before, after), "overrides", text, size);
    add_word(!same_commitments(before, after), "commitments", text, size);
    add_word(!same_discounts_at(before, after, time), "discounts", text, size);
    add_word(!same_order_at(before, after, time), "drawdown_order", text, size);
    /* From then on terms are others, and so is what they have each. */
    add_word(before->renews_months != after->renews_months && (has_per_term(before) || has_per_term(after)), "renews",
             text, size);
}

/* The terms on both sides at a time of both terms, and until when both hold. */
static int64_t terms_at(const struct weir_contract *before, const struct weir_contract *after, int64_t time,
                        struct weir_terms_change *ret_change)
{
    const struct weir_contract *old = weir_contract_phase_at(before, time), *new = weir_contract_phase_at(after, time);
    bool is_of_new = new->phase && (new->starts_at == time || old->starts_at != time);

    ret_change->phase = is_of_new ? new->phase_key : old->starts_at == time ? old->phase_key : (struct weir_slice){0};
    terms_changes(old, new, time, ret_change->fields, sizeof ret_change->fields);
    int64_t until = old->ends_at < new->ends_at ? old->ends_at : new->ends_at;
    cut_at_discounts(old, time, &until);
    cut_at_discounts(new, time, &until);
    return until;
}

bool weir_contract_next_change(const struct weir_contract *before, const struct weir_contract *after, int64_t *at,
                               struct weir_terms_change *ret_change)
{
    int64_t start = before->whole_starts_at > after->whole_starts_at ? before->whole_starts_at : after->whole_starts_at;
    int64_t end = before->whole_ends_at < after->whole_ends_at ? before->whole_ends_at : after->whole_ends_at;
    int64_t time = start > *at ? start : *at, until;
    struct weir_terms_change next;

    for (;; time = until) {
        if (time >= end)
            return false;
        until = terms_at(before, after, time, ret_change);
        if (*ret_change->fields)
            break;
    }
    ret_change->from = time;
    while (until < end && (time = terms_at(before, after, until, &next), strcmp(next.fields, ret_change->fields) == 0))
        until = time;
    *at = ret_change->until = until;
    return true;
}

static int compare_quantities(const struct weir_quantity *a, const struct weir_quantity *b)
{
    int order = weir_slice_compare(a->fee, b->fee);
    return order ? order : (a->effective_from > b->effective_from) - (a->effective_from < b->effective_from);
}

bool weir_contract_quantity_change(const struct weir_contract *before, const struct weir_contract *after,
                                   int64_t *ret_from)
{
    const struct weir_quantity *old = before->quantities, *old_end = old + before->quantity_count;
    const struct weir_quantity *new = after->quantities, *new_end = new + after->quantity_count;

    *ret_from = WEIR_TIME_NEVER;
    while (old < old_end || new < new_end) {
        int order = old == old_end ? 1 : new == new_end ? -1 : compare_quantities(old, new);
        int64_t from = order <= 0 ? old->effective_from : new->effective_from;
        bool is_same = order == 0 && same_number(old->quantity, new->quantity);
        if (!is_same && from < *ret_from)
            *ret_from = from;
        old += order <= 0;
        new += order >= 0;
    }
    return *ret_from != WEIR_TIME_NEVER;
}

static bool same_low_balances(const struct weir_contract *a, const struct weir_contract *b)
{
    bool is_same = weir_thresholds_equal(&a->low_balance, &b->low_balance);

    for (uint32_t i = 0; is_same && i < a->commitment_count; i++)
        for (uint32_t j = 0; is_same && j < b->commitment_count; j++)
            if (weir_slice_equal(a->commitments[i].key, b->commitments[j].key))
                is_same = weir_thresholds_equal(&a->commitments[i].low_balance, &b->commitments[j].low_balance);
    return is_same;
}

bool weir_contract_low_balance_change(const struct weir_contract *before, const struct weir_contract *after)
{
    for (uint32_t i = 0; i < before->phase_count; i++)
        for (uint32_t j = 0; j < after->phase_count; j++)
            if (!same_low_balances(&before[i], &after[j]))
                return true;
    return false;
}

bool weir_contract_packages_change(const struct weir_contract *before, const struct weir_contract *after)
{
    for (uint32_t i = 0; i < before->phase_count && i < after->phase_count; i++)
        if (!same_packages(before[i].packages, before[i].package_count, after[i].packages, after[i].package_count))
            return true;
    return false;
}

/* Also what has no part in any charge: keys of phases, and reasons. */
static bool same_phases(const struct weir_contract *a, const struct weir_contract *b)
{
    bool is_same = a->phase_count == b->phase_count;

    for (uint32_t i = 1; is_same && i < a->phase_count; i++)
        is_same = a[i].starts_at == b[i].starts_at && weir_slice_equal(a[i].phase_key, b[i].phase_key)
                  && weir_slice_equal(a[i].reason, b[i].reason);
    return is_same;
}

/* 3. walking both catalogs by key */
static int by_meter(const void *left, const void *right)
{
    const struct weir_meter *const *a = left, *const *b = right;
    return weir_slice_compare((*a)->key, (*b)->key);
}

static int by_version(const void *left, const void *right)
{
    const struct weir_price_book_version *a = *(const struct weir_price_book_version *const *)left;
    const struct weir_price_book_version *b = *(const struct weir_price_book_version *const *)right;
    int order = weir_slice_compare(a->book->key, b->book->key);

    return order ? order : (a->version > b->version) - (a->version < b->version);
}

static int by_contract(const void *left, const void *right)
{
    const struct weir_contract *const *a = left, *const *b = right;
    return weir_slice_compare((*a)->key, (*b)->key);
}

/* Pointers to a catalog's entries of one kind, sorted; to be freed. catalog NULL: none. */
static const void **list_entries(const struct weir_catalog *catalog, enum weir_change_kind kind, size_t *ret_count)
{
    size_t count = 0, room = 1;

    for (uint32_t i = 0; catalog && i < catalog->book_count; i++)
        room += catalog->books[i].version_count;
    room += catalog ? (size_t)catalog->meter_count + catalog->contract_count : 0;
    const void **entries = weir_new_array(room, sizeof *entries);
    if (catalog && kind == WEIR_CHANGE_METER)
        for (uint32_t i = 0; i < catalog->meter_count; i++)
            entries[count++] = &catalog->meters[i];
    if (catalog && kind == WEIR_CHANGE_VERSION)
        for (uint32_t i = 0; i < catalog->book_count; i++)
            for (uint32_t j = 0; j < catalog->books[i].version_count; j++)
                entries[count++] = &catalog->books[i].versions[j];
    if (catalog && kind == WEIR_CHANGE_CONTRACT) {
        for (uint32_t i = 0; i < catalog->contract_count; i++)
            if (catalog->contracts[i].phase == 0)
                entries[count++] = &catalog->contracts[i];
        if (catalog->default_contract)
            entries[count++] = catalog->default_contract;
    }
    *ret_count = count;
    return entries;
}

static bool same_entry(enum weir_change_kind kind, const struct weir_catalog *before, const void *a,
                       const struct weir_catalog *after, const void *b)
{
    char text[128];

    if (kind == WEIR_CHANGE_VERSION)
        return same_version(a, b);
    if (kind == WEIR_CHANGE_CONTRACT) {
        const struct weir_contract *old = a, *new = b;
        struct weir_terms_change change;
        int64_t at = 0;
        weir_contract_changes(old, new, text, sizeof text);
        return !*text && old->whole_ends_at == new->whole_ends_at
               && old->renews_months == new->renews_months &&same_phases(old, new)
               && !weir_contract_next_change(old, new, &at, &change) && !weir_contract_quantity_change(old, new, &at)
               && !weir_contract_low_balance_change(old, new) && !weir_contract_packages_change(old, new);
    }
    const struct weir_meter *old = a, *new = b;
    weir_meter_changes(before, old, after, new, text, sizeof text);
    return !*text && weir_slice_equal(old->event_type, new->event_type)
           && same_where((struct side){before, old}, (struct side){after, new});
}

static void add_change(struct weir_change_list *list, enum weir_change_kind kind, const void *before, const void *after)
{
    if (list->count == list->room) {
        list->room = list->room ? list->room * 2 : 16;
        list->changes = weir_resize(list->changes, list->room, sizeof *list->changes);
    }
    struct weir_change *change = &list->changes[list->count++];
    *change = (struct weir_change){.kind = kind, .is_added = !before, .is_removed = !after};
    if (kind == WEIR_CHANGE_METER) {
        change->before.meter = before;
        change->after.meter = after;
    } else if (kind == WEIR_CHANGE_VERSION) {
        change->before.version = before;
        change->after.version = after;
    } else {
        change->before.contract = before;
        change->after.contract = after;
    }
}

static void compare_kind(enum weir_change_kind kind, int (*order)(const void *, const void *),
                         const struct weir_catalog *before, const struct weir_catalog *after,
                         struct weir_change_list *list)
{
    size_t old_count, new_count, i = 0, j = 0;
    const void **old = list_entries(before, kind, &old_count), **new = list_entries(after, kind, &new_count);

    qsort(old, old_count, sizeof *old, order);
    qsort(new, new_count, sizeof *new, order);
    while (i < old_count || j < new_count) {
        int side = i == old_count ? 1 : j == new_count ? -1 : order(&old[i], &new[j]);
        if (side < 0)
            add_change(list, kind, old[i++], NULL);
        else if (side > 0)
            add_change(list, kind, NULL, new[j++]);
        else {
            if (!same_entry(kind, before, old[i], after, new[j]))
                add_change(list, kind, old[i], new[j]);
            i++;
            j++;
        }
    }
    free(old);
    free(new);
}

void weir_catalog_difference(const struct weir_catalog *before, const struct weir_catalog *after,
                             struct weir_change_list *ret_changes)
{
    struct weir_change_list list = {0};

    compare_kind(WEIR_CHANGE_METER, by_meter, before, after, &list);
    compare_kind(WEIR_CHANGE_VERSION, by_version, before, after, &list);
    compare_kind(WEIR_CHANGE_CONTRACT, by_contract, before, after, &list);
    *ret_changes = list;
}

void weir_change_list_free(struct weir_change_list *changes)
{
    free(changes->changes);
    *changes = (struct weir_change_list){0};
}
