"""deploy/example/: what it promises of itself, and weir's summary of it, byte by byte as the independent model has it."""
import collections
import csv
import datetime
import io
import json
import subprocess
import sys

import jsonschema
import pytest
from harness import ROOT, counts, read_quarantine, weir
from model import run

EXAMPLE = ROOT / "deploy" / "example"
CATALOG = EXAMPLE / "catalog"
EVENTS = EXAMPLE / "events.ndjson"
SUMMARY = (EXAMPLE / "summary.csv").read_bytes()


@pytest.fixture(scope="module")
def model():
    return run.run_files(CATALOG, [EVENTS])


def test_events_are_made_again_byte_by_byte():
    made = subprocess.run([sys.executable, EXAMPLE / "make_events.py", "--stdout"], capture_output=True, check=True).stdout
    assert made == EVENTS.read_bytes()


def test_summary_is_the_models(model):
    text = io.StringIO()
    writer = csv.writer(text, lineterminator="\n")
    writer.writerow(run.HEADER)
    writer.writerows(model.rows)
    assert SUMMARY.decode() == text.getvalue()


def test_rate_gives_the_summary_byte_by_byte(model, tmp_path):
    done = weir("rate", "--catalog", CATALOG, "--summary", "--format", "csv", "--quarantine", tmp_path / "bad.ndjson", EVENTS)
    assert done.stdout == SUMMARY
    assert counts(done.stderr) == model.counts
    reasons = collections.Counter(record["reason"] for record in read_quarantine(tmp_path / "bad.ndjson"))
    assert reasons == collections.Counter(bad.reason for bad in model.bad)


def test_order_of_arrival_does_not_matter(tmp_path):
    """Except for who comes first of two that carry the same id, so those that come again are left out."""
    seen, lines = set(), []
    for line in EVENTS.read_bytes().splitlines(keepends=True):
        try:
            event = json.loads(line)
            identity = (event["source"], event["id"])
        except (ValueError, TypeError, KeyError):
            identity = line
        if identity not in seen:
            lines.append(line)
        seen.add(identity)
    (tmp_path / "reversed.ndjson").write_bytes(b"".join(reversed(lines)))
    done = weir("rate", "--catalog", CATALOG, "--summary", "--format", "csv", tmp_path / "reversed.ndjson")
    assert done.stdout == SUMMARY


def test_line_items_add_up_to_the_summary():
    done = weir("rate", "--catalog", CATALOG, "--format", "ndjson", EVENTS)
    schema = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas" / "line_item.schema.json").read_text()))
    sums = collections.defaultdict(int)
    for number, line in enumerate(done.stdout.splitlines()):
        item = json.loads(line)
        if number % 50 == 0:
            schema.validate(item)
        sums[item["customer"], item["contract"], item["period_start"], item["item"], item["kind"]] += int(item["amount"].replace(".", ""))
    expected = {(row["customer"], row["contract"], row["period_start"], row["item"], row["kind"]): int(row["amount"].replace(".", ""))
                for row in csv.DictReader(io.StringIO(SUMMARY.decode()))}
    assert {key: amount for key, amount in sums.items() if amount} == {key: amount for key, amount in expected.items() if amount}


def test_check_finds_no_mistake():
    done = weir("check", "--catalog", CATALOG)
    assert b"no mistakes" in done.stdout


def test_it_shows_what_it_promises(model):
    """deploy/example/README.md: every kind of meter and price, and of trouble."""
    assert model.counts["read"] == 10_000
    assert model.counts["duplicate"] == 100
    assert model.counts["unpriced"] == 18
    reasons = collections.Counter(bad.reason for bad in model.bad)
    assert reasons["conflict"] == 4
    assert sum(reasons.values()) - reasons["conflict"] == 15
    assert len(reasons) >= 11
    document = {}
    for file in sorted(CATALOG.glob("*.json")):
        document.update(json.loads(file.read_text()))
    assert {meter["aggregation"] for meter in document["meters"]} >= {"sum", "count", "max", "latest", "unique"}
    assert {price["model"] for book in document["price_books"] for price in book["prices"]} == {
        "per_unit", "graduated", "volume", "package", "percentage", "flat"}
    assert len({contract["customer"] for contract in document["contracts"]}) == 12
    assert {row[5] for row in model.rows} == {"usage", "fee", "true_up"}
    assert {row[0] for row in model.rows if not row[1]} == {"dunelab", "junipertravel", "nomad-dev", "pixel-otter"}


def test_about_eighty_are_late():
    """By more than an hour behind the latest time so far; nothing comes from the future."""
    latest, late = None, []
    for line in EVENTS.read_bytes().splitlines():
        try:
            time = datetime.datetime.fromisoformat(json.loads(line)["time"].replace("Z", "+00:00"))
        except (ValueError, KeyError, TypeError):
            continue
        if time.tzinfo is None or time.year > 2026:
            continue
        latest = max(latest or time, time)
        if latest - time > datetime.timedelta(hours=1):
            late.append(latest - time)
    assert 60 <= len(late) <= 200
    assert datetime.timedelta(days=9) < max(late) <= datetime.timedelta(days=11)
