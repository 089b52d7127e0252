"""PostgreSQL fails over to a real streaming standby: raters wait while it is read-only, and go on when it is promoted. What
was committed is there if the standby is synchronous; if it is not, nobody can tell but `weir reconcile`, which mends it."""
import re

import pytest
from harness import weir
from pipeline import until
from postgres_process import PostgresProcess


@pytest.fixture
def pair(pipeline):
    """The ledger on a primary of the test's own, and a standby that follows it."""
    primary = PostgresProcess("wal_level=replica", "max_wal_senders=4")
    standby = None
    try:
        pipeline.env["WEIR_POSTGRES_URL"] = primary.url
        weir("migrate", env=pipeline.env)
        standby = PostgresProcess("hot_standby=on", primary=primary)
        until("the standby follows", lambda: primary.ask("select 1 from pg_stat_replication where state = 'streaming'"))
        yield primary, standby
    finally:
        pipeline.close()  # before its server goes
        primary.close()
        if standby:
            standby.close()


def either(primary, standby):
    """As libpq takes several servers: whichever takes writes."""
    return {"WEIR_POSTGRES_URL": f"postgresql://weir@127.0.0.1:{primary.port},127.0.0.1:{standby.port}/weir?target_session_attrs=read-write"}


def test_a_synchronous_standby_is_promoted_in_the_middle_of_rating(pipeline, pair):
    primary, standby = pair
    primary.ask("alter system set synchronous_standby_names = '*'", "select pg_reload_conf()")
    until("it is synchronous", lambda: primary.ask("select 1 from pg_stat_replication where sync_state = 'sync'"))
    pipeline.ingest()
    rater = pipeline.rater(env={**either(primary, standby), "WEIR_RATER_BATCH": "10"})
    at_standby = pipeline.rater(env={"WEIR_POSTGRES_URL": standby.url})
    pipeline.send(300, repeat=5)
    at_standby.wait_log(r"nothing is rated, trying again: .*the server is read-only \(a standby, or in recovery\)")
    at_standby.wait_metrics("nothing can be written", weir_rater_up=0)
    at_standby.wait_ready(False)
    pipeline.check()
    rows = primary.ask("select count(*) from weir.line_items")
    pipeline.send(1000, repeat=5)
    until("rating is under way", lambda: primary.ask("select count(*) from weir.line_items") > rows)
    primary.kill()
    rater.wait_log("trying again: .*Connection refused; .*session is read-only")  # whatever it was at that it noticed by
    pipeline.send(100)
    standby.ask("select pg_promote()")
    pipeline.env["WEIR_POSTGRES_URL"] = standby.url
    pipeline.check()
    for process in (rater, at_standby):
        process.wait_log("windows are rated again, after")
        process.wait_metrics("it can be written again", weir_rater_up=1)
    pipeline.check_stays()
    weir("reconcile", env=pipeline.env)


def test_what_an_asynchronous_standby_lost_is_found_and_repaired(pipeline, pair):
    """Nothing of the ledger reached it, not even the month's partition: what raters remember of it is not true any more."""
    primary, standby = pair
    standby.ask("alter system set primary_conninfo = ''", "select pg_reload_conf()")
    until("it falls behind", lambda: not primary.ask("select 1 from pg_stat_replication"))
    pipeline.send(300, repeat=5)
    pipeline.ingest()
    rater = pipeline.rater(env=either(primary, standby))
    pipeline.check()
    primary.kill()
    standby.ask("select pg_promote()")
    pipeline.env["WEIR_POSTGRES_URL"] = standby.url
    pipeline.send(lines=[pipeline.event(1000 + number, subject="c9") for number in range(50)])
    until("it goes on", lambda: {key[0] for key in pipeline.usage()} == {"c9"})
    rater.wait_metrics("it goes on", weir_rater_up=1)
    until("lanes are noted anew", lambda: pipeline.query("select count(*) from weir.lanes") == [(2,)])
    found = weir("reconcile", env=pipeline.env, check=False)
    assert found.returncode == 1 and re.search(rb"unrated", found.stdout), found.stdout.decode()
    weir("reconcile", "--repair", env=pipeline.env)
    pipeline.check()
    weir("reconcile", env=pipeline.env)
    pipeline.check_stays()
