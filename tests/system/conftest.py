"""Servers for the whole-system tests: one Kafka, Redis and PostgreSQL for the session, by deploy/local."""
import os
import pathlib
import subprocess
import sys
import urllib.parse

import psycopg2
import pytest
import redis

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "support"))

import ending  # noqa: E402

LOCAL = ROOT / "deploy" / "local"


def pytest_configure():
    ending.end_on_sigterm()


def redis_nodes(url):
    """A client of each Redis that the URL of deploy/local names: one, or the masters of a cluster."""
    return [redis.Redis.from_url("redis://" + host) for host in url.removeprefix("redis://").split(",")]


class Servers:
    """The session's servers. A server that does not start fails the tests that ask for it."""

    all = []

    def __init__(self, folder, *options):
        self.folder = folder
        done = self.local("up", "--fast", "--partitions", "4", *options)
        assert done.returncode == 0, done.stdout + done.stderr
        script = 'eval "$("$0" env --dir "$1")" && env -0'
        text = subprocess.run(["bash", "-c", script, LOCAL, folder], capture_output=True, check=True,
                              env={"PATH": os.environ["PATH"]}).stdout.decode()
        pairs = dict(line.split("=", 1) for line in text.split("\0") if line)
        self.env = {name: value for name, value in pairs.items() if name.startswith("WEIR_")}
        self.template = None
        self.ledgers, self.written = {}, {}
        Servers.all.append(self)

    def local(self, *arguments):
        return subprocess.run([LOCAL, *arguments, "--dir", self.folder], capture_output=True, text=True, timeout=300)

    def database(self, name, template):
        """Makes it as a copy; answers its URL."""
        connection = psycopg2.connect(self.env["WEIR_POSTGRES_URL"])
        connection.autocommit = True
        connection.cursor().execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}" STRATEGY FILE_COPY')
        connection.close()
        # weir's own 10 s for a connection were once too few on a machine that everybody used.
        return urllib.parse.urlsplit(self.env["WEIR_POSTGRES_URL"])._replace(path="/" + name, query="connect_timeout=60").geturl()

    def migrated(self):
        """A database that was migrated once for the session: to migrate is most of what a test's database costs."""
        if not self.template:
            import harness
            url = self.database("migrated", "template0")
            harness.weir("migrate", env={"WEIR_POSTGRES_URL": url})
            self.template = "migrated"
        return self.template

    def room(self, name, partitions=4, is_migrated=True):
        """Settings for a topic, a database and an empty Redis of one's own."""
        done = self.local("topic", name, "--partitions", str(partitions))
        assert done.returncode == 0, done.stdout + done.stderr
        database = name.replace("-", "_")
        url = self.ledgers[database] = self.database(database, self.migrated() if is_migrated else "template0")
        for node in redis_nodes(self.env["WEIR_REDIS_URL"]):
            node.flushall()
        return {**self.env, "WEIR_KAFKA_TOPIC": name, "WEIR_POSTGRES_URL": url}


    def check_ledgers(self):
        """Of those that were written since they were last looked at."""
        import invariants
        connection = psycopg2.connect(self.env["WEIR_POSTGRES_URL"])
        with connection.cursor() as cursor:
            cursor.execute("select datname, tup_inserted + tup_updated + tup_deleted from pg_stat_database where datname = any(%s)", (list(self.ledgers),))
            written = dict(cursor.fetchall())
        connection.close()
        changed = [name for name, rows in written.items() if self.written.get(name) != rows]
        self.written = written
        for name in changed:
            invariants.check(self.ledgers[name])


@pytest.fixture(autouse=True)
def every_ledger_holds(request):
    """After every test that has servers: what SQL says of each ledger (invariants.py)."""
    yield
    for servers in Servers.all if "servers" in request.fixturenames else ():
        servers.check_ledgers()


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")
    try:
        yield Servers(folder)
    finally:
        subprocess.run([LOCAL, "down", "--wipe", "--dir", folder], capture_output=True, timeout=300, check=False)
