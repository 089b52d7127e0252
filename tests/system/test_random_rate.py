"""Random catalogs and events through `weir rate` and through the independent model: equal to the twelfth place.

WEIR_RANDOM_CASES (200) cases from WEIR_RANDOM_SEED (1). A failing case is made again by
`tests/model/generate.py case --seed N --dir D`; its files stay where the failure says.
"""
import collections
import json
import os
import shutil

import jsonschema
import pytest
from harness import (ROOT, assert_same, component_sums, counts, event_bytes, model_components, model_rows, read_quarantine,
                     run_model, summary_rows, weir, without_nothing)
from model import generate

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_RANDOM_CASES", "200"))
RARE = (1009,)  # what is charged for missing quantities counts towards a term's minimum
LINE_ITEM = jsonschema.Draft202012Validator(json.loads((ROOT / "schemas" / "line_item.schema.json").read_text()))


@pytest.mark.parametrize("seed", sorted({*range(FIRST, FIRST + CASES), *RARE}))
def test_rate_agrees_with_the_model(seed, tmp_path):
    case = generate.generate_case(seed)
    case.write(tmp_path)
    outcome = run_model(case, case.keep_open)
    options = ["--catalog", tmp_path / "catalog"] + (["--keep-open"] if case.keep_open else [])
    where = f"seed {seed}, keep_open {case.keep_open}, files in {tmp_path}"

    done = weir("rate", *options, "--format", "csv", "--summary", "--quarantine", tmp_path / "bad.ndjson",
                "--output", tmp_path / "summary.csv", tmp_path / "events.ndjson")
    rows, order = summary_rows((tmp_path / "summary.csv").read_bytes())
    assert_same("counts", counts(done.stderr), outcome.counts, where)
    bad = collections.Counter((r["reason"], event_bytes(r)) for r in read_quarantine(tmp_path / "bad.ndjson"))
    assert_same("quarantined events", bad, collections.Counter((b.reason, b.line[:1 << 20]) for b in outcome.bad), where)
    assert_same("summary rows", without_nothing(rows), model_rows(outcome), where)
    by_bytes = [(key[0], key[1], key[2], key[4], key[5]) for key in order]
    assert by_bytes == sorted(by_bytes, key=lambda key: [part.encode() for part in key]), where

    done = weir("rate", *options, "--format", "ndjson", "--quarantine", tmp_path / "again.ndjson", tmp_path / "events.ndjson")
    items = [json.loads(line) for line in done.stdout.splitlines()]
    for item in items[:5] + items[-5:]:
        LINE_ITEM.validate(item)
    assert_same("components", component_sums(items), model_components(outcome), where)
    shutil.rmtree(tmp_path)  # only a failing case leaves its files


def test_the_cases_are_not_all_trivial():
    """The comparison means something only when most cases bill something."""
    cases = [generate.generate_case(seed) for seed in range(1, 51)]
    assert sum(bool(run_model(case, case.keep_open).rows) for case in cases) >= 30
