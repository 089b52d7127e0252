/* jansson as the judge of what JSON is, for tests and the fuzz target.
 *
 * It differs from weir where weir is stricter or more exact on purpose: jansson reads numbers into doubles and refuses
 * those that do not fit (such a number is overwritten here and the text judged again), and allows 2048 levels. And one
 * fault of jansson 2.14 is kept out: it swallows a zero byte behind a number (`[1\0]`), which no JSON text can hold.
 */
#ifndef WEIR_TESTS_JSON_ORACLE_H
#define WEIR_TESTS_JSON_ORACLE_H

#include <jansson.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

/* Where the number that begins at `at` ends, reading as far as it can; `at` itself when none does. */
static inline const char *oracle_number_end(const char *at, const char *end)
{
    const char *from = at;

    at += at < end && *at == '-';
    if (at == end || *at < '0' || *at > '9')
        return from;
    if (*at == '0')
        at++;
    else
        at += strspn(at, "0123456789");
    if (end - at > 1 && *at == '.')
        at += 1 + strspn(at + 1, "0123456789");
    if (end - at > 1 && (*at == 'e' || *at == 'E')) {
        at++;
        at += *at == '+' || *at == '-';
        at += strspn(at, "0123456789");
    }
    return at;
}

/* Makes the number that ends before `position` small: a 0 and white space. False when another number touches it in
 * front
 * (`1-2e999`): that is no JSON, which jansson would only notice behind it. */
static inline bool oracle_mend_number(char *text, size_t length, size_t position)
{
    size_t end = position < length ? position : length;
    size_t begin;

    while (end > 0 && !strchr("0123456789", text[end - 1]))
        end--;
    for (begin = end; begin > 0 && strchr("+-.0123456789eE", text[begin - 1]) && text[begin - 1]; begin--)
        ;
    if (begin == end || oracle_number_end(text + begin, text + end) != text + end)
        return false;
    text[begin] = '0';
    memset(text + begin + 1, ' ', end - begin - 1);
    return true;
}

/* NULL: no JSON text (or one with \u0000, half a surrogate pair, or a key that stands twice). */
static inline json_t *oracle_load(const char *text, size_t length)
{
    char *copy = malloc(length + 1);
    json_t *root = NULL;
    json_error_t error;

    memcpy(copy, text, length);
    copy[length] = '\0';
    if (memchr(copy, '\0', length)) {
        free(copy);
        return NULL;
    }
    do {
        root = json_loadb(copy, length, JSON_REJECT_DUPLICATES | JSON_DECODE_ANY | JSON_DECODE_INT_AS_REAL, &error);
    } while (!root && json_error_code(&error) == json_error_numeric_overflow
             && oracle_mend_number(copy, length, (size_t)error.position));
    free(copy);
    return root;
}

#endif
