"""weir close and weir invoice on ledgers that are made at random: line items come late, are taken back by reratings, periods are
settled or held in any order, invoices become drafts, final and void; closings are repeated, and killed. Every invoice is what the
model makes of the same (tests/model/invoices.py), and what SQL says of all of them holds after each.

WEIR_INVOICE_CASES (3) cases from WEIR_RANDOM_SEED (1)."""
import copy
import csv
import datetime
import decimal
import hashlib
import html.parser
import io
import json
import os
import random
import re
import signal
import subprocess
import time
import zoneinfo

import jsonschema
import psycopg2
import psycopg2.errors
import pytest
from harness import BINARY, ROOT, until, weir
from invariants import INVOICES
from model import exact, invoices

PAGE = (ROOT / "docs" / "invoices.md").read_text(encoding="utf-8")
BLOCKS = {match[2]: match[3] for match in re.finditer(r"^~~~(json|csv) (\w+)\n(.*?)^~~~$", PAGE, re.M | re.S)}
FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_INVOICE_CASES", "3"))
UTC = datetime.timezone.utc
DAY = datetime.timedelta(days=1)
BOOKS = {"b": ("USD", 2, "half_even"), "u": ("USD", 2, "half_up"), "e": ("EUR", 2, "half_even")}
CONTRACTS = {"k-east": "America/New_York", "k-old": "UTC", "": "Asia/Kolkata"}



def day_end(contract, day):
    zone = zoneinfo.ZoneInfo(CONTRACTS.get(contract, "UTC"))
    return (datetime.datetime.combine(day + DAY, datetime.time(), zone)).astimezone(UTC)


class Ledger:
    """A database, and the model beside it: whatever is done to the one is done to the other."""

    def __init__(self, env, seed):
        self.env, self.random = env, random.Random(seed)
        self.connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
        self.connection.autocommit = True
        self.books, self.series = {}, invoices.new_series()
        self.held, self.gaps, self.invariants = {}, {}, INVOICES
        self.migrate()
        self.sql("create table public.made_by_hand ()")
        for name, (currency, places, rounding) in BOOKS.items():
            self.sql("insert into weir.price_books values (%s, %s, %s, %s)", name, currency, places, rounding)
        for contract, zone in CONTRACTS.items():
            self.sql("insert into weir.contracts (contract, customer, price_book, billing_period, timezone, overrides, commitments)"
                     " values (%s, %s, 'b', 'month', %s, '[]', '[]')", contract, "x" if contract else None, zone)
        self.sql("insert into weir.lanes (lane, next_offset, highest_offset, watermark, rated_through) values ('events:0', 1, 1, '2026-01-01', '2026-01-01')")

    def migrate(self):
        weir("migrate", env=self.env)

    def sql(self, text, *values):
        with self.connection.cursor() as cursor:
            cursor.execute(text, values or None)
            return cursor.fetchall() if cursor.description else None

    def customer(self, name):
        if name not in self.books:
            self.sql("insert into weir.customers values (%s)", name)
            self.books[name] = invoices.Books(self.series, {book: (places, rounding == "half_up") for book, (_, places, rounding) in BOOKS.items()},
                                              day_end)
        return self.books[name]

    def period(self, contract, number):
        """Half months in 2026, in the contract's time zone."""
        day = datetime.date(2026, 1 + number // 2, 1 + number % 2 * 14)
        after = datetime.date(2026, 1 + (number + 1) // 2, 1 + (number + 1) % 2 * 14)
        return day_end(contract, day - DAY), day_end(contract, after - DAY)

    def add(self, name, contract, number, line, quantity, amount, currency="USD", rerating=None, as_kind=None, window=None, advance_at=None):
        """As a rater does: under the customer's lock, with the period's row."""
        start, end = self.period(contract, number)
        books = self.customer(name)
        self.sql("select weir.make_line_items_partition(%s)", start.date())
        kind = as_kind or line[0]
        with self.connection.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute("select from weir.customers where customer = %s for no key update", (name,))
            cursor.execute("insert into weir.billing_periods values (%s, %s, %s, %s, 0, 0, 0, true, false) on conflict do nothing",
                           (name, contract, start, end))
            cursor.execute(
                "insert into weir.line_items (customer, contract, item, meter, dimensions, period_start, period_end, window_start, window_end, kind,"
                " component, price_book, price_book_version, model, tier, quantity, unit_price, amount, currency, revision, rerating"
                + (", advance_at" if advance_at else "") + ") values (%s, %s, %s, %s, '{}', %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, %s, 1, %s"
                + (", %s" if advance_at else "") + ") returning line_item_id",
                (name, contract, line[1], line[2], start, end, *(window or (start, end)), kind, line[6], line[3], line[4], line[5], line[7],
                 exact.fixed(quantity), line[8], exact.fixed(amount), currency, rerating, *([advance_at] if advance_at else [])))
            identity = cursor.fetchone()[0]
            cursor.execute("commit")
        books.periods[contract].setdefault(start, invoices.Period(end))
        books.items.append(invoices.Item(identity, contract, start, end, currency, line, quantity, amount, advance_at, rerating is not None))
        return books.items[-1]

    # what may happen
    def usage(self, name):
        chance = self.random
        tier = chance.choice((1, 2, 3))
        book = chance.choice("bbu")
        line = chance.choice((("usage", "tokens", "tokens", book, 1, "graduated", "units", tier, f"0.{tier:012}"),
                              ("usage", "calls", "calls", book, 1, "flat", "flat", 1, None),
                              ("fee", "platform", None, book, 1, None, "fee", None, "10.000000000000"),
                              ("true_up", "floor", None, book, None, None, "true_up", None, None)))
        currency = "USD"
        if chance.random() < 0.1:
            line, currency = (*line[:3], "e", *line[4:]), "EUR"
        amount = chance.choice((chance.randrange(-10 ** 13, 10 ** 14), chance.randrange(1, 10 ** 3), 5 * 10 ** 9, 0))
        contract, number = chance.choice(list(CONTRACTS)), chance.randrange(6)
        self.add(name, contract, number, line, chance.randrange(0, 3) * exact.SCALE, amount, currency,
                 advance_at=self.in_advance(contract, number) if line[0] == "fee" and chance.random() < 0.6 else None)

    def in_advance(self, contract, number):
        """A fee's time is the start of its period; what is bought may come later in it."""
        start, end = self.period(contract, number)
        return start if self.random.random() < 0.7 else start + self.random.random() * (end - start)

    def rerate(self, name):
        """Some line items are taken back; what they were charged under may be gone."""
        books = self.books[name]
        for item in self.random.sample(books.items, min(3, len(books.items))):
            number = next(n for n in range(6) if self.period(item.contract, n)[0] == item.start)
            self.add(name, item.contract, number, item.line, -item.quantity, -item.amount, item.currency, 1,
                     "reversal" if item.line[0] in ("usage", "fee", "true_up") else None)
        contract = self.random.choice(list(CONTRACTS))
        if books.periods[contract] and self.random.random() < 0.3:
            start = self.random.choice(list(books.periods[contract]))
            self.sql("delete from weir.billing_periods where customer = %s and contract = %s and period_start = %s", name, contract, start)
            del books.periods[contract][start]

    def settle(self, name):
        for contract, periods in self.books[name].periods.items():
            for start, period in periods.items():
                if not period.is_settled and self.random.random() < 0.7:
                    self.sql("update weir.billing_periods set is_closed = true where customer = %s and contract = %s and period_start = %s",
                             name, contract, start)
                    period.is_settled = True

    def hold(self, name):
        start, end = self.period("", self.random.randrange(6))
        if self.held.pop(name, None):
            self.sql("delete from weir.held_windows where customer = %s", name)
        else:
            self.sql("insert into weir.held_windows (customer, window_start, series, lane, window_end, meter, dimensions, series_key, total, events,"
                     " value) values (%s, %s, gen_random_uuid(), 'events:0', %s, 'tokens', '{}', '', '', 1, 1)", name, start, end)
            self.held[name] = (start, end)
        self.look_for_obstacles()

    def open_or_release(self, _name):
        if self.gaps:
            gap, _span = self.gaps.popitem()
            self.sql("insert into weir.gap_releases (gap, released_by, reason, lowers) values (%s, 'test', 'known', false)", gap)
        else:
            start = self.period("", self.random.randrange(6))[0] + DAY
            [[gap]] = self.sql("insert into weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)"
                               " values ('events:0', 'retention', 1, 2, %s, %s, now(), true) returning gap", start, start + DAY)
            self.gaps[gap] = (start, start + DAY)
        self.look_for_obstacles()

    def look_for_obstacles(self):
        for name, books in self.books.items():
            spans = [*self.gaps.values(), *([self.held[name]] if name in self.held else [])]
            for periods in books.periods.values():
                for start, period in periods.items():
                    period.obstacle = any(low < period.end and high > start for low, high in spans)

    def close(self, name):
        self.look_for_obstacles()
        day = datetime.date(2026, 1, 1) + self.random.randrange(150) * DAY
        is_draft, names = self.random.random() < 0.4, [name] if self.random.random() < 0.3 else sorted(self.books)
        done = weir("close", "--through", day, *(["--draft"] if is_draft else []), *(["--customer", name] if names == [name] else []), env=self.env)
        before = {id(i): i.state for books in self.books.values() for i in books.invoices}
        for each in names:
            self.books[each].close(day, is_draft)
        made = [i for books in self.books.values() for i in books.invoices if id(i) not in before]
        issued = [i for books in self.books.values() for i in books.invoices if i.state == "final" and before.get(id(i)) != "final"]
        assert f"customers={len(names)} invoices={len(made)} issued={len(issued)} ".encode() in done.stderr, done.stderr

    def decide(self, name):
        """A draft becomes final, or any invoice void."""
        live = self.books[name].live()
        if not live:
            return
        invoice = self.random.choice(live)
        row = self.sql("select invoice, invoice_number from weir.invoices where customer = %s and contract = %s and kind = %s and period_start = %s"
                       " and currency = %s and state <> 'void' order by invoice desc", name, invoice.contract, invoice.kind, invoice.start, invoice.currency)
        identity, number = row[len([i for i in live[live.index(invoice) + 1:] if (i.contract, i.kind, i.start, i.currency) == (
            invoice.contract, invoice.kind, invoice.start, invoice.currency)])]
        if invoice.state == "draft" and self.random.random() < 0.5:
            self.finalize(identity)
            self.books[name].finalize(invoice)
        else:
            self.void(identity, number)
            self.books[name].void(invoice)

    def finalize(self, identity):
        weir("invoice", "finalize", identity, env=self.env)

    def void(self, identity, number):
        weir("invoice", "void", number or identity, "--reason", "a test", env=self.env)

    # what must hold
    def check(self, where):
        for what, text in self.invariants.items():
            assert not self.sql(text), f"{what} ({where})"
        found = {}
        for key in self.sql("select invoice, customer, contract, kind, period_start, period_end, currency, state, number, credit_note_number, amount, total"
                            " from weir.invoices"):
            lines = self.sql("select is_adjustment, service_start, kind, item, meter, price_book, price_book_version, model, component, tier,"
                             " unit_price::text, quantity::text, amount::text, invoice_amount::text from weir.invoice_rows where invoice = %s", key[0])
            items = self.sql("select line_item_id from weir.invoice_line_items where invoice = %s order by 1", key[0])
            found[key[1:2] + tuple(i for i, in items)] = found.get(key[1:2] + tuple(i for i, in items), []) + [
                (*key[2:9], key[9] and int(key[9].rpartition("-")[2]), exact.parse(str(key[10])), exact.parse(str(key[11])),
                 sorted(((*line[:10], line[10], *map(exact.parse, line[11:])) for line in lines), key=repr))]
        expected = {}
        for name, books in self.books.items():
            for i in books.invoices:
                lines = [(*key, quantity, amount, invoiced) for key, quantity, amount, invoiced in i.lines]
                rest = i.total - sum(line[-1] for line in lines)
                if rest:
                    lines.append((False, i.start, "rounding", "", *[None] * 7, 0, 0, rest))
                key = (name, *(item.number for item in i.items))
                expected[key] = expected.get(key, []) + [(i.contract, i.kind, i.start, i.end, i.currency, i.state, i.number or None,
                                                          i.credit_note or None, i.amount, i.total, sorted(lines, key=repr))]
        for key in sorted(set(found) | set(expected)):
            assert sorted(found.get(key, []), key=repr) == sorted(expected.get(key, []), key=repr), f"{key[0]}, line items {key[1:]} ({where})"


@pytest.mark.parametrize("number", range(CASES))
def test_invoices_are_those_of_the_model(servers, number):
    seed = FIRST * 1000 + number
    ledger = Ledger(servers.room(f"invoices-{seed}", 1), seed)
    happenings = [ledger.usage] * 12 + [ledger.settle] * 4 + [ledger.close] * 6 + [ledger.decide] * 3 + [ledger.rerate, ledger.hold, ledger.open_or_release]
    for name in ("acme", "bolt"):
        for _ in range(10):
            ledger.usage(name)
    for step in range(120):
        happening = ledger.random.choice(happenings)
        happening(ledger.random.choice(("acme", "bolt")))
        if happening in (ledger.close, ledger.decide):
            ledger.check(f"seed {seed}, step {step}, after {happening.__name__}")
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout
    states = {state for state, in ledger.sql("select distinct state from weir.invoices")}
    assert states == {"draft", "final", "void"} or "final" in states, "the case closes hardly anything"


class Older(Ledger):
    """A ledger of before migration 45, which no weir of today writes to: what its raters, weir close and weir invoice did is done in SQL."""

    def migrate(self):
        self.is_older, self.invariants = True, {what: text for what, text in INVOICES.items() if "advance_at" not in text}
        self.sql("create schema weir; create table weir.schema_migrations (version integer primary key, name text not null, checksum text not null,"
                 " applied_at timestamptz not null default now())")
        for path in sorted((ROOT / "schemas" / "postgres").glob("0*.sql"))[:44]:
            text = path.read_bytes()
            self.sql(text.decode())
            self.sql("insert into weir.schema_migrations values (%s, %s, %s)", int(path.stem[:4]), path.stem[5:], hashlib.sha256(text).hexdigest())

    def add(self, *arguments, advance_at=None, **more):
        return super().add(*arguments, advance_at=None if self.is_older else advance_at, **more)

    def close(self, name):
        if not self.is_older:
            return super().close(name)
        self.look_for_obstacles()
        day, is_draft = datetime.date(2026, 1, 1) + self.random.randrange(100) * DAY, self.random.random() < 0.4
        [[closing]] = self.sql("insert into weir.closings (started_by, through, filters, is_draft) values ('test', %s, '{}', %s) returning closing",
                               str(day), is_draft)
        for each, books in sorted(self.books.items()):
            self.sql("select from weir.close_books(%s, %s, null, %s, 'INV', 'test', %s, '{}', '{}', '{}')", each, day, is_draft, closing)
            books.close(day, is_draft)
        return self.sql("insert into weir.closing_ends (closing, customers, invoices, issued, left_open) values (%s, 0, 0, 0, 0)", closing)

    def finalize(self, identity):
        if not self.is_older:
            return super().finalize(identity)
        return self.sql("select weir.finalize_invoice(%s, 'INV', 'test')", identity)

    def void(self, identity, number):
        if not self.is_older:
            return super().void(identity, number)
        return self.sql("select weir.void_invoice(%s, 'test', 'a test')", identity)


def test_a_ledger_of_before_goes_on(servers):
    """What was charged in advance before migration 45 stays on the invoice that has it, or comes to its own period's: never twice, never nowhere."""
    ledger = Older(servers.room("invoices-older", 1, is_migrated=False), FIRST)
    invoices_of = "select md5(string_agg(h::text || l.rows, ' ' order by h.invoice)) from (select invoice, customer, contract, kind, period_start, amount," \
        " state, invoice_number from weir.invoices where invoice <= %s) h join lateral (select string_agg(r::text, ' ' order by line) as rows" \
        " from weir.invoice_rows r where r.invoice = h.invoice) l on true"
    happenings = [ledger.usage] * 12 + [ledger.settle] * 4 + [ledger.close] * 4 + [ledger.decide] * 2 + [ledger.rerate, ledger.hold, ledger.open_or_release]
    fees = "select count(*), count(*) filter (where not exists (select from weir.invoice_line_items l where l.line_item_id = i.line_item_id" \
        " and l.customer = i.customer and l.period_start = i.period_start and not l.is_void)) from weir.line_items i where kind = 'fee'"
    for name in ("acme", "bolt"):
        ledger.usage(name)
    for step in range(2000):
        ledger.random.choice(happenings)(ledger.random.choice(("acme", "bolt")))
        [(charged, waiting)] = ledger.sql(fees)
        if step >= 100 and 0 < waiting < charged and ledger.sql("select count(distinct state) from weir.invoices") == [(3,)]:
            break
    assert 0 < waiting < charged
    ledger.check("before the migration")
    [[last]] = ledger.sql("select max(invoice) from weir.invoice_heads")
    before = ledger.sql(invoices_of, last)
    assert b"applied" in weir("migrate", env=ledger.env).stdout
    ledger.is_older, ledger.invariants = False, INVOICES
    assert ledger.sql(invoices_of, last) == before
    ledger.check("after the migration")
    for step in range(500):
        happening = ledger.random.choice(happenings)
        happening(ledger.random.choice(("acme", "bolt")))
        if happening in (ledger.close, ledger.decide):
            ledger.check(f"seed {FIRST}, step {step} after the migration, after {happening.__name__}")
            if step >= 60 and ledger.sql("select true from weir.invoice_ranges where advance_at is not null limit 1"):
                break
    assert ledger.sql("select true from weir.invoice_ranges where advance_at is not null limit 1"), "nothing was in advance since"
    ledger.close("acme")
    ledger.check("at the end")
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout


def many(servers, name, customers):
    ledger = Ledger(servers.room(name, 1), 7)
    for number in range(customers):
        for period in range(3):
            ledger.add(f"c{number:03}", "k-east", period, ("usage", "calls", "calls", "b", 1, "flat", "flat", 1, None), exact.SCALE, number * 10 ** 9 + 1)
    ledger.sql("update weir.billing_periods set is_closed = true")
    for books in ledger.books.values():
        for period in books.periods["k-east"].values():
            period.is_settled = True
    return ledger


def number_as_it_came(ledger):
    """Customers that are closed at once have their numbers as they came: the model takes them over."""
    for name, books in ledger.books.items():
        for invoice in books.invoices:
            [[invoice.number]] = ledger.sql("select number from weir.invoices where customer = %s and contract = %s and kind = %s and period_start = %s"
                                            " and state = 'final'", name, invoice.contract, invoice.kind, invoice.start)


@pytest.mark.parametrize("workers", [1, 4])
def test_a_closing_that_is_killed_goes_on_where_it_was(servers, workers):
    """kill -9 at any point: the same command again, and every invoice is there once, every number given."""
    ledger = many(servers, f"invoices-killed-{workers}", 120)
    command = [BINARY, "close", "--through", "2026-02-14", "--close-workers", str(workers)]
    kills, deadline = 0, time.monotonic() + 120
    while time.monotonic() < deadline:
        process = subprocess.Popen(command, env={**os.environ, **ledger.env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
        try:
            process.wait(timeout=ledger.random.uniform(0.01, 0.25) if kills < 12 else 60)
        except subprocess.TimeoutExpired:
            process.send_signal(signal.SIGKILL)
            process.wait()
            kills += 1
            for what in ("a line item on two invoices that are not void", "a number that was left out", "an invoice that is not its lines"):
                assert not ledger.sql(INVOICES[what]), what
            deadline_of_lock = time.monotonic() + 120  # the server ends the session, and with it the lock
            while ledger.sql("select 1 from pg_stat_activity where application_name = 'weir close' and datname = current_database()"):
                assert time.monotonic() < deadline_of_lock
                time.sleep(0.02)
        else:
            assert process.returncode == 0, process.stderr.read()
            break
    assert kills > 0, "it was never killed: there is too little to do"
    for name in sorted(ledger.books):
        ledger.books[name].close(datetime.date(2026, 2, 14), False)
    if workers > 1:
        number_as_it_came(ledger)
    ledger.check(f"after {kills} kills")
    again = weir("close", "--through", "2026-02-14", env=ledger.env)
    assert b"customers=120 invoices=0 issued=0 left_open=0" in again.stderr
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout


def rows_of(text):
    """What weir close has told of periods, without the numbers."""
    rows = [row for row in csv.DictReader(io.StringIO(text.decode())) if row["kind"] != "month"]
    return [{name: cell for name, cell in row.items() if name != "invoice"} for row in rows], [row["invoice"] for row in rows if row["invoice"]]


def issued(ledger):
    return sorted(number for number, in ledger.sql("select series || '-' || lpad(number::text, 6, '0') from weir.invoice_numbers"))


def test_customers_closed_at_once(servers):
    """As one after the other, told in the same order. Drafts that are replaced meanwhile make nobody wait for somebody who waits for him."""
    alone, ledger = many(servers, "invoices-alone", 80), many(servers, "invoices-at-once", 80)
    command = ["close", "--through", "2026-02-14", "--format", "csv", "--close-workers"]
    assert weir(*command, 5, "--dry-run", env=ledger.env).stdout == weir(*command, 1, "--dry-run", env=alone.env).stdout
    for each in (ledger, alone):
        weir("close", "--through", "2026-01-31", "--draft", env=each.env)
        for number in range(0, 80, 2):
            each.add(f"c{number:03}", "k-east", 0, CALLS, exact.SCALE, 10 ** 12)
    [told, numbers], [expected, _numbers] = (rows_of(weir(*command, workers, env=each.env).stdout) for each, workers in ((ledger, 5), (alone, 1)))
    assert told == expected and len(told) == 240
    assert sorted(numbers) == issued(ledger) == [f"INV-{number:06}" for number in range(1, 241)]
    assert ledger.sql("select deadlocks from pg_stat_database where datname = current_database()") == [(0,)]
    for what, text in ledger.invariants.items():
        assert not ledger.sql(text), what
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout


@pytest.mark.parametrize("workers", [1, 4])
def test_whatever_ends_a_closing_all_that_was_made_is_told(servers, workers):
    """A customer that cannot be closed: the others that were under way are done. A signal: as many as were under way."""
    ledger = many(servers, f"invoices-ended-{workers}", 60)
    ledger.sql("create function public.refuse() returns trigger language plpgsql as $$ begin if new.customer = 'c030' then raise exception 'no more'; end if;"
               " return new; end $$")
    ledger.sql("create trigger refuse before insert on weir.invoice_heads for each row execute function public.refuse()")
    command = ["close", "--through", "2026-02-14", "--format", "csv", "--close-workers", workers]
    done = weir(*command, env=ledger.env, check=False)
    assert done.returncode == 1 and b"no more" in done.stderr, done.stderr
    told, numbers = rows_of(done.stdout)
    assert sorted(numbers) == issued(ledger) and [row["customer"] for row in told] == sorted(row["customer"] for row in told)
    assert {f"c{number:03}" for number in range(30)} <= {row["customer"] for row in told}
    assert workers > 1 or len(numbers) == 90
    ledger.sql("drop trigger refuse on weir.invoice_heads")

    before, hands = set(numbers), [f"c{number:03}" for number in range(40, 40 + workers)]
    other = psycopg2.connect(ledger.env["WEIR_POSTGRES_URL"])
    with other.cursor() as cursor:
        cursor.execute("select from weir.customers where customer = any (%s) for update", (hands,))
        process = subprocess.Popen([BINARY, *map(str, command)], env={**os.environ, **ledger.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until("each worker waits for a customer", lambda: ledger.sql(
            "select count(*) from pg_stat_activity where application_name = 'weir close' and datname = current_database()"
            " and wait_event_type = 'Lock' and wait_event in ('transactionid', 'tuple')") == [(workers,)])
        process.send_signal(signal.SIGTERM)
    other.close()
    output, said = process.communicate(timeout=120)
    assert process.returncode == 1 and b"stopped by a signal" in said, said
    told, numbers = rows_of(output)
    assert sorted(numbers) == sorted(set(issued(ledger)) - before)
    assert set(hands) <= {row["customer"] for row in told} and "c059" not in {row["customer"] for row in told}
    assert b" left_open=0 " in weir(*command, env=ledger.env).stderr and len(issued(ledger)) == 180


def test_a_customer_that_takes_long_is_waited_for(servers):
    """The others go on, 1,024 ahead of him and no further: that bounds what is to be told. They may be idle as long as it takes."""
    ledger = Ledger(servers.room("invoices-ahead", 1), 7)
    ledger.sql("set idle_session_timeout = 0")
    ledger.sql("do $$ begin execute format('alter database %I set idle_session_timeout = %L', current_database(), '900ms'); end $$")
    ledger.sql("insert into weir.customers select 'c' || lpad(n::text, 4, '0') from generate_series(0, 1099) as n")
    ledger.sql("select weir.make_line_items_partition('2026-01-01')")
    start, end = ledger.period("k-east", 0)
    ledger.sql("insert into weir.billing_periods select customer, 'k-east', %s, %s, 0, 0, 0, true, true from weir.customers", start, end)
    ledger.sql("insert into weir.line_items (customer, contract, item, meter, dimensions, period_start, period_end, window_start, window_end, kind, component,"
               " price_book, price_book_version, model, tier, quantity, amount, currency, revision) select customer, 'k-east', 'calls', 'calls', '{}', %s, %s,"
               " %s, %s, 'usage', 'flat', 'b', 1, 'flat', 1, 1, 1, 'USD', 1 from weir.customers", start, end, start, end)
    ledger.sql("analyze")
    other = psycopg2.connect(ledger.env["WEIR_POSTGRES_URL"])
    with other.cursor() as cursor:
        cursor.execute("select from weir.customers where customer = 'c0000' for update")
        process = subprocess.Popen([BINARY, "close", "--through", "2026-02-14", "--close-workers", "2", "--format", "csv"],
                                   env={**os.environ, **ledger.env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
        until("the others are done", lambda: ledger.sql(
            "select count(*) from pg_stat_activity where application_name = 'weir close' and datname = current_database()"
            " and state = 'idle' and state_change < clock_timestamp() - interval '1 s'") == [(1,)])
        assert ledger.sql("select count(*) from weir.invoices") == [(1023,)]
    other.close()
    output, said = process.communicate(timeout=120)
    assert process.returncode == 0 and b"customers=1100 invoices=1100 issued=1100 " in said, said
    told, numbers = rows_of(output)
    assert [row["customer"] for row in told] == [f"c{number:04}" for number in range(1100)] and sorted(numbers) == issued(ledger)


PLATFORM = ("fee", "platform", None, "b", 1, None, "fee", None, "10.000000000000")
CALLS = ("usage", "calls", "calls", "b", 1, "flat", "flat", 1, None)
CREDIT = ("fee", "credit", None, "b", 1, None, "fee", None, None)


def test_what_is_charged_in_advance(servers):
    """At the contract's start and when something is bought by itself, later with the period that ends then; taken back by the next one."""
    ledger = Ledger(servers.room("invoices-advance", 1), 9)
    starts = [ledger.period("k-old", number)[0] for number in range(4)]

    def settle(number):
        ledger.sql("update weir.billing_periods set is_closed = true where period_start = %s", starts[number])
        ledger.books["acme"].periods["k-old"][starts[number]].is_settled = True

    def close(through, draft=False):
        """What is new: kind, period's first day, lines. The command's own table says the kind as well."""
        done = weir("close", "--through", through, *(["--draft"] if draft else []), "--format", "csv", env=ledger.env)
        kinds = dict(ledger.sql("select coalesce(invoice_number, invoice::text), kind from weir.invoices"))
        told = [row for row in csv.DictReader(io.StringIO(done.stdout.decode())) if row["kind"] != "month"]
        assert [row["kind"] for row in told] == [kinds.get(row["invoice"], "") for row in told]
        ledger.books["acme"].close(datetime.date.fromisoformat(through), draft)
        ledger.check(f"through {through}")
        [[last]] = ledger.sql("select coalesce(max(invoice), 0) from public.seen")
        ledger.sql("insert into public.seen select invoice from weir.invoice_heads where invoice > %s", last)
        return ledger.sql("select h.kind, h.period_start::date::text, string_agg(r.item || ' ' || r.service_start::date || ' ' || r.invoice_amount || coalesce("
                          "' <- ' || r.corrected_invoice || '/' || r.corrected_line, ''), ', ' order by r.line) from weir.invoice_heads h"
                          " join weir.invoice_rows r using (invoice) where invoice > %s group by h.invoice order by h.invoice", last)

    ledger.sql("create table public.seen (invoice bigint); set timezone = 'UTC'")
    add = lambda *arguments, **more: ledger.add("acme", "k-old", *arguments, **more)
    add(0, CALLS, exact.SCALE, exact.SCALE)
    add(0, PLATFORM, exact.SCALE, 10 * exact.SCALE, advance_at=starts[0])
    add(0, CALLS, exact.SCALE, exact.SCALE)
    add(0, CREDIT, exact.SCALE, 85 * exact.SCALE, advance_at=starts[0] + 3 * DAY)
    assert close("2025-12-30") == []
    assert close("2025-12-31", True) == close("2026-01-01", True) + [("advance", "2026-01-01", "platform 2026-01-01 10.00")]
    assert close("2026-01-02") == [] and ledger.sql("select invoice_number from weir.invoices") == [("INV-000001",)]
    assert close("2026-01-05") == [("advance", "2026-01-04", "credit 2026-01-01 85.00")]
    assert close("2026-01-13") == []  # the period goes on
    settle(0)
    add(1, CALLS, exact.SCALE, 3 * exact.SCALE)
    add(1, PLATFORM, exact.SCALE, 11 * exact.SCALE, advance_at=starts[1])
    add(1, CALLS, exact.SCALE, 4 * exact.SCALE)
    assert close("2026-01-14") == [("period", "2026-01-01", "calls 2026-01-01 2.00, platform 2026-01-15 11.00")]
    for quantity, amount in ((-1, -11), (1, 12)):  # a rerating of the fee, before its period ends
        add(1, PLATFORM, quantity * exact.SCALE, amount * exact.SCALE, rerating=1, as_kind="reversal" if amount < 0 else None)
    add(2, PLATFORM, exact.SCALE, 13 * exact.SCALE, advance_at=starts[2])
    assert close("2026-01-20") == []
    settle(1)
    assert close("2026-01-31") == [("period", "2026-01-15", "calls 2026-01-15 7.00, platform 2026-02-01 13.00, platform 2026-01-15 1.00 <- 3/2")]
    weir("invoice", "void", "INV-4", "--reason", "wrong", env=ledger.env)
    ledger.books["acme"].void(ledger.books["acme"].invoices[3])
    assert close("2026-01-31") == [("period", "2026-01-15", "calls 2026-01-15 7.00, platform 2026-02-01 13.00, platform 2026-01-15 1.00 <- 3/2")]
    weir("invoice", "void", "INV-1", "--reason", "wrong", env=ledger.env)
    ledger.books["acme"].void(ledger.books["acme"].invoices[0])
    assert close("2026-01-31") == [("advance", "2026-01-01", "platform 2026-01-01 10.00")]
    add(3, PLATFORM, exact.SCALE, 14 * exact.SCALE, advance_at=starts[3])
    assert close("2026-02-20") == []  # it waits for the period that ends then
    settle(2)
    assert close("2026-02-20") == [("period", "2026-02-01", "platform 2026-02-15 14.00")]
    assert ledger.sql("select replaces is not null from weir.invoices where state <> 'void' and kind = 'advance' order by invoice") == [(False,), (True,)]
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout
    ledger.sql("alter table weir.invoice_ranges disable trigger user; create table public.bent ()")
    ledger.sql("update weir.invoice_ranges set advance_at = advance_at + interval '1 day' where invoice = 2 and advance_at is not null")
    assert b"invoice 2 is not what was issued" in weir("audit", "verify", env=ledger.env, check=False).stdout


def test_nothing_of_an_invoice_can_be_changed(servers):
    ledger = many(servers, "invoices-kept", 2)
    weir("close", "--through", "2026-01-31", env=ledger.env)
    weir("invoice", "void", "INV-1", "--reason", "wrong", env=ledger.env)
    for table in ("closings", "closing_ends", "invoice_heads", "invoice_rows", "invoice_ranges", "invoice_numbers", "invoice_voids"):
        column = ledger.sql(f"select attname from pg_attribute where attrelid = 'weir.{table}'::regclass and attnum = 2")[0][0]
        for change in (f"update weir.{table} set {column} = {column}", f"delete from weir.{table}", f"truncate weir.{table} cascade"):
            with pytest.raises(psycopg2.errors.RestrictViolation):
                ledger.sql(change)
    [[invoice]] = ledger.sql("select max(invoice) from weir.invoice_heads")
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):  # a number after a gap
        ledger.sql("insert into weir.invoice_numbers values ('INV', 9, 'credit_note', %s, now(), 'x', repeat('0', 64))", invoice)
    with pytest.raises(psycopg2.errors.ExclusionViolation):  # line items of another invoice
        ledger.sql("insert into weir.invoice_ranges select invoice - 1, customer, contract, period_start, period_end, currency, after_item, through_item + 1"
                   " from weir.invoice_ranges where invoice = %s", invoice)
    with pytest.raises(psycopg2.errors.ForeignKeyViolation):  # of one that is not void
        ledger.sql("insert into weir.invoice_ranges select invoice - 1, customer, contract, period_start, period_end, currency, after_item, through_item, invoice"
                   " from weir.invoice_ranges where invoice = %s", invoice)
    with pytest.raises(psycopg2.errors.CheckViolation):
        ledger.sql("insert into weir.invoice_heads (customer, contract, kind, period_start, period_end, currency, currency_places, amount, total,"
                   " ledger_position, made_by) values ('c000', 'x', 'period', '2026-01-01', '2026-02-01', 'USD', 2, 1, 1, 1, 'x')")
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout
    ledger.sql("alter table weir.invoice_rows disable trigger user; create table public.bent ()")
    ledger.sql("update weir.invoice_rows set item = 'other' where invoice = %s and line = 1", invoice)
    altered = weir("audit", "verify", env=ledger.env, check=False)
    assert altered.returncode == 1 and f"invoice {invoice} is not what was issued".encode() in altered.stdout


ODD = """set timezone = 'Europe/Berlin'; set datestyle = 'German, DMY'; set intervalstyle = 'sql_standard'; set extra_float_digits = -15;
    set bytea_output = 'escape'; set standard_conforming_strings = on; set lc_numeric = 'C'; set lc_time = 'C'; set xmlbinary = 'hex'"""


def test_a_digest_is_the_same_in_every_session(servers):
    """What is closed, made final or void in psql, however its session is set, is what weir audit verify finds."""
    ledger = many(servers, "invoices-sessions", 3)
    weir("close", "--through", "2026-01-31", "--customer", "c000", env=ledger.env)
    weir("close", "--through", "2026-01-31", "--draft", "--customer", "c001", env=ledger.env)
    of = "select array_agg(weir.invoice_digest(invoice) order by invoice) from weir.invoice_heads"
    before = ledger.sql(of)
    ledger.sql(ODD)
    assert ledger.sql(of) == before
    ledger.sql("select weir.void_invoice(1, 'somebody', 'in psql')")
    ledger.sql("select weir.finalize_invoice(min(invoice), 'INV', 'somebody') from weir.invoices where state = 'draft'")
    ledger.sql("select weir.close_books('c002', '2026-01-31', null, false, 'INV', 'somebody', null, '{}', '{}', '{}')")
    ledger.sql("select weir.grant_subject('a', '', 'b')")
    ledger.sql("update weir.lanes set watermark = '2026-03-01', rated_through = '2026-03-01'")
    ledger.sql("update weir.billing_periods set is_closed = true")
    ledger.sql("select weir.close_books('c002', '2026-02-28', null, false, 'INV', 'somebody', null, '{}', '{}', '{}')")
    assert ledger.sql("select count(*) > 0 from weir.month_closings") == [(True,)]
    weir("close", "--through", "2026-01-31", env=ledger.env)
    verified = weir("audit", "verify", env=ledger.env, check=False)
    assert b"findings=0" in verified.stdout, verified.stdout


def test_a_final_invoice_is_void_with_its_credit_note(servers):
    """Not even in SQL by a role that may add both: when its transaction ends. What an older weir let pass is found."""
    ledger = many(servers, "invoices-half-void", 3)
    weir("migrate", "--roles", env=ledger.env)
    weir("close", "--through", "2026-01-31", "--customer", "c000", env=ledger.env)
    weir("close", "--through", "2026-01-31", "--draft", "--customer", "c001", env=ledger.env)
    [[draft]] = ledger.sql("select max(invoice) from weir.invoice_heads")
    halves = {"insert into weir.invoice_voids (invoice, voided_by, reason) values (1, 'x', 'x')": "was final and is void without a credit note",
              "select weir.issue_number('INV-CN', 'credit_note', 2, 'x')": "has a credit note, and is not a final one that is void",
              f"select weir.issue_number('INV-CN', 'credit_note', {draft}, 'x')": "has a credit note, and is not a final one that is void",
              f"insert into weir.invoice_voids (invoice, voided_by, reason) values ({draft}, 'x', 'x'); select weir.issue_number('INV', 'invoice', {draft}, 'x')":
                  "was final and is void without a credit note"}
    ledger.sql("set role weir_rater")
    for half in halves:
        with pytest.raises(psycopg2.errors.CheckViolation, match="a final invoice is void with its credit note"):
            ledger.sql(half)
    ledger.sql("reset role")
    ledger.sql("select weir.void_invoice(1, 'x', 'x')")
    ledger.sql(f"select weir.void_invoice({draft}, 'x', 'x')")
    assert b"findings=0" in weir("audit", "verify", env=ledger.env).stdout
    weir("close", "--through", "2026-01-31", "--draft", "--customer", "c001", env=ledger.env)
    ledger.sql("alter table weir.invoice_voids disable trigger void_has_credit_note; alter table weir.invoice_numbers disable trigger void_has_credit_note")
    for half, says in halves.items():  # one that is not void, and a draft that is not
        with ledger.connection.cursor() as cursor:
            cursor.execute("begin")
            cursor.execute(half.replace(f"{draft}, 'x'", f"{draft + 1}, 'x'").replace("values (1,", "values (2,"))
            cursor.execute("select subject || ' ' || mismatch from weir.posting_mismatches()")
            told = [text for text, in cursor.fetchall()]
            cursor.execute("rollback")
        assert any(says in text for text in told), (half, told)


def test_an_invoice_without_lines_is_exported(servers):
    """All of its usage was taken back. It is an invoice, and a job that exports each that is listed goes on."""
    ledger = Ledger(servers.room("invoices-no-lines", 1), 3)
    for sign in (1, -1):
        ledger.add("acme", "k-old", 0, CALLS, sign * exact.SCALE, sign * exact.SCALE)
    ledger.add("acme", "k-old", 1, CALLS, exact.SCALE, exact.SCALE)
    ledger.sql("update weir.billing_periods set is_closed = true")
    weir("close", "--through", "2026-01-14", env=ledger.env)
    weir("close", "--through", "2026-01-31", "--draft", env=ledger.env)
    assert ledger.sql("select state, total from weir.invoices order by invoice") == [("final", 0), ("draft", 1)]
    for form in ("csv", "focus"):
        text = weir("invoice", "export", "INV-000001", "--format", form, env=ledger.env).stdout.decode()
        assert text.count("\n") == 1 and ("InvoiceId" if form == "focus" else "invoice_number") in text
    assert json.loads(weir("invoice", "export", "INV-1", "--format", "json", env=ledger.env).stdout)["lines"] == []
    [[draft]] = ledger.sql("select max(invoice) from weir.invoice_heads")
    for asked, form, says in ((draft, "focus", f"invoice {draft} is a draft: FOCUS has what was billed"), ("INV-000077", "csv", "there is no invoice INV-000077;"),
                              ("INV-000077", "json", "there is no invoice INV-000077;"), (f"{draft + 1}", "focus", f"there is no invoice {draft + 1};")):
        refused = weir("invoice", "export", asked, "--format", form, env=ledger.env, check=False)
        assert refused.returncode == 2 and says in refused.stderr.decode() and not refused.stdout, refused
    assert len(exported(ledger.env, draft, "--format", "csv")) == 1


def test_forms_and_refusals(servers, tmp_path):
    ledger = many(servers, "invoices-forms", 3)
    dry = weir("close", "--through", "2026-01-31", "--dry-run", "--format", "csv", env=ledger.env)
    assert b"dry_run customers=3 invoices=6 issued=6 left_open=0" in dry.stderr
    rows = list(csv.DictReader(io.StringIO(dry.stdout.decode())))
    assert [(row["customer"], row["state"], row["kind"], row["total"], row["waits_for"]) for row in rows][:4] == [
        ("c000", "final", "period", "0.00", ""), ("c000", "final", "period", "0.00", ""),
        ("c000", "open", "month", "", "not rated: lane events:0 is at 2026-01-01T00:00:00Z"), ("c001", "final", "period", "0.00", "")]
    assert ledger.sql("select count(*) from weir.invoice_heads") == [(0,)]
    ledger.sql("update weir.billing_periods set is_closed = false where customer = 'c001'")
    details = tmp_path / "parties.json"
    details.write_text(json.dumps({"seller": {"name": "Weir & Sons"}, "customers": {"c002": {"name": "Two", "address": ["A street", "Town"]}},
                                   "tax_categories": {"calls": "S", "": "E"}}))
    done = weir("close", "--through", "2026-01-15T00:00:00-05:00", "--invoice-details", details, "--format", "json", env=ledger.env)
    rows = [json.loads(line) for line in done.stdout.splitlines()]
    assert [(row["customer"], row["state"], row["kind"], row["invoice"]) for row in rows] == [
        ("c000", "final", "period", "INV-000001"), ("c001", "open", None, None), ("c002", "final", "period", "INV-000002")]
    assert rows[1]["waits_for"] == "not settled: lane events:0 is at 2026-01-01T00:00:00Z"
    assert ledger.sql("select seller, buyer from weir.invoices where customer = 'c002'") == [
        ({"name": "Weir & Sons"}, {"name": "Two", "address": ["A street", "Town"]})]
    assert ledger.sql("select distinct tax_category from weir.invoice_lines where kind <> 'rounding'") == [("S",)]
    assert ledger.sql("select state, waits_for is null from weir.closing_status where customer = 'c001' order by period_start limit 1") == [("open", False)]
    listed = list(csv.DictReader(io.StringIO(weir("invoice", "list", "--format", "csv", env=ledger.env).stdout.decode())))
    assert [(row["invoice_number"], row["state"], row["kind"]) for row in listed] == [("INV-000001", "final", "period"), ("INV-000002", "final", "period")]
    for arguments, said in ((("close", "--through", "January"), "--through needs a day"), (("close",), "--through needs a day"),
                            (("close", "--through", "2026-01-31", "--customer", "nobody"), "'nobody' was never rated"),
                            (("invoice", "void", "INV-1"), "--reason is needed"), (("invoice", "void", "INV-77", "--reason", "x"), "there is no invoice INV-77"),
                            (("invoice", "finalize", "INV-1"), "is final already"), (("invoice", "finalize", "x"), "INVOICE is a number"),
                            (("invoice", "show"), "is needed"), (("invoice", "list", "list"), "list takes no words")):
        refused = weir(*arguments, env=ledger.env, check=False)
        assert refused.returncode == 2 and said in refused.stderr.decode(), (arguments, refused.stderr)
    for text, said in (('{"seller": 1}', "seller: an object is needed"), ('{"seller": {"nme": "x"}}', "seller.nme is not known"),
                       ('{"customers": {"a": {"address": "x"}}}', "customers.a.address: a list of texts"), ("{", "parties.json:1:"),
                       ('{"tax_categories": {"x": 1}}', "tax_categories.x: a text"), ('{"sellers": {}}', "sellers is not known")):
        details.write_text(text)
        refused = weir("close", "--through", "2026-01-31", "--invoice-details", details, env=ledger.env, check=False)
        assert refused.returncode == 2 and re.search(said, refused.stderr.decode()), refused.stderr


def short(number):
    """Without zeros that say nothing."""
    text = str(number)
    return text.rstrip("0").rstrip(".") if "." in text else text


# Of acme, of another customer, and of nobody knows whom.
UNREADABLE = ('{"specversion":"1.0","id":"7","source":"s","type":"completion","subject":"acme","time":"yesterday"}\n'
              '{"specversion":"1.0","id":"8","source":"s","type":"completion","subject":"bolt","time":"yesterday"}\n'
              '{"specversion":"1.0","id":"9","source":"s","type":"completion","subject":"acme"\n')


@pytest.fixture(scope="module")
def example(servers, tmp_path_factory):
    """The events of docs/invoices.md through the real pipeline, and both closings."""
    folder = tmp_path_factory.mktemp("invoices")
    env = {**servers.room("invoices-example"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "invoices-example"}
    for name in ("catalog", "details"):
        (folder / f"{name}.json").write_text(BLOCKS[name], encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", folder / "catalog.json", env=env)
    for month, day, count in (("january", "2026-01-31", 2), ("february", "2026-02-28", 1)):
        again = BLOCKS[month].splitlines()[0] + "\n"
        (folder / "events.ndjson").write_text(BLOCKS[month] + again + (UNREADABLE if month == "january" else ""), encoding="utf-8")
        weir("produce", folder / "events.ndjson", env=env)
        weir("ingest", "--until-end", env=env)
        weir("rater", "--until-done", env=env)
        done = weir("close", "--through", day, "--invoice-details", folder / "details.json", env=env)
        assert f"customers=1 invoices={count} issued={count} left_open=0".encode() in done.stderr
    return env


def exported(env, *arguments):
    return list(csv.DictReader(io.StringIO(weir("invoice", "export", *arguments, env=env).stdout.decode())))


SCHEMA = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas" / "invoice.schema.json").read_text(encoding="utf-8")))
FREE = ("seller", "buyer", "dimensions")  # objects that may lack what they can have
NEWER = ("uncounted", "quarantined_of_nobody")  # invoices of before lack them


def places(value, path=()):
    """Every object and member of a document, lists by their first element."""
    yield path, value
    if isinstance(value, dict):
        for name, member in value.items():
            yield from places(member, (*path, name))
    elif isinstance(value, list) and value:
        yield from places(value[0], (*path, 0))


def changed(document, path, change):
    other = copy.deepcopy(document)
    parent = other
    for step in path[:-1]:
        parent = parent[step]
    change(parent, path[-1])
    return other


def exported_document(env, number):
    """An invoice as JSON, by the schema; and whatever is missing from it, added to it or of another type is not by the schema."""
    document = json.loads(weir("invoice", "export", number, "--format", "json", env=env).stdout)
    SCHEMA.validate(document)
    for path, value in places(document):
        if isinstance(value, dict) and "dimensions" not in path:
            more = {**document, "x": 1} if not path else changed(document, path, lambda parent, name: parent[name].update(x=1))
            assert not SCHEMA.is_valid(more), f"{path} may have anything"
        if path:
            assert not SCHEMA.is_valid(changed(document, path, lambda parent, name: parent.__setitem__(name, [1.5]))), f"{path} may be anything"
        if path and isinstance(path[-1], str) and path[-1] not in NEWER and not set(FREE) & set(path[:-1]):
            assert not SCHEMA.is_valid(changed(document, path, lambda parent, name: parent.pop(name))), f"{path} may be missing"
    return document


def test_the_worked_example(example):
    for number, block in (("INV-000001", "first"), ("INV-2", "second"), ("INV-3", "third")):
        rows = [[row["line"], row["service_start"][:10], row["kind"], row["item"], row["tier"], short(row["quantity"]), short(row["unit_price"]),
                 short(row["amount"]), row["invoice_amount"], "/".join(filter(None, (row["corrected_invoice"], row["corrected_line"])))]
                for row in exported(example, number, "--format", "csv")]
        document = exported_document(example, number)
        sums = ["", "", "", "", "", "", "", short(document["amount"]), document["total"], ""]
        assert [*rows, sums] == list(csv.reader(io.StringIO(BLOCKS[block])))[1:]
    connection = psycopg2.connect(example["WEIR_POSTGRES_URL"])
    for what, text in INVOICES.items():
        with connection.cursor() as cursor:
            cursor.execute(text)
            assert not cursor.fetchall(), what
    connection.close()


def test_a_rater_closes_periods_when_their_grace_is_over(servers, tmp_path):
    """With --until-done at its end, as a daemon soon after its start; and nothing is begun where nothing is to do."""
    env = {**servers.room("invoices-scheduled"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "invoices-scheduled", "WEIR_METRICS_LISTEN": "off"}
    (tmp_path / "catalog.json").write_text(BLOCKS["catalog"], encoding="utf-8")
    (tmp_path / "details.json").write_text(BLOCKS["details"], encoding="utf-8")
    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog.json", env=env)
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    connection.autocommit = True
    cursor = connection.cursor()

    def found(text):
        cursor.execute(text)
        return cursor.fetchall()

    def feed(month):
        (tmp_path / "events.ndjson").write_text(BLOCKS[month], encoding="utf-8")
        weir("produce", tmp_path / "events.ndjson", env=env)
        weir("ingest", "--until-end", env=env)

    feed("january")
    refused = weir("rater", "--until-done", "--close-grace", "1h", "--invoice-details", tmp_path / "nowhere.json", env=env, check=False)
    assert refused.returncode == 2 and b"nowhere.json" in refused.stderr
    weir("rater", "--until-done", "--close-grace", "87600h", env=env)  # ten years
    assert found("select count(*) from weir.closings") == [(0,)]
    since = datetime.datetime.now(UTC) - datetime.datetime(2026, 1, 15, tzinfo=UTC)  # in January only its fee in advance is due
    weir("rater", "--until-done", "--close-grace", f"{int(since.total_seconds() // 3600)}h", "--invoice-details", tmp_path / "details.json", env=env)
    assert found("select invoice_number, kind, total::text from weir.invoices") == [("INV-000001", "advance", "10.00")]
    weir("rater", "--until-done", "--close-grace", "1h", "--invoice-details", tmp_path / "details.json", env=env)
    closed = [("INV-000001", "advance", "10.00"), ("INV-000002", "period", "15.00"), ("INV-000003", "period", "8.00")]
    assert found("select invoice_number, kind, total::text from weir.invoices order by 1") == closed
    assert found("select distinct seller ->> 'name' from weir.invoices") == [("Weir Ltd",)]
    weir("rater", "--until-done", "--close-grace", "1h", env=env)
    assert found("select count(*) from weir.closings") == [(2,)]
    feed("february")
    process = subprocess.Popen([BINARY, "rater", "--close-grace", "1h"], env={**os.environ, **env}, stderr=subprocess.PIPE)
    deadline = time.monotonic() + 90
    while not found("select * from weir.closing_ends where closing > 2"):
        assert process.poll() is None and time.monotonic() < deadline
        time.sleep(0.1)
    process.terminate()
    assert process.wait(timeout=120) == 0, process.stderr.read()
    assert found("select invoice_number, kind, total::text from weir.invoices order by 1") == [
        *closed, ("INV-000004", "advance", "10.00"), ("INV-000005", "period", "6.40")]
    connection.close()


def test_a_rater_closes_several_customers_at_once(servers, tmp_path):
    """In one run, which the first that finds something to do begins."""
    env = {**servers.room("invoices-by-raters"), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": "invoices-by-raters", "WEIR_METRICS_LISTEN": "off"}
    (tmp_path / "catalog.json").write_text(json.dumps({
        "meters": [{"key": "calls", "event_type": "call", "aggregation": "count", "window": "1h"}],
        "price_books": [{"key": "list", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
                         "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "1"}]}],
        "default_contract": {"price_book": "list", "billing_period": "month", "timezone": "UTC"}}))
    (tmp_path / "events.ndjson").write_text("".join(json.dumps(
        {"specversion": "1.0", "id": str(number), "source": "s", "type": "call", "subject": f"c{number % 24:02}", "time": "2026-01-05T10:00:00Z"}) + "\n"
        for number in range(96)))
    for command in (("migrate",), ("apply", "--catalog", tmp_path / "catalog.json"), ("produce", tmp_path / "events.ndjson"), ("ingest", "--until-end"),
                    ("rater", "--until-done", "--close-grace", "1h", "--close-workers", "4"),
                    ("rater", "--until-done", "--close-grace", "1h", "--close-workers", "4")):
        weir(*command, env=env)
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    with connection.cursor() as cursor:
        cursor.execute("select customer, total::text from weir.invoices where closing = 1 order by 1")
        assert cursor.fetchall() == [(f"c{number:02}", "4.00") for number in range(24)]
        cursor.execute("select count(*), min(number), max(number), (select count(*) from weir.closings), (select count(*) from weir.closing_ends)"
                       " from weir.invoice_numbers")
        assert cursor.fetchall() == [(24, 1, 24, 1, 1)]
    connection.close()
    assert b"findings=0" in weir("audit", "verify", env=env).stdout


class Page(html.parser.HTMLParser):
    """What a reader sees, and whether every tag is closed and nothing is fetched."""
    VOID = {"meta", "br"}

    def __init__(self, text):
        super().__init__()
        self.open, self.rows, self.words = [], [], []
        self.feed(text)
        assert self.open == [], self.open

    def handle_starttag(self, tag, attributes):
        assert tag not in ("script", "link", "img", "iframe") and not {"src", "href", "onclick", "onerror"} & {name for name, _ in attributes}
        if tag not in self.VOID:
            self.open.append(tag)
        if tag == "tr":
            self.rows.append([])
        if tag in ("td", "th") and self.rows:
            self.rows[-1].append("")

    def handle_endtag(self, tag):
        assert self.open.pop() == tag

    def handle_data(self, data):
        if "style" not in self.open:
            self.words.append(data)
        if self.open[-1:] and {"td", "th"} & set(self.open):
            self.rows[-1][-1] += data


def test_the_page_is_an_invoice(example):
    page = weir("invoice", "export", "INV-3", "--format", "html", env=example).stdout.decode()
    assert "size:A4" in page and "http" not in page and "url(" not in page and "@import" not in page
    read = Page(page)
    said = " ".join(read.words)
    for wanted in ("Invoice INV-000003", "Weir Ltd", "1 River Lane", "Acme Inc.", "5 Main Street", "Tax ID YY987654321", "PO 4711", "acme-2026",
                   "2026-02-01 to 2026-02-28 (UTC)", "before taxes", "30 days net"):
        assert wanted in said, wanted
    assert [row for row in read.rows if len(row) == 5][1:] == [
        ["1", "tokens, tier 1", "1000", "0", "0.00"], ["2", "tokens, tier 2", "4002", "0.002", "8.00"],
        ["3", "platformin advance, 2026-03-01 to 2026-03-31", "1", "10.004", "10.00"],
        ["4", "tokens, tier 2delivered 2026-01-01 to 2026-01-31; corrects INV-000002, line 2", "1700", "0.002", "3.40"],
        ["5", "floor: up to the minimum spenddelivered 2026-01-01 to 2026-01-31; corrects INV-000002, line 3", "", "", "-2.00"],
        ["6", "Rounding", "", "", "0.01"]]
    assert read.rows[-1] == ["", "Total before taxes", "19.41 USD"]
    first = Page(weir("invoice", "export", "INV-1", "--format", "html", env=example).stdout.decode())
    assert "In advance 2026-01-01 to 2026-01-31 (UTC)" in " ".join(" ".join(first.words).split())
    assert [row for row in first.rows if len(row) == 5][1:] == [["1", "platform", "1", "10.004", "10.00"]]


def test_an_invoice_says_what_it_rests_on(example):
    """Every lane's offset, what became of its events, what was counted of the customer, and what of its events was not."""
    for number, events, tokens, uncounted in (
            ("INV-1", 3, [], (1, 1, None, 1, 1)), ("INV-2", 3, [("2026-01-01", 2)], (1, 1, 1, 0, 0)),
            ("INV-3", 5, [("2026-01-01", 3), ("2026-02-01", 1)], (2, 1, 2, 1, 0))):
        statement = json.loads(weir("invoice", "export", number, "--format", "json", env=example).stdout)["completeness"]
        lanes = {lane["lane"]: lane for lane in statement["lanes"]}
        sums = {name: sum(lane[name] for lane in lanes.values())
                for name in ("offset", "read", "counted", "duplicate", "quarantined", "quarantined_of_nobody")}
        duplicate = uncounted[0]
        assert len(lanes) == 4 and sums == {"offset": events + duplicate + 3, "read": events + duplicate + 3, "counted": events,
                                            "duplicate": duplicate, "quarantined": 3, "quarantined_of_nobody": 1}
        assert all(lane["through"] > "2026-03-01" for lane in lanes.values())
        assert [(row["service_start"][:10], row["events"], row["meter"], row["unpriced"]) for row in statement["usage"]] == [
            (start, count, "tokens", 0) for start, count in tokens]
        stated = statement["uncounted"]
        assert tuple(stated[name] for name in ("duplicate", "quarantined", "since_invoice", "new_duplicate", "new_quarantined")) == uncounted
        assert [stated["admitted"], stated["new_admitted"]] == [0, 0]
        assert {name: sum(lane[name] for lane in stated["lanes"]) for name in ("duplicate", "quarantined")} == {"duplicate": duplicate, "quarantined": 1}
        assert statement["released_gaps"] == []
    words = " ".join(Page(weir("invoice", "export", "INV-3", "--format", "html", env=example).stdout.decode()).words)
    assert "Counted: tokens from 2026-01-01, 3 events; tokens from 2026-02-01, 1 event." in words
    assert "Not counted, since the invoice before this one: 1 duplicate." in words
    assert "Not counted: 1 duplicate, 1 refused." in " ".join(
        Page(weir("invoice", "export", "INV-1", "--format", "html", env=example).stdout.decode()).words)


def test_focus_rows_add_up_to_what_was_billed(example):
    rows = exported(example, "--format", "focus")
    check_focus(rows)
    billed = {}
    for row in rows:
        billed[row["InvoiceId"]] = billed.get(row["InvoiceId"], 0) + exact.parse(row["BilledCost"])
    assert billed == {"INV-000001": exact.parse("10.00"), "INV-000002": exact.parse("15.00"), "INV-000003": exact.parse("19.41")}
    assert [(row["InvoiceId"], row["BillingPeriodStart"][:10], row["ChargePeriodStart"][:10], row["ChargePeriodEnd"][:10], row["ChargeClass"])
            for row in sorted(rows, key=lambda row: row["InvoiceId"]) if row["ServiceName"] == "platform"] == [
        ("INV-000001", "2026-01-01", "2026-01-01", "2026-02-01", ""), ("INV-000002", "2026-01-01", "2026-02-01", "2026-03-01", ""),
        ("INV-000003", "2026-02-01", "2026-03-01", "2026-04-01", "")]
    [late] = [row for row in rows if row["x_InvoiceLine"] == "4" and row["InvoiceId"] == "INV-000003"]
    assert (late["ChargeClass"], late["ChargeCategory"], late["ChargePeriodStart"], late["ChargePeriodEnd"], late["BillingPeriodStart"]) == (
        "Correction", "Usage", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "2026-02-01T00:00:00Z")
    assert (late["x_CorrectedInvoiceId"], late["x_CorrectedInvoiceLine"]) == ("INV-000002", "2")
    for row in rows:
        assert row["ChargeCategory"] in ("Usage", "Purchase", "Credit", "Adjustment") and row["ChargeClass"] in ("", "Correction")
        for name in ("BilledCost", "BillingAccountId", "BillingCurrency", "BillingPeriodStart", "BillingPeriodEnd", "ChargePeriodStart", "ChargePeriodEnd",
                     "ChargeDescription", "ContractedCost", "EffectiveCost", "ListCost", "InvoiceIssuerName", "ProviderName", "PublisherName",
                     "ServiceCategory", "ServiceName"):
            assert row[name] != "", name


def check_focus(rows):
    """What FOCUS 1.2 asks of each kind of charge (specification/columns of github.com/FinOps-Open-Cost-and-Usage-Spec/FOCUS_Spec)."""
    items = {}
    for row in rows:
        category, is_correction = row["ChargeCategory"], row["ChargeClass"] == "Correction"
        if category in ("Usage", "Purchase") and not is_correction:
            for name in ("ListUnitPrice", "ContractedUnitPrice", "PricingQuantity", "PricingUnit", "PricingCategory", "SkuId", "SkuPriceId"):
                assert row[name] != "", (name, row)
        for price, cost in (("ListUnitPrice", "ListCost"), ("ContractedUnitPrice", "ContractedCost")):
            if row[price]:
                assert decimal.Decimal(row[price]) >= 0, (price, row)
                assert abs(decimal.Decimal(row[price]) * decimal.Decimal(row["PricingQuantity"]) - decimal.Decimal(row[cost])) <= decimal.Decimal("1e-12"), row
        assert (row["ConsumedQuantity"] != "") == (category == "Usage") == (row["ConsumedUnit"] != ""), row
        assert (row["PricingUnit"] != "") == (row["PricingQuantity"] != ""), row
        if row["x_Document"] == "credit_note":
            assert is_correction and row["x_CorrectedInvoiceLine"] == row["x_InvoiceLine"], row  # whatever that line itself corrected
        assert row["ChargeFrequency"] in ("One-Time", "Recurring", "Usage-Based") and (row["ChargeFrequency"], category) != ("Usage-Based", "Purchase"), row
        assert row["PricingCategory"] == ("" if category == "Adjustment" else "Standard"), row  # never Dynamic: tiers are agreed
        assert items.setdefault(row["SkuPriceId"], row["SkuId"]) == row["SkuId"], "a SKU price has one SKU"


# kind, item, meter, component, tier, quantity, unit price, amount, which is as the page says it, and EffectiveCost where that is another.
KINDS = [
    ("fee", "licence", None, "fee", None, "1", "500", "500", "licence"),
    ("fee", "platform", None, "fee", None, "1", "31", "17", "platform: part of a period"),
    ("fee", "platform", None, "invoice_discount", None, "0", None, "-0.5", "platform: invoice discount"),
    ("fee", "prepaid", None, "fee", None, "1", "100", "100", "prepaid", "0"),
    ("usage", "disks", "disks", "package", 1, "1500", "4", "8", "disks: package 2 started packages at 4"),
    ("usage", "tokens", "tokens", "free_units", 0, "5", None, "0", "tokens: free units"),
    ("usage", "tokens", "tokens", "units", 1, "100", "1", "100", "tokens, tier 1"),
    ("usage", "tokens", "tokens", "flat_fee", 2, "0", None, "3", "tokens: flat fee, tier 2"),
    ("usage", "tokens", "tokens", "units", 2, "95", "0.5", "47.5", "tokens, tier 2"),
    ("usage", "tokens", "tokens", "discount", 0, "0", None, "-15.05", "tokens: discount"),
    ("usage", "tokens", "tokens", "maximum", 0, "0", None, "-2.001", "tokens: maximum"),
    ("usage", "tokens", "tokens", "invoice_discount", 0, "0", None, "-1", "tokens: invoice discount"),
    ("overage", "tokens", None, "overage", None, "0", None, "4", "tokens: overage, beyond what was prepaid"),
    ("true_up", "floor", None, "true_up", None, "0", None, "2.5", "floor: up to the minimum spend"),
    ("true_up", "least", None, "shortfall", None, "10", None, "5", "least: up to the minimum quantity"),
    ("drawdown", "gift", None, "drawdown", None, "0", None, "-7", "gift: paid from this balance"),
    ("drawdown", "prepaid", None, "drawdown", None, "0", None, "-60", "prepaid: paid from this balance", "-10"),
]


def test_each_kind_of_line_says_what_it_is(servers):
    """On the page, in the order of operations; and in FOCUS, where what was bought prepaid costs when it is drawn: 120 for 100."""
    ledger = Ledger(servers.room("invoices-kinds", 1), 5)
    kinds = KINDS[:]
    ledger.random.shuffle(kinds)
    for kind, item, meter, component, tier, quantity, price, amount, *_ in kinds:
        model = "package" if component == "package" else "graduated" if meter and tier else None
        ledger.add("acme", "", 0, (kind, item, meter, "b", 1, model, component, tier, price), exact.parse(quantity), exact.parse(amount))
    ledger.sql("update weir.billing_periods set is_closed = true")
    ledger.sql("insert into weir.fee_terms values ('b', 1, 'licence', 'contract')")
    ledger.sql("insert into weir.prepaid_terms values ('acme', '', 'prepaid', 'prepaid', 120, 100, '2027-01-01')")
    done = weir("close", "--through", "2026-01-31", env=ledger.env)
    assert b"these invoices name no seller: --invoice-details FILE" in done.stderr
    page = weir("invoice", "export", "INV-1", "--format", "html", env=ledger.env).stdout.decode()
    assert ">from<" not in page
    said = [row for row in Page(page).rows if len(row) == 5][1:]
    assert said == [[str(line), words, "" if quantity == "0" else quantity, "" if "packages" in words else price or "", f"{decimal.Decimal(amount):.2f}"]
                    for line, (_, _, _, _, _, quantity, price, amount, words, *_) in enumerate(KINDS, 1)]
    weir("invoice", "void", "INV-1", "--reason", "wrong", env=ledger.env)
    rows = exported(ledger.env, "--format", "focus")
    check_focus(rows)
    assert len(rows) == 2 * len(KINDS)
    for sign, part in ((1, rows[:len(KINDS)]), (-1, rows[len(KINDS):])):
        if sign * decimal.Decimal(part[0]["BilledCost"]) < 0:
            sign = -sign
        assert [decimal.Decimal(row["EffectiveCost"]) for row in part] == [sign * decimal.Decimal(kind[9:] and kind[9] or kind[7]) for kind in KINDS]
        assert [row["ChargeFrequency"] for row in part][:4] == ["One-Time", "Recurring", "Recurring", "One-Time"]
    assert {row["taxes"] for row in exported(ledger.env, "--format", "csv")} == {"not included"}


def test_an_adjustment_names_the_line_of_its_own_price(servers):
    """Components of two prices of a meter have the same name, tier and no unit price; overage that is new has no line of its own yet."""
    ledger = Ledger(servers.room("invoices-corrects", 1), 5)
    lines = [("usage", "tokens", "tokens", "b", 1, model, component, tier, price) for component, tier, price in (
        ("units", 1, "1.000000000000"), ("free_units", 0, None), ("discount", 0, None)) for model in ("graduated", "package", "volume")]
    for number in (0, 1):
        for line in lines if number == 0 else reversed(lines):
            ledger.add("acme", "", 0, line, exact.SCALE, exact.SCALE)
        if number == 1:
            ledger.add("acme", "", 0, ("overage", "tokens", None, "b", 1, None, "overage", None, None), 0, exact.SCALE)
            ledger.add("acme", "", 1, lines[0], exact.SCALE, exact.SCALE)
        ledger.sql("update weir.billing_periods set is_closed = true")
        weir("close", "--through", ("2026-01-31", "2026-02-28")[number], env=ledger.env)
    first, second = (json.loads(line)["lines"] for line in weir("invoice", "export", "--format", "json", env=ledger.env).stdout.splitlines())
    named = {line["line"]: line for line in first}
    corrections = [line for line in second if line["is_adjustment"]]
    assert len(first) == len(lines) and len(corrections) == len(lines) + 1
    for line in corrections:
        found = named[line["corrected_line"]]
        if line["kind"] == "overage":
            assert (found["kind"], found["component"]) == ("usage", "free_units") and found["line"] == 1
        else:
            assert [found[name] for name in ("model", "component", "tier")] == [line[name] for name in ("model", "component", "tier")]


def test_a_credit_note_takes_the_whole_invoice_back(servers, tmp_path):
    """And names are escaped, whatever they are."""
    ledger = Ledger(servers.room("invoices-credit", 1), 3)
    hostile = "<script>alert('x')</script>&\""
    ledger.add(hostile, "", 0, ("usage", "a<b>&'\"", "calls", "b", 1, "volume", "units", 2, "0.500000000000"), 3 * exact.SCALE, 15 * 10 ** 11)
    ledger.sql("update weir.billing_periods set is_closed = true")
    (tmp_path / "parties.json").write_text(json.dumps({"seller": {"name": "S & Sons <i>", "note": "<b>", "payment": "'\""}}))
    weir("close", "--through", "2026-02-28", "--invoice-details", tmp_path / "parties.json", "--draft", env=ledger.env)
    assert "DRAFT" in " ".join(Page(weir("invoice", "export", "1", "--format", "html", env=ledger.env).stdout.decode()).words)
    draft = exported_document(ledger.env, "1")
    refused = weir("invoice", "export", "1", "--format", "focus", env=ledger.env, check=False)
    assert refused.returncode == 2 and b"invoice 1 is a draft: FOCUS has what was billed; csv, json and html show drafts" in refused.stderr, refused.stderr
    assert draft["state"] == "draft" and not SCHEMA.is_valid({**draft, "invoice_number": "INV-000001"})
    weir("invoice", "finalize", "1", env=ledger.env)
    said = weir("invoice", "void", "INV-1", "--reason", "<wrong>", env=ledger.env).stdout
    assert said == b"weir invoice: void by credit note INV-CN-000001\n"
    note = weir("invoice", "export", "INV-CN-1", "--format", "html", env=ledger.env).stdout.decode()
    words = " ".join(Page(note).words)
    for wanted in (hostile, "S & Sons <i>", "Credit note INV-CN-000001", "INV-000001", "<wrong>"):
        assert wanted in words, wanted
    document = exported_document(ledger.env, "INV-CN-1")
    assert exported_document(ledger.env, "INV-1")["state"] == "void" and not SCHEMA.is_valid({**document, "state": "final"})
    assert (document["document"], document["total"], document["lines"][0]["quantity"]) == ("credit_note", "-1.50", "-3.000000000000")
    rows = exported(ledger.env, "--format", "focus")
    assert [(row["InvoiceId"], row["BilledCost"], row["ChargeClass"], row["x_CorrectedInvoiceId"], row["x_CorrectedInvoiceLine"]) for row in rows] == [
        ("INV-000001", "1.50", "", "", ""), ("INV-CN-000001", "-1.50", "Correction", "INV-000001", "1")]
    [row] = exported(ledger.env, "INV-CN-1", "--format", "csv")
    assert [row[name] for name in ("invoice_number", "state", "invoice_amount", "corrected_invoice", "corrected_line")] == [
        "INV-CN-000001", "credit_note", "-1.50", "INV-000001", "1"]
    assert {*row} <= {*document, *document["lines"][0]}, "a column that schemas/invoice.schema.json does not explain"
    assert "VOID" in " ".join(Page(weir("invoice", "export", "INV-1", "--format", "html", env=ledger.env).stdout.decode()).words)
    for arguments, told in ((("export",), "export takes --format"), (("export", "--format", "html"), "for one INVOICE"),
                            (("export", "INV-9", "--format", "json"), "there is no invoice INV-9;"),
                            (("export", "INV-000012", "--format", "focus"), "there is no invoice INV-000012;"),
                            (("finalize", "INV-000012"), "there is no invoice INV-000012;"), (("finalize", "INV-000001"), "invoice INV-000001 is void already"), (("list", "--format", "focus"), "--format is table")):
        refused = weir("invoice", *arguments, env=ledger.env, check=False)
        assert refused.returncode == 2 and told in refused.stderr.decode(), refused.stderr


def test_numbers_of_a_series_that_is_refused_now_stay(servers):
    """An older weir took any text; what was numbered in it is listed, exported and made void by its name."""
    ledger = Ledger(servers.room("invoices-series", 1), 4)
    for customer in ("c000", "c001"):
        ledger.add(customer, "", 0, ("fee", "platform", None, "b", 1, None, "fee", None, None), exact.SCALE, 2 * exact.SCALE)
    ledger.sql("update weir.billing_periods set is_closed = true")
    weir("close", "--through", "2026-02-28", "--draft", env=ledger.env)
    ledger.sql("select weir.finalize_invoice(1, 'RE 2026;', 'an older weir')")
    for series in ("RE 2026;", "INV-CN", "", "x" * 33):
        for arguments in (("close", "--through", "2026-02-28"), ("invoice", "finalize", "2"), ("rater", "--until-done", "--close-grace", "1s")):
            refused = weir(*arguments, "--invoice-series", series, env={**ledger.env, "WEIR_METRICS_LISTEN": "off"}, check=False)
            assert refused.returncode == 2 and refused.stderr.decode() == (
                f"weir {arguments[0]}: invoice.series: '{series}' is not 1 to 32 of A-Z a-z 0-9 . _ / -, without -CN at its end, which credit notes have."
                " Numbers that were given in it stay; choose another series to go on in\n")
    listed = list(csv.DictReader(io.StringIO(weir("invoice", "list", "--format", "csv", env=ledger.env).stdout.decode())))
    assert [(row["invoice_number"], row["state"]) for row in listed] == [("RE 2026;-000001", "final"), ("", "draft")]
    assert exported_document(ledger.env, "RE 2026;-1")["invoice_number"] == "RE 2026;-000001"
    assert weir("invoice", "void", "RE 2026;-1", "--reason", "wrong", env=ledger.env).stdout == b"weir invoice: void by credit note RE 2026;-CN-000001\n"
    assert weir("invoice", "finalize", "2", "--invoice-series", "RE/2026", env=ledger.env).stdout == b"weir invoice: final as RE/2026-000001\n"
