"""One schedule on real servers: produce, break, heal, and compare what is left with the model."""
import collections
import concurrent.futures
import json
import os
import pathlib
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
import traceback

import confluent_kafka

import schedule as schedules
from crew import Crew
from proxy import Proxy
from servers import PATIENCE, ROOT, Kafka, Postgres, Redis, wait_for

sys.path.insert(0, str(ROOT / "tests" / "system"))
sys.path.insert(0, str(ROOT / "tests" / "support"))

import ending  # noqa: E402
import invariants  # noqa: E402
import ledger  # noqa: E402
from model import metering  # noqa: E402
from harness import BINARY, assert_same, model_components, model_rows, run_model  # noqa: E402

SLICE_SECONDS = 0.04  # of a producer
AMBUSH_SECONDS = 3  # a word that does not come by then is not waited for
LOG_EVIDENCE = {
    "lanes_taken": re.compile(r" taken: epoch "),
    "lanes_handed_over": re.compile(r" handed over, all written"),
    "lanes_given_up": re.compile(r" given up; its next owner"),
    "cuts_fenced": re.compile(r"reading it again from its stored cut"),
    "cuts_held": re.compile(r"holding everything and trying again"),
    "rater_retries": re.compile(r": trying again: | trying again: "),
}
EVIDENCE = (*LOG_EVIDENCE, "windows_stale", "revised_items", "quarantined_again", "too_late", "traps_sprung")


class JobServers:
    """The servers that one job keeps for all its trials."""

    def __init__(self, folder):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.proxy = Proxy()
        self.kafka = self.postgres = None
        try:
            with concurrent.futures.ThreadPoolExecutor(2) as pool:
                postgres = pool.submit(Postgres, self.folder / "postgres", self.proxy)
                self.kafka = Kafka(self.folder / "kafka", self.proxy)
                self.postgres = postgres.result()
        except BaseException:
            self.remove()
            raise
        self.redis_link = self.proxy.link("redis", ("127.0.0.1", 9))

    def remove(self):
        for part in ("kafka", "postgres"):
            subprocess.run([ROOT / "deploy" / "local", "down", "--wipe", "--dir", self.folder / part], capture_output=True,
                           timeout=120, check=False)
        self.proxy.close()


class Result:
    def __init__(self, seed):
        self.seed = seed
        self.failure = None  # one line
        self.seconds = 0.0
        self.recovery = 0.0  # seconds from the end of all faults until the workers had caught up by themselves
        self.faults = collections.Counter()
        self.evidence = collections.Counter()
        self.events = 0
        self.folder = None


class Trial:
    def __init__(self, servers, schedule, folder, binary=BINARY):
        self.servers = servers
        self.schedule = schedule
        self.folder = pathlib.Path(folder)
        self.binary = str(binary)
        self.name = f"chaos-{schedule.seed}-{os.getpid()}-{time.time_ns() // 1000000 % 1000000000}"
        self.links = {"kafka": servers.kafka.link, "postgres": servers.postgres.link, "redis": servers.redis_link}
        self.remembered = {}
        self.redis = self.crew = None
        self.quarantined_again = self.too_late = 0
        self.log = None
        self.troubles = []

    # ---- actions, as schedule.py names them

    def start(self, name):
        self.crew.start(name)

    def kill(self, name):
        self.crew.kill(name)

    def leave(self, name):
        self.crew.leave(name)

    def freeze(self, name):
        self.crew.freeze(name)

    def thaw(self, name):
        self.crew.thaw(name)

    def redis_restart(self, how, down):
        self.redis.restart(getattr(signal, "SIG" + how), down)

    def redis_remember(self, number):
        self.remembered[number] = self.redis.remember()

    def redis_set_back(self, number):
        if number in self.remembered:
            self.redis.set_back(self.remembered[number])

    def redis_follow(self):
        if not self.redis.replica:
            self.redis.follow(self.servers.proxy)

    def redis_fall_behind(self):
        self.redis.fall_behind()

    def redis_fail_over(self):
        self.redis.fail_over()

    def redis_empty(self):
        self.redis.client().flushall()

    def redis_kill_sessions(self):
        self.redis.kill_clients()

    def redis_sleep(self, seconds):
        self.redis.client().execute_command("DEBUG", "SLEEP", seconds)

    def redis_limit(self, is_on):
        client = self.redis.client()
        client.config_set("maxmemory", client.info("memory")["used_memory"] + 10000 if is_on else 0)

    def postgres_restart(self):
        self.servers.postgres.restart()

    def postgres_crash(self):
        self.servers.postgres.immediate()

    def postgres_kill_sessions(self):
        self.servers.postgres.terminate_backends(self.name)

    def broker_restart(self, how):
        if how == "restart":
            self.servers.kafka.restart()
        else:
            self.servers.kafka.kill()
            self.servers.kafka.start()

    def broker_freeze(self):
        self.servers.kafka.signal(signal.SIGSTOP)

    def broker_thaw(self):
        self.servers.kafka.signal(signal.SIGCONT)

    def link_cut(self, link):
        self.links[link].cut()

    def link_set(self, link, state):
        self.links[link].set(**state)

    def link_heal(self, link):
        self.links[link].heal()

    def trap(self, link, word, how, seconds):
        self.links[link].arm(word.encode(), how, seconds)

    def redis_set_back_at_rest(self, number):
        """When all that is in Kafka is in Redis."""
        self.catch_up(self.read_topic(), False)
        self.redis_set_back(number)

    def kill_at_word(self, link, word, names, down):
        """All of them die in the instant in which the server gets a message with this word."""
        struck = threading.Event()
        self.links[link].arm(word.encode(), "tell", then=struck.set)
        if struck.wait(AMBUSH_SECONDS):
            for name in names:
                self.crew.kill(name)
            time.sleep(down)
            for name in names:
                self.crew.start(name)

    # ---- the run

    def note(self, text):
        self.log.write(f"{time.time():.3f} {text}\n")
        self.log.flush()

    def weir(self, *arguments):
        environment = {**os.environ, **self.environment(False)}
        done = subprocess.run([self.binary, *map(str, arguments)], capture_output=True, env=environment, timeout=2 * PATIENCE,
                              stdin=subprocess.DEVNULL)
        with open(self.folder / "commands.log", "ab") as log:
            log.write(f"---- weir {' '.join(map(str, arguments))}: {done.returncode}\n".encode() + done.stdout + done.stderr)
        assert done.returncode == 0, f"weir {arguments[0]} ended with {done.returncode}: " + (
            (done.stdout + done.stderr).decode(errors="replace")[-2000:])
        return done.stdout.decode()

    def environment(self, is_proxied):
        kafka = self.servers.kafka
        redis_port = self.links["redis"].port if is_proxied else self.redis.port
        return {
            **self.schedule.settings,
            "WEIR_KAFKA_BROKERS": f"127.0.0.1:{kafka.link.port}" if is_proxied else kafka.brokers,
            "WEIR_KAFKA_TOPIC": self.name,
            "WEIR_KAFKA_GROUP": self.name,
            "WEIR_REDIS_URL": f"redis://127.0.0.1:{redis_port}",
            "WEIR_POSTGRES_URL": self.servers.postgres.url_of(self.name, is_proxied),
            "WEIR_CATALOG": str(self.folder / "catalog"),
            "WEIR_METRICS_LISTEN": "off",
        }

    def set_up(self):
        case, self.lines = schedules.workload(self.schedule)
        case.write(self.folder)
        (self.folder / "schedule.json").write_text(self.schedule.as_json())
        config = self.folder / "weir.json"
        debug = {"debug": os.environ["WEIR_CHAOS_DEBUG"]} if os.environ.get("WEIR_CHAOS_DEBUG") else {}
        config.write_text(json.dumps({"kafka": {"properties": {**self.schedule.properties, **debug}}}))
        self.case = case
        self.redis = Redis(self.folder, link=self.links["redis"])
        self.servers.postgres.make_database(self.name)
        self.servers.kafka.make_topic(self.name, self.schedule.partitions)
        self.weir("migrate")
        self.weir("apply", "--catalog", self.folder / "catalog")
        self.crew = Crew(self.binary, self.folder, self.environment(True), config)

    def everybody(self):
        return [f"ingest-{n}" for n in range(self.schedule.ingests)] + [f"rater-{n}" for n in range(self.schedule.raters)]

    def produce(self, number):
        """Every so-many-th line, at the pace of the schedule. What a broken broker makes it send twice is there twice."""
        producer = confluent_kafka.Producer({"bootstrap.servers": self.servers.kafka.brokers, "linger.ms": 5, "log_level": 0,
                                             "message.timeout.ms": 2 * PATIENCE * 1000, "reconnect.backoff.max.ms": 500})
        failures = []

        def delivered(error, _message):
            if error:
                failures.append(str(error))
        mine = range(number, len(self.lines), self.schedule.producers)
        began = time.monotonic()
        for n in mine:
            due = began + self.schedule.seconds * n / len(self.lines)
            while due - time.monotonic() > SLICE_SECONDS:
                producer.poll(SLICE_SECONDS)
            line = self.lines[n]
            producer.produce(self.name, line, partition=schedules.partition_of(line, self.schedule.partitions), callback=delivered)
        left = producer.flush(2 * PATIENCE)
        assert not left and not failures, f"producer {number}: {left} lines were not sent, {failures[:1]}"

    def act(self, action):
        self.note(f"{action.do} {action.arguments}")
        try:
            getattr(self, action.do)(*action.arguments)
            self.note(f"{action.do} {action.arguments} done")
        except Exception as error:  # an action that met another one's fault: told, and the trial goes on
            self.troubles.append(f"{action.do} {action.arguments}: {error!r}")
            self.note(f"trouble: {self.troubles[-1]}")

    def run_actions(self, pool):
        began = time.monotonic()
        running = []
        for action in self.schedule.actions:
            time.sleep(max(0.0, began + action.at - time.monotonic()))
            running.append(pool.submit(self.act, action))
        for one in running:
            one.result(4 * PATIENCE)

    def heal(self):
        self.note("heal")
        for link in self.links.values():
            link.heal()
        self.servers.kafka.signal(signal.SIGCONT)
        if self.redis.process.poll() is not None:
            self.redis.start()
        self.redis.client().config_set("maxmemory", 0)
        self.crew.heal(self.everybody())

    # ---- when all is well again

    def read_topic(self):
        """{(partition, offset): line}, in the order of the partitions."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.servers.kafka.brokers, "group.id": "chaos-reader",
                                             "enable.partition.eof": True, "enable.auto.commit": False, "log_level": 0})
        try:
            open_ends = set(range(self.schedule.partitions))
            consumer.assign([confluent_kafka.TopicPartition(self.name, n, 0) for n in open_ends])
            lines = {}
            while open_ends:
                message = consumer.poll(PATIENCE)
                assert message is not None, "the topic does not end"
                if message.error():
                    assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                    open_ends.discard(message.partition())
                else:
                    lines[(message.partition(), message.offset())] = message.value()
            return dict(sorted(lines.items()))
        finally:
            consumer.close()

    def lane(self, partition):
        prefix = f"weir:{{{self.name}:{partition}}}:"
        client = self.redis.client()
        fields = {name.decode(): value for name, value in client.hgetall(prefix + "lane").items()}
        return {name: int(fields.get(name, 0)) for name in (
            "next_offset", "watermark", "read", "counted", "duplicate", "unmatched", "retracted", "quarantined")}, client.scard(
                prefix + "working")

    def has_caught_up(self, ends, is_closing):
        """All that is in Kafka is in Redis; is_closing: closed and rated too."""
        year_end = schedules.instants.parse_rfc3339(f"{self.schedule.year + 1}-01-01T00:00:00Z")
        for partition in range(self.schedule.partitions):
            state, working = self.lane(partition)
            if state["next_offset"] < ends.get(partition, 0) or (is_closing and (state["watermark"] < year_end or working)):
                return False
        return True

    def catch_up(self, topic, is_closing):
        ends = {}
        for partition, offset in topic:
            ends[partition] = offset + 1
        try:
            wait_for("the workers go on by themselves", lambda: self.has_caught_up(ends, is_closing), 2 * PATIENCE, 0.1)
        except AssertionError as error:
            lanes = {partition: self.lane(partition) for partition in range(self.schedule.partitions)}
            raise AssertionError(f"{error}; ends {ends}, lanes {lanes}") from None
        self.note("caught up")

    def compare(self, topic):
        where = f"seed {self.schedule.seed}, files in {self.folder}"
        missing = set(self.lines) - set(topic.values())
        assert not missing, f"{len(missing)} lines never came to the topic"
        places = list(topic)
        self.case.lines = list(topic.values())
        clocks = [metering.LaneClock(*self.schedule.patience()) for _ in range(self.schedule.partitions)]
        outcome = run_model(self.case, clock_of=lambda index: clocks[places[index][0]])
        self.too_late = sum(one.reason == "too_late" for one in outcome.bad)
        environment = self.environment(False)
        counts = collections.Counter()
        for partition in range(self.schedule.partitions):
            counts.update(self.lane(partition)[0])
        assert_same("counts of the lanes", {name: counts[name] for name in outcome.counts if name != "unpriced"},
                    {name: count for name, count in outcome.counts.items() if name != "unpriced"}, where)
        bad = {(str(places[b.index][0]), str(places[b.index][1])): (b.reason, b.line) for b in outcome.bad}
        assert_same("quarantined events", ledger.quarantined(environment), bad, where)
        self.quarantined_again = self.servers.kafka.messages(self.name + ".quarantine") - len(bad)
        expected = {key: (quantity, amount, currency) for key, (quantity, amount, _, currency) in model_rows(outcome).items()}
        assert_same("sums of the ledger", ledger.ledger_rows(environment), expected, where)
        assert_same("components", ledger.ledger_components(environment), model_components(outcome), where)
        unpriced = ledger.ledger_unpriced(environment, self.case.document["meters"])
        unpriced, expected = ({key: value for key, value in side.items() if value[1]}  # not the windows of retracted events only
                              for side in (unpriced, outcome.rating.unpriced))
        assert_same("unpriced usage", unpriced, expected, where)
        invariants.check(environment["WEIR_POSTGRES_URL"])
        self.reconcile()

    def reconcile(self):
        report = self.weir("reconcile")
        found = dict(pair.split("=") for pair in report.splitlines()[-1].split() if "=" in pair)
        assert all(found[name] == "0" for name in ("behind", "open", "waiting", "differences")), report

    def run(self, result):
        self.folder.mkdir(parents=True)
        with open(self.folder / "actions.log", "w", encoding="utf-8") as self.log:
            self.set_up()
            with concurrent.futures.ThreadPoolExecutor(24) as pool:
                for name in self.everybody():
                    self.crew.start(name)
                producers = [pool.submit(self.produce, number) for number in range(self.schedule.producers)]
                self.run_actions(pool)
                for producer in producers:
                    producer.result(4 * PATIENCE)
            self.heal()
            healed = time.monotonic()
            topic = self.read_topic()
            self.catch_up(topic, self.schedule.settings["WEIR_IDLE"] != "1h")
            result.recovery = time.monotonic() - healed
            self.crew.finish()
            self.note("all left")
            if self.schedule.rests:
                self.redis_set_back(schedules.AT_REST)
                self.weir("rater", "--until-done")  # rates nothing below what it was
            self.end()
            self.compare(topic)
            if self.schedule.rebuilds:
                self.rebuild()
            self.check_exits()

    def end(self):
        """Batch runs, several at once, make an end of what is left."""
        with concurrent.futures.ThreadPoolExecutor(4) as pool:
            list(pool.map(lambda _: self.weir("ingest", "--until-end"), range(min(2, self.schedule.ingests))))
            list(pool.map(lambda _: self.weir("rater", "--until-done", "--rater-batch", "20000"), range(self.schedule.raters)))

    def rebuild(self):
        """A Redis that is made anew from all that Kafka holds agrees with what was rated long ago."""
        rows = "select count(*) from weir.line_items"
        before = self.servers.postgres.ask(rows, self.name)
        self.redis.client().flushall()
        self.end()
        self.reconcile()
        assert self.servers.postgres.ask(rows, self.name) == before, "rating what was rebuilt wrote line items"

    def check_exits(self):
        """Whatever breaks, nobody ends by itself: they wait and go on."""
        assert not self.crew.exits, f"ended by themselves: {self.crew.exits}"
        assert not re.search(r"ERROR: \w+Sanitizer|runtime error:", self.crew.log_text()), "a sanitizer found something"

    def gather(self, result):
        text = self.crew.log_text()
        counters = self.crew.counters()
        evidence = result.evidence
        for name, pattern in LOG_EVIDENCE.items():
            evidence[name] = len(pattern.findall(text))
        reports = text + (self.folder / "commands.log").read_text(errors="replace")
        evidence["windows_stale"] = max(counters["weir_stale_windows_total"], sum(map(int, re.findall(r" stale=(\d+)", reports))))
        evidence["quarantined_again"] = self.quarantined_again
        evidence["too_late"] = self.too_late
        evidence["traps_sprung"] = sum(link.sprung for link in self.links.values())
        evidence["revised_items"] = self.servers.postgres.ask("select count(*) from weir.line_items where revision > 1", self.name)[0][0]
        result.faults.update(self.schedule.faults)
        result.events = len(self.lines)

    def keep_data(self):
        """What somebody who looks for the cause wants to see."""
        connection = ledger.psycopg2.connect(self.servers.postgres.url_of(self.name))
        try:
            with connection.cursor() as cursor:
                for table in ("line_items", "rated_windows", "billing_periods", "price_totals", "split_totals"):
                    with open(self.folder / f"{table}.csv", "w", encoding="utf-8") as file:
                        cursor.copy_expert(f"copy (select * from weir.{table}) to stdout with (format csv, header)", file)
        finally:
            connection.close()
        with open(self.folder / "topic.txt", "wb") as file:
            for (partition, offset), line in self.read_topic().items():
                file.write(f"{partition} {offset} ".encode() + line + b"\n")

    def clean_up(self):
        if self.crew:
            self.crew.close()
        for link in self.links.values():
            link.heal()
            link.sprung = 0
        if self.redis:
            self.redis.remove()
        self.servers.postgres.drop_database(self.name)
        self.servers.kafka.drop_topics([self.name, self.name + ".quarantine"])


def clean_up(trial, result):
    for step in ([trial.gather] if trial.crew else []), ([trial.keep_data] if result.failure else []), [trial.clean_up]:
        for function in step:
            try:
                function(*([result] if function == trial.gather else []))
            except Exception:
                with open(trial.folder / "failure.txt", "a", encoding="utf-8") as file:
                    file.write(f"while cleaning up:\n{traceback.format_exc()}")
                result.failure = result.failure or f"{function.__name__}: {traceback.format_exc().splitlines()[-1]}"


def run_one(servers, schedule, folder, binary=BINARY, keep=False):
    """A Result; its folder stays when the trial failed, or when it is to be kept."""
    result = Result(schedule.seed)
    result.folder = str(folder)
    shutil.rmtree(folder, ignore_errors=True)
    began = time.monotonic()
    trial = Trial(servers, schedule, folder, binary)
    try:
        trial.run(result)
    except Exception as error:
        result.failure = (str(error) or repr(error)).splitlines()[0]
        (trial.folder / "failure.txt").write_text(traceback.format_exc())
    finally:
        with ending.undisturbed():
            clean_up(trial, result)
    if trial.troubles and not result.failure:
        result.evidence["troubles"] = len(trial.troubles)
    result.seconds = time.monotonic() - began
    if not result.failure and not keep:
        shutil.rmtree(folder, ignore_errors=True)
    return result
