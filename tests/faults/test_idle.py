"""Windows close on idle lanes; a silent or poisoned partition holds nothing back; back-pressure is seen."""
import datetime
import signal
import threading
import time

from harness import weir
from pipeline import ONE_OWNER, time_text, until


def test_windows_close_on_idle_lanes_one_of_them_silent(pipeline):
    pipeline.send(300, partition=0, repeat=3)  # and nothing ever in partition 1
    worker, rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    lanes = [name for name in worker.metrics() if name.startswith("weir_lane_watermark_seconds")]
    assert len(lanes) == 2
    until("both lanes follow the clock", lambda: all(worker.metric(name) > time.time() - 30 for name in lanes))
    worker.wait_metrics("nothing is left to read", **{f'weir_lane_lag{{lane="{pipeline.name}:0"}}': 0})
    assert rater.is_running()


def test_an_idle_lane_writes_hardly_any_cuts(pipeline):
    """Its watermark follows the clock all the time; raters need not hear of that five times a second."""
    pipeline.config(ONE_OWNER)
    pipeline.send(10, partition=0)
    worker, _rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    lanes = [name for name in worker.metrics() if name.startswith("weir_lane_watermark_seconds")]
    until("both lanes follow the clock", lambda: all(worker.metric(name) > time.time() - 30 for name in lanes))
    before, began = worker.metric('weir_cuts_total{result="written"}'), time.monotonic()
    until("some cuts", lambda: worker.metric('weir_cuts_total{result="written"}') >= before + 6)
    assert time.monotonic() - began > 5, "two lanes, a cut each in five seconds; the first two may have been under way"


def test_a_poisoned_partition_holds_back_neither_the_others_nor_itself(pipeline):
    """Broken events without end in one partition: windows of good events in it close as well."""
    stop = threading.Event()

    def poison():
        number = 0
        while not stop.wait(0.02):
            pipeline.send(lines=[b'{"specversion":"1.0","id":"bad-%d"' % number], partition=1, bad=True)
            number += 1

    pipeline.send(200, partition=0)
    pipeline.send(50, partition=1)
    poisoner = threading.Thread(target=poison)
    poisoner.start()
    try:
        worker, _rater = pipeline.ingest(), pipeline.rater()
        pipeline.check()
        until("the poisoned are kept", lambda: worker.metric('weir_quarantined_events_total{reason="malformed_json"}') > 0)
        lane = f'weir_lane_watermark_seconds{{lane="{pipeline.name}:1"}}'
        until("the poisoned lane follows the clock", lambda: worker.metric(lane) > time.time() - 30)
    finally:
        stop.set()
        poisoner.join()
    until("quarantine is written", lambda: worker.metric("weir_quarantine_backlog") == 0)
    pipeline.check_stays()


def test_a_period_settles_although_one_partition_is_silent(pipeline):
    document = {**pipeline.document, "contracts": [
        {"key": "k", "customer": "c0", "price_book": "b", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None, "billing_period": "day",
         "timezone": "UTC", "commitments": [{"key": "floor", "type": "minimum_spend", "amount": "100000", "per": "period"}]}]}
    pipeline.use_catalog(document)
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    moment = yesterday.replace(hour=12, minute=0, second=0).strftime("%Y-%m-%dT%H:%M:%SZ")
    pipeline.send(lines=[pipeline.event(0, subject="c0", time=moment)], partition=0)
    pipeline.env["WEIR_LATENESS"] = "72h"
    pipeline.ingest()
    pipeline.rater()
    start = time_text(yesterday.replace(hour=0, minute=0, second=0, microsecond=0).timestamp())
    until("yesterday's true-up", lambda: pipeline.query(
        f"select 1 from weir.line_items where kind = 'true_up' and customer = 'c0' and period_start = '{start}'"))


def test_a_period_settles_under_a_steady_stream_of_late_events(pipeline):
    """There is work on the lists at every moment; what was closed before is rated all the same."""
    document = {**pipeline.document, "contracts": [
        {"key": "k", "customer": "c0", "price_book": "b", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None, "billing_period": "day",
         "timezone": "UTC", "commitments": [{"key": "floor", "type": "minimum_spend", "amount": "100000", "per": "period"}]}]}
    pipeline.use_catalog(document)
    yesterday = datetime.datetime.now(datetime.timezone.utc) - datetime.timedelta(days=1)
    midnight = yesterday.replace(hour=0, minute=0, second=0, microsecond=0)
    moments = [time_text((midnight + datetime.timedelta(minutes=minute)).timestamp()) for minute in range(600)]
    pipeline.env["WEIR_LATENESS"] = "72h"
    pipeline.send(lines=[pipeline.event(0, subject="c0", time=moments[0])], partition=0)
    for partition in range(2):  # the day is over for both lanes
        pipeline.send(lines=[pipeline.event(1 + partition, subject="c1", time=time_text(pipeline.now))], partition=partition)
    pipeline.sent = 3
    stop, late = threading.Event(), []

    def stream():
        while not stop.wait(0.01):
            number = pipeline.sent + len(late)
            late.append(pipeline.event(number, subject="c0", time=moments[number % 600]))
            pipeline.send(lines=late[-1:], partition=number % 2)

    pipeline.ingest()
    streaming = threading.Thread(target=stream)
    streaming.start()
    try:
        rater = pipeline.rater()
        until("yesterday's true-up", lambda: pipeline.query(
            f"select 1 from weir.line_items where kind = 'true_up' and customer = 'c0' and period_start = '{time_text(midnight.timestamp())}'"))
        until("it is said", lambda: rater.metric("weir_settled_seconds") >= midnight.timestamp() + 86400)
        assert streaming.is_alive()
    finally:
        stop.set()
        streaming.join()
    pipeline.check()
    total = ("select sum(amount)::numeric(20,2)::text from weir.line_items where contract = 'k' and kind in ('true_up', 'usage')"
             f" and period_start = '{time_text(midnight.timestamp())}'")
    until("what came late is taken off the true-up", lambda: pipeline.query(total) == [("100000.00",)])


def test_a_window_that_cannot_be_rated_holds_back_nobody(pipeline):
    """Its amount does not fit: it is named, kept out, shown by reconcile; everybody else is billed, and so is it when it can be."""
    meters = [meter for meter in pipeline.document["meters"] if meter["key"] != "peak"]
    prices = [{"meter": "tokens", "model": "per_unit", "unit_price": "100"}, {"meter": "calls", "model": "per_unit", "unit_price": "1"}]
    pipeline.use_catalog({**pipeline.document, "meters": meters, "price_books": [{**pipeline.document["price_books"][0], "prices": prices}]})
    huge = {"subject": "c9", "data": {"n": "1" + "0" * 25, "model": "a"}}
    pipeline.send(100)
    pipeline.send(lines=[pipeline.event(5000, **huge)], bad=True)
    pipeline.send(100)
    _worker, rater = pipeline.ingest(), pipeline.rater()
    rater.wait_log("a window of lane .* cannot be rated .*'c9', meter 'tokens'.*does not fit")
    until("the others are billed", lambda: {key: value for key, value in pipeline.usage().items() if key[0] != "c9"} == pipeline.expected())
    until("it is counted", lambda: rater.metric("weir_refused_windows") == 1)
    assert rater.is_running()
    config = ("--config", pipeline.folder / "weir.json")
    done = weir("rater", "--until-done", *config, env=pipeline.env, check=False)
    assert done.returncode == 1 and b"1 windows cannot be" in done.stderr, done.stderr
    for options in ((), ("--repair",)):
        said = weir("reconcile", *options, *config, env=pipeline.env, check=False)
        assert said.returncode == 1 and b"c9" in said.stdout + said.stderr, said
        assert (b"does not fit" if options else b"cannot rate it") in said.stdout + said.stderr, said
    pipeline.send(lines=[pipeline.event(5000, **huge, retraction=True)], bad=True)
    pipeline.check()
    until("it is rated", lambda: rater.metric("weir_refused_windows") == 0)


def test_back_pressure_is_seen_and_told_once(pipeline, own_redis):
    """The store hangs while two workers' worth of changes come in: lanes pause, memory stays bounded, all goes on."""
    pipeline.config(ONE_OWNER)
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_RING_CUTS="1", WEIR_LANE_CHANGES_MAX="1000")
    worker, _rater = pipeline.ingest(), pipeline.rater()
    pipeline.send(10)
    pipeline.check()
    own_redis.freeze()
    pipeline.send(30000, partition=0)
    lane = f'{{lane="{pipeline.name}:0"}}'
    until("the lane is paused", lambda: worker.metric("weir_lane_paused" + lane) == 1)
    figures = worker.metrics()
    assert figures["weir_lanes_paused"] == 1
    assert figures["weir_cuts_in_flight"] == figures["weir_cuts_in_flight_limit"] == 1
    assert 1000 <= figures["weir_lane_unsealed_changes" + lane] < 1000 + 4 * 4096
    until("what waits in Kafka is told", lambda: worker.metric("weir_lane_lag" + lane) > 0)
    own_redis.thaw()
    pipeline.check()
    worker.wait_log("all lanes are read again, after")
    assert worker.log().count("lanes are paused") == 1
    worker.wait_metrics("all are read", weir_lanes_paused=0)
    until("lag", lambda: worker.metric("weir_lane_lag" + lane) == 0)


def test_a_worker_stops_in_time_though_redis_is_away(pipeline, own_redis):
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_HAND_OVER="3s")
    worker = pipeline.ingest()
    own_redis.kill()
    pipeline.send(100)
    worker.wait_log("cannot be written")
    began = time.monotonic()
    worker.send(signal.SIGTERM)
    worker.wait_log(r"lane \S+ (?:given up|handed over)", count=pipeline.partitions)
    assert time.monotonic() - began < 3 + 60, "all lanes share one time to be handed over"
    worker.stop()
    own_redis.start()
    pipeline.ingest()
    pipeline.rater()
    pipeline.check()
