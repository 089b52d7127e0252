/* What contracts and price books say of prepaid amounts in general: the order in which they are drawn down, and the
 * packages that they are bought as. */
#include "common/model/catalog_internal.h"

/* 1. the order of drawdown */

#define WEIR_X(upper, lower) [WEIR_DRAW_BY_##upper] = #lower,
const char *const weir_draw_key_name[WEIR_DRAW_KEY_COUNT] = {WEIR_DRAW_KEYS(WEIR_X)};
#undef WEIR_X

/* False: it is none of the names, or stands before, and was reported. */
static bool read_draw_key(struct weir_catalog_load *load, const struct weir_node *node,
                          const struct weir_draw_order *before, enum weir_draw_key *ret_key)
{
    struct weir_slice name;
    unsigned key = 0;
    if (!weir_read_node_text(load, node, 1, WEIR_KEY_MAX, &name))
        return false;
    while (key < WEIR_DRAW_KEY_COUNT && !weir_slice_equal(name, weir_slice_text(weir_draw_key_name[key])))
        key++;
    if (key == WEIR_DRAW_KEY_COUNT) {
        weir_mistake_add(load, node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; must be one of %s (what they leave open, the keys of the amounts decide)%s",
                         weir_found(load, node->json), weir_words(load, weir_draw_key_name, WEIR_DRAW_KEY_COUNT),
                         weir_nearest(load, name, weir_draw_key_name, WEIR_DRAW_KEY_COUNT));
        return false;
    }
    for (uint32_t i = 0; i < before->count; i++) {
        if (before->keys[i] != key)
            continue;
        weir_mistake_add(load, node, WEIR_MISTAKE_DUPLICATE, "\"%s\" stands in the list already", name.data);
        return false;
    }
    *ret_key = key;
    return true;
}

void weir_read_draw_order(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_draw_order *ret_order)
{
    struct weir_draw_order order = {0};
    struct weir_node list;
    if (!weir_read_list(load, object, "drawdown_order", 1, WEIR_DRAW_KEY_COUNT, &list))
        return;
    for (size_t i = 0; i < json_array_size(list.json); i++) {
        struct weir_node node = weir_node_element(&list, i);
        order.count += read_draw_key(load, &node, &order, &order.keys[order.count]);
    }
    *ret_order = order;
}

const struct weir_draw_order *weir_contract_draw_order(const struct weir_contract *contract, int64_t period_start)
{
#define WEIR_X(upper, lower) WEIR_DRAW_BY_##upper,
    static const struct weir_draw_order customary = {WEIR_DRAW_KEY_COUNT, {WEIR_DRAW_KEYS(WEIR_X)}};
#undef WEIR_X
    const struct weir_price_book_version *version;

    if (contract->drawdown_order.count)
        return &contract->drawdown_order;
    version = weir_price_book_at(contract->book, period_start);
    return version && version->drawdown_order.count ? &version->drawdown_order : &customary;
}

/* 2. packages */

static void read_package(struct weir_catalog_load *load, const struct weir_node *node, struct weir_package *package)
{
    enum { WHOLE = 1, BY_AMOUNT = 2 };
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},
        {"amount", WHOLE, WHOLE},
        {"price", WHOLE, WHOLE},
        {"tiers", BY_AMOUNT, BY_AMOUNT},
    };
    unsigned variant = json_object_get(node->json, "tiers") ? BY_AMOUNT : WHOLE;
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, variant,
                          variant == BY_AMOUNT ? "beside \"tiers\"" : ""))
        return;
    (void)weir_read_key(load, node, "key", &package->key);
    (void)weir_read_decimal(load, node, "amount", WEIR_POSITIVE, &package->amount);
    (void)weir_read_decimal(load, node, "price", WEIR_NOT_NEGATIVE, &package->price);
    weir_read_tiers(load, node, NULL, &package->tiers, &package->tier_count);
}

void weir_read_packages(struct weir_catalog_load *load, const struct weir_node *object,
                        struct weir_package **ret_packages, uint32_t *ret_count)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "packages", 0, WEIR_PACKAGES_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    struct weir_package *packages = weir_arena_take_array(load->arena, count, sizeof *packages);
    *ret_packages = packages;
    *ret_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        read_package(load, &node, &packages[i]);
        for (size_t other = 0; other < i && packages[i].key.length; other++) {
            if (!weir_slice_equal(packages[other].key, packages[i].key))
                continue;
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                             "\"%s\" is already the key of packages[%zu]; each needs its own", packages[i].key.data,
                             other);
            break;
        }
    }
}

static const struct weir_package *find_package(const struct weir_package *packages, uint32_t count,
                                               struct weir_slice key)
{
    for (uint32_t i = 0; i < count; i++)
        if (weir_slice_equal(packages[i].key, key))
            return &packages[i];
    return NULL;
}

const struct weir_package *weir_contract_package(const struct weir_contract *contract, struct weir_slice key,
                                                 int64_t time)
{
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, time);
    const struct weir_package *own = find_package(contract->packages, contract->package_count, key);
    return own || !version ? own : find_package(version->packages, version->package_count, key);
}

bool weir_package_buy(const struct weir_package *package, const struct weir_price_book *book, int64_t *count,
                      struct weir_decimal *amount, struct weir_decimal *ret_price)
{
    struct weir_decimal price;
    if (package->tier_count) {
        const struct weir_tier *tier = package->tiers, *last = tier + package->tier_count - 1;
        while (tier < last && weir_decimal_compare(*amount, tier->up_to) > 0)
            tier++;
        if (!weir_decimal_multiply(*amount, tier->unit_price, &price))
            return false;
    } else {
        *count = *count ? *count : 1;
        if (!weir_decimal_scale(package->amount, (uint64_t)*count, amount)
            || !weir_decimal_scale(package->price, (uint64_t)*count, &price))
            return false;
    }
    return weir_decimal_round(price, book->currency_places, book->rounding, ret_price);
}

/* 3. commitments that are bought as a package */

bool weir_package_count_parse(struct weir_slice text, int64_t *ret_count)
{
    int64_t count = 0;
    for (uint32_t i = 0; i < text.length; i++) {
        if (text.data[i] < '0' || text.data[i] > '9' || count > WEIR_PACKAGE_COUNT_MAX)
            return false;
        count = count * 10 + (text.data[i] - '0');
    }
    *ret_count = count;
    return text.length && text.data[0] != '0' && count <= WEIR_PACKAGE_COUNT_MAX;
}

void weir_read_package_of(struct weir_catalog_load *load, const struct weir_node *node,
                          struct weir_commitment *commitment)
{
    struct weir_slice text;
    struct weir_node quantity = weir_node_member(node, "quantity");
    commitment->price = (struct weir_decimal){0};
    (void)weir_read_key(load, node, "package", &commitment->package);
    if (!weir_read_text(load, node, "quantity", 0, WEIR_KEY_MAX, &text)
        || weir_package_count_parse(text, &commitment->package_count))
        return;
    commitment->package_count = 0;
    weir_mistake_add(load, &quantity, WEIR_MISTAKE_BAD_VALUE,
                     "found %s; must be a whole number of packages in quotes, \"1\" to \"%d\"",
                     weir_found(load, quantity.json), WEIR_PACKAGE_COUNT_MAX);
}

/* The same purchase in the first terms that list it; NULL: these are the first. */
static const struct weir_commitment *listed_before(const struct weir_contract_draft *draft,
                                                   const struct weir_commitment *commitment)
{
    for (uint32_t back = draft->contract.phase; back > 0; back--) {
        const struct weir_contract *before = &(draft - back)->contract;
        for (uint32_t i = 0; i < before->commitment_count; i++)
            if (weir_slice_equal(before->commitments[i].key, commitment->key)
                && weir_slice_equal(before->commitments[i].package, commitment->package))
                return &before->commitments[i];
    }
    return NULL;
}

static void refuse_package(struct weir_catalog_load *load, const struct weir_contract_draft *draft, const char *place,
                           struct weir_slice key, int64_t time)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_price_book_version *version = weir_price_book_at(contract->book, time);
    const char *words[2 * WEIR_PACKAGES_MAX];
    size_t count = 0;
    for (uint32_t i = 0; i < contract->package_count; i++)
        if (contract->packages[i].key.length)
            words[count++] = contract->packages[i].key.data;
    for (uint32_t i = 0; version && i < version->package_count; i++)
        if (version->packages[i].key.length)
            words[count++] = version->packages[i].key.data;
    weir_mistake_add_at(load, draft->origin, "contracts", place, WEIR_MISTAKE_UNKNOWN_REFERENCE,
                        "there is no package \"%s\", of the contract or of price book \"%s\" at %s, when the amount "
                        "starts%s",
                        key.data, contract->book->key.data, weir_time_quoted(load, time),
                        weir_nearest(load, key, words, count));
}

/* What is bought costs what it cost when it started, whatever terms list it later. */
static void price_package(struct weir_catalog_load *load, const struct weir_contract_draft *draft,
                          struct weir_commitment *commitment, const char *place)
{
    const struct weir_contract *contract = &draft->contract;
    const struct weir_commitment *before = listed_before(draft, commitment);
    int64_t time = commitment->starts_at > contract->starts_at ? commitment->starts_at : contract->starts_at;
    const struct weir_package *package = before ? NULL : weir_contract_package(contract, commitment->package, time);
    bool is_whole = before ? before->package_count > 0 : package && !package->tier_count;
    bool has_amount = !weir_decimal_is_zero(commitment->amount);
    if (!before && !package) {
        refuse_package(load, draft, place, commitment->package, time);
    } else if (is_whole && has_amount) {
        weir_mistake_add_at(
            load, draft->origin, "contracts", place, WEIR_MISTAKE_CONTRADICTION,
            "package \"%s\" is bought whole; must have a \"quantity\" of it, or nothing for one, and no "
            "\"amount\"",
            commitment->package.data);
    } else if (!is_whole && (!has_amount || commitment->package_count)) {
        weir_mistake_add_at(load, draft->origin, "contracts", place, WEIR_MISTAKE_CONTRADICTION,
                            "package \"%s\" is bought by amount; must have an \"amount\" and no \"quantity\"",
                            commitment->package.data);
    } else if (before) {
        commitment->price = before->price;
        commitment->amount = is_whole ? before->amount : commitment->amount;
    } else if (!weir_package_buy(package, contract->book, &commitment->package_count, &commitment->amount,
                                 &commitment->price)) {
        weir_mistake_add_at(load, draft->origin, "contracts", place, WEIR_MISTAKE_NOT_REPRESENTABLE,
                            "what is bought of package \"%s\" does not fit (limit about 1.7e26)",
                            commitment->package.data);
    }
}

void weir_catalog_price_packages(struct weir_catalog_load *load)
{
    for (size_t i = 0; i < load->contract_count; i++) {
        const struct weir_contract_draft *draft = &load->contracts[i];
        const struct weir_contract *contract = &draft->contract;
        if (!contract->book || !(draft->says & WEIR_SAYS_COMMITMENTS)
            || load->facts[contract->book - load->catalog->books].broken)
            continue;
        for (uint32_t c = 0; c < contract->commitment_count; c++)
            if (contract->commitments[c].package.length)
                price_package(load, draft, &contract->commitments[c],
                              weir_arena_print(load->scratch, "commitments[%u].package", c));
    }
}
