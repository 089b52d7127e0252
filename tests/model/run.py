#!/usr/bin/python3
"""Meter and rate events with the independent model: the summary as CSV to stdout, counts to stderr.

  tests/model/run.py --catalog DIR [--keep-open] [--jobs N] EVENTS…

With --jobs N, N processes share the customers. A line's customer is then taken from its first `"subject":"…"`
(files as `generate.py load` writes them), and a conflict between two customers' events is not seen.
"""
import argparse
import csv
import gc
import multiprocessing
import os
import pathlib
import re
import sys
import zlib

if __package__ in (None, ""):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from model import catalog as catalogs  # noqa: E402
from model import metering, rating  # noqa: E402

HEADER = ("customer", "contract", "period_start", "period_end", "item", "kind", "quantity", "amount",
          "invoice_amount", "currency")
COUNTS = ("read", "counted", "duplicate", "unmatched", "retracted", "unpriced", "quarantined")
_SUBJECT = re.compile(rb'"subject":"([^"\\]*)"')


class Outcome:
    """What a run of the model found. `bad` is the list of quarantined events, `uncounted` as in Metering."""

    def __init__(self, rated, counts, bad, uncounted=None):
        self.rating = rated
        self.counts = {name: counts[name] for name in COUNTS}
        self.bad = bad
        self.uncounted = uncounted

    @property
    def rows(self):
        return rating.summary(self.rating)


def run(catalog, lines, keep_open=False, clock_of=None, orders=()):
    """Meter and rate lines (bytes, without their line ends; blank ones are skipped) held in memory. clock_of: a line's LaneClock, by its index."""
    meter = metering.Metering(catalog)
    for index, line in enumerate(line for line in lines if line.strip()):
        meter.add(index, line, clock_of(index) if clock_of else None)
    parts = rating.accumulate(catalog, meter.windows, orders)
    return Outcome(rating.finish(catalog, *parts, meter.earliest, meter.latest, keep_open, orders), meter.counts, meter.bad,
                   meter.uncounted)


def _share(arguments):
    """One process's customers of some files, as accumulated parts."""
    folder, paths, share, shares = arguments
    gc.disable()  # nothing here makes a cycle, and the collector would walk millions of windows
    catalog = catalogs.load(folder)
    again = [open(path, "rb") for path in paths]

    def line_at(index):  # the index of a line is its file and offset
        file = again[index >> 48]
        file.seek(index & ((1 << 48) - 1))
        return file.readline().rstrip(b"\r\n")

    meter = metering.Metering(catalog, line_at)
    for number, path in enumerate(paths):
        offset = number << 48
        with open(path, "rb") as file:
            for line in file:
                index, offset = offset, offset + len(line)
                subject = _SUBJECT.search(line)
                mine = zlib.crc32(subject.group(1) if subject else line) % shares == share
                if mine and line.strip():
                    meter.add(index, line.rstrip(b"\r\n"))
    splits, unpriced, billed = rating.accumulate(catalog, meter.windows)
    return ({key: (key, *rest) for key, (_place, *rest) in splits.items()}, unpriced, billed, meter.earliest,
            meter.latest, meter.counts, meter.bad)


def _places(catalog, splits):
    """Put this process's catalog objects back in where another process's were."""
    result = {}
    for key, (_key, *rest) in splits.items():
        customer, contract_key, start, end, number, meter_key, when = key
        contract = next((c for c in catalog.contracts if c.key == contract_key), catalog.default)
        version = next(v for v in catalog.books[contract.book] if v.version == number)
        price = next(p for p in version.prices[meter_key] if tuple(sorted(p.when.items())) == when)
        result[key] = (catalogs.Place(contract, customer, start, end, version, price), *rest)
    return result


def run_files(folder, paths, keep_open=False, jobs=1):
    """Meter and rate files, the customers shared out to processes."""
    catalog = catalogs.load(folder)
    if jobs == 1:
        lines = (line.rstrip(b"\r\n") for path in paths for line in open(path, "rb"))
        return run(catalog, lines, keep_open)
    shares_of_each = 1 + sum(os.path.getsize(path) for path in paths) // 10 ** 9  # bounds the memory for ids seen
    count = jobs * shares_of_each
    with multiprocessing.Pool(jobs, maxtasksperchild=1) as pool:
        shares = pool.map(_share, [(folder, paths, share, count) for share in range(count)], chunksize=1)
    splits, unpriced, billed, bad = {}, {}, set(), []
    counts = metering.collections.Counter()
    for part in shares:
        splits.update(_places(catalog, part[0]))
        unpriced.update(part[1])
        billed |= part[2]
        counts.update(part[5])
        bad += part[6]
    earliest = min((part[3] for part in shares if part[3] is not None), default=None)
    latest = max((part[4] for part in shares if part[4] is not None), default=None)
    return Outcome(rating.finish(catalog, splits, unpriced, billed, earliest, latest, keep_open), counts, bad)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--catalog", required=True)
    parser.add_argument("--keep-open", action="store_true")
    parser.add_argument("--jobs", type=int, default=1)
    parser.add_argument("events", nargs="+")
    options = parser.parse_args()
    gc.disable()
    outcome = run_files(options.catalog, options.events, options.keep_open, options.jobs)
    writer = csv.writer(sys.stdout, lineterminator="\n")
    writer.writerow(HEADER)
    writer.writerows(outcome.rows)
    print("model: " + " ".join(f"{name}={count}" for name, count in outcome.counts.items()), file=sys.stderr)


if __name__ == "__main__":
    main()
