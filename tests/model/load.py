"""The load workload: a believable stream of 250 to 300-byte events, and its catalog.

Zipf customers; 8 meters over three event types, one grouped; 1 % repeated events, 1 % late by up to six hours.
Two days of event time, two versions of the price book (the second from the second day).
"""
import itertools
import json
import pathlib
import random
import time

SECONDS = 2 * 86400
BATCH = 20_000
MODELS = ("large", "medium", "small", "embed")
PATHS = tuple(f"/v1/{name}/{number}" for name in ("chat", "files", "jobs", "models") for number in range(16))


def _book(version, effective, factor):
    return {
        "key": "standard", "version": version, "currency": "USD", "effective_from": effective,
        "prices": [
            {"meter": "tokens-in", "when": {"model": "large"}, "model": "per_unit", "unit_price": f"0.0000025{factor}"},
            {"meter": "tokens-in", "model": "graduated", "tiers": [
                {"up_to": "1000000", "unit_price": "0"},
                {"up_to": "20000000", "unit_price": f"0.0000015{factor}", "flat_fee": "5.00"},
                {"up_to": None, "unit_price": "0.000001"}]},
            {"meter": "tokens-out", "model": "volume", "tiers": [
                {"up_to": "500000", "unit_price": f"0.00001{factor}"}, {"up_to": None, "unit_price": "0.000008"}]},
            {"meter": "completions", "model": "package", "package_size": "1000", "package_price": f"0.2{factor}"},
            {"meter": "requests", "model": "per_unit", "unit_price": f"0.0004{factor}", "free_units": "1000"},
            {"meter": "endpoints", "model": "per_unit", "unit_price": f"0.01{factor}"},
            {"meter": "slowest", "model": "per_unit", "unit_price": f"0.000001{factor}"},
            {"meter": "stored", "model": "graduated", "tiers": [
                {"up_to": "100", "unit_price": "0.02", "flat_fee": "1", "flat_fee_at_zero": True}, {"up_to": None, "unit_price": f"0.015{factor}"}]},
            {"meter": "stored-hours", "model": "percentage", "rate": f"0.003{factor}", "fixed_fee": "0.000001",
             "maximum_amount": "250"}],
        "fees": [{"key": "platform", "amount": "99.00", "per": "period", "charged": "in_advance"}]}


def catalog(customers):
    meters = [
        {"key": "tokens-in", "event_type": "llm.completion", "aggregation": "sum", "value": "data.tokens_in", "window": "1h",
         "group_by": ["model"]},
        {"key": "tokens-out", "event_type": "llm.completion", "aggregation": "sum", "value": "data.tokens_out", "window": "1h"},
        {"key": "completions", "event_type": "llm.completion", "aggregation": "count", "window": "1h"},
        {"key": "requests", "event_type": "api.request", "aggregation": "count", "window": "1h"},
        {"key": "endpoints", "event_type": "api.request", "aggregation": "unique", "value": "data.path", "window": "1d"},
        {"key": "slowest", "event_type": "api.request", "aggregation": "max", "value": "data.millis", "window": "1h"},
        {"key": "stored", "event_type": "storage.sample", "aggregation": "latest", "value": "data.gigabytes", "window": "1h"},
        {"key": "stored-hours", "event_type": "storage.sample", "aggregation": "avg", "value": "data.gigabytes", "window": "1h",
         "rollup": "sum"}]
    contracts = [
        {"key": f"contract-{n}", "customer": customer_name(n), "price_book": "standard", "starts_at": "2026-01-01T00:00:00Z",
         "ends_at": None, "billing_period": ("month", "day", "week")[n % 3], "timezone": "UTC",
         "overrides": [{"meter": "tokens-in", "multiplier": "0.85"}],
         "commitments": [{"key": "floor", "type": "minimum_spend", "amount": "500.00", "per": "period"}]}
        for n in range(min(20, customers))]
    return {"meters": meters,
            "price_books": [_book(1, "2026-01-01T00:00:00Z", ""), _book(2, "2026-01-06T00:00:00Z", "7")],
            "contracts": contracts,
            "default_contract": {"price_book": "standard", "billing_period": "month", "timezone": "UTC"}}


def customer_name(number):
    return f"customer-{number:06d}"


def _completion(serial, draw, subject, when):
    value = int(draw * 4_000_000)
    return (f'{{"specversion":"1.0","id":"01J9Z{serial:016d}","source":"inference-gateway","type":"llm.completion",'
            f'"subject":"{subject}","time":"{when}","datacontenttype":"application/json",'
            f'"data":{{"model":"{MODELS[value & 3]}","tokens_in":{value % 4001},"tokens_out":"{value % 997}.{value % 10}","region":"eu-west-1"}}}}')


def _request(serial, draw, subject, when):
    value = int(draw * 4_000_000)
    return (f'{{"specversion":"1.0","id":"01J9Z{serial:016d}","source":"api-gateway/edge-7","type":"api.request",'
            f'"subject":"{subject}","time":"{when}","datacontenttype":"application/json",'
            f'"data":{{"path":"{PATHS[value & 63]}","millis":{value % 3000}.{value % 1000:03d},"status":200,"region":"us-east-1"}}}}')


def _sample(serial, draw, subject, when):
    value = int(draw * 4_000_000)
    return (f'{{"specversion":"1.0","id":"01J9Z{serial:016d}","source":"storage-sampler","type":"storage.sample",'
            f'"subject":"{subject}","time":"{when}","datacontenttype":"application/json",'
            f'"data":{{"gigabytes":{value % 5000}.{value % 1000000:06d},"bucket":"bucket-{value % 13:04d}","region":"eu-west-1"}}}}')


def lines(seed, events, customers):
    """The load in batches of text lines."""
    rng = random.Random(f"load {seed}")
    names = [customer_name(n) for n in range(customers)]
    weights = list(itertools.accumulate(1 / rank for rank in range(1, customers + 1)))
    makers = (_completion,) * 7 + (_request,) * 2 + (_sample,)
    previous = []
    written = serial = 0
    while written < events:
        size = min(BATCH, events - written)
        batch = []
        subjects = rng.choices(names, cum_weights=weights, k=size)
        for subject in subjects:
            chance = rng.random()
            if chance < 0.01 and (batch or previous):
                batch.append(rng.choice(previous or batch))
                continue
            second = (written + len(batch)) * SECONDS // events - int(chance * 60)
            if chance > 0.99:
                second -= int((chance - 0.99) * 2_160_000)
            second = max(0, second)
            serial += 1
            clock = second % 86400
            when = (f"2026-01-{5 + second // 86400:02d}T{clock // 3600:02d}:{clock // 60 % 60:02d}:{clock % 60:02d}"
                    f".{serial % 1000:03d}Z")
            batch.append(makers[serial * 7 % 10](serial, rng.random(), subject, when))
        written += size
        previous = batch
        yield batch


def write(folder, seed, events, customers):
    folder = pathlib.Path(folder)
    (folder / "catalog").mkdir(parents=True, exist_ok=True)
    (folder / "catalog" / "catalog.json").write_text(json.dumps(catalog(customers), indent=1))
    started = time.monotonic()
    with open(folder / "events.ndjson", "w", encoding="ascii") as file:
        for batch in lines(seed, events, customers):
            file.write("\n".join(batch) + "\n")
    seconds = time.monotonic() - started
    print(f"load: {events} events in {seconds:.1f} s", flush=True)
