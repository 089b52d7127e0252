"""Grants ordered and ended beside raters that draw and are killed: two of them, kill -9 at random, orders killed at random too and given
again (docs/credits.md 6)."""
import json
import os
import random
import subprocess
import threading
import time

import orders
import stopping
from harness import BINARY, weir
from ledger import query

START = 1767225600  # 2026-01-01
DAYS = 60


class Raters:
    """Two daemons; from time to time one is killed and started again."""

    def __init__(self, env, rng):
        self.env = {**os.environ, **env, "WEIR_METRICS_LISTEN": "off", "WEIR_RATER_INTERVAL": "50ms", "WEIR_RATER_BATCH": "20"}
        self.rng, self.kills = rng, 0
        self.stop = threading.Event()
        self.running = [self.start(), self.start()]
        self.thread = threading.Thread(target=self.kill_some)
        self.thread.start()

    def start(self):
        return subprocess.Popen([BINARY, "rater"], env=self.env, stderr=subprocess.PIPE)

    def kill_some(self):
        while not self.stop.wait(self.rng.uniform(0.2, 1.5)):
            place = self.rng.randrange(2)
            self.running[place].kill()
            _out, err = self.running[place].communicate()
            assert self.running[place].returncode == -9, err.decode(errors="replace")[-3000:]
            self.running[place] = self.start()
            self.kills += 1

    def end(self):
        self.stop.set()
        self.thread.join()
        for process in self.running:
            stopping.terminate(process)
        for process in self.running:
            _out, err = process.communicate(timeout=120)
            assert process.returncode == 0, err.decode(errors="replace")[-3000:]


def _give(env, rng, said):
    """Orders it, sometimes killed on the way, until it is told that it is done; None: it was refused."""
    while rng.random() < 0.3:
        process = subprocess.Popen([BINARY, *said], env={**os.environ, **env}, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL)
        try:
            process.wait(timeout=rng.uniform(0.005, 0.1))
        except subprocess.TimeoutExpired:
            process.kill()
        process.wait()
    done = weir(*said, env=env, check=False)
    assert done.returncode in (0, 2), done.stderr
    return json.loads(done.stdout)["done"] if done.returncode == 0 else None


class Orderer(threading.Thread):
    """Orders grants for some customers, and ends some of them."""

    def __init__(self, env, number, customers, count):
        super().__init__()
        self.env, self.number, self.customers, self.count = env, number, customers, count
        self.orders, self.refused, self.error = [], 0, None

    def run(self):
        try:
            self.order(random.Random(f"orders {self.number}"))
        except BaseException as error:  # told by the thread that waits
            self.error = error

    def order(self, rng):
        made = []
        for number in range(self.count):
            if made and rng.random() < 0.4:
                order = made.pop(rng.randrange(len(made)))
                starts = orders.instants.parse_rfc3339(order["starts_at"]) // 10 ** 9
                kind = rng.choice(("void", "refund"))
                order = {"customer": order["customer"], "contract": "", "key": order["key"], "end": kind,
                         "at": orders._time(rng.choice((starts, starts + rng.randrange(0, 20 * orders.DAY))))}
            else:
                kind = "grant"
                order = {**orders._grant(rng, rng.choice(self.customers), number, START, START + DAYS * orders.DAY, ["calls"]), "contract": ""}
                order["key"] = f"order-{self.number}-{number}"
                made.append(order)
            done = _give(self.env, rng, [kind, "--reason", "beside raters", "--format", "json", *orders._flags(order)])
            if done:
                self.orders.append(order)
            else:  # an end, when a rater has seen it expire before
                assert kind != "grant", order
                self.refused += 1


def run(env, folder, seed, customers, count, threads):
    """Answers the events' lines, the orders that were made, and figures."""
    rng = random.Random(f"beside {seed}")
    names = [f"c{number}" for number in range(customers)]
    orderers = [Orderer(env, f"{seed}-{number}", names, count // threads) for number in range(threads)]
    began, lines, chunks = time.monotonic(), [], 0
    raters = Raters(env, random.Random(f"kills {seed}"))
    try:
        for orderer in orderers:
            orderer.start()
        while chunks < 3 or any(orderer.is_alive() for orderer in orderers):
            chunk = [json.dumps({"specversion": "1.0", "id": f"{chunks}-{number}", "source": "s", "type": "call", "subject": rng.choice(names),
                                 "time": orders._time(START + rng.randrange(DAYS * orders.DAY)), "data": {"calls": rng.choice((-2, 1, 3, 40, 1.25))}})
                     for number in range(20 * customers)]
            lines += chunk
            (folder / "chunk.ndjson").write_text("".join(line + "\n" for line in chunk))
            weir("produce", folder / "chunk.ndjson", env=env)
            weir("ingest", "--until-end", env=env)
            chunks += 1
    finally:
        for orderer in orderers:
            orderer.join()
        raters.end()
    for orderer in orderers:
        if orderer.error:
            raise orderer.error
    weir("rater", "--until-done", env=env)
    made = [order for orderer in orderers for order in orderer.orders]
    figures = {"seconds": round(time.monotonic() - began, 1), "events": len(lines), "orders": sum("end" not in order for order in made),
               "ends": sum("end" in order for order in made), "refused": sum(orderer.refused for orderer in orderers), "kills": raters.kills,
               "entries": query(env, "select count(*) as n from weir.grant_entries")[0]["n"]}
    return [line.encode() for line in lines], made, figures
