"""common/calendar*.c against Python's zoneinfo and datetime. Run with /usr/bin/python3 -m pytest; WEIR_SEED sets another
seed, and WEIR_ALL=1 asks about every zone of the system instead of those with something odd about them."""
import bisect
import calendar
import datetime
import functools
import os
import random
import re
import struct
import time
import zoneinfo

import pytest

from oracle import lines

SEED = os.environ.get("WEIR_SEED", "20260105")
SECOND = 10**9
EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
FIRST_DAY = datetime.date(1970, 1, 1)
LAST = 2**31 + 20 * 365 * 86400  # into 2058: beyond the tables of transitions, where only the zone's rule speaks
PERIODS = ("day", "week", "month", "quarter", "year")
ODD_ZONES = [
    "UTC", "America/New_York", "Europe/London", "Europe/Berlin", "Europe/Dublin", "Asia/Kolkata", "Asia/Kathmandu",
    "America/Sao_Paulo", "America/Asuncion", "America/Santiago", "America/Havana", "America/St_Johns", "America/Scoresbysund",
    "Asia/Beirut", "Asia/Amman", "Asia/Gaza", "Asia/Tehran", "Asia/Damascus", "Africa/Cairo", "Africa/Casablanca",
    "Africa/Monrovia", "Australia/Lord_Howe", "Australia/Sydney", "Pacific/Apia", "Pacific/Kwajalein", "Pacific/Chatham",
    "Pacific/Kiritimati", "Antarctica/Troll", "Asia/Manila"]


class Zone:
    """A zone as the stretches between its changes: [begin, end) in seconds since 1970, and the seconds east of UTC."""

    def __init__(self, name):
        zone = zoneinfo.ZoneInfo(name)

        def offset(instant):
            return round((EPOCH + datetime.timedelta(seconds=instant)).astimezone(zone).utcoffset().total_seconds())
        self.stretches, begin, step = [], -3 * 86400, 6 * 3600
        for instant in range(begin, LAST + 400 * 86400, step):
            if offset(instant) == offset(instant + step):
                continue
            before, after = instant, instant + step
            while after - before > 1:
                middle = (before + after) // 2
                before, after = (middle, after) if offset(middle) == offset(before) else (before, middle)
            self.stretches.append((begin, after, offset(before)))
            begin = after
        self.stretches.append((begin, 2**40, offset(begin)))
        self.starts = {}

    def changes(self):
        return [begin for begin, _, _ in self.stretches[1:]]

    def start_of(self, date):
        """The first instant at which the clock shows this date's midnight or later."""
        if date not in self.starts:
            midnight = (date - FIRST_DAY).days * 86400
            self.starts[date] = min(max(begin, midnight - offset) for begin, end, offset in self.stretches
                                    if max(begin, midnight - offset) < end)
        return self.starts[date]

    def day_of(self, instant):
        """The last day that has begun."""
        guess = FIRST_DAY + datetime.timedelta(days=instant // 86400 - 3)
        days = [guess + datetime.timedelta(days=i) for i in range(7)]
        return days[bisect.bisect_right([self.start_of(day) for day in days], instant) - 1]

    def period(self, period, time, anchor=(0, 0, 0)):
        """From the last day on which a period begins to the next one."""
        days = first_days(period, anchor)
        at = bisect.bisect_right(days, self.day_of(time // SECOND))
        return max(0, self.start_of(days[at - 1])) * SECOND, self.start_of(days[at]) * SECOND


@functools.lru_cache(maxsize=None)
def first_days(period, anchor):
    days = (FIRST_DAY + datetime.timedelta(days=number) for number in range(-800, LAST // 86400 + 800))
    return [day for day in days if begins(period, day, anchor)]


def begins(period, day, anchor):
    """Whether a period begins on this day; anchor: (weekday from Monday, month, day), each from 0."""
    weekday, month, of_month = anchor
    if period == "day":
        return True
    if period == "week":
        return day.weekday() == weekday
    months = {"month": 1, "quarter": 3, "year": 12}[period]
    return (day.month - 1 - month) % months == 0 and \
        day.day == min(of_month + 1, calendar.monthrange(day.year, day.month)[1])


ANCHORS = [(0, 0, 0)] + [(random.Random(f"{SEED} {number}").randrange(7), random.Random(f"{SEED} {number}").randrange(12),
                         number if number > 26 else number % 7) for number in range(20, 31)]


def zones():
    return sorted(zoneinfo.available_timezones() - {"localtime"}) if os.environ.get("WEIR_ALL") else ODD_ZONES


@pytest.mark.parametrize("name", zones())
def test_billing_periods(name):
    source, zone, cases = random.Random(f"{SEED} {name}"), Zone(name), []
    times = [source.randrange(LAST * SECOND) for _ in range(100)]
    for change in zone.changes():  # where clocks change, and the midnights around it
        if 2 * 86400 < change < LAST:
            day = datetime.date(1970, 1, 1) + datetime.timedelta(days=change // 86400)
            edges = [change] + [zone.start_of(day + datetime.timedelta(days=i)) for i in (-1, 0, 1, 2)]
            times += [edge * SECOND + beside for edge in edges for beside in (-1, 0)]
            times += [(change + source.randint(-7200, 7200)) * SECOND for _ in range(2)]
    times += [0, 1, SECOND, 86400 * SECOND]
    for time in times:
        for period in PERIODS:
            anchor = source.choice(ANCHORS)
            start, end = zone.period(period, time, anchor)
            assert start <= time < end
            cases.append((f"period {period} {','.join(map(str, anchor))} {name} {time}", {f"{start} {end}"}))
    lines.compare("calendar_lines", cases)


PROPERTY_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/Santiago", "America/Havana", "Asia/Beirut",
                  "Australia/Lord_Howe", "Africa/Casablanca", "Pacific/Apia")
# Around 29 February, the 31st, and the days on which clocks change.
PROPERTY_DAYS = ("2024-02-28", "2024-02-29", "2025-02-28", "2025-03-01", "2025-03-30", "2025-03-31", "2025-03-09", "2025-11-02",
                 "2025-10-26", "2025-01-31", "2025-04-30", "2025-12-31", "2011-12-29", "2011-12-31", "2100-02-28")


@pytest.mark.parametrize("period", PERIODS)
def test_periods_leave_no_gap_and_do_not_overlap(period):
    """Walked from end to end, each period is the one of all its instants; beside every boundary each instant is in the
    one period that it should be in, and the anchor day is never missed."""
    source, walks = random.Random(f"{SEED} {period}"), []
    anchors = {"day": [(0, 0, 0)], "week": [(day, 0, 0) for day in range(7)],
               "month": [(0, 0, day) for day in (0, 14, 27, 28, 29, 30)],
               "quarter": [(0, month, day) for month in range(3) for day in (0, 28, 30)],
               "year": [(0, month, day) for month in (0, 1, 3, 11) for day in (0, 28, 29, 30)]}[period]
    for zone in PROPERTY_ZONES:
        for day in PROPERTY_DAYS:
            start = (datetime.date.fromisoformat(day) - FIRST_DAY).days * 86400 + source.randrange(-86400, 86400)
            walks.append((f"{','.join(map(str, source.choice(anchors)))} {zone}", start * SECOND))
    ends = {}
    for _ in range(6):
        answers = lines.ask("calendar_lines", [f"period {period} {where} {time}" for where, time in walks])
        inside, following = [], []
        for (where, time), answer in zip(walks, answers):
            start, end = map(int, answer.split())
            assert start <= time < end
            assert ends.setdefault(where + str(time), start) == start, f"{where}: {time} begins a period that is not begun there"
            inside += [(f"period {period} {where} {at}", {answer}) for at in (start, end - 1, source.randrange(start, end))]
            following.append((where, end))
            ends[where + str(end)] = end
        lines.compare("calendar_lines", inside)
        walks = following


def tzif(footer, transitions=(), leaps=0):
    """A zone file: transitions are (instant, seconds east)."""
    offsets = [0] + [offset for _, offset in transitions]
    counts = struct.pack(">6l", 0, 0, leaps, len(transitions), len(offsets), 4)
    data = b"".join(struct.pack(">q", instant) for instant, _ in transitions) + bytes(range(1, len(offsets)))
    data += b"".join(struct.pack(">lBB", offset, 0, 0) for offset in offsets) + b"ABC\0" + bytes(12 * leaps)
    empty = struct.pack(">6l", 0, 0, 0, 0, 1, 4) + bytes(6) + b"ABC\0"
    return b"TZif2" + bytes(15) + empty + b"TZif2" + bytes(15) + counts + data + b"\n" + footer.encode() + b"\n"


def random_change(source, month):
    """In this month or within two months after it: not so near to New Year, nor to the other change, that "the change of
    this year" could mean two things."""
    month, number = month + source.randint(0, 2), 30 * month + source.randint(0, 60)
    day = source.choice((f"M{month}.{source.randint(1, 5)}.{source.randint(0, 6)}", f"J{number}", str(number)))
    if month < 6:
        day = source.choice((day, day, "J59", "J60", "58", "59", "60"))
    hours = source.choice((source.randint(0, 24), source.randint(-167, 167), 0))
    return day + source.choice(("", f"/{hours}", f"/{hours}:30", f"/{hours}:15:07"))


def random_rule(source):
    standard = source.choice((0, source.randint(-14, 12)))
    rule = source.choice(("EST", "<+03>", "<-0330>")) + f"{standard}" + source.choice(("", ":30", ":07:30"))
    if source.random() < 0.1:
        return rule
    months = source.choice(((2, 8), (8, 2)))
    return rule + source.choice(("EDT", "<+99>")) + source.choice(("", "", f"{standard + source.choice((1, -1, -2))}")) \
        + f",{random_change(source, months[0])},{random_change(source, months[1])}"


def offsets_by_glibc(rule, times):
    """glibc reads the same rules from TZ. (Not zoneinfo: 3.11 takes day n for n - 1, and J59 for February 29.)"""
    before = os.environ.get("TZ")
    try:
        os.environ["TZ"] = rule
        time.tzset()
        return [time.localtime(instant).tm_gmtoff for instant in times]
    finally:
        if before is None:
            del os.environ["TZ"]
        else:
            os.environ["TZ"] = before
        time.tzset()


def changes_by_glibc(rule, year):
    """Where the offset changes in a year, by halves between days that differ."""
    begin = (datetime.date(year, 1, 1) - FIRST_DAY).days * 86400
    days = [begin + 86400 * i for i in range(366)]
    offsets = offsets_by_glibc(rule, days)
    for before, after, offset in ((days[i], days[i + 1], offsets[i]) for i in range(365) if offsets[i] != offsets[i + 1]):
        while after - before > 1:
            middle = (before + after) // 2
            before, after = (middle, after) if offsets_by_glibc(rule, [middle])[0] == offset else (before, middle)
        yield after


def test_rules_after_the_last_transition():
    source, cases = random.Random(SEED), []
    for _ in range(400):
        rule = random_rule(source)
        times = [source.randint(86400 * 400, LAST) for _ in range(20)]
        for year in (source.randint(1972, 2057), 2024, 2100):
            times += [change + beside for change in changes_by_glibc(rule, year) for beside in (-1, 0)]
        question = f"offset {tzif(rule, [(0, 3600), (86400, -7200)]).hex()} {' '.join(map(str, times))}"
        cases.append((question, {"".join(f"{offset} " for offset in offsets_by_glibc(rule, times))}))
    lines.compare("calendar_lines", cases)


def test_a_transition_holds_from_its_second_on():
    data = tzif("", [(-10, 60), (0, 3600), (86400, -7200)]).hex()
    lines.compare("calendar_lines", [(f"offset {data} -11 -10 -1 0 1 86399 86400 999999999",
                                      {"0 60 60 3600 3600 3600 -7200 -7200 "})])


def test_files_that_are_no_zones():
    whole = tzif("EST5EDT,M3.2.0,M11.1.0", [(0, 3600), (10, 7200)])
    beyond = bytearray(whole)
    beyond[whole.index(bytes((1, 2)) + bytes(4)) + 1] = 3  # a transition to a fourth kind of time, of three
    wrong = [whole[:length] for length in range(1, len(whole))]
    wrong += [tzif(rule) for rule in ("EST", "EST5EDT", "EST5EDT,M3.2.0", "E5", "EST5EDT,M13.1.0,M1.1.0", "EST5EDT,M1.6.0,M1.1.0",
                                      "EST5EDT,M1.1.7,M1.1.0", "EST5EDT,366,1", "EST5EDT,M3.2.0,M11.1.0x", "EST168", "<EST5", "5", "x" * 300)]
    wrong += [tzif("EST5", [(10, 0), (10, 3600)]), tzif("EST5", [(10, 0), (5, 3600)]), tzif("EST5", leaps=1), b"TZif" + bytes(100),
              b"PK34" + whole[4:], whole.replace(b"TZif2", b"TZif\0"), bytes(beyond)]
    cases = [(f"offset {data.hex()} 0", {"zone"}) for data in wrong]
    source = random.Random(SEED)
    lines.compare("calendar_lines", cases)
    for _ in range(2000):  # any answer, but no fault
        data = bytearray(whole)
        for _ in range(source.randint(1, 4)):
            data[source.randrange(len(data))] = source.randrange(256)
        cases.append((f"offset {data.hex()} 0 {LAST}", set()))
    lines.ask("calendar_lines", [question for question, _ in cases])


def test_names_that_are_no_zones():
    names = ["Mars/Olympus", "../../etc/passwd", "+02:00", "/usr/share/zoneinfo/UTC", "america/new_york", "zone.tab",
             "tzdata.zi", "Europe", "", ":UTC", "UTC0", "EST5EDT4", "<+03>-3", "Z", "posixrules", "localtime", "leapseconds"]
    lines.compare("calendar_lines", [(f"period day 0,0,0 {name or ' '} 0", {"zone"}) for name in names])


def test_windows():
    source, cases = random.Random(SEED), []
    for _ in range(3000):
        time = source.choice((source.randrange(2**31), source.randrange(9214646399))) * SECOND \
            + source.choice((0, SECOND - 1, source.randrange(SECOND)))
        for name, seconds in (("1m", 60), ("5m", 300), ("15m", 900), ("1h", 3600), ("1d", 86400)):
            start = time // (seconds * SECOND) * seconds * SECOND
            cases.append((f"window {name} {time}", {f"{start} {start + seconds * SECOND}"}))
        day = FIRST_DAY + datetime.timedelta(days=time // SECOND // 86400)
        first, last = day.replace(day=1), (day.replace(day=1) + datetime.timedelta(days=32)).replace(day=1)
        start, end = ((date - FIRST_DAY).days * 86400 * SECOND for date in (first, last))
        cases.append((f"window 1mo {time}", {f"{start} {end}"}))
    lines.compare("calendar_lines", cases)


def test_dates():
    days = list(range(-800, 800)) + list(range(10957 - 400, 10957 + 400)) + [
        random.Random(SEED).randint(-719162, 2932896) for _ in range(5000)] + [-719162, 2932896]
    cases = []
    for number in days:
        date = datetime.date.fromordinal(FIRST_DAY.toordinal() + number)
        cases.append((f"date {number}", {f"{date.year} {date.month} {date.day} {number}"}))
    lines.compare("calendar_lines", cases)


TIME = re.compile(r"(\d{4})-(\d\d)-(\d\d)[Tt](\d\d):(\d\d):(\d\d)(?:\.(\d{1,9}))?([Zz]|[+-]\d\d:\d\d)", re.ASCII)


def time_of(text):
    """docs/rating.md 1.6, by Python's datetime."""
    match = TIME.fullmatch(text)
    if not match:
        return "bad"
    fraction, zone = match[7] or "", match[8]
    try:
        moment = datetime.datetime(*(int(match[i]) for i in range(1, 7)), tzinfo=datetime.timezone.utc)
    except ValueError:
        if match[1] != "0000":
            return "bad"
        return "bad"  # year 0 is before 1970 whatever its offset
    seconds = (moment - EPOCH) // datetime.timedelta(seconds=1)
    if zone not in "Zz":
        hours, minutes = int(zone[1:3]), int(zone[4:])
        if hours > 23 or minutes > 59:
            return "bad"
        seconds -= (hours * 3600 + minutes * 60) * (-1 if zone[0] == "-" else 1)
    if not 0 <= seconds <= 9214646399:
        return "bad"
    return str(seconds * SECOND + int(fraction.ljust(9, "0")))


def random_time(source):
    year = source.choice((source.randint(1970, 2261), source.randint(1968, 1972), source.randint(2260, 2263), 2000, 2100, 2024))
    day = source.choice((source.randint(1, 28), source.randint(28, 31)))
    fraction = source.choice(("", "", "." + "".join(source.choice("0123456789") for _ in range(source.randint(1, 10)))))
    zone = source.choice(("Z", "z", "Z", f"{source.choice('+-')}{source.randint(0, 24):02}:{source.choice((0, 30, 45, 59, 60)):02}"))
    text = (f"{year:04}-{source.randint(1, 12):02}-{day:02}{source.choice('TTTt')}{source.choice((0, 23, source.randint(0, 24))):02}:"
            f"{source.choice((0, 59, source.randint(0, 60))):02}:{source.choice((0, 59, source.randint(0, 60))):02}{fraction}{zone}")
    if source.random() < 0.2:
        at = source.randrange(len(text) + 1)
        text = text[:at] + source.choice(("", " ", "0", "-", ":", ".", "T", "x", "é")) + text[at + source.choice((0, 1)):]
    return text


def test_reading_times():
    source = random.Random(SEED)
    texts = [random_time(source) for _ in range(30000)] + [
        "1970-01-01T00:00:00Z", "1969-12-31T23:59:59Z", "1969-12-31T23:59:59.999999999Z", "2261-12-31T23:59:59.999999999Z",
        "2262-01-01T00:00:00Z", "1970-01-01T00:30:00+00:30", "1970-01-01T00:29:59+00:30", "1969-12-31T23:30:00-00:30",
        "2261-12-31T23:59:59-00:01", "2262-01-01T00:59:59+01:00", "2016-12-31T23:59:60Z", "2023-02-29T00:00:00Z",
        "2024-02-29T00:00:00Z", "2100-02-29T00:00:00Z", "2000-02-29T00:00:00Z", "2026-01-05T10:59:59.Z", "2026-01-05T10:59:59",
        "2026-01-05 10:59:59Z", "2026-01-05T10:59Z", "2026-01-05T10:59:59+0100", "2026-01-05T10:59:59+01", "", "Z",
        "2026-01-05T10:59:59.1234567890Z", "2026-01-05T10:59:59,5Z", "2026-1-5T10:59:59Z", "20260105T105959Z",
        "0000-01-01T00:00:00Z", "9999-12-31T23:59:59Z", "2026-00-01T00:00:00Z", "2026-13-01T00:00:00Z", "2026-01-00T00:00:00Z"]
    answers = [time_of(text) for text in texts]
    assert 5000 < sum(answer == "bad" for answer in answers) < 25000
    lines.compare("calendar_lines", [(f"parse {text}", {answer}) for text, answer in zip(texts, answers)])


def test_writing_times():
    source, cases = random.Random(SEED), []
    for _ in range(5000):
        seconds = source.choice((source.randrange(9214646400), source.randrange(3), 9214646399))
        nanoseconds = source.choice((0, 1, 999999999, 123000000, source.randrange(SECOND)))
        moment = EPOCH + datetime.timedelta(seconds=seconds)
        fraction = f".{nanoseconds:09}".rstrip("0").rstrip(".")
        text = f"{moment:%Y-%m-%dT%H:%M:%S}{fraction}Z"
        cases.append((f"format {seconds * SECOND + nanoseconds}", {text}))
        cases.append((f"parse {text}", {str(seconds * SECOND + nanoseconds)}))
    lines.compare("calendar_lines", cases)


def test_durations():
    units = {"ms": 10**6, "s": SECOND, "m": 60 * SECOND, "h": 3600 * SECOND, "d": 86400 * SECOND}
    cases = [(f"duration {text}", {"bad"}) for text in (
        "", "s", "1", "1x", "-1s", "+1s", "1.5s", "1 s", " 1s", "1s ", "1h30m", "1S", "106752d", "9223372036855s",
        "99999999999999999999s", "0x1s")]
    for unit, length in units.items():
        for count in (0, 1, 7, 24, 60, 1000, 3600, 9500):
            value = count * length
            largest = "ms" if value == 0 else next(name for name in ("d", "h", "m", "s", "ms") if value % units[name] == 0)
            cases.append((f"duration {count}{unit}", {f"{value} {value // units[largest]}{largest}"}))
    lines.compare("calendar_lines", cases)
