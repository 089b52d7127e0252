"""Instants as integers: seconds or nanoseconds since 1970-01-01T00:00:00Z; windows and billing periods."""
import calendar
import datetime
import functools
import re
import zoneinfo

NS = 10 ** 9
LAST_NS = None  # set below: the first instant that is too late
WINDOW_SECONDS = {"1m": 60, "5m": 300, "15m": 900, "1h": 3600, "1d": 86400}

_EPOCH = datetime.datetime(1970, 1, 1, tzinfo=datetime.timezone.utc)
_EPOCH_DAY = datetime.date(1970, 1, 1)
_SECOND = datetime.timedelta(seconds=1)
_RFC3339 = re.compile(
    r"([0-9]{4}-[0-9]{2}-[0-9]{2})[Tt]([0-9]{2}):([0-9]{2}):([0-9]{2})(?:\.([0-9]{1,9}))?"
    r"(?:[Zz]|([+-])([0-9]{2}):([0-9]{2}))")


@functools.lru_cache(maxsize=100_000)
def _day_start(text):
    try:
        return (datetime.date.fromisoformat(text) - _EPOCH_DAY).days * 86400
    except ValueError:
        return None


LAST_NS = _day_start("2262-01-01") * NS


def parse_rfc3339(text):
    """Nanoseconds since 1970, or None when the text is no RFC 3339 time of 1970-01-01 to 2261-12-31."""
    match = _RFC3339.fullmatch(text)
    if match is None:
        return None
    date, hour, minute, second, fraction, sign, offset_hours, offset_minutes = match.groups()
    day = _day_start(date)
    hour, minute, second = int(hour), int(minute), int(second)
    if day is None or hour > 23 or minute > 59 or second > 59:
        return None
    seconds = day + hour * 3600 + minute * 60 + second
    if sign:
        offset_hours, offset_minutes = int(offset_hours), int(offset_minutes)
        if offset_hours > 23 or offset_minutes > 59:
            return None
        offset = offset_hours * 3600 + offset_minutes * 60
        seconds += offset if sign == "-" else -offset
    nanoseconds = seconds * NS + (int(fraction.ljust(9, "0")) if fraction else 0)
    return nanoseconds if 0 <= nanoseconds < LAST_NS else None


def format_utc(seconds):
    return (_EPOCH + datetime.timedelta(seconds=seconds)).strftime("%Y-%m-%dT%H:%M:%SZ")


@functools.lru_cache(maxsize=100_000)
def _month_start_of_day(day):
    date = _EPOCH_DAY + datetime.timedelta(days=day)
    return (date.replace(day=1) - _EPOCH_DAY).days * 86400


def window_start(window, seconds):
    """Start in seconds of the window that holds the second."""
    length = WINDOW_SECONDS.get(window)
    return seconds - seconds % length if length else _month_start_of_day(seconds // 86400)


def _to_seconds(date, zone):
    # fold=0 takes the first of two midnights, and for a midnight that the clock skips the moment it skips.
    local = datetime.datetime(date.year, date.month, date.day, tzinfo=zone)
    return (local.astimezone(datetime.timezone.utc) - _EPOCH) // _SECOND


def day_number(zone_name, seconds):
    """The date that a clock in the zone shows, as a number of days."""
    local = (_EPOCH + datetime.timedelta(seconds=seconds)).astimezone(zoneinfo.ZoneInfo(zone_name))
    return (local.date() - _EPOCH_DAY).days


def anniversaries(zone_name, seconds, until):
    """Instants before `until` at which days begin that are full years after the day of `seconds`."""
    zone = zoneinfo.ZoneInfo(zone_name)
    first = (_EPOCH + datetime.timedelta(seconds=seconds)).astimezone(zone).date()
    for years in range(1, 400):
        at = _to_seconds(_in_month((first.year + years) * 12 + first.month - 1, first.day), zone)
        if at >= until:
            return
        yield at


def date_later(zone_name, seconds, months):
    """When the day begins that is so many months after the day of `seconds`."""
    zone = zoneinfo.ZoneInfo(zone_name)
    first = (_EPOCH + datetime.timedelta(seconds=seconds)).astimezone(zone).date()
    return _to_seconds(_in_month(first.year * 12 + first.month - 1 + months, first.day), zone)


WEEKDAYS = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")


def _in_month(index, day):
    """The day of a month (months since year 0), or its last one."""
    year, month = divmod(index, 12)
    return datetime.date(year, month + 1, min(day, calendar.monthrange(year, month + 1)[1]))


def _first_date(kind, anchor, date, periods):
    """The first date of the period that holds the date, or of the one that is `periods` later."""
    if kind == "day":
        return date + datetime.timedelta(days=periods)
    if kind == "week":
        back = (date.weekday() - WEEKDAYS.index(anchor or "monday")) % 7
        return date + datetime.timedelta(days=7 * periods - back)
    months = {"month": 1, "quarter": 3, "year": 12}[kind]
    month, day = (1, anchor or 1) if kind == "month" else map(int, (anchor or "01-01").split("-"))
    # A first guess by months, which may be one period late, or early by as much as the year is.
    index = date.year * 12 + (month - 1) % months
    while _in_month(index, day) <= date:
        index += months
    while _in_month(index, day) > date:
        index -= months
    return _in_month(index + months * periods, day)


@functools.lru_cache(maxsize=200_000)
def _period_of_date(kind, zone_name, anchor, date):
    zone = zoneinfo.ZoneInfo(zone_name)
    return tuple(_to_seconds(_first_date(kind, anchor, date, periods), zone) for periods in (0, 1))


@functools.lru_cache(maxsize=1_000_000)
def period(kind, zone_name, seconds, anchor=None):
    """(start, end) in seconds of the calendar period that holds the second, before any cut by a contract. anchor: as in the
    catalog."""
    local = (_EPOCH + datetime.timedelta(seconds=seconds)).astimezone(zoneinfo.ZoneInfo(zone_name))
    return _period_of_date(kind, zone_name, anchor, local.date())
