"""A PostgreSQL server of the test's own, that it may kill, follow with a standby, promote, and whose disk it may fill."""
import os
import pathlib
import shutil
import signal
import subprocess
import tempfile

import psycopg2
from pipeline import DEADLINE, until
from ports import free_port

BINARIES = max(pathlib.Path("/usr/lib/postgresql").glob("*/bin/postgres"), key=lambda path: int(path.parts[4])).parent
# It refuses to run as root.
USER = {"user": "postgres", "group": "postgres", "extra_groups": []} if os.geteuid() == 0 else {}
TRADED = ("fsync=off", "full_page_writes=off", "max_connections=50", "shared_buffers=16MB")  # safety against a crash of the machine, for speed


class PostgresProcess:
    """Settings are "name=value". `primary`: it begins as a standby that follows it. `env`: more of it, by the folder of its data."""

    def __init__(self, *settings, env=None, primary=None):
        self.folder = pathlib.Path(tempfile.mkdtemp(prefix="weir-postgres-", dir="/var/tmp"))  # that user postgres can reach
        if USER:
            shutil.chown(self.folder, "postgres", "postgres")
        self.data, self.port, self.process = self.folder / "data", free_port(), None
        self.settings, self.env = settings, env(self.data) if env else {}
        try:
            if primary:
                self._run("pg_basebackup", "-d", primary.url, "-D", self.data, "-R", "-c", "fast", "--no-sync")
            else:
                self._run("initdb", "-D", self.data, "-U", "weir", "-A", "trust", "--locale=C.UTF-8", "--encoding=UTF8", "--no-sync",
                          "--no-instructions")
            self.start()
            if not primary:
                self.ask("create database weir", database="postgres")
        except BaseException:
            self.close()
            raise

    def _run(self, program, *arguments):
        done = subprocess.run([BINARIES / program, *arguments], capture_output=True, text=True, timeout=120, cwd=self.folder, check=False, **USER)
        assert done.returncode == 0, done.stderr

    @property
    def url(self):
        return self.url_of("weir")

    def url_of(self, database):
        return f"postgresql://weir@127.0.0.1:{self.port}/{database}"

    def start(self):
        options = [word for setting in (*TRADED, *self.settings) for word in ("-c", setting)]
        with open(self.folder / "log", "ab") as log:
            self.process = subprocess.Popen(
                [BINARIES / "postgres", "-D", self.data, "-c", "listen_addresses=127.0.0.1", "-c", f"port={self.port}", "-c",
                 "unix_socket_directories=", *options], stdout=log, stderr=log, cwd=self.folder,
                env={"PATH": os.environ["PATH"], "LANG": "C.UTF-8", "TZ": "UTC", **self.env}, **USER)
        until(lambda: f"PostgreSQL does not answer: {self.log()[-2000:]}", self.answers)

    def log(self):
        return (self.folder / "log").read_text(errors="replace")

    def answers(self):
        assert self.process.poll() is None, f"PostgreSQL ended: {self.log()[-2000:]}"
        try:
            psycopg2.connect(self.url_of("postgres")).close()
            return True
        except psycopg2.OperationalError:
            return False

    def ask(self, *statements, database="weir"):
        """Each in a transaction of its own; the rows of the last one."""
        connection = psycopg2.connect(self.url_of(database))
        connection.autocommit = True
        try:
            with connection.cursor() as cursor:
                for statement in statements:
                    cursor.execute(statement)
                return cursor.fetchall() if cursor.description else None
        finally:
            connection.close()

    def kill(self):
        """All its processes at once, without a word to anybody."""
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGQUIT)
            self.process.wait(DEADLINE)

    def close(self):
        self.kill()
        shutil.rmtree(self.folder, ignore_errors=True)
