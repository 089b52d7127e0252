"""What a run of the real pipeline left: the ledger in PostgreSQL, the quarantine in Kafka."""
import confluent_kafka
import psycopg2
from harness import COMPONENT, component_sums
from model import exact

PATIENCE = 120  # seconds, for a broker that others use as well
UTC = "to_char({0} at time zone 'UTC', 'YYYY-MM-DD\"T\"HH24:MI:SS\"Z\"') as {0}"


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
    """Like the model's rows, without invoice amounts; reversals count with what they take back."""
    rows = query(env, f"""
        select customer, coalesce(contract, '') as contract, {UTC.format('period_start')}, {UTC.format('period_end')}, item,
               weir.reversed_kind(kind, meter, component) as kind,
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
        select customer, coalesce(contract, '') as contract, {UTC.format('period_start')}, {UTC.format('period_end')}, item,
               'usage' as kind, price_book_version, component, tier, sum(quantity)::text as quantity, sum(amount)::text as amount
        from weir.line_items where meter is not null
        group by 1, 2, line_items.period_start, line_items.period_end, 5, 6, {', '.join(COMPONENT[-3:])}"""))


def ledger_unpriced(env, meters):
    """Like the model's: (customer, meter, texts, window start) -> (reason, events). meters: as the catalog document has them."""
    names = {meter["key"]: meter.get("group_by", []) for meter in meters}
    rows = query(env, "select customer, meter, dimensions, extract(epoch from window_start)::bigint as start, reason,"
                      " events::bigint as events from weir.unpriced_usage")
    return {(row["customer"], row["meter"], tuple(row["dimensions"][name] for name in names[row["meter"]]), row["start"]):
            (row["reason"], row["events"]) for row in rows}


def quarantine_records(env):
    """The messages of the quarantine topic, as Kafka has them."""
    topic = env["WEIR_KAFKA_TOPIC"] + ".quarantine"
    consumer = confluent_kafka.Consumer({"bootstrap.servers": env["WEIR_KAFKA_BROKERS"], "group.id": "test", "enable.partition.eof": True,
                                         "enable.auto.commit": False, "auto.offset.reset": "earliest"})
    try:
        partitions = consumer.list_topics(timeout=PATIENCE).topics.get(topic)
        if partitions is None:
            return []
        open_ends = set(partitions.partitions)
        consumer.assign([confluent_kafka.TopicPartition(topic, n, 0) for n in open_ends])
        messages = []
        while open_ends:
            message = consumer.poll(PATIENCE)
            assert message is not None, "the quarantine topic does not end"
            if message.error():
                assert message.error().code() == confluent_kafka.KafkaError._PARTITION_EOF, message.error()
                open_ends.discard(message.partition())
            else:
                messages.append(message)
        return messages
    finally:
        consumer.close()


def quarantined(env):
    """Every record of the quarantine topic by where its event lay; one lane's record may come twice after a hand-over."""
    records = {}
    for message in quarantine_records(env):
        headers = {name: value.decode() for name, value in message.headers() if name.startswith("weir_")}
        where, record = (headers["weir_partition"], headers["weir_offset"]), (headers["weir_reason"], message.value())
        assert records.setdefault(where, record) == record, f"two records of the event at {where} differ"
    return records
