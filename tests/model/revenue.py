"""Revenue by the rules of docs/revenue.md, day by day and line item by line item: no ranges, no running figures, no SQL.

Amounts are integers of 10^-12. Months are (year, month)."""
import collections
import datetime

from model import exact, invoices

DAY = datetime.timedelta(days=1)
INSTANT = datetime.timedelta(microseconds=1)


def month_of(day):
    return day.year, day.month


def after(month):
    return (month[0] + month[1] // 12, month[1] % 12 + 1)


def before(month):
    return (month[0] - (month[1] == 1), (month[1] - 2) % 12 + 1)


def first_day(month):
    return datetime.date(*month, 1)


def anniversary(start, years):
    try:
        return start.replace(year=start.year + years)
    except ValueError:  # of a February 29th: the month's last day
        return datetime.date(start.year + years, 2, 28)


def days_of(kind, per, span, window_start, zone, contract_start, is_discount=False):
    """The days over which a line item is earned. is_discount: of the whole invoice."""
    first, last = span[0].astimezone(zone).date(), (span[1] - INSTANT).astimezone(zone).date()
    if kind == "true_up":
        return [last]
    if kind != "fee" and not is_discount:
        return [window_start.astimezone(zone).date()]
    if per == "contract":
        return [window_start.astimezone(zone).date()]
    end = span[1].astimezone(zone).date()
    if per != "year":
        first = window_start.astimezone(zone).date()
    else:
        begin = contract_start.astimezone(zone).date() if contract_start else first
        years = [anniversary(begin, count) for count in range(10)]
        first = min(year for year in years if year >= first)
        end = min(year for year in years if year > first and year >= end)
    return [first + number * DAY for number in range(max(1, (end - first).days))]


class Books(invoices.Books):
    """One customer's invoices, and the revenue beside them."""

    def __init__(self, series, price_books, day_end, zones, starts, fees, grants=None, rollovers=None, ended=()):
        """grants: (contract, key) -> (how much there is to draw, for how much, when it ends or None), of what was bought;
        rollovers: (contract, key) -> (the grant that it is the rest of, when it ends, how much lapsed when that one expired);
        ended: (contract, key) of those of either that an order has ended, which lapse on the day of their end."""
        super().__init__(series, price_books, day_end)
        self.zones, self.starts, self.fees, self.grants = zones, starts, fees, grants or {}
        self.rollovers, self.ended = rollovers or {}, set(ended)
        self.windows = {}  # line item's number -> its window's start
        self.closed = collections.defaultdict(list)  # contract -> [(month, highest line item)]
        self.postings = []  # (invoice, 1 or -1, month)
        self.frozen = {}  # (contract, month) -> figures by currency
        self.reach = None  # until when everything is known: watermark, gaps, held windows

    # 1. months
    def open_month(self, contract, number=None):
        months = [month for month, newest in self.closed[contract] if number is None or newest < number]
        return after(max(months)) if months else None

    def close(self, through, is_draft):
        super().close(through, is_draft)
        if is_draft:
            return
        newest = max((item.number for item in self.items), default=0)
        closing = {}
        for contract in {item.contract for item in self.items}:
            closing[contract] = self.months_that_close(contract, through)
        figures = {contract: self.figures(contract) for contract in closing}
        for contract, months in closing.items():
            for month in months:
                self.closed[contract].append((month, newest))
                self.frozen[contract, month] = figures[contract](month)

    def months_that_close(self, contract, through):
        zone = self.zones[contract]
        month = self.open_month(contract) or month_of(min(item.start for item in self.items if item.contract == contract).astimezone(zone).date())
        months = []
        while True:
            end = datetime.datetime.combine(first_day(after(month)), datetime.time(), zone)
            unsettled = any(not period.is_settled and period.end <= end for period in self.periods[contract].values())
            if end > self.day_end(contract, through) or end > self.reach() or unsettled:
                return months
            months.append(month)
            month = after(month)

    # 2. invoices
    def month_of_invoice(self, invoice):
        last = invoice.start if invoice.kind == "advance" else invoice.end - INSTANT
        return month_of(last.astimezone(self.zones[invoice.contract]).date())

    def finalize(self, invoice):
        super().finalize(invoice)
        own = self.month_of_invoice(invoice)
        self.postings.append((invoice, 1, max(own, self.open_month(invoice.contract) or own)))

    def void(self, invoice):
        own = [month for other, _sign, month in self.postings if other is invoice]
        super().void(invoice)
        if own:
            self.postings.append((invoice, -1, max(own[0], self.open_month(invoice.contract) or own[0])))

    # 3. what is earned
    def is_purchase(self, item):
        return item.line[0] == "fee" and item.line[6] == "fee" and (item.contract, item.line[1]) in self.grants

    def per(self, item):
        return self.fees.get(item.line[1]) if item.line[0] == "fee" else None

    def accounts(self, contract):
        """(key, currency) of what was bought -> its purchases, and what was drawn from it."""
        found = collections.defaultdict(lambda: ([], []))
        for item in self.items:
            key = self.rollovers.get((contract, item.line[1]), (item.line[1],))[0]
            if item.contract == contract and (contract, key) in self.grants and (self.is_purchase(item) or item.line[0] == "drawdown"):
                found[key, item.currency][item.line[0] == "drawdown"].append(item)
        return found

    def month_earned(self, item):
        month = month_of(self.windows[item.number].astimezone(self.zones[item.contract]).date())
        return max(month, self.open_month(item.contract, item.number) or month)

    def month_of_end(self, contract, key, end):
        last = end and (end if (contract, key) in self.ended else end - INSTANT)
        return month_of(last.astimezone(self.zones[contract]).date()) if end else None

    def ends(self, contract, key):
        """The months in which a prepaid amount lapses: wholly, and (or None) only in part; and how much of it in the latter."""
        end = self.month_of_end(contract, key, self.grants[contract, key][2])
        for (under, rest), (of, until, lapsed) in self.rollovers.items():
            if (under, of) == (contract, key):
                return self.month_of_end(contract, rest, until), end, lapsed
        return end, None, 0

    def earned(self, contract, key, account, month):
        """What of a prepaid amount is earned at a month's end: by what was drawn by then, and all of it once it has ended."""
        charged = sum(item.amount for item in account[0] if self.month_earned(item) <= month)
        drawn = max(0, -sum(item.amount for item in account[1] if self.month_earned(item) <= month))
        whole, price, _end = self.grants[contract, key]
        end, rolled, lapsed = self.ends(contract, key)
        if end and month >= end:
            return charged
        if rolled and month >= rolled:
            drawn += lapsed
        return min(exact.divide(price * min(drawn, whole), whole), charged)

    def changes(self, contract):
        """(currency, month) in which something of a prepaid amount is earned."""
        for (key, currency), account in self.accounts(contract).items():
            was, ends = 0, set(self.ends(contract, key)[:2]) - {None}
            for month in sorted({self.month_earned(item) for items in account for item in items} | ends):
                now = self.earned(contract, key, account, month)
                if now != was:
                    yield currency, month
                was = now

    def schedule(self, item):
        """Month of the service, month of recognition -> amount."""
        if self.is_purchase(item):
            return {}
        days = days_of(item.line[0], self.per(item), (item.start, item.end), self.windows[item.number], self.zones[item.contract],
                       self.starts.get(item.contract), item.line[6] == "invoice_discount")
        earned, parts = 0, collections.Counter()
        late = self.open_month(item.contract, item.number)
        for count, day in enumerate(days, 1):
            so_far = exact.divide(item.amount * count, len(days))
            month = month_of(day)
            parts[month, max(month, late or month)] += so_far - earned
            earned = so_far
        return parts

    def figures(self, contract):
        """A function: month -> {currency: (invoiced, rounding, recognised, deferred, unbilled)}."""
        items = [item for item in self.items if item.contract == contract]
        schedules = {item.number: self.schedule(item) for item in items}
        postings = collections.defaultdict(list)
        for invoice, sign, month in self.postings:
            for item in invoice.items:
                postings[item.number].append((sign, month))

        accounts = self.accounts(contract)

        def figure(month):
            sums = collections.defaultdict(lambda: [0] * 5)
            for invoice, sign, when in self.postings:
                if invoice.contract == contract and when == month:
                    sums[invoice.currency][0] += sign * invoice.amount
                    sums[invoice.currency][1] += sign * (invoice.total - invoice.amount)
            for (key, currency), account in accounts.items():
                so_far = self.earned(contract, key, account, month)
                invoiced = sum(sign * item.amount for item in account[0] for sign, when in postings[item.number] if when <= month)
                sums[currency][2] += so_far - self.earned(contract, key, account, before(month))
                sums[currency][3] += max(invoiced - so_far, 0)
                sums[currency][4] += so_far - invoiced + max(invoiced - so_far, 0)
            for item in items:
                if self.is_purchase(item):
                    continue
                so_far = sum(part for (_service, when), part in schedules[item.number].items() if when <= month)
                times = sum(sign for sign, when in postings[item.number] if when <= month)
                line = sums[item.currency]
                line[2] += sum(part for (_service, when), part in schedules[item.number].items() if when == month)
                line[3] += times * (item.amount - so_far)
                line[4] += (1 - times) * so_far
            return {currency: tuple(line) for currency, line in sums.items() if any(line)}
        return figure

    def months(self):
        """(contract, currency, month) -> figures, without those that are all zeros; until the last month in which something happens,
        at least until the first that is open where a balance stands."""
        found = {}
        for contract in {item.contract for item in self.items}:
            figure = self.figures(contract)
            happens = collections.defaultdict(set)
            for item in self.items:
                if item.contract == contract:
                    happens[item.currency] |= {when for _service, when in self.schedule(item)}
            for currency, month in self.changes(contract):
                happens[currency].add(month)
            for invoice, _sign, month in self.postings:
                if invoice.contract == contract:
                    happens[invoice.currency].add(month)
            closed = {month for month, _newest in self.closed[contract]}
            for currency, line in self.frozen[contract, max(closed)].items() if closed else ():
                if line[3] or line[4]:
                    happens[currency].add(self.open_month(contract))  # where balances stand
            month, last = min(closed.union(*happens.values())), max(closed.union(*happens.values()))
            while month <= last:
                figures = figure(month)
                if month in closed:
                    assert figures == self.frozen[contract, month], f"a closed month changed: {contract} {month}"
                for currency, line in figures.items():
                    if month in closed or month <= max(happens[currency]):
                        found[contract, currency, month] = (*line, month in closed)
                month = after(month)
        return found
