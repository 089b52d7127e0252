"""Redis away, empty, behind, full, slow: consumption pauses, says so, and goes on by itself; each event counts once."""
import re
import time

import pytest
from pipeline import ONE_OWNER, until
from redis_process import RedisProcess


def with_redis(pipeline, own):
    pipeline.env["WEIR_REDIS_URL"] = own.url


def test_restart_with_append_only_file(pipeline, tmp_path):
    pipeline.config(ONE_OWNER)
    own = RedisProcess(tmp_path / "aof", appendonly=True)
    try:
        with_redis(pipeline, own)
        pipeline.send(500, repeat=5)
        worker, _rater = pipeline.ingest(), pipeline.rater()
        pipeline.check()
        own.kill()
        pipeline.send(500, repeat=5)
        worker.wait_log("cannot be written")
        own.start()
        pipeline.send(200, repeat=3)
        pipeline.check()
        assert worker.metric('weir_cuts_total{result="fenced"}') == 0, "an append-only file that is always synced goes back nowhere"
        pipeline.check_stays()
    finally:
        own.close()


def test_restart_without_persistence(pipeline, own_redis):
    with_redis(pipeline, own_redis)
    pipeline.send(500, repeat=5)
    worker, _rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    own_redis.kill()
    own_redis.start()
    pipeline.send(300, repeat=4)
    pipeline.check()
    worker.wait_log("reading it again from its stored cut")
    assert re.search(r": lane \S+: Redis holds epoch", worker.log()) and not re.search(r"lane \S+: lane ", worker.log())
    pipeline.check_stays()


def test_failover_to_a_replica_seconds_behind(pipeline, tmp_path, own_redis):
    replica = RedisProcess(tmp_path / "replica")
    try:
        with_redis(pipeline, own_redis)
        pipeline.send(400, repeat=5)
        worker, _rater = pipeline.ingest(), pipeline.rater()
        pipeline.check()
        replica.client().replicaof("127.0.0.1", own_redis.port)
        until("the replica is in step", lambda: replica.client().info("replication").get("master_link_status") == "up")
        replica.client().replicaof("NO", "ONE")  # from here on it falls behind
        pipeline.send(400, repeat=5)
        pipeline.check()
        own_redis.kill()
        # The primary's address leads to the replica now, as a virtual address or a DNS name would.
        replica.client().config_set("port", str(own_redis.port))
        replica.port = own_redis.port
        pipeline.send(300, repeat=4)
        pipeline.check()
        worker.wait_log("reading it again from its stored cut")
        pipeline.check_stays()
    finally:
        replica.close()


def test_out_of_memory(pipeline, own_redis):
    with_redis(pipeline, own_redis)
    pipeline.send(300)
    worker, rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    client = own_redis.client()
    client.config_set("maxmemory", 1)
    pipeline.send(2000, repeat=10)
    worker.wait_log("over its maxmemory")
    until("the store is down", lambda: worker.metric("weir_window_store_up") == 0)
    assert worker.is_running() and rater.is_running()
    client.config_set("maxmemory", 0)
    worker.wait_log("again")
    pipeline.check()
    worker.wait_metrics("there is room again", weir_window_store_up=1)
    pipeline.check_stays()


@pytest.mark.parametrize("how", ["pause", "sleep", "frozen"])
def test_slow(pipeline, own_redis, how):
    with_redis(pipeline, own_redis)
    pipeline.send(300)
    worker, _rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    for _ in range(3):
        if how == "pause":
            own_redis.client().client_pause(700)
        elif how == "sleep":
            own_redis.client().execute_command("DEBUG", "SLEEP", "0.7")
        else:
            own_redis.freeze()
        pipeline.send(500, repeat=5)
        own_redis.thaw()
    pipeline.check()
    assert worker.is_running()


def test_away_when_the_worker_starts(pipeline, own_redis):
    """Lanes that cannot be taken are waited for, not given up with the process."""
    with_redis(pipeline, own_redis)
    own_redis.kill()
    pipeline.send(500, repeat=5)
    worker = pipeline.ingest(taken=0)
    rater = pipeline.rater()
    worker.wait_log("cannot be taken yet")
    worker.wait_metrics("nothing can be taken", weir_window_store_up=0, weir_lanes_paused=pipeline.partitions)
    time.sleep(3)  # several tries
    assert worker.is_running() and rater.is_running()
    own_redis.start()
    pipeline.check()
    worker.wait_log("the window store answers again, after")
    assert worker.log().count("cannot be taken yet") == 1
    pipeline.check_stays()
