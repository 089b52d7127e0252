"""A daemon's life as users see it: start, the pages that orchestrators ask, systemd, the log, and the end."""
import contextlib
import json
import os
import pty
import re
import signal
import socket
import subprocess
import threading
import time
import urllib.error
import urllib.request

import pytest
from harness import BINARY
from pipeline import DEADLINE, ONE_OWNER, until


def page(process, path):
    """(status, first line)"""
    port = process.wait_log(r"metrics on port (\d+)")[0]
    try:
        with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=60) as answer:
            return answer.status, answer.read().decode().splitlines()[0]
    except urllib.error.HTTPError as error:
        return error.code, error.read().decode().splitlines()[0]


def last_line(process):
    return process.log().splitlines()[-1]


def at(pipeline, number, minute):
    """An event of one of the last two hours' minutes."""
    start = int(pipeline.now - 7200) // 60 * 60 + 60 * minute
    return pipeline.event(number, time=pipeline_time(start + number % 60), subject="c0")


def pipeline_time(seconds):
    from pipeline import time_text
    return time_text(seconds)


class Notify:
    """What systemd would hear, as it comes: a daemon that tells it something waits while nobody takes it."""

    def __init__(self, folder, watchdog_usec=2000000):
        self.socket = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM)
        self.socket.bind(str(folder / "notify"))
        self.env = {"NOTIFY_SOCKET": str(folder / "notify"), "WATCHDOG_USEC": str(watchdog_usec)}
        self.heard, self.news, self.is_closed = [], threading.Condition(), False
        self.listener = threading.Thread(target=self._listen)
        self.listener.start()

    def _listen(self):
        while not self.is_closed:
            text = self.socket.recv(4096).decode()
            with self.news:
                self.heard.append((time.monotonic(), text))
                self.news.notify_all()

    def close(self):
        self.is_closed = True
        with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as last:
            last.sendto(b"", self.env["NOTIFY_SOCKET"])
        self.listener.join()
        self.socket.close()

    def wait(self, text, count=1):
        """Until `text` has come so often; what came up to there, which is forgotten."""
        def at():
            return [number for number, (_when, message) in enumerate(self.heard, 1) if message.startswith(text)]
        with self.news:
            assert self.news.wait_for(lambda: len(at()) >= count, DEADLINE), f"systemd never hears {text}: {self.heard[-5:]}"
            end = at()[count - 1]
            messages = [message for _when, message in self.heard[:end]]
            del self.heard[:end]
            return messages

    def forget(self):
        with self.news:
            self.heard.clear()

    def silences(self, text):
        """Seconds between one `text` and the next, of all that is not forgotten."""
        with self.news:
            times = [when for when, message in self.heard if message.startswith(text)]
        return [later - earlier for earlier, later in zip(times, times[1:])]


@pytest.fixture
def notify(tmp_path):
    made = Notify(tmp_path)
    yield made
    made.close()


def test_sigterm_writes_what_was_read_and_hands_over(pipeline):
    pipeline.config(ONE_OWNER)
    pipeline.env.update(WEIR_FLUSH_INTERVAL="60s", WEIR_IDLE="1h")
    worker = pipeline.ingest()
    pipeline.send(400, repeat=4)
    until("all is read", lambda: worker.metric('weir_events_total{outcome="duplicate"}') == 100)
    worker.stop()
    assert len(re.findall(r"lane \S+ handed over, all written", worker.log())) == pipeline.partitions
    assert re.fullmatch(r"weir ingest: read=500 counted=400 duplicate=100 unmatched=0 retracted=0 quarantined=0 seconds=\d+\.\d{3}"
                        r" events_per_second=\d+", last_line(worker))
    pipeline.env.update(WEIR_FLUSH_INTERVAL="50ms", WEIR_IDLE="300ms")
    again, rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    assert sum(again.metric(f'weir_events_total{{outcome="{name}"}}') for name in ("counted", "duplicate")) == 0, "something was read again"
    rater.stop()
    assert last_line(rater).startswith("weir rater: windows=")


def test_windows_close_by_watermark_and_when_idle(pipeline):
    """The watermark closes what lies before it; the newest window waits for the clock, while the lane is idle."""
    pipeline.config(ONE_OWNER)
    pipeline.env.update(WEIR_IDLE="1h", WEIR_DISORDER="0s")
    worker, _rater = pipeline.ingest(), pipeline.rater()
    pipeline.send(lines=[at(pipeline, number, 0) for number in range(30)] + [at(pipeline, 30, 1)], partition=0)
    calls = "select sum(quantity)::int from weir.line_items where item = 'calls'"
    until("the first window is rated", lambda: pipeline.query(calls) == [(30,)])
    windows = "select count(*) from weir.rated_windows where meter = 'calls'"
    rated = pipeline.query(windows)
    pipeline.send(lines=[at(pipeline, 31, 1)], partition=0)
    until("the event is read", lambda: worker.metric('weir_events_total{outcome="counted"}') == 32)
    assert pipeline.query(calls) == [(30,)] and pipeline.query(windows) == rated
    worker.stop()
    pipeline.env["WEIR_IDLE"] = "300ms"
    pipeline.ingest()
    pipeline.check()


def test_the_pages(pipeline):
    worker, rater = pipeline.ingest(), pipeline.rater()
    pipeline.send(50)
    pipeline.check()
    for process in (worker, rater):
        until("ready", process.ready)
        assert page(process, "/healthz") == (200, "ok") and page(process, "/readyz") == (200, "ready")
        assert page(process, "/metrics")[1].startswith("# HELP weir_")
        assert page(process, "/nothing")[0] == 404


def test_readiness_follows_redis(pipeline, own_redis):
    pipeline.env["WEIR_REDIS_URL"] = own_redis.url
    own_redis.kill()
    worker, rater = pipeline.ingest(taken=0), pipeline.rater()
    until("the worker says why", lambda: page(worker, "/readyz") == (503, "the window store does not answer"))
    until("the rater says why", lambda: page(rater, "/readyz") == (503, "a server does not answer"))
    own_redis.start()
    until("the worker is ready", worker.ready)
    until("the rater is ready", rater.ready)
    own_redis.kill()
    until("the worker is not ready", lambda: not worker.ready())
    until("the rater is not ready", lambda: not rater.ready())
    assert page(worker, "/healthz") == page(rater, "/healthz") == (200, "ok"), "their loops go round: no restart would help"
    own_redis.start()
    until("the worker is ready again", worker.ready)
    until("the rater is ready again", rater.ready)


def test_systemd_hears_what_it_waits_for_and_that_it_lives_meanwhile(pipeline, own_redis, notify):
    """Redis is away at the start, and again at the end, when the last cut waits for it."""
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_HAND_OVER="5s")
    own_redis.kill()
    worker = pipeline.ingest(taken=0, env=notify.env)
    assert notify.wait("STATUS=the window store does not answer")[0].startswith("READY=1")
    notify.wait("WATCHDOG=1", 4)
    own_redis.start()
    notify.wait("STATUS=consuming")
    own_redis.kill()
    pipeline.send(100)
    until("all is read", lambda: worker.metric('weir_events_total{outcome="counted"}') == 100)
    notify.wait("STATUS=the window store does not answer")
    notify.forget()
    worker.send(signal.SIGTERM)
    assert notify.wait("STOPPING=1").count("WATCHDOG=1") >= 3, "nobody told the watchdog while the last cuts waited"
    assert worker.ended() == 0
    own_redis.start()


def test_json_logs_are_json(pipeline, own_redis):
    pipeline.env["WEIR_REDIS_URL"] = own_redis.url
    worker, rater = pipeline.ingest("--log-format", "json"), pipeline.rater("--log-format", "json")
    pipeline.send(100, repeat=10)
    pipeline.send(lines=[b"no event"], bad=True)
    pipeline.check()
    own_redis.kill()
    pipeline.send(10)
    worker.wait_log("cannot be written")
    rater.wait_log("nothing is rated")
    own_redis.start()
    pipeline.check()
    worker.stop()
    rater.stop()
    for process, name, last in ((worker, "weir ingest", "read="), (rater, "weir rater", "windows=")):
        lines = [json.loads(line) for line in process.log().splitlines()]
        assert {line["command"] for line in lines} == {name} and lines[-1]["message"].startswith(last)
        assert all(re.fullmatch(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d\.\d{3}Z", line["time"]) for line in lines)


@pytest.mark.parametrize("command", [("ingest", "--until-end"), ("rater", "--until-done")], ids=lambda c: c[0])
def test_a_batch_run_that_is_stopped_early_has_failed(pipeline, own_redis, command):
    pipeline.env["WEIR_REDIS_URL"] = own_redis.url
    pipeline.send(10)
    own_redis.kill()
    process = pipeline.start(*command)
    process.wait_log("trying again")
    process.send(signal.SIGTERM)
    assert process.ended() == 1
    assert "stopped by a signal before" in last_line(process) and "start it again to go on" in last_line(process)


@pytest.mark.parametrize("command, away", [(("ingest", "--until-end"), "WEIR_REDIS_URL"), (("rater", "--until-done"), "WEIR_REDIS_URL"),
                                           (("rater", "--until-done"), "WEIR_POSTGRES_URL")])
def test_a_batch_run_does_not_wait_for_ever(pipeline, command, away):
    pipeline.send(10)
    pipeline.env[away] = {"WEIR_REDIS_URL": "redis://127.0.0.1:1", "WEIR_POSTGRES_URL": "postgresql://127.0.0.1:1/weir"}[away]
    process = pipeline.start(*command, "--patience", "2s")
    assert process.ended() == 1
    assert "atience is at its end" in last_line(process), process.log()


def test_a_batch_run_shows_progress_on_a_terminal(pipeline):
    pipeline.send(10)
    master, terminal = pty.openpty()
    env = {**os.environ, **pipeline.env, "WEIR_REDIS_URL": "redis://127.0.0.1:1"}
    with subprocess.Popen([BINARY, "ingest", "--until-end", "--patience", "5s", "--config", pipeline.folder / "weir.json"], env=env,
                          stdout=subprocess.DEVNULL, stderr=terminal) as process:
        os.close(terminal)
        shown = b""
        with contextlib.suppress(OSError):  # the terminal is gone with the process
            while chunk := os.read(master, 4096):
                shown += chunk
        assert process.wait(DEADLINE + 80) == 1
    os.close(master)
    assert b"\r\x1b[Kweir ingest: 0 events; the window store does not answer" in shown, shown


def test_a_rater_refuses_more_lanes_than_it_knows_of(pipeline, own_redis):
    """It would settle periods without the rest."""
    pipeline.env["WEIR_REDIS_URL"] = own_redis.url
    pipeline.send(10)
    pipeline.ingest().stop()
    client, name = own_redis.client(), pipeline.env["WEIR_KAFKA_TOPIC"]
    lane = client.dump(f"weir:{{{name}:0}}:lane")
    for first in range(2, 65538, 8192):
        batch = client.pipeline(transaction=False)
        for number in range(first, min(first + 8192, 65537)):
            batch.restore(f"weir:{{{name}:{number}}}:lane", 0, lane)
            batch.sadd("weir:lanes", f"{name}:{number}")
        batch.execute()
    process = pipeline.start("rater", "--until-done")
    assert process.ended() == 1
    assert "has more than 65536 lanes" in last_line(process), process.log()
