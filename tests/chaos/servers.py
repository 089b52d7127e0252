"""The servers of one job, and what can be done to them. Each job has its own, so that nobody else meets its faults.

Kafka and PostgreSQL are instances of deploy/local (PostgreSQL in its safe mode: what it has committed it has), Redis is
started here for each schedule anew, with an append-only file, so that it can be set back to an earlier state of it.
Weir's processes reach each of them through a Link of the proxy; producers and the comparison afterwards go straight.
"""
import os
import pathlib
import shutil
import signal
import subprocess
import sys
import threading
import time
import urllib.parse

import confluent_kafka
import confluent_kafka.admin
import psycopg2
import redis

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

from ports import free_port, give_back  # noqa: E402

ROOT = pathlib.Path(__file__).resolve().parents[2]
LOCAL = ROOT / "deploy" / "local"
PATIENCE = 120  # seconds, for anything that must come about


def wait_for(what, condition, patience=PATIENCE, pause=0.05):
    """Ask again until it holds; its answer."""
    deadline = time.monotonic() + patience
    while True:
        answer = condition()
        if answer:
            return answer
        if time.monotonic() > deadline:
            raise AssertionError(f"after {patience} s still not: {what}")
        time.sleep(pause)


class Instance:
    """A part of deploy/local in a folder of its own."""

    def __init__(self, folder, part, *options):
        self.folder = pathlib.Path(folder)
        self.part = part
        self.lock = threading.Lock()
        self.run("up", "--only", part, *options)
        self.port = int(self.settings()[f"{part}_port"])

    def run(self, *arguments):
        done = subprocess.run([LOCAL, *arguments, "--dir", self.folder], capture_output=True, text=True, timeout=300,
                              stdin=subprocess.DEVNULL)
        assert done.returncode == 0, f"deploy/local {' '.join(arguments)}: {done.stdout}{done.stderr}"
        return done.stdout

    def settings(self):
        return dict(line.split("=", 1) for line in (self.folder / "settings").read_text().splitlines())

    def environment(self):
        lines = self.run("env").splitlines()
        return dict(line.removeprefix("export ").split("=", 1) for line in lines)

    def pid(self):
        return int((self.folder / "run" / f"{self.part}.pid").read_text().split()[0])

    def kill(self):
        with self.lock:
            self.run("kill", self.part)

    def restart(self):
        with self.lock:
            self.run("restart", self.part)

    def start(self):
        with self.lock:
            self.run("start", self.part)

    def signal(self, number):
        os.kill(self.pid(), number)

    def remove(self):
        subprocess.run([LOCAL, "down", "--wipe", "--dir", self.folder], capture_output=True, timeout=120, check=False)


class Kafka(Instance):
    """With a second listener, which tells clients to come back through the proxy."""

    def __init__(self, folder, proxy):
        super().__init__(folder, "kafka", "--fast")
        settings = self.settings()
        inner = free_port()
        self.link = proxy.link("kafka", ("127.0.0.1", inner))
        (self.folder / "kafka" / "extra.properties").write_text(
            f"listeners=PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{inner},"
            f"CONTROLLER://127.0.0.1:{settings['kafka_controller_port']}\n"
            f"advertised.listeners=PLAINTEXT://127.0.0.1:{self.port},PROXIED://127.0.0.1:{self.link.port}\n"
            "listener.security.protocol.map=PLAINTEXT:PLAINTEXT,PROXIED:PLAINTEXT,CONTROLLER:PLAINTEXT\n"
            "inter.broker.listener.name=PLAINTEXT\n")
        self.restart()
        self.brokers = f"127.0.0.1:{self.port}"
        self.admin = confluent_kafka.admin.AdminClient({"bootstrap.servers": self.brokers, "log_level": 0})

    def make_topic(self, name, partitions):
        made = self.admin.create_topics([confluent_kafka.admin.NewTopic(name, partitions, 1)], request_timeout=PATIENCE)
        made[name].result(PATIENCE)

    def messages(self, topic):
        """How many there are; 0 when there is no such topic."""
        consumer = confluent_kafka.Consumer({"bootstrap.servers": self.brokers, "group.id": "chaos-reader", "log_level": 0})
        try:
            found = consumer.list_topics(timeout=PATIENCE).topics.get(topic)
            ends = [consumer.get_watermark_offsets(confluent_kafka.TopicPartition(topic, n), timeout=PATIENCE)
                    for n in (found.partitions if found else ())]
            return sum(high - low for low, high in ends)
        finally:
            consumer.close()

    def drop_topics(self, names):
        for future in self.admin.delete_topics(names, request_timeout=PATIENCE).values():
            future.exception(PATIENCE)  # one that was never made is as good


class Postgres(Instance):
    def __init__(self, folder, proxy):
        super().__init__(folder, "postgres")
        self.url = self.environment()["WEIR_POSTGRES_URL"]
        # Only processes die here, never the machine: what a commit has written to a file is there afterwards.
        self.ask("alter system set fsync = off")
        self.restart()
        self.link = proxy.link("postgres", ("127.0.0.1", self.port))

    def url_of(self, database, is_proxied=False):
        url = urllib.parse.urlsplit(self.url)
        if is_proxied:
            url = url._replace(netloc=url.netloc.rsplit(":", 1)[0] + f":{self.link.port}")
        return url._replace(path="/" + database).geturl()

    def ask(self, sql, database="weir", parameters=None):
        connection = psycopg2.connect(self.url_of(database))
        try:
            connection.autocommit = True
            with connection.cursor() as cursor:
                cursor.execute(sql, parameters)
                return cursor.fetchall() if cursor.description else []
        finally:
            connection.close()

    def make_database(self, name):
        self.ask(f'create database "{name}"')

    def drop_database(self, name):
        self.ask(f'drop database if exists "{name}" with (force)')

    def immediate(self):
        """As after a crash: no checkpoint, recovery at the start."""
        with self.lock:
            self.run("kill", self.part)
            self.run("start", self.part)

    def terminate_backends(self, database):
        """Every session of weir's is ended in the middle of what it does."""
        self.ask("select pg_terminate_backend(pid) from pg_stat_activity where datname = %s and pid <> pg_backend_pid()",
                 parameters=(database,))


class Redis:
    """A fresh, empty server, with its append-only file."""

    def __init__(self, folder, proxy=None, link=None):
        self.home = pathlib.Path(folder)
        self.lock = threading.Lock()
        self.process = None
        self.number = 0
        self.data = self._new_data()
        self.replica = None
        self.port = free_port()
        self.start()
        self.link = link or proxy.link("redis", ("127.0.0.1", self.port))
        self.link.lead_to(("127.0.0.1", self.port))

    def _new_data(self):
        self.number += 1
        data = self.home / f"redis-{self.number}"
        data.mkdir(parents=True)
        return data

    def _launch(self, data, port, *options):
        with open(self.home / "redis.log", "ab") as log:
            process = subprocess.Popen(
                ["redis-server", "--bind", "127.0.0.1", "--port", str(port), "--dir", data, "--save", "", "--appendonly", "yes",
                 "--appendfsync", "everysec", "--auto-aof-rewrite-percentage", "0", "--repl-diskless-sync-delay", "0",
                 "--maxmemory-policy", "noeviction", "--enable-debug-command", "local", *options],
                stdin=subprocess.DEVNULL, stdout=log, stderr=log, start_new_session=True)
        client = redis.Redis(port=port)
        try:
            wait_for("Redis answers", lambda: self._answers(process, client))
        except BaseException:
            process.kill()
            process.wait()
            raise
        return process

    @staticmethod
    def _answers(process, client):
        assert process.poll() is None, f"Redis ended with {process.returncode}"
        try:
            return client.info("persistence")["loading"] == 0
        except (redis.ConnectionError, redis.BusyLoadingError):
            return False

    def client(self):
        return redis.Redis(port=self.port, socket_timeout=60)

    def start(self):
        self.process = self._launch(self.data, self.port)

    def end(self, number=signal.SIGKILL):
        if self.process and self.process.poll() is None:
            self.process.send_signal(number)
            self.process.wait(PATIENCE)

    def restart(self, number=signal.SIGKILL, down=0.0):
        with self.lock:
            self.end(number)
            time.sleep(down)
            self.start()

    def remember(self):
        """A copy of the append-only file as it is now. It only grows, so its beginning is a state of before."""
        with self.lock:
            copy = self._new_data()
            shutil.copytree(self.data / "appendonlydir", copy / "appendonlydir")
            return copy

    def set_back(self, copy):
        """Restored from an older state, as after a loss of its disk's last seconds."""
        with self.lock:
            self.end()
            self.data = copy
            self.start()

    def follow(self, proxy):
        """A replica begins to follow, through a link of its own."""
        with self.lock:
            link = proxy.link("replication", ("127.0.0.1", self.port))
            port, data = free_port(), self._new_data()
            process = self._launch(data, port, "--replicaof", f"127.0.0.1 {link.port}", "--replica-serve-stale-data", "yes")
            client = redis.Redis(port=port)
            wait_for("the replica follows", lambda: client.info("replication")["master_link_status"] == "up")
            self.replica = (process, port, data, link)

    def fall_behind(self):
        """From here on the replica hears nothing more."""
        with self.lock:
            if self.replica:
                self.replica[3].set(lose="down")

    def fail_over(self):
        """The primary dies and the replica, behind as it is, takes its place."""
        with self.lock:
            if not self.replica:
                return
            process, port, data, link = self.replica
            self.replica = None
            self.end()
            give_back(self.port)
            link.set(refuse=True)
            redis.Redis(port=port).replicaof("NO", "ONE")
            link.close()
            self.process, self.port, self.data = process, port, data
            self.link.lead_to(("127.0.0.1", port))

    def kill_clients(self):
        self.client().client_kill_filter(_type="normal", skipme=True)

    def remove(self):
        with self.lock:
            self.end()
            give_back(self.port)
            if self.replica:
                give_back(self.replica[1])
                self.replica[3].close()
                self.replica[0].kill()
                self.replica[0].wait(PATIENCE)
                self.replica = None
