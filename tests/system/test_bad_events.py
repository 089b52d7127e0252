"""More than a hundred kinds of bad event, and the odd ones that are good: each bad one lands in quarantine with its
reason, its field and its original bytes; every good one around it counts. Rules: docs/rating.md section 1."""
import base64
import json

import pytest
from harness import counts, event_bytes, read_quarantine, summary_rows, weir
from model import catalog, run

CATALOG = {
    "meters": [
        {"key": "tokens", "event_type": "use", "aggregation": "sum", "value": "data.tokens", "window": "1h", "group_by": ["model", "at.zone"]},
        {"key": "deep", "event_type": "nested", "aggregation": "max", "value": "data.a.b", "window": "1h"},
        {"key": "users", "event_type": "login", "aggregation": "unique", "value": "data.user", "window": "1d"},
        {"key": "calls", "event_type": "call", "aggregation": "count", "window": "1h"},
        {"key": "both-sum", "event_type": "both", "aggregation": "sum", "value": "data.n", "window": "1h"},
        {"key": "both-count", "event_type": "both", "aggregation": "count", "window": "1h"}],
    "price_books": [{"key": "b", "version": 1, "currency": "USD", "effective_from": "1970-01-01T00:00:00Z", "prices": [
        {"meter": key, "model": "per_unit", "unit_price": "1"} for key in ("tokens", "deep", "users", "calls", "both-sum", "both-count")]}],
    "default_contract": {"price_book": "b", "billing_period": "month", "timezone": "UTC"}}

GOOD = {"specversion": "1.0", "id": "ID", "source": "test", "type": "call", "subject": "acme", "time": "2026-01-05T10:00:00Z"}
ABSENT = object()
KEPT = 1 << 20  # the quarantine keeps this much of an event that is too large


class Raw(str):
    """JSON text to stand as it is."""


def made(**changes):
    """Bytes of a good event with some members changed, added or left out."""
    members = {name: value for name, value in {**GOOD, **changes}.items() if value is not ABSENT}
    return ("{" + ",".join(f"{json.dumps(name)}:{value if isinstance(value, Raw) else json.dumps(value, ensure_ascii=False)}"
                           for name, value in members.items()) + "}").encode("utf-8", "surrogatepass")


def use(tokens, **more):
    """An event of the grouped sum whose tokens are a JSON text."""
    members = {"tokens": tokens, **more}
    return made(type="use", data=Raw("{" + ",".join(f'"{n}":{t}' for n, t in members.items() if t is not ABSENT) + "}"))


def login(text):
    return made(type="login", data=Raw('{"user":' + text + "}"))


def around(tail):
    """A good event with something more before its last brace."""
    return made()[:-1] + tail + b"}"


def attribute_cases():
    for name in ("id", "source", "type", "subject", "time", "specversion"):
        yield f"no {name}", made(**{name: ABSENT}), "missing_field", name
        yield f"{name} is null", made(**{name: None}), "missing_field", name
        for kind, text in (("a number", "1"), ("true", "true"), ("an array", '["x"]'), ("an object", "{}")):
            yield f"{name} is {kind}", made(**{name: Raw(text)}), "wrong_type", name
    for name in ("id", "source", "type", "subject"):
        yield f"{name} is empty", made(**{name: ""}), "empty_field", name
        yield f"{name} has 257 bytes", made(**{name: "x" * 257}), "too_long", name
        yield f"{name} has 258 bytes of two-byte characters", made(**{name: "é" * 129}), "too_long", name
    for version in ("0.3", "1", "1.0.1", "2.0", "v1.0", " 1.0"):
        yield f"specversion {version!r}", made(specversion=version), "bad_specversion", "specversion"


def time_cases():
    for text in ("", "now", "2026-01-05", "2026-01-05T10:00:00", "2026-01-05 10:00:00Z", "2026-01-05T10:00Z", "20260105T100000Z",
                 "2026-1-05T10:00:00Z", "2026-01-05T1:00:00Z", "2026-02-29T10:00:00Z", "2100-02-29T10:00:00Z", "2026-04-31T10:00:00Z",
                 "2026-00-05T10:00:00Z", "2026-13-05T10:00:00Z", "2026-01-00T10:00:00Z", "2026-01-32T10:00:00Z", "2026-01-05T24:00:00Z",
                 "2026-01-05T10:60:00Z", "2026-01-05T10:00:60Z", "2026-01-05T10:00:61Z", "2026-01-05T10:00:00.Z", "2026-01-05T10:00:00,5Z",
                 "2026-01-05T10:00:00.1234567890Z", "2026-01-05T10:00:00+24:00", "2026-01-05T10:00:00+01:60", "2026-01-05T10:00:00+0100",
                 "2026-01-05T10:00:00+1:00", "2026-01-05T10:00:00+01", "2026-01-05T10:00:00ZZ", " 2026-01-05T10:00:00Z",
                 "2026-01-05T10:00:00Z ", "1969-12-31T23:59:59.999999999Z", "1970-01-01T00:59:59+01:00", "2262-01-01T00:00:00Z",
                 "2261-12-31T23:59:59-00:01", "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "12026-01-05T10:00:00Z",
                 "-2026-01-05T10:00:00Z", "٢٠٢٦-01-05T10:00:00Z"):
        yield f"time {text!r}", made(time=text), "bad_time", "time"


def number_cases():
    yield "tokens missing", use(ABSENT), "missing_field", "data.tokens"
    yield "tokens null", use("null"), "missing_field", "data.tokens"
    yield "no data", made(type="use"), "missing_field", "data.tokens"
    yield "data null", made(type="use", data=None), "missing_field", "data.tokens"
    yield "data is a string", made(type="use", data="tokens"), "missing_field", "data.tokens"
    yield "data is an array", made(type="use", data=[{"tokens": 1}]), "missing_field", "data.tokens"
    yield "a path through a number", made(type="nested", data={"a": 1}), "missing_field", "data.a.b"
    yield "a path through an array", made(type="nested", data={"a": [{"b": 1}]}), "missing_field", "data.a.b"
    yield "the end of a path is null", made(type="nested", data={"a": {"b": None}}), "missing_field", "data.a.b"
    for text in ("true", "false", "[]", "[1]", "{}", '{"value":1}', '""', '"abc"', '" 1"', '"1 "', '"+1"', '"01"', '"-01"', '"1."', '".5"',
                 '"1e"', '"1e+"', '"0x10"', '"1,5"', '"1_000"', '"NaN"', '"Infinity"', '"-"', '"--1"', '"1.2.3"', '"\\u0661"', '"1\\n"'):
        yield f"tokens {text}", use(text), "wrong_type", "data.tokens"
    for text in ("0.0000000000001", "1e-13", "1.0000000000001", '"0.0000000000001"', "170141183460469231731687303.715884105728",
                 "-170141183460469231731687303.715884105728", "170141183460469231731687304", "1e27", "-1e27", "1e400", "1e-400",
                 '"1e99999999999999999999"', "9" * 400, "0." + "0" * 400 + "1"):
        yield f"tokens {text[:50]}", use(text), "number_range", "data.tokens"
    yield "one of two meters cannot read it", made(type="both", data={"n": "x"}), "wrong_type", "data.n"
    yield "one of two meters misses its value", made(type="both", data={}), "missing_field", "data.n"


def text_cases():
    for text, reason in (("[]", "wrong_type"), ("{}", "wrong_type"), ('["large"]', "wrong_type"), ('"' + "x" * 257 + '"', "too_long"),
                         ('"' + "é" * 129 + '"', "too_long"), ("1e-13", "number_range"), ("1e27", "number_range")):
        yield f"model {text[:20]}…", use("1", model=text), reason, "data.model"
    yield "a nested dimension is an object", use("1", at='{"zone":{}}'), "wrong_type", "data.at.zone"
    for text, reason in (("null", "missing_field"), ('""', "missing_field"), ("[]", "wrong_type"), ("{}", "wrong_type"), ("1e-13", "number_range")):
        yield f"user {text}", login(text), reason, "data.user"
    yield "user missing", made(type="login", data={}), "missing_field", "data.user"


def json_cases():
    good = made()
    for name, line in (
            ("a word", b"hello"), ("an open brace", b"{"), ("a closing brace", b"}"), ("an array", b"[" + good + b"]"), ("an empty array", b"[]"),
            ("a string", b'"event"'), ("a number", b"42"), ("null", b"null"), ("true", b"true"), ("cut in half", good[:len(good) // 2]),
            ("cut by one byte", good[:-1]), ("one brace too many", good + b"}"), ("two on a line", good + good), ("a comma at the end", good + b","),
            ("a number at the end", good + b" 1"), ("a comma before the brace", good[:-1] + b",}"), ("two commas", good.replace(b",", b",,", 1)),
            ("no colon", good.replace(b'"id":', b'"id" ')), ("single quotes", good.replace(b'"', b"'")), ("a name without quotes", good.replace(b'"id"', b"id")),
            ("a comment", good[:-1] + b"/* x */}"), ("a byte order mark", b"\xef\xbb\xbf" + good), ("a form feed between", b"{\x0c" + good[1:]),
            ("UTF-16", made()[:1].decode().encode("utf-16-le") + b"x"), ("CSV", b"ID,test,call,acme,2026-01-05T10:00:00Z")):
        yield name, line, "malformed_json", None
    for text in (b"01", b"1.", b".5", b"+1", b"1e", b"1e+", b"-", b"0x1", b"1_0", b"NaN", b"Infinity", b"-Infinity", b"tru", b"nul", b"True",
                 b"'x'", b'"\\x41"', b'"\\u12G4"', b'"\\u12"', b'"a\tb"', b'"a\x01b"', b'"open', b'"\\ud800"', b'"\\udc00\\ud800"', b"[1,]", b"[1 2]",
                 b"[", b"{", b'{"a"}', b'{"a":}', b"{1:2}", b"undefined", b""):
        yield f"a member {text!r}", around(b',"extra":' + text), "malformed_json", None
    yield "data and data_base64", made(data={}, data_base64="e30="), "malformed_json", None
    for name, text in (("a stray byte", b"\xff"), ("a lone continuation", b"\x80"), ("cut short", b"\xe2\x82"), ("overlong", b"\xc0\xaf"),
                       ("a surrogate", b"\xed\xa0\x80"), ("beyond Unicode", b"\xf4\x90\x80\x80"), ("Latin-1", "é".encode("latin-1"))):
        yield f"UTF-8: {name}", around(b',"extra":"' + text + b'"'), "bad_encoding", None
        yield f"UTF-8 in the subject: {name}", made().replace(b'"acme"', b'"acme' + text + b'"'), "bad_encoding", None
    yield "a NUL in the id", made(id=Raw('"a\\u0000b"')), "bad_encoding", None
    yield "a NUL in the subject", made(subject=Raw('"\\u0000"')), "bad_encoding", None
    yield "a NUL in a dimension", use("1", model='"a\\u0000"'), "bad_encoding", None
    yield "an id twice", around(b',"id":"other"'), "duplicate_key", None
    yield "an id twice with the same value", around(b',"id":"ID"'), "duplicate_key", None
    yield "an id twice, once escaped", around(b',"\\u0069d":"ID"'), "duplicate_key", None
    yield "data twice", around(b',"data":{},"data":{}'), "duplicate_key", None
    yield "a key twice within data", use("1", tokens2="1").replace(b"tokens2", b"tokens"), "duplicate_key", None
    yield "a key twice deep within an array", around(b',"extra":[[{"a":1,"b":2,"a":3}]]'), "duplicate_key", None
    yield "an empty key twice", around(b',"extra":{"":1,"":2}'), "duplicate_key", None
    yield "65 levels of arrays", around(b',"extra":' + b"[" * 64 + b"]" * 64), "too_deep", None
    yield "65 levels of objects", around(b',"extra":' + b'{"a":' * 64 + b"1" + b"}" * 64), "too_deep", None
    yield "levels without end", around(b',"extra":' + b"[" * 100_000), "too_deep", None
    yield "one byte over 1 MiB", around(b',"extra":"' + b"x" * ((1 << 20) + 1 - len(around(b',"extra":""'))) + b'"'), "too_large", None
    yield "2 MiB", around(b',"longer":"' + b"x" * (2 << 20) + b'"'), "too_large", None


def unique(cases):
    """Give each event its own id, so that none is another's duplicate."""
    for number, (name, line, *rest) in enumerate(cases):
        yield pytest.param(line.replace(b'"ID"', b'"ID%06d"' % number) if b'"ID"' in line and len(line) < 1 << 20 else line, *rest, id=name)


BAD = list(unique([*attribute_cases(), *time_cases(), *number_cases(), *text_cases(), *json_cases()]))

ODD_BUT_GOOD = list(unique([
    *((f"time {text}", made(time=text)) for text in (
        "1970-01-01T00:00:00Z", "1970-01-01T00:00:00.000000000-00:00", "2261-12-31T23:59:59.999999999Z", "2024-02-29T23:59:59.9+05:30",
        "2000-02-29t00:00:00z", "2026-01-05T10:00:00+23:59", "2026-01-05T10:00:00-23:59", "1969-12-31T23:59:59-00:01",
        "2262-01-01T00:00:00+00:01")),
    # The largest and the smallest in one window, so that no sum of windows is out of range for a while, whatever their order.
    *((f"tokens {text[:40]}", use(text, model=json.dumps("window 9" if "170141" in text else f"window {number}"))) for number, text in enumerate((
        "0", "-0", "1.50", "15e-1", '"15E-1"', "1e+2", "0e999999999999999999999", "0.000000000001", "1.000000000001000000000000000000",
        "170141183460469231731687303.715884105727", "-170141183460469231731687303.715884105727", '"-1"', "1000000e-18",
        "0.0001e-8", "1" + "0" * 30 + "e-30", '"\\u0031"'))),
    *((f"model {text[:20]}", use("1", model=text)) for text in (
        "null", '""', "true", "1.50", '"' + "x" * 256 + '"', '"' + "é" * 128 + '"', '"\\ud83d\\ude80"', '"a\\/b\\"\\\\"', '"\\u0001"')),
    ("nested dimension through a string", use("1", at='"zone"')),
    ("a long user", login('"' + "u" * 5000 + '"')),
    ("count without data", made()), ("count with data of any kind", made(data=Raw("[1,[2]]"))),
    ("members unknown", around(b',"extra":{"a":[1,2,{"b":null}]},"traceparent":"00-1"')),
    ("64 levels", around(b',"extra":' + b"[" * 63 + b"]" * 63)),
    ("exactly 1 MiB", around(b',"extra":"' + b"x" * ((1 << 20) - len(around(b',"extra":""'))) + b'"')),
    ("a number no 64 bits hold, where nobody reads", around(b',"extra":' + b"9" * 500)),
    ("1e400 where nobody reads", around(b',"extra":[1e400,-1e-400]')),
    ("white space everywhere", made().replace(b",", b" ,\t ").replace(b":", b" : ", 1).replace(b"{", b"\t{ ") + b" \t"),
    ("a carriage return at the end", made() + b"\r"),
    ("256 bytes of id and subject", made(id=Raw('"' + "i" * 256 + '"'), subject="é" * 128)),
    ("an escaped name", made().replace(b'"subject"', b'"\\u0073ubject"')),
    ("a slash escaped", made(source=Raw('"a\\/b"'))), ("keys that differ in case", around(b',"ID":"x","Id":"y"'))]))


def fresh(number):
    return made(id=f"good-{number}", subject="neighbour")


def lines():
    """Each bad event between two good ones, and the odd good ones after them."""
    result = [fresh(0)]
    for number, case in enumerate(BAD, 1):
        result += [case.values[0], fresh(number)]
    return result + [case.values[0] for case in ODD_BUT_GOOD]


class Rated:
    def __init__(self, folder):
        (folder / "catalog.json").write_text(json.dumps(CATALOG))
        (folder / "events.ndjson").write_bytes(b"".join(line + b"\n" for line in lines()))
        done = weir("rate", "--catalog", folder / "catalog.json", "--format", "csv", "--summary", "--quarantine", folder / "bad.ndjson",
                    folder / "events.ndjson")
        self.counts = counts(done.stderr)
        self.rows, _order = summary_rows(done.stdout)
        self.records = {}
        for record in read_quarantine(folder / "bad.ndjson"):
            self.records.setdefault(event_bytes(record), []).append(record)
        self.topic = str(folder / "events.ndjson")


@pytest.fixture(scope="module")
def rated(tmp_path_factory):
    return Rated(tmp_path_factory.mktemp("bad"))


@pytest.fixture(scope="module")
def model():
    return run.run(catalog.Catalog(CATALOG), lines())


def test_there_are_a_hundred_kinds():
    assert len(BAD) >= 100
    assert len({case.values[0][:KEPT] for case in BAD}) == len(BAD)


@pytest.mark.parametrize("line, reason, field", BAD)
def test_quarantine(rated, line, reason, field):
    records = rated.records.get(line[:KEPT], [])
    assert len(records) == 1, "not in quarantine" if not records else "more than once in quarantine"
    assert (records[0]["reason"], records[0]["field"] or None) == (reason, field) if field else records[0]["reason"] == reason
    assert records[0]["detail"]


@pytest.mark.parametrize("line", ODD_BUT_GOOD)
def test_odd_but_good(rated, line):
    assert line not in rated.records, rated.records[line]


def test_all_good_ones_count(rated):
    good = len(BAD) + 1 + len(ODD_BUT_GOOD)
    assert rated.counts == {"read": len(BAD) + good, "counted": good, "duplicate": 0, "unmatched": 0, "retracted": 0, "unpriced": 0, "quarantined": len(BAD)}
    neighbour = [row for key, row in rated.rows.items() if key[0] == "neighbour"]
    assert [row[0] for row in neighbour] == [f"{len(BAD) + 1}.000000000000"]


def is_text(data):
    try:
        return "\0" not in data.decode("utf-8")
    except UnicodeDecodeError:
        return False


def test_the_record_says_where(rated):
    for number, case in enumerate(BAD):
        record = rated.records[case.values[0][:KEPT]][0]
        assert record["topic"].endswith("events.ndjson") and record["partition"] == 0
        assert record["offset"] == 2 * number + 2, f"{case.id}: the line's number, from 1"
        assert ("event" in record) != ("event_base64" in record)
        if "event_base64" in record:
            assert not is_text(base64.b64decode(record["event_base64"])), case.id


def test_a_value_that_takes_a_sum_out_of_range(tmp_path):
    """The window holds as much as 128 bits; what does not fit in is kept out of it, and its id may come again."""
    most = "170141183460469231731687303.710000000000"  # the bound is …303.715884105728
    values = [(most, "a"), ("0.005884105728", "b"), ("-1", "c"), ("0.5", "b"), ("0.505884105728", "d"), ("0.5", "e")]
    events = [made(type="use", id=name, data=Raw(f'{{"tokens":{text}}}')) for text, name in values]
    (tmp_path / "catalog.json").write_text(json.dumps(CATALOG))
    (tmp_path / "events.ndjson").write_bytes(b"".join(line + b"\n" for line in events))
    done = weir("rate", "--catalog", tmp_path / "catalog.json", "--format", "csv", "--summary", "--quarantine", tmp_path / "bad.ndjson",
                tmp_path / "events.ndjson")
    rows, _order = summary_rows(done.stdout)
    assert [row[0] for row in rows.values()] == [most]
    assert [(event_bytes(r), r["reason"], r["field"]) for r in read_quarantine(tmp_path / "bad.ndjson")] == [
        (events[1], "number_range", "data.tokens"), (events[4], "number_range", "data.tokens")]
    outcome = run.run(catalog.Catalog(CATALOG), events)
    assert [bad.line for bad in outcome.bad] == [events[1], events[4]] and outcome.rows[0][6] == most


def test_a_value_that_takes_a_sum_out_of_range_bills_no_fee(tmp_path):
    """The event began windows of other meters, in a period that has no other event: it is as if it had not come."""
    most = "170000000000000000000000000"
    document = {
        "meters": [{"key": "calls", "event_type": "use", "aggregation": "count", "window": "1h"},
                   {"key": "tokens", "event_type": "use", "aggregation": "sum", "value": "data.tokens", "window": "1mo"}],
        "price_books": [{"key": "b", "version": 1, "currency": "USD", "effective_from": "1970-01-01T00:00:00Z", "prices": [
            {"meter": "calls", "model": "per_unit", "unit_price": "1"}],
            "fees": [{"key": "platform", "amount": "99", "per": "period", "charged": "in_arrears"}]}],
        "default_contract": {"price_book": "b", "billing_period": "day", "timezone": "UTC"}}
    events = [made(type="use", id=name, time=f"2026-01-{day:02}T10:00:00Z", data=Raw(f'{{"tokens":{text}}}'))
              for text, name, day in ((most, "a", 5), (most, "b", 9), ("1", "b", 7), (most, "c", 3))]
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    (tmp_path / "events.ndjson").write_bytes(b"".join(line + b"\n" for line in events))
    done = weir("rate", "--catalog", tmp_path / "catalog.json", "--format", "csv", "--summary", "--quarantine", tmp_path / "bad.ndjson",
                tmp_path / "events.ndjson")
    rows, _order = summary_rows(done.stdout)
    days = [f"2026-01-{day:02}T00:00:00Z" for day in (1, 5, 7)]  # the window of the whole month begins on the first
    assert sorted(key[2] for key in rows if key[4] == "platform") == days
    assert [event_bytes(r) for r in read_quarantine(tmp_path / "bad.ndjson")] == [events[1], events[3]]
    outcome = run.run(catalog.Catalog(document), events)
    assert sorted(row[2] for row in outcome.rows if row[4] == "platform") == days


def test_a_total_that_leaves_the_range_for_a_while(tmp_path):
    """Each window fits, and so do all of them together: in which order they are rated decides nothing. What does not fit in
    the end stops the run, and says which window."""
    most = "100000000000000000000000000"
    signs = {"one": ("", "", "-"), "two": ("-", "", ""), "three": ("", "", "-", "-", ""), "four": ("", "-")}
    events = [made(type="use", id=f"{customer}-{hour}", subject=customer, time=f"2026-01-05T{hour:02}:00:00Z",
                   data=Raw(f'{{"tokens":{sign}{most}}}')) for customer, row in signs.items() for hour, sign in enumerate(row)]
    (tmp_path / "catalog.json").write_text(json.dumps(CATALOG))

    def rate(lines):
        (tmp_path / "events.ndjson").write_bytes(b"".join(line + b"\n" for line in lines))
        return weir("rate", "--catalog", tmp_path / "catalog.json", "--format", "csv", "--summary", tmp_path / "events.ndjson", check=False)
    done = rate(events)
    assert done.returncode == 0, done.stderr
    rows, _order = summary_rows(done.stdout)
    quantity = {key[0]: row[:2] for key, row in rows.items()}
    assert {customer: row[0] for customer, row in quantity.items() if float(row[0])} == dict.fromkeys(("one", "two", "three"), most + ".000000000000")
    assert counts(done.stderr)["counted"] == len(events) and f" windows={len(events)} " in done.stderr.decode()
    done = rate(events + [made(type="use", id="more", subject="one", time="2026-01-05T09:00:00Z", data=Raw(f'{{"tokens":{most}}}'))])
    assert done.returncode == 2
    assert b"customer 'one', meter 'tokens', window 2026-01-05T" in done.stderr and b"does not fit" in done.stderr, done.stderr


@pytest.mark.parametrize("line, reason, field", BAD)
def test_the_model_agrees_on_bad(model, line, reason, field):
    assert [(bad.reason, bad.field if field else None) for bad in model.bad if bad.line == line] == [(reason, field)]


def test_the_model_agrees_on_good(model):
    assert [bad.line for bad in model.bad] == [case.values[0] for case in BAD]
