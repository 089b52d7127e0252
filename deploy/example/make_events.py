#!/usr/bin/python3
"""Two months of usage of Alder, a small company that sells an LLM API, as 10,000 CloudEvents.

  deploy/example/make_events.py              writes deploy/example/events.ndjson
  deploy/example/make_events.py --stdout     writes it to standard output

Example: deploy/example/make_events.py --stdout | weir rate --catalog deploy/example/catalog --summary -

The same bytes each time, on any machine: only random() of a seeded generator is drawn from (the one method whose
sequence Python promises to keep), and everything else is integer arithmetic. The lines stand in the order in which they
arrived, not in the order in which the usage happened.
"""
import datetime
import json
import pathlib
import random
import sys

EVENTS = 10_000
SECOND, MINUTE, HOUR, DAY = 1_000, 60_000, 3_600_000, 86_400_000  # instants are in ms since the first of January
DAYS = 59
START = datetime.datetime(2026, 1, 1)

# customer: (share of completions, offset from UTC in hours, region, share of the large model in percent, size)
# size: how big a customer's prompts are, as a multiple of a chat message
CUSTOMERS = {
    "brightlegal": (70, -5, "us-east-1", 80, 40),
    "cartwheel": (55, 9, "us-east-1", 35, 3),
    "dunelab": (60, 0, "eu-west-1", 50, 4),
    "emberly": (50, 1, "eu-west-1", 60, 5),
    "fjordbank": (160, 1, "eu-west-1", 85, 60),
    "glyphworks": (90, 0, "eu-west-1", 55, 24),
    "harborhealth": (60, -6, "us-east-1", 70, 20),
    "inkwell": (25, 0, "eu-west-1", 0, 6),
    "junipertravel": (35, 0, "eu-west-1", 40, 3),
    "kitebox": (18, -8, "us-east-1", 0, 2),
    "lumenedu": (40, 0, "eu-west-1", 0, 3),
    "mosaicgames": (85, 2, "us-east-1", 30, 12),
    "nomad-dev": (8, 7, "us-east-1", 0, 1),       # signed up with a credit card, no contract
    "pixel-otter": (4, -3, "us-east-1", 0, 1),    # the same
}
HOURS = [1] * 7 + [4, 8, 12, 14, 14, 10, 12, 14, 14, 12, 8, 5, 4, 3, 2, 2, 1]  # when people work, by local hour


class Random:
    """Draws of whole numbers out of random() alone."""

    def __init__(self, seed):
        self._random = random.Random(seed).random

    def below(self, count):
        return int(self._random() * count)

    def between(self, low, high):
        return low + self.below(high - low + 1)

    def one_in(self, count):
        return self.below(count) == 0

    def pick(self, sequence):
        return sequence[self.below(len(sequence))]

    def weighted(self, weights):
        """The index of one of the weights."""
        rest = self.below(sum(weights))
        for index, weight in enumerate(weights):
            rest -= weight
            if rest < 0:
                return index

    def identity(self, prefix):
        return f"{prefix}_{self.below(1 << 32):08x}{self.below(1 << 32):08x}"


def stamp(instant, offset_hours=None):
    """RFC 3339 text of an instant, in UTC unless an offset is given."""
    local = START + datetime.timedelta(milliseconds=instant + (offset_hours or 0) * HOUR)
    zone = "Z" if offset_hours is None else f"{offset_hours:+03d}:00"
    return f"{local:%Y-%m-%dT%H:%M:%S}.{local.microsecond // 1000:03d}{zone}"


def envelope(identity, source, kind, customer, time, data):
    return {"specversion": "1.0", "id": identity, "source": source, "type": kind, "subject": customer, "time": time, "data": data}


def line_of(event):
    return json.dumps(event, separators=(",", ":")).encode()


class Maker:
    def __init__(self):
        self.rng = Random("alder-2026")
        self.arrivals = []  # (arrival, number, line): number keeps the order of equal arrivals
        self.completions = []  # (arrival, event), for those that come again

    def put(self, arrival, line):
        self.arrivals.append((arrival, len(self.arrivals), line))

    def send(self, instant, event):
        """Most events arrive within seconds; one in 120 was made by a client without a network, hours or days ago."""
        rng = self.rng
        delay = rng.between(1 * HOUR, 11 * DAY) if rng.one_in(120) else rng.between(80, 4 * SECOND)
        self.put(instant + delay, line_of(event))
        return instant + delay

    def instant(self, offset, first_day=0, last_day=DAYS):
        """Some time within working days, as the customer's clock has it. Nobody begins before their own first of January."""
        rng = self.rng
        first = max(first_day * DAY, -offset * HOUR)
        while True:
            day = rng.between(first_day, last_day - 1)
            is_weekend = (START + datetime.timedelta(days=day)).weekday() >= 5
            if is_weekend and not rng.one_in(4):
                continue
            instant = day * DAY + (rng.weighted(HOURS) - offset) * HOUR + rng.below(HOUR)
            if first <= instant < last_day * DAY:
                return instant

    # what the product does ------------------------------------------------------------------------------------

    def completion(self):
        rng = self.rng
        names = list(CUSTOMERS)
        customer = names[rng.weighted([CUSTOMERS[name][0] for name in names])]
        _share, offset, region, large, size = CUSTOMERS[customer]
        instant = self.instant(offset)
        if customer == "junipertravel" and instant >= 46 * DAY:
            large = 0  # their contract has ended: only what the free plan offers
        if customer == "dunelab" and instant < 14 * DAY:
            large = 0  # trying it out before they sign
        if customer == "lumenedu" and instant >= 31 * DAY:
            large = 45  # the upgrade to pro
        model = "large" if rng.below(100) < large else "small"
        if customer == "fjordbank" and instant >= 50 * DAY and rng.one_in(12):
            model = "large-preview"  # opened to a pilot customer, and nobody thought of its price
        status = "ok" if not rng.one_in(70) else rng.pick(["error", "timeout"])
        prompt = rng.between(20, 900) * rng.between(1, 2 * size)
        answer = rng.between(10, 300) * rng.between(1, 4) if status == "ok" else 0
        if customer == "fjordbank" and rng.one_in(9):
            region = "us-east-1"
        event = envelope(rng.identity("req"), f"gateway/{region}", "llm.completion", customer,
                         stamp(instant, 9 if customer == "cartwheel" else None),
                         {"model": model, "region": region, "input_tokens": prompt, "output_tokens": answer,
                          "status": status, "ms": rng.between(200, 9000)})
        arrival = self.send(instant, event)
        if status == "ok":
            self.completions.append((arrival, event))

    def images(self, customer, count):
        for _ in range(count):
            instant = self.instant(CUSTOMERS[customer][1], 14 if customer == "dunelab" else 0)
            self.send(instant, envelope(self.rng.identity("img"), "image-service", "image.generation", customer, stamp(instant),
                                        {"images": self.rng.between(1, 4), "size": self.rng.pick(["512", "1024"])}))

    def storage(self, customer, index, first_day, gigabytes, growth):
        """A sample of an index' size in every hour. Sizes are in hundredths of a gigabyte."""
        size = gigabytes * 100
        for hour in range(first_day * 24, DAYS * 24):
            size += self.rng.below(growth)
            instant = hour * HOUR + 30 * MINUTE + self.rng.below(20 * SECOND)
            self.send(instant, envelope(f"{index}-{hour}", "vector-store", "storage.sample", customer, stamp(instant),
                                        {"index": index, "gigabytes": f"{size // 100}.{size % 100:02d}"}))

    def seats(self, customer, seats, first_day, last_day):
        """How many seats a workspace has, once a day; somebody new now and then."""
        for day in range(first_day, last_day):
            seats += self.rng.one_in(12)
            instant = day * DAY + 10 * HOUR + self.rng.below(MINUTE)
            self.send(instant, envelope(f"{customer}-{day}", "directory", "workspace.seats", customer, stamp(instant),
                                        {"seats": seats}))

    def logins(self, customer, users, count):
        for _ in range(count):
            instant = self.instant(CUSTOMERS[customer][1])
            self.send(instant, envelope(self.rng.identity("login"), "sso", "workspace.login", customer, stamp(instant),
                                        {"user": f"u{self.rng.below(users):03d}@{customer}.example"}))

    def fine_tunes(self, customer, count):
        for _ in range(count):
            instant = self.instant(CUSTOMERS[customer][1], 14 if customer == "dunelab" else 0)
            self.send(instant, envelope(self.rng.identity("ft"), "trainer", "fine_tune.finished", customer, stamp(instant),
                                        {"base": "small", "epochs": self.rng.between(1, 4)}))

    def sales(self, customer, count):
        for _ in range(count):
            instant = self.instant(CUSTOMERS[customer][1])
            cents = self.rng.between(199, 9999)
            self.send(instant, envelope(self.rng.identity("sale"), "marketplace", "marketplace.sale", customer, stamp(instant),
                                        {"amount": f"{cents // 100}.{cents % 100:02d}", "currency": "USD"}))

    def credits(self):
        """The support desk takes tokens back: negative usage, and no request."""
        for day, customer, tokens in ((19, "brightlegal", -48000), (40, "fjordbank", -120000)):
            instant = day * DAY + 15 * HOUR
            self.send(instant, envelope(f"credit-{customer}-{day}", "support-desk", "llm.completion", customer, stamp(instant),
                                        {"model": "large", "region": CUSTOMERS[customer][2], "input_tokens": tokens,
                                         "output_tokens": 0, "status": "credit"}))

    # what goes wrong ------------------------------------------------------------------------------------------

    def duplicates(self, count):
        """A gateway retries after a lost answer. One in ten stamps the resend with a new time: still the same id."""
        rng = self.rng
        for number in range(count):
            arrival, event = rng.pick(self.completions)
            again = arrival + rng.between(2 * SECOND, 2 * HOUR)
            if number % 10 == 0:
                event = dict(event, time=stamp(again))
            self.put(again, line_of(event))

    def conflicts(self):
        """An old gateway counts its ids anew after a restart: another request under an id that is taken."""
        rng = self.rng
        for _ in range(4):
            arrival, event = rng.pick(self.completions)
            data = dict(event["data"], output_tokens=event["data"]["output_tokens"] + 17)
            self.put(arrival + rng.between(1 * MINUTE, 1 * DAY), line_of(dict(event, data=data)))

    def broken(self):
        """One each of what producers get wrong."""
        rng = self.rng
        cases = [
            lambda text: text[:len(text) // 2],                                         # cut off
            lambda text: text.replace(b'"specversion":"1.0"', b'"specversion":"0.3"'),
            lambda text: text.replace(b'"subject":"emberly",', b""),
            lambda text: text.replace(b'"subject":"emberly"', b'"subject":""'),
            lambda text: text.replace(b'"type":"llm.completion"', b'"type":7'),
            lambda text: text.replace(b'"time":"2026-', b'"time":"26-'),
            lambda text: text.replace(b'Z","data"', b'","data"'),                       # no time zone
            lambda text: text.replace(b'"time":"2026-01-', b'"time":"2026-13-').replace(b'"time":"2026-02-', b'"time":"2026-13-'),
            lambda text: text.replace(b'"input_tokens":', b'"input_tokens":"many","was":'),
            lambda text: text.replace(b'"output_tokens":', b'"output":'),
            lambda text: text.replace(b'"input_tokens":', b'"input_tokens":0.0000000000001,"was":'),
            lambda text: text.replace(b'"model":', b'"model":"small","model":'),        # a key twice
            lambda text: text.replace(b'"model":"', b'"model":"\xff'),                  # not UTF-8
            lambda text: text.replace(b'"input_tokens":', b'"note":' + b"[" * 70 + b"]" * 70 + b',"input_tokens":'),
            lambda text: b"[" + text + b"]",
        ]
        for number, spoil in enumerate(cases):
            instant = (2 + 3 * number) * DAY + 11 * HOUR + rng.below(HOUR)
            good = line_of(envelope(rng.identity("req"), "sdk-beta", "llm.completion", "emberly", stamp(instant),
                                    {"model": "small", "region": "eu-west-1", "input_tokens": 512, "output_tokens": 64,
                                     "status": "ok"}))
            spoilt = spoil(good)
            assert spoilt != good
            self.put(instant + SECOND, spoilt)

    def lines(self):
        for customer, count in (("dunelab", 110), ("emberly", 130), ("glyphworks", 260), ("mosaicgames", 320)):
            self.images(customer, count)
        self.storage("fjordbank", "policies", 0, 6, 3)
        self.storage("glyphworks", "glyphs", 19, 9, 4)
        for customer, seats, first, last in (("brightlegal", 18, 0, DAYS), ("cartwheel", 6, 0, DAYS), ("dunelab", 3, 14, DAYS),
                                             ("emberly", 9, 0, DAYS), ("harborhealth", 11, 0, DAYS),
                                             ("junipertravel", 4, 0, 46), ("lumenedu", 2, 31, DAYS)):
            self.seats(customer, seats, first, last)
        for customer, users, count in (("fjordbank", 40, 260), ("glyphworks", 9, 120), ("mosaicgames", 5, 60)):
            self.logins(customer, users, count)
        for customer, count in (("dunelab", 3), ("harborhealth", 2), ("fjordbank", 4), ("glyphworks", 1)):
            self.fine_tunes(customer, count)
        for customer, count in (("cartwheel", 60), ("mosaicgames", 140)):
            self.sales(customer, count)
        self.credits()
        self.broken()
        while len(self.arrivals) < EVENTS - 104:
            self.completion()
        self.duplicates(100)
        self.conflicts()
        assert len(self.arrivals) == EVENTS
        return [line for _arrival, _number, line in sorted(self.arrivals)]


def main():
    if sys.argv[1:] in (["--help"], ["-h"]):
        print(__doc__.strip())
        return
    text = b"".join(line + b"\n" for line in Maker().lines())
    if sys.argv[1:] == ["--stdout"]:
        sys.stdout.buffer.write(text)
    elif not sys.argv[1:]:
        pathlib.Path(__file__).with_name("events.ndjson").write_bytes(text)
    else:
        sys.exit(__doc__)


if __name__ == "__main__":
    main()
