"""The book of markets: layers and ``like`` applied, before any date is looked at."""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import date, datetime, time, timedelta
from operator import attrgetter
from typing import Final, NamedTuple, TypeAlias
from zoneinfo import ZoneInfo

from scheduler.calendars.layout import laid_over
from scheduler.core.anchors import Anchor
from scheduler.core.market import OPEN
from scheduler.core.marketspec import (
    ALWAYS,
    DESK,
    Change,
    Hours,
    Interval,
    MarketDef,
    MarketsFile,
    Phases,
)
from scheduler.errors import Mark

_Row: TypeAlias = tuple[int, bool]  # number of a row of hours, -1 for none; whether its summer time holds
_Rows: TypeAlias = tuple[_Row, ...]  # of each level of a market

_LONGEST_CHAIN: Final = 50
_NOWHERE: Final = Mark("", 0, 0)
_ALWAYS: Final = MarketDef(
    ALWAYS,
    DESK,
    _NOWHERE,
    weekdays=frozenset(range(7)),
    hours=(Hours(date.min, {OPEN: (Interval(Anchor("00:00"), Anchor("00:00"), _NOWHERE),)}),),
)


@dataclass(frozen=True, slots=True, eq=False)
class Template:
    """The hours of an ordinary day; a market has one for all days of the same hours."""

    open: tuple[Interval, ...] | None  # None: what the calendar says
    phases: Phases  # without `open`
    depth: int  # how far up the chain of `like` they come from


class Announced(NamedTuple):
    """A change, and how far up the chain of `like` it was announced."""

    change: Change
    depth: int


@dataclass(frozen=True, slots=True)
class Market:
    """One market as all layers together have it."""

    name: str
    chain: tuple[str, ...]  # itself, what it is like, what that is like, ...
    levels: tuple[tuple[int, MarketDef], ...]  # depth in the chain; nearest market first, latest layer first
    changes: Mapping[date, tuple[Announced, ...]]  # the last one wins
    _templates: dict[_Rows, Template] = field(default_factory=dict, repr=False, compare=False)

    @property
    def base(self) -> MarketDef | None:
        """Who says on which days it trades; None: the calendar that the last name of the chain is."""
        return next((level for _, level in self.levels if level.has_base and not level.like), None)

    @property
    def calendar(self) -> str | None:
        """The name of its calendar in exchange-calendars, if it has one."""
        return self.chain[-1] if self.base is None else self.base.calendar

    @property
    def beyond_horizon(self) -> str | None:
        return next((level.beyond_horizon for _, level in self.levels if level.beyond_horizon), None)

    @property
    def known_since(self) -> date | None:
        return next((level.known_since for _, level in self.levels if level.known_since), None)

    @property
    def known_until(self) -> date | None:
        return next((level.known_until for _, level in self.levels if level.known_until), None)

    @property
    def known_by(self) -> str:
        """The layer that says until when it is known, "" when none does."""
        return next((level.layer for _, level in self.levels if level.known_until), "")

    @property
    def timezone(self) -> str | None:
        return next((level.timezone for _, level in self.levels if level.timezone), None)

    @property
    def phase_names(self) -> frozenset[str]:
        """Every phase that any of its days may have, apart from those that come by themselves."""
        names: set[str] = set()
        for _, level in self.levels:
            names.update(level.phases)
            for row in level.hours:
                names.update(row.phases, row.summer_time.phases if row.summer_time else ())
            for change in level.changes:
                names.update(change.phases)
        return frozenset(names)

    def template(self, day: date) -> Template:
        """The hours in force on a date: the nearest rows, and the phases laid over them."""
        rows = tuple([_row_at(level.hours, day) for _, level in self.levels])
        found = self._templates.get(rows)
        if found is None:
            found = self._templates[rows] = self._template(rows)
        return found

    def _template(self, rows: _Rows) -> Template:
        overlays: list[Phases] = []
        phases: Phases | None = None
        depth = len(self.chain) - 1
        for (level_depth, level), at in zip(self.levels, rows, strict=True):
            row = _phases_of(level.hours, at)
            if phases is None:
                overlays.append(level.phases)
                if row is not None:
                    phases, depth = row, level_depth
            elif OPEN not in phases and row is not None and OPEN in row:
                phases = {OPEN: row[OPEN], **phases}
        merged = phases or {}
        for overlay in reversed(overlays):
            merged = laid_over(merged, overlay)
        return Template(merged.get(OPEN), {name: merged[name] for name in merged if name != OPEN}, depth)


class Book:
    """Finds markets by name. Nothing here raises: `checks` says what is wrong with a book."""

    def __init__(self, file: MarketsFile) -> None:
        self.file = file
        self._found: dict[str, Market] = {}
        self._faults: dict[str, str] = {}

    def market(self, name: str) -> Market:
        """The market of that name; one that is not defined is a calendar of exchange-calendars."""
        found = self._found.get(name)
        if found is None:
            found = self._found[name] = self._resolve(name)
        return found

    def definitions(self, name: str) -> tuple[MarketDef, ...]:
        """What the layers say about a market, the latest first."""
        if name == ALWAYS:
            return (_ALWAYS,)
        return tuple(layer[name] for layer in reversed(self.file.layers) if name in layer)

    def fault(self, name: str) -> str:
        """Why the definition of a market leads nowhere, "" if it does not."""
        if name not in self._faults:
            self._faults[name] = self._look_for_fault(name)
        return self._faults[name]

    def _look_for_fault(self, name: str) -> str:
        nearer = {name}
        frontier = {name}
        for _ in range(_LONGEST_CHAIN):
            frontier = {other for link in frontier for other in self._successors(link)}
            if name in frontier:
                return f"{name} is defined by itself, in a circle"
            frontier -= nearer
            nearer |= frontier
            if not frontier:
                return ""
        return f"{name} is defined through more than {_LONGEST_CHAIN} other markets"

    def needed(self, name: str) -> frozenset[str]:
        """A market and all that it is defined by."""
        found = {name}
        frontier = [name]
        while frontier:
            new = set(self._successors(frontier.pop())) - found
            found |= new
            frontier += new
        return frozenset(found)

    def members(self, market: Market) -> tuple[str, ...]:
        """The markets of which it is the union; () for most."""
        return market.base.any_of if market.base else ()

    def calendars(self, name: str) -> frozenset[str]:
        """The calendars of exchange-calendars that a market needs."""
        if self.fault(name):
            return frozenset()
        found = (self.market(other).calendar for other in self.needed(name) if not self._parent(other))
        return frozenset(code for code in found if code)

    def _resolve(self, name: str) -> Market:
        chain = [name]
        while (parent := self._parent(chain[-1])) is not None and parent not in chain:
            chain.append(parent)
        levels = tuple((depth, found) for depth, link in enumerate(chain) for found in self.definitions(link))
        return Market(name, tuple(chain), levels, self._changes(chain))

    def _parent(self, name: str) -> str | None:
        base = self._base(name)
        return base.like if base else None

    def _successors(self, name: str) -> tuple[str, ...]:
        base = self._base(name)
        return () if base is None else (base.like,) if base.like else base.any_of

    def _base(self, name: str) -> MarketDef | None:
        return next((found for found in self.definitions(name) if found.has_base), None)

    def _changes(self, chain: list[str]) -> dict[date, tuple[Announced, ...]]:
        """By layer, within it from the farthest market to the nearest, ranges before single dates."""
        found: dict[date, tuple[Announced, ...]] = {}
        for layer in self.file.layers:
            for depth, name in reversed(list(enumerate(chain))):
                for change in layer[name].changes if name in layer else ():
                    for day in _days(change.first, change.last):
                        found[day] = (*found.get(day, ()), Announced(change, depth))
        return found


def _row_at(hours: Sequence[Hours], day: date) -> _Row:
    """Which row of hours is in force on a date."""
    at = bisect_right(hours, day, key=attrgetter("since")) - 1
    if at < 0:
        return -1, False
    summer_time = hours[at].summer_time
    return at, summer_time is not None and _clocks_advanced(summer_time.zone, day)


def _phases_of(hours: Sequence[Hours], at: _Row) -> Phases | None:
    number, is_summer = at
    if number < 0:
        return None
    row = hours[number]
    return {**row.phases, **row.summer_time.phases} if is_summer and row.summer_time else row.phases


def _clocks_advanced(zone: str, day: date) -> bool:
    return bool(datetime.combine(day, time(12), ZoneInfo(zone)).dst())


def _days(first: date, last: date) -> Iterator[date]:
    for number in range((last - first).days + 1):
        yield first + timedelta(days=number)


def resting_on(markets: MarketsFile, name: str) -> frozenset[str]:
    """The markets that what is said of one reaches: itself, what is like it, unions with it."""
    book = Book(markets)
    return frozenset(other for other in {*markets.names, name} if name in book.needed(other))
