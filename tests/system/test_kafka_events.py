"""Events through the real Kafka, Redis and PostgreSQL: CloudEvents' binary mode, every kind of bad event, and what is too
late by the settings as they come."""
import datetime
import json

import confluent_kafka
import psycopg2
import pytest
import test_bad_events
from harness import weir
from ledger import quarantine_records, quarantined

CATALOG = {
    "meters": [{"key": "n", "event_type": "use", "aggregation": "sum", "value": "data.n", "window": "1m", "group_by": ["model"]},
               {"key": "calls", "event_type": "use", "aggregation": "count", "window": "1m"}],
    "price_books": [{"key": "b", "version": 1, "currency": "USD", "effective_from": "1970-01-01T00:00:00Z", "prices": [
        {"meter": "n", "model": "per_unit", "unit_price": "1"}, {"meter": "calls", "model": "per_unit", "unit_price": "1"}]}],
    "default_contract": {"price_book": "b", "billing_period": "month", "timezone": "UTC"}}


class Topic:
    """A topic of one partition, so that the offset is the message's number."""

    def __init__(self, servers, name, folder, document):
        (folder / "catalog.json").write_text(json.dumps(document))
        self.env = {**servers.room(name, 1), "WEIR_CATALOG": str(folder / "catalog.json"), "WEIR_METRICS_LISTEN": "off"}
        self.producer = confluent_kafka.Producer({"bootstrap.servers": self.env["WEIR_KAFKA_BROKERS"], "message.max.bytes": 8000000})
        self.sent = []
        weir("migrate", env=self.env)

    def send(self, value, headers=None):
        self.producer.produce(self.env["WEIR_KAFKA_TOPIC"], value, headers=headers)
        self.producer.poll(0)
        self.sent.append(value)

    def rate(self, **settings):
        """Counts of ingest, after all was rated."""
        assert self.producer.flush(60) == 0
        env = {**self.env, **settings}
        last = weir("ingest", "--until-end", env=env).stderr.decode().splitlines()[-1]
        weir("rater", "--until-done", env=env)
        pairs = dict(pair.split("=") for pair in last.removeprefix("weir ingest: ").split())
        return {name: int(pairs[name]) for name in ("read", "counted", "duplicate", "unmatched", "quarantined")}

    def usage(self):
        connection = psycopg2.connect(self.env["WEIR_POSTGRES_URL"])
        try:
            with connection.cursor() as cursor:
                cursor.execute("select customer, item, sum(quantity)::float from weir.line_items where kind = 'usage' group by 1, 2")
                return {row[:2]: row[2] for row in cursor.fetchall()}
        finally:
            connection.close()

    def quarantined(self):
        """{number of the message: (reason, bytes)}"""
        return {int(offset): found for (_partition, offset), found in quarantined(self.env).items()}

    def kept_headers(self):
        """{number of the message: the headers of its record in quarantine, weir's own last}"""
        headers = [message.headers() for message in quarantine_records(self.env)]
        return {int(dict(each)["weir_offset"]): each for each in headers}


def attributes(number, **changes):
    members = {"specversion": "1.0", "id": f"e{number}", "source": "test", "type": "use", "subject": "acme",
               "time": f"2026-01-05T10:{number % 60:02}:00Z", **changes}
    return {name: value for name, value in members.items() if value is not None}


def binary(number, data=None, **changes):
    """(value, headers): the data in the value, all else in headers."""
    headers = [("content-type", b"application/json"), *((f"ce_{name}", text.encode()) for name, text in attributes(number, **changes).items())]
    return json.dumps({"n": number, "model": "ab"[number % 2]}).encode() if data is None else data, headers


def structured(number):
    return json.dumps({**attributes(number), "data": {"n": number, "model": "ab"[number % 2]}}).encode()


def test_binary_mode(servers, tmp_path):
    """Both modes side by side; a resend in the other mode is the same event if its data has the same bytes."""
    topic = Topic(servers, "events-binary", tmp_path, CATALOG)
    for number in range(50):
        topic.send(*binary(number))
    for number in range(50, 100):
        topic.send(structured(number))
    topic.send(*binary(7))
    topic.send(structured(8))
    topic.send(*binary(60, time="2026-01-05T11:59:00+01:00"))
    bad = {}
    for reason, (value, headers) in {
            "missing_field": binary(200, subject=None), "empty_field": binary(201, id=""), "bad_specversion": binary(202, specversion="2.0"),
            "bad_time": binary(203, time="yesterday"), "malformed_json": binary(204, data=b'{"n":1'),
            "wrong_type": binary(205, data=b'{"n":"many"}'), "conflict": binary(9, data=b'{"n":10,"model":"a"}')}.items():
        bad[len(topic.sent)] = (reason, value)
        topic.send(value, headers)
    counted = topic.rate(WEIR_LATENESS="87600h")
    assert counted == {"read": 110, "counted": 100, "duplicate": 3, "unmatched": 0, "quarantined": 7}
    assert topic.usage() == {("acme", "n"): sum(range(100)), ("acme", "calls"): 100}
    assert topic.quarantined() == bad


def test_headers_that_are_larger_than_the_value(servers, tmp_path):
    """Whatever their size beside the value, each event has all its headers, and so has what quarantine keeps of it."""
    topic = Topic(servers, "events-headers", tmp_path, CATALOG)
    sizes = [*range(60, 9000, 67), 20_000, 35_000, 60_000]
    bad = {}
    for number, size in enumerate(sizes):
        extra = [("authorization", b"a" * size), ("trace", None), ("last", b"z")]
        value, headers = binary(number)
        topic.send(value, headers + extra)
        topic.send(structured(1000 + number), extra)
        bad[len(topic.sent)] = [*extra, *headers]
        topic.send(b"{}", [*extra, *headers])  # no data.n
    counted = topic.rate(WEIR_LATENESS="87600h")
    assert counted == {"read": 3 * len(sizes), "counted": 2 * len(sizes), "duplicate": 0, "unmatched": 0, "quarantined": len(sizes)}
    assert topic.usage() == {("acme", "n"): 2 * sum(range(len(sizes))) + 1000 * len(sizes), ("acme", "calls"): 2 * len(sizes)}
    assert topic.quarantined() == {number: ("missing_field", b"{}") for number in bad}
    assert {number: headers[:len(bad[number])] for number, headers in topic.kept_headers().items()} == bad


def test_every_kind_of_bad_event(servers, tmp_path):
    """Those of test_bad_events.py, each between two good ones."""
    topic = Topic(servers, "events-bad", tmp_path, test_bad_events.CATALOG)
    expected = {}
    topic.send(test_bad_events.fresh(0))
    for number, case in enumerate(test_bad_events.BAD, 1):
        line, reason, _field = case.values
        expected[len(topic.sent)] = (reason, line)
        topic.send(line)
        topic.send(test_bad_events.fresh(number))
    counted = topic.rate(WEIR_LATENESS="87600h")
    good = len(test_bad_events.BAD) + 1
    assert counted == {"read": good + len(expected), "counted": good, "duplicate": 0, "unmatched": 0, "quarantined": len(expected)}
    assert topic.usage() == {("neighbour", "calls"): good}
    found = topic.quarantined()
    assert {number: reason for number, (reason, _value) in found.items()} == {number: reason for number, (reason, _line) in expected.items()}
    for number, (reason, line) in expected.items():
        value = found[number][1]
        assert value == line or (reason == "too_large" and len(value) > 900_000 and line.startswith(value)), f"message {number}: {reason}"


@pytest.mark.parametrize("lateness", [{}, {"WEIR_LATENESS": "1h"}], ids=["24h by default", "1h"])
def test_too_late(servers, tmp_path, lateness):
    """A minute within the lateness counts, a minute beyond it does not; ids of both stay apart from the others'."""
    topic = Topic(servers, f"events-late-{len(lateness)}", tmp_path, CATALOG)
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)
    hours = 1 if lateness else 24

    def send(number, age):
        topic.send(*binary(number, time=(now - age).strftime("%Y-%m-%dT%H:%M:%SZ")))

    minute = datetime.timedelta(minutes=1)
    edge = datetime.timedelta(hours=hours)
    send(1, datetime.timedelta())
    send(2, edge - minute)
    send(3, edge + minute)
    send(2, edge - minute)  # a resend is found as long as it could count
    send(4, minute)
    send(5, edge * 3)
    assert topic.rate(**lateness) == {"read": 6, "counted": 3, "duplicate": 1, "unmatched": 0, "quarantined": 2}
    assert topic.usage() == {("acme", "n"): 1 + 2 + 4, ("acme", "calls"): 3}
    assert {number: reason for number, (reason, _value) in topic.quarantined().items()} == {2: "too_late", 5: "too_late"}


def test_a_longer_lateness_brings_nothing_back(servers, tmp_path):
    """Windows that went under the shorter one are not begun anew: their events stay too late, and the bill as it is."""
    topic = Topic(servers, "events-longer", tmp_path, CATALOG)
    now = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(minutes=5)

    def send(number, hours):
        topic.send(*binary(number, time=(now - datetime.timedelta(hours=hours)).strftime("%Y-%m-%dT%H:%M:%SZ")))

    send(1, 5)
    send(2, 0)
    topic.rate(WEIR_LATENESS="1h")
    send(3, 0.5)
    topic.rate(WEIR_LATENESS="1h")  # rated before: now the first window goes
    send(1, 5)
    send(4, 5)
    send(5, 0.75)
    assert topic.rate(WEIR_LATENESS="87600h") == {"read": 3, "counted": 1, "duplicate": 0, "unmatched": 0, "quarantined": 2}
    assert topic.usage() == {("acme", "n"): 1 + 2 + 3 + 5, ("acme", "calls"): 4}
    assert {number: reason for number, (reason, _value) in topic.quarantined().items()} == {3: "too_late", 4: "too_late"}
