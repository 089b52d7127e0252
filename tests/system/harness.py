"""What the whole-system tests share: running the binary, reading what it wrote, comparing it with the model."""
import base64
import collections
import csv
import io
import json
import os
import pathlib
import subprocess
import sys
import time

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests"))

from model import catalog, exact, instants, run  # noqa: E402

BINARY = pathlib.Path(os.environ.get("WEIR_BINARY", "build/release/weir"))
if not BINARY.is_absolute():
    BINARY = ROOT / BINARY

DEADLINE = 120  # for a state that must come: generous, other people may be using this machine
HEADER = list(run.HEADER)
COMPONENT = ("customer", "contract", "period_start", "period_end", "item", "price_book_version", "component", "tier")


def weir(*arguments, env=None, check=True, timeout=300):
    """Run the binary to its end; its output as bytes."""
    done = subprocess.run([BINARY, *map(str, arguments)], capture_output=True, timeout=timeout, env={**os.environ, **(env or {})})
    if check:
        assert done.returncode == 0, f"weir {arguments[0]} ended with {done.returncode}:\n{done.stderr.decode(errors='replace')[-3000:]}"
    return done


def until(what, condition, seconds=DEADLINE):
    """Poll until the condition holds; its value. What failed is said by `what`, a text or a call."""
    deadline = time.monotonic() + seconds
    while True:
        value = condition()
        if value:
            return value
        assert time.monotonic() < deadline, what() if callable(what) else f"{what}: not within {seconds} s"
        time.sleep(0.05)  # between two looks


def counts(stderr):
    """Key=value pairs of the last line of `weir rate`."""
    line = stderr.decode("utf-8", "replace").strip().splitlines()[-1]
    assert line.startswith("weir rate: "), line
    return {name: int(value) for name, value in (pair.split("=", 1) for pair in line[len("weir rate: "):].split() if "=" in pair)
            if name in run.COUNTS}


def summary_rows(text):
    """{six keys: (quantity, amount, invoice amount, currency)} of a summary in CSV, and its keys in order."""
    rows = list(csv.reader(io.StringIO(text.decode("utf-8"), newline=""), strict=True))
    assert rows[0] == HEADER, rows[0]
    keys = [tuple(row[:6]) for row in rows[1:]]
    assert len(set(keys)) == len(keys), "a row stands twice"
    return {tuple(row[:6]): tuple(row[6:]) for row in rows[1:]}, keys


def without_nothing(rows):
    """Rows that docs/rating.md 7.4 lets comparisons leave out are left out."""
    return {key: row for key, row in rows.items() if exact.parse(row[0]) or exact.parse(row[1])}


def model_rows(outcome):
    return {tuple(row[:6]): tuple(row[6:]) for row in outcome.rows}


def component_sums(items):
    """{COMPONENT: (quantity, amount)} of usage line items (dicts as NDJSON or SQL has them)."""
    sums = collections.defaultdict(lambda: [0, 0])
    for item in items:
        if item["kind"] == "usage":
            line = sums[tuple(item[name] for name in COMPONENT[:-1]) + (item["tier"] or 0,)]  # null: a component of no tier
            line[0] += exact.parse(item["quantity"])
            line[1] += exact.parse(item["amount"])
    return {key: tuple(line) for key, line in sums.items() if any(line)}


def model_components(outcome):
    return {(key[0], key[1], instants.format_utc(key[2]), instants.format_utc(key[3]), *key[4:]): tuple(line)
            for key, line in outcome.rating.components.items() if any(line)}


def event_bytes(record):
    """The original bytes in a quarantine record."""
    if "event_base64" in record:
        return base64.b64decode(record["event_base64"], validate=True)
    return record["event"].encode("utf-8")


def read_quarantine(path):
    """Records of a quarantine file; none when there was no bad event."""
    if not pathlib.Path(path).exists():
        return []
    return [json.loads(line) for line in pathlib.Path(path).read_bytes().splitlines()]


def assert_same(what, found, expected, context):
    """Equal mappings, or a failure that shows the first few differences and where the files are."""
    if found == expected:
        return
    lines = []
    for key in sorted(set(found) | set(expected), key=repr):
        if found.get(key) != expected.get(key):
            lines.append(f"  {key}\n    weir  {found.get(key)}\n    model {expected.get(key)}")
    more = f"\n  … and {len(lines) - 8} more" if len(lines) > 8 else ""
    raise AssertionError(f"{what} differ in {len(lines)} places ({context})\n" + "\n".join(lines[:8]) + more)


def run_model(case, keep_open=False, clock_of=None, orders=()):
    return run.run(catalog.Catalog(case.document), case.lines, keep_open, clock_of, orders)
