"""A run that is told to stop takes down its servers."""
import pathlib
import sys

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parents[1] / "support"))

import ending  # noqa: E402


def pytest_configure():
    ending.end_on_sigterm()
