"""Command lines and exit statuses of every command: 0 done, 1 failed, 2 bad usage or bad catalog, and one line that says
what to do. (`weir check` has more in tests/unit/test_check.py; the daemons in test_daemons.py.)"""
import json
import os
import re
import subprocess

import psycopg2
import pytest
from harness import BINARY, ROOT, counts, event_bytes, read_quarantine, weir

COMMANDS = re.findall(r'^    \{"([a-z]+)", weir_command_', (ROOT / "cli" / "weir.c").read_text(), re.M)
DAEMONS = ("ingest", "rater")
EXAMPLE = ROOT / "deploy" / "example" / "catalog"
NOWHERE = {"WEIR_KAFKA_BROKERS": "127.0.0.1:1", "WEIR_REDIS_URL": "redis://127.0.0.1:1", "WEIR_METRICS_LISTEN": "off",
           "WEIR_POSTGRES_URL": "postgresql://127.0.0.1:1/weir"}
CATALOG = {
    "meters": [{"key": "calls", "event_type": "call", "aggregation": "count", "window": "1h"}],
    "price_books": [{"key": "b", "version": 1, "currency": "USD", "effective_from": "1970-01-01T00:00:00Z",
                     "prices": [{"meter": "calls", "model": "per_unit", "unit_price": "1"}]}],
    "contracts": [{"key": "acme-1", "customer": "acme", "price_book": "b", "starts_at": "2026-01-01T00:00:00Z", "ends_at": None,
                   "billing_period": "month", "timezone": "UTC"}]}
EVENT = {"specversion": "1.0", "id": "1", "source": "test", "type": "call", "subject": "acme", "time": "2026-01-05T10:00:00Z"}
BAD = b'{"specversion":"1.0","id":"2"}'


def lines(done):
    return done.stderr.decode().splitlines()


@pytest.fixture
def files(tmp_path):
    """A folder with a catalog, and an event that counts beside one that cannot."""
    (tmp_path / "catalog.json").write_text(json.dumps(CATALOG))
    (tmp_path / "events.ndjson").write_bytes(json.dumps(EVENT).encode() + b"\n" + BAD + b"\n")
    return tmp_path


@pytest.fixture(scope="module")
def room(servers):
    env = {**servers.room("commands", 1), "WEIR_METRICS_LISTEN": "off"}
    weir("migrate", env=env)
    return env


def test_the_binary_says_its_version_and_its_commands():
    version = re.search(r"project\(weir VERSION (\S+)", (ROOT / "CMakeLists.txt").read_text())[1]
    assert weir("--version").stdout.decode() == f"weir {version}\n"
    text = weir("--help").stdout.decode()
    assert "weir --version" in text and "\nexample: weir " in text
    assert set(COMMANDS) == set(re.findall(r"^  ([a-z]+) ", text, re.M)) and len(COMMANDS) >= 8


@pytest.mark.parametrize("command", COMMANDS)
def test_every_command_has_help_with_an_example(command):
    done = weir(command, "--help")
    assert done.stderr == b""
    text = done.stdout.decode()
    assert text.startswith(f"usage: weir {command} ") and re.search(rf"\nexample: .*weir {command}\b", text)


@pytest.mark.parametrize("command", [*COMMANDS, None])
def test_an_unknown_option_exits_with_2_and_says_whose_and_what_to_do(command):
    done = subprocess.run([BINARY, *([command] if command else []), "--nonsense"], capture_output=True, timeout=60, check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    [line] = lines(done)
    name = f"weir {command}" if command else "weir"
    assert line.startswith(f"{name}: ") and "--nonsense" in line and f"`{name} --help`" in line


@pytest.mark.parametrize("command", COMMANDS)
def test_an_option_without_its_value_exits_with_2(command):
    done = weir(command, "--catalog" if command in ("rate", "check") else "--log-level", check=False)
    assert (done.returncode, done.stdout, len(lines(done))) == (2, b"", 1)
    assert lines(done)[0].startswith(f"weir {command}: ")


@pytest.mark.parametrize("command", [name for name in COMMANDS if name not in ("rate", "check", "produce")])
def test_a_word_that_is_no_option_exits_with_2(command):
    done = weir(command, "nonsense", check=False)
    assert (done.returncode, done.stdout) == (2, b"")
    assert lines(done)[-1].startswith(f"weir {command}: ")


@pytest.mark.parametrize("command", ["rate", "apply", *DAEMONS])
def test_a_bad_catalog_exits_with_2_and_names_file_and_place(files, command):
    (files / "catalog.json").write_text(json.dumps({**CATALOG, "contracts": [{**CATALOG["contracts"][0], "price_book": "none"}]}))
    done = weir(command, "--catalog", files / "catalog.json", *(["-"] if command == "rate" else []), check=False, env=NOWHERE)
    assert (done.returncode, done.stdout) == (2, b"")
    assert lines(done)[0].startswith(f"weir {command}: {files}/catalog.json: $.contracts[0].price_book: "), done.stderr


@pytest.mark.parametrize("command", DAEMONS)
def test_a_bad_catalog_is_told_in_json_too(files, command):
    (files / "catalog.json").write_text("{")
    done = weir(command, "--catalog", files / "catalog.json", "--log-format", "json", check=False, env=NOWHERE)
    assert done.returncode == 2
    [line] = [json.loads(line) for line in lines(done)]
    assert (line["level"], line["command"]) == ("error", f"weir {command}") and "catalog.json" in line["message"]


@pytest.mark.parametrize("arguments", [
    ("release", "--lane", "x"), ("close", "--through", "x"), ("explain", "x"), ("invoice", "x"), ("audit", "x"), ("recount",), ("rerate",),
    ("backtest",), ("revenue", "--month", "x"), ("balance", "--at", "x"), ("grant",), ("void",), ("refund",), ("admit", "--offset", "x"),
    ("apply",), ("produce",)], ids=" ".join)
def test_a_mistake_found_after_the_settings_is_told_in_json_too(arguments):
    done = weir(*arguments, check=False, env={**NOWHERE, "WEIR_CATALOG": "", "WEIR_LOG_FORMAT": "json"})
    told = [json.loads(line) for line in lines(done)]
    assert done.returncode == 2 and told and {(line["level"], line["command"]) for line in told} == {("error", f"weir {arguments[0]}")}
    text = weir(*arguments, check=False, env={**NOWHERE, "WEIR_CATALOG": ""})
    assert [f"weir {arguments[0]}: {line['message']}" for line in told] == lines(text)


@pytest.mark.parametrize("arguments, wrong", [
    (("rater", "--until-done", "--patience", "1s", "--kafka-brokers", "x:1"), "--kafka-brokers is not an option"),
    (("rater", "--until-done", "--patience", "1s", "--kafka-group", "x"), "--kafka-group is not an option"),
    (("produce", "--kafka-group", "x"), "--kafka-group is not an option"), (("release", "--kafka-brokers", "x:1"), "--kafka-brokers is not an option"),
    (("balance", "--entries", "--events"), "either --entries or --events"), (("balance", "--after", "5"), "--after N is for --events"),
    (("balance", "--entries", "--after", "5"), "--after N is for --events"),
    (("admit", "--reason", "toolate"), "--reason: 'toolate' is none; allowed are any, malformed_json, ")], ids=str)
def test_an_option_that_would_do_nothing_is_refused(arguments, wrong):
    done = weir(*arguments, check=False, env=NOWHERE)
    assert done.returncode == 2 and done.stdout == b"" and lines(done)[0].startswith(f"weir {arguments[0]}: {wrong}"), done.stderr


def test_what_commands_share_in_file_and_environment_is_taken_by_all(tmp_path):
    """They get past their settings, to servers that are away."""
    (tmp_path / "weir.json").write_text(json.dumps({"kafka": {"brokers": "127.0.0.1:1", "group": "x"}, "rater": {"batch": 5}}))
    for command in (("rater", "--until-done", "--patience", "1s"), ("release",), ("balance",)):
        done = weir(*command, "--config", tmp_path / "weir.json", check=False, env={**NOWHERE, "WEIR_KAFKA_GROUP": "y"})
        assert done.returncode == 1 and b"PostgreSQL" in done.stderr, done.stderr


@pytest.mark.parametrize("arguments, wrong", [
    (("--amount", "0.0000000000001", "--customer", "acme"), "--amount has more than 12 decimal places"),
    (("--amount", "1", "--price", "1.0000000000001", "--customer", "acme"), "--price has more than 12 decimal places"),
    (("--amount", "1", "--customer", "c" * 257), "--customer is longer than 256 bytes")])
def test_grant_says_what_its_limits_are(arguments, wrong):
    done = weir("grant", *arguments, "--key", "k", "--funding", "paid", "--reason", "r", check=False, env=NOWHERE)
    assert done.returncode == 2 and lines(done)[0].startswith(f"weir grant: {wrong}"), done.stderr


@pytest.mark.parametrize("path, wrong", [("/", "is a folder; a JSON file is needed"), ("/none/x", "cannot be read: No such file or directory")])
def test_a_file_of_details_that_is_none_is_told_as_that(path, wrong):
    done = weir("close", "--through", "2026-01-31", "--invoice-details", path, check=False, env=NOWHERE)
    assert done.returncode == 2 and lines(done)[-1].endswith(f"{path}: {wrong}"), done.stderr


# ---- where `weir rate` keeps what cannot be counted ------------------------------------------------------------------

def rate(files, *arguments, check=True):
    return weir("rate", "--catalog", files / "catalog.json", *arguments, files / "events.ndjson", check=check)


def test_quarantine_goes_beside_the_output(files):
    done = rate(files, "--output", files / "items.csv", "--format", "csv")
    assert counts(done.stderr)["quarantined"] == 1 and len(lines(done)) == 1
    assert [event_bytes(record) for record in read_quarantine(files / "items.csv.quarantine.ndjson")] == [BAD]


def test_quarantine_of_an_earlier_run_goes_with_its_output(files):
    rate(files, "--output", files / "items.csv")
    (files / "events.ndjson").write_text(json.dumps(EVENT) + "\n")
    rate(files, "--output", files / "items.csv")
    assert not (files / "items.csv.quarantine.ndjson").exists()


def test_quarantine_goes_where_it_is_sent(files):
    done = rate(files, "--output", files / "items.csv", "--quarantine", files / "bad.ndjson")
    assert len(lines(done)) == 1 and len(read_quarantine(files / "bad.ndjson")) == 1
    assert sorted(path.name for path in files.iterdir()) == ["bad.ndjson", "catalog.json", "events.ndjson", "items.csv"]


@pytest.mark.parametrize("arguments", [(), ("--output", "/dev/null")])
def test_quarantine_that_is_not_kept_is_told(files, arguments):
    first, last = lines(rate(files, *arguments))
    assert first == "weir rate: 1 events cannot be counted and were not kept; --quarantine FILE keeps them"
    assert last.startswith("weir rate: read=2 counted=1 ")
    (files / "events.ndjson").write_text(json.dumps(EVENT) + "\n")
    assert len(lines(rate(files, *arguments))) == 1


def test_rate_exits_with_1_when_it_cannot_write(files):
    done = rate(files, "--output", files / "none" / "items.csv", check=False)
    assert done.returncode == 1 and "items.csv: cannot be written" in lines(done)[-1]


@pytest.mark.parametrize("arguments", [(), ("--catalog", EXAMPLE), ("--catalog", EXAMPLE, "--format", "xml", "-"), ("-",)])
def test_rate_exits_with_2_when_something_is_missing(arguments):
    done = weir("rate", *arguments, check=False)
    assert (done.returncode, done.stdout) == (2, b"") and "`weir rate --help` shows how" in lines(done)[-1]


def refused(files, *arguments, **redirected):
    """What `weir rate` says of a file that it would write over; and nothing was made, changed or lost."""
    before = {path: path.read_bytes() for path in files.rglob("*") if path.is_file()}
    done = subprocess.run([BINARY, "rate", "--catalog", files / "catalog.json", *arguments], cwd=files, stderr=subprocess.PIPE,
                          timeout=60, check=False, **{"stdout": subprocess.PIPE, **redirected})
    assert done.returncode == 2 and not done.stdout
    assert {path: path.read_bytes() for path in files.rglob("*") if path.is_file()} == before
    [line] = lines(done)
    return line.removeprefix("weir rate: ")


def test_rate_writes_over_no_file_that_it_reads(files):
    input = " is the same file as the input 'events.ndjson', which would be overwritten: give "
    assert refused(files, "--output", "events.ndjson", "events.ndjson") == "--output 'events.ndjson'" + input + "--output another name"
    assert refused(files, "--quarantine", "./events.ndjson", "events.ndjson") == "--quarantine './events.ndjson'" + input + "--quarantine another name"
    (files / "link").symlink_to("events.ndjson")
    (files / "same").hardlink_to(files / "events.ndjson")
    for name in ("link", "same"):
        assert refused(files, "--output", name, "--quarantine", "/dev/null", "/dev/null", "events.ndjson").startswith(f"--output '{name}'" + input)
    (files / "items.csv.quarantine.ndjson").write_bytes(BAD)
    assert (refused(files, "--output", "items.csv", "items.csv.quarantine.ndjson") == "the quarantine file of --output, 'items.csv.quarantine.ndjson' is the same file"
            " as the input 'items.csv.quarantine.ndjson', which would be overwritten: give --quarantine FILE, or --output another name")
    with open(files / "events.ndjson") as stream:
        assert refused(files, "--output", "events.ndjson", "-", stdin=stream).startswith("--output 'events.ndjson' is the same file as standard input, ")
    with open(files / "events.ndjson", "a") as stream:
        assert refused(files, "events.ndjson", stdout=stream).startswith("standard output is the same file as the input 'events.ndjson', ")


def test_rate_writes_over_no_catalog(files):
    assert refused(files, "--output", "catalog.json", "events.ndjson").startswith("--output 'catalog.json' is the same file as the catalog's ")
    (files / "folder").mkdir()
    (files / "folder" / "one.json").write_text(json.dumps(CATALOG))
    said = refused(files, "--catalog", "folder", "--quarantine", "folder/one.json", "events.ndjson")
    assert said.startswith("--quarantine 'folder/one.json' is the same file as the catalog's 'folder/one.json', ")


@pytest.mark.parametrize("quarantine", ["o", "./o", "folder/../o"])
def test_rate_writes_no_two_things_into_one_file(files, quarantine):
    (files / "folder").mkdir()
    said = f"--output 'o' and --quarantine '{quarantine}' would be written into one file: give --quarantine another name"
    assert refused(files, "--output", "o", "--quarantine", quarantine, "events.ndjson") == said
    (files / "o").write_text("of an earlier run")
    assert refused(files, "--output", "o", "--quarantine", quarantine, "events.ndjson") == said
    with open(files / "o", "a") as stream:
        assert refused(files, "--quarantine", quarantine, "events.ndjson", stdout=stream).startswith("standard output and --quarantine '")


# ---- tables ----------------------------------------------------------------------------------------------------------

@pytest.mark.parametrize("arguments", [("migrate",), ("audit", "list")])
def test_tables_line_up(room, files, arguments):
    """Names longer than any width that somebody once thought of: each column begins below its heading."""
    weir("apply", "--catalog", files / "catalog.json", env=room)
    weir("grant", "--customer", "acme", "--key", f"a-grant-with-a-name-as-long-as-names-are-{arguments[0]}", "--amount", "1", "--funding", "free",
         "--reason", "tables", env=room)
    head, *rows = weir(*arguments, env=room).stdout.decode().splitlines()
    begins = [match.start() for match in re.finditer(r"\S+", head)][1:]  # the first one is a number, aligned right
    assert len(begins) >= 3 and rows
    for row in rows:
        assert all(row[at - 2:at] == "  " and row[at] != " " for at in begins), "\n".join([head, *rows])


def test_audit_prints_no_heading_for_what_cannot_be_read():
    done = weir("audit", "list", check=False, env=NOWHERE)
    assert (done.returncode, done.stdout, len(lines(done))) == (1, b"", 1)


# ---- servers that are away, and that say no --------------------------------------------------------------------------

@pytest.mark.parametrize("command", ["migrate", "reconcile"])
def test_a_postgres_that_is_away_exits_with_1(command):
    done = weir(command, check=False, env={**NOWHERE, "WEIR_CATALOG": ""})
    assert done.returncode == 1 and done.stdout == b""
    assert any(f"weir {command}: " in line and "127.0.0.1" in line for line in lines(done)), done.stderr


def test_apply_exits_with_1_when_postgres_is_away():
    done = weir("apply", "--catalog", EXAMPLE, check=False, env=NOWHERE)
    assert done.returncode == 1 and "127.0.0.1" in lines(done)[-1]


def test_apply_exits_with_2_without_a_catalog_and_when_it_refuses(servers, files):
    env = servers.room("commands-apply", 1, is_migrated=False)
    assert weir("apply", check=False, env={**env, "WEIR_CATALOG": ""}).returncode == 2
    assert "applied" in weir("migrate", env=env).stdout.decode()
    assert weir("migrate", env=env).returncode == 0
    weir("apply", "--catalog", files / "catalog.json", env=env)
    assert "nothing to do" in weir("apply", "--catalog", files / "catalog.json", env=env).stdout.decode()
    CHANGED = json.loads(json.dumps(CATALOG).replace('"unit_price": "1"', '"unit_price": "2"'))
    (files / "catalog.json").write_text(json.dumps(CHANGED))
    done = weir("apply", "--catalog", files / "catalog.json", check=False, env=env)
    assert (done.returncode, [line for line in done.stdout.decode().splitlines() if "unit_price" not in line]) == (2, ["~ price book b version 1", "values:"])
    assert b'prices[0].unit_price: "1" -> "2"\n' in done.stdout
    assert lines(done)[-1] == "weir apply: refused, nothing was stored" and all(line.startswith("weir apply: ") for line in lines(done))


def test_ingest_and_produce_exit_with_2_when_there_is_no_topic(servers, files):
    env = {**servers.env, "WEIR_KAFKA_TOPIC": "no/topic", "WEIR_CATALOG": str(files / "catalog.json"), "WEIR_METRICS_LISTEN": "off"}
    done = weir("produce", files / "events.ndjson", check=False, env=env)
    assert done.returncode in (1, 2) and "no/topic" in lines(done)[-1], done.stderr


@pytest.mark.parametrize("arguments", [(), ("/nonexistent.ndjson",)])
def test_produce_exits_with_2_without_files(arguments):
    done = weir("produce", *arguments, check=False, env=NOWHERE)
    assert (done.returncode, done.stdout) == (2, b"") and lines(done)[-1].startswith("weir produce: ")


# ---- results that cannot be written ------------------------------------------------------------------------------------

@pytest.fixture(scope="module")
def told(servers, tmp_path_factory):
    """Settings of a place where every command has something to tell: a rated event, one in quarantine."""
    folder = tmp_path_factory.mktemp("told")
    (folder / "catalog.json").write_text(json.dumps(CATALOG))
    events = [EVENT, {**EVENT, "id": "2", "time": "2026-01-05T12:00:00Z"}]
    (folder / "events.ndjson").write_bytes(b"".join(json.dumps(event).encode() + b"\n" for event in events) + BAD + b"\n")
    env = {**servers.room("commands-told", 1), "WEIR_METRICS_LISTEN": "off", "WEIR_CATALOG": str(folder / "catalog.json"), "WEIR_LATENESS": "87600h"}
    weir("apply", env=env)
    weir("produce", folder / "events.ndjson", env=env)
    weir("ingest", "--until-end", env=env)
    weir("rater", "--until-done", env=env)
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    cursor = connection.cursor()
    cursor.execute("select min(line_item_id::text) from weir.line_items")
    [item] = cursor.fetchone()
    connection.close()
    assert item
    return {**env, "ITEM": item}


def into(redirection, *arguments, env=None):
    """A command whose standard output the shell redirects: its exit status, and what it says."""
    done = subprocess.run(["sh", "-c", f'exec "$0" "$@" {redirection}', BINARY, *arguments], stderr=subprocess.PIPE, timeout=120, check=False,
                          env={**os.environ, **(env or {})})
    return done.returncode, lines(done)


TELLING = [("check",), ("check", "--format", "json"), ("migrate",), ("migrate", "--dry-run"), ("apply",), ("reconcile",), ("reconcile", "--format", "json"),
           ("explain", "ITEM"), ("explain", "--format", "json", "ITEM"), ("release",), ("admit",), ("admit", "--reason", "any", "--format", "json"),
           ("audit", "list"), ("audit", "verify"), ("balance",), ("revenue",), ("close", "--dry-run", "--through", "2026-01-31"), ("invoice", "list"), ("rerate", "--dry-run")]


@pytest.mark.parametrize("arguments", TELLING, ids=" ".join)
def test_a_result_that_cannot_be_written_is_no_success(told, arguments):
    arguments = [told["ITEM"] if argument == "ITEM" else argument for argument in arguments]
    status, said = into("", *arguments, env=told)
    assert status == 0, said
    for redirection, why in ((">/dev/full", "No space left on device"), (">&-", "Bad file descriptor")):
        status, said = into(redirection, *arguments, env=told)
        assert status == 1 and sum(f"weir {arguments[0]}: " in line and "cannot be written" in line for line in said) == 1, said
        if arguments[0] == "admit":
            assert said[-1].endswith(f"the list cannot be written: {why}. Nothing was admitted")
        elif any("the output cannot be written" in line for line in said):  # the others look for themselves
            assert said[-1] == f"weir {arguments[0]}: the output cannot be written: {why}. Everything else was done"


@pytest.mark.parametrize("arguments", [("--help",), ("--version",), *((command, "--help") for command in COMMANDS)], ids=" ".join)
def test_help_that_cannot_be_written_is_no_success(arguments):
    name = "weir" if len(arguments) == 1 else f"weir {arguments[0]}"
    assert into(">/dev/full", *arguments) == (1, [f"{name}: the output cannot be written: No space left on device. Everything else was done"])


def test_a_command_that_writes_nothing_needs_no_output(told):
    for redirection in (">/dev/full", ">&-", "<&- >&-"):
        for arguments in (("ingest", "--until-end"), ("rater", "--until-done")):
            status, said = into(redirection, *arguments, env=told)
            assert status == 0 and not any("cannot be written" in line for line in said), said
