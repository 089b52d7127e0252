"""weir rerate and weir backtest on a ledger that the real pipeline made: the worked example of docs/rerating.md, the forms
of the report, and what is refused."""
import csv
import io
import json
import re

import pytest
from harness import ROOT, weir

PAGE = (ROOT / "docs" / "rerating.md").read_text(encoding="utf-8")
BLOCKS = {match[2]: match[3] for match in re.finditer(r"^~~~(json|csv) (\w+)\n(.*?)^~~~$", PAGE, re.M | re.S)}
TIERS = re.compile(r'\{"up_to": "1000".*?\}, \{.*?\}')


@pytest.fixture(scope="module")
def example(servers, tmp_path_factory):
    """The example's usage, rated by its first catalog; the second one beside it."""
    folder = tmp_path_factory.mktemp("rerate")
    env = {**servers.room("rerate"), "WEIR_LATENESS": "9000h", "WEIR_KAFKA_GROUP": "rerate"}
    (folder / "before.json").write_text(BLOCKS["before"], encoding="utf-8")
    after, count = TIERS.subn(BLOCKS["after"].strip(), BLOCKS["before"])
    assert count == 1
    (folder / "after.json").write_text(after, encoding="utf-8")
    (folder / "events.ndjson").write_text(BLOCKS["events"], encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", folder / "before.json", env=env)
    weir("produce", folder / "events.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    return env, folder


def rows(text):
    return list(csv.DictReader(io.StringIO(text.decode())))


def test_the_worked_example(example):
    env, folder = example
    found = weir("backtest", "--catalog", folder / "after.json", "--format", "csv", env=env)
    assert found.stdout.decode() == BLOCKS["report"]
    assert b"customers=2 changed=2 windows=4 unpriced=0 written=0" in found.stderr


def test_the_catalog_in_force_changes_nothing(example):
    env, _folder = example
    found = weir("rerate", "--dry-run", "--format", "csv", env=env)
    assert [(row["customer"], row["before"], row["difference"]) for row in rows(found.stdout)] == [
        ("acme", "15.000000000000", "0.000000000000"), ("ann", "10.000000000000", "0.000000000000")]


def test_forms(example):
    env, folder = example
    report = json.loads(weir("backtest", "--catalog", folder / "after.json", "--format", "json", env=env).stdout)
    assert [row["item"] for row in report["rows"]] == ["floor", "platform", "tokens", "platform", "tokens"]
    assert report["totals"] == [{"before": "25.000000000000", "after": "27.200000000000", "difference": "2.200000000000",
                                 "currency": "USD"}]
    table = weir("backtest", "--catalog", folder / "after.json", env=env).stdout.decode()
    assert "(2 unchanged)" in table and "platform" not in table and "(total)" in table
    page = weir("backtest", "--catalog", folder / "after.json", "--format", "html", env=env).stdout.decode()
    assert page.count("<rect") == 3 and "<script" not in page and "+2.2" in page


def test_filters(example):
    env, folder = example
    back = ("backtest", "--catalog", folder / "after.json", "--format", "csv")
    one = rows(weir(*back, "--customer", "ann", "--meter", "tokens", env=env).stdout)
    assert [(row["item"], row["after"]) for row in one if row["item"] == "tokens"] == [("tokens", "1.200000000000")]
    assert rows(weir(*back, "--to", "2026-01-01", env=env).stdout) == []
    assert len(rows(weir(*back, "--from", "2026-01-20", "--to", "2026-01-21", env=env).stdout)) == 5
    assert {row["customer"] for row in rows(weir(*back, "--contract", "acme-2026", env=env).stdout)} == {"acme"}
    assert len(rows(weir(*back, "--price-book", "list@1", env=env).stdout)) == 5
    assert rows(weir(*back, "--price-book", "list@2", env=env).stdout) == []


@pytest.mark.parametrize("arguments, said", [
    (("--from", "yesterday"), b"--from is no time"), (("--to", "2026-02-30"), b"--to is no time"),
    (("--from", "2026-02-01", "--to", "2026-02-01"), b"--to must be after --from"),
    (("--price-book", "list@x"), b"KEY or KEY@VERSION"), (("--workers", "0"), b"a whole number from 1 to 64"),
    (("--format", "pdf"), b"table, csv, json or html"), (("--customer", "nobody"), b"customer 'nobody' was never rated"),
])
def test_refused(example, arguments, said):
    env, _folder = example
    done = weir("rerate", "--dry-run", *arguments, env=env, check=False)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


def test_names_are_escaped_in_a_page(servers, tmp_path):
    env = {**servers.room("rerate-names"), "WEIR_LATENESS": "9000h", "WEIR_KAFKA_GROUP": "rerate-names"}
    name = "<script>alert('x')</script> & \"co\""
    (tmp_path / "catalog.json").write_text(BLOCKS["before"], encoding="utf-8")
    (tmp_path / "after.json").write_text(TIERS.sub(BLOCKS["after"].strip(), BLOCKS["before"]), encoding="utf-8")
    events = [dict(json.loads(line), subject=name) for line in BLOCKS["events"].splitlines()]
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(event) + "\n" for event in events), encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog.json", env=env)
    weir("produce", tmp_path / "events.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    page = weir("backtest", "--catalog", tmp_path / "after.json", "--format", "html", env=env).stdout.decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;co&quot;" in page
