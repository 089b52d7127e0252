"""tests/load/run does what it says, with a load small enough for every day."""
import subprocess

from harness import BINARY, ROOT


def test_a_small_load():
    done = subprocess.run([ROOT / "tests" / "load" / "run", "--events", "20000", "--customers", "500", "--binary", BINARY],
                          capture_output=True, text=True, timeout=600, check=False)
    assert done.returncode == 0, done.stdout[-3000:] + done.stderr[-3000:]
    assert "all equal" in done.stdout
