"""Revenue by month on ledgers that are made at random: fees over a period, a year and at once, usage that comes late, reratings,
invoices and months closed in any order. Every month of every contract is what the model makes of the same, day by day
(tests/model/revenue.py), closed months never change, and what SQL says of all of them holds (docs/revenue.md).

WEIR_REVENUE_CASES (2) cases from WEIR_RANDOM_SEED (1)."""
import csv
import datetime
import io
import json
import os
import re
import zoneinfo

import psycopg2
import psycopg2.errors
import pytest
import invariants
from harness import ROOT, weir
from invariants import REVENUE
from model import exact, revenue
from test_invoices import BOOKS, CONTRACTS, DAY, UTC, Ledger, day_end, short

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_REVENUE_CASES", "2"))
ZONES = {contract: zoneinfo.ZoneInfo(zone) for contract, zone in CONTRACTS.items()}
STEPS = 80
STARTS = {"k-east": datetime.datetime(2024, 2, 29, tzinfo=ZONES["k-east"])}
FEES = {"platform": "period", "support": "year", "setup": "contract"}
# Prepaid amounts: how much there is to draw, the price, when it ends. acme's are in the catalog, bolt's were granted; of one of them 30
# went on when it expired, and 20 lapsed.
CREDITS = {
    "acme": {("k-old", "credit"): ("100", "85", "2026-03-10T12:00:00Z"), ("k-old", "pack"): ("7", "11", None),
             ("k-old", "gift"): ("50", "0", "2026-04-01T00:00:00Z")},
    "bolt": {("k-old", "pack"): ("3", "1", "2026-02-01T00:00:00Z"), ("k-east", "credit"): ("90", "90", "2026-02-20T05:00:00Z"),
             ("k-east", "credit+rollover"): ("30", "0", "2026-04-10T05:00:00Z"),
             ("", "rest"): ("12", "3", None)},
}


def of_time(text):
    return text and datetime.datetime.fromisoformat(text.replace("Z", "+00:00"))



class Revenue(Ledger):
    """The ledger of test_invoices.py, with windows on every day, long periods, and fees of each kind."""

    def __init__(self, env, seed):
        super().__init__(env, seed)
        self.sql("set jit = off")  # for a session from before weir migrate
        self.watermark = datetime.datetime(2026, 2, 5, tzinfo=UTC)
        self.look_at_lane()
        for contract, start in STARTS.items():
            self.sql("update weir.contracts set starts_at = %s where contract = %s", start, contract)
        fees = json.dumps([{"key": key, "per": per} for key, per in FEES.items()])
        for book in BOOKS:
            self.sql("insert into weir.price_book_versions values (%s, 1, '2020-01-01', '[]', %s)", book, fees)
        listed = [{"key": key, "type": "prepaid", "amount": amount, "expires_at": end, **({"price": price} if price != "0" else {"funding": "free"})}
                  for (_contract, key), (amount, price, end) in CREDITS["acme"].items()]
        self.sql("update weir.contracts set customer = 'acme', commitments = %s, phases = %s where contract = 'k-old'",
                 json.dumps(listed[:1]), json.dumps([{"key": "later", "starts_at": "2026-02-01T00:00:00Z", "commitments": listed}]))

    def look_at_lane(self):
        self.sql("update weir.lanes set watermark = %s, rated_through = %s", self.watermark, self.watermark)

    def customer(self, name):
        if name not in self.books:
            self.sql("insert into weir.customers values (%s)", name)
            places = {book: (places, rounding == "half_up") for book, (_, places, rounding) in BOOKS.items()}
            credits = {of: (exact.parse(amount), exact.parse(price), of_time(end)) for of, (amount, price, end) in CREDITS[name].items() if price != "0"}
            rests = {of: (of[1][:-9], of_time(end), exact.parse("20")) for of, (_amount, _price, end) in CREDITS[name].items() if "+" in of[1]}
            self.books[name] = revenue.Books(self.series, places, day_end, ZONES, STARTS, FEES, credits, rests)
            if name == "bolt":
                self.note_grants()
            self.books[name].reach = lambda: min([self.watermark, *(low for low, _high in self.gaps.values()),
                                                  *([self.held[name][0]] if name in self.held else [])])
        return self.books[name]

    def period(self, contract, number):
        length, first = {"k-east": (20, datetime.date(2026, 1, 10)), "k-old": (45, datetime.date(2026, 1, 1)),
                         "": (9, datetime.date(2026, 1, 20))}[contract]
        return day_end(contract, first + (number * length - 1) * DAY), day_end(contract, first + ((number + 1) * length - 1) * DAY)

    def add(self, name, contract, number, line, quantity, amount, currency="USD", rerating=None, as_kind=None, window=None,
            advance_at=None):
        start, end = self.period(contract, number)
        if line[0] == "fee" and rerating is None and line[8]:
            line = (line[0], self.random.choice(list(FEES)), *line[2:])
        if line[6] != "invoice_discount" and line[0] in ("usage", "drawdown") or (line[0] == "fee" and (rerating or self.random.random() < 0.5)):  # of fees: seats that change
            taken_back = [item for item in self.customer(name).items if rerating and (item.contract, item.start, item.line, item.amount) == (
                contract, start, line, -amount)]
            at = self.books[name].windows[taken_back[0].number] if taken_back else start + self.random.random() * (end - start)
            window = (at, at + datetime.timedelta(hours=1))
        item = super().add(name, contract, number, line, quantity, amount, currency, rerating, as_kind, window, advance_at)
        self.books[name].windows[item.number] = window[0] if window else start
        return item

    def note_grants(self):
        for (contract, key), (amount, price, end) in CREDITS["bolt"].items():
            rolled = key[:-9] if "+" in key else None
            self.sql("insert into weir.grants (customer, contract, grant_key, currency, funding, price, priority, starts_at, expires_at, rolled_from)"
                     " values ('bolt', %s, %s, 'USD', 'paid', %s, 0, '2026-01-01', %s, %s)", contract, key, price, end or "infinity", rolled)
            entries = [("rollover" if rolled else "grant", int(amount))] + ([("rollover", -30), ("expiry", -20)] if key == "credit" else [])
            for number, (kind, change) in enumerate(entries, 1):
                before = sum(change for _kind, change in entries[:number - 1])
                self.sql("insert into weir.grant_entries (customer, contract, grant_key, number, previous, kind, amount, balance_before, balance_after)"
                         " values ('bolt', %s, %s, %s, %s, %s, %s, %s, %s)", contract, key, number, number - 1 or None, kind, change, before, before + change)

    def end(self, name):
        """A grant is void from a time on of which no month is closed, at times from a month's first instant on."""
        books, at = self.customer(name), self.watermark + DAY
        (contract, key), (amount, price, end) = self.random.choice(list(books.grants.items()))
        if at.day % 2:
            local = at.astimezone(ZONES[contract]).date()
            at = day_end(contract, revenue.first_day(revenue.after(revenue.month_of(local))) - DAY)
        if (end is None or at < end) and not self.sql("select 1 from weir.grant_ends where (customer, contract, grant_key) = (%s, %s, %s)",
                                                      name, contract, key) and key not in {rest[0] for rest in books.rollovers.values()}:
            self.sql("insert into weir.grant_ends (customer, contract, grant_key, kind, ends_at, reason, ordered_by)"
                     " values (%s, %s, %s, 'void', %s, 'a test', 'test')", name, contract, key, at)
            books.grants[contract, key] = amount, price, at
            books.ended.add((contract, key))

    def prepay(self, name):
        """Something is bought, drawn, or given back."""
        (contract, key), (amount, price, _end) = self.random.choice(list(CREDITS[name].items()))
        bought = [item for item in self.customer(name).items if (item.contract, item.line[:2]) == (contract, ("fee", key))]
        drawn = -sum(item.amount for item in self.books[name].items if (item.contract, item.line[:2]) == (contract, ("drawdown", key)))
        if price != "0" and (not bought or self.random.random() < 0.1):
            line, change = ("fee", key, None, "b", 1, None, "fee", None, None), exact.parse(price)
        else:
            line, left = ("drawdown", key, None, "b", 1, None, "drawdown", None, None), exact.parse(amount) - drawn
            change = -self.random.choice((left, left // 3, self.random.randrange(max(left, 1)), -drawn // 2))
        number = self.random.randrange(6)
        self.add(name, contract, number, line, 0, change,
                 advance_at=self.in_advance(contract, number) if line[0] == "fee" and self.random.random() < 0.6 else None)

    def discount(self, name):
        """What discounts on the whole invoice take off an item: usage, or a fee."""
        item = self.random.choice((("usage", "tokens", "tokens"), *(("fee", key, None) for key in FEES)))
        self.add(name, self.random.choice(list(CONTRACTS)), self.random.randrange(6), (*item, "b", 1, None, "invoice_discount", None, None), 0,
                 -self.random.choice((self.random.randrange(10 ** 13), 10 ** 12)))

    def settle(self, name):
        super().settle(name)
        self.watermark += self.random.randrange(30) * DAY
        self.look_at_lane()

    def check_revenue(self, where, is_last=True):
        for what, text in REVENUE.items():
            if is_last or self.random.random() < 0.2:
                assert not self.sql(text), f"{what} ({where})"
        for name, books in self.books.items():
            found = {(contract, currency, (month.year, month.month)): (*(exact.parse(text) for text in figures), is_closed)
                     for contract, currency, month, *figures, is_closed in self.sql(
                         "select contract, currency, month, invoiced::text, rounding::text, recognised::text, deferred::text, unbilled::text, is_closed"
                         " from weir.revenue_months where customer = %s and (invoiced, rounding, recognised, deferred, unbilled)"
                         " is distinct from (0, 0, 0, 0, 0)", name)}
            expected = books.months()
            assert found == expected, f"{name} ({where}): " + str(
                {key: (found.get(key), expected.get(key)) for key in {*found, *expected} if found.get(key) != expected.get(key)})


@pytest.mark.parametrize("number", range(CASES))
def test_revenue_is_that_of_the_model(servers, number):
    seed = FIRST * 1000 + number
    ledger = Revenue(servers.room(f"revenue-{seed}", 1), seed)
    happenings = [ledger.usage] * 8 + [ledger.discount] * 3 + [ledger.prepay] * 6 + [ledger.settle] * 4 + [ledger.close] * 5 + [ledger.decide] * 2 + [
        ledger.rerate, ledger.hold, ledger.open_or_release, ledger.end]
    for name in ("acme", "bolt"):
        for _ in range(15):
            ledger.usage(name)
            ledger.prepay(name)
        ledger.settle(name)
    for step in range(STEPS):
        happening = ledger.random.choice(happenings)
        happening(ledger.random.choice(("acme", "bolt")))
        if happening in (ledger.close, ledger.decide) or step == STEPS - 1:
            ledger.check_revenue(f"seed {seed}, step {step}, after {happening.__name__}", step == STEPS - 1)
    assert ledger.sql("select count(*) > 0 from weir.closed_revenue") == [(True,)], "no month was closed"
    assert ledger.sql("select count(*) > 0 from weir.revenue_schedule where is_catch_up") == [(True,)], "nothing came late"
    assert ledger.sql("select bool_or(by_drawdown <> 0) and bool_or(by_breakage <> 0) from weir.prepaid_months") == [(True,)], "nothing was prepaid"
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout


PAGE = (ROOT / "docs" / "revenue.md").read_text(encoding="utf-8")
BLOCKS = {match[2]: match[3] for match in re.finditer(r"^~~~(json|csv) (\w+)\n(.*?)^~~~$", PAGE, re.M | re.S)}


def test_the_worked_example(servers, tmp_path):
    """docs/revenue.md, through the real pipeline."""
    env = {**servers.room("revenue-example"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "revenue-example"}
    (tmp_path / "catalog.json").write_text(BLOCKS["catalog"], encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog.json", env=env)
    for block, day in (("january", "2026-01-31"), ("february", "2026-02-28")):
        (tmp_path / "events.ndjson").write_text(BLOCKS[block], encoding="utf-8")
        weir("produce", tmp_path / "events.ndjson", env=env)
        weir("ingest", "--until-end", env=env)
        weir("rater", "--until-done", env=env)
        weir("close", "--through", day, env=env)
    expected = list(csv.DictReader(io.StringIO(BLOCKS["months"])))
    rows = list(csv.DictReader(io.StringIO(weir("revenue", "--format", "csv", env=env).stdout.decode())))
    figures = ("invoiced", "rounding", "recognised", "deferred", "unbilled")
    assert [{**row, **{name: short(row[name]) for name in figures}} for row in rows][:len(expected)] == expected
    assert [row["month"] for row in rows[-2:]] == ["2026-12", "2027-01"] and short(rows[-1]["recognised"]) == "14"
    one = [json.loads(line) for line in weir("revenue", "--month", "2026-01", "--customer", "bolt", "--format", "json", env=env).stdout.splitlines()]
    assert [(row["month"], row["customer"], row["unbilled"], row["state"]) for row in one] == [("2026-01", "bolt", "4.000000000000", "closed")]
    refused = weir("revenue", "--month", "2026-13", env=env, check=False)
    assert refused.returncode == 2 and b"--month needs a month such as 2026-01" in refused.stderr
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    cursor = connection.cursor()
    cursor.execute("select item, kind, basis, first_day::text, last_day::text, recognised::text, is_catch_up::text from weir.revenue_schedule"
                   " where customer = 'acme' and month = '2026-02-01' and recognised <> 0 order by item, first_day")
    assert [[*row[:5], short(row[5]), row[6]] for row in cursor.fetchall()] == list(csv.reader(io.StringIO(BLOCKS["schedule"])))[1:]
    for what, text in REVENUE.items():
        cursor.execute(text)
        assert not cursor.fetchall(), what
    cursor.execute("select to_char(month, 'YYYY-MM'), purchased::text, drawn::text, by_drawdown::text, by_breakage::text, deferred::text"
                   " from weir.prepaid_months where customer = 'core' order by month")
    assert [[row[0], *map(short, row[1:])] for row in cursor.fetchall()] == list(csv.reader(io.StringIO(BLOCKS["prepaid"])))[1:]
    cursor.execute(re.search(r"^    (SELECT month.*?;)$", PAGE, re.M | re.S)[1])
    assert cursor.fetchall()[0][1:] == (39, 348, 0)
    connection.close()
    every_invariant_is_looked_at(env)
    what_was_altered_of_postings_is_found(env)
    what_was_altered_of_closed_months_is_found(env)


CORE = "customer core, contract core-2026, credit, USD, 2026-0"
GONE = "is gone from weir.closed_months, where it was closed"
ALTERED = [  # what is done to the worked example past the triggers, and what weir audit verify says of it
    ("delete from weir.closed_months where customer = 'acme' and month = '2026-01-01'", f"customer acme, contract acme-2026, 2026-01 {GONE}"),
    ("delete from weir.closed_months where customer = 'acme' and month = '2026-02-01'", f"customer acme, contract acme-2026, 2026-02 {GONE}"),
    ("delete from weir.closed_revenue where customer = 'core' and month = '2026-02-01'; delete from weir.closed_months where customer = 'core'"
     " and month = '2026-02-01'", f"customer core, contract core-2026, 2026-02 {GONE}"),
    ("insert into weir.closed_months select customer, contract, '2026-05-01', through_item from weir.closed_months where customer = 'bolt'"
     " and month = '2026-02-01'", f"customer bolt, contract bolt-2026, 2026-04 {GONE}"),
    *((f"update weir.closed_prepaid set {column} = {column} + 1 where customer = 'core' and month = '2026-0{month}-01'", f"{CORE}{month} of weir.closed_prepaid does not")
      for column in ("purchased", "invoiced", "drawn", "earned", "lapsed", "by_drawdown", "by_breakage", "deferred") for month in (1, 2)),
    ("update weir.closed_prepaid set invoiced = invoiced + 1, deferred = deferred + 1 where customer = 'core'", f"{CORE}1 of weir.closed_prepaid does not"),
    ("update weir.closed_prepaid set purchased = purchased + 1 where customer = 'core'", f"{CORE}1 of weir.closed_prepaid does not"),
    ("delete from weir.closed_prepaid where customer = 'core' and month = '2026-01-01'", f"{CORE}2 of weir.closed_prepaid does not"),
    ("delete from weir.closed_prepaid where customer = 'core' and month = '2026-02-01'", f"{CORE}2 of weir.closed_prepaid does not"),
    ("delete from weir.closed_prepaid where customer = 'core'", 'months ["core", "core-2026", "2026-02-01"] is not what was closed'),
    ("delete from weir.closed_revenue where customer = 'acme'; delete from weir.closed_prepaid where customer = 'acme'; delete from weir.closed_months"
     " where customer = 'acme'", 'months ["acme", "acme-2026", "2026-02-01"] is not what was closed'),
    ("update weir.closed_revenue set invoiced = invoiced + 1, deferred = deferred + 1 where customer = 'acme'",
     'months ["acme", "acme-2026", "2026-02-01"] is not what was closed'),
]


POSTED = [  # the same of the months in which invoices count
    ("update weir.invoice_postings set amount = amount + 1 where customer = 'core'", "invoice {core} is not what was issued"),
    ("update weir.invoice_postings set rounding = rounding + 0.001 where customer = 'core'", "invoice {core} is not what was issued"),
    ("update weir.invoice_postings set currency = 'EUR' where customer = 'core'", "invoice {core} is not what was issued"),
    ("delete from weir.invoice_postings where customer = 'core'", "invoice {core} is gone from weir.invoice_postings"),
    ("delete from weir.invoice_postings where customer = 'core'", "customer core, contract core-2026, USD, 2026-01 was closed with other invoices"),
    ("delete from weir.invoice_numbers where invoice = {core}", "invoice {core} is in weir.invoice_postings, and has no number"),
    ("update weir.invoice_postings set month = '2026-04-01' where customer = 'core'", "invoice {core} counts in another month than its own"),
    ("update weir.invoice_postings set month = '2025-12-01' where customer = 'core'", "invoice {core} counts in another month than its own"),
    ("update weir.invoice_postings set month = '2026-02-01' where customer = 'core'", "customer core, contract core-2026, USD, 2026-02 was closed with other invoices"),
    ("update weir.invoice_postings set month = '2026-03-01' where customer = 'core'", "customer core, contract core-2026, USD, 2026-01 was closed with other invoices"),
    ("update weir.invoice_postings set amount = -amount where document = 'credit_note'", "invoice {bolt} its credit note is not what was issued"),
    ("update weir.invoice_postings set month = '2026-01-01' where document = 'credit_note'", "invoice {bolt} its credit note counts in another month"),
    ("update weir.invoice_postings set month = '2026-05-01' where document = 'credit_note'", "invoice {bolt} its credit note counts in another month"),
]


def what_was_altered_of_postings_is_found(env):
    """Also where a contract's zone is another one now than when its first invoice was made, or the contract is gone."""
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    connection.autocommit = True
    cursor = connection.cursor()
    cursor.execute("update weir.billing_periods set is_closed = true where customer = 'bolt'")
    cursor.execute("update weir.lanes set watermark = '2026-04-10', rated_through = '2026-04-10'")
    cursor.execute("select invoice from weir.close_books('bolt', '2026-03-31', null, true, 'INV', 'x', null, '{}', '{}', '{}') where was_made")
    [[bolt]] = cursor.fetchall()
    cursor.execute("select weir.finalize_invoice(%s, 'INV', 'x')", (bolt,))
    cursor.execute("select weir.void_invoice(%s, 'x', 'x')", (bolt,))
    cursor.execute("select min(invoice) from weir.invoice_heads where customer = 'core'")
    [[core]] = cursor.fetchall()
    connection.autocommit = False
    for zone in ("update weir.revenue_contracts set timezone = 'America/New_York'", "delete from weir.contracts; delete from weir.revenue_contracts", None):
        if zone:
            cursor.execute("set local session_replication_role = replica")
            cursor.execute(zone)
        cursor.execute("select * from weir.posting_mismatches()")
        assert not cursor.fetchall(), zone
        connection.rollback()
    for change, says in POSTED:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute(change.format(core=core, bolt=bolt))
        assert cursor.rowcount > 0, change
        cursor.execute("select subject || ' ' || mismatch from weir.posting_mismatches()")
        told = [text for text, in cursor.fetchall()]
        assert any(text.startswith(says.format(core=core, bolt=bolt)) for text in told), (change, told)
        connection.rollback()
    connection.close()


def what_was_altered_of_closed_months_is_found(env):
    assert b"findings=0" in weir("audit", "verify", env=env).stdout
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    cursor = connection.cursor()
    for change, says in ALTERED:
        cursor.execute("set local session_replication_role = replica")
        cursor.execute(change)
        assert cursor.rowcount > 0, change
        cursor.execute("select subject || ' ' || mismatch from weir.closed_mismatches() union all select subject || ' ' || mismatch from weir.month_mismatches()")
        told = [text for text, in cursor.fetchall()]
        assert any(text.startswith(says) for text in told), (change, told)
        connection.rollback()
    cursor.execute("set session_replication_role = replica")
    cursor.execute(ALTERED[0][0])
    connection.commit()
    connection.close()
    found = weir("audit", "verify", env=env, check=False)
    assert found.returncode == 1 and ALTERED[0][1].encode() in found.stdout


def test_what_is_ended_on_the_first_of_a_month_is_of_that_month(servers, tmp_path):
    """A refund never earns anything, and the month before knows nothing of a void, also where the order says midnight."""
    env = {**servers.room("revenue-ended"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "revenue-ended"}
    (tmp_path / "catalog.json").write_text(json.dumps({
        "meters": [{"key": "calls", "event_type": "call", "aggregation": "sum", "value": "data.calls", "window": "1h"}],
        "price_books": [{"key": "list", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z", "prices": [
            {"meter": "calls", "model": "per_unit", "unit_price": "1"}]}],
        "contracts": [{"key": name, "customer": name, "price_book": "list", "starts_at": "2026-01-01T00:00:00Z", "billing_period": "month", "timezone": "UTC",
                       "commitments": [{"key": "credit", "type": "prepaid", "amount": "100", "price": "90"}]} for name in ("given-back", "lost")]}))
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(
        {"specversion": "1.0", "id": f"{name}{day}", "source": "s", "type": "call", "subject": name, "time": f"2026-{day}T10:00:00Z", "data": {"calls": count}}) + "\n"
        for name in ("given-back", "lost") for day, count in (("01-05", 20), ("03-05", 0))))
    for command in (("migrate",), ("apply", "--catalog", tmp_path / "catalog.json"), ("produce", tmp_path / "events.ndjson"), ("ingest", "--until-end"),
                    ("rater", "--until-done"), *((order, "--customer", name, "--key", "credit", "--at", "2026-02-01", "--reason", "cancelled")
                                                 for order, name in (("refund", "given-back"), ("void", "lost"))), ("close", "--through", "2026-02-28")):
        weir(*command, env=env)
    rows = csv.DictReader(io.StringIO(weir("revenue", "--format", "csv", env=env).stdout.decode()))
    assert [tuple(row[name] if name in ("month", "customer") else short(row[name]) for name in ("month", "customer", "invoiced", "recognised", "deferred"))
            for row in rows if row["month"] < "2026-03"] == [
        ("2026-01", "given-back", "90", "18", "72"), ("2026-01", "lost", "90", "18", "72"),
        ("2026-02", "given-back", "-72", "0", "0"), ("2026-02", "lost", "0", "72", "0")]


BENT = {  # by an invariant, what breaks it
    "line items that do not add up to the quantity and the price of their period": "update weir.price_totals set amount = amount + 1 where customer = 'acme'",
    "a period that is not its usage and its true-up": "update weir.billing_periods set true_up = 7 where customer = 'acme'",
    "draws that are not in the line items, or of which the balance has other ones": "update weir.line_items set amount = amount - 1 where kind = 'drawdown'",
    "a balance that is not the sum of its entries, or below zero": "delete from weir.grant_entries where number = 1",
    "an entry that does not go on where the one before it ended": "update weir.grant_entries set amount = amount - 1, balance_after = balance_after - 1 where number = 2",
    "a line item on two invoices that are not void": "update weir.invoice_ranges set through_item = 1000 where customer = 'acme' and advance_at is null",
    "an invoice in advance with something else, or a line of a later period that is not in advance":
        "update weir.invoice_ranges set advance_at = null where advance_at is not null",
    "an invoice that is not its line items": "update weir.line_items set amount = amount + 1 where item = 'support'",
    "an invoice that is not its lines": "delete from weir.invoice_rows where line = 1",
    "a line whose line items are not as many as it says": "update weir.invoice_rows set line_items = line_items + 1 where line = 1",
    "a number that was left out": "update weir.invoice_numbers set number = number + 1000",
    "a final invoice that is void without a credit note": "insert into weir.invoice_voids select invoice, now(), 'x', 'x' from weir.invoice_numbers",
    "an adjustment that names another period's or item's line": "update weir.invoice_rows set is_adjustment = true,"
                                                                " corrected_invoice = (select min(invoice) from weir.invoice_heads), corrected_line = 1",
    "line items of a period that nothing knows": "delete from weir.billing_periods where customer = 'acme'",
    "a month that does not reconcile": "update weir.closed_revenue set recognised = recognised + 1 where month = '2026-01-01'",
    "months that are not the final invoices": "delete from weir.invoice_numbers",
}


def every_invariant_is_looked_at(env):
    """What every test ends with finds what it is there for; and a ledger that was changed, also when it was changed back."""
    invariants.check(env["WEIR_POSTGRES_URL"])
    assert {*BENT} == {what for _needed, found in invariants.AFTER_EACH for what in found if found[what] is not invariants.CHANGED}
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    cursor = connection.cursor()
    for what, change in BENT.items():
        cursor.execute("set local session_replication_role = replica")
        if "invoice_ranges" in change:
            cursor.execute("alter table weir.invoice_ranges drop constraint invoice_ranges_overlap")
        cursor.execute(change)
        assert cursor.rowcount > 0, what
        assert what in (found := invariants.broken(cursor)), (what, found)
        connection.rollback()
    connection.close()
    with pytest.raises(AssertionError, match="rows of an append-only table"):
        invariants.check(env["WEIR_POSTGRES_URL"])
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    connection.cursor().execute("create table public.bent ()")
    connection.commit()
    connection.close()


def test_a_month_waits_for_every_lane(servers):
    """Also for one that no rater has rated to its end yet, and for those of a topic that is not read any more, until somebody says that
    they are gone for good. weir close says which."""
    ledger = Revenue(servers.room("revenue-lanes", 1), 11)
    ledger.add("acme", "k-old", 0, ("usage", "tokens", "tokens", "b", 1, "flat", "flat", 1, None), exact.SCALE, exact.SCALE)

    def close(through):
        done = weir("close", "--through", through, "--format", "csv", env=ledger.env)
        return [(row["period_start"], row["period_end"], row["state"], row["waits_for"]) for row in csv.DictReader(io.StringIO(done.stdout.decode()))
                if row["kind"] == "month"], re.search(rb"months_left_open=(\d+)", done.stderr)[1].decode()

    def closed():
        return ledger.sql("select max(month)::text from weir.closed_months")[0][0]

    ledger.sql("update weir.lanes set watermark = '2026-03-10', rated_through = null")  # a rater that was killed in its first round
    assert close("2026-02-28") == ([], "2")  # told with its period
    ledger.sql("update weir.billing_periods set is_closed = true")
    january = ("2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "open")
    assert close("2026-01-31") == ([(*january, "not rated: lane events:0 is at its beginning")], "1") and closed() is None
    ledger.sql("insert into weir.lanes (lane, next_offset, highest_offset, watermark, rated_through, seen_at) values"
               " ('older:0', 9, 9, '2026-01-15', '2026-01-15', '2026-01-20 12:00Z'), ('older.admitted:0', 9, 9, '2026-01-02', '2026-01-02', now())")
    ledger.sql("update weir.lanes set rated_through = '2026-03-10' where lane = 'events:0'")
    gone = "not rated: lane older:0 is at 2026-01-15T00:00:00Z, last seen at 2026-01-20T12:00:00Z (if it is gone for good: weir release --end)"
    assert close("2026-02-28") == ([("2026-01-01T00:00:00Z", "2026-03-01T00:00:00Z", "open", gone)], "2") and closed() is None
    assert close("2026-01-30") == ([], "0")

    def end(lane, *options, check=False):
        return weir("release", "--lane", lane, "--end", *options, env=ledger.env, check=check)

    for lane, options, says in (("older:0", (), "--reason is needed"), ("older:0", ("--all", "--reason", "x"), "--end is of a lane"),
                                ("other:0", ("--reason", "x"), "there is no such lane"), ("events:0", ("--reason", "x"), "within the last hour"),
                                ("older.admitted:0", ("--reason", "x"), "nothing waits for a lane of admitted events")):
        refused = end(lane, *options)
        assert refused.returncode == 2 and says in refused.stderr.decode(), refused
    [[gap]] = ledger.sql("insert into weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)"
                         " values ('older:0', 'retention', 1, 2, '2026-02-01', '2026-02-02', now(), true) returning gap")
    assert b"it has open gaps" in end("older:0", "--reason", "x").stderr
    ledger.sql("insert into weir.gap_releases (gap, released_by, reason, lowers) values (%s, 'test', 'known', false)", gap)
    assert b"dry_run ended=older:0" in end("older:0", "--dry-run", check=True).stdout and ledger.sql("select count(*) from weir.lane_ends") == [(0,)]
    assert b"ended=older:0" in end("older:0", "--reason", "its topic was renamed", check=True).stdout
    assert b"it has ended already" in end("older:0", "--reason", "x").stderr
    ledger.sql("update weir.lanes set seen_at = now() - interval '2 h' where lane = 'events:0'")
    assert b"it is the last one" in end("events:0", "--reason", "x").stderr
    assert ledger.sql("select reason, ended_by ~ '@.* as ' from weir.lane_ends") == [("its topic was renamed", True)]
    for change in ("update weir.lane_ends set reason = 'x'", "delete from weir.lane_ends", "truncate weir.lane_ends"):
        with pytest.raises(psycopg2.errors.RestrictViolation):
            ledger.sql(change)
    assert close("2026-01-31") == ([], "0") and closed() == "2026-01-01"

    ledger.sql("update weir.lanes set seen_at = clock_timestamp() where lane = 'older:0'")  # it is not gone: a rater saw it
    assert close("2026-02-28")[0][0][3] == "not rated: lane older:0 is at 2026-01-15T00:00:00Z" and closed() == "2026-01-01"
    ledger.sql("update weir.lanes set seen_at = now() - interval '2 h', rated_at = now() - interval '90 min' where lane = 'older:0'")
    ledger.sql("insert into weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)"
               " values ('events:0', 'retention', 1, 2, '2026-01-10', '2026-01-11', now(), true)")
    assert re.fullmatch(r"gap \d+ of lane events:0 is open: weir release", close("2026-02-28")[0][0][3])
    ledger.sql("insert into weir.gap_releases (gap, released_by, reason, lowers) select gap, 'test', 'known', false from weir.open_gaps")
    ledger.sql("insert into weir.held_windows (customer, window_start, series, lane, window_end, meter, dimensions, series_key, total, events, value)"
               " values ('acme', '2026-01-07', gen_random_uuid(), 'events:0', '2026-01-08', 'tokens', '{}', '', '', 1, 1)")
    assert close("2026-02-28")[0][0][3] == "1 windows from 2026-01-07T00:00:00Z on are held or refused: weir.held_usage"
    ledger.sql("delete from weir.held_windows")
    ledger.sql("insert into weir.lanes (lane, next_offset, highest_offset, watermark, seen_at) values ('older:1', 1, 1, '2026-01-01', now() - interval '2 h')")
    end("older:1", "--reason", "stopped for good", check=True)
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout
    ledger.sql("create table public.bent (); set session_replication_role = replica; update weir.lane_ends set reason = 'another' where reason like 'stopped%'")
    assert b"is not what the log tells" in weir("audit", "verify", env=ledger.env, check=False).stdout


def test_what_is_written_down_cannot_be_changed(servers):
    ledger = Revenue(servers.room("revenue-kept", 1), 5)
    ledger.add("acme", "k-old", 0, ("fee", "platform", None, "b", 1, None, "fee", None, "10.000000000000"), exact.SCALE, 10 ** 13)
    ledger.add("acme", "k-old", 0, ("fee", "credit", None, "b", 1, None, "fee", None, None), exact.SCALE, exact.parse("85"))
    ledger.sql("update weir.billing_periods set is_closed = true")
    ledger.sql("update weir.lanes set watermark = '2026-04-01', rated_through = null")  # its rater was killed before it came to the end of its list
    weir("close", "--through", "2026-02-28", env=ledger.env)
    assert ledger.sql("select count(*) from weir.closed_months") == [(0,)], "there may be usage that is not rated"
    ledger.sql("update weir.lanes set rated_through = '2026-04-01'")
    weir("close", "--draft", "--through", "2026-02-28", env=ledger.env)
    assert ledger.sql("select count(*) from weir.closed_months") == [(0,)], "a draft closes no month"
    weir("close", "--through", "2026-02-28", env=ledger.env)
    assert ledger.sql("select month::text from weir.closed_months order by 1") == [("2026-01-01",), ("2026-02-01",)]
    for table in ("fee_terms", "revenue_contracts", "closed_months", "closed_revenue", "closed_prepaid", "month_closings", "invoice_postings"):
        column = ledger.sql(f"select attname from pg_attribute where attrelid = 'weir.{table}'::regclass and attnum = 1")[0][0]
        assert ledger.sql(f"select count(*) > 0 from weir.{table}") == [(True,)], table
        for change in (f"update weir.{table} set {column} = {column}", f"delete from weir.{table}", f"truncate weir.{table} cascade"):
            with pytest.raises(psycopg2.errors.RestrictViolation):
                ledger.sql(change)
    before = ledger.sql("select * from weir.revenue_months where month < '2026-03-01' order by month")
    ledger.sql("delete from weir.contracts")  # as a catalog without it
    assert ledger.sql("select * from weir.revenue_months where month < '2026-03-01' order by month") == before
    assert not ledger.sql(REVENUE["a month that is not the sum of its schedule"])
