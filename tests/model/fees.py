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


def of_period(contract, fee, start, end):
    """(how often, amount) of the fee in [start, end), a period of the contract's, in seconds."""
    times = _times(contract, fee, start, end)
    amount = exact.parse(fee["amount"])
    proration = fee.get("proration", "none")
    if proration == "none":
        return times, times * amount
    begin, finish = contract.whole_period(start)

    def until(at):
        if proration == "second":
            return exact.divide(amount * (at - begin), finish - begin)
        first = instants.day_number(contract.timezone, begin)
        return exact.divide(amount * (instants.day_number(contract.timezone, at) - first),
                            instants.day_number(contract.timezone, finish) - first)
    return times, until(end) - until(start)
