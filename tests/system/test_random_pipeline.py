"""Random catalogs and events through real Kafka, Redis and PostgreSQL, two workers of each kind at once: the sums of
the ledger agree with the independent model to the twelfth place.

WEIR_PIPELINE_CASES (200) cases, 20 merged into each run, from WEIR_RANDOM_SEED (1).
"""
import collections
import os
import shutil
import subprocess

import confluent_kafka
import psycopg2
import pytest
from harness import (BINARY, COMPONENT, assert_same, component_sums, model_components, model_rows, run_model, weir)
from model import exact, generate

FIRST = int(os.environ.get("WEIR_RANDOM_SEED", "1"))
CASES = int(os.environ.get("WEIR_PIPELINE_CASES", "200"))
MERGED = 20
UTC = "to_char({0} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as {0}"


def at_once(env, *arguments, workers=2):
    """The same command in several processes at once, each to its end."""
    running = [subprocess.Popen([BINARY, *arguments], env={**os.environ, **env}, stdout=subprocess.PIPE, stderr=subprocess.PIPE)
               for _ in range(workers)]
    try:
        for process in running:
            out, err = process.communicate(timeout=180)
            assert process.returncode == 0, f"weir {' '.join(arguments)} ended with {process.returncode}:\n{err.decode(errors='replace')[-3000:]}"
    finally:
        for process in running:
            if process.poll() is None:
                process.kill()
                process.wait()


def query(env, text):
    connection = psycopg2.connect(env["WEIR_POSTGRES_URL"])
    try:
        with connection.cursor() as cursor:
            cursor.execute(text)
            names = [column.name for column in cursor.description]
            return [dict(zip(names, row)) for row in cursor.fetchall()]
    finally:
        connection.close()


def ledger_rows(env):
    """Like the model's rows, without invoice amounts."""
    rows = query(env, f"""
        select customer, coalesce(contract, '') as contract, {UTC.format('period_start')}, {UTC.format('period_end')}, item, kind,
               sum(quantity)::text as quantity, sum(amount)::text as amount, min(currency) as currency, count(distinct currency) as n
        from weir.line_items group by 1, 2, line_items.period_start, line_items.period_end, 5, 6""")
    result = {}
    for row in rows:
        assert row["n"] == 1
        quantity, amount = exact.parse(row["quantity"]), exact.parse(row["amount"])
        if quantity or amount:
            key = tuple(row[name] for name in ("customer", "contract", "period_start", "period_end", "item", "kind"))
            result[key] = (exact.fixed(quantity), exact.fixed(amount), row["currency"])
    return result


def ledger_components(env):
    return component_sums(query(env, f"""
        select customer, coalesce(contract, '') as contract, {UTC.format('period_start')}, {UTC.format('period_end')}, item, kind,
               price_book_version, component, tier, sum(quantity)::text as quantity, sum(amount)::text as amount
        from weir.line_items where kind = 'usage'
        group by 1, 2, line_items.period_start, line_items.period_end, 5, 6, {', '.join(COMPONENT[-3:])}"""))


def quarantined(env):
    """Every record of the quarantine topic by where its event lay; one lane's record may come twice after a hand-over."""
    topic = env["WEIR_KAFKA_TOPIC"] + ".quarantine"
    consumer = confluent_kafka.Consumer({"bootstrap.servers": env["WEIR_KAFKA_BROKERS"], "group.id": "test", "enable.partition.eof": True,
                                         "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    try:
        partitions = consumer.list_topics(timeout=20).topics.get(topic)
        if partitions is None:
            return {}
        open_ends = set(partitions.partitions)
        consumer.assign([confluent_kafka.TopicPartition(topic, n, 0) for n in open_ends])
        records = {}
        while open_ends:
            message = consumer.poll(20)
            assert message is not None, "the quarantine topic does not end"
            if message.error():
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                open_ends.discard(message.partition())
            else:
                headers = {name: value.decode() for name, value in message.headers() if name.startswith("weir_")}
                records[(headers["weir_partition"], headers["weir_offset"])] = (headers["weir_reason"], message.value())
        return records
    finally:
        consumer.close()


@pytest.mark.parametrize("number", range((CASES + MERGED - 1) // MERGED))
def test_the_ledger_agrees_with_the_model(servers, number, tmp_path):
    seed = FIRST * 1000 + number
    case = generate.generate_merged(seed, min(MERGED, CASES - number * MERGED), pipeline=True)
    case.write(tmp_path)
    outcome = run_model(case)
    where = f"merged seed {seed}, files in {tmp_path}"
    env = {**servers.room(f"random-{seed}"), "WEIR_CATALOG": str(tmp_path / "catalog"), "WEIR_LATENESS": "9000h"}

    weir("migrate", env=env)
    weir("apply", "--catalog", tmp_path / "catalog", env=env)
    weir("produce", tmp_path / "events.ndjson", env=env)
    at_once(env, "ingest", "--until-end")
    at_once(env, "rater", "--until-done")

    bad = collections.Counter(quarantined(env).values())
    assert_same("quarantined events", bad, collections.Counter((b.reason, b.line) for b in outcome.bad), where)
    expected = {key: (quantity, amount, currency) for key, (quantity, amount, _invoice, currency) in model_rows(outcome).items()}
    assert_same("sums of the ledger", ledger_rows(env), expected, where)
    assert_same("components", ledger_components(env), model_components(outcome), where)

    before = query(env, "select count(*) as n from weir.line_items")
    at_once(env, "ingest", "--until-end")
    at_once(env, "rater", "--until-done")
    assert query(env, "select count(*) as n from weir.line_items") == before, f"a second run changed the ledger ({where})"
    shutil.rmtree(tmp_path)
