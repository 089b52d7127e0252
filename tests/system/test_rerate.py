"""weir rerate and weir backtest on a ledger that the real pipeline made: the worked example of docs/rerating.md, the forms
of the report, and what is refused."""
import csv
import io
import json
import os
import random
import re
import subprocess
import time

import psycopg2
import pytest
from harness import BINARY, ROOT, assert_same, model_rows, weir
from ledger import ledger_rows
from model import catalog as catalogs
from model import run

PAGE = (ROOT / "docs" / "rerating.md").read_text(encoding="utf-8")
BLOCKS = {match[2]: match[3] for match in re.finditer(r"^~~~(json|csv) (\w+)\n(.*?)^~~~$", PAGE, re.M | re.S)}
TIERS = re.compile(r'\{"up_to": "1000".*?\}, \{.*?\}')


def rated(servers, folder, name, events, commitments=()):
    """Events rated by the example's first catalog; the second one beside it. Commitments are the default contract's."""
    env = {**servers.room(name), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": name}
    before = json.loads(BLOCKS["before"])
    before["default_contract"]["commitments"] = list(commitments)
    (folder / "before.json").write_text(json.dumps(before) if commitments else BLOCKS["before"], encoding="utf-8")
    after, count = TIERS.subn(BLOCKS["after"].strip(), (folder / "before.json").read_text(encoding="utf-8"))
    assert count == 1
    (folder / "after.json").write_text(after, encoding="utf-8")
    (folder / "events.ndjson").write_text(events, encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", folder / "before.json", env=env)
    weir("produce", folder / "events.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    return env, folder


@pytest.fixture(scope="module")
def example(servers, tmp_path_factory):
    return rated(servers, tmp_path_factory.mktemp("rerate"), "rerate", BLOCKS["events"])


@pytest.fixture(scope="module")
def written(servers, tmp_path_factory):
    """The example, rerated by its second catalog."""
    env, folder = rated(servers, tmp_path_factory.mktemp("rerate"), "rerate-written", BLOCKS["events"])
    refused = weir("apply", "--catalog", folder / "after.json", env=env, check=False)
    assert refused.returncode == 2 and b"a version never changes" in refused.stderr
    applied = weir("apply", "--catalog", folder / "after.json", "--rerate", env=env)
    assert b"! price book 'list' version 1 was applied with other content" in applied.stdout
    return env, folder, weir("rerate", "--reason", "list price was wrong, ticket 4711", "--format", "csv", env=env)


@pytest.fixture(scope="module")
def many(servers, tmp_path_factory):
    """400 customers with acme's usage, a prepaid amount and a minimum quantity, and the second catalog applied."""
    commitments = ({"key": "package", "type": "prepaid", "amount": "3", "funding": "free", "overage_multiplier": "1.5"},
                   {"key": "least", "type": "minimum_quantity", "meter": "tokens", "quantity": "2700", "per": "period"})
    names = [f"c{number:03d}" for number in range(400)]
    two = [json.loads(line) for line in BLOCKS["events"].splitlines()[:2]]
    events = "".join(json.dumps(dict(event, id=f"{name}-{event['id']}", subject=name)) + "\n" for name in names for event in two)
    env, folder = rated(servers, tmp_path_factory.mktemp("rerate"), "rerate-many", events, commitments)
    weir("apply", "--catalog", folder / "after.json", "--rerate", env=env)
    return env, folder, names


def rows(text):
    return list(csv.DictReader(io.StringIO(text.decode())))


def test_the_worked_example(example):
    env, folder = example
    found = weir("backtest", "--catalog", folder / "after.json", "--format", "csv", env=env)
    assert found.stdout.decode() == BLOCKS["report"]
    assert b"customers=2 changed=2 windows=4 unpriced=0 reversals=0 line_items=0 rerating=0" in found.stderr


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
    assert rows(weir(*back, "--price-book", "list@1", "--contract", "acme-2026", "--from", "2026-02-01", env=env).stdout) == []


def test_meters_that_count_otherwise_are_told(example):
    """Stored windows cannot tell what another meter would have counted."""
    env, folder = example
    document = json.loads((folder / "before.json").read_text(encoding="utf-8"))
    assert b"warn" not in weir("backtest", "--catalog", folder / "before.json", env=env).stderr
    document["meters"][0]["where"] = {"data.region": ["eu"]}
    document["meters"].append({"key": "calls", "event_type": "completion", "aggregation": "count", "window": "1h"})
    (folder / "meters.json").write_text(json.dumps(document), encoding="utf-8")
    done = weir("backtest", "--catalog", folder / "meters.json", "--format", "csv", env=env)
    assert {row["difference"] for row in rows(done.stdout)} == {"0.000000000000"}
    told = {b"meter 'calls' is new, and charges only what was counted by it: weir recount --dry-run --charges",
            b"meter 'tokens' counts otherwise, and its usage is priced as it was counted: weir recount --dry-run --charges"}
    assert {line for line in told if line in done.stderr} == told and done.stderr.count(b"warn") == 2
    assert weir("backtest", "--catalog", folder / "meters.json", "--meter", "tokens", env=env).stderr.count(b"warn") == 1


@pytest.mark.parametrize("arguments, said", [
    (("--from", "yesterday"), b"--from is no time"), (("--to", "2026-02-30"), b"--to is no time"),
    (("--from", "2026-02-01", "--to", "2026-02-01"), b"--to must be after --from"),
    (("--price-book", "list@x"), b"KEY or KEY@VERSION"), (("--workers", "0"), b"a whole number from 1 to 64"),
    (("--reason", "r"), b"--dry-run writes nothing"), (("--format", "pdf"), b"table, csv, json or html"), (("--customer", "nobody"), b"customer 'nobody' was never rated"),
    (("--meter", "token"), b"there is no meter 'token'"), (("--contract", "acme-2025"), b"there is no contract 'acme-2025'"),
    (("--price-book", "lists"), b"there is no price book 'lists'"), (("--price-book", "list@2"), b"there is no version 2 of price book 'list'"),
])
def test_refused(example, arguments, said):
    env, _folder = example
    done = weir("rerate", "--dry-run", *arguments, env=env, check=False)
    assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr


@pytest.mark.parametrize("arguments, said", [
    (("--meter", "token"), b"there is no meter 'token'"), (("--contract", "acme-2025"), b"there is no contract 'acme-2025'"),
    (("--price-book", "lists"), b"there is no price book 'lists'"), (("--price-book", "list@2"), b"there is no version 2 of price book 'list'"),
    (("--customer", "nobody"), b"customer 'nobody' was never rated"),
])
def test_a_mistyped_name_leaves_no_run(example, arguments, said):
    """It could never end, neither could the same command go on with it: nor with one that an older weir left."""
    env, _folder = example
    names = {"--meter": "meter", "--contract": "contract", "--price-book": "price_book", "--customer": "customer"}
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    cursor = connection.cursor()
    for reason in ("typed by hand", "of an older weir"):
        if reason == "of an older weir":
            cursor.execute("insert into weir.reratings (started_by, reason, filters, catalog_version)"
                           " select 'test', %s, %s, max(catalog_version) from weir.catalog_versions", (reason, json.dumps({names[arguments[0]]: arguments[1]})))
        cursor.execute("select (select count(*) from weir.reratings), (select count(*) from weir.audit_log)")
        before = cursor.fetchone()
        connection.commit()
        done = weir("rerate", "--reason", reason, *arguments, env=env, check=False)
        assert done.returncode == 2 and said in done.stderr and len(done.stderr.splitlines()) == 1, done.stderr
        cursor.execute("select (select count(*) from weir.reratings), (select count(*) from weir.audit_log)")
        assert cursor.fetchone() == before
    connection.close()


def test_names_are_escaped_in_a_page(servers, tmp_path):
    name = "<script>alert('x')</script> & \"co\""
    events = [dict(json.loads(line), subject=name) for line in BLOCKS["events"].splitlines()]
    env, _folder = rated(servers, tmp_path, "rerate-names", "".join(json.dumps(event) + "\n" for event in events))
    page = weir("backtest", "--catalog", tmp_path / "after.json", "--format", "html", env=env).stdout.decode()
    assert "<script" not in page
    assert "&lt;script&gt;alert(&#39;x&#39;)&lt;/script&gt; &amp; &quot;co&quot;" in page


# A run that writes


def query(env, text):
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    try:
        with connection.cursor() as cursor:
            cursor.execute(text)
            return cursor.fetchall()
    finally:
        connection.close()


def sums(env):
    return query(env, "select customer, item, sum(amount)::text from weir.line_items group by 1, 2 having sum(amount) <> 0 order by 1, 2")


def test_a_run(written):
    env, folder, said = written
    assert b"customers=2 changed=2 windows=4 unpriced=0 reversals=6 line_items=6 rerating=1" in said.stderr, said.stderr
    assert sums(env) == [("acme", "platform", "10.000000000000"), ("acme", "tokens", "6.000000000000"),
                         ("ann", "platform", "10.000000000000"), ("ann", "tokens", "1.200000000000")]
    assert said.stdout.decode() == BLOCKS["run"]
    found = query(env, "select rerating, reason, filters::text, catalog_version, state, customers, changed from weir.rerating_runs")
    assert found == [(1, "list price was wrong, ticket 4711", "{}", 2, "done", 2, 2)]
    assert query(env, "select item, kind, amount::text, invoice_amount::text from weir.charges_by_customer_and_period"
                      " where customer = 'acme' order by 1") == [
        ("platform", "fee", "10.000000000000", "10.00"), ("tokens", "usage", "6.000000000000", "6.00")]
    assert b"findings=0" in weir("audit", "verify", env=env).stdout
    assert b"differences=0" in weir("reconcile", env=env).stdout


def test_a_contract_that_is_cut_short_has_one_period(servers, tmp_path):
    """Line items keep the end that their period had when they were written; finance's sums and invoices have the period's own."""
    env, folder = rated(servers, tmp_path, "rerate-cut", BLOCKS["events"])
    cut = json.loads((folder / "before.json").read_text())
    cut["contracts"][0]["ends_at"] = "2026-01-28T00:00:00Z"
    cut["contracts"][0]["commitments"][0]["amount"] = "6.00"
    (folder / "cut.json").write_text(json.dumps(cut))
    weir("apply", "--rerate", "--catalog", folder / "cut.json", env=env)
    weir("rerate", "--reason", "cut short", env=env)
    acme = " where customer = 'acme' and period_start = '2026-01-01T00:00:00Z'"
    ends = "select distinct to_char(period_end at time zone 'UTC', 'MM-DD') from weir."
    assert query(env, ends + "charge_lines" + acme + " order by 1") == [("01-28",), ("02-01",)]
    assert query(env, ends + "charges_by_customer_and_period" + acme) == [("01-28",)]
    assert query(env, "select item, kind, amount::float from weir.charges_by_customer_and_period" + acme + " order by 1") == [
        ("floor", "true_up", 3.0), ("platform", "fee", 10.0), ("tokens", "usage", 3.0)]
    weir("close", "--through", "2026-01-31", env=env)
    assert query(env, "select distinct to_char(service_start at time zone 'UTC', 'MM-DD'), to_char(service_end at time zone 'UTC', 'MM-DD')"
                      " from weir.invoice_lines" + acme) == [("01-01", "01-28")]
    assert query(env, "select sum(total)::float from weir.invoices" + acme) == [(16.0,)]


def test_each_row_of_a_run_is_explained(written):
    env, _folder, _said = written
    for number, kind in query(env, "select line_item_id, kind from weir.line_items where rerating = 1 order by 1"):
        text = weir("explain", "--no-events", str(number), env=env).stdout.decode()
        assert "rerating 1, " in text and "list price was wrong, ticket 4711" in text
        assert ("takes back what this was charged before" in text) == (kind == "reversal"), text


def test_once_more_changes_nothing(written):
    env, _folder, _said = written
    before = query(env, "select count(*) from weir.line_items")
    done = weir("rerate", "--reason", "once more", env=env)
    assert b"changed=0" in done.stderr and b"reversals=0 line_items=0" in done.stderr
    assert query(env, "select count(*) from weir.line_items") == before


def test_usage_that_comes_afterwards_is_charged_on_the_new_basis(written):
    env, folder, _said = written
    late = json.loads(BLOCKS["events"].splitlines()[0])
    late.update(id="late", data={"tokens": 100})
    (folder / "late.ndjson").write_text(json.dumps(late) + "\n", encoding="utf-8")
    weir("produce", folder / "late.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    assert ("acme", "tokens", "6.300000000000") in sums(env)
    number = query(env, "select max(line_item_id) from weir.line_items where meter = 'tokens'")[0][0]
    assert "is the line item's amount" in weir("explain", str(number), env=env).stdout.decode()
    assert b"reversals=0 line_items=0" in weir("rerate", "--reason", "after late usage", env=env).stderr


def test_killed_in_the_middle(many):
    """A run that is killed again and again, beside a rater that has late usage of the same customers, ends with what the model makes
    of all events by the second catalog, and with no row twice."""
    env, folder, names = many
    kills, rng = 0, random.Random("killed")
    two = [json.loads(line) for line in BLOCKS["events"].splitlines()[:2]]
    late = "".join(json.dumps(dict(event, id=f"late-{name}-{event['id']}", subject=name)) + "\n" for name in names[::4] for event in two)
    (folder / "late.ndjson").write_text(late, encoding="utf-8")
    weir("produce", folder / "late.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    rater = subprocess.Popen([BINARY, "rater", "--until-done"], env={**os.environ, **env, "WEIR_RATER_BATCH": "4"}, stderr=subprocess.PIPE)
    while query(env, "select count(*) from weir.rerating_ends where rerating = 1") == [(0,)]:
        assert kills <= 20, "no run gets to its end"
        before = query(env, "select count(*) from weir.rerating_customers")
        process = subprocess.Popen([BINARY, "rerate", "--reason", "killed", "--workers", "2"], env={**os.environ, **env},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while process.poll() is None and query(env, "select count(*) from weir.rerating_customers") == before:
            assert time.monotonic() < deadline, "nothing is written"
        try:
            process.wait(rng.uniform(0, 0.1) if kills < 20 else 120)  # wherever it is by then
        except subprocess.TimeoutExpired:
            process.kill()
            kills += 1
            process.wait()
    assert kills >= 2, "it was killed too late"
    _out, err = rater.communicate(timeout=120)
    assert rater.returncode == 0, err.decode(errors="replace")[-3000:]
    assert query(env, "select count(*) from weir.rerating_customers where rerating = 1") == [(len(names) + 1,)], "acme's contract has a fee"
    assert query(env, "select count(*) from (select from weir.line_items where rerating = 1 group by customer, window_start,"
                      " item, kind, component, tier having count(*) > 1) as twice") == [(0,)]
    back = json.loads(weir("rerate", "--dry-run", "--format", "json", env=env).stdout)
    assert back["counts"]["changed"] == 0
    lines = (folder / "events.ndjson").read_bytes().splitlines(keepends=True) + late.encode().splitlines(keepends=True)
    outcome = run.run(catalogs.Catalog(json.loads((folder / "after.json").read_text(encoding="utf-8"))), lines, False, None)
    expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}
    assert_same("sums of the ledger", ledger_rows(env), expected, "killed in the middle")
    assert query(env, "select count(*) from weir.grant_balances b where balance < 0 or balance <> (select sum(amount) from weir.grant_entries e"
                      " where (e.customer, e.contract, e.grant_key) = (b.customer, b.contract, b.grant_key))") == [(0,)]


def test_commitments_that_are_dropped(servers, tmp_path):
    """A minimum of a term goes whatever was chosen of the term, and usage that was drawn from what is gone waits for the rerating; all other usage does not."""
    env = {**servers.room("rerate-dropped"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "rerate-dropped"}
    document, lines = json.loads(BLOCKS["before"]), []

    def apply(*options):
        (tmp_path / "catalog.json").write_text(json.dumps(document), encoding="utf-8")
        return weir("apply", "--catalog", tmp_path / "catalog.json", *options, env=env).stdout

    def use(*usage, status=0):
        come = [json.dumps({"specversion": "1.0", "id": str(len(lines) + number), "source": "s", "type": "completion", "subject": customer,
                            "time": f"2026-{day}T10:00:00Z", "data": {"tokens": tokens}}).encode() + b"\n"
                for number, (customer, day, tokens) in enumerate(usage)]
        lines.extend(come)
        (tmp_path / "events.ndjson").write_bytes(b"".join(come))
        weir("produce", tmp_path / "events.ndjson", env=env)
        weir("ingest", "--until-end", env=env)
        assert weir("rater", "--until-done", env=env, check=False).returncode == status

    document["contracts"][0]["renews"] = {"months": 2}
    document["contracts"][0]["commitments"][0].update(per="term", amount="50.00")
    document["default_contract"]["commitments"] = [{"key": "package", "type": "prepaid", "amount": "3", "funding": "free"}]
    weir("migrate", env=env)
    apply()
    use(("acme", "01-05", 1500), ("acme", "02-05", 2000), ("ann", "01-05", 1600), ("bob", "01-05", 900), ("ann", "03-02", 1))
    assert query(env, "select period_start::date::text, amount::text from weir.line_items where component = 'true_up'") == [("2026-02-01", "47.000000000000")]
    assert query(env, "select sum(amount)::text from weir.line_items where component = 'drawdown' and customer = 'ann'") == [("-1.200000000000",)]

    del document["default_contract"]["commitments"], document["contracts"][0]["commitments"]
    apply("--rerate")
    use(("acme", "02-06", 700), ("ann", "01-06", 400), ("bob", "01-06", 500), ("cid", "01-06", 1700), ("ann", "04-02", 5000), status=1)
    held = query(env, "select customer, count(*), bool_and(refused like '%Run weir rerate%') from weir.held_windows group by 1 order by 1")
    assert held == [("ann", 2, True), ("bob", 1, True)]
    assert ("cid", "tokens", "1.400000000000") in sums(env)
    weir("rerate", "--reason", "nothing is promised any more", "--to", "2026-02-01", env=env)
    weir("rater", "--until-done", env=env)
    outcome = run.run(catalogs.Catalog(document), lines, False, None)
    expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}
    assert_same("sums of the ledger", ledger_rows(env), expected, "commitments that are dropped")
    assert b"changed=0" in weir("rerate", "--reason", "once more", env=env).stderr
