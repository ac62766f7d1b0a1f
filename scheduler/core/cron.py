"""``cron``: five fields, with the arithmetic of cronsim, which is that of Debian's cron.

A job at a fixed time (neither its minutes nor its hours begin with a star) runs right after the jump
when its time is skipped, and once, the first time, when its time comes twice. Any other job runs
whenever the clock on the wall matches, so not in a skipped hour and twice in a repeated one.

cronsim reads the fields and knows which dates match. The times of a day are laid out here, because
its iteration depends on where it starts when the clocks change by half an hour or at midnight, while
the ticks of a trigger must not depend on who asks.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import lru_cache
from typing import TYPE_CHECKING, ClassVar, NamedTuple

from cronsim import CronSim, CronSimError

from scheduler.core.during import holds, last_holding, next_holding, overlapping
from scheduler.core.messages import DAY, HOUR, MINUTE
from scheduler.core.walltime import to_instant, to_wall, wall_instant

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import tzinfo

    from scheduler.core.market import MarketTable
    from scheduler.core.messages import Duration, Instant

ALIASES = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
_FIELDS = 5
_ONE_DAY = timedelta(days=1)
_ANY_START = datetime(2000, 1, 1, tzinfo=UTC)


class _Schedule(NamedTuple):
    """A parsed expression."""

    sim: CronSim  # its fields and its arithmetic of dates; never iterated
    fixed: bool  # at a fixed time, which a change of the clocks does not repeat or skip
    times: tuple[Duration, ...]  # since midnight, on a day without a change of the clocks

    def matches(self, day: date) -> bool:
        return day.month in self.sim.months and self.sim.match_day(day)


@dataclass(frozen=True, slots=True)
class Cron:
    """Due when a cron expression says so, by the clock of ``zone``, where ``during`` holds.

    ValueError when the expression is malformed or can never come true.
    """

    expression: str
    zone: tzinfo
    during: frozenset[str] | None = None
    _schedule: _Schedule = field(init=False, repr=False, compare=False)

    clock_driven: ClassVar[bool] = True

    def __post_init__(self) -> None:
        object.__setattr__(self, "_schedule", _parse(self.expression))

    @property
    def text(self) -> str:
        return self.expression

    def text_at(self, t: Instant, table: MarketTable) -> str:  # noqa: ARG002 - one signature for all triggers
        return self.expression

    def next_after(self, t: Instant, table: MarketTable) -> Instant | None:
        t = max(t, table.first - 1)
        while (tick := self._next(t, table.last)) is not None:
            at = table.index_at(tick)
            if holds(self.during, table.pieces[at], table):
                return tick
            piece = next_holding(self.during, at, table)
            if piece is None:
                return None
            t = piece.start - 1
        return None

    def last_before(self, t: Instant, table: MarketTable) -> Instant | None:
        t = min(t, table.last)
        while (tick := self._last(t, table.first)) is not None:
            at = table.index_at(tick)
            if holds(self.during, table.pieces[at], table):
                return tick
            piece = last_holding(self.during, at, table)
            if piece is None:
                return None
            t = piece.end
        return None

    def count_between(self, a: Instant, b: Instant, table: MarketTable) -> int:
        a, b = max(a, table.first), min(b, table.last)
        if self.during is None:
            return self._count(a, b)
        return sum(
            self._count(max(a, piece.start), min(b, piece.end))
            for piece in overlapping(a, b, table)
            if holds(self.during, piece, table)
        )

    # A day's ticks may be asked for under the date before or after when the clocks change round
    # midnight, hence the one day more at either end of each search.

    def _next(self, t: Instant, before: Instant) -> Instant | None:
        day = to_wall(t, self.zone).date() - _ONE_DAY
        final = to_wall(before, self.zone).date()
        while day <= final:
            midnight, times = self._times_of(day)
            at = bisect_right(times, t - midnight)
            if at < len(times):
                tick = midnight + times[at]
                return tick if tick < before else None
            day += _ONE_DAY
        return None

    def _last(self, t: Instant, since: Instant) -> Instant | None:
        day = to_wall(t, self.zone).date() + _ONE_DAY
        final = to_wall(since, self.zone).date() - _ONE_DAY
        while day >= final:
            midnight, times = self._times_of(day)
            at = bisect_left(times, t - midnight)
            if at > 0:
                tick = midnight + times[at - 1]
                return tick if tick >= since else None
            day -= _ONE_DAY
        return None

    def _count(self, a: Instant, b: Instant) -> int:
        if a >= b:
            return 0
        total = 0
        day = to_wall(a, self.zone).date() - _ONE_DAY
        final = to_wall(b, self.zone).date() + _ONE_DAY
        while day <= final:
            midnight, times = self._times_of(day)
            total += bisect_left(times, b - midnight) - bisect_left(times, a - midnight)
            day += _ONE_DAY
        return total

    def _times_of(self, day: date) -> tuple[Instant, Sequence[Duration]]:
        """A local midnight, and how long after it the ticks until the next midnight are."""
        today = self._schedule.matches(day)
        if not today and not self._schedule.matches(day - _ONE_DAY):
            return 0, ()
        before, midnight, after = (_midnight(day + n * _ONE_DAY, self.zone) for n in (-1, 0, 1))
        if after - before != 2 * DAY:
            return midnight, _times_of_change(self.expression, self.zone, day)
        return midnight, self._schedule.times if today else ()


def can_fire(expression: str) -> bool:
    """False for a well-formed expression that never comes true (30 February).

    ValueError when it is malformed.
    """
    fields = _split(expression)
    try:
        return next(CronSim(" ".join(fields), _ANY_START), None) is not None
    except CronSimError as error:
        # cronsim itself refuses some dates that no month has; with any month they are well-formed.
        try:
            CronSim(" ".join([*fields[:3], "*", fields[4]]), _ANY_START)
            CronSim(f"* * * {fields[3]} *", _ANY_START)
        except CronSimError:
            raise ValueError(f"{expression!r} is not a cron expression: {error}") from None
        return False


def _split(expression: str) -> list[str]:
    fields = ALIASES.get(expression, expression).split()
    if len(fields) != _FIELDS:
        raise ValueError(
            f"{expression!r} is not a cron expression: write five fields (minute hour day month weekday) "
            f"or one of {', '.join(ALIASES)}"
        )
    return fields


@lru_cache(maxsize=1024)
def _parse(expression: str) -> _Schedule:
    if not can_fire(expression):
        raise ValueError(f"{expression!r} never comes true: no such date exists")
    fields = _split(expression)
    sim = CronSim(" ".join(fields), _ANY_START)
    return _Schedule(
        sim=sim,
        fixed=not fields[0].startswith("*") and not fields[1].startswith("*"),
        times=tuple(sorted(hour * HOUR + minute * MINUTE for hour in sim.hours for minute in sim.minutes)),
    )


def _midnight(day: date, zone: tzinfo) -> Instant:
    return to_instant(datetime.combine(day, time(), zone))


@lru_cache(maxsize=256)
def _times_of_change(expression: str, zone: tzinfo, day: date) -> tuple[Duration, ...]:
    """The ticks from one local midnight to the next when the clocks change that day or the day before."""
    schedule = _parse(expression)
    start, end = _midnight(day, zone), _midnight(day + _ONE_DAY, zone)
    if not schedule.fixed:
        walls = ((tick, to_wall(tick, zone)) for tick in range(start, end, MINUTE))
        return tuple(
            tick - start
            for tick, wall in walls
            if wall.minute in schedule.sim.minutes
            and wall.hour in schedule.sim.hours
            and schedule.matches(wall.date())
        )
    ticks = {
        wall_instant(datetime.combine(match, time(hour, minute)), zone)
        for match in (day - _ONE_DAY, day)  # a jump at midnight moves a tick to the next date
        if schedule.matches(match)
        for hour in schedule.sim.hours
        for minute in schedule.sim.minutes
    }
    return tuple(sorted(tick - start for tick in ticks if start <= tick < end))
