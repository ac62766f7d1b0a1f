"""The vocabulary of markets.yaml: what a file says about markets, before any calendar is asked.

``marketfile`` makes these, ``calendars`` compiles them into a ``MarketTable``. Marks are left out of
comparison and representation, so that moving a line changes no calendar version.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from itertools import pairwise
from typing import Final, Literal, TypeAlias

from scheduler.core.anchors import Anchor, parse_anchor
from scheduler.core.messages import HOUR, MINUTE, Duration
from scheduler.errors import Mark, Problem

EXCHANGE: Final = "exchange-calendars"
INDIA: Final = "india"
DESK: Final = "desk"
AMENDMENT: Final = "amendment"
ASSUMED: Final = "assumed"

ALWAYS: Final = "always"  # the market that never closes; its days are those of the file's zone
WEEKDAYS: Final = ("mon", "tue", "wed", "thu", "fri", "sat", "sun")
RESERVED_PHASES: Final = frozenset({"break", "close", "closed", "session"})
SETTLED: Final = ("announced", "high", "medium", "low")

BeyondHorizon: TypeAlias = Literal["assume-weekdays", "closed", "refuse"]

_INTERVAL = re.compile(r"(?P<start>.*?)\.\.(?P<end>.*)")
_WALL = re.compile(r"(\d\d):(\d\d)")


@dataclass(frozen=True, slots=True)
class Interval:
    """``A..B``: two edges of a phase, resolved anew on every day."""

    start: Anchor
    end: Anchor
    mark: Mark = field(compare=False, repr=False)

    @property
    def text(self) -> str:
        return f"{self.start.text}..{self.end.text}"

    @property
    def by_wall_clock(self) -> bool:
        """Whether an edge is a time of day, which does not move with the open of a special day."""
        return wall(self.start) is not None or wall(self.end) is not None

    @property
    def needs(self) -> frozenset[str]:
        """The phases whose edges this one hangs on."""
        return frozenset(edge.phase for edge in (self.start, self.end) if edge.phase)


Phases: TypeAlias = Mapping[str, tuple[Interval, ...]]


@dataclass(frozen=True, slots=True)
class SummerTime:
    """Phases that replace those of the hours while clocks in ``zone`` are advanced."""

    zone: str
    phases: Phases


@dataclass(frozen=True, slots=True)
class Hours:
    """The phases of an ordinary day, from a date on."""

    since: date
    phases: Phases  # `open` among them, unless it comes from the calendar or the market that this is like
    summer_time: SummerTime | None = None
    mark: Mark | None = field(default=None, compare=False, repr=False)


@dataclass(frozen=True, slots=True)
class Change:
    """What was announced for one date, or for the sessions of a range of dates (both ends included)."""

    first: date
    last: date
    layer: str
    mark: Mark = field(compare=False, repr=False)
    name: str = ""
    closed: bool = False
    open: tuple[Interval, ...] | Literal["ordinary", "unknown"] | None = None
    phases: Phases = field(default_factory=dict)
    settled: str = "announced"

    @property
    def is_range(self) -> bool:
        return self.first != self.last

    @property
    def assumed(self) -> bool:
        """Whether it is not certain: confirmed by few sources, or its hours are not known."""
        return self.settled in ("medium", "low") or self.open == "unknown"


@dataclass(frozen=True, slots=True)
class MarketDef:
    """What one layer says about one market."""

    name: str
    layer: str
    mark: Mark = field(compare=False, repr=False)
    like: str | None = None
    calendar: str | None = None
    any_of: tuple[str, ...] = ()
    weekdays: frozenset[int] | None = None  # Monday is 0
    timezone: str | None = None
    hours: tuple[Hours, ...] = ()  # by `since`
    phases: Phases = field(default_factory=dict)  # laid over the hours
    changes: tuple[Change, ...] = ()
    beyond_horizon: BeyondHorizon | None = None
    known_since: date | None = None
    known_until: date | None = None
    marks: Mapping[str, Mark] = field(default_factory=dict, compare=False, repr=False)  # of its keys

    @property
    def has_base(self) -> bool:
        """Whether it says on which days the market trades."""
        return bool(self.like or self.calendar or self.any_of or self.weekdays is not None)


@dataclass(frozen=True, slots=True)
class MarketsFile:
    """All layers of definitions, the later wins, with every mistake found while reading them."""

    layers: tuple[Mapping[str, MarketDef], ...]
    default: str = "NSE"
    default_mark: Mark | None = None
    problems: tuple[Problem, ...] = ()

    @property
    def names(self) -> frozenset[str]:
        """The markets that are defined here; calendars of exchange-calendars need no definition."""
        return frozenset({ALWAYS}.union(*self.layers))


def wall(edge: Anchor) -> Duration | None:
    """Nanoseconds since midnight of an ``HH:MM`` edge, its offset not counted; None for the others."""
    match = _WALL.fullmatch(edge.base)
    return int(match[1]) * HOUR + int(match[2]) * MINUTE if match else None


def parse_interval(text: str, mark: Mark) -> Interval:
    """``09:15..15:30``; ValueError says what would be right."""
    match = _INTERVAL.fullmatch(text)
    if match is None:
        raise ValueError(f"{text!r} is not an interval; write A..B, such as 09:15..15:30 or open-15m..open")
    return Interval(parse_anchor(match["start"].strip()), parse_anchor(match["end"].strip()), mark)


def parse_weekdays(text: str) -> frozenset[int]:
    """``mon-fri``, ``sun-thu`` or ``mon,wed,fri`` as numbers from Monday = 0; ValueError otherwise."""
    days: set[int] = set()
    for part in text.split(","):
        ends = [_weekday(word.strip()) for word in part.split("-")]
        if len(ends) > 2:
            raise ValueError(f"{part!r} is not a range of weekdays; write mon-fri")
        first, last = ends[0], ends[-1]
        days.update(day % 7 for day in range(first, last + 1 + (7 if last < first else 0)))
    return frozenset(days)


def overlapping_ranges(changes: tuple[Change, ...]) -> list[tuple[Change, Change]]:
    """Pairs of ranges of one market and layer that have a date in common."""
    ranges = sorted((change for change in changes if change.is_range), key=lambda change: change.first)
    return [(a, b) for a, b in pairwise(ranges) if b.first <= a.last]


def _weekday(word: str) -> int:
    if word not in WEEKDAYS:
        raise ValueError(f"{word!r} is not a weekday; write mon, tue, wed, thu, fri, sat or sun")
    return WEEKDAYS.index(word)
