"""Random catalogs and events through real Kafka, Redis and PostgreSQL, two workers of each kind at once: the sums of
the ledger agree with the independent model to the twelfth place.

WEIR_PIPELINE_CASES (200) cases, 20 merged into each run, from WEIR_RANDOM_SEED (1).
"""
import collections
import os
import shutil
import subprocess

import pytest
from harness import BINARY, assert_same, model_components, model_rows, run_model, weir
from ledger import ledger_components, ledger_rows, quarantined, query
from model import generate

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_PIPELINE_CASES", "200"))
MERGED = 20


def at_once(env, *arguments, workers=2):
    """The same command in several processes at once, each to its end."""
    running = [subprocess.Popen([BINARY, *arguments], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(workers)]
    try:
        for process in running:
            out, err = process.communicate(timeout=180)
            assert process.returncode == 0, f"weir {' '.join(arguments)} ended with {process.returncode}:\n{err.decode(errors='replace')[-3000:]}"
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


@pytest.mark.parametrize("number", range((CASES + MERGED - 1) // MERGED))
def test_the_ledger_agrees_with_the_model(servers, number, tmp_path):
    seed = FIRST * 1000 + number
    case = generate.generate_merged(seed, min(MERGED, CASES - number * MERGED), pipeline=True)
    case.write(tmp_path)
    outcome = run_model(case)
    where = f"merged seed {seed}, files in {tmp_path}"
    env = {**servers.room(f"random-{seed}"), "WEIR_CATALOG": str(tmp_path / "catalog"), "WEIR_LATENESS": "9000h"}

    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog", env=env)
    weir("produce", tmp_path / "events.ndjson", env=env)
    at_once(env, "ingest", "--until-end")
    at_once(env, "rater", "--until-done")

    bad = collections.Counter(quarantined(env).values())
    assert_same("quarantined events", bad, collections.Counter((b.reason, b.line) for b in outcome.bad), where)
    expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}
    assert_same("sums of the ledger", ledger_rows(env), expected, where)
    assert_same("components", ledger_components(env), model_components(outcome), where)

    before = query(env, "select count(*) as n from weir.line_items")
    at_once(env, "ingest", "--until-end")
    at_once(env, "rater", "--until-done")
    assert query(env, "select count(*) as n from weir.line_items") == before, f"a second run changed the ledger ({where})"
    shutil.rmtree(tmp_path)
