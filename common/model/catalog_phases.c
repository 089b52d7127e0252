/* $.contracts[*].phases: terms that hold from a date on, whether they were agreed with the contract (a ramp) or later
 * (an amendment). What a phase does not say goes on from the terms before it. */
#include "common/model/catalog_internal.h"

size_t weir_phase_count(const struct weir_node *contract)
{
    size_t count = json_array_size(json_object_get(contract->json, "phases"));
    return count <= WEIR_PHASES_MAX ? count : 0; /* more are refused, and not read */
}

/* 1. where it begins */

/* A period has one set of terms. Of a catalog that was applied, this was asked under the zone rules of its day. */
static bool begins_period(struct weir_catalog_load *load, const struct weir_node *starts_at,
                          const struct weir_contract_draft *draft)
{
    const struct weir_contract *contract = &draft->contract;
    int64_t start, end;
    if (load->was_applied || !draft->has_period)
        return true;
    weir_period_of(contract->billing_period, contract->billing_anchor, contract->zone, contract->starts_at, &start,
                   &end);
    if (start == contract->starts_at)
        return true;
    const char *from = start > contract->whole_starts_at ? weir_time_quoted(load, start) : "";
    const char *to = end < contract->whole_ends_at ? weir_time_quoted(load, end) : "";
    weir_mistake_add(load, starts_at, WEIR_MISTAKE_WITHIN_PERIOD,
                     "found %s, within the billing period %s to %s (time zone %s); a phase begins where a period does%s"
                     "%s%s%s",
                     weir_found(load, starts_at->json), weir_time_quoted(load, start), weir_time_quoted(load, end),
                     contract->timezone.data, *from || *to ? ": " : "", from, *from && *to ? " or " : "", to);
    return false;
}

/* before: the phase that would end here. */
static bool read_start(struct weir_catalog_load *load, const struct weir_node *node,
                       const struct weir_contract_draft *before, struct weir_contract_draft *draft)
{
    struct weir_contract *contract = &draft->contract;
    struct weir_node starts_at = weir_node_member(node, "starts_at");
    if (!weir_read_time(load, node, "starts_at", WEIR_WHOLE_SECONDS, &contract->starts_at) || !before->has_term)
        return false;
    if (contract->starts_at <= before->contract.starts_at) {
        weir_mistake_add(load, &starts_at, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is not after the start of the terms before it, %s; phases ascend",
                         weir_found(load, starts_at.json), weir_time_quoted(load, before->contract.starts_at));
        return false;
    }
    if (contract->starts_at >= contract->whole_ends_at) {
        weir_mistake_add(load, &starts_at, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, but the contract ends %s; a phase begins before that",
                         weir_found(load, starts_at.json), weir_time_quoted(load, contract->whole_ends_at));
        return false;
    }
    return begins_period(load, &starts_at, draft);
}

/* 2. its terms */

static void read_phase_book(struct weir_catalog_load *load, const struct weir_node *node,
                            const struct weir_price_book *first, struct weir_contract *contract)
{
    contract->book = NULL;
    weir_read_book(load, node, contract);
    if (!first || !contract->book || !first->currency.length || !contract->book->currency.length
        || weir_slice_equal(first->currency, contract->book->currency))
        return;
    struct weir_node place = weir_node_member(node, "price_book");
    weir_mistake_add(
        load, &place, WEIR_MISTAKE_OUT_OF_ORDER,
        "price book \"%s\" has %s, but the contract began with \"%s\" in %s; all phases of a contract have "
        "one currency",
        contract->book->key.data, contract->book->currency.data, first->key.data, first->currency.data);
}

/* Overrides that go on from before, with prices that do not. */
static void check_going_overrides(struct weir_catalog_load *load, const struct weir_node *node,
                                  const struct weir_contract *contract)
{
    for (uint32_t i = 0; i < contract->override_count; i++)
        for (uint32_t own = 0; own < contract->price_count; own++) {
            if (!contract->prices[own].meter || contract->prices[own].meter != contract->overrides[i].meter)
                continue;
            struct weir_node place = weir_node_member(node, "prices");
            weir_mistake_add(
                load, &place, WEIR_MISTAKE_DUPLICATE,
                "the override for meter \"%s\" goes on in this phase; give the phase \"overrides\" without "
                "it, or no prices for that meter",
                contract->prices[own].meter->key.data);
            break;
        }
}

static void read_terms(struct weir_catalog_load *load, const struct weir_node *node,
                       const struct weir_price_book *first, struct weir_contract_draft *draft)
{
    static const struct {
        const char *name;
        unsigned says;
    } members[] = {
        {"packages", WEIR_SAYS_PACKAGES},
        {"price_book", WEIR_SAYS_BOOK},
        {"prices", WEIR_SAYS_PRICES},
        {"overrides", WEIR_SAYS_OVERRIDES},
        {"commitments", WEIR_SAYS_COMMITMENTS},
        {"discounts", WEIR_SAYS_DISCOUNTS},
        {"drawdown_order", WEIR_SAYS_DRAWDOWN_ORDER},
    };
    struct weir_contract *contract = &draft->contract;
    for (size_t i = 0; i < sizeof members / sizeof *members; i++)
        if (weir_node_member(node, members[i].name).json)
            draft->says |= members[i].says;
    if (!draft->says)
        weir_mistake_add(load, node, WEIR_MISTAKE_MISSING_KEY,
                         "changes nothing; must have at least one of price_book, prices, overrides, commitments, "
                         "discounts, drawdown_order, packages");
    const struct weir_price_book *before = contract->book;
    if (draft->says & WEIR_SAYS_BOOK)
        read_phase_book(load, node, first, contract);
    if (contract->book == before)
        draft->says &= ~(unsigned)WEIR_SAYS_BOOK; /* what clashes with it was said where it stood first */
    if (draft->says & WEIR_SAYS_PRICES) {
        contract->price_count = 0;
        weir_read_prices(load, node, &contract->prices, &contract->price_count);
    }
    if (draft->says & WEIR_SAYS_OVERRIDES) {
        contract->override_count = 0;
        weir_read_overrides(load, node, contract);
    } else if (draft->says & WEIR_SAYS_PRICES) {
        check_going_overrides(load, node, contract);
    }
    if (draft->says & WEIR_SAYS_COMMITMENTS) {
        contract->commitment_count = 0;
        weir_read_commitments(load, node, contract);
    }
    if (draft->says & WEIR_SAYS_DISCOUNTS) {
        contract->has_own_discounts = true;
        contract->discount_count = 0;
        weir_read_discounts(load, node, &contract->discounts, &contract->discount_count);
    }
    weir_read_draw_order(load, node, &contract->drawdown_order);
    if (draft->says & WEIR_SAYS_PACKAGES) {
        contract->package_count = 0;
        weir_read_packages(load, node, &contract->packages, &contract->package_count);
    }
}

/* 3. all of them */

static void check_phase_key(struct weir_catalog_load *load, const struct weir_node *node,
                            const struct weir_contract_draft drafts[], uint32_t phase)
{
    struct weir_slice key = drafts[phase].contract.phase_key;
    for (uint32_t other = 1; other < phase && key.length; other++) {
        if (!weir_slice_equal(drafts[other].contract.phase_key, key))
            continue;
        weir_mistake_add(load, node, WEIR_MISTAKE_DUPLICATE,
                         "\"%s\" is already the key of phases[%u]; each phase of a contract needs its own", key.data,
                         other - 1);
        return;
    }
}

/* The draft has the terms of the phase before. False: it is no object. */
static bool read_phase(struct weir_catalog_load *load, const struct weir_node *node,
                       struct weir_contract_draft drafts[], uint32_t phase)
{
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},  {"starts_at", WEIR_IN_ALL, WEIR_IN_ALL},
        {"reason", WEIR_IN_ALL, 0},         {"price_book", WEIR_IN_ALL, 0},
        {"prices", WEIR_IN_ALL, 0},         {"overrides", WEIR_IN_ALL, 0},
        {"commitments", WEIR_IN_ALL, 0},    {"discounts", WEIR_IN_ALL, 0},
        {"drawdown_order", WEIR_IN_ALL, 0}, {"packages", WEIR_IN_ALL, 0},
    };
    struct weir_contract *contract = &drafts[phase].contract;
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
        return false;
    (void)weir_read_key(load, node, "key", &contract->phase_key);
    check_phase_key(load, node, drafts, phase);
    (void)weir_read_text(load, node, "reason", 1, WEIR_REASON_MAX, &contract->reason);
    read_terms(load, node, drafts[0].contract.book, &drafts[phase]);
    return true;
}

void weir_read_phases(struct weir_catalog_load *load, const struct weir_node *node, struct weir_contract_draft drafts[])
{
    struct weir_node list;
    uint32_t count = (uint32_t)weir_phase_count(node), last = 0; /* the last whose start is good */
    drafts[0].says = WEIR_SAYS_ALL;
    drafts[0].end_origin = drafts[0].origin;
    drafts[0].contract.phase_count = 1 + count;
    if (!weir_read_list(load, node, "phases", 0, WEIR_PHASES_MAX, &list))
        return;
    for (uint32_t phase = 1; phase <= count; phase++) {
        struct weir_contract_draft *draft = &drafts[phase];
        struct weir_node element = weir_node_element(&list, phase - 1);
        *draft = drafts[phase - 1];
        draft->origin.phase = draft->contract.phase = phase;
        draft->contract.phase_key = draft->contract.reason = (struct weir_slice){0};
        draft->contract.ends_at = draft->contract.whole_ends_at;
        draft->end_origin = drafts[0].origin;
        draft->says = 0;
        draft->has_term = read_phase(load, &element, drafts, phase) && read_start(load, &element, &drafts[last], draft);
        if (!draft->has_term)
            continue;
        drafts[last].contract.ends_at = draft->contract.starts_at;
        drafts[last].end_origin = draft->origin;
        last = phase;
    }
}
