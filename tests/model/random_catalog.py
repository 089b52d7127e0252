"""Random catalogs: every rule of docs/rating.md has a chance to bite, and none is against `weir check`."""
import dataclasses
import random

from . import instants
from .catalog import DRAWDOWN_ORDER

AGGREGATIONS = ("count", "sum", "min", "max", "latest", "avg", "unique")
WHOLE_HOUR_ZONES = ("UTC", "Europe/Berlin", "America/New_York", "America/Los_Angeles", "Asia/Tokyo", "Africa/Cairo",
                    "America/Santiago", "America/Havana", "Atlantic/Azores", "Asia/Beirut", "Australia/Sydney",
                    "Pacific/Auckland", "America/Sao_Paulo", "Africa/Casablanca", "Europe/Dublin")
QUARTER_ZONES = ("Asia/Kolkata", "Asia/Kathmandu", "Australia/Lord_Howe", "Pacific/Chatham", "America/St_Johns",
                 "Australia/Eucla")
CURRENCIES = ("USD", "EUR", "JPY", "KWD", "GBP", "KRW", "TND")
# Texts of a dimension: pairs of what a price's `when` says and the JSON texts that an event may carry for it.
DIMENSION_TEXTS = {
    "large": ['"large"', '"l\\u0061rge"'],
    "small": ['"small"'],
    "eu-west-1": ['"eu-west-1"'],
    "1.5": ["1.5", "1.50", "15e-1", '"1.5"', "0.15E+1"],
    "0": ["0", "-0", "0.000", '"0"', "0e5"],
    "-20": ["-20", "-2e1", '"-20"', "-20.0"],
    "true": ["true", '"true"'],
    "false": ["false"],
    "ünï ∑ 🚀": ['"ünï ∑ 🚀"', '"\\u00fcn\\u00ef \\u2211 \\ud83d\\ude80"'],
    'quo"te\\, back': ['"quo\\"te\\\\, back"'],
    "a/b": ['"a/b"', '"a\\/b"'],
    "": ['""', "null", None],  # None: the member is missing
}
WHERE_TEXTS = {"eu": ['"eu"'], "us": ['"us"', '"\\u0075s"'], "7": ["7", "7.0", '"7"'], "true": ["true"], "": ["null", None, '""']}
CUSTOMERS = ("acme", "globex corp", "ünïcode-é", "Ελλάδα", "🚀 launch", 'quo"ted', "com,ma", "tab\there", "back\\slash",
             "semi;colon", "a/b?c=d&e", "'single'", "{brace}", "%s%n", "ümlaut" * 30, "0", "null", "  spaces  ", "line\nbreak")


@dataclasses.dataclass
class Shape:
    """What the event generator must know of a catalog."""
    prefix: str
    start: int  # seconds; events lie in [start, end)
    end: int
    customers: list
    meters: list  # JSON objects
    edges: list  # seconds at which something changes
    document: dict


def decimal_text(scaled, places=12):
    """The JSON number text of a scaled integer, shortest form."""
    sign = "-" if scaled < 0 else ""
    digits = str(abs(scaled)).rjust(places + 1, "0")
    return sign + (digits[:-places] + "." + digits[-places:]).rstrip("0").rstrip(".")


def money(rng, largest=100):
    kind = rng.random()
    if kind < 0.08:
        return "0"
    if kind < 0.16:
        return rng.choice(("0.000000000001", "0.0000025", "0.000000000007", "0.5", "0.25"))
    if kind < 0.5:
        return f"{rng.randrange(largest)}.{rng.randrange(100):02d}"
    return decimal_text(rng.randrange(1, largest * 10 ** 12) // 10 ** rng.randrange(0, 12) or 1)


def quantity(rng, largest=1000):
    if rng.random() < 0.6:
        return str(rng.randrange(1, largest))
    return decimal_text(rng.randrange(1, largest * 10 ** 12) // 10 ** rng.randrange(0, 9) or 1)


def _scaled(text):
    whole, _, fraction = text.partition(".")
    return int(whole + fraction.ljust(12, "0"))


def _tiers(rng):
    count = rng.choice((1, 2, 2, 3, 3, 4))
    bounds = sorted({_scaled(quantity(rng, rng.choice((10, 100, 2000)))) for _ in range(count - 1)})
    tiers = []
    for bound in [decimal_text(b) for b in bounds] + [None]:
        tier = {"up_to": bound, "unit_price": money(rng)}
        if rng.random() < 0.4:
            tier["flat_fee"] = money(rng)
        tiers.append(tier)
    return tiers


def _price(rng, meter, when):
    model = rng.choice(("per_unit", "graduated", "graduated", "volume", "volume", "package", "percentage", "flat"))
    price = {"meter": meter["key"], "model": model}
    if when:
        price["when"] = when
    if model == "per_unit":
        price["unit_price"] = money(rng)
    elif model in ("graduated", "volume"):
        price["tiers"] = _tiers(rng)
        if "flat_fee" in price["tiers"][0] and rng.random() < 0.6:
            price["tiers"][0]["flat_fee_at_zero"] = True
    elif model == "package":
        price["package_price"] = money(rng)
        price["package_size"] = quantity(rng, 50)
    elif model == "percentage":
        price["rate"] = rng.choice(("0.029", "0.012", "0.000000000003", "1", decimal_text(rng.randrange(1, 10 ** 12))))
        if rng.random() < 0.6:
            price["fixed_fee"] = money(rng, 2)
    else:
        price["amount"] = money(rng)
    if rng.random() < 0.25:
        price["free_units"] = quantity(rng, 100)
    limits = sorted((_scaled(money(rng, 500)), _scaled(money(rng, 500))))
    if rng.random() < 0.15:
        price["minimum_amount"] = decimal_text(limits[0])
    if rng.random() < 0.15:
        price["maximum_amount"] = decimal_text(limits[1])
    return price


def _prices_of_meter(rng, meter):
    """Prices of which never two equally specific ones can match the same split."""
    prices = []
    names = list(meter.get("group_by", []))
    if not names or rng.random() < 0.85:
        prices.append(_price(rng, meter, {}))
    if names:
        first = rng.choice(names)
        texts = rng.sample(list(DIMENSION_TEXTS), rng.randrange(1, 4))
        prices += [_price(rng, meter, {first: text}) for text in texts]
        others = [name for name in names if name != first]
        if others and rng.random() < 0.6:
            for text in rng.sample(list(DIMENSION_TEXTS), 2):
                prices.append(_price(rng, meter, {first: texts[0], others[0]: text}))
    rng.shuffle(prices)
    return prices


def _meters(rng, prefix, windows):
    meters = []
    types = [f"{prefix}{name}" for name in ("llm.completion", "api/request", "stored")][:rng.randrange(1, 4)]
    for number in range(rng.randrange(1, 6)):
        aggregation = rng.choice(AGGREGATIONS)
        nest = rng.choice(("", "", "n."))
        meter = {"key": f"{prefix}m{number}", "event_type": rng.choice(types), "aggregation": aggregation,
                 "window": rng.choice(windows)}
        if aggregation == "unique":
            meter["value"] = rng.choice((f"data.{nest}u{rng.randrange(2)}", "data.u0", "source"))
        elif aggregation != "count":
            meter["value"] = f"data.{nest}v{rng.randrange(3)}"
        if rng.random() < 0.5:
            names = [f"{rng.choice(('', '', 'n.'))}d{index}" for index in range(rng.randrange(1, 4))]
            meter["group_by"] = names
        if rng.random() < 0.3:
            path = rng.choice(("data.w0", "data.w0", "data.n.w1", "plan"))
            meter["where"] = {path: rng.sample(list(WHERE_TEXTS), rng.randrange(1, 4))}
            if rng.random() < 0.3:
                meter["where"]["data.w2"] = rng.sample(list(WHERE_TEXTS), 4)
        if aggregation in ("min", "max", "latest", "avg") and rng.random() < 0.35:
            meter["rollup"] = "sum"
        if aggregation in ("min", "max", "latest", "unique") and rng.random() < 0.7:
            meter["retractable"] = rng.random() < 0.9
        meters.append(meter)
    return meters


def _fee_terms(rng):
    terms = {"per": rng.choice(("period", "period", "period", "year", "contract")), "charged": rng.choice(("in_advance", "in_arrears"))}
    if terms["per"] == "period" and rng.random() < 0.6:
        terms["proration"] = rng.choice(("none", "day", "second"))
    if terms["per"] == "period" and rng.random() < 0.4:
        terms["unit_price"] = None  # another one in each version
    return terms


def _quantities(rng, document, start, end):
    """How many of the fees per unit that their first price book has."""
    for contract in document["contracts"]:
        units = sorted({fee["key"] for version in document["price_books"] if version["key"] == contract["price_book"]
                        for fee in version["fees"] if "unit_price" in fee})
        if units and rng.random() < 0.9:
            times = rng.sample(range(start - 86400 * 50, end + 86400 * 5), rng.randrange(1, 6))
            contract["quantities"] = [{"fee": rng.choice(units), "effective_from": instants.format_utc(at),
                                       "quantity": rng.choice(("0", quantity(rng, 50), quantity(rng, 5)))} for at in times]


def _book(rng, key, meters, start, end, currency):
    versions = []
    rounding = rng.choice((None, None, "half_even", "half_up"))
    first = start - 86400 * 40 if rng.random() < 0.88 else rng.randrange(start, end)
    effective = sorted({first, *(rng.randrange(first, end) for _ in range(rng.choice((0, 0, 1, 2))))})
    priced = meters if rng.random() < 0.75 else rng.sample(meters, rng.randrange(1, len(meters) + 1))
    fees_of_book = [(f"{key}-fee{number}", _fee_terms(rng)) for number in range(rng.randrange(3))]
    for number, at in enumerate(effective, 1):
        book = {"key": key, "version": number, "currency": currency, "effective_from": instants.format_utc(at),
                "prices": [p for meter in priced if number == 1 or rng.random() < 0.93
                           for p in _prices_of_meter(rng, meter)],
                "fees": [{"key": fee, **({**terms, "unit_price": money(rng)} if "unit_price" in terms else {"amount": money(rng), **terms})}
                         for fee, terms in fees_of_book if rng.random() < 0.85]}
        if rounding:
            book["rounding"] = rounding
        if rng.random() < 0.3:
            book["discounts"] = _discounts(rng, f"{key}-", [meter["key"] for meter in meters], start, end)
        versions.append(book)
    return versions


def _anchor(rng, billing):
    """What of a contract says on which day its periods begin: often a day that not every month has."""
    day = rng.choice((1, 15, 28, 29, 30, 31, rng.randrange(1, 32)))
    anchor = {"day": None, "week": rng.choice(instants.WEEKDAYS), "month": day}.get(billing, f"{rng.randrange(1, 13):02}-{day:02}")
    return {"billing_anchor": anchor} if anchor and rng.random() < 0.5 else {}


def _calendars(rng, windows):
    """(billing period with its anchor and time zone, alignment in seconds or "month") that cut through none of the windows."""
    if "1mo" in windows:
        billing = rng.choice(("month", "month", "quarter", "year"))
        anchor = {"billing_anchor": f"{rng.randrange(1, 13):02}-01"} if billing != "month" and rng.random() < 0.5 else {}
        return {"billing_period": billing, **anchor, "timezone": "UTC"}, "month"
    billing = rng.choice(("day", "week", "month", "month", "month", "quarter", "year"))
    if "1d" in windows:
        zones, alignment = ("UTC", "UTC", "Africa/Abidjan"), 86400
    elif "1h" in windows:
        zones, alignment = WHOLE_HOUR_ZONES, 3600
    else:
        zones, alignment = WHOLE_HOUR_ZONES + QUARTER_ZONES, 900
    return {"billing_period": billing, **_anchor(rng, billing), "timezone": rng.choice(zones)}, alignment


def _align(seconds, alignment):
    return instants.window_start("1mo", seconds) if alignment == "month" else seconds - seconds % alignment


def _own_prices(rng, contract, meters, windows):
    """Sometimes: prices of the contract's own, also for meters that its book does not price."""
    if rng.random() < 0.35:
        possible = [meter for meter in meters if meter["window"] in windows]
        contract["prices"] = [price for meter in rng.sample(possible, min(len(possible), rng.randrange(1, 3)))
                              for price in _prices_of_meter(rng, meter)]


def _discounts(rng, prefix, meters, start, end):
    discounts = []
    for number in range(rng.choice((1, 1, 2, 3))):
        discount = {"key": f"{prefix}off{number}", "type": rng.choice(("percentage", "amount")),
                    "meters": rng.sample(meters, rng.randrange(1, len(meters) + 1))}
        if discount["type"] == "percentage":
            if rng.random() < 0.3:
                del discount["meters"]
            discount["rate"] = rng.choice(("0.1", "0.15", "1", "0.333333333333", "0.000000000001"))
        else:
            discount["amount"] = quantity(rng, rng.choice((5, 100)))
        if rng.random() < 0.35:
            discount["applies_to"] = "invoice"
            discount.pop("meters", None)
        elif rng.random() < 0.2:
            discount["applies_to"] = "prices"
        if rng.random() < 0.3:
            discount["starts_at"] = instants.format_utc(rng.randrange(start - 86400 * 30, end))
        if rng.random() < 0.3:
            begins = _parse(discount["starts_at"]) if "starts_at" in discount else start
            discount["ends_at"] = rng.choice((None, instants.format_utc(begins + rng.randrange(1, 86400 * 60))))
        discounts.append(discount)
    return discounts


def _contracts(rng, prefix, customers, books, meters, windows_of_book, meters_of_book, currency_of_book, start, end):
    contracts = []
    for index, customer in enumerate(customers):
        count = rng.choice((0, 1, 1, 1, 2))
        cuts = sorted(rng.randrange(start - 86400 * 20, end + 86400 * 10) for _ in range(2 * count))
        for number in range(count):
            book = rng.choice(books)
            periods, alignment = _calendars(rng, windows_of_book[book])
            begins, ends = _align(cuts[2 * number], alignment), _align(cuts[2 * number + 1], alignment)
            if number == 0 and rng.random() < 0.75:
                begins = _align(start - 86400 * 35, alignment)
            if number == 1 and rng.random() < 0.4:
                begins = contracts[-1]["ends_at"] and _parse(contracts[-1]["ends_at"])
                begins = _align(begins, alignment)
            previous = _parse(contracts[-1]["ends_at"]) if number else None
            if ends <= begins or (previous is not None and begins < previous):
                break
            contract = {"key": f"{prefix}c{index}-{number}", "customer": customer, "price_book": book,
                        "starts_at": instants.format_utc(begins), "ends_at": instants.format_utc(ends),
                        **periods}
            if number == count - 1 and rng.random() < 0.6:
                contract["ends_at"] = None
            _terms(rng, prefix, contract, meters, windows_of_book[book], meters_of_book[book], start, end)
            if rng.random() < 0.5:
                fitting = [other for other in books if windows_of_book[other] <= windows_of_book[book]
                           and currency_of_book[other] == currency_of_book[book]]
                phases = _phases(rng, prefix, contract, fitting, meters, windows_of_book[book], meters_of_book, start, end)
                if phases:
                    contract["phases"] = phases
            contracts.append(contract)
    return contracts


def _terms(rng, prefix, terms, meters, windows, metered, start, end):
    """What a contract or a phase has beside its price book."""
    all_meters = [meter["key"] for meter in meters]
    _own_prices(rng, terms, meters, windows)
    metered = [key for key in metered if key not in {price["meter"] for price in terms.get("prices", [])}]
    if metered and rng.random() < 0.4:
        terms["overrides"] = [
            {"meter": key, "multiplier": rng.choice(("0.85", "1.2", "0.333333333333", "0.5", "1.000000000001"))}
            for key in rng.sample(metered, rng.randrange(1, len(metered) + 1))]
    if rng.random() < 0.3:
        terms["discounts"] = _discounts(rng, prefix, all_meters, start, end) if rng.random() < 0.85 else []
    if rng.random() < 0.4:
        terms["commitments"] = [
            {"key": f"{prefix}floor", "type": "minimum_spend", "amount": quantity(rng, 2000), "per": "period"}]


def _phases(rng, prefix, contract, books, meters, windows, meters_of_book, start, end):
    """Up to three phases, each from where a period begins, mostly while there are events."""
    begins, ends = _parse(contract["starts_at"]), contract["ends_at"] and _parse(contract["ends_at"])
    starts, at = [], max(begins, start - 86400 * 10)
    while at < min(end + 86400 * 10, ends or end + 86400 * 10) and len(starts) < 60:
        first, at = instants.period(contract["billing_period"], contract["timezone"], at, contract.get("billing_anchor"))
        if first > begins:
            starts.append(first)
    phases, overridden = [], {override["meter"] for override in contract.get("overrides", [])}
    for number, at in enumerate(sorted(rng.sample(starts, min(len(starts), rng.choice((1, 1, 2, 3))))), 1):
        phase = {"key": f"phase-{number}", "starts_at": instants.format_utc(at)}
        if rng.random() < 0.6:
            phase["price_book"] = rng.choice(books)
        _terms(rng, prefix, phase, meters, windows, meters_of_book[phase.get("price_book", contract["price_book"])],
               start, end)
        owned = {price["meter"] for price in phase.get("prices", contract.get("prices", []))}
        if "overrides" in phase:  # beside prices that go on from before as well
            phase["overrides"] = [override for override in phase["overrides"] if override["meter"] not in owned]
        elif overridden & owned or len(phase) == 2:
            phase["overrides"] = []
        contract = {**contract, **phase}
        overridden = {override["meter"] for override in contract.get("overrides", [])}
        phases.append(phase)
    return phases


def _plain(prices, meter):
    return any(price["meter"] == meter and not any(price.get("when", {}).values()) for price in prices)


def minimum_quantities(rng, priced, contract, meters, versions, prefix):
    """Sometimes: minimum quantities of meters that every version of the book, or the contract, prices without dimensions."""
    possible = [meter["key"] for meter in meters
                if _plain(priced.get("prices", []), meter["key"]) or all(_plain(v["prices"], meter["key"]) for v in versions)]
    if possible and rng.random() < 0.25:
        contract.setdefault("commitments", []).extend(
            {"key": f"{prefix}least-{number}", "type": "minimum_quantity", "meter": meter, "quantity": quantity(rng, 400), "per": "period"}
            for number, meter in enumerate(rng.sample(possible, min(len(possible), rng.randrange(1, 3)))))


def renewal(rng, contract, prefix):
    """Sometimes: a contract that renews, by terms that are mostly short enough to begin while there are events."""
    if rng.random() < 0.4:
        step = {"quarter": 3, "year": 12}.get(contract["billing_period"], 1)
        contract["renews"] = {"months": step * rng.choice((1, 1, 1, 2, 3, 12) if step == 1 else (1, 1, 2))}
        begins = _parse(contract["starts_at"])
        if contract["key"].endswith("-0") and rng.random() < 0.6 and instants.format_utc(begins)[8:] != "01T00:00:00Z":
            contract["starts_at"] = instants.format_utc(max(0, begins - 86400 * rng.randrange(500)))  # many terms have gone by
        for number in range(rng.choice((0, 0, 1, 1, 2))):
            entry = {"key": f"{prefix}again-{number}", "type": "prepaid", "amount": quantity(rng, rng.choice((20, 500, 20000)))}
            _per_term(rng, entry, contract)
            contract.setdefault("commitments", []).append(entry)
        if rng.random() < 0.4 and "commitments" not in contract:
            contract["commitments"] = [{"key": f"{prefix}floor", "type": "minimum_spend", "amount": quantity(rng, 2000), "per": "term"}]
    for terms in [contract, *contract.get("phases", [])]:
        for commitment in terms.get("commitments", []):
            if commitment["type"] == "minimum_spend" and ("renews" in contract or contract.get("ends_at")) and rng.random() < 0.5:
                commitment["per"] = "term"


def quantities_of_terms(rng, contract):
    """Minimum quantities that are held against whole terms; phases with commitments of their own may list them as well."""
    listed = [entry for entry in contract.get("commitments", []) if entry["type"] == "minimum_quantity"]
    for entry in listed if "renews" in contract or contract.get("ends_at") else ():
        if rng.random() < 0.6:
            entry.update(per="term", quantity=quantity(rng, 2000))
        later = [phase for phase in contract.get("phases", []) if "commitments" in phase and rng.random() < 0.5]
        for phase in later:
            phase["commitments"].append(dict(entry, quantity=quantity(rng, 2000)))
        if later and rng.random() < 0.4:
            contract["commitments"].remove(entry)  # usage of before counts for nothing


def _per_term(rng, entry, contract):
    """An amount that is granted anew with each term."""
    step = {"quarter": 3, "year": 12}.get(contract["billing_period"], 1)
    for member in ("starts_at", "expires_at", "rollover_fraction", "rollover_expires_at"):
        entry.pop(member, None)
    entry["per"] = "term"
    if rng.random() < 0.4:
        entry["months"] = step * rng.choice((1, 2, 4))
    if rng.random() < 0.6:
        entry["rollover_fraction"] = rng.choice(("0.5", "1", "0.333333333333", "0.1"))
        if rng.random() < 0.6:
            entry["rollover_months"] = step * rng.choice((1, 2))


def prepaid_amounts(rng, contract, terms, meters, start, end, prefix):
    """Sometimes: prepaid amounts whose access windows begin and end anywhere."""
    if rng.random() >= 0.4:
        return
    term = (_parse(contract["starts_at"]), _parse(contract["ends_at"]) if contract.get("ends_at") else end + 86400 * 10) \
        if "starts_at" in contract else (0, end)
    for number in range(rng.randrange(1, 5)):
        entry = {"key": f"{prefix}credit-{number}", "type": "prepaid", "amount": quantity(rng, rng.choice((20, 500, 20000)))}
        funding = rng.choice((None, "paid", "free", "promotional")) if "starts_at" in contract else rng.choice(("free", "promotional"))
        if funding:
            entry["funding"] = funding
        if funding in (None, "paid") and rng.random() < 0.5:
            entry["price"] = money(rng, 500)
        first = max(term[0], start) if rng.random() < 0.5 else rng.randrange(term[0], term[1])
        if term[0] <= first < term[1] and rng.random() < 0.6:
            entry["starts_at"] = instants.format_utc(first).replace("Z", rng.choice(("Z", "Z", ".5Z")))
        else:
            first = term[0]
        if rng.random() < 0.6:
            expires = rng.randrange(max(first + 1, start), max(first + 2, end))
            entry["expires_at"] = instants.format_utc(expires)
            if rng.random() < 0.4:
                entry["rollover_fraction"] = rng.choice(("0.5", "1", "0.333333333333", "0.1"))
                if rng.random() < 0.7:
                    entry["rollover_expires_at"] = instants.format_utc(rng.randrange(expires + 1, max(expires + 2, end + 86400 * 20)))
        if rng.random() < 0.4:
            entry["meters"] = rng.sample([meter["key"] for meter in meters], rng.randrange(1, len(meters) + 1))
        if rng.random() < 0.4:
            entry["priority"] = rng.randrange(-2, 3)
        if rng.random() < 0.5:
            entry["overage_multiplier"] = rng.choice(("1.5", "0.9", "0", "1", "2", "1.333333333333"))
        if "renews" in contract and rng.random() < 0.6:
            _per_term(rng, entry, contract)
        terms.setdefault("commitments", []).append(entry)
        low_balances(entry, contract)


THRESHOLDS = ("0", "2.5", "10", "300", "15000.000000000001", "0%", "12.5%", "50%", "99.9999%")


def low_balances(entry, contract):
    """Thresholds of a balance. They have no part in any charge, so they take nothing from the generator of all the rest."""
    rng = random.Random(f"low balances of {entry['key']}, {entry['amount']}")
    if rng.random() < 0.6:
        entry["low_balance"] = rng.sample(THRESHOLDS, rng.randrange(1, 4))
    if rng.random() < 0.5:
        contract.setdefault("low_balance", rng.sample([at for at in THRESHOLDS if "%" not in at], rng.randrange(1, 4)))


def _drawdown_orders(rng, document):
    """Sometimes: orders of drawdown, of price books, contracts and phases."""
    contracts = document["contracts"] + [c for c in (document.get("default_contract"),) if c]
    phases = [phase for contract in contracts for phase in contract.get("phases", [])]
    for holder in document["price_books"] + contracts + phases:
        if rng.random() < 0.25:
            holder["drawdown_order"] = rng.sample(DRAWDOWN_ORDER, rng.randrange(1, len(DRAWDOWN_ORDER) + 1))


def _packages(rng, prefix):
    """The same two in every list: one that is bought whole, and one by amount."""
    return [{"key": f"{prefix}whole", "amount": quantity(rng, 300), "price": money(rng, 300)},
            {"key": f"{prefix}any", "tiers": [{"up_to": tier["up_to"], "unit_price": money(rng, 2)} for tier in _tiers(rng)]}]


def _bought_as_packages(rng, prefix, document):
    """Sometimes: packages, and prepaid amounts that are bought as such where a version is in force when they start."""
    if rng.random() < 0.4:
        return
    for version in document["price_books"]:
        version["packages"] = _packages(rng, prefix)
    first = {}
    for version in document["price_books"]:
        first[version["key"]] = min(first.get(version["key"], version["effective_from"]), version["effective_from"])
    for contract in document["contracts"]:
        seen, book = set(), contract["price_book"]
        for terms in [contract, *contract.get("phases", [])]:
            book = terms.get("price_book", book)
            if rng.random() < 0.2:
                terms["packages"] = _packages(rng, prefix)[:rng.randrange(1, 3)]
            for entry in terms.get("commitments", []):
                starts = max(_parse(terms["starts_at"]), _parse(entry["starts_at"]) if "starts_at" in entry else 0)
                if entry["type"] == "prepaid" and entry.get("per") != "term" and entry["key"] not in seen and entry.get("funding", "paid") == "paid" \
                        and starts >= _parse(first[book]) and rng.random() < 0.4:
                    _buy(rng, prefix, entry)
                seen.add(entry["key"])


def _buy(rng, prefix, entry):
    for name in ("price", "funding"):
        entry.pop(name, None)
    entry["package"] = prefix + rng.choice(("whole", "any"))
    if entry["package"].endswith("whole"):
        del entry["amount"]
        if rng.random() < 0.6:
            entry["quantity"] = str(rng.choice((1, 2, 7)))


def _parse(text):
    return instants.parse_rfc3339(text) // instants.NS


def _span(rng, pipeline, within):
    """Where in time the case plays: often around a month's end, a leap day or a change of the clock."""
    if within:
        first, last = within
        anchors = [at for at in range(first - first % 86400, last, 86400) if at >= first]
    elif pipeline:  # in the past, and all cases within the accepted lateness of each other
        first, last = _parse("2025-03-01T00:00:00Z"), _parse("2025-11-20T00:00:00Z")
        anchors = [_parse(f"2025-{month:02d}-01T00:00:00Z") for month in range(4, 12)] + [
            _parse("2025-03-30T00:00:00Z"), _parse("2025-04-25T00:00:00Z"), _parse("2025-10-26T00:00:00Z")]
    else:
        year = rng.choice((2024, 2025, 2026, 2026, 2027, 2028, 1999, 2100, 2200))
        first, last = _parse(f"{year}-01-01T00:00:00Z") - 86400 * 30, _parse(f"{year}-12-31T00:00:00Z") + 86400 * 30
        anchors = [_parse(f"{year}-{date}T00:00:00Z") for date in (
            "01-01", "02-01", "03-01", "03-10", "03-30", "04-01", "04-26", "07-01", "09-07", "10-26", "11-02")]
    anchor = rng.choice(anchors) if rng.random() < 0.7 else rng.randrange(first, last)
    length = rng.choice((7200, 86400, 86400 * 3, 86400 * 12, 86400 * 45, 86400 * 100))
    start = max(first, anchor - int(length * rng.random()))
    return start, max(start + 3600, min(last, start + length))


def random_shape(rng, prefix="", pipeline=False, within=None, credits=True):
    """A catalog and what its events are made from. With `pipeline` all lies in 2025, within 300 days; or `within` two
    instants, in seconds."""
    start, end = _span(rng, pipeline, within)
    windows = rng.choice((("1m", "5m"), ("15m", "1h"), ("1h",), ("1h", "1d"), ("1d",), ("5m", "15m", "1h", "1d", "1mo"), ("1mo", "1h")))
    if end - start > 86400 * 20:
        windows = tuple(w for w in windows if w not in ("1m", "5m")) or ("15m",)
    meters = _meters(rng, prefix, windows)
    books = []
    currency = rng.choice(CURRENCIES)
    for number in range(rng.choice((1, 2, 2))):
        other = currency if rng.random() < 0.7 else rng.choice(CURRENCIES)
        books.append(_book(rng, f"{prefix}book{number}", meters, start, end, other))
    window_of_meter = {meter["key"]: meter["window"] for meter in meters}
    meters_of_book = {book[0]["key"]: sorted({p["meter"] for v in book for p in v["prices"]}) for book in books}
    windows_of_book = {key: {window_of_meter[m] for m in keys} for key, keys in meters_of_book.items()}
    customers = [prefix + name for name in rng.sample(CUSTOMERS, rng.randrange(1, 6))]
    document = {"meters": meters, "price_books": [version for book in books for version in book],
                "contracts": _contracts(rng, prefix, customers, list(meters_of_book), meters, windows_of_book,
                                        meters_of_book, {book[0]["key"]: book[0]["currency"] for book in books}, start, end)}
    _quantities(rng, document, start, end)
    if rng.random() < 0.75:
        book = rng.choice(list(meters_of_book))
        periods, _alignment = _calendars(rng, windows_of_book[book])
        document["default_contract"] = {"price_book": book, **periods}
    if credits and not within:
        # From sequences of their own: what else a seed makes stays as it is.
        more = random.Random(f"commitments {prefix} {start} {end}")
        for contract in document["contracts"]:
            renewal(random.Random(f"renewal {contract['key']} {start} {end}"), contract, prefix)
        for contract in document["contracts"] + [c for c in (document.get("default_contract"),) if c]:
            books = {terms.get("price_book") for terms in [contract, *contract.get("phases", [])]}
            versions = [version for version in document["price_books"] if version["key"] in books]
            minimum_quantities(more, {} if contract.get("phases") else contract, contract, meters, versions, prefix)
            quantities_of_terms(random.Random(f"quantities of terms {contract.get('key')} {start} {end}"), contract)
            prepaid_amounts(more, contract, contract, meters, start, end, prefix)
            for number, phase in enumerate(contract.get("phases", [])):
                listed = [entry for entry in contract.get("commitments", []) if entry["type"] == "prepaid"]
                if more.random() < 0.4:
                    phase.setdefault("commitments", []).extend(more.sample(listed, more.randrange(len(listed) + 1)))
                if "commitments" in phase:
                    prepaid_amounts(more, contract, phase, meters, start, end, f"{prefix}{number}")
        _drawdown_orders(random.Random(f"drawdown orders {prefix} {start} {end}"), document)
        _bought_as_packages(random.Random(f"packages {prefix} {start} {end}"), prefix, document)
    else:
        _without_invoice_discounts(document)
    return Shape(prefix, start, end, customers, meters, _edges(document, start, end), document)


def _without_invoice_discounts(document):
    contracts = document["contracts"] + [c for c in (document.get("default_contract"),) if c]
    phases = [phase for contract in contracts for phase in contract.get("phases", [])]
    for terms in document["price_books"] + contracts + phases:
        if "discounts" in terms:
            terms["discounts"] = [discount for discount in terms["discounts"] if discount.get("applies_to") != "invoice"]


def _edges(document, start, end):
    """Instants at which a window, a version, a contract or a period begins."""
    edges = {start, end, *(_parse(v["effective_from"]) for v in document["price_books"])}
    for contract in document["contracts"] + [c for c in (document.get("default_contract"),) if c]:
        edges |= {_parse(phase["starts_at"]) for phase in contract.get("phases", [])}
        listed = [entry for terms in [contract, *contract.get("phases", [])] for entry in terms.get("commitments", [])]
        for entry in [contract, *listed]:
            for name in ("starts_at", "ends_at", "expires_at"):
                if entry.get(name):
                    edges.add(_parse(entry[name]))
        at = start
        for _ in range(40):
            _begin, at = instants.period(contract["billing_period"], contract["timezone"], at,
                                           contract.get("billing_anchor"))
            edges.add(at)
            if at >= end:
                break
    day = 86400
    edges |= {start - start % day + n * day for n in range(1, 4)}
    return sorted(edge for edge in edges if edge >= 0)
