"""Random fault schedules (tests/chaos/run), and the parts that they are made of.

WEIR_CHAOS_SCHEDULES (20) schedules from WEIR_RANDOM_SEED (1).
"""
import datetime
import os
import pathlib
import socket
import subprocess
import sys
import threading

import pytest

sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent))

import schedule
import trial
from proxy import Proxy
from servers import ROOT

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
SCHEDULES = int(os.environ.get("WEIR_CHAOS_SCHEDULES", "20"))


@pytest.fixture
def echo():
    """A link to a server that sends back what it gets, and all that the server got."""
    listener = socket.create_server(("127.0.0.1", 0))
    got = []

    def serve(connection):
        with connection:
            try:
                while piece := connection.recv(1000):
                    got.append(piece)
                    connection.sendall(piece)
            except OSError:
                pass

    def accept():
        try:
            while True:
                threading.Thread(target=serve, args=(listener.accept()[0],), daemon=True).start()
        except OSError:
            pass
    threading.Thread(target=accept, daemon=True).start()
    proxy = Proxy()
    link = proxy.link("echo", listener.getsockname())
    yield link, got
    proxy.close()
    listener.close()


def connect(link):
    return socket.create_connection(("127.0.0.1", link.port), timeout=30)


def ask(client, text):
    """The answer; "" when the connection was closed or reset instead."""
    try:
        client.sendall(text.encode())
        return client.recv(1000).decode()
    except ConnectionError:
        return ""


def test_a_link_passes_on_and_cuts(echo):
    link, _ = echo
    with connect(link) as client:
        assert ask(client, "hello") == "hello"
        link.cut()
        assert ask(client, "hello") == "" or ask(client, "hello") == ""
    with connect(link) as client:
        assert ask(client, "again") == "again"


def test_a_link_refuses_and_heals(echo):
    link, _ = echo
    link.set(refuse=True)
    try:
        with connect(link) as client:
            assert ask(client, "hello") == ""
    except ConnectionError:
        pass
    link.heal()
    with connect(link) as client:
        assert ask(client, "hello") == "hello"


@pytest.mark.parametrize("direction, arrives", [("up", False), ("down", True)])
def test_a_half_open_link_says_nothing(echo, direction, arrives):
    link, got = echo
    with connect(link) as client:
        assert ask(client, "before") == "before"
        link.set(lose=direction)
        client.sendall(b"lost")
        client.settimeout(0.5)
        with pytest.raises(TimeoutError):
            client.recv(1000)
        trial.wait_for("what comes through has come", lambda: (b"lost" in got) == arrives)
        client.settimeout(30)
        link.heal()
        assert ask(client, "after") == ""


@pytest.mark.parametrize("how, arrives", [("lose_request", False), ("lose_answer", True), ("late_request", True)])
def test_a_trap_springs_once(echo, how, arrives):
    link, got = echo
    link.arm(b"COMMIT", how, 0.2)
    with connect(link) as client:
        assert ask(client, "BEGIN") == "BEGIN"
        assert ask(client, "COMMIT") == ""
    with connect(link) as client:
        assert ask(client, "wait") == "wait"
        trial.wait_for("what is late has come", lambda: (b"COMMIT" in got) == arrives, 30)
        assert ask(client, "COMMIT") == "COMMIT"
    assert link.sprung == 1


def test_a_schedule_is_a_function_of_its_seed():
    for seed in range(200):
        made = schedule.make(seed, 2025)
        assert made.as_json() == schedule.make(seed, 2025).as_json()
        assert all(hasattr(trial.Trial, action.do) for action in made.actions)
    assert schedule.workload(schedule.make(7, 2025))[1] == schedule.workload(schedule.make(7, 2025))[1]


def test_the_year_of_the_events_is_over_and_not_too_late_on_any_day():
    """Lanes without events follow the clock, so what is older than the lateness would be too late by the date of the run."""
    hours = int(schedule.AMPLE.removesuffix("h"))
    for number in range(3 * 366):
        day = datetime.datetime(2026, 11, 27, tzinfo=datetime.timezone.utc) + datetime.timedelta(days=number)
        year = schedule.past_year(day)
        first, last = (datetime.datetime(year, 12, each, tzinfo=datetime.timezone.utc) for each in schedule.DAYS)
        assert day - first < datetime.timedelta(hours=hours - 24), day
        assert last + datetime.timedelta(days=8) <= day, day  # a week that began with the last of them is over in any time zone


# Schedules made by hand, for what random ones have found.

@pytest.fixture(scope="module")
def servers(tmp_path_factory):
    servers = trial.JobServers(tmp_path_factory.mktemp("chaos"))
    yield servers
    servers.remove()


def run_by_hand(servers, folder, actions, **settings):
    made = schedule.make(1)
    made.partitions, made.ingests, made.raters, made.seconds = 5, 1, 1, 2
    made.settings.update({"WEIR_IDLE": "300ms", "WEIR_FLUSH_INTERVAL": "100ms", "WEIR_RING_CUTS": "8",
                          "WEIR_INGEST_THREADS": "1", **settings})
    made.faults, made.actions = [], [schedule.Action(*action) for action in actions]
    result = trial.run_one(servers, made, folder)
    assert not result.failure, f"{result.failure}; files in {folder}"
    return result


def test_no_lane_waits_forever_for_the_only_cut(servers, tmp_path):
    """Every lane has something to write at every flush, and one cut at a time is under way."""
    run_by_hand(servers, tmp_path / "trial", [], WEIR_RING_CUTS="1", WEIR_FLUSH_INTERVAL="10ms")


def test_a_quiet_lane_notices_that_redis_went_back(servers, tmp_path):
    """All is produced and written when Redis comes back as it was before; no event and no clock wakes the lanes."""
    result = run_by_hand(servers, tmp_path / "trial",
                         [(1, "redis_remember", [0]), (4, "redis_set_back_at_rest", [0])], WEIR_IDLE="1h")
    assert result.evidence["cuts_fenced"]


def test_the_ledger_is_exact_whatever_breaks():
    with subprocess.Popen([ROOT / "tests" / "chaos" / "run", "--schedules", str(SCHEDULES), "--first-seed", str(FIRST)],
                          stdin=subprocess.DEVNULL) as run:
        try:
            assert run.wait() == 0, "a schedule failed: see above"
        finally:
            run.terminate()  # an interrupted one cleans up
            run.wait()
