"""Builds the tables of the markets that a configuration names."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass, field
from datetime import date, timedelta, tzinfo
from hashlib import sha256
from importlib.metadata import version
from pathlib import Path
from typing import Final

from scheduler.calendars.book import Book, Market
from scheduler.calendars.checks import check, suggestion
from scheduler.calendars.days import Planner, build_planner
from scheduler.calendars.raw import RawCalendar
from scheduler.calendars.source import CalendarSource, Raw, Runner, run_child
from scheduler.calendars.table import build_table
from scheduler.core.market import MarketTable
from scheduler.core.marketspec import Interval, MarketsFile
from scheduler.errors import CalendarError, Mark, Problem

_FIRST: Final = date(1970, 1, 1)
_TRIED: Final = 15  # days; no exchange rests longer
_LAST: Final = date(2199, 12, 31)


@dataclass(frozen=True, slots=True)
class Built:
    """The tables that could be built, and everything that is to be said about the others."""

    tables: Mapping[str, MarketTable]
    problems: tuple[Problem, ...] = ()  # mistakes in the files, those found while reading them included
    warnings: tuple[str, ...] = ()  # what the tables rest on although it is not certain
    unavailable: Mapping[str, str] = field(default_factory=dict)  # why a market that was named has no table
    unread: Mapping[str, str] = field(default_factory=dict)  # why a table has no ordinary session

    def market_problem(self, name: str) -> str:
        """What is wrong with a market that has no table, or none with sessions."""
        unknown = f"there is no market {name!r}{suggestion(name, frozenset(self.tables))}"
        return self.unavailable.get(name) or self.unread.get(name, unknown)


class Calendars:
    """Builds market tables; keeps what the calendars' child process said in ``state``.

    Blocking: a child process of one to two seconds when its answer is not known, else pure Python.
    Not for use by several threads at once.
    """

    def __init__(self, state: Path, runner: Runner = run_child) -> None:
        self._source = CalendarSource(state, runner)

    def build(
        self,
        markets: MarketsFile,
        names: Iterable[str],
        window: tuple[date, date],
        zone: tzinfo,
    ) -> Built:
        """Tables of ``names`` and of the default market for the dates of ``window``, both included.

        ``zone`` has the days of ``always`` and of markets that name no other. What is wrong with the
        files or with the child is in ``Built``; CalendarError is for a window that makes no sense.
        """
        if not _FIRST <= window[0] <= window[1] <= _LAST:
            raise CalendarError(f"calendars go from {_FIRST} to {_LAST}, not from {window[0]} to {window[1]}")
        book = Book(markets)
        problems = [*markets.problems, *check(book)]
        wanted = sorted({*names, markets.default})
        defined = {name for layer in markets.layers[1:] for name in layer}
        codes = frozenset().union(*(book.calendars(name) for name in {*wanted, *defined}))
        raw = self._source.read(codes, *window)
        problems += _unknown_names(book, raw)
        maker = _Maker(book, raw, zone, problems)
        tables: dict[str, MarketTable] = {}
        unavailable: dict[str, str] = {}
        for name in wanted:
            reason = maker.why_not(name)
            if reason:
                unavailable[name] = reason
            else:
                tables[name] = build_table(maker.planner(name), *window, maker.version(name))
        for name in defined - unavailable.keys() - tables.keys():
            maker.try_out(name, window[0])
        if markets.default in unavailable and markets.default_mark:
            problems.append(Problem(markets.default_mark, unavailable[markets.default]))
        unread = {name: reason for name in tables if (reason := maker.why_no_hours(name))}
        warnings = [*raw.warnings, *unread.values(), *maker.warnings(tables.keys() - unread.keys())]
        return Built(
            tables, tuple(dict.fromkeys(problems)), tuple(dict.fromkeys(warnings)), unavailable, unread
        )


class _Maker:
    """Planners and versions of one build; markets share those of their members."""

    def __init__(self, book: Book, raw: Raw, zone: tzinfo, problems: list[Problem]) -> None:
        self._book = book
        self._raw = raw
        self._zone = zone
        self._problems = problems
        self._planners: dict[str, Planner] = {}
        self._versions: dict[str, str] = {}
        self._tzdata = version("tzdata")

    def why_not(self, name: str) -> str:
        """Why a market cannot be built, "" if it can."""
        book = self._book
        if book.fault(name):
            return book.fault(name)
        for other in sorted(book.needed(name)):
            if book.fault(other):
                return book.fault(other)
            code = self._lacking(other)
            if code and self._raw.names and code not in self._raw.names:
                return _unknown_name(code, book.file.names | self._raw.names)
        return ""

    def why_no_hours(self, name: str) -> str:
        """Why the ordinary hours of a market are not known, "" if they are."""
        members = [self.why_no_hours(member) for member in self._book.members(self._book.market(name))]
        if members:
            return members[0] if all(members) else ""
        code = self._lacking(name)
        reason = self._raw.errors.get(code or "", "nobody knows why")
        return f"{name} has no known hours: the calendar {code} cannot be read: {reason}" if code else ""

    def _lacking(self, name: str) -> str | None:
        """The calendar that a market cannot do without and that is not there."""
        market = self._book.market(name)
        code = market.calendar
        return code if code and self._calendar(market) is None and not _has_hours(market) else None

    def warnings(self, names: Iterable[str]) -> list[str]:
        """The markets that are built on Monday to Friday because their calendar is missing."""
        found = []
        for name in sorted(names):
            for other in sorted(self._book.needed(name)):
                market = self._book.market(other)
                if market.calendar is not None and self._calendar(market) is None:
                    reason = self._raw.errors.get(market.calendar, "it is not known")
                    found.append(
                        f"{name}: no calendar {market.calendar} ({reason}); "
                        "sessions are assumed on Monday to Friday, but for the changes that are known"
                    )
                    break
        return found

    def planner(self, name: str) -> Planner:
        planner = self._planners.get(name)
        if planner is None:
            market = self._book.market(name)
            planner = self._planners[name] = build_planner(
                market,
                raw=self._calendar(market),
                zone=self._zone,
                members=[self.planner(member) for member in self._book.members(market)],
                complain=self._complain,
            )
        return planner

    def try_out(self, name: str, first: date) -> None:
        """Plan some days of a market that nobody uses yet, for what may be wrong with it."""
        if not self.why_not(name):
            for number in range(_TRIED):
                self.planner(name).plan(first + timedelta(days=number))

    def version(self, name: str) -> str:
        """A short hash of everything that a market's table is made from, its window apart."""
        found = self._versions.get(name)
        if found is None:
            market = self._book.market(name)
            raw = self._calendar(market)
            members = [self.version(member) for member in self._book.members(market)]
            parts = (
                market.chain, market.levels, sorted(market.changes.items()), raw.digest if raw else None,
                str(self.planner(name).zone), members, self._tzdata,
            )  # fmt: skip
            found = self._versions[name] = sha256(repr(parts).encode()).hexdigest()[:12]
        return found

    def _calendar(self, market: Market) -> RawCalendar | None:
        return self._raw.calendars.get(market.calendar) if market.calendar else None

    def _complain(self, interval: Interval, message: str) -> None:
        self._problems.append(Problem(interval.mark, message))


def _has_hours(market: Market) -> bool:
    """Whether its definition says when it is open, so that it can do without a calendar."""
    return market.template(date.max).open is not None


def _unknown_names(book: Book, raw: Raw) -> Iterator[Problem]:
    """Names in the desk's definitions that are neither a market nor a calendar."""
    calendars = raw.names
    if not calendars:  # nobody could tell; a warning says so
        return
    markets = book.file.names | calendars
    for layer in book.file.layers[1:]:
        for name, definition in layer.items():
            used: list[tuple[str | None, Mark, frozenset[str]]] = [
                *((member, definition.marks["any_of"], markets) for member in definition.any_of),
                (definition.like, definition.marks.get("like", definition.mark), markets),
                (definition.calendar, definition.marks.get("calendar", definition.mark), calendars),
            ]
            if book.market(name).chain[-1] == name and book.market(name).base is None:
                used.append((name, definition.mark, calendars))
            for other, mark, known in used:
                if other and other not in known:
                    yield Problem(mark, _unknown_name(other, known))


def _unknown_name(name: str, known: frozenset[str]) -> str:
    return f"there is no market and no calendar {name!r}{suggestion(name, known)}"
