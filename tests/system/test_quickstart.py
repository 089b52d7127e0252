"""deploy/quickstart as a user meets it. The build is there when tests run, so this is the quick second time."""
import os
import shutil
import subprocess

import pytest
from harness import ROOT

QUICKSTART = ROOT / "deploy" / "quickstart"
LOCAL = ROOT / "deploy" / "local"


def quickstart(*arguments, **environment):
    return subprocess.run([QUICKSTART, *map(str, arguments)], capture_output=True, text=True, timeout=600, cwd="/",
                          env={**os.environ, **environment})


@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("quickstart") / "servers"
    yield folder
    subprocess.run([LOCAL, "down", "--wipe", "--dir", folder], capture_output=True, timeout=120, check=False)


def test_embedded_shows_line_items_and_the_summary():
    done = quickstart()
    assert done.returncode == 0, done.stdout + done.stderr
    assert "[ 4/4]" in done.stdout
    assert "read=10000 counted=9800 duplicate=100" in done.stdout
    for word in ("customer", "brightlegal", "invoice_amount", "deploy/quickstart --real"):
        assert word in done.stdout, word
    again = quickstart()
    assert again.returncode == 0


def is_up(folder):
    return subprocess.run([LOCAL, "status", "--dir", folder], capture_output=True, check=False).returncode == 0


def test_real_ends_with_the_same_totals_again_and_again(servers):
    done = quickstart("--real", "--dir", servers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert "Equal" in done.stdout and "fjordbank-enterprise" in done.stdout
    assert not is_up(servers), "servers that it started keep running"

    assert subprocess.run([LOCAL, "up", "--dir", servers], capture_output=True, check=False).returncode == 0
    done = quickstart("--real", "--dir", servers)
    assert done.returncode == 0, done.stdout + done.stderr
    assert is_up(servers), "it stopped servers that ran before"


def test_a_total_that_differs_fails(servers, tmp_path):
    wrapper = tmp_path / "psql"
    wrapper.write_text(f'#!/bin/sh\ncase "$*" in *--csv*) {shutil.which("psql")} "$@" | sed "2s/,USD/,EUR/" ;; '
                       f'*) exec {shutil.which("psql")} "$@" ;; esac\n')
    wrapper.chmod(0o755)
    done = quickstart("--real", "--dir", servers, PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert "Equal" not in done.stdout
    assert done.stderr.splitlines()[-1].startswith("deploy/quickstart: step 11 (comparing")
    assert ",EUR" in done.stderr


def test_a_failing_step_gives_one_clear_line(tmp_path):
    fake = tmp_path / "cmake"
    fake.write_text("#!/bin/sh\necho no compiler here >&2\nexit 1\n")
    fake.chmod(0o755)
    done = quickstart(PATH=f"{tmp_path}:{os.environ['PATH']}")
    assert done.returncode == 1
    assert done.stderr.splitlines()[0] == "no compiler here"
    assert done.stderr.splitlines()[-1].startswith("deploy/quickstart: step 2 (building weir) failed")


@pytest.mark.parametrize("arguments, code", [(["--help"], 0), (["--rael"], 2), (["--dir"], 2)])
def test_usage(arguments, code):
    done = quickstart(*arguments)
    assert done.returncode == code
    assert "quickstart" in (done.stderr if code else done.stdout)
