"""docs/redis.md is what stands in Redis: every key has its row, every field of a lane its name, and numbers are what the
page says they are."""
import pathlib
import re

PAGE = (pathlib.Path(__file__).resolve().parents[2] / "docs" / "redis.md").read_text(encoding="utf-8")
ROWS = [line.split("|")[1:4] for line in PAGE.splitlines() if re.match(r"\| `(L|weir:lanes)`", line)]
MINUTE = 60 * 10**9


def pattern_of(cell, topic):
    """The keys that a row's first cell stands for."""
    text = " ".join(re.findall(r"`([^`]*)`", cell)).replace("L ", "@", 1)
    text = re.sub(r"<[a-z]+>", "#", text)
    return re.escape(text).replace(r"@", rf"weir:\{{{re.escape(topic)}:\d+\}}:").replace(r"\#", r"-?\d+")


def hash_of(client, topic, partition=0):
    return {name.decode(): value for name, value in client.hgetall(f"weir:{{{topic}:{partition}}}:lane").items()}


def documented_fields():
    [cell] = [row[2] for row in ROWS if "`lane`" in row[0]]
    cell = re.sub(r"\([^)]*\)", "", cell)  # values and explanations
    return set(re.findall(r"`([a-z_]+)`", cell))


def test_a_fresh_lane(pipeline, own_redis):
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_IDLE="1h")
    pipeline.ingest().kill()  # it closes nothing by the clock
    lane = hash_of(own_redis.client(), pipeline.env["WEIR_KAFKA_TOPIC"])
    assert set(lane) == documented_fields()
    assert len(lane.pop("secret")) == 32 and int(lane.pop("epoch")) >= 1
    said = re.search(r"\*\*A fresh lane\*\* (.*)", PAGE)[1]
    for names, value in re.findall(r"((?:`[a-z_]+`(?:,| and)? ?)+)(-?\d+)", said):
        for name in re.findall(r"`([a-z_]+)`", names):
            assert lane.pop(name) == value.encode(), name
    assert lane.pop("gaps") == b"" and lane.pop("format") == re.search(r"`format` \(`(\d+)`\)", PAGE)[1].encode()
    assert set(lane.values()) == {b"0"} and "all counts 0" in said


def test_every_key_has_its_row(pipeline, own_redis):
    """Windows of every age, ids, distinct values, and work that nobody takes."""
    pipeline.env.update(WEIR_REDIS_URL=own_redis.url, WEIR_LATENESS="16h")
    topic, document = pipeline.env["WEIR_KAFKA_TOPIC"], pipeline.document
    pipeline.use_catalog({**document, "meters": [*document["meters"], {
        "key": "users", "event_type": "use", "aggregation": "unique", "value": "data.n", "window": "1h"}]})
    worker = pipeline.ingest()
    pipeline.send(300, partition=0)
    client = own_redis.client()
    worker.wait_log("taken")
    from pipeline import until
    until("all is written", lambda: hash_of(client, topic).get("next_offset") == b"300")
    rows = {pattern_of(row[0], topic): row[1].strip() for row in ROWS}
    found = set()
    for key in client.scan_iter(count=1000):
        matching = [pattern for pattern in rows if re.fullmatch(pattern, key.decode())]
        assert len(matching) == 1, f"{key} has no row in docs/redis.md, or several: {matching}"
        assert client.type(key).decode() == rows[matching[0]], key
        assert client.ttl(key) == -1, f"{key} expires"
        found.update(matching)
    assert found == set(rows), f"rows of the page that nothing is like: {set(rows) - found}"
    lane = hash_of(client, topic)
    assert set(lane) == documented_fields()
    assert int(lane["watermark"]) >= int(lane["high"]) == int(lane["last_time"])
    buckets = {int(log.split(b":")[1]) for log in client.hkeys(f"weir:{{{topic}:0}}:logs") if log.startswith(b"seen:")}
    assert all(bucket % 60 == 0 for bucket in buckets), "16 h of retention are buckets of an hour"
    assert max(buckets) == (int(lane["high"]) // MINUTE // 60 + 1) * 60
