"""What the one on call works with: weir reconcile finds what was broken on purpose and repairs what may be repaired."""
import collections
import contextlib
import json
import os
import re
import subprocess
import time
import urllib.request

import confluent_kafka
import psycopg2
import pytest
import redis
import stopping
from harness import BINARY, assert_same, model_rows, weir
from model import catalog, exact, run
from test_random_pipeline import ledger_rows, query

CATALOG = {
    "meters": [
        {"key": "tokens", "event_type": "used", "aggregation": "sum", "value": "data.n", "window": "1h", "group_by": ["model"]},
        {"key": "calls", "event_type": "used", "aggregation": "count", "window": "1h"},
        {"key": "peak", "event_type": "used", "aggregation": "max", "value": "data.n", "window": "1h", "group_by": ["model"]},
        {"key": "mean", "event_type": "used", "aggregation": "avg", "value": "data.n", "window": "1d"},
        {"key": "gauge", "event_type": "used", "aggregation": "latest", "value": "data.n", "window": "1h"},
        {"key": "floor", "event_type": "used", "aggregation": "min", "value": "data.n", "window": "1h", "rollup": "sum"},
        {"key": "asks", "event_type": "asked", "aggregation": "count", "window": "1h"}],
    "price_books": [{
        "key": "book", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
        "prices": [
            {"meter": "tokens", "model": "graduated", "tiers": [{"up_to": "100", "unit_price": "0.10"},
                                                                {"up_to": None, "unit_price": "0.03", "flat_fee": "1.00"}]},
            {"meter": "calls", "model": "per_unit", "unit_price": "0.01"},
            {"meter": "asks", "model": "per_unit", "unit_price": "0.01"},
            {"meter": "peak", "model": "per_unit", "unit_price": "2"},
            {"meter": "mean", "model": "per_unit", "unit_price": "3"},
            {"meter": "gauge", "model": "per_unit", "unit_price": "5"},
            {"meter": "floor", "model": "per_unit", "unit_price": "7"}],
        "fees": [{"key": "platform", "amount": "99.00", "per": "period", "charged": "in_advance"}]}],
    "contracts": [{"key": "acme-2026", "customer": "acme", "price_book": "book", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
                   "billing_period": "month", "timezone": "UTC",
                   "commitments": [{"key": "least", "type": "minimum_spend", "amount": "100000", "per": "period"}]}],
    "default_contract": {"price_book": "book", "billing_period": "month", "timezone": "UTC"},
}


def event(number, **changes):
    """One of many: three customers, two models, forty hours in January 2026."""
    return {"specversion": "1.0", "id": f"e{number}", "source": "test", "type": "used",
            "subject": ("acme", "bolt", "crux")[number % 3], "time": f"2026-01-{5 + number % 40 // 24:02d}T{number % 40 % 24:02d}:30:00Z",
            "data": {"n": str(number % 17 - 3), "model": ("large", "small")[number % 2]}, **changes}


EVENTS = [event(number) for number in range(600)]


class World:
    """A topic, a Redis and a database of one's own, the catalog applied."""

    def __init__(self, env, folder, document=None):
        self.env, self.folder, self.number = {**env, "WEIR_LATENESS": "87600h"}, folder, 0
        self.document = document or CATALOG
        self.sent = []
        (folder / "catalog.json").write_text(json.dumps(self.document))
        weir("migrate", env=self.env)
        weir("apply", "--catalog", folder / "catalog.json", env=self.env)
        self.redis = redis.Redis.from_url(env["WEIR_REDIS_URL"])
        self.topic = env["WEIR_KAFKA_TOPIC"]

    def run(self, *arguments, status=0):
        done = weir(*arguments, env=self.env, check=False)
        assert done.returncode == status, (arguments, done.returncode, done.stdout.decode(), done.stderr.decode())
        return done

    def produce(self, events):
        events, self.number = list(events), self.number + 1
        path = self.folder / f"events-{self.number}.ndjson"
        path.write_text("".join(json.dumps(one) + "\n" for one in events))
        self.sent += [json.dumps(one).encode() for one in events]
        self.run("produce", path)

    def rate(self):
        self.run("ingest", "--until-end")
        self.run("rater", "--until-done")

    def reconcile(self, *arguments, status=0):
        return json.loads(self.run("reconcile", "--format", "json", *arguments, status=status).stdout)

    def sql(self, text):
        connection = psycopg2.connect(self.env["WEIR_POSTGRES_URL"])
        connection.autocommit = True
        try:
            connection.cursor().execute(text)
        finally:
            connection.close()

    def keys(self, what):
        """Without tallies: nothing is rated of these."""
        return sorted(key for key in self.redis.keys(f"weir:{{{self.topic}[:.]*}}:{what}:*") if not key.endswith(b":0:9223372036854775807"))

    def uncounted(self):
        """{customer: (duplicate, refused, admitted)} as invoices would state them."""
        return {row["customer"]: tuple(row["counts"]) for row in query(
            self.env, "select customer, array[sum(duplicate), sum(quarantined), sum(admitted)]::int[] as counts from weir.uncounted_events group by 1")}

    def assert_is_the_models(self, lines=None):
        # Only January is over for the model and for the real rater: every period that the events span.
        expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency)
                    in model_rows(run.run(catalog.Catalog(self.document), lines or self.sent, False)).items()}
        expected = {key: row for key, row in expected.items() if exact.parse(row[0]) or exact.parse(row[1])}
        assert_same("sums of the ledger", ledger_rows(self.env), expected, self.folder)


@pytest.fixture
def world(servers, tmp_path, request):
    name = "operator-" + re.sub("[^a-z]+", "-", request.node.name.removeprefix("test_"))
    return World(servers.room(name), tmp_path)


@pytest.fixture
def rated(world):
    world.produce(EVENTS)
    world.rate()
    world.assert_is_the_models()
    return world


def kinds(result):
    return {kind: count for kind, count in result["differences_by_kind"].items() if count}


# ---- reconcile ----------------------------------------------------------------------------------------


def test_at_rest_nothing_differs_and_the_result_is_kept(rated):
    result = rated.reconcile()
    assert kinds(result) == {} and result["differences"] == 0 and result["list"] == [] and result["list_is_whole"]
    assert len(result["lanes"]) == 4 and sum(lane["counted"] for lane in result["lanes"]) == 600
    assert result["windows"] == sum(lane["rated"] for lane in result["lanes"]) > 300 and result["waiting"] == 0
    assert result["behind"] == 0
    table = rated.run("reconcile").stdout.decode()
    assert table.splitlines()[-1].startswith("weir reconcile: lanes=4 behind=0 windows=")
    assert table.strip().endswith("differences=0")
    kept = query(rated.env, "select topic, lanes, windows, differences, differences_by_kind from weir.reconciliations order by 1")
    assert [(row["lanes"], row["windows"], row["differences"], row["differences_by_kind"]) for row in kept] == \
        [(4, result["windows"], 0, {})] * 2
    with pytest.raises(psycopg2.errors.RestrictViolation):
        rated.sql("delete from weir.reconciliations")


def test_what_is_on_its_way_is_no_difference(rated):
    rated.produce([event(number) for number in range(600, 700)])
    assert rated.reconcile()["behind"] == 100
    rated.run("ingest", "--until-end")
    result = rated.reconcile("--repair")
    assert result["waiting"] > 0 and result["differences"] == 0 and result["repaired"] == 0
    rated.run("rater", "--until-done")
    rated.assert_is_the_models()


def test_lost_work_is_found_and_repaired(world):
    """Closed windows vanish from the list of work before they were rated, and after they were, with more events."""
    first = [number for number in range(400) if number % 40 < 20]
    world.produce(EVENTS[number] for number in first)
    world.rate()
    world.produce([*(EVENTS[number] for number in range(600) if number not in first), *EVENTS[:5]])
    world.run("ingest", "--until-end")
    lost = sum(world.redis.hlen(key) for key in world.keys("work"))
    assert lost > 50
    for key in world.keys("work"):
        world.redis.delete(key)
    for key in world.redis.keys(f"weir:{{{world.topic}:*}}:working"):
        world.redis.delete(key)
    world.run("rater", "--until-done")
    found = world.reconcile(status=1)
    assert found["differences"] == lost and set(kinds(found)) == {"newer", "unrated"} and found["repaired"] == 0
    assert all("Redis has" in one["text"] for one in found["list"]) and len(found["list"]) == lost
    assert world.uncounted() == {}, "raters were told in vain"
    left = a_repair_that_a_word_overtakes(world, lost)
    repaired = world.reconcile("--repair")
    assert repaired["repaired"] == left and repaired["differences"] == 0
    assert all(one["is_repaired"] for one in repaired["list"])
    assert world.uncounted() == {"acme": (2, 0, 0), "bolt": (2, 0, 0), "crux": (1, 0, 0)}
    world.assert_is_the_models()
    rows = query(world.env, "select count(*) as n from weir.line_items")
    assert world.reconcile("--repair")["repaired"] == 0
    assert query(world.env, "select count(*) as n from weir.line_items") == rows


def a_repair_that_a_word_overtakes(world, lost):
    """It has read a lane, of which a gap is found and released before it can rate: it leaves what it has read. How many windows that were."""
    lock = psycopg2.connect(world.env["WEIR_POSTGRES_URL"])
    lock.cursor().execute("select from weir.customers for update")
    with reconciling(world) as reconcile:
        lock.cursor().execute(
            "with gaps as (insert into weir.lane_gaps (lane, kind, from_offset, to_offset, time_from, time_to, found_at, is_loss)"
            " select lane, 'retention', 1, 2, '2026-01-01', '2026-02-01', now(), true from weir.lanes returning gap)"
            " insert into weir.gap_releases (gap, released_by, reason, lowers) select gap, 'the test', 'the test', true from gaps")
        lock.commit()
        lock.close()
        out, err = reconcile.communicate(timeout=120)
    assert reconcile.returncode == 1, out.decode() + err.decode()
    result = json.loads(out)
    assert result["repaired"] + result["differences"] == lost and result["differences"] > 0
    assert all("a gap of its lane was found and released since it was read" in one["why_not"] for one in result["list"] if not one["is_repaired"]), result["list"]
    return result["differences"]


def test_a_window_that_is_nobodys_holds_back_no_other(world):
    """Its series key cannot be read: it stays where it is, is told, and goes with what damaged it."""
    world.produce(EVENTS[:200])
    world.run("ingest", "--until-end")
    work = world.keys("work")[0]
    windows = work.replace(b":work:", b":windows:") if isinstance(work, bytes) else work.replace(":work:", ":windows:")
    series = world.redis.hkeys(work)[0]
    world.redis.hset(windows, b"\xff\xffnobody", world.redis.hget(windows, series))
    world.redis.hset(work, b"\xff\xffnobody", world.redis.hget(work, series))
    for _ in range(2):
        told = world.run("rater", "--until-done", status=1).stderr
        assert b"1 windows on its list of work have a series key that cannot be read" in told, told
        assert b"the series keys of 1 windows in Redis cannot be read" in told, told
        world.assert_is_the_models()
    world.produce(EVENTS[200:300])  # a worker that takes the lane leaves it there as well
    told = world.run("ingest", "--until-end").stderr
    assert b"1 of its windows in Redis have a series key that cannot be read" in told, told
    world.run("rater", "--until-done", status=1)
    world.assert_is_the_models()
    for options in ((), ("--repair",)):
        found = world.reconcile(*options, status=1)
        assert found["differences"] == 1 and kinds(found) == {"unrated": 1}
        assert "its series key cannot be read" in found["list"][0]["text"]
    world.redis.hdel(windows, b"\xff\xffnobody")
    world.redis.hdel(work, b"\xff\xffnobody")
    world.run("rater", "--until-done")
    assert world.reconcile()["differences"] == 0


def test_table_names_what_it_did(world):
    world.produce(EVENTS[:30])
    world.run("ingest", "--until-end")
    for key in world.keys("work") + world.redis.keys(f"weir:{{{world.topic}:*}}:working"):
        world.redis.delete(key)
    text = world.run("reconcile", status=1).stdout.decode()
    assert text.count("  differs: unrated: lane ") == 20 and "and more, which are only counted" in text
    text = world.run("reconcile", "--repair").stdout.decode()
    assert text.count("  repaired: unrated: lane ") == 20 and re.search(r" repaired=\d\d+ differences=0\n$", text)


TERMINAL_OBEYS = re.compile("[\x00-\x09\x0b-\x1f\x7f-\x9f\u202a-\u202e\u2066-\u2069]")


def test_what_is_told_of_events_is_nothing_that_a_terminal_obeys(world):
    """A customer, an id and a dimension that would clear the screen, turn the line round and forge lines of a proof."""
    evil = "two\x1b[31mRED\nnext\x9b2J\u202e"
    world.produce([event(1, id=evil, subject=evil, data={"n": "4", "model": evil}, time="2026-01-05T10:10:00Z")])
    world.run("ingest", "--until-end")
    for key in world.keys("work") + world.redis.keys(f"weir:{{{world.topic}:*}}:working"):
        world.redis.delete(key)
    told = [world.run("reconcile", status=1).stdout.decode()]
    assert "two?[31mRED?next?2J?" in told[0] and "next" not in [line[:4] for line in told[0].splitlines()]
    world.run("reconcile", "--repair")
    row = items_of(world, "meter = 'tokens'")[0]
    told.append(world.run("explain", row["line_item_id"]).stdout.decode())
    assert "id 'two?[31mRED?next?2J?', value 4: counted\n" in told[1] and "model=two?[31mRED?next?2J?" in told[1]
    assert not any(TERMINAL_OBEYS.search(text) for text in told), told
    exact_text = explain(world, row["line_item_id"])
    assert exact_text["item"]["customer"] == evil and exact_text["lanes"][0]["read"]["list"][0]["id"] == evil


def plain(value):
    """A stored total in the plain form of docs/redis.md, whichever it has."""
    if len(value) > 40:
        return value
    flags, events, amount = value[0], value[1] & 15, value[1] >> 4
    rest = value[2 + events + amount:]
    total = value[2:2 + events].ljust(8, b"\0")
    total += int.from_bytes(value[2 + events:2 + events + amount], "little", signed=True).to_bytes(16, "little", signed=True)
    latest, rest = (rest[:16], rest[16:]) if flags & 2 else (bytes(16), rest)
    return total + latest + rest.ljust(8, b"\0") + bytes([flags & 1])


def change_window(world, change):
    """Alters one stored total, of one of acme's windows of tokens; the value's layout is in docs/redis.md."""
    for key in world.keys("windows"):
        for series, value in world.redis.hgetall(key).items():
            if b"tokens" in series and b"acme" in series:
                world.redis.hset(key, series, change(plain(value)))
                return
    raise AssertionError("no window of acme's tokens")


def number(value, at, size):
    return int.from_bytes(value[at:at + size], "little", signed=size == 16)


def test_a_total_that_grew_is_repaired_and_one_that_shrank_is_left_alone(rated):
    """An older total in Redis never lowers a bill."""
    before = ledger_rows(rated.env)
    change_window(rated, lambda value: (number(value, 0, 8) - 1).to_bytes(8, "little") + bytes(16) + value[24:])
    result = rated.reconcile("--repair", status=1)
    assert kinds(result) == {"older": 1} and result["repaired"] == 0
    assert "never lowers a bill" in result["list"][0]["why_not"] and not result["list"][0]["is_repaired"]
    assert ledger_rows(rated.env) == before
    change_window(rated, lambda value: (number(value, 0, 8) + 3).to_bytes(8, "little")
                  + (number(value, 8, 16) + 5 * 10**12).to_bytes(16, "little", signed=True) + value[24:])
    result = rated.reconcile("--repair")
    assert result["repaired"] == 1 and result["differences"] == 0
    key = ("acme", "acme-2026", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "tokens", "usage")
    assert ledger_rows(rated.env)[key] != before[key]


def test_another_value_of_as_many_events_is_told_and_not_rated(rated):
    before = ledger_rows(rated.env)
    change_window(rated, lambda value: value[:8] + (number(value, 8, 16) + 10**12).to_bytes(16, "little", signed=True)
                  + value[24:])
    result = rated.reconcile("--repair", status=1)
    assert kinds(result) == {"conflicting": 1} and "neither is the newer" in result["list"][0]["why_not"]
    assert ledger_rows(rated.env) == before


def test_a_lost_row_is_found_and_never_charged_twice(rated):
    before = ledger_rows(rated.env)
    rated.sql("delete from weir.rated_windows where ctid = (select ctid from weir.rated_windows where customer = 'acme'"
              " and meter = 'tokens' limit 1)")
    result = rated.reconcile("--repair", status=1)
    assert kinds(result)["unrated"] == 1 and kinds(result)["total"] >= 1 and result["repaired"] == 0
    assert any("charge it twice" in (one["why_not"] or "") for one in result["list"])
    assert ledger_rows(rated.env) == before


def test_a_damaged_customer_does_not_keep_others_from_being_repaired(world):
    world.produce(EVENTS)
    world.run("ingest", "--until-end")
    for key in world.keys("work")[::2]:
        world.redis.delete(key)
    world.run("rater", "--until-done")
    world.sql("update weir.price_totals set events = events + 1 where customer = 'bolt'")
    result = world.reconcile("--repair", status=1)
    assert result["repaired"] > 20 and kinds(result)["unrated"] > 20 and kinds(result)["total"] > 0
    left = [one for one in result["list"] if one["kind"] == "unrated" and not one["is_repaired"]]
    assert left and all("customer 'bolt'" in one["text"] for one in left)
    world.sql("update weir.price_totals set events = events - 1 where customer = 'bolt'")
    assert world.reconcile("--repair")["differences"] == 0
    world.run("rater", "--until-done")
    world.assert_is_the_models()


def test_what_redis_lost_is_told(rated):
    world = rated
    key = world.keys("windows")[len(world.keys("windows")) // 2]
    fields = world.redis.hkeys(key)
    world.redis.hdel(key, fields[0])
    result = world.reconcile("--repair", status=1)
    assert kinds(result) == {"missing": 1} and "has lost 1:" in result["list"][0]["text"]
    world.redis.flushall()
    result = world.reconcile("--repair", status=1)
    lanes = query(world.env, "select count(distinct lane) as n from weir.rated_windows")[0]["n"]
    assert kinds(result) == {"lane": lanes} and lanes > 1 and result["repaired"] == 0
    world.run("ingest", "--until-end")  # everything is still in Kafka
    world.run("rater", "--until-done")
    assert world.reconcile()["differences"] == 0
    world.assert_is_the_models()


def test_a_ledger_that_does_not_add_up_is_told(rated):
    rated.sql("create table public.bent (); update weir.price_totals set amount = amount + 0.000000000001 where customer = 'bolt' and meter = 'calls'")
    rated.sql("update weir.rated_windows set value = value + 1 where ctid = (select ctid from weir.rated_windows where meter = 'peak'"
              " order by value desc limit 1)")
    result = rated.reconcile(status=1)
    told = [one["text"] for one in result["list"] if one["kind"] == "total"]
    assert len(told) == 2 and any("price_amount of calls" in text for text in told)
    assert any("window_quantity of peak" in text and "rated windows" in text for text in told)


def test_a_server_that_reconcile_does_not_reach_is_named(world):
    """Redis has lanes, and what is asked next fails: Kafka, the topic, or Redis itself at the lanes of admitted events."""
    world.produce(EVENTS[:20])
    world.run("ingest", "--until-end")
    done = world.run("reconcile", "--kafka-brokers", "127.0.0.1:1", status=1)
    assert done.stdout == b"" and b"weir reconcile: Kafka at 127.0.0.1:1 does not answer: " in done.stderr
    brokers = world.env["WEIR_KAFKA_BROKERS"]
    world.redis.sadd("weir:lanes", f"{world.topic}-gone:0")
    world.redis.copy(f"weir:{{{world.topic}:0}}:lane", f"weir:{{{world.topic}-gone:0}}:lane")
    done = world.run("reconcile", "--kafka-topic", f"{world.topic}-gone", status=1)
    assert done.stdout == b"" and f"weir reconcile: topic '{world.topic}-gone' does not exist at {brokers}: ".encode() in done.stderr
    done = world.run("reconcile", "--kafka-topic", "mistyped", status=2)  # nothing says that it ever was there
    assert f"weir reconcile: topic 'mistyped' does not exist at {brokers}: ".encode() in done.stderr
    world.redis.sadd("weir:lanes", f"{world.topic}.admitted:0")
    world.redis.set(f"weir:{{{world.topic}.admitted:0}}:lane", "not a hash")
    done = world.run("reconcile", status=1)
    host = world.env["WEIR_REDIS_URL"].removeprefix("redis://").split("/")[0]
    assert done.stdout == b"" and f"weir reconcile: Redis {host}: ".encode() in done.stderr, done.stderr


def test_raters_show_the_last_result(rated):
    rated.sql("create table public.bent (); update weir.price_totals set amount = amount + 1 where customer = 'bolt' and meter = 'calls'")
    rated.reconcile(status=1)
    env = {**os.environ, **rated.env, "WEIR_METRICS_LISTEN": "127.0.0.1:0"}
    rater = subprocess.Popen([BINARY, "rater"], env=env, stderr=subprocess.PIPE)
    try:
        port = None
        while port is None:
            line = rater.stderr.readline().decode()
            assert line, "the rater ended"
            found = re.search(r"metrics on port (\d+)", line)
            port = found and found[1]
        deadline, page = time.monotonic() + 120, ""
        while 'weir_reconcile_last_differences{kind="total"} 1\n' not in page:  # one figure after the other is noted, these last
            assert time.monotonic() < deadline, page
            page = urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60).read().decode()
    finally:
        rater.terminate()
        rater.communicate(timeout=120)
    figures = dict(line.rsplit(" ", 1) for line in page.splitlines() if line.startswith("weir_reconcile"))
    assert figures.pop('weir_reconcile_last_differences{kind="total"}') == "1"
    assert abs(int(figures.pop("weir_reconcile_last_time_seconds")) - time.time()) < 600
    assert figures.pop("weir_reconcile_last_lanes") == "4" and int(figures.pop("weir_reconcile_last_windows")) > 300
    assert set(figures.values()) == {"0"}, figures


@contextlib.contextmanager
def reconciling(world):
    """A repair that has come to where it waits for a lock of PostgreSQL's."""
    reconcile = subprocess.Popen([BINARY, "reconcile", "--repair", "--format", "json"], env={**os.environ, **world.env},
                                 stdout=subprocess.PIPE, stderr=subprocess.PIPE)
    try:
        deadline = time.monotonic() + 120
        while not query(world.env, "select from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"):
            assert time.monotonic() < deadline and reconcile.poll() is None
            time.sleep(0.02)
        yield reconcile
    finally:
        reconcile.kill()
        reconcile.wait()


def test_what_is_rated_while_it_looks_is_no_difference(world):
    """Reconcile has its snapshot of the ledger, and looks at Redis only after everything was rated."""
    world.produce(EVENTS[:300])
    world.rate()
    lock = psycopg2.connect(world.env["WEIR_POSTGRES_URL"])
    lock.cursor().execute("lock table weir.meters in access exclusive mode")  # which only reconcile reads
    with reconciling(world) as reconcile:
        world.produce(EVENTS[300:])
        world.rate()
        lock.rollback()
        lock.close()
        out, err = reconcile.communicate(timeout=120)
    assert reconcile.returncode == 0, out.decode() + err.decode()
    result = json.loads(out)
    assert result["windows"] > 500 and result["differences"] == result["repaired"] == 0
    world.assert_is_the_models()


def test_beside_running_workers_nothing_differs(world):
    """Reconciled with --repair again and again while events come, late ones too: never a difference, and no row twice."""
    env = {**os.environ, **world.env, "WEIR_METRICS_LISTEN": "off", "WEIR_FLUSH_INTERVAL": "20ms", "WEIR_RATER_INTERVAL": "10ms",
           "WEIR_IDLE": "200ms"}
    running = [subprocess.Popen([BINARY, command], env=env, stderr=subprocess.DEVNULL) for command in ("ingest", "rater", "rater")]
    found = collections.Counter()
    try:
        for start in range(0, 600, 60):
            world.produce(EVENTS[start:start + 60])
            for _ in range(2):
                result = world.reconcile("--repair")
                found += collections.Counter(kinds(result))
                found["repaired"] += result["repaired"]
        deadline = time.monotonic() + 120
        while (result := world.reconcile("--repair"))["behind"] or result["waiting"] or not result["windows"]:
            assert time.monotonic() < deadline, result
    finally:
        for process in running:
            process.terminate()
        for process in running:
            process.wait(timeout=120)
    assert +found == {}
    world.rate()  # the worker may have ended before it was idle: at the end of this one its lanes follow the clock, and January is over
    world.assert_is_the_models()


def test_killed_repairs_do_no_harm(world):
    world.produce(EVENTS)
    world.run("ingest", "--until-end")
    for key in world.keys("work") + world.redis.keys(f"weir:{{{world.topic}:*}}:working"):
        world.redis.delete(key)
    for delay in (0.02, 0.05, 0.1, 0.15, 0.2):
        process = subprocess.Popen([BINARY, "reconcile", "--repair"], env={**os.environ, **world.env, "WEIR_RATER_BATCH": "20"},
                                   stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        time.sleep(delay)  # anywhere in it: whenever it dies must be right
        process.kill()
        process.wait()
    assert world.reconcile("--repair")["differences"] == 0
    world.run("rater", "--until-done")
    world.assert_is_the_models()


# ---- explain ------------------------------------------------------------------------------------------


def explain(world, number, *arguments):
    return json.loads(world.run("explain", "--format", "json", *arguments, number).stdout)


def items_of(world, where="true"):
    return query(world.env, f"select line_item_id, customer, contract, item, kind, component, tier, trim_scale(quantity)::text as quantity,"
                            f" trim_scale(amount)::text as amount, revision, window_start from weir.line_items where {where} order by 1")


def test_explained_amounts_follow_from_contract_and_price(world):
    """Every price model, an override, discounts, late events: each row is the difference of two totals, and those are the price's."""
    prices = [{"meter": "a", "model": "graduated", "tiers": [{"up_to": "20", "unit_price": "0.10", "flat_fee": "2"},
                                                             {"up_to": "50", "unit_price": "0.07"},
                                                             {"up_to": None, "unit_price": "0.03", "flat_fee": "1"}]},
              {"meter": "b", "when": {"model": "large"}, "model": "volume", "tiers": [{"up_to": "30", "unit_price": "0.5"},
                                                                                      {"up_to": None, "unit_price": "0.4"}]},
              {"meter": "b", "model": "package", "package_size": "7", "package_price": "3", "free_units": "5"},
              {"meter": "c", "model": "percentage", "rate": "0.029", "fixed_fee": "0.30", "minimum_amount": "9"},
              {"meter": "d", "model": "flat", "amount": "12", "maximum_amount": "11"}]
    document = {
        "meters": [{"key": key, "event_type": "used", "aggregation": "sum", "value": "data.n", "window": "1h", "group_by": ["model"]}
                   for key in "abcd"],
        "price_books": [{"key": "other", "version": 1, "currency": "EUR", "effective_from": "2026-01-01T00:00:00Z", "prices": prices,
                         "fees": [{"key": "seat", "unit_price": "20", "per": "period", "charged": "in_advance", "proration": "second"}]}],
        "contracts": [{"key": "k", "customer": "acme", "price_book": "other", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
                       "billing_period": "month", "timezone": "UTC", "overrides": [{"meter": "a", "multiplier": "0.85"}],
                       "discounts": [{"key": "launch", "type": "percentage", "rate": "0.15", "meters": ["a", "c"]},
                                     {"key": "sorry", "type": "amount", "amount": "1.25", "meters": ["a"]}],
                       "quantities": [{"fee": "seat", "effective_from": "2026-01-01T00:00:00Z", "quantity": "3"},
                                      {"fee": "seat", "effective_from": "2026-01-20T12:00:00Z", "quantity": "1.5"}]}],
        "default_contract": {"price_book": "other", "billing_period": "week", "timezone": "UTC"}}
    (world.folder / "other.json").write_text(json.dumps(document))
    world.run("apply", "--catalog", world.folder / "other.json")
    for start in (0, 60, 120):
        world.produce([event(number, data={"n": str(number % 7), "model": ("large", "small")[number % 2]})
                       for number in range(start, start + 60)])
        world.rate()
    seats = [(row["quantity"], row["amount"], explain(world, row["line_item_id"])["arithmetic"]) for row in items_of(world, "kind = 'fee'")]
    assert [(quantity, amount) for quantity, amount, _told in seats] == [("3", "60"), ("-1.5", "-11.129032258065")]
    assert all(told["is_line_items_amount"] and (told["fee"], told["per"]) == ("20", "unit") for _quantity, _amount, told in seats)
    rows = items_of(world, "kind = 'usage'")
    assert {row["component"] for row in rows} >= {"units", "flat_fee", "package", "free_units", "fixed_fee", "flat", "discount", "minimum",
                                                  "maximum"}
    assert max(row["revision"] for row in rows) > 1
    for row in rows[::max(1, len(rows) // 60)]:
        told = explain(world, row["line_item_id"], "--no-events")
        arithmetic, item = told["arithmetic"], told["item"]
        assert item["amount"] == row["amount"] and item["quantity"] == row["quantity"] and item["customer"] == row["customer"]
        assert arithmetic["is_line_items_amount"] and arithmetic["is_price_of_quantity"], told
        assert arithmetic["difference"] == row["amount"] and arithmetic["rule"]
        assert told["catalog"]["catalog_version"] == 2 and told["price"]["model"] == item["model"]
        assert told["contract"]["multiplier"] == ("0.85" if row["customer"] == "acme" and row["item"] == "a" else None)
        assert row["line_item_id"] in [one["line_item_id"] for one in told["revisions"]]
        assert "running" not in told and "text" not in told["catalog"]
        assert all("read" not in lane and lane["next_offset"] > 0 for lane in told["lanes"])
    world.sql("create table public.bent (); update weir.price_totals set amount = 0")  # not what explain counts from
    assert explain(world, rows[0]["line_item_id"], "--no-events")["arithmetic"]["is_price_of_quantity"]


def test_explained_events_are_those_that_counted(world):
    """Duplicates within the window and from without, a conflict: each is named by offset, and the rest adds up."""
    hour = {"subject": "acme", "data": {"n": "4", "model": "large"}}
    world.produce([event(1, **hour, time="2026-01-05T10:10:00Z"), event(2, **hour, time="2026-01-05T10:20:00Z"),
                   event(3, **hour, time="2026-01-05T09:20:00Z"),
                   event(1, **hour, time="2026-01-05T10:10:00Z"),  # a resend
                   event(3, **hour, time="2026-01-05T10:30:00Z"),  # a resend that carries another time
                   event(2, subject="acme", data={"n": "5", "model": "large"}, time="2026-01-05T10:40:00Z"),  # a conflict
                   event(4, subject="acme", data={"n": "7", "model": "small"}, time="2026-01-05T10:50:00Z")])
    world.rate()
    row = items_of(world, "meter = 'tokens' and dimensions->>'model' = 'large' and window_start = '2026-01-05 10:00+00'")[0]
    told = explain(world, row["line_item_id"])
    (lane,) = told["lanes"]
    read = lane["read"]
    assert (lane["events"], lane["value"]) == (2, "8") and read["is_total"] and read["is_whole"]
    assert {name: read[name] for name in ("found", "counted", "duplicate", "conflict", "quarantined")} == \
        {"found": 5, "counted": 2, "duplicate": 2, "conflict": 0, "quarantined": 1}
    by_offset = {one["offset"]: one for one in read["list"]}
    first = min(by_offset)
    assert [(one["id"], one["outcome"], one.get("of_offset", first) - first, one.get("reason"))
            for _, one in sorted(by_offset.items())] == \
        [("e1", "counted", 0, None), ("e2", "counted", 0, None), ("e1", "duplicate", 0, None), ("e3", "duplicate", 2, None),
         ("e2", "quarantined", 0, "conflict")]
    text = world.run("explain", row["line_item_id"]).stdout.decode()
    assert "customer 'acme' is charged 0.8 USD: usage of 'tokens' model=large, units of tier 1, quantity 8 at 0.1" in text
    assert re.search(r" (\S+) - (\S+) = 0\.8, which is the line item's amount\n", text) and "this is the total that was rated" in text
    assert "id 'e3', value 4: duplicate of the event at offset 2" in text and "quarantined, reason conflict" in text
    world.sql("update weir.rated_windows set value = 9 where meter = 'tokens' and value = 8")
    assert "this is NOT the total" in world.run("explain", row["line_item_id"]).stdout.decode()


def test_retracted_events_are_explained(world):
    """What was taken out, by what, and what came after its retraction; the revision that took it back adds up."""
    hour = {"type": "asked", "subject": "acme", "data": {"n": "4"}}
    first, ahead = event(1, **hour, time="2026-01-05T10:10:00Z"), event(3, **hour, time="2026-01-05T10:30:00Z")
    world.produce([first, event(2, **hour, time="2026-01-05T10:20:00Z")])
    world.rate()
    world.produce([{**first, "retraction": True}, first, {**ahead, "retraction": "true"}, ahead])
    world.rate()
    rows = items_of(world, "meter = 'asks'")
    assert [row["revision"] for row in rows] == [1, 2] and [row["quantity"] for row in rows] == ["2", "-1"]
    (lane,) = explain(world, rows[1]["line_item_id"])["lanes"]
    read = lane["read"]
    assert lane["events"] == 1 and read["is_total"] and read["is_whole"]
    assert {name: read[name] for name in ("found", "counted", "retracted", "retraction", "duplicate")} == \
        {"found": 6, "counted": 1, "retracted": 1, "retraction": 2, "duplicate": 2}
    world.run("reconcile")


def test_every_aggregation_adds_up(rated):
    for row in [row for meter in ("calls", "peak", "mean", "gauge", "floor") for row in items_of(rated, f"meter = '{meter}'")[:3]]:
        lanes = explain(rated, row["line_item_id"])["lanes"]
        assert lanes and all(lane["read"]["is_total"] and lane["read"]["counted"] == lane["events"] > 0 for lane in lanes)


def test_fees_and_true_ups_are_explained(rated):
    fee = items_of(rated, "kind = 'fee' and customer = 'acme'")[0]
    told = explain(rated, fee["line_item_id"])
    assert told["arithmetic"] == {"rule": "the fee, for as many as the period has of it, and the share of a period that is cut",
                                  "fee": "99", "per": "period", "charged": "in_advance", "proration": "none", "is_line_items_amount": True}
    assert told["lanes"] == [] and told["period"]["is_closed"] is not None
    assert "charged in_advance, proration none; this makes the line item's amount" in rated.run("explain", fee["line_item_id"]).stdout.decode()


def test_a_true_up_that_late_usage_changes(world):
    world.produce(EVENTS[:200])
    world.produce([event(900, time="2026-02-05T10:00:00Z")])
    world.rate()
    world.produce(EVENTS[200:400])
    world.rate()
    rows = items_of(world, "kind = 'true_up' and contract = 'acme-2026'")
    assert len(rows) >= 2
    for row in rows:
        told = explain(world, row["line_item_id"])
        assert told["arithmetic"]["is_line_items_amount"] and told["arithmetic"]["minimum_spend"] == "100000", told
    assert "minimum spend 100000, usage charged until then " in world.run("explain", rows[-1]["line_item_id"]).stdout.decode()


def test_explain_says_what_it_does_not_know(rated):
    done = rated.run("explain", "987654321", status=2)
    assert b"there is no line item 987654321" in done.stderr
    for wrong in (["x"], ["-1"], [], ["1", "2"]):
        assert b"one LINE_ITEM_ID is needed" in rated.run("explain", *wrong, status=2).stderr
    row = items_of(rated, "meter = 'calls'")[0]
    rated.sql("set session_replication_role = replica; delete from weir.catalog_versions; create table public.bent ()")
    text = rated.run("explain", row["line_item_id"]).stdout.decode()
    assert "of no catalog that was stored" in text
    env = {"WEIR_REDIS_URL": "redis://127.0.0.1:1"}
    text = weir("explain", "--no-events", row["line_item_id"], env={**rated.env, **env}).stdout.decode()
    assert "next offset not known (" in text


# ---- admit --------------------------------------------------------------------------------------------


@pytest.fixture
def late(rated):
    """Everything is rated, the clock has gone on: what comes now is too late."""
    rated.env["WEIR_LATENESS"] = "1h"
    return rated


# No time twice: of two lanes' events at one time, their offsets say nothing about which came later.
LATE = [event(number, id=f"late-{number}", time=event(number)["time"].replace(":30:", ":31:")) for number in range(40)]


def admit(world, *arguments, status=0):
    done = world.run("admit", "--format", "json", *arguments, status=status)
    return json.loads(done.stdout), dict(re.findall(r"(\w+)=(\d+)", done.stderr.decode().splitlines()[-1] if done.stderr else ""))


def come_late(world, events):
    before = ledger_rows(world.env)
    world.produce(events)
    world.rate()
    assert ledger_rows(world.env) == before, "nothing was late"


def messages(world, topic):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": world.env["WEIR_KAFKA_BROKERS"], "group.id": "test", "enable.partition.eof": True,
                                         "auto.offset.reset": "earliest"})
    try:
        partitions = set(consumer.list_topics(timeout=60).topics[topic].partitions)
        consumer.assign([confluent_kafka.TopicPartition(topic, number, 0) for number in partitions])
        found = []
        while partitions:
            message = consumer.poll(120)
            assert message is not None
            if message.error():
                partitions.discard(message.partition())
            else:
                found.append(message)
        return found
    finally:
        consumer.close()


def test_late_events_are_admitted_and_count_once(late):
    come_late(late, LATE)
    before = ledger_rows(late.env)
    told, figures = admit(late)
    assert len(told) == 40 and all(one["may_be_admitted"] and one["reason"] == "too_late" and one["why_not"] is None for one in told)
    assert {one["id"] for one in told} == {one["id"] for one in LATE} and figures == {}
    assert ledger_rows(late.env) == before and f"{late.topic}.admitted:0" not in late.redis.smembers("weir:lanes")
    _, figures = admit(late, "--yes")
    assert figures == {"selected": "40", "refused": "0", "published": "40", "sent_again": "0", "counted": "40", "duplicate": "0", "quarantined": "0"}
    late.run("rater", "--until-done")
    late.assert_is_the_models()
    assert late.uncounted() == {"acme": (0, 14, 14), "bolt": (0, 13, 13), "crux": (0, 13, 13)}
    rows = query(late.env, "select count(*) as n from weir.line_items")
    told, figures = admit(late, "--yes")
    assert all("it was admitted before: " in one["why_not"] for one in told) and figures["published"] == figures["counted"] == "0"
    late.run("rater", "--until-done")
    assert query(late.env, "select count(*) as n from weir.line_items") == rows
    assert [message.partition() for message in messages(late, late.topic + ".admitted")] == [0] * 40
    result = late.reconcile()
    assert [lane["counted"] for lane in result["lanes"] if lane["lane"] == late.topic + ".admitted:0"] == [40]
    assert result["differences"] == 0 and result["behind"] == 0 and result["waiting"] == 0
    row = items_of(late, "meter = 'tokens'")[-1]
    (ours,) = [lane for lane in explain(late, row["line_item_id"])["lanes"] if lane["lane"] == late.topic + ".admitted:0"]
    assert ours["read"]["is_total"] and ours["read"]["counted"] == ours["events"] > 0
    key = next(key for key in late.keys("windows") if b".admitted:0}" in key)
    field, value = next(iter(late.redis.hgetall(key).items()))
    late.redis.hdel(key, field)
    assert kinds(late.reconcile(status=1)) == {"missing": 1}
    late.redis.hset(key, field, value)
    for key in late.keys("seen"):  # of the events' own lanes: what was admitted is not forgotten with them
        if b".admitted" not in key:
            late.redis.delete(key)
    assert admit(late, "--yes")[1]["counted"] == "0"


def test_a_window_that_is_still_open_takes_what_is_admitted(world):
    """A month that has not ended: its admitted share is rated at once, for nobody would close it later."""
    tomorrow = time.gmtime(time.time() + 86400)  # its month is open for a day at least, whatever the date is
    month, second_day = (time.strftime(f"%Y-%m-{day}T00:00:00Z", tomorrow) for day in ("01", "02"))
    document = {**CATALOG, "meters": [{"key": "calls", "event_type": "used", "aggregation": "count", "window": "1mo"}],
                "price_books": [{"key": "monthly", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
                                 "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "0.01"}]}],
                "contracts": [], "default_contract": {"price_book": "monthly", "billing_period": "month", "timezone": "UTC"}}
    (world.folder / "month.json").write_text(json.dumps(document))
    world.run("apply", "--catalog", world.folder / "month.json")
    world.env.update({"WEIR_LATENESS": "0s", "WEIR_MAX_FUTURE": "72h"})
    world.produce([event(0, time=second_day)])
    world.rate()
    world.produce([event(3, time=month)])
    world.rate()
    assert admit(world, "--yes")[1]["counted"] == "1"
    world.run("rater", "--until-done")
    assert [row["quantity"] for row in items_of(world, "meter = 'calls'")] == ["1"]
    assert world.reconcile()["differences"] == 0


def test_killed_admissions_count_once(late):
    come_late(late, LATE)
    for delay in (0.1, 0.3, 0.5, 0.7, 0.9, 1.2, 1.6):
        process = subprocess.Popen([BINARY, "admit", "--yes"], env={**os.environ, **late.env}, stdout=subprocess.DEVNULL,
                                   stderr=subprocess.DEVNULL)
        time.sleep(delay)  # anywhere in it: whenever it dies must be right
        process.kill()
        process.wait()
    admit(late, "--yes")
    late.run("rater", "--until-done")
    late.assert_is_the_models()
    assert sum(admitted for _duplicate, _refused, admitted in late.uncounted().values()) == 40
    assert late.reconcile()["differences"] == 0


def test_admissions_at_once_count_once(late):
    come_late(late, LATE)
    running = [subprocess.Popen([BINARY, "admit", "--yes"], env={**os.environ, **late.env}, stdout=subprocess.DEVNULL,
                                stderr=subprocess.PIPE) for _ in range(3)]
    for process in running:
        _, err = process.communicate(timeout=180)
        assert process.returncode == 0, err.decode()
    late.run("rater", "--until-done")
    late.assert_is_the_models()


def test_resends_and_copies_are_refused(late):
    """Of what was counted, of what stands twice in quarantine, with other content, and what is yet to be read."""
    copies = [event(1000, id="twice"), event(1000, id="twice"), event(1001, id="other"), event(1001, id="other", data={"n": "9"})]
    come_late(late, [EVENTS[7], *copies])
    late.produce([event(1002, id="ahead", time="2026-01-06T10:00:00Z")])
    late.run("ingest", "--until-end")
    late.produce([event(1002, id="ahead", time=time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime()))])
    told, _ = admit(late)
    why = collections.defaultdict(list)
    for one in told:
        why[one["id"]].append(one["why_not"] or "yes")
    assert [text.split(":")[0] for text in why["e7"]] == ["its id was counted"]
    assert why["twice"][0] == "yes" and why["twice"][1].startswith("the same event stands at partition")
    assert why["other"][0] == "yes" and why["other"][1].endswith("has its id with other content")
    assert [text.split(":")[0] for text in why["ahead"]] == ["its id has come again and will be counted"]
    assert admit(late, "--yes")[1]["counted"] == "2"
    late.run("rater", "--until-done")
    # The event that was ahead counts by its second coming, in a window of today.
    lines = late.sent[:600] + [json.dumps(copies[0]).encode(), json.dumps(copies[2]).encode()]
    january = {key: row for key, row in ledger_rows(late.env).items() if key[2] < "2026-02"}
    late.env["WEIR_POSTGRES_URL"], kept = late.env["WEIR_POSTGRES_URL"], january
    expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency)
                in model_rows(run.run(catalog.Catalog(late.document), lines, False)).items()}
    assert_same("sums of January", kept, {key: row for key, row in expected.items() if exact.parse(row[0]) or exact.parse(row[1])}, late.folder)


def test_admit_says_what_cannot_be_counted(world):
    meters = [*CATALOG["meters"], {"key": "users", "event_type": "seen", "aggregation": "unique", "value": "data.user", "window": "1h"}]
    document = {**CATALOG, "meters": meters, "price_books": [{**CATALOG["price_books"][0], "key": "more"}], "contracts": [],
                "default_contract": {**CATALOG["default_contract"], "price_book": "more"}}
    (world.folder / "more.json").write_text(json.dumps(document))
    world.run("apply", "--catalog", world.folder / "more.json")
    world.produce(EVENTS[:40])
    world.rate()
    world.env["WEIR_LATENESS"] = "1h"
    world.produce([event(50, type="seen", data={"user": "u"}), event(51, type="nothing"), event(52, data={"n": "x"}), event(53),
                   event(54, id=""), event(55), {**event(55), "retraction": True}])
    world.run("ingest", "--until-end")
    assert len(admit(world)[0]) == 6, "the time is looked at before the meters are"
    told, _ = admit(world, "--reason", "any")
    of_event, of_retraction = [one["why_not"] for one in told if one["id"] == "e55"]
    assert of_event.endswith(" is a retraction of it") and of_retraction.startswith("it is a retraction, and would void nothing")
    told = [one for one in told if one["id"] != "e55"]
    why = {one["id"]: one["why_not"] for one in told}
    assert why.pop("e53") is None
    assert why["e50"] == "meter 'users' counts distinct values, and those of two lanes cannot be told apart"
    assert why["e51"] == "it matches no meter of the catalog" and why["e52"].startswith("wrong_type: ")
    assert why[None].startswith("empty_field: ") and len(why) == 4
    assert "no: it matches no meter of the catalog" in world.run("admit").stdout.decode()


def send(world, value, headers=None):
    producer = confluent_kafka.Producer({"bootstrap.servers": world.env["WEIR_KAFKA_BROKERS"], "message.max.bytes": 1048588})
    producer.produce(world.topic, value, b"acme", 0, headers=headers)
    assert producer.flush(60) == 0


def test_admit_says_what_quarantine_had_to_cut(late):
    """Between a record's 1,000,000 bytes and an event's 1 MiB: what is left is no event, and is not called a bad one."""
    whole = json.dumps(event(0, id="large", data={"n": "1", "model": "large", "more": "x" * 1_030_000})).encode()
    send(late, whole)
    late.rate()
    (one,) = admit(late)[0]
    assert not one["may_be_admitted"] and one["reason"] == "too_late" and one["why_not"].startswith("quarantine does not hold the whole event")
    assert admit(late, "--customer", "acme")[0] == [], "whose it is it does not tell"
    assert admit(late, "--yes")[1]["published"] == "0"
    (record,) = messages(late, late.topic + ".quarantine")
    assert dict(record.headers())["weir_cut"] == b"true" and whole.startswith(record.value()) and len(record.value()) > 900_000


def test_admit_keeps_headers_without_a_value(late):
    """In binary mode such an attribute is null, which is as good as not there; an empty one may be an error."""
    one = event(1)
    headers = [(f"ce_{name}", one[name].encode()) for name in ("specversion", "source", "type", "subject", "time")]
    headers = [*headers, ("ce_id", b"bare"), ("ce_retraction", None), ("ce_more", b""), ("trace", None)]
    send(late, json.dumps(one["data"]).encode(), headers)
    late.rate()
    (told,) = admit(late)[0]
    assert told["may_be_admitted"], told["why_not"]
    assert admit(late, "--yes")[1]["counted"] == "1"
    (published,) = messages(late, late.topic + ".admitted")
    assert published.headers()[:len(headers)] == headers


def test_admit_takes_what_a_mended_catalog_can_read(world):
    world.env["WEIR_LATENESS"] = "1h"
    world.produce([event(number, data={"n": "1", "amount": "7"}) for number in range(3)] + [event(9, data={"amount": "7"})])
    world.rate()
    assert admit(world, "--reason", "missing_field")[0][0]["why_not"].startswith("missing_field: ")
    document = json.loads(json.dumps(CATALOG))
    document["meters"] = [meter for meter in document["meters"] if meter["key"] == "calls"]
    document["price_books"][0]["prices"] = [price for price in document["price_books"][0]["prices"] if price["meter"] == "calls"]
    (world.folder / "mended.json").write_text(json.dumps(document))
    world.env["WEIR_CATALOG"] = str(world.folder / "mended.json")
    before = ledger_rows(world.env)[("acme", "acme-2026", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "calls", "usage")]
    assert admit(world, "--reason", "missing_field", "--yes")[1]["counted"] == "1"
    world.run("rater", "--until-done")
    after = ledger_rows(world.env)[("acme", "acme-2026", "2026-01-01T00:00:00Z", "2026-02-01T00:00:00Z", "calls", "usage")]
    assert exact.parse(after[0]) - exact.parse(before[0]) == exact.parse("1")


def test_what_its_lane_still_accepts_is_sent_there_again(world):
    """Admitted, it would count in a lane of its own, and again in its own lane when its producer sends it once more."""
    world.env["WEIR_LATENESS"] = "87600h"
    broken = event(9, data={"amount": "7"})
    gone = event(10, data={"amount": "8"})
    world.produce([event(number, data={"n": "1", "amount": "7"}) for number in range(3)] + [broken, gone, {**gone, "retraction": True}])
    world.rate()
    document = json.loads(json.dumps(CATALOG))
    document["meters"] = [meter for meter in document["meters"] if meter["key"] == "calls"]
    document["price_books"][0]["prices"] = [price for price in document["price_books"][0]["prices"] if price["meter"] == "calls"]
    (world.folder / "mended.json").write_text(json.dumps(document))
    world.env["WEIR_CATALOG"] = str(world.folder / "mended.json")
    told, figures = admit(world, "--reason", "missing_field", "--yes")
    assert {(one["id"], one["is_for_its_lane"]) for one in told} == {("e9", True), ("e10", False)}, "an event and its retraction stay where they are"
    assert figures == {"selected": "3", "refused": "2", "published": "0", "sent_again": "1", "counted": "0", "duplicate": "0", "quarantined": "0"}
    places = [(message.partition(), message.value()) for message in messages(world, world.topic)]
    assert [place for place in places if places.count(place) == 2 and b'"e9"' in place[1]], "in the same partition, to the byte"
    assert messages(world, world.topic + ".admitted") == []
    (one,) = [one for one in admit(world, "--reason", "missing_field", "--id", "test/e9")[0] if not one["may_be_admitted"]]
    assert one["why_not"].startswith("its id has come again and will be counted")
    world.produce([broken])  # and its producer tries again
    world.rate()
    assert sum(exact.parse(row["quantity"]) for row in items_of(world, "meter = 'calls'")) == exact.parse("4")
    assert world.reconcile()["differences"] == 0


def test_what_a_rebuilt_lane_may_have_counted_is_not_admitted(late):
    """Redis is emptied; the rebuilt lanes' clock starts with their events, so they count what was too late before."""
    come_late(late, LATE)
    late.env["WEIR_LATENESS"] = "87600h"
    late.redis.flushall()
    told, _ = admit(late)
    assert len(told) == 40 and all("the window store does not know its lane" in one["why_not"] for one in told)
    late.rate()
    late.assert_is_the_models()  # counted, although in quarantine
    assert all(one["is_for_its_lane"] or "its id was counted" in one["why_not"] for one in admit(late)[0]), "sent again, it would be a duplicate"
    late.env["WEIR_LATENESS"] = "1h"
    late.rate()
    told, _ = admit(late, "--yes")
    assert len(told) == 40 and all("its lane was built anew" in one["why_not"] for one in told)
    late.run("rater", "--until-done")
    late.assert_is_the_models()
    assert all(one["may_be_admitted"] for one in admit(late, "--unproved")[0])


def counts(world):
    """Of the events' own lanes, added up."""
    lanes = [world.redis.hgetall(f"weir:{{{world.topic}:{number}}}:lane") for number in range(4)]
    return {name: sum(int(lane.get(name.encode(), 0)) for lane in lanes) for name in ("counted", "duplicate", "quarantined")}


def wait_for_counts(world, **expected):
    deadline = time.monotonic() + 120
    while not counts(world).items() >= expected.items():
        assert time.monotonic() < deadline, counts(world)
        time.sleep(0.1)


def test_a_lane_built_anew_does_not_count_what_was_admitted_by_a_mended_catalog(world):
    world.env["WEIR_LATENESS"] = "1h"
    world.produce([event(number, data={"n": "1", "amount": "7"}) for number in range(3)] + [event(9, data={"amount": "7"})])
    world.rate()
    document = json.loads(json.dumps(CATALOG))
    document["meters"] = [meter for meter in document["meters"] if meter["key"] == "calls"]
    document["price_books"][0]["prices"] = [price for price in document["price_books"][0]["prices"] if price["meter"] == "calls"]
    (world.folder / "mended.json").write_text(json.dumps(document))
    world.env["WEIR_CATALOG"] = str(world.folder / "mended.json")
    assert admit(world, "--reason", "missing_field", "--yes")[1]["counted"] == "1"
    world.run("rater", "--until-done")
    assert b"admitted events read" not in world.run("ingest", "--until-end").stderr, "what is too late for every lane need not be read"
    calls = [row["quantity"] for row in items_of(world, "meter = 'calls'")]
    world.redis.flushall()
    world.env["WEIR_LATENESS"] = "87600h"
    for _ in range(2):  # the second time it is the stored cut that would still accept it
        assert b"1 admitted events read" in world.run("ingest", "--until-end").stderr
    assert counts(world) == {"counted": 3, "duplicate": 1, "quarantined": 0}
    admit(world, "--yes")
    world.run("rater", "--until-done")
    assert [row["quantity"] for row in items_of(world, "meter = 'calls'")] == calls and len(calls) == 4
    assert "calls" not in json.dumps(world.reconcile(status=1)["list"]), "only the other meters' windows are gone with them"


def test_a_lane_built_anew_does_not_count_what_was_admitted_since_the_clock_had_made_it_late(late):
    come_late(late, LATE)
    assert admit(late, "--yes")[1]["counted"] == "40"
    late.run("rater", "--until-done")
    late.env["WEIR_LATENESS"] = "87600h"
    late.redis.flushall()
    late.run("ingest", "--until-end")
    assert counts(late) == {"counted": 600, "duplicate": 40, "quarantined": 0}
    # A resend, the identity with other content, and a retraction, which would void nothing here.
    late.produce([LATE[0], {**LATE[1], "data": {"n": "5", "model": "x"}}, {**LATE[2], "retraction": True}])
    late.run("ingest", "--until-end")
    assert counts(late) == {"counted": 600, "duplicate": 41, "quarantined": 2}
    reasons = [dict(message.headers())["weir_reason"] for message in messages(late, late.topic + ".quarantine")]
    assert collections.Counter(reasons) == {b"too_late": 40, b"conflict": 1, b"not_retractable": 1}
    admit(late, "--yes")
    late.run("rater", "--until-done")
    late.sent = late.sent[:-3]
    late.assert_is_the_models()
    assert late.reconcile()["differences"] == 0


def test_a_lane_that_falls_back_does_not_count_what_was_admitted(late):
    """An older cut of the lanes, from before the events came; what they have not passed is not admitted."""
    kept = {key: late.redis.dump(key) for key in late.redis.keys() if key != b"weir:lanes"}

    def fall_back():
        for key in late.redis.keys():
            if b".admitted" not in key and key != b"weir:lanes":
                late.redis.delete(key)
        for key, value in kept.items():
            late.redis.restore(key, 0, value, replace=True)

    come_late(late, LATE)
    fall_back()
    told, _ = admit(late, "--unproved")
    assert len(told) == 40 and all(one["is_for_its_lane"] or one["why_not"].startswith("no cut of its lane passes it yet") for one in told)
    late.run("ingest", "--until-end")
    assert admit(late, "--yes")[1]["counted"] == "40"
    late.run("rater", "--until-done")
    fall_back()
    late.env["WEIR_LATENESS"] = "87600h"
    assert b"40 admitted events read" in late.run("ingest", "--until-end").stderr
    late.run("rater", "--until-done")
    late.assert_is_the_models()
    assert counts(late) == {"counted": 600, "duplicate": 40, "quarantined": 0}
    assert late.reconcile()["differences"] == 0


def test_an_owner_who_cannot_know_what_was_admitted_is_made_to(world):
    """It took its lane after admit had looked at it, and before admit published."""
    world.produce([*EVENTS[:40], event(41, time="never")])
    env = {**os.environ, **world.env, "WEIR_METRICS_LISTEN": "off"}  # the usual port may be another test's
    worker = subprocess.Popen([BINARY, "ingest"], env=env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
    try:
        wait_for_counts(world, counted=40, quarantined=1)  # its topic is there then: admit asks for it
        one = event(100)
        (place,) = {message.partition() for message in messages(world, world.topic) if message.key() == one["subject"].encode()}
        epochs = {name: world.redis.hget(f"weir:{{{world.topic}:{name}}}:lane", "epoch") for name in range(4)}
        assert admit(world, "--yes")[1]["published"] == "0", "but the topic is there"
        producer = confluent_kafka.Producer({"bootstrap.servers": world.env["WEIR_KAFKA_BROKERS"]})
        for number, epoch in ((place, b"5"), ((place + 1) % 4, epochs[(place + 1) % 4])):
            producer.produce(world.topic + ".admitted", json.dumps({**one, "id": f"admitted-{number}"}).encode(), key=b"acme",
                             headers=[("weir_lane", f"{world.topic}:{number}".encode()), ("weir_epoch", epoch)])
        producer.flush(30)
        assert admit(world, "--yes")[1]["counted"] == "2"
        world.produce([{**one, "id": f"admitted-{place}"}])
        wait_for_counts(world, counted=40, duplicate=1)
        after = {name: world.redis.hget(f"weir:{{{world.topic}:{name}}}:lane", "epoch") for name in range(4)}
        assert {name for name in range(4) if after[name] != epochs[name]} == {place}
    finally:
        stopping.terminate(worker)
        assert worker.wait(timeout=200) == 0


def test_admit_selects(late):
    come_late(late, LATE)
    everything, _ = admit(late)
    some = everything[3]
    lane = f"{late.topic}:{some['partition']}"
    assert {one["customer"] for one in admit(late, "--customer", "bolt")[0]} == {"bolt"}
    assert admit(late, "--id", f"test/{some['id']}")[0] == [some]
    assert admit(late, "--lane", lane)[0] == [one for one in everything if one["partition"] == some["partition"]]
    assert admit(late, "--lane", lane, "--offset", str(some["offset"]))[0] == [some]
    low, high = some["offset"], some["offset"] + 4
    assert admit(late, "--lane", lane, "--offset", f"{low}..{high}")[0] == \
        [one for one in everything if one["partition"] == some["partition"] and low <= one["offset"] <= high]
    assert admit(late, "--reason", "conflict")[0] == []
    for wrong in ("x", "5..", "9..3", "-1", "1..2x"):
        assert b"--offset: " in late.run("admit", f"--offset={wrong}", status=2).stderr
    assert admit(late, "--id", f"test/{some['id']}", "--yes")[1]["counted"] == "1"
    table = late.run("admit", "--customer", some["customer"]).stdout.decode()
    assert table.count("it was admitted before") == 1 and f"test/{some['id']}" in table


def test_admitted_events_are_the_same_to_the_byte(late):
    producer = confluent_kafka.Producer({"bootstrap.servers": late.env["WEIR_KAFKA_BROKERS"]})
    headers = [("ce_specversion", b"1.0"), ("ce_id", b"binary"), ("ce_source", b"test"), ("ce_type", b"used"), ("ce_subject", b"acme"),
               ("ce_time", b"2026-01-05T03:00:00Z"), ("trace", b"\x00\xff")]
    producer.produce(late.topic, b' {"n": 5e0 , "model": "large"}', key=b"acme", headers=headers)
    producer.flush(30)
    late.run("ingest", "--until-end")
    assert admit(late, "--yes")[1]["counted"] == "1"
    (message,) = messages(late, late.topic + ".admitted")
    *own, (name, lane), (other, epoch) = message.headers()
    assert (message.key(), message.value(), own) == (b"acme", b' {"n": 5e0 , "model": "large"}', headers)
    assert (name, other) == ("weir_lane", "weir_epoch") and lane.decode().startswith(late.topic + ":")
    assert late.redis.hget(f"weir:{{{lane.decode()}}}:lane", "epoch") == epoch


def test_nobody_else_ingests_admitted_events(late):
    late.env["WEIR_KAFKA_TOPIC"] += ".admitted"
    assert b"weir admit reads the topics of admitted events" in late.run("ingest", "--until-end", status=2).stderr
