"""Prepaid amounts: what is drawn from which grant, and what goes beyond them (docs/credits.md 2)."""
import collections
import dataclasses

from . import exact, instants

FOREVER = 10 ** 30  # ns: later than any time

Charge = collections.namedtuple("Charge", "contract terms period_start segment meter amount")


@dataclasses.dataclass
class Grant:
    contract: str
    terms: object  # when the terms that list it begin
    key: str
    amount: int
    paid: bool
    price: int
    priority: int
    starts: int  # ns
    expires: int
    meters: object  # a set; None: all
    multiplier: int
    fraction: int = 0  # of what is left when it expires
    rest_expires: int = 0
    ends: int = FOREVER  # before its time
    end_kind: object = None
    source: object = None  # the key of the grant that it is the rollover of
    cuts: tuple = ()  # where it cuts segments
    entry: object = None
    bought: object = None  # of a grant per term: when, ns

    def until(self):
        return min(self.expires, max(self.ends, self.starts))

    def order(self, keys):
        by = {"priority": self.priority, "funding": self.paid, "meters": FOREVER if self.meters is None else len(self.meters),
              "expires_at": self.expires, "starts_at": self.starts}
        return (*(by[key] for key in keys), self.key.encode(), self.contract.encode())

    def applies(self, charge):
        return (self.contract == charge.contract and self.terms == charge.terms and self.starts <= charge.segment < self.until()
                and (self.meters is None or charge.meter in self.meters))


def orders_of(orders, customer, contract):
    return [order for order in orders if order["customer"] == customer and order["contract"] == contract.key]


def _per_term(contract, entry, ended, until):
    """What a commitment per term grants in each of them that begins by `until`, and what goes on from that."""
    paid = entry.get("funding", "paid") == "paid"
    ends = FOREVER if contract.whole_ends is None else contract.whole_ends * instants.NS
    for number, start, end in contract.terms():
        if start > max(until, contract.starts):
            return
        bought = contract.listed_in(start, end, entry["key"])
        if bought is None:
            continue
        expiry = (number - 1) * contract.renews + entry.get("months", contract.renews)
        expires = contract.months_on(expiry) * instants.NS
        grant = Grant(
            contract.key, contract.starts, entry["key"] if number == 1 else f"{entry['key']}+{number}", exact.parse(entry["amount"]), paid,
            exact.parse(entry.get("price", entry["amount"])) if paid else 0, entry.get("priority", 0), start * instants.NS,
            min(expires, ends), set(entry["meters"]) if "meters" in entry else None, exact.parse(entry.get("overage_multiplier", "1")),
            fraction=exact.parse(entry.get("rollover_fraction", "0")), entry=entry, bought=bought * instants.NS)
        yield grant
        if grant.fraction and grant.key not in ended and expires < ends:
            rest = contract.months_on(expiry + entry.get("rollover_months", contract.renews)) * instants.NS
            yield dataclasses.replace(grant, key=grant.key + "+rollover", amount=0, price=0, starts=grant.expires, fraction=0,
                                      expires=min(rest, ends), source=grant.key, bought=None)


def grants_of(contract, orders=(), until=0):
    """The contract's prepaid commitments, what was ordered for one customer of it, and what goes on from either. An order is what weir
    grant says, or ({"end": kind, "at": time}) the end of one. Of what is granted with each term, that of those that begin by `until`
    (seconds), or while these terms hold."""
    result = []
    ends = {order["key"]: (instants.parse_rfc3339(order["at"]), order["end"]) for order in orders if "end" in order}
    for entry in [*contract.commitments, *(order for order in orders if "end" not in order)]:
        if entry.get("type", "prepaid") != "prepaid":
            continue
        if entry.get("per") == "term":
            result += _per_term(contract, entry, ends, until)
            continue
        paid = entry.get("funding", "paid") == "paid"
        starts, expires = entry.get("starts_at"), entry.get("expires_at")
        contract_ends = FOREVER if contract.whole_ends is None else contract.whole_ends * instants.NS
        result.append(Grant(
            contract.key, contract.starts, entry["key"], exact.parse(entry["amount"]), paid,
            exact.parse(entry.get("price", entry["amount"])) if paid else 0, entry.get("priority", 0),
            instants.parse_rfc3339(starts) if starts else (contract.whole_starts or 0) * instants.NS,
            min(instants.parse_rfc3339(expires), contract_ends) if expires else contract_ends,
            set(entry["meters"]) if "meters" in entry else None, exact.parse(entry.get("overage_multiplier", "1")),
            fraction=exact.parse(entry.get("rollover_fraction", "0")), entry=entry))
        grant = result[-1]
        grant.cuts = (grant.starts, instants.parse_rfc3339(expires) if expires else FOREVER)
        if grant.fraction:
            rest_expires = entry.get("rollover_expires_at")
            rest_expires = instants.parse_rfc3339(rest_expires) if rest_expires else FOREVER
            grant.cuts += (rest_expires,)
            if grant.key not in ends and grant.cuts[1] < contract_ends:
                result.append(dataclasses.replace(
                    grant, key=grant.key + "+rollover", amount=0, price=0, starts=grant.expires, fraction=0,
                    expires=min(rest_expires, contract_ends), source=grant.key, cuts=()))
    for grant in result:
        if grant.key in ends:
            grant.ends, grant.end_kind = ends[grant.key]
            grant.cuts += (grant.ends,)
    return result


def segment_of(contract, grants, period_start, time):
    """Start, in ns, of the segment of the period that holds a time (both in ns): grants cut it, and calendar months."""
    cuts = [cut for grant in grants for cut in grant.cuts if cut <= time]
    month = instants.period("month", contract.timezone, time // instants.NS)[0] * instants.NS
    return max([period_start, month, *cuts])


def _net(charges):
    """Charges below nothing come off those of the same period and meter: the ones before, latest first, then those after."""
    amounts = collections.defaultdict(lambda: collections.defaultdict(int))
    for charge in charges:
        amounts[(charge.contract, charge.terms, charge.period_start, charge.meter)][charge.segment] += charge.amount
    for (contract, terms, period_start, meter), of_segment in amounts.items():
        times = sorted(of_segment)
        for number, time in enumerate(times):
            for other in times[:number][::-1] + times[number + 1:]:
                if of_segment[time] >= 0:
                    break
                taken = min(max(of_segment[other], 0), -of_segment[time])
                of_segment[time] += taken
                of_segment[other] -= taken
        for time in times:
            if of_segment[time] > 0:
                yield Charge(contract, terms, period_start, time, meter, of_segment[time])


def draw_down(grants, charges, order_of, left=None):
    """Yields (charge, the grant's key or None for overage, amount) for one customer's grants and charges; fills left. order_of says by
    which keys grants are taken for a charge."""
    left = {} if left is None else left
    left.update({(grant.contract, grant.key): grant.amount for grant in grants})
    rests = {(grant.contract, grant.key): grant for grant in grants if grant.source}
    sources = {(grant.contract, grant.key): grant for grant in grants}
    for charge in sorted(_net(charges), key=lambda c: (c.segment, c.contract.encode(), c.period_start, c.meter.encode())):
        rest, multiplier = charge.amount, None
        for grant in sorted(grants, key=lambda grant: grant.order(order_of(charge))):
            if not grant.applies(charge) or not rest:
                continue
            if rests.pop((grant.contract, grant.key), None):
                left[(grant.contract, grant.key)] = exact.multiply(left[(grant.contract, grant.source)],
                                                                   sources[(grant.contract, grant.source)].fraction)
            multiplier = grant.multiplier
            drawn = min(rest, left[(grant.contract, grant.key)])
            left[(grant.contract, grant.key)] -= drawn
            rest -= drawn
            if drawn:
                yield charge, grant.key, drawn
        if rest and multiplier is not None:
            yield charge, None, exact.multiply(rest, multiplier - exact.SCALE)
