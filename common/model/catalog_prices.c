/* $.price_books: entries are versions; the versions of one key make a price book. */
#include <inttypes.h>
#include <stdlib.h>

#include "common/model/catalog_internal.h"
#include "common/model/currency.h"

/* 1. fees */

#define WEIR_X(upper, lower) [WEIR_FEE_PER_##upper] = #lower,
const char *const weir_fee_per_name[WEIR_FEE_PER_COUNT] = {WEIR_FEE_PERS(WEIR_X)};
#undef WEIR_X
#define WEIR_X(upper, lower) [WEIR_PRORATION_##upper] = #lower,
const char *const weir_proration_name[WEIR_PRORATION_COUNT] = {WEIR_PRORATIONS(WEIR_X)};
#undef WEIR_X

static void read_fee(struct weir_catalog_load *load, const struct weir_node *node, struct weir_fee *ret_fee)
{
    enum { EACH_PERIOD = 1, PER_UNIT = 2, RARELY = 4 };
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},     {"amount", EACH_PERIOD | RARELY, EACH_PERIOD | RARELY},
        {"unit_price", PER_UNIT, PER_UNIT},    {"per", WEIR_IN_ALL, WEIR_IN_ALL},
        {"charged", WEIR_IN_ALL, WEIR_IN_ALL}, {"proration", EACH_PERIOD | PER_UNIT, 0},
    };
    static const char *const charged[] = {
        [WEIR_FEE_IN_ADVANCE] = "in_advance",
        [WEIR_FEE_IN_ARREARS] = "in_arrears",
    };
    unsigned variant = WEIR_IN_ALL, choice;
    const char *variant_text = "";
    if (json_is_object(node->json)
        && weir_read_choice(load, node, "per", weir_fee_per_name, WEIR_FEE_PER_COUNT, &choice)) {
        ret_fee->per = choice;
        ret_fee->is_per_unit = choice == WEIR_FEE_PER_PERIOD && json_object_get(node->json, "unit_price");
        variant = choice != WEIR_FEE_PER_PERIOD ? RARELY : ret_fee->is_per_unit ? PER_UNIT : EACH_PERIOD;
        variant_text = ret_fee->is_per_unit
                           ? "beside \"unit_price\""
                           : weir_arena_print(load->scratch, "with per \"%s\"", weir_fee_per_name[choice]);
    }
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, variant, variant_text))
        return;
    (void)weir_read_key(load, node, "key", &ret_fee->key);
    (void)weir_read_decimal(load, node, ret_fee->is_per_unit ? "unit_price" : "amount", WEIR_NOT_NEGATIVE,
                            &ret_fee->amount);
    if (weir_read_choice(load, node, "charged", charged, 2, &choice))
        ret_fee->charged = choice;
    if ((variant & (EACH_PERIOD | PER_UNIT))
        && weir_read_choice(load, node, "proration", weir_proration_name, WEIR_PRORATION_COUNT, &choice))
        ret_fee->proration = choice;
}

static void read_fees(struct weir_catalog_load *load, const struct weir_node *object,
                      struct weir_price_book_version *version)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "fees", 0, WEIR_FEES_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    version->fees = weir_arena_take_array(load->arena, count, sizeof *version->fees);
    version->fee_count = (uint32_t)count;
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        struct weir_fee *fee = &version->fees[i];
        read_fee(load, &node, fee);
        for (size_t other = 0; other < i && fee->key.length; other++) {
            if (!weir_slice_equal(version->fees[other].key, fee->key))
                continue;
            weir_mistake_add(load, &node, WEIR_MISTAKE_DUPLICATE,
                             "\"%s\" is already the key of fees[%zu]; each fee of a version needs its own",
                             fee->key.data, other);
            break;
        }
    }
}

/* 2. versions */

void weir_read_prices(struct weir_catalog_load *load, const struct weir_node *object, struct weir_price **ret_prices,
                      uint32_t *ret_count)
{
    struct weir_node list;
    if (!weir_read_list(load, object, "prices", 0, WEIR_PRICES_MAX, &list))
        return;
    size_t count = json_array_size(list.json);
    struct weir_price *prices = weir_arena_take_array(load->arena, count, sizeof *prices);
    bool *comparable = weir_arena_take_array(load->scratch, count, sizeof *comparable);
    for (size_t i = 0; i < count; i++) {
        struct weir_node node = weir_node_element(&list, i);
        comparable[i] = weir_read_price(load, &node, &prices[i]);
    }
    weir_prices_settle(load, &list, prices, comparable, (uint32_t)count);
    *ret_prices = prices;
    *ret_count = (uint32_t)count;
}

static void read_currency(struct weir_catalog_load *load, const struct weir_node *object,
                          struct weir_version_draft *draft)
{
    struct weir_slice code;
    if (!weir_read_text(load, object, "currency", 3, 3, &code))
        return;
    int places = weir_currency_places(code);
    struct weir_node node = weir_node_member(object, "currency");
    bool capitals = true;
    for (uint32_t i = 0; i < code.length; i++)
        capitals = capitals && code.data[i] >= 'A' && code.data[i] <= 'Z';
    if (!capitals) {
        weir_mistake_add(load, &node, WEIR_MISTAKE_BAD_VALUE,
                         "found %s; must be an ISO 4217 code of three capital letters, such as \"USD\"",
                         weir_found(load, node.json));
    } else if (places < 0) {
        weir_mistake_add(load, &node, WEIR_MISTAKE_UNKNOWN_REFERENCE,
                         "there is no currency %s; must be an active ISO 4217 code, such as \"USD\"",
                         weir_found(load, node.json));
    } else {
        draft->currency = code;
        draft->currency_places = places;
    }
}

static void read_version(struct weir_catalog_load *load, const struct weir_node *node, struct weir_version_draft *draft)
{
    static const struct weir_field fields[] = {
        {"key", WEIR_IN_ALL, WEIR_IN_ALL},
        {"version", WEIR_IN_ALL, WEIR_IN_ALL},
        {"currency", WEIR_IN_ALL, WEIR_IN_ALL},
        {"rounding", WEIR_IN_ALL, 0},
        {"effective_from", WEIR_IN_ALL, WEIR_IN_ALL},
        {"prices", WEIR_IN_ALL, 0},
        {"fees", WEIR_IN_ALL, 0},
        {"discounts", WEIR_IN_ALL, 0},
        {"drawdown_order", WEIR_IN_ALL, 0},
        {"packages", WEIR_IN_ALL, 0},
    };
    static const char *const roundings[] = {[WEIR_HALF_EVEN] = "half_even", [WEIR_HALF_UP] = "half_up"};
    unsigned choice;
    int64_t number;
    if (!weir_read_object(load, node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, ""))
        return;
    (void)weir_read_key(load, node, "key", &draft->key);
    if (weir_read_integer(load, node, "version", 1, INT32_MAX, &number))
        draft->version.version = (uint32_t)number;
    read_currency(load, node, draft);
    draft->rounding = WEIR_HALF_EVEN;
    if (weir_read_choice(load, node, "rounding", roundings, 2, &choice))
        draft->rounding = choice;
    draft->has_effective_from =
        weir_read_time(load, node, "effective_from", WEIR_ANY_TIME, &draft->version.effective_from);
    weir_read_prices(load, node, &draft->version.prices, &draft->version.price_count);
    read_fees(load, node, &draft->version);
    weir_read_discounts(load, node, &draft->version.discounts, &draft->version.discount_count);
    weir_read_draw_order(load, node, &draft->version.drawdown_order);
    weir_read_packages(load, node, &draft->version.packages, &draft->version.package_count);
}

static int draft_compare(const void *left, const void *right)
{
    const struct weir_version_draft *a = left, *b = right;
    int order = weir_slice_compare(a->key, b->key);
    if (order)
        return order;
    if (a->version.version != b->version.version)
        return a->version.version < b->version.version ? -1 : 1;
    return weir_origin_compare(a->origin, b->origin);
}

/* 3. versions of one book among themselves */

static void compare_versions(struct weir_catalog_load *load, const struct weir_version_draft *before,
                             const struct weir_version_draft *draft)
{
    const char *other = weir_origin_text(load, before->origin, "price_books");
    if (draft->version.version == before->version.version) {
        weir_mistake_add_at(load, draft->origin, "price_books", "version", WEIR_MISTAKE_DUPLICATE,
                            "version %" PRIu32 " of \"%s\" is already %s; each version needs a number of its own",
                            draft->version.version, draft->key.data, other);
        return;
    }
    if (draft->has_effective_from && before->has_effective_from
        && draft->version.effective_from <= before->version.effective_from)
        weir_mistake_add_at(load, draft->origin, "price_books", "effective_from", WEIR_MISTAKE_OUT_OF_ORDER,
                            "version %" PRIu32 " of \"%s\" must take effect after version %" PRIu32 " (%s, %s)",
                            draft->version.version, draft->key.data, before->version.version,
                            weir_time_quoted(load, before->version.effective_from), other);
    if (draft->currency.length && before->currency.length && !weir_slice_equal(draft->currency, before->currency))
        weir_mistake_add_at(
            load, draft->origin, "price_books", "currency", WEIR_MISTAKE_OUT_OF_ORDER,
            "found %s, but version %" PRIu32 " of \"%s\" has %s (%s); all versions of a price book have "
            "the same currency",
            draft->currency.data, before->version.version, draft->key.data, before->currency.data, other);
    if (!draft->broken && !before->broken && draft->rounding != before->rounding)
        weir_mistake_add_at(load, draft->origin, "price_books", "rounding", WEIR_MISTAKE_OUT_OF_ORDER,
                            "is not that of version %" PRIu32 " of \"%s\" (%s); all versions of a price book round the "
                            "same way (half_even when nothing is said)",
                            before->version.version, draft->key.data, other);
}

static void fill_book(struct weir_catalog_load *load, struct weir_version_draft drafts[], size_t count,
                      struct weir_price_book *book, struct weir_book_facts *facts)
{
    const struct weir_version_draft *before = NULL;
    *book = (struct weir_price_book){
        .key = drafts[0].key,
        .currency = drafts[0].currency,
        .currency_places = drafts[0].currency_places,
        .rounding = drafts[0].rounding,
        .version_count = (uint32_t)count,
        .versions = weir_arena_take_array(load->arena, count, sizeof *book->versions),
    };
    for (size_t i = 0; i < count; i++) {
        facts->broken = facts->broken || drafts[i].broken;
        if (drafts[i].version.version) {
            if (before)
                compare_versions(load, before, &drafts[i]);
            before = &drafts[i];
        }
        book->versions[i] = drafts[i].version;
        book->versions[i].book = book;
    }
}

static void make_books(struct weir_catalog_load *load)
{
    struct weir_catalog *catalog = load->catalog;
    size_t first = 0;
    while (first < load->version_count && load->versions[first].key.length == 0)
        first++; /* without a key: reported, and nobody can refer to them */
    catalog->books = weir_arena_take_array(load->arena, load->version_count, sizeof *catalog->books);
    load->facts = weir_arena_take_array(load->scratch, load->version_count, sizeof *load->facts);
    for (size_t end; first < load->version_count; first = end) {
        for (end = first + 1; end < load->version_count; end++)
            if (!weir_slice_equal(load->versions[end].key, load->versions[first].key))
                break;
        fill_book(load, &load->versions[first], end - first, &catalog->books[catalog->book_count],
                  &load->facts[catalog->book_count]);
        catalog->book_count++;
    }
}

void weir_catalog_read_price_books(struct weir_catalog_load *load)
{
    size_t total = weir_catalog_list_total(load, "price_books"), next = 0;
    load->versions = weir_arena_take_array(load->scratch, total, sizeof *load->versions);
    for (uint32_t file = 0; file < load->file_count; file++) {
        struct weir_node root, list;
        if (!weir_catalog_list(load, file, "price_books", &root, &list))
            continue;
        for (size_t i = 0; i < json_array_size(list.json); i++) {
            struct weir_node node = weir_node_element(&list, i);
            struct weir_version_draft *draft = &load->versions[next++];
            size_t before = load->mistakes.found;
            draft->origin = (struct weir_origin){file, (uint32_t)i, 0};
            read_version(load, &node, draft);
            draft->broken = load->mistakes.found != before;
        }
    }
    load->version_count = next;
    if (next > 1)
        qsort(load->versions, next, sizeof *load->versions, draft_compare);
    make_books(load);
}

/* 4. books of contracts with prices of their own */

static const struct weir_price_book *own_book(struct weir_catalog_load *load, const struct weir_contract *contract)
{
    struct weir_price_book *book = weir_arena_take(load->arena, sizeof *book);
    *book = *contract->book;
    book->versions = weir_arena_take_array(load->arena, book->version_count, sizeof *book->versions);
    for (uint32_t i = 0; i < book->version_count; i++) {
        book->versions[i] = contract->book->versions[i];
        book->versions[i].book = book;
        book->versions[i].prices = contract->prices;
        book->versions[i].price_count = contract->price_count;
        book->versions[i].base = &contract->book->versions[i];
    }
    return book;
}

void weir_catalog_make_own_books(struct weir_catalog_load *load)
{
    struct weir_catalog *catalog = load->catalog;
    if (load->mistakes.found)
        return;
    for (uint32_t i = 0; i < catalog->contract_count; i++) {
        if (catalog->contracts[i].price_count)
            catalog->contracts[i].book = own_book(load, &catalog->contracts[i]);
        weir_catalog_note_invoice_discounts(&catalog->contracts[i]);
    }
    if (!catalog->default_contract)
        return;
    if (catalog->default_contract->price_count)
        catalog->default_contract->book = own_book(load, catalog->default_contract);
    weir_catalog_note_invoice_discounts(catalog->default_contract);
}
