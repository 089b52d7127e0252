"""common/decimal.c against PostgreSQL's numeric: the database that finance sums in must come to what weir came to.

Needs a server: WEIR_TEST_POSTGRES_URL (tests/run oracle sets it)."""
import os
import random

import psycopg2
import psycopg2.extras

from oracle import decimals, lines

SEED = os.environ.get("WEIR_SEED", "20260105")
COUNT = 6000

# numeric rounds a tie away from zero, and its division stops at sixteen digits: half-even is put together from floor, and a
# quotient from div and mod, which are exact.
QUESTIONS = {
    "add": "a + b",
    "subtract": "a - b",
    "multiply": """(SELECT CASE WHEN rest = 0.5 THEN low + abs(mod(low, 2)) ELSE round(units) END * 1e-12
                    FROM (SELECT units, floor(units) AS low, units - floor(units) AS rest
                          FROM (SELECT a * b * 1e12 AS units) AS product) AS parts)""",
    "divide_up": """(SELECT sign(a) * sign(b) * (whole + CASE WHEN 2 * rest >= abs(b) THEN 1 ELSE 0 END) * 1e-12
                     FROM (SELECT div(abs(a) * 1e12, abs(b)) AS whole, mod(abs(a) * 1e12, abs(b)) AS rest) AS parts)""",
}


def asked_of_postgres(cases):
    """What the server answers, as text with 12 places; "none" beyond weir's range."""
    connection = psycopg2.connect(os.environ["WEIR_TEST_POSTGRES_URL"])
    cursor = connection.cursor()
    cursor.execute("CREATE TEMPORARY TABLE questions (at integer PRIMARY KEY, operation text, a numeric, b numeric)")
    psycopg2.extras.execute_values(cursor, "INSERT INTO questions VALUES %s", [
        (at, operation, decimals.text_of(a), decimals.text_of(b)) for at, (operation, a, b) in enumerate(cases)])
    choice = " ".join(f"WHEN '{operation}' THEN {value}" for operation, value in QUESTIONS.items())
    cursor.execute(f"""SELECT CASE WHEN abs(answer) * 1e12 > 2::numeric ^ 127 - 1 THEN 'none'
                              ELSE round(answer, 12)::text END
                       FROM (SELECT at, CASE operation {choice} END AS answer FROM questions) AS answers ORDER BY at""")
    answers = [row[0] for row in cursor.fetchall()]
    connection.close()
    assert len(answers) == len(cases)
    return answers


def random_case(source):
    operation = source.choice(sorted(QUESTIONS))
    a, b = decimals.random_units(source), decimals.random_units(source)
    if operation == "multiply" and source.random() < 0.3:  # a tie
        a, b = source.choice((-1, 1)) * (2 * source.getrandbits(60) + 1), 5 * 10**11
    return operation, a, b or 1


def test_arithmetic_comes_to_what_numeric_comes_to():
    source = random.Random(SEED)
    cases = [random_case(source) for _ in range(COUNT)]
    questions = [f"{operation} {decimals.text_of(a)} {decimals.text_of(b)}" for operation, a, b in cases]
    lines.compare("decimal_lines", [(question, {answer.replace("-0.000000000000", "0.000000000000")})
                                    for question, answer in zip(questions, asked_of_postgres(cases))])


def test_numeric_reads_what_weir_writes():
    source = random.Random(f"{SEED} text")
    units = [decimals.random_units(source) for _ in range(2000)] + decimals.EDGES
    written = lines.ask("decimal_lines", [f"short {decimals.text_of(value)}" for value in units])
    connection = psycopg2.connect(os.environ["WEIR_TEST_POSTGRES_URL"])
    cursor = connection.cursor()
    cursor.execute("SELECT (text::numeric * 1e12)::numeric(60, 0)::text FROM unnest(%s) WITH ORDINALITY AS written(text, at) ORDER BY at",
                   (written,))
    assert [int(row[0]) for row in cursor.fetchall()] == units
    connection.close()
