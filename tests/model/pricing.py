"""price(Q, N) of docs/rating.md section 5: components of a period's total."""
from . import exact


def _parse(text):
    return exact.parse(text) if text is not None else None


def charges_at_zero(price):
    """Whether the price's first tier has a flat fee that is charged without usage too."""
    return "tiers" in price and price["tiers"][0].get("flat_fee_at_zero") is True


class Rated:
    """Components of one price: {(component, tier): [quantity, amount]}, scaled by 10^12."""

    def __init__(self):
        self.components = {}

    def add(self, component, tier, quantity, amount):
        line = self.components.setdefault((component, tier), [0, 0])
        line[0] += quantity
        line[1] += amount

    def amount(self):
        return sum(line[1] for line in self.components.values())


def taken(discount, amount):
    """What a discount takes off an amount, scaled."""
    if discount["type"] == "percentage":
        return exact.multiply(amount, exact.parse(discount["rate"]))
    return min(amount, exact.parse(discount["amount"]))


def taken_from_all(discount, amounts):
    """What a discount on the invoice takes off each of its items, in their order."""
    amounts = [max(0, amount) for amount in amounts]
    if discount["type"] == "percentage":
        return [taken(discount, amount) for amount in amounts]
    whole = sum(amounts)
    borne = [exact.divide(min(whole, exact.parse(discount["amount"])) * sum(amounts[:number]), whole) if whole else 0
             for number in range(len(amounts) + 1)]
    return [after - before for before, after in zip(borne, borne[1:])]


def rate(price, quantity, events, multiplier=exact.SCALE, discounts=()):
    """The components of `quantity` (scaled) and `events` under the price's JSON object."""
    rated = Rated()

    def money(owner, name):
        text = owner.get(name)
        return 0 if text is None else exact.multiply(exact.parse(text), multiplier)

    free_units = _parse(price.get("free_units")) or 0
    billable = max(0, quantity - free_units)
    rest = quantity
    if free_units > 0:
        free = min(quantity, free_units)
        rest = quantity - free
        rated.add("free_units", 0, free, 0)
    at_zero = charges_at_zero(price)
    model = price["model"]

    if model == "per_unit":
        rated.add("units", 1, rest, exact.multiply(billable, money(price, "unit_price")))
    elif model == "graduated":
        lower = 0
        for number, tier in enumerate(price["tiers"], 1):
            up_to = _parse(tier["up_to"])
            if lower < billable:
                part = (billable if up_to is None else min(billable, up_to)) - lower
                rated.add("units", number, part, exact.multiply(part, money(tier, "unit_price")))
                rest -= part
            if lower < billable or (number == 1 and at_zero):
                rated.add("flat_fee", number, 0, money(tier, "flat_fee"))
            lower = up_to
            if lower is None or lower >= billable:
                break
        if rest:  # below zero: corrections beyond all usage
            rated.add("units", 1, rest, 0)
    elif model == "volume":
        number, tier = next((n, t) for n, t in enumerate(price["tiers"], 1)
                            if t["up_to"] is None or billable <= exact.parse(t["up_to"]))
        rated.add("units", number, rest, exact.multiply(billable, money(tier, "unit_price")))
        if billable > 0 or at_zero:
            rated.add("flat_fee", number, 0, money(tier, "flat_fee"))
    elif model == "package":
        size = exact.parse(price["package_size"])
        blocks = -(-billable // size)
        rated.add("package", 1, rest, blocks * money(price, "package_price"))
    elif model == "percentage":
        rated.add("units", 1, rest, exact.multiply(billable, money(price, "rate")))
        rated.add("fixed_fee", 1, 0, events * money(price, "fixed_fee"))
    elif model == "flat":
        rated.add("flat", 1, rest, money(price, "amount") if billable > 0 else 0)
    else:
        raise ValueError(f"unknown model {model!r}")

    base = rated.amount()
    if quantity > 0 or base > 0:
        for discount in discounts:
            off = taken(discount, base)
            rated.add("discount", 0, 0, -off)
            base -= off
        minimum = _parse(price.get("minimum_amount"))
        maximum = _parse(price.get("maximum_amount"))
        if minimum is not None and minimum > base:
            rated.add("minimum", 0, 0, minimum - base)
        elif maximum is not None and maximum < base:
            rated.add("maximum", 0, 0, maximum - base)
    return rated
