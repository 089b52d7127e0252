"""Events into windows: duplicates, conflicts, matching, and the seven aggregations (docs/rating.md sections 1 and 2)."""
import collections
import dataclasses

from . import events, exact, instants
from .catalog import Unpriced


@dataclasses.dataclass
class Quarantined:
    index: int  # of the line, blank lines not counted
    line: bytes
    reason: str
    field: object


class LaneClock:
    """What a lane accepts: nothing older than the highest time that it took, less the disorder and the lateness (ns)."""

    def __init__(self, lateness, disorder):
        self.back = lateness + disorder
        self.high = None

    def check(self, time):
        if self.high is not None and time < self.high - self.back:
            raise events.Bad("too_late", "time")

    def took(self, time):
        if self.high is None or time > self.high:
            self.high = time


class Metering:
    """Windows of one lane. `windows` maps (customer, meter key, texts, start) to [place, events, value…]:
    sum and avg: total; min and max: value; latest: (time, index), value; unique: set of texts."""

    def __init__(self, catalog, line_at=None):
        """`line_at(index)` gives a line again; without it all lines of counted events are kept in memory."""
        self.catalog = catalog
        self.meters_of_type = collections.defaultdict(list)
        for meter in catalog.meters:
            self.meters_of_type[meter.event_type].append((meter, _READERS[meter.aggregation], _FOLDS[meter.aggregation]))
        self.windows = {}
        self.seen = {}
        self.events_of = collections.defaultdict(dict)  # window: {identity: (value, time, index)}, of retractable meters
        self.void = {}  # identity: "void" or "ahead"
        self.kept = {}
        self.line_at = line_at or self.kept.__getitem__
        self.keep = line_at is None
        self.counts = collections.Counter()
        self.uncounted = collections.Counter()  # (customer, "duplicate" or "quarantined"); empty: nobody can tell whose
        self.bad = []
        self.earliest = None
        self.latest = None

    def _found(self, event, kind):
        """The meters that an event matches, each with its texts and value."""
        return [(meter, fold,
                 tuple([events.dimension(event, name) for name in meter.group_by]) if meter.group_by else (),
                 read(event, meter.value) if read else None)
                for meter, read, fold in self.meters_of_type.get(kind, ())
                if not meter.where or events.passes(event, meter.where)]

    def add(self, index, line, clock=None):
        """clock: the LaneClock of the line's lane; None: nothing is too late."""
        counts = self.counts
        counts["read"] += 1
        try:
            event, identity, source, kind, subject, time = events.decode(line)
            if clock:
                clock.check(time)
            found = self._found(event, kind)
            if not found:
                counts["unmatched"] += 1
                if clock:
                    clock.took(time)
                return
            retraction = events.is_retraction(event)
            if retraction and not all(meter.retractable for meter, *_rest in found):
                raise events.Bad("not_retractable", "retraction")
            first = self.seen.setdefault((source, identity), index)
            undoes = first != index and self._undoes(first, line, (source, identity), kind, subject, time, found, retraction)
            if first != index and not undoes:
                counts["duplicate"] += 1
                self.uncounted[subject, "duplicate"] += 1
                if clock:
                    clock.took(time)
                return
            seconds = time // instants.NS
            keys = [(subject, meter.key, texts, instants.window_start(meter.window, seconds))
                    for meter, _fold, texts, _value in found]
            windows = [self.windows.get(key) for key in keys]
            for (meter, fold, _texts, value), window in zip(found, windows):
                change = 0 if retraction and not undoes else -value if undoes and fold is _sum else value
                if fold is _sum and window is not None and abs(window[2] + change) >= exact.LIMIT:
                    if not undoes:
                        del self.seen[(source, identity)]
                    raise events.Bad("number_range", meter.value)
        except events.Bad as bad:
            counts["quarantined"] += 1
            self.uncounted[events.whose(line), "quarantined"] += 1
            self.bad.append(Quarantined(index, line, bad.reason, bad.field))
            return
        if self.keep and not undoes:
            self.kept[index] = line
        counts["retracted" if retraction else "counted"] += 1
        if clock:
            clock.took(time)
        if retraction:
            self.void[(source, identity)] = "void" if undoes else "ahead"
        if self.earliest is None or time < self.earliest:
            self.earliest = time
        if self.latest is None or time > self.latest:
            self.latest = time
        unpriced = False
        for (meter, fold, texts, value), key in zip(found, keys):
            window = self.windows.get(key)
            if window is None:
                window = self.windows[key] = [self.catalog.place(subject, meter, texts, key[3]), 0]
            if undoes:
                window[1] -= 1
                if meter.aggregation in _UNFOLDS:
                    _UNFOLDS[meter.aggregation](window, value)
                else:
                    self._fold_rest(key, window, fold, (source, identity))
            elif retraction:
                _touch(window, meter.aggregation)
            else:
                window[1] += 1
                fold(window, value, time, index)
                if meter.retractable and meter.aggregation not in _UNFOLDS:
                    self.events_of[key][(source, identity)] = (value, time, index)
            if type(window[0]) is Unpriced:
                unpriced = True
        if unpriced and not retraction:
            counts["unpriced"] += 1

    def _fold_rest(self, key, window, fold, gone):
        """A window anew from its events but one."""
        del self.events_of[key][gone]
        del window[2:]
        for value, time, index in self.events_of[key].values():
            fold(window, value, time, index)

    def _undoes(self, first, line, identity, kind, subject, time, found, retraction):
        """Of an identity that is known: whether this takes its event out; False: a duplicate; Bad: neither."""
        known = self.line_at(first)
        if not self._same_content(known, line, kind, subject):
            raise events.Bad("conflict")
        state = self.void.get(identity)
        if state == "void" or (state is None and not retraction):
            return False
        event, _id, _source, known_kind, _subject, known_time = events.decode(known)
        known_found = self._found(event, known_kind)
        if known_time != time or [(m.key, *rest) for m, _f, *rest in known_found] != [(m.key, *rest) for m, _f, *rest in found]:
            raise events.Bad("retraction_differs")
        return state is None

    @staticmethod
    def _same_content(first, line, kind, subject):
        _event, _id, _source, first_kind, first_subject, _time = events.decode(first)
        return (first_kind, first_subject) == (kind, subject) and events.data_text(first) == events.data_text(line)


def _touch(window, aggregation):
    """A window that is there without an event: its retraction came first."""
    if len(window) == 2 and aggregation in ("sum", "avg"):
        window.append(0)


def _count(window, value, time, index):
    pass


def _uncount(window, value):
    pass


def _unsum(window, value):
    window[2] -= value


def _sum(window, value, time, index):
    if len(window) == 2:
        window.append(value)
    else:
        window[2] += value


def _min(window, value, time, index):
    if len(window) == 2:
        window.append(value)
    elif value < window[2]:
        window[2] = value


def _max(window, value, time, index):
    if len(window) == 2:
        window.append(value)
    elif value > window[2]:
        window[2] = value


def _latest(window, value, time, index):
    if len(window) == 2:
        window += ((time, index), value)
    elif (time, index) > window[2]:
        window[2] = (time, index)
        window[3] = value


def _unique(window, value, time, index):
    if len(window) == 2:
        window.append({value})
    else:
        window[2].add(value)


_FOLDS = {"count": _count, "sum": _sum, "avg": _sum, "min": _min, "max": _max, "latest": _latest, "unique": _unique}
_READERS = {"count": None, "sum": events.number, "avg": events.number, "min": events.number, "max": events.number,
            "latest": events.number, "unique": events.distinct}
_UNFOLDS = {"count": _uncount, "sum": _unsum, "avg": _unsum}
