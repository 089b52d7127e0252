"""Random catalogs and events through real Kafka, Redis and PostgreSQL, two workers of each kind at once: the sums of
the ledger agree with the independent model to the twelfth place. In every second run half of the events come when
what closed of the others' windows is rated already: duplicates, late events and retractions change what was billed.

WEIR_PIPELINE_CASES (200) cases, 20 merged into each run, from WEIR_RANDOM_SEED (1). In some runs workers have several threads (ingest.threads).
In some, or with WEIR_PIPELINE_ORDERS in all,
grants are ordered at run time and ended (docs/credits.md 6).
"""
import collections
import json
import os
import random
import select
import shutil
import subprocess
import time

import beside
import confluent_kafka
import earned
import low_balances
import orders
import projections
import psycopg2
import pytest
import stopping
from harness import BINARY, assert_same, model_components, model_rows, run_model, weir
from ledger import ledger_components, ledger_rows, quarantined, query
from model import catalog as catalogs
from model import exact, generate, reprice, run

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_PIPELINE_CASES", "200"))
ORDERS = bool(os.environ.get("WEIR_PIPELINE_ORDERS"))
BESIDE = int(os.environ.get("WEIR_ORDERS_BESIDE", "16"))  # orders beside raters that are killed
MERGED = 20


def at_once(env, *arguments, workers=2):
    """The same command in several processes at once, each to its end."""
    running = [subprocess.Popen([BINARY, *arguments], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(workers)]
    try:
        for process in running:
            out, err = process.communicate(timeout=180)
            assert process.returncode == 0, f"weir {' '.join(arguments)} ended with {process.returncode}:\n{err.decode(errors='replace')[-3000:]}"
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def committed(env):
    """By how much the workers' durable offsets lack the ends of the topic."""
    consumer = confluent_kafka.Consumer({"bootstrap.servers": env["WEIR_KAFKA_BROKERS"], "group.id": env["WEIR_KAFKA_GROUP"],
                                         "enable.auto.commit": False})
    try:
        topic = env["WEIR_KAFKA_TOPIC"]
        partitions = [confluent_kafka.TopicPartition(topic, n) for n in consumer.list_topics(topic, timeout=60).topics[topic].partitions]
        return sum(consumer.get_watermark_offsets(place, timeout=60)[1] - max(place.offset, 0)
                   for place in consumer.committed(partitions, timeout=60))
    finally:
        consumer.close()


def count_what_is_there(env):
    """Workers that go on with the watermark of the events (no wall clock), until all is counted: what is behind it closes, the rest stays open."""
    settings = {**os.environ, **env, "WEIR_IDLE": "24h", "WEIR_METRICS_LISTEN": "127.0.0.1:0"}
    running = [subprocess.Popen([BINARY, "ingest"], env=settings, stderr=subprocess.PIPE) for _ in range(2)]
    try:
        deadline = time.monotonic() + 120
        while committed(env) > 0:
            assert all(process.poll() is None for process in running), "a worker ended by itself"
            assert time.monotonic() < deadline, f"the workers lack {committed(env)} messages"
            time.sleep(0.2)
        for process in running:
            stopping.terminate(process)
        for process in running:
            _out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err.decode(errors="replace")[-3000:]
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def revenue(rows):
    """{(customer, item, currency): amount} of the model's rows."""
    sums = collections.Counter()
    for (customer, _contract, _start, _end, item, _kind), (_quantity, amount, _invoice, currency) in rows.items():
        sums[customer, item, currency] += exact.parse(amount)
    return {key: amount for key, amount in sums.items() if amount}


def reported(report, when):
    return {(row["customer"], row["item"], row["currency"]): exact.parse(row[when]) for row in report["rows"]
            if exact.parse(row[when])}


def check_the_past_priced_again(env, case, outcome, seed, folder, where, ordered=()):
    """The catalog in force changes nothing; what another one would have charged is what the model makes of it."""
    again = json.loads(weir("rerate", "--dry-run", "--format", "json", env=env).stdout)
    assert again["counts"]["changed"] == 0, f"{[row for row in again['rows'] if row['before'] != row['after']][:5]} ({where})"
    other = reprice.reprice(case.document, seed)
    (folder / "other.json").write_text(json.dumps(other), encoding="utf-8")
    expected = run.run(catalogs.Catalog(other), case.lines, False, None, ordered)
    back = json.loads(weir("backtest", "--catalog", folder / "other.json", "--format", "json", env=env).stdout)
    assert_same("revenue before", reported(back, "before"), revenue(model_rows(outcome)), where)
    assert_same("revenue after", reported(back, "after"), revenue(model_rows(expected)), where)
    return other, expected


def check_invoices(env, where, is_late=False):
    """Every line item of a settled period is on one invoice, or (late ones of contracts that are over) on a correction. Late ones of a
    contract with a period that no event has reached yet (a refund is dated in it) wait for its invoice."""
    weir("close", "--through", "2100-01-01", env=env)
    settled = "is_closed" + " and not exists (select from weir.billing_periods q where q.customer = p.customer and q.contract = p.contract" \
                            " and not q.is_closed)" * is_late
    left = query(env, "select i.customer, i.contract, i.period_start, sum(i.amount) from weir.line_items i join weir.billing_periods p"
                      f" using (customer, contract, period_start) where {settled} and not exists (select from weir.invoice_line_items l"
                      " where l.customer = i.customer and l.period_start = i.period_start and l.line_item_id = i.line_item_id) group by 1, 2, 3")
    assert not left, f"on no invoice: {left[:3]} ({where})"
    sums = ("select customer, contract, currency, sum(amount) as amount from {} group by 1, 2, 3 order by 1, 2, 3")
    invoiced = query(env, sums.format(f"weir.invoice_line_items join weir.billing_periods p using (customer, contract, period_start)"
                                      f" where not is_void and {settled}"))
    assert invoiced == query(env, sums.format(f"weir.line_items join weir.billing_periods p using (customer, contract, period_start) where {settled}")), where
    before = query(env, "select count(*) as n, sum(total) as total from weir.invoices")
    weir("close", "--through", "2100-01-01", env=env)
    assert query(env, "select count(*) as n, sum(total) as total from weir.invoices") == before, f"a second closing made invoices ({where})"


def check_uncounted(env, outcome, where):
    """Each duplicate and each refused event is tallied with its customer, as far as it can be read; of a lane they add up to its counts."""
    rows = query(env, "select customer, sum(duplicate)::int as duplicate, sum(quarantined)::int as quarantined, sum(admitted)::int as admitted"
                      " from weir.uncounted_events group by 1")
    found = {(row["customer"], what): row[what] for row in rows for what in ("duplicate", "quarantined", "admitted") if row[what]}
    assert_same("events that do not count, by customer", found, dict(outcome.uncounted), where)
    assert not query(env, "select l.lane from weir.lanes l left join weir.uncounted_events u using (lane) group by l.lane"
                          " having coalesce(sum(u.duplicate), 0) <> l.events_duplicate or coalesce(sum(u.quarantined), 0) <> l.events_quarantined"), where


def check_terms(env, document, where):
    """The terms of contracts that renew are in SQL what the model makes of them, as far as calendars are written."""
    terms = collections.defaultdict(dict)
    for row in query(env, "select contract, term, extract(epoch from starts_at)::bigint as starts, extract(epoch from ends_at)::bigint as ends from weir.contract_renewals"):
        terms[row["contract"]][row["term"]] = (row["starts"], row["ends"])
    renewing = [contract for contract in catalogs.Catalog(document).contracts if contract.renews and contract is contract.phases[0]]
    assert {contract.key for contract in renewing} == set(terms), where
    for contract in renewing:
        for number, start, end in contract.terms():
            found = terms[contract.key].pop(number, None)
            if found is None:
                break
            assert found[0] == start and found[1] in (end, None if terms[contract.key].keys() <= {number} else end), (contract.key, number, found, start, end, where)
        assert not terms[contract.key], where


def granted(document):
    """{(contract, grant): amount} of a catalog; one per term has the key that it has in the first."""
    catalog = catalogs.Catalog(document)
    return {(contract.key, entry["key"]): exact.parse(entry["amount"]) for contract in [*catalog.contracts, *filter(None, [catalog.default])]
            for entry in contract.commitments if entry["type"] == "prepaid"}


def check_balances(env, document, outcome, where, ordered=()):
    """What was drawn from a grant is in the line items, and in its balance; entries cannot be told otherwise."""
    drawn = collections.Counter()
    for (customer, contract, _start, _end, item, kind), (_quantity, amount, _invoice, _currency) in model_rows(outcome).items():
        drawn[customer, contract, item] -= exact.parse(amount) if kind == "drawdown" else 0
    by_grant = lambda rows: {(row["customer"], row["contract"], row["grant_key"]): exact.parse(str(row["amount"])) for row in rows}
    assert_same("what was drawn", by_grant(query(env, "select customer, contract, item as grant_key, -sum(amount)::numeric(39,12) as amount"
                " from weir.line_items where weir.reversed_kind(kind, meter, component) = 'drawdown' group by 1, 2, 3 having sum(amount) <> 0")),
                {key: amount for key, amount in drawn.items() if amount}, where)
    assert_same("entries of draws", by_grant(query(env, "select customer, contract, grant_key, -sum(amount)::numeric(39,12) as amount"
                " from weir.grant_entries where kind in ('drawdown', 'giveback') group by 1, 2, 3 having sum(amount) <> 0")),
                {key: amount for key, amount in drawn.items() if amount}, where)
    balances = by_grant(query(env, "select customer, contract, grant_key, sum(amount) as amount from weir.grant_entries where kind in ("
                                   "'grant', 'drawdown', 'giveback') group by 1, 2, 3 having bool_or(kind = 'grant')"))
    amounts = granted(document)
    amounts.update({(order["contract"], order["key"]): exact.parse(order["amount"]) for order in ordered if "end" not in order})
    assert_same("balances", balances, {key: amounts.get((key[1], key[2].partition("+")[0]), 0) - drawn[key] for key in balances}, where)
    assert where.startswith("after rerating") or not query(  # a rater that has the other catalog is to come
        env, "select * from weir.grant_balances where balance <> 0 and least(expires_at, ends_at) <= (select min(rated_through) from weir.lanes)"), where
    assert not query(env, "select * from weir.grant_balances b where balance < 0 or balance <> (select sum(amount) from"
                          " weir.grant_entries e where (e.customer, e.contract, e.grant_key) = (b.customer, b.contract, b.grant_key))"), where
    usage = ("select customer, contract, period_start, currency, sum(amount) as left_to_pay from weir.line_items where meter is not null"
             " and component <> 'invoice_discount' or component in ('shortfall', 'drawdown', 'overage') group by 1, 2, 3, 4")
    assert not query(env, f"select * from ({usage}) as s where left_to_pay < 0"), where
    low_balances.check(env, where)
    if not balances:
        return
    last = "select * from weir.grant_entries order by number desc limit 1"
    for change in ("number = number + 1, previous = number, balance_before = balance_after + 1, amount = 1, balance_after = balance_after + 2",
                   "number = number + 1, previous = number, balance_before = balance_after, amount = 1",
                   "number = number + 2, previous = number + 1, balance_before = balance_after, amount = 1, balance_after = balance_after + 1"):
        with pytest.raises(psycopg2.errors.IntegrityError):
            query(env, f"with n as ({last}) insert into weir.grant_entries (customer, contract, grant_key, kind, meter, period_start,"
                       f" segment_start, {', '.join(part.split(' = ')[0] for part in change.split(', '))}) select customer, contract,"
                       f" grant_key, 'giveback', coalesce(meter, 'm'), coalesce(period_start, now()), coalesce(segment_start, now()),"
                       f" {', '.join(part.split(' = ')[1] for part in change.split(', '))} from n returning number")
    with pytest.raises(psycopg2.errors.IntegrityError):
        query(env, "update weir.grant_entries set amount = amount returning number")
    assert b"findings=0" in weir("audit", "verify", env=env).stdout, where


def rows_of(outcome):
    return {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}


def check_rerated(env, expected, folder, where):
    """The other catalog is applied, and the ledger is brought to it: what the model makes of all events by that catalog."""
    weir("apply", "--catalog", folder / "other.json", "--rerate", env=env)
    count = "select count(*) as n from weir.line_items"
    before = query(env, count)
    weir("rerate", "--reason", "nothing, yet: a filter that holds nothing", "--to", "1970-01-01", env=env)
    assert query(env, count) == before
    weir("rerate", "--reason", "other prices", "--workers", "3", env=env)
    assert_same("sums of the ledger after rerating", ledger_rows(env), rows_of(expected), where)
    assert_same("components after rerating", ledger_components(env), model_components(expected), where)
    before = query(env, count)
    weir("rerate", "--reason", "other prices, again", env=env)
    assert query(env, count) == before, f"a second rerating changed the ledger ({where})"
    assert b"differences=0" in weir("reconcile", env=env).stdout, where


@pytest.mark.parametrize("number", range((CASES + MERGED - 1) // MERGED))
def test_the_ledger_agrees_with_the_model(servers, number, tmp_path):
    seed = FIRST * 1000 + number
    is_ordered = number % 3 == 1 or number == 6 or ORDERS
    is_rerated = number % 3 == 0  # which takes as long as all the rest
    case = generate.generate_merged(seed, min(MERGED, CASES - number * MERGED), pipeline=True)
    case.write(tmp_path)
    outcome = run_model(case)
    where = f"merged seed {seed}, files in {tmp_path}"
    env = {**servers.room(f"random-{seed}"), "WEIR_CATALOG": str(tmp_path / "catalog"), "WEIR_LATENESS": "87600h",
           "WEIR_KAFKA_GROUP": f"random-{seed}", "WEIR_RATER_BATCH": ("40", "20000")[number % 2],  # 40: all threads of a rater take part
           "WEIR_INGEST_THREADS": ("1", "1", "1", "3", "1", "2")[number % 6]}

    rng, ordered = random.Random(f"orders {seed}"), []
    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog", env=env)
    if number % 2:
        lines = (tmp_path / "events.ndjson").read_bytes().splitlines(keepends=True)
        (tmp_path / "first.ndjson").write_bytes(b"".join(lines[:len(lines) // 2]))
        (tmp_path / "second.ndjson").write_bytes(b"".join(lines[len(lines) // 2:]))
        weir("produce", tmp_path / "first.ndjson", env=env)
        count_what_is_there(env)
        at_once(env, "rater", "--until-done")
        assert query(env, "select count(*) as n from weir.rated_windows")[0]["n"] > 0, f"nothing was rated between ({where})"
        if is_ordered:
            ordered = orders.grant(env, rng, case.document, 6)
        weir("produce", tmp_path / "second.ndjson", env=env)
    else:
        weir("produce", tmp_path / "events.ndjson", env=env)
    at_once(env, "ingest", "--until-end")
    entries, (projected, windows) = projections.entries(env), projections.read(env)
    at_once(env, "rater", "--until-done")
    assert windows
    projections.check(case.document, entries, projected, projections.entries(env), where)
    if is_ordered:
        ordered += [] if ordered else orders.grant(env, rng, case.document, 6)
        ordered += orders.end(env, rng, 4)
        at_once(env, "rater", "--until-done")
        outcome = run_model(case, orders=ordered)

    bad = collections.Counter(quarantined(env).values())
    assert_same("quarantined events", bad, collections.Counter((b.reason, b.line) for b in outcome.bad), where)
    expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}
    assert_same("sums of the ledger", ledger_rows(env), expected, where)
    assert_same("components", ledger_components(env), model_components(outcome), where)

    before = query(env, "select count(*) as n from weir.line_items")
    at_once(env, "ingest", "--until-end")
    at_once(env, "rater", "--until-done")
    assert query(env, "select count(*) as n from weir.line_items") == before, f"a second run changed the ledger ({where})"
    check_terms(env, case.document, where)
    check_uncounted(env, outcome, where)
    check_invoices(env, where)
    check_balances(env, case.document, outcome, where, ordered)
    if is_ordered:
        assert earned.check(env, case.document, outcome, ordered, where) > 20
        orders.check_balances(env, outcome, where)
    if is_rerated:
        other, expected = check_the_past_priced_again(env, case, outcome, seed, tmp_path, where, ordered)
        check_rerated({**env, "WEIR_CATALOG": ""}, expected, tmp_path, where)
        check_balances(env, other, expected, f"after rerating, {where}", ordered)
        check_invoices(env, f"after rerating, {where}", is_late=True)
    shutil.rmtree(tmp_path)


PACKAGES = [{"key": "starter", "amount": "100", "price": "95"}, {"key": "credits", "tiers": [
    {"up_to": "1000", "unit_price": "1"}, {"up_to": "5000", "unit_price": "0.9"}, {"up_to": None, "unit_price": "0.85"}]}]
CALLS = {"meters": [{"key": "calls", "event_type": "call", "aggregation": "sum", "value": "data.calls", "window": "1h"}],
         "price_books": [{"key": "list", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
                          "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "1"}], "packages": PACKAGES},
                         {"key": "plan", "version": 1, "currency": "USD", "effective_from": "2025-10-01T00:00:00Z",
                          "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "1"}],
                          "fees": [{"key": "base", "amount": "2", "per": "period", "charged": "in_advance"}]}],
         "default_contract": {"price_book": "list", "billing_period": "month", "timezone": "UTC"},
         "contracts": [{"key": "gamma-25", "customer": "gamma", "price_book": "plan", "starts_at": "2025-10-01T00:00:00Z", "billing_period": "month",
                        "timezone": "UTC", "packages": PACKAGES,
                        "commitments": [{"key": "least", "type": "minimum_spend", "amount": "7", "per": "period"},
                                        {"key": "later", "type": "prepaid", "package": "credits", "amount": "1000.5", "starts_at": "2027-01-01T00:00:00Z"}]}]}


def call(number, customer, day, calls):
    return json.dumps({"specversion": "1.0", "id": str(number), "source": "s", "type": "call", "subject": customer,
                       "time": f"2026-{day}T10:00:00Z", "data": {"calls": calls}}) + "\n"


def check_packages(env, order):
    """docs/credits.md 2.3, bought by weir grant: volume prices, once, and a part of it back at the price of a unit."""
    words = ("grant", "--customer", "beta", "--key", "bulk", "--package", "credits", "--starts-at", "2026-04-01")
    assert order(*words, "--amount", "333.33", "--dry-run")["charged"] == "333.330000000000"
    assert order(*words, "--amount", "10000")["charged"] == "8500.000000000000"
    assert order(*words, "--amount", "10000")["done"] == "before"
    for more, text in ((("--amount", "10001"), b"other words"), ((), b"other words"), (("--amount", "5", "--quantity", "2"), b"not both")):
        refused = weir(*words, *more, "--reason", "docs", env=env, check=False)
        assert refused.returncode == 2 and text in refused.stderr, refused.stderr
    assert order("refund", "--customer", "beta", "--key", "bulk", "--at", "2026-04-02")["charged"] == "-8500.000000000000"
    words = ("grant", "--customer", "beta", "--key", "two", "--package", "starter", "--quantity", "2")
    assert order(*words, "--starts-at", "2026-04-01")["charged"] == "190.000000000000"
    assert order(*words)["done"] == "before"
    assert query(env, "select package, packages from weir.grant_orders where package is not null order by grant_key") == [
        {"package": "credits", "packages": None}, {"package": "starter", "packages": 2}]
    for more, text in ((("--package", "starter", "--amount", "5"), b"bought whole"), (("--package", "credits"), b"bought by amount"),
                       (("--package", "none", "--amount", "1"), b"has such a --package"), (("--package", "starter", "--price", "1"), b"leave --price")):
        refused = weir("grant", "--customer", "beta", "--key", "other", *more, "--starts-at", "2026-04-01", "--reason", "docs", env=env, check=False)
        assert refused.returncode == 2 and text in refused.stderr, refused.stderr
    terms = query(env, "select commitments from weir.contract_terms where contract = 'gamma-25'")[0]["commitments"]
    assert [(entry["amount"], entry["price"]) for entry in terms if "package" in entry] == [("1000.5", "900.45")], terms
    assert query(env, "select amount::text, price::text from weir.prepaid_terms where grant_key = 'later'") == [
        {"amount": "1000.500000000000", "price": "900.450000000000"}]


def check_orders_of_before(env, rate, order):
    """What is ordered for a billing period before the first event is invoiced, without fees or true-ups; an event of that period brings both."""
    words = ("--customer", "gamma", "--key", "package")
    order("grant", *words, "--amount", "80", "--price", "20", "--funding", "paid", "--starts-at", "2025-11-20", "--expires-at", "2026-01-20")
    order("refund", *words, "--at", "2025-12-01")
    rate(call(7, "gamma", "01-05", 5))
    invoices = ("select left(period_start::text, 7) as month, amount::float from weir.invoices where customer = 'gamma'"
                " and period_start < '2026-02-01' order by period_start, invoice")

    def closed():
        weir("close", "--through", "2026-04-30", "--customer", "gamma", env=env)
        return [(row["month"], row["amount"]) for row in query(env, invoices)]

    assert closed() == [("2025-11", 20), ("2025-12", -20 + 2), ("2026-01", 5 + 2 + 2)], "the fee of 2 is charged in advance, on the invoice before"
    rate(call(8, "gamma", "12-05", 3).replace("2026-12", "2025-12"))
    assert query(env, "select sum(amount)::float as n from weir.line_items where customer = 'gamma' and period_start = '2025-12-01'")[0]["n"] == -20 + 2 + 3 + 4
    assert closed() == [("2025-11", 2), ("2025-11", 20), ("2025-12", -20 + 2), ("2025-12", 3 + 4), ("2026-01", 9)], "a correction: all later ones are final"


def check_closing_writes_expiries(env, order, entries):
    """Also of who has no usage, and where no rater runs; not of what expires later, nor before its usage is known."""
    for key, until in (("idle-1", "2026-01-20"), ("idle-2", "2026-03-01"), ("idle-3", "2199-01-01")):  # and no rater runs after this
        order("grant", "--customer", "idle", "--key", key, "--amount", "5", "--funding", "free", "--starts-at", "2026-01-06", "--expires-at", until)
    for words, told, ended in ((("2026-01-18",), b"expired=0 expiries_waiting=0", 0), (("2026-01-20T00:00:00Z", "--dry-run"), b"expired=1 expiries_waiting=0", 0),
                               (("2026-01-20T00:00:00Z", "--customer", "acme"), b"expired=0", 0), (("2026-01-19",), b"expired=1 expiries_waiting=0", 1),
                               (("2026-01-31",), b"expired=0 expiries_waiting=0", 1), (("2199-01-31",), b"expired=1 expiries_waiting=1", 2)):
        assert told in weir("close", "--through", *words, env=env).stderr, words
        for number, key in enumerate(("idle-1", "idle-2", "idle-3")):
            assert entries(key) == [("grant", "5"), ("expiry", "-5")][:1 + (number < ended)], (key, words)


def test_grants_at_run_time_are_as_documented(servers, tmp_path):
    """docs/credits.md 6, its worked example."""
    (tmp_path / "catalog.json").write_text(json.dumps(CALLS))
    env = {**servers.room("grants", 1), "WEIR_CATALOG": str(tmp_path / "catalog.json"), "WEIR_LATENESS": "87600h", "WEIR_METRICS_LISTEN": "off"}

    def rate(*events):
        (tmp_path / "events.ndjson").write_text("".join(events))
        for command in (("produce", tmp_path / "events.ndjson"), ("ingest", "--until-end"), ("rater", "--until-done")):
            weir(*command, env=env)

    def order(*words):
        return json.loads(weir(*words, "--reason", "docs", "--format", "json", env=env).stdout)

    def entries(key):
        return [(row["kind"], str(row["amount"].normalize())) for row in query(
            env, f"select kind, amount from weir.balance_entries where grant_key = '{key}' order by number")]

    weir("migrate", env=env)
    weir("apply", env=env)
    rate(call(1, "acme", "01-05", 60), call(2, "acme", "01-15", 40), call(3, "acme", "02-05", 50), call(4, "beta", "02-05", 30),
         call(5, "beta", "04-05", 0))
    words = ("grant", "--customer", "acme", "--key", "g", "--amount", "70", "--funding", "promotional", "--starts-at", "2026-01-10",
             "--expires-at", "2026-01-20", "--rollover-fraction", "0.5", "--rollover-expires-at", "2026-03-01")
    assert order(*words, "--dry-run")["done"] == "not yet" and not entries("g")
    assert order(*words)["done"] == "now"
    assert sorted(entries("g")) == [("drawdown", "-4E+1"), ("expiry", "-15"), ("grant", "7E+1"), ("rollover", "-15")]
    assert entries("g+rollover") == [("rollover", "15"), ("drawdown", "-15")]
    before = query(env, "select now()::text as at")[0]["at"].replace(" ", "T") + ":00"
    rate(call(6, "acme", "01-16", 5))
    assert entries("g")[4:] == [("expiry", "2.5"), ("rollover", "2.5"), ("drawdown", "-5")]
    assert entries("g+rollover")[2:] == [("giveback", "2.5"), ("rollover", "-2.5")]
    then = json.loads(weir("balance", "--at", before, "--format", "json", env=env).stdout.splitlines()[0])
    assert (then["grant"], then["granted"], then["drawn"], then["rolled_over"], then["lost"], then["balance"]) == (
        "g", "70.000000000000", "40.000000000000", "15.000000000000", "15.000000000000", "0.000000000000")

    words = ("--customer", "beta", "--key", "package")
    assert order("grant", *words, "--amount", "80", "--price", "20", "--funding", "paid", "--starts-at", "2026-02-01")["charged"] == "20.000000000000"
    before = query(env, "select now()::text as at")[0]["at"].replace(" ", "T") + ":00"
    assert order("refund", *words)["charged"] == "-12.500000000000"
    assert [json.loads(weir("balance", *words[:2], *at, "--format", "json", env=env).stdout.splitlines()[0])["state"] for at in ((), ("--at", before))] == [
        "refund", "active"]
    assert order("refund", *words)["done"] == "before"
    assert [row["amount"] for row in query(env, "select amount from weir.line_items where item = 'package' and kind = 'fee' order by line_item_id")] \
        == [20, -12.5]
    check_packages(env, order)
    refused = weir("void", *words, "--reason", "docs", env=env, check=False)
    assert refused.returncode == 2 and b"otherwise" in refused.stderr
    words = ("grant", "--customer", "gamma", "--key", "unused", "--amount", "5", "--price", "4", "--funding", "paid", "--starts-at", "2026-03-01")
    assert order(*words)["charged"] == "4.000000000000"  # of a customer without usage
    early = weir("grant", "--customer", "gamma", "--key", "early", "--amount", "5", "--funding", "free", "--starts-at", "2025-09-30", "--dry-run",
                 "--reason", "docs", env=env)
    assert b"under the default contract" in early.stderr and b"contract 'gamma-25' starts 2025-10-01T00:00:00Z" in early.stderr, early.stderr
    again = weir("rerate", "--reason", "docs", env=env).stderr
    assert b"customers=3 changed=0 windows=6 unpriced=0 reversals=0 line_items=0" in again, again
    assert b"findings=0" in weir("audit", "verify", env=env).stdout
    check_orders_of_before(env, rate, order)
    check_closing_writes_expiries(env, order, entries)
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    connection.cursor().execute("alter table weir.grant_ends disable trigger user; delete from weir.grant_ends; create table public.bent ()")
    connection.commit()
    connection.close()
    found = weir("audit", "verify", env=env, check=False)
    assert found.returncode == 1 and b"is gone" in found.stdout + found.stderr


def test_orders_beside_raters_that_are_killed(servers, tmp_path):
    """WEIR_ORDERS_BESIDE (16) orders by four threads, some of them killed, while two raters draw and are killed: the ledger, its balances and
    their events are what the model makes of it."""
    document = {**CALLS, "contracts": [], "default_contract": {**CALLS["default_contract"], "low_balance": ["1000", "50", "0"], "commitments": [
        {"key": "welcome", "type": "prepaid", "amount": "300", "funding": "free", "expires_at": "2026-02-10T00:00:00Z", "rollover_fraction": "0.5",
         "rollover_expires_at": "2026-02-20T00:00:00Z", "low_balance": ["50%", "0"]}]}}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    env = {**servers.room("beside", 2), "WEIR_CATALOG": str(tmp_path / "catalog.json"), "WEIR_LATENESS": "87600h", "WEIR_METRICS_LISTEN": "off"}
    weir("migrate", env=env)
    weir("apply", env=env)
    lines, ordered, figures = beside.run(env, tmp_path, FIRST, max(3, BESIDE // 40), BESIDE, 4)
    outcome = run_model(generate.Case(FIRST, document, lines), orders=ordered)
    assert_same("sums of the ledger", ledger_rows(env), rows_of(outcome), figures)
    check_balances(env, document, outcome, "beside raters", ordered)
    orders.check_balances(env, outcome, "beside raters")
    assert b"differences=0" in weir("reconcile", env=env).stdout
    print({**figures, "low balances": low_balances.check(env)})
    assert figures["kills"] > 0 and figures["orders"] > 0


def test_a_projection_is_what_will_be_left(servers, tmp_path):
    """Of one customer some windows are rated, some closed, some open, and late events are among them: at each step from the one to the other
    the projection is what the independent model leaves in the end (docs/credits.md 5)."""
    rng = random.Random(f"projection {FIRST}")
    document = {**CALLS, "meters": [*CALLS["meters"], {"key": "bytes", "event_type": "call", "aggregation": "sum", "value": "data.bytes", "window": "1d",
                                                       "group_by": ["region"]}],
                "contracts": [{"key": "a", "customer": "acme", "price_book": "list", "starts_at": "2026-01-01T00:00:00Z", "billing_period": "month", "timezone": "UTC",
                               "prices": [{"meter": "bytes", "model": "graduated", "tiers": [{"up_to": "90", "unit_price": "1.5"}, {"up_to": None, "unit_price": "0.25"}]}],
                               "commitments": [
                                   {"key": "gift", "type": "prepaid", "amount": "400", "funding": "free", "expires_at": "2026-01-06T07:30:00Z",
                                    "rollover_fraction": "0.3", "rollover_expires_at": "2026-01-28T00:00:00Z"},
                                   {"key": "package", "type": "prepaid", "amount": "900", "meters": ["calls"], "overage_multiplier": "1.5"},
                                   {"key": "rest", "type": "prepaid", "amount": "4000"}]}]}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    env = {**servers.room("projected"), "WEIR_CATALOG": str(tmp_path / "catalog.json"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "projected"}
    weir("migrate", env=env)
    weir("apply", env=env)
    lines, rated = [], []

    def count(first_day, last_day, events):
        chunk = [json.dumps({"specversion": "1.0", "id": f"{first_day}-{number}", "source": "s", "type": "call", "subject": "acme",
                             "time": orders._time(beside.START + rng.randrange(first_day * orders.DAY, last_day * orders.DAY)),
                             "data": {"calls": rng.choice((-2, 3, 1.25)), "bytes": rng.choice((1, 7)), "region": rng.choice("ab")}}).encode()
                 for number in range(events)]
        (tmp_path / "events.ndjson").write_bytes(b"".join(line + b"\n" for line in chunk))
        weir("produce", tmp_path / "events.ndjson", env=env)
        lines.extend(chunk)
        count_what_is_there(env)

    def look():
        rated.append(query(env, "select count(*) as n from weir.rated_windows where customer = 'acme'")[0]["n"])
        return projections.read(env)

    count(0, 14, 120)
    weir("rater", "--until-done", env=env)
    order = {"customer": "acme", "key": "more", "amount": "5", "funding": "free", "starts_at": "2026-01-09T12:00:00Z", "priority": -1}
    weir("grant", "--reason", "between", *orders._flags(order), env=env)
    count(2, 25, 200)
    outcome = run_model(generate.Case(FIRST, document, lines), orders=[{**order, "contract": "a"}])
    expected = {("acme", *place): left for place, left in outcome.rating.left["acme"].items()}
    expected["acme", "a", "gift"] = 0  # what has not gone on when it expired is lost
    all_of_them, waiting = look()
    assert_same("closed and open windows", {place: left for place, (_balance, left) in all_of_them.items()}, expected, "projected")
    weir("rater", "--until-done", env=env)
    some, still_open = look()
    assert_same("open windows", {place: left for place, (_balance, left) in some.items()}, expected, "projected")
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    assert look() == ({place: (left, left) for place, left in expected.items()}, 0), "none"
    assert waiting > still_open > 0 and 0 < rated[0] < rated[1] < rated[2]
    assert all_of_them != some != {place: (left, left) for place, left in expected.items()}, "each step draws"


def test_balances_follow_windows_that_close(servers, tmp_path):
    """A worker and a rater as daemons: once the watermark has passed a window's end, what it draws is in its customer's balance, without anything
    else. WEIR_BALANCE_WINDOWS (3) windows of WEIR_BALANCE_CUSTOMERS (20) customers; how long each took is printed (docs/credits.md 5)."""
    windows, customers = int(os.environ.get("WEIR_BALANCE_WINDOWS", "3")), int(os.environ.get("WEIR_BALANCE_CUSTOMERS", "20"))
    document = {**CALLS, "contracts": [], "default_contract": {**CALLS["default_contract"], "commitments": [
        {"key": "welcome", "type": "prepaid", "amount": "1000000", "funding": "free"}]}}
    (tmp_path / "catalog.json").write_text(json.dumps(document))
    env = {**servers.room("following", 1), "WEIR_CATALOG": str(tmp_path / "catalog.json"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "following",
           "WEIR_METRICS_LISTEN": "off", "WEIR_IDLE": "24h"}
    weir("migrate", env=env)
    weir("apply", env=env)
    producer = confluent_kafka.Producer({"bootstrap.servers": env["WEIR_KAFKA_BROKERS"], "linger.ms": 0})

    def send(number, customer, seconds):
        event = {"specversion": "1.0", "id": str(number), "source": customer, "type": "call", "subject": customer, "time": orders._time(beside.START + seconds),
                 "data": {"calls": 1}}
        producer.produce(env["WEIR_KAFKA_TOPIC"], json.dumps(event), customer)

    took, running = [], [subprocess.Popen([BINARY, command], env={**os.environ, **env}, stderr=subprocess.DEVNULL) for command in ("ingest", "rater")]
    ledger = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    ledger.autocommit = True
    try:
        for number in range(windows):
            for customer in range(customers):
                send(number, f"c{customer}", 3600 * number)
            send(number, "clock", 3600 * (number + 1) + 11)  # disorder: 10 s
            assert producer.flush(60) == 0
            began = time.monotonic()
            cursor = ledger.cursor()
            while True:
                cursor.execute("select count(*), min(balance) from weir.grant_balances where customer <> 'clock' and balance = %s", (1000000 - number - 1,))
                if cursor.fetchone()[0] == customers:
                    break
                assert all(process.poll() is None for process in running), "a daemon ended"
                assert time.monotonic() < began + 120, f"window {number} is not in the balances"
                time.sleep(0.005)
            took.append(time.monotonic() - began)
    finally:
        ledger.close()
        for process in running:
            stopping.terminate(process)
        for process in running:
            process.wait(timeout=120)
    took = sorted(took[1:])  # the first one waits for the worker to get its lane
    print(f"balances after windows closed: {len(took)} windows of {customers} customers, median {took[len(took) // 2]:.3f} s, at most {took[-1]:.3f} s")


def test_low_balances_are_as_documented(servers, tmp_path):
    """docs/credits.md 5.1, its worked example."""
    contract = {"key": "a", "customer": "acme", "price_book": "list", "starts_at": "2026-01-01T00:00:00Z", "billing_period": "month", "timezone": "UTC",
                "low_balance": ["50.0"],
                "commitments": [{"key": "package", "type": "prepaid", "amount": "100", "low_balance": ["20%", "0"]}]}
    (tmp_path / "catalog.json").write_text(json.dumps({**CALLS, "contracts": [contract]}))
    env = {**servers.room("low", 1), "WEIR_CATALOG": str(tmp_path / "catalog.json"), "WEIR_LATENESS": "87600h", "WEIR_METRICS_LISTEN": "off"}
    told = 0

    def rate(number, day, calls):
        (tmp_path / "events.ndjson").write_text(call(number, "acme", day, calls))
        for command in (("produce", tmp_path / "events.ndjson"), ("ingest", "--until-end"), ("rater", "--until-done")):
            weir(*command, env=env)
        return events()

    def events():
        nonlocal told
        rows = [json.loads(line) for line in weir("balance", "--events", "--after", str(told), "--format", "json", env=env).stdout.splitlines()]
        assert [row["event"] for row in rows] == list(range(told + 1, told + 1 + len(rows)))
        told += len(rows)
        return [(row["grant"], row["threshold"], row["crossing"], float(row["balance_before"]), float(row["balance_after"]), row["cause"]) for row in rows]

    def projected():
        done = weir("balance", "--projected", "--customer", "acme", "--format", "json", env=env)
        assert b"lane=low:0 offset=" in done.stderr and b"held=0 refused=0" in done.stderr, done.stderr
        return {row["grant"]: (float(row["balance"]), float(row["projected"])) for row in map(json.loads, done.stdout.splitlines())}

    weir("migrate", env=env)
    weir("apply", env=env)
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    connection.autocommit = True
    connection.cursor().execute("listen weir_balance_events")
    assert rate(1, "01-05", 60) == [("", "50", 1, 100, 40, "drawdown")]
    assert rate(2, "01-06", 25) == [("package", "20%", 1, 40, 15, "drawdown")]
    assert not rate(3, "01-06", -10)
    assert rate(4, "01-07", 25) == [("package", "20%", 2, 25, 0, "drawdown"), ("package", "0", 1, 25, 0, "drawdown")]
    weir("grant", "--customer", "acme", "--key", "more", "--amount", "80", "--funding", "free", "--starts-at", "2026-01-08", "--low-balance", "35.5,50%",
         "--reason", "docs", env=env)
    assert not events()
    assert projected() == {"package": (0, 0), "more": (80, 80), "": (80, 80)}
    (tmp_path / "events.ndjson").write_text(call(5, "acme", "01-09", 45))
    weir("produce", tmp_path / "events.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    assert projected() == {"package": (0, 0), "more": (80, 35), "": (80, 35)}
    assert rate(5, "01-09", 45) == [("", "50", 2, 80, 35, "drawdown"), ("more", "50%", 1, 80, 35, "drawdown"), ("more", "35.5", 1, 80, 35, "drawdown")]
    deadline = time.monotonic() + 60
    while len(connection.notifies) < 4 and time.monotonic() < deadline:  # the server sends them when it gets to it
        select.select([connection], [], [], 1)
        connection.poll()
    assert [int(notice.payload) for notice in connection.notifies] == [1, 2, 4, 7]

    contract["low_balance"] = ["30"]  # told from now on, though January is rated
    (tmp_path / "catalog.json").write_text(json.dumps({**CALLS, "contracts": [contract]}))
    assert b"low_balance" in weir("apply", env=env).stdout
    assert rate(6, "01-10", 10) == [("", "30", 1, 35, 25, "drawdown")]
    weir("void", "--customer", "acme", "--key", "more", "--at", "2026-01-11", "--reason", "docs", env=env)
    assert not events()
    weir("grant", "--customer", "acme", "--key", "at-once", "--amount", "10", "--funding", "free", "--starts-at", "2026-01-09", "--priority", "-1",
         "--low-balance", "50%", "--reason", "docs", env=env)  # for usage of before
    assert events() == [("at-once", "50%", 1, 10, 0, "drawdown")]
    assert low_balances.check(env) == 9 and b"findings=0" in weir("audit", "verify", env=env).stdout
    for change in ("update weir.threshold_crossings set event = event", "delete from weir.threshold_crossings",
                   "insert into weir.threshold_crossings select event + 9, customer, contract, grant_key, threshold, threshold_amount, crossing + 1,"
                   " crossing, balance_before, balance_after, currency, cause, cause_grant, cause_entry from weir.threshold_crossings"):
        with pytest.raises(psycopg2.errors.IntegrityError):
            connection.cursor().execute(change)
    connection.close()
