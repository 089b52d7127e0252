"""Windows into charges: period quantities, prices, fees, true-ups, summary (docs/rating.md sections 4 to 7)."""
import collections
import dataclasses

from . import drawdown, exact, fees, instants, pricing
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
    left: dict = dataclasses.field(default_factory=dict)  # customer -> {(contract, grant): what was not drawn}


def accumulate(catalog, windows, orders=()):
    """Windows into what each (place, meter, split) has in all: the only pass over single windows."""
    splits = {}
    unpriced = {}
    grants_of = {}
    billed_customers = set()  # (customer, start, end) with a window under the default contract
    for (customer, meter_key, texts, start), window in windows.items():
        place = window[0]
        if type(place) is Unpriced:
            unpriced[(customer, meter_key, texts, start)] = (place.reason, window[1])
            contract = place.contract
        else:
            contract = place.contract
            _place, split, segments = splits.setdefault(_place_key(place), (place, {}, {}))
            if window[1]:  # all of its events were retracted, or else it counts
                _fold(catalog.meter_of_key[meter_key], split, texts, window)
                _segment(catalog.meter_of_key[meter_key], grants_of, orders, place, segments, start, window)
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


def _adds_up(meter):
    return meter.rollup_sum or meter.aggregation in ("count", "sum", "unique")


def _segment(meter, grants_of, orders, place, segments, start, window):
    """Where the contract has prepaid amounts: add a window to its segment's [quantity, events]."""
    key = (id(place.contract), place.customer) if orders else id(place.contract)
    grants = grants_of.get(key)
    if grants is None:
        listed = drawdown.orders_of(orders, place.customer, place.contract)
        until = max((instants.parse_rfc3339(order["at"]) // instants.NS for order in listed if "end" in order), default=0)
        grants = grants_of[key] = drawdown.grants_of(place.contract, listed, until)  # with each term's whose end cuts a segment
    if grants and _adds_up(meter):
        segment = segments.setdefault(drawdown.segment_of(place.contract, grants, place.start * instants.NS, start * instants.NS), [0, 0])
        segment[0] += _window_value(meter.aggregation, window)
        segment[1] += window[1]


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


def _rate(catalog, contract, price, start, quantity, events):
    return pricing.rate(price.body, quantity, events, contract.multipliers.get(price.meter, exact.SCALE),
                        contract.discounts_of(catalog.version_at(contract.book, start), price.meter, start))


class _Bill:
    """Gathers rows and components while the rules run."""

    def __init__(self, catalog, orders=(), until=0, earliest=0):
        self.catalog = catalog
        self.orders = orders
        self.until = until  # seconds: nothing of later counts
        self.earliest = earliest  # nanoseconds: nothing of before is known
        self.left = {}  # customer -> {(contract, grant): amount}
        self.rows = {}
        self.components = {}
        self.drawn_from = {}  # customer -> [Charge]

    def row(self, place, item, kind, quantity, amount, version):
        customer, contract, start, end = place
        key = Total(customer, contract.key, start, end, item, kind)
        row = self.rows.setdefault(key, [0, 0, version.currency, version.half_up])
        row[0] += quantity
        row[1] += amount

    def usage(self, place, price, version, quantity, events):
        customer, contract, start, end = place
        rated = _rate(self.catalog, contract, price, start, quantity, events)
        for (component, tier), (part, amount) in rated.components.items():
            key = (customer, contract.key, start, end, price.meter, version.version, component, tier)
            line = self.components.setdefault(key, [0, 0])
            line[0] += part
            line[1] += amount
            self.row(place, price.meter, "usage", part, amount, version)


    def grants_of(self, customer, contract):
        return drawdown.grants_of(contract, drawdown.orders_of(self.orders, customer, contract), self.until)

    def charge(self, place, meter, segment, amount):
        customer, contract, start, _end = place
        if self.grants_of(customer, contract):
            self.drawn_from.setdefault(customer, []).append(
                (contract, drawdown.Charge(contract.key, contract.starts, start, segment, meter, amount)))

    def charges(self, place, price, segments):
        """What each segment adds to the price's total, in the order of time; the flat fee at zero is the period's first."""
        _customer, contract, start, _end = place
        before = _rate(self.catalog, contract, price, start, 0, 0).amount()
        self.charge(place, price.meter, start * instants.NS, before)
        quantity = events = 0
        for segment in sorted(segments):
            quantity += segments[segment][0]
            events += segments[segment][1]
            after = _rate(self.catalog, contract, price, start, quantity, events).amount()
            self.charge(place, price.meter, segment, after - before)
            before = after

    def draw_down(self):
        for customer, charges in self.drawn_from.items():
            contracts = {(contract.key, contract.starts): contract for contract, _charge in charges}
            grants = [grant for contract in contracts.values() for grant in self.grants_of(customer, contract)]
            left = self.left.setdefault(customer, {})

            def order_of(charge, contracts=contracts):
                return self.catalog.drawdown_order(contracts[(charge.contract, charge.terms)], charge.period_start)

            for charge, key, amount in drawdown.draw_down(grants, [charge for _contract, charge in charges], order_of, left):
                contract = contracts[(charge.contract, charge.terms)]
                start, end = contract.period(charge.period_start)
                assert start == charge.period_start
                item, kind, change = (charge.meter, "overage", amount) if key is None else (key, "drawdown", -amount)
                self.row((customer, contract, start, end), item, kind, 0, change, self.catalog.books[contract.book][0])


def finish(catalog, splits, unpriced, billed_customers, earliest, latest, keep_open, orders=()):
    """Price the accumulated totals and add what periods bring by themselves."""
    bill = _Bill(catalog, orders, 0 if latest is None else latest // instants.NS, earliest)
    for place, texts, segments in splits.values():
        quantity, events = _quantity(catalog.meter_of_key[place.price.meter], texts)
        at = (place.customer, place.contract, place.start, place.end)
        bill.usage(at, place.price, place.version, quantity, events)
        if not _adds_up(catalog.meter_of_key[place.price.meter]):  # charged for the period as a whole, from its start on
            segments = {place.start * instants.NS: (quantity, events)}
        bill.charges(at, place.price, segments)
    for order in orders:  # what is charged makes a period under the default contract, as usage does
        at = instants.parse_rfc3339(order["at"] if "end" in order else order["starts_at"]) // instants.NS
        if not order["contract"] and (order.get("end") == "refund" or order.get("funding") == "paid" and exact.parse(order["price"])):
            billed_customers.add((order["customer"], *catalog.default.period(at)))
    if latest is not None:
        _periods(catalog, bill, splits, billed_customers, earliest, latest, keep_open)
    bill.draw_down()
    _orders(catalog, bill)
    return Rating(bill.rows, bill.components, unpriced, bill.left)


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
    spent = {}  # customer and key of a contract -> [(start, end, its terms, what was spent)], of what has ended
    for contract in catalog.contracts:
        for start, end in _spanned(contract, earliest, latest):
            ended = not keep_open or end * instants.NS <= latest
            place = (contract.customer, contract, start, end)
            version = catalog.version_at(contract.book, start)
            _fees(bill, place, version, ended)
            _purchases(catalog, bill, place)
            if not ended:
                continue
            for price in catalog.prices_in_force(contract, version) if version else ():
                if pricing.charges_at_zero(price.body) and \
                        _place_key(Place(contract, contract.customer, start, end, version, price)) not in used:
                    bill.usage(place, price, version, 0, 0)
                    bill.charges(place, price, {})
                    usage[(contract.customer, contract.key, start, end)] += _rate(catalog, contract, price, start, 0, 0).amount()
            off = _invoice_discounts(catalog, bill, place)
            of_period = _true_ups(catalog, bill, splits, place, usage[(contract.customer, contract.key, start, end)] - off)
            spent.setdefault((contract.customer, contract.key), []).append((start, end, contract, of_period))
    for periods in spent.values():
        _term_true_ups(catalog, bill, periods)
    for customer, start, end in billed_customers:
        ended = not keep_open or end * instants.NS <= latest
        place = (customer, catalog.default, start, end)
        _fees(bill, place, catalog.version_at(catalog.default.book, start), ended)
        if ended:
            off = _invoice_discounts(catalog, bill, place)
            _true_ups(catalog, bill, splits, place, usage[(customer, "", start, end)] - off)


def _span_of(place, commitment):
    """From when until when usage counts for a minimum quantity of that period, or of the term that ends with it."""
    _customer, contract, start, end = place
    if commitment["per"] == "period":
        return start, end
    begins, ends = next((begins, ends) for _number, begins, ends in contract.terms() if begins <= start and (ends is None or start < ends))
    return (begins, ends) if ends == end else None


def _is_known(bill, contract, begins):
    """Whether the period that begins then overlaps the span of the events."""
    terms = next(terms for terms in contract.phases if terms.starts <= begins and (terms.ends is None or begins < terms.ends))
    return terms.period(begins)[1] * instants.NS > bill.earliest


def _missing(bill, splits, place, commitment):
    """What a minimum quantity is short of, and what that costs at the price of usage without dimensions."""
    catalog = bill.catalog
    customer, contract, start, end = place
    span = _span_of(place, commitment)
    if not span or (commitment["per"] == "term" and not _is_known(bill, contract, span[0])):
        return 0, 0
    meter = catalog.meter_of_key[commitment["meter"]]
    version = catalog.version_at(contract.book, end - 1)
    price = catalog.price_of(contract, version, meter, ("",) * len(meter.group_by)) if version else None
    if price is None:
        return 0, 0
    found = Place(contract, customer, start, end, version, price)
    used, of_price, events, charged = 0, 0, 0, 0
    for key, (other, texts, _segments) in splits.items():
        if key[:2] != (customer, contract.key) or not span[0] <= key[2] < span[1] or other.price.meter != meter.key:
            continue
        if not any((entry["key"], entry["type"], entry["meter"], entry["per"]) == (commitment["key"], "minimum_quantity", meter.key, commitment["per"])
                   for entry in other.contract.commitments if "meter" in entry):
            continue
        quantity, count = _quantity(meter, texts)
        used += quantity
        if key == _place_key(found):
            of_price, events, charged = quantity, count, 1
    missing = max(0, exact.parse(commitment["quantity"]) - used)
    if not missing:
        return 0, 0
    at_zero = pricing.charges_at_zero(found.price.body) and contract is not catalog.default and \
        catalog.version_at(contract.book, start) is found.version  # charged when the period closed
    before = _rate(catalog, contract, price, start, of_price, events).amount() if charged or at_zero else 0
    return missing, _rate(catalog, contract, price, start, of_price + missing, events).amount() - before


def _invoice_discounts(catalog, bill, place):
    """What discounts on the invoice take off each item of an ended period; returns what they take off usage."""
    customer, contract, start, end = place
    version = catalog.version_at(contract.book, start)
    discounts = contract.invoice_discounts(version, start)
    if not discounts:
        return 0
    items = sorted((total.item, "usage", row[1]) for total, row in bill.rows.items()
                   if total[:4] == (customer, contract.key, start, end) and total.kind == "usage")
    items += sorted((fee["key"], "fee", fees.of_period(contract, fee, start, end)[1]) for fee in (version.fees if version else ()))
    left = [amount for _item, _kind, amount in items]
    for discount in discounts:
        left = [amount - off for amount, off in zip(left, pricing.taken_from_all(discount, left))]
    of_usage = 0
    for (item, kind, amount), rest in zip(items, left):
        bill.row(place, item, kind, 0, rest - amount, version or catalog.books[contract.book][0])
        if kind == "usage":
            of_usage += amount - rest
            line = bill.components.setdefault((customer, contract.key, start, end, item, version.version if version else None, "invoice_discount", 0), [0, 0])
            line[1] += rest - amount
            bill.charge(place, item, drawdown.segment_of(contract, bill.grants_of(place[0], contract), start * instants.NS, end * instants.NS - 1), rest - amount)
    return of_usage


def _true_ups(catalog, bill, splits, place, spent):
    _customer, contract, start, end = place
    version = catalog.version_at(contract.book, start) or catalog.books[contract.book][0]
    for commitment in contract.commitments:
        if commitment["type"] != "minimum_quantity":
            continue
        missing, amount = _missing(bill, splits, place, commitment)
        bill.row(place, commitment["key"], "true_up", missing, amount, version)
        segment = drawdown.segment_of(contract, bill.grants_of(place[0], contract), start * instants.NS, end * instants.NS - 1)
        bill.charge(place, commitment["meter"], segment, amount)
        spent += amount
    for commitment in contract.commitments:
        if commitment["type"] == "minimum_spend" and commitment["per"] == "period":
            bill.row(place, commitment["key"], "true_up", 0, max(0, exact.parse(commitment["amount"]) - spent), version)
    return spent


def _term_minimum(contract):
    return next((c for c in contract.commitments if c["type"] == "minimum_spend" and c["per"] == "term"), None)


def _term_true_ups(catalog, bill, periods):
    """Where all periods of a term are there: what is missing to the minimum that its last one lists, for those that list it."""
    for _number, begins, ends in periods[0][2].terms():
        if begins > periods[-1][0]:
            return
        of_term = [period for period in periods if begins <= period[0] and (ends is None or period[0] < ends)]
        if not of_term or of_term[0][0] != begins or of_term[-1][1] != ends:
            continue
        start, end, contract, _spent = of_term[-1]
        commitment = _term_minimum(contract)
        if commitment:
            spent = sum(spent for _start, _end, terms, spent in of_term if (_term_minimum(terms) or {}).get("key") == commitment["key"])
            version = catalog.version_at(contract.book, start) or catalog.books[contract.book][0]
            bill.row((contract.customer, contract, start, end), commitment["key"], "true_up", 0,
                     max(0, exact.parse(commitment["amount"]) - spent), version)


def _purchases(catalog, bill, place):
    """What is bought in a period: by the first terms that list it."""
    customer, contract, start, end = place
    listed = set()
    for terms in catalog.of_customer[customer]:
        if terms.key != contract.key or terms.starts > start:
            continue
        for grant in drawdown.grants_of(terms, until=end):
            if grant.bought is not None:
                if grant.price and grant.key not in listed and start * instants.NS <= grant.bought < end * instants.NS:
                    bill.row(place, grant.key, "fee", exact.SCALE, grant.price, catalog.books[contract.book][0])
                    listed.add(grant.key)
            elif grant.price and grant.key not in listed and start * instants.NS <= max(grant.starts, terms.starts * instants.NS) < end * instants.NS:
                bill.row(place, grant.key, "fee", exact.SCALE, grant.price, catalog.books[contract.book][0])
        listed |= {commitment["key"] for commitment in terms.commitments if commitment.get("per") != "term"}


def _orders(catalog, bill):
    """What was bought at run time, and what is given back of anything that was refunded."""
    for order in bill.orders:
        at = instants.parse_rfc3339(order["at"] if "end" in order else order["starts_at"])
        contract = catalog.contract_at(order["customer"], at // instants.NS)
        grants = [g for g in bill.grants_of(order["customer"], contract) if g.key == order["key"]]
        if "end" in order and not grants:  # of terms before these
            grants = [g for terms in catalog.of_customer[order["customer"]] if terms.key == contract.key
                      for g in bill.grants_of(order["customer"], terms) if g.key == order["key"]][:1]
        if not grants:  # this catalog does not have it any more
            continue
        grant = grants[0]
        at = max(at, grant.starts) // instants.NS
        contract = catalog.contract_at(order["customer"], at)
        place = (order["customer"], contract, *contract.period(at))
        version = catalog.books[contract.book][0]
        if "end" not in order and grant.price:
            bill.row(place, grant.key, "fee", exact.SCALE, grant.price, version)
        if order.get("end") == "refund":
            left = bill.left.get(order["customer"], {}).get((grant.contract, grant.key), grant.amount)
            bill.row(place, grant.key, "fee", 0, -exact.divide(exact.multiply(grant.price, left) * exact.SCALE, grant.amount), version)


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
