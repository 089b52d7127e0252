/* Text as people are shown it: nothing that a terminal obeys, and as wide as it says. */
#include <criterion/criterion.h>
#include <locale.h>
#include <stdlib.h>
#include <string.h>

#include "common/shown.h"
#include "common/status.h"

static const char *copy_of(struct weir_slice text)
{
    static char copy[256];

    copy[weir_shown_copy(text, copy)] = '\0';
    return copy;
}

Test(shown, what_a_terminal_obeys_is_a_question_mark)
{
    static const struct {
        const char *text, *shown;
    } cases[] = {
        {"", ""},
        {"plain ~", "plain ~"},
        {"two\x1b[31mRED\nnext\r\t\x7f", "two?[31mRED?next???"},
        {"\xc2\x80 \xc2\x9b"
         "31m \xc2\x9f \xc2\xa0",
         "? ?31m ? \xc2\xa0"},
        {"\u202a\u202b\u202c\u202d\u202e", "?????"},
        {"\u2066\u2067\u2068\u2069", "????"},
        {"\u2029\u202f\u2065\u206a", "\u2029\u202f\u2065\u206a"},
        {"é € 𝄞 東京", "é € 𝄞 東京"},
        {"cut \xe6\x9d", "cut ??"},
        {"\xc0\x80 \xed\xa0\x80 \xf4\x90\x80\x80 \x9b", "?? ??? ???? ?"},
    };

    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_str_eq(copy_of(weir_slice_text(cases[i].text)), cases[i].shown, "case %zu", i);
    cr_expect_str_eq(copy_of(weir_slice_of("a\0b", 3)), "a?b");
}

/* Behind the text stands what would make a character of it. */
Test(shown, no_byte_behind_the_text_is_read)
{
    for (size_t length = 1; length < 4; length++) {
        char *exact = malloc(length);
        memcpy(exact, "𝄞", length);
        cr_expect_eq(weir_shown_first(weir_slice_of(exact, length)).code, WEIR_SHOWN_NOT_UTF8);
        free(exact);
    }
    cr_expect_eq(weir_shown_first(weir_slice_of("𝄞", 4)).code, 0x1d11e);
}

Test(shown, it_is_written_as_it_is_copied)
{
    char *text = NULL;
    size_t length;
    FILE *output = open_memstream(&text, &length);

    weir_shown_put(output, "東\x1b[2J\xff ü\u202e!");
    weir_shown_put(output, "");
    fclose(output);
    cr_assert_str_eq(text, "東?[2J? ü?!");
    free(text);
}

Test(shown, width_is_that_of_a_terminal_in_any_locale)
{
    static const struct {
        const char *text;
        size_t width;
    } cases[] = {
        {"", 0},     {"plain", 5}, {"é", 1},    {"e\u0301", 1},  {"東京", 4},
        {"한국", 4}, {"ｗ", 2},    {"🙂", 2}, {"a\u200bb", 2}, {"\x1b\xff", 2},
    };

    setlocale(LC_ALL, "C");
    for (size_t i = 0; i < sizeof cases / sizeof *cases; i++)
        cr_expect_eq(weir_shown_width(weir_slice_text(cases[i].text)), cases[i].width, "%s", cases[i].text);
}
