"""One Kafka, Redis and PostgreSQL for the session, and a pipeline of one's own on them for each test."""
import importlib.util
import pathlib
import subprocess
import sys

import pytest

HERE = pathlib.Path(__file__).resolve().parent
sys.path.insert(0, str(HERE.parent / "system"))  # harness.py


def system_servers():
    """Servers of the whole-system tests: the same ones, started for this session."""
    spec = importlib.util.spec_from_file_location("system_conftest", HERE.parent / "system" / "conftest.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


SYSTEM = system_servers()
pytest_configure = SYSTEM.pytest_configure  # a run that is told to stop takes down its servers


@pytest.fixture(scope="session")
def servers(tmp_path_factory):
    folder = tmp_path_factory.mktemp("servers")
    try:
        yield SYSTEM.Servers(folder)
    finally:
        subprocess.run([SYSTEM.LOCAL, "down", "--wipe", "--dir", folder], capture_output=True, timeout=300, check=False)


@pytest.fixture
def pipeline(servers, request, tmp_path):
    """A topic, a database and the processes of one test. What still runs at the end is killed; what it logged is shown
    when the test fails."""
    from pipeline import Pipeline
    made = Pipeline(servers, request.node.name, tmp_path)
    try:
        yield made
    finally:
        made.close()


@pytest.fixture
def own_redis(tmp_path):
    """A Redis that the test may break."""
    from redis_process import RedisProcess
    made = RedisProcess(tmp_path / "redis")
    try:
        yield made
    finally:
        made.close()
