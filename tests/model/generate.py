#!/usr/bin/python3
"""Random cases of catalogs and events, and the load workload, each from a seed.

  tests/model/generate.py case --seed S --dir D [--merge M] [--pipeline]
      writes D/catalog/*.json and D/events.ndjson; M cases in one, with unique keys and customers
  tests/model/generate.py load --seed S --events N --customers C --dir D
      writes D/catalog/catalog.json and D/events.ndjson: N events of 250 to 300 bytes
"""
import argparse
import json
import pathlib
import random
import sys

if __package__ in (None, ""):
    sys.path.insert(0, str(pathlib.Path(__file__).resolve().parent.parent))

from model import load, random_catalog, random_events  # noqa: E402


class Case:
    """A catalog document and lines of events."""

    def __init__(self, seed, document, lines, keep_open=False):
        self.seed = seed
        self.document = document
        self.lines = lines
        self.keep_open = keep_open

    def write(self, folder):
        """Write catalog and events below a folder; the catalog is split over files in a way that the seed decides."""
        folder = pathlib.Path(folder)
        rng = random.Random(f"write {self.seed}")
        catalog = folder / "catalog"
        catalog.mkdir(parents=True, exist_ok=True)
        files = [{} for _ in range(rng.choice((1, 1, 2, 3)))]
        for name, value in self.document.items():
            if isinstance(value, list):
                for entry in value:
                    rng.choice(files).setdefault(name, []).append(entry)
            else:
                rng.choice(files)[name] = value
        for number, part in enumerate(files):
            if part:
                (catalog / f"part{number}.json").write_text(
                    json.dumps(part, ensure_ascii=rng.random() < 0.5, indent=1), encoding="utf-8")
        with open(folder / "events.ndjson", "wb") as file:
            for line in self.lines:
                file.write(line + b"\n" + (b"\n" if rng.random() < 0.01 else b""))
        return folder


def generate_case(seed, prefix="", pipeline=False, within=None, credits=True):
    """Without `credits`: no commitments but minimum spends."""
    rng = random.Random(f"case {seed}")
    shape = random_catalog.random_shape(rng, prefix, pipeline, within, credits)
    count = rng.choice((0, 1, 5, 40, 150, 400, 600, 900) if not pipeline else (5, 40, 150, 400))
    lines = random_events.random_lines(rng, shape, count, pipeline)
    return Case(seed, shape.document, lines, keep_open=rng.random() < 0.25)


def merge(cases, seed):
    """One case of many: the first default contract holds for all customers, and their span of events is common."""
    rng = random.Random(f"merge {seed}")
    document = {}
    for case in cases:
        for name, value in case.document.items():
            if isinstance(value, list):
                document.setdefault(name, []).extend(value)
            else:
                document.setdefault(name, value)
    order = [number for number, case in enumerate(cases) for _ in case.lines]
    rng.shuffle(order)
    rest = [iter(case.lines) for case in cases]
    return Case(seed, document, [next(rest[number]) for number in order])


def generate_merged(seed, count, pipeline=False, within=None, credits=True):
    return merge([generate_case(f"{seed}.{n}", f"k{n}-", pipeline, within, credits) for n in range(count)], seed)


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    commands = parser.add_subparsers(dest="command", required=True)
    case = commands.add_parser("case")
    case.add_argument("--merge", type=int, default=0)
    case.add_argument("--pipeline", action="store_true")
    work = commands.add_parser("load")
    work.add_argument("--events", type=int, required=True)
    work.add_argument("--customers", type=int, default=1000)
    for command in (case, work):
        command.add_argument("--seed", default="1")
        command.add_argument("--dir", required=True)
    options = parser.parse_args()
    if options.command == "load":
        load.write(options.dir, options.seed, options.events, options.customers)
    elif options.merge:
        generate_merged(options.seed, options.merge, options.pipeline).write(options.dir)
    else:
        generate_case(options.seed, pipeline=options.pipeline).write(options.dir)


if __name__ == "__main__":
    main()
