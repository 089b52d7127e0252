"""Reading an event: decode, its paths and texts, and what is wrong with a bad one (docs/rating.md section 1)."""
import functools
import json
import re

from . import exact, instants

ATTRIBUTE_BYTES = 256
EVENT_BYTES = 1 << 20
DEPTH = 64


class Bad(Exception):
    """An event that goes to quarantine."""

    def __init__(self, reason, field=None):
        super().__init__(reason, field)
        self.reason = reason
        self.field = field


class _DuplicateKey(ValueError):
    pass


def _object(pairs):
    members = dict(pairs)
    if len(members) != len(pairs):
        raise _DuplicateKey
    return members


def _constant(_name):
    raise ValueError("NaN and Infinity are not JSON")


_DECODER = json.JSONDecoder(object_pairs_hook=_object, parse_float=exact.Num, parse_int=exact.Num,
                            parse_constant=_constant)
_scan = _DECODER.scan_once
_ODD_ESCAPE = re.compile(r"\\u(?:0000|[dD][89a-fA-F])")


def _strings(value):
    if isinstance(value, str):
        yield value
    elif isinstance(value, dict):
        for name, member in value.items():
            yield name
            yield from _strings(member)
    elif isinstance(value, list):
        for member in value:
            yield from _strings(member)


def _depth(text):
    """Deepest nesting of a JSON text's arrays and objects."""
    deepest = depth = 0
    for token in re.finditer(r'"(?:[^"\\]|\\.)*"|[\[{]|[\]}]', text, re.DOTALL):
        if token.group() in "[{":
            depth += 1
            deepest = max(deepest, depth)
        elif token.group() in "]}":
            depth -= 1
    return deepest


def parse(line):
    """The JSON object of one event's bytes."""
    if len(line) > EVENT_BYTES:
        raise Bad("too_large")
    try:
        text = line.decode("utf-8")
    except UnicodeDecodeError:
        raise Bad("bad_encoding") from None
    if text.count("{") + text.count("[") > DEPTH and _depth(text) > DEPTH:
        raise Bad("too_deep")
    text = text.strip(" \t\r\n")
    try:
        event, end = _scan(text, 0)
    except _DuplicateKey:
        raise Bad("duplicate_key") from None
    except (ValueError, StopIteration):
        raise Bad("malformed_json") from None
    if end != len(text) or not isinstance(event, dict) or ("data" in event and "data_base64" in event):
        raise Bad("malformed_json")
    if "\\u" in text and _ODD_ESCAPE.search(text):
        for string in _strings(event):
            if "\0" in string:
                raise Bad("bad_encoding")
            if any("\ud800" <= c <= "\udfff" for c in string):
                raise Bad("malformed_json")
    return event


def _attribute(event, name):
    value = event.get(name)
    if type(value) is not str:
        raise Bad("missing_field" if value is None else "wrong_type", name)
    if not value:
        raise Bad("empty_field", name)
    if len(value) > 64 and len(value.encode("utf-8")) > ATTRIBUTE_BYTES:
        raise Bad("too_long", name)
    return value


def decode(line):
    """(event, id, source, type, subject, time in nanoseconds) of an event's bytes, or Bad."""
    event = parse(line)
    version = event.get("specversion")
    if version != "1.0" or type(version) is not str:
        if version is None:
            raise Bad("missing_field", "specversion")
        raise Bad("bad_specversion" if type(version) is str else "wrong_type", "specversion")
    identity = _attribute(event, "id")
    source = _attribute(event, "source")
    kind = _attribute(event, "type")
    subject = _attribute(event, "subject")
    time = event.get("time")
    if type(time) is not str:
        raise Bad("missing_field" if time is None else "wrong_type", "time")
    nanoseconds = instants.parse_rfc3339(time)
    if nanoseconds is None:
        raise Bad("bad_time", "time")
    is_retraction(event)
    return event, identity, source, kind, subject, nanoseconds


def whose(line):
    """The customer of an event that is refused, as far as that can be read; else empty."""
    try:
        return _attribute(parse(line), "subject")
    except Bad:
        return ""


def is_retraction(event):
    value = event.get("retraction")
    if value is None or value is False or (type(value) is str and value == "false"):
        return False
    if value is True or (type(value) is str and value == "true"):
        return True
    raise Bad("wrong_type", "retraction")


@functools.lru_cache(maxsize=None)
def _steps(path):
    return tuple(path.split(".")) if path.startswith("data.") else (path,)


def lookup(event, path):
    """The value at a path; None when it is missing or null."""
    value = event
    for step in _steps(path):
        if type(value) is not dict:
            return None
        value = value.get(step)
    return value


def text_of(value, path):
    """The text of a value (docs/rating.md 1.2); Bad for an object, an array or a number that is not representable."""
    kind = type(value)
    if kind is str:
        return value
    if value is None:
        return ""
    if kind is exact.Num:
        try:
            return exact.shortest(exact.parse(value))
        except exact.OutOfRange:
            raise Bad("number_range", path) from None
    if kind is bool:
        return "true" if value else "false"
    raise Bad("wrong_type", path)


def passes(event, where):
    """Whether every path's text is in its list."""
    for path, texts in where:
        try:
            if text_of(lookup(event, path), path) not in texts:
                return False
        except Bad:
            return False
    return True


def dimension(event, name):
    path = "data." + name
    text = lookup(event, path)
    if type(text) is not str:
        text = text_of(text, path)
    if len(text) > 64 and len(text.encode("utf-8")) > ATTRIBUTE_BYTES:
        raise Bad("too_long", path)
    return text


def number(event, path):
    """The value of a sum, min, max, latest or avg meter, scaled by 10^12."""
    value = lookup(event, path)
    if value is None:
        raise Bad("missing_field", path)
    if not isinstance(value, str):  # Num is a str too
        raise Bad("wrong_type", path)
    try:
        return exact.parse(value)
    except exact.NotANumber:
        raise Bad("wrong_type", path) from None
    except exact.OutOfRange:
        raise Bad("number_range", path) from None


def distinct(event, path):
    """The text that a unique meter counts."""
    text = text_of(lookup(event, path), path)
    if not text:
        raise Bad("missing_field", path)
    return text


def data_text(line):
    """The JSON text of `data` as sent, without the white space around it; empty without data."""
    text = line.decode("utf-8").strip(" \t\r\n")
    position = 1
    blank = re.compile(r"[ \t\r\n]*")
    while True:
        position = blank.match(text, position).end()
        if text[position] == "}":
            return ""
        if text[position] == ",":
            position = blank.match(text, position + 1).end()
        name, position = json.decoder.scanstring(text, position + 1)
        position = blank.match(text, position).end() + 1  # the colon
        start = blank.match(text, position).end()
        _value, position = _DECODER.raw_decode(text, start)
        if name == "data":
            return text[start:position]
