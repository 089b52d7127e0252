/* Where a JSON number ends: the one grammar for both ways through a text (json_walk.h, json_shape.h). */
#ifndef WEIR_INGEST_JSON_NUMBER_H
#define WEIR_INGEST_JSON_NUMBER_H

#include <stdbool.h>
#include <stddef.h>

static inline bool weir_json_is_digit(char c)
{
    return (unsigned char)(c - '0') <= 9;
}

/* Behind the number that begins at `at`; NULL: none does. Reads up to the first byte that is no part of a number, so
 * one must follow: in a text that ends with a bracket it does. */
static inline const char *weir_json_number_end(const char *at)
{
    at += *at == '-';
    if (*at == '0')
        at++;
    else if (weir_json_is_digit(*at))
        while (weir_json_is_digit(*++at))
            ;
    else
        return NULL;
    if (*at == '.') {
        if (!weir_json_is_digit(*++at))
            return NULL;
        while (weir_json_is_digit(*++at))
            ;
    }
    if (*at == 'e' || *at == 'E') {
        at++;
        at += *at == '+' || *at == '-';
        if (!weir_json_is_digit(*at))
            return NULL;
        while (weir_json_is_digit(*++at))
            ;
    }
    return at;
}

#endif
