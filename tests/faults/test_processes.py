"""Processes killed, stopped for too long, out of memory, with full disks and a clock that jumps."""
import resource
import signal
import subprocess
import time
import urllib.request

import pytest
from harness import BINARY, weir
from jumping_clock import JumpingClock
from pipeline import DEADLINE, ONE_OWNER, time_text, until
from ports import free_port

def test_kill_9_of_worker_and_rater_again_and_again(pipeline):
    for number in range(3):
        worker, rater = pipeline.ingest(), pipeline.rater(env={"WEIR_RATER_BATCH": "30"})
        pipeline.send(400, repeat=3)
        pipeline.send(lines=[b"{broken %d" % number], partition=number % 2, bad=True)
        until("something is rated", lambda: rater.metric("weir_line_items_total") > 0)
        worker.kill()
        rater.kill()
        pipeline.send(50, repeat=2)
    pipeline.ingest()
    pipeline.rater()
    pipeline.check()
    until("all broken events are kept", lambda: len(pipeline.quarantined()) == 3)
    pipeline.check_stays()


def test_a_worker_that_the_group_knows_goes_on_at_once_after_kill_9(pipeline):
    """With group.instance.id the group does not wait for the session of the dead one: five minutes here."""
    pipeline.config({"session.timeout.ms": "300000", "group.instance.id": "worker-1"})
    pipeline.rater()
    for _ in range(3):
        worker = pipeline.ingest()
        pipeline.send(400, repeat=3)
        until("some of it is counted", lambda: worker.metric('weir_events_total{outcome="counted"}') > 0)
        worker.kill()
        pipeline.send(50, repeat=2)
    worker = pipeline.ingest()
    pipeline.check()
    worker.stop()
    pipeline.send(100, repeat=2)
    pipeline.ingest()
    pipeline.check()


def test_a_zombie_that_wakes_is_fenced(pipeline):
    """Stopped for longer than its session with everything in hand: read, unsealed, and cuts under way."""
    zombie = pipeline.ingest(env={"WEIR_FLUSH_INTERVAL": "2s"})
    pipeline.rater()
    pipeline.send(300, repeat=4)
    pipeline.send(lines=[b"{broken 1"], partition=0, bad=True)
    until("it has read them", lambda: zombie.metric('weir_events_total{outcome="counted"}') >= 300)
    pipeline.send(300, repeat=4)
    zombie.send(signal.SIGSTOP)
    heir = pipeline.ingest()  # gets the lanes when the zombie's session is over
    pipeline.send(300, repeat=4)
    pipeline.check()
    zombie.send(signal.SIGCONT)
    pipeline.send(300, repeat=4)
    zombie.wait_log("given up|handed over|reading it again from its stored cut")
    pipeline.send(300, repeat=4)
    pipeline.check()
    assert zombie.is_running() and heir.is_running()
    assert len(pipeline.quarantined()) == 1
    pipeline.check_stays()


def test_a_zombie_rater_that_wakes_bills_nothing_twice(pipeline):
    pipeline.ingest()
    zombie = pipeline.rater(env={"WEIR_RATER_BATCH": "10"})
    for _ in range(4):
        pipeline.send(200, repeat=4)
        zombie.send(signal.SIGSTOP)  # anywhere: it may hold a transaction, claims, or a list of work
        time.sleep(0.3)
        other = pipeline.rater()
        pipeline.send(200, repeat=4)
        time.sleep(0.3)
        zombie.send(signal.SIGCONT)
        other.stop()
    pipeline.check()
    pipeline.check_stays()


def test_out_of_memory_is_a_clear_death_and_exact_after_it(pipeline):
    """Windows of wide series fill the memory that the worker may have."""
    pipeline.use_catalog({**pipeline.document, "meters": [
        {"key": "calls", "event_type": "use", "aggregation": "count", "window": "1m", "group_by": ["wide", "wider", "widest"]}], "price_books": [
        {**pipeline.document["price_books"][0], "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "0.1"}]}]})

    def send(count):
        lines = [pipeline.event(pipeline.sent + number, data={"wide": f"{pipeline.sent + number:0250}", "wider": "r" * 250, "widest": "t" * 250})
                 for number in range(count)]
        pipeline.sent += count
        pipeline.send(lines=lines)

    pipeline.env["MALLOC_ARENA_MAX"] = "1"  # of others, glibc reserves more than it uses, now so and now so
    worker = pipeline.ingest()
    pipeline.rater()
    send(100)
    pipeline.check()
    with open(f"/proc/{worker.process.pid}/statm", encoding="ascii") as file:
        size = int(file.read().split()[0]) * resource.getpagesize()
    worker.stop()
    limited = pipeline.ingest(wrap=("prlimit", f"--as={size + (4 << 20)}"), taken=0)
    send(12000)
    assert limited.process.wait(120) != 0
    # weir's own word, librdkafka's assertion, or no room for one of its threads
    assert any(word in limited.log() for word in ("out of memory", "Assertion", "Unable to create")), limited.log()[-1000:]
    pipeline.processes.remove(limited)
    pipeline.ingest()
    pipeline.check(120)


def test_a_full_disk_for_the_log_stops_nothing(pipeline):
    port = free_port()
    with open("/dev/full", "wb") as full:
        worker = pipeline.ingest(taken=0, stderr=full, env={"WEIR_METRICS_LISTEN": f"127.0.0.1:{port}"})
        rater = pipeline.rater(stderr=full)
        pipeline.send(300, repeat=4)
        pipeline.send(lines=[b"{broken"], partition=0, bad=True)
        pipeline.check()
        assert urllib.request.urlopen(f"http://127.0.0.1:{port}/readyz", timeout=60).status == 200
        worker.stop()
        rater.stop()


@pytest.mark.parametrize("option", ["--quarantine", "--output"])
def test_a_full_disk_for_what_weir_rate_writes(pipeline, tmp_path, option):
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"\n".join([pipeline.event(number) for number in range(2000)] + [b"{broken"] * 2000))
    done = weir("rate", "--catalog", tmp_path / "catalog.json", option, "/dev/full", events, check=False)
    assert done.returncode == 1
    assert b"No space left" in done.stderr and option[2:].encode() in done.stderr, done.stderr
    assert len(done.stderr.splitlines()) == 1, done.stderr


def test_a_full_disk_for_standard_output(pipeline, tmp_path):
    events = tmp_path / "events.ndjson"
    events.write_bytes(b"\n".join(pipeline.event(number) for number in range(100)))
    with open("/dev/full", "wb") as full:
        done = subprocess.run([BINARY, "rate", "--catalog", tmp_path / "catalog.json", events], stdout=full, stderr=subprocess.PIPE,
                              timeout=60, check=False)
    assert done.returncode == 1 and b"No space left" in done.stderr


def test_the_clock_jumps_forward_and_back(pipeline, tmp_path):
    """By a year and by an hour: no event is turned away, no lane closes a time that has not passed, an owner's watermark
    never goes back, and flushing goes on by the time that passes."""
    pipeline.config(ONE_OWNER)
    clock = JumpingClock(tmp_path)
    worker = pipeline.ingest(env={**clock.env, "WEIR_LATENESS": "3h"})
    pipeline.rater()
    lanes = [f'weir_lane_watermark_seconds{{lane="{pipeline.name}:{number}"}}' for number in range(2)]
    marks = [0, 0]

    def look():
        nonlocal marks
        page = worker.metrics()
        new = [page[lane] for lane in lanes]
        assert all(mark >= earlier for mark, earlier in zip(new, marks)), "a watermark went back"
        assert all(mark <= time.time() + 5 for mark in new), "a time is closed that has not passed"
        marks = new

    def now_events(count):
        lines = [pipeline.event(pipeline.sent + number, time=time_text(time.time() - 1)) for number in range(count)]
        pipeline.sent += count
        pipeline.send(lines=lines)

    pipeline.send(100)
    pipeline.check()
    until("idle lanes follow the clock", lambda: min(worker.metric(lane) for lane in lanes) > time.time() - 60)
    look()
    for ahead in (365 * 86400, 0, -7200, 0, 3700 * 86400, 0):
        clock.jump(ahead)
        until(f"the clock is off by {ahead} s", lambda a=ahead: abs(worker.metric("weir_clock_jump_seconds") - a) <= 2)
        look()
        time.sleep(0.5)  # idle for longer than the setting, in this time
        look()
        now_events(20)
        pipeline.send(20)
        expected = pipeline.sent
        until("all are counted", lambda e=expected: worker.metric('weir_events_total{outcome="counted"}') >= e)
        look()
    pipeline.check(DEADLINE + 60)  # the last window closes with its minute
    worker.wait_log("the system's clock jumped", count=3)
    worker.wait_log("the system's clock and the time that passed agree again", count=3)
    assert not pipeline.quarantined()
    worker.stop()
