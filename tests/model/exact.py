"""Exact decimals as Python integers scaled by 10^12. Nothing here or above it is ever a float."""
import re

PLACES = 12
SCALE = 10 ** PLACES
LIMIT = 1 << 127  # of the scaled integer: what a signed 128-bit number holds

_NUMBER = re.compile(r"(-?)(0|[1-9][0-9]*)(?:\.([0-9]+))?(?:[eE]([+-]?[0-9]+))?")


class NotANumber(ValueError):
    """The text is not a JSON number to the letter."""


class OutOfRange(ValueError):
    """The number has more than 12 decimal places or is too large."""


class Num(str):
    """A JSON number, kept as its text: tells it from a JSON string."""

    __slots__ = ()


def parse(text):
    """The scaled integer of a JSON number's text."""
    if len(text) < 20 and text.isdecimal() and text.isascii() and (text[0] != "0" or len(text) == 1):
        return int(text) * SCALE
    match = _NUMBER.fullmatch(text)
    if match is None:
        raise NotANumber(text)
    sign, whole, fraction, exponent = match.groups()
    digits = (whole + (fraction or "")).lstrip("0")
    if not digits:
        return 0
    significant = digits.rstrip("0")
    if exponent is None:
        shift = 0
    elif len(exponent.lstrip("+-").lstrip("0")) > 9:
        raise OutOfRange(text)
    else:
        shift = int(exponent)
    power = shift - len(fraction or "") + (len(digits) - len(significant)) + PLACES
    if power < 0 or len(significant) + power > 40:
        raise OutOfRange(text)
    value = int(significant) * 10 ** power
    if value >= LIMIT:
        raise OutOfRange(text)
    return -value if sign else value


def divide(numerator, denominator):
    """numerator / denominator to an integer, half-even; the denominator is positive."""
    quotient, rest = divmod(numerator, denominator)
    twice = 2 * rest
    if twice > denominator or (twice == denominator and quotient & 1):
        quotient += 1
    return quotient


def multiply(a, b):
    """The product of two scaled integers, rounded half-even to 12 places."""
    return divide(a * b, SCALE)


def fixed(value, places=PLACES):
    """A scaled integer (by 10^places) with all its places: `-1.500000000000`."""
    sign = "-" if value < 0 else ""
    digits = str(abs(value)).rjust(places + 1, "0")
    return sign + digits[:-places] + "." + digits[-places:] if places else sign + digits


def shortest(value):
    """The text of a number as docs/rating.md 1.2 has it."""
    text = fixed(value)
    return text.rstrip("0").rstrip(".")


def invoice(value, minor_digits, half_up):
    """An amount rounded once to the currency's minor unit."""
    unit = 10 ** (PLACES - minor_digits)
    if half_up:
        whole = (2 * abs(value) + unit) // (2 * unit)
        rounded = -whole if value < 0 else whole
    else:
        rounded = divide(value, unit)
    return fixed(rounded, minor_digits)
