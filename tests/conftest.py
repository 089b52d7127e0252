"""For every pytest of the tree: one that is told to stop takes down the servers that it started."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent / "support"))

import ending  # noqa: E402


def pytest_configure():
    ending.end_on_sigterm()
