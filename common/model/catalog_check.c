/* What several entries must have in common: keys that would meet in one invoice, contracts of one customer. */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

/* 1. facts about price books */

static int slice_compare(const void *left, const void *right)
{
    return weir_slice_compare(*(const struct weir_slice *)left, *(const struct weir_slice *)right);
}

static bool holds_slice(const struct weir_slice *sorted, uint32_t count, struct weir_slice key)
{
    return count && bsearch(&key, sorted, count, sizeof *sorted, slice_compare);
}

static bool prices_meter(const struct weir_book_facts *facts, struct weir_slice key)
{
    for (uint32_t i = 0; i < facts->meter_count; i++)
        if (weir_slice_equal(facts->meters[i].meter->key, key))
            return true;
    return false;
}

static void gather_meters(struct weir_catalog_load *load, const struct weir_price_book *book,
                          struct weir_book_facts *facts)
{
    int64_t priced_from[WEIR_METERS_MAX];
    for (uint32_t i = 0; i < WEIR_METERS_MAX; i++)
        priced_from[i] = WEIR_TIME_NEVER;
    for (uint32_t i = 0; i < book->version_count; i++) {
        const struct weir_price_book_version *version = &book->versions[i];
        for (uint32_t p = 0; p < version->price_count; p++) {
            const struct weir_meter *meter = version->prices[p].meter;
            if (meter && meter->index < WEIR_METERS_MAX && version->effective_from < priced_from[meter->index])
                priced_from[meter->index] = version->effective_from;
        }
        if (i == 0 || version->effective_from < facts->from)
            facts->from = version->effective_from;
    }
    facts->meters = weir_arena_take_array(load->scratch, load->meter_count, sizeof *facts->meters);
    for (uint32_t i = 0; i < load->catalog->meter_count && i < WEIR_METERS_MAX; i++)
        if (priced_from[i] != WEIR_TIME_NEVER)
            facts->meters[facts->meter_count++] = (struct weir_priced_meter){&load->catalog->meters[i], priced_from[i]};
}

static void gather_fee_keys(struct weir_catalog_load *load, const struct weir_price_book *book,
                            struct weir_book_facts *facts)
{
    size_t fees = 0;
    for (uint32_t i = 0; i < book->version_count; i++)
        fees += book->versions[i].fee_count;
    facts->fee_keys = weir_arena_take_array(load->scratch, fees, sizeof *facts->fee_keys);
    for (uint32_t i = 0; i < book->version_count; i++)
        for (uint32_t f = 0; f < book->versions[i].fee_count; f++)
            if (book->versions[i].fees[f].key.length)
                facts->fee_keys[facts->fee_count++] = book->versions[i].fees[f].key;
    if (facts->fee_count)
        qsort(facts->fee_keys, facts->fee_count, sizeof *facts->fee_keys, slice_compare);
}

/* 2. keys that would meet as `item` */

/* versions of the draft list that belong to books[index] stand one after the other */
static void check_fee_keys(struct weir_catalog_load *load, const struct weir_version_draft *draft)
{
    const struct weir_price_book *book = weir_catalog_book(load->catalog, draft->key);
    const struct weir_book_facts *facts = book ? &load->facts[book - load->catalog->books] : NULL;
    for (uint32_t i = 0; facts && i < draft->version.fee_count; i++) {
        struct weir_slice key = draft->version.fees[i].key;
        if (key.length && prices_meter(facts, key))
            weir_mistake_add_at(load, draft->origin, "price_books", weir_arena_print(load->scratch, "fees[%u].key", i),
                                WEIR_MISTAKE_KEY_CLASH,
                                "\"%s\" is also a meter that this price book prices; both would be the item \"%s\" of "
                                "an invoice: rename the fee",
                                key.data, key.data);
    }
}

/* A contract's are checked with all that the contract has. */
static void check_version_discount_keys(struct weir_catalog_load *load, const struct weir_version_draft *draft)
{
    const struct weir_price_book *book = weir_catalog_book(load->catalog, draft->key);
    const struct weir_book_facts *facts = book ? &load->facts[book - load->catalog->books] : NULL;
    for (uint32_t i = 0; facts && i < draft->version.discount_count; i++) {
        struct weir_slice key = draft->version.discounts[i].key;
        const char *other = !key.length                                           ? NULL
                            : holds_slice(facts->fee_keys, facts->fee_count, key) ? "a fee of this price book"
                            : prices_meter(facts, key) ? "a meter that this price book prices"
                                                       : NULL;
        if (other)
            weir_mistake_add_at(load, draft->origin, "price_books",
                                weir_arena_print(load->scratch, "discounts[%u].key", i), WEIR_MISTAKE_KEY_CLASH,
                                "\"%s\" is also %s; rename the discount", key.data, other);
    }
}

bool weir_contract_has_own(const struct weir_contract *contract, struct weir_slice meter)
{
    for (uint32_t i = 0; i < contract->price_count; i++)
        if (contract->prices[i].meter && weir_slice_equal(contract->prices[i].meter->key, meter))
            return true;
    return false;
}

/* Fees come from the price book; where that prices the meter too, check_fee_keys has said it. */
static void check_own_meters(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_book_facts *facts = contract->book ? &load->facts[contract->book - load->catalog->books] : NULL;
    if (!(draft->says & (WEIR_SAYS_BOOK | WEIR_SAYS_PRICES)))
        return;
    const char *member = draft->says & WEIR_SAYS_PRICES ? "prices" : "price_book";
    for (uint32_t i = 0; facts && i < facts->fee_count; i++)
        if ((i == 0 || !weir_slice_equal(facts->fee_keys[i - 1], facts->fee_keys[i]))
            && weir_contract_has_own(contract, facts->fee_keys[i]) && !prices_meter(facts, facts->fee_keys[i]))
            weir_mistake_add_at(load, draft->origin, list, member, WEIR_MISTAKE_KEY_CLASH,
                                "meter \"%s\" is also a fee of price book \"%s\"; both would be the item \"%s\" of an "
                                "invoice: rename the fee",
                                facts->fee_keys[i].data, contract->book->key.data, facts->fee_keys[i].data);
}

/* Where a phase says a commitment that clashes, or what it clashes with. */
static const char *commitment_place(struct weir_catalog_load *load, const struct weir_contract_draft *draft, uint32_t i)
{
    if (draft->says & WEIR_SAYS_COMMITMENTS)
        return weir_arena_print(load->scratch, "commitments[%u].key", i);
    return draft->says & WEIR_SAYS_BOOK ? "price_book" : "prices";
}

static void check_commitment_keys(struct weir_catalog_load *load, const struct weir_contract_draft *draft,
                                  const char *list)
{
    const struct weir_contract *contract = &draft->contract;
    if (!contract->book || !(draft->says & (WEIR_SAYS_BOOK | WEIR_SAYS_PRICES | WEIR_SAYS_COMMITMENTS)))
        return;
    const struct weir_book_facts *facts = &load->facts[contract->book - load->catalog->books];
    for (uint32_t i = 0; i < contract->commitment_count; i++) {
        struct weir_slice key = contract->commitments[i].key;
        if (key.length == 0)
            continue;
        const char *other = holds_slice(facts->fee_keys, facts->fee_count, key) ? "a fee of"
                            : prices_meter(facts, key) || weir_contract_has_own(contract, key)
                                ? "a meter priced by the contract or"
                                : NULL;
        if (other)
            weir_mistake_add_at(load, draft->origin, list, commitment_place(load, draft, i), WEIR_MISTAKE_KEY_CLASH,
                                "\"%s\" is also %s price book \"%s\"; both would be the item \"%s\" of an invoice: "
                                "rename the commitment",
                                key.data, other, contract->book->key.data, key.data);
    }
}

static const char *discount_place(struct weir_catalog_load *load, const struct weir_contract_draft *draft, uint32_t i)
{
    if (draft->says & WEIR_SAYS_DISCOUNTS)
        return weir_arena_print(load->scratch, "discounts[%u].key", i);
    return draft->says & WEIR_SAYS_COMMITMENTS ? "commitments" : draft->says & WEIR_SAYS_BOOK ? "price_book" : "prices";
}

/* All of one contract's discounts, against all else that can be an item of its invoices. */
static void check_discount_keys(struct weir_catalog_load *load, const struct weir_contract_draft *draft,
                                const char *list)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_book_facts *facts = contract->book ? &load->facts[contract->book - load->catalog->books] : NULL;
    if (!(draft->says & ~(unsigned)(WEIR_SAYS_OVERRIDES | WEIR_SAYS_DRAWDOWN_ORDER | WEIR_SAYS_PACKAGES)))
        return;
    for (uint32_t i = 0; facts && i < contract->discount_count; i++) {
        struct weir_slice key = contract->discounts[i].key;
        const char *other = NULL;
        for (uint32_t c = 0; c < contract->commitment_count; c++)
            if (key.length && weir_slice_equal(contract->commitments[c].key, key))
                other = "a commitment of the contract";
        if (key.length && holds_slice(facts->fee_keys, facts->fee_count, key))
            other = "a fee of its price book";
        else if (key.length && (prices_meter(facts, key) || weir_contract_has_own(contract, key)))
            other = "a meter that it prices";
        if (other)
            weir_mistake_add_at(load, draft->origin, list, discount_place(load, draft, i), WEIR_MISTAKE_KEY_CLASH,
                                "\"%s\" is also %s; both would be the item \"%s\" of an invoice: rename the discount",
                                key.data, other, key.data);
    }
}

/* Whether usage of the meter without any dimension has a price here. */
static bool prices_plain(const struct weir_price *prices, uint32_t count, const struct weir_meter *meter)
{
    for (uint32_t i = 0; i < count; i++) {
        bool is_plain = prices[i].meter && weir_slice_equal(prices[i].meter->key, meter->key);
        for (uint32_t w = 0; w < prices[i].when_count; w++)
            is_plain &= prices[i].when[w].text.length == 0;
        if (is_plain)
            return true;
    }
    return false;
}

/* What is missing to a minimum quantity is charged as usage without dimensions: every version that can have to charge
 * it needs a price for that. */
static void check_minimum_quantity(struct weir_catalog_load *load, const struct weir_contract_draft *draft,
                                   const char *list, uint32_t number)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_meter *meter = contract->commitments[number].meter;
    if (!meter || prices_plain(contract->prices, contract->price_count, meter))
        return;
    for (uint32_t i = 0; i < contract->book->version_count; i++) {
        const struct weir_price_book_version *version = &contract->book->versions[i];
        bool is_over = i + 1 < contract->book->version_count
                       && contract->book->versions[i + 1].effective_from <= contract->starts_at;
        if (is_over || version->effective_from >= contract->ends_at
            || prices_plain(version->prices, version->price_count, meter))
            continue;
        weir_mistake_add_at(load, draft->origin, list, weir_arena_print(load->scratch, "commitments[%u].meter", number),
                            WEIR_MISTAKE_UNKNOWN_REFERENCE,
                            "version %u of price book \"%s\" has no price for usage of meter \"%s\" without "
                            "dimensions, by which what is missing would be charged: give it one without \"when\"",
                            version->version, contract->book->key.data, meter->key.data);
        return;
    }
}

/* What both would call missing is charged once: what one of them has charged for is no usage to the other. Of two per
 * period that was not asked once, and a catalog that was applied then goes on. */
static void check_one_minimum(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list,
                              uint32_t number)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_commitment *commitment = &contract->commitments[number];
    for (uint32_t i = 0; i < number; i++) {
        const struct weir_commitment *other = &contract->commitments[i];
        if (other->type != WEIR_COMMITMENT_MINIMUM_QUANTITY || !other->meter || other->meter != commitment->meter
            || (load->was_applied && !other->is_per_term && !commitment->is_per_term))
            continue;
        weir_mistake_add_at(
            load, draft->origin, list, weir_arena_print(load->scratch, "commitments[%u].meter", number),
            WEIR_MISTAKE_DUPLICATE,
            "\"%s\" has a minimum quantity in commitments[%u], and in the same terms a meter has no other: "
            "what is missing to both would be charged twice; leave one, or put it into a phase of its own",
            commitment->meter->key.data, i);
        return;
    }
}

static bool is_same_grant(const struct weir_commitment *a, const struct weir_commitment *b)
{
    for (uint32_t i = 0; i < a->meter_count && a->meter_count == b->meter_count; i++)
        if (!weir_slice_equal(a->meters[i], b->meters[i]))
            return false;
    return a->type == b->type && a->meter_count == b->meter_count && a->funding == b->funding
           && weir_decimal_compare(a->amount, b->amount) == 0 && weir_decimal_compare(a->price, b->price) == 0
           && a->priority == b->priority && a->starts_at == b->starts_at && a->expires_at == b->expires_at
           && weir_decimal_compare(a->overage_multiplier, b->overage_multiplier) == 0
           && weir_decimal_compare(a->rollover_fraction, b->rollover_fraction) == 0
           && a->rollover_expires_at == b->rollover_expires_at && a->is_per_term == b->is_per_term
           && a->months == b->months && a->rollover_months == b->rollover_months
           && weir_thresholds_equal(&a->low_balance, &b->low_balance);
}

/* A prepaid amount that several terms of a contract list is one. */
static void check_same_grants(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list,
                              uint32_t number)
{
    const struct weir_commitment *commitment = &draft->contract.commitments[number];
    for (uint32_t back = 1; back <= draft->contract.phase; back++) {
        const struct weir_contract *before = &(draft - back)->contract;
        weir_check(before->phase + back == draft->contract.phase);
        for (uint32_t i = 0; i < before->commitment_count; i++) {
            const struct weir_commitment *other = &before->commitments[i];
            if (!weir_slice_equal(other->key, commitment->key) || is_same_grant(other, commitment)
                || (other->type != WEIR_COMMITMENT_PREPAID && commitment->type != WEIR_COMMITMENT_PREPAID))
                continue;
            weir_mistake_add_at(
                load, draft->origin, list, weir_arena_print(load->scratch, "commitments[%u]", number),
                WEIR_MISTAKE_CONTRADICTION,
                "\"%s\" is not what it is in the terms before; one prepaid amount has one wording: repeat "
                "it, or give this one a key of its own",
                commitment->key.data);
            return;
        }
    }
}

/* What is per term needs terms that end; an amount that is granted anew, others after them. */
static void check_per_term(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list,
                           uint32_t number)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_commitment *commitment = &contract->commitments[number];
    bool is_prepaid = commitment->type == WEIR_COMMITMENT_PREPAID;
    if (!commitment->is_per_term || !draft->has_term || contract->renews_months
        || (!is_prepaid && contract->whole_ends_at != WEIR_TIME_NEVER))
        return;
    weir_mistake_add_at(load, draft->origin, list, weir_arena_print(load->scratch, "commitments[%u].per", number),
                        WEIR_MISTAKE_CONTRADICTION,
                        is_prepaid ? "is granted anew with each term, and the contract does not renew; give the "
                                     "contract \"renews\", or leave \"per\" out"
                                   : "is settled when the term ends, and the contract has no end; give it \"renews\" "
                                     "or \"ends_at\", or the minimum per \"period\"");
}

static void check_commitments(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list)
{
    const struct weir_contract *contract = &draft->contract;
    for (uint32_t i = 0; contract->book && i < contract->commitment_count; i++) {
        const struct weir_commitment *commitment = &contract->commitments[i];
        if (draft->says & WEIR_SAYS_COMMITMENTS)
            check_same_grants(load, draft, list, i);
        if (draft->says & WEIR_SAYS_COMMITMENTS)
            check_per_term(load, draft, list, i);
        if (commitment->type == WEIR_COMMITMENT_MINIMUM_QUANTITY
            && !load->facts[contract->book - load->catalog->books].broken)
            check_minimum_quantity(load, draft, list, i);
        if (commitment->type == WEIR_COMMITMENT_MINIMUM_QUANTITY && (draft->says & WEIR_SAYS_COMMITMENTS))
            check_one_minimum(load, draft, list, i);
        if (draft == load->default_contract && (commitment->package.length || !weir_decimal_is_zero(commitment->price)))
            weir_mistake_add_at(load, draft->origin, list, weir_arena_print(load->scratch, "commitments[%u]", i),
                                WEIR_MISTAKE_CONTRADICTION,
                                "is bought, but nobody buys anything with the default contract; must have \"funding\" "
                                "\"free\" or \"promotional\", or \"price\" \"0\"");
    }
}

static void check_terms_keys(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *list)
{
    check_own_meters(load, draft, list);
    check_commitment_keys(load, draft, list);
    check_discount_keys(load, draft, list);
    check_commitments(load, draft, list);
}

/* 3. contracts among themselves */

/* For lists of contracts in another order than theirs. */
struct entry {
    struct weir_contract_draft *draft;
};

static int by_key(const void *left, const void *right)
{
    const struct weir_contract_draft *a = ((const struct entry *)left)->draft,
                                     *b = ((const struct entry *)right)->draft;
    int order = weir_slice_compare(a->contract.key, b->contract.key);
    return order ? order : weir_origin_compare(a->origin, b->origin);
}

static void check_contract_keys(struct weir_catalog_load *load)
{
    size_t count = 0, first = 0;
    struct entry *entries = weir_arena_take_array(load->scratch, load->contract_count, sizeof *entries);
    for (size_t i = 0; i < load->contract_count; i++)
        if (load->contracts[i].origin.phase == 0)
            entries[count++].draft = &load->contracts[i];
    if (count > 1)
        qsort(entries, count, sizeof *entries, by_key);
    for (size_t i = 1; i < count; i++) {
        const struct weir_contract_draft *draft = entries[i].draft;
        if (!weir_slice_equal(draft->contract.key, entries[first].draft->contract.key))
            first = i;
        else if (draft->contract.key.length)
            weir_mistake_add_at(load, draft->origin, "contracts", "key", WEIR_MISTAKE_DUPLICATE,
                                "\"%s\" is already the key of %s; each contract needs its own",
                                draft->contract.key.data,
                                weir_origin_text(load, entries[first].draft->origin, "contracts"));
    }
}

/* Contracts come by customer, then start: one that starts before the latest end so far overlaps. */
static void check_overlaps(struct weir_catalog_load *load)
{
    const struct weir_contract_draft *latest = NULL;
    for (size_t i = 0; i < load->contract_count; i++) {
        const struct weir_contract_draft *draft = &load->contracts[i];
        if (draft->origin.phase || !draft->has_term || draft->contract.customer.length == 0)
            continue;
        if (!latest || !weir_slice_equal(latest->contract.customer, draft->contract.customer)) {
            latest = draft;
            continue;
        }
        if (draft->contract.starts_at < latest->contract.whole_ends_at) {
            bool open = latest->contract.whole_ends_at == WEIR_TIME_NEVER;
            weir_mistake_add_at(
                load, draft->origin, "contracts", NULL, WEIR_MISTAKE_OVERLAP,
                "contract %s of customer %s starts at %s, while contract %s (%s) %s%s; a customer has "
                "one contract at a time: let the earlier one end first",
                weir_quoted(load, draft->contract.key), weir_quoted(load, draft->contract.customer),
                weir_time_quoted(load, draft->contract.starts_at), weir_quoted(load, latest->contract.key),
                weir_origin_text(load, latest->origin, "contracts"), open ? "has no end" : "runs until ",
                open ? "" : weir_time_quoted(load, latest->contract.whole_ends_at));
        }
        if (draft->contract.whole_ends_at > latest->contract.whole_ends_at)
            latest = draft;
    }
}

/* 4. all of them */

void weir_catalog_check(struct weir_catalog_load *load)
{
    for (uint32_t i = 0; i < load->catalog->book_count; i++) {
        gather_meters(load, &load->catalog->books[i], &load->facts[i]);
        gather_fee_keys(load, &load->catalog->books[i], &load->facts[i]);
    }
    weir_catalog_price_packages(load);
    for (size_t i = 0; i < load->version_count; i++)
        check_fee_keys(load, &load->versions[i]);
    for (size_t i = 0; i < load->version_count; i++)
        check_version_discount_keys(load, &load->versions[i]);
    for (size_t i = 0; i < load->contract_count; i++)
        check_terms_keys(load, &load->contracts[i], "contracts");
    if (load->default_contract)
        check_terms_keys(load, load->default_contract, "default_contract");
    check_contract_keys(load);
    check_overlaps(load);
    weir_catalog_check_boundaries(load);
}
