"""schemas/catalog.schema.json and `weir check` agree.

Both judge catalogs that are one change away from a full valid one: every key removed, renamed, retyped, set to values at
and beyond each limit. What the schema rejects, weir must reject. What weir rejects for a reason that one value alone shows
must be rejected by the schema; kinds of mistake that need more than one value, or arithmetic, are listed in BEYOND_SCHEMA.

Run with /usr/bin/python3 -m pytest; WEIR_ALL=1 tries every change instead of a fortieth, which WEIR_RANDOM_SEED chooses: the
commit's own where it is not set, so that the fortieth moves on as the code does and a run can be repeated. The binary is $WEIR_BINARY (default build/release/weir).
"""
import concurrent.futures
import copy
import json
import os
import pathlib
import random
import re
import subprocess
import threading

import jsonschema
import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
SCHEMAS = ROOT / "schemas"
FULL = json.loads((ROOT / "tests/unit/common/catalog_full.json").read_text())

# Kinds of mistake (common/model/catalog_internal.h) that a schema cannot see, because ...
BEYOND_SCHEMA = {
    "not_representable",  # ... it takes arithmetic: an exponent, the largest decimal
    "no_such_time",  # ... it takes a calendar: February 30th, years before 1970
    "unknown_reference",  # ... it is about another entry or about the world: meters, price books, currencies, time zones
    "duplicate",  # ... it is about two entries (the schema sees equal texts in group_by and where all the same)
    "out_of_order",  # ... it is about two values: tiers, versions, start and end, minimum and maximum
    "contradiction",  # ... it is about two members
    "never_matches",  # ... it is about a price and its meter
    "ambiguous",  # ... it is about two prices
    "overlap",  # ... it is about two contracts
    "cuts_window",  # ... it is about a contract, a calendar and a meter
    "key_clash",  # ... it is about two keys
    "within_period",  # ... it is about a phase and a calendar
    "too_many",  # ... it is counted over all files
}


def weir_binary():
    path = os.environ.get("WEIR_BINARY", str(ROOT / "build/release/weir"))
    if not os.access(path, os.X_OK):
        pytest.fail(f"{path} is missing: build it (cmake --preset release && cmake --build --preset release) or set WEIR_BINARY")
    return path


@pytest.fixture(scope="module")
def check(tmp_path_factory):
    """check(catalog) -> mistakes of `weir check`."""
    folder = tmp_path_factory.mktemp("catalog")
    binary = weir_binary()

    def run(catalog):
        path = folder / f"{threading.get_ident()}.json"
        path.write_text(json.dumps(catalog, ensure_ascii=False))
        done = subprocess.run([binary, "check", "--catalog", path, "--format", "json"], capture_output=True, timeout=60)
        answer = json.loads(done.stdout)
        assert done.returncode == (2 if answer["mistakes"] else 0), done.stderr
        return answer["mistakes"]

    return run


def validator(name):
    schema = json.loads((SCHEMAS / f"{name}.schema.json").read_text())
    jsonschema.Draft202012Validator.check_schema(schema)
    return jsonschema.Draft202012Validator(schema)


# 1. changes -----------------------------------------------------------------------------------------------------------


def places(value, path=()):
    yield path
    items = value.items() if isinstance(value, dict) else enumerate(value) if isinstance(value, list) else ()
    for key, member in items:
        yield from places(member, path + (key,))


def at(root, path):
    for key in path:
        root = root[key]
    return root


OTHER_TYPES = [None, True, False, 0, -1, 7, 2.5, "", "text", [], [1], {}, {"x": "y"}, [[]], [{}]]

STRINGS = [
    "0", "-0", "1", "-1", "1.5", "01", "1.", ".5", "+1", "1e3", "1E-3", "1e+2", "1e", "0x10", "1 ", " 1", "1,5", "NaN",
    "0.000000000001", "0.0000000000001", "0.0000000000010", "1e-12", "1e-13", "0e-99", "0.0", "0e0", "9" * 26, "9" * 27,
    "9" * 28, "170141183460469231731687303", "170141183460469231731687304", "-0.5", "∞", "１",
    "2026-01-01T00:00:00Z", "2026-01-01t00:00:00z", "2026-01-01T00:00:00.000Z", "2026-01-01T00:00:00.5Z",
    "2026-01-01T00:00:00.Z", "2026-01-01T00:00:00+01:00", "2026-01-01T00:00:00+0100", "2026-01-01", "2026-01-01 00:00:00Z",
    "2026-02-30T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-01T24:00:00Z", "2026-01-01T00:00:60Z", "1969-12-31T23:59:59Z",
    "2262-01-01T00:00:00Z", "20260-01-01T00:00:00Z", "2026-01-01T00:00:00Zx", "x2026-01-01T00:00:00Z",
    "a", "A-b.c_9", "a b", "a/b", "a:b", "ä", "a\tb", "x" * 64, "x" * 65, "x" * 256, "x" * 257,
    "data", "data.", "data.x", "data.x.", "data..x", ".data.x", "data.x.y", "data.a.b.c.d.e.f.g", "data.a.b.c.d.e.f.g.h",
    "data." + "x" * 64, "data." + "x" * 65, "data." + "x" * 60 + "." + "y" * 62, "data." + "x" * 60 + "." + "y" * 63,
    "data.a\u007fb", "data.a b", "subject", "source", "type", "id", "time", "specversion", "datacontenttype", "retraction", "dataschema",
    "data_base64", "Subject", "extension1", "a.b.c.d.e.f.g", "a.b.c.d.e.f.g.h", "x" * 60 + "." + "y" * 62,
    "x" * 60 + "." + "y" * 63,
    "count", "sum", "min", "max", "latest", "avg", "unique", "1m", "5m", "15m", "1h", "1d", "1mo", "2h",
    "per_unit", "graduated", "volume", "package", "percentage", "flat", "USD", "usd", "EUR", "XYZ", "half_even", "half_up",
    "period", "contract", "term", "in_advance", "in_arrears", "none", "second", "minimum_spend", "prepaid", "minimum_quantity", "free", "promotional", "paid",
    "day", "week", "month", "quarter", "year", "UTC", "Europe/Berlin", "Asia/Kolkata", "Nowhere/City", "/UTC", "UTC/",
    "monday", "sunday", "Monday", "04-06", "02-31", "00-06", "13-01", "04-00", "04-32", "4-6", "0406", "04-06 ",
    "20%", "5.25%", "100%", "05%", "1.%", "0.00001%", "%", "-1%", "1e1%", "a//b", "../etc", "Etc/GMT+5", "tokens", "requests", "platform", "standard",
]  # fmt: skip
INTEGERS = [1, 2, 3, 31, 32, 120, 121, 2**31 - 1, 2**31, 10**9, 10**9 + 1, -(10**9), -(10**9) - 1]

# Every key that some object knows, and some that none does.
ADDED = {
    "key": "added", "event_type": "e", "aggregation": "sum", "value": "data.v", "window": "1h", "rollup": "sum", "retractable": True,
    "group_by": ["g"], "where": {"data.w": ["x"]}, "version": 9, "currency": "USD", "rounding": "half_even",
    "effective_from": "2026-01-01T00:00:00Z", "prices": [], "fees": [], "meter": "tokens", "when": {}, "model": "flat",
    "unit_price": "1", "tiers": [{"up_to": None, "unit_price": "1"}], "up_to": "5", "flat_fee": "1",
    "flat_fee_at_zero": True, "package_size": "1", "package_price": "1", "rate": "1", "fixed_fee": "1", "amount": "1",
    "free_units": "1", "minimum_amount": "1", "maximum_amount": "99999999", "per": "period", "charged": "in_advance", "proration": "none",
    "customer": "c", "price_book": "standard", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
    "billing_period": "month", "billing_anchor": 15, "timezone": "UTC", "overrides": [], "commitments": [], "discounts": [], "quantities": [], "fee": "seat", "multiplier": "1", "type": "prepaid",
    "quantity": "1", "priority": 1, "expires_at": "2026-01-01T00:00:00Z", "overage_multiplier": "1", "rollover_fraction": "1", "rollover_expires_at": "2026-01-01T00:00:00Z", "meters": ["tokens"], "funding": "free", "price": "1",
    "low_balance": ["5"],
    "phases": [], "reason": "x", "renews": {"months": 12}, "months": 3, "rollover_months": 3, "drawdown_order": ["funding"], "packages": [], "package": "starter",
    "$schema": "x", "$comment": "x", "description": "x", "unknown": 1, "": 1, "Key": "x", "key ": "x",
}  # fmt: skip


def changes():
    """(what was done, (where, what stands there instead)): each makes a catalog that is one change away from FULL."""
    for path in places(FULL):
        value = at(FULL, path)
        label = "/".join(map(str, path))

        def changed(replacement, path=path):
            return path, replacement

        for other in OTHER_TYPES:
            if type(other) is not type(value) or other != value:
                yield f"{label} = {json.dumps(other)}", changed(other)
        if isinstance(value, str):
            for text in STRINGS:
                yield f"{label} = {text!r}", changed(text)
        elif isinstance(value, int):
            for number in INTEGERS:
                yield f"{label} = {number}", changed(number)
        elif isinstance(value, list):
            yield f"{label}: emptied", changed([])
            yield f"{label}: first twice", changed(value + value[:1])
            yield f"{label}: reversed", changed(value[::-1])
            yield f"{label}: last removed", changed(value[:-1])
            if value and isinstance(value[0], str):
                for count in (8, 9, 64, 65):
                    yield f"{label}: {count} texts", changed([f"t{i}" for i in range(count)])
            elif label.endswith("tiers"):
                for count in (64, 65):
                    tiers = [{"up_to": str(i), "unit_price": "1"} for i in range(1, count)]
                    yield f"{label}: {count} tiers", changed(tiers + [{"up_to": None, "unit_price": "1"}])
        elif isinstance(value, dict):
            for key, added in ADDED.items():
                if key not in value:
                    yield f"{label} + {key}", changed({**value, key: added})
            for key in value:
                rest = {k: v for k, v in value.items() if k != key}
                yield f"{label} - {key}", changed(rest)
                yield f"{label}: {key} renamed", changed({**rest, key + "s": value[key]})
                yield f"{label}: {key} in capitals", changed({**rest, key.upper(): value[key]})
            if label.endswith("where"):
                for text in STRINGS:
                    yield f"{label}: path {text!r}", changed({text: ["x"]})
                for count in (8, 9):
                    yield f"{label}: {count} paths", changed({f"data.p{i}": ["x"] for i in range(count)})
            if label.endswith("when"):
                for text in STRINGS:
                    yield f"{label}: dimension {text!r}", changed({text: "x"})
                for count in (8, 9):
                    yield f"{label}: {count} dimensions", changed({f"d{i}": "x" for i in range(count)})


def seed():
    """Which fortieth of the changes: a word that any run can be given again."""
    if given := os.environ.get("WEIR_RANDOM_SEED"):
        return given
    done = subprocess.run(["git", "-C", ROOT, "rev-parse", "--short=12", "HEAD"], capture_output=True, text=True, check=False)
    return done.stdout.strip() or "3"  # no repository: an unpacked archive


def apply(path, replacement):
    if not path:
        return replacement
    catalog = copy.deepcopy(FULL)
    at(catalog, path[:-1])[path[-1]] = replacement
    return catalog


# 2. agreement ---------------------------------------------------------------------------------------------------------


def judge_all(schema, check, cases):
    """cases: (label, catalog). (does the schema reject it, a sentence or None when both say the same) for each. Processes
    of weir side by side, ahead of the schema: each of them mostly waits to be started."""
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        mistakes = pool.map(check, [catalog for _, catalog in cases])
        return [judge(schema, found, label, catalog) for (label, catalog), found in zip(cases, mistakes)]


def judge(schema, mistakes, label, catalog):
    """(does the schema reject it, disagreement or None)"""
    errors = [error.json_path + ": " + error.message[:200] for error in schema.iter_errors(catalog)]
    structural = [mistake for mistake in mistakes if mistake["kind"] not in BEYOND_SCHEMA]
    if errors and not mistakes:
        return True, f"{label}: the schema rejects, weir accepts: {errors}"
    if structural and not errors:
        return False, f"{label}: weir rejects, the schema accepts: {structural}"
    return bool(errors), None


def test_the_full_catalog_is_valid_to_both(check):
    assert check(FULL) == []
    validator("catalog").validate(FULL)


def test_schema_and_check_agree_on_every_single_change(check):
    schema = validator("catalog")
    cases = {}
    everything = list(changes())
    if not os.environ.get("WEIR_ALL"):  # all of them take minutes
        everything = random.Random(seed()).sample(everything, len(everything) // 40)
    for label, change in everything:
        catalog = apply(*change)
        cases.setdefault(json.dumps(catalog), (label, catalog))
    judged = judge_all(schema, check, list(cases.values()))
    wrong = [problem for _, problem in judged if problem]
    rejected = sum(is_rejected for is_rejected, _ in judged)
    assert not wrong, f"{len(wrong)} of {len(cases)}, WEIR_RANDOM_SEED={seed()}:\n" + "\n".join(wrong[:40])
    assert rejected > 250 and len(cases) - rejected > 25


def test_schema_and_check_agree_on_parts_alone(check):
    """Small catalogs, in which most of FULL is missing."""
    schema = validator("catalog")
    cases = [(f"{size} {key}", {k: v for k, v in list(FULL.items())[:size] if k != key}) for size in range(len(FULL)) for key in FULL]
    assert [problem for _, problem in judge_all(schema, check, cases) if problem] == []


def test_every_property_has_a_description():
    """An editor shows it as help."""

    def walk(schema, place):
        if isinstance(schema, dict):
            for name, property_ in schema.get("properties", {}).items():
                if isinstance(property_, dict) and "if" not in place and "then" not in place and "contains" not in place:
                    assert property_.get("description"), f"{'/'.join(place)}: {name} has no description"
            for key, value in schema.items():
                walk(value, place + [key])
        elif isinstance(schema, list):
            for index, value in enumerate(schema):
                walk(value, place + [str(index)])

    for path in sorted(SCHEMAS.glob("*.schema.json")):
        walk(json.loads(path.read_text()), [path.name])


def test_kinds_of_mistake_are_those_of_the_code():
    text = (ROOT / "common/model/catalog_internal.h").read_text()
    kinds = dict(re.findall(r"X\([A-Z_]+, ([a-z_]+), (true|false)\)", text))
    assert {kind for kind, structural in kinds.items() if structural == "false"} == BEYOND_SCHEMA | {"unreadable", "syntax"}


# 3. the other schemas -------------------------------------------------------------------------------------------------

EVENT = {
    "specversion": "1.0", "id": "8f0c", "source": "api-gateway", "type": "llm.completion", "subject": "acme",
    "time": "2026-01-05T10:59:59.123Z", "data": {"tokens": 1834, "model": "large"}, "extension": "x",
}  # fmt: skip
LINE_ITEM = {
    "customer": "acme", "contract": "acme-2026", "item": "tokens", "meter": "tokens", "dimensions": {"model": "large"},
    "period_start": "2026-01-01T00:00:00Z", "period_end": "2026-02-01T00:00:00Z", "window_start": "2026-01-05T10:00:00Z",
    "window_end": "2026-01-05T11:00:00Z", "kind": "usage", "component": "units", "price_book": "standard",
    "price_book_version": 3, "model": "graduated", "tier": 2, "quantity": "1834.000000000000",
    "unit_price": "0.000001500000", "amount": "0.002751000000", "currency": "USD", "revision": 1,
}  # fmt: skip
QUARANTINE = {
    "topic": "usage", "partition": 0, "offset": 17, "reason": "bad_time", "field": "time", "detail": "…", "event": "{}",
}  # fmt: skip


@pytest.mark.parametrize("name, good", [("event", EVENT), ("line_item", LINE_ITEM), ("quarantine", QUARANTINE)])
def test_other_schemas_accept_an_example_and_reject_each_missing_key(name, good):
    schema = validator(name)
    schema.validate(good)
    for key in schema.schema["required"]:
        assert not schema.is_valid({k: v for k, v in good.items() if k != key}), key
    for key in schema.schema["required"]:
        assert not schema.is_valid({**good, key: [1.5]}), key


def test_quarantine_reasons_are_those_of_the_code():
    text = (ROOT / "common/model/event.h").read_text()
    reasons = re.findall(r"X\([A-Z_]+, ([a-z_]+)\)", text)
    schema = json.loads((SCHEMAS / "quarantine.schema.json").read_text())
    assert schema["properties"]["reason"]["enum"] == reasons


def test_kinds_and_components_are_those_of_the_code():
    text = (ROOT / "common/model/line_item.h").read_text()
    kinds, components = (re.findall(r"X\([A-Z_]+, ([a-z_]+)\)", part) for part in text.split("WEIR_COMPONENTS(X)", 1))
    schema = json.loads((SCHEMAS / "line_item.schema.json").read_text())
    assert schema["properties"]["kind"]["enum"] == [kind for kind in kinds]
    assert schema["properties"]["component"]["enum"] == components
