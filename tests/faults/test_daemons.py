"""What watches over the daemons: systemd's watchdog, and the page of figures."""
import pathlib
import re

import pytest
from test_life import notify  # noqa: F401: a fixture

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["ingest", "rater"])
def test_the_watchdog_is_told_that_the_loop_goes_round(pipeline, notify, command):  # noqa: F811
    daemon = pipeline.ingest(env=notify.env) if command == "ingest" else pipeline.start("rater", env=notify.env)
    heard = [message for message in notify.wait("WATCHDOG=1", 3) if not message.startswith("STATUS=")]
    assert heard[0].startswith("READY=1") and heard[1:] == ["WATCHDOG=1"] * 3
    daemon.stop()


def test_every_figure_is_in_the_documentation(pipeline):
    """docs/metrics.md names what the pages have, with the labels, and nothing else."""
    pipeline.send(10)
    pages = {"ingest": pipeline.ingest(), "rater": pipeline.rater()}
    pipeline.check()
    text = (ROOT / "docs" / "metrics.md").read_text()
    for command, process in pages.items():
        section = re.search(rf"^## `weir {command}`$(.*?)(?=^## |\Z)", text, re.MULTILINE | re.DOTALL).group(1)
        rows = [line.split("|") for line in section.splitlines() if line.startswith("| `weir_")]
        told = {(name, labels.strip("{}")) for row in rows for name, labels in re.findall(r"`(weir_[a-z_]+)(\{[a-z,]*\})?`", row[1])}
        shown = {(name, ",".join(re.findall(r'(\w+)="', labels or ""))) for name, labels in
                 (re.fullmatch(r"([a-z_]+)(\{.*\})?", key).groups() for key in process.metrics())}
        assert shown == told
