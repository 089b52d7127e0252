"""What watches over the daemons: systemd's watchdog, and the page of figures."""
import pathlib
import re
import socket

import pytest

ROOT = pathlib.Path(__file__).resolve().parents[2]


@pytest.mark.parametrize("command", ["ingest", "rater"])
def test_the_watchdog_is_told_that_the_loop_goes_round(pipeline, tmp_path, command):
    with socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM) as listener:
        listener.bind(str(tmp_path / "notify"))
        listener.settimeout(60)
        env = {"NOTIFY_SOCKET": str(tmp_path / "notify"), "WATCHDOG_USEC": "2000000"}
        daemon = pipeline.ingest(env=env) if command == "ingest" else pipeline.start("rater", env=env)
        heard = []
        while len(heard) < 4:
            heard += [message for message in [listener.recv(4096)] if not message.startswith(b"STATUS=")]
        assert heard[0].startswith(b"READY=1") and heard[1:] == [b"WATCHDOG=1"] * 3
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
