"""Every program of the repository that is run by hand says what it does when it is asked, and does nothing else then."""
import os
import pathlib
import subprocess

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


def scripts():
    files = subprocess.run(["git", "-C", ROOT, "ls-files", "-z"], capture_output=True, text=True, check=True).stdout.split("\0")
    for name in filter(None, files):
        path = ROOT / name
        if path.is_file() and os.access(path, os.X_OK) and path.read_bytes()[:2] == b"#!":
            yield name


def ask(path):
    return subprocess.run([path, "--help"], cwd="/", capture_output=True, text=True, timeout=60, check=False)


@pytest.mark.parametrize("name", scripts())
def test_a_script_tells_how_it_is_used_with_an_example(name):
    done = ask(ROOT / name)
    assert (done.returncode, done.stderr) == (0, "")
    assert "example" in done.stdout.lower()


BENCHMARKS = sorted(path for path in (ROOT / "build/release/benchmarks").glob("*") if path.is_file())


@pytest.mark.parametrize("path", BENCHMARKS, ids=lambda path: path.name)
def test_a_benchmark_tells_how_it_is_used_and_does_not_run(path):
    done = ask(path)
    assert "--smoke" in done.stdout + done.stderr and "median" not in done.stdout
