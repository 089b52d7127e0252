"""What fees come to in a period (docs/fees.md)."""
from . import exact, instants


def _times(contract, fee, start, end):
    if fee["per"] == "period":
        return 1
    if contract.whole_starts is None:
        return 0
    first = start == contract.whole_starts
    if fee["per"] == "contract":
        return int(first)
    return first + sum(start <= at for at in instants.anniversaries(contract.timezone, contract.whole_starts, end) if at > contract.whole_starts)


def _pieces(contract, fee, start, end):
    """(from when on, quantity) of the fee in the period: what there is at its start, and each change."""
    if "unit_price" not in fee:
        return [(start, _times(contract, fee, start, end) * exact.SCALE)]
    now = sum([q for at, key, q in contract.quantities if key == fee["key"] and at <= start][-1:])
    pieces = [(start, now)]
    for at, key, quantity in contract.quantities:
        if key == fee["key"] and start < at < end and fee.get("proration", "none") != "none":
            pieces.append((at, quantity - now))
            now = quantity
    return pieces


def of_period(contract, fee, start, end):
    """(quantity, amount), scaled, of the fee in [start, end), a period of the contract's, in seconds."""
    proration = fee.get("proration", "none")
    begin, finish = contract.whole_period(start)

    def until(whole, at):
        if proration == "second":
            return exact.divide(whole * (at - begin), finish - begin)
        first = instants.day_number(contract.timezone, begin)
        return exact.divide(whole * (instants.day_number(contract.timezone, at) - first),
                            instants.day_number(contract.timezone, finish) - first)

    amount = 0
    pieces = _pieces(contract, fee, start, end)
    for at, quantity in pieces:
        whole = exact.multiply(exact.parse(fee.get("unit_price", fee.get("amount"))), quantity)
        amount += whole if proration == "none" else until(whole, end) - until(whole, at)
    return sum(quantity for _at, quantity in pieces), amount
