"""What a market does on each date: base calendar, horizon and changes, the later wins."""

from __future__ import annotations

from collections.abc import Collection, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import date, datetime, time, timedelta, tzinfo
from typing import Final, TypeAlias
from zoneinfo import ZoneInfo

from scheduler.calendars.bases import (
    HOLIDAY,
    WEEKEND,
    Base,
    CalendarBase,
    DayPlan,
    Trading,
    UnionBase,
    WeekdayBase,
)
from scheduler.calendars.book import Announced, Market, Template
from scheduler.calendars.layout import (
    Complain,
    Note,
    Span,
    WallClock,
    laid_over,
    lay_out,
    moving,
    open_segments,
)
from scheduler.calendars.raw import RawCalendar
from scheduler.core.marketspec import ASSUMED, Interval, Phases
from scheduler.core.messages import DAY, SECOND, Duration, Instant
from scheduler.core.walltime import to_wall, wall_instant

BEYOND: Final = "beyond the known calendar"
NO_HOURS: Final = "no hours are known"
TIMES_UNKNOWN: Final = "times not announced"
_UsualDay: TypeAlias = tuple[Template, tuple[Duration, ...]]  # the edges of its open segments since midnight
UNNAMED: Final = (WEEKEND, HOLIDAY, BEYOND, NO_HOURS)  # reasons that do not name a day


@dataclass(frozen=True, slots=True)
class _State:
    """What is known of a date while changes are laid over its basis."""

    trades: bool
    name: str
    layer: str
    assumed: bool
    segments: tuple[Span, ...] = ()
    special: bool = False  # `segments` are hours of its own
    open: tuple[Interval, ...] = ()  # its own hours as announced
    times_unknown: bool = False
    phases: Phases = field(default_factory=dict)

    @property
    def own_hours(self) -> bool:
        """Whether its hours are other than the ordinary ones of the date."""
        return self.special or bool(self.open)


class Planner:
    """Answers what a market does on any date.

    ``complain`` is told of phases that do not fit ordinary hours that only the calendar knows.
    """

    def __init__(self, market: Market, base: Base, zone: tzinfo, complain: Complain | None = None) -> None:
        self.market = market
        self.zone = zone
        self.known_until = market.known_until or base.bound
        self._base = base
        self._complain = complain
        self.beyond_horizon = market.beyond_horizon or base.beyond_horizon
        declared = market.known_until or market.beyond_horizon
        self._follows_base = base.goes_beyond and not declared
        self._known_since = market.known_since or date.min
        self._midnights: dict[date, Instant] = {}
        self._usual_days: dict[_UsualDay, tuple[Instant, Trading]] = {}  # with the midnight of that day

    def midnight(self, day: date) -> Instant:
        """When a date begins in the market's zone."""
        found = self._midnights.get(day)
        if found is None:
            found = self._midnights[day] = wall_instant(datetime.combine(day, time()), self.zone)
        return found

    def plan(self, day: date) -> DayPlan:
        state = self._start(day)
        template = self.market.template(day)
        for announced in self.market.changes.get(day, ()):
            state = self._apply(state, announced, template, day)
        session = self._session(day, state, template) if state.trades else None
        if state.trades and session is None:
            return DayPlan(day, None, NO_HOURS, ASSUMED, assumed=True)
        reason = state.name or ("" if session else HOLIDAY)
        if state.times_unknown:
            reason = f"{state.name}, {TIMES_UNKNOWN}" if state.name else TIMES_UNKNOWN
        return DayPlan(day, session, reason, ASSUMED if state.assumed else state.layer, state.assumed)

    def ordinary(self, day: date) -> tuple[Span, ...]:
        """The open segments of a session with ordinary hours on that date."""
        intervals = self.market.template(day).open
        return open_segments(intervals, self._clock(day)) if intervals else self._base.usual_hours(day)

    def _start(self, day: date) -> _State:
        """The basis of a date, as far as it is known."""
        basis = self._base.day(day)
        assumed, layer = basis.assumed, basis.layer
        end = None if self._base.goes_beyond else self._base.bound
        if self.known_until is not None and day > self.known_until:
            if self.beyond_horizon != "assume-weekdays" and not self._follows_base:
                return _State(False, BEYOND, ASSUMED, assumed=True)
            assumed = True
        elif day < self._known_since:
            assumed = True
        elif end is not None and day > end:  # a library's end: whoever knows more has stated the exceptions
            assumed, layer = False, self.market.known_by
        return _State(basis.trades, basis.reason, layer, assumed, basis.segments, basis.special)

    def _apply(self, state: _State, announced: Announced, template: Template, day: date) -> _State:
        change, depth = announced
        if change.is_range and not state.trades:
            return state  # a range speaks of the days that would be sessions
        early = day < self._known_since and depth > 0
        # A name stays when a later change gives none.
        name = change.name or ("" if state.name in UNNAMED else state.name)
        is_unknown = change.open == "unknown"
        new = replace(
            state, name=name, layer=change.layer, assumed=change.assumed or early, times_unknown=is_unknown
        )
        if change.closed or is_unknown:
            return replace(new, trades=False)
        phases = self._inherited(change.phases, depth, template)
        if change.open is None:  # a name or phases make a day that is assumed no more certain
            return replace(new, phases=laid_over(state.phases, phases), assumed=new.assumed or state.assumed)
        own = change.open if isinstance(change.open, tuple) else ()
        return replace(new, trades=True, segments=(), special=False, open=own, phases=phases)

    def _inherited(self, phases: Phases, depth: int, template: Template) -> Phases:
        """Of a change under another market, only phases that a market with hours of its own has, too."""
        if depth <= template.depth:
            return phases
        return {name: intervals for name, intervals in phases.items() if name in template.phases}

    def _session(self, day: date, state: _State, template: Template) -> Trading | None:
        segments = self._segments(day, state)
        if not segments:
            return None
        if state.own_hours or state.phases or not self._clocks_rest(day):
            return self._laid_out(day, state, template, segments)
        # All other days of the same hours are the same.
        midnight = self.midnight(day)
        hours = tuple([edge - midnight for span in segments for edge in span])
        found = self._usual_days.get((template, hours))
        if found is None:
            found = midnight, self._laid_out(day, state, template, segments)
            self._usual_days[template, hours] = found
        return found[1].later(midnight - found[0])

    def _laid_out(self, day: date, state: _State, template: Template, segments: Sequence[Span]) -> Trading:
        special = state.own_hours
        clock = self._clock(day)
        phases = template.phases
        outside: frozenset[str] = frozenset()
        notes: list[str] = []
        if special:
            # Times of day belong to the ordinary hours; what hangs on the open and close moves along.
            usual = lay_out(self.ordinary(day), phases, clock)
            outside = frozenset(one.phase for one in usual if not one.trading)
            phases = moving(phases)
            notes += _left_out(template.phases, phases.keys() | state.phases.keys())
        complain = None if special else self._complain
        phases = laid_over(phases, state.phases)
        occurrences = lay_out(
            segments, phases, clock, outside=outside, complain=complain, note=self._noting(notes)
        )
        return Trading(tuple(occurrences), segments[0].start, segments[-1].end, special, tuple(notes))

    def _noting(self, notes: list[str]) -> Note:
        def note(phase: str, interval: Interval, span: Span | None) -> None:
            what = f"{phase} ({interval.text})"
            if span is None:
                notes.append(f"{what} does not fit these hours and is left out")
            else:
                start, end = (to_wall(edge, self.zone).strftime("%H:%M") for edge in span)
                notes.append(f"{what} is clipped to {start}..{end}")

        return note

    def _segments(self, day: date, state: _State) -> tuple[Span, ...]:
        if state.open:
            return open_segments(state.open, self._clock(day), self.ordinary(day))
        if state.special:
            return state.segments
        if self.market.template(day).open:
            return self.ordinary(day)
        return state.segments or self._base.usual_hours(day)

    def _clocks_rest(self, day: date) -> bool:
        """Whether no clock is changed on a date and the next, on which phases of the first may end."""
        return self.midnight(day + timedelta(days=2)) - self.midnight(day) == 2 * DAY

    def _clock(self, day: date) -> WallClock:
        if self._clocks_rest(day):
            return self.midnight(day).__add__
        midnight = datetime.combine(day, time())

        def instant(wall: Duration) -> Instant:
            days, rest = divmod(wall, DAY)
            return wall_instant(midnight + timedelta(days=days, seconds=rest // SECOND), self.zone)

        return instant


def _left_out(phases: Phases, kept: Collection[str]) -> Iterator[str]:
    for phase, intervals in phases.items():
        if phase not in kept:
            texts = ", ".join(interval.text for interval in intervals)
            yield f"{phase} ({texts}) does not apply on a day with its own hours"


def build_planner(
    market: Market,
    *,
    raw: RawCalendar | None,
    zone: tzinfo,
    members: Sequence[Planner] = (),
    complain: Complain | None = None,
) -> Planner:
    """A planner on the base that the market's definition names.

    ``zone`` is for markets whose calendar and definition name none, ``members`` for unions.
    """
    base: Base
    if members:
        base = UnionBase(tuple(members))
        zone = members[0].zone
    elif market.base is not None and market.base.weekdays is not None:
        base = WeekdayBase(market.base.weekdays, market.base.layer)
    else:
        base = CalendarBase(raw)
        zone = raw.zone if raw else zone
    if market.timezone is not None:
        zone = ZoneInfo(market.timezone)
    return Planner(market, base, zone, complain)
