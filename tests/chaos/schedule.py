"""A schedule: what runs, what is produced, and what is done to it when. All of it a function of the seed (and the year)."""
import dataclasses
import datetime
import json
import random
import re
import sys
import zlib

from servers import ROOT

sys.path.insert(0, str(ROOT / "tests"))

from model import generate, instants  # noqa: E402

# A disordered line comes up to this many seconds of event time too early or too late.
_DISORDERS = (0, 3600, 86400, 86400 * 4, 86400 * 40)
DAYS = (3, 30)  # of December, from one to the other: events
AMPLE = "87600h"  # lateness: nothing is too late, and nothing is forgotten
AT_REST = -1  # the number of the state that Redis goes back to at rest
_TIME = re.compile(rb'"time"\s*:\s*"([^"]*)"')

# How often each fault is chosen, by what it strikes.
WEIGHTS = {
    "ingest": {"ingest_killed": 8, "ingest_frozen": 8, "ingest_held_up": 3, "ingest_left": 4, "ingest_joined": 6},
    "rater": {"rater_killed": 5, "rater_frozen": 5, "rater_left": 2},
    "redis": {"redis_crashed": 3, "redis_restarted": 2, "redis_set_back": 7, "redis_failed_over": 4, "redis_emptied": 1,
              "redis_sessions_killed": 3, "redis_busy": 2, "redis_full": 2},
    "postgres": {"postgres_restarted": 2, "postgres_crashed": 2, "postgres_sessions_killed": 4},
    "kafka": {"broker_restarted": 1, "broker_frozen": 3},
    "link": {"link_cut": 6, "link_refused": 3, "link_slow": 2, "link_throttled": 2, "link_half_open": 6},
    "trap": {"cut_trapped": 8, "work_trapped": 3, "commit_trapped": 8},
    "ambush": {"killed_at_a_cut": 6, "killed_at_finished_work": 2, "killed_at_a_commit": 6},
}
FAULTS = tuple(name for group in WEIGHTS.values() for name in group)


@dataclasses.dataclass
class Action:
    at: float  # seconds from the start of production
    do: str  # a method of trial.Trial
    arguments: list


@dataclasses.dataclass
class Schedule:
    seed: int
    year: int
    partitions: int
    ingests: int
    raters: int
    producers: int
    seconds: float  # of production
    rests: bool  # when all have left, Redis goes back to the middle of it all before the end is made
    rebuilds: bool  # at the end Redis is emptied and made anew
    settings: dict  # WEIR_* of the workers, and librdkafka's properties
    properties: dict
    faults: list  # names, in the order in which they were chosen
    actions: list

    def patience(self):
        """(lateness, disorder) in ns."""
        return tuple(int(self.settings[name][:-1]) * (3600 if self.settings[name].endswith("h") else 1) * instants.NS
                     for name in ("WEIR_LATENESS", "WEIR_DISORDER"))

    def as_json(self):
        return json.dumps(dataclasses.asdict(self), indent=1)


def past_year(now=None):
    """The year of the events: its periods are over, those too that began in its last days."""
    return ((now or datetime.datetime.now(datetime.timezone.utc)) - datetime.timedelta(days=10)).year - 1


class _Chooser:
    def __init__(self, rng, schedule):
        self.rng = rng
        self.schedule = schedule
        self.joined = 0
        self.session = int(schedule.properties["session.timeout.ms"]) / 1000

    def ingest(self):
        return f"ingest-{self.rng.randrange(self.schedule.ingests)}"

    def rater(self):
        return f"rater-{self.rng.randrange(self.schedule.raters)}"

    def _seconds(self, low, high):
        return round(self.rng.uniform(low, high), 3)

    def put(self, at, do, *arguments):
        self.schedule.actions.append(Action(round(at, 3), do, list(arguments)))

    def strike(self, at, fault):
        getattr(self, fault)(at)
        self.schedule.faults.append(fault)

    # ---- workers

    def _killed(self, at, name):
        self.put(at, "kill", name)
        self.put(at + self._seconds(0, 1.5), "start", name)

    def _frozen(self, at, name, low, high):
        self.put(at, "freeze", name)
        self.put(at + self._seconds(low, high), "thaw", name)

    def _left(self, at, name):
        self.put(at, "leave", name)
        self.put(at + self._seconds(0.2, 2), "start", name)

    def ingest_killed(self, at):
        self._killed(at, self.ingest())

    def ingest_frozen(self, at):  # longer than the session: a zombie
        self._frozen(at, self.ingest(), self.session + 0.7, self.session + 2.5)

    def ingest_held_up(self, at):
        self._frozen(at, self.ingest(), 0.1, self.session * 0.8)

    def ingest_left(self, at):
        self._left(at, self.ingest())

    def ingest_joined(self, at):
        name = f"guest-{self.joined}"
        self.joined += 1
        self.put(at, "start", name)
        self.put(at + self._seconds(0.5, 4), self.rng.choice(("kill", "leave", "leave")), name)

    def rater_killed(self, at):
        self._killed(at, self.rater())

    def rater_frozen(self, at):
        self._frozen(at, self.rater(), 0.3, 4)

    def rater_left(self, at):
        self._left(at, self.rater())

    # ---- servers

    def redis_crashed(self, at):
        self.put(at, "redis_restart", "KILL", self._seconds(0, 1.5))

    def redis_restarted(self, at):
        self.put(at, "redis_restart", "TERM", self._seconds(0, 0.5))

    def redis_set_back(self, at):
        self.put(at, "redis_remember", len(self.schedule.actions))
        self.put(at + self._seconds(0.2, 3), "redis_set_back", len(self.schedule.actions) - 1)

    def redis_failed_over(self, at):
        self.put(at, "redis_follow")
        behind = at + self._seconds(0.5, 1.5)
        self.put(behind, "redis_fall_behind")
        self.put(behind + self._seconds(0.3, 2.5), "redis_fail_over")

    def redis_emptied(self, at):
        self.put(at, "redis_empty")

    def redis_sessions_killed(self, at):
        self.put(at, "redis_kill_sessions")

    def redis_busy(self, at):
        self.put(at, "redis_sleep", self._seconds(0.2, 2))

    def redis_full(self, at):
        self.put(at, "redis_limit", True)
        self.put(at + self._seconds(0.5, 2), "redis_limit", False)

    def postgres_restarted(self, at):
        self.put(at, "postgres_restart")

    def postgres_crashed(self, at):
        self.put(at, "postgres_crash")

    def postgres_sessions_killed(self, at):
        for n in range(self.rng.randrange(1, 4)):
            self.put(at + n * self._seconds(0.1, 0.5), "postgres_kill_sessions")

    def broker_restarted(self, at):
        self.put(at, "broker_restart", self.rng.choice(("restart", "kill")))

    def broker_frozen(self, at):
        self.put(at, "broker_freeze")
        self.put(at + self._seconds(0.3, 3), "broker_thaw")

    # ---- links

    def link(self):
        return self.rng.choice(("redis", "redis", "postgres", "kafka"))

    def _for_a_while(self, at, high, **state):
        link = self.link()
        self.put(at, "link_set", link, state)
        self.put(at + self._seconds(0.2, high), "link_heal", link)

    def link_cut(self, at):
        link = self.link()
        for n in range(self.rng.randrange(1, 4)):
            self.put(at + n * self._seconds(0.02, 0.5), "link_cut", link)

    def link_refused(self, at):
        self._for_a_while(at, 2.5, refuse=True)

    def link_slow(self, at):
        self._for_a_while(at, 2.5, delay=self._seconds(0.01, 0.4))

    def link_throttled(self, at):
        self._for_a_while(at, 2.5, rate=self.rng.choice((2000, 20000, 200000)))

    def link_half_open(self, at):
        self._for_a_while(at, 3, lose=self.rng.choice(("up", "down")))

    # ---- traps: a message of a protocol

    def _trap(self, at, link, word):
        for n in range(self.rng.randrange(1, 4)):
            how = self.rng.choice(("lose_request", "lose_answer", "lose_answer", "late_request"))
            self.put(at + n * 0.1, "trap", link, word, how, self._seconds(0.05, 1.5))

    def cut_trapped(self, at):
        self._trap(at, "redis", "\r\nEXEC\r\n")

    def work_trapped(self, at):
        self._trap(at, "redis", "\r\nEVALSHA\r\n")

    def commit_trapped(self, at):
        self._trap(at, "postgres", "COMMIT\0")

    # ---- ambushes: all ingest workers, or all raters, die at once, as in a power failure, in the middle of a message

    def _killed_at(self, at, link, word, names):
        self.put(at, "kill_at_word", link, word, names, self._seconds(0, 1))

    def killed_at_a_cut(self, at):
        self._killed_at(at, "redis", "\r\nEXEC\r\n", [f"ingest-{n}" for n in range(self.schedule.ingests)])

    def killed_at_finished_work(self, at):
        self._killed_at(at, "redis", "\r\nEVALSHA\r\n", [f"rater-{n}" for n in range(self.schedule.raters)])

    def killed_at_a_commit(self, at):
        self._killed_at(at, "postgres", "COMMIT\0", [f"rater-{n}" for n in range(self.schedule.raters)])


def _settings(rng):
    session = rng.choice((1500, 2000, 3000))
    return {
        "WEIR_LATENESS": AMPLE,
        "WEIR_FLUSH_INTERVAL": rng.choice(("20ms", "100ms", "200ms", "500ms")),
        "WEIR_IDLE": rng.choice(("300ms", "1s", "1h")),
        "WEIR_DISORDER": rng.choice(("0s", "1h", "24h", "96h")),
        "WEIR_RING_CUTS": rng.choice(("1", "2", "8")),
        "WEIR_RATER_BATCH": rng.choice(("50", "200", "2000", "20000")),
        "WEIR_RATER_INTERVAL": rng.choice(("50ms", "200ms")),
    }, {
        "session.timeout.ms": str(session),
        "heartbeat.interval.ms": "300",
        "partition.assignment.strategy": rng.choice(("cooperative-sticky", "cooperative-sticky", "cooperative-sticky", "range")),
        "max.poll.interval.ms": rng.choice(("6000", "300000")),
        "reconnect.backoff.max.ms": "500",
        "topic.metadata.refresh.interval.ms": "5000",
    }


def make(seed, year=None):
    rng = random.Random(f"chaos {seed}")
    settings, properties = _settings(rng)
    schedule = Schedule(seed=seed, year=year or past_year(), partitions=rng.randrange(2, 7), ingests=rng.choice((1, 2, 2, 3)),
                        raters=rng.choice((1, 2, 2)), producers=rng.choice((1, 2, 3)), seconds=round(rng.uniform(4, 8), 3),
                        rests=rng.random() < 0.3, rebuilds=rng.random() < 0.25, settings=settings, properties=properties, faults=[], actions=[])
    chooser = _Chooser(rng, schedule)
    groups = list(WEIGHTS) if rng.random() < 0.6 else rng.sample(list(WEIGHTS), 2)
    weights = {name: weight for group in groups for name, weight in WEIGHTS[group].items()}
    for _ in range(rng.randrange(4, 13)):
        fault = rng.choices(list(weights), list(weights.values()))[0]
        if fault == "broker_restarted":
            del weights[fault]  # it takes longest: once is enough
        chooser.strike(rng.uniform(0.3, schedule.seconds), fault)
    if schedule.rests:
        chooser.put(schedule.seconds / 2, "redis_remember", AT_REST)
    if rng.random() < 0.3:
        # Events that come too late, ids and windows that are forgotten. What is too late is then a function of the lane's messages:
        # no lane follows the clock.
        settings["WEIR_LATENESS"], settings["WEIR_IDLE"] = rng.choice(("0s", "1h", "24h", "96h")), "1h"
    # Drawn from a source of its own: older seeds are otherwise what they were.
    settings["WEIR_INGEST_THREADS"] = random.Random(f"threads {seed}").choice(("1", "1", "1", "2", "3"))
    schedule.actions.sort(key=lambda action: action.at)
    return schedule


def _when(line, span):
    found = _TIME.search(line)
    try:
        nanoseconds = instants.parse_rfc3339(found.group(1).decode()) if found else None
    except UnicodeDecodeError:
        nanoseconds = None
    return span[0] if nanoseconds is None else min(max(nanoseconds // instants.NS, span[0]), span[1])


def _of_one_time(lines):
    """Without lines whose identity came with another time before: how long that is known hangs on what a lane still remembers."""
    times, kept = {}, []
    for line in lines:
        try:
            event = json.loads(line)
            is_kept = times.setdefault((event["source"], event["id"]), event["time"]) == event["time"]
        except (ValueError, KeyError, TypeError, RecursionError):
            is_kept = True  # broken: it counts nowhere
        if is_kept:
            kept.append(line)
    return kept


def _end_with_the_year(document):
    """No billing period of the events reaches far into the next year, which is this one: what is charged at a period's end is
    asked for."""
    for contract in [*document.get("contracts", []), document.get("default_contract") or {}]:
        if contract.get("billing_period") != "week":
            if contract.pop("billing_anchor", None) is not None:
                contract.pop("phases", None)  # they begin with periods that are no more


def workload(schedule):
    """(case, lines in the order in which they are sent): roughly in order of time, some of them sent again much later."""
    rng = random.Random(f"workload {schedule.seed}")
    # A month that is over with all its periods on the days on which it is asked for, and within the accepted lateness.
    span = tuple(int(datetime.datetime(schedule.year, 12, day, tzinfo=datetime.timezone.utc).timestamp()) for day in DAYS)
    case = generate.generate_merged(f"chaos {schedule.seed}", rng.randrange(12, 28), pipeline=True, within=span)
    _end_with_the_year(case.document)
    disorder = rng.choice(_DISORDERS)
    timed = [(_when(line, span) + rng.uniform(-disorder, disorder), number) for number, line in enumerate(case.lines)]
    lines = [case.lines[number] for _, number in sorted(timed)]
    for line in rng.sample(lines, len(lines) // rng.choice((5, 10, 50))):
        lines.insert(rng.randrange(len(lines)), line)
    if schedule.settings["WEIR_LATENESS"] != AMPLE:
        lines = _of_one_time(lines)
    return case, [line for line in lines if line.strip()]


def partition_of(line, partitions):
    """By customer, so that a resend comes by the same lane; a line that names none goes anywhere."""
    try:
        key = json.loads(line)["subject"].encode()
    except (ValueError, KeyError, TypeError, AttributeError):
        key = line
    return zlib.crc32(key) % partitions
