"""PostgreSQL restarted, cut, deaf, full, read-only, shared: nothing is billed twice, nothing is missing, and it goes on."""
import threading
import urllib.parse

import psycopg2
import pytest
from harness import weir
from pipeline import DEADLINE, until
from ports import free_port
from proxy import Proxy
from test_life import page


def ask(pipeline, *statements):
    connection = psycopg2.connect(pipeline.env["WEIR_POSTGRES_URL"])
    connection.autocommit = True
    with connection.cursor() as cursor:
        for statement in statements:
            cursor.execute(statement)
    connection.close()


@pytest.fixture
def through_proxy(pipeline):
    """The rater reaches PostgreSQL by a proxy."""
    url = urllib.parse.urlsplit(pipeline.env["WEIR_POSTGRES_URL"])
    proxy = Proxy(url.port)
    address = url._replace(netloc=url.netloc.replace(f":{url.port}", f":{proxy.port}")).geturl()
    try:
        yield proxy, {"WEIR_POSTGRES_URL": address}
    finally:
        proxy.close()


def test_away_when_they_start_though_it_has_the_catalog(pipeline, through_proxy):
    """Without --catalog, worker and rater wait for what they are to count and charge by; who is told to stop, ends well."""
    proxy, env = through_proxy
    catalog = pipeline.env.pop("WEIR_CATALOG")
    weir("apply", "--catalog", catalog, env=pipeline.env)
    proxy.refuses = True
    pipeline.send(300, repeat=5)
    ports = {command: free_port() for command in ("ingest", "rater")}
    waiting = [pipeline.start(command, env={**env, "WEIR_RATER_INTERVAL": "50ms", "WEIR_METRICS_LISTEN": f"127.0.0.1:{port}"})
               for command, port in ports.items()]
    for process in waiting:
        process.wait_log("the catalog cannot be read yet, trying again: PostgreSQL at .*")
        assert page(process, "/readyz") == (503, "waiting for PostgreSQL, which has the catalog") and page(process, "/healthz")[0] == 200
    for arguments in (("ingest",), ("rater", "--catalog", catalog)):
        stopped = pipeline.start(*arguments, env=env)
        stopped.wait_log("trying again")
        stopped.stop()
    batch = pipeline.start("ingest", "--until-end", "--patience", "1s", env=env)
    assert batch.process.wait(DEADLINE) == 1 and "Patience is at its end" in batch.log()
    pipeline.processes.remove(batch)
    proxy.refuses = False
    pipeline.check()
    for process in waiting:
        process.wait_log("PostgreSQL answers again, after")
        until("ready", lambda p=process: page(p, "/readyz") == (200, "ready"))
    pipeline.check_stays()


@pytest.mark.parametrize("how", ["restart", "kill"])
def test_restart(pipeline, servers, how):
    """Orderly, and without a word to anybody."""
    pipeline.send(300, repeat=5)
    _worker, rater = pipeline.ingest(), pipeline.rater()
    pipeline.check()
    pipeline.send(300, repeat=5)
    done = servers.local(how, "postgres")
    assert done.returncode == 0, done.stderr
    if how == "kill":
        rater.wait_log("nothing is rated, trying again")
        rater.wait_metrics("PostgreSQL is gone", weir_rater_up=0)
        rater.wait_ready(False)
        assert servers.local("start", "postgres").returncode == 0
    pipeline.send(100)
    pipeline.check()
    if how == "kill":
        rater.wait_log("windows are rated again, after")
        rater.wait_metrics("PostgreSQL is back", weir_rater_up=1)
        rater.wait_ready(True)
    pipeline.check_stays()


def test_backends_are_terminated_again_and_again(pipeline):
    """pg_terminate_backend at any moment: in COPY, between statements, at COMMIT."""
    stop = threading.Event()

    def terminate():
        while not stop.wait(0.03):
            ask(pipeline, "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'weir rater%'"
                          " and datname = current_database() and random() < 0.5")

    pipeline.ingest()
    killer = threading.Thread(target=terminate)
    killer.start()
    try:
        rater = pipeline.rater(env={"WEIR_RATER_BATCH": "50"})
        for _ in range(6):
            pipeline.send(150, repeat=6)
        until("the rater meets it", lambda: rater.metric("weir_rater_retries_total") > 2)
    finally:
        stop.set()
        killer.join()
    pipeline.check()
    pipeline.check_stays()


def test_connection_is_cut_in_mid_copy(pipeline, through_proxy):
    """After so many bytes, which fall into the COPY of line items, of windows, or between."""
    proxy, env = through_proxy
    pipeline.ingest()
    rater = pipeline.rater(env=env)
    for after in (2000, 9000, 20000, 33000, 60000):
        proxy.was_cut.clear()
        proxy.cut_after = after
        pipeline.send(300, repeat=10)
        assert proxy.was_cut.wait(60)
    pipeline.check()
    assert rater.is_running()
    pipeline.check_stays()


def test_the_answer_of_a_commit_is_lost(pipeline, through_proxy):
    proxy, env = through_proxy
    pipeline.ingest()
    rater = pipeline.rater(env=env)
    pipeline.send(50)
    pipeline.check()  # what it writes at its start is behind it: calendars, books
    for _ in range(3):
        proxy.swallowed.clear()
        proxy.swallow_after = b"COMMIT\0"
        pipeline.send(200, repeat=5)
        assert proxy.swallowed.wait(60)
        pipeline.check()
    until("it noticed", lambda: rater.metric("weir_rater_retries_total") >= 3)
    pipeline.check_stays()


@pytest.mark.parametrize("code, name", [("40P01", "deadlock_detected"), ("40001", "serialization_failure"), ("53100", "disk_full"),
                                        ("53200", "out_of_memory"), ("57014", "query_canceled")])
def test_errors_that_pass_are_retried(pipeline, code, name):
    """Half-way through a transaction, for a while; then the rater goes on by itself."""
    ask(pipeline, "create table public.trouble (is_on boolean)", "insert into public.trouble values (true)",
        f"create function public.trouble() returns trigger language plpgsql as $$ begin if exists (select from public.trouble where is_on) then"
        f" raise exception '{name}' using errcode = '{code}'; end if; return new; end $$",
        "create trigger trouble before insert on weir.rated_windows for each row execute function public.trouble()")
    pipeline.send(200, repeat=5)
    pipeline.ingest()
    rater = pipeline.rater()
    rater.wait_log(rf"nothing is rated, trying again: .*\({code}\)")
    assert rater.is_running() and not pipeline.usage()
    ask(pipeline, "update public.trouble set is_on = false")
    pipeline.check()
    rater.wait_log("windows are rated again")
    assert pipeline.query("select price_book from weir.price_books") == [("b",)], "noted in a transaction that was rolled back"
    ask(pipeline, "drop trigger trouble on weir.rated_windows", "drop function public.trouble()")
    pipeline.check_stays()


def test_a_server_that_is_read_only_for_a_while(pipeline):
    """As in maintenance, or behind a failover that leads to a standby first."""
    pipeline.send(200, repeat=5)
    worker = pipeline.ingest()
    rater = pipeline.rater()
    pipeline.check()
    database = urllib.parse.urlsplit(pipeline.env["WEIR_POSTGRES_URL"]).path[1:]
    ask(pipeline, f'alter database "{database}" set default_transaction_read_only = on',
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'weir rater%' and datname = current_database()")
    pipeline.send(200, repeat=5)
    rater.wait_log(r"the server is read-only \(a standby, or in recovery\)")
    assert rater.is_running() and worker.is_running()
    ask(pipeline, "set default_transaction_read_only = off", f'alter database "{database}" reset default_transaction_read_only',
        "select pg_terminate_backend(pid) from pg_stat_activity where application_name like 'weir rater%' and datname = current_database()")
    pipeline.check()
    pipeline.check_stays()


def test_two_raters_on_one_lane(pipeline):
    """Though claims divide the lanes: without them rows' locks and last totals are what holds."""
    pipeline.ingest()
    raters = [pipeline.rater(env={"WEIR_RATER_BATCH": "20", "WEIR_RATER_INTERVAL": "10ms"}) for _ in range(3)]
    stop = threading.Event()

    def free_claims():  # a session's locks go with the session: its lane is another rater's at once
        while not stop.wait(0.05):
            ask(pipeline, "select pg_terminate_backend(pid) from pg_stat_activity where application_name = 'weir rater, claims'"
                          " and datname = current_database()")

    killer = threading.Thread(target=free_claims)
    killer.start()
    try:
        for _ in range(10):
            pipeline.send(100, partition=0, repeat=4)
    finally:
        stop.set()
        killer.join()
    pipeline.check()
    assert all(rater.is_running() for rater in raters)
    pipeline.check_stays()
