"""weir recount: a new or corrected meter counted for the past, on a ledger that the real pipeline made, against the independent
model: with admitted events, beside running workers and raters, killed at any time, on prepaid amounts, minimums and final invoices,
from files where Kafka has lost the events; and the worked example of docs/meter-changes.md.

WEIR_TEST_SEED (7) chooses the events, WEIR_RECOUNT_EVENTS (1) so many times as many of them, WEIR_RECOUNT_KILLS (2) how often it is killed."""
import calendar
import copy
import csv
import gzip
import io
import json
import os
import random
import re
import signal
import socket
import struct
import subprocess
import threading
import time

import confluent_kafka
import psycopg2
import pytest
import stopping
from conftest import redis_nodes
from harness import BINARY, ROOT, assert_same, model_components, model_rows, weir
from ledger import ledger_components, ledger_rows, quarantined, query
from model import catalog, exact, run

PAGE = (ROOT / "docs" / "meter-changes.md").read_text(encoding="utf-8")
BLOCKS = {match[2]: match[3] for match in re.finditer(r"^~~~(json|csv) (\w+)\n(.*?)^~~~$", PAGE, re.M | re.S)}
PATIENCE = 120  # seconds, for a busy machine
SEED = int(os.environ.get("WEIR_TEST_SEED", "7"))
TIMES = int(os.environ.get("WEIR_RECOUNT_EVENTS", "1"))
KILLS = int(os.environ.get("WEIR_RECOUNT_KILLS", "2"))

BEFORE = {
    "meters": [
        {"key": "calls", "event_type": "call", "aggregation": "count", "window": "1h"},
        {"key": "tokens", "event_type": "call", "aggregation": "sum", "value": "data.tokens", "window": "1h", "group_by": ["model"]},
        {"key": "peak", "event_type": "call", "aggregation": "max", "value": "data.tokens", "window": "1h", "retractable": True},
        {"key": "level", "event_type": "call", "aggregation": "latest", "value": "data.tokens", "window": "1h", "retractable": True},
        {"key": "large", "event_type": "call", "aggregation": "count", "window": "1h", "where": {"data.model": ["large", "small"]}}],
    "price_books": [
        {"key": "list", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z", "prices": [
            {"meter": "calls", "model": "per_unit", "unit_price": "0.01"},
            {"meter": "tokens", "model": "graduated", "tiers": [{"up_to": "300", "unit_price": "0.1"}, {"up_to": None, "unit_price": "0.05"}]},
            {"meter": "tokens", "when": {"model": "large"}, "model": "per_unit", "unit_price": "0.2"},
            {"meter": "peak", "model": "per_unit", "unit_price": "1"},
            {"meter": "level", "model": "per_unit", "unit_price": "2"},
            {"meter": "large", "model": "package", "package_size": "10", "package_price": "3"}]}],
    "contracts": [
        {"key": "a-2026", "customer": "a", "price_book": "list", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None, "billing_period": "month",
         "timezone": "UTC", "commitments": [{"key": "floor", "type": "minimum_spend", "amount": "900.00", "per": "period"}]}],
    "default_contract": {"price_book": "list", "billing_period": "month", "timezone": "UTC"}}


def corrected():
    """Other values, another where, and three new meters, one of an event type that nothing matched before."""
    document = copy.deepcopy(BEFORE)
    meters = {meter["key"]: meter for meter in document["meters"]}
    for key in ("tokens", "peak", "level"):
        meters[key]["value"] = "data.billable"
    meters["large"]["where"] = {"data.model": ["large"]}
    document["meters"] += [
        {"key": "starts", "event_type": "start", "aggregation": "count", "window": "1d"},
        {"key": "users", "event_type": "call", "aggregation": "unique", "value": "data.user", "window": "1d"},
        {"key": "mean", "event_type": "call", "aggregation": "avg", "value": "data.billable", "window": "1h", "group_by": ["model", "user"]}]
    document["price_books"][0]["prices"] += [
        {"meter": "starts", "model": "per_unit", "unit_price": "5"},
        {"meter": "users", "model": "volume", "tiers": [{"up_to": "10", "unit_price": "7"}, {"up_to": None, "unit_price": "6"}]},
        {"meter": "mean", "model": "per_unit", "unit_price": "0.3"}]
    return document


AFTER = corrected()
METERS = [meter["key"] for meter in AFTER["meters"]]
# Whether a retraction may be taken was judged when it came: those that are not in quarantine were.
def judged(document):
    return {**document, "meters": [{**meter, "retractable": True} if meter["aggregation"] == "unique" else meter for meter in document["meters"]]}


JUDGED = judged(AFTER)


def events(generator, first_day, last_day, count, name):
    """Ordered, but for some hours; with resends, retractions on either side of their events, and what is too late."""
    lines, kept = [], []
    for number in range(count):
        hour = first_day * 24 + (last_day - first_day) * 24 * number // count - generator.choice((0, 0, 0, 1, 5))
        tokens = generator.randrange(60)
        event = {"specversion": "1.0", "id": f"{name}{number}", "source": "test", "type": generator.choice(("call", "call", "call", "start")),
                 "subject": generator.choice("abcdefg"), "time": f"2026-01-{hour // 24:02}T{hour % 24:02}:{generator.randrange(60):02}:00Z",
                 "data": {"tokens": tokens, "billable": tokens - generator.randrange(9), "user": f"u{generator.randrange(6)}",
                          "model": generator.choice(("large", "small", "tiny"))}}
        kept.append(event)
        lines.append(event)
        if generator.random() < 0.1:
            lines.append(generator.choice(kept[-20:]))
        if generator.random() < 0.1:
            lines.append(dict(generator.choice(kept[-20:]), retraction=True))
        if generator.random() < 0.03:
            lines.append(dict(event, id=f"late{name}{number}", time="2026-01-01T12:00:00Z"))
    return [json.dumps(line, separators=(",", ":")) for line in lines], kept


class World:
    """A topic, a database and an empty Redis; what was sent, and by which catalog the ledger should be."""

    def __init__(self, servers, name, folder, partitions=2):
        self.folder, self.partitions, self.lines = folder, partitions, []
        self.env = {**servers.room(name, partitions), "WEIR_METRICS_LISTEN": "off", "WEIR_KAFKA_GROUP": name}
        self.weir("migrate")

    def weir(self, *arguments, check=True, **more):
        return weir(*arguments, env={**self.env, **more}, check=check)

    def apply(self, document, *options):
        (self.folder / "catalog.json").write_text(json.dumps(document), encoding="utf-8")
        return self.weir("apply", "--catalog", self.folder / "catalog.json", *options).stdout.decode()

    def produce(self, lines):
        (self.folder / "events.ndjson").write_text("".join(line + "\n" for line in lines), encoding="utf-8")
        self.weir("produce", self.folder / "events.ndjson")
        self.lines += lines

    def rate(self):
        self.weir("ingest", "--until-end", WEIR_IDLE="1h")
        self.weir("rater", "--until-done")

    def admit(self):
        """What was refused as too late, into the lane of admitted events; how many were counted."""
        said = self.weir("admit", "--yes").stderr.decode().strip().splitlines()[-1]
        self.weir("rater", "--until-done")
        return int(re.search(r"counted=(\d+)", said)[1])

    def start(self, command, **more):
        return subprocess.Popen([BINARY, command], env={**os.environ, **self.env, **more}, stderr=subprocess.DEVNULL)

    def finish(self):
        """Lanes follow the clock until no event of January and February is taken any more."""
        (node,) = redis_nodes(self.env["WEIR_REDIS_URL"])
        lanes = [f"weir:{{{self.env['WEIR_KAFKA_TOPIC']}:{number}}}:lane" for number in range(self.partitions)]
        worker = self.start("ingest", WEIR_IDLE="100ms")
        deadline = time.monotonic() + PATIENCE
        try:
            while min(int(node.hget(lane, "forgotten")) for lane in lanes) < 1772323200 * 10**9:  # 2026-03-01
                assert time.monotonic() < deadline and worker.poll() is None
                time.sleep(0.1)
        finally:
            stopping.terminate(worker)
            worker.wait()

    def sql(self, text):
        with psycopg2.connect(self.env["WEIR_POSTGRES_URL"]) as connection:
            connection.cursor().execute(text)

    def await_lock(self, asking):
        """Until a command waits for a lock of PostgreSQL's with this in its statement."""
        deadline = time.monotonic() + PATIENCE
        while not query(self.env, "select from pg_stat_activity where wait_event_type = 'Lock' and datname = current_database()"
                                  f" and position('{asking}' in query) > 0"):
            assert time.monotonic() < deadline, f"nobody waits in {asking}"
            time.sleep(0.05)

    def recount(self, meter, *options, reason="the test of", **more):
        options = (*options, "--reason", f"{reason} {meter}") if reason else options
        done = self.weir("recount", "--meter", meter, "--format", "csv", *options, **more)
        last = done.stderr.decode().strip().splitlines()[-1]
        return list(csv.DictReader(io.StringIO(done.stdout.decode()))), dict(re.findall(r"(\w+)=(\d+)", last)), done.stderr.decode()

    def counted(self):
        """The lines that are not in quarantine, and those that were admitted."""
        topic = self.env["WEIR_KAFKA_TOPIC"]
        refused = {(topic, int(partition), int(offset)) for partition, offset in quarantined(self.env)}
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.env["WEIR_KAFKA_BROKERS"], "group.id": "all", "enable.partition.eof": True})
        topics = consumer.list_topics(timeout=PATIENCE).topics
        open_ends = {(name, number) for name in (topic, f"{topic}.admitted") if name in topics for number in topics[name].partitions}
        consumer.assign([confluent_kafka.TopicPartition(*place, 0) for place in open_ends])
        lines = []
        while open_ends:
            message = consumer.poll(PATIENCE)
            assert message is not None
            if message.error():
                open_ends.discard((message.topic(), message.partition()))
            elif (message.topic(), message.partition(), message.offset()) not in refused:
                lines.append(message.value())
        consumer.close()
        return lines, len(refused)

    def assert_ledger(self, document, lines, before=None):
        """before: of periods that start later, which are not over, the components of windows of an hour alone."""
        expected = run.run(catalog.Catalog(document), lines)
        hourly = {meter["key"] for meter in document["meters"] if meter["window"] == "1h"}
        early = lambda rows, items=(): {key: row for key, row in rows.items() if not before or key[2] < before or key[4] in items}
        rows = {key: (*row[:2], row[3]) for key, row in model_rows(expected).items() if float(row[0]) or float(row[1])}
        assert_same("ledger", early(ledger_rows(self.env)), early(rows), self.folder)
        assert_same("components", early(ledger_components(self.env), hourly), early(model_components(expected), hourly), self.folder)

    def charges(self, meter, *options):
        """The dry run in money: {(customer, item): (before, after)} of what changes."""
        done = self.weir("recount", "--dry-run", "--charges", "--format", "csv", "--meter", meter, *options, WEIR_RATER_BATCH="1")
        rows = {(row["customer"], row["item"]): row for row in csv.DictReader(io.StringIO(done.stdout.decode()))}
        assert all(exact.parse(row["after"]) - exact.parse(row["before"]) == exact.parse(row["difference"]) for row in rows.values())
        return {key: (row["before"], row["after"]) for key, row in rows.items() if row["before"] != row["after"]}

    def charged(self):
        """The same of the newest run, as the ledger has it: in the periods that it touched."""
        rows = query(self.env, """
            with run as (select max(rerating) as rerating from weir.reratings), touched as (
              select distinct l.customer, l.contract, l.item, l.currency, l.period_start from weir.line_items as l join run using (rerating)
              union select w.customer, r.contract, w.meter, b.currency, r.period_start from weir.recounted_windows as w join run using (rerating)
              join weir.rated_windows as r using (customer, window_start, series, lane) join weir.price_books as b using (price_book))
            select l.customer, l.item, sum(l.amount)::text as after,
                   (sum(l.amount) - coalesce(sum(l.amount) filter (where l.rerating = (select rerating from run)), 0))::text as before
            from touched join weir.line_items as l using (customer, contract, item, currency, period_start) group by 1, 2""")
        return {(row["customer"], row["item"]): (row["before"], row["after"]) for row in rows if row["before"] != row["after"]}


@pytest.fixture(scope="module")
def world(servers, tmp_path_factory):
    """Counted by the first catalog, then by the second one from some event on, until nothing of it can change any more."""
    generator = random.Random(SEED)
    world = World(servers, f"recount-{SEED}", tmp_path_factory.mktemp("recount"))
    world.apply(BEFORE)
    lines, kept = events(generator, 3, 9, 120 * TIMES, "x")
    world.produce(lines)
    world.rate()
    assert world.admit() > 0
    said = world.apply(AFTER, "--rerate")
    assert "! meter 'tokens' has rated usage, and its value changed" in said
    seam = [json.dumps(event, separators=(",", ":")) for event in kept[-12:]]  # resends of what no meter matched then, too
    more, _kept = events(generator, 9, 14, 100 * TIMES, "y")
    world.produce(seam + more)
    world.weir("ingest", "--until-end", WEIR_IDLE="1h")
    world.finish()
    world.weir("rater", "--until-done")
    return world


def test_against_the_model(world):
    """Late, duplicate, retracted, refused and admitted events; new meters, other values, another where; windows that lie across the change."""
    lines, refused = world.counted()
    assert refused > 0
    late = world.weir("recount", "--meter", "tokens", "--dry-run", "--lateness", "1h", "--id-retention", "24h", check=False)
    assert late.returncode == 2 and b"would be too late by the present lateness" in late.stderr, late.stderr
    before = world.weir("recount", "--meter", "tokens", "--dry-run", "--format", "csv")
    rows, counts, _said = world.recount("calls")
    assert rows == [] and counts["line_items"] == "0" and int(counts["unchanged"]) > 50, "an unchanged meter"
    changed = {}
    for meter in METERS[1:]:
        told = world.charges(meter) if meter in ("tokens", "large") else None
        rows, counts, said = world.recount(meter)
        assert int(counts["line_items"]) > 0 and counts["left"] == counts["refused"] == "0", said
        assert told is None or told == world.charged() != {}, "the dry run said so, in money"
        changed[meter] = rows
    assert list(csv.DictReader(io.StringIO(before.stdout.decode()))) == changed["tokens"], "the dry run said so"
    world.weir("rater", "--until-done")
    world.assert_ledger(JUDGED, lines)
    assert world.recount("tokens")[0] == [] and world.charges("tokens") == {}, "a second time changes nothing"
    come_meanwhile(world)
    lines, _refused = world.counted()
    for meter in METERS:
        world.recount(meter)
    world.weir("rater", "--until-done")
    world.assert_ledger(JUDGED, lines, "2026-02")
    found = json.loads(world.weir("reconcile", "--format", "json").stdout)
    assert found["differences"] == 0, found
    runs = query(world.env, "select rerating, state, filters->>'recount' as source, filters->>'meter' as meter, windows from weir.rerating_runs order by 1")
    assert [run["meter"] for run in runs][:len(METERS)] == METERS and {(run["state"], run["source"]) for run in runs} == {("done", "kafka")}
    assert sum(run["windows"] for run in runs) == query(world.env, "select count(*)::int as n from weir.recounted_usage")[0]["n"]
    noted = query(world.env, "select action, subject, detail from weir.audit_log where action in ('rerate', 'rerated') order by entry")
    assert [(row["action"], row["subject"]) for row in noted] == [(what, f"rerating {run['rerating']}") for run in runs for what in ("rerate", "rerated")]
    assert noted[0]["detail"]["filters"]["recount"] == "kafka" and noted[0]["detail"]["reason"] == "the test of calls"
    beside_workers_and_killed(world)  # goes on from here: two tests might be two processes'


def come_meanwhile(world):
    """Events behind the offsets up to which the recount has read, admitted ones and such of windows that still take them; rated before
    it compares."""
    live = live_events(random.Random(SEED), "a")
    world.produce(live)
    world.rate()
    world.sql("create function weir.wait() returns trigger language plpgsql as $$ begin perform pg_advisory_xact_lock(4711); return new; end $$;"
              " create trigger wait before insert on weir.reratings for each row execute function weir.wait()")
    connection = psycopg2.connect(world.env["WEIR_POSTGRES_URL"])
    connection.cursor().execute("select pg_advisory_lock(4711)")
    running = subprocess.Popen([BINARY, "recount", "--meter", "calls", "--reason", "beside"], env={**os.environ, **world.env},
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        world.await_lock("INSERT INTO weir.reratings")
        world.produce([line.replace('"id": "a', '"id": "b') for line in live])
        world.weir("ingest", "--until-end", WEIR_IDLE="1h")
        assert world.admit() > 0
    finally:
        connection.close()
        _out, said = running.communicate(timeout=PATIENCE)
    world.sql("drop trigger wait on weir.reratings; drop function weir.wait()")
    assert running.returncode == 0 and b"windows wait to be rated" in said and b"changed=0 " in said, said


def live_events(generator, name):
    """Of hours that are over, and that workers still take: they change windows that are rated already, and are the same by each catalog."""
    now = time.time()
    lines = []
    for number in range(20):
        tokens = generator.randrange(60)
        lines.append({"specversion": "1.0", "id": f"{name}{number}", "source": "live", "type": "call", "subject": generator.choice("abcdefg"),
                      "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(now - generator.randrange(7200, 72000))),
                      "data": {"tokens": tokens, "billable": tokens, "user": "u", "model": "large"}})
    return [json.dumps(line) for line in lines]


def beside_workers_and_killed(world):
    """The value is corrected once more while workers take turns at the lanes, raters rate late events of the same customers and
    meter, and the recount is killed at any time."""
    generator, chance = random.Random(SEED), random.Random(SEED)
    document = copy.deepcopy(AFTER)
    next(meter for meter in document["meters"] if meter["key"] == "tokens")["value"] = "data.tokens"
    world.apply(document, "--rerate")
    command, env = [BINARY, "recount", "--meter", "tokens", "--reason", "killed"], {**os.environ, **world.env, "WEIR_RATER_BATCH": "1"}
    begun = time.monotonic()
    told = world.weir("recount", "--meter", "tokens", "--dry-run", "--format", "csv").stdout
    lasts = 2 * (time.monotonic() - begun)
    done = threading.Event()
    producer = confluent_kafka.Producer({"bootstrap.servers": world.env["WEIR_KAFKA_BROKERS"]})

    def produce():
        for number in range(10000):
            for line in live_events(generator, f"live{number}-"):
                producer.produce(world.env["WEIR_KAFKA_TOPIC"], line, partition=generator.randrange(2))
            assert producer.flush(PATIENCE) == 0
            if done.wait(0.1):
                return

    running = [world.start("ingest", WEIR_IDLE="100ms"), world.start("rater"), world.start("rater")]
    producing = threading.Thread(target=produce)
    producing.start()
    try:
        for number in range(KILLS):
            running.append(world.start("ingest", WEIR_IDLE="100ms"))
            recount = subprocess.Popen(command, env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
            try:
                recount.wait(chance.uniform(0, lasts))
            except subprocess.TimeoutExpired:
                recount.kill()
            assert recount.wait() in (0, -signal.SIGKILL)
            stopping.terminate(running[-1] if number % 2 else running[0])  # the one that is left takes its lanes
            running = [process for process in running if process.poll() is None]
        last = weir(*command[1:], "--format", "csv", env=env)
    finally:
        done.set()
        producing.join()
        for process in running:
            stopping.terminate(process)
            process.wait()
    world.weir("ingest", "--until-end", WEIR_IDLE="100ms")
    world.weir("rater", "--until-done")
    runs = query(world.env, "select state from weir.rerating_runs where reason = 'killed'")
    assert {run["state"] for run in runs} == {"done"} and (len(runs) > 1 or last.stdout == told), "one run, and its report is that of all of it"
    lines, _refused = world.counted()
    world.assert_ledger(judged(document), lines, "2026-02")
    assert b"differences=0" in world.weir("reconcile").stdout and b"findings=0" in world.weir("audit", "verify").stdout


def delete_before(env, offset):
    """Kafka's own DeleteRecords, version 0, of partition 0: this confluent_kafka does not have it."""
    name = env["WEIR_KAFKA_TOPIC"].encode()
    body = struct.pack(">hhihih", 21, 0, 7, -1, 1, len(name)) + name + struct.pack(">iiqi", 1, 0, offset, 10000)
    host, port = env["WEIR_KAFKA_BROKERS"].rsplit(":", 1)
    with socket.create_connection((host, int(port)), timeout=30) as connection:
        connection.sendall(struct.pack(">i", len(body)) + body)
        stream = connection.makefile("rb")
        answer = stream.read(struct.unpack(">i", stream.read(4))[0])
    assert struct.unpack(">qh", answer[-10:]) == (offset, 0)


MONEY = {
    "meters": [
        {"key": "calls", "event_type": "call", "aggregation": "count", "window": "1h"},
        {"key": "tokens", "event_type": "call", "aggregation": "sum", "value": "data.tokens", "window": "1h", "group_by": ["model"]}],
    "price_books": [
        {"key": "list", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
         "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "0.01"},
                    {"meter": "tokens", "model": "graduated", "tiers": [{"up_to": "100", "unit_price": "1"}, {"up_to": None, "unit_price": "0.5"}]}],
         "fees": [{"key": "platform", "amount": "10.00", "per": "period", "charged": "in_arrears"}]}],
    "contracts": [
        {"key": f"{customer}-2026", "customer": customer, "price_book": "list", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
         "billing_period": "month", "timezone": "UTC", **terms} for customer, terms in {
            "prepaid": {"commitments": [{"key": "credit", "type": "prepaid", "amount": str(400 * TIMES), "price": "350", "overage_multiplier": "1.5"},
                                        {"key": "welcome", "type": "prepaid", "amount": "30", "funding": "promotional", "meters": ["tokens"],
                                         "expires_at": "2026-01-10T00:00:00Z", "rollover_fraction": "0.5",
                                         "rollover_expires_at": "2026-01-20T00:00:00Z"}]},
            "spend": {"commitments": [{"key": "floor", "type": "minimum_spend", "amount": f"{450 * TIMES}.00", "per": "period"}]},
            "quantity": {"commitments": [{"key": "at-least", "type": "minimum_quantity", "meter": "tokens", "quantity": str(900 * TIMES), "per": "period"}]},
            "partner": {"discounts": [{"key": "partner", "type": "percentage", "rate": "0.10", "applies_to": "invoice"}]}}.items()],
    "default_contract": {"price_book": "list", "billing_period": "month", "timezone": "UTC"}}


def dated_events(generator, first_day, last_day, count, name):
    """In order, some days of 2026; `billed` is less than `tokens`."""
    lines = []
    for number in range(count):
        minute = first_day * 1440 + (last_day - first_day) * 1440 * number // count
        tokens = generator.randrange(90)
        lines.append({"specversion": "1.0", "id": f"{name}{number}", "source": "test", "type": "call",
                      "subject": generator.choice(("prepaid", "spend", "quantity", "partner", "zoe")),
                      "time": time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(1767225600 + minute * 60)),  # 2026-01-01
                      "data": {"tokens": tokens, "billed": tokens - generator.randrange(tokens + 1), "model": generator.choice("lm")}})
    return [json.dumps(line) for line in lines]


def send(world, lines):
    """As producers that stamp messages with the time of the event do it."""
    producer = confluent_kafka.Producer({"bootstrap.servers": world.env["WEIR_KAFKA_BROKERS"]})
    for line in lines:
        when = time.strptime(json.loads(line)["time"], "%Y-%m-%dT%H:%M:%SZ")
        producer.produce(world.env["WEIR_KAFKA_TOPIC"], line, partition=0, timestamp=calendar.timegm(when) * 1000)
    assert producer.flush(PATIENCE) == 0
    world.lines += lines


def test_windows_that_several_cuts_brought(servers, tmp_path):
    """A lane's cuts tell a series key once, and a recount keeps but some windows of each (names_all in aggregator/lane.h)."""
    (book,) = BEFORE["price_books"]
    world = World(servers, "recount-cuts", tmp_path, partitions=1)
    world.apply({"meters": BEFORE["meters"][:1], "price_books": [{**book, "prices": book["prices"][:1]}],
                 "default_contract": BEFORE["default_contract"]})
    sealed_every = int(re.search(r"SEAL_EVERY = (\d+)", (ROOT / "cli/recount_read.c").read_text(encoding="utf-8"))[1])
    world.produce([f'{{"specversion":"1.0","id":"{n}","source":"test","type":"call","subject":"{"ab"[n % 2]}","time":"2026-01-10T12:00:00Z"}}'
                   for n in range(sealed_every + 1000)])
    world.weir("ingest", "--until-end", WEIR_IDLE="1h")
    world.finish()
    world.weir("rater", "--until-done")
    rows, counts, said = world.recount("calls")
    assert rows == [] and (counts["unchanged"], counts["changed"]) == ("2", "0"), said


def test_money_that_is_invoiced_and_events_that_are_gone(servers, tmp_path):
    """Prepaid amounts, minimums, a true-up and a discount on the invoice, final: what a recount charges is adjustments of the next
    invoice. Then Kafka loses half of the events, and an archive has them."""
    generator = random.Random(SEED)
    world = World(servers, "recount-money", tmp_path, 1)
    world.apply(MONEY)
    send(world, dated_events(generator, 3, 31, 70 * TIMES, "january") + dated_events(generator, 31, 42, 30 * TIMES, "february"))
    world.rate()
    world.weir("close", "--through", "2026-01-31")
    corrected = copy.deepcopy(MONEY)
    corrected["meters"][1]["value"] = "data.billed"
    world.apply(corrected, "--rerate")
    world.finish()
    world.weir("rater", "--until-done")
    told = world.charges("tokens")
    page = world.weir("recount", "--dry-run", "--charges", "--meter", "tokens", "--format", "html").stdout.decode()
    assert "Recount of meter tokens (dry run: nothing was written)" in page and "prepaid \u00b7 tokens</text>" in page
    said = world.weir("recount", "--dry-run", "--charges", "--meter", "tokens", "--format", "json")
    totals = json.loads(said.stdout)["totals"]
    rows, counts, run_said = world.recount("tokens")
    assert rows and counts["left"] == "0" and "still take events" in run_said
    assert told == world.charged() and {("prepaid", "credit"), ("spend", "floor"), ("quantity", "at-least"), ("partner", "platform")} & set(told), told
    (total,) = [line for line in run_said.splitlines() if line.endswith(" USD")]
    assert total.split(" charges ")[1] in said.stderr.decode() and len(totals) == 1 and totals[0]["difference"].startswith(total.split()[-2])

    world.weir("rater", "--until-done")
    lines, refused = world.counted()
    assert refused == 0 and len(lines) == len(world.lines)
    world.assert_ledger(corrected, lines)
    world.weir("close", "--through", "2026-02-28")
    runs = {(row["customer"], row["item"], row["kind"]): row["amount"] for row in query(
        world.env, "select customer, item, kind, sum(amount) as amount from weir.line_items where rerating is not null"
                   " and period_start < '2026-02-01' group by 1, 2, 3 having sum(amount) <> 0")}
    adjusted = {(row["customer"], row["item"], row["kind"]): row["amount"] for row in query(
        world.env, "select h.customer, r.item, r.kind, sum(r.amount) as amount from weir.invoice_rows as r join weir.invoice_heads as h using (invoice)"
                   " where h.period_start >= '2026-02-01' and r.service_start < '2026-02-01' and r.corrected_invoice in (select invoice from"
                   " weir.invoices where period_start < '2026-02-01' and state = 'final') group by 1, 2, 3 having sum(r.amount) <> 0")}
    assert runs == adjusted != {}
    assert b"differences=0" in world.weir("reconcile").stdout and b"findings=0" in world.weir("audit", "verify").stdout

    world.apply(MONEY, "--rerate")
    gone = len(world.lines) // 2
    delete_before(world.env, gone)
    rows, counts, said = world.recount("tokens")
    limit = re.search(r"lane recount-money:0: Kafka holds nothing below offset (\d+), so windows that start before (\S+) cannot", said)
    first = json.loads(world.lines[gone])["time"]
    assert limit[1] == str(gone) and first < limit[2] < first[:8] + f"{int(first[8:10]) + 1:02}" and int(counts["left"]) > 0, said
    assert {row["window_start"] >= limit[2] for row in rows} == {True} and f"{counts['left']} windows whose events are not all in Kafka" in said
    archive = world.folder / "archive.ndjson"
    archive.write_text("".join(line + "\n" for line in world.lines), encoding="utf-8")
    rows, counts, _said = world.recount("tokens", "--from", "2026-01-01", "--to", limit[2], archive)
    assert counts["left"] == "0" and {row["window_start"] < limit[2] for row in rows} == {True}
    world.weir("rater", "--until-done")
    world.assert_ledger(MONEY, lines)
    assert b"differences=0" in world.weir("reconcile").stdout


def amounts(env):
    return {row["customer"]: row["amount"] for row in
            query(env, "select customer, trim_scale(sum(amount))::text as amount from weir.line_items group by 1")}


@pytest.fixture(scope="module")
def example(servers, tmp_path_factory):
    """The worked example of docs/meter-changes.md, before the recount."""
    example = World(servers, "recount-example", tmp_path_factory.mktemp("recount"), 1)
    example.apply(json.loads(BLOCKS["before"]))
    example.produce(BLOCKS["events"].splitlines())
    example.weir("ingest", "--until-end", WEIR_IDLE="1h")
    example.finish()
    _rows, counts, said = example.recount("tokens", "--dry-run", reason=None)
    assert "3 windows wait to be rated" in said and (counts["changed"], counts["left"]) == ("0", "3"), "no rater was there yet"
    example.weir("rater", "--until-done")
    example.sql("insert into weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)"
                " select lane, 'retention', 7, 8, '2026-01-05T10:30:00Z', '2026-01-06T10:00:00Z', now(), true from weir.lanes")
    _rows, counts, said = example.recount("tokens", "--dry-run", reason=None)
    assert "1 windows are in an open gap" in said and counts["left"] == "1", said
    example.weir("release", "--lane", "recount-example:0", "--all", "--reason", "the test made it")
    assert amounts(example.env) == {"acme": "21", "ann": "0.5"}
    return example


def test_the_worked_example_broken_off(example):
    env = example.env
    after = json.loads(BLOCKS["before"].replace("data.tokens", "data.billed"))
    (example.folder / "after.json").write_text(json.dumps(after), encoding="utf-8")
    dry = example.weir("recount", "--meter", "tokens", "--dry-run", "--catalog", example.folder / "after.json", "--format", "csv")
    assert dry.stdout.decode() == BLOCKS["report"] and b"it would charge -8 USD" in dry.stderr
    dry = example.weir("recount", "--meter", "tokens", "--dry-run", "--charges", "--catalog", example.folder / "after.json", "--format", "csv")
    assert dry.stdout.decode() == BLOCKS["charges"]
    other = copy.deepcopy(after)
    other["meters"].append({"key": "calls", "event_type": "completion", "aggregation": "count", "window": "1h"})
    other["price_books"][0]["prices"][0]["unit_price"] = "0.02"
    other["price_books"][0]["version"] = 2
    (example.folder / "other.json").write_text(json.dumps(other), encoding="utf-8")
    for meter, said in (("tokens", b"of 2 windows it cannot be told what they would be charged: "), ("calls", b"3 shares of windows have no price")):
        dry = example.weir("recount", "--meter", meter, "--dry-run", "--charges", "--catalog", example.folder / "other.json", "--format", "csv")
        assert said in dry.stderr and dry.stdout.count(b"\n") <= 2, dry.stderr
    refused = example.weir("apply", "--catalog", example.folder / "after.json", check=False)
    assert refused.returncode == 2 and b"or count it again (weir apply --rerate, then weir recount)" in refused.stderr
    example.apply(after, "--rerate")
    example.sql("create function weir.fail() returns trigger language plpgsql as $$ begin if new.window_start ="
                " '2026-01-06T10:00:00Z' then raise exception 'the plug was pulled'; end if; return new; end $$;"
                " create trigger fail before insert on weir.recounted_windows for each row execute function weir.fail()")
    broken = example.weir("recount", "--meter", "tokens", "--reason", "retries", check=False, WEIR_RATER_BATCH="1")
    assert broken.returncode == 1 and b"recount 1 is not done; the same command goes on with it" in broken.stderr, broken.stderr
    assert amounts(env) == {"acme": "18", "ann": "0.5"}, "the first window, whole"
    example.sql("drop trigger fail on weir.recounted_windows; drop function weir.fail()")
    rated_meanwhile(example)
    done = example.weir("recount", "--meter", "tokens", "--reason", "retries", "--format", "csv", WEIR_RATER_BATCH="1",
                        WEIR_CATALOG=str(example.folder / "other.json"))  # workers' and raters': not what a recount goes by
    assert b"goes on with recount 1" in done.stderr and b"recount 1 charges -8 USD" in done.stderr and b"line_items=2 recount=1" in done.stderr
    assert done.stdout.decode() == BLOCKS["report"], "the report of the whole run"
    assert amounts(env) == {"acme": "13", "ann": "0.5"}
    rows = query(env, "select line_item_id, revision, amount::text, rerating from weir.adjustments order by 1")
    assert [(row["revision"], row["amount"][:5], row["rerating"]) for row in rows] == [(2, "-3.00", 1), (2, "-5.00", 1)]
    for row in rows:
        said = example.weir("explain", row["line_item_id"]).stdout.decode()
        assert "recount 1, " in said and "retries" in said and "is the line item's amount" in said, said
    assert b"differences=0" in example.weir("reconcile").stdout and b"findings=0" in example.weir("audit", "verify").stdout
    from_files_where_kafka_has_lost_the_events(example)  # goes on from here: two tests might be two processes'


def rated_meanwhile(example):
    """A rater holds acme, and rates the window that the recount has compared already."""
    rate = "update weir.rated_windows set events = events {} 1 where customer = 'acme' and window_start = '2026-01-06T10:00:00Z'"
    connection = psycopg2.connect(example.env["WEIR_POSTGRES_URL"])
    connection.cursor().execute("select from weir.customers where customer = 'acme' for update")
    running = subprocess.Popen([BINARY, "recount", "--meter", "tokens", "--reason", "retries"], env={**os.environ, **example.env},
                               stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        example.await_lock("FOR NO KEY UPDATE")
        connection.cursor().execute(rate.format("+"))
        connection.commit()
    finally:
        connection.close()
        _out, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1 and b"1 windows were rated anew while they were counted" in said, said
    assert amounts(example.env) == {"acme": "18", "ann": "0.5"}
    example.sql(rate.format("-"))


def from_files_where_kafka_has_lost_the_events(example):
    env = example.env
    archive = example.folder / "archive.ndjson.gz"
    archive.write_bytes(gzip.compress(BLOCKS["events"].encode()))
    span = ("--from", "2026-01-01", "--to", "2026-02-01")
    rows, counts, _said = example.recount("tokens", *span, archive)
    assert rows == [] and counts["unchanged"] == "3", "the files tell the same as Kafka"
    delete_before(env, 1)
    example.apply(json.loads(BLOCKS["before"]), "--rerate")
    rows, counts, said = example.recount("tokens")
    assert rows == [] and counts["left"] == "3" and "Kafka holds nothing below offset 1, so windows that start before 20" in said
    assert amounts(env) == {"acme": "13", "ann": "0.5"}, "nothing less than the truth is written"
    rows, counts, _said = example.recount("tokens", *span, archive)
    assert [(row["before"], row["after"]) for row in rows] == [("1300.000000000000", "1600.000000000000"), ("0.000000000000", "500.000000000000")]
    assert amounts(env) == {"acme": "21", "ann": "0.5"}
    assert example.recount("tokens", *span, archive)[0] == []
    _rows, counts, said = example.recount("tokens")
    assert "2 windows were counted from files" in said and amounts(env) == {"acme": "21", "ann": "0.5"}
    assert b"differences=0" in example.weir("reconcile").stdout


REFUSED = [
    ([], "--meter is missing"),
    (["--meter", "tokens"], "either --dry-run, or --reason"),
    (["--meter", "tokens", "--dry-run", "--reason", "x"], "--dry-run writes nothing"),
    (["--meter", "tokens", "--reason", "x", "--catalog", "y"], "is for --dry-run"),
    (["--meter", "tokens", "--reason", "x", "--charges"], "--charges is for --dry-run"),
    (["--meter", "tokens", "--dry-run", "--format", "html"], "--format html is for --charges"),
    (["--meter", "tokens", "--dry-run", "--from", "soon"], "--from and --to are times"),
    (["--meter", "tokens", "--dry-run", "--from", "2026-02-01", "--to", "2026-01-01"], "--to must be after --from"),
    (["--meter", "tokens", "--dry-run", "events.ndjson"], "FILEs need --from and --to"),
    (["--meter", "nothing", "--dry-run"], "the catalog has no meter 'nothing'")]


def test_refused(example):
    """One test: each process that has a part of them makes the example first."""
    connection = psycopg2.connect(example.env["WEIR_POSTGRES_URL"])
    connection.cursor().execute("select pg_advisory_lock(2003132786, hashtext('weir rerate'))")
    done = example.weir("recount", "--meter", "tokens", "--reason", "x", check=False)
    assert done.returncode == 1 and b"another weir recount or weir rerate is under way" in done.stderr
    connection.close()
    for arguments, said in REFUSED:
        done = example.weir("recount", *arguments, check=False)
        assert done.returncode == 2 and said in done.stderr.decode(), (arguments, done.stderr)
    what_is_applied_meanwhile_and_what_cannot_be_rated(example)


def what_is_applied_meanwhile_and_what_cannot_be_rated(example):
    """Each of them leaves the ledger as it is, and what is to be done is said. By files: in this process Kafka may have lost the events."""
    archive = example.folder / "refused.ndjson"
    archive.write_text(BLOCKS["events"], encoding="utf-8")
    command = ("recount", "--meter", "tokens", "--reason", "refused", "--from", "2026-01-01", "--to", "2026-02-01", archive)
    document = json.loads(BLOCKS["before"].replace("data.tokens", "data.billed"))
    before = amounts(example.env)
    connection = psycopg2.connect(example.env["WEIR_POSTGRES_URL"])
    connection.cursor().execute("lock table weir.lane_gaps in access exclusive mode")
    running = subprocess.Popen([BINARY, *map(str, command)], env={**os.environ, **example.env}, stdout=subprocess.DEVNULL, stderr=subprocess.PIPE)
    try:
        example.await_lock("gaps")
        applied = query(example.env, "select max(catalog_version) as number from weir.catalog_versions")[0]["number"]
        example.apply(document, "--rerate")
    finally:
        connection.close()
        _out, said = running.communicate(timeout=PATIENCE)
    assert running.returncode == 1 and f"catalog {applied + 1} was applied while the meter was counted by catalog {applied}: run this again" in said.decode(), said
    assert amounts(example.env) == before and not query(example.env, "select from weir.reratings where reason = 'refused'")

    document["price_books"].append({**document["price_books"][0], "version": 2, "effective_from": "2026-01-02T00:00:00Z"})
    example.apply(document, "--rerate")
    done = example.weir(*command, check=False)
    assert done.returncode == 1 and re.search(rb"[1-9] windows are held or cannot be rated \(weir.held_usage says why\)", done.stderr), done.stderr
    held = query(example.env, "select refused from weir.held_usage where refused is not null")
    assert held and all("rerate" in row["refused"] for row in held), held
    assert amounts(example.env) == before
    example.weir("rerate", "--reason", "the new version")
    assert amounts(example.env) == before, "it costs the same"
    example.weir(*command)
    assert amounts(example.env) == {"acme": "13", "ann": "0.5"} and not query(example.env, "select from weir.held_usage")
