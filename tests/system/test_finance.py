"""Finance's view in SQL: what each role may do on a real server, and whose usage a reader sees (docs/finance.md)."""
import json
import pathlib
import re
import urllib.parse

import psycopg2
import psycopg2.errors
import pytest
from harness import weir

CATALOG = {
    "meters": [{"key": "calls", "event_type": "call", "aggregation": "count", "window": "1h"},
               {"key": "free", "event_type": "call", "aggregation": "count", "window": "1h"}],
    "price_books": [{"key": "b", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
                     "prices": [{"meter": "calls", "model": "graduated", "tiers": [{"up_to": "5", "unit_price": "0.5"},
                                                                                  {"up_to": None, "unit_price": "0.25"}]}]}],
    "contracts": [{"key": "k-acme", "customer": "acme", "price_book": "b", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
                   "billing_period": "month", "timezone": "UTC"}],
    "default_contract": {"price_book": "b", "billing_period": "month", "timezone": "UTC"}}
VIEWS = ("adjustments", "balance_entries", "balance_events", "charge_lines", "charges_by_customer_and_period", "closing_status", "grant_balances", "held_usage",
         "invoice_completeness", "invoice_focus", "invoice_line_items", "invoice_lines", "invoices", "period_status", "prepaid_months", "recounted_usage",
         "revenue_months",
         "revenue_schedule", "uncounted_events", "unpriced_usage", "usage_by_day")
CUSTOMERS = ("acme", "bolt", "core")


def event(number, customer, day=5):
    return json.dumps({"specversion": "1.0", "id": f"{customer}-{number}", "source": "test", "type": "call", "subject": customer,
                       "time": f"2026-01-{day:02}T10:{number % 60:02}:00Z"})


class Ledger:
    """A database whose every command runs as the role that is to run it, and no other."""

    def __init__(self, servers, folder):
        (folder / "catalog.json").write_text(json.dumps(CATALOG))
        self.folder = folder
        self.env = {**servers.room("finance", 1), "WEIR_CATALOG": str(folder / "catalog.json"), "WEIR_LATENESS": "87600h",
                    "WEIR_METRICS_LISTEN": "off"}
        self.owner = psycopg2.connect(self.env["WEIR_POSTGRES_URL"])
        self.owner.autocommit = True
        weir("migrate", "--roles", env=self.env)
        for name, group in (("nina", "weir_rater"), ("olga", "weir_operator"), ("fred", "weir_finance"), ("east", "weir_finance"),
                            ("west", "weir_finance")):
            self.sql(f"create role {name} login password 'secret' in role {group}")

    def sql(self, text, connection=None):
        cursor = (connection or self.owner).cursor()
        cursor.execute(text)
        return cursor.fetchall() if cursor.description else None

    def url(self, name):
        parts = urllib.parse.urlsplit(self.env["WEIR_POSTGRES_URL"])
        return parts._replace(netloc=f"{name}:secret@{parts.netloc.rpartition('@')[2]}").geturl()

    def log_in(self, name):
        connection = psycopg2.connect(self.url(name))
        connection.autocommit = True
        return connection

    def weir(self, name, *arguments, **options):
        return weir(*arguments, env={**self.env, "WEIR_POSTGRES_URL": self.url(name)}, **options)

    def rate(self, lines):
        (self.folder / "events.ndjson").write_text("".join(line + "\n" for line in lines))
        weir("produce", self.folder / "events.ndjson", env=self.env)
        weir("ingest", "--until-end", env=self.env)
        self.weir("nina", "rater", "--until-done")


@pytest.fixture(scope="module")
def ledger(servers, tmp_path_factory):
    made = Ledger(servers, tmp_path_factory.mktemp("finance"))
    made.weir("olga", "apply", "--catalog", made.folder / "catalog.json")
    made.rate([event(number, customer) for customer in CUSTOMERS for number in range(8)])
    made.weir("olga", "close", "--through", "2026-01-31")
    made.rate([event(number, customer) for customer in ("acme", "bolt") for number in range(8, 10)])
    return made


def refused(ledger, name, text):
    connection = ledger.log_in(name)
    try:
        with pytest.raises((psycopg2.errors.InsufficientPrivilege, psycopg2.errors.RestrictViolation)):
            ledger.sql(text, connection)
    finally:
        connection.close()


def test_operators_work_with_their_own_rights(ledger):
    """A new catalog, explain, reconcile with a repair, reratings, grants, the audit log: nothing needs the owner."""
    ledger.weir("olga", "apply", "--catalog", ledger.folder / "catalog.json")
    ledger.weir("olga", "reconcile", "--repair")
    line_item = ledger.sql("select max(line_item_id) from weir.line_items")[0][0]
    ledger.weir("olga", "explain", str(line_item))
    ledger.weir("olga", "backtest", "--catalog", ledger.folder / "catalog.json")
    assert b"changed=0 " in ledger.weir("olga", "rerate", "--reason", "a test").stderr
    assert b"changed=0 " in ledger.weir("olga", "recount", "--meter", "calls", "--reason", "a test").stderr
    ledger.weir("olga", "grant", "--customer", "core", "--key", "gift", "--amount", "5", "--funding", "free", "--reason", "a test")
    ledger.weir("olga", "void", "--customer", "core", "--key", "gift", "--reason", "a test")
    assert b"gift" in ledger.weir("olga", "balance", "--customer", "core").stdout
    assert b"k-acme" in ledger.weir("olga", "revenue").stdout
    ledger.weir("olga", "close", "--draft", "--through", "2026-06-30")
    [(invoice,)] = ledger.sql("select invoice from weir.invoices where customer = 'acme' and state = 'draft'")
    ledger.weir("olga", "invoice", "finalize", invoice)
    ledger.weir("olga", "invoice", "void", invoice, "--reason", "a test")
    ledger.weir("nina", "close", "--through", "2026-02-28")  # raters close as well (close.grace)
    assert ledger.weir("nina", "invoice", "void", "INV-1", "--reason", "x", check=False).returncode == 1, "raters take nothing back"
    assert b"head=" in ledger.weir("olga", "audit", "verify").stdout


@pytest.mark.parametrize("name", ["nina", "olga", "fred"])
@pytest.mark.parametrize("change", ["update {} set amount = 0", "delete from {}", "truncate {}"])
def test_nobody_may_change_the_ledger(ledger, name, change):
    partition = ledger.sql("select 'weir.' || relname from pg_class join pg_inherits on inhrelid = pg_class.oid"
                           " where inhparent = 'weir.line_items'::regclass and relkind = 'r'")[0][0]
    for table in ("weir.line_items", partition):
        refused(ledger, name, change.format(table))


def test_finance_reads_views_and_nothing_below(ledger):
    tables = [name for name, in ledger.sql("select relname from pg_class where relnamespace = 'weir'::regnamespace and relkind in ('r', 'p')")]
    connection = ledger.log_in("fred")
    for view in VIEWS:
        ledger.sql(f"select * from weir.{view} limit 1", connection)
    connection.close()
    for table in tables:
        refused(ledger, "fred", f"select from weir.{table}")
    refused(ledger, "fred", "select weir.make_line_items_partition('2026-05-01')")
    refused(ledger, "nina", "insert into weir.finance_scopes values ('east', 'acme')")


def test_the_views_say_what_the_ledger_says(ledger):
    lines = ledger.sql("select tier, unit_price::float, sum(quantity)::int, sum(amount)::float from weir.charge_lines"
                       " where customer = 'acme' group by 1, 2 order by 1")
    assert [line for line in lines if line[0]] == [(1, 0.5, 5, 2.5), (2, 0.25, 5, 1.25)]
    assert ledger.sql("select customer, sum(amount)::float from weir.adjustments group by 1 order by 1") == [("acme", 0.5), ("bolt", 0.5)]
    assert ledger.sql("select usage_amount::float, is_closed from weir.period_status where customer = 'acme'") == [(3.75, True)]
    assert ledger.sql("select count(*) from weir.unpriced_usage where meter = 'free'") == [(3,)]


def test_scopes_keep_one_seller_apart_from_another(ledger):
    everything = {view: ledger.sql(f"select * from weir.{view} order by 1, 2") for view in VIEWS}
    ledger.sql("insert into weir.finance_scopes values ('east', 'acme'), ('west', 'bolt'), ('west', 'core')")
    try:
        for name, customers in (("east", {"acme"}), ("west", {"bolt", "core"}), ("fred", set())):
            connection = ledger.log_in(name)
            for view in VIEWS:
                rows = ledger.sql(f"select * from weir.{view} order by 1, 2", connection)
                where = next(index for index, in ledger.sql(
                    f"select attnum - 1 from pg_attribute where attrelid = 'weir.{view}'::regclass and attname in ('customer', 'BillingAccountId')"))
                assert sorted(map(str, rows)) == sorted(str(row) for row in everything[view] if row[where] in customers), (name, view)
            assert {customer for customer, in ledger.sql(f"select weir.seen_customers('{name}')", connection)} == customers
            assert ledger.sql("select weir.seen_customers('west')", connection) == [] or name == "west", "whose customers others have is theirs"
            connection.close()
        ledger.sql("insert into weir.finance_scopes values ('fred', null)")
        connection = ledger.log_in("fred")
        assert ledger.sql("select count(distinct customer) from weir.period_status", connection) == [(3,)]
        connection.close()
        assert ledger.sql("select count(distinct customer) from weir.period_status", ledger.log_in("olga")) == [(3,)]
    finally:
        ledger.sql("delete from weir.finance_scopes")
    told = ledger.sql("select action, subject from weir.audit_log where action in ('scope', 'unscope') order by entry")
    assert told.count(("scope", "role west")) == told.count(("unscope", "role west")) == 2
    weir("audit", "verify", env=ledger.env)
    with pytest.raises(psycopg2.errors.UndefinedObject):
        ledger.sql("insert into weir.finance_scopes values ('weast', 'acme')")


def test_one_customers_month_is_found_by_its_partition_and_key(ledger):
    """Also through the barrier, and for a reader with a scope."""
    ledger.rate([event(number, customer, day) for day in (6, 7) for customer in ("many", "more") for number in range(3)])
    ledger.sql("insert into weir.finance_scopes values ('east', 'acme')")
    connection = ledger.log_in("east")
    try:
        ledger.sql("set enable_seqscan = off", connection)
        for view in ("charge_lines", "charges_by_customer_and_period", "revenue_schedule", "usage_by_day"):
            plan = "\n".join(line for line, in ledger.sql(
                f"explain select * from weir.{view} where customer = 'acme' and period_start = '2026-01-01'", connection))
            assert re.search(r"Index Scan using line_items_2026_01_pkey .*\n +Index Cond: \(\(customer = 'acme'::text.*\) AND \(period_start = ", plan), plan
            keys = re.findall(r" (line_items_2026_01\w*pkey) ", plan)
            assert len(keys) == 1, f"{view} goes through the month's usage more than once: {plan}"
        plan = "\n".join(line for line, in ledger.sql("explain select * from weir.revenue_months where customer = 'acme'", connection))
        scans = re.findall(r"Scan using (line_items_2026_01_\w+) .*\n +Index Cond: \(\(customer = [^)]*\) AND \(period_start = [a-z]", plan)
        assert len(scans) == plan.count(" on line_items_2026_01") == 5, plan
    finally:
        connection.close()
        ledger.sql("delete from weir.finance_scopes")


def test_nobody_waits_for_plans_to_be_compiled(ledger):
    """A new session of whoever reads, without any setting of its own; a choice of the owner stays."""
    def found():
        connection = ledger.log_in("fred")
        try:
            return ledger.sql("show jit", connection)
        finally:
            connection.close()
    name = urllib.parse.urlsplit(ledger.env["WEIR_POSTGRES_URL"]).path[1:]
    assert found() == [("off",)]
    ledger.sql(f'alter database "{name}" set jit = on')
    weir("migrate", env=ledger.env)
    assert found() == [("on",)]
    ledger.sql(f'alter database "{name}" reset jit')
    weir("migrate", env=ledger.env)
    assert found() == [("off",)]


def test_every_table_has_its_place_in_the_roles(ledger):
    """Of what a migration adds, somebody has decided who may read and write it: a view is finance's or named here as not."""
    found = {name for name, in ledger.sql("select relname from pg_class where relnamespace = 'weir'::regnamespace and relkind = 'v'")}
    assert found == {*VIEWS, "open_gaps", "live_lanes", "gap_windows", "calendar_gaps", "contract_periods", "contract_terms", "contract_renewals", "period_obstacles", "rerating_runs",
                     "line_item_services", "open_revenue", "revenue_spans", "open_prepaid", "grants_now"}, "views that are neither finance's nor the operators' alone"


def test_roles_may_be_given_again(ledger):
    before = ledger.sql("select grantee, table_name, privilege_type from information_schema.role_table_grants"
                        " where table_schema = 'weir' and grantee like 'weir\\_%' order by 1, 2, 3")
    ledger.sql("grant update on weir.line_items to weir_finance")
    done = weir("migrate", "--roles", env=ledger.env)
    assert b"have their rights" in done.stdout
    after = ledger.sql("select grantee, table_name, privilege_type from information_schema.role_table_grants"
                       " where table_schema = 'weir' and grantee like 'weir\\_%' order by 1, 2, 3")
    assert before == after and len(before) > 50


def test_the_documentations_sql_runs(ledger):
    text = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "finance.md").read_text()
    connection = psycopg2.connect(ledger.env["WEIR_POSTGRES_URL"])  # nothing of it is committed
    cursor, statements = connection.cursor(), " ".join(re.findall(r"^    (.*)", text, re.MULTILINE)).split(";")
    for statement in filter(str.strip, statements):
        cursor.execute(statement)
        if statement.strip().startswith("SELECT"):
            assert [(row[1], row[4]) for row in cursor] == [(1, 2.5), (2, 1.25)], statement
    connection.close()
    assert len(statements) > 4
    told = set(re.findall(r"^\| `([a-z_]+)`", text, re.MULTILINE))
    assert told == {*VIEWS, "weir_finance", "weir_rater", "weir_operator"}
