/* From files to a catalog, and the look-ups in it. */
#include "common/model/catalog.h"

#include <dirent.h>
#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <sys/stat.h>

#include "common/model/catalog_internal.h"

#define WEIR_X(upper, lower) #lower,
const char *const weir_aggregation_name[] = {WEIR_AGGREGATIONS(WEIR_X)};
const char *const weir_price_model_name[] = {WEIR_PRICE_MODELS(WEIR_X)};
const char *const weir_commitment_type_name[] = {WEIR_COMMITMENT_TYPES(WEIR_X)};
const char *const weir_funding_name[] = {WEIR_FUNDINGS(WEIR_X)};
#undef WEIR_X

/* 1. a load */

static struct weir_catalog_load load_begin(void)
{
    struct weir_catalog_load load = {0};
    struct weir_arena *arena = weir_arena_new();
    load.arena = arena;
    load.scratch = weir_arena_new();
    load.catalog = weir_arena_take(arena, sizeof *load.catalog);
    load.owned = weir_arena_take(arena, sizeof *load.owned);
    load.owned->arena = arena;
    load.catalog->owned = load.owned;
    return load;
}

static void load_add_file(struct weir_catalog_load *load, const char *name)
{
    load->file_names = weir_resize(load->file_names, load->file_count + 1, sizeof *load->file_names);
    load->roots = weir_resize(load->roots, load->file_count + 1, sizeof(json_t *));
    load->file_names[load->file_count] = weir_arena_copy(load->scratch, name, strlen(name)).data;
    load->roots[load->file_count] = NULL;
    load->file_count++;
}

/* The parser quotes bytes of the file, which may be anything; a mistake is one line of UTF-8. */
static const char *clean(struct weir_catalog_load *load, const char *text)
{
    json_t *json = json_string(text);
    bool is_utf8 = json != NULL;
    json_decref(json);
    size_t length = strlen(text);
    char *copy = weir_arena_take(load->scratch, length + 1);
    for (size_t i = 0; i < length; i++) {
        unsigned char c = (unsigned char)text[i];
        copy[i] = c < 0x20 || c == 0x7f ? ' ' : c >= 0x80 && !is_utf8 ? '?' : text[i];
    }
    return copy;
}

/* Parses the text of the file that was added last. */
static void load_parse(struct weir_catalog_load *load, const char *json, size_t length)
{
    static const struct weir_field fields[] = {
        {"$schema", WEIR_IN_ALL, 0},   {"meters", WEIR_IN_ALL, 0},           {"price_books", WEIR_IN_ALL, 0},
        {"contracts", WEIR_IN_ALL, 0}, {"default_contract", WEIR_IN_ALL, 0},
    };
    uint32_t file = load->file_count - 1;
    json_error_t error;
    json_t *root = json_loadb(json, length, JSON_REJECT_DUPLICATES, &error);
    if (!root) {
        const char *place =
            weir_arena_print(load->scratch, "%s:%d:%d", load->file_names[file], error.line, error.column);
        weir_mistake_add_file(load, file, place, WEIR_MISTAKE_SYNTAX,
                              weir_arena_print(load->scratch, "not valid JSON: %s", clean(load, error.text)));
        return;
    }
    struct weir_node node = {NULL, NULL, file, root};
    struct weir_slice schema;
    if (!weir_read_object(load, &node, fields, sizeof fields / sizeof *fields, WEIR_IN_ALL, "")) {
        json_decref(root);
        return;
    }
    (void)weir_read_text(load, &node, "$schema", 0, 1024, &schema); /* tells editors which schema; nothing to us */
    load->roots[file] = root;
}

bool weir_catalog_list(struct weir_catalog_load *load, uint32_t file, const char *list, struct weir_node *ret_root,
                       struct weir_node *ret_list)
{
    if (!load->roots[file])
        return false;
    *ret_root = (struct weir_node){NULL, NULL, file, load->roots[file]};
    return weir_read_list(load, ret_root, list, 0, WEIR_CONTRACTS_MAX, ret_list);
}

size_t weir_catalog_list_total(struct weir_catalog_load *load, const char *list)
{
    size_t total = 0;
    for (uint32_t file = 0; file < load->file_count; file++)
        if (load->roots[file])
            total += json_array_size(json_object_get(load->roots[file], list));
    return total;
}

static enum weir_status load_end(struct weir_catalog_load *load, struct weir_catalog **ret_catalog,
                                 struct weir_mistake_list *reterr_mistakes)
{
    weir_catalog_read_meters(load);
    weir_catalog_read_price_books(load);
    weir_catalog_read_contracts(load);
    weir_catalog_check(load);
    weir_catalog_make_own_books(load);
    weir_catalog_make_calendars(load);
    for (uint32_t file = 0; file < load->file_count; file++)
        json_decref(load->roots[file]);
    enum weir_status status = load->mistakes.found ? WEIR_REJECT : WEIR_OK;
    if (status == WEIR_OK) {
        *ret_catalog = load->catalog;
    } else {
        weir_mistakes_take(&load->mistakes, reterr_mistakes);
        weir_catalog_free(load->catalog);
    }
    weir_arena_free(load->scratch);
    free(load->file_names);
    free(load->roots);
    return status;
}

static enum weir_status parse(const char *name, const char *json, size_t length, bool was_applied,
                              struct weir_catalog **ret_catalog, struct weir_mistake_list *reterr_mistakes)
{
    struct weir_catalog_load load = load_begin();
    load.was_applied = was_applied;
    load_add_file(&load, name);
    load_parse(&load, json, length);
    return load_end(&load, ret_catalog, reterr_mistakes);
}

enum weir_status weir_catalog_parse(const char *name, const char *json, size_t length,
                                    struct weir_catalog **ret_catalog, struct weir_mistake_list *reterr_mistakes)
{
    return parse(name, json, length, false, ret_catalog, reterr_mistakes);
}

enum weir_status weir_catalog_parse_applied(const char *name, const char *json, size_t length,
                                            struct weir_catalog **ret_catalog,
                                            struct weir_mistake_list *reterr_mistakes)
{
    return parse(name, json, length, true, ret_catalog, reterr_mistakes);
}

struct weir_catalog *weir_catalog_free(struct weir_catalog *catalog)
{
    if (!catalog)
        return NULL;
    struct weir_catalog_owned *owned = catalog->owned;
    for (uint32_t i = 0; i < owned->zone_count; i++)
        weir_zone_close(owned->zones[i].zone);
    free(owned->zones);
    weir_arena_free(owned->arena); /* the catalog itself goes with it */
    return NULL;
}

/* 2. files and folders */

static void report_unreadable(struct weir_catalog_load *load, const char *text)
{
    uint32_t file = load->file_count - 1;
    weir_mistake_add_file(load, file, load->file_names[file], WEIR_MISTAKE_UNREADABLE, text);
}

/* The whole file; NULL with errno. Also from a pipe, whose size nobody knows before. */
static char *read_all(FILE *stream, size_t *ret_length)
{
    enum { BYTES_MAX = 1 << 30 };
    size_t length = 0, room = 0;
    char *text = NULL;
    for (;;) {
        if (length == room) {
            room = room ? 2 * room : 64 * 1024;
            text = weir_resize(text, room, 1);
        }
        size_t got = fread(text + length, 1, room - length, stream);
        length += got;
        if (got == 0 || length > BYTES_MAX)
            break;
    }
    if (ferror(stream) || length > BYTES_MAX) {
        errno = length > BYTES_MAX ? EFBIG : EIO;
        free(text);
        return NULL;
    }
    *ret_length = length;
    return text;
}

/* In a folder nothing is opened that is no file: a pipe would be waited for. Who names one asks for it. */
static void load_file(struct weir_catalog_load *load, const char *path, bool is_of_folder)
{
    load_add_file(load, path);
    struct stat status;
    FILE *stream = NULL;
    char *text = NULL;
    size_t length = 0;
    bool is_found = stat(path, &status) == 0;
    if (is_found && is_of_folder && !S_ISREG(status.st_mode) && !S_ISDIR(status.st_mode)) {
        report_unreadable(load, "this is neither a file nor a folder; take it out of the catalog's folder");
        return;
    }
    if (is_found && S_ISDIR(status.st_mode))
        errno = EISDIR;
    else if ((stream = fopen(path, "re")))
        text = read_all(stream, &length);
    if (text)
        load_parse(load, text, length);
    else
        report_unreadable(load, weir_arena_print(load->scratch, "cannot be read: %s", strerror(errno)));
    free(text);
    if (stream)
        (void)fclose(stream);
}

static int is_json_name(const struct dirent *entry)
{
    size_t length = strlen(entry->d_name);
    /* a name with a point in front is an editor's swap or lock file */
    return entry->d_name[0] != '.' && length > 5 && strcmp(entry->d_name + length - 5, ".json") == 0;
}

static int by_bytes(const struct dirent **a, const struct dirent **b)
{
    return strcmp((*a)->d_name, (*b)->d_name);
}

static void load_folder(struct weir_catalog_load *load, const char *path)
{
    struct dirent **entries = NULL;
    int count = scandir(path, &entries, is_json_name, by_bytes);
    if (count <= 0) {
        int error = errno;
        load_add_file(load, path);
        report_unreadable(load, count == 0 ? "this folder holds no *.json file"
                                           : weir_arena_print(load->scratch, "cannot be read: %s", strerror(error)));
    }
    bool slash = path[0] && path[strlen(path) - 1] == '/';
    for (int i = 0; i < count; i++) {
        load_file(load, weir_arena_print(load->scratch, "%s%s%s", path, slash ? "" : "/", entries[i]->d_name), true);
        free(entries[i]);
    }
    free(entries);
}

enum weir_status weir_catalog_load(const char *path, struct weir_catalog **ret_catalog,
                                   struct weir_mistake_list *reterr_mistakes)
{
    struct weir_catalog_load load = load_begin();
    struct stat status;
    if (stat(path, &status) == 0 && S_ISDIR(status.st_mode))
        load_folder(&load, path);
    else
        load_file(&load, path, false);
    return load_end(&load, ret_catalog, reterr_mistakes);
}

/* 3. look-ups */

const struct weir_meter *weir_catalog_meter(const struct weir_catalog *catalog, struct weir_slice key)
{
    uint32_t low = 0, high = catalog->meter_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = weir_slice_compare(catalog->meters[middle].key, key);
        if (order == 0)
            return &catalog->meters[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

const struct weir_price_book *weir_catalog_book(const struct weir_catalog *catalog, struct weir_slice key)
{
    uint32_t low = 0, high = catalog->book_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        int order = weir_slice_compare(catalog->books[middle].key, key);
        if (order == 0)
            return &catalog->books[middle];
        if (order < 0)
            low = middle + 1;
        else
            high = middle;
    }
    return NULL;
}

/* The first contract that is beyond (customer, time). */
static uint32_t contract_after(const struct weir_catalog *catalog, struct weir_slice customer, int64_t time)
{
    uint32_t low = 0, high = catalog->contract_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        const struct weir_contract *contract = &catalog->contracts[middle];
        int order = weir_slice_compare(contract->customer, customer);
        if (order < 0 || (order == 0 && contract->starts_at <= time))
            low = middle + 1;
        else
            high = middle;
    }
    return low;
}

const struct weir_contract *weir_catalog_contract_at(const struct weir_catalog *catalog, struct weir_slice customer,
                                                     int64_t time)
{
    uint32_t after = contract_after(catalog, customer, time);
    const struct weir_contract *last = after ? &catalog->contracts[after - 1] : NULL;
    if (last && weir_slice_equal(last->customer, customer) && time < last->ends_at)
        return last;
    return catalog->default_contract;
}

const struct weir_contract *weir_catalog_contracts_of(const struct weir_catalog *catalog, struct weir_slice customer,
                                                      uint32_t *ret_count)
{
    uint32_t after = contract_after(catalog, customer, WEIR_TIME_NEVER), first = after;

    while (first > 0 && weir_slice_equal(catalog->contracts[first - 1].customer, customer))
        first--;
    *ret_count = after - first;
    return catalog->contracts + first;
}

const char *weir_contract_item(const struct weir_contract *terms, struct weir_slice key)
{
    for (uint32_t i = 0; i < terms->commitment_count; i++)
        if (weir_slice_equal(terms->commitments[i].key, key))
            return "commitment";
    for (uint32_t i = 0; i < terms->book->version_count; i++)
        for (uint32_t j = 0; j < terms->book->versions[i].fee_count; j++)
            if (weir_slice_equal(terms->book->versions[i].fees[j].key, key))
                return "fee";
    return NULL;
}

const struct weir_contract *weir_contract_phase_at(const struct weir_contract *contract, int64_t time)
{
    const struct weir_contract *first = contract - contract->phase;
    uint32_t low = 1, high = first->phase_count; /* the first phase that begins after time */
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (first[middle].starts_at <= time)
            low = middle + 1;
        else
            high = middle;
    }
    return &first[low - 1];
}

uint32_t weir_catalog_contract_count(const struct weir_catalog *catalog)
{
    uint32_t count = 0;
    for (uint32_t i = 0; i < catalog->contract_count; i++)
        count += catalog->contracts[i].phase == 0;
    return count;
}

const struct weir_price_book_version *weir_price_book_at(const struct weir_price_book *book, int64_t time)
{
    uint32_t low = 0, high = book->version_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (book->versions[middle].effective_from <= time)
            low = middle + 1;
        else
            high = middle;
    }
    return low ? &book->versions[low - 1] : NULL;
}

static bool price_holds(const struct weir_price *price, const struct weir_slice texts[])
{
    for (uint32_t i = 0; i < price->when_count; i++)
        if (!weir_slice_equal(price->when[i].text, texts[price->when[i].group]))
            return false;
    return true;
}

const struct weir_price *weir_price_for(const struct weir_price_book_version *version, const struct weir_meter *meter,
                                        const struct weir_slice texts[])
{
    uint32_t low = 0, high = version->price_count;
    while (low < high) {
        uint32_t middle = low + (high - low) / 2;
        if (version->prices[middle].meter->index < meter->index)
            low = middle + 1;
        else
            high = middle;
    }
    /* the most specific come first, so the first that holds wins */
    for (; low < version->price_count && version->prices[low].meter == meter; low++)
        if (price_holds(&version->prices[low], texts))
            return &version->prices[low];
    return version->base ? weir_price_for(version->base, meter, texts) : NULL;
}

/* Whether each split of the base's price finds one of the version's own first. */
static bool is_replaced(const struct weir_price_book_version *version, const struct weir_price *price)
{
    for (uint32_t i = 0; i < version->price_count; i++) {
        const struct weir_price *own = &version->prices[i];
        uint32_t held = 0;
        for (uint32_t j = 0; own->meter == price->meter && j < own->when_count; j++)
            for (uint32_t k = 0; k < price->when_count; k++)
                held += own->when[j].group == price->when[k].group
                        && weir_slice_equal(own->when[j].text, price->when[k].text);
        if (own->meter == price->meter && held == own->when_count)
            return true;
    }
    return false;
}

const struct weir_price *weir_next_price(const struct weir_price_book_version *version, uint32_t *at)
{
    const struct weir_price_book_version *base = version->base;
    for (; base && *at >= version->price_count && *at - version->price_count < base->price_count; ++*at) {
        const struct weir_price *price = &base->prices[*at - version->price_count];
        if (!is_replaced(version, price)) {
            ++*at;
            return price;
        }
    }
    return *at < version->price_count ? &version->prices[(*at)++] : NULL;
}

void weir_calendar_keep(struct weir_catalog *catalog, struct weir_calendar *calendar, const int64_t *boundaries,
                        size_t count)
{
    const struct weir_catalog_owned *owned = catalog->owned;

    weir_check(count != 1);
    for (size_t i = 1; i < count; i++)
        weir_check(boundaries[i - 1] < boundaries[i]);
    calendar->kept = weir_arena_take_array(owned->arena, count, sizeof *calendar->kept);
    calendar->kept_count = count;
    memcpy(calendar->kept, boundaries, count * sizeof *boundaries);
}

static void kept_period_of(const struct weir_calendar *calendar, int64_t time, int64_t *ret_start, int64_t *ret_end)
{
    size_t low = 1, high = calendar->kept_count - 1; /* the first boundary after time */
    while (low < high) {
        size_t middle = low + (high - low) / 2;
        if (calendar->kept[middle] <= time)
            low = middle + 1;
        else
            high = middle;
    }
    *ret_start = calendar->kept[low - 1];
    *ret_end = calendar->kept[low];
}

/* Beyond what was written down, periods go on from its ends. Where the rules have changed since, the first one is
 * longer or shorter than it would be: what is left of less than half a period belongs to the one after it. */
static void following_period_of(const struct weir_calendar *calendar, int64_t time, int64_t *ret_start,
                                int64_t *ret_end)
{
    int64_t first = calendar->kept[0], last = calendar->kept[calendar->kept_count - 1], start, end, other;
    bool is_after = time >= last;
    weir_period_of(calendar->billing_period, calendar->anchor, calendar->zone, is_after ? last : first - 1, &start,
                   &end);
    if (is_after && start < last && end - last < (end - start) / 2)
        weir_period_of(calendar->billing_period, calendar->anchor, calendar->zone, end, &other, &end);
    if (!is_after && end > first && first - start < (end - start) / 2 && start > 0)
        weir_period_of(calendar->billing_period, calendar->anchor, calendar->zone, start - 1, &start, &other);
    if (is_after ? time < end : time >= start) {
        *ret_start = is_after ? last : start;
        *ret_end = is_after ? end : first;
    } else {
        weir_period_of(calendar->billing_period, calendar->anchor, calendar->zone, time, ret_start, ret_end);
    }
}

void weir_calendar_period_at(const struct weir_calendar *calendar, int64_t time, int64_t *ret_start, int64_t *ret_end)
{
    if (calendar->kept_count == 0)
        weir_period_of(calendar->billing_period, calendar->anchor, calendar->zone, time, ret_start, ret_end);
    else if (time >= calendar->kept[0] && time < calendar->kept[calendar->kept_count - 1])
        kept_period_of(calendar, time, ret_start, ret_end);
    else
        following_period_of(calendar, time, ret_start, ret_end);
}

void weir_contract_period_at(const struct weir_contract *contract, int64_t time, int64_t *ret_start, int64_t *ret_end)
{
    int64_t start, end;
    weir_calendar_period_at(contract->calendar, time, &start, &end);
    if (contract->key.length) { /* the default contract has no term to cut to */
        start = start < contract->starts_at ? contract->starts_at : start;
        end = end > contract->ends_at ? contract->ends_at : end;
    }
    *ret_start = start;
    *ret_end = end;
}
