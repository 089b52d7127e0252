"""Windows into charges: period quantities, prices, fees, true-ups, summary (docs/rating.md sections 4 to 7)."""
import collections
import dataclasses

from . import exact, fees, instants, pricing
from .catalog import MINOR_DIGITS, Place, Unpriced

Total = collections.namedtuple("Total", "customer contract start end item kind")


@dataclasses.dataclass
class Rating:
    """`rows`: Total -> [quantity, amount, currency, half_up];
    `components`: (customer, contract, start, end, item, version, component, tier) -> [quantity, amount];
    `unpriced`: (customer, meter, texts, window start) -> (reason, events)."""
    rows: dict
    components: dict
    unpriced: dict


def accumulate(catalog, windows):
    """Windows into what each (place, meter, split) has in all: the only pass over single windows."""
    splits = {}
    unpriced = {}
    billed_customers = set()  # (customer, start, end) with a window under the default contract
    for (customer, meter_key, texts, start), window in windows.items():
        place = window[0]
        if type(place) is Unpriced:
            unpriced[(customer, meter_key, texts, start)] = (place.reason, window[1])
            contract = place.contract
        else:
            contract = place.contract
            split = splits.setdefault(_place_key(place), (place, {}))[1]
            if window[1]:  # all of its events were retracted, or else it counts
                _fold(catalog.meter_of_key[meter_key], split, texts, window)
        if contract is catalog.default and contract is not None:
            billed_customers.add((customer, place.start, place.end))
    return splits, unpriced, billed_customers


def _place_key(place):
    return (place.customer, place.contract.key, place.start, place.end, place.version.version, place.price.meter,
            tuple(sorted(place.price.when.items())))


def _window_value(aggregation, window):
    if aggregation == "count":
        return window[1] * exact.SCALE
    if aggregation == "unique":
        return len(window[2]) * exact.SCALE
    if aggregation == "avg":
        return exact.divide(window[2], window[1])
    return window[3] if aggregation == "latest" else window[2]


def _fold(meter, splits, texts, window):
    """Add a window to its split: [events, state]."""
    split = splits.get(texts)
    aggregation = meter.aggregation
    if meter.rollup_sum or aggregation in ("count", "sum", "unique"):
        value = _window_value(aggregation, window)
        if split is None:
            splits[texts] = [window[1], value]
            return
        split[1] += value
    elif split is None:
        splits[texts] = [window[1], (window[2], window[3]) if aggregation == "latest" else window[2]]
        return
    elif aggregation == "avg":
        split[1] += window[2]
    elif aggregation == "latest":
        split[1] = max(split[1], (window[2], window[3]))
    else:
        split[1] = (min if aggregation == "min" else max)(split[1], window[2])
    split[0] += window[1]


def _quantity(meter, splits):
    """(Q, N) of a price from its splits."""
    total = 0
    for events, state in splits.values():
        if not meter.rollup_sum and meter.aggregation == "avg":
            state = exact.divide(state, events)
        elif not meter.rollup_sum and meter.aggregation == "latest":
            state = state[1]
        total += state
    return total, sum(events for events, _state in splits.values())


def _rate(contract, price, start, quantity, events):
    return pricing.rate(price.body, quantity, events, contract.multipliers.get(price.meter, exact.SCALE),
                        contract.discounts_of(price.meter, start))


class _Bill:
    """Gathers rows and components while the rules run."""

    def __init__(self, catalog):
        self.catalog = catalog
        self.rows = {}
        self.components = {}

    def row(self, place, item, kind, quantity, amount, version):
        customer, contract, start, end = place
        key = Total(customer, contract.key, start, end, item, kind)
        row = self.rows.setdefault(key, [0, 0, version.currency, version.half_up])
        row[0] += quantity
        row[1] += amount

    def usage(self, place, price, version, quantity, events):
        customer, contract, start, end = place
        rated = _rate(contract, price, start, quantity, events)
        for (component, tier), (part, amount) in rated.components.items():
            key = (customer, contract.key, start, end, price.meter, version.version, component, tier)
            line = self.components.setdefault(key, [0, 0])
            line[0] += part
            line[1] += amount
            self.row(place, price.meter, "usage", part, amount, version)


def finish(catalog, splits, unpriced, billed_customers, earliest, latest, keep_open):
    """Price the accumulated totals and add what periods bring by themselves."""
    bill = _Bill(catalog)
    for place, texts in splits.values():
        quantity, events = _quantity(catalog.meter_of_key[place.price.meter], texts)
        bill.usage((place.customer, place.contract, place.start, place.end), place.price, place.version,
                   quantity, events)
    if latest is not None:
        _periods(catalog, bill, splits, billed_customers, earliest, latest, keep_open)
    return Rating(bill.rows, bill.components, unpriced)


def _spanned(contract, earliest, latest):
    """Every period of a contract with a key that overlaps the span of the events."""
    at = max(earliest // instants.NS, contract.starts)
    while at * instants.NS <= latest and (contract.ends is None or at < contract.ends):
        start, end = contract.period(at)
        yield start, end
        at = end


def _periods(catalog, bill, splits, billed_customers, earliest, latest, keep_open):
    used = set(splits)
    usage = collections.Counter()
    for total, row in list(bill.rows.items()):
        usage[total[:4]] += row[1]
    for contract in catalog.contracts:
        for start, end in _spanned(contract, earliest, latest):
            ended = not keep_open or end * instants.NS <= latest
            place = (contract.customer, contract, start, end)
            version = catalog.version_at(contract.book, start)
            _fees(bill, place, version, ended)
            if not ended:
                continue
            for price in catalog.prices_in_force(contract, version) if version else ():
                if pricing.charges_at_zero(price.body) and \
                        _place_key(Place(contract, contract.customer, start, end, version, price)) not in used:
                    bill.usage(place, price, version, 0, 0)
                    usage[(contract.customer, contract.key, start, end)] += _rate(contract, price, start, 0, 0).amount()
            spent = usage[(contract.customer, contract.key, start, end)]
            for commitment in contract.commitments:
                shortfall = max(0, exact.parse(commitment["amount"]) - spent)
                bill.row(place, commitment["key"], "true_up", 0, shortfall, version or catalog.books[contract.book][0])
    for customer, start, end in billed_customers:
        ended = not keep_open or end * instants.NS <= latest
        _fees(bill, (customer, catalog.default, start, end), catalog.version_at(catalog.default.book, start), ended)


def _fees(bill, place, version, ended):
    for fee in version.fees if version else ():
        if ended or fee["charged"] == "in_advance":
            quantity, amount = fees.of_period(place[1], fee, place[2], place[3])
            if quantity or amount:
                bill.row(place, fee["key"], "fee", quantity, amount, version)


def summary(rating):
    """Rows as the CSV has them, sorted; rows without quantity and amount left out (docs/rating.md 7.4)."""
    result = []
    for key in sorted(rating.rows, key=lambda k: (k.customer, k.contract, k.start, k.item, k.kind)):
        quantity, amount, currency, half_up = rating.rows[key]
        if quantity or amount:
            result.append((key.customer, key.contract, instants.format_utc(key.start), instants.format_utc(key.end),
                           key.item, key.kind, exact.fixed(quantity), exact.fixed(amount),
                           exact.invoice(amount, MINOR_DIGITS[currency], half_up), currency))
    return result
