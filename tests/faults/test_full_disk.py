"""Disks of servers that are really full (ENOSPC), while events come in: weir waits, says so, and is exact when there is room."""
import psycopg2
import pytest
from full_disk import FullDisk
from harness import weir
from pipeline import until
from postgres_process import PostgresProcess
from redis_process import RedisProcess


@pytest.fixture
def disk():
    made = FullDisk()
    yield made
    made.close()


def postgres_on(pipeline, disk, below):
    server = PostgresProcess("wal_level=minimal", "max_wal_senders=0", env=lambda data: disk.env(data / below))
    pipeline.env["WEIR_POSTGRES_URL"] = server.url
    weir("migrate", env=pipeline.env)
    return server


def test_postgres_has_no_room_for_rows(pipeline, disk):
    server = postgres_on(pipeline, disk, "base")
    try:
        worker, rater = pipeline.ingest(), pipeline.rater()
        pipeline.send(100)
        pipeline.check()
        disk.fill()
        pipeline.send(1000, repeat=5)
        rater.wait_log(r"nothing is rated, trying again: .*No space left on device \(53100\); the server's disk is full: make room there")
        rater.wait_metrics("the disk is full", weir_rater_up=0)
        rater.wait_ready(False)
        worker.wait_ready(True)
        pipeline.send(100)
        disk.free()
        pipeline.check()
        rater.wait_log("windows are rated again, after")
        pipeline.check_stays()
    finally:
        pipeline.close()
        server.close()


def test_postgres_dies_of_a_full_disk_for_its_log(pipeline, disk):
    """It can neither commit nor recover without a new segment: it ends, and is started again when there is room."""
    server = postgres_on(pipeline, disk, "pg_wal")
    try:
        pipeline.ingest()
        rater = pipeline.rater()
        pipeline.send(300, repeat=5)
        pipeline.check()
        # A checkpoint makes segments ahead, or keeps old ones for later: what there is, is used up.
        disk.fill()
        pipeline.send(300, repeat=5)

        def is_dead():
            try:
                server.ask("select pg_switch_wal()", "create temporary table more as select 1")
            except psycopg2.Error:
                pass
            return "PANIC" in server.log() or server.process.poll() is not None

        until("it dies", is_dead)
        rater.wait_log("nothing is rated, trying again")
        assert "No space left on device" in server.log()
        disk.free()
        server.kill()
        server.start()
        pipeline.check()
        rater.wait_log("windows are rated again, after")
        pipeline.check_stays()
    finally:
        pipeline.close()
        server.close()


@pytest.mark.parametrize("policy", ["everysec", "always"])
def test_redis_has_no_room_for_its_append_only_file(pipeline, disk, tmp_path, policy):
    """With everysec it refuses writes until there is room; with always it ends, and is started again."""
    own = RedisProcess(tmp_path / "redis", "--appendfsync", policy, appendonly=True, env=disk.env(tmp_path / "redis"))
    try:
        pipeline.env["WEIR_REDIS_URL"] = own.url
        worker, rater = pipeline.ingest(), pipeline.rater()
        pipeline.send(300)
        pipeline.check()
        disk.fill()
        pipeline.send(2000, repeat=10)
        if policy == "everysec":
            worker.wait_log("Redis can not save to disk and refuses writes: see its log")
        else:
            own.process.wait(60)
            worker.wait_log("cannot be written, holding everything and trying again")
        worker.wait_metrics("the store is down", weir_window_store_up=0)
        worker.wait_ready(False)
        assert worker.is_running() and rater.is_running()
        pipeline.send(500)
        disk.free()
        if policy == "always":
            own.start()
        pipeline.check()
        worker.wait_log("the window store (takes cuts|answers) again, after")
        until("ready", worker.ready)
        pipeline.check_stays()
    finally:
        pipeline.close()
        own.close()
