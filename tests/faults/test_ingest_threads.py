"""One process with several consuming threads (ingest.threads), each a member of the group: together and beside other processes
they count each event once, and they start, stop and fail as one."""
import re
import signal
import threading
import urllib.request

import confluent_kafka
import pytest
from pipeline import ONE_OWNER, Pipeline, until


@pytest.fixture
def four(servers, request, tmp_path):
    """A pipeline of four partitions."""
    made = Pipeline(servers, request.node.name, tmp_path, partitions=4)
    try:
        yield made
    finally:
        made.close()


class Producing:
    """Sends events, some of them twice, in a thread of its own until it is told to stop."""

    def __init__(self, pipeline, repeat=5):
        self.pipeline, self.repeat, self.is_over = pipeline, repeat, threading.Event()
        self.thread = threading.Thread(target=self._send)

    def _send(self):
        while not self.is_over.wait(0.02):
            self.pipeline.send(40, repeat=self.repeat)

    def __enter__(self):
        self.thread.start()

    def __exit__(self, *_):
        self.is_over.set()
        self.thread.join()


def counted(process):
    return process.metric('weir_events_total{outcome="counted"}')


def page(process):
    port = process.wait_log(r"metrics on port (\d+)")[0]
    with urllib.request.urlopen(f"http://127.0.0.1:{port}/metrics", timeout=60) as answer:
        return answer.read().decode()


def owned(process):
    """The lanes that have rows on its page."""
    return re.findall(r'^weir_lane_watermark_seconds\{lane="[^"]*:(\d+)"\}', page(process), re.MULTILINE)


def test_threads_come_and_go_while_events_come_in(four):
    """Three threads on four partitions, stopped in the middle; two; and another process with two that joins them and leaves."""
    four.config(ONE_OWNER)
    four.rater()
    with Producing(four):
        worker = four.ingest("--ingest-threads", "3")
        until("each lane has one row", lambda: sorted(owned(worker)) == ["0", "1", "2", "3"])
        worker.wait_metrics("all lanes are its own", weir_lanes=4)
        worker.wait_ready(True)
        before = counted(worker)
        until("it counts", lambda: counted(worker) > before + 200)
        worker.stop()
        assert "given up" not in worker.log()
        worker = four.ingest("--ingest-threads", "2")
        guest = four.ingest("--ingest-threads", "2", taken=1)
        until("they share the lanes", lambda: len(owned(worker)) + len(owned(guest)) == 4 and len(owned(guest)) > 0)
        before = counted(guest)
        until("the guest counts", lambda: counted(guest) > before)
        guest.stop()
        until("all lanes are back", lambda: sorted(owned(worker)) == ["0", "1", "2", "3"])
    four.check()
    last = [process.log().splitlines()[-1] for process in four.processes if process is not worker and process.name.startswith("ingest")]
    done = sum(int(number) for line in last for number in re.findall(r" counted=(\d+) ", line)) + counted(worker)
    assert done == four.sent, "handed over cleanly, and yet counted by two, or by nobody"
    four.check_stays()


def test_threads_that_the_group_knows_go_on_at_once_after_kill_9(four):
    """The first thread has the name that was given, the others have theirs made of it: sessions of five minutes are not waited for."""
    four.config({"session.timeout.ms": "300000", "group.instance.id": "worker"})
    four.rater()
    for _ in range(3):
        worker = four.ingest("--ingest-threads", "2")
        four.send(400, repeat=3)
        until("some of it is counted", lambda: counted(worker) > 0)
        worker.kill()
        four.send(50, repeat=2)
    worker = four.ingest("--ingest-threads", "2")
    four.check()
    until("both threads are in the group", lambda: sorted(owned(worker)) == ["0", "1", "2", "3"])
    worker.stop()
    four.send(100, repeat=2)
    four.ingest("--ingest-threads", "2")
    four.check()


def test_no_thread_has_the_name_of_another_process(four):
    """The group lets the older of two members of one name go, for good."""
    four.rater()
    workers = []
    for name, threads, taken in (("worker", "2", 4), ("worker-1", "1", 1)):
        four.config({"group.instance.id": name})
        workers.append(four.ingest("--ingest-threads", threads, taken=taken))
    until("they share the lanes", lambda: sorted(sum(map(owned, workers), [])) == ["0", "1", "2", "3"] and all(map(owned, workers)))
    four.send(400, repeat=3)
    four.check()
    four.check_stays()


def test_one_thread_alone_that_cannot_go_on_ends_the_process(four):
    """The group lets the second thread go for good, since somebody else has its name; the first one could go on."""
    four.config({"group.instance.id": "worker"})
    worker = four.ingest("--ingest-threads", "2")
    four.send(200)
    until("it is counted", lambda: counted(worker) == 200)
    other = confluent_kafka.Consumer({"bootstrap.servers": four.env["WEIR_KAFKA_BROKERS"], "group.id": four.env["WEIR_KAFKA_GROUP"],
                                      "group.instance.id": "worker.thread-1", "partition.assignment.strategy": "cooperative-sticky"})
    other.subscribe([four.env["WEIR_KAFKA_TOPIC"]])
    until("it has ended", lambda: [other.poll(0.1)] and not worker.is_running())
    other.close()
    assert worker.ended() == 1, worker.log()
    errors = [line for line in worker.log().splitlines() if " error " in line]
    assert len(errors) == 1 and "fenced" in errors[0], worker.log()
    four.processes.remove(worker)
    four.ingest("--ingest-threads", "2")
    four.rater()
    four.check()
    four.check_stays()


def test_one_thread_that_cannot_go_on_ends_the_process(pipeline):
    """What either thread holds would fit alone. Nothing is lost: with more room it goes on. It ends when a lane grows or,
    where the second thread joins late and takes a lane just then, when that does not fit: both say the same."""
    pipeline.config(ONE_OWNER, lane_ids_max=1000)
    worker = pipeline.ingest("--ingest-threads", "2")
    pipeline.send(900)
    until("it is counted", lambda: counted(worker) == 900)
    pipeline.send(400)
    assert worker.ended() == 1, worker.log()
    errors = [line for line in worker.log().splitlines() if " error " in line]
    assert len(errors) == 1 and "lane_ids_max" in errors[0] and "nothing was lost" in errors[0], worker.log()
    pipeline.processes.remove(worker)
    pipeline.config(ONE_OWNER)
    pipeline.ingest("--ingest-threads", "2")
    pipeline.rater()
    pipeline.check()
    pipeline.check_stays()


@pytest.mark.parametrize("threads", ["2", "5"])
def test_a_batch_run_ends_when_every_thread_is_at_the_end(pipeline, threads):
    """With more threads than partitions too: some of them never have a lane."""
    pipeline.send(600, repeat=3)
    process = pipeline.start("ingest", "--until-end", "--ingest-threads", threads)
    assert process.ended() == 0, process.log()
    last = process.log().splitlines()[-1]
    assert re.fullmatch(r"weir ingest: read=(\d+) counted=600 duplicate=(\d+) unmatched=0 retracted=0 quarantined=0 seconds=.*", last), last
    pipeline.rater()
    pipeline.check()


def test_a_signal_stops_every_thread_of_a_batch_run(four, own_redis):
    four.env["WEIR_REDIS_URL"] = own_redis.url
    four.send(100)
    own_redis.kill()
    process = four.start("ingest", "--until-end", "--ingest-threads", "3", "--patience", "1h")
    process.wait_log("trying again")
    process.send(signal.SIGTERM)
    assert process.ended() == 1
    errors = [line for line in process.log().splitlines() if " error " in line]
    assert len(errors) == 1 and "stopped by a signal before the end" in errors[0], process.log()
