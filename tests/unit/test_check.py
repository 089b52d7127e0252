"""What `weir check` prints, and how it exits. The binary is $WEIR_BINARY (default build/release/weir)."""
import json
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]
FULL = ROOT / "tests/unit/common/catalog_full.json"


def run(*arguments, **environment):
    binary = os.environ.get("WEIR_BINARY", str(ROOT / "build/release/weir"))
    clean = {key: value for key, value in os.environ.items() if key != "WEIR_CATALOG"}
    return subprocess.run([binary, "check", *map(str, arguments)], capture_output=True, text=True, timeout=60,
                          env={**clean, **environment})


@pytest.fixture
def broken(tmp_path):
    (tmp_path / "meters.json").write_text(json.dumps({"meters": [{"key": "m", "windw": "1h"}]}))
    (tmp_path / "prices.json").write_text('{"price_books": [}')
    return tmp_path


def test_a_good_catalog_is_one_line():
    done = run("--catalog", FULL)
    assert (done.returncode, done.stderr) == (0, "")
    assert done.stdout == "catalog: 8 meters, 2 price books (3 versions), 4 contracts: no mistakes\n"


def test_a_good_catalog_in_json():
    done = run("--catalog", FULL, "--format", "json")
    assert done.returncode == 0
    assert json.loads(done.stdout) == {
        "meters": 8, "price_books": 2, "price_book_versions": 3, "contracts": 4, "mistakes": []}  # fmt: skip


def test_every_mistake_is_a_line_with_file_and_path(broken):
    done = run("--catalog", broken)
    assert (done.returncode, done.stdout) == (2, "")
    *lines, last = done.stderr.splitlines()
    assert last == "catalog: 5 mistakes"
    assert [line.split(": ")[0] for line in lines] == [f"{broken}/meters.json"] * 4 + [f"{broken}/prices.json:1:18"]
    assert f'{broken}/meters.json: $.meters[0]: "event_type" is missing' in lines
    assert any(": $.meters[0].windw: " in line and 'did you mean "window"?' in line for line in lines)


def test_a_mistake_that_quotes_a_catalog_obeys_nothing_in_it(tmp_path):
    (tmp_path / "catalog.json").write_text(json.dumps({"meters": [{"key": "m\x1b[2J no mistakes\x9b\u202e"}]}))
    told = run("--catalog", tmp_path).stderr
    assert "no mistakes??" in told and not set("\x1b\x9b\u202e") & set(told), told


def test_a_pipe_in_a_catalogs_folder_is_named_and_not_waited_for(broken):
    os.mkfifo(broken / "pipe.json")
    done = run("--catalog", broken)
    assert done.returncode == 2 and f"{broken}/pipe.json: " in done.stderr and "neither a file nor a folder" in done.stderr, done.stderr


def test_the_same_in_json(broken):
    done = run("--catalog", broken, "--format", "json")
    mistakes = json.loads(done.stdout)["mistakes"]
    assert (done.returncode, done.stderr, len(mistakes)) == (2, "", 5)
    assert {tuple(mistake) for mistake in mistakes} == {("file", "path", "kind", "text")}
    assert mistakes[-1]["kind"] == "syntax"


def test_the_environment_names_the_catalog_and_the_flag_wins(broken):
    assert run(WEIR_CATALOG=str(FULL)).returncode == 0
    assert run("--catalog", broken, WEIR_CATALOG=str(FULL)).returncode == 2


@pytest.mark.parametrize("arguments, word", [
    ((), "--catalog DIR"),
    (("--catalog",), "--help"),
    (("--catalog", FULL, "--format", "xml"), "text and json"),
    (("--catalog", FULL, "more"), "unexpected argument"),
    (("--nonsense",), "--help"),
    (("--catalog", "/nonexistent/catalog"), "/nonexistent/catalog: $: cannot be read: No such file or directory"),
])  # fmt: skip
def test_bad_usage_exits_with_2_and_says_what_to_do(arguments, word):
    done = run(*arguments)
    assert (done.returncode, done.stdout) == (2, "")
    assert word in done.stderr


def test_help_has_an_example():
    done = run("--help")
    assert (done.returncode, done.stderr) == (0, "")
    assert "example: weir check --catalog" in done.stdout


def test_the_catalogs_of_the_repository_are_good():
    found = sorted(ROOT.glob("deploy/example/**/catalog"))
    for catalog in found:
        done = run("--catalog", catalog)
        assert done.returncode == 0, done.stderr
