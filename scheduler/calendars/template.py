"""A starter for a year whose holidays are not announced: what recurs, and when it is expected."""

from __future__ import annotations

import json
import re
from collections import defaultdict
from collections.abc import Iterator, Mapping
from datetime import date
from typing import Final, NamedTuple

from scheduler.calendars.book import Book
from scheduler.calendars.checks import suggestion
from scheduler.core.marketspec import Change, MarketsFile
from scheduler.errors import UsageError

_RECURS: Final = 3  # years that have it; polling days come back too, but not that often
_WEEKDAY = re.compile(r"(Mon|Tues|Wednes|Thurs|Fri|Satur|Sun)day ")  # Sunday Muhurat, Monday Muhurat
_HEADER: Final = """\
# Holidays and special sessions of {market} in {year}, to be filled in from the list of the exchange. None
# of them is in force: delete the # before each date that the list confirms, correct or leave the others.
markets:
  {market}:
    # Once the list is complete, so that nothing in this year is assumed:
    #known_until: {year}-12-31
    changes:
"""


class _Feast(NamedTuple):
    """Something that recurs, and what the market did the last time."""

    name: str
    last: Change
    fixed: bool  # on the same date in every year


def template(markets: MarketsFile, name: str, year: int, expected: Mapping[str, tuple[date, str]]) -> str:
    """The text of a markets.yaml for a year of a market, each date commented out.

    ``expected`` has dates that are not announced, with their source, by name of the holiday.
    UsageError for a market of which no holidays are known, or a year whose holidays are.
    """
    book = Book(markets)
    feasts = list(_feasts(book, name))
    if not feasts:
        known = frozenset(other for other in markets.names if any(_feasts(book, other)))
        raise UsageError(
            f"of {name} no holidays are known that come again{suggestion(name, known)} "
            f"(there are {', '.join(sorted(known))})"
        )
    until = book.market(name).known_until
    if until is not None and until.year >= year:
        shown = f"scheduler calendar {name} --from {year}-01-01 --until {year + 1}-01-01"
        raise UsageError(f"{name} is known until {until}: {shown}")
    lines = sorted(_line(feast, year, expected) for feast in feasts)
    return _HEADER.format(market=name, year=year) + "".join(f"      #{line}\n" for _, line in lines)


def _feasts(book: Book, name: str) -> Iterator[_Feast]:
    """What the market has had, if it comes again: by all markets, so that one year of it is enough."""
    days: defaultdict[str, set[date]] = defaultdict(set)
    for layer in book.file.layers:
        for definition in layer.values():
            for change in definition.changes:
                days[_plain(change)].add(change.first)
    own = {
        _plain(announced.change): announced.change
        for _, changes in sorted(book.market(name).changes.items())
        for announced in changes
    }
    for feast, last in own.items():
        if feast and len({day.year for day in days[feast]}) >= _RECURS:
            yield _Feast(feast, last, len({(day.month, day.day) for day in days[feast]}) == 1)


def _plain(change: Change) -> str:
    return _WEEKDAY.sub("", change.name, count=1)


def _line(feast: _Feast, year: int, expected: Mapping[str, tuple[date, str]]) -> tuple[str, str]:
    """Its place in the year, and the line; one that begins with a space is no date to be taken."""
    last = feast.last
    text = f"{{name: {json.dumps(feast.name, ensure_ascii=False)}, {_what(last)}}}"
    day, source = expected.get(feast.name, (None, ""))
    if feast.fixed:
        day, source = last.first.replace(year=year), f"{last.first:%m-%d} in every year"
    if day is None or day.year != year:
        return f"{last.first:%m-%d}", f" {year}-..-..: {text}  # no date yet; the last was {last.first}"
    if feast.fixed and (day.weekday() > 4) != (last.first.weekday() > 4):
        usual = "no session anyway" if day.weekday() > 4 else "an ordinary session anyway"
        return f"{day:%m-%d}", f" {day} {feast.name} is a {day:%A}: {usual}"
    return f"{day:%m-%d}", f"{day}: {text}  # {day:%A}; {source}"


def _what(change: Change) -> str:
    if change.closed:
        return "closed: true"
    if isinstance(change.open, tuple):
        return f"open: {json.dumps([interval.text for interval in change.open])}"
    return f"open: {change.open or 'ordinary'}"
