"""The examples of the documentation are true: each is run through weir and through the independent model.

Fenced blocks in README.md and docs/*.md, in this order:
  json price, csv price                    a price, and `quantity[,events],amount` by it
  json catalog, json events, csv summary   a catalog, events, and some columns of the summary
and after the last of these, by the real pipeline:
  text explain ITEM                        lines of what weir explain says of the first fee or true-up of that name
"""
import csv
import io
import json
import re
from decimal import Decimal

import pytest
from harness import ROOT, weir
from ledger import query
from model import catalog, run

FENCE = re.compile(r"^```(json|csv)( \w+)?\n(.*?)^```$", re.M | re.S)
NUMBERS = ("quantity", "amount")
PAGES = [ROOT / "README.md", *sorted((ROOT / "docs").glob("*.md"))]


def table(text):
    return list(csv.DictReader(io.StringIO(text)))


def line_of(page, match):
    return page.read_text(encoding="utf-8")[:match.start()].count("\n") + 1


def examples():
    """(kind, blocks) for each example, named by page and line."""
    for page in PAGES:
        blocks = [(match[2] or "").strip() and (match[1] + match[2], match) for match in FENCE.finditer(page.read_text(encoding="utf-8"))]
        blocks = [block for block in blocks if block]
        while blocks:
            kind = "price" if blocks[0][0] == "json price" else "catalog"
            count = 2 if kind == "price" else 3
            names = [name for name, _match in blocks[:count]]
            where = f"{page.name}:{line_of(page, blocks[0][1])}"
            assert names == [["json price", "csv price"], ["json catalog", "json events", "csv summary"]][kind == "catalog"], where
            yield pytest.param(kind, *[match[3] for _name, match in blocks[:count]], *[""] * (3 - count), id=where)
            blocks = blocks[count:]


def normal(rows):
    """Rows without regard to trailing zeros or to order."""
    return sorted(tuple(sorted((name, str(Decimal(text).normalize()) if name in NUMBERS else text) for name, text in row.items()))
                  for row in rows)


def by_weir(folder, document, lines):
    (folder / "catalog.json").write_text(document, encoding="utf-8")
    (folder / "events.ndjson").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
    weir("check", "--catalog", folder / "catalog.json")
    done = weir("rate", "--catalog", folder / "catalog.json", "--summary", "--format", "csv", folder / "events.ndjson")
    assert b"quarantined=0" in done.stderr
    return table(done.stdout.decode())


def by_model(document, lines):
    outcome = run.run(catalog.Catalog(json.loads(document)), [line.encode() for line in lines])
    return [dict(zip(run.HEADER, map(str, row))) for row in outcome.rows]


def assert_rows(folder, document, lines, expected):
    names = list(expected[0])
    for rows in (by_weir(folder, document, lines), by_model(document, lines)):
        rows = [row for row in rows if any(Decimal(row[name]) for name in NUMBERS)]
        assert normal({name: row[name] for name in names} for row in rows) == normal(expected)


def events_of(customer, quantity, count):
    """`count` events whose values add up to the quantity."""
    last = Decimal(quantity) - (count - 1)
    for number in range(count):
        value = str(last) if number == count - 1 else "1"
        yield json.dumps({"specversion": "1.0", "id": f"{customer}-{number}", "source": "docs", "type": "used", "subject": customer,
                          "time": f"2026-01-{5 + number:02d}T10:00:00Z", "data": {"value": value}})


@pytest.mark.parametrize("kind, first, second, third", examples())
def test_example(tmp_path, kind, first, second, third):
    if kind == "catalog":
        return assert_rows(tmp_path, first, second.strip().splitlines(), table(third))
    document = {"meters": [{"key": "usage", "event_type": "used", "aggregation": "sum", "value": "data.value", "window": "1h"}],
                "price_books": [{"key": "book", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
                                 "prices": [json.loads(first)]}],
                "default_contract": {"price_book": "book", "billing_period": "month", "timezone": "UTC"}}
    rows = table(second)
    lines, expected = [], []
    for number, row in enumerate(rows):
        lines += events_of(f"c{number:02d}", row["quantity"], int(row.get("events", 1)))
        if Decimal(row["quantity"]) or Decimal(row["amount"]):
            expected.append({"customer": f"c{number:02d}", "quantity": row["quantity"], "amount": row["amount"]})
    assert_rows(tmp_path, json.dumps(document), lines, expected)


@pytest.mark.parametrize("name", ["catalog", "credits"])
def test_terms_are_explained(servers, tmp_path, name):
    page = (ROOT / "docs" / f"{name}.md").read_text(encoding="utf-8")
    explained = list(re.finditer(r"^```text explain (\S+)\n(.*?)^```$", page, re.M | re.S))
    blocks = [match for match in FENCE.finditer(page[:explained[0].start()]) if match[2] in (" catalog", " events")]
    room = f"docs-explained-{name}"
    env = {**servers.room(room), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": room}
    for name, match in zip(("catalog.json", "events.ndjson"), blocks[-2:]):
        (tmp_path / name).write_text(match[3], encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog.json", env=env)
    weir("produce", tmp_path / "events.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    for item, said in [(match[1], match[2]) for match in explained]:
        number = query(env, f"select min(line_item_id) as number from weir.line_items where item = '{item}' and kind in ('fee', 'true_up')")[0]["number"]
        found = iter(weir("explain", "--no-events", number, env=env).stdout.decode().splitlines())
        for line in said.splitlines():
            assert line in found, f"not said, or not in this order: {line}"


def test_every_price_model_has_an_example():
    page = (ROOT / "docs" / "catalog.md").read_text(encoding="utf-8")
    shown = {json.loads(match[3])["model"] for match in FENCE.finditer(page) if match[2] == " price" and match[1] == "json"}
    schema = json.loads((ROOT / "schemas" / "catalog.schema.json").read_text())
    assert shown == set(schema["$defs"]["price"]["properties"]["model"]["enum"])


@pytest.mark.parametrize("page", [*PAGES, ROOT / "deploy/README.md", ROOT / "deploy/example/README.md", *ROOT.glob("[A-Z]*.md")],
                         ids=lambda page: str(page.relative_to(ROOT)))
def test_links_lead_somewhere(page):
    text = page.read_text(encoding="utf-8")
    anchors = {re.sub(r"[^\w -]", "", title.lower()).strip().replace(" ", "-") for title in re.findall(r"^#+ (.*)$", text, re.M)}
    for target in re.findall(r"\]\(([^)\s]+)\)", text):
        if "://" in target:
            continue
        path, _, anchor = target.partition("#")
        assert not path or (page.parent / path).exists(), target
        assert path or anchor in anchors, target
