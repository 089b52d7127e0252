"""Catalogs that change their structure while the ledger stands: half of a case's events are rated, the terms change (weir apply, or
weir apply --rerate and weir rerate), the rest of the events come. The ledger is then what the independent model makes of all events
under the new catalog; a rerating finds nothing to do, and the stores agree. In some cases grants are ordered and ended in between.

WEIR_CHANGES_CASES (8) cases from WEIR_RANDOM_SEED (1)."""
import collections
import json
import os
import random
import shutil

import orders
import pytest
from harness import assert_same, model_rows, weir
from ledger import ledger_rows, query
from model import catalog as catalogs
from model import exact, random_catalog, restructure, run
from model.random_events import random_lines
from test_random_pipeline import count_what_is_there

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_CHANGES_CASES", "8"))


def changed_catalog(rng, folder, shape):
    """One that weir check accepts, with what was changed; None: there was nothing to change."""
    for _ in range(12):
        document, changes = restructure.restructure(rng, shape.document, shape.start, shape.end)
        (folder / "after.json").write_text(json.dumps(document, indent=1), encoding="utf-8")
        if changes and weir("check", "--catalog", folder / "after.json", check=False).returncode == 0:
            return document, changes
    return None, []


def by_start(rows):
    """Added up without the periods' ends: what a rerating does not change keeps the end that it was written with."""
    sums = collections.defaultdict(lambda: [0, 0])
    for (customer, contract, start, _end, *what), (quantity, amount, *more) in rows.items():
        total = sums[(customer, contract, start, *what, more[-1])]
        total[0] += exact.parse(quantity)
        total[1] += exact.parse(amount)
    return {key: tuple(total) for key, total in sums.items() if any(total)}


@pytest.mark.parametrize("seed", range(FIRST, FIRST + CASES))
def test_the_ledger_is_what_the_new_terms_make_of_all_events(servers, tmp_path, seed):
    rng = random.Random(f"changes {seed}")
    shape = random_catalog.random_shape(rng, pipeline=True)
    lines = random_lines(rng, shape, rng.choice((20, 60, 150)), pipeline=True)
    (tmp_path / "before.json").write_text(json.dumps(shape.document), encoding="utf-8")
    after, changes = changed_catalog(rng, tmp_path, shape)
    if not after or weir("check", "--catalog", tmp_path / "before.json", check=False).returncode:
        return
    name = f"changes-{seed}"
    env = {**servers.room(name, partitions=1), "WEIR_LATENESS": "87600h", "WEIR_KAFKA_GROUP": name}
    weir("apply", "--catalog", tmp_path / "before.json", env=env)
    half = len(lines) // 2

    def produce(some):
        (tmp_path / "events.ndjson").write_bytes(b"".join(line + b"\n" for line in some))
        weir("produce", tmp_path / "events.ndjson", env=env)

    produce(lines[:half])
    if rng.random() < 0.3:
        weir("ingest", "--until-end", env=env)
    else:
        count_what_is_there(env)
    weir("rater", "--until-done", env=env)
    ordered = []
    if rng.random() < 0.6 and query(env, "select from weir.rated_windows limit 1"):
        ordered = orders.grant(env, rng, shape.document, 3) + orders.end(env, rng, rng.choice((0, 1)))

    where = f"seed {seed}: {', '.join(changes)}"
    if weir("apply", "--catalog", tmp_path / "after.json", env=env, check=False).returncode:
        if weir("apply", "--catalog", tmp_path / "after.json", "--rerate", env=env, check=False).returncode:
            return  # not even so: a contract with invoices or orders that is to go
        weir("ingest", "--until-end", env=env)
        weir("rater", "--until-done", env=env, check=False)  # some wait for the rerating
        weir("rerate", "--reason", "changed", env=env)
        where += ", rerated"
    produce(lines[half:])
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)

    outcome = run.run(catalogs.Catalog(after), lines, False, None, ordered)
    assert_same("line items", by_start(ledger_rows(env)), by_start(model_rows(outcome)), where)
    again = json.loads(weir("rerate", "--dry-run", "--format", "json", env=env).stdout)
    assert again["counts"]["changed"] == 0, ([row for row in again["rows"] if row["before"] != row["after"]][:4], where)
    weir("reconcile", env=env)
    orders.check_balances(env, outcome, where)
    shutil.rmtree(tmp_path)
