"""An independent model of weir's metering and rating, written from docs/rating.md alone.

It shares no code and no method with the C program: it keeps totals of whole periods and prices them once,
where the program prices windows one by one as differences of running totals.
"""
