"""Every edit of tests/mutants/mutants.py still has its text to edit: the mutants themselves take too long for each run of the tests."""
import pathlib
import sys

ROOT = pathlib.Path(__file__).resolve().parents[2]
sys.path.insert(0, str(ROOT / "tests" / "mutants"))

import mutants  # noqa: E402


def test_every_mutant_applies():
    wrong = [f"{name}: {file} has it {count} times, not once: {old.strip()[:70]!r}"
             for name, _safeguard, _test, edits in mutants.MUTANTS for file, old, _new in edits
             if (count := (ROOT / file).read_text().count(old)) != 1]
    assert not wrong, "\n".join(wrong)
