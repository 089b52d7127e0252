"""Redis away for as long as operators need to bring it back, while producers go on.

Minutes matter because of the times that pass in them: the group's session and max.poll.interval, the systemd watchdog, the
longest pauses between tries, and the empty cut by which a lane looks whether the store is still its own. In CI all of
them are a few seconds, so 20 s are several of each; only the 30 s that an answer may take pass in the long run alone.
WEIR_FAULTS_LONG=1 takes weir's own settings and three minutes."""
import os
import threading
import time

from pipeline import DEADLINE, until
from test_life import notify  # noqa: F401: a fixture

IS_LONG = bool(os.environ.get("WEIR_FAULTS_LONG"))
AWAY = 180 if IS_LONG else 20
# What of weir's own is not a setting: tries are at most 2 s (cuts) and 5 s (a rater) apart, a lane looks every 5 s.
TIMES = {"session.timeout.ms": "10000", "max.poll.interval.ms": "60000"} if IS_LONG else {"session.timeout.ms": "3000", "max.poll.interval.ms": "4000"}
MEMORY = 64 << 20
# How long systemd may hear nothing: its watchdog (2 s); on cores that others use too, less than Redis hangs.
SILENCE = 2 if IS_LONG else AWAY / 2 - 2


def test_redis_gone_for_minutes_under_steady_production(pipeline, own_redis, notify):  # noqa: F811
    """First it does not answer, then nobody listens; a second worker joins in the middle, and the lanes change hands."""
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_RING_CUTS="4", WEIR_LANE_CHANGES_MAX="1000", WEIR_HAND_OVER="2s")
    pipeline.config({"heartbeat.interval.ms": "500", "queued.max.messages.kbytes": "4096", **TIMES})
    worker, rater = pipeline.ingest(env=notify.env), pipeline.rater()
    pipeline.send(2000, repeat=5)
    pipeline.check()
    stop, memory = threading.Event(), [worker.memory()]

    def produce():
        pipeline.send(6000)  # what may wait unsealed is full
        while not stop.is_set():
            pipeline.send(100, repeat=5)
            stop.wait(0.2)

    def pass_time(seconds):
        deadline = time.monotonic() + seconds
        while time.monotonic() < deadline:
            memory.append(worker.memory())
            time.sleep(0.2)  # the outage is the time that passes

    notify.forget()
    producing = threading.Thread(target=produce)
    producing.start()
    try:
        own_redis.freeze()
        until("all lanes are paused", lambda: worker.metric("weir_lanes_paused") == pipeline.partitions)
        pass_time(AWAY / 2)
        if IS_LONG:
            worker.wait_log("cannot be written, holding everything and trying again: .*no answer within 30 s")
        own_redis.kill()
        worker.wait_log("cannot be written, holding everything and trying again")
        second = pipeline.ingest(taken=0)
        pass_time(AWAY / 2)
        for process, up in ((worker, "weir_window_store_up"), (second, "weir_window_store_up"), (rater, "weir_rater_up")):
            process.wait_metrics("Redis is gone", **{up: 0})
            process.wait_ready(False)
        assert all(process.is_running() for process in (worker, rater, second))
        own_redis.start()  # empty: it had no persistence
    finally:
        own_redis.thaw()
        stop.set()
        producing.join(DEADLINE)
    silence = max(notify.silences("WATCHDOG=1"))
    pipeline.check(120)
    for process in (worker, second):
        process.wait_log("again, after")
    rater.wait_log("windows are rated again, after")
    until("ready", lambda: worker.ready() and second.ready() and rater.ready())
    assert max(memory) - memory[0] < MEMORY, f"{memory[0]} to {max(memory)} bytes"
    assert silence < SILENCE, f"systemd heard nothing for {silence:.1f} s"
    print(f"away {AWAY} s: memory {memory[0] >> 20} to {max(memory) >> 20} MiB, longest silence {silence:.1f} s, {pipeline.sent} events")
    pipeline.check_stays()
