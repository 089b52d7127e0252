"""A real Redis Cluster of three nodes under the pipeline: lanes on all of them, a slot that moves, a node that stops."""
import subprocess

import pytest
import redis
from conftest import SYSTEM
from pipeline import Pipeline, until
from redis.crc import key_slot

from harness import weir

PARTITIONS, NODES = 8, 3


class Cluster:
    """Three masters by deploy/local: redis, redis2, redis3, each with an append-only file."""

    def __init__(self, folder):
        self.folder = folder
        self.local("up", "--only", "redis", "--redis-nodes", str(NODES))
        script = 'eval "$("$0" env --dir "$1")" && printf %s "$WEIR_REDIS_URL"'
        self.url = subprocess.run(["bash", "-c", script, SYSTEM.LOCAL, folder], capture_output=True, check=True, text=True).stdout
        self.ports = [int(host.rsplit(":", 1)[1]) for host in self.url.removeprefix("redis://").split(",")]
        self.nodes = [redis.Redis(port=port, socket_timeout=60) for port in self.ports]
        self.ids = [node.execute_command("CLUSTER MYID").decode() for node in self.nodes]

    def local(self, *arguments):
        done = subprocess.run([SYSTEM.LOCAL, *arguments, "--dir", self.folder], capture_output=True, text=True, timeout=300, check=False)
        assert done.returncode == 0, done.stdout + done.stderr

    def close(self):
        self.local("down", "--wipe")

    def home(self, slot):
        return next(n for n in range(NODES) if slot < (n + 1) * 16384 // NODES)

    def begin_move(self, slot, source, target):
        self.nodes[target].execute_command("CLUSTER SETSLOT", slot, "IMPORTING", self.ids[source])
        self.nodes[source].execute_command("CLUSTER SETSLOT", slot, "MIGRATING", self.ids[target])

    def move_keys(self, slot, source, target, leave=0):
        while True:
            keys = self.nodes[source].execute_command("CLUSTER GETKEYSINSLOT", slot, 1000)
            if len(keys) <= leave:
                return
            self.nodes[source].execute_command("MIGRATE", "127.0.0.1", self.ports[target], "", 0, 20000, "KEYS", *keys[leave:])

    def end_move(self, slot, source, target):
        for n in (target, source):
            self.nodes[n].execute_command("CLUSTER SETSLOT", slot, "NODE", self.ids[target])


@pytest.fixture
def cluster(tmp_path):
    made = Cluster(tmp_path / "cluster")
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def pipeline(servers, cluster, tmp_path):
    """Eight lanes, some on each node."""
    made = Pipeline(servers, "cluster", tmp_path, PARTITIONS)
    names = (f"{made.name}-{n}" for n in range(1000))
    topic = next(name for name in names if len({cluster.home(key_slot(f"{name}:{p}".encode())) for p in range(PARTITIONS)}) == NODES)
    done = servers.local("topic", topic, "--partitions", str(PARTITIONS))
    assert done.returncode == 0, done.stdout + done.stderr
    made.env |= {"WEIR_KAFKA_TOPIC": topic, "WEIR_REDIS_URL": cluster.url}
    try:
        yield made
    finally:
        made.close()


def send(pipeline, count):
    """To all partitions, as producers do that do not key by customer."""
    lines = [pipeline.event(number) for number in range(pipeline.sent, pipeline.sent + count)]
    pipeline.sent += count
    for partition in range(PARTITIONS):
        share = lines[partition::PARTITIONS]
        pipeline.send(lines=share + share[::5], partition=partition)


def test_the_pipeline_on_three_nodes(pipeline, cluster):
    send(pipeline, 800)
    workers = [pipeline.ingest(), pipeline.ingest(taken=1)]
    raters = [pipeline.rater(), pipeline.rater()]
    pipeline.check()
    held = [node.keys("weir:{*}:lane") for node in cluster.nodes]
    assert all(held) and sum(map(len, held)) == PARTITIONS, held

    # A slot moves. While a part of its keys is here and a part there, its lane waits; the others go on.
    lane = held[0][0]
    slot = key_slot(lane)
    keys = cluster.nodes[0].execute_command("CLUSTER COUNTKEYSINSLOT", slot)
    cluster.begin_move(slot, 0, 1)
    cluster.move_keys(slot, 0, 1, leave=keys // 2)
    send(pipeline, 400)
    until("a worker waits for the slot", lambda: any("moving this lane's keys" in worker.log() for worker in workers))
    assert all(process.is_running() for process in workers + raters)
    cluster.move_keys(slot, 0, 1)
    cluster.end_move(slot, 0, 1)
    pipeline.check()
    assert cluster.nodes[1].exists(lane)

    # A node is away, for so long that the others stop serving too.
    cluster.local("stop", "redis3")
    send(pipeline, 400)
    until("the cluster is down", lambda: cluster.nodes[0].execute_command("CLUSTER INFO")["cluster_state"] == "fail")
    until("both workers hold", lambda: all(worker.metric("weir_window_store_up") == 0 for worker in workers))
    cluster.local("start", "redis3")
    send(pipeline, 200)
    pipeline.check()
    assert all(process.is_running() for process in workers + raters)
    told = weir("reconcile", "--config", pipeline.folder / "weir.json", env=pipeline.env).stdout.decode()
    print(told)
    pipeline.check_stays()


def test_a_node_that_comes_back_empty(pipeline, cluster):
    """As a failover to a replica that had nothing yet: its lanes are older cuts, the other nodes' are not."""
    send(pipeline, 400)
    pipeline.ingest(), pipeline.rater()
    pipeline.check()
    cluster.local("kill", "redis2")
    for file in (cluster.folder / "redis2").glob("appendonlydir/*"):
        file.unlink()
    cluster.local("start", "redis2")
    send(pipeline, 400)
    pipeline.check()
    pipeline.check_stays()
