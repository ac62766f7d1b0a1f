"""What markets rest on: a calendar of exchange-calendars, weekdays, or other markets."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from datetime import date
from typing import Final, NamedTuple, Protocol

from scheduler.calendars.layout import Occurrence, Span
from scheduler.calendars.raw import RawCalendar
from scheduler.core.marketspec import AMENDMENT, ASSUMED, DESK, EXCHANGE, INDIA
from scheduler.core.messages import Duration, Instant

WEEKEND: Final = "weekend"
HOLIDAY: Final = "holiday"
_MONDAY_TO_FRIDAY: Final = frozenset(range(5))
_LAYERS: Final = (EXCHANGE, INDIA, DESK, AMENDMENT, ASSUMED)


class Trading(NamedTuple):
    """The session of a date."""

    occurrences: tuple[Occurrence, ...]
    open: Instant
    close: Instant
    special: bool
    notes: tuple[str, ...] = ()  # see ``Session``

    def later(self, duration: Duration) -> Trading:
        """The same session on another day."""
        occurrences = tuple([one.later(duration) for one in self.occurrences])
        return self._replace(occurrences=occurrences, open=self.open + duration, close=self.close + duration)


class DayPlan(NamedTuple):
    """One date of a market."""

    date: date
    session: Trading | None
    reason: str  # the session's name, or why there is none
    layer: str
    assumed: bool


class Basis(NamedTuple):
    """What a market's base says of a date, before anybody changed it."""

    trades: bool
    reason: str  # why it does not trade
    layer: str
    assumed: bool = False
    segments: tuple[Span, ...] = ()  # open, where the base knows the hours
    special: bool = False


class Base(Protocol):
    """On which days a market trades."""

    @property
    def bound(self) -> date | None:
        """The last date that it knows; None: no end."""

    @property
    def beyond_horizon(self) -> str:
        """What happens beyond, unless the market's definition says it."""

    @property
    def goes_beyond(self) -> bool:
        """Whether `day` itself answers for what happens beyond."""

    def day(self, day: date) -> Basis: ...

    def usual_hours(self, day: date) -> tuple[Span, ...]:
        """The open segments of an ordinary session on that date; () when it knows none."""


@dataclass(frozen=True, slots=True)
class CalendarBase:
    """A calendar of exchange-calendars, or (``raw`` None) Monday to Friday in its place."""

    raw: RawCalendar | None
    beyond_horizon: str = "closed"
    goes_beyond: bool = False

    @property
    def bound(self) -> date | None:
        return self.raw.bound if self.raw else None

    def day(self, day: date) -> Basis:
        raw = self.raw
        if raw is None or not raw.covers(day):
            weekdays = raw.weekdays if raw else _MONDAY_TO_FRIDAY
            trades = day.weekday() in weekdays
            return Basis(trades, "" if trades else WEEKEND, ASSUMED, assumed=True)
        session = raw.sessions.get(day)
        if session is None:
            usual = HOLIDAY if day.weekday() in raw.weekdays else WEEKEND
            return Basis(False, raw.holidays.get(day, usual), EXCHANGE)
        return Basis(True, "", EXCHANGE, segments=session.segments, special=session.special)

    def usual_hours(self, day: date) -> tuple[Span, ...]:
        return self.raw.usual_hours(day) if self.raw else ()


@dataclass(frozen=True, slots=True)
class WeekdayBase:
    """The same weekdays every week."""

    weekdays: frozenset[int]
    layer: str
    bound: date | None = None
    beyond_horizon: str = "closed"
    goes_beyond: bool = False

    def day(self, day: date) -> Basis:
        trades = day.weekday() in self.weekdays
        return Basis(trades, "" if trades else WEEKEND, self.layer)

    def usual_hours(self, day: date) -> tuple[Span, ...]:  # noqa: ARG002 - they are in the hours of the market
        return ()


class Member(Protocol):
    """What a union asks of a market: see ``days.Planner``."""

    @property
    def known_until(self) -> date | None: ...

    @property
    def beyond_horizon(self) -> str: ...

    def plan(self, day: date) -> DayPlan: ...

    def ordinary(self, day: date) -> tuple[Span, ...]: ...


@dataclass(frozen=True, slots=True)
class UnionBase:
    """Open while any of its members is."""

    members: tuple[Member, ...]
    goes_beyond: bool = True

    @property
    def bound(self) -> date | None:
        return min((member.known_until for member in self.members if member.known_until), default=None)

    @property
    def beyond_horizon(self) -> str:
        policies = {member.beyond_horizon for member in self.members if member.known_until}
        return next((policy for policy in ("refuse", "closed") if policy in policies), "assume-weekdays")

    def day(self, day: date) -> Basis:
        plans = [member.plan(day) for member in self.members]
        sessions = [plan.session for plan in plans if plan.session]
        layer = max((plan.layer for plan in plans), key=_LAYERS.index)
        assumed = any(plan.assumed for plan in plans)
        if not sessions:
            return Basis(False, plans[0].reason, layer, assumed)
        trading = [one for session in sessions for one in session.occurrences if one.trading]
        spans = sorted(Span(one.start, one.end) for one in trading)
        special = any(session.special for session in sessions)
        return Basis(True, "", layer, assumed, _joined(spans), special)

    def usual_hours(self, day: date) -> tuple[Span, ...]:
        return _joined(sorted(span for member in self.members for span in member.ordinary(day)))


def _joined(spans: Iterable[Span]) -> tuple[Span, ...]:
    """The union of intervals that are in order of their starts."""
    joined: list[Span] = []
    for span in spans:
        if joined and span.start <= joined[-1].end:
            joined[-1] = Span(joined[-1].start, max(joined[-1].end, span.end))
        else:
            joined.append(span)
    return tuple(joined)
