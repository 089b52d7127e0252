"""weir's own processes in a trial: started, frozen, killed, and started again when they end by themselves, as systemd would."""
import collections
import os
import re
import signal
import subprocess
import threading
import time
import urllib.request

from ports import free_port, give_back
from servers import PATIENCE

RESTART_SECONDS = 0.3
_METRIC = re.compile(r"^(weir_\w+(?:\{[^}]*\})?) (\d+)$", re.MULTILINE)


class Worker:
    """One name, of a process after another."""

    def __init__(self, name, command, log):
        self.name = name
        self.command = command
        self.log = log
        self.lock = threading.RLock()
        self.process = None
        self.is_wanted = False
        self.is_frozen = False
        self.is_leaving = False  # this process was told to
        self.port = None
        self.ended_at = 0.0

    def is_running(self):
        return self.process is not None and self.process.poll() is None


class Crew:
    def __init__(self, binary, folder, environment, config):
        self.binary = binary
        self.folder = folder
        self.environment = environment
        self.config = config
        self.workers = {}
        self.exits = []  # (name, exit code, last words) of those that ended by themselves
        self.metrics = collections.Counter()
        self._pages = {}
        self._stop = threading.Event()
        self._threads = [threading.Thread(target=target, daemon=True) for target in (self._look_after, self._read_pages)]
        for thread in self._threads:
            thread.start()

    def _worker(self, name):
        if name not in self.workers:
            command = "rater" if name.startswith("rater") else "ingest"
            self.workers[name] = Worker(name, command, self.folder / f"{name}.log")
        return self.workers[name]

    # ---- by name; each may come at any time, and one that does not fit changes nothing

    def start(self, name):
        worker = self._worker(name)
        with worker.lock:
            worker.is_wanted = True
            if not worker.is_running():
                self._launch(worker)

    def kill(self, name):
        worker = self._worker(name)
        with worker.lock:
            worker.is_wanted = False
            self._end(worker, signal.SIGKILL)

    def leave(self, name):
        worker = self._worker(name)
        with worker.lock:
            if worker.is_frozen:
                return
            worker.is_wanted = False
            if worker.is_running():
                worker.is_leaving = True
                worker.process.send_signal(signal.SIGTERM)
        wait_until = time.monotonic() + PATIENCE
        while worker.is_running() and not worker.is_wanted and not worker.is_frozen:
            assert time.monotonic() < wait_until, f"{name} does not stop on SIGTERM within {PATIENCE} s"
            time.sleep(0.02)

    def freeze(self, name):
        worker = self._worker(name)
        with worker.lock:
            if worker.is_running():
                worker.process.send_signal(signal.SIGSTOP)
                worker.is_frozen = True

    def thaw(self, name):
        worker = self._worker(name)
        with worker.lock:
            if worker.is_running():
                worker.process.send_signal(signal.SIGCONT)
            worker.is_frozen = False

    # ---- the whole

    def heal(self, names):
        """All that should run does, and nobody else."""
        for name in list(self.workers):
            self.thaw(name)
        for name in list(self.workers):
            if name not in names:
                self.leave(name)
        for name in names:
            self.start(name)

    def finish(self):
        """Everybody leaves."""
        for name in list(self.workers):
            self.thaw(name)
            self.leave(name)

    def close(self):
        self._stop.set()
        for worker in self.workers.values():
            with worker.lock:
                worker.is_wanted = False
                self._end(worker, signal.SIGKILL)
                give_back(worker.port)
        for thread in self._threads:
            thread.join(10)

    def log_text(self):
        return "".join(worker.log.read_text(errors="replace") for worker in self.workers.values() if worker.log.exists())

    def _launch(self, worker):
        self._keep_page(worker)
        give_back(worker.port)
        worker.port = free_port()
        with open(worker.log, "ab") as log:
            log.write(f"---- {worker.name} starts at {time.time():.3f}\n".encode())
            log.flush()
            worker.process = subprocess.Popen(
                [self.binary, worker.command, "--config", self.config, "--metrics-listen", f"127.0.0.1:{worker.port}"],
                env={**os.environ, **self.environment}, stdin=subprocess.DEVNULL, stdout=log, stderr=log)
        worker.is_frozen = worker.is_leaving = False

    def _judge(self, worker):
        """One that was told to leave may be done; one that found no server at its start may say so and give up."""
        code = worker.process.returncode
        last = worker.log.read_text(errors="replace").rpartition(f"---- {worker.name} starts at ")[2]
        if not (worker.is_leaving and code == 0) and not (code == 1 and "metrics on port" not in last):
            self.exits.append((worker.name, code, last.strip().rpartition("\n")[2]))

    def _end(self, worker, number):
        if worker.is_running():
            worker.process.send_signal(number)
            worker.process.wait(PATIENCE)
        worker.is_frozen = False

    def _look_after(self):
        while not self._stop.wait(0.05):
            for worker in list(self.workers.values()):
                with worker.lock:
                    if not worker.is_wanted or worker.process is None or worker.process.poll() is None:
                        worker.ended_at = 0.0
                    elif not worker.ended_at:
                        worker.ended_at = time.monotonic()
                        self._judge(worker)
                    elif time.monotonic() - worker.ended_at > RESTART_SECONDS:
                        self._launch(worker)

    # ---- metrics: what a process last said before it ended

    def _keep_page(self, worker):
        self.metrics.update(self._pages.pop(worker.port, {}))

    def _read_pages(self):
        while not self._stop.wait(0.3):
            for worker in list(self.workers.values()):
                if worker.is_running() and not worker.is_frozen:
                    try:
                        with urllib.request.urlopen(f"http://127.0.0.1:{worker.port}/metrics", timeout=0.3) as answer:
                            page = answer.read().decode()
                    except OSError:
                        continue
                    self._pages[worker.port] = {name: int(value) for name, value in _METRIC.findall(page)}

    def counters(self):
        total = collections.Counter(self.metrics)
        for page in self._pages.values():
            total.update(page)
        return total
