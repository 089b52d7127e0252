"""A whole pipeline on real servers: events in, processes of weir, and the ledger compared with the independent model.

Events are of the last two hours, windows a minute, an idle lane closes after 300 ms: so everything that was sent stands
in the ledger soon after it was read, and later events of the same windows make revisions."""
import datetime
import json
import os
import re
import signal
import subprocess
import time
import urllib.request

import confluent_kafka
import invariants
import psycopg2
from harness import BINARY, DEADLINE, assert_same, run_model, until, weir
from model import exact, instants
from stopping import terminate

CATALOG = {
    "meters": [
        {"key": "tokens", "event_type": "use", "aggregation": "sum", "value": "data.n", "window": "1m", "group_by": ["model"]},
        {"key": "calls", "event_type": "use", "aggregation": "count", "window": "1m"},
        {"key": "peak", "event_type": "use", "aggregation": "max", "value": "data.n", "window": "1m"}],
    "price_books": [{"key": "b", "version": 1, "currency": "USD", "effective_from": "1970-01-01T00:00:00Z", "prices": [
        {"meter": "tokens", "model": "graduated", "tiers": [{"up_to": "500", "unit_price": "0.1"},
                                                            {"up_to": None, "unit_price": "0.0300000001", "flat_fee": "2"}]},
        {"meter": "calls", "model": "package", "package_size": "7", "package_price": "0.5"},
        {"meter": "peak", "model": "per_unit", "unit_price": "1.25"}]}],
    "default_contract": {"price_book": "b", "billing_period": "month", "timezone": "UTC"}}

UTC = "to_char({0} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"')"
ONE_OWNER = {"session.timeout.ms": "60000"}  # throughout, however busy the machine is


class Case:
    """What harness.run_model wants."""

    def __init__(self, document, lines):
        self.document, self.lines = document, lines


class Process:
    """A daemon of weir's with its log and metrics page."""

    def __init__(self, pipeline, name, arguments, env, stderr=None, wrap=()):
        self.name = name
        self.log_path = pipeline.folder / f"{name}.log"
        self.stderr = stderr or open(self.log_path, "wb")
        self.process = subprocess.Popen([*wrap, BINARY, *arguments], env={**os.environ, **pipeline.env, **env}, stdout=subprocess.DEVNULL,
                                        stderr=self.stderr)

    def log(self):
        return self.log_path.read_text(errors="replace") if self.log_path.exists() else ""

    def wait_log(self, pattern, seconds=DEADLINE, count=1):
        def found():
            matches = re.findall(pattern, self.log())
            if len(matches) >= count:
                return matches
            assert self.is_running() or len(re.findall(pattern, self.log())) >= count, \
                f"{self.name} ended with {self.process.returncode} before it said '{pattern}':\n{self.log()[-3000:]}"
            return None
        return until(lambda: f"{self.name} never says '{pattern}':\n{self.log()[-3000:]}", found, seconds)

    def metrics(self):
        port = self.wait_log(r"metrics on port (\d+)")[0]
        with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as page:
            text = page.read().decode()
        return {name: int(value) for name, value in re.findall(r"^([a-z_]+(?:\{[^}]*\})?) (-?\d+)$", text, re.MULTILINE)}

    def metric(self, name):
        """Of what the log has told of already, for which the page may yet be a moment behind."""
        def found():
            page = self.metrics()
            return [page[name]] if name in page else None
        return until(f"{self.name} has {name} on its page", found)[0]

    def wait_metrics(self, what, **wanted):
        """Until each has its value: what a daemon does is seen before it is counted."""
        until(lambda: f"{self.name}, {what}: not {wanted}, but {self.metrics()}",
              lambda: all(self.metrics().get(name) == value for name, value in wanted.items()))

    def wait_ready(self, is_ready):
        until(f"{self.name} is {'ready' if is_ready else 'not ready'}", lambda: self.ready() == is_ready)

    def ready(self):
        port = self.wait_log(r"metrics on port (\d+)")[0]
        try:
            return urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60).status == 200
        except urllib.error.HTTPError:
            return False

    def memory(self):
        """Resident bytes."""
        with open(f"/proc/{self.process.pid}/statm", encoding="ascii") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    def is_running(self):
        return self.process.poll() is None

    def send(self, what):
        self.process.send_signal(what)

    def kill(self):
        if self.is_running():
            self.process.kill()
            self.process.wait()

    def ended(self):
        """Its exit status when it has ended. All is written within a second, but librdkafka was once seen to leave its group
        only after twice socket.timeout.ms (120 s)."""
        return self.process.wait(DEADLINE + 80)

    def stop(self):
        """SIGTERM, to a clean end."""
        terminate(self.process)
        assert self.ended() == 0, f"{self.name} ended with {self.process.returncode}:\n{self.log()[-3000:]}"


class Pipeline:
    def __init__(self, servers, test, folder, partitions=2):
        # A date keeps two sessions on one server apart.
        self.name = re.sub("[^a-z0-9]+", "-", test.lower()).strip("-")[:40] + f"-{time.time_ns() // 1000000 % 10**9}"
        self.folder, self.servers, self.partitions = folder, servers, partitions
        self.document = CATALOG
        self.env = {**servers.room(self.name, partitions), "WEIR_CATALOG": str(folder / "catalog.json"), "WEIR_IDLE": "300ms",
                    "WEIR_DISORDER": "0s", "WEIR_METRICS_LISTEN": "127.0.0.1:0", "WEIR_FLUSH_INTERVAL": "50ms", "WEIR_KAFKA_GROUP": self.name}
        self.processes, self.lines, self.sent = [], [], 0
        self.now = time.time()
        self.producer = confluent_kafka.Producer({"bootstrap.servers": self.env["WEIR_KAFKA_BROKERS"], "linger.ms": 5,
                                                  "message.max.bytes": 8000000})
        self.use_catalog(CATALOG)
        weir("migrate", env=self.env)

    def use_catalog(self, document):
        self.document = document
        (self.folder / "catalog.json").write_text(json.dumps(document))
        self.config()

    def config(self, properties=None, **settings):
        """The file of --config that daemons are started with: short sessions, and what the test adds. A test that counts what
        one worker did asks for long ones: a worker that has had no core for 3 s loses its lanes, and reads some of them again."""
        properties = {"session.timeout.ms": "3000", "heartbeat.interval.ms": "300", **(properties or {})}
        (self.folder / "weir.json").write_text(json.dumps({"kafka": {"properties": properties}, **settings}))

    # ---- events

    def event(self, number, **changes):
        """A good event; a function of its number."""
        seconds = self.now - 7200 + (number * 37) % 7000
        moment = datetime.datetime.fromtimestamp(seconds, datetime.timezone.utc).strftime("%Y-%m-%dT%H:%M:%S") + f".{number % 1000:03}Z"
        members = {"specversion": "1.0", "id": f"e{number}", "source": "test", "type": "use", "subject": f"c{number % 5}", "time": moment,
                   "data": {"n": number % 97, "model": "ab"[number % 2]}, **changes}
        return json.dumps(members, separators=(",", ":")).encode()

    def send(self, count=1, partition=None, repeat=0, lines=None, bad=False):
        """More events, and again every repeat-th of them, to the partition of their customer or to one. `bad` ones are
        not told to the model."""
        if lines is None:
            lines = [self.event(number) for number in range(self.sent, self.sent + count)]
            self.sent += count
            if repeat:
                lines += lines[::repeat]
        deadline, left = time.monotonic() + DEADLINE, []
        for number, line in enumerate(lines):
            found = re.search(rb'"subject":"c(\d+)"', line)
            left.append((line, partition if partition is not None else int(found.group(1)) % self.partitions if found else number % self.partitions))
        while left:  # a broker that has just started may call the topic unknown, and then the producer gives up
            assert time.monotonic() < deadline, f"{len(left)} events are not delivered"
            left = self.produce(left)
        if not bad:
            self.lines += lines

    def produce(self, pairs):
        """Those (line, partition) that were not delivered."""
        failed = []
        for line, to in pairs:
            try:
                self.producer.produce(self.env["WEIR_KAFKA_TOPIC"], line, partition=to,
                                      on_delivery=lambda error, message, pair=(line, to): error is None or failed.append(pair))
            except confluent_kafka.KafkaException:  # refused without asking the broker again
                failed.append((line, to))
            self.producer.poll(0)
        assert self.producer.flush(DEADLINE) == 0
        return failed

    # ---- processes

    def start(self, *arguments, env=None, **options):
        name = f"{arguments[0]}-{len(self.processes) + 1}"
        process = Process(self, name, [*arguments, "--config", str(self.folder / "weir.json")], env or {}, **options)
        self.processes.append(process)
        return process

    def ingest(self, *arguments, taken=None, **options):
        """A worker; waits until it has taken all partitions, or so many."""
        process = self.start("ingest", *arguments, **options)
        if taken != 0:
            process.wait_log(r"lane \S+ taken", count=taken or self.partitions)
        return process

    def rater(self, *arguments, **options):
        return self.start("rater", *arguments, env={"WEIR_RATER_INTERVAL": "50ms", **options.pop("env", {})}, **options)

    def close(self):
        for process in self.processes:
            if process.is_running():
                process.send(signal.SIGCONT)
                process.kill()
            if process.stderr is not None and hasattr(process.stderr, "close"):
                process.stderr.close()
            log = process.log()
            if log:
                print(f"---- {process.name}\n{log[-4000:]}")

    # ---- what came of it

    def query(self, text):
        connection = psycopg2.connect(self.env["WEIR_POSTGRES_URL"])
        try:
            with connection.cursor() as cursor:
                cursor.execute(text)
                return cursor.fetchall()
        finally:
            connection.close()

    def usage(self):
        """{(customer, period start, meter): (quantity, amount)} of the ledger."""
        rows = self.query(f"select customer, {UTC.format('period_start')}, item, sum(quantity)::text, sum(amount)::text"
                          " from weir.line_items where kind = 'usage' group by 1, line_items.period_start, 3")
        sums = {row[:3]: (exact.parse(row[3]), exact.parse(row[4])) for row in rows}
        return {key: tuple(map(exact.fixed, value)) for key, value in sums.items() if any(value)}

    def expected(self):
        outcome = run_model(Case(self.document, self.lines), keep_open=True)
        assert not outcome.bad, outcome.bad[:3]
        rows = {tuple(row[:6]): (exact.parse(row[6]), exact.parse(row[7])) for row in outcome.rows}
        return {(key[0], key[2], key[4]): tuple(map(exact.fixed, value)) for key, value in rows.items() if key[5] == "usage" and any(value)}

    def check(self, seconds=DEADLINE):
        """The ledger becomes what the model says, and holds together."""
        expected, deadline = self.expected(), time.monotonic() + seconds
        while True:
            found = self.usage()
            if found == expected:
                invariants.check(self.env["WEIR_POSTGRES_URL"])
                return
            dead = [process for process in self.processes if process.process.poll() not in (None, 0, -9)]
            if time.monotonic() > deadline or dead:
                for process in dead:
                    print(f"{process.name} ended with {process.process.returncode}")
                assert_same("sums of the ledger", found, expected, self.folder)
            time.sleep(0.1)  # between two looks

    def check_stays(self, rounds=3):
        """A second full reading of everything by new processes changes no row."""
        before = self.query("select count(*) from weir.line_items")
        for process in self.processes:
            if process.is_running():
                process.stop()
        weir("ingest", "--until-end", "--config", self.folder / "weir.json", env=self.env)
        weir("rater", "--until-done", "--config", self.folder / "weir.json", env=self.env)
        assert self.query("select count(*) from weir.line_items") == before, "a second run changed the ledger"
        self.check(5)

    def quarantined(self):
        from test_random_pipeline import quarantined  # tests/system
        return quarantined(self.env)


def time_text(seconds):
    return instants.format_utc(int(seconds))
