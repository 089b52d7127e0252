"""docs/exactly-once.md: every test that it names is there."""
import pathlib
import re

ROOT = pathlib.Path(__file__).resolve().parents[2]
DOCUMENT = ROOT / "docs" / "exactly-once.md"


def named_tests(text):
    return re.findall(r"`(tests/[\w./-]+)::(\w+)`", text)


def missing(names):
    """Those whose file is not there, or does not hold the name as a word."""
    for path, test in names:
        file = ROOT / path
        if not file.is_file() or not re.search(rf"\b{test}\b", file.read_text()):
            yield f"{path}::{test}"


def test_every_test_that_is_named_exists():
    names = named_tests(DOCUMENT.read_text())
    assert len(names) > 40
    assert not list(missing(names))


def test_every_row_of_the_failure_table_names_a_test():
    table = DOCUMENT.read_text().split("## 6.")[1].split("## 7.")[0]
    rows = [line for line in table.splitlines() if line.startswith("| ")][1:]
    faults = [row for row in rows if not re.match(r"\| \*\*[^|]*\*\* \| \| \| \| \|$", row)]
    assert len(faults) > 30
    assert [row for row in faults if not named_tests(row)] == []


def test_a_name_that_is_not_there_is_found():
    assert list(missing([("tests/run", "no_such_step"), ("tests/nowhere.py", "x"), ("tests/run", "step_unit")])) == [
        "tests/run::no_such_step", "tests/nowhere.py::x"]
