"""deploy/ as a user meets it: deploy/local with its real Kafka, Redis and PostgreSQL, the Compose file with its
Dockerfile, the systemd units, install-packages.

Containers cannot run where these tests do, so compose.yaml and Dockerfile are checked by reading them, and by
running the health checks' own commands against a small HTTP server.
"""

import contextlib
import http.server
import os
import re
import shutil
import signal
import socket
import subprocess
import tempfile
import threading
import time
from pathlib import Path
from types import SimpleNamespace

import confluent_kafka
import confluent_kafka.admin
import psycopg2
import pytest
import redis
import yaml

ROOT = Path(__file__).resolve().parents[2]
DEPLOY = ROOT / "deploy"
PARTS = ["kafka", "redis", "postgres"]


def local(*arguments, **options):
    """Runs deploy/local; the result has returncode, stdout and stderr."""
    return subprocess.run([DEPLOY / "local", *map(str, arguments)], capture_output=True, text=True,
                          timeout=300, cwd="/", **options)


def local_ok(*arguments, **options):
    done = local(*arguments, **options)
    assert done.returncode == 0, done.stdout + done.stderr
    return done.stdout


def settings(folder):
    """What `eval "$(deploy/local env)"` sets, read back from a shell that did just that."""
    script = 'eval "$("$0" env --dir "$1")" && env -0'
    out = subprocess.run(["bash", "-c", script, DEPLOY / "local", folder], capture_output=True, check=True,
                         env={"PATH": os.environ["PATH"]}).stdout.decode()
    pairs = dict(line.split("=", 1) for line in out.split("\0") if line)
    return {key: value for key, value in pairs.items() if key.startswith("WEIR_")}


def status(folder):
    """{part: (state, pid, port)} and the exit status."""
    done = local("status", "--dir", folder)
    rows = [re.split(r"  +", line.strip()) for line in done.stdout.splitlines()[1:]]
    return {row[0]: (row[1], row[2], int(row[3])) for row in rows}, done.returncode


def processes_of(folder):
    """Processes that live in the folder or have it in their command line, whoever started them."""
    found = []
    for entry in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):
            cwd = os.readlink(entry / "cwd")
            line = (entry / "cmdline").read_bytes().replace(b"\0", b" ").decode(errors="replace")
            if int(entry.name) != os.getpid() and ((cwd + "/").startswith(f"{folder}/") or f"{folder}/" in line):
                found.append((entry.name, line))
    return found


def eventually(check, seconds=240):
    deadline = time.monotonic() + seconds
    while not check():
        assert time.monotonic() < deadline, "not within the deadline"
        time.sleep(0.02)


@contextlib.contextmanager
def instance(folder, *options):
    """An instance of deploy/local that is gone at the end, whatever happened in between."""
    try:
        out = local_ok("up", "--dir", folder, *options)
        yield SimpleNamespace(folder=folder, up_output=out, settings=settings(folder))
    finally:
        local_ok("down", "--wipe", "--dir", folder)
        assert processes_of(folder) == []
        assert not Path(folder).exists()


@pytest.fixture(scope="module")
def whole(tmp_path_factory):
    """All three parts. The folder is pytest's own, which only its owner may enter, and has a blank in its name."""
    with instance(tmp_path_factory.mktemp("deploy") / "an instance") as it:
        yield it


@pytest.fixture
def open_folder():
    """A folder that every user can reach."""
    folder = tempfile.mkdtemp(prefix="weir-test-", dir="/var/tmp")
    os.chmod(folder, 0o755)
    yield Path(folder) / "instance"
    shutil.rmtree(folder)


def sql(url, statement):
    connection = psycopg2.connect(url, connect_timeout=60)
    try:
        with connection, connection.cursor() as cursor:
            cursor.execute(statement)
            return cursor.fetchall() if cursor.description else None
    finally:
        connection.close()


def partitions(brokers, topic):
    client = confluent_kafka.admin.AdminClient({"bootstrap.servers": brokers})
    return len(client.list_topics(timeout=60).topics[topic].partitions)


def produce(brokers, topic, values):
    producer = confluent_kafka.Producer({"bootstrap.servers": brokers})
    for value in values:
        producer.produce(topic, value)
    assert producer.flush(30) == 0


def consume(brokers, topic, count, group):
    consumer = confluent_kafka.Consumer({"bootstrap.servers": brokers, "group.id": group,
                                         "auto.offset.reset": "earliest"})
    consumer.subscribe([topic])
    got, deadline = [], time.monotonic() + 60
    while len(got) < count and time.monotonic() < deadline:
        message = consumer.poll(0.5)
        if message is not None and message.error() is None:
            got.append(message.value())
    consumer.close()
    return sorted(got)


# ---- deploy/local -------------------------------------------------------------------------------------


def test_all_three_answer_when_up_returns(whole):
    brokers = whole.settings["WEIR_KAFKA_BROKERS"]
    assert whole.settings["WEIR_KAFKA_TOPIC"] == "events"
    assert partitions(brokers, "events") == 4
    values = sorted(b"event %d" % i for i in range(500))
    produce(brokers, "events", values)
    assert consume(brokers, "events", len(values), "reader") == values
    assert redis.Redis.from_url(whole.settings["WEIR_REDIS_URL"]).ping()
    assert sql(whole.settings["WEIR_POSTGRES_URL"], "select current_database()::text") == [("weir",)]


def test_ports_are_reachable_from_this_machine_only(whole):
    ports = {port for _, _, port in status(whole.folder)[0].values()}
    listening = {}
    for table in ("/proc/net/tcp", "/proc/net/tcp6"):
        for line in Path(table).read_text().splitlines()[1:]:
            _, address, _, state = line.split()[:4]
            host, port = address.split(":")
            if state == "0A" and int(port, 16) in ports:
                listening.setdefault(int(port, 16), set()).add(host)
    loopback = {"0100007F", "0000000000000000FFFF00000100007F"}
    assert set(listening) == ports
    assert all(hosts <= loopback for hosts in listening.values()), listening


def test_up_again_changes_nothing(whole):
    before, _ = status(whole.folder)
    out = local_ok("up", "--dir", whole.folder)
    assert [line.split()[0] for line in out.splitlines() if "runs already" in line] == PARTS
    after, code = status(whole.folder)
    assert after == before and code == 0
    assert {state for state, _, _ in after.values()} == {"running"}
    assert settings(whole.folder) == whole.settings


def test_two_at_once_do_not_mix(open_folder):
    command = [DEPLOY / "local", "up", "--only", "redis,postgres", "--dir", open_folder]
    try:
        racing = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]
        outputs = [process.communicate(timeout=300)[0] for process in racing]
        assert [process.returncode for process in racing] == [0, 0]
        assert sum(output.count("started in") for output in outputs) == 2
        assert sum(output.count("runs already") for output in outputs) == 2
    finally:
        local_ok("down", "--wipe", "--dir", open_folder)


def test_a_killed_part_returns_with_its_port_and_data(whole):
    store = redis.Redis.from_url(whole.settings["WEIR_REDIS_URL"])
    store.set("kept", "yes")
    sql(whole.settings["WEIR_POSTGRES_URL"], "create table kept as select 42 as answer")
    produce(whole.settings["WEIR_KAFKA_BROKERS"], "kept", [b"a message"])
    for part in PARTS:
        local_ok("kill", part, "--dir", whole.folder)
        parts, code = status(whole.folder)
        assert parts[part][0] == "stopped" and code == 1
        local_ok("start", part, "--dir", whole.folder)
    assert status(whole.folder)[1] == 0
    assert settings(whole.folder) == whole.settings
    assert store.get("kept") == b"yes"
    assert sql(whole.settings["WEIR_POSTGRES_URL"], "select answer from kept") == [(42,)]
    assert consume(whole.settings["WEIR_KAFKA_BROKERS"], "kept", 1, "kept reader") == [b"a message"]


def test_a_part_that_someone_else_killed_is_called_crashed(whole):
    os.kill(int(status(whole.folder)[0]["redis"][1]), signal.SIGKILL)
    eventually(lambda: status(whole.folder)[0]["redis"][0] == "crashed")
    local_ok("restart", "redis", "--dir", whole.folder)
    assert status(whole.folder)[1] == 0


def test_a_hung_part_does_not_pass_for_running(whole):
    pid = int(status(whole.folder)[0]["kafka"][1])
    os.kill(pid, signal.SIGSTOP)
    try:
        parts, code = status(whole.folder)
    finally:
        os.kill(pid, signal.SIGCONT)
    assert parts["kafka"][0] == "not answering" and code == 1
    eventually(lambda: status(whole.folder)[1] == 0)


def test_topic(whole):
    brokers = whole.settings["WEIR_KAFKA_BROKERS"]
    assert "created with 3 partitions" in local_ok("topic", "other", "--partitions", 3, "--dir", whole.folder)
    assert partitions(brokers, "other") == 3
    assert "stands already" in local_ok("topic", "other", "--partitions", 3, "--dir", whole.folder)
    refused = local("topic", "other", "--partitions", 5, "--dir", whole.folder)
    assert refused.returncode == 1 and "with 3 partitions instead of 5" in refused.stderr
    assert local("topic", "a/b", "--dir", whole.folder).returncode == 2


def test_instances_side_by_side_and_down_keeps_data(whole, open_folder):
    only = ["--only", "redis,postgres"]
    with instance(open_folder, *only, "--fast") as other:
        assert set(other.settings) == {"WEIR_REDIS_URL", "WEIR_POSTGRES_URL"}
        assert not set(other.settings.values()) & set(whole.settings.values())
        sql(other.settings["WEIR_POSTGRES_URL"], "create table kept as select 7 as answer")
        where = sql(other.settings["WEIR_POSTGRES_URL"], "show data_directory")[0][0]
        assert where == f"{open_folder}/postgres/data"
        assert sql(other.settings["WEIR_POSTGRES_URL"], "show fsync") == [("off",)]
        pids = [int(pid) for _, pid, _ in status(open_folder)[0].values()]

        local_ok("down", "--dir", open_folder)
        assert processes_of(open_folder) == []
        assert status(open_folder)[1] == 1
        for pid in pids:        # gone, or (where the first process is slow to reap) a zombie
            stat = Path(f"/proc/{pid}/stat")
            assert not stat.exists() or stat.read_text().rsplit(")", 1)[1].split()[0] == "Z"
        assert status(whole.folder)[1] == 0

        local_ok("up", "--dir", open_folder, *only, env={**os.environ, "WEIR_LOCAL_POSTGRES": "shared_buffers=160MB max_wal_size=2GB"})
        assert settings(open_folder) == other.settings
        assert sql(other.settings["WEIR_POSTGRES_URL"], "select answer from kept") == [(7,)]
        assert sql(other.settings["WEIR_POSTGRES_URL"], "show fsync") == [("on",)]
        assert sql(other.settings["WEIR_POSTGRES_URL"], "show shared_buffers") == [("160MB",)]
        assert sql(other.settings["WEIR_POSTGRES_URL"], "show max_wal_size") == [("2GB",)]


def test_postgres_data_live_where_its_user_can_reach_them(whole):
    where = sql(whole.settings["WEIR_POSTGRES_URL"], "show data_directory")[0][0]
    if os.geteuid() == 0:       # pytest's folder is closed to user postgres
        assert re.fullmatch(r"/(var/)?tmp/weir-postgres\.\w+/data", where)
        assert Path(where).owner() == "postgres"
    else:
        assert where == f"{whole.folder}/postgres/data"


def test_another_program_on_the_port(open_folder):
    with instance(open_folder, "--only", "redis"):
        local_ok("stop", "redis", "--dir", open_folder)
        port = status(open_folder)[0]["redis"][2]
        with socket.create_server(("127.0.0.1", port)):
            refused = local("start", "redis", "--dir", open_folder)
            assert refused.returncode == 1
            assert f"port {port} of redis is taken by another program" in refused.stderr
            local_ok("up", "--only", "redis", "--dir", open_folder)
            assert status(open_folder)[0]["redis"][2] != port
            assert redis.Redis.from_url(settings(open_folder)["WEIR_REDIS_URL"]).ping()


@pytest.mark.parametrize("moment", ["run/redis.pid", "log/postgres-initdb.log", "run/postgres.pid", "run/kafka.pid"])
def test_an_interrupted_up_leaves_nothing_running(open_folder, moment):
    process = subprocess.Popen([DEPLOY / "local", "up", "--dir", open_folder], stdout=subprocess.DEVNULL)
    try:
        eventually((open_folder / moment).exists)
        process.send_signal(signal.SIGTERM)
        assert process.wait(240) == 130
        eventually(lambda: processes_of(open_folder) == [])      # initdb tidies up after itself
    finally:
        process.kill()
        local_ok("down", "--wipe", "--dir", open_folder)


def test_a_part_that_cannot_start_says_why(open_folder):
    with instance(open_folder, "--only", "redis"):
        local_ok("stop", "redis", "--dir", open_folder)
        manifest = next((open_folder / "redis/appendonlydir").glob("*.manifest"))
        manifest.write_text("nonsense\n")
        failed = local("start", "redis", "--dir", open_folder)
        assert failed.returncode == 1
        assert "redis ended while starting" in failed.stderr and "redis.log" in failed.stderr
        assert "Invalid AOF manifest file format" in failed.stderr     # Redis's own words from its log


def test_a_redis_cluster_serves_when_up_returns(open_folder):
    with instance(open_folder, "--only", "redis", "--redis-nodes", "3", "--fast") as made:
        url = made.settings["WEIR_REDIS_URL"]
        assert url.startswith("redis://") and url.count(",") == 2
        ports = [int(node.rsplit(":", 1)[1]) for node in url[len("redis://"):].split(",")]
        cluster = redis.RedisCluster(host="127.0.0.1", port=ports[2])
        for number in range(60):
            assert cluster.set(f"key-{number}", number)
        assert all(redis.Redis(port=port).dbsize() for port in ports), "each has its share"
        assert set(status(open_folder)[0]) == {"redis", "redis2", "redis3"} and status(open_folder)[1] == 0
        local_ok("kill", "redis2", "--dir", open_folder)
        assert status(open_folder)[1] == 1
        local_ok("start", "redis2", "--dir", open_folder)
        assert redis.RedisCluster(host="127.0.0.1", port=ports[1]).set("key-1", 1)
        assert local("up", "--only", "redis", "--redis-nodes", "4", "--dir", open_folder).returncode == 1


def test_missing_program_names_its_package(tmp_path):
    programs = tmp_path / "bin"
    programs.mkdir()
    for name in ["bash", "env", "dirname", "realpath", "flock"]:
        (programs / name).symlink_to(shutil.which(name))
    failed = local("up", "--only", "redis", "--dir", tmp_path / "d", env={"PATH": str(programs)})
    assert failed.returncode == 1
    assert failed.stderr == ("deploy/local: redis-server is missing: apt-get install redis-server, "
                             "or deploy/install-packages local\n")
    assert not (tmp_path / "d").exists()


@pytest.mark.parametrize("arguments, code, message", [
    ([], 2, "Usage:"),
    (["nonsense"], 2, "no command 'nonsense'"),
    (["up", "more"], 2, "up takes no 'more'"),
    (["up", "--only", "mysql"], 2, "no part 'mysql'"),
    (["up", "--partitions", "0"], 2, "--partitions takes 1 to 9999"),
    (["up", "--redis-nodes", "2"], 2, "--redis-nodes takes 1, or 3 to 9"),
    (["up", "--dir"], 2, "--dir needs a value"),
    (["up", "--sideways"], 2, "no option --sideways"),
    (["start"], 2, "start takes one part"),
    (["start", "redis", "--dir", "/nonexistent/d"], 1, "redis was never set up in /nonexistent/d"),
    (["env", "--dir", "/nonexistent/d"], 1, "nothing was set up in /nonexistent/d"),
    (["up", "--dir", str(DEPLOY)], 1, "is not empty and not an instance"),
])
def test_misuse(arguments, code, message):
    done = local(*arguments)
    assert done.returncode == code
    assert message in done.stderr and done.stdout == ""


def test_help_and_idle_commands():
    assert "Example:" in local_ok("--help")
    assert "nothing runs in /nonexistent/d" in local_ok("down", "--dir", "/nonexistent/d")


# ---- install-packages ---------------------------------------------------------------------------------


def package_groups():
    text = (DEPLOY / "install-packages").read_text()
    return {name: names.split() for name, names in re.findall(r"\[(\w+)\]=\"([^\"]+)\"", text)}


def test_install_packages_lists_what_is_missing(tmp_path):
    script = DEPLOY / "install-packages"
    assert subprocess.run([script], capture_output=True, text=True, check=True).stdout == ""
    assert subprocess.run([script, "nonsense"], capture_output=True).returncode == 2
    # A dpkg-query that knows one package as removed and nothing of the others.
    fake = tmp_path / "dpkg-query"
    fake.write_text("#!/bin/sh\necho cmake config-files\necho gcc installed\nexit 1\n")
    fake.chmod(0o755)
    listed = subprocess.run([script, "--list", "build"], capture_output=True, text=True, check=True,
                            env={"PATH": f"{tmp_path}:{os.environ['PATH']}"}).stdout.split()
    assert listed == [name for name in package_groups()["build"] if name != "gcc"]


def test_shell_scripts_pass_shellcheck():
    scripts = [DEPLOY / "local", DEPLOY / "local.d/kafka-wire.sh", DEPLOY / "install-packages"]
    # Not used here: SC2015 (a && b || die is meant so), SC2059 (escapes built on purpose), SC2012 (our own names).
    done = subprocess.run(["shellcheck", "--shell=bash", "--external-sources", f"--source-path={ROOT}",
                           "--exclude=SC2015,SC2059,SC2012", *scripts], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout


# ---- compose.yaml and Dockerfile ----------------------------------------------------------------------


@pytest.fixture(scope="module")
def compose():
    return yaml.safe_load((DEPLOY / "compose.yaml").read_text())


def test_compose_has_the_services_in_the_right_order(compose):
    services = compose["services"]
    assert {"kafka", "redis", "postgres", "migrate", "apply", "ingest", "rater"} <= set(services)
    for name, service in services.items():
        assert "image" in service and "restart" in service, name
        for other, how in service.get("depends_on", {}).items():
            condition = how["condition"]
            if condition == "service_healthy":
                assert "healthcheck" in services[other], f"{name} waits for the health of {other}, which has no check"
            else:
                assert condition == "service_completed_successfully", f"{name} {other}"
                assert services[other]["restart"] == "no", f"{name} waits for the end of {other}, which is restarted"
        one_shot = service["restart"] == "no"
        assert one_shot or ("stop_grace_period" in service and "healthcheck" in service), name

    def waits_for(name):
        direct = set(services[name].get("depends_on", {}))
        return direct.union(*(waits_for(other) for other in direct))

    assert waits_for("ingest") >= {"kafka", "redis", "postgres", "migrate", "apply", "topics"}
    assert waits_for("rater") >= {"redis", "postgres", "migrate", "apply"}


def test_compose_publishes_to_this_host_only_and_keeps_data_in_volumes(compose):
    for name, service in compose["services"].items():
        for port in service.get("ports", []):
            assert port.startswith("127.0.0.1:"), f"{name} {port}"
        for volume in service.get("volumes", []):
            source = volume.split(":")[0]
            assert source in compose["volumes"] or source.startswith(("./", "${")), f"{name} {volume}"
    assert all(any(volume.startswith(f"{part}:") for volume in compose["services"][part]["volumes"]) for part in PARTS)


def test_compose_weir_services_get_their_settings(compose):
    for name in ["migrate", "apply", "ingest", "rater"]:
        service = compose["services"][name]
        environment = service["environment"]
        assert service["command"][0] == name
        assert {"WEIR_KAFKA_BROKERS", "WEIR_KAFKA_TOPIC", "WEIR_REDIS_URL", "WEIR_POSTGRES_URL"} <= set(environment)
        assert service["read_only"] is True and service["cap_drop"] == ["ALL"]
        assert service["build"] == {"context": "..", "dockerfile": "deploy/Dockerfile"}
    assert compose["services"]["ingest"]["environment"]["WEIR_METRICS_LISTEN"].endswith(":9464")
    assert compose["services"]["rater"]["environment"]["WEIR_METRICS_LISTEN"].endswith(":9465")


def test_compose_and_local_run_the_same_kafka(compose):
    version = re.search("<kafka.version>(.*?)<", (DEPLOY / "local.d/pom.xml").read_text())[1]
    for name in ["kafka", "topics"]:
        assert compose["services"][name]["image"] == f"apache/kafka:{version}"


@pytest.mark.parametrize("service, port", [("ingest", 9464), ("rater", 9465)])
def test_compose_health_check_tells_well_from_unwell(compose, service, port):
    """The check's own command, as Compose would hand it to the container, against a page that is and is not well."""
    kind, *command = compose["services"][service]["healthcheck"]["test"]
    assert kind == "CMD"
    answer = {"status": 200}

    class Page(http.server.BaseHTTPRequestHandler):
        def do_GET(self):
            self.send_response(answer["status"] if self.path == "/healthz" else 404)
            self.end_headers()

        def log_message(self, *_):
            pass

    server = http.server.ThreadingHTTPServer(("127.0.0.1", 0), Page)
    command = [word.replace("$$", "$").replace(f"/{port} ", f"/{server.server_port} ") for word in command]
    assert f"/{server.server_port} " in command[-1]
    threading.Thread(target=server.serve_forever, daemon=True).start()
    try:
        assert subprocess.run(command, timeout=60).returncode == 0
        answer["status"] = 503
        assert subprocess.run(command, timeout=60).returncode != 0
    finally:
        server.shutdown()
        server.server_close()
    assert subprocess.run(command, timeout=60, stderr=subprocess.DEVNULL).returncode != 0


def dockerfile():
    text = re.sub(r"^\s*#.*\n", "", (DEPLOY / "Dockerfile").read_text(), flags=re.M).replace("\\\n", " ")
    return [tuple(line.split(None, 1)) for line in text.splitlines() if line.strip()]


def test_dockerfile_runs_as_a_user_without_rights():
    lines = dockerfile()
    known = {"FROM", "WORKDIR", "COPY", "RUN", "USER", "ENTRYPOINT", "CMD"}
    assert {word for word, _ in lines} <= known
    last_stage = lines[max(i for i, (word, _) in enumerate(lines) if word == "FROM"):]
    user = dict(last_stage)["USER"].split(":")[0]
    assert int(user) > 0 and f"--uid {user}" in dict(last_stage)["RUN"]
    assert all(rest.startswith("debian:12-slim") for word, rest in lines if word == "FROM")


def test_dockerfile_context_holds_what_the_build_reads():
    let_in = {line[1:] for line in (DEPLOY / "Dockerfile.dockerignore").read_text().splitlines() if line[:1] == "!"}
    for path in let_in:
        assert (ROOT / path).exists(), f"Dockerfile.dockerignore names {path}"
    cmake = (ROOT / "CMakeLists.txt").read_text()
    folders = set(re.findall(r"weir_folder\((\w+)", cmake)) | {"schemas", "cli", "cmake"}
    assert folders | {"CMakeLists.txt", "CMakePresets.json", "deploy/install-packages"} <= let_in


def test_dockerfile_runtime_has_a_library_for_each_one_built_with():
    """Each -dev package of group build depends on its runtime library: the image must install that one."""
    installed = " ".join(rest for word, rest in dockerfile() if word == "RUN").split()
    development = [name for name in package_groups()["build"] if name.endswith("-dev") or name == "zlib1g-dev"]
    assert len(development) >= 9
    for name in development:
        depends = subprocess.run(["dpkg-query", "-W", "-f=${Depends}", name], capture_output=True, text=True,
                                 check=True).stdout
        runtime = {part.split()[0] for part in depends.split(",")} & set(installed)
        assert runtime, f"the image has no runtime library of {name}, which depends on: {depends}"


# ---- systemd ------------------------------------------------------------------------------------------


@pytest.fixture(scope="module")
def units(tmp_path_factory):
    """The units, with a program that exists: systemd-analyze refuses one that is not installed."""
    folder = tmp_path_factory.mktemp("units")
    for unit in (DEPLOY / "systemd").glob("*.timer"):
        (folder / unit.name).write_text(unit.read_text())
    for unit in (DEPLOY / "systemd").glob("*.service"):
        text = unit.read_text()
        assert "ExecStart=/usr/bin/weir " in text
        (folder / unit.name).write_text(text.replace("ExecStart=/usr/bin/weir ", "ExecStart=/usr/bin/true "))
    return folder


def test_systemd_accepts_the_units(units):
    names = ["weir-ingest.service", "weir-rater.service", "weir-ingest@9474.service", "weir-reconcile.service", "weir-reconcile.timer"]
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", *names], cwd=units, capture_output=True, text=True)
    assert done.returncode == 0 and done.stderr == "", done.stderr
    # It would notice: the same with a misspelt setting.
    broken = units / "broken.service"
    broken.write_text((units / "weir-rater.service").read_text().replace("WatchdogSec=", "WatchdogSecs="))
    done = subprocess.run(["systemd-analyze", "verify", "--man=no", broken], capture_output=True, text=True)
    assert "WatchdogSecs" in done.stderr


@pytest.mark.parametrize("name", ["weir-ingest.service", "weir-rater.service", "weir-ingest@.service", "weir-reconcile.service"])
def test_systemd_units_are_hardened(units, name):
    """Exposure at most 2.0 of 10 (a unit without hardening has 9.6)."""
    done = subprocess.run(["systemd-analyze", "security", "--offline=true", "--threshold=20", "--no-pager",
                           units / name], capture_output=True, text=True)
    assert done.returncode == 0, done.stdout[-300:] + done.stderr
    assert "Overall exposure level" in done.stdout


def test_systemd_units_agree_with_each_other():
    def lines(name):
        text = (DEPLOY / "systemd" / name).read_text()
        return [line for line in text.splitlines()
                if not line.startswith(("#", "Description=", "Environment=WEIR_METRICS_LISTEN="))]

    ingest = lines("weir-ingest.service")
    assert lines("weir-ingest@.service") == ingest
    rater = [line.replace("weir rater", "weir ingest").replace("MemoryMax=1G", "MemoryMax=4G")
             for line in lines("weir-rater.service")]
    assert rater == ingest
    assert "Type=notify" in ingest and "Restart=on-failure" in ingest


def test_an_ingest_worker_at_its_limits_fits_into_its_memory():
    """deploy/README.md, "Memory of an ingest worker": by the defaults, an error stops it and not the kernel."""
    text = subprocess.run([ROOT / "build/release/weir", "ingest", "--help"], capture_output=True, text=True, check=True).stdout
    windows, ids = (int(re.search(rf"WEIR_LANE_{name}_MAX, default (\d+)", text)[1]) for name in ("WINDOWS", "IDS"))
    readme = (DEPLOY / "README.md").read_text()
    window, identity, rest = map(int, re.search(r"(\d+) bytes × lane_windows_max \+ (\d+) bytes × lane_ids_max \+ (\d+) MB", readme).groups())
    needed = window * windows + identity * ids + rest * 10**6
    assert f"is what it may come to: {needed / 10**9:.2f} GB with the defaults" in readme
    said = re.sub(r"\s+", " ", (ROOT / "README.md").read_text())
    assert f"{windows // 10**6} million × {window} + {ids // 10**6} million × {identity} bytes + {rest} MB = {needed / 10**9:.2f} GB" in said
    assert f"(an id: at most {identity} bytes)" in text
    for file in ("systemd/weir-ingest.service", "systemd/weir-ingest@.service", "compose.yaml"):
        assert f"# {window} bytes x lane_windows_max + {identity} x lane_ids_max + {rest} MB" in (DEPLOY / file).read_text(), file
    for unit in ("weir-ingest.service", "weir-ingest@.service"):
        assert needed <= int(re.search(r"^MemoryMax=(\d+)G$", (DEPLOY / "systemd" / unit).read_text(), re.M)[1]) << 30
    assert needed <= int(re.search(r"mem_limit: (\d+)g # 300 bytes", (DEPLOY / "compose.yaml").read_text())[1]) << 30
