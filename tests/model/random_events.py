"""Random events for a random catalog, as lines of NDJSON: good, repeated, conflicting, unmatched and broken ones."""
import datetime
import json

from .random_catalog import DIMENSION_TEXTS, WHERE_TEXTS, decimal_text

_EPOCH = datetime.datetime(1970, 1, 1)
_NUMBER_PLACES = (0, 0, 0, 1, 2, 6, 12)
OFFSETS = ("Z", "Z", "Z", "z", "+00:00", "-00:00", "+05:30", "-08:00", "+14:00", "-11:45", "+01:00")


class Raw(str):
    """A JSON text to stand as it is."""


def number_text(rng, scaled):
    """One of the many texts of a number: plain, with trailing zeros, with an exponent, as a JSON string."""
    text = decimal_text(scaled)
    kind = rng.random()
    if kind < 0.12:
        text += ("" if "." in text else ".") + "0" * rng.randrange(1, 20)
    elif kind < 0.3:
        shift = rng.randrange(-14, 15)
        sign, digits = ("-", text[1:]) if text.startswith("-") else ("", text)
        whole, _, fraction = digits.partition(".")
        places = len(fraction) + shift  # value = digits * 10^-len(fraction) = mantissa * 10^-shift … in integers
        digits = (whole + fraction).lstrip("0") or "0"
        exponent = f"{-places:+d}" if rng.random() < 0.5 else str(-places)
        # digits * 10^(-places) * 10^shift is the number: write the mantissa with `shift` zeros or decimals
        if shift >= 0:
            text = f"{sign}{digits if digits != '0' else '0'}{'0' * shift if digits != '0' else ''}{rng.choice('eE')}{exponent}"
        else:
            padded = digits.rjust(-shift + 1, "0")
            head = padded[:shift].lstrip("0") or "0"
            text = f"{sign}{head}.{padded[shift:]}{rng.choice('eE')}{exponent}"
    return f'"{text}"' if rng.random() < 0.3 else text


def _amount(rng):
    kind = rng.random()
    if kind < 0.45:
        value = rng.randrange(0, 50) * 10 ** 12
    elif kind < 0.9:
        places = rng.choice(_NUMBER_PLACES)
        value = rng.randrange(1, 500 * 10 ** places + 1) * 10 ** (12 - places)
    else:
        value = rng.choice((10 ** 6, 10 ** 9, 123456789012)) * 10 ** 12 + rng.randrange(10 ** 12)
    return -value if rng.random() < 0.12 else value


def dump(rng, value, tidy):
    """JSON text of a value: Raw texts as they are, members in any order, white space and escapes at will."""
    if isinstance(value, Raw):
        return str(value)
    if isinstance(value, str):
        text = json.dumps(value, ensure_ascii=not tidy and rng.random() < 0.5)
        return text.replace("/", "\\/") if not tidy and rng.random() < 0.2 else text
    members = list(value.items())
    if not tidy and rng.random() < 0.5:
        rng.shuffle(members)
    gap = "" if tidy else rng.choice(("", "", "", " ", "  ", "\t", " \t "))
    return "{" + gap + (gap + "," + gap).join(
        f"{json.dumps(name)}{gap}:{gap}{dump(rng, member, tidy)}" for name, member in members) + gap + "}"


def time_text(rng, nanoseconds):
    """RFC 3339 text of an instant, with any offset and any sufficient number of decimals."""
    offset = rng.choice(OFFSETS)
    minutes = 0
    if offset not in ("Z", "z"):
        minutes = (int(offset[1:3]) * 60 + int(offset[4:])) * (-1 if offset[0] == "-" else 1)
    seconds, fraction = divmod(nanoseconds, 10 ** 9)
    local = _EPOCH + datetime.timedelta(seconds=seconds + minutes * 60)
    digits = f"{fraction:09d}".rstrip("0")
    if rng.random() < 0.3:
        digits = digits.ljust(rng.randrange(len(digits), 10), "0")
    return local.isoformat(sep=rng.choice("TTTTt")) + ("." + digits if digits else "") + offset


class EventMaker:
    def __init__(self, rng, shape, pipeline):
        self.rng = rng
        self.shape = shape
        self.pipeline = pipeline
        self.number = 0
        self.types = sorted({meter["event_type"] for meter in shape.meters})
        self.made = []  # (event, data text) of events that may come again

    def _instant(self):
        rng, shape = self.rng, self.shape
        if rng.random() < 0.3:
            edge = rng.choice(shape.edges)
            edge = max(shape.start, min(shape.end - 1, edge))
            moment = edge * 10 ** 9 + rng.choice((0, 0, -1, 1, -10 ** 9, 10 ** 9, 10 ** 6))
            return max(shape.start * 10 ** 9, moment)
        moment = rng.randrange(shape.start, shape.end) * 10 ** 9
        return moment + rng.choice((0, rng.randrange(10 ** 9), rng.randrange(1000) * 10 ** 6))

    def _data(self, kind):
        """Members for all meters of a type: a nested object of Raw texts."""
        rng = self.rng
        data = {}

        def put(path, text):
            if text is None:
                return
            owner = data
            for step in path.split(".")[1:-1]:
                owner = owner.setdefault(step, {})
            owner.setdefault(path.split(".")[-1], Raw(text))

        for meter in self.shape.meters:
            if meter["event_type"] != kind:
                continue
            value = meter.get("value", "")
            if meter["aggregation"] == "unique":
                if value.startswith("data."):
                    put(value, rng.choice(DIMENSION_TEXTS[rng.choice([t for t in DIMENSION_TEXTS if t])]
                                          + ['"' + "long" * 80 + '"', '"u%d"' % rng.randrange(6)]))
            elif value:
                put(value, number_text(rng, _amount(rng)))
            for name in meter.get("group_by", []):
                text = rng.choice(list(DIMENSION_TEXTS)[:4] if rng.random() < 0.5 else list(DIMENSION_TEXTS))
                put("data." + name, rng.choice(DIMENSION_TEXTS[text]))
            for path, texts in meter.get("where", {}).items():
                if path.startswith("data."):
                    kind_of_miss = rng.random()
                    if kind_of_miss < 0.8:
                        put(path, rng.choice(WHERE_TEXTS[rng.choice(texts)]))
                    else:
                        put(path, rng.choice(['"elsewhere"', "[]", '{"a":1}', "0.1234567890123", "1e300", None]))
        if rng.random() < 0.2:
            data["note"] = rng.choice((Raw("[1,[2,{}],\"x\"]"), Raw("null"), Raw('"\\n\\t\\u00e9"'), Raw("{}"), Raw("1E400")))
        return data

    def _plan(self):
        texts = [text for meter in self.shape.meters for text in meter.get("where", {}).get("plan", [])]
        if not texts:
            return None
        return self.rng.choice(WHERE_TEXTS[self.rng.choice(texts)] if self.rng.random() < 0.8 else ['"other"'])

    def new(self):
        """A good event as an object: `data` is Raw, everything else str or Raw."""
        rng = self.rng
        self.number += 1
        kind = rng.choice(self.types)
        event = {"specversion": "1.0", "id": f"{self.shape.prefix}{self.number}",
                 "source": rng.choice(("api-gateway", "worker/1", "quelle-ü")) + self.shape.prefix, "type": kind,
                 "subject": rng.choice(self.shape.customers + self.shape.customers[:1] * 2),
                 "time": time_text(rng, self._instant())}
        if self.made and rng.random() < 0.03:  # another source may use the same id
            event["id"] = rng.choice(self.made)["id"]
            event["source"] = f"other-{self.number}"
        plan = self._plan()
        if plan is not None:
            event["plan"] = Raw(plan)
        if rng.random() < 0.1:
            event["datacontenttype"] = "application/json"
        data = self._data(kind)
        if rng.random() < 0.03:
            event["retraction"] = Raw(rng.choice(("false", '"false"', "null")))
        if data or rng.random() < 0.7:
            event["data"] = Raw(dump(rng, data, tidy=rng.random() < 0.5))
        return event

    def line(self, event):
        return dump(self.rng, event, tidy=self.rng.random() < 0.4).encode("utf-8")

    def good(self):
        event = self.new()
        self.made.append(event)
        return self.line(event)

    def duplicate(self):
        """The same identity and content: another time, other spelling outside `data`."""
        event = dict(self.rng.choice(self.made))
        if self.rng.random() < 0.5:
            event["time"] = time_text(self.rng, self._instant())
        return self.line(event)

    def conflict(self):
        rng = self.rng
        event = dict(rng.choice(self.made))
        change = rng.random()
        if change < 0.2 and not self.pipeline:  # in a partitioned topic the two would lie in different lanes
            event["subject"] = rng.choice(self.shape.customers)
        elif change < 0.4:
            event["type"] = rng.choice(self.types)
        elif change < 0.7:
            event["data"] = Raw(dump(rng, self._data(event["type"]), tidy=True))
        elif "data" in event:
            event["data"] = Raw(event["data"][:1] + " " + event["data"][1:])
        return self.line(event)

    def retraction(self):
        """Of an event that came, or that is still to come; at times of one that never was, or that reads otherwise."""
        rng = self.rng
        how = rng.random()
        if how < 0.25 or not self.made:
            self.made.append(self.new())  # a duplicate of it may follow: then the retraction was ahead
            event = dict(self.made[-1])
        else:
            event = dict(rng.choice(self.made[-20:] if rng.random() < 0.5 else self.made))
        if 0.25 <= how < 0.35:
            event["time"] = time_text(rng, self._instant())
        elif how < 0.4 and "data" in event:
            event["data"] = Raw(event["data"][:1] + " " + event["data"][1:])
        elif how < 0.45 and "plan" in event:
            del event["plan"]
        event["retraction"] = Raw(rng.choice(("true", "true", '"true"')))
        return self.line(event)

    def unmatched(self):
        event = self.new()
        event["type"] = "nobody.meters.this"
        return self.line(event)

    def _fault_targets(self):
        numeric = [m["value"] for m in self.shape.meters if m["aggregation"] not in ("count", "unique")]
        distinct = [m["value"] for m in self.shape.meters if m["aggregation"] == "unique" and m["value"] != "source"]
        dimensions = ["data." + name for m in self.shape.meters for name in m.get("group_by", [])]
        return numeric, distinct, dimensions

    def broken(self):
        """One fault in an otherwise good event."""
        rng = self.rng
        event = self.new()
        kind = rng.random()
        if kind < 0.45:
            return self._broken_attribute(event)
        if kind < 0.75:
            line = self._broken_value(event)
            if line is not None:
                return line
        line = self.line(event)
        text = line.decode()
        choice = rng.randrange(9)
        if choice == 0:
            return text[:rng.randrange(1, len(text) - 1)].rstrip().encode()
        if choice == 1:
            return line + rng.choice((b"}", b"x", b"{}", b",", b" 1"))
        if choice == 2:
            return text[:-1].encode() + b',"id":"again"}'
        if choice == 3:
            return text[:-1].encode() + b',"more":{"a":1,"\\u0061":2}}'
        if choice == 4:
            return text[:-1].encode() + b',"deep":' + b"[" * 64 + b"]" * 64 + b"}"
        if choice == 5:
            return text[:-1].encode() + b',"x":"' + rng.choice((b"\xff", b"\xc0\xaf", b"\xed\xa0\x80", b"\xf5\x80\x80\x80", b"\xe2\x82")) + b'"}'
        if choice == 6:
            return text[:-1].encode() + b',"data_base64":"AA=="}' if "data" in event else b"[" + line + b"]"
        if choice == 7:
            return rng.choice((b"[]", b"1", b'"event"', b"null", b"{]", b"{'a':1}", b'{"a":1,}', b'{"a":01}', b'{"a":NaN}',
                               b'{"a":+1}', b'{"a":"\t"}', b'{"a":"\\x"}', b"nothing", b'{"a" 1}', b'{"a":tru}', b"\xef\xbb\xbf{}"))
        if not self.pipeline and rng.random() < 0.02:
            return text[:-1].encode() + b',"big":"' + b"x" * (1 << 20) + b'"}'
        return text[:-1].encode() + b',"n":' + rng.choice((b"1.", b".5", b"1e", b"-", b"0x1", b"1.e5", b"--1", b"Infinity")) + b"}"

    def _broken_attribute(self, event):
        rng = self.rng
        name = rng.choice(("id", "source", "type", "subject", "time", "specversion", "retraction"))
        if name == "retraction":
            event[name] = Raw(rng.choice(("1", '"yes"', '"TRUE"', "[]", "{}", '""')))
            return self.line(event)
        how = rng.randrange(6)
        if how == 0:
            del event[name]
        elif how == 1:
            event[name] = Raw("null")
        elif how == 2:
            event[name] = Raw(rng.choice(("1", "true", "[]", "{}", "1.0")))
        elif name == "time":
            event[name] = rng.choice((
                "", "yesterday", "2026-02-29T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:60:00Z",
                "2026-01-01T00:00:00", "2026-01-01 00:00:00Z", "2026-01-01T00:00Z", "2026-01-01", "1767225600", "2026-1-1T00:00:00Z",
                "1969-12-31T23:59:59Z", "2262-01-01T00:00:00Z", "1970-01-01T00:00:00+00:01", "2026-01-01T00:00:00+24:00",
                "2026-01-01T00:00:00+01", "2026-01-01T00:00:00.Z", " 2026-01-01T00:00:00Z", "2026-01-01T00:00:00Zx",
                "2026-01-01T00:00:00+0100", "2026-00-10T00:00:00Z", "2026-04-31T00:00:00Z", "+2026-01-01T00:00:00Z"))
        elif name == "specversion":
            event[name] = rng.choice(("0.3", "1", "1.0.0", "2.0", " 1.0", ""))
        else:
            event[name] = rng.choice(("", "x" * 257, "é" * 129))
        return self.line(event)

    def _broken_value(self, event):
        rng = self.rng
        numeric, distinct, dimensions = self._fault_targets()
        bad = {"numeric": ("null", None, "true", "[]", "{}", '"abc"', '""', '"1 "', '"+1"', '"0x10"', '"1."', '".5"', '"01"', '"1e"',
                           '"NaN"', "0.0000000000001", '"1e-13"', "1e40", "170141183460469231731687304", "-170141183460469231731687303.715884105728",
                           "1e999999999999", '"١"', '"1_000"', '"-"'),
               "distinct": ("null", None, '""', "[]", "{}", "1e-13", "1e27"),
               "dimensions": ("[]", "{}", '"' + "y" * 257 + '"', '"' + "ü" * 129 + '"', "1e-13", "-1e27")}
        choices = [(path, texts) for paths, texts in ((numeric, bad["numeric"]), (distinct, bad["distinct"]),
                                                      (dimensions, bad["dimensions"])) if paths for path in paths]
        if not choices:
            return None
        path, texts = rng.choice(choices)
        event["type"] = rng.choice([m["event_type"] for m in self.shape.meters
                                    if m.get("value") == path or path[5:] in m.get("group_by", [])])
        data = self._data(event["type"])
        owner = data
        for step in path.split(".")[1:-1]:
            owner = owner.setdefault(step, {})
        text = rng.choice(texts)
        if text is None:
            owner.pop(path.split(".")[-1], None)
        else:
            owner[path.split(".")[-1]] = Raw(text)
        event["data"] = Raw(dump(rng, data, tidy=True))
        return self.line(event)


def random_lines(rng, shape, count, pipeline=False):
    """`count` lines of events in the order in which they arrive."""
    maker = EventMaker(rng, shape, pipeline)
    lines = []
    bad_share = rng.choice((0, 0.02, 0.1))
    repeat_share = rng.choice((0, 0.05, 0.2))
    retraction_share = rng.choice((0, 0.05, 0.3))
    for _ in range(count):
        kind = rng.random()
        if kind < bad_share:
            lines.append(maker.broken())
        elif kind < bad_share + 0.02:
            lines.append(maker.unmatched())
        elif kind < bad_share + 0.02 + repeat_share and maker.made:
            lines.append(maker.duplicate() if rng.random() < 0.7 else maker.conflict())
        elif rng.random() < retraction_share:
            lines.append(maker.retraction())
        else:
            lines.append(maker.good())
    if rng.random() < 0.5:  # as far out of order as can be; a repeat may then come before its first
        rng.shuffle(lines)
    return lines
