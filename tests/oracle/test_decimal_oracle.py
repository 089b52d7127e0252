"""common/decimal.c against Python's decimal: 80,000 random and edge operations. Run with /usr/bin/python3 -m pytest; a
failure names its questions, and WEIR_SEED another seed."""
import itertools
import os
import random

from oracle import decimals, lines

SEED = int(os.environ.get("WEIR_SEED", "20260105"))


def made(make, count, salt):
    source = random.Random(f"{SEED} {salt}")
    return [make(source) for _ in range(count)]


def test_operations():
    lines.compare("decimal_lines", made(decimals.random_binary, 40000, "binary"))


def test_edges_with_edges():
    cases = []
    for a, b in itertools.product(decimals.EDGES, repeat=2):
        x, y = (decimals.CONTEXT.scaleb(decimals.Decimal(units), -12) for units in (a, b))
        question = f"{decimals.text_of(a)} {decimals.text_of(b)}"
        cases.append((f"multiply {question}", {decimals.answer_of(decimals.CONTEXT.multiply(x, y))}))
        cases.append((f"add {question}", {decimals.answer_of(decimals.CONTEXT.add(x, y))}))
        cases.append((f"divide_up {question}", {"none"} if b == 0 else {
            decimals.answer_of(decimals.CONTEXT.divide(x, y), decimals.ROUNDINGS["up"])}))
    for units, count in itertools.product(decimals.EDGES, (0, 1, 2, 3, 10, 2**63, 2**64 - 1)):
        product = decimals.CONTEXT.multiply(decimals.CONTEXT.scaleb(decimals.Decimal(units), -12), decimals.Decimal(count))
        cases.append((f"scale {decimals.text_of(units)} {count}", {decimals.answer_of(product)}))
    lines.compare("decimal_lines", cases)


def test_ties():
    lines.compare("decimal_lines", made(decimals.random_tie, 10000, "ties"))


def test_rounding_and_writing():
    lines.compare("decimal_lines", made(decimals.random_unary, 15000, "unary"))


def test_reading():
    texts = made(decimals.random_text, 25000, "texts") + [
        "", "-", "0", "-0", "-0.0", "00", "01", "-01", "1.", ".5", "1e", "1e+", "1e-", "+1", "1e5", "1E+05", "NaN", "1 ",
        "0e999999999999", "1e-400", "0.0000000000001", "0.0000000000010", "1e-12", "1e-13", "10e-13",
        "170141183460469231731687303.715884105727", "170141183460469231731687303.715884105728",
        "-170141183460469231731687303.715884105727", "-170141183460469231731687303.715884105728",
        "1" + "0" * 1000 + "e-1000", "0." + "0" * 1000 + "1e1001", "9" * 400, "0." + "9" * 400, "1e26", "1e27", "2e26"]
    lines.compare("decimal_lines", [(f"parse {text}", decimals.parse_answers(text)) for text in texts])
