/* What weir apply says of the values that a new catalog changes. */
#include <criterion/criterion.h>
#include <stdio.h>
#include <string.h>

#include "common/model/catalog_values.h"

static char said[8192];

static void hear(void *context, const char *line)
{
    (void)context;
    strncat(said, line, sizeof said - strlen(said) - 1);
    strncat(said, "\n", sizeof said - strlen(said) - 1);
}

static void expect(const char *before, const char *after, const char *lines)
{
    *said = '\0';
    weir_catalog_values_compare(before, strlen(before), after, strlen(after), hear, NULL);
    cr_assert_str_eq(said, lines, "%s", said);
}

Test(catalog_values, values_of_entries_that_are_in_both)
{
    expect("{\"contracts\":[{\"key\":\"a\",\"ends_at\":null,\"overrides\":[{\"meter\":\"m\",\"multiplier\":\"1\"}]},"
           "{\"key\":\"gone\",\"x\":1}]}",
           "{\"contracts\":[{\"key\":\"new\",\"x\":2},{\"key\":\"a\",\"ends_at\":\"2027-01-01T00:00:00Z\","
           "\"overrides\":[{\"meter\":\"m\",\"multiplier\":\"0.5\"}],\"timezone\":\"UTC\"}]}",
           "contract a: ends_at: null -> \"2027-01-01T00:00:00Z\"\n"
           "contract a: overrides[0].multiplier: \"1\" -> \"0.5\"\n"
           "contract a: timezone: none -> \"UTC\"\n");
}

Test(catalog_values, members_with_a_key_are_told_by_it)
{
    expect("{\"contracts\":[{\"key\":\"a\",\"phases\":[{\"key\":\"p\",\"reason\":\"r\"},{\"key\":\"q\"}]}]}",
           "{\"contracts\":[{\"key\":\"a\",\"phases\":[{\"key\":\"o\"},{\"key\":\"p\",\"reason\":\"s\"}]}]}",
           "contract a: phases[p].reason: \"r\" -> \"s\"\n"
           "contract a: phases[q]: {\"key\":\"q\"} -> none\n"
           "contract a: phases[o]: none -> {\"key\":\"o\"}\n");
    expect("{\"price_books\":[{\"key\":\"b\",\"version\":1,\"rounding\":\"half_up\"},{\"key\":\"b\",\"version\":2}],"
           "\"default_contract\":{\"price_book\":\"b\"}}",
           "{\"price_books\":[{\"key\":\"b\",\"version\":2,\"fees\":[]},{\"key\":\"b\",\"version\":1}],"
           "\"default_contract\":{\"price_book\":\"c\"}}",
           "price book b version 1: rounding: \"half_up\" -> none\n"
           "price book b version 2: fees: none -> []\n"
           "default_contract: price_book: \"b\" -> \"c\"\n");
}

/* Order of members and of entries is no difference. */
Test(catalog_values, the_same_has_no_lines)
{
    expect("{\"contracts\":[{\"key\":\"a\",\"x\":1,\"y\":2},{\"key\":\"b\"}]}",
           "{\"contracts\":[{\"key\":\"b\"},{\"y\":2,\"x\":1,\"key\":\"a\"}]}", "");
    expect("no JSON", "{}", "");
}

Test(catalog_values, what_is_long_is_cut_between_characters)
{
    char before[2048], after[2048], line[4096], shown[WEIR_VALUE_SHOWN + 1] = "\"x";

    for (size_t i = 2; i + 1 < WEIR_VALUE_SHOWN; i += 2)
        memcpy(shown + i, "é", 3);
    (void)snprintf(before, sizeof before, "{\"contracts\":[{\"key\":\"a\",\"reason\":%sééé\"}]}", shown);
    (void)snprintf(after, sizeof after, "{\"contracts\":[{\"key\":\"a\"}]}");
    (void)snprintf(line, sizeof line, "contract a: reason: %s... -> none\n", shown);
    expect(before, after, line);
    (void)snprintf(before, sizeof before, "{\"contracts\":[{\"key\":\"a\",\"reason\":\"%séééé\"}]}", shown + 2);
    cr_assert_leq(strlen(shown), (size_t)WEIR_VALUE_SHOWN);
    *said = '\0';
    weir_catalog_values_compare(before, strlen(before), after, strlen(after), hear, NULL);
    cr_assert(strstr(said, "é... -> none") && strlen(strstr(said, "\"")) == 1 + 158 + strlen("... -> none\n"), "%s",
              said);
}
