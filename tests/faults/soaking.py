"""A soak: every bound set small, events by the hundred thousand, and memory that stays where it was.

Event time runs ahead by 20 ms an event, so windows close, are rated and forgotten, and ids are forgotten too, while
producer, worker and rater go on; resends and broken events are among them."""
import json
import threading
import time

from pipeline import time_text, until

BOUNDS = {"WEIR_LATENESS": "5m", "WEIR_LANE_WINDOWS_MAX": "4000", "WEIR_LANE_IDS_MAX": "60000", "WEIR_RING_CUTS": "2",
          "WEIR_LANE_CHANGES_MAX": "2000", "WEIR_FLUSH_INTERVAL": "50ms",
          "WEIR_IDLE": "1h"}  # a lane that follows the clock would find the rest too late
PROPERTIES = {"queued.max.messages.kbytes": "2048", "queued.min.messages": "2000", "fetch.message.max.bytes": "262144",
              "fetch.max.bytes": "1048576", "queue.buffering.max.kbytes": "1024"}
STEP = 0.02  # seconds of event time from one event to the next
SLACK = 12 << 20  # allocators round up


def publish(pipeline, count, progress):
    begin = time.time() - 86400 - count * STEP
    for number in range(count):
        moment = begin + number * STEP
        line = json.dumps({"specversion": "1.0", "id": f"s{number}", "source": "soak", "type": "use", "subject": f"c{number % 5}",
                           "time": time_text(moment)[:-1] + f".{int(moment * 1000) % 1000:03}Z",
                           "data": {"n": number % 97, "model": "ab"[number % 2]}}, separators=(",", ":")).encode()
        for _ in range(2 if number % 50 == 0 else 1):  # each fiftieth comes twice
            while True:
                try:
                    pipeline.producer.produce(pipeline.env["WEIR_KAFKA_TOPIC"], line, partition=number % 5 % pipeline.partitions)
                    break
                except BufferError:
                    pipeline.producer.poll(0.1)
        if number % 10000 == 0:
            pipeline.producer.produce(pipeline.env["WEIR_KAFKA_TOPIC"], b"{broken", partition=0)
        pipeline.producer.poll(0)
        progress[0] = number + 1
    last = json.dumps({"specversion": "1.0", "id": "last", "source": "soak", "type": "other", "subject": "c0", "time": time_text(time.time())})
    for partition in range(pipeline.partitions):  # closes every window
        pipeline.producer.produce(pipeline.env["WEIR_KAFKA_TOPIC"], last.encode(), partition=partition)
    assert pipeline.producer.flush(60) == 0


def soak(pipeline, redis_client, count, show=lambda text: None):
    """What was resident after a fifth of the events, and the most after that: {name: (bytes, bytes)}."""
    pipeline.env.update(BOUNDS)
    pipeline.config(PROPERTIES)
    progress, samples = [0], []
    producer = threading.Thread(target=publish, args=(pipeline, count, progress))
    producer.start()
    worker, rater = pipeline.ingest(), pipeline.rater(env={"WEIR_RATER_BATCH": "2000"})

    def look():
        page = worker.metrics()
        counted = page['weir_events_total{outcome="counted"}']
        samples.append((counted, {"worker": worker.memory(), "rater": rater.memory(), "redis": redis_client.info("memory")["used_memory"]}))
        assert page["weir_windows"] <= 4000 and page["weir_ids"] <= 60000 and page["weir_cuts_in_flight"] <= 2
        show(f"{counted} counted, " + ", ".join(f"{name} {used >> 20} MiB" for name, used in samples[-1][1].items()))
        return counted

    while look() < count:  # as fast as this machine makes events; but it must go on
        before = samples[-1][0]
        until(lambda: f"{samples[-1]} of {progress}, and no more\n{worker.log()[-2000:]}", lambda b=before: look() > b)
    producer.join()
    worker.wait_metrics("all is read", **{'weir_events_total{outcome="duplicate"}': (count + 49) // 50,
                                         'weir_events_total{outcome="quarantined"}': (count + 9999) // 10000})

    def rated():
        found = dict(pipeline.query("select item, sum(quantity)::bigint from weir.line_items where kind = 'usage' and item <> 'peak' group by 1"))
        return found == {"calls": count, "tokens": sum(number % 97 for number in range(count))}

    until("all is rated, exactly", rated, 60 + count / 2000)
    first = next(used for counted, used in samples if counted >= count // 5)
    return {name: (first[name], max(used[name] for counted, used in samples if counted >= count // 5)) for name in first}


def check_flat(used):
    for name, (early, most) in used.items():
        assert most <= early * 1.25 + SLACK, f"{name} grew from {early >> 20} MiB to {most >> 20} MiB"
