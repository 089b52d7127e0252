"""SIGTERM for a daemon of weir's that may only just have been started: before it knows the signal, that would simply end it."""
import pathlib
import re
import signal
import time

DEADLINE = 120


def knows_sigterm(process):
    masks = re.findall(r"^Sig(?:Blk|Cgt):\t([0-9a-f]+)$", pathlib.Path(f"/proc/{process.pid}/status").read_text(), re.MULTILINE)
    return any(int(mask, 16) >> signal.SIGTERM - 1 & 1 for mask in masks)


def terminate(process):
    """As process.terminate() of a subprocess.Popen; one that has ended is left alone."""
    deadline = time.monotonic() + DEADLINE
    while process.poll() is None and not knows_sigterm(process):
        assert time.monotonic() < deadline, f"process {process.pid} is not ready for SIGTERM within {DEADLINE} s"
        time.sleep(0.01)  # between two looks
    process.terminate()
