"""A redis-server of the test's own, that it may stop, kill, starve and promote."""
import os
import pathlib
import signal
import subprocess
import time

import redis

from ports import free_port


class RedisProcess:
    def __init__(self, folder, *options, port=None, appendonly=False, env=None):
        self.folder = pathlib.Path(folder)
        self.folder.mkdir(parents=True, exist_ok=True)
        self.port = port or free_port()
        self.appendonly = appendonly
        self.options = options
        self.env = {**os.environ, **(env or {})}
        self.process = None
        self.start()

    @property
    def url(self):
        return f"redis://127.0.0.1:{self.port}"

    def client(self):
        return redis.Redis(port=self.port, socket_timeout=60)

    def start(self):
        self.process = subprocess.Popen(
            ["redis-server", "--bind", "127.0.0.1", "--port", str(self.port), "--dir", self.folder, "--save", "", "--appendonly",
             "yes" if self.appendonly else "no", "--appendfsync", "always", "--maxmemory-policy", "noeviction", "--enable-debug-command",
             "local", "--logfile", "log", *self.options], env=self.env, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        deadline = time.monotonic() + 60
        while True:
            try:
                if self.client().info("server")["process_id"] == self.process.pid:
                    return
            except (redis.exceptions.ConnectionError, redis.exceptions.BusyLoadingError):
                pass
            assert self.process.poll() is None, "redis-server ended: " + (self.folder / "log").read_text()[-500:]
            assert time.monotonic() < deadline, "redis-server does not answer"
            time.sleep(0.02)  # between two looks

    def kill(self):
        if self.process and self.process.poll() is None:
            self.process.send_signal(signal.SIGCONT)
            self.process.kill()
            self.process.wait()

    close = kill

    def freeze(self):
        self.process.send_signal(signal.SIGSTOP)

    def thaw(self):
        self.process.send_signal(signal.SIGCONT)
