/* Answers decimal questions, one a line, for tests that compare the answers with Python's decimal and PostgreSQL's
 * numeric.
 *
 *   parse TEXT (the rest of the line)    short A    places A N    store A
 *   add A B    subtract A B    multiply A B    divide_even A B    divide_up A B    scale A COUNT    blocks A B
 *   round_even A N    round_up A N    compare A B
 *
 * The answer is a number with 12 places (short and places: as asked; store: hexadecimal bytes that were loaded again;
 * compare: -1, 0, 1), or the word syntax, precision, range or none (an operation that answered false).
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "common/decimal.h"
#include "common/status.h"

static const char *const problems[] = {"", "syntax", "precision", "range"};

struct question {
    char *operation, *first, *second;
    struct weir_decimal a, b;
    int places;
};

static void answer(bool is_there, struct weir_decimal value)
{
    char text[WEIR_DECIMAL_TEXT_MAX];

    if (is_there)
        weir_check(weir_decimal_format(value, text) == strlen(text));
    puts(is_there ? text : "none");
}

static bool is(const struct question *question, const char *operation)
{
    return strcmp(question->operation, operation) == 0;
}

static bool ask_text(const struct question *question)
{
    char text[WEIR_DECIMAL_TEXT_MAX];
    unsigned char bytes[16];

    if (is(question, "short")) {
        weir_check(weir_decimal_format_short(question->a, text) == strlen(text));
        puts(text);
    } else if (is(question, "places")) {
        weir_check(weir_decimal_format_places(question->a, question->places, text) == strlen(text));
        puts(text);
    } else if (is(question, "store")) {
        weir_decimal_store(question->a, bytes);
        weir_check(weir_decimal_compare(weir_decimal_load(bytes), question->a) == 0);
        for (int i = 0; i < 16; i++)
            printf("%02x", bytes[i]);
        puts("");
    } else if (is(question, "compare")) {
        printf("%d\n", weir_decimal_compare(question->a, question->b));
    } else {
        return false;
    }
    return true;
}

static void ask(const struct question *question)
{
    static const struct weir_decimal untouched = {.e12 = 424242};
    struct weir_decimal a = question->a, b = question->b, result = untouched;
    bool is_there;

    if (ask_text(question))
        return;
    if (is(question, "add"))
        is_there = weir_decimal_add(a, b, &result);
    else if (is(question, "subtract"))
        is_there = weir_decimal_subtract(a, b, &result);
    else if (is(question, "multiply"))
        is_there = weir_decimal_multiply(a, b, &result);
    else if (is(question, "divide_even"))
        is_there = weir_decimal_divide(a, b, WEIR_HALF_EVEN, &result);
    else if (is(question, "divide_up"))
        is_there = weir_decimal_divide(a, b, WEIR_HALF_UP, &result);
    else if (is(question, "scale"))
        is_there = weir_decimal_scale(a, strtoull(question->second, NULL, 10), &result);
    else if (is(question, "blocks"))
        is_there = weir_decimal_blocks(a, b, &result);
    else if (is(question, "round_even"))
        is_there = weir_decimal_round(a, question->places, WEIR_HALF_EVEN, &result);
    else if (is(question, "round_up"))
        is_there = weir_decimal_round(a, question->places, WEIR_HALF_UP, &result);
    else {
        fprintf(stderr, "decimal_lines: no operation '%s'\n", question->operation);
        exit(EXIT_FAILURE);
    }
    weir_check(is_there || weir_decimal_compare(result, untouched) == 0); /* what fails leaves its result alone */
    answer(is_there, result);
}

static bool takes_number_second(const struct question *question)
{
    return question->second && !is(question, "scale") && !is(question, "places")
           && strncmp(question->operation, "round_", 6) != 0;
}

static void take_line(char *line)
{
    struct question question = {.operation = line};
    enum weir_decimal_result result;

    line[strcspn(line, "\n")] = '\0';
    if (strncmp(line, "parse ", 6) == 0) {
        result = weir_decimal_parse(weir_slice_text(line + 6), &question.a);
        if (result == WEIR_DECIMAL_OK)
            answer(true, question.a);
        else
            puts(problems[result]);
        return;
    }
    question.operation = strtok_r(line, " ", &line);
    question.first = strtok_r(NULL, " ", &line);
    question.second = strtok_r(NULL, " ", &line);
    weir_check(question.operation && question.first);
    weir_check(weir_decimal_parse(weir_slice_text(question.first), &question.a) == WEIR_DECIMAL_OK);
    if (takes_number_second(&question))
        weir_check(weir_decimal_parse(weir_slice_text(question.second), &question.b) == WEIR_DECIMAL_OK);
    else if (question.second)
        question.places = (int)strtol(question.second, NULL, 10);
    ask(&question);
}

int main(void)
{
    char *line = NULL;
    size_t room = 0;

    while (getline(&line, &room, stdin) > 0)
        take_line(line);
    free(line);
    return EXIT_SUCCESS;
}
