"""Decimal questions, random and at the edges, and what Python's decimal answers."""
import decimal
import re
from decimal import Decimal

CONTEXT = decimal.Context(prec=100, Emax=decimal.MAX_EMAX, Emin=decimal.MIN_EMIN,
                          traps=[decimal.InvalidOperation, decimal.DivisionByZero, decimal.Overflow])
PLACE = Decimal("1e-12")
LIMIT = 2**127 - 1  # in units of 10^-12
NUMBER = re.compile(r"-?(0|[1-9][0-9]*)(\.[0-9]+)?([eE][+-]?[0-9]+)?", re.ASCII)
ROUNDINGS = {"even": decimal.ROUND_HALF_EVEN, "up": decimal.ROUND_HALF_UP}

EDGES = sorted({sign * units for sign in (1, -1) for units in [
    0, 1, 2, 5, 10**6, 10**12 - 1, 10**12, 10**12 + 1, 5 * 10**11, 15 * 10**11, 25 * 10**11, 10**18, 10**18 - 1,
    2**63 - 1, 2**63, 2**64 - 1, 2**64, 2**64 + 1, 10**24, 10**24 - 1, 10**36, 10**37 - 1, 10**38, 3 * 10**38 // 7,
    2**126, 2**126 + 1, 4 * 10**12, LIMIT * 10**12 >> 128, (LIMIT * 10**12 >> 128) + 1, LIMIT - 1, LIMIT, LIMIT // 2, LIMIT // 3, LIMIT // 10, LIMIT // 10**12, LIMIT // 10**12 + 1,
] if units <= LIMIT})


def text_of(units):
    """Units of 10^-12 with 12 places."""
    whole, places = divmod(abs(units), 10**12)
    return f"{'-' if units < 0 else ''}{whole}.{places:012d}"


def answer_of(value, rounding=decimal.ROUND_HALF_EVEN):
    """What an operation with this exact (or 100-digit) result answers."""
    units = int(CONTEXT.scaleb(value.quantize(PLACE, rounding, CONTEXT), 12))
    return text_of(units) if abs(units) <= LIMIT else "none"


def random_units(random):
    """Any size, from nothing to the limit, with a liking for round numbers and edges."""
    shape = random.random()
    if shape < 0.15:
        return random.choice(EDGES)
    if shape < 0.3:
        return max(-LIMIT, min(LIMIT, random.choice(EDGES) + random.randint(-3, 3)))
    units = random.getrandbits(random.randint(1, 127))
    if shape < 0.5:
        units -= units % 10**random.randint(0, 14)
    return random.choice((-1, 1)) * min(units, LIMIT)


def random_binary(random):
    """(question, {answer}) of add, subtract, multiply, divide, compare, scale and blocks."""
    a, b = random_units(random), random_units(random)
    x, y = CONTEXT.scaleb(Decimal(a), -12), CONTEXT.scaleb(Decimal(b), -12)
    operation = random.choice(("add", "subtract", "multiply", "multiply", "divide_even", "divide_up", "compare", "scale",
                               "blocks"))
    question = f"{operation} {text_of(a)} {text_of(b)}"
    if operation == "add":
        return question, {answer_of(CONTEXT.add(x, y))}
    if operation == "subtract":
        return question, {answer_of(CONTEXT.subtract(x, y))}
    if operation == "multiply":
        return question, {answer_of(CONTEXT.multiply(x, y))}
    if operation == "compare":
        return question, {str((a > b) - (a < b))}
    if operation == "scale":
        count = random.choice((0, 1, 2**64 - 1, random.getrandbits(random.randint(1, 64))))
        return f"scale {text_of(a)} {count}", {answer_of(CONTEXT.multiply(x, Decimal(count)))}
    if operation == "blocks":
        a, b = abs(a), abs(b) or 1
        x, y = CONTEXT.scaleb(Decimal(a), -12), CONTEXT.scaleb(Decimal(b), -12)
        blocks = CONTEXT.divide(x, y).to_integral_value(decimal.ROUND_CEILING, CONTEXT)
        return f"blocks {text_of(a)} {text_of(b)}", {answer_of(blocks)}
    if b == 0:
        return question, {"none"}
    return question, {answer_of(CONTEXT.divide(x, y), ROUNDINGS[operation.split("_")[1]])}


def random_tie(random):
    """A product or quotient that lies exactly between two representable values, or one step beside."""
    if random.random() < 0.5:
        odd = 2 * random.getrandbits(random.randint(1, 80)) + 1
        a, b = odd * 5**random.randint(0, 3) * random.choice((-1, 1)), 5 * 10**11
        a += random.choice((0, 0, 2))
        x, y = CONTEXT.scaleb(Decimal(a), -12), CONTEXT.scaleb(Decimal(b), -12)
        return f"multiply {text_of(a)} {text_of(b)}", {answer_of(CONTEXT.multiply(x, y))}
    quotient, b = random.getrandbits(random.randint(1, 60)), 2 * random.randint(1, 2**40) * 10**12
    a = (2 * quotient + 1) * (b // (2 * 10**12))
    a = random.choice((-1, 1)) * (a + random.choice((0, 0, 1, -1)))
    name = random.choice(("even", "up"))
    x, y = CONTEXT.scaleb(Decimal(a), -12), CONTEXT.scaleb(Decimal(b), -12)
    return f"divide_{name} {text_of(a)} {text_of(b)}", {answer_of(CONTEXT.divide(x, y), ROUNDINGS[name])}


def random_unary(random):
    """Rounding, formatting and the stored form."""
    a = random_units(random)
    x = CONTEXT.scaleb(Decimal(a), -12)
    operation = random.choice(("round_even", "round_up", "short", "places", "store"))
    places = random.randint(0, 12)
    if operation == "short":
        text = text_of(a).rstrip("0").rstrip(".")
        return f"short {text_of(a)}", {"0" if text == "-0" else text}
    if operation == "store":
        return f"store {text_of(a)}", {a.to_bytes(16, "little", signed=True).hex()}
    if operation == "places":
        a -= a % 10**(12 - places) if a >= 0 else -(-a % 10**(12 - places))
        text = text_of(a)[:-12 + places or None].rstrip(".")
        return f"places {text_of(a)} {places}", {text}
    if random.random() < 0.3:  # a tie at this place
        unit = 10**(12 - places)
        a = (abs(a) // 1000 // unit * unit + unit // 2) * (1 if a >= 0 else -1)
        x = CONTEXT.scaleb(Decimal(a), -12)
    rounded = x.quantize(Decimal(1).scaleb(-places, CONTEXT), ROUNDINGS[operation.split("_")[1]], CONTEXT)
    return f"{operation} {text_of(a)} {places}", {answer_of(rounded)}


def parse_answers(text):
    """The right answers to reading a text."""
    if not NUMBER.fullmatch(text):
        return {"syntax"}
    digits, _, exponent = text.lower().partition("e")
    whole, _, fraction = digits.lstrip("-").partition(".")
    coefficient, exponent = int(whole + fraction), int(exponent or 0) - len(fraction) + 12
    if coefficient == 0:
        return {text_of(0)}
    while coefficient % 10 == 0:
        coefficient, exponent = coefficient // 10, exponent + 1
    is_large = len(str(coefficient)) + exponent > 60 or (exponent >= 0 and coefficient * 10**exponent > LIMIT) \
        or (exponent < 0 and coefficient > LIMIT * 10**min(-exponent, 200))
    problems = ({"range"} if is_large else set()) | ({"precision"} if exponent < 0 else set())
    value = None if problems else CONTEXT.scaleb(CONTEXT.create_decimal(text), 12)
    return problems or {text_of(int(value))}


def random_number(random):
    """A text that is a JSON number, of any length and exponent."""
    whole = str(random.getrandbits(random.choice((1, 8, 30, 60, 62, 88, 127, 140))))
    text = random.choice(("", "-")) + random.choice((whole, "0", whole))
    if random.random() < 0.6:
        fraction = "".join(random.choice("0123456789") for _ in range(random.choice((1, 2, 6, 11, 12, 13, 20, 40))))
        text += "." + (fraction + "0" * random.choice((0, 0, 5, 30)) if random.random() < 0.7
                       else "0" * random.choice((1, 11, 12, 13, 50)) + random.choice(("", "1", "0")))
    if random.random() < 0.4:
        exponent = random.choice((random.randint(0, 40), random.randint(0, 5), 400, 999999999999, 2**31, 2**32, 2**63, 10**30))
        text += random.choice("eE") + random.choice(("", "+", "-")) + random.choice(("", "", "00")) + str(exponent)
    return text


def random_text(random):
    """A number, or one with something broken in it."""
    text = random_number(random)
    if random.random() < 0.5:
        return text
    at = random.randrange(len(text) + 1)
    noise = random.choice(("", "-", "+", ".", "e", "E", "0", " ", "x", "_", ",", "\t", "é", "Infinity", "0x"))
    return text[:at] + noise + text[at + random.choice((0, 0, 1)):]
