"""The model itself: peers' published examples, and each rule of docs/rating.md on cases worked out by hand."""
import decimal
import json
import pathlib
import random
import subprocess
import sys

import pytest

from model import catalog, events, exact, generate, instants, pricing, run

HERE = pathlib.Path(__file__).resolve().parent
PEERS = json.loads((HERE.parent / "data" / "peer_examples.json").read_text(encoding="utf-8"))["examples"]


def number(text):
    return exact.parse(text)


def components(price, quantity, count=1, multiplier="1"):
    """{(component, tier): (quantity, amount)} as plain texts, lines of nothing left out."""
    rated = pricing.rate(price, number(quantity), count, number(multiplier))
    return {key: tuple(map(exact.shortest, line)) for key, line in rated.components.items() if any(line)}


@pytest.mark.parametrize("example", PEERS, ids=lambda example: example["name"])
def test_peer_example(example):
    rated = pricing.rate(example["price"], number(example["quantity"]), example["events"], number(example["multiplier"]))
    assert exact.shortest(rated.amount()) == example["amount"], example["source"]
    assert sum(line[0] for line in rated.components.values()) == number(example["quantity"])


# 5. price(Q, N)

TIERS = [{"up_to": "10", "unit_price": "1", "flat_fee": "5"}, {"up_to": "20", "unit_price": "0.5"},
         {"up_to": None, "unit_price": "0.1", "flat_fee": "2"}]
AT_ZERO = [dict(TIERS[0], flat_fee_at_zero=True)] + TIERS[1:]


@pytest.mark.parametrize("price, quantity, count, expected", [
    ({"model": "per_unit", "unit_price": "2"}, "3", 1, {("units", 1): ("3", "6")}),
    ({"model": "per_unit", "unit_price": "2"}, "-3", 1, {("units", 1): ("-3", "0")}),
    ({"model": "per_unit", "unit_price": "2"}, "0", 1, {}),
    ({"model": "per_unit", "unit_price": "2", "free_units": "10"}, "4", 1, {("free_units", 0): ("4", "0")}),
    ({"model": "per_unit", "unit_price": "2", "free_units": "10"}, "-4", 1, {("free_units", 0): ("-4", "0")}),
    ({"model": "per_unit", "unit_price": "2", "free_units": "10"}, "14", 1,
     {("free_units", 0): ("10", "0"), ("units", 1): ("4", "8")}),
    ({"model": "graduated", "tiers": TIERS}, "10", 1, {("units", 1): ("10", "10"), ("flat_fee", 1): ("0", "5")}),
    ({"model": "graduated", "tiers": TIERS}, "25", 1, {
        ("units", 1): ("10", "10"), ("flat_fee", 1): ("0", "5"), ("units", 2): ("10", "5"), ("units", 3): ("5", "0.5"),
        ("flat_fee", 3): ("0", "2")}),
    ({"model": "graduated", "tiers": TIERS}, "-1", 1, {("units", 1): ("-1", "0")}),
    ({"model": "graduated", "tiers": AT_ZERO}, "-1", 1, {("units", 1): ("-1", "0"), ("flat_fee", 1): ("0", "5")}),
    ({"model": "graduated", "tiers": TIERS, "free_units": "5"}, "17", 1, {
        ("free_units", 0): ("5", "0"), ("units", 1): ("10", "10"), ("flat_fee", 1): ("0", "5"), ("units", 2): ("2", "1")}),
    ({"model": "volume", "tiers": TIERS}, "20", 1, {("units", 2): ("20", "10")}),
    ({"model": "volume", "tiers": TIERS}, "20.000000000001", 1,
     {("units", 3): ("20.000000000001", "2"), ("flat_fee", 3): ("0", "2")}),
    ({"model": "volume", "tiers": TIERS, "free_units": "15"}, "20", 1,
     {("free_units", 0): ("15", "0"), ("units", 1): ("5", "5"), ("flat_fee", 1): ("0", "5")}),
    ({"model": "volume", "tiers": AT_ZERO}, "0", 0, {("flat_fee", 1): ("0", "5")}),
    ({"model": "volume", "tiers": TIERS}, "-2", 1, {("units", 1): ("-2", "0")}),
    ({"model": "package", "package_size": "10", "package_price": "3"}, "10", 1, {("package", 1): ("10", "3")}),
    ({"model": "package", "package_size": "10", "package_price": "3"}, "10.000000000001", 1, {("package", 1): ("10.000000000001", "6")}),
    ({"model": "percentage", "rate": "0.029", "fixed_fee": "0.3"}, "100", 4,
     {("units", 1): ("100", "2.9"), ("fixed_fee", 1): ("0", "1.2")}),
    ({"model": "percentage", "rate": "0.029", "fixed_fee": "0.3"}, "-5", 2,
     {("units", 1): ("-5", "0"), ("fixed_fee", 1): ("0", "0.6")}),
    ({"model": "flat", "amount": "7"}, "0.1", 1, {("flat", 1): ("0.1", "7")}),
    ({"model": "flat", "amount": "7"}, "0", 3, {}),
    ({"model": "flat", "amount": "7", "free_units": "1"}, "1", 1, {("free_units", 0): ("1", "0")}),
    ({"model": "per_unit", "unit_price": "1", "minimum_amount": "10"}, "3", 1,
     {("units", 1): ("3", "3"), ("minimum", 0): ("0", "7")}),
    ({"model": "per_unit", "unit_price": "1", "minimum_amount": "10"}, "0", 1, {}),
    ({"model": "per_unit", "unit_price": "0", "minimum_amount": "10"}, "-1", 1, {("units", 1): ("-1", "0")}),
    ({"model": "percentage", "rate": "0", "fixed_fee": "1", "minimum_amount": "10"}, "0", 2,
     {("fixed_fee", 1): ("0", "2"), ("minimum", 0): ("0", "8")}),
    ({"model": "graduated", "tiers": AT_ZERO, "minimum_amount": "10"}, "0", 0,
     {("flat_fee", 1): ("0", "5"), ("minimum", 0): ("0", "5")}),
    ({"model": "per_unit", "unit_price": "1", "maximum_amount": "10"}, "30", 1,
     {("units", 1): ("30", "30"), ("maximum", 0): ("0", "-20")}),
    ({"model": "per_unit", "unit_price": "0.000000000001"}, "0.5", 1, {("units", 1): ("0.5", "0")}),  # half to even
    ({"model": "per_unit", "unit_price": "0.000000000001"}, "1.5", 1, {("units", 1): ("1.5", "0.000000000002")}),
    ({"model": "per_unit", "unit_price": "0.000000000001"}, "2.5", 1, {("units", 1): ("2.5", "0.000000000002")}),
])
def test_price(price, quantity, count, expected):
    assert components(price, quantity, count) == expected


def test_multiplier_spares_limits_and_sizes():
    price = {"model": "package", "package_size": "10", "package_price": "3", "free_units": "5", "maximum_amount": "4"}
    assert components(price, "25", multiplier="0.5") == {("free_units", 0): ("5", "0"), ("package", 1): ("20", "3")}
    assert components({"model": "graduated", "tiers": TIERS}, "1", multiplier="0.5") == {
        ("units", 1): ("1", "0.5"), ("flat_fee", 1): ("0", "2.5")}
    # the price is rounded to 12 places before it meets the quantity
    assert components({"model": "per_unit", "unit_price": "0.000000000003"}, "1000", multiplier="0.5") == {
        ("units", 1): ("1000", "0.000000002")}


# 1. Numbers, texts, times, content

@pytest.mark.parametrize("text, value", [("1.50", "1.5"), ("15e-1", "1.5"), ("-0", "0"), ("0e99999999999999999999", "0"),
                                         ("1E+2", "100"), ("0.0000000000010000", "0.000000000001"), ("12e-12", "0.000000000012"),
                                         ("170141183460469231731687303.715884105727",) * 2,
                                         ("-170141183460469231731687303.715884105727",) * 2])
def test_number(text, value):
    assert exact.shortest(exact.parse(text)) == value


@pytest.mark.parametrize("text", ["1e-13", "0.0000000000001", "170141183460469231731687303.715884105728", "1e27", "1e999999999999"])
def test_number_out_of_range(text):
    with pytest.raises(exact.OutOfRange):
        exact.parse(text)


@pytest.mark.parametrize("text", ["", "+1", "01", "1.", ".5", "1e", "0x1", " 1", "1 ", "١", "NaN", "-", "1_0", "--1", "1e+"])
def test_not_a_number(text):
    with pytest.raises(exact.NotANumber):
        exact.parse(text)


def test_numbers_against_decimal():
    rng = random.Random(7)
    context = decimal.Context(prec=100, rounding=decimal.ROUND_HALF_EVEN)
    unit = decimal.Decimal(10) ** -12
    for _ in range(5000):
        a, b = (rng.randrange(-10 ** rng.randrange(1, 36), 10 ** rng.randrange(1, 36)) for _ in range(2))
        product = context.multiply(decimal.Decimal(a), decimal.Decimal(b)).scaleb(-24, context).quantize(unit, context=context)
        assert exact.multiply(a, b) == int(product.scaleb(12, context))
        count = rng.randrange(1, 1000)
        half = context.divide(decimal.Decimal(a), count).to_integral_value(decimal.ROUND_HALF_EVEN)
        assert exact.divide(a, count) == int(half)
        assert exact.parse(exact.shortest(a)) == a
        assert exact.invoice(a, 2, True) == str(decimal.Decimal(a).scaleb(-12, context).quantize(
            decimal.Decimal("0.01"), decimal.ROUND_HALF_UP, context)).replace("-0.00", "0.00")


@pytest.mark.parametrize("text, seconds", [
    ("1970-01-01T00:00:00Z", 0), ("2024-02-29T12:00:00+05:30", 1709188200), ("2024-02-29t12:00:00z", 1709208000),
    ("2261-12-31T23:59:59.999999999Z", 9214646399.999999999), ("1970-01-01T01:00:00+01:00", 0)])
def test_time(text, seconds):
    assert instants.parse_rfc3339(text) == (9214646399999999999 if "." in text else seconds * instants.NS)


@pytest.mark.parametrize("zone, kind, at, start, end", [
    ("UTC", "week", "2026-01-04T23:59:59Z", "2025-12-29T00:00:00Z", "2026-01-05T00:00:00Z"),
    ("Europe/Berlin", "day", "2026-03-29T12:00:00Z", "2026-03-28T23:00:00Z", "2026-03-29T22:00:00Z"),
    ("America/New_York", "month", "2026-03-01T04:59:59Z", "2026-02-01T05:00:00Z", "2026-03-01T05:00:00Z"),
    ("America/New_York", "quarter", "2026-01-01T05:00:00Z", "2026-01-01T05:00:00Z", "2026-04-01T04:00:00Z"),
    ("Asia/Kathmandu", "year", "2026-06-01T00:00:00Z", "2025-12-31T18:15:00Z", "2026-12-31T18:15:00Z"),
    ("Africa/Cairo", "day", "2025-04-25T12:00:00Z", "2025-04-24T22:00:00Z", "2025-04-25T21:00:00Z"),  # midnight is skipped
    ("America/Havana", "day", "2025-11-02T12:00:00Z", "2025-11-02T04:00:00Z", "2025-11-03T05:00:00Z")])  # midnight comes twice
def test_period(zone, kind, at, start, end):
    assert [instants.format_utc(t) for t in instants.period(kind, zone, instants.parse_rfc3339(at) // instants.NS)] == [start, end]


@pytest.mark.parametrize("kind, anchor, at, start, end", [
    ("week", "sunday", "2026-01-03T23:59:59Z", "2025-12-28T00:00:00Z", "2026-01-04T00:00:00Z"),
    ("month", 31, "2024-02-29T00:00:00Z", "2024-02-29T00:00:00Z", "2024-03-31T00:00:00Z"),
    ("month", 31, "2026-02-27T23:59:59Z", "2026-01-31T00:00:00Z", "2026-02-28T00:00:00Z"),
    ("quarter", "11-30", "2025-12-31T00:00:00Z", "2025-11-30T00:00:00Z", "2026-02-28T00:00:00Z"),
    ("quarter", "02-28", "2026-02-28T00:00:00Z", "2026-02-28T00:00:00Z", "2026-05-28T00:00:00Z"),
    ("year", "02-29", "2025-02-28T00:00:00Z", "2025-02-28T00:00:00Z", "2026-02-28T00:00:00Z"),
    ("year", "12-31", "2026-01-01T00:00:00Z", "2025-12-31T00:00:00Z", "2026-12-31T00:00:00Z")])
def test_anchored_period(kind, anchor, at, start, end):
    seconds = instants.parse_rfc3339(at) // instants.NS
    assert [instants.format_utc(t) for t in instants.period(kind, "UTC", seconds, anchor)] == [start, end]


def test_data_text():
    assert events.data_text(b' {"a":"data" , "\\u0064ata" :\t{"x" : [1, "}"]} , "b":1}') == '{"x" : [1, "}"]}'
    assert events.data_text(b'{"data":1.50 }') == "1.50"
    assert events.data_text(b'{"a":{"data":1}}') == ""


# 1 to 4, 6, 7. Whole runs

def event(**changes):
    fields = {"specversion": "1.0", "id": "1", "source": "s", "type": "t", "subject": "acme", "time": "2026-01-05T10:00:00Z",
              "data": {"v": 1}}
    fields.update(changes)
    return json.dumps({name: value for name, value in fields.items() if value is not None}).encode()


def series(values, **changes):
    """One event per (time, data)."""
    return [event(id=str(n), time=time, data=data, **changes) for n, (time, data) in enumerate(values)]


def book(prices, **changes):
    return {"key": "b", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z", "prices": prices, **changes}


UNIT = {"meter": "m", "model": "per_unit", "unit_price": "1"}
CONTRACT = {"key": "c", "customer": "acme", "price_book": "b", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
            "billing_period": "month", "timezone": "UTC"}
DEFAULT = {"price_book": "b", "billing_period": "month", "timezone": "UTC"}


def rate(lines, meter=None, prices=None, keep_open=False, books=None, contracts=(), default=DEFAULT):
    meter = {"key": "m", "event_type": "t", "aggregation": "sum", "value": "data.v", "window": "1h", **(meter or {})}
    meter = {name: value for name, value in meter.items() if value is not None}
    document = {"meters": [meter], "price_books": books or [book(prices or [UNIT])], "contracts": list(contracts)}
    if default:
        document["default_contract"] = default
    return run.run(catalog.Catalog(document), lines, keep_open)


def amounts(outcome):
    """{(contract, period start's date, item, kind): (quantity, amount)}"""
    return {(r[1], r[2][:10], r[4], r[5]): (r[6].rstrip("0").rstrip("."), r[7].rstrip("0").rstrip(".")) for r in outcome.rows}


DAY = [("2026-01-05T10:00:00Z", {"v": 3}), ("2026-01-05T10:59:59.999999999Z", {"v": 5}), ("2026-01-05T11:00:00Z", {"v": "4"}),
       ("2026-01-05T10:30:00Z", {"v": 1})]


@pytest.mark.parametrize("meter, quantity", [
    ({"aggregation": "sum"}, "13"), ({"aggregation": "count", "value": None}, "4"), ({"aggregation": "max"}, "5"),
    ({"aggregation": "max", "rollup": "sum"}, "9"), ({"aggregation": "min"}, "1"), ({"aggregation": "min", "rollup": "sum"}, "5"),
    ({"aggregation": "latest"}, "4"), ({"aggregation": "latest", "rollup": "sum"}, "9"), ({"aggregation": "avg"}, "3.25"),
    ({"aggregation": "avg", "rollup": "sum"}, "7"), ({"aggregation": "unique"}, "4"),
    ({"aggregation": "unique", "value": "source"}, "2")])  # one text in each of two windows
def test_aggregation(meter, quantity):
    assert amounts(rate(series(DAY), meter)) == {("", "2026-01-01", "m", "usage"): (quantity, quantity)}


def test_latest_tie_goes_to_the_later_offset():
    same = [("2026-01-05T10:00:00Z", {"v": value}) for value in (7, 2)]
    assert amounts(rate(series(same), {"aggregation": "latest"}))[("", "2026-01-01", "m", "usage")] == ("2", "2")


def test_splits_add_up_and_tiers_accumulate_over_them():
    values = [("2026-01-05T10:00:00Z", {"v": 8, "d": "a"}), ("2026-01-05T12:00:00Z", {"v": 6, "d": "a"}),
              ("2026-01-05T10:00:00Z", {"v": 5, "d": 1.50}), ("2026-01-05T10:00:00Z", {"v": 2})]
    outcome = rate(series(values), {"aggregation": "max", "group_by": ["d"]}, [
        {"meter": "m", "model": "graduated", "tiers": [{"up_to": "10", "unit_price": "1"}, {"up_to": None, "unit_price": "10"}]}])
    assert amounts(outcome) == {("", "2026-01-01", "m", "usage"): ("15", "60")}  # max 8 + 5 + 2
    outcome = rate(series(values), {"group_by": ["d"]}, [UNIT, dict(UNIT, when={"d": "1.5"}, unit_price="100"),
                                                           dict(UNIT, when={"d": ""}, unit_price="1000")])
    assert amounts(outcome) == {("", "2026-01-01", "m", "usage"): ("21", "2514")}


def test_versions_have_totals_of_their_own():
    tiers = [{"up_to": "10", "unit_price": "1"}, {"up_to": None, "unit_price": "0"}]
    books = [book([{"meter": "m", "model": "graduated", "tiers": tiers}]),
             book([{"meter": "m", "model": "graduated", "tiers": tiers}], version=2, effective_from="2026-01-05T10:00:00.5Z")]
    assert amounts(rate(series(DAY), books=books))[("", "2026-01-01", "m", "usage")] == ("13", "13")  # 9 and 4: 9 + 4
    values = [("2026-01-05T10:00:00Z", {"v": 30}), ("2026-01-05T11:00:00Z", {"v": 30})]
    assert amounts(rate(series(values), books=books))[("", "2026-01-01", "m", "usage")] == ("60", "20")


def test_contract_cut_default_and_unpriced():
    contract = dict(CONTRACT, starts_at="2026-01-10T00:00:00Z", ends_at="2026-01-20T00:00:00Z")
    values = [("2026-01-09T23:59:59Z", {"v": 1}), ("2026-01-10T00:00:00Z", {"v": 2}), ("2026-01-20T00:00:00Z", {"v": 4})]
    assert amounts(rate(series(values), contracts=[contract])) == {
        ("", "2026-01-01", "m", "usage"): ("5", "5"), ("c", "2026-01-10", "m", "usage"): ("2", "2")}
    outcome = rate(series(values), contracts=[contract], default=None)
    assert amounts(outcome) == {("c", "2026-01-10", "m", "usage"): ("2", "2")}
    assert outcome.counts["unpriced"] == 2
    assert {reason for reason, _events in outcome.rating.unpriced.values()} == {"no_contract"}


def test_fees_true_up_and_flat_fee_at_zero():
    fees = [{"key": "before", "amount": "10", "per": "period", "charged": "in_advance"},
            {"key": "after", "amount": "20", "per": "period", "charged": "in_arrears"}]
    prices = [{"meter": "m", "model": "graduated", "tiers": [
        {"up_to": None, "unit_price": "1", "flat_fee": "3", "flat_fee_at_zero": True}]}]
    contract = dict(CONTRACT, commitments=[{"key": "floor", "type": "minimum_spend", "amount": "100", "per": "period"}])
    lines = series([("2026-01-05T10:00:00Z", {"v": 30}), ("2026-03-05T10:00:00Z", {"v": 200})])
    everything = {}
    for month, usage, missing in (("2026-01-01", ("30", "33"), "67"), ("2026-02-01", ("0", "3"), "97"), ("2026-03-01", ("200", "203"), None)):
        everything[("c", month, "before", "fee")] = ("1", "10")
        everything[("c", month, "after", "fee")] = ("1", "20")
        everything[("c", month, "m", "usage")] = (usage[0] if usage[0] != "0" else "0", usage[1])
        if missing:
            everything[("c", month, "floor", "true_up")] = ("0", missing)
    rated = rate(lines, books=[book(prices, fees=fees)], contracts=[contract], default=None)
    assert amounts(rated) == everything
    rated = rate(lines, books=[book(prices, fees=fees)], contracts=[contract], default=None, keep_open=True)
    del everything[("c", "2026-03-01", "after", "fee")]
    assert amounts(rated) == everything


def test_default_contract_is_charged_where_the_customer_has_a_window():
    fees = [{"key": "fee", "amount": "10", "per": "period", "charged": "in_advance"}]
    lines = series([("2026-01-05T10:00:00Z", {"v": 1}), ("2026-03-05T10:00:00Z", {"v": 1})])
    prices = [dict(UNIT, when={"d": "x"})]
    rated = rate(lines, {"group_by": ["d"]}, books=[book(prices, fees=fees)])
    assert amounts(rated) == {("", "2026-01-01", "fee", "fee"): ("1", "10"), ("", "2026-03-01", "fee", "fee"): ("1", "10")}
    assert rated.counts["unpriced"] == 2


def test_fees_follow_the_version_at_the_periods_start():
    fees = [{"key": "fee", "amount": "10", "per": "period", "charged": "in_arrears"}]
    books = [book([UNIT], effective_from="2026-01-02T00:00:00Z", fees=fees)]
    lines = series([("2026-01-05T10:00:00Z", {"v": 1}), ("2026-02-05T10:00:00Z", {"v": 1})])
    assert ("c", "2026-01-01", "fee", "fee") not in amounts(rate(lines, books=books, contracts=[CONTRACT]))
    assert ("c", "2026-02-01", "fee", "fee") in amounts(rate(lines, books=books, contracts=[CONTRACT]))


def test_identity():
    first = event()
    lines = [first, event(time="2027-01-01T00:00:00Z"), event(source="other"), event(data={"v": 2}), event(subject="other"),
             first.replace(b'{"v": 1}', b'{"v":1}'), first.replace(b'"data": {', b'"data":   {'), event(type="nothing"),
             event(id="2", data={}), event(id="2")]
    outcome = rate(lines)
    assert outcome.counts == {"read": 10, "counted": 3, "duplicate": 2, "unmatched": 1, "retracted": 0, "unpriced": 0, "quarantined": 4}
    assert [bad.reason for bad in outcome.bad] == ["conflict", "conflict", "conflict", "missing_field"]


def test_where():
    meter = {"where": {"data.w": ["7", ""], "plan": ["true"]}}
    kept = [{"w": 7.0}, {"w": "7"}, {}, {"w": None}]
    dropped = [{"w": 8}, {"w": []}, {"w": {}}, {"w": "x"}]
    lines = [event(id=str(n), data={"v": 1, **data}, plan=True) for n, data in enumerate(kept + dropped)]
    lines += [event(id="a", plan=False), event(id="b")]
    outcome = rate(lines, meter)
    assert (outcome.counts["counted"], outcome.counts["unmatched"]) == (4, 6)


@pytest.mark.parametrize("half_up, currency, amount, invoice", [
    (None, "USD", "0.125", "0.12"), ("half_up", "USD", "0.125", "0.13"), (None, "JPY", "2.5", "2"), ("half_up", "JPY", "2.5", "3"),
    (None, "KWD", "1.0005", "1.000"), ("half_even", "KWD", "1.0015", "1.002"), (None, "USD", "0.1250000001", "0.13")])
def test_invoice_amount(half_up, currency, amount, invoice):
    changes = {"rounding": half_up} if half_up else {}
    outcome = rate([event()], books=[book([dict(UNIT, unit_price=amount)], currency=currency, **changes)])
    assert outcome.rows[0][8] == invoice


# The generator and the command

def test_cases_are_reproducible_and_varied():
    again = [generate.generate_case(5), generate.generate_case(5)]
    assert again[0].lines == again[1].lines and again[0].document == again[1].document
    seen = {name: set() for name in ("aggregation", "window", "model", "component", "kind", "reason")}
    for seed in range(150):
        case = generate.generate_case(seed)
        outcome = run.run(catalog.Catalog(case.document), case.lines, case.keep_open)
        seen["aggregation"] |= {meter["aggregation"] for meter in case.document["meters"]}
        seen["window"] |= {meter["window"] for meter in case.document["meters"]}
        seen["model"] |= {price["model"] for version in case.document["price_books"] for price in version["prices"]}
        seen["component"] |= {key[6] for key, line in outcome.rating.components.items() if any(line)}
        seen["kind"] |= {row[5] for row in outcome.rows}
        seen["reason"] |= {bad.reason for bad in outcome.bad}
    assert len(seen["aggregation"]) == 7 and len(seen["window"]) == 6 and len(seen["model"]) == 6
    assert seen["component"] == {"units", "flat_fee", "free_units", "package", "fixed_fee", "flat", "discount", "minimum",
                                 "maximum", "invoice_discount"}
    assert seen["kind"] == {"usage", "fee", "true_up", "drawdown", "overage"}
    assert seen["reason"] >= {"conflict", "missing_field", "wrong_type", "too_long", "malformed_json", "number_range", "duplicate_key",
                              "empty_field", "bad_specversion", "bad_time", "too_deep", "bad_encoding"}


def test_merged_cases_keep_their_order():
    case = generate.generate_merged(3, 5, pipeline=True)
    for part in range(5):
        alone = generate.generate_case(f"3.{part}", prefix=f"k{part}-", pipeline=True)
        mine = set(alone.lines)
        assert [line for line in case.lines if line in mine and b"k%d-" % part in line] == [
            line for line in alone.lines if b"k%d-" % part in line]


def test_command_with_and_without_processes(tmp_path):
    subprocess.run([sys.executable, HERE / "generate.py", "load", "--seed", "4", "--events", "6000", "--customers", "40",
                    "--dir", tmp_path], check=True)
    sizes = [len(line) for line in (tmp_path / "events.ndjson").read_bytes().splitlines()]
    assert len(sizes) == 6000 and 250 <= sum(sizes) / len(sizes) <= 300
    texts = [subprocess.run([sys.executable, HERE / "run.py", "--jobs", jobs, "--catalog", tmp_path / "catalog",
                             tmp_path / "events.ndjson"], check=True, capture_output=True) for jobs in ("1", "2")]
    assert texts[0].stdout == texts[1].stdout and texts[0].stdout.count(b"\n") > 100
    assert texts[0].stderr == texts[1].stderr
    assert b"read=6000" in texts[0].stderr and b"unpriced=0" in texts[0].stderr
