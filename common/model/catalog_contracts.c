/* $.contracts and $.default_contract. */
#include <stdlib.h>

#include "common/model/catalog_internal.h"

/* 1. zones: each is opened once and belongs to the catalog */

/* Letters, digits, '_', '+', '-', in parts with '/' between: names in the zone data, no paths out of it. */
static bool is_zone_name(struct weir_slice name)
{
    char before = '/';
    for (uint32_t i = 0; i < name.length; i++) {
        char c = name.data[i];
        bool letter = (c >= 'a' && c <= 'z') || (c >= 'A' && c <= 'Z') || (c >= '0' && c <= '9') || c == '_' || c == '+'
                      || c == '-';
        if (!letter && (c != '/' || before == '/'))
            return false;
        before = c;
    }
    return before != '/';
}

static const struct weir_zone *zone_of(struct weir_catalog_load *load, struct weir_slice name)
{
    struct weir_catalog_owned *owned = load->owned;
    uint32_t low = 0, high = owned->zone_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (weir_slice_compare(owned->zones[middle].name, name) < 0)
            low = middle + 1;
        else
            high = middle;
    }
    if (low < owned->zone_count && weir_slice_equal(owned->zones[low].name, name))
        return owned->zones[low].zone;
    if (owned->zone_count == owned->zone_room) {
        owned->zone_room = owned->zone_room ? 2 * owned->zone_room : 8;
        owned->zones = weir_resize(owned->zones, owned->zone_room, sizeof *owned->zones);
    }
    memmove(&owned->zones[low + 1], &owned->zones[low], (owned->zone_count - low) * sizeof *owned->zones);
    owned->zone_count++;
    owned->zones[low] = (struct weir_zone_entry){name, weir_zone_open(name.data)};
    return owned->zones[low].zone;
}

static bool read_zone(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract)
{
    struct weir_slice name;
    if (!weir_read_text(load, object, "timezone", 1, WEIR_KEY_MAX, &name))
        return false;
    struct weir_node node = weir_node_member(object, "timezone");
    if (!is_zone_name(name)) {
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; must be the name of an IANA time zone, such as \"UTC\" or \"Europe/Berlin\"",
                         weir_found(load, node.json));
        return false;
    }
    contract->timezone = name;
    contract->zone = zone_of(load, name);
    if (!contract->zone)
        weir_mistake_add(load, &node, WEIR_MISTAKE_UNKNOWN_REFERENCE,
                         "the system knows no time zone %s; must be an IANA name, such as \"UTC\" or \"Europe/Berlin\"",
                         weir_found(load, node.json));
    return contract->zone;
}

/* 2. overrides and commitments */

void weir_read_overrides(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract)
{
    static const struct weir_field fields[] = {
        {"meter", WEIR_IN_ALL, WEIR_IN_ALL},
        {"multiplier", WEIR_IN_ALL, WEIR_IN_ALL},
    };
    struct weir_node list;
    if (!weir_read_list(load, object, "overrides", 0, WEIR_OVERRIDES_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    contract->overrides = weir_arena_take_array(load->arena, count, sizeof *contract->overrides);
    contract->override_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_override *override = &contract->overrides[i];
        if (!weir_read_object(load, &node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
            continue;
        (void)weir_read_decimal(load, &node, "multiplier", WEIR_NOT_NEGATIVE, &override->multiplier);
        const struct weir_meter_draft *meter = weir_read_meter(load, &node, "meter");
        if (!meter)
            continue;
        override->meter = &load->catalog->meters[meter->meter.index];
        for (uint32_t own = 0; own < contract->price_count; own++) {
            if (contract->prices[own].meter != override->meter)
                continue;
            struct weir_node key = weir_node_member(&node, "meter");
            weir_mistake_add(
                load, &key, WEIR_MISTAKE_DUPLICATE,
                "the contract has prices of its own for meter \"%s\"; give it these or an override, not both",
                override->meter->key.data);
            break;
        }
        for (size_t other = 0; other < i; other++) {
            if (contract->overrides[other].meter != override->meter)
                continue;
            struct weir_node key = weir_node_member(&node, "meter");
            weir_mistake_add(load, &key, WEIR_MISTAKE_DUPLICATE,
                             "overrides[%zu] is for meter \"%s\" already; a contract has one for each meter", other,
                             override->meter->key.data);
            break;
        }
    }
}

/* The meters that a prepaid amount is for, sorted. */
static void read_applicable_meters(struct weir_catalog_load *load, const struct weir_node *object,
                                   struct weir_commitment *commitment)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "meters", 1, WEIR_METERS_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    commitment->meters = weir_arena_take_array(load->arena, count, sizeof *commitment->meters);
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        const struct weir_meter_draft *meter = weir_read_node_meter(load, &node);
        if (!meter)
            continue;
        uint32_t at = commitment->meter_count;
        while (at > 0 && weir_slice_compare(commitment->meters[at - 1], meter->meter.key) > 0) {
            commitment->meters[at] = commitment->meters[at - 1];
            at--;
        }
        commitment->meters[at] = meter->meter.key;
        commitment->meter_count++;
        if (at > 0 && weir_slice_equal(commitment->meters[at - 1], meter->meter.key))
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE, "meter \"%s\" stands in the list already",
                             meter->meter.key.data);
    }
}

/* When it may be drawn down: within the contract's term, as far as that is known. */
static void read_access(struct weir_catalog_load *load, const struct weir_node *object,
                        const struct weir_contract *contract, struct weir_commitment *commitment)
{
    struct weir_node starts_at = weir_node_member(object, "starts_at"),
                     expires_at = weir_node_member(object, "expires_at");
    bool is_good = !starts_at.json || weir_read_time(load, object, "starts_at", WEIR_ANY_TIME, &commitment->starts_at);
    is_good = (!expires_at.json || weir_read_time(load, object, "expires_at", WEIR_ANY_TIME, &commitment->expires_at))
              && is_good;
    const struct weir_node *too_fine = !is_good                                           ? NULL
                                       : starts_at.json && commitment->starts_at % 1000   ? &starts_at
                                       : expires_at.json && commitment->expires_at % 1000 ? &expires_at
                                                                                          : NULL;
    if (too_fine)
        weir_mistake_add(load, too_fine, WEIR_MISTAKE_NO_SUCH_TIME,
                         "found %s, within a microsecond; must be a whole number of them",
                         weir_found(load, too_fine->json));
    if (!is_good || contract->whole_ends_at <= contract->whole_starts_at)
        return;
    if (starts_at.json
        && (commitment->starts_at < contract->whole_starts_at || commitment->starts_at >= contract->whole_ends_at))
        weir_mistake_add(load, &starts_at, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is not within the contract's term; must be from its starts_at on and before "
                         "its ends_at",
                         weir_found(load, starts_at.json));
    else if (commitment->expires_at <= commitment->starts_at || commitment->expires_at <= contract->whole_starts_at)
        weir_mistake_add(load, &expires_at, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is not after the start; must be later", weir_found(load, expires_at.json));
}

/* What goes on when it expires. */
static void read_rollover(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_commitment *commitment)
{
    struct weir_node fraction = weir_node_member(object, "rollover_fraction"),
                     expires_at = weir_node_member(object, "rollover_expires_at"),
                     own = weir_node_member(object, "expires_at");
    if (fraction.json
        && weir_read_decimal(load, object, "rollover_fraction", WEIR_POSITIVE, &commitment->rollover_fraction)
        && weir_decimal_compare(commitment->rollover_fraction, weir_decimal_of(1)) > 0)
        weir_mistake_add(load, &fraction, WEIR_MISTAKE_NOT_REPRESENTABLE,
                         "found %s; must be at most \"1\", which is all", weir_found(load, fraction.json));
    if (fraction.json && !own.json && !commitment->is_per_term)
        weir_mistake_add(load, &fraction, WEIR_MISTAKE_CONTRADICTION,
                         "what is left goes on when the amount expires; give it \"expires_at\" too");
    if (!expires_at.json
        || !weir_read_time(load, object, "rollover_expires_at", WEIR_ANY_TIME, &commitment->rollover_expires_at))
        return;
    if (!fraction.json)
        weir_mistake_add(load, &expires_at, WEIR_MISTAKE_CONTRADICTION,
                         "nothing goes on without \"rollover_fraction\"; give it too, or leave this out");
    else if (commitment->rollover_expires_at % 1000)
        weir_mistake_add(load, &expires_at, WEIR_MISTAKE_NO_SUCH_TIME,
                         "found %s, within a microsecond; must be a whole number of them",
                         weir_found(load, expires_at.json));
    else if (commitment->expires_at != WEIR_TIME_NEVER && commitment->rollover_expires_at <= commitment->expires_at)
        weir_mistake_add(load, &expires_at, WEIR_MISTAKE_OUT_OF_ORDER,
                         "found %s, which is not after \"expires_at\"; must be later",
                         weir_found(load, expires_at.json));
}

static void read_prepaid(struct weir_catalog_load *load, const struct weir_node *node,
                         const struct weir_contract *contract, struct weir_commitment *commitment)
{
    enum { PRIORITY_MAX = 1000000000 };
    unsigned choice;
    bool has_funding = weir_node_member(node, "funding").json
                       && weir_read_choice(load, node, "funding", weir_funding_name, WEIR_FUNDING_COUNT, &choice);
    struct weir_node price = weir_node_member(node, "price");

    commitment->funding = has_funding ? choice : WEIR_FUNDING_PAID;
    if (commitment->funding == WEIR_FUNDING_PAID)
        commitment->price = commitment->amount;
    if (price.json && weir_read_decimal(load, node, "price", WEIR_NOT_NEGATIVE, &commitment->price)
        && commitment->funding != WEIR_FUNDING_PAID && !weir_decimal_is_zero(commitment->price)) {
        weir_mistake_add(load, &price, WEIR_MISTAKE_CONTRADICTION,
                         "found %s with funding \"%s\", which costs nothing; leave it out, or the funding",
                         weir_found(load, price.json), weir_funding_name[commitment->funding]);
        commitment->price = (struct weir_decimal){0};
    }
    (void)weir_read_integer(load, node, "priority", -PRIORITY_MAX, PRIORITY_MAX, &commitment->priority);
    read_access(load, node, contract, commitment);
    read_applicable_meters(load, node, commitment);
    (void)weir_read_decimal(load, node, "overage_multiplier", WEIR_NOT_NEGATIVE, &commitment->overage_multiplier);
    read_rollover(load, node, commitment);
    weir_read_low_balance(load, node, true, &commitment->low_balance);
}

static void read_commitment(struct weir_catalog_load *load, const struct weir_node *node,
                            const struct weir_contract *contract, struct weir_commitment *commitment)
{
    enum {
        SPEND = 1 << WEIR_COMMITMENT_MINIMUM_SPEND,
        PREPAID = 1 << WEIR_COMMITMENT_PREPAID,
        QUANTITY = 1 << WEIR_COMMITMENT_MINIMUM_QUANTITY,
        PACKAGE = 1 << WEIR_COMMITMENT_TYPE_COUNT, /* prepaid, at the price of a package */
        GRANT = PREPAID | PACKAGE,
    };
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},
        {"type", WEIR_IN_ALL, WEIR_IN_ALL},
        {"amount", SPEND | GRANT, SPEND | PREPAID},
        {"per", SPEND | QUANTITY | PREPAID, SPEND | QUANTITY},
        {"meter", QUANTITY, QUANTITY},
        {"quantity", QUANTITY | PACKAGE, QUANTITY},
        {"package", PACKAGE, 0},
        {"funding", PREPAID, 0},
        {"price", PREPAID, 0},
        {"priority", GRANT, 0},
        {"starts_at", GRANT, 0},
        {"expires_at", GRANT, 0},
        {"meters", GRANT, 0},
        {"overage_multiplier", GRANT, 0},
        {"rollover_fraction", GRANT, 0},
        {"rollover_expires_at", GRANT, 0},
        {"low_balance", GRANT, 0},
        {"months", PREPAID, 0},
        {"rollover_months", PREPAID, 0},
    };
    unsigned variant = WEIR_IN_ALL, choice;
    const char *variant_text = "";
    *commitment = (struct weir_commitment){
        .type = WEIR_COMMITMENT_TYPE_COUNT,
        .starts_at = INT64_MIN,
        .expires_at = WEIR_TIME_NEVER,
        .overage_multiplier = weir_decimal_of(1),
        .rollover_expires_at = WEIR_TIME_NEVER,
    };
    if (json_is_object(node->json)
        && weir_read_choice(load, node, "type", weir_commitment_type_name, WEIR_COMMITMENT_TYPE_COUNT, &choice)) {
        commitment->type = choice;
        variant = 1u << choice;
        variant_text = weir_arena_print(load->scratch, "with type \"%s\"", weir_commitment_type_name[choice]);
        if (choice == WEIR_COMMITMENT_PREPAID && json_object_get(node->json, "package")) {
            variant = PACKAGE;
            variant_text = "beside \"package\"";
        }
    }
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, variant, variant_text))
        return;
    (void)weir_read_key(load, node, "key", &commitment->key);
    if (variant & (SPEND | GRANT))
        (void)weir_read_decimal(load, node, "amount", WEIR_POSITIVE, &commitment->amount);
    if (variant == SPEND || variant == QUANTITY || variant == PREPAID)
        weir_read_per(load, node, contract, commitment);
    if (variant & QUANTITY) {
        const struct weir_meter_draft *meter = weir_read_meter(load, node, "meter");
        if (meter)
            commitment->meter = &load->catalog->meters[meter->meter.index];
        (void)weir_read_decimal(load, node, "quantity", WEIR_POSITIVE, &commitment->quantity);
    }
    if (variant & GRANT)
        read_prepaid(load, node, contract, commitment);
    if (variant & PACKAGE)
        weir_read_package_of(load, node, commitment);
}

void weir_read_commitments(struct weir_catalog_load *load, const struct weir_node *object,
                           struct weir_contract *contract)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "commitments", 0, WEIR_COMMITMENTS_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    bool has_minimum_spend = false;
    contract->has_prepaid = contract->has_minimum_quantity = contract->has_term_minimum = false;
    contract->commitments = weir_arena_take_array(load->arena, count, sizeof *contract->commitments);
    contract->commitment_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_commitment *commitment = &contract->commitments[i];
        read_commitment(load, &node, contract, commitment);
        contract->has_prepaid |= commitment->type == WEIR_COMMITMENT_PREPAID;
        contract->has_minimum_quantity |= commitment->type == WEIR_COMMITMENT_MINIMUM_QUANTITY;
        contract->has_term_minimum |= commitment->is_per_term && commitment->type != WEIR_COMMITMENT_PREPAID;
        if (commitment->type == WEIR_COMMITMENT_MINIMUM_SPEND) {
            if (has_minimum_spend)
                weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                                 "is a second minimum_spend; a contract has at most one");
            has_minimum_spend = true;
        }
        for (size_t other = 0; other < i && commitment->key.length; other++) {
            if (!weir_slice_equal(contract->commitments[other].key, commitment->key))
                continue;
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                             "\"%s\" is already the key of commitments[%zu]; each needs its own", commitment->key.data,
                             other);
            break;
        }
    }
}

/* 3. contracts */

void weir_read_book(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract)
{
    struct weir_slice key;
    if (!weir_read_key(load, object, "price_book", &key))
        return;
    contract->book = weir_catalog_book(load->catalog, key);
    if (contract->book)
        return;
    enum { WORDS_MAX = 256 };
    const char *words[WORDS_MAX];
    size_t count = 0;
    for (; count < load->catalog->book_count && count < WORDS_MAX; count++)
        words[count] = load->catalog->books[count].key.data;
    struct weir_node node = weir_node_member(object, "price_book");
    weir_mistake_add(load, &node, WEIR_MISTAKE_UNKNOWN_REFERENCE, "there is no price book \"%s\"%s", key.data,
                     weir_nearest(load, key, words, count));
}

static bool read_term(struct weir_catalog_load *load, const struct weir_node *object, struct weir_contract *contract)
{
    bool has_start = weir_read_time(load, object, "starts_at", WEIR_WHOLE_SECONDS, &contract->starts_at);
    struct weir_node ends_at = weir_node_member(object, "ends_at");
    contract->ends_at = WEIR_TIME_NEVER;
    if (!ends_at.json || json_is_null(ends_at.json))
        return has_start;
    if (!weir_read_time(load, object, "ends_at", WEIR_WHOLE_SECONDS, &contract->ends_at) || !has_start)
        return false;
    if (contract->ends_at > contract->starts_at)
        return true;
    weir_mistake_add(load, &ends_at, WEIR_MISTAKE_OUT_OF_ORDER,
                     "found %s, which is not after starts_at; must be later, or null for an open end",
                     weir_found(load, ends_at.json));
    return false;
}

/* "04-06": two digits each. */
static bool parse_month_and_day(struct weir_slice text, struct weir_billing_anchor *anchor)
{
    const char *at = text.data;
    for (int i = 0; i < 5; i++)
        if (text.length != 5 || (i == 2 ? at[i] != '-' : at[i] < '0' || at[i] > '9'))
            return false;
    int month = (at[0] - '0') * 10 + at[1] - '0', day = (at[3] - '0') * 10 + at[4] - '0';
    anchor->month = (unsigned char)(month - 1);
    anchor->day = (unsigned char)(day - 1);
    return month >= 1 && month <= 12 && day >= 1 && day <= 31;
}

/* The day on which periods begin; each length of period writes it its own way. False: it is wrong, and was reported. */
static bool read_anchor(struct weir_catalog_load *load, const struct weir_node *object, bool has_period,
                        struct weir_contract *contract)
{
    struct weir_node node = weir_node_member(object, "billing_anchor");
    struct weir_billing_anchor anchor = {0};
    struct weir_slice text;
    unsigned choice;
    int64_t day;
    if (!node.json || !has_period)
        return true;
    if (contract->billing_period == WEIR_PERIOD_DAY) {
        weir_mistake_add(load, &node, WEIR_MISTAKE_UNKNOWN_KEY,
                         "is not allowed with billing_period \"day\", which begins every day");
        return false;
    }
    if (contract->billing_period == WEIR_PERIOD_WEEK) {
        if (!weir_read_choice(load, object, "billing_anchor", weir_weekday_name, 7, &choice))
            return false;
        anchor.weekday = (unsigned char)choice;
    } else if (contract->billing_period == WEIR_PERIOD_MONTH) {
        if (!weir_read_integer(load, object, "billing_anchor", 1, 31, &day))
            return false;
        anchor.day = (unsigned char)(day - 1);
    } else {
        if (!weir_read_text(load, object, "billing_anchor", 1, WEIR_KEY_MAX, &text))
            return false;
        if (!parse_month_and_day(text, &anchor)) {
            weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE,
                             "found %s; must be a month and a day, such as \"04-06\" for April 6th",
                             weir_found(load, node.json));
            return false;
        }
        if (contract->billing_period == WEIR_PERIOD_QUARTER)
            anchor.month %= 3; /* any month of the four says the same */
    }
    contract->billing_anchor = anchor;
    return true;
}

/* What a contract and the default contract have in common. */
static void read_terms(struct weir_catalog_load *load, const struct weir_node *object,
                       struct weir_contract_draft *draft)
{
    unsigned choice;
    weir_read_book(load, object, &draft->contract);
    bool has_period =
        weir_read_choice(load, object, "billing_period", weir_billing_period_name, WEIR_BILLING_PERIOD_COUNT, &choice);
    if (has_period)
        draft->contract.billing_period = choice;
    has_period = read_anchor(load, object, has_period, &draft->contract) && has_period;
    draft->has_period = read_zone(load, object, &draft->contract) && has_period;
    weir_read_renewal(load, object, &draft->contract);
    weir_read_prices(load, object, &draft->contract.prices, &draft->contract.price_count);
    weir_read_overrides(load, object, &draft->contract);
    weir_read_commitments(load, object, &draft->contract);
    weir_read_low_balance(load, object, false, &draft->contract.low_balance);
    draft->contract.has_own_discounts = weir_node_member(object, "discounts").json;
    weir_read_discounts(load, object, &draft->contract.discounts, &draft->contract.discount_count);
    weir_read_draw_order(load, object, &draft->contract.drawdown_order);
    weir_read_packages(load, object, &draft->contract.packages, &draft->contract.package_count);
}

/* Into drafts[0], its phases into those after it. */
static void read_contract(struct weir_catalog_load *load, const struct weir_node *node,
                          struct weir_contract_draft drafts[])
{
    struct weir_contract_draft *draft = &drafts[0];
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},
        {"customer", WEIR_IN_ALL, WEIR_IN_ALL},
        {"price_book", WEIR_IN_ALL, WEIR_IN_ALL},
        {"starts_at", WEIR_IN_ALL, WEIR_IN_ALL},
        {"ends_at", WEIR_IN_ALL, 0},
        {"renews", WEIR_IN_ALL, 0},
        {"billing_period", WEIR_IN_ALL, WEIR_IN_ALL},
        {"billing_anchor", WEIR_IN_ALL, 0},
        {"timezone", WEIR_IN_ALL, WEIR_IN_ALL},
        {"prices", WEIR_IN_ALL, 0},
        {"overrides", WEIR_IN_ALL, 0},
        {"commitments", WEIR_IN_ALL, 0},
        {"phases", WEIR_IN_ALL, 0},
        {"discounts", WEIR_IN_ALL, 0},
        {"drawdown_order", WEIR_IN_ALL, 0},
        {"packages", WEIR_IN_ALL, 0},
        {"quantities", WEIR_IN_ALL, 0},
        {"low_balance", WEIR_IN_ALL, 0},
    };
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
        return;
    (void)weir_read_key(load, node, "key", &draft->contract.key);
    (void)weir_read_text(load, node, "customer", 1, WEIR_IDENTIFIER_MAX, &draft->contract.customer);
    draft->has_term = read_term(load, node, &draft->contract);
    draft->contract.whole_starts_at = draft->contract.starts_at;
    draft->contract.whole_ends_at = draft->contract.ends_at;
    read_terms(load, node, draft);
    weir_read_phases(load, node, drafts);
    weir_read_quantities(load, node, drafts, 1 + weir_phase_count(node));
    bool has_term_minimum = false;
    for (size_t i = 0; i <= weir_phase_count(node); i++)
        has_term_minimum |= drafts[i].contract.has_term_minimum;
    for (size_t i = 0; i <= weir_phase_count(node); i++)
        drafts[i].contract.has_term_minimum = has_term_minimum;
}

static void read_default_contract(struct weir_catalog_load *load, uint32_t file)
{
    static const struct weir_field fields[] = {
        {"price_book", WEIR_IN_ALL, WEIR_IN_ALL},
        {"billing_period", WEIR_IN_ALL, WEIR_IN_ALL},
        {"billing_anchor", WEIR_IN_ALL, 0},
        {"timezone", WEIR_IN_ALL, WEIR_IN_ALL},
        {"prices", WEIR_IN_ALL, 0},
        {"overrides", WEIR_IN_ALL, 0},
        {"commitments", WEIR_IN_ALL, 0},
        {"discounts", WEIR_IN_ALL, 0},
        {"low_balance", WEIR_IN_ALL, 0},
        {"drawdown_order", WEIR_IN_ALL, 0},
        {"packages", WEIR_IN_ALL, 0},
    };
    struct weir_node root = {NULL, NULL, file, load->roots[file]};
    struct weir_node node = weir_node_member(&root, "default_contract");
    if (!node.json)
        return;
    if (load->default_contract)
        weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                         "is a second default contract; the first is %s, and there can be one only",
                         weir_origin_text(load, load->default_contract->origin, "default_contract"));
    struct weir_contract_draft *draft = weir_arena_take(load->scratch, sizeof *draft);
    draft->origin = (struct weir_origin){file, UINT32_MAX, 0};
    draft->contract.ends_at = draft->contract.whole_ends_at = WEIR_TIME_NEVER;
    draft->contract.phase_count = 1;
    draft->says = WEIR_SAYS_ALL;
    draft->has_term = true;
    if (!load->default_contract)
        load->default_contract = draft;
    if (weir_read_object(load, &node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
        read_terms(load, &node, draft);
}

/* By what all phases of a contract have in common, so that they stay together and in their order whatever is wrong with
 * their starts: the checks that follow step from one to those before it. */
static int draft_compare(const void *left, const void *right)
{
    const struct weir_contract_draft *a = left, *b = right;
    int order = weir_slice_compare(a->contract.customer, b->contract.customer);
    if (order)
        return order;
    if (a->contract.whole_starts_at != b->contract.whole_starts_at)
        return a->contract.whole_starts_at < b->contract.whole_starts_at ? -1 : 1;
    return weir_origin_compare(a->origin, b->origin);
}

/* Drafts that reading will fill: contracts and their phases. */
static size_t draft_total(struct weir_catalog_load *load)
{
    size_t total = weir_catalog_list_total(load, "contracts");
    for (uint32_t file = 0; file < load->file_count; file++) {
        struct weir_node root = {NULL, NULL, file, load->roots[file]};
        struct weir_node list = weir_node_member(&root, "contracts");
        for (size_t i = 0; i < json_array_size(list.json); i++) {
            struct weir_node node = weir_node_element(&list, i);
            total += weir_phase_count(&node);
        }
    }
    return total;
}

void weir_catalog_read_contracts(struct weir_catalog_load *load)
{
    struct weir_catalog *catalog = load->catalog;
    size_t total = draft_total(load), next = 0;
    load->contracts = weir_arena_take_array(load->scratch, total, sizeof *load->contracts);
    for (uint32_t file = 0; file < load->file_count; file++) {
        struct weir_node root, list;
        if (load->roots[file])
            read_default_contract(load, file);
        if (!weir_catalog_list(load, file, "contracts", &root, &list))
            continue;
        for (size_t i = 0; i < json_array_size(list.json); i++) {
            struct weir_node node = weir_node_element(&list, i);
            struct weir_contract_draft *drafts = &load->contracts[next];
            size_t before = next;
            next += 1 + weir_phase_count(&node);
            drafts->origin = (struct weir_origin){file, (uint32_t)i, 0};
            read_contract(load, &node, drafts);
            if (before <= WEIR_CONTRACTS_MAX && next > WEIR_CONTRACTS_MAX)
                weir_mistake_add(load, &node, WEIR_MISTAKE_TOO_MANY,
                                 "with it there are %zu contracts and phases; a catalog has at most %d", next,
                                 WEIR_CONTRACTS_MAX);
        }
    }
    load->contract_count = next;
    if (next > 1)
        qsort(load->contracts, next, sizeof *load->contracts, draft_compare);
    catalog->contracts = weir_arena_take_array(load->arena, next, sizeof *catalog->contracts);
    catalog->contract_count = (uint32_t)next;
    for (size_t i = 0; i < next; i++)
        catalog->contracts[i] = load->contracts[i].contract;
    if (load->default_contract) {
        catalog->default_contract = weir_arena_take(load->arena, sizeof *catalog->default_contract);
        *catalog->default_contract = load->default_contract->contract;
    }
}
