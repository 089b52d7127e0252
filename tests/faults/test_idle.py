"""Windows close on idle lanes; a silent or poisoned partition holds nothing back; back-pressure is seen."""
import datetime
import threading
import time

from pipeline import time_text, until


def test_windows_close_on_idle_lanes_one_of_them_silent(pipeline):
    pipeline.send(300, partition=0, repeat=3)  # and nothing ever in partition 1
    worker, rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    lanes = [name for name in worker.metrics() if name.startswith("weir_lane_watermark_seconds")]
    assert len(lanes) == 2
    until("both lanes follow the clock", lambda: all(worker.metric(name) > time.time() - 30 for name in lanes))
    assert worker.metric(f'weir_lane_lag{{lane="{pipeline.name}:0"}}') == 0
    assert rater.is_running()


def test_an_idle_lane_writes_hardly_any_cuts(pipeline):
    """Its watermark follows the clock all the time; raters need not hear of that five times a second."""
    pipeline.send(10, partition=0)
    worker, _rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    lanes = [name for name in worker.metrics() if name.startswith("weir_lane_watermark_seconds")]
    until("both lanes follow the clock", lambda: all(worker.metric(name) > time.time() - 30 for name in lanes))
    before, began = worker.metric('weir_cuts_total{result="written"}'), time.monotonic()
    until("some cuts", lambda: worker.metric('weir_cuts_total{result="written"}') >= before + 4)
    assert time.monotonic() - began > 4, "two lanes, a cut each in five seconds"


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
        assert worker.metric('weir_quarantined_events_total{reason="malformed_json"}') > 0
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


def test_back_pressure_is_seen_and_told_once(pipeline, own_redis):
    """The store hangs while two workers' worth of changes come in: lanes pause, memory stays bounded, all goes on."""
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
    assert figures["weir_lane_lag" + lane] > 0
    own_redis.thaw()
    pipeline.check()
    worker.wait_log("all lanes are read again, after")
    assert worker.log().count("lanes are paused") == 1
    assert worker.metric("weir_lanes_paused") == 0
    until("lag", lambda: worker.metric("weir_lane_lag" + lane) == 0)


def test_a_worker_stops_in_time_though_redis_is_away(pipeline, own_redis):
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_HAND_OVER="3s")
    worker = pipeline.ingest()
    own_redis.kill()
    pipeline.send(100)
    worker.wait_log("cannot be written")
    began = time.monotonic()
    worker.stop(90)
    assert time.monotonic() - began < 3 + 20, "all lanes share one time to be handed over"
    own_redis.start()
    pipeline.ingest()
    pipeline.rater()
    pipeline.check()
