/* Any bytes as a catalog: either a catalog whose look-ups hold together, or at least one mistake, one line each. */
#include <jansson.h>
#include <stdint.h>

#include "common/model/catalog.h"

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size);

static void check_mistakes(const struct weir_mistake_list *mistakes)
{
    weir_check(mistakes->count > 0);
    for (size_t i = 0; i < mistakes->count; i++) {
        const struct weir_mistake *mistake = &mistakes->mistakes[i];
        weir_check(mistake->path[0] == '$' && *mistake->kind && *mistake->text);
        weir_check(!strpbrk(mistake->text, "\r\n") && !strpbrk(mistake->path, "\r\n"));
        json_t *text = json_string(mistake->text), *path = json_string(mistake->path);
        weir_check(text && path); /* UTF-8, whatever came in */
        json_decref(text);
        json_decref(path);
    }
}

static void check_price(const struct weir_price_book_version *version, const struct weir_price *price)
{
    struct weir_slice texts[WEIR_DIMENSIONS_MAX];
    for (uint32_t i = 0; i < price->meter->group_count; i++)
        texts[i] = weir_slice_text("\x01 a text that no price names");
    for (uint32_t i = 0; i < price->when_count; i++)
        texts[price->when[i].group] = price->when[i].text;
    weir_check(weir_price_for(version, price->meter, texts) == price); /* no price is beyond reach */
    for (uint32_t i = 0; i < price->tier_count; i++) {
        weir_check(price->tiers[i].has_up_to == (i + 1 < price->tier_count));
        if (i > 0 && price->tiers[i].has_up_to)
            weir_check(weir_decimal_compare(price->tiers[i - 1].up_to, price->tiers[i].up_to) < 0);
    }
}

static void check_catalog(const struct weir_catalog *catalog)
{
    for (uint32_t i = 0; i < catalog->meter_count; i++) {
        const struct weir_meter *meter = &catalog->meters[i];
        weir_check(weir_catalog_meter(catalog, meter->key) == meter && meter->index == i);
        weir_check(meter->value_slot < catalog->path_count || meter->aggregation == WEIR_AGGREGATION_COUNT);
    }
    for (uint32_t i = 0; i < catalog->book_count; i++) {
        const struct weir_price_book *book = &catalog->books[i];
        weir_check(weir_catalog_book(catalog, book->key) == book && book->currency_places >= 0);
        for (uint32_t v = 0; v < book->version_count; v++) {
            const struct weir_price_book_version *version = &book->versions[v];
            weir_check(weir_price_book_at(book, version->effective_from) == version);
            for (uint32_t p = 0; p < version->price_count; p++)
                check_price(version, &version->prices[p]);
        }
    }
    for (uint32_t i = 0; i < catalog->contract_count; i++) {
        const struct weir_contract *contract = &catalog->contracts[i];
        int64_t start, end;
        weir_check(weir_catalog_contract_at(catalog, contract->customer, contract->starts_at) == contract);
        weir_contract_period_at(contract, contract->starts_at, &start, &end);
        weir_check(start == contract->starts_at && end > start && end <= contract->ends_at);
        weir_check(weir_contract_phase_at(contract - contract->phase, contract->starts_at) == contract);
        weir_check(contract->phase == 0
                       ? contract->starts_at == contract->whole_starts_at
                       : contract[-1].ends_at == start && weir_slice_equal(contract[-1].key, contract->key));
        weir_check(contract->phase + 1 < contract->phase_count || contract->ends_at == contract->whole_ends_at);
    }
}

int LLVMFuzzerTestOneInput(const uint8_t *data, size_t size)
{
    struct weir_catalog *catalog = NULL;
    struct weir_mistake_list mistakes = {0};
    if (weir_catalog_parse("fuzz.json", (const char *)data, size, &catalog, &mistakes) == WEIR_OK)
        check_catalog(catalog);
    else
        check_mistakes(&mistakes);
    weir_catalog_free(catalog);
    weir_mistake_list_free(&mistakes);
    return 0;
}
