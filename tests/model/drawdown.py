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

    def order(self):
        return (self.priority, self.paid, FOREVER if self.meters is None else len(self.meters), self.expires, self.starts,
                self.key.encode(), self.contract.encode())

    def applies(self, charge):
        return (self.contract == charge.contract and self.terms == charge.terms and self.starts <= charge.segment < self.expires
                and (self.meters is None or charge.meter in self.meters))


def grants_of(contract):
    """The contract's prepaid commitments."""
    result = []
    for entry in contract.commitments:
        if entry["type"] != "prepaid":
            continue
        paid = entry.get("funding", "paid") == "paid"
        starts, expires = entry.get("starts_at"), entry.get("expires_at")
        contract_ends = FOREVER if contract.whole_ends is None else contract.whole_ends * instants.NS
        result.append(Grant(
            contract.key, contract.starts, entry["key"], exact.parse(entry["amount"]), paid,
            exact.parse(entry.get("price", entry["amount"])) if paid else 0, entry.get("priority", 0),
            instants.parse_rfc3339(starts) if starts else (contract.whole_starts or 0) * instants.NS,
            min(instants.parse_rfc3339(expires), contract_ends) if expires else contract_ends,
            set(entry["meters"]) if "meters" in entry else None, exact.parse(entry.get("overage_multiplier", "1"))))
    return result


def segment_of(grants, period_start, time):
    """Start, in ns, of the segment of the period that holds a time (both in ns)."""
    cuts = [cut for grant in grants for cut in (grant.starts, grant.expires) if cut <= time]
    return max([period_start, *cuts])


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


def draw_down(grants, charges):
    """Yields (charge, the grant's key or None for overage, amount) for one customer's grants and charges."""
    grants = sorted(grants, key=Grant.order)
    left = {(grant.contract, grant.key): grant.amount for grant in grants}
    for charge in sorted(_net(charges), key=lambda c: (c.segment, c.contract.encode(), c.period_start, c.meter.encode())):
        rest, multiplier = charge.amount, None
        for grant in grants:
            if not grant.applies(charge) or not rest:
                continue
            multiplier = grant.multiplier
            drawn = min(rest, left[(grant.contract, grant.key)])
            left[(grant.contract, grant.key)] -= drawn
            rest -= drawn
            if drawn:
                yield charge, grant.key, drawn
        if rest and multiplier is not None:
            yield charge, None, exact.multiply(rest, multiplier - exact.SCALE)
