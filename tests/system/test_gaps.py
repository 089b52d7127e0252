"""Usage that can not be rebuilt: Redis emptied, Kafka's retention passed, a topic made anew, partitions added; against real
servers, with every expected sum from the independent model."""
import json
import os
import pathlib
import signal
import socket
import struct
import subprocess
import time
import types

import confluent_kafka
import confluent_kafka.admin
import psycopg2
import pytest
import redis
from harness import BINARY, assert_same, model_rows, run_model, weir
from ports import free_port
from test_random_pipeline import ledger_rows, query

WAIT = 90  # seconds, for a machine that others use as well

CATALOG = {
    "meters": [
        {"key": "requests", "event_type": "call", "aggregation": "count", "window": "1h"},
        {"key": "tokens", "event_type": "call", "aggregation": "sum", "value": "data.tokens", "window": "1h", "group_by": ["model"]},
        {"key": "peak", "event_type": "call", "aggregation": "max", "value": "data.tokens", "rollup": "sum", "window": "1d"}],
    "price_books": [
        {"key": "standard", "version": 1, "currency": "USD", "effective_from": "2026-01-01T00:00:00Z",
         "prices": [
             {"meter": "requests", "model": "per_unit", "unit_price": "0.01"},
             {"meter": "peak", "model": "per_unit", "unit_price": "0.001"},
             {"meter": "tokens", "model": "graduated", "tiers": [{"up_to": "500", "unit_price": "0.1"},
                                                                 {"up_to": None, "unit_price": "0.05", "flat_fee": "3"}]}],
         "fees": [{"key": "platform", "amount": "9.00", "per": "period", "charged": "in_arrears"}]}],
    "contracts": [
        {"key": "acme-2026", "customer": "acme", "price_book": "standard", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
         "billing_period": "month", "timezone": "UTC", "commitments": [{"key": "floor", "type": "minimum_spend", "amount": "400.00", "per": "period"}]}],
    "default_contract": {"price_book": "standard", "billing_period": "month", "timezone": "UTC"}}


def event(number, customer="acme", day=5, hour=10):
    return json.dumps({"specversion": "1.0", "id": f"e{number}", "source": "test", "type": "call", "subject": customer,
                       "time": f"2026-01-{day:02}T{hour:02}:{number % 60:02}:00Z",
                       "data": {"tokens": 1 + number % 17, "model": "large" if number % 3 else "small"}})


class Room:
    """A topic of one partition, a database, an empty Redis, and what is done with them."""

    def __init__(self, servers, name, folder, partitions=1):
        self.folder, self.topic = folder, name
        (folder / "catalog.json").write_text(json.dumps(CATALOG))
        self.env = {**servers.room(name, partitions), "WEIR_CATALOG": str(folder / "catalog.json"), "WEIR_LATENESS": "87600h",
                    "WEIR_METRICS_LISTEN": "127.0.0.1:0"}
        self.redis = redis.Redis.from_url(self.env["WEIR_REDIS_URL"])
        self.weir("migrate")
        self.weir("apply", "--catalog", folder / "catalog.json")

    def weir(self, *arguments, **options):
        return weir(*arguments, env=self.env, **options)

    def produce(self, lines):
        path = self.folder / "events.ndjson"
        path.write_text("".join(line + "\n" for line in lines))
        self.weir("produce", path)

    def ingest(self):
        return self.weir("ingest", "--until-end").stderr.decode()

    def rate(self):
        return self.weir("rater", "--until-done").stderr.decode()

    def admin(self):
        return confluent_kafka.admin.AdminClient({"bootstrap.servers": self.env["WEIR_KAFKA_BROKERS"]})

    def delete_before(self, offset, partition=0):
        """Kafka's own DeleteRecords, version 0: this confluent_kafka does not have it."""
        name = self.topic.encode()
        body = struct.pack(">hhihih", 21, 0, 7, -1, 1, len(name)) + name + struct.pack(">iiqi", 1, partition, offset, 10000)
        host, port = self.env["WEIR_KAFKA_BROKERS"].rsplit(":", 1)
        with socket.create_connection((host, int(port)), timeout=30) as connection:
            connection.sendall(struct.pack(">i", len(body)) + body)
            stream = connection.makefile("rb")
            answer = stream.read(struct.unpack(">i", stream.read(4))[0])
        low, error = struct.unpack(">qh", answer[-10:])
        assert (low, error) == (offset, 0)

    def make_anew(self, partitions=1):
        admin = self.admin()
        admin.delete_topics([self.topic])[self.topic].result(30)
        deadline = time.monotonic() + WAIT
        while True:
            try:
                admin.create_topics([confluent_kafka.admin.NewTopic(self.topic, partitions, 1)])[self.topic].result(30)
                return
            except confluent_kafka.KafkaException:  # the old one is still there
                assert time.monotonic() < deadline

    def assert_ledger(self, lines, context):
        outcome = run_model(types.SimpleNamespace(document=CATALOG, lines=[line.encode() for line in lines]))
        assert not outcome.bad
        expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}
        assert_same("sums of the ledger", ledger_rows(self.env), expected, context)

    def items(self):
        return query(self.env, "select count(*) as n from weir.line_items")[0]["n"]

    def gaps(self):
        return [(row["kind"], row["from_offset"], row["to_offset"]) for row in
                query(self.env, "select kind, from_offset, to_offset from weir.open_gaps order by gap")]

    def held(self):
        return query(self.env, "select customer, meter, window_start, events, rated_events from weir.held_usage order by 1, 2, 3")

    def release(self, *arguments, check=True):
        return self.weir("release", "--lane", f"{self.topic}:0", *arguments, check=check)


def test_an_emptied_redis_is_rebuilt_and_the_ledger_does_not_change(servers, tmp_path):
    room = Room(servers, "gaps-emptied", tmp_path)
    lines = [event(i, "acme" if i % 2 else "globex", day=5 + i // 50) for i in range(200)]
    room.produce(lines + lines[:30])
    room.ingest()
    room.rate()
    room.assert_ledger(lines, "before")
    items = room.items()
    room.redis.flushall()
    room.rate()  # a rater that comes before the worker: no lane is there, and no period may end for that
    room.ingest()
    said = room.rate()
    room.assert_ledger(lines, "rebuilt")
    assert room.items() == items
    assert room.gaps() == [] and room.held() == []
    assert "held=0" in said
    more = [event(1000 + i) for i in range(20)]
    room.produce(more)
    room.ingest()
    room.rate()
    room.assert_ledger(lines + more, "and it goes on")


def rebuilt_short(servers, tmp_path, name, late):
    """100 events of one window were rated; Redis is emptied and Kafka has lost 40 of them; then come `late` more."""
    room = Room(servers, name, tmp_path)
    whole = [event(1000 + i, "globex", day=20) for i in range(30)]
    first = [event(i) for i in range(100)]
    room.produce(first + whole)
    room.ingest()
    room.rate()
    room.assert_ledger(first + whole, "before")
    items = room.items()
    room.redis.flushall()
    room.delete_before(40)
    more = [event(2000 + i) for i in range(late)]
    room.produce(more)
    said = room.ingest()
    assert "gap (nothing_stored), offsets 0 to 40" in said
    said = room.rate()
    assert room.gaps() == [("nothing_stored", 0, 40)]
    assert f"lane {room.topic}:0 (nothing_stored)" in said
    room.assert_ledger(first + whole, "held")
    assert room.items() == items
    held = room.held()
    assert {row["customer"] for row in held} == {"acme"}, "what was rebuilt whole is not held"
    concerned = query(room.env, "select customer, is_held from weir.gap_windows where meter = 'requests' order by 1")
    assert concerned == [{"customer": "acme", "is_held": True}, {"customer": "globex", "is_held": False}]
    assert [(row["events"], row["rated_events"]) for row in held if row["meter"] == "requests"] == [(60 + late, 100)]
    return room, first, whole, more


def test_more_events_than_before_are_not_the_truth_while_some_are_missing(servers, tmp_path):
    room, first, whole, more = rebuilt_short(servers, tmp_path, "gaps-trap", 41)
    repaired = room.weir("reconcile", "--repair", check=False)
    assert repaired.returncode == 1 and b"held until `weir release`" in repaired.stdout, repaired.stdout + repaired.stderr
    room.assert_ledger(first + whole, "a repair does not pass a hold by")
    listed = room.weir("release").stdout.decode()
    assert f"{room.topic}:0" in listed and "nothing_stored" in listed and "open=1" in listed
    dry = room.release("--all", "--dry-run").stdout.decode()
    assert "dry_run gaps=1 " in dry and "lowered=0" in dry
    assert room.gaps(), "a dry run changes nothing"
    number = query(room.env, "select gap from weir.open_gaps")[0]["gap"]
    room.release("--gap", number, "--reason", "counted by hand")
    assert room.gaps() == []
    word = query(room.env, "select reason, released_by, lowers from weir.gap_releases")[0]
    assert word["reason"] == "counted by hand" and "@" in word["released_by"] and not word["lowers"]
    room.rate()
    assert room.held() == []
    rated = query(room.env, "select events from weir.rated_windows where meter = 'requests' and customer = 'acme'")
    assert rated == [{"events": 101}]
    room.redis.flushall()  # the gap that comes again is another one, and holds again
    room.delete_before(90)
    room.ingest()
    room.rate()
    assert room.gaps() == [("nothing_stored", 0, 90)]


def test_what_was_rated_is_kept_unless_lowering_is_allowed(servers, tmp_path):
    room, first, whole, more = rebuilt_short(servers, tmp_path, "gaps-kept", 10)
    room.release("--all", "--reason", "the lost ones were rated")
    room.rate()
    assert room.held() == []
    room.assert_ledger(first + whole, "kept")
    assert room.release("--all", "--reason", "again", check=False).returncode == 2


def test_lowering_rates_what_was_rebuilt(servers, tmp_path):
    room, first, whole, more = rebuilt_short(servers, tmp_path, "gaps-lower", 10)
    room.release("--all", "--lower", "--reason", "those were a test")
    room.rate()
    assert room.held() == []
    room.assert_ledger(first[40:] + whole + more, "lowered")
    room.produce([event(3000)])
    room.ingest()
    room.rate()
    room.assert_ledger(first[40:] + whole + more + [event(3000)], "the word was for once")


def test_retention_that_passed_the_stored_offset(servers, tmp_path):
    room = Room(servers, "gaps-retention", tmp_path)
    first, lost, last = ([event(i) for i in part] for part in (range(50), range(50, 80), range(80, 100)))
    room.produce(first)
    room.ingest()
    room.produce(lost + last)
    room.delete_before(80)
    said = room.ingest()
    assert f"lane {room.topic}:0: gap (retention), offsets 50 to 80" in said and " error " in said
    said = room.rate()
    assert room.gaps() == [("retention", 50, 80)]
    assert "windows are held" in said
    assert ledger_rows(room.env) == {}, "the period that the gap concerns is neither rated nor settled"
    assert {row["rated_events"] for row in room.held()} == {None}
    room.release("--all", "--reason", "nobody has them any more")
    room.rate()
    room.assert_ledger(first + last, "released: with its fee and the true-up to the minimum spend")


def test_a_topic_made_anew_goes_on_with_the_ids(servers, tmp_path):
    room = Room(servers, "gaps-anew", tmp_path)
    first, more = [event(i) for i in range(60)], [event(100 + i) for i in range(80)]
    room.produce(first)
    room.ingest()
    room.rate()
    room.make_anew()
    room.produce(first[40:] + more)  # the producers send some of it again, beyond where the lane stood
    said = room.ingest()
    assert f"lane {room.topic}:0: gap (recreated), offsets 60 to ?" in said
    room.rate()
    assert room.gaps() == [("recreated", 60, -1)]
    room.assert_ledger(first, "held")
    room.release("--all", "--reason", "moved to a new cluster")
    room.rate()
    room.assert_ledger(first + more, "each counted once")


def test_a_first_start_on_an_old_topic_is_no_loss(servers, tmp_path):
    room = Room(servers, "gaps-first", tmp_path)
    lines = [event(i) for i in range(100)]
    room.produce(lines)
    room.delete_before(40)
    said = room.ingest()
    assert "gap (nothing_stored), offsets 0 to 40" in said and " warn " in said
    room.rate()
    assert room.gaps() == [] and room.held() == []
    room.assert_ledger(lines[40:], "from what there was")
    assert query(room.env, "select is_loss from weir.lane_gaps") == [{"is_loss": False}]
    room.rate()
    assert room.gaps() == []


def test_a_compacted_topic_is_warned_of(servers, tmp_path):
    room = Room(servers, "gaps-compacted", tmp_path)
    admin, topic = room.admin(), confluent_kafka.admin.ConfigResource("topic", room.topic, {"cleanup.policy": "compact"})
    admin.alter_configs([topic])[topic].result(30)
    deadline = time.monotonic() + WAIT
    said = ""
    while "cleanup.policy=compact" not in said:
        assert time.monotonic() < deadline, said
        room.produce([event(1)])
        said = room.ingest()


# ---- beside running daemons ---------------------------------------------------------------------------


class Daemons:
    """A worker and a rater that run; what they say goes to files."""

    def __init__(self, room, *configuration):
        self.room, self.running = room, []
        for command in ("ingest", "rater"):
            with open(room.folder / f"{command}.log", "wb") as log:
                self.running.append(subprocess.Popen([BINARY, command, *map(str, configuration)], env={**os.environ, **room.env}, stderr=log))

    def said(self, command):
        return (self.room.folder / f"{command}.log").read_text(errors="replace")

    def __enter__(self):
        return self

    def __exit__(self, *_):
        for process in self.running:
            process.send_signal(signal.SIGTERM)
        for process in self.running:
            try:
                process.wait(WAIT)
            except subprocess.TimeoutExpired:
                process.kill()
                process.wait()

    def until(self, condition, what):
        deadline = time.monotonic() + WAIT
        while not condition():
            assert time.monotonic() < deadline, f"waited in vain: {what}\n{self.said('ingest')[-2000:]}\n{self.said('rater')[-2000:]}"
            assert all(process.poll() is None for process in self.running), self.said("ingest")[-2000:] + self.said("rater")[-2000:]
            time.sleep(0.2)  # between polls

    def until_events(self, events):
        """The events of all rated windows of one meter."""
        self.until(lambda: (query(self.room.env, "select coalesce(sum(events), 0)::int as n from weir.rated_windows where meter = 'requests'")
                            [0]["n"]) >= events, f"{events} events are not rated")


def test_an_emptied_redis_is_rebuilt_by_what_runs(servers, tmp_path):
    room = Room(servers, "gaps-running", tmp_path)
    room.env["WEIR_IDLE"] = "500ms"
    lines = [event(i, f"c{i % 7}", day=5 + i % 20) for i in range(600)]
    with Daemons(room) as daemons:
        for part in range(6):
            room.produce(lines[part * 100:part * 100 + 100])
            if part % 2:
                room.redis.flushall()
        daemons.until_events(600)
        room.redis.flushall()
        room.produce([event(10000, "c1", day=7)])
        daemons.until_events(601)
        daemons.until(lambda: "went back from offset" in daemons.said("rater"), "that it went back is not said")
    room.ingest()  # at its end the lane follows the clock: so January is over, whether or not the worker above had been idle
    room.rate()
    room.assert_ledger(lines + [event(10000, "c1", day=7)], "after four times")
    assert room.gaps() == [] and room.held() == []


class PrivateRedis:
    """A redis-server that keeps nothing when it stops."""

    def __init__(self, folder):
        self.port = free_port()
        self.folder = folder
        self.url = f"redis://127.0.0.1:{self.port}"
        self.start()

    def start(self):
        self.process = subprocess.Popen(["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--save", "", "--appendonly", "no",
                                         "--dir", self.folder, "--logfile", "redis.log"])
        deadline = time.monotonic() + WAIT
        while True:
            try:
                redis.Redis.from_url(self.url).ping()
                return
            except redis.ConnectionError:
                assert time.monotonic() < deadline

    def stop(self):
        self.process.kill()
        self.process.wait()


def test_a_redis_that_kept_nothing_over_its_restart(servers, tmp_path):
    room = Room(servers, "gaps-restart", tmp_path)
    room.env["WEIR_IDLE"] = "500ms"
    private = PrivateRedis(pathlib.Path(tmp_path))
    room.env["WEIR_REDIS_URL"] = private.url
    lines = [event(i, f"c{i % 7}", day=5 + i % 20) for i in range(300)]
    try:
        with Daemons(room) as daemons:
            room.produce(lines[:200])
            daemons.until_events(200)
            private.stop()
            room.produce(lines[200:])
            private.start()
            daemons.until_events(300)
        room.rate()
        room.assert_ledger(lines, "after the restart")
        assert room.gaps() == [] and room.held() == []
    finally:
        private.stop()


def test_partitions_added_while_all_runs(servers, tmp_path):
    room = Room(servers, "gaps-partitions", tmp_path)
    room.env["WEIR_IDLE"] = "500ms"
    config = tmp_path / "weir.json"
    config.write_text(json.dumps({"kafka": {"properties": {"topic.metadata.refresh.interval.ms": "1000"}}}))
    lines = [event(i, f"c{i}", day=5 + i % 20) for i in range(120)]
    with Daemons(room, "--config", config) as daemons:
        room.produce(lines[:40])
        daemons.until_events(40)
        admin = room.admin()
        admin.create_partitions([confluent_kafka.admin.NewPartitions(room.topic, 4)])[room.topic].result(30)
        room.produce(lines[40:])
        daemons.until_events(120)
    room.rate()
    room.assert_ledger(lines, "over four partitions")
    assert query(room.env, "select count(*)::int as n from weir.lanes") == [{"n": 4}]
    assert room.gaps() == []
